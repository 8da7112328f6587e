// The gradient of a convolution's weights on a device's matrix units: factors in float16, sums in float32. What it computes, and how
// it lies in memory, stands in weights.wgsl; weight_gradient.wgsl with ROUND gives the same but for the order of the sums.
//
// A workgroup of DOWN*ACROSS subgroups of LANES threads does DOWN*HIGH*SIZE rows and ACROSS*2*SIZE columns; a subgroup has HIGH (2 or
// 4) by 2 matrices of SIZE by SIZE. DEPTH positions are loaded together.
// Twin: compute::reference::network; launched by compute::gpu. The extensions f16 and wgpu_cooperative_matrix, these constants and the
// matrices' types Left, Right and Sum, and weights.wgsl stand before this text.

const GROUPS: u32 = DOWN * ACROSS;
const THREADS: u32 = GROUPS * LANES;
// In vec4, as everything below.
const TILE_ROWS: u32 = DOWN * HIGH * SIZE / 4u;
const TILE_COLUMNS: u32 = ACROSS * SIZE / 2u;
// Two more than there are, so that neighbours lie in different banks.
const ROW_PITCH: u32 = TILE_ROWS + 2u;
const COLUMN_PITCH: u32 = TILE_COLUMNS + 2u;
const MATRIX: u32 = SIZE * SIZE / 4u;
// What each thread loads: two or four rows, up to four columns.
const ROW_LOADS: u32 = DEPTH * TILE_ROWS / THREADS;
const COLUMN_LOADS: u32 = DEPTH * TILE_COLUMNS / THREADS;
// Positions between two that a thread loads.
const ROW_STEP: u32 = THREADS / TILE_ROWS;

// Where the positions of a turn begin to read: y, x, the first line of their image, and whether they are there.
var<workgroup> corners: array<vec4<i32>, DEPTH>;
// [position][row], [position][column], and a matrix of each subgroup.
var<workgroup> rows: array<vec4<f16>, DEPTH * ROW_PITCH>;
var<workgroup> columns: array<vec4<f16>, DEPTH * COLUMN_PITCH>;
var<workgroup> sums: array<vec4<f32>, GROUPS * MATRIX>;

fn corner(position: u32, end: u32) -> vec4<i32> {
    if (position >= end) {
        return vec4<i32>(-16777216, -16777216, 0, 0);
    }
    let per_image = parameters.target_height * parameters.target_width;
    let image = position / per_image;
    let inside = position % per_image;
    let place = vec2<u32>(inside / parameters.target_width, inside % parameters.target_width) * parameters.stride;
    return vec4<i32>(vec2<i32>(place) - i32(parameters.padding), i32(image * parameters.source_height), 1);
}

// The four terms that a thread loads, at some positions of a turn.
struct Terms {
    first: u32,
    position: u32,
    offset: vec2<i32>,
    channel: u32,
}

// Four terms at a position: what the tap reads there, or the one that sums the gradient itself.
fn under(number: u32, own: Terms) -> vec4<f32> {
    let corner = corners[number];
    let terms = parameters.kernel_height * parameters.kernel_width * parameters.source_channels;
    let at = corner.xy + own.offset;
    if (own.first < terms && u32(at.x) < parameters.source_height && u32(at.y) < parameters.source_width) {
        let line = u32(corner.z + at.x) * parameters.source_width + u32(at.y);
        return source[(line * parameters.source_channels + own.channel) / 4u];
    }
    return vec4<f32>(select(0.0, f32(corner.w), own.first == terms), 0.0, 0.0, 0.0);
}

fn taken(place: u32, first: u32, end: u32, first_column: u32) -> vec4<f32> {
    let position = first + place / TILE_COLUMNS;
    let column = first_column + place % TILE_COLUMNS;
    let quads = parameters.target_channels / 4u;
    if (position < end && column < quads) {
        return gradient[position * quads + column];
    }
    return vec4<f32>();
}

