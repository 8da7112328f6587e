//! A session of training in a run's folder: what the terminal and the window do alike.

use std::path::Path;

use serde_json::{Value, json};

use super::{
    Alone, Group, Observer, TrainError, TrainingData,
    device_check::{self, Subject},
    train_together,
};
use crate::{
    compute::{Device, Products, self_check::Verdict},
    control::Control,
    memory,
    nn::Model,
    random::Rng,
    recipe::Recipe,
    runs::{Run, RunError, Slot},
    shapes::ImageShape,
};

/// A run was begun on other data than those at hand.
#[derive(Debug, thiserror::Error)]
#[error(
    "the run {run} was begun on other data: expected {part} examples with fingerprint {begun}, got {now}; name the same files"
)]
pub struct OtherData {
    /// The run's name.
    pub run: String,
    /// Which part of them differs: training, held-out or test.
    pub part: &'static str,
    /// The fingerprint of its data.
    pub begun: String,
    /// The fingerprint of those at hand.
    pub now: String,
}

/// What a run keeps about the device that it was trained on.
pub fn identity(device: &Device, verdict: &Verdict) -> Value {
    json!({ "info": device.info(), "self_check": verdict })
}

/// A new run's folder, with everything in it that tells what it will be.
///
/// # Errors
/// When the folder cannot be made, or the name is taken.
pub fn create(
    runs_dir: &Path,
    name: &str,
    recipe: &Recipe,
    data: &TrainingData,
    device: &Value,
) -> Result<Run, RunError> {
    let identity = json!({
        "summary": recipe.summary(),
        "device": device,
        "data": {
            "name": data.train.name(),
            "note": data.train.note(),
            "fingerprint": data.train.fingerprint(),
            "examples": data.train.len(),
            "classes": data.train.classes(),
            "evaluated": data.evaluated.len(),
            "split": data.split,
            "splits": data.splits,
            "class_names": data.train.class_names(),
            "shape": data.train.shape(),
        },
    });
    Run::create(runs_dir, name, &recipe.to_toml(), identity)
}

/// Remarks on images that stand in two parts of the run's data, or under two labels.
pub fn twins(run: &Run) -> Vec<String> {
    let remarks = run.identity()["data"]["splits"]["twins"].as_array();
    let texts = remarks.into_iter().flatten().filter_map(Value::as_str);
    texts.map(String::from).collect()
}

/// Checks that the data are those that the run was begun with.
///
/// # Errors
/// [`OtherData`] where they are not.
pub fn check_data(run: &Run, data: &TrainingData) -> Result<(), OtherData> {
    let own = &run.identity()["data"];
    let parts = [
        ("training", &own["fingerprint"], Some(data.train.fingerprint())),
        ("held-out", &own["splits"]["held-out"], data.splits.held_out.clone()),
        ("test", &own["splits"]["test"], data.splits.test.clone()),
    ];
    for (part, begun, now) in parts {
        // Runs of version 0.1 know their training examples only.
        let Some(begun) = begun.as_str() else { continue };
        if now.as_deref() != Some(begun) {
            return Err(OtherData {
                run: run.name().to_string(),
                part,
                begun: begun.to_string(),
                now: now.unwrap_or_else(|| "none".to_string()),
            });
        }
    }
    Ok(())
}

/// Begins a new run where the last checkpoint of another one stands, with the epochs until there: for recipes that are the same
/// so far, such as those of two defences with one warm-up. The result is that of training the new run from its first epoch.
///
/// # Errors
/// When a run cannot be read or written.
pub fn branch(from: &Run, run: &mut Run) -> Result<(), TrainError> {
    let checkpoint = from
        .load(Slot::Last)?
        .ok_or_else(|| TrainError::Progress("there is none yet".to_string()))?;
    run.lock()?;
    for line in from.metrics()?.iter().filter(|line| line["event"] == "epoch") {
        run.append(line)?;
    }
    if let Some(best) = from.load(Slot::Best)? {
        run.save(Slot::Best, &best)?;
    }
    run.save(Slot::Last, &checkpoint)?;
    Ok(())
}

