// The weights of all layers as they lie for training, [O, C, taps], in the order in which convolve.wgsl reads them, zeros between:
//
//     forward   [tap][C to a multiple of 16][O to a multiple of 64]
//     backward  [tap][O to a multiple of 16][C to a multiple of 64]
//
// each output's multiplied by scale[o] = gamma/sqrt(variance + epsilon) of the BatchNorm that is folded in, and its bias,
// b*scale + beta - mean*scale. A linear layer (flag WHOLE) reads a whole image as the channels of one place: forward
// [tap*C + c][O], backward [O][tap*C + c], C being the image's channels in memory.
//
// A layer of Winograd's convolution (flag TRANSFORMED) has 16 factors in place of its nine taps g (winograd.wgsl),
//
//     G g Gt,  G = 1    0    0
//                  1/2  1/2  1/2
//                  1/2 -1/2  1/2
//                  0    0    1
//
// backward of g turned round, since the gradient is a convolution with that.
//
// One launch packs every layer: the table says of each where its numbers are, from which workgroup on it is packed, and where in `packed`
// its three parts begin.
//
// workgroup_id.z is 0 for forward and 1 for backward. Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see
// linf_ascend.wgsl.

struct Layer {
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
    first_group: u32,
    forward: u32,
    backward: u32,
    shift: u32,
}

struct Parameters {
    layers: u32,
    epsilon: f32,
}

const WHOLE: u32 = 1u;
const BIAS: u32 = 2u;
const NORM: u32 = 4u;
const TRANSFORMED: u32 = 8u;

@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> statistics: array<f32>;
@group(0) @binding(2) var<storage, read_write> table: array<Layer>;
@group(0) @binding(3) var<storage, read_write> packed: array<f32>;
@group(0) @binding(4) var<uniform> parameters: Parameters;

fn scale_of(layer: Layer, output: u32) -> f32 {
    if ((layer.flags & NORM) == 0u) {
        return 1.0;
    }
    return values[layer.gamma + output] / sqrt(statistics[layer.variance + output] + parameters.epsilon);
}

fn up_to(value: u32, multiple: u32) -> u32 {
    return (value + multiple - 1u) / multiple * multiple;
}

// A row of G.
fn spread(row: u32) -> vec3<f32> {
    if (row == 0u) {
        return vec3<f32>(1.0, 0.0, 0.0);
    }
    if (row == 3u) {
        return vec3<f32>(0.0, 0.0, 1.0);
    }
    return vec3<f32>(0.5, select(0.5, -0.5, row == 2u), 0.5);
}

// What is packed of a tap, or of a place among the 16.
fn weight_at(layer: Layer, output: u32, input: u32, tap: u32, turned: bool) -> f32 {
    if (output >= layer.outputs || input >= layer.inputs || tap >= layer.taps) {
        return 0.0;
    }
    let channel = output * layer.inputs + input;
    if ((layer.flags & TRANSFORMED) == 0u) {
        return values[layer.weight + channel * layer.taps + tap] * scale_of(layer, output);
    }
    var down = spread(tap / 4u);
    var across = spread(tap % 4u);
    if (turned) {
        down = down.zyx;
        across = across.zyx;
    }
    let first = layer.weight + channel * 9u;
    var sum = 0.0;
    for (var y = 0u; y < 3u; y = y + 1u) {
        let at = first + 3u * y;
        sum = sum + down[y] * dot(across, vec3<f32>(values[at], values[at + 1u], values[at + 2u]));
    }
    return sum * scale_of(layer, output);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = group.y * groups.x + group.x;
    var which = 0u;
    while (which + 1u < parameters.layers && table[which + 1u].first_group <= number) {
        which += 1u;
    }
    let layer = table[which];
    let index = (number - layer.first_group) * 256u + lane;
    let whole = (layer.flags & WHOLE) != 0u;
    let features = layer.taps * layer.stored_inputs;
    if (group.z == 0u) {
        let columns = up_to(layer.stored_outputs, 64u);
        let of_tap = select(up_to(layer.stored_inputs, 16u), up_to(features, 16u), whole);
        let rows = select(layer.taps * of_tap, of_tap, whole);
        if (index >= rows * columns) {
            return;
        }
        let row = index / columns;
        let output = index % columns;
        var tap = row / of_tap;
        var input = row % of_tap;
        if (whole) {
            tap = row / layer.stored_inputs;
            input = row % layer.stored_inputs;
        }
        packed[layer.forward + index] = weight_at(layer, output, input, tap, false);
        if (row == 0u) {
            var shift = 0.0;
            if (output < layer.outputs) {
                if ((layer.flags & BIAS) != 0u) {
                    shift = values[layer.bias + output];
                }
                if ((layer.flags & NORM) != 0u) {
                    shift = (shift - statistics[layer.mean + output]) * scale_of(layer, output) + values[layer.beta + output];
                }
            }
            packed[layer.shift + output] = shift;
        }
    } else {
        let columns = select(up_to(layer.stored_inputs, 64u), up_to(features, 64u), whole);
        let of_tap = up_to(layer.stored_outputs, 16u);
        let rows = select(layer.taps * of_tap, of_tap, whole);
        if (index >= rows * columns) {
            return;
        }
        let row = index / columns;
        let column = index % columns;
        var tap = row / of_tap;
        let output = row % of_tap;
        var input = column;
        if (whole) {
            tap = column / layer.stored_inputs;
            input = column % layer.stored_inputs;
        }
        packed[layer.backward + index] = weight_at(layer, output, input, tap, true);
    }
}
