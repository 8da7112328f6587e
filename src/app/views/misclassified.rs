//! S− and S+: which training examples the model gets wrong, which it can be talked out of, which hold.

use egui::{Color32, ComboBox, Key, Rect, RichText, ScrollArea, Sense, Slider, Stroke, StrokeKind, Ui, pos2, vec2};

use super::View;
use crate::app::{
    atlas::Atlas,
    command::{Command, Order},
    examples::{Book, FILE, Record},
    state::State,
    theme::{self, Fate},
};

/// The view of misclassified examples.
#[derive(Default)]
pub struct Misclassified {
    atlas: Option<Atlas>,
    fate: Option<Kind>,
    class: Option<usize>,
    cell: Option<Cell>,
    sort: Sort,
    matrix: Matrix,
    /// The epoch looked at; none follows training.
    epoch: Option<usize>,
    order: Vec<usize>,
    ordered: Option<Wish>,
    tally: Tally,
    chosen: usize,
    keys: Keys,
}

/// Where the keys are in the gallery: a place in its order.
#[derive(Default)]
struct Keys {
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

/// What the gallery's order depends on.
type Wish = (
    std::path::PathBuf,
    u64,
    Option<Kind>,
    Option<usize>,
    Option<Cell>,
    Sort,
    Option<usize>,
);

/// How many examples fare how, counted once for each change of the book.
#[derive(Default)]
struct Tally {
    of: (std::path::PathBuf, u64, usize),
    fates: [usize; 5],
    /// True class by answer, row by row: to natural images, and under attack.
    confusion: [Vec<i64>; 2],
}

impl Tally {
    fn update(&mut self, folder: &std::path::Path, book: &Book, epoch: usize) {
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

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Wrong,
    Right,
    Fooled,
    Robust,
}

/// A cell of a confusion matrix: true class, predicted class, and on which image.
#[derive(Clone, Copy, PartialEq)]
struct Cell {
    truth: usize,
    predicted: usize,
    adversarial: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Sort {
    #[default]
    LeastSure,
    Divergence,
    Loss,
    Margin,
    Flips,
    Order,
}

impl Sort {
    const ALL: [(Sort, &'static str); 6] = [
        (Self::LeastSure, "1 − p_y, highest first"),
        (Self::Divergence, "KL, highest first"),
        (Self::Loss, "loss, highest first"),
        (Self::Margin, "margin, lowest first"),
        (Self::Flips, "times flipped"),
        (Self::Order, "order in the data"),
    ];

    fn key(self, record: &Record) -> f32 {
        match self {
            Self::LeastSure => record.p_true,
            Self::Divergence => -record.kl,
            Self::Loss => -record.loss,
            Self::Margin => record.margin,
            Self::Flips => -f32::from(record.flips),
            Self::Order => 0.0,
        }
    }
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Matrix {
    #[default]
    Natural,
    Adversarial,
    Difference,
}

impl View for Misclassified {
    fn name(&self) -> &'static str {
        "Misclassified"
    }

    fn about(&self) -> &'static str {
        "Which training examples the model gets wrong (S−), and how each fared over the epochs"
    }

