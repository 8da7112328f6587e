//! Any processor: the compiler makes of it what the target has.

use super::{Block, LANES, Simd};

/// Needs nothing.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

#[inline(always)]
fn each(a: [f32; LANES], b: [f32; LANES], operation: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    let mut result = a;
    for (value, other) in result.iter_mut().zip(b) {
        *value = operation(*value, other);
    }
    result
}

impl Simd for Plain {
    type Lanes = [f32; LANES];
    const ROWS: usize = 2;
    const BLOCKS: usize = 1;
    const OUTER_ROWS: usize = 2;

    #[inline(always)]
    fn load(self, from: &Block) -> Self::Lanes {
        from.0
    }

    #[inline(always)]
    fn store(self, to: &mut Block, lanes: Self::Lanes) {
        to.0 = lanes;
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Lanes {
        [value; LANES]
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        let mut result = c;
        for (lane, value) in result.iter_mut().enumerate() {
            // Without the instruction, a fused multiply-add is a function call of a hundred cycles.
            *value = if cfg!(target_feature = "fma") || cfg!(target_arch = "aarch64") {
                a[lane].mul_add(b[lane], *value)
            } else {
                a[lane] * b[lane] + *value
            };
        }
        result
    }

    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        each(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn greater(self, a: Self::Lanes, b: Self::Lanes) -> u16 {
        let mut bits = 0;
        for lane in 0..LANES {
            bits |= u16::from(a[lane] > b[lane]) << lane;
        }
        bits
    }

    #[inline(always)]
    fn select(self, bits: u16, lanes: Self::Lanes) -> Self::Lanes {
        let mut result = lanes;
        for (lane, value) in result.iter_mut().enumerate() {
            if bits >> lane & 1 == 0 {
                *value = 0.0;
            }
        }
        result
    }
}
