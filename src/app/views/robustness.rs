//! How a run stands up: accuracy against ε under each attack, the suite at the trained ε, and what makes it doubtful.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    time::SystemTime,
};

use egui::{Color32, DragValue, Grid, RichText, ScrollArea, TextEdit, Ui};
use egui_plot::{Corner, FilledArea, GridMark, Legend, Line, MarkerShape, Plot, PlotPoints, Points};

use super::View;
use crate::{
    app::{
        background::Background,
        command::Order,
        job, notify,
        state::{State, Work},
        theme,
    },
    control::Control,
    data::{self, Split},
    engine::session,
    evaluation::{CurvePoint, Evaluation, EvaluationEvent, Standing, Suite, Warning, evaluate},
    recipe::Recipe,
    runs::{Run, Slot, write_atomic},
    threat::{Magnitude, ThreatModel},
    wording::percent,
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

/// An evaluation: the run, the suite, test images, whether at other radii than the trained one too.
struct Job {
    folder: PathBuf,
    suite: Suite,
    images: usize,
    curve: bool,
}

/// What is known of one run.
#[derive(Default)]
struct Results {
    /// By attack: radius and the examples that stand.
    curves: BTreeMap<String, Vec<(f64, Standing)>>,
    /// The suite at the trained radius.
    suite: Option<Box<Evaluation>>,
    error: Option<String>,
    /// The folder as it was when this was read.
    read_at: Option<Moment>,
    /// Whether the run has another best checkpoint by now than the one that was attacked.
    outdated: bool,
}

/// When the run's best checkpoint was chosen, and when its evaluation was kept: what is known is read anew when either
/// changes, whoever changed it.
type Moment = [Option<SystemTime>; 2];

fn moment(folder: &Path) -> Moment {
    ["checkpoints/best", KEPT].map(|file| folder.join(file).metadata().ok()?.modified().ok())
}

impl Results {
    /// What an earlier attack on the run left in its folder.
    fn read(folder: &Path) -> Self {
        let mut results = Self {
            read_at: Some(moment(folder)),
            ..Self::default()
        };
        // A file that is missing or of another version is no fault: the run can be attacked anew.
        let read = std::fs::read(folder.join(KEPT)).ok();
        if let Some(evaluation) = read.and_then(|bytes| serde_json::from_slice::<Evaluation>(&bytes).ok()) {
            for point in &evaluation.curve {
                results.add(point);
            }
            let best = Run::open(folder).and_then(|run| run.checkpoint_name(Slot::Best));
            let best = best.ok().flatten();
            results.outdated = evaluation.checkpoint.is_some() && evaluation.checkpoint != best;
            results.suite = Some(Box::new(evaluation));
        }
        results
    }

    fn add(&mut self, point: &CurvePoint) {
        let epsilon = f64::from(point.epsilon.value());
        let standings = point
            .attacks
            .iter()
            .map(|attack| (attack.name.clone(), attack.standing));
        for (attack, standing) in standings.chain([("worst-case".to_string(), point.worst_case)]) {
            let curve = self.curves.entry(attack).or_default();
            curve.push((epsilon, standing));
            curve.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
    }
}

/// What the evaluating thread says.
enum Said {
    Doing(String, f32),
    Point(CurvePoint),
    Suite(Box<Evaluation>),
    Failed(String),
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
                "These figures are of an earlier checkpoint: the best one is another by now. Attack the run again.",
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

    fn start(&mut self, state: &State, job: Job) {
        let Job {
            folder,
            suite,
            images,
            curve,
        } = job;
        self.results.insert(folder.clone(), Results::default());
        self.under_way = Some(folder.clone());
        (self.doing, self.fraction) = ("loading".to_string(), 0.0);
        let device = state.settings.device.clone();
        self.work = Some(Background::start(
            "robustness",
            &state.ctx,
            Said::Failed,
            move |control, teller| {
                let run = Run::open(&folder)?;
                let recipe = Recipe::from_toml(run.recipe_toml())?;
                let whole = data::load(&recipe.data.source, Split::Test)?;
                let dataset = whole.take(images.min(whole.len()));
                let opened = job::open(&device)?;
                let _release = job::Release(opened.device.clone());
                let checkpoint = run.checkpoint_name(Slot::Best)?;
                let model = session::model_of(&run, Slot::Best, dataset.shape(), dataset.classes(), &opened.device)?;
                let mut shares = if curve { SHARES.to_vec() } else { vec![1.0] };
                let parts = shares.len() as f32;
                // The trained radius first: it is what the table shows.
                shares.sort_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs()));
                let mut kept: Option<Evaluation> = None;
                for (part, share) in shares.into_iter().enumerate() {
                    let at_trained = share == 1.0;
                    let epsilon = scaled(&recipe.threat.epsilon, share)?;
                    let threat = ThreatModel {
                        norm: recipe.threat.norm,
                        epsilon: if at_trained {
                            recipe.threat.epsilon.clone()
                        } else {
                            epsilon
                        },
                    };
                    let mut suite = suite.clone();
                    (suite.seed, suite.probes) = (recipe.seed, at_trained);
                    let evaluation = evaluate(
                        &model,
                        &dataset,
                        &suite,
                        &threat,
                        &opened.device,
                        control,
                        &mut |event| {
                            if let EvaluationEvent::Progress { attack, fraction, .. } = event {
                                let text = format!("{attack} at ε = {}", threat.epsilon);
                                teller.tell(Said::Doing(text, (part as f32 + fraction as f32) / parts));
                            }
                        },
                    );
                    let mut evaluation = match evaluation {
                        Ok(evaluation) => evaluation,
                        Err(_) if Control::is_stopped(control) => return Ok(()),
                        Err(error) => return Err(error.into()),
                    };
                    let point = CurvePoint::from(&evaluation);
                    teller.tell(Said::Point(point.clone()));
                    match &mut kept {
                        None => {
                            evaluation.dataset.split = Some("test".to_string());
                            evaluation.checkpoint.clone_from(&checkpoint);
                            if recipe.data.held_out == 0 {
                                evaluation.add_warning(Warning::CheckpointChosenOnTestSet);
                            }
                            evaluation.curve.push(point);
                            teller.tell(Said::Suite(Box::new(evaluation.clone())));
                            kept = Some(evaluation);
                        }
                        Some(kept) => kept.curve.push(point),
                    }
                    // After every radius, so that a stop loses one at most.
                    if let Some(kept) = &mut kept {
                        kept.curve
                            .sort_by(|a, b| a.epsilon.value().total_cmp(&b.epsilon.value()));
                        write_atomic(&folder.join(KEPT), kept.to_json(true)?.as_bytes())?;
                    }
                }
                Ok(())
            },
        ));
    }
}

