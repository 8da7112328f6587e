//! Flags that override a recipe: every field can be set, the common ones by a flag of their own.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result};

use super::{WrongUse, data::SplitFile};
use crate::{
    data::{self, Dataset},
    defences::{DefenceSpec, Side, Treatment, WeightPerturbation},
    losses::Form,
    nn::{Architecture, Mode},
    recipe::{EarlyStop, PRESETS, Recipe, Unlabelled, WeightAverage, preset},
    threat::{Magnitude, Norm, Start},
    wording::meant,
};

/// What is trained, and how.
#[derive(clap::Args, Clone, Default, PartialEq)]
pub struct RecipeOptions {
    /// A built-in recipe or the path of a .toml file.
    #[arg(long, value_name = "NAME|FILE")]
    pub recipe: Option<String>,
    /// natural, standard, alp, clp, trades, mma, dynamic, mart, uat, n-fgsm or free; --subset makes one more.
    #[arg(long)]
    pub defence: Option<String>,
    /// Standard with a subset of its examples treated otherwise (the paper's Figure 1): a file that `martlet data split`
    /// wrote.
    #[arg(long, value_name = "FILE", requires_all = ["members", "treatment"], conflicts_with = "defence")]
    pub subset: Option<PathBuf>,
    /// Which of the file's subsets.
    #[arg(long, value_parser = ["misclassified", "correct"], requires = "subset")]
    pub members: Option<String>,
    /// What is done with its members: they stay natural, FGSM attacks them, or λ·KL (--lambda, 6) joins their loss.
    #[arg(long, value_parser = Treatment::NAMES, requires = "subset")]
    pub treatment: Option<String>,
    /// MART's or MMA's equations as the paper or as the released code has them.
    #[arg(long, value_parser = ["paper", "released"])]
    pub form: Option<String>,
    /// The weight of the regulariser.
    #[arg(long)]
    pub lambda: Option<f32>,
    /// small-cnn, dynamic-cnn, cnn8, resnet-18, resnet-50, preact-resnet-18 or wide-resnet-DEPTH-WIDTH.
    #[arg(long)]
    pub network: Option<String>,
    /// glyphs, mnist:DIR, fashion-mnist:DIR, cifar10:PATH, cifar100:PATH, cifar10-c:FOLDER/CORRUPTION, svhn:FOLDER, tiny-imagenet:FOLDER, folder:PATH or npz:PATH.
    #[arg(long, value_name = "SOURCE")]
    pub dataset: Option<String>,
    /// Scale the shorter side of a folder's pictures to so many pixels and take the middle square.
    #[arg(long, value_name = "PIXELS")]
    pub resize: Option<usize>,
    /// Take the middle square of so many pixels of a folder's pictures, after scaling.
    #[arg(long, value_name = "PIXELS")]
    pub center_crop: Option<usize>,
    /// Pseudo-labelled images beside the labelled ones: npz:FILE as `martlet data label` writes it, or
    /// pseudo-labelled:FILE.
    #[arg(long, value_name = "SOURCE")]
    pub unlabelled: Option<String>,
    /// γ, the weight of the pseudo-labelled images' loss.
    #[arg(long, value_name = "GAMMA")]
    pub unlabelled_weight: Option<f32>,
    /// Use only so many training examples.
    #[arg(long, value_name = "N")]
    pub limit_train: Option<usize>,
    /// Hold out so many training examples to choose the best checkpoint; 0 chooses on the test set, as the paper does.
    #[arg(long, value_name = "N")]
    pub held_out: Option<usize>,
    /// The radius of the ball in pixel units, such as 0.3 or 8/255.
    #[arg(long)]
    pub epsilon: Option<Magnitude>,
    /// The ball's norm.
    #[arg(long, value_parser = ["linf", "l2"])]
    pub norm: Option<String>,
    /// Gradient steps of the training attack.
    #[arg(long)]
    pub steps: Option<usize>,
    /// The length of a step of the training attack.
    #[arg(long)]
    pub step_size: Option<Magnitude>,
    /// Where the training attack starts.
    #[arg(long, value_parser = ["natural", "uniform", "gaussian"])]
    pub start: Option<String>,
    /// The mode of BatchNorm and dropout while attacking.
    #[arg(long, value_parser = ["train", "eval"])]
    pub attack_mode: Option<String>,
    /// Passes over the training set.
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Examples in a minibatch.
    #[arg(long)]
    pub batch_size: Option<usize>,
    /// The rate that the schedule scales.
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Momentum without dampening.
    #[arg(long)]
    pub momentum: Option<f64>,
    /// Weight decay.
    #[arg(long)]
    pub weight_decay: Option<f64>,
    /// Epochs over which epsilon grows to its full size.
    #[arg(long, value_name = "EPOCHS")]
    pub epsilon_warm_up: Option<f64>,
    /// Epochs of natural training before the defence sets in.
    #[arg(long, value_name = "EPOCHS")]
    pub natural_warm_up: Option<usize>,
    /// Epochs of Standard after them, before the defence sets in.
    #[arg(long, value_name = "EPOCHS")]
    pub standard_warm_up: Option<usize>,
    /// The share of each target that the cross-entropy gives to all classes evenly.
    #[arg(long, value_name = "SHARE")]
    pub label_smoothing: Option<f32>,
    /// Adversarial weight perturbation round the defence: a layer's is so many times as long as its weights, such as 0.005.
    #[arg(long, value_name = "GAMMA")]
    pub awp: Option<f32>,
    /// Evaluate and keep a moving average of the weights with this decay, such as 0.995.
    #[arg(long, value_name = "DECAY")]
    pub ema: Option<f64>,
    /// End the run after so many epochs without a new best robust accuracy on the held-out examples.
    #[arg(long, value_name = "EPOCHS")]
    pub patience: Option<usize>,
    /// The largest norm of the whole gradient.
    #[arg(long, value_name = "NORM")]
    pub clip_gradient: Option<f64>,
    /// Pad by so many pixels and crop at random.
    #[arg(long, value_name = "PIXELS")]
    pub pad: Option<usize>,
    /// Flip at random.
    #[arg(long, value_name = "true|false")]
    pub flip: Option<bool>,
    /// The seed of everything random.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Any field of the recipe, such as schedule.kind="cosine" or evaluation.limit=200; may be repeated.
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub set: Vec<String>,
}

