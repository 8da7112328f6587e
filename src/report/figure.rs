//! Figures for slides and papers: plots and pictures with a title and a caption, as one SVG text.
//!
//! The colours, strokes and markers are given, so that a figure looks as what a person saw when they asked for it.

use std::fmt::Write;

use image::RgbImage;

use super::{
    chart::{Unit, number, spread, step, ticks},
    escape, pictures,
};

/// A colour: red, green, blue.
pub type Colour = [u8; 3];

/// The colours of a ground and of what is written on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// What everything lies on.
    pub ground: Colour,
    /// Titles.
    pub text: Colour,
    /// Captions and the numbers of axes.
    pub weak: Colour,
    /// Grids and axes.
    pub line: Colour,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Stroke {
    /// Without gaps.
    #[default]
    Solid,
    /// Strokes of this length.
    Dashed(f32),
    /// Dots at this distance.
    Dotted(f32),
}

/// How a point is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Marker {
    /// ●
    Circle,
    /// ■
    Square,
    /// ◆
    Diamond,
    /// ▲
    Up,
    /// ×
    Cross,
    /// +
    Plus,
    /// *
    Asterisk,
}

/// A line of a [`Plot`].
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What stands at its end; nothing where another line has its name.
    pub name: Option<String>,
    /// Its points, x rising.
    pub points: Vec<[f64; 2]>,
    /// Its colour.
    pub colour: Colour,
    /// How much of what lies under it it hides, in `[0, 1]`.
    pub opacity: f32,
    /// Its width.
    pub width: f32,
    /// How it is drawn.
    pub stroke: Stroke,
    /// What stands at each point.
    pub marker: Option<Marker>,
    /// x, low, high of an interval round it, drawn as a band.
    pub band: Vec<[f64; 3]>,
}

/// Lines over common axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What runs upwards.
    pub y: String,
    /// What runs to the right.
    pub x: String,
    /// What the values are.
    pub unit: Unit,
    /// Which axes are logarithmic: x, y.
    pub logarithmic: [bool; 2],
    /// Its height.
    pub height: f64,
    /// The lines, the lowest first.
    pub lines: Vec<Line>,
    /// Moments worth a vertical line, and what it says.
    pub marks: Vec<(f64, String)>,
}

/// A picture with its title, and what is said below it.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// What stands over it.
    pub title: String,
    /// Its pixels; each is seen as a square.
    pub pixels: RgbImage,
    /// Lines of text below it.
    pub below: Vec<String>,
}

/// A part of a figure; the parts stand under each other.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A plot.
    Plot(Plot),
    /// Pictures side by side.
    Pictures(Vec<Picture>),
}

/// A figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What is shown.
    pub title: String,
    /// The parts.
    pub parts: Vec<Part>,
    /// What a reader must know of it: model, data, ε, N, each a sentence.
    pub caption: Vec<String>,
    /// The colours.
    pub look: Look,
}

/// The width of every figure, in units of SVG.
pub const WIDTH: f64 = 960.0;
const MARGIN: f64 = 28.0;
/// Sizes of type.
const TITLE: f64 = 21.0;
const LABEL: f64 = 14.0;
const TICK: f64 = 13.0;
/// Where the axis upwards stands.
const LEFT: f64 = 78.0;
/// The side of the largest picture.
const PICTURE: f64 = 270.0;
/// Pixels are shown as so many at least, so that no viewer smooths them away.
const ENLARGED: u32 = 256;
/// How thick the lines of a grid are; axes are thicker.
const GRID: f64 = 0.6;
/// A line of more points shows no markers.
const MOST_MARKERS: usize = 80;

/// The width of a text, near enough to leave room for it.
fn room(text: &str, size: f64) -> f64 {
    0.56 * size * text.chars().count() as f64
}

fn hex([red, green, blue]: Colour) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// A text in lines of a width, broken between words.
fn wrapped(text: &str, size: f64, width: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            *line = word.to_string();
        } else if room(line, size) + room(word, size) + 0.56 * size > width {
            lines.push(word.to_string());
        } else {
            *line += " ";
            *line += word;
        }
    }
    lines
}

