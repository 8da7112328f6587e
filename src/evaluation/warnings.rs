//! Signs that a figure misleads, each with what to do about it.
//!
//! The words stand in `docs/warnings.md` once, for the page and for the program.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{threat::Epsilon, wording::percent};

/// The page that explains every warning; compiled in, so that the program can quote it.
const PAGE: &str = include_str!("../../docs/warnings.md");

/// Why a result is to be doubted. In JSON: `kind`, the numbers, `message`, `advice` and `anchor`.
///
/// # Source
/// Athalye et al. 2018, section 3.1 and Carlini et al. 2019, sections 3 and 5, for the signs of masked gradients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    remote = "Self",
    tag = "kind",
    rename_all = "kebab-case",
    rename_all_fields = "snake_case"
)]
pub enum Warning {
    /// One step fools examples that many steps do not.
    FgsmStrongerThanPgd {
        /// Examples that only FGSM fooled.
        only_fgsm: usize,
        /// Naturally correct examples.
        of: usize,
    },
    /// Noise fools examples that gradients do not.
    NoiseStrongerThanGradient {
        /// Examples that withstood every attack and fell to noise.
        fooled: usize,
        /// Examples that were tried.
        of: usize,
        /// Draws an example.
        draws: usize,
    },
    /// A larger ball gives fewer successes.
    SuccessNotRisingWithEpsilon {
        /// The smaller radius.
        smaller: Epsilon,
        /// Successes at it.
        fooled_at_smaller: usize,
        /// The larger radius.
        larger: Epsilon,
        /// Successes at it.
        fooled_at_larger: usize,
        /// Examples that were tried.
        of: usize,
    },
    /// Even an adversary who may do nearly anything fails.
    HugeEpsilonNotReachingChance {
        /// The huge radius.
        epsilon: Epsilon,
        /// Examples that withstood.
        standing: usize,
        /// Examples that were tried.
        of: usize,
        /// The share that guessing gets right.
        chance: f64,
    },
    /// The attack has not converged.
    DoublingStepsStillHelps {
        /// The shorter attack.
        fewer: String,
        /// Accuracy under it.
        accuracy_at_fewer: f64,
        /// The longer attack.
        more: String,
        /// Accuracy under it.
        accuracy_at_more: f64,
        /// Where the longer attack was a probe, the number of examples that it was tried on: all right without attack.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        probed: Option<usize>,
    },
    /// Random search fools examples that gradients do not.
    GradientFreeStrongerThanGradient {
        /// The attack without gradients.
        attack: String,
        /// Examples that it fooled and no attack with gradients did.
        only: usize,
    },
    /// FAB fools examples that ascent does not.
    FabStrongerThanApgd {
        /// The name of FAB's result.
        attack: String,
        /// Examples that it fooled and no ascent did.
        only: usize,
    },
    /// An attack on another model fools examples that the attack on this one does not.
    TransferStrongerThanWhiteBox {
        /// The transfer attack.
        transfer: String,
        /// The same attack on the model itself.
        white_box: String,
        /// Examples that only the transfer attack fooled.
        only: usize,
    },
    /// PGD's figure is no estimate of robustness.
    PgdFarAboveAutoattack {
        /// The strongest PGD attack of the suite.
        pgd: String,
        /// Accuracy under it.
        accuracy_under_pgd: f64,
        /// The attacks in turn.
        autoattack: String,
        /// Accuracy under them.
        accuracy_under_autoattack: f64,
    },
    /// Gradient attacks have nothing to follow.
    ManyZeroGradients {
        /// Examples whose gradient is 0 in every pixel.
        flat: usize,
        /// Examples that were looked at.
        of: usize,
        /// The share of zeros among all entries.
        zeros: f64,
    },
    /// The model ends in a softmax.
    OutputsLookLikeProbabilities,
    /// The model is not a function.
    LogitsChangeBetweenIdenticalCalls {
        /// The largest change of a logit.
        largest: f32,
    },
    /// The answer to an image depends on the images beside it.
    ModelLeftInTrainingMode {
        /// The largest change of a logit.
        largest: f32,
    },
    /// One answer for everything.
    ConstantPrediction {
        /// The class that the model answers.
        class: String,
        /// How often.
        share: f64,
    },
    /// The ball is not the one that others report.
    NonStandardEpsilon {
        /// The radius that was used.
        epsilon: Epsilon,
        /// The usual one.
        standard: Epsilon,
        /// The data set.
        dataset: String,
    },
    /// Chance moves the figure much.
    SmallSample {
        /// Examples.
        n: usize,
        /// Half the widest 95 % interval among the figures.
        half_width: f64,
    },
    /// The figure chose its own model.
    CheckpointChosenOnTestSet,
    /// Stronger attacks are known than those of the suite.
    NoStrongAttackInSuite {
        /// The attacks that there were.
        attacks: Vec<String>,
    },
    /// The data are not quite what their name says.
    DataSetNote {
        /// What the data set says of itself.
        note: String,
    },
    /// The file of the weights is another program's and holds no normalisation of the input, and nobody stated one.
    NormalisationUnsaid,
    /// The file of the weights holds what may be part of its model, such as a normalisation of its input, and is not part of the network here.
    NormalisationLeftOut {
        /// The tensors, the likeliest first.
        tensors: Vec<String>,
    },
    /// The recipe names what its epochs do not reach.
    NeverReached {
        /// Each in a sentence.
        parts: Vec<String>,
    },
    /// The loss or another figure of a minibatch is no number: training ends.
    NotANumber {
        /// The epoch, counted from 1.
        epoch: usize,
    },
    /// Training did not leave the constant prediction.
    StuckRun {
        /// The epoch, counted from 1.
        epoch: usize,
        /// Natural and robust accuracy alike.
        accuracy: f64,
        /// The training loss.
        train_loss: f64,
    },
    /// The model learned to defeat one step and nothing else.
    CatastrophicOverfitting {
        /// The epoch, counted from 1.
        epoch: usize,
        /// FGSM accuracy now.
        fgsm_accuracy: f64,
        /// Robust accuracy now.
        robust_accuracy: f64,
        /// The best robust accuracy before.
        best: f64,
        /// Its epoch.
        best_epoch: usize,
    },
    /// Robust accuracy on unseen data falls while training goes on.
    RobustOverfitting {
        /// The epoch, counted from 1.
        epoch: usize,
        /// Robust accuracy now.
        robust_accuracy: f64,
        /// The best robust accuracy before.
        best: f64,
        /// Its epoch.
        best_epoch: usize,
    },
}

