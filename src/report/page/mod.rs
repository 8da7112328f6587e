//! One self-contained HTML page that shows a run, or several side by side.
//!
//! The page needs nothing beside itself and loads nothing: it can be sent as one file. It is made from what lies in the
//! runs' folders, so that the same folders give the same page.

mod recipe;
mod robustness;
mod training;
mod warnings;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use serde_json::Value;

pub use training::{accuracy_chart, loss_chart};

use super::{
    ReportError, chart, escape,
    gallery::{Attempt, AttemptOutcome, Gallery, Prediction},
    pictures,
    run::RunReport,
};
use crate::{files, runs::Run};

/// The page's style, without that of its charts.
const STYLE: &str = include_str!("page.css");

/// What a page shows.
#[derive(Debug, Clone)]
pub struct PageInput {
    /// Its heading.
    pub title: String,
    /// Sentences that say what came out, before all figures.
    pub conclusions: Vec<String>,
    /// What else belongs before the runs themselves.
    pub sections: Vec<Section>,
    /// The runs, side by side.
    pub runs: Vec<RunReport>,
    /// The number of classes, which tells what chance gets right.
    pub classes: Option<usize>,
    /// Examples to look at.
    pub gallery: Option<Gallery>,
}

/// A part of a page that its maker writes.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// What it says, under the table and the chart.
    pub paragraphs: Vec<String>,
    /// A table, its head first.
    pub table: Vec<Vec<String>>,
    /// A chart as inline SVG.
    pub chart: Option<String>,
}

/// Writes the page about one run into its folder, as `report.html`, and gives its path.
///
/// # Errors
/// When the run cannot be read or the page not written.
pub fn write_run_page(run: &Run) -> Result<PathBuf, ReportError> {
    let report = RunReport::read(run)?;
    let path = run.folder().join("report.html");
    let input = PageInput {
        title: format!("{}: {}", report.name, report.recipe.summary()),
        conclusions: Vec::new(),
        sections: Vec::new(),
        classes: report.classes(),
        runs: vec![report],
        gallery: None,
    };
    write_page(&path, &input)?;
    Ok(path)
}

/// Writes the page; a reader sees the old one or the new one, never a part.
///
/// # Errors
/// When a picture cannot be encoded or the file not written.
pub fn write_page(path: &Path, input: &PageInput) -> Result<(), ReportError> {
    Ok(files::save(path, page(input)?.as_bytes())?)
}

/// The page as text.
///
/// # Errors
/// When a picture cannot be encoded.
pub fn page(input: &PageInput) -> Result<String, ReportError> {
    let title = escape(&input.title);
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"/>\n\
         <title>{title}</title>\n<style>\n{STYLE}{}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n<p class=\"soft\">{}</p>\n</header>\n<main>\n",
        chart::STYLE,
        escape(&subtitle(&input.runs))
    );
    if !input.conclusions.is_empty() {
        let sentences: Vec<String> = input.conclusions.iter().map(|sentence| escape(sentence)).collect();
        let _ = writeln!(html, "<p class=\"lead\">{}</p>", sentences.join(" "));
    }
    for section in &input.sections {
        html += &own_section(section);
    }
    html += &robustness::robustness(input);
    html += &warnings::warnings(&input.runs);
    if let Some(gallery) = &input.gallery {
        html += &gallery_section(gallery)?;
    }
    html += &training::training(&input.runs);
    html += &recipe::recipes(&input.runs);
    html += &recipe::circumstances(&input.runs);
    let _ = write!(
        html,
        "</main>\n<footer class=\"soft\">Made by Martlet {} from the runs' own folders. Robust accuracy is meant under the attack and ε that stand beside it.</footer>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION")
    );
    Ok(html)
}

fn own_section(section: &Section) -> String {
    let mut html = format!("<section>\n<h2>{}</h2>\n", escape(&section.heading));
    if let [head, rows @ ..] = &section.table[..] {
        html += "<div class=\"scroll\"><table>\n<tr>";
        for cell in head {
            let _ = write!(html, "<th scope=\"col\">{}</th>", escape(cell));
        }
        html += "</tr>\n";
        for row in rows {
            html += "<tr>";
            for (place, cell) in row.iter().enumerate() {
                let tag = if place == 0 { "th scope=\"row\"" } else { "td" };
                let _ = write!(html, "<{tag}>{}</{}>", escape(cell), &tag[..2]);
            }
            html += "</tr>\n";
        }
        html += "</table></div>\n";
    }
    if let Some(chart) = &section.chart {
        let _ = writeln!(html, "<figure class=\"card wide\">{chart}</figure>");
    }
    for paragraph in &section.paragraphs {
        let _ = writeln!(html, "<p class=\"soft\">{}</p>", escape(paragraph));
    }
    html + "</section>\n"
}

fn subtitle(runs: &[RunReport]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut add = |part: String| {
        if !part.is_empty() && !parts.contains(&part) {
            parts.push(part);
        }
    };
    for run in runs {
        add(run.recipe.network.to_string());
        add(text(&run.identity["data"]["name"]).to_string());
        add(run.recipe.threat.to_string());
        add(format!("seed {}", run.recipe.seed));
        add(text(&run.identity["device"]["info"]["name"]).to_string());
        add(moment(text(&run.identity["created"]))
            .chars()
            .take("2026-11-22".len())
            .collect());
    }
    parts.join(" · ")
}

/// `2026-11-22T18:07:06.647Z` as people read it.
fn moment(text: &str) -> String {
    let whole = text.split('.').next().unwrap_or_default().trim_end_matches('Z');
    match whole.split_once('T') {
        Some((day, time)) => format!("{day} {} UTC", time.get(..5).unwrap_or(time)),
        None => whole.to_string(),
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn gallery_section(gallery: &Gallery) -> Result<String, ReportError> {
    let mut html = format!(
        "<section>\n<h2>What the attack changes</h2>\n<p class=\"soft\">{}</p>\n<div class=\"gallery\">\n",
        escape(&gallery.caption)
    );
    for entry in &gallery.entries {
        let _ = write!(html, "<div class=\"card\"><h3>{}</h3>", escape(&entry.title));
        for attempt in &entry.attempts {
            html += &attempt_figure(attempt)?;
        }
        html += "</div>\n";
    }
    Ok(html + "</div>\n</section>\n")
}

fn attempt_figure(attempt: &Attempt) -> Result<String, ReportError> {
    let class = match attempt.outcome {
        AttemptOutcome::WrongBefore => "wrong",
        AttemptOutcome::Fooled => "fooled",
        AttemptOutcome::Held => "held",
    };
    let said = |prediction: &Prediction| format!("{} ({:.1} %)", prediction.class, 100.0 * prediction.probability);
    let story = format!(
        "{}: {} → {}",
        attempt.model,
        said(&attempt.before),
        said(&attempt.after)
    );
    Ok(format!(
        "<figure><img alt=\"{}\" src=\"{}\" width=\"{}\" height=\"{}\"/><div class=\"parts\"><span>natural</span><span>perturbation</span><span>adversarial</span></div><figcaption>{} <span class=\"{class}\">{}</span></figcaption></figure>",
        escape(&format!(
            "Natural image, perturbation and adversarial image. {story}, {}.",
            attempt.outcome
        )),
        pictures::data_uri(&pictures::png(&attempt.triptych)?),
        attempt.triptych.width(),
        attempt.triptych.height(),
        escape(&story),
        attempt.outcome
    ))
}
