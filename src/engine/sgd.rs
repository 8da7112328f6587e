//! Stochastic gradient descent exactly as PyTorch computes it.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use crate::{
    nn::{Model, Named, Role},
    recipe::{Decay, Optimiser},
};

/// The optimiser's state: one velocity for each parameter, flattened, under PyTorch's name.
#[derive(Debug, Clone, Default)]
pub struct Sgd {
    /// Momentum buffers; empty before the first step.
    pub velocity: Named,
}

impl Sgd {
    /// Moves `model` by one step.
    ///
    /// `d = g + wd·w`, `v ← μ·v + d`, `w ← w − lr·v` (Nesterov: `w ← w − lr·(d + μ·v)`); no dampening.
    ///
    /// # Shapes
    /// Gradients flattened, by parameter name.
    ///
    /// # Source
    /// PyTorch's `torch.optim.SGD`.
    pub fn step(&mut self, model: &mut Model, mut gradients: Named, settings: &Optimiser, learning_rate: f64) {
        let mut moved = BTreeMap::new();
        for parameter in model.parameters() {
            let Some(gradient) = gradients.remove(&parameter.name) else {
                continue;
            };
            let decays = match settings.decay {
                Decay::All => true,
                Decay::Weights => parameter.role == Role::Weight,
            };
            let direction = if decays && settings.weight_decay > 0.0 {
                gradient + parameter.values.clone() * settings.weight_decay
            } else {
                gradient
            };
            let velocity = match self.velocity.remove(&parameter.name) {
                Some(velocity) => velocity * settings.momentum + direction.clone(),
                None => direction.clone(),
            };
            let change = if settings.nesterov {
                direction + velocity.clone() * settings.momentum
            } else {
                velocity.clone()
            };
            moved.insert(parameter.name.clone(), parameter.values - change * learning_rate);
            if settings.momentum > 0.0 {
                self.velocity.insert(parameter.name, velocity);
            }
        }
        model.set_parameters(&moved);
    }
}

/// The Euclidean norm of the whole gradient, `[1]`.
pub fn gradient_norm(gradients: &Named) -> Option<Tensor<1>> {
    gradients
        .values()
        .map(|g| g.clone().powi_scalar(2).sum())
        .reduce(|a, b| a + b)
        .map(Tensor::sqrt)
}

/// Scales the whole gradient down to `largest` where its norm is longer (PyTorch's `clip_grad_norm_`).
pub fn clip(gradients: Named, norm: &Tensor<1>, largest: f64) -> Named {
    let factor = ((norm.clone() + 1e-6).recip() * largest).clamp_max(1.0);
    gradients
        .into_iter()
        .map(|(name, gradient)| (name, gradient * factor.clone()))
        .collect()
}
