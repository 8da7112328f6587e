//! What a run tells while it trains: the same events for the terminal, the window, the metrics file and tests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Adjustment;
use crate::evaluation::EpochFigures;

/// One thing that happened in a run; a line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Training begins, or goes on after an interruption.
    Started(Started),
    /// The means over the minibatches since the last such event.
    Step(StepReport),
    /// How far the evaluation after an epoch has come; not kept.
    Evaluating(Evaluating),
    /// An epoch is over and was evaluated.
    Epoch(EpochReport),
    /// Something doubtful was seen; training goes on.
    Warning(WarningReport),
    /// A person changed the course.
    Adjusted(Adjusted),
    /// All epochs are done.
    Finished(Ended),
    /// The person stopped the run; it can be resumed.
    Stopped(Ended),
}

/// The shape of the work ahead.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Started {
    /// What is trained, in a line.
    pub summary: String,
    /// Training examples.
    pub examples: usize,
    /// Minibatches in an epoch.
    pub steps_per_epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Minibatches already done by earlier sessions.
    pub steps_done: usize,
}

/// Means over a few minibatches.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepReport {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Minibatches done in this epoch.
    pub step: usize,
    /// Minibatches done in the whole run.
    pub total_steps: usize,
    /// The rate of the last of them.
    pub learning_rate: f64,
    /// The radius of the last of them, in pixel units.
    pub epsilon: f64,
    /// Objective, terms and accuracies by name: `loss`, `natural_accuracy`, `adversarial_accuracy`, `gradient_norm`,
    /// and the defence's own terms.
    pub figures: BTreeMap<String, f64>,
    /// Where the time went.
    pub clock: Clock,
}

/// Wall-clock seconds; never the same twice.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Clock {
    /// Seconds of this session so far, without pauses.
    pub seconds: f64,
    /// Of these, seconds spent on evaluations.
    pub evaluating: f64,
    /// Of these, seconds spent on the inner maximisation; only a processor tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attacking: Option<f64>,
}

/// Progress inside an evaluation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evaluating {
    /// Epoch, from 1.
    pub epoch: usize,
    /// The attack at work.
    pub attack: String,
    /// Examples done.
    pub done: usize,
    /// Examples in all.
    pub of: usize,
}

/// An epoch's result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EpochReport {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Epochs in all.
    pub epochs: usize,
    /// Minibatches done in the whole run.
    pub total_steps: usize,
    /// Means over the epoch's minibatches, named as in [`StepReport::figures`].
    pub train: BTreeMap<String, f64>,
    /// Accuracies in `0..=1` by attack on the evaluated split; empty where the epoch was not evaluated.
    pub accuracy: BTreeMap<String, f64>,
    /// `held-out`, or `test` where the recipe holds nothing out.
    pub split: String,
    /// Examples evaluated.
    pub n: usize,
    /// The radius of the evaluation's attacks, as written.
    pub epsilon: String,
    /// Whether this is the best checkpoint so far.
    pub best: bool,
    /// Where the time went.
    pub clock: Clock,
}

/// A warning with its advice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WarningReport {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Which warning, as `docs/warnings.md` names it.
    pub kind: String,
    /// What was seen.
    pub message: String,
    /// What to do.
    pub advice: String,
}

/// A change of the course.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Adjusted {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Minibatches done in the whole run before it.
    pub total_steps: usize,
    /// What changed.
    pub change: Adjustment,
}

/// How a session ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ended {
    /// Epochs done.
    pub epochs: usize,
    /// Minibatches done in the whole run.
    pub total_steps: usize,
    /// Best robust accuracy and its epoch, where one was evaluated.
    pub best: Option<Best>,
    /// Whether the patience of the recipe's early stop has run out.
    #[serde(default)]
    pub early: bool,
    /// Where the time went.
    pub clock: Clock,
}

/// The best checkpoint so far.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Epoch, from 1.
    pub epoch: usize,
    /// The accuracy that chooses.
    pub accuracy: f64,
    /// What it is under: `worst-case`, all attacks of the evaluation together, or `natural` where it has none.
    #[serde(default = "worst_case")]
    pub under: String,
    /// The natural accuracy, which decides between equals.
    #[serde(default)]
    pub natural: Option<f64>,
    /// The epoch, from 1, that first reached the accuracy: an equal one later is no progress to wait for.
    #[serde(default)]
    pub risen: Option<usize>,
}

/// What the accuracy over all attacks is called.
const WORST_CASE: &str = "worst-case";

fn worst_case() -> String {
    WORST_CASE.to_string()
}

/// Which figure of an evaluation by these attacks chooses the best epoch: an accuracy without an attack is none under one.
pub fn chooser(attacks: &[String]) -> &'static str {
    if attacks.iter().any(|name| name != "natural") {
        WORST_CASE
    } else {
        "natural"
    }
}

