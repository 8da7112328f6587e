//! What the paper reports, and what it trained for it.

use super::{Experiment, Figure, Reported, Row, Setting, Trains, Treatment};
use crate::{
    defences::{Ablation, Classification, DefenceSpec, InnerObjective},
    losses::Form,
    runs::Slot,
};

/// Tables 2 to 5 and Figures 1 and 2.
pub const EXPERIMENTS: &[Experiment] = &[
    Experiment {
        name: "figure-1",
        title: "Figure 1: misclassified and correctly classified examples",
        question: "Does it matter more how the misclassified examples are trained on than as many others?",
        setting: Setting::Subsets,
        attacks: ROBUST,
        reported: Slot::Last,
        beyond: false,
        figure: Some(Figure::Epochs),
        rows: subsets,
        comparisons: || {
            pairs(&[
                ("s-plus-not-perturbed", "s-minus-not-perturbed"),
                ("standard", "s-minus-not-perturbed"),
                ("standard", "s-minus-fgsm"),
                ("s-minus-fgsm", "s-plus-fgsm"),
                ("s-minus-regularised", "standard"),
                ("s-minus-regularised", "s-plus-regularised"),
            ])
        },
    },
    Experiment {
        name: "figure-2a",
        title: "Figure 2(a): removing components of MART",
        question: "Do KL and 1 − p each add to MART's robustness, and both together more?",
        setting: Setting::Ablation,
        attacks: ROBUST,
        reported: Slot::Last,
        beyond: false,
        figure: Some(Figure::Epochs),
        rows: removed,
        comparisons: || {
            pairs(&[
                ("mart", "without-kl"),
                ("mart", "without-weight"),
                ("mart", "without-both"),
            ])
        },
    },
    Experiment {
        name: "figure-2b",
        title: "Figure 2(b): replacing components of MART",
        question: "Does the boosted cross-entropy on adversarial examples do better than what could stand in its place?",
        setting: Setting::Ablation,
        attacks: ROBUST,
        reported: Slot::Last,
        beyond: false,
        figure: Some(Figure::Epochs),
        rows: replaced,
        comparisons: || pairs(&[("mart", "cross-entropy"), ("mart", "natural-bce"), ("mart", "inner-kl")]),
    },
    Experiment {
        name: "figure-2c",
        title: "Figure 2(c): the regulariser on a share of the training data",
        question: "Does robustness grow with the share of the examples that MART regularises?",
        setting: Setting::Ablation,
        attacks: ROBUST,
        reported: Slot::Last,
        beyond: false,
        figure: Some(Figure::Number("share of the training examples regularised")),
        rows: shares,
        comparisons: || pairs(&[("mart", "share-0"), ("mart", "share-50")]),
    },
    Experiment {
        name: "figure-2d",
        title: "Figure 2(d): the weight λ of the regulariser",
        question: "Is MART robust over a wide range of λ, and more so than TRADES?",
        setting: Setting::Ablation,
        attacks: ROBUST,
        reported: Slot::Last,
        beyond: false,
        figure: Some(Figure::Number("λ")),
        rows: lambdas,
        comparisons: || {
            let of = |lambda: &f32| (mart_with(*lambda), format!("trades-{lambda}"));
            LAMBDAS.iter().map(of).collect()
        },
    },
    Experiment {
        name: "table-2-mnist",
        title: "Table 2, MNIST: white-box robustness",
        question: "Which defence stands up best to attacks on the model itself?",
        setting: Setting::Mnist,
        attacks: WHITE_BOX,
        reported: Slot::Best,
        beyond: true,
        figure: None,
        rows: || defended(&TABLE_2.map(|(defence, mnist, _)| (defence, mnist)), WHITE_BOX, false),
        comparisons: against_all,
    },
    Experiment {
        name: "table-2-cifar10",
        title: "Table 2, CIFAR-10: white-box robustness",
        question: "Which defence stands up best to attacks on the model itself?",
        setting: Setting::Cifar10,
        attacks: WHITE_BOX,
        reported: Slot::Best,
        beyond: true,
        figure: None,
        rows: || defended(&TABLE_2.map(|(defence, _, cifar)| (defence, cifar)), WHITE_BOX, true),
        comparisons: against_all,
    },
    Experiment {
        name: "table-3-mnist",
        title: "Table 3, MNIST: black-box robustness",
        question: "Which defence stands up best to attacks that were crafted on another model?",
        setting: Setting::Mnist,
        attacks: BLACK_BOX,
        reported: Slot::Best,
        beyond: false,
        figure: None,
        rows: || {
            with_surrogate(defended(
                &TABLE_3.map(|(defence, mnist, _)| (defence, mnist)),
                BLACK_BOX,
                false,
            ))
        },
        comparisons: against_all,
    },
    Experiment {
        name: "table-3-cifar10",
        title: "Table 3, CIFAR-10: black-box robustness",
        question: "Which defence stands up best to attacks that were crafted on another model?",
        setting: Setting::Cifar10,
        attacks: BLACK_BOX,
        reported: Slot::Best,
        beyond: false,
        figure: None,
        rows: || {
            with_surrogate(defended(
                &TABLE_3.map(|(defence, _, cifar)| (defence, cifar)),
                BLACK_BOX,
                true,
            ))
        },
        comparisons: against_all,
    },
    Experiment {
        name: "table-4",
        title: "Table 4: a large network, best and last checkpoints",
        question: "Does MART's lead hold in a large network, and to the end of the training?",
        setting: Setting::Wide,
        attacks: WIDE,
        reported: Slot::Best,
        beyond: true,
        figure: None,
        rows: wide,
        comparisons: || pairs(&[("mart", "standard"), ("mart", "trades"), ("mart", "dynamic")]),
    },
    Experiment {
        name: "table-5a",
        title: "Table 5(a): 100K unlabelled images",
        question: "Does MART gain from unlabelled images, and more than UAT++ and RST?",
        setting: Setting::Unlabelled100K,
        attacks: SEMI,
        reported: Slot::Best,
        beyond: false,
        figure: None,
        rows: || unlabelled(&TABLE_5A),
        comparisons: || pairs(&[("mart", "rst"), ("mart", "uat")]),
    },
    Experiment {
        name: "table-5b",
        title: "Table 5(b): 500K unlabelled images",
        question: "Does MART gain from unlabelled images, and more than UAT++ and RST?",
        setting: Setting::Unlabelled500K,
        attacks: SEMI,
        reported: Slot::Best,
        beyond: false,
        figure: None,
        rows: || unlabelled(&TABLE_5B),
        comparisons: || pairs(&[("mart", "rst"), ("mart", "uat")]),
    },
];