fn keep_column(place: u32, value: vec4<f32>) {
    columns[place / TILE_COLUMNS * COLUMN_PITCH + place % TILE_COLUMNS] = vec4<f16>(value * parameters.scale);
}

// What a thread loads for a turn.
struct Held {
    r0: vec4<f32>,
    r1: vec4<f32>,
    r2: vec4<f32>,
    r3: vec4<f32>,
    c0: vec4<f32>,
    c1: vec4<f32>,
    c2: vec4<f32>,
    c3: vec4<f32>,
}

fn load(thread: u32, own: Terms, first: u32, end: u32, first_column: u32) -> Held {
    var held: Held;
    held.r0 = under(own.position, own);
    held.r1 = under(own.position + ROW_STEP, own);
    if (ROW_LOADS > 2u) {
        held.r2 = under(own.position + 2u * ROW_STEP, own);
        held.r3 = under(own.position + 3u * ROW_STEP, own);
    }
    held.c0 = taken(thread, first, end, first_column);
    if (COLUMN_LOADS > 1u) { held.c1 = taken(thread + THREADS, first, end, first_column); }
    if (COLUMN_LOADS > 2u) {
        held.c2 = taken(thread + 2u * THREADS, first, end, first_column);
        held.c3 = taken(thread + 3u * THREADS, first, end, first_column);
    }
    return held;
}

