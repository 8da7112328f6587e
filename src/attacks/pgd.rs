//! Projected gradient ascent; FGSM is its one-step case.

use serde::{Deserialize, Serialize};

use super::AttackError;
use crate::{
    random::Rng,
    shapes::{Images, PerExample},
    threat::{Magnitude, Start, ThreatModel},
};

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
/// `natural` and the result: `[N, C, H, W]`.
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
    rng: &mut Rng,
) -> Result<Images, AttackError> {
    let step_size = pgd.step_size.value();
    let mut best = Best::default();
    for _ in 0..pgd.restarts.max(1) {
        let mut current = threat.start(natural, pgd.start, rng);
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
    let total = value.clone().sum();
    // burn panics on a backward pass through nothing; that is the same fault as a missing gradient.
    if !total.is_autodiff() || !total.is_tracked() {
        return Err(AttackError::MissingGradient);
    }
    let mut gradients = total.backward();
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
        let [examples, channels, height, width] = images.dims();
        let mask = better
            .clone()
            .reshape([examples, 1, 1, 1])
            .expand([examples, channels, height, width]);
        self.images = Some(best_images.mask_where(mask, images.clone()));
        self.values = Some(best_values.mask_where(better, values));
    }
}