impl RecipeOptions {
    /// Whether any field was given.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    /// The recipe that these options mean, wherever its data lie.
    pub fn shown(&self) -> Result<Recipe> {
        let options = self.with_the_defence_that_is_set();
        options.over(options.base()?)
    }

    /// A recipe with the fields that were given laid over its own.
    pub fn over(&self, mut recipe: Recipe) -> Result<Recipe> {
        let options = self.with_the_defence_that_is_set();
        options.override_fields(&mut recipe)?;
        let recipe = set_fields(recipe, &options.set)?;
        recipe.validate().map_err(wrong)?;
        Ok(recipe)
    }

    /// `--set defence.kind=KIND` means what `--defence KIND` means: a defence with its usual numbers.
    fn with_the_defence_that_is_set(&self) -> Self {
        let mut options = self.clone();
        options.set.retain(|assignment| match assignment.split_once('=') {
            Some((field, kind)) if field.trim() == "defence.kind" && kind.trim().trim_matches('"') != "subset" => {
                options.defence = Some(kind.trim().trim_matches('"').to_string());
                false
            }
            _ => true,
        });
        options
    }

    /// The recipe that these options mean.
    pub fn resolve(&self) -> Result<Recipe> {
        let recipe = self.shown()?;
        if needs_a_place(&recipe.data.source) {
            let source = &recipe.data.source;
            return Err(WrongUse(format!(
                "the recipe trains on {source}, whose files Martlet does not bring: add --dataset {source}:DIR, or get them with `martlet data get {source} DIR`"
            ))
            .into());
        }
        if let Some(unlabelled) = recipe
            .data
            .unlabelled
            .as_ref()
            .filter(|more| needs_a_place(&more.source))
        {
            return Err(WrongUse(format!(
                "the recipe trains on unlabelled images too ({}): add --unlabelled pseudo-labelled:FILE, or npz:FILE as `martlet data label` writes it",
                unlabelled.source
            ))
            .into());
        }
        Ok(recipe)
    }

