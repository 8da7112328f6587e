// How convolution.wgsl and pointwise.wgsl store a value, in this order: + other (flag ADD), max(0, .) (flag RELU), 0 where kept <= 0 (flag
// KEEP). This text stands before theirs, which name the tensors and have the flags among their parameters.
// Twin: compute::reference::network.

const ADD: u32 = 1u;
const RELU: u32 = 2u;
const KEEP: u32 = 4u;

fn finish(unfinished: vec4<f32>, index: u32) {
    var value = unfinished;
    if ((parameters.flags & ADD) != 0u) {
        value = value + other[index];
    }
    if ((parameters.flags & RELU) != 0u) {
        // max() may drop a NaN; this keeps it.
        value = select(value, vec4<f32>(0.0), value < vec4<f32>(0.0));
    }
    if ((parameters.flags & KEEP) != 0u) {
        value = select(vec4<f32>(0.0), value, kept[index] > vec4<f32>(0.0));
    }
    result[index] = value;
}

