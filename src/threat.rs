//! What an adversary may do: a ball round the natural image, within the pixel box.

use std::{fmt, str::FromStr};

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::{
    compute,
    random::Rng,
    shapes::{Images, PerExample},
};

/// Guards divisions by a norm; not an attack's radius.
const TINY: f32 = 1e-12;

/// The norm that measures a perturbation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// The largest change of one pixel value.
    Linf,
    /// The Euclidean length of the whole change.
    L2,
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Norm::Linf => "L∞",
            Norm::L2 => "L2",
        })
    }
}

impl Norm {
    /// Perturbations uniform in the ball of radius `epsilon`, of `natural`'s shape, each example's from its own generator.
    pub fn random_perturbation(self, natural: &Images, epsilon: f32, rngs: &mut [Rng]) -> Images {
        match self {
            Norm::Linf => noise_like(natural, rngs, |rng| rng.uniform(-epsilon, epsilon)),
            Norm::L2 => {
                // A Gaussian direction is uniform on the sphere; U^(1/d) makes the radius uniform in volume.
                let [examples, channels, height, width] = natural.dims();
                let dimension = channels * height * width;
                let mut values = Vec::with_capacity(examples * dimension);
                for rng in rngs {
                    let direction: Vec<f32> = (0..dimension).map(|_| rng.normal()).collect();
                    let length = direction.iter().map(|v| v * v).sum::<f32>().sqrt().max(TINY);
                    let radius = epsilon * rng.uniform(0.0, 1.0).powf(1.0 / dimension as f32);
                    values.extend(direction.iter().map(|v| v * radius / length));
                }
                Tensor::from_data(TensorData::new(values, natural.dims()), &natural.device())
            }
        }
    }

    /// One step of ascent on perturbations whose radius is each example's own; [`ThreatModel::ascend`] is faster where
    /// all share one.
    ///
    /// L∞: `clamp(δ + η·sign(g), −ε, ε)`. L2: `δ + η·g/‖g‖₂`, scaled down to length ε where it is longer.
    ///
    /// # Shapes
    /// `perturbation`, `gradient`: `[N, C, H, W]`; `step_size` (η) and `radius` (ε): `[N]`.
    pub fn ascend_each(
        self,
        perturbation: Images,
        gradient: Images,
        step_size: PerExample,
        radius: PerExample,
    ) -> Images {
        let [examples, ..] = perturbation.dims();
        let shape = perturbation.dims();
        let spread = |values: PerExample| values.reshape([examples, 1, 1, 1]).expand(shape);
        match self {
            Norm::Linf => {
                let radius = spread(radius);
                (perturbation + gradient.sign() * spread(step_size))
                    .min_pair(radius.clone())
                    .max_pair(radius.neg())
            }
            Norm::L2 => {
                let moved = perturbation + unit(gradient) * spread(step_size);
                let shrink = (radius / self.length(moved.clone()).clamp_min(TINY)).clamp_max(1.0);
                moved * spread(shrink)
            }
        }
    }

    /// The length of each perturbation.
    ///
    /// # Shapes
    /// `[N, C, H, W]` → `[N]`.
    pub fn length(self, perturbation: Images) -> PerExample {
        let examples = perturbation.dims()[0];
        let flat: Tensor<2> = perturbation.flatten(1, 3);
        match self {
            Norm::Linf => flat.abs().max_dim(1).reshape([examples]),
            Norm::L2 => flat.powi_scalar(2).sum_dim(1).sqrt().reshape([examples]),
        }
    }

    /// The norm that bounds a change of the objective in this ball: `max_{‖δ‖ ≤ 1} ⟨g, δ⟩`.
    ///
    /// # Shapes
    /// `[N, C, H, W]` → `[N]`.
    pub fn dual_length(self, gradient: Images) -> PerExample {
        let examples = gradient.dims()[0];
        match self {
            Norm::Linf => gradient.flatten::<2>(1, 3).abs().sum_dim(1).reshape([examples]),
            Norm::L2 => self.length(gradient),
        }
    }
}

