//! The evaluations of the runs: a chart and a table of those that fit together.

use std::fmt::Write;

use super::PageInput;
use crate::{
    evaluation::{Evaluation, Standing},
    report::{
        chart::{Bar, BarChart, BarSeries},
        compare::{self, signed},
        escape,
        run::RunReport,
    },
    wording::{grouped, percent},
};

/// The evaluations: those that fit together in one chart and one table, the others one by one.
pub fn robustness(input: &PageInput) -> String {
    let mut names: Vec<&String> = input
        .runs
        .iter()
        .flat_map(|run| &run.evaluations)
        .map(|(name, _)| name)
        .collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return String::new();
    }
    let mut html = "<section>\n<h2>Accuracy under attack</h2>\n".to_string();
    for name in names {
        let mut groups: Vec<Vec<(usize, &RunReport, &Evaluation)>> = Vec::new();
        for (position, run) in input.runs.iter().enumerate() {
            for (_, evaluation) in run.evaluations.iter().filter(|(own, _)| own == name) {
                let member = (position, run, evaluation);
                match groups
                    .iter_mut()
                    .find(|group| compare::mismatch(group[0].2, evaluation).is_none())
                {
                    Some(group) => group.push(member),
                    None => groups.push(vec![member]),
                }
            }
        }
        if let [first, others @ ..] = &groups[..] {
            for other in others {
                let why = compare::mismatch(first[0].2, other[0].2).unwrap_or_default();
                let sentence = format!("{} is shown apart from {}: {why}.", other[0].1.label, first[0].1.label);
                let _ = writeln!(html, "<p>{}</p>", escape(&sentence));
            }
        }
        for group in &groups {
            html += &evaluation_figure(group, input.classes);
            html += &evaluation_table(group);
        }
    }
    html + "</section>\n"
}

fn evaluation_figure(group: &[(usize, &RunReport, &Evaluation)], classes: Option<usize>) -> String {
    let Some((_, _, first)) = group.first() else {
        return String::new();
    };
    let mut columns: Vec<String> = first.attacks.iter().map(|attack| attack.name.clone()).collect();
    columns.push("worst case".into());
    let bar = |standing: &Standing| {
        Some(Bar {
            value: standing.accuracy,
            low: standing.interval.low,
            high: standing.interval.high,
        })
    };
    let series = group.iter().map(|(position, run, evaluation)| BarSeries {
        name: run.label.clone(),
        colour: *position,
        bars: evaluation
            .attacks
            .iter()
            .map(|attack| bar(&attack.standing))
            .chain([bar(&evaluation.worst_case)])
            .collect(),
    });
    let series: Vec<BarSeries> = series.collect();
    let told = series.iter().map(|series| {
        let values = columns
            .iter()
            .zip(&series.bars)
            .filter_map(|(column, bar)| Some(format!("{column} {}", percent(bar.as_ref()?.value))));
        format!("{}: {}.", series.name, values.collect::<Vec<_>>().join(", "))
    });
    let chart = BarChart {
        title: "Accuracy by attack".into(),
        description: told.collect::<Vec<_>>().join(" "),
        y: format!("Accuracy, N = {}; whiskers: 95 % intervals", grouped(first.n)),
        groups: columns.clone(),
        series,
        reference: classes.map(|classes| ("chance".to_string(), 1.0 / classes.max(1) as f64)),
    };
    format!("<figure class=\"card wide\">{}</figure>\n", chart.to_inline_svg())
}

fn evaluation_table(group: &[(usize, &RunReport, &Evaluation)]) -> String {
    let Some((_, _, first)) = group.first() else {
        return String::new();
    };
    let pair = if let [(_, _, a), (_, _, b)] = group {
        compare::differences(a, b)
    } else {
        Vec::new()
    };
    let data = &first.dataset;
    let caption = format!(
        "{}, {} images: N = {} · {} ε = {} · seed of the attacks {} · 95 % intervals (Wilson){}{}",
        data.name,
        data.split.as_deref().unwrap_or("evaluated"),
        grouped(first.n),
        first.norm,
        first.epsilon,
        first.seed,
        match pair.first() {
            None => "",
            Some(difference) if difference.paired =>
                "; difference in percentage points, its interval of pairs (the same image in both) by Newcombe",
            Some(_) => "; difference in percentage points, its interval by Newcombe",
        },
        data.note.as_ref().map(|note| format!(" · {note}")).unwrap_or_default()
    );
    let checkpoints = group.iter().filter_map(|(_, run, evaluation)| {
        let said = run.checkpoint_of(evaluation);
        (!said.is_empty()).then(|| format!(" · {}: {said}", run.label))
    });
    let caption = caption + &checkpoints.collect::<String>();
    let mut html = format!(
        "<div class=\"scroll\">\n<table>\n<caption>{}</caption>\n<thead><tr><th scope=\"col\">Attack</th>",
        escape(&caption)
    );
    html += "<th scope=\"col\">Settings</th>";
    for (_, run, _) in group {
        let _ = write!(html, "<th scope=\"col\" class=\"number\">{}</th>", escape(&run.label));
    }
    if !pair.is_empty() {
        html += "<th scope=\"col\" class=\"number\">Difference</th>";
    }
    html += "</tr></thead>\n<tbody>\n";
    let difference = |row: usize| {
        pair.get(row).map(|difference| {
            let mark = if difference.is_clear() {
                ""
            } else {
                "<br/><span class=\"interval\">within its interval</span>"
            };
            format!(
                "<td class=\"number\">{} <span class=\"interval\">({} to {})</span>{mark}</td>",
                signed(difference.value),
                signed(difference.interval.low),
                signed(difference.interval.high)
            )
        })
    };
    for (row, attack) in first.attacks.iter().enumerate() {
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th><td>{}</td>",
            escape(&attack.name),
            escape(&attack.settings)
        );
        for (_, _, evaluation) in group {
            html += &evaluation
                .attacks
                .get(row)
                .map_or_else(|| "<td></td>".to_string(), |attack| figure(&attack.standing));
        }
        html += &difference(row).unwrap_or_default();
        html += "</tr>\n";
    }
    html += "<tr class=\"total\"><th scope=\"row\">worst case</th><td class=\"interval\">withstands every attack above</td>";
    for (_, _, evaluation) in group {
        html += &figure(&evaluation.worst_case);
    }
    html += &difference(first.attacks.len()).unwrap_or_default();
    html + "</tr>\n</tbody>\n</table>\n</div>\n"
}

fn figure(standing: &Standing) -> String {
    format!(
        "<td class=\"number\">{} <span class=\"interval\">({:.1} to {:.1})</span></td>",
        percent(standing.accuracy),
        100.0 * standing.interval.low,
        100.0 * standing.interval.high
    )
}
