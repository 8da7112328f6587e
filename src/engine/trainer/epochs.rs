//! The end of an epoch: evaluation, the best so far, warnings.

use std::{collections::BTreeMap, time::Instant};

use super::Trainer;
use crate::{
    engine::{Best, EpochReport, Evaluating, Event, TrainError, WarningReport, event},
    evaluation::{self, EvaluateError, EvaluationEvent, Shard, Warning},
    runs::Slot,
};

impl Trainer<'_> {
    /// Evaluates and checkpoints; `false` where the person stopped the evaluation.
    pub(in crate::engine) fn finish_epoch(&mut self) -> Result<bool, TrainError> {
        let epoch = self.progress.epoch + 1;
        let due = epoch.is_multiple_of(self.recipe.evaluation.every) || epoch == self.recipe.epochs;
        let accuracy = if due {
            let Some(accuracy) = self.evaluate(epoch)? else {
                return Ok(false);
            };
            accuracy
        } else {
            Default::default()
        };
        let chooser = event::chooser(&self.recipe.evaluation.attacks);
        let found = Best::of(epoch, &accuracy, chooser)
            .filter(|found| self.progress.best.as_ref().is_none_or(|best| found.replaces(best)))
            .map(|found| found.after(self.progress.best.as_ref()));
        let best = found.is_some();
        if best {
            self.progress.best = found;
        }
        let report = EpochReport {
            epoch,
            epochs: self.recipe.epochs,
            total_steps: self.progress.total_steps,
            train: self.progress.take_epoch(),
            accuracy,
            split: self.data.split.to_string(),
            n: self.data.evaluated.len(),
            epsilon: self.recipe.threat.epsilon.to_string(),
            best,
            clock: self.clock(),
        };
        self.progress.reports.push(report.clone());
        self.tell(Event::Epoch(report))?;
        let warnings = evaluation::training_warnings(&event::history(&self.progress.reports, chooser));
        self.warn(epoch, warnings)?;
        self.progress.epoch += 1;
        self.progress.step = 0;
        if best {
            self.save(Slot::Best)?;
        }
        self.save(Slot::Last)?;
        Ok(true)
    }

    /// Accuracy by attack on the split that chooses; `None` where the person stopped it.
    pub(super) fn evaluate(&mut self, epoch: usize) -> Result<Option<BTreeMap<String, f64>>, TrainError> {
        let began = Instant::now();
        let mut suite = self.recipe.evaluation.suite()?;
        (suite.batch_size, suite.seed, suite.probes) = (self.recipe.batch_size, self.recipe.seed, false);
        let shard = Shard {
            number: self.group.rank() + 1,
            of: self.group.size().get(),
        };
        let examined = shard.of_dataset(&self.data.evaluated);
        let observer = &mut *self.observer;
        let mut pass_on = |event: EvaluationEvent| {
            if let EvaluationEvent::Progress { attack, done, of, .. } = event {
                observer.event(&Event::Evaluating(Evaluating {
                    epoch,
                    attack,
                    done,
                    of,
                }));
            }
        };
        let evaluation = evaluation::evaluate(
            self.average.as_ref().unwrap_or(&self.model),
            &examined,
            &suite,
            &self.recipe.threat,
            self.device,
            self.control,
            &mut pass_on,
        );
        self.device.release();
        self.evaluating_seconds += began.elapsed().as_secs_f64();
        let evaluation = match evaluation {
            Ok(evaluation) => Some(evaluation),
            Err(EvaluateError::Stopped { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(self.accuracy_of_all(evaluation))
    }

    /// Passes warnings on, each kind once in a run.
    pub(super) fn warn(&mut self, epoch: usize, warnings: Vec<Warning>) -> Result<(), TrainError> {
        for warning in warnings {
            let report = WarningReport {
                epoch,
                kind: warning.anchor().to_string(),
                message: warning.headline(),
                advice: warning.advice().to_string(),
            };
            if !self.progress.warned.contains(&report.kind) {
                self.progress.warned.push(report.kind.clone());
                self.tell(Event::Warning(report))?;
            }
        }
        Ok(())
    }
}
