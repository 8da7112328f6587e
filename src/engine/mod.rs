//! The training loop: [`train`] is the page to read.

pub mod device_check;
mod event;
pub mod filing;
mod group;
pub mod labelling;
#[cfg(feature = "mpi")]
pub mod mpi;
mod observer;
pub mod pace;
mod progress;
pub mod session;
mod sgd;
pub mod speed;
pub mod subsets;
pub mod survey;
mod trainer;

use serde::{Deserialize, Serialize};

use crate::{
    compute::{Device, DeviceError, Products},
    control::Control,
    data::{self, DataError, Dataset, Split},
    defences::{DefenceError, DefenceSpec},
    evaluation::{EvaluateError, SuiteError},
    nn::{Model, ModelError, WeightsError},
    recipe::Recipe,
    runs::{Run, RunError},
};

pub use event::{
    Adjusted, Best, Clock, Ended, EpochReport, Evaluating, Event, Started, StepReport, WarningReport, chooser,
};
pub use group::{Alone, Group};
pub use observer::{Adjustment, Examples, LOOKING_SHARE, Observer};
pub use sgd::Sgd;

use device_check::CheckError;
use trainer::Trainer;

/// Streams of the one seed, so that each purpose draws the same numbers whatever the others do.
mod stream {
    pub const WEIGHTS: u64 = 1;
    pub const STEPS: u64 = 2;
    /// The correctly classified examples that stand beside the misclassified ones.
    pub const SUBSET: u64 = 3;
    /// Plus the epoch: the order of its examples.
    pub const ORDER: u64 = 1 << 32;
}

/// Why training ended early. The last checkpoint is always kept.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A loss or a gradient is no number any more.
    #[error(
        "{what} is not a number in epoch {epoch} (minibatch {step}): training diverged; lower the learning rate, clip the gradient (clip_gradient) or warm epsilon up, and start again; the last good checkpoint is kept"
    )]
    NotFinite {
        /// Which figure.
        what: String,
        /// Epoch, from 1.
        epoch: usize,
        /// Minibatch of the epoch, from 1.
        step: usize,
    },
    /// The inner maximisation failed, or a parameter got no gradient.
    #[error(transparent)]
    Defence(#[from] DefenceError),
    /// The evaluation after an epoch failed.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The evaluation after an epoch names no suite.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device does not compute the network as the processor does.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The run's folder could not be read or written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The data could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The network does not fit the data.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A checkpoint does not fit the network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A checkpoint's counters cannot be read.
    #[error("the checkpoint's progress cannot be read: {0}; start anew under another name, or delete the run")]
    Progress(String),
    /// A subset's members are not among the training examples.
    #[error(
        "expected all {of} members of the subset among the training examples, got {absent} that are not; take the data set, data.limit_train, data.held_out and seed that the subset was drawn from"
    )]
    MembersMissing {
        /// Members that are not.
        absent: usize,
        /// Members.
        of: usize,
    },
    /// A minibatch too small for the network.
    #[error(
        "expected more than 1 value for each channel of a BatchNorm, got a minibatch of 1 example (of {examples} examples by {batch_size}): set data.drop_last=true or another batch_size"
    )]
    SingleValue {
        /// Training examples.
        examples: usize,
        /// Examples of a whole minibatch.
        batch_size: usize,
    },
    /// The device has no products of float16.
    #[error(
        "mixed_precision needs a GPU of this machine whose kernels are Martlet's own, got {device}: leave it out (--set mixed_precision=false), or take another --device"
    )]
    MixedPrecision {
        /// The device.
        device: String,
    },
    /// Several processes cannot share this training.
    #[error(
        "{defence} cannot be trained by several processes: it remembers single examples, or takes more than one gradient of a minibatch; train it by one"
    )]
    NotShared {
        /// The defence.
        defence: &'static str,
    },
    /// The data set leaves nothing to train on.
    #[error("nothing to train on: {0}")]
    NoExamples(String),
}

/// What a run trains on and what chooses its best checkpoint.
pub struct TrainingData {
    /// The training examples.
    pub train: Dataset,
    /// The examples that choose the best checkpoint.
    pub evaluated: Dataset,
    /// `held-out`, or `test` where the recipe holds nothing out.
    pub split: &'static str,
    /// The other parts of the data set, whole.
    pub splits: Splits,
}

/// What is known of the parts of a data set that a run is measured on, whole: their checksums, and what they share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Splits {
    /// What the run holds out of the training set, where it does.
    #[serde(default)]
    pub held_out: Option<String>,
    /// The test set, where there is one.
    #[serde(default)]
    pub test: Option<String>,
    /// Remarks on images that stand in two parts, or under two labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub twins: Vec<String>,
}

