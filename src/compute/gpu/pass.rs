//! Forth and back through the stages.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use burn::{
    backend::{Cube, ops::FloatTensorOps, wgpu::CubeTensor},
    tensor::{DType, FloatDType, Shape},
};
use burn_cubecl::kernel::into_contiguous;
use cubecl::{
    bytes::Bytes,
    client::Client,
    server::Handle,
    zspace::{Strides, metadata::Metadata},
};

use super::{
    Program,
    convolution::{self, Making, Products},
    kernels::{self, Epilogue, Map, Normed, Pointwise, bytes, stored, values},
    packing::{Packed, Packing},
};
use crate::compute::{
    graph::{Graph, Value},
    profile::{self, Direction},
    stages::{Operation, Stage},
};

/// All layers' packed weights for one state of the parameters, and the maps of BatchNorms that stand by themselves.
#[derive(Debug)]
struct Layers {
    parameters: Handle,
    /// Those that are folded in, where they are.
    statistics: Handle,
    folded: bool,
    products: Products,
    packing: Arc<Packing>,
    /// By stage; none where there is nothing to pack.
    packed: OnceLock<Vec<Option<Packed>>>,
    maps: Vec<OnceLock<Map>>,
}

/// The packed weights of the last states of the parameters.
#[derive(Debug, Default)]
pub struct Cache {
    kept: Mutex<Vec<Arc<Layers>>>,
    /// How layers are packed: as they are, and with their BatchNorms folded in; multiplied in float32, and otherwise.
    packing: [[OnceLock<Arc<Packing>>; 2]; 2],
}

/// States that are kept: the one that is attacked and the one that is trained.
const KEPT: usize = 2;

/// Whether two handles are the same memory. An entry of the cache holds its own, so that nobody else can have it.
fn same(one: &Handle, other: &Handle) -> bool {
    let id = |handle: &Handle| (handle.clone().binding().memory.id(), handle.offset_start.unwrap_or(0));
    id(one) == id(other)
}

impl Cache {
    fn packing(
        &self,
        client: &Client,
        graph: &Graph,
        program: &Program,
        (folded, products): (bool, Products),
    ) -> Arc<Packing> {
        let made = self.packing[usize::from(folded)][usize::from(products == Products::Single)].get_or_init(|| {
            let stages = program.stages.iter().enumerate();
            let layers = stages.filter_map(|(stage, made)| match &made.operation {
                Operation::Stem(layer) | Operation::Convolution(layer) => {
                    Some((stage, layer, layer.norm.map(|norm| &graph.norms()[norm])))
                }
                _ => None,
            });
            Arc::new(Packing::new(client, products, layers))
        });
        made.clone()
    }

    fn get(
        &self,
        client: &Client,
        graph: &Graph,
        program: &Program,
        [parameters, statistics]: [&Handle; 2],
        (folded, products): (bool, Products),
    ) -> Arc<Layers> {
        // Entries are replaced whole, so that a panic elsewhere cannot leave one half-written.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.iter().position(|layers| {
            layers.folded == folded
                && layers.products == products
                && same(&layers.parameters, parameters)
                && (!folded || same(&layers.statistics, statistics))
        });
        let layers = match found {
            Some(place) => kept.remove(place),
            None => Arc::new(Layers {
                parameters: parameters.clone(),
                statistics: statistics.clone(),
                folded,
                products,
                packed: OnceLock::new(),
                packing: self.packing(client, graph, program, (folded, products)),
                maps: program.stages.iter().map(|_| OnceLock::new()).collect(),
            }),
        };
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push(layers.clone());
        layers
    }
}

impl Layers {
    fn packed(&self, client: &Client, stage: usize) -> &Packed {
        let all = self.packed.get_or_init(|| {
            let mut all: Vec<Option<Packed>> = self.maps.iter().map(|_| None).collect();
            for (stage, packed) in self.packing.pack(client, &self.parameters, &self.statistics) {
                all[stage] = Some(packed);
            }
            all
        });
        let Some(packed) = &all[stage] else {
            unreachable!("every convolution is packed");
        };
        packed
    }
}

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
    /// The images are so many equal shares with statistics of their own.
    pub halves: usize,
    /// The factors of each dropout, `[N, values]`; empty where there is no dropout.
    pub factors: &'a [Vec<f32>],
    /// Whether gradients of the images, or of the parameters, will be asked for.
    pub records: [bool; 2],
    /// How the factors of convolutions are multiplied.
    pub products: Products,
}

/// What the way back needs.
#[derive(Debug)]
pub struct Tape {
    images: CubeTensor,
    /// Parameters.
    length: usize,
    count: usize,
    halves: usize,
    batch_statistics: bool,
    layers: Arc<Layers>,
    /// Activations, by value.
    values: Vec<Option<Handle>>,
    /// What BatchNorms did, by stage.
    maps: Vec<Option<Map>>,
    /// The factors of each dropout, by stage.
    factors: Vec<Option<Handle>>,
}

