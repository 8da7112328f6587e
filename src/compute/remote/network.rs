//! A network as one operation of a remote device, there and back.
//!
//! The way back carries the network out once more before it goes back: so the server keeps nothing between two operations, and nothing is
//! lost there where a client goes away.

use std::sync::{Arc, Mutex, PoisonError};

use burn::{
    backend::{
        Remote, TensorMetadata,
        ir::{BackendIr, CustomOpIr, HandleContainer, ScalarIr, TensorIr},
        tensor::FloatTensor,
    },
    remote::CustomOpClient,
    server::RemoteServer,
    tensor::{DType, Shape},
};
use serde::{Deserialize, Serialize};

use super::client::register;
use crate::compute::{
    execute::{Call, Execute, Network, Record, Run},
    gpu::Products,
    graph::Graph,
};

/// Logits and statistics.
const FORWARD: &str = "martlet.network";
/// Gradients of images and of parameters, as far as they are wanted.
const BACKWARD: &str = "martlet.network.gradients";

/// What travels beside tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    graph: Graph,
    batch_statistics: bool,
    parts: usize,
    /// Gradients of images and of parameters are wanted.
    wanted: [bool; 2],
    /// How many factors each dropout has; they follow in binary.
    factors: Vec<usize>,
}

/// Bytes of a word.
const WORD: usize = size_of::<u64>();

/// The order as words: its length, its text, and the factors two a word.
fn written(run: &Run, wanted: [bool; 2]) -> Vec<ScalarIr> {
    let order = Order {
        graph: run.network.graph().clone(),
        batch_statistics: run.batch_statistics,
        parts: run.parts,
        wanted,
        factors: run.factors.iter().map(Vec::len).collect(),
    };
    let text = serde_json::to_vec(&order).unwrap_or_default();
    let mut words = vec![text.len() as u64];
    words.extend(text.chunks(WORD).map(|piece| {
        let mut bytes = [0; WORD];
        bytes[..piece.len()].copy_from_slice(piece);
        u64::from_le_bytes(bytes)
    }));
    let factors: Vec<u32> = run.factors.iter().flatten().map(|factor| factor.to_bits()).collect();
    words.extend(factors.chunks(2).map(|pair| {
        let [low, high] = [pair[0], pair.get(1).copied().unwrap_or(0)];
        u64::from(low) | u64::from(high) << 32
    }));
    words.into_iter().map(ScalarIr::UInt).collect()
}

/// The order that [`written`] wrote; `None` where it is none.
fn understood(scalars: &[ScalarIr]) -> Option<(Order, Vec<Vec<f32>>)> {
    let words = scalars.iter().map(|scalar| match scalar {
        ScalarIr::UInt(word) => Some(*word),
        _ => None,
    });
    let words: Vec<u64> = words.collect::<Option<_>>()?;
    let (length, words) = words.split_first()?;
    let length = usize::try_from(*length).ok()?;
    let (text, factors) = words.split_at_checked(length.div_ceil(WORD))?;
    let bytes: Vec<u8> = text.iter().flat_map(|word| word.to_le_bytes()).collect();
    let order: Order = serde_json::from_slice(bytes.get(..length)?).ok()?;
    let bits = factors.iter().flat_map(|word| [*word as u32, (*word >> 32) as u32]);
    let mut values: Vec<f32> = bits.map(f32::from_bits).collect();
    let all = order
        .factors
        .iter()
        .try_fold(0_usize, |all, count| all.checked_add(*count))?;
    if values.len() != all.div_ceil(2) * 2 {
        return None;
    }
    let mut split = Vec::new();
    for count in &order.factors {
        let rest = values.split_off(*count);
        split.push(std::mem::replace(&mut values, rest));
    }
    Some((order, split))
}

impl Execute for Remote {
    fn execute(
        images: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        call: Call,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (logits, statistics, _) = Self::forward(images, parameters, statistics, call.run(), [false; 2]);
        (logits, statistics)
    }
}

/// Images, parameters and statistics as they were.
type Tape = [FloatTensor<Remote>; 3];

impl Record for Remote {
    type Tape = Tape;

    fn forward(
        images: FloatTensor<Self>,
        parameters: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        run: &Run,
        records: [bool; 2],
    ) -> (FloatTensor<Self>, FloatTensor<Self>, Option<Tape>) {
        let client = CustomOpClient::new(&images.device());
        let outputs = [
            Shape::new([images.shape()[0], run.network.graph().classes()]),
            statistics.shape(),
        ];
        let tape = [images, parameters, statistics];
        let inputs = tape.clone().map(FloatTensor::<Self>::into_ir);
        let mut given = register(&client, FORWARD, &inputs, &outputs, written(run, records));
        let (Some(statistics), Some(logits)) = (given.pop(), given.pop()) else {
            unreachable!("an operation gives as many tensors as it was asked for");
        };
        (logits, statistics, records.contains(&true).then_some(tape))
    }

