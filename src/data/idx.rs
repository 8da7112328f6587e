//! IDX files: MNIST and Fashion-MNIST as their authors publish them, gzip or plain.

use std::path::{Path, PathBuf};

use super::{
    Dataset, Split,
    error::{DataError, FETCH_AGAIN, Place, malformed, over},
    fashion, files,
};
use crate::{memory::Budget, shapes::ImageShape};

/// The first four bytes of an IDX file: unsigned bytes in three dimensions (images) or one (labels).
const IMAGES_MAGIC: u32 = 0x0000_0803;
const LABELS_MAGIC: u32 = 0x0000_0801;

/// A data set that comes as four IDX files.
pub struct Family {
    /// What people call it.
    pub name: &'static str,
    /// What `martlet data get` calls it.
    pub source: &'static str,
    /// Where torchvision keeps the files under its root.
    nested: &'static str,
    pub(super) class_names: [&'static str; 10],
    train: Originals,
    test: Originals,
}

/// MD5 checksums of one split's original files: as published (gzip) and, where known, unpacked.
struct Originals {
    images: [Option<&'static str>; 2],
    labels: [Option<&'static str>; 2],
}

/// MNIST (LeCun, Cortes, Burges).
pub const MNIST: Family = Family {
    name: "MNIST",
    source: "mnist",
    nested: "MNIST/raw",
    class_names: ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    train: Originals {
        images: [
            Some("f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            Some("6bbc9ace898e44ae57da46a324031adb"),
        ],
        labels: [
            Some("d53e105ee54ea40749a09fcbcd1e9432"),
            Some("a25bea736e30d166cdddb491f175f624"),
        ],
    },
    test: Originals {
        images: [
            Some("9fb629c4189551a2d022fa330f9573f3"),
            Some("2646ac647ad5339dbf082846283269ea"),
        ],
        labels: [
            Some("ec29112dd5afa0611ce80d1b7f02629c"),
            Some("27ae3e4e09519cfbb04c329615203637"),
        ],
    },
};

/// Fashion-MNIST (Xiao, Rasul, Vollgraf, 2017).
pub const FASHION_MNIST: Family = Family {
    name: "Fashion-MNIST",
    source: "fashion-mnist",
    nested: "FashionMNIST/raw",
    class_names: [
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ],
    train: Originals {
        images: [Some("8d4fb7e6c68d591d4c3dfef9ec88bf0d"), None],
        labels: [Some("25c81989df183df01b3e8a0aad5dffbe"), None],
    },
    test: Originals {
        images: [Some("bef4ecab320f06d8554ea6380940ec79"), None],
        labels: [Some("bb300cfdad3c16e7a12a480ee83cd310"), None],
    },
};

impl Family {
    fn originals(&self, split: Split) -> &Originals {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

/// Reads one split from a folder that holds the IDX files, or torchvision's `raw` folder below it.
pub fn load(family: &Family, folder: &Path, split: Split, budget: &Budget) -> Result<Dataset, DataError> {
    let part = if split == Split::Train { "train" } else { "t10k" };
    let images = File::find(family, folder, &format!("{part}-images"), "idx3-ubyte", budget)?;
    let labels = File::find(family, folder, &format!("{part}-labels"), "idx1-ubyte", budget)?;

    let other = if family.source == MNIST.source {
        &FASHION_MNIST
    } else {
        &MNIST
    };
    let mut notes = Vec::new();
    for (file, own, others) in [
        (&images, &family.originals(split).images, &other.originals(split).images),
        (&labels, &family.originals(split).labels, &other.originals(split).labels),
    ] {
        if file.is_one_of(others) {
            let way_out = format!("ask for {}:FOLDER", other.source);
            return Err(malformed(&file.path, Place::File, family.name, other.name, way_out));
        }
        // A plain file can only be compared where the unpacked original's checksum is known.
        let comparable = file.packed_md5.is_some() || own[1].is_some();
        if comparable && !file.is_one_of(own) {
            notes.push(format!("{} is not the original file", files::name(&file.path)));
        }
    }

    let (shape, pixels) = images.images()?;
    let classes = family.class_names.len();
    let values = labels.labels(classes)?;
    let count = pixels.len() / shape.len();
    if values.len() != count {
        let expected = format!("{count} labels, one for each image of {}", files::name(&images.path));
        let got = format!("{} labels", values.len());
        return Err(malformed(
            &labels.path,
            Place::Byte(4),
            expected,
            got,
            "take both files from one download",
        ));
    }
    // No checksum of Fashion-MNIST's unpacked files is published, and KMNIST's have the same names: the original begins with the part that
    // comes along.
    if family.source == FASHION_MNIST.source {
        let part = fashion::load(split)?.whole;
        let own: Vec<u8> = part.labels.iter().map(|label| *label as u8).collect();
        for (file, is_original) in [
            (&images, pixels.starts_with(&part.images)),
            (&labels, values.starts_with(&own)),
        ] {
            if file.packed_md5.is_none() && !is_original {
                notes.push(format!("{} is not the original file", files::name(&file.path)));
            }
        }
    }
    budget
        .take_values::<u16>(values.len())
        .and_then(|()| budget.take(pixels.len() as u64))
        .map_err(|error| over(&images.path, format!("{count} images of {shape}"), error))?;
    let labels = values.iter().map(|label| u16::from(*label)).collect();
    let class_names = family.class_names.map(String::from).to_vec();
    Ok(Dataset::from_parts(family.name, shape, class_names, pixels.to_vec(), labels)?.with_notes(notes))
}

/// One IDX file, unpacked.
struct File {
    path: PathBuf,
    content: Vec<u8>,
    /// Checksum of the gzip file, if it was one.
    packed_md5: Option<String>,
    content_md5: String,
}

impl File {
    /// The file of a stem under any of its usual names, in `folder` or torchvision's place below it.
    fn find(family: &Family, folder: &Path, stem: &str, kind: &str, budget: &Budget) -> Result<Self, DataError> {
        let nested = folder.join(family.nested);
        for place in [folder, nested.as_path()] {
            for name in [format!("{stem}-{kind}"), format!("{stem}.{kind}")] {
                for ending in ["", ".gz"] {
                    let path = place.join(format!("{name}{ending}"));
                    if path.is_file() {
                        return Self::read(path, budget);
                    }
                }
            }
        }
        Err(DataError::Missing {
            what: format!("{} file {stem}-{kind}", family.name),
            expected: format!("{stem}-{kind} or {stem}.{kind}, plain or .gz"),
            way_out: format!(
                "name the folder that holds the four files, or fetch them: martlet data get {} (EMNIST and other sets of the kind are read as .npz)",
                family.source
            ),
            path: folder.into(),
        })
    }

    fn read(path: PathBuf, budget: &Budget) -> Result<Self, DataError> {
        let bytes = files::read(&path, budget)?;
        let packed_md5 = files::is_gzip(&bytes).then(|| files::md5_hex(&bytes));
        let content = files::unpacked(bytes, &path, budget)?;
        let content_md5 = files::md5_hex(&content);
        Ok(Self {
            path,
            content,
            packed_md5,
            content_md5,
        })
    }

    fn is_one_of(&self, [packed, plain]: &[Option<&'static str>; 2]) -> bool {
        (packed.is_some() && self.packed_md5.as_deref() == *packed) || *plain == Some(self.content_md5.as_str())
    }

    /// The big-endian number at `offset`.
    fn number(&self, offset: usize, what: &str) -> Result<u32, DataError> {
        match self.content.get(offset..offset + 4) {
            Some(&[a, b, c, d]) => Ok(u32::from_be_bytes([a, b, c, d])),
            _ => {
                let got = format!("the end of the file at byte {}", self.content.len());
                Err(malformed(
                    &self.path,
                    Place::Byte(offset as u64),
                    format!("{what} in 4 bytes"),
                    got,
                    FETCH_AGAIN,
                ))
            }
        }
    }

    /// What follows the header, which must be exactly `count · size` bytes.
    fn body(&self, what: &str, header: usize, size: u64) -> Result<&[u8], DataError> {
        let count = u64::from(self.number(4, "the count")?);
        let expected = count
            .checked_mul(size)
            .and_then(|bytes| bytes.checked_add(header as u64));
        let got = self.content.len() as u64;
        if expected != Some(got) {
            let expected_bytes = expected.map_or("more than any file".into(), |bytes| bytes.to_string());
            let expected =
                format!("{expected_bytes} bytes ({count} {what} of {size} bytes after a header of {header})");
            return Err(malformed(
                &self.path,
                Place::Byte(got),
                expected,
                format!("{got} bytes"),
                FETCH_AGAIN,
            ));
        }
        if count == 0 {
            return Err(malformed(
                &self.path,
                Place::Byte(4),
                format!("at least one of {what}"),
                "0",
                FETCH_AGAIN,
            ));
        }
        Ok(&self.content[header..])
    }

    fn check_magic(&self, magic: u32, what: &str) -> Result<(), DataError> {
        let found = self.number(0, "the magic number")?;
        if found == magic {
            return Ok(());
        }
        let expected = format!("the magic number 0x{magic:08x} (IDX {what})");
        let way_out = match found {
            IMAGES_MAGIC | LABELS_MAGIC => "images and labels seem to be swapped: give each file its own name back",
            _ => "this is no IDX file of bytes: take the original, plain or as .gz",
        };
        Err(malformed(
            &self.path,
            Place::Byte(0),
            expected,
            format!("0x{found:08x}"),
            way_out,
        ))
    }

    /// Header: magic, count, rows, columns; then the pixels.
    fn images(&self) -> Result<(ImageShape, &[u8]), DataError> {
        self.check_magic(IMAGES_MAGIC, "images")?;
        self.number(4, "the count")?;
        let (height, width) = (
            self.number(8, "the number of rows")?,
            self.number(12, "the number of columns")?,
        );
        if height == 0 || width == 0 {
            let got = format!("{height}×{width}");
            return Err(malformed(
                &self.path,
                Place::Byte(8),
                "images of at least 1×1",
                got,
                FETCH_AGAIN,
            ));
        }
        let pixels = self.body("images", 16, u64::from(height) * u64::from(width))?;
        Ok((
            ImageShape {
                channels: 1,
                height: height as usize,
                width: width as usize,
            },
            pixels,
        ))
    }

    /// Header: magic, count; then one byte a label.
    fn labels(&self, classes: usize) -> Result<&[u8], DataError> {
        const HEADER: usize = 8;
        self.check_magic(LABELS_MAGIC, "labels")?;
        let labels = self.body("labels", HEADER, 1)?;
        match labels.iter().position(|label| usize::from(*label) >= classes) {
            None => Ok(labels),
            Some(example) => {
                let place = Place::Byte((HEADER + example) as u64);
                let got = format!("{} for example {example}", labels[example]);
                // EMNIST's letters are 1 to 26, its other parts have up to 62 classes, and its pictures lie on their side.
                let way_out = match labels.iter().max() {
                    Some(largest) if *largest < 62 && example < labels.len() / 2 => {
                        "these may be EMNIST's labels: save the images turned, x.transpose(0, 2, 1), and the labels from 0 as .npz, and ask for npz:FILE"
                    }
                    _ => FETCH_AGAIN,
                };
                let expected = format!("a label in 0..{classes}");
                Err(malformed(&self.path, place, expected, got, way_out))
            }
        }
    }
}
