//! Weights to and from files: safetensors and PyTorch's own checkpoints, under PyTorch's names.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
};

use burn::tensor::{bf16, f16};
use pytorch_reader::{DType, PytorchReader};
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};

pub use super::shards::weights_in;
use super::{
    Architecture, Model, Normalisation, NormalisationError, StateEntry, StateValues, beside, foreign,
    layout::Expected,
    mismatch::{self, Found},
    normalisation, shards,
};
use crate::{
    compute::DeviceError,
    files,
    memory::{Budget, OverBudget, Size, VARIABLE},
};

/// What reading a state dict did beside filling the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors of the file that the network does not have, such as the `sub_block1` that released WRN code builds and
    /// never calls, or an optimiser's.
    pub ignored: Vec<String>,
    /// Those of them that may be part of what the file's own model computes, such as a normalisation of its input that could not be read
    /// as one: the logits may differ from those that the file's own program computes.
    pub normalisation: Vec<String>,
    /// The tensors by which the model now normalises its input, as the file's own model does.
    pub normalised_by: Vec<String>,
    /// Whether the file, which is not Martlet's own, holds no normalisation: images go in as they are.
    pub unsaid: bool,
    /// BatchNorm counters that the file lacks; they do not change what the network computes.
    pub missing_counters: usize,
    /// Whether the names in the file are not the network's own, so that tensors were matched by shape and order.
    pub matched_by_order: bool,
    /// Where the file holds the network several times: what stands before the names of each, the one that was taken first.
    pub networks: Vec<String>,
    /// So many of the first in `normalisation` can be one.
    can_normalise: usize,
}

impl LoadReport {
    /// Whether there is anything that the person should read.
    pub fn has_remarks(&self) -> bool {
        self.matched_by_order
            || self.unsaid
            || !self.ignored.is_empty()
            || !self.networks.is_empty()
            || !self.normalised_by.is_empty()
    }

    /// Makes the model normalise its images as a person says that the file's own program does; what the file left unsaid is said then.
    ///
    /// # Errors
    /// Where the file itself holds another normalisation.
    pub fn normalise(&mut self, model: &mut Model, stated: Normalisation) -> Result<(), NormalisationError> {
        match model.normalisation() {
            Some(found) if !self.normalised_by.is_empty() && !found.is_close(&stated) => {
                Err(NormalisationError::Differs {
                    found: found.clone(),
                    tensors: self.normalised_by.join(", "),
                    stated,
                })
            }
            Some(_) if !self.normalised_by.is_empty() => Ok(()),
            _ => {
                self.unsaid = false;
                self.normalisation.drain(..std::mem::take(&mut self.can_normalise));
                model.set_normalisation(stated)
            }
        }
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sentences = Vec::new();
        if self.matched_by_order {
            sentences.push("the file names its tensors differently; they were matched by shape and order".to_string());
        }
        if let Some((taken, others)) = self.networks.split_first() {
            let named = |prefix: &String| match prefix.trim_end_matches('.') {
                "" => "the one without a prefix".to_string(),
                prefix => prefix.to_string(),
            };
            let others: Vec<String> = others.iter().map(named).collect();
            sentences.push(format!(
                "the file holds the network {} times: {} is taken; name another with --weights-key: {}",
                self.networks.len(),
                named(taken),
                others.join(", ")
            ));
        }
        if !self.normalised_by.is_empty() {
            sentences.push(format!(
                "images are normalised by {} of the file, as its own model does",
                few(&self.normalised_by)
            ));
        }
        if !self.ignored.is_empty() {
            let count = self.ignored.len();
            let (tensors, are) = if count == 1 {
                ("tensor", "is")
            } else {
                ("tensors", "are")
            };
            sentences.push(format!(
                "{count} {tensors} of the file {are} not part of the network and ignored: {}",
                few(&self.ignored)
            ));
        }
        if !self.normalisation.is_empty() {
            sentences.push(format!(
                "{} may be part of what the file's own model computes, such as a normalisation of its input: then the figures here are not that model's",
                few(&self.normalisation)
            ));
        }
        if self.unsaid {
            sentences.push(
                "pixels go in as they are, in [0, 1]: where the file's own program normalises them, say so with --normalise MEAN/STD"
                    .into(),
            );
        }
        f.write_str(&sentences.join("; "))
    }
}

