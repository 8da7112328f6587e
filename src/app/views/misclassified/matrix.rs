//! The confusion matrix, a filter at each of its cells.

use egui::{Color32, Rect, Sense, Stroke, StrokeKind, Ui, vec2};

use super::{Misclassified, record_ui};
use crate::{
    app::examples::{Book, Record},
    report::pictures::diverging,
};

/// How many examples fare how, counted once for each change of the book.
#[derive(Default)]
pub struct Tally {
    pub of: (std::path::PathBuf, u64, usize),
    pub fates: [usize; 5],
    /// True class by answer, row by row: to natural images, and under attack.
    confusion: [Vec<i64>; 2],
}

impl Tally {
    pub fn update(&mut self, folder: &std::path::Path, book: &Book, epoch: usize) {
        if self.of.0 == folder && (self.of.1, self.of.2) == (book.version, epoch) {
            return;
        }
        let classes = book.data.classes();
        *self = Self {
            of: (folder.to_path_buf(), book.version, epoch),
            fates: book.counts(epoch),
            confusion: [
                confusion(book, classes, |record| record.natural),
                confusion(book, classes, |record| record.adversarial),
            ],
        };
    }
}

/// A cell of a confusion matrix: true class, predicted class, and on which image.
#[derive(Clone, Copy, PartialEq)]
pub struct Cell {
    pub truth: usize,
    pub predicted: usize,
    pub adversarial: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
pub enum Matrix {
    #[default]
    Natural,
    Adversarial,
    Difference,
}

impl Misclassified {
    pub fn matrix_ui(&mut self, ui: &mut Ui, book: &Book) {
        ui.horizontal(|ui| {
            for (matrix, text, hint) in [
                (
                    Matrix::Natural,
                    "Natural",
                    "Rows: true class; columns: the answer to the natural image",
                ),
                (
                    Matrix::Adversarial,
                    "Adversarial",
                    "Rows: true class; columns: the answer under attack",
                ),
                (
                    Matrix::Difference,
                    "Difference",
                    "Adversarial minus natural: where the attack drives examples",
                ),
            ] {
                if ui
                    .selectable_label(self.matrix == matrix, text)
                    .on_hover_text(hint)
                    .clicked()
                {
                    self.matrix = matrix;
                }
            }
        });
        let classes = book.data.classes();
        let [natural, adversarial] = &self.tally.confusion;
        let values: Vec<i64> = match self.matrix {
            Matrix::Natural => natural.clone(),
            Matrix::Adversarial => adversarial.clone(),
            Matrix::Difference => adversarial.iter().zip(natural).map(|(a, n)| a - n).collect(),
        };
        let off_diagonal = |(place, _): &(usize, &i64)| place / classes != place % classes;
        let largest = values
            .iter()
            .enumerate()
            .filter(off_diagonal)
            .map(|(_, value)| value.abs())
            .max();
        let scale = 1.0 / largest.unwrap_or(1).max(1) as f32;
        let margin = 22.0;
        let side = ((ui.available_width() - margin) / classes as f32).clamp(4.0, 26.0);
        let (all, _) = ui.allocate_exact_size(
            vec2(margin + side * classes as f32, margin + side * classes as f32),
            Sense::hover(),
        );
        let names = book.data.class_names();
        let font = egui::FontId::proportional(11.0);
        let text = ui.visuals().text_color();
        for (class, name) in names.iter().enumerate().take(26) {
            let along = margin + side * (class as f32 + 0.5);
            let name: String = name.chars().take(3).collect();
            let painter = ui.painter();
            painter.text(
                all.min + vec2(margin / 2.0, along),
                egui::Align2::CENTER_CENTER,
                &name,
                font.clone(),
                text,
            );
            painter.text(
                all.min + vec2(along, margin / 2.0),
                egui::Align2::CENTER_CENTER,
                &name,
                font.clone(),
                text,
            );
        }
        for (place, value) in values.iter().enumerate() {
            let (truth, predicted) = (place / classes, place % classes);
            let corner = all.min + vec2(margin + side * predicted as f32, margin + side * truth as f32);
            let cell = Rect::from_min_size(corner, vec2(side - 1.0, side - 1.0));
            let response = ui.interact(cell, ui.scope_id().with(("cell", place)), Sense::click());
            let said = format!("{} taken for {}: {value}", names[truth], names[predicted]);
            response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Button, true, &said));
            let strength = if truth == predicted && self.matrix != Matrix::Difference {
                0.0
            } else {
                (*value as f32 * scale).clamp(-1.0, 1.0)
            };
            let [r, g, b] = diverging(strength);
            let colour = if truth == predicted && self.matrix != Matrix::Difference {
                ui.visuals().faint_bg_color
            } else {
                Color32::from_rgb(r, g, b)
            };
            ui.painter().rect_filled(cell, 1.0, colour);
            if side >= 16.0 && *value != 0 {
                // The colours of the map are light, whatever the theme; the diagonal has the theme's own.
                let ink = match truth == predicted && self.matrix != Matrix::Difference {
                    true => text,
                    false if strength.abs() > 0.75 => Color32::WHITE,
                    false => Color32::from_gray(30),
                };
                let font = egui::FontId::proportional(if value.abs() < 100 { 10.0 } else { 8.5 });
                let centre = egui::Align2::CENTER_CENTER;
                ui.painter().text(cell.center(), centre, brief(*value), font, ink);
            }
            if response.hovered() || response.has_focus() {
                ui.painter()
                    .rect_stroke(cell, 1.0, Stroke::new(2.0, text), StrokeKind::Inside);
            }
            if response.on_hover_text(said).clicked() {
                self.cell = Some(Cell {
                    truth,
                    predicted,
                    // Of a difference those that the attack has driven there.
                    adversarial: self.matrix != Matrix::Natural,
                });
                self.fate = None;
            }
        }
        ui.add_space(4.0);
        scale_ui(ui, self.matrix == Matrix::Difference, largest.unwrap_or(0));
        ui.weak("True class down, answer across. Click a cell to see its examples.");
        if self.epoch.is_some() {
            ui.weak("The matrix, the order and the figures are of the newest epoch; the colours of the one chosen.");
        }
        if self.order.contains(&self.chosen) {
            ui.separator();
            record_ui(ui, book, self.chosen);
        }
    }
}

