//! `martlet data`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Subcommand;
use serde::{Deserialize, Serialize};

use super::{
    DeviceOption, RunsDirOption, WrongUse, check_writable,
    model::{ModelOptions, NO_BEST, run_named, slot_of},
    open_device, positive, stop_on_interrupt,
    terminal::{note, progress_bar, say, table},
};
use crate::{
    data::{self, DataError, Preparation, Split},
    defences::Treatment,
    engine::{
        TrainingData, labelling, session,
        subsets::{self, Subsets},
    },
    files,
    memory::Budget,
    recipe::Recipe,
    runs::Slot,
    wording::percent,
};

/// Arguments of `martlet data`.
#[derive(clap::Args)]
pub struct DataArguments {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand)]
enum DataCommand {
    /// List the data sets that can be downloaded.
    List,
    /// Download a data set, go on where an earlier download broke off, and verify it.
    #[command(
        after_help = "Examples:\n  martlet data get mnist data/mnist\n  martlet data get fashion-mnist data/fashion-mnist"
    )]
    Get {
        /// Its name, as `martlet data list` has it.
        name: String,
        /// The folder for its files.
        folder: PathBuf,
    },
    /// Label images by a model, for training with unlabelled data: the first stage of RST and UAT++.
    #[command(
        after_help = "Example, all of it built in:\n  martlet train --recipe glyphs-natural --limit-train 500 --name teacher\n  martlet data label teacher --images glyphs:7 --out extra.npz\n  martlet train --recipe glyphs-mart --limit-train 500 --unlabelled npz:extra.npz"
    )]
    Label(Box<LabelArguments>),
    /// Split a run's training examples: those that its network misclassifies, and as many of the others, for
    /// `martlet train --subset` (the paper's Figure 1).
    #[command(
        after_help = "Example, all of it built in:\n  martlet train --recipe glyphs-standard --epsilon 0.1 --limit-train 1600 --epochs 5 --natural-warm-up 1 --name first\n  martlet data split first --checkpoint last --out first.json\n  martlet train --recipe glyphs-standard --epsilon 0.1 --limit-train 1600 --epochs 5 --natural-warm-up 1 --subset first.json --members misclassified --treatment regularised"
    )]
    Split(SplitArguments),
    /// Read a data set whole and say what is in it.
    #[command(
        after_help = "Examples:\n  martlet data show glyphs\n  martlet data show folder:pictures --resize 64\n  martlet data show npz:arrays.npz --json"
    )]
    Show {
        /// glyphs, mnist:DIR, fashion-mnist:DIR, cifar10:PATH, cifar100:PATH, cifar10-c:FOLDER/CORRUPTION, svhn:FOLDER, tiny-imagenet:FOLDER, folder:PATH, npz:PATH or pseudo-labelled:FILE.
        source: String,
        /// Scale the shorter side of a folder's pictures to so many pixels and take the middle square.
        #[arg(long, value_name = "PIXELS")]
        resize: Option<usize>,
        /// Take the middle square of so many pixels of a folder's pictures, after scaling.
        #[arg(long, value_name = "PIXELS")]
        center_crop: Option<usize>,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Arguments of `martlet data label`.
#[derive(clap::Args)]
struct LabelArguments {
    #[command(flatten)]
    model: ModelOptions,
    /// The images; labels that they may have are not looked at. A folder of pictures needs one folder more inside it.
    #[arg(long, value_name = "SOURCE")]
    images: String,
    /// Label only the first so many.
    #[arg(long, value_name = "N", value_parser = positive)]
    first: Option<usize>,
    /// The .npz file to write: `image`, `label`, and `confidence`, the probability of each label.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    runs_dir: RunsDirOption,
}

/// Arguments of `martlet data split`.
#[derive(clap::Args)]
struct SplitArguments {
    /// A run's folder or name.
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Which of its checkpoints.
    #[arg(long, default_value = "best", value_parser = ["best", "last"])]
    checkpoint: String,
    /// Where its data set lies now; a run knows its own.
    #[arg(long, value_name = "SOURCE")]
    dataset: Option<String>,
    /// The seed of the draw among the correctly classified examples; without it the run's.
    #[arg(long)]
    seed: Option<u64>,
    /// The .json file to write: both subsets as positions in the data set, such as 3,17,22-25.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    runs_dir: RunsDirOption,
}

pub(super) fn run(arguments: DataArguments) -> Result<()> {
    match arguments.command {
        DataCommand::List => {
            say("glyphs (built in)");
            for known in data::download::known() {
                say(known.name);
            }
        }
        DataCommand::Get { name, folder } => {
            let bar = progress_bar(0, "{bytes} of {total_bytes} · {eta} left");
            data::download::get(&name, &folder, &mut |done, total| {
                if let Some(bar) = &bar {
                    bar.set_length(total);
                    bar.set_position(done);
                }
            })?;
            note(format!(
                "{name} is complete: use it as --dataset {name}:{}",
                folder.display()
            ));
        }
        DataCommand::Label(arguments) => label(&arguments)?,
        DataCommand::Split(arguments) => split(&arguments)?,
        DataCommand::Show {
            source,
            resize,
            center_crop,
            json,
        } => {
            let preparation = Preparation { resize, center_crop };
            show(&source, &preparation, json)?;
        }
    }
    Ok(())
}

/// Images of a pass.
const PREDICTED_AT_ONCE: usize = 128;

fn label(arguments: &LabelArguments) -> Result<()> {
    check_writable("--out", &arguments.out)?;
    if arguments.model.limit.is_some() {
        let wrong = "--limit: expected --first N, which says how many of the --images are labelled";
        return Err(WrongUse(wrong.into()).into());
    }
    let (device, _) = open_device(&arguments.device.device, false)?;
    let loaded = arguments.model.load(&arguments.runs_dir.runs_dir, &device)?;
    let images = data::load(&arguments.images, Split::Train)?;
    if let Some(first) = arguments.first.filter(|first| *first > images.len()) {
        note(format!(
            "--first {first}: there are {} images, and all of them are labelled",
            images.len()
        ));
    }
    let images = images.take(arguments.first.unwrap_or(usize::MAX));
    if images.shape() != loaded.model.input() {
        return Err(WrongUse(format!(
            "--images: expected images of {}, as the model takes, got {}",
            loaded.model.input(),
            images.shape()
        ))
        .into());
    }
    let control = stop_on_interrupt();
    let labelled = labelling::pseudo_label(&loaded.model, &images, &arguments.out, &device, &control)?;
    let Some(mean) = labelled else {
        note("stopped; nothing was written");
        return Ok(());
    };
    let count = images.len();
    note(format!(
        "{count} images labelled, with a mean confidence of {mean:.3}: use them as --unlabelled npz:{}",
        arguments.out.display()
    ));
    Ok(())
}

/// What `martlet data split` writes and `martlet train --subset` reads.
#[derive(Serialize, Deserialize)]
pub(super) struct SplitFile {
    /// The network that was asked.
    model: String,
    /// The training set's name.
    data: String,
    pub subsets: Subsets,
}

impl SplitFile {
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("the subsets cannot be read: {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| {
            format!(
                "expected a file that `martlet data split` wrote, got another: {}",
                path.display()
            )
        })
    }
}

