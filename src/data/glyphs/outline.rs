//! The outlines of the embedded fonts' characters, as closed chains of short lines in a common frame.

use ab_glyph::{Font, FontRef, OutlineCurve, Point};

/// The embedded fonts, in a fixed order: the data set picks one by its number. `assets/fonts/README.md` names
/// them and their licence.
const FONTS: [&[u8]; 12] = [
    include_bytes!("../../../assets/fonts/lato-regular.ttf"),
    include_bytes!("../../../assets/fonts/quicksand-bold.ttf"),
    include_bytes!("../../../assets/fonts/comic-neue-bold.otf"),
    include_bytes!("../../../assets/fonts/lobster.otf"),
    include_bytes!("../../../assets/fonts/dancing-script-bold.otf"),
    include_bytes!("../../../assets/fonts/courier-prime-bold.otf"),
    include_bytes!("../../../assets/fonts/bebas-neue-bold.otf"),
    include_bytes!("../../../assets/fonts/league-spartan-bold.otf"),
    include_bytes!("../../../assets/fonts/play-bold.ttf"),
    include_bytes!("../../../assets/fonts/caladea-bold.ttf"),
    include_bytes!("../../../assets/fonts/caladea-italic.ttf"),
    include_bytes!("../../../assets/fonts/cabin-bold.otf"),
];

/// Letters that the clutter is cut from: straight ones, that read as no digit.
const LETTERS: [char; 8] = ['A', 'F', 'H', 'K', 'L', 'M', 'T', 'X'];

/// Lines that one curve or line is cut into, so that an elastic distortion can bend it.
const PIECES: usize = 6;

/// One line of an outline, from point to point.
pub type Segment = [[f32; 2]; 2];

/// A character's outline: centred on the origin, one unit high (or wide, where it is wider than high), y down.
pub type Character = Vec<Segment>;

/// Every character of every font, ready to draw.
pub struct Characters {
    digits: Vec<[Character; 10]>,
    letters: Vec<Character>,
}

impl Characters {
    /// Reads the embedded fonts. A font that could not be read would leave its place empty; the tests hold that none is.
    pub fn embedded() -> Self {
        let mut digits = Vec::with_capacity(FONTS.len());
        let mut letters = Vec::with_capacity(FONTS.len() * LETTERS.len());
        for bytes in FONTS {
            let Ok(font) = FontRef::try_from_slice(bytes) else {
                continue;
            };
            digits.push(std::array::from_fn(|digit| {
                character(&font, (b'0' + digit as u8) as char)
            }));
            letters.extend(LETTERS.map(|letter| character(&font, letter)));
        }
        Self { digits, letters }
    }

    /// The number of fonts.
    pub fn fonts(&self) -> usize {
        self.digits.len()
    }

    /// A digit in a font.
    pub fn digit(&self, font: usize, digit: usize) -> &Character {
        &self.digits[font][digit]
    }

    /// The letters of all fonts.
    pub fn letters(&self) -> &[Character] {
        &self.letters
    }
}

/// The outline of one character, empty where the font lacks it.
fn character(font: &FontRef, which: char) -> Character {
    let Some(outline) = font.outline(font.glyph_id(which)) else {
        return Vec::new();
    };
    let mut segments: Character = outline.curves.iter().flat_map(pieces).collect();
    let points = || segments.iter().flatten();
    let low: [f32; 2] = std::array::from_fn(|axis| points().fold(f32::INFINITY, |least, p| least.min(p[axis])));
    let high: [f32; 2] = std::array::from_fn(|axis| points().fold(f32::NEG_INFINITY, |most, p| most.max(p[axis])));
    let size = (high[1] - low[1]).max(high[0] - low[0]);
    let centre = [(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0];
    for point in segments.iter_mut().flatten() {
        *point = [(point[0] - centre[0]) / size, (centre[1] - point[1]) / size];
    }
    segments
}

/// A line or curve cut into [`PIECES`] lines.
fn pieces(curve: &OutlineCurve) -> Vec<Segment> {
    let at = |t: f32| -> [f32; 2] {
        let mix = |weights: &[f32], points: &[&Point]| {
            weights
                .iter()
                .zip(points)
                .fold([0.0, 0.0], |sum, (w, p)| [sum[0] + w * p.x, sum[1] + w * p.y])
        };
        let s = 1.0 - t;
        match curve {
            OutlineCurve::Line(a, b) => mix(&[s, t], &[a, b]),
            OutlineCurve::Quad(a, b, c) => mix(&[s * s, 2.0 * s * t, t * t], &[a, b, c]),
            OutlineCurve::Cubic(a, b, c, d) => {
                mix(&[s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t], &[a, b, c, d])
            }
        }
    };
    (0..PIECES)
        .map(|i| [at(i as f32 / PIECES as f32), at((i + 1) as f32 / PIECES as f32)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_font_has_every_character_in_the_common_frame() {
        let characters = Characters::embedded();
        assert_eq!(characters.fonts(), FONTS.len());
        assert_eq!(characters.letters().len(), FONTS.len() * LETTERS.len());
        let digits = (0..FONTS.len()).flat_map(|font| (0..10).map(move |digit| (font, digit)));
        let all = digits
            .map(|(font, digit)| characters.digit(font, digit))
            .chain(characters.letters());
        for character in all {
            assert!(!character.is_empty());
            assert!(character.iter().flatten().flatten().all(|c| c.abs() <= 0.5001));
        }
    }
}
