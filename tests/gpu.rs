//! A whole training step on a Vulkan device against the CPU, and an attack that goes on for long.

mod support;

use burn::tensor::{Int, Tensor, TensorData};
use martlet::{
    attacks::{Keep, Pgd, maximise},
    compute::{Device, read},
    defences::{DefenceSpec, StepContext},
    engine::Sgd,
    losses::{self, Form},
    nn::{Architecture, Mode, Model},
    random::Rng,
    recipe::preset,
    shapes::{Batch, ImageShape, Images},
    threat::{Norm, Start, ThreatModel},
};
use support::vulkan;

/// Small on purpose: a software rasteriser compiles and runs every kernel on the processor.
const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 8,
    width: 8,
};
const EXAMPLES: usize = 4;

fn batch(device: &Device) -> Batch {
    let mut rng = Rng::new(4);
    let pixels: Vec<f32> = (0..EXAMPLES * SHAPE.len()).map(|_| rng.uniform(0.0, 1.0)).collect();
    let shape = [EXAMPLES, SHAPE.channels, SHAPE.height, SHAPE.width];
    Batch {
        images: Tensor::from_data(TensorData::new(pixels, shape), device.tensors()),
        labels: Tensor::<1, Int>::from_data(TensorData::new(vec![1i64, 5, 0, 9], [EXAMPLES]), device.tensors()),
        indices: (0..EXAMPLES).collect(),
    }
}

fn model(device: &Device) -> Model {
    Model::new(Architecture::DynamicCnn, SHAPE, 10, &mut Rng::new(6), device).unwrap()
}

fn threat() -> ThreatModel {
    ThreatModel {
        norm: Norm::Linf,
        epsilon: "0.1".parse().unwrap(),
    }
}

/// Loss, adversarial images and weights after one step of MART from the same start.
fn one_step(device: &Device) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut model = model(device);
    let batch = batch(device);
    let recipe = preset("mnist-mart").unwrap();
    let mut pgd = recipe.attack.pgd(1.0);
    (pgd.steps, pgd.step_size) = (3, "0.025".parse().unwrap());
    let attacked = |images: Images| model.forward(images, Mode::Eval);
    let mut context = StepContext {
        attacking: std::time::Duration::ZERO,
        attacked: &attacked,
        threat: &threat(),
        pgd: &pgd,
        label_smoothing: 0.0,
        epoch: 0,
        rngs: &mut Rng::new(8).each(batch.len()),
    };
    let mut mart = DefenceSpec::mart(5.0, Form::Paper).build();
    let (loss, gradient) = mart.gradients(&model, &batch, &mut context).unwrap();
    Sgd::default().step(&mut model, gradient, &recipe.optimiser, 0.05);
    let weights = read(model.parameters()).unwrap();
    (
        read(loss.objective).unwrap(),
        read(loss.adversarial.unwrap()).unwrap(),
        weights,
    )
}

#[test]
fn a_training_step_agrees_with_the_cpu() {
    let Some(device) = vulkan() else { return };
    let here = one_step(&device);
    let there = one_step(&Device::cpu());
    for (name, ours, cpu) in [
        ("loss", here.0, there.0),
        ("adversarial images", here.1, there.1),
        ("weights", here.2, there.2),
    ] {
        let largest = cpu.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let off = ours.iter().zip(&cpu).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
        assert!(
            off < 1e-3,
            "{name}: off by {off:e} of the largest on {}",
            device.info().name
        );
    }
}

#[test]
fn five_hundred_attack_steps_take_no_more_memory_than_fifty() {
    let Some(device) = vulkan() else { return };
    let (model, batch) = (model(&device), batch(&device));
    let objective = |images: Images| losses::cross_entropy(model.forward(images, Mode::Eval), batch.labels.clone());
    let attack = |steps: usize| {
        let step_size = "0.01".parse().unwrap();
        let pgd = Pgd {
            steps,
            step_size,
            start: Start::Uniform,
            restarts: 1,
            keep: Keep::Last,
        };
        let images = maximise(
            &objective,
            &batch.images,
            &threat(),
            &pgd,
            &mut Rng::new(2).each(batch.len()),
        )
        .unwrap();
        read(images).unwrap();
        device.memory_bytes_in_use().expect("a Vulkan device counts its memory")
    };
    let after_fifty = attack(50);
    let after_all = attack(450);
    assert!(
        after_all <= after_fifty + after_fifty / 10,
        "{after_fifty} bytes after 50 steps, {after_all} after 500"
    );
}

/// Every launch costs a GPU some microseconds, whatever it does; a step of a small network is made of little else.
#[test]
fn a_step_of_a_small_network_is_few_launches() {
    let device = vulkan().expect("a Vulkan device; .ci/packages installs a software one");
    let folder = tempfile::tempdir().unwrap();
    let counts = folder.path().join("counts.json");
    let status = std::process::Command::new(env!("CARGO_BIN_EXE_martlet"))
        .args([
            "bench",
            "kernels",
            "--batch",
            "8",
            "--device",
            &device.info().selector,
            "--json",
        ])
        .arg(&counts)
        .output()
        .unwrap();
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let counts: serde_json::Value = serde_json::from_slice(&std::fs::read(&counts).unwrap()).unwrap();
    let of = |form: &str| -> u64 {
        let kernels = counts["launches"][form].as_object().unwrap();
        kernels.values().map(|count| count.as_u64().unwrap()).sum()
    };
    assert!(of("mart") <= 280, "{} launches of a step of MART", of("mart"));
    assert!(of("attack") <= 20, "{} launches of a step of an attack", of("attack"));
    // An attack's step begins with its loss: nothing multiplies its gradient by ones.
    assert!(counts["launches"]["attack"].get("scale_rows").is_none());
}
