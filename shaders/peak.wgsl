// Multiply-adds without memory: what a device can do at most. Each of 8*4 chains of a thread goes x = x*factor + term.
//
//     result[i] = the sum over chains k of x_k after `turns` turns, x_k starting at k / 32
//
// Twin: compute::reference::peak; launched by compute::profile. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    turns: u32,
    factor: f32,
    term: f32,
}

@group(0) @binding(0) var<storage, read_write> result: array<f32>;
@group(0) @binding(1) var<uniform> parameters: Parameters;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let f = vec4<f32>(parameters.factor);
    let t = vec4<f32>(parameters.term);
    let start = vec4<f32>(0.0, 1.0, 2.0, 3.0) / 32.0;
    var a = start;                  var b = start + 0.125;
    var c = start + 0.25;           var d = start + 0.375;
    var e = start + 0.5;            var g = start + 0.625;
    var h = start + 0.75;           var i = start + 0.875;
    for (var turn = 0u; turn < parameters.turns; turn = turn + 1u) {
        a = fma(a, f, t); b = fma(b, f, t); c = fma(c, f, t); d = fma(d, f, t);
        e = fma(e, f, t); g = fma(g, f, t); h = fma(h, f, t); i = fma(i, f, t);
    }
    let sum = ((a + b) + (c + d)) + ((e + g) + (h + i));
    result[id.x] = (sum.x + sum.y) + (sum.z + sum.w);
}
