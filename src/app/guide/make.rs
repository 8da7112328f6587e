//! What a lesson makes beside training: the split of a training set by a trained network, and a network whose logits are
//! multiplied.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::{
    app::{background::Background, job},
    engine::{
        Ended, Event, TrainingData, session,
        subsets::{self, Subsets},
    },
    recipe::Recipe,
    runs::{self, Run, Slot, Values},
};

/// Examples a minibatch when the network is asked about the training set.
const BATCH_SIZE: usize = 128;

/// What is to be made.
pub enum Make {
    /// The sets S− and S+ of a run's best network.
    Split {
        /// The run.
        of: PathBuf,
        /// The device.
        device: String,
    },
    /// A run with another's best network, its logits multiplied.
    Scaled {
        /// What the lesson calls it.
        name: String,
        /// The other run.
        of: PathBuf,
        /// By how much.
        factor: f32,
        /// Where runs live.
        runs_dir: PathBuf,
    },
}

/// What was made.
pub enum Said {
    /// The sets of the run in that folder.
    Split(PathBuf, Box<Subsets>),
    /// The run that the lesson calls so lies in that folder.
    Scaled(String, PathBuf),
    /// Nothing, and why.
    Failed(String),
}

impl Make {
    /// Makes it on a thread of its own.
    pub fn start(self, ctx: &egui::Context) -> Background<Said> {
        Background::start("lesson", ctx, Said::Failed, move |control, teller| {
            match self {
                Make::Split { of, device } => {
                    let run = Run::open(&of)?;
                    let recipe = Recipe::from_toml(run.recipe_toml())?;
                    let train = TrainingData::load(&recipe)?.train;
                    let device = job::open(&device)?.device;
                    let model = session::model_of(&run, Slot::Best, train.shape(), train.classes(), &device)?;
                    let subsets = subsets::split(&model, &train, BATCH_SIZE, recipe.seed, &device, control)?;
                    teller.tell(Said::Split(of, Box::new(subsets)));
                }
                Make::Scaled {
                    name,
                    of,
                    factor,
                    runs_dir,
                } => teller.tell(Said::Scaled(name, scaled(&of, factor, &runs_dir)?)),
            }
            Ok(())
        })
    }
}

/// Makes a run of a run's best network whose last layer is multiplied by `factor`: every answer stays, and the softmax
/// saturates, so that the cross-entropy's gradient vanishes in float32. That is what became of networks under defensive
/// distillation, which are trained at a high temperature and used at a low one.
///
/// # Source
/// Papernot et al. 2016, "Distillation as a defense"; broken by Carlini and Wagner 2017, section V.
pub fn scaled(of: &Path, factor: f32, runs_dir: &Path) -> Result<PathBuf> {
    let run = Run::open(of)?;
    let recipe = Recipe::from_toml(run.recipe_toml())?;
    let mut checkpoint = run.load(Slot::Best)?.context("the run has no checkpoint yet")?;
    let classes = run.identity()["data"]["classes"].as_u64().unwrap_or_default() as usize;
    // The last layer is the one linear map onto the classes; small-cnn ends in it, as every network here does.
    let mut last = checkpoint.weights.iter().filter(|(_, array)| {
        let [outputs, _] = array.shape.as_slice() else {
            return false;
        };
        *outputs == classes
    });
    let last = last
        .next_back()
        .map(|(name, _)| name.trim_end_matches("weight").to_string());
    let last = last.context("the run's network does not end in a linear layer")?;
    for part in ["weight", "bias"] {
        if let Some(Values::F32(values)) = checkpoint
            .weights
            .get_mut(&format!("{last}{part}"))
            .map(|array| &mut array.values)
        {
            values.iter_mut().for_each(|value| *value *= factor);
        }
    }
    let mut identity = run.identity().clone();
    identity["scaled"] = json!({ "of": run.name(), "factor": factor });
    let summary = format!("{}, its logits × {factor}", recipe.summary());
    identity["summary"] = json!(summary);
    let name = runs::pick_name(runs_dir, &format!("{}-scaled", session::name_of(&recipe)))?;
    let mut made = Run::create(runs_dir, &name, run.recipe_toml(), identity)?;
    let note = format!(
        "The best network of {}, its last layer's weights and biases × {factor}: the same answers to every image, and hardly a gradient. Not trained further.",
        run.name()
    );
    runs::write_atomic(&made.folder().join("notes.txt"), note.as_bytes())?;
    made.append(&serde_json::to_value(Event::Finished(Ended {
        epochs: 0,
        total_steps: 0,
        best: None,
        early: false,
        clock: Default::default(),
    }))?)?;
    made.save(Slot::Best, &checkpoint)?;
    made.save(Slot::Last, &checkpoint)?;
    Ok(made.folder().to_path_buf())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        app::lessons::{recipe, tests::train},
        compute::Device,
        defences::DefenceSpec,
    };

    #[test]
    fn a_scaled_network_gives_the_same_answers_with_other_logits() {
        let folder = tempfile::tempdir().unwrap();
        let run = train(&recipe(&DefenceSpec::Natural, 1, 16), folder.path(), "plain");
        let made = scaled(run.folder(), 10_000.0, folder.path()).unwrap();
        let data = crate::data::load("glyphs", crate::data::Split::Test).unwrap().take(32);
        let batch = data.batch(&(0..32).collect::<Vec<_>>(), &Device::cpu());
        let [plain, scaled] = [run.folder(), &made].map(|folder| {
            let run = Run::open(folder).unwrap();
            let slot = crate::runs::Slot::Best;
            let model = session::model_of(&run, slot, data.shape(), data.classes(), &Device::cpu()).unwrap();
            let logits = model.forward(batch.images.clone(), crate::nn::Mode::Eval);
            crate::compute::read(logits).unwrap()
        });
        for (a, b) in plain.iter().zip(&scaled) {
            assert!((a * 10_000.0 - b).abs() <= 1e-3 * b.abs().max(1.0), "{a} became {b}");
        }
        let shown = crate::app::shown::Shown::read(&made, 0).unwrap();
        assert!(matches!(shown.ending, crate::report::Ending::Finished(_)));
    }
}
