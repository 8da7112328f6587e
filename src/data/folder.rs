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
    files, foreign,
    parts::{Part, is_general, is_no_class, part_of, part_within},
    pictures::{Decoding, Picture},
};
use crate::{memory::Budget, shapes::ImageShape, wording::counted};

/// What files of pictures end in.
pub const ENDINGS: [&str; 10] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "tif", "tiff"];

/// Those of them that are JPEG.
const JPEG: [&str; 4] = ["jpg", "jpeg", "jpe", "jfif"];

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
    if source.names().is_empty() {
        return Err(source.nothing(path));
    }
    let tree = Tree::of(source.names(), &source.left().empty, path)?;
    tree.check_classes(&source, path)?;
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
    let lossy = is_kind(&JPEG);
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
    notes.extend(source.beside());
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
        left: Left,
    },
    /// `entries` are numbers in the zip's directory, in the order of `names`.
    Zip {
        archive: Archive,
        names: Vec<String>,
        entries: Vec<usize>,
        left: Left,
    },
}

/// Names of what is not read.
#[derive(Clone, Default)]
pub(super) struct Left {
    /// Pictures in other formats.
    pictures: Vec<String>,
    /// Tables and texts, which may tell classes or a split.
    tables: Vec<String>,
    /// Anything else that nobody hid.
    others: Vec<String>,
    /// Folders that hold nothing.
    empty: Vec<String>,
}

impl Left {
    fn put(&mut self, name: String) {
        let file = name.rsplit('/').next().unwrap_or_default().to_lowercase();
        if ends_in(&name, &UNREAD) {
            self.pictures.push(name);
        } else if ends_in(&name, &TABLES) {
            if !ABOUT.iter().any(|about| file.starts_with(about)) {
                self.tables.push(name);
            }
        } else if !is_hidden(&name) && !SYSTEM.contains(&file.as_str()) {
            self.others.push(name);
        }
    }
}

/// Pictures in formats that are not read.
const UNREAD: [&str; 6] = ["heic", "heif", "avif", "jp2", "ppm", "pgm"];

/// Files that tell of pictures what folders tell here.
const TABLES: [&str; 6] = ["csv", "tsv", "txt", "json", "jsonl", "parquet"];

/// What systems put into folders by themselves.
const SYSTEM: [&str; 2] = ["thumbs.db", "desktop.ini"];

/// How names of texts begin that tell of the whole.
const ABOUT: [&str; 7] = [
    "readme",
    "license",
    "licence",
    "copying",
    "citation",
    "changelog",
    "requirements",
];

