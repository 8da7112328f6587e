//! Pictures of perturbations: natural | what was changed | adversarial, for people to look at.

use std::io::Cursor;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use image::{ImageError, ImageFormat, Rgb, RgbImage, imageops};

use crate::shapes::ImageShape;

/// Empty pixels between the parts of a picture, before scaling.
const GAP: u32 = 1;

/// The colour of the gaps: a grey that stands out from both black and white.
const GAP_COLOUR: Rgb<u8> = Rgb([128, 128, 128]);

/// What a value that is not a number looks like: nothing else in [`diverging`] is black.
const NOT_A_NUMBER: [u8; 3] = [0, 0, 0];

/// A colour in OKLab: lightness, green to red, blue to yellow.
type Oklab = [f32; 3];

const NEUTRAL: Oklab = [0.97, 0.0, 0.0];
/// Hue 255°, chroma 0.155.
const BLUE: Oklab = [0.56, -0.0401, -0.1497];
/// Hue 50°, chroma 0.145: as light as the blue, so that both signs weigh the same.
const ORANGE: Oklab = [0.56, 0.0932, 0.1111];

/// A colour for a signed value: blue at −1, light grey at 0, orange at 1; values outside are clipped, and what is not a
/// number is black.
///
/// The way from grey to either end is straight in OKLab, where equal steps look equal. Blue and orange differ for every
/// common kind of colour blindness.
pub fn diverging(value: f32) -> [u8; 3] {
    if value.is_nan() {
        return NOT_A_NUMBER;
    }
    let strength = value.abs().min(1.0);
    let end = if value < 0.0 { BLUE } else { ORANGE };
    let mut mixed = NEUTRAL;
    for (mixed, end) in mixed.iter_mut().zip(end) {
        *mixed += strength * (end - *mixed);
    }
    srgb(mixed)
}

/// OKLab to sRGB.
///
/// # Source
/// Björn Ottosson, "A perceptual color space for image processing" (2020): the matrices; IEC 61966-2-1: the curve.
fn srgb([lightness, a, b]: Oklab) -> [u8; 3] {
    let long = (lightness + 0.396_337_8 * a + 0.215_803_76 * b).powi(3);
    let medium = (lightness - 0.105_561_346 * a - 0.063_854_17 * b).powi(3);
    let short = (lightness - 0.089_484_18 * a - 1.291_485_5 * b).powi(3);
    [
        4.076_741_7 * long - 3.307_711_6 * medium + 0.230_969_94 * short,
        -1.268_438 * long + 2.609_757_4 * medium - 0.341_319_38 * short,
        -0.004_196_086 * long - 0.703_418_6 * medium + 1.707_614_7 * short,
    ]
    .map(|linear| {
        let linear = linear.clamp(0.0, 1.0);
        byte(if linear <= 0.003_130_8 {
            12.92 * linear
        } else {
            1.055 * linear.powf(1.0 / 2.4) - 0.055
        })
    })
}

/// A value in `[0, 1]` as a byte; others are clipped.
fn byte(value: f32) -> u8 {
    (value.clamp(0.0, 1.0) * 255.0).round() as u8
}

/// The factor that lets the largest change of a pixel value fill the range of colours; 1 where nothing was changed.
pub fn full_gain(natural: &[f32], adversarial: &[f32]) -> f32 {
    let largest = natural
        .iter()
        .zip(adversarial)
        .map(|(n, a)| (a - n).abs())
        .fold(0.0, f32::max);
    if largest > 0.0 && largest.is_finite() {
        1.0 / largest
    } else {
        1.0
    }
}

/// An image as a picture, unscaled: grey for one channel, colour for three.
///
/// # Shapes
/// `values`: `[C, H, W]` in row-major order, pixels in `[0, 1]`.
///
/// # Panics
/// When `values` holds another number of values than `shape`.
pub fn picture(values: &[f32], shape: ImageShape) -> RgbImage {
    paint(values, shape, |pixel| match pixel {
        Pixel::Grey(value) => [byte(value); 3],
        Pixel::Colour(values) => values.map(byte),
    })
}

