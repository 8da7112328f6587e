//! The pictures to choose from, in one row.

use egui::{Sense, Stroke, StrokeKind, Ui, Vec2, vec2};

use crate::app::{
    command::Command,
    duel::Move,
    state::State,
    theme::{palette, space},
};

/// The side of a picture on the shelf.
const SIDE: f32 = 44.0;
/// Room for the buttons beside them.
const BUTTONS: f32 = 330.0;

/// What a person asks of the stage from here.
#[derive(Default)]
pub struct Asked {
    /// The attack's steps are to be played.
    pub play: bool,
    /// A picture is to be chosen from a file.
    pub open: bool,
    /// The canvas is to open or close.
    pub draw: bool,
}

/// Draws it; `change` tells whether what the attack changed is shown instead of the picture, `alone` whether
/// the canvas is not in sight beside it.
pub fn shelf_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>, change: &mut bool, alone: bool) -> Asked {
    let duel = &state.duel;
    let mut asked = Asked::default();
    ui.horizontal(|ui| {
        ui.set_height(SIDE + 4.0);
        ui.spacing_mut().item_spacing = vec2(space::XS, 0.0);
        for (number, picture) in duel.shelf.pictures.iter().enumerate() {
            if ui.available_width() < SIDE + BUTTONS {
                break;
            }
            let (place, response) = ui.allocate_exact_size(Vec2::splat(SIDE), Sense::click());
            if let Some(thumbnail) = duel.shelf.thumbnails.get(number) {
                egui::Image::new((thumbnail.id(), place.size())).paint_at(ui, place);
            }
            let chosen = duel.chosen == Some(number);
            let tokens = palette(ui.visuals().dark_mode);
            let stroke = if chosen {
                Stroke::new(3.0, tokens.text)
            } else if response.hovered() || response.has_focus() {
                Stroke::new(2.0, tokens.weak)
            } else {
                Stroke::new(1.0, tokens.line)
            };
            ui.painter().rect_stroke(place, 3.0, stroke, StrokeKind::Outside);
            response.widget_info(|| {
                egui::WidgetInfo::selected(
                    egui::Role::RadioButton,
                    true,
                    chosen,
                    format!("Picture: {}", picture.title),
                )
            });
            if response.on_hover_text(&picture.title).clicked() {
                commands.push(Command::Duel(Move::Picture(number)));
            }
        }
        ui.spacing_mut().item_spacing.x = space::S;
        ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
            asked.play = ui
                .button("Play the attack")
                .on_hover_text("Step by step from the natural picture; so does letting go of ε")
                .clicked();
            ui.toggle_value(change, "Change")
                .on_hover_text("What the attack changed, blue less and red more, ε fills the colours");
            asked.open = ui
                .button("Open…")
                .on_hover_text("A picture of yours, scaled to what the networks take; or drop one on the window")
                .clicked();
            asked.draw = alone && ui.button("Draw").on_hover_text("Draw a digit with the mouse").clicked();
        });
    });
    asked
}
