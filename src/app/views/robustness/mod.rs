//! How a run stands up: accuracy against ε under each attack, the suite at the trained ε, and what makes it doubtful.

mod pictures;
mod results;
mod save;
mod work;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use egui::{ComboBox, DragValue, RichText, ScrollArea, TextEdit, Ui};

use self::{
    pictures::{Curve, curves_ui, of_one, of_several, suite_ui},
    results::{Kept, Library, curves},
    work::{Job, Said},
};
use super::View;
use crate::{
    app::{
        background::Background,
        command::Order,
        export, notify,
        shown::Shown,
        state::{State, Work},
        theme,
    },
    evaluation::{CurvePoint, Evaluation, Suite},
    wording::attack_name,
};

/// The robustness view.
#[derive(Default)]
pub struct Robustness {
    work: Option<Background<Said>>,
    library: Library,
    /// What is measured now.
    live: Option<Live>,
    doing: String,
    fraction: f32,
    /// What is evaluated next.
    ordered: VecDeque<Job>,
    /// Whether the drawn runs are laid over each other, under this attack.
    together: bool,
    attack: Option<String>,
}

/// An evaluation under way.
struct Live {
    folder: PathBuf,
    points: Vec<CurvePoint>,
    suite: Option<Box<Evaluation>>,
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
        let run = self.live.as_ref()?.folder.file_name()?.to_string_lossy();
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
        let watched = state.shown.iter().filter(|shown| shown.visible);
        let watched: Vec<&PathBuf> = watched.map(|shown| &shown.folder).chain(&state.selected).collect();
        self.library.follow(&state.ctx, watched.into_iter());
        let (Some(work), Some(live)) = (&mut self.work, &mut self.live) else {
            return;
        };
        let mut failed = None;
        for said in work.drain() {
            match said {
                Said::Doing(text, fraction) => (self.doing, self.fraction) = (text, fraction),
                Said::Point(point) => live.points.push(point),
                Said::Suite(evaluation) => live.suite = Some(evaluation),
                Said::Failed(error) => failed = Some(error),
            }
        }
        let folder = live.folder.clone();
        if failed.is_some() {
            self.library
                .runs
                .entry(folder.clone())
                .or_default()
                .error
                .clone_from(&failed);
        }
        if !work.is_running() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (self.work, self.live) = (None, None);
            state.refresh_runs();
            if self.ordered.is_empty() {
                state.notify(match &failed {
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
        let live = self
            .live
            .as_ref()
            .filter(|live| live.folder == folder && !live.points.is_empty());
        if let Some(live) = live {
            let drawn = of_one(&curves(&live.points), dark);
            ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
                curves_ui(ui, &drawn, &threat, (ui.available_height() * 0.55).max(220.0));
                if let Some(evaluation) = &live.suite {
                    suite_ui(ui, evaluation);
                }
            });
            return;
        }
        let Some(results) = self.library.runs.get(&folder).filter(|results| results.is_read()) else {
            ui.horizontal(|ui| {
                ui.spinner();
                ui.weak("reading what was measured of this run");
            });
            return;
        };
        if let Some(error) = &results.error {
            ui.colored_label(theme::error(dark), error);
        }
        if results.kept.is_empty() {
            if self.work.is_none() {
                ui.label(format!(
                    "Attack the run to see how many test images still get the right answer, and how that falls as ε grows past {}.",
                    threat.epsilon
                ));
            }
            return;
        }
        self.choice_ui(ui, state, &folder);
        let Some(kept) = self.library.runs.get(&folder).and_then(|results| results.shown()) else {
            return;
        };
        if kept.outdated {
            ui.colored_label(
                theme::warning(dark),
                "These figures are of an earlier checkpoint; the run has a better one now. Attack it again.",
            );
        }
        let (drawn, remarks) = self.drawn(state, kept);
        let (together, evaluation) = (self.together && drawn.len() > 1, &kept.evaluation);
        for remark in remarks {
            ui.colored_label(theme::warning(dark), remark);
        }
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            let height = (ui.available_height() * if together { 0.8 } else { 0.55 }).max(220.0);
            curves_ui(ui, &drawn, &threat, height);
            if !together {
                suite_ui(ui, evaluation);
            }
        });
    }
}

