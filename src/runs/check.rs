//! A look through a whole run: is everything in it what was written, and of this run?

use super::{Run, RunError, Slot, write_atomic};
use crate::seal::{self, Seal, seal_of};
use serde_json::Value;
use std::{fs, path::Path};

/// What is wrong with a run, in sentences; nothing where it is whole.
///
/// It opens the run as every reader does, reads all its checkpoints, the metrics and the evaluations, and changes nothing.
pub fn check(folder: &Path) -> Vec<String> {
    let run = match Run::open(folder) {
        Ok(run) => run,
        Err(error) => return vec![error.to_string()],
    };
    let mut problems: Vec<String> = Vec::new();
    for slot in [Slot::Last, Slot::Best] {
        if let Err(error) = run.store.pointer(slot) {
            problems.push(error.to_string());
        }
        for name in run.store.generations(slot) {
            match run.store.read(&name) {
                Ok(_) => {}
                // One that the run's writer has removed meanwhile is no fault.
                Err(_) if !run.store.folder.join(&name).exists() => {}
                Err(error) => problems.push(error.to_string()),
            }
        }
    }
    if let Err(error) = run.metrics() {
        problems.push(error.to_string());
    }
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("evaluation-")
            && name.ends_with(".json")
            && let Err(error) = run.read_sealed(&file)
        {
            problems.push(error.to_string());
        }
    }
    problems
}

impl Run {
    /// The text of a sealed file of this run.
    ///
    /// # Errors
    /// [`RunError::Damaged`] where it was changed, or is another run's; [`RunError::Io`].
    pub fn read_sealed(&self, path: &Path) -> Result<String, RunError> {
        let text = fs::read_to_string(path).map_err(RunError::io("read the file", path))?;
        let damaged = |expected: &str, got: &str| RunError::Damaged {
            expected: expected.to_string(),
            got: got.to_string(),
            way_out: "put it back from a copy, or remove it and measure anew",
            path: path.to_path_buf(),
        };
        let unchanged = "a file as Martlet wrote it";
        let value: Value = serde_json::from_str(&text).map_err(|error| damaged(unchanged, &error.to_string()))?;
        match seal_of(&text) {
            // Files of before there were seals.
            Seal::Missing if value.get("run").is_none() => Ok(text),
            Seal::Missing | Seal::Broken => Err(damaged(unchanged, "one that was changed since")),
            Seal::Whole if value.get("run").and_then(Value::as_str) == self.id() => Ok(text),
            Seal::Whole => Err(damaged("a file of this run", "another run's")),
        }
    }

    /// Writes a JSON object, sealed, as this run's.
    ///
    /// # Errors
    /// [`RunError::Io`].
    pub fn write_sealed(&self, path: &Path, object: &str) -> Result<(), RunError> {
        let fields = self.id().map(|id| ("run", id));
        let text = seal::sealed(object, fields.as_slice());
        write_atomic(path, text.as_bytes())
    }
}
