//! Sums of outer products over positions: gradients of weights.

use std::ops::Range;

use super::{
    Buffer, Convolution, Parts, Workers,
    direct::Spots,
    product::add_outer,
    rows::{Rows, apart},
    winograd::{PRODUCTS, untransform_kernel},
};
use crate::compute::vector::{Block, LANES, Simd, Task};

/// Panels of rows, and pairs of blocks of outputs, whose sums of outer products are one part: they fit into the cache
/// together with what is packed for them.
const UNIT: [usize; 2] = [64, 2];
/// Rows whose products are added up in one chain before they join the sums.
const ROWS: usize = 48;
/// Parts that a weight gradient is cut into at least. Where there are fewer units, groups of images are summed apart, then
/// in order; their number depends on shapes alone, so that threads change no bit.
pub(super) const PARTS: usize = 8;

/// The gradients of the weights of a convolution of blocks, `[out, in, kh, kw]`, and of its bias, `[out]`.
pub(super) fn weight_gradient(
    convolution: &Convolution,
    (source, gradient): (&[Block], &[Block]),
    images: usize,
    (target, bias): (&mut [f32], Option<&mut [f32]>),
    workers: Workers,
) {
    let rows = convolution.rows();
    let unit = [
        (UNIT[0] / (rows.products() * rows.panels())).clamp(1, rows.blocks()),
        UNIT[1],
    ];
    let counts = [
        rows.blocks().div_ceil(unit[0]),
        convolution.output.blocks().div_ceil(2 * unit[1]),
    ];
    let units = counts[0] * counts[1];
    let groups = (PARTS / units).clamp(1, images.max(1));
    let size = unit[1] * rows.products() * unit[0] * rows.panels() * LANES * 2;
    let mut sums = Buffer::new(if groups > 1 { units * groups * size } else { 0 });
    let blocks = convolution.output.blocks();
    let mut of_bias = Buffer::zeros(groups * blocks);
    let task = Outer {
        convolution,
        rows: &rows,
        source,
        gradient,
        images,
        groups,
        unit,
        counts,
        size,
        sums: Parts::new(&mut sums),
        bias: Parts::new(&mut of_bias),
        target: Parts::new(target),
    };
    workers.run(units * groups, &task);
    if groups > 1 {
        workers.run(units, &Join(&task));
    }
    if let Some(bias) = bias {
        join_bias(&of_bias, blocks, bias);
    }
}

/// Adds the groups' sums of a bias's gradient up in their order.
pub(super) fn join_bias(sums: &[Block], blocks: usize, bias: &mut [f32]) {
    for (channel, bias) in bias.iter_mut().enumerate() {
        let groups = sums
            .chunks_exact(blocks)
            .map(|group| group[channel / LANES].0[channel % LANES]);
        *bias = groups.reduce(|sum, group| sum + group).unwrap_or(0.0);
    }
}

/// Sums of outer products: a unit of the weights and a group of the images a part.
struct Outer<'a> {
    convolution: &'a Convolution,
    rows: &'a Rows,
    source: &'a [Block],
    gradient: &'a [Block],
    images: usize,
    groups: usize,
    /// Blocks of channels and pairs of blocks of outputs of a unit.
    unit: [usize; 2],
    /// Units along each.
    counts: [usize; 2],
    /// Blocks of a unit's sums.
    size: usize,
    /// `[unit][group][size]`.
    sums: Parts<'a, Block>,
    /// Sums of the gradient itself, `[group][block of outputs]`.
    bias: Parts<'a, Block>,
    target: Parts<'a, f32>,
}

