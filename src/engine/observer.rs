//! Who looks at training while it runs, and may change its course.

use serde::{Deserialize, Serialize};

use super::Event;
use crate::nn::Model;

/// The share of the time that looking at training takes where nobody chose another.
pub const LOOKING_SHARE: f64 = 0.05;

/// Looks at training while it runs. Every closure over events is one.
///
/// All but [`Observer::event`] cost nothing where they are not asked for. They are called on the training thread between
/// minibatches: what takes long belongs on another thread.
pub trait Observer {
    /// Something happened.
    fn event(&mut self, event: &Event);

    /// Whether it wants to know how each training example fares.
    fn wants_examples(&self) -> bool {
        false
    }

    /// The share of the time that training spends on this observer alone: on natural images that the defence itself does
    /// not look at.
    fn looking_share(&self) -> f64 {
        LOOKING_SHARE
    }

    /// How the examples of the minibatches since the last call fared.
    fn examples(&mut self, examples: Examples) {
        let _ = examples;
    }

    /// Whether it wants the model as it is now.
    fn wants_model(&self) -> bool {
        false
    }

    /// The model as it is now; whoever keeps it clones it.
    fn model(&mut self, model: &Model, total_steps: usize) {
        let _ = (model, total_steps);
    }

    /// Changes to the course of training, each asked for once.
    fn adjustments(&mut self) -> Vec<Adjustment> {
        Vec::new()
    }
}

impl<F: FnMut(&Event)> Observer for F {
    fn event(&mut self, event: &Event) {
        self(event);
    }
}

/// A change that a person makes while training runs; it is kept in the run, and a resumed run keeps to it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "field", content = "value", rename_all = "kebab-case")]
pub enum Adjustment {
    /// The weight of the regulariser, where the defence has one.
    Lambda(f32),
    /// The rate that the schedule scales.
    LearningRate(f64),
    /// Epochs between two evaluations.
    EvaluateEvery(usize),
}

impl std::fmt::Display for Adjustment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lambda(lambda) => write!(f, "λ = {lambda}"),
            Self::LearningRate(rate) => write!(f, "learning rate {rate}"),
            Self::EvaluateEvery(1) => f.write_str("evaluation after every epoch"),
            Self::EvaluateEvery(epochs) => write!(f, "evaluation every {epochs} epochs"),
        }
    }
}

/// What the model said to a few training examples, before the step that they led to.
#[derive(Debug, Clone)]
pub struct Examples {
    /// Epoch, from 1.
    pub epoch: usize,
    /// Each example's position in the training set as it is stored.
    pub indices: Vec<usize>,
    /// The logits of the natural images, `[N, K]` row by row, where they are known.
    pub natural: Option<Vec<f32>>,
    /// The logits of the adversarial images, where there are any.
    pub adversarial: Option<Vec<f32>>,
}
