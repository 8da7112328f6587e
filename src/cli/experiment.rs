//! `martlet experiment`: the paper's tables and figures.

use std::{path::PathBuf, time::Instant};

use anyhow::Result;

use super::{
    DeviceOption, Reporter, RunsDirOption, WrongUse, evaluate, open_device,
    output::Output,
    positive, stop_on_interrupt,
    terminal::{note, say, table},
};
use crate::{
    evaluation::{EvaluationEvent, Shard},
    experiments::{
        Budget, Conduct, EXPERIMENTS, ExperimentError, Outcome, Plan, Progress, Request, RowState, Stage, estimate,
        experiment,
    },
    wording::duration,
};

/// Arguments of `martlet experiment`.
#[derive(clap::Args)]
pub struct ExperimentArguments {
    #[command(subcommand)]
    command: ExperimentCommand,
}

#[derive(clap::Subcommand)]
enum ExperimentCommand {
    /// List the paper's tables and figures that can be run.
    #[command(after_help = "Examples:\n  martlet experiment list\n  martlet experiment list --json")]
    List {
        /// Print them as JSON, with every row and every figure of the paper.
        #[arg(long)]
        json: bool,
    },
    /// Train and measure the rows of one; Ctrl-C keeps what is done, and the same command goes on. The same command in several terminals, or
    /// on several machines that share the folder of runs, divides the rows.
    Run(RunArguments),
    /// Show what was reported and what was measured so far.
    Table(TableArguments),
}

/// Which experiment, and how.
#[derive(clap::Args)]
struct Which {
    /// Its name, as `martlet experiment list` has it.
    name: String,
    /// quick: minutes on two processor cores; short: about an hour on a GPU; full: the paper's own numbers.
    #[arg(long, default_value = "quick")]
    budget: String,
    /// The data, such as mnist:DIR or cifar10:DIR; at the quick budget the built-in characters without it.
    #[arg(long, value_name = "SOURCE")]
    dataset: Option<String>,
    /// Unlabelled images for Table 5, such as pseudo-labelled:FILE, npz:FILE or folder:DIR.
    #[arg(long, value_name = "SOURCE")]
    unlabelled: Option<String>,
    /// The seed of every run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Epochs instead of the budget's own; the rate drops at the same shares of them.
    #[arg(long, value_parser = positive)]
    epochs: Option<usize>,
    #[command(flatten)]
    runs_dir: RunsDirOption,
}

impl Which {
    fn plan(&self) -> Result<Plan> {
        let budget: Budget = self.budget.parse().map_err(wrong)?;
        let request = Request {
            source: self.dataset.as_deref(),
            unlabelled: self.unlabelled.as_deref(),
            seed: self.seed,
            epochs: self.epochs,
        };
        experiment(&self.name)
            .and_then(|found| found.plan(budget, &request))
            .map_err(wrong)
    }

    /// Where the experiment's tables and page are kept.
    fn folder(&self, plan: &Plan) -> PathBuf {
        self.runs_dir.runs_dir.join("experiments").join(plan.name())
    }
}

/// What a person named wrongly is wrong use; all else failed.
fn wrong(error: ExperimentError) -> anyhow::Error {
    match error {
        ExperimentError::Unknown { .. }
        | ExperimentError::UnknownBudget(_)
        | ExperimentError::UnknownRow { .. }
        | ExperimentError::NeedsData { .. } => WrongUse(error.to_string()).into(),
        error => error.into(),
    }
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet experiment run table-2-mnist\n  martlet experiment run table-2-mnist --budget short --dataset mnist:DIR --rows standard,mart\n  martlet experiment run figure-1 --estimate\n  martlet experiment run table-2-mnist --shard 1/3"
)]
struct RunArguments {
    #[command(flatten)]
    which: Which,
    /// Only these rows, and those that they need.
    #[arg(long, alias = "row", value_delimiter = ',', value_name = "ROWS")]
    rows: Vec<String>,
    /// Only one of several equal shares of the rows, such as 2/3, and the rows that these need; without a value the share that a Slurm
    /// array job gives this task.
    #[arg(long, value_name = "NUMBER/OF", num_args = 0..=1, default_missing_value = evaluate::FROM_SLURM, value_parser = evaluate::shard)]
    shard: Option<Shard>,
    /// Say how long it would take on this device, and stop.
    #[arg(long)]
    estimate: bool,
    #[command(flatten)]
    device: DeviceOption,
}

