//! No attack: the images as they are.

use serde::{Deserialize, Serialize};

use super::{Attack, AttackError, Method};
use crate::{
    random::Rng,
    shapes::{Batch, Images, Logits},
    threat::ThreatModel,
};

/// Leaves the images as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Natural {}

pub(super) fn named(name: &str) -> Option<Method> {
    (name == "natural").then_some(Method::Natural(Natural {}))
}

impl Attack for Natural {
    fn perturb(
        &self,
        _logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        _threat: &ThreatModel,
        _rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        Ok(batch.images.clone())
    }

    fn settings(&self, _threat: &ThreatModel, _classes: usize) -> String {
        String::new()
    }

    fn passes(&self) -> usize {
        0
    }
}
