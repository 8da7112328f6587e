//! Training with factors rounded to float16: on a GPU of this machine, in steps alone, and refused in words elsewhere.

mod support;

use std::process::Command;

use burn::tensor::{Tensor, TensorData};
use martlet::{
    compute::{Device, Products, read},
    control::Control,
    data::Dataset,
    engine::{self, Event, TrainError, TrainingData, session},
    nn::{Mode, Model},
    random::Rng,
    recipe::{Recipe, preset},
    runs::Run,
};
use serde_json::Value;
use support::GREY;

/// Noise in ten classes, each a little brighter than the one before.
fn images(count: usize) -> Dataset {
    let mut rng = Rng::new(5);
    let labels: Vec<u16> = (0..count).map(|example| (example % 10) as u16).collect();
    let pixels: Vec<u8> = labels
        .iter()
        .flat_map(|label| (0..GREY.len()).map(|_| 20 * (*label as u8 + 1)).collect::<Vec<_>>())
        .map(|level| level + rng.below(40) as u8)
        .collect();
    let names = (0..10).map(|class| class.to_string()).collect();
    Dataset::from_parts("noise", GREY, names, pixels, labels).unwrap()
}

fn data() -> TrainingData {
    let train = images(48);
    TrainingData {
        evaluated: train.take(10),
        train,
        split: "held-out",
        splits: Default::default(),
    }
}

fn recipe(mixed_precision: bool) -> Recipe {
    let mut recipe = preset("glyphs-mart").unwrap();
    (recipe.epochs, recipe.batch_size, recipe.attack.steps, recipe.log_every) = (2, 16, 2, 1);
    recipe.evaluation.attacks = vec!["natural".into(), "pgd-2".into()];
    recipe.mixed_precision = mixed_precision;
    recipe
}

/// What a training on the device hands back: the model, its losses step by step, and what the run says of its factors.
fn trained(device: &Device, mixed_precision: bool) -> (Model, Vec<f64>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let recipe = recipe(mixed_precision);
    let data = data();
    let mut run = Run::create(folder.path(), "run", &recipe.to_toml(), Value::Null).unwrap();
    let mut losses = Vec::new();
    let mut observer = |event: &Event| {
        if let Event::Step(step) = event {
            losses.push(step.figures["loss"]);
        }
    };
    let identity = serde_json::json!({});
    let model = session::run(
        &recipe,
        &data,
        &mut run,
        device,
        identity,
        &Control::new(),
        &mut observer,
    )
    .unwrap();
    let sessions = &run.identity()["sessions"];
    let said = sessions.as_array().unwrap().last().unwrap()["device"]["mixed_precision"].clone();
    (model, losses, said)
}

#[test]
fn steps_are_rounded_and_what_is_measured_is_not() {
    let Some(device) = support::vulkan() else { return };
    let (_, single, said) = trained(&device, false);
    assert!(said.is_null(), "{said}");
    let (model, half, said) = trained(&device, true);
    let expected = match device.half_products().unwrap() {
        Products::OnMatrixUnits(units) => format!("matrix units, {0} by {0}", units.size),
        _ => "rounded to float16".to_string(),
    };
    assert_eq!(said, expected);
    assert_eq!(half.len(), single.len());
    assert_ne!(half, single, "nothing was rounded");
    for (half, single) in half.iter().zip(&single) {
        assert!((half - single).abs() < 0.02 * single, "{half} is far from {single}");
    }
    // The model that is handed back computes in float32 again.
    let pixels: Vec<f32> = {
        let mut rng = Rng::new(3);
        (0..2 * GREY.len()).map(|_| rng.uniform(0.0, 1.0)).collect()
    };
    let images = || Tensor::<4>::from_data(TensorData::new(pixels.clone(), [2, 1, 28, 28]), device.tensors());
    let after = read(model.forward(images(), Mode::Eval)).unwrap();
    model.multiply(Products::Single);
    assert_eq!(after, read(model.forward(images(), Mode::Eval)).unwrap());
    model.multiply(device.half_products().unwrap());
    assert_ne!(after, read(model.forward(images(), Mode::Eval)).unwrap());
}

#[test]
fn the_processor_refuses_it_in_words_and_leaves_nothing_behind() {
    assert!(Device::cpu().half_products().is_none());
    let refused = engine::products(&recipe(true), &Device::cpu());
    assert!(matches!(refused, Err(TrainError::MixedPrecision { .. })));

    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_martlet"));
    command.args("train --recipe glyphs-mart --device cpu --limit-train 40 --set mixed_precision=true".split(' '));
    let output = command.arg("--runs-dir").arg(folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(
        said.contains("mixed_precision needs a GPU of this machine") && said.contains("--device"),
        "{said}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    for asked in [
        "devices --check cpu --network small-cnn --mixed-precision",
        "bench steps --device cpu --network small-cnn --alone --mixed-precision",
        "bench conv --device cpu --network small-cnn --mixed-precision",
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_martlet"));
        let output = command.args(asked.split(' ')).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{asked}: {said}");
        assert!(
            said.contains("--mixed-precision needs a GPU of this machine"),
            "{asked}: {said}"
        );
    }
}

#[test]
fn statistics_of_all_processes_are_not_taken_of_rounded_passes() {
    let text = recipe(true).to_toml();
    assert!(Recipe::from_toml(&text).is_ok());
    let mut both = recipe(true);
    both.sync_batch_norm = true;
    let error = both.validate().unwrap_err().to_string();
    assert!(
        error.contains("mixed_precision") && error.contains("sync_batch_norm"),
        "{error}"
    );
    assert!(!recipe(false).to_toml().contains("mixed_precision"));
}
