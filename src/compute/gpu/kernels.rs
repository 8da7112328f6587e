//! The kernels that networks are made of, each as a function over buffers. Shapes and formulas stand in the shaders.
//!
//! Activations lie `[N, H, W, C]`, channels filled up to a multiple of four with zeros.

use std::ops::Range;

use cubecl::{bytes::Bytes, client::Client, server::Handle};

use super::launch::{Launch, in_rows, shader};
use crate::{
    compute::{
        graph::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, Norm},
        stages::Layer,
    },
    shapes::ImageShape,
};

shader!(CONVOLVE, "convolve");
shader!(STEM, "stem");
shader!(STEM_GRADIENT, "stem_gradient");
shader!(WEIGHT_GRADIENT, "weight_gradient");
shader!(STEM_WEIGHT_GRADIENT, "stem_weight_gradient");
shader!(JOIN_GRADIENTS, "join_gradients");
shader!(PACK_WEIGHTS, "pack_weights");
shader!(NORM_SUMS, "norm_sums");
shader!(NORM_MAP, "norm_map");
shader!(POINTWISE, "pointwise");
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
    fn flags(&self) -> u32 {
        let flag = |set: bool, flag: u32| if set { flag } else { 0 };
        flag(self.add.is_some(), ADD) | flag(self.relu, RELU) | flag(self.keep.is_some(), KEEP)
    }
}

/// Whether a layer's kernel is as large as its image: then the image is the channels of one place.
fn is_whole(layer: &Layer) -> bool {
    layer.kernel == [layer.input.height, layer.input.width] && layer.padding == 0
}

/// A layer as convolve.wgsl sees it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    input: [usize; 3],
    output: [usize; 3],
    kernel: [usize; 2],
    stride: usize,
    padding: usize,
}

impl Seen {
    fn of(layer: &Layer) -> Self {
        let dims = |shape: ImageShape| [shape.height, shape.width, stored(shape.channels)];
        let output = dims(layer.output);
        if is_whole(layer) {
            return Self {
                input: [1, 1, values(layer.input)],
                output,
                kernel: [1, 1],
                stride: 1,
                padding: 0,
            };
        }
        Self {
            input: dims(layer.input),
            output,
            kernel: layer.kernel,
            stride: layer.stride,
            padding: layer.padding,
        }
    }

    /// Words of the uniform, from one side to the other.
    fn words(&self, examples: usize, from: [usize; 3], to: [usize; 3], last: u32) -> [u32; 12] {
        let [down, across] = self.kernel;
        let words = [
            examples,
            from[0],
            from[1],
            from[2],
            to[0],
            to[1],
            to[2],
            down,
            across,
            self.stride,
            self.padding,
        ];
        let mut all = [last; 12];
        all.iter_mut().zip(words).for_each(|(word, value)| *word = value as u32);
        all
    }
}

/// Packed weights of a layer.
#[derive(Debug)]
pub struct Packed {
    forward: Handle,
    backward: Handle,
    bias: Handle,
}

/// How layers are packed: which of them share a launch and a buffer, and where their parts lie. The same for every state of the parameters.
#[derive(Debug)]
pub struct Packing(Vec<Bundle>);

/// Layers that are packed by one launch.
#[derive(Debug)]
struct Bundle {
    /// A row of the shader's table for each layer.
    table: Handle,
    parts: Vec<Parts>,
    groups: usize,
    values: usize,
}

/// Where a layer's packed parts lie, in values.
#[derive(Debug)]
struct Parts {
    stage: usize,
    forward: Range<usize>,
    backward: Range<usize>,
    bias: Range<usize>,
}

impl Packing {
    /// Places all layers of a network; with each the stage that it belongs to, and the BatchNorm that is folded in.
    pub fn new<'a>(client: &Client, layers: impl IntoIterator<Item = (usize, &'a Layer, Option<&'a Norm>)>) -> Self {
        /// Values of a buffer: a binding holds 128 MiB everywhere.
        const MOST: usize = 1 << 24;
        let mut bundles = Vec::new();
        let (mut words, mut parts, mut groups, mut end) = (Vec::new(), Vec::new(), 0, 0);
        for (stage, layer, norm) in layers {
            let (own, [forward, backward, bias]) = row(layer, norm);
            let size = forward + backward + bias;
            if !parts.is_empty() && end + size > MOST {
                bundles.push(Bundle::new(client, &words, std::mem::take(&mut parts), groups, end));
                words.clear();
                (groups, end) = (0, 0);
            }
            let mut place = |length: usize| {
                let begin = end;
                // Bindings begin at multiples of 256 bytes.
                end = (begin + length).next_multiple_of(64);
                begin..begin + length
            };
            let placed = Parts {
                stage,
                forward: place(forward),
                backward: place(backward),
                bias: place(bias),
            };
            words.extend(own);
            words.extend(
                [groups, placed.forward.start, placed.backward.start, placed.bias.start].map(|value| value as u32),
            );
            groups += forward.max(backward).div_ceil(256);
            parts.push(placed);
        }
        if !parts.is_empty() {
            bundles.push(Bundle::new(client, &words, parts, groups, end));
        }
        Self(bundles)
    }

    /// Packs the weights of one state of the parameters for both directions: each layer's by its stage.
    pub fn pack(&self, client: &Client, parameters: &Handle, statistics: &Handle) -> Vec<(usize, Packed)> {
        let bundles = self
            .0
            .iter()
            .flat_map(|bundle| bundle.pack(client, parameters, statistics));
        bundles.collect()
    }
}

