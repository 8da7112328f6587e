//! Accuracy against ε, and the suite's table.

use egui::{Color32, Grid, RichText, Ui};
use egui_plot::{Corner, FilledArea, GridMark, Legend, Line, LineStyle, PlotPoints, Points};

use super::results::{CurvesByAttack, Kept};
use crate::{
    app::{shown::Shown, theme},
    evaluation::{Evaluation, Standing},
    threat::ThreatModel,
    wording::{attack_name, percent},
};

/// A curve of a plot of accuracy against ε.
pub struct Curve {
    pub name: String,
    /// The attack, whose marker its points have.
    pub attack: String,
    pub colour: Color32,
    pub style: LineStyle,
    /// Radius and the examples that stand. Between two radii alone nothing is known.
    pub points: Vec<(f64, Standing)>,
    /// Whether more than one radius was measured.
    pub is_curve: bool,
}

/// The attacks of one evaluation, each in its colour.
pub fn of_one(curves: &CurvesByAttack, dark: bool) -> Vec<Curve> {
    // The parts of attacks in turn stand in the table.
    let whole = |(name, _): &(&String, &Vec<_>)| *name != "natural" && !name.contains('/');
    let single = curves.iter().filter(whole).count() <= 2;
    let shown = curves.iter().filter(whole);
    // The worst case of one attack is that attack.
    let shown = shown.filter(|(attack, _)| !single || *attack != "worst-case");
    shown
        .map(|(attack, curve)| Curve {
            name: attack_name(attack).to_string(),
            attack: attack.clone(),
            colour: theme::attack(attack, dark),
            style: match attack.as_str() {
                "worst-case" => LineStyle::dashed_loose(),
                _ => LineStyle::Solid,
            },
            points: from_natural(curves, curve),
            is_curve: curve.len() > 1,
        })
        .collect()
}

/// One attack on several runs, each in its colour; and in what they differ that a comparison would hide.
pub fn of_several(runs: &[(&Shown, &Kept)], attack: &str, dark: bool) -> (Vec<Curve>, Vec<String>) {
    let mut drawn = Vec::new();
    let mut remarks = Vec::new();
    for (shown, kept) in runs {
        let Some(curve) = kept.curves.get(attack) else {
            remarks.push(format!("{} was not measured under {}", shown.name, attack_name(attack)));
            continue;
        };
        drawn.push(Curve {
            name: format!("{} ({})", shown.name, shown.recipe.defence),
            attack: attack.to_string(),
            colour: theme::series(shown.colour, dark),
            style: LineStyle::Solid,
            points: from_natural(&kept.curves, curve),
            is_curve: curve.len() > 1,
        });
    }
    if let [(first_run, first), others @ ..] = runs {
        for (shown, kept) in others {
            let (one, other) = (&first.evaluation, &kept.evaluation);
            let mut differs = Vec::new();
            if (&one.epsilon, one.norm) != (&other.epsilon, other.norm) {
                differs.push(format!("ε = {} ({})", other.epsilon, other.norm));
            }
            if one.dataset.fingerprint != other.dataset.fingerprint {
                differs.push(format!("other images ({}, N = {})", other.dataset.name, other.n));
            }
            let names = |evaluation: &Evaluation| -> Vec<String> {
                evaluation.attacks.iter().map(|attack| attack.name.clone()).collect()
            };
            if attack == "worst-case" && names(one) != names(other) {
                differs.push(format!("other attacks ({})", names(other).join(", ")));
            }
            if kept.outdated {
                differs.push("an earlier checkpoint".to_string());
            }
            if !differs.is_empty() {
                remarks.push(format!(
                    "Not comparable with {} as it stands: {} was measured with {}",
                    first_run.name,
                    shown.name,
                    differs.join(", ")
                ));
            }
        }
    }
    (drawn, remarks)
}

/// The curve with what is right without a perturbation before it: there every attack is the natural accuracy.
fn from_natural(curves: &CurvesByAttack, curve: &[(f64, Standing)]) -> Vec<(f64, Standing)> {
    let natural = curves.get("natural").and_then(|natural| natural.first());
    let natural = natural.map(|(_, standing)| (0.0, *standing));
    natural.into_iter().chain(curve.iter().copied()).collect()
}

pub fn curves_ui(ui: &mut Ui, drawn: &[Curve], threat: &ThreatModel, height: f32) {
    let trained = f64::from(threat.epsilon.value());
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
            plot.vline(trained.style(LineStyle::dotted_loose()));
            for curve in drawn {
                let points = &curve.points;
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
                if curve.is_curve {
                    plot.add(band.fill_color(curve.colour.gamma_multiply(0.15)).allow_hover(false));
                    let drawn = Line::new(curve.name.clone(), line()).color(curve.colour).width(2.0);
                    plot.line(drawn.style(curve.style));
                } else {
                    for (x, standing) in points {
                        let interval = vec![[*x, standing.interval.low], [*x, standing.interval.high]];
                        let whisker = Line::new("", PlotPoints::from(interval)).color(curve.colour).width(2.0);
                        plot.line(whisker.allow_hover(false));
                    }
                }
                let (shape, _) = theme::marker(&curve.attack);
                let points = Points::new(curve.name.clone(), line()).color(curve.colour);
                plot.points(points.radius(3.5).shape(shape));
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
