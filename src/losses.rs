//! Per-example losses, in the paper's form and in that of the released code.
//!
//! Every loss goes from logits to one value for each example, so that a defence can weight, select or show them
//! before it takes the mean. All of them work on logits through log-sum-exp and stay finite, with finite gradients,
//! at logits of ±500. Those that training and attacks take in every step are a kernel of their own where the device has one
//! ([`compute::loss`]); what stands here beside them is what every device can do.

use burn::tensor::{
    Bool, Int, Tensor,
    activation::{log_softmax, softmax},
};
use serde::{Deserialize, Serialize};

use crate::{
    compute::{self, Loss},
    shapes::{Labels, Logits, PerExample},
};

/// Which of the two published forms of a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As the equations of the paper stand.
    Paper,
    /// As the authors' released code computes, with its numeric guards.
    Released,
}

/// Stands for "not this class" under a maximum or a log-sum-exp; far below any logit and far from overflow.
const EXCLUDED: f32 = -1e30;

/// Guards of the released code (`mart.py`): `log(1.0001 − p + 1e-12)`, which is the log of the others' sum and 1e-4 (the
/// 1e-12 is less than its last digit), `log(p + 1e-12)`, `1.0000001 − p`.
const RELEASED_MARGIN: f32 = 1e-4;
const RELEASED_LOG: f32 = 1e-12;
const RELEASED_WEIGHT: f32 = 1.000_000_1;

/// Where each row's class stands: `[N, K]`, true at `labels`.
fn class_mask(labels: Labels, classes: usize) -> Tensor<2, Bool> {
    let examples = labels.dims()[0];
    let all: Tensor<2, Int> = Tensor::arange(0..classes as i64, &labels.device()).reshape([1, classes]);
    all.expand([examples, classes])
        .equal(labels.reshape([examples, 1]).expand([examples, classes]))
}

/// The value of one class in each row: `[N, K]`, `[N]` → `[N]`.
fn at(values: Tensor<2>, labels: Labels) -> PerExample {
    let [examples, classes] = values.dims();
    let others = class_mask(labels, classes).bool_not();
    values.mask_fill(others, 0.0).sum_dim(1).reshape([examples])
}

/// `log Σ exp(v)` over each row, with the row's maximum taken out first.
fn log_sum_exp(values: Tensor<2>) -> PerExample {
    let examples = values.dims()[0];
    let highest = values.clone().detach().max_dim(1);
    ((values - highest.clone()).exp().sum_dim(1).log() + highest).reshape([examples])
}

/// `log(1 + exp(d))`, exact to rounding at both ends, with gradient `sigmoid(d)` everywhere.
fn softplus(d: PerExample) -> PerExample {
    // The larger of the two exponents is taken out as a constant: it cancels in value and in gradient.
    let highest = d.clone().detach().clamp_min(0.0);
    let rest = (d - highest.clone()).exp() + (highest.clone().neg().exp() - 1.0);
    highest + rest.log1p()
}

/// The strongest class other than the true one: `argmax_{k≠y} z_k`, `[N]`. A choice, so it takes no gradient.
///
/// # Shapes
/// `[N, K]`, `[N]` → `[N]`.
pub fn strongest_other(logits: Logits, labels: Labels) -> Labels {
    let [examples, classes] = logits.dims();
    logits
        .inner()
        .mask_fill(class_mask(labels, classes), EXCLUDED)
        .argmax(1)
        .reshape([examples])
}

/// Cross-entropy: `−log p_y`.
///
/// # Shapes
/// `[N, K]`, `[N]` → `[N]`.
///
/// # Source
/// The CE of Table 1 and of equation 10.
pub fn cross_entropy(logits: Logits, labels: Labels) -> PerExample {
    compute::loss(Loss::CrossEntropy { smoothing: 0.0 }, &logits, &labels)
        .unwrap_or_else(|| at(log_softmax(logits, 1), labels).neg())
}

/// Cross-entropy with smoothed labels: `(1 − s)·(−log p_y) + s·mean_k(−log p_k)`; the plain one at `s = 0`.
///
/// # Shapes
/// `[N, K]`, `[N]` → `[N]`.
///
/// # Source
/// Szegedy et al. 2016, section 7; as PyTorch's `label_smoothing`.
pub fn smoothed_cross_entropy(logits: Logits, labels: Labels, smoothing: f32) -> PerExample {
    if let Some(values) = compute::loss(Loss::CrossEntropy { smoothing }, &logits, &labels) {
        return values;
    }
    let plain = cross_entropy(logits.clone(), labels.clone());
    if smoothing == 0.0 {
        return plain;
    }
    let examples = logits.dims()[0];
    // −log p_k differs from −log p_y by z_y − z_k, which no softmax can underflow.
    let lead = at(logits.clone(), labels) - logits.mean_dim(1).reshape([examples]);
    plain + lead * smoothing
}

