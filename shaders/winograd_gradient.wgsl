// The other factor of the gradient of Winograd's weights (winograd_source.wgsl makes the first): of each tile of two by two results the
// gradient e,
//
//     A e At,  A = 1  0
//                  1  1
//                  1 -1
//                  0 -1
//
// Places outside the image are zeros. Shapes stand in winograd_tiles.wgsl, which stands before this text; its source is the gradient.
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
    let has_below = tile.place.x + 1u < parameters.height;
    let has_right = tile.place.y + 1u < parameters.width;
    let at = ((tile.image * parameters.height + tile.place.x) * parameters.width + tile.place.y) * tile.quads + tile.quad;
    let below = at + parameters.width * tile.quads;

    // Row by row of e.
    let e0 = source[at];
    var e1 = vec4<f32>(); var e2 = vec4<f32>(); var e3 = vec4<f32>();
    if (has_right) { e1 = source[at + tile.quads]; }
    if (has_below) { e2 = source[below]; }
    if (has_right && has_below) { e3 = source[below + tile.quads]; }

    let left = array<vec4<f32>, 4>(e0, e0 + e2, e0 - e2, -e2);
    let right = array<vec4<f32>, 4>(e1, e1 + e3, e1 - e3, -e3);
    let apart = tile.apart;
    for (var y = 0u; y < 4u; y = y + 1u) {
        let target_ = 4u * y * apart + tile.index;
        factors[target_] = left[y];
        factors[target_ + apart] = left[y] + right[y];
        factors[target_ + 2u * apart] = left[y] - right[y];
        factors[target_ + 3u * apart] = -right[y];
    }
}
