//! From images to logits.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    Cache, Operation, Program,
    packed::{Layer, Layers, affine, in_blocks},
};
use crate::compute::{
    blocked::{
        Affine, Buffer, Epilogue, Extent, Parts, Pooled, Purpose, Statistics, Workers, affine as transform, average,
        finish, pool, scale_by,
    },
    graph::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, Graph, Value},
    profile::{self, Direction},
    stages::Stage,
    vector::{Block, Instructions, LANES},
};

/// A pass through a network.
#[derive(Debug)]
pub struct Pass<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// Its program.
    pub program: &'a Program,
    /// Whether that is the folded one.
    pub folded: bool,
    /// Weights that are packed already.
    pub cache: &'a Cache,
    /// BatchNorm takes its statistics from the batch.
    pub batch_statistics: bool,
    /// The images are so many equal parts, each with statistics of its own, as if they had come one after the other.
    pub parts: usize,
    /// The factors of each dropout, `[N, values]`; empty where there is no dropout.
    pub factors: &'a [Vec<f32>],
    /// Whether gradients of the images will be asked for.
    pub records_images: bool,
    /// Whether gradients of the parameters will be asked for.
    pub records_parameters: bool,
}

/// What a pass gives.
#[derive(Debug)]
pub struct Outcome {
    /// `[N, K]`.
    pub logits: Pooled<f32>,
    /// Running statistics after it.
    pub statistics: Option<Vec<f32>>,
    /// What the way back needs, where it was recorded.
    pub tape: Option<Tape>,
}

/// What the way back needs.
#[derive(Debug)]
pub struct Tape {
    pub(super) images: FlexTensor,
    pub(super) count: usize,
    pub(super) layers: Arc<Layers>,
    /// What each ReLU let through, by value.
    pub(super) bits: Vec<Option<Bits>>,
    /// What each pool took, by stage.
    pub(super) winners: Vec<Option<Bits>>,
    /// Activations, by value.
    pub(super) kept: Vec<Option<Arc<Buffer>>>,
    /// What each BatchNorm did to each part, by stage.
    pub(super) norms: Vec<Vec<Normalised>>,
    /// The factors of each dropout, by stage.
    pub(super) factors: Vec<Option<Buffer>>,
}

/// What a BatchNorm did to a part of the images.
#[derive(Debug, Clone)]
pub(super) struct Normalised {
    /// `[C]` in blocks.
    pub mean: Vec<Block>,
    /// `1/√(σ² + ε)`, `[C]`.
    pub inverse: Vec<f64>,
    /// Values of a channel; 0 where the statistics were not the batch's own.
    pub count: usize,
}

/// A bit for each value, sixteen together.
pub(super) type Bits = Pooled<u16>;

/// Where a pass notes what the way back needs.
struct Notes<'a> {
    bits: Vec<Option<Parts<'a, u16>>>,
    winners: Vec<Option<Parts<'a, u16>>>,
}

/// Some images on their way.
struct Images<'a> {
    values: &'a [f32],
    /// The first one's number in the minibatch.
    first: usize,
    count: usize,
    workers: Workers,
}

impl Images<'_> {
    /// The bits of these images alone.
    fn own<'b>(&self, bits: &Option<Parts<'b, u16>>, extent: Extent) -> Option<Parts<'b, u16>> {
        let (first, count) = (self.first * extent.image(), self.count * extent.image());
        // SAFETY: chunks are of different images, so that each has bits of its own.
        bits.as_ref().map(|bits| Parts::new(unsafe { bits.get(first, count) }))
    }
}

