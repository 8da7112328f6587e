// The gradient of a convolution's weights as a product of matrices, summed over positions. What it computes, and how it lies in memory,
// stands in weights.wgsl.
//
// Beyond the parts of one product lie those of the next, of as many positions behind, where there are more (workgroup_id.z).
//
// A workgroup of 128 threads does 128 rows and 64 columns, 8 by 8 a thread. With ROUND factor() rounds to float16, as
// weight_gradient_half.wgsl does, and the sums are float32's.
// Twin: compute::reference::network; launched by compute::gpu. ROUND, factor() and weights.wgsl stand before this text.

const THREADS: u32 = 128u;
const TILE_ROWS: u32 = 128u;
const TILE_COLUMNS: u32 = 64u;
// Positions that are loaded together.
const DEPTH: u32 = 16u;

// [position][row] and [position][column].
var<workgroup> rows: array<vec4<f32>, 512>;
var<workgroup> columns: array<vec4<f32>, 256>;

// A place of the results.
struct Place {
    position: u32,
    image: u32,
    y: u32,
    x: u32,
}

fn next(place: Place) -> Place {
    var after = Place(place.position + 1u, place.image, place.y, place.x + 1u);
    if (after.x == parameters.target_width) {
        after.x = 0u;
        after.y = after.y + 1u;
        if (after.y == parameters.target_height) {
            after.y = 0u;
            after.image = after.image + 1u;
        }
    }
    return after;
}

