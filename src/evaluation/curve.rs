//! Accuracy against ε: the same suite in one ball after another.

use super::{CurvePoint, EvaluateError, Evaluation, EvaluationEvent, Examination, Suite};
use crate::{
    compute::Device,
    control::Control,
    data::Dataset,
    nn::Model,
    threat::{Epsilon, ThreatModel},
};

/// What a curve tells while it is measured.
#[derive(Debug, Clone)]
pub enum CurveEvent {
    /// The evaluation at one radius tells of its progress.
    Evaluating {
        /// Which radius, counted from 0.
        position: usize,
        /// How many there are.
        of: usize,
        /// The radius.
        epsilon: Epsilon,
        /// What it tells.
        event: EvaluationEvent,
    },
    /// One more point of the curve.
    Point {
        /// Which radius, counted from 0.
        position: usize,
        /// How many there are.
        of: usize,
        /// Every attack's accuracy there.
        point: CurvePoint,
    },
}

/// Accuracy of `model` against ε: `suite` in each ball of `threats`, in their order.
///
/// Every point is measured on its own, so that a curve that rises is seen and not smoothed away. At ε = 0 the ball holds
/// the natural image alone and nothing is attacked. The curve's points are told as they come; `CurvePoint::from` an
/// evaluation makes one.
///
/// # Errors
/// As [`super::evaluate`]. Points that were told before an error or a stop stand.
///
/// # Source
/// Carlini et al. 2019, section 5.5: accuracy against ε should fall to chance.
pub fn robustness_curve(
    model: &Model,
    dataset: &Dataset,
    suite: &Suite,
    threats: &[ThreatModel],
    device: &Device,
    control: &Control,
    on_event: &mut dyn FnMut(CurveEvent),
) -> Result<Vec<Evaluation>, EvaluateError> {
    let Some(first) = threats.first() else {
        return Ok(Vec::new());
    };
    Examination::new(model, dataset, suite, first, device).curve(threats, control, on_event)
}
