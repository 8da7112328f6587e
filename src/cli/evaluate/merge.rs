//! `martlet merge`: an evaluation in shares, put together.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::{Value, json};

use super::{Measured, Wanted, single, suite_of};
use crate::{
    cli::{Arguments, Command, WrongUse, stop_on_interrupt},
    evaluation::{Record, Shard},
    seal::{self, Seal},
};

/// Stands for the share that Slurm gives.
pub(in crate::cli) const FROM_SLURM: &str = "slurm";

/// Arguments of `martlet merge`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet merge part-1.json part-2.json part-3.json --json whole.json\n  sbatch --array=1-8 --wrap 'martlet evaluate runs/mart --shard --json part-$SLURM_ARRAY_TASK_ID.json'"
)]
pub struct MergeArguments {
    /// What `martlet evaluate … --shard NUMBER/OF --json FILE` wrote, all shares.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    wanted: Wanted,
}

/// The share that `--shard` names.
pub(in crate::cli) fn shard(text: &str) -> Result<Shard, String> {
    if text != FROM_SLURM {
        return text.parse();
    }
    slurm(|name| std::env::var(name).ok())
}

/// This task's share of a Slurm array job.
fn slurm(variable: impl Fn(&str) -> Option<String>) -> Result<Shard, String> {
    let number = |name: &str| variable(name).and_then(|text| text.trim().parse::<usize>().ok());
    let missing = "expected NUMBER/OF, such as 1/4, or a Slurm array job, which sets SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT";
    let (Some(id), Some(of)) = (number("SLURM_ARRAY_TASK_ID"), number("SLURM_ARRAY_TASK_COUNT")) else {
        return Err(missing.to_string());
    };
    let first = number("SLURM_ARRAY_TASK_MIN").unwrap_or(1);
    let step = number("SLURM_ARRAY_TASK_STEP").unwrap_or(1).max(1);
    match id.checked_sub(first).map(|offset| offset / step) {
        Some(position) if position < of => Ok(Shard {
            number: position + 1,
            of,
        }),
        _ => Err(format!(
            "expected an array of tasks that are numbered evenly, got task {id} of {of} from {first} on: give NUMBER/OF"
        )),
    }
}

/// What a share's `--json` holds: its figures, and what putting the whole together takes, under a seal.
pub(super) fn shard_json(shard: Shard, measured: &Measured) -> Result<String> {
    let mut value: Value = serde_json::from_str(&measured.evaluation.to_json(false)?)?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    value["shard"] =
        json!({ "number": shard.number, "of": shard.of, "arguments": arguments, "record": measured.record });
    Ok(seal::sealed(&serde_json::to_string_pretty(&value)?, &[]))
}

/// A share as it was written.
struct Part {
    shard: Shard,
    record: Record,
    arguments: Vec<String>,
}

fn read(path: &std::path::Path) -> Result<Part> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("the share cannot be read: {}", path.display()))?;
    let refused = |got: &str| {
        WrongUse(format!(
            "expected what `martlet evaluate … --shard NUMBER/OF --json FILE` wrote, got {got}: {}",
            path.display()
        ))
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| refused(&format!("no JSON ({error})")))?;
    if value["shard"].is_null() {
        return Err(refused("no share of an evaluation").into());
    }
    match seal::seal_of(&text) {
        Seal::Whole => {}
        Seal::Broken | Seal::Missing => return Err(refused("a file that was changed since it was written").into()),
    }
    let shard = serde_json::from_value(value["shard"].clone());
    let record = serde_json::from_value(value["shard"]["record"].clone());
    let arguments = serde_json::from_value(value["shard"]["arguments"].clone());
    match (shard, record, arguments) {
        (Ok(shard), Ok(record), Ok(arguments)) => Ok(Part {
            shard,
            record,
            arguments,
        }),
        _ => Err(refused("a share of another version").into()),
    }
}

/// Reads the shares, loads the model as their command named it, and delivers the whole.
pub(in crate::cli) fn run(arguments: MergeArguments) -> Result<()> {
    let parts = arguments
        .files
        .iter()
        .map(|path| read(path))
        .collect::<Result<Vec<_>>>()?;
    let command = parts[0].arguments.iter().map(String::as_str);
    let parsed = Arguments::try_parse_from(["martlet"].into_iter().chain(command));
    let Ok(Some(Command::Evaluate(mut whole))) = parsed.map(|parsed| parsed.command) else {
        return Err(WrongUse(format!(
            "the share does not say which command made it: {}",
            arguments.files[0].display()
        ))
        .into());
    };
    (whole.shard, whole.resume_file, whole.wanted) = (None, None, arguments.wanted);
    let shards = parts.into_iter().map(|part| (part.shard, part.record)).collect();
    let suite = suite_of(&whole)?;
    single(&whole, &suite, &stop_on_interrupt(), shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slurm_numbers_tasks_as_it_likes() {
        let shard = |id: &str, count: &str, first: &str, step: &str| {
            slurm(|name| {
                Some(match name {
                    "SLURM_ARRAY_TASK_ID" => id.to_string(),
                    "SLURM_ARRAY_TASK_COUNT" => count.to_string(),
                    "SLURM_ARRAY_TASK_MIN" => first.to_string(),
                    _ => step.to_string(),
                })
            })
        };
        assert_eq!(shard("0", "4", "0", "1").unwrap().to_string(), "1/4");
        assert_eq!(shard("4", "4", "1", "1").unwrap().to_string(), "4/4");
        assert_eq!(shard("15", "3", "5", "5").unwrap().to_string(), "3/3");
        assert!(shard("9", "4", "1", "1").is_err());
        assert!(slurm(|_| None).is_err());
    }
}
