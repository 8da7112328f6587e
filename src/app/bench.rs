//! `martlet bench ui`: how long a frame takes, idle and while training runs, and what the window costs training.

use std::time::{Duration, Instant};

use super::{App, Command, Settings, views};

/// How long each part takes.
const PART: Duration = Duration::from_secs(12);

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
    report: std::sync::mpsc::Sender<String>,
}

impl Bench {
    /// A measurement that sends its report when it is over.
    pub fn new(report: std::sync::mpsc::Sender<String>) -> Self {
        Self {
            part: Part::Idle,
            began: Instant::now(),
            steps: 0,
            frames: 0,
            idle: Vec::new(),
            training: Vec::new(),
            with_window: 0.0,
            report,
        }
    }

    /// What is trained meanwhile: the first recipe, long enough to outlast the measurement, with no evaluation in it.
    pub fn settings(runs_dir: std::path::PathBuf, device: String) -> Settings {
        let mut settings = Settings {
            runs_dir,
            device,
            ..Settings::default()
        };
        settings.recipe.epochs = 1_000;
        settings.recipe.warm_up.natural_epochs = 0;
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
        match self.part {
            Part::Idle => {
                self.idle.extend(seconds);
                self.look_around(app);
                if over {
                    app.apply(Command::Start);
                    self.begin(Part::Starting, steps);
                }
            }
            // The first minibatches compile and warm up.
            Part::Starting if steps >= 5 => self.begin(Part::Training, steps),
            Part::Starting => app.state.ctx.request_repaint_after(Duration::from_millis(50)),
            Part::Training => {
                self.training.extend(seconds);
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

    /// Shows the views in turn, as a person who looks around; draws at most 30 frames a second.
    fn look_around(&mut self, app: &mut App) {
        let names: Vec<&'static str> = views::all().iter().map(|view| view.name()).collect();
        if self.frames.is_multiple_of(45) {
            app.apply(Command::Show(names[1 + (self.frames / 45) % (names.len() - 1)]));
        }
        app.state.ctx.request_repaint_after(Duration::from_millis(33));
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
            "{}\n{}\ntraining: {:.2} minibatches/s with the window in use, {alone:.2} with it hidden: {:.0} %",
            line("idle", &self.idle),
            line("while training", &self.training),
            self.with_window,
            100.0 * self.with_window / alone
        )
    }
}
