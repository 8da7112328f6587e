// The highest of each 2x2 places, [N, H, W, C] to [N, H/2, W/2, C] in vec4; an odd last row or column is left out. With flag
// GRADIENT the way back: each result's gradient goes to the place that it was taken from, the first of equals; + other (flag ADD),
// 0 where the source is not positive (flag KEEP). With flag MEAN the mean over all places instead, [N, C].
//
// Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    examples: u32,
    height: u32,
    width: u32,
    channels: u32,
    flags: u32,
}

const ADD: u32 = 1u;
const KEEP: u32 = 4u;
const GRADIENT: u32 = 8u;
const MEAN: u32 = 16u;

@group(0) @binding(0) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> other: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> parameters: Parameters;

fn put(index: u32, input: vec4<f32>, taken: vec4<bool>, g: vec4<f32>) {
    var value = select(vec4<f32>(0.0), g, taken);
    if ((parameters.flags & ADD) != 0u) {
        value = value + other[index];
    }
    if ((parameters.flags & KEEP) != 0u) {
        value = select(vec4<f32>(0.0), value, input > vec4<f32>(0.0));
    }
    result[index] = value;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * 256u + lane;
    let quads = parameters.channels / 4u;
    if ((parameters.flags & MEAN) != 0u) {
        if (index >= parameters.examples * quads) {
            return;
        }
        let positions = parameters.height * parameters.width;
        let first = index / quads * positions * quads + index % quads;
        var total = vec4<f32>();
        for (var position = 0u; position < positions; position = position + 1u) {
            total = total + source[first + position * quads];
        }
        result[index] = total / f32(positions);
        return;
    }
    let back = (parameters.flags & GRADIENT) != 0u;
    // The way back visits the odd row and column too, whose gradient is zero.
    let extra = select(0u, 1u, back);
    let rows = (parameters.height + extra) / 2u;
    let columns = (parameters.width + extra) / 2u;
    if (index >= parameters.examples * rows * columns * quads) {
        return;
    }
    let quad = index % quads;
    let x = index / quads % columns;
    let y = index / (quads * columns) % rows;
    let image = index / (quads * columns * rows);
    let corner = ((image * parameters.height + 2u * y) * parameters.width + 2u * x) * quads + quad;
    let right = quads;
    let down = parameters.width * quads;
    let whole = 2u * y + 1u < parameters.height && 2u * x + 1u < parameters.width;
    if (!back) {
        let a = source[corner];
        let b = source[corner + right];
        let c = source[corner + down];
        let d = source[corner + down + right];
        // A NaN stays, whichever it is.
        var highest = select(a, b, !(a >= b));
        highest = select(highest, c, !(highest >= c));
        highest = select(highest, d, !(highest >= d));
        result[index] = highest;
        return;
    }
    let none = vec4<bool>(false, false, false, false);
    if (!whole) {
        put(corner, source[corner], none, vec4<f32>());
        if (2u * x + 1u < parameters.width) {
            put(corner + right, source[corner + right], none, vec4<f32>());
        }
        if (2u * y + 1u < parameters.height) {
            put(corner + down, source[corner + down], none, vec4<f32>());
        }
        return;
    }
    let from_ = ((image * (parameters.height / 2u) + y) * (parameters.width / 2u) + x) * quads + quad;
    let g = gradient[from_];
    let a = source[corner];
    let b = source[corner + right];
    let c = source[corner + down];
    let d = source[corner + down + right];
    let highest = max(max(a, b), max(c, d));
    let at_a = a == highest;
    let at_b = !at_a & (b == highest);
    let at_c = !at_a & !at_b & (c == highest);
    let at_d = !at_a & !at_b & !at_c;
    put(corner, a, at_a, g);
    put(corner + right, b, at_b, g);
    put(corner + down, c, at_c, g);
    put(corner + down + right, d, at_d, g);
}
