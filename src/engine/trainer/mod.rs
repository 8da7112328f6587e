//! A session of training: what [`super::train`] does, step by step.

mod adjustments;
mod checkpoints;
mod epochs;
mod figures;
mod shares;

use std::time::{Duration, Instant};

use burn::tensor::Tensor;

use super::{
    Clock, Ended, Event, Observer, Sgd, Started, TrainError, TrainingData,
    group::Group,
    progress::{self, Progress, Rest},
    sgd, stream,
};
use crate::{
    compute::{self, Device, Products},
    control::Control,
    defences::{Defence, DefenceSpec, Loss, StepContext},
    evaluation::Warning,
    nn::Model,
    random::Rng,
    recipe::Recipe,
    runs::{Run, Slot},
    shapes::{Batch, Images, Logits},
    threat::ThreatModel,
};
use shares::same_for_all;

/// What is known of a minibatch's examples, still on the device.
struct Told {
    indices: Vec<usize>,
    natural: Option<Logits>,
    adversarial: Option<Logits>,
}

/// The recipe's defence, and what stands in its place at the beginning.
struct Defences {
    /// Each until its epoch, in their order.
    warm_up: [(usize, Box<dyn Defence>); 2],
    defence: Box<dyn Defence>,
}

impl Defences {
    fn new(recipe: &Recipe, labelled: usize) -> Self {
        let natural = recipe.warm_up.natural_epochs;
        Self {
            warm_up: [
                (natural, DefenceSpec::Natural.build()),
                (natural + recipe.warm_up.standard_epochs, DefenceSpec::Standard.build()),
            ],
            defence: recipe.build_defence(labelled),
        }
    }

    fn at(&mut self, epoch: usize) -> &mut dyn Defence {
        let warming = self.warm_up.iter_mut().find(|(until, _)| epoch < *until);
        match warming {
            Some((_, defence)) => &mut **defence,
            None => &mut *self.defence,
        }
    }
}

/// The state of a session of training.
pub(super) struct Trainer<'a> {
    /// As the run was begun, with the adjustments since.
    recipe: Recipe,
    data: &'a TrainingData,
    /// Where the run is kept: by one of the group's processes.
    run: Option<&'a mut Run>,
    device: &'a Device,
    control: &'a Control,
    observer: &'a mut dyn Observer,
    /// Those who train together.
    group: &'a dyn Group,
    /// Whether one of them was asked to stop.
    is_stopped: bool,
    model: Model,
    /// How factors are multiplied in a step.
    products: Products,
    /// The moving average of the weights, where the recipe asks for one: what is evaluated, kept and handed back.
    average: Option<Model>,
    sgd: Sgd,
    defences: Defences,
    /// Everything else that a checkpoint holds.
    pub(super) progress: Progress,
    /// Figures of the minibatches since the last read, still on the device; reading them is the sync point.
    unread: Vec<(Tensor<1>, usize)>,
    /// What the observer wants to know of the examples of these minibatches.
    unread_examples: Vec<Told>,
    started: Instant,
    saved: Instant,
    save_seconds: f64,
    evaluating_seconds: f64,
    looking_seconds: f64,
    attacking_seconds: f64,
}

impl<'a> Trainer<'a> {
    pub(super) fn open(
        recipe: &'a Recipe,
        data: &'a TrainingData,
        mut run: Option<&'a mut Run>,
        device: &'a Device,
        control: &'a Control,
        observer: &'a mut dyn Observer,
        group: &'a dyn Group,
    ) -> Result<Self, TrainError> {
        let products = super::products(recipe, device)?;
        let mut model = Model::new(
            recipe.network,
            data.train.shape(),
            data.train.classes(),
            &mut Rng::stream(recipe.seed, stream::WEIGHTS),
            device,
        )?;
        let (examples, batch_size) = (data.train.labelled(), recipe.batch_size);
        let shortest = match examples % batch_size {
            0 => batch_size,
            _ if recipe.data.drop_last => batch_size,
            rest => rest,
        };
        let shortest = if recipe.sync_batch_norm {
            shortest
        } else {
            shortest / group.size()
        };
        if model.normalises_single_values(shortest) {
            return Err(TrainError::SingleValue { examples, batch_size });
        }
        let mut average = recipe.average.as_ref().map(|_| model.clone());
        let mut sgd = Sgd::default();
        let mut defences = Defences::new(recipe, data.train.labelled());
        let checkpoint = match &mut run {
            Some(run) => run.resume()?,
            None => None,
        };
        let checkpoint = same_for_all(checkpoint, group)?;
        let progress = match &checkpoint {
            None => Progress::new(Rng::stream(recipe.seed, stream::STEPS)),
            Some(checkpoint) => {
                let rest = Rest::from_arrays(&checkpoint.optimiser, model.layout(), device);
                progress::load_weights(average.as_mut().unwrap_or(&mut model), &checkpoint.weights)?;
                if let Some(trained) = &rest.trained {
                    progress::load_weights(&mut model, trained)?;
                }
                sgd.velocity = rest.velocity;
                defences.defence.recall(rest.memory, device);
                Progress::from_json(&checkpoint.progress).map_err(TrainError::Progress)?
            }
        };
        let mut trainer = Self {
            recipe: recipe.clone(),
            data,
            run,
            device,
            control,
            observer,
            group,
            is_stopped: false,
            model,
            products,
            average,
            sgd,
            defences,
            progress,
            unread: Vec::new(),
            unread_examples: Vec::new(),
            started: Instant::now(),
            saved: Instant::now(),
            save_seconds: 0.0,
            evaluating_seconds: 0.0,
            looking_seconds: 0.0,
            attacking_seconds: 0.0,
        };
        for adjustment in trainer.progress.adjustments.clone() {
            trainer.apply(adjustment);
        }
        if checkpoint.is_none() {
            trainer.save(Slot::Last)?;
        }
        Ok(trainer)
    }

