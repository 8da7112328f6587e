//! How the program speaks: lines on standard output, notes and progress on standard error.

use std::{
    fmt::Display,
    io::{ErrorKind, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use indicatif::{ProgressBar, ProgressStyle};

/// Nobody reads standard output any more, or nothing can be written to it.
static CLOSED: AtomicBool = AtomicBool::new(false);
/// Something that was to be said there is lost.
static LOST: AtomicBool = AtomicBool::new(false);

/// Writes a line to standard output. A reader that went away (`martlet runs | head`) is no error; another refusal, such as a full
/// disk, is told once. Neither ends the work.
pub fn say(line: impl Display) {
    if CLOSED.load(Ordering::Relaxed) {
        return;
    }
    let mut out = std::io::stdout().lock();
    if let Err(error) = writeln!(out, "{line}").and_then(|()| out.flush()) {
        CLOSED.store(true, Ordering::Relaxed);
        if error.kind() != ErrorKind::BrokenPipe {
            LOST.store(true, Ordering::Relaxed);
            note(format!(
                "error: standard output takes nothing more, the work continues: {error}"
            ));
        }
    }
}

/// Whether something said to standard output is lost.
pub fn was_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Whether a person wants results and errors alone.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Leaves out notes and progress from here on.
pub fn be_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Writes a note to standard error, unless a person wants none.
pub fn note(line: impl Display) {
    if !QUIET.load(Ordering::Relaxed) {
        complain(line);
    }
}

/// Whether a person wants to know what goes on inside.
static VERBOSE: AtomicBool = AtomicBool::new(false);

/// Tells details from here on.
pub fn be_verbose(verbose: bool) {
    VERBOSE.store(verbose, Ordering::Relaxed);
}

/// Writes a detail to standard error, where a person wants such.
pub fn detail(line: impl FnOnce() -> String) {
    if VERBOSE.load(Ordering::Relaxed) {
        complain(format!("  {}", line()));
    }
}

/// Writes a line to standard error; where that is gone too there is nobody to tell.
pub fn complain(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Whether progress can be drawn.
pub fn can_draw() -> bool {
    std::io::stderr().is_terminal() && !QUIET.load(Ordering::Relaxed)
}

/// A bar of `length` steps, followed by what `after` asks for; none where nothing can be drawn.
pub fn progress_bar(length: u64, after: &str) -> Option<ProgressBar> {
    can_draw().then(|| {
        let bar = ProgressBar::new(length);
        // The callers' templates are constants; were one wrong, the default bar would do.
        if let Ok(style) = ProgressStyle::with_template(&format!("{{prefix}}{{bar:30}} {after}")) {
            bar.set_style(style);
        }
        bar
    })
}

/// Text in columns: the first left-aligned, the others right-aligned.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let room = " ".repeat(widths[column] - cell.chars().count());
            if column == 0 {
                format!("{cell}{room}")
            } else {
                format!("{room}{cell}")
            }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["a".into(), "1".into()], vec!["bcd".into(), "23 %".into()]];
        assert_eq!(table(&rows), "a       1\nbcd  23 %");
    }
}
