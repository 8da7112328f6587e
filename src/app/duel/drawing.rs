//! What a person draws with the mouse, as the data look: one digit in the middle, in light ink on dark paper.

use crate::{app::lab::Specimen, shapes::ImageShape};

/// A line drawn without lifting the pen, in units of the canvas's side.
pub type Stroke = Vec<[f32; 2]>;

/// The larger side of the digit, in shares of the picture: the built-in characters are 16 to 21 of 28 pixels high, MNIST's 20.
const SIZE: f32 = 19.0 / 28.0;
/// Half the pen's width, in shares of the picture.
const PEN: f32 = 1.35 / 28.0;
/// The brightness of the ink.
const INK: f32 = 0.95;

/// The strokes as a picture: moved to the middle, scaled to the size of the data's digits, drawn with the data's pen.
pub fn specimen(strokes: &[Stroke], shape: ImageShape, classes: Vec<String>) -> Specimen {
    let plane = draw(&fitted(strokes), shape);
    Specimen {
        title: "drawn by hand".to_string(),
        pixels: plane.repeat(shape.channels),
        shape,
        label: None,
        classes,
    }
}

/// The strokes with their box in the middle and its larger side at [`SIZE`].
fn fitted(strokes: &[Stroke]) -> Vec<Stroke> {
    let points = || strokes.iter().flatten();
    let (mut low, mut high) = ([f32::INFINITY; 2], [f32::NEG_INFINITY; 2]);
    for point in points() {
        for axis in 0..2 {
            low[axis] = low[axis].min(point[axis]);
            high[axis] = high[axis].max(point[axis]);
        }
    }
    let extent = (high[0] - low[0]).max(high[1] - low[1]);
    // A dot stays a dot.
    let scale = if extent > 0.02 {
        (SIZE - 2.0 * PEN) / extent
    } else {
        1.0
    };
    let middle = [0, 1].map(|axis| (low[axis] + high[axis]) / 2.0);
    let moved = |point: &[f32; 2]| [0, 1].map(|axis| 0.5 + (point[axis] - middle[axis]) * scale);
    strokes
        .iter()
        .map(|stroke| stroke.iter().map(moved).collect())
        .collect()
}

/// One colour plane: each pixel as dark as the pen covers it, with a soft edge one pixel wide.
fn draw(strokes: &[Stroke], shape: ImageShape) -> Vec<f32> {
    let side = shape.width.max(shape.height) as f32;
    let mut plane = vec![0.0; shape.height * shape.width];
    for row in 0..shape.height {
        for column in 0..shape.width {
            let at = [
                (column as f32 + 0.5) / shape.width as f32,
                (row as f32 + 0.5) / shape.height as f32,
            ];
            let nearest = strokes
                .iter()
                .map(|stroke| distance(stroke, at))
                .fold(f32::INFINITY, f32::min);
            let cover = ((PEN - nearest) * side + 0.5).clamp(0.0, 1.0);
            plane[row * shape.width + column] = cover * INK;
        }
    }
    plane
}

/// How far a point lies from a stroke.
fn distance(stroke: &[[f32; 2]], at: [f32; 2]) -> f32 {
    let to = |point: &[f32; 2]| ((point[0] - at[0]).powi(2) + (point[1] - at[1]).powi(2)).sqrt();
    let pieces = stroke.windows(2).map(|piece| {
        let [from, until] = [piece[0], piece[1]];
        let along = [until[0] - from[0], until[1] - from[1]];
        let length = along[0].powi(2) + along[1].powi(2);
        if length == 0.0 {
            return to(&from);
        }
        let share = ((at[0] - from[0]) * along[0] + (at[1] - from[1]) * along[1]) / length;
        let share = share.clamp(0.0, 1.0);
        to(&[from[0] + share * along[0], from[1] + share * along[1]])
    });
    // A stroke of one point is a dot.
    pieces.chain(stroke.first().map(to)).fold(f32::INFINITY, f32::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: ImageShape = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };

    /// The rows and columns that hold ink.
    fn extent(picture: &Specimen) -> [std::ops::RangeInclusive<usize>; 2] {
        let inked = |place: &usize| picture.pixels[*place] > 0.4;
        let places: Vec<usize> = (0..SHAPE.len()).filter(inked).collect();
        let rows = places.iter().map(|place| place / 28);
        let columns = places.iter().map(|place| place % 28);
        let range =
            |values: Vec<usize>| values.iter().min().copied().unwrap_or(0)..=values.iter().max().copied().unwrap_or(0);
        [range(rows.collect()), range(columns.collect())]
    }

    #[test]
    fn a_small_digit_in_a_corner_comes_to_the_middle_at_the_size_of_the_data() {
        let one = vec![vec![[0.1, 0.1], [0.1, 0.3]]];
        let picture = specimen(&one, SHAPE, Vec::new());
        let [rows, columns] = extent(&picture);
        assert_eq!(rows, 5..=22, "19 pixels high, in the middle");
        assert!(*columns.start() >= 12 && *columns.end() <= 15, "{columns:?}");
        let large = specimen(&[vec![[0.5, 0.0], [0.5, 1.0]]], SHAPE, Vec::new());
        let apart = picture
            .pixels
            .iter()
            .zip(&large.pixels)
            .map(|(one, other)| (one - other).abs());
        let apart = apart.fold(0.0, f32::max);
        assert!(
            apart < 1e-4,
            "size or place on the canvas changes the picture by {apart}"
        );
    }

    #[test]
    fn a_dot_is_a_dot_and_colour_pictures_take_it_too() {
        let colour = ImageShape { channels: 3, ..SHAPE };
        let picture = specimen(&[vec![[0.9, 0.9]]], colour, Vec::new());
        assert_eq!(picture.pixels.len(), colour.len());
        let lit = picture.pixels.iter().filter(|value| **value > 0.0).count();
        assert!((9..90).contains(&lit), "{lit} values");
    }
}
