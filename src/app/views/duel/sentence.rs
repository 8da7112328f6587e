//! The recipe as one sentence whose words are the controls.

use egui::{Button, DragValue, Popup, RichText, TextStyle, Ui};

use crate::{
    app::{
        command::Command,
        state::State,
        theme::{self, size},
    },
    defences::DefenceSpec,
    losses::Form,
    recipe::Recipe,
    threat::{Magnitude, Norm},
};

/// Defences to choose from here; the whole form has all of them.
const DEFENCES: [(&str, &str); 5] = [
    ("mart", "MART"),
    ("trades", "TRADES"),
    ("standard", "Standard"),
    ("free", "Free"),
    ("natural", "natural training"),
];

/// Draws it; asks for the whole form where a word needs it.
pub fn sentence_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>, unfolded: &mut bool) {
    let settings = &state.settings;
    let (mut recipe, mut beside) = (settings.recipe.clone(), settings.beside.clone());
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 0.0;
        ui.spacing_mut().item_spacing.y = 3.0;
        ui.spacing_mut().button_padding = egui::vec2(3.0, 0.0);
        ui.spacing_mut().interact_size.x = 16.0;
        // Words that are controls stand out by weight and line, numbers by weight and ground.
        let font = theme::display(ui.ctx(), size::LEAD);
        ui.style_mut().text_styles.insert(TextStyle::Button, font);
        let defence = recipe.defence.clone();
        let epsilon = recipe.threat.epsilon.clone();
        let with_lambda = recipe.defence.lambda().is_some();
        let tail = if with_lambda { "," } else { "" };
        if let Some(chosen) = defence_ui(ui, "Defence", &defence, tail, &epsilon) {
            recipe.defend_with(chosen);
        }
        if let Some(mut lambda) = recipe.defence.lambda() {
            plain(ui, " λ ");
            let response = number_ui(
                ui,
                DragValue::new(&mut lambda).range(0.0..=100.0).speed(0.05).suffix(","),
            );
            if response.changed() {
                recipe.defence.set_lambda(lambda);
            }
            named(&response, "λ", &lambda.to_string());
            response.on_hover_text("λ, the weight of the regulariser: drag it or type");
        }
        plain(ui, if with_lambda { " against " } else { ", against " });
        let norm = match recipe.threat.norm {
            Norm::Linf => "L∞",
            Norm::L2 => "L2",
        };
        word(ui, "Norm", norm, "", |ui| {
            for (own, text) in [
                (Norm::Linf, "L∞: every pixel by at most ε"),
                (Norm::L2, "L2: all pixels together by at most ε"),
            ] {
                if ui.selectable_label(recipe.threat.norm == own, text).clicked() {
                    recipe.take_norm(own);
                    ui.close();
                }
            }
        });
        plain(ui, " ");
        word(ui, "ε", &epsilon.to_string(), ",", |ui| {
            for text in usual(&recipe) {
                if ui.selectable_label(epsilon.to_string() == *text, *text).clicked() {
                    if let Ok(chosen) = text.parse::<Magnitude>() {
                        set_epsilon(&mut recipe, chosen);
                    }
                    ui.close();
                }
            }
        });
        plain(ui, " on ");
        let data = data_name(&settings.recipe.data.source);
        word(ui, "Data", data, ",", |ui| {
            if ui
                .selectable_label(recipe.data.source == "glyphs", "characters, built in")
                .clicked()
            {
                on(&mut recipe, "glyphs", "0.1");
                ui.close();
            }
            if ui
                .selectable_label(recipe.data.source == "fashion", "clothes, built in")
                .clicked()
            {
                on(&mut recipe, "fashion", "0.1");
                ui.close();
            }
            if let Some(source) = &state.duel.shelf.mnist
                && ui.selectable_label(recipe.data.source == *source, "MNIST").clicked()
            {
                on(&mut recipe, source, "0.3");
                ui.close();
            }
            if ui.selectable_label(false, "other data…").clicked() {
                *unfolded = true;
                ui.close();
            }
        });
        plain(ui, " beside ");
        let other = beside.clone();
        let shown = other.as_ref().map_or_else(|| "nothing".to_string(), in_words);
        word(ui, "Beside", &shown, ",", |ui| {
            if let Some(chosen) = choices_ui(ui, other.as_ref(), &epsilon) {
                beside = Some(chosen);
            }
            if ui.selectable_label(other.is_none(), "nothing").clicked() {
                beside = None;
                ui.close();
            }
        });
        plain(ui, " for ");
        let mut epochs = recipe.epochs;
        let response = number_ui(ui, DragValue::new(&mut epochs).range(1..=10_000).speed(0.05));
        if response.changed() {
            recipe.epochs = epochs;
        }
        named(&response, "Epochs", &epochs.to_string());
        plain(ui, " epochs.");
    });
    if recipe != settings.recipe || beside != settings.beside {
        commands.push(Command::Plan {
            recipe: Box::new(recipe),
            beside,
        });
    }
}

