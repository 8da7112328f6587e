//! AVX2 with FMA: a block is two registers.

use std::arch::x86_64::*;

use super::{Block, Simd, Task};

/// Exists only where the processor has AVX2 and FMA.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The token, where the processor has the instructions.
    #[inline]
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }

    /// Does one part of a task, compiled for these instructions.
    #[inline]
    pub fn run<T: Task>(self, task: &T, number: usize) {
        #[target_feature(enable = "avx2,fma")]
        fn compiled<T: Task>(token: Avx2, task: &T, number: usize) {
            task.part(token, number);
        }
        // SAFETY: the token exists, so the processor has AVX2 and FMA.
        unsafe { compiled(self, task, number) }
    }
}

/// All bits of the lanes whose bit is set.
#[inline(always)]
fn mask(bits: u16) -> [__m256; 2] {
    // SAFETY: only called with the token at hand.
    unsafe {
        let lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        let whole = |bits: i32| {
            let chosen = _mm256_and_si256(_mm256_set1_epi32(bits), lane);
            _mm256_castsi256_ps(_mm256_cmpeq_epi32(chosen, lane))
        };
        [whole(i32::from(bits & 0xFF)), whole(i32::from(bits >> 8))]
    }
}

// SAFETY of the blocks below: the token exists, so the processor has AVX2 and FMA; references are to whole, aligned
// blocks.
impl Simd for Avx2 {
    type Lanes = [__m256; 2];
    const ROWS: usize = 6;
    const BLOCKS: usize = 1;
    const OUTER_ROWS: usize = 4;

    #[inline(always)]
    fn load(self, from: &Block) -> Self::Lanes {
        unsafe {
            let start = from.0.as_ptr();
            [_mm256_load_ps(start), _mm256_load_ps(start.add(8))]
        }
    }

    #[inline(always)]
    fn store(self, to: &mut Block, lanes: Self::Lanes) {
        unsafe {
            let start = to.0.as_mut_ptr();
            _mm256_store_ps(start, lanes[0]);
            _mm256_store_ps(start.add(8), lanes[1]);
        }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> Self::Lanes {
        unsafe { [_mm256_set1_ps(value); 2] }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])] }
    }

    #[inline(always)]
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes {
        unsafe { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
    }

    #[inline(always)]
    fn greater(self, a: Self::Lanes, b: Self::Lanes) -> u16 {
        unsafe {
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a[0], b[0]));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GT_OQ>(a[1], b[1]));
            (low | high << 8) as u16
        }
    }

    #[inline(always)]
    fn select(self, bits: u16, lanes: Self::Lanes) -> Self::Lanes {
        let mask = mask(bits);
        unsafe { [_mm256_and_ps(mask[0], lanes[0]), _mm256_and_ps(mask[1], lanes[1])] }
    }
}
