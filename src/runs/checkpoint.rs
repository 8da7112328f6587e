//! Checkpoints: what one holds, its files, and the generations of them in a run's `checkpoints` folder.

use super::{
    RunError,
    atomic::{TEMPORARY, names_with, sync_folder, write_atomic, write_synced},
    metrics::Mark,
};
use crate::seal;
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value};
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// The version of the layout that this martlet writes, and the newest that it reads.
pub(super) const FORMAT: u64 = 2;

const WEIGHTS_FILE: &str = "weights.safetensors";
const OPTIMISER_FILE: &str = "optimiser.safetensors";
const PROGRESS_FILE: &str = "progress.json";
const CHECKSUMS_FILE: &str = "checksums.md5";
const WAY_OUT: &str = "put the file back from a copy, or start a new run from this one's recipe.toml";

/// A tensor on the host, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Its sizes; none for a single number.
    pub shape: Vec<usize>,
    /// Its values, the last dimension running fastest.
    pub values: Values,
}

/// The values of an [`Array`].
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Weights, running statistics, momentum.
    F32(Vec<f32>),
    /// Counts, such as BatchNorm's `num_batches_tracked`.
    I64(Vec<i64>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::F32(values) => values.len(),
            Values::I64(values) => values.len(),
        }
    }
}

/// Everything that a run needs to go on as if it had never stopped.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// The network's parameters and buffers under PyTorch's names.
    pub weights: BTreeMap<String, Array>,
    /// The optimiser's state, one array or more for each parameter.
    pub optimiser: BTreeMap<String, Array>,
    /// Counters, generator states, whatever the training loop needs; every number comes back to the bit.
    /// Its field `figures`, if there is one, is what [`list`](super::list) shows of the run.
    pub progress: Value,
}

impl Checkpoint {
    /// Its bytes, for another process: what [`Checkpoint::from_bytes`] reads.
    ///
    /// # Errors
    /// When an array's values do not fill its shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RunError> {
        let nowhere = Path::new("a message");
        let mut bytes = Vec::new();
        for part in [
            safetensors_bytes(&self.weights, nowhere)?,
            safetensors_bytes(&self.optimiser, nowhere)?,
            self.progress.to_string().into_bytes(),
        ] {
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        }
        Ok(bytes)
    }

    /// What [`Checkpoint::to_bytes`] wrote.
    ///
    /// # Errors
    /// When the bytes are not that.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, RunError> {
        let nowhere = Path::new("a message");
        let damaged = || RunError::Damaged {
            expected: "a checkpoint in three parts".to_string(),
            got: "other bytes".to_string(),
            way_out: "let all processes be of one version",
            path: nowhere.to_path_buf(),
        };
        let mut part = || {
            let (length, rest) = bytes.split_first_chunk().ok_or_else(damaged)?;
            let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged())?;
            let (part, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
            bytes = rest;
            Ok::<_, RunError>(part)
        };
        Ok(Self {
            weights: parse_arrays(part()?, nowhere)?,
            optimiser: parse_arrays(part()?, nowhere)?,
            progress: serde_json::from_slice(part()?).map_err(|_| damaged())?,
        })
    }
}

/// Which of a run's two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The latest: the one to go on from.
    Last,
    /// The one with the best figures so far.
    Best,
}

impl fmt::Display for Slot {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(match self {
            Slot::Last => "last",
            Slot::Best => "best",
        })
    }
}

/// What a checkpoint is tied to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ties {
    /// The run's id; none for a run of format 1, which has no ties.
    pub run: Option<String>,
    /// Hashes of the recipes that the run has had, the present one last.
    pub recipes: Vec<String>,
}

/// `progress.json`: the caller's progress, and what ties the checkpoint to the rest of the run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Header {
    pub format: u64,
    pub slot: Slot,
    /// The id of the run that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The hash of the recipe at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// The end of the metrics at this moment; a resumed run goes on from there.
    pub metrics: Mark,
    /// The best checkpoint at this moment.
    pub best: Option<String>,
    pub progress: Value,
    /// Bits of those floats in `progress` that their decimal form does not give back, by JSON pointer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    exact: BTreeMap<String, String>,
}

