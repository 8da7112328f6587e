//! How a plot looks, what is in it, and what it says under the cursor.

use std::collections::BTreeMap;

use egui::Id;
use egui_plot::{Corner, GridMark, Legend, LegendGrouping, Line, Plot, PlotPoints, Points, VLine};

use crate::app::{series::Series, theme};

/// What a plot shows.
#[derive(Default)]
pub struct Drawing<'a> {
    pub items: Vec<Drawn<'a>>,
    /// What the smoothed curves are averages of, by their labels.
    pub raw: BTreeMap<String, &'a Series>,
}

/// Something in a plot.
pub enum Drawn<'a> {
    Line(Line<'a>),
    Points(Points<'a>),
    Mark(VLine),
}

impl<'a> Drawn<'a> {
    pub fn add_to(self, plot: &mut egui_plot::PlotUi<'a>) {
        match self {
            Drawn::Line(line) => plot.line(line),
            Drawn::Points(points) => plot.points(points),
            Drawn::Mark(line) => plot.vline(line),
        }
    }
}

pub fn log(value: f64, logarithmic: bool) -> f64 {
    if logarithmic { value.max(1e-12).log10() } else { value }
}

pub fn transformed(points: &[[f64; 2]], log_x: bool, log_y: bool) -> PlotPoints<'static> {
    points
        .iter()
        .filter(|[x, y]| (!log_x || *x > 0.0) && (!log_y || *y > 0.0))
        .map(|[x, y]| [log(*x, log_x), log(*y, log_y)])
        .collect()
}

pub fn plot<'a>(id: &str, corner: Corner, height: f32, log_x: bool, log_y: bool) -> Plot<'a> {
    let group = Id::unique("curves");
    let plot = theme::plot(id)
        .height(height)
        .legend(
            Legend::default()
                .position(corner)
                .background_alpha(0.7)
                .grouping(LegendGrouping::ById),
        )
        .link_axis(group, [true, false])
        .link_cursor(group, [true, false])
        .x_axis_label("epochs")
        .x_axis_formatter(move |mark: GridMark, _| power(mark.value, log_x))
        .y_axis_min_width(54.0)
        .set_margin_fraction(egui::vec2(0.01, 0.06));
    // Both plots begin where training does, whatever they show.
    let plot = if log_x { plot } else { plot.include_x(0.0) };
    if log_y {
        plot.y_axis_formatter(|mark: GridMark, _| power(mark.value, true))
    } else {
        plot
    }
}

pub fn power(value: f64, logarithmic: bool) -> String {
    let value = if logarithmic { 10f64.powf(value) } else { value };
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// What stands under the cursor: the curve, the moment, the exact value, and the average where one is drawn.
pub fn said(
    hover: &egui_plot::HoverPosition<'_>,
    log_x: bool,
    log_y: bool,
    raw: &BTreeMap<String, &Series>,
    value: impl Fn(f64) -> String,
) -> Option<String> {
    let egui_plot::HoverPosition::NearDataPoint {
        plot_name, position, ..
    } = hover
    else {
        return None;
    };
    let linear = |at: f64, logarithmic: bool| if logarithmic { 10f64.powf(at) } else { at };
    let (x, y) = (linear(position.x, log_x), linear(position.y, log_y));
    let measured = raw.get(*plot_name).and_then(|series| series.nearest(x));
    Some(match measured {
        Some([x, measured]) => format!("{plot_name}\nepoch {x:.2}: {}, average {}", value(measured), value(y)),
        None => format!("{plot_name}\nepoch {x:.2}: {}", value(y)),
    })
}
