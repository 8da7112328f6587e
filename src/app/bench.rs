//! `martlet bench ui`: how long a frame takes, idle and while training runs, and what the window costs training.

use std::time::{Duration, Instant};

use egui::ViewportCommand;

use super::{App, Command, Settings, series::Series, shown::Shown, views};
use crate::{
    engine::Examples,
    random::Rng,
    runs::{self, Summary},
};

/// How long each part takes.
const PART: Duration = Duration::from_secs(12);

/// How often the parts in which training runs come in turn: a machine's pace drifts, their ratio less.
const ROUNDS: usize = 3;

/// Points of each curve of the run beside the one that trains.
const LONG: usize = 100_000;

/// Runs in the list of runs.
const RUNS: usize = 200;

/// What is measured, one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Idle,
    Starting,
    /// Training, and somebody looks around.
    InUse,
    /// Training, with curves or the view that was chosen in sight, and nobody touches anything.
    LeftAlone,
    /// Training with the window hidden.
    Hidden,
    Over,
}

/// Minibatches a second in each round.
#[derive(Default)]
struct Paces {
    in_use: Vec<f64>,
    left_alone: Vec<f64>,
    hidden: Vec<f64>,
}

/// A measurement under way in a window.
pub struct Bench {
    part: Part,
    began: Instant,
    /// Minibatches done and seconds trained when the part began.
    trained: (usize, f64),
    frames: usize,
    idle: Vec<f32>,
    training: Vec<f32>,
    paces: Paces,
    /// Whether every example was given a record.
    met: bool,
    /// The processor's time of this thread at the frame before, and what each frame took of it, in seconds.
    clock: Option<f64>,
    busy: Vec<f32>,
    /// The one view that is looked at.
    view: Option<&'static str>,
    report: std::sync::mpsc::Sender<String>,
}

/// Seconds that this thread has spent on a processor, where the system tells; unlike a clock on the wall it does not count
/// the time in which other programs had the processor.
fn thread_seconds() -> Option<f64> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    let nanoseconds: f64 = told.split_whitespace().next()?.parse().ok()?;
    Some(nanoseconds * 1e-9)
}

/// A run beside the one that trains, each of whose curves has so many points as a long training makes.
fn long_run(shown: &[Shown], rng: &mut Rng) -> Option<Shown> {
    let now = shown.first()?;
    let mut long = Shown::read(&now.folder, 1).ok()?;
    // A folder of its own: averages are kept by folder.
    long.folder = now.folder.with_file_name("long");
    long.name = "a long run".to_string();
    for name in now.curves.keys() {
        let series = long.curves.entry(name.clone()).or_default();
        *series = Series::default();
        for point in 0..LONG {
            let x = point as f64 / LONG as f64;
            series.push(20.0 * x, f64::from(rng.uniform(0.0, 1.0)) * (1.0 - 0.8 * x));
        }
    }
    Some(long)
}

/// A list of many runs like the one that trains.
fn many_runs(shown: &[Shown]) -> Option<Vec<Summary>> {
    let folder = &shown.first()?.folder;
    let own = runs::list(folder.parent()?).ok()?.into_iter().next()?;
    let run = |number: usize| {
        let name = format!("{}-{number}", own.name);
        Summary {
            folder: folder.with_file_name(&name),
            name,
            ..own.clone()
        }
    };
    Some((0..RUNS).map(run).collect())
}

/// The view of this name.
///
/// # Errors
/// Where none is called so.
pub fn view_called(wanted: &str) -> Result<&'static str, String> {
    let names: Vec<&'static str> = views::all().iter().map(|view| view.name()).collect();
    let found = names.iter().find(|name| name.eq_ignore_ascii_case(wanted));
    found
        .copied()
        .ok_or_else(|| format!("expected a view ({}), got {wanted}", names.join(", ")))
}

