//! The recipe in plain words, and the buttons that run it.

mod defence;
mod fields;
mod form;
mod live;
mod preview;

use egui::{ProgressBar, RichText, ScrollArea, Ui};

use self::{
    fields::Text,
    form::{Draft, Picked},
    live::Live,
    preview::Preview,
};
use super::{STOPPING, View};
use crate::{
    app::{
        background::Background,
        command::Command,
        shown::Shown,
        state::{State, Training, Work},
        theme,
    },
    engine::EpochReport,
    report::Ending,
    wording::{duration, percent},
};

/// The training view.
#[derive(Default)]
pub struct Train {
    epsilon: Draft,
    step_size: Draft,
    text: Text,
    dialog: Option<Background<Picked>>,
    show_all: bool,
    live: Live,
    preview: Preview,
}

impl View for Train {
    fn name(&self) -> &'static str {
        "Train"
    }

    fn about(&self) -> &'static str {
        "What is trained, and the buttons that run it"
    }

    fn logic(&mut self, state: &mut State) {
        if !state.is_training() {
            let ctx = state.ctx.clone();
            self.preview.logic(&ctx, &mut state.settings.recipe);
        }
        let Some(dialog) = &mut self.dialog else { return };
        for picked in dialog.drain() {
            match picked {
                Picked::Data(kind, path) => state.choose_data(format!("{kind}:{}", path.display())),
                Picked::Recipe(path) => {
                    state.open_recipe(&path);
                }
                Picked::Failed(error) => state.complain(error),
            }
        }
        if !dialog.is_running() {
            self.dialog = None;
        }
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        buttons_ui(ui, state);
        for position in 0..state.trainings.len() {
            progress_ui(ui, state, position);
        }
        ui.separator();
        ScrollArea::both().auto_shrink(false).show(ui, |ui| {
            if state.is_training() {
                self.live.ui(ui, state);
                ui.separator();
            }
            if state.is_training() {
                ui.label(RichText::new("The recipe of the next run").strong());
            }
            ui.add_enabled_ui(!state.is_training(), |ui| self.form_ui(ui, state));
            ui.separator();
            let share = &mut state.settings.looking_share;
            let slider = egui::Slider::new(share, 0.01..=0.5)
                .custom_formatter(|share, _| format!("{:.0} %", share * 100.0))
                .custom_parser(|text| Some(text.trim_end_matches([' ', '%']).parse::<f64>().ok()? / 100.0))
                .text("time for looking");
            ui.add(slider).on_hover_text(
                "The most of the time that live pictures may take from training: natural images looked at for the gallery alone, and attacks on newer weights. What you ask for yourself is done at once.",
            );
            ui.checkbox(&mut state.settings.notifications, "Notify me on the desktop at the end")
                .on_hover_text(
                    "When training ends or breaks off while this window is hidden or another one is in front",
                );
        });
    }
}

fn buttons_ui(ui: &mut Ui, state: &mut State) {
    let training = state.is_training();
    ui.horizontal_wrapped(|ui| {
        let start = egui::Button::new(RichText::new("Start").strong().size(16.0)).min_size(egui::vec2(78.0, 32.0));
        let experiment = state.works.contains(&Work::Experiment);
        let start = ui
            .add_enabled(!training && !experiment && state.unready.is_none(), start)
            .on_hover_text("Train with this recipe (Ctrl+Enter)")
            .on_disabled_hover_text(match (&state.unready, experiment) {
                (_, true) => "An experiment trains: stop it first, or let it end",
                (Some(unready), false) if !training => unready.as_str(),
                _ => "A run trains: stop it first, or let it end",
            });
        if start.clicked() {
            state.commands.push(Command::Start);
        }
        let small = |text| egui::Button::new(text).min_size(egui::vec2(0.0, 32.0));
        let pause = if state.is_paused() { "Continue" } else { "Pause" };
        let steers = training && !state.is_stopping();
        for (text, hint, command) in [
            (
                pause,
                "Hold before the next minibatch, or continue (Ctrl+Space)",
                Command::TogglePause,
            ),
            ("Step", "Train one minibatch, then hold (Ctrl+.)", Command::Step),
            (
                "Stop, keep best",
                "End with a checkpoint; the best one so far is kept, and the run can be resumed (Ctrl+Esc)",
                Command::Stop,
            ),
        ] {
            if ui.add_enabled(steers, small(text)).on_hover_text(hint).clicked() {
                state.commands.push(command);
            }
        }
    });
}