/// A length in pixel units that remembers how it was written: `8/255` and `0.031` are not the same recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Magnitude {
    written: String,
    value: f64,
}

/// The radius of the ball.
pub type Epsilon = Magnitude;

/// A recipe may write a magnitude as text (`"8/255"`) or as a number (`0.3`).
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Number(f64),
}

impl TryFrom<Written> for Magnitude {
    type Error = MagnitudeError;
    fn try_from(written: Written) -> Result<Self, MagnitudeError> {
        match written {
            Written::Text(text) => text.parse(),
            Written::Number(number) => number.to_string().parse(),
        }
    }
}

impl From<Magnitude> for String {
    fn from(magnitude: Magnitude) -> Self {
        magnitude.written
    }
}

impl From<f64> for Magnitude {
    /// A length that the program itself names; one that a person wrote is parsed.
    fn from(value: f64) -> Self {
        Self {
            written: value.to_string(),
            value,
        }
    }
}

/// A text that is no magnitude.
#[derive(Debug, thiserror::Error)]
#[error("expected a length in pixel units such as 0.3 or 8/255, at least 0, got {0:?}")]
pub struct MagnitudeError(String);

impl Magnitude {
    /// No length at all: a ball of this radius holds the natural image alone.
    pub fn zero() -> Self {
        Self {
            written: "0".to_string(),
            value: 0.0,
        }
    }

    /// The value in pixel units, where 1 is the whole range from black to white.
    pub fn value(&self) -> f32 {
        self.value as f32
    }

    /// This magnitude divided by a whole number, written so: `8/255/4`.
    pub fn divided_by(&self, divisor: u32) -> Self {
        Self {
            written: format!("{}/{divisor}", self.written),
            value: self.value / f64::from(divisor),
        }
    }

    /// This magnitude times `factor`, written as the number that it is.
    pub fn times(&self, factor: f64) -> Self {
        // 1.5 times 0.1 is to read 0.15.
        let value = (self.value * factor * 1e9).round() / 1e9;
        Self {
            written: format!("{value}"),
            value,
        }
    }

    /// A magnitude scaled by `factor` in `[0, 1]`, as the warm-up of epsilon does.
    pub fn scaled(&self, factor: f64) -> Self {
        if factor >= 1.0 {
            return self.clone();
        }
        Self {
            written: format!("{:.4}", self.value * factor),
            value: self.value * factor,
        }
    }
}

impl FromStr for Magnitude {
    type Err = MagnitudeError;
    fn from_str(text: &str) -> Result<Self, MagnitudeError> {
        let error = || MagnitudeError(text.to_string());
        let mut value = None::<f64>;
        for part in text.split('/') {
            let number: f64 = part.trim().parse().map_err(|_| error())?;
            value = Some(value.map_or(number, |v| v / number));
        }
        match value {
            Some(value) if value.is_finite() && value >= 0.0 => Ok(Self {
                written: text.trim().to_string(),
                value,
            }),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Magnitude {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// Where an attack starts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// At the natural image.
    Natural,
    /// Uniform in the ball (paper, Algorithm 1, line 6), clipped to the pixel box.
    Uniform,
    /// The natural image plus 0.001·N(0, 1), not projected (released MART and TRADES code).
    Gaussian,
}

/// The standard deviation of [`Start::Gaussian`] (released MART and TRADES code).
const GAUSSIAN_START: f32 = 0.001;

/// `g/‖g‖₂`; 0 where the gradient is 0.
fn unit(gradient: Images) -> Images {
    // Divided by the largest element first: the squares of small gradients would vanish.
    let examples = gradient.dims()[0];
    let largest = gradient.clone().abs().max_dims(&[1, 2, 3]).clamp_min(f32::MIN_POSITIVE);
    let scaled = gradient / largest;
    let length = Norm::L2.length(scaled.clone()).clamp_min(TINY);
    scaled / length.reshape([examples, 1, 1, 1])
}

/// The set that the adversary chooses from: `{x' : ‖x' − x‖ ≤ ε, x' ∈ [0, 1]}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreatModel {
    /// The norm of the ball.
    pub norm: Norm,
    /// The radius of the ball.
    pub epsilon: Epsilon,
}

impl fmt::Display for ThreatModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ε = {}", self.norm, self.epsilon)
    }
}

