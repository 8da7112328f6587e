//! Every run in the folder: state, best and last, what differs; open, resume, duplicate, compare, hide, delete, report.

mod chosen;
mod columns;

use std::{collections::BTreeSet, path::PathBuf};

use egui::{
    Grid, PopupCloseBehavior, RichText, ScrollArea, TextEdit, Ui,
    containers::menu::{MenuButton, MenuConfig},
};

use self::{
    chosen::{Chosen, several_ui},
    columns::{Column, Of, Rank, Row, UNKNOWN, columns, number},
};
use super::View;
use crate::{
    app::{command::Command, state::State, theme},
    runs::{State as RunState, Summary},
};

/// The view of runs.
pub struct Runs {
    filter: String,
    sort: String,
    descending: bool,
    shows_hidden: bool,
    /// The checkpoint whose figures show.
    checkpoint: Of,
    parsed: Vec<Row>,
    /// Every column of these rows for this checkpoint.
    columns: Vec<Column>,
    of: Vec<(PathBuf, String)>,
    refreshed: Option<std::time::Instant>,
    /// The folder of runs, as it is being written.
    place: Option<String>,
    /// The runs that were chosen together, in the table's order; the one that was clicked last.
    together: Vec<PathBuf>,
    clicked: Option<PathBuf>,
    chosen: Chosen,
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            filter: String::new(),
            sort: "begun".to_string(),
            descending: true,
            shows_hidden: false,
            checkpoint: Of::default(),
            parsed: Vec::new(),
            columns: Vec::new(),
            of: Vec::new(),
            refreshed: None,
            place: None,
            together: Vec::new(),
            clicked: None,
            chosen: Chosen::default(),
        }
    }
}

/// Where a run's folder keeps what a person wrote about it.
const NOTES: &str = "notes.txt";

impl View for Runs {
    fn name(&self) -> &'static str {
        "Runs"
    }

    fn about(&self) -> &'static str {
        "Every run in the folder: open, resume, duplicate, compare, hide, delete, report"
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        if self.refreshed.is_none_or(|last| last.elapsed().as_secs() >= 5) {
            self.refreshed = Some(std::time::Instant::now());
            state.refresh_runs();
        }
        ui.horizontal_wrapped(|ui| {
            let name = ui.label("Find");
            ui.add(TextEdit::singleline(&mut self.filter).desired_width(160.0))
                .labelled_by(name.id);
            self.place_ui(ui, state);
            let name = ui.label("Figures of the");
            for of in Of::ALL {
                let hint = format!("Accuracies of each run's {} checkpoint", of.name());
                let button = ui.selectable_value(&mut self.checkpoint, of, of.name());
                if button.labelled_by(name.id).on_hover_text(hint).changed() {
                    self.columns = columns(&self.parsed, self.checkpoint);
                }
            }
            self.columns_ui(ui, state);
            let hidden = self.parsed.iter().filter(|row| is_hidden(state, row)).count();
            if hidden > 0 {
                ui.checkbox(&mut self.shows_hidden, format!("show hidden ({hidden})"))
                    .on_hover_text("Runs that you took out of the list");
            }
        });
        ui.separator();
        match &state.runs {
            Err(error) => {
                ui.colored_label(theme::error(ui.visuals().dark_mode), error);
                return;
            }
            Ok(list) => self.read(list),
        }
        if self.parsed.is_empty() {
            ui.add_space(40.0);
            ui.vertical_centered(|ui| {
                ui.label(RichText::new("No run yet").heading());
                ui.label("Press Start in the Train view; every run is kept in a folder of its own.");
            });
            return;
        }
        let mut commands = Vec::new();
        let height = ui.available_height() - 170.0;
        ScrollArea::both()
            .auto_shrink(false)
            .max_height(height.max(120.0))
            .show(ui, |ui| {
                self.table_ui(ui, state, &mut commands);
            });
        ui.separator();
        ScrollArea::vertical()
            .id_salt("chosen")
            .auto_shrink(false)
            .show(ui, |ui| self.chosen_ui(ui, state, &mut commands));
        state.commands.extend(commands);
    }
}

impl Runs {
    /// Reads the recipes of runs that are new in the list.
    fn read(&mut self, list: &[Summary]) {
        let of: Vec<(PathBuf, String)> = list
            .iter()
            .map(|summary| {
                (
                    summary.folder.clone(),
                    format!("{:?}{:?}{:?}", summary.state, summary.best, summary.last),
                )
            })
            .collect();
        if of == self.of {
            return;
        }
        self.of = of;
        // A run without notes has no file.
        let notes = |summary: &Summary| std::fs::read_to_string(summary.folder.join(NOTES)).unwrap_or_default();
        self.parsed = list.iter().map(|summary| Row::new(summary, notes(summary))).collect();
        self.columns = columns(&self.parsed, self.checkpoint);
        let here = |folder: &PathBuf| list.iter().any(|summary| summary.folder == *folder);
        self.together.retain(here);
    }

