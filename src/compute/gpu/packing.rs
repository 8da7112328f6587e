//! Weights as the kernels read them: every layer's, for both directions, by one launch.

use std::ops::Range;

use cubecl::{bytes::Bytes, client::Client, server::Handle};

use super::{
    convolution::Products,
    kernels::stored,
    launch::{Launch, in_rows, shader},
    winograd::{self, is_transformed},
};
use crate::compute::{
    graph::{BATCH_NORM_EPSILON, Norm},
    stages::Layer,
};

shader!(PACK_WEIGHTS, "pack_weights");

/// Whether a layer's kernel is as large as its image: then the image is the channels of one place.
pub(super) fn is_whole(layer: &Layer) -> bool {
    layer.kernel == [layer.input.height, layer.input.width] && layer.padding == 0
}

/// Packed weights of a layer.
#[derive(Debug)]
pub struct Packed {
    pub(super) forward: Handle,
    pub(super) backward: Handle,
    pub(super) bias: Handle,
    /// Whether they are factors of Winograd's products.
    pub(super) is_transformed: bool,
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
    is_transformed: bool,
}

impl Packing {
    /// Places all layers of a network that are multiplied so; with each the stage that it belongs to, and the BatchNorm that is folded in.
    pub fn new<'a>(
        client: &Client,
        products: Products,
        layers: impl IntoIterator<Item = (usize, &'a Layer, Option<&'a Norm>)>,
    ) -> Self {
        /// Values of a buffer: a binding holds 128 MiB everywhere.
        const MOST: usize = 1 << 24;
        let mut bundles = Vec::new();
        let (mut words, mut parts, mut groups, mut end) = (Vec::new(), Vec::new(), 0, 0);
        for (stage, layer, norm) in layers {
            let is_transformed = is_transformed(client, layer, products);
            let (own, [forward, backward, bias]) = row(layer, norm, is_transformed);
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
                is_transformed,
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
                is_transformed: parts.is_transformed,
            };
            (parts.stage, packed)
        });
        each.collect()
    }
}

/// The first words of a layer's row in the shader's table, and the values of its three parts.
fn row(layer: &Layer, norm: Option<&Norm>, is_transformed: bool) -> ([u32; 12], [usize; 3]) {
    const WHOLE: u32 = 1;
    const BIAS: u32 = 2;
    const NORM: u32 = 4;
    const TRANSFORMED: u32 = 8;
    let whole = is_whole(layer);
    let (taps, inputs, outputs) = (
        if is_transformed {
            winograd::PRODUCTS
        } else {
            layer.taps()
        },
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
    let flags = flag(whole, WHOLE)
        | flag(layer.bias().is_some(), BIAS)
        | flag(norm.is_some(), NORM)
        | flag(is_transformed, TRANSFORMED);
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
