// What weight_gradient.wgsl and weight_gradient_half.wgsl have in common: the same sums of other products. This text stands before theirs.
//
//     partial[z, t*C + c, o] = sum over the positions of part z of  source[position under tap t, c] * gradient[position, o]
//
// and, where the layer has a bias, in one row more the sum of the gradient itself. compute::gpu adds the parts up
// (join_gradients.wgsl).
//
// Shapes: source [N, H, W, C] and gradient [N, H', W', O] in vec4; partial [parts][rows][O to a multiple of 64], where rows is taps*C
// or, with a bias, 4 more.
// Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    examples: u32,
    source_height: u32,
    source_width: u32,
    source_channels: u32,
    target_height: u32,
    target_width: u32,
    target_channels: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride: u32,
    padding: u32,
    parts: u32,
    rows: u32,
    // Where the gradient is rounded to float16: a power of two that keeps it above the smallest, and one over it.
    scale: f32,
    unscale: f32,
}

@group(0) @binding(0) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> parameters: Parameters;

