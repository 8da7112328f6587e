//! A network's passes on a GPU: the stages of a [`Program`] as kernels of `shaders/` in burn's own stream.

mod convolution;
pub(super) mod kernels;
pub(super) mod launch;
mod packing;
mod pass;
#[cfg(test)]
mod tests;
mod winograd;

pub use convolution::{MatrixUnits, Products};
pub use pass::{Cache, Pass, Tape};

use super::stages::Program;

/// Whether this build's compiler takes WGSL, and its tensors have buffers to launch over.
pub const IS_BUILT: bool = cfg!(not(any(feature = "spirv", feature = "fusion")));
