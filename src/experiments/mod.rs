//! The paper's tables and figures as typed values: what it reports, how it is run here, and what came out.
//!
//! An [`Experiment`] is one line in [`EXPERIMENTS`]: its rows are what is trained, its columns the attacks on them.
//! [`Experiment::plan`] turns it into recipes and suites within a [`Budget`], [`Conduct`] carries a plan out row by row,
//! and [`Outcome::read`] says from the runs' folders what was reported, what was measured, and what of the difference
//! between two rows is more than chance. Nothing is remembered but the runs themselves: a row is done when its run is
//! finished and was measured.

mod conduct;
mod estimate;
mod outcome;
mod page;
mod paper;
mod plan;

use std::{fmt, str::FromStr};

use crate::{
    defences::DefenceSpec,
    engine::{TrainError, subsets::SplitError},
    evaluation::{EvaluateError, SuiteError},
    files::NotWritten,
    recipe::RecipeError,
    report::ReportError,
    runs::{RunError, Slot},
    wording::meant,
};

pub use conduct::{Conduct, Progress, Stage};
pub use estimate::{Estimate, estimate};
pub use outcome::{Cell, Comparison, Line, Outcome, RowState, Verdict};
pub use paper::EXPERIMENTS;
pub use plan::{Measure, Need, Plan, PlannedRow, Request};

/// One table or figure of the paper.
#[derive(Debug)]
pub struct Experiment {
    /// What the terminal calls it.
    pub name: &'static str,
    /// What the paper calls it, and what it is about.
    pub title: &'static str,
    /// What it asks, in a sentence.
    pub question: &'static str,
    /// The setting that its rows are trained in; experiments of one setting share their runs.
    pub setting: Setting,
    /// The attacks, in the paper's order.
    pub attacks: &'static [&'static str],
    /// The checkpoint that the paper's figures are of, where it gives one figure for each attack.
    pub reported: Slot,
    /// Whether AutoAttack, which is not in the paper, is measured too.
    pub beyond: bool,
    /// What its figure shows; none for a table.
    pub figure: Option<Figure>,
    /// What is trained.
    pub rows: fn() -> Vec<Row>,
    /// Pairs of rows that the paper, or an honest reader, compares: the first is the one that the paper has ahead.
    pub comparisons: fn() -> Vec<(String, String)>,
}

/// The horizontal axis of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Figure {
    /// Robust accuracy after each epoch.
    Epochs,
    /// Robust accuracy at the end against a number of the recipe, which this names.
    Number(&'static str),
}

/// What the paper trains on what, in one of its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Setting {
    /// Section 4.2, MNIST.
    Mnist,
    /// Section 4.2, CIFAR-10 with ResNet-18.
    Cifar10,
    /// Section 4.1, CIFAR-10 with ResNet-18: the ablations.
    Ablation,
    /// Section 1, CIFAR-10 with eight layers: the subsets.
    Subsets,
    /// Section 4.3, CIFAR-10 with WRN-34-10.
    Wide,
    /// Section 4.3, CIFAR-10 with WRN-34-8 and 100K unlabelled images.
    Unlabelled100K,
    /// Section 4.3, CIFAR-10 with WRN-28-10 and 500K unlabelled images.
    Unlabelled500K,
}

/// One thing that is trained.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its name in runs and on the command line.
    pub id: String,
    /// What a table calls it.
    pub label: String,
    /// How it is trained.
    pub trains: Trains,
    /// The paper's figures in per cent.
    pub reported: Vec<Reported>,
    /// Its place in a figure against a number: which line, and where on it.
    pub place: Option<(&'static str, f64)>,
}

/// One figure of the paper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reported {
    /// The attack.
    pub attack: &'static str,
    /// The checkpoint.
    pub slot: Slot,
    /// Accuracy in per cent.
    pub accuracy: f64,
}

