//! A folder of pictures, or a zip of one: `{train,test}/CLASS/PICTURE`, or `CLASS/PICTURE` for one set without a split.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use image::DynamicImage;
use unicode_normalization::UnicodeNormalization;

use super::{
    Dataset, Preparation, Split,
    archive::{self, Archive},
    error::{DataError, FETCH_AGAIN, Place, malformed},
    files,
    pictures::{Decoding, Picture},
};
use crate::{memory::Budget, shapes::ImageShape, wording::counted};

/// What files of pictures end in.
pub const ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff"];

/// Deeper than this no folder of pictures goes; it stops at links in a circle.
const DEEPEST: usize = 8;

/// CIFAR-10's class names, by which a copy of it in JPEG is recognised.
const CIFAR10: [&str; 10] = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
];

/// Reads one split. Classes are sorted by name and pictures by path; a set is grey if all its pictures are, whatever
/// some of them were saved as.
pub fn load(path: &Path, split: Split, preparation: &Preparation, budget: &Budget) -> Result<Dataset, DataError> {
    let source = Source::open(path, budget)?;
    let tree = Tree::of(source.names(), path)?;
    tree.check_classes(source.others(), path)?;
    let wanted: Vec<&Picture> = tree
        .pictures
        .iter()
        .filter(|picture| picture.split.is_none_or(|s| s == split))
        .collect();
    if wanted.is_empty() || (split == Split::Test && !tree.has_splits) {
        if split == Split::Train {
            return Err(missing(path, "training pictures"));
        }
        let got = format!("{} pictures without a folder `test`", tree.pictures.len());
        return Err(DataError::NoTestSplit { got, path: path.into() });
    }

    let decoded = Decoding {
        path,
        preparation,
        budget,
    }
    .all(&source, &wanted)?;
    let seen_through = decoded.iter().filter(|picture| picture.transparent).count();
    let deep = decoded.iter().filter(|picture| picture.deep).count();
    let decoded: Vec<DynamicImage> = decoded.into_iter().map(|picture| picture.image).collect();
    let (height, width) = (decoded[0].height() as usize, decoded[0].width() as usize);
    let grey = are_grey(&decoded);
    let shape = ImageShape {
        channels: if grey { 1 } else { 3 },
        height,
        width,
    };
    let mut images = Vec::with_capacity(wanted.len() * shape.len());
    for image in decoded {
        if grey {
            images.extend(image.into_luma8().into_raw());
        } else {
            planes(&image.into_rgb8().into_raw(), &mut images);
        }
    }

    let labels: Vec<u16> = wanted.iter().map(|picture| picture.class).collect();
    let is_kind = |endings: &[&str]| {
        wanted
            .iter()
            .any(|picture| ends_in(&source.names()[picture.entry], endings))
    };
    let lossy = is_kind(&["jpg", "jpeg"]);
    let is_cifar = tree.classes == CIFAR10 && (height, width) == (32, 32);
    let name = match (is_cifar, lossy) {
        (true, true) => "CIFAR-10 (JPEG copy)".into(),
        _ => path
            .file_stem()
            .map_or("folder".into(), |stem| stem.to_string_lossy().into_owned()),
    };
    let mut notes = match (lossy, is_cifar) {
        (true, true) => vec!["JPEG copy: figures are not comparable with published CIFAR-10 figures".into()],
        (true, false) => vec!["JPEG images: lossy".into()],
        _ => Vec::new(),
    };
    notes.extend(tree.notes(&labels, split));
    notes.extend(source.unread());
    if is_kind(&["webp"]) {
        notes.push("WebP images: most are lossy".into());
    }
    if is_kind(&["gif"]) {
        notes.push("GIF images: the first frame of each, in at most 256 colours".into());
    }
    if is_kind(&["tif", "tiff"]) {
        notes.push("TIFF images: the first page of each".into());
    }
    if deep > 0 {
        let pictures = counted(deep, "picture", "pictures");
        notes.push(format!("{pictures} of more than 8 bits a value, rounded to 8"));
    }
    if !preparation.is_none() {
        notes.push(preparation.to_string());
    }
    if seen_through > 0 {
        let pictures = counted(seen_through, "picture", "pictures");
        notes.push(format!("{pictures} with transparent parts, laid on white"));
    }
    Ok(Dataset::from_parts(name, shape, tree.classes, images, labels)?.with_notes(notes))
}

