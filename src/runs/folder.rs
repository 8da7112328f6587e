//! The folder of runs: names, the list, deletion.

use super::{
    RUN_FILE, Run, RunError,
    atomic::{self, TEMPORARY, names_with, sync_folder},
    checkpoint::{Slot, Store, Ties},
    identity_text, metrics, read_identity, rename_new,
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const TRASH: &str = ".trash-";

/// How a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A process writes it at this moment.
    Running,
    /// It came to its end.
    Finished,
    /// Somebody stopped it; it can be resumed.
    Stopped,
    /// Its process died, or has not begun; it can be resumed.
    Interrupted,
    /// It ended with an error.
    Failed,
    /// Its folder lacks a part or has a damaged one.
    Damaged,
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            State::Running => "running",
            State::Finished => "finished",
            State::Stopped => "stopped",
            State::Interrupted => "interrupted",
            State::Failed => "failed",
            State::Damaged => "damaged",
        })
    }
}

/// A run as the list of runs shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The run's name, which is its folder's.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// How it is doing.
    pub state: State,
    /// The text of its recipe.
    pub recipe: String,
    /// When it was created: RFC 3339, UTC.
    pub created: String,
    /// Its last event of the kind "epoch".
    pub epoch: Option<Value>,
    /// The field `figures` of the last checkpoint's progress.
    pub last: Option<Value>,
    /// The field `figures` of the best checkpoint's progress.
    pub best: Option<Value>,
    /// What is damaged, in words.
    pub problem: Option<String>,
}

/// The accuracy under the strongest attack among a checkpoint's figures, and that attack; where several together beat each
/// alone, the worst case.
pub fn strongest(figures: &Value) -> Option<(f64, String)> {
    let accuracies = figures.get("accuracy").unwrap_or(figures).as_object()?;
    let known = accuracies
        .iter()
        .filter_map(|(attack, value)| Some((value.as_f64()?, attack)));
    known
        .filter(|(value, _)| (0.0..=1.0).contains(value))
        .min_by(|a, b| {
            a.0.total_cmp(&b.0)
                .then((a.1 == "worst-case").cmp(&(b.1 == "worst-case")))
        })
        .map(|(value, attack)| (value, attack.clone()))
}

/// All runs of a folder, the newest first. A damaged one is listed with its problem; a folder that does not exist has
/// none.
///
/// # Errors
/// [`RunError::Io`] if the folder itself cannot be read.
pub fn list(runs_dir: &Path) -> Result<Vec<Summary>, RunError> {
    let entries = match fs::read_dir(runs_dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        outcome => outcome.map_err(RunError::io("read the folder of runs", runs_dir))?,
    };
    let mut runs: Vec<Summary> = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .filter(|entry| entry.path().join(RUN_FILE).exists())
        .map(|entry| summarise(&entry.path()))
        .collect();
    runs.sort_by(|left, right| {
        right
            .created
            .cmp(&left.created)
            .then_with(|| left.name.cmp(&right.name))
    });
    Ok(runs)
}

fn summarise(folder: &Path) -> Summary {
    let mut problems = Vec::new();
    let mut note = |error: RunError| problems.push(error.to_string());
    let identity = read_identity(folder).map_err(&mut note).unwrap_or_default();
    let recipe = super::read_recipe(folder).map_err(&mut note).unwrap_or_default();
    let ending = metrics::ending(folder).map_err(&mut note).unwrap_or_default();
    let store = Store {
        folder: folder.join(super::CHECKPOINTS),
        ties: Ties::default(),
    };
    if let Err(error @ RunError::Recipe { .. }) = Run::open(folder) {
        note(error);
    }
    let mut figures = |slot| {
        let header = store
            .pointer(slot)
            .and_then(|name| name.map(|name| store.header(&name)).transpose());
        header
            .map_err(&mut note)
            .ok()
            .flatten()?
            .progress
            .get("figures")
            .cloned()
    };
    let (last, best) = (figures(Slot::Last), figures(Slot::Best));
    let state = match ending.kind.as_deref() {
        _ if atomic::is_locked(folder) => State::Running,
        _ if !problems.is_empty() => State::Damaged,
        Some("finished") => State::Finished,
        Some("stopped") => State::Stopped,
        Some("failed") => State::Failed,
        _ => State::Interrupted,
    };
    // What a run changes at this very moment can look damaged for that moment.
    let problem = (state == State::Damaged).then(|| problems.join("; "));
    Summary {
        name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        folder: folder.to_path_buf(),
        state,
        recipe,
        created: identity
            .get("created")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_string(),
        epoch: ending.epoch,
        last,
        best,
        problem,
    }
}

/// A free name: `prefix-1`, or one more than the highest such number in use.
///
/// # Errors
/// [`RunError::Name`] if the prefix cannot begin a name.
pub fn pick_name(runs_dir: &Path, prefix: &str) -> Result<String, RunError> {
    let begin = format!("{prefix}-");
    let taken = names_with(runs_dir, &begin).into_iter().filter_map(|path| {
        path.file_name()?
            .to_string_lossy()
            .strip_prefix(&begin)?
            .parse::<u64>()
            .ok()
    });
    let name = format!("{begin}{}", taken.max().unwrap_or(0).saturating_add(1));
    check_name(&name)?;
    Ok(name)
}

