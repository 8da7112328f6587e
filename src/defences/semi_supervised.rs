//! Training with unlabelled images (section 3.3): any defence, its loss on pseudo-labelled examples weighted by γ.

use burn::tensor::{Tensor, TensorData};

use super::{Defence, Loss, Memory, StepContext};
use crate::{
    attacks::AttackError,
    compute::{Device, DeviceError},
    nn::Model,
    shapes::{Batch, Images},
};

/// A defence whose examples from index `labelled` on bear labels of a model.
///
/// The index is the example's in a set that [`crate::data::Dataset::with_pseudo_labelled`] made. TRADES so is RST (Carmon et al., 2019), `uat` is UAT++ (Uesato et al., 2019), and MART is the paper's own extension.
pub struct SemiSupervised {
    /// The defence.
    pub inner: Box<dyn Defence>,
    /// The examples that bear labels of their own.
    pub labelled: usize,
    /// γ.
    pub weight: f32,
}

impl Defence for SemiSupervised {
    fn perturb(&mut self, batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
        self.inner.perturb(batch, step)
    }

    /// `Σ_sup ℓ(x, y) + γ·Σ_unsup ℓ(x, ŷ)`, over the whole minibatch's size; ℓ is the inner defence's.
    ///
    /// # Source
    /// Section 3.3, the semi-supervised loss of MART, which takes the place of equation 11.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        let mut loss = self.inner.loss(model, batch, adversarial, step);
        let weights: Vec<f32> = batch
            .indices
            .iter()
            .map(|index| if *index < self.labelled { 1.0 } else { self.weight })
            .collect();
        let device = batch.images.device();
        loss.objective = loss.objective * Tensor::from_data(TensorData::new(weights, [batch.len()]), &device);
        loss
    }

    fn memory(&self) -> Result<Memory, DeviceError> {
        self.inner.memory()
    }

    fn recall(&mut self, memory: Memory, device: &Device) {
        self.inner.recall(memory, device);
    }
}