impl Bench {
    /// A measurement that sends its report when it is over.
    pub fn new(view: Option<&'static str>, report: std::sync::mpsc::Sender<String>) -> Self {
        Self {
            part: Part::Idle,
            began: Instant::now(),
            trained: (0, 0.0),
            frames: 0,
            idle: Vec::new(),
            training: Vec::new(),
            paces: Paces::default(),
            met: false,
            clock: None,
            busy: Vec::new(),
            view,
            report,
        }
    }

    /// What is trained meanwhile: the first recipe, long enough to outlast the measurement, with no evaluation in it.
    /// Data of one's own are trained on whole.
    pub fn settings(runs_dir: std::path::PathBuf, device: String, data: Option<String>) -> Settings {
        let mut settings = Settings {
            runs_dir,
            device,
            beside: None,
            ..Settings::default()
        };
        settings.recipe.epochs = 1_000;
        settings.recipe.warm_up.natural_epochs = 0;
        if let Some(source) = data {
            settings.recipe.data.source = source;
            settings.recipe.data.limit_train = None;
            settings.recipe.data.held_out = 0;
        }
        settings.recipe.evaluation.every = 1_000;
        settings
    }

    /// Called after each frame with the processor's seconds that the frame before it took.
    pub fn frame(app: &mut App, seconds: Option<f32>) {
        let Some(mut bench) = app.bench.take() else { return };
        bench.advance(app, seconds);
        app.bench = Some(bench);
    }

    fn advance(&mut self, app: &mut App, seconds: Option<f32>) {
        self.frames += 1;
        let last = app.state.current().and_then(|shown| shown.last.as_ref());
        // The trainer's own clock, at its last minibatch: a frame comes at any moment between two.
        let trained = last.map_or((0, 0.0), |step| (step.total_steps, step.clock.seconds));
        let over = self.began.elapsed() >= PART;
        let part = self.part;
        match part {
            Part::Idle => {
                self.idle.extend(seconds);
                self.look_around(app);
                if over {
                    app.apply(Command::Start);
                    self.begin(Part::Starting, trained);
                }
            }
            // The first minibatches compile and warm up.
            Part::Starting if trained.0 >= 5 && self.has_met_all(app) => self.begin(Part::InUse, trained),
            Part::Starting => app.state.ctx.request_repaint_after(Duration::from_millis(50)),
            Part::InUse => {
                self.training.extend(seconds);
                let now = thread_seconds();
                if let (Some(before), Some(now)) = (self.clock, now) {
                    self.busy.push((now - before) as f32);
                }
                self.clock = now;
                self.look_around(app);
                if over {
                    self.paces.in_use.push(self.pace(trained));
                    self.clock = None;
                    app.apply(Command::Show(self.view.unwrap_or("Curves")));
                    self.begin(Part::LeftAlone, trained);
                }
            }
            Part::LeftAlone => {
                if over {
                    self.paces.left_alone.push(self.pace(trained));
                    app.state.ctx.send_viewport_cmd(ViewportCommand::Visible(false));
                    self.begin(Part::Hidden, trained);
                }
                app.state.ctx.request_repaint_after(Duration::from_millis(500));
            }
            Part::Hidden => {
                if over {
                    self.paces.hidden.push(self.pace(trained));
                    if self.paces.hidden.len() < ROUNDS {
                        app.state.ctx.send_viewport_cmd(ViewportCommand::Visible(true));
                        self.begin(Part::InUse, trained);
                    } else {
                        let _ = self.report.send(self.text());
                        app.apply(Command::Stop);
                        self.part = Part::Over;
                        let ctx = app.state.ctx.clone();
                        std::thread::spawn(move || {
                            std::thread::sleep(Duration::from_secs(2));
                            ctx.send_viewport_cmd(ViewportCommand::Close);
                        });
                    }
                }
                app.state.ctx.request_repaint_after(Duration::from_millis(500));
            }
            Part::Over => app.state.closing = true,
        }
    }

