//! Every run in the folder: state, best and last, what differs; open, resume, duplicate, compare, hide, delete, report.

mod columns;

use std::{collections::BTreeSet, path::PathBuf};

use egui::{
    Grid, PopupCloseBehavior, RichText, ScrollArea, TextEdit, Ui,
    containers::menu::{MenuButton, MenuConfig},
};

use self::columns::{COLUMNS, Column, Rank, Row, UNKNOWN, number};
use super::View;
use crate::{
    app::{background::Background, command::Command, dialog, state::State, theme},
    recipe::Recipe,
    runs::{State as RunState, Summary, strongest, write_atomic},
};

/// The view of runs.
pub struct Runs {
    filter: String,
    sort: &'static str,
    descending: bool,
    shows_hidden: bool,
    parsed: Vec<Row>,
    of: Vec<(PathBuf, String)>,
    refreshed: Option<std::time::Instant>,
    dialog: Option<Background<Result<PathBuf, String>>>,
    /// The notes of the chosen run, as they are being written.
    notes: (PathBuf, String),
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            filter: String::new(),
            sort: "begun",
            descending: true,
            shows_hidden: false,
            parsed: Vec::new(),
            of: Vec::new(),
            refreshed: None,
            dialog: None,
            notes: Default::default(),
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

    fn logic(&mut self, state: &mut State) {
        let Some(dialog) = &mut self.dialog else { return };
        for picked in dialog.drain() {
            match picked {
                Ok(folder) => {
                    state.settings.runs_dir = folder;
                    state.refresh_runs();
                }
                Err(error) => state.complain(error),
            }
        }
        if !dialog.is_running() {
            self.dialog = None;
        }
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
            ui.label("in");
            ui.weak(state.settings.runs_dir.display().to_string());
            if ui.button("Another folder…").clicked() {
                self.dialog = Some(dialog::open(&state.ctx, Err, Ok, rfd::FileDialog::pick_folder));
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
        let height = ui.available_height() - 160.0;
        ScrollArea::both()
            .auto_shrink(false)
            .max_height(height.max(120.0))
            .show(ui, |ui| {
                self.table_ui(ui, state, &mut commands);
            });
        ui.separator();
        let failed = self.chosen_ui(ui, state, &mut commands);
        state.commands.extend(commands);
        if let Some(error) = failed {
            state.complain(error);
        }
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
        let figure = |figures: &Option<serde_json::Value>| figures.as_ref().and_then(strongest);
        self.parsed = list
            .iter()
            .map(|summary| Row {
                recipe: Recipe::from_toml(&summary.recipe).ok(),
                best: figure(&summary.best),
                last: figure(&summary.last),
                // A run without notes has no file.
                notes: std::fs::read_to_string(summary.folder.join(NOTES)).unwrap_or_default(),
                summary: summary.clone(),
            })
            .collect();
    }

    /// The columns that are shown: those that a person chose, else the figures and what the runs differ in.
    fn columns(&self, state: &State) -> Vec<&'static Column> {
        let differ = |column: &Column| {
            let mut values = self.parsed.iter().map(column.cell);
            let first = values.next();
            values.any(|value| Some(value) != first)
        };
        let shows = |column: &&Column| match &state.settings.columns {
            Some(chosen) => chosen.contains(column.name),
            None => !column.if_differing || differ(column),
        };
        COLUMNS.iter().filter(shows).collect()
    }

