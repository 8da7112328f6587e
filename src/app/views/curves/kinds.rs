//! What can be drawn: curves by their names, and the lower plot's choices.

use egui_plot::LineStyle;

/// What the lower plot shows.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lower {
    /// The loss and its terms.
    #[default]
    Loss,
    /// The share of S−.
    Misclassified,
    /// The learning rate and ε.
    LearningRate,
    /// The gradient's norm.
    Gradient,
}

impl Lower {
    pub const ALL: [Lower; 4] = [Self::Loss, Self::Misclassified, Self::LearningRate, Self::Gradient];

    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "Loss and its terms",
            Self::Misclassified => "Share of misclassified examples S−",
            Self::LearningRate => "Learning rate and ε",
            Self::Gradient => "Gradient norm",
        }
    }

    pub fn curves(self) -> &'static [Curve] {
        match self {
            Self::Loss => &LOSS,
            Self::Misclassified => &MISCLASSIFIED,
            Self::LearningRate => &RATE,
            Self::Gradient => &GRADIENT,
        }
    }
}

/// A curve of a plot.
pub struct Curve {
    /// Its name in [`Shown::curves`].
    pub key: &'static str,
    /// What the legend calls it.
    pub label: &'static str,
    pub style: fn() -> LineStyle,
}

const fn solid(key: &'static str, label: &'static str) -> Curve {
    Curve {
        key,
        label,
        style: || LineStyle::Solid,
    }
}

const fn dashed(key: &'static str, label: &'static str) -> Curve {
    Curve {
        key,
        label,
        style: LineStyle::dashed_loose,
    }
}

const fn dotted(key: &'static str, label: &'static str) -> Curve {
    Curve {
        key,
        label,
        style: LineStyle::dotted_dense,
    }
}

pub const TRAINING_ACCURACY: [Curve; 2] = [
    dashed("natural_accuracy", "natural, training batch"),
    solid("adversarial_accuracy", "under attack, training batch"),
];
const LOSS: [Curve; 7] = [
    solid("loss", "loss"),
    dashed("boosted_cross_entropy", "boosted cross-entropy"),
    dashed("cross_entropy", "cross-entropy"),
    dotted("kl", "KL"),
    dotted("one_minus_p_y", "1 − p_y"),
    dashed("weighted_kl", "KL · (1 − p_y)"),
    dotted("natural_cross_entropy", "natural cross-entropy"),
];
const MISCLASSIFIED: [Curve; 1] = [solid("misclassified", "S−, naturally misclassified")];
const RATE: [Curve; 2] = [solid("learning_rate", "learning rate"), dashed("epsilon", "ε")];
const GRADIENT: [Curve; 1] = [solid("gradient_norm", "gradient norm")];
