//! A defence with its numbers, as a recipe holds it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    Ablation, Defence, Members, Pairing, Side, Treatment, dynamic::Dynamic, free::Free, mart::Mart, mma::Mma,
    n_fgsm::NFgsm, natural::Natural, pairing::LogitPairing, standard::Standard, subset::Subset, trades::Trades,
    uat::Uat,
};
use crate::{losses::Form, threat::Magnitude};

/// A defence with its numbers, as a recipe holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DefenceSpec {
    /// Cross-entropy on natural images: no defence at all.
    Natural,
    /// Cross-entropy on adversarial images (Madry et al., 2018).
    Standard,
    /// Adversarial cross-entropy, natural and adversarial predictions paired (Kannan et al., 2018).
    Alp {
        /// The weight of the pairing; the MART paper names none.
        lambda: f32,
        /// What is paired.
        #[serde(default)]
        pairing: Pairing,
    },
    /// Natural cross-entropy, natural and adversarial predictions paired (Table 1 after Kannan et al., 2018).
    Clp {
        /// The weight of the pairing; the MART paper names none.
        lambda: f32,
        /// What is paired.
        #[serde(default)]
        pairing: Pairing,
    },
    /// Max-margin adversarial training (Ding et al., 2018).
    Mma {
        /// Table 1's loss at the recipe's epsilon, or the authors' method with a radius of its own for each example.
        form: Form,
        /// Released: margins from here on are wide enough; 0.45 on MNIST and 12/255 on CIFAR-10.
        max_margin: Magnitude,
        /// Released: the radius of an example's first attack; 0.1 on MNIST and 0.005 on CIFAR-10.
        min_epsilon: Magnitude,
    },
    /// Standard, its attack's convergence controlled by a criterion that tightens (Wang et al., 2019).
    Dynamic {
        /// The criterion of the first epoch, c_max.
        max_criterion: f32,
        /// The epochs after which the criterion is 0, T′.
        control_epochs: usize,
    },
    /// Natural cross-entropy plus λ·KL, the attack climbing the KL (Zhang et al., 2019); with unlabelled images, RST
    /// (Carmon et al., 2019).
    Trades {
        /// The weight of the KL term; its authors use 6, the MART paper 4.
        lambda: f32,
    },
    /// Adversarial cross-entropy plus λ·KL on the same adversarial images (Uesato et al., 2019).
    Uat {
        /// The weight of the KL term.
        lambda: f32,
    },
    /// Standard with one step from a noisy start that is not projected back (de Jorge et al., 2022).
    NFgsm {
        /// The half-width of the noise in epsilons, k.
        noise: f32,
        /// The length of the step in epsilons, α/ε.
        step: f32,
    },
    /// Each minibatch replayed, one backward pass serving weights and images alike (Shafahi et al., 2019).
    Free {
        /// How often each minibatch is trained on, m; the epochs of a recipe are then as many times cheaper to name.
        replays: usize,
    },
    /// Misclassification-aware adversarial training (the paper).
    Mart {
        /// The weight of the regulariser; the paper uses 5, in its ablations 6.
        lambda: f32,
        /// The paper's equations or the released code's.
        form: Form,
        /// What of the loss is taken away or replaced.
        #[serde(default, skip_serializing_if = "Ablation::is_none")]
        ablation: Ablation,
    },
    /// Standard, some examples of which are treated otherwise (the paper's Figure 1). It has no place among
    /// [`DefenceSpec::NAMES`]: a name alone does not say which examples.
    Subset {
        /// Those examples.
        members: Members,
        /// Which set of a trained network they are, where that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        side: Option<Side>,
        /// What is done with them.
        treatment: Treatment,
    },
}

impl DefenceSpec {
    /// The names that a recipe uses, in the order of the paper's Table 1, then what came beside and after it.
    pub const NAMES: [&'static str; 11] = [
        "natural", "standard", "alp", "clp", "trades", "mma", "dynamic", "mart", "uat", "n-fgsm", "free",
    ];

    /// MART with nothing taken away.
    pub const fn mart(lambda: f32, form: Form) -> Self {
        DefenceSpec::Mart {
            lambda,
            form,
            ablation: Ablation::NONE,
        }
    }

