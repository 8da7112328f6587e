// The first convolution of a network, which reads images plane by plane, [N, C, H, W], and gives [N, H', W', O] in vec4:
//
//     result[n, y, x, o] = sum over c, taps t of  source[n, c, y*stride + ty - padding, x*stride + tx - padding] * w[o, c, t]
//
// + bias[o], max(0, .) with flag RELU. Weights come from pack_weights.wgsl, forward. A thread does one place and sixteen channels.
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
    flags: u32,
}

const RELU: u32 = 2u;

@group(0) @binding(0) var<storage, read_write> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> weights: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> parameters: Parameters;

fn put(index: u32, channel: u32, sum: vec4<f32>) {
    if (channel >= parameters.target_channels) {
        return;
    }
    var value = sum + bias[channel / 4u];
    if ((parameters.flags & RELU) != 0u) {
        value = select(value, vec4<f32>(0.0), value < vec4<f32>(0.0));
    }
    result[(index * parameters.target_channels + channel) / 4u] = value;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.z * groups.x + group.x) * 64u + lane;
    let per_image = parameters.target_height * parameters.target_width;
    if (index >= parameters.examples * per_image) {
        return;
    }
    let inside = index % per_image;
    let corner = vec2<i32>(i32(inside / parameters.target_width), i32(inside % parameters.target_width))
        * i32(parameters.stride) - vec2<i32>(i32(parameters.padding));
    let columns = (parameters.target_channels + 63u) / 64u * 16u;
    let of_tap = (parameters.source_channels + 3u) / 4u * 4u;
    let padded = (of_tap + 15u) / 16u * 16u;
    let first = group.y * 4u;
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    for (var channel = 0u; channel < parameters.source_channels; channel = channel + 1u) {
        let plane = ((index / per_image) * parameters.source_channels + channel) * parameters.source_height;
        for (var tap_y = 0u; tap_y < parameters.kernel_height; tap_y = tap_y + 1u) {
            let y = corner.x + i32(tap_y);
            if (y < 0 || y >= i32(parameters.source_height)) {
                continue;
            }
            for (var tap_x = 0u; tap_x < parameters.kernel_width; tap_x = tap_x + 1u) {
                let x = corner.y + i32(tap_x);
                if (x < 0 || x >= i32(parameters.source_width)) {
                    continue;
                }
                let value = vec4<f32>(source[(plane + u32(y)) * parameters.source_width + u32(x)]);
                let row = ((tap_y * parameters.kernel_width + tap_x) * padded + channel) * columns + first;
                s0 = fma(value, weights[row], s0);
                s1 = fma(value, weights[row + 1u], s1);
                s2 = fma(value, weights[row + 2u], s2);
                s3 = fma(value, weights[row + 3u], s3);
            }
        }
    }
    put(index, group.y * 16u, s0);
    put(index, group.y * 16u + 4u, s1);
    put(index, group.y * 16u + 8u, s2);
    put(index, group.y * 16u + 12u, s3);
}
