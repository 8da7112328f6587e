//! A device against the processor on whole networks: what an attack, a step of training and an evaluation take from one.
//!
//! Tuners and drivers have been wrong at some shapes only. So a run checks its own network, at the shape of its images and with its
//! own minibatch, before it trains; a device that was only opened is checked with two small networks.

use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};

use super::{Group, Sgd};
use crate::{
    compute::{
        Device, DeviceError, Products, guarded, read,
        self_check::{self, Comparison, Verdict, recall},
    },
    data::Dataset,
    losses::{self, Form},
    nn::{Architecture, Mode, Model, ModelError},
    random::Rng,
    recipe::{Decay, Optimiser, Recipe},
    shapes::{Batch, ImageShape},
};

/// A check that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The device stopped working.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The network does not fit the images.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device computes something else.
    #[error("{0}\nexpected what the processor computes; take --device cpu, or another driver")]
    Disagrees(Box<Verdict>),
}

/// A network and its minibatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The network.
    pub network: Architecture,
    /// Its images.
    pub input: ImageShape,
    /// Its classes.
    pub classes: usize,
    /// Images of a minibatch.
    pub batch: usize,
    /// Whether its training rounds factors to float16.
    pub mixed_precision: bool,
}

/// Operations of the processor that a check may cost: some seconds of two cores.
const OPERATIONS: usize = 1_000_000_000_000;
/// The same on a software rasteriser, which is far slower.
const OPERATIONS_OF_SOFTWARE: usize = 5_000_000_000;
/// Passes of an attack and a step of training, twice, each as long as a forward pass.
const PASSES: usize = 18;
/// What rounding adds up to in a network's activations, taken from a value of its images.
const ROUNDING: f32 = 1e-6;

impl Subject {
    /// The network with the data that it is mostly trained on: 28×28 grey images, or 32×32 in colour.
    pub fn usual(network: Architecture) -> Self {
        let grey = matches!(network, Architecture::SmallCnn | Architecture::DynamicCnn);
        let (channels, side) = if grey { (1, 28) } else { (3, 32) };
        Self {
            network,
            input: ImageShape {
                channels,
                height: side,
                width: side,
            },
            classes: 10,
            batch: 128,
            mixed_precision: false,
        }
    }

    /// What a process of a group trains: the recipe's network with its share of a minibatch.
    pub fn of_training(recipe: &Recipe, train: &Dataset, group: &dyn Group) -> Self {
        Self {
            network: recipe.network,
            input: train.shape(),
            classes: train.classes(),
            batch: recipe.batch_size.div_ceil(group.size().get()),
            mixed_precision: recipe.mixed_precision,
        }
    }

    /// A network that is there, with minibatches of so many images.
    pub fn of(model: &Model, batch: usize) -> Self {
        Self {
            network: model.architecture(),
            input: model.input(),
            classes: model.classes(),
            batch,
            mixed_precision: false,
        }
    }

    fn name(&self) -> String {
        let half = if self.mixed_precision { " in float16" } else { "" };
        format!("{} {} {} {}{half}", self.network, self.input, self.classes, self.batch)
    }

    /// As many images as the minibatch has, or as the processor takes some seconds for.
    fn examples(&self, model: &Model, device: &Device) -> usize {
        let operations: usize = model.convolutions().iter().map(|layer| layer.operations).sum();
        let limit = if device.info().kind.is_gpu() {
            OPERATIONS
        } else {
            OPERATIONS_OF_SOFTWARE
        };
        (limit / (PASSES * operations.max(1))).clamp(2, self.batch.max(2))
    }
}

/// Small networks with every kind of layer, for a device that was opened for no network yet.
const SMALL: [Subject; 2] = [
    Subject {
        network: Architecture::SmallCnn,
        input: ImageShape {
            channels: 1,
            height: 18,
            width: 17,
        },
        classes: 5,
        batch: 4,
        mixed_precision: false,
    },
    Subject {
        network: Architecture::WideResNet { depth: 10, width: 1 },
        input: ImageShape {
            channels: 3,
            height: 8,
            width: 9,
        },
        classes: 5,
        batch: 4,
        mixed_precision: false,
    },
];

/// The name of what [`check`] compares.
const GENERAL: &str = "small networks";