    /// The named recipe, or the preset that suits the data set and the defence.
    fn base(&self) -> Result<Recipe> {
        let Some(name) = &self.recipe else {
            let usual = if self.subset.is_some() { "standard" } else { "mart" };
            let defence = self.defence.as_deref().unwrap_or(usual);
            let source = self.dataset.as_deref().unwrap_or("glyphs");
            let family = match source.split(':').next().unwrap_or_default() {
                "glyphs" => "glyphs",
                "fashion" => "fashion",
                "mnist" | "fashion-mnist" => "mnist",
                _ => "cifar10",
            };
            // A defence without a preset of its own takes the family's numbers from Standard's.
            let names = [defence.to_string(), format!("{defence}-paper")].map(|name| format!("{family}-{name}"));
            let own = names
                .iter()
                .find(|name| PRESETS.iter().any(|preset| preset.name == **name));
            return Ok(preset(own.unwrap_or(&format!("{family}-standard"))).map_err(wrong)?);
        };
        if Path::new(name).extension().is_some_and(|extension| extension == "toml") {
            let bytes = fs::read(name).with_context(|| format!("the recipe cannot be read: {name}"))?;
            let text = String::from_utf8(bytes).map_err(|error| {
                let is_wide = error.as_bytes().starts_with(b"\xff\xfe") || error.as_bytes().starts_with(b"\xfe\xff");
                let got = if is_wide { "UTF-16" } else { "other bytes" };
                WrongUse(format!(
                    "expected a recipe in UTF-8, got {got}; save it again as UTF-8: {name}"
                ))
            })?;
            return Recipe::from_toml(&text).map_err(|error| {
                let said = wrong(error).to_string();
                let way_out = if said.contains("missing escaped value") || said.contains("invalid escape") {
                    "; in \"…\" a \\ begins an escape: write '…' or / in paths"
                } else {
                    ""
                };
                WrongUse(format!("{name}: {said}{way_out}")).into()
            });
        }
        Ok(preset(name).map_err(wrong)?)
    }

    /// The defence of `--subset`.
    fn subset(&self) -> Result<Option<DefenceSpec>> {
        let (Some(path), Some(which), Some(treatment)) = (&self.subset, &self.members, &self.treatment) else {
            return Ok(None);
        };
        let subsets = SplitFile::read(path)?.subsets;
        let side = match which.as_str() {
            "correct" => Side::Correct,
            _ => Side::Misclassified,
        };
        let treatment = Treatment::named(treatment).with_context(|| format!("no treatment is called {treatment}"))?;
        Ok(Some(subsets.defence(side, treatment)))
    }

    /// Checks that `train` holds the examples that `--subset` speaks of.
    pub fn check_subset(&self, train: &Dataset) -> Result<()> {
        if let Some(path) = &self.subset {
            let subsets = SplitFile::read(path)?.subsets;
            subsets
                .check(train)
                .map_err(|error| WrongUse(format!("--subset {}: {error}", path.display())))?;
        }
        Ok(())
    }