impl Header {
    pub fn new(
        slot: Slot,
        ties: &Ties,
        metrics: Mark,
        best: Option<String>,
        progress: &Value,
    ) -> Result<Header, serde_json::Error> {
        // serde_json reads floats fast and up to one unit in the last place wrong; a learning rate or a best loss that
        // changes so little still makes a resumed run another run.
        let read_back: Value = serde_json::from_slice(&serde_json::to_vec(progress)?)?;
        let mut exact = BTreeMap::new();
        note_inexact(progress, &read_back, &mut String::new(), &mut exact);
        Ok(Header {
            format: if ties.run.is_some() { FORMAT } else { 1 },
            slot,
            run: ties.run.clone(),
            recipe: ties.run.as_ref().and_then(|_| ties.recipes.last().cloned()),
            metrics,
            best,
            progress: progress.clone(),
            exact,
        })
    }

    /// The same with other metrics.
    pub fn with(self, metrics: Mark) -> Self {
        Self { metrics, ..self }
    }

    fn restore_exact(&mut self) -> Option<()> {
        for (pointer, bits) in &self.exact {
            let value = f64::from_bits(u64::from_str_radix(bits, 16).ok()?);
            *self.progress.pointer_mut(pointer)? = Value::Number(Number::from_f64(value)?);
        }
        Some(())
    }
}

fn note_inexact(written: &Value, read: &Value, pointer: &mut String, exact: &mut BTreeMap<String, String>) {
    let length = pointer.len();
    let mut descend = |key: &str, written: &Value, read: Option<&Value>| {
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
        note_inexact(written, read.unwrap_or(&Value::Null), pointer, exact);
        pointer.truncate(length);
    };
    match written {
        Value::Object(fields) => fields
            .iter()
            .for_each(|(key, value)| descend(key, value, read.get(key))),
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| descend(&index.to_string(), value, read.get(index)));
        }
        Value::Number(number) if number.is_f64() => {
            let bits = |value: Option<f64>| value.map(f64::to_bits);
            if let (Some(expected), got) = (bits(number.as_f64()), bits(read.as_f64()))
                && got != Some(expected)
            {
                exact.insert(pointer.clone(), format!("{expected:016x}"));
            }
        }
        _ => {}
    }
}

/// What [`Store::find`] found.
pub(super) struct Found {
    pub name: String,
    pub header: Header,
    pub checkpoint: Checkpoint,
    /// What a person should know about how it was found.
    pub notice: Option<String>,
}

/// A run's `checkpoints` folder.
pub(super) struct Store {
    pub folder: PathBuf,
    pub ties: Ties,
}

