//! The paper's tables and figures: reported, measured, difference; run row by row.

mod controls;
mod result;
mod work;

use std::{collections::BTreeSet, path::PathBuf, time::Instant};

use egui::{ComboBox, RichText, ScrollArea, TextEdit, Ui};

use self::result::{SETTING, comparisons_ui, figure_ui, table_ui};
use super::View;
use crate::{
    app::{
        background::Background,
        state::{State, Work},
        theme,
    },
    experiments::{Budget, EXPERIMENTS, Estimate, Outcome, Plan, Request, experiment},
};

/// The experiments view.
#[derive(Default)]
pub struct Experiments {
    /// What is planned, and from which choice; an error where that cannot be.
    plan: Option<(Choice, Result<Plan, String>)>,
    outcome: Option<Outcome>,
    /// Rows that a person left out.
    left_out: BTreeSet<String>,
    estimate: Option<Estimate>,
    reading: Option<Background<Said>>,
    measuring: Option<Background<Said>>,
    work: Option<Background<Said>>,
    doing: String,
    fraction: f32,
    /// When the rows were begun.
    began: Option<Instant>,
    error: Option<String>,
}

/// What a person chose.
#[derive(Debug, Clone, PartialEq)]
struct Choice {
    experiment: String,
    budget: Budget,
    data: String,
    unlabelled: String,
    runs_dir: PathBuf,
}

/// What the working threads say.
enum Said {
    Outcome(Box<Outcome>),
    Estimate(Estimate),
    Doing(String, f32),
    RowFailed(String),
    Failed(String),
}

impl View for Experiments {
    fn name(&self) -> &'static str {
        "Experiments"
    }

    fn about(&self) -> &'static str {
        "The paper's tables and figures: what it reports beside what comes out here"
    }

    fn at_work(&self) -> Option<Work> {
        self.work.is_some().then_some(Work::Experiment)
    }

    fn doing(&self) -> Option<String> {
        let work = self.work.as_ref()?;
        let title = self.planned()?.experiment.title;
        let paused = if work.control.is_paused() { ", paused" } else { "" };
        Some(format!("{title}: {:.0} %{paused}", 100.0 * self.fraction))
    }

    fn logic(&mut self, state: &mut State) {
        if let Some(work) = self.work.as_ref().filter(|_| state.closing) {
            work.control.stop();
        }
        let was_at_work = self.work.is_some();
        let mut heard = Vec::new();
        for thread in [&mut self.reading, &mut self.measuring, &mut self.work] {
            if let Some(work) = thread {
                heard.extend(work.drain());
                if !work.is_running() {
                    *thread = None;
                }
            }
        }
        for said in heard {
            match said {
                // What another choice's thread read late is of no use.
                Said::Outcome(outcome) => {
                    if self.planned().is_some_and(|plan| plan.name() == outcome.plan.name()) {
                        self.outcome = Some(*outcome);
                        state.refresh_runs();
                    }
                }
                Said::Estimate(estimate) => {
                    if self
                        .planned()
                        .is_some_and(|plan| plan.rows.len() == estimate.rows.len())
                    {
                        self.estimate = Some(estimate);
                    }
                }
                Said::Doing(text, fraction) => (self.doing, self.fraction) = (text, fraction),
                Said::RowFailed(error) | Said::Failed(error) => self.error = Some(error),
            }
        }
        if was_at_work && self.work.is_none() {
            self.tell_end(state);
        }
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        self.choose_ui(ui, state);
        self.follow(state);
        let Some((_, plan)) = &self.plan else { return };
        let plan = match plan {
            Ok(plan) => plan.clone(),
            Err(error) => {
                ui.add_space(8.0);
                ui.label(error);
                return;
            }
        };
        ui.label(RichText::new(plan.experiment.title).strong());
        ui.label(plan.experiment.question);
        self.controls_ui(ui, state, &plan);
        if let Some(error) = &self.error {
            ui.colored_label(theme::error(ui.visuals().dark_mode), error);
        }
        ui.separator();
        ScrollArea::both().auto_shrink(false).show(ui, |ui| {
            self.rows_ui(ui, state, &plan);
            if let Some(outcome) = &self.outcome {
                table_ui(ui, outcome);
                comparisons_ui(ui, outcome);
                figure_ui(ui, outcome);
            }
            ui.add_space(6.0);
            for remark in plan
                .remarks()
                .into_iter()
                .skip(if self.outcome.is_some() { SETTING } else { 0 })
            {
                ui.weak(remark);
            }
        });
    }
}

