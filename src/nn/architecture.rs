//! Which networks there are, and their names.

use std::{fmt, str::FromStr};

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

/// A name that is no network.
#[derive(Debug, thiserror::Error)]
#[error(
    "unknown network {0:?}; expected small-cnn, dynamic-cnn, cnn8, resnet-18, resnet-50, preact-resnet-18, or wide-resnet-DEPTH-WIDTH with a depth of 6n + 4, such as wide-resnet-34-10"
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
    /// The designs to try when a checkpoint's own is not known.
    pub const COMMON: [Architecture; 9] = [
        Architecture::SmallCnn,
        Architecture::DynamicCnn,
        Architecture::Cnn8,
        Architecture::ResNet18,
        Architecture::ResNet50,
        Architecture::PreActResNet18,
        Architecture::WideResNet { depth: 28, width: 10 },
        Architecture::WideResNet { depth: 34, width: 10 },
        Architecture::WideResNet { depth: 34, width: 8 },
    ];
}