// Four terms at a place: what the tap reads there, or the one that sums the gradient itself.
fn under(place: Place, end: u32, term: u32, terms: u32, offset: vec2<i32>, channel: u32) -> vec4<f32> {
    var value = vec4<f32>();
    if (place.position >= end || term > terms) {
        return value;
    }
    if (term == terms) {
        value.x = 1.0;
        return value;
    }
    let y = i32(place.y * parameters.stride) + offset.x;
    let x = i32(place.x * parameters.stride) + offset.y;
    if (y >= 0 && y < i32(parameters.source_height) && x >= 0 && x < i32(parameters.source_width)) {
        let row = (place.image * parameters.source_height + u32(y)) * parameters.source_width + u32(x);
        value = source[(row * parameters.source_channels + channel) / 4u];
    }
    return value;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let channels = parameters.source_channels;
    let taps = parameters.kernel_height * parameters.kernel_width;
    let terms = taps * channels;
    let per_image = parameters.target_height * parameters.target_width;
    let positions = parameters.examples * per_image;
    let share = (positions + parameters.parts - 1u) / parameters.parts;
    let product = group.z / parameters.parts;
    let begin = product * positions + group.z % parameters.parts * share;
    let end = min(begin + share, (product + 1u) * positions);
    let padded_columns = (parameters.target_channels + 63u) / 64u * 16u;

    // The four terms that this thread loads, at four positions.
    let term = group.x * TILE_ROWS + 4u * (lane % 32u);
    let tap = min(term / channels, taps - 1u);
    let channel = term - tap * channels;
    let offset = vec2<i32>(i32(tap / parameters.kernel_width), i32(tap % parameters.kernel_width))
        - vec2<i32>(i32(parameters.padding));
    let thread_row = lane / 8u;
    let thread_column = lane % 8u;

    var a0 = vec4<f32>(); var a1 = vec4<f32>(); var a2 = vec4<f32>(); var a3 = vec4<f32>();
    var a4 = vec4<f32>(); var a5 = vec4<f32>(); var a6 = vec4<f32>(); var a7 = vec4<f32>();
    var b0 = vec4<f32>(); var b1 = vec4<f32>(); var b2 = vec4<f32>(); var b3 = vec4<f32>();
    var b4 = vec4<f32>(); var b5 = vec4<f32>(); var b6 = vec4<f32>(); var b7 = vec4<f32>();

    // What the next turn of the loop needs is on its way from memory while this turn's products are summed.
    var held0 = vec4<f32>(); var held1 = vec4<f32>(); var held2 = vec4<f32>(); var held3 = vec4<f32>();
    var taken0 = vec4<f32>(); var taken1 = vec4<f32>();
    let own = (lane / 32u) * TILE_ROWS + lane % 32u;
    let start = begin + lane / 32u * 4u;
    var place = Place(
        start,
        start / per_image,
        start % per_image / parameters.target_width,
        start % parameters.target_width,
    );
    // A turn further, in places.
    let over = Place(
        DEPTH,
        DEPTH / per_image,
        DEPTH % per_image / parameters.target_width,
        DEPTH % parameters.target_width,
    );
    let turns = (max(end, begin) - begin + DEPTH - 1u) / DEPTH;
    for (var turn = 0u; turn <= turns; turn = turn + 1u) {
        if (turn > 0u) {
            workgroupBarrier();
            rows[own] = factor(held0);
            rows[own + TILE_ROWS / 4u] = factor(held1);
            rows[own + TILE_ROWS / 2u] = factor(held2);
            rows[own + TILE_ROWS / 4u * 3u] = factor(held3);
            if (ROUND) {
                taken0 = taken0 * parameters.scale;
                taken1 = taken1 * parameters.scale;
            }
            columns[lane] = factor(taken0);
            columns[lane + THREADS] = factor(taken1);
            workgroupBarrier();
        }
        if (turn < turns) {
            let first = begin + turn * DEPTH;
            let second = next(place);
            held0 = under(place, end, term, terms, offset, channel);
            held1 = under(second, end, term, terms, offset, channel);
            let third = next(second);
            held2 = under(third, end, term, terms, offset, channel);
            held3 = under(next(third), end, term, terms, offset, channel);
            place.position = place.position + DEPTH;
            place.x = place.x + over.x;
            if (place.x >= parameters.target_width) {
                place.x = place.x - parameters.target_width;
                place.y = place.y + 1u;
            }
            place.y = place.y + over.y;
            place.image = place.image + over.image;
            if (place.y >= parameters.target_height) {
                place.y = place.y - parameters.target_height;
                place.image = place.image + 1u;
            }
            let column = group.y * TILE_COLUMNS + 4u * (lane % 16u);
            let position = first + lane / 16u;
            taken0 = vec4<f32>();
            taken1 = vec4<f32>();
            if (column < parameters.target_channels) {
                let at = (position * parameters.target_channels + column) / 4u;
                if (position < end) { taken0 = gradient[at]; }
                if (position + 8u < end) { taken1 = gradient[at + 2u * parameters.target_channels]; }
            }
        }
        if (turn > 0u) {
            for (var number = 0u; number < DEPTH; number = number + 1u) {
                let u = rows[number * (TILE_ROWS / 4u) + thread_row];
                let v = rows[number * (TILE_ROWS / 4u) + TILE_ROWS / 8u + thread_row];
                let p = columns[number * (TILE_COLUMNS / 4u) + thread_column];
                let q = columns[number * (TILE_COLUMNS / 4u) + TILE_COLUMNS / 8u + thread_column];
                a0 = fma(vec4<f32>(u.x), p, a0); b0 = fma(vec4<f32>(u.x), q, b0);
                a1 = fma(vec4<f32>(u.y), p, a1); b1 = fma(vec4<f32>(u.y), q, b1);
                a2 = fma(vec4<f32>(u.z), p, a2); b2 = fma(vec4<f32>(u.z), q, b2);
                a3 = fma(vec4<f32>(u.w), p, a3); b3 = fma(vec4<f32>(u.w), q, b3);
                a4 = fma(vec4<f32>(v.x), p, a4); b4 = fma(vec4<f32>(v.x), q, b4);
                a5 = fma(vec4<f32>(v.y), p, a5); b5 = fma(vec4<f32>(v.y), q, b5);
                a6 = fma(vec4<f32>(v.z), p, a6); b6 = fma(vec4<f32>(v.z), q, b6);
                a7 = fma(vec4<f32>(v.w), p, a7); b7 = fma(vec4<f32>(v.w), q, b7);
            }
        }
    }

    var sums = array<vec4<f32>, 16>(a0, b0, a1, b1, a2, b2, a3, b3, a4, b4, a5, b5, a6, b6, a7, b7);
    for (var number = 0u; number < 16u; number = number + 1u) {
        let row = group.x * TILE_ROWS + 4u * thread_row + (number / 2u) % 4u + (number / 8u) * TILE_ROWS / 2u;
        let column = group.y * TILE_COLUMNS / 4u + thread_column + (number % 2u) * TILE_COLUMNS / 8u;
        if (row < parameters.rows && column < padded_columns) {
            var sum = sums[number];
            if (ROUND) {
                sum = sum * parameters.unscale;
            }
            partial[(group.z * parameters.rows + row) * padded_columns + column] = sum;
        }
    }
}