    fn clock(&self) -> Clock {
        Clock {
            seconds: self.started.elapsed().as_secs_f64(),
            evaluating: self.evaluating_seconds,
            attacking: self.device.is_cpu().then_some(self.attacking_seconds),
        }
    }

    fn tell(&mut self, event: Event) -> Result<(), TrainError> {
        if event.is_kept() {
            let line = serde_json::to_value(&event).map_err(|error| TrainError::Progress(error.to_string()))?;
            if let Some(run) = &mut self.run {
                run.append(&line)?;
            }
        }
        self.observer.event(&event);
        Ok(())
    }

    pub(super) fn announce(&mut self) -> Result<(), TrainError> {
        let started = Event::Started(Started {
            summary: self.recipe.summary(),
            examples: self.data.train.len(),
            steps_per_epoch: self.steps_per_epoch(),
            epochs: self.recipe.epochs,
            steps_done: self.progress.total_steps,
        });
        self.observer.event(&started);
        let parts = self.recipe.never_reached();
        if parts.is_empty() {
            return Ok(());
        }
        self.warn(self.progress.epoch + 1, vec![Warning::NeverReached { parts }])
    }

    /// The labelled examples of a minibatch.
    fn labelled_share(&self) -> usize {
        let train = &self.data.train;
        self.recipe.labelled_share(train.labelled() < train.len())
    }

    fn steps_per_epoch(&self) -> usize {
        let (examples, share) = (self.data.train.labelled(), self.labelled_share());
        if self.recipe.data.drop_last {
            examples / share
        } else {
            examples.div_ceil(share)
        }
    }

    /// The order of this epoch's examples: a function of the seed and the epoch alone. Every labelled example comes once;
    /// pseudo-labelled ones fill each minibatch up, drawn with replacement as in RST.
    pub(super) fn order(&self) -> Vec<usize> {
        let (labelled, all, share) = (self.data.train.labelled(), self.data.train.len(), self.labelled_share());
        let mut rng = Rng::stream(self.recipe.seed, stream::ORDER + self.progress.epoch as u64);
        let mut order: Vec<usize> = (0..labelled).collect();
        rng.shuffle(&mut order);
        let mut mixed = Vec::with_capacity(order.len());
        for part in order.chunks(share) {
            mixed.extend(part);
            mixed.extend((share..self.recipe.batch_size).map(|_| labelled + rng.below(all - labelled)));
        }
        mixed
    }

    /// The positions of the next minibatch; `None` at the end of the epoch.
    pub(super) fn next_minibatch(&self, order: &[usize]) -> Option<Vec<usize>> {
        if self.progress.step >= self.steps_per_epoch() {
            return None;
        }
        let first = self.progress.step * self.recipe.batch_size;
        let last = (first + self.recipe.batch_size).min(order.len());
        Some(order[first..last].to_vec())
    }

    /// Whether another epoch follows.
    pub(super) fn goes_on(&self) -> bool {
        self.progress.epoch < self.recipe.epochs && !self.is_out_of_patience()
    }

    fn is_out_of_patience(&self) -> bool {
        let best = self.progress.best.as_ref();
        best.is_some_and(|best| {
            let risen = best.risen.unwrap_or(best.epoch);
            self.recipe.is_out_of_patience(self.progress.epoch, risen)
        })
    }

    /// The moment of the run, in epochs.
    fn epochs_done(&self) -> f64 {
        self.progress.epoch as f64 + self.progress.step as f64 / self.steps_per_epoch() as f64
    }

