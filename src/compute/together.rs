//! Sums over processes inside a network, for BatchNorms that take their statistics of everybody's images.

use std::{
    fmt,
    sync::mpsc::{Receiver, Sender, channel},
};

use burn::{
    backend::{
        Autodiff, Backend, Cube, Dispatch, Flex, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        tensor::FloatTensor,
    },
    tensor::{Tensor, TensorData},
};

/// What a network under way says to the thread that speaks to the other processes.
pub enum Said {
    /// These values are to be summed over all processes, and sent back.
    Sum(Vec<f32>, Sender<Vec<f32>>),
    /// The work is over.
    Done,
}

/// A network's way to the other processes.
#[derive(Clone)]
pub struct Exchange {
    tell: Sender<Said>,
    /// What this process's mean counts for in the mean over all; 0 where its images are no part of the minibatch.
    weight: f32,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Exchange({})", self.weight)
    }
}

impl Exchange {
    /// An exchange, and the end at which somebody answers.
    pub fn new(weight: f32) -> (Self, Receiver<Said>) {
        let (tell, heard) = channel();
        (Self { tell, weight }, heard)
    }

    /// Says that nothing more will be asked.
    pub fn done(&self) {
        // Nobody hears where the other end failed first.
        let _ = self.tell.send(Said::Done);
    }

    /// What this process's mean counts for.
    pub(super) fn weight(&self) -> f32 {
        self.weight
    }

    fn sum(&self, values: Vec<f32>) -> Vec<f32> {
        let (reply, answer) = channel();
        let asked = self.tell.send(Said::Sum(values, reply));
        let Some(sums) = asked.ok().and_then(|()| answer.recv().ok()) else {
            // There is no error that a network could give; whoever began the work hears of the panic.
            panic!("nobody speaks to the other processes any more");
        };
        sums
    }
}

/// The sum of each value over all processes. The way back sums what came to each process, weighted as its loss is in the mean of all.
///
/// # Shapes
/// `[n]` → `[n]`.
pub(super) fn sum_over_all(values: Tensor<1>, exchange: &Exchange) -> Tensor<1> {
    Tensor::from_dispatch(<Dispatch as OverAll>::over_all(
        values.into_dispatch(),
        exchange.clone(),
    ))
}

fn exchanged<B: Backend>(values: FloatTensor<B>, exchange: &Exchange) -> FloatTensor<B> {
    let (device, shape) = (values.device(), values.shape());
    let read = pollster::block_on(B::float_into_data(values)).map(|data| data.convert::<f32>().try_into_vec::<f32>());
    let Ok(Ok(values)) = read else {
        panic!("the device failed");
    };
    B::float_from_data(TensorData::new(exchange.sum(values), shape), &device)
}

#[backend_extension(Cube, Flex, Autodiff, Remote: cfg(feature = "remote"))]
trait OverAll: Backend {
    fn over_all(values: FloatTensor<Self>, exchange: Exchange) -> FloatTensor<Self> {
        exchanged::<Self>(values, &exchange)
    }
}

impl OverAll for Flex {}

impl OverAll for Cube {}

#[cfg(feature = "remote")]
impl OverAll for burn::backend::Remote {}

#[derive(Debug)]
struct Summed;

impl<B: Backend> Backward<B, 1> for Summed {
    type State = Exchange;

    fn backward(self, ops: Ops<Exchange, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let weight = ops.state.weight;
        let weighted = B::float_mul_scalar(gradient, weight.into());
        let summed = exchanged::<B>(weighted, &ops.state);
        // Nothing of a process without a share counts, in this or in any other sum.
        let back = if weight > 0.0 { 1.0 / weight } else { 0.0 };
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::float_mul_scalar(summed, back.into()));
        }
    }
}

impl<B: Backend, C: CheckpointStrategy> OverAll for Autodiff<B, C> {
    fn over_all(values: FloatTensor<Self>, exchange: Exchange) -> FloatTensor<Self> {
        let node = values.node();
        let summed = exchanged::<B>(values.into_primitive(), &exchange);
        match Summed.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish(exchange, summed),
            OpsKind::UnTracked(preparation) => preparation.finish(summed),
        }
    }
}