fn scaled(epsilon: &Magnitude, share: f64) -> anyhow::Result<Magnitude> {
    Ok(format!("{:.5}", f64::from(epsilon.value()) * share).parse()?)
}

fn curves_ui(ui: &mut Ui, results: &Results, threat: &ThreatModel, height: f32) {
    let dark = ui.visuals().dark_mode;
    let trained = f64::from(threat.epsilon.value());
    let natural = results
        .curves
        .get("natural")
        .and_then(|curve| curve.first())
        .map(|(_, standing)| *standing);
    // The parts of attacks in turn stand in the table.
    let whole = |(name, _): &(&String, &Vec<_>)| *name != "natural" && !name.contains('/');
    let mut drawn = Vec::new();
    for (place, (attack, curve)) in results.curves.iter().filter(whole).enumerate() {
        // Without a perturbation every attack is the natural accuracy.
        let mut points = natural.map(|standing| (0.0, standing)).into_iter().collect::<Vec<_>>();
        points.extend(curve.iter().copied());
        drawn.push((place, attack.clone(), points));
    }
    Plot::new("robustness")
        .height(height)
        .legend(Legend::default().position(Corner::LeftBottom).background_alpha(0.7))
        .include_y(0.0)
        .include_y(1.0)
        .include_x(0.0)
        .x_axis_label(format!("ε ({})", threat.norm))
        .y_axis_formatter(|mark: GridMark, _| format!("{:.0} %", 100.0 * mark.value))
        .y_axis_min_width(54.0)
        .grid_color(Color32::from_gray(128).gamma_multiply(0.35))
        .label_formatter(|hover| match hover {
            egui_plot::HoverPosition::NearDataPoint {
                plot_name, position, ..
            } => Some(format!(
                "{plot_name}\nε = {:.4}: {:.1} % robust",
                position.x,
                100.0 * position.y
            )),
            egui_plot::HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, |plot| {
            let trained = egui_plot::VLine::new("trained ε", trained).color(Color32::GRAY);
            plot.vline(trained.style(egui_plot::LineStyle::dotted_loose()));
            for (place, attack, points) in drawn {
                let colour = theme::series(place, dark);
                let column = |value: fn(&(f64, Standing)) -> f64| points.iter().map(value).collect::<Vec<f64>>();
                let band = FilledArea::new(
                    "",
                    &column(|point| point.0),
                    &column(|point| point.1.interval.low),
                    &column(|point| point.1.interval.high),
                );
                plot.add(band.fill_color(colour.gamma_multiply(0.15)).allow_hover(false));
                let line = || {
                    points
                        .iter()
                        .map(|(x, standing)| [*x, standing.accuracy])
                        .collect::<PlotPoints<'_>>()
                };
                plot.line(Line::new(attack.clone(), line()).color(colour).width(2.0));
                plot.points(
                    Points::new(attack, line())
                        .color(colour)
                        .radius(3.5)
                        .shape(MarkerShape::Circle),
                );
            }
        });
}

fn suite_ui(ui: &mut Ui, evaluation: &Evaluation) {
    let dark = ui.visuals().dark_mode;
    ui.add_space(6.0);
    ui.label(
        RichText::new(format!(
            "At ε = {} ({}), N = {} test images, {}",
            evaluation.epsilon, evaluation.norm, evaluation.n, evaluation.device
        ))
        .strong(),
    );
    Grid::new("suite")
        .striped(true)
        .num_columns(4)
        .spacing([22.0, 4.0])
        .show(ui, |ui| {
            for head in ["attack", "accuracy", "95 % interval", "with"] {
                ui.label(RichText::new(head).weak());
            }
            ui.end_row();
            let standing_ui = |ui: &mut Ui, standing: &Standing| {
                ui.label(percent(standing.accuracy));
                ui.label(format!(
                    "{:.1} to {:.1}",
                    100.0 * standing.interval.low,
                    100.0 * standing.interval.high
                ));
            };
            for attack in &evaluation.attacks {
                ui.label(&attack.name);
                standing_ui(ui, &attack.standing);
                ui.label(&attack.settings);
                ui.end_row();
            }
            ui.label("worst case")
                .on_hover_text("An example counts only if it withstood every attack");
            standing_ui(ui, &evaluation.worst_case);
            ui.end_row();
        });
    ui.add_space(6.0);
    if evaluation.warnings.is_empty() {
        ui.weak("No warning applies to these figures.");
    }
    for warning in &evaluation.warnings {
        ui.colored_label(theme::warning(dark), format!("Warning: {}", warning.headline()));
        ui.label(warning.advice());
        ui.add_space(3.0);
    }
}
