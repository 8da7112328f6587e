//! The parts that networks are made of. Weights are plain tensors in PyTorch's layout and under its names.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{
    self, Tensor, TensorData, activation,
    module::{avg_pool2d, batch_norm_train, max_pool2d},
    ops::{AvgPoolOptions, MaxPoolOptions},
};

use super::Mode;
use crate::{compute::convolve, random::Rng};

/// What a parameter is, for weight decay's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The weight of a convolution or a linear layer.
    Weight,
    /// Its bias.
    Bias,
    /// BatchNorm's scale.
    NormWeight,
    /// BatchNorm's shift.
    NormBias,
}

/// Something that walks a network's tensors in the order of PyTorch's state dict.
pub(super) trait Visitor {
    /// A tensor that training moves.
    fn parameter<const D: usize>(&mut self, name: String, role: Role, tensor: &mut Tensor<D>);
    /// The running statistics of a BatchNorm called `name`.
    fn statistics(&mut self, name: &str, norm: &mut BatchNorm);
}

/// Makes layers, drawing their first weights.
pub(super) struct Builder<'a> {
    /// Without one, tensors have their shapes and no memory behind them: enough to see what a network consists of.
    pub rng: Option<&'a mut Rng>,
    /// A plain device.
    pub device: &'a tensor::Device,
}

impl Builder<'_> {
    fn filled<const D: usize>(&mut self, shape: [usize; D], mut value: impl FnMut(&mut Rng) -> f32) -> Tensor<D> {
        let Some(rng) = &mut self.rng else {
            return Tensor::<D>::zeros([1; D], self.device).expand(shape);
        };
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| value(rng)).collect();
        Tensor::from_data(TensorData::new(values, shape), self.device)
    }

    /// PyTorch's default: uniform in ±1/√fan_in (`kaiming_uniform_` with a = √5).
    fn uniform<const D: usize>(&mut self, shape: [usize; D], fan_in: usize) -> Tensor<D> {
        let bound = 1.0 / (fan_in as f32).sqrt();
        self.filled(shape, |rng| rng.uniform(-bound, bound))
    }

    /// A convolution with a square kernel and PyTorch's default weights.
    pub fn convolution(
        &mut self,
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        stride: usize,
        padding: usize,
        bias: bool,
    ) -> Convolution {
        let fan_in = inputs * kernel * kernel;
        let weight = self.uniform([outputs, inputs, kernel, kernel], fan_in);
        let bias = bias.then(|| self.uniform([outputs], fan_in));
        Convolution {
            weight,
            bias,
            stride,
            padding,
        }
    }

    /// A convolution without bias whose weights are normal with variance 2/fan_out (He et al., 2015).
    pub fn convolution_he(
        &mut self,
        channels: [usize; 2],
        kernel: usize,
        stride: usize,
        padding: usize,
    ) -> Convolution {
        let [inputs, outputs] = channels;
        let deviation = (2.0 / (kernel * kernel * outputs) as f32).sqrt();
        let weight = self.filled([outputs, inputs, kernel, kernel], |rng| rng.normal() * deviation);
        Convolution {
            weight,
            bias: None,
            stride,
            padding,
        }
    }

    /// A convolution whose weights are normal with variance 2/fan_in and whose bias is zero (PyTorch's
    /// `kaiming_normal_`).
    pub fn convolution_kaiming(&mut self, [inputs, outputs]: [usize; 2], kernel: usize, padding: usize) -> Convolution {
        let deviation = (2.0 / (inputs * kernel * kernel) as f32).sqrt();
        let weight = self.filled([outputs, inputs, kernel, kernel], |rng| rng.normal() * deviation);
        let bias = Some(Tensor::zeros([outputs], self.device));
        Convolution {
            weight,
            bias,
            stride: 1,
            padding,
        }
    }

    /// A linear layer with PyTorch's default weights.
    pub fn linear(&mut self, inputs: usize, outputs: usize) -> Linear {
        Linear {
            weight: self.uniform([outputs, inputs], inputs),
            bias: self.uniform([outputs], inputs),
        }
    }

    /// A BatchNorm: scale 1, shift 0, running mean 0, running variance 1.
    pub fn batch_norm(&mut self, channels: usize) -> BatchNorm {
        let device = self.device;
        BatchNorm {
            weight: Tensor::ones([channels], device),
            bias: Tensor::zeros([channels], device),
            running: Arc::new(Mutex::new(Running {
                mean: Tensor::zeros([channels], device),
                variance: Tensor::ones([channels], device),
                batches: 0,
            })),
            folded: false,
        }
    }
}

