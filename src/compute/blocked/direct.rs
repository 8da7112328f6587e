//! Packing for convolutions as they stand: the input under each tap of the kernel, position by position.

use std::ops::Range;

use super::Extent;
use crate::compute::vector::{Block, Simd};

/// Rows that are packed at once at most.
pub const MOST_ROWS: usize = 128;

/// Where a row of a product lies: its image, and its row and column in the grid of positions or tiles.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spot {
    /// Image.
    pub image: usize,
    /// Row.
    pub y: usize,
    /// Column.
    pub x: usize,
}

/// The spots of rows `first..first + count`, counted through all images.
#[derive(Debug, Clone, Copy)]
pub struct Spots([Spot; MOST_ROWS], usize);

impl Spots {
    /// Walks the grid, because a division for each row would cost as much as packing it.
    #[inline(always)]
    pub fn new([height, width]: [usize; 2], first: usize, count: usize) -> Self {
        assert!(count <= MOST_ROWS, "more rows than are packed at once");
        let (image, inside) = (first / (height * width), first % (height * width));
        let (mut image, mut y, mut x) = (image, inside / width, inside % width);
        let mut spots = [Spot::default(); MOST_ROWS];
        for spot in &mut spots[..count] {
            *spot = Spot { image, y, x };
            x += 1;
            if x == width {
                (x, y) = (0, y + 1);
            }
            if y == height {
                (y, image) = (0, image + 1);
            }
        }
        Self(spots, count)
    }

    /// Them, one a row.
    #[inline(always)]
    pub fn get(&self) -> &[Spot] {
        &self.0[..self.1]
    }
}

/// Which blocks of an input the rows of a product are made of: at each position of a grid, those under the taps.
#[derive(Debug, Clone)]
pub struct Sampling {
    /// The input.
    pub source: Extent,
    /// Rows and columns of positions in an image.
    pub grid: [usize; 2],
    /// From one position to the next.
    pub stride: usize,
    /// Where each tap lies from its position.
    pub taps: Vec<[isize; 2]>,
}

impl Sampling {
    /// Panels of the packed rows.
    pub fn depth(&self) -> usize {
        self.source.blocks() * self.taps.len()
    }

    /// Packs the blocks `chosen` of channels at some positions as `[block][tap]` panels of a block a row; what lies outside
    /// the image is zero.
    #[inline(always)]
    pub fn pack<S: Simd>(&self, simd: S, source: &[Block], chosen: Range<usize>, spots: &Spots, panels: &mut [Block]) {
        let (Extent { height, width, .. }, blocks) = (self.source, self.source.blocks());
        let (area, taps, count) = (height * width, self.taps.len(), spots.get().len());
        let zero = simd.splat(0.0);
        for (tap, [down, right]) in self.taps.iter().enumerate() {
            let mut starts = [usize::MAX; MOST_ROWS];
            for (start, spot) in starts.iter_mut().zip(spots.get()) {
                let y = (spot.y * self.stride).wrapping_add_signed(*down);
                let x = (spot.x * self.stride).wrapping_add_signed(*right);
                if y < height && x < width {
                    *start = spot.image * blocks * area + y * width + x;
                }
            }
            for (number, block) in chosen.clone().enumerate() {
                let panel = &mut panels[(number * taps + tap) * count..][..count];
                for (target, start) in panel.iter_mut().zip(&starts) {
                    let lanes = if *start == usize::MAX {
                        zero
                    } else {
                        simd.load(&source[start + block * area])
                    };
                    simd.store(target, lanes);
                }
            }
        }
    }
}
