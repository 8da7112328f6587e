//! Accuracy, loss and its terms, S−, learning rate: live, with earlier runs behind them.

mod choice;
mod plot;
mod save;

use std::collections::BTreeMap;

use egui::{Color32, ComboBox, RichText, Slider, Ui};
use egui_plot::{Corner, GridMark, Line, LineStyle, Points, VLine};

use self::{
    choice::Evaluated,
    plot::{Drawing, Drawn, log, plot, room, said, transformed},
    save::csv,
};
use super::View;
use crate::{
    app::{
        command::Order,
        export,
        kinds::{Curve, Lower},
        series::{Series, Smoothed},
        shown::Shown,
        state::State,
        theme,
    },
    wording::{attack_name, percent},
};

/// The curves view.
#[derive(Default)]
pub struct Curves {
    lower: Lower,
    smooth: BTreeMap<(std::path::PathBuf, String), Smoothed>,
    /// The epochs that the plots showed in the frame before.
    range: Option<[f64; 2]>,
    /// The share of its width that each plot's legend takes.
    room: [f64; 2],
}

impl View for Curves {
    fn name(&self) -> &'static str {
        "Curves"
    }

    fn about(&self) -> &'static str {
        "Accuracy and loss while training runs"
    }

    fn obey(&mut self, order: &Order, _state: &mut State) {
        if let Order::Lower(lower) = order {
            self.lower = *lower;
        }
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        self.controls_ui(ui, state);
        if state
            .shown
            .iter()
            .all(|shown| !shown.visible || shown.curves.is_empty())
        {
            ui.add_space(40.0);
            ui.vertical_centered(|ui| {
                ui.label(RichText::new("No curve yet").heading());
                ui.label("Press Start in the Train view, or open an earlier run in Runs.");
            });
            return;
        }
        let height = (ui.available_height() - 34.0).max(160.0);
        self.accuracy_ui(ui, state, height * 0.55);
        ui.horizontal_wrapped(|ui| {
            let name = ui.label("Below:");
            ComboBox::from_id_salt("lower")
                .selected_text(self.lower.name())
                .width(250.0)
                .show_ui(ui, |ui| {
                    for lower in Lower::ALL {
                        ui.selectable_value(&mut self.lower, lower, lower.name());
                    }
                })
                .response
                .labelled_by(name.id);
            if let Some(key) = key(state) {
                ui.weak(key);
            }
        });
        self.lower_ui(ui, state, ui.available_height() - 4.0);
    }
}

impl Curves {
    fn controls_ui(&mut self, ui: &mut Ui, state: &mut State) {
        ui.horizontal_wrapped(|ui| {
            let name = ui
                .label("Smoothing")
                .on_hover_text("An exponential average over the ghost of the raw curve");
            ui.add(Slider::new(&mut state.settings.smoothing, 0.0..=0.99).max_decimals(2))
                .labelled_by(name.id);
            ui.checkbox(&mut state.settings.logarithmic[0], "log x");
            ui.checkbox(&mut state.settings.logarithmic[1], "log y (below)");
            ui.menu_button("Save", |ui| {
                if let Some(form) = export::menu_ui(ui) {
                    let figure = self.figure(state);
                    state.save_figure(figure, "curves", form);
                }
                if ui.button("Numbers (CSV)…").clicked() {
                    state.save_as("curves", "csv", csv(state).into_bytes());
                    ui.close();
                }
            });
            ui.weak("drag: move · right drag: zoom into a box · double click: all");
        });
    }

    /// The last epoch, and where both plots end: each leaves the room that the larger legend takes.
    fn ends(&self, runs: &[&Shown]) -> [f64; 2] {
        let last = last(runs);
        [last, last / (1.0 - self.room[0].max(self.room[1]))]
    }