    /// The folder of runs: written, or chosen in a dialog.
    fn place_ui(&mut self, ui: &mut Ui, state: &mut State) {
        let shown = state.settings.runs_dir.display().to_string();
        let mut text = self.place.clone().unwrap_or_else(|| shown.clone());
        let name = ui.label("in");
        let field = ui.add(TextEdit::singleline(&mut text).desired_width(200.0));
        let field = field.labelled_by(name.id).on_hover_text(format!(
            "{}\nThe folder that runs are kept in. Write another and press Enter.",
            std::path::absolute(&state.settings.runs_dir).map_or(shown.clone(), |path| path.display().to_string())
        ));
        if field.lost_focus() {
            self.place = None;
            if text != shown && !text.trim().is_empty() {
                state.commands.push(Command::KeepRunsIn(text.trim().into()));
            }
        } else if field.has_focus() {
            self.place = Some(text);
        }
        if ui.button("Choose folder…").clicked() {
            state.commands.push(Command::ChooseRunsFolder);
        }
    }

    /// What stands under the table: the runs that are chosen.
    fn chosen_ui(&mut self, ui: &mut Ui, state: &mut State, commands: &mut Vec<Command>) {
        let row = |folder: &PathBuf| self.parsed.iter().find(|row| row.summary.folder == *folder);
        let together: Vec<&Row> = self.together.iter().filter_map(row).collect();
        if together.len() > 1 {
            return several_ui(ui, state, &together, commands);
        }
        let Some(row) = state.selected.as_ref().and_then(row) else {
            ui.weak(
                "Select a run to resume, duplicate, report, rename or delete it; hold Ctrl or Shift to choose several.",
            );
            return;
        };
        let done = self.chosen.one_ui(ui, state, row, commands);
        if done.written {
            // The list is read anew, with the notes.
            self.of.clear();
        }
        if let Some(error) = done.failed {
            state.complain(error);
        }
    }

    /// The columns that are shown: those that a person chose, else the figures and what the runs differ in.
    fn shown_columns(&self, state: &State) -> Vec<&Column> {
        let differ = |column: &Column| {
            let mut values = self.parsed.iter().map(&column.cell);
            let first = values.next();
            values.any(|value| Some(value) != first)
        };
        let shows = |column: &&Column| match &state.settings.columns {
            Some(chosen) => chosen.contains(column.name.as_ref()),
            None => !column.if_differing || differ(column),
        };
        self.columns.iter().filter(shows).collect()
    }

    fn columns_ui(&self, ui: &mut Ui, state: &mut State) {
        let shown: BTreeSet<String> = self
            .shown_columns(state)
            .iter()
            .map(|column| column.name.to_string())
            .collect();
        let keep = MenuConfig::new().close_behavior(PopupCloseBehavior::CloseOnClickOutside);
        let (button, _) = MenuButton::new("Columns").config(keep).ui(ui, |ui| {
            let chosen = &mut state.settings.columns;
            let mut automatic = chosen.is_none();
            if ui
                .checkbox(&mut automatic, "only what differs")
                .on_hover_text("State and figures, and each part of the recipe in which the runs differ")
                .changed()
            {
                *chosen = (!automatic).then(|| shown.clone());
            }
            ui.separator();
            for column in &self.columns {
                let mut visible = shown.contains(column.name.as_ref());
                if ui
                    .checkbox(&mut visible, column.name.as_ref())
                    .on_hover_text(column.hint.as_ref())
                    .changed()
                {
                    let mut names = shown.clone();
                    if visible {
                        names.insert(column.name.to_string());
                    } else {
                        names.remove(column.name.as_ref());
                    }
                    *chosen = Some(names);
                }
            }
        });
        button.on_hover_text("Which columns the table shows");
    }

    /// The rows in sight, in their order.
    fn rows(&self, state: &State) -> Vec<&Row> {
        let wanted = self.filter.to_lowercase();
        let mut rows: Vec<&Row> = self
            .parsed
            .iter()
            .filter(|row| self.shows_hidden || !is_hidden(state, row))
            .filter(|row| {
                [&row.summary.name, &row.summary.recipe, &row.notes]
                    .iter()
                    .any(|text| text.to_lowercase().contains(&wanted))
            })
            .collect();
        let column = self.columns.iter().find(|column| column.name == self.sort);
        // Of equals the newer is the higher: what is shown of a moment are its minutes.
        rows.sort_by(|a, b| a.summary.created.cmp(&b.summary.created));
        let cell = |row: &Row| column.map_or_else(|| row.summary.name.clone(), |column| (column.cell)(row));
        rows.sort_by_cached_key(|row| {
            let text = cell(row);
            (Rank(number(&text)), text)
        });
        if self.descending {
            rows.reverse();
        }
        // What is not known is neither high nor low.
        rows.sort_by_cached_key(|row| cell(row) == UNKNOWN);
        rows
    }