fn missing(path: &Path, what: &str) -> DataError {
    DataError::Missing {
        what: what.into(),
        expected:
            "train/CLASS/PICTURE and test/CLASS/PICTURE, or CLASS/PICTURE, in .png, .jpg, .webp, .bmp, .gif or .tif"
                .into(),
        way_out: "name the folder (or the .zip of it) that holds one folder for each class".into(),
        path: path.into(),
    }
}

/// Whether all pictures are grey, or some are and the others have colours to say the same: a grey one that a program saved with three
/// channels among grey ones is no reason to learn three times the values.
fn are_grey(pictures: &[DynamicImage]) -> bool {
    let is_saved_grey = |picture: &DynamicImage| matches!(picture, DynamicImage::ImageLuma8(_));
    let is_grey = |picture: &DynamicImage| match picture {
        DynamicImage::ImageRgb8(pixels) => pixels
            .pixels()
            .all(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2]),
        picture => is_saved_grey(picture),
    };
    pictures.iter().any(is_saved_grey) && pictures.iter().all(is_grey)
}

/// Red, green, blue of each pixel in turn, into a red, a green and a blue plane.
fn planes(interleaved: &[u8], out: &mut Vec<u8>) {
    for channel in 0..3 {
        out.extend(interleaved.iter().skip(channel).step_by(3));
    }
}

/// Where the pictures are: names with `/` between folders, sorted, and a way to read each. Every thread clones its own.
#[derive(Clone)]
pub(super) enum Source {
    Folder {
        root: PathBuf,
        names: Vec<String>,
        others: Vec<String>,
    },
    /// `entries` are numbers in the zip's directory, in the order of `names`.
    Zip {
        archive: Archive,
        names: Vec<String>,
        entries: Vec<usize>,
        others: Vec<String>,
    },
}

/// Pictures in formats that are not read.
const UNREAD: [&str; 5] = ["heic", "heif", "avif", "jp2", "ppm"];

impl Source {
    fn open(path: &Path, budget: &Budget) -> Result<Self, DataError> {
        if path.is_dir() {
            let (mut names, mut others) = (Vec::new(), Vec::new());
            walk(path, "", 0, &mut names, &mut others)?;
            names.sort();
            return Ok(Source::Folder {
                root: path.into(),
                names,
                others,
            });
        }
        if !path.exists() {
            return Err(missing(path, "folder or .zip of pictures"));
        }
        let refuse = |error: zip::result::ZipError| {
            malformed(
                path,
                Place::File,
                "a folder, or a whole .zip archive",
                error.to_string(),
                FETCH_AGAIN,
            )
        };
        let mut archive = archive::open(path, "a folder, or a whole .zip archive", budget)?;
        let (mut pictures, mut others) = (Vec::new(), Vec::new());
        for entry in 0..archive.len() {
            let file = archive.by_index_raw(entry).map_err(refuse)?;
            let name = file.name().map_err(refuse)?;
            // Some programs for Windows write its own separator into archives.
            let name = name.replace('\\', "/");
            if file.is_file() && ends_in(&name, &ENDINGS) {
                pictures.push((name, entry));
            } else if file.is_file() && ends_in(&name, &UNREAD) {
                others.push(name);
            }
        }
        pictures.sort();
        let (names, entries) = pictures.into_iter().unzip();
        Ok(Source::Zip {
            archive,
            names,
            entries,
            others,
        })
    }

    /// A remark on pictures that were left out since their format is not read.
    fn unread(&self) -> Option<String> {
        let (Source::Folder { others, .. } | Source::Zip { others, .. }) = self;
        let first = others.first()?;
        let pictures = counted(others.len(), "picture", "pictures");
        Some(format!(
            "{pictures} left out whose format is not read, such as {first}; convert them to PNG"
        ))
    }

