//! Free adversarial training (Shafahi et al., 2019): one backward pass gives the weights' gradient and the images'.

use burn::tensor::{Tensor, TensorData};

use super::{Defence, DefenceError, Loss, Memory, Standard, StepContext};
use crate::{
    attacks::AttackError,
    compute::{self, Device, DeviceError},
    nn::{Flat, Model},
    shapes::{Batch, Images},
};

/// The name of the perturbation in [`Memory`].
const PERTURBATION: &str = "perturbation";

pub(super) struct Free {
    replays: usize,
    /// δ, one for each place in a minibatch; it goes on from minibatch to minibatch. Empty before the first.
    perturbation: Option<Tensor<1>>,
}

impl Free {
    pub fn new(replays: usize) -> Self {
        Self {
            replays,
            perturbation: None,
        }
    }

    /// The perturbation of the first places, `[N, C, H, W]`, and that of the places that a smaller minibatch leaves.
    fn split(&self, images: &Images) -> (Images, Option<Tensor<1>>) {
        let needed = images.shape().num_elements();
        match &self.perturbation {
            None => (images.zeros_like(), None),
            Some(all) => {
                let there = all.dims()[0];
                let used = all.clone().narrow(0, 0, needed.min(there));
                // A first minibatch that was smaller than this one knows nothing of the rest.
                let used = match needed.saturating_sub(there) {
                    0 => used,
                    missing => Tensor::cat(vec![used, Tensor::zeros([missing], &images.device())], 0),
                };
                let rest = (there > needed).then(|| all.clone().narrow(0, needed, there - needed));
                (used.reshape(images.dims()), rest)
            }
        }
    }
}

impl Defence for Free {
    /// `clip(x + δ, 0, 1)`.
    fn perturb(&mut self, batch: &Batch, _: &mut StepContext) -> Result<Images, AttackError> {
        let (perturbation, _) = self.split(&batch.images);
        Ok((batch.images.clone() + perturbation).clamp(0.0, 1.0))
    }

    /// `CE(p(x̂'), y)`.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        Standard.loss(model, batch, adversarial, step)
    }

    /// As any defence's, and from the same backward pass `δ ← clip(δ + ε·sign ∇_x CE, −ε, ε)`.
    ///
    /// # Source
    /// Shafahi et al. 2019, Algorithm 1. The pass is in training mode, whatever the mode of the recipe's attack.
    fn gradients(
        &mut self,
        model: &Model,
        batch: &Batch,
        step: &mut StepContext,
    ) -> Result<(Loss, Flat), DefenceError> {
        let (perturbation, rest) = self.split(&batch.images);
        // The gradient is δ's, not the clipped image's: where clipping holds a pixel, δ rests too.
        let leaf = perturbation.clone().autodiff().require_grad();
        let images = (batch.images.clone() + leaf.clone()).clamp(0.0, 1.0);
        let tracked = model.tracked();
        let mut loss = self.loss(&tracked, batch, images.clone(), step);
        loss.adversarial = Some(images.inner());
        let mut backward = compute::mean_backward(loss.objective.clone());
        let weights = tracked.gradient(&mut backward)?;
        let gradient = leaf.grad_remove(&mut backward).ok_or(AttackError::MissingGradient)?;

        let radius = Tensor::full([batch.len()], step.threat.epsilon.value(), &batch.images.device());
        let moved: Tensor<1> = step
            .threat
            .norm
            .ascend_each(perturbation, gradient, radius.clone(), radius)
            .flatten(0, 3);
        self.perturbation = Some(match rest {
            Some(rest) => Tensor::cat(vec![moved, rest], 0),
            None => moved,
        });
        Ok((loss, weights))
    }

    fn replays(&self) -> usize {
        self.replays
    }

    fn memory(&self) -> Result<Memory, DeviceError> {
        Ok(match &self.perturbation {
            Some(values) => Memory::from([(PERTURBATION.into(), compute::read(values.clone())?)]),
            None => Memory::new(),
        })
    }

    fn recall(&mut self, mut memory: Memory, device: &Device) {
        self.perturbation = memory.remove(PERTURBATION).map(|values| {
            let length = values.len();
            Tensor::from_data(TensorData::new(values, [length]), device.tensors())
        });
    }
}
