//! One image under attack: natural, what was changed, adversarial; step by step, as fast as a slider moves.

mod models;
mod save;

use std::{path::PathBuf, sync::Arc};

use egui::{Color32, ComboBox, DragValue, Rect, RichText, ScrollArea, Sense, Slider, Stroke, Ui, vec2};
use egui_plot::{Line, PlotPoints, VLine};

use self::models::models_ui;
use super::View;
use crate::{
    app::{
        background::Background,
        command::Command,
        dialog, export,
        lab::{Finding, Specimen, Trace, Wish},
        picture::{Picture, Show},
        state::State,
        theme,
    },
    threat::Norm,
    wording::percent,
};

/// The perturbation view.
#[derive(Default)]
pub struct Perturbation {
    /// The step looked at; none is the last.
    step: Option<usize>,
    gain: Option<f32>,
    /// The picture and the attack whose step that is.
    looked_at: Option<(String, Wish)>,
    followed: Option<std::time::Instant>,
    dialog: Option<Background<Result<PathBuf, String>>>,
}

const ATTACKS: [(&str, &str); 5] = [
    ("natural", "none"),
    ("fgsm", "FGSM"),
    ("pgd", "PGD"),
    ("cw", "CW∞"),
    ("apgd-ce", "APGD"),
];

impl View for Perturbation {
    fn name(&self) -> &'static str {
        "Perturbation"
    }

    fn about(&self) -> &'static str {
        "One image under attack, step by step"
    }

    fn logic(&mut self, state: &mut State) {
        if let Some(dialog) = &mut self.dialog {
            for picked in dialog.drain() {
                match picked {
                    Ok(path) => state.commands.push(Command::OpenImage(path)),
                    Err(error) => state.complain(error),
                }
            }
            if !dialog.is_running() {
                self.dialog = None;
            }
        }
    }

    fn ui(&mut self, ui: &mut Ui, state: &mut State) {
        self.follow(state);
        self.subject_ui(ui, state);
        let Some(specimen) = state.lab.specimen.clone() else {
            ui.add_space(40.0);
            ui.vertical_centered(|ui| {
                if let Some(error) = &state.lab.error {
                    ui.colored_label(theme::error(ui.visuals().dark_mode), error);
                    return;
                }
                if state.selected.is_some() {
                    ui.spinner();
                    ui.label("reading the checkpoint and its data");
                    return;
                }
                ui.label(RichText::new("No image chosen").heading());
                ui.label("Start a training or select a run, then step through its images here or click one in Misclassified.");
            });
            return;
        };
        if self.attack_ui(ui, state, &specimen) {
            state.lab.ask();
        }
        // A step that was chosen is one of this attack on this picture, whoever changes them.
        let looked_at = (specimen.title.clone(), state.lab.wish.clone());
        if self.looked_at.as_ref() != Some(&looked_at) {
            self.looked_at = Some(looked_at);
            self.step = None;
        }
        if let Some(error) = &state.lab.error {
            ui.colored_label(theme::error(ui.visuals().dark_mode), error);
        }
        ui.separator();
        let Some(finding) = &state.lab.finding else {
            ui.horizontal(|ui| {
                ui.spinner();
                ui.label("waiting for the model");
            });
            return;
        };
        if state.awaits_subject() && state.lab.error.is_none() {
            // The pictures are of the model before: nobody shall take them for the chosen one's.
            ui.horizontal(|ui| {
                ui.spinner();
                ui.label("reading the model that was chosen");
            });
            return;
        }
        let format = state.target_format;
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.columns(finding.traces.len().max(1), |columns| {
                for (ui, trace) in columns.iter_mut().zip(&finding.traces) {
                    self.trace_ui(ui, finding, trace, format);
                }
            });
            self.scrubber_ui(ui, finding);
        });
    }
}

impl Perturbation {
    /// Keeps the attacked model up to date while a run trains, without asking more than once a second.
    fn follow(&mut self, state: &mut State) {
        let now = std::time::Instant::now();
        let stale = self
            .followed
            .is_none_or(|last| now.duration_since(last).as_secs_f32() > 1.0);
        let Some(data) = state
            .current()
            .map(|shown| shown.book.as_ref().map(|book| book.data.clone()))
        else {
            return;
        };
        if stale {
            self.followed = Some(now);
            if let Some(data) = data
                && !state.lab.shows_kind_of(&data)
                && let Some(recipe) = state.current().map(|shown| shown.recipe.clone())
            {
                state.lab.look_at(&data, 0, &recipe);
            }
            state.refresh_subjects();
        }
    }