    fn accuracy_ui(&mut self, ui: &mut Ui, state: &State, height: f32) {
        let log_x = state.settings.logarithmic[0];
        let width = ui.available_width() as usize;
        let dark = state.dark();
        let runs: Vec<&Shown> = state.shown.iter().filter(|shown| shown.visible).collect();
        let several = runs.len() > 1;
        let mut drawn = Drawing::default();
        for shown in &runs {
            let title = title(shown, &runs);
            let own = theme::series(shown.colour, dark);
            for (curve, colour) in choice::training(shown, several, dark) {
                let faint = if several { colour } else { colour.gamma_multiply(0.85) };
                self.draw(&mut drawn, state, shown, curve, &title, faint, width, false);
            }
            for evaluated in choice::evaluated(shown, several, dark) {
                let Evaluated {
                    attack,
                    series,
                    colour,
                    style,
                } = evaluated;
                let split = shown.epochs.last().map_or("held-out", |epoch| epoch.split.as_str());
                let label = labelled(&title, &format!("{}, {split}", attack_name(attack)));
                let group = if several { title.clone() } else { label.clone() };
                if several {
                    drawn.name(&group, series, own, [log_x, false]);
                }
                let points = || transformed(series.points(), log_x, false);
                let line = Line::new(label.clone(), points()).color(colour).width(2.2).style(style);
                drawn.items.push(Drawn::Line(line.id(&group)));
                let (shape, _) = theme::marker(attack);
                drawn.read.push((label.clone(), series));
                let points = Points::new(label, points()).color(colour).radius(4.0).shape(shape);
                drawn.items.push(Drawn::Points(points.id(&group)));
            }
            if let Some(best) = shown.best() {
                let x = shown.epochs_at(best.total_steps);
                let name = if several { "" } else { "best epoch" };
                let line = VLine::new(name, log(x, log_x))
                    .color(own)
                    .style(LineStyle::dotted_loose());
                drawn.items.push(Drawn::Mark(line));
            }
            for adjusted in &shown.adjustments {
                let x = log(shown.epochs_at(adjusted.total_steps), log_x);
                drawn.items.push(Drawn::Mark(
                    VLine::new(adjusted.change.to_string(), x).color(Color32::GRAY),
                ));
            }
        }
        self.room[0] = room(&drawn, ui.available_width());
        let plot = plot(
            "accuracy",
            Corner::RightBottom,
            height,
            [log_x, false],
            self.ends(&runs),
        );
        let Drawing { items, raw, read, .. } = drawn;
        let plot = plot
            .include_y(0.0)
            .include_y(1.0)
            .y_axis_formatter(|mark: GridMark, _| format!("{:.0} %", 100.0 * mark.value))
            .label_formatter(move |hover| said(hover, [log_x, false], &raw, &read, percent));
        let shown = plot.show(ui, |plot_ui| {
            for item in items {
                item.add_to(plot_ui);
            }
        });
        theme::outline(ui, &shown);
        let bounds = shown.transform.bounds();
        let epochs = |x: f64| if log_x { 10f64.powf(x) } else { x };
        self.range = Some([epochs(bounds.min()[0]), epochs(bounds.max()[0])]);
    }

    fn lower_ui(&mut self, ui: &mut Ui, state: &State, height: f32) {
        let [log_x, log_y] = state.settings.logarithmic;
        let share = self.lower == Lower::Misclassified;
        let format = move |y: f64| {
            if share { percent(y) } else { format!("{y:.4}") }
        };
        let width = ui.available_width() as usize;
        let dark = state.dark();
        let runs: Vec<&Shown> = state.shown.iter().filter(|shown| shown.visible).collect();
        let several = runs.len() > 1;
        let mut drawn = Drawing::default();
        for shown in &runs {
            let title = title(shown, &runs);
            for (curve, colour) in choice::below(self.lower, shown, several, dark) {
                self.draw(&mut drawn, state, shown, curve, &title, colour, width, log_y);
            }
        }
        self.room[1] = room(&drawn, ui.available_width());
        let plot = plot(
            "lower",
            Corner::RightTop,
            height.max(80.0),
            [log_x, log_y],
            self.ends(&runs),
        );
        let Drawing { items, raw, read, .. } = drawn;
        let mut plot = plot.label_formatter(move |hover| said(hover, [log_x, log_y], &raw, &read, format));
        if share && !log_y {
            plot = plot
                .y_axis_formatter(|mark: GridMark, _| format!("{:.0} %", 100.0 * mark.value))
                .include_y(0.0);
        }
        let shown = plot.show(ui, |plot_ui| {
            for item in items {
                item.add_to(plot_ui);
            }
        });
        theme::outline(ui, &shown);
    }

