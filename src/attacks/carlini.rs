//! Carlini and Wagner's attack in L2: the smallest perturbation that it finds, whatever ε is.

use std::cell::RefCell;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{
    Attack, AttackError, GRADIENT_COST, Method,
    adam::Adam,
    counted, numbers,
    standing::{choose, is_wrong},
    steps_text, value_and_gradient,
};
use crate::{
    compute, losses,
    random::Rng,
    shapes::{Batch, Images, Labels, Logits, PerExample},
    threat::ThreatModel,
};

/// The authors' numbers, but for 1,000 steps instead of 10,000, with which the results change little.
const STEPS: usize = 1_000;
const SEARCHES: usize = 9;
const CONSTANT: f32 = 1e-3;
const LEARNING_RATE: f64 = 0.01;

/// Pixels at 0 and 1 lie at infinity in w; they are drawn in by this factor, as the authors' code does.
const INSIDE: f32 = 0.999_999;

/// CW in L2: `min_w ‖x′ − x‖₂² + c·max(z_y − max_{k≠y} z_k, −κ)` with `x′ = (tanh w + 1)/2`, by Adam, c found by a binary search.
///
/// c begins at [`CarliniL2::constant`] and grows tenfold until an example is fooled, then halves the interval. The fooling
/// image that is nearest, in the threat model's norm, counts where it lies in the ball; elsewhere the result is the natural
/// image. With a large ε its distances are those of the unbounded attack.
///
/// # Source
/// Carlini and Wagner 2017, "Towards evaluating the robustness of neural networks", section VI A. Without the authors' early
/// stop, which would let an example depend on its batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CarliniL2 {
    /// Steps of Adam for each c.
    pub steps: usize,
    /// How many c are tried.
    pub searches: usize,
    /// The first c.
    pub constant: f32,
    /// Adam's learning rate, in w.
    pub learning_rate: f64,
    /// κ: the lead of a wrong class that an image must have.
    pub kappa: f32,
}

/// `cw-l2`, `cw-l2-STEPS`, and after either any of its other numbers: `cw-l2-200:searches=5:constant=0.01:kappa=0`.
pub(super) fn named(name: &str) -> Option<Method> {
    let mut parts = name.split(':');
    let mut attack = CarliniL2 {
        steps: counted(parts.next()?, "cw-l2", STEPS)?,
        searches: SEARCHES,
        constant: CONSTANT,
        learning_rate: LEARNING_RATE,
        kappa: 0.0,
    };
    let number = |text: &str, least: f32| {
        text.parse()
            .ok()
            .filter(|number: &f32| *number >= least && *number <= 1e10)
    };
    numbers(parts, |field, value| {
        match field {
            "searches" => attack.searches = value.parse().ok().filter(|searches| (1..=100).contains(searches))?,
            "constant" => attack.constant = number(value, 1e-10)?,
            "kappa" => attack.kappa = number(value, 0.0)?,
            _ => return None,
        }
        Some(())
    })?;
    Some(Method::CarliniL2(attack))
}

/// `x = (tanh w + 1)/2`.
fn image_of(w: Images) -> Images {
    w.tanh() * 0.5 + 0.5
}

/// The w of an image.
fn space_of(images: &Images) -> Images {
    let t = (images.clone() * 2.0 - 1.0) * INSIDE;
    ((t.clone() + 1.0) / (t.neg() + 1.0)).log() * 0.5
}

/// The nearest image so far that is answered wrongly.
struct Nearest {
    images: Images,
    /// [`f32::MAX`] where there is none.
    distance: PerExample,
}

impl CarliniL2 {
    /// One search with each example's own c; tells which examples were fooled.
    fn search(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        constants: &[f32],
        nearest: &mut Nearest,
    ) -> Result<Vec<bool>, AttackError> {
        let natural = &batch.images;
        let constants: PerExample =
            Tensor::from_data(TensorData::new(constants.to_vec(), [batch.len()]), &natural.device());
        let mut w = space_of(natural);
        let origin: Tensor<2> = image_of(w.clone()).flatten(1, 3);
        let mut adam = Adam::new(&w);
        let mut found = constants.zeros_like();
        for step in 1..=self.steps {
            let seen = RefCell::new(None);
            let cost = |w: Images| {
                let image = image_of(w);
                let answers = logits(image.clone());
                *seen.borrow_mut() = Some((image.clone().inner(), answers.clone().inner()));
                let [image, origin] = [image.flatten::<2>(1, 3), origin.clone().autodiff()];
                let lead = losses::carlini_wagner(answers, batch.labels.clone(), self.kappa);
                losses::squared_distance(image, origin) - lead * constants.clone().autodiff()
            };
            let (_, gradient) = value_and_gradient(&cost, &w)?;
            if let Some((image, answers)) = seen.into_inner() {
                let fooled = self.fooled(answers, &batch.labels);
                found = found.max_pair(fooled.clone());
                let distance = threat.distance(natural, &image);
                let nearer = distance
                    .clone()
                    .lower(nearest.distance.clone())
                    .bool_and(fooled.greater_elem(0.5));
                nearest.images = choose(&nearer, image, nearest.images.clone());
                nearest.distance = nearest.distance.clone().mask_where(nearer, distance);
            }
            w = w - adam.stride(gradient, step, self.learning_rate);
        }
        Ok(compute::read(found)?.iter().map(|found| *found > 0.5).collect())
    }

    /// 1 where a wrong class is answered, and leads by κ.
    fn fooled(&self, answers: Logits, labels: &Labels) -> PerExample {
        let wrong = is_wrong(answers.clone(), labels).float();
        if self.kappa > 0.0 {
            wrong
                * losses::margin(answers, labels.clone())
                    .greater_equal_elem(self.kappa)
                    .float()
        } else {
            wrong
        }
    }
}

impl Attack for CarliniL2 {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        _rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        let natural = &batch.images;
        let mut nearest = Nearest {
            images: natural.clone(),
            distance: threat.length(natural).zeros_like() + f32::MAX,
        };
        let mut constants = vec![self.constant; batch.len()];
        let mut bounds = vec![(0.0f32, f32::INFINITY); batch.len()];
        for _ in 0..self.searches {
            let found = self.search(logits, batch, threat, &constants, &mut nearest)?;
            for ((constant, (low, high)), found) in constants.iter_mut().zip(&mut bounds).zip(found) {
                *(if found { &mut *high } else { &mut *low }) = *constant;
                *constant = if high.is_finite() {
                    (*low + *high) / 2.0
                } else {
                    (*constant * 10.0).min(1e10)
                };
            }
        }
        let inside = nearest.distance.lower_equal_elem(threat.epsilon.value());
        Ok(choose(&inside, nearest.images, natural.clone()))
    }

    fn settings(&self, _threat: &ThreatModel, _classes: usize) -> String {
        format!(
            "{} searches for c from {}, {} of Adam each at {}, κ = {}",
            self.searches,
            self.constant,
            steps_text(self.steps),
            self.learning_rate,
            self.kappa
        )
    }

    fn passes(&self) -> usize {
        GRADIENT_COST * self.searches * self.steps
    }
}
