//! A canvas on which a digit is drawn with the mouse; both networks answer while the pen moves.

use egui::{Align2, Color32, Pos2, Sense, Shape, Stroke, StrokeKind, Ui, Vec2, pos2};

use crate::app::{
    command::Command,
    duel::{self, Move},
    state::State,
    theme::{self, palette, size},
};

/// Half the width of the pen, in shares of the canvas.
const PEN: f32 = 0.04;
/// A step of the pen in shares of the canvas: shorter ones add nothing.
const STEP: f32 = 0.012;

/// What is drawn on it.
#[derive(Default)]
pub struct Canvas {
    strokes: Vec<duel::Stroke>,
}

impl Canvas {
    pub fn ui(&mut self, ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
        // A picture from the shelf leaves the canvas empty for the next drawing.
        if state.duel.chosen.is_some() && !ui.input(|input| input.pointer.any_down()) {
            self.strokes.clear();
        }
        let side = ui.available_width().min(ui.available_height() - 68.0).max(80.0);
        let (place, response) = ui.allocate_exact_size(Vec2::splat(side), Sense::drag());
        let tokens = palette(true);
        let painter = ui.painter_at(place.expand(1.0));
        // As the data: light ink on dark paper, in either theme.
        painter.rect_filled(place, 6.0, Color32::from_gray(10));
        painter.rect_stroke(
            place,
            6.0,
            Stroke::new(1.0, palette(ui.visuals().dark_mode).line),
            StrokeKind::Outside,
        );
        let changed = self.draw(&response, place);
        if self.strokes.is_empty() {
            painter.text(
                place.center(),
                Align2::CENTER_CENTER,
                "Draw a digit here",
                theme::font(size::LEAD),
                tokens.weak,
            );
        }
        let at = |point: &[f32; 2]| place.min + Vec2::new(point[0], point[1]) * side;
        for stroke in &self.strokes {
            let points: Vec<Pos2> = stroke.iter().map(at).collect();
            for end in points.first().into_iter().chain(points.last()) {
                painter.circle_filled(*end, PEN * side, tokens.text);
            }
            painter.add(Shape::line(points, Stroke::new(2.0 * PEN * side, tokens.text)));
        }
        response
            .widget_info(|| egui::WidgetInfo::labeled(egui::Role::Canvas, true, "Canvas: draw a digit with the mouse"));
        if changed && !self.strokes.is_empty() {
            commands.push(Command::Duel(Move::Draw(self.strokes.clone())));
        }
        let clear = ui.add_enabled(!self.strokes.is_empty(), egui::Button::new("Clear the canvas"));
        if clear.clicked() {
            self.strokes.clear();
            commands.push(Command::Duel(Move::Picture(state.duel.shelf.first())));
        }
    }

    /// Takes the pen's way; tells whether it has left ink.
    fn draw(&mut self, response: &egui::Response, place: egui::Rect) -> bool {
        let Some(pointer) = response.interact_pointer_pos() else {
            return false;
        };
        let pointer = pos2(
            pointer.x.clamp(place.left(), place.right()),
            pointer.y.clamp(place.top(), place.bottom()),
        );
        let along = (pointer - place.min) / place.width();
        let point = [along.x, along.y];
        if response.drag_started() {
            self.strokes.push(vec![point]);
            return true;
        }
        let Some(stroke) = self.strokes.last_mut() else {
            return false;
        };
        let is_new = stroke
            .last()
            .is_none_or(|last| (last[0] - point[0]).hypot(last[1] - point[1]) > STEP);
        if is_new {
            stroke.push(point);
        }
        is_new
    }
}
