//! Twin of every way to carry a network out: burn's own operations, one a step, in any precision on any device.

use burn::tensor::{
    Tensor, TensorData, activation,
    module::{avg_pool2d, batch_norm_train, conv2d, max_pool2d},
    ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions},
};

use crate::{
    compute::{
        execute::Run,
        graph::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, Graph, Norm, Step},
        together::{Exchange, sum_over_all},
    },
    shapes::{Images, Logits},
};

/// Logits, and running statistics as they are afterwards; see [`crate::compute::execute`].
pub fn network(images: Images, parameters: Tensor<1>, statistics: Tensor<1>, run: &Run) -> (Logits, Tensor<1>) {
    let examples = images.dims()[0];
    let count = examples / run.parts;
    let (mut statistics, mut logits) = (statistics, Vec::new());
    for part in 0..run.parts {
        let mut walk = Walk {
            graph: run.network.graph(),
            parameters: parameters.clone(),
            statistics,
            batch_statistics: run.batch_statistics,
            exchange: run.exchange.as_ref(),
            values: vec![Some(images.clone().narrow(0, part * count, count))],
        };
        for step in run.network.graph().steps() {
            let value = walk.step(step, |number| {
                let factors = run.factors.get(number).filter(|factors| !factors.is_empty())?;
                let values = factors.len() / examples.max(1);
                Some(factors[part * count * values..(part + 1) * count * values].to_vec())
            });
            walk.values.push(Some(value));
        }
        if let Some(Some(value)) = walk.values.pop() {
            logits.push(value.flatten(1, 3));
        }
        statistics = walk.statistics;
    }
    (Tensor::cat(logits, 0), statistics)
}

struct Walk<'a> {
    graph: &'a Graph,
    parameters: Tensor<1>,
    statistics: Tensor<1>,
    batch_statistics: bool,
    exchange: Option<&'a Exchange>,
    values: Vec<Option<Tensor<4>>>,
}

impl Walk<'_> {
    /// Some of the parameters.
    fn taken<const D: usize>(&self, first: usize, shape: [usize; D]) -> Tensor<D> {
        let length = shape.iter().product();
        self.parameters.clone().narrow(0, first, length).reshape(shape)
    }

    fn value(&self, value: usize) -> Tensor<4> {
        let Some(Some(found)) = self.values.get(value) else {
            unreachable!("a step reads what earlier steps made");
        };
        found.clone()
    }

    fn step(&mut self, step: &Step, factors: impl Fn(usize) -> Option<Vec<f32>>) -> Tensor<4> {
        let shape = self.graph.shape(self.values.len());
        match *step {
            Step::Convolution {
                x,
                weight,
                bias,
                kernel,
                stride,
                padding,
            } => {
                let (x, inputs) = (self.value(x), self.graph.shape(x));
                let bias = bias.map(|bias| self.taken(bias, [shape.channels]));
                if kernel == [inputs.height, inputs.width] && padding == 0 {
                    let weight = self.taken(weight, [shape.channels, inputs.len()]);
                    let examples = x.dims()[0];
                    let product = x.flatten::<2>(1, 3).matmul(weight.transpose());
                    let sum = match bias {
                        Some(bias) => product + bias.unsqueeze::<2>(),
                        None => product,
                    };
                    return sum.reshape([examples, shape.channels, 1, 1]);
                }
                let weight = self.taken(weight, [shape.channels, inputs.channels, kernel[0], kernel[1]]);
                conv2d(x, weight, bias, ConvOptions::new([stride; 2], [padding; 2], [1, 1], 1))
            }
            Step::BatchNorm { x, number } => self.batch_norm(x, self.graph.norms()[number]),
            Step::Relu { x } => activation::relu(self.value(x)),
            Step::MaxPool { x } => max_pool2d(self.value(x), MaxPoolOptions::new([2, 2])),
            Step::GlobalAverage { x } => {
                let whole = self.graph.shape(x);
                avg_pool2d(self.value(x), AvgPoolOptions::new([whole.height, whole.width]))
            }
            Step::Add { x, y } => self.value(x) + self.value(y),
            Step::Dropout { x, number } => {
                let x = self.value(x);
                match factors(number) {
                    Some(factors) => {
                        let device = x.device().inner();
                        let factors = Tensor::<4>::from_data(TensorData::new(factors, x.dims()), &device);
                        let dtype = x.dtype();
                        x * factors.cast(dtype)
                    }
                    None => x,
                }
            }
        }
    }

    fn batch_norm(&mut self, x: usize, norm: Norm) -> Tensor<4> {
        let (x, channels) = (self.value(x), norm.channels);
        let [weight, bias] = [norm.weight, norm.bias].map(|first| self.taken(first, [channels]));
        if !self.batch_statistics {
            let [mean, variance] =
                [norm.mean(), norm.variance()].map(|places| self.statistics.clone().narrow(0, places.start, channels));
            let scale = weight / (variance + BATCH_NORM_EPSILON).sqrt();
            let shift = bias - mean * scale.clone();
            return x * scale.reshape([1, channels, 1, 1]) + shift.reshape([1, channels, 1, 1]);
        }
        let [examples, _, height, width] = x.dims();
        let (output, mean, unbiased) = match self.exchange {
            Some(exchange) => normalise_together(x, [weight, bias], exchange),
            None => {
                let count = (examples * height * width) as f64;
                let result = batch_norm_train(x, weight, bias, BATCH_NORM_EPSILON);
                let unbiased = result.variance.inner() * (count / (count - 1.0).max(1.0));
                (result.output, result.mean.inner(), unbiased)
            }
        };
        for (places, new) in [(norm.mean(), mean), (norm.variance(), unbiased)] {
            let old = self.statistics.clone().narrow(0, places.start, channels);
            let moved = old * (1.0 - BATCH_NORM_MOMENTUM) + new * BATCH_NORM_MOMENTUM;
            self.statistics = self.statistics.clone().slice_assign([places], moved);
        }
        output
    }
}

/// A BatchNorm whose mean and variance are those of all processes' images (SyncBatchNorm): its output, the mean, and the unbiased variance.
/// The mean is summed first and the squares round it then, which loses nothing where the mean is large.
fn normalise_together(
    x: Tensor<4>,
    [weight, bias]: [Tensor<1>; 2],
    exchange: &Exchange,
) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let [examples, channels, height, width] = x.dims();
    // The images of a process without a share count for nothing.
    let counts = f64::from(u8::from(exchange.weight() > 0.0));
    let over_places = |values: Tensor<4>| values.sum_dim(0).sum_dim(2).sum_dim(3).reshape([channels]) * counts;
    let spread = |values: Tensor<1>| values.reshape([1, channels, 1, 1]);
    let own = (examples * height * width) as f64 * counts;
    let own = Tensor::<1>::full([1], own, &x.device());
    let sums = sum_over_all(Tensor::cat(vec![over_places(x.clone()), own], 0), exchange);
    let count = sums.clone().narrow(0, channels, 1);
    let mean = sums.narrow(0, 0, channels) / count.clone();
    let centred = x - spread(mean.clone());
    let squares = sum_over_all(over_places(centred.clone() * centred.clone()), exchange);
    let variance = squares.clone() / count.clone();
    let scale = weight / (variance + BATCH_NORM_EPSILON).sqrt();
    let output = centred * spread(scale) + spread(bias);
    let unbiased = squares.inner() / (count.inner() - 1.0).clamp_min(1.0);
    (output, mean.inner(), unbiased)
}
