// A convolution as a product of matrices on a device's matrix units: factors in float16, sums in float32. What it computes, and how
// it is stored, stands in convolution.wgsl; convolve.wgsl with ROUND gives the same but for the order of the sums.
//
// A workgroup of DOWN*ACROSS subgroups of LANES threads does DOWN*HIGH*SIZE positions and ACROSS*2*SIZE channels; a subgroup has
// HIGH (2 or 4) by 2 matrices of SIZE by SIZE. DEPTH terms are loaded together: a multiple of SIZE that divides the padded channels.
// Twin: compute::reference::network; launched by compute::gpu. The extensions f16 and wgpu_cooperative_matrix, these constants, the
// matrices' types Left, Right and Sum, GRADIENT and convolution.wgsl stand before this text.

const GROUPS: u32 = DOWN * ACROSS;
const THREADS: u32 = GROUPS * LANES;
const TILE_ROWS: u32 = DOWN * HIGH * SIZE;
// In vec4, as everything below.
const TILE_COLUMNS: u32 = ACROSS * SIZE / 2u;
const QUADS: u32 = DEPTH / 4u;
// Two more than there are, so that neighbours lie in different banks.
const ROW_PITCH: u32 = QUADS + 2u;
const COLUMN_PITCH: u32 = TILE_COLUMNS + 2u;
const MATRIX: u32 = SIZE * SIZE / 4u;
// What each thread loads: four at most.
const ROW_LOADS: u32 = TILE_ROWS * QUADS / THREADS;
const COLUMN_LOADS: u32 = DEPTH * TILE_COLUMNS / THREADS;

// Where the places of the rows begin to read: y, x, and the first line of their image.
var<workgroup> corners: array<vec4<i32>, TILE_ROWS>;
// [row][term], [term][column], and a matrix of each subgroup.
var<workgroup> rows: array<vec4<f16>, TILE_ROWS * ROW_PITCH>;
var<workgroup> columns: array<vec4<f16>, DEPTH * COLUMN_PITCH>;
var<workgroup> sums: array<vec4<f32>, GROUPS * MATRIX>;

fn read(place: u32, offset: vec2<i32>, chunk: u32) -> vec4<f32> {
    let corner = corners[place / QUADS];
    let at = corner.xy + offset;
    let quad = chunk * QUADS + place % QUADS;
    let quads = parameters.source_channels / 4u;
    // What lies before an image is a large number here.
    let reaches = u32(at.x) < parameters.source_height && u32(at.y) < parameters.source_width && quad < quads;
    if (reaches) {
        return source[(u32(corner.z + at.x) * parameters.source_width + u32(at.y)) * quads + quad];
    }
    return vec4<f32>();
}

fn weight(place: u32, first: u32, first_column: u32, pitch: u32) -> vec4<f32> {
    let column = first_column + place % TILE_COLUMNS;
    if (column < pitch) {
        return weights[(first + place / TILE_COLUMNS) * pitch + column];
    }
    return vec4<f32>();
}

fn keep_row(place: u32, value: vec4<f32>) {
    var scaled = value;
    if (GRADIENT) {
        scaled = value * parameters.scale;
    }
    rows[place / QUADS * ROW_PITCH + place % QUADS] = vec4<f16>(scaled);
}

fn keep_column(place: u32, value: vec4<f32>) {
    columns[place / TILE_COLUMNS * COLUMN_PITCH + place % TILE_COLUMNS] = vec4<f16>(value);
}

// What a thread loads for a turn.
struct Held {
    r0: vec4<f32>,
    r1: vec4<f32>,
    r2: vec4<f32>,
    r3: vec4<f32>,
    w0: vec4<f32>,
    w1: vec4<f32>,
    w2: vec4<f32>,
    w3: vec4<f32>,
}

fn load(thread: u32, class_: Class, tap: vec2<u32>, chunk: u32, steps: u32, first_column: u32, pitch: u32) -> Held {
    var held: Held;
    let offset = vec2<i32>(tap) * class_.direction;
    held.r0 = read(thread, offset, chunk);
    if (ROW_LOADS > 1u) { held.r1 = read(thread + THREADS, offset, chunk); }
    if (ROW_LOADS > 2u) {
        held.r2 = read(thread + 2u * THREADS, offset, chunk);
        held.r3 = read(thread + 3u * THREADS, offset, chunk);
    }
    let number = (class_.first_tap.x + tap.x * class_.tap_step) * parameters.kernel_width
        + class_.first_tap.y + tap.y * class_.tap_step;
    let first = (number * steps + chunk) * DEPTH;
    held.w0 = weight(thread, first, first_column, pitch);
    if (COLUMN_LOADS > 1u) { held.w1 = weight(thread + THREADS, first, first_column, pitch); }
    if (COLUMN_LOADS > 2u) {
        held.w2 = weight(thread + 2u * THREADS, first, first_column, pitch);
        held.w3 = weight(thread + 3u * THREADS, first, first_column, pitch);
    }
    return held;
}

