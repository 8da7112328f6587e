//! Everything that a run depends on: parsed, validated, and written back whole beside its results.

mod bounds;
mod fields;
mod presets;
mod schedule;

use serde::{Deserialize, Serialize};

use crate::{
    attacks::{Keep, Pgd},
    data::{self, Augmentation, DataError, Dataset, Preparation, Split},
    defences::{Defence, DefenceSpec, SemiSupervised, WeightPerturbation},
    evaluation::{Suite, SuiteError},
    losses::Form,
    memory::Budget,
    nn::{Architecture, Mode},
    threat::{Magnitude, Norm, Start, ThreatModel},
    wording::meant,
};

pub use presets::{PRESETS, Preset, preset};
pub use schedule::Schedule;

/// Everything that a run depends on; the same recipe, seed and CPU give the same metrics to the bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The network, such as `small-cnn` or `wide-resnet-34-10`.
    #[serde(with = "as_text")]
    pub network: Architecture,
    /// The seed of everything random.
    pub seed: u64,
    /// Passes over the training set.
    pub epochs: usize,
    /// Examples in a minibatch.
    pub batch_size: usize,
    /// What is trained on.
    pub data: DataSpec,
    /// How the loss is made.
    pub defence: DefenceSpec,
    /// What the adversary may do.
    pub threat: ThreatModel,
    /// The inner maximisation.
    pub attack: TrainingAttack,
    /// How the weights move.
    pub optimiser: Optimiser,
    /// How the learning rate moves.
    pub schedule: Schedule,
    /// How a run starts gently.
    #[serde(default)]
    pub warm_up: WarmUp,
    /// The share of each target that the outer cross-entropy gives to all classes evenly.
    #[serde(default)]
    pub label_smoothing: f32,
    /// Adversarial weight perturbation round the defence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_perturbation: Option<WeightPerturbation>,
    /// A moving average of the weights, which is then what is evaluated and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub average: Option<WeightAverage>,
    /// Several processes take BatchNorm's statistics of the whole minibatch, not each of its own share; slower, and the same in one process.
    #[serde(default, skip_serializing_if = "is_false")]
    pub sync_batch_norm: bool,
    /// The factors of all convolutions but the first are rounded to float16 in training steps, and summed in float32, on a GPU's matrix units
    /// where it has such; what is measured is measured in float32. Refused on the processor.
    #[serde(default, skip_serializing_if = "is_false")]
    pub mixed_precision: bool,
    /// When robust overfitting ends the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<EarlyStop>,
    /// What is measured after each epoch.
    pub evaluation: EpochEvaluation,
    /// Minibatches between two reports; reading them waits for the device.
    #[serde(default = "default_log_every")]
    pub log_every: usize,
    /// The shortest pause between two checkpoints inside an epoch; it changes nothing in the result.
    #[serde(default = "default_checkpoint_seconds")]
    pub checkpoint_seconds: f64,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn default_log_every() -> usize {
    10
}

fn default_checkpoint_seconds() -> f64 {
    5.0
}

/// What is trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// The source, such as `glyphs`, `mnist:DIR` or `folder:PATH`.
    pub source: String,
    /// Of a folder of pictures: the shorter side of each is scaled to so many pixels, and the middle square is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<usize>,
    /// Of a folder of pictures: the middle square of so many pixels is taken, after scaling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub center_crop: Option<usize>,
    /// Use only so many training examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_train: Option<usize>,
    /// Examples of the training set that are held out to choose the best checkpoint; 0 chooses on the test set, which
    /// the paper does and which flatters the result.
    pub held_out: usize,
    /// Pad, crop and flip.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Leave the last minibatch out where it is smaller than the others.
    #[serde(default)]
    pub drop_last: bool,
    /// Pseudo-labelled images beside the labelled ones (section 3.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<Unlabelled>,
}

impl DataSpec {
    /// Reads one split of the source, its pictures prepared as the recipe says.
    ///
    /// # Errors
    /// As [`data::load_within`].
    pub fn load(&self, split: Split) -> Result<Dataset, DataError> {
        data::load_within(&self.source, split, &self.preparation(), &Budget::default())
    }

    /// What is done to each picture.
    pub fn preparation(&self) -> Preparation {
        Preparation {
            resize: self.resize,
            center_crop: self.center_crop,
        }
    }
}

