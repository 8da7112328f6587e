//! A folder of pictures, or a zip of one: `{train,test}/CLASS/PICTURE`, or `CLASS/PICTURE` for one set without a split.

use std::{
    collections::BTreeSet,
    io::{Cursor, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use image::{DynamicImage, ImageDecoder, ImageReader};
use unicode_normalization::UnicodeNormalization;
use zip::ZipArchive;

use super::{
    Dataset, Split,
    error::{DataError, FETCH_AGAIN, Place, malformed},
    files,
};
use crate::shapes::ImageShape;

const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];

/// Rows or columns of the largest picture that is read.
const LARGEST_SIDE: u32 = 4_096;

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

/// Reads one split. Classes are sorted by name and pictures by path; a set is grey if all its pictures are.
pub fn load(path: &Path, split: Split) -> Result<Dataset, DataError> {
    let source = Source::open(path)?;
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

    let decoded = decode_all(&source, &wanted, path)?;
    let seen_through = decoded.iter().filter(|(_, transparent)| *transparent).count();
    let decoded: Vec<DynamicImage> = decoded.into_iter().map(|(image, _)| image).collect();
    let (height, width) = (decoded[0].height() as usize, decoded[0].width() as usize);
    for (picture, image) in wanted.iter().zip(&decoded) {
        if (image.height() as usize, image.width() as usize) != (height, width) {
            let expected = format!("{width}×{height} pixels, as {} has", source.names()[wanted[0].entry]);
            let got = format!("{}×{}", image.width(), image.height());
            let place = Place::Entry(source.names()[picture.entry].clone());
            return Err(malformed(path, place, expected, got, "scale all pictures to one size"));
        }
    }
    let grey = decoded.iter().all(|image| matches!(image, DynamicImage::ImageLuma8(_)));
    let shape = ImageShape {
        channels: if grey { 1 } else { 3 },
        height,
        width,
    };
    let mut images = Vec::with_capacity(wanted.len() * shape.len());
    for image in decoded {
        if grey {
            images.extend_from_slice(image.as_bytes());
        } else {
            planes(&image.into_rgb8().into_raw(), &mut images);
        }
    }

    let labels: Vec<u16> = wanted.iter().map(|picture| picture.class).collect();
    let lossy = wanted
        .iter()
        .any(|picture| !source.names()[picture.entry].to_ascii_lowercase().ends_with(".png"));
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
    if seen_through > 0 {
        notes.push(format!("{seen_through} pictures with transparent parts, laid on white"));
    }
    Ok(Dataset::from_parts(name, shape, tree.classes, images, labels)?.with_notes(notes))
}

fn missing(path: &Path, what: &str) -> DataError {
    DataError::Missing {
        what: what.into(),
        expected: "train/CLASS/PICTURE and test/CLASS/PICTURE, or CLASS/PICTURE, in .png, .jpg or .jpeg".into(),
        way_out: "name the folder (or the .zip of it) that holds one folder for each class".into(),
        path: path.into(),
    }
}

/// Red, green, blue of each pixel in turn, into a red, a green and a blue plane.
fn planes(interleaved: &[u8], out: &mut Vec<u8>) {
    for channel in 0..3 {
        out.extend(interleaved.iter().skip(channel).step_by(3));
    }
}

/// Where the pictures are: names with `/` between folders, sorted, and a way to read each. Every thread clones its own.
#[derive(Clone)]
enum Source {
    Folder {
        root: PathBuf,
        names: Vec<String>,
        others: Vec<String>,
    },
    /// `entries` are numbers in the zip's directory, in the order of `names`.
    Zip {
        archive: ZipArchive<Cursor<Arc<[u8]>>>,
        names: Vec<String>,
        entries: Vec<usize>,
        others: Vec<String>,
    },
}

/// Pictures in formats that are not read.
const UNREAD: [&str; 9] = ["webp", "bmp", "gif", "tif", "tiff", "heic", "avif", "jp2", "ppm"];

impl Source {
    fn open(path: &Path) -> Result<Self, DataError> {
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
        let bytes: Arc<[u8]> = files::read(path)?.into();
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(refuse)?;
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
        Some(format!(
            "{} pictures left out whose format is not read, such as {first}; convert them to PNG",
            others.len()
        ))
    }

    fn others(&self) -> &[String] {
        let (Source::Folder { others, .. } | Source::Zip { others, .. }) = self;
        others
    }

    fn names(&self) -> &[String] {
        match self {
            Source::Folder { names, .. } | Source::Zip { names, .. } => names,
        }
    }

    /// The bytes of one picture's file.
    fn read(&mut self, position: usize, path: &Path) -> Result<Vec<u8>, DataError> {
        match self {
            Source::Folder { root, names, .. } => files::read(&root.join(&names[position])),
            Source::Zip {
                archive,
                names,
                entries,
                ..
            } => {
                let refuse = |error: String| {
                    let place = Place::Entry(names[position].clone());
                    malformed(path, place, "a whole entry", error, FETCH_AGAIN)
                };
                let mut file = archive
                    .by_index(entries[position])
                    .map_err(|error| refuse(error.to_string()))?;
                let mut bytes = Vec::new();
                file.read_to_end(&mut bytes)
                    .map_err(|error| refuse(error.to_string()))?;
                Ok(bytes)
            }
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

/// One picture's place in the set.
struct Picture {
    /// Position among the source's names.
    entry: usize,
    split: Option<Split>,
    class: u16,
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
            (Validation::LeftOut(count), _) => notes.push(format!("{count} validation pictures left out")),
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
                "pictures in PNG or JPEG in the folder of every class",
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

/// Decodes the pictures on every core; the first error in their order is the one that is told.
fn decode_all(source: &Source, wanted: &[&Picture], path: &Path) -> Result<Vec<(DynamicImage, bool)>, DataError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = wanted.len().div_ceil(threads);
    let parts = std::thread::scope(|scope| {
        let running: Vec<_> = wanted
            .chunks(share)
            .map(|part| {
                let mut source = source.clone();
                scope.spawn(move || {
                    part.iter()
                        .map(|picture| decode(&mut source, picture.entry, path))
                        .collect()
                })
            })
            .collect();
        let joined = running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.collect::<Vec<Result<Vec<(DynamicImage, bool)>, DataError>>>()
    });
    let mut decoded = Vec::with_capacity(wanted.len());
    for part in parts {
        decoded.extend(part?);
    }
    Ok(decoded)
}

/// One picture in 8 bits a value, grey or red, green and blue, turned as its file asks for and laid on white where it is
/// transparent; and whether it is.
fn decode(source: &mut Source, position: usize, path: &Path) -> Result<(DynamicImage, bool), DataError> {
    let bytes = source.read(position, path)?;
    let refuse = |error: String| {
        let place = Place::Entry(source.names()[position].clone());
        malformed(
            path,
            place,
            "a whole PNG or JPEG picture",
            error,
            "replace the picture or remove it",
        )
    };
    if breaks_off(&bytes) {
        return Err(refuse("a JPEG picture that breaks off before its end".into()));
    }
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| refuse(error.to_string()))?;
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| refuse(error.to_string()))?;
    let turn = decoder.orientation().map_err(|error| refuse(error.to_string()))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|error| refuse(error.to_string()))?;
    image.apply_orientation(turn);
    let has_color = image.color().has_color();
    let mut transparent = false;
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
    Ok((image, transparent))
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
