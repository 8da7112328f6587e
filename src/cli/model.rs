//! What a path means: a run's folder, a run's name, or a file of weights; and the model in it.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result};

use super::{
    WrongUse, positive,
    terminal::{detail, note},
};
use crate::{
    compute::Device,
    data::{self, DataError, Dataset, Preparation, Split},
    engine::TrainingData,
    memory::Budget,
    nn::{Architecture, Model, Normalisation, weights},
    random::Rng,
    recipe::Recipe,
    runs::{self, Run, Slot},
    threat::{Magnitude, Norm, ThreatModel},
    wording::meant,
};

/// Which model on which data, under which threat.
#[derive(clap::Args, Clone)]
pub struct ModelOptions {
    /// A run's folder or name, or a file of weights: .safetensors, .pt or .pth.
    #[arg(value_name = "RUN|FILE")]
    pub path: PathBuf,
    /// The network; a run knows its own.
    #[arg(long)]
    pub network: Option<String>,
    /// Of a file that holds the network several times: what stands before the names of the one to take, such as ema.
    #[arg(long, value_name = "PREFIX")]
    pub weights_key: Option<String>,
    /// Of a file of weights whose own program normalises its images and does not say so in the file: mean and standard deviation of each channel for pixels in [0, 1], such as 0.4914,0.4822,0.4465/0.2471,0.2435,0.2616.
    #[arg(long, value_name = "MEAN/STD")]
    pub normalise: Option<String>,
    /// glyphs, fashion, mnist:DIR, fashion-mnist:DIR, cifar10:PATH, cifar100:PATH, cifar10-c:FOLDER/CORRUPTION, svhn:FOLDER, tiny-imagenet:FOLDER, folder:PATH or npz:PATH; a run knows its own.
    #[arg(long, value_name = "SOURCE")]
    pub dataset: Option<String>,
    /// Which part of the data.
    #[arg(long, default_value = "test", value_parser = ["train", "test", "held-out"])]
    pub split: String,
    /// Scale the shorter side of a folder's pictures to so many pixels and take the middle square; a run knows its own.
    #[arg(long, value_name = "PIXELS")]
    pub resize: Option<usize>,
    /// Take the middle square of so many pixels of a folder's pictures, after scaling; a run knows its own.
    #[arg(long, value_name = "PIXELS")]
    pub center_crop: Option<usize>,
    /// Use only the first N examples.
    #[arg(long, value_name = "N", value_parser = positive)]
    pub limit: Option<usize>,
    /// The radius of the ball in pixel units, such as 0.3 or 8/255.
    #[arg(long)]
    pub epsilon: Option<Magnitude>,
    /// The ball's norm.
    #[arg(long, value_parser = ["linf", "l2"])]
    pub norm: Option<String>,
    /// Which checkpoint of a run.
    #[arg(long, default_value = "best", value_parser = ["best", "last"])]
    pub checkpoint: String,
}

/// A model ready to be attacked.
pub struct Loaded {
    /// The network with its weights.
    pub model: Model,
    /// The examples.
    pub dataset: Dataset,
    /// The threat model.
    pub threat: ThreatModel,
    /// The run that it comes from, where it does.
    pub run: Option<Run>,
    /// Whether its checkpoint was chosen on the split that is now evaluated.
    pub chosen_on_this_split: bool,
    /// Whether the figures are the run's own: of all its examples of that part, under its own threat model.
    pub stands: bool,
    /// Tensors of the file that look like a normalisation of the input, which the network does not do.
    pub normalisation: Vec<String>,
    /// The run's checkpoint that the weights are of, and its slot.
    pub checkpoint: Option<(String, Slot)>,
}

/// A run's checkpoint and the file with its weights.
struct Found {
    weights: PathBuf,
    checkpoint: Option<(String, Slot)>,
}

