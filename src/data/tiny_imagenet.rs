//! Tiny ImageNet as published: `train/WNID/images/*.JPEG`, and `val/images` with `val_annotations.txt`, which is the test split
//! here, because the published test pictures have no labels.

use std::{
    collections::HashMap,
    io::Cursor,
    path::{Path, PathBuf},
};

use image::ImageReader;
use rayon::prelude::*;

use super::{
    Dataset, Split,
    error::{DataError, Place, malformed, over},
    files,
};
use crate::{memory::Budget, shapes::ImageShape};

const SIDE: usize = 64;

const ANNOTATIONS: &str = "val_annotations.txt";

/// Reads one split from the folder `tiny-imagenet-200`. Classes are in the order of their WordNet numbers, named by the first word
/// of `words.txt`.
pub fn load(folder: &Path, split: Split, budget: &Budget) -> Result<Dataset, DataError> {
    let train = folder.join("train");
    if !train.is_dir() {
        return Err(missing(folder, "Tiny ImageNet"));
    }
    let classes: Vec<String> = files::list(&train)?
        .iter()
        .filter(|path| path.is_dir())
        .map(|path| files::name(path))
        .collect();
    let pictures: Vec<(PathBuf, u16)> = match split {
        Split::Train => sorted(&train, &classes)?,
        Split::Test => {
            let validation = folder.join("val");
            // Scripts that sort the validation pictures into class folders take the list away.
            match validation.join(ANNOTATIONS).is_file() {
                true => annotated(&validation, &classes, budget)?,
                false => sorted(&validation, &classes)?,
            }
        }
    };
    if pictures.is_empty() {
        return Err(missing(folder, "pictures of Tiny ImageNet"));
    }
    // Each picture by itself, and then all in one.
    budget
        .take((pictures.len() * 2 * 3 * SIDE * SIDE) as u64)
        .map_err(|error| over(folder, format!("{} pictures of {SIDE}×{SIDE}", pictures.len()), error))?;
    let decoded = pictures
        .par_iter()
        .map(|(path, _)| planes(path, budget))
        .collect::<Result<Vec<_>, _>>()?;
    let shape = ImageShape {
        channels: 3,
        height: SIDE,
        width: SIDE,
    };
    let words = words(&folder.join("words.txt"));
    let class_names = classes
        .iter()
        .map(|class| words.get(class).unwrap_or(class).clone())
        .collect();
    let labels = pictures.iter().map(|(_, label)| *label).collect();
    Ok(
        Dataset::from_parts("Tiny ImageNet", shape, class_names, decoded.concat(), labels)?
            .with_notes(vec!["JPEG images: lossy".into()]),
    )
}

fn missing(folder: &Path, what: &str) -> DataError {
    DataError::Missing {
        what: what.into(),
        expected: format!("train/WNID/images, and val/images with val/{ANNOTATIONS} or val/WNID"),
        way_out: "name the unpacked folder tiny-imagenet-200".into(),
        path: folder.into(),
    }
}

/// Pictures in a folder for each class, or in a folder `images` in it.
fn sorted(folder: &Path, classes: &[String]) -> Result<Vec<(PathBuf, u16)>, DataError> {
    let mut pictures = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let own = folder.join(class);
        let images = own.join("images");
        let place = if images.is_dir() { images } else { own };
        if !place.is_dir() {
            continue;
        }
        let found = files::list(&place)?.into_iter().filter(|path| is_jpeg(path));
        pictures.extend(found.map(|path| (path, label as u16)));
    }
    Ok(pictures)
}

fn is_jpeg(path: &Path) -> bool {
    path.extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("jpeg") || ending.eq_ignore_ascii_case("jpg"))
}

/// The validation pictures: a line each, the file's name and its class first.
fn annotated(folder: &Path, classes: &[String], budget: &Budget) -> Result<Vec<(PathBuf, u16)>, DataError> {
    let path = folder.join(ANNOTATIONS);
    let text = String::from_utf8_lossy(&files::read(&path, budget)?).into_owned();
    let mut pictures = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let mut parts = line.split('\t');
        let (name, class) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let label = classes.iter().position(|known| known == class);
        // A name that leads elsewhere is none of this folder's pictures.
        match label.filter(|_| !name.contains(['/', '\\'])) {
            Some(label) => pictures.push((folder.join("images").join(name), label as u16)),
            None => {
                let place = Place::Entry(format!("line {}", number + 1));
                let expected = "a picture's name, a tab, and a class of the training set";
                return Err(malformed(&path, place, expected, line, super::error::FETCH_AGAIN));
            }
        }
    }
    Ok(pictures)
}

/// Names by WordNet number; none where the file is not there.
fn words(path: &Path) -> HashMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (number, names) = line.split_once('\t')?;
            Some((number.to_string(), names.split(',').next()?.trim().to_string()))
        })
        .collect()
}

/// A picture in a red, a green and a blue plane; the grey ones of the set too.
fn planes(path: &Path, budget: &Budget) -> Result<Vec<u8>, DataError> {
    let way_out = "replace the picture or remove it";
    let refuse = |got: String| malformed(path, Place::File, "a whole JPEG picture of 64×64", got, way_out);
    let bytes = files::read(path, budget)?;
    let taken = bytes.len() as u64;
    let mut reader = ImageReader::new(Cursor::new(bytes));
    reader.set_format(image::ImageFormat::Jpeg);
    let mut limits = image::Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(SIDE as u32), Some(SIDE as u32));
    reader.limits(limits);
    let image = reader.decode().map_err(|error| refuse(error.to_string()))?.into_rgb8();
    budget.give_back(taken);
    if image.dimensions() != (SIDE as u32, SIDE as u32) {
        return Err(refuse(format!("{}×{}", image.width(), image.height())));
    }
    let values = image.into_raw();
    Ok((0..3)
        .flat_map(|channel| values.iter().skip(channel).step_by(3).copied().collect::<Vec<_>>())
        .collect())
}