impl Outer<'_> {
    /// The blocks of channels and the pairs of blocks of outputs of a unit.
    #[inline(always)]
    fn chosen(&self, unit: usize) -> [Range<usize>; 2] {
        let (input, pair) = (
            unit / self.counts[1] * self.unit[0],
            unit % self.counts[1] * self.unit[1],
        );
        let pairs = self.convolution.output.blocks().div_ceil(2);
        [
            input..(input + self.unit[0]).min(self.rows.blocks()),
            pair..(pair + self.unit[1]).min(pairs),
        ]
    }

    /// Blocks of one product's sums for a pair: as long for every pair.
    #[inline(always)]
    fn of_product(&self, inputs: usize) -> usize {
        inputs * self.rows.panels() * LANES * 2
    }

    /// Adds the outer products of a group of images up.
    #[inline(always)]
    fn add_up<S: Simd>(&self, simd: S, unit: usize, group: usize, sums: &mut [Block]) {
        let [inputs, pairs] = self.chosen(unit);
        let (products, depth) = (self.rows.products(), inputs.len() * self.rows.panels());
        let (per_image, output) = (self.rows.per_image(), self.convolution.output);
        let of_product = self.of_product(inputs.len());
        sums.fill(Block::ZERO);
        let mut first = self.images * group / self.groups * per_image;
        let last = self.images * (group + 1) / self.groups * per_image;
        let mut panels = Buffer::new(products * apart(depth * ROWS));
        let mut gradients = Buffer::new(products * apart(2 * ROWS));
        while first < last {
            let count = ROWS.min(last - first);
            let spots = Spots::new(self.rows.grid(), first, count);
            let (panels_apart, gradients_apart) = (apart(depth * count), apart(2 * count));
            let to = (&mut *panels, panels_apart);
            self.rows.pack(simd, self.source, inputs.clone(), &spots, to);
            for (number, pair) in pairs.clone().enumerate() {
                let outputs = (output.blocks() - 2 * pair).min(2);
                let mut unwanted = [Block::ZERO; 2];
                let of_bias = if inputs.start == 0 {
                    // SAFETY: of the units of a pair the first alone adds the gradient itself up.
                    unsafe { self.bias.get(group * output.blocks() + 2 * pair, outputs) }
                } else {
                    &mut unwanted[..outputs]
                };
                if let Rows::Tiles(tiles) = self.rows {
                    let chosen = (output.blocks(), 2 * pair, outputs);
                    let to = (&mut *gradients, gradients_apart);
                    tiles.pack_gradient(simd, self.gradient, chosen, &spots, to, of_bias);
                } else {
                    for (block, of_bias) in of_bias.iter_mut().enumerate() {
                        let mut sum = simd.load(of_bias);
                        for (row, spot) in spots.get().iter().enumerate() {
                            let plane = (spot.image * output.blocks() + 2 * pair + block) * per_image;
                            let lanes = simd.load(&self.gradient[plane + spot.y * output.width + spot.x]);
                            simd.store(&mut gradients[block * count + row], lanes);
                            sum = simd.add(sum, lanes);
                        }
                        simd.store(of_bias, sum);
                    }
                }
                for product in 0..products {
                    add_outer(
                        simd,
                        (&panels[product * panels_apart..], count),
                        depth,
                        (&gradients[product * gradients_apart..], outputs),
                        &mut sums[(number * products + product) * of_product..],
                    );
                }
            }
            first += count;
        }
    }

    /// Writes a unit's sums as weights lie.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, unit: usize, sums: &[Block]) {
        let (convolution, taps) = (self.convolution, self.convolution.taps());
        let [inputs, pairs] = self.chosen(unit);
        let (products, of_product) = (self.rows.products(), self.of_product(inputs.len()));
        // The lanes of one block of channels, `[lane][tap]`, before they are turned into rows of the weight.
        let mut aside = Buffer::new(LANES * taps);
        for (number, pair) in pairs.enumerate() {
            let outputs = (convolution.output.blocks() - 2 * pair).min(2);
            let sums = &sums[number * products * of_product..];
            for output in 0..outputs {
                for (number, input) in inputs.clone().enumerate() {
                    for lane in 0..LANES {
                        if let Rows::Tiles(_) = self.rows {
                            let place = (number * LANES + lane) * outputs + output;
                            let mut transformed = [simd.splat(0.0); PRODUCTS];
                            for (product, lanes) in transformed.iter_mut().enumerate() {
                                *lanes = simd.load(&sums[product * of_product + place]);
                            }
                            for (tap, lanes) in untransform_kernel(simd, &transformed).into_iter().enumerate() {
                                simd.store(&mut aside[lane * taps + tap], lanes);
                            }
                        } else {
                            for tap in 0..taps {
                                let place = ((number * taps + tap) * LANES + lane) * outputs + output;
                                aside[lane * taps + tap] = sums[place];
                            }
                        }
                    }
                    for o in 0..LANES {
                        for lane in 0..LANES {
                            let channel = (2 * pair + output) * LANES + o;
                            if let Some(place) = convolution.place(channel, input * LANES + lane) {
                                // SAFETY: each weight belongs to one unit.
                                let target = unsafe { self.target.get(place, taps) };
                                for (value, block) in target.iter_mut().zip(&aside[lane * taps..][..taps]) {
                                    *value = block.0[o];
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Task for Outer<'_> {
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, number: usize) {
        let (unit, group) = (number / self.groups, number % self.groups);
        if self.groups > 1 {
            // SAFETY: each unit and each group has sums of its own.
            let sums = unsafe { self.sums.get(number * self.size, self.size) };
            self.add_up(simd, unit, group, sums);
        } else {
            let mut sums = Buffer::new(self.size);
            self.add_up(simd, unit, group, &mut sums);
            self.write(simd, unit, &sums);
        }
    }
}

/// Adds the sums of the groups of images up in their order, a unit a part.
struct Join<'a, 'b>(&'b Outer<'a>);

impl Task for Join<'_, '_> {
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, unit: usize) {
        let (outer, size) = (self.0, self.0.size);
        // SAFETY: each unit has sums of its own.
        let sums = unsafe { outer.sums.get(unit * outer.groups * size, outer.groups * size) };
        let (total, others) = sums.split_at_mut(size);
        for other in others.chunks_exact(size) {
            for (total, other) in total.iter_mut().zip(other) {
                let sum = simd.add(simd.load(total), simd.load(other));
                simd.store(total, sum);
            }
        }
        outer.write(simd, unit, total);
    }
}
