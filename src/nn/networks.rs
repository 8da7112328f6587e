//! The networks, each a page: its steps under the names of the code that its weights come from.

use super::{
    Architecture,
    build::{Build, Kernel, Start},
};
use crate::compute::graph::Value;

/// A 3×3 kernel that keeps the size.
const THREE: Kernel = Kernel {
    side: 3,
    stride: 1,
    padding: 1,
};

impl Architecture {
    /// Describes the network for `classes`; `None` where its pools use the images up.
    pub(super) fn describe(self, build: &mut Build, classes: usize) -> Option<Value> {
        match self {
            Architecture::SmallCnn => small_cnn(build, classes),
            Architecture::DynamicCnn => stack(build, &[32, 64], &[1, 2], (128, false), classes),
            Architecture::Cnn8 => {
                let widths = [64, 64, 128, 128, 196, 196];
                stack(build, &widths, &[2, 4, 6], (256, true), classes)
            }
            Architecture::ResNet18 => Some(resnet(build, Block::Basic, [2; 4], classes)),
            Architecture::ResNet50 => Some(resnet(build, Block::Bottleneck, [3, 4, 6, 3], classes)),
            Architecture::PreActResNet18 => Some(resnet(build, Block::PreActivation, [2; 4], classes)),
            Architecture::WideResNet { depth, width } => Some(wide_resnet(build, (depth - 4) / 6, width, classes)),
        }
    }

    /// The smallest side of an image that the network's pools leave something of.
    pub(super) fn smallest(self) -> usize {
        match self {
            Architecture::SmallCnn => 16,
            Architecture::DynamicCnn => 4,
            Architecture::Cnn8 => 8,
            _ => 1,
        }
    }
}

/// TRADES' SmallCNN: conv 32, 32, pool, conv 64, 64, pool, fc 200, dropout, fc 200, fc K; 3×3 without padding, so that each
/// convolution takes two pixels off.
fn small_cnn(build: &mut Build, classes: usize) -> Option<Value> {
    let input = build.shape(0);
    let smallest = Architecture::SmallCnn.smallest();
    if input.height < smallest || input.width < smallest {
        return None;
    }
    let kernel = Kernel { padding: 0, ..THREE };
    let mut x = 0;
    for (number, outputs) in [(1, 32), (2, 32), (3, 64), (4, 64)] {
        let name = format!("feature_extractor.conv{number}");
        x = build.convolution(&name, x, outputs, kernel, true, Start::Kaiming);
        x = build.graph.relu(x);
        if number % 2 == 0 {
            x = build.graph.max_pool(x);
        }
    }
    x = build.linear("classifier.fc1", x, 200, Start::Default);
    x = build.graph.relu(x);
    x = build.graph.dropout(x);
    x = build.linear("classifier.fc2", x, 200, Start::Default);
    x = build.graph.relu(x);
    // The original starts its last layer at zero: every class has the same logit at first.
    Some(build.linear("classifier.fc3", x, classes, Start::Zero))
}

/// A stack of 3×3 convolutions (padding 1), each with BatchNorm and ReLU, pooled after those that `pools` counts, with two
/// linear layers. The Dynamic repository's MNIST network: conv 32, pool, conv 64, pool, fc 128, fc K. The eight-layer network of
/// Figure 1: 64, 64, pool, 128, 128, pool, 196, 196, pool, fc 256 with BatchNorm, fc K.
fn stack(
    build: &mut Build,
    widths: &[usize],
    pools: &[usize],
    (hidden, hidden_norm): (usize, bool),
    classes: usize,
) -> Option<Value> {
    let input = build.shape(0);
    if input.height.min(input.width) >> pools.len() == 0 {
        return None;
    }
    let mut x = 0;
    for (number, outputs) in (1..).zip(widths) {
        x = build.convolution(&format!("conv{number}"), x, *outputs, THREE, true, Start::Default);
        x = build.norm_relu(&format!("bn{number}"), x);
        if pools.contains(&number) {
            x = build.graph.max_pool(x);
        }
    }
    x = build.linear("fc1", x, hidden, Start::Default);
    if hidden_norm {
        x = build.batch_norm(&format!("bn{}", widths.len() + 1), x);
    }
    x = build.graph.relu(x);
    Some(build.linear("fc2", x, classes, Start::Default))
}

/// Which residual block a network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    /// Two 3×3 convolutions (He et al., 2016a).
    Basic,
    /// 1×1, 3×3, 1×1, four times as wide at its end.
    Bottleneck,
    /// Two 3×3 convolutions, each after its BatchNorm and ReLU (He et al., 2016b).
    PreActivation,
}