impl Pass<'_> {
    /// Logits, the running statistics after the pass, and the tape where it was asked for.
    pub fn run(
        &self,
        images: CubeTensor,
        parameters: CubeTensor,
        statistics: CubeTensor,
    ) -> (CubeTensor, CubeTensor, Option<Tape>) {
        let [images, parameters, mut statistics] = [images, parameters, statistics].map(into_contiguous);
        let (client, program) = (images.client.clone(), self.program);
        let count = images.meta.shape()[0];
        let folded = self.folded;
        let states = [&parameters.handle, &statistics.handle];
        let layers = self
            .cache
            .get(&client, self.graph, program, states, (folded, self.products));
        if self.batch_statistics {
            // They move in place, so that nobody else may hold them.
            statistics = Cube::float_add_scalar(statistics, 0.0_f32.into());
        }
        let recorded = self.records.contains(&true);
        let making = Making {
            client: &client,
            products: self.products,
            gradient_scale: 1.0,
        };
        let mut values: Vec<Option<Handle>> = program.shapes.iter().map(|_| None).collect();
        let mut maps: Vec<Option<Map>> = program.stages.iter().map(|_| None).collect();
        let factors: Vec<Option<Handle>> = program
            .stages
            .iter()
            .map(|stage| self.factors_of(&client, stage, count))
            .collect();
        let mut left = program.uses.clone();
        for (number, stage) in program.stages.iter().enumerate() {
            let (from, shape) = (program.shapes[stage.input], program.shapes[stage.output]);
            let source = values[stage.input].clone().unwrap_or_else(|| images.handle.clone());
            let add = stage.add.and_then(|value| values[value].clone());
            let epilogue = Epilogue {
                add: add.as_ref(),
                relu: stage.relu,
                keep: None,
            };
            let target = client.empty(bytes(shape, count));
            let activations = (&source, from, count);
            let mut passed_on = None;
            profile::part(number, Direction::Forward, || match &stage.operation {
                Operation::Stem(layer) => {
                    let packed = layers.packed(&client, number);
                    convolution::stem(&client, layer, packed, (&source, count), &target, &epilogue);
                }
                Operation::Convolution(layer) => {
                    let packed = layers.packed(&client, number);
                    making.forward(layer, packed, (&source, count), &target, &epilogue);
                }
                Operation::Norm(norm) => {
                    let normed = Normed {
                        norm: &self.graph.norms()[*norm],
                        shape,
                        examples: count,
                        halves: if self.batch_statistics { self.halves } else { 1 },
                    };
                    let (numbers, running) = (&parameters.handle, &statistics.handle);
                    let map = if self.batch_statistics {
                        normed.by_batch(&client, &source, numbers, running)
                    } else if folded {
                        let map = layers.maps[number].get_or_init(|| normed.given(&client, numbers, running));
                        map.clone()
                    } else {
                        normed.given(&client, numbers, running)
                    };
                    kernels::pointwise(&client, Pointwise::Mapped(&map), activations, &target, &epilogue);
                    maps[number] = Some(map);
                }
                Operation::Pool => kernels::pool(&client, activations, &target),
                Operation::Average => kernels::average(&client, activations, &target),
                Operation::Dropout(_) => match &factors[number] {
                    Some(factors) => {
                        kernels::pointwise(&client, Pointwise::Scaled(factors), activations, &target, &epilogue);
                    }
                    None => passed_on = Some(source.clone()),
                },
                Operation::Identity => kernels::pointwise(&client, Pointwise::Same, activations, &target, &epilogue),
            });
            values[stage.output] = Some(passed_on.unwrap_or(target));
            if !recorded {
                for value in [Some(stage.input), stage.add].into_iter().flatten() {
                    left[value] -= 1;
                    if left[value] == 0 {
                        values[value] = None;
                    }
                }
            }
        }
        let Some(Some(last)) = values.last() else {
            unreachable!("a network has a stage");
        };
        let classes = program.shapes[program.output()].channels;
        // The rows of the logits are a view of what the last layer wrote, whose channels are filled up.
        let logits = CubeTensor::new(
            client.clone(),
            last.clone(),
            Metadata::new(Shape::new([count, classes]), Strides::new(&[stored(classes), 1])),
            images.device.clone(),
            DType::F32,
        );
        let tape = recorded.then(|| Tape {
            images,
            length: parameters.meta.shape()[0],
            count,
            halves: self.halves,
            batch_statistics: self.batch_statistics,
            layers,
            values,
            maps,
            factors,
        });
        (logits, statistics, tape)
    }

    /// A dropout's factors as activations lie.
    fn factors_of(&self, client: &Client, stage: &Stage, count: usize) -> Option<Handle> {
        let Operation::Dropout(number) = stage.operation else {
            return None;
        };
        let factors = self.factors.get(number).filter(|factors| !factors.is_empty())?;
        let shape = self.program.shapes[stage.output];
        let (places, channels) = (shape.height * shape.width, stored(shape.channels));
        let mut placed = vec![0.0_f32; count * values(shape)];
        for (plane, factors) in factors.chunks(places).enumerate() {
            let (image, channel) = (plane / shape.channels, plane % shape.channels);
            for (place, factor) in factors.iter().enumerate() {
                placed[(image * places + place) * channels + channel] = *factor;
            }
        }
        let bytes = placed.into_iter().flat_map(f32::to_ne_bytes).collect();
        Some(client.create(Bytes::from_bytes_vec(bytes)))
    }
}

