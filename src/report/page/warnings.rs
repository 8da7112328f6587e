//! What makes the runs' figures doubtful.

use std::fmt::Write;

use serde_json::Value;

use super::text;
use crate::report::{
    escape,
    run::{Ending, RunReport},
};

/// A warning as the page shows it: one of a kind, with everything that it was raised by.
struct Told {
    kind: String,
    advice: String,
    /// What was seen, and in which runs.
    seen: Vec<(String, Vec<String>)>,
}

/// Every warning of every run; none is left out or hidden.
pub fn warnings(runs: &[RunReport]) -> String {
    let mut all: Vec<Told> = Vec::new();
    for run in runs {
        for (kind, message, advice) in warnings_of(run) {
            let place = all.iter().position(|told| told.kind == kind && told.advice == advice);
            let place = place.unwrap_or_else(|| {
                all.push(Told {
                    kind,
                    advice,
                    seen: Vec::new(),
                });
                all.len() - 1
            });
            let seen = &mut all[place].seen;
            match seen.iter_mut().find(|(known, _)| *known == message) {
                Some((_, about)) if about.contains(&run.label) => {}
                Some((_, about)) => about.push(run.label.clone()),
                None => seen.push((message, vec![run.label.clone()])),
            }
        }
    }
    if all.is_empty() {
        return String::new();
    }
    let evaluations = runs.iter().flat_map(|run| &run.evaluations);
    let attacks: Vec<&str> = evaluations
        .flat_map(|(_, evaluation)| &evaluation.attacks)
        .map(|a| a.name.as_str())
        .collect();
    let mut html = "<section>\n<h2>Warnings</h2>\n".to_string();
    for told in all {
        let _ = write!(html, "<div class=\"warning\" id=\"{}\">", escape(&told.kind));
        for (mut message, about) in told.seen {
            // A sentence begins with a capital, but the name of an attack keeps its own.
            if let Some(first) = message
                .get(..1)
                .filter(|_| !attacks.iter().any(|name| message.starts_with(*name)))
            {
                message.replace_range(..1, &first.to_uppercase());
            }
            let about = if runs.len() > 1 {
                format!(" ({})", about.join(", "))
            } else {
                String::new()
            };
            let _ = write!(html, "<p><strong>{}</strong>{}</p>", escape(&message), escape(&about));
        }
        if !told.advice.is_empty() {
            let _ = write!(html, "<p>{}</p>", escape(&told.advice));
        }
        html += "</div>\n";
    }
    html + "</section>\n"
}

/// Kind, message and advice of everything doubtful about a run.
fn warnings_of(run: &RunReport) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    let verdict = &run.identity["device"]["self_check"];
    if verdict["passed"] == Value::Bool(false) {
        let message = format!("{} does not compute what the CPU computes", text(&verdict["device"]));
        let advice = "Do not trust these figures. Update the driver, or use --device cpu.";
        all.push(("self-check".to_string(), message, advice.to_string()));
    }
    if let Ending::Failed(error) = &run.ending {
        all.push((
            "failed".to_string(),
            format!("training stopped early: {error}"),
            String::new(),
        ));
    }
    for warning in &run.warnings {
        let message = format!("epoch {}: {}", warning.epoch, warning.message);
        all.push((warning.kind.clone(), message, warning.advice.clone()));
    }
    for warning in run.evaluations.iter().flat_map(|(_, evaluation)| &evaluation.warnings) {
        all.push((
            warning.kind().to_string(),
            warning.headline(),
            warning.advice().to_string(),
        ));
    }
    all
}