    fn others(&self) -> &[String] {
        let (Source::Folder { others, .. } | Source::Zip { others, .. }) = self;
        others
    }

    pub(super) fn names(&self) -> &[String] {
        match self {
            Source::Folder { names, .. } | Source::Zip { names, .. } => names,
        }
    }

    /// The bytes of one picture's file.
    pub(super) fn read(&mut self, position: usize, path: &Path, budget: &Budget) -> Result<Vec<u8>, DataError> {
        match self {
            Source::Folder { root, names, .. } => files::read(&root.join(&names[position]), budget),
            Source::Zip { archive, entries, .. } => archive::read(archive, entries[position], path, budget),
        }
    }
}

/// Whether a name has one of these endings, and no part of it is hidden.
fn ends_in(name: &str, endings: &[&str]) -> bool {
    let ending = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    endings.contains(&ending.as_str()) && !name.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

/// Collects the names of the pictures below `root`, relative to it.
fn walk(
    root: &Path,
    below: &str,
    depth: usize,
    names: &mut Vec<String>,
    others: &mut Vec<String>,
) -> Result<(), DataError> {
    if depth > DEEPEST {
        return Ok(());
    }
    for path in files::list(&root.join(below))? {
        let name = match below {
            "" => files::name(&path),
            _ => format!("{below}/{}", files::name(&path)),
        };
        if path.is_dir() {
            walk(root, &name, depth + 1, names, others)?;
        } else if ends_in(&name, &ENDINGS) {
            names.push(name);
        } else if ends_in(&name, &UNREAD) {
            others.push(name);
        }
    }
    Ok(())
}

/// What the names say.
struct Tree {
    classes: Vec<String>,
    pictures: Vec<Picture>,
    has_splits: bool,
    /// Pictures of a folder `val` beside `train` and `test`, or of one that stands in for `test`.
    validation: Validation,
}

/// What became of a folder of validation pictures.
enum Validation {
    None,
    /// There is no test folder: they are the test pictures.
    IsTest,
    /// There is one: they are left out.
    LeftOut(usize),
}

/// The part that a folder's name stands for, in any case of letters.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Train,
    Validation,
    Test,
}

fn part_of(folder: &str) -> Option<Part> {
    Some(match folder.to_lowercase().as_str() {
        "train" | "training" => Part::Train,
        "val" | "valid" | "validation" => Part::Validation,
        "test" | "testing" => Part::Test,
        _ => return None,
    })
}

impl Tree {
    /// Remarks on classes that a split lacks, and on validation pictures.
    fn notes(&self, labels: &[u16], split: Split) -> Vec<String> {
        let mut notes = Vec::new();
        let absent = |class: &usize| !labels.contains(&(*class as u16));
        let absent: Vec<&str> = (0..self.classes.len())
            .filter(absent)
            .map(|class| self.classes[class].as_str())
            .collect();
        if !absent.is_empty() {
            let what = if split == Split::Train { "training" } else { "test" };
            notes.push(format!("no {what} picture of {}", absent.join(", ")));
        }
        match (&self.validation, split) {
            (Validation::IsTest, Split::Test) => {
                notes.push("the folder of validation pictures stands in for a test set".into());
            }
            (Validation::LeftOut(count), _) => notes.push(format!(
                "{} left out",
                counted(*count, "validation picture", "validation pictures")
            )),
            _ => {}
        }
        notes
    }

