//! One self-contained HTML page that shows a run, or several side by side.
//!
//! The page needs nothing beside itself and loads nothing: it can be sent as one file. It is made from what lies in the
//! runs' folders, so that the same folders give the same page.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use image::ImageError;
use serde_json::Value;

use super::{
    chart::{self, Bar, BarChart, BarSeries, LineChart, Series, Unit},
    compare::{self, signed},
    gallery::{Attempt, AttemptOutcome, Gallery},
    markup::escape,
    pictures,
};
use crate::{
    engine::{Adjusted, Ended, EpochReport, Event, StepReport, WarningReport},
    evaluation::{Evaluation, Standing},
    nn::Mode,
    recipe::{Decay, Recipe, RecipeError, Schedule},
    runs::{Run, RunError, write_atomic},
    threat::Start,
};

/// The page's style, without that of its charts.
const STYLE: &str = include_str!("page.css");

/// Why a page could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A run could not be read, or the page not written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A run's recipe is damaged.
    #[error("the recipe of the run cannot be read: {source}; put it back from a copy: {path}")]
    Recipe {
        /// What is wrong with it.
        source: RecipeError,
        /// The file.
        path: PathBuf,
    },
    /// An evaluation's file is damaged.
    #[error(
        "expected an evaluation as `martlet evaluate` writes it, got {got}; evaluate again, or remove the file: {path}"
    )]
    Evaluation {
        /// What is wrong with it.
        got: String,
        /// The file.
        path: PathBuf,
    },
    /// A picture could not be encoded.
    #[error("a picture cannot be written as PNG: {0}")]
    Picture(#[from] ImageError),
}

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

/// What a run's folder tells.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// The run's name.
    pub name: String,
    /// What the page calls it: its defence, or its name.
    pub label: String,
    /// What was trained.
    pub recipe: Recipe,
    /// The same as it was written.
    pub recipe_toml: String,
    /// The content of `run.json`: device, self-check, data, sessions.
    pub identity: Value,
    /// The means over a few minibatches each.
    pub steps: Vec<StepReport>,
    /// The epochs.
    pub epochs: Vec<EpochReport>,
    /// What training warned of.
    pub warnings: Vec<WarningReport>,
    /// What a person changed on the way.
    pub adjustments: Vec<Adjusted>,
    /// How it ended.
    pub ending: Ending,
    /// Evaluations by the names of their files, without extension.
    pub evaluations: Vec<(String, Evaluation)>,
}

/// How a run's last session ended.
#[derive(Debug, Clone)]
pub enum Ending {
    /// All epochs are done.
    Finished(Ended),
    /// A person stopped it.
    Stopped(Ended),
    /// It failed, with this message.
    Failed(String),
    /// It is under way, or was killed.
    Open,
}

impl RunReport {
    /// Reads what a run's folder holds now; another process may be writing it.
    ///
    /// Events of a kind that this version does not know are passed over.
    ///
    /// # Errors
    /// When the folder, its recipe or one of its evaluations cannot be read.
    pub fn read(run: &Run) -> Result<Self, PageError> {
        let recipe = Recipe::from_toml(run.recipe_toml()).map_err(|source| PageError::Recipe {
            source,
            path: run.folder().join("recipe.toml"),
        })?;
        let mut report = Self {
            name: run.name().to_string(),
            label: recipe.defence.to_string(),
            recipe,
            recipe_toml: run.recipe_toml().to_string(),
            identity: run.identity().clone(),
            steps: Vec::new(),
            epochs: Vec::new(),
            warnings: Vec::new(),
            adjustments: Vec::new(),
            ending: Ending::Open,
            evaluations: evaluations(run.folder())?,
        };
        for line in run.metrics()? {
            if line["event"] == "failed" {
                report.ending = Ending::Failed(text(&line["error"]).to_string());
            } else if let Ok(event) = serde_json::from_value(line) {
                report.take(event);
            }
        }
        Ok(report)
    }

    /// The number of classes, where the run's folder tells it.
    pub fn classes(&self) -> Option<usize> {
        let classes = self.identity["data"]["classes"].as_u64()?;
        usize::try_from(classes).ok()
    }