    fn columns_ui(&self, ui: &mut Ui, state: &mut State) {
        let shown: BTreeSet<String> = self
            .columns(state)
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
            for column in &COLUMNS {
                let mut visible = shown.contains(column.name);
                if ui
                    .checkbox(&mut visible, column.name)
                    .on_hover_text(column.hint)
                    .changed()
                {
                    let mut names = shown.clone();
                    if visible {
                        names.insert(column.name.to_string());
                    } else {
                        names.remove(column.name);
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
        let column = COLUMNS.iter().find(|column| column.name == self.sort);
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
        let columns = self.columns(state);
        let rows = self.rows(state);
        let dark = ui.visuals().dark_mode;
        let mut clicked = None;
        Grid::new("runs").striped(true).spacing([16.0, 5.0]).show(ui, |ui| {
            ui.weak("curves");
            let heads = columns.iter().map(|column| (column.name, column.hint));
            for (name, hint) in std::iter::once(("name", "The folder's name")).chain(heads) {
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
                    clicked = Some(name);
                }
            }
            ui.end_row();
            for row in rows {
                name_ui(ui, state, row, commands);
                for column in &columns {
                    let text = (column.cell)(row);
                    match (column.name, row.summary.state) {
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
        if let Some(name) = clicked {
            // Figures and dates are asked for from the top, everything else from A.
            self.descending = match self.sort == name {
                true => !self.descending,
                false => matches!(name, "best" | "last" | "begun"),
            };
            self.sort = name;
        }
    }

    /// The chosen run; gives what went wrong.
    fn chosen_ui(&mut self, ui: &mut Ui, state: &State, commands: &mut Vec<Command>) -> Option<String> {
        let mut failed = None;
        let mut written = false;
        let Some(row) = state
            .selected
            .as_ref()
            .and_then(|folder| self.parsed.iter().find(|row| row.summary.folder == *folder))
        else {
            ui.weak("Select a run to resume, duplicate, report or delete it.");
            return failed;
        };
        ui.label(RichText::new(&row.summary.name).strong());
        if let Some(recipe) = &row.recipe {
            ui.label(recipe.summary());
        }
        if self.notes.0 != row.summary.folder {
            let folder = row.summary.folder.clone();
            self.notes = (folder, row.notes.clone());
        }
        ui.horizontal(|ui| {
            let name = ui.label("Notes").on_hover_text("Kept in the run's folder");
            let field = TextEdit::singleline(&mut self.notes.1).desired_width(f32::INFINITY);
            if ui.add(field).labelled_by(name.id).lost_focus() && self.notes.1 != row.notes {
                failed = write_atomic(&self.notes.0.join(NOTES), self.notes.1.as_bytes())
                    .err()
                    .map(|error| error.to_string());
                written = true;
            }
        });
        if let Some(problem) = &row.summary.problem {
            ui.colored_label(theme::error(ui.visuals().dark_mode), problem);
        }
        let folder = row.summary.folder.clone();
        let resumable = matches!(
            row.summary.state,
            RunState::Stopped | RunState::Interrupted | RunState::Failed
        );
        let busy = state.what_trains().is_some();
        let trains = state
            .training_of(&folder)
            .is_some_and(|training| training.job.is_alive());
        ui.horizontal_wrapped(|ui| {
            let mut button = |enabled: bool, text: &str, hint: &str, command: fn(PathBuf) -> Command| {
                if ui
                    .add_enabled(enabled, egui::Button::new(text))
                    .on_hover_text(hint)
                    .on_disabled_hover_text(hint)
                    .clicked()
                {
                    commands.push(command(folder.clone()));
                }
            };
            button(
                resumable && !busy,
                "Resume",
                match (resumable, busy) {
                    (true, false) => "Continues from its last checkpoint",
                    (true, true) => "Something trains already: stop it first, or let it end",
                    (false, _) => "It trains, or it has come to its end",
                },
                Command::Resume,
            );
            button(
                true,
                "Duplicate with changes",
                "Take its recipe into the form of Train",
                Command::Duplicate,
            );
            button(
                true,
                "Report page",
                "One self-contained HTML file in the run's folder",
                Command::Report,
            );
            button(
                true,
                "Save weights…",
                "The best checkpoint as one .safetensors file, which PyTorch reads",
                Command::Export,
            );
            let hide = if is_hidden(state, row) { "Show again" } else { "Hide" };
            let hint = "Take it out of this list; its folder stays";
            button(true, hide, hint, Command::ToggleHidden);
            let hint = if trains {
                "Stop it before you delete it"
            } else {
                "Asks first"
            };
            button(!trains, "Delete…", hint, Command::Delete);
        });
        if written {
            // The list is read anew, with the notes.
            self.of.clear();
        }
        failed
    }
}

fn is_hidden(state: &State, row: &Row) -> bool {
    state.settings.hidden_runs.contains(&row.summary.folder)
}

/// Whether its curves are drawn, and its name; a click on the name makes it the run that all views look at.
fn name_ui(ui: &mut Ui, state: &State, row: &Row, commands: &mut Vec<Command>) {
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
    if ui
        .selectable_label(selected, name)
        .on_hover_text(folder.display().to_string())
        .clicked()
    {
        commands.push(Command::Select(folder.clone()));
    }
}
