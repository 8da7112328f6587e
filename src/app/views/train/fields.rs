//! Every other field of a recipe, and the whole of it as text.

use egui::{ComboBox, DragValue, Grid, TextEdit, Ui};

use crate::{
    app::theme,
    defences::WeightPerturbation,
    nn::Mode,
    recipe::{EarlyStop, Recipe, Schedule, WeightAverage},
    threat::Start,
};

/// The fields that the form does not have.
pub fn fields_ui(ui: &mut Ui, recipe: &mut Recipe) {
    Grid::new("all").num_columns(2).spacing([10.0, 7.0]).show(ui, |ui| {
        optimiser_ui(ui, recipe);
        start_ui(ui, recipe);
        around_ui(ui, recipe);
        let data = &mut recipe.data;
        number(
            ui,
            "Held out",
            "Training examples that choose the best checkpoint instead of the test set",
            DragValue::new(&mut data.held_out).range(0..=1_000_000).speed(10),
        );
        let pad = DragValue::new(&mut data.augmentation.pad).range(0..=64).suffix(" px");
        number(
            ui,
            "Pad and crop",
            "Zeros round each image before a crop is cut out at random",
            pad,
        );
        row(ui, "Flip", "Mirror half the images left to right", |ui| {
            ui.checkbox(&mut data.augmentation.flip, "")
        });
        let hint = "Measure on so many held-out examples after an epoch, not on all";
        optional(ui, "Evaluate on", hint, &mut recipe.evaluation.limit, 200, |limit| {
            DragValue::new(limit).range(1..=1_000_000).speed(10)
        });
    });
}

fn optimiser_ui(ui: &mut Ui, recipe: &mut Recipe) {
    number(
        ui,
        "Minibatch",
        "Examples in a minibatch",
        DragValue::new(&mut recipe.batch_size).range(1..=65_536),
    );
    let optimiser = &mut recipe.optimiser;
    let speed = optimiser.learning_rate * 0.01;
    number(
        ui,
        "Learning rate",
        "Of stochastic gradient descent, before the schedule",
        DragValue::new(&mut optimiser.learning_rate)
            .range(1e-6..=10.0)
            .speed(speed)
            .max_decimals(6),
    );
    let milestones = vec![recipe.epochs * 5 / 8, recipe.epochs * 3 / 4];
    let drops = Schedule::MultiStep { milestones, gamma: 0.1 };
    let schedules = [Schedule::Constant, Schedule::Cosine, drops].map(|schedule| {
        let text = schedule.to_string();
        (schedule, text)
    });
    let now = recipe.schedule.to_string();
    choice(
        ui,
        "Schedule",
        "How the learning rate moves",
        &mut recipe.schedule,
        &now,
        schedules,
    );
    number(
        ui,
        "Momentum",
        "Without dampening, as PyTorch computes it",
        DragValue::new(&mut optimiser.momentum).range(0.0..=0.999).speed(0.002),
    );
    number(
        ui,
        "Weight decay",
        "The factor of the weights that is added to their gradient",
        DragValue::new(&mut optimiser.weight_decay)
            .range(0.0..=1.0)
            .speed(1e-5)
            .max_decimals(6),
    );
    let hint = "The longest that a minibatch's whole gradient may be; longer ones are scaled down";
    optional(ui, "Clip gradient", hint, &mut optimiser.clip_gradient, 5.0, |norm| {
        DragValue::new(norm).range(1e-3..=1e6).speed(0.05)
    });
}

fn start_ui(ui: &mut Ui, recipe: &mut Recipe) {
    number(
        ui,
        "Natural epochs",
        "Epochs of natural training before the defence sets in",
        DragValue::new(&mut recipe.warm_up.natural_epochs).range(0..=1_000),
    );
    number(
        ui,
        "Standard epochs",
        "Epochs of Standard after them, before the defence sets in",
        DragValue::new(&mut recipe.warm_up.standard_epochs).range(0..=1_000),
    );
    number(
        ui,
        "ε warm-up",
        "Epochs over which ε grows to its full size",
        DragValue::new(&mut recipe.warm_up.epsilon_epochs)
            .range(0.0..=1_000.0)
            .speed(0.1),
    );
    let starts = [
        (Start::Uniform, "anywhere in the ball"),
        (Start::Gaussian, "next to the image"),
        (Start::Natural, "the image itself"),
    ];
    let now = shown(&starts, &recipe.attack.start);
    let hint = "Where the training attack starts: uniform in the ball (the paper), at 0.001·N(0, 1) from the image (the released code, TRADES), or at the image";
    choice(
        ui,
        "Attack starts",
        hint,
        &mut recipe.attack.start,
        now,
        starts.map(owned),
    );
    let modes = [(Mode::Eval, "running statistics"), (Mode::Train, "batch statistics")];
    let now = shown(&modes, &recipe.attack.mode);
    let hint = "The mode of BatchNorm and dropout while the training attack looks for its images: the papers differ";
    choice(
        ui,
        "Attack's mode",
        hint,
        &mut recipe.attack.mode,
        now,
        modes.map(owned),
    );
}

