//! Every defence against float64 values: what it perturbs, its loss per example, its gradients, what it remembers.

use std::collections::BTreeMap;

use burn::tensor::{Int, Tensor, TensorData};
use martlet::{
    attacks::{Keep, Pgd, value_and_gradient},
    compute::{Device, read},
    defences::{
        Ablation, Classification, Defence, DefenceSpec, Members, Pairing, SemiSupervised, StepContext, Treatment,
        WeightPerturbation, criterion_at, first_order_stationarity,
    },
    losses::{self, Form},
    nn::{Architecture, Flat, Mode, Model, StateValues},
    random::Rng,
    shapes::{Batch, ImageShape, Images, PerExample},
    threat::{Norm, Start, ThreatModel},
};
use serde_json::Value;

const EXAMPLES: usize = 6;
const SHAPE: ImageShape = ImageShape {
    channels: 1,
    height: 8,
    width: 8,
};

fn golden() -> Value {
    let path = format!("{}/tests/golden/defences.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// `sin(0.0137·j² + 1.1·j + phase)`, as in `golden/defences.py`.
fn wave(count: usize, phase: f64) -> Vec<f64> {
    (0..count)
        .map(|j| j as f64)
        .map(|j| (0.0137 * j * j + 1.1 * j + phase).sin())
        .collect()
}

fn flat(values: Vec<f64>) -> Tensor<1> {
    let values: Vec<f32> = values.into_iter().map(|v| v as f32).collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), Device::cpu().tensors())
}

fn images(values: Vec<f64>) -> Images {
    flat(values).reshape([EXAMPLES, SHAPE.channels, SHAPE.height, SHAPE.width])
}

fn model() -> Model {
    let mut model = Model::new(Architecture::DynamicCnn, SHAPE, 10, &mut Rng::new(1), &Device::cpu()).unwrap();
    let mut weights = vec![0.0; model.parameter_count()];
    for (position, parameter) in model.layout().entries().iter().enumerate() {
        let fan_in: usize = parameter.shape[1..].iter().product();
        let values: Vec<f64> = wave(parameter.shape.iter().product(), 0.7 * position as f64)
            .into_iter()
            .map(|s| match parameter.shape.len() {
                1 if parameter.name.starts_with("bn") && parameter.name.ends_with("weight") => 1.0 + 0.3 * s,
                1 => 0.1 * s,
                _ => s * 1.5 * (3.0 / fan_in as f64).sqrt(),
            })
            .collect();
        weights[parameter.places()].copy_from_slice(&values);
    }
    model.set_parameters(flat(weights));
    model
}

fn natural() -> Vec<f64> {
    let pixels = wave(EXAMPLES * SHAPE.len(), 0.2).into_iter().map(|s| 0.5 + 0.45 * s);
    pixels.map(|v| f64::from(v as f32)).collect()
}

fn adversarial() -> Images {
    let moved = natural().into_iter().zip(wave(EXAMPLES * SHAPE.len(), 1.9));
    images(moved.map(|(x, s)| (x + 0.1 * s).clamp(0.0, 1.0)).collect())
}

fn batch(golden: &Value) -> Batch {
    let labels: Vec<i64> = golden["labels"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_i64().unwrap())
        .collect();
    Batch {
        images: images(natural()),
        labels: Tensor::<1, Int>::from_data(TensorData::new(labels, [EXAMPLES]), Device::cpu().tensors()),
        indices: (0..EXAMPLES).collect(),
    }
}

/// Calls `f` with the context of the golden file's attack: from the natural image, BatchNorm evaluating.
fn in_context<T>(golden: &Value, model: &Model, smoothing: f32, f: impl FnOnce(&mut StepContext) -> T) -> T {
    let magnitude = |name: &str| golden[name].to_string().parse().unwrap();
    let threat = ThreatModel {
        norm: Norm::Linf,
        epsilon: magnitude("epsilon"),
    };
    let pgd = Pgd {
        steps: golden["steps"].as_u64().unwrap() as usize,
        step_size: magnitude("step_size"),
        start: Start::Natural,
        restarts: 1,
        keep: Keep::Last,
    };
    let attacked = |images: Images| model.forward(images, Mode::Eval);
    f(&mut StepContext {
        attacking: std::time::Duration::ZERO,
        attacked: &attacked,
        threat: &threat,
        pgd: &pgd,
        label_smoothing: smoothing,
        epoch: 0,
        rngs: &mut Rng::new(3).each(EXAMPLES),
    })
}

