//! Rows times packed weights: results and gradients of images.

use std::ops::Range;

use super::{
    Buffer, Convolution, Epilogue, Extent, Parts, Purpose, Workers,
    convolution::BlockEpilogue,
    direct::{MOST_ROWS, Spot, Spots},
    product::multiply,
    rows::{Rows, apart},
    winograd::{PRODUCTS, Tiles, transform_kernel},
};
use crate::compute::vector::{Block, LANES, Simd, Task};

/// Rows of a part: enough to use packed weights well, few enough for what is packed to stay in the cache.
const ROWS: usize = 48;
/// Blocks of packed rows of a part: 1 MiB.
const PANEL: usize = 1 << 14;
/// Blocks of packed weights above which they are read as seldom as can be: 8 MiB.
const HEAVY: usize = 1 << 17;

/// Packed weights and the products that they are for.
#[derive(Debug)]
pub struct Packed {
    pub(super) passes: Vec<Pass>,
    pub(super) weights: Buffer,
}

/// One product: rows from everywhere in the input to every `step`-th place of the target.
#[derive(Debug)]
pub(super) struct Pass {
    pub rows: Rows,
    pub target: Extent,
    pub step: usize,
    pub offset: [usize; 2],
    pub weights: Range<usize>,
    /// The taps of the kernel that it takes.
    pub taps: Vec<usize>,
}

impl Packed {
    /// Carries the pass out on the blocks of `source`; `target` is written whole.
    pub fn run(&self, source: &[Block], images: usize, target: &mut [Block], epilogue: &Epilogue, workers: Workers) {
        let target = Parts::new(target);
        for pass in &self.passes {
            assert!(target.len() >= images * pass.target.image(), "too small a target");
            let rows = images * pass.rows.per_image();
            let panel = pass.rows.products() * pass.rows.depth().max(1);
            // Weights that no cache near a core holds are better read seldom: many rows, and each thread its own outputs.
            let heavy = pass.weights.len() > HEAVY;
            let most = if heavy {
                MOST_ROWS
            } else {
                (PANEL / panel).clamp(ROWS / 2, ROWS)
            };
            let (threads, pairs) = (workers.threads(), pass.target.blocks().div_ceil(2));
            let mut parts = rows.div_ceil(most).max(1);
            if !heavy {
                // As many parts as there are threads, or a multiple.
                parts = parts.next_multiple_of(threads).min(rows.max(1));
            }
            let per_part = rows.div_ceil(parts).max(1);
            let parts = rows.div_ceil(per_part);
            let even = parts.is_multiple_of(threads) || parts >= 4 * threads;
            let splits = if even { 1 } else { threads.min(pairs) };
            let task = Multiply {
                pass,
                weights: &self.weights[pass.weights.clone()],
                source,
                target,
                epilogue,
                rows,
                per_part,
                pairs,
                splits,
            };
            workers.run(parts * splits, &task);
        }
    }
}

/// Packs the weights of one pass, two blocks of outputs a part.
pub(super) struct Pack<'a> {
    pub convolution: &'a Convolution,
    pub purpose: Purpose,
    pub pass: &'a Pass,
    pub weights: &'a [f32],
    pub scale: Option<&'a [f32]>,
    pub packed: Parts<'a, Block>,
}

impl Pack<'_> {
    /// The weights of a block of the rows' channels and a block of outputs, `[lane][tap]`, zero where either is filled up.
    #[inline(always)]
    fn gather(&self, input: usize, output: usize, aside: &mut [Block]) {
        let (convolution, taps) = (self.convolution, self.pass.taps.len());
        aside.fill(Block::ZERO);
        let (outputs, inputs) = match self.purpose {
            Purpose::Forward => (output * LANES, input * LANES),
            Purpose::ImageGradient => (input * LANES, output * LANES),
        };
        for o in 0..LANES {
            let scale = match self.scale {
                Some(scale) if outputs + o < scale.len() => scale[outputs + o],
                _ => 1.0,
            };
            for i in 0..LANES {
                let Some(place) = convolution.place(outputs + o, inputs + i) else {
                    continue;
                };
                let weights = &self.weights[place..][..convolution.taps()];
                let (lane, column) = match self.purpose {
                    Purpose::Forward => (i, o),
                    Purpose::ImageGradient => (o, i),
                };
                for (target, tap) in aside[lane * taps..][..taps].iter_mut().zip(&self.pass.taps) {
                    target.0[column] = weights[*tap] * scale;
                }
            }
        }
    }
}

