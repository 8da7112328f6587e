//! Where the rows of a product come from, and how they are packed.

use std::ops::Range;

use super::{
    direct::{Sampling, Spots},
    winograd::{PRODUCTS, Tiles},
};
use crate::compute::vector::{Block, LANES, Simd};

/// Where the rows of a product come from.
#[derive(Debug, Clone)]
pub(super) enum Rows {
    Tiles(Tiles),
    Sampled(Sampling),
}

impl Rows {
    pub fn products(&self) -> usize {
        match self {
            Self::Tiles(_) => PRODUCTS,
            Self::Sampled(_) => 1,
        }
    }

    pub fn depth(&self) -> usize {
        match self {
            Self::Tiles(tiles) => tiles.source.blocks(),
            Self::Sampled(sampling) => sampling.depth(),
        }
    }

    /// Rows of an image: its tiles or positions.
    pub fn per_image(&self) -> usize {
        let [height, width] = self.grid();
        height * width
    }

    pub fn grid(&self) -> [usize; 2] {
        match self {
            Self::Tiles(tiles) => tiles.grid(),
            Self::Sampled(sampling) => sampling.grid,
        }
    }

    /// Blocks of channels of the source: what can be packed by itself.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Tiles(tiles) => tiles.source.blocks(),
            Self::Sampled(sampling) => sampling.source.blocks(),
        }
    }

    /// Panels of a block of channels.
    pub fn panels(&self) -> usize {
        self.depth() / self.blocks()
    }

    /// Blocks of one product's packed weights for `outputs` blocks of outputs.
    pub fn product(&self, outputs: usize) -> usize {
        apart(self.depth() * LANES * outputs)
    }

    /// Where the packed weights of a pair of blocks of outputs begin.
    pub fn pair(&self, pair: usize) -> usize {
        pair * self.products() * self.product(2)
    }

    /// Blocks of packed weights for `outputs` blocks of outputs.
    pub fn packed(&self, outputs: usize) -> usize {
        self.pair(outputs / 2) + outputs % 2 * self.products() * self.product(1)
    }

    /// Packs some rows of the blocks `chosen` of channels; the panels of one product lie `apart` from those of the next.
    #[inline(always)]
    pub fn pack<S: Simd>(
        &self,
        simd: S,
        source: &[Block],
        chosen: Range<usize>,
        spots: &Spots,
        (panels, apart): (&mut [Block], usize),
    ) {
        match self {
            Self::Tiles(tiles) => tiles.pack(simd, source, chosen, spots, (panels, apart)),
            Self::Sampled(sampling) => sampling.pack(simd, source, chosen, spots, panels),
        }
    }
}

/// The distance between the panels of two products: an odd number of blocks, so that the same place of all sixteen does not
/// fall into one set of the cache.
pub(super) fn apart(blocks: usize) -> usize {
    blocks | 1
}
