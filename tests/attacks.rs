//! Properties that hold for every attack, closed cases, and the reference's iterates.

use std::cell::Cell;

use burn::tensor::{Int, Tensor, TensorData};
use martlet::{
    attacks::{
        Aim, Apgd, ApgdObjective, Ascent, Attack, AttackError, AttackSpec, Keep, Method, Objective, Pgd,
        estimate_gradient, maximise,
    },
    compute::{Device, read},
    evaluation::Suite,
    losses,
    random::Rng,
    shapes::{Batch, Images, Logits, PerExample},
    threat::{Norm, Start, ThreatModel},
};

const CLASSES: usize = 5;
const SIDE: usize = 6;
const PIXELS: usize = SIDE * SIDE;
const EXAMPLES: usize = 7;

fn matrix(rng: &mut Rng, rows: usize, columns: usize) -> Tensor<2> {
    let values: Vec<f32> = (0..rows * columns).map(|_| rng.normal()).collect();
    Tensor::from_data(TensorData::new(values, [rows, columns]), Device::cpu().tensors())
}

/// A small smooth network with fixed random weights.
fn network() -> impl Fn(Images) -> Logits {
    let mut rng = Rng::new(11);
    let (first, second) = (matrix(&mut rng, PIXELS, 16) * 0.3, matrix(&mut rng, 16, CLASSES) * 0.5);
    move |images: Images| {
        (images.flatten(1, 3) - 0.5)
            .matmul(first.clone())
            .tanh()
            .matmul(second.clone())
    }
}

/// Random images, some pixels on the edge of the box; every one is classified correctly.
fn batch() -> Batch {
    let mut rng = Rng::new(12);
    let values: Vec<f32> = (0..EXAMPLES * PIXELS)
        .map(|_| rng.uniform(-0.2, 1.2).clamp(0.0, 1.0))
        .collect();
    let images: Images = Tensor::from_data(
        TensorData::new(values, [EXAMPLES, 1, SIDE, SIDE]),
        Device::cpu().tensors(),
    );
    let labels = network()(images.clone()).argmax(1).reshape([EXAMPLES]);
    Batch {
        images,
        labels,
        indices: (0..EXAMPLES).collect(),
    }
}

fn threat(norm: Norm, epsilon: &str) -> ThreatModel {
    ThreatModel {
        norm,
        epsilon: epsilon.parse().unwrap(),
    }
}

fn spec(name: &str) -> AttackSpec {
    name.parse().unwrap()
}

/// An ascent with some of its numbers changed.
fn ascent(name: &str, change: impl FnOnce(&mut Ascent)) -> AttackSpec {
    let mut attack = spec(name);
    change(attack.ascent_mut().unwrap());
    attack
}

/// Every ascent there is, under its name.
fn ascents() -> Vec<(String, AttackSpec)> {
    let cw = |kappa| ascent("cw-5", |cw| cw.objective = Objective::CarliniWagner { kappa });
    let mut targeted_cw = cw(0.0);
    targeted_cw.ascent_mut().unwrap().aim = Aim::Target(2);
    let mut table = vec![
        ("fgsm".to_string(), spec("fgsm")),
        ("pgd-20".to_string(), spec("pgd-20")),
        ("cw, kappa 0".to_string(), cw(0.0)),
        ("cw, kappa 50".to_string(), cw(50.0)),
        (
            "targeted pgd".to_string(),
            ascent("pgd-5", |pgd| pgd.aim = Aim::Target(2)),
        ),
        ("targeted cw".to_string(), targeted_cw),
    ];
    for start in [Start::Natural, Start::Uniform, Start::Gaussian] {
        table.push((
            format!("pgd-5 from {start:?}"),
            ascent("pgd-5", |pgd| pgd.start = start),
        ));
    }
    table
}

/// The attacks of one piece that are no plain ascent, with few steps.
const OTHERS: [&str; 14] = [
    "natural",
    "mi-fgsm-5",
    "deepfool-20",
    "cw-l2-20:searches=3",
    "transfer-mi-fgsm-5",
    "apgd-ce-20",
    "apgd-dlr-20",
    "apgd-dlr-t-10",
    "fab-t-10",
    "square-60",
    "spsa-3",
    "transfer-pgd-5",
    "transfer-apgd-ce-10",
    "transfer-square-10",
];

/// Every attack of one piece, under its name.
fn pieces() -> Vec<(String, AttackSpec)> {
    let others = OTHERS.map(|name| (name.to_string(), spec(name)));
    ascents().into_iter().chain(others).collect()
}