/// A two-dimensional convolution.
#[derive(Debug, Clone)]
pub(super) struct Convolution {
    /// `[out, in, k, k]`.
    pub weight: Tensor<4>,
    /// `[out]`.
    pub bias: Option<Tensor<1>>,
    pub stride: usize,
    pub padding: usize,
}

impl Convolution {
    /// `[N, in, H, W]` → `[N, out, H', W']`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        convolve(x, self.weight.clone(), self.bias.clone(), self.stride, self.padding)
    }

    pub fn visit(&mut self, name: &str, visitor: &mut impl Visitor) {
        visitor.parameter(format!("{name}.weight"), Role::Weight, &mut self.weight);
        if let Some(bias) = &mut self.bias {
            visitor.parameter(format!("{name}.bias"), Role::Bias, bias);
        }
    }

    /// Takes the affine map of an evaluating BatchNorm that follows into weight and bias:
    /// `w' = w·γ/√(σ² + ε)`, `b' = (b − μ)·γ/√(σ² + ε) + β`.
    pub fn fold(&mut self, norm: &mut BatchNorm) {
        let (scale, shift) = norm.fold();
        let outputs = scale.dims()[0];
        self.weight = self.weight.clone() * scale.clone().reshape([outputs, 1, 1, 1]);
        self.bias = Some(match self.bias.take() {
            Some(bias) => bias * scale + shift,
            None => shift,
        });
    }
}

/// A linear layer, its weight in PyTorch's layout.
#[derive(Debug, Clone)]
pub(super) struct Linear {
    /// `[out, in]`.
    pub weight: Tensor<2>,
    /// `[out]`.
    pub bias: Tensor<1>,
}

impl Linear {
    /// `[N, in]` → `[N, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.clone().transpose()) + self.bias.clone().unsqueeze::<2>()
    }

    pub fn visit(&mut self, name: &str, visitor: &mut impl Visitor) {
        visitor.parameter(format!("{name}.weight"), Role::Weight, &mut self.weight);
        visitor.parameter(format!("{name}.bias"), Role::Bias, &mut self.bias);
    }

    /// As [`Convolution::fold`].
    pub fn fold(&mut self, norm: &mut BatchNorm) {
        let (scale, shift) = norm.fold();
        self.weight = self.weight.clone() * scale.clone().unsqueeze_dim(1);
        self.bias = self.bias.clone() * scale + shift;
    }
}

/// PyTorch's defaults.
const BATCH_NORM_EPSILON: f64 = 1e-5;
const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// Running statistics as PyTorch keeps them: the variance is the unbiased one.
#[derive(Debug, Clone)]
pub(super) struct Running {
    /// `[C]`.
    pub mean: Tensor<1>,
    /// `[C]`.
    pub variance: Tensor<1>,
    /// Batches seen.
    pub batches: i64,
}

/// Batch normalisation with an explicit mode. Clones share the running statistics until [`BatchNorm::unshare`].
#[derive(Debug, Clone)]
pub(super) struct BatchNorm {
    /// `[C]`.
    pub weight: Tensor<1>,
    /// `[C]`.
    pub bias: Tensor<1>,
    running: Arc<Mutex<Running>>,
    /// The convolution before it has taken its map over.
    folded: bool,
}

impl BatchNorm {
    /// The running statistics.
    pub fn running(&self) -> MutexGuard<'_, Running> {
        // They are replaced whole, so that a panic elsewhere cannot leave them half-written.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `[N, C, H, W]` → the same: `γ·(x − μ)/√(σ² + ε) + β`.
    ///
    /// Training takes μ and σ² from the batch and moves the running ones by a tenth towards them; evaluation takes the
    /// running ones.
    pub fn forward(&self, x: Tensor<4>, mode: Mode) -> Tensor<4> {
        if self.folded {
            return x;
        }
        match mode {
            Mode::Eval => {
                // One product and one sum over the images, where the formula as it stands takes four passes.
                let (scale, shift) = self.affine();
                let channels = scale.dims()[0];
                x * scale.reshape([1, channels, 1, 1]) + shift.reshape([1, channels, 1, 1])
            }
            Mode::Train => {
                let [examples, _, height, width] = x.dims();
                let count = (examples * height * width) as f64;
                let result = batch_norm_train(x, self.weight.clone(), self.bias.clone(), BATCH_NORM_EPSILON);
                let unbiased = result.variance.inner() * (count / (count - 1.0).max(1.0));
                let mut running = self.running();
                let moved = |old: &Tensor<1>, new: Tensor<1>| {
                    old.clone() * (1.0 - BATCH_NORM_MOMENTUM) + new * BATCH_NORM_MOMENTUM
                };
                running.mean = moved(&running.mean, result.mean.inner());
                running.variance = moved(&running.variance, unbiased);
                running.batches += 1;
                result.output
            }
        }
    }