    fn table_ui(&mut self, ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
        let columns = self.shown_columns(state);
        let rows = self.rows(state);
        let dark = ui.visuals().dark_mode;
        let mut clicked = None;
        let mut picked = None;
        Grid::new("runs").striped(true).spacing([16.0, 5.0]).show(ui, |ui| {
            ui.weak("curves");
            let heads = columns
                .iter()
                .map(|column| (column.name.as_ref(), column.hint.as_ref(), column.from_the_top));
            for (name, hint, from_the_top) in std::iter::once(("name", "The folder's name", false)).chain(heads) {
                let is_sorted = self.sort == name;
                // Room for the arrow, which the fonts do not have.
                let room = if is_sorted { "    " } else { "" };
                let head = egui::Button::new(RichText::new(format!("{name}{room}")).weak()).frame(false);
                let head = ui.add(head).on_hover_text(format!("{hint}. Click to sort."));
                if is_sorted {
                    let tip = if self.descending { 3.0 } else { -3.0 };
                    let middle = head.rect.right_center() - egui::vec2(6.0, 0.0);
                    let corners = [egui::vec2(-4.0, -tip), egui::vec2(4.0, -tip), egui::vec2(0.0, tip)];
                    let arrow = corners.map(|corner| middle + corner).to_vec();
                    let colour = ui.visuals().weak_text_color();
                    ui.painter()
                        .add(egui::Shape::convex_polygon(arrow, colour, egui::Stroke::NONE));
                }
                if head.clicked() {
                    clicked = Some((name.to_string(), from_the_top));
                }
            }
            ui.end_row();
            for row in &rows {
                if name_ui(ui, state, row, self.together.contains(&row.summary.folder), commands) {
                    picked = Some(row.summary.folder.clone());
                }
                for column in &columns {
                    let text = (column.cell)(row);
                    match (column.name.as_ref(), row.summary.state) {
                        ("state", RunState::Failed | RunState::Damaged) => ui
                            .colored_label(theme::error(dark), text)
                            .on_hover_text(row.summary.problem.clone().unwrap_or_default()),
                        ("state", RunState::Interrupted | RunState::Stopped) => {
                            ui.colored_label(theme::warning(dark), text)
                        }
                        _ => ui.label(text),
                    };
                }
                ui.end_row();
            }
        });
        if let Some(folder) = picked {
            let order: Vec<PathBuf> = rows.iter().map(|row| row.summary.folder.clone()).collect();
            let modifiers = ui.input(|input| input.modifiers);
            self.pick(folder, &order, modifiers, state, commands);
        }
        if let Some((name, from_the_top)) = clicked {
            self.descending = match self.sort == name {
                true => !self.descending,
                false => from_the_top,
            };
            self.sort = name;
        }
    }

    /// A click on a run: alone, together with those that are chosen (Ctrl), or with all up to it (Shift).
    fn pick(
        &mut self,
        folder: PathBuf,
        order: &[PathBuf],
        modifiers: egui::Modifiers,
        state: &State,
        commands: &mut Vec<Command>,
    ) {
        if self.together.is_empty() {
            self.together.extend(state.selected.clone());
        }
        let place = |folder: &PathBuf| order.iter().position(|own| own == folder);
        let from = self.clicked.as_ref().or(state.selected.as_ref()).and_then(place);
        match (from, place(&folder)) {
            (Some(from), Some(to)) if modifiers.shift => {
                self.together = order[from.min(to)..=from.max(to)].to_vec();
                return;
            }
            _ if modifiers.command => {
                match self.together.iter().position(|own| *own == folder) {
                    Some(chosen) => drop(self.together.remove(chosen)),
                    None => self.together.push(folder.clone()),
                }
                self.together.sort_by_key(place);
            }
            _ => {
                self.together = vec![folder.clone()];
                commands.push(Command::Select(folder.clone()));
            }
        }
        self.clicked = Some(folder);
    }
}

fn is_hidden(state: &State, row: &Row) -> bool {
    state.settings.hidden_runs.contains(&row.summary.folder)
}

/// Whether its curves are drawn, and its name; tells whether the name was clicked.
fn name_ui(ui: &mut Ui, state: &State, row: &Row, chosen: bool, commands: &mut Vec<Command>) -> bool {
    let folder = &row.summary.folder;
    let dark = ui.visuals().dark_mode;
    let shown = state.shown.iter().find(|shown| shown.folder == *folder);
    let mut visible = shown.is_some_and(|shown| shown.visible);
    let check = ui.checkbox(&mut visible, "");
    check.widget_info(|| {
        let name = format!("Curves of {}", row.summary.name);
        egui::WidgetInfo::selected(egui::Role::CheckBox, true, visible, name)
    });
    if check.on_hover_text("Draw its curves beside the others").changed() {
        commands.push(Command::ToggleRun(folder.clone()));
    }
    let selected = state.selected.as_ref() == Some(folder);
    let mut name = RichText::new(&row.summary.name);
    if let (Some(shown), false) = (shown, selected) {
        name = name.color(theme::series(shown.colour, dark)).strong();
    }
    if is_hidden(state, row) {
        name = name.italics();
    }
    ui.selectable_label(selected || chosen, name)
        .on_hover_text(folder.display().to_string())
        .clicked()
}