    fn override_fields(&self, recipe: &mut Recipe) -> Result<()> {
        // A flag that was not given leaves the recipe's field as it is.
        fn put<T: Clone>(field: &mut T, value: &Option<T>) {
            if let Some(value) = value {
                *field = value.clone();
            }
        }
        if let Some(network) = &self.network {
            recipe.network = Architecture::from_str(network).map_err(wrong)?;
        }
        put(&mut recipe.data.source, &self.dataset);
        if let Some(source) = &self.unlabelled {
            let unlabelled = recipe
                .data
                .unlabelled
                .get_or_insert_with(|| Unlabelled::from_source(source));
            unlabelled.source.clone_from(source);
        }
        if let Some(weight) = self.unlabelled_weight {
            let Some(unlabelled) = &mut recipe.data.unlabelled else {
                return Err(WrongUse("--unlabelled-weight: add --unlabelled SOURCE".into()).into());
            };
            unlabelled.weight = weight;
        }
        if self.resize.is_some() {
            recipe.data.resize = self.resize;
        }
        if self.center_crop.is_some() {
            recipe.data.center_crop = self.center_crop;
        }
        if self.limit_train.is_some() {
            recipe.data.limit_train = self.limit_train;
        }
        put(&mut recipe.data.held_out, &self.held_out);
        if let Some(norm) = &self.norm {
            recipe.take_norm(if norm == "l2" { Norm::L2 } else { Norm::Linf });
        }
        if let Some(epsilon) = &self.epsilon {
            recipe.take_epsilon(epsilon.clone());
        }
        if let Some(name) = self.defence.as_deref().filter(|name| *name != recipe.defence.name()) {
            let defence = DefenceSpec::named(name, &recipe.threat.epsilon).ok_or_else(|| {
                if name == "subset" {
                    return WrongUse("--defence: subset needs its members: take --subset FILE --members misclassified --treatment regularised in its place; `martlet data split` writes the file".into());
                }
                let known = DefenceSpec::NAMES.join(", ");
                let meant = meant(name, DefenceSpec::NAMES);
                WrongUse(format!("--defence: expected one of {known}, got {name}{meant}"))
            })?;
            recipe.defend_with(defence);
        }
        if let Some(subset) = self.subset()? {
            recipe.defend_with(subset);
        }
        if let Some(form) = &self.form {
            let Some(field) = recipe.defence.form_mut() else {
                return Err(WrongUse(format!("--form: {} has one form only", recipe.defence)).into());
            };
            *field = if form == "released" {
                Form::Released
            } else {
                Form::Paper
            };
        }
        if let Some(lambda) = self.lambda
            && !recipe.defence.set_lambda(lambda)
        {
            return Err(WrongUse(format!("--lambda: {} has no λ", recipe.defence)).into());
        }
        put(&mut recipe.attack.steps, &self.steps);
        put(&mut recipe.attack.step_size, &self.step_size);
        if let Some(start) = &self.start {
            recipe.attack.start = match start.as_str() {
                "natural" => Start::Natural,
                "uniform" => Start::Uniform,
                _ => Start::Gaussian,
            };
        }
        if let Some(mode) = &self.attack_mode {
            recipe.attack.mode = if mode == "train" { Mode::Train } else { Mode::Eval };
        }
        put(&mut recipe.epochs, &self.epochs);
        put(&mut recipe.batch_size, &self.batch_size);
        put(&mut recipe.optimiser.learning_rate, &self.learning_rate);
        put(&mut recipe.optimiser.momentum, &self.momentum);
        put(&mut recipe.optimiser.weight_decay, &self.weight_decay);
        put(&mut recipe.warm_up.epsilon_epochs, &self.epsilon_warm_up);
        put(&mut recipe.warm_up.natural_epochs, &self.natural_warm_up);
        put(&mut recipe.warm_up.standard_epochs, &self.standard_warm_up);
        put(&mut recipe.label_smoothing, &self.label_smoothing);
        if let Some(gamma) = self.awp {
            recipe.weight_perturbation = Some(WeightPerturbation { gamma, from_epoch: 0 });
        }
        if let Some(decay) = self.ema {
            recipe.average = Some(WeightAverage { decay });
        }
        if let Some(patience) = self.patience {
            recipe.early_stop = Some(EarlyStop { patience });
        }
        if self.clip_gradient.is_some() {
            recipe.optimiser.clip_gradient = self.clip_gradient;
        }
        put(&mut recipe.data.augmentation.pad, &self.pad);
        put(&mut recipe.data.augmentation.flip, &self.flip);
        put(&mut recipe.seed, &self.seed);
        Ok(())
    }
}

