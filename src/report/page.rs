//! One self-contained HTML page about a run, or about several side by side.

use std::{fmt::Write, path::Path};

use serde_json::Value;

use super::chart::{Chart, Series};
use crate::{
    evaluation::Evaluation,
    runs::{Run, RunError, write_atomic},
};

/// A picture with its caption.
pub struct Picture {
    /// The picture as a data URI, such as [`super::pictures::data_uri`] makes.
    pub uri: String,
    /// What it shows.
    pub caption: String,
}

/// A run as the page shows it.
pub struct RunReport {
    /// What was trained, in a few words.
    pub name: String,
    /// The run's recipe as text.
    pub recipe: String,
    /// The run's identity: device, self-check, data.
    pub identity: Value,
    /// Its events.
    pub metrics: Vec<Value>,
    /// Its evaluation, where it was evaluated.
    pub evaluation: Option<Evaluation>,
    /// Pictures of its adversarial examples: natural, perturbation, adversarial.
    pub gallery: Vec<Picture>,
}

impl RunReport {
    /// What the page needs of a run's folder.
    ///
    /// # Errors
    /// When the metrics cannot be read.
    pub fn of(run: &Run, name: &str, evaluation: Option<Evaluation>, gallery: Vec<Picture>) -> Result<Self, RunError> {
        Ok(Self {
            name: name.to_string(),
            recipe: run.recipe_toml().to_string(),
            identity: run.identity().clone(),
            metrics: run.metrics()?,
            evaluation,
            gallery,
        })
    }

    fn epochs(&self) -> impl Iterator<Item = &Value> {
        self.metrics.iter().filter(|event| event["event"] == "epoch")
    }
}

/// Text that means itself in HTML and SVG.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Writes the page; it appears whole or not at all.
///
/// # Errors
/// When the file cannot be written.
pub fn write_page(path: &Path, title: &str, runs: &[RunReport]) -> Result<(), RunError> {
    write_atomic(path, page(title, runs).as_bytes())
}

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1d2330; --quiet: #5b6475; --ground: #ffffff; --panel: #f4f6f9; --rule: #d9dee7; --warn: #fff3dc; --warn-rule: #e69f00 }
@media (prefers-color-scheme: dark) { :root { --ink: #e7eaf0; --quiet: #a3adbd; --ground: #14171d; --panel: #1d222b; --rule: #343c49; --warn: #33290f; --warn-rule: #e69f00 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--ground); max-width: 1180px; margin: 2rem auto; padding: 0 1.25rem }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.2rem; margin-top: 2.2rem } h3 { font-size: 1rem; margin: 1.2rem 0 .4rem }
p.lead, caption, .quiet { color: var(--quiet) }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums } caption { text-align: left; padding-bottom: .4rem }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--rule); text-align: right } th:first-child, td:first-child { text-align: left }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(360px, 1fr)); gap: 1rem } .chart { background: var(--panel); border-radius: 8px; padding: .5rem; width: 100%; height: auto; box-sizing: border-box }
.chart text { fill: var(--ink); font: 12px system-ui, sans-serif } .chart .title { font-weight: 600; font-size: 14px } .chart .tick { fill: var(--quiet) } .chart .grid { stroke: var(--rule) }
.warning { background: var(--warn); border-left: 4px solid var(--warn-rule); padding: .5rem .9rem; margin: .5rem 0; border-radius: 0 6px 6px 0 }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: .8rem } figure { margin: 0; background: var(--panel); border-radius: 8px; padding: .6rem } figure img { width: 100%; image-rendering: pixelated } figcaption { font-size: .85rem; color: var(--quiet) }
pre { background: var(--panel); padding: .8rem; overflow-x: auto; border-radius: 8px; font-size: .85rem } summary { cursor: pointer }
";