/// Compares the device with the processor now, and remembers the verdict. A failed comparison is a verdict, no error.
///
/// # Errors
/// When the device stops working during the check.
pub fn check(device: &Device) -> Result<Verdict, CheckError> {
    let begun = Instant::now();
    let mut comparisons = Vec::new();
    if !device.is_cpu() {
        for subject in SMALL {
            comparisons.extend(compare(&subject, device)?);
        }
        comparisons.extend(guarded(|| self_check::written_kernels(device))?);
    }
    Ok(keep(Verdict::new(device, begun, comparisons), device, GENERAL))
}

/// The remembered verdict for this device, driver and build if the device passed; else [`check`].
///
/// # Errors
/// When the device stops working during the check.
pub fn cached_or_check(device: &Device) -> Result<Verdict, CheckError> {
    match recall(device, GENERAL) {
        Some(verdict) if verdict.passed => Ok(verdict),
        _ => check(device),
    }
}

/// Compares the device with the processor on a network and its minibatch, now; remembers the verdict.
///
/// # Errors
/// When the device stops working during the check, or the network does not fit its images.
pub fn check_network(subject: &Subject, device: &Device) -> Result<Verdict, CheckError> {
    let begun = Instant::now();
    let comparisons = if device.is_cpu() {
        Vec::new()
    } else {
        compare(subject, device)?
    };
    Ok(keep(Verdict::new(device, begun, comparisons), device, &subject.name()))
}

/// The verdict on a network that is about to be trained or measured, remembered or new; none on the processor.
///
/// # Errors
/// [`CheckError::Disagrees`] where the device computes something else; as [`check_network`].
pub fn ensure_network(subject: &Subject, device: &Device) -> Result<Option<Verdict>, CheckError> {
    if device.is_cpu() {
        return Ok(None);
    }
    let verdict = match recall(device, &subject.name()) {
        Some(verdict) if verdict.passed => verdict,
        _ => check_network(subject, device)?,
    };
    if verdict.passed {
        Ok(Some(verdict))
    } else {
        Err(CheckError::Disagrees(Box::new(verdict)))
    }
}

fn keep(verdict: Verdict, device: &Device, subject: &str) -> Verdict {
    if !device.is_cpu() {
        verdict.remember(device, subject);
    }
    verdict
}

/// Something that was computed: its name, its values, whether it is a gradient.
type Computed = (&'static str, Vec<f32>, bool);

fn compare(subject: &Subject, device: &Device) -> Result<Vec<Comparison>, CheckError> {
    let cpu = Device::cpu();
    let by_device = |products| computed(subject, device, products, device, 0.0);
    let by_processor = |noise| computed(subject, &cpu, Products::Single, device, noise);
    let actual = by_device(Products::Single)?;
    let expected = by_processor(0.0)?;
    let moved = by_processor(ROUNDING)?;
    let mut found = differences(subject, "", [&actual, &expected, &moved]);
    if subject.mixed_precision {
        // Rounding moves everything, and sums in another order move what is rounded next: the gradients of two images through ResNet-18 by
        // a fifteenth of their length. Wrong products differ by the order of 1.
        const ALLOWED: f64 = 0.2;
        let rounded = by_device(Products::Rounded)?;
        let coarse = differences(subject, "in float16, ", [&rounded, &expected, &moved]);
        found.extend(coarse.into_iter().map(|found| found.allowing(ALLOWED)));
        if let Some(units @ Products::OnMatrixUnits(_)) = device.half_products() {
            let on_units = by_device(units)?;
            let other = differences(subject, "on matrix units, ", [&on_units, &rounded, &moved]);
            found.extend(other.into_iter().map(|found| found.allowing(ALLOWED)));
        }
    }
    Ok(found)
}

/// What was computed against what was expected, where `moved` is what rounding makes of the expected.
fn differences(subject: &Subject, how: &str, [actual, expected, moved]: [&[Computed]; 3]) -> Vec<Comparison> {
    let found = actual.iter().zip(expected).zip(moved);
    let compared = found.map(|(((what, actual, _), (_, expected, jumps)), (_, moved, _))| {
        let name = format!("{}: {how}{what}", subject.network);
        if *jumps {
            let moved = Comparison::of_length(&name, moved, expected);
            Comparison::of_length(&name, actual, expected).that_jumps(&moved)
        } else {
            Comparison::of_elements(&name, actual, expected)
        }
    });
    compared.collect()
}

/// Everything that training and an evaluation take from the network, computed on a device, with as many images as
/// `checked` is worth, each value of them moved by up to `noise`.
fn computed(
    subject: &Subject,
    device: &Device,
    products: Products,
    checked: &Device,
    noise: f32,
) -> Result<Vec<Computed>, CheckError> {
    let rng = &mut Rng::new(2026);
    let mut model = Model::new(subject.network, subject.input, subject.classes, rng, device)?;
    model.multiply(products);
    let examples = subject.examples(&model, checked);
    // Some networks begin with a last layer of zeros, through which no gradient passes.
    let start = random(rng, [-0.02, 0.02], [model.parameter_count()], device);
    model.set_parameters(model.parameters() + start);
    let ImageShape {
        channels,
        height,
        width,
    } = subject.input;
    let shape = [examples, channels, height, width];
    let natural = random(rng, [0.0, 1.0], shape, device);
    let perturbation = random(rng, [-0.05, 0.05], shape, device);
    let natural = natural + random(rng, [-1.0, 1.0], shape, device) * noise;
    let adversarial = (natural.clone() + perturbation).clamp(0.0, 1.0);
    let labels: Vec<i64> = (0..examples)
        .map(|example| (example % subject.classes) as i64)
        .collect();
    let batch = Batch {
        images: natural,
        labels: Tensor::<1, Int>::from_data(TensorData::new(labels, [examples]), device.tensors()),
        indices: (0..examples).collect(),
    };
    let found = guarded(|| passes(&mut model, &batch, adversarial))?;
    Ok(found)
}

fn random<const D: usize>(rng: &mut Rng, [low, high]: [f32; 2], shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform(low, high)).collect();
    Tensor::from_data(TensorData::new(values, shape), device.tensors())
}

