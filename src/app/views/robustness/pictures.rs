//! Accuracy against ε, and the suite's table.

use egui::{Color32, Grid, RichText, Ui};
use egui_plot::{Corner, FilledArea, GridMark, Legend, Line, PlotPoints, Points};

use super::Results;
use crate::{
    app::theme,
    evaluation::{Evaluation, Standing},
    threat::ThreatModel,
    wording::percent,
};

pub fn curves_ui(ui: &mut Ui, results: &Results, threat: &ThreatModel, height: f32) {
    let dark = ui.visuals().dark_mode;
    let trained = f64::from(threat.epsilon.value());
    let natural = results
        .curves
        .get("natural")
        .and_then(|curve| curve.first())
        .map(|(_, standing)| *standing);
    // The parts of attacks in turn stand in the table.
    let whole = |(name, _): &(&String, &Vec<_>)| *name != "natural" && !name.contains('/');
    let single = results.curves.iter().filter(whole).count() <= 2;
    let mut drawn = Vec::new();
    for (attack, curve) in results.curves.iter().filter(whole) {
        // The worst case of one attack is that attack.
        if single && attack == "worst-case" {
            continue;
        }
        // Without a perturbation every attack is the natural accuracy. Between two radii alone nothing is known.
        let mut points = natural.map(|standing| (0.0, standing)).into_iter().collect::<Vec<_>>();
        points.extend(curve.iter().copied());
        drawn.push((attack.clone(), curve.len() > 1, points));
    }
    let shown = theme::plot("robustness")
        .height(height)
        .legend(Legend::default().position(Corner::LeftBottom).background_alpha(0.7))
        .include_y(0.0)
        .include_y(1.0)
        .include_x(0.0)
        .x_axis_label(format!("ε ({})", threat.norm))
        .y_axis_formatter(|mark: GridMark, _| format!("{:.0} %", 100.0 * mark.value))
        .y_axis_min_width(54.0)
        .label_formatter(|hover| match hover {
            egui_plot::HoverPosition::NearDataPoint {
                plot_name, position, ..
            } => Some(format!(
                "{plot_name}\nε = {:.4}: {:.1} % robust",
                position.x,
                100.0 * position.y
            )),
            egui_plot::HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, |plot| {
            let trained = egui_plot::VLine::new("the recipe's ε", trained).color(Color32::GRAY);
            plot.vline(trained.style(egui_plot::LineStyle::dotted_loose()));
            for (attack, is_curve, points) in drawn {
                let colour = theme::attack(&attack, dark);
                let column = |value: fn(&(f64, Standing)) -> f64| points.iter().map(value).collect::<Vec<f64>>();
                let band = FilledArea::new(
                    "",
                    &column(|point| point.0),
                    &column(|point| point.1.interval.low),
                    &column(|point| point.1.interval.high),
                );
                let line = || {
                    points
                        .iter()
                        .map(|(x, standing)| [*x, standing.accuracy])
                        .collect::<PlotPoints<'_>>()
                };
                if is_curve {
                    plot.add(band.fill_color(colour.gamma_multiply(0.15)).allow_hover(false));
                    let style = match attack.as_str() {
                        "worst-case" => egui_plot::LineStyle::dashed_loose(),
                        _ => egui_plot::LineStyle::Solid,
                    };
                    plot.line(Line::new(attack.clone(), line()).color(colour).width(2.0).style(style));
                } else {
                    for (x, standing) in &points {
                        let interval = vec![[*x, standing.interval.low], [*x, standing.interval.high]];
                        let whisker = Line::new("", PlotPoints::from(interval)).color(colour).width(2.0);
                        plot.line(whisker.allow_hover(false));
                    }
                }
                let (shape, _) = theme::marker(&attack);
                plot.points(Points::new(attack, line()).color(colour).radius(3.5).shape(shape));
            }
        });
    theme::outline(ui, &shown);
}

pub fn suite_ui(ui: &mut Ui, evaluation: &Evaluation) {
    let dark = ui.visuals().dark_mode;
    ui.add_space(6.0);
    ui.label(
        RichText::new(format!(
            "At ε = {} ({}), N = {} {} images, {}",
            evaluation.epsilon,
            evaluation.norm,
            evaluation.n,
            evaluation.dataset.split.as_deref().unwrap_or("test"),
            evaluation.device
        ))
        .strong(),
    );
    Grid::new("suite")
        .striped(true)
        .num_columns(4)
        .spacing([22.0, 4.0])
        .show(ui, |ui| {
            for head in ["attack", "accuracy", "95 % interval", "with"] {
                ui.label(RichText::new(head).weak());
            }
            ui.end_row();
            let standing_ui = |ui: &mut Ui, standing: &Standing| {
                ui.label(percent(standing.accuracy));
                ui.label(format!(
                    "{:.1} to {:.1}",
                    100.0 * standing.interval.low,
                    100.0 * standing.interval.high
                ));
            };
            for attack in &evaluation.attacks {
                ui.label(&attack.name);
                standing_ui(ui, &attack.standing);
                ui.add(egui::Label::new(&attack.settings).truncate())
                    .on_hover_text(&attack.settings);
                ui.end_row();
            }
            ui.label("worst case")
                .on_hover_text("An example counts only if it withstood every attack");
            standing_ui(ui, &evaluation.worst_case);
            ui.end_row();
        });
    ui.add_space(6.0);
    if evaluation.warnings.is_empty() {
        ui.weak("No warning applies to these figures.");
    }
    for warning in &evaluation.warnings {
        ui.colored_label(theme::warning(dark), format!("Warning: {}", warning.headline()));
        ui.label(warning.advice());
        ui.add_space(3.0);
    }
}
