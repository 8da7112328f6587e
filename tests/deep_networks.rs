//! The deep networks with BatchNorm against float64 PyTorch, through their whole depth: attack iterates in evaluation
//! mode, the images' gradient in training mode, and one step of MART with its statistics.
//!
//! `tests/golden/networks.py` writes the reference values and says why their seeds are chosen.

mod support;

use std::{collections::BTreeMap, str::FromStr};

use burn::tensor::{Int, Tensor, TensorData};
use martlet::{
    attacks::value_and_gradient,
    compute::{Device, read},
    engine::Sgd,
    losses::{self, Form},
    nn::{Architecture, Mode, Model, StateValues},
    random::Rng,
    recipe::{Decay, Optimiser},
    shapes::{ImageShape, Images},
    threat::{Norm, ThreatModel},
};
use serde::Deserialize;
use support::{agree, agree_within};

#[derive(Deserialize)]
struct Golden {
    seed: u32,
    examples: usize,
    side: usize,
    results: BTreeMap<String, Summary>,
}

/// A tensor whole, or its norm, its largest value and evenly spaced entries from the first to the last.
#[derive(Deserialize)]
#[serde(untagged)]
enum Summary {
    Whole { values: Vec<f64> },
    Samples { norm: f64, largest: f64, samples: Vec<f64> },
}

const TOLERANCE: f64 = 1e-4;

impl Golden {
    #[track_caller]
    fn check(&self, name: &str, ours: Vec<f32>) {
        match self.results.get(name).unwrap_or_else(|| panic!("no {name}")) {
            Summary::Whole { values } => agree(name, ours, values, TOLERANCE),
            Summary::Samples { norm, largest, samples } => {
                let our_norm = ours.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                assert!(
                    (our_norm / norm - 1.0).abs() < TOLERANCE,
                    "{name}: norm {our_norm}, not {norm}"
                );
                let chosen = (0..samples.len()).map(|k| ours[(ours.len() - 1) * k / (samples.len() - 1)]);
                agree_within(name, chosen.collect(), samples, TOLERANCE, *largest);
            }
        }
    }
}

/// Hashed counters as fractions of 2²⁴, which are exact in every precision; then `low + fraction·(high − low)`.
fn uniform(seed: u32, stream: u32, count: usize, low: f64, high: f64) -> Vec<f32> {
    let offset = stream
        .wrapping_mul(0x85EB_CA6B)
        .wrapping_add(seed.wrapping_mul(0xC2B2_AE35));
    let hash = |counter: u32| {
        let mut h = counter.wrapping_mul(0x9E37_79B9).wrapping_add(offset);
        h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
        h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
        h ^ (h >> 16)
    };
    (0..count as u32)
        .map(|counter| (low + f64::from(hash(counter) >> 8) / f64::from(1 << 24) * (high - low)) as f32)
        .collect()
}

/// The network with the formula's weights and statistics.
fn filled(name: &str, shape: ImageShape, seed: u32) -> Model {
    let architecture = Architecture::from_str(name).unwrap();
    let mut model = Model::new(architecture, shape, 10, &mut Rng::new(1), &Device::cpu()).unwrap();
    let mut entries = model.state().unwrap();
    for (stream, entry) in entries.iter_mut().enumerate() {
        let StateValues::F32(values) = &mut entry.values else {
            continue;
        };
        let (low, high) = if entry.shape.len() > 1 {
            let bound = 1.0 / (entry.shape[1..].iter().product::<usize>() as f64).sqrt();
            (-bound, bound)
        } else if entry.name.ends_with("running_var") {
            (0.1, 0.5)
        } else if entry.name.ends_with("weight") {
            (0.5, 1.5)
        } else {
            (-0.1, 0.1)
        };
        *values = uniform(seed, stream as u32, values.len(), low, high);
    }
    model.load_state(entries).unwrap();
    model
}

