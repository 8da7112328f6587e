//! Where an evaluation is kept in a run's folder: one file for each identity, so that nothing measured is written over.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use md5::{Digest, Md5};

use crate::{
    evaluation::{CurvePoint, Evaluation},
    runs::{Run, RunError, Slot},
};

/// What a figure belongs to: checkpoint, examples, norm, radius, attacks with their numbers, seed, surrogate.
fn identity(evaluation: &Evaluation) -> String {
    let attacks = evaluation.attacks.iter().map(|attack| {
        let (name, settings, restarts) = (&attack.name, &attack.settings, attack.restarts);
        format!("{name} ({settings}) ×{restarts}")
    });
    [
        evaluation.checkpoint.clone().unwrap_or_default(),
        evaluation.dataset.split.clone().unwrap_or_default(),
        evaluation.dataset.fingerprint.clone(),
        evaluation.n.to_string(),
        evaluation.norm.to_string(),
        evaluation.epsilon.to_string(),
        evaluation.seed.to_string(),
        evaluation.surrogate.clone().unwrap_or_default(),
        attacks.collect::<Vec<_>>().join(", "),
    ]
    .join("\n")
}

/// Reads an evaluation of a run's folder: it must be what was written, and this run's.
///
/// # Errors
/// [`RunError::Damaged`] where it is not; [`RunError::Io`].
pub fn read(run: &Run, file: &Path) -> Result<Evaluation, RunError> {
    let text = run.read_sealed(file)?;
    serde_json::from_str(&text).map_err(|error| RunError::Damaged {
        expected: "an evaluation".to_string(),
        got: error.to_string(),
        way_out: "put it back from a copy, or remove it and measure anew",
        path: file.to_path_buf(),
    })
}

/// Writes an evaluation into a run's folder, with each image's fate.
///
/// # Errors
/// When the file cannot be written.
pub fn write(run: &Run, file: &Path, evaluation: &Evaluation) -> Result<(), RunError> {
    let text = evaluation.to_json(true).map_err(|error| RunError::Io {
        doing: "write the evaluation",
        path: file.to_path_buf(),
        source: error.into(),
    })?;
    run.write_sealed(file, &text)
}

/// The evaluations of a run's checkpoint in its folder with the times at which they were written, the newest first.
pub fn list(folder: &Path, slot: Slot) -> Vec<(PathBuf, SystemTime)> {
    let marked = format!("-{slot}");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<(PathBuf, SystemTime)> = entries
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_prefix("evaluation-")
                .and_then(|rest| rest.strip_suffix(".json"))
                .is_some_and(|rest| rest.contains(&marked))
        })
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?)))
        .collect();
    found.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    found
}

/// The evaluation with the radii that an earlier one of the same identity was measured at and it was not.
fn with_radii_of(evaluation: &Evaluation, earlier: &Evaluation) -> Evaluation {
    let mut whole = evaluation.clone();
    let is_new = |point: &&CurvePoint| whole.curve.iter().all(|own| own.epsilon != point.epsilon);
    let more: Vec<CurvePoint> = earlier.curve.iter().filter(is_new).cloned().collect();
    whole.curve.extend(more);
    whole
        .curve
        .sort_by(|a, b| a.epsilon.value().total_cmp(&b.epsilon.value()));
    whole
}

/// The file for an identity of its own.
fn own_file(folder: &Path, evaluation: &Evaluation, slot: Slot) -> PathBuf {
    let split = evaluation.dataset.split.as_deref().unwrap_or("examples");
    let hash = Md5::digest(identity(evaluation).as_bytes());
    let short: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    folder.join(format!("evaluation-{split}-{slot}-{short}.json"))
}

/// Keeps an evaluation, with each image's fate, so that two runs can be compared image by image; gives its file.
///
/// `evaluation-SPLIT-SLOT.json` is the run's own figure: of all its own examples of that part, under its own threat model, of the
/// newest checkpoint, by the most attacks (`stands`). Every other evaluation has a file of its own beside it. Of one identity
/// the radii of all its measurements are kept.
///
/// # Errors
/// When a file cannot be written.
pub fn keep(run: &Run, evaluation: &Evaluation, slot: Slot, stands: bool) -> Result<PathBuf, RunError> {
    let folder = run.folder();
    let split = evaluation.dataset.split.as_deref().unwrap_or("examples");
    let standing = folder.join(format!("evaluation-{split}-{slot}.json"));
    let mut file = own_file(folder, evaluation, slot);
    if stands {
        file = match read(run, &standing) {
            Err(_) if !standing.exists() => standing,
            Ok(earlier) if identity(&earlier) == identity(evaluation) => standing,
            Ok(earlier)
                if earlier.checkpoint == evaluation.checkpoint && earlier.attacks.len() > evaluation.attacks.len() =>
            {
                file
            }
            Ok(earlier) => {
                move_aside(&standing, &own_file(folder, &earlier, slot))?;
                standing
            }
            Err(_) => {
                move_aside(&standing, &standing.with_extension("json.damaged"))?;
                standing
            }
        };
    }
    match read(run, &file) {
        Ok(earlier) if !earlier.curve.is_empty() && identity(&earlier) == identity(evaluation) => {
            write(run, &file, &with_radii_of(evaluation, &earlier))?;
        }
        _ => write(run, &file, evaluation)?,
    }
    Ok(file)
}

fn move_aside(from: &Path, to: &Path) -> Result<(), RunError> {
    std::fs::rename(from, to).map_err(|source| RunError::Io {
        doing: "move the earlier evaluation aside",
        path: from.to_path_buf(),
        source,
    })
}
