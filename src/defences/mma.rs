//! Max-margin adversarial training (Ding et al., 2018; Table 1, "MMA"): each correctly classified example is attacked
//! just beyond the decision boundary, however near or far that is.

use burn::tensor::{Tensor, TensorData};

use super::{Defence, Loss, Memory, StepContext, climb_cross_entropy, over_pixels};
use crate::{
    attacks::{AttackError, value_and_gradient},
    compute::{self, Device, DeviceError},
    losses::{self, Form},
    nn::{Mode, Model},
    shapes::{Batch, Images, Labels, PerExample},
    threat::Start,
};

/// The attack reaches so far beyond the largest margin that is asked for (`train.py` of the authors).
const REACH: f32 = 1.05;
/// The attack's steps add up to so many times its radius (the same).
const STEP_SCALE: f32 = 2.5;
/// Halvings of the interval in which the boundary lies (the same).
const BISECTIONS: usize = 10;
/// The weight of the natural cross-entropy beside the margin loss (the same).
const NATURAL_WEIGHT: f32 = 1.0 / 3.0;

/// The name of the radii in [`Memory`].
const RADII: &str = "radii";

pub(super) struct Mma {
    form: Form,
    max_margin: f32,
    min_epsilon: f32,
    /// Each training example's last margin by its index in the data set; 0 where it was misclassified or never seen.
    radii: Vec<f32>,
    /// The margins of the minibatch under way.
    margins: Option<PerExample>,
}

/// How far each image can go along `direction` before `crosses_zero` does, by bisection of `[0, largest]`.
///
/// `crosses_zero` is negative on the natural side of the boundary; `first` is where the bisection looks first. Images
/// are clipped to the pixel box. Where there is no crossing the result tends to `largest`.
///
/// # Shapes
/// `natural`, `direction` (what is added for a length of 1): `[N, C, H, W]`; `first` and the result: `[N]`.
///
/// # Source
/// Ding et al. 2018, Algorithm 2, lines 3 to 6, with the authors' ten halvings of one interval in the place of its two
/// cases.
pub fn margin_along(
    crosses_zero: &dyn Fn(Images) -> PerExample,
    natural: &Images,
    direction: &Images,
    first: PerExample,
    largest: f32,
) -> PerExample {
    let mut low = first.zeros_like();
    let mut high = first.full_like(largest);
    let mut tried = first;
    for _ in 0..BISECTIONS {
        let image = along(natural, direction, tried.clone());
        let inside = crosses_zero(image).inner().lower_elem(0.0);
        low = low.clone().mask_where(inside.clone(), low.max_pair(tried.clone()));
        high = high.clone().min_pair(tried).mask_where(inside, high);
        tried = (low.clone() + high.clone()) / 2.0;
    }
    tried
}

/// `clip(x + d·u, 0, 1)`.
fn along(natural: &Images, direction: &Images, distance: PerExample) -> Images {
    (natural.clone() + direction.clone() * over_pixels(distance, natural)).clamp(0.0, 1.0)
}

/// The adaptive-norm attack of MMA: PGD on the soft logit margin in a ball of each example's own `radii`, then
/// [`margin_along`] the direction that it found. Gives the images on the boundary and their margins: distances in lengths of
/// that direction, which the pixel box makes a little shorter than 1 in L2, so that a margin is at least its image's distance.
///
/// # Shapes
/// `natural` and the first result: `[N, C, H, W]`; `radii` and the second: `[N]`.
///
/// # Errors
/// [`AttackError::MissingGradient`] where the logits do not depend on the image.
///
/// # Source
/// Ding et al. 2018, Algorithm 2 (AN-PGD). Unlike the authors' code the search sees the model in the recipe's attack
/// mode throughout (there: evaluation for the ascent, training for the bisection), and its images stay in the pixel box.
/// As in the authors' code the direction is the perturbation over the ball's radius; the paper divides by its own length.
pub fn adaptive_attack(
    batch: &Batch,
    radii: PerExample,
    largest: f32,
    step: &mut StepContext,
) -> Result<(Images, PerExample), AttackError> {
    let (natural, norm) = (&batch.images, step.threat.norm);
    let margin = |images: Images| losses::soft_logit_margin((step.attacked)(images), batch.labels.clone());
    let step_size = radii.clone() * (STEP_SCALE / step.pgd.steps as f32);
    let mut perturbation = match step.pgd.start {
        Start::Natural => natural.zeros_like(),
        _ => norm.random_perturbation(natural, 1.0, step.rngs) * over_pixels(radii.clone(), natural),
    };
    for _ in 0..step.pgd.steps {
        let current = (natural.clone() + perturbation).clamp(0.0, 1.0);
        let (_, gradient) = value_and_gradient(&margin, &current)?;
        let from = current - natural.clone();
        perturbation = norm.ascend_each(from, gradient, step_size.clone(), radii.clone());
    }
    let reached = (natural.clone() + perturbation).clamp(0.0, 1.0) - natural.clone();
    let direction = reached / over_pixels(radii.clone(), natural);
    let margins = margin_along(&margin, natural, &direction, radii, largest);
    Ok((along(natural, &direction, margins.clone()), margins))
}

