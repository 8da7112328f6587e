// Weights as they lie for training, [O, C, taps], in the order in which convolve.wgsl reads them, zeros between:
//
//     forward   [tap][C to a multiple of 16][O to a multiple of 64]
//     backward  [tap][O to a multiple of 16][C to a multiple of 64]
//
// each output's multiplied by scale[o] = gamma/sqrt(variance + epsilon) of the BatchNorm that is folded in, and its bias,
// b*scale + beta - mean*scale. A linear layer (flag WHOLE) reads a whole image as the channels of one place: forward
// [tap*C + c][O], backward [O][tap*C + c], C being the image's channels in memory.
//
// workgroup_id.z is 0 for forward and 1 for backward. Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see
// linf_ascend.wgsl.

struct Parameters {
    inputs: u32,
    outputs: u32,
    taps: u32,
    // Channels in memory.
    stored_inputs: u32,
    stored_outputs: u32,
    weight: u32,
    bias: u32,
    gamma: u32,
    beta: u32,
    mean: u32,
    variance: u32,
    flags: u32,
    epsilon: f32,
}

const WHOLE: u32 = 1u;
const BIAS: u32 = 2u;
const NORM: u32 = 4u;

@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(2) var<storage, read_write> forward: array<f32>;
@group(0) @binding(3) var<storage, read_write> backward: array<f32>;
@group(0) @binding(4) var<storage, read_write> bias: array<f32>;
@group(0) @binding(5) var<uniform> parameters: Parameters;

fn scale_of(output: u32) -> f32 {
    if ((parameters.flags & NORM) == 0u) {
        return 1.0;
    }
    return values[parameters.gamma + output] / sqrt(statistics[parameters.variance + output] + parameters.epsilon);
}

fn up_to(value: u32, multiple: u32) -> u32 {
    return (value + multiple - 1u) / multiple * multiple;
}

fn weight_at(output: u32, input: u32, tap: u32) -> f32 {
    if (output >= parameters.outputs || input >= parameters.inputs || tap >= parameters.taps) {
        return 0.0;
    }
    return values[parameters.weight + (output * parameters.inputs + input) * parameters.taps + tap] * scale_of(output);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * 256u + lane;
    let whole = (parameters.flags & WHOLE) != 0u;
    let features = parameters.taps * parameters.stored_inputs;
    if (group.z == 0u) {
        let columns = up_to(parameters.stored_outputs, 64u);
        let of_tap = select(up_to(parameters.stored_inputs, 16u), up_to(features, 16u), whole);
        let rows = select(parameters.taps * of_tap, of_tap, whole);
        if (index >= rows * columns) {
            return;
        }
        let row = index / columns;
        let output = index % columns;
        var tap = row / of_tap;
        var input = row % of_tap;
        if (whole) {
            tap = row / parameters.stored_inputs;
            input = row % parameters.stored_inputs;
        }
        forward[index] = weight_at(output, input, tap);
        if (row == 0u) {
            var shift = 0.0;
            if (output < parameters.outputs) {
                if ((parameters.flags & BIAS) != 0u) {
                    shift = values[parameters.bias + output];
                }
                if ((parameters.flags & NORM) != 0u) {
                    shift = (shift - statistics[parameters.mean + output]) * scale_of(output) + values[parameters.beta + output];
                }
            }
            bias[output] = shift;
        }
    } else {
        let columns = select(up_to(parameters.stored_inputs, 64u), up_to(features, 64u), whole);
        let of_tap = up_to(parameters.stored_outputs, 16u);
        let rows = select(parameters.taps * of_tap, of_tap, whole);
        if (index >= rows * columns) {
            return;
        }
        let row = index / columns;
        let column = index % columns;
        var tap = row / of_tap;
        let output = row % of_tap;
        var input = column;
        if (whole) {
            tap = column / parameters.stored_inputs;
            input = column % parameters.stored_inputs;
        }
        backward[index] = weight_at(output, input, tap);
    }
}