/// Every attack there is, under its name: the pieces, and two of them in turn.
fn attacks() -> Vec<(String, AttackSpec)> {
    let mut in_turn = spec("autoattack-fast");
    if let Method::InTurn(all) = &mut in_turn.method {
        all.attacks = ["apgd-ce-5", "apgd-dlr-t-5", "fab-t-5", "square-20"].map(spec).to_vec();
    }
    pieces().into_iter().chain([("in turn".to_string(), in_turn)]).collect()
}

/// Every way to run the inner maximisation.
fn maximisations() -> Vec<Pgd> {
    let mut table = Vec::new();
    for start in [Start::Natural, Start::Uniform, Start::Gaussian] {
        for restarts in [1, 3] {
            for keep in [Keep::Last, Keep::Best] {
                table.push(Pgd {
                    steps: 4,
                    step_size: "0.02".parse().unwrap(),
                    start,
                    restarts,
                    keep,
                });
            }
        }
    }
    table
}

fn assert_inside(name: &str, threat: &ThreatModel, natural: &Images, adversarial: Images) {
    assert!(
        !adversarial.is_autodiff(),
        "{name} returns images that still carry a graph"
    );
    for distance in read(threat.distance(natural, &adversarial)).unwrap() {
        assert!(
            distance <= threat.epsilon.value() + threat.tolerance(),
            "{name}, {threat}: distance {distance}"
        );
    }
    for pixel in read(adversarial).unwrap() {
        assert!((0.0..=1.0).contains(&pixel), "{name}, {threat}: pixel {pixel}");
    }
}

#[test]
fn every_result_lies_in_the_ball_and_in_the_box() {
    let (network, batch) = (network(), batch());
    for norm in [Norm::Linf, Norm::L2] {
        for epsilon in ["0", "1/255", "0.3", "2"] {
            let threat = threat(norm, epsilon);
            for (name, attack) in attacks() {
                let adversarial = attack
                    .perturb(&network, &batch, &threat, &mut Rng::new(1).each(batch.len()))
                    .unwrap();
                assert_inside(&name, &threat, &batch.images, adversarial);
            }
            let objective = |images: Images| losses::cross_entropy(network(images), batch.labels.clone());
            for pgd in maximisations() {
                let found = maximise(
                    &objective,
                    &batch.images,
                    &threat,
                    &pgd,
                    &mut Rng::new(1).each(batch.len()),
                )
                .unwrap();
                assert_inside(&format!("{pgd:?}"), &threat, &batch.images, found);
            }
        }
    }
}

