//! What a step measured: queued on the device, read together, told.

use std::time::Instant;

use burn::tensor::{Tensor, TensorData};

use super::{Told, Trainer};
use crate::{
    compute,
    defences::Loss,
    engine::{Event, Examples, StepReport, TrainError},
    evaluation::Warning,
    nn::Mode,
    shapes::{Batch, Labels, Logits},
};

impl Trainer<'_> {
    /// Queues the step's figures on the device, to be read together later; at once where a group has to make one of its shares' means.
    pub(super) fn note(
        &mut self,
        loss: &Loss,
        norm: Tensor<1>,
        batch: &Batch,
        examples: usize,
    ) -> Result<(), TrainError> {
        let mut names = vec!["loss"];
        let mut figures = vec![loss.objective.clone().inner().mean()];
        for (name, values) in &loss.terms {
            names.push(name);
            figures.push(values.clone().inner().mean());
        }
        for (name, logits) in [
            ("natural_accuracy", &loss.natural_logits),
            ("adversarial_accuracy", &loss.adversarial_logits),
        ] {
            if let Some(logits) = logits {
                names.push(name);
                figures.push(accuracy(logits, &batch.labels));
            }
        }
        names.push("gradient_norm");
        figures.push(norm);
        self.progress.name_figures(names);
        let mut figures = Tensor::cat(figures, 0);
        if !self.group.is_alone() {
            let weight = self.share(examples).weight;
            let mut values = compute::read(figures)?;
            values.iter_mut().for_each(|value| *value *= weight);
            self.group.sum(&mut values);
            let width = values.len();
            figures = Tensor::from_data(TensorData::new(values, [width]), self.device.tensors());
        }
        self.unread.push((figures, examples));
        if self.observer.wants_examples() {
            let natural = match &loss.natural_logits {
                Some(logits) => Some(logits.clone().inner()),
                None => self.look(batch),
            };
            self.unread_examples.push(Told {
                indices: batch.indices.clone(),
                natural,
                adversarial: loss.adversarial_logits.clone().map(Tensor::inner),
            });
        }
        Ok(())
    }

    /// What the model says to natural images that the defence does not look at, as far as the observer's share of the
    /// time allows.
    pub(super) fn look(&mut self, batch: &Batch) -> Option<Logits> {
        let began = Instant::now();
        if self.looking_seconds > self.observer.looking_share() * self.started.elapsed().as_secs_f64() {
            return None;
        }
        let logits = self.model.forward(batch.images.clone(), Mode::Eval);
        self.looking_seconds += began.elapsed().as_secs_f64();
        Some(logits)
    }

    /// Passes on what is known of single examples; the device has computed it already.
    pub(super) fn tell_examples(&mut self) -> Result<(), TrainError> {
        for told in std::mem::take(&mut self.unread_examples) {
            let examples = Examples {
                epoch: self.progress.epoch + 1,
                indices: told.indices,
                natural: told.natural.map(compute::read).transpose()?,
                adversarial: told.adversarial.map(compute::read).transpose()?,
            };
            self.observer.examples(examples);
        }
        Ok(())
    }

    /// Reads what was queued. This is the sync point: a lost device shows here.
    pub(super) fn read_figures(&mut self) -> Result<(), TrainError> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let width = self.progress.names.len();
        let first = self.progress.step - self.unread.len();
        let (unread, examples): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unread).into_iter().unzip();
        let values = compute::read(Tensor::cat(unread, 0))?;
        for (offset, (row, examples)) in values.chunks(width).zip(examples).enumerate() {
            if let Some(position) = row.iter().position(|value| !value.is_finite()) {
                let (what, epoch) = (self.progress.names[position].clone(), self.progress.epoch + 1);
                self.warn(epoch, vec![Warning::NotANumber { epoch }])?;
                return Err(TrainError::NotFinite {
                    what,
                    epoch,
                    step: first + offset + 1,
                });
            }
            self.progress.add(row, examples);
        }
        Ok(())
    }

    pub(super) fn report(&mut self) -> Result<(), TrainError> {
        self.read_figures()?;
        self.tell_examples()?;
        let report = StepReport {
            epoch: self.progress.epoch + 1,
            step: self.progress.step,
            total_steps: self.progress.total_steps,
            learning_rate: self.progress.learning_rate,
            epsilon: self.progress.epsilon,
            figures: self.progress.take_window(),
            clock: self.clock(),
        };
        self.tell(Event::Step(report))
    }
}

/// The share of rows whose strongest class is the label, `[1]`.
fn accuracy(logits: &Logits, labels: &Labels) -> Tensor<1> {
    let predicted: Labels = logits.clone().inner().argmax(1).reshape([labels.dims()[0]]);
    predicted.equal(labels.clone()).float().mean()
}
