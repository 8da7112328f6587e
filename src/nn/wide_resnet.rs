//! Wide residual networks (Zagoruyko and Komodakis, 2016), as TRADES and MART use them.

use burn::tensor::Tensor;

use super::{
    Mode,
    layers::{BatchNorm, Builder, Convolution, Linear, Visitor, global_average, relu},
};
use crate::shapes::{Images, Logits};

#[derive(Debug, Clone)]
struct Block {
    norms: [BatchNorm; 2],
    convolutions: [Convolution; 2],
    /// A 1×1 convolution where the width changes.
    shortcut: Option<Convolution>,
}

impl Block {
    fn new(inputs: usize, outputs: usize, stride: usize, build: &mut Builder) -> Self {
        Self {
            norms: [build.batch_norm(inputs), build.batch_norm(outputs)],
            convolutions: [
                build.convolution_he([inputs, outputs], 3, stride, 1),
                build.convolution_he([outputs, outputs], 3, 1, 1),
            ],
            shortcut: (inputs != outputs).then(|| build.convolution_he([inputs, outputs], 1, stride, 0)),
        }
    }

    fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        let activated = relu(self.norms[0].forward(x.clone(), mode));
        // The convolution on the shortcut reads the activated input.
        let shortcut = match &self.shortcut {
            Some(convolution) => convolution.forward(activated.clone()),
            None => x,
        };
        let y = relu(self.norms[1].forward(self.convolutions[0].forward(activated), mode));
        shortcut + self.convolutions[1].forward(y)
    }

    fn visit(&mut self, name: &str, visitor: &mut impl Visitor) {
        for (number, (norm, convolution)) in self.norms.iter_mut().zip(&mut self.convolutions).enumerate() {
            norm.visit(&format!("{name}.bn{}", number + 1), visitor);
            convolution.visit(&format!("{name}.conv{}", number + 1), visitor);
        }
        if let Some(shortcut) = &mut self.shortcut {
            shortcut.visit(&format!("{name}.convShortcut"), visitor);
        }
    }
}

/// A wide residual network of `depth = 6n + 4` layers: three groups of n blocks, 16·width to 64·width wide.
#[derive(Debug, Clone)]
pub(super) struct WideResNet {
    stem: Convolution,
    groups: Vec<Vec<Block>>,
    norm: BatchNorm,
    linear: Linear,
}

impl WideResNet {
    pub fn new(depth: usize, width: usize, channels: usize, classes: usize, build: &mut Builder) -> Self {
        let blocks = (depth - 4) / 6;
        let stem = build.convolution_he([channels, 16], 3, 1, 1);
        let mut inputs = 16;
        let groups = [(16 * width, 1), (32 * width, 2), (64 * width, 2)]
            .into_iter()
            .map(|(outputs, stride)| {
                (0..blocks)
                    .map(|number| {
                        let block = Block::new(inputs, outputs, if number == 0 { stride } else { 1 }, build);
                        inputs = outputs;
                        block
                    })
                    .collect()
            })
            .collect();
        let norm = build.batch_norm(inputs);
        let mut linear = build.linear(inputs, classes);
        linear.bias = linear.bias.zeros_like();
        Self {
            stem,
            groups,
            norm,
            linear,
        }
    }

    pub fn forward(&self, images: Images, mode: Mode) -> Logits {
        let mut x = self.stem.forward(images);
        for block in self.groups.iter().flatten() {
            x = block.forward(x, mode);
        }
        self.linear.forward(global_average(relu(self.norm.forward(x, mode))))
    }

    pub fn visit(&mut self, visitor: &mut impl Visitor) {
        self.stem.visit("conv1", visitor);
        for (group, blocks) in self.groups.iter_mut().enumerate() {
            for (number, block) in blocks.iter_mut().enumerate() {
                block.visit(&format!("block{}.layer.{number}", group + 1), visitor);
            }
        }
        self.norm.visit("bn1", visitor);
        self.linear.visit("fc", visitor);
    }

    /// bn2 follows conv1 in each block; the others follow a sum and stay.
    pub fn fold(&mut self) {
        for block in self.groups.iter_mut().flatten() {
            let [first, _] = &mut block.convolutions;
            first.fold(&mut block.norms[1]);
        }
    }
}