    /// Whether every example has a record; they are made up, as a whole epoch takes too long to wait for.
    fn has_met_all(&mut self, app: &mut App) -> bool {
        if self.met {
            return true;
        }
        let book = app.state.shown.iter_mut().find_map(|shown| shown.book.as_mut());
        let Some(book) = book else { return false };
        let rng = &mut Rng::new(1);
        let mut logits = || {
            let count = book.data.len() * book.data.classes();
            Some((0..count).map(|_| 4.0 * rng.uniform(0.0, 1.0)).collect())
        };
        let (natural, adversarial) = (logits(), logits());
        let indices = (0..book.data.len()).map(|position| book.data.index(position));
        book.take(&Examples {
            epoch: 1,
            indices: indices.collect(),
            natural,
            adversarial,
        });
        if let Some(many) = many_runs(&app.state.shown) {
            app.state.runs = Ok(many);
        }
        app.state.shown.extend(long_run(&app.state.shown, rng));
        self.met = true;
        // The frame in which they were made up is not one to measure.
        false
    }

    /// Shows the views in turn, as a person who looks around; draws at most 30 frames a second.
    fn look_around(&mut self, app: &mut App) {
        let names: Vec<&'static str> = views::all().iter().map(|view| view.name()).collect();
        if let Some(view) = self.view {
            app.apply(Command::Show(view));
        } else if self.frames.is_multiple_of(45) {
            app.apply(Command::Show(names[1 + (self.frames / 45) % (names.len() - 1)]));
        }
        app.state.ctx.request_repaint_after(Duration::from_millis(33));
    }

    /// Turns the wheel over the one view that is looked at: down for a second, then up.
    pub fn scroll(&self, input: &mut egui::RawInput) {
        let (Some(_), Some(screen)) = (self.view, input.screen_rect) else {
            return;
        };
        if matches!(self.part, Part::LeftAlone | Part::Over) {
            return;
        }
        let over = egui::pos2(0.6 * screen.width(), 0.6 * screen.height());
        let down = (self.frames / 200).is_multiple_of(2);
        input.events.push(egui::Event::PointerMoved(over));
        input.events.push(egui::Event::MouseWheel {
            unit: egui::MouseWheelUnit::Point,
            delta: egui::vec2(0.0, if down { -240.0 } else { 240.0 }),
            phase: egui::TouchPhase::Move,
            source: egui::MouseWheelSource::Unknown,
            modifiers: egui::Modifiers::NONE,
        });
    }

    fn begin(&mut self, part: Part, trained: (usize, f64)) {
        (self.part, self.began, self.trained) = (part, Instant::now(), trained);
    }

    fn pace(&self, (steps, seconds): (usize, f64)) -> f64 {
        steps.saturating_sub(self.trained.0) as f64 / (seconds - self.trained.1)
    }

    fn text(&self) -> String {
        let mut lines = vec![frames("idle", &self.idle), frames("while training", &self.training)];
        if !self.busy.is_empty() {
            lines.push(frames(
                "while training, on the processor alone (not waiting for it)",
                &self.busy,
            ));
        }
        let hidden = quantile(&self.paces.hidden, 0.5);
        lines.push(format!("training: {hidden:.2} minibatches/s with the window hidden"));
        for (name, paces) in [
            ("open and left alone", &self.paces.left_alone),
            ("in use", &self.paces.in_use),
        ] {
            let shares: Vec<f64> = paces
                .iter()
                .zip(&self.paces.hidden)
                .map(|(a, b)| 100.0 * a / b)
                .collect();
            lines.push(format!(
                "training: {:.2} minibatches/s with it {name}: {:.0} %, rounds {:.0} to {:.0} %",
                quantile(paces, 0.5),
                quantile(&shares, 0.5),
                quantile(&shares, 0.0),
                quantile(&shares, 1.0)
            ));
        }
        lines.join("\n")
    }
}

fn frames(name: &str, seconds: &[f32]) -> String {
    let seconds: Vec<f64> = seconds.iter().map(|seconds| f64::from(*seconds)).collect();
    format!(
        "frames {name}: median {:.1} ms, p99 {:.1} ms, {} frames",
        1_000.0 * quantile(&seconds, 0.5),
        1_000.0 * quantile(&seconds, 0.99),
        seconds.len()
    )
}

/// The value that a share of the others do not exceed; NaN of nothing.
fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}
