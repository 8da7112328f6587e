//! Draws one example: a distorted character, its clutter and its noise.
//!
//! Only `+ − × ÷` and comparisons on `f32`, in a fixed order, and no function of the platform's mathematical
//! library: the same seed gives the same bytes everywhere.

use ab_glyph::{Glyph, GlyphId, Outline, OutlineCurve, OutlinedGlyph, PxScale, PxScaleFactor, Rect, point};

use super::outline::{Character, Characters, Segment};
use crate::random::Rng;

/// Rows and columns of an example.
pub const SIDE: usize = 28;

/// Strokes are drawn on a grid this many times finer, where their weight can be changed.
const FINE: usize = 2;
const FINE_SIDE: usize = SIDE * FINE;

/// Elastic distortion: lattice points along each side of the picture.
const LATTICE: usize = 4;

// How much the examples vary, in pixels of the picture, radians and shares of full ink. Together these set the
// difficulty; the module above says what was measured.
const HEIGHT: [f32; 2] = [16.0, 21.0];
const STRETCH: [f32; 2] = [0.8, 1.2];
const TURN: f32 = 0.25;
const SHEAR: f32 = 0.25;
const SHIFT: f32 = 2.0;
const ELASTIC: f32 = 1.4;
const WEIGHT: [f32; 2] = [0.25, 0.62];
const INK: [f32; 2] = [0.70, 1.0];
const PAPER: [f32; 2] = [0.0, 0.10];
const CLUTTER_INK: [f32; 2] = [0.2, 0.5];
const NOISE: f32 = 0.06;

/// A grey picture in values of 0 (paper) to 1 (ink), row by row.
type Plane = Vec<f32>;

/// The picture of `digit`, row by row, drawn with the choices of `rng`.
pub fn picture(characters: &Characters, digit: usize, rng: &mut Rng) -> [u8; SIDE * SIDE] {
    let font = rng.below(characters.fonts());
    let size = rng.uniform(HEIGHT[0], HEIGHT[1]);
    let centre = [0, 1].map(|_| SIDE as f32 / 2.0 + rng.uniform(-SHIFT, SHIFT));
    let strokes = stroke(characters.digit(font, digit), size, centre, TURN, rng);
    let ink = rng.uniform(INK[0], INK[1]);
    let paper = rng.uniform(PAPER[0], PAPER[1]);
    let clutter = clutter(characters, rng);

    let mut bytes = [0; SIDE * SIDE];
    for (i, byte) in bytes.iter_mut().enumerate() {
        let behind = paper.max(clutter[i]);
        // Four uniform values make a bell, without a logarithm.
        let noise = (0..4).fold(0.0, |sum, _| sum + rng.uniform(-0.5, 0.5)) * NOISE;
        let value = behind + (ink - behind).max(0.0) * strokes[i] + noise;
        *byte = (value.clamp(0.0, 1.0) * 255.0 + 0.5) as u8;
    }
    bytes
}

/// What lies about the character: pieces of letters at the rim, and now and then a scratch across.
fn clutter(characters: &Characters, rng: &mut Rng) -> Plane {
    let mut plane = vec![0.0; SIDE * SIDE];
    let mut lay = |strokes: Plane, ink: f32| {
        for (value, stroke) in plane.iter_mut().zip(strokes) {
            *value = f32::max(*value, stroke * ink);
        }
    };
    for _ in 0..rng.below(3) {
        let letter = &characters.letters()[rng.below(characters.letters().len())];
        let along = rng.uniform(0.0, SIDE as f32);
        let rim = if rng.chance(0.5) {
            rng.uniform(-4.0, 1.0)
        } else {
            SIDE as f32 + rng.uniform(-1.0, 4.0)
        };
        let centre = if rng.chance(0.5) { [along, rim] } else { [rim, along] };
        let size = rng.uniform(HEIGHT[0], HEIGHT[1]);
        let strokes = stroke(letter, size, centre, 1.0, rng);
        lay(strokes, rng.uniform(CLUTTER_INK[0], CLUTTER_INK[1]));
    }
    if rng.chance(0.4) {
        let scratch = scratch(rng);
        lay(scratch, rng.uniform(CLUTTER_INK[0], CLUTTER_INK[1]));
    }
    plane
}

/// A thin line from rim to rim.
fn scratch(rng: &mut Rng) -> Plane {
    let side = FINE_SIDE as f32;
    let (from, to) = (rng.uniform(0.0, side), rng.uniform(0.0, side));
    let half = rng.uniform(0.4, 0.9) * FINE as f32;
    let corners = [
        [0.0, from - half],
        [side, to - half],
        [side, to + half],
        [0.0, from + half],
    ];
    let upright = rng.chance(0.5);
    let corner = |i: usize| {
        if upright {
            [corners[i % 4][1], corners[i % 4][0]]
        } else {
            corners[i % 4]
        }
    };
    let outline: Vec<Segment> = (0..4).map(|i| [corner(i), corner(i + 1)]).collect();
    shrink(&coverage(&outline))
}