#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet experiment table table-2-mnist\n  martlet experiment table figure-1 --format csv > figure-1.csv\n  martlet experiment table table-2-mnist --budget full --dataset mnist:DIR --json table.json"
)]
struct TableArguments {
    #[command(flatten)]
    which: Which,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Write every figure and comparison as JSON to a file, or to standard output with `-`.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    /// Columns for a terminal.
    Text,
    /// Markdown.
    Markdown,
    /// One line for each figure.
    Csv,
}

pub(super) fn run(arguments: ExperimentArguments) -> Result<()> {
    match arguments.command {
        ExperimentCommand::List { json } => list(json),
        ExperimentCommand::Run(arguments) => conduct(&arguments),
        ExperimentCommand::Table(arguments) => {
            let plan = arguments.which.plan()?;
            let json = Output::of(arguments.json.as_deref())?;
            let outcome = Outcome::read(&plan, &arguments.which.runs_dir.runs_dir)?;
            json.deliver(&format!("{:#}", outcome.json()), || match arguments.format {
                Format::Text => report(&outcome),
                Format::Markdown => outcome.markdown().trim_end().to_string(),
                Format::Csv => outcome.csv().trim_end().to_string(),
            })
        }
    }
}

fn list(json: bool) -> Result<()> {
    if json {
        let all = EXPERIMENTS.iter().map(|experiment| {
            let rows = (experiment.rows)();
            let rows = rows.iter().map(|row| {
                let reported = row.reported.iter().map(|reported| {
                    serde_json::json!({
                        "attack": reported.attack, "checkpoint": reported.slot.to_string(), "percent": reported.accuracy
                    })
                });
                serde_json::json!({ "id": row.id, "label": row.label, "reported": reported.collect::<Vec<_>>() })
            });
            serde_json::json!({
                "name": experiment.name, "title": experiment.title, "question": experiment.question,
                "attacks": experiment.attacks, "rows": rows.collect::<Vec<_>>(),
            })
        });
        say(serde_json::to_string_pretty(&all.collect::<Vec<_>>())?);
        return Ok(());
    }
    let width = EXPERIMENTS
        .iter()
        .map(|experiment| experiment.name.len())
        .max()
        .unwrap_or(0);
    for experiment in EXPERIMENTS {
        let rows: Vec<String> = (experiment.rows)().into_iter().map(|row| row.id).collect();
        say(format!("{:width$}  {}", experiment.name, experiment.title));
        say(format!("{:width$}  {}", "", experiment.question));
        say(format!("{:width$}  rows: {}", "", rows.join(", ")));
    }
    let budgets = Budget::ALL.map(|budget| format!("{budget} ({})", budget.about()));
    say(format!("\nbudgets: {}", budgets.join("; ")));
    Ok(())
}

