//! A suite of attacks on a model, measured anew, and what makes the figures doubtful.
//!
//! [`evaluate`] runs a [`Suite`] and gives an [`Evaluation`]; a [`Warning`] says why a figure may mislead.

mod classes;
mod curve;
mod interval;
mod measure;
mod probes;
mod record;
mod result;
mod shard;
mod suite;
mod warnings;

pub use classes::ClassResult;
pub use curve::{CurveEvent, robustness_curve};
pub use interval::Interval;
pub use measure::{Subject, Surrogate};
pub use record::{Keep, Record, Resume};
pub use result::{
    Accuracies, AttackResult, CurvePoint, Evaluation, Examined, ExampleResult, Outcome, Standing, TransferComparison,
};
pub use shard::Shard;
pub use suite::{Suite, SuiteError};
pub use warnings::{EpochFigures, Warning, training_warnings, warning_sections};

use record::{Identity, Ledger};

use crate::{
    attacks::AttackError,
    compute::{Device, DeviceError},
    control::Control,
    data::Dataset,
    nn::{Mode, Model},
    threat::ThreatModel,
};

/// What an evaluation tells while it runs.
#[derive(Debug, Clone)]
pub enum EvaluationEvent {
    /// It begins.
    Started {
        /// Examples.
        examples: usize,
        /// The attacks' names, in order, `natural` first.
        attacks: Vec<String>,
    },
    /// A minibatch is done.
    Progress {
        /// The attack or probe under way.
        attack: String,
        /// Examples of this attack that are done, over all its restarts so far.
        done: usize,
        /// Examples that it has to do as far as is known now; falls as examples fall.
        of: usize,
        /// Examples, of all, that still stand against it.
        standing: usize,
        /// The share of the whole evaluation's work that is done, in `[0, 1]`; never falls.
        fraction: f64,
        /// Seconds since the evaluation began.
        seconds: f64,
    },
    /// An attack is done; its figure is final.
    AttackFinished(AttackResult),
    /// A figure is doubtful.
    Warning(Warning),
}

