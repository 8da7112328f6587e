// One step of projected gradient ascent inside the L2 ball, one workgroup for each example:
//
//     stepped = current + step_size * g / max(|g|_2, TINY)
//     result  = clip01(natural + (stepped - natural) * min(1, epsilon / |stepped - natural|_2))
//
// Elements of g that are not finite count as 0. The norm of g is taken of elements divided by the largest of them, so
// that the squares of small gradients do not vanish; below TINY (the smallest normal f32) the largest counts as 0.
// Shapes: four buffers of `examples` rows of `length` = C*H*W values.
// Twin: compute::reference::l2_ascend; launched by compute::kernels::l2_ascend.
//
// Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    examples: u32,
    length: u32,
    epsilon: f32,
    step_size: f32,
}

@group(0) @binding(0) var<storage, read_write> natural: array<f32>;
@group(0) @binding(1) var<storage, read_write> current: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;
@group(0) @binding(4) var<uniform> parameters: Parameters;

const WORKGROUP: u32 = 256u;
const TINY: f32 = 1.1754943508222875e-38;

var<workgroup> partial: array<f32, 256>;

fn finite_or_zero(value: f32) -> f32 {
    return select(0.0, value, (bitcast<u32>(value) & 0x7fffffffu) < 0x7f800000u);
}

// The sum of every lane's value, in every lane. Pairwise, so rounding grows with the logarithm of the length.
fn sum_over_lanes(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half = half / 2u) {
        if (lane < half) {
            partial[lane] = partial[lane] + partial[lane + half];
        }
        workgroupBarrier();
    }
    let total = partial[0];
    workgroupBarrier();
    return total;
}

// The largest of every lane's value, in every lane.
fn largest_over_lanes(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    workgroupBarrier();
    for (var half = WORKGROUP / 2u; half > 0u; half = half / 2u) {
        if (lane < half) {
            partial[lane] = max(partial[lane], partial[lane + half]);
        }
        workgroupBarrier();
    }
    let largest = partial[0];
    workgroupBarrier();
    return largest;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let example = group.y * groups.x + group.x;
    if (example >= parameters.examples) {
        return;
    }
    let start = example * parameters.length;
    let end = start + parameters.length;

    var largest = 0.0;
    for (var index = start + lane; index < end; index = index + WORKGROUP) {
        largest = max(largest, abs(finite_or_zero(gradient[index])));
    }
    largest = largest_over_lanes(lane, largest);
    let moves = largest >= TINY;
    let divisor = select(1.0, largest, moves);

    var squares = 0.0;
    for (var index = start + lane; index < end; index = index + WORKGROUP) {
        let scaled = finite_or_zero(gradient[index]) / divisor;
        squares = squares + scaled * scaled;
    }
    let norm = sqrt(sum_over_lanes(lane, squares));
    let step = select(0.0, parameters.step_size / max(norm, TINY), moves);

    squares = 0.0;
    for (var index = start + lane; index < end; index = index + WORKGROUP) {
        let offset = current[index] + step * (finite_or_zero(gradient[index]) / divisor) - natural[index];
        squares = squares + offset * offset;
    }
    let distance = sqrt(sum_over_lanes(lane, squares));
    let scale = select(1.0, parameters.epsilon / max(distance, TINY), distance > parameters.epsilon);

    for (var index = start + lane; index < end; index = index + WORKGROUP) {
        let offset = current[index] + step * (finite_or_zero(gradient[index]) / divisor) - natural[index];
        result[index] = min(max(natural[index] + offset * scale, 0.0), 1.0);
    }
}
