//! Accuracy, loss and its terms, S−, learning rate: live, with earlier runs behind them.

mod kinds;
mod plot;
mod save;

use std::collections::BTreeMap;

use egui::{Color32, ComboBox, RichText, Slider, Ui};
use egui_plot::{Corner, GridMark, Line, LineStyle, MarkerShape, Points, VLine};

pub use self::kinds::Lower;
use self::{
    kinds::{Curve, TRAINING_ACCURACY},
    plot::{Drawing, Drawn, log, plot, said, transformed},
};
use super::View;
use crate::{
    app::{
        command::Order,
        series::{Series, Smoothed},
        shown::Shown,
        state::State,
        theme,
    },
    wording::percent,
};

/// The curves view.
#[derive(Default)]
pub struct Curves {
    lower: Lower,
    smooth: BTreeMap<(std::path::PathBuf, String), Smoothed>,
    /// The epochs that the plots showed in the frame before.
    range: Option<[f64; 2]>,
    /// The picture of the whole window that was asked for.
    taken: Option<std::sync::mpsc::Receiver<std::sync::Arc<egui::ColorImage>>>,
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
        let all = ui.available_rect_before_wrap();
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
        ui.horizontal(|ui| {
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
        });
        self.lower_ui(ui, state, ui.available_height() - 4.0);
        self.picture(ui, state, all);
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
                for (label, form) in [("Numbers as CSV", "csv"), ("Both plots as SVG", "svg")] {
                    if ui.button(label).clicked() {
                        self.save(state, form);
                    }
                }
                if ui.button("Both plots as PNG").clicked() {
                    let (sender, receiver) = std::sync::mpsc::channel();
                    ui.ctx().request_screenshot(move |image| {
                        let _ = sender.send(image);
                    });
                    self.taken = Some(receiver);
                }
            });
            ui.weak("drag: move · right drag: zoom into a box · double click: all");
        });
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
            let colour = theme::series(shown.colour, dark);
            // One run shows its attacks by colour, several runs themselves.
            let of = |place: usize| {
                if several {
                    colour
                } else {
                    theme::series(shown.colour + place, dark)
                }
            };
            for (place, curve) in TRAINING_ACCURACY.iter().enumerate() {
                let faint = of(place).gamma_multiply(0.75);
                self.draw(&mut drawn, state, shown, curve, &title, faint, width, false);
            }
            let mut held_out: Vec<&String> = shown.curves.keys().filter(|key| key.starts_with("held-out")).collect();
            // Natural accuracy first, so that it keeps the colour that it has on training batches.
            held_out.sort_by_key(|key| (!key.ends_with("natural"), key.ends_with("worst-case")));
            // The worst case first, under the attack that it so often equals.
            for (position, key) in held_out.iter().enumerate().rev() {
                if several && key.ends_with("worst-case") {
                    continue;
                }
                let colour = of(position);
                let attack = key.trim_start_matches("held-out ");
                let split = shown.epochs.last().map_or("held-out", |epoch| epoch.split.as_str());
                let label = labelled(&title, &format!("{attack}, {split}"));
                let shape = [
                    MarkerShape::Circle,
                    MarkerShape::Square,
                    MarkerShape::Diamond,
                    MarkerShape::Up,
                ][position % 4];
                if let Some(series) = shown.curves.get(*key) {
                    let points = || transformed(series.points(), log_x, false);
                    let line = Line::new(label.clone(), points()).color(colour).width(2.2);
                    drawn.items.push(Drawn::Line(line));
                    drawn.items.push(Drawn::Points(
                        Points::new(label, points()).color(colour).radius(4.0).shape(shape),
                    ));
                }
            }
            if let Some(best) = shown.best() {
                let x = shown.epochs_at(best.total_steps);
                let name = if several { "" } else { "best epoch" };
                let line = VLine::new(name, log(x, log_x))
                    .color(colour)
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
        let Drawing { items, raw } = drawn;
        // Accuracy rises and losses fall: these corners stay free.
        let plot = plot("accuracy", Corner::RightBottom, height, log_x, false)
            .include_y(0.0)
            .include_y(1.0)
            .y_axis_formatter(|mark: GridMark, _| format!("{:.0} %", 100.0 * mark.value))
            .label_formatter(move |hover| said(hover, log_x, false, &raw, percent));
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
            let there = self
                .lower
                .curves()
                .iter()
                .filter(|curve| shown.curves.contains_key(curve.key));
            for (position, curve) in there.enumerate() {
                // One run shows its terms by colour, several runs themselves.
                let index = if several { shown.colour } else { shown.colour + position };
                self.draw(
                    &mut drawn,
                    state,
                    shown,
                    curve,
                    &title,
                    theme::series(index, dark),
                    width,
                    log_y,
                );
            }
        }
        let Drawing { items, raw } = drawn;
        let mut plot = plot("lower", Corner::RightTop, height.max(80.0), log_x, log_y)
            .label_formatter(move |hover| said(hover, log_x, log_y, &raw, format));
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
            format!("{title}, training batches")
        };
        if group != label {
            // The first of an id gives the legend its name: a line of one point, which is not to be seen.
            let points = series.points().iter();
            let shows = |point: &&[f64; 2]| (!log_x || point[0] > 0.0) && (!log_y || point[1] > 0.0);
            let first: Vec<[f64; 2]> = points.filter(shows).take(1).copied().collect();
            let first = transformed(&first, log_x, log_y);
            let named = Line::new(group.clone(), first).color(colour).allow_hover(false);
            drawn.items.push(Drawn::Line(named.id(&group)));
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
        let smoothing = state.settings.smoothing;
        if smoothing == 0.0 {
            drawn.items.push(Drawn::Line(line(&label, series, colour, 1.6)));
            return;
        }
        let key = (shown.folder.clone(), curve.key.to_string());
        let smooth = self.smooth.entry(key).or_default().of(series, smoothing);
        let ghost = line("", series, colour.gamma_multiply(0.22), 1.0)
            .allow_hover(false)
            .style(LineStyle::Solid);
        drawn.items.push(Drawn::Line(ghost));
        drawn.items.push(Drawn::Line(line(&label, smooth, colour, 1.8)));
        drawn.raw.insert(label, series);
    }
}

/// What tells a run from the others beside it: nothing where it stands alone, its defence where no other has the same,
/// else its name.
fn title(shown: &Shown, runs: &[&Shown]) -> String {
    let same = runs.iter().filter(|run| run.recipe.defence == shown.recipe.defence);
    match (runs.len(), same.count()) {
        (..=1, _) => String::new(),
        (_, 1) => shown.recipe.defence.to_string(),
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