impl ThreatModel {
    /// What is wrong with the radius, in words, and what was probably meant: under L∞ a radius above 1 covers every image, under L2
    /// one above 100 does.
    pub fn fault(&self) -> Option<String> {
        let (value, largest) = (self.epsilon.value(), if self.norm == Norm::Linf { 1.0 } else { 100.0 });
        if value <= largest {
            return None;
        }
        let meant = if self.norm == Norm::Linf && value <= 255.0 && !self.epsilon.to_string().contains('/') {
            format!("; did you mean {}/255?", self.epsilon)
        } else {
            String::new()
        };
        Some(format!(
            "{} under {}, where pixels lie in [0, 1] and {largest} covers every image{meant}",
            self.epsilon, self.norm
        ))
    }

    /// The same threat with `factor` times the radius.
    pub fn widened(&self, factor: f64) -> Self {
        Self {
            norm: self.norm,
            epsilon: self.epsilon.times(factor),
        }
    }

    /// The image at which an attack starts, each drawn from a generator of the host's, so that it does not depend on the rest of
    /// the batch.
    ///
    /// # Shapes
    /// `natural` and the result: `[N, C, H, W]`; N generators.
    pub fn start(&self, natural: &Images, start: Start, rngs: &mut [Rng]) -> Images {
        match start {
            Start::Natural => natural.clone(),
            Start::Uniform => {
                let perturbation = self.norm.random_perturbation(natural, self.epsilon.value(), rngs);
                (natural.clone() + perturbation).clamp(0.0, 1.0)
            }
            Start::Gaussian => natural.clone() + noise_like(natural, rngs, |rng| rng.normal() * GAUSSIAN_START),
        }
    }

    /// A point drawn on the boundary of each example's ball, clipped to the pixel box: `x + ε·t/‖t‖`, with t uniform in
    /// the cube for L∞ and standard normal for L2.
    ///
    /// Each example draws from its own generator, so that its point does not depend on the rest of the batch.
    ///
    /// # Shapes
    /// `natural` and the result: `[N, C, H, W]`; N generators.
    ///
    /// # Source
    /// Croce and Hein 2020, the start of APGD in the authors' code.
    pub fn on_boundary(&self, natural: &Images, rngs: &mut [Rng]) -> Images {
        let examples = natural.dims()[0];
        let drawn = noise_like(natural, rngs, |rng| match self.norm {
            Norm::Linf => rng.uniform(-1.0, 1.0),
            Norm::L2 => rng.normal(),
        });
        let length = self.length(&drawn).clamp_min(TINY).reshape([examples, 1, 1, 1]);
        (natural.clone() + drawn / length * self.epsilon.value()).clamp(0.0, 1.0)
    }

    /// The unit step along which a linear function with this gradient grows most: `sign(g)` for L∞, `g/‖g‖₂` for L2;
    /// 0 where the gradient is 0 or no number.
    ///
    /// # Shapes
    /// `[N, C, H, W]` → `[N, C, H, W]`.
    pub fn direction(&self, gradient: Images) -> Images {
        let not_finite = gradient.clone().is_finite().bool_not();
        let gradient = gradient.mask_fill(not_finite, 0.0);
        match self.norm {
            Norm::Linf => gradient.sign(),
            Norm::L2 => unit(gradient),
        }
    }