/// A residual network for small images: 3×3 stem, no max-pool, four stages 64 to 512 wide.
fn resnet(build: &mut Build, block: Block, blocks: [usize; 4], classes: usize) -> Value {
    let pre_activation = block == Block::PreActivation;
    let mut x = build.convolution("conv1", 0, 64, THREE, false, Start::Default);
    if !pre_activation {
        x = build.norm_relu("bn1", x);
    }
    for (stage, (width, count)) in [64, 128, 256, 512].into_iter().zip(blocks).enumerate() {
        for number in 0..count {
            let stride = if stage > 0 && number == 0 { 2 } else { 1 };
            let name = format!("layer{}.{number}", stage + 1);
            x = match block {
                Block::PreActivation => pre_activation_block(build, &name, x, width, stride),
                _ => residual_block(build, &name, x, block, width, stride),
            };
        }
    }
    if pre_activation {
        x = build.norm_relu("bn", x);
    }
    x = build.graph.global_average(x);
    build.linear("linear", x, classes, Start::Default)
}

/// A 1×1 convolution where a block changes the shape.
fn shortcut(build: &mut Build, name: &str, x: Value, outputs: usize, stride: usize, start: Start) -> Value {
    let kernel = Kernel {
        side: 1,
        stride,
        padding: 0,
    };
    build.convolution(name, x, outputs, kernel, false, start)
}

fn residual_block(build: &mut Build, name: &str, x: Value, block: Block, width: usize, stride: usize) -> Value {
    let (parts, outputs): (&[(usize, usize, usize)], usize) = if block == Block::Bottleneck {
        (&[(width, 1, 1), (width, 3, stride), (4 * width, 1, 1)], 4 * width)
    } else {
        (&[(width, 3, stride), (width, 3, 1)], width)
    };
    let mut y = x;
    for (number, (outputs, side, stride)) in (1..).zip(parts.iter().copied()) {
        let kernel = Kernel {
            side,
            stride,
            padding: side / 2,
        };
        y = build.convolution(
            &format!("{name}.conv{number}"),
            y,
            outputs,
            kernel,
            false,
            Start::Default,
        );
        y = build.batch_norm(&format!("{name}.bn{number}"), y);
        if number < parts.len() {
            y = build.graph.relu(y);
        }
    }
    let x = if stride != 1 || build.shape(x).channels != outputs {
        let x = shortcut(build, &format!("{name}.shortcut.0"), x, outputs, stride, Start::Default);
        build.batch_norm(&format!("{name}.shortcut.1"), x)
    } else {
        x
    };
    let sum = build.graph.add(y, x);
    build.graph.relu(sum)
}

fn pre_activation_block(build: &mut Build, name: &str, x: Value, width: usize, stride: usize) -> Value {
    let activated = build.norm_relu(&format!("{name}.bn1"), x);
    let strided = Kernel { stride, ..THREE };
    let y = build.convolution(
        &format!("{name}.conv1"),
        activated,
        width,
        strided,
        false,
        Start::Default,
    );
    let y = build.norm_relu(&format!("{name}.bn2"), y);
    let y = build.convolution(&format!("{name}.conv2"), y, width, THREE, false, Start::Default);
    // The shortcut reads the activated input where it is a convolution, the input itself where it is none.
    let x = if stride != 1 || build.shape(x).channels != width {
        shortcut(
            build,
            &format!("{name}.shortcut.0"),
            activated,
            width,
            stride,
            Start::Default,
        )
    } else {
        x
    };
    build.graph.add(y, x)
}

/// A wide residual network (Zagoruyko and Komodakis, 2016) as TRADES and MART use it: three groups of so many blocks, 16·width
/// to 64·width wide.
fn wide_resnet(build: &mut Build, blocks: usize, width: usize, classes: usize) -> Value {
    let mut x = build.convolution("conv1", 0, 16, THREE, false, Start::He);
    for (group, (outputs, stride)) in (1..).zip([(16 * width, 1), (32 * width, 2), (64 * width, 2)]) {
        for number in 0..blocks {
            let stride = if number == 0 { stride } else { 1 };
            x = wide_block(build, &format!("block{group}.layer.{number}"), x, outputs, stride);
        }
    }
    x = build.norm_relu("bn1", x);
    x = build.graph.global_average(x);
    build.linear("fc", x, classes, Start::DefaultWithoutBias)
}

fn wide_block(build: &mut Build, name: &str, x: Value, outputs: usize, stride: usize) -> Value {
    let activated = build.norm_relu(&format!("{name}.bn1"), x);
    let strided = Kernel { stride, ..THREE };
    let y = build.convolution(&format!("{name}.conv1"), activated, outputs, strided, false, Start::He);
    let y = build.norm_relu(&format!("{name}.bn2"), y);
    let y = build.convolution(&format!("{name}.conv2"), y, outputs, THREE, false, Start::He);
    // The convolution on the shortcut reads the activated input.
    let x = if build.shape(x).channels != outputs {
        shortcut(
            build,
            &format!("{name}.convShortcut"),
            activated,
            outputs,
            stride,
            Start::He,
        )
    } else {
        x
    };
    build.graph.add(x, y)
}
