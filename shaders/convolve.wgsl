// A convolution as a product of matrices: rows are positions, columns are output channels, and the terms are the taps of the
// kernel times the input channels. What it computes, and how it is stored, stands in convolution.wgsl.
//
// ROWS*COLUMNS threads do 8*ROWS positions and 8*COLUMNS channels, 8 by 8 a thread. Where there are few such tiles, a workgroup has
// two TEAMS of threads for each, which take turns at the terms and add up what they have. With ROUND factor() rounds to float16, as
// convolve_half.wgsl does, and the sums are float32's.
// Twin: compute::reference::network; launched by compute::gpu. ROWS, COLUMNS, TEAMS, ROUND, factor() and GRADIENT stand before this text,
// and convolution.wgsl.

const THREADS: u32 = ROWS * COLUMNS;
const TILE_ROWS: u32 = 8u * ROWS;
const TILE_COLUMNS: u32 = 8u * COLUMNS;
// Terms that are loaded together.
const DEPTH: u32 = 16u;
// Threads that load a row together, and the vec4 that each loads.
const SHARES: u32 = THREADS / TILE_ROWS;
const SHARE: u32 = DEPTH / 4u / SHARES;
// vec4 of a row of weights, and how many of them each thread loads: two or four.
const WIDE: u32 = TILE_COLUMNS / 4u;
const LOADS: u32 = DEPTH * WIDE / THREADS;

// [term][row] and [term][column].
var<workgroup> rows: array<vec4<f32>, TEAMS * DEPTH * TILE_ROWS / 4u>;
var<workgroup> columns: array<vec4<f32>, TEAMS * DEPTH * TILE_COLUMNS / 4u>;

// Four terms of a row.
fn place(at: u32, row: u32, read: vec4<f32>) {
    var value = read;
    if (ROUND) {
        value = factor(read * parameters.scale);
    }
    rows[at][row] = value.x;
    rows[at + TILE_ROWS / 4u][row] = value.y;
    rows[at + TILE_ROWS / 2u][row] = value.z;
    rows[at + TILE_ROWS / 4u * 3u][row] = value.w;
}

// The two halves of a thread's columns lie half a tile apart.
fn put(low: vec4<f32>, high: vec4<f32>, row: u32, column: u32, class_: Class) {
    if (ROUND) {
        store(low * parameters.unscale, row, column, class_);
        store(high * parameters.unscale, row, column + TILE_COLUMNS / 2u, class_);
    } else {
        store(low, row, column, class_);
        store(high, row, column + TILE_COLUMNS / 2u, class_);
    }
}

