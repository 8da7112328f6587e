//! Outer minimisation: how a defence turns a minibatch into the loss that the weights descend.
//!
//! A defence is one file with one `impl` of [`Defence`] and one line in [`DefenceSpec::build`]. Most say only what
//! their loss is; who climbs something else than the cross-entropy says how ([`Defence::perturb`]), and who moves
//! weights or images around the backward pass says that ([`Defence::gradients`]).

mod dynamic;
mod free;
mod mart;
mod mma;
mod n_fgsm;
mod natural;
mod pairing;
mod semi_supervised;
mod spec;
mod standard;
mod subset;
mod trades;
mod uat;
mod weight_perturbation;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use burn::tensor::{Tensor, TensorData};

use crate::{
    attacks::{AttackError, Pgd, maximise},
    compute::{self, Device, DeviceError},
    losses,
    nn::{Flat, MissingGradient, Model},
    random::Rng,
    shapes::{Batch, Images, Labels, Logits, PerExample},
    threat::ThreatModel,
};

pub use dynamic::{criterion_at, first_order_stationarity};
pub use mart::{Ablation, Classification, InnerObjective};
pub use mma::{adaptive_attack, margin_along};
pub use pairing::Pairing;
pub use semi_supervised::SemiSupervised;
pub use spec::DefenceSpec;
pub use subset::{Members, MembersError, Side, Treatment};
pub use weight_perturbation::WeightPerturbation;

use standard::Standard;

/// What a defence sees of the step that it takes part in.
pub struct StepContext<'a> {
    /// The attacked model as a function: its weights take no gradient, its mode is the recipe's.
    pub attacked: &'a dyn Fn(Images) -> Logits,
    /// The threat model of this step; its epsilon may still be warming up.
    pub threat: &'a ThreatModel,
    /// The numbers of the inner maximisation.
    pub pgd: &'a Pgd,
    /// The share of each target that the outer cross-entropy gives to all classes evenly.
    pub label_smoothing: f32,
    /// Epochs done.
    pub epoch: usize,
    /// A generator for each example of the minibatch.
    pub rngs: &'a mut [Rng],
    /// How long the inner maximisation took, as the host sees it: on a GPU, which works later, this says nothing.
    pub attacking: Duration,
}

impl StepContext<'_> {
    /// The cross-entropy of the outer minimisation, with the recipe's label smoothing.
    ///
    /// # Shapes
    /// `[N, K]`, `[N]` → `[N]`.
    pub fn cross_entropy(&self, logits: Logits, labels: Labels) -> PerExample {
        losses::smoothed_cross_entropy(logits, labels, self.label_smoothing)
    }
}

/// A defence's verdict on a minibatch.
pub struct Loss {
    /// What the weights descend the mean of.
    pub objective: PerExample,
    /// The terms that it is made of, each per example, under the names that curves carry.
    pub terms: Vec<(&'static str, PerExample)>,
    /// The outer pass over the natural images, where the defence makes one.
    pub natural_logits: Option<Logits>,
    /// The outer pass over the adversarial images, where the defence makes one.
    pub adversarial_logits: Option<Logits>,
    /// The adversarial images, where the defence makes any.
    pub adversarial: Option<Images>,
}

/// What a defence remembers from minibatch to minibatch, on the host, by name: a part of checkpoints.
pub type Memory = BTreeMap<String, Vec<f32>>;

/// Why a defence could not do its part of a step.
#[derive(Debug, thiserror::Error)]
pub enum DefenceError {
    /// The inner maximisation failed.
    #[error(transparent)]
    Attack(#[from] AttackError),
    /// The parameters got no gradient.
    #[error(transparent)]
    MissingGradient(#[from] MissingGradient),
}

/// A way of training: `min_θ Σ loss(θ, x, perturb(θ, x))`.
pub trait Defence: Send {
    /// Inner maximisation: the images that the loss is then taken on. Without a word of the defence's own, those that
    /// climb the cross-entropy.
    ///
    /// # Shapes
    /// The result: `[N, C, H, W]`.
    ///
    /// # Errors
    /// When the attack fails.
    ///
    /// # Source
    /// Equation 10; Table 1 makes the images so for every method but TRADES and MMA.
    fn perturb(&mut self, batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
        climb_cross_entropy(batch, step)
    }

    /// Outer minimisation: the loss at `adversarial`.
    ///
    /// `model` records gradients of its weights and is in training. It need not be the model that was attacked: its
    /// weights may have moved since.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss;

    /// The loss of one minibatch and the gradient that the optimiser descends; `model` itself stays as it is, but for
    /// its running statistics.
    ///
    /// # Errors
    /// When the attack fails or the parameters get no gradient.
    fn gradients(
        &mut self,
        model: &Model,
        batch: &Batch,
        step: &mut StepContext,
    ) -> Result<(Loss, Flat), DefenceError> {
        let adversarial = timed_perturb(self, batch, step)?;
        let tracked = model.tracked();
        let loss = self.loss(&tracked, batch, adversarial, step);
        let gradient = descent(&tracked, &loss)?;
        Ok((loss, gradient))
    }

    /// How many times a minibatch is trained on before the next one comes.
    fn replays(&self) -> usize {
        1
    }

    /// What the next minibatch depends on beside the weights. A sync point where it is not empty.
    ///
    /// # Errors
    /// When the device failed.
    fn memory(&self) -> Result<Memory, DeviceError> {
        Ok(Memory::new())
    }

    /// Takes up what [`Defence::memory`] gave.
    fn recall(&mut self, _: Memory, _: &Device) {}
}

/// [`Defence::perturb`], timed.
fn timed_perturb<D: Defence + ?Sized>(
    defence: &mut D,
    batch: &Batch,
    step: &mut StepContext,
) -> Result<Images, AttackError> {
    let began = Instant::now();
    let adversarial = defence.perturb(batch, step)?;
    step.attacking += began.elapsed();
    Ok(adversarial)
}

/// Equation 10.
fn climb_cross_entropy(batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
    let climb = |images| losses::cross_entropy((step.attacked)(images), batch.labels.clone());
    maximise(&climb, &batch.images, step.threat, step.pgd, step.rngs)
}

/// The gradient of the mean objective with respect to the parameters of a tracked model.
fn descent(tracked: &Model, loss: &Loss) -> Result<Flat, MissingGradient> {
    tracked.gradient(&mut compute::mean_backward(loss.objective.clone()))
}

/// 1 where the index of an example is chosen, 0 elsewhere, `[N]`: batches keep their shape whatever is chosen, so that a
/// GPU sees one.
fn marked(batch: &Batch, chosen: impl Fn(usize) -> bool) -> PerExample {
    let marks: Vec<f32> = batch.indices.iter().map(|index| f32::from(chosen(*index))).collect();
    Tensor::from_data(TensorData::new(marks, [batch.len()]), &batch.images.device())
}

/// Each image's value where its example's is, `[N]` → `[N, C, H, W]`.
fn over_pixels(values: PerExample, images: &Images) -> Tensor<4> {
    let [examples, channels, height, width] = images.dims();
    values
        .reshape([examples, 1, 1, 1])
        .expand([examples, channels, height, width])
}
