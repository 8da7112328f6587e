// Adds up what weight_gradient.wgsl and stem_weight_gradient.wgsl left in parts, in the order of the parts, and writes it as
// parameters lie: weights [O, C, taps] from `weight` on, the bias from `bias` on (flag BIAS).
//
// Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    inputs: u32,
    outputs: u32,
    taps: u32,
    stored_inputs: u32,
    parts: u32,
    // Rows of a part.
    rows: u32,
    weight: u32,
    bias: u32,
    flags: u32,
}

const BIAS: u32 = 2u;

@group(0) @binding(0) var<storage, read_write> partial: array<f32>;
@group(0) @binding(1) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(2) var<uniform> parameters: Parameters;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * 256u + lane;
    let terms = parameters.taps * parameters.stored_inputs;
    let columns = (parameters.outputs + 63u) / 64u * 64u;
    let row = index / parameters.outputs;
    let output = index % parameters.outputs;
    if (row > terms) {
        return;
    }
    let tap = row / parameters.stored_inputs;
    let input = row % parameters.stored_inputs;
    let is_bias = row == terms;
    if ((is_bias && (parameters.flags & BIAS) == 0u) || (!is_bias && input >= parameters.inputs)) {
        return;
    }
    var total = 0.0;
    for (var part = 0u; part < parameters.parts; part = part + 1u) {
        total = total + partial[(part * parameters.rows + row) * columns + output];
    }
    if (is_bias) {
        gradient[parameters.bias + output] = total;
    } else {
        gradient[parameters.weight + (output * parameters.inputs + input) * parameters.taps + tap] = total;
    }
}
