//! The list of all commands, found by typing a part of their names.

use egui::{Align2, Context, Key, ScrollArea, TextEdit};

use super::command::{Command, Entry};

/// The palette; closed at first.
#[derive(Default)]
pub struct Palette {
    open: bool,
    /// Whether its field already takes what is typed.
    ready: bool,
    typed: String,
    chosen: usize,
}

impl Palette {
    /// Opens or closes it.
    pub fn toggle(&mut self) {
        *self = Self {
            open: !self.open,
            ..Self::default()
        };
    }

    /// Draws it; gives the command that was chosen.
    pub fn ui(&mut self, ctx: &Context, entries: &[Entry]) -> Option<Command> {
        if !self.open {
            return None;
        }
        if !self.ready {
            // Where a frame takes long, a person has typed on before the field is there.
            self.ready = true;
            ctx.input(|input| {
                for event in &input.events {
                    if let egui::Event::Text(text) = event {
                        self.typed += text;
                    }
                }
            });
        }
        let wanted = self.typed.to_lowercase();
        let found: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.label.to_lowercase().contains(&wanted))
            .collect();
        let before = self.chosen;
        ctx.input_mut(|input| {
            if input.consume_key(egui::Modifiers::NONE, Key::ArrowDown) {
                self.chosen += 1;
            }
            if input.consume_key(egui::Modifiers::NONE, Key::ArrowUp) {
                self.chosen = self.chosen.saturating_sub(1);
            }
        });
        let moved = self.chosen != before;
        self.chosen = self.chosen.min(found.len().saturating_sub(1));
        let mut given = None;
        let mut open = true;
        egui::Window::new("All commands")
            .anchor(Align2::CENTER_TOP, [0.0, 80.0])
            .collapsible(false)
            .resizable(false)
            .default_width(420.0)
            .open(&mut open)
            .show(ctx, |ui| {
                let label = ui.label("Type a part of a command's name");
                let field = ui
                    .add(TextEdit::singleline(&mut self.typed).desired_width(f32::INFINITY))
                    .labelled_by(label.id);
                if field.changed() {
                    self.chosen = 0;
                }
                field.request_focus();
                ScrollArea::vertical().max_height(320.0).show(ui, |ui| {
                    for (position, entry) in found.iter().enumerate() {
                        let keys = entry
                            .shortcut
                            .map(|keys| ctx.format_shortcut(&keys))
                            .unwrap_or_default();
                        let button = egui::Button::new(entry.label)
                            .selected(position == self.chosen)
                            .shortcut_text(keys)
                            .frame_when_inactive(position == self.chosen)
                            .min_size(egui::vec2(ui.available_width(), 0.0));
                        let button = ui.add(button);
                        if position == self.chosen && moved {
                            button.scroll_to_me(None);
                        }
                        if button.clicked() {
                            given = Some(entry.command.clone());
                        }
                    }
                    if found.is_empty() {
                        ui.weak("No command is called so.");
                    }
                });
                if ui.input(|input| input.key_pressed(Key::Enter)) {
                    given = found.get(self.chosen).map(|entry| entry.command.clone());
                }
            });
        if given.is_some() || !open || ctx.input(|input| input.key_pressed(Key::Escape)) {
            self.open = false;
            self.typed.clear();
        }
        given.filter(|command| *command != Command::Palette)
    }
}