impl ModelOptions {
    /// Loads what the options name.
    pub fn load(&self, runs_dir: &Path, device: &Device) -> Result<Loaded> {
        let run = if self.path.exists() {
            open_run(&self.path, runs_dir)?
        } else {
            Some(run_named(&self.path, runs_dir)?)
        };
        let recipe = self.recipe_of(run.as_ref())?;
        let source = match (&self.dataset, &recipe) {
            (Some(source), _) => source.clone(),
            (None, Some(recipe)) => recipe.data.source.clone(),
            (None, None) => return Err(wrong("weights alone do not say what they classify: add --dataset").into()),
        };
        let whole = self.dataset_of(&source, recipe.as_ref())?;
        let (whole, is_own) = match (&run, &recipe) {
            (Some(run), Some(recipe)) => self.belonging_to(run, recipe, whole, &source)?,
            _ => (whole, true),
        };
        let dataset = match self.limit {
            Some(limit) => whole.take(limit.min(whole.len())),
            None => whole.clone(),
        };
        detail(|| {
            format!(
                "data: {}, {} of {} examples, {}, fingerprint {}",
                dataset.name(),
                dataset.len(),
                whole.len(),
                dataset.shape(),
                whole.fingerprint()
            )
        });
        let epsilon = match (&self.epsilon, &recipe) {
            (Some(epsilon), _) => epsilon.clone(),
            (None, Some(recipe)) => recipe.threat.epsilon.clone(),
            (None, None) => return Err(wrong("robustness has no meaning without a radius: add --epsilon").into()),
        };
        let norm = match (self.norm.as_deref(), &recipe) {
            (Some("l2"), _) => Norm::L2,
            (None, Some(recipe)) => recipe.threat.norm,
            _ => Norm::Linf,
        };
        if let (None, Some(recipe)) = (&self.epsilon, &recipe)
            && norm != recipe.threat.norm
        {
            return Err(wrong(&format!(
                "--norm: the run's radius is {}, in another norm; add --epsilon with one in {norm}",
                recipe.threat
            ))
            .into());
        }
        let found = self.weights_of(run.as_ref())?;
        detail(|| format!("weights: {}", found.weights.display()));
        let (model, normalisation) = self.load_model(&found.weights, recipe.as_ref(), &dataset, device)?;
        let on_test = recipe.as_ref().is_some_and(|recipe| recipe.data.held_out == 0);
        let slot = found.checkpoint.as_ref().map(|(_, slot)| *slot);
        let chosen_on_this_split =
            is_own && slot == Some(Slot::Best) && (self.split == "held-out" || (self.split == "test" && on_test));
        let threat = ThreatModel { norm, epsilon };
        if let Some(fault) = threat.fault() {
            return Err(wrong(&format!(
                "--epsilon: expected a radius that leaves images apart, got {fault}"
            ))
            .into());
        }
        let is_own_threat = recipe.as_ref().is_some_and(|recipe| recipe.threat == threat);
        let stands = is_own && is_own_threat && dataset.len() == whole.len();
        Ok(Loaded {
            model,
            dataset,
            threat,
            run,
            chosen_on_this_split,
            stands,
            normalisation,
            checkpoint: found.checkpoint,
        })
    }

    /// Loads only the model that `path` names, in the same checkpoint: another one on the same examples.
    pub fn load_other(
        &self,
        path: &Path,
        network: Option<&String>,
        runs_dir: &Path,
        dataset: &Dataset,
        device: &Device,
    ) -> Result<Model> {
        let other = Self {
            path: path.to_path_buf(),
            network: network.cloned(),
            normalise: None,
            ..self.clone()
        };
        let run = open_run(&other.path, runs_dir)?;
        let recipe = other.recipe_of(run.as_ref())?;
        let found = other.weights_of(run.as_ref())?;
        Ok(other.load_model(&found.weights, recipe.as_ref(), dataset, device)?.0)
    }

