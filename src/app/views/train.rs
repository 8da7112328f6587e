//! The recipe in plain words, and the buttons that run it.

use std::path::PathBuf;

use egui::{ComboBox, DragValue, ProgressBar, RichText, ScrollArea, TextEdit, Ui};

use super::View;
use crate::{
    app::{
        background::Background,
        command::Command,
        state::{State, Training},
        theme,
    },
    defences::DefenceSpec,
    engine::Adjustment,
    losses::Form,
    recipe::{PRESETS, Schedule},
    report::Ending,
    threat::{Magnitude, Norm},
    wording::{counted, duration, percent},
};

/// The training view.
#[derive(Default)]
pub struct Train {
    /// Texts being typed; each is taken over once it makes sense.
    epsilon: String,
    step_size: String,
    dialog: Option<Background<Picked>>,
    show_all: bool,
    live: Live,
}

/// What a person sets while a run trains, until training has taken it over.
#[derive(Default)]
struct Live {
    /// The run.
    folder: PathBuf,
    lambda: Draft<f32>,
    rate: Draft<f64>,
    every: Draft<usize>,
}

/// A number that is being set.
#[derive(Default)]
struct Draft<T> {
    value: Option<T>,
    /// Whether it was sent, and only has to be taken over.
    is_sent: bool,
}

impl<T: Copy + PartialEq> Draft<T> {
    /// Shows the draft, or what is known; the number once a person is done with it, so that training hears of no half of
    /// it.
    fn ui(&mut self, known: T, field: impl FnOnce(&mut T) -> egui::Response) -> Option<T> {
        if self.is_sent && self.value == Some(known) {
            *self = Self {
                value: None,
                is_sent: false,
            };
        }
        let before = self.value.unwrap_or(known);
        let mut value = before;
        let response = field(&mut value);
        if value != before {
            (self.value, self.is_sent) = (Some(value), false);
        }
        let is_done = response.lost_focus() || response.drag_stopped() || !(response.has_focus() || response.dragged());
        if !is_done || self.is_sent {
            return None;
        }
        let wanted = self.value.filter(|value| *value != known);
        self.is_sent = wanted.is_some();
        wanted
    }
}

/// What a file dialog gave: the kind of data and where they lie.
enum Picked {
    Data(&'static str, PathBuf),
    Failed(String),
}

/// Data sources by the name that a source begins with.
const SOURCES: [(&str, &str); 7] = [
    ("glyphs", "Built-in characters"),
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

impl View for Train {
    fn name(&self) -> &'static str {
        "Train"
    }

    fn about(&self) -> &'static str {
        "What is trained, and the buttons that run it"
    }

    fn logic(&mut self, state: &mut State) {
        let Some(dialog) = &mut self.dialog else { return };
        for picked in dialog.drain() {
            match picked {
                Picked::Data(kind, path) => state.choose_data(format!("{kind}:{}", path.display())),
                Picked::Failed(error) => state.complain(format!("the file dialog does not open: {error}")),
            }
        }
        if !dialog.is_running() {
            self.dialog = None;
        }
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        buttons_ui(ui, state);
        for position in 0..state.trainings.len() {
            progress_ui(ui, state, position);
        }
        ui.separator();
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            if state.is_training() {
                live_ui(ui, &mut self.live, state);
                ui.separator();
            }
            ui.add_enabled_ui(!state.is_training(), |ui| self.form_ui(ui, state));
            ui.separator();
            let share = &mut state.settings.looking_share;
            let slider = egui::Slider::new(share, 0.01..=0.5)
                .custom_formatter(|share, _| format!("{:.0} %", share * 100.0))
                .custom_parser(|text| Some(text.trim_end_matches([' ', '%']).parse::<f64>().ok()? / 100.0))
                .text("time for looking");
            ui.add(slider).on_hover_text(
                "The most of the time that live pictures may take from training: natural images looked at for the gallery alone, and attacks on newer weights. What you ask for yourself is done at once.",
            );
            ui.checkbox(&mut state.settings.notifications, "Notify me on the desktop at the end")
                .on_hover_text(
                    "When training ends or breaks off while this window is hidden or another one is in front",
                );
        });
    }
}

