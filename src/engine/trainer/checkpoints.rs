//! What is kept of a training, and when.

use std::time::{Duration, Instant};

use super::Trainer;
use crate::{
    engine::{
        TrainError,
        progress::{self, Rest},
    },
    runs::{Checkpoint, Slot},
};

/// Saving takes at most this share of the time between two checkpoints of a run.
const CHECKPOINT_SHARE: f64 = 0.02;

impl Trainer<'_> {
    pub(super) fn save(&mut self, slot: Slot) -> Result<(), TrainError> {
        self.read_figures()?;
        if self.run.is_none() {
            return Ok(());
        }
        let began = Instant::now();
        let (weights, trained) = match &self.average {
            Some(average) => (progress::weights(average)?, Some(progress::weights(&self.model)?)),
            None => (progress::weights(&self.model)?, None),
        };
        let rest = Rest {
            velocity: self.sgd.velocity.clone(),
            trained,
            memory: self.defences.defence.memory()?,
        };
        let checkpoint = Checkpoint {
            weights,
            optimiser: rest.into_arrays(&self.model)?,
            progress: self.progress.to_json(),
        };
        if let Some(run) = &mut self.run {
            run.save(slot, &checkpoint)?;
        }
        self.saved = Instant::now();
        self.save_seconds = began.elapsed().as_secs_f64();
        Ok(())
    }

    pub(in crate::engine) fn checkpoint_when_due(&mut self) -> Result<(), TrainError> {
        let shortest = self.recipe.checkpoint_seconds;
        // 0 asks for a checkpoint after every minibatch, whatever it costs.
        let pause = if shortest > 0.0 {
            shortest.max(self.save_seconds / CHECKPOINT_SHARE)
        } else {
            0.0
        };
        if self.saved.elapsed() >= Duration::from_secs_f64(pause) {
            self.save(Slot::Last)
        } else {
            Ok(())
        }
    }
}