/// Whether a run can have this name: it becomes a folder's, on any system.
///
/// # Errors
/// [`RunError::Name`] with the reason.
pub fn check_name(name: &str) -> Result<(), RunError> {
    const RESERVED: [&str; 6] = ["con", "prn", "aux", "nul", "com", "lpt"];
    let stem = name.split('.').next().unwrap_or_default().to_lowercase();
    let device = RESERVED.contains(&stem.as_str())
        || (stem.len() == 4
            && RESERVED[4..].contains(&&stem[..3])
            && stem.ends_with(|last: char| last.is_ascii_digit()));
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > 80 {
        "is longer"
    } else if !name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        "begins with something else"
    } else if !name
        .chars()
        .all(|one| one.is_ascii_alphanumeric() || "-_.".contains(one))
    {
        "holds something else"
    } else if name.ends_with('.') {
        "ends with a dot"
    } else if device {
        "means a device on Windows"
    } else {
        return Ok(());
    };
    Err(RunError::Name {
        name: name.to_string(),
        reason,
    })
}

/// Gives a run another name, which is its folder's too; gives the new folder.
///
/// # Errors
/// [`RunError::Name`] for a name that no folder can have, [`RunError::Taken`] for another run's, [`RunError::Locked`] for a
/// run that trains, [`RunError::NotARun`] for a folder that is none, or [`RunError::Io`].
pub fn rename(folder: &Path, name: &str) -> Result<PathBuf, RunError> {
    check_name(name)?;
    let mut identity = read_identity(folder)?;
    let runs_dir = parent_of(folder);
    let renamed = runs_dir.join(name);
    let taken = || RunError::Taken {
        name: name.to_string(),
        path: renamed.clone(),
    };
    if fs::symlink_metadata(&renamed).is_ok() {
        return Err(taken());
    }
    let lock = atomic::lock(folder)?;
    if let Some(fields) = identity.as_object_mut() {
        fields.insert("name".to_string(), Value::from(name));
    }
    atomic::write_atomic(&folder.join(RUN_FILE), &identity_text(&identity))?;
    if cfg!(windows) {
        drop(lock); // a folder with an open file in it cannot be renamed there
    }
    rename_new(folder, &renamed, taken)?;
    sync_folder(runs_dir)?;
    Ok(renamed)
}

/// Whether runs can be kept in a folder, which is made where it is not there.
///
/// # Errors
/// [`RunError::Io`] with what the system says.
pub fn check_place(runs_dir: &Path) -> Result<(), RunError> {
    fs::create_dir_all(runs_dir).map_err(RunError::io("make the folder of runs", runs_dir))?;
    tempfile::Builder::new()
        .prefix(TEMPORARY)
        .tempfile_in(runs_dir)
        .map(drop)
        .map_err(RunError::io("write into the folder of runs", runs_dir))
}

/// The folder that a run lies in.
fn parent_of(folder: &Path) -> &Path {
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Deletes a run. It disappears at once, under another name; then its files go.
///
/// # Errors
/// [`RunError::Locked`] for a running one, [`RunError::NotARun`] for a folder that is none.
pub fn delete(folder: &Path) -> Result<(), RunError> {
    let real = fs::symlink_metadata(folder).is_ok_and(|about| about.is_dir());
    let (true, Some(name)) = (real && folder.join(RUN_FILE).exists(), folder.file_name()) else {
        return Err(RunError::NotARun {
            got: "something else".to_string(),
            path: folder.to_path_buf(),
        });
    };
    let lock = atomic::lock(folder)?;
    if cfg!(windows) {
        drop(lock); // a folder with an open file in it cannot be renamed there
    }
    let runs_dir = parent_of(folder);
    let trash = runs_dir.join(format!("{TRASH}{}", name.to_string_lossy()));
    let removed = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RunError::io("remove the run", path)(error)),
        _ => Ok(()),
    };
    removed(&trash)?;
    fs::rename(folder, &trash).map_err(RunError::io("remove the run", folder))?;
    sync_folder(runs_dir)?;
    removed(&trash)
}

/// Removes what killed processes left of runs that they were creating or deleting.
pub(super) fn clean(runs_dir: &Path) {
    for path in names_with(runs_dir, TRASH) {
        let _ = fs::remove_dir_all(path);
    }
    for path in names_with(runs_dir, TEMPORARY) {
        let age = fs::metadata(&path)
            .and_then(|about| about.modified())
            .ok()
            .and_then(|time| time.elapsed().ok());
        if age.is_some_and(|age| age > Duration::from_secs(60)) && !atomic::is_locked(&path) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// This moment as RFC 3339 in UTC, with milliseconds.
pub(super) fn now() -> String {
    timestamp(SystemTime::now())
}

fn timestamp(moment: SystemTime) -> String {
    DateTime::<Utc>::from(moment).to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn moments_are_those_of_the_calendar() {
        // From `date --utc --date=@SECONDS`.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_164_799, "2024-02-28T23:59:59.000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
