//! AVX-512F: a block is one register.

use std::arch::x86_64::*;

use super::{Block, Simd, Task};

/// Exists only where the processor has AVX-512F.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The token, where the processor has the instructions and the system saves their registers.
    #[inline]
    pub fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }

    /// Does one part of a task, compiled for these instructions.
    #[inline]
    pub fn run<T: Task>(self, task: &T, number: usize) {
        #[target_feature(enable = "avx512f")]
        fn compiled<T: Task>(token: Avx512, task: &T, number: usize) {
            task.part(token, number);
        }
        // SAFETY: the token exists, so the processor has AVX-512F.
        unsafe { compiled(self, task, number) }
    }
}

// SAFETY of the blocks below: the token exists, so the processor has AVX-512F; references are to whole, aligned blocks.
impl Simd for Avx512 {
    type Lanes = __m512;
    const ROWS: usize = 12;
    const BLOCKS: usize = 2;
    const OUTER_ROWS: usize = 8;

    #[inline(always)]
    fn load(self, from: &Block) -> Self::Lanes {
        unsafe { _mm512_load_ps(from.0.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, to: &mut Block, lanes: Self::Lanes) {
        unsafe { _mm512_store_ps(to.0.as_mut_ptr(), lanes) }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Lanes {
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn greater(self, a: Self::Lanes, b: Self::Lanes) -> u16 {
        unsafe { _mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b) }
    }

    #[inline(always)]
    fn select(self, bits: u16, lanes: Self::Lanes) -> Self::Lanes {
        unsafe { _mm512_maskz_mov_ps(bits, lanes) }
    }
}