    /// The data set with the run's classes in the run's order, and whether these are the examples that the run knows.
    ///
    /// Data that `--dataset` names may be others; those that the recipe names must be the run's own.
    fn belonging_to(&self, run: &Run, recipe: &Recipe, data: Dataset, source: &str) -> Result<(Dataset, bool)> {
        let known = &run.identity()["data"];
        let (begun, now) = match self.split.as_str() {
            "train" => {
                let mut recipe = recipe.clone();
                recipe.data.source = source.to_string();
                let train = TrainingData::load(&recipe).map(|data| data.train.fingerprint());
                (&known["fingerprint"], train.unwrap_or_default())
            }
            split => (&known["splits"][split], data.fingerprint()),
        };
        let split = &self.split;
        let is_own = match begun.as_str() {
            Some(begun) if begun == now => true,
            Some(_) if self.dataset.is_some() => {
                note(format!(
                    "{source}: other {split} examples than those of the run {}",
                    run.name()
                ));
                false
            }
            Some(begun) => {
                return Err(wrong(&format!(
                    "the {split} examples are not those that the run {} was begun with: expected fingerprint {begun}, got {now}; name the original files with --dataset, or these ones, to measure the run on other data: {source}",
                    run.name()
                ))
                .into());
            }
            None => {
                note(format!(
                    "the run {} does not say what its {split} examples were: they could not be compared",
                    run.name()
                ));
                self.dataset.is_none()
            }
        };
        let classes = known["class_names"].as_array().into_iter().flatten();
        let classes: Vec<String> = classes.filter_map(|name| Some(name.as_str()?.to_string())).collect();
        if classes.is_empty() || classes == data.class_names() {
            return Ok((data, is_own));
        }
        let unknown = match data.among(&classes) {
            Ok(moved) => {
                note("the classes are found by their names");
                return Ok((moved, is_own));
            }
            Err(unknown) => unknown,
        };
        if data.classes() <= classes.len() && (numbered(&classes) || numbered(data.class_names())) {
            note("the classes have no names in common: class 0 is taken for class 0, and so on");
            return Ok((data.with_class_names(&classes), is_own));
        }
        Err(wrong(&format!(
            "the run {} was trained on the classes {}; got {}, where {unknown} is none of them; rename the classes, or leave those out that the run does not know: {source}",
            run.name(),
            classes.join(", "),
            data.class_names().join(", ")
        ))
        .into())
    }

    fn weights_of(&self, run: Option<&Run>) -> Result<Found> {
        let Some(run) = run else {
            return Ok(Found {
                weights: self.path.clone(),
                checkpoint: None,
            });
        };
        let asked = slot_of(&self.checkpoint);
        let mut found = run.weights_path(asked)?.map(|path| (path, asked));
        if found.is_none() && asked == Slot::Best {
            note(NO_BEST);
            found = run.weights_path(Slot::Last)?.map(|path| (path, Slot::Last));
        }
        let (weights, slot) = found.context("the run has no checkpoint yet")?;
        // The folder that the weights lie in bears the checkpoint's name: another may be the newest before they are read.
        let name = weights.parent().and_then(Path::file_name);
        Ok(Found {
            checkpoint: name.map(|name| (name.to_string_lossy().into_owned(), slot)),
            weights,
        })
    }

    fn load_model(
        &self,
        weights_file: &Path,
        recipe: Option<&Recipe>,
        dataset: &Dataset,
        device: &Device,
    ) -> Result<(Model, Vec<String>)> {
        let architecture = match (&self.network, recipe) {
            (Some(name), _) => Architecture::from_str(name).map_err(|error| wrong(&error.to_string()))?,
            (None, Some(recipe)) => recipe.network,
            (None, None) => return Err(wrong("weights alone do not say whose they are: add --network").into()),
        };
        let sized = |classes| Model::new(architecture, dataset.shape(), classes, &mut Rng::new(0), device);
        let entries = weights::read_state(weights_file)?;
        let mut model = sized(dataset.classes())?;
        // Weights know more classes than examples of a part of them show.
        if let Some(classes) = model
            .classes_of(&entries)
            .filter(|classes| *classes > dataset.classes())
        {
            if !numbered(dataset.class_names()) {
                return Err(wrong(&format!(
                    "the weights answer with {classes} classes, the data name {}: {}; which of the {classes} those are cannot be known; name every class in the data, an empty folder for each that has no pictures",
                    dataset.classes(),
                    dataset.class_names().join(", ")
                ))
                .into());
            }
            note(format!(
                "the weights answer with {classes} classes, the data number {}: theirs are taken for the first of them",
                dataset.classes()
            ));
            model = sized(classes)?;
        }
        let mut report = weights::load_entries(weights_file, entries, &mut model, self.weights_key.as_deref())?;
        if let Some(text) = &self.normalise {
            if recipe.is_some() {
                return Err(wrong(
                    "--normalise: expected a file of weights, got a run, whose network sees pixels as they are",
                )
                .into());
            }
            normalise(&mut model, &mut report, text)?;
        }
        if report.has_remarks() {
            note(&report);
        }
        Ok((model, report.normalisation))
    }

    fn recipe_of(&self, run: Option<&Run>) -> Result<Option<Recipe>> {
        let recipe = run.map(|run| Recipe::from_toml(run.recipe_toml()).context("the run's recipe.toml is damaged"));
        recipe.transpose()
    }

