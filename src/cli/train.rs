//! `martlet train`.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};

use super::{
    DeviceOption, Reporter, RunsDirOption, WrongUse,
    group::{self, Member},
    open_device,
    recipe::{self, RecipeOptions},
    seeds::{self, Sample},
    stop_on_interrupt,
    terminal::{complain, detail, note, say},
};
use crate::{
    compute::Device,
    control::Control,
    engine::{self, Event, Group, Observer, TrainingData, session},
    memory::{self, Size},
    nn::Model,
    recipe::Recipe,
    report::{RunReport, tensorboard::Writer},
    runs::{self, Run},
    wording::meant,
};

/// Arguments of `martlet train`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet train --recipe mnist-mart --dataset mnist:DIR --limit-train 10000\n  martlet train --defence standard --dataset cifar10:DIR --network resnet-18 --epsilon 8/255\n  martlet train --recipe glyphs-standard --subset first.json --members misclassified --treatment regularised\n  martlet train --resume --name mnist-mart-1\n  martlet train --recipe fashion-mart --seeds 1,2,3 --name fashion-mart"
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
    /// Train once with each of these seeds, as NAME-seed-1 and so on, and end with the mean and the standard deviation.
    #[arg(long, value_delimiter = ',', value_name = "SEEDS", requires = "name", conflicts_with_all = ["seed", "tensorboard"])]
    seeds: Vec<u64>,
    /// Go on with the run of that name where its last checkpoint stands; begin it where there is none.
    #[arg(long, requires = "name")]
    resume: bool,
    /// Print each event as a line of JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Write TensorBoard's event files into this folder too, as training goes on.
    #[arg(long, value_name = "DIR")]
    tensorboard: Option<PathBuf>,
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
        say(arguments.recipe.shown()?.to_toml().trim_end());
        return Ok(());
    }
    let control = stop_on_interrupt();
    let member = Member::join()?;
    if member.rank() > 0 {
        return member.or_end(group::follow(&member, &arguments.device, &control));
    }
    let done = member.or_end(lead(&arguments, &member, &control));
    group::dismiss(&member);
    done
}

/// Trains the run, or the runs of a series.
fn lead(arguments: &TrainArguments, member: &Member, control: &Control) -> Result<()> {
    if arguments.seeds.is_empty() {
        let name = arguments.name.clone();
        let run = one(arguments, &arguments.recipe, None, name, member, control)?;
        if !control.is_stopped() && !arguments.json {
            note(format!("to attack it: martlet evaluate {}", run.folder().display()));
        }
        return Ok(());
    }
    let again = |(place, seed): (usize, &u64)| arguments.seeds[..place].contains(seed).then_some(*seed);
    if let Some(seed) = arguments.seeds.iter().enumerate().find_map(again) {
        return Err(WrongUse(format!("--seeds: expected each seed once, got {seed} again")).into());
    }
    let name = arguments.name.as_deref().unwrap_or_default();
    let name_with = |seed: &u64| format!("{name}-seed-{seed}");
    // A series that goes on without flags is that of its runs.
    let series = match arguments.resume && !arguments.recipe.any() {
        true => arguments
            .seeds
            .iter()
            .map(name_with)
            .find_map(|name| begun(&arguments.runs_dir.runs_dir.join(name))),
        false => None,
    };
    let series = series.transpose()?;
    let mut samples = Vec::new();
    for seed in &arguments.seeds {
        let mut options = arguments.recipe.clone();
        if series.is_some() || options.any() || !arguments.resume {
            options.seed = Some(*seed);
        }
        let run = one(
            arguments,
            &options,
            series.as_ref(),
            Some(name_with(seed)),
            member,
            control,
        )?;
        if control.is_stopped() {
            return Ok(());
        }
        samples.push(last_figures(&run)?);
    }
    if !arguments.json {
        say(seeds::summary(&samples));
    }
    Ok(())
}