fn progress_ui(ui: &mut Ui, state: &State, position: usize) {
    let training = &state.trainings[position];
    let dark = ui.visuals().dark_mode;
    let Some(shown) = shown_of(state, training) else {
        if training.job.is_alive() {
            ui.horizontal_wrapped(|ui| {
                ui.spinner();
                ui.label(&training.preparing);
            });
        }
        return;
    };
    let colour = theme::series(shown.colour, dark);
    ui.add_space(4.0);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(shown.recipe.defence.to_string()).strong().color(colour));
        ui.weak(&shown.name);
    });
    let text = match (&shown.ending, &shown.last) {
        (Ending::Finished(_), _) => "finished".to_string(),
        (Ending::Stopped(_), _) => "stopped; resume it from Runs".to_string(),
        (Ending::Failed(_), _) => "failed".to_string(),
        (Ending::Open, _) if training.job.control.is_stopped() => STOPPING.to_string(),
        (Ending::Open, Some(step)) => {
            let left = shown
                .seconds_left()
                .map(|left| format!(" · {} left", duration(left)))
                .unwrap_or_default();
            let phase = if step.epoch <= shown.recipe.warm_up.natural_epochs {
                " (natural warm-up)"
            } else {
                ""
            };
            format!("epoch {} of {}{phase}{left}", step.epoch, shown.recipe.epochs)
        }
        (Ending::Open, None) => training.preparing.clone(),
    };
    ui.add(
        ProgressBar::new(shown.progress())
            .text(text)
            .fill(colour.gamma_multiply(0.6)),
    );
    // Both lines are there from the beginning, so that nothing moves under one's hand when the first figures come.
    let evaluated = shown.epochs.iter().rev().find(|epoch| !epoch.accuracy.is_empty());
    let (figures, of) = evaluated.map_or(("not evaluated yet".to_string(), String::new()), figures);
    ui.label(figures);
    ui.weak(of);
    for warning in shown.warnings.iter().filter(|warning| shown.still_holds(warning)) {
        ui.colored_label(theme::warning(dark), format!("Warning: {}", warning.message))
            .on_hover_text(&warning.advice);
    }
    if let Ending::Failed(error) = &shown.ending {
        ui.colored_label(theme::error(dark), error);
    }
}

/// An epoch's accuracies in words, and what they are accuracies of.
fn figures(epoch: &EpochReport) -> (String, String) {
    let accuracy = &epoch.accuracy;
    let singles = accuracy.iter().filter(|(attack, _)| *attack != "worst-case");
    let strongest = singles.map(|(_, share)| *share).fold(1.0, f64::min);
    // The worst case says something where no single attack is as strong.
    let told = accuracy
        .iter()
        .filter(|(attack, share)| *attack != "worst-case" || **share < strongest);
    let mut told: Vec<(&String, &f64)> = told.collect();
    told.sort_by(|a, b| b.1.total_cmp(a.1));
    let told = told
        .iter()
        .map(|(attack, accuracy)| format!("{attack} {}", percent(**accuracy)));
    let of = format!(
        "epoch {}, ε = {}, N = {} {}",
        epoch.epoch, epoch.epsilon, epoch.n, epoch.split
    );
    (told.collect::<Vec<_>>().join(" · "), of)
}

fn shown_of<'a>(state: &'a State, training: &Training) -> Option<&'a Shown> {
    let folder = training.folder.as_ref()?;
    state.shown.iter().find(|shown| shown.folder == *folder)
}