impl Experiments {
    fn planned(&self) -> Option<&Plan> {
        self.plan.as_ref()?.1.as_ref().ok()
    }

    /// The experiment, how much it may take, and its data.
    fn choose_ui(&mut self, ui: &mut Ui, state: &mut State) {
        let busy = self.work.is_some();
        let settings = &mut state.settings;
        ui.add_enabled_ui(!busy, |ui| {
            ui.horizontal_wrapped(|ui| {
                let label = ui.label("Experiment");
                let chosen = experiment(&settings.experiment).map_or("", |found| found.title);
                ComboBox::from_id_salt("experiment")
                    .selected_text(chosen)
                    .width(330.0)
                    .show_ui(ui, |ui| {
                        for known in EXPERIMENTS {
                            let name = known.name.to_string();
                            ui.selectable_value(&mut settings.experiment, name, known.title)
                                .on_hover_text(known.question);
                        }
                    })
                    .response
                    .labelled_by(label.id);
                let label = ui.label("Budget");
                ComboBox::from_id_salt("budget")
                    .selected_text(settings.budget.to_string())
                    .width(70.0)
                    .show_ui(ui, |ui| {
                        for budget in Budget::ALL {
                            ui.selectable_value(&mut settings.budget, budget, budget.to_string())
                                .on_hover_text(budget.about());
                        }
                    })
                    .response
                    .labelled_by(label.id)
                    .on_hover_text(settings.budget.about());
                let label = ui.label("Data");
                let hint = if settings.budget == Budget::Quick {
                    "built-in characters"
                } else {
                    "mnist:DIR, cifar10:DIR"
                };
                ui.add(
                    TextEdit::singleline(&mut settings.experiment_data)
                        .hint_text(hint)
                        .desired_width(150.0),
                )
                .labelled_by(label.id)
                .on_hover_text("mnist:DIR, cifar10:DIR, folder:DIR, npz:FILE");
                if settings.experiment.starts_with("table-5") {
                    let label = ui.label("Unlabelled");
                    ui.add(
                        TextEdit::singleline(&mut settings.experiment_unlabelled)
                            .hint_text("built-in characters")
                            .desired_width(150.0),
                    )
                    .labelled_by(label.id)
                    .on_hover_text("pseudo-labelled:FILE, npz:FILE, folder:DIR");
                }
            });
        });
    }

    /// Plans anew where the choice changed, and reads what is there.
    fn follow(&mut self, state: &State) {
        let settings = &state.settings;
        let choice = Choice {
            experiment: settings.experiment.clone(),
            budget: settings.budget,
            data: settings.experiment_data.trim().to_string(),
            unlabelled: settings.experiment_unlabelled.trim().to_string(),
            runs_dir: settings.runs_dir.clone(),
        };
        if self.work.is_some() || self.plan.as_ref().is_some_and(|(known, _)| *known == choice) {
            return;
        }
        let named = |text: &'_ str| (!text.is_empty()).then(|| text.to_string());
        let (source, unlabelled) = (named(&choice.data), named(&choice.unlabelled));
        let request = Request {
            source: source.as_deref(),
            unlabelled: unlabelled.as_deref(),
            seed: 1,
            epochs: None,
        };
        let plan = experiment(&choice.experiment).and_then(|found| found.plan(choice.budget, &request));
        (self.outcome, self.estimate, self.error) = (None, None, None);
        self.left_out.clear();
        self.measuring = None;
        if let Ok(plan) = &plan {
            let (plan, runs_dir) = (plan.clone(), choice.runs_dir.clone());
            self.reading = Some(Background::start(
                "experiment",
                &state.ctx,
                Said::Failed,
                move |_, teller| {
                    teller.tell(Said::Outcome(Box::new(Outcome::read(&plan, &runs_dir)?)));
                    Ok(())
                },
            ));
        }
        self.plan = Some((choice, plan.map_err(|error| in_the_window(&error.to_string()))));
    }
}

/// Text that names a terminal's options, for a person at the window.
fn in_the_window(error: &str) -> String {
    error
        .replace("name it with --dataset", "name it under Data")
        .replace("name it with --unlabelled", "name it under Unlabelled")
}
