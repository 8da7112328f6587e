//! A suite's figures: that they are counted right, that they repeat, and that each doubt is raised.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData};
use martlet::{
    attacks::{AttackError, AttackSpec},
    compute::Device,
    control::Control,
    data::Dataset,
    evaluation::{
        CurveEvent, CurvePoint, EvaluateError, Evaluation, EvaluationEvent, Examination, Interval, Record, Resume,
        Subject, Suite, Surrogate, Warning, evaluate, evaluate_function, robustness_curve,
    },
    nn::{Architecture, Mode, Model, weights},
    random::Rng,
    shapes::{ImageShape, Images, Logits},
    threat::{Norm, ThreatModel},
};

const SIDE: usize = 6;
const PIXELS: usize = SIDE * SIDE;
const CLASSES: usize = 4;
const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: SIDE,
    width: SIDE,
};

fn matrix(rng: &mut Rng, rows: usize, columns: usize) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * columns).map(|_| rng.normal()).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), Device::cpu().tensors())
}

/// A small smooth network with fixed random weights.
fn network() -> impl Fn(Images) -> Logits + Clone {
    let mut rng = Rng::new(11);
    let (first, second) = (matrix(&mut rng, PIXELS, 16) * 0.4, matrix(&mut rng, 16, CLASSES));
    move |images: Images| {
        (images.flatten(1, 3) - 0.5)
            .matmul(first.clone())
            .tanh()
            .matmul(second.clone())
    }
}

fn dataset_of(name: &str, images: Vec<u8>, labels: Vec<u16>) -> Dataset {
    let classes = (0..CLASSES).map(|class| format!("class {class}")).collect();
    Dataset::from_parts(name, SHAPE, classes, images, labels).unwrap()
}

/// Random images, labelled as [`network`] answers, but for every ninth.
fn dataset(examples: usize) -> Dataset {
    let mut rng = Rng::new(12);
    let images: Vec<u8> = (0..examples * PIXELS).map(|_| rng.below(256) as u8).collect();
    let unlabelled = dataset_of("noise", images.clone(), vec![0; examples]);
    let everything: Vec<usize> = (0..examples).collect();
    let batch = unlabelled.batch(&everything, &Device::cpu());
    let answers = martlet::compute::read_int(network()(batch.images).argmax(1)).unwrap();
    let labels = answers.iter().enumerate().map(|(i, answer)| {
        let shift = if i % 9 == 0 { 1 } else { 0 };
        (*answer as usize + shift) as u16 % CLASSES as u16
    });
    dataset_of("noise", images, labels.collect())
}

fn threat(epsilon: &str) -> ThreatModel {
    ThreatModel {
        norm: Norm::Linf,
        epsilon: epsilon.parse().unwrap(),
    }
}

fn suite(text: &str) -> Suite {
    Suite {
        batch_size: 32,
        seed: 3,
        probes: false,
        ..text.parse().unwrap()
    }
}

fn run(
    logits: &dyn Fn(Images) -> Logits,
    dataset: &Dataset,
    suite: &Suite,
    threat: &ThreatModel,
) -> Result<Evaluation, EvaluateError> {
    let subject = Subject {
        description: "a test".into(),
        logits,
        attacked: logits,
        surrogate: None,
    };
    evaluate_function(
        &subject,
        dataset,
        suite,
        threat,
        &Device::cpu(),
        &Control::new(),
        &mut |_| {},
    )
}

fn kinds(evaluation: &Evaluation) -> Vec<&'static str> {
    evaluation.warnings.iter().map(Warning::kind).collect()
}

#[test]
fn counts_agree_with_each_other() {
    let dataset = dataset(90);
    let found = run(
        &network(),
        &dataset,
        &suite("natural,fgsm,pgd-10,cw-10"),
        &threat("0.05"),
    )
    .unwrap();
    assert_eq!(found.n, 90);
    assert_eq!(
        found.attacks.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(),
        ["natural", "fgsm", "pgd-10", "cw-10"]
    );
    assert_eq!(found.attacks[0].standing.correct, 80, "every ninth label is wrong");
    for (column, attack) in found.attacks.iter().enumerate() {
        let robust = found
            .examples
            .iter()
            .filter(|example| example.attacks[column].robust)
            .count();
        assert_eq!(attack.standing.correct, robust, "{}", attack.name);
        assert_eq!(attack.accuracy(), robust as f64 / 90.0);
        assert_eq!(found.accuracy.get(&attack.name), Some(attack.accuracy()));
        assert_eq!(attack.standing.interval, Interval::wilson(robust, 90));
        for example in &found.examples {
            let outcome = example.attacks[column];
            assert_eq!(outcome.robust, outcome.prediction == example.label);
            assert!(
                !outcome.robust || example.natural == example.label,
                "attacks repair nothing"
            );
        }
    }
    let worst = found
        .examples
        .iter()
        .filter(|example| example.attacks.iter().all(|o| o.robust))
        .count();
    assert_eq!(found.worst_case.correct, worst);
    assert_eq!(found.accuracy.get("worst-case"), Some(worst as f64 / 90.0));
    let least = found.attacks.iter().map(|attack| attack.accuracy()).fold(1.0, f64::min);
    assert!(found.worst_case.accuracy <= least);
    assert!(
        worst > 0 && least < found.natural_accuracy(),
        "the attacks fool some examples, not all"
    );
}

