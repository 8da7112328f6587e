//! What came out: table, comparisons, figure.

use egui::{Color32, Grid, RichText, Ui};
use egui_plot::{Bar, BarChart, Corner, GridMark, Legend, Line, PlotPoints};

use crate::{
    app::{state::State, theme},
    experiments::{Figure, Outcome, Verdict},
    report::{chart, compare::signed, page::page},
};

pub fn save_ui(ui: &mut Ui, state: &mut State, outcome: &Outcome) {
    ui.menu_button("Save", |ui| {
        if ui.button("Report page…").clicked() {
            match page(&outcome.page()) {
                Ok(text) => state.save_as("report", "html", text.into_bytes()),
                Err(error) => state.complain(error.to_string()),
            }
            ui.close();
        }
        if ui.button("Table as CSV…").clicked() {
            state.save_as("table", "csv", outcome.csv().into_bytes());
            ui.close();
        }
        if ui.button("Table as Markdown…").clicked() {
            state.save_as("table", "md", outcome.markdown().into_bytes());
            ui.close();
        }
    });
}

/// How many of a plan's remarks stand above the table: what is compared with what.
pub const SETTING: usize = 2;

/// Reported, measured, difference; the intervals on hovering, so that a whole table of the paper fits beside its rows.
pub fn table_ui(ui: &mut Ui, outcome: &Outcome) {
    ui.label(RichText::new("Reported and measured").strong());
    // Before the differences, which a person would else take for the method's.
    for remark in outcome.plan.remarks().iter().take(SETTING) {
        ui.weak(remark);
    }
    let reported: Vec<bool> = (0..outcome.attacks.len())
        .map(|place| outcome.is_reported(place))
        .collect();
    Grid::new("table").striped(true).spacing([12.0, 3.0]).show(ui, |ui| {
        ui.label("");
        ui.label("");
        for (attack, is_reported) in outcome.attacks.iter().zip(&reported) {
            ui.label(attack);
            if *is_reported {
                ui.label("");
                ui.label("");
            }
        }
        ui.end_row();
        // Without heads of their own, so that the table fits beside the form at 1280 points.
        ui.label("");
        ui.label("");
        for is_reported in &reported {
            let heads: &[&str] = if *is_reported {
                &["paper", "here", "differ."]
            } else {
                &["here"]
            };
            for head in heads {
                ui.weak(*head);
            }
        }
        ui.end_row();
        let none = || "–".to_string();
        for line in &outcome.lines {
            ui.label(&outcome.row(line).label);
            ui.label(line.slot.to_string())
                .on_hover_text(format!("The {} checkpoint", line.slot));
            for (cell, is_reported) in line.cells.iter().zip(&reported) {
                if *is_reported {
                    ui.label(cell.reported.map_or_else(none, |figure| format!("{figure:.2}")));
                }
                match cell.measured {
                    None => ui.label(none()),
                    Some((standing, n)) => {
                        let interval = (100.0 * standing.interval.low, 100.0 * standing.interval.high);
                        ui.label(format!("{:.1}", 100.0 * standing.accuracy))
                            .on_hover_text(format!(
                                "{} of {n} test images; 95 % interval {:.1} to {:.1}",
                                standing.correct, interval.0, interval.1
                            ))
                    }
                };
                if *is_reported {
                    let difference = cell.difference().map_or_else(none, signed);
                    ui.label(difference)
                        .on_hover_text("Measured here minus reported, in points");
                }
            }
            ui.end_row();
        }
    });
    ui.weak(format!("{} Point at a figure for its interval.", outcome.caption()));
    ui.add_space(6.0);
}

