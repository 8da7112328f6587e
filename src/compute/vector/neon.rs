//! NEON, which every 64-bit Arm processor has: a block is four registers.

use std::arch::aarch64::*;

use super::{Block, Simd, Task};

/// Every 64-bit Arm processor has it.
#[derive(Debug, Clone, Copy)]
pub struct Neon(());

impl Neon {
    /// The token.
    #[inline]
    pub fn new() -> Self {
        Self(())
    }

    /// Does one part of a task.
    #[inline]
    pub fn run<T: Task>(self, task: &T, number: usize) {
        task.part(self, number);
    }
}

/// The same operation on each of the four registers.
macro_rules! quarters {
    ($operation:ident, $($operand:expr),+) => {
        // SAFETY: NEON is part of the architecture.
        unsafe { [0, 1, 2, 3].map(|quarter| $operation($($operand[quarter]),+)) }
    };
}

/// All bits of the lanes whose bit is set.
#[inline(always)]
fn mask(bits: u16) -> [uint32x4_t; 4] {
    // SAFETY: NEON is part of the architecture.
    unsafe {
        let lane = vld1q_u32([1, 2, 4, 8].as_ptr());
        [0, 4, 8, 12].map(|shift| vtstq_u32(vdupq_n_u32(u32::from(bits >> shift)), lane))
    }
}

// SAFETY of the blocks below: NEON is part of the architecture; references are to whole, aligned blocks.
impl Simd for Neon {
    type Lanes = [float32x4_t; 4];
    const ROWS: usize = 6;
    const BLOCKS: usize = 1;
    const OUTER_ROWS: usize = 4;

    #[inline(always)]
    fn load(self, from: &Block) -> Self::Lanes {
        [0, 4, 8, 12].map(|first| unsafe { vld1q_f32(from.0.as_ptr().add(first)) })
    }

    #[inline(always)]
    fn store(self, to: &mut Block, lanes: Self::Lanes) {
        for (quarter, register) in lanes.into_iter().enumerate() {
            unsafe { vst1q_f32(to.0.as_mut_ptr().add(4 * quarter), register) }
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Lanes {
        unsafe { [vdupq_n_f32(value); 4] }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        quarters!(vfmaq_f32, c, a, b)
    }

    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        quarters!(vaddq_f32, a, b)
    }

    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        quarters!(vsubq_f32, a, b)
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        quarters!(vmulq_f32, a, b)
    }

    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        let greater = quarters!(vcgtq_f32, a, b);
        quarters!(vbslq_f32, greater, a, b)
    }

    #[inline(always)]
    fn greater(self, a: Self::Lanes, b: Self::Lanes) -> u16 {
        let mut bits = 0;
        let greater = quarters!(vcgtq_f32, a, b);
        for (quarter, lanes) in greater.into_iter().enumerate() {
            let lane = unsafe { vld1q_u32([1, 2, 4, 8].as_ptr()) };
            let set = unsafe { vaddvq_u32(vandq_u32(lanes, lane)) };
            bits |= (set as u16) << (4 * quarter);
        }
        bits
    }

    #[inline(always)]
    fn select(self, bits: u16, lanes: Self::Lanes) -> Self::Lanes {
        let mask = mask(bits);
        let raw = quarters!(vreinterpretq_u32_f32, lanes);
        let kept = quarters!(vandq_u32, raw, mask);
        quarters!(vreinterpretq_f32_u32, kept)
    }
}