impl Store {
    /// The generation that the slot's pointer file names, if there is a pointer.
    pub fn pointer(&self, slot: Slot) -> Result<Option<String>, RunError> {
        let path = self.folder.join(slot.to_string());
        match fs::read_to_string(&path) {
            Ok(text) => {
                let name = text.trim();
                if generation(name).is_some_and(|(of, _)| of == slot) {
                    return Ok(Some(name.to_string()));
                }
                Err(RunError::Damaged {
                    expected: format!("the name of a checkpoint, such as {slot}-000001"),
                    got: format!("{name:?}"),
                    way_out: "write the name of the newest whole folder beside it into it",
                    path,
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RunError::Io {
                doing: "read the checkpoint's name",
                source,
                path,
            }),
        }
    }

    /// The slot's generations, newest first.
    pub fn generations(&self, slot: Slot) -> Vec<String> {
        let mut found: Vec<(u64, String)> = names_with(&self.folder, &format!("{slot}-"))
            .into_iter()
            .filter_map(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()))
            .filter_map(|name| Some((generation(&name)?.1, name)))
            .collect();
        found.sort_unstable_by(|left, right| right.cmp(left));
        found.into_iter().map(|(_, name)| name).collect()
    }

    /// Writes a new generation and makes it the slot's. Whenever it stops, the slot holds the old or the new, whole.
    pub fn write(&self, header: &Header, checkpoint: &Checkpoint) -> Result<(), RunError> {
        let slot = header.slot;
        if !self.folder.is_dir() {
            fs::create_dir(&self.folder).map_err(RunError::io("make the checkpoints' folder", &self.folder))?;
        }
        let numbers = [Slot::Last, Slot::Best]
            .into_iter()
            .flat_map(|slot| self.generations(slot));
        let newest = numbers.filter_map(|name| Some(generation(&name)?.1)).max().unwrap_or(0);
        let name = format!("{slot}-{:06}", newest + 1);
        let (temporary, place) = (self.folder.join(format!("{TEMPORARY}{name}")), self.folder.join(&name));
        let outcome = (|| {
            remove_folder(&temporary)?;
            fs::create_dir(&temporary).map_err(RunError::io("make the checkpoint's folder", &temporary))?;
            write_files(&temporary, header, checkpoint)?;
            fs::rename(&temporary, &place).map_err(RunError::io("put the checkpoint into place", &place))?;
            sync_folder(&self.folder)?;
            self.point(slot, Some(&name))
        })();
        if outcome.is_err() {
            // Gives a full disk its room back. A pointer that could not be synced may name it already: then it stays.
            let _ = remove_folder(&temporary);
            if !matches!(self.pointer(slot), Ok(Some(current)) if current == name) {
                let _ = remove_folder(&place);
            }
        }
        outcome?;
        self.prune();
        Ok(())
    }

    /// Makes a generation the slot's, or none.
    pub fn point(&self, slot: Slot, name: Option<&str>) -> Result<(), RunError> {
        let path = self.folder.join(slot.to_string());
        match name {
            Some(name) => write_atomic(&path, format!("{name}\n").as_bytes())?,
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(RunError::Io {
                        doing: "remove the checkpoint's name",
                        source: error,
                        path,
                    });
                }
                _ => sync_folder(&self.folder)?,
            },
        }
        self.link(slot);
        Ok(())
    }

    /// `last.safetensors` and `best.safetensors`: names that stay, for people and other tools. Nothing reads them
    /// here, so that a file system without hard links only lacks them.
    fn link(&self, slot: Slot) {
        let link = self.folder.join(format!("{slot}.safetensors"));
        let temporary = self.folder.join(format!("{TEMPORARY}{slot}.safetensors"));
        let _ = fs::remove_file(&temporary);
        let linked = match self.pointer(slot) {
            Ok(Some(name)) => fs::hard_link(self.folder.join(name).join(WEIGHTS_FILE), &temporary)
                .and_then(|()| fs::rename(&temporary, &link))
                .is_ok(),
            _ => false,
        };
        // Renaming one link of a file onto another of the same file leaves both.
        let _ = fs::remove_file(&temporary);
        if !linked {
            let _ = fs::remove_file(&link); // better none than an old one
        }
    }

    /// Removes what a kill has left behind; only for the holder of the run's lock.
    pub fn clean(&self) {
        for path in names_with(&self.folder, TEMPORARY) {
            let _ = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
        }
        self.link(Slot::Last);
        self.link(Slot::Best);
    }

    /// Removes the generations that nothing needs: kept are both slots' own, the last before the last, and the best
    /// that each of these two lasts knew, because resuming from one of them goes back to its best.
    pub fn prune(&self) {
        let (Ok(last), Ok(best)) = (self.pointer(Slot::Last), self.pointer(Slot::Best)) else {
            return;
        };
        let number = |name: &str| generation(name).map(|(_, number)| number);
        let before = last.as_ref().and_then(|last| {
            self.generations(Slot::Last)
                .into_iter()
                .find(|name| number(name) < number(last))
        });
        let lasts: Vec<String> = last.into_iter().chain(before).collect();
        let mut keep: BTreeSet<String> = best.into_iter().collect();
        for name in &lasts {
            match self.header(name) {
                Ok(header) => keep.extend(header.best),
                Err(_) if Some(name) == lasts.first() => return, // never remove what a damaged file may have named
                Err(_) => {}
            }
        }
        keep.extend(lasts);
        for slot in [Slot::Last, Slot::Best] {
            for name in self.generations(slot).into_iter().filter(|name| !keep.contains(name)) {
                // Under a temporary name first, so that no half of it is ever taken for a checkpoint.
                let gone = self.folder.join(format!("{TEMPORARY}gone-{name}"));
                if fs::rename(self.folder.join(&name), &gone).is_ok() {
                    let _ = fs::remove_dir_all(&gone);
                }
            }
        }
    }

    /// Where a generation's weights are.
    pub fn weights(&self, name: &str) -> PathBuf {
        self.folder.join(name).join(WEIGHTS_FILE)
    }

    /// A generation's `progress.json`, its checksum unverified.
    pub fn header(&self, name: &str) -> Result<Header, RunError> {
        let path = self.folder.join(name).join(PROGRESS_FILE);
        parse_header(&read_file(&path)?, &path)
    }

    /// The place in the metrics that the newest whole progress knows.
    pub fn known_metrics(&self) -> Option<Mark> {
        let named = self.pointer(Slot::Last).ok().flatten();
        let others = self.generations(Slot::Last).into_iter();
        let others = others.filter(|name| Some(name) != named.as_ref()).collect::<Vec<_>>();
        named.iter().chain(&others).find_map(|name| {
            let folder = self.folder.join(name);
            let written = read_file(&folder.join(CHECKSUMS_FILE)).ok()?;
            let (bytes, _) = verified(&folder, PROGRESS_FILE, &String::from_utf8_lossy(&written)).ok()?;
            let header = parse_header(&bytes, &folder.join(PROGRESS_FILE)).ok()?;
            self.belongs(&header, name).ok().map(|()| header.metrics)
        })
    }

    /// Whether a checkpoint is of this run and of a recipe that the run has had.
    fn belongs(&self, header: &Header, name: &str) -> Result<(), RunError> {
        if self.ties.run.is_none() && header.run.is_none() {
            return Ok(());
        }
        let foreign = |expected: &str, got: &str| {
            Err(RunError::Damaged {
                expected: expected.to_string(),
                got: got.to_string(),
                way_out: WAY_OUT,
                path: self.folder.join(name),
            })
        };
        if header.run != self.ties.run {
            return foreign("a checkpoint of this run", "one of another run");
        }
        match &header.recipe {
            Some(recipe) if self.ties.recipes.contains(recipe) => Ok(()),
            _ => foreign("a checkpoint of this run's recipe", "one of another recipe"),
        }
    }

    /// The slot's newest whole generation, the pointer's own before all others.
    ///
    /// # Errors
    /// The newest one's damage if none is whole; anything that is no damage, such as a missing permission, at once.
    pub fn find(&self, slot: Slot) -> Result<Option<Found>, RunError> {
        // A reader may look while the writer moves on and removes what the pointer named a moment ago: then again.
        let mut tries = 0;
        loop {
            let pointer = self.pointer(slot);
            let before = pointer.as_ref().ok().cloned();
            let outcome = self.find_from(slot, pointer);
            tries += 1;
            let as_named = matches!(outcome, Ok(Some(Found { notice: None, .. })));
            let moved = before.is_some() && self.pointer(slot).ok() != before;
            if as_named || !moved || tries == 5 {
                return outcome;
            }
        }
    }

    fn find_from(&self, slot: Slot, pointer: Result<Option<String>, RunError>) -> Result<Option<Found>, RunError> {
        let (mut failure, named) = match pointer {
            Ok(named) => (None, named),
            Err(error) if error.is_damage() => (Some(error), None),
            Err(error) => return Err(error),
        };
        let others = self
            .generations(slot)
            .into_iter()
            .filter(|name| Some(name) != named.as_ref());
        for name in named.iter().cloned().chain(others) {
            match self.read(&name) {
                Ok((header, checkpoint)) => {
                    let notice = match failure {
                        Some(error) => Some(format!(
                            "The {slot} checkpoint is damaged, {name} is taken instead: {error}"
                        )),
                        None if named.is_none() => {
                            Some(format!("No file names the {slot} checkpoint, {name} is taken"))
                        }
                        None => None,
                    };
                    return Ok(Some(Found {
                        name,
                        header,
                        checkpoint,
                        notice,
                    }));
                }
                Err(error) if error.is_damage() => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Reads a generation, every byte of it verified, and that it is of this run.
    pub fn read(&self, name: &str) -> Result<(Header, Checkpoint), RunError> {
        let folder = self.folder.join(name);
        let sums_path = folder.join(CHECKSUMS_FILE);
        let written = String::from_utf8_lossy(&read_file(&sums_path)?).into_owned();
        let mut computed = String::new();
        let mut verified = |file: &str| {
            let (bytes, line) = verified(&folder, file, &written)?;
            computed.push_str(&line);
            Ok::<_, RunError>(bytes)
        };
        let progress_path = folder.join(PROGRESS_FILE);
        let progress_bytes = verified(PROGRESS_FILE)?;
        let (weights_bytes, optimiser_bytes) = (verified(WEIGHTS_FILE)?, verified(OPTIMISER_FILE)?);
        if computed != written {
            return Err(RunError::Damaged {
                expected: format!("one checksum for each of {PROGRESS_FILE}, {WEIGHTS_FILE} and {OPTIMISER_FILE}"),
                got: format!("{} bytes that are not this", written.len()),
                way_out: WAY_OUT,
                path: sums_path,
            });
        }
        let header = parse_header(&progress_bytes, &progress_path)?;
        self.belongs(&header, name)?;
        let weights = parse_arrays(&weights_bytes, &folder.join(WEIGHTS_FILE))?;
        let optimiser = parse_arrays(&optimiser_bytes, &folder.join(OPTIMISER_FILE))?;
        let progress = header.progress.clone();
        Ok((
            header,
            Checkpoint {
                weights,
                optimiser,
                progress,
            },
        ))
    }
}

/// `last-000012` is the last of number 12.
fn generation(name: &str) -> Option<(Slot, u64)> {
    let (slot, number) = name.split_once('-')?;
    let slot = [Slot::Last, Slot::Best]
        .into_iter()
        .find(|known| known.to_string() == slot)?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((slot, number.parse().ok().filter(|_| digits)?))
}

fn remove_folder(path: &Path) -> Result<(), RunError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(RunError::io("remove an old folder", path)(error)),
        _ => Ok(()),
    }
}