    fn dataset_of(&self, source: &str, recipe: Option<&Recipe>) -> Result<Dataset> {
        let own = recipe.map_or_else(Preparation::default, |recipe| recipe.data.preparation());
        // What the recipe does is for a folder of pictures: another kind of source that is named instead has none.
        let own = if source.starts_with("folder:") {
            own
        } else {
            Preparation::default()
        };
        let preparation = Preparation {
            resize: self.resize.or(own.resize),
            center_crop: self.center_crop.or(own.center_crop),
        };
        let load = |split| data::load_within(source, split, &preparation, &Budget::default());
        Ok(match (self.split.as_str(), recipe) {
            ("test", _) => load(Split::Test).map_err(|error| without_test_split(error, recipe))?,
            ("train", _) => load(Split::Train)?,
            (_, Some(recipe)) => load(Split::Train)?.split_off(recipe.data.held_out, recipe.seed).1,
            (_, None) => return Err(wrong("only a run knows what it held out: take --split test or train").into()),
        })
    }
}

/// Has the model normalise its images as `--normalise` says.
pub fn normalise(model: &mut Model, report: &mut weights::LoadReport, text: &str) -> Result<()> {
    let stated =
        Normalisation::parse(text, model.input().channels).map_err(|error| wrong(&format!("--normalise: {error}")))?;
    report
        .normalise(model, stated)
        .map_err(|error| wrong(&format!("--normalise: {error}")).into())
}

/// Whether these are no names: arrays number their classes and say no more.
fn numbered(names: &[String]) -> bool {
    names.iter().enumerate().all(|(place, name)| *name == place.to_string())
}

/// Said where the last checkpoint stands in for the best.
pub const NO_BEST: &str = "the run has no best checkpoint yet: its last one is taken";

/// The checkpoint that `--checkpoint` names.
pub fn slot_of(checkpoint: &str) -> Slot {
    if checkpoint == "last" { Slot::Last } else { Slot::Best }
}

/// The run whose folder or name `path` is; none where it is neither.
pub fn open_run(path: &Path, runs_dir: &Path) -> Result<Option<Run>> {
    // Hugging Face's libraries keep weights in a folder.
    if path.is_dir() && !path.join("run.json").exists() && weights::weights_in(path).is_some() {
        return Ok(None);
    }
    if path.is_dir() {
        return Ok(Some(Run::open(path)?));
    }
    let named = runs_dir.join(path);
    if !path.exists() && named.is_dir() {
        return Ok(Some(Run::open(&named)?));
    }
    Ok(None)
}

/// [`open_run`] where there must be one.
pub fn run_named(path: &Path, runs_dir: &Path) -> Result<Run> {
    if let Some(run) = open_run(path, runs_dir)? {
        return Ok(run);
    }
    let listed = runs::list(runs_dir)?;
    let name = path.to_string_lossy();
    let meant = meant(&name, listed.iter().map(|run| run.name.as_str()));
    Err(wrong(&format!(
        "expected a run's folder or name, got {name}{meant}; `martlet runs --runs-dir {}` lists them",
        runs_dir.display()
    ))
    .into())
}

/// Data without test images: what the run held out is the honest choice, the training images only a named one.
fn without_test_split(error: DataError, recipe: Option<&Recipe>) -> anyhow::Error {
    let DataError::NoTestSplit { got, path } = error else {
        return error.into();
    };
    let held_out = recipe.map_or(0, |recipe| recipe.data.held_out);
    let way_out = if held_out > 0 {
        format!("add --split held-out for the {held_out} examples that the run held out")
    } else {
        "add --split train to take the images that are there, or name another --dataset".to_string()
    };
    wrong(&format!(
        "expected test images, got {got}; {way_out}: {}",
        path.display()
    ))
    .into()
}

fn wrong(text: &str) -> WrongUse {
    WrongUse(text.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::recipe::preset;

    #[test]
    fn data_without_test_images_name_the_way_out() {
        let error = || DataError::NoTestSplit {
            got: "one set".into(),
            path: "one.npz".into(),
        };
        let mut recipe = preset("mnist-mart").unwrap();
        recipe.data.held_out = 0;
        for recipe in [None, Some(&recipe)] {
            let said = without_test_split(error(), recipe);
            assert!(
                said.is::<WrongUse>() && said.to_string().contains("--split train"),
                "{said}"
            );
        }
        recipe.data.held_out = 500;
        let said = without_test_split(error(), Some(&recipe)).to_string();
        assert!(
            said.contains("--split held-out for the 500") && said.ends_with("one.npz"),
            "{said}"
        );
    }
}