/// Why an evaluation gave no result.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// It was asked to stop. What attacks had finished was told in [`EvaluationEvent::AttackFinished`].
    #[error("the evaluation was stopped during {attack}; the figures of the attacks before it stand")]
    Stopped {
        /// The attack under way.
        attack: String,
    },
    /// There is nothing to evaluate on.
    #[error("expected at least one example, got none; choose another split or a larger limit")]
    NoExamples,
    /// The model and the data do not fit each other.
    #[error(
        "expected data of {expected}, as the model takes them, got {got}; choose the network or the data set to match"
    )]
    Mismatch {
        /// What the model takes.
        expected: String,
        /// What the data are.
        got: String,
    },
    /// The model's answer is no number.
    #[error(
        "expected finite logits, got {value} for example {index} under {attack}; the weights are broken, or training \
         ended in a NaN: use an earlier checkpoint"
    )]
    NonFiniteLogits {
        /// The value found.
        value: f32,
        /// The example's position in its data set.
        index: usize,
        /// The attack under way.
        attack: String,
    },
    /// A transfer attack has nothing to be crafted on.
    #[error("{attack} is crafted on another model and tested on this one: name a surrogate")]
    NoSurrogate {
        /// The attack.
        attack: String,
    },
    /// The record to go on from is another evaluation's.
    #[error(
        "expected the record of this evaluation, got one of another: {what} differs; evaluate as then, or keep the record elsewhere"
    )]
    OtherEvaluation {
        /// What differs first.
        what: &'static str,
    },
    /// The shards do not make a whole.
    #[error("the shards do not make one evaluation: {0}")]
    Shards(String),
    /// The record could not be kept.
    #[error("the record of finished attacks cannot be kept")]
    Record(#[source] std::io::Error),
    /// An attack failed.
    #[error(transparent)]
    Attack(#[from] AttackError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Attacks `model` with every attack of `suite` on every example of `dataset`.
///
/// Each attack is measured on its own, over all N examples: accuracy = (examples classified correctly before and
/// after the attack) / N. Examples that the model gets wrong without an attack are not attacked and do not count as
/// robust. Of an attack with restarts, and of attacks in turn such as `autoattack`, only the examples that still stand
/// are attacked again. In `worst-case` an example counts only if it withstood every attack.
///
/// No attack is believed: each of its images is measured again, that it lies in the ball and in `[0, 1]` and what the
/// model, in evaluation mode, says to it.
///
/// Random starts depend on the suite's seed, the attack's name, the restart and the example; an attack's figure does not depend on
/// what else is in the suite or the data set nor, beyond rounding, on the batch size.
///
/// # Errors
/// [`EvaluateError::Stopped`] where `control` asks for it: part of an evaluation is no evaluation, and cannot be
/// mistaken for one. [`EvaluateError::NonFiniteLogits`], [`AttackError::OutsideThreatModel`],
/// [`AttackError::MissingGradient`], and where the device fails or the data do not fit the model.
///
/// # Source
/// Paper, section 4.2; the worst case per example as in Croce and Hein 2020.
pub fn evaluate(
    model: &Model,
    dataset: &Dataset,
    suite: &Suite,
    threat: &ThreatModel,
    device: &Device,
    control: &Control,
    on_event: &mut dyn FnMut(EvaluationEvent),
) -> Result<Evaluation, EvaluateError> {
    Examination::new(model, dataset, suite, threat, device).run(control, on_event)
}

/// An evaluation to be carried out: what [`evaluate`] takes, and what only some evaluations need.
pub struct Examination<'a> {
    model: &'a Model,
    surrogate: Option<(String, &'a Model)>,
    dataset: &'a Dataset,
    suite: &'a Suite,
    threat: ThreatModel,
    device: &'a Device,
    resume: Option<Resume<'a>>,
    shards: Vec<(Shard, Record)>,
}

impl<'a> Examination<'a> {
    /// The evaluation that [`evaluate`] carries out.
    pub fn new(
        model: &'a Model,
        dataset: &'a Dataset,
        suite: &'a Suite,
        threat: &ThreatModel,
        device: &'a Device,
    ) -> Self {
        Self {
            model,
            surrogate: None,
            dataset,
            suite,
            threat: threat.clone(),
            device,
            resume: None,
            shards: Vec::new(),
        }
    }

    /// With a model, described in words, that transfer attacks are crafted on.
    pub fn with_surrogate(mut self, description: String, surrogate: &'a Model) -> Self {
        self.surrogate = Some((description, surrogate));
        self
    }

    /// Going on from a record of finished attacks, and keeping it. An attack that was under way is done anew: its random
    /// numbers depend on the seed and its name alone, so the figures are those of an evaluation that was never stopped.
    pub fn with_resume(mut self, resume: Resume<'a>) -> Self {
        self.resume = Some(resume);
        self
    }

    /// Put together from the records of evaluations of all its [`Shard`]s: attacks are not done again, probes are. Random numbers
    /// depend on the example, so the figures are those of an evaluation in one piece.
    pub fn with_shards(mut self, shards: Vec<(Shard, Record)>) -> Self {
        self.shards = shards;
        self
    }

    /// Carries it out.
    ///
    /// # Errors
    /// As [`evaluate`]; [`EvaluateError::OtherEvaluation`] where the record is another evaluation's,
    /// [`EvaluateError::NoSurrogate`] where a transfer attack has none; [`EvaluateError::Shards`] where shards do not make a whole.
    pub fn run(
        self,
        control: &Control,
        on_event: &mut dyn FnMut(EvaluationEvent),
    ) -> Result<Evaluation, EvaluateError> {
        let threats = [self.threat.clone()];
        let mut found = self.in_each(&threats, control, &mut |_, event| on_event(event), &mut |_, _| {})?;
        found.pop().ok_or(EvaluateError::NoExamples)
    }

    /// Carries it out in each ball of `threats`, as [`robustness_curve`].
    ///
    /// # Errors
    /// As [`Examination::run`].
    pub fn curve(
        self,
        threats: &[ThreatModel],
        control: &Control,
        on_event: &mut dyn FnMut(CurveEvent),
    ) -> Result<Vec<Evaluation>, EvaluateError> {
        let of = threats.len();
        let told = std::cell::RefCell::new(on_event);
        self.in_each(
            threats,
            control,
            &mut |position, event| {
                (told.borrow_mut())(CurveEvent::Evaluating {
                    position,
                    of,
                    epsilon: threats[position].epsilon.clone(),
                    event,
                });
            },
            &mut |position, evaluation| {
                let point = CurvePoint::from(evaluation);
                (told.borrow_mut())(CurveEvent::Point { position, of, point });
            },
        )
    }

    /// One evaluation in each ball, with one ledger for all.
    fn in_each(
        self,
        threats: &[ThreatModel],
        control: &Control,
        on_event: &mut dyn FnMut(usize, EvaluationEvent),
        on_finished: &mut dyn FnMut(usize, &Evaluation),
    ) -> Result<Vec<Evaluation>, EvaluateError> {
        let (model, dataset) = (self.model, self.dataset);
        for taker in [Some(model), self.surrogate.as_ref().map(|(_, other)| *other)] {
            taker.map_or(Ok(()), |taker| fits(taker, dataset))?;
        }
        let identity = || {
            let surrogate = self.surrogate.as_ref().map(|(_, other)| *other);
            let epsilons = threats.iter().map(|threat| threat.epsilon.clone()).collect();
            Identity::new(model, surrogate, dataset, self.suite, self.threat.norm, epsilons)
        };
        let mut ledger = match (self.resume, self.shards.as_slice()) {
            (None, []) => None,
            (Some(resume), []) => Some(Ledger::open(identity()?, resume)?),
            (_, shards) => {
                let whole = shard::join(&identity()?, shards, dataset).map_err(EvaluateError::Shards)?;
                Some(Ledger::of(whole))
            }
        };
        let surrogate = self.surrogate;
        let crafted_on = |images| match &surrogate {
            Some((_, other)) => other.forward(images, Mode::Eval),
            None => model.forward(images, Mode::Eval),
        };
        let subject = Subject {
            description: format!("{}, {} parameters", model.architecture(), model.parameter_count()),
            logits: &|images| model.forward(images, Mode::Eval),
            attacked: &|images| model.forward(images, Mode::Eval),
            surrogate: surrogate.as_ref().map(|(name, other)| Surrogate {
                description: format!(
                    "{name}: {}, {} parameters",
                    other.architecture(),
                    other.parameter_count()
                ),
                attacked: &crafted_on,
            }),
        };
        let mut found = Vec::with_capacity(threats.len());
        for (position, threat) in threats.iter().enumerate() {
            let mut tell = |event| on_event(position, event);
            let evaluation =
                measure::Measurement::new(&subject, dataset, self.suite, threat, self.device, control, &mut tell)?
                    .run(ledger.as_mut())?;
            on_finished(position, &evaluation);
            found.push(evaluation);
        }
        Ok(found)
    }
}

/// Whether a model takes the data.
fn fits(model: &Model, dataset: &Dataset) -> Result<(), EvaluateError> {
    if model.input() == dataset.shape() && model.classes() >= dataset.classes() {
        return Ok(());
    }
    Err(EvaluateError::Mismatch {
        expected: format!("{} images in at most {} classes", model.input(), model.classes()),
        got: format!(
            "{} images in {} classes ({})",
            dataset.shape(),
            dataset.classes(),
            dataset.name()
        ),
    })
}

/// As [`evaluate`], for any function from images to logits.
///
/// # Errors
/// As [`evaluate`].
pub fn evaluate_function(
    subject: &Subject,
    dataset: &Dataset,
    suite: &Suite,
    threat: &ThreatModel,
    device: &Device,
    control: &Control,
    on_event: &mut dyn FnMut(EvaluationEvent),
) -> Result<Evaluation, EvaluateError> {
    measure::Measurement::new(subject, dataset, suite, threat, device, control, on_event)?.run(None)
}