    /// The raw curve as a ghost, and its average over it.
    #[expect(clippy::too_many_arguments, reason = "what to draw, and how: each is one thing")]
    fn draw<'a>(
        &mut self,
        drawn: &mut Drawing<'a>,
        state: &State,
        shown: &'a Shown,
        curve: &Curve,
        title: &str,
        colour: Color32,
        width: usize,
        log_y: bool,
    ) {
        let Some(series) = shown.curves.get(curve.key) else {
            return;
        };
        let log_x = state.settings.logarithmic[0];
        let label = labelled(title, curve.label);
        // Of several runs the legend names each once, or it would hide what it explains; what is hidden by that one name
        // has one id.
        let group = if title.is_empty() {
            label.clone()
        } else {
            title.to_string()
        };
        if group != label {
            drawn.name(
                &group,
                series,
                theme::series(shown.colour, state.dark()),
                [log_x, log_y],
            );
        }
        let [low, high] = self.range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
        let line = |label: &str, series: &Series, colour, width_of_line| {
            // Twice as many points as columns: beyond that nobody sees them.
            let points = transformed(&series.zoomed(low, high, width / 2), log_x, log_y);
            Line::new(label, points)
                .id(&group)
                .color(colour)
                .width(width_of_line)
                .style((curve.style)())
        };
        drawn.read.push((label.clone(), series));
        let smoothing = state.settings.smoothing;
        if smoothing == 0.0 {
            drawn.items.push(Drawn::Line(line(&label, series, colour, curve.width)));
            return;
        }
        let key = (shown.folder.clone(), curve.key.to_string());
        let smooth = self.smooth.entry(key).or_default().of(series, smoothing);
        let ghost = line("", series, colour.gamma_multiply(0.22), 1.0)
            .allow_hover(false)
            .style(LineStyle::Solid);
        drawn.items.push(Drawn::Line(ghost));
        drawn.items.push(Drawn::Line(line(&label, smooth, colour, curve.width)));
        drawn.raw.insert(label, series);
    }
}

/// The attacks of a run's evaluations with the names of their curves: natural first; last the worst case, which so often
/// equals another.
fn held_out(shown: &Shown) -> Vec<(&str, &String)> {
    let keys = shown.curves.keys();
    let mut attacks: Vec<(&str, &String)> = keys
        .filter_map(|key| Some((key.strip_prefix("held-out ")?, key)))
        .collect();
    attacks.sort_by_key(|(attack, _)| (*attack != "natural", *attack == "worst-case"));
    attacks
}

/// What the upper plot's lines and points stand for where several runs are drawn.
fn key(state: &State) -> Option<String> {
    let runs: Vec<&Shown> = state.shown.iter().filter(|shown| shown.visible).collect();
    let longest = runs.iter().max_by_key(|shown| held_out(shown).len())?;
    let attacks = held_out(longest)
        .into_iter()
        .filter(|(attack, _)| *attack != "worst-case");
    let words: Vec<String> = attacks
        .map(|(attack, _)| match (attack, theme::marker(attack)) {
            ("natural", (_, shape)) => format!("{shape} natural, dashed"),
            (attack, (_, shape)) => format!("{shape} {attack}"),
        })
        .collect();
    (runs.len() > 1 && !words.is_empty()).then(|| format!("Above: {} · thin: training", words.join(" · ")))
}

/// The last moment that any of the runs shows, in epochs.
fn last(runs: &[&Shown]) -> f64 {
    let curves = runs.iter().flat_map(|shown| shown.curves.values());
    let ends = curves.filter_map(|series| series.points().last());
    ends.fold(0.0, |last, point| last.max(point[0]))
}

/// What tells a run from the others beside it: nothing where it stands alone, its defence where no other is called the same,
/// else its name.
fn title(shown: &Shown, runs: &[&Shown]) -> String {
    let own = shown.recipe.defence.to_string();
    let same = runs.iter().filter(|run| run.recipe.defence.to_string() == own);
    match (runs.len(), same.count()) {
        (..=1, _) => String::new(),
        (_, 1) => own,
        _ => shown.name.clone(),
    }
}

fn labelled(title: &str, label: &str) -> String {
    if title.is_empty() {
        label.to_string()
    } else {
        format!("{title}: {label}")
    }
}