    fn subject_ui(&mut self, ui: &mut Ui, state: &mut State) {
        models_ui(ui, state);
        ui.horizontal_wrapped(|ui| {
            if let Some(data) = state.lab.data.clone() {
                let name = ui.label("Image");
                let last = data.len().saturating_sub(1);
                let mut position = state.lab.position.min(last);
                let step = |ui: &mut Ui, text: &str, hint: &str| ui.button(text).on_hover_text(hint).clicked();
                let before = position;
                if step(ui, "<", "The image before") {
                    position = position.saturating_sub(1);
                }
                // The number that the gallery and the data themselves give it; what is held out has left gaps.
                let number = DragValue::new(&mut position)
                    .range(0..=last)
                    .custom_formatter(|place, _| data.index((place as usize).min(last)).to_string())
                    .custom_parser(|text| {
                        let wanted: usize = text.trim().parse().ok()?;
                        let known = (0..=last).find(|place| data.index(*place) == wanted);
                        known.map(|place| place as f64)
                    });
                ui.add(number).labelled_by(name.id);
                if step(ui, ">", "The next image") {
                    position = (position + 1).min(last);
                }
                if position != before {
                    state.lab.show_example(&data, position);
                }
            }
            if ui
                .button("Own image…")
                .on_hover_text("A picture of yours, scaled to what the network takes; or drop one on the window")
                .clicked()
            {
                self.dialog = Some(dialog::open(&state.ctx, Err, Ok, |dialog| {
                    dialog.add_filter("Pictures", &crate::data::PICTURE_ENDINGS).pick_file()
                }));
            }
            let saves = state.lab.is_current() && !state.awaits_subject();
            let mut saved = None;
            ui.add_enabled_ui(saves, |ui| {
                ui.menu_button("Save", |ui| saved = export::menu_ui(ui))
                    .response
                    .on_hover_text("Natural, perturbation and adversarial side by side, with what they are of")
                    .on_disabled_hover_text("The attack on what you chose is still under way");
            });
            if let Some(form) = saved
                && let Some(finding) = &state.lab.finding
            {
                let figure = save::figure(finding, self.step, self.gain, state.dark());
                state.save_figure(figure, "perturbation", form);
            }
        });
    }

    fn attack_ui(&mut self, ui: &mut Ui, state: &mut State, specimen: &Specimen) -> bool {
        let wish = &mut state.lab.wish;
        let before = wish.clone();
        ui.horizontal_wrapped(|ui| {
            let name = ui.label("Attack");
            let shown = ATTACKS
                .iter()
                .find(|(own, _)| *own == wish.attack)
                .map_or("", |(_, text)| text);
            ComboBox::from_id_salt("attack")
                .selected_text(shown)
                .width(70.0)
                .show_ui(ui, |ui| {
                    for (own, text) in ATTACKS {
                        ui.selectable_value(&mut wish.attack, own.to_string(), text);
                    }
                })
                .response
                .labelled_by(name.id);
            if matches!(wish.attack.as_str(), "pgd" | "cw") {
                let name = ui.label("steps");
                ui.add(DragValue::new(&mut wish.steps).range(2..=200))
                    .labelled_by(name.id);
            }
            let name = ui
                .label("towards")
                .on_hover_text("Any wrong class, or one that the attack drives to");
            ComboBox::from_id_salt("target")
                .selected_text(wish.target.map_or("any wrong class", |class| {
                    specimen.classes.get(class).map_or("?", String::as_str)
                }))
                .width(110.0)
                .show_ui(ui, |ui| {
                    ui.selectable_value(&mut wish.target, None, "any wrong class");
                    for (class, text) in specimen.classes.iter().enumerate() {
                        if Some(class) != specimen.label {
                            ui.selectable_value(&mut wish.target, Some(class), text);
                        }
                    }
                })
                .response
                .labelled_by(name.id);
            for (norm, text) in [(Norm::Linf, "L∞"), (Norm::L2, "L2")] {
                ui.selectable_value(&mut wish.norm, norm, text);
            }
        });
        ui.horizontal_wrapped(|ui| {
            let (most, decimals) = match wish.norm {
                Norm::Linf => (0.5, 3),
                Norm::L2 => (8.0, 2),
            };
            let name = ui
                .label(RichText::new("ε").strong())
                .on_hover_text("How far the attack may change the image; drag, and it attacks anew");
            ui.spacing_mut().slider_width = (ui.available_width() - 330.0).clamp(140.0, 420.0);
            ui.add(Slider::new(&mut wish.epsilon, 0.0..=most).fixed_decimals(decimals))
                .labelled_by(name.id);
            let mut own = self.gain.is_some();
            if ui
                .checkbox(&mut own, "gain")
                .on_hover_text("Enlarge the perturbation by a factor of your own; else ε fills the colours")
                .changed()
            {
                self.gain = own.then_some(10.0);
            }
            if let Some(gain) = &mut self.gain {
                ui.add(DragValue::new(gain).range(0.1..=1_000.0).speed(0.1).prefix("× "));
            }
        });
        *wish != before
    }

