//! DeepFool: step by step onto the nearest of the linearised boundaries, until the answer changes.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    Attack, AttackError, GRADIENT_COST, Method, TARGETS, counted,
    standing::{Departures, choose, column, finite, is_wrong, likeliest_targets, rows, targets_at},
    steps_text, value_and_gradient,
};
use crate::{
    losses,
    random::Rng,
    shapes::{Batch, Images, Labels, Logits, PerExample, row_numbers},
    threat::{Norm, ThreatModel},
};

/// The authors' number of steps and η.
const STEPS: usize = 50;
const OVERSHOOT: f32 = 0.02;

/// DeepFool, which knows no ε: it looks for a small perturbation, and counts where that lies in the ball.
///
/// With `f_k = z_k − z_y` and `w_k = ∇f_k` at the iterate, k the class whose plane is nearest (`|f_k|/‖w_k‖*` least, ‖·‖* the
/// dual norm): `x ← clip(x + (1 + η)·d)`, d the shortest way to that plane: `|f_k|·w_k/‖w_k‖₂²` in L2,
/// `|f_k|/‖w_k‖₁·sign(w_k)` in L∞. An example that is fooled is left alone. The result is the natural image where the way was
/// longer than ε.
///
/// # Source
/// Moosavi-Dezfooli et al. 2016, Algorithm 2 and equations 10 and 11, with η in every step as the authors' code has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeepFool {
    /// The wrong classes that are looked at, the likeliest at the natural image first; all of them where there are fewer.
    pub targets: usize,
    /// Steps at most.
    pub steps: usize,
    /// η, by which each step goes beyond its plane.
    pub overshoot: f32,
}

/// `deepfool`, `deepfool-STEPS`.
pub(super) fn named(name: &str) -> Option<Method> {
    Some(Method::DeepFool(DeepFool {
        targets: TARGETS,
        steps: counted(name, "deepfool", STEPS)?,
        overshoot: OVERSHOOT,
    }))
}

/// The nearest plane so far, of each example.
struct Nearest {
    /// `|f|/‖w‖*`.
    distance: PerExample,
    gradient: Images,
}

impl DeepFool {
    /// One step of every example.
    fn advance(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        images: &Images,
        labels: &Labels,
        goals: &[Labels],
        norm: Norm,
    ) -> Result<Images, AttackError> {
        let mut nearest: Option<Nearest> = None;
        for goal in goals {
            let lead = |images: Images| losses::lead(logits(images), goal.clone(), labels.clone());
            let (lead, gradient) = value_and_gradient(&lead, images)?;
            let slope = norm.dual_length(gradient.clone()).clamp_min(f32::MIN_POSITIVE);
            let found = Nearest {
                distance: lead.abs() / slope,
                gradient,
            };
            nearest = Some(match nearest {
                None => found,
                Some(before) => {
                    let nearer = found.distance.clone().lower(before.distance.clone());
                    Nearest {
                        distance: before.distance.mask_where(nearer.clone(), found.distance),
                        gradient: choose(&nearer, found.gradient, before.gradient),
                    }
                }
            });
        }
        let Some(Nearest { distance, gradient }) = nearest else {
            return Ok(images.clone());
        };
        let direction = match norm {
            Norm::Linf => gradient.sign(),
            Norm::L2 => {
                let length = norm.length(gradient.clone()).clamp_min(f32::MIN_POSITIVE);
                gradient / column(&length)
            }
        };
        let step = direction * column(&(distance * (1.0 + self.overshoot)));
        // Flat logits give no direction: such an example stays where it is.
        Ok((images.clone() + finite(step)).clamp(0.0, 1.0))
    }
}

impl Attack for DeepFool {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        _rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        let targets = likeliest_targets(logits, batch, self.targets)?;
        let ranks = targets.first().map_or(0, Vec::len);
        let mut here: Vec<usize> = (0..batch.len()).collect();
        let goals_of = |here: &[usize]| -> Vec<Labels> {
            let ranks = 0..ranks;
            ranks
                .map(|rank| targets_at(&targets, here, rank, &batch.images))
                .collect()
        };
        let mut goals = goals_of(&here);
        let (mut current, mut labels) = (batch.images.clone(), batch.labels.clone());
        let mut departures = Departures::new(batch.len());
        let mut fooled: Tensor<1, Bool> = is_wrong(logits(current.clone()), &labels);
        for _ in 0..self.steps {
            match departures.let_go(&fooled, &current)? {
                Some(stay) if stay.is_empty() => break,
                Some(stay) => {
                    let chosen = row_numbers(&stay, &current);
                    here = stay.iter().map(|row| here[*row]).collect();
                    goals = goals_of(&here);
                    current = rows(&current, &chosen);
                    labels = rows(&labels, &chosen);
                    fooled = rows(&fooled, &chosen);
                }
                None => {}
            }
            let next = self.advance(logits, &current, &labels, &goals, threat.norm)?;
            current = choose(&fooled, current, next);
            fooled = fooled.bool_or(is_wrong(logits(current.clone()), &labels));
        }
        let found = departures.finish(&fooled, &current)?.images;
        let distance = threat.distance(&batch.images, &found);
        let inside = distance.lower_equal_elem(threat.epsilon.value());
        Ok(choose(&inside, found, batch.images.clone()))
    }

    fn settings(&self, _threat: &ThreatModel, _classes: usize) -> String {
        format!(
            "at most {} towards at most {} other classes, η = {}",
            steps_text(self.steps),
            self.targets,
            self.overshoot
        )
    }

    fn passes(&self) -> usize {
        self.steps * (self.targets * GRADIENT_COST + 1)
    }
}