/// The accuracies of a run's last evaluated epoch.
fn last_figures(run: &Run) -> Result<Sample> {
    let report = RunReport::read(run)?;
    let last = report.epochs.iter().rfind(|epoch| !epoch.accuracy.is_empty());
    let mut accuracy: Vec<(String, f64)> = last.iter().flat_map(|epoch| epoch.accuracy.clone()).collect();
    let place = |name: &str| match name {
        "natural" => 0,
        "worst-case" => 2,
        _ => 1,
    };
    accuracy.sort_by(|(a, x), (b, y)| place(a).cmp(&place(b)).then(y.total_cmp(x)));
    Ok(Sample {
        name: run.name().to_string(),
        accuracy,
    })
}

/// The recipe of the run in a folder, where there is one.
fn begun(folder: &Path) -> Option<Result<Recipe>> {
    let run = folder.join("recipe.toml").exists().then(|| Run::open(folder))?;
    Some(
        run.map_err(Into::into)
            .and_then(|run| Recipe::from_toml(run.recipe_toml()).context("the run's recipe.toml is damaged")),
    )
}

/// Trains one run to its end, or to a person's stop. What the flags leave open is as in the recipe of its `series`, where it has one.
fn one(
    arguments: &TrainArguments,
    options: &RecipeOptions,
    series: Option<&Recipe>,
    name: Option<String>,
    member: &Member,
    control: &Control,
) -> Result<Run> {
    let runs_dir = &arguments.runs_dir.runs_dir;
    let mut resumed = match &name {
        Some(name) if arguments.resume => run_to_resume(name, runs_dir, options)?,
        _ => None,
    };
    let recipe = match &mut resumed {
        Some(run) => recipe_of(run, options)?,
        None => match series {
            Some(series) => options.over(series.clone())?,
            None => options.resolve()?,
        },
    };
    let (device, identity) = open_device(&group::device_of(&arguments.device, member), arguments.json)?;
    // Before a run is begun that could not go on.
    engine::products(&recipe, &device)?;
    let data = TrainingData::load(&recipe)?;
    options.check_subset(&data.train)?;
    detail(|| {
        let train = &data.train;
        let (examples, shape) = (train.len(), train.shape());
        format!(
            "data: {}, {examples} examples of {shape} to train on, fingerprint {}",
            train.name(),
            train.fingerprint()
        )
    });
    let mut run = match resumed {
        Some(run) => {
            session::check_data(&run, &data).map_err(|error| WrongUse(format!("{error} with --dataset")))?;
            run
        }
        None => {
            let name = match name {
                Some(name) => name,
                None => runs::pick_name(runs_dir, &default_name(options, &recipe))?,
            };
            session::create(runs_dir, &name, &recipe, &data, &identity)?
        }
    };
    if !arguments.json {
        note(format!("run: {}", run.folder().display()));
        if let Some(text) = data.train.note() {
            note(format!("data: {} ({text})", data.train.name()));
        }
    }
    let (network, images) = (recipe.network, &data.train);
    let bytes = network.training_bytes(images.shape(), images.classes(), recipe.batch_size.min(images.len()));
    if let Some(bytes) = bytes.filter(|bytes| device.is_cpu() && *bytes > memory::free()) {
        note(format!(
            "warning: a minibatch of {} takes about {}, and {} are free; a smaller --batch-size, or --resize, takes less",
            recipe.batch_size,
            Size(bytes),
            Size(memory::free())
        ));
    }
    group::lead(member, &recipe, &data)?;
    let mut reporter = Reporter::new("", arguments.json);
    let mut writer = arguments.tensorboard.as_deref().map(board).transpose()?;
    train(
        &recipe,
        &data,
        &mut run,
        &device,
        identity,
        control,
        &mut |event: &Event| {
            reporter.tell(event);
            // A full disk there is no reason to lose the run.
            if let Some(Err(error)) = writer.as_mut().map(|writer| writer.event(event)) {
                complain(format!("warning: no more is written for TensorBoard: {error}"));
                writer = None;
            }
        },
        member.group(),
    )?;
    if control.is_stopped() {
        let (name, seeds) = match (&arguments.name, &arguments.seeds[..]) {
            (Some(name), [_, ..]) => {
                let seeds: Vec<String> = arguments.seeds.iter().map(u64::to_string).collect();
                (name.as_str(), format!(" --seeds {}", seeds.join(",")))
            }
            _ => (run.name(), String::new()),
        };
        note(format!(
            "to continue: {}martlet train --resume --name {name}{seeds} --runs-dir {}",
            member.group().launcher(),
            runs_dir.display()
        ));
    }
    Ok(run)
}

