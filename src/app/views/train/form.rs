//! What is trained, on what, against what.

use std::path::PathBuf;

use egui::{ComboBox, DragValue, TextEdit, Ui};

use super::{Train, defence::defence_ui, fields::fields_ui};
use crate::{
    app::{dialog, state::State, theme},
    recipe::PRESETS,
    threat::{Magnitude, Norm, ThreatModel},
    wording::counted,
};

/// What a file dialog gave.
pub enum Picked {
    /// The kind of data and where they lie.
    Data(&'static str, PathBuf),
    /// Where a recipe lies.
    Recipe(PathBuf),
    /// Why none was picked.
    Failed(String),
}

/// Data sources by the name that a source begins with.
const SOURCES: [(&str, &str); 8] = [
    ("glyphs", "Built-in characters"),
    ("fashion", "Built-in clothes"),
    ("mnist", "MNIST"),
    ("fashion-mnist", "Fashion-MNIST"),
    ("cifar10", "CIFAR-10"),
    ("cifar100", "CIFAR-100"),
    ("folder", "Folder of pictures"),
    ("npz", "NumPy file (.npz)"),
];

const NETWORKS: [&str; 7] = [
    "small-cnn",
    "dynamic-cnn",
    "cnn8",
    "resnet-18",
    "preact-resnet-18",
    "resnet-50",
    "wide-resnet-34-10",
];

impl Train {
    pub fn form_ui(&mut self, ui: &mut Ui, state: &mut State) {
        ui.horizontal(|ui| {
            let name = ui.label("Recipe");
            let before = state.settings.recipe.clone();
            ComboBox::from_id_salt("preset")
                .selected_text("Built-in recipes")
                .width(ui.available_width() - 148.0)
                .show_ui(ui, |ui| {
                    for preset in PRESETS {
                        if ui
                            .selectable_label(false, preset.name)
                            .on_hover_text(preset.about)
                            .clicked()
                        {
                            let mut recipe = preset.recipe();
                            recipe.log_every = before.log_every;
                            state.settings.recipe = recipe;
                        }
                    }
                })
                .response
                .labelled_by(name.id);
            let open = ui.button("Open…").on_hover_text("Take a recipe from a file (.toml)");
            if open.clicked() {
                self.pick(
                    state,
                    |dialog| dialog.add_filter("Recipe", &["toml"]).pick_file(),
                    Picked::Recipe,
                );
            }
            let save = ui
                .button("Save…")
                .on_hover_text("Write this recipe into a file, for here or for martlet train");
            if save.clicked() {
                state.save_as("recipe", "toml", before.to_toml().into_bytes());
            }
        });
        ui.label(in_words(state));
        self.preview.ui(ui, &mut state.settings.recipe);
        ui.add_space(4.0);
        egui::Grid::new("form")
            .num_columns(2)
            .spacing([10.0, 7.0])
            .show(ui, |ui| {
                self.data_ui(ui, state);
                defence_ui(ui, state);
                self.threat_ui(ui, state);
                budget_ui(ui, state);
            });
        ui.checkbox(&mut self.show_all, "Show every field");
        if self.show_all {
            let recipe = &mut state.settings.recipe;
            fields_ui(ui, recipe);
            self.text.ui(ui, recipe);
        }
    }

