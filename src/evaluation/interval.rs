//! How far a measured share may be from the true one.

use serde::{Deserialize, Serialize};

/// The two-sided 95 % quantile of the standard normal distribution.
const QUANTILE: f64 = 1.959_963_984_540_054;

/// A 95 % confidence interval of a share, both ends in `[0, 1]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// Wilson's score interval of `successes` among `trials`, at 95 %:
    /// `(p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n)`; `[0, 1]` where there was no trial.
    ///
    /// Its mean coverage is close to 95 % down to small n and at shares near 0 and 1, where the textbook
    /// `p ± 2·√(p(1 − p)/n)` collapses to a point and the exact interval of Clopper and Pearson is wider than asked.
    ///
    /// # Source
    /// Wilson 1927; Brown, Cai and DasGupta 2001, section 3.1.1, equation 4.
    pub fn wilson(successes: usize, trials: usize) -> Self {
        if trials == 0 {
            return Self { low: 0.0, high: 1.0 };
        }
        let n = trials as f64;
        let share = successes as f64 / n;
        let squared = QUANTILE * QUANTILE;
        let centre = share + squared / (2.0 * n);
        let half = QUANTILE * (share * (1.0 - share) / n + squared / (4.0 * n * n)).sqrt();
        let scale = 1.0 + squared / n;
        // At a share of 0 or 1 the end is exact in the formula, and rounding must not move it past the share.
        Self {
            low: ((centre - half) / scale).clamp(0.0, share),
            high: ((centre + half) / scale).clamp(share, 1.0),
        }
    }

    /// Half the distance between the ends.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

impl std::fmt::Display for Interval {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} to {:.1} %", 100.0 * self.low, 100.0 * self.high)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_intervals_agree_with_scipy() {
        // scipy.stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
        for (successes, trials, low, high) in [
            (0, 1, 0.000000000000, 0.793450685623),
            (0, 64, 0.000000000000, 0.056624059793),
            (64, 64, 0.943375940207, 1.000000000000),
            (3, 10, 0.107791267406, 0.603221852539),
            (8, 10, 0.490162471537, 0.943317848546),
            (417, 500, 0.798864683803, 0.864042256769),
            (980, 1000, 0.969309994770, 0.987016317084),
            (5283, 10000, 0.518506895356, 0.538071370336),
        ] {
            let interval = Interval::wilson(successes, trials);
            assert!(
                (interval.low - low).abs() < 1e-9,
                "{successes} of {trials}: low {}",
                interval.low
            );
            assert!(
                (interval.high - high).abs() < 1e-9,
                "{successes} of {trials}: high {}",
                interval.high
            );
        }
    }

    #[test]
    fn no_trial_says_nothing() {
        assert_eq!(Interval::wilson(0, 0), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn more_trials_narrow_the_interval_round_the_share() {
        let mut last = f64::INFINITY;
        for trials in [10, 100, 1_000, 10_000] {
            let interval = Interval::wilson(trials * 7 / 10, trials);
            assert!(interval.low < 0.7 && 0.7 < interval.high);
            assert!(interval.half_width() < last);
            last = interval.half_width();
        }
    }
}
