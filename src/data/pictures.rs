//! Pictures of a folder: decoded on every core, turned, scaled and cropped, within a budget of memory.

use std::{io::Cursor, path::Path};

use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageReader, imageops::FilterType, metadata::Orientation,
};

use super::{
    Preparation, Split,
    error::{DataError, Place, malformed, over},
    folder::Source,
};
use crate::memory::Budget;

/// Rows or columns of the largest picture that is learned as it is.
const LARGEST_SIDE: u32 = 4_096;

/// Rows or columns of the largest picture that is read to be scaled.
const LARGEST_SCALED: u32 = 65_535;

/// One picture's place in the set.
pub struct Picture {
    /// Position among the source's names.
    pub entry: usize,
    pub split: Option<Split>,
    pub class: u16,
}

/// A picture in 8 bits a value, grey or red, green and blue.
pub struct Decoded {
    pub image: DynamicImage,
    /// Whether it has transparent parts.
    pub transparent: bool,
    /// Whether its file has more bits a value.
    pub deep: bool,
}

/// How pictures are decoded: those of one source, on every core.
pub struct Decoding<'a> {
    pub path: &'a Path,
    pub preparation: &'a Preparation,
    pub budget: &'a Budget,
}

impl Decoding<'_> {
    /// All pictures; the first error in their order is the one that is told. Nothing is decoded whose size is not the first one's.
    pub fn all(&self, source: &Source, wanted: &[&Picture]) -> Result<Vec<Decoded>, DataError> {
        let first = self.one(&mut source.clone(), wanted[0].entry, None)?;
        let size = (first.image.width(), first.image.height());
        let bytes = first.image.as_bytes().len() as u64;
        // Each by itself, and then all in one. A colour picture among grey ones takes more, and says so itself.
        self.budget
            .take(bytes.saturating_mul(2 * wanted.len() as u64))
            .map_err(|error| {
                let (width, height) = size;
                over(
                    self.path,
                    format!("{} pictures of {width}×{height}", wanted.len()),
                    error,
                )
            })?;
        let expected = Some((size, source.names()[wanted[0].entry].as_str(), bytes));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let share = wanted.len().div_ceil(threads);
        let parts = std::thread::scope(|scope| {
            let running: Vec<_> = wanted
                .chunks(share)
                .map(|part| {
                    let mut source = source.clone();
                    scope.spawn(move || {
                        part.iter()
                            .map(|picture| self.one(&mut source, picture.entry, expected))
                            .collect()
                    })
                })
                .collect();
            let joined = running
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            joined.collect::<Vec<Result<Vec<Decoded>, DataError>>>()
        });
        let mut decoded = Vec::with_capacity(wanted.len());
        for part in parts {
            decoded.extend(part?);
        }
        Ok(decoded)
    }

    /// One picture, turned as its file asks for, prepared, and laid on white where it is transparent. `expected` is the size that it
    /// must have, whose size that is, and the bytes that are counted for it already.
    fn one(
        &self,
        source: &mut Source,
        position: usize,
        expected: Option<((u32, u32), &str, u64)>,
    ) -> Result<Decoded, DataError> {
        let bytes = source.read(position, self.path, self.budget)?;
        let file = bytes.len() as u64;
        let place = || Place::Entry(source.names()[position].clone());
        let refuse = |error: String| {
            let way_out = "replace the picture or remove it";
            malformed(self.path, place(), "a whole picture", error, way_out)
        };
        if breaks_off(&bytes) {
            return Err(refuse("a JPEG picture that breaks off before its end".into()));
        }
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|error| refuse(error.to_string()))?;
        let mut limits = image::Limits::default();
        let largest = if self.preparation.is_none() {
            LARGEST_SIDE
        } else {
            LARGEST_SCALED
        };
        limits.max_image_width = Some(largest);
        limits.max_image_height = Some(largest);
        limits.max_alloc = Some(
            self.budget
                .left()
                .saturating_add(expected.map_or(0, |(_, _, bytes)| bytes)),
        );
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|error| match error {
            ImageError::Limits(_) if self.preparation.is_none() => malformed(
                self.path,
                place(),
                format!("a picture of at most {LARGEST_SIDE}×{LARGEST_SIDE} pixels"),
                error.to_string(),
                "let pictures be scaled (--resize 224), or scale them yourself",
            ),
            error => refuse(error.to_string()),
        })?;
        if matches!(decoder.color_type(), ColorType::Rgb32F | ColorType::Rgba32F) {
            return Err(malformed(
                self.path,
                place(),
                "a picture of whole numbers",
                "floating-point values, which have no agreed white",
                "scale the values to 0..1 yourself and save them in an .npz file",
            ));
        }
        let turn = decoder.orientation().map_err(|error| refuse(error.to_string()))?;
        let (width, height) = match turn {
            Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH => {
                let (width, height) = decoder.dimensions();
                (height, width)
            }
            _ => decoder.dimensions(),
        };
        let prepared = self.preparation.size(width, height);
        if let Some((size, whose, _)) = expected
            && prepared != Some(size)
        {
            let expected = format!("{}×{} pixels, as {whose} has", size.0, size.1);
            let way_out = "scale all pictures to one size, or let them be scaled (--resize N)";
            return Err(malformed(
                self.path,
                place(),
                expected,
                format!("{width}×{height}"),
                way_out,
            ));
        }
        if prepared.is_none() {
            let expected = format!("a picture that the middle can be taken of ({})", self.preparation);
            let way_out = "take a smaller middle (--center-crop), or scale the pictures first (--resize)";
            return Err(malformed(
                self.path,
                place(),
                expected,
                format!("{width}×{height}"),
                way_out,
            ));
        }
        // What a picture takes before it is prepared is free again afterwards.
        let whole = decoder.total_bytes();
        let counted = match expected {
            Some((_, _, bytes)) => whole.saturating_sub(bytes),
            None => whole,
        };
        self.budget.take(counted).map_err(|error| {
            over(
                self.path,
                format!("{} of {width}×{height}", source.names()[position]),
                error,
            )
        })?;
        let deep = {
            let color = decoder.original_color_type();
            color.bits_per_pixel() / u16::from(color.channel_count()).max(1) > 8
        };
        let mut image = DynamicImage::from_decoder(decoder).map_err(|error| refuse(error.to_string()))?;
        image.apply_orientation(turn);
        let image = self.preparation.apply(image);
        let (image, transparent) = flat(image);
        let kept = image.as_bytes().len() as u64;
        self.budget.give_back(file + counted);
        if let Some((_, _, bytes)) = expected.filter(|(_, _, bytes)| kept > *bytes) {
            let more = 2 * (kept - bytes);
            self.budget
                .take(more)
                .map_err(|error| over(self.path, format!("{} in colour", source.names()[position]), error))?;
        }
        Ok(Decoded {
            image,
            transparent,
            deep,
        })
    }
}

