// What convolve.wgsl and convolve_half.wgsl have in common: the same results by other products. This text stands before theirs.
//
//     result[n, y, x, o] = sum over taps t and channels c of  source[n, y*stride + ty - padding, x*stride + tx - padding, c]
//                          * weights[t, c, o]
//
// With GRADIENT the source is the results' gradient and each place of the input gathers the taps that reached it: places that
// are a whole number of strides apart meet the same taps, so each of the stride*stride classes is a product of its own
// (workgroup_id.z).
//
// Then + bias[o], and what epilogue.wgsl does.
//
// Activations lie [N, H, W, C] in vec4 (C is a multiple of 4 in memory), weights [tap][C to a multiple of 16][O to a multiple of
// 64] (compute::gpu::packed).
// Twin: compute::reference::network; launched by compute::gpu. GRADIENT and
// epilogue.wgsl stand before this text.
//
// Every tensor is bound read_write: see linf_ascend.wgsl.

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
    flags: u32,
    // Where the source is rounded to float16: a power of two that keeps it above the smallest, and one over it.
    scale: f32,
    unscale: f32,
}

@group(0) @binding(0) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> weights: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> other: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> kept: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> parameters: Parameters;

// Places of the target that meet the same taps: forward there is one class.
struct Class {
    // Of its first place.
    shift: vec2<u32>,
    // Its places in both directions.
    grid: vec2<u32>,
    // Its taps: the first, from one to the next, and how many.
    first_tap: vec2<u32>,
    tap_step: u32,
    taps: vec2<u32>,
    // Where place and tap (0, 0) read, how far the next place does, and in which direction the next tap.
    start: vec2<i32>,
    step: i32,
    direction: i32,
}

fn class_of(number: u32) -> Class {
    var found: Class;
    found.grid = vec2<u32>(parameters.target_height, parameters.target_width);
    found.tap_step = 1u;
    found.start = vec2<i32>(-i32(parameters.padding));
    found.step = i32(parameters.stride);
    found.direction = 1;
    if (GRADIENT) {
        let s = parameters.stride;
        found.shift = vec2<u32>(number / s, number % s);
        found.grid = (found.grid + vec2<u32>(s - 1u)) / s;
        found.first_tap = (found.shift + vec2<u32>(parameters.padding)) % s;
        found.tap_step = s;
        found.start = vec2<i32>((found.shift + vec2<u32>(parameters.padding)) / s);
        found.step = 1;
        found.direction = -1;
    }
    let kernel = vec2<u32>(parameters.kernel_height, parameters.kernel_width);
    if (found.first_tap.x < kernel.x) {
        found.taps.x = (kernel.x - found.first_tap.x + found.tap_step - 1u) / found.tap_step;
    }
    if (found.first_tap.y < kernel.y) {
        found.taps.y = (kernel.y - found.first_tap.y + found.tap_step - 1u) / found.tap_step;
    }
    return found;
}

// Four channels of one of the class's places, stored with what comes after the sum.
fn store(sum: vec4<f32>, row: u32, channel: u32, class_: Class) {
    let per_image = class_.grid.x * class_.grid.y;
    if (row >= parameters.examples * per_image || channel >= parameters.target_channels) {
        return;
    }
    let inside = row % per_image;
    var place = vec2<u32>(inside / class_.grid.y, inside % class_.grid.y);
    if (GRADIENT) {
        place = place * parameters.stride + class_.shift;
    }
    if (place.x >= parameters.target_height || place.y >= parameters.target_width) {
        return;
    }
    let position = ((row / per_image) * parameters.target_height + place.x) * parameters.target_width + place.y;
    let index = (position * parameters.target_channels + channel) / 4u;
    var value = sum;
    if (!GRADIENT) {
        value = value + bias[channel / 4u];
    }
    finish(value, index);
}