/// The gradients of values, as contributions come in.
struct Back<'a> {
    tape: &'a Tape,
    graph: &'a Graph,
    program: &'a Program,
    client: Client,
    /// Contributions that are still to come.
    left: Vec<usize>,
    /// The sum so far.
    sums: Vec<Option<Handle>>,
    /// Whether a ReLU made the value.
    relus: Vec<bool>,
    parameters: Option<Handle>,
    /// What float16 makes of the gradients.
    gradient_scale: f32,
}

/// What gradients are multiplied with before they are rounded to float16. Each example's begins with values of about 1, of which its loss's
/// mean over the minibatch leaves a share: then the minibatch comes in as another factor.
fn gradient_scale(examples: usize, is_mean: bool) -> f32 {
    /// Far from float16's largest value, 65,504, beyond which it is infinite, and from its smallest normal one, 2⁻¹⁴.
    const SCALE: f32 = 256.0;
    let share = if is_mean { examples.next_power_of_two() } else { 1 };
    SCALE * share as f32
}

impl Tape {
    /// Whether it is that of a program with BatchNorm folded.
    pub fn is_folded(&self) -> bool {
        self.layers.folded
    }

    /// Gradients of images, parameters or both from that of the logits, `[N, K]`.
    pub fn gradients(
        &self,
        graph: &Graph,
        program: &Program,
        logits: CubeTensor,
        [images, parameters]: [bool; 2],
    ) -> [Option<CubeTensor>; 2] {
        let client = logits.client.clone();
        let length = self.length;
        let mut relus = vec![false; program.shapes.len()];
        for stage in &program.stages {
            relus[stage.output] = stage.relu;
        }
        let mut back = Back {
            tape: self,
            graph,
            program,
            left: program.uses.clone(),
            sums: program.shapes.iter().map(|_| None).collect(),
            relus,
            parameters: parameters.then(|| client.empty(length * size_of::<f32>())),
            // An attack climbs the sum of the losses, a step of training descends their mean.
            gradient_scale: gradient_scale(self.count / self.halves, parameters),
            client,
        };
        let shape = self.images.meta.shape().clone();
        let found = images.then(|| back.client.empty(shape.num_elements() * size_of::<f32>()));
        back.run(filled_up(logits, program), found.as_ref());
        let tensor = |handle: Option<Handle>, shape: Shape| {
            let (client, device) = (self.images.client.clone(), self.images.device.clone());
            handle.map(|handle| CubeTensor::new_contiguous(client, device, shape, handle, DType::F32))
        };
        [tensor(found, shape), tensor(back.parameters, Shape::new([length]))]
    }
}

/// The gradient of the logits as the last layer's activations lie.
fn filled_up(logits: CubeTensor, program: &Program) -> Handle {
    let classes = program.shapes[program.output()].channels;
    let strides = logits.meta.strides();
    let [rows, columns] = [strides[0], strides[1]];
    if rows == stored(classes) && columns == 1 && logits.handle.offset_start.unwrap_or(0) == 0 {
        return logits.handle;
    }
    let missing = stored(classes) - classes;
    if missing == 0 {
        return into_contiguous(logits).handle;
    }
    let shape = Shape::new([logits.meta.shape()[0], missing]);
    let zeros = Cube::float_zeros(shape, &logits.device, FloatDType::F32);
    into_contiguous(Cube::float_cat(vec![logits, zeros], 1)).handle
}

