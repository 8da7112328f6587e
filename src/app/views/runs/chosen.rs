//! What can be done with the chosen run, or with several.

use std::path::PathBuf;

use egui::{Key, RichText, TextEdit, Ui};

use super::{NOTES, Row, is_hidden};
use crate::{
    app::{command::Command, state::State, theme},
    runs::{State as RunState, write_atomic},
};

/// What is being written about the run.
#[derive(Default)]
pub struct Chosen {
    /// The notes of this run, as they are being written.
    notes: (PathBuf, String),
    /// Its new name, as it is being written.
    name: Option<Draft>,
}

/// A name that is being written.
struct Draft {
    folder: PathBuf,
    text: String,
    /// Whether its field was not drawn yet: then it takes the keys.
    is_fresh: bool,
}

/// What came of it.
#[derive(Default)]
pub struct Done {
    /// What went wrong.
    pub failed: Option<String>,
    /// Whether the list has to be read anew.
    pub written: bool,
}

impl Chosen {
    /// One run: its recipe, its notes, and what can be done with it.
    pub fn one_ui(&mut self, ui: &mut Ui, state: &State, row: &Row, commands: &mut Vec<Command>) -> Done {
        let mut done = Done::default();
        self.name_ui(ui, state, row, commands);
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
                done.failed = write_atomic(&self.notes.0.join(NOTES), self.notes.1.as_bytes())
                    .err()
                    .map(|error| error.to_string());
                done.written = true;
            }
        });
        if let Some(problem) = &row.summary.problem {
            ui.colored_label(theme::error(ui.visuals().dark_mode), problem);
        }
        buttons_ui(ui, state, row, commands);
        done
    }

    fn name_ui(&mut self, ui: &mut Ui, state: &State, row: &Row, commands: &mut Vec<Command>) {
        let folder = &row.summary.folder;
        self.name.take_if(|draft| draft.folder != *folder);
        ui.horizontal(|ui| {
            let Some(draft) = &mut self.name else {
                ui.label(RichText::new(&row.summary.name).strong());
                let hint = "Gives its folder another name; a row of an experiment is found by its name";
                let rename = ui.add_enabled(!trains(state, row), egui::Button::new("Rename…").small());
                if rename
                    .on_hover_text(hint)
                    .on_disabled_hover_text("Stop it before you rename it")
                    .clicked()
                {
                    self.name = Some(Draft {
                        folder: folder.clone(),
                        text: row.summary.name.clone(),
                        is_fresh: true,
                    });
                }
                return;
            };
            let label = ui.label("Name");
            let field = ui.add(TextEdit::singleline(&mut draft.text).desired_width(260.0));
            let field = field.labelled_by(label.id);
            if std::mem::take(&mut draft.is_fresh) {
                field.request_focus();
            }
            let entered = field.lost_focus() && ui.input(|input| input.key_pressed(Key::Enter));
            let given = ui.button("Rename").clicked() || entered;
            let dropped = ui.button("Keep its name").clicked() || ui.input(|input| input.key_pressed(Key::Escape));
            if given && draft.text.trim() != row.summary.name {
                commands.push(Command::Rename(folder.clone(), draft.text.trim().to_string()));
            }
            if given || dropped {
                self.name = None;
            }
        });
    }
}

fn trains(state: &State, row: &Row) -> bool {
    let training = state.training_of(&row.summary.folder);
    training.is_some_and(|training| training.job.is_alive())
}

fn buttons_ui(ui: &mut Ui, state: &State, row: &Row, commands: &mut Vec<Command>) {
    let folder = row.summary.folder.clone();
    let resumable = matches!(
        row.summary.state,
        RunState::Stopped | RunState::Interrupted | RunState::Failed
    );
    let busy = state.what_trains().is_some();
    let trains = trains(state, row);
    ui.horizontal_wrapped(|ui| {
        let mut button = |enabled: bool, text: &str, hint: &str, command: Command| {
            let button = ui.add_enabled(enabled, egui::Button::new(text));
            if button.on_hover_text(hint).on_disabled_hover_text(hint).clicked() {
                commands.push(command);
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
            Command::Resume(folder.clone()),
        );
        button(
            true,
            "Duplicate with changes",
            "Take its recipe into the form of Train",
            Command::Duplicate(folder.clone()),
        );
        button(
            true,
            "Report page",
            "One self-contained HTML file in the run's folder; it opens in the browser",
            Command::Report(folder.clone()),
        );
        button(
            true,
            "Save weights…",
            "The best checkpoint as one .safetensors file, which PyTorch reads",
            Command::Export(folder.clone()),
        );
        let hide = if is_hidden(state, row) { "Show again" } else { "Hide" };
        button(
            true,
            hide,
            "Take it out of this list; its folder stays",
            Command::ToggleHidden(folder.clone()),
        );
        let hint = if trains {
            "Stop it before you delete it"
        } else {
            "Asks first"
        };
        button(!trains, "Delete…", hint, Command::Delete(vec![folder]));
    });
}

/// Several runs, and what can be done with all of them.
pub fn several_ui(ui: &mut Ui, state: &State, rows: &[&Row], commands: &mut Vec<Command>) {
    ui.label(RichText::new(format!("{} runs chosen", rows.len())).strong());
    let names: Vec<&str> = rows.iter().map(|row| row.summary.name.as_str()).collect();
    ui.add(egui::Label::new(names.join(", ")).wrap());
    let folders = || rows.iter().map(|row| row.summary.folder.clone());
    ui.horizontal_wrapped(|ui| {
        let hint = "Draw the curves of these runs, and no others";
        if ui.button("Compare these").on_hover_text(hint).clicked() {
            commands.push(Command::Compare(folders().collect()));
        }
        let hides = rows.iter().any(|row| !is_hidden(state, row));
        let text = if hides { "Hide them" } else { "Show them again" };
        let hint = "Take them out of this list; their folders stay";
        if ui.button(text).on_hover_text(hint).clicked() {
            let concerned = rows.iter().filter(|row| is_hidden(state, row) != hides);
            commands.extend(concerned.map(|row| Command::ToggleHidden(row.summary.folder.clone())));
        }
        let any_trains = rows.iter().any(|row| trains(state, row));
        let delete = ui.add_enabled(!any_trains, egui::Button::new("Delete them…"));
        if delete
            .on_hover_text("Asks first")
            .on_disabled_hover_text("One of them trains: stop it first")
            .clicked()
        {
            commands.push(Command::Delete(folders().collect()));
        }
    });
}