// Stores the matrix that this subgroup has left in `sums`.
fn put(subgroup: u32, lane: u32, row: u32, column: u32, class_: Class) {
    for (var place = lane; place < MATRIX; place = place + LANES) {
        let value = sums[subgroup * MATRIX + place] * parameters.unscale;
        store(value, row + place / (SIZE / 4u), 4u * (column + place % (SIZE / 4u)), class_);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let class_ = class_of(group.z);
    let taps = class_.taps;
    let steps = (parameters.source_channels + 15u) / 16u * 16u / DEPTH;
    let pitch = (parameters.target_channels + 63u) / 64u * 16u;
    let first_column = group.y * TILE_COLUMNS;

    let per_image = class_.grid.x * class_.grid.y;
    for (var row = thread; row < TILE_ROWS; row = row + THREADS) {
        let position = group.x * TILE_ROWS + row;
        let inside = position % per_image;
        // Beyond the last place nothing is in reach.
        var corner = vec2<i32>(-16777216);
        if (position < parameters.examples * per_image) {
            corner = vec2<i32>(i32(inside / class_.grid.y), i32(inside % class_.grid.y)) * class_.step + class_.start;
        }
        corners[row] = vec4<i32>(corner, i32(position / per_image * parameters.source_height), 0);
    }
    workgroupBarrier();

    let own_row = subgroup / ACROSS * HIGH * SIZE;
    let own_column = subgroup % ACROSS * SIZE / 2u;
    var s00 = Sum(); var s01 = Sum();
    var s10 = Sum(); var s11 = Sum();
    var s20 = Sum(); var s21 = Sum();
    var s30 = Sum(); var s31 = Sum();

    // What the next turn of the loop needs is on its way from memory while this turn's products are summed.
    var held: Held;
    let turns = taps.x * taps.y * steps;
    var tap = vec2<u32>(0u, 0u);
    var chunk = 0u;
    if (turns > 0u) {
        held = load(thread, class_, tap, chunk, steps, first_column, pitch);
    }
    for (var turn = 0u; turn < turns; turn = turn + 1u) {
        workgroupBarrier();
        keep_row(thread, held.r0);
        if (ROW_LOADS > 1u) { keep_row(thread + THREADS, held.r1); }
        if (ROW_LOADS > 2u) { keep_row(thread + 2u * THREADS, held.r2); keep_row(thread + 3u * THREADS, held.r3); }
        keep_column(thread, held.w0);
        if (COLUMN_LOADS > 1u) { keep_column(thread + THREADS, held.w1); }
        if (COLUMN_LOADS > 2u) { keep_column(thread + 2u * THREADS, held.w2); keep_column(thread + 3u * THREADS, held.w3); }
        workgroupBarrier();
        chunk = chunk + 1u;
        if (chunk == steps) {
            chunk = 0u;
            tap.y = tap.y + 1u;
            if (tap.y == taps.y) {
                tap.y = 0u;
                tap.x = tap.x + 1u;
            }
        }
        if (turn + 1u < turns) {
            held = load(thread, class_, tap, chunk, steps, first_column, pitch);
        }
        for (var term = 0u; term < DEPTH; term = term + SIZE) {
            let across = term * COLUMN_PITCH + own_column;
            let right0 = coopLoadT<Right>(&columns[across], COLUMN_PITCH);
            let right1 = coopLoadT<Right>(&columns[across + SIZE / 4u], COLUMN_PITCH);
            let down = own_row * ROW_PITCH + term / 4u;
            let left0 = coopLoadT<Left>(&rows[down], ROW_PITCH);
            s00 = coopMultiplyAdd(left0, right0, s00);
            s01 = coopMultiplyAdd(left0, right1, s01);
            let left1 = coopLoadT<Left>(&rows[down + SIZE * ROW_PITCH], ROW_PITCH);
            s10 = coopMultiplyAdd(left1, right0, s10);
            s11 = coopMultiplyAdd(left1, right1, s11);
            if (HIGH > 2u) {
                let left2 = coopLoadT<Left>(&rows[down + 2u * SIZE * ROW_PITCH], ROW_PITCH);
                s20 = coopMultiplyAdd(left2, right0, s20);
                s21 = coopMultiplyAdd(left2, right1, s21);
                let left3 = coopLoadT<Left>(&rows[down + 3u * SIZE * ROW_PITCH], ROW_PITCH);
                s30 = coopMultiplyAdd(left3, right0, s30);
                s31 = coopMultiplyAdd(left3, right1, s31);
            }
        }
    }

    let row = group.x * TILE_ROWS + own_row;
    let column = first_column + own_column;
    let place = subgroup * MATRIX;
    // One by one: matrices may not stand behind a condition that could differ between threads.
    coopStoreT(s00, &sums[place], SIZE / 4u);
    workgroupBarrier();
    put(subgroup, lane, row, column, class_);
    workgroupBarrier();
    coopStoreT(s01, &sums[place], SIZE / 4u);
    workgroupBarrier();
    put(subgroup, lane, row, column + SIZE / 4u, class_);
    workgroupBarrier();
    coopStoreT(s10, &sums[place], SIZE / 4u);
    workgroupBarrier();
    put(subgroup, lane, row + SIZE, column, class_);
    workgroupBarrier();
    coopStoreT(s11, &sums[place], SIZE / 4u);
    workgroupBarrier();
    put(subgroup, lane, row + SIZE, column + SIZE / 4u, class_);
    workgroupBarrier();
    if (HIGH > 2u) {
        coopStoreT(s20, &sums[place], SIZE / 4u);
        workgroupBarrier();
        put(subgroup, lane, row + 2u * SIZE, column, class_);
        workgroupBarrier();
        coopStoreT(s21, &sums[place], SIZE / 4u);
        workgroupBarrier();
        put(subgroup, lane, row + 2u * SIZE, column + SIZE / 4u, class_);
        workgroupBarrier();
        coopStoreT(s30, &sums[place], SIZE / 4u);
        workgroupBarrier();
        put(subgroup, lane, row + 3u * SIZE, column, class_);
        workgroupBarrier();
        coopStoreT(s31, &sums[place], SIZE / 4u);
        workgroupBarrier();
        put(subgroup, lane, row + 3u * SIZE, column + SIZE / 4u, class_);
        workgroupBarrier();
    }
}