@compute @workgroup_size(TEAMS * THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let lane = thread % THREADS;
    let team = thread / THREADS;
    let class_ = class_of(group.z);
    let taps = class_.taps;

    let channels = parameters.source_channels;
    let steps = (channels + DEPTH - 1u) / DEPTH;
    let padded_columns = (parameters.target_channels + 63u) / 64u * 16u;
    let first_column = group.y * TILE_COLUMNS / 4u;

    // The row that this thread loads.
    let own_row = lane % TILE_ROWS;
    let share = lane / TILE_ROWS;
    let position = group.x * TILE_ROWS + own_row;
    let per_image = class_.grid.x * class_.grid.y;
    let exists = position < parameters.examples * per_image;
    let image = position / per_image;
    let inside = position % per_image;
    let corner = vec2<i32>(i32(inside / class_.grid.y), i32(inside % class_.grid.y)) * class_.step + class_.start;

    let thread_row = lane / COLUMNS;
    let thread_column = lane % COLUMNS;

    var a0 = vec4<f32>(); var a1 = vec4<f32>(); var a2 = vec4<f32>(); var a3 = vec4<f32>();
    var a4 = vec4<f32>(); var a5 = vec4<f32>(); var a6 = vec4<f32>(); var a7 = vec4<f32>();
    var b0 = vec4<f32>(); var b1 = vec4<f32>(); var b2 = vec4<f32>(); var b3 = vec4<f32>();
    var b4 = vec4<f32>(); var b5 = vec4<f32>(); var b6 = vec4<f32>(); var b7 = vec4<f32>();

    // What the next turn of the loop needs is on its way from memory while this turn's products are summed.
    let turns = taps.x * taps.y * steps;
    var tap_y = 0u;
    var tap_x = 0u;
    var chunk = team;
    var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
    var w0 = vec4<f32>(); var w1 = vec4<f32>(); var w2 = vec4<f32>(); var w3 = vec4<f32>();
    let first_row_at = team * DEPTH * TILE_ROWS / 4u;
    let first_column_at = team * DEPTH * WIDE;
    let target_ = first_row_at + share * SHARE * TILE_ROWS + own_row / 4u;
    let lane_row = own_row % 4u;
    let weight_lane = lane / WIDE;
    let weight_column = first_column + lane % WIDE;
    let weight_exists = weight_column < padded_columns;

    let rounds = (turns + TEAMS - 1u) / TEAMS;
    for (var round = 0u; round <= rounds; round = round + 1u) {
        if (round > 0u) {
            workgroupBarrier();
            place(target_, lane_row, s0);
            if (SHARE > 1u) { place(target_ + TILE_ROWS, lane_row, s1); }
            if (SHARE > 2u) { place(target_ + 2u * TILE_ROWS, lane_row, s2); place(target_ + 3u * TILE_ROWS, lane_row, s3); }
            columns[first_column_at + lane] = factor(w0);
            columns[first_column_at + lane + THREADS] = factor(w1);
            if (LOADS > 2u) {
                columns[first_column_at + lane + 2u * THREADS] = factor(w2);
                columns[first_column_at + lane + 3u * THREADS] = factor(w3);
            }
            workgroupBarrier();
        }
        if (round * TEAMS + team < turns) {
            for (; chunk >= steps; chunk = chunk - steps) {
                tap_x = tap_x + 1u;
                if (tap_x == taps.y) {
                    tap_x = 0u;
                    tap_y = tap_y + 1u;
                }
            }
            let at = corner + vec2<i32>(i32(tap_y), i32(tap_x)) * class_.direction;
            let reaches = exists && at.x >= 0 && at.x < i32(parameters.source_height)
                && at.y >= 0 && at.y < i32(parameters.source_width);
            let quad = chunk * (DEPTH / 4u) + share * SHARE;
            let quads = channels / 4u;
            let from_ = ((image * parameters.source_height + u32(at.x)) * parameters.source_width + u32(at.y)) * quads + quad;
            s0 = vec4<f32>(); s1 = vec4<f32>(); s2 = vec4<f32>(); s3 = vec4<f32>();
            if (reaches) {
                if (quad < quads) { s0 = source[from_]; }
                if (SHARE > 1u && quad + 1u < quads) { s1 = source[from_ + 1u]; }
                if (SHARE > 2u && quad + 2u < quads) { s2 = source[from_ + 2u]; }
                if (SHARE > 3u && quad + 3u < quads) { s3 = source[from_ + 3u]; }
            }
            let tap = (class_.first_tap.x + tap_y * class_.tap_step) * parameters.kernel_width + class_.first_tap.y + tap_x * class_.tap_step;
            let weight = ((tap * steps + chunk) * DEPTH + weight_lane) * padded_columns + weight_column;
            w0 = vec4<f32>(); w1 = vec4<f32>(); w2 = vec4<f32>(); w3 = vec4<f32>();
            if (weight_exists) {
                w0 = weights[weight];
                w1 = weights[weight + padded_columns * (THREADS / WIDE)];
                if (LOADS > 2u) {
                    w2 = weights[weight + padded_columns * (THREADS / WIDE * 2u)];
                    w3 = weights[weight + padded_columns * (THREADS / WIDE * 3u)];
                }
            }
            chunk = chunk + TEAMS;
        } else if (TEAMS > 1u) {
            s0 = vec4<f32>(); s1 = vec4<f32>(); s2 = vec4<f32>(); s3 = vec4<f32>();
            w0 = vec4<f32>(); w1 = vec4<f32>(); w2 = vec4<f32>(); w3 = vec4<f32>();
        }
        if (round > 0u) {
            for (var term = 0u; term < DEPTH; term = term + 1u) {
                let u = rows[first_row_at + term * TILE_ROWS / 4u + thread_row];
                let v = rows[first_row_at + term * TILE_ROWS / 4u + TILE_ROWS / 8u + thread_row];
                let p = columns[first_column_at + term * WIDE + thread_column];
                let q = columns[first_column_at + term * WIDE + WIDE / 2u + thread_column];
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

    if (TEAMS == 2u) {
        // A tile of 8 by 8 threads has as much room as its sums.
        workgroupBarrier();
        if (team == 1u) {
            rows[lane] = a0; rows[lane + THREADS] = a1; rows[lane + 2u * THREADS] = a2; rows[lane + 3u * THREADS] = a3;
            rows[lane + 4u * THREADS] = a4; rows[lane + 5u * THREADS] = a5;
            rows[lane + 6u * THREADS] = a6; rows[lane + 7u * THREADS] = a7;
            columns[lane] = b0; columns[lane + THREADS] = b1;
            columns[lane + 2u * THREADS] = b2; columns[lane + 3u * THREADS] = b3;
            columns[lane + 4u * THREADS] = b4; columns[lane + 5u * THREADS] = b5;
            columns[lane + 6u * THREADS] = b6; columns[lane + 7u * THREADS] = b7;
        }
        workgroupBarrier();
        if (team == 1u) {
            return;
        }
        a0 = a0 + rows[lane]; a1 = a1 + rows[lane + THREADS];
        a2 = a2 + rows[lane + 2u * THREADS]; a3 = a3 + rows[lane + 3u * THREADS];
        a4 = a4 + rows[lane + 4u * THREADS]; a5 = a5 + rows[lane + 5u * THREADS];
        a6 = a6 + rows[lane + 6u * THREADS]; a7 = a7 + rows[lane + 7u * THREADS];
        b0 = b0 + columns[lane]; b1 = b1 + columns[lane + THREADS];
        b2 = b2 + columns[lane + 2u * THREADS]; b3 = b3 + columns[lane + 3u * THREADS];
        b4 = b4 + columns[lane + 4u * THREADS]; b5 = b5 + columns[lane + 5u * THREADS];
        b6 = b6 + columns[lane + 6u * THREADS]; b7 = b7 + columns[lane + 7u * THREADS];
    }

    let row = group.x * TILE_ROWS + 4u * thread_row;
    let far = row + TILE_ROWS / 2u;
    let column = group.y * TILE_COLUMNS + 4u * thread_column;
    put(a0, b0, row, column, class_);
    put(a1, b1, row + 1u, column, class_);
    put(a2, b2, row + 2u, column, class_);
    put(a3, b3, row + 3u, column, class_);
    put(a4, b4, far, column, class_);
    put(a5, b5, far + 1u, column, class_);
    put(a6, b6, far + 2u, column, class_);
    put(a7, b7, far + 3u, column, class_);
}
