// Two sums over the positions of each channel, in parts: for BatchNorm's statistics (flag GRADIENT unset)
//
//     partial[half, part, c] = mean and sum of squares about that mean of source over the part
//
// and for its gradient  sum g  and  sum g*(source - mean[half, c]).
//
// Shapes: source and gradient [N, positions, C] in vec4; map [half][4][C], of which row 3 is the mean; partial [half][part][2][C].
// The images are `halves` equal shares with statistics of their own. A workgroup of 16 by 16 threads does 64 channels of one part.
// Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    // Positions of a half, and of one of its parts.
    positions: u32,
    share: u32,
    channels: u32,
    parts: u32,
    flags: u32,
}

const GRADIENT: u32 = 1u;

@group(0) @binding(0) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> map: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(4) var<uniform> parameters: Parameters;

var<workgroup> firsts: array<vec4<f32>, 256>;
var<workgroup> seconds: array<vec4<f32>, 256>;

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_id) lane: vec3<u32>,
) {
    let quads = parameters.channels / 4u;
    let quad = group.y * 16u + lane.x;
    let half = group.z;
    let begin = group.x * parameters.share;
    let end = min(begin + parameters.share, parameters.positions);
    let first_row = half * parameters.positions;
    let of_gradient = (parameters.flags & GRADIENT) != 0u;
    var centre = vec4<f32>();
    if (quad < quads) {
        // About a value of its own, so that squares do not cancel.
        if (of_gradient) {
            centre = map[(half * 4u + 3u) * quads + quad];
        } else {
            centre = source[(first_row + begin) * quads + quad];
        }
    }
    var one = vec4<f32>();
    var two = vec4<f32>();
    if (quad < quads) {
        for (var position = begin + lane.y; position < end; position = position + 16u) {
            let index = (first_row + position) * quads + quad;
            let away = source[index] - centre;
            if (of_gradient) {
                let g = gradient[index];
                one = one + g;
                two = fma(g, away, two);
            } else {
                one = one + away;
                two = fma(away, away, two);
            }
        }
    }
    let place = lane.y * 16u + lane.x;
    firsts[place] = one;
    seconds[place] = two;
    workgroupBarrier();
    for (var count = 8u; count > 0u; count = count / 2u) {
        if (lane.y < count) {
            firsts[place] = firsts[place] + firsts[place + count * 16u];
            seconds[place] = seconds[place] + seconds[place + count * 16u];
        }
        workgroupBarrier();
    }
    if (lane.y == 0u && quad < quads) {
        one = firsts[place];
        two = seconds[place];
        if (!of_gradient) {
            let mean = one / f32(max(end, begin + 1u) - begin);
            two = two - one * mean;
            one = centre + mean;
        }
        let to = ((half * parameters.parts + group.x) * 2u) * quads + quad;
        partial[to] = one;
        partial[to + quads] = two;
    }
}
