//! Inner maximisation and evaluation: attacks as small values that see a function from images to logits, and nothing else.
//!
//! An attack is one file with its numbers, its names and its loop, and one line in each table of [`Method`].

mod adam;
mod apgd;
mod autoattack;
mod carlini;
mod deepfool;
mod fab;
mod momentum;
mod natural;
mod pgd;
mod spsa;
mod square;
mod standing;
mod transfer;

use std::{cell::Cell, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    compute::DeviceError,
    control::Control,
    random::Rng,
    shapes::{Batch, Images, Logits},
    threat::ThreatModel,
    wording::meant,
};

pub use apgd::{Apgd, ApgdObjective, Climb};
pub use autoattack::InTurn;
pub use carlini::CarliniL2;
pub use deepfool::DeepFool;
pub use fab::Fab;
pub use momentum::Momentum;
pub use natural::Natural;
pub use pgd::{Aim, Ascent, DEFAULT_KAPPA, Keep, Objective, Pgd, maximise, value_and_gradient};
pub use spsa::{Spsa, estimate_gradient};
pub use square::Square;
pub use transfer::Transfer;

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
    /// Each example draws from its own generator, so that its image does not depend on the rest of the batch.
    ///
    /// # Shapes
    /// The result: `[N, C, H, W]`; N generators.
    ///
    /// # Errors
    /// When the function gives no gradient or the device fails.
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        rngs: &mut [Rng],
    ) -> Result<Images, AttackError>;

    /// Its numbers under `threat` and against a model of so many classes, as a person reads them; empty where it has none.
    fn settings(&self, threat: &ThreatModel, classes: usize) -> String;

    /// The work that it does on one example that withstands it, in forward passes.
    fn passes(&self) -> usize;
}

/// A model as a function, until a stop is asked for; from then on it answers nothing, at once, so that an attack ends within a
/// step. What the attack gives then is no result.
pub fn until_stopped(control: &Control, logits: impl Fn(Images) -> Logits) -> impl Fn(Images) -> Logits {
    let classes = Cell::new(None);
    move |images: Images| {
        if let (true, Some(classes)) = (control.is_stopped(), classes.get()) {
            let examples = images.dims()[0];
            let nothing: Logits = images.flatten::<2>(1, 3).sum_dim(1) * 0.0;
            return nothing.expand([examples, classes]);
        }
        let logits = logits(images);
        classes.set(Some(logits.dims()[1]));
        logits
    }
}

/// What a forward and a backward pass cost, in forward passes.
pub const GRADIENT_COST: usize = 3;

/// The wrong classes that targeted attacks of the standard suite try, the likeliest first; K − 1 where there are fewer.
///
/// # Source
/// AutoAttack's reference code, `n_target_classes`.
const TARGETS: usize = 9;

/// Each attack with its numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "kebab-case")]
pub enum Method {
    /// No attack.
    Natural(Natural),
    /// Projected gradient ascent: FGSM, PGD, CW∞.
    Pgd(Ascent),
    /// PGD along an average of the gradients.
    Momentum(Momentum),
    /// PGD that sets its own step size.
    Apgd(Apgd),
    /// Step by step onto the nearest boundary, whatever ε is.
    #[serde(rename = "deepfool")]
    DeepFool(DeepFool),
    /// Carlini and Wagner's smallest perturbation in L2, whatever ε is.
    CarliniL2(CarliniL2),
    /// The fast adaptive boundary attack, targeted.
    Fab(Fab),
    /// Random search in squares, without gradients.
    Square(Square),
    /// Gradients estimated from the function's values.
    Spsa(Spsa),
    /// Crafted on another model.
    Transfer(Transfer),
    /// One attack after another, each on what still stands.
    InTurn(InTurn),
}

/// How an attack reads its own name; `None` where the name is another's.
type Named = fn(&str) -> Option<Method>;

/// Every attack's way to read its name.
const NAMED: [Named; 11] = [
    natural::named,
    pgd::named,
    momentum::named,
    apgd::named,
    deepfool::named,
    carlini::named,
    fab::named,
    square::named,
    spsa::named,
    transfer::named,
    autoattack::named,
];

impl Method {
    /// Whether it is attacks in turn, each of which has a result of its own.
    pub fn is_whole(&self) -> bool {
        matches!(self, Self::InTurn(_))
    }

    /// The attack behind the method.
    fn attack(&self) -> &dyn Attack {
        match self {
            Self::Natural(attack) => attack,
            Self::Pgd(attack) => attack,
            Self::Momentum(attack) => attack,
            Self::Apgd(attack) => attack,
            Self::DeepFool(attack) => attack,
            Self::CarliniL2(attack) => attack,
            Self::Fab(attack) => attack,
            Self::Square(attack) => attack,
            Self::Spsa(attack) => attack,
            Self::Transfer(attack) => attack,
            Self::InTurn(attack) => attack,
        }
    }
}

/// An attack of a suite, with every number that its result depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackSpec {
    /// How it was asked for: `natural`, `fgsm`, `pgd-20`, `pgd-20x5`, `apgd-ce`, `autoattack`.
    pub name: String,
    /// What it does, with its numbers.
    #[serde(flatten)]
    pub method: Method,
    /// How many times it starts anew; an example is robust only if it withstands all of them.
    pub restarts: usize,
}

impl AttackSpec {
    /// Whether another start could find something else.
    pub fn begins_anew(&self) -> bool {
        match &self.method {
            Method::Natural(_)
            | Method::Momentum(_)
            | Method::DeepFool(_)
            | Method::CarliniL2(_)
            | Method::InTurn(_) => false,
            Method::Transfer(transfer) => transfer.attack.begins_anew(),
            _ => true,
        }
    }