    pub fn visit(&mut self, name: &str, visitor: &mut impl Visitor) {
        visitor.parameter(format!("{name}.weight"), Role::NormWeight, &mut self.weight);
        visitor.parameter(format!("{name}.bias"), Role::NormBias, &mut self.bias);
        visitor.statistics(name, self);
    }

    /// What evaluation does to each channel, as scale and shift: `γ/√(σ² + ε)` and `β − μ·γ/√(σ² + ε)`.
    fn affine(&self) -> (Tensor<1>, Tensor<1>) {
        let running = self.running().clone();
        let scale = self.weight.clone() / (running.variance + BATCH_NORM_EPSILON).sqrt();
        let shift = self.bias.clone() - running.mean * scale.clone();
        (scale, shift)
    }

    /// Hands its map over to the layer before it; the layer itself does nothing after.
    fn fold(&mut self) -> (Tensor<1>, Tensor<1>) {
        self.folded = true;
        self.affine()
    }

    /// Gives this copy running statistics of its own.
    pub fn unshare(&mut self) {
        let own = self.running().clone();
        self.running = Arc::new(Mutex::new(own));
    }
}

/// Dropout's generator, seeded anew for each training step so that a resumed run draws the same masks.
#[derive(Debug)]
pub(super) struct Dropout {
    rng: Arc<Mutex<Rng>>,
    /// The share of values that training sets to zero.
    pub rate: f32,
}

impl Clone for Dropout {
    fn clone(&self) -> Self {
        // A tracked copy draws from the same sequence, as the passes of one step do.
        Self {
            rng: self.rng.clone(),
            rate: self.rate,
        }
    }
}

impl Dropout {
    pub fn new(rate: f32) -> Self {
        Self {
            rng: Arc::new(Mutex::new(Rng::new(0))),
            rate,
        }
    }

    pub fn seed(&self, seed: u64) {
        *self.rng.lock().unwrap_or_else(PoisonError::into_inner) = Rng::new(seed);
    }

    pub fn unshare(&mut self) {
        let own = self.rng.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.rng = Arc::new(Mutex::new(own));
    }

    /// Training: each value is zero with probability `rate`, the others grow by `1/(1 − rate)`. Evaluation: nothing.
    pub fn forward(&self, x: Tensor<2>, mode: Mode) -> Tensor<2> {
        if mode == Mode::Eval || self.rate == 0.0 {
            return x;
        }
        let shape = x.dims();
        let kept = 1.0 / (1.0 - self.rate);
        let mask: Vec<f32> = {
            let mut rng = self.rng.lock().unwrap_or_else(PoisonError::into_inner);
            (0..shape[0] * shape[1])
                .map(|_| if rng.chance(self.rate) { 0.0 } else { kept })
                .collect()
        };
        let mask = Tensor::<2>::from_data(TensorData::new(mask, shape), &x.device().inner());
        x * mask
    }
}

pub(super) fn relu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::relu(x)
}

/// The highest of each 2×2 block; an odd last row or column is left out, as PyTorch does.
pub(super) fn max_pool(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([2, 2]))
}

/// The mean over each whole channel: `[N, C, H, W]` → `[N, C]`.
///
/// The originals pool 4×4 (ResNet) or 8×8 (WRN) blocks, which is all that 32×32 images leave.
pub(super) fn global_average(x: Tensor<4>) -> Tensor<2> {
    let [examples, channels, height, width] = x.dims();
    avg_pool2d(x, AvgPoolOptions::new([height, width])).reshape([examples, channels])
}

/// `[N, C, H, W]` → `[N, C·H·W]` in PyTorch's order.
pub(super) fn flatten(x: Tensor<4>) -> Tensor<2> {
    x.flatten(1, 3)
}