/// The first three names.
pub(super) fn few(names: &[String]) -> String {
    let shown = names.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 3 { shown + ", …" } else { shown }
}

/// Why weights could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be opened, read or written.
    #[error("{doing}: {source}: {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's reason.
        source: std::io::Error,
        /// The file.
        path: PathBuf,
    },
    /// The file is no checkpoint, or a damaged one.
    #[error("expected {expected}, got {reason}: {path}")]
    Format {
        /// What the file's first bytes or its name promise.
        expected: &'static str,
        /// What was met, and a way out.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// More memory would be taken than is allowed.
    #[error("{what}: {over}; allow more with --memory, such as --memory 16GiB, or {VARIABLE}: {}", path.display())]
    Memory {
        /// What would take it.
        what: &'static str,
        /// How much, and what is allowed.
        over: OverBudget,
        /// The file.
        path: PathBuf,
    },
    /// The state dict is not that of the network.
    #[error("the weights are not those of {architecture}: {found}{suggestion}{}", .path.as_ref().map(|path| format!(": {}", path.display())).unwrap_or_default())]
    Mismatch {
        /// The network that was to take them.
        architecture: Architecture,
        /// The first tensor that is missing or different.
        found: String,
        /// A network that would fit, where one does.
        suggestion: String,
        /// The file, where they came from one.
        path: Option<PathBuf>,
    },
    /// The device failed while weights were read from it.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// Wrappers that training scripts put round a state dict or its names.
const WRAPPERS: [&str; 8] = [
    "module.",
    "state_dict.",
    "model_state_dict.",
    "model_state.",
    "model.",
    "net.",
    "network.",
    "_orig_mod.",
];

/// Whether a prefix is made of known wrappers alone.
fn is_wrapper(mut prefix: &str) -> bool {
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| prefix.strip_prefix(wrapper)) {
        prefix = rest;
    }
    prefix.is_empty()
}

impl Expected {
    fn is_counter(&self) -> bool {
        self.name.ends_with(".num_batches_tracked")
    }
}

/// What stands before the network's own names in a file, the likeliest first, and how many of these are the whole network.
///
/// Whole networks go before parts of one, and of parts the larger; then prefixes that are known wrappers alone (the averaged copy
/// that some scripts keep beside the model is none), then shorter ones, then by the alphabet: the same file always gives the same.
pub(super) fn prefixes_of<'a>(
    expected: &[Expected],
    tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
) -> (Vec<&'a str>, usize) {
    let known: HashMap<&str, &[usize]> = expected
        .iter()
        .map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
        .collect();
    let needed = expected.iter().filter(|tensor| !tensor.is_counter()).count();
    // By prefix: tensors found by name, and those of them whose shape is right.
    let mut found: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for (name, shape) in tensors.filter(|(name, _)| !name.ends_with(".num_batches_tracked")) {
        let starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
        for start in starts {
            if let Some(expected) = known.get(&name[start..]) {
                let [named, fitting] = found.entry(&name[..start]).or_default();
                *named += 1;
                *fitting += usize::from(*expected == shape);
            }
        }
    }
    let mut order: Vec<(&str, [usize; 2])> = found.into_iter().collect();
    order.sort_by_key(|(prefix, [named, fitting])| {
        let largest = std::cmp::Reverse((*fitting == needed, *named));
        (largest, !is_wrapper(prefix), prefix.len(), *prefix)
    });
    let whole = order.iter().take_while(|(_, [_, fitting])| *fitting == needed).count();
    (order.into_iter().map(|(prefix, _)| prefix).collect(), whole)
}

/// The classes that weights of a network answer with, by the rows of its last layer, where they can be told. `expected` are the
/// tensors of that network with any number of classes.
pub(super) fn classes_of(expected: &[Expected], entries: &[StateEntry]) -> Option<usize> {
    let shapes = entries
        .iter()
        .map(|entry| (entry.name.as_str(), entry.shape.as_slice()));
    let (prefixes, _) = prefixes_of(expected, shapes);
    let last = expected.iter().rfind(|tensor| tensor.name.ends_with(".weight"))?;
    let name = format!("{}{}", prefixes.first()?, last.name);
    entries.iter().find(|entry| entry.name == name)?.shape.first().copied()
}