    fn data_ui(&mut self, ui: &mut Ui, state: &mut State) {
        let name = ui.label("Data");
        let source = state.settings.recipe.data.source.clone();
        let kind = source.split(':').next().unwrap_or_default().to_string();
        let shown = SOURCES
            .iter()
            .find(|(own, _)| *own == kind)
            .map_or(kind.as_str(), |(_, text)| text);
        ui.vertical(|ui| {
            let mut wanted = None;
            ComboBox::from_id_salt("data")
                .selected_text(shown)
                .show_ui(ui, |ui| {
                    for (own, text) in SOURCES {
                        if ui.selectable_label(own == kind, text).clicked() {
                            wanted = Some(own);
                        }
                    }
                })
                .response
                .labelled_by(name.id);
            match wanted {
                Some(built_in @ ("glyphs" | "fashion")) => state.choose_data(built_in.to_string()),
                Some(kind) => self.pick(
                    state,
                    move |dialog| {
                        let dialog = dialog.set_title("Where the data lie");
                        if kind == "npz" {
                            dialog.add_filter("NumPy", &["npz"]).pick_file()
                        } else {
                            dialog.pick_folder()
                        }
                    },
                    move |path| Picked::Data(kind, path),
                ),
                None => {}
            }
            if let Some((_, path)) = source.split_once(':') {
                ui.weak(path).on_hover_text(path);
            }
        });
        ui.end_row();
        let name = ui
            .label("Examples")
            .on_hover_text("Training examples; the rest stays unused");
        let limit = &mut state.settings.recipe.data.limit_train;
        ui.horizontal(|ui| {
            let mut limited = limit.is_some();
            if ui.checkbox(&mut limited, "limit to").changed() {
                *limit = limited.then_some(4_000);
            }
            if let Some(limit) = limit {
                ui.add(DragValue::new(limit).range(1..=10_000_000).speed(50))
                    .labelled_by(name.id);
            }
        });
        ui.end_row();
        let name = ui.label("Network");
        let network = state.settings.recipe.network.to_string();
        ComboBox::from_id_salt("network")
            .selected_text(&network)
            .show_ui(ui, |ui| {
                for own in NETWORKS {
                    if ui.selectable_label(own == network, own).clicked()
                        && let Ok(chosen) = own.parse()
                    {
                        state.settings.recipe.network = chosen;
                    }
                }
            })
            .response
            .labelled_by(name.id);
        ui.end_row();
    }

    /// Asks for a file or folder on a thread of its own.
    fn pick(
        &mut self,
        state: &State,
        pick: impl FnOnce(rfd::FileDialog) -> Option<PathBuf> + Send + 'static,
        picked: impl FnOnce(PathBuf) -> Picked + Send + 'static,
    ) {
        self.dialog = Some(dialog::open(&state.ctx, Picked::Failed, picked, pick));
    }

    fn threat_ui(&mut self, ui: &mut Ui, state: &mut State) {
        let recipe = &mut state.settings.recipe;
        let name = ui
            .label("Threat")
            .on_hover_text("How far an adversary may change each image: the ball's norm and radius ε");
        ui.horizontal(|ui| {
            for (norm, text) in [(Norm::Linf, "L∞"), (Norm::L2, "L2")] {
                if ui.selectable_label(recipe.threat.norm == norm, text).clicked() {
                    recipe.take_norm(norm);
                }
            }
            ui.label("ε");
            let mut epsilon = recipe.threat.epsilon.clone();
            let (norm, attacks) = (recipe.threat.norm, recipe.defence.attacks());
            self.epsilon
                .ui(ui, &mut epsilon, name.id, |typed| radius_fault(typed, norm, attacks));
            if epsilon != recipe.threat.epsilon {
                recipe.take_epsilon(epsilon);
            }
        });
        ui.end_row();
        let mut epsilon = recipe.threat.epsilon.clone();
        self.epsilon.fault_ui(ui, &mut epsilon);
        if epsilon != recipe.threat.epsilon {
            recipe.take_epsilon(epsilon);
        }
        let name = ui
            .label("Attack")
            .on_hover_text("The inner maximisation: steps of projected gradient ascent and their length");
        ui.horizontal(|ui| {
            ui.add(
                DragValue::new(&mut recipe.attack.steps)
                    .range(1..=1_000)
                    .suffix(" steps of"),
            )
            .labelled_by(name.id);
            let norm = recipe.threat.norm;
            let step = &mut recipe.attack.step_size;
            self.step_size
                .ui(ui, step, name.id, |typed| radius_fault(typed, norm, true));
        });
        ui.end_row();
        self.step_size.fault_ui(ui, &mut recipe.attack.step_size);
        let faults = [("ε", &self.epsilon), ("the attack's step", &self.step_size)];
        let faults = faults.map(|(what, draft)| Some(format!("{what}: {}", draft.fault()?)));
        state.unready = faults.into_iter().flatten().next();
    }
}

/// What is being typed into a field for a length; it stays until it makes sense, or until the value changes elsewhere.
#[derive(Default)]
pub struct Draft {
    text: String,
    of: Option<Magnitude>,
    fault: Option<Fault>,
}

/// Why what was typed is not taken over.
struct Fault {
    reason: String,
    /// What was probably meant.
    meant: Option<Magnitude>,
}

impl Draft {
    /// The field. `judge` says in words what is wrong with a length that can be read.
    fn ui(&mut self, ui: &mut Ui, value: &mut Magnitude, name: egui::Id, judge: impl Fn(&Magnitude) -> Option<String>) {
        if self.of.as_ref() != Some(value) {
            (self.text, self.of, self.fault) = (value.to_string(), Some(value.clone()), None);
        }
        let mut field = TextEdit::singleline(&mut self.text).desired_width(64.0);
        if self.fault.is_some() {
            field = field.text_color(theme::error(ui.visuals().dark_mode));
        }
        if ui.add(field).labelled_by(name).changed() {
            self.fault = match self.text.parse::<Magnitude>() {
                Err(_) => Some(Fault {
                    reason: "expected a number such as 0.3 or a fraction such as 8/255".into(),
                    meant: None,
                }),
                Ok(length) => match judge(&length) {
                    Some(reason) => Some(Fault {
                        reason,
                        meant: (1.0..=255.0)
                            .contains(&length.value())
                            .then(|| format!("{length}/255").parse().ok())
                            .flatten(),
                    }),
                    None => {
                        (self.of, *value) = (Some(length.clone()), length);
                        None
                    }
                },
            };
        }
    }

