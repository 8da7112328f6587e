//! SPSA: gradients estimated from the function's values alone.

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{
    Attack, AttackError, Method,
    adam::Adam,
    counted, numbers,
    standing::{Departures, choose, column, is_wrong, rows},
    steps_text,
};
use crate::{
    losses,
    random::Rng,
    shapes::{Batch, Images, Labels, Logits, PerExample, row_numbers},
    threat::{Magnitude, ThreatModel},
};

/// The paper gives no numbers; these are the usual ones (cleverhans, torchattacks).
const STEPS: usize = 100;
const SAMPLES: usize = 128;
const HUNDREDTH: &str = "0.01";

/// Simultaneous perturbation stochastic approximation: Adam on [`estimate_gradient`] of the margin, projected.
///
/// `x ← Π(x + lr·m̂/(√v̂ + 1e-8))`, from the natural image, with m and v Adam's averages of the estimate. An example is
/// left alone once it is fooled.
///
/// # Source
/// Uesato et al. 2018, Algorithm 1; paper, section 4.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spsa {
    /// Steps.
    pub steps: usize,
    /// Directions a step; each costs two passes.
    pub samples: usize,
    /// How far along a direction the function is asked, in pixel units.
    pub delta: Magnitude,
    /// Adam's learning rate, in pixel units.
    pub learning_rate: Magnitude,
}

/// `spsa`, `spsa-STEPS`, and after either any of its other numbers: `spsa-50:samples=256:delta=2/255:learning-rate=0.005`.
pub(super) fn named(name: &str) -> Option<Method> {
    let mut parts = name.split(':');
    let mut spsa = Spsa {
        steps: counted(parts.next()?, "spsa", STEPS)?,
        samples: SAMPLES,
        delta: HUNDREDTH.parse().ok()?,
        learning_rate: HUNDREDTH.parse().ok()?,
    };
    let length = |text: &str| text.parse().ok().filter(|length: &Magnitude| length.value() > 0.0);
    numbers(parts, |number, value| {
        match number {
            "samples" => spsa.samples = value.parse().ok().filter(|samples| (1..=100_000).contains(samples))?,
            "delta" => spsa.delta = length(value)?,
            "learning-rate" => spsa.learning_rate = length(value)?,
            _ => return None,
        }
        Some(())
    })?;
    Some(Method::Spsa(spsa))
}

/// The gradient as differences along directions of ±1 tell it:
/// `1/n Σ_i (f(x + δ·v_i) − f(x − δ·v_i)) / 2δ · v_i`, n the number of `directions`.
///
/// # Shapes
/// `images`, each direction and the result: `[N, C, H, W]`; `objective`: `[N, C, H, W]` → `[N]`.
///
/// # Source
/// Spall 1992; Uesato et al. 2018, Algorithm 1, where dividing by v_i is multiplying, because v_i is ±1.
pub fn estimate_gradient(
    objective: &dyn Fn(Images) -> PerExample,
    images: &Images,
    directions: impl IntoIterator<Item = Images>,
    delta: f32,
) -> Images {
    let mut total = images.zeros_like();
    let mut count = 0;
    for direction in directions {
        let aside = direction.clone() * delta;
        let rise = objective(images.clone() + aside.clone()) - objective(images.clone() - aside);
        total = total + direction * column(&(rise / (2.0 * delta)));
        count += 1;
    }
    total / count.max(1) as f32
}

/// A direction of ±1 an example.
fn signs(rngs: &mut [Rng], like: &Images) -> Images {
    let length = like.dims()[1..].iter().product();
    let mut values = Vec::with_capacity(rngs.len() * length);
    for rng in rngs {
        let mut bits = 0;
        values.extend((0..length).map(|place| {
            if place % 64 == 0 {
                bits = rng.bits();
            }
            if bits >> (place % 64) & 1 == 1 { 1.0f32 } else { -1.0 }
        }));
    }
    Tensor::from_data(TensorData::new(values, like.dims()), &like.device())
}

/// Where a climb stands.
struct Climb {
    natural: Images,
    labels: Labels,
    current: Images,
    adam: Adam,
    rngs: Vec<Rng>,
}

impl Climb {
    fn select(self, stay: &[usize]) -> Self {
        let chosen = row_numbers(stay, &self.natural);
        Self {
            natural: rows(&self.natural, &chosen),
            labels: rows(&self.labels, &chosen),
            current: rows(&self.current, &chosen),
            adam: self.adam.select(&chosen),
            rngs: stay.iter().map(|row| self.rngs[*row].clone()).collect(),
        }
    }
}

impl Spsa {
    /// Step number `step`, counted from 1.
    fn advance(&self, logits: &dyn Fn(Images) -> Logits, climb: &mut Climb, step: usize, threat: &ThreatModel) {
        let objective = |images: Images| losses::margin(logits(images).inner(), climb.labels.clone());
        let (rngs, current) = (&mut climb.rngs, &climb.current);
        let directions = (0..self.samples).map(|_| signs(rngs, current));
        let gradient = estimate_gradient(&objective, current, directions, self.delta.value());
        let rate = f64::from(self.learning_rate.value());
        let stride = climb.adam.stride(gradient, step, rate);
        climb.current = threat.project(&climb.natural, climb.current.clone() + stride);
    }
}

impl Attack for Spsa {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        let natural = &batch.images;
        let mut climb = Climb {
            natural: natural.clone(),
            labels: batch.labels.clone(),
            current: natural.clone(),
            adam: Adam::new(natural),
            rngs: rngs.to_vec(),
        };
        let mut departures = Departures::new(batch.len());
        let mut fooled = is_wrong(logits(natural.clone()), &batch.labels);
        for step in 1..=self.steps {
            match departures.let_go(&fooled, &climb.current)? {
                Some(stay) if stay.is_empty() => break,
                Some(stay) => {
                    fooled = rows(&fooled, &row_numbers(&stay, natural));
                    climb = climb.select(&stay);
                }
                None => {}
            }
            let before = climb.current.clone();
            self.advance(logits, &mut climb, step, threat);
            // What is fooled stays where it is.
            climb.current = choose(&fooled, before, climb.current);
            fooled = fooled.bool_or(is_wrong(logits(climb.current.clone()), &climb.labels));
        }
        Ok(departures.finish(&fooled, &climb.current)?.images)
    }

    fn settings(&self, _threat: &ThreatModel, _classes: usize) -> String {
        format!(
            "{} of Adam at {}, {} samples, δ = {}",
            steps_text(self.steps),
            self.learning_rate,
            self.samples,
            self.delta
        )
    }

    fn passes(&self) -> usize {
        self.steps * (2 * self.samples + 1)
    }
}
