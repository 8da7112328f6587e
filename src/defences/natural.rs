//! Training on natural images alone: the undefended baseline, and the first epochs of a warm-up.

use super::{Defence, Loss, StepContext};
use crate::{
    attacks::AttackError,
    nn::{Mode, Model},
    shapes::{Batch, Images},
};

pub(super) struct Natural;

impl Defence for Natural {
    /// Nothing is perturbed.
    fn perturb(&mut self, batch: &Batch, _: &mut StepContext) -> Result<Images, AttackError> {
        Ok(batch.images.clone())
    }

    /// `CE(p(x), y)`.
    fn loss(&mut self, model: &Model, batch: &Batch, _: Images, step: &mut StepContext) -> Loss {
        let logits = model.forward(batch.images.clone(), Mode::Train);
        let loss = step.cross_entropy(logits.clone(), batch.labels.clone());
        Loss {
            objective: loss.clone(),
            terms: vec![("cross_entropy", loss)],
            natural_logits: Some(logits),
            adversarial_logits: None,
            adversarial: None,
        }
    }
}
