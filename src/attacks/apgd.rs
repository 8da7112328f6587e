//! PGD that sets its own step size: Auto-PGD.

use std::cell::RefCell;

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    Attack, AttackError, GRADIENT_COST, Method, TARGETS, counted,
    standing::{Attempt, Departures, choose, column, is_wrong, likeliest_targets, rows, targets_at, while_standing},
    steps_text, value_and_gradient,
};
use crate::{
    losses,
    random::Rng,
    shapes::{Batch, Images, Labels, Logits, PerExample, row_numbers},
    threat::ThreatModel,
};

/// Steps of AutoAttack's APGD.
const STEPS: usize = 100;

/// ρ: the share of rising steps from which on the step size is left alone.
const RHO: f64 = 0.75;

/// α: how much of a step is new; the rest is momentum.
const ALPHA: f64 = 0.75;

/// The first step's length in units of ε.
const FIRST_STEP: f64 = 2.0;

/// Looks for fooled examples come this many steps apart: each is a sync point.
const LOOK: usize = 5;

/// What APGD climbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ApgdObjective {
    /// [`losses::cross_entropy`].
    CrossEntropy,
    /// [`losses::dlr`]; with 2 classes, which have no third, [`losses::margin`].
    Dlr,
    /// [`losses::dlr_targeted`], once for each target; with fewer than 4 classes, which have no fourth, the target's
    /// lead over the true class.
    TargetedDlr {
        /// The wrong classes that are tried, the likeliest first; all of them where there are fewer.
        targets: usize,
    },
    /// As [`ApgdObjective::TargetedDlr`] towards one class, the same for every example.
    Towards {
        /// The class.
        class: usize,
    },
}

/// Auto-PGD: projected gradient ascent with momentum, which halves its step where progress stalls.
///
/// From `x⁽⁰⁾` on the ball's boundary and η = 2ε: `z = Π(x⁽ᵏ⁾ + η·direction(∇f))`,
/// `x⁽ᵏ⁺¹⁾ = Π(x⁽ᵏ⁾ + α(z − x⁽ᵏ⁾) + (1 − α)(x⁽ᵏ⁾ − x⁽ᵏ⁻¹⁾))`, α = 1 in the first step. At each of
/// [`Apgd::checkpoints`] an example's η is halved, and it goes on from its best iterate, if since the last checkpoint
/// at most ρ of its steps raised f, or if neither its η was halved there nor its best f has risen since.
///
/// # Source
/// Croce and Hein 2020, Algorithm 1 and section 3. Where paper and authors' code differ in the count of rising steps
/// (`<` or `≤` ρ; after a restart compared with the best iterate or with the one given up) this follows the code, but
/// compares the first step with the start, as the paper has it, where the code compares it with 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Apgd {
    /// What it climbs.
    pub objective: ApgdObjective,
    /// Gradient steps, for each target.
    pub steps: usize,
    /// ρ.
    pub rho: f64,
    /// Whether an example is left alone once it is fooled, and that image handed back. Otherwise every example takes
    /// every step and the image of the highest objective is handed back, as transfer wants it.
    pub stop_when_fooled: bool,
}

/// `apgd-ce`, `apgd-dlr`, `apgd-dlr-t` (`apgd-t` in AutoAttack's code), each with `-STEPS` after it.
pub(super) fn named(name: &str) -> Option<Method> {
    let targeted = ApgdObjective::TargetedDlr { targets: TARGETS };
    let names = [
        ("apgd-ce", ApgdObjective::CrossEntropy),
        ("apgd-dlr", ApgdObjective::Dlr),
        ("apgd-dlr-t", targeted),
        ("apgd-t", targeted),
    ];
    names.into_iter().find_map(|(prefix, objective)| {
        Some(Method::Apgd(Apgd {
            objective,
            steps: counted(name, prefix, STEPS)?,
            rho: RHO,
            stop_when_fooled: true,
        }))
    })
}

