//! Every network's own program on the processor against burn's operations in double precision: logits, gradients of images
//! and parameters, statistics; evaluation and training, sides and channels that fill no block.

mod support;

use std::str::FromStr;

use burn::tensor::{DType, Tensor, TensorData};
use martlet::{
    compute::{Device, read},
    nn::{Architecture, Mode, Model, StateValues},
    random::Rng,
    shapes::{ImageShape, Images},
};

/// Everything that a pass gives, by name.
type Found = Vec<(&'static str, Vec<f32>)>;

fn flat<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    read(tensor.inner().cast(DType::F32)).unwrap()
}

fn statistics(model: &Model) -> Vec<f32> {
    let entries = model.state().unwrap().into_iter();
    entries
        .filter(|entry| entry.name.contains("running"))
        .flat_map(|entry| match entry.values {
            StateValues::F32(values) => values,
            StateValues::I64(_) => Vec::new(),
        })
        .collect()
}

/// Two minibatches through the network and back, as a defence makes them.
fn passes(model: &Model, images: [Images; 2], mode: Mode, direction: &Tensor<2>) -> Found {
    let tracked = model.tracked();
    tracked.seed_dropout(3);
    let images = images.map(|images| images.autodiff().require_grad());
    let [first, second] = tracked.forward_both(images.clone(), mode);
    let objective = (first.clone() * direction.clone() + second.clone() * direction.clone() * 0.5).sum();
    let mut gradients = objective.backward();
    let [of_first, of_second] = images.map(|images| images.grad_remove(&mut gradients).unwrap());
    let parameters = tracked.gradient(&mut gradients).unwrap();
    vec![
        ("first logits", flat(first)),
        ("second logits", flat(second)),
        ("first images", flat(of_first)),
        ("second images", flat(of_second)),
        ("parameters", flat(parameters)),
        ("statistics", statistics(model)),
    ]
}

/// The gradient that an attack takes: parameters take none.
fn attack(model: &Model, images: Images, mode: Mode, direction: &Tensor<2>) -> Found {
    model.seed_dropout(3);
    let images = images.autodiff().require_grad();
    let logits = model.forward(images.clone(), mode);
    let mut gradients = (logits.clone() * direction.clone()).sum().backward();
    let gradient = images.grad_remove(&mut gradients).unwrap();
    vec![("attacked logits", flat(logits)), ("attack", flat(gradient))]
}

/// Values uniform in an interval.
fn random<const D: usize>(device: &Device, rng: &mut Rng, [low, high]: [f32; 2], shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform(low, high)).collect();
    Tensor::from_data(TensorData::new(values, shape), device.tensors())
}

/// A network with parameters that no layer leaves at zero and statistics that are not those of a batch, and two minibatches
/// with what their logits are weighted by.
fn case(
    device: &Device,
    name: &str,
    [channels, height, width]: [usize; 3],
    examples: usize,
    seed: u64,
) -> (Model, [Images; 2], Tensor<2>) {
    let input = ImageShape {
        channels,
        height,
        width,
    };
    let architecture = Architecture::from_str(name).unwrap();
    let rng = &mut Rng::new(seed);
    let mut model = Model::new(architecture, input, 10, rng, device).unwrap();
    assert!(model.has_program(), "{name} has no program of its own");
    let noise = random(device, rng, [-0.05, 0.05], [model.parameter_count()]);
    model.set_parameters(model.parameters() + noise);
    model.forward(
        random(device, rng, [0.0, 1.0], [8, channels, height, width]),
        Mode::Train,
    );
    let images = [0, 1].map(|_| random(device, rng, [0.0, 1.0], [examples, channels, height, width]));
    let direction = random(device, rng, [-1.0, 1.0], [examples, 10]);
    (model, images, direction)
}

/// Everything that an attack and a step of training get from a network, in one mode.
fn everything(model: &Model, images: &[Images; 2], direction: &Tensor<2>, mode: Mode) -> Found {
    let mut found = attack(&model.clone(), images[0].clone(), mode, direction);
    found.extend(passes(&model.clone(), images.clone(), mode, direction));
    found
}

