//! The lessons: read on the left, seen on the right.

use egui::{Frame, Key, Modifiers, Panel, ProgressBar, RichText, ScrollArea, Sense, Stroke, Ui, vec2};

use super::View;
use crate::{
    app::{
        command::{Command, Order},
        guide::Guide,
        lessons::{self, Lesson, Step},
        state::State,
        theme,
    },
    wording::duration,
};

/// The lessons' view.
#[derive(Default)]
pub struct Lessons {
    guide: Guide,
}

/// What is read in a class is larger than what is read at a desk.
const TEXT: f32 = 15.5;

impl View for Lessons {
    fn name(&self) -> &'static str {
        "Lessons"
    }

    fn about(&self) -> &'static str {
        "Five lessons that drive the other views, each in minutes"
    }

    fn obey(&mut self, order: &Order, state: &mut State) {
        if let Order::Lesson(number) = order {
            self.guide.open(state, lessons::all().get(*number));
        }
    }

    fn logic(&mut self, state: &mut State) {
        self.guide.logic(state);
    }

    fn has_caption(&self, state: &State) -> bool {
        Guide::lesson(state).is_some()
    }

    /// Where the lesson is, what it says there first, what was measured, and the button that does the next thing.
    fn caption_ui(&mut self, ui: &mut Ui, state: &mut State) {
        let Some(lesson) = Guide::lesson(state) else { return };
        let Some(course) = Guide::course(state, lesson) else {
            return;
        };
        let position = course.step.min(lesson.steps.len() - 1);
        let is_done = course.done.contains(&position);
        let step = &lesson.steps[position];
        let measured = course.measured.get(&position).and_then(|lines| lines.last()).cloned();
        ui.add_space(2.0);
        ui.horizontal_wrapped(|ui| {
            self.turns_ui(ui, state, lesson, position, is_done);
            ui.label(RichText::new(&step.title).strong().size(TEXT));
            ui.weak(format!(
                "{}, step {} of {}",
                lesson.heading,
                position + 1,
                lesson.steps.len()
            ));
            if ui
                .button("Read the step")
                .on_hover_text("The whole text, beside the view")
                .clicked()
            {
                state.commands.push(Command::Show(self.name()));
            }
            if ui
                .button("Leave the lesson")
                .on_hover_text("It stays where it is")
                .clicked()
            {
                self.guide.open(state, None);
            }
            if let Some(waits) = &self.guide.waits {
                ui.spinner();
                ui.label(format!("Waiting {waits}"));
            }
        });
        ui.label(RichText::new(beginning(&step.text)).size(TEXT));
        if let Some(measured) = measured {
            ui.label(
                RichText::new(format!("Measured here: {measured}")).color(theme::series(2, ui.visuals().dark_mode)),
            );
        }
        ui.add_space(2.0);
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        match Guide::lesson(state) {
            Some(lesson) => self.lesson_ui(ui, state, lesson),
            None => self.list_ui(ui, state),
        }
    }
}