impl Bundle {
    fn new(client: &Client, words: &[u32], parts: Vec<Parts>, groups: usize, values: usize) -> Self {
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Self {
            table: client.create(Bytes::from_bytes_vec(bytes)),
            parts,
            groups,
            values,
        }
    }

    fn pack(&self, client: &Client, parameters: &Handle, statistics: &Handle) -> Vec<(usize, Packed)> {
        let packed = client.empty(self.values * size_of::<f32>());
        let [x, y, _] = in_rows(self.groups);
        let launch = Launch {
            shader: &PACK_WEIGHTS,
            constants: String::new(),
            groups: [x, y, 2],
            words: &[self.parts.len() as u32, (BATCH_NORM_EPSILON as f32).to_bits()],
        };
        launch.over(client, &[parameters, statistics, &self.table, &packed]);
        let part = |range: &Range<usize>| {
            let bytes = |values: usize| (values * size_of::<f32>()) as u64;
            let handle = packed.clone().offset_start(bytes(range.start));
            handle.offset_end(bytes(self.values - range.end))
        };
        let each = self.parts.iter().map(|parts| {
            let packed = Packed {
                forward: part(&parts.forward),
                backward: part(&parts.backward),
                bias: part(&parts.bias),
            };
            (parts.stage, packed)
        });
        each.collect()
    }
}

/// The first words of a layer's row in the shader's table, and the values of its three parts.
fn row(layer: &Layer, norm: Option<&Norm>) -> ([u32; 12], [usize; 3]) {
    const WHOLE: u32 = 1;
    const BIAS: u32 = 2;
    const NORM: u32 = 4;
    let whole = is_whole(layer);
    let (taps, inputs, outputs) = (
        layer.taps(),
        stored(layer.input.channels),
        stored(layer.output.channels),
    );
    let [forward, backward] = if whole {
        let features = taps * inputs;
        [
            features.next_multiple_of(16) * outputs.next_multiple_of(64),
            outputs.next_multiple_of(16) * features.next_multiple_of(64),
        ]
    } else {
        [
            taps * inputs.next_multiple_of(16) * outputs.next_multiple_of(64),
            taps * outputs.next_multiple_of(16) * inputs.next_multiple_of(64),
        ]
    };
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let flags = flag(whole, WHOLE) | flag(layer.bias().is_some(), BIAS) | flag(norm.is_some(), NORM);
    let place = |place: Option<usize>| place.unwrap_or(0) as u32;
    let words = [
        layer.input.channels as u32,
        layer.output.channels as u32,
        taps as u32,
        inputs as u32,
        outputs as u32,
        layer.weights().start as u32,
        place(layer.bias().map(|bias| bias.start)),
        place(norm.map(|norm| norm.weight)),
        place(norm.map(|norm| norm.bias)),
        place(norm.map(|norm| norm.mean().start)),
        place(norm.map(|norm| norm.variance().start)),
        flags,
    ];
    (words, [forward, backward, outputs.next_multiple_of(64)])
}

/// Rows and columns of threads of a tile of convolve.wgsl, and the teams that share one: large tiles use what they load more
/// often, small ones and two teams keep a wide device busy where there are few positions.
fn tile(rows: usize, columns: usize) -> [usize; 3] {
    /// Workgroups that keep the widest of today's devices busy.
    const BUSY: usize = 264;
    let groups = |[down, across]: [usize; 2]| rows.div_ceil(8 * down) * columns.div_ceil(8 * across);
    let tiles = [[16, 16], [16, 8], [8, 8]];
    tiles
        .into_iter()
        .find(|tile| columns >= 8 * tile[1] && groups(*tile) >= BUSY)
        .map_or([8, 8, 2], |[down, across]| [down, across, 1])
}

fn convolve(
    client: &Client,
    seen: &Seen,
    examples: usize,
    (source, weights, bias): (&Handle, &Handle, &Handle),
    target: &Handle,
    epilogue: &Epilogue,
    gradient: bool,
) {
    let (from, to) = if gradient {
        (seen.output, seen.input)
    } else {
        (seen.input, seen.output)
    };
    let stride = if gradient { seen.stride } else { 1 };
    let positions = examples * to[0].div_ceil(stride) * to[1].div_ceil(stride);
    let [down, across, teams] = tile(positions * stride * stride, to[2]);
    let words = seen.words(examples, from, to, epilogue.flags());
    let launch = Launch {
        shader: &CONVOLVE,
        constants: format!(
            "const ROWS: u32 = {down}u;\nconst COLUMNS: u32 = {across}u;\nconst TEAMS: u32 = {teams}u;\nconst GRADIENT: bool = {gradient};\n"
        ),
        groups: [
            positions.div_ceil(8 * down) as u32,
            to[2].div_ceil(8 * across) as u32,
            (stride * stride) as u32,
        ],
        words: &words,
    };
    let other = epilogue.add.unwrap_or(bias);
    let kept = epilogue.keep.unwrap_or(bias);
    launch.over(client, &[source, weights, bias, other, kept, target]);
}

