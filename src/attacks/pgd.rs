//! Projected gradient ascent: PGD, CW∞, and FGSM as the one-step case.

use serde::{Deserialize, Serialize};

use super::{Attack, AttackError, GRADIENT_COST, Method, standing::choose, steps_text};
use crate::{
    compute, losses,
    random::Rng,
    shapes::{Batch, Images, Logits, PerExample},
    threat::{Magnitude, Norm, Start, ThreatModel},
};

/// What a gradient attack climbs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// [`losses::cross_entropy`].
    CrossEntropy,
    /// [`losses::carlini_wagner`] with its κ.
    CarliniWagner {
        /// The lead of a wrong class at which the objective stops.
        kappa: f32,
    },
}

/// κ where a person gives none. The paper's was never published; at 50 the objective does not stop early on
/// unnormalised logits, as in the code that its baselines share.
pub const DEFAULT_KAPPA: f32 = 50.0;

/// Which class an attack drives towards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    /// Any wrong class.
    Untargeted,
    /// One class: the attack climbs towards it. Success still means an answer other than the true class.
    Target(usize),
}

/// FGSM, PGD or CW∞ as a suite names them: one run of [`maximise`] that keeps its last iterate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ascent {
    /// What it climbs.
    pub objective: Objective,
    /// Any wrong class, or one.
    pub aim: Aim,
    /// Gradient steps.
    pub steps: usize,
    /// The length of a step; `None` follows the paper: ε for FGSM, ε/10 from 20 steps on, ε/4 below.
    pub step_size: Option<Magnitude>,
    /// Where it starts.
    pub start: Start,
}

/// `fgsm`, `pgd-STEPS`, `cw-STEPS`.
pub(super) fn named(name: &str) -> Option<Method> {
    let steps_after = |prefix: &str| -> Option<usize> {
        let steps = name.strip_prefix(prefix)?.parse().ok()?;
        (1..=100_000).contains(&steps).then_some(steps)
    };
    let (objective, steps, start) = if name == "fgsm" {
        (Objective::CrossEntropy, 1, Start::Natural)
    } else if let Some(steps) = steps_after("pgd-") {
        (Objective::CrossEntropy, steps, Start::Uniform)
    } else {
        let kappa = DEFAULT_KAPPA;
        (Objective::CarliniWagner { kappa }, steps_after("cw-")?, Start::Uniform)
    };
    Some(Method::Pgd(Ascent {
        objective,
        aim: Aim::Untargeted,
        steps,
        step_size: None,
        start,
    }))
}

impl Ascent {
    /// The step that this attack takes under `threat`.
    pub fn step_size(&self, threat: &ThreatModel) -> Magnitude {
        if let Some(step_size) = &self.step_size {
            return step_size.clone();
        }
        match (threat.norm, self.steps) {
            (_, 0 | 1) => threat.epsilon.clone(),
            (Norm::Linf, 2..20) => threat.epsilon.divided_by(4),
            (Norm::Linf, _) => threat.epsilon.divided_by(10),
            // 2.5·ε/steps reaches the boundary from any start in the ball (Madry et al., 2018).
            (Norm::L2, steps) => threat.epsilon.scaled((2.5 / steps as f64).min(0.999)),
        }
    }

    /// κ, where the objective has one.
    pub fn kappa(&self) -> Option<f32> {
        match self.objective {
            Objective::CarliniWagner { kappa } => Some(kappa),
            Objective::CrossEntropy => None,
        }
    }
}

impl Attack for Ascent {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        let labels = match self.aim {
            Aim::Untargeted => batch.labels.clone(),
            Aim::Target(class) => batch.labels.zeros_like().add_scalar(class as i64),
        };
        let climb = |images: Images| {
            let value = match self.objective {
                Objective::CrossEntropy => losses::cross_entropy(logits(images), labels.clone()),
                Objective::CarliniWagner { kappa } if self.aim == Aim::Untargeted => {
                    losses::carlini_wagner(logits(images), labels.clone(), kappa)
                }
                // Driving to a class: the class's lead over the others grows until it is κ.
                Objective::CarliniWagner { kappa } => losses::margin(logits(images), labels.clone()).clamp_min(-kappa),
            };
            if self.aim == Aim::Untargeted {
                value
            } else {
                value.neg()
            }
        };
        let pgd = Pgd {
            steps: self.steps,
            step_size: self.step_size(threat),
            start: self.start,
            restarts: 1,
            keep: Keep::Last,
        };
        maximise(&climb, &batch.images, threat, &pgd, rngs)
    }

    fn settings(&self, threat: &ThreatModel, _classes: usize) -> String {
        let kappa = self.kappa().map(|kappa| format!(", κ = {kappa}")).unwrap_or_default();
        format!("{} of {}{kappa}", steps_text(self.steps), self.step_size(threat))
    }

    fn passes(&self) -> usize {
        GRADIENT_COST * self.steps
    }
}