/// The page as text.
pub fn page(title: &str, runs: &[RunReport]) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body><h1>{title}</h1>",
        title = escape(title)
    );
    let names: Vec<String> = runs.iter().map(|run| escape(&run.name)).collect();
    let _ = write!(html, "<p class=\"lead\">{}</p>", names.join(" beside "));
    comparison(&mut html, runs);
    curves(&mut html, runs);
    warnings(&mut html, runs);
    for run in runs.iter().filter(|run| !run.gallery.is_empty()) {
        let _ = write!(
            html,
            "<h2>Examples that fool {}</h2><p class=\"quiet\">Natural image, perturbation (blue darker, orange brighter, enlarged to the full range), adversarial image.</p><div class=\"gallery\">",
            escape(&run.name)
        );
        for picture in &run.gallery {
            let caption = escape(&picture.caption);
            let _ = write!(
                html,
                "<figure><img src=\"{}\" alt=\"{caption}\"><figcaption>{caption}</figcaption></figure>",
                picture.uri
            );
        }
        html.push_str("</div>");
    }
    html.push_str("<h2>How it was made</h2>");
    for run in runs {
        let device = &run.identity["device"];
        let data = &run.identity["data"];
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let check = match device["self_check"]["passed"].as_bool() {
            Some(true) => "passed",
            Some(false) => "FAILED: its results are not to be trusted",
            None => "not known",
        };
        let _ = write!(html, "<h3>{}</h3><table>", escape(&run.name));
        for (key, value) in [
            (
                "Device",
                format!(
                    "{} ({}, {})",
                    text(&device["info"]["name"]),
                    text(&device["info"]["api"]),
                    text(&device["info"]["driver"])
                ),
            ),
            ("Self-check", check.to_string()),
            (
                "Data",
                format!(
                    "{}, {} training examples, fingerprint {}",
                    text(&data["name"]),
                    data["examples"],
                    text(&data["fingerprint"])
                ),
            ),
            ("Martlet", text(&run.identity["martlet"])),
            ("Begun", text(&run.identity["created"])),
        ] {
            let _ = write!(html, "<tr><td>{key}</td><td>{}</td></tr>", escape(&value));
        }
        let _ = write!(
            html,
            "</table><details><summary>Recipe</summary><pre>{}</pre></details>",
            escape(&run.recipe)
        );
    }
    html + "</body></html>\n"
}

/// The suites side by side, with every number that a figure depends on.
fn comparison(html: &mut String, runs: &[RunReport]) {
    let evaluated: Vec<(&RunReport, &Evaluation)> = runs
        .iter()
        .filter_map(|run| Some((run, run.evaluation.as_ref()?)))
        .collect();
    let Some((_, first)) = evaluated.first() else { return };
    let _ = write!(
        html,
        "<h2>Accuracy under attack</h2><table><caption>{} {} examples of {}, {} ε = {}; 95 % intervals (Wilson)</caption><tr><th>Attack</th><th>Steps</th><th>Step size</th><th>κ</th>",
        first.n,
        escape(first.dataset.split.as_deref().unwrap_or_default()),
        escape(&first.dataset.name),
        first.norm,
        first.epsilon
    );
    for (run, _) in &evaluated {
        let _ = write!(html, "<th>{}</th>", escape(&run.name));
    }
    html.push_str("</tr>");
    let cell = |standing: &crate::evaluation::Standing| {
        let interval = &standing.interval;
        format!(
            "<td>{:.1} % <span class=\"quiet\">({:.1} to {:.1})</span></td>",
            standing.accuracy * 100.0,
            interval.low * 100.0,
            interval.high * 100.0
        )
    };
    for attack in &first.attacks {
        let steps = if attack.steps > 0 {
            attack.steps.to_string()
        } else {
            String::new()
        };
        let step_size = attack.step_size.as_ref().map(ToString::to_string).unwrap_or_default();
        let kappa = attack.kappa.map(|kappa| kappa.to_string()).unwrap_or_default();
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{steps}</td><td>{step_size}</td><td>{kappa}</td>",
            escape(&attack.name)
        );
        for (_, evaluation) in &evaluated {
            html.push_str(
                &evaluation
                    .attack(&attack.name)
                    .map_or("<td></td>".into(), |own| cell(&own.standing)),
            );
        }
        html.push_str("</tr>");
    }
    html.push_str("<tr><td>worst case</td><td></td><td></td><td></td>");
    for (_, evaluation) in &evaluated {
        html.push_str(&cell(&evaluation.worst_case));
    }
    html.push_str("</tr></table>");
}