    fn obey(&mut self, order: &Order, _state: &mut State) {
        if let Order::Examples(fate) = order {
            *self = Self {
                fate: match fate {
                    Some(Fate::Wrong) => Some(Kind::Wrong),
                    Some(Fate::Right) => Some(Kind::Right),
                    Some(Fate::Fooled) => Some(Kind::Fooled),
                    Some(Fate::Robust) => Some(Kind::Robust),
                    Some(Fate::Unknown) | None => None,
                },
                atlas: self.atlas.take(),
                matrix: self.matrix,
                ..Self::default()
            };
        }
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        let Some(shown) = state.current() else {
            return nothing_ui(
                ui,
                "Start a training, and its examples appear here as the model meets them.",
            );
        };
        let Some(book) = &shown.book else {
            let folder = shown.folder.clone();
            if !folder.join(FILE).exists() {
                return nothing_ui(
                    ui,
                    "This run was not trained in the window, so nobody noted how each example fared. Resume it in Runs.",
                );
            }
            state.load_book(&folder);
            ui.spinner();
            ui.label("reading how each example fared");
            return;
        };
        if self.tally.of.0 != shown.folder {
            // Another run has other classes, epochs and examples.
            (self.class, self.cell, self.epoch, self.chosen) = (None, None, None, 0);
        }
        let mut commands = Vec::new();
        let mut thumbnail = state.settings.thumbnail;
        self.tally.update(&shown.folder, book, self.epoch.unwrap_or(book.epoch));
        self.filters_ui(ui, book, &mut thumbnail);
        ui.separator();
        let wide = ui.available_width() > 620.0;
        if !wide {
            ui.collapsing("Confusion matrix", |ui| self.matrix_ui(ui, book));
        }
        let matrix_width = if wide { 268.0 } else { 0.0 };
        ui.horizontal_top(|ui| {
            let gallery = ui.available_width() - matrix_width - if wide { 14.0 } else { 0.0 };
            ui.allocate_ui(vec2(gallery, ui.available_height()), |ui| {
                ui.vertical(|ui| {
                    self.sort_records(&shown.folder, book);
                    self.gallery_ui(ui, book, thumbnail, &mut commands);
                });
            });
            if wide {
                ui.vertical(|ui| self.matrix_ui(ui, book));
            }
        });
        state.commands.extend(commands);
        state.settings.thumbnail = thumbnail;
    }
}

fn nothing_ui(ui: &mut Ui, text: &str) {
    ui.add_space(40.0);
    ui.vertical_centered(|ui| {
        ui.label(RichText::new("Nothing to look at yet").heading());
        ui.label(text);
    });
}

impl Misclassified {
    fn filters_ui(&mut self, ui: &mut Ui, book: &Book, thumbnail: &mut f32) {
        let dark = ui.visuals().dark_mode;
        let epoch = self.epoch.unwrap_or(book.epoch);
        let [wrong, right, fooled, robust, unknown] = self.tally.fates;
        ui.horizontal_wrapped(|ui| {
            let all = book.records.len();
            if ui.selectable_label(self.fate.is_none(), format!("All {all}")).clicked() {
                self.fate = None;
            }
            for (kind, colour, count, text, hint) in [
                (
                    Kind::Wrong,
                    Fate::Wrong,
                    wrong,
                    "S− wrong",
                    "Misclassified without any attack: the set that MART weighs more",
                ),
                (
                    Kind::Right,
                    Fate::Right,
                    right,
                    "S+ right",
                    "Right, and not attacked: in an epoch of natural training",
                ),
                (
                    Kind::Fooled,
                    Fate::Fooled,
                    fooled,
                    "S+ fooled",
                    "Right, but the attack changes the answer",
                ),
                (
                    Kind::Robust,
                    Fate::Robust,
                    robust,
                    "S+ robust",
                    "Right, and right under attack",
                ),
            ] {
                if matches!(kind, Kind::Right) && right == 0 {
                    continue;
                }
                let share = 100.0 * count as f64 / (all - unknown).max(1) as f64;
                let text = RichText::new(format!("{text} {count} ({share:.1} %)")).color(theme::fate(colour, dark));
                if ui
                    .selectable_label(self.fate == Some(kind), text)
                    .on_hover_text(hint)
                    .clicked()
                {
                    self.fate = if self.fate == Some(kind) { None } else { Some(kind) };
                }
            }
            if unknown > 0 {
                ui.weak(format!("{unknown} to come"))
                    .on_hover_text(format!("Not met yet in epoch {epoch}"));
            }
        });
        ui.horizontal_wrapped(|ui| {
            let name = ui.label("Class");
            let classes = book.data.class_names();
            ComboBox::from_id_salt("class")
                .selected_text(self.class.map_or("all", |class| classes[class].as_str()))
                .width(70.0)
                .show_ui(ui, |ui| {
                    ui.selectable_value(&mut self.class, None, "all");
                    for (class, text) in classes.iter().enumerate() {
                        ui.selectable_value(&mut self.class, Some(class), text);
                    }
                })
                .response
                .labelled_by(name.id);
            let name = ui.label("Sort by");
            let text = Sort::ALL
                .iter()
                .find(|(sort, _)| *sort == self.sort)
                .map_or("", |(_, text)| text);
            ComboBox::from_id_salt("sort")
                .selected_text(text)
                .show_ui(ui, |ui| {
                    for (sort, text) in Sort::ALL {
                        ui.selectable_value(&mut self.sort, sort, text);
                    }
                })
                .response
                .labelled_by(name.id);
            if book.epoch > 1 {
                let name = ui
                    .label("Epoch")
                    .on_hover_text("How the examples fared then; the last one is live");
                let mut shown = epoch;
                let slider = Slider::new(&mut shown, 1..=book.epoch).integer();
                if ui.add(slider).labelled_by(name.id).changed() {
                    self.epoch = (shown < book.epoch).then_some(shown);
                }
            }
            let name = ui.label("Size").on_hover_text("Of the thumbnails, in points");
            ui.spacing_mut().slider_width = 70.0;
            ui.add(Slider::new(thumbnail, 28.0..=140.0).show_value(false))
                .labelled_by(name.id);
            if let Some(cell) = self.cell {
                let (truth, predicted) = (&classes[cell.truth], &classes[cell.predicted]);
                let image = if cell.adversarial { "under attack" } else { "naturally" };
                if ui
                    .button(format!("{truth} taken for {predicted} {image}  ×"))
                    .on_hover_text("Remove this filter")
                    .clicked()
                {
                    self.cell = None;
                }
            }
        });
    }

