//! UAT++ (Uesato et al., 2019; the paper, section 3.3).

use super::{Defence, Loss, StepContext};
use crate::{
    losses::{self, Form},
    nn::{Mode, Model},
    shapes::{Batch, Images},
};

pub(super) struct Uat {
    pub lambda: f32,
}

impl Defence for Uat {
    /// `CE(p(x̂'), y) + λ·KL(p(x) ‖ p(x̂'))`, both on the x̂' of the cross-entropy (footnote 2 of section 3.3).
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        let [natural_logits, adversarial_logits] =
            model.forward_both([batch.images.clone(), adversarial.clone()], Mode::Train);
        let cross_entropy = step.cross_entropy(adversarial_logits.clone(), batch.labels.clone());
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