impl Warning {
    /// The name of the kind: the tag in JSON and the anchor in `docs/warnings.md`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::FgsmStrongerThanPgd { .. } => "fgsm-stronger-than-pgd",
            Self::NoiseStrongerThanGradient { .. } => "noise-stronger-than-gradient",
            Self::SuccessNotRisingWithEpsilon { .. } => "success-not-rising-with-epsilon",
            Self::HugeEpsilonNotReachingChance { .. } => "huge-epsilon-not-reaching-chance",
            Self::DoublingStepsStillHelps { .. } => "doubling-steps-still-helps",
            Self::GradientFreeStrongerThanGradient { .. } => "gradient-free-stronger-than-gradient",
            Self::FabStrongerThanApgd { .. } => "fab-stronger-than-apgd",
            Self::TransferStrongerThanWhiteBox { .. } => "transfer-stronger-than-white-box",
            Self::PgdFarAboveAutoattack { .. } => "pgd-far-above-autoattack",
            Self::ManyZeroGradients { .. } => "many-zero-gradients",
            Self::OutputsLookLikeProbabilities => "outputs-look-like-probabilities",
            Self::LogitsChangeBetweenIdenticalCalls { .. } => "logits-change-between-identical-calls",
            Self::ModelLeftInTrainingMode { .. } => "model-left-in-training-mode",
            Self::ConstantPrediction { .. } => "constant-prediction",
            Self::NonStandardEpsilon { .. } => "non-standard-epsilon",
            Self::SmallSample { .. } => "small-sample",
            Self::CheckpointChosenOnTestSet => "checkpoint-chosen-on-test-set",
            Self::NoStrongAttackInSuite { .. } => "no-strong-attack-in-suite",
            Self::DataSetNote { .. } => "data-set-note",
            Self::NormalisationUnsaid => "normalisation-unsaid",
            Self::NormalisationLeftOut { .. } => "normalisation-left-out",
            Self::NeverReached { .. } => "never-reached",
            Self::NotANumber { .. } => "not-a-number",
            Self::StuckRun { .. } => "stuck-run",
            Self::CatastrophicOverfitting { .. } => "catastrophic-overfitting",
            Self::RobustOverfitting { .. } => "robust-overfitting",
        }
    }

    /// What was seen, in one sentence with its numbers.
    pub fn headline(&self) -> String {
        match self {
            Self::FgsmStrongerThanPgd { only_fgsm, of } => {
                format!("FGSM fools {only_fgsm} of {of} examples that PGD does not fool")
            }
            Self::NoiseStrongerThanGradient { fooled, of, draws } => format!(
                "random noise fools {fooled} of {of} examples that withstood every attack, in {draws} draws each"
            ),
            Self::SuccessNotRisingWithEpsilon {
                smaller,
                fooled_at_smaller,
                larger,
                fooled_at_larger,
                of,
            } => format!(
                "PGD fools {fooled_at_smaller} of {of} examples at ε = {smaller}, and only {fooled_at_larger} at ε = {larger}"
            ),
            Self::HugeEpsilonNotReachingChance {
                epsilon,
                standing,
                of,
                chance,
            } => format!(
                "{standing} of {of} examples withstand PGD at ε = {epsilon}, where at most chance ({}) should be left",
                percent(*chance)
            ),
            Self::DoublingStepsStillHelps {
                fewer,
                accuracy_at_fewer,
                more,
                accuracy_at_more,
                probed,
            } => {
                let of = probed.map(|of| format!(", of {of} examples that are right without attack"));
                format!(
                    "more steps still help the attack: {} under {fewer}, {} under {more}{}",
                    percent(*accuracy_at_fewer),
                    percent(*accuracy_at_more),
                    of.unwrap_or_default()
                )
            }
            Self::GradientFreeStrongerThanGradient { attack, only } => {
                format!("{attack} uses no gradient and fools {only} examples that no gradient attack fools")
            }
            Self::FabStrongerThanApgd { attack, only } => {
                format!("{attack} fools {only} examples that no ascent of the gradient fools")
            }
            Self::TransferStrongerThanWhiteBox {
                transfer,
                white_box,
                only,
            } => format!("{transfer} fools {only} examples that {white_box} on the model itself does not fool"),
            Self::PgdFarAboveAutoattack {
                pgd,
                accuracy_under_pgd,
                autoattack,
                accuracy_under_autoattack,
            } => format!(
                "accuracy is {} under {pgd} and {} under {autoattack}: {pgd} overstates robustness by {:.1} percentage points",
                percent(*accuracy_under_pgd),
                percent(*accuracy_under_autoattack),
                100.0 * (accuracy_under_pgd - accuracy_under_autoattack)
            ),
            Self::ManyZeroGradients { flat, of, zeros } => format!(
                "{flat} of {of} examples have no gradient at all at the natural image; {} of all entries are 0",
                percent(*zeros)
            ),
            Self::OutputsLookLikeProbabilities => {
                "the model's outputs lie in [0, 1] and add up to 1: they look like probabilities, not logits".into()
            }
            Self::LogitsChangeBetweenIdenticalCalls { largest } => {
                format!("the same images give other logits on the second call, by up to {largest:.3e}")
            }
            Self::ModelLeftInTrainingMode { largest } => format!(
                "the same image gives other logits beside other images, by up to {largest:.3e}: the model seems to be in \
                 training mode"
            ),
            Self::ConstantPrediction { class, share } => {
                format!(
                    "the model answers {class} for {} of the natural images",
                    percent(*share)
                )
            }
            Self::NonStandardEpsilon {
                epsilon,
                standard,
                dataset,
            } => {
                format!("ε = {epsilon} is not the radius that results on {dataset} are reported at, {standard}")
            }
            Self::SmallSample { n, half_width } => format!(
                "{n} examples leave the figures uncertain by up to ± {:.1} percentage points",
                100.0 * half_width
            ),
            Self::CheckpointChosenOnTestSet => "the checkpoint was chosen on the same test set".into(),
            Self::NoStrongAttackInSuite { attacks } => format!(
                "{} alone {} robustness: AutoAttack usually finds a lower accuracy",
                attacks.join(", "),
                if attacks.len() == 1 { "overstates" } else { "overstate" }
            ),
            Self::DataSetNote { note } => format!("about the data: {note}"),
            Self::NormalisationUnsaid => {
                "pixels went in as they are, in [0, 1]: the weights' file holds no normalisation, and none was stated"
                    .into()
            }
            Self::NormalisationLeftOut { tensors } => {
                let more = tensors.len().saturating_sub(3);
                let more = if more > 0 {
                    format!(" and {more} more")
                } else {
                    String::new()
                };
                format!(
                    "the weights' file holds {}{more}, which may be part of its model, such as a normalisation of the input; they were left out \
                     here",
                    tensors.iter().take(3).cloned().collect::<Vec<_>>().join(", ")
                )
            }
            Self::NeverReached { parts } => parts.join("; "),
            Self::NotANumber { epoch } => format!("a training figure of epoch {epoch} is no finite number"),
            Self::StuckRun {
                epoch,
                accuracy,
                train_loss,
            } => format!(
                "after epoch {epoch} natural and robust accuracy are both {} with loss {train_loss:.2}: the model gives \
                 one answer for everything",
                percent(*accuracy)
            ),
            Self::CatastrophicOverfitting {
                epoch,
                fgsm_accuracy,
                robust_accuracy,
                best,
                best_epoch,
            } => format!(
                "robust accuracy fell from {} (epoch {best_epoch}) to {} (epoch {epoch}) while FGSM accuracy is {}",
                percent(*best),
                percent(*robust_accuracy),
                percent(*fgsm_accuracy)
            ),
            Self::RobustOverfitting {
                epoch,
                robust_accuracy,
                best,
                best_epoch,
            } => format!(
                "robust accuracy is {} after epoch {epoch}, {:.1} percentage points under its best (epoch {best_epoch})",
                percent(*robust_accuracy),
                100.0 * (best - robust_accuracy)
            ),
        }
    }

    /// Why it matters, as `docs/warnings.md` says it.
    pub fn why(&self) -> &'static str {
        self.paragraph("**Why it matters.**")
    }

    /// What to do, as `docs/warnings.md` says it.
    pub fn advice(&self) -> &'static str {
        self.paragraph("**What to do.**")
    }

    /// Its heading's anchor in `docs/warnings.md`.
    pub fn anchor(&self) -> &'static str {
        self.kind()
    }

    /// A paragraph of this kind's section; a test holds that none is missing.
    fn paragraph(&self, opening: &str) -> &'static str {
        let section = PAGE.split("\n## ").skip(1).find(|section| {
            section
                .lines()
                .next()
                .is_some_and(|heading| heading_anchor(heading) == self.anchor())
        });
        let line = section
            .into_iter()
            .flat_map(str::lines)
            .find_map(|line| line.strip_prefix(opening));
        line.map_or("", str::trim)
    }
}

