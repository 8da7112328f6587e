//! Every loss against float64 values: per example, mean, and gradients with respect to both logits.

use burn::tensor::{Int, Tensor, TensorData};
use martlet::{
    compute::{Device, read},
    losses::{self},
    shapes::{Labels, Logits, PerExample},
};
use serde_json::Value;

type Loss<'a> = Box<dyn Fn(Logits, Logits, Labels) -> PerExample + 'a>;

/// Non-finite values stand in the files as strings.
fn number(value: &Value) -> f64 {
    match value.as_str() {
        Some("nan") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        Some(other) => panic!("not a number: {other}"),
        None => value.as_f64().unwrap(),
    }
}

fn row(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

fn table(value: &Value) -> Vec<Vec<f64>> {
    value.as_array().unwrap().iter().map(row).collect()
}

fn logits(values: &[Vec<f64>]) -> Logits {
    let shape = [values.len(), values[0].len()];
    let flat: Vec<f32> = values.iter().flatten().map(|v| *v as f32).collect();
    Tensor::from_data(TensorData::new(flat, shape), Device::cpu().tensors())
}

fn labels(values: &[i64]) -> Labels {
    Tensor::<1, Int>::from_data(
        TensorData::new(values.to_vec(), [values.len()]),
        Device::cpu().tensors(),
    )
}

fn integers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
}

/// Values per example, and the gradients of their mean (or sum) with respect to both logits.
fn measured(loss: &Loss, natural: &Logits, adversarial: &Logits, y: &Labels, mean: bool) -> [Vec<f32>; 3] {
    let natural = natural.clone().autodiff().require_grad();
    let adversarial = adversarial.clone().autodiff().require_grad();
    // The zero terms tie both sides into the graph, so that a loss of one side has a zero gradient on the other.
    let value = loss(natural.clone(), adversarial.clone(), y.clone());
    let total = if mean {
        value.clone().mean()
    } else {
        value.clone().sum()
    };
    let total = total + (natural.clone().sum() + adversarial.clone().sum()) * 0.0;
    let mut gradients = total.backward();
    [
        read(value).unwrap(),
        read(natural.grad_remove(&mut gradients).unwrap()).unwrap(),
        read(adversarial.grad_remove(&mut gradients).unwrap()).unwrap(),
    ]
}

/// Largest difference relative to the golden value, with a floor where a value is tiny beside its row's largest.
fn worst(measured: &[f32], golden: &[f64], floor: f64) -> f64 {
    assert_eq!(measured.len(), golden.len());
    measured
        .iter()
        .zip(golden)
        .filter(|(_, g)| g.is_finite())
        .map(|(m, g)| {
            assert!(m.is_finite(), "{m} where {g} was expected");
            (f64::from(*m) - g).abs() / g.abs().max(floor)
        })
        .fold(0.0, f64::max)
}

fn losses_of(name: &str, lambda: f64) -> Option<Loss<'static>> {
    use losses::*;
    let l = lambda as f32;
    let form = if name.starts_with("official") {
        Form::Released
    } else {
        Form::Paper
    };
    let weight = move |n: Logits, y: Labels| misclassification_weight(n, y, form);
    let kl = move |n: Logits, a: Logits| kl_divergence(n, a, form);
    let bce = move |a: Logits, y: Labels| boosted_cross_entropy(a, y, form);
    let ce = cross_entropy;
    let pair = |n: Logits, a: Logits| squared_distance(probabilities(n), probabilities(a));
    let stem = name.split("_lambda").next().unwrap();
    Some(match stem {
        "ce_adv" | "standard" => Box::new(move |_, a, y| ce(a, y)),
        "ce_nat" | "natural" => Box::new(move |n, _, y| ce(n, y)),
        "bce_adv" | "mart_bce_only" => Box::new(move |_, a, y| bce(a, y)),
        "margin_term_adv" => Box::new(move |_, a, y| margin_term(a, y, form)),
        "kl_nat_adv" => Box::new(move |n, a, _| kl(n, a)),
        "one_minus_p_true_nat" => Box::new(move |n, _, y| weight(n, y)),
        "sq_prob_distance" => Box::new(move |n, a, _| pair(n, a)),
        "alp" => Box::new(move |n, a, y| ce(a.clone(), y) + pair(n, a) * l),
        "clp" => Box::new(move |n, a, y| ce(n.clone(), y) + pair(n, a) * l),
        "alp_logits" => Box::new(move |n, a, y| ce(a.clone(), y) + squared_distance(n, a) * l),
        "clp_logits" => Box::new(move |n, a, y| ce(n.clone(), y) + squared_distance(n, a) * l),
        "trades" | "rst" => Box::new(move |n, a, y| ce(n.clone(), y) + kl(n, a) * l),
        "uatpp" => Box::new(move |n, a, y| ce(a.clone(), y) + kl(n, a) * l),
        "mart" | "official_mart" => {
            Box::new(move |n, a, y| bce(a.clone(), y.clone()) + kl(n.clone(), a) * weight(n, y) * l)
        }
        "mart_no_weight" => Box::new(move |n, a, y| bce(a.clone(), y) + kl(n, a) * l),
        "mart_no_kl" => Box::new(move |n, a, y| bce(a, y.clone()) + weight(n, y) * l),
        "mart_ce" => Box::new(move |n, a, y| ce(a.clone(), y.clone()) + kl(n.clone(), a) * weight(n, y) * l),
        "mart_bce_nat" => Box::new(move |n, a, y| bce(n.clone(), y.clone()) + kl(n.clone(), a) * weight(n, y) * l),
        "mma" => Box::new(move |n, a, y| {
            let correct = margin(n.clone().inner(), y.clone()).lower_equal_elem(0.0);
            ce(n, y.clone()).mask_where(correct, ce(a, y))
        }),
        "mart_weight_detached" => {
            Box::new(move |n, a, y| bce(a.clone(), y.clone()) + kl(n.clone(), a) * weight(n, y).detach() * l)
        }
        _ => return None,
    })
}