/// How a row is trained.
#[derive(Debug, Clone, PartialEq)]
pub enum Trains {
    /// The setting's recipe with this defence; its numbers that depend on ε or on the length of the run are set anew.
    Defence(DefenceSpec),
    /// The recipe of the released code, which differs from the paper in more than the loss.
    Released(DefenceSpec),
    /// Another network of the setting, trained for others: the one that transfer attacks are crafted on, or that labels
    /// unlabelled images.
    Helper(DefenceSpec),
    /// Standard but for a subset of the training examples that the run of the row `standard` chose.
    Subset {
        /// Whether they are those that it gets wrong, or as many others.
        misclassified: bool,
        /// What is done with them.
        treatment: Treatment,
    },
    /// The defence with unlabelled images, which the network of the row `natural` labels.
    PseudoLabelled(DefenceSpec),
}

impl Trains {
    /// Whether the row is no result of its own.
    pub fn is_helper(&self) -> bool {
        matches!(self, Self::Helper(_))
    }
}

pub use crate::defences::Treatment;

/// How much of a machine's time an experiment may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Budget {
    /// Minutes on two processor cores: few examples of the built-in data, a small network.
    Quick,
    /// About an hour on a GPU: the paper's data and network, few epochs.
    Short,
    /// The paper's own numbers.
    Full,
}

impl Budget {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Quick, Self::Short, Self::Full];

    /// What it means, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Self::Quick => "minutes on two processor cores, small data and networks",
            Self::Short => "about an hour on a GPU, few epochs",
            Self::Full => "the paper's data, networks and epochs",
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quick => "quick",
            Self::Short => "short",
            Self::Full => "full",
        })
    }
}

impl FromStr for Budget {
    type Err = ExperimentError;
    fn from_str(text: &str) -> Result<Self, ExperimentError> {
        Self::ALL
            .into_iter()
            .find(|budget| budget.to_string() == text)
            .ok_or_else(|| ExperimentError::UnknownBudget(text.to_string()))
    }
}

/// Why an experiment cannot be planned or carried out.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// No experiment has the name.
    #[error("no experiment is called {name:?}{}; expected one of {known}", meant(name, known.split(", ")))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// No budget has the name.
    #[error("no budget is called {0:?}; expected quick, short or full")]
    UnknownBudget(String),
    /// The experiment has no such row.
    #[error("{experiment} has no row {row:?}; expected some of {known}")]
    UnknownRow {
        /// The experiment.
        experiment: &'static str,
        /// What was asked for.
        row: String,
        /// The rows there are.
        known: String,
    },
    /// The data must be named.
    #[error("{experiment} at the budget {budget} needs {what}: name it with {option}, such as {example}")]
    NeedsData {
        /// The experiment.
        experiment: &'static str,
        /// The budget.
        budget: Budget,
        /// Which data.
        what: &'static str,
        /// The option that names it.
        option: &'static str,
        /// How.
        example: &'static str,
    },
    /// A run of the row's name was begun otherwise.
    #[error(
        "the run {run} was begun with another recipe than {experiment} plans ({differs}); delete it, or keep the experiment's runs in another folder"
    )]
    OtherRun {
        /// The run.
        run: String,
        /// The experiment.
        experiment: &'static str,
        /// The first line that differs.
        differs: String,
    },
    /// A row waits for another one that failed.
    #[error("{row} needs the run of {needs}, which is not trained yet; run that row too")]
    Needs {
        /// The row.
        row: String,
        /// What it waits for.
        needs: String,
    },
    /// The network got every training example right, so that there is no subset to look at.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// A name is no attack.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// A recipe makes no sense.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Measuring failed.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A run's folder could not be read or written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A table could not be written.
    #[error(transparent)]
    File(#[from] NotWritten),
    /// A run's folder could not be understood.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A file of the experiment could not be written.
    #[error("{path} cannot be written")]
    Io {
        /// The cause.
        #[source]
        source: std::io::Error,
        /// The file.
        path: std::path::PathBuf,
    },
}

/// The experiment called `name`.
///
/// # Errors
/// [`ExperimentError::Unknown`] with the names there are.
pub fn experiment(name: &str) -> Result<&'static Experiment, ExperimentError> {
    EXPERIMENTS
        .iter()
        .find(|experiment| experiment.name == name)
        .ok_or_else(|| ExperimentError::Unknown {
            name: name.to_string(),
            known: EXPERIMENTS
                .iter()
                .map(|experiment| experiment.name)
                .collect::<Vec<_>>()
                .join(", "),
        })
}
