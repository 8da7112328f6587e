//! The bar below: what computes, how fast, for how long still.

use egui::{Panel, Ui};

use super::{state::State, theme};
use crate::{engine::Clock, report::Ending, wording::duration};

/// Draws the bar.
pub fn bar_ui(ui: &mut Ui, state: &State) {
    Panel::bottom("status").show(ui, |ui| {
        ui.horizontal_wrapped(|ui| {
            let dark = ui.visuals().dark_mode;
            let training = state.trainings.first();
            match training.and_then(|training| training.opened.as_ref()) {
                Some(opened) => {
                    let info = opened.device.info();
                    ui.label(format!("{} · {}", info.name, info.api))
                        .on_hover_text(format!("Driver: {}", info.driver));
                    if opened.verdict.passed {
                        let text = if opened.device.is_cpu() {
                            "the processor"
                        } else {
                            "self-check passed"
                        };
                        ui.weak(text).on_hover_text(opened.verdict.to_string());
                    } else {
                        ui.colored_label(theme::error(dark), "self-check failed")
                            .on_hover_text(opened.verdict.to_string());
                    }
                }
                None => {
                    ui.label(format!("Device: {}", state.settings.device));
                }
            }
            for training in &state.trainings {
                ui.separator();
                let shown = training
                    .folder
                    .as_ref()
                    .and_then(|folder| state.shown.iter().find(|shown| shown.folder == *folder));
                let Some(shown) = shown else {
                    if training.job.is_alive() {
                        ui.spinner();
                        ui.label(&training.preparing);
                    }
                    continue;
                };
                ui.label(&shown.name);
                if !training.job.is_alive() {
                    ui.weak(match shown.ending {
                        Ending::Finished(_) => "done",
                        Ending::Failed(_) => "failed",
                        Ending::Stopped(_) | Ending::Open => "stopped",
                    });
                    continue;
                }
                if training.job.control.is_paused() {
                    ui.colored_label(theme::warning(dark), "paused");
                }
                if let (Some(pace), Some(step)) = (shown.pace(), &shown.last) {
                    let evaluating = 100.0 * step.clock.evaluating / step.clock.seconds.max(1e-9);
                    let images = format!("{:.0} images/s", pace * shown.recipe.batch_size as f64);
                    // Two side by side must fit into the line.
                    let told = match state.trainings.len() {
                        1 => format!("{pace:.1} minibatches/s · {images}"),
                        _ => images,
                    };
                    ui.label(told).on_hover_text(split(step.clock, evaluating));
                    if state.trainings.len() == 1 {
                        ui.weak(shares(step.clock, evaluating))
                            .on_hover_text(split(step.clock, evaluating));
                    }
                }
                if let (Some(left), false) = (shown.seconds_left(), training.job.control.is_paused()) {
                    ui.label(format!("{} left", duration(left)));
                }
                if let Some(progress) = &shown.evaluating {
                    ui.weak(format!(
                        "evaluating {}: {} of {}",
                        progress.attack, progress.done, progress.of
                    ));
                }
            }
            for doing in &state.doing {
                ui.separator();
                ui.label(doing);
            }
            if let Some(bytes) = training
                .and_then(|training| training.opened.as_ref())
                .and_then(|opened| opened.device.memory_bytes_in_use())
            {
                ui.separator();
                ui.label(format!("{:.0} MiB on the device", bytes as f64 / f64::from(1 << 20)));
            }
            if let Some(why) = &state.unnotified {
                ui.separator();
                ui.weak("no desktop notification").on_hover_text(why);
            }
        });
    });
}

/// Where the time of a session went, in a word each.
fn shares(clock: Clock, evaluating: f64) -> String {
    let rest = 100.0 - evaluating;
    match clock.attacking {
        Some(attacking) => {
            let attacking = 100.0 * attacking / clock.seconds.max(1e-9);
            format!(
                "attack {attacking:.0} · train {:.0} · evaluate {evaluating:.0} %",
                rest - attacking
            )
        }
        None => format!("attack and train {rest:.0} · evaluate {evaluating:.0} %"),
    }
}

/// Where the time of a session went.
fn split(clock: Clock, evaluating: f64) -> String {
    let rest = 100.0 - evaluating;
    match clock.attacking {
        Some(attacking) => {
            let attacking = 100.0 * attacking / clock.seconds.max(1e-9);
            format!(
                "{attacking:.0} % of the time attacks, {:.0} % trains, {evaluating:.0} % evaluates; pauses left out",
                rest - attacking
            )
        }
        None => format!("{rest:.0} % of the time attacks and trains, {evaluating:.0} % evaluates; pauses left out"),
    }
}
