//! Networks against PyTorch: parameter counts, logits, gradients, attack iterates, statistics and one step of SGD.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use burn::tensor::{Int, Tensor, TensorData};
use martlet::{
    attacks::{Keep, Pgd, maximise, value_and_gradient},
    compute::{Device, read},
    engine::Sgd,
    losses::{self, Form},
    nn::{Architecture, Mode, Model, StateEntry, StateValues, weights},
    random::Rng,
    recipe::{Decay, Optimiser},
    shapes::{ImageShape, Images, Labels},
    threat::{Norm, Start, ThreatModel},
};

const GREY: ImageShape = ImageShape {
    channels: 1,
    height: 28,
    width: 28,
};
const COLOUR: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};

fn model(name: &str, input: ImageShape) -> Model {
    let architecture = Architecture::from_str(name).unwrap();
    Model::new(architecture, input, 10, &mut Rng::new(1), &Device::cpu()).unwrap()
}

#[test]
fn parameter_counts_are_those_of_the_originals() {
    for (name, input, count) in [
        ("small-cnn", GREY, 312_202),
        ("dynamic-cnn", GREY, 421_834),
        ("cnn8", COLOUR, 1_639_794),
        ("resnet-18", COLOUR, 11_173_962),
        ("resnet-50", COLOUR, 23_520_842),
        ("wide-resnet-34-10", COLOUR, 46_160_474),
        ("wide-resnet-34-8", COLOUR, 29_551_578),
        ("wide-resnet-28-10", COLOUR, 36_479_194),
    ] {
        assert_eq!(model(name, input).parameter_count(), count, "{name}");
    }
}

#[test]
fn an_input_that_the_pools_use_up_is_refused() {
    let tiny = ImageShape {
        channels: 1,
        height: 8,
        width: 8,
    };
    let error = Model::new(Architecture::SmallCnn, tiny, 10, &mut Rng::new(1), &Device::cpu()).unwrap_err();
    assert!(error.to_string().contains("16×16"), "{error}");
}

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/arch")
        .join(file)
}

/// Any of a file's tensors, as float64 values.
struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f64>)>);

impl Tensors {
    fn read(file: &str) -> Self {
        let bytes = std::fs::read(golden(file)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let read = |view: &safetensors::tensor::TensorView| match view.dtype() {
            safetensors::Dtype::F64 => view
                .data()
                .chunks(8)
                .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
                .collect(),
            safetensors::Dtype::F32 => view
                .data()
                .chunks(4)
                .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                .collect(),
            safetensors::Dtype::I64 => view
                .data()
                .chunks(8)
                .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64)
                .collect(),
            other => panic!("{other:?}"),
        };
        Self(
            tensors
                .iter()
                .map(|(name, view)| (name.to_string(), (view.shape().to_vec(), read(&view))))
                .collect(),
        )
    }

    fn values(&self, name: &str) -> &[f64] {
        &self.0.get(name).unwrap_or_else(|| panic!("no {name}")).1
    }

    fn images(&self, name: &str) -> Images {
        let (shape, values) = &self.0[name];
        let values: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        Tensor::from_data(TensorData::new(values, shape.clone()), Device::cpu().tensors())
    }

    fn labels(&self) -> Labels {
        let values: Vec<i64> = self.values("y").iter().map(|v| *v as i64).collect();
        let count = values.len();
        Tensor::<1, Int>::from_data(TensorData::new(values, [count]), Device::cpu().tensors())
    }
}

/// Largest difference over the largest golden value.
#[track_caller]
fn agree(what: &str, ours: Vec<f32>, golden: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), golden.len(), "{what}");
    let scale = golden.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(1e-12);
    let off = ours
        .iter()
        .zip(golden)
        .map(|(a, b)| (f64::from(*a) - b).abs())
        .fold(0.0, f64::max)
        / scale;
    assert!(off < tolerance, "{what}: off by {off:e} of the largest");
}

