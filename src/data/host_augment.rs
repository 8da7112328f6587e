//! STAND-IN for `compute::{Placement, pad_crop_flip}`, on the host, with the same signatures. When `compute` has them,
//! delete this file and let the one `use super::host_augment::` in `augment.rs` name `crate::compute::` instead.

use burn::tensor::{Tensor, TensorData};

use crate::compute::Device;
use crate::shapes::{ImageShape, Images};

/// Where one image is cut out of its zero-padded self, and whether it is mirrored then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Rows from the top of the padded image: `0..=2·pad`.
    pub dy: u32,
    /// Columns from the left of the padded image: `0..=2·pad`.
    pub dx: u32,
    /// Whether the crop is mirrored left to right.
    pub flip: bool,
}

/// Images on the device from bytes on the host, divided by 255, padded with zeros, cropped and mirrored.
pub fn pad_crop_flip(
    images: &[u8],
    shape: ImageShape,
    pad: usize,
    placements: &[Placement],
    device: &Device,
) -> Images {
    let ImageShape {
        channels,
        height,
        width,
    } = shape;
    let mut pixels = Vec::with_capacity(images.len());
    for (image, placement) in images.chunks_exact(shape.len()).zip(placements) {
        let inside = |position: usize, offset: u32, size: usize| {
            (position + offset as usize)
                .checked_sub(pad)
                .filter(|position| *position < size)
        };
        for plane in image.chunks_exact(height * width) {
            for row in 0..height {
                for column in 0..width {
                    let column = if placement.flip { width - 1 - column } else { column };
                    let source = inside(row, placement.dy, height).zip(inside(column, placement.dx, width));
                    let byte = source.map_or(0, |(row, column)| plane[row * width + column]);
                    pixels.push(f32::from(byte) / 255.0);
                }
            }
        }
    }
    Tensor::from_data(
        TensorData::new(pixels, [placements.len(), channels, height, width]),
        device.tensors(),
    )
}
