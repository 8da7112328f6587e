//! A network's passes on the processor, over blocks of channels.
//!
//! [`forward`] runs the stages of a [`Program`], keeping on a [`Tape`] what [`backward`] needs: which values a ReLU
//! let through, as bits, and, where weights take gradients, the inputs of their layers. Both walk the stages either over the
//! whole minibatch, every thread at the same stage, or depth first: a few images through all stages on one thread, whose
//! activations then never leave its cache. Small networks are several times faster so; large ones, whose weights are larger
//! than a few images' activations, are not.

mod backward;
mod forward;
mod packed;

pub use forward::{Pass, Tape};
pub use packed::Cache;

use super::{
    blocked::{Convolution, Extent, Stem},
    graph::Value,
    stages::{Layer, Operation, Program},
};
use crate::shapes::ImageShape;

/// Blocks of packed weights up to which a program runs depth first: 4 MiB.
const LIGHT: usize = 1 << 16;
/// Blocks of the activations that a stage of a program run depth first reads and writes: 1 MiB.
const CHUNK: usize = 1 << 14;

impl From<ImageShape> for Extent {
    fn from(shape: ImageShape) -> Self {
        Self {
            channels: shape.channels,
            height: shape.height,
            width: shape.width,
        }
    }
}

impl Layer {
    fn stem(&self) -> Stem {
        Stem::new(
            self.input.into(),
            self.output.channels,
            self.kernel,
            self.stride,
            self.padding,
        )
    }

    fn convolution(&self) -> Convolution {
        Convolution::new(
            self.input.into(),
            self.output.channels,
            self.kernel,
            self.stride,
            self.padding,
        )
    }
}

impl Program {
    /// How a value's activations lie.
    fn extent(&self, value: Value) -> Extent {
        self.shapes[value].into()
    }

    /// Images that go through all stages together on one thread; `None` where all threads share each stage.
    fn chunk(&self, count: usize, threads: usize) -> Option<usize> {
        let packed = self.stages.iter().map(|stage| match &stage.operation {
            // Winograd's form of a 3×3 kernel has sixteen values.
            Operation::Convolution(layer) => layer.weights().len() / 9,
            _ => 0,
        });
        if packed.sum::<usize>() > LIGHT || count < 2 * threads {
            return None;
        }
        let behind_the_stem = self.stages.iter().filter(|stage| stage.input != 0);
        let widest = behind_the_stem
            .map(|stage| self.extent(stage.input).image() + self.extent(stage.output).image())
            .max()?;
        let most = (CHUNK / widest).clamp(1, 16);
        let chunks = count.div_ceil(most).next_multiple_of(threads);
        Some(count.div_ceil(chunks).max(1))
    }
}
