//! Arrays as numpy saves them, an `.npz` file or a folder of `.npy` files: read as a data set, and written for other tools.

use std::{
    io::{BufWriter, Write},
    path::Path,
};

use npyz::{NpyHeader, Order, TypeChar, WriterBuilder};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::{
    Dataset, Pixels, Split,
    archive::{self, Archive},
    error::{DataError, FETCH_AGAIN, Place, malformed, over},
    files, foreign,
    remarks::some_of,
};
use crate::{files::write_whole_with, memory::Budget, shapes::ImageShape};

/// Names that images go by, with the name of the labels beside them.
const ONE_SET: [[&str; 2]; 5] = [
    ["images", "labels"],
    ["image", "label"],
    ["x", "y"],
    ["data", "labels"],
    ["images", "y"],
];
const TRAIN: [[&str; 2]; 2] = [["x_train", "y_train"], ["train_images", "train_labels"]];
const VALIDATION: [[&str; 2]; 4] = [
    ["x_val", "y_val"],
    ["val_images", "val_labels"],
    ["x_valid", "y_valid"],
    ["valid_images", "valid_labels"],
];
const TEST: [[&str; 2]; 2] = [["x_test", "y_test"], ["test_images", "test_labels"]];

/// Optional: the number of classes, where the labels do not show them all, or their names.
const CLASSES: &str = "classes";

const CLASSES_AGAIN: &str = "save `classes` as a number, or as names: np.array(['ant', 'bee'])";

const FOLDER: &str = "a folder of .npy files as numpy.save writes them";

/// A float pixel may differ by this much from a multiple of 1/255, or from 0 and 1, and still be that: single precision rounds
/// by less.
pub(super) const EXACT: f32 = 1e-6;

/// Reads one split: images as bytes or as floats in [0, 1], which stay what they are, N×H×W, N×H×W×C or N×C×H×W, and one label an image.
/// Without a test set, images for validation stand in, as those of a folder do.
pub fn load(path: &Path, split: Split, budget: &Budget) -> Result<Dataset, DataError> {
    let mut file = Arrays::open(path, budget)?;
    let has = |keys: &[[&'static str; 2]]| {
        keys.iter()
            .copied()
            .find(|pair| pair.iter().all(|key| file.names.iter().any(|name| name == key)))
    };
    let (own_train, single, validation, own_test) = (has(&TRAIN), has(&ONE_SET), has(&VALIDATION), has(&TEST));
    let (train, test) = (own_train.or(single), own_test.or(validation));
    let [images_key, labels_key] = match (split, train, test) {
        (Split::Train, Some(pair), _) | (Split::Test, _, Some(pair)) => pair,
        (Split::Train, None, Some([images, _])) => {
            return Err(DataError::NoTrainingSplit {
                got: format!("test images only, under {images:?}"),
                path: path.into(),
            });
        }
        (Split::Test, Some([images, _]), None) => {
            let got = match own_train {
                Some(_) => "training images only".into(),
                None => format!("one set, under {images:?}"),
            };
            return Err(DataError::NoTestSplit { got, path: path.into() });
        }
        (_, None, None) => {
            let way_out = match file.names.as_slice() {
                [] => "the file holds no arrays; a zip of pictures is folder:PATH".into(),
                names => format!("the file holds {}; save it again under such names", names.join(", ")),
            };
            let missing = DataError::Missing {
                what: "arrays of images and labels".into(),
                expected: "images and labels, x and y, or x_train, y_train, x_test and y_test".into(),
                way_out,
                path: path.into(),
            };
            return Err(match &file.store {
                Store::Zip(archive) if file.names.is_empty() => foreign::in_archive(archive, path).unwrap_or(missing),
                _ => missing,
            });
        }
    };

    let images = file.read(images_key)?;
    let (shape, layout) = images.layout()?;
    let pixels = images.pixels(shape, layout)?;
    drop(images);
    let labels = file.labels(labels_key)?;
    let count = pixels.len() / shape.len();
    if labels.len() != count {
        let expected = format!("{count} labels, one for each of the images {images_key:?}");
        let place = Place::Entry(format!("the array {labels_key:?}"));
        return Err(malformed(
            path,
            place,
            expected,
            labels.len().to_string(),
            "save images and labels of one set",
        ));
    }
    // The other split may show classes that this one lacks.
    let mut classes = usize::from(labels.iter().copied().max().unwrap_or(0)) + 1;
    for [_, other] in train.into_iter().chain(test) {
        if other != labels_key {
            classes = classes.max(usize::from(file.labels(other)?.into_iter().max().unwrap_or(0)) + 1);
        }
    }
    let class_names = file.class_names(classes)?;
    let name = path
        .file_stem()
        .map_or("npz".into(), |stem| stem.to_string_lossy().into_owned());
    let stand_in = validation.filter(|_| own_test.is_none() && split == Split::Test);
    let stand_in = stand_in.map(|[images, _]| format!("the validation images ({images}) stand in for a test set"));
    let notes = without_examples(&class_names, &labels).into_iter().chain(stand_in);
    Ok(Dataset::from_pixels(name, shape, class_names, pixels, labels)?.with_notes(notes))
}

/// A remark on classes that no example is of.
fn without_examples(classes: &[String], labels: &[u16]) -> Option<String> {
    let mut seen = vec![false; classes.len()];
    labels.iter().for_each(|label| seen[usize::from(*label)] = true);
    let absent: Vec<&str> = classes
        .iter()
        .zip(&seen)
        .filter(|(_, seen)| !**seen)
        .map(|(class, _)| class.as_str())
        .collect();
    match absent.as_slice() {
        [first] if *first == "0" => Some("no example of class 0: are the labels counted from 1?".into()),
        absent => some_of(absent).map(|absent| format!("no example of {absent}")),
    }
}

/// Where arrays are.
enum Store {
    Zip(Archive),
    Folder,
}

/// An open file, or a folder, and the names of its arrays.
pub(super) struct Arrays<'p> {
    path: &'p Path,
    store: Store,
    names: Vec<String>,
    budget: &'p Budget,
}

