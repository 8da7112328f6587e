//! A convolution and its gradients, each as products between packed operands.

use super::{
    Buffer, Extent, Parts, Workers,
    direct::Sampling,
    multiply::{Pack, Packed, Pass},
    outer,
    rows::Rows,
    winograd::Tiles,
};
use crate::compute::vector::{Block, LANES, Simd};

/// A convolution with its shapes: `y[o] = Σ_i w[o, i] ⋆ x[i] (+ b[o])`, weights `[out, in, kh, kw]`.
#[derive(Debug, Clone)]
pub struct Convolution {
    /// What it reads.
    pub input: Extent,
    /// What it gives.
    pub output: Extent,
    kernel: [usize; 2],
    stride: usize,
    padding: usize,
    form: Form,
}

/// How its operands are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Blocks, transformed.
    Winograd,
    /// Blocks, tap by tap.
    Direct,
    /// The kernel is as large as the image: every block of the image is a block of channels of a single position.
    Whole,
}

/// Which pass packed weights are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// From input to output.
    Forward,
    /// From the output's gradient to the input's.
    ImageGradient,
}

/// What is done to each result before it is stored, in this order.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// Added to each block of channels; nothing where it is empty.
    pub bias: &'a [Block],
    /// Added, block for block.
    pub add: Option<&'a [Block]>,
    /// Negative values become zero; which were positive is noted here, a bit for each lane, where that is wanted.
    pub relu: Option<Option<Parts<'a, u16>>>,
    /// Only the lanes whose bits are set are kept.
    pub keep: Option<&'a [u16]>,
}

impl<'a> Epilogue<'a> {
    /// It for one block of channels.
    #[inline(always)]
    pub(super) fn of<S: Simd>(&self, simd: S, channel: usize) -> BlockEpilogue<'a, S> {
        BlockEpilogue {
            simd,
            bias: match self.bias.get(channel) {
                Some(bias) => simd.load(bias),
                None => simd.splat(0.0),
            },
            add: self.add,
            // Nothing lies below the lowest value, so that without a ReLU the same operation changes nothing.
            floor: simd.splat(if self.relu.is_some() { 0.0 } else { f32::NEG_INFINITY }),
            bits: self.relu.flatten(),
            keep: self.keep,
        }
    }
}

/// An [`Epilogue`] for one block of channels, with its numbers in registers.
#[derive(Clone, Copy)]
pub(super) struct BlockEpilogue<'a, S: Simd> {
    simd: S,
    bias: S::Lanes,
    add: Option<&'a [Block]>,
    floor: S::Lanes,
    bits: Option<Parts<'a, u16>>,
    keep: Option<&'a [u16]>,
}

impl<S: Simd> BlockEpilogue<'_, S> {
    /// The result at `place`, as it is stored.
    #[inline(always)]
    pub fn apply(&self, place: usize, lanes: S::Lanes) -> S::Lanes {
        let simd = self.simd;
        let mut lanes = simd.add(lanes, self.bias);
        if let Some(add) = self.add {
            lanes = simd.add(lanes, simd.load(&add[place]));
        }
        if let Some(bits) = &self.bits {
            // SAFETY: each place is stored once, by one part.
            unsafe { bits.get(place, 1)[0] = simd.greater(lanes, self.floor) };
        }
        lanes = simd.max(self.floor, lanes);
        if let Some(keep) = self.keep {
            lanes = simd.select(keep[place], lanes);
        }
        lanes
    }
}

impl Convolution {
    /// A convolution of `input`.
    pub fn new(input: Extent, outputs: usize, kernel: [usize; 2], stride: usize, padding: usize) -> Self {
        let output = input.convolved(outputs, kernel, stride, padding);
        let form = if kernel == [input.height, input.width] && padding == 0 {
            Form::Whole
        } else if kernel == [3, 3] && stride == 1 && padding <= 2 {
            Form::Winograd
        } else {
            Form::Direct
        };
        Self {
            input,
            output,
            kernel,
            stride,
            padding,
            form,
        }
    }

    /// Weights.
    pub fn weights(&self) -> usize {
        self.output.channels * self.input.channels * self.kernel[0] * self.kernel[1]
    }

    /// The input as the products see it.
    pub(super) fn seen(&self) -> Extent {
        match self.form {
            Form::Whole => Extent {
                channels: self.input.image() * LANES,
                height: 1,
                width: 1,
            },
            _ => self.input,
        }
    }

    pub(super) fn taps(&self) -> usize {
        match self.form {
            Form::Whole => 1,
            _ => self.kernel[0] * self.kernel[1],
        }
    }

    /// Where the weight of an output and a lane of the input stands, that of its first tap; `None` where a block is filled up.
    #[inline(always)]
    pub(super) fn place(&self, output: usize, lane: usize) -> Option<usize> {
        let channels = self.input.channels;
        if output >= self.output.channels {
            return None;
        }
        match self.form {
            Form::Whole => {
                let (block, positions) = (lane / LANES, self.input.positions());
                let channel = block / positions * LANES + lane % LANES;
                (channel < channels).then_some((output * channels + channel) * positions + block % positions)
            }
            _ => (lane < channels).then_some((output * channels + lane) * self.taps()),
        }
    }

