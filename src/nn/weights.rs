//! Weights to and from files: safetensors and PyTorch's own checkpoints, under PyTorch's names.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::Write,
    path::{Path, PathBuf},
};

use burn::tensor::{bf16, f16};
use pytorch_reader::{DType, PytorchReader};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use super::{Architecture, Model, StateEntry, StateValues, WriteState};
use crate::{
    compute::{Device, DeviceError},
    random::Rng,
};

/// What reading a state dict did beside filling the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Tensors of the file that the network does not have, such as the `sub_block1` that released WRN code builds and
    /// never calls.
    pub ignored: Vec<String>,
    /// BatchNorm counters that the file lacks; they do not change what the network computes.
    pub missing_counters: usize,
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.ignored.is_empty() {
            write!(
                f,
                "{} tensors of the file are not part of the network and were ignored: ",
                self.ignored.len()
            )?;
            f.write_str(&self.ignored.iter().take(3).cloned().collect::<Vec<_>>().join(", "))?;
            if self.ignored.len() > 3 {
                f.write_str(", …")?;
            }
        }
        Ok(())
    }
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
    #[error("expected a {expected}, got something else or a damaged one ({reason}): {path}")]
    Format {
        /// What the file's name promises.
        expected: &'static str,
        /// What the parser met.
        reason: String,
        /// The file.
        path: PathBuf,
    },
    /// The file's name says nothing about its format.
    #[error("expected a file that ends in .safetensors, .pt or .pth: {0}")]
    Extension(PathBuf),
    /// The state dict is not that of the network.
    #[error("the weights are not those of {architecture}: {found}{suggestion}")]
    Mismatch {
        /// The network that was to take them.
        architecture: Architecture,
        /// The first tensor that is missing or different.
        found: String,
        /// A network that would fit, where one does.
        suggestion: String,
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

/// A name without the wrappers round it.
fn unwrapped(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = rest;
    }
    name
}

/// Fills `model` from a state dict; it is left as it was where anything does not fit.
pub(super) fn load_state(model: &mut Model, entries: Vec<StateEntry>) -> Result<LoadReport, WeightsError> {
    let mut given: BTreeMap<String, (Vec<usize>, StateValues)> = entries
        .into_iter()
        .map(|entry| (unwrapped(&entry.name).to_string(), (entry.shape, entry.values)))
        .collect();
    let mut report = LoadReport::default();
    let mut taken = BTreeMap::new();
    for expected in expected_tensors(model) {
        let counter = expected.name.ends_with(".num_batches_tracked");
        match given.remove(&expected.name) {
            Some((_, StateValues::I64(values))) if counter => {
                taken.insert(expected.name, StateValues::I64(values));
            }
            Some((_, StateValues::F32(values))) if counter => {
                let values = values.iter().map(|value| *value as i64).collect();
                taken.insert(expected.name, StateValues::I64(values));
            }
            None if counter => report.missing_counters += 1,
            Some((shape, StateValues::F32(values))) if shape == expected.shape => {
                taken.insert(expected.name, StateValues::F32(values));
            }
            Some((shape, _)) => {
                let found = format!(
                    "expected {} of shape {:?}, got {shape:?}",
                    expected.name, expected.shape
                );
                return Err(mismatch(model, found, &given));
            }
            None => {
                let found = format!(
                    "expected a tensor {} of shape {:?}, got none",
                    expected.name, expected.shape
                );
                return Err(mismatch(model, found, &given));
            }
        }
    }
    report.ignored = given.into_keys().collect();
    model.visit(&mut WriteState(&taken));
    Ok(report)
}

struct Expected {
    name: String,
    shape: Vec<usize>,
}

/// The names and shapes of a model's state dict, without reading a value from its device.
fn expected_tensors(model: &Model) -> Vec<Expected> {
    use super::layers::{BatchNorm, Role, Visitor};
    use burn::tensor::Tensor;
    struct List(Vec<Expected>);
    impl Visitor for List {
        fn parameter<const D: usize>(&mut self, name: String, _: Role, tensor: &mut Tensor<D>) {
            self.0.push(Expected {
                name,
                shape: tensor.dims().to_vec(),
            });
        }
        fn statistics(&mut self, name: &str, norm: &mut BatchNorm) {
            let channels = norm.weight.dims().to_vec();
            for (buffer, shape) in [
                ("running_mean", channels.clone()),
                ("running_var", channels),
                ("num_batches_tracked", Vec::new()),
            ] {
                self.0.push(Expected {
                    name: format!("{name}.{buffer}"),
                    shape,
                });
            }
        }
    }
    let mut list = List(Vec::new());
    model.sharing_copy().visit(&mut list);
    list.0
}

