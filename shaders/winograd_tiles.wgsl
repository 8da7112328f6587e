// What winograd_source.wgsl and winograd_gradient.wgsl have in common: where a thread works, at four channels of one tile of two by two
// results, among those of some images from the first on. This text stands before theirs.
//
// Shapes: source [N, H, W, C] in vec4; factors [4*row + column][tile][C] in vec4, one value of each of 16 products.
// Twin: compute::reference::network; launched by compute::gpu. Every tensor is bound read_write: see linf_ascend.wgsl.

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

struct Tile {
    exists: bool,
    // Where its factors of the first product are stored, and how far those of the next.
    index: u32,
    apart: u32,
    image: u32,
    // The place of its first result.
    place: vec2<u32>,
    quads: u32,
    quad: u32,
}

fn tile_of(index: u32) -> Tile {
    let quads = parameters.channels / 4u;
    let tile = index / quads;
    let inside = tile % (parameters.down * parameters.across);
    return Tile(
        tile < parameters.tiles,
        index,
        parameters.tiles * quads,
        parameters.first_image + tile / (parameters.down * parameters.across),
        vec2<u32>(inside / parameters.across, inside % parameters.across) * 2u,
        quads,
        index % quads,
    );
}