fn buttons_ui(ui: &mut Ui, state: &mut State) {
    let training = state.is_training();
    ui.horizontal_wrapped(|ui| {
        let start = egui::Button::new(RichText::new("Start").strong().size(16.0)).min_size(egui::vec2(78.0, 32.0));
        let start = ui
            .add_enabled(!training, start)
            .on_hover_text("Train with this recipe (Ctrl+Enter)");
        if start.clicked() {
            state.commands.push(Command::Start);
        }
        let small = |text| egui::Button::new(text).min_size(egui::vec2(0.0, 32.0));
        let pause = if state.is_paused() { "Go on" } else { "Pause" };
        for (text, hint, command) in [
            (
                pause,
                "Hold before the next minibatch, or go on (Ctrl+Space)",
                Command::TogglePause,
            ),
            ("Step", "Train one minibatch, then hold (Ctrl+.)", Command::Step),
            (
                "Stop, keep best",
                "End with a checkpoint; the best one so far is kept, and the run can be resumed (Ctrl+Esc)",
                Command::Stop,
            ),
        ] {
            if ui.add_enabled(training, small(text)).on_hover_text(hint).clicked() {
                state.commands.push(command);
            }
        }
    });
}

fn progress_ui(ui: &mut Ui, state: &State, position: usize) {
    let training = &state.trainings[position];
    let dark = ui.visuals().dark_mode;
    let Some(shown) = shown_of(state, training) else {
        if training.job.is_alive() {
            ui.horizontal_wrapped(|ui| {
                ui.spinner();
                ui.label(&training.preparing);
            });
        }
        return;
    };
    let colour = theme::series(shown.colour, dark);
    ui.add_space(4.0);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(shown.recipe.defence.to_string()).strong().color(colour));
        ui.weak(&shown.name);
    });
    let text = match (&shown.ending, &shown.last) {
        (Ending::Finished(_), _) => "finished".to_string(),
        (Ending::Stopped(_), _) => "stopped; resume it from Runs".to_string(),
        (Ending::Failed(_), _) => "failed".to_string(),
        (Ending::Open, Some(step)) => {
            let left = shown
                .seconds_left()
                .map(|left| format!(" · {} left", duration(left)))
                .unwrap_or_default();
            let phase = if step.epoch <= shown.recipe.warm_up.natural_epochs {
                " (natural warm-up)"
            } else {
                ""
            };
            format!("epoch {} of {}{phase}{left}", step.epoch, shown.recipe.epochs)
        }
        (Ending::Open, None) => training.preparing.clone(),
    };
    ui.add(
        ProgressBar::new(shown.progress())
            .text(text)
            .fill(colour.gamma_multiply(0.6)),
    );
    if let Some(epoch) = shown.epochs.iter().rev().find(|epoch| !epoch.accuracy.is_empty()) {
        let mut by_accuracy: Vec<(&String, &f64)> = epoch.accuracy.iter().collect();
        by_accuracy.sort_by(|a, b| b.1.total_cmp(a.1));
        let figures: Vec<String> = by_accuracy
            .iter()
            .map(|(attack, accuracy)| format!("{attack} {}", percent(**accuracy)))
            .collect();
        ui.label(figures.join(" · ")).on_hover_text(format!(
            "Accuracy after epoch {} on {} {} examples, ε = {}",
            epoch.epoch, epoch.n, epoch.split, epoch.epsilon
        ));
    }
    for warning in &shown.warnings {
        ui.colored_label(theme::warning(dark), format!("Warning: {}", warning.message))
            .on_hover_text(&warning.advice);
    }
    if let Ending::Failed(error) = &shown.ending {
        ui.colored_label(theme::error(dark), error);
    }
}

fn shown_of<'a>(state: &'a State, training: &Training) -> Option<&'a crate::app::shown::Shown> {
    let folder = training.folder.as_ref()?;
    state.shown.iter().find(|shown| shown.folder == *folder)
}

