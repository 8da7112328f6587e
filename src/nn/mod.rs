//! Networks, modes, weights.
//!
//! A [`Model`] holds plain tensors: as it stands it is a function that takes no gradients, which is what an attack
//! needs. [`Model::tracked`] gives the copy whose weights record them.

mod architecture;
mod layers;
mod resnet;
mod small_cnn;
pub mod weights;
mod wide_resnet;

use std::collections::BTreeMap;

use burn::tensor::{Gradients, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{
    compute::{self, Device, DeviceError},
    random::Rng,
    shapes::{ImageShape, Images, Logits},
};

pub use architecture::{Architecture, UnknownArchitecture};
pub use layers::Role;
pub use weights::{LoadReport, WeightsError};

use layers::{BatchNorm, Builder, Visitor};
use resnet::{Kind, ResNet};
use small_cnn::{SmallCnn, Stack};
use weights::Expected;
use wide_resnet::WideResNet;

/// How BatchNorm and dropout behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Batch statistics, which also move the running ones; dropout drops.
    Train,
    /// Running statistics; dropout does nothing.
    Eval,
}

/// Tensors by PyTorch's name, flattened to `[values]`.
pub type Named = BTreeMap<String, Tensor<1>>;

/// A trained tensor of a model.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// PyTorch's name.
    pub name: String,
    /// Its shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: Role,
    /// Its values, flattened.
    pub values: Tensor<1>,
}

/// A tensor of a state dict on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct StateEntry {
    /// PyTorch's name.
    pub name: String,
    /// Its shape in PyTorch's layout; empty for a counter.
    pub shape: Vec<usize>,
    /// Its values in row-major order.
    pub values: StateValues,
}

/// Values of a [`StateEntry`].
#[derive(Debug, Clone, PartialEq)]
pub enum StateValues {
    /// Parameters and statistics.
    F32(Vec<f32>),
    /// Counters.
    I64(Vec<i64>),
}

/// A network that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The images are too small for the network's pools.
    #[error(
        "{architecture} cannot take images of {input}: its pools leave nothing of them; expected at least {smallest}×{smallest}"
    )]
    InputTooSmall {
        /// The network.
        architecture: Architecture,
        /// What it was to take.
        input: ImageShape,
        /// The smallest side that it takes.
        smallest: usize,
    },
    /// A classifier needs something to choose from.
    #[error("expected at least 2 classes, got {0}; name a data set with more")]
    TooFewClasses(usize),
}

/// A weight that the loss does not depend on.
#[derive(Debug, thiserror::Error)]
#[error(
    "the parameter {0} got no gradient: the loss does not depend on it; this is a fault of the network or the defence"
)]
pub struct MissingGradient(pub String);

#[derive(Debug, Clone)]
enum Network {
    SmallCnn(Box<SmallCnn>),
    Stack(Stack),
    ResNet(ResNet),
    WideResNet(WideResNet),
}

/// A network with its weights.
#[derive(Debug)]
pub struct Model {
    architecture: Architecture,
    input: ImageShape,
    classes: usize,
    network: Network,
}

impl Clone for Model {
    /// An independent snapshot: nothing that happens to one reaches the other.
    fn clone(&self) -> Self {
        let mut copy = self.sharing_copy();
        copy.visit(&mut Unshare);
        if let Network::SmallCnn(network) = &mut copy.network {
            network.dropout.unshare();
        }
        copy
    }
}

impl Model {
    /// A network with first weights drawn from `rng`: PyTorch's defaults, or what the original does.
    ///
    /// # Errors
    /// When the images are too small for the network's pools, or there is nothing to classify.
    pub fn new(
        architecture: Architecture,
        input: ImageShape,
        classes: usize,
        rng: &mut Rng,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let build = &mut Builder {
            rng: Some(rng),
            device: device.tensors(),
        };
        Self::build(architecture, input, classes, build)
    }