/// The largest difference, relative to the largest value.
fn off(measured: &[f32], golden: &[f64]) -> f64 {
    assert_eq!(measured.len(), golden.len());
    let largest = golden.iter().fold(1e-2f64, |m, g| m.max(g.abs()));
    measured
        .iter()
        .zip(golden)
        .map(|(m, g)| (f64::from(*m) - g).abs() / largest)
        .fold(0.0, f64::max)
}

fn check(name: &str, objective: PerExample, gradient: &Flat, golden: &Value) {
    let values = read(objective).unwrap();
    let expected = numbers(&golden["per_example"]);
    assert!(
        off(&values, &expected) < 1e-5,
        "{name}: {values:?} where {expected:?} was expected"
    );
    let digests = golden["gradients"].as_object().unwrap();
    let (model, gradient) = (model(), read(gradient.clone()).unwrap());
    let gradients: BTreeMap<&str, &[f32]> = model
        .layout()
        .split(&gradient)
        .map(|(parameter, values)| (parameter.name.as_str(), values))
        .collect();
    assert_eq!(digests.len(), gradients.len());
    let whole = digests.values().map(|d| numbers(d)[0].powi(2)).sum::<f64>().sqrt();
    for (parameter, digest) in digests {
        let gradient: Vec<f64> = gradients[parameter.as_str()]
            .iter()
            .map(|value| f64::from(*value))
            .collect();
        let length = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        let product: f64 = gradient.iter().zip(wave(gradient.len(), 0.3)).map(|(g, s)| g * s).sum();
        for (what, measured, expected) in [
            ("length", length, numbers(digest)[0]),
            ("product", product, numbers(digest)[1]),
        ] {
            // A bias before a BatchNorm has the gradient 0: its rounding is held against the whole gradient.
            let off = (measured - expected).abs() / expected.abs().max(0.05 * whole);
            assert!(
                off < 3e-5,
                "{name}, {parameter}: {what} {measured} where {expected} was expected"
            );
        }
    }
}

/// The objective and the gradients of the weights at given adversarial images.
fn at_given_images(
    defence: &mut dyn Defence,
    model: &Model,
    batch: &Batch,
    step: &mut StepContext,
) -> (PerExample, Flat) {
    let tracked = model.tracked();
    let loss = defence.loss(&tracked, batch, adversarial(), step);
    let gradient = tracked.gradient(&mut loss.objective.clone().mean().backward()).unwrap();
    (loss.objective, gradient)
}

fn mart(ablation: Ablation) -> DefenceSpec {
    DefenceSpec::Mart {
        lambda: 5.0,
        form: Form::Paper,
        ablation,
    }
}

