//! The one source of randomness: a host generator that can be saved and restored.
//!
//! Order, augmentation, random starts and dropout all draw from it, never from a device's own generator, so the
//! same seed gives the same run on every device.

use rand::{RngExt, SeedableRng, rand_core::Rng as _};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// A seeded generator (ChaCha with 8 rounds) whose position is part of a checkpoint.
#[derive(Debug, Clone)]
pub struct Rng(ChaCha8Rng);

/// A generator's exact position, as written into checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RngState {
    seed: [u8; 32],
    stream: u64,
    /// Decimal, because JSON numbers hold no 128 bits.
    word_position: String,
}

impl Rng {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// An independent generator for one purpose under the same seed: the same `stream` number gives the same
    /// sequence whatever else was drawn.
    pub fn stream(seed: u64, stream: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        Self(generator)
    }

    /// One generator for each of so many examples, so that what an example draws does not depend on its neighbours.
    pub fn each(&mut self, examples: usize) -> Vec<Self> {
        (0..examples).map(|_| Self::new(self.bits())).collect()
    }

    /// The exact position, to restore later.
    pub fn state(&self) -> RngState {
        RngState {
            seed: self.0.get_seed(),
            stream: self.0.get_stream(),
            word_position: self.0.get_word_pos().to_string(),
        }
    }

    /// The generator at a saved position; `None` where the position is not a number.
    pub fn restore(state: &RngState) -> Option<Self> {
        let mut generator = ChaCha8Rng::from_seed(state.seed);
        generator.set_stream(state.stream);
        generator.set_word_pos(state.word_position.parse().ok()?);
        Some(Self(generator))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A value in `0..bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.random_range(0..bound) }
    }

    /// A value uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.0.random::<f32>()
    }

    /// A standard normal value (Box and Muller, 1958).
    pub fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.0.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.0.random::<f64>();
        (radius * angle.cos()) as f32
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f32) -> bool {
        self.0.random::<f32>() < p
    }

    /// Puts `items` into a uniformly random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_generator_continues_the_sequence() {
        let mut rng = Rng::stream(7, 3);
        for _ in 0..5 {
            rng.normal();
        }
        let mut restored = Rng::restore(&rng.state()).unwrap();
        assert_eq!([rng.bits(), rng.bits()], [restored.bits(), restored.bits()]);
    }

    #[test]
    fn normal_values_have_mean_zero_and_variance_one() {
        let mut rng = Rng::new(1);
        let values: Vec<f32> = (0..20_000).map(|_| rng.normal()).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
        assert!(mean.abs() < 0.03, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.05, "variance {variance}");
    }
}
