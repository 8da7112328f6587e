//! `martlet data`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;

use super::terminal::{note, progress_bar, say, table};
use crate::data::{self, Split};

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
    Get {
        /// Its name, as `martlet data list` has it.
        name: String,
        /// The folder for its files.
        folder: PathBuf,
    },
    /// Read a data set whole and say what is in it.
    Show {
        /// glyphs, mnist:DIR, fashion-mnist:DIR, cifar10:PATH, cifar100:PATH, folder:PATH or npz:FILE.
        source: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
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
        DataCommand::Show { source, json } => show(&source, json)?,
    }
    Ok(())
}

fn show(source: &str, json: bool) -> Result<()> {
    let mut found = Vec::new();
    for (split, name) in [(Split::Train, "train"), (Split::Test, "test")] {
        match (data::load(source, split), split) {
            (Ok(dataset), _) => found.push((name, dataset)),
            (Err(error), Split::Train) => return Err(error.into()),
            (Err(error), Split::Test) => note(format!("no test set: {error}")),
        }
    }
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
            say(serde_json::json!({
                "name": dataset.name(), "split": name, "examples": dataset.len(), "shape": dataset.shape(),
                "classes": dataset.class_names(), "per_class": counts, "note": dataset.note(),
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
            if let Some(text) = dataset.note() {
                say(text);
            }
        }
    }
    Ok(())
}
