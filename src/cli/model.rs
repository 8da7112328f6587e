//! What a path means: a run's folder, a run's name, or a file of weights; and the model in it.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result};

use super::{WrongUse, terminal::note};
use crate::{
    compute::Device,
    data::{self, DataError, Dataset, Split},
    nn::{Architecture, Model, weights},
    random::Rng,
    recipe::Recipe,
    runs::{Run, Slot},
    threat::{Magnitude, Norm, ThreatModel},
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
    /// glyphs, mnist:DIR, fashion-mnist:DIR, cifar10:PATH, cifar100:PATH, cifar10-c:FOLDER/CORRUPTION, svhn:FOLDER, tiny-imagenet:FOLDER, folder:PATH or npz:PATH; a run knows its own.
    #[arg(long, value_name = "SOURCE")]
    pub dataset: Option<String>,
    /// Which part of the data.
    #[arg(long, default_value = "test", value_parser = ["train", "test", "held-out"])]
    pub split: String,
    /// Use only the first N examples.
    #[arg(long, value_name = "N")]
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
}

impl ModelOptions {
    /// Loads what the options name.
    pub fn load(&self, runs_dir: &Path, device: &Device) -> Result<Loaded> {
        let run = open_run(&self.path, runs_dir)?;
        let recipe = self.recipe_of(run.as_ref())?;
        let source = match (&self.dataset, &recipe) {
            (Some(source), _) => source.clone(),
            (None, Some(recipe)) => recipe.data.source.clone(),
            (None, None) => return Err(wrong("weights alone do not say what they classify: add --dataset").into()),
        };
        let dataset = self.dataset_of(&source, recipe.as_ref())?;
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
        let model = self.load_model(run.as_ref(), recipe.as_ref(), &dataset, device)?;
        let on_test = recipe.is_some_and(|recipe| recipe.data.held_out == 0);
        let chosen_on_this_split = run.is_some()
            && self.checkpoint == "best"
            && (self.split == "held-out" || (self.split == "test" && on_test));
        Ok(Loaded {
            model,
            dataset,
            threat: ThreatModel { norm, epsilon },
            run,
            chosen_on_this_split,
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
            ..self.clone()
        };
        let run = open_run(&other.path, runs_dir)?;
        let recipe = other.recipe_of(run.as_ref())?;
        other.load_model(run.as_ref(), recipe.as_ref(), dataset, device)
    }

    fn load_model(
        &self,
        run: Option<&Run>,
        recipe: Option<&Recipe>,
        dataset: &Dataset,
        device: &Device,
    ) -> Result<Model> {
        let architecture = match (&self.network, recipe) {
            (Some(name), _) => Architecture::from_str(name)?,
            (None, Some(recipe)) => recipe.network,
            (None, None) => return Err(wrong("weights alone do not say whose they are: add --network").into()),
        };
        let weights_file = match run {
            None => self.path.clone(),
            Some(run) => {
                let slot = slot_of(&self.checkpoint);
                match (run.weights_path(slot)?, slot) {
                    (Some(path), _) => path,
                    (None, Slot::Best) => {
                        note(NO_BEST);
                        run.weights_path(Slot::Last)?.context("the run has no checkpoint yet")?
                    }
                    (None, Slot::Last) => anyhow::bail!("the run has no checkpoint yet"),
                }
            }
        };
        let mut model = Model::new(
            architecture,
            dataset.shape(),
            dataset.classes(),
            &mut Rng::new(0),
            device,
        )?;
        let report = weights::load(&weights_file, &mut model)?;
        if report.has_remarks() {
            note(&report);
        }
        Ok(model)
    }

    fn recipe_of(&self, run: Option<&Run>) -> Result<Option<Recipe>> {
        let recipe = run.map(|run| Recipe::from_toml(run.recipe_toml()).context("the run's recipe.toml is damaged"));
        recipe.transpose()
    }

    fn dataset_of(&self, source: &str, recipe: Option<&Recipe>) -> Result<Dataset> {
        let whole = match (self.split.as_str(), recipe) {
            ("test", _) => data::load(source, Split::Test).map_err(|error| without_test_split(error, recipe))?,
            ("train", _) => data::load(source, Split::Train)?,
            (_, Some(recipe)) => {
                data::load(source, Split::Train)?
                    .split_off(recipe.data.held_out, recipe.seed)
                    .1
            }
            (_, None) => return Err(wrong("only a run knows what it held out: take --split test or train").into()),
        };
        Ok(match self.limit {
            Some(limit) => whole.take(limit.min(whole.len())),
            None => whole,
        })
    }
}

/// Said where the last checkpoint stands in for the best.
pub const NO_BEST: &str = "the run has no best checkpoint yet: its last one is taken";

/// The checkpoint that `--checkpoint` names.
pub fn slot_of(checkpoint: &str) -> Slot {
    if checkpoint == "last" { Slot::Last } else { Slot::Best }
}

/// The run whose folder or name `path` is; none where it is neither.
pub fn open_run(path: &Path, runs_dir: &Path) -> Result<Option<Run>> {
    if path.is_dir() {
        return Ok(Some(Run::open(path)?));
    }
    let named = runs_dir.join(path);
    if !path.exists() && named.is_dir() {
        return Ok(Some(Run::open(&named)?));
    }
    Ok(None)
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