fn split(arguments: &SplitArguments) -> Result<()> {
    check_writable("--out", &arguments.out)?;
    let run = run_named(&arguments.run, &arguments.runs_dir.runs_dir)?;
    let mut recipe = Recipe::from_toml(run.recipe_toml()).context("the run's recipe.toml is damaged")?;
    if let Some(source) = &arguments.dataset {
        recipe.data.source.clone_from(source);
    }
    let data = TrainingData::load(&recipe)?;
    session::check_data(&run, &data).map_err(|error| WrongUse(format!("{error} with --dataset")))?;
    let slot = slot_of(&arguments.checkpoint);
    if slot == Slot::Best && run.checkpoint_name(slot)?.is_none() {
        note(NO_BEST);
    }
    let control = stop_on_interrupt();
    let (device, _) = open_device(&arguments.device.device, false)?;
    let train = &data.train;
    let model = session::model_of(&run, slot, train.shape(), train.classes(), &device)?;
    let seed = arguments.seed.unwrap_or(recipe.seed);
    let subsets = subsets::split(&model, train, PREDICTED_AT_ONCE, seed, &device, &control)?;
    note(format!(
        "{} of {} training examples are misclassified (accuracy {}): {}, and as many others: train with --subset {} --members misclassified (or correct) --treatment {}",
        subsets.misclassified.len(),
        subsets.n,
        percent(subsets.accuracy),
        arguments.out.display(),
        arguments.out.display(),
        Treatment::NAMES.join("|"),
    ));
    let file = SplitFile {
        model: format!("{} of {}, {}", arguments.checkpoint, run.name(), recipe.summary()),
        data: train.name().to_string(),
        subsets,
    };
    files::save(&arguments.out, serde_json::to_string_pretty(&file)?.as_bytes())?;
    Ok(())
}

fn show(source: &str, preparation: &Preparation, json: bool) -> Result<()> {
    let mut found = Vec::new();
    for (split, name) in [(Split::Train, "train"), (Split::Test, "test")] {
        match (data::load_within(source, split, preparation, &Budget::default()), split) {
            (Ok(dataset), _) => found.push((name, dataset)),
            (Err(error @ DataError::NoTrainingSplit { .. }), _) => note(format!("no training set: {error}")),
            (Err(error), Split::Train) => return Err(error.into()),
            (Err(error), Split::Test) if found.is_empty() => return Err(error.into()),
            (Err(error), Split::Test) => note(format!("no test set: {error}")),
        }
    }
    // What is measured on images that were learned says nothing.
    let parts = found.iter().map(|(name, dataset)| match *name {
        "train" => ("training", dataset),
        name => (name, dataset),
    });
    let remarks = data::twins(&parts.collect::<Vec<_>>());
    let mut rows = vec![
        ["split", "examples", "images", "classes", "fingerprint"]
            .map(str::to_string)
            .to_vec(),
    ];
    for (name, dataset) in &found {
        let counts = (0..dataset.classes())
            .map(|class| {
                (0..dataset.len())
                    .filter(|position| dataset.label(*position) == class)
                    .count()
            })
            .collect::<Vec<_>>();
        if json {
            let noted = dataset.clone().with_notes(remarks.clone());
            say(serde_json::json!({
                "name": dataset.name(), "split": name, "examples": dataset.len(), "shape": dataset.shape(),
                "classes": dataset.class_names(), "per_class": counts, "note": noted.note(),
                "fingerprint": dataset.fingerprint(),
            }));
        }
        rows.push(vec![
            name.to_string(),
            dataset.len().to_string(),
            dataset.shape().to_string(),
            dataset.classes().to_string(),
            dataset.fingerprint(),
        ]);
    }
    if !json {
        say(table(&rows));
        if let Some((_, dataset)) = found.first() {
            say(format!("{}: {}", dataset.name(), dataset.class_names().join(", ")));
        }
        let note = found.first().and_then(|(_, first)| first.note());
        if found.iter().all(|(_, dataset)| dataset.note() == note) {
            note.into_iter().for_each(say);
        } else {
            let notes = found.iter().filter_map(|(name, dataset)| Some((name, dataset.note()?)));
            notes.for_each(|(name, note)| say(format!("{name}: {note}")));
        }
        remarks.into_iter().for_each(say);
    }
    Ok(())
}
