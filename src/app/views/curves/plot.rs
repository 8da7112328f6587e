//! How a plot looks, what is in it, and what it says under the cursor.

use std::collections::BTreeMap;

use egui::{Color32, Id};
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
    /// The names that the legend shows, where they are not those of single curves.
    named: Vec<String>,
}

impl<'a> Drawing<'a> {
    /// Gives the legend a name for everything of one id, in its colour: a line of one point, which is not to be seen, because the first of an id
    /// names it.
    pub fn name(&mut self, group: &str, series: &Series, colour: Color32, [log_x, log_y]: [bool; 2]) {
        let points = series.points().iter();
        let shows = |point: &&[f64; 2]| (!log_x || point[0] > 0.0) && (!log_y || point[1] > 0.0);
        let first: Vec<[f64; 2]> = points.filter(shows).take(1).copied().collect();
        let named = Line::new(group.to_string(), transformed(&first, log_x, log_y));
        let named = named.color(colour).allow_hover(false).id(group);
        self.items.push(Drawn::Line(named));
        self.named.push(group.to_string());
    }
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

/// The share of a plot so wide that its legend takes: that of its longest name and what stands beside it.
pub fn room(drawing: &Drawing, width: f32) -> f64 {
    let labels = drawing.read.iter().map(|(label, _)| label);
    let names: Vec<&String> = match drawing.named.as_slice() {
        [] => labels.collect(),
        named => named.iter().collect(),
    };
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) as f32;
    f64::from((7.5 * longest + 48.0) / (width - AXIS).max(1.0)).clamp(0.1, 0.6)
}

/// The width of an axis' numbers, the same for both plots.
const AXIS: f32 = 54.0;

/// A plot of epochs until `end`, beyond which a legend has room that so hides no point.
pub fn plot<'a>(id: &str, corner: Corner, height: f32, [log_x, log_y]: [bool; 2], [last, end]: [f64; 2]) -> Plot<'a> {
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
        .y_axis_min_width(AXIS)
        .set_margin_fraction(egui::vec2(0.01, 0.06));
    // Both plots begin where training does, whatever they show.
    let plot = if log_x {
        plot.include_x(log(last, true) + 0.5).x_grid_spacer(decades)
    } else {
        plot.include_x(0.0).include_x(end)
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