    fn build(
        architecture: Architecture,
        input: ImageShape,
        classes: usize,
        build: &mut Builder,
    ) -> Result<Self, ModelError> {
        if classes < 2 {
            return Err(ModelError::TooFewClasses(classes));
        }
        let channels = input.channels;
        let (network, smallest) = match architecture {
            Architecture::SmallCnn => (
                SmallCnn::new(input, classes, build).map(|network| Network::SmallCnn(Box::new(network))),
                SmallCnn::SMALLEST,
            ),
            Architecture::DynamicCnn => (Stack::dynamic_cnn(input, classes, build).map(Network::Stack), 4),
            Architecture::Cnn8 => (Stack::cnn8(input, classes, build).map(Network::Stack), 8),
            Architecture::ResNet18 => (
                Some(Network::ResNet(ResNet::new(
                    Kind::Basic,
                    [2; 4],
                    channels,
                    classes,
                    build,
                ))),
                1,
            ),
            Architecture::ResNet50 => (
                Some(Network::ResNet(ResNet::new(
                    Kind::Bottleneck,
                    [3, 4, 6, 3],
                    channels,
                    classes,
                    build,
                ))),
                1,
            ),
            Architecture::PreActResNet18 => (
                Some(Network::ResNet(ResNet::new(
                    Kind::PreActivation,
                    [2; 4],
                    channels,
                    classes,
                    build,
                ))),
                1,
            ),
            Architecture::WideResNet { depth, width } => (
                Some(Network::WideResNet(WideResNet::new(
                    depth, width, channels, classes, build,
                ))),
                1,
            ),
        };
        match network {
            Some(network) => Ok(Self {
                architecture,
                input,
                classes,
                network,
            }),
            None => Err(ModelError::InputTooSmall {
                architecture,
                input,
                smallest,
            }),
        }
    }

    /// Class scores of a minibatch.
    ///
    /// # Shapes
    /// `[N, C, H, W]` → `[N, K]`.
    pub fn forward(&self, images: Images, mode: Mode) -> Logits {
        match &self.network {
            Network::SmallCnn(network) => network.forward(images, mode),
            Network::Stack(network) => network.forward(images, mode),
            Network::ResNet(network) => network.forward(images, mode),
            Network::WideResNet(network) => network.forward(images, mode),
        }
    }

    fn visit(&mut self, visitor: &mut impl Visitor) {
        match &mut self.network {
            Network::SmallCnn(network) => network.visit(visitor),
            Network::Stack(network) => network.visit(visitor),
            Network::ResNet(network) => network.visit(visitor),
            Network::WideResNet(network) => network.visit(visitor),
        }
    }

    /// A copy that shares running statistics and dropout's generator.
    fn sharing_copy(&self) -> Self {
        Self {
            architecture: self.architecture,
            input: self.input,
            classes: self.classes,
            network: self.network.clone(),
        }
    }

    /// The same weights as leaves that record gradients. It shares the running statistics: a training pass through it
    /// moves this model's.
    pub fn tracked(&self) -> Self {
        let mut copy = self.sharing_copy();
        copy.visit(&mut Track);
        copy
    }

    /// A copy with the parameters that `values` names in the place of its own. It shares the running statistics: a
    /// training pass through it moves this model's.
    pub fn with_parameters(&self, values: &Named) -> Self {
        let mut copy = self.sharing_copy();
        copy.set_parameters(values);
        copy
    }

    /// Moves parameters and running statistics towards `other`'s: `w ← d·w + (1 − d)·w'`; counters become `other`'s.
    pub fn average_in(&mut self, other: &Self, decay: f64) {
        let mut list = ListTensors(Named::new(), BTreeMap::new());
        other.sharing_copy().visit(&mut list);
        self.visit(&mut Blend(list, decay));
    }

    /// Takes the gradients of a tracked model's parameters out of a backward pass.
    ///
    /// # Errors
    /// [`MissingGradient`] names the first parameter without one.
    pub fn gradients(&self, gradients: &mut Gradients) -> Result<Named, MissingGradient> {
        let mut collect = CollectGradients {
            gradients,
            found: Named::new(),
            missing: None,
        };
        self.sharing_copy().visit(&mut collect);
        match collect.missing {
            Some(name) => Err(MissingGradient(name)),
            None => Ok(collect.found),
        }
    }