/// Every section of the page of warnings: its name and its text.
pub fn warning_sections() -> Vec<(String, &'static str)> {
    let sections = PAGE.split("\n## ").skip(1);
    sections
        .map(|section| (heading_anchor(section.lines().next().unwrap_or_default()), section))
        .collect()
}

/// The anchor that a heading gets where Markdown is shown: small letters, hyphens for spaces.
fn heading_anchor(heading: &str) -> String {
    heading
        .trim()
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' => Some(c),
            _ => None,
        })
        .collect()
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.headline())
    }
}

/// A warning as JSON shows it: its fields, and the words for them.
#[derive(Serialize)]
struct Spoken<'a> {
    #[serde(flatten, serialize_with = "fields")]
    warning: &'a Warning,
    message: String,
    advice: &'static str,
    anchor: &'static str,
}

/// The fields alone: the derived function, which `remote = "Self"` makes an inherent one.
fn fields<S: Serializer>(warning: &&Warning, serializer: S) -> Result<S::Ok, S::Error> {
    Warning::serialize(warning, serializer)
}

impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let spoken = Spoken {
            warning: self,
            message: self.headline(),
            advice: self.advice(),
            anchor: self.anchor(),
        };
        Serialize::serialize(&spoken, serializer)
    }
}

impl<'de> Deserialize<'de> for Warning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Warning::deserialize(deserializer)
    }
}