impl TrainingData {
    /// Loads what `recipe` names and holds out its share.
    ///
    /// With `limit_train` the held-out examples come from those that the limit leaves unused where there are enough.
    ///
    /// # Errors
    /// When a file is missing or damaged, or nothing is left to train on.
    pub fn load(recipe: &Recipe) -> Result<Self, TrainError> {
        let spec = &recipe.data;
        let all = spec.load(Split::Train)?;
        if all.classes() < 2 {
            return Err(TrainError::NoExamples(format!(
                "expected two classes at least, got {}: {}",
                all.classes(),
                all.class_names().join(", ")
            )));
        }
        let wanted = spec.limit_train.unwrap_or(usize::MAX).min(all.len());
        let test = match spec.load(Split::Test) {
            // Training needs none; whoever asks for it later is told what is wrong with it.
            Err(_) if spec.held_out > 0 => None,
            other => Some(other?),
        };
        if let Some(test) = test.as_ref().filter(|test| test.shape() != all.shape()) {
            return Err(TrainError::Data(DataError::Parts {
                expected: format!("test images of {}, as the training images are", all.shape()),
                got: format!("test images of {}", test.shape()),
                name: test.name().to_string(),
            }));
        }
        let mut splits = Splits {
            held_out: None,
            test: test.as_ref().map(Dataset::fingerprint),
            twins: Vec::new(),
        };
        let (train, evaluated, split) = if let (0, Some(test)) = (spec.held_out, &test) {
            (all.take(wanted), test.clone(), "test")
        } else if spec.held_out >= all.len() {
            return Err(TrainError::NoExamples(format!(
                "data.held_out is {} and the training set has {} examples; hold out fewer",
                spec.held_out,
                all.len()
            )));
        } else {
            let (rest, held_out) = all.split_off(spec.held_out, recipe.seed);
            splits.held_out = Some(held_out.fingerprint());
            (rest.take(wanted), held_out, "held-out")
        };
        let train = match &spec.unlabelled {
            None => train,
            Some(unlabelled) => {
                let more = data::load(&unlabelled.source, Split::Train)?;
                train.with_pseudo_labelled(&more.take(unlabelled.limit.unwrap_or(usize::MAX)))?
            }
        };
        let held_out = (split == "held-out").then_some((split, &evaluated));
        let test = test.as_ref().map(|test| ("test", test));
        let parts = [Some(("training", &train)), held_out, test].into_iter().flatten();
        splits.twins = data::twins(&parts.collect::<Vec<_>>());
        let labelled_share = recipe.labelled_share(spec.unlabelled.is_some());
        if recipe.data.drop_last && train.labelled() < labelled_share {
            return Err(TrainError::NoExamples(format!(
                "{} examples make no whole minibatch of {labelled_share}, and data.drop_last leaves out the rest",
                train.labelled(),
            )));
        }
        if let DefenceSpec::Subset { members, .. } = &recipe.defence {
            let present = (0..train.len())
                .filter(|position| members.contains(train.index(*position)))
                .count();
            if present < members.len() {
                return Err(TrainError::MembersMissing {
                    absent: members.len() - present,
                    of: members.len(),
                });
            }
        }
        let limit = recipe.evaluation.limit.unwrap_or(usize::MAX);
        Ok(Self {
            train: train.with_notes(splits.twins.clone()),
            evaluated: evaluated
                .take(limit.min(evaluated.len()))
                .with_notes(splits.twins.clone()),
            split,
            splits,
        })
    }
}

/// How a step of training multiplies its convolutions' factors.
///
/// # Errors
/// [`TrainError::MixedPrecision`] where the recipe wants float16 and the device has no such products.
pub fn products(recipe: &Recipe, device: &Device) -> Result<Products, TrainError> {
    device
        .products(recipe.mixed_precision)
        .ok_or_else(|| TrainError::MixedPrecision {
            device: device.info().name.clone(),
        })
}

/// Trains the network of `recipe`, or goes on where the run's last checkpoint stands.
///
/// # Errors
/// See [`TrainError`]; whatever happens, the folder keeps its last good checkpoint.
///
/// # Source
/// Paper, Algorithm 1.
pub fn train(
    recipe: &Recipe,
    data: &TrainingData,
    run: &mut Run,
    device: &Device,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Model, TrainError> {
    train_together(recipe, data, Some(run), device, control, observer, &Alone)
}

/// [`train`] by several processes: each attacks and trains on its share of every minibatch, and the gradients' mean moves everybody's weights
/// alike. Order, augmentation and random starts are drawn for each example, whoever has it: a group sees what one process would, but for
/// BatchNorm, whose statistics are those of a share. The process at rank 0 has the run; the others have none.
///
/// # Errors
/// As [`train`]; [`TrainError::NotShared`] for a defence that remembers single examples or takes two gradients of a minibatch.
pub fn train_together(
    recipe: &Recipe,
    data: &TrainingData,
    run: Option<&mut Run>,
    device: &Device,
    control: &Control,
    observer: &mut dyn Observer,
    group: &dyn Group,
) -> Result<Model, TrainError> {
    if !group.is_alone()
        && let Some(defence) = recipe.unshared()
    {
        return Err(TrainError::NotShared { defence });
    }
    let mut trainer = Trainer::open(recipe, data, run, device, control, observer, group)?;
    trainer.announce()?;
    while trainer.goes_on() {
        let order = trainer.order();
        while let Some(indices) = trainer.next_minibatch(&order) {
            trainer.show_model();
            if trainer.is_stopped() {
                return trainer.stop();
            }
            let batch = trainer.batch(&indices);
            trainer.step(&batch, indices.len())?;
            trainer.checkpoint_when_due()?;
        }
        if !trainer.finish_epoch()? {
            return trainer.stop();
        }
    }
    trainer.finish()
}
