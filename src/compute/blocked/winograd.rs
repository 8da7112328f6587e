//! Packing for Winograd's F(2×2, 3×3): sixteen products give four results of a 3×3 kernel, where thirty-six are usual.
//!
//! For one tile `d` of 4×4 inputs and a kernel `g`: `y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A`. The gradient of `g` is the adjoint,
//! `Gᵀ[(Bᵀ d B) ⊙ (A y Aᵀ)]G`. All of A and B are 0 and ±1, so the transforms only add, and rounding stays that of the
//! direct form.
//!
//! # Source
//! Lavin and Gray 2016, section 4.1.

use std::ops::Range;

use super::{Extent, direct::Spots};
use crate::compute::vector::{Block, Simd};

/// Products of a tile.
pub const PRODUCTS: usize = 16;

/// The 4×4 tiles of a padded input, two apart in each direction.
#[derive(Debug, Clone, Copy)]
pub struct Tiles {
    /// The input.
    pub source: Extent,
    /// Zeros round it.
    pub padding: usize,
    /// Rows and columns of the result.
    pub result: [usize; 2],
}

impl Tiles {
    /// Rows and columns of tiles in an image.
    pub fn grid(&self) -> [usize; 2] {
        self.result.map(|side| side.div_ceil(2))
    }

    /// Packs `Bᵀ d B` of the blocks `chosen` of channels of some tiles as `[block]` panels of a block a tile, the panels of
    /// each product `apart` from the next's.
    #[inline(always)]
    pub fn pack<S: Simd>(
        &self,
        simd: S,
        source: &[Block],
        chosen: Range<usize>,
        spots: &Spots,
        (panels, apart): (&mut [Block], usize),
    ) {
        let (Extent { height, width, .. }, blocks) = (self.source, self.source.blocks());
        let (area, count) = (height * width, spots.get().len());
        assert!(panels.len() >= (PRODUCTS - 1) * apart + chosen.len() * count);
        for (row, spot) in spots.get().iter().enumerate() {
            let (top, left) = (2 * spot.y, 2 * spot.x);
            let inside = top >= self.padding
                && left >= self.padding
                && top + 4 <= height + self.padding
                && left + 4 <= width + self.padding;
            for (number, block) in chosen.clone().enumerate() {
                let plane = &source[(spot.image * blocks + block) * area..][..area];
                let mut halfway = [[simd.splat(0.0); 4]; 4];
                if inside {
                    let corner = (top - self.padding) * width + left - self.padding;
                    assert!(corner + 3 * width + 4 <= area);
                    for x in 0..4 {
                        let mut column = [simd.splat(0.0); 4];
                        for (y, lanes) in column.iter_mut().enumerate() {
                            // SAFETY: at most corner + 3·width + 3, inside as asserted.
                            *lanes = simd.load(unsafe { plane.get_unchecked(corner + y * width + x) });
                        }
                        let column = spread(simd, column);
                        for (line, lanes) in halfway.iter_mut().zip(column) {
                            line[x] = lanes;
                        }
                    }
                } else {
                    for x in 0..4 {
                        let mut column = [simd.splat(0.0); 4];
                        let from = (left + x).wrapping_sub(self.padding);
                        for (y, lanes) in column.iter_mut().enumerate() {
                            let y = (top + y).wrapping_sub(self.padding);
                            if y < height && from < width {
                                *lanes = simd.load(&plane[y * width + from]);
                            }
                        }
                        let column = spread(simd, column);
                        for (line, lanes) in halfway.iter_mut().zip(column) {
                            line[x] = lanes;
                        }
                    }
                }
                let mut place = number * count + row;
                for line in halfway {
                    for lanes in spread(simd, line) {
                        // SAFETY: less than 15·apart + chosen·count, inside as asserted.
                        simd.store(unsafe { panels.get_unchecked_mut(place) }, lanes);
                        place += apart;
                    }
                }
            }
        }
    }

    /// Packs `A y Aᵀ` of the results' gradients in the blocks of channels `block..block + outputs` as `[block]` panels of a
    /// block a tile, those of each product `apart` from the next's; and adds the gradients themselves to `totals`.
    #[inline(always)]
    pub fn pack_gradient<S: Simd>(
        &self,
        simd: S,
        gradient: &[Block],
        (blocks, block, outputs): (usize, usize, usize),
        spots: &Spots,
        (panels, apart): (&mut [Block], usize),
        totals: &mut [Block],
    ) {
        let ([height, width], count) = (self.result, spots.get().len());
        assert!(panels.len() >= (PRODUCTS - 1) * apart + outputs * count);
        let zero = simd.splat(0.0);
        for (row, spot) in spots.get().iter().enumerate() {
            for output in 0..outputs {
                let plane = &gradient[(spot.image * blocks + block + output) * height * width..][..height * width];
                let mut g = [[zero; 2]; 2];
                for (y, line) in g.iter_mut().enumerate() {
                    for (x, lanes) in line.iter_mut().enumerate() {
                        let (y, x) = (2 * spot.y + y, 2 * spot.x + x);
                        if y < height && x < width {
                            *lanes = simd.load(&plane[y * width + x]);
                        }
                    }
                }
                let total = simd.add(simd.add(g[0][0], g[0][1]), simd.add(g[1][0], g[1][1]));
                let total = simd.add(simd.load(&totals[output]), total);
                simd.store(&mut totals[output], total);
                let columns = [scatter(simd, [g[0][0], g[1][0]]), scatter(simd, [g[0][1], g[1][1]])];
                let mut place = output * count + row;
                for y in 0..4 {
                    for lanes in scatter(simd, [columns[0][y], columns[1][y]]) {
                        // SAFETY: less than 15·apart + outputs·count, inside as asserted.
                        simd.store(unsafe { panels.get_unchecked_mut(place) }, lanes);
                        place += apart;
                    }
                }
            }
        }
    }