    /// The defence that a recipe calls `name`, with the numbers that the MART paper or the method's authors give it.
    ///
    /// `epsilon` is the recipe's: MMA's margins are set from it as the paper sets them, 1.5 times ε at most.
    pub fn named(name: &str, epsilon: &Magnitude) -> Option<Self> {
        Some(match name {
            "natural" => DefenceSpec::Natural,
            "standard" => DefenceSpec::Standard,
            "alp" => DefenceSpec::Alp {
                lambda: 1.0,
                pairing: Pairing::Probabilities,
            },
            "clp" => DefenceSpec::Clp {
                lambda: 1.0,
                pairing: Pairing::Probabilities,
            },
            "trades" => DefenceSpec::Trades { lambda: 4.0 },
            "mma" => {
                let (max_margin, min_epsilon) = margins(epsilon);
                DefenceSpec::Mma {
                    form: Form::Released,
                    max_margin,
                    min_epsilon,
                }
            }
            "dynamic" => DefenceSpec::Dynamic {
                max_criterion: 0.5,
                control_epochs: 100,
            },
            "mart" => DefenceSpec::mart(5.0, Form::Paper),
            "uat" => DefenceSpec::Uat { lambda: 5.0 },
            "n-fgsm" => DefenceSpec::NFgsm { noise: 2.0, step: 1.0 },
            "free" => DefenceSpec::Free { replays: 8 },
            _ => return None,
        })
    }

    /// The defence itself.
    pub fn build(&self) -> Box<dyn Defence> {
        match self.clone() {
            DefenceSpec::Natural => Box::new(Natural),
            DefenceSpec::Standard => Box::new(Standard),
            DefenceSpec::Alp { lambda, pairing } => Box::new(LogitPairing::adversarial(lambda, pairing)),
            DefenceSpec::Clp { lambda, pairing } => Box::new(LogitPairing::clean(lambda, pairing)),
            DefenceSpec::Mma {
                form,
                max_margin,
                min_epsilon,
            } => Box::new(Mma::new(form, max_margin.value(), min_epsilon.value())),
            DefenceSpec::Dynamic {
                max_criterion,
                control_epochs,
            } => Box::new(Dynamic {
                max_criterion,
                control_epochs,
            }),
            DefenceSpec::Trades { lambda } => Box::new(Trades { lambda }),
            DefenceSpec::Uat { lambda } => Box::new(Uat { lambda }),
            DefenceSpec::NFgsm { noise, step } => Box::new(NFgsm { noise, step }),
            DefenceSpec::Free { replays } => Box::new(Free::new(replays)),
            DefenceSpec::Mart { lambda, form, ablation } => Box::new(Mart { lambda, form, ablation }),
            DefenceSpec::Subset { members, treatment, .. } => Box::new(Subset { members, treatment }),
        }
    }

