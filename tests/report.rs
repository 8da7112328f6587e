//! Pictures, charts and pages: geometry and colours at known pixels, well-formed markup, nothing from outside, and
//! nothing left out.

use std::path::Path;

use image::RgbImage;
use martlet::{
    attacks::AttackSpec,
    evaluation::{Accuracies, AttackResult, Evaluation, Examined, ExampleResult, Interval, Outcome, Standing, Warning},
    recipe::preset,
    report::{
        Ending, PageInput, RunReport,
        chart::{Bar, BarChart, BarSeries, LineChart, Series, Unit},
        compare,
        gallery::{self, Attempt, AttemptOutcome, Entry, Gallery, Prediction},
        page,
        pictures::{contact_sheet, data_uri, diverging, full_gain, magnified, perturbation, png, triptych},
        write_page,
    },
    runs::Run,
    shapes::ImageShape,
    threat::{Norm, ThreatModel},
};
use serde_json::json;

const GREY: ImageShape = ImageShape {
    channels: 1,
    height: 2,
    width: 3,
};
const COLOUR: ImageShape = ImageShape {
    channels: 3,
    height: 1,
    width: 2,
};

fn pixel(picture: &RgbImage, x: u32, y: u32) -> [u8; 3] {
    picture.get_pixel(x, y).0
}