/// Images without labels of their own, labelled by a natural model: `martlet data label` makes such a set, and
/// published ones are read as they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlabelled {
    /// The source, such as `npz:FILE` or `pseudo-labelled:FILE`.
    pub source: String,
    /// Use only so many of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Their share of each minibatch; RST takes half and half. An epoch is still one pass over the labelled images.
    #[serde(default = "default_share")]
    pub share: f64,
    /// γ, the weight of their loss.
    #[serde(default = "default_weight")]
    pub weight: f32,
}

impl Unlabelled {
    /// All of a source, half of each minibatch, with the weight of the labelled images.
    pub fn from_source(source: &str) -> Self {
        Self {
            source: source.to_string(),
            limit: None,
            share: default_share(),
            weight: default_weight(),
        }
    }
}

fn default_share() -> f64 {
    0.5
}

fn default_weight() -> f32 {
    1.0
}

/// The inner maximisation of training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingAttack {
    /// Gradient steps.
    pub steps: usize,
    /// The length of a step in pixel units.
    pub step_size: Magnitude,
    /// Where it starts.
    pub start: Start,
    /// The mode of BatchNorm and dropout while attacking: the papers differ.
    pub mode: Mode,
}

impl TrainingAttack {
    /// The ascent that a defence runs; under a warming-up epsilon its step shrinks in proportion.
    pub fn pgd(&self, warm: f64) -> Pgd {
        Pgd {
            steps: self.steps,
            step_size: self.step_size.scaled(warm),
            start: self.start,
            restarts: 1,
            keep: Keep::Last,
        }
    }
}

/// Which parameters weight decay pulls on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// All of them, BatchNorm and biases too: PyTorch's default and the released code.
    All,
    /// Weights of convolutions and linear layers alone.
    Weights,
}

/// Stochastic gradient descent as PyTorch computes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimiser {
    /// The rate that the schedule scales.
    pub learning_rate: f64,
    /// Momentum without dampening.
    pub momentum: f64,
    /// Nesterov's form of the momentum.
    #[serde(default)]
    pub nesterov: bool,
    /// The factor of the weights that is added to their gradient.
    pub weight_decay: f64,
    /// Which parameters it pulls on.
    pub decay: Decay,
    /// The largest Euclidean norm of the whole gradient; longer ones are scaled down to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_gradient: Option<f64>,
}

/// How a run starts gently: full epsilon from the first step can stick at the constant prediction.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WarmUp {
    /// Epochs over which epsilon and the step grow linearly to their full size.
    #[serde(default)]
    pub epsilon_epochs: f64,
    /// Epochs of natural training before everything else.
    #[serde(default)]
    pub natural_epochs: usize,
    /// Epochs of Standard after them, before the defence sets in: a start that several defences can share, since a regulariser
    /// holds a network back that has learnt nothing yet.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub standard_epochs: usize,
}

fn is_zero(epochs: &usize) -> bool {
    *epochs == 0
}

/// An exponential moving average of weights and running statistics: `w̄ ← d·w̄ + (1 − d)·w` after each minibatch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightAverage {
    /// d: 0.995 to 0.999 for runs of many epochs.
    pub decay: f64,
}

impl WeightAverage {
    /// The decay after so many minibatches: `min(d, (1 + t)/(10 + t))`, so that a short run is not held at its first
    /// weights.
    pub fn decay_at(&self, minibatches: usize) -> f64 {
        let t = minibatches as f64;
        self.decay.min((1.0 + t) / (10.0 + t))
    }
}

/// Robust accuracy on held-out examples falls again while training goes on (Rice et al., 2020): the run may end then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// Epochs without a new best robust accuracy after which the run ends.
    pub patience: usize,
}

/// What is measured after each epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochEvaluation {
    /// Attacks by name; the last one chooses the best checkpoint.
    pub attacks: Vec<String>,
    /// Epochs between two evaluations; the last epoch is always evaluated.
    pub every: usize,
    /// Use only so many held-out examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl EpochEvaluation {
    /// Its attacks as a suite.
    ///
    /// # Errors
    /// When a name is no attack, two are the same, or there is none.
    pub fn suite(&self) -> Result<Suite, SuiteError> {
        let attacks = self.attacks.iter().map(|name| name.parse());
        Suite::new(attacks.collect::<Result<_, _>>()?)
    }
}