/// Trains in an open run and says what a person should know of its folder.
#[expect(
    clippy::too_many_arguments,
    reason = "what is trained, on what, by whom, and who listens"
)]
pub(super) fn train(
    recipe: &Recipe,
    data: &TrainingData,
    run: &mut Run,
    device: &Device,
    identity: serde_json::Value,
    control: &Control,
    observer: &mut dyn Observer,
    group: &dyn Group,
) -> Result<Model> {
    let trained = session::run_together(recipe, data, run, device, identity, control, observer, group);
    for text in run.take_notices() {
        note(text);
    }
    trained.with_context(|| format!("run {} stopped early", run.name()))
}

/// The run to go on with; none where one of that name is to begin.
fn run_to_resume(name: &str, runs_dir: &Path, options: &RecipeOptions) -> Result<Option<Run>> {
    if runs_dir.join(name).join("recipe.toml").exists() {
        return Ok(Some(Run::open(&runs_dir.join(name))?));
    }
    let listed = runs::list(runs_dir)?;
    // A name that is nearly another's is a slip, unless it is the next of a series; a run that nothing describes cannot begin.
    let letters = |name: &str| name.replace(|one: char| one.is_ascii_digit(), "");
    let names = listed.iter().map(|run| run.name.as_str());
    let others = names.filter(|known| !options.any() || letters(known) != letters(name));
    let meant = meant(name, others);
    if !meant.is_empty() || !options.any() {
        return Err(WrongUse(format!(
            "no run is called {name} in {}{meant}; `martlet runs` lists them, and without --resume a new one begins",
            runs_dir.display()
        ))
        .into());
    }
    Ok(None)
}

/// The recipe that a run goes on with: its own, with what the flags say laid over it. That may be where the data lie now, and how
/// many epochs there are; anything else would make two runs of one.
fn recipe_of(run: &mut Run, options: &RecipeOptions) -> Result<Recipe> {
    let own = Recipe::from_toml(run.recipe_toml()).context("the run's recipe.toml is damaged")?;
    if !options.any() {
        return Ok(own);
    }
    let asked = match &options.recipe {
        Some(_) => options.resolve()?,
        None => options.over(own.clone())?,
    };
    let mut allowed = own.clone();
    allowed.data.source.clone_from(&asked.data.source);
    if options.epochs.is_some() {
        allowed.epochs = asked.epochs;
    }
    if asked != allowed {
        let differing = allowed.differences(&asked).join("; ");
        return Err(WrongUse(format!(
            "the run {} was begun with another recipe ({differing}); leave the flags out to resume it, or take a new --name",
            run.name()
        ))
        .into());
    }
    if asked != own {
        if asked.epochs != own.epochs {
            note(format!(
                "{} epochs now; the recipe was begun with {}",
                asked.epochs, own.epochs
            ));
            if asked.schedule.spans_all_epochs() {
                note(format!(
                    "warning: the learning rate follows the {} schedule over all epochs, so that it jumps here; a run of {} epochs from its beginning would end with other weights",
                    asked.schedule, asked.epochs
                ));
            }
        }
        run.change_recipe(&asked.to_toml())?;
    }
    Ok(asked)
}

fn board(folder: &Path) -> Result<Writer> {
    Writer::create(folder, SystemTime::now())
        .with_context(|| format!("TensorBoard's event file cannot be made: {}", folder.display()))
}

fn default_name(options: &RecipeOptions, recipe: &Recipe) -> String {
    match &options.recipe {
        Some(name) => Path::new(name)
            .file_stem()
            .map_or_else(|| name.clone(), |s| s.to_string_lossy().into_owned()),
        None => session::name_of(recipe),
    }
}
