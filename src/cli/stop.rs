//! Signals that stop the work in good order, and what the program's exit status says of them.

use std::{
    process,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};

use super::terminal::note;
use crate::{control::Control, memory};

/// The signal that asked for a stop; 0 where none did.
static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// Whether others work with this process.
static IN_GROUP: AtomicBool = AtomicBool::new(false);

/// Says that a launcher began this process with others, and ends it where one of them is lost.
pub fn is_in_group() {
    IN_GROUP.store(true, Ordering::Relaxed);
}

/// A control that Ctrl-C, and a signal that asks to end, stops in good order; the second one ends the process at once.
pub fn stop_on_interrupt() -> Control {
    let control = Control::new();
    let stopped = control.clone();
    let last = Mutex::new(None::<Instant>);
    listen(move |signal| {
        // A shell's `timeout`, and a terminal, send one stop to the child and to its group.
        const ONE_STOP: Duration = Duration::from_millis(500);
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < ONE_STOP) {
            return;
        }
        if last.is_some() {
            process::exit(128 + signal);
        }
        *last = Some(Instant::now());
        SIGNAL.store(signal, Ordering::Relaxed);
        stopped.stop();
        if IN_GROUP.load(Ordering::Relaxed) {
            // A launcher soon ends for good what it asks to end.
            let kept = memory::kept_in_mind().map_or(String::new(), |kept| format!("; {kept}"));
            note(format!(
                "asked to stop, as a launcher does where a person wants it or a process of the group is lost{kept}"
            ));
            return;
        }
        note("stopping in good order; press Ctrl-C again to end at once");
    });
    control
}

/// The exit status that says which signal stopped the work: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP.
pub fn status() -> Option<u8> {
    let signal = SIGNAL.load(Ordering::Relaxed);
    (signal != 0).then(|| u8::try_from(128 + signal).unwrap_or(1))
}

#[cfg(unix)]
fn listen(on_signal: impl Fn(i32) + Send + 'static) {
    use signal_hook::{
        consts::{SIGHUP, SIGINT, SIGTERM},
        iterator::Signals,
    };
    // Where signals cannot be caught they end the process, as without this.
    if let Ok(mut signals) = Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        std::thread::spawn(move || signals.forever().for_each(on_signal));
    }
}

#[cfg(not(unix))]
fn listen(on_signal: impl Fn(i32) + Send + 'static) {
    const SIGINT: i32 = 2;
    // A handler can be set once in a process; where one is set already it steers the same kind of work.
    let _ = ctrlc::set_handler(move || on_signal(SIGINT));
}