impl Best {
    /// An epoch by the figure that chooses; `None` where it was not evaluated.
    pub fn of(epoch: usize, accuracy: &BTreeMap<String, f64>, chooser: &str) -> Option<Self> {
        Some(Self {
            epoch,
            accuracy: *accuracy.get(chooser)?,
            under: chooser.to_string(),
            natural: accuracy.get("natural").copied(),
            risen: Some(epoch),
        })
    }

    /// This epoch in the place of an earlier best one.
    pub fn after(mut self, earlier: Option<&Self>) -> Self {
        if let Some(earlier) = earlier.filter(|earlier| earlier.accuracy == self.accuracy) {
            self.risen = Some(earlier.risen.unwrap_or(earlier.epoch));
        }
        self
    }

    /// Whether it is at least as good as an earlier one: of equals the one with the better natural accuracy is, and the later.
    pub fn replaces(&self, earlier: &Self) -> bool {
        (self.accuracy, self.natural) >= (earlier.accuracy, earlier.natural)
    }
}

impl Event {
    /// Whether the event belongs in `metrics.jsonl`.
    pub fn is_kept(&self) -> bool {
        // How often a run was started and interrupted is its sessions' story, told in `run.json`: the metrics of a
        // resumed run are those of one that was never interrupted.
        !matches!(self, Event::Started(_) | Event::Evaluating(_))
    }
}

/// What the warnings of training look at, from the epochs so far; `chooser` is the attack that chooses the best one.
pub(super) fn history(reports: &[EpochReport], chooser: &str) -> Vec<EpochFigures> {
    let chooser = Some(chooser).filter(|name| *name != "natural");
    reports
        .iter()
        .filter(|report| !report.accuracy.is_empty())
        .map(|report| EpochFigures {
            epoch: report.epoch,
            train_loss: report.train.get("loss").copied().unwrap_or(f64::NAN),
            natural_accuracy: report.accuracy.get("natural").copied().unwrap_or(f64::NAN),
            fgsm_accuracy: report.accuracy.get("fgsm").copied(),
            robust_accuracy: chooser
                .and_then(|name| report.accuracy.get(name))
                .copied()
                .unwrap_or(f64::NAN),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::training_warnings;

    #[test]
    fn the_worst_case_chooses_and_of_equals_the_better_natural_accuracy_then_the_later() {
        let attacks = |names: &[&str]| names.iter().map(|name| name.to_string()).collect::<Vec<_>>();
        assert_eq!(chooser(&attacks(&["pgd-20", "natural"])), "worst-case");
        assert_eq!(chooser(&attacks(&["natural"])), "natural");
        let epoch = |epoch, natural: f64, worst: f64| {
            let accuracy = [("natural", natural), ("pgd-20", 0.9), ("worst-case", worst)];
            let accuracy = accuracy.map(|(name, value)| (name.to_string(), value));
            Best::of(epoch, &accuracy.into_iter().collect(), "worst-case").unwrap()
        };
        let first = epoch(1, 0.8, 0.5);
        assert_eq!((first.accuracy, first.under.as_str()), (0.5, "worst-case"));
        assert!(epoch(2, 0.1, 0.6).replaces(&first));
        assert!(epoch(2, 0.9, 0.5).replaces(&first));
        assert!(epoch(2, 0.8, 0.5).replaces(&first));
        assert!(!epoch(2, 0.7, 0.5).replaces(&first));
        assert!(!epoch(2, 0.9, 0.4).replaces(&first));
    }

    #[test]
    fn warnings_speak_of_the_attack_that_chooses_the_best_epoch() {
        let report = |epoch: usize, natural: f64, fgsm: f64, pgd: f64| -> EpochReport {
            serde_json::from_value(serde_json::json!({
                "epoch": epoch, "epochs": 2, "total_steps": epoch, "train": { "loss": 2.3 },
                "accuracy": { "natural": natural, "fgsm": fgsm, "pgd-20": pgd, "worst-case": fgsm.min(pgd) },
                "split": "held-out", "n": 200, "epsilon": "0.1", "best": true,
                "clock": { "seconds": 1.0, "attacking": null, "evaluating": 0.0 },
            }))
            .unwrap()
        };
        let kinds = |reports: &[EpochReport], chooser| {
            let warnings = training_warnings(&history(reports, chooser));
            warnings.iter().map(|warning| warning.kind()).collect::<Vec<_>>()
        };
        let stuck = [report(1, 0.1, 0.1, 0.1)];
        assert_eq!(kinds(&stuck, "pgd-20"), ["stuck-run"]);
        // What is chosen without an attack is as good without one, and stuck all the same or not: nobody knows.
        assert!(kinds(&stuck, "natural").is_empty());
        // The worst case falls with FGSM, PGD does not.
        let fgsm_falls = [report(1, 0.9, 0.7, 0.6), report(2, 0.9, 0.5, 0.6)];
        assert!(kinds(&fgsm_falls, "pgd-20").is_empty());
        assert_eq!(kinds(&fgsm_falls, "fgsm"), ["robust-overfitting"]);
    }
}
