//! What a long evaluation has finished, so that it goes on after a stop.

use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use super::{EvaluateError, Outcome, Suite};
use crate::{
    attacks::AttackSpec,
    compute::DeviceError,
    data::Dataset,
    nn::{Model, StateValues},
    seal::{self, Seal},
    threat::{Epsilon, Norm},
};

/// The finished attacks of an evaluation, with everything that their figures depend on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub(super) identity: Identity,
    pub(super) finished: Vec<Finished>,
}

/// What must be the same for figures to be the same. The device and the batch size change them by rounding alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The version of this program.
    martlet: String,
    /// How random starts are drawn: `example` where each example has a generator of its own.
    #[serde(default)]
    starts: String,
    /// A checksum of the model's weights.
    model: String,
    /// A checksum of the surrogate's.
    surrogate: Option<String>,
    /// A checksum of the examples.
    data: String,
    norm: Norm,
    /// Every radius.
    epsilons: Vec<Epsilon>,
    seed: u64,
    attacks: Vec<AttackSpec>,
}

/// Records of before had one generator for all examples: their figures are of other starts.
const STARTS: &str = "example";

impl Record {
    /// The record of an evaluation that has finished nothing.
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            finished: Vec::new(),
        }
    }

    /// Whether an attack has finished.
    pub fn has_finished(&self) -> bool {
        !self.finished.is_empty()
    }

    /// An attack that has finished.
    pub(super) fn find(&self, epsilon: &Epsilon, attack: &str) -> Option<&Finished> {
        let mut finished = self.finished.iter();
        finished.find(|finished| finished.epsilon == *epsilon && finished.attack == attack)
    }

    /// Its text for a file, sealed: what is read back is believed.
    ///
    /// # Errors
    /// None in practice: it holds numbers and names.
    pub fn to_json(&self) -> serde_json::Result<String> {
        Ok(seal::sealed(&serde_json::to_string_pretty(self)?, &[]))
    }

    /// A record from the text of its file.
    ///
    /// # Errors
    /// In words, where the text is no record or was changed since it was written.
    pub fn from_json(text: &str) -> Result<Self, String> {
        let record = serde_json::from_str(text).map_err(|error| format!("no record of an evaluation ({error})"))?;
        match seal::seal_of(text) {
            Seal::Whole => Ok(record),
            Seal::Broken => Err("a record that was changed since it was written".to_string()),
            Seal::Missing => Err("a record without a seal, of an older Martlet".to_string()),
        }
    }
}

/// One attack at one radius.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Finished {
    pub(super) epsilon: Epsilon,
    /// The name of its result.
    pub(super) attack: String,
    /// The class that the model gives to each example.
    pub(super) predictions: Vec<usize>,
    pub(super) seconds: f64,
}

/// A record to go on from, and where to keep it.
pub struct Resume<'a> {
    /// The record of an earlier attempt.
    pub record: Option<Record>,
    /// Called with the record at the beginning and whenever an attack has finished.
    pub keep: Keep<'a>,
}

impl Identity {
    pub(super) fn new(
        model: &Model,
        surrogate: Option<&Model>,
        dataset: &Dataset,
        suite: &Suite,
        norm: Norm,
        epsilons: Vec<Epsilon>,
    ) -> Result<Self, DeviceError> {
        Ok(Self {
            martlet: env!("CARGO_PKG_VERSION").to_string(),
            starts: STARTS.to_string(),
            model: fingerprint(model)?,
            surrogate: surrogate.map(fingerprint).transpose()?,
            data: dataset.fingerprint(),
            norm,
            epsilons,
            seed: suite.seed,
            attacks: suite.attacks.clone(),
        })
    }

    /// The same evaluation on other examples.
    pub(super) fn with_data(&self, fingerprint: String) -> Self {
        Self {
            data: fingerprint,
            ..self.clone()
        }
    }

    /// What differs first, in words.
    pub(super) fn difference(&self, other: &Self) -> Option<&'static str> {
        let differences = [
            (
                self.martlet != other.martlet || self.starts != other.starts,
                "the version of Martlet",
            ),
            (self.model != other.model, "the model's weights"),
            (self.surrogate != other.surrogate, "the surrogate's weights"),
            (self.data != other.data, "the examples"),
            (self.norm != other.norm, "the norm"),
            (self.epsilons != other.epsilons, "ε"),
            (self.seed != other.seed, "the seed"),
            (self.attacks != other.attacks, "the suite of attacks"),
        ];
        differences
            .into_iter()
            .find_map(|(differs, what)| differs.then_some(what))
    }
}

/// A checksum of a model's state dict. This is a sync point.
fn fingerprint(model: &Model) -> Result<String, DeviceError> {
    let mut hash = Md5::new();
    hash.update(model.architecture().to_string());
    for entry in model.state()? {
        hash.update(format!("\n{} {:?}\n", entry.name, entry.shape));
        match entry.values {
            StateValues::F32(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
            StateValues::I64(values) => values.iter().for_each(|value| hash.update(value.to_le_bytes())),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Called with a record, to keep it.
pub type Keep<'a> = &'a mut dyn FnMut(&Record) -> std::io::Result<()>;

/// The record of an evaluation under way.
pub(super) struct Ledger<'a> {
    record: Record,
    keep: Option<Keep<'a>>,
}

impl<'a> Ledger<'a> {
    /// The ledger of a record that nothing is added to.
    pub(super) fn of(record: Record) -> Self {
        Self { record, keep: None }
    }

    /// Goes on from what `resume` brings, if it is of this very evaluation.
    pub(super) fn open(identity: Identity, resume: Resume<'a>) -> Result<Self, EvaluateError> {
        let record = match resume.record {
            None => {
                let record = Record::new(identity);
                (resume.keep)(&record).map_err(EvaluateError::Record)?;
                record
            }
            Some(record) => match identity.difference(&record.identity) {
                Some(what) => return Err(EvaluateError::OtherEvaluation { what }),
                None => record,
            },
        };
        Ok(Self {
            record,
            keep: Some(resume.keep),
        })
    }

    /// What became of each example under an attack that has finished before, and how long that took.
    pub(super) fn known(&self, epsilon: &Epsilon, attack: &str, dataset: &Dataset) -> Option<(Vec<Outcome>, f64)> {
        let found = self.record.find(epsilon, attack)?;
        let outcomes = found.predictions.iter().enumerate();
        let outcomes = outcomes.map(|(position, prediction)| Outcome {
            prediction: *prediction,
            robust: *prediction == dataset.label(position),
        });
        (found.predictions.len() == dataset.len()).then(|| (outcomes.collect(), found.seconds))
    }

    /// Adds an attack that has finished, and keeps the record.
    pub(super) fn add(
        &mut self,
        epsilon: &Epsilon,
        attack: &str,
        outcomes: &[Outcome],
        seconds: f64,
    ) -> Result<(), EvaluateError> {
        self.record.finished.push(Finished {
            epsilon: epsilon.clone(),
            attack: attack.to_string(),
            predictions: outcomes.iter().map(|outcome| outcome.prediction).collect(),
            seconds,
        });
        match &mut self.keep {
            Some(keep) => keep(&self.record).map_err(EvaluateError::Record),
            None => Ok(()),
        }
    }
}