/// Relative luminance (WCAG 2).
fn luminance(colour: [u8; 3]) -> f64 {
    let [r, g, b] = colour.map(|byte| {
        let value = f64::from(byte) / 255.0;
        if value <= 0.04045 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    });
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

#[test]
fn zero_is_neutral_and_signs_differ_by_hue_alone() {
    let [r, g, b] = diverging(0.0);
    assert!(r == g && g == b && r > 230, "{:?}", diverging(0.0));
    for strength in [0.1, 0.5, 1.0] {
        let (negative, positive) = (diverging(-strength), diverging(strength));
        assert!(negative[2] > negative[0], "{strength}: {negative:?} is not blue");
        assert!(positive[0] > positive[2], "{strength}: {positive:?} is not orange");
        let difference = (luminance(negative) - luminance(positive)).abs();
        assert!(difference < 0.03, "{strength}: one sign is lighter by {difference}");
    }
    let lights: Vec<f64> = (0..=20).map(|i| luminance(diverging(i as f32 / 20.0))).collect();
    assert!(
        lights.windows(2).all(|pair| pair[1] < pair[0]),
        "stronger is not always darker: {lights:?}"
    );
    assert_eq!(diverging(7.0), diverging(1.0));
    assert_eq!(diverging(f32::NEG_INFINITY), diverging(-1.0));
    assert_eq!(diverging(f32::NAN), [0, 0, 0]);
}

#[test]
fn a_grey_triptych_has_its_parts_in_place() {
    let natural = [0.0, 0.5, 1.0, 0.2, 0.2, 0.2];
    let adversarial = [0.1, 0.4, 1.0, 0.2, 0.25, 0.2];
    let picture = triptych(&natural, &adversarial, GREY, Some(10.0), 4);
    assert_eq!(picture.dimensions(), ((3 * 3 + 2) * 4, 2 * 4));
    // Every image pixel is a square of one colour.
    for (x, y) in [(0, 0), (3, 3), (0, 3)] {
        assert_eq!(pixel(&picture, x, y), [0, 0, 0], "natural, first pixel");
    }
    assert_eq!(pixel(&picture, 8, 0), [255; 3], "natural, last of the first row");
    assert_eq!(pixel(&picture, 12, 0), pixel(&picture, 28, 7), "both gaps look alike");
    assert_eq!(pixel(&picture, 16, 0), diverging(1.0), "0.1 brighter, 10 times");
    assert_eq!(pixel(&picture, 20, 0), diverging(-1.0), "0.1 darker, 10 times");
    assert_eq!(pixel(&picture, 24, 0), diverging(0.0), "unchanged");
    assert_eq!(pixel(&picture, 32, 0), [26; 3], "adversarial, 0.1");
    assert_eq!(pixel(&picture, 36, 4), [64; 3], "adversarial, second row, 0.25");
}

#[test]
fn a_colour_triptych_shows_each_channels_change_round_mid_grey() {
    // [C, H, W]: both reds, both greens, both blues.
    let natural = [1.0, 0.0, 0.0, 0.5, 0.0, 1.0];
    let adversarial = [0.9, 0.0, 0.0, 0.6, 0.05, 1.0];
    let picture = triptych(&natural, &adversarial, COLOUR, Some(10.0), 1);
    assert_eq!(picture.dimensions(), (8, 1));
    assert_eq!(pixel(&picture, 0, 0), [255, 0, 0]);
    assert_eq!(pixel(&picture, 1, 0), [0, 128, 255]);
    assert_eq!(pixel(&picture, 3, 0), [0, 128, 191]);
    assert_eq!(pixel(&picture, 4, 0), [128, 255, 128]);
    assert_eq!(pixel(&picture, 6, 0), [230, 0, 13]);
}

#[test]
fn without_a_gain_the_largest_change_fills_the_range() {
    let natural = [0.5; 6];
    let adversarial = [0.5, 0.52, 0.5, 0.46, 0.5, 0.5];
    assert!((full_gain(&natural, &adversarial) - 25.0).abs() < 1e-3);
    let picture = triptych(&natural, &adversarial, GREY, None, 1);
    assert_eq!(pixel(&picture, 4, 1), diverging(-1.0));
    assert_eq!(full_gain(&natural, &natural), 1.0);
    assert_eq!(
        pixel(&perturbation(&natural, &natural, GREY, 1.0), 0, 0),
        diverging(0.0)
    );
}

#[test]
fn sheets_fill_rows_and_pngs_come_back() {
    let pictures: Vec<RgbImage> = (0..5u8)
        .map(|i| RgbImage::from_pixel(4, 3, image::Rgb([i * 40, 0, 0])))
        .collect();
    let sheet = contact_sheet(&pictures, 2, 1);
    assert_eq!(sheet.dimensions(), (9, 11));
    assert_eq!(pixel(&sheet, 0, 8), [160, 0, 0]);
    assert_eq!(pixel(&sheet, 5, 4), [120, 0, 0]);
    assert_eq!(pixel(&sheet, 4, 0), pixel(&sheet, 8, 10), "gap and empty cell");
    assert_eq!(contact_sheet(&[], 3, 1).dimensions(), (0, 0));
    let bytes = png(&magnified(&sheet, 2)).unwrap();
    assert_eq!(image::load_from_memory(&bytes).unwrap().to_rgb8(), magnified(&sheet, 2));
    assert!(data_uri(&bytes).starts_with("data:image/png;base64,iVBORw0KGgo"));
}

/// Every tag is closed in order, attributes are quoted, and text holds no stray `<` or `&`.
fn assert_well_formed(markup: &str) {
    let mut open: Vec<String> = Vec::new();
    let mut rest = markup;
    while let Some(start) = rest.find('<') {
        assert_text(&rest[..start]);
        rest = &rest[start..];
        let end = rest
            .find('>')
            .unwrap_or_else(|| panic!("a tag never ends: {}", &rest[..rest.len().min(60)]));
        let tag = &rest[1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "closed out of order");
        } else if !tag.starts_with('!') {
            assert_eq!(tag.matches('"').count() % 2, 0, "an attribute's quotes are open: {tag}");
            assert_text(tag);
            let name = tag.split([' ', '/']).next().unwrap().to_string();
            if !tag.ends_with('/') {
                open.push(name.clone());
            }
            // What stands in a style is no markup.
            if name == "style" {
                rest = &rest[rest.find("</style>").unwrap()..];
            }
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

fn assert_text(text: &str) {
    for after in text.split('&').skip(1) {
        let entity = after.split(';').next().unwrap();
        assert!(
            ["amp", "lt", "gt", "quot", "#39"].contains(&entity),
            "a stray & before {after:.20}"
        );
    }
    assert!(!text.contains('>'), "a stray > in {text:?}");
}

/// Nothing is loaded from anywhere: no address but `data:`.
fn assert_self_contained(markup: &str) {
    let plain = markup.replace("http://www.w3.org/2000/svg", "");
    for outside in [
        "http:", "https:", "//cdn", "src=\"/", "href=", "url(", "@import", "<script", "<link", "<iframe",
    ] {
        assert!(!plain.contains(outside), "the markup reaches outside through {outside}");
    }
}

const NASTY: &str = "<b>Tom & \"Jerry\"</b> 'n <script>alert(1)</script>\u{1}";

fn line_chart() -> LineChart {
    let series = |name: &str, points: &[(f64, f64)], dash| Series {
        name: name.to_string(),
        points: points.to_vec(),
        colour: dash,
        dash,
    };
    LineChart {
        title: NASTY.into(),
        description: NASTY.into(),
        x: "Epoch".into(),
        y: "Accuracy".into(),
        unit: Unit::Share,
        whole: true,
        series: vec![
            series("natural", &[(1.0, 0.5), (2.0, f64::NAN), (3.0, 0.75), (4.0, 1.0)], 0),
            series(NASTY, &[(1.0, 0.25), (2.0, 0.26)], 1),
        ],
    }
}

#[test]
fn charts_are_well_formed_and_break_where_nothing_was_measured() {
    let svg = line_chart().to_svg();
    assert_well_formed(&svg);
    assert_self_contained(&svg);
    assert!(svg.contains("<title>") && svg.contains("<desc>") && svg.contains("role=\"img\""));
    assert!(svg.contains("prefers-color-scheme:dark"));
    // The line of `natural` starts anew after the gap.
    let line = svg.split("mc-line mc-c0").nth(1).unwrap().split("/>").next().unwrap();
    assert_eq!(line.matches('M').count(), 2, "{line}");
    assert!(!svg.contains("NaN"));
    for tick in ["0 %", "20 %", "100 %"] {
        assert!(svg.contains(&format!(">{tick}</text>")), "{tick} is missing");
    }
    assert!(!svg.contains(">1.5</text>"), "there is no epoch 1.5");
    let inline = line_chart().to_inline_svg();
    assert!(!inline.contains("<style>") && inline.len() < svg.len());
}

#[test]
fn charts_stand_every_amount_of_points() {
    for points in [
        vec![],
        vec![(1.0, 0.3)],
        vec![(f64::NAN, 0.3)],
        vec![(1.0, f64::INFINITY), (2.0, -4.0)],
    ] {
        for unit in [Unit::Share, Unit::Number] {
            let mut chart = line_chart();
            chart.unit = unit;
            chart.series.truncate(1);
            chart.series[0].points.clone_from(&points);
            let svg = chart.to_svg();
            assert_well_formed(&svg);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{points:?}: {svg}");
        }
    }
}

#[test]
fn bars_start_at_zero_and_have_whiskers() {
    let chart = BarChart {
        title: "Accuracy by attack".into(),
        description: String::new(),
        y: "Accuracy".into(),
        groups: vec!["natural".into(), "pgd-20".into()],
        series: vec![BarSeries {
            name: NASTY.into(),
            colour: 0,
            bars: vec![
                Some(Bar {
                    value: 0.5,
                    low: 0.4,
                    high: 0.6,
                }),
                None,
            ],
        }],
        reference: Some(("chance".into(), 0.1)),
    };
    let svg = chart.to_svg();
    assert_well_formed(&svg);
    assert_self_contained(&svg);
    assert!(svg.contains("50.0 % (95 % interval 40.0 to 60.0 %)"));
    assert!(svg.contains(">–</text>"), "what was not measured is said");
    let attribute = |text: &str, name: &str| -> f64 {
        text.split(&format!("{name}=\""))
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    let bar = svg.split("<g><title>").nth(1).unwrap().split("<rect").nth(1).unwrap();
    let axis = svg.split("class=\"mc-axis\"").nth(1).unwrap();
    let foot = attribute(bar, "y") + attribute(bar, "height");
    assert!((foot - attribute(axis, "y1")).abs() < 0.11, "the bar ends at {foot}");
}

fn standing(correct: usize, n: usize) -> Standing {
    Standing {
        accuracy: correct as f64 / n as f64,
        correct,
        interval: Interval::wilson(correct, n),
    }
}

/// An evaluation of 40 images with these numbers of images left, by attack.
fn evaluation(left: &[(&str, usize)]) -> Evaluation {
    let threat = ThreatModel {
        norm: Norm::Linf,
        epsilon: "8/255".parse().unwrap(),
    };
    let n = 40;
    let attacks: Vec<AttackResult> = left
        .iter()
        .map(|(name, correct)| {
            let spec: AttackSpec = name.parse().unwrap();
            AttackResult::new(name, &spec, &threat, 10, standing(*correct, n), 1.0)
        })
        .collect();
    let worst = left.iter().map(|(_, correct)| *correct).min().unwrap();
    Evaluation {
        n,
        epsilon: threat.epsilon,
        norm: threat.norm,
        device: "a device".into(),
        model: "small-cnn, 312202 parameters".into(),
        dataset: Examined {
            name: NASTY.into(),
            split: Some("test".into()),
            note: Some("JPEG copy".into()),
            fingerprint: "abc".into(),
        },
        seed: 1,
        batch_size: 128,
        martlet: "0".into(),
        accuracy: Accuracies(
            left.iter()
                .map(|(name, correct)| (name.to_string(), *correct as f64 / 40.0))
                .collect(),
        ),
        attacks,
        worst_case: standing(worst, n),
        warnings: vec![Warning::SmallSample { n, half_width: 0.15 }],
        surrogate: None,
        transfers: Vec::new(),
        checkpoint: None,
        curve: Vec::new(),
        seconds: 2.0,
        examples: (0..n)
            .map(|index| ExampleResult {
                index,
                label: 1,
                natural: usize::from(index < left[0].1),
                attacks: left
                    .iter()
                    .map(|(_, correct)| Outcome {
                        prediction: usize::from(index < *correct),
                        robust: index < *correct,
                    })
                    .collect(),
                robust: index < worst,
            })
            .collect(),
    }
}

fn run_report(label: &str, evaluations: Vec<(String, Evaluation)>) -> RunReport {
    let recipe = preset("glyphs-mart").unwrap();
    RunReport {
        name: format!("run-{label}"),
        label: label.to_string(),
        recipe_toml: format!("# {NASTY}\n{}", recipe.to_toml()),
        recipe,
        identity: json!({
            "created": "2026-11-22T18:07:06.647Z",
            "martlet": "0.1.0",
            "device": {
                "info": { "name": NASTY, "api": "Vulkan", "driver": "a driver" },
                "self_check": { "passed": false, "device": "a card", "worst": [{ "name": "loss", "relative_difference": 0.5 }] },
            },
            "data": { "name": "Glyphs", "note": "a note on the data", "fingerprint": "0123abcd", "examples": 1600, "evaluated": 200, "split": "held-out" },
        }),
        steps: Vec::new(),
        epochs: Vec::new(),
        adjustments: Vec::new(),
        warnings: Vec::new(),
        ending: Ending::Failed("the loss is not a number".into()),
        evaluations,
        checkpoints: vec!["last-000009".into(), "best-000008".into()],
    }
}

fn input(runs: Vec<RunReport>) -> PageInput {
    let attempt = Attempt {
        model: NASTY.into(),
        triptych: triptych(&[0.5; 6], &[0.6; 6], COLOUR_TALL, Some(10.0), 2),
        before: Prediction {
            class: NASTY.into(),
            probability: 0.875,
        },
        after: Prediction {
            class: "1".into(),
            probability: 0.5,
        },
        outcome: AttemptOutcome::Fooled,
    };
    PageInput {
        title: NASTY.into(),
        conclusions: vec![NASTY.into()],
        sections: Vec::new(),
        runs,
        classes: Some(10),
        gallery: Some(Gallery {
            caption: NASTY.into(),
            entries: vec![Entry {
                title: NASTY.into(),
                attempts: vec![attempt],
            }],
        }),
    }
}

const COLOUR_TALL: ImageShape = ImageShape {
    channels: 3,
    height: 2,
    width: 1,
};

#[test]
fn a_page_is_well_formed_self_contained_and_escapes_every_name() {
    let figures = [("natural", 36), ("fgsm", 30), ("pgd-20", 20), ("cw-20", 18)];
    let evaluated = vec![("evaluation-test-best".to_string(), evaluation(&figures))];
    for runs in [
        vec![],
        vec![run_report("MART", vec![])],
        vec![
            run_report("Standard", evaluated.clone()),
            run_report(NASTY, evaluated.clone()),
        ],
    ] {
        let html = page(&input(runs)).unwrap();
        assert_well_formed(&html);
        assert_self_contained(&html);
        assert!(!html.contains("<b>"), "a name became markup");
        assert!(
            html.contains("data:image/png;base64,"),
            "the gallery's pictures are inside"
        );
    }
}

#[test]
fn a_page_leaves_nothing_out_that_a_figure_depends_on() {
    let figures = [("natural", 36), ("fgsm", 30), ("pgd-20", 20), ("cw-20", 18)];
    let evaluated = vec![("evaluation-test-best".to_string(), evaluation(&figures))];
    let html = page(&input(vec![
        run_report("Standard", evaluated.clone()),
        run_report("MART", evaluated),
    ]))
    .unwrap();
    for part in [
        "N = 40",
        "ε = 8/255",
        "8/255/10",
        "κ = 50",
        "90.0 %",
        "45.0 %",
        "JPEG copy",
        "a note on the data",
        "0123abcd",
        "does not compute what the CPU computes",
        "DISAGREES",
        "Training stopped early: the loss is not a number",
        "40 examples leave the figures uncertain",
        "Evaluate more examples",
        "glyphs",
        "2026-11-22 18:07 UTC",
        "within its interval",
    ] {
        assert!(html.contains(part), "{part:?} is missing");
    }
    let interval = Interval::wilson(20, 40);
    assert!(html.contains(&format!(
        "({:.1} to {:.1})",
        100.0 * interval.low,
        100.0 * interval.high
    )));
    // Warnings stand in the open, not folded away.
    let before = &html[..html.find("Evaluate more examples").unwrap()];
    assert_eq!(before.matches("<details").count(), before.matches("</details").count());
}

#[test]
fn figures_that_do_not_fit_together_stand_apart() {
    let figures = [("natural", 36), ("pgd-20", 20)];
    let (one, mut other) = (evaluation(&figures), evaluation(&figures));
    assert_eq!(compare::mismatch(&one, &other), None);
    assert_eq!(compare::differences(&one, &other).len(), 3);
    other.epsilon = "0.031".parse().unwrap();
    let why = compare::mismatch(&one, &other).unwrap();
    assert!(why.contains("8/255") && why.contains("0.031"), "{why}");
    assert!(compare::differences(&one, &other).is_empty());
    assert!(compare::verdict(("A", &one), ("B", &other))[0].contains("cannot be compared"));
    let name = "evaluation-test-best".to_string();
    let html = page(&input(vec![
        run_report("A", vec![(name.clone(), one)]),
        run_report("B", vec![(name, other)]),
    ]))
    .unwrap();
    assert!(html.contains("B is shown apart from A: ε differs: 8/255 and 0.031."));
    assert!(!html.contains("Difference</th>"));
}

#[test]
fn a_figure_of_an_earlier_checkpoint_says_so() {
    let of = |checkpoint: &str| {
        let mut one = evaluation(&[("natural", 36)]);
        one.checkpoint = Some(checkpoint.into());
        page(&input(vec![run_report(
            "A",
            vec![("evaluation-test-best".into(), one)],
        )]))
        .unwrap()
    };
    assert!(of("best-000008").contains("A: checkpoint best-000008"));
    let earlier = of("best-000005");
    assert!(
        earlier.contains("A: of an earlier checkpoint, best-000005: the run has last-000009 and best-000008 by now")
    );
}

#[test]
fn the_same_images_are_compared_in_pairs() {
    let (one, other) = (
        evaluation(&[("natural", 36), ("pgd-20", 20)]),
        evaluation(&[("natural", 38), ("pgd-20", 26)]),
    );
    let found = |other: &Evaluation| compare::Difference::under("pgd-20", &one, other).unwrap();
    let paired = found(&other);
    assert!(paired.paired && (paired.value - 0.15).abs() < 1e-9);
    // What held in the first holds in the second too, which only the pairs tell.
    assert!(paired.is_clear());
    let worst = compare::Difference::under("worst-case", &one, &other).unwrap();
    assert_eq!(worst.interval, paired.interval);
    let mut unkept = other.clone();
    unkept.examples.clear();
    assert!(!found(&unkept).paired && !found(&unkept).is_clear());
    let mut others = other.clone();
    others.examples[0].index = 77;
    assert!(!found(&others).paired);
    assert!(compare::Difference::under("square", &one, &other).is_none());
}

#[test]
fn the_verdict_follows_the_figures_whichever_way_they_fall() {
    let weak = evaluation(&[("natural", 36), ("pgd-20", 8)]);
    let strong = evaluation(&[("natural", 35), ("pgd-20", 30)]);
    let told = compare::verdict(("Standard", &weak), ("MART", &strong)).join(" ");
    assert!(
        told.contains("MART is ahead") && told.contains("under pgd-20 by 55.0 points"),
        "{told}"
    );
    assert!(told.contains("The differences on natural images are within"), "{told}");
    let told = compare::verdict(("Standard", &strong), ("MART", &weak)).join(" ");
    assert!(
        told.contains("Standard is ahead") && !told.contains("MART is ahead"),
        "{told}"
    );
    let told = compare::verdict(("Standard", &weak), ("MART", &weak)).join(" ");
    assert!(told.contains("No difference between Standard and MART"), "{told}");
}

#[test]
fn the_gallery_shows_every_way_in_which_models_fare() {
    let weak = evaluation(&[("natural", 36), ("pgd-20", 8)]);
    let strong = evaluation(&[("natural", 40), ("pgd-20", 30)]);
    let chosen = gallery::telling_examples(&[&weak, &strong], "pgd-20", 6);
    assert_eq!(chosen, [0, 1, 8, 9, 30, 31], "both hold, one holds, none holds");
    assert_eq!(gallery::telling_examples(&[&weak, &strong], "pgd-20", 4).len(), 4);
    assert!(gallery::telling_examples(&[&weak], "cw-20", 4).is_empty());
    assert!(gallery::telling_examples(&[], "pgd-20", 4).is_empty());
    assert_eq!(gallery::telling_examples(&[&weak], "pgd-20", 100).len(), 36);
}

#[test]
fn a_run_folder_becomes_a_page() {
    let runs_dir = tempfile::tempdir().unwrap();
    let recipe = preset("glyphs-mart").unwrap();
    let mut run = Run::create(
        runs_dir.path(),
        "a",
        &recipe.to_toml(),
        json!({ "data": { "name": "Glyphs" } }),
    )
    .unwrap();
    let figures = json!({ "loss": 2.25, "boosted_cross_entropy": 2.0, "weighted_kl": 0.05, "natural_accuracy": 0.5 });
    for step in [10, 20] {
        run.append(
            &json!({ "event": "step", "epoch": 1, "step": step, "total_steps": step, "learning_rate": 0.1,
            "epsilon": 0.1, "figures": figures, "clock": { "seconds": 1.0, "evaluating": 0.0 } }),
        )
        .unwrap();
    }
    run.append(
        &json!({ "event": "epoch", "epoch": 1, "epochs": 2, "total_steps": 20, "train": figures,
        "accuracy": { "natural": 0.5, "pgd-20": 0.25, "worst-case": 0.25 }, "split": "held-out", "n": 200,
        "epsilon": "0.15", "best": true, "clock": { "seconds": 2.0, "evaluating": 0.5 } }),
    )
    .unwrap();
    run.append(
        &json!({ "event": "warning", "epoch": 1, "kind": "stuck-run", "message": "it is stuck", "advice": "warm up" }),
    )
    .unwrap();
    run.append(&json!({ "event": "some-later-kind" })).unwrap();
    run.append(&json!({ "event": "failed", "error": "the disk is full" }))
        .unwrap();
    let evaluated = evaluation(&[("natural", 36), ("pgd-20", 20)]).to_json(true).unwrap();
    let file = run.folder().join("evaluation-test-best.json");
    std::fs::write(&file, evaluated).unwrap();

    let report = RunReport::read(&run).unwrap();
    assert_eq!(
        (report.steps.len(), report.epochs.len(), report.warnings.len()),
        (2, 1, 1)
    );
    assert!(matches!(&report.ending, Ending::Failed(error) if error == "the disk is full"));
    assert_eq!(report.evaluations.len(), 1);
    assert_eq!(report.label, "MART (λ = 5)");
    let chart = page::loss_chart(&report, 0);
    let names: Vec<&str> = chart.series.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(
        names,
        ["loss", "boosted CE", "weighted KL"],
        "accuracies have a chart of their own"
    );

    let path = run.folder().join("report.html");
    write_page(
        &path,
        &PageInput {
            gallery: None,
            ..input(vec![report.clone()])
        },
    )
    .unwrap();
    let html = std::fs::read_to_string(&path).unwrap();
    assert_well_formed(&html);
    for part in [
        "Epoch 1: it is stuck",
        "warm up",
        "the disk is full",
        "200 held-out images, ε = 0.15",
    ] {
        assert!(html.contains(part), "{part:?} is missing");
    }
    write_page(
        &path,
        &PageInput {
            gallery: None,
            ..input(vec![report])
        },
    )
    .unwrap();
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        html,
        "the same folder gives the same page"
    );

    std::fs::write(&file, "{}").unwrap();
    let error = RunReport::read(&run).unwrap_err().to_string();
    assert!(
        error.contains("martlet evaluate") && error.ends_with("evaluation-test-best.json"),
        "{error}"
    );
    assert!(write_page(Path::new("/nonexistent-folder/report.html"), &input(vec![])).is_err());
}
