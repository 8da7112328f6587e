// The gradient of the images that stem.wgsl read, [N, C, H, W], from that of its results, [N, H', W', O] in vec4:
//
//     result[n, c, y, x] = sum over taps and o of  gradient[n, (y + padding - ty)/stride, (x + padding - tx)/stride, o] * w[o, c, t]
//
// Weights come from pack_weights.wgsl, backward: [tap][O to a multiple of 16][C to a multiple of 64]. A thread does one place.
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

@group(0) @binding(0) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> weights: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<uniform> parameters: Parameters;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Here source is the images and target the results, as the convolution has them.
    let index = (group.y * groups.x + group.x) * 64u + lane;
    let plane = parameters.source_height * parameters.source_width;
    if (index >= parameters.examples * plane) {
        return;
    }
    let image = index / plane;
    let y = index % plane / parameters.source_width;
    let x = index % parameters.source_width;
    let columns = (parameters.source_channels + 63u) / 64u * 16u;
    let rows = (parameters.target_channels + 15u) / 16u * 16u;
    for (var first = 0u; first < parameters.source_channels; first = first + 4u) {
        var total = vec4<f32>();
        for (var tap_y = 0u; tap_y < parameters.kernel_height; tap_y = tap_y + 1u) {
            let down = y + parameters.padding - tap_y;
            // Below zero it wraps round and is far too large.
            if (y + parameters.padding < tap_y || down % parameters.stride != 0u || down / parameters.stride >= parameters.target_height) {
                continue;
            }
            for (var tap_x = 0u; tap_x < parameters.kernel_width; tap_x = tap_x + 1u) {
                let right = x + parameters.padding - tap_x;
                if (x + parameters.padding < tap_x || right % parameters.stride != 0u || right / parameters.stride >= parameters.target_width) {
                    continue;
                }
                let place = (image * parameters.target_height + down / parameters.stride) * parameters.target_width + right / parameters.stride;
                let from_ = place * parameters.target_channels / 4u;
                let row = (tap_y * parameters.kernel_width + tap_x) * rows;
                // Two chains, so that none is long.
                var one = vec4<f32>();
                var two = vec4<f32>();
                for (var quad = 0u; quad < parameters.target_channels / 4u; quad = quad + 1u) {
                    let at = (row + 4u * quad) * columns + first / 4u;
                    let g = gradient[from_ + quad];
                    one = fma(vec4<f32>(g.x), weights[at], one);
                    two = fma(vec4<f32>(g.y), weights[at + columns], two);
                    one = fma(vec4<f32>(g.z), weights[at + 2u * columns], one);
                    two = fma(vec4<f32>(g.w), weights[at + 3u * columns], two);
                }
                total = total + (one + two);
            }
        }
        for (var channel = first; channel < min(first + 4u, parameters.source_channels); channel = channel + 1u) {
            result[(image * parameters.source_channels + channel) * plane + index % plane] = total[channel - first];
        }
    }
}
