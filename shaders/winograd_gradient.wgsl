// The other factor of the gradient of Winograd's weights (winograd_source.wgsl makes the first): of each tile of two by two results the
// gradient e,
//
//     A e At,  A = 1  0        one value of each of 16 products: factors[4*row + column][tile][c]
//                  1  1
//                  1 -1
//                  0 -1
//
// for the tiles of some images from the first on; places outside the image are zeros.
// Shapes: gradient [N, H, W, C] in vec4. Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write:
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
}

@group(0) @binding(0) var<storage, read_write> gradient: array<vec4<f32>>;
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
    let corner = vec2<u32>(inside / parameters.across, inside % parameters.across) * 2u;
    let has_below = corner.x + 1u < parameters.height;
    let has_right = corner.y + 1u < parameters.width;
    let at = ((image * parameters.height + corner.x) * parameters.width + corner.y) * quads + quad;
    let below = at + parameters.width * quads;

    // Row by row of e.
    let e0 = gradient[at];
    var e1 = vec4<f32>(); var e2 = vec4<f32>(); var e3 = vec4<f32>();
    if (has_right) { e1 = gradient[at + quads]; }
    if (has_below) { e2 = gradient[below]; }
    if (has_right && has_below) { e3 = gradient[below + quads]; }

    let left = array<vec4<f32>, 4>(e0, e0 + e2, e0 - e2, -e2);
    let right = array<vec4<f32>, 4>(e1, e1 + e3, e1 - e3, -e3);
    let apart = parameters.tiles * quads;
    for (var y = 0u; y < 4u; y = y + 1u) {
        let target_ = 4u * y * apart + index;
        factors[target_] = left[y];
        factors[target_ + apart] = left[y] + right[y];
        factors[target_ + 2u * apart] = left[y] - right[y];
        factors[target_ + 3u * apart] = -right[y];
    }
}