fn golden(file: &str) -> Value {
    let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn check_file(file: &str) {
    let golden = golden(file);
    let (natural, adversarial) = (logits(&table(&golden["z_nat"])), logits(&table(&golden["z_adv"])));
    let y = labels(&integers(&golden["y"]));
    let mut checked = 0;
    // A tie lets each side choose another class: the value is the same, a subgradient is not.
    let tied = !golden["tie_rows_nat"].as_array().unwrap().is_empty();
    for (name, entry) in golden["losses"].as_object().unwrap() {
        // The f32 entries are the reference's own rounding; ours is held against float64.
        if name.ends_with("_f32") {
            continue;
        }
        let lambda = entry["lambda"].as_f64().unwrap_or(0.0);
        let stem = name.trim_end_matches("_f64");
        let loss = losses_of(stem, lambda).unwrap_or_else(|| panic!("no loss for {name}"));
        let [values, natural_gradient, adversarial_gradient] = measured(&loss, &natural, &adversarial, &y, true);
        // float64 guards such as 1.0001 − p lose digits in f32 where p is near 1.
        let tolerance = if stem.starts_with("official") { 3e-5 } else { 1e-5 };
        let per_example = row(&entry["per_example"]);
        let off = worst(&values, &per_example, 1e-2);
        assert!(
            off < tolerance,
            "{file} {name}: values off by {off:e}\n{values:?}\n{per_example:?}"
        );
        for (side, ours) in [("grad_nat", natural_gradient), ("grad_adv", adversarial_gradient)] {
            let theirs: Vec<f64> = table(&entry[side]).into_iter().flatten().collect();
            let largest = theirs
                .iter()
                .filter(|g| g.is_finite())
                .fold(0.0f64, |m, g| m.max(g.abs()));
            let off = worst(&ours, &theirs, largest.max(1e-3));
            if !tied {
                assert!(off < tolerance, "{file} {name} {side}: off by {off:e}");
            }
        }
        checked += 1;
    }
    assert!(checked > 30, "only {checked} losses were checked");
}

#[test]
fn plain_logits_agree_with_float64() {
    check_file("losses_plain.json");
}

#[test]
fn extreme_logits_agree_with_float64() {
    check_file("losses_extreme50.json");
}

#[test]
fn attack_objectives_agree_with_float64() {
    let golden = golden("losses_plain.json");
    let adversarial = logits(&table(&golden["z_adv"]));
    let y = labels(&integers(&golden["y"]));
    let target = labels(&integers(&golden["target"]));
    let cases: Vec<(&str, Loss)> = vec![
        ("cw_margin_unclipped", Box::new(|_, a, y| losses::margin(a, y))),
        (
            "cw_neg_max(z_y-z_other,-kappa)_kappa0",
            Box::new(|_, a, y| losses::carlini_wagner(a, y, 0.0)),
        ),
        (
            "cw_neg_max(z_y-z_other,-kappa)_kappa50",
            Box::new(|_, a, y| losses::carlini_wagner(a, y, 50.0)),
        ),
        ("dlr", Box::new(|_, a, y| losses::dlr(a, y))),
        (
            "dlr_targeted",
            Box::new(move |_, a, y| losses::dlr_targeted(a, y, target.clone())),
        ),
    ];
    for (name, loss) in cases {
        let entry = &golden["attack_objectives"][name];
        let [values, _, gradient] = measured(&loss, &adversarial.clone(), &adversarial, &y, false);
        let off = worst(&values, &row(&entry["per_example"]), 1e-2);
        assert!(off < 1e-5, "{name}: values off by {off:e}");
        let theirs: Vec<f64> = table(&entry["grad"]).into_iter().flatten().collect();
        let off = worst(&gradient, &theirs, 1e-2);
        assert!(off < 1e-5, "{name}: gradient off by {off:e}");
    }
}

#[test]
fn a_closed_case_of_the_released_form() {
    let z = |i: usize, k: usize| 3.0 * (0.9 * i as f64 + 0.7 * k as f64 + 0.3).sin();
    let natural: Vec<Vec<f64>> = (0..4).map(|i| (0..10).map(|k| z(i, k)).collect()).collect();
    let adversarial: Vec<Vec<f64>> = (0..4)
        .map(|i| {
            (0..10)
                .map(|k| z(i, k) + 1.5 * (1.3 * i as f64 - 0.4 * k as f64).cos())
                .collect()
        })
        .collect();
    let (natural, adversarial, y) = (logits(&natural), logits(&adversarial), labels(&[2, 4, 9, 7]));
    for (name, expected) in [
        ("official_mart_lambda5", 3.6529394636),
        ("official_mart_lambda6", 3.8460978315),
    ] {
        let lambda = name.chars().last().unwrap().to_digit(10).unwrap();
        let [values, ..] = measured(
            &losses_of(name, lambda.into()).unwrap(),
            &natural,
            &adversarial,
            &y,
            true,
        );
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / 4.0;
        assert!((mean - expected).abs() < 2e-5, "{name}: {mean} instead of {expected}");
    }
    let [ce, ..] = measured(&losses_of("ce_adv", 0.0).unwrap(), &natural, &adversarial, &y, true);
    assert!(worst(&ce, &[0.857321728, 5.427111935, 1.550433306, 0.800402837], 1.0) < 1e-5);
}

#[test]
fn losses_and_gradients_are_finite_at_logits_of_500() {
    let rows = |sign: f64| -> Vec<Vec<f64>> {
        (0..6)
            .map(|i| {
                (0..10)
                    .map(|k| if (i + k) % 3 == 0 { sign * 500.0 } else { -sign * 500.0 })
                    .collect()
            })
            .collect()
    };
    let y = labels(&[0, 1, 2, 3, 4, 5]);
    for name in [
        "bce_adv",
        "mart_lambda5",
        "official_mart_lambda5",
        "trades_lambda6",
        "alp_lambda5",
        "mart_no_kl_lambda1",
    ] {
        let loss = losses_of(name, 5.0).unwrap();
        for (natural, adversarial) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0)] {
            let all = measured(&loss, &logits(&rows(natural)), &logits(&rows(adversarial)), &y, true);
            assert!(
                all.iter().flatten().all(|v| v.is_finite()),
                "{name} is not finite: {all:?}"
            );
        }
    }
}

