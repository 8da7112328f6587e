//! Networks on the processor: kernels over activations in blocks of sixteen channels.
//!
//! Activations lie as `[N][C/16][H][W][16]` ([`Extent`]); channels that fill a block up are zero. Every convolution is
//! the same two products ([`product`]) between ways to pack their operands: rows of positions times weights for results
//! and image gradients, sums of outer products over positions for weight gradients. What is packed is either the
//! input under each tap of the kernel ([`direct`]) or its Winograd transform F(2×2, 3×3) ([`winograd`]), which takes
//! 2.25 times fewer products. Linear layers are convolutions whose kernel is the whole image.
//!
//! Every sum has an order of its own that neither threads nor instruction set change, so results are the same to the bit
//! on one thread and on eight, with AVX2 and with AVX-512. Nothing here knows of tensors or gradients' bookkeeping: that is
//! [`super::processor`].

// Tiles of registers are indexed: the loops unroll whole, and a closure in them would leave the kernel's instruction set.
#![allow(clippy::needless_range_loop)]

mod convolution;
mod direct;
mod memory;
mod multiply;
mod norm;
mod outer;
mod pointwise;
pub mod product;
mod rows;
mod stem;
mod winograd;

pub use convolution::{Convolution, Epilogue, Purpose};
pub use memory::{Buffer, Parts, Pooled, clear_pools};
pub use multiply::Packed;
pub use norm::{Statistics, gradient_sums};
pub use pointwise::{Affine, affine, average, average_back, finish, pool, pool_back, scale_by};
pub use stem::{PackedStem, Stem};

use rayon::prelude::*;

use super::vector::{Instructions, LANES, Task};

/// How the activations of one value lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Channels.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl Extent {
    /// Blocks of channels.
    pub fn blocks(self) -> usize {
        self.channels.div_ceil(LANES)
    }

    /// Positions of a channel.
    pub fn positions(self) -> usize {
        self.height * self.width
    }

    /// What a convolution makes of it.
    pub fn convolved(self, channels: usize, kernel: [usize; 2], stride: usize, padding: usize) -> Self {
        let along = |side: usize, kernel: usize| (side + 2 * padding - kernel) / stride + 1;
        Self {
            channels,
            height: along(self.height, kernel[0]),
            width: along(self.width, kernel[1]),
        }
    }

    /// Blocks of one image.
    pub fn image(self) -> usize {
        self.blocks() * self.positions()
    }
}

/// Who does the parts of a task.
#[derive(Debug, Clone, Copy)]
pub struct Workers {
    /// The instruction set.
    pub instructions: Instructions,
    /// Whether all threads share the parts, or the calling one does them all.
    pub together: bool,
}

impl Workers {
    /// Threads that share the work.
    pub fn threads(self) -> usize {
        if self.together { rayon::current_num_threads() } else { 1 }
    }

    /// Does all parts of a task.
    pub fn run<T: Task>(self, parts: usize, task: &T) {
        if self.together && parts > 1 {
            (0..parts)
                .into_par_iter()
                .with_max_len(1)
                .for_each(|part| self.instructions.run(task, part));
        } else {
            for part in 0..parts {
                self.instructions.run(task, part);
            }
        }
    }
}
