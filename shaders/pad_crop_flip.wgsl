// Images from bytes: divided by 255, padded with `pad` zeros on every side, cropped back at a placement, mirrored.
//
//     result[n, c, y, x] = padded[n, c, y + dy[n], (flip[n] ? width - 1 - x : x) + dx[n]]
//     padded[n, c, v, u] = bytes[n, c, v - pad, u - pad] / 255 inside the image, else 0
//
// Shapes: `bytes` holds N*C*H*W bytes, four in each word, the first in the lowest bits; `placements` holds N words: dy in
// bits 0..15, dx in bits 15..30, flip in bit 31; `result` holds N*C*H*W values.
// Twin: compute::reference::pad_crop_flip; launched by compute::kernels::pad_crop_flip.
//
// Every tensor is bound read_write: see linf_ascend.wgsl.

struct Parameters {
    channels: u32,
    height: u32,
    width: u32,
    pad: u32,
}

@group(0) @binding(0) var<storage, read_write> bytes: array<u32>;
@group(0) @binding(1) var<storage, read_write> placements: array<u32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<uniform> parameters: Parameters;

// Columns, rows and planes are dimensions of the dispatch, so that no pixel has to divide to find out where it is.
@compute @workgroup_size(32, 8)
fn main(@builtin(global_invocation_id) at: vec3<u32>) {
    let x = at.x;
    let y = at.y;
    let plane = at.z;
    if (x >= parameters.width || y >= parameters.height) {
        return;
    }
    let placement = placements[plane / parameters.channels];
    let dy = placement & 0x7fffu;
    let dx = (placement >> 15u) & 0x7fffu;
    let mirrored = select(x, parameters.width - 1u - x, (placement & 0x80000000u) != 0u);

    // Unsigned: what lies before the image wraps round to a large number and is outside too.
    let from_y = y + dy - parameters.pad;
    let from_x = mirrored + dx - parameters.pad;
    var value = 0.0;
    if (from_y < parameters.height && from_x < parameters.width) {
        let byte = (plane * parameters.height + from_y) * parameters.width + from_x;
        let word = bytes[byte >> 2u];
        // A GPU's division may be off in the last place; 255 must still give 1 and no more.
        value = min(f32((word >> ((byte & 3u) * 8u)) & 0xffu) / 255.0, 1.0);
    }
    result[(plane * parameters.height + y) * parameters.width + x] = value;
}
