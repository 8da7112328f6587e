//! Which networks there are, and their names.

use std::{collections::HashMap, fmt, str::FromStr};

use super::{build::Build, layout::Expected, weights::prefixes_of};
use crate::{compute::graph::Step, shapes::ImageShape, wording::meant};

/// A network's design; its weights are a [`super::Model`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// TRADES' four convolutions and three linear layers for MNIST.
    SmallCnn,
    /// The Dynamic repository's two convolutions with BatchNorm and two linear layers for MNIST.
    DynamicCnn,
    /// The eight-layer network of the paper's Figure 1.
    Cnn8,
    /// ResNet-18 for small images.
    ResNet18,
    /// ResNet-50 for small images.
    ResNet50,
    /// ResNet-18 with pre-activation.
    PreActResNet18,
    /// WRN-depth-width.
    WideResNet {
        /// Layers: 6n + 4.
        depth: usize,
        /// The factor on 16, 32 and 64 channels.
        width: usize,
    },
}

/// Names that a slip is held against.
const USUAL: [&str; 7] = [
    "small-cnn",
    "dynamic-cnn",
    "cnn8",
    "resnet-18",
    "resnet-50",
    "preact-resnet-18",
    "wide-resnet-34-10",
];

/// A name that is no network.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown network {name:?}{meant}; expected small-cnn, dynamic-cnn, cnn8, resnet-18, resnet-50, preact-resnet-18, or wide-resnet-DEPTH-WIDTH with a depth of 6n + 4, such as wide-resnet-34-10",
    name = .0,
    meant = meant(.0, USUAL)
)]
pub struct UnknownArchitecture(String);

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Architecture::SmallCnn => f.write_str("small-cnn"),
            Architecture::DynamicCnn => f.write_str("dynamic-cnn"),
            Architecture::Cnn8 => f.write_str("cnn8"),
            Architecture::ResNet18 => f.write_str("resnet-18"),
            Architecture::ResNet50 => f.write_str("resnet-50"),
            Architecture::PreActResNet18 => f.write_str("preact-resnet-18"),
            Architecture::WideResNet { depth, width } => write!(f, "wide-resnet-{depth}-{width}"),
        }
    }
}

impl FromStr for Architecture {
    type Err = UnknownArchitecture;
    fn from_str(name: &str) -> Result<Self, UnknownArchitecture> {
        Ok(match name {
            "small-cnn" => Architecture::SmallCnn,
            "dynamic-cnn" => Architecture::DynamicCnn,
            "cnn8" => Architecture::Cnn8,
            "resnet-18" => Architecture::ResNet18,
            "resnet-50" => Architecture::ResNet50,
            "preact-resnet-18" => Architecture::PreActResNet18,
            _ => {
                let unknown = || UnknownArchitecture(name.to_string());
                let (depth, width) = name
                    .strip_prefix("wide-resnet-")
                    .and_then(|rest| rest.split_once('-'))
                    .ok_or_else(unknown)?;
                let (depth, width): (usize, usize) = (
                    depth.parse().map_err(|_| unknown())?,
                    width.parse().map_err(|_| unknown())?,
                );
                if depth < 10 || (depth - 4) % 6 != 0 || width == 0 || depth > 1_000 || width > 64 {
                    return Err(unknown());
                }
                Architecture::WideResNet { depth, width }
            }
        })
    }
}

impl Architecture {
    /// The names and shapes of this network's state dict, made without its memory; `None` where it cannot take the
    /// images.
    fn layout(self, input: ImageShape, classes: usize) -> Option<Vec<Expected>> {
        let (graph, layout, _) = Build::network(input, None, |build| self.describe(build, classes))?;
        Some(layout.expected(&graph))
    }

    /// About how many bytes a minibatch of MART takes: what every layer of its two passes, natural and adversarial, leaves for the
    /// way back, and the parameters with gradient, momentum and average. `None` where it cannot take the images.
    pub fn training_bytes(self, input: ImageShape, classes: usize, batch: usize) -> Option<u64> {
        let (graph, layout, _) = Build::network(input, None, |build| self.describe(build, classes))?;
        let steps = graph.steps().iter().enumerate();
        // ReLUs, sums and dropouts are part of the layer before them.
        let kept =
            steps.filter(|(_, step)| !matches!(step, Step::Relu { .. } | Step::Add { .. } | Step::Dropout { .. }));
        let values: usize = kept.map(|(number, _)| graph.shape(number + 1).len()).sum();
        let all = 2 * batch * (values + 2 * input.len()) + 4 * layout.parameters();
        Some((all * size_of::<f32>()) as u64)
    }

    /// Whether the network is a plain stack of layers, so that the order of its layers says which is which.
    pub(super) fn is_plain(self) -> bool {
        matches!(
            self,
            Architecture::SmallCnn | Architecture::DynamicCnn | Architecture::Cnn8
        )
    }

    /// The network that a state dict's names and shapes are those of, whatever its images and classes.
    pub fn guess(tensors: &[(String, Vec<usize>)]) -> Option<Architecture> {
        const FIXED: [Architecture; 6] = [
            Architecture::SmallCnn,
            Architecture::DynamicCnn,
            Architecture::Cnn8,
            Architecture::ResNet18,
            Architecture::ResNet50,
            Architecture::PreActResNet18,
        ];
        FIXED
            .into_iter()
            .chain(wide_resnet(tensors))
            .find(|architecture| architecture.fits(tensors))
    }

    fn fits(self, tensors: &[(String, Vec<usize>)]) -> bool {
        // A dimension that two inputs and two numbers of classes leave the same belongs to the network itself.
        let small = ImageShape {
            channels: 1,
            height: 28,
            width: 28,
        };
        let large = ImageShape {
            channels: 3,
            height: 32,
            width: 32,
        };
        let (Some(one), Some(other)) = (self.layout(small, 10), self.layout(large, 7)) else {
            return false;
        };
        let named = tensors.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
        let prefix = prefixes_of(&one, named).0.first().copied().unwrap_or_default();
        let given: HashMap<&str, &[usize]> = tensors
            .iter()
            .filter_map(|(name, shape)| Some((name.strip_prefix(prefix)?, shape.as_slice())))
            .collect();
        one.iter()
            .zip(&other)
            .filter(|(tensor, _)| !tensor.name.ends_with("num_batches_tracked"))
            .all(|(one, other)| {
                given.get(one.name.as_str()).is_some_and(|shape| {
                    shape.len() == one.shape.len()
                        && shape
                            .iter()
                            .zip(one.shape.iter().zip(&other.shape))
                            .all(|(got, (a, b))| got == a || a != b)
                })
            })
    }
}

/// The wide residual network that a state dict has the blocks of.
fn wide_resnet(tensors: &[(String, Vec<usize>)]) -> Option<Architecture> {
    let block = |name: &str| {
        let (before, number) = name.strip_suffix(".conv1.weight")?.rsplit_once("block1.layer.")?;
        // The released code's `sub_block1` is no block of the network.
        (before.is_empty() || before.ends_with('.'))
            .then(|| number.parse::<usize>().ok())
            .flatten()
    };
    let blocks = tensors
        .iter()
        .filter_map(|(name, _)| block(name))
        .max()?
        .saturating_add(1)
        .min(1_000);
    let (_, first) = tensors.iter().find(|(name, _)| block(name) == Some(0))?;
    // The limits of what a name can ask for: a damaged file may say anything.
    format!("wide-resnet-{}-{}", 6 * blocks + 4, first.first()? / 16)
        .parse()
        .ok()
}
