//! Networks, modes, weights.
//!
//! A [`Model`] is a description of its network and one flat vector of parameters: as it stands it is a function that takes no
//! gradients, which is what an attack needs. [`Model::tracked`] gives the copy whose parameters record them.

mod architecture;
mod beside;
mod build;
mod foreign;
mod layout;
mod mismatch;
mod networks;
mod normalisation;
pub mod onnx;
mod shards;
pub mod weights;

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use burn::tensor::{DType, Gradients, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{
    compute::{self, Device, DeviceError, Exchange, Network, Products, Run},
    random::Rng,
    shapes::{ImageShape, Images, Logits},
};

pub use architecture::{Architecture, UnknownArchitecture};
pub use layout::{Layout, Parameter, Role};
pub use normalisation::{Normalisation, NormalisationError};
pub use weights::{LoadReport, WeightsError};

use build::{Build, on_device};
use layout::{Expected, Holds};

/// How BatchNorm and dropout behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Batch statistics, which also move the running ones; dropout drops.
    Train,
    /// Running statistics; dropout does nothing.
    Eval,
}

/// A value for each parameter, `[parameters]`, in the order of the model's [`Layout`]: parameters, gradients, velocities.
pub type Flat = Tensor<1>;

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

/// A loss that does not depend on the weights.
#[derive(Debug, thiserror::Error)]
#[error("the parameters got no gradient: the loss does not depend on them; this is a fault of the defence")]
pub struct MissingGradient;

/// What a training pass moves beside the parameters.
#[derive(Debug, Clone)]
struct Running {
    /// Means and variances of all BatchNorms, `[statistics]`; the variances are the unbiased ones, as PyTorch keeps them.
    statistics: Tensor<1>,
    /// Batches that each BatchNorm has seen.
    batches: Vec<i64>,
    dropout: Dropout,
    /// The way to the processes that a BatchNorm's statistics are taken with.
    exchange: Option<Exchange>,
    /// How the factors of its convolutions are multiplied.
    products: Products,
}

/// What dropout draws from: seeded anew for each training step, so that a resumed run draws the same.
#[derive(Debug, Clone)]
struct Dropout {
    rng: Rng,
    /// Where a minibatch is a share of a larger one, its rows there and how many those are: it draws for all and takes its own.
    share: Option<(Range<usize>, usize)>,
}

impl Dropout {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng::new(seed),
            share: None,
        }
    }

    /// The factors of so many examples with so many values each.
    fn factors(&mut self, examples: usize, values: usize, rate: f32) -> Vec<f32> {
        let (own, of) = match &self.share {
            Some((rows, of)) if rows.len() == examples => (rows.start * values..rows.end * values, *of),
            _ => (0..examples * values, examples),
        };
        let kept = 1.0 / (1.0 - rate);
        let all = (0..of * values).map(|place| (place, if self.rng.chance(rate) { 0.0 } else { kept }));
        // All are drawn, or the next layer would begin elsewhere.
        all.filter(|(place, _)| own.contains(place))
            .map(|(_, factor)| factor)
            .collect()
    }
}

/// A network with its weights.
#[derive(Debug)]
pub struct Model {
    architecture: Architecture,
    input: ImageShape,
    classes: usize,
    network: Arc<Network>,
    layout: Arc<Layout>,
    parameters: Flat,
    /// Shared with tracked copies until a [`Clone`].
    running: Arc<Mutex<Running>>,
    /// The share of values that a training pass sets to zero where the network drops any.
    dropout_rate: f32,
    /// What is done to images before the network, where its file says so.
    normalisation: Option<Arc<Normalisation>>,
    /// Whether nobody said what is to be done to images: neither the file of another program that the weights are of, nor a person.
    unsaid: bool,
}

/// The share of values that small-cnn drops.
const DROPOUT: f32 = 0.5;