/// An error of the reader, with the name that a person may have meant behind an unknown one.
fn with_meant(error: &str) -> String {
    // "unknown field `epoch`, expected one of `seed`, `epochs`", and the same of a variant.
    let unknown = ["unknown field `", "unknown variant `"].map(|start| error.find(start));
    let Some(start) = unknown.into_iter().flatten().min() else {
        return error.to_string();
    };
    let mut ticked = error[start..].split('`').skip(1).step_by(2);
    let name = ticked.next().unwrap_or_default();
    format!("{}{}", error.trim_end(), meant(name, ticked))
}

/// A recipe that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The text is no recipe.
    #[error("the recipe cannot be read: {0}; `martlet train --show-recipe` prints a whole one to start from")]
    Syntax(String),
    /// A field's value makes no sense.
    #[error("recipe field {field}: expected {expected}, got {got}")]
    Field {
        /// The field, with dots.
        field: &'static str,
        /// What would be right.
        expected: &'static str,
        /// What was there.
        got: String,
    },
    /// No preset has the name.
    #[error("no preset is called {name:?}{}; expected one of {known}, or the path of a .toml file", meant(name, known.split(", ")))]
    UnknownPreset {
        /// What was asked for.
        name: String,
        /// The names there are.
        known: String,
    },
}

impl Recipe {
    /// Reads a recipe and checks it.
    ///
    /// # Errors
    /// [`RecipeError::Syntax`] with line and column, or the first field that makes no sense.
    pub fn from_toml(text: &str) -> Result<Self, RecipeError> {
        let recipe: Self = toml::from_str(text).map_err(|error| RecipeError::Syntax(with_meant(&error.to_string())))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Puts another defence in the place of the recipe's, with the start of the training attack that it needs: next to the
    /// image for TRADES, which loses about a point from a uniform one, and uniform again for what takes its place.
    pub fn defend_with(&mut self, defence: DefenceSpec) {
        let is_trades = |defence: &DefenceSpec| matches!(defence, DefenceSpec::Trades { .. });
        match (is_trades(&self.defence), is_trades(&defence)) {
            (false, true) => self.attack.start = Start::Gaussian,
            (true, false) => self.attack.start = Start::Uniform,
            _ => {}
        }
        self.defence = defence;
    }

    /// The recipe as text that [`Recipe::from_toml`] reads back to the same value.
    pub fn to_toml(&self) -> String {
        // Every field is a plain value or table, which TOML can always hold.
        toml::to_string_pretty(self).unwrap_or_default()
    }

    /// The defence, with what the recipe puts round it. `labelled` is the number of training examples with known labels,
    /// which stand before the others.
    pub fn build_defence(&self, labelled: usize) -> Box<dyn Defence> {
        let mut defence = self.defence.build();
        if let Some(Unlabelled { weight, .. }) = self.data.unlabelled {
            defence = Box::new(SemiSupervised {
                inner: defence,
                labelled,
                weight,
            });
        }
        match &self.weight_perturbation {
            Some(perturbation) => perturbation.around(defence),
            None => defence,
        }
    }

    /// What of the recipe several processes cannot share, if anything: it remembers single examples, which come to another process next
    /// time, or takes a second gradient of a whole minibatch.
    pub fn unshared(&self) -> Option<&'static str> {
        match self.defence {
            DefenceSpec::Mma {
                form: Form::Released, ..
            } => Some("MMA with a radius of its own for each example"),
            DefenceSpec::Free { .. } => Some("Free"),
            _ if self.weight_perturbation.is_some() => Some("adversarial weight perturbation"),
            _ => None,
        }
    }

    /// The labelled examples of a minibatch, where the data `has_unlabelled` ones too; those fill up the rest.
    pub fn labelled_share(&self, has_unlabelled: bool) -> usize {
        match &self.data.unlabelled {
            Some(Unlabelled { share, .. }) if has_unlabelled => {
                (((1.0 - share) * self.batch_size as f64).round() as usize).max(1)
            }
            _ => self.batch_size,
        }
    }