impl Lessons {
    fn list_ui(&mut self, ui: &mut Ui, state: &mut State) {
        ui.heading("Lessons");
        ui.label(
            "Text here, the real views beside it. Everything runs on the built-in characters, and every figure is measured while you watch.",
        );
        ui.add_space(4.0);
        let dark = ui.visuals().dark_mode;
        let mut opened = None;
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            for lesson in lessons::all() {
                let course = Guide::course(state, lesson);
                let done = course.map_or(0, |course| course.done.len());
                let all = lesson.steps.len();
                Frame::group(ui.style())
                    .fill(ui.visuals().faint_bg_color)
                    .show(ui, |ui| {
                        ui.set_width(ui.available_width());
                        ui.label(RichText::new(&lesson.heading).strong().size(TEXT));
                        ui.label(&lesson.about);
                        ui.horizontal_wrapped(|ui| {
                            let verb = match (course, done == all) {
                                (None, _) => "Begin",
                                (_, true) => "Look again",
                                _ => "Continue",
                            };
                            let button = ui.button(verb);
                            button.widget_info(|| {
                                let text = format!("{verb}: {}", lesson.heading);
                                egui::WidgetInfo::labeled(egui::Role::Button, true, text)
                            });
                            if button.clicked() {
                                opened = Some(lesson);
                            }
                            if done == all {
                                check_ui(ui, theme::series(2, dark));
                                ui.label("done");
                            } else if course.is_some() {
                                ui.label(format!("{done} of {all} steps done"));
                            }
                            ui.weak(&lesson.takes);
                        });
                    });
            }
        });
        if opened.is_some() {
            self.guide.open(state, opened);
        }
    }

    fn lesson_ui(&mut self, ui: &mut Ui, state: &mut State, lesson: &'static Lesson) {
        let Some(course) = Guide::course(state, lesson) else {
            return;
        };
        let position = course.step.min(lesson.steps.len() - 1);
        let done = course.done.clone();
        let step = &lesson.steps[position];
        ui.horizontal(|ui| {
            if ui.button("All lessons").clicked() {
                self.guide.open(state, None);
            }
            if ui
                .button("Start again")
                .on_hover_text("Forget how far this lesson has come; its runs stay in Runs")
                .clicked()
            {
                self.guide.restart(state, lesson);
            }
        });
        ui.label(RichText::new(&lesson.heading).heading());
        self.steps_ui(ui, state, lesson, position, &done);
        ui.separator();
        Panel::bottom("turning").show(ui, |ui| {
            ui.add_space(4.0);
            self.turning_ui(ui, state, lesson, position, done.contains(&position));
        });
        ScrollArea::vertical()
            .id_salt(("step", lesson.id, position))
            .auto_shrink(false)
            .show(ui, |ui| {
                text_ui(ui, step);
                self.act_ui(ui, state, lesson, step, done.contains(&position));
                measured_ui(ui, state, lesson, position);
            });
    }

    /// The steps as marks to click: done, open, to come.
    fn steps_ui(
        &mut self,
        ui: &mut Ui,
        state: &mut State,
        lesson: &'static Lesson,
        position: usize,
        done: &std::collections::BTreeSet<usize>,
    ) {
        let dark = ui.visuals().dark_mode;
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 4.0;
            for (number, step) in lesson.steps.iter().enumerate() {
                let (place, response) = ui.allocate_exact_size(vec2(26.0, 14.0), Sense::click());
                let is_done = done.contains(&number);
                response.widget_info(|| {
                    let state = if is_done { ", done" } else { "" };
                    let text = format!("Step {}: {}{state}", number + 1, step.title);
                    egui::WidgetInfo::labeled(egui::Role::Button, true, text)
                });
                let bar = place.shrink2(vec2(0.0, 3.0));
                let fill = if is_done {
                    theme::series(2, dark)
                } else {
                    ui.visuals().widgets.inactive.bg_fill
                };
                ui.painter().rect_filled(bar, 3.0, fill);
                if number == position || response.has_focus() || response.hovered() {
                    let stroke = Stroke::new(2.0, ui.visuals().text_color());
                    ui.painter().rect_stroke(bar, 3.0, stroke, egui::StrokeKind::Outside);
                }
                if response.on_hover_text(&step.title).clicked() {
                    self.guide.turn(state, lesson, number);
                }
            }
            ui.add_space(6.0);
            ui.weak(format!("step {} of {}", position + 1, lesson.steps.len()));
        });
    }

    fn act_ui(&mut self, ui: &mut Ui, state: &mut State, lesson: &'static Lesson, step: &Step, done: bool) {
        let dark = ui.visuals().dark_mode;
        if !step.acts.is_empty() {
            ui.add_space(4.0);
            let busy = self.guide.is_busy();
            ui.horizontal_wrapped(|ui| {
                let text = RichText::new(&step.button).strong().size(TEXT);
                let button = egui::Button::new(text).min_size(vec2(0.0, 32.0));
                let pressed = ui
                    .add_enabled(!busy, button)
                    .on_hover_text("Does it in the real views (Ctrl+D)")
                    .clicked();
                let key = !busy && ui.input_mut(|input| input.consume_key(Modifiers::COMMAND, Key::D));
                if pressed || key {
                    self.guide.press(state, lesson);
                }
                if done {
                    check_ui(ui, theme::series(2, dark));
                    ui.label("done");
                }
            });
            if let Some(waits) = &self.guide.waits {
                let waits = format!("Waiting {waits}");
                let mut cancelled = false;
                ui.horizontal_wrapped(|ui| {
                    ui.spinner();
                    ui.label(waits);
                    cancelled = ui.small_button("Stop waiting").clicked();
                });
                if cancelled {
                    self.guide.cancel();
                }
            }
        }
        for training in state.trainings.iter().filter(|training| training.job.is_alive()) {
            let shown = training
                .folder
                .as_ref()
                .and_then(|folder| state.shown.iter().find(|shown| shown.folder == *folder));
            let Some(shown) = shown else {
                ui.horizontal_wrapped(|ui| {
                    ui.spinner();
                    ui.label(&training.preparing);
                });
                continue;
            };
            let left = shown
                .seconds_left()
                .map(|left| format!(", {} left", duration(left)))
                .unwrap_or_default();
            let what = if training.job.control.is_paused() {
                "held".to_string()
            } else {
                format!("training{left}")
            };
            let colour = theme::series(shown.colour, dark);
            ui.colored_label(colour, format!("{}: {what}", shown.recipe.defence));
            ui.add(ProgressBar::new(shown.progress()).desired_height(10.0));
        }
    }

    /// Back, and one button for what comes next: what the step does, and once that is done, the step after it.
    fn turns_ui(&mut self, ui: &mut Ui, state: &mut State, lesson: &'static Lesson, position: usize, is_done: bool) {
        let last = position + 1 == lesson.steps.len();
        let acts = !lesson.steps[position].acts.is_empty() && !is_done && !self.guide.has_done(lesson, position);
        let (back_key, on_key) = turning_keys(ui);
        let back = ui.add_enabled(position > 0, egui::Button::new("Back"));
        if (back.on_hover_text("The step before (Page up)").clicked() || back_key) && position > 0 {
            self.guide.turn(state, lesson, position - 1);
        }
        let text = match (acts, last) {
            (true, _) => lesson.steps[position].button.as_str(),
            (false, true) => "Finish",
            (false, false) => "Next",
        };
        let next = egui::Button::new(RichText::new(text).strong()).fill(ui.visuals().selection.bg_fill);
        let next = ui.add_enabled(!acts || !self.guide.is_busy(), next);
        if next
            .on_hover_text("Does it in the real views, then turns the page (Page down)")
            .clicked()
            || on_key
        {
            match acts {
                true if !self.guide.is_busy() => self.guide.press(state, lesson),
                true => {}
                false => self.turn_on(state, lesson, position),
            }
        }
    }

    fn turn_on(&mut self, state: &mut State, lesson: &'static Lesson, position: usize) {
        self.guide.turn(state, lesson, position + 1);
        if position + 1 == lesson.steps.len() {
            self.guide.open(state, None);
        }
    }

    fn turning_ui(&mut self, ui: &mut Ui, state: &mut State, lesson: &'static Lesson, position: usize, done: bool) {
        let last = position + 1 == lesson.steps.len();
        let (back, on) = turning_keys(ui);
        ui.horizontal(|ui| {
            let big = |text: &str| egui::Button::new(RichText::new(text).size(TEXT)).min_size(vec2(84.0, 32.0));
            let back = ui
                .add_enabled(position > 0, big("Back"))
                .on_hover_text("The step before (Page up)")
                .clicked()
                || back;
            let text = if last { "Finish" } else { "Next" };
            let mut next = big(text);
            if done || lesson.steps[position].done.is_none() {
                next = next.fill(ui.visuals().selection.bg_fill);
            }
            let on = ui.add(next).on_hover_text("The next step (Page down)").clicked() || on;
            if back && position > 0 {
                self.guide.turn(state, lesson, position - 1);
            }
            if on {
                self.turn_on(state, lesson, position);
            }
            ui.weak("Page up, Page down");
        });
    }
}