impl Back<'_> {
    fn making(&self) -> Making<'_> {
        Making {
            client: &self.client,
            products: self.tape.layers.products,
            gradient_scale: self.gradient_scale,
        }
    }

    /// Adds a contribution to a value's gradient: `make` writes it through an epilogue that adds what is there already and,
    /// for the last one, takes the ReLU's part.
    fn contribute(&mut self, value: Value, make: impl FnOnce(&Self, &Handle, &Epilogue)) {
        self.left[value] -= 1;
        let last = self.left[value] == 0;
        let sum = self.sums[value].take();
        let epilogue = Epilogue {
            add: sum.as_ref(),
            relu: false,
            keep: self.tape.values[value].as_ref().filter(|_| last && self.relus[value]),
        };
        let target = self.client.empty(bytes(self.program.shapes[value], self.tape.count));
        make(self, &target, &epilogue);
        self.sums[value] = Some(target);
    }

    /// Adds a gradient as it is.
    fn pass_on(&mut self, value: Value, gradient: &Handle) {
        let last = self.left[value] == 1;
        if self.sums[value].is_none() && !(last && self.relus[value]) {
            self.left[value] -= 1;
            self.sums[value] = Some(gradient.clone());
            return;
        }
        let activations = (gradient, self.program.shapes[value], self.tape.count);
        self.contribute(value, |back, target, epilogue| {
            kernels::pointwise(&back.client, Pointwise::Same, activations, target, epilogue);
        });
    }

    fn run(&mut self, logits: Handle, images: Option<&Handle>) {
        self.sums[self.program.output()] = Some(logits);
        for (number, stage) in self.program.stages.iter().enumerate().rev() {
            let Some(gradient) = self.sums[stage.output].take() else {
                unreachable!("every value is read by a later stage or is the logits");
            };
            if let Some(add) = stage.add {
                self.pass_on(add, &gradient);
            }
            profile::part(number, Direction::Input, || {
                self.stage(number, stage, &gradient, images)
            });
        }
    }

    fn stage(&mut self, number: usize, stage: &Stage, gradient: &Handle, images: Option<&Handle>) {
        let (tape, graph, count) = (self.tape, self.graph, self.tape.count);
        let (from, value) = (self.program.shapes[stage.input], stage.input);
        let input = tape.values[value].as_ref().unwrap_or(&tape.images.handle);
        match &stage.operation {
            Operation::Stem(layer) => {
                if let Some(parameters) = &self.parameters {
                    profile::part(number, Direction::Weights, || {
                        convolution::stem_weight_gradient(&self.client, layer, (input, gradient, count), parameters);
                    });
                }
                if let Some(images) = images {
                    let packed = tape.layers.packed(&self.client, number);
                    convolution::stem_gradient(&self.client, layer, packed, (gradient, count), images);
                }
            }
            Operation::Convolution(layer) => {
                if let Some(parameters) = &self.parameters {
                    profile::part(number, Direction::Weights, || {
                        self.making()
                            .weight_gradient(layer, (input, gradient, count), parameters);
                    });
                }
                self.contribute(value, |back, target, epilogue| {
                    let packed = tape.layers.packed(&back.client, number);
                    back.making()
                        .image_gradient(layer, packed, (gradient, count), target, epilogue);
                });
            }
            Operation::Norm(norm) => {
                let normed = Normed {
                    norm: &graph.norms()[*norm],
                    shape: from,
                    examples: count,
                    halves: if tape.batch_statistics { tape.halves } else { 1 },
                };
                let Some(forward) = &tape.maps[number] else {
                    unreachable!("a recorded BatchNorm noted its map");
                };
                let numbers = &tape.layers.parameters;
                // Without gradients of parameters somebody must still take those of γ and β.
                let aside = self.parameters.is_none() && tape.batch_statistics;
                let unwanted = aside.then(|| self.client.empty(numbers.size_in_used() as usize));
                let target = self.parameters.as_ref().or(unwanted.as_ref());
                let back = target.map(|target| {
                    let operands = (input, gradient, forward);
                    normed.back(&self.client, operands, numbers, target, !tape.batch_statistics)
                });
                let map = back.as_ref().filter(|_| tape.batch_statistics);
                self.contribute(value, |back, target, epilogue| {
                    let operation = match map {
                        Some(map) => Pointwise::MappedBack(map, input),
                        None => Pointwise::Stretched(forward),
                    };
                    kernels::pointwise(&back.client, operation, (gradient, from, count), target, epilogue);
                });
            }
            Operation::Pool => self.contribute(value, |back, target, epilogue| {
                kernels::pool_back(&back.client, (input, from, count), gradient, target, epilogue);
            }),
            Operation::Average => self.contribute(value, |back, target, epilogue| {
                kernels::pointwise(
                    &back.client,
                    Pointwise::Spread,
                    (gradient, from, count),
                    target,
                    epilogue,
                );
            }),
            Operation::Dropout(_) => match &tape.factors[number] {
                Some(factors) => self.contribute(value, |back, target, epilogue| {
                    let operation = Pointwise::Scaled(factors);
                    kernels::pointwise(&back.client, operation, (gradient, from, count), target, epilogue);
                }),
                None => self.pass_on(value, gradient),
            },
            Operation::Identity => self.pass_on(value, gradient),
        }
    }
}