impl Source {
    fn open(path: &Path, budget: &Budget) -> Result<Self, DataError> {
        if path.is_dir() {
            let (mut names, mut left) = (Vec::new(), Left::default());
            walk(path, "", 0, &mut names, &mut left)?;
            names.sort();
            return Ok(Source::Folder {
                root: path.into(),
                names,
                left,
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
        let (mut pictures, mut left) = (Vec::new(), Left::default());
        for entry in 0..archive.len() {
            let file = archive.by_index_raw(entry).map_err(refuse)?;
            let name = file.name().map_err(refuse)?;
            // Some programs for Windows write its own separator into archives.
            let name = name.replace('\\', "/");
            if file.is_file() && ends_in(&name, &ENDINGS) {
                pictures.push((name, entry));
            } else if file.is_file() {
                left.put(name);
            }
        }
        pictures.sort();
        let (names, entries) = pictures.into_iter().unzip();
        Ok(Source::Zip {
            archive,
            names,
            entries,
            left,
        })
    }

    /// Why there is no picture: what lies there instead.
    fn nothing(&self, path: &Path) -> DataError {
        if let Some(first) = self.left().pictures.first() {
            let ending = first.rsplit('.').next().unwrap_or_default();
            let folder = path.display().to_string();
            let way_out = match self {
                Source::Zip { .. } => "convert them to PNG, and pack them again".into(),
                Source::Folder { .. } => format!(
                    "convert them to PNG, in Python: import pathlib; from PIL import Image; [Image.open(p).save(p.with_suffix(\".png\")) \
                     for p in pathlib.Path({folder:?}).rglob(\"*.{ending}\")]; then ask again"
                ),
            };
            return DataError::OtherFormat {
                format: format!("pictures of a format that is not, such as {first}"),
                way_out,
                path: path.into(),
            };
        }
        let other = match self {
            Source::Folder { root, .. } => foreign::lying_in(root),
            Source::Zip { archive, .. } => foreign::in_archive(archive, path),
        };
        other.unwrap_or_else(|| missing(path, "pictures"))
    }

    /// How a table, beside them or above, sorts the pictures of a folder among these into classes.
    fn sorting(&self, folders: &[String]) -> Option<String> {
        let Source::Folder { root, left, .. } = self else {
            return None;
        };
        let is_train = |folder: &&String| matches!(part_within(folder), Some((Part::Train, _)));
        let folder = folders.iter().find(is_train).or(folders.first())?;
        let of_folder = |name: &&String| match name.rsplit_once('/') {
            Some((place, _)) => place == folder,
            None => true,
        };
        let mut tables = left.tables.iter().filter(|name| name.ends_with(".csv"));
        let table = tables.find(of_folder)?;
        let sorting = foreign::sorting(&root.join(table), &root.join(folder), ',');
        Some(format!("by {table}, {sorting}"))
    }

    /// A remark on tables and texts beside folders of pictures.
    fn beside(&self) -> Option<String> {
        let folder = |name: &str| name.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.into());
        let folders: BTreeSet<String> = self.names().iter().map(|name| folder(name)).collect();
        let mut tables = self
            .left()
            .tables
            .iter()
            .filter(|name| !folders.contains(&folder(name)));
        let first = tables.next()?;
        let are = match tables.count() {
            0 => "is".into(),
            more => format!("and {more} more are"),
        };
        Some(format!(
            "{first} {are} not read: classes and splits are what the folders say"
        ))
    }

    /// Remarks on pictures that were left out since their format is not read, and on files that may be some.
    fn unread(&self) -> impl Iterator<Item = String> {
        let pictures = self.left().pictures.first().map(|first| {
            let pictures = counted(self.left().pictures.len(), "picture", "pictures");
            format!("{pictures} left out whose format is not read, such as {first}; convert them to PNG")
        });
        let others = self.left().others.first().map(|first| {
            let files = counted(self.left().others.len(), "file", "files");
            format!("{files} left out whose names do not end as pictures' do, such as {first}")
        });
        pictures.into_iter().chain(others)
    }

    fn left(&self) -> &Left {
        let (Source::Folder { left, .. } | Source::Zip { left, .. }) = self;
        left
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
    endings.contains(&ending.as_str()) && !is_hidden(name)
}

/// Whether a file is one that a system, or a person, keeps out of sight.
fn is_hidden(name: &str) -> bool {
    name.split('/')
        .any(|part| part.starts_with('.') || part == "__MACOSX" || part == "@eaDir")
}

/// Collects the names of the pictures below `root`, relative to it.
fn walk(root: &Path, below: &str, depth: usize, names: &mut Vec<String>, left: &mut Left) -> Result<(), DataError> {
    if depth > DEEPEST {
        return Ok(());
    }
    let listed = files::list(&root.join(below))?;
    if listed.is_empty() && !is_hidden(below) {
        left.empty.push(below.into());
    }
    for path in listed {
        let name = match below {
            "" => files::name(&path),
            _ => format!("{below}/{}", files::name(&path)),
        };
        if path.file_name().is_some_and(|name| name.to_str().is_none()) {
            return Err(malformed(
                root,
                Place::Entry(name),
                "names of files in UTF-8",
                "one in another encoding",
                "rename such files: convmv -f latin1 -t utf8 -r --notest FOLDER, or unzip -O latin1",
            ));
        }
        if path.is_dir() {
            walk(root, &name, depth + 1, names, left)?;
        } else if ends_in(&name, &ENDINGS) {
            names.push(name);
        } else {
            left.put(name);
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
    fn check_classes(&self, source: &Source, path: &Path) -> Result<(), DataError> {
        // An accent may be part of its letter or a mark behind it.
        let plain = |name: &str| name.nfc().collect::<String>().to_lowercase();
        if !self.has_splits {
            self.check_names(source, path)?;
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
        let unread = &source.left().pictures;
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

    /// Refuses folders that are parts, or kinds of files, and no classes.
    fn check_names(&self, source: &Source, path: &Path) -> Result<(), DataError> {
        let classes = &self.classes;
        let refuse =
            |expected: &str, got: String, way_out: String| Err(malformed(path, Place::File, expected, got, way_out));
        if classes.iter().any(|class| is_no_class(class)) || classes.iter().all(|class| is_general(class)) {
            let expected = "folders of classes, as train/CLASS/PICTURE or CLASS/PICTURE";
            let got = format!("pictures straight in {}", classes.join(" and "));
            let way_out = "sort the pictures into a folder for each class";
            return match source.sorting(classes) {
                Some(sorting) => refuse(expected, got, format!("{way_out}; {sorting}")),
                None => refuse(expected, got, way_out.into()),
            };
        }
        for (place, class) in classes.iter().enumerate() {
            let Some((part, rest)) = part_within(class) else {
                continue;
            };
            let is_twin = |other: &&String| part_within(other).is_some_and(|(is, of)| is != part && of == rest);
            if let Some(twin) = classes[place + 1..].iter().find(is_twin) {
                let got = format!("{class} and {twin}, which are parts of one");
                let way_out = "move their pictures to train/CLASS and test/CLASS";
                return refuse("a folder for each class", got, way_out.into());
            }
        }
        Ok(())
    }

    /// The tree of these pictures. Where folders stand for classes, one of `empty` is a class without a picture.
    fn of(names: &[String], empty: &[String], path: &Path) -> Result<Tree, DataError> {
        let mut parts: Vec<Vec<&str>> = names.iter().map(|name| name.split('/').collect()).collect();
        let mut empty: Vec<Vec<&str>> = empty.iter().map(|name| name.split('/').collect()).collect();
        // A zip often holds one folder that holds everything: look below it.
        while let Some(first) = parts.first().map(|parts| parts[0])
            && part_of(first).is_none()
            && parts.iter().all(|parts| parts.len() > 2 && parts[0] == first)
        {
            empty.retain(|parts| parts[0] == first);
            for parts in parts.iter_mut().chain(&mut empty) {
                parts.remove(0);
            }
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
                    let way_out = match parts[..] {
                        [part, _, "images", _] if part_of(part).is_some() => {
                            "unpacked Tiny ImageNet, which lies so, is tiny-imagenet:FOLDER; else move the picture into its class's folder"
                        }
                        [part, _, _, ..] if part_of(part).is_none() && part_within(part).is_some() => "call the folders of the splits train and test",
                        _ => "move the picture into its class's folder, or out of the tree",
                    };
                    return Err(malformed(path, place, expected, parts.join("/"), way_out));
                }
            });
        }
        let without_pictures = empty.iter().filter_map(|parts| match (has_splits, &parts[..]) {
            (true, [split, class]) if split_of(split).flatten().is_some() => Some(*class),
            (false, [class]) if !is_general(class) => Some(*class),
            _ => None,
        });
        let classes: Vec<&str> = placed
            .iter()
            .map(|(_, _, class)| *class)
            .chain(without_pictures)
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
