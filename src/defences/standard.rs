//! Standard adversarial training (Madry et al., 2018; Table 1, "Standard").

use super::{Defence, Loss, StepContext};
use crate::{
    attacks::{AttackError, maximise},
    losses,
    nn::{Mode, Model},
    shapes::Batch,
};

pub(super) struct Standard;

impl Defence for Standard {
    /// `CE(p(x̂'), y)`, with x̂' from the ascent of the same cross-entropy.
    fn loss(&mut self, model: &Model, batch: &Batch, step: &mut StepContext) -> Result<Loss, AttackError> {
        let climb = |images| losses::cross_entropy((step.attacked)(images), batch.labels.clone());
        let adversarial = maximise(&climb, &batch.images, step.threat, step.pgd, step.rng)?;
        let logits = model.forward(adversarial.clone(), Mode::Train);
        let loss = losses::cross_entropy(logits.clone(), batch.labels.clone());
        Ok(Loss {
            objective: loss.clone().mean(),
            terms: vec![("cross_entropy", loss)],
            natural_logits: None,
            adversarial_logits: Some(logits),
            adversarial: Some(adversarial),
        })
    }
}