impl Robustness {
    /// The evaluations of the drawn runs that can stand beside this one, each with its run.
    fn beside<'a>(&'a self, state: &'a State, kept: &Kept) -> Vec<(&'a Shown, &'a Kept)> {
        let own = &kept.evaluation;
        let drawn = state.shown.iter().filter(|shown| shown.visible);
        let found = drawn.filter_map(|shown| {
            let results = self.library.runs.get(&shown.folder)?;
            // Of the same images at the same radius where it has one, else what it has.
            let alike = |kept: &&Kept| {
                let other = &kept.evaluation;
                (&other.epsilon, other.norm, other.n, &other.dataset.fingerprint)
                    == (&own.epsilon, own.norm, own.n, &own.dataset.fingerprint)
            };
            let kept = results.kept.iter().find(alike).or(results.shown())?;
            Some((shown, kept))
        });
        found.collect()
    }

    /// What the runs are compared under.
    fn compared_attack(&self) -> &str {
        self.attack.as_deref().unwrap_or("worst-case")
    }

    /// The curves to draw, and what a person must know before comparing them.
    fn drawn(&self, state: &State, kept: &Kept) -> (Vec<Curve>, Vec<String>) {
        let dark = state.dark();
        let several = self.beside(state, kept);
        if !self.together || several.len() < 2 {
            return (of_one(&kept.curves, dark), Vec::new());
        }
        of_several(&several, self.compared_attack(), dark)
    }

    /// Which of the evaluations shows, alone or beside those of the other runs, and saving what is seen.
    fn choice_ui(&mut self, ui: &mut Ui, state: &mut State, folder: &Path) {
        let Some(results) = self.library.runs.get(folder) else {
            return;
        };
        let Some(shown) = results.shown() else { return };
        let several = self.beside(state, shown);
        let attacks = shown.curves.keys().filter(|name| *name != "natural");
        let compares = several.len() > 1;
        let mut chosen = results.chosen.clone();
        let now = self.compared_attack().to_string();
        let mut saved = None;
        ui.horizontal_wrapped(|ui| {
            let name = ui.label("Measured");
            ComboBox::from_id_salt("kept")
                .selected_text(shown.title())
                .width((ui.available_width() * if compares { 0.26 } else { 0.4 }).clamp(140.0, 420.0))
                .truncate()
                .show_ui(ui, |ui| {
                    for kept in &results.kept {
                        let is_shown = kept.file == shown.file;
                        if ui.selectable_label(is_shown, kept.title()).clicked() {
                            chosen = Some(kept.file.clone());
                        }
                    }
                })
                .response
                .labelled_by(name.id)
                .on_hover_text(shown.title());
            if compares {
                ui.checkbox(&mut self.together, "compare the drawn runs")
                    .on_hover_text("One curve for each run that is drawn, under one attack");
                if self.together {
                    let name = ui.label("under");
                    ComboBox::from_id_salt("compared attack")
                        .selected_text(attack_name(&now))
                        .show_ui(ui, |ui| {
                            for attack in attacks {
                                if ui.selectable_label(*attack == now, attack_name(attack)).clicked() {
                                    self.attack = Some(attack.clone());
                                }
                            }
                        })
                        .response
                        .labelled_by(name.id);
                }
            }
            ui.menu_button("Save", |ui| saved = export::menu_ui(ui));
        });
        if let Some(form) = saved
            && let Some(figure) = self.figure(state)
        {
            state.save_figure(figure, "robustness", form);
        }
        if let Some(results) = self.library.runs.get_mut(folder) {
            results.chosen = chosen;
        }
    }

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
