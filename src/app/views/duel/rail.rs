//! What trains, the buttons that run it, and a canvas to draw on.

use egui::{ProgressBar, RichText, Ui};

use super::{canvas::Canvas, sentence};
use crate::{
    app::{
        command::Command,
        state::{State, Training},
        theme::{self, palette, size, space},
        views::STOPPING,
    },
    report::Ending,
    wording::duration,
};

/// What of the rail is folded out, and what is being drawn.
#[derive(Default)]
pub struct Rail {
    /// Whether the whole form shows.
    pub unfolded: bool,
    /// Whether the canvas lies open over the stage, where the rail is not in sight.
    pub drawing: bool,
    canvas: Canvas,
}

impl Rail {
    pub fn ui(&mut self, ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
        ui.add_enabled_ui(!state.is_training(), |ui| {
            sentence::sentence_ui(ui, state, commands, &mut self.unfolded)
        });
        ui.add_space(space::S);
        buttons_ui(ui, state, commands);
        for training in &state.trainings {
            progress_ui(ui, state, training);
        }
        ui.add_space(space::XS);
        let text = if self.unfolded {
            "Fold the recipe away"
        } else {
            "The whole recipe"
        };
        if ui
            .button(text)
            .on_hover_text("Every field that a run depends on")
            .clicked()
        {
            self.unfolded = !self.unfolded;
        }
        if !self.unfolded {
            ui.add_space(space::M);
            self.canvas.ui(ui, state, commands);
            ui.horizontal(|ui| {
                let share = ui
                    .button("Share…")
                    .on_hover_text("A picture, a moving picture of all ε, and a file that opens this duel again");
                if share.clicked() {
                    commands.push(Command::ShareDuel);
                }
                let project = ui
                    .button("Projector")
                    .on_hover_text("Large type, nothing but the duel (F11)");
                if project.clicked() {
                    commands.push(Command::Projector);
                }
            });
        }
    }
}

impl Rail {
    /// The canvas over the stage.
    pub fn floating_canvas_ui(&mut self, ui: &Ui, state: &State, commands: &mut Vec<Command>) {
        let mut open = self.drawing;
        egui::Window::new("Draw a digit")
            .open(&mut open)
            .collapsible(false)
            .resizable(false)
            .default_size([260.0, 330.0])
            .anchor(egui::Align2::CENTER_TOP, [0.0, 80.0])
            .show(ui.ctx(), |ui| {
                ui.set_min_height(310.0);
                self.canvas.ui(ui, state, commands);
            });
        self.drawing = open;
    }

    /// What runs the training, in one row, where there is no room for more.
    pub fn row_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
        ui.horizontal(|ui| {
            let training = state.is_training();
            let pause = if state.is_paused() { "Continue" } else { "Pause" };
            for (text, enabled, command) in [
                ("Start", state.what_trains().is_none(), Command::Start),
                (pause, training && !state.is_stopping(), Command::TogglePause),
                ("Stop", training && !state.is_stopping(), Command::Stop),
                ("Share…", true, Command::ShareDuel),
                ("Projector", true, Command::Projector),
            ] {
                if ui.add_enabled(enabled, egui::Button::new(text)).clicked() {
                    commands.push(command);
                }
            }
        });
    }
}

fn buttons_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
    let training = state.is_training();
    let taken = state.what_trains();
    let label = RichText::new("Start").font(theme::display(ui.ctx(), size::LEAD));
    let width = ui.available_width();
    let start = egui::Button::new((egui::Atom::grow(), label, egui::Atom::grow())).min_size(egui::vec2(width, 40.0));
    let start = ui
        .add_enabled(taken.is_none(), start)
        .on_hover_text("Train both networks from the same seed (Ctrl+Enter)")
        .on_disabled_hover_text("Stop what trains first, or let it end");
    if start.clicked() {
        commands.push(Command::Start);
    }
    ui.horizontal(|ui| {
        let width = (ui.available_width() - 2.0 * ui.spacing().item_spacing.x) / 3.0;
        let pause = if state.is_paused() { "Continue" } else { "Pause" };
        for (text, hint, command) in [
            (
                pause,
                "Hold before the next minibatch, or continue (Ctrl+Space)",
                Command::TogglePause,
            ),
            ("Step", "Train one minibatch, then hold (Ctrl+.)", Command::Step),
            (
                "Stop",
                "End with a checkpoint; the run can be resumed (Ctrl+Esc)",
                Command::Stop,
            ),
        ] {
            let button = egui::Button::new(text).min_size(egui::vec2(width, 30.0));
            let enabled = training && !state.is_stopping();
            if ui.add_enabled(enabled, button).on_hover_text(hint).clicked() {
                commands.push(command);
            }
        }
    });
}

fn progress_ui(ui: &mut Ui, state: &State, training: &Training) {
    let dark = ui.visuals().dark_mode;
    let shown = state
        .shown
        .iter()
        .find(|shown| Some(&shown.folder) == training.folder.as_ref());
    let Some(shown) = shown else {
        if training.job.is_alive() {
            ui.horizontal_wrapped(|ui| {
                ui.spinner();
                ui.label(&training.preparing);
            });
        }
        return;
    };
    let colour = theme::defence(shown.recipe.defence.name(), dark);
    let text = match (&shown.ending, &shown.last) {
        (Ending::Finished(_), _) => "finished".to_string(),
        (Ending::Stopped(_), _) => "stopped".to_string(),
        (Ending::Failed(_), _) => "failed".to_string(),
        (Ending::Open, _) if training.job.control.is_stopped() => STOPPING.to_string(),
        (Ending::Open, Some(step)) => {
            let left = shown.seconds_left();
            let left = left.map_or_else(String::new, |left| format!(", {} left", duration(left)));
            format!("epoch {} of {}{left}", step.epoch, shown.recipe.epochs)
        }
        (Ending::Open, None) => training.preparing.clone(),
    };
    let name = theme::defence_name(&shown.recipe.defence);
    ui.add_space(space::XS);
    ui.horizontal(|ui| {
        ui.label(RichText::new(&name).color(colour).strong());
        ui.label(RichText::new(text).size(size::SMALL).color(palette(dark).weak));
    });
    let bar = ProgressBar::new(shown.progress()).desired_height(6.0).fill(colour);
    ui.add(bar).widget_info(|| {
        let done = format!("{name}: {:.0} % done", 100.0 * shown.progress());
        egui::WidgetInfo::labeled(egui::Role::ProgressIndicator, true, done)
    });
    if let Ending::Failed(error) = &shown.ending {
        ui.colored_label(theme::error(dark), error);
    }
}