    fn trace_ui(&self, ui: &mut Ui, finding: &Finding, trace: &Trace, format: eframe::egui_wgpu::wgpu::TextureFormat) {
        let specimen = &finding.specimen;
        let last = trace.images.len() - 1;
        let step = self.step.unwrap_or(last).min(last);
        let natural = &specimen.pixels;
        let adversarial = &trace.images[step];
        let gain = self.gain.unwrap_or_else(|| finding.full_gain(adversarial));
        let (linf, l2) = trace.distances(natural, step);
        ui.label(RichText::new(&trace.subject).strong());
        ui.horizontal_wrapped(|ui| {
            ui.weak(&specimen.title);
            ui.weak(format!("distance L∞ {linf:.4} · L2 {l2:.3}"));
        });
        // As large as the view allows with the bars and the scrubber below still in sight.
        let side = ((ui.available_width() - 40.0) / 3.0).clamp(60.0, (ui.clip_rect().height() - 320.0).max(120.0));
        let shape = specimen.shape;
        let part = |ui: &mut Ui, title: String, show: Show, image: &[f32], probabilities: Option<&[f32]>| {
            ui.vertical(|ui| {
                ui.set_width(side);
                ui.add(egui::Label::new(title).truncate());
                let size = vec2(side, side * shape.height as f32 / shape.width as f32);
                let (place, response) = ui.allocate_exact_size(size, Sense::hover());
                Picture::new(shape, natural, image, show, format).paint_at(ui, place);
                readout(&response, place, specimen, adversarial);
                if let Some(probabilities) = probabilities {
                    bars_ui(ui, specimen, finding.wish.target, probabilities);
                }
            });
        };
        ui.horizontal_top(|ui| {
            ui.spacing_mut().item_spacing.x = 14.0;
            part(ui, "Natural".to_string(), Show::Image, natural, Some(&trace.before));
            part(
                ui,
                match side {
                    ..150.0 => format!("× {gain:.1}"),
                    _ => format!("Perturbation × {gain:.1}"),
                },
                Show::Change { gain },
                adversarial,
                None,
            );
            part(
                ui,
                match step < last {
                    true => format!("Adversarial, step {step} of {last}"),
                    false => "Adversarial".to_string(),
                },
                Show::Image,
                adversarial,
                Some(&trace.after[step]),
            );
        });
    }

    /// The steps of the attack on each model, with the loss along them.
    fn scrubber_ui(&mut self, ui: &mut Ui, finding: &Finding) {
        let traces = &finding.traces;
        let last = traces.iter().map(|trace| trace.images.len() - 1).max().unwrap_or(0);
        if last < 2 {
            return;
        }
        let step = self.step.unwrap_or(last).min(last);
        let losses: Vec<Vec<f32>> = traces
            .iter()
            .map(|trace| trace.losses_of(finding.wish.target))
            .collect();
        let class = |class: usize| finding.specimen.classes.get(class).map_or("?", String::as_str);
        ui.add_space(8.0);
        ui.horizontal(|ui| {
            let name = ui
                .label("Step")
                .on_hover_text("The attack's steps, with the loss along them");
            let mut shown = step;
            ui.spacing_mut().slider_width = (ui.available_width() - 420.0).clamp(120.0, 560.0);
            if ui.add(Slider::new(&mut shown, 0..=last)).labelled_by(name.id).changed() {
                self.step = (shown < last).then_some(shown);
            }
            let now: Vec<String> = losses
                .iter()
                .map(|losses| format!("{:.3}", losses[step.min(losses.len() - 1)].abs()))
                .collect();
            let of = match (finding.wish.target, finding.specimen.label) {
                (Some(target), _) => format!("of {}, the target", class(target)),
                (None, Some(label)) => format!("of {}, the true class", class(label)),
                (None, None) => "of the first answer".to_string(),
            };
            ui.weak(format!("cross-entropy {of}: {}", now.join(" and ")));
        });
        let dark = ui.visuals().dark_mode;
        let mut plot = theme::plot("losses")
            .height(104.0)
            .allow_zoom(false)
            .allow_drag(false)
            .allow_scroll(false)
            .include_y(0.0)
            .y_axis_min_width(40.0);
        if traces.len() > 1 {
            plot = plot.legend(egui_plot::Legend::default().position(egui_plot::Corner::LeftTop));
        }
        let shown = plot.show(ui, |plot| {
            for (place, (trace, losses)) in traces.iter().zip(&losses).enumerate() {
                let points: PlotPoints<'_> = losses
                    .iter()
                    .enumerate()
                    .map(|(step, loss)| [step as f64, f64::from(*loss)])
                    .collect();
                let line = Line::new(trace.subject.as_str(), points);
                plot.line(line.color(theme::series(1 + place, dark)).width(2.0));
            }
            plot.vline(VLine::new("", step as f64).color(Color32::GRAY));
        });
        theme::outline(ui, &shown);
    }
}

