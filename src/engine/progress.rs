//! What a checkpoint holds beside weights and velocities: counters, the generator, sums not yet reported.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{Adjustment, Best, EpochReport, TrainError};
use crate::{
    compute::{self, Device},
    defences::Memory,
    nn::{Flat, Layout, Model, StateEntry, StateValues},
    random::{Rng, RngState},
    runs::{Array, Values},
};

/// Sums over examples, in the order of [`Progress::names`].
#[derive(Debug, Clone, Default)]
struct Sums {
    totals: Vec<f64>,
    examples: u64,
}

impl Sums {
    /// Adds the means of a minibatch, which may be shorter than the others.
    fn add(&mut self, means: &[f32], examples: usize) {
        self.totals.resize(means.len(), 0.0);
        for (total, mean) in self.totals.iter_mut().zip(means) {
            *total += f64::from(*mean) * examples as f64;
        }
        self.examples += examples as u64;
    }

    fn take_means(&mut self, names: &[String]) -> BTreeMap<String, f64> {
        let sums = std::mem::take(self);
        names
            .iter()
            .cloned()
            .zip(sums.totals.iter().map(|total| total / sums.examples.max(1) as f64))
            .collect()
    }
}

/// Everything beside weights and velocities that the next minibatch depends on.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    /// Epochs done.
    pub epoch: usize,
    /// Minibatches done in the epoch under way.
    pub step: usize,
    /// Minibatches done in the whole run.
    pub total_steps: usize,
    /// The last minibatch's rate and radius.
    pub learning_rate: f64,
    pub epsilon: f64,
    pub rng: Rng,
    pub best: Option<Best>,
    /// The figures that every minibatch yields, by name.
    pub names: Vec<String>,
    window: Sums,
    whole_epoch: Sums,
    pub reports: Vec<EpochReport>,
    /// Kinds of warnings already given.
    pub warned: Vec<String>,
    /// What a person changed, in order.
    pub adjustments: Vec<Adjustment>,
}

/// [`Sums`] as written: bit patterns, because text may round and a resumed run must not.
#[derive(Serialize, Deserialize)]
struct StoredSums {
    totals: Vec<u64>,
    /// Runs of version 0.1 counted minibatches here; their epoch under way is summed up anew.
    #[serde(default)]
    examples: u64,
}

impl From<&Sums> for StoredSums {
    fn from(sums: &Sums) -> Self {
        Self {
            totals: sums.totals.iter().map(|total| total.to_bits()).collect(),
            examples: sums.examples,
        }
    }
}

