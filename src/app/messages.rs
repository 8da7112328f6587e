//! What the window has said: the newest on the stage for a while, all of it in a drawer.

use std::time::{Duration, Instant};

use egui::{Area, Context, Frame, Id, Order, RichText, ScrollArea, Ui};

use super::{command::Command, theme};
use crate::wording::duration;

/// Messages on the stage at once.
const ON_STAGE: usize = 2;
/// Messages in the drawer.
const KEPT: usize = 200;
/// Letters of a message that is said whole.
const SHORT: usize = 180;

/// One thing said.
struct Message {
    text: String,
    is_error: bool,
    /// What else a person may do about it: a label and its command.
    way_out: Option<(String, Command)>,
    /// Until when it stays on the stage.
    until: Instant,
    when: Instant,
    read: bool,
}

/// What was said since the window opened, the newest last.
#[derive(Default)]
pub struct Messages {
    all: Vec<Message>,
    open: bool,
}

/// What a message is about: two of one cause are one message.
fn cause(text: &str) -> &str {
    text.split(": ").next().unwrap_or(text)
}

/// The first part of a long message, and whether there is more.
fn short(text: &str) -> (String, bool) {
    let line = text.lines().next().unwrap_or_default();
    let cut = line.char_indices().nth(SHORT).map_or(line.len(), |(place, _)| place);
    let end = match line[..cut].rfind("; ").filter(|_| cut < line.len()) {
        Some(place) => place,
        None => cut,
    };
    (line[..end].to_string(), end < text.len())
}

impl Messages {
    /// Says something; what was said before of the same cause makes room for it.
    pub fn push(&mut self, text: String, is_error: bool, way_out: Option<(String, Command)>) {
        // What goes wrong stays longer.
        let seconds = if is_error { 30 } else { 6 };
        self.all
            .retain(|message| cause(&message.text) != cause(&text) || message.is_error != is_error);
        self.all.push(Message {
            text,
            is_error,
            way_out,
            until: Instant::now() + Duration::from_secs(seconds),
            when: Instant::now(),
            read: !is_error,
        });
        let beyond = self.all.len().saturating_sub(KEPT);
        self.all.drain(..beyond);
    }

    /// What went wrong takes no place any more: it has passed.
    pub fn passed(&mut self, what: &str) {
        for message in self.all.iter_mut().filter(|message| cause(&message.text) == what) {
            (message.until, message.read) = (Instant::now(), true);
        }
    }

    /// Opens the drawer, or closes it.
    pub fn toggle(&mut self) {
        self.open = !self.open;
    }

    /// The drawer's button; nothing before anything was said.
    pub fn button_ui(&self, ui: &mut Ui, commands: &mut Vec<Command>) {
        if self.all.is_empty() {
            return;
        }
        let unread = self.all.iter().filter(|message| !message.read).count();
        let text = match unread {
            0 => "Messages".to_string(),
            unread => format!("Messages ({unread})"),
        };
        let button = ui.selectable_label(self.open, text);
        if button.on_hover_text("Everything that was said").clicked() {
            commands.push(Command::Messages);
        }
    }

    /// Draws what is on the stage, in the upper right corner, where no view has its buttons, and the drawer where it is open.
    pub fn ui(&mut self, ctx: &Context, commands: &mut Vec<Command>) {
        if self.open {
            return self.drawer_ui(ctx, commands);
        }
        let now = Instant::now();
        let live: Vec<usize> = (0..self.all.len())
            .filter(|place| self.all[*place].until > now)
            .collect();
        if live.is_empty() {
            return;
        }
        Area::new(Id::unique("messages"))
            .anchor(egui::Align2::RIGHT_TOP, [-16.0, 76.0])
            .order(Order::Foreground)
            .show(ctx, |ui| {
                for place in live.iter().rev().take(ON_STAGE) {
                    let message = &mut self.all[*place];
                    Frame::popup(ui.style()).show(ui, |ui| {
                        ui.set_max_width(420.0);
                        if message.ui(ui, commands, true) {
                            (message.until, message.read) = (now, true);
                        }
                    });
                }
                if live.len() > ON_STAGE && ui.button(format!("{} more", live.len() - ON_STAGE)).clicked() {
                    commands.push(Command::Messages);
                }
            });
        ctx.request_repaint_after(Duration::from_secs(1));
    }

    fn drawer_ui(&mut self, ctx: &Context, commands: &mut Vec<Command>) {
        let mut open = true;
        let window = egui::Window::new("Messages")
            .open(&mut open)
            .anchor(egui::Align2::RIGHT_TOP, [-16.0, 76.0]);
        window.collapsible(false).resizable(false).show(ctx, |ui| {
            ui.set_width(420.0);
            ScrollArea::vertical()
                .max_height(ctx.content_rect().height() * 0.6)
                .show(ui, |ui| {
                    for message in self.all.iter_mut().rev() {
                        message.read = true;
                        ui.weak(format!("{} ago", duration(message.when.elapsed().as_secs_f64())));
                        message.ui(ui, commands, false);
                        ui.separator();
                    }
                    if ui.button("Clear").clicked() {
                        self.all.clear();
                    }
                });
        });
        self.open = open;
    }
}

impl Message {
    /// Draws it; tells whether it was closed.
    fn ui(&self, ui: &mut Ui, commands: &mut Vec<Command>, on_stage: bool) -> bool {
        let mut closed = false;
        let (first, has_more) = short(&self.text);
        let text = RichText::new(if has_more { format!("{first} …") } else { first });
        // What has passed is not red any more.
        let live = self.until > Instant::now();
        match self.is_error && live {
            true => ui.colored_label(theme::error(ui.visuals().dark_mode), text),
            false => ui.label(text),
        };
        if has_more {
            ui.collapsing("Details", |ui| ui.label(&self.text));
        }
        ui.horizontal(|ui| {
            if on_stage && ui.button("Close message").clicked() {
                closed = true;
            }
            if let Some((label, command)) = &self.way_out
                && ui.button(label).clicked()
            {
                commands.push(command.clone());
                closed = true;
            }
        });
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cause_is_one_message() {
        let mut messages = Messages::default();
        messages.push("Nothing was started: ε: 8".into(), true, None);
        messages.push("The form's data: a".into(), false, None);
        messages.push("Nothing was started: ε: 9".into(), true, None);
        let texts: Vec<&str> = messages.all.iter().map(|message| message.text.as_str()).collect();
        assert_eq!(texts, ["The form's data: a", "Nothing was started: ε: 9"]);
        assert_eq!(messages.all.iter().filter(|message| !message.read).count(), 1);
        messages.passed("Nothing was started");
        assert!(messages.all.iter().all(|message| message.read));
        assert!(
            messages.all[1].until <= Instant::now(),
            "what has passed is on the stage still"
        );
    }

    #[test]
    fn a_long_message_is_cut_between_its_parts() {
        let long = format!("expected a; got {}; the way out: {}", "b".repeat(90), "c".repeat(200));
        let (first, more) = short(&long);
        assert!(more && first.ends_with(&"b".repeat(90)), "{first}");
        assert_eq!(short("ends well"), ("ends well".to_string(), false));
        assert!(short(&"ε".repeat(400)).0.chars().count() == SHORT);
    }
}
