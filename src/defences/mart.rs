//! MART: misclassification-aware adversarial training (the paper, equation 11 and Algorithm 1), and its ablations.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Defence, Loss, StepContext, climb_cross_entropy, marked, trades::climb_divergence};
use crate::{
    attacks::AttackError,
    losses::{self, Form},
    nn::{Mode, Model},
    random::Rng,
    shapes::{Batch, Images, Logits, PerExample},
};

/// What of MART's loss is taken away or replaced, as in Figure 2. The default is MART itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ablation {
    /// Figure 2(a): the regulariser is `1 − p_y` alone, or nothing where that goes too.
    pub without_kl: bool,
    /// Figure 2(a): every example's KL counts alike.
    pub without_weight: bool,
    /// Figure 2(b): what is put in the place of the boosted cross-entropy.
    pub classification: Classification,
    /// Figure 2(b): what the attack climbs.
    pub inner: InnerObjective,
    /// Figure 2(c): the share of the training examples, chosen once at random, that the regulariser is applied to.
    pub regularised_share: f32,
}

impl Ablation {
    /// MART itself.
    pub const NONE: Self = Self {
        without_kl: false,
        without_weight: false,
        classification: Classification::BoostedCrossEntropy,
        inner: InnerObjective::CrossEntropy,
        regularised_share: 1.0,
    };

    /// Whether nothing is taken away.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Whether the regulariser is applied to the training example of that index: the same in every epoch and every run.
    pub fn regularises(&self, index: usize) -> bool {
        // Each example's of its own stream, so that no list need be kept.
        Rng::stream(SHARE_SEED, index as u64).chance(self.regularised_share)
    }
}

/// Which examples a share takes belongs to the method and not to a run: larger shares hold the smaller ones.
const SHARE_SEED: u64 = 2020;

impl Default for Ablation {
    fn default() -> Self {
        Self::NONE
    }
}

impl fmt::Display for Ablation {
    /// Each deviation after a comma.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.without_kl {
            write!(f, ", without KL")?;
        }
        if self.without_weight {
            write!(f, ", without 1 − p")?;
        }
        match self.classification {
            Classification::BoostedCrossEntropy => {}
            Classification::CrossEntropy => write!(f, ", CE")?,
            Classification::NaturalBoostedCrossEntropy => write!(f, ", BCE on natural examples")?,
        }
        if self.inner == InnerObjective::Kl {
            write!(f, ", attack climbs KL")?;
        }
        if self.regularised_share < 1.0 {
            write!(f, ", {} % regularised", self.regularised_share * 100.0)?;
        }
        Ok(())
    }
}

/// MART's first term, or what stands in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Classification {
    /// `BCE(p(x̂'), y)`.
    #[default]
    BoostedCrossEntropy,
    /// `CE(p(x̂'), y)`.
    CrossEntropy,
    /// `BCE(p(x), y)`.
    NaturalBoostedCrossEntropy,
}

/// What MART's attack climbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InnerObjective {
    /// Equation 10.
    #[default]
    CrossEntropy,
    /// `KL(p(x) ‖ p(x'))`, the natural side fixed.
    Kl,
}

pub(super) struct Mart {
    pub lambda: f32,
    pub form: Form,
    pub ablation: Ablation,
}

impl Mart {
    /// The regulariser that is left, with the terms that it is made of.
    fn regulariser(&self, divergence: PerExample, weight: PerExample, batch: &Batch) -> Option<PerExample> {
        let ablation = &self.ablation;
        let whole = match (ablation.without_kl, ablation.without_weight) {
            (false, false) => divergence * weight,
            (false, true) => divergence,
            (true, false) => weight,
            (true, true) => return None,
        };
        if ablation.regularised_share >= 1.0 {
            return Some(whole);
        }
        Some(whole * marked(batch, |index| ablation.regularises(index)))
    }
}

impl Defence for Mart {
    /// Equation 10, or the ablation's KL.
    fn perturb(&mut self, batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
        match self.ablation.inner {
            InnerObjective::CrossEntropy => climb_cross_entropy(batch, step),
            InnerObjective::Kl => climb_divergence(batch, step),
        }
    }

    /// `BCE(p(x̂'), y) + λ·KL(p(x) ‖ p(x̂'))·(1 − p_y(x))`, with x̂' from the ascent of the cross-entropy.
    ///
    /// The natural pass comes before the adversarial one and nothing is detached, as in the released code: running
    /// statistics move twice in a step, and the weight `1 − p_y` is learned too.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        let labels = || batch.labels.clone();
        let [natural_logits, adversarial_logits] =
            model.forward_both([batch.images.clone(), adversarial.clone()], Mode::Train);
        let boosted = |logits: &Logits| {
            step.cross_entropy(logits.clone(), labels()) + losses::margin_term(logits.clone(), labels(), self.form)
        };
        let (name, classification) = match self.ablation.classification {
            Classification::BoostedCrossEntropy => ("boosted_cross_entropy", boosted(&adversarial_logits)),
            Classification::CrossEntropy => (
                "cross_entropy",
                step.cross_entropy(adversarial_logits.clone(), labels()),
            ),
            Classification::NaturalBoostedCrossEntropy => ("boosted_cross_entropy", boosted(&natural_logits)),
        };
        let divergence = losses::kl_divergence(natural_logits.clone(), adversarial_logits.clone(), self.form);
        let weight = losses::misclassification_weight(natural_logits.clone(), labels(), self.form);
        let mut terms = vec![
            (name, classification.clone()),
            ("kl", divergence.clone()),
            ("one_minus_p_y", weight.clone()),
        ];
        let objective = match self.regulariser(divergence, weight, batch) {
            Some(regulariser) => {
                terms.push(("weighted_kl", regulariser.clone()));
                classification + regulariser * self.lambda
            }
            None => classification,
        };
        Loss {
            objective,
            terms,
            natural_logits: Some(natural_logits),
            adversarial_logits: Some(adversarial_logits),
            adversarial: Some(adversarial),
        }
    }
}
