//! Outer minimisation: how a defence turns a minibatch into the loss that the weights descend.
//!
//! A defence is one file with one `impl` of [`Defence`] and one line in [`DefenceSpec::build`].

mod mart;
mod natural;
mod standard;
mod trades;

use std::fmt;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::{
    attacks::{AttackError, Pgd},
    losses::Form,
    nn::Model,
    random::Rng,
    shapes::{Batch, Images, Logits, PerExample},
    threat::ThreatModel,
};

/// What a defence sees of the step that it takes part in.
pub struct StepContext<'a> {
    /// The attacked model as a function: its weights take no gradient, its mode is the recipe's.
    pub attacked: &'a dyn Fn(Images) -> Logits,
    /// The threat model of this step; its epsilon may still be warming up.
    pub threat: &'a ThreatModel,
    /// The numbers of the inner maximisation.
    pub pgd: &'a Pgd,
    /// The run's generator.
    pub rng: &'a mut Rng,
}

/// A defence's verdict on a minibatch.
pub struct Loss {
    /// The scalar that the weights descend, `[1]`.
    pub objective: Tensor<1>,
    /// The terms that it is made of, each per example, under the names that curves carry.
    pub terms: Vec<(&'static str, PerExample)>,
    /// The outer pass over the natural images, where the defence makes one.
    pub natural_logits: Option<Logits>,
    /// The outer pass over the adversarial images, where the defence makes one.
    pub adversarial_logits: Option<Logits>,
    /// The adversarial images, where the defence makes any.
    pub adversarial: Option<Images>,
}

/// A way of training.
pub trait Defence {
    /// The loss of one minibatch.
    ///
    /// `model` records gradients of its weights and is in training; attacks go through `step.attacked`.
    ///
    /// # Errors
    /// When the inner maximisation fails.
    fn loss(&mut self, model: &Model, batch: &Batch, step: &mut StepContext) -> Result<Loss, AttackError>;
}

/// A defence with its numbers, as a recipe holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DefenceSpec {
    /// Cross-entropy on natural images: no defence at all.
    Natural,
    /// Cross-entropy on adversarial images (Madry et al., 2018).
    Standard,
    /// Natural cross-entropy plus λ·KL, the attack climbing the KL (Zhang et al., 2019).
    Trades {
        /// The weight of the KL term; its authors use 6, the MART paper 4.
        lambda: f32,
    },
    /// Misclassification-aware adversarial training (the paper).
    Mart {
        /// The weight of the regulariser; the paper uses 5, in its ablations 6.
        lambda: f32,
        /// The paper's equations or the released code's.
        form: Form,
    },
}

impl DefenceSpec {
    /// The defence itself.
    pub fn build(&self) -> Box<dyn Defence> {
        match *self {
            DefenceSpec::Natural => Box::new(natural::Natural),
            DefenceSpec::Standard => Box::new(standard::Standard),
            DefenceSpec::Trades { lambda } => Box::new(trades::Trades { lambda }),
            DefenceSpec::Mart { lambda, form } => Box::new(mart::Mart { lambda, form }),
        }
    }

    /// The name that a recipe uses.
    pub fn name(&self) -> &'static str {
        match self {
            DefenceSpec::Natural => "natural",
            DefenceSpec::Standard => "standard",
            DefenceSpec::Trades { .. } => "trades",
            DefenceSpec::Mart { .. } => "mart",
        }
    }

    /// Whether an inner maximisation takes part.
    pub fn attacks(&self) -> bool {
        *self != DefenceSpec::Natural
    }

    /// λ, where the defence has one.
    pub fn lambda(&self) -> Option<f32> {
        match self {
            DefenceSpec::Trades { lambda } | DefenceSpec::Mart { lambda, .. } => Some(*lambda),
            _ => None,
        }
    }

    /// Sets λ; `false` where the defence has none.
    pub fn set_lambda(&mut self, value: f32) -> bool {
        match self {
            DefenceSpec::Trades { lambda } | DefenceSpec::Mart { lambda, .. } => {
                *lambda = value;
                true
            }
            _ => false,
        }
    }
}

impl fmt::Display for DefenceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DefenceSpec::Natural => write!(f, "natural training"),
            DefenceSpec::Standard => write!(f, "Standard"),
            DefenceSpec::Trades { lambda } => write!(f, "TRADES (λ = {lambda})"),
            DefenceSpec::Mart {
                lambda,
                form: Form::Paper,
            } => write!(f, "MART (λ = {lambda})"),
            DefenceSpec::Mart {
                lambda,
                form: Form::Released,
            } => write!(f, "MART (λ = {lambda}, released code)"),
        }
    }
}
