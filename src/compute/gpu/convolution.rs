//! Convolutions and linear layers, forth and back.

use cubecl::{client::Client, server::Handle};

use super::{
    kernels::{Epilogue, stored, values},
    launch::{Launch, Shader, in_rows, shader},
    packing::{Packed, is_whole},
    winograd::{self, has_transformed_gradient},
};
use crate::{compute::stages::Layer, shapes::ImageShape};

shader!(CONVOLVE, "convolve", "epilogue", "convolution");
shader!(CONVOLVE_HALF, "convolve_half", "epilogue", "convolution");
shader!(STEM, "stem");
shader!(STEM_GRADIENT, "stem_gradient");
shader!(WEIGHT_GRADIENT, "weight_gradient", "weights");
shader!(WEIGHT_GRADIENT_HALF, "weight_gradient_half", "weights");
shader!(STEM_WEIGHT_GRADIENT, "stem_weight_gradient");
shader!(JOIN_GRADIENTS, "join_gradients");

/// The matrix units of a device, as kernels use them: products of square float16 matrices, summed in float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MatrixUnits {
    /// Rows and columns of a matrix: 8 or 16.
    pub size: u32,
    /// Threads of a subgroup, which have a matrix together.
    pub lanes: u32,
}

/// How the factors of convolutions are multiplied; the sums are float32's. The first convolution and linear layers are always
/// [`Products::Single`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Products {
    /// As they are, in float32.
    Single,
    /// Rounded to float16.
    Rounded,
    /// The same on matrix units.
    OnMatrixUnits(MatrixUnits),
}

impl Products {
    fn of(self, layer: &Layer) -> Self {
        if is_whole(layer) { Self::Single } else { self }
    }

    /// What makes a factor of a value, as texts that multiply in float32 have it before them. Where nothing is rounded, nothing may stand there
    /// that a device could lack.
    fn factor(self) -> &'static str {
        if self == Self::Single {
            "const ROUND: bool = false;\nfn factor(value: vec4<f32>) -> vec4<f32> { return value; }\n"
        } else {
            // Not quantizeToF16(), which may make zeros of the smallest.
            "const ROUND: bool = true;\nfn factor(value: vec4<f32>) -> vec4<f32> {\n    \
             return vec4<f32>(unpack2x16float(pack2x16float(value.xy)), unpack2x16float(pack2x16float(value.zw)));\n}\n"
        }
    }
}

/// A tile on matrix units: subgroups down and across, and rows of matrices of each; of columns it has two.
#[derive(Debug, Clone, Copy)]
struct Tile([u32; 3]);

/// The tiles from the largest to the smallest.
const TILES: [Tile; 3] = [Tile([2, 4, 4]), Tile([4, 2, 2]), Tile([2, 2, 2])];

impl Tile {
    /// Rows and columns.
    fn size(self, units: MatrixUnits) -> [usize; 2] {
        let [down, across, high] = self.0;
        [down * high, across * 2].map(|matrices| (matrices * units.size) as usize)
    }

    /// What stands before a text that multiplies such tiles.
    fn constants(self, units: MatrixUnits, depth: u32) -> String {
        let ([down, across, high], MatrixUnits { size, lanes }) = (self.0, units);
        let kind = format!("coop_mat{size}x{size}");
        format!(
            "enable f16;\nenable wgpu_cooperative_matrix;\n\
             alias Left = {kind}<f16, A>;\nalias Right = {kind}<f16, B>;\nalias Sum = {kind}<f32, C>;\n\
             const SIZE: u32 = {size}u;\nconst LANES: u32 = {lanes}u;\nconst DEPTH: u32 = {depth}u;\n\
             const DOWN: u32 = {down}u;\nconst ACROSS: u32 = {across}u;\nconst HIGH: u32 = {high}u;\n"
        )
    }
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

/// The tile of convolve.wgsl for so many rows and columns, as rows and columns of threads and the teams that share it: large tiles use what they
/// load more often, small ones and two teams keep a wide device busy where there are few positions.
fn tile(rows: usize, columns: usize) -> [usize; 3] {
    let groups = |[down, across]: [usize; 2]| rows.div_ceil(8 * down) * columns.div_ceil(8 * across);
    // With so many workgroups the widest of today's devices is busy.
    let tiles = [([16, 16], 250), ([16, 8], 264), ([8, 8], 264)];
    let busy = tiles
        .into_iter()
        .find(|(tile, enough)| columns >= 8 * tile[1] && groups(*tile) >= *enough);
    busy.map_or([8, 8, 2], |([down, across], _)| [down, across, 1])
}

/// The same on matrix units, and the terms that are loaded together.
fn tile_of_matrices(units: MatrixUnits, rows: usize, [terms, columns]: [usize; 2]) -> (Tile, u32) {
    let [big, medium, small] = TILES;
    let groups = |tile: Tile| {
        let [down, across] = tile.size(units);
        if columns < across {
            0
        } else {
            rows.div_ceil(down) * columns.div_ceil(across)
        }
    };
    // Few workgroups wait less often where they load more at once.
    let (tile, is_deep) = if groups(big) >= 120 {
        (big, groups(big) < 250)
    } else if groups(medium) >= 250 {
        (medium, false)
    } else {
        (small, true)
    };
    let is_even = terms.next_multiple_of(16).is_multiple_of(2 * units.size as usize);
    (tile, if is_deep && is_even { 2 * units.size } else { units.size })
}

/// Rows and columns of a tile of weight_gradient.wgsl.
const WEIGHT_TILE: [usize; 2] = [128, 64];

/// What a convolution is made with.
pub struct Making<'a> {
    /// Where it is launched.
    pub client: &'a Client,
    /// How its factors are multiplied.
    pub products: Products,
    /// What a gradient is multiplied with before it is rounded to float16, whose smallest normal value is 2⁻¹⁴: a power of two.
    pub gradient_scale: f32,
}

