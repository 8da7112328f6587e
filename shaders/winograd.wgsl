// Winograd's convolution F(2x2, 3x3) (Lavin and Gray 2015, section 4.1): of each tile of two by two results of a 3x3 convolution with
// stride 1
//
//     At [ sum over c of  (G g[c] Gt) o (Bt d[c] B) ] A,    Bt = 1  0 -1  0     At = 1  1  1  0
//                                                                0  1  1  0          0  1 -1 -1
//                                                                0 -1  1  0
//                                                                0  1  0 -1
//
// where d are the 4 by 4 places that the tile reads, zeros outside the image, and the 16 factors G g Gt are packed (pack_weights.wgsl): 16 products
// of matrices, with 4/9 of the convolution's multiplications. Then + bias[o] with BIAS, and what epilogue.wgsl does.
//
// A workgroup does all products of 32 tiles and 32 channels: 16 threads each, 8 tiles by 8 channels a thread.
//
// Activations lie [N, H, W, C] in vec4, factors [4*row + column][C to a multiple of 16][O to a multiple of 64].
// Twin: compute::reference::network; launched by compute::gpu. BIAS and epilogue.wgsl stand before this text.
// Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    // Tiles, and those of an image.
    tiles: u32,
    down: u32,
    across: u32,
    source_height: u32,
    source_width: u32,
    source_channels: u32,
    target_height: u32,
    target_width: u32,
    target_channels: u32,
    padding: u32,
    flags: u32,
}

@group(0) @binding(0) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> weights: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> bias: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> other: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> kept: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> result: array<vec4<f32>>;
@group(0) @binding(6) var<uniform> parameters: Parameters;

const THREADS: u32 = 256u;
// Channels that are loaded together.
const DEPTH: u32 = 8u;
// vec4 of 32 tiles or channels.
const WIDE: u32 = 8u;
// Where the second half of the room begins.
const HALF: u32 = 16u * DEPTH * WIDE;

// [product][channel][tile], then [product][channel][column]; at the end [product][tile][half of the columns]. Tiles of every other four
// channels have their halves exchanged, so that threads that store next to each other do not wait for each other.
var<workgroup> room: array<vec4<f32>, 2u * HALF>;

// Four channels of one of a tile's places, for one product.
fn place(product: u32, channel: u32, tile: u32, value: vec4<f32>) {
    let at = (product * DEPTH + channel) * WIDE + ((tile / 4u) ^ (channel & 4u));
    room[at][tile % 4u] = value.x;
    room[at + WIDE][tile % 4u] = value.y;
    room[at + 2u * WIDE][tile % 4u] = value.z;
    room[at + 3u * WIDE][tile % 4u] = value.w;
}