#[test]
fn natural_accuracy_is_there_unasked() {
    let found = run(&network(), &dataset(20), &suite("fgsm"), &threat("0.05")).unwrap();
    assert_eq!(found.attacks[0].name, "natural");
    assert_eq!(found.accuracy.0.len(), 3);
}

#[test]
fn the_batch_size_and_the_rest_of_the_suite_change_no_figure() {
    let dataset = dataset(70);
    let whole = run(
        &network(),
        &dataset,
        &suite("natural,fgsm,pgd-10x3,cw-10"),
        &threat("0.05"),
    )
    .unwrap();
    for batch_size in [1, 7, 70, 500] {
        let suite = Suite {
            batch_size,
            ..suite("natural,fgsm,pgd-10x3,cw-10")
        };
        assert_eq!(
            run(&network(), &dataset, &suite, &threat("0.05")).unwrap().examples,
            whole.examples
        );
    }
    let alone = run(&network(), &dataset, &suite("pgd-10x3"), &threat("0.05")).unwrap();
    for (alone, whole) in alone.examples.iter().zip(&whole.examples) {
        assert_eq!(alone.attacks[1], whole.attacks[2]);
    }
    // Probes look on; they take no part.
    let probed = Suite {
        probes: true,
        ..suite("natural,fgsm,pgd-10x3,cw-10")
    };
    assert_eq!(
        run(&network(), &dataset, &probed, &threat("0.05")).unwrap().examples,
        whole.examples
    );
}

#[test]
fn restarts_never_raise_accuracy_and_attack_only_what_stands() {
    let dataset = dataset(90);
    let threat = threat("0.04");
    let (mut fallen, mut last) = (Vec::<usize>::new(), usize::MAX);
    for restarts in [1, 2, 5] {
        let spec = AttackSpec {
            restarts,
            ..format!("pgd-{}", 3).parse().unwrap()
        };
        let images = Cell::new(0);
        let network = network();
        let attacked = |x: Images| {
            images.set(images.get() + x.dims()[0]);
            network(x)
        };
        let subject = Subject {
            description: String::new(),
            logits: &network,
            attacked: &attacked,
            surrogate: None,
        };
        let suite = Suite {
            attacks: vec![spec],
            ..suite("natural")
        };
        let mut done = 0;
        let mut note = |event| {
            if let EvaluationEvent::Progress {
                attack,
                done: so_far,
                of,
                ..
            } = event
                && attack == "pgd-3"
            {
                assert!(so_far <= of);
                done = so_far;
            }
        };
        let found = evaluate_function(
            &subject,
            &dataset,
            &suite,
            &threat,
            &Device::cpu(),
            &Control::new(),
            &mut note,
        )
        .unwrap();
        assert_eq!(images.get(), 3 * done, "three steps for each example that still stood");
        assert!(done < 80 * restarts || restarts == 1);
        let correct = found.attacks[1].standing.correct;
        assert!(
            correct <= last,
            "{restarts} restarts raised accuracy from {last} to {correct}"
        );
        last = correct;
        let now: Vec<usize> = (0..90).filter(|i| !found.examples[*i].attacks[1].robust).collect();
        assert!(fallen.iter().all(|i| now.contains(i)), "what fell once stays fallen");
        fallen = now;
    }
}

#[test]
fn progress_only_rises_and_ends_at_the_whole() {
    let suite = Suite {
        probes: true,
        probe_examples: 16,
        ..suite("natural,fgsm,pgd-5x3,cw-5")
    };
    let (mut last, mut finished, mut probes, mut started) = (0.0, Vec::new(), 0, 0);
    let network = network();
    let subject = Subject {
        description: String::new(),
        logits: &network,
        attacked: &network,
        surrogate: None,
    };
    let mut note = |event| match event {
        EvaluationEvent::Started { examples, attacks } => {
            assert_eq!((examples, attacks.len()), (90, 4));
            started += 1;
        }
        EvaluationEvent::Progress {
            attack,
            done,
            of,
            standing,
            fraction,
            ..
        } => {
            assert!(fraction >= last && fraction <= 1.0, "{fraction} after {last}");
            assert!(done <= of && standing <= 90);
            probes += usize::from(attack.starts_with("probe"));
            last = fraction;
        }
        EvaluationEvent::AttackFinished(result) => finished.push(result.name),
        EvaluationEvent::Warning(_) => {}
    };
    evaluate_function(
        &subject,
        &dataset(90),
        &suite,
        &threat("0.05"),
        &Device::cpu(),
        &Control::new(),
        &mut note,
    )
    .unwrap();
    assert_eq!(finished, ["natural", "fgsm", "pgd-5x3", "cw-5"]);
    assert_eq!(started, 1);
    assert!(probes >= 4);
    assert!(last > 0.999, "{last}");
}