impl Preparation {
    /// The size that a picture of `width`×`height` is prepared to; none where its middle cannot be taken.
    fn size(&self, width: u32, height: u32) -> Option<(u32, u32)> {
        let (scaled, crop) = self.steps(width, height);
        match crop {
            None => Some(scaled),
            Some(crop) => (crop > 0 && crop <= scaled.0 && crop <= scaled.1).then_some((crop, crop)),
        }
    }

    /// The size after scaling, and the side of the middle square that is taken then.
    fn steps(&self, width: u32, height: u32) -> ((u32, u32), Option<u32>) {
        let side = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let crop = self.center_crop.or(self.resize).map(side);
        let Some(resize) = self.resize.map(side) else {
            return ((width, height), crop);
        };
        let long = |shorter: u32, longer: u32| {
            let scaled = u64::from(resize) * u64::from(longer) / u64::from(shorter.max(1));
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        let scaled = match width <= height {
            true => (resize, long(width, height)),
            false => (long(height, width), resize),
        };
        (scaled, crop)
    }

    fn apply(&self, image: DynamicImage) -> DynamicImage {
        let (size, crop) = self.steps(image.width(), image.height());
        let scaled = match size == (image.width(), image.height()) {
            true => image,
            false => image.resize_exact(size.0, size.1, FilterType::Triangle),
        };
        // As torchvision's CenterCrop: the half goes to the even side.
        let from = |side: u32, crop: u32| {
            let rest = side.saturating_sub(crop);
            rest / 2 + u32::from(rest % 4 == 3)
        };
        match crop {
            Some(crop) if (crop, crop) != size => scaled.crop_imm(from(size.0, crop), from(size.1, crop), crop, crop),
            _ => scaled,
        }
    }
}

/// A picture in 8 bits a value, grey or red, green and blue, laid on white; and whether that made a difference.
fn flat(image: DynamicImage) -> (DynamicImage, bool) {
    let has_color = image.color().has_color();
    let (mut image, mut transparent) = (image, false);
    if image.color().has_alpha() {
        let mut pixels = image.into_rgba8();
        for pixel in pixels.pixels_mut() {
            let [.., alpha] = pixel.0;
            transparent |= alpha < 255;
            let on_white = |value: u8| {
                let (value, alpha) = (u32::from(value), u32::from(alpha));
                ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
            };
            pixel.0 = [on_white(pixel.0[0]), on_white(pixel.0[1]), on_white(pixel.0[2]), 255];
        }
        image = DynamicImage::ImageRgba8(pixels);
    }
    let image = match has_color {
        true => DynamicImage::ImageRgb8(image.into_rgb8()),
        false => DynamicImage::ImageLuma8(image.into_luma8()),
    };
    (image, transparent)
}

/// Whether a JPEG file has no mark of its end behind its picture. Decoders fill what is missing with grey and say nothing.
fn breaks_off(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xDA;
    const END: u8 = 0xD9;
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return false;
    }
    let mut at = 2;
    while let Some([0xFF, marker]) = bytes.get(at..at + 2) {
        match *marker {
            END => return false,
            0xFF => at += 1,
            0x01 | 0xD0..=0xD8 => at += 2,
            marker => {
                let Some([high, low]) = bytes.get(at + 2..at + 4) else {
                    return true;
                };
                at += 2 + usize::from(u16::from_be_bytes([*high, *low]));
                if marker == START_OF_SCAN {
                    // In a scan a mark is FF before anything but 00 and the eight marks of a restart.
                    let rest = bytes.get(at..).unwrap_or_default();
                    let next = rest
                        .windows(2)
                        .position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF | 0xD0..=0xD7));
                    let Some(next) = next else { return true };
                    at += next;
                }
            }
        }
    }
    true
}
