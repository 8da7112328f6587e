//! Accuracy against ε of a network that has just been trained.

use super::Robustness;
use crate::{
    app::lab::Subject,
    attacks::AttackSpec,
    control::Control,
    evaluation::{CurvePoint, EvaluateError, Suite, evaluate},
    recipe::Recipe,
    threat::ThreatModel,
};

/// Test images, as many as the shipped figures are of.
const IMAGES: usize = 300;
/// Radii in shares of the trained one: the ends first, so that the line has its shape early.
const SHARES: [f64; 9] = [0.0, 1.0, 3.0, 2.0, 1.5, 0.5, 1.25, 0.75, 0.25];

/// Measures it radius by radius and tells of each; where the data have no test images, on held-out ones.
pub fn measure(
    subject: &Subject,
    recipe: &Recipe,
    attack: &AttackSpec,
    control: &Control,
    tell: &mut dyn FnMut(Robustness),
) -> anyhow::Result<()> {
    let (whole, split) = recipe.examined()?;
    let dataset = whole.take(IMAGES.min(whole.len()));
    let name = attack.to_string();
    let mut suite = Suite::new(vec!["natural".parse()?, attack.clone()])?;
    (suite.seed, suite.probes) = (recipe.seed, false);
    let mut robustness = Robustness {
        points: Vec::new(),
        of: format!("{name}, N = {} {split}", dataset.len()),
        complete: false,
    };
    let (model, device) = subject.network();
    for share in SHARES {
        let threat = ThreatModel {
            norm: recipe.threat.norm,
            epsilon: recipe.threat.epsilon.times(share),
        };
        let evaluation = match evaluate(model, &dataset, &suite, &threat, device, control, &mut |_| {}) {
            Ok(evaluation) => evaluation,
            Err(EvaluateError::Stopped { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let point = CurvePoint::from(&evaluation);
        if let Some(accuracy) = point.accuracy.get(&name) {
            robustness.points.push([threat.epsilon.value().into(), accuracy]);
            robustness.points.sort_by(|a, b| a[0].total_cmp(&b[0]));
            robustness.complete = robustness.points.len() == SHARES.len();
            tell(robustness.clone());
        }
    }
    Ok(())
}
