//! The pictures to choose from.

use std::{path::Path, sync::Arc};

use egui::{ColorImage, Context, TextureHandle, TextureOptions};

use crate::{
    app::lab::{self, Specimen},
    data::{self, Dataset, Split},
    report::pictures,
    shapes::ImageShape,
};

/// Pictures on the shelf: of the built-in characters alone, and of each data set where there are two.
const COUNTS: [usize; 2] = [10, 8];
/// The character that shows at first: one that tells the two networks apart.
const FIRST: usize = 7;
/// Where MNIST is looked for, beside where the recipe has it.
const FOLDERS: [&str; 2] = ["data/mnist", "mnist"];

/// The pictures to choose from.
#[derive(Default)]
pub struct Shelf {
    /// The pictures.
    pub pictures: Vec<Arc<Specimen>>,
    /// The same as the window draws them.
    pub thumbnails: Vec<TextureHandle>,
    /// MNIST as a source of data, where it was found.
    pub mnist: Option<String>,
}

impl Shelf {
    /// The first test characters, and MNIST's first test digits where MNIST lies where it is looked for.
    ///
    /// # Errors
    /// As [`data::load`] of the built-in characters.
    pub fn built_in(recipe_source: &str) -> anyhow::Result<Self> {
        let characters = data::load("glyphs", Split::Test)?;
        let own = recipe_source.starts_with("mnist:").then(|| recipe_source.to_string());
        let folders = FOLDERS.iter().filter(|folder| Path::new(folder).is_dir());
        let mut sources = own.into_iter().chain(folders.map(|folder| format!("mnist:{folder}")));
        let found = sources.find_map(|source| Some((data::load(&source, Split::Test).ok()?, source)));
        let (digits, mnist) = found.unzip();
        let count = COUNTS[usize::from(digits.is_some())];
        let both = std::iter::once(&characters).chain(&digits);
        let pictures = both.flat_map(|data| some(data, count)).collect();
        Ok(Self {
            pictures,
            mnist,
            thumbnails: Vec::new(),
        })
    }

    /// Brings the pictures to the window, once.
    pub fn upload(&mut self, ctx: &Context) {
        let thumbnail = |picture: &Arc<Specimen>| {
            let drawn = pictures::picture(&picture.pixels, picture.shape);
            let size = [drawn.width() as usize, drawn.height() as usize];
            let image = ColorImage::from_rgb(size, drawn.as_raw());
            ctx.load_texture(&picture.title, image, TextureOptions::NEAREST)
        };
        self.thumbnails = self.pictures.iter().map(thumbnail).collect();
    }

    /// The picture that shows at first.
    pub fn first(&self) -> usize {
        FIRST.min(self.pictures.len().saturating_sub(1))
    }
}

/// A person's own picture as the networks take it: scaled, and where they know light ink on dark paper and the picture has
/// it the other way round, turned into its negative.
///
/// # Errors
/// Where the file is no picture.
pub fn own(path: &Path, shape: ImageShape, classes: Vec<String>) -> anyhow::Result<Specimen> {
    let mut specimen = lab::own_picture(path, shape, classes).map_err(anyhow::Error::msg)?;
    if shape.channels == 1 {
        let is_rim = |place: &usize| {
            let (row, column) = (place / shape.width, place % shape.width);
            row == 0 || column == 0 || row + 1 == shape.height || column + 1 == shape.width
        };
        let rim: Vec<f32> = (0..shape.len())
            .filter(is_rim)
            .map(|place| specimen.pixels[place])
            .collect();
        if rim.iter().sum::<f32>() > 0.5 * rim.len() as f32 {
            for value in &mut specimen.pixels {
                *value = 1.0 - *value;
            }
            specimen.title += ", as a negative";
        }
    }
    Ok(specimen)
}

/// The first pictures of a data set.
fn some(data: &Dataset, count: usize) -> Vec<Arc<Specimen>> {
    let positions = 0..count.min(data.len());
    positions
        .map(|position| Arc::new(lab::specimen(data, position)))
        .collect()
}