/// The figures' attack. The paper prints them as curves, without numbers; what its text says of them is in the
/// comparisons.
const ROBUST: &[&str] = &["natural", "pgd-20"];
const WHITE_BOX: &[&str] = &["natural", "fgsm", "pgd-20", "cw-20"];
const BLACK_BOX: &[&str] = &["transfer-fgsm", "transfer-pgd-10", "transfer-pgd-20", "transfer-cw-20"];
const WIDE: &[&str] = &["natural", "fgsm", "pgd-20", "pgd-100", "cw-20"];
const SEMI: &[&str] = &["natural", "pgd-20"];

/// Table 2: MNIST, CIFAR-10.
const TABLE_2: [(&str, [f64; 4], [f64; 4]); 5] = [
    ("standard", [99.11, 97.17, 94.62, 94.25], [84.44, 61.89, 47.55, 45.98]),
    ("mma", [98.92, 97.25, 95.25, 94.77], [84.76, 62.08, 48.33, 45.77]),
    ("dynamic", [98.96, 97.34, 95.27, 94.85], [83.33, 62.47, 49.40, 46.94]),
    ("trades", [99.25, 96.67, 94.58, 94.03], [82.90, 62.82, 50.25, 48.29]),
    ("mart", [98.74, 97.87, 96.48, 96.10], [83.07, 65.65, 55.57, 54.87]),
];

/// Table 3: MNIST, CIFAR-10.
const TABLE_3: [(&str, [f64; 4], [f64; 4]); 5] = [
    ("standard", [96.12, 95.73, 95.47, 96.34], [79.98, 80.27, 80.01, 80.85]),
    ("mma", [96.11, 95.94, 95.81, 96.87], [80.28, 80.52, 80.48, 81.32]),
    ("dynamic", [97.60, 96.25, 95.82, 97.03], [81.37, 81.71, 81.38, 82.05]),
    ("trades", [97.49, 96.03, 95.73, 97.20], [81.52, 81.73, 81.53, 82.11]),
    ("mart", [97.77, 96.96, 96.97, 98.36], [82.75, 82.93, 82.70, 82.95]),
];