/// Whether the keys for the step before and for the next one are pressed. A presenter's clicker sends them; a field that is
/// being typed in keeps them.
fn turning_keys(ui: &Ui) -> (bool, bool) {
    let key =
        |key| !ui.ctx().egui_wants_keyboard_input() && ui.input_mut(|input| input.consume_key(Modifiers::NONE, key));
    (key(Key::PageUp), key(Key::PageDown))
}

/// The first two sentences of a text.
fn beginning(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let ends = text.match_indices(". ").map(|(place, _)| place + 1);
    match ends.take(2).last() {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}

fn text_ui(ui: &mut Ui, step: &Step) {
    ui.label(RichText::new(&step.title).strong().size(TEXT + 1.5));
    ui.spacing_mut().item_spacing.y = 8.0;
    for paragraph in step.text.trim().split("\n\n") {
        let paragraph = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        ui.label(RichText::new(paragraph).size(TEXT));
    }
    for text in &step.tries {
        ui.horizontal_top(|ui| {
            ui.label(RichText::new("•").size(TEXT));
            ui.add(egui::Label::new(RichText::new(text).size(TEXT)).wrap());
        });
    }
    if !step.question.is_empty() {
        Frame::new()
            .fill(ui.visuals().faint_bg_color)
            .corner_radius(5)
            .inner_margin(8)
            .show(ui, |ui| {
                ui.set_width(ui.available_width());
                ui.label(RichText::new(&step.question).size(TEXT).italics());
            });
    }
}

fn measured_ui(ui: &mut Ui, state: &State, lesson: &Lesson, position: usize) {
    let measured = Guide::course(state, lesson).and_then(|course| course.measured.get(&position));
    let Some(measured) = measured.filter(|lines| !lines.is_empty()) else {
        return;
    };
    ui.add_space(4.0);
    let stroke = Stroke::new(1.0, theme::series(2, ui.visuals().dark_mode));
    Frame::new()
        .stroke(stroke)
        .corner_radius(5)
        .inner_margin(8)
        .show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.label(RichText::new("Measured here").strong());
            for line in measured {
                ui.label(RichText::new(line).size(TEXT - 1.0));
            }
        });
}

/// A check mark, drawn: the fonts need not hold one.
fn check_ui(ui: &mut Ui, colour: egui::Color32) {
    let (place, _) = ui.allocate_exact_size(vec2(16.0, 16.0), Sense::hover());
    let at = |x: f32, y: f32| place.min + vec2(x, y) * 16.0;
    let points = vec![at(0.1, 0.55), at(0.4, 0.85), at(0.92, 0.18)];
    ui.painter().line(points, Stroke::new(2.5, colour));
}
