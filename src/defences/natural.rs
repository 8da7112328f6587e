//! Training on natural images alone: the undefended baseline, and the first epochs of a warm-up.

use super::{Defence, Loss, StepContext};
use crate::{
    attacks::AttackError,
    losses,
    nn::{Mode, Model},
    shapes::Batch,
};

pub(super) struct Natural;

impl Defence for Natural {
    /// `CE(p(x), y)`.
    fn loss(&mut self, model: &Model, batch: &Batch, _: &mut StepContext) -> Result<Loss, AttackError> {
        let logits = model.forward(batch.images.clone(), Mode::Train);
        let loss = losses::cross_entropy(logits.clone(), batch.labels.clone());
        Ok(Loss {
            objective: loss.clone().mean(),
            terms: vec![("cross_entropy", loss)],
            natural_logits: Some(logits),
            adversarial_logits: None,
            adversarial: None,
        })
    }
}
