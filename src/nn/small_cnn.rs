//! The networks without shortcuts: two for MNIST, and the eight-layer one of the paper's Figure 1.

use super::{
    Mode,
    layers::{BatchNorm, Builder, Convolution, Dropout, Linear, Visitor, flatten, max_pool, relu},
};
use crate::shapes::{ImageShape, Images, Logits};

/// TRADES' SmallCNN: conv 32, 32, pool, conv 64, 64, pool, fc 200, dropout, fc 200, fc K.
#[derive(Debug, Clone)]
pub(super) struct SmallCnn {
    convolutions: [Convolution; 4],
    linears: [Linear; 3],
    pub dropout: Dropout,
}

/// Convolutions 3×3 without padding: each takes two pixels off, each pool halves.
fn small_cnn_side(side: usize) -> Option<usize> {
    let after_first = side.checked_sub(4)? / 2;
    let after_second = after_first.checked_sub(4)? / 2;
    (after_second > 0).then_some(after_second)
}

impl SmallCnn {
    /// The smallest side that its pools leave something of.
    pub const SMALLEST: usize = 16;

    pub fn new(input: ImageShape, classes: usize, build: &mut Builder) -> Option<Self> {
        let features = 64 * small_cnn_side(input.height)? * small_cnn_side(input.width)?;
        let convolutions = [[input.channels, 32], [32, 32], [32, 64], [64, 64]]
            .map(|channels| build.convolution(channels, 3, 1, 0, true));
        let mut linears = [[features, 200], [200, 200], [200, classes]].map(|[i, o]| build.linear(i, o));
        // The original starts its last layer at zero: every class has the same logit at first.
        linears[2].weight = linears[2].weight.zeros_like();
        linears[2].bias = linears[2].bias.zeros_like();
        Some(Self {
            convolutions,
            linears,
            dropout: Dropout::new(0.5),
        })
    }

    pub fn forward(&self, images: Images, mode: Mode) -> Logits {
        let [c1, c2, c3, c4] = &self.convolutions;
        let [f1, f2, f3] = &self.linears;
        let x = max_pool(relu(c2.forward(relu(c1.forward(images)))));
        let x = max_pool(relu(c4.forward(relu(c3.forward(x)))));
        let x = self.dropout.forward(relu(f1.forward(flatten(x))), mode);
        f3.forward(relu(f2.forward(x)))
    }

    pub fn visit(&mut self, visitor: &mut impl Visitor) {
        for (number, convolution) in self.convolutions.iter_mut().enumerate() {
            convolution.visit(&format!("feature_extractor.conv{}", number + 1), visitor);
        }
        for (number, linear) in self.linears.iter_mut().enumerate() {
            linear.visit(&format!("classifier.fc{}", number + 1), visitor);
        }
    }
}

/// A stack of 3×3 convolutions (padding 1), each with BatchNorm and ReLU, pooled now and then, with two linear layers.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    convolutions: Vec<(Convolution, BatchNorm)>,
    /// After which convolutions a pool stands, counted from 1.
    pools: &'static [usize],
    linears: [Linear; 2],
    /// BatchNorm between the two linear layers, where there is one.
    hidden_norm: Option<BatchNorm>,
}

impl Stack {
    /// The Dynamic repository's MNIST network: conv 32, pool, conv 64, pool, fc 128, fc K, with BatchNorm.
    pub fn dynamic_cnn(input: ImageShape, classes: usize, build: &mut Builder) -> Option<Self> {
        Self::new(input, &[32, 64], &[1, 2], (128, false), classes, build)
    }

    /// The eight-layer network of Figure 1: 64, 64, pool, 128, 128, pool, 196, 196, pool, fc 256, fc K, with
    /// BatchNorm after every layer but the last.
    pub fn cnn8(input: ImageShape, classes: usize, build: &mut Builder) -> Option<Self> {
        Self::new(
            input,
            &[64, 64, 128, 128, 196, 196],
            &[2, 4, 6],
            (256, true),
            classes,
            build,
        )
    }

    fn new(
        input: ImageShape,
        widths: &[usize],
        pools: &'static [usize],
        (hidden, hidden_norm): (usize, bool),
        classes: usize,
        build: &mut Builder,
    ) -> Option<Self> {
        let halvings = 1usize << pools.len();
        let (height, width) = (input.height / halvings, input.width / halvings);
        if height == 0 || width == 0 {
            return None;
        }
        let mut inputs = input.channels;
        let convolutions = widths
            .iter()
            .map(|&outputs| {
                let convolution = build.convolution([inputs, outputs], 3, 1, 1, true);
                inputs = outputs;
                (convolution, build.batch_norm(outputs))
            })
            .collect();
        let linears = [
            build.linear(inputs * height * width, hidden),
            build.linear(hidden, classes),
        ];
        let hidden_norm = hidden_norm.then(|| build.batch_norm(hidden));
        Some(Self {
            convolutions,
            pools,
            linears,
            hidden_norm,
        })
    }

    pub fn forward(&self, images: Images, mode: Mode) -> Logits {
        let mut x = images;
        for (number, (convolution, norm)) in self.convolutions.iter().enumerate() {
            x = relu(norm.forward(convolution.forward(x), mode));
            if self.pools.contains(&(number + 1)) {
                x = max_pool(x);
            }
        }
        let [f1, f2] = &self.linears;
        let mut y = f1.forward(flatten(x));
        if let Some(norm) = &self.hidden_norm {
            let [examples, width] = y.dims();
            y = norm
                .forward(y.reshape([examples, width, 1, 1]), mode)
                .reshape([examples, width]);
        }
        f2.forward(relu(y))
    }

    pub fn visit(&mut self, visitor: &mut impl Visitor) {
        for (number, (convolution, norm)) in self.convolutions.iter_mut().enumerate() {
            convolution.visit(&format!("conv{}", number + 1), visitor);
            norm.visit(&format!("bn{}", number + 1), visitor);
        }
        let [f1, f2] = &mut self.linears;
        f1.visit("fc1", visitor);
        if let Some(norm) = &mut self.hidden_norm {
            norm.visit(&format!("bn{}", self.convolutions.len() + 1), visitor);
        }
        f2.visit("fc2", visitor);
    }

    pub fn fold(&mut self) {
        for (convolution, norm) in &mut self.convolutions {
            convolution.fold(norm);
        }
        if let Some(norm) = &mut self.hidden_norm {
            self.linears[0].fold(norm);
        }
    }
}
