//! What is done position by position: pools, means, dropout's factors, sums and ReLUs that stand alone.

use super::{Epilogue, Extent, Workers, memory::Parts};
use crate::compute::vector::{Block, Simd, Task};

/// The results of one plane (a block of channels of an image), value by value, each through the epilogue.
///
/// Every element-wise operation here is one of these and its walk over planes.
trait Plane: Sync {
    fn value<S: Simd>(&self, simd: S, plane: Coordinates, place: usize) -> S::Lanes;
}

/// Which plane.
#[derive(Clone, Copy)]
struct Coordinates {
    /// Counted through all images and blocks.
    plane: usize,
    /// The block of channels.
    block: usize,
    /// Its first place.
    first: usize,
}

struct Walk<'a, P> {
    extent: Extent,
    images: usize,
    target: Parts<'a, Block>,
    epilogue: &'a Epilogue<'a>,
    operation: P,
}

impl<P: Plane> Walk<'_, P> {
    fn run(&self, workers: Workers) {
        assert!(
            self.target.len() >= self.images * self.extent.image(),
            "too small a target"
        );
        workers.run(self.images, self);
    }
}

impl<P: Plane> Task for Walk<'_, P> {
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, image: usize) {
        let (blocks, positions) = (self.extent.blocks(), self.extent.positions());
        for block in 0..blocks {
            let plane = image * blocks + block;
            let first = plane * positions;
            // SAFETY: each image has places of its own.
            let target = unsafe { self.target.get(first, positions) };
            let at = Coordinates { plane, block, first };
            let epilogue = self.epilogue.of(simd, block);
            for (place, target) in target.iter_mut().enumerate() {
                let lanes = self.operation.value(simd, at, place);
                simd.store(target, epilogue.apply(first + place, lanes));
            }
        }
    }
}

/// The epilogue alone.
pub fn finish(
    extent: Extent,
    source: &[Block],
    images: usize,
    target: &mut [Block],
    epilogue: &Epilogue,
    workers: Workers,
) {
    struct Copy<'a>(&'a [Block]);
    impl Plane for Copy<'_> {
        #[inline(always)]
        fn value<S: Simd>(&self, simd: S, at: Coordinates, place: usize) -> S::Lanes {
            simd.load(&self.0[at.first + place])
        }
    }
    let walk = Walk {
        extent,
        images,
        target: Parts::new(target),
        epilogue,
        operation: Copy(source),
    };
    walk.run(workers);
}

/// Each value times its factor: dropout, both ways.
pub fn scale_by(
    extent: Extent,
    (source, factors): (&[Block], &[Block]),
    images: usize,
    target: &mut [Block],
    epilogue: &Epilogue,
    workers: Workers,
) {
    struct Scale<'a>(&'a [Block], &'a [Block]);
    impl Plane for Scale<'_> {
        #[inline(always)]
        fn value<S: Simd>(&self, simd: S, at: Coordinates, place: usize) -> S::Lanes {
            let place = at.first + place;
            simd.mul(simd.load(&self.0[place]), simd.load(&self.1[place]))
        }
    }
    let walk = Walk {
        extent,
        images,
        target: Parts::new(target),
        epilogue,
        operation: Scale(source, factors),
    };
    walk.run(workers);
}

/// `a·x + b·(y − m) + c` with numbers of each channel: a normalisation's map (without `y`) and its gradient.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// a.
    pub scale: &'a [Block],
    /// c.
    pub shift: &'a [Block],
    /// b, m and y.
    pub other: Option<(&'a [Block], &'a [Block], &'a [Block])>,
}

/// The affine map of each channel.
pub fn affine(
    extent: Extent,
    (source, map): (&[Block], Affine),
    images: usize,
    target: &mut [Block],
    epilogue: &Epilogue,
    workers: Workers,
) {
    struct Mapped<'a>(&'a [Block], Affine<'a>);
    impl Plane for Mapped<'_> {
        #[inline(always)]
        fn value<S: Simd>(&self, simd: S, at: Coordinates, place: usize) -> S::Lanes {
            let Affine { scale, shift, other } = self.1;
            let mut rest = simd.load(&shift[at.block]);
            if let Some((factor, centre, other)) = other {
                let away = simd.sub(simd.load(&other[at.first + place]), simd.load(&centre[at.block]));
                rest = simd.mul_add(simd.load(&factor[at.block]), away, rest);
            }
            simd.mul_add(simd.load(&scale[at.block]), simd.load(&self.0[at.first + place]), rest)
        }
    }
    let walk = Walk {
        extent,
        images,
        target: Parts::new(target),
        epilogue,
        operation: Mapped(source, map),
    };
    walk.run(workers);
}

