//! Dynamic adversarial training (Wang et al., 2019): the convergence of the inner maximisation is measured, and asked
//! for more strictly from epoch to epoch.

use super::{Defence, Loss, Standard, StepContext, over_pixels};
use crate::{
    attacks::{AttackError, value_and_gradient},
    losses,
    nn::Model,
    shapes::{Batch, Images, PerExample},
    threat::ThreatModel,
};

pub(super) struct Dynamic {
    pub max_criterion: f32,
    pub control_epochs: usize,
}

/// The first-order stationary condition: how much a linear objective could still rise inside the ball,
/// `c(x') = max_{‖x − x⁰‖ ≤ ε} ⟨x − x', g⟩ = ε·‖g‖₁ − ⟨x' − x⁰, g⟩`.
///
/// 0 at a stationary point of the constrained problem, never negative inside the ball. `g` is the gradient of each
/// example's own objective at x', not of their mean; in the L2 ball its length is ‖g‖₂.
///
/// # Shapes
/// Images and gradient: `[N, C, H, W]`; the result: `[N]`.
///
/// # Source
/// Wang et al. 2019, equation 4. x⁰ is the natural image, as in the equation; some code takes the random start.
pub fn first_order_stationarity(
    natural: &Images,
    current: &Images,
    gradient: &Images,
    threat: &ThreatModel,
) -> PerExample {
    let [examples, ..] = natural.dims();
    let along = ((current.clone() - natural.clone()) * gradient.clone())
        .flatten::<2>(1, 3)
        .sum_dim(1)
        .reshape([examples]);
    threat.norm.dual_length(gradient.clone()) * threat.epsilon.value() - along
}

/// The criterion of an epoch (from 0): `c_t = max(c_max − t·c_max/T′, 0)`.
///
/// # Source
/// Wang et al. 2019, Algorithm 1.
pub fn criterion_at(epoch: usize, max_criterion: f32, control_epochs: usize) -> f32 {
    let left = 1.0 - epoch as f64 / control_epochs.max(1) as f64;
    (f64::from(max_criterion) * left).max(0.0) as f32
}

impl Defence for Dynamic {
    /// The ascent of the cross-entropy; an example rests once its stationarity is at most `c_t`. The first step is
    /// always taken.
    fn perturb(&mut self, batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
        let criterion = criterion_at(step.epoch, self.max_criterion, self.control_epochs);
        let climb = |images| losses::cross_entropy((step.attacked)(images), batch.labels.clone());
        let natural = &batch.images;
        let mut current = step.threat.start(natural, step.pgd.start, step.rngs);
        for number in 0..step.pgd.steps {
            let (_, gradient) = value_and_gradient(&climb, &current)?;
            let rests = first_order_stationarity(natural, &current, &gradient, step.threat).lower_equal_elem(criterion);
            let moved = step
                .threat
                .ascend(natural, current.clone(), gradient, step.pgd.step_size.value());
            current = if number == 0 {
                moved
            } else {
                moved.mask_where(over_pixels(rests.float(), natural).greater_elem(0.5), current)
            };
        }
        Ok(current)
    }

    /// `CE(p(x̂'), y)`.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        Standard.loss(model, batch, adversarial, step)
    }
}