/// Fills `model` from a state dict; it is left as it was where anything does not fit.
pub(super) fn load_state(
    model: &mut Model,
    entries: Vec<StateEntry>,
    key: Option<&str>,
) -> Result<LoadReport, WeightsError> {
    let expected = model.expected_tensors();
    let shapes: Vec<(String, Vec<usize>)> = entries
        .iter()
        .map(|entry| (entry.name.clone(), entry.shape.clone()))
        .collect();
    let mismatch = |found: Found| WeightsError::Mismatch {
        architecture: model.architecture,
        suggestion: mismatch::way_out(model, &shapes, &found),
        found: found.to_string(),
        path: None,
    };

    let named = shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
    let (prefixes, whole) = prefixes_of(&expected, named);
    let prefix = match key {
        None => prefixes.first().copied().unwrap_or_default(),
        Some(key) => {
            let asked = |prefix: &&&str| prefix.trim_end_matches('.') == key.trim_end_matches('.');
            let within = |prefix: &&&str| prefix.split('.').any(|part| part == key);
            let found = prefixes.iter().find(asked).or_else(|| prefixes.iter().find(within));
            *found.ok_or_else(|| {
                let known: Vec<&str> = prefixes[..whole]
                    .iter()
                    .map(|prefix| prefix.trim_end_matches('.'))
                    .collect();
                mismatch(Found::Key(format!(
                    "expected a network under {key:?}, got those under {known:?}"
                )))
            })?
        }
    };
    let mut report = LoadReport::default();
    if whole > 1 {
        let others = prefixes[..whole].iter().filter(|other| **other != prefix);
        report.networks = std::iter::once(&prefix)
            .chain(others)
            .map(|prefix| prefix.to_string())
            .collect();
    }
    // What lies elsewhere in the file never takes the place of a tensor of the network.
    let mut elsewhere: BTreeMap<String, StateEntry> = BTreeMap::new();
    let mut given: BTreeMap<String, StateEntry> = BTreeMap::new();
    for entry in entries {
        match entry.name.strip_prefix(prefix) {
            Some(name) => drop(given.insert(name.to_string(), entry)),
            None => drop(elsewhere.insert(entry.name.clone(), entry)),
        }
    }
    // A copy of the same values, as some programs keep one for their attacker, is no other network.
    let differs = |other: &String| {
        let tensors = expected.iter().filter(|tensor| !tensor.is_counter());
        tensors.into_iter().any(|tensor| {
            let full = format!("{other}{}", tensor.name);
            let own = given.get(&tensor.name);
            let theirs = elsewhere
                .get(&full)
                .or_else(|| given.get(full.strip_prefix(prefix).unwrap_or(&full)));
            theirs.map(|entry| &entry.values) != own.map(|entry| &entry.values)
        })
    };
    let copies: Vec<String> = report
        .networks
        .iter()
        .skip(1)
        .filter(|other| !other.is_empty())
        .cloned()
        .collect();
    let (others, _): (Vec<String>, Vec<String>) = report.networks.drain(..).skip(1).partition(differs);
    if !others.is_empty() {
        report.networks = std::iter::once(prefix.to_string()).chain(others).collect();
    }
    if model.architecture.is_plain()
        && expected
            .iter()
            .any(|tensor| !tensor.is_counter() && !given.contains_key(&tensor.name))
        && let Some(renamed) = match_by_order(&expected, &given)
    {
        given = renamed;
        report.matched_by_order = true;
    }

    let mut taken = BTreeMap::new();
    for Expected { name, shape, .. } in &expected {
        let counter = name.ends_with(".num_batches_tracked");
        match given.remove(name).map(|entry| (entry.shape, entry.values)) {
            Some((_, StateValues::I64(values))) if counter => {
                taken.insert(name.clone(), StateValues::I64(values));
            }
            Some((_, StateValues::F32(values))) if counter => {
                let values = values.iter().map(|value| *value as i64).collect();
                taken.insert(name.clone(), StateValues::I64(values));
            }
            None if counter => report.missing_counters += 1,
            Some((got, StateValues::F32(values))) if got == *shape => {
                taken.insert(name.clone(), StateValues::F32(values));
            }
            Some((got, StateValues::F32(_))) => {
                let (name, expected) = (name.clone(), shape.clone());
                return Err(mismatch(Found::Shape { name, expected, got }));
            }
            Some((_, StateValues::I64(_))) => return Err(mismatch(Found::Integers(name.clone()))),
            None => return Err(mismatch(Found::Missing(name.clone(), shape.clone()))),
        }
    }

    // More blocks than the network has mean another network, although all that it needs is there.
    let modules: HashSet<&str> = expected
        .iter()
        .filter_map(|tensor| tensor.name.split('.').next())
        .collect();
    if let Some(more) = given
        .keys()
        .find(|name| name.split('.').next().is_some_and(|module| modules.contains(module)))
    {
        return Err(mismatch(Found::Extra(more.clone())));
    }
    // Other copies of the network are told as such, or are the same, with all that lies in their own modules.
    let copies: Vec<&str> = copies.iter().map(|copy| beside::own_root(copy, prefix)).collect();
    elsewhere.retain(|name, _| !copies.iter().any(|copy| name.starts_with(copy)));
    elsewhere.extend(given.into_values().map(|entry| (entry.name.clone(), entry)));
    let search = normalisation::Search::among(&elsewhere, model.input.channels, prefix);
    elsewhere.retain(|name, _| !search.used.contains(name));
    (report.normalisation, report.can_normalise) = beside::doubtful(&elsewhere, &expected, model.input.channels);
    report.ignored = elsewhere.into_keys().collect();
    report.unsaid = search.used.is_empty();
    report.normalised_by = search.used.into_iter().filter(|_| search.found.is_some()).collect();
    model.normalisation = search.found.map(std::sync::Arc::new);
    model.unsaid = false;
    model.write_state(&taken);
    Ok(report)
}