/// A character, turned, sheared, stretched, bent and drawn with a pen of random weight.
fn stroke(character: &Character, size: f32, centre: [f32; 2], turn: f32, rng: &mut Rng) -> Plane {
    let size = size * FINE as f32;
    let stretch = rng.uniform(STRETCH[0], STRETCH[1]);
    let shear = rng.uniform(-SHEAR, SHEAR);
    // The rotation by twice the angle whose tangent is `half`: no sine, no cosine.
    let half = rng.uniform(-turn, turn) / 2.0;
    let (cos, sin) = (
        (1.0 - half * half) / (1.0 + half * half),
        2.0 * half / (1.0 + half * half),
    );
    let bend: [[[f32; 2]; LATTICE]; LATTICE] =
        std::array::from_fn(|_| std::array::from_fn(|_| [0, 1].map(|_| rng.uniform(-ELASTIC, ELASTIC) * FINE as f32)));
    let weight = rng.uniform(WEIGHT[0], WEIGHT[1]);

    let place = |[x, y]: [f32; 2]| {
        let x = (x + shear * y) * stretch;
        let (x, y) = (x * cos - y * sin, x * sin + y * cos);
        let moved = displacement(&bend, [x, y]);
        [
            x * size + centre[0] * FINE as f32 + moved[0],
            y * size + centre[1] * FINE as f32 + moved[1],
        ]
    };
    let outline: Vec<Segment> = character.iter().map(|segment| segment.map(place)).collect();
    shrink(&reweigh(&coverage(&outline), weight))
}

/// The elastic displacement at a point of the character's own frame (±0.5), smooth between lattice points.
fn displacement(bend: &[[[f32; 2]; LATTICE]; LATTICE], at: [f32; 2]) -> [f32; 2] {
    let cells = (LATTICE - 1) as f32;
    let [(column, right), (row, down)] = at.map(|c| {
        let position = ((c + 0.5) * cells).clamp(0.0, cells - 0.001);
        let t = position - position.floor();
        (position as usize, t * t * (3.0 - 2.0 * t))
    });
    [0, 1].map(|axis| {
        let mix = |row: usize| bend[row][column][axis] * (1.0 - right) + bend[row][column + 1][axis] * right;
        mix(row) * (1.0 - down) + mix(row + 1) * down
    })
}

/// The share of each fine pixel that lies inside the outline.
fn coverage(outline: &[Segment]) -> Plane {
    let mut plane = vec![0.0; FINE_SIDE * FINE_SIDE];
    if outline.is_empty() {
        return plane;
    }
    let points = || outline.iter().flatten();
    let bound = |axis: usize, pick: fn(f32, f32) -> f32| points().map(|p| p[axis]).reduce(pick).unwrap_or(0.0);
    let bounds = Rect {
        min: point(bound(0, f32::min), bound(1, f32::min)),
        max: point(bound(0, f32::max), bound(1, f32::max)),
    };
    let curves = outline
        .iter()
        .map(|[a, b]| OutlineCurve::Line(point(a[0], a[1]), point(b[0], b[1])))
        .collect();
    let glyph = Glyph {
        id: GlyphId(0),
        scale: PxScale::from(1.0),
        position: point(0.0, 0.0),
    };
    // ab_glyph turns y round; a scale of -1 turns it back.
    let drawn = OutlinedGlyph::new(
        glyph,
        Outline { bounds, curves },
        PxScaleFactor {
            horizontal: 1.0,
            vertical: -1.0,
        },
    );
    let corner = drawn.px_bounds().min;
    drawn.draw(|x, y, share| {
        let (x, y) = (x as i64 + corner.x as i64, y as i64 + corner.y as i64);
        if (0..FINE_SIDE as i64).contains(&x) && (0..FINE_SIDE as i64).contains(&y) {
            plane[y as usize * FINE_SIDE + x as usize] = share.clamp(0.0, 1.0);
        }
    });
    plane
}

/// Thickens strokes (a threshold under one half) or thins them: a blur, then a steep ramp at `threshold`.
fn reweigh(plane: &[f32], threshold: f32) -> Plane {
    const STEEPNESS: f32 = 4.0;
    blurred(plane)
        .iter()
        .map(|value| ((value - threshold) * STEEPNESS + 0.5).clamp(0.0, 1.0))
        .collect()
}

/// A blur with weights 1 2 3 2 1 along rows, then along columns; nothing lies outside the picture.
fn blurred(plane: &[f32]) -> Plane {
    const MARGIN: usize = 2;
    const WIDE: usize = FINE_SIDE + 2 * MARGIN;
    let inside = |row: usize| (row + MARGIN) * WIDE + MARGIN..(row + MARGIN) * WIDE + MARGIN + FINE_SIDE;
    let pass = |from: &[f32], step: usize| {
        let mut to = vec![0.0; WIDE * WIDE];
        for i in (0..FINE_SIDE).flat_map(inside) {
            let (near, far) = (2.0 * from[i - step], from[i - 2 * step]);
            to[i] = (far + near + 3.0 * from[i] + 2.0 * from[i + step] + from[i + 2 * step]) / 9.0;
        }
        to
    };
    let mut wide = vec![0.0; WIDE * WIDE];
    for (row, values) in plane.chunks_exact(FINE_SIDE).enumerate() {
        wide[inside(row)].copy_from_slice(values);
    }
    let both = pass(&pass(&wide, 1), WIDE);
    (0..FINE_SIDE).flat_map(inside).map(|i| both[i]).collect()
}

/// From the fine grid to the picture's: the mean of each square of [`FINE`] by [`FINE`] values.
fn shrink(plane: &[f32]) -> Plane {
    let mean = |i: usize| {
        let (row, column) = (i / SIDE * FINE, i % SIDE * FINE);
        let square = (0..FINE * FINE).map(|k| plane[(row + k / FINE) * FINE_SIDE + column + k % FINE]);
        square.fold(0.0, |sum, value| sum + value) / (FINE * FINE) as f32
    };
    (0..SIDE * SIDE).map(mean).collect()
}