/// Which of its iterates an attack hands back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The last one, as the paper and the released code do.
    Last,
    /// For each example the one with the highest objective; costs one more forward pass.
    Best,
}

/// The numbers of projected gradient ascent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pgd {
    /// Gradient steps.
    pub steps: usize,
    /// The length of a step in pixel units.
    pub step_size: Magnitude,
    /// Where it starts.
    pub start: Start,
    /// How many times it starts anew; with more than one, the best objective of each example is kept.
    pub restarts: usize,
    /// Which iterate it hands back.
    pub keep: Keep,
}

/// Projected gradient ascent on `objective` inside the threat model: the inner maximisation.
///
/// `max_{x'} objective(x')` subject to `‖x' − x‖ ≤ ε` and `x' ∈ [0, 1]`, by
/// `x' ← Π(x' + η·direction(∇ objective(x')))`. The objective is summed over the batch, never averaged, so that the
/// batch's size changes nothing.
///
/// # Shapes
/// `natural` and the result: `[N, C, H, W]`; N generators, from which each example's starts are drawn.
///
/// # Errors
/// [`AttackError::MissingGradient`] where the objective does not depend on the image.
///
/// # Source
/// Madry et al. 2018; paper, Algorithm 1, lines 6 to 9.
pub fn maximise(
    objective: &dyn Fn(Images) -> PerExample,
    natural: &Images,
    threat: &ThreatModel,
    pgd: &Pgd,
    rngs: &mut [Rng],
) -> Result<Images, AttackError> {
    let step_size = pgd.step_size.value();
    let mut best = Best::default();
    for _ in 0..pgd.restarts.max(1) {
        let mut current = threat.start(natural, pgd.start, rngs);
        for step in 0..pgd.steps {
            let (value, gradient) = value_and_gradient(objective, &current)?;
            // A Gaussian start is not projected: only what comes after it is sure to lie in the ball.
            if pgd.keep == Keep::Best && (step > 0 || pgd.start != Start::Gaussian) {
                best.offer(&current, value);
            }
            current = threat.ascend(natural, current, gradient, step_size);
        }
        if pgd.keep == Keep::Last && pgd.restarts <= 1 {
            return Ok(current);
        }
        let value = objective(current.clone()).inner();
        best.offer(&current, value);
    }
    Ok(best.images.unwrap_or_else(|| natural.clone()))
}

/// The objective of each example and its gradient with respect to that example's image.
///
/// # Shapes
/// `[N, C, H, W]` → `[N]`, `[N, C, H, W]`.
///
/// # Errors
/// [`AttackError::MissingGradient`] where the objective does not depend on the image.
pub fn value_and_gradient(
    objective: &dyn Fn(Images) -> PerExample,
    images: &Images,
) -> Result<(PerExample, Images), AttackError> {
    let image = images.clone().autodiff().require_grad();
    let value = objective(image.clone());
    // burn panics on a backward pass through nothing; that is the same fault as a missing gradient.
    if !value.is_autodiff() || !value.is_tracked() {
        return Err(AttackError::MissingGradient);
    }
    // The way back begins with ones: it is that of the sum.
    let mut gradients = compute::sum_backward(value.clone());
    let gradient = image.grad_remove(&mut gradients).ok_or(AttackError::MissingGradient)?;
    Ok((value.inner(), gradient))
}

/// For each example the image with the highest objective so far.
#[derive(Default)]
struct Best {
    images: Option<Images>,
    values: Option<PerExample>,
}

impl Best {
    fn offer(&mut self, images: &Images, values: PerExample) {
        let (Some(best_images), Some(best_values)) = (self.images.take(), self.values.take()) else {
            self.images = Some(images.clone());
            self.values = Some(values);
            return;
        };
        let better = values.clone().greater(best_values.clone());
        self.images = Some(choose(&better, images.clone(), best_images));
        self.values = Some(best_values.mask_where(better, values));
    }
}
