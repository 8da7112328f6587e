//! Adversarial weight perturbation (Wu et al., 2020): any defence, its weights moved to where the loss is worse before
//! each gradient is taken.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Defence, DefenceError, Loss, Memory, StepContext, descent};
use crate::{
    attacks::AttackError,
    compute::{Device, DeviceError},
    nn::{Flat, Model, Role},
    shapes::{Batch, Images},
};

/// Guards the division by a layer's gradient (`utils_awp.py` of the authors).
const TINY: f32 = 1e-20;

/// The numbers of adversarial weight perturbation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightPerturbation {
    /// The length of a layer's perturbation in lengths of its weights; its authors use 0.005 to 0.01.
    pub gamma: f32,
    /// Epochs without it at the beginning.
    #[serde(default)]
    pub from_epoch: usize,
}

impl WeightPerturbation {
    /// `defence`, made so.
    pub fn around(&self, defence: Box<dyn Defence>) -> Box<dyn Defence> {
        Box::new(Perturbed {
            inner: defence,
            numbers: self.clone(),
        })
    }
}

struct Perturbed {
    inner: Box<dyn Defence>,
    numbers: WeightPerturbation,
}

/// Each layer's weights moved up its gradient by γ times their own length: `w + γ·‖w‖·g/‖g‖`.
///
/// Weights of convolutions and linear layers alone move; biases and BatchNorm's scales stay.
///
/// # Source
/// Wu et al. 2020, equation 8, with one step of ascent as in the authors' code.
fn adversarial_weights(model: &Model, gradient: &Flat, gamma: f32) -> Flat {
    let length = |values: &Tensor<1>| values.clone().powi_scalar(2).sum().sqrt();
    let (parameters, layout) = (model.parameters(), model.layout());
    let part = |of: &Flat, first: usize, count: usize| of.clone().narrow(0, first, count);
    let weights = layout
        .entries()
        .iter()
        .filter(|parameter| parameter.role == Role::Weight);
    let mut parts: Vec<Flat> = weights
        .map(|parameter| {
            let (first, count) = (parameter.first, parameter.places().len());
            let (values, gradient) = (part(&parameters, first, count), part(gradient, first, count));
            let scale = length(&values) / (length(&gradient) + TINY) * gamma;
            values + gradient * scale
        })
        .collect();
    // Weights lie first and in this order.
    let rest = layout.parameters() - layout.weights;
    if rest > 0 {
        parts.push(part(&parameters, layout.weights, rest));
    }
    Tensor::cat(parts, 0)
}

impl Defence for Perturbed {
    fn perturb(&mut self, batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
        self.inner.perturb(batch, step)
    }

    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        self.inner.loss(model, batch, adversarial, step)
    }

    /// The inner defence's gradients at `w + v`, v the perturbation that raises its loss on the same images. The model
    /// itself never moves, so that there is nothing to restore.
    ///
    /// # Source
    /// Wu et al. 2020, Algorithm 1: `w ← (w + v) − η·∇L(w + v) − v`. Weight decay is the optimiser's and pulls on w.
    fn gradients(
        &mut self,
        model: &Model,
        batch: &Batch,
        step: &mut StepContext,
    ) -> Result<(Loss, Flat), DefenceError> {
        if step.epoch < self.numbers.from_epoch {
            return self.inner.gradients(model, batch, step);
        }
        let images = super::timed_perturb(&mut *self.inner, batch, step)?;
        // A snapshot, because this pass must move no running statistics and draw no dropout of the model's.
        let proxy = model.clone().tracked();
        let ascent = self.inner.loss(&proxy, batch, images.clone(), step);
        let ascent = descent(&proxy, &ascent)?;
        let moved = model
            .with_parameters(adversarial_weights(model, &ascent, self.numbers.gamma))
            .tracked();
        let loss = self.inner.loss(&moved, batch, images, step);
        let gradient = descent(&moved, &loss)?;
        Ok((loss, gradient))
    }

    fn replays(&self) -> usize {
        self.inner.replays()
    }

    fn memory(&self) -> Result<Memory, DeviceError> {
        self.inner.memory()
    }

    fn recall(&mut self, memory: Memory, device: &Device) {
        self.inner.recall(memory, device);
    }
}
