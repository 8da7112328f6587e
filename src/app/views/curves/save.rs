//! The curves as a figure, as numbers.

use egui_plot::LineStyle;

use super::{Curves, choice, labelled, title};
use crate::{
    app::{export, kinds::Lower, series::Series, shown::Shown, state::State},
    report::{
        chart::Unit,
        figure::{Figure, Line, Part, Plot},
    },
    wording::attack_name,
};

/// Points of a line at most: as many as a figure has columns for.
const COLUMNS: usize = 400;

/// Every point of every curve: run, curve, epoch, value.
pub fn csv(state: &State) -> String {
    let mut text = "run,curve,epoch,value\n".to_string();
    for run in state.shown.iter().filter(|shown| shown.visible) {
        for (name, series) in &run.curves {
            for [x, y] in series.points() {
                text += &format!("{},{name},{x},{y}\n", run.name);
            }
        }
    }
    text
}

impl Curves {
    /// Both plots as they stand in the window, with what a reader must know of the runs.
    pub fn figure(&mut self, state: &State) -> Figure {
        let runs: Vec<&Shown> = state.shown.iter().filter(|shown| shown.visible).collect();
        let log_x = state.settings.logarithmic[0];
        let plot = |y: &str, unit, log_y, lines, marks| Plot {
            y: y.to_string(),
            x: "epochs".to_string(),
            unit,
            logarithmic: [log_x, log_y],
            height: 250.0,
            lines,
            marks,
        };
        let (accuracy, marks) = self.accuracy_lines(state, &runs);
        let lower = self.lower_lines(state, &runs);
        let unit = match self.lower {
            Lower::Misclassified => Unit::Share,
            _ => Unit::Number,
        };
        let parts = vec![
            Part::Plot(plot("Accuracy", Unit::Share, false, accuracy, marks)),
            Part::Plot(plot(
                self.lower.name(),
                unit,
                state.settings.logarithmic[1],
                lower,
                Vec::new(),
            )),
        ];
        let title = match &runs[..] {
            [run] => format!("{} ({})", run.name, run.recipe.defence),
            runs => format!("{} runs while they trained", runs.len()),
        };
        Figure {
            title,
            parts,
            caption: runs.iter().map(|run| about(run)).collect(),
            look: export::look(state.dark()),
        }
    }

    fn accuracy_lines(&mut self, state: &State, runs: &[&Shown]) -> (Vec<Line>, Vec<(f64, String)>) {
        let dark = state.dark();
        let several = runs.len() > 1;
        let (mut lines, mut marks) = (Vec::new(), Vec::new());
        for shown in runs {
            let title = title(shown, runs);
            for (curve, colour) in choice::training(shown, several, dark) {
                let Some(series) = shown.curves.get(curve.key) else {
                    continue;
                };
                let series = self.smoothed(state, shown, curve.key, series);
                let name = labelled(&title, curve.label);
                let line = line(Some(name), series, colour, curve.width, (curve.style)());
                lines.push(Line { opacity: 0.7, ..line });
            }
            for evaluated in choice::evaluated(shown, several, dark) {
                let name = labelled(&title, attack_name(evaluated.attack));
                let line = line(Some(name), evaluated.series, evaluated.colour, 2.2, evaluated.style);
                lines.push(Line {
                    marker: Some(export::marker(evaluated.attack)),
                    ..line
                });
            }
            if let Some(best) = shown.best() {
                let name = if several { "" } else { "best epoch" };
                marks.push((shown.epochs_at(best.total_steps), name.to_string()));
            }
        }
        (lines, marks)
    }

    fn lower_lines(&mut self, state: &State, runs: &[&Shown]) -> Vec<Line> {
        let several = runs.len() > 1;
        let mut lines = Vec::new();
        for shown in runs {
            let title = title(shown, runs);
            for (curve, colour) in choice::below(self.lower, shown, several, state.dark()) {
                let Some(series) = shown.curves.get(curve.key) else {
                    continue;
                };
                if state.settings.smoothing > 0.0 {
                    let ghost = line(None, series, colour, 1.0, LineStyle::Solid);
                    lines.push(Line { opacity: 0.22, ..ghost });
                }
                let series = self.smoothed(state, shown, curve.key, series);
                let name = labelled(&title, curve.label);
                lines.push(line(Some(name), series, colour, curve.width, (curve.style)()));
            }
        }
        lines
    }

    /// A curve as the window shows it: averaged, where a person wants that.
    fn smoothed<'a>(&'a mut self, state: &State, shown: &Shown, key: &str, series: &'a Series) -> &'a Series {
        let smoothing = state.settings.smoothing;
        if smoothing == 0.0 {
            return series;
        }
        let key = (shown.folder.clone(), key.to_string());
        self.smooth.entry(key).or_default().of(series, smoothing)
    }
}

fn line(name: Option<String>, series: &Series, colour: egui::Color32, width: f32, style: LineStyle) -> Line {
    Line {
        name,
        points: series.visible(f64::NEG_INFINITY, f64::INFINITY, COLUMNS),
        colour: export::colour(colour),
        opacity: 1.0,
        width,
        stroke: export::stroke(style),
        marker: None,
        band: Vec::new(),
    }
}

/// What a reader must know of a run's curves.
fn about(shown: &Shown) -> String {
    let recipe = &shown.recipe;
    let threat = &recipe.threat;
    let measured = match shown.epochs.last() {
        Some(epoch) if !epoch.accuracy.is_empty() => format!(
            "accuracies after each epoch on {} {} images at ε = {} ({})",
            epoch.n, epoch.split, epoch.epsilon, threat.norm
        ),
        _ => format!("trained at ε = {} ({})", threat.epsilon, threat.norm),
    };
    format!(
        "{}: {}, {}, {}, seed {}; {measured}.",
        shown.name, recipe.defence, recipe.network, recipe.data.source, recipe.seed
    )
}