impl Pass<'_> {
    /// Carries the pass out.
    pub fn run(&self, images: &FlexTensor, parameters: &FlexTensor, statistics: &FlexTensor) -> Outcome {
        let program = self.program;
        let count = images.layout().shape()[0];
        let workers = Workers {
            instructions: Instructions::of_this_machine(),
            together: true,
        };
        let folded = self.folded;
        let layers = self.cache.get(program, parameters, statistics, folded);
        let records = self.records_images || self.records_parameters;
        let noted = |stage: &Stage, value: Value, wanted: bool| {
            (records && wanted).then(|| (stage.output, Bits::new(count * program.extent(value).image())))
        };
        let mut bits: Vec<Option<Bits>> = program.shapes.iter().map(|_| None).collect();
        let mut winners: Vec<Option<Bits>> = Vec::new();
        for stage in &program.stages {
            if let Some((value, found)) = noted(stage, stage.output, stage.relu) {
                bits[value] = Some(found);
            }
            let pools = matches!(stage.operation, Operation::Pool);
            winners.push(noted(stage, stage.input, pools).map(|(_, found)| found));
        }
        let mut run = Run {
            pass: self,
            layers: &layers,
            given: statistics.storage(),
            moved: self.batch_statistics.then(|| statistics.storage().to_vec()),
            kept: program.shapes.iter().map(|_| None).collect(),
            norms: program
                .stages
                .iter()
                .map(|stage| self.given(stage, statistics.storage()))
                .collect(),
            factors: program
                .stages
                .iter()
                .map(|stage| self.factors_of(stage, count))
                .collect(),
        };
        let classes = program.extent(program.output()).channels;
        let mut logits = Pooled::new(count * classes);
        {
            let notes = Notes {
                bits: bits
                    .iter_mut()
                    .map(|bits| bits.as_deref_mut().map(Parts::new))
                    .collect(),
                winners: winners
                    .iter_mut()
                    .map(|bits| bits.as_deref_mut().map(Parts::new))
                    .collect(),
            };
            let values: &[f32] = images.storage();
            let chunk = program.chunk(count, workers.threads()).filter(|_| folded);
            if let Some(chunk) = chunk {
                let of_image = values.len() / count.max(1);
                logits
                    .par_chunks_mut(chunk * classes)
                    .zip(values.par_chunks(chunk * of_image))
                    .enumerate()
                    .with_max_len(1)
                    .for_each(|(number, (logits, values))| {
                        let images = Images {
                            values,
                            first: number * chunk,
                            count: logits.len() / classes,
                            workers: Workers {
                                together: false,
                                ..workers
                            },
                        };
                        run.alone().stages(&images, &notes, logits);
                    });
            } else if count > 0 {
                let images = Images {
                    values,
                    first: 0,
                    count,
                    workers,
                };
                run.stages(&images, &notes, &mut logits);
            }
        }
        let Run {
            moved: statistics,
            kept,
            norms,
            factors,
            ..
        } = run;
        let tape = records.then(|| Tape {
            images: images.clone(),
            count,
            layers: layers.clone(),
            bits,
            winners,
            kept,
            norms,
            factors,
        });
        Outcome {
            logits,
            statistics,
            tape,
        }
    }

    /// What a BatchNorm does that takes running statistics.
    fn given(&self, stage: &Stage, statistics: &[f32]) -> Vec<Normalised> {
        let Operation::Norm(number) = stage.operation else {
            return Vec::new();
        };
        if self.batch_statistics {
            return Vec::new();
        }
        let norm = self.graph.norms()[number];
        let variances = statistics[norm.variance()].iter();
        vec![Normalised {
            mean: in_blocks(statistics[norm.mean()].iter().copied()),
            inverse: variances
                .map(|variance| 1.0 / (f64::from(*variance) + BATCH_NORM_EPSILON).sqrt())
                .collect(),
            count: 0,
        }]
    }

    /// A dropout's factors in blocks.
    fn factors_of(&self, stage: &Stage, count: usize) -> Option<Buffer> {
        let Operation::Dropout(number) = stage.operation else {
            return None;
        };
        let factors = self.factors.get(number).filter(|factors| !factors.is_empty())?;
        let extent = self.program.extent(stage.output);
        let mut buffer = Buffer::zeros(count * extent.image());
        to_blocks(extent, factors, &mut buffer);
        Some(buffer)
    }
}

