//! The bar above: the list of commands, theme, text size, help, messages.

use egui::{Context, Grid, Panel, RichText, Ui};

use super::{
    command::{Command, Entry, keys},
    state::State,
};

/// How large text may be, against its first size.
const SIZES: std::ops::RangeInclusive<f32> = 0.7..=2.5;

/// Text one step larger, or smaller.
pub fn resize(ctx: &Context, steps: f32) {
    let size = (ctx.zoom_factor() + 0.1 * steps).clamp(*SIZES.start(), *SIZES.end());
    ctx.set_zoom_factor((size * 10.0).round() / 10.0);
}

/// Draws the bar.
pub fn bar_ui(ui: &mut Ui, state: &mut State, entries: &[Entry]) {
    Panel::top("top").show(ui, |ui| {
        let mut commands = Vec::new();
        ui.horizontal(|ui| {
            let keys_of = |command: &Command| keys(ui.ctx(), entries, command).unwrap_or_default();
            let search = format!("Search commands  {}", keys_of(&Command::Palette));
            if ui.button(search).on_hover_text("Find everything by its name").clicked() {
                commands.push(Command::Palette);
            }
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                if ui
                    .button("Help")
                    .on_hover_text("What the views are, and the keys (F1)")
                    .clicked()
                {
                    commands.push(Command::Help);
                }
                let dark = ui.visuals().dark_mode;
                let (text, other) = match dark {
                    true => ("Light", egui::ThemePreference::Light),
                    false => ("Dark", egui::ThemePreference::Dark),
                };
                if ui.button(text).on_hover_text(format!("{text} theme")).clicked() {
                    commands.push(Command::Theme(other));
                }
                for (text, hint, command) in [
                    ("A+", "Larger text", Command::Larger),
                    ("A−", "Smaller text", Command::Smaller),
                ] {
                    if ui.button(text).on_hover_text(hint).clicked() {
                        commands.push(command);
                    }
                }
                state.messages.button_ui(ui, &mut commands);
            });
        });
        state.commands.extend(commands);
    });
}

/// What the views are, and every key; closed by Escape.
pub fn help_ui(ctx: &Context, entries: &[Entry], views: &[(&'static str, &'static str)]) -> bool {
    let modal = egui::Modal::new(egui::Id::unique("help")).show(ctx, |ui| {
        ui.set_max_width(560.0);
        ui.heading("Martlet");
        ui.label("Trains and attacks image classifiers, and shows what happens while it happens. Start in the Duel: drag ε, draw a digit, press Start. The lessons take minutes each.");
        ui.add_space(6.0);
        egui::ScrollArea::vertical().max_height(ctx.content_rect().height() * 0.65).show(ui, |ui| {
            ui.label(RichText::new("Views").strong());
            Grid::new("views").num_columns(2).spacing([14.0, 3.0]).show(ui, |ui| {
                for (name, about) in views {
                    ui.label(*name);
                    ui.weak(*about);
                    ui.end_row();
                }
            });
            ui.add_space(6.0);
            ui.label(RichText::new("Keys").strong());
            Grid::new("keys").num_columns(2).spacing([14.0, 3.0]).show(ui, |ui| {
                for entry in entries {
                    if let Some(keys) = keys(ctx, entries, &entry.command) {
                        ui.label(keys);
                        ui.weak(entry.label);
                        ui.end_row();
                    }
                }
            });
        });
        ui.button("Close help").clicked()
    });
    !(modal.inner || modal.should_close())
}