/// Classes that [`losses::dlr`] needs: its denominator takes the third.
const OF_DLR: usize = 3;
/// Classes that [`losses::dlr_targeted`] needs: its denominator takes the fourth.
const OF_TARGETED_DLR: usize = 4;

impl ApgdObjective {
    /// The objective of each example.
    fn value(self, logits: Logits, labels: &Labels, targets: Option<&Labels>) -> PerExample {
        let classes = logits.dims()[1];
        match (self, targets) {
            (Self::CrossEntropy, _) => losses::cross_entropy(logits, labels.clone()),
            (_, Some(targets)) if classes < OF_TARGETED_DLR => losses::lead(logits, targets.clone(), labels.clone()),
            (_, Some(targets)) => losses::dlr_targeted(logits, labels.clone(), targets.clone()),
            _ if classes < OF_DLR => losses::margin(logits, labels.clone()),
            _ => losses::dlr(logits, labels.clone()),
        }
    }
}

/// Where a climb stands.
#[derive(Debug, Clone)]
pub struct Climb {
    natural: Images,
    labels: Labels,
    targets: Option<Labels>,
    /// The iterate `x⁽ᵏ⁾`, `[N, C, H, W]`.
    pub current: Images,
    previous: Images,
    gradient: Images,
    /// The iterate of the highest objective, `[N, C, H, W]`.
    pub best: Images,
    best_gradient: Images,
    /// The highest objective, `[N]`.
    pub best_value: PerExample,
    /// The objective of the last step, `[N]`.
    pub value: PerExample,
    /// η in pixel units, `[N]`.
    pub step_size: PerExample,
    /// Steps since the last checkpoint that raised the objective.
    rises: PerExample,
    /// 1 where η was halved at the last checkpoint.
    halved: PerExample,
    best_at_checkpoint: PerExample,
    /// Which examples some iterate fooled, `[N]`.
    pub fooled: Tensor<1, Bool>,
    /// The first iterate that fooled each; of the others, the start.
    fooling: Images,
}

impl Climb {
    /// What is handed back.
    fn images(&self) -> Images {
        choose(&self.fooled, self.fooling.clone(), self.best.clone())
    }

    /// Only some of the examples.
    fn select(self, stay: &[usize]) -> Self {
        let chosen = row_numbers(stay, &self.natural);
        Self {
            natural: rows(&self.natural, &chosen),
            labels: rows(&self.labels, &chosen),
            targets: self.targets.map(|targets| rows(&targets, &chosen)),
            current: rows(&self.current, &chosen),
            previous: rows(&self.previous, &chosen),
            gradient: rows(&self.gradient, &chosen),
            best: rows(&self.best, &chosen),
            best_gradient: rows(&self.best_gradient, &chosen),
            best_value: rows(&self.best_value, &chosen),
            value: rows(&self.value, &chosen),
            step_size: rows(&self.step_size, &chosen),
            rises: rows(&self.rises, &chosen),
            halved: rows(&self.halved, &chosen),
            best_at_checkpoint: rows(&self.best_at_checkpoint, &chosen),
            fooled: rows(&self.fooled, &chosen),
            fooling: rows(&self.fooling, &chosen),
        }
    }
}

impl Apgd {
    /// The steps after which the step size is looked at: `⌈p_j·steps⌉` with p₀ = 0, p₁ = 0.22 and
    /// `p_{j+1} = p_j + max(p_j − p_{j−1} − 0.03, 0.06)`. For 100: 22, 41, 57, 70, 80, 87, 93, 99.
    ///
    /// # Source
    /// Croce and Hein 2020, section 3.1. The authors' code truncates the intervals instead of rounding their ends up: the same for 100 steps.
    pub fn checkpoints(&self) -> Vec<usize> {
        // In hundredths, so that no rounding moves a checkpoint.
        let (mut before, mut at) = (0, 22);
        let mut found = Vec::new();
        while at < 100 {
            let step = (at * self.steps).div_ceil(100);
            if step < self.steps && found.last() != Some(&step) {
                found.push(step);
            }
            (before, at) = (at, at + (at - before - 3).max(6));
        }
        found
    }

