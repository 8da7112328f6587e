//! What a network computes, step by step: the one description that the processor's program, the GPU's kernels and the
//! reference in composed operations all carry out.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::shapes::ImageShape;

/// One of the values that a network computes: 0 is the images, every step makes the next.
pub type Value = usize;

/// One step. Weights are named by where they begin in the flat vector of parameters; they lie in PyTorch's layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// `y[o] = Σ_i w[o, i] ⋆ x[i] + b[o]`, weights `[out, in, kh, kw]`. A linear layer is one whose kernel is as large as its
    /// input, whose features PyTorch flattens in the same order.
    Convolution {
        /// What it reads.
        x: Value,
        /// Where its weights begin.
        weight: usize,
        /// Where its bias begins.
        bias: Option<usize>,
        /// Rows and columns of the kernel.
        kernel: [usize; 2],
        /// From one position to the next.
        stride: usize,
        /// Zeros round the input.
        padding: usize,
    },
    /// `γ·(x − μ)/√(σ² + ε) + β` for each channel.
    BatchNorm {
        /// What it reads.
        x: Value,
        /// Its number, in the order of the network.
        number: usize,
    },
    /// `max(x, 0)`.
    Relu {
        /// What it reads.
        x: Value,
    },
    /// The highest of each 2×2 places; an odd last row or column is left out.
    MaxPool {
        /// What it reads.
        x: Value,
    },
    /// The mean over each channel's places.
    GlobalAverage {
        /// What it reads.
        x: Value,
    },
    /// `x + y`.
    Add {
        /// What it reads.
        x: Value,
        /// And what it adds.
        y: Value,
    },
    /// Each value times its factor, which a training pass draws and an evaluation does not have.
    Dropout {
        /// What it reads.
        x: Value,
        /// Its number, in the order of the network.
        number: usize,
    },
}

impl Step {
    /// What it reads.
    pub fn inputs(&self) -> impl Iterator<Item = Value> {
        let (x, y) = match *self {
            Self::Add { x, y } => (x, Some(y)),
            Self::Convolution { x, .. }
            | Self::BatchNorm { x, .. }
            | Self::Relu { x }
            | Self::MaxPool { x }
            | Self::GlobalAverage { x }
            | Self::Dropout { x, .. } => (x, None),
        };
        std::iter::once(x).chain(y)
    }
}

/// Where one BatchNorm's numbers lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Norm {
    /// Channels.
    pub channels: usize,
    /// Where γ begins in the parameters.
    pub weight: usize,
    /// Where β begins in the parameters.
    pub bias: usize,
    /// Where the running mean begins in the statistics; the running variance follows.
    pub statistics: usize,
}

impl Norm {
    /// The running mean's places.
    pub fn mean(&self) -> Range<usize> {
        self.statistics..self.statistics + self.channels
    }

    /// The running variance's places.
    pub fn variance(&self) -> Range<usize> {
        self.statistics + self.channels..self.statistics + 2 * self.channels
    }
}

/// What BatchNorm adds to a variance before its root: PyTorch's default.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;
/// By what share running statistics move towards a batch's: PyTorch's default.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// A network as a list of steps. The last one's value are the logits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Graph {
    steps: Vec<Step>,
    shapes: Vec<ImageShape>,
    norms: Vec<Norm>,
    /// Values of each dropout's input.
    dropouts: Vec<usize>,
}

impl Graph {
    /// A network of `input` that does nothing yet.
    pub fn new(input: ImageShape) -> Self {
        Self {
            shapes: vec![input],
            ..Self::default()
        }
    }

    fn push(&mut self, step: Step, shape: ImageShape) -> Value {
        self.steps.push(step);
        self.shapes.push(shape);
        self.shapes.len() - 1
    }

    /// Adds a convolution and gives its value.
    pub fn convolution(
        &mut self,
        x: Value,
        outputs: usize,
        (weight, bias): (usize, Option<usize>),
        kernel: [usize; 2],
        stride: usize,
        padding: usize,
    ) -> Value {
        let along = |side: usize, kernel: usize| (side + 2 * padding - kernel) / stride + 1;
        let shape = ImageShape {
            channels: outputs,
            height: along(self.shapes[x].height, kernel[0]),
            width: along(self.shapes[x].width, kernel[1]),
        };
        let step = Step::Convolution {
            x,
            weight,
            bias,
            kernel,
            stride,
            padding,
        };
        self.push(step, shape)
    }

    /// Adds a BatchNorm, whose parameters begin at `weight` and `bias`.
    pub fn batch_norm(&mut self, x: Value, weight: usize, bias: usize) -> Value {
        let norm = Norm {
            channels: self.shapes[x].channels,
            weight,
            bias,
            statistics: self.statistics(),
        };
        let number = self.norms.len();
        self.norms.push(norm);
        self.push(Step::BatchNorm { x, number }, self.shapes[x])
    }

    /// Adds a ReLU.
    pub fn relu(&mut self, x: Value) -> Value {
        self.push(Step::Relu { x }, self.shapes[x])
    }

