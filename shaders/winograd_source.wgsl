// One factor of the gradient of Winograd's weights (winograd_gradient.wgsl makes the other): of each tile the 4 by 4 places d that two by two
// results of a 3x3 convolution read,
//
//     Bt d B   (B stands in winograd.wgsl)        one value of each of 16 products: factors[4*row + column][tile][c]
//
// for the tiles of some images from the first on. Tiles lie two places apart; places outside the image are zeros.
// Shapes: source [N, H, W, C] in vec4. Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write:
// see linf_ascend.wgsl.

struct Parameters {
    // Tiles, and those of an image.
    tiles: u32,
    down: u32,
    across: u32,
    first_image: u32,
    height: u32,
    width: u32,
    channels: u32,
    padding: u32,
}

@group(0) @binding(0) var<storage, read_write> source: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> factors: array<vec4<f32>>;
@group(0) @binding(2) var<uniform> parameters: Parameters;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (group.y * groups.x + group.x) * 64u + lane;
    let quads = parameters.channels / 4u;
    let tile = index / quads;
    let quad = index % quads;
    if (tile >= parameters.tiles) {
        return;
    }
    let image = parameters.first_image + tile / (parameters.down * parameters.across);
    let inside = tile % (parameters.down * parameters.across);
    let corner = vec2<i32>(i32(inside / parameters.across), i32(inside % parameters.across)) * 2 - i32(parameters.padding);

    // Column by column d, then Bt d.
    var rows: array<array<vec4<f32>, 4>, 4>;
    for (var x = 0; x < 4; x = x + 1) {
        var d: array<vec4<f32>, 4>;
        for (var y = 0; y < 4; y = y + 1) {
            let at = corner + vec2<i32>(y, x);
            if (at.x >= 0 && at.x < i32(parameters.height) && at.y >= 0 && at.y < i32(parameters.width)) {
                d[y] = source[((image * parameters.height + u32(at.x)) * parameters.width + u32(at.y)) * quads + quad];
            }
        }
        rows[0][x] = d[0] - d[2];
        rows[1][x] = d[1] + d[2];
        rows[2][x] = d[2] - d[1];
        rows[3][x] = d[1] - d[3];
    }
    let apart = parameters.tiles * quads;
    for (var y = 0u; y < 4u; y = y + 1u) {
        let at = 4u * y * apart + index;
        factors[at] = rows[y][0] - rows[y][2];
        factors[at + apart] = rows[y][1] + rows[y][2];
        factors[at + 2u * apart] = rows[y][2] - rows[y][1];
        factors[at + 3u * apart] = rows[y][1] - rows[y][3];
    }
}
