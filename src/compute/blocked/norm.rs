//! Batch normalisation: statistics of a batch, and the sums that its gradient needs.
//!
//! Each plane is read once while it lies in the cache: its mean, then its squares about that mean; planes are joined in
//! double precision in the order of the images (Chan et al., 1979), whatever thread read them.

use super::{Buffer, Extent, Workers, memory::Parts};
use crate::compute::vector::{Block, LANES, Simd, Task};

/// Mean and variance of each channel over a batch.
#[derive(Debug, Clone)]
pub struct Statistics {
    /// `[C]`, filled up to whole blocks.
    pub mean: Vec<f64>,
    /// `[C]`: the biased one, which normalises.
    pub variance: Vec<f64>,
    /// Values of each channel.
    pub count: usize,
}

/// Two sums over each plane, `[plane][2]`.
struct Sums<'a, 'b> {
    extent: Extent,
    source: &'a [Block],
    /// The gradient and the mean; the source's own mean and squares without.
    other: Option<(&'a [Block], &'b [Block])>,
    target: Parts<'a, Block>,
}

/// What is added up over a plane.
#[derive(Clone, Copy)]
enum Term<'a, L> {
    /// The value itself.
    Value,
    /// Its square about a centre.
    Square(L),
    /// Its distance from a centre times another value.
    Product(L, &'a [Block]),
}

/// The sum over a plane in four interleaved chains: one would wait for each addition.
#[inline(always)]
fn sum<S: Simd>(simd: S, plane: &[Block], term: Term<S::Lanes>) -> S::Lanes {
    let mut chains = [simd.splat(0.0); 4];
    for (place, value) in plane.iter().enumerate() {
        let value = simd.load(value);
        let chain = &mut chains[place % 4];
        *chain = match term {
            Term::Value => simd.add(*chain, value),
            Term::Square(centre) => {
                let away = simd.sub(value, centre);
                simd.mul_add(away, away, *chain)
            }
            Term::Product(centre, other) => simd.mul_add(simd.sub(value, centre), simd.load(&other[place]), *chain),
        };
    }
    simd.add(simd.add(chains[0], chains[1]), simd.add(chains[2], chains[3]))
}

impl Task for Sums<'_, '_> {
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, image: usize) {
        let (blocks, positions) = (self.extent.blocks(), self.extent.positions());
        for block in 0..blocks {
            let plane = image * blocks + block;
            let source = &self.source[plane * positions..][..positions];
            let [first, second] = match self.other {
                None => {
                    let share = simd.splat(1.0 / positions as f32);
                    let mean = simd.mul(sum(simd, source, Term::Value), share);
                    [mean, sum(simd, source, Term::Square(mean))]
                }
                Some((gradient, mean)) => {
                    let gradient = &gradient[plane * positions..][..positions];
                    let mean = simd.load(&mean[block]);
                    let product = Term::Product(mean, gradient);
                    [sum(simd, gradient, Term::Value), sum(simd, source, product)]
                }
            };
            // SAFETY: each image has planes of its own.
            let target = unsafe { self.target.get(2 * plane, 2) };
            simd.store(&mut target[0], first);
            simd.store(&mut target[1], second);
        }
    }
}

impl Statistics {
    /// Those of some images.
    pub fn of(extent: Extent, source: &[Block], images: usize, workers: Workers) -> Self {
        let (blocks, positions) = (extent.blocks(), extent.positions());
        let mut sums = Buffer::new(2 * images * blocks);
        let task = Sums {
            extent,
            source,
            other: None,
            target: Parts::new(&mut sums),
        };
        workers.run(images, &task);
        let mut mean = vec![0.0; blocks * LANES];
        let mut squares = vec![0.0; blocks * LANES];
        for image in 0..images {
            let share = 1.0 / (image + 1) as f64;
            for block in 0..blocks {
                let found = &sums[2 * (image * blocks + block)..][..2];
                for lane in 0..LANES {
                    let channel = block * LANES + lane;
                    let away = f64::from(found[0].0[lane]) - mean[channel];
                    mean[channel] += away * share;
                    squares[channel] += f64::from(found[1].0[lane]) + away * away * (positions * image) as f64 * share;
                }
            }
        }
        let count = images * positions;
        Self {
            mean,
            variance: squares.into_iter().map(|sum| sum / count.max(1) as f64).collect(),
            count,
        }
    }
}

/// `Σ g` and `Σ g·(x − mean)` of each channel, filled up to whole blocks.
pub fn gradient_sums(
    extent: Extent,
    (source, gradient, mean): (&[Block], &[Block], &[Block]),
    images: usize,
    workers: Workers,
) -> [Vec<f64>; 2] {
    let blocks = extent.blocks();
    let mut sums = Buffer::new(2 * images * blocks);
    let task = Sums {
        extent,
        source,
        other: Some((gradient, mean)),
        target: Parts::new(&mut sums),
    };
    workers.run(images, &task);
    let mut totals = [vec![0.0; blocks * LANES], vec![0.0; blocks * LANES]];
    for (number, block) in sums.iter().enumerate() {
        let first = number / 2 % blocks * LANES;
        for (total, value) in totals[number % 2][first..].iter_mut().zip(block.0) {
            *total += f64::from(value);
        }
    }
    totals
}