    /// A row that says why it is not taken over, and what can be clicked instead; nothing where there is no fault.
    fn fault_ui(&mut self, ui: &mut Ui, value: &mut Magnitude) {
        let Some(fault) = &self.fault else { return };
        ui.label("");
        let mut chosen = None;
        ui.vertical(|ui| {
            ui.colored_label(theme::error(ui.visuals().dark_mode), &fault.reason);
            ui.horizontal(|ui| {
                if let Some(meant) = &fault.meant
                    && ui.button(format!("Take {meant}")).clicked()
                {
                    chosen = Some(meant.clone());
                }
                if ui.button(format!("Back to {value}")).clicked() {
                    chosen = Some(value.clone());
                }
            });
        });
        ui.end_row();
        if let Some(chosen) = chosen {
            *value = chosen;
            self.of = None;
        }
    }

    fn fault(&self) -> Option<&str> {
        self.fault.as_ref().map(|fault| fault.reason.as_str())
    }
}

/// What is wrong with a radius to train with, in words.
fn radius_fault(epsilon: &Magnitude, norm: Norm, attacks: bool) -> Option<String> {
    if attacks && epsilon.value() <= 0.0 {
        return Some("0 leaves every image as it is: choose the defence natural to train without attacks".into());
    }
    let threat = ThreatModel {
        norm,
        epsilon: epsilon.clone(),
    };
    threat.fault()
}

fn in_words(state: &State) -> String {
    let recipe = &state.settings.recipe;
    let data = recipe.data.source.split(':').next().unwrap_or_default();
    let data = SOURCES
        .iter()
        .find(|(own, _)| *own == data)
        .map_or(data, |(_, text)| text);
    let beside = state
        .settings
        .beside
        .as_ref()
        .map(|beside| format!(", and {beside} beside it from the same seed"))
        .unwrap_or_default();
    let attack = match recipe.attack.steps {
        _ if !recipe.defence.attacks() && state.settings.beside.is_none() => String::new(),
        steps => format!(
            " with {} of {}",
            counted(steps, "step", "steps"),
            recipe.attack.step_size
        ),
    };
    format!(
        "{} on {data} with {}{beside}: against {}{attack}, for {} at learning rate {} ({}).",
        recipe.network,
        recipe.defence,
        recipe.threat,
        counted(recipe.epochs, "epoch", "epochs"),
        recipe.optimiser.learning_rate,
        recipe.schedule
    )
}

fn budget_ui(ui: &mut Ui, state: &mut State) {
    let recipe = &mut state.settings.recipe;
    let name = ui.label("Epochs").on_hover_text("Passes over the training examples");
    ui.add(DragValue::new(&mut recipe.epochs).range(1..=10_000))
        .labelled_by(name.id);
    ui.end_row();
    let name = ui
        .label("Seed")
        .on_hover_text("Of everything random: the same seed gives the same run on the CPU");
    ui.add(DragValue::new(&mut recipe.seed)).labelled_by(name.id);
    ui.end_row();
    let name = ui
        .label("Device")
        .on_hover_text("auto takes the best GPU, else the CPU; the Device view lists what there is");
    ui.add(TextEdit::singleline(&mut state.settings.device).desired_width(120.0))
        .labelled_by(name.id);
    ui.end_row();
}