/// The margin term of the boosted cross-entropy: `−log(1 − max_{k≠y} p_k)`.
///
/// Paper: through logits as `softplus(z_m − log Σ_{k≠m} exp z_k)`, m the strongest other class, so that it stays
/// finite where the probability rounds to 1. Released: `−log(1.0001 − p_m + 1e-12)`, which saturates at 9.2103.
///
/// # Shapes
/// `[N, K]`, `[N]` → `[N]`.
///
/// # Source
/// Equation 8, second term.
pub fn margin_term(logits: Logits, labels: Labels, form: Form) -> PerExample {
    let released = form == Form::Released;
    if let Some(values) = compute::loss(Loss::Margin { released }, &logits, &labels) {
        return values;
    }
    let classes = logits.dims()[1];
    let strongest = strongest_other(logits.clone(), labels);
    match form {
        Form::Paper => {
            let rest = logits
                .clone()
                .mask_fill(class_mask(strongest.clone(), classes), EXCLUDED);
            softplus(at(logits, strongest) - log_sum_exp(rest))
        }
        // 1.0001 − p_m is 0.0001 and the sum of the others, which loses no digit where p_m rounds to 1.
        Form::Released => {
            let examples = logits.dims()[0];
            let others = softmax(logits, 1).mask_fill(class_mask(strongest, classes), 0.0);
            let rest = others.sum_dim(1).reshape([examples]);
            (rest + RELEASED_MARGIN).log().neg()
        }
    }
}

/// Boosted cross-entropy: `−log p_y − log(1 − max_{k≠y} p_k)`.
///
/// # Shapes
/// `[N, K]`, `[N]` → `[N]`.
///
/// # Source
/// Equation 8.
pub fn boosted_cross_entropy(logits: Logits, labels: Labels, form: Form) -> PerExample {
    cross_entropy(logits.clone(), labels.clone()) + margin_term(logits, labels, form)
}

/// Kullback-Leibler divergence of the adversarial from the natural prediction: `Σ_k p_k(x) log(p_k(x) / p_k(x'))`.
///
/// Released: `log(p_k(x') + 1e-12)` in the place of `log p_k(x')`. The natural side takes gradients; detach it where a
/// method holds it fixed.
///
/// # Shapes
/// `[N, K]`, `[N, K]` → `[N]`.
///
/// # Source
/// Equation 9.
pub fn kl_divergence(natural: Logits, adversarial: Logits, form: Form) -> PerExample {
    let (examples, released) = (natural.dims()[0], form == Form::Released);
    if let Some(values) = compute::divergence(&adversarial, &natural, released) {
        return values;
    }
    let log_natural = log_softmax(natural, 1);
    let log_adversarial = match form {
        Form::Paper => log_softmax(adversarial, 1),
        Form::Released => (softmax(adversarial, 1) + RELEASED_LOG).log(),
    };
    let natural = log_natural.clone().exp();
    let ratio = log_natural - log_adversarial;
    let whole = (natural.clone() * ratio.clone()).sum_dim(1).detach();
    ((natural * (ratio - whole.clone())).sum_dim(1) + whole).reshape([examples])
}

/// MART's soft condition on being misclassified: `1 − p_y(x)`.
///
/// Paper: as the sum of the other probabilities, exact where p_y rounds to 1. Released: `1.0000001 − p_y`.
///
/// # Shapes
/// `[N, K]`, `[N]` → `[N]`.
///
/// # Source
/// Section 3.1, the surrogate of the third indicator of equation 7.
pub fn misclassification_weight(natural: Logits, labels: Labels, form: Form) -> PerExample {
    let released = form == Form::Released;
    if let Some(values) = compute::loss(Loss::Weight { released }, &natural, &labels) {
        return values;
    }
    let [examples, classes] = natural.dims();
    let probabilities = softmax(natural, 1);
    match form {
        Form::Paper => probabilities
            .mask_fill(class_mask(labels, classes), 0.0)
            .sum_dim(1)
            .reshape([examples]),
        Form::Released => at(probabilities, labels).neg() + RELEASED_WEIGHT,
    }
}

/// The margin by which a wrong class leads: `max_{k≠y} z_k − z_y`; positive where the example is misclassified.
///
/// # Shapes
/// `[N, K]`, `[N]` → `[N]`.
pub fn margin(logits: Logits, labels: Labels) -> PerExample {
    lead_up_to(logits, labels, f32::INFINITY)
}

