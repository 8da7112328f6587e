//! What can be changed while a run trains.

use std::path::PathBuf;

use egui::{DragValue, RichText, Ui};

use super::shown_of;
use crate::{
    app::{command::Command, state::State},
    engine::Adjustment,
};

/// What a person sets while a run trains, until training has taken it over.
#[derive(Default)]
pub struct Live {
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
impl Live {
    /// What can be changed while training runs.
    pub fn ui(&mut self, ui: &mut Ui, state: &mut State) {
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
        if self.folder != shown.folder {
            *self = Self {
                folder: shown.folder.clone(),
                ..Self::default()
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
                let wanted = self.lambda.ui(lambda, |lambda| {
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
            let wanted = self.rate.ui(known, |rate| {
                let field = DragValue::new(rate)
                    .range(1e-6..=10.0)
                    .speed(known * 0.01)
                    .max_decimals(6);
                ui.add(field.update_while_editing(false)).labelled_by(name.id)
            });
            changes.extend(wanted.map(Adjustment::LearningRate));
            ui.end_row();
            let name = ui.label("Evaluate every");
            let wanted = self.every.ui(recipe.evaluation.every, |every| {
                let suffix = if *every == 1 { " epoch" } else { " epochs" };
                let field = DragValue::new(every).range(1..=1_000).suffix(suffix);
                ui.add(field.update_while_editing(false)).labelled_by(name.id)
            });
            changes.extend(wanted.map(Adjustment::EvaluateEvery));
            ui.end_row();
        });
        state.commands.extend(changes.into_iter().map(Command::Adjust));
    }
}
