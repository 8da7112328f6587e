//! How a plot looks, what is in it, and what it says under the cursor.

use std::collections::BTreeMap;

use egui::Id;
use egui_plot::{Corner, GridInput, GridMark, Legend, LegendGrouping, Line, Plot, PlotPoints, Points, VLine};

use crate::app::{series::Series, theme};

/// What a plot shows.
#[derive(Default)]
pub struct Drawing<'a> {
    pub items: Vec<Drawn<'a>>,
    /// What the smoothed curves are averages of, by their labels.
    pub raw: BTreeMap<String, &'a Series>,
    /// Every curve with its label, to be read off at one moment.
    pub read: Vec<(String, &'a Series)>,
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

/// A plot of epochs; `last` is the last of them. Beside it there is room for the legend, which so hides no point.
pub fn plot<'a>(id: &str, corner: Corner, height: f32, [log_x, log_y]: [bool; 2], last: f64) -> Plot<'a> {
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
    let plot = if log_x {
        plot.include_x(log(last, true) + 0.5).x_grid_spacer(decades)
    } else {
        plot.include_x(0.0).include_x(1.4 * last)
    };
    if log_y {
        plot.y_axis_formatter(|mark: GridMark, _| power(mark.value, true))
            .y_grid_spacer(decades)
    } else {
        plot
    }
}

/// The marks of a logarithmic axis: 1, 2, 5, 10 and so on.
fn decades(input: GridInput) -> Vec<GridMark> {
    let (low, high) = input.bounds;
    // A range of so many decades shows their beginnings alone.
    let steps: &[(f64, f64)] = if high - low > 6.0 {
        &[(1.0, 1.0)]
    } else {
        &[(1.0, 1.0), (2.0, 0.3), (5.0, 0.3)]
    };
    let whole = low.floor().max(-40.0) as i32..=high.ceil().min(40.0) as i32;
    let marks = whole.flat_map(|decade| {
        steps.iter().map(move |(first, step_size)| GridMark {
            value: f64::from(decade) + first.log10(),
            step_size: *step_size,
        })
    });
    marks.filter(|mark| (low..=high).contains(&mark.value)).collect()
}

pub fn power(value: f64, logarithmic: bool) -> String {
    let value = if logarithmic { 10f64.powf(value) } else { value };
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// Curves that one hover reads off at most.
const READ: usize = 12;

/// What stands under the cursor: the curve, the moment, the exact value, and the average where one is drawn; then every other
/// curve at that moment.
pub fn said(
    hover: &egui_plot::HoverPosition<'_>,
    [log_x, log_y]: [bool; 2],
    raw: &BTreeMap<String, &Series>,
    read: &[(String, &Series)],
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
    let mut text = match measured {
        Some([x, measured]) => format!("{plot_name}\nepoch {x:.2}: {}, average {}", value(measured), value(y)),
        None => format!("{plot_name}\nepoch {x:.2}: {}", value(y)),
    };
    let others = read.iter().filter(|(label, _)| label != plot_name).take(READ);
    for (label, series) in others {
        if let Some([_, there]) = series.nearest(x) {
            text += &format!("\n{label}: {}", value(there));
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_axes_tick_one_two_five_ten() {
        let input = GridInput {
            bounds: (-0.1, 1.1),
            base_step_size: 0.1,
        };
        let marks: Vec<String> = decades(input).iter().map(|mark| power(mark.value, true)).collect();
        assert_eq!(marks, ["1", "2", "5", "10"]);
    }
}
