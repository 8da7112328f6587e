//! Progress of a run: a bar with ETA where there is a terminal, plain lines where there is none, JSON for scripts.

use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::terminal::{note, progress_bar, say};
use crate::{
    engine::{EpochReport, Event, Started, StepReport},
    wording::{duration, percent},
};

/// Between two plain lines inside an epoch.
const LINE_PAUSE: Duration = Duration::from_secs(15);

/// Tells a run's events.
pub struct Reporter {
    json: bool,
    bar: Option<ProgressBar>,
    started: Option<Started>,
    began: Instant,
    last_line: Instant,
    label: String,
}

impl Reporter {
    /// A reporter for one run; `label` stands before its lines.
    pub fn new(label: &str, json: bool) -> Self {
        Self {
            json,
            bar: None,
            started: None,
            began: Instant::now(),
            last_line: Instant::now(),
            label: label.to_string(),
        }
    }

    /// Tells one event.
    pub fn tell(&mut self, event: &Event) {
        if self.json {
            if let Ok(line) = serde_json::to_string(event) {
                say(line);
            }
            return;
        }
        match event {
            Event::Started(started) => self.start(started),
            Event::Step(report) => self.step(report),
            Event::Evaluating(progress) => {
                if let Some(bar) = &self.bar {
                    bar.set_message(format!(
                        "evaluating {}: {} of {}",
                        progress.attack, progress.done, progress.of
                    ));
                }
            }
            Event::Epoch(report) => self.line(&epoch_line(report)),
            Event::Warning(warning) => {
                self.line(&format!(
                    "warning: {}\n  {} (martlet explain {})",
                    warning.message, warning.advice, warning.kind
                ));
            }
            Event::Adjusted(adjusted) => self.line(&format!("from here on: {}", adjusted.change)),
            Event::Finished(ended) | Event::Stopped(ended) => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                let how = match event {
                    Event::Finished(ended) if ended.early => "finished early, robust accuracy no longer rising,",
                    Event::Finished(_) => "finished",
                    _ => "stopped",
                };
                let best = match &ended.best {
                    Some(best) => format!(
                        "; best epoch {} with {} {}",
                        best.epoch,
                        percent(best.accuracy),
                        best.under
                    ),
                    None => String::new(),
                };
                let (epochs, time) = (ended.epochs, duration(ended.clock.seconds));
                self.line(&format!(
                    "{how} after {epochs} epochs, {} minibatches, {time}{best}",
                    ended.total_steps
                ));
            }
        }
    }

    fn start(&mut self, started: &Started) {
        self.began = Instant::now();
        self.line(&started.summary);
        if started.steps_done > 0 {
            self.line(&format!("continuing after {} minibatches", started.steps_done));
        }
        let steps = (started.steps_per_epoch * started.epochs) as u64;
        if let Some(bar) = progress_bar(steps, "{percent:>3} % · {msg}") {
            if !self.label.is_empty() {
                bar.set_prefix(format!("{} ", self.label));
            }
            bar.set_position(started.steps_done as u64);
            bar.set_message("first minibatch (a GPU compiles its kernels now)");
            bar.enable_steady_tick(Duration::from_millis(250));
            self.bar = Some(bar);
        }
        self.started = Some(started.clone());
    }

    fn step(&mut self, report: &StepReport) {
        let Some(started) = &self.started else { return };
        let all = started.steps_per_epoch * started.epochs;
        let done = report.total_steps.saturating_sub(started.steps_done).max(1);
        let left = self.began.elapsed().as_secs_f64() / done as f64 * all.saturating_sub(report.total_steps) as f64;
        let loss = report.figures.get("loss").copied().unwrap_or(f64::NAN);
        let message = format!(
            "epoch {} of {} · minibatch {} of {} · loss {loss:.3} · {} left",
            report.epoch,
            started.epochs,
            report.step,
            started.steps_per_epoch,
            duration(left)
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(report.total_steps as u64);
                bar.set_message(message);
            }
            None if self.last_line.elapsed() >= LINE_PAUSE => {
                self.last_line = Instant::now();
                self.line(&message);
            }
            None => {}
        }
    }

    fn line(&self, text: &str) {
        let label = if self.label.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.label)
        };
        match &self.bar {
            Some(bar) => bar.suspend(|| note(format!("{label}{text}"))),
            None => note(format!("{label}{text}")),
        }
    }
}

fn epoch_line(report: &EpochReport) -> String {
    let loss = report.train.get("loss").copied().unwrap_or(f64::NAN);
    let mut line = format!("epoch {:>3} of {} · loss {loss:.4}", report.epoch, report.epochs);
    if !report.accuracy.is_empty() {
        let mut names: Vec<_> = report.accuracy.iter().collect();
        names.sort_by(|a, b| b.1.total_cmp(a.1));
        for (name, accuracy) in names {
            line += &format!(" · {name} {}", percent(*accuracy));
        }
        line += &format!(" ({}, N = {}, ε = {})", report.split, report.n, report.epsilon);
    }
    if report.best {
        line += " · best so far";
    }
    line
}
