//! A suite of attacks on a model, measured anew, and what makes the figures doubtful.
//!
//! [`evaluate`] runs a [`Suite`] and gives an [`Evaluation`]; a [`Warning`] says why a figure may mislead.

mod interval;
mod measure;
mod probes;
mod result;
mod suite;
mod warnings;

pub use interval::Interval;
pub use measure::Subject;
pub use result::{Accuracies, AttackResult, Evaluation, Examined, ExampleResult, Outcome, Standing};
pub use suite::{Suite, SuiteError};
pub use warnings::{EpochFigures, Warning, training_warnings};

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
/// robust. Of an attack with restarts only the examples that still stand are attacked again. In `worst-case` an
/// example counts only if it withstood every attack.
///
/// No attack is believed: each of its images is measured again, that it lies in the ball and in `[0, 1]` and what the
/// model, in evaluation mode, says to it. Gradients are taken through [`Model::inference`], where normalisation is folded into the
/// convolution before it: the same function up to rounding and cheaper, and rounding moves only steps whose
/// gradient is as good as 0. Every figure is of the model as it was given.
///
/// Random starts depend on the suite's seed, the attack's name and the restart; an attack's figure does not depend on
/// what else is in the suite nor, beyond rounding, on the batch size.
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
    if model.input() != dataset.shape() || model.classes() < dataset.classes() {
        return Err(EvaluateError::Mismatch {
            expected: format!("{} images in at most {} classes", model.input(), model.classes()),
            got: format!(
                "{} images in {} classes ({})",
                dataset.shape(),
                dataset.classes(),
                dataset.name()
            ),
        });
    }
    let folded = model.inference();
    let subject = Subject {
        description: format!("{}, {} parameters", model.architecture(), model.parameter_count()),
        logits: &|images| model.forward(images, Mode::Eval),
        attacked: &|images| folded.forward(images, Mode::Eval),
    };
    evaluate_function(&subject, dataset, suite, threat, device, control, on_event)
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
    measure::Measurement::new(subject, dataset, suite, threat, device, control, on_event)?.run()
}