fn mismatch(model: &Model, found: String, given: &BTreeMap<String, (Vec<usize>, StateValues)>) -> WeightsError {
    // The tensors that did fit are gone from `given`, but what tells networks apart is what did not.
    let names: Vec<&String> = given.keys().collect();
    let fits = |architecture: &Architecture| {
        *architecture != model.architecture
            && Model::new(
                *architecture,
                model.input,
                model.classes,
                &mut Rng::new(0),
                &Device::cpu(),
            )
            .is_ok_and(|other| {
                let expected = expected_tensors(&other);
                names
                    .iter()
                    .all(|name| expected.iter().any(|tensor| tensor.name == **name))
            })
    };
    let small = Architecture::COMMON
        .into_iter()
        .filter(|a| !matches!(a, Architecture::WideResNet { .. }));
    let suggestion = small
        .into_iter()
        .find(fits)
        .map(|architecture| format!("; --network {architecture} would fit them"));
    WeightsError::Mismatch {
        architecture: model.architecture,
        found,
        suggestion: suggestion.unwrap_or_else(|| "; name their network with --network".into()),
    }
}

/// Reads a state dict from a `.safetensors`, `.pt` or `.pth` file.
///
/// # Errors
/// When the file cannot be read, is damaged, or is neither format.
pub fn read_state(path: &Path) -> Result<Vec<StateEntry>, WeightsError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => read_safetensors(path),
        Some("pt" | "pth" | "tar" | "bin") => read_pytorch(path),
        _ => Err(WeightsError::Extension(path.to_path_buf())),
    }
}

/// Reads weights from a file into a model.
///
/// # Errors
/// As [`read_state`], and where the tensors are not the network's.
pub fn load(path: &Path, model: &mut Model) -> Result<LoadReport, WeightsError> {
    model.load_state(read_state(path)?)
}

fn read_safetensors(path: &Path) -> Result<Vec<StateEntry>, WeightsError> {
    let io = |source| WeightsError::Io {
        doing: "the weights cannot be read",
        source,
        path: path.to_path_buf(),
    };
    let format = |reason: String| WeightsError::Format {
        expected: "safetensors file",
        reason,
        path: path.to_path_buf(),
    };
    let bytes = fs::read(path).map_err(io)?;
    let tensors = SafeTensors::deserialize(&bytes).map_err(|error| format(error.to_string()))?;
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

fn read_pytorch(path: &Path) -> Result<Vec<StateEntry>, WeightsError> {
    let format = |reason: String| WeightsError::Format {
        expected: "PyTorch checkpoint",
        reason,
        path: path.to_path_buf(),
    };
    fs::metadata(path).map_err(|source| WeightsError::Io {
        doing: "the weights cannot be read",
        source,
        path: path.to_path_buf(),
    })?;
    let reader = PytorchReader::new(path).map_err(|error| format(error.to_string()))?;
    let mut entries = Vec::new();
    for (name, tensor) in reader.tensors() {
        let data = tensor.read().map_err(|error| format(error.to_string()))?;
        let values = match tensor.dtype() {
            DType::F32 => StateValues::F32(parse(&data, f32::from_le_bytes)),
            DType::F64 => StateValues::F32(parse(&data, |bytes| f64::from_le_bytes(bytes) as f32)),
            DType::F16 => StateValues::F32(parse(&data, |bytes| f16::from_le_bytes(bytes).to_f32())),
            DType::BF16 => StateValues::F32(parse(&data, |bytes| bf16::from_le_bytes(bytes).to_f32())),
            DType::I64 => StateValues::I64(parse(&data, i64::from_le_bytes)),
            DType::I32 => StateValues::I64(parse(&data, |bytes| i64::from(i32::from_le_bytes(bytes)))),
            _ => StateValues::I64(Vec::new()),
        };
        entries.push(StateEntry {
            name: name.clone(),
            shape: tensor.shape().to_vec(),
            values,
        });
    }
    if entries.is_empty() {
        return Err(format("it holds no tensor".into()));
    }
    Ok(entries)
}

fn parse<const N: usize, T>(bytes: &[u8], one: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (whole, _) = bytes.as_chunks::<N>();
    whole.iter().map(|chunk| one(*chunk)).collect()
}

/// Writes a model's state dict as safetensors, with `metadata` beside it. The file appears whole or not at all.
///
/// # Errors
/// When the device or the disk fails.
pub fn save_safetensors(model: &Model, path: &Path, metadata: &BTreeMap<String, String>) -> Result<(), WeightsError> {
    let io = |source| WeightsError::Io {
        doing: "the weights cannot be written",
        source,
        path: path.to_path_buf(),
    };
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
    let format = |error: safetensors::SafeTensorError| WeightsError::Format {
        expected: "state dict that safetensors can hold",
        reason: error.to_string(),
        path: path.to_path_buf(),
    };
    let mut views = Vec::new();
    for (entry, bytes, dtype) in &state {
        views.push((
            entry.name.as_str(),
            TensorView::new(*dtype, entry.shape.clone(), bytes).map_err(format)?,
        ));
    }
    let metadata = metadata
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(format)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io)?;
    file.write_all(&bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}
