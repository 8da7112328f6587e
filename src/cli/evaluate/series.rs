//! Several models under one suite: each one's figures, their mean and their standard deviation.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{EvaluateArguments, Output, measure, note, open_device, report};
use crate::{
    cli::seeds::{Sample, columns, mean_and_deviation, summary},
    control::Control,
    evaluation::{Evaluation, Suite},
};

/// Measures every model that the arguments name.
pub(super) fn run(arguments: &EvaluateArguments, suite: &Suite, control: &Control) -> Result<()> {
    let json = Output::of(arguments.wanted.json.as_deref())?;
    let (device, _) = open_device(&arguments.device.device, false)?;
    let mut found: Vec<(PathBuf, Evaluation)> = Vec::new();
    for path in [&arguments.model.path].into_iter().chain(&arguments.more) {
        note(format!("{}:", path.display()));
        let mut own = arguments.clone();
        own.model.path.clone_from(path);
        let measured = measure(&own, suite, &device, control, Vec::new())
            .with_context(|| format!("the model cannot be measured: {}", path.display()))?;
        measured.keep()?;
        measured.forget_partial();
        found.push((path.clone(), measured.evaluation));
    }
    let samples: Vec<Sample> = found
        .iter()
        .map(|(path, evaluation)| sample(path, evaluation))
        .collect();
    let text = serde_json::to_string_pretty(&to_json(&found, &samples)?)?;
    json.deliver(&text, || {
        let each = found.iter().map(|(path, evaluation)| format!("{}\n{}\n", path.display(), report(evaluation)));
        let mut text: String = each.collect::<Vec<_>>().join("\n");
        text += &format!("\n{}", summary(&samples));
        let (_, first) = &found[0];
        if found.iter().any(|(_, other)| !comparable(first, other)) {
            text += "\nThese are not measured alike: the examples, ε or the norm differ, and the mean is of unlike figures.";
        }
        text
    })
}

/// Whether two figures are of the same examples in the same ball.
fn comparable(one: &Evaluation, other: &Evaluation) -> bool {
    one.dataset.fingerprint == other.dataset.fingerprint && one.epsilon == other.epsilon && one.norm == other.norm
}

fn sample(path: &std::path::Path, evaluation: &Evaluation) -> Sample {
    Sample {
        name: path.display().to_string(),
        accuracy: evaluation.accuracy.0.clone(),
    }
}

/// `{"models": [evaluation, …], "comparable": …, "mean": {attack: {"mean", "standard_deviation", "n"}}}`.
fn to_json(found: &[(PathBuf, Evaluation)], samples: &[Sample]) -> Result<Value> {
    let models = found.iter().map(|(path, evaluation)| {
        let mut value: Value = serde_json::from_str(&evaluation.to_json(false)?)?;
        value["path"] = json!(path);
        Ok(value)
    });
    let means = columns(samples).into_iter().map(|(attack, values)| {
        let (mean, deviation) = mean_and_deviation(&values);
        let value = json!({ "mean": mean, "standard_deviation": deviation, "n": values.len() });
        (attack.to_string(), value)
    });
    let means: serde_json::Map<String, Value> = means.collect();
    let comparable = found.iter().all(|(_, other)| comparable(&found[0].1, other));
    Ok(json!({ "models": models.collect::<Result<Vec<_>>>()?, "comparable": comparable, "mean": means }))
}
