//! Standard adversarial training (Madry et al., 2018; Table 1, "Standard").

use super::{Defence, Loss, StepContext};
use crate::{
    nn::{Mode, Model},
    shapes::{Batch, Images},
};

pub(super) struct Standard;

impl Defence for Standard {
    /// `CE(p(x̂'), y)`: also the loss of the methods that only make x̂' in another way.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        let logits = model.forward(adversarial.clone(), Mode::Train);
        let loss = step.cross_entropy(logits.clone(), batch.labels.clone());
        Loss {
            objective: loss.clone(),
            terms: vec![("cross_entropy", loss)],
            natural_logits: None,
            adversarial_logits: Some(logits),
            adversarial: Some(adversarial),
        }
    }
}