impl Clone for Model {
    /// An independent snapshot: nothing that happens to one reaches the other.
    fn clone(&self) -> Self {
        let mut copy = self.sharing_copy();
        copy.running = Arc::new(Mutex::new(self.running().clone()));
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
        if classes < 2 {
            return Err(ModelError::TooFewClasses(classes));
        }
        let described = Build::network(input, Some(rng), |build| architecture.describe(build, classes));
        let Some((graph, layout, values)) = described else {
            return Err(ModelError::InputTooSmall {
                architecture,
                input,
                smallest: architecture.smallest(),
            });
        };
        let device = device.tensors();
        let mut statistics = vec![0.0; graph.statistics()];
        for norm in graph.norms() {
            statistics[norm.variance()].fill(1.0);
        }
        let running = Running {
            statistics: on_device(statistics, device),
            batches: vec![0; graph.norms().len()],
            dropout: Dropout::new(0),
            exchange: None,
            products: Products::Single,
        };
        Ok(Self {
            architecture,
            input,
            classes,
            network: Arc::new(Network::new(graph)),
            layout: Arc::new(layout),
            parameters: on_device(values, device),
            running: Arc::new(Mutex::new(running)),
            dropout_rate: DROPOUT,
            normalisation: None,
            unsaid: false,
        })
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // Its parts are replaced whole, so that a panic elsewhere cannot leave them half-written.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy that shares running statistics and dropout's generator.
    fn sharing_copy(&self) -> Self {
        Self {
            architecture: self.architecture,
            input: self.input,
            classes: self.classes,
            network: self.network.clone(),
            layout: self.layout.clone(),
            parameters: self.parameters.clone(),
            running: self.running.clone(),
            dropout_rate: self.dropout_rate,
            normalisation: self.normalisation.clone(),
            unsaid: self.unsaid,
        }
    }

    /// Class scores of a minibatch.
    ///
    /// # Shapes
    /// `[N, C, H, W]` → `[N, K]`.
    pub fn forward(&self, images: Images, mode: Mode) -> Logits {
        self.carry_out(images, mode, 1)
    }

    /// Class scores of two minibatches of one size, as two calls of [`Model::forward`] one after the other would give
    /// them, each with batch statistics of its own; weights are read once.
    ///
    /// # Shapes
    /// Twice `[N, C, H, W]` → twice `[N, K]`.
    pub fn forward_both(&self, [first, second]: [Images; 2], mode: Mode) -> [Logits; 2] {
        let count = first.dims()[0];
        if second.dims()[0] != count {
            return [first, second].map(|images| self.forward(images, mode));
        }
        compute::halves(self.carry_out(Tensor::cat(vec![first, second], 0), mode, 2))
    }

    fn carry_out(&self, images: Images, mode: Mode, parts: usize) -> Logits {
        let images = self.normalised(images);
        let trains = mode == Mode::Train;
        let mut running = self.running();
        let moves = trains && !running.batches.is_empty();
        let run = Run {
            network: self.network.clone(),
            batch_statistics: moves,
            exchange: running.exchange.clone().filter(|_| moves),
            products: running.products,
            parts,
            factors: Arc::new(if trains {
                self.factors(images.dims()[0], parts, &mut running.dropout)
            } else {
                Vec::new()
            }),
        };
        let statistics = running.statistics.clone();
        if !moves {
            // Evaluations need not wait for each other.
            drop(running);
            return compute::execute(images, self.parameters.clone(), statistics, run).0;
        }
        let (logits, moved) = compute::execute(images, self.parameters.clone(), statistics, run);
        running.statistics = moved;
        running.batches.iter_mut().for_each(|batches| *batches += parts as i64);
        logits
    }

    /// The images as the network takes them: `(x − mean) / std` where its file says so.
    fn normalised(&self, images: Images) -> Images {
        let Some(normalisation) = &self.normalisation else {
            return images;
        };
        let (device, kind) = (images.device(), images.dtype());
        let tensor = |values: &[f32]| -> Images {
            Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, values.len(), 1, 1]), &device).cast(kind)
        };
        (images - tensor(&normalisation.mean)) / tensor(&normalisation.std)
    }

    /// What is done to images before the network.
    pub fn normalisation(&self) -> Option<&Normalisation> {
        self.normalisation.as_deref()
    }

    /// From now on images are normalised so: as a person says that the program does which the weights are of.
    ///
    /// # Errors
    /// Where it has another number of values than the images have channels.
    pub fn set_normalisation(&mut self, normalisation: Normalisation) -> Result<(), NormalisationError> {
        let channels = self.input.channels;
        for (part, values) in [
            ("mean", &normalisation.mean),
            ("standard deviation", &normalisation.std),
        ] {
            let got = values.len();
            if got != channels {
                return Err(NormalisationError::Channels { part, channels, got });
            }
        }
        self.normalisation = Some(normalisation).filter(|one| !one.is_nothing()).map(Arc::new);
        self.unsaid = false;
        Ok(())
    }

    /// Whether images go in as they are because nobody said what is to be done to them: the weights are of another program's file, which holds
    /// no normalisation.
    pub fn is_normalisation_unsaid(&self) -> bool {
        self.unsaid
    }

    /// Training: each value is dropped with the rate's probability, the others grow by `1/(1 − rate)`. The parts draw in
    /// turn, as passes one after the other would.
    fn factors(&self, examples: usize, parts: usize, dropout: &mut Dropout) -> Vec<Vec<f32>> {
        let dropouts = self.network.graph().dropouts();
        if self.dropout_rate == 0.0 || dropouts.is_empty() {
            return Vec::new();
        }
        let mut factors: Vec<Vec<f32>> = vec![Vec::new(); dropouts.len()];
        for _ in 0..parts {
            for (factors, values) in factors.iter_mut().zip(dropouts) {
                factors.extend(dropout.factors(examples / parts, *values, self.dropout_rate));
            }
        }
        factors
    }

    /// The same weights as a leaf that records gradients. It shares the running statistics: a training pass through it
    /// moves this model's.
    pub fn tracked(&self) -> Self {
        let mut copy = self.sharing_copy();
        copy.parameters = copy.parameters.autodiff().require_grad();
        copy
    }

    /// A copy with other parameters. It shares the running statistics: a training pass through it moves this model's.
    pub fn with_parameters(&self, parameters: Flat) -> Self {
        let mut copy = self.sharing_copy();
        copy.parameters = parameters;
        copy
    }

    /// Moves parameters and running statistics towards `other`'s: `w ← d·w + (1 − d)·w'`; counters become `other`'s.
    pub fn average_in(&mut self, other: &Self, decay: f64) {
        let blend = |own: &Tensor<1>, other: &Tensor<1>| own.clone() * decay + other.clone() * (1.0 - decay);
        self.parameters = blend(&self.parameters, &other.parameters);
        let theirs = other.running().clone();
        let mut own = self.running();
        own.statistics = blend(&own.statistics, &theirs.statistics);
        own.batches = theirs.batches;
    }

    /// Takes the gradient of a tracked model's parameters out of a backward pass.
    ///
    /// # Errors
    /// Where the loss does not depend on them.
    pub fn gradient(&self, gradients: &mut Gradients) -> Result<Flat, MissingGradient> {
        self.parameters.grad_remove(gradients).ok_or(MissingGradient)
    }

    /// The parameters.
    pub fn parameters(&self) -> Flat {
        self.parameters.clone().inner()
    }

    /// Where each parameter lies, in the order of PyTorch's state dict.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Replaces the parameters.
    pub fn set_parameters(&mut self, parameters: Flat) {
        self.parameters = parameters;
    }

    /// The running means and variances of every BatchNorm, `[statistics]`; empty where there is none.
    pub fn statistics(&self) -> Flat {
        self.running().statistics.clone()
    }

    /// Puts other running means and variances in their place.
    pub fn set_statistics(&self, statistics: Flat) {
        self.running().statistics = statistics;
    }

    /// The number of trained values.
    pub fn parameter_count(&self) -> usize {
        self.layout.parameters()
    }

    /// The names and shapes of the state dict, without reading a value from the device.
    fn expected_tensors(&self) -> Vec<Expected> {
        self.layout.expected(self.network.graph())
    }

    /// Every parameter and buffer on the host, under PyTorch's names, in its layout and order. This is a sync point.
    ///
    /// # Errors
    /// When the device failed.
    pub fn state(&self) -> Result<Vec<StateEntry>, DeviceError> {
        let running = self.running().clone();
        let parameters = compute::read(self.parameters())?;
        let statistics = compute::read(running.statistics)?;
        let entry = |Expected { name, shape, holds }: Expected| {
            let length: usize = shape.iter().product();
            let values = match holds {
                Holds::Parameters(first) => StateValues::F32(parameters[first..first + length].to_vec()),
                Holds::Statistics(first) => StateValues::F32(statistics[first..first + length].to_vec()),
                Holds::Batches(norm) => StateValues::I64(vec![running.batches[norm]]),
            };
            StateEntry { name, shape, values }
        };
        let mut entries: Vec<StateEntry> = self.expected_tensors().into_iter().map(entry).collect();
        if let Some(Normalisation { mean, std }) = self.normalisation() {
            entries.extend(
                [mean, std]
                    .into_iter()
                    .zip(normalisation::NAMES)
                    .map(|(values, name)| StateEntry {
                        name: name.into(),
                        shape: vec![1, values.len(), 1, 1],
                        values: StateValues::F32(values.clone()),
                    }),
            );
        }
        Ok(entries)
    }

    /// Replaces parameters and buffers by a state dict.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape; the model is then unchanged.
    pub fn load_state(&mut self, entries: Vec<StateEntry>) -> Result<LoadReport, WeightsError> {
        let mut report = weights::load_state(self, entries, None)?;
        // Without a file there is no other program that could say more.
        report.unsaid = false;
        Ok(report)
    }

    /// The classes that a state dict of this network answers with, where that can be told.
    pub fn classes_of(&self, entries: &[StateEntry]) -> Option<usize> {
        weights::classes_of(&self.expected_tensors(), entries)
    }

    /// Puts a whole, checked state in. A counter that is missing stays as it is.
    fn write_state(&mut self, state: &BTreeMap<String, StateValues>) {
        let device = self.parameters.device().inner();
        let graph = self.network.graph();
        let (mut parameters, mut statistics) = (vec![0.0; self.parameter_count()], vec![0.0; graph.statistics()]);
        let mut running = self.running();
        for Expected { name, holds, .. } in self.expected_tensors() {
            match (holds, state.get(&name)) {
                (Holds::Parameters(first), Some(StateValues::F32(values))) => {
                    parameters[first..first + values.len()].copy_from_slice(values);
                }
                (Holds::Statistics(first), Some(StateValues::F32(values))) => {
                    statistics[first..first + values.len()].copy_from_slice(values);
                }
                (Holds::Batches(norm), Some(StateValues::I64(values))) => {
                    running.batches[norm] = values.first().copied().unwrap_or(0);
                }
                _ => {}
            }
        }
        running.statistics = on_device(statistics, &device);
        drop(running);
        self.parameters = on_device(parameters, &device);
    }

    /// An independent copy in double precision, which every device carries out by burn's own operations: what others are held
    /// against.
    #[doc(hidden)]
    pub fn in_double_precision(&self) -> Self {
        let mut copy = self.clone();
        copy.parameters = copy.parameters.cast(DType::F64);
        {
            let mut running = copy.running();
            running.statistics = running.statistics.clone().cast(DType::F64);
        }
        copy
    }

    /// Its convolutions and linear layers, in the order in which it goes through them.
    pub fn convolutions(&self) -> Vec<compute::Convolution> {
        self.network.convolutions()
    }

    /// Whether a training pass over so many examples normalises single values by their own statistics, which leaves nothing of them.
    pub fn normalises_single_values(&self, examples: usize) -> bool {
        self.network
            .graph()
            .fewest_normalised()
            .is_some_and(|places| places * examples < 2)
    }

    /// Whether the processor has a program of its own for the network.
    #[doc(hidden)]
    pub fn has_program(&self) -> bool {
        self.network.has_program()
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
        self.running().dropout = Dropout::new(seed);
    }

    /// Says that the minibatches of the step are rows of larger ones of so many examples: dropout draws for all of them, so that an example's
    /// values are dropped alike whoever has it.
    pub fn share_dropout(&self, rows: Range<usize>, of: usize) {
        self.running().dropout.share = Some((rows, of));
    }

    /// From now on BatchNorms take a training pass's statistics of the images of all processes that this leads to; of its own without.
    pub fn normalise_with(&self, exchange: Option<Exchange>) {
        self.running().exchange = exchange;
    }

    /// From now on the factors of its convolutions are multiplied so, on a GPU.
    pub fn multiply(&self, products: Products) {
        self.running().products = products;
    }

    /// Takes dropout out, for comparisons that must be exact.
    pub fn without_dropout(mut self) -> Self {
        self.dropout_rate = 0.0;
        self
    }
}
