//! What is shared of a duel: a picture, a moving picture of all radii, and a file that opens the same duel again.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use image::{
    Delay, DynamicImage, Frame,
    codecs::gif::{GifEncoder, Repeat},
};
use serde::{Deserialize, Serialize};

use super::{
    Duel, Grid,
    poster::{Scene, Side, poster},
};
use crate::{
    app::{
        lab::{Specimen, Trace},
        theme,
    },
    files,
    recipe::Recipe,
    report::pictures,
    shapes::ImageShape,
};

/// How long a radius shows in the moving picture; the last one longer.
const FRAME: Duration = Duration::from_millis(140);
/// The moving picture's size against the picture's.
const SMALL: f32 = 0.5;

/// A duel as a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The version of the format: 1.
    pub duel: u32,
    /// The attack, as suites write it.
    pub attack: String,
    /// The radius, by its place among the slider's.
    pub place: usize,
    /// The picture.
    pub picture: SharedPicture,
    /// The network on the left.
    pub left: SharedNetwork,
    /// The network on the right.
    pub right: SharedNetwork,
}

/// A picture in a duel's file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedPicture {
    /// Where it comes from.
    pub title: String,
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Its true class, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<usize>,
    /// The names of the classes.
    pub classes: Vec<String>,
    /// Its values, two hexadecimal digits each, channel by channel and row by row.
    pub pixels: String,
}

/// A network in a duel's file: its recipe trains it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedNetwork {
    /// The run that it comes from, where it does not ship with the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The recipe.
    pub recipe: Recipe,
}

impl File {
    /// Reads a duel's file; none where the text is something else, such as a recipe.
    pub fn read(text: &str) -> Option<Result<Self>> {
        let table: toml::Table = toml::from_str(text).ok()?;
        table.contains_key("duel").then(|| {
            let file: Self = toml::from_str(text)?;
            ensure!(
                file.duel == 1,
                "expected a duel of version 1, got version {}",
                file.duel
            );
            Ok(file)
        })
    }

    fn to_toml(&self) -> Result<String> {
        let text = toml::to_string(self)?;
        Ok(format!(
            "# A duel of Martlet: drop this file on its window to open it.\n{text}"
        ))
    }
}

impl SharedPicture {
    fn of(specimen: &Specimen) -> Self {
        let ImageShape {
            channels,
            height,
            width,
        } = specimen.shape;
        let pixels = specimen.pixels.iter();
        Self {
            title: specimen.title.clone(),
            shape: [channels, height, width],
            label: specimen.label,
            classes: specimen.classes.clone(),
            pixels: pixels
                .map(|value| format!("{:02x}", (value * 255.0).round() as u8))
                .collect(),
        }
    }

    /// The picture.
    ///
    /// # Errors
    /// Where the values are damaged or not as many as the shape says.
    pub fn specimen(&self) -> Result<Specimen> {
        let [channels, height, width] = self.shape;
        let shape = ImageShape {
            channels,
            height,
            width,
        };
        let digits = self.pixels.as_bytes();
        ensure!(
            digits.len() == 2 * shape.len(),
            "expected {} values of a picture of {shape}, got {}",
            shape.len(),
            digits.len() / 2
        );
        let value = |pair: &[u8]| -> Result<f32> {
            let text = std::str::from_utf8(pair)?;
            Ok(
                f32::from(u8::from_str_radix(text, 16).with_context(|| format!("expected two digits, got {text}"))?)
                    / 255.0,
            )
        };
        Ok(Specimen {
            title: self.title.clone(),
            pixels: digits.chunks(2).map(value).collect::<Result<_>>()?,
            shape,
            label: self.label,
            classes: self.classes.clone(),
        })
    }
}

/// A duel as it stands, to be written on another thread.
pub struct Sharing {
    file: File,
    specimen: Specimen,
    grid: Grid,
    dark: bool,
    sides: [Shared; 2],
}

/// A side with what was found at each radius.
struct Shared {
    name: String,
    defence: &'static str,
    falls: Option<usize>,
    bouts: Vec<(usize, Trace)>,
}