/// A convolution of activations.
pub fn forward(
    client: &Client,
    layer: &Layer,
    packed: &Packed,
    (source, examples): (&Handle, usize),
    target: &Handle,
    epilogue: &Epilogue,
) {
    let operands = (source, &packed.forward, &packed.bias);
    convolve(client, &Seen::of(layer), examples, operands, target, epilogue, false);
}

/// The gradient of what a convolution read.
pub fn image_gradient(
    client: &Client,
    layer: &Layer,
    packed: &Packed,
    (gradient, examples): (&Handle, usize),
    target: &Handle,
    epilogue: &Epilogue,
) {
    let operands = (gradient, &packed.backward, &packed.bias);
    convolve(client, &Seen::of(layer), examples, operands, target, epilogue, true);
}

/// The first convolution, of images.
pub fn stem(
    client: &Client,
    layer: &Layer,
    packed: &Packed,
    (images, examples): (&Handle, usize),
    target: &Handle,
    epilogue: &Epilogue,
) {
    let words = stem_words(layer, examples, epilogue.flags());
    let positions = examples * layer.output.height * layer.output.width;
    let [x, z, _] = in_rows(positions.div_ceil(64));
    let launch = Launch {
        shader: &STEM,
        constants: String::new(),
        groups: [x, stored(layer.output.channels).div_ceil(16) as u32, z],
        words: &words,
    };
    launch.over(client, &[images, &packed.forward, &packed.bias, target]);
}

fn stem_words(layer: &Layer, examples: usize, last: u32) -> [u32; 12] {
    let seen = Seen {
        input: [layer.input.height, layer.input.width, layer.input.channels],
        output: [layer.output.height, layer.output.width, stored(layer.output.channels)],
        kernel: layer.kernel,
        stride: layer.stride,
        padding: layer.padding,
    };
    seen.words(examples, seen.input, seen.output, last)
}

/// The gradient of the images, `[N, C, H, W]`.
pub fn stem_gradient(
    client: &Client,
    layer: &Layer,
    packed: &Packed,
    (gradient, examples): (&Handle, usize),
    target: &Handle,
) {
    let words = stem_words(layer, examples, 0);
    let launch = Launch {
        shader: &STEM_GRADIENT,
        constants: String::new(),
        groups: in_rows((examples * layer.input.height * layer.input.width).div_ceil(64)),
        words: &words,
    };
    launch.over(client, &[gradient, &packed.backward, target]);
}

/// The gradients of a layer's weights and bias, written where they lie among the parameters'.
pub fn weight_gradient(
    client: &Client,
    layer: &Layer,
    (source, gradient, examples): (&Handle, &Handle, usize),
    target: &Handle,
    is_stem: bool,
) {
    /// Workgroups that keep a wide device busy.
    const BUSY: usize = 1056;
    let seen = Seen::of(layer);
    let terms = layer.taps() * stored(layer.input.channels);
    let (rows, columns) = ((terms + 1).next_multiple_of(4), seen.output[2].next_multiple_of(64));
    let positions = examples * seen.output[0] * seen.output[1];
    let tiles = if is_stem {
        [rows.div_ceil(8), columns / 64]
    } else {
        [rows.div_ceil(128), columns / 64]
    };
    // Parts of no fewer positions than make the reading of a tile worth it.
    let parts = BUSY
        .div_ceil(tiles[0] * tiles[1])
        .clamp(1, positions.div_ceil(128).max(1));
    let partial = client.empty(parts * rows * columns * size_of::<f32>());
    let words = if is_stem {
        stem_words(layer, examples, parts as u32)
    } else {
        seen.words(examples, seen.input, seen.output, parts as u32)
    };
    let launch = Launch {
        shader: if is_stem {
            &STEM_WEIGHT_GRADIENT
        } else {
            &WEIGHT_GRADIENT
        },
        constants: String::new(),
        groups: [tiles[0] as u32, tiles[1] as u32, parts as u32],
        words: &words,
    };
    launch.over(client, &[source, gradient, &partial]);
    let bias = layer.bias();
    let words = [
        layer.input.channels,
        layer.output.channels,
        layer.taps(),
        stored(layer.input.channels),
        parts,
        layer.weights().start,
        bias.as_ref().map_or(0, |bias| bias.start),
        if bias.is_some() { 2 } else { 0 },
    ];
    let launch = Launch {
        shader: &JOIN_GRADIENTS,
        constants: String::new(),
        groups: in_rows(((terms + 1) * layer.output.channels).div_ceil(256)),
        words: &words.map(|word| word as u32),
    };
    launch.over(client, &[&partial, target]);
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
