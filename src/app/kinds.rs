//! What can be drawn: curves by their names, and the lower plot's choices.

use egui_plot::LineStyle;

/// What the lower plot shows.
#[derive(Debug, Default, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lower {
    /// The loss and its terms.
    #[default]
    Loss,
    /// One term of it: the boosted cross-entropy.
    BoostedCrossEntropy,
    /// The divergence between the answers to natural and adversarial images.
    Kl,
    /// How little the network believes in the true class.
    OneMinusPY,
    /// The divergence, so weighted.
    WeightedKl,
    /// The share of S−.
    Misclassified,
    /// The learning rate and ε.
    LearningRate,
    /// The gradient's norm.
    Gradient,
}

impl Lower {
    pub const ALL: [Lower; 8] = [
        Self::Loss,
        Self::BoostedCrossEntropy,
        Self::Kl,
        Self::OneMinusPY,
        Self::WeightedKl,
        Self::Misclassified,
        Self::LearningRate,
        Self::Gradient,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "Loss and its terms",
            Self::BoostedCrossEntropy => "Boosted cross-entropy",
            Self::Kl => "KL",
            Self::OneMinusPY => "1 − p_y",
            Self::WeightedKl => "KL · (1 − p_y)",
            Self::Misclassified => "Share of misclassified examples S−",
            Self::LearningRate => "Learning rate and ε",
            Self::Gradient => "Gradient norm",
        }
    }

    pub fn curves(self) -> &'static [Curve] {
        match self {
            Self::Loss => &LOSS,
            Self::BoostedCrossEntropy => &LOSS[1..2],
            Self::Kl => &LOSS[3..4],
            Self::OneMinusPY => &LOSS[4..5],
            Self::WeightedKl => &LOSS[5..6],
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
    /// The line's width in points.
    pub width: f32,
}

const fn solid(key: &'static str, label: &'static str) -> Curve {
    Curve {
        key,
        label,
        style: || LineStyle::Solid,
        width: 1.8,
    }
}

const fn dashed(key: &'static str, label: &'static str) -> Curve {
    Curve {
        key,
        label,
        style: LineStyle::dashed_loose,
        width: 1.8,
    }
}

const fn dotted(key: &'static str, label: &'static str) -> Curve {
    Curve {
        key,
        label,
        style: LineStyle::dotted_dense,
        width: 1.8,
    }
}

/// Beside curves of held-out examples.
const fn thin(curve: Curve) -> Curve {
    Curve { width: 1.1, ..curve }
}

pub const TRAINING_ACCURACY: [Curve; 2] = [
    thin(dashed("natural_accuracy", "natural, training batch")),
    thin(solid("adversarial_accuracy", "under attack, training batch")),
];
static LOSS: [Curve; 7] = [
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
