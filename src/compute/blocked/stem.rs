//! The first convolution of a network, which reads images plane by plane: one or three channels would leave most lanes of a
//! block empty.

use super::{
    Buffer, Epilogue, Extent, Parts, Pooled, Workers,
    outer::{PARTS, join_bias},
    product::multiply,
};
use crate::compute::vector::{Block, LANES, Simd, Task};

/// A convolution of images, weights `[out, in, kh, kw]`.
#[derive(Debug, Clone)]
pub struct Stem {
    /// The images.
    pub input: Extent,
    /// What it gives.
    pub output: Extent,
    kernel: [usize; 2],
    stride: usize,
    padding: usize,
}

/// Its weights, packed for both directions.
#[derive(Debug)]
pub struct PackedStem {
    /// `[pair of blocks of outputs][value under the kernel][output]`.
    forward: Buffer,
    /// `[pair of blocks of values under the kernel][output channel][value]`.
    backward: Buffer,
}

impl Stem {
    /// A convolution of images.
    pub fn new(input: Extent, outputs: usize, kernel: [usize; 2], stride: usize, padding: usize) -> Self {
        Self {
            input,
            output: input.convolved(outputs, kernel, stride, padding),
            kernel,
            stride,
            padding,
        }
    }

    /// Values under the kernel.
    fn patch(&self) -> usize {
        self.input.channels * self.kernel[0] * self.kernel[1]
    }

    /// Blocks that the values under the kernel fill.
    fn patch_blocks(&self) -> usize {
        self.patch().div_ceil(LANES)
    }

    /// Weights.
    pub fn weights(&self) -> usize {
        self.output.channels * self.patch()
    }

    /// Values of an image.
    fn values(&self) -> usize {
        self.input.channels * self.input.positions()
    }

    /// Rows and columns of a padded image.
    fn padded(&self) -> [usize; 2] {
        [self.input.height, self.input.width].map(|side| side + 2 * self.padding)
    }

    /// Where each value under the kernel lies in a padded image, counted from the kernel's corner.
    fn offsets(&self) -> Vec<usize> {
        let [height, width] = self.padded();
        let [down, across] = self.kernel;
        let mut offsets = Vec::with_capacity(self.patch());
        for channel in 0..self.input.channels {
            for y in 0..down {
                offsets.extend((0..across).map(|x| (channel * height + y) * width + x));
            }
        }
        offsets
    }

    /// Packs weights, each output's multiplied by its entry of `scale`.
    pub fn pack(&self, weights: &[f32], scale: Option<&[f32]>) -> PackedStem {
        assert_eq!(weights.len(), self.weights(), "weights of another shape");
        let (patch, outputs) = (self.patch(), self.output.channels);
        let value = |output: usize, value: usize| {
            if output < outputs && value < patch {
                weights[output * patch + value] * scale.map_or(1.0, |scale| scale[output])
            } else {
                0.0
            }
        };
        // A pair of blocks lies as groups of two, a last one by itself as groups of one.
        let fill = |rows: usize, blocks: usize, lane: &dyn Fn(usize, usize) -> f32| {
            let mut packed = Buffer::new(rows * blocks);
            let mut targets = packed.iter_mut();
            for pair in 0..blocks.div_ceil(2) {
                let members = 2 * pair..(2 * pair + 2).min(blocks);
                for row in 0..rows {
                    for block in members.clone() {
                        if let Some(target) = targets.next() {
                            *target = Block(std::array::from_fn(|l| lane(row, block * LANES + l)));
                        }
                    }
                }
            }
            packed
        };
        PackedStem {
            forward: fill(patch, self.output.blocks(), &|row, lane| value(lane, row)),
            backward: fill(self.output.blocks() * LANES, self.patch_blocks(), &|row, lane| {
                value(row, lane)
            }),
        }
    }

    /// `[N, C, H, W]` to blocks.
    pub fn forward(
        &self,
        packed: &PackedStem,
        source: &[f32],
        images: usize,
        target: &mut [Block],
        epilogue: &Epilogue,
        workers: Workers,
    ) {
        assert!(source.len() >= images * self.values() && target.len() >= images * self.output.image());
        let task = Forward {
            stem: self,
            weights: &packed.forward,
            source,
            offsets: &self.offsets(),
            target: Parts::new(target),
            epilogue,
        };
        workers.run(images, &task);
    }

