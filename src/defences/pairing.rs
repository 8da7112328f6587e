//! Adversarial and clean logit pairing (Kannan et al., 2018; Table 1, "ALP" and "CLP").

use std::fmt;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Defence, Loss, StepContext};
use crate::{
    losses,
    nn::{Mode, Model},
    shapes::{Batch, Images, Logits},
};

/// What the natural and the adversarial side of an example are paired by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// The predicted probabilities, as Table 1 writes it.
    #[default]
    Probabilities,
    /// The logits, as the method's own paper has it.
    Logits,
}

impl Pairing {
    fn of(self, logits: Logits) -> Tensor<2> {
        match self {
            Pairing::Probabilities => losses::probabilities(logits),
            Pairing::Logits => logits,
        }
    }
}

impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pairing::Probabilities => "probabilities",
            Pairing::Logits => "logits",
        })
    }
}

pub(super) struct LogitPairing {
    lambda: f32,
    pairing: Pairing,
    /// Whether the adversarial images are classified (ALP) or the natural ones (CLP).
    adversarial: bool,
}

impl LogitPairing {
    /// ALP.
    pub fn adversarial(lambda: f32, pairing: Pairing) -> Self {
        Self {
            lambda,
            pairing,
            adversarial: true,
        }
    }

    /// CLP.
    pub fn clean(lambda: f32, pairing: Pairing) -> Self {
        Self {
            lambda,
            pairing,
            adversarial: false,
        }
    }
}

impl Defence for LogitPairing {
    /// ALP: `CE(p(x̂'), y) + λ·‖p(x̂') − p(x)‖²`. CLP: `CE(p(x), y)` in the place of the first term. The original pairs
    /// logits in the place of probabilities.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        let [natural_logits, adversarial_logits] =
            model.forward_both([batch.images.clone(), adversarial.clone()], Mode::Train);
        let classified = if self.adversarial {
            &adversarial_logits
        } else {
            &natural_logits
        };
        let cross_entropy = step.cross_entropy(classified.clone(), batch.labels.clone());
        let pairing = losses::squared_distance(
            self.pairing.of(natural_logits.clone()),
            self.pairing.of(adversarial_logits.clone()),
        );
        Loss {
            objective: cross_entropy.clone() + pairing.clone() * self.lambda,
            terms: vec![("cross_entropy", cross_entropy), ("pairing", pairing)],
            natural_logits: Some(natural_logits),
            adversarial_logits: Some(adversarial_logits),
            adversarial: Some(adversarial),
        }
    }
}
