//! How the learning rate moves over a run.

use serde::{Deserialize, Serialize};

use super::RecipeError;

/// The factor on the learning rate, as a function of the moment of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Schedule {
    /// 1 throughout.
    Constant,
    /// Multiplied by `gamma` from the beginning of each milestone on. Epochs count from 1, as in the released code: a
    /// milestone of 75 lowers the rate before the 75th epoch.
    MultiStep {
        /// The epochs at whose beginning the rate falls.
        milestones: Vec<usize>,
        /// The factor by which it falls.
        gamma: f64,
    },
    /// `(1 + cos(π·t)) / 2`, t the share of the run that is done.
    Cosine,
    /// Linear from 0 to 1 at `peak` of the run, then linear to 0 (Smith, 2017).
    Cyclic {
        /// The share of the run at which the rate is highest.
        peak: f64,
    },
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Schedule::Constant => f.write_str("constant"),
            Schedule::MultiStep { milestones, gamma } => {
                let epochs: Vec<String> = milestones.iter().map(usize::to_string).collect();
                write!(f, "× {gamma} at {}", epochs.join(", "))
            }
            Schedule::Cosine => f.write_str("cosine"),
            Schedule::Cyclic { peak } => write!(f, "cyclic, peak at {:.0} %", 100.0 * peak),
        }
    }
}

impl Schedule {
    /// The factor in epoch `epoch` (from 0), with `within` of it done, of `epochs` in all.
    pub fn factor(&self, epoch: usize, within: f64, epochs: usize) -> f64 {
        let share = ((epoch as f64 + within) / epochs as f64).min(1.0);
        match self {
            Schedule::Constant => 1.0,
            Schedule::MultiStep { milestones, gamma } => {
                gamma.powi(milestones.iter().filter(|milestone| epoch + 1 >= **milestone).count() as i32)
            }
            Schedule::Cosine => (1.0 + (std::f64::consts::PI * share).cos()) / 2.0,
            Schedule::Cyclic { peak } => {
                if share < *peak {
                    share / peak
                } else {
                    (1.0 - share) / (1.0 - peak)
                }
            }
        }
    }

    /// Whether the factor at a moment depends on how many epochs there are in all.
    pub fn spans_all_epochs(&self) -> bool {
        matches!(self, Schedule::Cosine | Schedule::Cyclic { .. })
    }

    pub(super) fn validate(&self) -> Result<(), RecipeError> {
        let right = match self {
            Schedule::MultiStep { gamma, .. } => *gamma > 0.0 && *gamma <= 1.0,
            Schedule::Cyclic { peak } => *peak > 0.0 && *peak < 1.0,
            Schedule::Constant | Schedule::Cosine => true,
        };
        if right {
            return Ok(());
        }
        Err(RecipeError::Field {
            field: "schedule",
            expected: "gamma above 0 and at most 1, peak between 0 and 1",
            got: format!("{self:?}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milestones_count_from_one() {
        let schedule = Schedule::MultiStep {
            milestones: vec![75, 90],
            gamma: 0.1,
        };
        assert_eq!(schedule.factor(73, 0.9, 120), 1.0);
        assert!((schedule.factor(74, 0.0, 120) - 0.1).abs() < 1e-12);
        assert!((schedule.factor(89, 0.0, 120) - 0.01).abs() < 1e-12);
    }

    #[test]
    fn cosine_and_cyclic_end_at_zero() {
        assert_eq!(Schedule::Cosine.factor(0, 0.0, 10), 1.0);
        assert!(Schedule::Cosine.factor(9, 1.0, 10) < 1e-12);
        let cyclic = Schedule::Cyclic { peak: 0.4 };
        assert_eq!(cyclic.factor(0, 0.0, 10), 0.0);
        assert_eq!(cyclic.factor(4, 0.0, 10), 1.0);
        assert_eq!(cyclic.factor(9, 1.0, 10), 0.0);
    }
}
