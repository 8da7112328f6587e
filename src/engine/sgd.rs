//! Stochastic gradient descent exactly as PyTorch computes it.

use burn::tensor::Tensor;

use crate::{
    compute::{self, Descent},
    nn::{Flat, Model},
    recipe::{Decay, Optimiser},
};

/// The optimiser's state.
#[derive(Debug, Clone, Default)]
pub struct Sgd {
    /// One momentum for each parameter; none before the first step.
    pub velocity: Option<Flat>,
}

impl Sgd {
    /// Moves `model` by one step: see [`compute::sgd_step`].
    pub fn step(&mut self, model: &mut Model, gradient: Flat, settings: &Optimiser, learning_rate: f64) {
        let layout = model.layout();
        let descent = Descent {
            learning_rate: learning_rate as f32,
            momentum: settings.momentum as f32,
            weight_decay: settings.weight_decay as f32,
            decayed: match settings.decay {
                Decay::All => layout.parameters(),
                Decay::Weights => layout.weights,
            },
            nesterov: settings.nesterov,
        };
        let (parameters, velocity) = compute::sgd_step(model.parameters(), self.velocity.take(), gradient, &descent);
        model.set_parameters(parameters);
        if settings.momentum > 0.0 {
            self.velocity = Some(velocity);
        }
    }
}

/// Scales a gradient of length `norm` down to `largest` where it is longer (PyTorch's `clip_grad_norm_`).
pub fn clip(gradient: Flat, norm: &Tensor<1>, largest: f64) -> Flat {
    gradient * ((norm.clone() + 1e-6).recip() * largest).clamp_max(1.0)
}