#[test]
fn losses_and_gradients_agree_with_float64() {
    use Pairing::{Logits, Probabilities};
    let golden = golden();
    let model = model();
    let lambda = 2.0;
    let none = Ablation::NONE;
    let half = Ablation {
        regularised_share: 0.5,
        ..none
    };
    let mma_paper = DefenceSpec::Mma {
        form: Form::Paper,
        max_margin: "0.2".parse().unwrap(),
        min_epsilon: "0.05".parse().unwrap(),
    };
    let alp = |pairing| DefenceSpec::Alp { lambda, pairing };
    let clp = |pairing| DefenceSpec::Clp { lambda, pairing };
    let without = |without_kl, without_weight| {
        mart(Ablation {
            without_kl,
            without_weight,
            ..none
        })
    };
    let classified = |classification| mart(Ablation { classification, ..none });
    let trades = DefenceSpec::Trades { lambda: 4.0 };
    let table = [
        ("natural", DefenceSpec::Natural, 0.0),
        ("standard", DefenceSpec::Standard, 0.0),
        ("standard, smoothed 0.1", DefenceSpec::Standard, 0.1),
        ("trades, smoothed 0.1", trades.clone(), 0.1),
        ("mart, smoothed 0.1", mart(none), 0.1),
        ("alp", alp(Probabilities), 0.0),
        ("alp logits", alp(Logits), 0.0),
        ("clp", clp(Probabilities), 0.0),
        ("clp logits", clp(Logits), 0.0),
        ("trades", trades, 0.0),
        ("uat++", DefenceSpec::Uat { lambda: 5.0 }, 0.0),
        ("mma paper", mma_paper, 0.0),
        ("mart", mart(none), 0.0),
        ("mart without kl", without(true, false), 0.0),
        ("mart without weight", without(false, true), 0.0),
        ("mart without both", without(true, true), 0.0),
        ("mart ce", classified(Classification::CrossEntropy), 0.0),
        (
            "mart natural bce",
            classified(Classification::NaturalBoostedCrossEntropy),
            0.0,
        ),
        ("mart half", mart(half), 0.0),
    ];
    assert_eq!(table.len(), golden["losses"].as_object().unwrap().len());
    // Indices of which exactly the golden file's share is regularised.
    let share = numbers(&golden["share"]);
    let mut free = 0..;
    let indices: Vec<usize> = (0..EXAMPLES)
        .map(|i| {
            free.find(|index| half.regularises(*index) == share.contains(&(i as f64)))
                .unwrap()
        })
        .collect();
    let batch = Batch {
        indices,
        ..batch(&golden)
    };
    for (name, spec, smoothing) in table {
        let (objective, gradients) = in_context(&golden, &model, smoothing, |step| {
            at_given_images(&mut *spec.build(), &model, &batch, step)
        });
        check(name, objective, &gradients, &golden["losses"][name]);
    }
}

#[test]
fn perturbed_images_agree_with_float64() {
    let golden = golden();
    let (model, batch) = (model(), batch(&golden));
    let dynamic = DefenceSpec::Dynamic {
        max_criterion: golden["dynamic"]["criterion"].as_f64().unwrap() as f32,
        control_epochs: 100,
    };
    let n_fgsm = DefenceSpec::NFgsm { noise: 0.0, step: 1.0 };
    for (name, spec, expected) in [
        ("standard", DefenceSpec::Standard, &golden["pgd"]),
        ("dynamic", dynamic, &golden["dynamic"]["images"]),
        ("n-fgsm", n_fgsm, &golden["n_fgsm"]),
    ] {
        let images = in_context(&golden, &model, 0.0, |step| spec.build().perturb(&batch, step).unwrap());
        let off = off(&read(images).unwrap(), &numbers(expected));
        assert!(off < 1e-6, "{name}: off by {off:e}");
    }
}

#[test]
fn stationarity_agrees_with_float64() {
    // Of a whole ascent, and of given gradients.
    let golden = golden();
    let (model, batch) = (model(), batch(&golden));
    in_context(&golden, &model, 0.0, |step| {
        let climb = |images| losses::cross_entropy((step.attacked)(images), batch.labels.clone());
        let mut current = batch.images.clone();
        for trace in &golden["dynamic"]["stationarity"].as_array().unwrap()[..2] {
            let (_, gradient) = value_and_gradient(&climb, &current).unwrap();
            let c = first_order_stationarity(&batch.images, &current, &gradient, step.threat);
            assert!(off(&read(c).unwrap(), &numbers(trace)) < 1e-5);
            current = step
                .threat
                .ascend(&batch.images, current, gradient, step.pgd.step_size.value());
        }
    });
    let path = format!("{}/tests/golden/fosc.json", env!("CARGO_MANIFEST_DIR"));
    let fosc: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let image = |name: &str| -> Images {
        let rows = flattened(&fosc[name]);
        let pixels = rows.len() / 4;
        flat(rows).reshape([4, 1, 1, pixels])
    };
    let threat = ThreatModel {
        norm: Norm::Linf,
        epsilon: fosc["eps"].to_string().parse().unwrap(),
    };
    let c = first_order_stationarity(&image("x0"), &image("xk"), &image("grad"), &threat);
    assert!(off(&read(c).unwrap(), &numbers(&fosc["fosc_paper"])) < 1e-5);
    let schedule = &fosc["schedule"];
    for (t, expected) in numbers(&schedule["t"]).into_iter().zip(numbers(&schedule["c_t"])) {
        assert!((f64::from(criterion_at(t as usize, 0.5, 100)) - expected).abs() < 1e-7);
    }
}

