//! The curves of the training.

use std::fmt::Write;

use crate::{
    report::{
        chart::{self, LineChart, Series, Unit},
        escape,
        run::RunReport,
    },
    wording::{grouped, percent},
};

/// Curves of the training.
pub fn training(runs: &[RunReport]) -> String {
    if runs.iter().all(|run| run.epochs.is_empty() && run.steps.is_empty()) {
        return String::new();
    }
    let mut html = "<section>\n<h2>While it trained</h2>\n".to_string();
    let accuracy = accuracy_chart(runs);
    if !accuracy.series.is_empty() {
        let splits = runs.iter().filter_map(|run| {
            let epoch = run.epochs.iter().rev().find(|epoch| !epoch.accuracy.is_empty())?;
            Some(format!(
                "{}: {} {} images, ε = {}",
                run.label,
                grouped(epoch.n),
                epoch.split,
                epoch.epsilon
            ))
        });
        let _ = writeln!(
            html,
            "<figure class=\"card wide\">{}<figcaption>Measured after each epoch. {}.</figcaption></figure>",
            accuracy.to_inline_svg(),
            escape(&splits.collect::<Vec<_>>().join(" · "))
        );
    }
    html += "<div class=\"pair\">\n";
    for (position, run) in runs.iter().enumerate().filter(|(_, run)| !run.steps.is_empty()) {
        let _ = writeln!(
            html,
            "<figure class=\"card\">{}</figure>",
            loss_chart(run, position).to_inline_svg()
        );
    }
    html + "</div>\n</section>\n"
}

/// Accuracy by epoch and attack: a colour for each run, dashes for each attack.
pub fn accuracy_chart(runs: &[RunReport]) -> LineChart {
    let mut attacks: Vec<&str> = Vec::new();
    for name in runs.iter().flat_map(|run| &run.recipe.evaluation.attacks) {
        if !attacks.contains(&name.as_str()) {
            attacks.push(name);
        }
    }
    let mut series = Vec::new();
    for (colour, run) in runs.iter().enumerate() {
        for (dash, attack) in attacks.iter().enumerate() {
            let points: Vec<(f64, f64)> = run
                .epochs
                .iter()
                .filter_map(|epoch| Some((epoch.epoch as f64, *epoch.accuracy.get(*attack)?)))
                .collect();
            if !points.is_empty() {
                let name = if runs.len() > 1 {
                    format!("{} {attack}", run.label)
                } else {
                    (*attack).to_string()
                };
                series.push(Series {
                    name,
                    points,
                    colour,
                    dash,
                });
            }
        }
    }
    LineChart {
        title: "Accuracy by epoch".into(),
        description: ends(&series, Unit::Share),
        x: "Epoch".into(),
        y: "Accuracy on images that are not trained on".into(),
        unit: Unit::Share,
        whole: true,
        series,
    }
}

/// The loss and its terms by minibatch; the loss itself in the run's colour.
pub fn loss_chart(run: &RunReport, colour: usize) -> LineChart {
    let mut names: Vec<&String> = run.steps.iter().flat_map(|step| step.figures.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| !name.ends_with("_accuracy") && *name != "gradient_norm");
    // The objective first; what remains are its terms.
    names.sort_by_key(|name| *name != "loss");
    let terms: Vec<usize> = (2..chart::COLOURS).collect();
    let series = names.iter().enumerate().map(|(place, name)| Series {
        name: term(name),
        points: run
            .steps
            .iter()
            .map(|step| {
                (
                    step.total_steps as f64,
                    step.figures.get(*name).copied().unwrap_or(f64::NAN),
                )
            })
            .collect(),
        colour: if place == 0 {
            colour
        } else {
            terms[(place - 1) % terms.len()]
        },
        dash: place,
    });
    // A defence of one term: the term is the loss.
    let mut series: Vec<Series> = series.collect();
    if let [loss, only] = &series[..]
        && loss
            .points
            .iter()
            .zip(&only.points)
            .all(|(a, b)| (a.1 - b.1).abs() <= 1e-6 * a.1.abs())
    {
        series[0].name = format!("loss: {}", series[1].name);
        series.truncate(1);
    }
    LineChart {
        title: format!("{}: loss and its terms", run.label),
        description: ends(&series, Unit::Number),
        x: "Minibatch".into(),
        y: "Mean over the minibatches since the point before".into(),
        unit: Unit::Number,
        whole: true,
        series,
    }
}

/// What a figure of a step is called.
fn term(name: &str) -> String {
    match name {
        "one_minus_p_y" => "1 − p_y".into(),
        "kl" => "KL".into(),
        "weighted_kl" => "weighted KL".into(),
        "boosted_cross_entropy" => "boosted CE".into(),
        "cross_entropy" => "CE".into(),
        other => other.replace('_', " "),
    }
}

/// First and last value of each line, for those who cannot see it.
fn ends(series: &[Series], unit: Unit) -> String {
    let shown = |value: f64| {
        if unit == Unit::Share {
            percent(value)
        } else {
            format!("{value:.3}")
        }
    };
    let told = series.iter().filter_map(|series| {
        let (first, last) = (series.points.first()?, series.points.last()?);
        Some(format!(
            "{}: from {} to {}.",
            series.name,
            shown(first.1),
            shown(last.1)
        ))
    });
    told.collect::<Vec<_>>().join(" ")
}
