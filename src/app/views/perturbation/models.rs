//! Which checkpoints answer.

use std::path::PathBuf;

use egui::{ComboBox, RichText, Ui};

use crate::{
    app::{command::Command, state::State, theme},
    runs::Slot,
};

/// Whose weights are attacked: a run and a moment of it, and another of the same or of another run beside it.
pub fn models_ui(ui: &mut Ui, state: &mut State) {
    let dark = ui.visuals().dark_mode;
    let runs: Vec<(PathBuf, RichText)> = state
        .shown
        .iter()
        .map(|shown| {
            let label = RichText::new(format!("{} ({})", shown.name, shown.recipe.defence));
            (shown.folder.clone(), label.color(theme::series(shown.colour, dark)))
        })
        .collect();
    let label_of = |folder: Option<&PathBuf>, none: &str| {
        runs.iter()
            .find(|(own, _)| Some(own) == folder)
            .map_or_else(|| none.to_string(), |(_, label)| label.text().to_string())
    };
    let chosen = (state.lab.checkpoint, state.lab.beside.clone());
    ui.horizontal_wrapped(|ui| {
        let name = ui.label("Model");
        ComboBox::from_id_salt("model")
            .selected_text(label_of(state.selected.as_ref(), "none"))
            .width(190.0)
            .show_ui(ui, |ui| {
                for (folder, label) in &runs {
                    let selected = state.selected.as_ref() == Some(folder);
                    if ui.selectable_label(selected, label.clone()).clicked() {
                        state.commands.push(Command::Select(folder.clone()));
                    }
                }
            })
            .response
            .labelled_by(name.id);
        if let Some(folder) = state.selected.clone() {
            let trains = state.training_of(&folder).is_some();
            checkpoint_ui(ui, "Checkpoint", trains, &mut state.lab.checkpoint);
        }
        if runs.is_empty() {
            return;
        }
        ui.separator();
        let name = ui
            .label("Beside")
            .on_hover_text("The same image under the same attack on another checkpoint, of this run or of another one");
        let beside = state.lab.beside.as_ref().map(|(folder, _)| folder);
        ComboBox::from_id_salt("beside")
            .selected_text(label_of(beside, "nothing"))
            .width(190.0)
            .show_ui(ui, |ui| {
                if ui.selectable_label(state.lab.beside.is_none(), "nothing").clicked() {
                    state.lab.beside = None;
                }
                let listed = state.runs.iter().flatten();
                let others: Vec<(PathBuf, RichText)> = listed
                    .filter(|run| !runs.iter().any(|(own, _)| *own == run.folder))
                    .map(|run| (run.folder.clone(), RichText::new(&run.name)))
                    .collect();
                for (folder, label) in runs.iter().chain(&others) {
                    let beside = state.lab.beside.as_ref().map(|(own, _)| own);
                    if ui.selectable_label(beside == Some(folder), label.clone()).clicked() {
                        // Beside its own best stands the last, and the other way round.
                        let own = state.selected.as_ref() == Some(folder);
                        let slot = match (own, state.lab.checkpoint) {
                            (true, Some(Slot::Best)) => Some(Slot::Last),
                            (true, None) if state.training_of(folder).is_none() => Some(Slot::Last),
                            _ => Some(Slot::Best),
                        };
                        state.hold(folder);
                        state.lab.beside = Some((folder.clone(), slot));
                    }
                }
            })
            .response
            .labelled_by(name.id);
        if let Some((folder, mut slot)) = state.lab.beside.clone() {
            let trains = state.training_of(&folder).is_some();
            checkpoint_ui(ui, "Checkpoint beside", trains, &mut slot);
            if let Some((_, own)) = &mut state.lab.beside {
                *own = slot;
            }
        }
    });
    if chosen != (state.lab.checkpoint, state.lab.beside.clone()) {
        state.refresh_subjects();
    }
}

fn checkpoint_ui(ui: &mut Ui, name: &str, trains: bool, slot: &mut Option<Slot>) {
    let mut choices = vec![(Some(Slot::Best), "best"), (Some(Slot::Last), "last")];
    if trains {
        choices.insert(0, (None, "as it trains"));
    }
    // Without a wish, a run that does not train shows its best.
    let text = choices
        .iter()
        .find(|(own, _)| own == slot)
        .map_or("best", |(_, text)| text);
    let response = ComboBox::from_id_salt(name)
        .selected_text(text)
        .width(96.0)
        .show_ui(ui, |ui| {
            for (own, text) in choices {
                ui.selectable_value(slot, own, text);
            }
        })
        .response;
    response.widget_info(|| {
        let mut info = egui::WidgetInfo::labeled(egui::Role::ComboBox, true, name);
        info.current_text_value = Some(text.to_string());
        info
    });
    response.on_hover_text("Which weights of the run are attacked");
}