/// A name with its numbers as numbers, so that 10 comes after 9.
fn natural_order(name: &str) -> Vec<(String, u64)> {
    let mut parts = vec![(String::new(), 0u64)];
    let mut in_number = false;
    for character in name.chars() {
        match (character.to_digit(10), parts.last_mut()) {
            (Some(digit), Some((_, number))) => {
                *number = number.saturating_mul(10).saturating_add(u64::from(digit));
                in_number = true;
            }
            (None, Some((text, _))) if !in_number => text.push(character),
            _ => {
                parts.push((character.to_string(), 0));
                in_number = false;
            }
        }
    }
    parts
}

/// The modules of a state dict by what they hold (leaf names and shapes), each list in the order of `sort`.
fn modules<'a>(
    tensors: impl Iterator<Item = (&'a str, &'a [usize])>,
) -> BTreeMap<Vec<(&'a str, &'a [usize])>, Vec<&'a str>> {
    let mut order = Vec::new();
    let mut leaves: HashMap<&str, Vec<(&str, &[usize])>> = HashMap::new();
    for (name, shape) in tensors.filter(|(name, _)| !name.ends_with("num_batches_tracked")) {
        let (module, leaf) = name.rsplit_once('.').unwrap_or(("", name));
        let held = leaves.entry(module).or_default();
        if held.is_empty() {
            order.push(module);
        }
        held.push((leaf, shape));
    }
    let mut kinds: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for module in order {
        let mut held = leaves.remove(module).unwrap_or_default();
        held.sort();
        kinds.entry(held).or_default().push(module);
    }
    kinds
}

/// The network's names for a state dict of a plain stack of layers under other names: modules that hold the same
/// shapes are taken in their order. `None` where the two do not hold the same modules.
///
/// The two MNIST candidates and the eight-layer network were never released, so that their files carry any name.
fn match_by_order(expected: &[Expected], given: &BTreeMap<String, StateEntry>) -> Option<BTreeMap<String, StateEntry>> {
    let ours = modules(
        expected
            .iter()
            .map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())),
    );
    let theirs = modules(
        given
            .values()
            .map(|entry| (entry.name.as_str(), entry.shape.as_slice())),
    );
    let mut names: HashMap<&str, &str> = HashMap::new();
    for (kind, modules) in &ours {
        let mut found = theirs.get(kind)?.clone();
        if found.len() != modules.len() {
            return None;
        }
        found.sort_by_key(|module| natural_order(module));
        // Modules of one shape are told apart by the numbers in their names, or not at all: other names have no order.
        let words = |module: &str| {
            natural_order(module)
                .into_iter()
                .map(|(text, _)| text)
                .collect::<Vec<_>>()
        };
        if found.iter().any(|module| words(module) != words(found[0])) {
            return None;
        }
        names.extend(found.into_iter().zip(modules.iter().copied()));
    }
    if theirs.len() != ours.len() {
        return None;
    }
    let rename = |entry: &StateEntry| {
        let (module, leaf) = entry.name.rsplit_once('.').unwrap_or(("", &entry.name));
        names
            .get(module)
            .map_or_else(|| entry.name.clone(), |module| format!("{module}.{leaf}"))
    };
    Some(given.values().map(|entry| (rename(entry), entry.clone())).collect())
}

