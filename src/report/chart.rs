//! Small charts as SVG text: lines, and grouped bars with intervals.
//!
//! Every chart carries its title and a description for those who cannot see it, exact values under the pointer, and
//! light and dark colours that common kinds of colour blindness tell apart. Nothing is smoothed or left out, and bars
//! start at 0.

use std::fmt::Write;

use super::markup::escape;
use crate::wording::percent;

/// The style of every chart; a page with several charts holds it once.
pub const STYLE: &str = concat!(
    ".mc text{font:12px system-ui,sans-serif;fill:#3c4650}.mc .mc-head{font-size:14px;font-weight:600;fill:#14191e}",
    ".mc .mc-grid{stroke:#dfe4e9;stroke-width:1}.mc .mc-axis{stroke:#7b8690;stroke-width:1}",
    ".mc .mc-reference{stroke:#7b8690;stroke-width:1;stroke-dasharray:2 3}",
    ".mc .mc-lead{stroke:#9aa4ae;stroke-width:1;fill:none}",
    ".mc .mc-line{fill:none;stroke-width:2.25;stroke-linejoin:round;stroke-linecap:round}",
    ".mc .mc-interval{fill:none;stroke:#14191e;stroke-width:1.5}.mc .mc-value{font-size:11px;fill:#14191e}",
    ".mc .mc-c0{stroke:#1f6fc4}.mc .mc-f0{fill:#1f6fc4}.mc .mc-c1{stroke:#b5560a}.mc .mc-f1{fill:#b5560a}",
    ".mc .mc-c2{stroke:#00775a}.mc .mc-f2{fill:#00775a}.mc .mc-c3{stroke:#96418f}.mc .mc-f3{fill:#96418f}",
    ".mc .mc-c4{stroke:#5a6570}.mc .mc-f4{fill:#5a6570}.mc .mc-c5{stroke:#8a6d00}.mc .mc-f5{fill:#8a6d00}",
    "@media(prefers-color-scheme:dark){.mc text{fill:#b9c3cd}.mc .mc-head{fill:#eef2f6}.mc .mc-grid{stroke:#2f3740}",
    ".mc .mc-axis,.mc .mc-reference{stroke:#86919c}.mc .mc-lead{stroke:#68737e}",
    ".mc .mc-interval{stroke:#eef2f6}.mc .mc-value{fill:#eef2f6}",
    ".mc .mc-c0{stroke:#5ea5f2}.mc .mc-f0{fill:#5ea5f2}.mc .mc-c1{stroke:#f29044}.mc .mc-f1{fill:#f29044}",
    ".mc .mc-c2{stroke:#3fc79b}.mc .mc-f2{fill:#3fc79b}.mc .mc-c3{stroke:#d692cf}.mc .mc-f3{fill:#d692cf}",
    ".mc .mc-c4{stroke:#a7b2bd}.mc .mc-f4{fill:#a7b2bd}.mc .mc-c5{stroke:#d9bb3f}.mc .mc-f5{fill:#d9bb3f}}",
);

/// How many colours there are; a series with a higher number begins again at the first.
pub const COLOURS: usize = 6;

/// Dashes and gaps of a line, so that lines differ without colour too.
const DASHES: [&str; 5] = ["", "7 4", "2 4", "10 4 2 4", "4 3"];

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
/// Bars name their groups and have no caption below.
const BAR_HEIGHT: f64 = 282.0;
const LEFT: f64 = 52.0;
const TOP: f64 = 60.0;
/// Where the axis to the right lies.
const FLOOR: f64 = 254.0;

/// The height of a line of text.
const LINE: f64 = 15.0;

/// The width of a character, near enough to leave room for labels.
const CHARACTER: f64 = 6.6;

/// Lines with more points than this show no dots.
const MOST_DOTS: usize = 40;

/// What the numbers of an axis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Plain numbers.
    Number,
    /// Shares in `[0, 1]`, shown as per cent on an axis from 0 to 100.
    Share,
}

/// A line of a [`LineChart`].
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What stands at its end.
    pub name: String,
    /// Its points, `x` rising. A value that is not finite is a gap in the line.
    pub points: Vec<(f64, f64)>,
    /// Which colour.
    pub colour: usize,
    /// Which dashes; 0 is a whole line.
    pub dash: usize,
}

