//! Networks against PyTorch: parameter counts, logits, gradients, attack iterates, statistics and one step of SGD.

mod support;

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use burn::tensor::{DType, Int, Tensor, TensorData};
use martlet::{
    attacks::{Keep, Pgd, maximise, value_and_gradient},
    compute::{Device, read},
    engine::Sgd,
    losses::{self, Form},
    nn::{Architecture, Mode, Model, StateEntry, StateValues, weights},
    random::Rng,
    recipe::{Decay, Optimiser},
    shapes::{ImageShape, Images, Labels},
    threat::{Magnitude, Norm, Start, ThreatModel},
};
use support::{COLOUR, GREY, agree};

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
    // The golden start is given, not drawn. A unit whose input lies nearer to zero than float32 rounds may fall on either side;
    // then an image's gradient is another, and which images met one shows against double precision on the same iterate.
    let exact = model.in_double_precision();
    let in_double = |images: Images| losses::cross_entropy(exact.forward(images, Mode::Eval), y.clone());
    let ascend = |start: Images, steps: usize, step_size: &str| {
        let step_size: Magnitude = step_size.parse().unwrap();
        let (mut current, mut met) = (start, vec![false; y.dims()[0]]);
        for _ in 0..steps {
            let (_, gradient) = value_and_gradient(&objective, &current).unwrap();
            let (_, expected) = value_and_gradient(&in_double, &current.clone().cast(DType::F64)).unwrap();
            let [ours, expected] = [gradient.clone(), expected.cast(DType::F32)].map(|g| read(g).unwrap());
            let of_image = ours.len() / met.len();
            for ((ours, expected), met) in ours.chunks(of_image).zip(expected.chunks(of_image)).zip(&mut met) {
                let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                *met |= ours.iter().zip(expected).any(|(a, b)| (a - b).abs() > 1e-5 * largest);
            }
            current = threat.ascend(&x, current, gradient, step_size.value());
        }
        (current, met)
    };
    let fgsm = Pgd {
        steps: 1,
        step_size: epsilon.parse().unwrap(),
        start: Start::Natural,
        restarts: 1,
        keep: Keep::Last,
    };
    let ours = maximise(&objective, &x, &threat, &fgsm, &mut Rng::new(0).each(x.dims()[0])).unwrap();
    agree("FGSM", read(ours).unwrap(), io.values("fgsm_f32"), 1e-4);
    let start = (x.clone() + io.images("noise")).clamp(0.0, 1.0);
    let step_size = format!("{epsilon}/4");
    for steps in [0, 1, 2, 10] {
        let (ours, met) = ascend(start.clone(), steps, &step_size);
        let golden = io.values(&format!("pgd{steps}_f32"));
        let allowed = if steps == 10 { 1 } else { 0 };
        assert!(
            met.iter().filter(|met| **met).count() <= allowed,
            "PGD-{steps}: {met:?}"
        );
        let of_image = golden.len() / met.len();
        let ours = read(ours).unwrap();
        for (image, (ours, golden)) in ours.chunks(of_image).zip(golden.chunks(of_image)).enumerate() {
            if !met[image] {
                agree(&format!("PGD-{steps}, image {image}"), ours.to_vec(), golden, 1e-4);
            }
        }
    }

    // Two steps of training: natural pass, adversarial pass, MART as the paper has it with λ 5, SGD with decay on all.
    let golden_steps = Tensors::read(&format!("{file}_grads.safetensors"));
    let report = std::fs::read_to_string(golden(&format!("{file}.json"))).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let settings = Optimiser {
        learning_rate: 0.01,
        momentum: 0.9,
        nesterov: false,
        weight_decay: 3.5e-3,
        decay: Decay::All,
        clip_gradient: None,
    };
    let mut sgd = Sgd::default();
    for step in 0..3 {
        let tracked = model.tracked();
        let natural = tracked.forward(x.clone(), Mode::Train);
        let adversarial = tracked.forward(io.images("pgd10_f32"), Mode::Train);
        let ours = [read(natural.clone()).unwrap(), read(adversarial.clone()).unwrap()];
        let loss = losses::boosted_cross_entropy(adversarial.clone(), y.clone(), Form::Paper)
            + losses::kl_divergence(natural.clone(), adversarial, Form::Paper)
                * losses::misclassification_weight(natural, y.clone(), Form::Paper)
                * 5.0;
        let loss = loss.mean();
        let expected = report["mart_loss_over_2_sgd_steps_f64"][step].as_f64().unwrap();
        agree("loss", read(loss.clone()).unwrap(), &[expected], 1e-5);
        let gradient = tracked.gradient(&mut loss.backward()).unwrap();
        if step == 0 {
            let [natural, adversarial] = ours;
            agree("training logits", natural, io.values("logits_train_nat_f64"), 1e-5);
            agree(
                "adversarial training logits",
                adversarial,
                io.values("logits_train_adv_f64"),
                1e-5,
            );
            for (parameter, values) in model.layout().split(&read(gradient.clone()).unwrap()) {
                let expected = golden_steps.values(&format!("grad.{}", parameter.name));
                agree(&parameter.name, values.to_vec(), expected, 1e-4);
            }
            check_statistics(&model, &golden_steps);
        }
        if step < 2 {
            sgd.step(&mut model, gradient, &settings, settings.learning_rate);
        }
    }
    for (parameter, values) in model.layout().split(&read(model.parameters()).unwrap()) {
        let name = format!("param_after_2_sgd.{}", parameter.name);
        agree(&name, values.to_vec(), golden_steps.values(&name), 1e-5);
    }
}