    /// The name that a recipe uses.
    pub fn name(&self) -> &'static str {
        match self {
            DefenceSpec::Natural => "natural",
            DefenceSpec::Standard => "standard",
            DefenceSpec::Alp { .. } => "alp",
            DefenceSpec::Clp { .. } => "clp",
            DefenceSpec::Mma { .. } => "mma",
            DefenceSpec::Dynamic { .. } => "dynamic",
            DefenceSpec::Trades { .. } => "trades",
            DefenceSpec::Uat { .. } => "uat",
            DefenceSpec::NFgsm { .. } => "n-fgsm",
            DefenceSpec::Free { .. } => "free",
            DefenceSpec::Mart { .. } => "mart",
            DefenceSpec::Subset { .. } => "subset",
        }
    }

    /// Whether an inner maximisation takes part.
    pub fn attacks(&self) -> bool {
        *self != DefenceSpec::Natural
    }

    /// λ, where the defence has one.
    pub fn lambda(&self) -> Option<f32> {
        self.clone().lambda_mut().copied()
    }

    /// Sets λ; `false` where the defence has none.
    pub fn set_lambda(&mut self, value: f32) -> bool {
        match self.lambda_mut() {
            Some(lambda) => {
                *lambda = value;
                true
            }
            None => false,
        }
    }

    fn lambda_mut(&mut self) -> Option<&mut f32> {
        match self {
            DefenceSpec::Alp { lambda, .. }
            | DefenceSpec::Clp { lambda, .. }
            | DefenceSpec::Trades { lambda }
            | DefenceSpec::Uat { lambda }
            | DefenceSpec::Mart { lambda, .. }
            | DefenceSpec::Subset {
                treatment: Treatment::Regularised { lambda },
                ..
            } => Some(lambda),
            _ => None,
        }
    }

    /// Sets the numbers that a defence takes from the radius of the ball anew.
    pub fn follow(&mut self, epsilon: &Magnitude) {
        if let DefenceSpec::Mma {
            max_margin,
            min_epsilon,
            ..
        } = self
        {
            (*max_margin, *min_epsilon) = margins(epsilon);
        }
    }

    /// Paper or released code, where the defence has both.
    pub fn form_mut(&mut self) -> Option<&mut Form> {
        match self {
            DefenceSpec::Mart { form, .. } | DefenceSpec::Mma { form, .. } => Some(form),
            _ => None,
        }
    }

    /// The first number that makes no sense: its field, what would be right, and what is there.
    pub fn fault(&self) -> Option<(&'static str, &'static str, String)> {
        let not_negative = |value: f32| value >= 0.0 && value.is_finite();
        if let Some(lambda) = self.lambda().filter(|lambda| !not_negative(*lambda)) {
            let field = match self {
                DefenceSpec::Subset { .. } => "defence.treatment.regularised.lambda",
                _ => "defence.lambda",
            };
            return Some((field, "at least 0", lambda.to_string()));
        }
        match self {
            DefenceSpec::Mma {
                max_margin,
                min_epsilon,
                ..
            } => {
                let right = min_epsilon.value() > 0.0 && min_epsilon.value() <= max_margin.value();
                (!right).then(|| {
                    (
                        "defence.min_epsilon",
                        "above 0 and at most defence.max_margin",
                        format!("{min_epsilon} beside a margin of {max_margin}"),
                    )
                })
            }
            DefenceSpec::Dynamic {
                max_criterion,
                control_epochs,
            } => match (not_negative(*max_criterion), *control_epochs > 0) {
                (false, _) => Some(("defence.max_criterion", "at least 0", max_criterion.to_string())),
                (_, false) => Some(("defence.control_epochs", "at least 1", "0".into())),
                _ => None,
            },
            DefenceSpec::NFgsm { noise, step } => match (not_negative(*noise), *step > 0.0 && step.is_finite()) {
                (false, _) => Some(("defence.noise", "at least 0", noise.to_string())),
                (_, false) => Some(("defence.step", "above 0", step.to_string())),
                _ => None,
            },
            DefenceSpec::Subset { members, .. } if members.is_empty() => {
                Some(("defence.members", "at least one training example", "none".into()))
            }
            DefenceSpec::Free { replays: 0 } => Some(("defence.replays", "at least 1", "0".into())),
            DefenceSpec::Mart { ablation, .. } => {
                let share = ablation.regularised_share;
                (!(0.0..=1.0).contains(&share)).then(|| {
                    (
                        "defence.ablation.regularised_share",
                        "between 0 and 1",
                        share.to_string(),
                    )
                })
            }
            _ => None,
        }
    }
}

/// MMA's max margin and first radius: 0.45 and 0.1 at ε = 0.3 (section 4.2; `config.py` of MMA's authors), and so in
/// proportion; 12/255 at 8/255.
fn margins(epsilon: &Magnitude) -> (Magnitude, Magnitude) {
    (epsilon.times(1.5), epsilon.divided_by(3))
}

impl fmt::Display for DefenceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DefenceSpec::Natural => write!(f, "natural training"),
            DefenceSpec::Standard => write!(f, "Standard"),
            DefenceSpec::Alp { lambda, pairing } => write!(f, "ALP (λ = {lambda}, {pairing})"),
            DefenceSpec::Clp { lambda, pairing } => write!(f, "CLP (λ = {lambda}, {pairing})"),
            DefenceSpec::Mma { form: Form::Paper, .. } => write!(f, "MMA (Table 1)"),
            DefenceSpec::Mma { max_margin, .. } => write!(f, "MMA (margins up to {max_margin})"),
            DefenceSpec::Dynamic { max_criterion, .. } => write!(f, "Dynamic (c = {max_criterion})"),
            DefenceSpec::Trades { lambda } => write!(f, "TRADES (λ = {lambda})"),
            DefenceSpec::Uat { lambda } => write!(f, "UAT++ (λ = {lambda})"),
            DefenceSpec::NFgsm { noise, .. } => write!(f, "N-FGSM (k = {noise})"),
            DefenceSpec::Free { replays } => write!(f, "Free (m = {replays})"),
            DefenceSpec::Mart { lambda, form, ablation } => {
                write!(f, "MART (λ = {lambda}")?;
                if *form == Form::Released {
                    write!(f, ", released code")?;
                }
                write!(f, "{ablation})")
            }
            DefenceSpec::Subset {
                members,
                side,
                treatment,
            } => match side {
                Some(side) => write!(f, "Standard, {} of {side} {treatment}", members.len()),
                None => write!(f, "Standard, {} members {treatment}", members.len()),
            },
        }
    }
}
