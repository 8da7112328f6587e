//! Winograd's convolution F(2×2, 3×3) (Lavin and Gray 2015, section 4.1): a 3×3 convolution as 16 products of matrices over tiles of two by two
//! results, with 4/9 of its multiplications. Forth, and for the gradient of what was read, one kernel keeps all between; for the gradient
//! of the weights the factors go through memory.

use cubecl::{client::Client, server::Handle};

use super::{
    convolution::{Making, Products, gradients_of, weight_parts},
    kernels::{Epilogue, stored},
    launch::{Launch, Shader, in_rows, shader},
};
use crate::{compute::stages::Layer, shapes::ImageShape};

shader!(WINOGRAD_SOURCE, "winograd_source", "winograd_tiles");
shader!(WINOGRAD, "winograd", "epilogue");
shader!(WINOGRAD_GRADIENT, "winograd_gradient", "winograd_tiles");
shader!(WINOGRAD_JOIN, "winograd_join");

/// Products of matrices in place of a convolution.
pub(super) const PRODUCTS: usize = 16;

/// Bytes that the factors of some images may take: a binding holds as many everywhere. Tests take their images in turns too.
const MOST: usize = if cfg!(test) { 256 << 10 } else { 128 << 20 };

/// Tiles of an image, down and across.
fn tiles_of(shape: ImageShape) -> [usize; 2] {
    [shape.height.div_ceil(2), shape.width.div_ceil(2)]
}

/// Bytes of the 16 factors of an image.
fn factors_of(layer: &Layer) -> usize {
    let bytes = |shape: ImageShape| {
        let [down, across] = tiles_of(shape);
        down * across * PRODUCTS * size_of::<f32>()
    };
    let channels = stored(layer.input.channels).max(stored(layer.output.channels));
    bytes(layer.input).max(bytes(layer.output)) * channels
}

/// Whether a layer is a convolution of this kind that is multiplied in float32, with so many channels on both sides at least.
fn is_of_kind(layer: &Layer, products: Products, channels: usize) -> bool {
    let is_large = |shape: ImageShape| shape.channels >= channels && shape.height >= 2 && shape.width >= 2;
    products == Products::Single
        && layer.kernel == [3, 3]
        && layer.stride == 1
        && layer.padding <= 2
        && is_large(layer.input)
        && is_large(layer.output)
}

/// Whether a layer is multiplied so, forth and for the gradient of what it reads.
pub(super) fn is_transformed(client: &Client, layer: &Layer, products: Products) -> bool {
    /// Bytes that a workgroup shares: WebGPU promises half of it, every card of today has it.
    const ROOM: usize = 32 << 10;
    client.properties().hardware.max_shared_memory_size >= ROOM && is_of_kind(layer, products, 32)
}

/// Whether the gradient of its weights is: where its channels are few, reading and writing the factors takes longer than multiplying less saves.
pub(super) fn has_transformed_gradient(layer: &Layer, products: Products) -> bool {
    is_of_kind(layer, products, 128) && factors_of(layer) <= MOST
}

/// Tiles of some images in a row.
#[derive(Debug, Clone, Copy)]
struct Tiles {
    count: usize,
    down: usize,
    across: usize,
    first_image: usize,
}

impl Tiles {
    /// Those of a layer's results, in turns that fit a binding.
    fn of(layer: &Layer, examples: usize) -> impl Iterator<Item = Self> {
        let ([down, across], most) = (tiles_of(layer.output), MOST / factors_of(layer));
        (0..examples).step_by(most).map(move |first_image| Self {
            count: (examples - first_image).min(most) * down * across,
            down,
            across,
            first_image,
        })
    }

    /// The factors that a shader makes of activations of this shape, four channels of a tile a thread.
    fn factors(
        &self,
        client: &Client,
        shader: &'static Shader,
        (shape, padding): (ImageShape, usize),
        source: &Handle,
    ) -> Handle {
        let channels = stored(shape.channels);
        let words = [
            self.count,
            self.down,
            self.across,
            self.first_image,
            shape.height,
            shape.width,
            channels,
            padding,
        ];
        let factors = client.empty(PRODUCTS * self.count * channels * size_of::<f32>());
        let launch = Launch {
            shader,
            constants: String::new(),
            groups: in_rows((self.count * channels / 4).div_ceil(64)),
            words: &words.map(|word| word as u32),
        };
        launch.over(client, &[source, &factors]);
        factors
    }
}

/// A convolution forth, or the gradient of what it read. `weights` are packed for it.
pub(super) fn convolve(
    client: &Client,
    (layer, examples): (&Layer, usize),
    (source, weights, bias): (&Handle, &Handle, &Handle),
    target: &Handle,
    epilogue: &Epilogue,
    gradient: bool,
) {
    let (from, to, padding) = if gradient {
        (layer.output, layer.input, 2 - layer.padding)
    } else {
        (layer.input, layer.output, layer.padding)
    };
    let [down, across] = tiles_of(to);
    let tiles = examples * down * across;
    let words = [
        tiles,
        down,
        across,
        from.height,
        from.width,
        stored(from.channels),
        to.height,
        to.width,
        stored(to.channels),
        padding,
        epilogue.flags() as usize,
    ];
    let launch = Launch {
        shader: &WINOGRAD,
        constants: format!("const BIAS: bool = {};\n", !gradient),
        groups: [tiles.div_ceil(32) as u32, stored(to.channels).div_ceil(32) as u32, 1],
        words: &words.map(|word| word as u32),
    };
    let [other, kept] = [epilogue.add, epilogue.keep].map(|handle| handle.unwrap_or(bias));
    launch.over(client, &[source, weights, bias, other, kept, target]);
}

/// The gradients of a layer's weights and bias, written where they lie among the parameters'.
pub(super) fn weight_gradient(
    making: &Making,
    layer: &Layer,
    (source, gradient, examples): (&Handle, &Handle, usize),
    target: &Handle,
) {
    let client = making.client;
    let (inputs, outputs) = (stored(layer.input.channels), stored(layer.output.channels));
    let rows = if layer.bias().is_some() { inputs + 4 } else { inputs };
    let all: Vec<Tiles> = Tiles::of(layer, examples).collect();
    let (turns, most) = (all.len(), all.iter().map(|tiles| tiles.count).max().unwrap_or(0));
    let parts = weight_parts([rows, outputs], [PRODUCTS * turns, most]);
    let part = rows * outputs.next_multiple_of(64) * size_of::<f32>();
    let bytes = PRODUCTS * parts * part;
    let partial = client.empty(turns * bytes);
    for (turn, tiles) in all.iter().enumerate() {
        let read = tiles.factors(client, &WINOGRAD_SOURCE, (layer.input, layer.padding), source);
        let back = tiles.factors(client, &WINOGRAD_GRADIENT, (layer.output, 0), gradient);
        let own = partial.clone().offset_start((turn * bytes) as u64);
        let own = own.offset_end(((turns - turn - 1) * bytes) as u64);
        making.multiply_back(
            PRODUCTS,
            parts,
            [tiles.count, inputs, outputs, rows],
            [&read, &back, &own],
        );
    }
    let [weights, bias, flags] = gradients_of(layer);
    let words = [
        layer.input.channels,
        layer.output.channels,
        inputs,
        turns,
        parts,
        rows,
        weights,
        bias,
        flags,
    ];
    let launch = Launch {
        shader: &WINOGRAD_JOIN,
        constants: String::new(),
        groups: in_rows(((inputs + 1) * layer.output.channels).div_ceil(64)),
        words: &words.map(|word| word as u32),
    };
    launch.over(client, &[&partial, target]);
}
