// One step of projected gradient ascent inside the L-infinity ball, for each element of a minibatch:
//
//     result = clip01(clamp(current + step_size * sign(gradient), natural - epsilon, natural + epsilon))
//
// sign(0) = sign(NaN) = 0. Shapes: four buffers of `count` = N*C*H*W values in row-major order.
// Twin: compute::reference::linf_ascend; launched by compute::kernels::linf_ascend.
//
// Tensors share pooled buffers, and a buffer may not be bound for reading and for writing in one dispatch:
// so every tensor is bound read_write, also those that are only read.

struct Parameters {
    count: u32,
    epsilon: f32,
    step_size: f32,
}

@group(0) @binding(0) var<storage, read_write> natural: array<f32>;
@group(0) @binding(1) var<storage, read_write> current: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(3) var<storage, read_write> result: array<f32>;
@group(0) @binding(4) var<uniform> parameters: Parameters;

const WORKGROUP: u32 = 256u;

// Told from the bits, because shader compilers may assume that NaN and subnormal numbers do not occur.
fn sign_of(value: f32) -> f32 {
    let bits = bitcast<u32>(value);
    let magnitude = bits & 0x7fffffffu;
    let signed_one = select(1.0, -1.0, (bits & 0x80000000u) != 0u);
    return select(0.0, signed_one, magnitude != 0u && magnitude <= 0x7f800000u);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * WORKGROUP + lane;
    if (index >= parameters.count) {
        return;
    }
    let centre = natural[index];
    let stepped = current[index] + parameters.step_size * sign_of(gradient[index]);
    let inside = min(max(stepped, centre - parameters.epsilon), centre + parameters.epsilon);
    result[index] = min(max(inside, 0.0), 1.0);
}
