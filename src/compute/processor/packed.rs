//! Weights in the order in which kernels read them, kept as long as the parameters stay the same.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use burn::backend::flex::FlexTensor;

use super::{Layer as Shape, Operation, Program};
use crate::compute::{
    blocked::{Packed, PackedStem, Purpose, Workers},
    graph::{BATCH_NORM_EPSILON, Graph, Norm},
    vector::{Block, LANES},
};

/// A layer's packed weights.
#[derive(Debug)]
pub(super) enum Layer {
    /// The first one's, for both directions.
    Stem(PackedStem),
    /// Any other's, for one.
    Blocked(Packed),
}

/// All layers' weights for one state of the parameters, each packed when it is first needed.
#[derive(Debug)]
pub(super) struct Layers {
    parameters: FlexTensor,
    /// Those that are folded in, where they are.
    statistics: FlexTensor,
    folded: bool,
    /// By stage and purpose.
    layers: Vec<[OnceLock<Layer>; 2]>,
    biases: Vec<OnceLock<Vec<Block>>>,
}

/// The packed weights of the last states of the parameters: an attack and the step after it each need theirs many times.
#[derive(Debug, Default)]
pub struct Cache(Mutex<Vec<Arc<Layers>>>);

/// States that are kept: the one that is attacked and the one that is trained.
const KEPT: usize = 2;

fn same(one: &FlexTensor, other: &FlexTensor) -> bool {
    Arc::ptr_eq(&one.data_arc(), &other.data_arc())
}

impl Cache {
    /// The weights of `parameters`, with BatchNorm's `statistics` folded in where that is wanted.
    pub(super) fn get(
        &self,
        program: &Program,
        parameters: &FlexTensor,
        statistics: &FlexTensor,
        folded: bool,
    ) -> Arc<Layers> {
        // Entries are replaced whole, so that a panic elsewhere cannot leave one half-written.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An entry holds its parameters, so that nobody can change them in place.
        let found = kept.iter().position(|layers| {
            layers.folded == folded
                && same(&layers.parameters, parameters)
                && (!folded || same(&layers.statistics, statistics))
        });
        let layers = match found {
            Some(place) => kept.remove(place),
            None => Arc::new(Layers {
                parameters: parameters.clone(),
                statistics: statistics.clone(),
                folded,
                layers: program.stages.iter().map(|_| Default::default()).collect(),
                biases: program.stages.iter().map(|_| OnceLock::new()).collect(),
            }),
        };
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(layers.clone());
        layers
    }
}

/// A BatchNorm with running statistics as a scale and a shift of each channel: `γ/√(σ² + ε)` and `β − μ·γ/√(σ² + ε)`,
/// rounded once.
pub(super) fn affine(norm: &Norm, parameters: &[f32], statistics: &[f32]) -> [Vec<f32>; 2] {
    let numbers = |first: usize| {
        parameters[first..][..norm.channels]
            .iter()
            .map(|value| f64::from(*value))
    };
    let running = |places: std::ops::Range<usize>| statistics[places].iter().map(|value| f64::from(*value));
    let scale: Vec<f64> = numbers(norm.weight)
        .zip(running(norm.variance()))
        .map(|(weight, variance)| weight / (variance + BATCH_NORM_EPSILON).sqrt())
        .collect();
    let shift = numbers(norm.bias)
        .zip(running(norm.mean()))
        .zip(&scale)
        .map(|((bias, mean), scale)| (bias - mean * scale) as f32)
        .collect();
    [scale.into_iter().map(|scale| scale as f32).collect(), shift]
}

/// A number for each channel, in blocks filled up with zeros.
pub(super) fn in_blocks(values: impl IntoIterator<Item = f32>) -> Vec<Block> {
    let values: Vec<f32> = values.into_iter().collect();
    let block = |chunk: &[f32]| Block(std::array::from_fn(|lane| chunk.get(lane).copied().unwrap_or(0.0)));
    values.chunks(LANES).map(block).collect()
}

impl Layers {
    /// The parameters themselves.
    pub fn parameters(&self) -> &[f32] {
        self.parameters.storage()
    }

    /// Whether BatchNorm is folded into them.
    pub fn is_folded(&self) -> bool {
        self.folded
    }

    fn folded(&self, graph: &Graph, shape: &Shape) -> Option<[Vec<f32>; 2]> {
        let norm = &graph.norms()[shape.norm?];
        Some(affine(norm, self.parameters(), self.statistics.storage()))
    }

    /// The packed weights of a stage that has some.
    pub fn layer(&self, graph: &Graph, program: &Program, stage: usize, purpose: Purpose, workers: Workers) -> &Layer {
        let pack = || match &program.stages[stage].operation {
            Operation::Stem(shape) => {
                let scale = self.folded(graph, shape).map(|[scale, _]| scale);
                Layer::Stem(shape.stem().pack(&self.parameters()[shape.weights()], scale.as_deref()))
            }
            Operation::Convolution(shape) => {
                let scale = self.folded(graph, shape).map(|[scale, _]| scale);
                let values = &self.parameters()[shape.weights()];
                Layer::Blocked(shape.convolution().pack(purpose, values, scale.as_deref(), workers))
            }
            _ => unreachable!("only convolutions have packed weights"),
        };
        let number = match (&program.stages[stage].operation, purpose) {
            (Operation::Stem(..), _) | (_, Purpose::Forward) => 0,
            (_, Purpose::ImageGradient) => 1,
        };
        self.layers[stage][number].get_or_init(pack)
    }

    /// The bias of a stage, a block for each block of its channels; empty where there is none.
    pub fn bias(&self, graph: &Graph, program: &Program, stage: usize) -> &[Block] {
        self.biases[stage].get_or_init(|| {
            let (Operation::Stem(shape) | Operation::Convolution(shape)) = &program.stages[stage].operation else {
                return Vec::new();
            };
            let bias = shape.bias().map(|places| &self.parameters()[places]);
            match (self.folded(graph, shape), bias) {
                (None, None) => Vec::new(),
                (None, Some(bias)) => in_blocks(bias.iter().copied()),
                (Some([_, shift]), None) => in_blocks(shift),
                (Some([scale, shift]), Some(bias)) => in_blocks(
                    bias.iter()
                        .zip(scale)
                        .zip(shift)
                        .map(|((bias, scale), shift)| bias * scale + shift),
                ),
            }
        })
    }
}