/// Lines over a common axis.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// What is shown.
    pub title: String,
    /// What a person who cannot see it should know.
    pub description: String,
    /// What runs to the right.
    pub x: String,
    /// What runs upwards.
    pub y: String,
    /// What the values are.
    pub unit: Unit,
    /// Whether `x` counts whole things: no ticks between them.
    pub whole: bool,
    /// The lines.
    pub series: Vec<Series>,
}

/// A bar with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Its height, a share in `[0, 1]`.
    pub value: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end of its 95 % interval.
    pub high: f64,
}

/// The bars of one colour in a [`BarChart`].
#[derive(Debug, Clone, PartialEq)]
pub struct BarSeries {
    /// What the legend calls them.
    pub name: String,
    /// Which colour.
    pub colour: usize,
    /// One for each group; none where nothing was measured.
    pub bars: Vec<Option<Bar>>,
}

/// Shares side by side, with their 95 % intervals.
#[derive(Debug, Clone, PartialEq)]
pub struct BarChart {
    /// What is shown.
    pub title: String,
    /// What a person who cannot see it should know.
    pub description: String,
    /// What the bars' heights are.
    pub y: String,
    /// What stands under each group.
    pub groups: Vec<String>,
    /// One series for each bar of a group.
    pub series: Vec<BarSeries>,
    /// A level to compare with, such as chance.
    pub reference: Option<(String, f64)>,
}

/// Round numbers within `[low, high]`, at most `most` of them: multiples of 1, 2, 2.5 or 5 times a power of ten.
///
/// Empty where the range is empty or not finite.
pub fn ticks(low: f64, high: f64, most: usize) -> Vec<f64> {
    let step = step(low, high, most);
    if step <= 0.0 {
        return Vec::new();
    }
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    (first..=last).map(|count| count as f64 * step).collect()
}

/// The smallest round step that leaves at most `most` ticks; 0 where there is none.
pub(super) fn step(low: f64, high: f64, most: usize) -> f64 {
    let span = high - low;
    if !(span > 0.0 && span.is_finite()) || most == 0 {
        return 0.0;
    }
    let mut power = 10f64.powf((span / most as f64).log10().floor());
    for _ in 0..4 {
        for factor in [1.0, 2.0, 2.5, 5.0] {
            let step = factor * power;
            let count = (high / step + 1e-9).floor() - (low / step - 1e-9).ceil() + 1.0;
            if count <= most as f64 {
                return step;
            }
        }
        power *= 10.0;
    }
    0.0
}

/// A number with as many decimals as a step between numbers needs.
pub(super) fn number(value: f64, step: f64) -> String {
    let is_whole = |value: f64| (value - value.round()).abs() < 1e-6;
    let decimals = (0..=9)
        .find(|decimals| is_whole(step * 10f64.powi(*decimals)))
        .unwrap_or(9);
    let text = format!("{value:.*}", decimals as usize);
    // A typographic minus, and no minus before zero.
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().any(|c| c.is_ascii_digit() && c != '0') => format!("−{rest}"),
        Some(rest) => rest.to_string(),
        None => text,
    }
}

/// Where the plot lies on the picture, and which values it spans.
struct Frame {
    right: f64,
    x: (f64, f64),
    y: (f64, f64),
}

impl Frame {
    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x.0) / (self.x.1 - self.x.0) * (self.right - LEFT)
    }

    fn y(&self, value: f64) -> f64 {
        FLOOR - (value - self.y.0) / (self.y.1 - self.y.0) * (FLOOR - TOP)
    }

    /// Gridlines and numbers of the upward axis.
    fn draw_y(&self, svg: &mut String, unit: Unit) {
        let (factor, sign) = if unit == Unit::Share { (100.0, " %") } else { (1.0, "") };
        let step = step(self.y.0 * factor, self.y.1 * factor, 6);
        for tick in ticks(self.y.0 * factor, self.y.1 * factor, 6) {
            let y = self.y(tick / factor);
            line(svg, "mc-grid", (LEFT, y), (self.right, y));
            text(
                svg,
                (LEFT - 7.0, y + 4.0),
                "end",
                "",
                &format!("{}{sign}", number(tick, step)),
            );
        }
        line(svg, "mc-axis", (LEFT, FLOOR), (self.right, FLOOR));
    }
}