fn check(name: &str) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/networks.json");
    let mut all: BTreeMap<String, Golden> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let golden = all.remove(name).unwrap();
    let shape = ImageShape {
        channels: 3,
        height: golden.side,
        width: golden.side,
    };
    let (seed, examples) = (golden.seed, golden.examples);
    let images = |stream, low, high| -> Images {
        let values = uniform(seed, stream, examples * shape.len(), low, high);
        let dims = [examples, shape.channels, shape.height, shape.width];
        Tensor::from_data(TensorData::new(values, dims), Device::cpu().tensors())
    };
    let threat = ThreatModel {
        norm: Norm::Linf,
        epsilon: "8/255".parse().unwrap(),
    };
    let epsilon = 8.0 / 255.0;
    let x = images(1000, 0.0, 1.0);
    let start = (x.clone() + images(1001, -epsilon, epsilon)).clamp(0.0, 1.0);
    let labels: Vec<i64> = (0..examples).map(|i| (i64::from(seed) + 3 * i as i64) % 10).collect();
    let y = Tensor::<1, Int>::from_data(TensorData::new(labels, [examples]), Device::cpu().tensors());
    let gradient = |model: &Model, mode: Mode, images: &Images| {
        let objective = |images: Images| losses::cross_entropy(model.forward(images, mode), y.clone());
        // The golden is that of the batch's mean, ours that of its sum.
        value_and_gradient(&objective, images).unwrap().1 / examples as f32
    };

    let model = filled(name, shape, seed);
    let logits = model.forward(x.clone(), Mode::Eval);
    golden.check("eval.logits", read(logits).unwrap());
    golden.check("eval.gradient", read(gradient(&model, Mode::Eval, &x)).unwrap());
    let mut current = start.clone();
    for _ in 0..5 {
        let gradient = gradient(&model, Mode::Eval, &current);
        current = threat.ascend(&x, current, gradient, 2.0 / 255.0);
    }
    golden.check("eval.iterate", read(current).unwrap());
    golden.check("train.gradient", read(gradient(&model, Mode::Train, &x)).unwrap());

    let mut model = filled(name, shape, seed);
    let tracked = model.tracked();
    let [natural, adversarial] = tracked.forward_both([x, start], Mode::Train);
    golden.check("step.natural_logits", read(natural.clone()).unwrap());
    golden.check("step.adversarial_logits", read(adversarial.clone()).unwrap());
    let loss = losses::boosted_cross_entropy(adversarial.clone(), y.clone(), Form::Paper)
        + losses::kl_divergence(natural.clone(), adversarial, Form::Paper)
            * losses::misclassification_weight(natural, y.clone(), Form::Paper)
            * 5.0;
    let loss = loss.mean();
    golden.check("step.loss", read(loss.clone()).unwrap());
    let gradient = tracked.gradient(&mut loss.backward()).unwrap();
    for (parameter, values) in model.layout().split(&read(gradient.clone()).unwrap()) {
        let key = format!("step.gradient.{}", parameter.name);
        // Before the batch's own statistics a bias changes nothing: its gradient is rounding alone.
        if golden.results.contains_key(&key) {
            golden.check(&key, values.to_vec());
        }
    }
    let settings = Optimiser {
        learning_rate: 0.01,
        momentum: 0.9,
        nesterov: false,
        weight_decay: 3.5e-3,
        decay: Decay::All,
        clip_gradient: None,
    };
    Sgd::default().step(&mut model, gradient, &settings, settings.learning_rate);
    let mut checked = 0;
    for entry in model.state().unwrap() {
        let values = match entry.values {
            StateValues::F32(values) => values,
            StateValues::I64(values) => values.into_iter().map(|value| value as f32).collect(),
        };
        golden.check(&format!("step.after.{}", entry.name), values);
        checked += 1;
    }
    let expected = golden.results.keys().filter(|key| key.starts_with("step.after."));
    assert_eq!(checked, expected.count(), "tensors of the state dict");
}

#[test]
fn resnet_18_agrees_with_pytorch() {
    check("resnet-18");
}

#[test]
fn cnn8_agrees_with_pytorch() {
    check("cnn8");
}
