//! An evaluation as a person reads it.

use crate::{
    cli::terminal::table,
    evaluation::{CurvePoint, Evaluation},
    wording::{duration, percent},
};

/// The result as a person reads it: every figure with its N, and every warning.
pub fn report(evaluation: &Evaluation) -> String {
    let mut rows = vec![
        ["attack", "accuracy", "95 % interval", "settings"]
            .map(str::to_string)
            .to_vec(),
    ];
    for attack in &evaluation.attacks {
        rows.push(vec![
            attack.name.clone(),
            percent(attack.accuracy()),
            attack.standing.interval.to_string(),
            if attack.method.is_whole() {
                String::new()
            } else {
                attack.settings.clone()
            },
        ]);
    }
    rows.push(vec![
        "worst case".into(),
        percent(evaluation.worst_case.accuracy),
        evaluation.worst_case.interval.to_string(),
    ]);
    let data = &evaluation.dataset;
    let mut text = format!(
        "{}\n\n{} · {} {} · N = {} · {} ε = {} · seed {} · {} · {}",
        table(&rows),
        evaluation.model,
        data.name,
        data.split.as_deref().unwrap_or("examples"),
        evaluation.n,
        evaluation.norm,
        evaluation.epsilon,
        evaluation.seed,
        evaluation.device,
        duration(evaluation.seconds)
    );
    for comparison in &evaluation.transfers {
        text += &format!(
            "\n{} beside {}: both fooled {}, only {} {}, only {} {}, neither {}",
            comparison.transfer,
            comparison.white_box,
            comparison.both,
            comparison.transfer,
            comparison.only_transfer,
            comparison.white_box,
            comparison.only_white_box,
            comparison.neither
        );
    }
    if let Some(surrogate) = &evaluation.surrogate {
        text += &format!("\nsurrogate: {surrogate}");
    }
    if let Some(curve) = curve_table(&evaluation.curve) {
        text += &format!("\n\n{curve}");
    }
    if let Some(remark) = &data.note {
        text += &format!("\ndata: {remark}");
    }
    for warning in &evaluation.warnings {
        text += &format!(
            "\n\nwarning: {}\n  {} (martlet explain {})",
            warning.headline(),
            warning.advice(),
            warning.anchor()
        );
    }
    text
}

/// Accuracy against ε as a table: a row for each radius, a column for each attack.
fn curve_table(curve: &[CurvePoint]) -> Option<String> {
    let names = curve.first()?.accuracy.0.iter().map(|(name, _)| name.clone());
    let mut rows = vec![["ε".to_string()].into_iter().chain(names).collect::<Vec<_>>()];
    for point in curve {
        let figures = point.accuracy.0.iter().map(|(_, accuracy)| percent(*accuracy));
        rows.push([point.epsilon.to_string()].into_iter().chain(figures).collect());
    }
    Some(table(&rows))
}

/// Each class in a row: its examples, those that stand under each attack, and what the last attack makes of it.
pub(super) fn class_table(evaluation: &Evaluation, names: &[String]) -> String {
    let attacks = evaluation.attacks.iter().map(|attack| attack.name.clone());
    let mut header = vec!["class".to_string(), "N".to_string()];
    header.extend(attacks);
    header.push("worst case".into());
    let last = evaluation.attacks.len() - 1;
    header.push(format!("taken for under {}", evaluation.attacks[last].name));
    let mut rows = vec![header];
    for class in evaluation.by_class(names.len()) {
        let share = |count: usize| match class.n {
            0 => "–".to_string(),
            n => percent(count as f64 / n as f64),
        };
        let mut row = vec![names[class.class].clone(), class.n.to_string()];
        row.extend(class.standing.iter().map(|count| share(*count)));
        row.push(share(class.worst_case));
        let taken = class.taken_for(last);
        row.push(taken.map_or(String::new(), |(other, count)| {
            format!("{} {}", share(count), names[other])
        }));
        rows.push(row);
    }
    format!("\n{}", table(&rows))
}
