//! Files that change at once or not at all, and the lock that says who may change them.

use super::RunError;
use crate::files::{self, Place};
use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
    process,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// What the name of everything unfinished begins with.
pub(super) const TEMPORARY: &str = ".tmp-";
const LOCK_FILE: &str = ".lock";
/// Who has the lock, for people and error messages only. A file of its own, because Windows lets nobody read a locked one.
const HOLDER_FILE: &str = ".holder";

/// Writes a file so that a reader, or a kill at any instant, sees the old content or the new, never a part.
///
/// The bytes go to a temporary file in the same folder, which is synced and then renamed; the folder is synced last.
/// A link keeps its place, and what is no file takes the bytes as they come ([`Place`]).
/// The temporary is locked while it is written: one without a lock was left by a kill, and the run's next writer
/// removes it.
///
/// # Errors
/// [`RunError::Io`] if the system refuses any of it; the old file is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let place = files::place_of(path).map_err(RunError::io("write the file", path))?;
    let Place::File(place) = place else {
        return files::pass_on(path, bytes).map_err(RunError::io("write to it", path));
    };
    let path = place.as_path();
    let folder = folder_of(path);
    let (temporary, file) = create_temporary(path).map_err(RunError::io("write the file", path))?;
    let outcome = (|| {
        let mut file = file;
        // Only keeps a cleaner off; a file system without locks does no harm here.
        let _ = file.try_lock();
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if outcome.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    outcome.map_err(RunError::io("write the file", path))?;
    sync_folder(&folder)
}

/// A new file beside `path`. The name of one that a killed process of our own number left is passed over.
fn create_temporary(path: &Path) -> io::Result<(PathBuf, File)> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidFilename)?
        .to_string_lossy()
        .into_owned();
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let temporary = folder_of(path).join(format!("{TEMPORARY}{}-{count}-{name}", process::id()));
        match OpenOptions::new().write(true).create_new(true).open(&temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Writes a new file and waits until the disk has it; for files in a folder that is renamed as a whole later.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    (|| {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    })()
    .map_err(RunError::io("write the file", path))
}

/// Waits until the disk has the folder's list of names: what makes a rename last through a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<(), RunError> {
    if cfg!(windows) {
        return Ok(()); // folders cannot be synced there; the file system journals renames itself
    }
    match File::open(folder).and_then(|handle| handle.sync_all()) {
        // Some network file systems do not know the operation; nothing better can be done on them.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        outcome => outcome.map_err(RunError::io("sync the folder", folder)),
    }
}

/// Removes the temporary files that killed processes left in a folder; those in use are locked and stay.
pub(super) fn remove_left_files(folder: &Path) {
    for path in names_with(folder, TEMPORARY) {
        let unused = path.is_file() && File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
        if unused {
            let _ = fs::remove_file(&path);
        }
    }
}

/// The paths of a folder whose names begin with `prefix`; none if the folder cannot be read.
pub(super) fn names_with(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

/// Where claims lie in a folder of runs.
const CLAIMS: &str = ".claims";

/// Takes the lock of a run's folder. The system releases it with the file, at the latest when the process dies.
///
/// # Errors
/// [`RunError::Locked`] if somebody else has it.
pub(super) fn lock(folder: &Path) -> Result<File, RunError> {
    let path = folder.join(LOCK_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(RunError::io("open the run's lock", &path))?;
    // Some tries, because another process's `is_locked` holds a lock for a moment too.
    for _ in 0..20 {
        let looking = nobody_looks();
        let taken = file.try_lock();
        drop(looking);
        match taken {
            Ok(()) => {
                let _ = fs::write(folder.join(HOLDER_FILE), process::id().to_string());
                return Ok(file);
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(source)) => {
                return Err(RunError::Io {
                    doing: "lock the run",
                    source,
                    path,
                });
            }
        }
    }
    let holder = fs::read_to_string(folder.join(HOLDER_FILE)).unwrap_or_default();
    let holder = match holder.trim().parse::<u32>() {
        Ok(id) if id == process::id() => "this very process".to_string(),
        Ok(id) => format!("process {id}"),
        Err(_) => "another process".to_string(),
    };
    Err(RunError::Locked {
        holder,
        path: folder.to_path_buf(),
    })
}

/// A piece of work that is somebody's for as long as this lives, at the longest as the process.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

/// Claims a piece of work by its name; none where somebody else works at it, here or on another machine that shares the folder.
///
/// # Errors
/// [`RunError::Io`] where the folder cannot be written, or its file system has no locks.
pub fn claim(runs_dir: &Path, name: &str) -> Result<Option<Claim>, RunError> {
    let folder = runs_dir.join(CLAIMS).join(name);
    fs::create_dir_all(&folder).map_err(RunError::io("make the folder of claims", &folder))?;
    match lock(&folder) {
        Ok(lock) => Ok(Some(Claim { _lock: lock })),
        Err(RunError::Locked { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Held while this process looks at a run's lock, which takes it for a moment: however long that moment is on a busy machine, nobody here finds
/// the run taken by it.
fn nobody_looks() -> MutexGuard<'static, ()> {
    static LOOKING: Mutex<()> = Mutex::new(());
    LOOKING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether somebody writes the run at this moment.
pub(super) fn is_locked(folder: &Path) -> bool {
    let _looking = nobody_looks();
    let file = File::open(folder.join(LOCK_FILE));
    file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}
