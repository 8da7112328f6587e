//! What a run's folder tells a reader.

use std::{fs, path::PathBuf};

use image::ImageError;
use serde_json::Value;

use crate::{
    engine::{Adjusted, Ended, EpochReport, Event, StepReport, WarningReport},
    evaluation::Evaluation,
    files::NotWritten,
    recipe::{Recipe, RecipeError},
    runs::{Run, RunError, Slot},
};

/// Why a run could not be read, or a page not made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A run could not be read, or the page not written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A run's recipe is damaged.
    #[error("the recipe of the run cannot be read: {source}; put it back from a copy: {path}")]
    Recipe {
        /// What is wrong with it.
        source: RecipeError,
        /// The file.
        path: PathBuf,
    },
    /// An evaluation's file is damaged.
    #[error(
        "expected an evaluation as `martlet evaluate` writes it, got {got}; evaluate again, or remove the file: {path}"
    )]
    Evaluation {
        /// What is wrong with it.
        got: String,
        /// The file.
        path: PathBuf,
    },
    /// The page could not be written.
    #[error(transparent)]
    File(#[from] NotWritten),
    /// A picture could not be encoded.
    #[error("a picture cannot be written as PNG: {0}")]
    Picture(#[from] ImageError),
}

/// What a run's folder tells.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// The run's name.
    pub name: String,
    /// What the page calls it: its defence, or its name.
    pub label: String,
    /// What was trained.
    pub recipe: Recipe,
    /// The same as it was written.
    pub recipe_toml: String,
    /// The content of `run.json`: device, self-check, data, sessions.
    pub identity: Value,
    /// The means over a few minibatches each.
    pub steps: Vec<StepReport>,
    /// The epochs.
    pub epochs: Vec<EpochReport>,
    /// What training warned of.
    pub warnings: Vec<WarningReport>,
    /// What a person changed on the way.
    pub adjustments: Vec<Adjusted>,
    /// How it ended.
    pub ending: Ending,
    /// Evaluations by the names of their files, without extension.
    pub evaluations: Vec<(String, Evaluation)>,
    /// The present last and best checkpoints' names.
    pub checkpoints: Vec<String>,
}

/// How a run's last session ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// All epochs are done.
    Finished(Ended),
    /// A person stopped it.
    Stopped(Ended),
    /// It failed, with this message.
    Failed(String),
    /// It is under way, or was killed.
    Open,
}

impl RunReport {
    /// Reads what a run's folder holds now; another process may be writing it.
    ///
    /// Events of a kind that this version does not know are passed over.
    ///
    /// # Errors
    /// When the folder, its recipe or one of its evaluations cannot be read.
    pub fn read(run: &Run) -> Result<Self, ReportError> {
        let recipe = Recipe::from_toml(run.recipe_toml()).map_err(|source| ReportError::Recipe {
            source,
            path: run.folder().join("recipe.toml"),
        })?;
        let mut report = Self {
            name: run.name().to_string(),
            label: recipe.defence.to_string(),
            recipe,
            recipe_toml: run.recipe_toml().to_string(),
            identity: run.identity().clone(),
            steps: Vec::new(),
            epochs: Vec::new(),
            warnings: Vec::new(),
            adjustments: Vec::new(),
            ending: Ending::Open,
            evaluations: evaluations(run)?,
            checkpoints: [Slot::Last, Slot::Best]
                .into_iter()
                .filter_map(|slot| run.checkpoint_name(slot).ok().flatten())
                .collect(),
        };
        for line in run.metrics()? {
            if line["event"] == "failed" {
                report.ending = Ending::Failed(line["error"].as_str().unwrap_or_default().to_string());
            } else if let Ok(event) = serde_json::from_value(line) {
                report.take(event);
            }
        }
        Ok(report)
    }

    /// The number of classes, where the run's folder tells it.
    pub fn classes(&self) -> Option<usize> {
        let classes = self.identity["data"]["classes"].as_u64()?;
        usize::try_from(classes).ok()
    }

    /// Which checkpoint an evaluation is of, in words, and whether the run has gone on since; empty where the evaluation does not say.
    pub fn checkpoint_of(&self, evaluation: &Evaluation) -> String {
        match &evaluation.checkpoint {
            None => String::new(),
            Some(name) if self.checkpoints.contains(name) => format!("checkpoint {name}"),
            Some(name) => format!(
                "of an earlier checkpoint, {name}: the run has {} by now",
                self.checkpoints.join(" and ")
            ),
        }
    }

    /// Adds one event.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Step(step) => self.steps.push(step),
            Event::Epoch(epoch) => self.epochs.push(epoch),
            Event::Warning(warning) => self.warnings.push(warning),
            Event::Finished(ended) => self.ending = Ending::Finished(ended),
            Event::Stopped(ended) => self.ending = Ending::Stopped(ended),
            Event::Adjusted(adjusted) => self.adjustments.push(adjusted),
            Event::Started(_) | Event::Evaluating(_) => {}
        }
    }
}

/// The evaluations in a run's folder, in the order of their names.
fn evaluations(run: &Run) -> Result<Vec<(String, Evaluation)>, ReportError> {
    let entries = fs::read_dir(run.folder())
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("evaluation-"))
        })
        .collect();
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let damaged = |got: String| ReportError::Evaluation {
            got,
            path: path.clone(),
        };
        let text = run.read_sealed(&path)?;
        let evaluation = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        found.push((
            path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            evaluation,
        ));
    }
    Ok(found)
}