    /// One minibatch of so many examples, as often as the defence replays it.
    pub(super) fn step(&mut self, batch: &Batch, examples: usize) -> Result<(), TrainError> {
        self.adjust()?;
        let recipe = &self.recipe;
        let factor = recipe.epsilon_factor(self.epochs_done());
        let threat = ThreatModel {
            norm: recipe.threat.norm,
            epsilon: recipe.threat.epsilon.scaled(factor),
        };
        let within = self.progress.step as f64 / self.steps_per_epoch() as f64;
        let rate = recipe.optimiser.learning_rate * recipe.schedule.factor(self.progress.epoch, within, recipe.epochs);

        for _ in 1..self.defences.at(self.progress.epoch).replays() {
            self.descend(batch, examples, &threat, factor, rate)?;
        }
        // The last replay's figures stand for the minibatch.
        let (loss, norm) = self.descend(batch, examples, &threat, factor, rate)?;

        self.progress.step += 1;
        self.progress.total_steps += 1;
        self.progress.learning_rate = rate;
        self.progress.epsilon = f64::from(threat.epsilon.value());
        if let (Some(average), Some(spec)) = (&mut self.average, &self.recipe.average) {
            average.average_in(&self.model, spec.decay_at(self.progress.total_steps));
        }
        self.note(&loss, norm, batch, examples)?;
        if self.progress.step.is_multiple_of(self.recipe.log_every) || self.progress.step == self.steps_per_epoch() {
            self.report()?;
        }
        Ok(())
    }

    /// One move of the weights: inner maximisation, outer loss, backward, optimiser. Gives the loss and the length of the
    /// gradient before it was clipped.
    fn descend(
        &mut self,
        batch: &Batch,
        examples: usize,
        threat: &ThreatModel,
        factor: f64,
        rate: f64,
    ) -> Result<(Loss, Tensor<1>), TrainError> {
        let recipe = &self.recipe;
        let share = self.share(examples);
        self.model.seed_dropout(self.progress.rng.bits());
        self.model.share_dropout(share.rows.clone(), examples);
        let mut rngs = self.progress.rng.each(examples);
        let rngs = &mut rngs[share.rows.clone()];
        let (model, mode, epoch) = (&self.model, recipe.attack.mode, self.progress.epoch);
        let defence = self.defences.at(epoch);
        let mut work = || {
            let attacked = move |images: Images| model.forward(images, mode);
            let mut context = StepContext {
                attacking: Duration::ZERO,
                attacked: &attacked,
                threat,
                pgd: &recipe.attack.pgd(factor),
                label_smoothing: recipe.label_smoothing,
                epoch,
                rngs,
            };
            let found = defence.gradients(model, batch, &mut context);
            (found, context.attacking)
        };
        // In steps alone: what is measured between them is measured in float32.
        model.multiply(self.products);
        let (found, attacking) = if recipe.sync_batch_norm && !self.group.is_alone() {
            shares::normalising_together(model, share.weight, self.group, work)
        } else {
            work()
        };
        model.multiply(Products::Single);
        let (loss, mut gradient) = found?;
        self.attacking_seconds += attacking.as_secs_f64();
        if !self.group.is_alone() {
            gradient = self.join(gradient, &share)?;
        }
        let recipe = &self.recipe;
        let norm = compute::length(&gradient);
        if let Some(largest) = recipe.optimiser.clip_gradient {
            gradient = sgd::clip(gradient, &norm, largest);
        }
        self.sgd.step(&mut self.model, gradient, &recipe.optimiser, rate);
        Ok((loss, norm))
    }

    /// Shows the model to whoever wants it; to a person who paused, always: there will be time to look at it.
    pub(super) fn show_model(&mut self) {
        if self.observer.wants_model() || self.control.is_paused() {
            let shown = self.average.as_ref().unwrap_or(&self.model);
            self.observer.model(shown, self.progress.total_steps);
        }
    }

    fn ended(&self) -> Ended {
        Ended {
            epochs: self.progress.epoch,
            total_steps: self.progress.total_steps,
            best: self.progress.best.clone(),
            early: self.is_out_of_patience(),
            clock: self.clock(),
        }
    }

    /// Checkpoints and says so; what is appended after the checkpoint is cut off again on resuming.
    pub(super) fn stop(mut self) -> Result<Model, TrainError> {
        self.save(Slot::Last)?;
        let ended = self.ended();
        self.tell(Event::Stopped(ended))?;
        Ok(self.average.unwrap_or(self.model))
    }

    /// The last epoch's checkpoint stands before this event: a run that is killed after it and resumed cuts the event
    /// off and tells it again, once.
    pub(super) fn finish(mut self) -> Result<Model, TrainError> {
        let ended = self.ended();
        self.tell(Event::Finished(ended))?;
        Ok(self.average.unwrap_or(self.model))
    }
}