/// The pixel under the cursor: where it is, what it was, what it became.
fn readout(response: &egui::Response, place: Rect, specimen: &Arc<Specimen>, adversarial: &[f32]) {
    let Some(pointer) = response.hover_pos() else { return };
    let shape = specimen.shape;
    let along = ((pointer - place.min) / place.size()).clamp(vec2(0.0, 0.0), vec2(0.999, 0.999));
    let (x, y) = (
        (along.x * shape.width as f32) as usize,
        (along.y * shape.height as f32) as usize,
    );
    let values = |image: &[f32]| {
        (0..shape.channels)
            .map(|channel| format!("{:.3}", image[(channel * shape.height + y) * shape.width + x]))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let text = format!(
        "x {x}, y {y}\nnatural {}\nadversarial {}",
        values(&specimen.pixels),
        values(adversarial)
    );
    response.clone().on_hover_text_at_pointer(text);
}

/// Class probabilities as bars, the true class marked.
fn bars_ui(ui: &mut Ui, specimen: &Specimen, target: Option<usize>, probabilities: &[f32]) {
    let dark = ui.visuals().dark_mode;
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    // The likeliest four, the true class and the one that is aimed at always among them.
    let is_marked = |class: &usize| specimen.label == Some(*class) || target == Some(*class);
    let marked = order.iter().filter(|class| is_marked(class)).count();
    let mut others = 4_usize.saturating_sub(marked);
    order.retain(|class| {
        if is_marked(class) {
            return true;
        }
        let fits = others > 0;
        others = others.saturating_sub(1);
        fits
    });
    for class in order {
        let share = probabilities[class];
        let is_true = specimen.label == Some(class);
        let (line, response) = ui.allocate_exact_size(vec2(ui.available_width(), 17.0), Sense::hover());
        let fill = if is_true {
            theme::series(2, dark)
        } else {
            theme::series(1, dark)
        };
        let mut bar = line;
        bar.set_width((line.width() * share).max(1.0));
        ui.painter().rect_filled(line, 2.0, ui.visuals().faint_bg_color);
        ui.painter().rect_filled(bar, 2.0, fill.gamma_multiply(0.55));
        let name = specimen.classes.get(class).map_or("?", String::as_str);
        let mark = match (is_true, line.width() > 150.0) {
            (true, true) => " (true class)",
            (true, false) => " (true)",
            (false, _) if target == Some(class) => " (target)",
            (false, _) => "",
        };
        let (font, colour) = (egui::FontId::proportional(12.0), ui.visuals().text_color());
        let figure = ui.painter().text(
            line.right_center() - vec2(5.0, 0.0),
            egui::Align2::RIGHT_CENTER,
            percent(share.into()),
            font.clone(),
            colour,
        );
        // A long name ends before the figure.
        let mut text = egui::text::LayoutJob::simple_singleline(format!("{name}{mark}"), font, colour);
        text.wrap = egui::text::TextWrapping::truncate_at_width(figure.left() - line.left() - 10.0);
        let text = ui.painter().layout_job(text);
        let place = line.left_center() + vec2(5.0, -0.5 * text.size().y);
        ui.painter().galley(place, text, colour);
        if is_true {
            let stroke = Stroke::new(1.0, theme::series(2, dark));
            ui.painter().rect_stroke(line, 2.0, stroke, egui::StrokeKind::Inside);
        }
        response.widget_info(|| {
            egui::WidgetInfo::labeled(
                egui::Role::ProgressIndicator,
                true,
                format!("{name}{mark}: {}", percent(share.into())),
            )
        });
    }
}