    /// The gradient of the images, `[N, C, H, W]`.
    pub fn image_gradient(
        &self,
        packed: &PackedStem,
        gradient: &[Block],
        images: usize,
        target: &mut [f32],
        workers: Workers,
    ) {
        assert!(target.len() >= images * self.values() && gradient.len() >= images * self.output.image());
        let task = Backward {
            stem: self,
            weights: &packed.backward,
            gradient,
            offsets: &self.offsets(),
            target: Parts::new(target),
        };
        workers.run(images, &task);
    }

    /// The gradients of the weights, `[out, in, kh, kw]`, and of the bias, `[out]`.
    pub fn weight_gradient(
        &self,
        (source, gradient): (&[f32], &[Block]),
        images: usize,
        (target, bias): (&mut [f32], Option<&mut [f32]>),
        workers: Workers,
    ) {
        assert_eq!(target.len(), self.weights(), "a gradient of another shape");
        assert!(source.len() >= images * self.values() && gradient.len() >= images * self.output.image());
        let (groups, size) = (PARTS.min(images.max(1)), self.patch() * self.output.blocks());
        let mut sums = Buffer::new(groups * size);
        let mut of_bias = Buffer::zeros(groups * self.output.blocks());
        let task = Outer {
            stem: self,
            source,
            gradient,
            images,
            groups,
            offsets: &self.offsets(),
            sums: Parts::new(&mut sums),
            bias: Parts::new(&mut of_bias),
        };
        workers.run(groups, &task);
        if let Some(bias) = bias {
            join_bias(&of_bias, self.output.blocks(), bias);
        }
        let patch = self.patch();
        for (place, weight) in target.iter_mut().enumerate() {
            let (output, value) = (place / patch, place % patch);
            let of_group = |group: usize| sums[group * size + output / LANES * patch + value].0[output % LANES];
            *weight = (1..groups).fold(of_group(0), |sum, group| sum + of_group(group));
        }
    }
}

/// An image with zeros round it.
struct Padded(Pooled<f32>);

impl Padded {
    fn new(stem: &Stem) -> Self {
        let [height, width] = stem.padded();
        Self(Pooled::zeros(stem.input.channels * height * width))
    }

    /// Copies the inside of an image to it, line by line.
    #[inline(always)]
    fn copy_from(&mut self, stem: &Stem, image: &[f32]) {
        let ([height, width], padding) = (stem.padded(), stem.padding);
        let target = &mut *self.0;
        for (number, line) in image.chunks_exact(stem.input.width).enumerate() {
            let (channel, y) = (number / stem.input.height, number % stem.input.height);
            let start = (channel * height + y + padding) * width + padding;
            target[start..start + line.len()].copy_from_slice(line);
        }
    }

    /// The other way.
    #[inline(always)]
    fn copy_to(&self, stem: &Stem, image: &mut [f32]) {
        let ([height, width], padding) = (stem.padded(), stem.padding);
        for (number, line) in image.chunks_exact_mut(stem.input.width).enumerate() {
            let (channel, y) = (number / stem.input.height, number % stem.input.height);
            let start = (channel * height + y + padding) * width + padding;
            line.copy_from_slice(&self.0[start..start + line.len()]);
        }
    }
}

/// Results, an image a part.
struct Forward<'a> {
    stem: &'a Stem,
    weights: &'a [Block],
    source: &'a [f32],
    offsets: &'a [usize],
    target: Parts<'a, Block>,
    epilogue: &'a Epilogue<'a>,
}

/// Neighbours of a line: the values that the kernel's corner meets at them.
#[derive(Clone, Copy)]
struct Line<'a> {
    /// The padded image from the first one's corner.
    values: &'a [f32],
    step: usize,
    offsets: &'a [usize],
}