fn write_files(folder: &Path, header: &Header, checkpoint: &Checkpoint) -> Result<(), RunError> {
    let progress = serde_json::to_vec_pretty(header)
        .map_err(|error| unwritable(error.to_string(), &folder.join(PROGRESS_FILE)))?;
    let mut checksums = checksum_line(PROGRESS_FILE, &progress);
    write_synced(&folder.join(PROGRESS_FILE), &progress)?;
    for (file, arrays) in [
        (WEIGHTS_FILE, &checkpoint.weights),
        (OPTIMISER_FILE, &checkpoint.optimiser),
    ] {
        let bytes = safetensors_bytes(arrays, &folder.join(file))?;
        checksums.push_str(&checksum_line(file, &bytes));
        write_synced(&folder.join(file), &bytes)?;
    }
    write_synced(&folder.join(CHECKSUMS_FILE), checksums.as_bytes())?;
    sync_folder(folder)
}

/// A file of a generation and its line of checksums, which must be among the `written` ones.
fn verified(folder: &Path, file: &str, written: &str) -> Result<(Vec<u8>, String), RunError> {
    let path = folder.join(file);
    let bytes = read_file(&path)?;
    let line = checksum_line(file, &bytes);
    let known = written.lines().find(|known| known.ends_with(&format!("  {file}")));
    let expected = match known {
        Some(known) if known == line.trim_end() => return Ok((bytes, line)),
        Some(known) => format!("a file with the checksum {}", &known[..known.find(' ').unwrap_or(0)]),
        None => format!("a checksum of {file} in {CHECKSUMS_FILE}"),
    };
    Err(RunError::Damaged {
        expected,
        got: match known {
            Some(_) => format!("{} bytes with the checksum {}", bytes.len(), &line[..32]),
            None => "none".to_string(),
        },
        way_out: WAY_OUT,
        path: if known.is_some() {
            path
        } else {
            folder.join(CHECKSUMS_FILE)
        },
    })
}