fn flattened(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flattened).collect(),
        other => vec![other.as_f64().unwrap()],
    }
}

#[test]
fn margins_agree_with_float64_and_are_remembered() {
    let golden = golden();
    let batch = batch(&golden);
    let spec = DefenceSpec::Mma {
        form: Form::Released,
        max_margin: golden["mma"]["max_margin"].to_string().parse().unwrap(),
        min_epsilon: golden["mma"]["min_epsilon"].to_string().parse().unwrap(),
    };
    let mut defence = spec.build();
    for visit in golden["mma"]["visits"].as_array().unwrap() {
        let model = model(); // anew: a training pass moves the running statistics that the attack sees
        let (loss, gradients) = in_context(&golden, &model, 0.0, |step| {
            defence.gradients(&model, &batch, step).unwrap()
        });
        let memory = defence.memory().unwrap();
        let margins = memory.values().next().unwrap();
        assert!(off(margins, &numbers(&visit["margins"])) < 1e-5, "{margins:?}");
        let images = read(loss.adversarial.unwrap()).unwrap();
        assert!(off(&images, &numbers(&visit["images"])) < 1e-5);
        check("mma", loss.objective, &gradients, visit);
        // Another session takes up where this one stands.
        defence = spec.build();
        defence.recall(memory, &Device::cpu());
    }
}

#[test]
fn adversarial_weights_agree_with_float64_and_leave_the_model_as_it_was() {
    let golden = golden();
    let batch = batch(&golden);
    let weights = |model: &Model| -> Vec<f32> { read(model.parameters()).unwrap() };
    let counted = |model: &Model| -> Vec<i64> {
        let entries = model.state().unwrap().into_iter();
        entries
            .filter_map(|entry| match entry.values {
                StateValues::I64(values) => Some(values[0]),
                StateValues::F32(_) => None,
            })
            .collect()
    };
    let perturbation = WeightPerturbation {
        gamma: golden["awp"]["gamma"].as_f64().unwrap() as f32,
        from_epoch: 0,
    };
    for (name, spec, passes) in [
        ("standard", DefenceSpec::Standard, 1),
        ("mart", mart(Ablation::NONE), 2),
    ] {
        let model = model();
        let (before, batches) = (weights(&model), counted(&model));
        let mut defence = perturbation.around(spec.build());
        let (loss, gradients) = in_context(&golden, &model, 0.0, |step| {
            defence.gradients(&model, &batch, step).unwrap()
        });
        check(name, loss.objective, &gradients, &golden["awp"][name]);
        assert_eq!(weights(&model), before, "{name} moved the weights");
        // The passes at the moved weights train BatchNorm; those of the proxy do not.
        let moved: Vec<i64> = batches.iter().map(|count| count + passes).collect();
        assert_eq!(counted(&model), moved);
    }
}

#[test]
fn replays_agree_with_float64() {
    let golden = golden();
    let (model, batch) = (model(), batch(&golden));
    let spec = DefenceSpec::Free { replays: 2 };
    let mut defence = spec.build();
    for replay in golden["free"].as_array().unwrap() {
        let (loss, gradients) = in_context(&golden, &model, 0.0, |step| {
            defence.gradients(&model, &batch, step).unwrap()
        });
        check("free", loss.objective, &gradients, replay);
        let memory = defence.memory().unwrap();
        let perturbation = memory.values().next().unwrap();
        assert!(off(perturbation, &numbers(&replay["perturbation"])) < 1e-6);
        defence = spec.build();
        defence.recall(memory, &Device::cpu());
    }
}

#[test]
fn pseudo_labelled_examples_weigh_gamma() {
    let golden = golden();
    let (model, batch) = (model(), batch(&golden));
    let mut defence = SemiSupervised {
        inner: mart(Ablation::NONE).build(),
        labelled: 4,
        weight: 0.25,
    };
    let (objective, _) = in_context(&golden, &model, 0.0, |step| {
        at_given_images(&mut defence, &model, &batch, step)
    });
    let mut expected = numbers(&golden["losses"]["mart"]["per_example"]);
    expected[4..].iter_mut().for_each(|value| *value *= 0.25);
    assert!(off(&read(objective).unwrap(), &expected) < 1e-5);
}