// Stores the matrix that this subgroup has left in `sums`.
fn put(subgroup: u32, lane: u32, part: u32, first_row: u32, first_column: u32, pitch: u32) {
    for (var place = lane; place < MATRIX; place = place + LANES) {
        let row = first_row + place / (SIZE / 4u);
        let column = first_column + place % (SIZE / 4u);
        if (row < parameters.rows && column < pitch) {
            partial[(part * parameters.rows + row) * pitch + column] = sums[subgroup * MATRIX + place] * parameters.unscale;
        }
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let channels = parameters.source_channels;
    let taps = parameters.kernel_height * parameters.kernel_width;
    let positions = parameters.examples * parameters.target_height * parameters.target_width;
    let share = (positions + parameters.parts - 1u) / parameters.parts;
    let begin = group.z * share;
    let end = max(min(begin + share, positions), begin);
    let pitch = (parameters.target_channels + 63u) / 64u * 16u;
    let first_column = group.y * TILE_COLUMNS;

    let quad = thread % TILE_ROWS;
    let term = 4u * (group.x * TILE_ROWS + quad);
    let tap = min(term / channels, taps - 1u);
    let offset = vec2<i32>(i32(tap / parameters.kernel_width), i32(tap % parameters.kernel_width));
    let own = Terms(term, thread / TILE_ROWS, offset, term - tap * channels);

    let own_row = subgroup / ACROSS * HIGH * SIZE;
    let own_column = subgroup % ACROSS * SIZE / 2u;
    var s00 = Sum(); var s01 = Sum();
    var s10 = Sum(); var s11 = Sum();
    var s20 = Sum(); var s21 = Sum();
    var s30 = Sum(); var s31 = Sum();

    // What the next turn of the loop needs is on its way from memory while this turn's products are summed.
    let turns = (end - begin + DEPTH - 1u) / DEPTH;
    if (thread < DEPTH) {
        corners[thread] = corner(begin + thread, end);
    }
    workgroupBarrier();
    var held = load(thread, own, begin, end, first_column);
    for (var turn = 0u; turn < turns; turn = turn + 1u) {
        let first = begin + (turn + 1u) * DEPTH;
        workgroupBarrier();
        let at = own.position * ROW_PITCH + quad;
        rows[at] = vec4<f16>(held.r0);
        rows[at + ROW_STEP * ROW_PITCH] = vec4<f16>(held.r1);
        if (ROW_LOADS > 2u) {
            rows[at + 2u * ROW_STEP * ROW_PITCH] = vec4<f16>(held.r2);
            rows[at + 3u * ROW_STEP * ROW_PITCH] = vec4<f16>(held.r3);
        }
        keep_column(thread, held.c0);
        if (COLUMN_LOADS > 1u) { keep_column(thread + THREADS, held.c1); }
        if (COLUMN_LOADS > 2u) { keep_column(thread + 2u * THREADS, held.c2); keep_column(thread + 3u * THREADS, held.c3); }
        if (thread < DEPTH) {
            corners[thread] = corner(first + thread, end);
        }
        workgroupBarrier();
        if (turn + 1u < turns) {
            held = load(thread, own, first, end, first_column);
        }
        for (var number = 0u; number < DEPTH; number = number + SIZE) {
            let across = number * COLUMN_PITCH + own_column;
            let right0 = coopLoadT<Right>(&columns[across], COLUMN_PITCH);
            let right1 = coopLoadT<Right>(&columns[across + SIZE / 4u], COLUMN_PITCH);
            // A column of the left matrix is a position.
            let down = number * ROW_PITCH + own_row / 4u;
            let left0 = coopLoad<Left>(&rows[down], ROW_PITCH);
            s00 = coopMultiplyAdd(left0, right0, s00);
            s01 = coopMultiplyAdd(left0, right1, s01);
            let left1 = coopLoad<Left>(&rows[down + SIZE / 4u], ROW_PITCH);
            s10 = coopMultiplyAdd(left1, right0, s10);
            s11 = coopMultiplyAdd(left1, right1, s11);
            if (HIGH > 2u) {
                let left2 = coopLoad<Left>(&rows[down + SIZE / 2u], ROW_PITCH);
                s20 = coopMultiplyAdd(left2, right0, s20);
                s21 = coopMultiplyAdd(left2, right1, s21);
                let left3 = coopLoad<Left>(&rows[down + SIZE / 4u * 3u], ROW_PITCH);
                s30 = coopMultiplyAdd(left3, right0, s30);
                s31 = coopMultiplyAdd(left3, right1, s31);
            }
        }
    }

    let row = group.x * TILE_ROWS * 4u + own_row;
    let column = first_column + own_column;
    let place = subgroup * MATRIX;
    // One by one: matrices may not stand behind a condition that could differ between threads.
    coopStoreT(s00, &sums[place], SIZE / 4u);
    workgroupBarrier();
    put(subgroup, lane, group.z, row, column, pitch);
    workgroupBarrier();
    coopStoreT(s01, &sums[place], SIZE / 4u);
    workgroupBarrier();
    put(subgroup, lane, group.z, row, column + SIZE / 4u, pitch);
    workgroupBarrier();
    coopStoreT(s10, &sums[place], SIZE / 4u);
    workgroupBarrier();
    put(subgroup, lane, group.z, row + SIZE, column, pitch);
    workgroupBarrier();
    coopStoreT(s11, &sums[place], SIZE / 4u);
    workgroupBarrier();
    put(subgroup, lane, group.z, row + SIZE, column + SIZE / 4u, pitch);
    workgroupBarrier();
    if (HIGH > 2u) {
        coopStoreT(s20, &sums[place], SIZE / 4u);
        workgroupBarrier();
        put(subgroup, lane, group.z, row + 2u * SIZE, column, pitch);
        workgroupBarrier();
        coopStoreT(s21, &sums[place], SIZE / 4u);
        workgroupBarrier();
        put(subgroup, lane, group.z, row + 2u * SIZE, column + SIZE / 4u, pitch);
        workgroupBarrier();
        coopStoreT(s30, &sums[place], SIZE / 4u);
        workgroupBarrier();
        put(subgroup, lane, group.z, row + 3u * SIZE, column, pitch);
        workgroupBarrier();
        coopStoreT(s31, &sums[place], SIZE / 4u);
        workgroupBarrier();
        put(subgroup, lane, group.z, row + 3u * SIZE, column + SIZE / 4u, pitch);
        workgroupBarrier();
    }
}