impl Forward<'_> {
    #[inline(always)]
    fn tile<S: Simd, const R: usize, const B: usize>(
        &self,
        simd: S,
        line: Line,
        (weights, outputs, output): (&[Block], usize, usize),
        (block, place): (usize, usize),
    ) {
        let furthest = line.offsets.last().map_or(0, |offset| offset + (R - 1) * line.step);
        assert!(furthest < line.values.len() && weights.len() >= line.offsets.len() * outputs);
        assert!(output + B <= outputs);
        let mut sums = [[simd.splat(0.0); B]; R];
        for (value, offset) in line.offsets.iter().enumerate() {
            let mut factors = [simd.splat(0.0); B];
            for (b, factor) in factors.iter_mut().enumerate() {
                // SAFETY: value < offsets' length and output + b < outputs, inside as asserted.
                *factor = simd.load(unsafe { weights.get_unchecked(value * outputs + output + b) });
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                // SAFETY: offsets rise, so none reaches further than the last one, which is inside as asserted.
                let value = simd.splat(unsafe { *line.values.get_unchecked(offset + r * line.step) });
                for b in 0..B {
                    sums[b] = simd.mul_add(value, factors[b], sums[b]);
                }
            }
        }
        let positions = self.stem.output.positions();
        for b in 0..B {
            // SAFETY: each image has places of its own.
            let target = unsafe { self.target.get(place + b * positions, R) };
            let epilogue = self.epilogue.of(simd, block + b);
            for (r, target) in target.iter_mut().enumerate() {
                let at = place + b * positions + r;
                simd.store(target, epilogue.apply(at, sums[r][b]));
            }
        }
    }

    #[inline(always)]
    fn any<S: Simd, const B: usize>(
        &self,
        simd: S,
        count: usize,
        line: Line,
        weights: (&[Block], usize, usize),
        at: (usize, usize),
    ) {
        match count {
            1 => self.tile::<S, 1, B>(simd, line, weights, at),
            2 => self.tile::<S, 2, B>(simd, line, weights, at),
            3 => self.tile::<S, 3, B>(simd, line, weights, at),
            4 => self.tile::<S, 4, B>(simd, line, weights, at),
            5 => self.tile::<S, 5, B>(simd, line, weights, at),
            6 => self.tile::<S, 6, B>(simd, line, weights, at),
            7 => self.tile::<S, 7, B>(simd, line, weights, at),
            8 => self.tile::<S, 8, B>(simd, line, weights, at),
            9 => self.tile::<S, 9, B>(simd, line, weights, at),
            10 => self.tile::<S, 10, B>(simd, line, weights, at),
            11 => self.tile::<S, 11, B>(simd, line, weights, at),
            12 => self.tile::<S, 12, B>(simd, line, weights, at),
            _ => unreachable!("a tile has at most {} rows", S::ROWS),
        }
    }
}

impl Task for Forward<'_> {
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, image: usize) {
        let stem = self.stem;
        let (output, blocks, patch) = (stem.output, stem.output.blocks(), stem.patch());
        let mut padded = Padded::new(stem);
        padded.copy_from(stem, &self.source[image * stem.values()..][..stem.values()]);
        let [_, across] = stem.padded();
        let tiles = output.width.div_ceil(S::ROWS);
        for y in 0..output.height {
            for tile in 0..tiles {
                let (first, end) = (output.width * tile / tiles, output.width * (tile + 1) / tiles);
                let line = Line {
                    values: &padded.0[y * stem.stride * across + first * stem.stride..],
                    step: stem.stride,
                    offsets: self.offsets,
                };
                for pair in 0..blocks.div_ceil(2) {
                    let outputs = (blocks - 2 * pair).min(2);
                    let weights = &self.weights[2 * pair * patch..];
                    let place = |block| (image * blocks + block) * output.positions() + y * output.width + first;
                    if S::BLOCKS == 2 && outputs == 2 {
                        let at = (2 * pair, place(2 * pair));
                        self.any::<S, 2>(simd, end - first, line, (weights, outputs, 0), at);
                    } else {
                        for number in 0..outputs {
                            let at = (2 * pair + number, place(2 * pair + number));
                            self.any::<S, 1>(simd, end - first, line, (weights, outputs, number), at);
                        }
                    }
                }
            }
        }
    }
}

/// Gradients of images, an image a part: products under each position, added up where they overlap.
struct Backward<'a> {
    stem: &'a Stem,
    weights: &'a [Block],
    gradient: &'a [Block],
    offsets: &'a [usize],
    target: Parts<'a, f32>,
}

impl Task for Backward<'_> {
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, image: usize) {
        let stem = self.stem;
        let (output, positions) = (stem.output, stem.output.positions());
        let (depth, blocks) = (output.blocks(), stem.patch_blocks());
        let gradient = &self.gradient[image * output.image()..][..output.image()];
        let mut results = Buffer::new(blocks * positions);
        for pair in 0..blocks.div_ceil(2) {
            let outputs = (blocks - 2 * pair).min(2);
            let weights = &self.weights[2 * pair * depth * LANES..];
            let results = &mut results[2 * pair * positions..];
            multiply(simd, (gradient, positions), depth, (weights, outputs), results);
        }
        let mut padded = Padded::new(stem);
        let [_, across] = stem.padded();
        let values = &mut *padded.0;
        let furthest = self.offsets.last().copied().unwrap_or(0);
        for y in 0..output.height {
            for x in 0..output.width {
                let corner = (y * across + x) * stem.stride;
                assert!(corner + furthest < values.len());
                for (number, offset) in self.offsets.iter().enumerate() {
                    let found = &results[number / LANES * positions + y * output.width + x];
                    // SAFETY: offsets rise and the last is inside, as asserted; a lane is below 16.
                    unsafe {
                        *values.get_unchecked_mut(corner + offset) += *found.0.get_unchecked(number % LANES);
                    }
                }
            }
        }
        // SAFETY: each image has values of its own.
        padded.copy_to(stem, unsafe { self.target.get(image * stem.values(), stem.values()) });
    }
}

