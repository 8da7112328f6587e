//! Design tokens: the sizes of type, the spaces and the colours that new screens are made of. Light and dark have the same
//! roles; tests hold that every pair that meets has enough contrast, and that colours that mean something stay apart for
//! people who see fewer of them.

use std::sync::Arc;

use egui::{Color32, Context, FontData, FontDefinitions, FontFamily, FontId};
use egui_plot::{LineStyle, MarkerShape};

use crate::defences::DefenceSpec;

/// Sizes of type in points, each about 1.3 times the one before.
pub mod size {
    /// Captions and axes.
    pub const SMALL: f32 = 12.0;
    /// Running text.
    pub const BODY: f32 = 14.0;
    /// What is read first in a group.
    pub const LEAD: f32 = 18.0;
    /// Titles and verdicts.
    pub const TITLE: f32 = 24.0;
    /// An answer that the last row reads.
    pub const DISPLAY: f32 = 56.0;
}

/// Spaces in points.
pub mod space {
    /// Between a thing and its own caption.
    pub const XS: f32 = 4.0;
    /// Between things of one group.
    pub const S: f32 = 8.0;
    /// Between groups.
    pub const M: f32 = 16.0;
    /// Round what stands alone.
    pub const L: f32 = 24.0;
}

/// A font of one of the sizes.
pub fn font(size: f32) -> FontId {
    FontId::new(size, FontFamily::Proportional)
}

/// The fonts of titles and of shared pictures: running text, and what stands out.
pub const FONTS: [&[u8]; 2] = [
    include_bytes!("../../../assets/type/inter-regular.otf"),
    include_bytes!("../../../assets/type/inter-semibold.otf"),
];

/// What the family of titles is called.
const DISPLAY: &str = "display";

/// Makes the family of titles known to the window; what it lacks comes from the fonts of running text.
pub fn install_fonts(ctx: &Context) {
    let mut fonts = FontDefinitions::default();
    let bold = Arc::new(FontData::from_static(FONTS[1]));
    fonts.font_data.insert(DISPLAY.to_string(), bold);
    let rest = fonts
        .families
        .get(&FontFamily::Proportional)
        .cloned()
        .unwrap_or_default();
    let family = std::iter::once(DISPLAY.to_string()).chain(rest).collect();
    fonts.families.insert(FontFamily::Name(DISPLAY.into()), family);
    ctx.set_fonts(fonts);
}

/// A font for titles and answers; that of running text until the window knows it, which is a frame after it was installed.
pub fn display(ctx: &Context, size: f32) -> FontId {
    let family = FontFamily::Name(DISPLAY.into());
    let known = ctx.fonts(|fonts| fonts.definitions().families.contains_key(&family));
    FontId::new(size, if known { family } else { FontFamily::Proportional })
}

/// The colours of a theme by their role.
#[derive(Debug, Clone, Copy)]
pub struct Palette {
    /// What everything lies on.
    pub ground: Color32,
    /// Running text.
    pub text: Color32,
    /// Captions.
    pub weak: Color32,
    /// Hairlines and tracks; they carry no meaning alone.
    pub line: Color32,
    /// A verdict: it holds.
    pub holds: Color32,
    /// A verdict: it is fooled.
    pub fooled: Color32,
    /// A verdict: it was wrong all along.
    pub wrong: Color32,
}

const LIGHT: Palette = Palette {
    ground: Color32::from_rgb(250, 250, 251),
    text: Color32::from_rgb(28, 30, 34),
    weak: Color32::from_rgb(96, 100, 108),
    line: Color32::from_rgb(214, 217, 222),
    holds: Color32::from_rgb(0, 118, 96),
    fooled: Color32::from_rgb(178, 24, 18),
    wrong: Color32::from_rgb(96, 100, 108),
};

const DARK: Palette = Palette {
    ground: Color32::from_rgb(25, 27, 31),
    text: Color32::from_rgb(222, 224, 228),
    weak: Color32::from_rgb(156, 161, 170),
    line: Color32::from_rgb(62, 66, 74),
    holds: Color32::from_rgb(90, 216, 178),
    fooled: Color32::from_rgb(244, 104, 88),
    wrong: Color32::from_rgb(156, 161, 170),
};

/// The palette of a theme.
pub const fn palette(dark: bool) -> Palette {
    if dark { DARK } else { LIGHT }
}

/// Every defence's own colour, for good: by the name that a recipe gives it, light and dark.
const DEFENCES: [(&str, Color32, Color32); 5] = [
    (
        "natural",
        Color32::from_rgb(176, 106, 0),
        Color32::from_rgb(240, 176, 48),
    ),
    ("mart", Color32::from_rgb(0, 104, 168), Color32::from_rgb(94, 178, 240)),
    (
        "standard",
        Color32::from_rgb(146, 34, 76),
        Color32::from_rgb(220, 100, 140),
    ),
    ("trades", Color32::from_rgb(0, 126, 96), Color32::from_rgb(80, 204, 164)),
    ("", Color32::from_rgb(96, 100, 108), Color32::from_rgb(168, 172, 180)),
];

/// The colour of a defence.
pub fn defence(name: &str, dark: bool) -> Color32 {
    let (_, light, on_dark) = DEFENCES
        .iter()
        .find(|(own, _, _)| *own == name)
        .unwrap_or(&DEFENCES[DEFENCES.len() - 1]);
    if dark { *on_dark } else { *light }
}

/// What a defence is called where a person reads it, without its numbers.
pub fn defence_name(defence: &DefenceSpec) -> String {
    let whole = match defence.name() {
        "natural" => "Natural".to_string(),
        _ => defence.to_string(),
    };
    whole.split(['(', ',']).next().unwrap_or_default().trim().to_string()
}