    /// The objective, its gradient and which examples are fooled, from one pass.
    fn look(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        images: &Images,
        labels: &Labels,
        targets: Option<&Labels>,
    ) -> Result<(PerExample, Images, Tensor<1, Bool>), AttackError> {
        let wrong = RefCell::new(None);
        let objective = |images: Images| {
            let answers = logits(images);
            *wrong.borrow_mut() = Some(is_wrong(answers.clone(), labels));
            self.objective.value(answers, labels, targets)
        };
        let (value, gradient) = value_and_gradient(&objective, images)?;
        let wrong = wrong.into_inner().ok_or(AttackError::MissingGradient)?;
        Ok((value, gradient, wrong))
    }

    /// A climb at `start`, which lies in the threat model.
    ///
    /// # Errors
    /// [`AttackError::MissingGradient`] where the objective does not depend on the image.
    pub fn begin(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        targets: Option<Labels>,
        start: Images,
        threat: &ThreatModel,
    ) -> Result<Climb, AttackError> {
        let (value, gradient, fooled) = self.look(logits, &start, &batch.labels, targets.as_ref())?;
        Ok(Climb {
            natural: batch.images.clone(),
            labels: batch.labels.clone(),
            targets,
            current: start.clone(),
            previous: start.clone(),
            gradient: gradient.clone(),
            best: start.clone(),
            best_gradient: gradient,
            best_value: value.clone(),
            step_size: value.zeros_like() + (FIRST_STEP as f32 * threat.epsilon.value()),
            rises: value.zeros_like(),
            halved: value.ones_like(),
            best_at_checkpoint: value.clone(),
            value,
            fooled,
            fooling: start,
        })
    }

    /// The step after `done` steps, and the look at the step size where one is due.
    ///
    /// # Errors
    /// As [`Apgd::begin`].
    pub fn advance(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        climb: &mut Climb,
        done: usize,
        threat: &ThreatModel,
    ) -> Result<(), AttackError> {
        let alpha = if done == 0 { 1.0 } else { ALPHA };
        let stride = threat.direction(climb.gradient.clone()) * column(&climb.step_size);
        let reached = threat.project(&climb.natural, climb.current.clone() + stride);
        let inertia = (climb.current.clone() - climb.previous.clone()) * (1.0 - alpha);
        let next = climb.current.clone() + (reached - climb.current.clone()) * alpha + inertia;
        let next = threat.project(&climb.natural, next);
        climb.previous = std::mem::replace(&mut climb.current, next);

        let (value, gradient, wrong) = self.look(logits, &climb.current, &climb.labels, climb.targets.as_ref())?;
        let newly = wrong.clone().bool_and(climb.fooled.clone().bool_not());
        climb.fooling = choose(&newly, climb.current.clone(), climb.fooling.clone());
        climb.fooled = climb.fooled.clone().bool_or(wrong);

        let better = value.clone().greater(climb.best_value.clone());
        climb.best = choose(&better, climb.current.clone(), climb.best.clone());
        climb.best_gradient = choose(&better, gradient.clone(), climb.best_gradient.clone());
        climb.best_value = climb.best_value.clone().mask_where(better, value.clone());
        climb.rises = climb.rises.clone() + value.clone().greater(climb.value.clone()).float();
        (climb.value, climb.gradient) = (value, gradient);

        let checkpoints = self.checkpoints();
        if let Some(which) = checkpoints.iter().position(|step| *step == done + 1) {
            let since = if which == 0 { 0 } else { checkpoints[which - 1] };
            self.halve_where_stalled(climb, done + 1 - since);
        }
        Ok(())
    }