/// Trains in an open run; what interrupts it is told in the run too.
///
/// # Errors
/// As [`train`](super::train), and where somebody else writes the run.
pub fn run(
    recipe: &Recipe,
    data: &TrainingData,
    run: &mut Run,
    device: &Device,
    identity: Value,
    control: &Control,
    observer: &mut dyn Observer,
) -> Result<Model, TrainError> {
    run_together(recipe, data, run, device, identity, control, observer, &Alone)
}

/// [`run`] by several processes, this one being their first.
///
/// # Errors
/// As [`run`] and [`train_together`].
#[expect(
    clippy::too_many_arguments,
    reason = "what is trained, on what, by whom, and who listens"
)]
pub fn run_together(
    recipe: &Recipe,
    data: &TrainingData,
    run: &mut Run,
    device: &Device,
    identity: Value,
    control: &Control,
    observer: &mut dyn Observer,
    group: &dyn Group,
) -> Result<Model, TrainError> {
    run.lock()?;
    let subject = Subject::of_training(recipe, &data.train, group);
    let mut identity = identity;
    if !group.is_alone() {
        let of = if recipe.sync_batch_norm {
            "statistics of the whole minibatch"
        } else {
            "statistics of each process's share"
        };
        identity["processes"] = json!({ "count": group.size(), "batch_norm": of });
    }
    match super::products(recipe, device)? {
        Products::Single => {}
        Products::Rounded => identity["mixed_precision"] = json!("rounded to float16"),
        Products::OnMatrixUnits(units) => {
            identity["mixed_precision"] = json!(format!("matrix units, {0} by {0}", units.size));
        }
    }
    if let Some(verdict) = device_check::ensure_network(&subject, device)? {
        identity["network_check"] = json!(verdict);
    }
    let earlier = run.identity()["sessions"]
        .as_array()
        .and_then(|sessions| sessions.last());
    let earlier = earlier.and_then(|session| session["device"]["info"]["name"].as_str());
    if let Some(earlier) = earlier.filter(|earlier| *earlier != device.info().name) {
        run.note(format!(
            "The run was trained on {earlier} until now and goes on on {}; figures may differ in their last digits",
            device.info().name
        ));
    }
    run.begin_session(identity)?;
    memory::keep_in_mind(format!(
        "the run keeps its last checkpoint: {}martlet train --resume --name {} --runs-dir {} goes on from it",
        group.launcher(),
        run.name(),
        run.folder().parent().unwrap_or(Path::new(".")).display()
    ));
    let trained = train_together(recipe, data, Some(run), device, control, observer, group);
    trained.inspect_err(|error| {
        // The cause matters more than whether it could be written down: a full disk fails here again.
        let _ = run.append(&json!({ "event": "failed", "error": error.to_string() }));
    })
}

/// What a new run is called before its number: the preset it came from, or its data and its defence.
pub fn name_of(recipe: &Recipe) -> String {
    let data = recipe.data.source.split(':').next().unwrap_or("run");
    format!("{data}-{}", recipe.defence.name())
}

/// A run's network with the weights of a checkpoint, the last where none was found the best yet, and the checkpoint's name.
///
/// # Errors
/// When the run has no checkpoint yet, it is damaged, or it does not fit the data.
pub fn named_model_of(
    run: &Run,
    slot: Slot,
    shape: ImageShape,
    classes: usize,
    device: &Device,
) -> Result<(Model, String), TrainError> {
    let recipe = Recipe::from_toml(run.recipe_toml()).map_err(|error| TrainError::Progress(error.to_string()))?;
    let (name, checkpoint) = match run.load_named(slot)? {
        Some(found) => found,
        None => run
            .load_named(Slot::Last)?
            .ok_or_else(|| TrainError::Progress("there is none yet".to_string()))?,
    };
    let mut model = Model::new(recipe.network, shape, classes, &mut Rng::new(0), device)?;
    super::progress::load_weights(&mut model, &checkpoint.weights)?;
    Ok((model, name))
}

/// [`named_model_of`] where the name does not matter.
///
/// # Errors
/// As [`named_model_of`].
pub fn model_of(
    run: &Run,
    slot: Slot,
    shape: ImageShape,
    classes: usize,
    device: &Device,
) -> Result<Model, TrainError> {
    named_model_of(run, slot, shape, classes, device).map(|(model, _)| model)
}