/// The formats that [`read_state`] tells apart by their first bytes.
enum FileFormat {
    Safetensors,
    PyTorch,
}

/// A safetensors file starts with a length and a JSON object, PyTorch's with a zip's, tar's or pickle's mark.
fn format_of(path: &Path, bytes: &[u8]) -> FileFormat {
    let by_name = path.extension().is_some_and(|extension| extension == "safetensors");
    if bytes.get(8) == Some(&b'{') || (by_name && !bytes.starts_with(b"PK")) {
        FileFormat::Safetensors
    } else {
        FileFormat::PyTorch
    }
}

/// Reads a state dict from a safetensors file or a PyTorch checkpoint, whatever the file's name ends in. Where the file is one of several
/// that hold the weights together, an index of such, or a folder of Hugging Face's layout ([`weights_in`]), all that belong to it are read.
///
/// # Errors
/// When the file cannot be read, is damaged, is neither format, or would take more memory than is allowed.
pub fn read_state(path: &Path) -> Result<Vec<StateEntry>, WeightsError> {
    read_state_within(path, &Budget::default())
}

/// As [`read_state`], within a budget of memory.
///
/// # Errors
/// As [`read_state`].
pub fn read_state_within(path: &Path, budget: &Budget) -> Result<Vec<StateEntry>, WeightsError> {
    if let Some(parts) = shards::of(path)? {
        let mut entries = Vec::new();
        for part in parts {
            entries.extend(read_file(&part, budget)?);
        }
        return Ok(entries);
    }
    read_file(path, budget)
}

fn read_file(path: &Path, budget: &Budget) -> Result<Vec<StateEntry>, WeightsError> {
    let io = |source| WeightsError::Io {
        doing: "the weights cannot be read",
        source,
        path: path.to_path_buf(),
    };
    let mut file = fs::File::open(path).map_err(io)?;
    let mut head = Vec::new();
    (&mut file).take(16).read_to_end(&mut head).map_err(io)?;
    // A safetensors file may begin like any other: its first bytes are a number.
    if head.get(8) != Some(&b'{')
        && let Some(what) = foreign::named(path).map_err(io)?
    {
        return Err(neither(path, what));
    }
    match format_of(path, &head) {
        FileFormat::Safetensors => {
            let long = file.metadata().map_or(0, |file| file.len());
            // The file, and its tensors beside it in single precision, which may be twice as wide.
            budget
                .take(long.saturating_mul(3))
                .map_err(|error| over(path, "its tensors", error))?;
            let mut bytes = head;
            let rest = Budget::of(Size(long)).read_into(&mut file, &mut bytes);
            rest.map_err(|error| over(path, "the file", error))?.map_err(io)?;
            read_safetensors(path, &bytes)
        }
        FileFormat::PyTorch => read_pytorch(path, budget),
    }
}

fn neither(path: &Path, reason: String) -> WeightsError {
    WeightsError::Format {
        expected: "a safetensors file or a PyTorch checkpoint",
        reason,
        path: path.to_path_buf(),
    }
}

fn over(path: &Path, what: &'static str, over: OverBudget) -> WeightsError {
    WeightsError::Memory {
        what,
        over,
        path: path.to_path_buf(),
    }
}

/// Reads weights from a file into a model.
///
/// # Errors
/// As [`read_state`], and where the tensors are not the network's; the model is then unchanged.
pub fn load(path: &Path, model: &mut Model) -> Result<LoadReport, WeightsError> {
    load_entries(path, read_state(path)?, model, None)
}

/// Puts the tensors of the file at `path` into a model; `key` names one of several networks in it by what stands before its names.
///
/// # Errors
/// Where the tensors are not the network's; the model is then unchanged.
pub fn load_entries(
    path: &Path,
    entries: Vec<StateEntry>,
    model: &mut Model,
    key: Option<&str>,
) -> Result<LoadReport, WeightsError> {
    let mut report = load_state(model, entries, key).map_err(|error| match error {
        WeightsError::Mismatch {
            architecture,
            found,
            suggestion,
            ..
        } => WeightsError::Mismatch {
            architecture,
            found,
            suggestion,
            path: Some(path.to_path_buf()),
        },
        other => other,
    })?;
    report.unsaid &= !is_own(path);
    model.unsaid = report.unsaid;
    Ok(report)
}