// One row of two results of each tile, and half of the columns.
fn results(thread: u32, group: vec3<u32>, half: u32) {
    let unit = thread / 2u;
    let quad = (group.y * 2u + half) * 4u + unit % 4u;
    let tile = group.x * 32u + unit / 4u;
    let quads = parameters.target_channels / 4u;
    let inside = tile % (parameters.down * parameters.across);
    let y = inside / parameters.across * 2u + thread % 2u;
    let x = inside % parameters.across * 2u;
    if (tile >= parameters.tiles || quad >= quads || y >= parameters.target_height) {
        return;
    }
    // At, column by column.
    var m0: vec4<f32>; var m1: vec4<f32>; var m2: vec4<f32>; var m3: vec4<f32>;
    let row = 4u * 128u;
    let at = unit + row;
    if (thread % 2u == 0u) {
        m0 = room[at - row] + room[at] + room[at + row];
        m1 = room[at + 128u - row] + room[at + 128u] + room[at + 128u + row];
        m2 = room[at + 256u - row] + room[at + 256u] + room[at + 256u + row];
        m3 = room[at + 384u - row] + room[at + 384u] + room[at + 384u + row];
    } else {
        m0 = room[at] - room[at + row] - room[at + 2u * row];
        m1 = room[at + 128u] - room[at + 128u + row] - room[at + 128u + 2u * row];
        m2 = room[at + 256u] - room[at + 256u + row] - room[at + 256u + 2u * row];
        m3 = room[at + 384u] - room[at + 384u + row] - room[at + 384u + 2u * row];
    }
    var shift = vec4<f32>();
    if (BIAS) {
        shift = bias[quad];
    }
    let image = tile / (parameters.down * parameters.across);
    let index = ((image * parameters.target_height + y) * parameters.target_width + x) * quads + quad;
    finish(m0 + m1 + m2 + shift, index);
    if (x + 1u < parameters.target_width) {
        finish(m1 - m2 - m3 + shift, index + quads);
    }
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    // What this thread loads of what is read: four channels of a tile, of them one row of Bt d, which is one row of d and another.
    let load_channel = thread % 2u * 4u;
    let load_tile = thread % 64u / 2u;
    let load_row = thread / 64u;
    let tile = group.x * 32u + load_tile;
    let image = tile / (parameters.down * parameters.across);
    let inside = tile % (parameters.down * parameters.across);
    let corner = vec2<i32>(i32(inside / parameters.across), i32(inside % parameters.across)) * 2 - i32(parameters.padding);
    let one = corner.x + select(select(1, 2, load_row == 2u), 0, load_row == 0u);
    let another = corner.x + select(select(2, 1, load_row == 2u), 3, load_row == 3u);
    let sign = select(-1.0, 1.0, load_row == 1u);
    let has_one = tile < parameters.tiles && one >= 0 && one < i32(parameters.source_height);
    let has_another = tile < parameters.tiles && another >= 0 && another < i32(parameters.source_height);
    let width = i32(parameters.source_width);
    let has0 = corner.y >= 0 && corner.y < width;
    let has1 = corner.y >= -1 && corner.y < width - 1;
    let has2 = corner.y >= -2 && corner.y < width - 2;
    let has3 = corner.y >= -3 && corner.y < width - 3;
    let quads = parameters.source_channels / 4u;
    let first = image * parameters.source_height;
    let line = i32(quads);
    var at_one = ((i32(first) + one) * width + corner.y) * line + i32(thread % 2u);
    var at_another = ((i32(first) + another) * width + corner.y) * line + i32(thread % 2u);
    var quad = thread % 2u;

    // And of the weights four vec4, of every fourth product.
    let columns = (parameters.target_channels + 63u) / 64u * 16u;
    let of_product = (parameters.source_channels + 15u) / 16u * 16u * columns;
    var weight = (thread / 64u) * of_product + (thread / WIDE % DEPTH) * columns + group.y * WIDE + thread % WIDE;

    // What it multiplies.
    let product = thread / 16u;
    let thread_row = thread % 16u / 4u;
    let thread_column = thread % 4u;

    var a0 = vec4<f32>(); var a1 = vec4<f32>(); var a2 = vec4<f32>(); var a3 = vec4<f32>();
    var a4 = vec4<f32>(); var a5 = vec4<f32>(); var a6 = vec4<f32>(); var a7 = vec4<f32>();
    var b0 = vec4<f32>(); var b1 = vec4<f32>(); var b2 = vec4<f32>(); var b3 = vec4<f32>();
    var b4 = vec4<f32>(); var b5 = vec4<f32>(); var b6 = vec4<f32>(); var b7 = vec4<f32>();

    let turns = (parameters.source_channels + DEPTH - 1u) / DEPTH;
    for (var turn = 0u; turn < turns; turn = turn + 1u) {
        var s0 = vec4<f32>(); var s1 = vec4<f32>(); var s2 = vec4<f32>(); var s3 = vec4<f32>();
        var t0 = vec4<f32>(); var t1 = vec4<f32>(); var t2 = vec4<f32>(); var t3 = vec4<f32>();
        if (has_one && quad < quads) {
            if (has0) { s0 = source[at_one]; }
            if (has1) { s1 = source[at_one + line]; }
            if (has2) { s2 = source[at_one + 2 * line]; }
            if (has3) { s3 = source[at_one + 3 * line]; }
        }
        if (has_another && quad < quads) {
            if (has0) { t0 = source[at_another]; }
            if (has1) { t1 = source[at_another + line]; }
            if (has2) { t2 = source[at_another + 2 * line]; }
            if (has3) { t3 = source[at_another + 3 * line]; }
        }
        let w0 = weights[weight];
        let w1 = weights[weight + 4u * of_product];
        let w2 = weights[weight + 8u * of_product];
        let w3 = weights[weight + 12u * of_product];
        quad = quad + 2u;
        at_one = at_one + 2;
        at_another = at_another + 2;
        weight = weight + DEPTH * columns;
        let r0 = s0 + sign * t0;
        let r1 = s1 + sign * t1;
        let r2 = s2 + sign * t2;
        let r3 = s3 + sign * t3;
        workgroupBarrier();
        place(4u * load_row, load_channel, load_tile, r0 - r2);
        place(4u * load_row + 1u, load_channel, load_tile, r1 + r2);
        place(4u * load_row + 2u, load_channel, load_tile, r2 - r1);
        place(4u * load_row + 3u, load_channel, load_tile, r1 - r3);
        room[HALF + thread] = w0;
        room[HALF + THREADS + thread] = w1;
        room[HALF + 2u * THREADS + thread] = w2;
        room[HALF + 3u * THREADS + thread] = w3;
        workgroupBarrier();
        for (var channel = 0u; channel < DEPTH; channel = channel + 1u) {
            let at = (product * DEPTH + channel) * WIDE;
            let exchanged = thread_row ^ (channel & 4u);
            let u = room[at + exchanged];
            let v = room[at + (exchanged ^ 4u)];
            let p = room[HALF + at + thread_column];
            let q = room[HALF + at + thread_column + 4u];
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

    // A tile's 16 products come together, for one half of the columns after the other.
    let own = (product * 32u + 4u * thread_row) * 4u + thread_column;
    workgroupBarrier();
    room[own] = a0; room[own + 4u] = a1; room[own + 8u] = a2; room[own + 12u] = a3;
    room[own + 64u] = a4; room[own + 68u] = a5; room[own + 72u] = a6; room[own + 76u] = a7;
    workgroupBarrier();
    results(thread, group, 0u);
    workgroupBarrier();
    room[own] = b0; room[own + 4u] = b1; room[own + 8u] = b2; room[own + 12u] = b3;
    room[own + 64u] = b4; room[own + 68u] = b5; room[own + 72u] = b6; room[own + 76u] = b7;
    workgroupBarrier();
    results(thread, group, 1u);
}
