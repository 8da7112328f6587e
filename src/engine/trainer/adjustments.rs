//! What a person changes while training runs.

use super::Trainer;
use crate::engine::{Adjusted, Adjustment, Event, TrainError};

impl Trainer<'_> {
    /// Takes up what a person changed since the last minibatch.
    pub(super) fn adjust(&mut self) -> Result<(), TrainError> {
        for adjustment in self.observer.adjustments() {
            if self.apply(adjustment) {
                self.progress.adjustments.push(adjustment);
                self.tell(Event::Adjusted(Adjusted {
                    epoch: self.progress.epoch + 1,
                    total_steps: self.progress.total_steps,
                    change: adjustment,
                }))?;
            }
        }
        Ok(())
    }

    /// Applies a change; `false` where it makes no sense for this recipe.
    pub(super) fn apply(&mut self, adjustment: Adjustment) -> bool {
        let mut changed = self.recipe.clone();
        match adjustment {
            Adjustment::Lambda(lambda) => {
                changed.defence.set_lambda(lambda);
            }
            Adjustment::LearningRate(rate) => changed.optimiser.learning_rate = rate,
            Adjustment::EvaluateEvery(epochs) => changed.evaluation.every = epochs,
        }
        if changed == self.recipe || changed.validate().is_err() {
            return false;
        }
        if changed.defence != self.recipe.defence {
            let mut defence = changed.build_defence(self.data.train.labelled());
            // What it learnt of single examples stays; on a device that fails, the next read says so.
            if let Ok(memory) = self.defences.defence.memory() {
                defence.recall(memory, self.device);
            }
            self.defences.defence = defence;
        }
        self.recipe = changed;
        true
    }
}
