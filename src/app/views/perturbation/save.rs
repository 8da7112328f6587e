//! The pictures of an attack as a figure.

use crate::{
    app::{
        export,
        lab::{Finding, Trace},
    },
    report::{
        figure::{Figure, Part, Picture},
        pictures,
    },
    shapes::argmax,
    wording::percent,
};

/// Natural, perturbation and adversarial of each model under each other, at a step of the attack (none is its last), the
/// perturbation enlarged by `gain`, else so that ε fills the colours.
pub fn figure(finding: &Finding, step: Option<usize>, gain: Option<f32>, dark: bool) -> Figure {
    let wish = &finding.wish;
    let target = wish
        .target
        .map_or(String::new(), |class| format!(" towards {}", name(finding, class)));
    let mut caption = vec![format!(
        "{}. Attack: {}{target}, {} ε = {}, random start from seed {}.",
        finding.specimen.title,
        wish.name(),
        wish.norm,
        wish.epsilon,
        wish.seed
    )];
    let rows = finding.traces.iter().map(|trace| {
        let last = trace.images.len() - 1;
        let step = step.unwrap_or(last).min(last);
        let (linf, l2) = trace.distances(&finding.specimen.pixels, step);
        caption.push(format!(
            "{}: step {step} of {last}, distance L∞ {linf:.4}, L2 {l2:.3}.",
            trace.subject
        ));
        Part::Pictures(row(finding, trace, step, gain))
    });
    let parts = rows.collect();
    let title = match &finding.traces[..] {
        [one] => one.subject.clone(),
        several => {
            let names: Vec<&str> = several.iter().map(|trace| trace.subject.as_str()).collect();
            names.join(" and ")
        }
    };
    Figure {
        title,
        parts,
        caption,
        look: export::look(dark),
    }
}

fn name(finding: &Finding, class: usize) -> &str {
    finding.specimen.classes.get(class).map_or("?", String::as_str)
}

fn row(finding: &Finding, trace: &Trace, step: usize, gain: Option<f32>) -> Vec<Picture> {
    let (natural, shape) = (&finding.specimen.pixels, finding.specimen.shape);
    let adversarial = &trace.images[step];
    let gain = gain.unwrap_or_else(|| finding.full_gain(adversarial));
    let answer = |probabilities: &[f32]| {
        let class = argmax(probabilities);
        let share = probabilities.get(class).copied().unwrap_or(f32::NAN);
        vec![format!("answer: {}, {}", name(finding, class), percent(share.into()))]
    };
    let truth = finding
        .specimen
        .label
        .map(|label| format!("true class: {}", name(finding, label)));
    let mut before = answer(&trace.before);
    before.extend(truth);
    vec![
        Picture {
            title: "Natural".to_string(),
            pixels: pictures::picture(natural, shape),
            below: before,
        },
        Picture {
            title: format!("Perturbation × {gain:.1}"),
            pixels: pictures::perturbation(natural, adversarial, shape, gain),
            below: Vec::new(),
        },
        Picture {
            title: "Adversarial".to_string(),
            pixels: pictures::picture(adversarial, shape),
            below: answer(&trace.after[step]),
        },
    ]
}