    /// The rows of results and of weight gradients.
    pub(super) fn rows(&self) -> Rows {
        let grid = [self.output.height, self.output.width];
        match self.form {
            Form::Winograd => Rows::Tiles(Tiles {
                source: self.input,
                padding: self.padding,
                result: grid,
            }),
            Form::Direct => {
                let padding = self.padding as isize;
                let taps = (0..self.taps())
                    .map(|tap| {
                        let (y, x) = (tap / self.kernel[1], tap % self.kernel[1]);
                        [y as isize - padding, x as isize - padding]
                    })
                    .collect();
                Rows::Sampled(Sampling {
                    source: self.input,
                    grid,
                    stride: self.stride,
                    taps,
                })
            }
            Form::Whole => Rows::Sampled(Sampling {
                source: self.seen(),
                grid,
                stride: 1,
                taps: vec![[0, 0]],
            }),
        }
    }

    fn passes(&self, purpose: Purpose) -> Vec<Pass> {
        let pass = |rows: Rows, target: Extent, step, offset, taps| Pass {
            weights: 0..rows.packed(target.blocks()),
            rows,
            target,
            step,
            offset,
            taps,
        };
        let mut passes = match (purpose, self.form) {
            (Purpose::Forward, _) => {
                let taps = (0..self.taps()).collect();
                vec![pass(self.rows(), self.output, 1, [0, 0], taps)]
            }
            (Purpose::ImageGradient, Form::Winograd) => {
                let rows = Rows::Tiles(Tiles {
                    source: self.output,
                    padding: 2 - self.padding,
                    result: [self.input.height, self.input.width],
                });
                // The kernel turned by half a turn.
                vec![pass(rows, self.input, 1, [0, 0], (0..self.taps()).rev().collect())]
            }
            (Purpose::ImageGradient, Form::Whole) => {
                let rows = Rows::Sampled(Sampling {
                    source: self.output,
                    grid: [1, 1],
                    stride: 1,
                    taps: vec![[0, 0]],
                });
                vec![pass(rows, self.seen(), 1, [0, 0], vec![0])]
            }
            (Purpose::ImageGradient, Form::Direct) => {
                // The places of the image that are a whole number of strides apart meet the same taps.
                let mut passes = Vec::new();
                for offset in (0..self.stride).flat_map(|y| (0..self.stride).map(move |x| [y, x])) {
                    let sides = [self.input.height, self.input.width];
                    let grid = [0, 1].map(|axis| sides[axis].saturating_sub(offset[axis]).div_ceil(self.stride));
                    if grid.contains(&0) {
                        continue;
                    }
                    let (mut taps, mut places) = (Vec::new(), Vec::new());
                    for tap in 0..self.taps() {
                        let at = [tap / self.kernel[1], tap % self.kernel[1]];
                        let away = [0, 1].map(|axis| (offset[axis] + self.padding) as isize - at[axis] as isize);
                        if away.iter().all(|away| away % self.stride as isize == 0) {
                            taps.push(tap);
                            places.push(away.map(|away| away / self.stride as isize));
                        }
                    }
                    let rows = Rows::Sampled(Sampling {
                        source: self.output,
                        grid,
                        stride: 1,
                        taps: places,
                    });
                    passes.push(pass(rows, self.input, self.stride, offset, taps));
                }
                passes
            }
        };
        let mut begin = 0;
        for pass in &mut passes {
            let length = pass.weights.len();
            pass.weights = begin..begin + length;
            begin += length;
        }
        passes
    }

    /// Packs weights for a pass, each output's multiplied by its entry of `scale`.
    pub fn pack(&self, purpose: Purpose, weights: &[f32], scale: Option<&[f32]>, workers: Workers) -> Packed {
        assert_eq!(weights.len(), self.weights(), "weights of another shape");
        let passes = self.passes(purpose);
        let mut packed = Buffer::new(passes.last().map_or(0, |pass| pass.weights.end));
        for pass in &passes {
            let task = Pack {
                convolution: self,
                purpose,
                pass,
                weights,
                scale,
                packed: Parts::new(&mut packed[pass.weights.clone()]),
            };
            workers.run(pass.target.blocks().div_ceil(2), &task);
        }
        Packed {
            passes,
            weights: packed,
        }
    }

    /// The gradients of the weights, `[out, in, kh, kw]`, and of the bias, `[out]`, from the input and the gradient of the
    /// output.
    pub fn weight_gradient(
        &self,
        (source, gradient): (&[Block], &[Block]),
        images: usize,
        (target, bias): (&mut [f32], Option<&mut [f32]>),
        workers: Workers,
    ) {
        assert_eq!(target.len(), self.weights(), "a gradient of another shape");
        assert!(gradient.len() >= images * self.output.image(), "too few gradients");
        assert!(source.len() >= images * self.input.image(), "too few inputs");
        outer::weight_gradient(self, (source, gradient), images, (target, bias), workers);
    }
}
