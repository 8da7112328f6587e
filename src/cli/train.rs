//! `martlet train`.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    DeviceOption, Reporter, RunsDirOption, WrongUse, open_device,
    recipe::{self, RecipeOptions},
    stop_on_interrupt,
    terminal::{note, say},
};
use crate::{
    compute::Device,
    control::Control,
    engine::{self, Event, TrainingData},
    nn::Model,
    recipe::Recipe,
    runs::{self, Run},
};

/// Arguments of `martlet train`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet train --recipe mnist-mart --dataset mnist:DIR --limit-train 10000\n  martlet train --defence standard --dataset cifar10:DIR --network resnet-18 --epsilon 8/255\n  martlet train --resume --name mnist-mart-1"
)]
pub struct TrainArguments {
    #[command(flatten)]
    recipe: RecipeOptions,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    runs_dir: RunsDirOption,
    /// The run's name; without one it is made from the recipe.
    #[arg(long)]
    name: Option<String>,
    /// Go on with the run of that name where its last checkpoint stands; begin it where there is none.
    #[arg(long, requires = "name")]
    resume: bool,
    /// Print each event as a line of JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Print the whole recipe and stop.
    #[arg(long)]
    show_recipe: bool,
    /// List the built-in recipes and stop.
    #[arg(long)]
    list_recipes: bool,
}

pub(super) fn run(arguments: TrainArguments) -> Result<()> {
    if arguments.list_recipes {
        say(recipe::list());
        return Ok(());
    }
    if arguments.show_recipe {
        say(arguments.recipe.resolve()?.to_toml().trim_end());
        return Ok(());
    }
    let runs_dir = &arguments.runs_dir.runs_dir;
    let resumed = match &arguments.name {
        Some(name) if arguments.resume && runs_dir.join(name).join("recipe.toml").exists() => {
            Some(Run::open(&runs_dir.join(name))?)
        }
        _ => None,
    };
    let recipe = match &resumed {
        Some(run) => recipe_of(run, &arguments.recipe)?,
        None => arguments.recipe.resolve()?,
    };
    let control = stop_on_interrupt();
    let (device, identity) = open_device(&arguments.device.device, arguments.json)?;
    let data = TrainingData::load(&recipe)?;
    let mut run = match resumed {
        Some(run) => take_up(run, &data)?,
        None => {
            let name = match &arguments.name {
                Some(name) => name.clone(),
                None => runs::pick_name(runs_dir, &default_name(&arguments.recipe, &recipe))?,
            };
            create(runs_dir, &name, &recipe, &data, &identity)?
        }
    };
    if !arguments.json {
        note(format!("run: {}", run.folder().display()));
        if let Some(text) = data.train.note() {
            note(format!("data: {} ({text})", data.train.name()));
        }
    }
    let mut reporter = Reporter::new("", arguments.json);
    train(&recipe, &data, &mut run, &device, identity, &control, &mut |event| {
        reporter.tell(event)
    })?;
    if control.is_stopped() {
        note(format!(
            "to go on: martlet train --resume --name {} --runs-dir {}",
            run.name(),
            runs_dir.display()
        ));
    } else if !arguments.json {
        note(format!("to attack it: martlet evaluate {}", run.folder().display()));
    }
    Ok(())
}

/// A new run's folder, with everything in it that tells what it will be.
pub(super) fn create(
    runs_dir: &Path,
    name: &str,
    recipe: &Recipe,
    data: &TrainingData,
    device: &serde_json::Value,
) -> Result<Run> {
    let identity = serde_json::json!({
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
        },
    });
    Ok(Run::create(runs_dir, name, &recipe.to_toml(), identity)?)
}

/// Trains in an open run; what interrupts it is told in the run too.
pub(super) fn train(
    recipe: &Recipe,
    data: &TrainingData,
    run: &mut Run,
    device: &Device,
    identity: serde_json::Value,
    control: &Control,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Model> {
    run.lock()?;
    run.begin_session(identity)?;
    let trained = engine::train(recipe, data, run, device, control, on_event);
    for text in run.take_notices() {
        note(text);
    }
    match trained {
        Ok(model) => Ok(model),
        Err(error) => {
            // The cause matters more than whether it could be written down: a full disk fails here again.
            let _ = run.append(&serde_json::json!({ "event": "failed", "error": error.to_string() }));
            Err(anyhow::Error::new(error).context(format!("run {} stopped early", run.name())))
        }
    }
}

/// The recipe that a run was begun with; flags may say the same, or where the data lies now, but nothing else.
fn recipe_of(run: &Run, options: &RecipeOptions) -> Result<Recipe> {
    let mut recipe = Recipe::from_toml(run.recipe_toml()).context("the run's recipe.toml is damaged")?;
    if options.any() {
        let asked = options.resolve()?;
        recipe.data.source.clone_from(&asked.data.source);
        if asked != recipe {
            let differing = differing_lines(&recipe.to_toml(), &asked.to_toml());
            return Err(WrongUse(format!(
                "the run {} was begun with another recipe ({differing}); leave the flags out to resume it, or take a new --name",
                run.name()
            ))
            .into());
        }
    }
    Ok(recipe)
}

fn differing_lines(run: &str, asked: &str) -> String {
    let pairs = run.lines().zip(asked.lines()).filter(|(a, b)| a != b);
    pairs
        .map(|(a, b)| format!("{a}, not {b}"))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Checks that the data are those that the run was begun with.
fn take_up(run: Run, data: &TrainingData) -> Result<Run> {
    let begun = run.identity()["data"]["fingerprint"]
        .as_str()
        .unwrap_or_default()
        .to_string();
    let now = data.train.fingerprint();
    if begun != now {
        return Err(WrongUse(format!(
            "the run {} was begun on other data: expected training examples with fingerprint {begun}, got {now}; name the same files with --dataset",
            run.name()
        ))
        .into());
    }
    Ok(run)
}

fn default_name(options: &RecipeOptions, recipe: &Recipe) -> String {
    match &options.recipe {
        Some(name) => Path::new(name)
            .file_stem()
            .map_or_else(|| name.clone(), |s| s.to_string_lossy().into_owned()),
        None => {
            let data = recipe.data.source.split(':').next().unwrap_or("run");
            format!("{data}-{}", recipe.defence.name())
        }
    }
}
