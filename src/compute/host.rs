//! One fused loop for each ascent step on the processor, with the names and arguments of the kernels.
//!
//! Composed operations walk the memory once for each operation and allocate each time; these walk it once. They give
//! `None` where the tensors are not f32 on the processor.

use burn::{
    backend::{Flex, flex::FlexTensor},
    tensor::{DType, Tensor, TensorData},
};
use rayon::prelude::*;

use super::{Descent, blocked::Pooled, pooled::tensor, reference::TINY};
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
        let elements = natural.iter().zip(current).zip(gradient).zip(result);
        for (((natural, current), gradient), result) in elements {
            // Arithmetic, because a branch on a gradient's sign is a coin toss that the processor loses half the time.
            let sign = f32::from(u8::from(*gradient > 0.0)) - f32::from(u8::from(*gradient < 0.0));
            let step = step_size * sign;
            *result = (current + step)
                .max(natural - epsilon)
                .min(natural + epsilon)
                .clamp(0.0, 1.0);
        }
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
            .zip(gradient.chunks(length))
            .zip(result.chunks_mut(length));
        for (((natural, current), gradient), result) in rows {
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
    offsets: &mut [f32],
) {
    let finite = |value: f32| if value.is_finite() { value } else { 0.0 };
    let largest = gradient
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(finite(*value).abs()));
    let moves = largest >= TINY;
    let divisor = if moves { largest } else { 1.0 };
    let norm = norm(gradient.iter().map(|value| finite(*value) / divisor));
    let step = if moves { step_size / norm.max(TINY) } else { 0.0 };

    let elements = natural.iter().zip(current).zip(gradient).zip(&mut *offsets);
    for (((natural, current), gradient), offset) in elements {
        *offset = current + step * (finite(*gradient) / divisor) - natural;
    }
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
    work: impl FnOnce(&[f32], &[f32], &[f32], &mut [f32]),
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
    let mut result = Pooled::new(values.len());
    work(values, current_values, gradient_values, &mut result);
    Some(Images::from_primitive::<Flex>(tensor(result, natural.dims())))
}

/// A tensor's memory in row-major order; `None` where it is not the processor's.
fn memory<const D: usize>(tensor: Tensor<D>) -> Option<FlexTensor> {
    Some(tensor.try_into_primitive::<Flex>().ok()?.to_contiguous())
}

/// Values that one thread works on at a time; sums are taken in such pieces, in their order, whatever the threads.
const PIECE: usize = 1 << 14;

/// Parameters, velocity and gradient.
type Moving = (Tensor<1>, Option<Tensor<1>>, Tensor<1>);

/// The fused loop of [`super::sgd_step`]. It writes into the memory of gradient and velocity where nobody else holds them;
/// what it cannot take comes back.
pub fn sgd_step(
    parameters: Tensor<1>,
    velocity: Option<Tensor<1>>,
    gradient: Tensor<1>,
    descent: &Descent,
) -> Result<(Tensor<1>, Tensor<1>), Box<Moving>> {
    let count = parameters.dims()[0];
    let fits = |tensor: &Tensor<1>| {
        tensor.dims()[0] == count && tensor.dtype() == DType::F32 && tensor.device() == burn::tensor::Device::flex()
    };
    if !fits(&parameters) || !fits(&gradient) || velocity.as_ref().is_some_and(|velocity| !fits(velocity)) {
        return Err(Box::new((parameters, velocity, gradient)));
    }
    let begins = velocity.is_none();
    // Without a velocity the gradient's values stand in its place until they are overwritten.
    let [Some(own), Some(mut moved), Some(mut velocity)] = [
        parameters.clone(),
        gradient.clone(),
        velocity.unwrap_or_else(|| gradient.clone()),
    ]
    .map(memory) else {
        unreachable!("tensors of the processor's have memory of its own");
    };
    drop((parameters, gradient));
    {
        let own: &[f32] = own.storage();
        let (moved, velocity): (&mut [f32], &mut [f32]) = (moved.storage_mut(), velocity.storage_mut());
        own.par_chunks(PIECE)
            .zip(moved.par_chunks_mut(PIECE))
            .zip(velocity.par_chunks_mut(PIECE))
            .enumerate()
            .for_each(|(piece, ((own, gradient), velocity))| {
                let decayed = descent.decayed.saturating_sub(piece * PIECE).min(own.len());
                let decay = [(0..decayed, descent.weight_decay), (decayed..own.len(), 0.0)];
                for (places, decay) in decay {
                    let places = own[places.clone()]
                        .iter()
                        .zip(&mut gradient[places.clone()])
                        .zip(&mut velocity[places]);
                    for ((own, gradient), velocity) in places {
                        let direction = *gradient + decay * own;
                        let speed = if begins {
                            direction
                        } else {
                            descent.momentum * *velocity + direction
                        };
                        let change = if descent.nesterov {
                            direction + descent.momentum * speed
                        } else {
                            speed
                        };
                        *velocity = speed;
                        *gradient = own - descent.learning_rate * change;
                    }
                }
            });
    }
    Ok((
        Tensor::from_primitive::<Flex>(moved),
        Tensor::from_primitive::<Flex>(velocity),
    ))
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