/// What the network says to the images and an attack's gradient, then a step of MART.
fn passes(model: &mut Model, batch: &Batch, adversarial: Tensor<4>) -> Result<Vec<Computed>, DeviceError> {
    const FORM: Form = Form::Paper;
    let labels = || batch.labels.clone();
    let images = batch.images.clone().autodiff().require_grad();
    let logits = model.forward(images.clone(), Mode::Eval);
    let mut gradients = losses::cross_entropy(logits.clone(), labels()).sum().backward();
    // A missing gradient has no values, which no comparison passes.
    let of_images = images.grad_remove(&mut gradients).map_or(Ok(Vec::new()), read)?;
    let mut found = vec![
        ("logits in evaluation", read(logits.inner())?, false),
        ("gradient of the images", of_images, true),
    ];

    let tracked = model.tracked();
    tracked.seed_dropout(3);
    let [natural, attacked] = tracked.forward_both([batch.images.clone(), adversarial], Mode::Train);
    let trained = natural.clone().inner();
    let weight = losses::misclassification_weight(natural.clone(), labels(), FORM);
    let divergence = losses::kl_divergence(natural, attacked.clone(), FORM);
    let objective = (losses::boosted_cross_entropy(attacked, labels(), FORM) + divergence * weight * 5.0).mean();
    let mut gradients = objective.backward();
    let gradient = tracked.gradient(&mut gradients).ok();
    found.push(("logits in training", read(trained)?, false));
    found.push(("MART's loss", read(objective.inner())?, false));
    let of_parameters = gradient.clone().map_or(Ok(Vec::new()), read)?;
    found.push(("gradient of the parameters", of_parameters, true));
    if let Some(gradient) = gradient {
        let settings = Optimiser {
            learning_rate: 0.05,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 5e-4,
            decay: Decay::All,
            clip_gradient: None,
        };
        Sgd::default().step(model, gradient, &settings, 0.05);
    }
    found.push(("parameters after a step", read(model.parameters())?, false));
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_its_own_reference() {
        let verdict = check(&Device::cpu()).unwrap();
        assert!(verdict.passed && verdict.worst.is_empty());
        assert!(verdict.to_string().contains("reference"));
        let subject = Subject::usual(Architecture::SmallCnn);
        assert!(ensure_network(&subject, &Device::cpu()).unwrap().is_none());
    }

    #[test]
    fn what_is_compared_is_alive() {
        let cpu = Device::cpu();
        for subject in SMALL {
            let found = computed(&subject, &cpu, Products::Single, &cpu, 0.0).unwrap();
            assert_eq!(found.len(), 6);
            for (name, values, _) in found {
                assert!(values.iter().all(|value| value.is_finite()), "{name} is not finite");
                let alive = values.iter().filter(|value| value.abs() > 1e-7).count();
                // Dropout and ReLU leave many parameters of so small a network without a gradient.
                assert!(10 * alive > values.len(), "{name} is almost all zero");
            }
        }
    }
}