    fn backward(
        gradient: FloatTensor<Self>,
        run: &Run,
        tape: Tape,
        wanted: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2] {
        let client = CustomOpClient::new(&gradient.device());
        let shapes = [tape[0].shape(), tape[1].shape()];
        let outputs: Vec<Shape> = shapes
            .into_iter()
            .zip(wanted)
            .filter_map(|(shape, wanted)| wanted.then_some(shape))
            .collect();
        let [images, parameters, statistics] = tape.map(FloatTensor::<Self>::into_ir);
        let inputs = [images, parameters, statistics, gradient.into_ir()];
        let mut given = register(&client, BACKWARD, &inputs, &outputs, written(run, wanted)).into_iter();
        wanted.map(|wanted| wanted.then(|| given.next()).flatten())
    }
}

/// The networks that were asked for last, with what the device has prepared for them.
static NETWORKS: Mutex<Vec<Arc<Network>>> = Mutex::new(Vec::new());
/// How many of them are kept.
const KEPT: usize = 4;

fn network(graph: Graph) -> Arc<Network> {
    let mut kept = NETWORKS.lock().unwrap_or_else(PoisonError::into_inner);
    let found = kept.iter().position(|network| *network.graph() == graph);
    let network = match found {
        Some(place) => kept.remove(place),
        None => Arc::new(Network::new(graph)),
    };
    if kept.len() >= KEPT {
        kept.remove(0);
    }
    kept.push(network.clone());
    network
}

/// The server with these operations.
pub(super) fn with_networks<B: Record + BackendIr>(server: RemoteServer) -> RemoteServer {
    server
        .with_custom_op::<B, _>(FORWARD, |handles, operation, _| {
            let (run, [images, parameters, statistics], _) = asked::<B, 3>(handles, operation);
            let (logits, statistics, _) = B::forward(images, parameters, statistics, &run, [false; 2]);
            answer::<B>(handles, operation, [logits, statistics]);
        })
        .with_custom_op::<B, _>(BACKWARD, |handles, operation, _| {
            let (run, [images, parameters, statistics, gradient], wanted) = asked::<B, 4>(handles, operation);
            let (_, _, tape) = B::forward(images, parameters, statistics, &run, wanted);
            let found = tape.map(|tape| B::backward(gradient, &run, tape, wanted));
            answer::<B>(handles, operation, found.into_iter().flatten().flatten());
        })
}

fn answer<B: BackendIr>(
    handles: &mut HandleContainer<B::Handle>,
    operation: &CustomOpIr,
    given: impl IntoIterator<Item = FloatTensor<B>>,
) {
    let mut given = given.into_iter();
    for output in &operation.outputs {
        let Some(tensor) = given.next().filter(|tensor| tensor.shape() == output.shape) else {
            break_off("results of another shape");
        };
        handles.register_float_tensor::<B>(&output.id, tensor);
    }
}

/// What an operation asks for, all of it made sure of: kernels trust shapes and places.
fn asked<B: BackendIr, const N: usize>(
    handles: &mut HandleContainer<B::Handle>,
    operation: &CustomOpIr,
) -> (Run, [FloatTensor<B>; N], [bool; 2]) {
    let Some((order, factors)) = understood(&operation.scalars) else {
        break_off("an order that cannot be read");
    };
    let Ok(inputs): Result<[TensorIr; N], _> = operation.inputs.clone().try_into() else {
        break_off("another number of tensors");
    };
    let tensors = inputs.map(|input| handles.get_float_tensor::<B>(&input));
    let shapes: Vec<Vec<usize>> = tensors.iter().map(|tensor| tensor.shape().to_vec()).collect();
    if tensors.iter().any(|tensor| tensor.dtype() != DType::F32) || !order.fits(&shapes, &factors) {
        break_off("a network that does not fit its tensors");
    }
    let run = Run {
        network: network(order.graph),
        batch_statistics: order.batch_statistics,
        parts: order.parts,
        factors: Arc::new(factors),
        exchange: None,
        products: Products::Single,
    };
    if !run.network.has_program() {
        break_off("a network that does not begin with a convolution");
    }
    (run, tensors, order.wanted)
}

impl Order {
    /// Whether tensors of these shapes (images, parameters, statistics, and where it stands the gradient) and these factors are what the
    /// network takes.
    fn fits(&self, shapes: &[Vec<usize>], factors: &[Vec<f32>]) -> bool {
        let Some(reads) = self.graph.check() else {
            return false;
        };
        let input = self.graph.input();
        let [images, parameters, statistics, gradient @ ..] = shapes else {
            return false;
        };
        let [examples, rest @ ..] = images.as_slice() else {
            return false;
        };
        let dropped = factors.iter().zip(self.graph.dropouts());
        *examples > 0
            && rest == [input.channels, input.height, input.width]
            && *parameters == [reads.max(*parameters.first().unwrap_or(&0))]
            && *statistics == [self.graph.statistics()]
            && gradient.iter().all(|shape| *shape == [*examples, self.graph.classes()])
            && self.parts > 0
            && examples.is_multiple_of(self.parts)
            && (factors.is_empty() || factors.len() == self.graph.dropouts().len())
            && dropped
                .into_iter()
                .all(|(factors, values)| factors.len() == examples * values)
    }
}

/// Ends the session that asked for what cannot be done: the engine knows no other way, and catches it.
fn break_off(what: &str) -> ! {
    panic!("a client asked for {what}; its session ends")
}