    /// Adds a max-pool.
    pub fn max_pool(&mut self, x: Value) -> Value {
        let shape = self.shapes[x];
        let halved = ImageShape {
            height: shape.height / 2,
            width: shape.width / 2,
            ..shape
        };
        self.push(Step::MaxPool { x }, halved)
    }

    /// Adds a mean over each channel.
    pub fn global_average(&mut self, x: Value) -> Value {
        let mean = ImageShape {
            height: 1,
            width: 1,
            ..self.shapes[x]
        };
        self.push(Step::GlobalAverage { x }, mean)
    }

    /// Adds a sum.
    pub fn add(&mut self, x: Value, y: Value) -> Value {
        self.push(Step::Add { x, y }, self.shapes[x])
    }

    /// Adds a dropout.
    pub fn dropout(&mut self, x: Value) -> Value {
        let number = self.dropouts.len();
        self.dropouts.push(self.shapes[x].len());
        self.push(Step::Dropout { x, number }, self.shapes[x])
    }

    /// The steps in order; step `n` makes value `n + 1`.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The shape of a value.
    pub fn shape(&self, value: Value) -> ImageShape {
        self.shapes[value]
    }

    /// The shape of the images.
    pub fn input(&self) -> ImageShape {
        self.shapes[0]
    }

    /// The value that the logits are.
    pub fn output(&self) -> Value {
        self.shapes.len() - 1
    }

    /// Classes.
    pub fn classes(&self) -> usize {
        self.shapes[self.output()].len()
    }

    /// BatchNorms in order.
    pub fn norms(&self) -> &[Norm] {
        &self.norms
    }

    /// Places of one example that a channel of a BatchNorm has, of the BatchNorm that has the fewest.
    pub fn fewest_normalised(&self) -> Option<usize> {
        let places = self.steps.iter().filter_map(|step| match step {
            Step::BatchNorm { x, .. } => Some(self.shapes[*x].height * self.shapes[*x].width),
            _ => None,
        });
        places.min()
    }

    /// Values of one example at each dropout.
    pub fn dropouts(&self) -> &[usize] {
        &self.dropouts
    }

    /// Running means and variances in all.
    pub fn statistics(&self) -> usize {
        self.norms.iter().map(|norm| 2 * norm.channels).sum()
    }

    /// How many parameters it reads, where it is a network as the methods above make one; `None` where a step names what is not there
    /// or a shape is not what the step gives. For graphs that come from elsewhere: whoever carries one out trusts it.
    pub fn check(&self) -> Option<usize> {
        /// More than any side, kernel or number of channels of a network that a device can hold.
        const MOST: usize = 1 << 16;
        let small = |numbers: &[usize]| numbers.iter().all(|number| *number <= MOST);
        let mut again = Self::new(*self.shapes.first()?);
        let mut reads = 0_usize;
        if self.shapes.len() != self.steps.len() + 1 {
            return None;
        }
        for (step, shape) in self.steps.iter().zip(&self.shapes[1..]) {
            let sides = [shape.channels, shape.height, shape.width];
            if step.inputs().any(|value| value >= again.shapes.len()) || sides.contains(&0) || !small(&sides) {
                return None;
            }
            match *step {
                Step::Convolution {
                    x,
                    weight,
                    bias,
                    kernel,
                    stride,
                    padding,
                } => {
                    let input = again.shapes[x];
                    let numbers = [kernel[0], kernel[1], stride, padding];
                    let reaches = kernel[0] <= input.height + 2 * padding && kernel[1] <= input.width + 2 * padding;
                    if !small(&numbers) || numbers[..3].contains(&0) || !reaches {
                        return None;
                    }
                    let weights = [shape.channels, input.channels, kernel[0], kernel[1]];
                    let count = weights.iter().try_fold(1_usize, |all, side| all.checked_mul(*side))?;
                    reads = reads.max(weight.checked_add(count)?);
                    if let Some(bias) = bias {
                        reads = reads.max(bias.checked_add(shape.channels)?);
                    }
                    again.convolution(x, shape.channels, (weight, bias), kernel, stride, padding);
                }
                Step::BatchNorm { x, number } => {
                    let norm = self.norms.get(number)?;
                    for first in [norm.weight, norm.bias] {
                        reads = reads.max(first.checked_add(shape.channels)?);
                    }
                    again.batch_norm(x, norm.weight, norm.bias);
                }
                Step::Relu { x } => _ = again.relu(x),
                Step::MaxPool { x } => _ = again.max_pool(x),
                Step::GlobalAverage { x } => _ = again.global_average(x),
                Step::Add { x, y } if again.shapes[x] == again.shapes[y] => _ = again.add(x, y),
                Step::Add { .. } => return None,
                Step::Dropout { x, .. } => _ = again.dropout(x),
            }
        }
        (again == *self && !self.steps.is_empty()).then_some(reads)
    }

    /// How often each value is read.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.shapes.len()];
        for value in self.steps.iter().flat_map(Step::inputs) {
            uses[value] += 1;
        }
        uses[self.output()] += 1;
        uses
    }
}