/// What of it is more than chance.
pub fn comparisons_ui(ui: &mut Ui, outcome: &Outcome) {
    let dark = ui.visuals().dark_mode;
    let comparisons = outcome.comparisons();
    if comparisons.is_empty() {
        return;
    }
    ui.label(RichText::new("Is it more than chance?").strong());
    Grid::new("comparisons")
        .striped(true)
        .spacing([16.0, 3.0])
        .show(ui, |ui| {
            for head in ["under", "", "paper", "measured", "95 % interval", "verdict"] {
                ui.weak(head);
            }
            ui.end_row();
            for comparison in comparisons {
                ui.label(format!("{} ({})", comparison.attack, comparison.slot));
                ui.label(format!("{} minus {}", comparison.first, comparison.second));
                ui.label(
                    comparison
                        .reported
                        .map_or_else(|| "–".into(), |points| signed(points / 100.0)),
                );
                match &comparison.measured {
                    Some(difference) => {
                        ui.label(signed(difference.value));
                        ui.label(format!(
                            "{} to {}",
                            signed(difference.interval.low),
                            signed(difference.interval.high)
                        ))
                        .on_hover_text(match difference.paired {
                            true => "Of pairs: the same images, each with its fate in both rows",
                            false => "As if of different images: one of the two did not keep each image's fate",
                        });
                    }
                    None => {
                        ui.label("–");
                        ui.label("–");
                    }
                }
                match comparison.verdict() {
                    Verdict::Ahead => ui.label(format!("{} is ahead", comparison.first)),
                    Verdict::Behind => {
                        ui.colored_label(theme::warning(dark), format!("{} is ahead", comparison.second))
                    }
                    Verdict::Undecided => ui.weak("cannot be told apart"),
                    Verdict::Open => ui.weak("not measured yet"),
                };
                ui.end_row();
            }
        });
    for collapse in outcome.collapses() {
        ui.colored_label(theme::warning(dark), collapse);
    }
    ui.add_space(6.0);
}

/// The paper's figure with what was measured.
pub fn figure_ui(ui: &mut Ui, outcome: &Outcome) {
    let Some(figure) = outcome.plan.experiment.figure else {
        return;
    };
    let dark = ui.visuals().dark_mode;
    let plot = theme::plot("figure")
        .height(280.0)
        .width(ui.available_width().clamp(320.0, 900.0))
        .legend(Legend::default().position(Corner::RightBottom).background_alpha(0.7))
        .include_y(0.0)
        .allow_scroll(false)
        .y_axis_formatter(|mark: GridMark, _| format!("{:.0} %", 100.0 * mark.value))
        .y_axis_min_width(54.0);
    match figure {
        Figure::Epochs => {
            let chart = outcome.over_epochs();
            if chart.series.is_empty() {
                return;
            }
            ui.label(RichText::new(&chart.title).strong());
            ui.weak(
                "On images held out of the training set; the first row, with which the others are compared, is dashed.",
            );
            let shown = plot.x_axis_label("epoch").show(ui, |plot| {
                for series in chart.series {
                    let points: PlotPoints<'_> = series.points.iter().map(|(x, y)| [*x, *y]).collect();
                    let style = if series.dash > 0 {
                        egui_plot::LineStyle::dashed_dense()
                    } else {
                        egui_plot::LineStyle::Solid
                    };
                    let line = Line::new(series.name, points).color(theme::series(series.colour, dark));
                    plot.line(line.width(2.0).style(style));
                }
            });
            theme::outline(ui, &shown);
        }
        Figure::Number(name) => {
            let chart = outcome.against(name);
            if chart.groups.is_empty() {
                return;
            }
            ui.label(RichText::new(&chart.title).strong());
            let groups = chart.groups.clone();
            let width = 0.8 / chart.series.len().max(1) as f64;
            let shown = plot
                .x_axis_label(name)
                .x_axis_formatter(move |mark: GridMark, _| {
                    let place = mark.value.round();
                    let near = (mark.value - place).abs() < 1e-6 && place >= 0.0;
                    near.then(|| groups.get(place as usize).cloned())
                        .flatten()
                        .unwrap_or_default()
                })
                .show(ui, |plot| {
                    for (position, series) in chart.series.into_iter().enumerate() {
                        let shift = (position as f64 + 0.5) * width - 0.4;
                        let bars = series.bars.iter().enumerate().filter_map(|(place, bar)| {
                            Some(Bar::new(place as f64 + shift, bar.as_ref()?.value).width(width))
                        });
                        let colour = theme::series(position, dark);
                        let whiskers: Vec<(f64, chart::Bar)> = series
                            .bars
                            .iter()
                            .enumerate()
                            .filter_map(|(place, bar)| Some((place as f64 + shift, (*bar)?)))
                            .collect();
                        plot.bar_chart(BarChart::new(series.name, bars.collect()).color(colour.gamma_multiply(0.8)));
                        for (x, bar) in whiskers {
                            let whisker = Line::new("", PlotPoints::from(vec![[x, bar.low], [x, bar.high]]));
                            plot.line(whisker.color(Color32::GRAY).width(1.5).allow_hover(false));
                        }
                    }
                });
            theme::outline(ui, &shown);
        }
    }
}
