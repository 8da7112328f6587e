//! What an evaluation found.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::MapAccess, de::Visitor, ser::SerializeMap};

use super::{Interval, Warning};
use crate::{
    attacks::{Aim, Objective},
    threat::{Epsilon, Magnitude, Norm, Start},
};

/// The result of a suite of attacks on a model, with everything that the figures depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The number of examples; every share is of all of them.
    pub n: usize,
    /// The radius of the ball, as it was written.
    pub epsilon: Epsilon,
    /// The norm of the ball.
    pub norm: Norm,
    /// The device that computed it.
    pub device: String,
    /// The model: its architecture and size.
    pub model: String,
    /// The data.
    pub dataset: Examined,
    /// Seed of the random starts.
    pub seed: u64,
    /// Examples a minibatch.
    pub batch_size: usize,
    /// The version of this program.
    pub martlet: String,
    /// Each attack's accuracy by name, and `worst-case`: at a glance.
    pub accuracy: Accuracies,
    /// Each attack with its numbers, `natural` first.
    pub attacks: Vec<AttackResult>,
    /// An example counts here only if it withstood every attack.
    pub worst_case: Standing,
    /// What makes the figures doubtful.
    pub warnings: Vec<Warning>,
    /// Wall-clock time of the whole evaluation, pauses included.
    pub seconds: f64,
    /// Each example's fate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<ExampleResult>,
}

/// The data that an evaluation used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Examined {
    /// The data set's name.
    pub name: String,
    /// Which part of it (`test`, `held-out`), where the caller says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// A remark that belongs beside every figure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// A hash of the examples.
    pub fingerprint: String,
}

/// Accuracies by attack name, in the order of the suite; a map in JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accuracies(pub Vec<(String, f64)>);

impl Accuracies {
    /// The accuracy under an attack; `None` where the suite did not hold it.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, accuracy)| *accuracy)
    }
}

impl Serialize for Accuracies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, accuracy) in &self.0 {
            map.serialize_entry(name, accuracy)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Accuracies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Accuracies;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a map from attack to accuracy")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Accuracies, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Accuracies(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// How many examples stand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Their share of all examples.
    pub accuracy: f64,
    /// Their number.
    pub correct: usize,
    /// 95 % interval of the share (Wilson).
    pub interval: Interval,
}

impl Standing {
    /// `correct` of `n` examples.
    pub(super) fn of(correct: usize, n: usize) -> Self {
        Self {
            accuracy: correct as f64 / n.max(1) as f64,
            correct,
            interval: Interval::wilson(correct, n),
        }
    }
}

/// One attack of the suite with every number that its figure depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackResult {
    /// Its name in the suite.
    pub name: String,
    /// Gradient steps.
    pub steps: usize,
    /// The length of a step, as it was written; none for `natural`.
    pub step_size: Option<Magnitude>,
    /// Where it started.
    pub start: Start,
    /// How many times it started anew.
    pub restarts: usize,
    /// κ, where the objective has one.
    pub kappa: Option<f32>,
    /// What it climbed; none for `natural`.
    pub objective: Option<Objective>,
    /// Any wrong class, or one.
    pub aim: Aim,
    /// The examples that are classified correctly and withstood it.
    #[serde(flatten)]
    pub standing: Standing,
    /// Wall-clock time, pauses included.
    pub seconds: f64,
}

impl AttackResult {
    /// The share of all examples that withstood it.
    pub fn accuracy(&self) -> f64 {
        self.standing.accuracy
    }
}

/// One example's fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleResult {
    /// Its position in the original data set.
    pub index: usize,
    /// Its true class.
    pub label: usize,
    /// The class that the model gives to the natural image.
    pub natural: usize,
    /// What became of it under each attack, in the order of [`Evaluation::attacks`].
    pub attacks: Vec<Outcome>,
    /// Whether it withstood every attack.
    pub robust: bool,
}

/// One example under one attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The class that the model gives to the adversarial image; to the natural one where that was already wrong,
    /// because such an example is not attacked.
    pub prediction: usize,
    /// Whether it is classified correctly still.
    pub robust: bool,
}

impl Evaluation {
    /// Natural accuracy.
    pub fn natural_accuracy(&self) -> f64 {
        self.attacks.first().map_or(f64::NAN, AttackResult::accuracy)
    }

    /// The result of an attack of the suite.
    pub fn attack(&self, name: &str) -> Option<&AttackResult> {
        self.attacks.iter().find(|result| result.name == name)
    }

    /// Adds what only the caller can know, such as [`Warning::CheckpointChosenOnTestSet`]; a warning of a kind that
    /// is there already is left out.
    pub fn add_warning(&mut self, warning: Warning) {
        if self.warnings.iter().all(|known| known.kind() != warning.kind()) {
            self.warnings.push(warning);
        }
    }

    /// The whole result as indented JSON; each example's fate only `with_examples`.
    ///
    /// # Errors
    /// None that this type can cause; the writer's signature has one.
    pub fn to_json(&self, with_examples: bool) -> Result<String, serde_json::Error> {
        if with_examples || self.examples.is_empty() {
            return serde_json::to_string_pretty(self);
        }
        let short = Self {
            examples: Vec::new(),
            ..self.clone()
        };
        serde_json::to_string_pretty(&short)
    }
}