#[test]
fn a_stopped_evaluation_is_no_result() {
    let control = Control::new();
    let network = network();
    let subject = Subject {
        description: String::new(),
        logits: &network,
        attacked: &network,
        surrogate: None,
    };
    let mut finished = 0;
    let mut note = |event| {
        if let EvaluationEvent::AttackFinished(result) = event {
            finished += 1;
            if result.name == "fgsm" {
                control.stop();
            }
        }
    };
    let suite = suite("natural,fgsm,pgd-10,cw-10");
    let found = evaluate_function(
        &subject,
        &dataset(40),
        &suite,
        &threat("0.05"),
        &Device::cpu(),
        &control,
        &mut note,
    );
    assert!(matches!(found, Err(EvaluateError::Stopped { attack }) if attack == "pgd-10"));
    assert_eq!(finished, 2);
}

#[test]
fn json_has_the_agreed_shape_and_reads_back() {
    let mut found = run(
        &network(),
        &dataset(40),
        &suite("natural,fgsm,pgd-20"),
        &threat("8/255"),
    )
    .unwrap();
    found.dataset.split = Some("test".into());
    let json: serde_json::Value = serde_json::from_str(&found.to_json(false).unwrap()).unwrap();
    assert_eq!(json["n"], 40);
    assert_eq!(json["epsilon"], "8/255");
    assert_eq!(json["norm"], "linf");
    assert_eq!(json["device"], Device::cpu().info().name.as_str());
    assert_eq!(json["dataset"]["split"], "test");
    for name in ["natural", "fgsm", "pgd-20", "worst-case"] {
        assert!(json["accuracy"][name].is_f64(), "{name}");
    }
    let pgd = &json["attacks"][2];
    assert_eq!(
        (pgd["name"].as_str(), pgd["steps"].as_u64()),
        (Some("pgd-20"), Some(20))
    );
    assert_eq!(pgd["step_size"], "8/255/10");
    assert_eq!(pgd["start"], "uniform");
    assert_eq!(pgd["restarts"], 1);
    assert_eq!(pgd["objective"], "cross-entropy");
    assert_eq!(pgd["accuracy"], json["accuracy"]["pgd-20"]);
    assert!(pgd["correct"].is_u64() && pgd["interval"]["low"].is_f64() && pgd["seconds"].is_f64());
    assert_eq!(pgd["settings"], "20 steps of 8/255/10");
    assert_eq!(json["attacks"][0]["method"], "natural");
    let small = json["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|warning| warning["kind"] == "small-sample")
        .unwrap();
    assert!(small["message"].is_string() && small["advice"].is_string());
    assert!(json.get("examples").is_none());

    let long = found.to_json(true).unwrap();
    // Decimal text may move a share by one unit in the last place; counts and names it may not.
    let read: Evaluation = serde_json::from_str(&long).unwrap();
    assert_eq!(read.examples, found.examples);
    assert_eq!(
        (&read.epsilon, &read.dataset, &read.device),
        (&found.epsilon, &found.dataset, &found.device)
    );
    assert_eq!(kinds(&read), kinds(&found));
    for (read, found) in read.attacks.iter().zip(&found.attacks) {
        assert_eq!((&read.name, &read.method), (&found.name, &found.method));
        assert_eq!(read.standing.correct, found.standing.correct);
        assert!((read.accuracy() - found.accuracy()).abs() < 1e-12);
    }
    let json: serde_json::Value = serde_json::from_str(&long).unwrap();
    assert_eq!(json["examples"].as_array().unwrap().len(), 40);
    assert!(json["examples"][0]["attacks"][1]["robust"].is_boolean());
}

#[test]
fn logits_that_are_no_numbers_are_an_error() {
    let network = network();
    let broken = |images: Images| {
        let first: Tensor<2> = images.clone().flatten::<2>(1, 3).slice([0..images.dims()[0], 0..1]);
        network(images) / first.sub_scalar(2.0).sign().add_scalar(1.0)
    };
    let found = run(&broken, &dataset(10), &suite("natural"), &threat("0.1"));
    assert!(matches!(found, Err(EvaluateError::NonFiniteLogits { index: 0, .. })));
    let detached = |images: Images| network(images.detach());
    let found = run(&detached, &dataset(10), &suite("fgsm"), &threat("0.1"));
    assert!(matches!(
        found,
        Err(EvaluateError::Attack(AttackError::MissingGradient))
    ));
    let found = run(&network, &dataset(10).subset(&[]), &suite("fgsm"), &threat("0.1"));
    assert!(matches!(found, Err(EvaluateError::NoExamples)));
}

/// The WRN-10-1 of the reference files, and random images that it classifies, every fifth wrongly.
fn wide_resnet_case() -> (Model, Dataset) {
    let architecture = Architecture::WideResNet { depth: 10, width: 1 };
    let shape = ImageShape {
        channels: 3,
        height: 32,
        width: 32,
    };
    let device = Device::cpu();
    let mut model = Model::new(architecture, shape, 10, &mut Rng::new(1), &device).unwrap();
    let file = format!("{}/tests/golden/arch/wrn10-1.safetensors", env!("CARGO_MANIFEST_DIR"));
    weights::load(file.as_ref(), &mut model).unwrap();

    const IMAGES: usize = 20;
    let mut rng = Rng::new(8);
    let images: Vec<u8> = (0..IMAGES * shape.len()).map(|_| rng.below(256) as u8).collect();
    let classes: Vec<String> = (0..10).map(|class| class.to_string()).collect();
    let of = |labels| Dataset::from_parts("noise", shape, classes.clone(), images.clone(), labels).unwrap();
    let everything: Vec<usize> = (0..IMAGES).collect();
    let batch = of(vec![0; IMAGES]).batch(&everything, &device);
    let answers = martlet::compute::read_int(model.forward(batch.images, Mode::Eval).argmax(1)).unwrap();
    let labels = answers
        .iter()
        .enumerate()
        .map(|(i, answer)| (*answer as u16 + u16::from(i % 5 == 0)) % 10);
    let dataset = of(labels.collect());
    (model, dataset)
}

#[test]
fn attacking_the_folded_copy_changes_no_figure_of_the_model() {
    let (model, dataset) = wide_resnet_case();
    let suite = Suite {
        batch_size: 8,
        ..suite("natural,fgsm,pgd-5,cw-5")
    };
    let (device, control) = (Device::cpu(), Control::new());
    let found = evaluate(
        &model,
        &dataset,
        &suite,
        &threat("0.002"),
        &device,
        &control,
        &mut |_| {},
    )
    .unwrap();
    assert_eq!(found.attacks[0].standing.correct, 16);
    assert!(found.worst_case.correct < 16, "{:?}", found.accuracy);
    let plain = run(
        &|images| model.forward(images, Mode::Eval),
        &dataset,
        &suite,
        &threat("0.002"),
    )
    .unwrap();
    assert_eq!(found.examples, plain.examples);
    assert!(found.model.contains("wide-resnet-10-1"), "{}", found.model);
}

#[test]
fn a_model_that_does_not_fit_the_data_is_refused() {
    let (model, _) = wide_resnet_case();
    let (device, control) = (Device::cpu(), Control::new());
    let found = evaluate(
        &model,
        &dataset(5),
        &suite("natural"),
        &threat("0.1"),
        &device,
        &control,
        &mut |_| {},
    );
    let error = found.unwrap_err();
    assert!(matches!(error, EvaluateError::Mismatch { .. }), "{error}");
    assert!(
        error.to_string().contains("3×32×32") && error.to_string().contains("1×6×6"),
        "{error}"
    );
}

// Warnings: each is provoked once, and a sound model has none of those that speak of masked gradients.

const OF_MASKED_GRADIENTS: [&str; 11] = [
    "gradient-free-stronger-than-gradient",
    "fab-stronger-than-apgd",
    "fgsm-stronger-than-pgd",
    "noise-stronger-than-gradient",
    "success-not-rising-with-epsilon",
    "huge-epsilon-not-reaching-chance",
    "many-zero-gradients",
    "outputs-look-like-probabilities",
    "logits-change-between-identical-calls",
    "model-left-in-training-mode",
    "constant-prediction",
];

fn probed(text: &str) -> Suite {
    Suite {
        probes: true,
        ..suite(text)
    }
}

#[test]
fn a_sound_model_raises_no_alarm() {
    let found = run(
        &network(),
        &dataset(120),
        &probed("natural,fgsm,pgd-20,cw-20"),
        &threat("0.05"),
    )
    .unwrap();
    for kind in kinds(&found) {
        assert!(!OF_MASKED_GRADIENTS.contains(&kind), "{:?}", found.warnings);
    }
    assert!(kinds(&found).contains(&"no-strong-attack-in-suite"));
    assert!(kinds(&found).contains(&"small-sample"));
    let natural = run(&network(), &dataset(1_000), &probed("natural"), &threat("0.05")).unwrap();
    assert!(natural.warnings.is_empty(), "{:?}", natural.warnings);
}

#[test]
fn steep_steps_in_the_logits_mask_the_gradient() {
    let network = network();
    // The answer is that of the rounded image; the gradient is that of a faint ripple which points nowhere useful.
    let masked = |images: Images| {
        let rounded = network(images.clone().inner());
        let ripple: Logits = (images.flatten::<2>(1, 3) * 300.0)
            .sin()
            .slice([0..rounded.dims()[0], 0..CLASSES])
            * 1e-4;
        rounded + ripple
    };
    let found = run(&masked, &dataset(120), &probed("natural,fgsm,pgd-20"), &threat("0.12")).unwrap();
    let kinds = kinds(&found);
    assert!(
        kinds.contains(&"huge-epsilon-not-reaching-chance"),
        "{:?}",
        found.warnings
    );
    assert!(kinds.contains(&"noise-stronger-than-gradient"), "{:?}", found.warnings);
    assert!(
        kinds.contains(&"many-zero-gradients"),
        "most pixels have no gradient: {:?}",
        found.warnings
    );
}

/// The answer depends on how far the mean pixel is from grey alone: it is wrong on a ring round `depth`, and right
/// again beyond it. The logits' slope leads on outwards.
fn ring(depth: f32, width: f32) -> impl Fn(Images) -> Logits {
    move |images: Images| {
        let mean: Logits = images.flatten::<2>(1, 3).mean_dim(1).sub_scalar(0.5);
        let away = mean.abs();
        let bump = (away.clone().sub_scalar(depth) / width).powi_scalar(2).neg().exp() * 4.0;
        let score = bump + away * 0.5 - 1.0;
        let never = score.zeros_like() - 9.0;
        Tensor::cat(vec![score.zeros_like(), score, never.clone(), never], 1)
    }
}

fn grey(examples: usize) -> Dataset {
    let mut rng = Rng::new(4);
    let images = (0..examples * PIXELS).map(|_| 126 + rng.below(5) as u8).collect();
    dataset_of("grey", images, vec![0; examples])
}

#[test]
fn an_attack_that_walks_past_the_fault_is_seen() {
    // Where the ball ends on the ring, one step jumps onto it.
    let found = run(
        &ring(0.2, 0.03),
        &grey(60),
        &probed("natural,fgsm,pgd-20"),
        &threat("0.2"),
    )
    .unwrap();
    assert!(found.accuracy.get("fgsm") < Some(0.2), "{:?}", found.accuracy);
    // A gradient that leads brighter everywhere ends on the ring at ε = 0.2, and far beyond it at 0.4.
    let leads_past = |images: Images| {
        let answer = ring(0.2, 0.03)(images.clone().inner());
        let mean: Logits = images.flatten::<2>(1, 3).mean_dim(1) * 1e-3;
        let slope = Tensor::cat(vec![mean.clone(), mean.clone() * 2.0, mean.clone(), mean], 1);
        answer + slope.clone() - slope.inner()
    };
    let found = run(&leads_past, &grey(60), &probed("natural,fgsm,pgd-20"), &threat("0.4")).unwrap();
    assert!(
        kinds(&found).contains(&"success-not-rising-with-epsilon"),
        "{:?}",
        found.warnings
    );
}

#[test]
fn fgsm_that_beats_pgd_is_said() {
    // The gradient at the natural image leads to the fault; anywhere else it leads back.
    let network = network();
    let dataset = dataset(120);
    let everything: Vec<usize> = (0..120).collect();
    let natural = dataset.batch(&everything, &Device::cpu()).images;
    let turned = |images: Images| {
        let examples = images.dims()[0];
        // Bytes divided by 255 are recognised as such: only the natural images are multiples of 1/255.
        let steps = images.clone().inner() * 255.0;
        let off: Tensor<2> = (steps.clone() - steps.round()).abs().flatten::<2>(1, 3).max_dim(1);
        let sign = off.lower_elem(1e-3).float() * 2.0 - 1.0;
        let logits = network(images);
        let value = logits.clone().inner();
        (logits - value.clone()) * sign.expand([examples, CLASSES]) + value
    };
    assert_eq!(natural.dims()[0], 120);
    let found = run(&turned, &dataset, &probed("natural,fgsm,pgd-20"), &threat("0.1")).unwrap();
    assert!(
        kinds(&found).contains(&"fgsm-stronger-than-pgd"),
        "{:?}",
        found.warnings
    );
}

#[test]
fn steps_that_still_help_are_said() {
    let stepping = |name: &str| {
        let mut attack: AttackSpec = name.parse().unwrap();
        attack.ascent_mut().unwrap().step_size = Some("0.002".parse().unwrap());
        attack
    };
    let (short, long) = (stepping("pgd-5"), stepping("pgd-80"));
    let told = |attacks: Vec<AttackSpec>| {
        let suite = Suite {
            attacks,
            ..probed("natural")
        };
        let found = run(&network(), &dataset(120), &suite, &threat("0.05")).unwrap();
        let mut warnings = found.warnings.into_iter();
        warnings.find_map(|warning| match warning {
            Warning::DoublingStepsStillHelps {
                fewer, more, probed, ..
            } => Some((fewer, more, probed.is_some())),
            _ => None,
        })
    };
    // Two lengths in the suite tell it themselves; of one alone a probe asks.
    let pair = Some(("pgd-5".to_string(), "pgd-80".to_string(), false));
    assert_eq!(told(vec![short.clone(), long.clone()]), pair);
    assert_eq!(
        told(vec![short]),
        Some(("pgd-5".to_string(), "pgd-10".to_string(), true))
    );
    assert_eq!(told(vec![long]), None);
}

#[test]
fn saturated_logits_have_no_gradient() {
    let network = network();
    let saturated = |images: Images| network(images) * 1e4;
    let found = run(
        &saturated,
        &dataset(120),
        &probed("natural,fgsm,pgd-20"),
        &threat("0.05"),
    )
    .unwrap();
    assert!(kinds(&found).contains(&"many-zero-gradients"), "{:?}", found.warnings);
}

#[test]
fn probabilities_are_seen() {
    let network = network();
    let softmax = |images: Images| martlet::losses::probabilities(network(images));
    let found = run(&softmax, &dataset(30), &probed("natural"), &threat("0.05")).unwrap();
    assert!(kinds(&found).contains(&"outputs-look-like-probabilities"));
}

#[test]
fn a_random_model_is_seen() {
    let (network, calls) = (network(), Cell::new(0u8));
    let random = |images: Images| {
        calls.set(calls.get().wrapping_add(1));
        network(images) + f64::from(calls.get() % 7) * 0.01
    };
    let found = run(&random, &dataset(30), &probed("natural"), &threat("0.05")).unwrap();
    assert!(kinds(&found).contains(&"logits-change-between-identical-calls"));
}

#[test]
fn a_model_left_in_training_mode_is_seen() {
    let (model, dataset) = wide_resnet_case();
    for mode in [Mode::Train, Mode::Eval] {
        let logits = |images| model.forward(images, mode);
        let found = run(&logits, &dataset, &probed("natural"), &threat("0.01")).unwrap();
        let seen = kinds(&found).contains(&"model-left-in-training-mode");
        assert_eq!(seen, mode == Mode::Train, "{mode:?}: {:?}", found.warnings);
    }
}

#[test]
fn a_constant_answer_is_seen() {
    let network = network();
    let constant = |images: Images| {
        let logits = network(images);
        let favour = TensorData::new(vec![0.0f32, 99.0, 0.0, 0.0], [1, CLASSES]);
        let favour: Tensor<2> = Tensor::from_data(favour, Device::cpu().tensors());
        logits.clone() + favour.expand(logits.dims())
    };
    let found = run(&constant, &dataset(30), &probed("natural,pgd-5"), &threat("0.05")).unwrap();
    let seen = found
        .warnings
        .iter()
        .find(|warning| warning.kind() == "constant-prediction");
    assert_eq!(
        seen,
        Some(&Warning::ConstantPrediction {
            class: "class 1".into(),
            share: 1.0
        })
    );
}

#[test]
fn an_unusual_radius_is_said_and_the_caller_can_add() {
    let part = dataset(20);
    let everything: Vec<usize> = (0..20).collect();
    let pixels = martlet::compute::read(part.batch(&everything, &Device::cpu()).images).unwrap();
    let bytes = pixels.iter().map(|pixel| (pixel * 255.0).round() as u8).collect();
    let labels = everything.iter().map(|i| part.label(*i) as u16).collect();
    let cifar = dataset_of("CIFAR-10", bytes, labels);
    let mut found = run(&network(), &cifar, &suite("fgsm"), &threat("0.031")).unwrap();
    assert!(kinds(&found).contains(&"non-standard-epsilon"));
    let usual = run(&network(), &cifar, &suite("fgsm"), &threat("8/255")).unwrap();
    assert!(!kinds(&usual).contains(&"non-standard-epsilon"));
    for _ in 0..2 {
        found.add_warning(Warning::CheckpointChosenOnTestSet);
    }
    assert_eq!(
        kinds(&found)
            .iter()
            .filter(|kind| **kind == "checkpoint-chosen-on-test-set")
            .count(),
        1
    );
}

#[test]
fn in_turn_the_fallen_are_spared_and_each_part_has_its_figure() {
    let network = network();
    let dataset = dataset(90);
    let suite = suite("pgd-10,autoattack-fast");
    let seen = Cell::new(0);
    let attacked = |images: Images| {
        seen.set(seen.get() + images.dims()[0]);
        network(images)
    };
    let subject = Subject {
        description: String::new(),
        logits: &network,
        attacked: &attacked,
        surrogate: None,
    };
    let threat = threat("0.05");
    let (mut finished, mut last) = (Vec::new(), 0.0);
    let mut note = |event| match event {
        EvaluationEvent::AttackFinished(result) => finished.push(result.name),
        EvaluationEvent::Progress { fraction, .. } => {
            assert!(fraction >= last, "{fraction} after {last}");
            last = fraction;
        }
        _ => {}
    };
    let found = evaluate_function(
        &subject,
        &dataset,
        &suite,
        &threat,
        &Device::cpu(),
        &Control::new(),
        &mut note,
    )
    .unwrap();
    let names = [
        "natural",
        "pgd-10",
        "autoattack-fast/apgd-ce-50",
        "autoattack-fast/apgd-dlr-t-20",
        "autoattack-fast/fab-t-10",
        "autoattack-fast/square-500",
        "autoattack-fast",
    ];
    assert_eq!(finished, names);
    assert!(last > 0.999, "{last}");
    let left: Vec<usize> = found.attacks.iter().map(|attack| attack.standing.correct).collect();
    assert!(left[2..].is_sorted_by(|a, b| a >= b), "{left:?}");
    assert_eq!(left[5], left[6]);
    assert_eq!(found.worst_case.correct, left[1].min(left[6]));
    assert!(left[2] > 0 && left[2] < 80, "some fall and some stand: {left:?}");
    // What fell to the first part keeps its fate in the next ones.
    for example in found.examples.iter().filter(|example| !example.attacks[2].robust) {
        assert!(
            example.attacks[3..]
                .iter()
                .all(|outcome| *outcome == example.attacks[2])
        );
    }
    // The first part's figure is that of the attack alone, and no less is seen of it than its work.
    let alone = run(&network, &dataset, &self::suite("apgd-ce-50"), &threat).unwrap();
    assert_eq!(alone.attacks[1].standing.correct, left[2]);
    assert!(!kinds(&found).contains(&"no-strong-attack-in-suite"));
    assert!(found.attacks[6].settings.contains(&format!(
        "fab-t-10 (towards {} other classes, 10 steps each",
        CLASSES - 1
    )));
    assert!(found.attacks[5].settings.contains("500 queries"));
    let json = found.to_json(true).unwrap();
    let read: Evaluation = serde_json::from_str(&json).unwrap();
    assert_eq!(read.attacks[6].method, found.attacks[6].method);
}

#[test]
fn nothing_is_attacked_in_a_ball_without_room() {
    let network = network();
    let never = |images: Images| -> Logits { panic!("{:?} attacked at ε = 0", images.dims()) };
    let subject = Subject {
        description: String::new(),
        logits: &network,
        attacked: &never,
        surrogate: None,
    };
    let found = evaluate_function(
        &subject,
        &dataset(20),
        &suite("fgsm,pgd-5,autoattack"),
        &threat("0"),
        &Device::cpu(),
        &Control::new(),
        &mut |_| {},
    )
    .unwrap();
    assert!(
        found
            .attacks
            .iter()
            .all(|attack| attack.accuracy() == found.natural_accuracy())
    );
}

#[test]
fn square_finds_what_masked_gradients_hide() {
    // The answer is that of a coarsely rounded image; the gradient is that of a faint ripple which points nowhere useful.
    let network = network();
    let masked = |images: Images| {
        let rounded = network((images.clone().inner() * 12.0).round() / 12.0);
        let ripple: Logits = (images.flatten::<2>(1, 3) * 300.0)
            .sin()
            .slice([0..rounded.dims()[0], 0..CLASSES])
            * 1e-4;
        rounded + ripple
    };
    let found = run(
        &masked,
        &dataset(120),
        &suite("pgd-10,apgd-ce-30,apgd-dlr-t-10,square-500"),
        &threat("0.08"),
    )
    .unwrap();
    assert!(
        kinds(&found).contains(&"gradient-free-stronger-than-gradient"),
        "{:?}",
        found.accuracy
    );
    assert!(found.accuracy.get("square-500") < found.accuracy.get("apgd-ce-30"));
}

#[test]
fn saturated_logits_mask_cross_entropy_and_nothing_else() {
    let network = network();
    // Far beyond what the softmax tells apart: cross-entropy is flat, logits are not.
    let saturated = |images: Images| network(images) * 1e4;
    let threat = threat("0.05");
    let found = run(
        &saturated,
        &dataset(120),
        &suite("apgd-ce-30,fab-t-10,square-500"),
        &threat,
    )
    .unwrap();
    let seen = kinds(&found);
    assert!(
        seen.contains(&"fab-stronger-than-apgd"),
        "{:?} {seen:?}",
        found.accuracy
    );
    // The targeted ratio does not depend on the scale.
    let [scaled, plain] = [&saturated as &dyn Fn(Images) -> Logits, &network].map(|logits| {
        let found = run(logits, &dataset(120), &suite("apgd-dlr-t-20"), &threat).unwrap();
        found.attacks[1].standing.correct
    });
    assert!(scaled.abs_diff(plain) <= 1, "{scaled} and {plain}");
}

#[test]
fn a_pgd_that_is_far_above_autoattack_is_said() {
    let network = network();
    let saturated = |images: Images| network(images) * 1e4;
    let found = run(
        &saturated,
        &dataset(120),
        &suite("pgd-10,autoattack-fast"),
        &threat("0.05"),
    )
    .unwrap();
    assert!(
        kinds(&found).contains(&"pgd-far-above-autoattack"),
        "{:?}",
        found.accuracy
    );
    let sound = run(
        &network,
        &dataset(120),
        &suite("pgd-20,autoattack-fast"),
        &threat("0.02"),
    )
    .unwrap();
    assert!(
        !kinds(&sound).contains(&"pgd-far-above-autoattack"),
        "{:?}",
        sound.accuracy
    );
    for kind in kinds(&sound) {
        assert!(!OF_MASKED_GRADIENTS.contains(&kind), "{:?}", sound.warnings);
    }
}

#[test]
fn transfer_is_crafted_on_the_surrogate_and_compared_example_by_example() {
    let network = network();
    let mut rng = Rng::new(77);
    let noise = matrix(&mut rng, PIXELS, CLASSES) * 0.4;
    // A relative of the model: near enough to transfer to some extent.
    let relative = |images: Images| network(images.clone()) + images.flatten::<2>(1, 3).matmul(noise.clone());
    let subject = |surrogate| Subject {
        description: String::new(),
        logits: &network,
        attacked: &network,
        surrogate,
    };
    let mut suite = suite("transfer-pgd-10");
    suite.add_white_boxes();
    let run = |subject: &Subject| {
        evaluate_function(
            subject,
            &dataset(90),
            &suite,
            &threat("0.03"),
            &Device::cpu(),
            &Control::new(),
            &mut |_| {},
        )
    };
    let surrogate = Surrogate {
        description: "a relative".into(),
        attacked: &relative,
    };
    let found = run(&subject(Some(surrogate))).unwrap();
    let names: Vec<&str> = found.attacks.iter().map(|attack| attack.name.as_str()).collect();
    assert_eq!(names, ["natural", "pgd-10", "transfer-pgd-10"]);
    assert_eq!(found.surrogate.as_deref(), Some("a relative"));
    let [comparison] = found.transfers.as_slice() else {
        panic!("{:?}", found.transfers);
    };
    let all = comparison.both + comparison.only_white_box + comparison.only_transfer + comparison.neither;
    assert_eq!(all, found.attacks[0].standing.correct);
    assert_eq!(
        comparison.neither + comparison.only_transfer,
        found.attacks[1].standing.correct
    );
    assert_eq!(
        comparison.neither + comparison.only_white_box,
        found.attacks[2].standing.correct
    );
    assert!(comparison.both > 0 && comparison.only_white_box > 0, "{comparison:?}");

    let missing = run(&subject(None));
    assert!(matches!(missing, Err(EvaluateError::NoSurrogate { .. })));

    // Where the model hides its gradient, the relative's leads better.
    let masked = |images: Images| {
        let value = network(images.clone().inner());
        let slope: Logits = images.flatten::<2>(1, 3).slice([0..value.dims()[0], 0..CLASSES]);
        value + (slope.clone() - slope.inner()) * 1e-3
    };
    let hidden = Subject {
        description: String::new(),
        logits: &masked,
        attacked: &masked,
        surrogate: Some(Surrogate {
            description: "a relative".into(),
            attacked: &relative,
        }),
    };
    let found = run(&hidden).unwrap();
    assert!(
        kinds(&found).contains(&"transfer-stronger-than-white-box"),
        "{:?}",
        found.accuracy
    );
}

#[test]
fn a_curve_tells_its_points_as_they_come_and_falls() {
    let (model, dataset) = wide_resnet_case();
    let suite = Suite {
        batch_size: 8,
        ..suite("natural,fgsm,pgd-5")
    };
    let threats = ["0", "0.002", "0.01"].map(threat);
    let (mut points, mut inside) = (Vec::new(), 0);
    let mut note = |event| match event {
        CurveEvent::Point { position, of, point } => {
            assert_eq!((position, of), (points.len(), 3));
            points.push(point);
        }
        CurveEvent::Evaluating { position, epsilon, .. } => {
            assert_eq!(position, points.len());
            assert_eq!(epsilon, threats[position].epsilon);
            inside += 1;
        }
    };
    let device = Device::cpu();
    let found = robustness_curve(&model, &dataset, &suite, &threats, &device, &Control::new(), &mut note).unwrap();
    assert_eq!((found.len(), points.len()), (3, 3));
    assert!(inside > 10);
    for (evaluation, point) in found.iter().zip(&points) {
        assert_eq!(point, &CurvePoint::from(evaluation));
    }
    let accuracies: Vec<f64> = points.iter().map(|point| point.worst_case.accuracy).collect();
    assert_eq!(accuracies[0], found[0].natural_accuracy());
    assert!(
        accuracies.is_sorted_by(|a, b| a >= b) && accuracies[2] < accuracies[0],
        "{accuracies:?}"
    );
    assert!(
        robustness_curve(&model, &dataset, &suite, &[], &device, &Control::new(), &mut |_| {})
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_stopped_evaluation_goes_on_from_its_record_and_from_no_other() {
    let (model, dataset) = wide_resnet_case();
    let suite = Suite {
        batch_size: 8,
        ..suite("natural,fgsm,pgd-5,cw-5")
    };
    let (device, threat) = (Device::cpu(), threat("0.002"));
    let whole = evaluate(&model, &dataset, &suite, &threat, &device, &Control::new(), &mut |_| {}).unwrap();

    let control = Control::new();
    let kept = std::cell::RefCell::new(None);
    let mut keep = |record: &Record| {
        *kept.borrow_mut() = Some(record.clone());
        Ok(())
    };
    let mut stop_after_fgsm = |event| {
        if matches!(&event, EvaluationEvent::AttackFinished(result) if result.name == "fgsm") {
            control.stop();
        }
    };
    let stopped = Examination::new(&model, &dataset, &suite, &threat, &device)
        .with_resume(Resume {
            record: None,
            keep: &mut keep,
        })
        .run(&control, &mut stop_after_fgsm);
    assert!(matches!(stopped, Err(EvaluateError::Stopped { .. })));
    let text = serde_json::to_string(&kept.take().unwrap()).unwrap();
    let record = || Some(serde_json::from_str::<Record>(&text).unwrap());

    let mut worked = Vec::new();
    let resumed = Examination::new(&model, &dataset, &suite, &threat, &device)
        .with_resume(Resume {
            record: record(),
            keep: &mut |_| Ok(()),
        })
        .run(&Control::new(), &mut |event| {
            if let EvaluationEvent::Progress { attack, .. } = event {
                worked.push(attack);
            }
        })
        .unwrap();
    assert!(
        !worked.contains(&"fgsm".to_string()) && worked.contains(&"pgd-5".to_string()),
        "{worked:?}"
    );
    assert_eq!(resumed.examples, whole.examples);

    let other_suite = Suite {
        seed: 9,
        ..suite.clone()
    };
    let other = Examination::new(&model, &dataset, &other_suite, &threat, &device)
        .with_resume(Resume {
            record: record(),
            keep: &mut |_| Ok(()),
        })
        .run(&Control::new(), &mut |_| {});
    let error = other.unwrap_err();
    assert!(error.to_string().contains("the seed differs"), "{error}");
    let shorter = dataset.take(10);
    let other = Examination::new(&model, &shorter, &suite, &threat, &device)
        .with_resume(Resume {
            record: record(),
            keep: &mut |_| Ok(()),
        })
        .run(&Control::new(), &mut |_| {});
    assert!(matches!(
        other,
        Err(EvaluateError::OtherEvaluation { what: "the examples" })
    ));
}