/// The highest of each 2×2 block of places; an odd last row or column is left out. `winners` notes which was taken, the
/// first of equals, for every place of the source.
pub fn pool(
    extent: Extent,
    source: &[Block],
    images: usize,
    target: &mut [Block],
    winners: Option<Parts<u16>>,
    workers: Workers,
) {
    struct Pool<'a> {
        extent: Extent,
        source: &'a [Block],
        target: Parts<'a, Block>,
        winners: Option<Parts<'a, u16>>,
    }
    impl Task for Pool<'_> {
        #[inline(always)]
        fn part<S: Simd>(&self, simd: S, image: usize) {
            let Extent { height, width, .. } = self.extent;
            let (blocks, area) = (self.extent.blocks(), height * width);
            let [rows, columns] = [height / 2, width / 2];
            for plane in image * blocks..(image + 1) * blocks {
                let source = &self.source[plane * area..][..area];
                // SAFETY: each image has planes of its own, here and below.
                let target = unsafe { self.target.get(plane * rows * columns, rows * columns) };
                let mut winners = self
                    .winners
                    .as_ref()
                    .map(|winners| unsafe { winners.get(plane * area, area) });
                if let Some(winners) = &mut winners {
                    winners.fill(0);
                }
                for y in 0..rows {
                    for x in 0..columns {
                        let corner = 2 * y * width + 2 * x;
                        let places = [corner, corner + 1, corner + width, corner + width + 1];
                        let mut highest = simd.load(&source[places[0]]);
                        let mut bits = [u16::MAX, 0, 0, 0];
                        for number in 1..4 {
                            let other = simd.load(&source[places[number]]);
                            let better = simd.greater(other, highest);
                            bits[number] = better;
                            for earlier in bits.iter_mut().take(number) {
                                *earlier &= !better;
                            }
                            // A NaN stays, whichever of the two it is.
                            highest = simd.max(other, highest);
                        }
                        simd.store(&mut target[y * columns + x], highest);
                        if let Some(winners) = &mut winners {
                            for (place, bits) in places.into_iter().zip(bits) {
                                winners[place] = bits;
                            }
                        }
                    }
                }
            }
        }
    }
    let pooled = Extent {
        height: extent.height / 2,
        width: extent.width / 2,
        ..extent
    };
    assert!(target.len() >= images * pooled.image() && source.len() >= images * extent.image());
    let task = Pool {
        extent,
        source,
        target: Parts::new(target),
        winners,
    };
    workers.run(images, &task);
}

/// The gradient of what [`pool`] read: each result's goes to the place that it was taken from.
pub fn pool_back(
    extent: Extent,
    (gradient, winners): (&[Block], &[u16]),
    images: usize,
    target: &mut [Block],
    epilogue: &Epilogue,
    workers: Workers,
) {
    struct Back<'a> {
        extent: Extent,
        gradient: &'a [Block],
        winners: &'a [u16],
    }
    impl Plane for Back<'_> {
        #[inline(always)]
        fn value<S: Simd>(&self, simd: S, at: Coordinates, place: usize) -> S::Lanes {
            let Extent { height, width, .. } = self.extent;
            let [rows, columns] = [height / 2, width / 2];
            let (y, x) = (place / width / 2, place % width / 2);
            if y < rows && x < columns {
                let lanes = simd.load(&self.gradient[(at.plane * rows + y) * columns + x]);
                simd.select(self.winners[at.first + place], lanes)
            } else {
                simd.splat(0.0)
            }
        }
    }
    let walk = Walk {
        extent,
        images,
        target: Parts::new(target),
        epilogue,
        operation: Back {
            extent,
            gradient,
            winners,
        },
    };
    walk.run(workers);
}

/// The mean over each channel's places: one place is left.
pub fn average(extent: Extent, source: &[Block], images: usize, target: &mut [Block], workers: Workers) {
    struct Mean<'a>(Extent, &'a [Block]);
    impl Plane for Mean<'_> {
        #[inline(always)]
        fn value<S: Simd>(&self, simd: S, at: Coordinates, _: usize) -> S::Lanes {
            let positions = self.0.positions();
            let mut sum = simd.splat(0.0);
            for value in &self.1[at.plane * positions..][..positions] {
                sum = simd.add(sum, simd.load(value));
            }
            simd.mul(sum, simd.splat(1.0 / positions as f32))
        }
    }
    let walk = Walk {
        extent: Extent {
            height: 1,
            width: 1,
            ..extent
        },
        images,
        target: Parts::new(target),
        epilogue: &Epilogue::default(),
        operation: Mean(extent, source),
    };
    walk.run(workers);
}

/// The gradient of what [`average`] read.
pub fn average_back(
    extent: Extent,
    gradient: &[Block],
    images: usize,
    target: &mut [Block],
    epilogue: &Epilogue,
    workers: Workers,
) {
    struct Back<'a>(Extent, &'a [Block]);
    impl Plane for Back<'_> {
        #[inline(always)]
        fn value<S: Simd>(&self, simd: S, at: Coordinates, _: usize) -> S::Lanes {
            let share = 1.0 / self.0.positions() as f32;
            simd.mul(simd.load(&self.1[at.plane]), simd.splat(share))
        }
    }
    let walk = Walk {
        extent,
        images,
        target: Parts::new(target),
        epilogue,
        operation: Back(extent, gradient),
    };
    walk.run(workers);
}