impl Task for Pack<'_> {
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, pair: usize) {
        let rows = &self.pass.rows;
        let (blocks, taps) = (self.pass.target.blocks(), self.pass.taps.len());
        let outputs = (blocks - 2 * pair).min(2);
        let inputs = rows.blocks();
        // SAFETY: each pair has a range of its own.
        let packed = unsafe { self.packed.get(rows.pair(pair), rows.packed(outputs)) };
        let mut aside = Buffer::new(LANES * taps);
        for output in 0..outputs {
            for input in 0..inputs {
                self.gather(input, 2 * pair + output, &mut aside);
                for lane in 0..LANES {
                    let found = &aside[lane * taps..][..taps];
                    if let Rows::Tiles(_) = rows {
                        let mut kernel = [simd.splat(0.0); 9];
                        for (lanes, value) in kernel.iter_mut().zip(found) {
                            *lanes = simd.load(value);
                        }
                        let place = (input * LANES + lane) * outputs + output;
                        for (product, lanes) in transform_kernel(simd, &kernel).into_iter().enumerate() {
                            simd.store(&mut packed[product * rows.product(outputs) + place], lanes);
                        }
                    } else {
                        for (tap, value) in found.iter().enumerate() {
                            packed[((input * taps + tap) * LANES + lane) * outputs + output] = *value;
                        }
                    }
                }
            }
        }
    }
}

/// Rows times weights, some rows and some blocks of outputs a part.
struct Multiply<'a> {
    pass: &'a Pass,
    weights: &'a [Block],
    source: &'a [Block],
    target: Parts<'a, Block>,
    epilogue: &'a Epilogue<'a>,
    rows: usize,
    per_part: usize,
    pairs: usize,
    splits: usize,
}

impl Multiply<'_> {
    /// Stores a result at `place`.
    #[inline(always)]
    fn put<S: Simd>(&self, simd: S, epilogue: &BlockEpilogue<S>, place: usize, lanes: S::Lanes) {
        // SAFETY: a place belongs to one row and one block of outputs, and these to one part.
        simd.store(
            unsafe { &mut self.target.get(place, 1)[0] },
            epilogue.apply(place, lanes),
        );
    }
}

impl Task for Multiply<'_> {
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, number: usize) {
        let (rows, target) = (&self.pass.rows, self.pass.target);
        let (products, depth, blocks) = (rows.products(), rows.depth(), target.blocks());
        let first = number / self.splits * self.per_part;
        let count = self.per_part.min(self.rows - first);
        let spots = Spots::new(rows.grid(), first, count);
        let (apart, results_apart) = (apart(depth * count), apart(2 * count));
        let mut panels = Buffer::new(products * apart);
        rows.pack(simd, self.source, 0..rows.blocks(), &spots, (&mut panels, apart));
        let mut results = Buffer::new(products * results_apart);
        let split = number % self.splits;
        for pair in self.pairs * split / self.splits..self.pairs * (split + 1) / self.splits {
            let outputs = (blocks - 2 * pair).min(2);
            let weights = &self.weights[rows.pair(pair)..];
            for product in 0..products {
                multiply(
                    simd,
                    (&panels[product * apart..], count),
                    depth,
                    (&weights[product * rows.product(outputs)..], outputs),
                    &mut results[product * results_apart..],
                );
            }
            for output in 0..outputs {
                let block = 2 * pair + output;
                let epilogue = &self.epilogue.of(simd, block);
                for (row, &Spot { image, y, x }) in spots.get().iter().enumerate() {
                    let plane = (image * blocks + block) * target.positions();
                    let results = &results[output * count + row..];
                    if products == PRODUCTS {
                        let values = Tiles::gather(simd, results, results_apart);
                        let (y, x) = (2 * y, 2 * x);
                        let place = plane + y * target.width + x;
                        self.put(simd, epilogue, place, values[0][0]);
                        if x + 1 < target.width {
                            self.put(simd, epilogue, place + 1, values[0][1]);
                        }
                        if y + 1 < target.height {
                            self.put(simd, epilogue, place + target.width, values[1][0]);
                            if x + 1 < target.width {
                                self.put(simd, epilogue, place + target.width + 1, values[1][1]);
                            }
                        }
                    } else {
                        let [top, left] = self.pass.offset;
                        let (y, x) = (y * self.pass.step + top, x * self.pass.step + left);
                        self.put(simd, epilogue, plane + y * target.width + x, simd.load(&results[0]));
                    }
                }
            }
        }
    }
}