impl<'p> Arrays<'p> {
    fn open(path: &'p Path, budget: &'p Budget) -> Result<Self, DataError> {
        if path.is_dir() {
            return Self::folder(path, budget);
        }
        if !path.is_file() {
            return Err(DataError::Missing {
                what: ".npz file".into(),
                expected: format!("a file as numpy.savez writes it, or {FOLDER}"),
                way_out: "name the file or the folder itself".into(),
                path: path.into(),
            });
        }
        let archive = archive::open(path, "a whole .npz file (a zip of arrays)", budget)?;
        let mut names: Vec<String> = archive
            .file_names()
            .filter_map(|name| npyz::npz::array_name_from_file_name(&name.ok()?).map(String::from))
            .collect();
        names.sort();
        let store = Store::Zip(archive);
        Ok(Self {
            path,
            store,
            names,
            budget,
        })
    }

    /// The `.npy` files of a folder.
    pub(super) fn folder(path: &'p Path, budget: &'p Budget) -> Result<Self, DataError> {
        let names = files::list(path)?
            .iter()
            .filter_map(|file| files::name(file).strip_suffix(".npy").map(String::from))
            .collect::<Vec<_>>();
        if names.is_empty() {
            return Err(foreign::lying_in(path).unwrap_or_else(|| DataError::Missing {
                what: "arrays".into(),
                expected: FOLDER.into(),
                way_out: "name the folder that holds them".into(),
                path: path.into(),
            }));
        }
        let store = Store::Folder;
        Ok(Self {
            path,
            store,
            names,
            budget,
        })
    }