    fn sort_records(&mut self, folder: &std::path::Path, book: &Book) {
        // While training runs the order is renewed now and then, not under one's fingers.
        let wish = (
            folder.to_path_buf(),
            book.version / 24,
            self.fate,
            self.class,
            self.cell,
            self.sort,
            self.epoch,
        );
        if self.ordered.as_ref() == Some(&wish) {
            return;
        }
        let fits = |position: &usize| {
            let record = &book.records[*position];
            let fate = match self.epoch {
                Some(epoch) => record.fate_at(epoch),
                None => record.fate(),
            };
            let kind = match self.fate {
                None => true,
                Some(Kind::Wrong) => matches!(fate, Fate::Wrong),
                Some(Kind::Right) => matches!(fate, Fate::Right),
                Some(Kind::Fooled) => matches!(fate, Fate::Fooled),
                Some(Kind::Robust) => matches!(fate, Fate::Robust),
            };
            let label = book.data.label(*position);
            let cell = self.cell.is_none_or(|cell| {
                let predicted = if cell.adversarial {
                    record.adversarial
                } else {
                    record.natural
                };
                label == cell.truth && predicted.map(usize::from) == Some(cell.predicted)
            });
            let met = record.natural.is_some() || self.sort == Sort::Order;
            kind && cell && met && self.class.is_none_or(|class| class == label)
        };
        let keyed = |position| (self.sort.key(&book.records[position]), position);
        let mut order: Vec<(f32, usize)> = (0..book.records.len()).filter(fits).map(keyed).collect();
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.order = order.into_iter().map(|(_, position)| position).collect();
        self.ordered = Some(wish);
    }

    fn gallery_ui(&mut self, ui: &mut Ui, book: &Book, side: f32, commands: &mut Vec<Command>) {
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
                    let corner = all.min + vec2(column as f32, line as f32) * (side + gap);
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

    fn matrix_ui(&mut self, ui: &mut Ui, book: &Book) {
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
            let [r, g, b] = crate::report::pictures::diverging(strength);
            let colour = if truth == predicted && self.matrix != Matrix::Difference {
                ui.visuals().faint_bg_color
            } else {
                Color32::from_rgb(r, g, b)
            };
            ui.painter().rect_filled(cell, 1.0, colour);
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

/// An example's figures and its history.
fn record_ui(ui: &mut Ui, book: &Book, position: usize) {
    let record = &book.records[position];
    let names = book.data.class_names();
    let name = |class: Option<u16>| class.map_or("not met yet", |class| names[usize::from(class)].as_str());
    let dark = ui.visuals().dark_mode;
    ui.spacing_mut().item_spacing = vec2(8.0, 4.0);
    ui.label(
        RichText::new(format!(
            "Example {} · true class {}",
            book.data.index(position),
            names[book.data.label(position)]
        ))
        .strong(),
    );
    ui.label(format!(
        "natural: {} · under attack: {}",
        name(record.natural),
        name(record.adversarial)
    ));
    ui.label(format!(
        "1 − p_y {:.3} · KL {:.3} · loss {:.3} · margin {:.2} · flipped {}×",
        1.0 - record.p_true,
        record.kl,
        record.loss,
        record.margin,
        record.flips
    ));
    if !record.history.is_empty() {
        ui.label("Epoch by epoch:");
        let step = (200.0 / record.history.len() as f32).clamp(2.0, 14.0);
        let (line, _) = ui.allocate_exact_size(vec2(step * record.history.len() as f32, 12.0), Sense::hover());
        for epoch in 1..=record.history.len() {
            let corner = pos2(line.min.x + step * (epoch - 1) as f32, line.min.y);
            let place = Rect::from_min_size(corner, vec2((step - 1.0).max(1.0), 12.0));
            ui.painter()
                .rect_filled(place, 1.0, theme::fate(record.fate_at(epoch), dark));
        }
    }
}
