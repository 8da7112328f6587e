//! The steps of a [`Graph`] joined into what one kernel does: a convolution takes the bias, the BatchNorm of an evaluation, the
//! sum and the ReLU that follow it. Every device carries out the same stages, forth and back.

use std::ops::Range;

use super::graph::{Graph, Step, Value};
use crate::shapes::ImageShape;

/// What a stage does before its sum and its ReLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    /// The first convolution, which reads the images.
    Stem(Layer),
    /// A convolution or a linear layer.
    Convolution(Layer),
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

/// A convolution: its shapes, and where its parameters lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layer {
    pub input: ImageShape,
    pub output: ImageShape,
    /// Rows and columns.
    pub kernel: [usize; 2],
    pub stride: usize,
    pub padding: usize,
    /// Where its weights begin, `[out, in, kh, kw]`.
    weight: usize,
    /// Where its bias begins.
    bias: Option<usize>,
    /// The BatchNorm that is folded into it.
    pub norm: Option<usize>,
}

impl Layer {
    /// Places of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// One by itself, its weights first among the parameters and its bias behind them.
    #[cfg(test)]
    pub fn alone(
        input: ImageShape,
        outputs: usize,
        side: usize,
        [stride, padding]: [usize; 2],
        has_bias: bool,
    ) -> Self {
        let after = |length: usize| (length + 2 * padding - side) / stride + 1;
        Self {
            input,
            output: ImageShape {
                channels: outputs,
                height: after(input.height),
                width: after(input.width),
            },
            kernel: [side; 2],
            stride,
            padding,
            weight: 0,
            bias: has_bias.then_some(outputs * input.channels * side * side),
            norm: None,
        }
    }

    /// Its weights' places among the parameters.
    pub fn weights(&self) -> Range<usize> {
        self.weight..self.weight + self.output.channels * self.input.channels * self.taps()
    }

    /// Its bias's places among the parameters.
    pub fn bias(&self) -> Option<Range<usize>> {
        self.bias.map(|bias| bias..bias + self.output.channels)
    }
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
pub(super) struct Program {
    pub stages: Vec<Stage>,
    /// How often each value is read by a stage.
    pub uses: Vec<usize>,
    /// The shape of each value.
    pub shapes: Vec<ImageShape>,
}

impl Program {
    /// Joins the steps of a network; `folded`: BatchNorm into the convolutions before it, and without dropout; `None` where it does not begin with a
    /// convolution of the images.
    pub fn compile(graph: &Graph, folded: bool) -> Option<Self> {
        let shapes: Vec<ImageShape> = (0..=graph.output()).map(|value| graph.shape(value)).collect();
        let mut uses = graph.uses();
        let mut stages: Vec<Stage> = Vec::new();
        // The stage whose result a value is.
        let mut made: Vec<Option<usize>> = vec![None; shapes.len()];
        for (number, step) in graph.steps().iter().enumerate() {
            let output = number + 1;
            // The stage that makes a value may take the next step in where nobody else reads its result as it is.
            let open = |value: Value, stages: &[Stage]| {
                made[value].filter(|stage: &usize| uses[value] == 1 && stages[*stage].is_open())
            };
            let joined = match *step {
                Step::BatchNorm { x, number } if folded => open(x, &stages).filter(|stage| stages[*stage].fold(number)),
                // The stage before it gives what it passes on.
                Step::Dropout { x, .. } if folded => made[x].filter(|_| uses[x] == 1),
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
                    let layer = Layer {
                        input: shapes[x],
                        output: shapes[output],
                        kernel,
                        stride,
                        padding,
                        weight,
                        bias,
                        norm: None,
                    };
                    let operation = if x == 0 {
                        Operation::Stem(layer)
                    } else {
                        Operation::Convolution(layer)
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
        let ends_in_classes = shapes.last().is_some_and(|shape| shape.height * shape.width == 1);
        (!reads_images_twice && ends_in_classes).then_some(Self { stages, uses, shapes })
    }

    /// The last stage's value.
    pub fn output(&self) -> Value {
        self.shapes.len() - 1
    }
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
            Operation::Stem(layer) | Operation::Convolution(layer) if layer.norm.is_none() && self.add.is_none() => {
                layer.norm = Some(number);
                true
            }
            _ => false,
        }
    }
}
