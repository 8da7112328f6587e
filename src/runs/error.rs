//! What can go wrong with a run's folder, each with what was expected, what came, and the way out.

use std::{
    io,
    path::{Path, PathBuf},
};

/// An operation on a run's folder that failed. The last good state is kept in every case.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A name that cannot be a folder's on every system.
    #[error(
        "expected a run's name of 1 to 80 letters, digits, `-`, `_` or `.` that begins with a letter or a \
         digit; got {name:?}, which {reason}; choose another name"
    )]
    Name {
        /// The name as given.
        name: String,
        /// What is wrong with it, as the end of a sentence.
        reason: &'static str,
    },
    /// The name belongs to a run already.
    #[error(
        "expected a free name; got {name:?}, which is taken; continue that run with --resume, or choose another name \
         with --name: {}",
        path.display()
    )]
    Taken {
        /// The name as given.
        name: String,
        /// What has the name.
        path: PathBuf,
    },
    /// The folder is not a run's.
    #[error(
        "expected a run's folder, with a run.json in it; got {got}; `martlet runs` lists the runs: {}",
        path.display()
    )]
    NotARun {
        /// What was there instead.
        got: String,
        /// The folder.
        path: PathBuf,
    },
    /// A part of the run is missing or is not what was written.
    #[error("expected {expected}; got {got}; {way_out}: {}", path.display())]
    Damaged {
        /// What an undamaged file holds.
        expected: String,
        /// What this one holds.
        got: String,
        /// What to do about it.
        way_out: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// `recipe.toml` is not the one that the run was begun with.
    #[error(
        "expected the recipe that the run was trained with; got one that was changed since; put the old one back from a copy, \
         or start a new run with this one (martlet train --recipe with this path): {}",
        path.display()
    )]
    Recipe {
        /// The file.
        path: PathBuf,
    },
    /// A newer martlet wrote it.
    #[error(
        "expected format {known} or older; got format {got}; open it with the newer martlet that wrote it: {}",
        path.display()
    )]
    Newer {
        /// The newest format that this martlet reads.
        known: u64,
        /// The format found.
        got: u64,
        /// The file.
        path: PathBuf,
    },
    /// Somebody writes the run at this moment.
    #[error(
        "expected a run that nobody writes; got one that {holder} is writing; stop it first, or wait for its end: {}",
        path.display()
    )]
    Locked {
        /// Who holds the lock, as far as it is known.
        holder: String,
        /// The run's folder.
        path: PathBuf,
    },
    /// An array whose shape and values do not fit together.
    #[error(
        "expected {} values for the array {name:?} of shape {shape:?}; got {got}; correct the array's shape",
        shape.iter().product::<usize>()
    )]
    Array {
        /// The array's name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The count of its values.
        got: usize,
    },
    /// An event without a kind.
    #[error("expected a JSON object with the text field \"event\"; got {got}; give the event its kind")]
    Event {
        /// The event as given.
        got: String,
    },
    /// The system refused.
    #[error("expected to {doing}; got {source}; {}: {}", way_out(source), path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
        /// The file or folder.
        path: PathBuf,
    },
}

impl RunError {
    /// For `map_err`: the system refused while `doing` something with `path`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunError {
        move |source| RunError::Io {
            doing,
            source,
            path: path.to_path_buf(),
        }
    }

    /// Whether it is the stored data that is at fault, so that an older copy of it may still do.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            RunError::Damaged { .. } => true,
            // A sector that cannot be read is damage; a person's permissions are not.
            RunError::Io { source, .. } => !matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::OutOfMemory
            ),
            _ => false,
        }
    }
}

fn way_out(source: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match source.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => {
            "free some space and continue with --resume (the last good checkpoint is kept)"
        }
        Kind::FileTooLarge => {
            "raise the limit on a file's size and continue with --resume (the last good checkpoint is kept)"
        }
        Kind::PermissionDenied => "give yourself permission to it, or choose another folder with --runs-dir",
        Kind::ReadOnlyFilesystem => "make the disk writable, or choose another folder with --runs-dir",
        Kind::NotFound => "check that the folder was not moved or removed meanwhile",
        Kind::Unsupported => "choose a folder on a local disk with --runs-dir",
        _ => "check the disk and continue with --resume (the last good checkpoint is kept)",
    }
}
