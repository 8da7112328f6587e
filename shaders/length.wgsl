// The Euclidean length of a vector, in two launches: squares[g] = the sum over workgroup g's share (flag ROOT unset), then the root
// of the sum of those.
//
// Twin: compute::reference::length; launched by compute::kernels::length. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    count: u32,
    flags: u32,
}

const ROOT: u32 = 1u;

@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(2) var<uniform> parameters: Parameters;

var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let root = (parameters.flags & ROOT) != 0u;
    var sum = 0.0;
    for (var index = group.x * 256u + lane; index < parameters.count; index = index + groups.x * 256u) {
        let value = values[index];
        sum = sum + select(value * value, value, root);
    }
    sums[lane] = sum;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half = half / 2u) {
        if (lane < half) {
            sums[lane] = sums[lane] + sums[lane + half];
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        result[group.x] = select(sums[0], sqrt(sums[0]), root);
    }
}
