//! CIFAR-10 and CIFAR-100: the binary and the python layout, unpacked or as the published `.tar.gz`.

use std::path::{Path, PathBuf};

use super::{
    Dataset, Split,
    error::{DataError, FETCH_AGAIN, Place, malformed, over},
    files, foreign,
    pickle::Pickle,
};
use crate::{memory::Budget, shapes::ImageShape};

/// Three planes of 32 by 32, red, green, blue, as both layouts keep them.
const SHAPE: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};
const PIXELS: usize = 3 * 32 * 32;

/// More than any of the published files: a larger entry in an archive is not one of them.
const LARGEST_ENTRY: u64 = 1 << 30;

/// One of the two data sets (Krizhevsky, Nair, Hinton).
pub struct Family {
    name: &'static str,
    source: &'static str,
    pub class_names: &'static [&'static str],
    /// How the names of batch files begin, for training and for test.
    begin: [&'static str; 2],
    /// Examples in one split of the original.
    originals: [usize; 2],
    /// Label bytes before a record's pixels; the last of them is the label that is used.
    label_bytes: usize,
    /// The key of the labels in a python batch.
    labels_key: &'static str,
    /// Where the published archives unpack to, and their own names.
    folders: [&'static str; 2],
    archives: [&'static str; 2],
}

/// CIFAR-10.
pub const CIFAR10: Family = Family {
    name: "CIFAR-10",
    source: "cifar10",
    class_names: &[
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
    ],
    begin: ["data_batch", "test_batch"],
    originals: [50_000, 10_000],
    label_bytes: 1,
    labels_key: "labels",
    folders: ["cifar-10-batches-bin", "cifar-10-batches-py"],
    archives: ["cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"],
};

/// CIFAR-100 with its hundred fine labels.
pub const CIFAR100: Family = Family {
    name: "CIFAR-100",
    source: "cifar100",
    class_names: &FINE_CLASSES,
    begin: ["train", "test"],
    originals: [50_000, 10_000],
    label_bytes: 2,
    labels_key: "fine_labels",
    folders: ["cifar-100-binary", "cifar-100-python"],
    archives: ["cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"],
};

#[rustfmt::skip]
const FINE_CLASSES: [&str; 100] = [
    "apple", "aquarium fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle",
    "bowl", "boy", "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle",
    "chair", "chimpanzee", "clock", "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur",
    "dolphin", "elephant", "flatfish", "forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard",
    "lamp", "lawn mower", "leopard", "lion", "lizard", "lobster", "man", "maple tree", "motorcycle", "mountain",
    "mouse", "mushroom", "oak tree", "orange", "orchid", "otter", "palm tree", "pear", "pickup truck", "pine tree",
    "plain", "plate", "poppy", "porcupine", "possum", "rabbit", "raccoon", "ray", "road", "rocket",
    "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper", "snail", "snake", "spider",
    "squirrel", "streetcar", "sunflower", "sweet pepper", "table", "tank", "telephone", "television", "tiger", "tractor",
    "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow tree", "wolf", "woman", "worm",
];

/// Reads one split from a folder, a `.tar.gz` or a single batch file.
pub fn load(family: &Family, path: &Path, split: Split, budget: &Budget) -> Result<Dataset, DataError> {
    let batches = batches(family, path, budget)?;
    let wanted: Vec<&Batch> = batches
        .iter()
        .filter(|batch| family.split_of(&batch.name) == Some(split))
        .collect();
    if wanted.is_empty() {
        if let (Split::Test, Some(batch)) = (split, batches.first()) {
            let got = format!("training images only ({})", batch.name);
            return Err(DataError::NoTestSplit { got, path: path.into() });
        }
        return Err(family.missing(path));
    }
    let bytes = wanted.iter().map(|batch| batch.content.len()).sum::<usize>();
    budget
        .take(bytes as u64)
        .map_err(|error| over(path, format!("{} in batches of {bytes} bytes", family.name), error))?;
    let (mut images, mut labels) = (Vec::with_capacity(bytes), Vec::new());
    for batch in &wanted {
        if batch.is_python() {
            read_python(family, batch, budget, &mut images, &mut labels)?;
        } else {
            read_binary(family, batch, &mut images, &mut labels)?;
        }
    }
    let original = family.originals[usize::from(split == Split::Test)];
    let mut notes = Vec::new();
    if labels.len() != original {
        notes.push(format!("{} examples, the original has {original}", labels.len()));
    }
    let class_names = family.class_names.iter().map(|name| name.to_string()).collect();
    Ok(Dataset::from_parts(family.name, SHAPE, class_names, images, labels)?.with_notes(notes))
}

/// A batch file, unpacked.
struct Batch {
    /// Its name without `.gz`.
    name: String,
    content: Vec<u8>,
    /// The file on disk, for messages: the archive where it came out of one.
    path: PathBuf,
    in_archive: bool,
}

impl Batch {
    /// A place in this batch, for messages.
    fn place(&self, offset: usize) -> Place {
        match self.in_archive {
            true => Place::Entry(format!("the entry {} at byte {offset}", self.name)),
            false => Place::Byte(offset as u64),
        }
    }

    /// Whether it is a pickle, as the python layout is.
    fn is_python(&self) -> bool {
        self.content.first() == Some(&0x80) && !self.name.ends_with(".bin")
    }

    /// Refuses what is no whole number of records.
    fn check_records(&self, family: &Family) -> Result<(), DataError> {
        let (record, length) = (family.label_bytes + PIXELS, self.content.len());
        if length > 0 && length.is_multiple_of(record) {
            return Ok(());
        }
        let whole = length / record;
        let expected = format!(
            "records of {record} bytes ({} label, {PIXELS} pixels)",
            family.label_bytes
        );
        let got = format!("{length} bytes: {whole} records and {} bytes more", length % record);
        let damaged = || self.malformed(whole * record, expected, got);
        Err(foreign::named(&self.content, &self.path).unwrap_or_else(damaged))
    }

    fn malformed(&self, offset: usize, expected: impl Into<String>, got: impl Into<String>) -> DataError {
        malformed(&self.path, self.place(offset), expected, got, FETCH_AGAIN)
    }
}

impl Family {
    /// Which split a batch file of this name belongs to; `None` for files that are no batches.
    fn split_of(&self, name: &str) -> Option<Split> {
        let stem = name.strip_suffix(".gz").unwrap_or(name);
        let stem = stem.strip_suffix(".bin").unwrap_or(stem);
        // STL-10's files begin with the same words.
        if stem.contains('.') || stem.ends_with("_X") || stem.ends_with("_y") {
            return None;
        }
        let [train, test] = self.begin;
        if stem.starts_with(train) {
            Some(Split::Train)
        } else {
            stem.starts_with(test).then_some(Split::Test)
        }
    }

    fn missing(&self, path: &Path) -> DataError {
        let [train, test] = self.begin;
        DataError::Missing {
            what: format!("batches of {}", self.name),
            expected: format!(
                "{train}*.bin, {test}*.bin (or .bin.gz, or the python batches), or {}",
                self.archives.join(" or ")
            ),
            way_out: format!(
                "name that folder or archive, or fetch it: martlet data get {} (a folder or .zip of pictures is folder:PATH, arrays are npz:PATH)",
                self.source
            ),
            path: path.into(),
        }
    }
}

/// Every batch of both splits at `path`, sorted by name.
fn batches(family: &Family, path: &Path, budget: &Budget) -> Result<Vec<Batch>, DataError> {
    if path.is_dir() {
        return in_folder(family, path, budget);
    }
    let name = files::name(path);
    if !path.is_file() || name.ends_with(".zip") || name.ends_with(".npz") {
        return Err(family.missing(path));
    }
    if [".tar.gz", ".tgz", ".tar"].iter().any(|ending| name.ends_with(ending)) {
        return in_archive(family, path, budget);
    }
    let batch = read_file(path, budget)?;
    if family.split_of(&batch.name).is_some() {
        return Ok(vec![batch]);
    }
    // Someone who names one file means that file: under a name of their own it is taken as training images, if it can be.
    if !batch.is_python() {
        batch.check_records(family)?;
    }
    let name = format!("{}.bin", family.begin[0]);
    Ok(vec![Batch { name, ..batch }])
}

fn read_file(path: &Path, budget: &Budget) -> Result<Batch, DataError> {
    let content = files::unpacked(files::read(path, budget)?, path, budget)?;
    let name = files::name(path);
    let name = name.strip_suffix(".gz").unwrap_or(&name).to_string();
    Ok(Batch {
        name,
        content,
        path: path.into(),
        in_archive: false,
    })
}

/// Batches in the folder itself, else where an archive unpacks to below it, else in an archive in it.
fn in_folder(family: &Family, folder: &Path, budget: &Budget) -> Result<Vec<Batch>, DataError> {
    let below = family.folders.map(|name| folder.join(name));
    for place in std::iter::once(folder)
        .chain(below.iter().map(PathBuf::as_path))
        .filter(|place| place.is_dir())
    {
        let mut chosen: Vec<PathBuf> = Vec::new();
        // Sorted: "x" before "x.bin" before "x.bin.gz". The same batch in two layouts is read once.
        for path in files::list(place)? {
            let is_batch = path.is_file() && family.split_of(&files::name(&path)).is_some();
            let stem = |path: &Path| files::name(path).split('.').next().map(String::from);
            if is_batch && chosen.last().is_none_or(|last| stem(last) != stem(&path)) {
                chosen.push(path);
            }
        }
        if !chosen.is_empty() {
            return chosen.iter().map(|path| read_file(path, budget)).collect();
        }
    }
    let archive = family
        .archives
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file());
    let missing = || foreign::lying_in(folder).unwrap_or_else(|| family.missing(folder));
    in_archive(family, &archive.ok_or_else(missing)?, budget)
}

fn in_archive(family: &Family, path: &Path, budget: &Budget) -> Result<Vec<Batch>, DataError> {
    let content = files::unpacked(files::read(path, budget)?, path, budget)?;
    let mut archive = tar::Archive::new(content.as_slice());
    let damaged =
        |error: std::io::Error| malformed(path, Place::File, "a whole tar archive", error.to_string(), FETCH_AGAIN);
    let mut batches = Vec::new();
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = files::name(&entry.path().map_err(damaged)?);
        if !entry.header().entry_type().is_file() || family.split_of(&name).is_none() {
            continue;
        }
        if entry.size() > LARGEST_ENTRY {
            let place = Place::Entry(format!("the entry {name}"));
            let got = format!("{} bytes", entry.size());
            return Err(malformed(path, place, "a batch of under 1 GiB", got, FETCH_AGAIN));
        }
        let content = budget
            .read(&mut entry)
            .map_err(|error| over(path, format!("the entry {name}"), error))?;
        let content = content.map_err(damaged)?;
        if (content.len() as u64) < entry.size() {
            let place = Place::Entry(format!("the entry {name}"));
            let expected = format!("{} bytes", entry.size());
            return Err(malformed(
                path,
                place,
                expected,
                format!("{} bytes", content.len()),
                FETCH_AGAIN,
            ));
        }
        batches.push(Batch {
            name,
            content,
            path: path.into(),
            in_archive: true,
        });
    }
    if batches.is_empty() {
        return Err(family.missing(path));
    }
    batches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(batches)
}