impl Mma {
    pub fn new(form: Form, max_margin: f32, min_epsilon: f32) -> Self {
        Self {
            form,
            max_margin,
            min_epsilon,
            radii: Vec::new(),
            margins: None,
        }
    }

    fn remember(&mut self, indices: &[usize], margins: &[f32]) {
        for (index, margin) in indices.iter().zip(margins) {
            if self.radii.len() <= *index {
                self.radii.resize(index + 1, 0.0);
            }
            self.radii[*index] = *margin;
        }
    }
}

impl Defence for Mma {
    /// Paper: equation 10 at the recipe's epsilon. Released: each correctly classified image at its own margin, found
    /// from the last one; the others as they are. "Correct" is `p_y > 1/2` there, the sign of the attack's objective.
    fn perturb(&mut self, batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
        if self.form == Form::Paper {
            return climb_cross_entropy(batch, step);
        }
        let radii: Vec<f32> = batch
            .indices
            .iter()
            .map(|index| self.radii.get(*index).copied().unwrap_or(0.0).max(self.min_epsilon))
            .collect();
        let device = batch.images.device();
        let radii = Tensor::from_data(TensorData::new(radii, [batch.len()]), &device);
        let logits = (step.attacked)(batch.images.clone());
        let wrong = losses::soft_logit_margin(logits, batch.labels.clone()).greater_equal_elem(0.0);
        let (images, margins) = adaptive_attack(batch, radii, self.max_margin * REACH, step)?;
        let margins = margins.mask_fill(wrong, 0.0);
        // The next visit starts from here: a sync point in every minibatch, beside some twenty passes.
        self.remember(&batch.indices, &compute::read(margins.clone())?);
        let moved = over_pixels(margins.clone(), &images).greater_elem(0.0);
        self.margins = Some(margins);
        Ok(batch.images.clone().mask_where(moved, images))
    }

    /// Paper: `CE(p(x̂'), y)·1(h(x) = y) + CE(p(x), y)·1(h(x) ≠ y)`. Released:
    /// `⅓·CE(p(x), y) + ⅔·(CE(p(x̂'), y)·1(0 < d < d_max) + CE(p(x), y)·1(d = 0))`, d the margin.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        let [natural_logits, adversarial_logits] =
            model.forward_both([batch.images.clone(), adversarial.clone()], Mode::Train);
        let natural = step.cross_entropy(natural_logits.clone(), batch.labels.clone());
        let attacked = step.cross_entropy(adversarial_logits.clone(), batch.labels.clone());
        let mut terms = vec![
            ("natural_cross_entropy", natural.clone()),
            ("cross_entropy", attacked.clone()),
        ];
        let objective = match &self.margins {
            Some(margins) => {
                // A margin of 0 is a misclassified example's, whose "adversarial" image is the natural one.
                let wide_enough = margins.clone().greater_equal_elem(self.max_margin);
                terms.push(("margin", margins.clone()));
                let margin_loss = attacked.mask_fill(wide_enough, 0.0);
                natural * NATURAL_WEIGHT + margin_loss * (1.0 - NATURAL_WEIGHT)
            }
            None => {
                let predicted: Labels = natural_logits.clone().inner().argmax(1).reshape([batch.len()]);
                natural.mask_where(predicted.equal(batch.labels.clone()), attacked)
            }
        };
        Loss {
            objective,
            terms,
            natural_logits: Some(natural_logits),
            adversarial_logits: Some(adversarial_logits),
            adversarial: Some(adversarial),
        }
    }

    fn memory(&self) -> Result<Memory, DeviceError> {
        Ok(match self.form {
            Form::Paper => Memory::new(),
            Form::Released => Memory::from([(RADII.into(), self.radii.clone())]),
        })
    }

    fn recall(&mut self, mut memory: Memory, _: &Device) {
        self.radii = memory.remove(RADII).unwrap_or_default();
    }
}
