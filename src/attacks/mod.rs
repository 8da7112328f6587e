//! Inner maximisation: attacks as small values that see a function from images to logits, and nothing else.

mod pgd;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    compute::DeviceError,
    losses,
    random::Rng,
    shapes::{Batch, Images, Logits},
    threat::{Magnitude, Norm, Start, ThreatModel},
};

pub use pgd::{Keep, Pgd, maximise, value_and_gradient};

/// Why an attack could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// The objective does not depend on the image through differentiable operations.
    #[error(
        "the objective gave no gradient for the image: the model detaches its input, so no gradient attack can work on it"
    )]
    MissingGradient,
    /// An attack's result lies outside the threat model.
    #[error("{attack} left the threat model: {found}; this is a fault of Martlet, please report it")]
    OutsideThreatModel {
        /// The attack's name.
        attack: String,
        /// The distance or pixel value found.
        found: String,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Something that perturbs images to change a model's answer.
pub trait Attack {
    /// The adversarial images for `batch`, inside `threat`.
    ///
    /// `logits` is the attacked model as a function; the attack cannot touch its weights or its mode.
    ///
    /// # Shapes
    /// The result: `[N, C, H, W]`.
    ///
    /// # Errors
    /// When the function gives no gradient or the device fails.
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        rng: &mut Rng,
    ) -> Result<Images, AttackError>;
}

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

/// An attack of a suite, with every number that its result depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackSpec {
    /// How it was asked for: `natural`, `fgsm`, `pgd-20`, `cw-20`.
    pub name: String,
    /// What it climbs; `None` leaves the images as they are.
    pub objective: Option<Objective>,
    /// Any wrong class, or one.
    pub aim: Aim,
    /// Gradient steps.
    pub steps: usize,
    /// The length of a step; `None` follows the paper: ε for FGSM, ε/10 from 20 steps on, ε/4 below.
    pub step_size: Option<Magnitude>,
    /// Where it starts.
    pub start: Start,
    /// How many times it starts anew; an example is robust only if it withstands all of them.
    pub restarts: usize,
}

impl AttackSpec {
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
            Some(Objective::CarliniWagner { kappa }) => Some(kappa),
            _ => None,
        }
    }
}

/// A name that is no attack.
#[derive(Debug, thiserror::Error)]
#[error("unknown attack {0:?}; expected natural, fgsm, pgd-STEPS, or cw-STEPS, such as pgd-20")]
pub struct UnknownAttack(String);

impl FromStr for AttackSpec {
    type Err = UnknownAttack;
    fn from_str(name: &str) -> Result<Self, UnknownAttack> {
        let unknown = || UnknownAttack(name.to_string());
        let steps_after = |prefix: &str| -> Option<usize> {
            let steps = name.strip_prefix(prefix)?.parse().ok()?;
            (1..=100_000).contains(&steps).then_some(steps)
        };
        let (objective, steps, start) = if name == "natural" {
            (None, 0, Start::Natural)
        } else if name == "fgsm" {
            (Some(Objective::CrossEntropy), 1, Start::Natural)
        } else if let Some(steps) = steps_after("pgd-") {
            (Some(Objective::CrossEntropy), steps, Start::Uniform)
        } else if let Some(steps) = steps_after("cw-") {
            (
                Some(Objective::CarliniWagner { kappa: DEFAULT_KAPPA }),
                steps,
                Start::Uniform,
            )
        } else {
            return Err(unknown());
        };
        Ok(Self {
            name: name.to_string(),
            objective,
            aim: Aim::Untargeted,
            steps,
            step_size: None,
            start,
            restarts: 1,
        })
    }
}

impl fmt::Display for AttackSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Attack for AttackSpec {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        rng: &mut Rng,
    ) -> Result<Images, AttackError> {
        let Some(objective) = self.objective else {
            return Ok(batch.images.clone());
        };
        let labels = match self.aim {
            Aim::Untargeted => batch.labels.clone(),
            Aim::Target(class) => batch.labels.zeros_like().add_scalar(class as i64),
        };
        let climb = |images: Images| {
            let value = match objective {
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
        maximise(&climb, &batch.images, threat, &pgd, rng)
    }
}
