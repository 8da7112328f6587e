// The gradient of the weights of stem.wgsl, in parts over positions, and in one row more that of its bias:
//
//     partial[z, t*C + c, o] = sum over the positions of part z of  source[n, c, position under tap t] * gradient[position, o]
//
// C here is the images' channels to a multiple of 4, as weight_gradient.wgsl would have it. A thread does one row and four channels.
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
}

@group(0) @binding(0) var<storage, read_write> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> parameters: Parameters;

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let stored = (parameters.source_channels + 3u) / 4u * 4u;
    let taps = parameters.kernel_height * parameters.kernel_width;
    let terms = taps * stored;
    let rows = (terms + 1u + 3u) / 4u * 4u;
    let columns = (parameters.target_channels + 63u) / 64u * 16u;
    let row = group.x * 8u + lane / 16u;
    let column = group.y * 16u + lane % 16u;
    if (row >= rows) {
        return;
    }
    let tap = min(row / stored, taps - 1u);
    let channel = row - tap * stored;
    let offset = vec2<i32>(i32(tap / parameters.kernel_width), i32(tap % parameters.kernel_width))
        - vec2<i32>(i32(parameters.padding));
    let per_image = parameters.target_height * parameters.target_width;
    let positions = parameters.examples * per_image;
    let share = (positions + parameters.parts - 1u) / parameters.parts;
    let end = min((group.z + 1u) * share, positions);
    let real = column < parameters.target_channels / 4u;
    var total = vec4<f32>();
    var sum = vec4<f32>();
    for (var position = group.z * share; position < end; position = position + 1u) {
        var value = 0.0;
        if (row < terms) {
            if (channel < parameters.source_channels) {
                let inside = position % per_image;
                let place = vec2<i32>(i32(inside / parameters.target_width), i32(inside % parameters.target_width))
                    * i32(parameters.stride) + offset;
                if (place.x >= 0 && place.x < i32(parameters.source_height)
                    && place.y >= 0 && place.y < i32(parameters.source_width)) {
                    let plane = (position / per_image * parameters.source_channels + channel) * parameters.source_height;
                    value = source[(plane + u32(place.x)) * parameters.source_width + u32(place.y)];
                }
            }
        } else if (row == terms) {
            value = 1.0;
        }
        if (real) {
            sum = fma(vec4<f32>(value), gradient[position * parameters.target_channels / 4u + column], sum);
        }
        if (position % 32u == 31u) {
            total = total + sum;
            sum = vec4<f32>();
        }
    }
    partial[(group.z * rows + row) * columns + column] = total + sum;
}
