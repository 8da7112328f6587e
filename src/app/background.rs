//! Work that takes longer than a frame, on a named thread that can be stopped.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use super::job::panic_text;
use crate::control::Control;

/// Work under way that sends messages of type `M`.
pub struct Background<M> {
    /// Pauses and stops it.
    pub control: Control,
    receiver: Receiver<M>,
    over: bool,
}

/// Sends messages and wakes the window.
pub struct Teller<M> {
    sender: Sender<M>,
    ctx: egui::Context,
}

impl<M> Teller<M> {
    /// Sends one message; a window that closed hears nothing any more.
    pub fn tell(&self, message: M) {
        let _ = self.sender.send(message);
        self.ctx.request_repaint_after(super::job::FRAME_PAUSE);
    }
}

impl<M: Send + 'static> Background<M> {
    /// Runs `work` on a thread called `name`; `failed` makes a message of what it died of.
    pub fn start(
        name: &str,
        ctx: &egui::Context,
        failed: fn(String) -> M,
        work: impl FnOnce(&Control, &Teller<M>) -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        let control = Control::new();
        let (sender, receiver) = channel();
        let teller = Teller {
            sender,
            ctx: ctx.clone(),
        };
        let steered = control.clone();
        let refused = teller.sender.clone();
        let spawned = thread::Builder::new().name(name.to_string()).spawn(move || {
            match catch_unwind(AssertUnwindSafe(|| work(&steered, &teller))) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => teller.tell(failed(format!("{error:#}"))),
                Err(panic) => teller.tell(failed(panic_text(panic.as_ref()))),
            }
            let ctx = teller.ctx.clone();
            drop(teller);
            ctx.request_repaint();
        });
        if let Err(error) = spawned {
            let _ = refused.send(failed(error.to_string()));
        }
        Self {
            control,
            receiver,
            over: false,
        }
    }

    /// The messages since the last call.
    pub fn drain(&mut self) -> Vec<M> {
        let mut messages = Vec::new();
        loop {
            match self.receiver.try_recv() {
                Ok(message) => messages.push(message),
                Err(std::sync::mpsc::TryRecvError::Empty) => break,
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    self.over = true;
                    break;
                }
            }
        }
        messages
    }

    /// Whether the work still goes on.
    pub fn is_running(&self) -> bool {
        !self.over
    }
}

impl<M> Drop for Background<M> {
    fn drop(&mut self) {
        self.control.stop();
    }
}
