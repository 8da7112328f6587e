//! `martlet runs`.

use std::{
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use anyhow::{Context, Result};

use super::{
    RunsDirOption,
    model::run_named,
    terminal::{note, say, table},
};
use crate::{
    engine::Event,
    files,
    report::{csv, tensorboard::Writer, write_run_page},
    runs::{self, Run, Summary},
    wording::percent,
};

/// Arguments of `martlet runs`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet runs\n  martlet runs --json\n  martlet runs --check\n  martlet runs --report mnist-mart-1\n  martlet runs --csv mnist-mart-1 --out metrics.csv\n  martlet runs --tensorboard mnist-mart-1 --out logs/mnist-mart-1\n  martlet runs --rename mnist-mart-1 paper-seed-1\n  martlet runs --delete mnist-mart-1"
)]
pub struct RunsArguments {
    #[command(flatten)]
    runs_dir: RunsDirOption,
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
    /// Print the recipe of a run.
    #[arg(long, value_name = "NAME", conflicts_with = "delete")]
    show: Option<String>,
    /// Write a run's report page: curves, evaluations, recipe, circumstances.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["show", "delete"])]
    report: Option<String>,
    /// Write a run's metrics as a table, to --out.
    #[arg(long, value_name = "NAME", requires = "out", conflicts_with_all = ["show", "report", "delete"])]
    csv: Option<String>,
    /// Write a run's metrics as a TensorBoard event file, into the folder --out.
    #[arg(long, value_name = "NAME", requires = "out", conflicts_with_all = ["show", "report", "delete", "csv"])]
    tensorboard: Option<String>,
    /// Where --csv or --tensorboard writes.
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Look through every file of every run: is it what was written, and of this run?
    #[arg(long, conflicts_with_all = ["json", "show", "report", "csv", "tensorboard", "delete"])]
    check: bool,
    /// Give a run another name.
    #[arg(long, num_args = 2, value_names = ["NAME", "NEW"], conflicts_with_all = ["json", "show", "report", "csv", "tensorboard", "check", "delete"])]
    rename: Option<Vec<String>>,
    /// Delete a run after asking.
    #[arg(long, value_name = "NAME")]
    delete: Option<String>,
    /// Do not ask.
    #[arg(long, requires = "delete")]
    yes: bool,
}

pub(super) fn run(arguments: RunsArguments) -> Result<()> {
    let runs_dir = &arguments.runs_dir.runs_dir;
    if let Some(name) = &arguments.show {
        say(run_named(Path::new(name), runs_dir)?.recipe_toml().trim_end());
        return Ok(());
    }
    if let Some(name) = &arguments.report {
        let page = write_run_page(&run_named(Path::new(name), runs_dir)?)?;
        say(page.display());
        return Ok(());
    }
    if let (Some(name), Some(out)) = (&arguments.csv, &arguments.out) {
        files::save(
            out,
            csv::table(&events(&run_named(Path::new(name), runs_dir)?)?).as_bytes(),
        )?;
        return Ok(());
    }
    if let (Some(name), Some(out)) = (&arguments.tensorboard, &arguments.out) {
        let run = run_named(Path::new(name), runs_dir)?;
        let events = events(&run)?;
        let created = std::fs::metadata(run.folder().join("recipe.toml")).and_then(|file| file.modified());
        let cannot = || format!("the event file cannot be written: {}", out.display());
        let mut writer = Writer::create(out, created.unwrap_or_else(|_| SystemTime::now())).with_context(cannot)?;
        for event in &events {
            writer.event(event).with_context(cannot)?;
        }
        say(writer.path().display());
        return Ok(());
    }
    if let Some([name, new]) = arguments.rename.as_deref() {
        let run = run_named(Path::new(name), runs_dir)?;
        note(format!("now in {}", runs::rename(run.folder(), new)?.display()));
        return Ok(());
    }
    if let Some(name) = &arguments.delete {
        // Whether it is there comes before the question; a damaged run may go too.
        if !runs_dir.join(name).join("run.json").exists() {
            run_named(Path::new(name), runs_dir)?;
        }
        if !arguments.yes && !confirmed(name)? {
            note("nothing was deleted");
            return Ok(());
        }
        runs::delete(&runs_dir.join(name))?;
        note(format!("deleted {name}"));
        return Ok(());
    }
    let list = runs::list(runs_dir)?;
    if arguments.check {
        return checked(&list);
    }
    if arguments.json {
        say(serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    if list.is_empty() {
        note(format!("no runs in {}; `martlet train` begins one", runs_dir.display()));
        return Ok(());
    }
    let mut rows = vec![
        ["run", "state", "epoch", "last", "best", "created"]
            .map(str::to_string)
            .to_vec(),
    ];
    rows.extend(list.iter().map(row));
    say(table(&rows));
    for run in &list {
        if let Some(problem) = &run.problem {
            note(format!("{}: {problem}", run.name));
        }
    }
    Ok(())
}

/// Looks through the runs, and fails where one is not whole.
fn checked(list: &[Summary]) -> Result<()> {
    let mut damaged = 0;
    for run in list {
        let problems = runs::check(&run.folder);
        say(format!(
            "{}: {}",
            run.name,
            if problems.is_empty() { "whole" } else { "DAMAGED" }
        ));
        for problem in &problems {
            say(format!("  {problem}"));
        }
        damaged += usize::from(!problems.is_empty());
    }
    anyhow::ensure!(damaged == 0, "{damaged} of {} runs are damaged", list.len());
    Ok(())
}

/// A run's events; a kind that this version does not know is left out.
fn events(run: &Run) -> Result<Vec<Event>> {
    Ok(run
        .metrics()?
        .into_iter()
        .filter_map(|line| serde_json::from_value(line).ok())
        .collect())
}

fn row(run: &Summary) -> Vec<String> {
    let epoch = run
        .epoch
        .as_ref()
        .map(|event| format!("{} of {}", event["epoch"], event["epochs"]));
    let robust = |figures: &Option<serde_json::Value>| {
        let (accuracy, attack) = runs::strongest(figures.as_ref()?)?;
        Some(format!("{} {attack}", percent(accuracy)))
    };
    vec![
        run.name.clone(),
        run.state.to_string(),
        epoch.unwrap_or_default(),
        robust(&run.last).unwrap_or_default(),
        robust(&run.best).unwrap_or_default(),
        run.created.clone(),
    ]
}

fn confirmed(name: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(super::WrongUse(format!("nobody is there to confirm: add --yes to delete {name}")).into());
    }
    let mut error = std::io::stderr().lock();
    write!(error, "delete the run {name} with its checkpoints? [y/N] ").context("the question cannot be asked")?;
    let mut answer = String::new();
    std::io::stdin()
        .read_line(&mut answer)
        .context("the answer cannot be read")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
