//! Reading whole files, unpacking gzip, checksums: what every format needs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use md5::{Digest, Md5};

use super::error::{DataError, FETCH_AGAIN, Place, malformed, over};
use crate::memory::Budget;

/// The file's bytes.
pub fn read(path: &Path, budget: &Budget) -> Result<Vec<u8>, DataError> {
    let refuse = |error| DataError::Io {
        doing: "read the file",
        error,
        path: path.into(),
    };
    let mut file = File::open(path).map_err(refuse)?;
    let long = file.metadata().map_or(0, |file| file.len());
    if long > budget.left() {
        budget.take(long).map_err(|error| over(path, "the file", error))?;
    }
    let mut bytes = Vec::with_capacity(long as usize + 1);
    let outcome = budget.read_into(&mut file, &mut bytes);
    outcome
        .map_err(|error| over(path, "the file", error))?
        .map_err(refuse)?;
    Ok(bytes)
}

/// Refuses a pipe: every format is read more than once, be it for its two splits.
pub fn refuse_pipe(path: &Path) -> Result<(), DataError> {
    match crate::files::pipe(path) {
        None => Ok(()),
        Some((got, way_out)) => Err(malformed(path, Place::File, "a file or a folder", got, way_out)),
    }
}

/// The paths of a folder's entries, sorted.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let refuse = |error| DataError::Io {
        doing: "list the folder",
        error,
        path: folder.into(),
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(refuse)? {
        paths.push(entry.map_err(refuse)?.path());
    }
    paths.sort();
    Ok(paths)
}

/// A path's last part, as text.
pub fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Whether the bytes begin as gzip does.
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The bytes as they are, or unpacked if they are gzip (by content, not by name).
pub fn unpacked(bytes: Vec<u8>, path: &Path, budget: &Budget) -> Result<Vec<u8>, DataError> {
    if !is_gzip(&bytes) {
        return Ok(bytes);
    }
    let content = gunzip(&bytes, path, budget)?;
    budget.give_back(bytes.len() as u64);
    Ok(content)
}

/// The content of a gzip file.
pub fn gunzip(bytes: &[u8], path: &Path, budget: &Budget) -> Result<Vec<u8>, DataError> {
    let mut content = Vec::new();
    let unpacking = budget.read_into(&mut MultiGzDecoder::new(bytes), &mut content);
    let unpacking = unpacking.map_err(|error| over(path, "the file, unpacked", error))?;
    unpacking.map_err(|error| {
        let place = Place::Byte(content.len() as u64);
        malformed(path, place, "a whole gzip stream", error.to_string(), FETCH_AGAIN)
    })?;
    Ok(content)
}

/// The MD5 checksum in hexadecimal, as data sets' pages print it.
pub fn md5_hex(bytes: &[u8]) -> String {
    hex(&Md5::digest(bytes))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn md5_of_nothing_is_the_known_one() {
        assert_eq!(md5_hex(b""), "d41d8cd98f00b204e9800998ecf8427e");
    }
}
