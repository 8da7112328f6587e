//! A network's passes on the processor: the steps of a [`Graph`] joined into stages over blocks of channels.
//!
//! [`Program::compile`] joins what one kernel does: a convolution takes the bias, the BatchNorm of an evaluation, the sum and
//! the ReLU that follow it; [`forward`] runs the stages, keeping on a [`Tape`] what [`backward`] needs: which values a ReLU
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
    graph::{Graph, Step, Value},
};
use crate::shapes::ImageShape;

/// What a stage does before its sum and its ReLU.
#[derive(Debug)]
pub(super) enum Operation {
    /// The first convolution, which reads the images.
    Stem(Stem, Weights),
    /// A convolution or a linear layer.
    Convolution(Convolution, Weights),
    /// A BatchNorm by its number.
    Norm(usize),
    /// A max-pool.
    Pool,
    /// A mean over each channel.
    Average,
    /// A dropout by its number.
    Dropout(usize),
    /// Nothing.
    Identity,
}

/// Where a layer's parameters lie, and the BatchNorm that is folded into them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weights {
    pub weight: usize,
    pub bias: Option<usize>,
    pub norm: Option<usize>,
}

/// A stage of a program.
#[derive(Debug)]
pub(super) struct Stage {
    pub operation: Operation,
    pub input: Value,
    /// Added to the result.
    pub add: Option<Value>,
    pub relu: bool,
    pub output: Value,
}

/// The stages of a network.
#[derive(Debug)]
pub struct Program {
    stages: Vec<Stage>,
    /// How often each value is read by a stage.
    uses: Vec<usize>,
    /// How the values of one image lie.
    extents: Vec<Extent>,
    /// Images that go through all stages together on one thread; `None` where all threads share each stage.
    depth_first: Option<usize>,
}

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

impl Program {
    /// Joins the steps of a network; `None` where it does not begin with a convolution of the images.
    pub(super) fn compile(graph: &Graph, folded: bool) -> Option<Self> {
        let extents: Vec<Extent> = (0..=graph.output()).map(|value| graph.shape(value).into()).collect();
        let mut uses = graph.uses();
        let mut stages: Vec<Stage> = Vec::new();
        // The stage whose result a value is.
        let mut made: Vec<Option<usize>> = vec![None; extents.len()];
        for (number, step) in graph.steps().iter().enumerate() {
            let output = number + 1;
            // The stage that makes a value may take the next step in where nobody else reads its result as it is.
            let open = |value: Value, stages: &[Stage]| {
                made[value].filter(|stage: &usize| uses[value] == 1 && stages[*stage].is_open())
            };
            let joined = match *step {
                Step::BatchNorm { x, number } if folded => open(x, &stages).filter(|stage| stages[*stage].fold(number)),
                Step::Relu { x } => open(x, &stages).inspect(|stage| stages[*stage].relu = true),
                Step::Add { x, y } => {
                    let (first, last) = if made[x] < made[y] { (x, y) } else { (y, x) };
                    open(last, &stages)
                        .filter(|stage| first != last && stages[*stage].add.is_none())
                        .inspect(|stage| stages[*stage].add = Some(first))
                }
                _ => None,
            };
            if let Some(stage) = joined {
                stages[stage].output = output;
                made[output] = Some(stage);
                continue;
            }
            let (operation, input) = match *step {
                Step::Convolution {
                    x,
                    weight,
                    bias,
                    kernel,
                    stride,
                    padding,
                } => {
                    let (weights, outputs) = (
                        Weights {
                            weight,
                            bias,
                            norm: None,
                        },
                        extents[output].channels,
                    );
                    let operation = if x == 0 {
                        Operation::Stem(Stem::new(extents[x], outputs, kernel, stride, padding), weights)
                    } else {
                        let convolution = Convolution::new(extents[x], outputs, kernel, stride, padding);
                        Operation::Convolution(convolution, weights)
                    };
                    (operation, x)
                }
                Step::BatchNorm { x, number } => (Operation::Norm(number), x),
                Step::MaxPool { x } => (Operation::Pool, x),
                Step::GlobalAverage { x } => (Operation::Average, x),
                Step::Dropout { x, number } => (Operation::Dropout(number), x),
                Step::Relu { x } | Step::Add { x, .. } => (Operation::Identity, x),
            };
            if input == 0 && !matches!(operation, Operation::Stem(..)) {
                return None;
            }
            made[output] = Some(stages.len());
            stages.push(Stage {
                operation,
                input,
                add: match *step {
                    Step::Add { y, .. } => Some(y),
                    _ => None,
                },
                relu: matches!(step, Step::Relu { .. }),
                output,
            });
        }
        uses.fill(0);
        for stage in &stages {
            uses[stage.input] += 1;
            if let Some(add) = stage.add {
                uses[add] += 1;
            }
        }
        let reads_images_twice = uses[0] != 1 || stages.iter().any(|stage| stage.add == Some(0));
        let whole = extents.last().is_some_and(|extent| extent.positions() == 1);
        (!reads_images_twice && whole).then(|| {
            let depth_first = depth_first(&stages, &extents);
            Self {
                stages,
                uses,
                extents,
                depth_first,
            }
        })
    }
}

/// Images of a chunk, where a program of such stages is to run depth first.
fn depth_first(stages: &[Stage], extents: &[Extent]) -> Option<usize> {
    let packed: usize = stages
        .iter()
        .map(|stage| match &stage.operation {
            // Winograd's form of a 3×3 kernel has sixteen values.
            Operation::Convolution(convolution, _) => convolution.weights() / 9,
            _ => 0,
        })
        .sum();
    let widest = stages
        .iter()
        .filter(|stage| stage.input != 0)
        .map(|stage| extents[stage.input].image() + extents[stage.output].image())
        .max()?;
    (packed <= LIGHT).then(|| (CHUNK / widest).clamp(1, 16))
}

impl Stage {
    /// Whether a sum or a ReLU can still join it.
    fn is_open(&self) -> bool {
        !self.relu
            && !matches!(
                self.operation,
                Operation::Pool | Operation::Average | Operation::Dropout(_)
            )
    }

    /// Takes a BatchNorm into its weights, where it has some.
    fn fold(&mut self, number: usize) -> bool {
        match &mut self.operation {
            Operation::Stem(_, weights) | Operation::Convolution(_, weights)
                if weights.norm.is_none() && self.add.is_none() =>
            {
                weights.norm = Some(number);
                true
            }
            _ => false,
        }
    }
}