/// Table 4: natural; then best and last under FGSM, PGD-20, PGD-100 and CW∞.
const TABLE_4: [(&str, f64, [[f64; 2]; 4]); 4] = [
    (
        "standard",
        87.30,
        [[56.10, 56.10], [52.68, 49.31], [51.55, 49.03], [50.73, 48.47]],
    ),
    (
        "dynamic",
        84.51,
        [[63.53, 63.53], [55.03, 51.70], [54.12, 50.07], [51.34, 49.27]],
    ),
    (
        "trades",
        84.22,
        [[64.70, 64.70], [56.40, 53.16], [55.68, 51.27], [51.98, 51.12]],
    ),
    (
        "mart",
        84.17,
        [[67.51, 67.51], [58.56, 57.39], [57.88, 55.04], [54.58, 54.53]],
    ),
];

/// Table 5: natural and PGD-20.
const TABLE_5A: [(&str, [f64; 2]); 3] = [
    ("uat", [86.04, 59.41]),
    ("rst", [88.24, 59.60]),
    ("mart", [86.68, 61.88]),
];
const TABLE_5B: [(&str, [f64; 2]); 3] = [
    ("uat", [86.21, 62.76]),
    ("rst", [89.70, 63.10]),
    ("mart", [86.30, 65.04]),
];

/// The paper sweeps λ over [1/2, 50] and names no values between.
const LAMBDAS: [f32; 5] = [0.5, 2.0, 6.0, 20.0, 50.0];

/// λ of the ablations (section 4.1).
const ABLATION_LAMBDA: f32 = 6.0;

/// λ of section 4.2, of MART and of TRADES as MART's authors ran it.
const MART_LAMBDA: f32 = 5.0;
const TRADES_LAMBDA: f32 = 4.0;

/// λ of RST's and UAT++'s consistency term, as RST's authors run it.
const SEMI_LAMBDA: f32 = 6.0;

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect()
}

/// MART against everything else, and TRADES against Standard.
fn against_all() -> Vec<(String, String)> {
    pairs(&[
        ("mart", "standard"),
        ("mart", "trades"),
        ("mart", "mma"),
        ("mart", "dynamic"),
        ("trades", "standard"),
    ])
}

fn row(id: impl Into<String>, label: impl Into<String>, trains: Trains) -> Row {
    Row {
        id: id.into(),
        label: label.into(),
        trains,
        reported: Vec::new(),
        place: None,
    }
}

/// A defence as section 4.2 configures it. MMA's margins and Dynamic's schedule are set by the plan.
fn baseline(name: &str) -> (&'static str, Trains) {
    match name {
        "mma" => ("MMA", Trains::Defence(named("mma"))),
        "dynamic" => ("Dynamic", Trains::Defence(named("dynamic"))),
        "trades" => ("TRADES", Trains::Defence(DefenceSpec::Trades { lambda: TRADES_LAMBDA })),
        "mart" => (
            "MART (paper)",
            Trains::Defence(DefenceSpec::mart(MART_LAMBDA, Form::Paper)),
        ),
        _ => ("Standard", Trains::Defence(DefenceSpec::Standard)),
    }
}

fn named(name: &str) -> DefenceSpec {
    // The plan sets what depends on ε; the names are constants that a test builds.
    let epsilon = crate::threat::Magnitude::from(0.3);
    DefenceSpec::named(name, &epsilon).unwrap_or(DefenceSpec::Standard)
}

fn defended(table: &[(&str, [f64; 4])], attacks: &[&'static str], has_released: bool) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (name, figures) in table {
        let (label, trains) = baseline(name);
        let figures = attacks.iter().zip(figures).map(|(attack, accuracy)| Reported {
            attack,
            slot: Slot::Best,
            accuracy: *accuracy,
        });
        rows.push(Row {
            reported: figures.collect(),
            ..row(*name, label, trains)
        });
    }
    if has_released {
        rows.push(released(MART_LAMBDA));
    }
    rows
}