/// The change `adversarial − natural` times `gain`, unscaled.
///
/// One channel goes through [`diverging`]; three are shown as `0.5 + gain·δ/2` each, so that mid-grey is no change.
///
/// # Shapes
/// Both images `[C, H, W]` in row-major order.
///
/// # Panics
/// When an image holds another number of values than `shape`.
pub fn perturbation(natural: &[f32], adversarial: &[f32], shape: ImageShape, gain: f32) -> RgbImage {
    assert_eq!(natural.len(), adversarial.len(), "both images have the same shape");
    let change: Vec<f32> = natural.iter().zip(adversarial).map(|(n, a)| gain * (a - n)).collect();
    paint(&change, shape, |pixel| match pixel {
        Pixel::Grey(value) => diverging(value),
        Pixel::Colour(values) => values.map(|value| byte(0.5 + value / 2.0)),
    })
}

/// natural | perturbation × gain | adversarial, with narrow gaps between them; without a `gain` the largest change
/// fills the range ([`full_gain`]).
///
/// Every pixel becomes a square of `scale`×`scale`: no smoothing, because the pixels are what is attacked. The result is
/// `(3·W + 2)·scale` wide and `H·scale` high.
///
/// # Shapes
/// Both images `[C, H, W]` in row-major order, pixels in `[0, 1]`.
///
/// # Panics
/// When an image holds another number of values than `shape`.
pub fn triptych(natural: &[f32], adversarial: &[f32], shape: ImageShape, gain: Option<f32>, scale: u32) -> RgbImage {
    let gain = gain.unwrap_or_else(|| full_gain(natural, adversarial));
    let parts = [
        picture(natural, shape),
        perturbation(natural, adversarial, shape, gain),
        picture(adversarial, shape),
    ];
    magnified(&contact_sheet(&parts, parts.len(), GAP), scale)
}

/// Pictures of one size in rows of `columns`, with `gap` pixels between them.
///
/// A picture of another size than the first keeps its upper left corner's place and is cut off where its cell ends.
pub fn contact_sheet(pictures: &[RgbImage], columns: usize, gap: u32) -> RgbImage {
    let Some(first) = pictures.first() else {
        return RgbImage::new(0, 0);
    };
    let (width, height) = first.dimensions();
    let columns = columns.clamp(1, pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let room = |count: usize, size: u32| count as u32 * (size + gap) - gap;
    let mut sheet = RgbImage::from_pixel(room(columns, width), room(rows, height), GAP_COLOUR);
    for (position, picture) in pictures.iter().enumerate() {
        let (column, row) = ((position % columns) as u32, (position / columns) as u32);
        let cell = imageops::crop_imm(picture, 0, 0, width, height).to_image();
        imageops::replace(
            &mut sheet,
            &cell,
            i64::from(column * (width + gap)),
            i64::from(row * (height + gap)),
        );
    }
    sheet
}

/// Every pixel as a square of `scale`×`scale`.
pub fn magnified(picture: &RgbImage, scale: u32) -> RgbImage {
    let scale = scale.max(1);
    RgbImage::from_fn(picture.width() * scale, picture.height() * scale, |x, y| {
        *picture.get_pixel(x / scale, y / scale)
    })
}

/// A picture as the bytes of a PNG file.
///
/// # Errors
/// When the picture has no pixels.
pub fn png(picture: &RgbImage) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png)?;
    Ok(bytes.into_inner())
}

/// Bytes of a PNG file as a `data:` address, so that a page needs no file beside it.
pub fn data_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png))
}

/// The values of one pixel.
enum Pixel {
    Grey(f32),
    Colour([f32; 3]),
}

fn paint(values: &[f32], shape: ImageShape, colour: impl Fn(Pixel) -> [u8; 3]) -> RgbImage {
    assert_eq!(values.len(), shape.len(), "an image of {shape} has that many values");
    let plane = shape.height * shape.width;
    RgbImage::from_fn(shape.width as u32, shape.height as u32, |x, y| {
        let at = y as usize * shape.width + x as usize;
        Rgb(colour(if shape.channels >= 3 {
            Pixel::Colour([values[at], values[plane + at], values[2 * plane + at]])
        } else {
            Pixel::Grey(values[at])
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_map_ends_inside_srgb() {
        // Nothing is clipped: the ends keep the hue that they were chosen for.
        for end in [BLUE, ORANGE] {
            let [l, a, b] = end;
            let nudged = srgb([l, a * 1.02, b * 1.02]);
            assert_ne!(nudged, srgb(end), "{end:?} is cut off by the range of sRGB");
            assert!(
                srgb(end).iter().all(|&value| value > 0 && value < 255),
                "{:?}",
                srgb(end)
            );
        }
    }
}
