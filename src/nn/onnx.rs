//! Networks as ONNX, for onnxruntime, browsers and phones.
//!
//! Opset 17, IR version 8. One input `images`, `[N, C, H, W]` with pixels in [0, 1], one output `logits`, `[N, K]`; N is free.
//! Weights have PyTorch's names. The network is the one of evaluations: BatchNorm by running statistics, no dropout.

use std::{collections::HashMap, path::Path};

use super::{Model, StateEntry, StateValues, WeightsError, normalisation};
use crate::{
    compute::graph::{BATCH_NORM_EPSILON, Step, Value},
    protobuf::Message,
    shapes::ImageShape,
};

/// The version of the operators' meaning.
pub const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// What one protobuf message can hold.
const LARGEST: usize = i32::MAX as usize;

const FLOAT: i64 = 1;

// Below, numbers of fields are those of `onnx.proto`.

/// `AttributeProto`: its name, its value, and which kind that is.
fn float(name: &str, value: f32) -> Message {
    Message::new().bytes(1, name).float(2, value).int(20, 1)
}

fn integer(name: &str, value: i64) -> Message {
    Message::new().bytes(1, name).int(3, value).int(20, 2)
}

fn integers(name: &str, values: &[usize]) -> Message {
    let named = Message::new().bytes(1, name);
    values
        .iter()
        .fold(named, |message, value| message.int(8, *value as i64))
        .int(20, 7)
}

/// `ValueInfoProto`: floats, `[N, …]`.
fn value_info(name: &str, sizes: &[usize]) -> Message {
    let examples = Message::new().bytes(2, "N");
    let sizes = sizes.iter().map(|size| Message::new().int(1, *size as i64));
    let shape = Message::new().messages(1, std::iter::once(examples).chain(sizes));
    let tensor = Message::new().int(1, FLOAT).message(2, shape);
    Message::new()
        .bytes(1, name)
        .message(2, Message::new().message(1, tensor))
}

/// `TensorProto`; none for a counter, which no evaluation reads.
fn initializer(entry: StateEntry) -> Option<Message> {
    let StateValues::F32(values) = entry.values else {
        return None;
    };
    let sized = entry
        .shape
        .iter()
        .fold(Message::new(), |message, size| message.int(1, *size as i64));
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Some(sized.int(2, FLOAT).bytes(8, entry.name).bytes(9, bytes))
}

/// The nodes in the making.
struct Nodes<'a> {
    model: &'a Model,
    /// PyTorch's name and shape of the parameter that begins at a place.
    parameters: HashMap<usize, (&'a str, &'a [usize])>,
    nodes: Vec<Message>,
    /// What each value of the network is called.
    names: Vec<String>,
}

