//! How long an experiment will take, from a short measurement on the device.

use super::{ExperimentError, Plan, RowState, Trains};
use crate::{
    compute::Device,
    control::Control,
    data::{self, Split},
    defences::{DefenceSpec, Members},
    engine::{TrainingData, pace::Pace},
};

/// The promise.
#[derive(Debug, Clone)]
pub struct Estimate {
    /// Seconds for each row of the plan: training, then measuring.
    pub rows: Vec<(f64, f64)>,
}

impl Estimate {
    /// Seconds for what is still to be done of the chosen rows.
    pub fn left(&self, chosen: &[usize], states: &[RowState]) -> f64 {
        let of = |row: &usize| {
            let (training, measuring) = self.rows[*row];
            match states.get(*row) {
                Some(RowState::Measured) => 0.0,
                Some(RowState::Trained) => measuring,
                Some(RowState::Begun { epochs, of }) => {
                    training * (1.0 - *epochs as f64 / (*of).max(1) as f64) + measuring
                }
                _ => training + measuring,
            }
        };
        chosen.iter().map(of).sum()
    }
}

/// Measures every kind of run that the plan holds, unless it did so lately, and adds up; nothing where `control` stops it on the
/// way. Only rows that are `wanted` count; `tell` hears of each before it is measured.
///
/// # Errors
/// When the data cannot be read, or the device fails.
pub fn estimate(
    plan: &Plan,
    wanted: &dyn Fn(usize) -> bool,
    device: &Device,
    control: &Control,
    tell: &mut dyn FnMut(usize),
) -> Result<Option<Estimate>, ExperimentError> {
    let test = data::load(&plan.source, Split::Test).map_err(crate::engine::TrainError::from)?;
    let mut rows = Vec::with_capacity(plan.rows.len());
    for (row, planned) in plan.rows.iter().enumerate() {
        if control.is_stopped() {
            return Ok(None);
        }
        if !wanted(row) {
            rows.push((0.0, 0.0));
            continue;
        }
        tell(row);
        let mut recipe = planned.recipe.clone();
        if let Trains::Subset { treatment, .. } = planned.row.trains {
            // Which examples they are changes nothing about the time.
            let members = Members::default();
            recipe.defence = DefenceSpec::Subset {
                members,
                side: None,
                treatment,
            };
        }
        let unlabelled = recipe.data.unlabelled.take();
        let data = TrainingData::load(&recipe)?;
        let pace = Pace::of(&recipe, &data, device)?;
        // As many more images in an epoch as the share of the unlabelled ones asks for.
        recipe.data.unlabelled = unlabelled;
        let mixed = recipe.batch_size as f64 / recipe.labelled_share(recipe.data.unlabelled.is_some()) as f64;
        let mut measuring = 0.0;
        for measure in plan.measures.iter().filter(|_| !planned.row.trains.is_helper()) {
            measuring += pace.evaluation(&measure.suite()?, test.len().min(measure.limit.unwrap_or(usize::MAX)));
        }
        rows.push((pace.run(&recipe, &data)? * mixed, measuring));
    }
    Ok(Some(Estimate { rows }))
}