    /// Every parameter in the order of PyTorch's state dict.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut list = ListParameters(Vec::new());
        self.sharing_copy().visit(&mut list);
        list.0
    }

    /// Replaces the parameters that `values` names; their sizes must be right.
    pub fn set_parameters(&mut self, values: &Named) {
        self.visit(&mut SetParameters(values));
    }

    /// The number of trained values.
    pub fn parameter_count(&self) -> usize {
        self.parameters()
            .iter()
            .map(|parameter| parameter.shape.iter().product::<usize>())
            .sum()
    }

    /// The names and shapes of the state dict, without reading a value from the device.
    fn expected_tensors(&self) -> Vec<Expected> {
        let mut list = ListExpected(Vec::new());
        self.sharing_copy().visit(&mut list);
        list.0
    }

    /// Every parameter and buffer on the host, under PyTorch's names, in its layout and order. This is a sync point.
    ///
    /// # Errors
    /// When the device failed.
    pub fn state(&self) -> Result<Vec<StateEntry>, DeviceError> {
        let mut read = ReadState {
            entries: Vec::new(),
            error: None,
        };
        self.sharing_copy().visit(&mut read);
        match read.error {
            Some(error) => Err(error),
            None => Ok(read.entries),
        }
    }

    /// Replaces parameters and buffers by a state dict.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape; the model is then unchanged.
    pub fn load_state(&mut self, entries: Vec<StateEntry>) -> Result<LoadReport, WeightsError> {
        weights::load_state(self, entries)
    }

    /// The network.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The shape of its images.
    pub fn input(&self) -> ImageShape {
        self.input
    }

    /// Sets what dropout draws next.
    pub fn seed_dropout(&self, seed: u64) {
        if let Network::SmallCnn(network) = &self.network {
            network.dropout.seed(seed);
        }
    }

    /// Takes dropout out, for comparisons that must be exact.
    pub fn without_dropout(mut self) -> Self {
        if let Network::SmallCnn(network) = &mut self.network {
            network.dropout.rate = 0.0;
        }
        self
    }

    /// A copy for evaluation alone: each BatchNorm that follows a convolution is folded into it. The same function up
    /// to rounding, with fewer passes over memory.
    pub fn inference(&self) -> Self {
        let mut copy = self.clone();
        match &mut copy.network {
            Network::SmallCnn(_) => {}
            Network::Stack(network) => network.fold(),
            Network::ResNet(network) => network.fold(),
            Network::WideResNet(network) => network.fold(),
        }
        copy
    }
}

struct Unshare;

impl Visitor for Unshare {
    fn parameter<const D: usize>(&mut self, _: String, _: Role, _: &mut Tensor<D>) {}
    fn statistics(&mut self, _: &str, norm: &mut BatchNorm) {
        norm.unshare();
    }
}

struct Track;

impl Visitor for Track {
    fn parameter<const D: usize>(&mut self, _: String, _: Role, tensor: &mut Tensor<D>) {
        *tensor = tensor.clone().autodiff().require_grad();
    }
    fn statistics(&mut self, _: &str, _: &mut BatchNorm) {}
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let values = tensor.shape().num_elements();
    tensor.reshape([values])
}

struct CollectGradients<'a> {
    gradients: &'a mut Gradients,
    found: Named,
    missing: Option<String>,
}

impl Visitor for CollectGradients<'_> {
    fn parameter<const D: usize>(&mut self, name: String, _: Role, tensor: &mut Tensor<D>) {
        match tensor.grad_remove(self.gradients) {
            Some(gradient) => {
                self.found.insert(name, flat(gradient));
            }
            None => {
                self.missing.get_or_insert(name);
            }
        }
    }
    fn statistics(&mut self, _: &str, _: &mut BatchNorm) {}
}

struct ListParameters(Vec<Parameter>);

impl Visitor for ListParameters {
    fn parameter<const D: usize>(&mut self, name: String, role: Role, tensor: &mut Tensor<D>) {
        self.0.push(Parameter {
            name,
            shape: tensor.dims().to_vec(),
            role,
            values: flat(tensor.clone().inner()),
        });
    }
    fn statistics(&mut self, _: &str, _: &mut BatchNorm) {}
}

/// Parameters and running statistics, and the counters of batches seen.
struct ListTensors(Named, BTreeMap<String, i64>);

impl Visitor for ListTensors {
    fn parameter<const D: usize>(&mut self, name: String, _: Role, tensor: &mut Tensor<D>) {
        self.0.insert(name, flat(tensor.clone().inner()));
    }
    fn statistics(&mut self, name: &str, norm: &mut BatchNorm) {
        let running = norm.running().clone();
        self.0.insert(format!("{name}.running_mean"), running.mean);
        self.0.insert(format!("{name}.running_var"), running.variance);
        self.1.insert(name.to_string(), running.batches);
    }
}