fn released(lambda: f32) -> Row {
    let defence = DefenceSpec::mart(lambda, Form::Released);
    row("mart-released", "MART (released code)", Trains::Released(defence))
}

/// "Both surrogate models are trained separately from the defence models": the paper does not say how; naturally here.
fn with_surrogate(mut rows: Vec<Row>) -> Vec<Row> {
    rows.insert(0, row("surrogate", "surrogate", Trains::Helper(DefenceSpec::Natural)));
    rows
}

fn wide() -> Vec<Row> {
    let rows = TABLE_4.iter().map(|(name, natural, figures)| {
        let (label, trains) = match *name {
            "mart" => (
                "MART (paper)",
                Trains::Defence(DefenceSpec::mart(ABLATION_LAMBDA, Form::Paper)),
            ),
            name => baseline(name),
        };
        let mut reported = vec![Reported {
            attack: "natural",
            slot: Slot::Best,
            accuracy: *natural,
        }];
        for (attack, [best, last]) in WIDE[1..].iter().zip(figures) {
            for (slot, accuracy) in [(Slot::Best, best), (Slot::Last, last)] {
                reported.push(Reported {
                    attack,
                    slot,
                    accuracy: *accuracy,
                });
            }
        }
        Row {
            reported,
            ..row(*name, label, trains)
        }
    });
    rows.chain([released(ABLATION_LAMBDA)]).collect()
}

fn unlabelled(table: &[(&str, [f64; 2])]) -> Vec<Row> {
    let natural = row("natural", "labelling network", Trains::Helper(DefenceSpec::Natural));
    let rows = table.iter().map(|(name, figures)| {
        let (label, defence) = match *name {
            "uat" => ("UAT++", DefenceSpec::Uat { lambda: SEMI_LAMBDA }),
            "rst" => ("RST", DefenceSpec::Trades { lambda: SEMI_LAMBDA }),
            _ => ("MART", DefenceSpec::mart(MART_LAMBDA, Form::Paper)),
        };
        let reported = SEMI.iter().zip(figures).map(|(attack, accuracy)| Reported {
            attack,
            slot: Slot::Best,
            accuracy: *accuracy,
        });
        Row {
            reported: reported.collect(),
            ..row(*name, label, Trains::PseudoLabelled(defence))
        }
    });
    [natural].into_iter().chain(rows).collect()
}

fn subsets() -> Vec<Row> {
    let mut rows = vec![row("standard", "Standard", Trains::Defence(DefenceSpec::Standard))];
    for (id, words, treatment) in [
        ("not-perturbed", "not perturbed", Treatment::NotPerturbed),
        ("fgsm", "by FGSM", Treatment::Fgsm),
        (
            "regularised",
            "regularised CE",
            Treatment::Regularised {
                lambda: ABLATION_LAMBDA,
            },
        ),
    ] {
        for (set, name, misclassified) in [("s-minus", "S−", true), ("s-plus", "S+", false)] {
            let trains = Trains::Subset {
                misclassified,
                treatment,
            };
            rows.push(row(format!("{set}-{id}"), format!("{name} {words}"), trains));
        }
    }
    rows
}

/// MART of the ablations: the dashed blue line of each plot.
fn mart() -> Row {
    row(
        "mart",
        "MART",
        Trains::Defence(DefenceSpec::mart(ABLATION_LAMBDA, Form::Paper)),
    )
}

fn ablated(id: &str, label: &str, ablation: Ablation) -> Row {
    let defence = DefenceSpec::Mart {
        lambda: ABLATION_LAMBDA,
        form: Form::Paper,
        ablation,
    };
    row(id, label, Trains::Defence(defence))
}

fn removed() -> Vec<Row> {
    let without = |kl: bool, weight: bool| Ablation {
        without_kl: kl,
        without_weight: weight,
        ..Ablation::NONE
    };
    vec![
        mart(),
        ablated("without-kl", "without KL", without(true, false)),
        ablated("without-weight", "without 1 − p", without(false, true)),
        ablated("without-both", "without both", without(true, true)),
    ]
}

