//! The duel as a picture of its own, drawn pixel by pixel: what is shared does not depend on a window's size.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use egui::Color32;
use image::{Rgb, RgbImage};

use super::{Grid, Verdict, answer, truth, verdict};
use crate::{
    app::{
        lab::{Specimen, Trace},
        theme::{self, palette},
    },
    report::pictures,
    wording::percent,
};

/// One side of the picture.
pub struct Side<'a> {
    /// What the network is called.
    pub name: String,
    /// The defence's name in recipes, for its colour.
    pub defence: &'static str,
    /// What the attack found at this radius.
    pub trace: &'a Trace,
    /// Where it falls, by the place on the grid.
    pub falls: Option<usize>,
}

/// Everything that the picture shows.
pub struct Scene<'a> {
    /// Both sides, the left one first.
    pub sides: [Side<'a>; 2],
    /// The picture under attack.
    pub specimen: &'a Specimen,
    /// The radii.
    pub grid: &'a Grid,
    /// The radius, by its place.
    pub place: usize,
    /// The attack in words.
    pub attack: String,
    /// Whether on a dark ground.
    pub dark: bool,
}

const WIDTH: f32 = 1280.0;
const HEIGHT: f32 = 720.0;
const PICTURE: f32 = 400.0;
const MARGIN: f32 = 48.0;

/// The scene, `scale` times 1,280×720 pixels.
pub fn poster(scene: &Scene, scale: f32) -> RgbImage {
    let tokens = palette(scene.dark);
    let mut paper = Paper::new(scale, tokens.ground);
    let epsilon = scene.grid.epsilon(scene.place);
    let title = format!("One picture, two networks, ε = {epsilon}");
    paper.text([MARGIN, 62.0], 34.0, Weight::Bold, tokens.text, &title, 0.0);
    let top = 128.0;
    for (number, side) in scene.sides.iter().enumerate() {
        let is_left = number == 0;
        let colour = theme::defence(side.defence, scene.dark);
        let left = if is_left {
            WIDTH / 2.0 - 12.0 - PICTURE
        } else {
            WIDTH / 2.0 + 12.0
        };
        let anchor = if is_left { 1.0 } else { 0.0 };
        let edge = if is_left { left + PICTURE } else { left };
        paper.text([edge, top - 12.0], 24.0, Weight::Bold, colour, &side.name, anchor);
        let last = side.trace.images.len() - 1;
        let how = verdict(side.trace, scene.specimen, Some(last));
        let verdict_colour = match how {
            Verdict::Holds => tokens.holds,
            Verdict::Fooled => tokens.fooled,
            Verdict::Wrong => tokens.wrong,
        };
        paper.fill(
            [left - 5.0, top - 5.0],
            [PICTURE + 10.0, PICTURE + 10.0],
            verdict_colour,
        );
        paper.picture([left, top], PICTURE, &side.trace.images[last], scene.specimen);
        // What is said stands outside, away from the other side.
        let (text, anchor) = if is_left {
            (left - 24.0, 1.0)
        } else {
            (left + PICTURE + 24.0, 0.0)
        };
        let now = &side.trace.after[last];
        let said = answer(now);
        let class = |class: usize| scene.specimen.classes.get(class).map_or("?", String::as_str);
        let large = (120.0 / class(said).chars().count().max(1) as f32 * 1.4).clamp(24.0, 96.0);
        paper.text(
            [text, top + 78.0],
            large,
            Weight::Bold,
            tokens.text,
            class(said),
            anchor,
        );
        paper.text(
            [text, top + 118.0],
            28.0,
            Weight::Bold,
            verdict_colour,
            how.word(),
            anchor,
        );
        let truth = truth(side.trace, scene.specimen);
        let mut order: Vec<usize> = (0..now.len()).collect();
        order.sort_by(|a, b| now[*b].total_cmp(&now[*a]));
        for (row, shown) in order.into_iter().take(4).enumerate() {
            let mark = if shown == truth { " (true)" } else { "" };
            let line = format!("{}{mark}  {}", class(shown), percent(now[shown].into()));
            let y = top + 166.0 + 28.0 * row as f32;
            paper.text([text, y], 18.0, Weight::Regular, tokens.weak, &line, anchor);
        }
    }
    track(&mut paper, scene);
    let caption = format!(
        "{}. {} steps with {}; the networks differ only in how they were trained. Made with Martlet {}.",
        scene.specimen.title,
        scene.attack,
        scene.grid.threat(scene.place),
        env!("CARGO_PKG_VERSION"),
    );
    paper.text(
        [MARGIN, HEIGHT - 24.0],
        16.0,
        Weight::Regular,
        tokens.weak,
        &caption,
        0.0,
    );
    paper.image
}

