//! The thumbnails: only those on the screen are drawn, by mouse and keys alike.

use egui::{Color32, Key, Rect, ScrollArea, Sense, Stroke, StrokeKind, Ui, vec2};

use super::{Misclassified, record_ui};
use crate::app::{atlas::Atlas, command::Command, examples::Book, theme};

/// Where the keys are in the gallery: a place in its order.
#[derive(Default)]
pub struct Keys {
    /// The thumbnail that has the keys.
    at: Option<usize>,
    /// The one that gets them as soon as it is drawn.
    next: Option<usize>,
    /// The rows that were seen whole in the frame before.
    seen: std::ops::Range<usize>,
}

impl Keys {
    /// Follows the keys to another thumbnail: to a neighbour, a screen on, to either end.
    fn follow(&mut self, ui: &Ui, columns: usize, all: usize) {
        let Some(at) = self.at.take() else { return };
        let screen = columns * self.seen.len().max(1);
        let moves = [
            (Key::ArrowLeft, at.saturating_sub(1)),
            (Key::ArrowRight, at + 1),
            (Key::ArrowUp, at.checked_sub(columns).unwrap_or(at)),
            (Key::ArrowDown, if at + columns < all { at + columns } else { at }),
            (Key::PageUp, at.saturating_sub(screen)),
            (Key::PageDown, at + screen),
            (Key::Home, 0),
            (Key::End, all),
        ];
        let pressed = |key: &Key| ui.input_mut(|input| input.consume_key(egui::Modifiers::NONE, *key));
        if let Some((_, to)) = moves.iter().find(|(key, _)| pressed(key)) {
            self.next = Some((*to).min(all.saturating_sub(1)));
        }
    }

    /// How far the gallery must be scrolled for the thumbnail that gets the keys, where it was not seen.
    fn offset(&self, columns: usize, height: f32) -> Option<f32> {
        let row = self.next? / columns;
        let first = if self.seen.contains(&row) {
            return None;
        } else if row < self.seen.start {
            row
        } else {
            (row + 1).saturating_sub(self.seen.len().max(1))
        };
        Some(first as f32 * height)
    }
}

impl Misclassified {
    pub fn gallery_ui(&mut self, ui: &mut Ui, book: &Book, side: f32, commands: &mut Vec<Command>) {
        if self.atlas.as_ref().is_none_or(|atlas| !atlas.is_of(&book.data)) {
            self.atlas = Some(Atlas::new(&book.data));
        }
        let Some(atlas) = &mut self.atlas else { return };
        atlas.begin_frame();
        let dark = ui.visuals().dark_mode;
        let gap = 5.0;
        let columns = (((ui.available_width() - 14.0) / (side + gap)) as usize).max(1);
        let rows = self.order.len().div_ceil(columns);
        if self.order.is_empty() {
            ui.weak("No example fits these filters.");
            return;
        }
        ui.spacing_mut().item_spacing = vec2(0.0, 0.0);
        let epoch = self.epoch;
        self.keys.follow(ui, columns, self.order.len());
        let mut scroll = ScrollArea::vertical().auto_shrink(false);
        if let Some(offset) = self.keys.offset(columns, side + gap) {
            scroll = scroll.vertical_scroll_offset(offset);
        }
        let whole = (ui.available_height() / (side + gap)) as usize;
        let (order, chosen, keys) = (&self.order, &mut self.chosen, &mut self.keys);
        scroll.show_rows(ui, side + gap, rows, |ui, visible| {
            // Rows are drawn that are seen in part; the first may be one of them.
            let first = visible.start + usize::from(visible.len() > whole && visible.start > 0);
            keys.seen = first..first + whole;
            let (all, _) = ui.allocate_exact_size(
                vec2(ui.available_width(), (side + gap) * visible.len() as f32),
                Sense::hover(),
            );
            for (line, row) in visible.enumerate() {
                for column in 0..columns {
                    let Some(&position) = order.get(row * columns + column) else {
                        return;
                    };
                    let corner = all.min + vec2(column as f32, line as f32) * (side + gap) + vec2(gap, gap) / 2.0;
                    let place = Rect::from_min_size(corner, vec2(side, side));
                    let response = ui.interact(place, ui.scope_id().with(position), Sense::click());
                    let place_in_order = row * columns + column;
                    if keys.next == Some(place_in_order) {
                        keys.next = None;
                        response.request_focus();
                    }
                    if response.has_focus() {
                        keys.at = Some(place_in_order);
                        let filter = egui::EventFilter {
                            horizontal_arrows: true,
                            vertical_arrows: true,
                            ..Default::default()
                        };
                        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
                    }
                    let record = &book.records[position];
                    let fate = epoch.map_or_else(|| record.fate(), |epoch| record.fate_at(epoch));
                    response.widget_info(|| {
                        let label = &book.data.class_names()[book.data.label(position)];
                        let text = format!("Example {position}, class {label}");
                        egui::WidgetInfo::labeled(egui::Role::Button, true, text)
                    });
                    if let Some((texture, part)) = atlas.thumbnail(ui.ctx(), position) {
                        ui.painter().image(texture, place, part, Color32::WHITE);
                    }
                    if side >= 40.0 && epoch.is_none() {
                        answer_ui(ui, book, position, place);
                    }
                    let stroke = if response.hovered() || response.has_focus() {
                        3.0
                    } else {
                        2.0
                    };
                    let colour = theme::fate(fate, dark);
                    ui.painter()
                        .rect_stroke(place, 2.0, Stroke::new(stroke, colour), StrokeKind::Outside);
                    let response = response.on_hover_ui(|ui| record_ui(ui, book, position));
                    if response.clicked() {
                        *chosen = position;
                        commands.push(Command::Inspect(position));
                    }
                }
            }
        });
    }
}

/// What became of an example, in its lower corner: true class › answer, under attack where it was attacked.
fn answer_ui(ui: &Ui, book: &Book, position: usize, place: Rect) {
    let record = &book.records[position];
    let Some(answer) = record.adversarial.or(record.natural) else {
        return;
    };
    let names = book.data.class_names();
    let short = |class: usize| names[class].chars().take(3).collect::<String>();
    let label = book.data.label(position);
    let text = match usize::from(answer) == label {
        true => short(label),
        false => format!("{}›{}", short(label), short(usize::from(answer))),
    };
    let font = egui::FontId::proportional(10.0);
    let words = ui.painter().layout_no_wrap(text, font, Color32::WHITE);
    let ground = Rect::from_min_size(
        place.left_bottom() - vec2(0.0, words.size().y),
        words.size() + vec2(4.0, 0.0),
    );
    ui.painter().rect_filled(ground, 1.0, Color32::from_black_alpha(170));
    ui.painter().galley(ground.min + vec2(2.0, 0.0), words, Color32::WHITE);
}