/// What can be changed while training runs.
fn live_ui(ui: &mut Ui, live: &mut Live, state: &mut State) {
    ui.label(RichText::new("Change while it runs").strong())
        .on_hover_text("Each change is kept in the run and marked on the curves");
    let Some(shown) = state.trainings.first().and_then(|training| shown_of(state, training)) else {
        return;
    };
    let mut recipe = shown.recipe.clone();
    for adjusted in &shown.adjustments {
        match adjusted.change {
            Adjustment::Lambda(lambda) => {
                recipe.defence.set_lambda(lambda);
            }
            Adjustment::LearningRate(rate) => recipe.optimiser.learning_rate = rate,
            Adjustment::EvaluateEvery(epochs) => recipe.evaluation.every = epochs,
        }
    }
    let drafts = live;
    if drafts.folder != shown.folder {
        *drafts = Live {
            folder: shown.folder.clone(),
            ..Live::default()
        };
    }
    let mut changes = Vec::new();
    egui::Grid::new("live").num_columns(2).show(ui, |ui| {
        let lambdas = state.trainings.iter().filter_map(|training| shown_of(state, training));
        if let Some(lambda) = recipe
            .defence
            .lambda()
            .or_else(|| lambdas.filter_map(|shown| shown.recipe.defence.lambda()).next())
        {
            let name = ui.label("λ").on_hover_text("The weight of the regulariser");
            let wanted = drafts.lambda.ui(lambda, |lambda| {
                let field = DragValue::new(lambda).range(0.0..=100.0).speed(0.05);
                ui.add(field.update_while_editing(false)).labelled_by(name.id)
            });
            changes.extend(wanted.map(Adjustment::Lambda));
            ui.end_row();
        }
        let name = ui
            .label("Learning rate")
            .on_hover_text("The rate that the schedule scales");
        let known = recipe.optimiser.learning_rate;
        let wanted = drafts.rate.ui(known, |rate| {
            let field = DragValue::new(rate)
                .range(1e-6..=10.0)
                .speed(known * 0.01)
                .max_decimals(6);
            ui.add(field.update_while_editing(false)).labelled_by(name.id)
        });
        changes.extend(wanted.map(Adjustment::LearningRate));
        ui.end_row();
        let name = ui.label("Evaluate every");
        let wanted = drafts.every.ui(recipe.evaluation.every, |every| {
            let suffix = if *every == 1 { " epoch" } else { " epochs" };
            let field = DragValue::new(every).range(1..=1_000).suffix(suffix);
            ui.add(field.update_while_editing(false)).labelled_by(name.id)
        });
        changes.extend(wanted.map(Adjustment::EvaluateEvery));
        ui.end_row();
    });
    state.commands.extend(changes.into_iter().map(Command::Adjust));
}

impl Train {
    fn form_ui(&mut self, ui: &mut Ui, state: &mut State) {
        ui.horizontal(|ui| {
            let name = ui.label("Recipe");
            let before = state.settings.recipe.clone();
            ComboBox::from_id_salt("preset")
                .selected_text("Take a built-in one…")
                .width(ui.available_width() - 8.0)
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
        });
        ui.label(in_words(state));
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
            egui::Grid::new("all")
                .num_columns(2)
                .spacing([10.0, 7.0])
                .show(ui, |ui| optimiser_ui(ui, state));
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
                Some("glyphs") => state.choose_data("glyphs".to_string()),
                Some(kind) => self.browse(state, kind),
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

    fn browse(&mut self, state: &State, kind: &'static str) {
        self.dialog = Some(Background::start(
            "file dialog",
            &state.ctx,
            Picked::Failed,
            move |_, teller| {
                let dialog = rfd::FileDialog::new().set_title("Where the data lie");
                let picked = if kind == "npz" {
                    dialog.add_filter("NumPy", &["npz"]).pick_file()
                } else {
                    dialog.pick_folder()
                };
                if let Some(path) = picked {
                    teller.tell(Picked::Data(kind, path));
                }
                Ok(())
            },
        ));
    }

    fn threat_ui(&mut self, ui: &mut Ui, state: &mut State) {
        let recipe = &mut state.settings.recipe;
        let name = ui
            .label("Threat")
            .on_hover_text("How far an adversary may change each image: the ball's norm and radius ε");
        ui.horizontal(|ui| {
            for (norm, text) in [(Norm::Linf, "L∞"), (Norm::L2, "L2")] {
                ui.selectable_value(&mut recipe.threat.norm, norm, text);
            }
            ui.label("ε");
            magnitude_ui(ui, &mut self.epsilon, &mut recipe.threat.epsilon, name.id);
        });
        ui.end_row();
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
            magnitude_ui(ui, &mut self.step_size, &mut recipe.attack.step_size, name.id);
        });
        ui.end_row();
    }
}