/// Running statistics after one natural and one adversarial pass.
fn check_statistics(model: &Model, golden: &Tensors) {
    for entry in state(model) {
        if let Some((_, values)) = golden.0.get(&format!("bn_after_two_forwards.{}", entry.name)) {
            let ours = match &entry.values {
                StateValues::F32(values) => values.clone(),
                StateValues::I64(values) => values.iter().map(|v| *v as f32).collect(),
            };
            agree(&entry.name, ours, values, 1e-5);
        }
    }
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
        // BatchNorm stands by itself where its parameters may take gradients.
        let plain: Vec<f64> = read(model.tracked().forward(x.clone(), Mode::Eval))
            .unwrap()
            .into_iter()
            .map(f64::from)
            .collect();
        agree(name, read(model.forward(x, Mode::Eval)).unwrap(), &plain, 1e-4);
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

/// Where a state dict's tensors stand in another program's file.
fn renamed(entries: Vec<StateEntry>, name: impl Fn(&str) -> String) -> Vec<StateEntry> {
    entries
        .into_iter()
        .map(|entry| StateEntry {
            name: name(&entry.name),
            ..entry
        })
        .collect()
}

fn extra(name: &str) -> StateEntry {
    StateEntry {
        name: name.into(),
        shape: vec![1],
        values: StateValues::F32(vec![0.5]),
    }
}

fn shapes(entries: &[StateEntry]) -> Vec<(String, Vec<usize>)> {
    entries
        .iter()
        .map(|entry| (entry.name.clone(), entry.shape.clone()))
        .collect()
}

#[test]
fn a_state_dict_tells_its_network_whatever_its_images_classes_and_wrappers() {
    for (name, input, classes) in [
        ("small-cnn", COLOUR, 10),
        ("dynamic-cnn", COLOUR, 3),
        ("cnn8", COLOUR, 100),
        ("resnet-18", GREY, 10),
        ("resnet-50", COLOUR, 10),
        ("preact-resnet-18", COLOUR, 10),
        ("wide-resnet-16-2", COLOUR, 10),
    ] {
        let architecture = Architecture::from_str(name).unwrap();
        let model = Model::new(architecture, input, classes, &mut Rng::new(1), &Device::cpu()).unwrap();
        assert_eq!(Architecture::guess(&shapes(&state(&model))), Some(architecture));
        let mut wrapped = renamed(state(&model), |name| format!("anything.module.{name}"));
        wrapped.push(extra("anything.module.sub_block1.layer.0.conv1.weight"));
        assert_eq!(Architecture::guess(&shapes(&wrapped)), Some(architecture));
        let fewer = shapes(&wrapped[1..]);
        assert_eq!(Architecture::guess(&fewer), None, "{name} without its first tensor");
    }
}

#[test]
fn the_state_dict_is_found_behind_any_prefix_and_beside_other_tensors() {
    let mut original = model("wide-resnet-10-1", COLOUR);
    original.forward(Tensor::ones([2, 3, 32, 32], Device::cpu().tensors()), Mode::Train);
    let mut target = Model::new(original.architecture(), COLOUR, 10, &mut Rng::new(2), &Device::cpu()).unwrap();
    // A normalisation and the network in a sequence, as robustness libraries save them.
    let mut entries = renamed(state(&original), |name| format!("1.{name}"));
    // In units of bytes, or something else altogether: not applied, and said.
    let scaled = |name| StateEntry {
        values: StateValues::F32(vec![125.3]),
        ..extra(name)
    };
    entries.extend([scaled("0.mean"), scaled("0.std")]);
    let report = target.load_state(entries).unwrap();
    assert_eq!(report.normalisation, ["0.mean", "0.std"]);
    assert!(report.to_string().contains("0.mean"), "{report}");
    assert_eq!(state(&target), state(&original));

    // Where its values are those of one, it is applied, kept, and written out.
    let values = |name: &str, values: [f32; 3]| StateEntry {
        name: name.into(),
        shape: vec![1, 3, 1, 1],
        values: StateValues::F32(values.to_vec()),
    };
    let mut entries = renamed(state(&original), |name| format!("1.{name}"));
    entries.extend([values("0.mu", [0.5, 0.25, 0.0]), values("0.sigma", [0.5, 0.25, 0.125])]);
    let report = target.load_state(entries).unwrap();
    assert_eq!(
        (report.normalised_by.as_slice(), report.ignored.len()),
        (&["0.mu".to_string(), "0.sigma".into()][..], 0)
    );
    let image = |values: [f32; 3]| {
        let channels = values.map(|value| Tensor::<4>::full([1, 1, 32, 32], value, Device::cpu().tensors()));
        Tensor::cat(channels.to_vec(), 1)
    };
    let logits = |model: &Model, values| read(model.forward(image(values), Mode::Eval)).unwrap();
    let expected = logits(&original, [1.0, -1.0, 2.0]);
    assert_eq!(logits(&target, [1.0, 0.0, 0.25]), expected, "(x − μ) / σ");
    assert_eq!(logits(&target.clone(), [1.0, 0.0, 0.25]), expected);
    let mut again = model("wide-resnet-10-1", COLOUR);
    again.load_state(state(&target)).unwrap();
    assert_eq!(logits(&again, [1.0, 0.0, 0.25]), expected);
    assert!(state(&target).iter().any(|entry| entry.name == "normalisation.std"));

    // An averaged copy beside the model is not taken for it.
    let mut entries = renamed(state(&original), |name| format!("state_dict.module.{name}"));
    entries.extend(renamed(state(&model("wide-resnet-10-1", COLOUR)), |name| {
        format!("ema.{name}")
    }));
    target.load_state(entries).unwrap();
    assert_eq!(state(&target), state(&original));

    // Counters came late to PyTorch: an old file has none.
    let without = state(&original)
        .into_iter()
        .filter(|entry| !entry.name.ends_with("tracked"))
        .collect();
    assert_eq!(target.load_state(without).unwrap().missing_counters, 7);
    // What the file says of the counters, the model keeps.
    original.load_state(state(&target)).unwrap();
}

#[test]
fn a_plain_network_is_read_under_any_names_by_shape_and_order() {
    let original = model("cnn8", COLOUR);
    // As a sequence of layers is saved: convolution, BatchNorm, ReLU, with a pool after every other.
    let name = |name: &str| {
        let (module, leaf) = name.split_once('.').unwrap();
        let (kind, number) = module.split_at(if module.starts_with("conv") { 4 } else { 2 });
        let number: usize = number.parse().unwrap();
        let at = (number - 1) * 3 + (number - 1) / 2;
        match (kind, number) {
            ("conv", _) => format!("features.{at}.{leaf}"),
            ("bn", 7) => format!("classifier.1.{leaf}"),
            ("bn", _) => format!("features.{}.{leaf}", at + 1),
            (_, number) => format!("classifier.{}.{leaf}", (number - 1) * 3),
        }
    };
    let mut target = Model::new(Architecture::Cnn8, COLOUR, 10, &mut Rng::new(2), &Device::cpu()).unwrap();
    let report = target.load_state(renamed(state(&original), name)).unwrap();
    assert!(report.matched_by_order && report.ignored.is_empty(), "{report}");
    assert_eq!(state(&target), state(&original));

    // A network with published names is not guessed at.
    let residual = model("wide-resnet-10-1", COLOUR);
    let other = renamed(state(&residual), |name| name.replace("block", "group"));
    assert!(model("wide-resnet-10-1", COLOUR).load_state(other).is_err());
}

#[test]
fn what_does_not_fit_is_named_and_changes_nothing() {
    let mut target = model("wide-resnet-10-1", COLOUR);
    let before = state(&target);
    let whole = || state(&model("wide-resnet-10-1", COLOUR));
    let mut refused = |entries: Vec<StateEntry>, words: [&str; 2]| {
        let error = target.load_state(entries).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
        assert_eq!(state(&target), before);
    };
    refused(whole()[1..].to_vec(), ["conv1.weight", "got none"]);
    refused(
        state(&model("wide-resnet-16-1", COLOUR)),
        ["block1.layer.1", "--network wide-resnet-16-1"],
    );
    let other = Model::new(
        Architecture::from_str("wide-resnet-10-1").unwrap(),
        COLOUR,
        7,
        &mut Rng::new(1),
        &Device::cpu(),
    );
    refused(state(&other.unwrap()), ["fc.weight", "other images or classes"]);
    let mut integers = whole();
    integers[0].values = StateValues::I64(vec![0; 16 * 27]);
    refused(integers, ["conv1.weight", "; save them in floating point"]);
    let mut biased = whole();
    biased.push(extra("conv1.bias"));
    refused(
        biased,
        [
            "expected no tensor conv1.bias, got one",
            "computes something with it that wide-resnet-10-1 does not",
        ],
    );
}

#[test]
fn half_and_double_precision_are_read() {
    use burn::tensor::{bf16, f16};
    let folder = tempfile::tempdir().unwrap();
    let mut source = model("small-cnn", GREY);
    // Eighths are exact in every one of these types.
    let mut entries = state(&source);
    for (number, entry) in entries.iter_mut().enumerate() {
        let StateValues::F32(values) = &mut entry.values else {
            continue;
        };
        values
            .iter_mut()
            .enumerate()
            .for_each(|(at, value)| *value = ((at + number) % 17) as f32 / 8.0 - 1.0);
    }
    source.load_state(entries.clone()).unwrap();
    type Encode = fn(f32) -> Vec<u8>;
    let types: [(safetensors::Dtype, Encode); 3] = [
        (safetensors::Dtype::F16, |value| {
            f16::from_f32(value).to_le_bytes().to_vec()
        }),
        (safetensors::Dtype::BF16, |value| {
            bf16::from_f32(value).to_le_bytes().to_vec()
        }),
        (safetensors::Dtype::F64, |value| f64::from(value).to_le_bytes().to_vec()),
    ];
    for (dtype, write) in types {
        let bytes: Vec<(StateEntry, Vec<u8>)> = entries
            .iter()
            .map(|entry| match &entry.values {
                StateValues::F32(values) => (entry.clone(), values.iter().flat_map(|value| write(*value)).collect()),
                StateValues::I64(_) => unreachable!("small-cnn has no counters"),
            })
            .collect();
        let views = bytes.iter().map(|(entry, bytes)| {
            (
                entry.name.as_str(),
                safetensors::tensor::TensorView::new(dtype, entry.shape.clone(), bytes).unwrap(),
            )
        });
        let path = folder.path().join("weights.bin");
        std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
        let mut target = model("small-cnn", GREY);
        weights::load(&path, &mut target).unwrap();
        assert_eq!(state(&target), state(&source), "{dtype:?}");
    }
}

#[test]
fn a_file_that_is_no_checkpoint_is_an_error_that_ends_in_its_path() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("text.pt", &b"no weights here"[..]),
        ("text.safetensors", b"no weights here"),
        ("empty.pth", b""),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = weights::load(&path, &mut model("small-cnn", GREY))
            .unwrap_err()
            .to_string();
        assert!(error.ends_with(&path.display().to_string()), "{error}");
    }
    let error = weights::load(&folder.path().join("absent.pt"), &mut model("small-cnn", GREY))
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("absent.pt"), "{error}");
}

