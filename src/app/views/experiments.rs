//! The paper's tables and figures: reported, measured, difference; run row by row.

use std::{collections::BTreeSet, path::PathBuf};

use egui::{Color32, ComboBox, Grid, ProgressBar, RichText, ScrollArea, TextEdit, Ui};
use egui_plot::{Bar, BarChart, Corner, GridMark, Legend, Line, Plot, PlotPoints};

use super::View;
use crate::{
    app::{
        background::Background,
        command::Command,
        job, notify,
        state::{State, Work},
        theme,
    },
    engine::{Event, session},
    evaluation::EvaluationEvent,
    experiments::{
        Budget, Conduct, EXPERIMENTS, Estimate, Figure, Outcome, Plan, Progress, Request, RowState, Stage, Verdict,
        estimate, experiment,
    },
    report::{compare::signed, page::page},
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
            for remark in plan.remarks() {
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

    /// The rows that are to be done, with those that they need.
    fn chosen(&self, plan: &Plan) -> Vec<usize> {
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

    fn controls_ui(&mut self, ui: &mut Ui, state: &mut State, plan: &Plan) {
        let chosen = self.chosen(plan);
        let states = self
            .outcome
            .as_ref()
            .map(|outcome| outcome.states.clone())
            .unwrap_or_default();
        ui.horizontal_wrapped(|ui| {
            if let Some(work) = &self.work {
                let paused = work.control.is_paused();
                if ui.button(if paused { "Go on" } else { "Pause" }).clicked() {
                    if paused {
                        work.control.resume()
                    } else {
                        work.control.pause()
                    }
                }
                if ui
                    .button("Stop")
                    .on_hover_text("What is done stays; Run goes on from there")
                    .clicked()
                {
                    work.control.resume();
                    work.control.stop();
                    self.doing = "stopping after this minibatch".into();
                }
                ui.add(ProgressBar::new(self.fraction).desired_width(160.0).show_percentage());
                ui.label(&self.doing);
                return;
            }
            let left = chosen.iter().any(|row| states.get(*row) != Some(&RowState::Measured));
            let words = if states.iter().any(|state| *state != RowState::Missing) {
                "Go on with the rows"
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
            } else if let Some(estimate) = &self.estimate {
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

    /// Says how the work ended, on the desktop too where nobody looks.
    fn tell_end(&self, state: &mut State) {
        let Some(plan) = self.planned() else { return };
        let title = plan.experiment.title;
        if let Some(error) = &self.error {
            return state.notify(notify::failed(Some(title), error));
        }
        let chosen = self.chosen(plan);
        let states = self.outcome.as_ref().map(|outcome| &outcome.states);
        let is_done = |row: &usize| states.and_then(|states| states.get(*row)) == Some(&RowState::Measured);
        let how = if chosen.iter().all(is_done) {
            "is measured"
        } else {
            "stopped; the same rows go on from there"
        };
        state.notify(notify::ended(title, how));
        state.say(format!("{title} {how}"));
    }

    fn estimate(&mut self, state: &State, plan: &Plan) {
        let (plan, device) = (plan.clone(), state.settings.device.clone());
        self.error = None;
        self.measuring = Some(Background::start(
            "estimate",
            &state.ctx,
            Said::Failed,
            move |control, teller| {
                let opened = job::open(&device)?;
                let _release = job::Release(opened.device.clone());
                if let Some(estimate) = estimate(&plan, &opened.device, control)? {
                    teller.tell(Said::Estimate(estimate));
                }
                Ok(())
            },
        ));
    }

    fn start(&mut self, state: &mut State, plan: &Plan, chosen: Vec<usize>) {
        if state.is_taken() {
            return;
        }
        let (plan, device, runs_dir) = (
            plan.clone(),
            state.settings.device.clone(),
            state.settings.runs_dir.clone(),
        );
        (self.error, self.fraction) = (None, 0.0);
        self.doing = "opening the device; a GPU is compared with the CPU before its first use".into();
        self.work = Some(Background::start(
            "experiment",
            &state.ctx,
            Said::Failed,
            move |control, teller| {
                let opened = job::open(&device)?;
                let _release = job::Release(opened.device.clone());
                let work = Conduct {
                    plan: &plan,
                    runs_dir: &runs_dir,
                    device: &opened.device,
                    identity: session::identity(&opened.device, &opened.verdict),
                    control,
                };
                let read = || -> anyhow::Result<()> {
                    teller.tell(Said::Outcome(Box::new(Outcome::read(&plan, &runs_dir)?)));
                    Ok(())
                };
                let (mut done, mut steps_per_epoch, mut unread) = (0, 1, Ok(()));
                let part = 1.0 / chosen.len().max(1) as f32;
                work.run(&chosen, &mut |progress| match progress {
                    Progress::Row { row, stage } => {
                        let label = &plan.rows[row].row.label;
                        if let Stage::Failed(error) = stage {
                            teller.tell(Said::RowFailed(format!("{label}: {error}")));
                        }
                        if matches!(stage, Stage::Done | Stage::Failed(_)) {
                            done += 1;
                            unread = read();
                        } else {
                            teller.tell(Said::Doing(label.clone(), done as f32 * part));
                        }
                    }
                    Progress::Training { row, event } => match event {
                        Event::Started(started) => steps_per_epoch = started.steps_per_epoch.max(1),
                        Event::Step(report) => {
                            let planned = &plan.rows[row];
                            let (label, epochs) = (&planned.row.label, planned.recipe.epochs);
                            let share = report.total_steps as f32 / (steps_per_epoch * epochs) as f32;
                            let text = format!("{label}: training, epoch {} of {epochs}", report.epoch);
                            // The last part of a row is its evaluation.
                            teller.tell(Said::Doing(text, (done as f32 + 0.6 * share) * part));
                        }
                        Event::Epoch(_) => unread = read(),
                        _ => {}
                    },
                    Progress::Measuring { row, event } => {
                        if let EvaluationEvent::Progress { attack, fraction, .. } = event {
                            let text = format!("{}: measuring under {attack}", plan.rows[row].row.label);
                            teller.tell(Said::Doing(text, (done as f32 + 0.6 + 0.4 * fraction as f32) * part));
                        }
                    }
                })?;
                unread?;
                read()
            },
        ));
    }

    /// What is trained: ticked or not, how far it is, how long it takes.
    fn rows_ui(&mut self, ui: &mut Ui, state: &mut State, plan: &Plan) {
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

/// Text that names a terminal's options, for a person at the window.
fn in_the_window(error: &str) -> String {
    error
        .replace("name it with --dataset", "name it under Data")
        .replace("name it with --unlabelled", "name it under Unlabelled")
}

fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil() as u64;
    match minutes {
        0..=1 if seconds < 55.0 => format!("{seconds:.0} s"),
        0..=119 => format!("{minutes} min"),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

fn save_ui(ui: &mut Ui, state: &mut State, outcome: &Outcome) {
    ui.menu_button("Save", |ui| {
        if ui.button("Report page…").clicked() {
            match page(&outcome.page()) {
                Ok(text) => state.save_as("html", text.into_bytes()),
                Err(error) => state.complain(error.to_string()),
            }
            ui.close();
        }
        if ui.button("Table as CSV…").clicked() {
            state.save_as("csv", outcome.csv().into_bytes());
            ui.close();
        }
        if ui.button("Table as Markdown…").clicked() {
            state.save_as("md", outcome.markdown().into_bytes());
            ui.close();
        }
    });
}

/// Reported, measured, difference; the intervals on hovering, so that a whole table of the paper fits beside its rows.
fn table_ui(ui: &mut Ui, outcome: &Outcome) {
    ui.label(RichText::new("Reported and measured").strong());
    let reported: Vec<bool> = (0..outcome.attacks.len())
        .map(|place| outcome.is_reported(place))
        .collect();
    Grid::new("table").striped(true).spacing([12.0, 3.0]).show(ui, |ui| {
        ui.label("");
        ui.label("");
        for (attack, is_reported) in outcome.attacks.iter().zip(&reported) {
            ui.label(attack);
            if *is_reported {
                ui.label("");
                ui.label("");
            }
        }
        ui.end_row();
        // Without heads of their own, so that the table fits beside the form at 1280 points.
        ui.label("");
        ui.label("");
        for is_reported in &reported {
            let heads: &[&str] = if *is_reported {
                &["paper", "here", "differ."]
            } else {
                &["here"]
            };
            for head in heads {
                ui.weak(*head);
            }
        }
        ui.end_row();
        let none = || "–".to_string();
        for line in &outcome.lines {
            ui.label(&outcome.row(line).label);
            ui.label(line.slot.to_string())
                .on_hover_text(format!("The {} checkpoint", line.slot));
            for (cell, is_reported) in line.cells.iter().zip(&reported) {
                if *is_reported {
                    ui.label(cell.reported.map_or_else(none, |figure| format!("{figure:.2}")));
                }
                match cell.measured {
                    None => ui.label(none()),
                    Some((standing, n)) => {
                        let interval = (100.0 * standing.interval.low, 100.0 * standing.interval.high);
                        ui.label(format!("{:.1}", 100.0 * standing.accuracy))
                            .on_hover_text(format!(
                                "{} of {n} test images; 95 % interval {:.1} to {:.1}",
                                standing.correct, interval.0, interval.1
                            ))
                    }
                };
                if *is_reported {
                    ui.label(cell.difference().map_or_else(none, signed));
                }
            }
            ui.end_row();
        }
    });
    ui.weak(outcome.caption());
    ui.add_space(6.0);
}

/// What of it is more than chance.
fn comparisons_ui(ui: &mut Ui, outcome: &Outcome) {
    let dark = ui.visuals().dark_mode;
    let comparisons = outcome.comparisons();
    if comparisons.is_empty() {
        return;
    }
    ui.label(RichText::new("Is it more than chance?").strong());
    Grid::new("comparisons")
        .striped(true)
        .spacing([16.0, 3.0])
        .show(ui, |ui| {
            for head in ["under", "", "paper", "measured", "95 % interval", "verdict"] {
                ui.weak(head);
            }
            ui.end_row();
            for comparison in comparisons {
                ui.label(format!("{} ({})", comparison.attack, comparison.slot));
                ui.label(format!("{} minus {}", comparison.first, comparison.second));
                ui.label(
                    comparison
                        .reported
                        .map_or_else(|| "–".into(), |points| signed(points / 100.0)),
                );
                match &comparison.measured {
                    Some(difference) => {
                        ui.label(signed(difference.value));
                        ui.label(format!(
                            "{} to {}",
                            signed(difference.interval.low),
                            signed(difference.interval.high)
                        ))
                        .on_hover_text(match difference.paired {
                            true => "Of pairs: the same images, each with its fate in both rows",
                            false => "As if of different images: one of the two did not keep each image's fate",
                        });
                    }
                    None => {
                        ui.label("–");
                        ui.label("–");
                    }
                }
                match comparison.verdict() {
                    Verdict::Ahead => ui.label(format!("{} is ahead", comparison.first)),
                    Verdict::Behind => {
                        ui.colored_label(theme::warning(dark), format!("{} is ahead", comparison.second))
                    }
                    Verdict::Undecided => ui.weak("cannot be told apart"),
                    Verdict::Open => ui.weak("not measured yet"),
                };
                ui.end_row();
            }
        });
    for collapse in outcome.collapses() {
        ui.colored_label(theme::warning(dark), collapse);
    }
    ui.add_space(6.0);
}

/// The paper's figure with what was measured.
fn figure_ui(ui: &mut Ui, outcome: &Outcome) {
    let Some(figure) = outcome.plan.experiment.figure else {
        return;
    };
    let dark = ui.visuals().dark_mode;
    let plot = Plot::new("figure")
        .height(280.0)
        .width(ui.available_width().clamp(320.0, 900.0))
        .legend(Legend::default().position(Corner::RightBottom).background_alpha(0.7))
        .include_y(0.0)
        .allow_scroll(false)
        .y_axis_formatter(|mark: GridMark, _| format!("{:.0} %", 100.0 * mark.value))
        .y_axis_min_width(54.0)
        .grid_color(Color32::from_gray(128).gamma_multiply(0.35));
    match figure {
        Figure::Epochs => {
            let chart = outcome.over_epochs();
            if chart.series.is_empty() {
                return;
            }
            ui.label(RichText::new(&chart.title).strong());
            ui.weak(
                "On images held out of the training set; the first row, with which the others are compared, is dashed.",
            );
            plot.x_axis_label("epoch").show(ui, |plot| {
                for series in chart.series {
                    let points: PlotPoints<'_> = series.points.iter().map(|(x, y)| [*x, *y]).collect();
                    let style = if series.dash > 0 {
                        egui_plot::LineStyle::dashed_dense()
                    } else {
                        egui_plot::LineStyle::Solid
                    };
                    let line = Line::new(series.name, points).color(theme::series(series.colour, dark));
                    plot.line(line.width(2.0).style(style));
                }
            });
        }
        Figure::Number(name) => {
            let chart = outcome.against(name);
            if chart.groups.is_empty() {
                return;
            }
            ui.label(RichText::new(&chart.title).strong());
            let groups = chart.groups.clone();
            let width = 0.8 / chart.series.len().max(1) as f64;
            plot.x_axis_label(name)
                .x_axis_formatter(move |mark: GridMark, _| {
                    let place = mark.value.round();
                    let near = (mark.value - place).abs() < 1e-6 && place >= 0.0;
                    near.then(|| groups.get(place as usize).cloned())
                        .flatten()
                        .unwrap_or_default()
                })
                .show(ui, |plot| {
                    for (position, series) in chart.series.into_iter().enumerate() {
                        let shift = (position as f64 + 0.5) * width - 0.4;
                        let bars = series.bars.iter().enumerate().filter_map(|(place, bar)| {
                            Some(Bar::new(place as f64 + shift, bar.as_ref()?.value).width(width))
                        });
                        let colour = theme::series(position, dark);
                        let whiskers: Vec<(f64, crate::report::chart::Bar)> = series
                            .bars
                            .iter()
                            .enumerate()
                            .filter_map(|(place, bar)| Some((place as f64 + shift, (*bar)?)))
                            .collect();
                        plot.bar_chart(BarChart::new(series.name, bars.collect()).color(colour.gamma_multiply(0.8)));
                        for (x, bar) in whiskers {
                            let whisker = Line::new("", PlotPoints::from(vec![[x, bar.low], [x, bar.high]]));
                            plot.line(whisker.color(Color32::GRAY).width(1.5).allow_hover(false));
                        }
                    }
                });
        }
    }
}