#[test]
fn attacks_raise_what_they_climb() {
    let (network, batch) = (network(), batch());
    let mean = |images: Images, labels| {
        let value: PerExample = losses::cross_entropy(network(images), labels);
        read(value.mean()).unwrap()[0]
    };
    for norm in [Norm::Linf, Norm::L2] {
        let threat = threat(norm, if norm == Norm::Linf { "0.1" } else { "0.6" });
        for (name, attack) in ascents() {
            let adversarial = attack
                .perturb(&network, &batch, &threat, &mut Rng::new(1).each(batch.len()))
                .unwrap();
            match attack.ascent().unwrap().aim {
                Aim::Untargeted => {
                    let [before, after] = [&batch.images, &adversarial].map(|x| mean(x.clone(), batch.labels.clone()));
                    assert!(
                        after > before + 0.05,
                        "{name}, {threat}: cross-entropy from {before} to {after}"
                    );
                }
                Aim::Target(class) => {
                    let target = || batch.labels.zeros_like().add_scalar(class as i64);
                    let [before, after] = [&batch.images, &adversarial].map(|x| mean(x.clone(), target()));
                    assert!(
                        after < before - 0.05,
                        "{name}, {threat}: towards the target from {before} to {after}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_best_iterate_is_never_weaker_than_the_start() {
    let (network, batch) = (network(), batch());
    // A margin that wobbles: steps overshoot, so that the last iterate is not the best.
    let objective = |images: Images| {
        let wobble: PerExample = (images.clone() * 40.0)
            .sin()
            .flatten::<2>(1, 3)
            .sum_dim(1)
            .squeeze_dim(1);
        losses::margin(network(images), batch.labels.clone()) + wobble * 0.3
    };
    for norm in [Norm::Linf, Norm::L2] {
        let threat = threat(norm, "0.2");
        for pgd in maximisations()
            .into_iter()
            .filter(|pgd| pgd.keep == Keep::Best || pgd.restarts > 1)
        {
            let found = maximise(
                &objective,
                &batch.images,
                &threat,
                &pgd,
                &mut Rng::new(5).each(batch.len()),
            )
            .unwrap();
            let found = read(objective(found)).unwrap();
            let mut compared = vec![(
                "one restart",
                Pgd {
                    restarts: 1,
                    ..pgd.clone()
                },
            )];
            // A Gaussian start may lie outside the ball, and is then no result at all.
            if pgd.keep == Keep::Best && pgd.start != Start::Gaussian {
                compared.push((
                    "the start",
                    Pgd {
                        steps: 0,
                        restarts: 1,
                        ..pgd.clone()
                    },
                ));
            }
            if pgd.keep == Keep::Best {
                compared.push((
                    "the last iterate",
                    Pgd {
                        keep: Keep::Last,
                        restarts: 1,
                        ..pgd.clone()
                    },
                ));
            }
            for (what, weaker) in compared {
                let other = maximise(
                    &objective,
                    &batch.images,
                    &threat,
                    &weaker,
                    &mut Rng::new(5).each(batch.len()),
                )
                .unwrap();
                let other = read(objective(other)).unwrap();
                for (found, other) in found.iter().zip(other) {
                    assert!(
                        *found >= other - 1e-5,
                        "{pgd:?}: {found} is weaker than {what}, {other}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_images() {
    let (network, batch) = (network(), batch());
    for norm in [Norm::Linf, Norm::L2] {
        for (name, attack) in attacks() {
            let threat = threat(norm, "0.2");
            let images = |seed| {
                read(
                    attack
                        .perturb(&network, &batch, &threat, &mut Rng::new(seed).each(batch.len()))
                        .unwrap(),
                )
                .unwrap()
            };
            assert_eq!(images(3), images(3), "{name}");
            let same = match &attack.method {
                Method::Natural(_)
                | Method::Fab(_)
                | Method::Momentum(_)
                | Method::DeepFool(_)
                | Method::CarliniL2(_) => true,
                Method::Transfer(transfer) if matches!(transfer.attack.method, Method::Momentum(_)) => true,
                Method::Pgd(ascent) => ascent.start == Start::Natural,
                _ => false,
            };
            assert_eq!(
                images(3) == images(4),
                same,
                "{name}: the seed matters where the attack draws, and only there"
            );
        }
    }
}

#[test]
fn the_batch_changes_nothing() {
    let (network, batch) = (network(), batch());
    for norm in [Norm::Linf, Norm::L2] {
        let threat = threat(norm, "0.1");
        for (name, attack) in pieces() {
            let mut rngs = Rng::new(1).each(EXAMPLES);
            let together = attack.perturb(&network, &batch, &threat, &mut rngs.clone()).unwrap();
            let alone = (0..EXAMPLES).map(|i| {
                let one = Batch {
                    images: batch.images.clone().narrow(0, i, 1),
                    labels: batch.labels.clone().narrow(0, i, 1),
                    indices: vec![i],
                };
                attack.perturb(&network, &one, &threat, &mut rngs[i..=i]).unwrap()
            });
            let alone = Tensor::cat(alone.collect(), 0);
            let apart = read((together - alone).abs().max()).unwrap()[0];
            assert!(apart < 1e-5, "{name}, {threat}: {apart}");
        }
    }
}

/// Two classes with the logits `(0, ⟨w, x⟩ + b)`; every label is 0, so that attacks climb along w.
fn linear_case() -> (Tensor<2>, Batch) {
    let weights = matrix(&mut Rng::new(21), PIXELS, 1);
    let device = Device::cpu();
    let batch = Batch {
        images: Tensor::<4>::full([3, 1, SIDE, SIDE], 0.5, device.tensors()),
        labels: Tensor::<1, Int>::zeros([3], device.tensors()),
        indices: vec![0, 1, 2],
    };
    (weights, batch)
}

#[test]
fn on_a_linear_model_the_optimum_is_reached() {
    let (weights, batch) = linear_case();
    let logits = |images: Images| {
        let score = images.flatten::<2>(1, 3).matmul(weights.clone());
        Tensor::cat(vec![score.clone() * 0.0, score], 1)
    };
    let direction = |norm| {
        let w: Images = weights.clone().reshape([1, 1, SIDE, SIDE]);
        match norm {
            Norm::Linf => w.sign(),
            Norm::L2 => w.clone() / w.powi_scalar(2).sum().sqrt().reshape([1, 1, 1, 1]),
        }
    };
    for norm in [Norm::Linf, Norm::L2] {
        let threat = threat(norm, "0.25");
        // 0.5 ± 0.25 stays clear of the box, so that the ball alone binds.
        let optimum = batch.images.clone() + direction(norm).expand([3, 1, SIDE, SIDE]) * 0.25;
        for name in ["fgsm", "pgd-10", "pgd-40", "cw-20"] {
            let mut attack: AttackSpec = name.parse().unwrap();
            let from_natural = attack.ascent().unwrap().start == Start::Natural;
            if norm == Norm::L2 && !from_natural {
                // Along one direction only a step much longer than the ball cancels a random start.
                attack.ascent_mut().unwrap().step_size = Some("50".parse().unwrap());
            }
            let found = attack
                .perturb(&logits, &batch, &threat, &mut Rng::new(2).each(batch.len()))
                .unwrap();
            let apart = read((found - optimum.clone()).abs().max()).unwrap()[0];
            let tolerance = if norm == Norm::Linf || from_natural { 1e-6 } else { 3e-3 };
            assert!(apart < tolerance, "{name}, {threat}: {apart} from the closed form");
        }
    }
}

#[test]
fn cw_stops_at_kappa_and_is_alive_before() {
    let (weights, batch) = linear_case();
    let logits = |images: Images| {
        let score = images.flatten::<2>(1, 3).matmul(weights.clone()) - 8.0;
        Tensor::cat(vec![score.clone() * 0.0, score], 1)
    };
    let threat = threat(Norm::Linf, "0.5");
    let lead = |kappa| {
        let attack = ascent("cw-50", |cw| {
            cw.objective = Objective::CarliniWagner { kappa };
            cw.step_size = Some("0.01".parse().unwrap());
            cw.start = Start::Natural;
        });
        let found = attack
            .perturb(&logits, &batch, &threat, &mut Rng::new(2).each(batch.len()))
            .unwrap();
        read(losses::margin(logits(found), batch.labels.clone())).unwrap()[0]
    };
    // A step of 0.01 changes the lead by 0.01·|w|₁, about 0.3.
    assert!((0.0..0.4).contains(&lead(0.0)), "{}", lead(0.0));
    assert!((2.0..2.4).contains(&lead(2.0)), "{}", lead(2.0));
    assert!(lead(50.0) > 3.0);
}

#[test]
fn a_model_that_detaches_its_input_is_an_error() {
    let (network, batch) = (network(), batch());
    let detached = |images: Images| network(images.detach());
    let constant = |images: Images| network(images.inner());
    let needs_gradient =
        |attack: &AttackSpec| matches!(attack.method, Method::Pgd(_) | Method::Apgd(_) | Method::Fab(_));
    for (name, attack) in attacks().into_iter().filter(|(_, attack)| needs_gradient(attack)) {
        for logits in [&detached as &dyn Fn(Images) -> Logits, &constant] {
            let found = attack.perturb(
                logits,
                &batch,
                &threat(Norm::Linf, "0.1"),
                &mut Rng::new(1).each(batch.len()),
            );
            assert!(matches!(found, Err(AttackError::MissingGradient)), "{name}");
        }
    }
}

#[test]
fn a_gradient_that_is_no_number_moves_nothing() {
    let (network, batch) = (network(), batch());
    let poisoned = |images: Images| {
        let nan: Logits = (images.clone().flatten::<2>(1, 3).sum_dim(1) * 0.0 - 1.0).sqrt();
        network(images) + nan
    };
    for norm in [Norm::Linf, Norm::L2] {
        for (name, attack) in attacks() {
            let threat = threat(norm, "0.1");
            let found = attack
                .perturb(&poisoned, &batch, &threat, &mut Rng::new(1).each(batch.len()))
                .unwrap();
            assert_inside(&format!("{name} on NaN"), &threat, &batch.images, found);
        }
    }
}

#[test]
fn small_gradients_lose_nothing_in_l2() {
    // Squares of what lies under 1e-19 vanish in 32 bits; answers and directions do not depend on the scale.
    let (network, batch) = (network(), batch());
    let threat = threat(Norm::L2, "1");
    let fooled = |scale: f32| {
        let scaled = |images: Images| network(images) * scale;
        let found = spec("fab-t-10")
            .perturb(&scaled, &batch, &threat, &mut Rng::new(1).each(batch.len()))
            .unwrap();
        standing(&scaled, &batch, found)
    };
    let known = fooled(1.0);
    assert!(known.iter().any(|stands| !stands), "the case fools nobody");
    for scale in [1e-7, 1e-9] {
        assert_eq!(fooled(scale), known, "logits times {scale}");
    }

    let gradient = &batch.images;
    let each = |value: f32| Tensor::<1>::full([batch.len()], value, Device::cpu().tensors());
    for scale in [1.0, 1e-14, 1e-20] {
        let moved = Norm::L2.ascend_each(gradient.zeros_like(), gradient.clone() * scale, each(0.3), each(1.0));
        for length in read(Norm::L2.length(moved)).unwrap() {
            assert!(
                (length - 0.3).abs() < 1e-5,
                "a step of {length} on gradients times {scale}"
            );
        }
    }
}

#[test]
fn an_attack_makes_no_pass_too_many_and_asks_for_the_image_gradient_alone() {
    let (network, batch) = (network(), batch());
    let passes = Cell::new(0);
    let counted = |images: Images| {
        passes.set(passes.get() + 1);
        // The image is a leaf of a graph; nothing of the model is.
        assert!(images.is_autodiff() && images.is_require_grad());
        network(images)
    };
    for (name, attack) in ascents() {
        passes.set(0);
        attack
            .perturb(
                &counted,
                &batch,
                &threat(Norm::Linf, "0.1"),
                &mut Rng::new(1).each(batch.len()),
            )
            .unwrap();
        assert_eq!(passes.get(), attack.ascent().unwrap().steps, "{name}");
    }
}

/// The share of the batch that the model still answers as labelled.
fn standing(network: &dyn Fn(Images) -> Logits, batch: &Batch, images: Images) -> Vec<bool> {
    let right = network(images)
        .inner()
        .argmax(1)
        .reshape([batch.len()])
        .equal(batch.labels.clone());
    read(right.float()).unwrap().iter().map(|right| *right != 0.0).collect()
}

#[test]
fn the_strong_attacks_find_what_there_is_on_a_linear_model() {
    // Four classes with linear logits: the distance to the nearest boundary has a closed form while the box does not bind.
    let weights = matrix(&mut Rng::new(31), PIXELS, 4) * 0.3;
    let mut rng = Rng::new(32);
    let values: Vec<f32> = (0..40 * PIXELS).map(|_| rng.uniform(0.4, 0.6)).collect();
    let images: Images = Tensor::from_data(TensorData::new(values, [40, 1, SIDE, SIDE]), Device::cpu().tensors());
    let logits = |images: Images| images.flatten::<2>(1, 3).matmul(weights.clone());
    let batch = Batch {
        labels: logits(images.clone()).argmax(1).reshape([40]),
        images,
        indices: (0..40).collect(),
    };
    let [answers, columns] = [logits(batch.images.clone()), weights.clone()].map(|tensor| read(tensor).unwrap());
    let labels = martlet::compute::read_int(batch.labels.clone()).unwrap();
    for norm in [Norm::Linf, Norm::L2] {
        let nearest: Vec<f32> = (0..40)
            .map(|row| {
                let label = labels[row] as usize;
                let other = (0..4).filter(|class| *class != label).map(|class| {
                    let gap = answers[row * 4 + label] - answers[row * 4 + class];
                    let slopes = (0..PIXELS).map(|pixel| columns[pixel * 4 + label] - columns[pixel * 4 + class]);
                    let size = match norm {
                        Norm::Linf => slopes.map(f32::abs).sum::<f32>(),
                        Norm::L2 => slopes.map(|slope| slope * slope).sum::<f32>().sqrt(),
                    };
                    gap / size
                });
                other.fold(f32::MAX, f32::min)
            })
            .collect();
        let mut sorted = nearest.clone();
        sorted.sort_by(f32::total_cmp);
        let epsilon = (sorted[19] + sorted[20]) / 2.0;
        let threat = threat(norm, &epsilon.to_string());
        for (name, slack) in [
            // Cross-entropy may climb towards another class than the nearest.
            ("apgd-ce", 0.5),
            ("apgd-dlr-t", 0.02),
            ("fab-t", 0.02),
            ("square", if norm == Norm::Linf { 0.1 } else { 0.4 }),
            ("autoattack", 0.02),
        ] {
            let found = spec(name)
                .perturb(&logits, &batch, &threat, &mut Rng::new(2).each(batch.len()))
                .unwrap();
            assert_inside(name, &threat, &batch.images, found.clone());
            for (row, stands) in standing(&logits, &batch, found).into_iter().enumerate() {
                let due = nearest[row];
                if stands {
                    assert!(
                        due > epsilon * (1.0 - slack),
                        "{name}, {threat}: {row} stands with a boundary at {due}"
                    );
                } else {
                    assert!(
                        due < epsilon * 1.001,
                        "{name}, {threat}: {row} fell with a boundary at {due}"
                    );
                }
            }
        }
    }
}

#[test]
fn attacks_repair_nothing_and_autoattack_is_no_weaker_than_its_parts() {
    let (network, batch) = (network(), batch());
    for norm in [Norm::Linf, Norm::L2] {
        let threat = threat(norm, if norm == Norm::Linf { "0.06" } else { "0.35" });
        let fallen = |name: &str| {
            let found = spec(name)
                .perturb(&network, &batch, &threat, &mut Rng::new(3).each(batch.len()))
                .unwrap();
            let left = standing(&network, &batch, found);
            left.iter().filter(|stands| !**stands).count()
        };
        let whole = fallen("autoattack");
        for part in ["apgd-ce", "apgd-dlr-t", "fab-t", "square", "spsa-20", "apgd-dlr"] {
            let part = fallen(part);
            assert!(part <= whole, "{norm}: {part} against {whole}");
        }
        assert!(whole > 0, "{norm}: the radius is too small to tell anything");
    }
}

#[test]
fn with_few_classes_targeted_attacks_try_what_there_is() {
    for classes in [2, 3] {
        let weights = matrix(&mut Rng::new(41), PIXELS, classes);
        let logits = |images: Images| (images.flatten::<2>(1, 3) - 0.5).matmul(weights.clone());
        let mut batch = batch();
        batch.labels = logits(batch.images.clone()).argmax(1).reshape([EXAMPLES]);
        for name in ["apgd-dlr", "apgd-dlr-t", "fab-t"] {
            let found = spec(name)
                .perturb(
                    &logits,
                    &batch,
                    &threat(Norm::Linf, "0.5"),
                    &mut Rng::new(1).each(batch.len()),
                )
                .unwrap();
            let left = standing(&logits, &batch, found);
            assert!(
                left.iter().all(|stands| !stands),
                "{name} with {classes} classes: {left:?}"
            );
        }
    }
}

#[test]
fn names_and_numbers_survive_json() {
    for (name, attack) in attacks() {
        let json = serde_json::to_value(&attack).unwrap();
        assert!(json["method"].is_string(), "{name}: {json}");
        let back: AttackSpec = serde_json::from_value(json).unwrap();
        assert_eq!(back, attack, "{name}");
    }
    let spsa = serde_json::to_value(spec("spsa")).unwrap();
    assert_eq!(
        (spsa["samples"].as_u64(), spsa["steps"].as_u64()),
        (Some(128), Some(100))
    );
    assert_eq!(
        (spsa["delta"].as_str(), spsa["learning_rate"].as_str()),
        (Some("0.01"), Some("0.01"))
    );
    // Its numbers go into its name, for a suite, a recipe and the command line alike.
    let name = "spsa-50:samples=256:delta=2/255:learning-rate=0.005";
    let chosen = spec(name);
    assert_eq!(chosen.name, name);
    assert_eq!(
        chosen.settings(&threat(Norm::Linf, "0.3"), 10),
        "50 steps of Adam at 0.005, 256 samples, δ = 2/255"
    );
    assert_eq!(chosen.passes(), 50 * (2 * 256 + 1) + 1);
    let suite: Suite = "pgd-20,spsa:samples=8x2,spsa".parse().unwrap();
    let few = &suite.attacks[1];
    assert_eq!(few.restarts, 2);
    assert_eq!(
        few.settings(&threat(Norm::Linf, "0.3"), 10),
        "100 steps of Adam at 0.01, 8 samples, δ = 0.01, 2 starts"
    );
    // With few classes there is no DLR, and what takes its place is named.
    let among = |name: &str, classes: usize| spec(name).settings(&threat(Norm::Linf, "0.3"), classes);
    for (name, classes, said) in [
        ("apgd-dlr", 2, "the margin, 100 steps"),
        ("apgd-dlr", 3, "DLR, 100 steps"),
        ("apgd-dlr-t", 2, "the other class's lead, 100 steps"),
        (
            "apgd-dlr-t",
            3,
            "each class's lead, towards 2 other classes, 100 steps each",
        ),
        ("apgd-dlr-t", 10, "DLR towards at most 9 other classes, 100 steps each"),
        ("fab-t", 2, "towards the other class, 100 steps each"),
        ("fab-t", 4, "towards 3 other classes, 100 steps each"),
        ("fab-t", 10, "towards at most 9 other classes, 100 steps each"),
        (
            "transfer-apgd-dlr-t",
            2,
            "on the surrogate: the other class's lead, 100 steps",
        ),
    ] {
        let found = among(name, classes);
        assert!(found.starts_with(said), "{name} among {classes}: {found}");
    }
    for wrong in [
        "apgd",
        "apgd-ce-0",
        "square-",
        "fab",
        "transfer-",
        "transfer-natural",
        "transfer-transfer-fgsm",
        "autoattack-10",
        "naturalx5",
        "autoattackx5",
        "mi-fgsm-0",
        "mi-fgsmx5",
        "transfer-mi-fgsmx5",
        "deepfoolx5",
        "cw-l2x2",
        "cw-l2:searches=0",
        "cw-l2:kappa=-1",
        "cw-l2:rate=1",
        "spsa:samples=0",
        "spsa:delta=0",
        "spsa:delta=-1",
        "spsa:samples=8:samples=9",
        "spsa:steps=9",
        "spsa:samples",
        "pgd-20:samples=8",
    ] {
        assert!(wrong.parse::<AttackSpec>().is_err(), "{wrong}");
    }
}

/// A list of numbers of the reference file.
fn numbers(json: &serde_json::Value) -> Vec<f32> {
    let values = json.as_array().unwrap().iter();
    values.map(|value| value.as_f64().unwrap() as f32).collect()
}

fn whole(json: &serde_json::Value) -> usize {
    json.as_u64().unwrap() as usize
}

/// `tests/golden/attacks.json`, written by `attacks.py` beside it: its network and its batch.
fn golden() -> (serde_json::Value, impl Fn(Images) -> Logits, Batch) {
    let file = format!("{}/tests/golden/attacks.json", env!("CARGO_MANIFEST_DIR"));
    let golden: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let (examples, side) = (whole(&golden["examples"]), whole(&golden["side"]));
    let (hidden, classes) = (whole(&golden["hidden"]), whole(&golden["classes"]));
    let tensor = |name: &str, shape: [usize; 2]| -> Tensor<2> {
        Tensor::from_data(TensorData::new(numbers(&golden[name]), shape), Device::cpu().tensors())
    };
    let first = tensor("first", [side * side, hidden]);
    let second = tensor("second", [hidden, classes]);
    let images = tensor("images", [examples, side * side]).reshape([examples, 1, side, side]);
    let labels = numbers(&golden["labels"]).iter().map(|label| *label as i64).collect();
    let batch = Batch {
        labels: integers(labels),
        images,
        indices: (0..examples).collect(),
    };
    let network = move |images: Images| {
        (images.flatten(1, 3) - 0.5)
            .matmul(first.clone())
            .tanh()
            .matmul(second.clone())
    };
    (golden, network, batch)
}

fn integers(values: Vec<i64>) -> Tensor<1, Int> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), Device::cpu().tensors())
}

#[test]
fn apgd_takes_the_steps_of_the_reference() {
    let (golden, network, batch) = golden();
    let targets = integers(numbers(&golden["targets"]).iter().map(|class| *class as i64).collect());
    for run in golden["runs"].as_array().unwrap() {
        let norm = if run["norm"] == "l2" { Norm::L2 } else { Norm::Linf };
        let targeted = run["objective"] == "targeted-dlr";
        let apgd = Apgd {
            objective: if targeted {
                ApgdObjective::TargetedDlr { targets: 1 }
            } else {
                ApgdObjective::CrossEntropy
            },
            steps: whole(&golden["steps"]),
            rho: 0.75,
            stop_when_fooled: false,
        };
        let marks: Vec<usize> = numbers(&golden["checkpoints"])
            .iter()
            .map(|mark| *mark as usize)
            .collect();
        assert_eq!(apgd.checkpoints(), marks);
        let threat = threat(norm, &run["epsilon"].to_string());
        let start = TensorData::new(numbers(&run["start"]), batch.images.dims());
        let start = Tensor::from_data(start, Device::cpu().tensors());
        let goals = targeted.then(|| targets.clone());
        let mut climb = apgd.begin(&network, &batch, goals, start, &threat).unwrap();
        let what = format!("{norm}, {}", run["objective"]);
        for done in 0..apgd.steps {
            apgd.advance(&network, &mut climb, done, &threat).unwrap();
            let step_sizes = read(climb.step_size.clone()).unwrap();
            let expected = numbers(&run["step_sizes"][done]);
            for (found, expected) in step_sizes.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{what}, step {done}: step sizes {step_sizes:?}, expected {expected:?}"
                );
            }
            if (done + 1) % 6 == 0 {
                let expected = numbers(&run["every_sixth"][done / 6]);
                for (found, expected) in read(climb.current.clone()).unwrap().iter().zip(expected) {
                    assert!(
                        (found - expected).abs() < 1e-4,
                        "{what}, step {done}: {found}, expected {expected}"
                    );
                }
            }
        }
        for (found, expected) in read(climb.best_value).unwrap().iter().zip(numbers(&run["best_value"])) {
            // A ratio whose denominator is small enlarges rounding.
            assert!(
                (found - expected).abs() < 2e-3 * expected.abs().max(1.0),
                "{what}: best {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn apgd_looks_at_its_step_where_the_paper_says() {
    let marks = |name: &str| match spec(name).method {
        Method::Apgd(apgd) => apgd.checkpoints(),
        other => panic!("{other:?}"),
    };
    assert_eq!(marks("apgd-ce"), [22, 41, 57, 70, 80, 87, 93, 99]);
    assert_eq!(marks("apgd-ce-50"), [11, 21, 29, 35, 40, 44, 47]);
    assert_eq!(marks("apgd-ce-5"), [2, 3, 4]);
    assert!(marks("apgd-ce-1").is_empty());
}

#[test]
fn spsa_estimates_as_the_reference_does() {
    let (golden, network, batch) = golden();
    let spsa = &golden["spsa"];
    let images = |values: &serde_json::Value| -> Images {
        Tensor::from_data(
            TensorData::new(numbers(values), batch.images.dims()),
            Device::cpu().tensors(),
        )
    };
    let directions = spsa["directions"].as_array().unwrap().iter().map(images);
    let margin = |images: Images| losses::margin(network(images), batch.labels.clone());
    let delta = spsa["delta"].as_f64().unwrap() as f32;
    let found = read(estimate_gradient(&margin, &batch.images, directions, delta)).unwrap();
    for (found, expected) in found.iter().zip(numbers(&spsa["gradient"])) {
        // Differences of logits near 1 over 0.02: rounding is enlarged fifty times.
        assert!((found - expected).abs() < 1e-4, "{found}, expected {expected}");
    }
}

/// The images of the reference file are those that an attack gives under a threat.
fn assert_images(what: &str, attack: &AttackSpec, threat: &ThreatModel, expected: &serde_json::Value, tolerance: f32) {
    let (_, network, batch) = golden();
    let found = attack
        .perturb(&network, &batch, threat, &mut Rng::new(1).each(batch.len()))
        .unwrap();
    let found = read(found).unwrap();
    let natural = read(batch.images).unwrap();
    assert!(
        found.iter().zip(&natural).any(|(found, natural)| found != natural),
        "{what}: nothing was perturbed"
    );
    for (found, expected) in found.iter().zip(numbers(expected)) {
        assert!(
            (found - expected).abs() < tolerance,
            "{what}: {found}, expected {expected}"
        );
    }
}

#[test]
fn mi_fgsm_gives_the_images_of_torchattacks() {
    let (golden, ..) = golden();
    let threat = threat(Norm::Linf, "0.2");
    assert_images("mi-fgsm", &spec("mi-fgsm"), &threat, &golden["mi-fgsm"]["images"], 1e-6);
}

#[test]
fn deepfool_gives_the_images_of_torchattacks() {
    let (golden, ..) = golden();
    for (norm, name) in [(Norm::L2, "l2"), (Norm::Linf, "linf")] {
        let expected = &golden["deepfool"][name];
        assert_images(name, &spec("deepfool"), &threat(norm, "10"), expected, 1e-5);
    }
}

#[test]
fn cw_in_l2_gives_the_images_of_torchattacks_and_the_distances_of_foolbox() {
    let (golden, network, batch) = golden();
    let far = threat(Norm::L2, "10");
    let fixed = spec("cw-l2-60:searches=1:constant=1");
    assert_images("fixed c", &fixed, &far, &golden["cw-l2"]["fixed"], 1e-3);
    let found = spec("cw-l2-60")
        .perturb(&network, &batch, &far, &mut Rng::new(1).each(batch.len()))
        .unwrap();
    let distances = read(far.distance(&batch.images, &found)).unwrap();
    for (found, expected) in distances.iter().zip(numbers(&golden["cw-l2"]["distances"])) {
        assert!((found - expected).abs() < 1e-3, "distance {found}, expected {expected}");
    }
}

#[test]
fn attacks_that_know_no_radius_count_where_they_stay_inside_it() {
    let (_, network, batch) = golden();
    let far = threat(Norm::L2, "10");
    for name in ["deepfool", "cw-l2-60"] {
        let attack = spec(name);
        let found = attack
            .perturb(&network, &batch, &far, &mut Rng::new(1).each(batch.len()))
            .unwrap();
        let distances = read(far.distance(&batch.images, &found)).unwrap();
        let mut sorted = distances.clone();
        sorted.sort_by(f32::total_cmp);
        let middle = (sorted[1] + sorted[2]) / 2.0;
        let near = threat(Norm::L2, &middle.to_string());
        let found = attack
            .perturb(&network, &batch, &near, &mut Rng::new(1).each(batch.len()))
            .unwrap();
        let left = standing(&network, &batch, found);
        let beyond: Vec<bool> = distances.iter().map(|distance| *distance > middle).collect();
        assert_eq!(left, beyond, "{name}: {distances:?} within {middle}");
    }
}
