//! Describes networks: their steps, and the names, places and first values of their parameters.

use burn::tensor::{Tensor, TensorData};

use super::layout::{Layout, Role};
use crate::{
    compute::graph::{Graph, Value},
    random::Rng,
    shapes::ImageShape,
};

/// How first values are drawn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Start {
    /// PyTorch's default: uniform in ±1/√fan_in (`kaiming_uniform_` with a = √5), the bias too.
    Default,
    /// Normal with variance 2/fan_in and a bias of zero (PyTorch's `kaiming_normal_`).
    Kaiming,
    /// Normal with variance 2/fan_out (He et al., 2015).
    He,
    /// Zeros, the bias too.
    Zero,
    /// As the default, with a bias of zero.
    DefaultWithoutBias,
}

/// A convolution short of its input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kernel {
    /// Its side.
    pub side: usize,
    /// From one position to the next.
    pub stride: usize,
    /// Zeros round the input.
    pub padding: usize,
}

/// A network in the making. Layers are added in the order of PyTorch's state dict.
pub(super) struct Build<'a> {
    pub graph: Graph,
    pub layout: Layout,
    /// Without one, values stay zero: enough to see what a network consists of.
    rng: Option<&'a mut Rng>,
    values: Vec<f32>,
    /// Where biases and BatchNorm's parameters begin: behind all weights.
    behind: usize,
}

impl<'a> Build<'a> {
    /// The description of a network and its first parameters; `None` where the network cannot take such images.
    pub fn network(
        input: ImageShape,
        rng: Option<&'a mut Rng>,
        describe: impl Fn(&mut Build) -> Option<Value>,
    ) -> Option<(Graph, Layout, Vec<f32>)> {
        // The first time only counts, because what lies behind the weights begins where they end.
        let mut counted = Build {
            graph: Graph::new(input),
            layout: Layout::default(),
            rng: None,
            values: Vec::new(),
            behind: 0,
        };
        describe(&mut counted)?;
        let behind = counted.layout.weights;
        let mut build = Build {
            graph: Graph::new(input),
            layout: Layout::default(),
            rng,
            values: vec![0.0; counted.layout.parameters()],
            behind,
        };
        describe(&mut build)?;
        Some((build.graph, build.layout, build.values))
    }

    /// The shape of a value.
    pub fn shape(&self, value: Value) -> ImageShape {
        self.graph.shape(value)
    }

    fn place(&mut self, name: String, role: Role, shape: &[usize]) -> usize {
        let behind = self.behind;
        self.layout.add(name, role, shape, behind)
    }

    fn fill(&mut self, first: usize, count: usize, mut draw: impl FnMut(&mut Rng) -> f32) {
        if let Some(rng) = &mut self.rng
            && let Some(values) = self.values.get_mut(first..first + count)
        {
            values.fill_with(|| draw(rng));
        }
    }

    fn layer(&mut self, name: &str, shape: &[usize], bias: bool, start: Start) -> (usize, Option<usize>) {
        let (outputs, fan_in) = (shape[0], shape[1..].iter().product::<usize>());
        let weight = self.place(format!("{name}.weight"), Role::Weight, shape);
        let bound = 1.0 / (fan_in as f32).sqrt();
        match start {
            Start::Zero => {}
            Start::Default | Start::DefaultWithoutBias => {
                self.fill(weight, outputs * fan_in, |rng| rng.uniform(-bound, bound));
            }
            Start::Kaiming | Start::He => {
                let fan = if matches!(start, Start::He) {
                    outputs * fan_in / shape[1]
                } else {
                    fan_in
                };
                let deviation = (2.0 / fan as f32).sqrt();
                self.fill(weight, outputs * fan_in, |rng| rng.normal() * deviation);
            }
        }
        let bias = bias.then(|| {
            let bias = self.place(format!("{name}.bias"), Role::Bias, &[outputs]);
            if matches!(start, Start::Default) {
                self.fill(bias, outputs, |rng| rng.uniform(-bound, bound));
            }
            bias
        });
        (weight, bias)
    }

    /// A convolution with a square kernel.
    pub fn convolution(
        &mut self,
        name: &str,
        x: Value,
        outputs: usize,
        kernel: Kernel,
        bias: bool,
        start: Start,
    ) -> Value {
        let Kernel { side, stride, padding } = kernel;
        let shape = [outputs, self.shape(x).channels, side, side];
        let parameters = self.layer(name, &shape, bias, start);
        self.graph
            .convolution(x, outputs, parameters, [side; 2], stride, padding)
    }

    /// A linear layer of everything that a value holds, in PyTorch's order.
    pub fn linear(&mut self, name: &str, x: Value, outputs: usize, start: Start) -> Value {
        let shape = self.shape(x);
        let parameters = self.layer(name, &[outputs, shape.len()], true, start);
        self.graph
            .convolution(x, outputs, parameters, [shape.height, shape.width], 1, 0)
    }

    /// A BatchNorm: scale 1, shift 0, running mean 0, running variance 1.
    pub fn batch_norm(&mut self, name: &str, x: Value) -> Value {
        let channels = self.shape(x).channels;
        let weight = self.place(format!("{name}.weight"), Role::NormWeight, &[channels]);
        let bias = self.place(format!("{name}.bias"), Role::NormBias, &[channels]);
        self.layout.add_norm(name);
        if let Some(values) = self.values.get_mut(weight..weight + channels) {
            values.fill(1.0);
        }
        self.graph.batch_norm(x, weight, bias)
    }

    /// A BatchNorm and a ReLU.
    pub fn norm_relu(&mut self, name: &str, x: Value) -> Value {
        let x = self.batch_norm(name, x);
        self.graph.relu(x)
    }
}

/// A vector on a device.
pub(super) fn on_device(values: Vec<f32>, device: &burn::tensor::Device) -> Tensor<1> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}
