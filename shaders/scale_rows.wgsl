// Each row times its factor: result[n, k] = factors[n] * values[n, k], rows `stride` apart in both.
//
// Twin: compute::logits::scale_rows; launched by compute::logits. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    count: u32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> factors: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<uniform> parameters: Parameters;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * 256u + lane;
    if (index < parameters.count) {
        result[index] = values[index] * factors[index / parameters.stride];
    }
}