impl Sharing {
    /// What stands on the stage; none where a side is still empty.
    pub fn of(duel: &Duel, dark: bool) -> Option<Self> {
        let specimen = duel.picture.as_deref()?.clone();
        let side = |corner: usize| {
            let own = &duel.corners[corner];
            let fighter = own.fighter.as_ref()?;
            let bouts: Vec<(usize, Trace)> = own.bouts().map(|bout| (bout.place, bout.trace.clone())).collect();
            (!bouts.is_empty()).then(|| Shared {
                name: theme::defence_title(fighter.defence()),
                defence: fighter.defence().name(),
                falls: own.falls(&specimen).map(|(place, _)| place),
                bouts,
            })
        };
        let network = |corner: usize| {
            let fighter = duel.corners[corner].fighter.as_ref()?;
            let run = fighter.run.as_ref().and_then(|run| run.file_name());
            Some(SharedNetwork {
                run: run.map(|run| run.to_string_lossy().into_owned()),
                recipe: fighter.recipe.clone(),
            })
        };
        Some(Self {
            file: File {
                duel: 1,
                attack: duel.attack.to_string(),
                place: duel.place,
                picture: SharedPicture::of(&specimen),
                left: network(super::LEFT)?,
                right: network(super::RIGHT)?,
            },
            sides: [side(super::LEFT)?, side(super::RIGHT)?],
            grid: duel.grid.clone(),
            specimen,
            dark,
        })
    }

    /// Writes the picture at `path`, and beside it under the same name the moving picture (`.gif`) and the duel (`.toml`).
    ///
    /// # Errors
    /// Where the disk fails.
    pub fn write(&self, path: &Path) -> Result<[PathBuf; 3]> {
        let paths = ["png", "gif", "toml"].map(|extension| path.with_extension(extension));
        let [png, gif, toml] = &paths;
        let write = |path: &Path, bytes: &[u8]| files::save(path, bytes).with_context(|| path.display().to_string());
        write(png, &pictures::png(&self.frame(self.file.place, 1.5))?)?;
        write(gif, &self.sweep()?)?;
        write(toml, self.file.to_toml()?.as_bytes())?;
        Ok(paths)
    }

    fn frame(&self, place: usize, scale: f32) -> image::RgbImage {
        let sides = self.sides.each_ref().map(|side| {
            let nearest = side.bouts.iter().min_by_key(|(own, _)| own.abs_diff(place));
            // Nothing is shared without an attack on each side.
            Side {
                name: side.name.clone(),
                defence: side.defence,
                trace: nearest.map_or_else(|| &side.bouts[0].1, |(_, trace)| trace),
                falls: side.falls,
            }
        });
        let scene = Scene {
            sides,
            specimen: &self.specimen,
            grid: &self.grid,
            place,
            attack: self.file.attack.to_uppercase(),
            dark: self.dark,
        };
        poster(&scene, scale)
    }

    /// Every radius that is known on both sides, from small to large and back.
    fn sweep(&self) -> Result<Vec<u8>> {
        let known = |place: &usize| {
            self.sides
                .iter()
                .all(|side| side.bouts.iter().any(|(own, _)| own == place))
        };
        let places: Vec<usize> = (0..self.grid.len()).filter(known).collect();
        let mut bytes = Vec::new();
        let mut encoder = GifEncoder::new_with_speed(&mut bytes, 10);
        encoder.set_repeat(Repeat::Infinite)?;
        for place in &places {
            let is_end = Some(place) == places.last() || Some(place) == places.first();
            let shown = if is_end { 5 * FRAME } else { FRAME };
            let image = DynamicImage::ImageRgb8(self.frame(*place, SMALL)).into_rgba8();
            encoder.encode_frame(Frame::from_parts(image, 0, 0, Delay::from_saturating_duration(shown)))?;
        }
        drop(encoder);
        Ok(bytes)
    }
}

/// Reads a duel's file.
///
/// # Errors
/// Where there is none, or it is damaged.
pub fn read(path: &Path) -> Option<Result<File>> {
    File::read(&fs::read_to_string(path).ok()?)
}
