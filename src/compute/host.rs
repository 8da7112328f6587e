//! One fused loop for each ascent step on the processor, with the names and arguments of the kernels.
//!
//! Composed operations walk the memory once for each operation and allocate each time; these walk it once. They give
//! `None` where the tensors are not f32 on the processor.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{Tensor, TensorData},
};
use rayon::prelude::*;

use super::{Descent, reference::TINY};
use crate::shapes::Images;

/// The fused loop of [`super::linf_ascend`].
pub fn linf_ascend(
    natural: &Images,
    current: &Images,
    gradient: &Images,
    epsilon: f32,
    step_size: f32,
) -> Option<Images> {
    fuse(natural, current, gradient, |natural, current, gradient, result| {
        let elements = natural.iter().zip(current).zip(gradient);
        result.extend(elements.map(|((natural, current), gradient)| {
            // Arithmetic, because a branch on a gradient's sign is a coin toss that the processor loses half the time.
            let sign = f32::from(u8::from(*gradient > 0.0)) - f32::from(u8::from(*gradient < 0.0));
            let step = step_size * sign;
            (current + step)
                .max(natural - epsilon)
                .min(natural + epsilon)
                .clamp(0.0, 1.0)
        }));
    })
}

/// The fused loop of [`super::l2_ascend`].
pub fn l2_ascend(
    natural: &Images,
    current: &Images,
    gradient: &Images,
    epsilon: f32,
    step_size: f32,
) -> Option<Images> {
    let [_, channels, height, width] = natural.dims();
    let length = channels * height * width;
    fuse(natural, current, gradient, |natural, current, gradient, result| {
        let rows = natural
            .chunks(length)
            .zip(current.chunks(length))
            .zip(gradient.chunks(length));
        for ((natural, current), gradient) in rows {
            l2_ascend_row(natural, current, gradient, epsilon, step_size, result);
        }
    })
}

fn l2_ascend_row(
    natural: &[f32],
    current: &[f32],
    gradient: &[f32],
    epsilon: f32,
    step_size: f32,
    result: &mut Vec<f32>,
) {
    let finite = |value: f32| if value.is_finite() { value } else { 0.0 };
    let largest = gradient
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(finite(*value).abs()));
    let moves = largest >= TINY;
    let divisor = if moves { largest } else { 1.0 };
    let norm = norm(gradient.iter().map(|value| finite(*value) / divisor));
    let step = if moves { step_size / norm.max(TINY) } else { 0.0 };

    let start = result.len();
    let elements = natural.iter().zip(current).zip(gradient);
    result.extend(
        elements.map(|((natural, current), gradient)| current + step * (finite(*gradient) / divisor) - natural),
    );
    let offsets = &mut result[start..];
    let distance = self::norm(offsets.iter().copied());
    let scale = if distance > epsilon {
        epsilon / distance.max(TINY)
    } else {
        1.0
    };
    for (offset, natural) in offsets.iter_mut().zip(natural) {
        *offset = (natural + *offset * scale).clamp(0.0, 1.0);
    }
}

/// The L2 norm, summed in f64: on the processor that costs nothing and ends the question of rounding.
fn norm(values: impl Iterator<Item = f32>) -> f32 {
    values
        .map(|value| f64::from(value) * f64::from(value))
        .sum::<f64>()
        .sqrt() as f32
}

/// Runs `work` over the tensors' memory in row-major order.
fn fuse(
    natural: &Images,
    current: &Images,
    gradient: &Images,
    work: impl FnOnce(&[f32], &[f32], &[f32], &mut Vec<f32>),
) -> Option<Images> {
    let tensors = [
        memory(natural.clone())?,
        memory(current.clone())?,
        memory(gradient.clone())?,
    ];
    let [Some(values), Some(current_values), Some(gradient_values)] =
        tensors.each_ref().map(FlexTensor::as_slice::<f32>)
    else {
        return None;
    };
    if values.len() != current_values.len() || values.len() != gradient_values.len() {
        return None;
    }
    let mut result = Vec::with_capacity(values.len());
    work(values, current_values, gradient_values, &mut result);
    Some(Images::from_data(
        TensorData::new(result, natural.dims()),
        &natural.device(),
    ))
}

/// A tensor's memory in row-major order; `None` where it is not the processor's.
fn memory<const D: usize>(tensor: Tensor<D>) -> Option<FlexTensor> {
    Some(tensor.try_into_primitive::<Flex>().ok()?.to_contiguous())
}

/// Values that one thread works on at a time; sums are taken in such pieces, in their order, whatever the threads.
const PIECE: usize = 1 << 14;

/// The fused loop of [`super::sgd_step`].
pub fn sgd_step(
    parameters: &Tensor<1>,
    velocity: Option<&Tensor<1>>,
    gradient: &Tensor<1>,
    descent: &Descent,
) -> Option<(Tensor<1>, Tensor<1>)> {
    let [own, gradient] = [memory(parameters.clone())?, memory(gradient.clone())?];
    let velocity = match velocity {
        Some(velocity) => Some(memory(velocity.clone())?),
        None => None,
    };
    let (own, gradient) = (own.as_slice::<f32>()?, gradient.as_slice::<f32>()?);
    let old = match &velocity {
        Some(velocity) => velocity.as_slice::<f32>()?,
        None => &[],
    };
    if own.len() != gradient.len() || (!old.is_empty() && old.len() != own.len()) {
        return None;
    }
    let (mut moved, mut velocity) = (vec![0.0_f32; own.len()], vec![0.0_f32; own.len()]);
    moved
        .par_chunks_mut(PIECE)
        .zip(velocity.par_chunks_mut(PIECE))
        .enumerate()
        .for_each(|(piece, (moved, velocity))| {
            let first = piece * PIECE;
            for place in first..first + moved.len() {
                let decay = if place < descent.decayed {
                    descent.weight_decay
                } else {
                    0.0
                };
                let direction = gradient[place] + decay * own[place];
                let before = old.get(place).copied();
                let speed = before.map_or(direction, |before| descent.momentum * before + direction);
                let change = if descent.nesterov {
                    direction + descent.momentum * speed
                } else {
                    speed
                };
                velocity[place - first] = speed;
                moved[place - first] = own[place] - descent.learning_rate * change;
            }
        });
    let vector = |values: Vec<f32>| {
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), &parameters.device())
    };
    Some((vector(moved), vector(velocity)))
}

/// The fused loop of [`super::length`].
pub fn length(values: &Tensor<1>) -> Option<Tensor<1>> {
    let memory = memory(values.clone())?;
    let squares: Vec<f64> = memory
        .as_slice::<f32>()?
        .par_chunks(PIECE)
        .map(|piece| piece.iter().map(|value| f64::from(*value).powi(2)).sum())
        .collect();
    let length = squares.iter().sum::<f64>().sqrt() as f32;
    Some(Tensor::from_data(TensorData::new(vec![length], [1]), &values.device()))
}
