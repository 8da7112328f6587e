//! Line charts as SVG: small, honest, readable in light and dark.

use std::fmt::Write;

use super::page::escape;

/// One line of a chart.
pub struct Series {
    /// What the line shows, as the legend says it.
    pub name: String,
    /// Points from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A line chart.
pub struct Chart {
    /// What the chart shows; also its text for screen readers.
    pub title: String,
    /// The horizontal axis with its unit.
    pub x_label: String,
    /// The vertical axis with its unit.
    pub y_label: String,
    /// Its lines; at most [`COLOURS`] many are told apart by colour.
    pub series: Vec<Series>,
    /// Where the vertical axis ends; `None` follows the data.
    pub y_range: Option<(f64, f64)>,
}

/// Okabe and Ito's palette (2008), told apart by readers of any colour vision.
pub const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
const LEGEND_ROW: f64 = 18.0;

/// Round numbers that cover `low..=high`, about `count` of them.
pub fn ticks(low: f64, high: f64, count: usize) -> Vec<f64> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 {
        return vec![low];
    }
    let rough = span / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|step| *step >= rough)
        .unwrap_or(power);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    (first..=last).map(|multiple| multiple as f64 * step).collect()
}

fn number(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.to_string() }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    match (low.is_finite(), high > low) {
        (false, _) => (0.0, 1.0),
        (true, false) => (low - 0.5, high + 0.5),
        (true, true) => (low, high),
    }
}

impl Chart {
    /// The chart as an SVG element.
    pub fn to_svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let (x_low, x_high) = range(points().map(|point| point.0));
        let (y_low, y_high) = self.y_range.unwrap_or_else(|| range(points().map(|point| point.1)));
        let x = |value: f64| LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM);
        let whole = HEIGHT + LEGEND_ROW * self.series.len().div_ceil(2) as f64;
        let mut svg = format!(
            r#"<svg class="chart" viewBox="0 0 {WIDTH} {whole}" role="img" aria-label="{title}"><title>{title}</title><text class="title" x="{LEFT}" y="18">{title}</text>"#,
            title = escape(&self.title)
        );
        for tick in ticks(y_low, y_high, 5) {
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1}" y2="{at:.1}"/><text class="tick" x="{text}" y="{below:.1}" text-anchor="end">{label}</text>"#,
                right = WIDTH - RIGHT,
                at = y(tick),
                text = LEFT - 6.0,
                below = y(tick) + 4.0,
                label = number(tick)
            );
        }
        // Epochs and minibatches are counted: half of one is no place on the axis.
        for tick in ticks(x_low, x_high, 8).into_iter().filter(|tick| tick.fract() == 0.0) {
            let _ = write!(
                svg,
                r#"<text class="tick" x="{at:.1}" y="{below}" text-anchor="middle">{label}</text>"#,
                at = x(tick),
                below = HEIGHT - BOTTOM + 16.0,
                label = number(tick)
            );
        }
        let _ = write!(
            svg,
            r#"<text class="tick" x="{middle}" y="{bottom}" text-anchor="middle">{x_label}</text><text class="tick" transform="translate(14 {half}) rotate(-90)" text-anchor="middle">{y_label}</text>"#,
            middle = (LEFT + WIDTH - RIGHT) / 2.0,
            bottom = HEIGHT - 10.0,
            half = (TOP + HEIGHT - BOTTOM) / 2.0,
            x_label = escape(&self.x_label),
            y_label = escape(&self.y_label)
        );
        for (number, series) in self.series.iter().enumerate() {
            let colour = COLOURS[number % COLOURS.len()];
            // Past the palette a line is dashed, so that no two look the same.
            let dashes = if number >= COLOURS.len() {
                r#" stroke-dasharray="6 4""#
            } else {
                ""
            };
            let path: Vec<String> = series
                .points
                .iter()
                .filter(|point| point.1.is_finite())
                .map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1)))
                .collect();
            let _ = write!(
                svg,
                r#"<polyline fill="none" stroke="{colour}" stroke-width="2.5"{dashes} points="{}"/>"#,
                path.join(" ")
            );
            if series.points.len() <= 40 {
                for point in &path {
                    let (px, py) = point.split_once(',').unwrap_or_default();
                    let _ = write!(svg, r#"<circle cx="{px}" cy="{py}" r="3" fill="{colour}"/>"#);
                }
            }
            let (column, row) = ((number % 2) as f64, (number / 2) as f64);
            let (left, top) = (LEFT + column * 250.0, HEIGHT + row * LEGEND_ROW);
            let _ = write!(
                svg,
                r#"<line x1="{left}" x2="{end}" y1="{middle}" y2="{middle}" stroke="{colour}" stroke-width="3"{dashes}/><text class="tick" x="{text}" y="{base}">{name}</text>"#,
                end = left + 20.0,
                middle = top + 4.0,
                text = left + 26.0,
                base = top + 8.0,
                name = escape(&series.name)
            );
        }
        svg + "</svg>"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 100.0, 5), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(1.0, 4.0, 8), [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]);
        assert_eq!(ticks(2.0, 2.0, 5), [2.0]);
    }

    #[test]
    fn a_chart_draws_every_series_and_survives_odd_values() {
        let chart = Chart {
            title: "a < b".into(),
            x_label: "epoch".into(),
            y_label: "%".into(),
            series: vec![
                Series {
                    name: "one".into(),
                    points: vec![(1.0, 2.0), (2.0, f64::NAN), (3.0, 4.0)],
                },
                Series {
                    name: "none".into(),
                    points: vec![],
                },
            ],
            y_range: None,
        };
        let svg = chart.to_svg();
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN"));
    }
}
