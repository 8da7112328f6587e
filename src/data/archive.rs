//! Zip archives, and one entry of them within a budget: what pictures and arrays come in.

use std::{
    io::{Cursor, Read},
    path::Path,
    sync::Arc,
};

use zip::{CompressionMethod, ZipArchive, result::ZipError};

use super::{
    error::{DataError, FETCH_AGAIN, Place, malformed, over},
    files, foreign,
};
use crate::memory::Budget;

/// An archive in memory; clones share its bytes.
pub type Archive = ZipArchive<Cursor<Arc<[u8]>>>;

/// Opens the archive at `path`; `expected` is what to call it in an error.
pub fn open(path: &Path, expected: &str, budget: &Budget) -> Result<Archive, DataError> {
    let bytes: Arc<[u8]> = files::read(path, budget)?.into();
    ZipArchive::new(Cursor::new(bytes.clone())).map_err(|error| {
        let damaged = || malformed(path, Place::File, expected, error.to_string(), FETCH_AGAIN);
        foreign::named(&bytes, path).unwrap_or_else(damaged)
    })
}

/// The content of one entry.
pub fn read(archive: &mut Archive, entry: usize, path: &Path, budget: &Budget) -> Result<Vec<u8>, DataError> {
    let name = match archive
        .by_index_raw(entry)
        .map(|file| (file.name_raw().to_vec(), file.compression()))
    {
        Ok((name, method)) => {
            let name = String::from_utf8_lossy(&name).into_owned();
            if method == CompressionMethod::Lzma {
                dictionary(archive, entry, &name, path, budget)?;
            }
            name
        }
        Err(_) => format!("entry {entry}"),
    };
    let refuse =
        |got: String, way_out: &str| malformed(path, Place::Entry(name.clone()), "a whole entry", got, way_out);
    let mut file = archive.by_index(entry).map_err(|error| match error {
        ZipError::UnsupportedArchive(reason) if reason == ZipError::PASSWORD_REQUIRED => refuse(
            "an encrypted one".into(),
            "unpack the archive with its password, and name the folder",
        ),
        ZipError::UnsupportedArchive(reason) => {
            let way_out =
                "pack the archive again with ordinary compression (deflate), or unpack it and name the folder";
            refuse(reason.to_string(), way_out)
        }
        error => refuse(error.to_string(), FETCH_AGAIN),
    })?;
    let content = budget
        .read(&mut file)
        .map_err(|error| over(path, format!("{name}, unpacked"), error))?;
    content.map_err(|error| refuse(error.to_string(), FETCH_AGAIN))
}

/// Refuses a dictionary that the budget has no room for; LZMA makes it before the first byte comes out.
fn dictionary(archive: &mut Archive, entry: usize, name: &str, path: &Path, budget: &Budget) -> Result<(), DataError> {
    let mut header = [0; 9];
    let Ok(mut file) = archive.by_index_raw(entry) else {
        return Ok(());
    };
    if file.read_exact(&mut header).is_err() {
        return Ok(());
    }
    let size = u64::from(u32::from_le_bytes([header[5], header[6], header[7], header[8]]));
    budget
        .take(size)
        .map_err(|error| over(path, format!("the dictionary of {name}"), error))?;
    budget.give_back(size);
    Ok(())
}
