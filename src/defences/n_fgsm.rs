//! N-FGSM (de Jorge et al., 2022): one step that does not overfit to itself, at a fifth of the cost of PGD-10.

use super::{Defence, Loss, Standard, StepContext};
use crate::{
    attacks::{AttackError, value_and_gradient},
    losses,
    nn::Model,
    shapes::{Batch, Images},
    threat::Start,
};

pub(super) struct NFgsm {
    pub noise: f32,
    pub step: f32,
}

impl Defence for NFgsm {
    /// `x̂' = x + η + α·sign ∇CE(x + η)`, η uniform in ±k·ε, clipped to the pixel box alone: it may lie (k + α/ε)·ε
    /// away, and leaving out the projection is what keeps single-step training from collapsing.
    ///
    /// # Source
    /// De Jorge et al. 2022, Algorithm 1: k = 2, α = ε.
    fn perturb(&mut self, batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
        let start = step
            .threat
            .widened(self.noise.into())
            .start(&batch.images, Start::Uniform, step.rngs);
        let climb = |images| losses::cross_entropy((step.attacked)(images), batch.labels.clone());
        let (_, gradient) = value_and_gradient(&climb, &start)?;
        let length = step.threat.epsilon.value() * self.step;
        // In a ball as wide as noise and step together nothing is projected.
        let reach = step.threat.widened(f64::from(self.noise) + f64::from(self.step));
        Ok(reach.ascend(&batch.images, start, gradient, length))
    }

    /// `CE(p(x̂'), y)`.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        Standard.loss(model, batch, adversarial, step)
    }
}