    /// Whether the run has gone on for the whole patience of its early stop since its best epoch.
    pub fn is_out_of_patience(&self, epochs_done: usize, best_epoch: usize) -> bool {
        self.early_stop
            .as_ref()
            .is_some_and(|stop| epochs_done >= best_epoch + stop.patience)
    }

    /// The share of full epsilon at a moment of the run, counted in epochs.
    pub fn epsilon_factor(&self, epochs_done: f64) -> f64 {
        let adversarial = (epochs_done - self.warm_up.natural_epochs as f64).max(0.0);
        if self.warm_up.epsilon_epochs > 0.0 {
            (adversarial / self.warm_up.epsilon_epochs).min(1.0)
        } else {
            1.0
        }
    }

    /// What is put round the defence, each after a plus.
    fn extras(&self) -> String {
        let mut text = String::new();
        if let Some(WeightPerturbation { gamma, .. }) = &self.weight_perturbation {
            text += &format!(" + AWP (γ = {gamma})");
        }
        if let Some(WeightAverage { decay }) = &self.average {
            text += &format!(" + EMA ({decay})");
        }
        if self.mixed_precision {
            text += " in mixed precision";
        }
        if self.label_smoothing > 0.0 {
            text += &format!(" + label smoothing {}", self.label_smoothing);
        }
        if let Some(Unlabelled { source, weight, .. }) = &self.data.unlabelled {
            let kind = source.split(':').next().unwrap_or_default();
            text += &format!(" + unlabelled {kind} (γ = {weight})");
        }
        text
    }

    /// Another norm, with the radius that it is mostly used with on such data, and the step and the margins that follow: a radius
    /// of another norm is none of this one.
    pub fn take_norm(&mut self, norm: Norm) {
        if norm == self.threat.norm {
            return;
        }
        self.threat.norm = norm;
        let family = self.data.source.split(':').next().unwrap_or_default();
        let is_grey = ["glyphs", "fashion", "mnist", "fashion-mnist"].contains(&family);
        let usual = match (norm, is_grey) {
            (Norm::L2, true) => "1.5",
            (Norm::L2, false) => "128/255",
            (Norm::Linf, true) => "0.1",
            (Norm::Linf, false) => "8/255",
        };
        if let Ok(epsilon) = usual.parse() {
            self.take_epsilon(epsilon);
        }
    }

    /// Another radius; the step follows as the paper has it, ε/4, and so do a defence's margins.
    pub fn take_epsilon(&mut self, epsilon: Magnitude) {
        self.attack.step_size = epsilon.divided_by(4);
        self.defence.follow(&epsilon);
        self.threat.epsilon = epsilon;
    }

    /// The images that a trained network is shown: the test set, or those that training held out where there is none; and which.
    ///
    /// # Errors
    /// As [`DataSpec::load`]; [`DataError::NoTestSplit`] where nothing was held out either.
    pub fn examined(&self) -> Result<(Dataset, &'static str), DataError> {
        match self.data.load(Split::Test) {
            Ok(test) => Ok((test, "test")),
            Err(DataError::NoTestSplit { .. }) if self.data.held_out > 0 => {
                let train = self.data.load(Split::Train)?;
                Ok((train.split_off(self.data.held_out, self.seed).1, "held-out"))
            }
            Err(error) => Err(error),
        }
    }

    /// One line that says what is trained, for lists and reports.
    pub fn summary(&self) -> String {
        let epochs = if self.epochs == 1 { "epoch" } else { "epochs" };
        format!(
            "{}{} · {} · {} · {}{} · {} {epochs} · seed {}",
            self.defence,
            self.extras(),
            self.network,
            self.data.source.split(':').next().unwrap_or_default(),
            self.threat,
            self.inner_attack(),
            self.epochs,
            self.seed
        )
    }

    /// The attack that training uses, after a dot: none where the defence takes none, or brings its own step.
    fn inner_attack(&self) -> String {
        match self.defence {
            DefenceSpec::Natural | DefenceSpec::NFgsm { .. } | DefenceSpec::Free { .. } => String::new(),
            _ => format!(" · PGD-{} × {}", self.attack.steps, self.attack.step_size),
        }
    }
}

/// A type with `Display` and `FromStr` as a TOML string.
mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<T: std::fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: std::str::FromStr<Err: std::fmt::Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