/// The radius on its track, and where each network falls.
fn track(paper: &mut Paper, scene: &Scene) {
    let tokens = palette(scene.dark);
    let (y, left, width) = (620.0, MARGIN, WIDTH - 2.0 * MARGIN);
    let last = scene.grid.last().max(1);
    let x_of = |place: usize| left + width * place as f32 / last as f32;
    paper.fill([left, y], [width, 6.0], tokens.line);
    paper.fill([left, y], [x_of(scene.place) - left, 6.0], tokens.weak);
    for (number, side) in scene.sides.iter().enumerate() {
        let Some(place) = side.falls else { continue };
        let colour = theme::defence(side.defence, scene.dark);
        let lane = y - 44.0 + 22.0 * number as f32;
        let x = x_of(place);
        paper.fill([x, lane + 12.0], [left + width - x, 4.0], colour);
        let text = format!("{} falls at {}", side.name, scene.grid.epsilon(place));
        let is_late = x > WIDTH * 0.75;
        let (x, anchor) = if is_late { (left + width, 1.0) } else { (x, 0.0) };
        paper.text([x, lane + 8.0], 16.0, Weight::Regular, colour, &text, anchor);
    }
    let x = x_of(scene.place);
    paper.fill([x - 5.0, y - 10.0], [10.0, 26.0], tokens.text);
    for place in (0..=last).step_by(5) {
        let text = scene.grid.epsilon(place).to_string();
        paper.text([x_of(place), y + 36.0], 15.0, Weight::Regular, tokens.weak, &text, 0.5);
    }
}

#[derive(Clone, Copy)]
enum Weight {
    Regular,
    Bold,
}

/// An image that is drawn on in units of 1,280×720, and its two fonts.
struct Paper {
    image: RgbImage,
    scale: f32,
    fonts: Option<[FontRef<'static>; 2]>,
}

impl Paper {
    fn new(scale: f32, ground: Color32) -> Self {
        let side = |length: f32| (length * scale).round() as u32;
        let fonts = theme::FONTS.map(|bytes| FontRef::try_from_slice(bytes).ok());
        let [regular, bold] = fonts;
        Self {
            image: RgbImage::from_pixel(side(WIDTH), side(HEIGHT), rgb(ground)),
            scale,
            // The files are constants, and a test reads them.
            fonts: regular.zip(bold).map(|(regular, bold)| [regular, bold]),
        }
    }

    fn fill(&mut self, at: [f32; 2], size: [f32; 2], colour: Color32) {
        let pixel = |value: f32, most: u32| ((value * self.scale).round().max(0.0) as u32).min(most);
        let (width, height) = self.image.dimensions();
        let (x0, x1) = (pixel(at[0], width), pixel(at[0] + size[0], width));
        let (y0, y1) = (pixel(at[1], height), pixel(at[1] + size[1], height));
        for y in y0..y1 {
            for x in x0..x1 {
                self.image.put_pixel(x, y, rgb(colour));
            }
        }
    }

    fn picture(&mut self, at: [f32; 2], side: f32, values: &[f32], specimen: &Specimen) {
        let small = pictures::picture(values, specimen.shape);
        let (width, height) = small.dimensions();
        let pixels = (side * self.scale).round() as u32;
        let [left, top] = at.map(|value| (value * self.scale).round() as u32);
        for y in 0..pixels {
            for x in 0..pixels {
                let from = small.get_pixel(x * width / pixels, y * height / pixels);
                if left + x < self.image.width() && top + y < self.image.height() {
                    self.image.put_pixel(left + x, top + y, *from);
                }
            }
        }
    }

    /// A line of text whose baseline is at `at`; `anchor` is the share of its width that lies left of it.
    fn text(&mut self, at: [f32; 2], size: f32, weight: Weight, colour: Color32, text: &str, anchor: f32) {
        let Some(fonts) = &self.fonts else { return };
        let font = &fonts[weight as usize];
        let scaled = font.as_scaled(PxScale::from(size * self.scale));
        let mut glyphs = Vec::new();
        let mut x = 0.0;
        let mut before = None;
        for letter in text.chars() {
            let id = scaled.glyph_id(letter);
            if let Some(before) = before {
                x += scaled.kern(before, id);
            }
            glyphs.push((id, x));
            x += scaled.h_advance(id);
            before = Some(id);
        }
        let (left, baseline) = (at[0] * self.scale - anchor * x, at[1] * self.scale);
        let (width, height) = self.image.dimensions();
        for (id, x) in glyphs {
            let glyph = id.with_scale_and_position(scaled.scale(), point(left + x, baseline));
            let Some(outlined) = font.outline_glyph(glyph) else {
                continue;
            };
            let bounds = outlined.px_bounds();
            outlined.draw(|x, y, cover| {
                let (x, y) = (bounds.min.x as i64 + i64::from(x), bounds.min.y as i64 + i64::from(y));
                if (0..i64::from(width)).contains(&x) && (0..i64::from(height)).contains(&y) {
                    let pixel = self.image.get_pixel_mut(x as u32, y as u32);
                    let ink = rgb(colour);
                    for channel in 0..3 {
                        let (from, to) = (f32::from(pixel.0[channel]), f32::from(ink.0[channel]));
                        pixel.0[channel] = (from + (to - from) * cover.min(1.0)).round() as u8;
                    }
                }
            });
        }
    }
}

fn rgb(colour: Color32) -> Rgb<u8> {
    Rgb([colour.r(), colour.g(), colour.b()])
}