/// The figures of one epoch that [`training_warnings`] looks at, all but the loss on examples that are not trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochFigures {
    /// The epoch, counted from 1.
    pub epoch: usize,
    /// The mean training loss.
    pub train_loss: f64,
    /// Natural accuracy.
    pub natural_accuracy: f64,
    /// Accuracy under FGSM, where it was measured.
    pub fgsm_accuracy: Option<f64>,
    /// Accuracy under the attack that chooses the best checkpoint, PGD unless the recipe has another; NaN where that is
    /// none at all.
    pub robust_accuracy: f64,
}

/// A fall of robust accuracy that is more than noise from epoch to epoch (Rice et al. 2020 see 2 points and more).
const ROBUST_OVERFITTING: f64 = 0.02;

/// Robust accuracy that falls by this much, and to less than half, has collapsed (Wong et al. 2020: to about 0).
const COLLAPSE: f64 = 0.1;

/// FGSM accuracy may be this much lower and still count as not having fallen.
const UNMOVED: f64 = 0.02;

/// No working model of two classes or more is this poor.
const STUCK_BELOW: f64 = 0.55;

/// Signs, in a run's figures so far, that its training goes wrong; they speak of the last epoch.
///
/// A stuck run is not also told that it overfits.
pub fn training_warnings(history: &[EpochFigures]) -> Vec<Warning> {
    let Some((last, earlier)) = history.split_last() else {
        return Vec::new();
    };
    let EpochFigures {
        epoch,
        train_loss,
        natural_accuracy,
        robust_accuracy,
        ..
    } = *last;
    // Only a constant answer is as good under attack as without one, to the last example.
    if natural_accuracy == robust_accuracy
        && last.fgsm_accuracy.is_none_or(|fgsm| fgsm == natural_accuracy)
        && natural_accuracy < STUCK_BELOW
    {
        return vec![Warning::StuckRun {
            epoch,
            accuracy: natural_accuracy,
            train_loss,
        }];
    }
    let best = earlier.iter().filter(|figures| figures.robust_accuracy.is_finite());
    let Some(best) = best.max_by(|a, b| a.robust_accuracy.total_cmp(&b.robust_accuracy)) else {
        return Vec::new();
    };
    let fall = best.robust_accuracy - robust_accuracy;
    let (best_epoch, best_accuracy) = (best.epoch, best.robust_accuracy);
    if let (Some(before), Some(now)) = (best.fgsm_accuracy, last.fgsm_accuracy) {
        let collapsed = fall > COLLAPSE && robust_accuracy < best_accuracy / 2.0;
        if collapsed && now >= before - UNMOVED {
            return vec![Warning::CatastrophicOverfitting {
                epoch,
                fgsm_accuracy: now,
                robust_accuracy,
                best: best_accuracy,
                best_epoch,
            }];
        }
    }
    if fall > ROBUST_OVERFITTING {
        return vec![Warning::RobustOverfitting {
            epoch,
            robust_accuracy,
            best: best_accuracy,
            best_epoch,
        }];
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Vec<Warning> {
        let epsilon: Epsilon = "0.3".parse().unwrap();
        vec![
            Warning::FgsmStrongerThanPgd { only_fgsm: 12, of: 490 },
            Warning::NoiseStrongerThanGradient {
                fooled: 3,
                of: 64,
                draws: 10,
            },
            Warning::SuccessNotRisingWithEpsilon {
                smaller: "0.15".parse().unwrap(),
                fooled_at_smaller: 30,
                larger: epsilon.clone(),
                fooled_at_larger: 20,
                of: 64,
            },
            Warning::HugeEpsilonNotReachingChance {
                epsilon: epsilon.clone(),
                standing: 30,
                of: 64,
                chance: 0.1,
            },
            Warning::DoublingStepsStillHelps {
                fewer: "pgd-20".into(),
                accuracy_at_fewer: 0.6,
                more: "pgd-100".into(),
                probed: Some(64),
                accuracy_at_more: 0.5,
            },
            Warning::GradientFreeStrongerThanGradient {
                attack: "autoattack/square".into(),
                only: 9,
            },
            Warning::FabStrongerThanApgd {
                attack: "autoattack/fab-t".into(),
                only: 9,
            },
            Warning::TransferStrongerThanWhiteBox {
                transfer: "transfer-pgd-20".into(),
                white_box: "pgd-20".into(),
                only: 9,
            },
            Warning::PgdFarAboveAutoattack {
                pgd: "pgd-20".into(),
                accuracy_under_pgd: 0.53,
                autoattack: "autoattack".into(),
                accuracy_under_autoattack: 0.47,
            },
            Warning::ManyZeroGradients {
                flat: 30,
                of: 64,
                zeros: 0.7,
            },
            Warning::OutputsLookLikeProbabilities,
            Warning::LogitsChangeBetweenIdenticalCalls { largest: 0.25 },
            Warning::ModelLeftInTrainingMode { largest: 0.25 },
            Warning::ConstantPrediction {
                class: "1".into(),
                share: 1.0,
            },
            Warning::NonStandardEpsilon {
                epsilon: "0.031".parse().unwrap(),
                standard: epsilon,
                dataset: "MNIST".into(),
            },
            Warning::SmallSample {
                n: 64,
                half_width: 0.12,
            },
            Warning::CheckpointChosenOnTestSet,
            Warning::NoStrongAttackInSuite {
                attacks: vec!["pgd-20".into()],
            },
            Warning::DataSetNote {
                note: "JPEG images: lossy".into(),
            },
            Warning::NormalisationUnsaid,
            Warning::NormalisationLeftOut {
                tensors: vec!["mu".into(), "sigma".into()],
            },
            Warning::NeverReached {
                parts: vec!["the learning rate never falls: its milestones at 75 lie beyond the 3 epochs".into()],
            },
            Warning::NotANumber { epoch: 2 },
            Warning::StuckRun {
                epoch: 2,
                accuracy: 0.1135,
                train_loss: 2.3,
            },
            Warning::CatastrophicOverfitting {
                epoch: 9,
                fgsm_accuracy: 0.9,
                robust_accuracy: 0.01,
                best: 0.4,
                best_epoch: 8,
            },
            Warning::RobustOverfitting {
                epoch: 100,
                robust_accuracy: 0.44,
                best: 0.53,
                best_epoch: 78,
            },
        ]
    }

    #[test]
    fn the_page_says_of_every_warning_when_why_and_what_to_do() {
        let headings: Vec<String> = PAGE
            .lines()
            .filter_map(|l| l.strip_prefix("## "))
            .map(heading_anchor)
            .collect();
        let kinds: Vec<&str> = every_kind().iter().map(Warning::anchor).collect();
        assert_eq!(headings, kinds, "docs/warnings.md and the warnings differ");
        for warning in every_kind() {
            for (part, words) in [
                ("raised if", warning.paragraph("**Raised if**")),
                ("why", warning.why()),
                ("advice", warning.advice()),
            ] {
                assert!(
                    words.len() > 30,
                    "{}: the page's part {part:?} is missing",
                    warning.kind()
                );
                assert!(words.ends_with('.'), "{}: {words}", warning.kind());
            }
        }
    }

    #[test]
    fn json_has_the_words_and_reads_back() {
        for warning in every_kind() {
            let json = serde_json::to_value(&warning).unwrap();
            assert_eq!(json["kind"], warning.kind());
            assert_eq!(json["message"], warning.headline());
            assert_eq!(json["advice"], warning.advice());
            assert_eq!(serde_json::from_value::<Warning>(json).unwrap(), warning);
        }
        let json = serde_json::to_value(&every_kind()[0]).unwrap();
        assert_eq!(json["only_fgsm"], 12);
    }

    fn epoch(epoch: usize, natural: f64, fgsm: Option<f64>, robust: f64) -> EpochFigures {
        EpochFigures {
            epoch,
            train_loss: 1.5,
            natural_accuracy: natural,
            fgsm_accuracy: fgsm,
            robust_accuracy: robust,
        }
    }

    fn kinds(history: &[EpochFigures]) -> Vec<&'static str> {
        training_warnings(history).iter().map(Warning::kind).collect()
    }

    #[test]
    fn healthy_training_is_left_alone() {
        assert!(kinds(&[]).is_empty());
        assert!(kinds(&[epoch(1, 0.9, None, 0.4)]).is_empty());
        // Falls by less than two points are noise.
        assert!(kinds(&[epoch(1, 0.9, Some(0.6), 0.5), epoch(2, 0.92, Some(0.6), 0.485)]).is_empty());
    }

    #[test]
    fn a_constant_prediction_is_named() {
        assert_eq!(kinds(&[epoch(1, 0.1135, Some(0.1135), 0.1135)]), ["stuck-run"]);
        // As good under attack as without one, but good: a very robust model.
        assert!(kinds(&[epoch(1, 0.99, Some(0.99), 0.99)]).is_empty());
    }

    #[test]
    fn collapse_under_many_steps_alone_is_catastrophic_overfitting() {
        let history = [epoch(8, 0.8, Some(0.5), 0.4), epoch(9, 0.85, Some(0.9), 0.01)];
        assert_eq!(kinds(&history), ["catastrophic-overfitting"]);
        // Where one step succeeds as well, the model only got worse.
        let history = [epoch(8, 0.8, Some(0.5), 0.4), epoch(9, 0.85, Some(0.1), 0.01)];
        assert_eq!(kinds(&history), ["robust-overfitting"]);
    }

    #[test]
    fn falling_robust_accuracy_is_robust_overfitting() {
        let history = [
            epoch(77, 0.82, None, 0.53),
            epoch(78, 0.83, None, 0.52),
            epoch(120, 0.85, None, 0.45),
        ];
        match training_warnings(&history).as_slice() {
            [
                Warning::RobustOverfitting {
                    best_epoch: 77,
                    epoch: 120,
                    ..
                },
            ] => {}
            other => panic!("{other:?}"),
        }
    }
}
