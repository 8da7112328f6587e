//! Losses of logits with their gradients, each in one pass: what takes a dozen operations each way one by one.
//!
//! On the processor a row is worked out in double precision; on a GPU `shaders/losses.wgsl` does a row a thread. Everywhere else
//! [`loss`] declines, and [`crate::losses`] composes them.

use std::cell::Cell;

use burn::{
    backend::{
        Autodiff, Backend, Cube, Dispatch, Flex, TensorMetadata,
        autodiff::{
            NodeId,
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        flex::FlexTensor,
        tensor::{FloatTensor, IntTensor},
        wgpu::CubeTensor,
    },
    tensor::{DType, Int, Shape, Slice, Tensor},
};
use burn_cubecl::kernel::into_contiguous;
use cubecl::zspace::{Strides, metadata::Metadata};

use super::{
    adapters,
    blocked::Pooled,
    gpu::{
        kernels::stored,
        launch::{Launch, in_rows, shader},
    },
    pooled::tensor,
};

/// A loss of each example's logits; formulas and sources stand in [`crate::losses`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    /// Cross-entropy with smoothed labels.
    CrossEntropy {
        /// The share of the target that all classes get evenly.
        smoothing: f32,
    },
    /// The margin term of the boosted cross-entropy.
    Margin {
        /// As the authors' released code computes it.
        released: bool,
    },
    /// The soft condition on being misclassified.
    Weight {
        /// As the authors' released code computes it.
        released: bool,
    },
    /// By how much a wrong class leads, up to a bound.
    Lead {
        /// Where it ends.
        bound: f32,
    },
}

/// Guards of the released code: see [`crate::losses`].
const RELEASED_MARGIN: f64 = 1e-4;
const RELEASED_LOG: f64 = 1e-12;
const RELEASED_WEIGHT: f64 = 1.000_000_1;

/// Whether this device has kernels for such logits.
fn has_kernel(logits: &Tensor<2>) -> bool {
    let [examples, classes] = logits.dims();
    adapters::is_at_home(&logits.device()) && logits.dtype() == DType::F32 && examples > 0 && classes > 1
}

/// The loss of each example; `None` where the device has no kernel for it.
///
/// # Shapes
/// `[N, K]`, `[N]` → `[N]`.
pub fn loss(loss: Loss, logits: &Tensor<2>, labels: &Tensor<1, Int>) -> Option<Tensor<1>> {
    if !has_kernel(logits) {
        return None;
    }
    let (values, _) =
        <Dispatch as LogitLoss>::logit_loss(logits.clone().into_dispatch(), labels.clone().into_dispatch(), loss);
    Some(Tensor::from_dispatch(values))
}

/// The divergence of each example's prediction from the natural one, as the authors' released code computes it or as the
/// paper has it; `None` where the device has no kernel for it.
///
/// # Shapes
/// `[N, K]`, `[N, K]` → `[N]`.
pub fn divergence(logits: &Tensor<2>, natural: &Tensor<2>, released: bool) -> Option<Tensor<1>> {
    if !has_kernel(logits) || !has_kernel(natural) || natural.dims() != logits.dims() {
        return None;
    }
    let (values, _, _) = <Dispatch as LogitLoss>::logit_divergence(
        logits.clone().into_dispatch(),
        natural.clone().into_dispatch(),
        released,
    );
    Some(Tensor::from_dispatch(values))
}

thread_local! {
    /// The node that the way back under way on this thread begins with: what comes to it is ones.
    static ROOT: Cell<Option<NodeId>> = const { Cell::new(None) };
}

/// The gradients of `Σ values`, as `values.backward()` gives them; a loss of this module that is all of it is not multiplied by
/// the ones that burn begins with.
pub fn sum_backward(values: Tensor<1>) -> burn::tensor::Gradients {
    if !adapters::is_at_home(&values.device()) {
        return values.backward();
    }
    let values = Tensor::<1>::from_dispatch(<Dispatch as LogitLoss>::as_root(values.into_dispatch()));
    let gradients = values.backward();
    ROOT.set(None);
    gradients
}

/// Both halves of a batch's logits, whose gradients come together in few launches.
///
/// # Shapes
/// `[2 N, K]` → `[N, K]` twice.
pub fn halves(logits: Tensor<2>) -> [Tensor<2>; 2] {
    let count = logits.dims()[0] / 2;
    if !has_kernel(&logits) {
        return [0, count].map(|first| logits.clone().narrow(0, first, count));
    }
    [0, count].map(|first| {
        let rows = <Dispatch as LogitLoss>::some_rows(logits.clone().into_dispatch(), first, count);
        Tensor::from_dispatch(rows)
    })
}