#[test]
fn a_written_file_replaces_an_old_one_whole_and_carries_its_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, "old").unwrap();
    let metadata = BTreeMap::from([("network".to_string(), "wide-resnet-10-1".to_string())]);
    weights::save_safetensors(&model("wide-resnet-10-1", COLOUR), &path, &metadata).unwrap();
    let written = std::fs::read(&path).unwrap();
    for _ in 0..8 {
        weights::save_safetensors(&model("wide-resnet-10-1", COLOUR), &path, &metadata).unwrap();
        assert!(
            std::fs::read(&path).unwrap() == written,
            "the same weights, another file"
        );
    }
    let bytes = std::fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["network"], "wide-resnet-10-1");
    let counter = header.info("bn1.num_batches_tracked").unwrap();
    assert_eq!((counter.dtype, counter.shape.len()), (safetensors::Dtype::I64, 0));
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "a temporary file was left behind"
    );

    let missing = folder.path().join("no such folder").join("weights.safetensors");
    let error = weights::save_safetensors(&model("small-cnn", GREY), &missing, &metadata)
        .unwrap_err()
        .to_string();
    assert!(error.ends_with(&missing.display().to_string()), "{error}");
}

#[test]
fn dropout_acts_in_training_alone_and_by_its_seed() {
    let mut model = model("small-cnn", GREY);
    // The original's last layer of zeros would hide it.
    let mut entries = state(&model);
    for entry in entries
        .iter_mut()
        .filter(|entry| entry.name.starts_with("classifier.fc3"))
    {
        let StateValues::F32(values) = &mut entry.values else {
            continue;
        };
        values
            .iter_mut()
            .enumerate()
            .for_each(|(at, value)| *value = (at as f32).sin() * 0.1);
    }
    model.load_state(entries).unwrap();
    let x = Tensor::<4>::ones([2, 1, 28, 28], Device::cpu().tensors());
    let logits = |model: &Model, mode| read(model.forward(x.clone(), mode)).unwrap();
    let plain = logits(&model, Mode::Eval);
    assert_eq!(logits(&model.clone().without_dropout(), Mode::Train), plain);
    model.seed_dropout(5);
    let first = logits(&model, Mode::Train);
    assert_ne!(first, plain);
    assert_ne!(
        logits(&model.tracked(), Mode::Train),
        first,
        "the next pass of a step draws on"
    );
    model.seed_dropout(5);
    assert_eq!(logits(&model.tracked(), Mode::Train), first);
}