    /// One step of projected gradient ascent.
    ///
    /// L∞: `clip(clamp(x + η·sign(g), x₀ − ε, x₀ + ε), 0, 1)`. L2: `x + η·g/‖g‖₂`, projected onto the ball and clipped.
    ///
    /// # Shapes
    /// All images: `[N, C, H, W]`.
    pub fn ascend(&self, natural: &Images, current: Images, gradient: Images, step_size: f32) -> Images {
        let epsilon = self.epsilon.value();
        match self.norm {
            Norm::Linf => compute::linf_ascend(natural.clone(), current, gradient, epsilon, step_size),
            Norm::L2 => compute::l2_ascend(natural.clone(), current, gradient, epsilon, step_size),
        }
    }

    /// The nearest image of the set: a step of length 0.
    pub fn project(&self, natural: &Images, image: Images) -> Images {
        let nothing = image.zeros_like();
        self.ascend(natural, image, nothing, 0.0)
    }

    /// How far each image is from its natural one, in this norm.
    ///
    /// # Shapes
    /// `[N, C, H, W]`, `[N, C, H, W]` → `[N]`.
    pub fn distance(&self, natural: &Images, image: &Images) -> PerExample {
        self.length(&(image.clone() - natural.clone()))
    }

    /// How long each perturbation is in this norm.
    ///
    /// # Shapes
    /// `[N, C, H, W]` → `[N]`.
    pub fn length(&self, perturbation: &Images) -> PerExample {
        self.norm.length(perturbation.clone())
    }

    /// What rounding in 32 bits may add to a distance: a few units in the last place of 1.
    pub fn tolerance(&self) -> f32 {
        match self.norm {
            Norm::Linf => 2e-7,
            Norm::L2 => 1e-5 * self.epsilon.value().max(1.0),
        }
    }
}

/// A tensor of `natural`'s shape filled from the host.
fn noise_like(natural: &Images, rngs: &mut [Rng], mut value: impl FnMut(&mut Rng) -> f32) -> Images {
    let [examples, channels, height, width] = natural.dims();
    let dimension = channels * height * width;
    let mut values = Vec::with_capacity(examples * dimension);
    for rng in rngs {
        values.extend((0..dimension).map(|_| value(rng)));
    }
    Tensor::from_data(TensorData::new(values, natural.dims()), &natural.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn magnitudes_keep_what_was_written() {
        let epsilon: Epsilon = "8/255".parse().unwrap();
        assert_eq!(epsilon.to_string(), "8/255");
        assert_eq!(epsilon.value(), (8.0f64 / 255.0) as f32);
        assert_eq!(epsilon.divided_by(4).value(), (2.0f64 / 255.0) as f32);
        assert!(("-1".parse::<Epsilon>()).is_err());
        assert!(("8/0".parse::<Epsilon>()).is_err());
        assert!(("a".parse::<Epsilon>()).is_err());
        assert_eq!(serde_json::to_string(&epsilon).unwrap(), "\"8/255\"");
        assert_eq!(serde_json::from_str::<Epsilon>("0.031").unwrap().to_string(), "0.031");
    }

    #[test]
    fn random_starts_lie_in_the_ball_and_in_the_box() {
        let device = compute::Device::cpu();
        let natural = Tensor::<4>::ones([5, 1, 4, 4], device.tensors()) * 0.95;
        for norm in [Norm::Linf, Norm::L2] {
            let threat = ThreatModel {
                norm,
                epsilon: "0.3".parse().unwrap(),
            };
            let start = threat.start(&natural, Start::Uniform, &mut Rng::new(3).each(natural.dims()[0]));
            let distances = compute::read(threat.distance(&natural, &start)).unwrap();
            assert!(
                distances.iter().all(|d| *d <= 0.3 + threat.tolerance()),
                "{distances:?}"
            );
            assert!(distances.iter().any(|d| *d > 0.05));
            assert!(compute::read(start).unwrap().iter().all(|p| (0.0..=1.0).contains(p)));
        }
    }
}
