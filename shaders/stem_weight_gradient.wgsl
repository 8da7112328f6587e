// The gradient of the weights of stem.wgsl, in parts over positions, and in one row more that of its bias:
//
//     partial[z, t*C + c, o] = sum over the positions of part z of  source[n, c, position under tap t] * gradient[position, o]
//
// C here is the images' channels to a multiple of 4, as weight_gradient.wgsl would have it. A workgroup does 40 rows
// and 64 channels, a thread five rows and four channels.
// Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    examples: u32,
    source_height: u32,
    source_width: u32,
    source_channels: u32,
    target_height: u32,
    target_width: u32,
    target_channels: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride: u32,
    padding: u32,
    parts: u32,
}

@group(0) @binding(0) var<storage, read_write> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> partial: array<vec4<f32>>;
@group(0) @binding(3) var<uniform> parameters: Parameters;

// Rows of a workgroup, those of a thread, and the positions whose source is read together.
const ROWS: u32 = 40u;
const EACH: u32 = 5u;
const DEPTH: u32 = 32u;

// [position][row].
var<workgroup> values: array<f32, DEPTH * ROWS>;

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let stored = (parameters.source_channels + 3u) / 4u * 4u;
    let taps = parameters.kernel_height * parameters.kernel_width;
    let terms = taps * stored;
    let rows = (terms + 1u + 3u) / 4u * 4u;
    let columns = (parameters.target_channels + 63u) / 64u * 16u;
    let column = group.y * 16u + lane % 16u;
    let real = column < parameters.target_channels / 4u;
    let per_image = parameters.target_height * parameters.target_width;
    let positions = parameters.examples * per_image;
    let share = (positions + parameters.parts - 1u) / parameters.parts;
    let begin = group.z * share;
    let end = min(begin + share, positions);

    // The row that this thread reads for every third position; the last eight threads read none.
    let row = group.x * ROWS + lane % ROWS;
    let tap = min(row / stored, taps - 1u);
    let channel = row - tap * stored;
    let offset = vec2<i32>(i32(tap / parameters.kernel_width), i32(tap % parameters.kernel_width))
        - vec2<i32>(i32(parameters.padding));
    let reads = row < terms && channel < parameters.source_channels;
    let own = lane / 16u * EACH;

    var t0 = vec4<f32>(); var t1 = vec4<f32>(); var t2 = vec4<f32>(); var t3 = vec4<f32>(); var t4 = vec4<f32>();
    for (var first = begin; first < end; first = first + DEPTH) {
        workgroupBarrier();
        for (var number = lane / ROWS; number < DEPTH && lane < 3u * ROWS; number = number + 3u) {
            let position = first + number;
            var value = 0.0;
            if (position < end) {
                let inside = position % per_image;
                let place = vec2<i32>(i32(inside / parameters.target_width), i32(inside % parameters.target_width))
                    * i32(parameters.stride) + offset;
                if (reads && u32(place.x) < parameters.source_height && u32(place.y) < parameters.source_width) {
                    let plane = (position / per_image * parameters.source_channels + channel) * parameters.source_height;
                    value = source[(plane + u32(place.x)) * parameters.source_width + u32(place.y)];
                }
                if (row == terms) {
                    value = 1.0;
                }
            }
            values[number * ROWS + lane % ROWS] = value;
        }
        workgroupBarrier();
        if (real) {
            // The sums of a turn by themselves, so that no chain is long.
            var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>(); var s4 = vec4<f32>();
            for (var number = 0u; number < min(DEPTH, end - first); number = number + 1u) {
                let g = gradient[(first + number) * parameters.target_channels / 4u + column];
                let at = number * ROWS + own;
                s0 = fma(vec4<f32>(values[at]), g, s0);
                s1 = fma(vec4<f32>(values[at + 1u]), g, s1);
                s2 = fma(vec4<f32>(values[at + 2u]), g, s2);
                s3 = fma(vec4<f32>(values[at + 3u]), g, s3);
                s4 = fma(vec4<f32>(values[at + 4u]), g, s4);
            }
            t0 = t0 + s0; t1 = t1 + s1; t2 = t2 + s2; t3 = t3 + s3; t4 = t4 + s4;
        }
    }
    let sums = array<vec4<f32>, 5>(t0, t1, t2, t3, t4);
    for (var number = 0u; number < EACH; number = number + 1u) {
        let target_row = group.x * ROWS + own + number;
        if (target_row < rows && column < columns) {
            partial[(group.z * rows + target_row) * columns + column] = sums[number];
        }
    }
}
