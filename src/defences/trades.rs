//! TRADES (Zhang et al., 2019; Table 1).

use super::{Defence, Loss, StepContext};
use crate::{
    attacks::{AttackError, maximise},
    losses::{self, Form},
    nn::{Mode, Model},
    shapes::Batch,
};

pub(super) struct Trades {
    pub lambda: f32,
}

impl Defence for Trades {
    /// `CE(p(x), y) + λ·KL(p(x) ‖ p(x̂'))`, with x̂' from the ascent of the KL, its natural side held fixed.
    fn loss(&mut self, model: &Model, batch: &Batch, step: &mut StepContext) -> Result<Loss, AttackError> {
        let fixed = (step.attacked)(batch.images.clone());
        let climb = |images| losses::kl_divergence(fixed.clone(), (step.attacked)(images), Form::Paper);
        let adversarial = maximise(&climb, &batch.images, step.threat, step.pgd, step.rng)?;
        let natural_logits = model.forward(batch.images.clone(), Mode::Train);
        let adversarial_logits = model.forward(adversarial.clone(), Mode::Train);
        let cross_entropy = losses::cross_entropy(natural_logits.clone(), batch.labels.clone());
        let divergence = losses::kl_divergence(natural_logits.clone(), adversarial_logits.clone(), Form::Paper);
        Ok(Loss {
            objective: (cross_entropy.clone() + divergence.clone() * self.lambda).mean(),
            terms: vec![("cross_entropy", cross_entropy), ("kl", divergence)],
            natural_logits: Some(natural_logits),
            adversarial_logits: Some(adversarial_logits),
            adversarial: Some(adversarial),
        })
    }
}