/// Standard with the examples 1, 3 and 4 of the batch treated otherwise.
fn subset(treatment: Treatment) -> DefenceSpec {
    DefenceSpec::Subset {
        members: MEMBERS.into_iter().collect(),
        side: None,
        treatment,
    }
}

const MEMBERS: [usize; 3] = [1, 3, 4];

/// Fails where a member's row of `images` differs from `treated`'s by more than rounding, or another's from `standard`'s.
#[track_caller]
fn rows_come_from(images: &[f32], treated: &[f32], standard: &[f32]) {
    for example in 0..EXAMPLES {
        let row = example * SHAPE.len()..(example + 1) * SHAPE.len();
        let source = if MEMBERS.contains(&example) { treated } else { standard };
        let pairs = images[row.clone()].iter().zip(&source[row]);
        let farthest = pairs.map(|(image, source)| (image - source).abs()).fold(0.0, f32::max);
        assert!(farthest < 1e-6, "example {example}: {farthest}");
    }
}

#[test]
fn members_alone_are_perturbed_otherwise() {
    let golden = golden();
    let (model, batch) = (model(), batch(&golden));
    // From a random start, so that the generator counts.
    let perturbed = |spec: &DefenceSpec| {
        in_context(&golden, &model, 0.0, |step| {
            let pgd = Pgd {
                start: Start::Uniform,
                ..step.pgd.clone()
            };
            let mut from_random = StepContext {
                attacked: step.attacked,
                threat: step.threat,
                pgd: &pgd,
                label_smoothing: 0.0,
                epoch: 0,
                rngs: step.rngs,
                attacking: std::time::Duration::ZERO,
            };
            let images = spec.build().perturb(&batch, &mut from_random).unwrap();
            (read(images).unwrap(), from_random.rngs[0].bits())
        })
    };
    let (standard, next) = perturbed(&DefenceSpec::Standard);
    let natural = read(batch.images.clone()).unwrap();
    let (images, after) = perturbed(&subset(Treatment::NotPerturbed));
    rows_come_from(&images, &natural, &standard);
    assert_eq!(after, next, "the generator stands elsewhere");

    // The golden file's noiseless N-FGSM is one step of ε from the natural image.
    let fgsm: Vec<f32> = numbers(&golden["n_fgsm"]).into_iter().map(|v| v as f32).collect();
    let (images, after) = perturbed(&subset(Treatment::Fgsm));
    rows_come_from(&images, &fgsm, &standard);
    assert_eq!(after, next);
    let epsilon = golden["epsilon"].as_f64().unwrap() as f32;
    for example in MEMBERS {
        for pixel in example * SHAPE.len()..(example + 1) * SHAPE.len() {
            let (x, moved) = (natural[pixel], images[pixel]);
            let whole = ((moved - x).abs() - epsilon).abs() < 1e-6;
            assert!(whole || moved == 0.0 || moved == 1.0, "{x} moved to {moved}");
        }
    }
    let (images, after) = perturbed(&subset(Treatment::Regularised { lambda: 6.0 }));
    rows_come_from(&images, &standard, &standard);
    assert_eq!(after, next);
}

