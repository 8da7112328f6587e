//! The duel: two networks on one picture, the radius under one's hand. It draws what [`State`] holds and pushes commands.

mod canvas;
mod foot;
mod rail;
mod sentence;
mod shelf;
mod slider;
mod stage;

use std::path::PathBuf;

use egui::{Panel, ScrollArea, Ui, Vec2, vec2};

use self::rail::Rail;
use super::{View, train::Train};
use crate::app::{
    background::Background,
    command::Command,
    dialog,
    duel::Move,
    state::State,
    theme::{self, space},
};

/// The view of the duel.
#[derive(Default)]
pub struct DuelView {
    stage: stage::Stage,
    rail: Rail,
    /// The whole form behind the sentence.
    form: Train,
    dialog: Option<Background<Result<PathBuf, String>>>,
}

impl View for DuelView {
    fn name(&self) -> &'static str {
        "Duel"
    }

    fn about(&self) -> &'static str {
        "Two networks on one picture: which of them holds, and how far"
    }

    fn logic(&mut self, state: &mut State) {
        self.form.logic(state);
        let Some(dialog) = &mut self.dialog else { return };
        for picked in dialog.drain() {
            match picked {
                Ok(path) => state.commands.push(Command::Duel(Move::Own(path))),
                Err(error) => state.complain(error),
            }
        }
        if !dialog.is_running() {
            self.dialog = None;
        }
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        let mut commands = Vec::new();
        if !state.duel.is_entered() {
            commands.push(Command::Duel(Move::Enter(state.settings.recipe.data.source.clone())));
        }
        let whole = ui.available_size();
        let has_rail = whole.x > 780.0 && state.projector.is_none();
        if has_rail {
            let width = if self.rail.unfolded { 356.0 } else { 244.0 };
            Panel::left("duel rail")
                .frame(margin(egui::Margin {
                    right: 24,
                    ..Default::default()
                }))
                .exact_size(width)
                .resizable(false)
                .show_separator_line(false)
                .show(ui, |ui| {
                    self.rail.ui(ui, state, &mut commands);
                    if self.rail.unfolded {
                        ScrollArea::both().auto_shrink(false).show(ui, |ui| {
                            ui.add_enabled_ui(!state.is_training(), |ui| self.form.form_ui(ui, state));
                        });
                    }
                });
        }
        if !has_rail && state.projector.is_none() {
            Rail::row_ui(ui, state, &mut commands);
        }
        self.stage_ui(ui, state, whole, has_rail, &mut commands);
        if self.rail.drawing && !has_rail {
            self.rail.floating_canvas_ui(ui, state, &mut commands);
        }
        state.commands.append(&mut commands);
    }
}

impl DuelView {
    fn stage_ui(&mut self, ui: &mut Ui, state: &State, whole: Vec2, has_rail: bool, commands: &mut Vec<Command>) {
        // On a wall what counts is the picture; the curves come with the room for them.
        if whole.y > if state.projector.is_some() { 640.0 } else { 520.0 } {
            Panel::bottom("duel foot")
                .frame(margin(egui::Margin {
                    top: 8,
                    ..Default::default()
                }))
                .exact_size((whole.y * 0.29).clamp(120.0, 320.0))
                .resizable(false)
                .show_separator_line(false)
                .show(ui, |ui| foot::foot_ui(ui, state));
        }
        egui::CentralPanel::no_frame().show(ui, |ui| {
            let asked = shelf::shelf_ui(ui, state, commands, &mut self.stage.change, !has_rail);
            self.rail.drawing ^= asked.draw;
            if asked.play {
                self.stage.play(ui);
            }
            if asked.open {
                let ask =
                    |dialog: rfd::FileDialog| dialog.add_filter("Pictures", &crate::data::PICTURE_ENDINGS).pick_file();
                self.dialog = Some(dialog::open(&state.ctx, Err, Ok, ask));
            }
            ui.add_space(space::S);
            let height = (ui.available_height() - slider::HEIGHT - space::S).max(80.0);
            self.stage.ui(ui, state, vec2(ui.available_width(), height));
            if slider::slider_ui(ui, state, commands) {
                self.stage.play(ui);
            }
            if let Some(error) = &state.duel.error {
                ui.colored_label(theme::error(ui.visuals().dark_mode), error);
            }
        });
    }
}

fn margin(margin: egui::Margin) -> egui::Frame {
    egui::Frame::new().inner_margin(margin)
}