    /// Adds one event.
    pub fn take(&mut self, event: Event) {
        match event {
            Event::Step(step) => self.steps.push(step),
            Event::Epoch(epoch) => self.epochs.push(epoch),
            Event::Warning(warning) => self.warnings.push(warning),
            Event::Finished(ended) => self.ending = Ending::Finished(ended),
            Event::Stopped(ended) => self.ending = Ending::Stopped(ended),
            Event::Adjusted(adjusted) => self.adjustments.push(adjusted),
            Event::Started(_) | Event::Evaluating(_) => {}
        }
    }
}

/// The evaluations in a run's folder, in the order of their names.
fn evaluations(folder: &Path) -> Result<Vec<(String, Evaluation)>, PageError> {
    let entries = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("evaluation-"))
        })
        .collect();
    files.sort();
    let mut found = Vec::new();
    for path in files {
        let damaged = |got: String| PageError::Evaluation {
            got,
            path: path.clone(),
        };
        let bytes = fs::read(&path).map_err(|error| damaged(error.to_string()))?;
        let evaluation = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        found.push((
            path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            evaluation,
        ));
    }
    Ok(found)
}

/// Writes the page about one run into its folder, as `report.html`, and gives its path.
///
/// # Errors
/// When the run cannot be read or the page not written.
pub fn write_run_page(run: &Run) -> Result<PathBuf, PageError> {
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
pub fn write_page(path: &Path, input: &PageInput) -> Result<(), PageError> {
    Ok(write_atomic(path, page(input)?.as_bytes())?)
}

/// The page as text.
///
/// # Errors
/// When a picture cannot be encoded.
pub fn page(input: &PageInput) -> Result<String, PageError> {
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
    html += &robustness(input);
    html += &warnings(&input.runs);
    if let Some(gallery) = &input.gallery {
        html += &gallery_section(gallery)?;
    }
    html += &training(&input.runs);
    html += &recipes(&input.runs);
    html += &circumstances(&input.runs);
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

/// A share as per cent with one decimal.
fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A whole number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_string();
    for start in (first..digits.len()).step_by(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text += &digits[start..start + 3];
    }
    text
}

/// A number of things: `1 epoch`, `2 epochs`.
fn counted(number: usize, one: &str, more: &str) -> String {
    format!("{} {}", grouped(number as u64), if number == 1 { one } else { more })
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// The evaluations: those that fit together in one chart and one table, the others one by one.
fn robustness(input: &PageInput) -> String {
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
        y: format!("Accuracy, N = {}; whiskers: 95 % intervals", grouped(first.n as u64)),
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
        grouped(first.n as u64),
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

/// A warning as the page shows it: one of a kind, with everything that it was raised by.
struct Told {
    kind: String,
    advice: String,
    /// What was seen, and in which runs.
    seen: Vec<(String, Vec<String>)>,
}

/// Every warning of every run; none is left out or hidden.
fn warnings(runs: &[RunReport]) -> String {
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

fn gallery_section(gallery: &Gallery) -> Result<String, PageError> {
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

fn attempt_figure(attempt: &Attempt) -> Result<String, PageError> {
    let class = match attempt.outcome {
        AttemptOutcome::WrongBefore => "wrong",
        AttemptOutcome::Fooled => "fooled",
        AttemptOutcome::Held => "held",
    };
    let said = |prediction: &super::gallery::Prediction| {
        format!("{} ({:.1} %)", prediction.class, 100.0 * prediction.probability)
    };
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

/// Curves of the training.
fn training(runs: &[RunReport]) -> String {
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
                grouped(epoch.n as u64),
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

/// A table with a column for each run.
fn side_by_side(runs: &[RunReport], rows: &[(&str, Vec<String>)]) -> String {
    let mut html = "<div class=\"scroll\">\n<table>\n".to_string();
    if runs.len() > 1 {
        html += "<thead><tr><th scope=\"col\"></th>";
        for run in runs {
            let _ = write!(html, "<th scope=\"col\">{}</th>", escape(&run.label));
        }
        html += "</tr></thead>\n";
    }
    html += "<tbody>\n";
    for (name, cells) in rows
        .iter()
        .filter(|(_, cells)| cells.iter().any(|cell| !cell.is_empty()))
    {
        let differs = cells.windows(2).any(|pair| pair[0] != pair[1]);
        let _ = write!(
            html,
            "<tr{}><th scope=\"row\">{name}</th>",
            if differs { " class=\"differs\"" } else { "" }
        );
        for cell in cells {
            let _ = write!(html, "<td>{}</td>", escape(cell));
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table>\n</div>\n"
}

fn recipes(runs: &[RunReport]) -> String {
    let row = |cell: &dyn Fn(&Recipe) -> String| runs.iter().map(|run| cell(&run.recipe)).collect::<Vec<_>>();
    let rows = [
        ("Defence", row(&|recipe| recipe.defence.to_string())),
        ("Network", row(&|recipe| recipe.network.to_string())),
        ("Threat", row(&|recipe| recipe.threat.to_string())),
        ("Training attack", row(&training_attack)),
        (
            "Length",
            row(&|recipe| {
                format!(
                    "{}, minibatches of {}",
                    counted(recipe.epochs, "epoch", "epochs"),
                    recipe.batch_size
                )
            }),
        ),
        ("Optimiser", row(&optimiser)),
        ("Learning rate", row(&learning_rate)),
        ("Warm-up", row(&warm_up)),
        ("Augmentation", row(&augmentation)),
        ("Best checkpoint", row(&selection)),
        ("Seed", row(&|recipe| recipe.seed.to_string())),
    ];
    let mut html = "<section>\n<h2>Recipe</h2>\n".to_string();
    if runs.len() > 1 {
        html += "<p class=\"soft\">Rows that differ are marked.</p>\n";
    }
    html += &side_by_side(runs, &rows);
    for run in runs {
        let _ = writeln!(
            html,
            "<details><summary>Whole recipe of {} as TOML</summary><pre>{}</pre></details>",
            escape(&run.name),
            escape(run.recipe_toml.trim_end())
        );
    }
    html + "</section>\n"
}

fn training_attack(recipe: &Recipe) -> String {
    if !recipe.defence.attacks() {
        return "none".into();
    }
    let start = match recipe.attack.start {
        Start::Natural => "from the natural image",
        Start::Uniform => "from a uniform start",
        Start::Gaussian => "from the image with a little Gaussian noise",
    };
    let mode = match recipe.attack.mode {
        Mode::Train => "train",
        Mode::Eval => "evaluation",
    };
    format!(
        "PGD, {} of {}, {start}, network in {mode} mode",
        counted(recipe.attack.steps, "step", "steps"),
        recipe.attack.step_size
    )
}

fn optimiser(recipe: &Recipe) -> String {
    let optimiser = &recipe.optimiser;
    let mut text = format!("SGD, momentum {}", optimiser.momentum);
    if optimiser.nesterov {
        text += " (Nesterov)";
    }
    let decay = match optimiser.decay {
        Decay::All => "all parameters",
        Decay::Weights => "weights alone",
    };
    let _ = write!(text, ", weight decay {} on {decay}", optimiser.weight_decay);
    if let Some(clip) = optimiser.clip_gradient {
        let _ = write!(text, ", gradient clipped at {clip}");
    }
    text
}

fn learning_rate(recipe: &Recipe) -> String {
    let rate = recipe.optimiser.learning_rate;
    match &recipe.schedule {
        Schedule::Constant => format!("{rate}, constant"),
        Schedule::MultiStep { milestones, gamma } => format!("{rate}, times {gamma} from epochs {milestones:?} on"),
        Schedule::Cosine => format!("{rate}, falling as a cosine to 0"),
        Schedule::Cyclic { peak } => format!("rising to {rate} at {} of the run, then falling to 0", percent(*peak)),
    }
}

fn warm_up(recipe: &Recipe) -> String {
    let warm = &recipe.warm_up;
    let mut parts = Vec::new();
    if warm.natural_epochs > 0 {
        parts.push(format!(
            "{} without attack",
            counted(warm.natural_epochs, "epoch", "epochs")
        ));
    }
    if warm.epsilon_epochs > 0.0 {
        parts.push(format!(
            "ε rises over {} {}",
            warm.epsilon_epochs,
            if warm.epsilon_epochs == 1.0 { "epoch" } else { "epochs" }
        ));
    }
    if parts.is_empty() {
        "none".into()
    } else {
        parts.join(", ")
    }
}

fn augmentation(recipe: &Recipe) -> String {
    let augmentation = &recipe.data.augmentation;
    match (augmentation.pad, augmentation.flip) {
        (0, false) => "none".into(),
        (0, true) => "mirrored at random".into(),
        (pad, flip) => format!(
            "padded by {pad} and cropped{}",
            if flip { ", mirrored at random" } else { "" }
        ),
    }
}

fn selection(recipe: &Recipe) -> String {
    let attack = recipe.evaluation.attacks.last().map_or("", String::as_str);
    let split = if recipe.data.held_out == 0 {
        "the test set, which flatters the result"
    } else {
        "held-out images"
    };
    format!("highest accuracy under {attack} on {split}")
}

fn circumstances(runs: &[RunReport]) -> String {
    let row = |cell: &dyn Fn(&RunReport) -> String| runs.iter().map(cell).collect::<Vec<_>>();
    let rows = [
        ("Run", row(&|run| run.name.clone())),
        ("Begun", row(&|run| moment(text(&run.identity["created"])))),
        ("State", row(&state)),
        ("Device", row(&device)),
        ("Self-check", row(&self_check)),
        ("Data", row(&data)),
        (
            "Data fingerprint",
            row(&|run| text(&run.identity["data"]["fingerprint"]).to_string()),
        ),
        ("Martlet", row(&|run| text(&run.identity["martlet"]).to_string())),
    ];
    format!(
        "<section>\n<h2>Where it ran</h2>\n{}</section>\n",
        side_by_side(runs, &rows)
    )
}

fn state(run: &RunReport) -> String {
    let sessions = run.identity["sessions"].as_array().map_or(0, Vec::len);
    let resumed = if sessions > 1 {
        format!(", in {sessions} sessions")
    } else {
        String::new()
    };
    let ended = |how: &str, ended: &Ended| {
        let best = ended
            .best
            .map(|best| format!("; best epoch {} ({})", best.epoch, percent(best.accuracy)));
        format!(
            "{how} after {} and {}, last session {}{resumed}{}",
            counted(ended.epochs, "epoch", "epochs"),
            counted(ended.total_steps, "minibatch", "minibatches"),
            duration(ended.clock.seconds),
            best.unwrap_or_default()
        )
    };
    match &run.ending {
        Ending::Finished(end) => ended("finished", end),
        Ending::Stopped(end) => ended("stopped", end),
        Ending::Failed(_) => format!("stopped early by an error{resumed}"),
        Ending::Open => format!("not finished{resumed}"),
    }
}

fn device(run: &RunReport) -> String {
    let sessions = run.identity["sessions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let devices = sessions
        .iter()
        .map(|session| &session["device"])
        .chain([&run.identity["device"]]);
    let mut names: Vec<String> = Vec::new();
    for device in devices {
        let info = &device["info"];
        let name = format!(
            "{} ({}, {})",
            text(&info["name"]),
            text(&info["api"]),
            text(&info["driver"])
        );
        if !text(&info["name"]).is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names.join("; ")
}

fn self_check(run: &RunReport) -> String {
    let verdict = &run.identity["device"]["self_check"];
    let comparisons = verdict["worst"].as_array().map(Vec::as_slice).unwrap_or_default();
    let worst = comparisons.first().map(|worst| {
        let difference = worst["relative_difference"].as_f64().unwrap_or(f64::NAN);
        format!(
            "; worst: {}, relative difference {difference:.1e}",
            text(&worst["name"])
        )
    });
    let worst = worst.unwrap_or_default();
    match verdict["passed"].as_bool() {
        Some(true) if comparisons.is_empty() => "the processor, the reference itself".into(),
        Some(true) => format!("agrees with the CPU in all {} comparisons{worst}", comparisons.len()),
        Some(false) => format!("DISAGREES with the CPU{worst}"),
        None => String::new(),
    }
}

fn data(run: &RunReport) -> String {
    let data = &run.identity["data"];
    let mut text_of = text(&data["name"]).to_string();
    if let Some(examples) = data["examples"].as_u64() {
        let _ = write!(text_of, ", {} training images", grouped(examples));
    }
    if let Some(evaluated) = data["evaluated"].as_u64() {
        let _ = write!(text_of, ", {} {} images", grouped(evaluated), text(&data["split"]));
    }
    if let Some(note) = data["note"].as_str() {
        let _ = write!(text_of, " ({note})");
    }
    text_of
}
