// Rows between rows of zeros: result[first + n, k] = values[n, k], and 0 elsewhere and where a row is filled up.
//
// Twin: compute::logits::pad_rows; launched by compute::logits. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    // Places of the result; from one of its rows to the next.
    count: u32,
    stride: u32,
    // The columns and rows of the values; from one of their rows to the next.
    columns: u32,
    rows: u32,
    step: u32,
    // Where they begin in the result.
    first: u32,
}

@group(0) @binding(0) var<storage, read_write> values: array<f32>;
@group(0) @binding(1) var<storage, read_write> result: array<f32>;
@group(0) @binding(2) var<uniform> parameters: Parameters;

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
    let row = index / parameters.stride;
    let column = index % parameters.stride;
    var value = 0.0;
    if (column < parameters.columns && row >= parameters.first && row < parameters.first + parameters.rows) {
        value = values[(row - parameters.first) * parameters.step + column];
    }
    result[index] = value;
}
