//! How long the parts of a run take on a device: a short measurement before a long promise.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Sgd, TrainError, TrainingData};
use crate::{
    attacks::{Aim, Ascent, Attack as _, Objective},
    compute::{
        Device, Products,
        self_check::{keep, kept},
    },
    defences::{Defence, DefenceError, DefenceSpec, StepContext},
    evaluation::Suite,
    nn::{Mode, Model},
    random::Rng,
    recipe::Recipe,
    seal,
    shapes::Images,
    threat::Start,
};

/// Timed minibatches of each kind, at least; one before them is not timed.
const REPETITIONS: usize = 3;

/// For how long each kind is timed, at least.
const TIMED: Duration = Duration::from_millis(700);

/// The attack by which an evaluation's passes are timed, on as many images at once as an evaluation takes.
const TRIED: Ascent = Ascent {
    objective: Objective::CrossEntropy,
    aim: Aim::Untargeted,
    steps: 3,
    step_size: None,
    start: Start::Uniform,
};

/// Of the examples that an evaluation attacks, the share that is taken to stand: the others are let go on the way. A
/// trained network of the built-in or the MNIST digits keeps nine of ten, one of CIFAR-10 little more than half, where
/// training takes by far the longer time.
const STANDING: f64 = 0.85;

/// Seconds that the parts of a run take.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Pace {
    /// One minibatch of natural training.
    pub natural: f64,
    /// One minibatch of the recipe's defence.
    pub defended: f64,
    /// One forward pass of one image, by the attack steps that an evaluation is made of.
    pub pass: f64,
}

/// For how long a pace is believed: load, heat and clocks change it.
const REMEMBERED: Duration = Duration::from_secs(24 * 3_600);

impl Pace {
    /// The pace that was measured before for such a recipe on such data and this device, or a new one. So a command that is stopped
    /// and given again goes on with its work at once.
    ///
    /// # Errors
    /// As [`Pace::measure`].
    pub fn of(recipe: &Recipe, data: &TrainingData, device: &Device) -> Result<Self, TrainError> {
        let mut timeless = recipe.clone();
        (timeless.epochs, timeless.seed) = (1, 0);
        timeless.data.source.clear();
        let (shape, classes, examined) = (data.train.shape(), data.train.classes(), data.evaluated.len());
        let identity = format!("{} {shape} {classes} {examined}", timeless.to_toml());
        let subject = seal::digest(identity.as_bytes());
        if let Some(pace) = kept("pace", device, &subject, REMEMBERED) {
            return Ok(pace);
        }
        let pace = Self::measure(recipe, data, device)?;
        keep("pace", device, &subject, &pace);
        Ok(pace)
    }

    /// Measures a recipe's parts on a device; a few seconds on a processor, longer where a GPU compiles its kernels.
    ///
    /// # Errors
    /// When the network does not fit the data, or the device fails.
    pub fn measure(recipe: &Recipe, data: &TrainingData, device: &Device) -> Result<Self, TrainError> {
        let train = &data.train;
        let rng = &mut Rng::new(recipe.seed);
        let mut model = Model::new(recipe.network, train.shape(), train.classes(), rng, device)?;
        let products = super::products(recipe, device)?;
        let batch = {
            let positions: Vec<usize> = (0..recipe.batch_size.min(train.len())).collect();
            train.batch(&positions, device)
        };
        let mut sgd = Sgd::default();
        let mut step = |defence: &mut dyn Defence, model: &mut Model| -> Result<(), TrainError> {
            model.multiply(products);
            let (attacked, mode) = (model.clone(), recipe.attack.mode);
            let attacked = move |images: Images| attacked.forward(images, mode);
            let mut context = StepContext {
                attacking: Default::default(),
                attacked: &attacked,
                threat: &recipe.threat,
                pgd: &recipe.attack.pgd(1.0),
                label_smoothing: recipe.label_smoothing,
                epoch: 0,
                rngs: &mut Rng::new(recipe.seed).each(batch.len()),
            };
            for _ in 0..defence.replays() {
                let (_, gradient) = defence.gradients(model, &batch, &mut context)?;
                // So small a rate that the network stays where it began.
                sgd.step(model, gradient, &recipe.optimiser, 1e-9);
            }
            model.multiply(Products::Single);
            Ok(device.sync()?)
        };
        let natural = mean(|| step(&mut *DefenceSpec::Natural.build(), &mut model))?;
        let mut defence = recipe.build_defence(train.labelled());
        let defended = if recipe.defence.attacks() {
            mean(|| step(&mut *defence, &mut model))?
        } else {
            natural
        };
        let examined = {
            let at_once = recipe.evaluation.suite()?.batch_size;
            let positions: Vec<usize> = (0..data.evaluated.len().min(at_once)).collect();
            data.evaluated.batch(&positions, device)
        };
        let logits = |images: Images| model.forward(images, Mode::Eval);
        let attacked = mean(|| {
            let found = TRIED.perturb(
                &logits,
                &examined,
                &recipe.threat,
                &mut Rng::new(recipe.seed).each(examined.len()),
            );
            found.map_err(DefenceError::from)?;
            Ok(device.sync()?)
        })?;
        Ok(Self {
            natural,
            defended,
            pass: attacked / (TRIED.passes() * examined.indices.len().max(1)) as f64,
        })
    }

    /// Seconds that an evaluation of `examples` images takes.
    pub fn evaluation(&self, suite: &Suite, examples: usize) -> f64 {
        let passes: usize = suite.attacks.iter().map(crate::attacks::Attack::passes).sum();
        (passes * examples) as f64 * STANDING * self.pass
    }

    /// Seconds that a whole run takes, with its evaluations after the epochs.
    ///
    /// # Errors
    /// Where the recipe names an attack that is none.
    pub fn run(&self, recipe: &Recipe, data: &TrainingData) -> Result<f64, TrainError> {
        let share = recipe.labelled_share(data.train.labelled() < data.train.len());
        let minibatches = data.train.labelled().div_ceil(share) as f64;
        let natural = recipe.warm_up.natural_epochs.min(recipe.epochs);
        let epochs = minibatches * (natural as f64 * self.natural + (recipe.epochs - natural) as f64 * self.defended);
        let evaluations = recipe.epochs.div_ceil(recipe.evaluation.every) as f64;
        Ok(epochs + evaluations * self.evaluation(&recipe.evaluation.suite()?, data.evaluated.len()))
    }
}

/// The mean, not the median: what slows a few minibatches of these slows as many of the run's.
fn mean(mut work: impl FnMut() -> Result<(), TrainError>) -> Result<f64, TrainError> {
    work()?;
    let (began, mut times) = (Instant::now(), 0);
    while times < REPETITIONS || began.elapsed() < TIMED {
        work()?;
        times += 1;
    }
    Ok(began.elapsed().as_secs_f64() / times as f64)
}