/// Accuracy by epoch and loss by minibatch.
fn curves(html: &mut String, runs: &[RunReport]) {
    let mut accuracy = Vec::new();
    let mut loss = Vec::new();
    let mut evaluated = String::new();
    for run in runs {
        let mut names: Vec<String> = Vec::new();
        for epoch in run.epochs() {
            evaluated = format!(
                "{} N = {}, ε = {}",
                epoch["split"].as_str().unwrap_or_default(),
                epoch["n"],
                epoch["epsilon"].as_str().unwrap_or_default()
            );
            for name in epoch["accuracy"].as_object().into_iter().flat_map(|map| map.keys()) {
                if name != "worst-case" && !names.contains(name) {
                    names.push(name.clone());
                }
            }
        }
        for name in names {
            let points = run
                .epochs()
                .filter_map(|e| Some((e["epoch"].as_f64()?, e["accuracy"][&name].as_f64()? * 100.0)));
            accuracy.push(Series {
                name: format!("{}: {name}", run.name),
                points: points.collect(),
            });
        }
        let steps = run.metrics.iter().filter(|event| event["event"] == "step");
        let points = steps.filter_map(|s| Some((s["total_steps"].as_f64()?, s["figures"]["loss"].as_f64()?)));
        loss.push(Series {
            name: run.name.clone(),
            points: points.collect(),
        });
    }
    if accuracy.iter().all(|series| series.points.is_empty()) {
        return;
    }
    let accuracy = Chart {
        title: format!("Accuracy after each epoch ({evaluated})"),
        x_label: "epoch".into(),
        y_label: "accuracy, %".into(),
        series: accuracy,
        y_range: Some((0.0, 100.0)),
    };
    let loss = Chart {
        title: "Training loss (each defence its own)".into(),
        x_label: "minibatch".into(),
        y_label: "loss".into(),
        series: loss,
        y_range: None,
    };
    let _ = write!(
        html,
        "<h2>Training</h2><div class=\"charts\">{}{}</div>",
        accuracy.to_svg(),
        loss.to_svg()
    );
}

fn warnings(html: &mut String, runs: &[RunReport]) {
    let mut found = String::new();
    for run in runs {
        let mut add = |message: &str, advice: &str| {
            let _ = write!(
                found,
                "<div class=\"warning\"><strong>{}</strong>: {}<br>{}</div>",
                escape(&run.name),
                escape(message),
                escape(advice)
            );
        };
        for event in run.metrics.iter().filter(|event| event["event"] == "warning") {
            add(
                event["message"].as_str().unwrap_or_default(),
                event["advice"].as_str().unwrap_or_default(),
            );
        }
        for warning in run.evaluation.iter().flat_map(|evaluation| &evaluation.warnings) {
            add(&warning.headline(), warning.advice());
        }
    }
    if !found.is_empty() {
        let _ = write!(html, "<h2>Warnings</h2>{found}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Every tag that is opened is closed in the right order.
    fn check_tags(html: &str) {
        let mut open: Vec<String> = Vec::new();
        for tag in html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap()) {
            let name: String = tag
                .trim_start_matches('/')
                .chars()
                .take_while(|c| c.is_alphanumeric())
                .collect();
            if tag.starts_with('!') || tag.ends_with('/') || ["meta", "img", "br"].contains(&name.as_str()) {
                continue;
            }
            if tag.starts_with('/') {
                assert_eq!(open.pop().as_deref(), Some(name.as_str()), "closed out of order");
            } else {
                open.push(name);
            }
        }
        assert!(open.is_empty(), "left open: {open:?}");
    }

    #[test]
    fn a_page_is_well_formed_whole_and_escapes_what_it_is_given() {
        let run = RunReport {
            name: "MART <b>&\"bold\"".into(),
            recipe: "seed = 1 # <script>".into(),
            identity: json!({ "device": { "info": { "name": "CPU", "api": "CPU", "driver": "x" }, "self_check": { "passed": true } } }),
            metrics: vec![
                json!({ "event": "step", "total_steps": 1, "figures": { "loss": 2.3 } }),
                json!({ "event": "epoch", "epoch": 1, "n": 10, "split": "held-out", "epsilon": "0.3", "accuracy": { "natural": 0.5, "pgd-20": 0.25 } }),
                json!({ "event": "warning", "message": "<odd>", "advice": "look" }),
            ],
            evaluation: None,
            gallery: vec![Picture {
                uri: "data:image/png;base64,AA==".into(),
                caption: "7 → 1".into(),
            }],
        };
        let html = page("Report", &[run]);
        check_tags(&html);
        assert!(!html.contains("<script") && !html.contains("<odd>") && !html.contains("<b>"));
        assert!(!html.contains("http"), "a page must not reach outside itself");
        for part in ["Warnings", "Training", "Recipe", "7 → 1", "held-out N = 10, ε = 0.3"] {
            assert!(html.contains(part), "{part} is missing");
        }
    }
}