    /// Halves η of every example that meets one of the two conditions, `interval` steps after the last look.
    fn halve_where_stalled(&self, climb: &mut Climb, interval: usize) {
        let few_rises = climb.rises.clone().lower_equal_elem(self.rho * interval as f64);
        let not_halved_then = climb.halved.clone().lower_elem(0.5);
        let no_better = climb.best_at_checkpoint.clone().greater_equal(climb.best_value.clone());
        let stalled = few_rises.bool_or(not_halved_then.bool_and(no_better));
        climb.step_size = climb
            .step_size
            .clone()
            .mask_where(stalled.clone(), climb.step_size.clone() * 0.5);
        climb.current = choose(&stalled, climb.best.clone(), climb.current.clone());
        climb.gradient = choose(&stalled, climb.best_gradient.clone(), climb.gradient.clone());
        climb.halved = stalled.float();
        climb.best_at_checkpoint = climb.best_value.clone();
        climb.rises = climb.rises.zeros_like();
    }

    /// One run from a point on the boundary.
    fn attempt(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        targets: Option<Labels>,
        threat: &ThreatModel,
        rngs: &mut [Rng],
    ) -> Result<Attempt, AttackError> {
        let start = threat.on_boundary(&batch.images, rngs);
        let mut climb = self.begin(logits, batch, targets, start, threat)?;
        let mut departures = Departures::new(batch.len());
        for done in 0..self.steps {
            if self.stop_when_fooled && done.is_multiple_of(LOOK) {
                match departures.let_go(&climb.fooled, &climb.fooling)? {
                    Some(stay) if stay.is_empty() => break,
                    Some(stay) => climb = climb.select(&stay),
                    None => {}
                }
            }
            self.advance(logits, &mut climb, done, threat)?;
        }
        if self.stop_when_fooled {
            departures.finish(&climb.fooled, &climb.images())
        } else {
            departures.finish(&climb.fooled, &climb.best)
        }
    }
}

impl Attack for Apgd {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        let targets = match self.objective {
            ApgdObjective::CrossEntropy | ApgdObjective::Dlr => {
                return Ok(self.attempt(logits, batch, None, threat, rngs)?.images);
            }
            ApgdObjective::Towards { class } => {
                let goals = batch.labels.zeros_like() + class as i64;
                return Ok(self.attempt(logits, batch, Some(goals), threat, rngs)?.images);
            }
            ApgdObjective::TargetedDlr { targets } => targets,
        };
        let targets = likeliest_targets(logits, batch, targets)?;
        let ranks = 0..targets.first().map_or(0, Vec::len);
        while_standing(batch, rngs, ranks, |rank, standing, examples, rngs| {
            let goals = targets_at(&targets, standing, rank, &examples.images);
            self.attempt(logits, examples, Some(goals), threat, rngs)
        })
    }

    fn settings(&self, _threat: &ThreatModel, classes: usize) -> String {
        let steps = steps_text(self.steps);
        let what = match self.objective {
            ApgdObjective::CrossEntropy => format!("cross-entropy, {steps}"),
            ApgdObjective::Dlr if classes < OF_DLR => format!("the margin, {steps}"),
            ApgdObjective::Dlr => format!("DLR, {steps}"),
            ApgdObjective::TargetedDlr { .. } if classes == 2 => format!("the other class's lead, {steps}"),
            ApgdObjective::TargetedDlr { targets } if classes < OF_TARGETED_DLR => {
                format!(
                    "each class's lead, towards {} other classes, {steps} each",
                    targets.min(classes - 1)
                )
            }
            ApgdObjective::TargetedDlr { targets } => {
                format!("DLR towards at most {targets} other classes, {steps} each")
            }
            ApgdObjective::Towards { class } if classes < OF_TARGETED_DLR => {
                format!("the class's lead towards class {class}, {steps}")
            }
            ApgdObjective::Towards { class } => format!("DLR towards class {class}, {steps}"),
        };
        format!("{what}, ρ = {}", self.rho)
    }

    fn passes(&self) -> usize {
        let targets = match self.objective {
            ApgdObjective::TargetedDlr { targets } => targets,
            _ => 1,
        };
        targets * GRADIENT_COST * (self.steps + 1)
    }
}
