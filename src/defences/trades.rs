//! TRADES (Zhang et al., 2019; Table 1). On labelled and pseudo-labelled images together it is RST (Carmon et al.,
//! 2019).

use super::{Defence, Loss, StepContext};
use crate::{
    attacks::{AttackError, maximise},
    losses::{self, Form},
    nn::{Mode, Model},
    shapes::{Batch, Images},
};

pub(super) struct Trades {
    pub lambda: f32,
}

/// The ascent of `KL(p(x) ‖ p(x'))`, its natural side held fixed.
pub(super) fn climb_divergence(batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
    let fixed = (step.attacked)(batch.images.clone());
    let climb = |images| losses::kl_divergence(fixed.clone(), (step.attacked)(images), Form::Paper);
    maximise(&climb, &batch.images, step.threat, step.pgd, step.rngs)
}

impl Defence for Trades {
    /// The images that climb the loss's own second term.
    fn perturb(&mut self, batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
        climb_divergence(batch, step)
    }

    /// `CE(p(x), y) + λ·KL(p(x) ‖ p(x̂'))`.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        let [natural_logits, adversarial_logits] =
            model.forward_both([batch.images.clone(), adversarial.clone()], Mode::Train);
        let cross_entropy = step.cross_entropy(natural_logits.clone(), batch.labels.clone());
        let divergence = losses::kl_divergence(natural_logits.clone(), adversarial_logits.clone(), Form::Paper);
        Loss {
            objective: cross_entropy.clone() + divergence.clone() * self.lambda,
            terms: vec![("cross_entropy", cross_entropy), ("kl", divergence)],
            natural_logits: Some(natural_logits),
            adversarial_logits: Some(adversarial_logits),
            adversarial: Some(adversarial),
        }
    }
}
