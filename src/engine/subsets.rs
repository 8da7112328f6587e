//! The subsets of the paper's Figure 1: the training examples that a trained network gets wrong, and as many that it
//! gets right.

use serde::{Deserialize, Serialize};

use super::stream;
use crate::{
    compute::Device,
    control::Control,
    data::Dataset,
    defences::{DefenceSpec, Members, Side, Treatment},
    evaluation::{self, EvaluateError, Suite},
    nn::Model,
    random::Rng,
    threat::{Magnitude, Norm, ThreatModel},
};

/// Two equally large, disjoint parts of a training set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subsets {
    /// Every training example whose natural image the network misclassifies, S⁻.
    pub misclassified: Members,
    /// As many of the others, drawn at random, S⁺.
    pub correct: Members,
    /// Training examples.
    pub n: usize,
    /// The network's accuracy on their natural images.
    pub accuracy: f64,
    /// The seed of the draw.
    pub seed: u64,
    /// The training set's checksum.
    pub fingerprint: String,
}

impl Subsets {
    /// Standard with one of the two sets treated so.
    pub fn defence(&self, side: Side, treatment: Treatment) -> DefenceSpec {
        let members = match side {
            Side::Misclassified => &self.misclassified,
            Side::Correct => &self.correct,
        };
        DefenceSpec::Subset {
            members: members.clone(),
            side: Some(side),
            treatment,
        }
    }
}

/// Why a training set could not be split.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// The network gets everything right.
    #[error(
        "expected misclassified training examples, got none of {n}: take a smaller network, a shorter training or a larger epsilon"
    )]
    NothingMisclassified {
        /// Training examples.
        n: usize,
    },
    /// The network gets too much wrong.
    #[error(
        "expected as many correctly classified training examples as misclassified ones, got {correct} beside {misclassified}: train longer, or with a smaller epsilon"
    )]
    TooManyMisclassified {
        /// Those that are right.
        correct: usize,
        /// Those that are wrong.
        misclassified: usize,
    },
    /// The network could not be asked, or somebody stopped it.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

/// Subsets of another training set.
#[derive(Debug, thiserror::Error)]
#[error(
    "the subsets are of other training examples: expected fingerprint {expected}, got {got}; train with the data set, limit_train, held_out and seed of the run that was split, or split a run that was trained on these"
)]
pub struct OtherExamples {
    expected: String,
    got: String,
}

/// Splits `train` by what `model`, evaluating, says to the natural images: all that it misclassifies, and as many of the
/// others, drawn by `seed`.
///
/// # Errors
/// [`SplitError`]; of its [`EvaluateError`]s [`EvaluateError::Stopped`] where `control` asks for it.
///
/// # Source
/// Paper, introduction: "misclassified" is said of natural training examples, and |S⁻| = |S⁺|.
pub fn split(
    model: &Model,
    train: &Dataset,
    batch_size: usize,
    seed: u64,
    device: &Device,
    control: &Control,
) -> Result<Subsets, SplitError> {
    let nothing = ThreatModel {
        norm: Norm::Linf,
        epsilon: Magnitude::zero(),
    };
    let mut natural = Suite::natural();
    (natural.batch_size, natural.probes) = (batch_size, false);
    let evaluation = evaluation::evaluate(model, train, &natural, &nothing, device, control, &mut |_| {})?;

    let (right, wrong): (Vec<_>, Vec<_>) = evaluation
        .examples
        .iter()
        .partition(|example| example.natural == example.label);
    let mut right: Vec<usize> = right.iter().map(|example| example.index).collect();
    if wrong.is_empty() {
        return Err(SplitError::NothingMisclassified { n: train.len() });
    }
    if right.len() < wrong.len() {
        return Err(SplitError::TooManyMisclassified {
            correct: right.len(),
            misclassified: wrong.len(),
        });
    }
    Rng::stream(seed, stream::SUBSET).shuffle(&mut right);
    Ok(Subsets {
        misclassified: wrong.iter().map(|example| example.index).collect(),
        correct: right[..wrong.len()].iter().copied().collect(),
        n: train.len(),
        accuracy: evaluation.natural_accuracy(),
        seed,
        fingerprint: evaluation.dataset.fingerprint,
    })
}

impl Subsets {
    /// Checks that `train` is the set that was split.
    ///
    /// # Errors
    /// [`OtherExamples`] where it is not.
    pub fn check(&self, train: &Dataset) -> Result<(), OtherExamples> {
        let got = train.fingerprint();
        if got == self.fingerprint {
            return Ok(());
        }
        Err(OtherExamples {
            expected: self.fingerprint.clone(),
            got,
        })
    }
}