/// One line as `md5sum` writes it, so that `md5sum -c checksums.md5` verifies a checkpoint too.
fn checksum_line(file: &str, bytes: &[u8]) -> String {
    format!("{}  {file}\n", seal::digest(bytes))
}

fn read_file(path: &Path) -> Result<Vec<u8>, RunError> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => RunError::Damaged {
            expected: "a whole checkpoint".to_string(),
            got: "one without this file".to_string(),
            way_out: WAY_OUT,
            path: path.to_path_buf(),
        },
        _ => RunError::Io {
            doing: "read the checkpoint",
            source,
            path: path.to_path_buf(),
        },
    })
}

fn parse_header(bytes: &[u8], path: &Path) -> Result<Header, RunError> {
    let damaged = |got: String| RunError::Damaged {
        expected: "a checkpoint's progress as JSON".to_string(),
        got,
        way_out: WAY_OUT,
        path: path.to_path_buf(),
    };
    let value: Value = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    let format = value.get("format").and_then(Value::as_u64).unwrap_or(FORMAT);
    if format > FORMAT {
        return Err(RunError::Newer {
            known: FORMAT,
            got: format,
            path: path.to_path_buf(),
        });
    }
    let mut header: Header = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
    header
        .restore_exact()
        .ok_or_else(|| damaged("bits of a number that is not there".to_string()))?;
    Ok(header)
}