impl Making<'_> {
    /// The scale of one direction and its inverse, as words.
    fn scales(&self, gradient: bool) -> [u32; 2] {
        let scale = if gradient { self.gradient_scale } else { 1.0 };
        [scale, 1.0 / scale].map(f32::to_bits)
    }

    fn convolve(
        &self,
        (layer, examples): (&Layer, usize),
        (source, packed): (&Handle, &Packed),
        target: &Handle,
        epilogue: &Epilogue,
        gradient: bool,
    ) {
        let weights = if gradient { &packed.backward } else { &packed.forward };
        let bias = &packed.bias;
        if packed.is_transformed {
            let operands = (source, weights, bias);
            return winograd::convolve(self.client, (layer, examples), operands, target, epilogue, gradient);
        }
        let seen = Seen::of(layer);
        let (from, to) = if gradient {
            (seen.output, seen.input)
        } else {
            (seen.input, seen.output)
        };
        let stride = if gradient { seen.stride } else { 1 };
        let classes = stride * stride;
        let positions = examples * to[0].div_ceil(stride) * to[1].div_ceil(stride);
        let (shader, constants, [down, across]): (&'static Shader, _, _) = match self.products.of(layer) {
            Products::OnMatrixUnits(units) => {
                let (tile, depth) = tile_of_matrices(units, positions * classes, [from[2], to[2]]);
                (&CONVOLVE_HALF, tile.constants(units, depth), tile.size(units))
            }
            products => {
                let [down, across, teams] = tile(positions * classes, to[2]);
                let constants = format!(
                    "const ROWS: u32 = {down}u;\nconst COLUMNS: u32 = {across}u;\nconst TEAMS: u32 = {teams}u;\n{}",
                    products.factor()
                );
                (&CONVOLVE, constants, [8 * down, 8 * across])
            }
        };
        let mut words = seen.words(examples, from, to, epilogue.flags()).to_vec();
        words.extend(self.scales(gradient));
        let launch = Launch {
            shader,
            constants: format!("{constants}const GRADIENT: bool = {gradient};\n"),
            groups: [
                positions.div_ceil(down) as u32,
                to[2].div_ceil(across) as u32,
                classes as u32,
            ],
            words: &words,
        };
        let other = epilogue.add.unwrap_or(bias);
        let kept = epilogue.keep.unwrap_or(bias);
        launch.over(self.client, &[source, weights, bias, other, kept, target]);
    }

    /// Products of matrices that are apart from each other, summed over their rows: `count` of `[positions, inputs]` turned, each times its own
    /// `[positions, outputs]`, in parts. Where there are more rows than inputs, one more has the sums of the outputs.
    pub(super) fn multiply_back(
        &self,
        count: usize,
        parts: usize,
        [positions, inputs, outputs, rows]: [usize; 4],
        [left, right, target]: [&Handle; 3],
    ) {
        let seen = Seen {
            input: [1, positions, inputs],
            output: [1, positions, outputs],
            kernel: [1, 1],
            stride: 1,
            padding: 0,
        };
        let mut words = seen.words(1, seen.input, seen.output, parts as u32).to_vec();
        words.push(rows as u32);
        words.extend(self.scales(false));
        let [down, across] = WEIGHT_TILE;
        let launch = Launch {
            shader: &WEIGHT_GRADIENT,
            constants: Products::Single.factor().to_string(),
            groups: [
                rows.div_ceil(down) as u32,
                outputs.div_ceil(across) as u32,
                (count * parts) as u32,
            ],
            words: &words,
        };
        launch.over(self.client, &[left, right, target]);
    }

    /// A convolution of activations.
    pub fn forward(
        &self,
        layer: &Layer,
        packed: &Packed,
        (source, examples): (&Handle, usize),
        target: &Handle,
        epilogue: &Epilogue,
    ) {
        self.convolve((layer, examples), (source, packed), target, epilogue, false);
    }

    /// The gradient of what a convolution read.
    pub fn image_gradient(
        &self,
        layer: &Layer,
        packed: &Packed,
        (gradient, examples): (&Handle, usize),
        target: &Handle,
        epilogue: &Epilogue,
    ) {
        self.convolve((layer, examples), (gradient, packed), target, epilogue, true);
    }

    /// The gradients of a layer's weights and bias, written where they lie among the parameters'.
    pub fn weight_gradient(
        &self,
        layer: &Layer,
        (source, gradient, examples): (&Handle, &Handle, usize),
        target: &Handle,
    ) {
        if has_transformed_gradient(layer, self.products) {
            return winograd::weight_gradient(self, layer, (source, gradient, examples), target);
        }
        let seen = Seen::of(layer);
        let terms = layer.taps() * stored(layer.input.channels);
        let rows = if layer.bias().is_some() { terms + 4 } else { terms };
        let columns = seen.output[2].next_multiple_of(64);
        let positions = examples * seen.output[0] * seen.output[1];
        let is_wide = seen.output[2] >= 128;
        let (shader, constants, [down, across]): (&'static Shader, _, _) = match self.products.of(layer) {
            Products::OnMatrixUnits(units) => {
                let tile = TILES[usize::from(!is_wide)];
                let depth = if is_wide { units.size } else { 2 * units.size };
                (&WEIGHT_GRADIENT_HALF, tile.constants(units, depth), tile.size(units))
            }
            products => (&WEIGHT_GRADIENT, products.factor().to_string(), WEIGHT_TILE),
        };
        let tiles = [rows.div_ceil(down), seen.output[2].div_ceil(across)];
        let parts = parts(tiles[0] * tiles[1] * down * across, positions);
        let partial = self.client.empty(parts * rows * columns * size_of::<f32>());
        let mut words = seen.words(examples, seen.input, seen.output, parts as u32).to_vec();
        words.push(rows as u32);
        words.extend(self.scales(true));
        let launch = Launch {
            shader,
            constants,
            groups: [tiles[0] as u32, tiles[1] as u32, parts as u32],
            words: &words,
        };
        launch.over(self.client, &[source, gradient, &partial]);
        join(self.client, layer, &partial, [parts, rows], target);
    }
}

