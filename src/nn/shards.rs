//! Weights that lie in several files, and folders that hold weights, as Hugging Face's libraries lay them out.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use super::{WeightsError, weights::few};
use crate::files::pipe;

/// What a folder's weights are called, the first that is there.
const IN_A_FOLDER: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

const INDEX: &str = ".index.json";

/// The longest index that is read: a million names.
const LONGEST: u64 = 1 << 27;

/// Where a folder holds weights as Hugging Face lays them out, the file to read: `model.safetensors`, `pytorch_model.bin`, or the index of
/// several.
pub fn weights_in(folder: &Path) -> Option<PathBuf> {
    let files = IN_A_FOLDER.iter().map(|name| folder.join(name));
    files.into_iter().find(|file| file.is_file())
}

/// The files that hold the weights of `path` together; none where it is a file of its own.
pub(super) fn of(path: &Path) -> Result<Option<Vec<PathBuf>>, WeightsError> {
    let refused = |expected: &'static str, reason: String| WeightsError::Format {
        expected,
        reason,
        path: path.to_path_buf(),
    };
    if path.is_dir() {
        let file = weights_in(path).ok_or_else(|| {
            let reason = "one without any; name the file itself".into();
            refused("a folder with model.safetensors or pytorch_model.bin", reason)
        })?;
        return Ok(Some(of(&file)?.unwrap_or_else(|| vec![file])));
    }
    if let Some((got, way_out)) = pipe(path) {
        return Err(refused("a file of weights", format!("{got}; {way_out}")));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().unwrap_or(Path::new(""));
    let names: BTreeSet<String> = if name.ends_with(INDEX) {
        let found = names_in(path).ok_or_else(|| {
            let reason = "another JSON, or a damaged one; name the files of weights beside it".into();
            refused("an index with a weight_map of files beside it", reason)
        });
        found?
    } else if let Some(siblings) = siblings(&name) {
        siblings
    } else {
        return Ok(None);
    };
    let missing: Vec<String> = names
        .iter()
        .filter(|name| !folder.join(name).is_file())
        .cloned()
        .collect();
    if !missing.is_empty() {
        let reason = format!(
            "a part of weights in {} files without {}; fetch those too, into the same folder",
            names.len(),
            few(&missing)
        );
        return Err(refused("all files of the weights", reason));
    }
    Ok(Some(names.iter().map(|name| folder.join(name)).collect()))
}

/// The files that an index names, each beside it.
fn names_in(index: &Path) -> Option<BTreeSet<String>> {
    if fs::metadata(index).ok()?.len() > LONGEST {
        return None;
    }
    let index: serde_json::Value = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    let names = index.get("weight_map")?.as_object()?.values();
    let names: Option<BTreeSet<String>> = names.map(|name| Some(name.as_str()?.to_string())).collect();
    // A name with folders in it would lead elsewhere.
    let beside = |name: &String| Path::new(name).file_name().is_some_and(|own| own == name.as_str());
    names.filter(|names| !names.is_empty() && names.iter().all(beside))
}

/// All names of which `model-00001-of-00003.safetensors` is one.
fn siblings(name: &str) -> Option<BTreeSet<String>> {
    let (stem, ending) = name.rsplit_once('.')?;
    let (before, count) = stem.rsplit_once("-of-")?;
    let (before, number) = before.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let of: usize = Some(count).filter(|count| digits(count))?.parse().ok()?;
    let number: usize = Some(number).filter(|number| digits(number))?.parse().ok()?;
    (1 < of && (1..=of).contains(&number)).then(|| {
        let name = |number| format!("{before}-{number:05}-of-{of:05}.{ending}");
        (1..=of).map(name).collect()
    })
}