/// Whether Martlet wrote the file, and knew what is done to images: by its metadata, or by the run that it lies in.
fn is_own(path: &Path) -> bool {
    let Some(about) = metadata_of(&weights_in(path).unwrap_or_else(|| path.to_path_buf())) else {
        return false;
    };
    let in_run = || {
        path.ancestors()
            .skip(1)
            .take(3)
            .any(|folder| folder.join("run.json").is_file())
    };
    !about.contains_key(UNSAID) && (about.contains_key(WRITER) || in_run())
}

/// The metadata of a safetensors file, of its header alone; none where it has none.
fn metadata_of(path: &Path) -> Option<serde_json::Map<String, serde_json::Value>> {
    const LONGEST: u64 = 1 << 24;
    let mut file = fs::File::open(path).ok()?;
    let mut length = [0; 8];
    file.read_exact(&mut length).ok()?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length).min(LONGEST))
        .read_to_end(&mut header)
        .ok()?;
    let header: serde_json::Value = serde_json::from_slice(&header).ok()?;
    header.get("__metadata__")?.as_object().cloned()
}

/// Reads a state dict from the bytes of a safetensors file; `path` is what an error calls it.
///
/// # Errors
/// When the bytes are damaged.
pub fn read_safetensors(path: &Path, bytes: &[u8]) -> Result<Vec<StateEntry>, WeightsError> {
    let tensors = SafeTensors::deserialize(bytes).map_err(|error| WeightsError::Format {
        expected: "a safetensors file",
        reason: match error {
            SafeTensorError::HeaderTooSmall
            | SafeTensorError::InvalidHeaderLength
            | SafeTensorError::MetadataIncompleteBuffer => {
                format!(
                    "one whose length does not fit its header ({} bytes: cut short?); copy it again",
                    bytes.len()
                )
            }
            other => format!("something else or a damaged one ({other})"),
        },
        path: path.to_path_buf(),
    })?;
    let mut entries = Vec::new();
    for (name, view) in tensors.iter() {
        let data = view.data();
        let values = match view.dtype() {
            Dtype::F32 => StateValues::F32(parse(data, f32::from_le_bytes)),
            Dtype::F64 => StateValues::F32(parse(data, |bytes| f64::from_le_bytes(bytes) as f32)),
            Dtype::F16 => StateValues::F32(parse(data, |bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => StateValues::F32(parse(data, |bytes| bf16::from_le_bytes(bytes).to_f32())),
            Dtype::I64 => StateValues::I64(parse(data, i64::from_le_bytes)),
            Dtype::I32 => StateValues::I64(parse(data, |bytes| i64::from(i32::from_le_bytes(bytes)))),
            // Masks and other oddities belong to no network of ours; they are named as ignored.
            _ => StateValues::I64(Vec::new()),
        };
        entries.push(StateEntry {
            name: name.to_string(),
            shape: view.shape().to_vec(),
            values,
        });
    }
    Ok(entries)
}

fn read_pytorch(path: &Path, budget: &Budget) -> Result<Vec<StateEntry>, WeightsError> {
    let format = |reason| neither(path, reason);
    let damaged = |error: &dyn fmt::Display| format(format!("something else or a damaged one ({error})"));
    let reader = PytorchReader::new(path).map_err(|error| match foreign::refused(&error, path) {
        Some(what) => format(what),
        None => damaged(&error),
    })?;
    // A tensor may be a view of one number that is a billion times as large: what the file's length says is no bound.
    let bytes = reader.tensors().values().fold(0_u64, |sum, tensor| {
        let values = tensor.num_elements() as u64;
        sum.saturating_add(tensor.byte_len() as u64)
            .saturating_add(values.saturating_mul(8))
    });
    budget.take(bytes).map_err(|error| over(path, "its tensors", error))?;
    let mut entries = Vec::new();
    // By name: the reader keeps them in no order.
    let tensors: BTreeMap<_, _> = reader.tensors().iter().collect();
    for (name, tensor) in tensors {
        let data = tensor.read().map_err(|error| damaged(&error))?;
        let values = match tensor.dtype() {
            // The reader hands out bytes in the machine's own order.
            DType::F32 => StateValues::F32(parse(&data, f32::from_ne_bytes)),
            DType::F64 => StateValues::F32(parse(&data, |bytes| f64::from_ne_bytes(bytes) as f32)),
            DType::F16 => StateValues::F32(parse(&data, |bytes| f16::from_ne_bytes(bytes).to_f32())),
            DType::BF16 => StateValues::F32(parse(&data, |bytes| bf16::from_ne_bytes(bytes).to_f32())),
            DType::I64 => StateValues::I64(parse(&data, i64::from_ne_bytes)),
            DType::I32 => StateValues::I64(parse(&data, |bytes| i64::from(i32::from_ne_bytes(bytes)))),
            _ => StateValues::I64(Vec::new()),
        };
        entries.push(StateEntry {
            name: name.clone(),
            shape: tensor.shape().to_vec(),
            values,
        });
    }
    if entries.is_empty() {
        return Err(format("one that holds no tensor; save the model's state_dict()".into()));
    }
    Ok(entries)
}

fn parse<const N: usize, T>(bytes: &[u8], one: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (whole, _) = bytes.as_chunks::<N>();
    whole.iter().map(|chunk| one(*chunk)).collect()
}

/// The name in a safetensors file's metadata that says that Martlet wrote it, of which version.
const WRITER: &str = "martlet";

/// The name in the metadata of a file whose images' normalisation nobody said.
const UNSAID: &str = "normalisation-unsaid";

/// Writes a model's state dict as safetensors, with `metadata` and Martlet's version beside it. The file appears whole or not at all.
///
/// # Errors
/// When the device or the disk fails.
pub fn save_safetensors(model: &Model, path: &Path, metadata: &BTreeMap<String, String>) -> Result<(), WeightsError> {
    let state: Vec<(StateEntry, Vec<u8>, Dtype)> = model
        .state()?
        .into_iter()
        .map(|entry| {
            let (bytes, dtype) = match &entry.values {
                StateValues::F32(values) => (
                    values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                    Dtype::F32,
                ),
                StateValues::I64(values) => (
                    values.iter().flat_map(|value| value.to_le_bytes()).collect(),
                    Dtype::I64,
                ),
            };
            (entry, bytes, dtype)
        })
        .collect();
    let format = |error: SafeTensorError| WeightsError::Format {
        expected: "a state dict that safetensors can hold",
        reason: format!("one that it cannot ({error})"),
        path: path.to_path_buf(),
    };
    let mut views = Vec::new();
    for (entry, bytes, dtype) in &state {
        views.push((
            entry.name.as_str(),
            TensorView::new(*dtype, entry.shape.clone(), bytes).map_err(format)?,
        ));
    }
    let mut metadata: HashMap<String, String> = metadata.clone().into_iter().collect();
    metadata.insert(WRITER.into(), env!("CARGO_PKG_VERSION").into());
    if model.unsaid {
        metadata.insert(UNSAID.into(), "true".into());
    }
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(format)?;
    write_whole(path, &in_order(bytes))
}

/// The same file with its header's fields in the order of their names: safetensors takes its metadata from a hash map, whose order
/// is another each time.
fn in_order(bytes: Vec<u8>) -> Vec<u8> {
    let ordered = || {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (header, tensors) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let fields: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
        let fields: BTreeMap<String, serde_json::Value> = fields
            .into_iter()
            .map(|(name, value)| match value {
                serde_json::Value::Object(inner) => {
                    let inner: BTreeMap<String, serde_json::Value> = inner.into_iter().collect();
                    (name, serde_json::json!(inner))
                }
                other => (name, other),
            })
            .collect();
        let mut header = serde_json::to_vec(&fields).ok()?;
        // Tensors begin at a multiple of eight.
        header.resize(header.len().next_multiple_of(8), b' ');
        let length = (header.len() as u64).to_le_bytes();
        Some([&length[..], &header, tensors].concat())
    };
    ordered().unwrap_or(bytes)
}

/// Writes a file that appears under its name only when the disk has all of it.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    files::write_whole(path, bytes).map_err(|source| WeightsError::Io {
        doing: "the weights cannot be written",
        source,
        path: path.to_path_buf(),
    })
}
