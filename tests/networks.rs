//! Every network's own program on the processor against burn's operations in double precision: logits, gradients of images
//! and parameters, statistics; evaluation and training, sides and channels that fill no block.

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
fn random<const D: usize>(rng: &mut Rng, [low, high]: [f32; 2], shape: [usize; D]) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform(low, high)).collect();
    Tensor::from_data(TensorData::new(values, shape), Device::cpu().tensors())
}

/// The gradient of a ReLU network jumps where the input of a ReLU crosses zero, and among a million units one often lies
/// nearer to zero than float32 rounds. So each case has a seed at which none does.
fn check(name: &str, [channels, height, width]: [usize; 3], examples: usize, seed: u64) {
    let input = ImageShape {
        channels,
        height,
        width,
    };
    let architecture = Architecture::from_str(name).unwrap();
    let rng = &mut Rng::new(seed);
    let mut model = Model::new(architecture, input, 10, rng, &Device::cpu()).unwrap();
    assert!(model.has_program(), "{name} has no program of its own");
    // Parameters that no layer leaves at zero, and statistics that are not those of a batch.
    let noise = random(rng, [-0.05, 0.05], [model.parameter_count()]);
    model.set_parameters(model.parameters() + noise);
    model.forward(random(rng, [0.0, 1.0], [8, channels, height, width]), Mode::Train);
    let images = [0, 1].map(|_| random(rng, [0.0, 1.0], [examples, channels, height, width]));
    let direction = random(rng, [-1.0, 1.0], [examples, 10]);
    let doubles = |images: &Images| images.clone().cast(DType::F64);
    // Fifty normalisations by the statistics of a few values magnify rounding in any program: not in training.
    let modes = if name == "resnet-50" {
        vec![Mode::Eval]
    } else {
        vec![Mode::Eval, Mode::Train]
    };
    for mode in modes {
        let exact = model.in_double_precision();
        let exact_direction = direction.clone().cast(DType::F64);
        let mut found = attack(&model.clone(), images[0].clone(), mode, &direction);
        let mut expected = attack(&exact.clone(), doubles(&images[0]), mode, &exact_direction);
        found.extend(passes(&model.clone(), images.clone(), mode, &direction));
        expected.extend(passes(&exact, images.each_ref().map(doubles), mode, &exact_direction));
        for ((what, ours), (_, exact)) in found.iter().zip(&expected) {
            assert_eq!(ours.len(), exact.len(), "{name}, {mode:?}: {what}");
            if exact.is_empty() {
                continue; // A network without BatchNorm has no statistics.
            }
            let largest = exact.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let differences = ours.iter().zip(exact).map(|(ours, exact)| (ours - exact).abs());
            let off = differences.fold(0.0, f32::max) / largest;
            assert!(
                off <= 2e-5,
                "{name} at seed {seed}, {mode:?}: {what} is off by {off} of the largest"
            );
        }
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
    check("resnet-18", [3, 32, 32], 2, 4);
    check("resnet-18", [1, 15, 18], 2, 1);
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
