//! AutoAttack: the standard suite of four attacks, each on what the ones before it left standing.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{
    Attack, AttackError, AttackSpec, Method,
    standing::{Attempt, is_wrong, while_standing},
};
use crate::{
    compute,
    random::Rng,
    shapes::{Batch, Images, Logits},
    threat::ThreatModel,
};

/// The standard version: 100 steps, 9 targets, 5,000 queries.
const STANDARD: [&str; 4] = ["apgd-ce", "apgd-dlr-t", "fab-t", "square"];

/// An eighth of the standard version's work, most of it where the standard version finds most.
const FAST: [&str; 4] = ["apgd-ce-50", "apgd-dlr-t-20", "fab-t-10", "square-500"];

/// Attacks one after another, each on the examples that none before it fooled.
///
/// # Source
/// Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
/// attacks", section 5.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InTurn {
    /// The attacks, in order.
    pub attacks: Vec<AttackSpec>,
}

/// `autoattack`; `autoattack-fast`, whose components' names say how much they do.
pub(super) fn named(name: &str) -> Option<Method> {
    let components = match name {
        "autoattack" => STANDARD,
        "autoattack-fast" => FAST,
        _ => return None,
    };
    let attacks = components.into_iter().map(AttackSpec::from_str);
    Some(Method::InTurn(InTurn {
        attacks: attacks.collect::<Result<_, _>>().ok()?,
    }))
}

impl Attack for InTurn {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        while_standing(batch, rngs, &self.attacks, |attack, _, examples, rngs| {
            let images = attack.perturb(logits, examples, threat, rngs)?;
            let wrong = is_wrong(logits(images.clone()), &examples.labels);
            let fooled = compute::read(wrong.float())?;
            Ok(Attempt {
                images,
                fooled: fooled.iter().map(|wrong| *wrong != 0.0).collect(),
            })
        })
    }

    fn settings(&self, threat: &ThreatModel, classes: usize) -> String {
        let each = self
            .attacks
            .iter()
            .map(|attack| format!("{} ({})", attack.name, attack.settings(threat, classes)));
        format!("in turn: {}", each.collect::<Vec<_>>().join("; "))
    }

    fn passes(&self) -> usize {
        self.attacks.iter().map(Attack::passes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_version_is_an_eighth_of_the_work() {
        let passes = |name: &str| AttackSpec::from_str(name).unwrap().passes();
        let share = passes("autoattack-fast") as f64 / passes("autoattack") as f64;
        assert!((0.11..0.14).contains(&share), "{share}");
    }
}
