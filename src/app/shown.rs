//! A run as the window shows it, read from its folder or growing before one's eyes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Result;

use super::{examples::Book, series::Series};
use crate::{
    engine::{Adjusted, EpochReport, Evaluating, Event, Started, StepReport, WarningReport},
    recipe::Recipe,
    report::{Ending, RunReport},
    runs::Run,
};

/// A run and its curves.
pub struct Shown {
    /// The run's folder.
    pub folder: PathBuf,
    /// Its name.
    pub name: String,
    /// What it trains.
    pub recipe: Recipe,
    /// The device's name and interface.
    pub device: String,
    /// The colour of its curves, a number for [`super::theme::series`].
    pub colour: usize,
    /// Whether its curves are drawn.
    pub visible: bool,
    /// Curves by name against epochs.
    pub curves: BTreeMap<String, Series>,
    /// The epochs' results.
    pub epochs: Vec<EpochReport>,
    /// What training warned of.
    pub warnings: Vec<WarningReport>,
    /// What a person changed on the way.
    pub adjustments: Vec<Adjusted>,
    /// The last minibatches' figures.
    pub last: Option<StepReport>,
    /// The shape of the work, once a session began here.
    pub started: Option<Started>,
    /// The evaluation under way.
    pub evaluating: Option<Evaluating>,
    /// How it ended.
    pub ending: Ending,
    /// How each training example fares; known while it trains here.
    pub book: Option<Book>,
    /// Whether the book of an earlier run was asked for.
    pub book_asked: bool,
    /// Minibatches in an epoch.
    steps_per_epoch: usize,
}

impl Shown {
    /// Reads a run from its folder.
    ///
    /// # Errors
    /// When the folder is no run or is damaged.
    pub fn read(folder: &Path, colour: usize) -> Result<Self> {
        let report = RunReport::read(&Run::open(folder)?)?;
        let examples = report.identity["data"]["examples"].as_u64().unwrap_or(1) as usize;
        let info = &report.identity["device"]["info"];
        let text = |key: &str| info[key].as_str().unwrap_or("?").to_string();
        let batch = report.recipe.batch_size.max(1);
        // What an epoch took tells it with unlabelled images too, of which an epoch takes as many as it needs.
        let steps_per_epoch = match report.epochs.first() {
            Some(first) => first.total_steps / first.epoch.max(1),
            None if report.recipe.data.drop_last => examples / batch,
            None => examples.div_ceil(batch),
        };
        let mut shown = Self {
            folder: folder.to_path_buf(),
            name: report.name,
            recipe: report.recipe,
            device: format!("{} ({})", text("name"), text("api")),
            colour,
            visible: true,
            curves: BTreeMap::new(),
            epochs: Vec::new(),
            warnings: report.warnings,
            adjustments: report.adjustments,
            last: None,
            started: None,
            evaluating: None,
            ending: report.ending,
            book: None,
            book_asked: false,
            steps_per_epoch: steps_per_epoch.max(1),
        };
        for step in report.steps {
            shown.step(step);
        }
        for epoch in report.epochs {
            shown.epoch(epoch);
        }
        Ok(shown)
    }

    /// Takes an event of the run as it trains.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Started(started) => {
                self.steps_per_epoch = started.steps_per_epoch.max(1);
                self.started = Some(started);
                self.ending = Ending::Open;
            }
            Event::Step(step) => self.step(step),
            Event::Evaluating(progress) => self.evaluating = Some(progress),
            Event::Epoch(epoch) => {
                self.evaluating = None;
                self.epoch(epoch);
            }
            Event::Warning(warning) => self.warnings.push(warning),
            Event::Adjusted(adjusted) => self.adjustments.push(adjusted),
            Event::Finished(ended) => self.ending = Ending::Finished(ended),
            Event::Stopped(ended) => self.ending = Ending::Stopped(ended),
        }
    }

    fn step(&mut self, step: StepReport) {
        self.evaluating = None;
        let x = self.epochs_at(step.total_steps);
        let mut push = |name: &str, y: f64| self.curves.entry(name.to_string()).or_default().push(x, y);
        for (name, value) in &step.figures {
            push(name, *value);
            if name == "natural_accuracy" {
                push("misclassified", 1.0 - value);
            }
        }
        push("learning_rate", step.learning_rate);
        push("epsilon", step.epsilon);
        self.last = Some(step);
    }

    fn epoch(&mut self, epoch: EpochReport) {
        let x = self.epochs_at(epoch.total_steps);
        for (attack, accuracy) in &epoch.accuracy {
            self.curves
                .entry(format!("held-out {attack}"))
                .or_default()
                .push(x, *accuracy);
        }
        self.epochs.push(epoch);
    }

    /// A moment of the run in epochs.
    pub fn epochs_at(&self, total_steps: usize) -> f64 {
        total_steps as f64 / self.steps_per_epoch as f64
    }

    /// The share of the run that is done.
    pub fn progress(&self) -> f32 {
        let done = self.last.as_ref().map_or(0, |step| step.total_steps);
        (done as f64 / (self.steps_per_epoch * self.recipe.epochs).max(1) as f64) as f32
    }

    /// Seconds until the end at the pace so far, evaluations included, pauses not.
    pub fn seconds_left(&self) -> Option<f64> {
        let (started, step) = (self.started.as_ref()?, self.last.as_ref()?);
        let done = self.work(step.total_steps) - self.work(started.steps_done);
        let all = self.work(started.steps_per_epoch * started.epochs);
        (done > 0.0).then(|| step.clock.seconds / done * (all - self.work(step.total_steps)))
    }

    /// The work of so many minibatches, in forward passes: a backward pass is two of them, one for the images alone one. The
    /// epochs of natural training at the beginning are cheap, and would promise an end far too soon.
    fn work(&self, total_steps: usize) -> f64 {
        let natural = total_steps.min(self.recipe.warm_up.natural_epochs * self.steps_per_epoch);
        let attack = match self.recipe.defence.attacks() {
            true => 2.0 * self.recipe.attack.steps as f64 + 1.0,
            false => 0.0,
        };
        3.0 * natural as f64 + (3.0 + attack) * (total_steps - natural) as f64
    }

    /// Minibatches a second, evaluations left out.
    pub fn pace(&self) -> Option<f64> {
        let (started, step) = (self.started.as_ref()?, self.last.as_ref()?);
        let done = step
            .total_steps
            .checked_sub(started.steps_done)
            .filter(|done| *done > 0)?;
        let seconds = step.clock.seconds - step.clock.evaluating;
        (seconds > 0.0).then(|| done as f64 / seconds)
    }

    /// Whether a warning holds still: a robust accuracy that has risen to a new best since does not fall any more.
    pub fn still_holds(&self, warning: &WarningReport) -> bool {
        warning.kind != "robust-overfitting" || self.best().is_none_or(|best| best.epoch <= warning.epoch)
    }

    /// The epoch whose checkpoint is the best so far.
    pub fn best(&self) -> Option<&EpochReport> {
        self.epochs.iter().rev().find(|epoch| epoch.best)
    }
}