/// The largest difference in parts of the largest expected value.
fn off(ours: &[f32], expected: &[f32]) -> f32 {
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let differences = ours
        .iter()
        .zip(expected)
        .map(|(ours, expected)| (ours - expected).abs());
    differences.fold(0.0, f32::max) / largest.max(f32::MIN_POSITIVE)
}

#[track_caller]
fn compare(what: &str, ours: &Found, expected: &Found, allowed: f32) {
    for ((part, ours), (_, expected)) in ours.iter().zip(expected) {
        assert_eq!(ours.len(), expected.len(), "{what}: {part}");
        let off = off(ours, expected);
        assert!(off <= allowed, "{what}: {part} is off by {off:e} of the largest");
    }
}

/// The gradient of a ReLU network jumps where the input of a ReLU crosses zero, and among a million units one often lies
/// nearer to zero than float32 rounds. So each case has a seed at which none does.
fn check(name: &str, shape: [usize; 3], examples: usize, seed: u64) {
    let (model, images, direction) = case(&Device::cpu(), name, shape, examples, seed);
    // Fifty normalisations by the statistics of a few values magnify rounding in any program: not in training.
    let modes = if name == "resnet-50" {
        vec![Mode::Eval]
    } else {
        vec![Mode::Eval, Mode::Train]
    };
    for mode in modes {
        let ours = everything(&model, &images, &direction, mode);
        let doubles = images.each_ref().map(|images| images.clone().cast(DType::F64));
        let direction = direction.clone().cast(DType::F64);
        let exact = everything(&model.in_double_precision(), &doubles, &direction, mode);
        compare(&format!("{name} at seed {seed}, {mode:?}"), &ours, &exact, 2e-5);
    }
}

#[test]
fn small_networks() {
    check("small-cnn", [1, 28, 28], 16, 1);
    check("small-cnn", [3, 17, 21], 3, 1);
    check("dynamic-cnn", [1, 28, 28], 16, 2);
    check("dynamic-cnn", [3, 11, 9], 5, 1);
}

#[test]
fn the_eight_layer_network() {
    check("cnn8", [3, 8, 8], 8, 4);
    check("cnn8", [3, 9, 10], 6, 1);
}

#[test]
fn residual_networks() {
    check("resnet-18", [3, 32, 32], 2, 8);
    check("resnet-18", [1, 15, 18], 2, 2);
    check("preact-resnet-18", [3, 16, 16], 2, 1);
    check("resnet-50", [3, 8, 8], 2, 1);
    check("resnet-50", [1, 9, 7], 1, 1);
}

#[test]
fn wide_residual_networks() {
    check("wide-resnet-10-1", [3, 32, 32], 2, 1);
    check("wide-resnet-10-1", [3, 16, 16], 4, 1);
    check("wide-resnet-16-2", [3, 11, 8], 4, 1);
}

#[test]
fn a_gpu_agrees_with_the_processor() {
    let Some(device) = support::vulkan() else { return };
    for (name, shape, examples, seed) in [
        ("small-cnn", [1, 28, 28], 3, 1),
        ("small-cnn", [3, 17, 21], 2, 1),
        ("dynamic-cnn", [3, 11, 9], 5, 1),
        ("cnn8", [3, 9, 10], 6, 3),
        ("resnet-18", [1, 15, 18], 2, 2),
        ("preact-resnet-18", [3, 16, 16], 2, 1),
        ("resnet-50", [1, 9, 7], 1, 2),
        ("wide-resnet-10-1", [3, 16, 16], 4, 1),
        ("wide-resnet-16-2", [3, 11, 8], 4, 1),
    ] {
        let (there, images, direction) = case(&Device::cpu(), name, shape, examples, seed);
        let (here, own_images, own_direction) = case(&device, name, shape, examples, seed);
        let modes = if name == "resnet-50" {
            vec![Mode::Eval]
        } else {
            vec![Mode::Eval, Mode::Train]
        };
        for mode in modes {
            let ours = everything(&here, &own_images, &own_direction, mode);
            let expected = everything(&there, &images, &direction, mode);
            compare(&format!("{name} at seed {seed}, {mode:?}"), &ours, &expected, 1e-4);
        }
    }
}