/// A field for `8/255` or `0.031`; what makes no sense yet is shown in red and not taken over.
fn magnitude_ui(ui: &mut Ui, typed: &mut String, value: &mut Magnitude, name: egui::Id) {
    let id = ui.make_persistent_id(("magnitude", name, ui.next_auto_id()));
    let has_focus = ui.memory(|memory| memory.has_focus(id));
    if !has_focus {
        *typed = value.to_string();
    }
    let right = typed.parse::<Magnitude>().is_ok();
    let mut field = TextEdit::singleline(typed).id(id).desired_width(64.0);
    if !right {
        field = field.text_color(theme::error(ui.visuals().dark_mode));
    }
    let response = ui.add(field).labelled_by(name);
    if response.changed()
        && let Ok(parsed) = typed.parse()
    {
        *value = parsed;
    }
    if !right {
        response.on_hover_text("Expected a number such as 0.3 or a fraction such as 8/255");
    }
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

fn defence_ui(ui: &mut Ui, state: &mut State) {
    let name = ui.label("Defence");
    let epsilon = state.settings.recipe.threat.epsilon.clone();
    let mut defence = state.settings.recipe.defence.clone();
    choose_defence_ui(ui, "defence", &mut defence, &epsilon, name.id);
    if defence != state.settings.recipe.defence {
        state.settings.recipe.defend_with(defence);
    }
    ui.end_row();
    let name = ui
        .label("Beside it")
        .on_hover_text("A second defence trained at the same time from the same seed, to compare");
    let mut has = state.settings.beside.is_some();
    ui.vertical(|ui| {
        if ui.checkbox(&mut has, "a second defence").changed() {
            let standard = state.settings.recipe.defence == DefenceSpec::Standard;
            state.settings.beside = has.then_some(if standard {
                DefenceSpec::mart(5.0, Form::Paper)
            } else {
                DefenceSpec::Standard
            });
        }
        if let Some(beside) = &mut state.settings.beside {
            choose_defence_ui(ui, "beside", beside, &epsilon, name.id);
        }
    });
    ui.end_row();
}

/// Defences by the name that a recipe gives them.
const DEFENCES: [(&str, &str, &str); 11] = [
    (
        "mart",
        "MART",
        "Misclassification-aware adversarial training (Wang et al., 2020)",
    ),
    (
        "standard",
        "Standard",
        "Cross-entropy on adversarial images (Madry et al., 2018)",
    ),
    (
        "trades",
        "TRADES",
        "Natural cross-entropy plus λ·KL (Zhang et al., 2019)",
    ),
    ("natural", "None", "Natural training: no defence at all"),
    ("alp", "ALP", "Adversarial logit pairing (Kannan et al., 2018)"),
    ("clp", "CLP", "Clean logit pairing (Kannan et al., 2018)"),
    ("mma", "MMA", "Max-margin adversarial training (Ding et al., 2020)"),
    (
        "dynamic",
        "Dynamic",
        "The attack's convergence controlled by FOSC (Wang et al., 2019)",
    ),
    ("uat", "UAT++", "For unlabelled images too (Uesato et al., 2019)"),
    ("n-fgsm", "N-FGSM", "One noisy step: cheap (de Jorge et al., 2022)"),
    (
        "free",
        "Free",
        "Each gradient used for weights and image: cheap (Shafahi et al., 2019)",
    ),
];

fn choose_defence_ui(ui: &mut Ui, id: &str, defence: &mut DefenceSpec, epsilon: &Magnitude, name: egui::Id) {
    ui.horizontal(|ui| {
        let shown = DEFENCES
            .iter()
            .find(|(own, _, _)| *own == defence.name())
            .map_or_else(|| defence.to_string(), |(_, text, _)| (*text).to_string());
        ComboBox::from_id_salt(id)
            .selected_text(shown)
            .width(100.0)
            .show_ui(ui, |ui| {
                for (own, text, about) in DEFENCES {
                    let chosen = own == defence.name();
                    if ui.selectable_label(chosen, text).on_hover_text(about).clicked()
                        && !chosen
                        && let Some(named) = DefenceSpec::named(own, epsilon)
                    {
                        *defence = named;
                    }
                }
            })
            .response
            .labelled_by(name);
        if let Some(mut lambda) = defence.lambda() {
            let label = ui.label("λ").on_hover_text("The weight of the regulariser");
            if ui
                .add(DragValue::new(&mut lambda).range(0.0..=100.0).speed(0.05))
                .labelled_by(label.id)
                .changed()
            {
                defence.set_lambda(lambda);
            }
        }
    });
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

fn optimiser_ui(ui: &mut Ui, state: &mut State) {
    let recipe = &mut state.settings.recipe;
    let number = |ui: &mut Ui, text: &str, hint: &str, value: DragValue| {
        let name = ui.label(text).on_hover_text(hint);
        ui.add(value).labelled_by(name.id);
        ui.end_row();
    };
    number(
        ui,
        "Minibatch",
        "Examples in a minibatch",
        DragValue::new(&mut recipe.batch_size).range(1..=65_536),
    );
    let rate = recipe.optimiser.learning_rate;
    let speed = rate * 0.01;
    number(
        ui,
        "Learning rate",
        "Of stochastic gradient descent, before the schedule",
        DragValue::new(&mut recipe.optimiser.learning_rate)
            .range(1e-6..=10.0)
            .speed(speed)
            .max_decimals(6),
    );
    number(
        ui,
        "Momentum",
        "Without dampening, as PyTorch computes it",
        DragValue::new(&mut recipe.optimiser.momentum)
            .range(0.0..=0.999)
            .speed(0.002),
    );
    number(
        ui,
        "Weight decay",
        "The factor of the weights that is added to their gradient",
        DragValue::new(&mut recipe.optimiser.weight_decay)
            .range(0.0..=1.0)
            .speed(1e-5)
            .max_decimals(6),
    );
    number(
        ui,
        "Natural epochs",
        "Epochs of natural training before the defence sets in",
        DragValue::new(&mut recipe.warm_up.natural_epochs).range(0..=1_000),
    );
    number(
        ui,
        "ε warm-up",
        "Epochs over which ε grows to its full size",
        DragValue::new(&mut recipe.warm_up.epsilon_epochs)
            .range(0.0..=1_000.0)
            .speed(0.1),
    );
    number(
        ui,
        "Held out",
        "Training examples that choose the best checkpoint instead",
        DragValue::new(&mut recipe.data.held_out).range(0..=1_000_000).speed(10),
    );
    let name = ui.label("Schedule").on_hover_text("How the learning rate moves");
    ComboBox::from_id_salt("schedule")
        .selected_text(recipe.schedule.to_string())
        .show_ui(ui, |ui| {
            for schedule in [
                Schedule::Constant,
                Schedule::Cosine,
                Schedule::MultiStep {
                    milestones: vec![recipe.epochs * 5 / 8, recipe.epochs * 3 / 4],
                    gamma: 0.1,
                },
            ] {
                let text = schedule.to_string();
                ui.selectable_value(&mut recipe.schedule, schedule, text);
            }
        })
        .response
        .labelled_by(name.id);
    ui.end_row();
}