/// The parts into which the sums of a weight gradient over so many positions are divided, for so many values of tiles.
fn parts(values: usize, positions: usize) -> usize {
    /// Values of tiles that keep a wide device busy.
    const BUSY: usize = 1056 * 128 * 64;
    // Parts of no fewer positions than make the reading of a tile worth it.
    BUSY.div_ceil(values).clamp(1, positions.div_ceil(128).max(1))
}

/// The same of some products of rows and columns, in the tiles of weight_gradient.wgsl.
pub(super) fn weight_parts([rows, columns]: [usize; 2], [products, positions]: [usize; 2]) -> usize {
    let [down, across] = WEIGHT_TILE;
    parts(
        products * rows.next_multiple_of(down) * columns.next_multiple_of(across),
        positions,
    )
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

/// The gradients of the first convolution's weights and bias.
pub fn stem_weight_gradient(
    client: &Client,
    layer: &Layer,
    (source, gradient, examples): (&Handle, &Handle, usize),
    target: &Handle,
) {
    /// Workgroups that keep a wide device busy.
    const BUSY: usize = 1056;
    let rows = layer.taps() * stored(layer.input.channels) + 4;
    let columns = layer.output.channels.next_multiple_of(64);
    let positions = examples * layer.output.height * layer.output.width;
    let tiles = [rows.div_ceil(40), columns / 64];
    let parts = BUSY
        .div_ceil(tiles[0] * tiles[1])
        .clamp(1, positions.div_ceil(128).max(1));
    let partial = client.empty(parts * rows * columns * size_of::<f32>());
    let launch = Launch {
        shader: &STEM_WEIGHT_GRADIENT,
        constants: String::new(),
        groups: [tiles[0] as u32, tiles[1] as u32, parts as u32],
        words: &stem_words(layer, examples, parts as u32),
    };
    launch.over(client, &[source, gradient, &partial]);
    join(client, layer, &partial, [parts, rows], target);
}

/// Where a layer's gradients are written among the parameters', and whether there is one of a bias, as the shaders that join parts read it.
pub(super) fn gradients_of(layer: &Layer) -> [usize; 3] {
    const BIAS: usize = 2;
    let weights = layer.weights().start;
    layer.bias().map_or([weights, 0, 0], |bias| [weights, bias.start, BIAS])
}

/// Adds the parts of a layer's gradients up.
fn join(client: &Client, layer: &Layer, partial: &Handle, [parts, rows]: [usize; 2], target: &Handle) {
    let inputs = stored(layer.input.channels);
    let [weights, bias, flags] = gradients_of(layer);
    let words = [
        layer.input.channels,
        layer.output.channels,
        layer.taps(),
        inputs,
        parts,
        rows,
        weights,
        bias,
        flags,
    ];
    let launch = Launch {
        shader: &JOIN_GRADIENTS,
        constants: String::new(),
        groups: in_rows(((layer.taps() * inputs + 1) * layer.output.channels).div_ceil(256)),
        words: &words.map(|word| word as u32),
    };
    launch.over(client, &[partial, target]);
}