    /// Whether it leaves the images as they are.
    pub fn is_natural(&self) -> bool {
        matches!(self.method, Method::Natural(_))
    }

    /// The ascent, where it is FGSM, PGD or CW∞.
    pub fn ascent(&self) -> Option<&Ascent> {
        match &self.method {
            Method::Pgd(ascent) => Some(ascent),
            _ => None,
        }
    }

    /// The ascent, to change its numbers.
    pub fn ascent_mut(&mut self) -> Option<&mut Ascent> {
        match &mut self.method {
            Method::Pgd(ascent) => Some(ascent),
            Method::Transfer(transfer) => transfer.attack.ascent_mut(),
            _ => None,
        }
    }

    /// κ, where the objective has one.
    pub fn kappa(&self) -> Option<f32> {
        self.ascent().and_then(Ascent::kappa)
    }

    /// The attacks that it runs in turn, each on what still stands; none for an attack of one piece.
    pub fn components(&self) -> &[AttackSpec] {
        match &self.method {
            Method::InTurn(in_turn) => &in_turn.attacks,
            _ => &[],
        }
    }

    /// Whether it is crafted on a surrogate: then the function that [`Attack::perturb`] gets is the surrogate's.
    pub fn needs_surrogate(&self) -> bool {
        matches!(self.method, Method::Transfer(_)) || self.components().iter().any(Self::needs_surrogate)
    }

    /// It with every number that follows from the threat model filled in.
    pub fn under(&self, threat: &ThreatModel) -> Self {
        let mut filled = self.clone();
        if let Some(ascent) = filled.ascent_mut() {
            ascent.step_size = Some(ascent.step_size(threat));
        }
        filled
    }

    /// It as it begins its `restart`-th time, counted from 0: what starts at the natural image once starts at random after.
    pub fn restarted(&self, restart: usize) -> Self {
        let mut again = self.clone();
        if let (Method::Fab(fab), 1..) = (&mut again.method, restart) {
            fab.random_start = true;
        }
        again
    }
}

/// Names that a slip is held against.
const USUAL: [&str; 15] = [
    "natural",
    "fgsm",
    "pgd-10",
    "pgd-20",
    "pgd-100",
    "cw-20",
    "mi-fgsm",
    "deepfool",
    "cw-l2",
    "apgd-ce",
    "apgd-dlr-t",
    "fab-t",
    "square",
    "spsa",
    "autoattack",
];

/// A name that is no attack.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown attack {name:?}{meant}; expected natural, fgsm, pgd-STEPS, cw-STEPS, mi-fgsm, apgd-ce, apgd-dlr-t, fab-t, square, \
     spsa, deepfool, cw-l2, autoattack, autoattack-fast, or transfer- before one of them, such as pgd-20, with 1 to 100,000 STEPS; x5 after it \
     starts it five times, and SPSA takes spsa-STEPS:samples=N:delta=LENGTH:learning-rate=LENGTH",
    name = .0,
    meant = meant(.0, USUAL)
)]
pub struct UnknownAttack(String);

impl FromStr for AttackSpec {
    type Err = UnknownAttack;
    fn from_str(name: &str) -> Result<Self, UnknownAttack> {
        let (once, restarts) = without_restarts(name);
        let method = NAMED.iter().find_map(|named| named(once));
        let spec = Self {
            name: name.to_string(),
            method: method.ok_or_else(|| UnknownAttack(name.to_string()))?,
            restarts,
        };
        if restarts > 1 && !spec.begins_anew() {
            return Err(UnknownAttack(name.to_string()));
        }
        Ok(spec)
    }
}

/// `pgd-20x5` is `pgd-20`, begun five times.
fn without_restarts(name: &str) -> (&str, usize) {
    let split = name
        .rsplit_once('x')
        .and_then(|(once, count)| Some((once, count.parse().ok()?)));
    match split {
        Some((once, restarts @ 1..=10_000)) => (once, restarts),
        _ => (name, 1),
    }
}

/// The number after `name-`, or `default` where the name stands alone.
fn counted(text: &str, name: &str, default: usize) -> Option<usize> {
    let rest = text.strip_prefix(name)?;
    if rest.is_empty() {
        return Some(default);
    }
    let count = rest.strip_prefix('-')?.parse().ok()?;
    (1..=100_000).contains(&count).then_some(count)
}

/// Reads the numbers behind an attack's name, `field=value` each; `take` sets one of them. `None` where one makes no sense or comes twice.
fn numbers<'a>(parts: impl Iterator<Item = &'a str>, mut take: impl FnMut(&str, &str) -> Option<()>) -> Option<()> {
    let mut given = Vec::new();
    for part in parts {
        let (field, value) = part.split_once('=')?;
        if given.contains(&field) {
            return None;
        }
        take(field, value)?;
        given.push(field);
    }
    Some(())
}

/// `1 step`, `20 steps`.
fn steps_text(steps: usize) -> String {
    if steps == 1 {
        "1 step".to_string()
    } else {
        format!("{steps} steps")
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
        rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        self.method.attack().perturb(logits, batch, threat, rngs)
    }

    fn settings(&self, threat: &ThreatModel, classes: usize) -> String {
        let settings = self.method.attack().settings(threat, classes);
        if self.restarts > 1 {
            format!("{settings}, {} starts", self.restarts)
        } else {
            settings
        }
    }

    fn passes(&self) -> usize {
        self.restarts.max(1) * (self.method.attack().passes() + 1)
    }
}