    /// Their names.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    fn bytes(&mut self, name: &str) -> Result<Vec<u8>, DataError> {
        match &mut self.store {
            Store::Folder => files::read(&self.path.join(format!("{name}.npy")), self.budget),
            Store::Zip(archive) => {
                let entry = archive.index_for_name(&npyz::npz::file_name_from_array_name(name));
                archive::read(archive, entry.unwrap_or(usize::MAX), self.path, self.budget)
            }
        }
    }

    /// An array by its name.
    pub(super) fn read(&mut self, name: &str) -> Result<Array<'p>, DataError> {
        let bytes = self.bytes(name)?;
        let place = || Place::Entry(format!("the array {name:?}"));
        let refuse = |expected: String, got: String| malformed(self.path, place(), expected, got, FETCH_AGAIN);
        let mut rest = bytes.as_slice();
        let header =
            NpyHeader::from_reader(&mut rest).map_err(|error| refuse("an array's header".into(), error.to_string()))?;
        let file = npyz::NpyFile::with_header(header.clone(), std::io::empty());
        let shape: Option<Vec<usize>> = file.shape().iter().map(|size| usize::try_from(*size).ok()).collect();
        let count = shape
            .as_ref()
            .and_then(|shape| shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size)));
        let (order, kind) = (file.order(), file.dtype().descr());
        let unknown = || {
            let way_out = match name {
                CLASSES => CLASSES_AGAIN,
                _ => "save the array again: images as uint8, float32 or float64, labels as whole numbers",
            };
            malformed(self.path, place(), "numbers of a known type", kind.as_str(), way_out)
        };
        let width = file
            .dtype()
            .num_bytes()
            .filter(|_| !file.dtype().uses_pickled_array())
            .ok_or_else(unknown)?;
        let expected = count.and_then(|count| count.checked_mul(width));
        if expected != Some(rest.len()) {
            let expected = expected.map_or("fewer".into(), |bytes| bytes.to_string());
            return Err(refuse(
                format!("{expected} bytes in shape {:?}", file.shape()),
                format!("{} bytes", rest.len()),
            ));
        }
        // As they are read, and then as bytes, as labels, as single precision or as text.
        let is_text = |kind: &npyz::TypeStr| matches!(kind.type_char(), TypeChar::UnicodeStr | TypeChar::ByteStr);
        let text = match file.dtype() {
            npyz::DType::Plain(kind) if is_text(&kind) => Some(kind),
            _ => None,
        };
        let each = match text {
            Some(_) => width.saturating_add(size_of::<String>()),
            None => 2 * size_of::<i64>(),
        };
        let wide = count.unwrap_or(0).saturating_mul(each);
        let counted = if width == 1 && text.is_none() {
            count.unwrap_or(0)
        } else {
            wide
        };
        self.budget.take(counted as u64).map_err(|error| {
            over(
                self.path,
                format!("the array {name:?} of shape {:?}", file.shape()),
                error,
            )
        })?;
        let values = match (text, file.dtype()) {
            (Some(kind), _) => Some(Values::Text(texts(&kind, width, rest))),
            (None, npyz::DType::Plain(kind)) => values(kind.type_char(), kind.size_field(), header, rest),
            _ => None,
        };
        let (values, shape) = (values.ok_or_else(unknown)?, shape.unwrap_or_default());
        self.budget.give_back(bytes.len() as u64);
        Ok(Array {
            path: self.path,
            name: name.into(),
            shape,
            order,
            values,
        })
    }

    /// An array of labels, one an image.
    pub(super) fn labels(&mut self, name: &str) -> Result<Vec<u16>, DataError> {
        let array = self.read(name)?;
        let refuse = |expected: &str, got: String| {
            let way_out = match array.values {
                Values::Text(_) => {
                    "number them: classes, y = np.unique(y, return_inverse=True), and save `classes` too"
                }
                _ => "save labels as whole numbers from 0, one an image",
            };
            Err(malformed(array.path, array.place(), expected, got, way_out))
        };
        if array.shape.iter().filter(|size| **size != 1).count() > 1 {
            return refuse("one label an image", format!("the shape {:?}", array.shape));
        }
        let integers = match &array.values {
            Values::Bytes(bytes) => bytes.iter().map(|byte| i64::from(*byte)).collect(),
            Values::Integers(integers) => integers.clone(),
            Values::Floats(_) => return refuse("whole numbers", "floats".into()),
            Values::Text(_) => return refuse("whole numbers", "text".into()),
        };
        match integers
            .iter()
            .position(|label| !(0..i64::from(u16::MAX)).contains(label))
        {
            Some(example) => refuse(
                "labels in 0..65535",
                format!("{} for example {example}", integers[example]),
            ),
            None => Ok(integers.into_iter().map(|label| label as u16).collect()),
        }
    }

    /// The names of at least `shown` classes: those that are stored, or numbers, as many as are stored.
    fn class_names(&mut self, shown: usize) -> Result<Vec<String>, DataError> {
        let numbered = |classes: usize| Ok((0..classes.max(shown)).map(|class| class.to_string()).collect());
        if !self.names.iter().any(|name| name == CLASSES) {
            return numbered(0);
        }
        let array = self.read(CLASSES)?;
        let refuse =
            |expected: String, got: String| Err(malformed(array.path, array.place(), expected, got, CLASSES_AGAIN));
        let one = match &array.values {
            Values::Text(names) if names.len() < shown => {
                let expected = format!("{shown} names, as the labels show {shown} classes");
                return refuse(expected, names.len().to_string());
            }
            Values::Text(names) => return Ok(names.clone()),
            Values::Floats(_) => return refuse("a whole number of classes, or their names".into(), "floats".into()),
            Values::Bytes(bytes) => bytes.first().map(|byte| i64::from(*byte)),
            Values::Integers(integers) => integers.first().copied(),
        };
        // One number is a count; several are the classes themselves.
        let count = match (array.shape.iter().product::<usize>(), one) {
            (1, Some(count)) => count,
            (length, _) => i64::try_from(length).unwrap_or(i64::MAX),
        };
        match usize::try_from(count) {
            Ok(count) if count <= usize::from(u16::MAX) => numbered(count),
            _ => refuse("0 to 65535 classes".into(), count.to_string()),
        }
    }
}

