//! Residual networks for small images: 3×3 stem, no max-pool; post-activation (He et al., 2016a) and pre-activation
//! (He et al., 2016b).

use super::{
    Mode,
    layers::{BatchNorm, Builder, Convolution, Linear, Visitor, global_average, relu},
};
use crate::shapes::{Images, Logits};

use burn::tensor::Tensor;

/// Which residual block a network is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Two 3×3 convolutions.
    Basic,
    /// 1×1, 3×3, 1×1, four times as wide at its end.
    Bottleneck,
    /// Two 3×3 convolutions, each after its BatchNorm and ReLU.
    PreActivation,
}

impl Kind {
    fn expansion(self) -> usize {
        if self == Kind::Bottleneck { 4 } else { 1 }
    }
}

#[derive(Debug, Clone)]
struct Block {
    kind: Kind,
    /// In order, each with the BatchNorm that carries its number.
    parts: Vec<(Convolution, BatchNorm)>,
    /// A 1×1 convolution where shape changes; pre-activation blocks have no BatchNorm on it.
    shortcut: Option<(Convolution, Option<BatchNorm>)>,
}

impl Block {
    fn new(kind: Kind, inputs: usize, width: usize, stride: usize, build: &mut Builder) -> Self {
        let outputs = width * kind.expansion();
        let shapes: &[([usize; 2], usize, usize)] = match kind {
            Kind::Basic | Kind::PreActivation => &[([inputs, width], 3, stride), ([width, width], 3, 1)],
            Kind::Bottleneck => &[
                ([inputs, width], 1, 1),
                ([width, width], 3, stride),
                ([width, outputs], 1, 1),
            ],
        };
        let parts = shapes
            .iter()
            .map(|&(channels, kernel, stride)| {
                let convolution = build.convolution(channels, kernel, stride, kernel / 2, false);
                let normalised = if kind == Kind::PreActivation {
                    channels[0]
                } else {
                    channels[1]
                };
                (convolution, build.batch_norm(normalised))
            })
            .collect();
        let shortcut = (stride != 1 || inputs != outputs).then(|| {
            let convolution = build.convolution([inputs, outputs], 1, stride, 0, false);
            (
                convolution,
                (kind != Kind::PreActivation).then(|| build.batch_norm(outputs)),
            )
        });
        Self { kind, parts, shortcut }
    }

    fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        if self.kind == Kind::PreActivation {
            return self.forward_pre_activation(x, mode);
        }
        let mut y = x.clone();
        for (number, (convolution, norm)) in self.parts.iter().enumerate() {
            y = norm.forward(convolution.forward(y), mode);
            if number + 1 < self.parts.len() {
                y = relu(y);
            }
        }
        let shortcut = match &self.shortcut {
            Some((convolution, Some(norm))) => norm.forward(convolution.forward(x), mode),
            Some((convolution, None)) => convolution.forward(x),
            None => x,
        };
        relu(y + shortcut)
    }

    fn forward_pre_activation(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        let [(first, first_norm), (second, second_norm)] = self.parts.as_slice() else {
            unreachable!("a pre-activation block has two convolutions");
        };
        let activated = relu(first_norm.forward(x.clone(), mode));
        // The shortcut reads the activated input where it is a convolution, the input itself where it is none.
        let shortcut = match &self.shortcut {
            Some((convolution, _)) => convolution.forward(activated.clone()),
            None => x,
        };
        second.forward(relu(second_norm.forward(first.forward(activated), mode))) + shortcut
    }

    fn visit(&mut self, name: &str, visitor: &mut impl Visitor) {
        for (number, (convolution, norm)) in self.parts.iter_mut().enumerate() {
            let (convolution_name, norm_name) =
                (format!("{name}.conv{}", number + 1), format!("{name}.bn{}", number + 1));
            if self.kind == Kind::PreActivation {
                norm.visit(&norm_name, visitor);
                convolution.visit(&convolution_name, visitor);
            } else {
                convolution.visit(&convolution_name, visitor);
                norm.visit(&norm_name, visitor);
            }
        }
        if let Some((convolution, norm)) = &mut self.shortcut {
            convolution.visit(&format!("{name}.shortcut.0"), visitor);
            if let Some(norm) = norm {
                norm.visit(&format!("{name}.shortcut.1"), visitor);
            }
        }
    }

    fn fold(&mut self) {
        if self.kind == Kind::PreActivation {
            // bn2 follows conv1; bn1 follows a sum and stays.
            if let [(first, _), (_, second_norm)] = self.parts.as_mut_slice() {
                first.fold(second_norm);
            }
            return;
        }
        for (convolution, norm) in &mut self.parts {
            convolution.fold(norm);
        }
        if let Some((convolution, Some(norm))) = &mut self.shortcut {
            convolution.fold(norm);
        }
    }
}

/// A residual network of four stages, 64 to 512 wide.
#[derive(Debug, Clone)]
pub(super) struct ResNet {
    kind: Kind,
    stem: Convolution,
    /// After the stem, or, with pre-activation, after the last block.
    norm: BatchNorm,
    stages: Vec<Vec<Block>>,
    linear: Linear,
}

impl ResNet {
    pub fn new(kind: Kind, blocks: [usize; 4], channels: usize, classes: usize, build: &mut Builder) -> Self {
        let stem = build.convolution([channels, 64], 3, 1, 1, false);
        let mut inputs = 64;
        let stages: Vec<Vec<Block>> = [64, 128, 256, 512]
            .into_iter()
            .zip(blocks)
            .enumerate()
            .map(|(stage, (width, count))| {
                (0..count)
                    .map(|number| {
                        let stride = if stage > 0 && number == 0 { 2 } else { 1 };
                        let block = Block::new(kind, inputs, width, stride, build);
                        inputs = width * kind.expansion();
                        block
                    })
                    .collect()
            })
            .collect();
        let norm = build.batch_norm(if kind == Kind::PreActivation { inputs } else { 64 });
        Self {
            kind,
            stem,
            norm,
            stages,
            linear: build.linear(inputs, classes),
        }
    }

    pub fn forward(&self, images: Images, mode: Mode) -> Logits {
        let pre_activation = self.kind == Kind::PreActivation;
        let mut x = self.stem.forward(images);
        if !pre_activation {
            x = relu(self.norm.forward(x, mode));
        }
        for block in self.stages.iter().flatten() {
            x = block.forward(x, mode);
        }
        if pre_activation {
            x = relu(self.norm.forward(x, mode));
        }
        self.linear.forward(global_average(x))
    }

    pub fn visit(&mut self, visitor: &mut impl Visitor) {
        self.stem.visit("conv1", visitor);
        if self.kind != Kind::PreActivation {
            self.norm.visit("bn1", visitor);
        }
        for (stage, blocks) in self.stages.iter_mut().enumerate() {
            for (number, block) in blocks.iter_mut().enumerate() {
                block.visit(&format!("layer{}.{number}", stage + 1), visitor);
            }
        }
        if self.kind == Kind::PreActivation {
            self.norm.visit("bn", visitor);
        }
        self.linear.visit("linear", visitor);
    }

    pub fn fold(&mut self) {
        if self.kind != Kind::PreActivation {
            self.stem.fold(&mut self.norm);
        }
        self.stages.iter_mut().flatten().for_each(Block::fold);
    }
}
