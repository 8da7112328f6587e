//! From the logits' gradient back to those of images and parameters.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    Layer as Shape, Operation, Program,
    forward::{Normalised, Tape, to_blocks},
    packed::{Layer, in_blocks},
};
use crate::compute::{
    blocked::{
        Affine, Buffer, Epilogue, Pooled, Purpose, Workers, affine, average_back, finish, gradient_sums, pool_back,
        scale_by,
    },
    graph::{Graph, Value},
    profile::{self, Direction},
    stages::Stage,
    vector::{Block, Instructions},
};

/// The gradients of a pass.
#[derive(Debug)]
pub struct Gradients {
    /// `[N, C, H, W]`.
    pub images: Option<Pooled<f32>>,
    /// The flat vector's.
    pub parameters: Option<Pooled<f32>>,
}

impl Tape {
    /// Gradients of images, parameters or both from that of the logits, `[N, K]`.
    pub fn gradients(
        &self,
        graph: &Graph,
        program: &Program,
        logits: &[f32],
        [images, parameters]: [bool; 2],
    ) -> Gradients {
        let workers = Workers {
            instructions: Instructions::of_this_machine(),
            together: true,
        };
        let of_image = self.images.storage::<f32>().len() / self.count.max(1);
        let mut found = Gradients {
            images: images.then(|| Pooled::new(self.count * of_image)),
            parameters: parameters.then(|| Pooled::zeros(self.layers.parameters().len())),
        };
        let chunk = program
            .chunk(self.count, workers.threads())
            .filter(|_| !parameters && self.is_light());
        let classes = logits.len() / self.count.max(1);
        if let (Some(chunk), Some(images)) = (chunk, &mut found.images) {
            logits
                .par_chunks(chunk * classes)
                .zip(images.par_chunks_mut(chunk * of_image))
                .enumerate()
                .with_max_len(1)
                .for_each(|(number, (logits, images))| {
                    let mut back = Back {
                        tape: self,
                        graph,
                        program,
                        first: number * chunk,
                        count: logits.len() / classes,
                        workers: Workers {
                            together: false,
                            ..workers
                        },
                        values: Gathering::new(program),
                        parameters: None,
                        images: Some(images),
                    };
                    back.run(logits);
                });
        } else if self.count > 0 {
            let mut back = Back {
                tape: self,
                graph,
                program,
                first: 0,
                count: self.count,
                workers,
                values: Gathering::new(program),
                parameters: found.parameters.as_deref_mut(),
                images: found.images.as_deref_mut(),
            };
            back.run(logits);
        }
        found
    }

    /// Whether it is that of a program with BatchNorm folded.
    pub fn is_folded(&self) -> bool {
        self.layers.is_folded()
    }

    /// The shape of the images.
    pub fn shape(&self) -> [usize; 4] {
        self.images.layout().shape().dims()
    }

    /// Whether nothing on it is of the minibatch as a whole.
    fn is_light(&self) -> bool {
        self.kept.iter().all(Option::is_none) && self.factors.iter().all(Option::is_none)
    }
}

/// The gradients of values, as contributions come in.
struct Gathering {
    /// Contributions that are still to come.
    left: Vec<usize>,
    /// The sum so far.
    sums: Vec<Option<Arc<Buffer>>>,
}

impl Gathering {
    fn new(program: &Program) -> Self {
        Self {
            left: program.uses.clone(),
            sums: program.shapes.iter().map(|_| None).collect(),
        }
    }
}

/// A layer's weights and bias among the parameters; weights lie before all biases.
fn split<'p>(parameters: &'p mut [f32], layer: &Shape) -> (&'p mut [f32], Option<&'p mut [f32]>) {
    let weights = layer.weights();
    let (before, after) = parameters.split_at_mut(weights.end);
    let bias = layer
        .bias()
        .map(|bias| &mut after[bias.start - weights.end..bias.end - weights.end]);
    (&mut before[weights], bias)
}

