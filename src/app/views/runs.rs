//! Every run in the folder: state, best and last, what differs; open, resume, duplicate, compare, delete, report.

use std::{cmp::Ordering, path::PathBuf};

use egui::{Grid, RichText, ScrollArea, TextEdit, Ui};

use super::View;
use crate::{
    app::{background::Background, command::Command, state::State, theme},
    recipe::Recipe,
    runs::{State as RunState, Summary, write_atomic},
};

/// The view of runs.
#[derive(Default)]
pub struct Runs {
    filter: String,
    sort: Column,
    descending: bool,
    parsed: Vec<Row>,
    of: Vec<(PathBuf, String)>,
    refreshed: Option<std::time::Instant>,
    dialog: Option<Background<Result<PathBuf, String>>>,
    /// The notes of the chosen run, as they are being written.
    notes: (PathBuf, String),
}

/// Where a run's folder keeps what a person wrote about it.
const NOTES: &str = "notes.txt";

#[derive(Default, Clone, Copy, PartialEq)]
enum Column {
    #[default]
    Created,
    Name,
    State,
    Best,
    Last,
}

/// A run with its recipe read.
struct Row {
    summary: Summary,
    recipe: Option<Recipe>,
    best: Option<f64>,
    last: Option<f64>,
}

/// Recipe fields that get a column where the runs differ in them.
type Field = (&'static str, fn(&Recipe) -> String);
const FIELDS: [Field; 9] = [
    ("defence", |recipe| recipe.defence.to_string()),
    ("data", |recipe| {
        recipe.data.source.split(':').next().unwrap_or_default().to_string()
    }),
    ("network", |recipe| recipe.network.to_string()),
    ("ε", |recipe| recipe.threat.epsilon.to_string()),
    ("norm", |recipe| recipe.threat.norm.to_string()),
    ("steps", |recipe| recipe.attack.steps.to_string()),
    ("epochs", |recipe| recipe.epochs.to_string()),
    ("seed", |recipe| recipe.seed.to_string()),
    ("rate", |recipe| recipe.optimiser.learning_rate.to_string()),
];

impl View for Runs {
    fn name(&self) -> &'static str {
        "Runs"
    }

    fn about(&self) -> &'static str {
        "Every run in the folder: open, resume, duplicate, compare, delete, report"
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
                self.dialog = Some(Background::start("file dialog", &state.ctx, Err, |_, teller| {
                    if let Some(folder) = rfd::FileDialog::new().pick_folder() {
                        teller.tell(Ok(folder));
                    }
                    Ok(())
                }));
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
        let figure = |figures: &Option<serde_json::Value>| figures.as_ref().and_then(robust);
        self.parsed = list
            .iter()
            .map(|summary| Row {
                recipe: Recipe::from_toml(&summary.recipe).ok(),
                best: figure(&summary.best),
                last: figure(&summary.last),
                summary: summary.clone(),
            })
            .collect();
    }

    fn table_ui(&mut self, ui: &mut Ui, state: &State, commands: &mut Vec<Command>) {
        let differing: Vec<&Field> = FIELDS
            .iter()
            .filter(|(_, field)| {
                let mut values = self.parsed.iter().filter_map(|row| row.recipe.as_ref()).map(field);
                let first = values.next();
                values.any(|value| Some(value) != first)
            })
            .collect();
        let wanted = self.filter.to_lowercase();
        let mut order: Vec<&Row> = self
            .parsed
            .iter()
            .filter(|row| {
                row.summary.name.to_lowercase().contains(&wanted) || row.summary.recipe.to_lowercase().contains(&wanted)
            })
            .collect();
        order.sort_by(|a, b| compare(self.sort, a, b));
        if self.descending {
            order.reverse();
        }
        let dark = ui.visuals().dark_mode;
        let mut clicked = None;
        Grid::new("runs").striped(true).spacing([16.0, 5.0]).show(ui, |ui| {
            ui.weak("curves");
            for (column, text) in [
                (Column::Name, "name"),
                (Column::State, "state"),
                (Column::Best, "best"),
                (Column::Last, "last"),
                (Column::Created, "begun"),
            ] {
                let arrow = match (self.sort == column, self.descending) {
                    (true, false) => " ^",
                    (true, true) => " v",
                    _ => "",
                };
                let head = egui::Button::new(RichText::new(format!("{text}{arrow}")).weak()).frame(false);
                if ui.add(head).on_hover_text("Sort by this").clicked() {
                    clicked = Some(column);
                }
            }
            for (name, _) in &differing {
                ui.weak(*name);
            }
            ui.end_row();
            for row in order {
                let folder = &row.summary.folder;
                let shown = state.shown.iter().find(|shown| shown.folder == *folder);
                let mut visible = shown.is_some_and(|shown| shown.visible);
                let check = ui.checkbox(&mut visible, "");
                check.widget_info(|| {
                    egui::WidgetInfo::selected(
                        egui::Role::CheckBox,
                        true,
                        visible,
                        format!("Curves of {}", row.summary.name),
                    )
                });
                if check.on_hover_text("Draw its curves beside the others").changed() {
                    commands.push(Command::ToggleRun(folder.clone()));
                }
                let mut name = RichText::new(&row.summary.name);
                if let (Some(shown), false) = (shown, state.selected.as_ref() == Some(folder)) {
                    name = name.color(theme::series(shown.colour, dark)).strong();
                }
                let selected = state.selected.as_ref() == Some(folder);
                if ui
                    .selectable_label(selected, name)
                    .on_hover_text(folder.display().to_string())
                    .clicked()
                {
                    commands.push(Command::Select(folder.clone()));
                }
                let text = row.summary.state.to_string();
                match row.summary.state {
                    RunState::Failed | RunState::Damaged => ui.colored_label(theme::error(dark), text),
                    RunState::Interrupted | RunState::Stopped => ui.colored_label(theme::warning(dark), text),
                    _ => ui.label(text),
                }
                .on_hover_text(row.summary.problem.clone().unwrap_or_default());
                let share =
                    |value: Option<f64>| value.map_or("–".to_string(), |value| format!("{:.1} %", 100.0 * value));
                ui.label(share(row.best));
                ui.label(share(row.last));
                ui.label(
                    row.summary
                        .created
                        .replace('T', " ")
                        .chars()
                        .take(16)
                        .collect::<String>(),
                );
                for (_, field) in &differing {
                    ui.label(row.recipe.as_ref().map_or("?".to_string(), field));
                }
                ui.end_row();
            }
        });
        if let Some(column) = clicked {
            self.descending = self.sort == column && !self.descending;
            self.sort = column;
        }
    }

    /// The chosen run; gives what went wrong.
    fn chosen_ui(&mut self, ui: &mut Ui, state: &State, commands: &mut Vec<Command>) -> Option<String> {
        let mut failed = None;
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
            // A run without notes has no file.
            let text = std::fs::read_to_string(folder.join(NOTES)).unwrap_or_default();
            self.notes = (folder, text);
        }
        ui.horizontal(|ui| {
            let name = ui.label("Notes").on_hover_text("Kept in the run's folder");
            let field = TextEdit::singleline(&mut self.notes.1).desired_width(f32::INFINITY);
            if ui.add(field).labelled_by(name.id).lost_focus()
                && let Err(error) = write_atomic(&self.notes.0.join(NOTES), self.notes.1.as_bytes())
            {
                failed = Some(error.to_string());
            }
        });
        if let Some(problem) = &row.summary.problem {
            ui.colored_label(theme::error(ui.visuals().dark_mode), problem);
        }
        let folder = row.summary.folder.clone();
        let resumable = matches!(
            row.summary.state,
            RunState::Stopped | RunState::Interrupted | RunState::Failed
        ) && !state.is_training();
        ui.horizontal_wrapped(|ui| {
            let mut button = |enabled: bool, text: &str, hint: &str, command: fn(PathBuf) -> Command| {
                if ui
                    .add_enabled(enabled, egui::Button::new(text))
                    .on_hover_text(hint)
                    .clicked()
                {
                    commands.push(command(folder.clone()));
                }
            };
            button(
                resumable,
                "Resume",
                "Go on where its last checkpoint stands",
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
            button(true, "Delete…", "Asks first", Command::Delete);
        });
        failed
    }
}

/// The accuracy under the strongest attack among a checkpoint's figures.
fn robust(figures: &serde_json::Value) -> Option<f64> {
    let accuracies = figures.get("accuracy").unwrap_or(figures).as_object()?;
    accuracies
        .values()
        .filter_map(serde_json::Value::as_f64)
        .filter(|value| (0.0..=1.0).contains(value))
        .reduce(f64::min)
}

fn compare(column: Column, a: &Row, b: &Row) -> Ordering {
    let share = |value: Option<f64>| value.unwrap_or(-1.0);
    match column {
        Column::Created => b.summary.created.cmp(&a.summary.created),
        Column::Name => a.summary.name.cmp(&b.summary.name),
        Column::State => a.summary.state.to_string().cmp(&b.summary.state.to_string()),
        Column::Best => share(b.best).total_cmp(&share(a.best)),
        Column::Last => share(b.last).total_cmp(&share(a.last)),
    }
}
