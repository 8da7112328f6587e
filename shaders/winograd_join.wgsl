// Adds up the parts of the gradient p of Winograd's 16 factors, in the order of the parts, and makes of it that of the nine weights,
//
//     Gt p G   (G stands in pack_weights.wgsl)
//
// and of the product that sums its tiles' gradients, 4*1 + 1, that of the bias (flag BIAS). Written as parameters lie: weights
// [O, C, 9] from `weight` on, the bias from `bias` on.
//
// Shapes: partial [turns][16][parts][rows][O to a multiple of 64], of rows one for each input in memory and, with a bias, that of its sums
// behind them. Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    inputs: u32,
    outputs: u32,
    stored_inputs: u32,
    turns: u32,
    parts: u32,
    rows: u32,
    weight: u32,
    bias: u32,
    flags: u32,
}

const BIAS: u32 = 2u;

@group(0) @binding(0) var<storage, read_write> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(2) var<uniform> parameters: Parameters;

fn sum_of(product: u32, row: u32, output: u32) -> f32 {
    let columns = (parameters.outputs + 63u) / 64u * 64u;
    var total = 0.0;
    for (var turn = 0u; turn < parameters.turns; turn = turn + 1u) {
        let first = (turn * 16u + product) * parameters.parts;
        for (var part = first; part < first + parameters.parts; part = part + 1u) {
            total = total + partial[(part * parameters.rows + row) * columns + output];
        }
    }
    return total;
}

// Gt of a column of p.
fn gathered(p: vec4<f32>) -> vec3<f32> {
    let half = 0.5 * (p.y + p.z);
    return vec3<f32>(p.x + half, 0.5 * (p.y - p.z), half + p.w);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * 64u + lane;
    let row = index / parameters.outputs;
    let output = index % parameters.outputs;
    if (row == parameters.stored_inputs && (parameters.flags & BIAS) != 0u) {
        gradient[parameters.bias + output] = sum_of(5u, row, output);
    }
    if (row >= parameters.inputs) {
        return;
    }
    var down: array<vec3<f32>, 4>;
    for (var x = 0u; x < 4u; x = x + 1u) {
        down[x] = gathered(vec4<f32>(
            sum_of(x, row, output),
            sum_of(4u + x, row, output),
            sum_of(8u + x, row, output),
            sum_of(12u + x, row, output),
        ));
    }
    let first = parameters.weight + (output * parameters.inputs + row) * 9u;
    for (var y = 0u; y < 3u; y = y + 1u) {
        let across = gathered(vec4<f32>(down[0][y], down[1][y], down[2][y], down[3][y]));
        gradient[first + 3u * y] = across.x;
        gradient[first + 3u * y + 1u] = across.y;
        gradient[first + 3u * y + 2u] = across.z;
    }
}
