//! Sixteen lanes of f32, whatever the processor's registers are.
//!
//! A [`Block`] is the unit in which activations and packed weights lie in memory. [`Simd`] is what a kernel needs of a
//! processor; its implementations are tokens that exist only where the processor has the instructions. A kernel is a
//! [`Task`]: one generic body, compiled once for each instruction set, and [`Instructions::run`] chooses among them.
//! A vector of sixteen is one register, two or four, and every lane does the same operations in the same order, so a
//! result is the same to the bit on every processor with a fused multiply-add.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;

use std::sync::OnceLock;

/// Lanes of a block: channels that lie together.
pub const LANES: usize = 16;

/// Sixteen values, aligned to a cache line.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub struct Block(pub [f32; LANES]);

impl Block {
    /// Zeros.
    pub const ZERO: Self = Self([0.0; LANES]);
}

/// The operations of one instruction set on sixteen lanes.
///
/// An implementation is a token: whoever holds one runs on a processor that has the instructions.
pub trait Simd: Copy {
    /// Sixteen lanes in registers.
    type Lanes: Copy;
    /// Rows of the register tile of a product.
    const ROWS: usize;
    /// Blocks of outputs of the register tile of a product: 1 or 2.
    const BLOCKS: usize;
    /// Rows of the register tile of a sum of outer products: a divisor of 16.
    const OUTER_ROWS: usize;

    /// Reads a block.
    fn load(self, from: &Block) -> Self::Lanes;
    /// Writes a block.
    fn store(self, to: &mut Block, lanes: Self::Lanes);
    /// The same value in every lane.
    fn splat(self, value: f32) -> Self::Lanes;
    /// `a·b + c`, rounded once.
    fn mul_add(self, a: Self::Lanes, b: Self::Lanes, c: Self::Lanes) -> Self::Lanes;
    /// `a + b`.
    fn add(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a − b`.
    fn sub(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `a·b`.
    fn mul(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// `b` where `a > b` does not hold: so a NaN in `b` stays.
    fn max(self, a: Self::Lanes, b: Self::Lanes) -> Self::Lanes;
    /// One bit for each lane in which `a > b`, the first lane's lowest.
    fn greater(self, a: Self::Lanes, b: Self::Lanes) -> u16;
    /// The lanes whose bit is set; zero in the others.
    fn select(self, bits: u16, lanes: Self::Lanes) -> Self::Lanes;
}

/// Work that any thread may do, one part at a time.
pub trait Task: Sync {
    /// Does part `number`. Must be `#[inline(always)]`, like everything it calls, or it is compiled without the
    /// instructions.
    fn part<S: Simd>(&self, simd: S, number: usize);
}

/// The instruction set that kernels run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// x86-64 with AVX-512F.
    Avx512,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// 64-bit Arm.
    Neon,
    /// Any processor. Without a fused multiply-add in hardware each product is rounded by itself, so results differ in
    /// their last digits from those of the others.
    Plain,
}

impl Instructions {
    /// What this processor runs, found out once; the environment variable `MARTLET_INSTRUCTIONS` (`avx512`, `avx2`,
    /// `neon`, `plain`) asks for less.
    pub fn of_this_machine() -> Self {
        static FOUND: OnceLock<Instructions> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let wished = std::env::var("MARTLET_INSTRUCTIONS").ok();
            Self::available()
                .find(|set| wished.as_ref().is_none_or(|wish| *wish == set.name()))
                .unwrap_or(Self::Plain)
        })
    }

    /// Everything that this processor runs, fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        [Self::Avx512, Self::Avx2, Self::Neon, Self::Plain]
            .into_iter()
            .filter(|set| match set {
                #[cfg(target_arch = "x86_64")]
                Self::Avx512 => avx512::Avx512::detect().is_some(),
                #[cfg(target_arch = "x86_64")]
                Self::Avx2 => avx2::Avx2::detect().is_some(),
                #[cfg(target_arch = "aarch64")]
                Self::Neon => true,
                Self::Plain => true,
                #[allow(unreachable_patterns)]
                _ => false,
            })
    }

    /// `avx512`, `avx2`, `neon` or `plain`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Plain => "plain",
        }
    }

    /// Does one part of a task.
    pub fn run<T: Task>(self, task: &T, number: usize) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                if let Some(token) = avx512::Avx512::detect() {
                    return token.run(task, number);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                if let Some(token) = avx2::Avx2::detect() {
                    return token.run(task, number);
                }
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => return neon::Neon::new().run(task, number),
            _ => {}
        }
        task.part(plain::Plain, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation on lanes that tell lanes and operands apart, as raw bits.
    struct Everything {
        results: std::sync::Mutex<Vec<u32>>,
    }

    impl Task for Everything {
        #[inline(always)]
        fn part<S: Simd>(&self, simd: S, _: usize) {
            let lanes = |start: f32, step: f32| {
                let mut block = Block::ZERO;
                for (lane, value) in block.0.iter_mut().enumerate() {
                    *value = start + step * lane as f32;
                }
                simd.load(&block)
            };
            let (a, b, c) = (lanes(-1.3, 0.37), lanes(0.9, -0.21), lanes(1e-3, 7.7));
            let nan = simd.splat(f32::NAN);
            let found = [
                a,
                simd.splat(0.1),
                simd.mul_add(a, b, c),
                simd.add(a, b),
                simd.sub(a, b),
                simd.mul(a, b),
                simd.max(a, b),
                simd.max(simd.splat(0.0), nan),
                simd.select(0b1010_0110_0000_1111, c),
                simd.select(simd.greater(a, b), c),
            ];
            let mut results = self.results.lock().unwrap();
            for lanes in found {
                let mut block = Block::ZERO;
                simd.store(&mut block, lanes);
                results.extend(block.0.map(f32::to_bits));
            }
            results.push(simd.greater(a, b).into());
            results.push(simd.greater(nan, b).into());
        }
    }

    fn results(set: Instructions) -> Vec<u32> {
        let task = Everything {
            results: Default::default(),
        };
        set.run(&task, 0);
        task.results.into_inner().unwrap()
    }

    #[test]
    fn every_instruction_set_says_the_same() {
        // Where the compiler knows no fused multiply-add the plain form rounds twice, in that operation alone.
        let fused = 2 * LANES..3 * LANES;
        let expected = results(Instructions::Plain);
        for set in Instructions::available() {
            let found = results(set);
            for (place, (ours, plain)) in found.iter().zip(&expected).enumerate() {
                let (ours, plain) = (f32::from_bits(*ours), f32::from_bits(*plain));
                if fused.contains(&place) {
                    assert!((ours - plain).abs() <= 1e-5, "{set:?} at {place}: {ours} {plain}");
                } else {
                    assert_eq!(ours.to_bits(), plain.to_bits(), "{set:?} at {place}");
                }
            }
        }
    }
}
