//! How a run stands up: accuracy against ε under each attack, the suite at the trained ε, and what makes it doubtful.

mod pictures;
mod results;
mod work;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
};

use egui::{DragValue, RichText, ScrollArea, TextEdit, Ui};

use self::{
    pictures::{curves_ui, suite_ui},
    results::{Results, moment},
    work::{Job, Said},
};
use super::View;
use crate::{
    app::{
        background::Background,
        command::Order,
        notify,
        state::{State, Work},
        theme,
    },
    evaluation::Suite,
};

/// Radii of a curve, in shares of the trained one.
pub const SHARES: [f64; 6] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5];

/// Where the result stays, in the run's folder.
pub const KEPT: &str = "evaluation-test-best.json";

/// The robustness view.
#[derive(Default)]
pub struct Robustness {
    work: Option<Background<Said>>,
    results: BTreeMap<PathBuf, Results>,
    under_way: Option<PathBuf>,
    doing: String,
    fraction: f32,
    /// What is evaluated next.
    ordered: VecDeque<Job>,
}

impl View for Robustness {
    fn name(&self) -> &'static str {
        "Robustness"
    }

    fn about(&self) -> &'static str {
        "Accuracy against ε under each attack, and the suite with its warnings"
    }

    fn obey(&mut self, order: &Order, state: &mut State) {
        let Order::Evaluate {
            folder,
            suite,
            images,
            curve,
        } = order
        else {
            return;
        };
        // The fields say what is measured, whoever asked for it.
        (state.settings.suite, state.settings.images) = (suite.clone(), *images);
        match suite.parse() {
            Ok(suite) => self.ordered.push_back(Job {
                folder: folder.clone(),
                suite,
                images: *images,
                curve: *curve,
            }),
            Err(error) => state.complain(error.to_string()),
        }
    }

    fn at_work(&self) -> Option<Work> {
        self.work.is_some().then_some(Work::Evaluation)
    }

    fn doing(&self) -> Option<String> {
        self.work.as_ref()?;
        let run = self.under_way.as_ref()?.file_name()?.to_string_lossy();
        Some(format!(
            "attacking {run}: {}, {:.0} %",
            self.doing,
            100.0 * self.fraction
        ))
    }

    fn logic(&mut self, state: &mut State) {
        if state.closing {
            self.ordered.clear();
            if let Some(work) = &self.work {
                work.control.stop();
            }
        }
        if self.work.is_none()
            && let Some(job) = self.ordered.pop_front()
        {
            self.start(state, job);
        }
        let (Some(work), Some(folder)) = (&mut self.work, &self.under_way) else {
            return;
        };
        let results = self.results.entry(folder.clone()).or_default();
        for said in work.drain() {
            match said {
                Said::Doing(text, fraction) => (self.doing, self.fraction) = (text, fraction),
                Said::Point(point) => results.add(&point),
                Said::Suite(evaluation) => results.suite = Some(evaluation),
                Said::Failed(error) => results.error = Some(error),
            }
        }
        if !work.is_running() {
            let error = results.error.clone();
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            self.work = None;
            state.refresh_runs();
            if self.ordered.is_empty() {
                state.notify(match &error {
                    Some(error) => notify::failed(Some(&name), error),
                    None => notify::ended(&name, "is attacked"),
                });
            }
        }
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        let Some(shown) = state.current() else {
            ui.add_space(40.0);
            ui.vertical_centered(|ui| {
                ui.label(RichText::new("No run chosen").heading());
                ui.label("Select a run in Runs, or start one; then attack it here.");
            });
            return;
        };
        let (folder, name, threat) = (shown.folder.clone(), shown.name.clone(), shown.recipe.threat.clone());
        let label = format!("{name} ({}), best checkpoint, test set", shown.recipe.defence);
        ui.label(RichText::new(label).strong());
        self.controls_ui(ui, state, &folder);
        ui.separator();
        let dark = ui.visuals().dark_mode;
        let attacked_now = self.work.is_some() && self.under_way.as_ref() == Some(&folder);
        let results = self.results.entry(folder.clone()).or_default();
        if !attacked_now && results.read_at != Some(moment(&folder)) {
            let error = results.error.take();
            *results = Results {
                error,
                ..Results::read(&folder)
            };
        }
        let results = &*results;
        if let Some(error) = &results.error {
            ui.colored_label(theme::error(dark), error);
        }
        if results.suite.is_none() && results.curves.is_empty() {
            if self.work.is_none() {
                ui.label(format!(
                    "Attack the run to see how many test images still get the right answer, and how that falls as ε grows past {}.",
                    threat.epsilon
                ));
            }
            return;
        }
        if results.outdated {
            ui.colored_label(
                theme::warning(dark),
                "These figures are of an earlier checkpoint; the run has a better one now. Attack it again.",
            );
        }
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            curves_ui(ui, results, &threat, (ui.available_height() * 0.55).max(220.0));
            if let Some(evaluation) = &results.suite {
                suite_ui(ui, evaluation);
            }
        });
    }
}

impl Robustness {
    fn controls_ui(&mut self, ui: &mut Ui, state: &mut State, folder: &Path) {
        let suite = state.settings.suite.parse::<Suite>();
        ui.horizontal_wrapped(|ui| {
            let running = self.work.is_some();
            if running {
                if ui
                    .button("Stop")
                    .on_hover_text("What is measured so far is kept")
                    .clicked()
                {
                    self.work = None;
                    self.ordered.clear();
                }
                ui.add(
                    egui::ProgressBar::new(self.fraction)
                        .desired_width(160.0)
                        .show_percentage(),
                );
                ui.label(&self.doing);
                return;
            }
            let start = ui.add_enabled(suite.is_ok(), egui::Button::new("Attack this run"));
            if start.clicked()
                && let Ok(suite) = &suite
            {
                let job = Job {
                    folder: folder.to_path_buf(),
                    suite: suite.clone(),
                    images: state.settings.images,
                    curve: true,
                };
                self.start(state, job);
            }
            let name = ui
                .label("Attacks")
                .on_hover_text("natural, fgsm, pgd-STEPS, cw-STEPS, x5 for restarts, autoattack, autoattack-fast; or paper, or thorough");
            ui.add(TextEdit::singleline(&mut state.settings.suite).desired_width(230.0))
                .labelled_by(name.id);
            let name = ui.label("images");
            ui.add(DragValue::new(&mut state.settings.images).range(10..=100_000).speed(10))
                .labelled_by(name.id);
        });
        if let Err(error) = suite {
            ui.colored_label(theme::error(ui.visuals().dark_mode), error.to_string());
        }
    }
}