    /// `Aᵀ m A` of one tile's products, which lie `apart` blocks from each other.
    #[inline(always)]
    pub fn gather<S: Simd>(simd: S, products: &[Block], apart: usize) -> [[S::Lanes; 2]; 2] {
        assert!(products.len() > (PRODUCTS - 1) * apart);
        // Line by line in memory, and the sums over lines as they come in.
        let mut lines = [[simd.splat(0.0); 2]; 4];
        let mut place = 0;
        for line in &mut lines {
            let mut m = [simd.splat(0.0); 4];
            for lanes in &mut m {
                // SAFETY: at most 15·apart, inside as asserted.
                *lanes = simd.load(unsafe { products.get_unchecked(place) });
                place += apart;
            }
            *line = collect(simd, m);
        }
        let left = collect(simd, [lines[0][0], lines[1][0], lines[2][0], lines[3][0]]);
        let right = collect(simd, [lines[0][1], lines[1][1], lines[2][1], lines[3][1]]);
        [[left[0], right[0]], [left[1], right[1]]]
    }
}

/// `Bᵀ d`.
#[inline(always)]
fn spread<S: Simd>(simd: S, d: [S::Lanes; 4]) -> [S::Lanes; 4] {
    [
        simd.sub(d[0], d[2]),
        simd.add(d[1], d[2]),
        simd.sub(d[2], d[1]),
        simd.sub(d[1], d[3]),
    ]
}

/// `Aᵀ m`.
#[inline(always)]
fn collect<S: Simd>(simd: S, m: [S::Lanes; 4]) -> [S::Lanes; 2] {
    [
        simd.add(simd.add(m[0], m[1]), m[2]),
        simd.sub(simd.sub(m[1], m[2]), m[3]),
    ]
}

/// `A y`.
#[inline(always)]
fn scatter<S: Simd>(simd: S, y: [S::Lanes; 2]) -> [S::Lanes; 4] {
    [
        y[0],
        simd.add(y[0], y[1]),
        simd.sub(y[0], y[1]),
        simd.sub(simd.splat(0.0), y[1]),
    ]
}

/// `G g`.
#[inline(always)]
fn widen<S: Simd>(simd: S, g: [S::Lanes; 3]) -> [S::Lanes; 4] {
    let (half, ends) = (simd.splat(0.5), simd.add(g[0], g[2]));
    [
        g[0],
        simd.mul(half, simd.add(ends, g[1])),
        simd.mul(half, simd.sub(ends, g[1])),
        g[2],
    ]
}

/// `Gᵀ u`.
#[inline(always)]
fn narrow<S: Simd>(simd: S, u: [S::Lanes; 4]) -> [S::Lanes; 3] {
    let half = simd.splat(0.5);
    let sum = simd.mul(half, simd.add(u[1], u[2]));
    let difference = simd.mul(half, simd.sub(u[1], u[2]));
    [simd.add(u[0], sum), difference, simd.add(sum, u[3])]
}

/// `G g Gᵀ` of sixteen kernels at once, one in each lane.
#[inline(always)]
pub fn transform_kernel<S: Simd>(simd: S, g: &[S::Lanes; 9]) -> [S::Lanes; PRODUCTS] {
    let mut columns = [[simd.splat(0.0); 4]; 3];
    for (x, column) in columns.iter_mut().enumerate() {
        *column = widen(simd, [g[x], g[3 + x], g[6 + x]]);
    }
    let mut result = [simd.splat(0.0); PRODUCTS];
    for y in 0..4 {
        let line = widen(simd, [columns[0][y], columns[1][y], columns[2][y]]);
        result[4 * y..4 * y + 4].copy_from_slice(&line);
    }
    result
}

/// `Gᵀ u G` of sixteen kernels at once, one in each lane: the adjoint of [`transform_kernel`].
#[inline(always)]
pub fn untransform_kernel<S: Simd>(simd: S, u: &[S::Lanes; PRODUCTS]) -> [S::Lanes; 9] {
    let mut columns = [[simd.splat(0.0); 3]; 4];
    for (x, column) in columns.iter_mut().enumerate() {
        *column = narrow(simd, [u[x], u[4 + x], u[8 + x], u[12 + x]]);
    }
    let mut result = [simd.splat(0.0); 9];
    for y in 0..3 {
        let line = narrow(simd, [columns[0][y], columns[1][y], columns[2][y], columns[3][y]]);
        result[3 * y..3 * y + 3].copy_from_slice(&line);
    }
    result
}
