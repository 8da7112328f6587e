//! A session of training: what [`super::train`] does, step by step.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use burn::tensor::{Tensor, TensorData};

use super::{
    Adjusted, Adjustment, Best, Clock, Ended, EpochReport, Evaluating, Event, Examples, Observer, Sgd, Started,
    StepReport, TrainError, TrainingData, WarningReport, event,
    group::{Group, Share},
    progress::{self, Progress, Rest},
    sgd, stream,
};
use crate::{
    compute::{self, Device},
    control::{Control, Next},
    defences::{Defence, DefenceSpec, Loss, StepContext},
    evaluation::{self, EvaluateError, Evaluation, EvaluationEvent, Shard, Warning},
    nn::{Flat, Mode, Model},
    random::Rng,
    recipe::Recipe,
    runs::{Checkpoint, Run, Slot},
    shapes::{Batch, Images, Labels, Logits},
    threat::ThreatModel,
};

/// Saving takes at most this share of the time between two checkpoints of a run.
const CHECKPOINT_SHARE: f64 = 0.02;

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
        } / group.size();
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

    pub(super) fn announce(&mut self) {
        let started = Event::Started(Started {
            summary: self.recipe.summary(),
            examples: self.data.train.len(),
            steps_per_epoch: self.steps_per_epoch(),
            epochs: self.recipe.epochs,
            steps_done: self.progress.total_steps,
        });
        self.observer.event(&started);
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

    /// This process's rows of a minibatch.
    fn share(&self, examples: usize) -> Share {
        Share::of(examples, self.group.rank(), self.group.size())
    }

    /// This process's examples of a minibatch, augmented. Every process draws for all, so that an example looks the same whoever has it.
    pub(super) fn batch(&mut self, indices: &[usize]) -> Batch {
        let rows = self.share(indices.len()).rows;
        let augmentation = &self.recipe.data.augmentation;
        let train = &self.data.train;
        train.augmented_batch(indices, rows, augmentation, &mut self.progress.rng, self.device)
    }

    /// Whether the work was asked to end, by whoever asked one of the group. Called before each minibatch.
    pub(super) fn is_stopped(&self) -> bool {
        let own = self.control.next() == Next::Stop;
        if self.group.size().get() == 1 {
            own
        } else {
            self.is_stopped
        }
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
        let (model, mode) = (&self.model, recipe.attack.mode);
        let attacked = move |images: Images| model.forward(images, mode);
        let mut context = StepContext {
            attacking: Duration::ZERO,
            attacked: &attacked,
            threat,
            pgd: &recipe.attack.pgd(factor),
            label_smoothing: recipe.label_smoothing,
            epoch: self.progress.epoch,
            rngs: &mut rngs[share.rows.clone()],
        };
        let defence = self.defences.at(self.progress.epoch);
        let (loss, mut gradient) = defence.gradients(model, batch, &mut context)?;
        self.attacking_seconds += context.attacking.as_secs_f64();
        if self.group.size().get() > 1 {
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

    /// The gradient of the whole minibatch from those of the processes' shares, weighted by their examples. Running statistics of BatchNorms,
    /// which each process took of its own share, become their mean; a stop that one was asked for becomes everybody's. A sync point.
    fn join(&mut self, gradient: Flat, share: &Share) -> Result<Flat, TrainError> {
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

    /// Queues the step's figures on the device, to be read together later; at once where a group has to make one of its shares' means.
    fn note(&mut self, loss: &Loss, norm: Tensor<1>, batch: &Batch, examples: usize) -> Result<(), TrainError> {
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
        if self.group.size().get() > 1 {
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
    fn look(&mut self, batch: &Batch) -> Option<Logits> {
        let began = Instant::now();
        if self.looking_seconds > self.observer.looking_share() * self.started.elapsed().as_secs_f64() {
            return None;
        }
        let logits = self.model.forward(batch.images.clone(), Mode::Eval);
        self.looking_seconds += began.elapsed().as_secs_f64();
        Some(logits)
    }

    /// Passes on what is known of single examples; the device has computed it already.
    fn tell_examples(&mut self) -> Result<(), TrainError> {
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

    /// Takes up what a person changed since the last minibatch.
    fn adjust(&mut self) -> Result<(), TrainError> {
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
    fn apply(&mut self, adjustment: Adjustment) -> bool {
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

    /// Shows the model to whoever wants it; to a person who paused, always: there will be time to look at it.
    pub(super) fn show_model(&mut self) {
        if self.observer.wants_model() || self.control.is_paused() {
            let shown = self.average.as_ref().unwrap_or(&self.model);
            self.observer.model(shown, self.progress.total_steps);
        }
    }

    /// Reads what was queued. This is the sync point: a lost device shows here.
    fn read_figures(&mut self) -> Result<(), TrainError> {
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

    fn report(&mut self) -> Result<(), TrainError> {
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

    /// Evaluates and checkpoints; `false` where the person stopped the evaluation.
    pub(super) fn finish_epoch(&mut self) -> Result<bool, TrainError> {
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
    fn evaluate(&mut self, epoch: usize) -> Result<Option<BTreeMap<String, f64>>, TrainError> {
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
        if self.group.size().get() == 1 {
            return Ok(evaluation.map(|evaluation| evaluation.accuracy.0.into_iter().collect()));
        }
        Ok(self.accuracy_of_all(evaluation))
    }

    /// The accuracies over everybody's share of the examples; none where one of the group was stopped.
    fn accuracy_of_all(&self, own: Option<Evaluation>) -> Option<BTreeMap<String, f64>> {
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

    /// Passes warnings on, each kind once in a run.
    fn warn(&mut self, epoch: usize, warnings: Vec<Warning>) -> Result<(), TrainError> {
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

    fn save(&mut self, slot: Slot) -> Result<(), TrainError> {
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

    pub(super) fn checkpoint_when_due(&mut self) -> Result<(), TrainError> {
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

/// Rank 0's checkpoint, on every process.
fn same_for_all(own: Option<Checkpoint>, group: &dyn Group) -> Result<Option<Checkpoint>, TrainError> {
    if group.size().get() == 1 {
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

/// The share of rows whose strongest class is the label, `[1]`.
fn accuracy(logits: &Logits, labels: &Labels) -> Tensor<1> {
    let predicted: Labels = logits.clone().inner().argmax(1).reshape([labels.dims()[0]]);
    predicted.equal(labels.clone()).float().mean()
}