fn line(svg: &mut String, class: &str, from: (f64, f64), to: (f64, f64)) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = write!(
        svg,
        r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, class: &str, content: &str) {
    let class = if class.is_empty() {
        String::new()
    } else {
        format!(r#" class="{class}""#)
    };
    let _ = write!(
        svg,
        r#"<text{class} x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{}</text>"#,
        escape(content)
    );
}

/// How wide a text is drawn, near enough.
fn room(text: &str) -> f64 {
    text.chars().count() as f64 * CHARACTER
}

/// The whole picture round `body`. `alone`: as a file of its own, which brings its style.
fn document(alone: bool, height: f64, [title, description, y]: [&str; 3], body: &str) -> String {
    let (space, style) = if alone {
        (
            r#" xmlns="http://www.w3.org/2000/svg""#,
            format!("<style>{STYLE}</style>"),
        )
    } else {
        ("", String::new())
    };
    let mut svg = format!(
        r#"<svg{space} class="mc" role="img" viewBox="0 0 {WIDTH} {height}"><title>{}</title><desc>{}</desc>{style}"#,
        escape(title),
        escape(description)
    );
    text(&mut svg, (LEFT - 44.0, 18.0), "start", "mc-head", title);
    text(&mut svg, (LEFT - 44.0, 38.0), "start", "", y);
    svg + body + "</svg>"
}

/// Moves labels apart, so that each has a line of this height to itself between `top` and `floor`; their order stays.
pub(super) fn spread(wanted: &[f64], top: f64, floor: f64, line: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut placed = wanted.to_vec();
    let mut least = top;
    for &i in &order {
        placed[i] = placed[i].max(least);
        least = placed[i] + line;
    }
    let mut most = floor;
    for &i in order.iter().rev() {
        placed[i] = placed[i].min(most);
        most = placed[i] - line;
    }
    placed
}

impl LineChart {
    /// The chart as an SVG file.
    pub fn to_svg(&self) -> String {
        self.draw(true)
    }

    /// The chart for a page that holds [`STYLE`].
    pub fn to_inline_svg(&self) -> String {
        self.draw(false)
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series
            .iter()
            .flat_map(|series| &series.points)
            .copied()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
    }

    fn frame(&self) -> Option<Frame> {
        let (first, _) = self.points().next()?;
        let (mut x, mut y) = ((first, first), (f64::MAX, f64::MIN));
        for (px, py) in self.points() {
            x = (x.0.min(px), x.1.max(px));
            y = (y.0.min(py), y.1.max(py));
        }
        if x.0 == x.1 {
            x = (x.0 - 0.5, x.1 + 0.5);
        }
        let y = match self.unit {
            Unit::Share => (0.0, 1.0),
            Unit::Number => {
                // From 0 where that costs little, because a cut axis exaggerates.
                let low = if y.0 >= 0.0 && y.0 < 0.75 * y.1 { 0.0 } else { y.0 };
                let high = if y.1 > low { y.1 } else { low + 1.0 };
                let step = step(low, high, 6);
                ((low / step).floor() * step, (high / step - 1e-9).ceil() * step)
            }
        };
        let longest = self.series.iter().map(|series| room(&series.name)).fold(0.0, f64::max);
        Some(Frame {
            right: WIDTH - (longest + 20.0).clamp(24.0, WIDTH / 2.5),
            x,
            y,
        })
    }

    fn draw(&self, alone: bool) -> String {
        let mut svg = String::new();
        match self.frame() {
            Some(frame) => self.draw_in(&frame, &mut svg),
            None => text(
                &mut svg,
                (WIDTH / 2.0, HEIGHT / 2.0),
                "middle",
                "",
                "Nothing was measured yet",
            ),
        }
        document(alone, HEIGHT, [&self.title, &self.description, &self.y], &svg)
    }

    fn draw_in(&self, frame: &Frame, svg: &mut String) {
        frame.draw_y(svg, self.unit);
        let most = 8;
        let x_step = step(frame.x.0, frame.x.1, most);
        let x_step = if self.whole { x_step.max(1.0) } else { x_step };
        for tick in ticks(frame.x.0, frame.x.1, most) {
            if self.whole && tick.fract().abs() > 1e-6 {
                continue;
            }
            let x = frame.x(tick);
            line(svg, "mc-axis", (x, FLOOR), (x, FLOOR + 4.0));
            text(svg, (x, FLOOR + 18.0), "middle", "", &number(tick, x_step));
        }
        text(svg, ((LEFT + frame.right) / 2.0, HEIGHT - 8.0), "middle", "", &self.x);
        let mut ends = Vec::new();
        for series in &self.series {
            draw_series(svg, frame, series, self.unit, &self.x);
            if let Some((x, y)) = series.points.iter().rev().find(|(x, y)| x.is_finite() && y.is_finite()) {
                ends.push((series, frame.x(*x), frame.y(*y)));
            }
        }
        let wanted: Vec<f64> = ends.iter().map(|(_, _, y)| *y).collect();
        for ((series, x, y), placed) in ends.iter().zip(spread(&wanted, TOP + 6.0, FLOOR - 4.0, LINE)) {
            let left = frame.right + 12.0;
            let _ = write!(
                svg,
                r#"<path class="mc-lead" d="M{:.1} {y:.1}L{:.1} {placed:.1}"/>"#,
                x + 4.0,
                left - 3.0
            );
            let colour = format!("mc-f{}", series.colour % COLOURS);
            text(svg, (left, placed + 4.0), "start", &colour, &series.name);
        }
    }
}

fn draw_series(svg: &mut String, frame: &Frame, series: &Series, unit: Unit, x_name: &str) {
    let mut path = String::new();
    let mut open = false;
    for (x, y) in &series.points {
        if !(x.is_finite() && y.is_finite()) {
            open = false;
            continue;
        }
        let _ = write!(
            path,
            "{}{:.1} {:.1}",
            if open { 'L' } else { 'M' },
            frame.x(*x),
            frame.y(*y)
        );
        open = true;
    }
    let colour = series.colour % COLOURS;
    let dash = DASHES[series.dash % DASHES.len()];
    let dash = if dash.is_empty() {
        String::new()
    } else {
        format!(r#" stroke-dasharray="{dash}""#)
    };
    let _ = write!(svg, r#"<path class="mc-line mc-c{colour}"{dash} d="{path}"/>"#);
    if series.points.len() > MOST_DOTS {
        return;
    }
    for (x, y) in series.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite()) {
        let value = match unit {
            Unit::Share => percent(*y),
            Unit::Number => format!("{y:.4}"),
        };
        let _ = write!(
            svg,
            r#"<circle class="mc-f{colour}" cx="{:.1}" cy="{:.1}" r="3.2"><title>{}</title></circle>"#,
            frame.x(*x),
            frame.y(*y),
            escape(&format!("{}, {} {x}: {value}", series.name, x_name.to_lowercase()))
        );
    }
}

impl BarChart {
    /// The chart as an SVG file.
    pub fn to_svg(&self) -> String {
        self.draw(true)
    }

    /// The chart for a page that holds [`STYLE`].
    pub fn to_inline_svg(&self) -> String {
        self.draw(false)
    }

    fn draw(&self, alone: bool) -> String {
        let mut svg = String::new();
        let margin = self.reference.as_ref().map_or(0.0, |(name, _)| room(name) + 4.0);
        let frame = Frame {
            right: WIDTH - 12.0 - margin,
            x: (0.0, 1.0),
            y: (0.0, 1.0),
        };
        frame.draw_y(&mut svg, Unit::Share);
        self.legend(&mut svg);
        let group_width = (frame.right - LEFT) / self.groups.len().max(1) as f64;
        let bar_width = (group_width * 0.8 / self.series.len().max(1) as f64).min(52.0);
        for (position, group) in self.groups.iter().enumerate() {
            let centre = LEFT + (position as f64 + 0.5) * group_width;
            text(&mut svg, (centre, FLOOR + 18.0), "middle", "", group);
            let left = centre - bar_width * self.series.len() as f64 / 2.0;
            for (place, series) in self.series.iter().enumerate() {
                let x = left + place as f64 * bar_width;
                match series.bars.get(position).copied().flatten() {
                    Some(bar) if bar.value.is_finite() => {
                        draw_bar(&mut svg, &frame, (x, bar_width), &bar, series, group);
                    }
                    _ => text(&mut svg, (x + bar_width / 2.0, FLOOR - 5.0), "middle", "", "–"),
                }
            }
        }
        if let Some((name, level)) = &self.reference {
            let y = frame.y(*level);
            line(&mut svg, "mc-reference", (LEFT, y), (frame.right, y));
            text(&mut svg, (frame.right + 5.0, y + 4.0), "start", "", name);
        }
        document(alone, BAR_HEIGHT, [&self.title, &self.description, &self.y], &svg)
    }

    /// From the right: a square of colour and a name for each series.
    fn legend(&self, svg: &mut String) {
        let mut x = WIDTH - 12.0;
        for series in self.series.iter().rev() {
            x -= room(&series.name);
            text(svg, (x, 38.0), "start", "", &series.name);
            let _ = write!(
                svg,
                r#"<rect class="mc-f{}" x="{:.1}" y="28" width="12" height="12" rx="2"/>"#,
                series.colour % COLOURS,
                x - 17.0
            );
            x -= 34.0;
        }
    }
}

fn draw_bar(svg: &mut String, frame: &Frame, (x, width): (f64, f64), bar: &Bar, series: &BarSeries, group: &str) {
    let top = frame.y(bar.value);
    let _ = write!(
        svg,
        r#"<g><title>{}</title><rect class="mc-f{}" x="{:.1}" y="{top:.1}" width="{:.1}" height="{:.1}"/>"#,
        escape(&format!(
            "{}, {group}: {:.1} % (95 % interval {:.1} to {:.1} %)",
            series.name,
            100.0 * bar.value,
            100.0 * bar.low,
            100.0 * bar.high
        )),
        series.colour % COLOURS,
        x + 1.5,
        (width - 3.0).max(1.0),
        (FLOOR - top).max(0.0)
    );
    let (middle, low, high) = (x + width / 2.0, frame.y(bar.low), frame.y(bar.high));
    let cap = (width / 6.0).min(5.0);
    let _ = write!(
        svg,
        r#"<path class="mc-interval" d="M{middle:.1} {low:.1}V{high:.1}M{a:.1} {low:.1}H{b:.1}M{a:.1} {high:.1}H{b:.1}"/>"#,
        a = middle - cap,
        b = middle + cap
    );
    text(
        svg,
        (middle, high - 5.0),
        "middle",
        "mc-value",
        &format!("{:.1}", 100.0 * bar.value),
    );
    svg.push_str("</g>");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(0.0, 100.0, 6), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(1.0, 4.0, 8), [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]);
        assert_eq!(ticks(-1.0, 1.0, 5), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert_eq!(ticks(0.0, 200.0, 5), [0.0, 50.0, 100.0, 150.0, 200.0]);
        for (low, high) in [(0.0, 1e-7), (2.3, 2.303), (-5e8, 3e9), (0.07, 0.93)] {
            let found = ticks(low, high, 6);
            assert!((2..=6).contains(&found.len()), "{low} to {high}: {found:?}");
            assert!(
                found
                    .iter()
                    .all(|tick| (low - 1e-9 * high.abs()..=high * (1.0 + 1e-9)).contains(tick)),
                "{found:?}"
            );
        }
        assert!(ticks(1.0, 1.0, 6).is_empty());
        assert!(ticks(0.0, f64::NAN, 6).is_empty());
        assert!(ticks(0.0, f64::INFINITY, 6).is_empty());
    }

    #[test]
    fn numbers_have_the_decimals_of_their_step() {
        assert_eq!(number(1.5, 0.5), "1.5");
        assert_eq!(number(2.0, 0.5), "2.0");
        assert_eq!(number(0.075, 0.025), "0.075");
        assert_eq!(number(-20.0, 10.0), "−20");
        assert_eq!(number(-0.0, 0.1), "0.0");
        assert_eq!(number(0.3, 0.1), "0.3");
    }

    #[test]
    fn labels_keep_their_distance_and_stay_inside() {
        let placed = spread(&[100.0, 101.0, 99.0, 250.0], 50.0, 260.0, LINE);
        let mut sorted = placed.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(
            sorted.windows(2).all(|pair| pair[1] - pair[0] >= LINE - 1e-9),
            "{placed:?}"
        );
        assert!(placed[2] < placed[0] && placed[0] < placed[1]);
        assert!(sorted[0] >= 50.0 && sorted[3] <= 260.0);
    }
}
