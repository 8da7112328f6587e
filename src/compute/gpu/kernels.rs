//! The kernels that networks are made of beside convolutions, each as a function over buffers. Shapes and formulas stand in the shaders.
//!
//! Activations lie `[N, H, W, C]`, channels filled up to a multiple of four with zeros.

use cubecl::{client::Client, server::Handle};

use super::launch::{Launch, in_rows, shader};
use crate::{
    compute::graph::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, Norm},
    shapes::ImageShape,
};

shader!(NORM_SUMS, "norm_sums");
shader!(NORM_MAP, "norm_map");
shader!(POINTWISE, "pointwise", "epilogue");
shader!(POOL, "pool");

/// Channels as they lie in memory.
pub fn stored(channels: usize) -> usize {
    channels.next_multiple_of(4)
}

/// Values of one image in memory.
pub fn values(shape: ImageShape) -> usize {
    shape.height * shape.width * stored(shape.channels)
}

/// Bytes of the activations of some images.
pub fn bytes(shape: ImageShape, examples: usize) -> usize {
    values(shape) * examples * size_of::<f32>()
}

const ADD: u32 = 1;
const RELU: u32 = 2;
const KEEP: u32 = 4;
const MAP: u32 = 8;
const CENTRED: u32 = 16;
const SCALE: u32 = 32;
const SPREAD: u32 = 64;
const STRETCH: u32 = 128;

/// What is done to each result before it is stored: a sum, a ReLU, and zeros where another value is not positive.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added.
    pub add: Option<&'a Handle>,
    /// Negative values become zero.
    pub relu: bool,
    /// Values are kept where these are positive.
    pub keep: Option<&'a Handle>,
}

impl Epilogue<'_> {
    /// As the shaders read them.
    pub(super) fn flags(&self) -> u32 {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        flag(self.add.is_some(), ADD) | flag(self.relu, RELU) | flag(self.keep.is_some(), KEEP)
    }
}

/// What BatchNorms make of their channels, `[half][4][C]`.
#[derive(Debug, Clone)]
pub struct Map {
    handle: Handle,
    halves: usize,
}

/// The parts of a BatchNorm's sums, and positions of one.
fn norm_parts(positions: usize) -> [usize; 2] {
    let share = positions.div_ceil(128).max(64);
    [positions.div_ceil(share), share]
}

/// A BatchNorm's activations.
#[derive(Debug, Clone, Copy)]
pub struct Normed<'a> {
    /// Where its numbers lie.
    pub norm: &'a Norm,
    /// The shape of what it reads.
    pub shape: ImageShape,
    /// Images.
    pub examples: usize,
    /// Equal shares of them with statistics of their own.
    pub halves: usize,
}

/// Which numbers norm_map.wgsl makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Statistics,
    Given,
    Gradient,
    Fixed,
}

impl Normed<'_> {
    fn positions(&self) -> usize {
        self.examples / self.halves * self.shape.height * self.shape.width
    }

    fn sums(&self, client: &Client, source: &Handle, gradient: Option<(&Handle, &Map)>) -> Handle {
        let ([parts, share], channels) = (norm_parts(self.positions()), stored(self.shape.channels));
        let partial = client.empty(self.halves * parts * 2 * channels * size_of::<f32>());
        let words = [
            self.positions(),
            share,
            channels,
            parts,
            usize::from(gradient.is_some()),
        ];
        let launch = Launch {
            shader: &NORM_SUMS,
            constants: String::new(),
            groups: [parts as u32, channels.div_ceil(64) as u32, self.halves as u32],
            words: &words.map(|word| word as u32),
        };
        let (gradient, map) = gradient.map_or((source, source), |(gradient, map)| (gradient, &map.handle));
        launch.over(client, &[source, gradient, map, &partial]);
        partial
    }

    fn map(
        &self,
        client: &Client,
        mode: Mode,
        [partial, parameters, statistics, forward, gradient]: [&Handle; 5],
    ) -> Map {
        let ([parts, share], channels) = (norm_parts(self.positions()), stored(self.shape.channels));
        let handle = client.empty(self.halves * 4 * channels * size_of::<f32>());
        let words = [
            self.positions() as u32,
            share as u32,
            self.norm.channels as u32,
            channels as u32,
            parts as u32,
            self.halves as u32,
            self.norm.weight as u32,
            self.norm.bias as u32,
            self.norm.mean().start as u32,
            self.norm.variance().start as u32,
            mode as u32,
            (BATCH_NORM_EPSILON as f32).to_bits(),
            (BATCH_NORM_MOMENTUM as f32).to_bits(),
        ];
        let launch = Launch {
            shader: &NORM_MAP,
            constants: String::new(),
            groups: [channels.div_ceil(16) as u32, 1, 1],
            words: &words,
        };
        launch.over(client, &[partial, parameters, statistics, forward, &handle, gradient]);
        Map {
            handle,
            halves: self.halves,
        }
    }

    /// The map by the statistics of the images, towards which `statistics` move.
    pub fn by_batch(&self, client: &Client, source: &Handle, parameters: &Handle, statistics: &Handle) -> Map {
        let partial = self.sums(client, source, None);
        self.map(
            client,
            Mode::Statistics,
            [&partial, parameters, statistics, &partial, &partial],
        )
    }

    /// The map by given statistics.
    pub fn given(&self, client: &Client, parameters: &Handle, statistics: &Handle) -> Map {
        self.map(
            client,
            Mode::Given,
            [parameters, parameters, statistics, parameters, parameters],
        )
    }

    /// The map back, and the gradients of γ and β, written where they lie among the parameters'. `fixed` where the statistics
    /// were given.
    pub fn back(
        &self,
        client: &Client,
        (source, gradient, forward): (&Handle, &Handle, &Map),
        parameters: &Handle,
        target: &Handle,
        fixed: bool,
    ) -> Map {
        let partial = self.sums(client, source, Some((gradient, forward)));
        let mode = if fixed { Mode::Fixed } else { Mode::Gradient };
        self.map(
            client,
            mode,
            [&partial, parameters, parameters, &forward.handle, target],
        )
    }
}