impl View for &Array {
    fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::I64(_) => Dtype::I64,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        match &self.values {
            Values::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::I64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    fn data_len(&self) -> usize {
        match &self.values {
            Values::F32(values) => values.len() * 4,
            Values::I64(values) => values.len() * 8,
        }
    }
}

fn safetensors_bytes(arrays: &BTreeMap<String, Array>, path: &Path) -> Result<Vec<u8>, RunError> {
    for (name, array) in arrays {
        let got = array.values.len();
        if array.shape.iter().product::<usize>() != got {
            return Err(RunError::Array {
                name: name.clone(),
                shape: array.shape.clone(),
                got,
            });
        }
    }
    // What PyTorch's own readers look for; one entry, because a HashMap's order is not the same twice.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize(arrays, Some(metadata)).map_err(|error| unwritable(error.to_string(), path))
}

fn unwritable(got: String, path: &Path) -> RunError {
    RunError::Io {
        doing: "encode the checkpoint",
        source: io::Error::other(got),
        path: path.to_path_buf(),
    }
}

fn parse_arrays(bytes: &[u8], path: &Path) -> Result<BTreeMap<String, Array>, RunError> {
    let damaged = |got: String| RunError::Damaged {
        expected: "safetensors of f32 and i64 values".to_string(),
        got,
        way_out: WAY_OUT,
        path: path.to_path_buf(),
    };
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| damaged(error.to_string()))?;
    let mut arrays = BTreeMap::new();
    for (name, view) in tensors.iter() {
        let values = match view.dtype() {
            Dtype::F32 => Values::F32(
                view.data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&bytes| f32::from_le_bytes(bytes))
                    .collect(),
            ),
            Dtype::I64 => Values::I64(
                view.data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&bytes| i64::from_le_bytes(bytes))
                    .collect(),
            ),
            other => return Err(damaged(format!("{other} values in {name:?}"))),
        };
        arrays.insert(
            name.to_string(),
            Array {
                shape: view.shape().to_vec(),
                values,
            },
        );
    }
    Ok(arrays)
}