/// A count in at most four letters.
fn brief(value: i64) -> String {
    let text = match value.abs() {
        0..1_000 => value.to_string(),
        1_000..10_000 => format!("{:.1}k", value as f64 / 1_000.0),
        _ => format!("{}k", value / 1_000),
    };
    text.replace('-', "−")
}

/// What the colours of the cells stand for.
fn scale_ui(ui: &mut Ui, is_signed: bool, largest: i64) {
    const STEPS: usize = 24;
    ui.horizontal(|ui| {
        let least = if is_signed { -largest } else { 0 };
        ui.weak(brief(least));
        let (bar, _) = ui.allocate_exact_size(vec2(96.0, 10.0), Sense::hover());
        let width = bar.width() / STEPS as f32;
        for step in 0..STEPS {
            let share = step as f32 / (STEPS - 1) as f32;
            let [r, g, b] = diverging(if is_signed { 2.0 * share - 1.0 } else { share });
            let place = Rect::from_min_size(
                bar.min + vec2(width * step as f32, 0.0),
                vec2(width + 0.5, bar.height()),
            );
            ui.painter().rect_filled(place, 0.0, Color32::from_rgb(r, g, b));
        }
        ui.weak(brief(largest));
        ui.weak("examples");
    });
}

/// How many examples of each true class get each answer, row by row.
fn confusion(book: &Book, classes: usize, answer: impl Fn(&Record) -> Option<u16>) -> Vec<i64> {
    let mut counts = vec![0; classes * classes];
    for (position, record) in book.records.iter().enumerate() {
        if let Some(answer) = answer(record) {
            counts[book.data.label(position) * classes + usize::from(answer)] += 1;
        }
    }
    counts
}
