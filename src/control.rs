//! What a person can do to work under way: pause, step, resume, stop.
//!
//! Loops look at it between minibatches; nothing is ever interrupted inside one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What a loop does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The next minibatch.
    Go,
    /// Finish in good order: checkpoint, report, return.
    Stop,
}

#[derive(Debug, Default)]
struct State {
    paused: bool,
    stopped: bool,
    /// Minibatches that a paused loop may still do.
    steps: usize,
}

/// A handle on work under way; clones steer the same work.
#[derive(Debug, Clone, Default)]
pub struct Control {
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Control {
    /// A control that lets everything run.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is plain flags: a panic elsewhere cannot leave it half-written.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.shared.1.notify_all();
    }

    /// Holds the work before its next minibatch.
    pub fn pause(&self) {
        self.change(|state| (state.paused, state.steps) = (true, 0));
    }

    /// Lets paused work go on.
    pub fn resume(&self) {
        self.change(|state| state.paused = false);
    }

    /// Lets paused work do one minibatch.
    pub fn step(&self) {
        self.change(|state| (state.paused, state.steps) = (true, state.steps + 1));
    }

    /// Asks the work to end in good order.
    pub fn stop(&self) {
        self.change(|state| state.stopped = true);
    }

    /// Whether the work was asked to end.
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    /// Whether the work is held.
    pub fn is_paused(&self) -> bool {
        self.state().paused
    }

    /// Called by the work before each minibatch: waits while paused, then says what to do.
    pub fn next(&self) -> Next {
        let mut state = self.wait();
        state.steps = state.steps.saturating_sub(1);
        if state.stopped { Next::Stop } else { Next::Go }
    }

    /// Called inside work that belongs to a minibatch, such as the evaluation after it: waits while paused, but takes no
    /// step away, so that a step leads to the next minibatch whatever lies between.
    pub fn pass(&self) -> Next {
        if self.wait().stopped { Next::Stop } else { Next::Go }
    }

    fn wait(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.paused && !state.stopped && state.steps == 0 {
            state = self.shared.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::mpsc, thread, time::Duration};

    #[test]
    fn paused_work_waits_steps_and_stops() {
        let control = Control::new();
        control.pause();
        let (sender, receiver) = mpsc::channel();
        let worker = control.clone();
        let thread = thread::spawn(move || {
            while worker.next() == Next::Go {
                sender.send(()).unwrap();
            }
        });
        assert!(
            receiver.recv_timeout(Duration::from_millis(50)).is_err(),
            "paused work did a minibatch"
        );
        control.step();
        assert!(receiver.recv_timeout(Duration::from_secs(5)).is_ok());
        assert!(
            receiver.recv_timeout(Duration::from_millis(50)).is_err(),
            "one step did two minibatches"
        );
        control.stop();
        thread.join().unwrap();
    }

    #[test]
    fn what_lies_inside_a_step_takes_no_step_away() {
        let control = Control::new();
        control.pause();
        control.step();
        assert_eq!([control.pass(), control.pass(), control.next()], [Next::Go; 3]);
        control.stop();
        assert_eq!(control.pass(), Next::Stop);
    }
}