/// [`margin`], up to a bound.
fn lead_up_to(logits: Logits, labels: Labels, bound: f32) -> PerExample {
    if let Some(values) = compute::loss(Loss::Lead { bound }, &logits, &labels) {
        return values;
    }
    let strongest = strongest_other(logits.clone(), labels.clone());
    let lead = at(logits.clone(), strongest) - at(logits, labels);
    if bound == f32::INFINITY {
        lead
    } else {
        lead.clamp_max(bound)
    }
}

/// The soft logit margin: `log Σ_{k≠y} exp z_k − z_y`; negative exactly where p_y > 1/2.
///
/// # Shapes
/// `[N, K]`, `[N]` → `[N]`.
///
/// # Source
/// Ding et al. 2018 (MMA), equation 9 of its appendix: a smooth upper bound of [`margin`].
pub fn soft_logit_margin(logits: Logits, labels: Labels) -> PerExample {
    let classes = logits.dims()[1];
    let others = logits.clone().mask_fill(class_mask(labels.clone(), classes), EXCLUDED);
    log_sum_exp(others) - at(logits, labels)
}

/// By how much one class leads another: `z_a − z_b`.
///
/// # Shapes
/// `[N, K]`, `[N]`, `[N]` → `[N]`.
pub fn lead(logits: Logits, ahead: Labels, behind: Labels) -> PerExample {
    at(logits.clone(), ahead) - at(logits, behind)
}

/// The objective of CW∞: `−max(z_y − max_{k≠y} z_k, −κ)`.
///
/// In this form its gradient is alive on correctly classified examples for every κ ≥ 0; it stops once a wrong class
/// leads by κ.
///
/// # Shapes
/// `[N, K]`, `[N]` → `[N]`.
///
/// # Source
/// Carlini and Wagner 2017, f₆, optimised by PGD as the paper's CW∞; κ was never published.
pub fn carlini_wagner(logits: Logits, labels: Labels, kappa: f32) -> PerExample {
    lead_up_to(logits, labels, kappa)
}

/// `Σ_k (a_k − b_k)²`, on whatever the two sides are: probabilities or logits.
///
/// # Shapes
/// `[N, K]`, `[N, K]` → `[N]`.
///
/// # Source
/// The pairing terms of ALP and CLP: on [`probabilities`] in Table 1, on logits in their own paper (Kannan et al., 2018).
pub fn squared_distance(a: Tensor<2>, b: Tensor<2>) -> PerExample {
    let examples = a.dims()[0];
    (a - b).powi_scalar(2).sum_dim(1).reshape([examples])
}

/// `p = softmax(z)`: equation 2.
///
/// # Shapes
/// `[N, K]` → `[N, K]`.
pub fn probabilities(logits: Logits) -> Tensor<2> {
    softmax(logits, 1)
}

/// The `count` strongest logits of each row, strongest first: `count` tensors of shape `[N]`.
fn strongest(logits: &Logits, count: usize) -> Vec<PerExample> {
    let [examples, classes] = logits.dims();
    let mut left = logits.clone().inner();
    (0..count)
        .map(|_| {
            let winner: Labels = left.clone().argmax(1).reshape([examples]);
            left = left.clone().mask_fill(class_mask(winner.clone(), classes), EXCLUDED);
            at(logits.clone(), winner)
        })
        .collect()
}

/// The difference-of-logits ratio: `−(z_y − max_{k≠y} z_k) / (z_π1 − z_π3 + 1e-12)`, π in falling order.
///
/// # Shapes
/// `[N, K]` with K ≥ 3, `[N]` → `[N]`.
///
/// # Source
/// Croce and Hein 2020, equation 6.
pub fn dlr(logits: Logits, labels: Labels) -> PerExample {
    let ranked = strongest(&logits, 3);
    margin(logits, labels) / (ranked[0].clone() - ranked[2].clone() + 1e-12)
}

/// The targeted difference-of-logits ratio: `−(z_y − z_t) / (z_π1 − (z_π3 + z_π4)/2 + 1e-12)`.
///
/// # Shapes
/// `[N, K]` with K ≥ 4, `[N]`, `[N]` → `[N]`.
///
/// # Source
/// Croce and Hein 2020, equation 7.
pub fn dlr_targeted(logits: Logits, labels: Labels, targets: Labels) -> PerExample {
    let ranked = strongest(&logits, 4);
    lead(logits, targets, labels) / (ranked[0].clone() - (ranked[2].clone() + ranked[3].clone()) * 0.5 + 1e-12)
}
