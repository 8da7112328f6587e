// One factor of the gradient of Winograd's weights (winograd_gradient.wgsl makes the other): of each tile the 4 by 4 places d that two by two
// results of a 3x3 convolution read,
//
//     Bt d B   (B stands in winograd.wgsl)
//
// Places outside the image are zeros. Shapes stand in winograd_tiles.wgsl, which stands before this text.
// Twin: compute::reference::network; launched by compute::gpu.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_of((group.y * groups.x + group.x) * 64u + lane);
    if (!tile.exists) {
        return;
    }
    let corner = vec2<i32>(tile.place) - i32(parameters.padding);

    // Column by column d, then Bt d.
    var rows: array<array<vec4<f32>, 4>, 4>;
    for (var x = 0; x < 4; x = x + 1) {
        var d: array<vec4<f32>, 4>;
        for (var y = 0; y < 4; y = y + 1) {
            let at = corner + vec2<i32>(y, x);
            if (at.x >= 0 && at.x < i32(parameters.height) && at.y >= 0 && at.y < i32(parameters.width)) {
                d[y] = source[((tile.image * parameters.height + u32(at.x)) * parameters.width + u32(at.y)) * tile.quads + tile.quad];
            }
        }
        rows[0][x] = d[0] - d[2];
        rows[1][x] = d[1] + d[2];
        rows[2][x] = d[2] - d[1];
        rows[3][x] = d[1] - d[3];
    }
    let apart = tile.apart;
    for (var y = 0u; y < 4u; y = y + 1u) {
        let at = 4u * y * apart + tile.index;
        factors[at] = rows[y][0] - rows[y][2];
        factors[at + apart] = rows[y][1] + rows[y][2];
        factors[at + 2u * apart] = rows[y][2] - rows[y][1];
        factors[at + 3u * apart] = rows[y][1] - rows[y][3];
    }
}
