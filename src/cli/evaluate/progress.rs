//! How far an evaluation is.

use indicatif::ProgressBar;

use crate::{
    cli::terminal::{note, progress_bar},
    evaluation::EvaluationEvent,
    wording::{duration, percent},
};

/// A bar over the whole suite.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// A bar where there is a terminal; elsewhere a line for each attack.
    pub fn new() -> Self {
        Self {
            bar: progress_bar(1_000, "{percent:>3} % · {msg} · {eta} left"),
        }
    }

    /// Tells one event.
    pub fn tell(&mut self, event: EvaluationEvent) {
        match (event, &self.bar) {
            (
                EvaluationEvent::Progress {
                    attack,
                    done,
                    of,
                    standing,
                    fraction,
                    ..
                },
                Some(bar),
            ) => {
                bar.set_position((fraction * 1_000.0) as u64);
                bar.set_message(format!("{attack}: {done} of {of}, {standing} still stand"));
            }
            (EvaluationEvent::AttackFinished(result), bar) => {
                let line = format!(
                    "{}: {} ({})",
                    result.name,
                    percent(result.accuracy()),
                    duration(result.seconds)
                );
                match bar {
                    Some(bar) => bar.suspend(|| note(line)),
                    None => note(line),
                }
            }
            _ => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
