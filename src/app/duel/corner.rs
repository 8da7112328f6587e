//! One side of the duel: a network, what attacks found of it, and how it stands on many examples.

use std::{path::PathBuf, time::Instant};

use super::bouts::Attacked;
use crate::{
    app::lab::{Specimen, Subject, Trace},
    defences::DefenceSpec,
    demo_models::Figures,
    engine::EpochReport,
    recipe::Recipe,
    shapes::{ImageShape, argmax},
};

/// A network in the duel.
pub struct Fighter {
    /// What trains it.
    pub recipe: Recipe,
    /// The network.
    pub subject: Subject,
    /// The run that it comes from, where it does.
    pub run: Option<PathBuf>,
    /// Minibatches that it was trained for in that run; none at its end.
    pub steps: Option<usize>,
}

impl Fighter {
    /// How it was trained.
    pub fn defence(&self) -> &DefenceSpec {
        &self.recipe.defence
    }

    /// The images that it takes.
    pub fn input(&self) -> ImageShape {
        self.subject.input()
    }
}

/// Accuracy against ε, with what it is measured on.
#[derive(Debug, Clone, PartialEq)]
pub struct Robustness {
    /// Radius and accuracy, the smallest radius first.
    pub points: Vec<[f64; 2]>,
    /// What they are measured with and on.
    pub of: String,
    /// Whether every radius is measured.
    pub complete: bool,
}

impl Robustness {
    /// What ships with a demo model.
    pub fn shipped(figures: &Figures) -> Self {
        let curve = &figures.curve;
        let points = curve.points.iter().filter_map(|point| {
            let accuracy = point.accuracy.get(&curve.attack)?;
            Some([f64::from(point.epsilon.value()), accuracy])
        });
        Self {
            points: points.collect(),
            of: format!("{}, N = {} {}", curve.attack, curve.n, curve.split),
            complete: true,
        }
    }

    /// What an epoch's evaluation says: without an attack, and at the trained radius under the strongest.
    pub fn of_epoch(epoch: Option<&EpochReport>, trained: f32) -> Option<Self> {
        let epoch = epoch?;
        let natural = *epoch.accuracy.get("natural")?;
        let attacks = epoch
            .accuracy
            .iter()
            .filter(|(name, _)| *name != "natural" && *name != "worst-case");
        let (attack, robust) = attacks.min_by(|a, b| a.1.total_cmp(b.1))?;
        Some(Self {
            points: vec![[0.0, natural], [trained.into(), *robust]],
            of: format!("{attack}, epoch {}, N = {} {}", epoch.epoch, epoch.n, epoch.split),
            complete: false,
        })
    }

    /// The accuracy at a radius, on the line between the measured ones.
    pub fn at(&self, epsilon: f64) -> Option<f64> {
        let after = self.points.iter().position(|point| point[0] >= epsilon - 1e-9)?;
        let [x1, y1] = self.points[after];
        if after == 0 || (x1 - epsilon).abs() < 1e-9 {
            return ((x1 - epsilon).abs() < 1e-9).then_some(y1);
        }
        let [x0, y0] = self.points[after - 1];
        Some(y0 + (y1 - y0) * (epsilon - x0) / (x1 - x0))
    }
}

/// How a network fares on a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its answer is right, under attack too.
    Holds,
    /// Its answer was right, and the attack has changed it.
    Fooled,
    /// Its answer is wrong without any attack.
    Wrong,
}

impl Verdict {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Fooled => "fooled",
            Self::Wrong => "wrong",
        }
    }
}

/// One side of the duel.
#[derive(Default)]
pub struct Corner {
    /// Its network.
    pub fighter: Option<Fighter>,
    /// Tells fighters apart.
    pub serial: u64,
    /// How it stands on many examples.
    pub robustness: Option<Robustness>,
    /// When the network came here.
    seated: Option<Instant>,
    /// What attacks found, by the place of their radius on the grid.
    bouts: Vec<Option<Attacked>>,
}

impl Corner {
    pub(super) fn seat(&mut self, fighter: Fighter, serial: u64, stops: usize) {
        self.fighter = Some(fighter);
        self.serial = serial;
        self.seated = Some(Instant::now());
        // What was found of the network before stays to look at until there is better; it bears its own name.
        self.bouts.resize_with(stops, || None);
    }

    pub(super) fn forget_bouts(&mut self, stops: usize) {
        self.bouts.clear();
        self.bouts.resize_with(stops, || None);
    }

    pub(super) fn take(&mut self, found: Attacked) {
        let is_new = |known: &Option<Attacked>| known.as_ref().is_none_or(|known| known.fighter <= found.fighter);
        if let Some(own) = self.bouts.get_mut(found.place)
            && is_new(own)
        {
            *own = Some(found);
        }
    }

    /// What is known at a radius; where that is still to come, at the nearest one that is known.
    pub fn bout(&self, place: usize) -> Option<&Attacked> {
        let known = self.bouts.iter().flatten();
        known.min_by_key(|bout| (bout.place.abs_diff(place), bout.place))
    }

    /// What is known, in order of the radius.
    pub fn bouts(&self) -> impl Iterator<Item = &Attacked> {
        self.bouts.iter().flatten()
    }

    /// The smallest radius at which the network that sits here now is known not to be right, and whether all smaller ones are
    /// known of it too.
    pub fn falls(&self, picture: &Specimen) -> Option<(usize, bool)> {
        let own = || self.bouts().filter(|bout| bout.fighter == self.serial);
        let fallen = |bout: &&Attacked| verdict(&bout.trace, picture, None) != Verdict::Holds;
        let place = own().find(fallen)?.place;
        let smaller = own().filter(|bout| bout.place < place).count();
        Some((place, smaller == place))
    }

    /// Whether every radius is known of the network that sits here now.
    pub fn is_whole(&self) -> bool {
        let is_own = |bout: &Option<Attacked>| bout.as_ref().is_some_and(|bout| bout.fighter == self.serial);
        !self.bouts.is_empty() && self.bouts.iter().all(is_own)
    }

    /// Whether the radius that is looked at is known of it, and what attacking it has cost, at `seconds` an attack, is no
    /// more than this share of the time since it came.
    pub(super) fn is_rested(&self, place: usize, seconds: f64, share: f64) -> bool {
        let newest = || self.bouts().filter(|bout| bout.fighter == self.serial);
        let cost = seconds * newest().count() as f64;
        let known = newest().any(|bout| bout.place == place);
        let since = self
            .seated
            .map_or(f64::INFINITY, |seated| seated.elapsed().as_secs_f64());
        since > 0.2 && (known && cost <= share * since || self.fighter.is_none())
    }
}

/// The likeliest class.
pub fn answer(probabilities: &[f32]) -> usize {
    argmax(probabilities)
}

/// The right class: the label, and without one what the network says of the natural picture.
pub fn truth(trace: &Trace, picture: &Specimen) -> usize {
    picture.label.unwrap_or_else(|| answer(&trace.before))
}

/// How a network fares after a step of the attack, the last where none is named.
pub fn verdict(trace: &Trace, picture: &Specimen, step: Option<usize>) -> Verdict {
    let truth = truth(trace, picture);
    let last = trace.after.len() - 1;
    let now = answer(&trace.after[step.unwrap_or(last).min(last)]);
    match (answer(&trace.before) == truth, now == truth) {
        (false, _) => Verdict::Wrong,
        (true, true) => Verdict::Holds,
        (true, false) => Verdict::Fooled,
    }
}