/// Values `[N, C, H, W]` into blocks, whose empty lanes stay as they are.
pub(super) fn to_blocks(extent: Extent, values: &[f32], target: &mut [Block]) {
    let (positions, blocks) = (extent.positions(), extent.blocks());
    for (plane, values) in values.chunks(positions).enumerate() {
        let (image, channel) = (plane / extent.channels, plane % extent.channels);
        let target = &mut target[(image * blocks + channel / LANES) * positions..][..positions];
        for (block, value) in target.iter_mut().zip(values) {
            block.0[channel % LANES] = *value;
        }
    }
}

/// The state of a pass under way.
struct Run<'a> {
    pass: &'a Pass<'a>,
    layers: &'a Layers,
    /// Running statistics before the pass.
    given: &'a [f32],
    /// And after it, where it moves them.
    moved: Option<Vec<f32>>,
    kept: Vec<Option<Arc<Buffer>>>,
    norms: Vec<Vec<Normalised>>,
    factors: Vec<Option<Buffer>>,
}

impl<'a> Run<'a> {
    /// The same for a chunk of the images, which keeps nothing.
    fn alone(&self) -> Run<'a> {
        Run {
            pass: self.pass,
            layers: self.layers,
            given: self.given,
            moved: None,
            kept: Vec::new(),
            norms: Vec::new(),
            factors: Vec::new(),
        }
    }

    fn stages(&mut self, images: &Images, notes: &Notes, logits: &mut [f32]) {
        let (graph, program) = (self.pass.graph, self.pass.program);
        let mut values: Vec<Option<Arc<Buffer>>> = program.shapes.iter().map(|_| None).collect();
        let mut left = program.uses.clone();
        for (number, stage) in program.stages.iter().enumerate() {
            let input = values[stage.input].clone();
            let source: &[Block] = input.as_deref().map_or(&[], |buffer| buffer);
            let add = stage.add.and_then(|value| values[value].clone());
            let (from, extent) = (program.extent(stage.input), program.extent(stage.output));
            let epilogue = Epilogue {
                bias: self.layers.bias(graph, program, number),
                add: add.as_deref().map(|buffer| &buffer[..]),
                relu: stage.relu.then(|| images.own(&notes.bits[stage.output], extent)),
                keep: None,
            };
            let mut target = Buffer::new(images.count * extent.image());
            let mut passed_on = None;
            profile::part(number, Direction::Forward, || match &stage.operation {
                Operation::Stem(layer) => {
                    let stem = layer.stem();
                    let layer = self
                        .layers
                        .layer(graph, program, number, Purpose::Forward, images.workers);
                    if let Layer::Stem(packed) = layer {
                        stem.forward(
                            packed,
                            images.values,
                            images.count,
                            &mut target,
                            &epilogue,
                            images.workers,
                        );
                    }
                }
                Operation::Convolution(..) => {
                    let layer = self
                        .layers
                        .layer(graph, program, number, Purpose::Forward, images.workers);
                    if let Layer::Blocked(packed) = layer {
                        packed.run(source, images.count, &mut target, &epilogue, images.workers);
                    }
                }
                Operation::Norm(norm) => {
                    self.normalise(*norm, number, extent, (source, images), &mut target, &epilogue);
                }
                Operation::Pool => {
                    let winners = images.own(&notes.winners[number], from);
                    pool(from, source, images.count, &mut target, winners, images.workers);
                }
                Operation::Average => average(from, source, images.count, &mut target, images.workers),
                Operation::Dropout(_) => match self.factors.get(number) {
                    Some(Some(factors)) => {
                        let operands = (source, &factors[..]);
                        scale_by(extent, operands, images.count, &mut target, &epilogue, images.workers);
                    }
                    _ => passed_on = input.clone(),
                },
                Operation::Identity => finish(extent, source, images.count, &mut target, &epilogue, images.workers),
            });
            if self.keeps(stage) {
                self.kept[stage.input].clone_from(&input);
            }
            for value in [Some(stage.input), stage.add].into_iter().flatten() {
                left[value] -= 1;
                if left[value] == 0 {
                    values[value] = None;
                }
            }
            values[stage.output] = Some(passed_on.unwrap_or_else(|| Arc::new(target)));
        }
        let Some(last) = &values[program.output()] else {
            return;
        };
        let extent = program.extent(program.output());
        for (row, blocks) in logits.chunks_mut(extent.channels).zip(last.chunks(extent.blocks())) {
            for (values, block) in row.chunks_mut(LANES).zip(blocks) {
                values.copy_from_slice(&block.0[..values.len()]);
            }
        }
    }

    /// Whether the way back needs what a stage read.
    fn keeps(&self, stage: &Stage) -> bool {
        match stage.operation {
            Operation::Convolution(..) => self.pass.records_parameters,
            Operation::Norm(_) => {
                self.pass.records_parameters || (self.pass.records_images && self.pass.batch_statistics)
            }
            _ => false,
        }
    }

    fn normalise(
        &mut self,
        number: usize,
        stage: usize,
        extent: Extent,
        (source, images): (&[Block], &Images),
        target: &mut [Block],
        epilogue: &Epilogue,
    ) {
        let norm = self.pass.graph.norms()[number];
        let (parameters, workers) = (self.layers.parameters(), images.workers);
        let map = |scale: &[f32], shift: &[f32]| [in_blocks(scale.iter().copied()), in_blocks(shift.iter().copied())];
        let Some(running) = &mut self.moved else {
            let [scale, shift] = affine(&norm, parameters, self.given);
            let [scale, shift] = map(&scale, &shift);
            let affine = Affine {
                scale: &scale,
                shift: &shift,
                other: None,
            };
            transform(extent, (source, affine), images.count, target, epilogue, workers);
            return;
        };
        let count = images.count / self.pass.parts;
        for part in 0..self.pass.parts {
            let places = part * count * extent.image()..(part + 1) * count * extent.image();
            let source = &source[places.clone()];
            let found = Statistics::of(extent, source, count, workers);
            let inverse: Vec<f64> = found.variance[..norm.channels]
                .iter()
                .map(|variance| 1.0 / (variance + BATCH_NORM_EPSILON).sqrt())
                .collect();
            let (mut scale, mut shift) = (Vec::new(), Vec::new());
            for channel in 0..norm.channels {
                let factor = f64::from(parameters[norm.weight + channel]) * inverse[channel];
                scale.push(factor as f32);
                shift.push((f64::from(parameters[norm.bias + channel]) - found.mean[channel] * factor) as f32);
            }
            let [scale, shift] = map(&scale, &shift);
            let affine = Affine {
                scale: &scale,
                shift: &shift,
                other: None,
            };
            let epilogue = Epilogue {
                add: epilogue.add.map(|add| &add[places.clone()]),
                // SAFETY: the parts' places lie apart.
                relu: epilogue
                    .relu
                    .map(|bits| bits.map(|bits| Parts::new(unsafe { bits.get(places.start, places.len()) }))),
                ..*epilogue
            };
            let target = &mut target[places.clone()];
            transform(extent, (source, affine), count, target, &epilogue, workers);
            // The running variance is the unbiased one, as PyTorch keeps it.
            let unbiased = found.count as f64 / (found.count as f64 - 1.0).max(1.0);
            let mut move_towards = |place: usize, new: f64| {
                let old = f64::from(running[place]);
                running[place] = (old + (new - old) * BATCH_NORM_MOMENTUM) as f32;
            };
            for channel in 0..norm.channels {
                move_towards(norm.mean().start + channel, found.mean[channel]);
                move_towards(norm.variance().start + channel, found.variance[channel] * unbiased);
            }
            self.norms[stage].push(Normalised {
                mean: in_blocks(found.mean[..norm.channels].iter().map(|mean| *mean as f32)),
                inverse,
                count: found.count,
            });
        }
    }
}
