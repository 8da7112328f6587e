//! Properties that hold for every attack, closed cases, and the reference's iterates.

use std::cell::Cell;

use burn::tensor::{Int, Tensor, TensorData};
use martlet::{
    attacks::{Aim, Attack, AttackError, AttackSpec, Keep, Objective, Pgd, maximise},
    compute::{Device, read},
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

/// Every attack there is, under its name.
fn attacks() -> Vec<(String, AttackSpec)> {
    let spec = |name: &str| name.parse::<AttackSpec>().unwrap();
    let cw = |kappa| AttackSpec {
        objective: Some(Objective::CarliniWagner { kappa }),
        ..spec("cw-5")
    };
    let mut table = vec![
        ("natural".to_string(), spec("natural")),
        ("fgsm".to_string(), spec("fgsm")),
        ("pgd-20".to_string(), spec("pgd-20")),
        ("cw, kappa 0".to_string(), cw(0.0)),
        ("cw, kappa 50".to_string(), cw(50.0)),
        (
            "targeted pgd".to_string(),
            AttackSpec {
                aim: Aim::Target(2),
                ..spec("pgd-5")
            },
        ),
        (
            "targeted cw".to_string(),
            AttackSpec {
                aim: Aim::Target(2),
                ..cw(0.0)
            },
        ),
    ];
    for start in [Start::Natural, Start::Uniform, Start::Gaussian] {
        table.push((format!("pgd-5 from {start:?}"), AttackSpec { start, ..spec("pgd-5") }));
    }
    table
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
                let adversarial = attack.perturb(&network, &batch, &threat, &mut Rng::new(1)).unwrap();
                assert_inside(&name, &threat, &batch.images, adversarial);
            }
            let objective = |images: Images| losses::cross_entropy(network(images), batch.labels.clone());
            for pgd in maximisations() {
                let found = maximise(&objective, &batch.images, &threat, &pgd, &mut Rng::new(1)).unwrap();
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
        for (name, attack) in attacks().into_iter().filter(|(_, attack)| attack.objective.is_some()) {
            let adversarial = attack.perturb(&network, &batch, &threat, &mut Rng::new(1)).unwrap();
            match attack.aim {
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
            let found = maximise(&objective, &batch.images, &threat, &pgd, &mut Rng::new(5)).unwrap();
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
                let other = maximise(&objective, &batch.images, &threat, &weaker, &mut Rng::new(5)).unwrap();
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
            let images = |seed| read(attack.perturb(&network, &batch, &threat, &mut Rng::new(seed)).unwrap()).unwrap();
            assert_eq!(images(3), images(3), "{name}");
            let random = attack.objective.is_some() && attack.start != Start::Natural;
            assert_eq!(
                images(3) != images(4),
                random,
                "{name}: the seed matters where the start is random, and only there"
            );
        }
    }
}

#[test]
fn the_batch_changes_nothing() {
    let (network, batch) = (network(), batch());
    for norm in [Norm::Linf, Norm::L2] {
        let threat = threat(norm, "0.1");
        for (name, attack) in attacks() {
            // One generator for all: examples take their starts from it in order, however they are grouped.
            let together = attack.perturb(&network, &batch, &threat, &mut Rng::new(1)).unwrap();
            let mut rng = Rng::new(1);
            let alone = (0..EXAMPLES).map(|i| {
                let one = Batch {
                    images: batch.images.clone().narrow(0, i, 1),
                    labels: batch.labels.clone().narrow(0, i, 1),
                    indices: vec![i],
                };
                attack.perturb(&network, &one, &threat, &mut rng).unwrap()
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
            if norm == Norm::L2 && attack.start != Start::Natural {
                // Along one direction only a step much longer than the ball cancels a random start.
                attack.step_size = Some("50".parse().unwrap());
            }
            let found = attack.perturb(&logits, &batch, &threat, &mut Rng::new(2)).unwrap();
            let apart = read((found - optimum.clone()).abs().max()).unwrap()[0];
            let tolerance = if norm == Norm::Linf || attack.start == Start::Natural {
                1e-6
            } else {
                3e-3
            };
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
        let attack = AttackSpec {
            objective: Some(Objective::CarliniWagner { kappa }),
            step_size: Some("0.01".parse().unwrap()),
            start: Start::Natural,
            ..AttackSpec::from_name("cw-50")
        };
        let found = attack.perturb(&logits, &batch, &threat, &mut Rng::new(2)).unwrap();
        read(losses::margin(logits(found), batch.labels.clone())).unwrap()[0]
    };
    // A step of 0.01 changes the lead by 0.01·|w|₁, about 0.3.
    assert!((0.0..0.4).contains(&lead(0.0)), "{}", lead(0.0));
    assert!((2.0..2.4).contains(&lead(2.0)), "{}", lead(2.0));
    assert!(lead(50.0) > 3.0);
}

trait FromName {
    fn from_name(name: &str) -> Self;
}

impl FromName for AttackSpec {
    fn from_name(name: &str) -> Self {
        name.parse().unwrap()
    }
}

#[test]
fn a_model_that_detaches_its_input_is_an_error() {
    let (network, batch) = (network(), batch());
    let detached = |images: Images| network(images.detach());
    let constant = |images: Images| network(images.inner());
    for (name, attack) in attacks().into_iter().filter(|(_, attack)| attack.objective.is_some()) {
        for logits in [&detached as &dyn Fn(Images) -> Logits, &constant] {
            let found = attack.perturb(logits, &batch, &threat(Norm::Linf, "0.1"), &mut Rng::new(1));
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
    let attack: AttackSpec = "pgd-5".parse().unwrap();
    let found = attack
        .perturb(&poisoned, &batch, &threat(Norm::Linf, "0.1"), &mut Rng::new(1))
        .unwrap();
    assert_inside("pgd-5 on NaN", &threat(Norm::Linf, "0.1"), &batch.images, found);
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
    for (name, attack) in attacks() {
        passes.set(0);
        attack
            .perturb(&counted, &batch, &threat(Norm::Linf, "0.1"), &mut Rng::new(1))
            .unwrap();
        assert_eq!(passes.get(), attack.steps, "{name}");
    }
}
