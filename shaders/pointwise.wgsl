// What is done value by value, in this order, by flags:
//
//     MAP      value*map[half][0][c] + map[half][1][c]
//     STRETCH  value*map[half][0][c]
//     CENTRED  + map[half][2][c] * (centred - map[half][3][c])
//     SCALE    value * centred: a dropout's factors
//     SPREAD   the value is that of the channel's only place, times `share`: the gradient of a mean
//
// and then what epilogue.wgsl does, which stands before this text.
//
// Shapes: [N, positions, C] in vec4; map [half][4][C]; the images are halves with maps of their own.
// Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    count: u32,
    channels: u32,
    // vec4 of an image and of a half.
    image: u32,
    half: u32,
    flags: u32,
    share: f32,
}

const MAP: u32 = 8u;
const CENTRED: u32 = 16u;
const SCALE: u32 = 32u;
const SPREAD: u32 = 64u;
const STRETCH: u32 = 128u;

@group(0) @binding(0) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> map: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> centred: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> other: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> kept: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> parameters: Parameters;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * 256u + lane;
    if (index >= parameters.count) {
        return;
    }
    let quads = parameters.channels / 4u;
    let quad = index % quads;
    var value: vec4<f32>;
    if ((parameters.flags & SPREAD) != 0u) {
        value = source[index / parameters.image * quads + quad] * parameters.share;
    } else {
        value = source[index];
    }
    if ((parameters.flags & MAP) != 0u) {
        let row = index / parameters.half * 4u * quads + quad;
        var rest = map[row + quads];
        if ((parameters.flags & CENTRED) != 0u) {
            rest = fma(map[row + 2u * quads], centred[index] - map[row + 3u * quads], rest);
        }
        value = fma(map[row], value, rest);
    }
    if ((parameters.flags & STRETCH) != 0u) {
        value = value * map[index / parameters.half * 4u * quads + quad];
    }
    if ((parameters.flags & SCALE) != 0u) {
        value = value * centred[index];
    }
    finish(value, index);
}