impl Nodes<'_> {
    /// Adds a `NodeProto`.
    fn node(&mut self, kind: &str, inputs: Vec<String>, output: String, attributes: Vec<Message>) {
        let read = inputs
            .iter()
            .fold(Message::new(), |message, input| message.bytes(1, input));
        let name = format!("{kind}_{}", self.nodes.len());
        let node = read.bytes(2, output).bytes(3, name).bytes(4, kind);
        self.nodes.push(node.messages(5, attributes));
    }

    fn parameter(&self, place: usize) -> (String, usize) {
        let known = self.parameters.get(&place);
        known.map_or_else(Default::default, |(name, shape)| (name.to_string(), shape.len()))
    }

    fn step(&mut self, step: Step, value: Value) {
        let output = if value == self.model.network.graph().output() {
            "logits".to_string()
        } else {
            format!("value_{value}")
        };
        let read = |nodes: &Self, x: Value| nodes.names[x].clone();
        match step {
            Step::Convolution {
                x,
                weight,
                bias,
                kernel,
                stride,
                padding,
            } => {
                let (name, dimensions) = self.parameter(weight);
                let mut inputs = vec![read(self, x), name];
                inputs.extend(bias.map(|bias| self.parameter(bias).0));
                // A linear layer's weight is a matrix.
                if dimensions == 2 {
                    let flat = format!("flat_{value}");
                    let x = std::mem::replace(&mut inputs[0], flat.clone());
                    self.node("Flatten", vec![x], flat, vec![integer("axis", 1)]);
                    self.node("Gemm", inputs, output.clone(), vec![integer("transB", 1)]);
                } else {
                    let attributes = vec![
                        integers("kernel_shape", &kernel),
                        integers("strides", &[stride; 2]),
                        integers("pads", &[padding; 4]),
                    ];
                    self.node("Conv", inputs, output.clone(), attributes);
                }
            }
            Step::BatchNorm { x, number } => {
                let norm = self.model.network.graph().norms()[number];
                let (weight, _) = self.parameter(norm.weight);
                let (bias, _) = self.parameter(norm.bias);
                let layer = weight.trim_end_matches(".weight").to_string();
                let inputs = vec![
                    read(self, x),
                    weight,
                    bias,
                    format!("{layer}.running_mean"),
                    format!("{layer}.running_var"),
                ];
                let epsilon = vec![float("epsilon", BATCH_NORM_EPSILON as f32)];
                self.node("BatchNormalization", inputs, output.clone(), epsilon);
            }
            Step::Relu { x } => self.node("Relu", vec![read(self, x)], output.clone(), Vec::new()),
            Step::MaxPool { x } => {
                let attributes = vec![integers("kernel_shape", &[2, 2]), integers("strides", &[2, 2])];
                self.node("MaxPool", vec![read(self, x)], output.clone(), attributes);
            }
            Step::GlobalAverage { x } => {
                self.node("GlobalAveragePool", vec![read(self, x)], output.clone(), Vec::new());
            }
            Step::Add { x, y } => {
                let inputs = vec![read(self, x), read(self, y)];
                self.node("Add", inputs, output.clone(), Vec::new());
            }
            // An evaluation drops nothing.
            Step::Dropout { x, .. } => {
                let name = read(self, x);
                self.names.push(name);
                return;
            }
        }
        self.names.push(output);
    }
}

/// The network as the bytes of an `.onnx` file. This is a sync point.
///
/// # Errors
/// When the device failed.
pub fn to_onnx(model: &Model) -> Result<Vec<u8>, crate::compute::DeviceError> {
    let graph = model.network.graph();
    let entries = model.layout().entries().iter();
    let mut nodes = Nodes {
        model,
        parameters: entries
            .map(|entry| (entry.first, (entry.name.as_str(), entry.shape.as_slice())))
            .collect(),
        nodes: Vec::new(),
        names: vec!["images".into()],
    };
    if model.normalisation().is_some() {
        let [mean, std] = normalisation::NAMES.map(String::from);
        nodes.node("Sub", vec!["images".into(), mean], "centred".into(), Vec::new());
        nodes.node("Div", vec!["centred".into(), std], "normalised".into(), Vec::new());
        nodes.names[0] = "normalised".into();
    }
    for (number, step) in graph.steps().iter().enumerate() {
        nodes.step(*step, number + 1);
    }
    let ImageShape {
        channels,
        height,
        width,
    } = model.input();
    // `GraphProto` in a `ModelProto`.
    let network = Message::new()
        .messages(1, nodes.nodes)
        .bytes(2, model.architecture().to_string())
        .messages(5, model.state()?.into_iter().filter_map(initializer))
        .message(11, value_info("images", &[channels, height, width]))
        .message(12, value_info("logits", &[model.classes()]));
    let pixels = match model.normalisation() {
        None => "[0, 1], no normalisation",
        Some(_) => "[0, 1], normalised by the network itself",
    };
    let pixels = Message::new().bytes(1, "pixels").bytes(2, pixels);
    let file = Message::new()
        .int(1, IR_VERSION)
        .bytes(2, "martlet")
        .bytes(3, env!("CARGO_PKG_VERSION"))
        .message(7, network)
        .message(8, Message::new().bytes(1, "").int(2, OPSET))
        .message(14, pixels);
    Ok(file.into_bytes())
}

/// Writes the network as an `.onnx` file, which appears under its name only when it is whole.
///
/// # Errors
/// When the device or the disk failed, or the weights are more than one file can hold (2 GiB).
pub fn save_onnx(model: &Model, path: &Path) -> Result<(), WeightsError> {
    let bytes = 4 * model.parameter_count();
    if bytes > LARGEST {
        return Err(WeightsError::Format {
            expected: "at most 2 GiB of weights, which is what an .onnx file holds",
            reason: format!("{} GiB; write .safetensors", bytes >> 30),
            path: path.to_path_buf(),
        });
    }
    super::weights::write_whole(path, &to_onnx(model)?)
}