/// Gradients of weights, a group of images a part: sums `[block of outputs][value]` for each group.
struct Outer<'a> {
    stem: &'a Stem,
    source: &'a [f32],
    gradient: &'a [Block],
    images: usize,
    groups: usize,
    offsets: &'a [usize],
    sums: Parts<'a, Block>,
    /// Sums of the gradient itself, `[group][block of outputs]`.
    bias: Parts<'a, Block>,
}

impl Outer<'_> {
    /// Adds the products of one line of positions to the sums of R values.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(simd: S, line: Line, gradients: &[Block], sums: &mut [Block]) {
        let count = gradients.len();
        let furthest = line.offsets.last().map_or(0, |offset| offset + (count - 1) * line.step);
        assert!(furthest < line.values.len() && line.offsets.len() == R && sums.len() == R);
        let mut offsets = [0; R];
        offsets.copy_from_slice(line.offsets);
        let mut totals = [simd.splat(0.0); R];
        for (place, gradient) in gradients.iter().enumerate() {
            let gradient = simd.load(gradient);
            for r in 0..R {
                // SAFETY: offsets rise, so none reaches further than the last one, which is inside as asserted.
                let value = simd.splat(unsafe { *line.values.get_unchecked(offsets[r] + place * line.step) });
                totals[r] = simd.mul_add(value, gradient, totals[r]);
            }
        }
        for (sum, total) in sums.iter_mut().zip(totals) {
            let joined = simd.add(simd.load(sum), total);
            simd.store(sum, joined);
        }
    }
}

impl Task for Outer<'_> {
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, group: usize) {
        let stem = self.stem;
        let (output, blocks, patch) = (stem.output, stem.output.blocks(), stem.patch());
        let [_, across] = stem.padded();
        let mut padded = Padded::new(stem);
        // SAFETY: each group has sums of its own.
        let sums = unsafe { self.sums.get(group * blocks * patch, blocks * patch) };
        sums.fill(Block::ZERO);
        // SAFETY: and of the bias.
        let of_bias = unsafe { self.bias.get(group * blocks, blocks) };
        for image in self.images * group / self.groups..self.images * (group + 1) / self.groups {
            padded.copy_from(stem, &self.source[image * stem.values()..][..stem.values()]);
            for block in 0..blocks {
                let sums = &mut sums[block * patch..][..patch];
                let plane = (image * blocks + block) * output.positions();
                for y in 0..output.height {
                    let gradients = &self.gradient[plane + y * output.width..][..output.width];
                    let mut total = simd.load(&of_bias[block]);
                    for gradient in gradients {
                        total = simd.add(total, simd.load(gradient));
                    }
                    simd.store(&mut of_bias[block], total);
                    let values = &padded.0[y * stem.stride * across..];
                    let mut first = 0;
                    while first < patch {
                        let count = (patch - first).min(9);
                        let line = Line {
                            values,
                            step: stem.stride,
                            offsets: &self.offsets[first..first + count],
                        };
                        let sums = &mut sums[first..first + count];
                        match count {
                            1 => Self::tile::<S, 1>(simd, line, gradients, sums),
                            2 => Self::tile::<S, 2>(simd, line, gradients, sums),
                            3 => Self::tile::<S, 3>(simd, line, gradients, sums),
                            4 => Self::tile::<S, 4>(simd, line, gradients, sums),
                            5 => Self::tile::<S, 5>(simd, line, gradients, sums),
                            6 => Self::tile::<S, 6>(simd, line, gradients, sums),
                            7 => Self::tile::<S, 7>(simd, line, gradients, sums),
                            8 => Self::tile::<S, 8>(simd, line, gradients, sums),
                            _ => Self::tile::<S, 9>(simd, line, gradients, sums),
                        }
                        first += count;
                    }
                }
            }
        }
    }
}