/// What a defence is called over its picture.
pub fn defence_title(defence: &DefenceSpec) -> String {
    match defence.name() {
        "natural" => "Natural training".to_string(),
        _ => match defence.lambda() {
            Some(lambda) => format!("{}, λ {lambda}", defence_name(defence)),
            None => defence_name(defence),
        },
    }
}

/// How an attack's lines are drawn, in every plot whose colours are defences: what is not attacked is dashed, what the
/// strongest attacks leave is solid.
pub fn stroke(attack: &str) -> LineStyle {
    match attack.split('-').next().unwrap_or_default() {
        "natural" => LineStyle::Dashed { length: 7.0 },
        "fgsm" => LineStyle::Dotted { spacing: 5.0 },
        "cw" => LineStyle::Dashed { length: 3.0 },
        _ => LineStyle::Solid,
    }
}

/// How an attack's points are drawn, the same in every plot and whatever else is drawn beside them, and what the shape is called.
pub fn marker(attack: &str) -> (MarkerShape, &'static str) {
    match attack.split(['-', 'x']).next().unwrap_or_default() {
        "natural" => (MarkerShape::Circle, "circles"),
        "fgsm" => (MarkerShape::Up, "triangles"),
        "pgd" => (MarkerShape::Square, "squares"),
        "cw" => (MarkerShape::Diamond, "diamonds"),
        "worst" => (MarkerShape::Cross, "crosses"),
        "autoattack" | "apgd" => (MarkerShape::Asterisk, "stars"),
        _ => (MarkerShape::Plus, "plus signs"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A channel of sRGB in linear light.
    fn linear(value: u8) -> f64 {
        let value = f64::from(value) / 255.0;
        if value <= 0.04045 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    }

    fn light_of(colour: Color32) -> [f64; 3] {
        [colour.r(), colour.g(), colour.b()].map(linear)
    }

    /// The contrast ratio of WCAG 2.2: 1 to 21.
    fn contrast(one: Color32, other: Color32) -> f64 {
        let luminance = |colour: Color32| {
            let [red, green, blue] = light_of(colour);
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn contrast_is_that_of_the_guideline() {
        assert!((contrast(Color32::BLACK, Color32::WHITE) - 21.0).abs() < 1e-9);
        // The guideline's well-known grey that just passes on white.
        assert!((contrast(Color32::from_rgb(118, 118, 118), Color32::WHITE) - 4.54).abs() < 0.01);
    }

    #[test]
    fn text_and_verdicts_are_read_on_their_ground_and_lines_are_seen() {
        for dark in [false, true] {
            let palette = palette(dark);
            for (role, colour) in [
                ("text", palette.text),
                ("weak", palette.weak),
                ("holds", palette.holds),
                ("fooled", palette.fooled),
                ("wrong", palette.wrong),
            ] {
                let found = contrast(colour, palette.ground);
                assert!(found >= 4.5, "{role}, dark {dark}: {found:.2}");
            }
            for (name, _, _) in DEFENCES {
                // Their names stand in these colours too, large or bold.
                let found = contrast(defence(name, dark), palette.ground);
                assert!(found >= 3.0, "{name:?}, dark {dark}: {found:.2}");
            }
        }
    }

    /// What a person without one kind of cone sees, in linear light (Viénot, Brettel and Mollon 1999; Machado et al. 2009
    /// for tritanopia).
    const VISIONS: [(&str, [[f64; 3]; 3]); 4] = [
        ("full", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "no red cones",
            [
                [0.11238, 0.88762, 0.0],
                [0.11238, 0.88762, 0.0],
                [0.00401, -0.00401, 1.0],
            ],
        ),
        (
            "no green cones",
            [
                [0.29275, 0.70725, 0.0],
                [0.29275, 0.70725, 0.0],
                [-0.02234, 0.02234, 1.0],
            ],
        ),
        (
            "no blue cones",
            [
                [1.255528, -0.076749, -0.178779],
                [-0.078411, 0.930809, 0.147602],
                [0.004733, 0.691367, 0.303900],
            ],
        ),
    ];

    /// CIE L*a*b* of linear sRGB, white D65.
    fn lab([red, green, blue]: [f64; 3]) -> [f64; 3] {
        let x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505;
        let y = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        let z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089;
        let f = |t: f64| {
            if t > 0.008856 {
                t.cbrt()
            } else {
                7.787 * t + 16.0 / 116.0
            }
        };
        let (x, y, z) = (f(x), f(y), f(z));
        [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
    }

    fn difference(one: Color32, other: Color32, sight: &[[f64; 3]; 3]) -> f64 {
        let seen = |colour: Color32| {
            let light = light_of(colour);
            lab(sight.map(|row| {
                (0..3)
                    .map(|channel| row[channel] * light[channel])
                    .sum::<f64>()
                    .clamp(0.0, 1.0)
            }))
        };
        let (one, other) = (seen(one), seen(other));
        (0..3).map(|axis| (one[axis] - other[axis]).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn the_duels_sides_and_its_verdicts_stay_apart_whatever_one_sees() {
        for dark in [false, true] {
            let palette = palette(dark);
            let colour = |name| defence(name, dark);
            for (sight, matrix) in &VISIONS {
                for (what, one, other) in [
                    ("natural and mart", colour("natural"), colour("mart")),
                    ("standard and mart", colour("standard"), colour("mart")),
                    ("standard and natural", colour("standard"), colour("natural")),
                    ("holds and fooled", palette.holds, palette.fooled),
                ] {
                    let found = difference(one, other, matrix);
                    assert!(found >= 20.0, "{what}, {sight}, dark {dark}: ΔE {found:.1}");
                }
            }
        }
    }
}
