//! What is to be done, and the buttons that do it.

use egui::{Grid, ProgressBar, Ui};

use super::{Experiments, result::save_ui};
use crate::{
    app::{command::Command, state::State, theme},
    experiments::{Plan, RowState},
};

impl Experiments {
    /// The rows that are to be done, with those that they need.
    pub fn chosen(&self, plan: &Plan) -> Vec<usize> {
        let names: Vec<String> = plan
            .rows
            .iter()
            .filter(|row| !row.row.trains.is_helper() && !self.left_out.contains(&row.row.id))
            .map(|row| row.row.id.clone())
            .collect();
        if names.is_empty() {
            Vec::new()
        } else {
            plan.chosen(&names).unwrap_or_default()
        }
    }

    pub fn controls_ui(&mut self, ui: &mut Ui, state: &mut State, plan: &Plan) {
        let chosen = self.chosen(plan);
        let states = self
            .outcome
            .as_ref()
            .map(|outcome| outcome.states.clone())
            .unwrap_or_default();
        ui.horizontal_wrapped(|ui| {
            if let Some(work) = &self.work {
                let paused = work.control.is_paused();
                if ui.button(if paused { "Resume" } else { "Pause" }).clicked() {
                    if paused {
                        work.control.resume()
                    } else {
                        work.control.pause()
                    }
                }
                if ui
                    .button("Stop")
                    .on_hover_text("What is done stays; Run continues from there")
                    .clicked()
                {
                    work.control.resume();
                    work.control.stop();
                    self.doing = "stopping after this minibatch".into();
                }
                ui.add(ProgressBar::new(self.fraction).desired_width(160.0).show_percentage());
                if paused {
                    let dark = ui.visuals().dark_mode;
                    ui.colored_label(theme::warning(dark), "paused");
                }
                ui.label(&self.doing);
                if let (Some(began), false) = (self.began, paused || self.fraction < 0.05) {
                    let so_far = began.elapsed().as_secs_f64();
                    let left = so_far * f64::from(1.0 / self.fraction - 1.0);
                    ui.weak(format!("about {} left", duration(left)))
                        .on_hover_text("From the time that it has taken so far, pauses included");
                }
                return;
            }
            let left = chosen.iter().any(|row| states.get(*row) != Some(&RowState::Measured));
            let words = if states.iter().any(|state| *state != RowState::Missing) {
                "Resume the rows"
            } else {
                "Run the rows"
            };
            if ui
                .add_enabled(left, egui::Button::new(words))
                .on_hover_text("Trains and measures the ticked rows that are not done yet")
                .on_disabled_hover_text("Every ticked row is done")
                .clicked()
            {
                self.start(state, plan, chosen.clone());
            }
            let measuring = self.measuring.is_some();
            if ui
                .add_enabled(!measuring && left, egui::Button::new("How long?"))
                .on_hover_text("Measures a few minibatches of each row on the chosen device")
                .clicked()
            {
                self.estimate(state, plan);
            }
            if measuring {
                ui.spinner();
                ui.label("measuring a few minibatches of each row");
                if ui.button("Cancel").clicked() {
                    self.measuring = None;
                }
            } else if let Some(estimate) = self.estimate.as_ref().filter(|_| left) {
                let seconds = estimate.left(&chosen, &states);
                ui.label(format!("about {} on this device for what is left", duration(seconds)));
            }
            if let Some(outcome) = self
                .outcome
                .as_ref()
                .filter(|outcome| outcome.states.contains(&RowState::Measured))
            {
                save_ui(ui, state, outcome);
            }
        });
    }
    /// What is trained: ticked or not, how far it is, how long it takes.
    pub fn rows_ui(&mut self, ui: &mut Ui, state: &mut State, plan: &Plan) {
        let busy = self.work.is_some();
        Grid::new("rows")
            .striped(true)
            .num_columns(4)
            .spacing([18.0, 3.0])
            .show(ui, |ui| {
                for (position, planned) in plan.rows.iter().enumerate() {
                    let row = &planned.row;
                    let now = self.outcome.as_ref().and_then(|outcome| outcome.states.get(position));
                    if row.trains.is_helper() {
                        ui.weak(&row.label)
                            .on_hover_text("Trained for the other rows, and no result of its own");
                    } else {
                        let mut ticked = !self.left_out.contains(&row.id);
                        let tick = ui.add_enabled(!busy, egui::Checkbox::new(&mut ticked, &row.label));
                        if tick.on_hover_text(planned.recipe.summary()).changed() {
                            if ticked {
                                self.left_out.remove(&row.id)
                            } else {
                                self.left_out.insert(row.id.clone())
                            };
                        }
                    }
                    ui.label(now.map_or_else(|| "…".to_string(), ToString::to_string));
                    match self.estimate.as_ref().map(|estimate| estimate.rows[position]) {
                        Some((training, measuring)) => ui.weak(format!(
                            "{} to train, {} to measure",
                            duration(training),
                            duration(measuring)
                        )),
                        None => ui.label(""),
                    };
                    let folder = state.settings.runs_dir.join(&planned.run);
                    if now.is_some_and(|now| *now != RowState::Missing) {
                        let button = ui
                            .small_button("Curves")
                            .on_hover_text(format!("Shows the run {}", planned.run));
                        if button.clicked() {
                            state
                                .commands
                                .extend([Command::Select(folder), Command::Show("Curves")]);
                        }
                    } else {
                        ui.label("");
                    }
                    ui.end_row();
                }
            });
        ui.add_space(6.0);
    }
}

fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil() as u64;
    match minutes {
        0..=1 if seconds < 55.0 => format!("{seconds:.0} s"),
        0..=119 => format!("{minutes} min"),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}