fn replaced() -> Vec<Row> {
    let by = |classification| Ablation {
        classification,
        ..Ablation::NONE
    };
    let climbing = Ablation {
        inner: InnerObjective::Kl,
        ..Ablation::NONE
    };
    vec![
        mart(),
        ablated("cross-entropy", "CE for BCE", by(Classification::CrossEntropy)),
        ablated(
            "natural-bce",
            "BCE on natural examples",
            by(Classification::NaturalBoostedCrossEntropy),
        ),
        ablated("inner-kl", "attack climbs KL", climbing),
    ]
}

fn shares() -> Vec<Row> {
    let mut rows: Vec<Row> = [0_u8, 25, 50, 75]
        .into_iter()
        .map(|percent| {
            let share = f32::from(percent) / 100.0;
            let ablation = Ablation {
                regularised_share: share,
                ..Ablation::NONE
            };
            Row {
                place: Some(("MART", f64::from(share))),
                ..ablated(
                    &format!("share-{percent}"),
                    &format!("{percent} % regularised"),
                    ablation,
                )
            }
        })
        .collect();
    rows.push(Row {
        place: Some(("MART", 1.0)),
        ..mart()
    });
    rows
}

/// The run of MART with that λ: the ablations' own is the one that all plots share.
fn mart_with(lambda: f32) -> String {
    if lambda == ABLATION_LAMBDA {
        "mart".to_string()
    } else {
        format!("mart-{lambda}")
    }
}

fn lambdas() -> Vec<Row> {
    let mut rows = Vec::new();
    for lambda in LAMBDAS {
        let defence = DefenceSpec::mart(lambda, Form::Paper);
        rows.push(Row {
            place: Some(("MART", f64::from(lambda))),
            ..row(
                mart_with(lambda),
                format!("MART, λ = {lambda}"),
                Trains::Defence(defence),
            )
        });
        let defence = DefenceSpec::Trades { lambda };
        rows.push(Row {
            place: Some(("TRADES", f64::from(lambda))),
            ..row(
                format!("trades-{lambda}"),
                format!("TRADES, λ = {lambda}"),
                Trains::Defence(defence),
            )
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attacks::AttackSpec;

    #[test]
    fn names_rows_and_comparisons_fit_together() {
        for (position, experiment) in EXPERIMENTS.iter().enumerate() {
            assert!(
                EXPERIMENTS[..position]
                    .iter()
                    .all(|other| other.name != experiment.name),
                "{} twice",
                experiment.name
            );
            let rows = (experiment.rows)();
            for (place, row) in rows.iter().enumerate() {
                assert!(
                    rows[..place].iter().all(|other| other.id != row.id),
                    "{}: {} twice",
                    experiment.name,
                    row.id
                );
                for reported in &row.reported {
                    assert!(experiment.attacks.contains(&reported.attack));
                }
            }
            for (first, second) in (experiment.comparisons)() {
                for id in [first, second] {
                    assert!(rows.iter().any(|row| row.id == id), "{}: no row {id}", experiment.name);
                }
            }
            for attack in experiment.attacks {
                attack.parse::<AttackSpec>().unwrap();
            }
        }
    }

    #[test]
    fn a_run_that_experiments_share_is_trained_alike_in_all_of_them() {
        for experiment in EXPERIMENTS {
            for other in EXPERIMENTS.iter().filter(|other| other.setting == experiment.setting) {
                for row in (experiment.rows)() {
                    for same in (other.rows)().iter().filter(|same| same.id == row.id) {
                        assert_eq!(same.trains, row.trains, "{} and {}", experiment.name, other.name);
                    }
                }
            }
        }
    }

    #[test]
    fn the_paper_has_mart_ahead_of_every_baseline_under_attack() {
        // A slip in the typed figures would show here: the claim of the abstract holds in every table.
        for experiment in EXPERIMENTS {
            let rows = (experiment.rows)();
            let of = |id: &str| rows.iter().find(|row| row.id == id);
            let Some(mart) = of("mart").filter(|mart| !mart.reported.is_empty()) else {
                continue;
            };
            for row in rows.iter().filter(|row| row.id != "mart") {
                for reported in row.reported.iter().filter(|reported| reported.attack != "natural") {
                    let ours = mart
                        .reported
                        .iter()
                        .find(|own| own.attack == reported.attack && own.slot == reported.slot)
                        .unwrap();
                    assert!(ours.accuracy > reported.accuracy, "{} {}", experiment.name, row.id);
                }
            }
        }
    }
}
