//! What the window says and asks.

use std::path::PathBuf;

use egui::Context;

use super::{Answer, State, Work};
use crate::app::{
    background::Background,
    command::Command,
    notify::{self, Notice},
};

/// A question that is asked before something is lost.
pub(super) enum Question {
    Delete(Vec<PathBuf>),
    Close,
}

impl State {
    /// Lets the desktop tell how a training ended, or not.
    pub fn toggle_notifications(&mut self) {
        let told = !self.settings.notifications;
        self.settings.notifications = told;
        self.say(match told {
            true => "the desktop tells how a training ended while you look elsewhere".to_string(),
            false => "the desktop tells nothing".to_string(),
        });
    }

    /// Tells the desktop, where nobody looks at the window and a person did not forbid it.
    pub fn notify(&mut self, notice: Notice) {
        if !self.settings.notifications || !self.ctx.input(|input| notify::is_unseen(input.viewport())) {
            return;
        }
        self.unnotified = None;
        self.answers.push(Background::start(
            "notification",
            &self.ctx,
            Answer::Unnotified,
            move |_, _| notify::show(&notice),
        ));
    }

    /// Whether the window may close now; asks where work would be lost.
    pub fn may_close(&mut self) -> bool {
        if !self.is_busy() {
            return true;
        }
        // What is only being written down is done in a moment, and needs no question.
        if !self.closing && (self.is_training() || !self.works.is_empty()) {
            self.question = Some(Question::Close);
        } else {
            self.closing = true;
        }
        false
    }

    /// Tells something that went well.
    pub fn say(&mut self, text: String) {
        self.toast(text, false, None);
    }

    /// Tells something that went wrong.
    pub fn complain(&mut self, text: String) {
        self.toast(text, true, None);
    }

    pub(super) fn toast(&mut self, text: String, is_error: bool, way_out: Option<(String, Command)>) {
        self.messages.push(sentence(text), is_error, way_out);
        self.ctx.request_repaint();
    }

    /// Draws the question that is open, if one is.
    pub fn dialogs_ui(&mut self, ctx: &Context) {
        let Some(question) = &self.question else { return };
        let (title, text, yes, no) = match question {
            Question::Delete(folders) => {
                let names: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
                let text = format!(
                    "{} with checkpoints, figures and evaluations. This cannot be undone.",
                    names.join(", ")
                );
                match folders.len() {
                    1 => ("Delete this run?", text, "Delete the run", "Keep it"),
                    _ => ("Delete these runs?", text, "Delete the runs", "Keep them"),
                }
            }
            Question::Close if self.is_training() => (
                "Training is under way",
                "Closing stops it at a checkpoint. It can be resumed from the list of runs.".to_string(),
                "Checkpoint and close",
                "Keep training",
            ),
            Question::Close if self.works.contains(&Work::Experiment) => (
                "An experiment is under way",
                "Closing stops its row at a checkpoint. Run continues it from there.".to_string(),
                "Checkpoint and close",
                "Keep working",
            ),
            Question::Close => (
                "A run is being attacked",
                "Closing keeps the radii that are measured, and loses the one under way.".to_string(),
                "Stop and close",
                "Keep working",
            ),
        };
        let mut answer = None;
        let modal = egui::Modal::new(egui::Id::unique("question")).show(ctx, |ui| {
            ui.set_max_width(420.0);
            ui.heading(title);
            ui.label(text);
            ui.horizontal(|ui| {
                if ui.button(no).clicked() {
                    answer = Some(false);
                }
                if ui.button(yes).clicked() {
                    answer = Some(true);
                }
            });
        });
        if modal.should_close() {
            answer = Some(false);
        }
        match answer {
            None => {}
            Some(false) => self.question = None,
            Some(true) => match self.question.take() {
                Some(Question::Delete(folders)) => self.delete(folders),
                Some(Question::Close) => {
                    self.closing = true;
                    self.stop();
                }
                None => {}
            },
        }
    }
}

/// A text that begins like a sentence, unless it begins with a name.
fn sentence(text: String) -> String {
    let first = text.split(' ').next().unwrap_or_default();
    if !first.chars().all(char::is_lowercase) {
        return text;
    }
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    first + letters.as_str()
}