/// `−log(1.0001 − p_m + 1e-12)` and its derivative with respect to the strongest wrong logit, which stands `gap` above
/// nine equal ones, in 64 bits.
fn released_margin(gap: f64) -> (f64, f64) {
    let others = 9.0 * (-gap).exp();
    let strongest = 1.0 / (1.0 + others);
    let rest = others / (1.0 + others);
    let inside = rest + 1e-4 + 1e-12;
    (-inside.ln(), strongest * rest / inside)
}

#[test]
fn the_released_margin_keeps_its_digits_where_a_wrong_class_is_all_but_certain() {
    for gap in [9.0, 12.0, 14.0, 16.0, 18.0, 20.0] {
        let mut row = vec![0.0; 10];
        row[3] = gap;
        let logits = logits(&[row]).autodiff().require_grad();
        let value = losses::margin_term(logits.clone(), labels(&[0]), losses::Form::Released);
        let gradient = read(logits.grad(&value.clone().sum().backward()).unwrap()).unwrap()[3];
        let value = read(value.inner()).unwrap()[0];
        let (right_value, right_gradient) = released_margin(gap);
        let off = |got: f32, right: f64| ((f64::from(got) - right) / right).abs();
        assert!(
            off(value, right_value) < 1e-5,
            "gap {gap}: {value}, expected {right_value}"
        );
        assert!(
            off(gradient, right_gradient) < 1e-4,
            "gap {gap}: gradient {gradient}, expected {right_gradient}"
        );
    }
}
