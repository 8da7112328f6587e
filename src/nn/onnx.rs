//! Networks as ONNX, for onnxruntime, browsers and phones.
//!
//! Opset 17, IR version 8. One input `images`, `[N, C, H, W]` with pixels in [0, 1], one output `logits`, `[N, K]`; N is free.
//! Weights have PyTorch's names. The network is the one of evaluations: BatchNorm by running statistics, no dropout.

use std::{collections::HashMap, path::Path};

use prost::Message;

use super::{Model, StateEntry, StateValues, WeightsError};
use crate::{
    compute::graph::{BATCH_NORM_EPSILON, Step, Value},
    shapes::ImageShape,
};

/// The version of the operators' meaning.
pub const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;
/// What one protobuf message can hold.
const LARGEST: usize = i32::MAX as usize;

/// The parts of `onnx.proto` that a classifier needs, under the tags that it gives them.
mod proto {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Model {
        #[prost(int64, tag = "1")]
        pub ir_version: i64,
        #[prost(string, tag = "2")]
        pub producer_name: String,
        #[prost(string, tag = "3")]
        pub producer_version: String,
        #[prost(message, optional, tag = "7")]
        pub graph: Option<Graph>,
        #[prost(message, repeated, tag = "8")]
        pub opset_import: Vec<OperatorSet>,
        #[prost(message, repeated, tag = "14")]
        pub metadata_props: Vec<Property>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct OperatorSet {
        #[prost(string, tag = "1")]
        pub domain: String,
        #[prost(int64, tag = "2")]
        pub version: i64,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Property {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(string, tag = "2")]
        pub value: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Graph {
        #[prost(message, repeated, tag = "1")]
        pub node: Vec<Node>,
        #[prost(string, tag = "2")]
        pub name: String,
        #[prost(message, repeated, tag = "5")]
        pub initializer: Vec<Tensor>,
        #[prost(message, repeated, tag = "11")]
        pub input: Vec<ValueInfo>,
        #[prost(message, repeated, tag = "12")]
        pub output: Vec<ValueInfo>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Node {
        #[prost(string, repeated, tag = "1")]
        pub input: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub output: Vec<String>,
        #[prost(string, tag = "3")]
        pub name: String,
        #[prost(string, tag = "4")]
        pub op_type: String,
        #[prost(message, repeated, tag = "5")]
        pub attribute: Vec<Attribute>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Attribute {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(float, optional, tag = "2")]
        pub f: Option<f32>,
        #[prost(int64, optional, tag = "3")]
        pub i: Option<i64>,
        #[prost(int64, repeated, packed = "false", tag = "8")]
        pub ints: Vec<i64>,
        /// 1 a float, 2 an integer, 7 integers.
        #[prost(int32, tag = "20")]
        pub r#type: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Tensor {
        #[prost(int64, repeated, packed = "false", tag = "1")]
        pub dims: Vec<i64>,
        /// 1: 32-bit floats.
        #[prost(int32, tag = "2")]
        pub data_type: i32,
        #[prost(string, tag = "8")]
        pub name: String,
        /// Little-endian.
        #[prost(bytes = "vec", tag = "9")]
        pub raw_data: Vec<u8>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ValueInfo {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "2")]
        pub r#type: Option<Type>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Type {
        #[prost(message, optional, tag = "1")]
        pub tensor_type: Option<TensorType>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct TensorType {
        #[prost(int32, tag = "1")]
        pub elem_type: i32,
        #[prost(message, optional, tag = "2")]
        pub shape: Option<Shape>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Shape {
        #[prost(message, repeated, tag = "1")]
        pub dim: Vec<Dimension>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Dimension {
        #[prost(int64, optional, tag = "1")]
        pub dim_value: Option<i64>,
        #[prost(string, optional, tag = "2")]
        pub dim_param: Option<String>,
    }
}

const FLOAT: i32 = 1;

fn float(name: &str, value: f32) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        f: Some(value),
        r#type: 1,
        ..Default::default()
    }
}

fn integer(name: &str, value: i64) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        i: Some(value),
        r#type: 2,
        ..Default::default()
    }
}

fn integers(name: &str, values: &[usize]) -> proto::Attribute {
    proto::Attribute {
        name: name.into(),
        ints: values.iter().map(|value| *value as i64).collect(),
        r#type: 7,
        ..Default::default()
    }
}

fn value_info(name: &str, sizes: &[usize]) -> proto::ValueInfo {
    let examples = proto::Dimension {
        dim_param: Some("N".into()),
        dim_value: None,
    };
    let size = |size: &usize| proto::Dimension {
        dim_value: Some(*size as i64),
        dim_param: None,
    };
    proto::ValueInfo {
        name: name.into(),
        r#type: Some(proto::Type {
            tensor_type: Some(proto::TensorType {
                elem_type: FLOAT,
                shape: Some(proto::Shape {
                    dim: std::iter::once(examples).chain(sizes.iter().map(size)).collect(),
                }),
            }),
        }),
    }
}

fn initializer(entry: StateEntry) -> Option<proto::Tensor> {
    let StateValues::F32(values) = entry.values else {
        return None; // counters, which no evaluation reads
    };
    Some(proto::Tensor {
        dims: entry.shape.iter().map(|size| *size as i64).collect(),
        data_type: FLOAT,
        name: entry.name,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
    })
}

/// The nodes in the making.
struct Nodes<'a> {
    model: &'a Model,
    /// PyTorch's name and shape of the parameter that begins at a place.
    parameters: HashMap<usize, (&'a str, &'a [usize])>,
    nodes: Vec<proto::Node>,
    /// What each value of the network is called.
    names: Vec<String>,
}

impl Nodes<'_> {
    fn node(&mut self, kind: &str, inputs: Vec<String>, output: String, attributes: Vec<proto::Attribute>) {
        self.nodes.push(proto::Node {
            name: format!("{kind}_{}", self.nodes.len()),
            op_type: kind.into(),
            input: inputs,
            output: vec![output],
            attribute: attributes,
        });
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
    for (number, step) in graph.steps().iter().enumerate() {
        nodes.step(*step, number + 1);
    }
    let ImageShape {
        channels,
        height,
        width,
    } = model.input();
    let file = proto::Model {
        ir_version: IR_VERSION,
        producer_name: "martlet".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(proto::Graph {
            node: nodes.nodes,
            name: model.architecture().to_string(),
            initializer: model.state()?.into_iter().filter_map(initializer).collect(),
            input: vec![value_info("images", &[channels, height, width])],
            output: vec![value_info("logits", &[model.classes()])],
        }),
        opset_import: vec![proto::OperatorSet {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: vec![proto::Property {
            key: "pixels".into(),
            value: "[0, 1], no normalisation".into(),
        }],
    };
    Ok(file.encode_to_vec())
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
