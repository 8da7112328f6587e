//! S− and S+: which training examples the model gets wrong, which it can be talked out of, which hold.

mod gallery;
mod matrix;
mod order;

use egui::{ComboBox, Rect, RichText, Sense, Slider, Ui, pos2, vec2};

use self::{
    gallery::Keys,
    matrix::{Cell, Matrix, Tally},
    order::{Sort, Wish},
};
use super::View;
use crate::{
    app::{
        atlas::Atlas,
        command::{Command, Order},
        examples::{Book, FILE},
        state::State,
        theme::{self, Fate},
    },
    report::Ending,
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
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Wrong,
    Right,
    Fooled,
    Robust,
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
                return unnoted_ui(ui, state, &folder);
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
        // Before the filters, which may reach beyond a small window.
        let width = ui.available_width();
        let mut commands = Vec::new();
        let mut thumbnail = state.settings.thumbnail;
        self.tally.update(&shown.folder, book, self.epoch.unwrap_or(book.epoch));
        let unseen = self.tally.fates[4];
        let can_look = unseen > 0 && self.epoch.is_none() && !matches!(shown.ending, Ending::Open);
        let is_surveyed = state.surveyed.contains(&shown.folder);
        ui.horizontal_wrapped(|ui| {
            let name = ui.label("Run");
            ComboBox::from_id_salt("run")
                .selected_text(format!("{} ({})", shown.name, shown.recipe.defence))
                .show_ui(ui, |ui| {
                    for other in &state.shown {
                        let text = format!("{} ({})", other.name, other.recipe.defence);
                        if ui.selectable_label(other.folder == shown.folder, text).clicked() {
                            commands.push(Command::Select(other.folder.clone()));
                        }
                    }
                })
                .response
                .labelled_by(name.id);
            if is_surveyed {
                ui.spinner();
                ui.weak("looking at the others");
            } else if can_look {
                let look = ui.button(format!("Look at the other {unseen} now"));
                if look
                    .on_hover_text("Those that the last epoch did not look at, with the last checkpoint")
                    .clicked()
                {
                    commands.push(Command::Survey(shown.folder.clone()));
                }
            }
        });
        self.filters_ui(ui, book, !matches!(shown.ending, Ending::Open), &mut thumbnail);
        ui.separator();
        let wide = width > 620.0;
        if !wide {
            ui.collapsing("Confusion matrix", |ui| self.matrix_ui(ui, book));
        }
        let matrix_width = if wide { 268.0 } else { 0.0 };
        ui.horizontal_top(|ui| {
            let gallery = width - matrix_width - if wide { 14.0 } else { 0.0 };
            ui.allocate_ui(vec2(gallery, ui.available_height()), |ui| {
                ui.vertical(|ui| {
                    self.sort_records(&shown.folder, book);
                    self.gallery_ui(ui, book, thumbnail, &mut commands);
                });
            });
            if wide {
                ui.vertical(|ui| {
                    ui.set_max_width(matrix_width);
                    self.matrix_ui(ui, book);
                });
            }
        });
        state.commands.extend(commands);
        state.settings.thumbnail = thumbnail;
    }
}

/// A run of the terminal or of an experiment: nobody noted how its examples fared.
fn unnoted_ui(ui: &mut Ui, state: &mut State, folder: &std::path::Path) {
    let trains = state
        .training_of(folder)
        .is_some_and(|training| training.job.is_alive());
    let is_surveyed = state.surveyed.iter().any(|own| own == folder);
    ui.add_space(40.0);
    ui.vertical_centered(|ui| {
        ui.label(RichText::new("Nothing to look at yet").heading());
        if trains {
            ui.label("Its examples appear here as the model meets them.");
        } else if is_surveyed {
            ui.spinner();
            ui.label("Looking at every training example");
        } else {
            ui.label("This run was not trained in this window, so nobody noted how each example fared.");
            ui.add_space(6.0);
            let look = ui.button("Look at its examples now");
            if look
                .on_hover_text(
                    "Each training image naturally and under the attack of its recipe, with the last checkpoint",
                )
                .clicked()
            {
                state.commands.push(Command::Survey(folder.to_path_buf()));
            }
        }
    });
}

fn nothing_ui(ui: &mut Ui, text: &str) {
    ui.add_space(40.0);
    ui.vertical_centered(|ui| {
        ui.label(RichText::new("Nothing to look at yet").heading());
        ui.label(text);
    });
}

impl Misclassified {
    fn filters_ui(&mut self, ui: &mut Ui, book: &Book, is_over: bool, thumbnail: &mut f32) {
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
                let words = if is_over { "not looked at" } else { "to come" };
                ui.weak(format!("{unknown} {words}")).on_hover_text(format!(
                    "Not met in epoch {epoch}, or skipped: where a defence does not answer natural images itself, asking it takes the time for looking that Train sets"
                ));
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
    let figures = format!(
        "1 − p_y {:.3} · KL {:.3} · loss {:.3} · margin {:.2} · flipped {}×",
        1.0 - record.p_true,
        record.kl,
        record.loss,
        record.margin,
        record.flips
    )
    .replace('-', "−");
    ui.label(figures).on_hover_text(
        "p_y: the probability of the true class, naturally. KL: how far the answers to the natural and the attacked image lie apart. Margin: the true logit minus the largest other, under attack; below 0 it is fooled. Flipped: how often its natural answer has changed between right and wrong.",
    );
    if !record.history.is_empty() {
        ui.label("Epoch by epoch:")
            .on_hover_text("In the colours of the sets above; light blue: right in an epoch without attacks");
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