/// Numbers as stored, widened to one of three kinds, or text.
enum Values {
    Bytes(Vec<u8>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Text(Vec<String>),
}

/// Text as numpy stores it: of one width, filled up with zeros, in UTF-32 or in bytes.
fn texts(kind: &npyz::TypeStr, width: usize, bytes: &[u8]) -> Vec<String> {
    let letter = |unit: &[u8]| {
        let unit = <[u8; 4]>::try_from(unit).unwrap_or_default();
        let code = match kind.endianness() {
            npyz::Endianness::Big => u32::from_be_bytes(unit),
            _ => u32::from_le_bytes(unit),
        };
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    };
    let text = |bytes: &[u8]| match kind.type_char() {
        TypeChar::UnicodeStr => bytes.chunks_exact(4).map(letter).collect::<String>(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    let filled = bytes.chunks_exact(width.max(1)).map(text);
    filled.map(|text| text.trim_end_matches('\0').to_string()).collect()
}

/// Reads the numbers of a type that data sets are saved in; `None` for another type.
fn values(kind: TypeChar, width: u64, header: NpyHeader, bytes: &[u8]) -> Option<Values> {
    fn read<T: npyz::Deserialize>(header: NpyHeader, bytes: &[u8]) -> Option<Vec<T>> {
        npyz::NpyFile::with_header(header, bytes).into_vec().ok()
    }
    fn integers<T: npyz::Deserialize + Into<i64>>(header: NpyHeader, bytes: &[u8]) -> Option<Values> {
        Some(Values::Integers(
            read::<T>(header, bytes)?.into_iter().map(Into::into).collect(),
        ))
    }
    match (kind, width) {
        (TypeChar::Uint, 1) => read::<u8>(header, bytes).map(Values::Bytes),
        (TypeChar::Uint, 2) => integers::<u16>(header, bytes),
        (TypeChar::Uint, 4) => integers::<u32>(header, bytes),
        (TypeChar::Uint, 8) => {
            let clamped = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            Some(Values::Integers(
                read::<u64>(header, bytes)?.into_iter().map(clamped).collect(),
            ))
        }
        (TypeChar::Int, 1) => integers::<i8>(header, bytes),
        (TypeChar::Int, 2) => integers::<i16>(header, bytes),
        (TypeChar::Int, 4) => integers::<i32>(header, bytes),
        (TypeChar::Int, 8) => integers::<i64>(header, bytes),
        (TypeChar::Float, 4) => read::<f32>(header, bytes).map(Values::Floats),
        (TypeChar::Float, 8) => Some(Values::Floats(
            read::<f64>(header, bytes)?
                .into_iter()
                .map(|value| value as f32)
                .collect(),
        )),
        _ => None,
    }
}

/// Where the axes of an array of images are.
#[derive(Clone, Copy)]
pub(super) enum Layout {
    Grey,
    ChannelsLast,
    ChannelsFirst,
}

/// One array.
pub(super) struct Array<'p> {
    path: &'p Path,
    name: String,
    shape: Vec<usize>,
    order: Order,
    values: Values,
}

impl Array<'_> {
    fn place(&self) -> Place {
        Place::Entry(format!("the array {:?}", self.name))
    }

    /// The shape of its images, and where their axes are.
    pub(super) fn layout(&self) -> Result<(ImageShape, Layout), DataError> {
        let colours = |channels: usize| channels == 1 || channels == 3;
        let found = match self.shape[..] {
            [_, height, width] => Some((1, height, width, Layout::Grey)),
            [_, height, width, channels] if colours(channels) && !colours(height) => {
                Some((channels, height, width, Layout::ChannelsLast))
            }
            [_, channels, height, width] if colours(channels) && !colours(width) => {
                Some((channels, height, width, Layout::ChannelsFirst))
            }
            _ => None,
        };
        match found {
            Some((channels, height, width, layout)) if !self.shape.contains(&0) => Ok((
                ImageShape {
                    channels,
                    height,
                    width,
                },
                layout,
            )),
            _ => {
                let expected = "images as N×H×W, N×H×W×C or N×C×H×W with 1 or 3 channels";
                let way_out = "save the array again in one of these shapes";
                Err(malformed(
                    self.path,
                    self.place(),
                    expected,
                    format!("the shape {:?}", self.shape),
                    way_out,
                ))
            }
        }
    }

    /// The pixels, C, H, W; floats are bytes where each of them is a whole 255th.
    pub(super) fn pixels(&self, image: ImageShape, layout: Layout) -> Result<Pixels, DataError> {
        // Steps between neighbours along the array's own axes, then along N, C, H, W.
        let mut steps = vec![1; self.shape.len()];
        match self.order {
            Order::C => (1..self.shape.len())
                .rev()
                .for_each(|axis| steps[axis - 1] = steps[axis] * self.shape[axis]),
            Order::Fortran => {
                (1..self.shape.len()).for_each(|axis| steps[axis] = steps[axis - 1] * self.shape[axis - 1])
            }
        }
        let [by_image, by_channel, by_row, by_column] = match layout {
            Layout::Grey => [steps[0], 0, steps[1], steps[2]],
            Layout::ChannelsLast => [steps[0], steps[3], steps[1], steps[2]],
            Layout::ChannelsFirst => [steps[0], steps[1], steps[2], steps[3]],
        };
        let places = || {
            let of_one = move |example: usize| (0..image.channels).map(move |channel| (example, channel));
            let planes = (0..self.shape[0]).flat_map(of_one);
            planes.flat_map(move |(example, channel)| {
                (0..image.height).flat_map(move |row| {
                    let start = example * by_image + channel * by_channel + row * by_row;
                    (0..image.width).map(move |column| start + column * by_column)
                })
            })
        };
        match &self.values {
            Values::Bytes(bytes) => Ok(Pixels::Bytes(places().map(|place| bytes[place]).collect())),
            Values::Integers(_) => Err(self.no_pixel("wider whole numbers".into(), 0, layout)),
            Values::Text(_) => Err(self.no_pixel("text".into(), 0, layout)),
            Values::Floats(floats) => {
                let near = |value: f32| (-EXACT..=1.0 + EXACT).contains(&value);
                if let Some(wrong) = places().position(|place| !near(floats[place])) {
                    let value = places().nth(wrong).map_or(f32::NAN, |place| floats[place]);
                    return Err(self.no_pixel(value.to_string(), wrong / image.len(), layout));
                }
                let byte = |value: f32| (value.clamp(0.0, 1.0) * 255.0).round();
                let exact = floats.iter().all(|value| (byte(*value) / 255.0 - value).abs() <= EXACT);
                let values = places().map(|place| floats[place]);
                Ok(match exact {
                    true => Pixels::Bytes(values.map(|value| byte(value) as u8).collect()),
                    false => Pixels::Values(values.map(|value| value.clamp(0.0, 1.0)).collect()),
                })
            }
        }
    }

    fn no_pixel(&self, got: String, example: usize, layout: Layout) -> DataError {
        let expected = "pixels as bytes (uint8) or as floats in [0, 1]";
        let (range, way_out) = match &self.values {
            Values::Bytes(_) | Values::Text(_) => (String::new(), "save the pixels' values".into()),
            Values::Integers(values) => self.mended(values.iter().map(|value| *value as f64), layout),
            Values::Floats(values) => self.mended(values.iter().map(|value| f64::from(*value)), layout),
        };
        let got = format!("{got} in example {example}{range}");
        malformed(self.path, self.place(), expected, got, way_out)
    }

    /// Where values go that are no pixels, and the line of Python that makes pixels of them, by what they probably are.
    fn mended(&self, values: impl Iterator<Item = f64>, layout: Layout) -> (String, String) {
        let (mut low, mut high, mut whole, mut finite) = (f64::INFINITY, f64::NEG_INFINITY, true, true);
        for value in values {
            (low, high) = (low.min(value), high.max(value));
            whole &= value.fract() == 0.0;
            finite &= value.is_finite();
        }
        let x = &self.name;
        let (what, line) = if !finite {
            let line = format!("np.nan_to_num({x}, nan=0, posinf=1, neginf=0)");
            ("replace what is no number", line)
        } else if whole && low >= 0.0 && high <= 1.0 {
            ("save 0 and 1 as floats", format!("{x}.astype(np.float32)"))
        } else if whole && low >= 0.0 && high <= 255.0 {
            ("save whole numbers up to 255 as bytes", format!("{x}.astype(np.uint8)"))
        } else if whole && low >= -128.0 && high <= 127.0 {
            ("count from 0 what is counted from -128", format!("({x} + 128.0) / 255"))
        } else if low >= 0.0 && high > 2.0 {
            let largest = [255.0, 65_535.0].into_iter().find(|largest| high <= *largest);
            let line = format!("{x} / {}", largest.unwrap_or(high));
            ("divide by the largest possible value", line)
        } else if low >= -0.1 && high <= 2.0 {
            ("cut off what goes beyond", format!("np.clip({x}, 0, 1)"))
        } else if low >= -1.0 && high <= 1.0 {
            ("bring -1 to 1 back to pixels", format!("({x} + 1) / 2"))
        } else {
            let each = |what: &str| match layout {
                Layout::ChannelsFirst => format!("np.reshape({what}, (-1, 1, 1))"),
                _ => what.to_string(),
            };
            let line = format!("np.clip({x} * {} + {}, 0, 1)", each("std"), each("mean"));
            let what = "undo the normalisation (its mean and std belong beside the weights)";
            (what, line)
        };
        let range = match finite {
            true => format!(", of values from {} to {}", low as f32, high as f32),
            false => String::new(),
        };
        (range, format!("{what}, {x} = {line}, and save the array again"))
    }
}

/// The numbers of one array, in row-major order.
#[derive(Debug, Clone, Copy)]
pub enum NpzValues<'a> {
    /// Pixels, losses and the like.
    F32(&'a [f32]),
    /// Bytes.
    U8(&'a [u8]),
    /// Labels and indices.
    I64(&'a [i64]),
}

impl NpzValues<'_> {
    fn len(&self) -> usize {
        match self {
            NpzValues::F32(values) => values.len(),
            NpzValues::U8(values) => values.len(),
            NpzValues::I64(values) => values.len(),
        }
    }
}

/// Writes arrays as numpy's `.npz`: each a name, a shape and as many values as the shape says. The file appears under
/// its name only when it is whole.
///
/// # Errors
/// Where a shape and its values disagree, or the disk refuses.
pub fn write_npz(path: &Path, arrays: &[(&str, &[usize], NpzValues)]) -> Result<(), DataError> {
    for (name, shape, values) in arrays {
        if shape.iter().product::<usize>() != values.len() {
            let expected = format!("{} values in shape {shape:?}", shape.iter().product::<usize>());
            return Err(DataError::Parts {
                expected,
                got: values.len().to_string(),
                name: name.to_string(),
            });
        }
    }
    let refuse = |error| DataError::Io {
        doing: "write the file",
        error,
        path: path.into(),
    };
    write_whole_with(path, |file| write_arrays(file, arrays)).map_err(refuse)
}

fn write_arrays(file: &mut std::fs::File, arrays: &[(&str, &[usize], NpzValues)]) -> std::io::Result<()> {
    let mut zip = ZipWriter::new(BufWriter::new(file));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .large_file(true);
    for (name, shape, values) in arrays {
        zip.start_file(npyz::npz::file_name_from_array_name(name), options)?;
        match values {
            NpzValues::F32(values) => write_array(&mut zip, shape, values)?,
            NpzValues::U8(values) => write_array(&mut zip, shape, values)?,
            NpzValues::I64(values) => write_array(&mut zip, shape, values)?,
        }
    }
    zip.finish()?.flush()
}

fn write_array<T: npyz::AutoSerialize + Copy>(
    out: &mut impl Write,
    shape: &[usize],
    values: &[T],
) -> std::io::Result<()> {
    let shape: Vec<u64> = shape.iter().map(|size| *size as u64).collect();
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(out)
        .begin_nd()?;
    writer.extend(values.iter().copied())?;
    writer.finish()
}