/// Records of one or two label bytes and 3,072 pixel bytes.
fn read_binary(family: &Family, batch: &Batch, images: &mut Vec<u8>, labels: &mut Vec<u16>) -> Result<(), DataError> {
    batch.check_records(family)?;
    let record = family.label_bytes + PIXELS;
    for (example, bytes) in batch.content.chunks_exact(record).enumerate() {
        let (head, pixels) = bytes.split_at(family.label_bytes);
        let label = head[family.label_bytes - 1];
        let offset = example * record + family.label_bytes - 1;
        labels.push(checked_label(family, batch, offset, example, label.into())?);
        images.extend_from_slice(pixels);
    }
    Ok(())
}

/// A pickled dictionary with an array `data` of N × 3,072 bytes and a list of N labels.
fn read_python(
    family: &Family,
    batch: &Batch,
    budget: &Budget,
    images: &mut Vec<u8>,
    labels: &mut Vec<u16>,
) -> Result<(), DataError> {
    let pickle = Pickle::read(&batch.content, budget).map_err(|error| match error.over {
        Some(error) => over(&batch.path, format!("the objects of the pickle {}", batch.name), error),
        None => batch.malformed(error.offset, error.expected, error.got),
    })?;
    let lacks = |what: String| batch.malformed(0, what, "a pickle without it");
    let table = pickle
        .table("data")
        .ok_or_else(|| lacks(format!("an array `data` of N × {PIXELS} bytes")))?;
    let key = family.labels_key;
    let values = pickle
        .integers(key)
        .ok_or_else(|| lacks(format!("whole numbers under `{key}`")))?;
    let [rows, columns] = table.shape;
    if columns != PIXELS || rows == 0 {
        return Err(batch.malformed(
            0,
            format!("an array `data` of N × {PIXELS} bytes"),
            format!("{rows} × {columns}"),
        ));
    }
    if values.len() != rows {
        let expected = format!("{rows} labels under `{key}`, one for each row of `data`");
        return Err(batch.malformed(0, expected, format!("{} labels", values.len())));
    }
    for (example, value) in values.into_iter().enumerate() {
        labels.push(checked_label(family, batch, 0, example, value)?);
    }
    images.extend_from_slice(table.bytes);
    Ok(())
}

fn checked_label(family: &Family, batch: &Batch, offset: usize, example: usize, value: i64) -> Result<u16, DataError> {
    let classes = family.class_names.len();
    match u16::try_from(value) {
        Ok(label) if usize::from(label) < classes => Ok(label),
        _ => {
            let got = format!("{value} for example {example}");
            Err(batch.malformed(offset, format!("a label in 0..{classes}"), got))
        }
    }
}