/// An SVG text that grows.
struct Sheet {
    body: String,
    look: Look,
}

impl Sheet {
    fn text(&mut self, (x, y): (f64, f64), anchor: &str, size: f64, colour: Colour, content: &str) {
        let weight = if size >= TITLE { r#" font-weight="600""# } else { "" };
        let _ = write!(
            self.body,
            r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" font-size="{size:.1}"{weight} fill="{}">{}</text>"#,
            hex(colour),
            escape(content)
        );
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), width: f64, dashes: &str) {
        let dashes = match dashes {
            "" => String::new(),
            dashes => format!(r#" stroke-dasharray="{dashes}""#),
        };
        let _ = write!(
            self.body,
            r#"<path d="M{:.1} {:.1}L{:.1} {:.1}" stroke="{}" stroke-width="{width}"{dashes}/>"#,
            from.0,
            from.1,
            to.0,
            to.1,
            hex(self.look.line)
        );
    }
}

/// What plots under each other share where the same runs to the right in them: where it begins and ends, and the edge of the plots.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Across {
    low: f64,
    high: f64,
    right: f64,
}

impl Across {
    fn with(self, other: Self) -> Self {
        Self {
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            right: self.right.min(other.right),
        }
    }
}

/// Where a plot lies, and which values it spans; a logarithmic axis is one of powers of ten.
struct Frame {
    right: f64,
    top: f64,
    floor: f64,
    low: [f64; 2],
    high: [f64; 2],
}

impl Frame {
    fn at(&self, [x, y]: [f64; 2]) -> (f64, f64) {
        let share = |axis: usize, value: f64| (value - self.low[axis]) / (self.high[axis] - self.low[axis]);
        (
            LEFT + share(0, x) * (self.right - LEFT),
            self.floor - share(1, y) * (self.floor - self.top),
        )
    }
}

/// The marks of an axis: where they stand on it, and what they say.
fn marks(low: f64, high: f64, most: usize, logarithmic: bool, unit: Unit) -> Vec<(f64, String)> {
    if logarithmic {
        let factors: &[f64] = if high - low > 5.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let decades = (low.floor().max(-30.0) as i32)..=(high.ceil().min(30.0) as i32);
        let all = decades.flat_map(|decade| {
            factors.iter().map(move |factor| {
                let text = format!("{:.*}", (-decade).max(0) as usize, factor * 10f64.powi(decade));
                (f64::from(decade) + factor.log10(), text)
            })
        });
        return all.filter(|(place, _)| (low..=high).contains(place)).collect();
    }
    let (factor, sign) = match unit {
        Unit::Share => (100.0, " %"),
        Unit::Number => (1.0, ""),
    };
    let (low, high) = (low * factor, high * factor);
    let step = step(low, high, most);
    let ticks = ticks(low, high, most).into_iter();
    ticks
        .map(|tick| (tick / factor, format!("{}{sign}", number(tick, step))))
        .collect()
}

