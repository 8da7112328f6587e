//! The defence, and a second one beside it.

use egui::{ComboBox, DragValue, Ui};

use crate::{app::state::State, defences::DefenceSpec, losses::Form, threat::Magnitude};

/// Both rows of the form.
pub fn defence_ui(ui: &mut Ui, state: &mut State) {
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
    ("natural", "Natural", "Natural training: no defence at all"),
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
        if let Some(form) = defence.form_mut() {
            let text = |form| match form {
                Form::Paper => "paper",
                Form::Released => "released",
            };
            ComboBox::from_id_salt((id, "form"))
                .selected_text(text(*form))
                .width(64.0)
                .show_ui(ui, |ui| {
                    for own in [Form::Paper, Form::Released] {
                        ui.selectable_value(form, own, text(own));
                    }
                })
                .response
                .on_hover_text("Its equations as the paper has them, or as the released code computes them");
        }
    });
}