#[test]
fn first_weights_are_the_originals() {
    let deviation = |model: &Model, name: &str| {
        let entry = state(model).into_iter().find(|entry| entry.name == name).unwrap();
        let StateValues::F32(values) = entry.values else {
            panic!("{name} holds integers")
        };
        (values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    let close = |got: f64, expected: f64| assert!((got / expected - 1.0).abs() < 0.05, "{got} instead of {expected}");
    // TRADES' small network: convolutions of variance 2/fan_in, biases and last layer of zeros.
    let small = model("small-cnn", GREY);
    close(
        deviation(&small, "feature_extractor.conv4.weight"),
        (2.0f64 / (64.0 * 9.0)).sqrt(),
    );
    assert_eq!(deviation(&small, "feature_extractor.conv4.bias"), 0.0);
    assert_eq!(deviation(&small, "classifier.fc3.weight"), 0.0);
    // PyTorch's default: uniform in ±1/√fan_in.
    close(
        deviation(&small, "classifier.fc1.weight"),
        1.0 / (3.0f64 * 1024.0).sqrt(),
    );
    close(
        deviation(&model("resnet-18", COLOUR), "layer2.0.conv2.weight"),
        1.0 / (3.0f64 * 128.0 * 9.0).sqrt(),
    );
    // Wide networks: variance 2/fan_out.
    close(
        deviation(&model("wide-resnet-10-2", COLOUR), "block2.layer.0.conv1.weight"),
        (2.0f64 / (64.0 * 9.0)).sqrt(),
    );
    assert_eq!(deviation(&model("wide-resnet-10-2", COLOUR), "fc.bias"), 0.0);
}

#[test]
fn one_rule_says_which_network_of_a_file_is_taken() {
    let first = model("small-cnn", GREY).state().unwrap();
    let other = Model::new(
        "small-cnn".parse().unwrap(),
        GREY,
        10,
        &mut Rng::new(77),
        &Device::cpu(),
    )
    .unwrap();
    let other = other.state().unwrap();
    let under = |prefix: &str, state: &[StateEntry]| {
        let named = state.iter().cloned().map(|entry| StateEntry {
            name: format!("{prefix}{}", entry.name),
            ..entry
        });
        named.collect::<Vec<_>>()
    };
    let load = |entries: Vec<StateEntry>| {
        let mut target = model("small-cnn", GREY);
        let report = target.load_state(entries).unwrap();
        (target.state().unwrap(), report)
    };

    // A second head of the network's own name beside it is not the network's, whatever the order.
    for prefix in ["backbone.", "a.", "z.", "state_dict.module."] {
        let head = || {
            other
                .iter()
                .filter(|entry| entry.name.starts_with("classifier.fc3"))
                .cloned()
        };
        for entries in [
            under(prefix, &first).into_iter().chain(head()).collect::<Vec<_>>(),
            head().chain(under(prefix, &first)).collect(),
        ] {
            let (state, report) = load(entries);
            assert_eq!(state, first);
            assert_eq!(report.ignored, ["classifier.fc3.bias", "classifier.fc3.weight"]);
            assert!(report.networks.is_empty());
        }
    }

    // Two whole networks: the wrapper that is known is taken, and the other told.
    let (state, report) = load([under("ema.", &other), under("model.", &first)].concat());
    assert_eq!(state, first);
    assert_eq!(report.networks, ["model.", "ema."]);
    assert!(report.to_string().contains("--weights-key: ema"), "{report}");

    // A copy of the same values is no other network.
    let (state, report) = load([under("model.", &first), under("model.attacker.", &first)].concat());
    assert_eq!((state, report.networks.len()), (first.clone(), 0));

    // What looks like a normalisation is told; the number of classes is the weights'.
    let mu = StateEntry {
        name: "mu".into(),
        shape: vec![1],
        values: StateValues::F32(vec![0.5]),
    };
    let (_, report) = load([first.clone(), vec![mu]].concat());
    assert_eq!(report.normalisation, ["mu"]);
    let four = Model::new("small-cnn".parse().unwrap(), GREY, 4, &mut Rng::new(1), &Device::cpu()).unwrap();
    assert_eq!(four.classes_of(&first), Some(10));
}