impl Plot {
    /// The points of a line as they lie on the axes.
    fn placed<'a>(&self, points: &'a [[f64; 2]]) -> impl Iterator<Item = [f64; 2]> + 'a {
        let logarithmic = self.logarithmic;
        points.iter().filter_map(move |point| {
            let mut placed = *point;
            for axis in 0..2 {
                if logarithmic[axis] {
                    placed[axis] = placed[axis].log10();
                }
            }
            placed.iter().all(|value| value.is_finite()).then_some(placed)
        })
    }

    /// What it spans to the right, and what its lines' names take; none without a point.
    fn across(&self) -> Option<Across> {
        let points = self.lines.iter().flat_map(|line| self.placed(&line.points));
        let (low, high) = points.fold((f64::MAX, f64::MIN), |(low, high), [x, _]| (low.min(x), high.max(x)));
        let names = self.lines.iter().filter_map(|line| line.name.as_deref());
        let longest = names.map(|name| room(name, LABEL)).fold(0.0, f64::max);
        (low <= high).then(|| Across {
            low: if self.logarithmic[0] { low } else { low.min(0.0) },
            high,
            right: WIDTH - MARGIN - (longest + 24.0).clamp(24.0, 0.36 * WIDTH),
        })
    }

    fn frame(&self, top: f64, across: Across) -> Option<Frame> {
        let (mut low, mut high) = ([across.low, f64::MAX], [across.high, f64::MIN]);
        for [_, y] in self.lines.iter().flat_map(|line| self.placed(&line.points)) {
            low[1] = low[1].min(y);
            high[1] = high[1].max(y);
        }
        if low[1] > high[1] {
            return None;
        }
        match (self.unit, self.logarithmic[1]) {
            (Unit::Share, false) => (low[1], high[1]) = (0.0, 1.0),
            (Unit::Number, false) => {
                // From 0 where that costs little, because a cut axis exaggerates.
                if low[1] >= 0.0 && low[1] < 0.75 * high[1] {
                    low[1] = 0.0;
                }
                let step = step(low[1], high[1].max(low[1] + 1e-9), 6);
                if step > 0.0 {
                    (low[1], high[1]) = ((low[1] / step).floor() * step, (high[1] / step - 1e-9).ceil() * step);
                }
            }
            (_, true) => {}
        }
        for axis in 0..2 {
            if high[axis] <= low[axis] {
                high[axis] = low[axis] + 1.0;
            }
        }
        Some(Frame {
            right: across.right,
            top,
            floor: top + self.height,
            low,
            high,
        })
    }

    /// Draws it below `top` over this much to the right; gives where it ends.
    fn draw(&self, sheet: &mut Sheet, top: f64, across: Option<Across>) -> f64 {
        let look = sheet.look;
        if !self.y.is_empty() {
            sheet.text((MARGIN, top + LABEL), "start", LABEL, look.text, &self.y);
        }
        let top = top + LABEL + 16.0;
        let end = top + self.height + 46.0;
        let Some(frame) = across.and_then(|across| self.frame(top, across)) else {
            let middle = (WIDTH / 2.0, top + self.height / 2.0);
            sheet.text(middle, "middle", LABEL, look.weak, "Nothing was measured yet");
            return end;
        };
        for (place, text) in marks(frame.low[1], frame.high[1], 6, self.logarithmic[1], self.unit) {
            let (_, y) = frame.at([frame.low[0], place]);
            sheet.line((LEFT, y), (frame.right, y), GRID, "");
            sheet.text((LEFT - 9.0, y + 4.5), "end", TICK, look.weak, &text);
        }
        for (place, text) in marks(frame.low[0], frame.high[0], 9, self.logarithmic[0], Unit::Number) {
            let (x, _) = frame.at([place, frame.low[1]]);
            sheet.line((x, frame.floor), (x, frame.floor + 5.0), 1.0, "");
            sheet.text((x, frame.floor + 20.0), "middle", TICK, look.weak, &text);
        }
        sheet.line((LEFT, frame.floor), (frame.right, frame.floor), 1.5, "");
        let middle = (LEFT + frame.right) / 2.0;
        sheet.text((middle, frame.floor + 40.0), "middle", TICK, look.weak, &self.x);
        self.draw_marks(sheet, &frame);
        for line in &self.lines {
            self.draw_line(sheet, &frame, line);
        }
        self.draw_names(sheet, &frame);
        end
    }

    fn draw_marks(&self, sheet: &mut Sheet, frame: &Frame) {
        for (at, text) in &self.marks {
            let at = if self.logarithmic[0] { at.log10() } else { *at };
            if !(frame.low[0]..=frame.high[0]).contains(&at) {
                continue;
            }
            let (x, _) = frame.at([at, frame.low[1]]);
            sheet.line((x, frame.top), (x, frame.floor), 1.5, "2 4");
            let weak = sheet.look.weak;
            sheet.text((x, frame.top - 5.0), "middle", TICK - 1.0, weak, text);
        }
    }

    fn draw_line(&self, sheet: &mut Sheet, frame: &Frame, line: &Line) {
        let colour = hex(line.colour);
        let path = |points: &[(f64, f64)]| {
            let mut path = String::new();
            for (place, (x, y)) in points.iter().enumerate() {
                let _ = write!(path, "{}{x:.1} {y:.1}", if place == 0 { 'M' } else { 'L' });
            }
            path
        };
        if line.band.len() > 1 {
            let edge = |side: usize| line.band.iter().map(move |band| [band[0], band[side]]);
            let round: Vec<[f64; 2]> = edge(1).chain(edge(2).collect::<Vec<_>>().into_iter().rev()).collect();
            let round: Vec<(f64, f64)> = self.placed(&round).map(|point| frame.at(point)).collect();
            let _ = write!(
                sheet.body,
                r#"<path d="{}Z" fill="{colour}" fill-opacity="0.15"/>"#,
                path(&round)
            );
        }
        let points: Vec<(f64, f64)> = self.placed(&line.points).map(|point| frame.at(point)).collect();
        let dashes = match line.stroke {
            Stroke::Solid => String::new(),
            Stroke::Dashed(length) => format!(r#" stroke-dasharray="{length} {length}""#),
            Stroke::Dotted(distance) => format!(r#" stroke-dasharray="0.1 {distance}""#),
        };
        let _ = write!(
            sheet.body,
            r#"<path d="{}" fill="none" stroke="{colour}" stroke-width="{}" stroke-opacity="{}" stroke-linejoin="round" stroke-linecap="round"{dashes}/>"#,
            path(&points),
            line.width,
            line.opacity
        );
        let Some(marker) = line.marker.filter(|_| points.len() <= MOST_MARKERS) else {
            return;
        };
        for at in points {
            sheet.body += &marker.draw(at, &colour);
        }
    }

    /// The lines' names at their ends, moved apart.
    fn draw_names(&self, sheet: &mut Sheet, frame: &Frame) {
        let ends: Vec<(&str, Colour, (f64, f64))> = self
            .lines
            .iter()
            .filter_map(|line| {
                let end = self.placed(&line.points).last()?;
                Some((line.name.as_deref()?, line.colour, frame.at(end)))
            })
            .collect();
        let most = ((self.height + 24.0) / ends.len().max(1) as f64).min(LABEL + 3.0);
        let size = (most - 3.0).clamp(7.0, LABEL);
        let wanted: Vec<f64> = ends.iter().map(|(_, _, (_, y))| *y).collect();
        let placed = spread(&wanted, frame.top - 4.0, frame.floor + 20.0, most);
        for ((name, colour, (x, y)), place) in ends.into_iter().zip(placed) {
            let left = frame.right + 16.0;
            sheet.line((x + 5.0, y), (left - 4.0, place), 0.75, "");
            sheet.text((left, place + 0.35 * size), "start", size, colour, name);
        }
    }
}

impl Marker {
    fn draw(self, (x, y): (f64, f64), colour: &str) -> String {
        /// Half the side of what a circle of this radius looks as large as.
        const RADIUS: f64 = 4.4;
        let corners = |corners: &[(f64, f64)]| {
            let corners = corners
                .iter()
                .map(|(dx, dy)| format!("{:.1} {:.1}", x + dx * RADIUS, y + dy * RADIUS));
            let corners: Vec<String> = corners.collect();
            format!(r#"<path d="M{}Z" fill="{colour}"/>"#, corners.join("L"))
        };
        let strokes = |strokes: &[(f64, f64)]| {
            let stroke = |(dx, dy): &(f64, f64)| {
                let (dx, dy) = (dx * RADIUS, dy * RADIUS);
                format!("M{:.1} {:.1}L{:.1} {:.1}", x - dx, y - dy, x + dx, y + dy)
            };
            let path: String = strokes.iter().map(stroke).collect();
            format!(r#"<path d="{path}" stroke="{colour}" stroke-width="1.8" stroke-linecap="round"/>"#)
        };
        match self {
            Marker::Circle => format!(r#"<circle cx="{x:.1}" cy="{y:.1}" r="{RADIUS}" fill="{colour}"/>"#),
            Marker::Square => corners(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            Marker::Diamond => corners(&[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)]),
            Marker::Up => corners(&[(0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)]),
            Marker::Cross => strokes(&[(0.85, 0.85), (0.85, -0.85)]),
            Marker::Plus => strokes(&[(1.1, 0.0), (0.0, 1.1)]),
            Marker::Asterisk => strokes(&[(1.1, 0.0), (0.55, 0.95), (0.55, -0.95)]),
        }
    }
}

/// Draws pictures side by side below `top`; gives where they end.
fn draw_pictures(sheet: &mut Sheet, top: f64, row: &[Picture]) -> f64 {
    const GAP: f64 = 24.0;
    let count = row.len().max(1) as f64;
    let width = ((WIDTH - 2.0 * MARGIN - (count - 1.0) * GAP) / count).min(PICTURE);
    let look = sheet.look;
    let mut end = top;
    for (place, picture) in row.iter().enumerate() {
        let left = MARGIN + place as f64 * (width + GAP);
        sheet.text((left, top + LABEL), "start", LABEL, look.text, &picture.title);
        let (columns, rows) = picture.pixels.dimensions();
        let height = width * f64::from(rows) / f64::from(columns.max(1));
        let y = top + LABEL + 10.0;
        if let Ok(png) = pictures::png(&pictures::magnified(&picture.pixels, ENLARGED.div_ceil(columns.max(1)))) {
            let _ = write!(
                sheet.body,
                r#"<image x="{left:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}" preserveAspectRatio="none" href="{}"/>"#,
                pictures::data_uri(&png)
            );
        }
        let mut below = y + height + 8.0;
        for line in &picture.below {
            below += LABEL + 4.0;
            sheet.text((left, below), "start", LABEL, look.text, line);
        }
        end = end.max(below + 14.0);
    }
    end
}

impl Figure {
    /// What a plot spans to the right together with the others of its kind.
    fn across(&self, plot: &Plot) -> Option<Across> {
        let same = self.parts.iter().filter_map(|part| match part {
            Part::Plot(other) if other.x == plot.x && other.logarithmic[0] == plot.logarithmic[0] => other.across(),
            _ => None,
        });
        same.reduce(Across::with)
    }

    /// The figure as an SVG file.
    pub fn svg(&self) -> String {
        let mut sheet = Sheet {
            body: String::new(),
            look: self.look,
        };
        sheet.text((MARGIN, MARGIN + TITLE), "start", TITLE, self.look.text, &self.title);
        let mut end = MARGIN + TITLE + 18.0;
        for part in &self.parts {
            end = match part {
                Part::Plot(plot) => plot.draw(&mut sheet, end, self.across(plot)),
                Part::Pictures(row) => draw_pictures(&mut sheet, end, row),
            } + 10.0;
        }
        let lines = self
            .caption
            .iter()
            .flat_map(|sentence| wrapped(sentence, TICK, WIDTH - 2.0 * MARGIN));
        for line in lines {
            end += TICK + 5.0;
            sheet.text((MARGIN, end), "start", TICK, self.look.weak, &line);
        }
        let height = end + MARGIN;
        format!(
            concat!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0}" viewBox="0 0 {width} {height:.0}" "#,
                r#"font-family="Inter, 'Helvetica Neue', Arial, sans-serif"><title>{title}</title><desc>{about}</desc>"#,
                r#"<rect width="{width}" height="{height:.0}" fill="{ground}"/>{body}</svg>"#
            ),
            width = WIDTH,
            height = height,
            title = escape(&self.title),
            about = escape(&self.caption.join(" ")),
            ground = hex(self.look.ground),
            body = sheet.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Look = Look {
        ground: [255, 255, 255],
        text: [0, 0, 0],
        weak: [90, 90, 90],
        line: [200, 200, 200],
    };

    fn line(name: &str, points: &[[f64; 2]]) -> Line {
        Line {
            name: Some(name.to_string()),
            points: points.to_vec(),
            colour: [0, 114, 178],
            opacity: 1.0,
            width: 2.0,
            stroke: Stroke::Dashed(7.0),
            marker: Some(Marker::Square),
            band: Vec::new(),
        }
    }

    fn plot(logarithmic: [bool; 2], lines: Vec<Line>) -> Plot {
        Plot {
            y: "accuracy".to_string(),
            x: "epochs".to_string(),
            unit: Unit::Share,
            logarithmic,
            height: 200.0,
            lines,
            marks: vec![(2.0, "best".to_string())],
        }
    }

    #[test]
    fn a_figure_says_what_it_shows_and_keeps_colours_and_strokes() {
        let figure = Figure {
            title: "Accuracy & loss".to_string(),
            parts: vec![
                Part::Plot(plot([false, false], vec![line("pgd <20>", &[[1.0, 0.5], [2.0, 0.75]])])),
                Part::Pictures(vec![Picture {
                    title: "Natural".to_string(),
                    pixels: RgbImage::new(4, 4),
                    below: vec!["6, 99 %".to_string()],
                }]),
            ],
            caption: vec!["MART, ε = 0.1, N = 200.".to_string()],
            look: LOOK,
        };
        let svg = figure.svg();
        for part in [
            "Accuracy &amp; loss",
            "pgd &lt;20&gt;",
            "#0072b2",
            r#"stroke-dasharray="7 7""#,
            "100 %",
            "best",
            "data:image/png;base64,",
            "6, 99 %",
            "MART, ε = 0.1, N = 200.",
        ] {
            assert!(svg.contains(part), "{part} is missing");
        }
        assert_eq!(svg.matches("fill=\"#0072b2\"").count(), 3, "two markers and the name");
    }

    #[test]
    fn axes_hold_every_point_and_a_logarithmic_one_leaves_out_what_it_cannot_show() {
        let lines = || vec![line("a", &[[0.0, 0.0], [1.0, 0.1], [100.0, 1.0]])];
        let shown = plot([true, false], lines());
        let frame = shown.frame(0.0, shown.across().unwrap()).unwrap();
        assert_eq!((frame.low, frame.high), ([0.0, 0.0], [2.0, 1.0]));
        let (x, y) = frame.at([2.0, 1.0]);
        assert!((x - frame.right).abs() < 1e-9 && (y - frame.top).abs() < 1e-9);
        let texts: Vec<String> = marks(0.0, 2.0, 9, true, Unit::Number)
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert_eq!(texts, ["1", "2", "5", "10", "20", "50", "100"]);
        assert!(plot([false, false], Vec::new()).across().is_none());
    }

    #[test]
    fn plots_of_the_same_to_the_right_share_where_it_ends() {
        let of = |x: &str, lines| Plot {
            x: x.to_string(),
            ..plot([false, false], lines)
        };
        let short = of("epochs", vec![line("a", &[[1.0, 0.5], [2.0, 0.75]])]);
        let long = of(
            "epochs",
            vec![line("a name that is longer", &[[1.0, 0.5], [9.0, 0.75]])],
        );
        let other = of("radius", vec![line("b", &[[0.0, 0.5], [0.3, 0.75]])]);
        let figure = Figure {
            title: String::new(),
            parts: [&short, &long, &other].map(|plot| Part::Plot(plot.clone())).to_vec(),
            caption: Vec::new(),
            look: LOOK,
        };
        assert_eq!(figure.across(&short), figure.across(&long));
        assert_eq!(figure.across(&short).unwrap().high, 9.0);
        assert_eq!(figure.across(&short).unwrap().right, long.across().unwrap().right);
        assert_eq!(figure.across(&other), other.across());
    }

    #[test]
    fn long_captions_are_broken_between_words() {
        let lines = wrapped("one two three four", 10.0, 50.0);
        assert_eq!(lines, ["one two", "three", "four"]);
    }
}
