//! MART: misclassification-aware adversarial training (the paper, equation 11 and Algorithm 1).

use super::{Defence, Loss, StepContext};
use crate::{
    attacks::{AttackError, maximise},
    losses::{self, Form},
    nn::{Mode, Model},
    shapes::Batch,
};

pub(super) struct Mart {
    pub lambda: f32,
    pub form: Form,
}

impl Defence for Mart {
    /// `BCE(p(x̂'), y) + λ·KL(p(x) ‖ p(x̂'))·(1 − p_y(x))`, with x̂' from the ascent of the cross-entropy.
    ///
    /// The natural pass comes before the adversarial one and nothing is detached, as in the released code: running
    /// statistics move twice in a step, and the weight `1 − p_y` is learned too.
    fn loss(&mut self, model: &Model, batch: &Batch, step: &mut StepContext) -> Result<Loss, AttackError> {
        let labels = || batch.labels.clone();
        let climb = |images| losses::cross_entropy((step.attacked)(images), labels());
        let adversarial = maximise(&climb, &batch.images, step.threat, step.pgd, step.rng)?;
        let natural_logits = model.forward(batch.images.clone(), Mode::Train);
        let adversarial_logits = model.forward(adversarial.clone(), Mode::Train);
        let boosted = losses::boosted_cross_entropy(adversarial_logits.clone(), labels(), self.form);
        let divergence = losses::kl_divergence(natural_logits.clone(), adversarial_logits.clone(), self.form);
        let weight = losses::misclassification_weight(natural_logits.clone(), labels(), self.form);
        let weighted = divergence.clone() * weight.clone();
        Ok(Loss {
            objective: (boosted.clone() + weighted.clone() * self.lambda).mean(),
            terms: vec![
                ("boosted_cross_entropy", boosted),
                ("kl", divergence),
                ("one_minus_p_y", weight),
                ("weighted_kl", weighted),
            ],
            natural_logits: Some(natural_logits),
            adversarial_logits: Some(adversarial_logits),
            adversarial: Some(adversarial),
        })
    }
}