/// What can be put round any defence.
fn around_ui(ui: &mut Ui, recipe: &mut Recipe) {
    number(
        ui,
        "Label smoothing",
        "The share of each target that the cross-entropy gives to all classes evenly",
        DragValue::new(&mut recipe.label_smoothing)
            .range(0.0..=0.9)
            .speed(0.005),
    );
    let hint = "Training steps round the factors of convolutions to float16, on the matrix units of a GPU that has them; what is measured is measured in float32. The processor refuses it";
    row(ui, "Mixed precision", hint, |ui| {
        ui.checkbox(&mut recipe.mixed_precision, "")
    });
    let first = WeightPerturbation {
        gamma: 0.005,
        from_epoch: 0,
    };
    let hint = "AWP, adversarial weight perturbation (Wu et al., 2020): γ, the length of a layer's perturbation in lengths of its weights";
    optional(
        ui,
        "Perturb weights",
        hint,
        &mut recipe.weight_perturbation,
        first,
        |awp| {
            DragValue::new(&mut awp.gamma)
                .range(1e-5..=1.0)
                .speed(1e-4)
                .max_decimals(5)
                .prefix("γ ")
        },
    );
    let hint = "EMA, a moving average of the weights: it is what is evaluated and kept";
    let first = WeightAverage { decay: 0.995 };
    optional(ui, "Average weights", hint, &mut recipe.average, first, |average| {
        DragValue::new(&mut average.decay)
            .range(0.0..=0.99999)
            .speed(1e-4)
            .max_decimals(5)
    });
    let hint = "Robust overfitting (Rice et al., 2020): end the run after so many epochs without a new best on the held-out examples";
    optional(
        ui,
        "Stop early",
        hint,
        &mut recipe.early_stop,
        EarlyStop { patience: 5 },
        |stop| DragValue::new(&mut stop.patience).range(1..=1_000).suffix(" epochs"),
    );
}

fn row(ui: &mut Ui, text: &str, hint: &str, field: impl FnOnce(&mut Ui) -> egui::Response) {
    let name = ui.label(text).on_hover_text(hint);
    field(ui).labelled_by(name.id);
    ui.end_row();
}

fn number(ui: &mut Ui, text: &str, hint: &str, value: DragValue) {
    row(ui, text, hint, |ui| ui.add(value));
}

/// A field that a recipe may have or not; `first` is what it begins with.
fn optional<T>(
    ui: &mut Ui,
    text: &str,
    hint: &str,
    value: &mut Option<T>,
    first: T,
    field: impl FnOnce(&mut T) -> DragValue<'_>,
) {
    let name = ui.label(text).on_hover_text(hint);
    ui.horizontal(|ui| {
        let mut has = value.is_some();
        if ui.checkbox(&mut has, "").labelled_by(name.id).changed() {
            *value = has.then_some(first);
        }
        if let Some(value) = value {
            ui.add(field(value)).labelled_by(name.id);
        }
    });
    ui.end_row();
}

fn choice<T: PartialEq, const N: usize>(
    ui: &mut Ui,
    text: &str,
    hint: &str,
    value: &mut T,
    now: &str,
    of: [(T, String); N],
) {
    row(ui, text, hint, |ui| {
        let list = ComboBox::from_id_salt(text).selected_text(now);
        list.show_ui(ui, |ui| {
            for (own, text) in of {
                ui.selectable_value(value, own, text);
            }
        })
        .response
    });
}

fn shown<T: PartialEq>(of: &[(T, &'static str)], value: &T) -> &'static str {
    of.iter().find(|(own, _)| own == value).map_or("", |(_, text)| text)
}

fn owned<T>((value, text): (T, &str)) -> (T, String) {
    (value, text.to_string())
}

/// The whole recipe as it stands in a run's folder: taken over as soon as it makes sense.
#[derive(Default)]
pub struct Text {
    /// What is being typed, and the recipe that it has led to.
    draft: Option<(String, Recipe)>,
}

impl Text {
    pub fn ui(&mut self, ui: &mut Ui, recipe: &mut Recipe) {
        // A built-in recipe or a control has changed it meanwhile.
        if self.draft.as_ref().is_some_and(|(_, reached)| reached != recipe) {
            self.draft = None;
        }
        let mut text = match &self.draft {
            Some((text, _)) => text.clone(),
            None => recipe.to_toml(),
        };
        let name = ui.label("The whole recipe").on_hover_text(
            "As it is kept in a run's folder; what you type is taken over once it makes sense. Attacks, defences and their own fields are named as on the command line.",
        );
        let field = TextEdit::multiline(&mut text).code_editor().desired_rows(12);
        let response = ui.add(field.desired_width(f32::INFINITY)).labelled_by(name.id);
        let read = Recipe::from_toml(&text);
        if response.changed() {
            if let Ok(read) = &read {
                recipe.clone_from(read);
            }
            self.draft = Some((text, recipe.clone()));
        }
        let Some(_) = &self.draft else { return };
        match read {
            Ok(_) if response.has_focus() => {}
            Ok(_) => self.draft = None,
            Err(error) => {
                ui.colored_label(theme::error(ui.visuals().dark_mode), error.to_string());
                if ui.button("Take it back").clicked() {
                    self.draft = None;
                }
            }
        }
    }
}