#[test]
fn members_alone_are_regularised() {
    let golden = golden();
    let (model, batch) = (model(), batch(&golden));
    let lambda = 6.0;
    let logits = |images: Images| model.forward(images, Mode::Train);
    let cross_entropy = read(losses::cross_entropy(logits(adversarial()), batch.labels.clone())).unwrap();
    let divergence = losses::kl_divergence(logits(batch.images.clone()), logits(adversarial()), Form::Paper);
    let divergence = read(divergence).unwrap();
    let expected: Vec<f64> = (0..EXAMPLES)
        .map(|example| {
            let member = f32::from(MEMBERS.contains(&example));
            f64::from(cross_entropy[example] + lambda * member * divergence[example])
        })
        .collect();
    let objective = |spec: DefenceSpec| {
        in_context(&golden, &model, 0.0, |step| {
            let (objective, gradients) = at_given_images(&mut *spec.build(), &model, &batch, step);
            (read(objective).unwrap(), gradients)
        })
    };
    let (regularised, _) = objective(subset(Treatment::Regularised { lambda }));
    assert!(off(&regularised, &expected) < 1e-6, "{regularised:?}");
    // With every example a member this is UAT++'s loss, whose gradients the golden file has.
    let all = DefenceSpec::Subset {
        members: (0..EXAMPLES).collect(),
        side: None,
        treatment: Treatment::Regularised { lambda: 5.0 },
    };
    let (whole, of_all) = objective(all);
    let uat = &golden["losses"]["uat++"];
    check(
        "all are members",
        flat(whole.into_iter().map(f64::from).collect()),
        &of_all,
        uat,
    );
    // One that is none changes nothing for the others, and the other treatments leave the loss Standard's.
    let nobody = DefenceSpec::Subset {
        members: [EXAMPLES].into_iter().collect(),
        side: None,
        treatment: Treatment::Regularised { lambda },
    };
    for spec in [nobody, subset(Treatment::NotPerturbed), subset(Treatment::Fgsm)] {
        let (values, gradients) = objective(spec.clone());
        let values = flat(values.into_iter().map(f64::from).collect());
        check(&spec.to_string(), values, &gradients, &golden["losses"]["standard"]);
    }
}

#[test]
fn a_subset_stands_in_the_recipe_as_text() {
    let text = "kind = \"subset\"\nmembers = \"1,3-4\"\ntreatment = \"fgsm\"\n";
    let spec: DefenceSpec = toml::from_str(text).unwrap();
    assert_eq!(spec, subset(Treatment::Fgsm));
    assert_eq!(toml::to_string(&spec).unwrap(), text);
    assert_eq!(spec.to_string(), "Standard, 3 members perturbed by FGSM");
    let regularised = "kind = \"subset\"\nmembers = \"1,3-4\"\n\n[treatment.regularised]\nlambda = 6.0\n";
    let mut spec: DefenceSpec = toml::from_str(regularised).unwrap();
    assert_eq!(toml::to_string(&spec).unwrap(), regularised);
    assert_eq!(
        toml::from_str::<DefenceSpec>(&regularised.replace("lambda = 6.0", "")).unwrap(),
        spec
    );
    assert!(spec.set_lambda(2.0) && spec.lambda() == Some(2.0));
    assert_eq!(spec.to_string(), "Standard, 3 members regularised (λ = 2)");
    spec.set_lambda(-1.0);
    assert_eq!(spec.fault().unwrap().0, "defence.treatment.regularised.lambda");
    let error = toml::from_str::<DefenceSpec>(&text.replace("3-4", "4-3")).unwrap_err();
    assert!(error.to_string().contains("expected rising positions"), "{error}");
    let empty = DefenceSpec::Subset {
        members: Members::default(),
        side: None,
        treatment: Treatment::Fgsm,
    };
    assert_eq!(empty.fault().unwrap().0, "defence.members");
}

#[test]
fn noise_reaches_past_the_ball_and_stays_in_the_box() {
    let golden = golden();
    let (model, batch) = (model(), batch(&golden));
    let mut defence = DefenceSpec::NFgsm { noise: 2.0, step: 1.0 }.build();
    let images = in_context(&golden, &model, 0.0, |step| defence.perturb(&batch, step).unwrap());
    let distance = Norm::Linf.length(images.clone() - batch.images.clone());
    assert!(read(distance).unwrap().iter().all(|d| *d > 0.1 && *d <= 0.3 + 1e-6));
    assert!(read(images).unwrap().iter().all(|p| (0.0..=1.0).contains(p)));
}

#[test]
fn a_radius_of_its_own_bounds_each_example_in_both_norms() {
    let mut rng = Rng::new(4);
    let mut noise = || images((0..EXAMPLES * SHAPE.len()).map(|_| f64::from(rng.normal())).collect());
    let radii = flat((1..=EXAMPLES).map(|i| 0.1 * i as f64).collect());
    for norm in [Norm::Linf, Norm::L2] {
        let moved = norm.ascend_each(noise(), noise(), radii.clone(), radii.clone());
        let lengths = read(norm.length(moved)).unwrap();
        for (i, length) in lengths.iter().enumerate() {
            let radius = 0.1 * (i + 1) as f32;
            assert!((length - radius).abs() < 1e-5, "{norm}: {length} in a ball of {radius}");
        }
    }
}