fn conduct(arguments: &RunArguments) -> Result<()> {
    let which = &arguments.which;
    let plan = which.plan()?;
    let mut rows = plan.chosen(&arguments.rows).map_err(wrong)?;
    if let Some(shard) = arguments.shard {
        let own = rows.iter().enumerate().filter(|(position, _)| shard.holds(*position));
        let own: Vec<String> = own.map(|(_, row)| plan.rows[*row].row.id.clone()).collect();
        if own.is_empty() {
            note(format!("shard {shard}: none of {} rows is left for it", rows.len()));
            return Ok(());
        }
        rows = plan.chosen(&own).map_err(wrong)?;
    }
    let runs_dir = &which.runs_dir.runs_dir;
    let control = stop_on_interrupt();
    let (device, identity) = open_device(&arguments.device.device, false)?;
    note(format!("{}: {}", plan.experiment.title, plan.experiment.question));
    plan.remarks().iter().for_each(note);

    let before = Outcome::read(&plan, runs_dir)?;
    let wanted = |row: usize| rows.contains(&row) && before.states[row] != RowState::Measured;
    let mut tell = |row: usize| note(format!("  {}: how long will it take?", plan.rows[row].row.label));
    let Some(estimate) = estimate(&plan, &wanted, &device, &control, &mut tell)? else {
        return Ok(());
    };
    let promised = estimate.left(&rows, &before.states);
    for row in &rows {
        let (training, measuring) = estimate.rows[*row];
        note(format!(
            "  {}: {} to train, {} to measure ({})",
            plan.rows[*row].row.label,
            duration(training),
            duration(measuring),
            before.states[*row]
        ));
    }
    note(format!("about {} on this device for what is left", duration(promised)));
    if arguments.estimate {
        return Ok(());
    }
    let began = Instant::now();
    let mut teller = Teller::new(&plan, rows.len());
    let work = Conduct {
        plan: &plan,
        runs_dir,
        device: &device,
        identity,
        control: &control,
    };
    work.run(&rows, &mut |progress| teller.tell(progress)).map_err(wrong)?;
    let seconds = began.elapsed().as_secs_f64();

    let outcome = Outcome::read(&plan, runs_dir)?;
    let folder = which.folder(&plan);
    outcome.write(&folder)?;
    say(report(&outcome));
    if control.is_stopped() {
        note("stopped; the same command continues from here");
    } else {
        say(format!("\npromised {}, took {}", duration(promised), duration(seconds)));
    }
    say(format!(
        "kept in {}: report.html, table.md, table.csv",
        folder.display()
    ));
    let failures = outcome.failures();
    anyhow::ensure!(failures.is_empty(), "{} of {} rows failed", failures.len(), rows.len());
    Ok(())
}

/// The table with all that belongs beside it.
fn report(outcome: &Outcome) -> String {
    let mut text = format!(
        "\n{}\n\n{}\n\n{}",
        outcome.plan.experiment.title,
        table(&outcome.grid()),
        outcome.caption()
    );
    for sentence in outcome.conclusions() {
        text += &format!("\n{sentence}");
    }
    for remark in outcome.plan.remarks() {
        text += &format!("\n{remark}");
    }
    for (row, error) in outcome.failures() {
        text += &format!("\n{row} failed: {error}");
    }
    text
}

/// Tells how the work goes.
struct Teller<'a> {
    plan: &'a Plan,
    of: usize,
    done: usize,
    training: Reporter,
    measuring: evaluate::Progress,
}

impl<'a> Teller<'a> {
    fn new(plan: &'a Plan, of: usize) -> Self {
        Self {
            plan,
            of,
            done: 0,
            training: Reporter::new("", false),
            measuring: evaluate::Progress::new(),
        }
    }

    fn tell(&mut self, progress: Progress) {
        match progress {
            Progress::Row { row, stage } => {
                self.measuring.finish();
                let label = &self.plan.rows[row].row.label;
                match stage {
                    Stage::Training => {
                        note(format!("row {} of {}: {label}", self.done + 1, self.of));
                        self.training = Reporter::new(label, false);
                    }
                    Stage::Measuring(measure) => {
                        note(format!(
                            "{label}: {} checkpoint under {}",
                            measure.slot,
                            measure.attacks.join(", ")
                        ));
                        self.measuring = evaluate::Progress::new();
                    }
                    Stage::Elsewhere => note(format!("{label}: another process works at it")),
                    Stage::Done => self.done += 1,
                    Stage::Failed(error) => {
                        self.done += 1;
                        note(format!("{label} failed: {error}"));
                    }
                }
            }
            Progress::Training { event, .. } => self.training.tell(event),
            Progress::Measuring { event, .. } => {
                if let EvaluationEvent::Warning(warning) = &event {
                    note(format!(
                        "warning: {} (martlet explain {})",
                        warning.headline(),
                        warning.anchor()
                    ));
                }
                self.measuring.tell(event);
            }
        }
    }
}