/// Whether a source names a data set whose files must be somewhere, without saying where.
fn needs_a_place(source: &str) -> bool {
    !["glyphs", "fashion"].contains(&source) && data::KINDS.contains(&source)
}

/// Sets fields by their dotted names; a value that is no TOML value is taken as text.
fn set_fields(recipe: Recipe, assignments: &[String]) -> Result<Recipe> {
    if assignments.is_empty() {
        return Ok(recipe);
    }
    let mut root: toml::Table = recipe.to_toml().parse().context("the recipe cannot be read back")?;
    for assignment in assignments {
        let wrong = || {
            WrongUse(format!(
                "--set: expected FIELD=VALUE such as epochs=5, got {assignment}"
            ))
        };
        let (field, text) = assignment.split_once('=').ok_or_else(wrong)?;
        let value = format!("value = {text}")
            .parse::<toml::Table>()
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| toml::Value::String(text.to_string()));
        let mut names: Vec<&str> = field.trim().split('.').collect();
        let last = names.pop().ok_or_else(wrong)?;
        let mut table = &mut root;
        for name in names {
            table = table
                .entry(name)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .ok_or_else(|| WrongUse(format!("--set {assignment}: {name} holds a value, not fields")))?;
        }
        table.insert(last.to_string(), value);
    }
    let text = toml::to_string(&root).context("the recipe cannot be written")?;
    Recipe::from_toml(&text).map_err(|error| {
        let assignments = assignments.join(" --set ");
        WrongUse(format!("--set {assignments}: {}", wrong(error))).into()
    })
}

/// An error in what a person wrote, with its causes.
fn wrong(error: impl Into<anyhow::Error>) -> WrongUse {
    WrongUse(super::chain(&error.into()))
}

