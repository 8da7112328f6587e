//! MI-FGSM: steps along an average of the gradients, so that they transfer better to other models.

use serde::{Deserialize, Serialize};

use super::{
    Attack, AttackError, GRADIENT_COST, Method, counted,
    standing::{column, finite},
    steps_text, value_and_gradient,
};
use crate::{
    losses,
    random::Rng,
    shapes::{Batch, Images, Logits},
    threat::ThreatModel,
};

/// The authors' number of steps, and μ.
const STEPS: usize = 10;
const DECAY: f64 = 1.0;

/// Momentum iterative FGSM.
///
/// `g ← μ·g + ∇/mean|∇|`, `x ← Π(x + ε/steps · direction(g))`, from the natural image. The mean stands for the paper's L1
/// norm: it is that norm over the number of pixels, which changes no direction.
///
/// # Source
/// Dong et al. 2018, "Boosting adversarial attacks with momentum", Algorithm 1 and equations 6 to 8.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Momentum {
    /// Gradient steps.
    pub steps: usize,
    /// μ: how much of the gradients before a step still counts.
    pub decay: f64,
}

/// `mi-fgsm`, `mi-fgsm-STEPS`.
pub(super) fn named(name: &str) -> Option<Method> {
    let steps = counted(name, "mi-fgsm", STEPS)?;
    Some(Method::Momentum(Momentum { steps, decay: DECAY }))
}

impl Attack for Momentum {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        _rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        let climb = |images: Images| losses::cross_entropy(logits(images), batch.labels.clone());
        let step_size = threat.epsilon.value() / self.steps.max(1) as f32;
        let mut current = batch.images.clone();
        let mut momentum = current.zeros_like();
        for _ in 0..self.steps {
            let (_, gradient) = value_and_gradient(&climb, &current)?;
            // One value that is no number would stay in the average for good.
            let gradient = finite(gradient);
            let size = gradient.clone().flatten::<2>(1, 3).abs().mean_dim(1);
            let size = size.clamp_min(f32::MIN_POSITIVE).reshape([batch.len()]);
            momentum = momentum * self.decay + gradient / column(&size);
            current = threat.ascend(&batch.images, current, momentum.clone(), step_size);
        }
        Ok(current)
    }

    fn settings(&self, threat: &ThreatModel, _classes: usize) -> String {
        let step = threat.epsilon.divided_by(self.steps.max(1) as u32);
        format!("{} of {step}, μ = {}", steps_text(self.steps), self.decay)
    }

    fn passes(&self) -> usize {
        GRADIENT_COST * self.steps
    }
}
