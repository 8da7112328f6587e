//! The twins of the hand-written kernels: the same names and arguments, in tensor operations that run on every device.

mod network;

use burn::tensor::{Tensor, TensorData};

use super::{Descent, Device, Placement};
use crate::shapes::{ImageShape, Images};

pub use network::network;

/// Below this a gradient's largest element counts as 0: the smallest normal f32, under which a GPU may flush to 0.
pub(super) const TINY: f32 = f32::MIN_POSITIVE;

/// Twin of `shaders/linf_ascend.wgsl`; see [`super::linf_ascend`].
pub fn linf_ascend(natural: Images, current: Images, gradient: Images, epsilon: f32, step_size: f32) -> Images {
    let sign = gradient.clone().sign().mask_fill(gradient.is_nan(), 0.0);
    let stepped = current + sign * step_size;
    let low = natural.clone() - epsilon;
    let high = natural + epsilon;
    stepped.max_pair(low).min_pair(high).clamp(0.0, 1.0)
}

/// Twin of `shaders/l2_ascend.wgsl`; see [`super::l2_ascend`].
///
/// Norms are taken of elements divided by the largest of them, so that the squares of small gradients do not vanish.
pub fn l2_ascend(natural: Images, current: Images, gradient: Images, epsilon: f32, step_size: f32) -> Images {
    let [examples, channels, height, width] = natural.dims();
    let flat = [examples, channels * height * width];
    let (natural, current) = (natural.reshape(flat), current.reshape(flat));
    let gradient = gradient.reshape(flat);
    let not_finite = gradient.clone().is_finite().bool_not();
    let gradient = gradient.mask_fill(not_finite, 0.0);

    let stepped = current + unit(gradient) * step_size;
    let offset = stepped - natural.clone();
    let length = norm(offset.clone());
    let scale = (length.clone().clamp_min(TINY).recip() * epsilon).clamp_max(1.0);
    (natural + offset * scale)
        .clamp(0.0, 1.0)
        .reshape([examples, channels, height, width])
}

/// Each row divided by its L2 norm; rows of zeros stay zeros.
fn unit(rows: Tensor<2>) -> Tensor<2> {
    let largest = rows.clone().abs().max_dim(1);
    let moves = largest.clone().greater_equal_elem(TINY);
    let scaled = rows / largest.mask_fill(moves.clone().bool_not(), 1.0);
    let length = norm(scaled.clone()).clamp_min(TINY);
    scaled / length * moves.float()
}

/// The L2 norm of each row, `[N, 1]`.
fn norm(rows: Tensor<2>) -> Tensor<2> {
    (rows.clone() * rows).sum_dim(1).sqrt()
}

/// Twin of `shaders/pad_crop_flip.wgsl`; see [`super::pad_crop_flip`]. Placed on the host, uploaded as f32.
pub fn pad_crop_flip(
    images: &[u8],
    shape: ImageShape,
    pad: usize,
    placements: &[Placement],
    device: &Device,
) -> Images {
    placed(images, |byte| f32::from(byte) / 255.0, shape, pad, placements, device)
}

/// [`pad_crop_flip`] of values in [0, 1], which no byte may hold.
pub fn pad_crop_flip_values(
    images: &[f32],
    shape: ImageShape,
    pad: usize,
    placements: &[Placement],
    device: &Device,
) -> Images {
    placed(images, |value| value, shape, pad, placements, device)
}

fn placed<T: Copy>(
    images: &[T],
    value: impl Fn(T) -> f32,
    shape: ImageShape,
    pad: usize,
    placements: &[Placement],
    device: &Device,
) -> Images {
    let ImageShape {
        channels,
        height,
        width,
    } = shape;
    let mut pixels = vec![0.0_f32; placements.len() * shape.len()];
    for (planes, (source, placement)) in pixels
        .chunks_mut(shape.len().max(1))
        .zip(images.chunks(shape.len().max(1)).zip(placements))
    {
        for (plane, source) in planes.chunks_mut(height * width).zip(source.chunks(height * width)) {
            for y in 0..height {
                let Some(from) = (y + placement.dy as usize).checked_sub(pad).filter(|y| *y < height) else {
                    continue;
                };
                let from = &source[from * width..(from + 1) * width];
                for (x, pixel) in plane[y * width..(y + 1) * width].iter_mut().enumerate() {
                    let x = if placement.flip { width - 1 - x } else { x };
                    if let Some(found) = (x + placement.dx as usize).checked_sub(pad).and_then(|x| from.get(x)) {
                        *pixel = value(*found);
                    }
                }
            }
        }
    }
    Tensor::from_data(
        TensorData::new(pixels, [placements.len(), channels, height, width]),
        device.tensors(),
    )
}

/// Twin of every form of [`super::sgd_step`].
pub fn sgd_step(
    parameters: Tensor<1>,
    velocity: Option<Tensor<1>>,
    gradient: Tensor<1>,
    descent: &Descent,
) -> (Tensor<1>, Tensor<1>) {
    let count = parameters.dims()[0];
    let direction = if descent.weight_decay > 0.0 && descent.decayed > 0 {
        let pull = parameters.clone().narrow(0, 0, descent.decayed) * descent.weight_decay;
        let rest = count - descent.decayed;
        let pulled = gradient.clone().narrow(0, 0, descent.decayed) + pull;
        if rest == 0 {
            pulled
        } else {
            Tensor::cat(vec![pulled, gradient.narrow(0, descent.decayed, rest)], 0)
        }
    } else {
        gradient
    };
    let velocity = match velocity {
        Some(velocity) => velocity * descent.momentum + direction.clone(),
        None => direction.clone(),
    };
    let change = if descent.nesterov {
        direction + velocity.clone() * descent.momentum
    } else {
        velocity.clone()
    };
    (parameters - change * descent.learning_rate, velocity)
}

/// Twin of every form of [`super::length`].
pub fn length(values: Tensor<1>) -> Tensor<1> {
    values.powi_scalar(2).sum().sqrt()
}

/// Twin of `shaders/peak.wgsl`: the sum of a thread's 32 chains after so many turns.
pub fn peak(turns: usize) -> f64 {
    let [factor, term] = super::profile::STEP.map(f64::from);
    let chain = |number: usize| (0..turns).fold(number as f64 / 32.0, |x, _| x * factor + term);
    (0..32).map(chain).sum()
}
