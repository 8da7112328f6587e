//! Files that a person named: written whole or not at all where they are files, passed on where they are something else.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What a path leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    /// A file, there or to be made, at its real place: that of the link's target where the path is a link.
    File(PathBuf),
    /// A device, a pipe or an open stream, which takes bytes and cannot be replaced.
    Stream,
}

/// What a path leads to, links followed.
///
/// # Errors
/// Where it is a folder, or cannot be looked at.
pub fn place_of(path: &Path) -> io::Result<Place> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|about| about.is_symlink());
    match fs::metadata(path) {
        Ok(about) if about.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // /dev/stdout is a link to what may be a file: it is open, and another file in its place would not be read.
        Ok(about) if !about.is_file() || path.starts_with("/dev") || path.starts_with("/proc") => Ok(Place::Stream),
        Ok(_) if is_link => fs::canonicalize(path).map(Place::File),
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_link => {
            let target = fs::read_link(path)?;
            let beside = path.parent().unwrap_or(Path::new(""));
            place_of(&beside.join(target))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(Place::File(path.to_path_buf())),
    }
}

/// Passes bytes on to a device, a pipe or an open stream.
///
/// # Errors
/// When it does not take them.
pub fn pass_on(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let through = |stream: &mut dyn Write| stream.write_all(bytes).and_then(|()| stream.flush());
    match path.to_str() {
        Some("/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1") => through(&mut io::stdout().lock()),
        Some("/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2") => through(&mut io::stderr().lock()),
        _ => through(&mut OpenOptions::new().append(true).open(path)?),
    }
}

/// Writes a file that a reader, or a kill at any instant, sees whole or not at all: to a temporary file beside it, which is synced
/// and renamed. A link keeps its place, and what is no file takes the bytes as they come.
///
/// # Errors
/// When the system refuses any of it; the old file is then untouched.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole_with(path, |file| file.write_all(bytes))
}

/// A file that a person wanted and the system refused.
#[derive(Debug, thiserror::Error)]
#[error("expected to write the file; got {source}; {}: {}", way_out(source), path.display())]
pub struct NotWritten {
    source: io::Error,
    path: PathBuf,
}

fn way_out(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded => "free some space, or name a place on another disk",
        Kind::FileTooLarge => "raise the limit on a file's size, or name a place on another disk",
        Kind::PermissionDenied => "give yourself permission to it, or name another place",
        Kind::ReadOnlyFilesystem => "make the disk writable, or name another place",
        Kind::NotFound => "make its folder first, or name another place",
        _ => "name another place",
    }
}

/// [`write_whole`] for a file that a person asked for by its place.
///
/// # Errors
/// [`NotWritten`] with the reason and the way out.
pub fn save(path: &Path, bytes: &[u8]) -> Result<(), NotWritten> {
    write_whole(path, bytes).map_err(|source| NotWritten {
        source,
        path: path.to_path_buf(),
    })
}

/// [`write_whole`] with what writes the bytes.
///
/// # Errors
/// As [`write_whole`].
pub fn write_whole_with(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let place = match place_of(path)? {
        Place::File(place) => place,
        Place::Stream => {
            // Formats such as zip go back in their file: they are made beside and passed on.
            let mut file = tempfile::tempfile()?;
            write(&mut file)?;
            let mut bytes = Vec::new();
            io::Seek::rewind(&mut file)?;
            io::Read::read_to_end(&mut file, &mut bytes)?;
            return pass_on(path, &bytes);
        }
    };
    let folder = folder_of(&place);
    let mut file = temporary_in(&folder)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist(&place).map_err(|error| error.error)?;
    // The new name is on the disk only once its folder is; where folders cannot be opened the rename has to do.
    if let Ok(folder) = File::open(folder) {
        folder.sync_all()?;
    }
    Ok(())
}

/// Makes sure, before the work, that its result can be written there.
///
/// # Errors
/// The reason why it cannot.
pub fn check_writable(path: &Path) -> io::Result<()> {
    match place_of(path)? {
        // The temporary file's name would only confuse.
        Place::File(place) => temporary_in(&folder_of(&place))
            .map(|_| ())
            .map_err(|error| error.kind().into()),
        Place::Stream => Ok(()),
    }
}

/// A temporary file beside the one that it will replace, as readable as any other file of this person.
fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.prefix(".martlet-").tempfile_in(folder)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

#[cfg(all(test, unix))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::{io::Read, os::unix::fs::symlink, thread};

    #[test]
    fn links_keep_their_place_and_streams_take_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write_whole(&at("file"), b"old").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("later", at("dangling")).unwrap();
        write_whole(&at("link"), b"new").unwrap();
        write_whole(&at("dangling"), b"made").unwrap();
        assert!(fs::symlink_metadata(at("link")).unwrap().is_symlink());
        assert_eq!(fs::read(at("file")).unwrap(), b"new");
        assert!(fs::symlink_metadata(at("dangling")).unwrap().is_symlink());
        assert_eq!(fs::read(at("later")).unwrap(), b"made");

        let pipe = at("pipe");
        assert!(
            std::process::Command::new("mkfifo")
                .arg(&pipe)
                .status()
                .unwrap()
                .success()
        );
        let reader = {
            let pipe = pipe.clone();
            thread::spawn(move || {
                let mut text = String::new();
                File::open(pipe).unwrap().read_to_string(&mut text).unwrap();
                text
            })
        };
        check_writable(&pipe).unwrap();
        write_whole(&pipe, b"through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert_eq!(place_of(&pipe).unwrap(), Place::Stream);

        write_whole(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(write_whole(Path::new("/dev/full"), b"x").is_err());
        assert!(check_writable(folder.path()).is_err());
        assert!(check_writable(&at("missing/file")).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }
}

/// What stands in place of a file that was not fetched, by the text that it begins with, and the way to the file itself.
pub fn not_fetched(text: &str) -> Option<(&'static str, &'static str)> {
    let text = text.trim_start().to_lowercase();
    if text.starts_with("<!doctype") || text.starts_with("<html") {
        return Some(("a web page", "fetch the file itself, which may need a click or a login"));
    }
    let is_pointer = text.starts_with("version https://git-lfs");
    is_pointer.then_some(("a pointer of Git LFS", "fetch the file itself: git lfs pull"))
}

/// What is said of a pipe where a file is read more than once, and the way out; none where the path is none.
pub fn pipe(path: &Path) -> Option<(&'static str, &'static str)> {
    let is_other = path.exists() && !path.is_file() && !path.is_dir();
    is_other.then_some((
        "a pipe, which can be read only once",
        "save it to a file, and name that",
    ))
}
