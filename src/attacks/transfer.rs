//! Black box by transfer: crafted on another model, tested on this one.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Attack, AttackError, AttackSpec, Method};
use crate::{
    random::Rng,
    shapes::{Batch, Images, Logits},
    threat::ThreatModel,
};

/// An attack that sees a surrogate in the model's place.
///
/// It changes nothing about the attack: whoever carries it out hands [`Attack::perturb`] the surrogate's function.
///
/// # Source
/// Papernot et al. 2016; paper, section 4.2, Table 3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// What is carried out on the surrogate.
    pub attack: Box<AttackSpec>,
}

/// `transfer-` before the name of any attack of one piece.
pub(super) fn named(name: &str) -> Option<Method> {
    let mut attack = AttackSpec::from_str(name.strip_prefix("transfer-")?).ok()?;
    if attack.is_natural() || attack.needs_surrogate() || !attack.components().is_empty() {
        return None;
    }
    // An image that barely fools the surrogate fools nothing else.
    if let Method::Apgd(apgd) = &mut attack.method {
        apgd.stop_when_fooled = false;
    }
    Some(Method::Transfer(Transfer {
        attack: Box::new(attack),
    }))
}

impl Attack for Transfer {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        self.attack.perturb(logits, batch, threat, rngs)
    }

    fn settings(&self, threat: &ThreatModel, classes: usize) -> String {
        format!("on the surrogate: {}", self.attack.settings(threat, classes))
    }

    fn passes(&self) -> usize {
        self.attack.passes()
    }
}