/// The gradients of `Σ values / N`, as `values.mean().backward()` gives them, in fewer launches.
pub fn mean_backward(values: Tensor<1>) -> burn::tensor::Gradients {
    let share = 1.0 / values.shape().num_elements().max(1) as f64;
    sum_backward(values.mul_scalar(share))
}

/// The operations, as burn dispatches them.
#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait LogitLoss: Backend {
    /// Values, `[N]`, and their gradient by the logits, `[N, K]`.
    fn logit_loss(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        loss: Loss,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Values, `[N]`, and their gradients by the logits and by the natural ones, `[N, K]` each.
    fn logit_divergence(
        logits: FloatTensor<Self>,
        natural: FloatTensor<Self>,
        released: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// The same values, noted as those that the way back begins with ([`sum_backward`]).
    fn as_root(values: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `count` rows from the one by this number on: `[M, K]` → `[N, K]`.
    fn some_rows(values: FloatTensor<Self>, first: usize, count: usize) -> FloatTensor<Self>;

    /// Rows from that one on in a matrix of `total` rows whose others are zeros: `[N, K]` → `[M, K]`.
    fn pad_rows(values: FloatTensor<Self>, first: usize, total: usize) -> FloatTensor<Self>;

    /// Each row times its factor: `[N, K]`, `[N]` → `[N, K]`.
    fn scale_rows(values: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self>;
}

/// `log Σ exp` of a row, without one of its classes where one is named.
fn log_sum(values: &[f64], left_out: Option<usize>) -> f64 {
    let chosen = || values.iter().enumerate().filter(|(class, _)| Some(*class) != left_out);
    let highest = chosen().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    highest + chosen().map(|(_, value)| (value - highest).exp()).sum::<f64>().ln()
}

fn in_double(values: &[f32]) -> Vec<f64> {
    values.iter().map(|value| f64::from(*value)).collect()
}

/// One row's divergence and its gradients.
fn divergence_of_row(z: &[f32], natural: &[f32], released: bool, gradient: &mut [f32], other: &mut [f32]) -> f32 {
    let (z, natural) = (in_double(z), in_double(natural));
    let (total, natural_total) = (log_sum(&z, None), log_sum(&natural, None));
    let guard = if released { RELEASED_LOG } else { 0.0 };
    let terms: Vec<[f64; 5]> = z
        .iter()
        .zip(&natural)
        .map(|(z, natural)| {
            let (log_p, log_q) = (z - total, natural - natural_total);
            let (p, q) = (log_p.exp(), log_q.exp());
            // What the guard leaves of d log p.
            let kept = if released { p / (p + guard) } else { 1.0 };
            let log_p = if released { (p + guard).ln() } else { log_p };
            [p, q, log_q - log_p, q * kept, q * (log_q - log_p)]
        })
        .collect();
    let (whole, weighted): (f64, f64) = (terms.iter().map(|t| t[4]).sum(), terms.iter().map(|t| t[3]).sum());
    for (class, [p, q, ratio, kept, _]) in terms.into_iter().enumerate() {
        gradient[class] = (p * weighted - kept) as f32;
        other[class] = (q * (ratio - whole)) as f32;
    }
    whole as f32
}

/// One row's value and its gradient.
fn row(loss: Loss, z: &[f32], label: usize, gradient: &mut [f32]) -> f32 {
    let z = in_double(z);
    let total = log_sum(&z, None);
    let p: Vec<f64> = z.iter().map(|value| (value - total).exp()).collect();
    let rest_of = |left_out: usize| log_sum(&z, Some(left_out));
    let mut put = |class: usize, value: f64| gradient[class] = value as f32;
    match loss {
        Loss::CrossEntropy { smoothing } => {
            let (s, classes) = (f64::from(smoothing), z.len() as f64);
            for (class, p) in p.iter().enumerate() {
                let target = if class == label { 1.0 - s } else { 0.0 } + s / classes;
                put(class, p - target);
            }
            if s == 0.0 {
                put(label, -(rest_of(label) - total).exp());
            }
            (total - z[label] + s * (z[label] - z.iter().sum::<f64>() / classes)) as f32
        }
        Loss::Margin { released } => {
            let strongest = strongest_other(&z, label);
            let rest = rest_of(strongest);
            let d = z[strongest] - rest;
            let (p, left) = (1.0 / (1.0 + (-d).exp()), 1.0 / (1.0 + d.exp()));
            let (value, scale) = if released {
                (-(left + RELEASED_MARGIN).ln(), p * left / (left + RELEASED_MARGIN))
            } else {
                (d.max(0.0) + (-d.abs()).exp().ln_1p(), p)
            };
            for (class, value) in z.iter().enumerate() {
                let share = if class == strongest { 1.0 } else { -(value - rest).exp() };
                put(class, scale * share);
            }
            if d.is_nan() { f32::NAN } else { value as f32 }
        }
        Loss::Weight { released } => {
            let rest = (rest_of(label) - total).exp();
            for (class, p_k) in p.iter().enumerate() {
                put(
                    class,
                    if class == label {
                        -p[label] * rest
                    } else {
                        p[label] * p_k
                    },
                );
            }
            (if released { RELEASED_WEIGHT - p[label] } else { rest }) as f32
        }
        Loss::Lead { bound } => {
            let strongest = strongest_other(&z, label);
            let lead = (z[strongest] - z[label]) as f32;
            let ended = lead >= bound;
            gradient.fill(0.0);
            if !ended {
                (gradient[strongest], gradient[label]) = (1.0, -1.0);
            }
            if ended { bound } else { lead }
        }
    }
}

/// `argmax_{k≠y} z_k`, the first of equals.
fn strongest_other(z: &[f64], label: usize) -> usize {
    let mut strongest = usize::from(label == 0);
    for (class, value) in z.iter().enumerate() {
        if class != label && *value > z[strongest] {
            strongest = class;
        }
    }
    strongest
}

impl LogitLoss for Flex {
    fn logit_loss(logits: FlexTensor, labels: FlexTensor, loss: Loss) -> (FlexTensor, FlexTensor) {
        let logits = logits.to_contiguous();
        let labels: Vec<usize> = labels.into_data().iter::<i64>().map(|label| label as usize).collect();
        let shape: [usize; 2] = logits.layout().shape().dims();
        let (mut values, mut gradient) = (Pooled::new(shape[0]), Pooled::new(shape[0] * shape[1]));
        let rows = logits.storage::<f32>().chunks(shape[1]).zip(labels);
        let results = values.iter_mut().zip(gradient.chunks_mut(shape[1]));
        for ((logits, label), (value, gradient)) in rows.zip(results) {
            *value = row(loss, logits, label, gradient);
        }
        (tensor(values, [shape[0]]), tensor(gradient, shape))
    }

    fn logit_divergence(
        logits: FlexTensor,
        natural: FlexTensor,
        released: bool,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [logits, natural] = [logits, natural].map(|tensor| tensor.to_contiguous());
        let shape: [usize; 2] = logits.layout().shape().dims();
        let mut values = Pooled::new(shape[0]);
        let [mut gradient, mut other] = [0, 1].map(|_| Pooled::new(shape[0] * shape[1]));
        let rows = logits
            .storage::<f32>()
            .chunks(shape[1])
            .zip(natural.storage::<f32>().chunks(shape[1]));
        let gradients = gradient.chunks_mut(shape[1]).zip(other.chunks_mut(shape[1]));
        for ((value, (logits, natural)), (gradient, other)) in values.iter_mut().zip(rows).zip(gradients) {
            *value = divergence_of_row(logits, natural, released, gradient, other);
        }
        (
            tensor(values, [shape[0]]),
            tensor(gradient, shape),
            tensor(other, shape),
        )
    }

    fn as_root(values: FlexTensor) -> FlexTensor {
        values
    }

    fn some_rows(values: FlexTensor, first: usize, count: usize) -> FlexTensor {
        rows_of::<Self>(values, first, count)
    }

    fn pad_rows(values: FlexTensor, first: usize, total: usize) -> FlexTensor {
        let values = values.to_contiguous();
        let shape: [usize; 2] = values.layout().shape().dims();
        let mut padded = Pooled::new(total * shape[1]);
        padded.fill(0.0);
        let (begin, length) = (first * shape[1], shape[0] * shape[1]);
        padded[begin..begin + length].copy_from_slice(&values.storage::<f32>()[..length]);
        tensor(padded, [total, shape[1]])
    }

    fn scale_rows(values: FlexTensor, factors: FlexTensor) -> FlexTensor {
        let [values, factors] = [values, factors].map(|tensor| tensor.to_contiguous());
        let shape: [usize; 2] = values.layout().shape().dims();
        let mut scaled = Pooled::new(shape[0] * shape[1]);
        let rows = values.storage::<f32>().chunks(shape[1]).zip(factors.storage::<f32>());
        for (scaled, (values, factor)) in scaled.chunks_mut(shape[1]).zip(rows) {
            for (scaled, value) in scaled.iter_mut().zip(values) {
                *scaled = value * factor;
            }
        }
        tensor(scaled, shape)
    }
}

shader!(LOSSES, "losses");
shader!(SCALE_ROWS, "scale_rows");
shader!(PAD_ROWS, "pad_rows");

/// Some rows of a matrix, as burn slices them.
fn rows_of<B: Backend>(values: FloatTensor<B>, first: usize, count: usize) -> FloatTensor<B> {
    let rows = Slice::from(first..first + count);
    B::float_slice(values, &[rows, Slice::full()])
}

/// A matrix whose rows are filled up as activations are.
fn matrix(like: &CubeTensor, shape: [usize; 2]) -> CubeTensor {
    let stride = stored(shape[1]);
    CubeTensor::new(
        like.client.clone(),
        like.client.empty(shape[0] * stride * size_of::<f32>()),
        Metadata::new(Shape::new(shape), Strides::new(&[stride, 1])),
        like.device.clone(),
        DType::F32,
    )
}

/// Itself where rows lie whole and in order, however far apart; else a copy that does.
fn in_rows_of(tensor: CubeTensor) -> CubeTensor {
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    if strides[1] == 1 && strides[0] >= shape[1] {
        tensor
    } else {
        into_contiguous(tensor)
    }
}

/// Launches losses.wgsl: values, and the gradients by the logits and, where `natural` is given, by those.
fn launch(
    logits: CubeTensor,
    natural: Option<CubeTensor>,
    labels: Option<CubeTensor>,
    (kind, released, number): (u32, bool, f32),
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let logits = in_rows_of(logits);
    let (natural, labels) = (natural.map(in_rows_of), labels.map(into_contiguous));
    let (client, device) = (logits.client.clone(), logits.device.clone());
    let shape: [usize; 2] = logits.meta.shape().dims();
    let values = client.empty(shape[0] * size_of::<f32>());
    let gradient = matrix(&logits, shape);
    let other = if natural.is_some() {
        matrix(&logits, shape)
    } else {
        gradient.clone()
    };
    let natural = natural.as_ref().unwrap_or(&logits);
    let words = [
        shape[0] as u32,
        shape[1] as u32,
        logits.meta.strides()[0] as u32,
        natural.meta.strides()[0] as u32,
        stored(shape[1]) as u32,
        kind,
        u32::from(released),
        number.to_bits(),
    ];
    let launch = Launch {
        shader: &LOSSES,
        constants: String::new(),
        groups: [shape[0].div_ceil(64) as u32, 1, 1],
        words: &words,
    };
    // What a kind does not read is bound to something.
    let labels = labels.as_ref().map_or(&logits.handle, |labels| &labels.handle);
    let buffers = [
        &logits.handle,
        &natural.handle,
        labels,
        &values,
        &gradient.handle,
        &other.handle,
    ];
    launch.over(&client, &buffers);
    let values = CubeTensor::new_contiguous(client, device, Shape::new([shape[0]]), values, DType::F32);
    (values, gradient, other)
}

impl LogitLoss for Cube {
    fn logit_loss(logits: CubeTensor, labels: CubeTensor, loss: Loss) -> (CubeTensor, CubeTensor) {
        let kind = match loss {
            Loss::CrossEntropy { smoothing } => (0, false, smoothing),
            Loss::Margin { released } => (1, released, 0.0),
            Loss::Weight { released } => (3, released, 0.0),
            Loss::Lead { bound } => (4, false, bound),
        };
        let (values, gradient, _) = launch(logits, None, Some(labels), kind);
        (values, gradient)
    }

    fn logit_divergence(
        logits: CubeTensor,
        natural: CubeTensor,
        released: bool,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        launch(logits, Some(natural), None, (2, released, 0.0))
    }

    fn as_root(values: CubeTensor) -> CubeTensor {
        values
    }

    fn some_rows(values: CubeTensor, first: usize, count: usize) -> CubeTensor {
        rows_of::<Self>(values, first, count)
    }

    fn pad_rows(values: CubeTensor, first: usize, total: usize) -> CubeTensor {
        let values = in_rows_of(values);
        let [rows, columns]: [usize; 2] = values.meta.shape().dims();
        let (padded, stride) = (matrix(&values, [total, columns]), stored(columns));
        let count = total * stride;
        let words = [count, stride, columns, rows, values.meta.strides()[0], first].map(|word| word as u32);
        let launch = Launch {
            shader: &PAD_ROWS,
            constants: String::new(),
            groups: in_rows(count.div_ceil(256)),
            words: &words,
        };
        launch.over(&values.client, &[&values.handle, &padded.handle]);
        padded
    }

    fn scale_rows(values: CubeTensor, factors: CubeTensor) -> CubeTensor {
        let factors = into_contiguous(factors);
        let shape: [usize; 2] = values.meta.shape().dims();
        let (scaled, stride) = (matrix(&values, shape), stored(shape[1]));
        let count = shape[0] * stride;
        let launch = Launch {
            shader: &SCALE_ROWS,
            constants: String::new(),
            groups: in_rows(count.div_ceil(256)),
            words: &[count as u32, stride as u32],
        };
        launch.over(&values.client, &[&values.handle, &factors.handle, &scaled.handle]);
        scaled
    }
}

/// The gradients of values by each parent.
#[derive(Debug)]
struct Recorded<const N: usize>;

impl<B: LogitLoss, const N: usize> Backward<B, N> for Recorded<N> {
    type State = [FloatTensor<B>; N];

    fn backward(self, ops: Ops<Self::State, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<B>(&ops.node);
        let is_root = ROOT.get() == Some(ops.node.id);
        for (parent, gradient) in ops.parents.into_iter().zip(ops.state) {
            if let Some(parent) = parent {
                let gradient = match is_root {
                    true => gradient,
                    false => B::scale_rows(gradient, upstream.clone()),
                };
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// Rows of a matrix.
#[derive(Debug)]
struct SomeRows;

impl<B: LogitLoss> Backward<B, 1> for SomeRows {
    /// Where they begin, and how many rows the matrix has.
    type State = [usize; 2];

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let upstream = gradients.consume::<B>(&ops.node);
        let [first, total] = ops.state;
        if let [Some(parent)] = ops.parents {
            gradients.register::<B>(parent.id, B::pad_rows(upstream, first, total));
        }
    }
}

impl<B: LogitLoss, C: CheckpointStrategy> LogitLoss for Autodiff<B, C> {
    fn logit_loss(
        logits: FloatTensor<Self>,
        labels: IntTensor<Self>,
        loss: Loss,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let node = logits.node();
        let (values, gradient) = B::logit_loss(logits.into_primitive(), labels, loss);
        let constant = FloatTensor::<Self>::new(gradient.clone());
        let values = match Recorded.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish([gradient], values),
            OpsKind::UnTracked(preparation) => preparation.finish(values),
        };
        (values, constant)
    }

    fn logit_divergence(
        logits: FloatTensor<Self>,
        natural: FloatTensor<Self>,
        released: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let nodes = [logits.node(), natural.node()];
        let (values, gradient, other) =
            B::logit_divergence(logits.into_primitive(), natural.into_primitive(), released);
        let [first, second] = [&gradient, &other].map(|gradient| FloatTensor::<Self>::new(gradient.clone()));
        let values = match Recorded.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish([gradient, other], values),
            OpsKind::UnTracked(preparation) => preparation.finish(values),
        };
        (values, first, second)
    }

    fn some_rows(values: FloatTensor<Self>, first: usize, count: usize) -> FloatTensor<Self> {
        let node = values.node();
        let values = values.into_primitive();
        let total = values.shape()[0];
        let rows = B::some_rows(values, first, count);
        match SomeRows.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(preparation) => preparation.finish([first, total], rows),
            OpsKind::UnTracked(preparation) => preparation.finish(rows),
        }
    }

    fn pad_rows(values: FloatTensor<Self>, first: usize, total: usize) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(B::pad_rows(values.into_primitive(), first, total))
    }

    fn as_root(values: FloatTensor<Self>) -> FloatTensor<Self> {
        ROOT.set(Some(values.node().id()));
        values
    }

    fn scale_rows(values: FloatTensor<Self>, factors: FloatTensor<Self>) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(B::scale_rows(values.into_primitive(), factors.into_primitive()))
    }
}
