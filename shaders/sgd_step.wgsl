// One step of stochastic gradient descent over a flat vector, one thread a value:
//
//     d = g + decay*w for the first `decayed` values, d = g for the others;  v <- momentum*v + d (v = d with flag FIRST)
//     w <- w - rate*v, or with flag NESTEROV  w - rate*(d + momentum*v)
//
// The moved parameters take the gradient's place, the velocity its own.
// Twin: compute::reference::sgd_step; launched by compute::kernels::sgd_step. Every tensor is bound read_write: see
// linf_ascend.wgsl.

struct Parameters {
    count: u32,
    decayed: u32,
    flags: u32,
    rate: f32,
    momentum: f32,
    decay: f32,
}

const FIRST: u32 = 1u;
const NESTEROV: u32 = 2u;

@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> velocity: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(3) var<uniform> parameters: Parameters;

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
    let value = values[index];
    var direction = gradient[index];
    if (index < parameters.decayed) {
        direction = direction + parameters.decay * value;
    }
    var speed = direction;
    if ((parameters.flags & FIRST) == 0u) {
        speed = parameters.momentum * velocity[index] + direction;
    }
    var change = speed;
    if ((parameters.flags & NESTEROV) != 0u) {
        change = direction + parameters.momentum * speed;
    }
    velocity[index] = speed;
    gradient[index] = value - parameters.rate * change;
}