/// The built-in recipes, a line each.
pub fn list() -> String {
    let rows: Vec<Vec<String>> = PRESETS
        .iter()
        .map(|preset| vec![preset.name.to_string(), format!("  {}", preset.about)])
        .collect();
    rows.iter()
        .map(|row| format!("{:<26}{}", row[0], row[1]))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(dataset: &str) -> RecipeOptions {
        RecipeOptions {
            dataset: Some(dataset.into()),
            ..Default::default()
        }
    }

    #[test]
    fn flags_override_the_preset() {
        let recipe = RecipeOptions {
            defence: Some("trades".into()),
            epsilon: Some("8/255".parse().unwrap()),
            epochs: Some(3),
            set: vec![
                "schedule.kind=constant".into(),
                "evaluation.limit=20".into(),
                "log_every = 2".into(),
            ],
            ..options("glyphs")
        }
        .resolve()
        .unwrap();
        assert_eq!(recipe.defence, DefenceSpec::Trades { lambda: 4.0 });
        assert_eq!(recipe.threat.epsilon.to_string(), "8/255");
        assert_eq!(recipe.attack.step_size.to_string(), "8/255/4");
        assert_eq!(
            (recipe.epochs, recipe.evaluation.limit, recipe.log_every),
            (3, Some(20), 2)
        );
    }

    #[test]
    fn every_defence_and_what_is_put_round_it_have_flags() {
        for name in DefenceSpec::NAMES {
            for dataset in ["glyphs", "mnist:DIR", "cifar10:DIR"] {
                let recipe = RecipeOptions {
                    defence: Some(name.into()),
                    ..options(dataset)
                }
                .resolve()
                .unwrap_or_else(|error| panic!("{name} on {dataset}: {error}"));
                assert_eq!(recipe.defence.name(), name);
            }
        }
        let recipe = RecipeOptions {
            defence: Some("mma".into()),
            form: Some("paper".into()),
            awp: Some(0.01),
            ema: Some(0.99),
            patience: Some(3),
            label_smoothing: Some(0.1),
            set: vec!["weight_perturbation.from_epoch=2".into()],
            ..options("cifar100:DIR")
        }
        .resolve()
        .unwrap();
        assert_eq!(recipe.defence.to_string(), "MMA (Table 1)");
        assert!(
            recipe
                .summary()
                .contains("AWP (γ = 0.01) + EMA (0.99) + label smoothing 0.1")
        );
        assert_eq!(recipe.weight_perturbation.unwrap().from_epoch, 2);
        let recipe = RecipeOptions {
            defence: Some("mma".into()),
            epsilon: Some("0.1".parse().unwrap()),
            ..options("glyphs")
        }
        .resolve()
        .unwrap();
        assert!(recipe.defence.to_string().starts_with("MMA (margins up to 0.15"));
        let error = RecipeOptions {
            defence: Some("martt".into()),
            ..options("glyphs")
        }
        .resolve()
        .unwrap_err();
        assert!(error.to_string().contains("uat"), "{error}");
    }

    #[test]
    fn ablations_are_fields() {
        let recipe = RecipeOptions {
            set: vec![
                "defence.ablation.without_weight=true".into(),
                "defence.ablation.classification=cross-entropy".into(),
                "defence.ablation.inner=kl".into(),
            ],
            ..options("glyphs")
        }
        .resolve()
        .unwrap();
        assert_eq!(
            recipe.defence.to_string(),
            "MART (λ = 5, without 1 − p, CE, attack climbs KL)"
        );
    }

    #[test]
    fn defaults_agree() {
        let of = |options: RecipeOptions| options.resolve().unwrap();
        for dataset in [
            "glyphs",
            "fashion",
            "mnist:DIR",
            "cifar10:DIR",
            "folder:DIR",
            "npz:FILE",
        ] {
            assert_eq!(of(options(dataset)).defence.name(), "mart", "{dataset}");
        }
        for (dataset, kind) in [("glyphs", "trades"), ("cifar10:DIR", "mma"), ("mnist:DIR", "mart")] {
            let flag = RecipeOptions {
                defence: Some(kind.into()),
                ..options(dataset)
            };
            let field = RecipeOptions {
                set: vec![format!("defence.kind={kind}")],
                ..options(dataset)
            };
            assert_eq!(of(flag), of(field), "{kind} on {dataset}");
        }
        for (dataset, radius) in [("mnist:DIR", "1.5"), ("cifar10:DIR", "128/255")] {
            let recipe = of(RecipeOptions {
                norm: Some("l2".into()),
                ..options(dataset)
            });
            assert_eq!(recipe.threat.epsilon.to_string(), radius);
            assert_eq!(recipe.attack.step_size, recipe.threat.epsilon.divided_by(4));
        }
        let own = of(RecipeOptions {
            norm: Some("l2".into()),
            epsilon: Some("0.75".parse().unwrap()),
            ..options("mnist:DIR")
        });
        assert_eq!(own.threat.epsilon.to_string(), "0.75");
        for preset in PRESETS {
            let recipe = RecipeOptions {
                recipe: Some(preset.name.into()),
                ..Default::default()
            };
            assert!(recipe.shown().is_ok(), "{} cannot be shown", preset.name);
        }
    }

    #[test]
    fn a_data_set_without_a_place_says_how_to_get_it() {
        let error = RecipeOptions {
            recipe: Some("mnist-mart".into()),
            ..Default::default()
        }
        .resolve()
        .unwrap_err();
        assert!(error.to_string().contains("--dataset mnist:DIR"), "{error}");
    }

    #[test]
    fn wrong_fields_are_named() {
        let error = RecipeOptions {
            set: vec!["epoch=3".into()],
            ..options("glyphs")
        }
        .resolve()
        .unwrap_err();
        assert!(format!("{error:#}").contains("epoch"), "{error:#}");
    }
}