struct Blend(ListTensors, f64);

impl Blend {
    fn blend<const D: usize>(&self, name: &str, tensor: &mut Tensor<D>) {
        if let Some(other) = self.0.0.get(name) {
            let other = other.clone().reshape(tensor.dims());
            *tensor = tensor.clone() * self.1 + other * (1.0 - self.1);
        }
    }
}

impl Visitor for Blend {
    fn parameter<const D: usize>(&mut self, name: String, _: Role, tensor: &mut Tensor<D>) {
        self.blend(&name, tensor);
    }
    fn statistics(&mut self, name: &str, norm: &mut BatchNorm) {
        let mut running = norm.running();
        self.blend(&format!("{name}.running_mean"), &mut running.mean);
        self.blend(&format!("{name}.running_var"), &mut running.variance);
        running.batches = self.0.1.get(name).copied().unwrap_or(running.batches);
    }
}

struct SetParameters<'a>(&'a Named);

impl Visitor for SetParameters<'_> {
    fn parameter<const D: usize>(&mut self, name: String, _: Role, tensor: &mut Tensor<D>) {
        if let Some(values) = self.0.get(&name) {
            *tensor = values.clone().reshape(tensor.dims());
        }
    }
    fn statistics(&mut self, _: &str, _: &mut BatchNorm) {}
}

struct ListExpected(Vec<Expected>);

impl Visitor for ListExpected {
    fn parameter<const D: usize>(&mut self, name: String, _: Role, tensor: &mut Tensor<D>) {
        self.0.push(Expected {
            name,
            shape: tensor.dims().to_vec(),
        });
    }
    fn statistics(&mut self, name: &str, norm: &mut BatchNorm) {
        let channels = norm.weight.dims().to_vec();
        for (buffer, shape) in [
            ("running_mean", channels.clone()),
            ("running_var", channels),
            ("num_batches_tracked", Vec::new()),
        ] {
            self.0.push(Expected {
                name: format!("{name}.{buffer}"),
                shape,
            });
        }
    }
}

struct ReadState {
    entries: Vec<StateEntry>,
    error: Option<DeviceError>,
}

impl ReadState {
    fn push<const D: usize>(&mut self, name: String, tensor: Tensor<D>) {
        let shape = tensor.dims().to_vec();
        match compute::read(tensor) {
            Ok(values) => self.entries.push(StateEntry {
                name,
                shape,
                values: StateValues::F32(values),
            }),
            Err(error) => {
                self.error.get_or_insert(error);
            }
        }
    }
}

impl Visitor for ReadState {
    fn parameter<const D: usize>(&mut self, name: String, _: Role, tensor: &mut Tensor<D>) {
        self.push(name, tensor.clone());
    }
    fn statistics(&mut self, name: &str, norm: &mut BatchNorm) {
        let running = norm.running().clone();
        self.push(format!("{name}.running_mean"), running.mean);
        self.push(format!("{name}.running_var"), running.variance);
        let (name, values) = (
            format!("{name}.num_batches_tracked"),
            StateValues::I64(vec![running.batches]),
        );
        self.entries.push(StateEntry {
            name,
            shape: Vec::new(),
            values,
        });
    }
}

/// Writes a whole, checked state into a model.
struct WriteState<'a>(&'a BTreeMap<String, StateValues>);

impl WriteState<'_> {
    fn put<const D: usize>(&self, name: &str, tensor: &mut Tensor<D>) {
        if let Some(StateValues::F32(values)) = self.0.get(name) {
            *tensor = Tensor::from_data(TensorData::new(values.clone(), tensor.dims()), &tensor.device());
        }
    }
}

impl Visitor for WriteState<'_> {
    fn parameter<const D: usize>(&mut self, name: String, _: Role, tensor: &mut Tensor<D>) {
        self.put(&name, tensor);
    }
    fn statistics(&mut self, name: &str, norm: &mut BatchNorm) {
        let mut running = norm.running();
        self.put(&format!("{name}.running_mean"), &mut running.mean);
        self.put(&format!("{name}.running_var"), &mut running.variance);
        if let Some(StateValues::I64(values)) = self.0.get(&format!("{name}.num_batches_tracked")) {
            running.batches = values.first().copied().unwrap_or(0);
        }
    }
}