/// What is done value by value before the epilogue.
#[derive(Debug, Clone, Copy)]
pub enum Pointwise<'a> {
    /// Nothing.
    Same,
    /// A BatchNorm's scale and shift.
    Mapped(&'a Map),
    /// A BatchNorm's scale alone: its way back where the statistics were given.
    Stretched(&'a Map),
    /// A BatchNorm's way back, with what it read.
    MappedBack(&'a Map, &'a Handle),
    /// Times factors.
    Scaled(&'a Handle),
    /// The way back from a mean: each place takes its share.
    Spread,
}

/// Does it to the activations of some images.
pub fn pointwise(
    client: &Client,
    operation: Pointwise,
    (source, shape, examples): (&Handle, ImageShape, usize),
    target: &Handle,
    epilogue: &Epilogue,
) {
    let image = values(shape) / 4;
    let count = image * examples;
    let (flags, map, centred) = match operation {
        Pointwise::Same => (0, None, None),
        Pointwise::Mapped(map) => (MAP, Some(map), None),
        Pointwise::Stretched(map) => (STRETCH, Some(map), None),
        Pointwise::MappedBack(map, centred) => (MAP | CENTRED, Some(map), Some(centred)),
        Pointwise::Scaled(factors) => (SCALE, None, Some(factors)),
        Pointwise::Spread => (SPREAD, None, None),
    };
    let half = count / map.map_or(1, |map| map.halves);
    let words = [
        count as u32,
        stored(shape.channels) as u32,
        image as u32,
        half as u32,
        flags | epilogue.flags(),
        (1.0 / (shape.height * shape.width) as f32).to_bits(),
    ];
    let launch = Launch {
        shader: &POINTWISE,
        constants: String::new(),
        groups: in_rows(count.div_ceil(256)),
        words: &words,
    };
    let map = map.map_or(source, |map| &map.handle);
    let others = [centred, epilogue.add, epilogue.keep].map(|other| other.unwrap_or(source));
    launch.over(client, &[source, map, others[0], others[1], others[2], target]);
}

fn pools(
    client: &Client,
    flags: u32,
    threads: usize,
    (source, shape, examples): (&Handle, ImageShape, usize),
    [gradient, other, target]: [&Handle; 3],
) {
    let words = [
        examples,
        shape.height,
        shape.width,
        stored(shape.channels),
        flags as usize,
    ];
    let launch = Launch {
        shader: &POOL,
        constants: String::new(),
        groups: in_rows(threads.div_ceil(256)),
        words: &words.map(|word| word as u32),
    };
    launch.over(client, &[source, gradient, other, target]);
}

/// The highest of each 2×2 places.
pub fn pool(client: &Client, source: (&Handle, ImageShape, usize), target: &Handle) {
    let (handle, shape, examples) = source;
    let threads = examples * (shape.height / 2) * (shape.width / 2) * stored(shape.channels) / 4;
    pools(client, 0, threads, source, [handle, handle, target]);
}

/// The gradient of what [`pool`] read.
pub fn pool_back(
    client: &Client,
    source: (&Handle, ImageShape, usize),
    gradient: &Handle,
    target: &Handle,
    epilogue: &Epilogue,
) {
    const GRADIENT: u32 = 8;
    let (_, shape, examples) = source;
    let threads = examples * shape.height.div_ceil(2) * shape.width.div_ceil(2) * stored(shape.channels) / 4;
    let other = epilogue.add.unwrap_or(gradient);
    pools(
        client,
        GRADIENT | epilogue.flags(),
        threads,
        source,
        [gradient, other, target],
    );
}

/// The mean over each channel's places.
pub fn average(client: &Client, source: (&Handle, ImageShape, usize), target: &Handle) {
    const MEAN: u32 = 16;
    let (handle, shape, examples) = source;
    pools(
        client,
        MEAN,
        examples * stored(shape.channels) / 4,
        source,
        [handle, handle, target],
    );
}
