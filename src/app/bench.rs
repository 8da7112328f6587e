//! `martlet bench ui`: how long a frame takes, idle and while training runs, and what the window costs training.

use std::time::{Duration, Instant};

use super::{App, Command, Settings, series::Series, shown::Shown, views};
use crate::{engine::Examples, random::Rng};

/// How long each part takes.
const PART: Duration = Duration::from_secs(12);

/// Points of each curve of the run beside the one that trains.
const LONG: usize = 100_000;

/// What is measured, one after the other.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Idle,
    Starting,
    Training,
    Hidden,
    Over,
}

/// A measurement under way in a window.
pub struct Bench {
    part: Part,
    began: Instant,
    steps: usize,
    frames: usize,
    idle: Vec<f32>,
    training: Vec<f32>,
    with_window: f64,
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
            steps: 0,
            frames: 0,
            idle: Vec::new(),
            training: Vec::new(),
            with_window: 0.0,
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
        let steps = app
            .state
            .current()
            .and_then(|shown| shown.last.as_ref())
            .map_or(0, |step| step.total_steps);
        let over = self.began.elapsed() >= PART;
        let part = self.part;
        match part {
            Part::Idle => {
                self.idle.extend(seconds);
                self.look_around(app);
                if over {
                    app.apply(Command::Start);
                    self.begin(Part::Starting, steps);
                }
            }
            // The first minibatches compile and warm up.
            Part::Starting if steps >= 5 && self.has_met_all(app) => self.begin(Part::Training, steps),
            Part::Starting => app.state.ctx.request_repaint_after(Duration::from_millis(50)),
            Part::Training => {
                self.training.extend(seconds);
                let now = thread_seconds();
                if let (Some(before), Some(now)) = (self.clock, now) {
                    self.busy.push((now - before) as f32);
                }
                self.clock = now;
                self.look_around(app);
                if over {
                    self.with_window = self.pace(steps);
                    app.apply(Command::Show("Curves"));
                    app.state.ctx.send_viewport_cmd(egui::ViewportCommand::Visible(false));
                    self.begin(Part::Hidden, steps);
                }
            }
            Part::Hidden => {
                if over {
                    let alone = self.pace(steps);
                    let _ = self.report.send(self.text(alone));
                    app.apply(Command::Stop);
                    self.part = Part::Over;
                    std::thread::spawn({
                        let ctx = app.state.ctx.clone();
                        move || {
                            std::thread::sleep(Duration::from_secs(2));
                            ctx.send_viewport_cmd(egui::ViewportCommand::Close);
                        }
                    });
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
        if self.part == Part::Over {
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

    fn begin(&mut self, part: Part, steps: usize) {
        (self.part, self.began, self.steps) = (part, Instant::now(), steps);
    }

    fn pace(&self, steps: usize) -> f64 {
        steps.saturating_sub(self.steps) as f64 / self.began.elapsed().as_secs_f64()
    }

    fn text(&self, alone: f64) -> String {
        let line = |name: &str, seconds: &[f32]| {
            let mut sorted = seconds.to_vec();
            sorted.sort_by(f32::total_cmp);
            let at = |share: f64| {
                let place = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
                1_000.0 * sorted.get(place).copied().unwrap_or(f32::NAN)
            };
            format!(
                "frames {name}: median {:.1} ms, p99 {:.1} ms, {} frames",
                at(0.5),
                at(0.99),
                sorted.len()
            )
        };
        format!(
            "{}\n{}\n{}training: {:.2} minibatches/s with the window in use, {alone:.2} with it hidden: {:.0} %",
            line("idle", &self.idle),
            line("while training", &self.training),
            match self.busy.is_empty() {
                true => String::new(),
                false => format!(
                    "{}\n",
                    line(
                        "while training, on the processor alone (not waiting for it)",
                        &self.busy
                    )
                ),
            },
            self.with_window,
            100.0 * self.with_window / alone
        )
    }
}