    /// Refuses classes that are probably one, and those that vanish since none of their pictures is read.
    fn check_classes(&self, unread: &[String], path: &Path) -> Result<(), DataError> {
        // An accent may be part of its letter or a mark behind it.
        let plain = |name: &str| name.nfc().collect::<String>().to_lowercase();
        if !self.has_splits && self.classes.iter().all(|class| part_of(class).is_some()) {
            return Err(malformed(
                path,
                Place::File,
                "folders of classes, as train/CLASS/PICTURE or CLASS/PICTURE",
                format!("pictures straight in {}", self.classes.join(" and ")),
                "sort the pictures into a folder for each class",
            ));
        }
        for (place, class) in self.classes.iter().enumerate() {
            let like = |other: &&String| plain(other) == plain(class);
            if let Some(other) = self.classes[place + 1..].iter().find(like) {
                return Err(malformed(
                    path,
                    Place::File,
                    "classes that differ by more than the case or the form of their letters",
                    format!("{class} and {other}"),
                    "give the folders of one class one name",
                ));
            }
        }
        let class_of = |name: &String| name.rsplit('/').nth(1).unwrap_or_default().to_string();
        if let Some(lost) = unread
            .iter()
            .find(|name| !self.classes.contains(&class_of(name)) && !class_of(name).is_empty())
        {
            return Err(malformed(
                path,
                Place::Entry(lost.clone()),
                "pictures that are read here in the folder of every class",
                format!("only others in {}", class_of(lost)),
                "convert them to PNG",
            ));
        }
        Ok(())
    }

    fn of(names: &[String], path: &Path) -> Result<Tree, DataError> {
        let mut parts: Vec<Vec<&str>> = names.iter().map(|name| name.split('/').collect()).collect();
        // A zip often holds one folder that holds everything: look below it.
        while let Some(first) = parts.first().map(|parts| parts[0])
            && part_of(first).is_none()
            && parts.iter().all(|parts| parts.len() > 2 && parts[0] == first)
        {
            for parts in &mut parts {
                parts.remove(0);
            }
        }
        if parts.is_empty() {
            return Err(missing(path, "pictures"));
        }
        let has_splits = parts
            .iter()
            .any(|parts| parts.len() == 3 && part_of(parts[0]).is_some());
        let has = |part: Part| {
            parts
                .iter()
                .any(|parts| parts.len() == 3 && part_of(parts[0]) == Some(part))
        };
        let has_test = has(Part::Test);
        let split_of = |folder: &str| match part_of(folder)? {
            Part::Train => Some(Some(Split::Train)),
            Part::Test => Some(Some(Split::Test)),
            Part::Validation if has_test => Some(None),
            Part::Validation => Some(Some(Split::Test)),
        };
        let mut left_out = 0;
        let mut placed = Vec::with_capacity(parts.len());
        for (entry, parts) in parts.iter().enumerate() {
            placed.push(match (has_splits, &parts[..]) {
                (true, [split, _, _]) if split_of(split) == Some(None) => {
                    left_out += 1;
                    continue;
                }
                (true, [split, class, _]) if split_of(split).is_some() => (entry, split_of(split).flatten(), *class),
                (false, [class, _]) => (entry, None, *class),
                _ => {
                    let expected = if has_splits {
                        "train/CLASS/PICTURE or test/CLASS/PICTURE"
                    } else {
                        "CLASS/PICTURE"
                    };
                    let place = Place::Entry(names[entry].clone());
                    let way_out = "move the picture into its class's folder, or out of the tree";
                    return Err(malformed(path, place, expected, parts.join("/"), way_out));
                }
            });
        }
        let classes: Vec<&str> = placed
            .iter()
            .map(|(_, _, class)| *class)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        if classes.len() > usize::from(u16::MAX) {
            let got = format!("{} folders", classes.len());
            return Err(malformed(
                path,
                Place::File,
                "at most 65,535 classes",
                got,
                "name a folder of classes",
            ));
        }
        let class_of = |class: &str| classes.binary_search(&class).unwrap_or_default() as u16;
        let pictures = placed.iter().map(|(entry, split, class)| Picture {
            entry: *entry,
            split: *split,
            class: class_of(class),
        });
        Ok(Tree {
            pictures: pictures.collect(),
            classes: classes.iter().map(|c| c.to_string()).collect(),
            has_splits,
            validation: match (has(Part::Validation), has_test) {
                (false, _) => Validation::None,
                (true, false) => Validation::IsTest,
                (true, true) => Validation::LeftOut(left_out),
            },
        })
    }
}
