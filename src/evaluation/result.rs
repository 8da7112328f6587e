//! What an evaluation found.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::MapAccess, de::Visitor, ser::SerializeMap};

use super::{Interval, Warning};
use crate::{
    attacks::{Attack, AttackSpec, Method},
    threat::{Epsilon, Norm, ThreatModel},
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
    /// The checkpoint of the run that its weights are of, where they come from a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
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
    /// The model that transfer attacks were crafted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surrogate: Option<String>,
    /// Each transfer attack beside the same attack on the model itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<TransferComparison>,
    /// The same suite at several radii, where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<CurvePoint>,
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
    pub fn of(correct: usize, n: usize) -> Self {
        Self {
            accuracy: correct as f64 / n.max(1) as f64,
            correct,
            interval: Interval::wilson(correct, n),
        }
    }
}

/// One attack of the suite with every number that its figure depends on.
///
/// Of attacks that run in turn each part has a result of its own, named `whole/part`: what stands after it and all
/// before it. The result of the whole follows them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttackResult {
    /// Its name in the suite.
    pub name: String,
    /// What it did, with every number filled in.
    #[serde(flatten)]
    pub method: Method,
    /// How many times it started anew.
    pub restarts: usize,
    /// Its numbers as a person reads them.
    pub settings: String,
    /// The examples that are classified correctly and withstood it.
    #[serde(flatten)]
    pub standing: Standing,
    /// Wall-clock time, pauses included.
    pub seconds: f64,
}

impl AttackResult {
    /// The figure of `spec` under `threat`, in a suite that calls it `name`, of a model of so many classes.
    pub fn new(
        name: &str,
        spec: &AttackSpec,
        threat: &ThreatModel,
        classes: usize,
        standing: Standing,
        seconds: f64,
    ) -> Self {
        Self {
            name: name.to_string(),
            method: spec.under(threat).method,
            restarts: spec.restarts,
            settings: spec.settings(threat, classes),
            standing,
            seconds,
        }
    }

    /// κ, where its objective has one.
    pub fn kappa(&self) -> Option<f32> {
        match &self.method {
            Method::Pgd(ascent) => ascent.kappa(),
            _ => None,
        }
    }

    /// The share of all examples that withstood it.
    pub fn accuracy(&self) -> f64 {
        self.standing.accuracy
    }
}

/// A transfer attack beside the same attack on the model itself, example by example.
///
/// The four counts add up to the naturally correct examples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferComparison {
    /// The transfer attack's name.
    pub transfer: String,
    /// The name of the attack on the model itself.
    pub white_box: String,
    /// Examples that both fooled.
    pub both: usize,
    /// Examples that only the attack on the model itself fooled.
    pub only_white_box: usize,
    /// Examples that only the transfer attack fooled.
    pub only_transfer: usize,
    /// Examples that withstood both.
    pub neither: usize,
}

/// One point of accuracy against ε.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// The radius of the ball, as it was written.
    pub epsilon: Epsilon,
    /// Each attack's accuracy by name, and `worst-case`.
    pub accuracy: Accuracies,
    /// Each attack with its numbers at this radius.
    pub attacks: Vec<AttackResult>,
    /// An example counts here only if it withstood every attack.
    pub worst_case: Standing,
}

impl From<&Evaluation> for CurvePoint {
    fn from(evaluation: &Evaluation) -> Self {
        Self {
            epsilon: evaluation.epsilon.clone(),
            accuracy: evaluation.accuracy.clone(),
            attacks: evaluation.attacks.clone(),
            worst_case: evaluation.worst_case,
        }
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
///
/// An example that is not attacked keeps the outcome that it had: the natural one where that was already wrong, or that
/// of the attack before it in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The class that the model gives to the adversarial image.
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

    /// The whole result as indented JSON; each example's fate, a line for each, only `with_examples`.
    ///
    /// # Errors
    /// None that this type can cause; the writer's signature has one.
    pub fn to_json(&self, with_examples: bool) -> Result<String, serde_json::Error> {
        let short = Self {
            examples: Vec::new(),
            ..self.clone()
        };
        let mut json = serde_json::to_string_pretty(&short)?;
        if with_examples && !self.examples.is_empty() {
            let lines = self.examples.iter().map(serde_json::to_string);
            let lines = lines.collect::<Result<Vec<_>, _>>()?.join(",\n    ");
            json.truncate(json.strip_suffix("\n}").map_or(json.len(), str::len));
            json += &format!(",\n  \"examples\": [\n    {lines}\n  ]\n}}");
        }
        Ok(json)
    }
}