impl From<StoredSums> for Sums {
    fn from(stored: StoredSums) -> Self {
        if stored.examples == 0 {
            return Self::default();
        }
        Self {
            totals: stored.totals.into_iter().map(f64::from_bits).collect(),
            examples: stored.examples,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    epoch: usize,
    step: usize,
    total_steps: usize,
    learning_rate: u64,
    epsilon: u64,
    rng: RngState,
    best: Option<Best>,
    names: Vec<String>,
    window: StoredSums,
    whole_epoch: StoredSums,
    reports: Vec<EpochReport>,
    warned: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    adjustments: Vec<Adjustment>,
    /// What the list of runs shows of this checkpoint.
    #[serde(default)]
    figures: serde_json::Value,
}

impl Progress {
    pub fn new(rng: Rng) -> Self {
        Self {
            epoch: 0,
            step: 0,
            total_steps: 0,
            learning_rate: 0.0,
            epsilon: 0.0,
            rng,
            best: None,
            names: Vec::new(),
            window: Sums::default(),
            whole_epoch: Sums::default(),
            reports: Vec::new(),
            warned: Vec::new(),
            adjustments: Vec::new(),
        }
    }

    /// Sets what the minibatches' figures are called; a change of defence inside an epoch starts the sums anew.
    pub fn name_figures(&mut self, names: Vec<&str>) {
        if !self.names.iter().eq(names.iter()) {
            self.names = names.into_iter().map(str::to_string).collect();
            self.window = Sums::default();
            self.whole_epoch = Sums::default();
        }
    }

    /// Adds the means of a minibatch of so many examples.
    pub fn add(&mut self, means: &[f32], examples: usize) {
        self.window.add(means, examples);
        self.whole_epoch.add(means, examples);
    }

    /// The means over the examples since the last call.
    pub fn take_window(&mut self) -> BTreeMap<String, f64> {
        self.window.take_means(&self.names)
    }

    /// The means over the epoch's examples.
    pub fn take_epoch(&mut self) -> BTreeMap<String, f64> {
        self.whole_epoch.take_means(&self.names)
    }

    pub fn to_json(&self) -> serde_json::Value {
        let stored = Stored {
            epoch: self.epoch,
            step: self.step,
            total_steps: self.total_steps,
            learning_rate: self.learning_rate.to_bits(),
            epsilon: self.epsilon.to_bits(),
            rng: self.rng.state(),
            best: self.best.clone(),
            names: self.names.clone(),
            window: (&self.window).into(),
            whole_epoch: (&self.whole_epoch).into(),
            reports: self.reports.clone(),
            warned: self.warned.clone(),
            adjustments: self.adjustments.clone(),
            figures: self.reports.last().map_or(
                serde_json::Value::Null,
                |report| serde_json::json!({ "epoch": report.epoch, "accuracy": report.accuracy, "n": report.n }),
            ),
        };
        // Plain numbers, text and lists always have a JSON form.
        serde_json::to_value(stored).unwrap_or_default()
    }

    pub fn from_json(value: &serde_json::Value) -> Result<Self, String> {
        let stored: Stored = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
        Ok(Self {
            epoch: stored.epoch,
            step: stored.step,
            total_steps: stored.total_steps,
            learning_rate: f64::from_bits(stored.learning_rate),
            epsilon: f64::from_bits(stored.epsilon),
            rng: Rng::restore(&stored.rng).ok_or("the generator's position is not a number")?,
            best: stored.best,
            names: stored.names,
            window: stored.window.into(),
            whole_epoch: stored.whole_epoch.into(),
            reports: stored.reports,
            warned: stored.warned,
            adjustments: stored.adjustments,
        })
    }
}

/// The model's weights and statistics as a checkpoint keeps them.
pub(super) fn weights(model: &Model) -> Result<BTreeMap<String, Array>, TrainError> {
    Ok(model
        .state()?
        .into_iter()
        .map(|entry| {
            let values = match entry.values {
                StateValues::F32(values) => Values::F32(values),
                StateValues::I64(values) => Values::I64(values),
            };
            (
                entry.name,
                Array {
                    shape: entry.shape,
                    values,
                },
            )
        })
        .collect())
}

/// Puts a checkpoint's weights into a model.
pub(super) fn load_weights(model: &mut Model, weights: &BTreeMap<String, Array>) -> Result<(), TrainError> {
    let entries = weights
        .iter()
        .map(|(name, array)| StateEntry {
            name: name.clone(),
            shape: array.shape.clone(),
            values: match &array.values {
                Values::F32(values) => StateValues::F32(values.clone()),
                Values::I64(values) => StateValues::I64(values.clone()),
            },
        })
        .collect();
    model.load_state(entries)?;
    Ok(())
}

/// What else training goes on from: a checkpoint's `optimiser` arrays. Velocities stand under their parameters' names,
/// the others under a prefix.
pub(super) struct Rest {
    pub velocity: Option<Flat>,
    /// The weights that the optimiser moves, where a checkpoint's weights are their average.
    pub trained: Option<BTreeMap<String, Array>>,
    pub memory: Memory,
}

const TRAINED: &str = "trained/";
const MEMORY: &str = "defence/";

impl Rest {
    pub fn into_arrays(self, model: &Model) -> Result<BTreeMap<String, Array>, TrainError> {
        let mut arrays = BTreeMap::new();
        if let Some(velocity) = self.velocity {
            let values = compute::read(velocity)?;
            for (parameter, values) in model.layout().split(&values) {
                let array = Array {
                    shape: parameter.shape.clone(),
                    values: Values::F32(values.to_vec()),
                };
                arrays.insert(parameter.name.clone(), array);
            }
        }
        for (name, array) in self.trained.into_iter().flatten() {
            arrays.insert(format!("{TRAINED}{name}"), array);
        }
        for (name, values) in self.memory {
            let shape = vec![values.len()];
            let values = Values::F32(values);
            arrays.insert(format!("{MEMORY}{name}"), Array { shape, values });
        }
        Ok(arrays)
    }

    pub fn from_arrays(arrays: &BTreeMap<String, Array>, layout: &Layout, device: &Device) -> Self {
        let mut rest = Self {
            velocity: None,
            trained: None,
            memory: Memory::new(),
        };
        let (mut velocity, mut moved) = (vec![0.0; layout.parameters()], false);
        for parameter in layout.entries() {
            let found = arrays.get(&parameter.name).map(|array| &array.values);
            if let Some(Values::F32(values)) = found
                && values.len() == parameter.places().len()
            {
                velocity[parameter.places()].copy_from_slice(values);
                moved = true;
            }
        }
        if moved {
            let data = TensorData::new(velocity, [layout.parameters()]);
            rest.velocity = Some(Tensor::from_data(data, device.tensors()));
        }
        for (name, array) in arrays {
            match (name.strip_prefix(TRAINED), name.strip_prefix(MEMORY), &array.values) {
                (Some(name), _, _) => {
                    let trained = rest.trained.get_or_insert_default();
                    trained.insert(name.to_string(), array.clone());
                }
                (_, Some(name), Values::F32(values)) => {
                    rest.memory.insert(name.to_string(), values.clone());
                }
                _ => {}
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_an_epoch_are_means_over_examples() {
        let mut progress = Progress::new(Rng::new(1));
        progress.name_figures(vec!["loss"]);
        // 16 examples, 16 and a single one.
        for (mean, examples) in [(1.0, 16), (2.0, 16), (19.0, 1)] {
            progress.add(&[mean], examples);
        }
        assert!((progress.take_epoch()["loss"] - 67.0 / 33.0).abs() < 1e-12);
    }
}