struct Back<'a> {
    tape: &'a Tape,
    graph: &'a Graph,
    program: &'a Program,
    first: usize,
    count: usize,
    workers: Workers,
    values: Gathering,
    parameters: Option<&'a mut [f32]>,
    images: Option<&'a mut [f32]>,
}

impl<'a> Back<'a> {
    /// The bits of these images alone.
    fn bits(&self, value: Value) -> Option<&'a [u16]> {
        let of_image = self.program.extent(value).image();
        let bits = self.tape.bits[value].as_ref()?;
        Some(&bits[self.first * of_image..][..self.count * of_image])
    }

    /// Adds a contribution to a value's gradient: `make` writes it through an epilogue that adds what is there already and,
    /// for the last one, takes the ReLU's part.
    fn contribute(&mut self, value: Value, make: impl FnOnce(&Self, &mut [Block], &Epilogue)) {
        self.values.left[value] -= 1;
        let last = self.values.left[value] == 0;
        let sum = self.values.sums[value].take();
        let epilogue = Epilogue {
            add: sum.as_deref().map(|buffer| &buffer[..]),
            keep: if last { self.bits(value) } else { None },
            ..Epilogue::default()
        };
        let mut target = Buffer::new(self.count * self.program.extent(value).image());
        make(self, &mut target, &epilogue);
        self.values.sums[value] = Some(Arc::new(target));
    }

    /// Adds a gradient as it is.
    fn pass_on(&mut self, value: Value, gradient: &Arc<Buffer>) {
        let last = self.values.left[value] == 1;
        if self.values.sums[value].is_none() && !(last && self.tape.bits[value].is_some()) {
            self.values.left[value] -= 1;
            self.values.sums[value] = Some(gradient.clone());
            return;
        }
        let extent = self.program.extent(value);
        self.contribute(value, |back, target, epilogue| {
            finish(extent, gradient, back.count, target, epilogue, back.workers);
        });
    }

    fn run(&mut self, logits: &[f32]) {
        let output = self.program.output();
        let extent = self.program.extent(output);
        let mut gradient = Buffer::zeros(self.count * extent.image());
        to_blocks(extent, logits, &mut gradient);
        self.values.sums[output] = Some(Arc::new(gradient));
        for (number, stage) in self.program.stages.iter().enumerate().rev() {
            let Some(gradient) = self.values.sums[stage.output].take() else {
                unreachable!("every value is read by a later stage or is the logits");
            };
            if let Some(add) = stage.add {
                self.pass_on(add, &gradient);
            }
            profile::part(number, Direction::Input, || self.stage(number, stage, &gradient));
        }
    }

    fn stage(&mut self, number: usize, stage: &Stage, gradient: &Arc<Buffer>) {
        let (tape, graph, program) = (self.tape, self.graph, self.program);
        let from = program.extent(stage.input);
        match &stage.operation {
            Operation::Stem(layer) => {
                let stem = layer.stem();
                if let Some(parameters) = &mut self.parameters {
                    let operands = (tape.images.storage(), &gradient[..]);
                    let targets = split(parameters, layer);
                    profile::part(number, Direction::Weights, || {
                        stem.weight_gradient(operands, self.count, targets, self.workers);
                    });
                }
                if let Some(images) = &mut self.images {
                    let layer = tape
                        .layers
                        .layer(graph, program, number, Purpose::ImageGradient, self.workers);
                    if let Layer::Stem(packed) = layer {
                        stem.image_gradient(packed, gradient, self.count, images, self.workers);
                    }
                }
            }
            Operation::Convolution(layer) => {
                if let (Some(parameters), Some(input)) = (&mut self.parameters, &tape.kept[stage.input]) {
                    let targets = split(parameters, layer);
                    profile::part(number, Direction::Weights, || {
                        let convolution = layer.convolution();
                        convolution.weight_gradient((input, gradient), self.count, targets, self.workers);
                    });
                }
                self.contribute(stage.input, |back, target, epilogue| {
                    let layer = tape
                        .layers
                        .layer(graph, program, number, Purpose::ImageGradient, back.workers);
                    if let Layer::Blocked(packed) = layer {
                        packed.run(gradient, back.count, target, epilogue, back.workers);
                    }
                });
            }
            Operation::Norm(norm) => self.normalised(*norm, number, stage.input, gradient),
            Operation::Pool => {
                let Some(winners) = &tape.winners[number] else {
                    unreachable!("a recorded pool noted what it took");
                };
                let winners = &winners[self.first * from.image()..][..self.count * from.image()];
                self.contribute(stage.input, |back, target, epilogue| {
                    pool_back(from, (gradient, winners), back.count, target, epilogue, back.workers);
                });
            }
            Operation::Average => self.contribute(stage.input, |back, target, epilogue| {
                average_back(from, gradient, back.count, target, epilogue, back.workers);
            }),
            Operation::Dropout(_) => match &tape.factors[number] {
                Some(factors) => self.contribute(stage.input, |back, target, epilogue| {
                    scale_by(from, (gradient, factors), back.count, target, epilogue, back.workers);
                }),
                None => self.pass_on(stage.input, gradient),
            },
            Operation::Identity => self.pass_on(stage.input, gradient),
        }
    }

    /// Back through a BatchNorm: `γ/σ·(g − mean(g) − x̂·mean(g·x̂))` where the statistics were the batch's, `γ/σ·g` where they
    /// were given.
    fn normalised(&mut self, number: usize, stage: usize, value: Value, gradient: &Arc<Buffer>) {
        let (tape, norm, extent) = (self.tape, self.graph.norms()[number], self.program.extent(value));
        let weights = &tape.layers.parameters()[norm.weight..][..norm.channels];
        let parts = &tape.norms[stage];
        let count = self.count / parts.len();
        let image = extent.image();
        // For each part: the factor of the gradient, that of the distance from the mean, and the rest.
        let mut maps: Vec<[Vec<Block>; 3]> = Vec::new();
        for (
            part,
            Normalised {
                mean,
                inverse,
                count: values,
            },
        ) in parts.iter().enumerate()
        {
            let places = part * count * image..(part + 1) * count * image;
            let mut sums = [vec![0.0; norm.channels], vec![0.0; norm.channels]];
            if let (Some(input), true) = (&tape.kept[value], self.parameters.is_some() || *values > 0) {
                let operands = (&input[places.clone()], &gradient[places], &mean[..]);
                sums = gradient_sums(extent, operands, count, self.workers);
            }
            let [of_gradient, of_product] = sums;
            let share = if *values > 0 { 1.0 / *values as f64 } else { 0.0 };
            let mut map = [Vec::new(), Vec::new(), Vec::new()];
            for channel in 0..norm.channels {
                let scale = f64::from(weights[channel]) * inverse[channel];
                map[0].push(scale as f32);
                map[1].push((-scale * inverse[channel].powi(2) * of_product[channel] * share) as f32);
                map[2].push((-scale * of_gradient[channel] * share) as f32);
                if let Some(parameters) = &mut self.parameters {
                    parameters[norm.weight + channel] += (of_product[channel] * inverse[channel]) as f32;
                    parameters[norm.bias + channel] += of_gradient[channel] as f32;
                }
            }
            maps.push(map.map(in_blocks));
        }
        self.contribute(value, |back, target, epilogue| {
            for (
                part,
                (
                    [scale, factor, shift],
                    Normalised {
                        mean, count: values, ..
                    },
                ),
            ) in maps.iter().zip(parts).enumerate()
            {
                let places = part * count * image..(part + 1) * count * image;
                let other = tape.kept[value].as_ref().filter(|_| *values > 0);
                let map = Affine {
                    scale,
                    shift,
                    other: other.map(|input| (&factor[..], &mean[..], &input[places.clone()])),
                };
                let epilogue = Epilogue {
                    add: epilogue.add.map(|add| &add[places.clone()]),
                    keep: epilogue.keep.map(|keep| &keep[places.clone()]),
                    ..*epilogue
                };
                let operands = (&gradient[places.clone()], map);
                let target = &mut target[places];
                affine(extent, operands, count, target, &epilogue, back.workers);
            }
        });
    }
}