fn check_against_pytorch(name: &str, file: &str, input: ImageShape, epsilon: &str) {
    let io = Tensors::read(&format!("{file}_io.safetensors"));
    let (x, y) = (io.images("x"), io.labels());
    let mut model = model(name, input).without_dropout();
    weights::load(&golden(&format!("{file}.safetensors")), &mut model).unwrap();
    let mut from_pt = self::model(name, input);
    weights::load(&golden(&format!("{file}.pt")), &mut from_pt).unwrap();
    assert_eq!(state(&model), state(&from_pt), "the two formats differ");

    let logits = model.forward(x.clone(), Mode::Eval);
    agree("logits", read(logits).unwrap(), io.values("logits_eval_f64"), 1e-5);
    let folded = model.inference().forward(x.clone(), Mode::Eval);
    agree(
        "folded logits",
        read(folded).unwrap(),
        io.values("logits_eval_f64"),
        1e-5,
    );

    let objective = |images: Images| losses::cross_entropy(model.forward(images, Mode::Eval), y.clone());
    let (_, gradient) = value_and_gradient(&objective, &x).unwrap();
    // The golden is that of the batch's mean, ours that of its sum.
    let examples = y.dims()[0] as f32;
    agree(
        "input gradient",
        read(gradient / examples).unwrap(),
        io.values("ce_input_grad_f64"),
        1e-4,
    );

    let threat = ThreatModel {
        norm: Norm::Linf,
        epsilon: epsilon.parse().unwrap(),
    };
    let ascend = |start: Images, steps: usize, step_size: &str, from: Start| {
        // The golden start is given, not drawn: the first iterate replaces the natural image only as a start.
        let natural = x.clone();
        let mut current = start;
        for _ in 0..steps {
            let pgd = Pgd {
                steps: 1,
                step_size: step_size.parse().unwrap(),
                start: from,
                restarts: 1,
                keep: Keep::Last,
            };
            let (_, gradient) = value_and_gradient(&objective, &current).unwrap();
            current = threat.ascend(&natural, current, gradient, pgd.step_size.value());
        }
        current
    };
    let fgsm = Pgd {
        steps: 1,
        step_size: epsilon.parse().unwrap(),
        start: Start::Natural,
        restarts: 1,
        keep: Keep::Last,
    };
    let ours = maximise(&objective, &x, &threat, &fgsm, &mut Rng::new(0)).unwrap();
    agree("FGSM", read(ours).unwrap(), io.values("fgsm_f32"), 1e-4);
    let start = (x.clone() + io.images("noise")).clamp(0.0, 1.0);
    let step_size = format!("{epsilon}/4");
    for steps in [0, 1, 2, 10] {
        let ours = ascend(start.clone(), steps, &step_size, Start::Natural);
        agree(
            &format!("PGD-{steps}"),
            read(ours).unwrap(),
            io.values(&format!("pgd{steps}_f32")),
            1e-4,
        );
    }

    // A step of training: natural pass, adversarial pass, released-code MART with λ 5, SGD with decay on everything.
    let tracked = model.tracked();
    let natural = tracked.forward(x.clone(), Mode::Train);
    agree(
        "training logits",
        read(natural.clone()).unwrap(),
        io.values("logits_train_nat_f64"),
        1e-4,
    );
    let adversarial = tracked.forward(io.images("pgd10_f32"), Mode::Train);
    agree(
        "adversarial training logits",
        read(adversarial.clone()).unwrap(),
        io.values("logits_train_adv_f64"),
        1e-4,
    );
    let loss = losses::boosted_cross_entropy(adversarial.clone(), y.clone(), Form::Released)
        + losses::kl_divergence(natural.clone(), adversarial, Form::Released)
            * losses::misclassification_weight(natural, y.clone(), Form::Released)
            * 5.0;
    let gradients = tracked.gradients(&mut loss.mean().backward()).unwrap();
    let golden_step = Tensors::read(&format!("{file}_grads.safetensors"));
    for (name, gradient) in &gradients {
        agree(
            name,
            read(gradient.clone()).unwrap(),
            golden_step.values(&format!("grad.{name}")),
            1e-4,
        );
    }
    for entry in state(&model) {
        if let Some((_, values)) = golden_step.0.get(&format!("bn_after_two_forwards.{}", entry.name)) {
            let ours = match &entry.values {
                StateValues::F32(values) => values.clone(),
                StateValues::I64(values) => values.iter().map(|v| *v as f32).collect(),
            };
            agree(&entry.name, ours, values, 1e-4);
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
    Sgd::default().step(&mut model, gradients, &settings, settings.learning_rate);
    let mut compared = 0;
    for parameter in model.parameters() {
        let name = format!("param_after_2_sgd.{}", parameter.name);
        if golden_step.0.contains_key(&name) {
            agree(&name, read(parameter.values).unwrap(), golden_step.values(&name), 1e-4);
            compared += 1;
        }
    }
    assert!(compared > 10, "only {compared} parameters were compared after the step");
}

fn state(model: &Model) -> Vec<StateEntry> {
    model.state().unwrap()
}

#[test]
fn small_cnn_agrees_with_pytorch() {
    check_against_pytorch("small-cnn", "smallcnn", GREY, "0.3");
}

#[test]
fn wide_resnet_agrees_with_pytorch() {
    check_against_pytorch("wide-resnet-10-1", "wrn10-1", COLOUR, "8/255");
}

#[test]
fn the_first_mart_loss_of_small_cnn_is_that_of_equal_logits() {
    let model = model("small-cnn", GREY);
    let x = Tensor::random(
        [8, 1, 28, 28],
        burn::tensor::Distribution::Uniform(0.0, 1.0),
        Device::cpu().tensors(),
    );
    let y = Tensor::<1, Int>::arange(0..8, Device::cpu().tensors());
    let logits = model.forward(x, Mode::Eval);
    let loss = read(losses::boosted_cross_entropy(logits, y, Form::Paper).mean()).unwrap()[0];
    assert!((loss - 2.407_946).abs() < 1e-5, "{loss}");
}

#[test]
fn snapshots_are_independent_and_tracked_copies_share_statistics() {
    let original = model("wide-resnet-10-1", COLOUR);
    let snapshot = original.clone();
    let x = Tensor::random(
        [4, 3, 32, 32],
        burn::tensor::Distribution::Uniform(0.0, 1.0),
        Device::cpu().tensors(),
    );
    let before = state(&snapshot);
    original.tracked().forward(x, Mode::Train);
    assert_eq!(state(&snapshot), before, "a snapshot's statistics moved");
    assert_ne!(state(&original), before, "a tracked pass did not move the statistics");
}

#[test]
fn folding_changes_nothing_but_rounding() {
    for name in [
        "dynamic-cnn",
        "cnn8",
        "resnet-18",
        "preact-resnet-18",
        "wide-resnet-10-1",
    ] {
        let model = model(name, COLOUR);
        let x = Tensor::random(
            [4, 3, 32, 32],
            burn::tensor::Distribution::Uniform(0.0, 1.0),
            Device::cpu().tensors(),
        );
        for _ in 0..3 {
            model.forward(x.clone(), Mode::Train);
        }
        let plain: Vec<f64> = read(model.forward(x.clone(), Mode::Eval))
            .unwrap()
            .into_iter()
            .map(f64::from)
            .collect();
        agree(
            name,
            read(model.inference().forward(x, Mode::Eval)).unwrap(),
            &plain,
            1e-4,
        );
    }
}

#[test]
fn weights_survive_a_file_and_wrappers_round_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let original = model("preact-resnet-18", COLOUR);
    weights::save_safetensors(&original, &path, &BTreeMap::new()).unwrap();
    let mut copy = Model::new(
        Architecture::PreActResNet18,
        COLOUR,
        10,
        &mut Rng::new(2),
        &Device::cpu(),
    )
    .unwrap();
    assert_ne!(state(&copy), state(&original));
    weights::load(&path, &mut copy).unwrap();
    assert_eq!(state(&copy), state(&original));

    let wrapped: Vec<StateEntry> = state(&original)
        .into_iter()
        .map(|entry| StateEntry {
            name: format!("state_dict.module.{}", entry.name),
            ..entry
        })
        .chain([StateEntry {
            name: "sub_block1.conv.weight".into(),
            shape: vec![1],
            values: StateValues::F32(vec![0.0]),
        }])
        .collect();
    let report = copy.load_state(wrapped).unwrap();
    assert_eq!(report.ignored, ["sub_block1.conv.weight"]);
}

#[test]
fn weights_of_another_network_are_refused_with_the_one_that_fits() {
    let mut small = model("small-cnn", COLOUR);
    let before = state(&small);
    let error = small
        .load_state(state(&model("resnet-18", COLOUR)))
        .unwrap_err()
        .to_string();
    assert!(error.contains("--network resnet-18"), "{error}");
    assert_eq!(state(&small), before);
}

#[test]
fn every_truncation_of_a_weights_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for (file, name) in [("smallcnn.safetensors", "small-cnn"), ("smallcnn.pt", "small-cnn")] {
        let bytes = std::fs::read(golden(file)).unwrap();
        let path = folder.path().join(file);
        for share in [0, 1, 10, 50, 90, 99] {
            std::fs::write(&path, &bytes[..bytes.len() * share / 100]).unwrap();
            let error = weights::load(&path, &mut model(name, GREY)).unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
        }
    }
}