fn plain(ui: &mut Ui, text: &str) {
    ui.label(RichText::new(text).size(size::LEAD));
}

/// A word that opens a menu, and what stays with it where the line breaks.
fn word(ui: &mut Ui, name: &str, text: &str, tail: &str, menu: impl FnOnce(&mut Ui)) {
    let font = theme::display(ui.ctx(), size::LEAD);
    let (style, align) = (ui.style(), egui::Align::Center);
    let mut both = egui::text::LayoutJob::default();
    let own = RichText::new(text).font(font.clone()).underline();
    own.append_to(&mut both, style, egui::FontSelection::Default, align);
    let plain = RichText::new(tail).size(size::LEAD);
    plain.append_to(&mut both, style, egui::FontSelection::Default, align);
    let button = Button::new(both).frame(false);
    let response = ui.add(button.wrap_mode(egui::TextWrapMode::Extend));
    Popup::menu(&response).show(menu);
    named(&response, name, text);
    response.on_hover_text(format!("{name}: {text}; click to change"));
}

/// A number that is dragged or typed.
fn number_ui(ui: &mut Ui, value: DragValue<'_>) -> egui::Response {
    let plain = |value: f64, _| {
        let text = format!("{value:.2}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    };
    ui.add(value.custom_formatter(plain))
}

fn named(response: &egui::Response, name: &str, value: &str) {
    response.widget_info(|| {
        let mut info = egui::WidgetInfo::labeled(egui::Role::Button, true, format!("{name}: {value}"));
        info.current_text_value = Some(value.to_string());
        info
    });
}

fn in_words(defence: &DefenceSpec) -> String {
    let known = DEFENCES.iter().find(|(own, _)| *own == defence.name());
    known.map_or_else(|| theme::defence_name(defence), |(_, text)| (*text).to_string())
}

fn defence_ui(ui: &mut Ui, name: &str, defence: &DefenceSpec, tail: &str, epsilon: &Magnitude) -> Option<DefenceSpec> {
    let mut chosen = None;
    word(ui, name, &in_words(defence), tail, |ui| {
        chosen = choices_ui(ui, Some(defence), epsilon);
    });
    chosen
}

fn choices_ui(ui: &mut Ui, now: Option<&DefenceSpec>, epsilon: &Magnitude) -> Option<DefenceSpec> {
    let mut chosen = None;
    for (own, text) in DEFENCES {
        if ui
            .selectable_label(now.is_some_and(|now| now.name() == own), text)
            .clicked()
        {
            chosen = match own {
                "mart" => Some(DefenceSpec::mart(5.0, Form::Paper)),
                own => DefenceSpec::named(own, epsilon),
            };
            ui.close();
        }
    }
    chosen
}

/// Radii that the field uses on such data.
fn usual(recipe: &Recipe) -> &'static [&'static str] {
    match (recipe.threat.norm, recipe.data.source.split(':').next()) {
        (Norm::Linf, Some("cifar10" | "cifar100")) => &["2/255", "4/255", "8/255", "16/255"],
        (Norm::Linf, _) => &["0.05", "0.1", "0.15", "0.2", "0.3"],
        (Norm::L2, _) => &["0.5", "1", "1.5", "2"],
    }
}

/// Another radius; the attack's steps keep their share of it.
fn set_epsilon(recipe: &mut Recipe, epsilon: Magnitude) {
    let share = recipe.attack.step_size.value() / recipe.threat.epsilon.value().max(f32::MIN_POSITIVE);
    recipe.attack.step_size = epsilon.times(f64::from(share));
    recipe.defence.follow(&epsilon);
    recipe.threat.epsilon = epsilon;
}

fn on(recipe: &mut Recipe, source: &str, epsilon: &str) {
    recipe.data.source = source.to_string();
    if let Ok(epsilon) = epsilon.parse() {
        set_epsilon(recipe, epsilon);
    }
}

fn data_name(source: &str) -> &str {
    match source.split(':').next().unwrap_or_default() {
        "glyphs" => "characters",
        "fashion" => "clothes",
        "mnist" => "MNIST",
        "fashion-mnist" => "Fashion-MNIST",
        "cifar10" => "CIFAR-10",
        "cifar100" => "CIFAR-100",
        "folder" => "your pictures",
        _ => "your data",
    }
}
