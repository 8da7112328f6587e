//! A process's part of the work, and what the group makes of all parts.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};

use super::Trainer;
use crate::{
    compute::{self, Exchange, Said},
    control::Next,
    engine::{
        TrainError,
        group::{Group, Share},
    },
    evaluation::Evaluation,
    nn::{Flat, Model},
    runs::Checkpoint,
    shapes::Batch,
};

impl Trainer<'_> {
    /// This process's rows of a minibatch.
    pub(super) fn share(&self, examples: usize) -> Share {
        Share::of(examples, self.group.rank(), self.group.size())
    }

    /// This process's examples of a minibatch, augmented. Every process draws for all, so that an example looks the same whoever has it.
    pub(in crate::engine) fn batch(&mut self, indices: &[usize]) -> Batch {
        let rows = self.share(indices.len()).rows;
        let augmentation = &self.recipe.data.augmentation;
        let train = &self.data.train;
        train.augmented_batch(indices, rows, augmentation, &mut self.progress.rng, self.device)
    }

    /// Whether the work was asked to end, by whoever asked one of the group. Called before each minibatch.
    pub(in crate::engine) fn is_stopped(&self) -> bool {
        let own = self.control.next() == Next::Stop;
        if self.group.is_alone() { own } else { self.is_stopped }
    }

    /// The gradient of the whole minibatch from those of the processes' shares, weighted by their examples. Running statistics of BatchNorms,
    /// which each process took of its own share, become their mean; a stop that one was asked for becomes everybody's. A sync point.
    pub(super) fn join(&mut self, gradient: Flat, share: &Share) -> Result<Flat, TrainError> {
        let statistics = self.model.statistics();
        let (parameters, normed) = (gradient.dims()[0], statistics.dims()[0]);
        let mut message = compute::read(gradient)?;
        message.extend(compute::read(statistics)?);
        message.iter_mut().for_each(|value| *value *= share.weight);
        message.push(f32::from(self.control.is_stopped()));
        self.group.sum(&mut message);
        self.is_stopped = message.pop().is_some_and(|stops| stops > 0.0);
        let statistics = message.split_off(parameters);
        let on_device = |values: Vec<f32>| -> Flat {
            let length = values.len();
            Tensor::from_data(TensorData::new(values, [length]), self.device.tensors())
        };
        if normed > 0 {
            self.model.set_statistics(on_device(statistics));
        }
        Ok(on_device(message))
    }

    /// The accuracies over everybody's share of the examples; none where one of the group was stopped.
    pub(super) fn accuracy_of_all(&self, own: Option<Evaluation>) -> Option<BTreeMap<String, f64>> {
        let mut stops = [f32::from(own.is_none())];
        self.group.sum(&mut stops);
        let own = own.filter(|_| stops[0] == 0.0)?;
        // Counts below 2²⁴ are exact.
        let mut counts: Vec<f32> = own
            .attacks
            .iter()
            .map(|attack| attack.standing.correct as f32)
            .collect();
        counts.push(own.worst_case.correct as f32);
        self.group.sum(&mut counts);
        let of = self.data.evaluated.len() as f64;
        let names = own.accuracy.0.into_iter().map(|(name, _)| name);
        Some(
            names
                .zip(counts)
                .map(|(name, count)| (name, f64::from(count) / of))
                .collect(),
        )
    }
}

/// Carries `work` out with BatchNorms that take their statistics of everybody's images: on a thread of its own, while this one, which alone
/// speaks to the group, answers what the network asks for.
pub(super) fn normalising_together<T: Send>(
    model: &Model,
    weight: f32,
    group: &dyn Group,
    work: impl FnOnce() -> T + Send,
) -> T {
    /// Ends the exchange, whatever becomes of the work.
    struct Ends(Exchange);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.done();
        }
    }
    let (exchange, heard) = Exchange::new(weight);
    model.normalise_with(Some(exchange.clone()));
    let done = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let _ends = Ends(exchange);
            work()
        });
        while let Ok(Said::Sum(mut values, reply)) = heard.recv() {
            group.sum(&mut values);
            // A network that failed meanwhile hears no answer.
            let _ = reply.send(values);
        }
        worker.join()
    });
    model.normalise_with(None);
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Rank 0's checkpoint, on every process.
pub(super) fn same_for_all(own: Option<Checkpoint>, group: &dyn Group) -> Result<Option<Checkpoint>, TrainError> {
    if group.is_alone() {
        return Ok(own);
    }
    let mut bytes = match &own {
        Some(checkpoint) => checkpoint.to_bytes()?,
        None => Vec::new(),
    };
    group.broadcast(0, &mut bytes);
    match bytes.as_slice() {
        [] => Ok(None),
        bytes => Ok(Some(Checkpoint::from_bytes(bytes)?)),
    }
}
