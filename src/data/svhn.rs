//! Street View House Numbers (Netzer et al., 2011), cropped digits: `train_32x32.mat` and `test_32x32.mat`.

use std::{io::Read, path::Path};

use flate2::bufread::ZlibDecoder;
use matfile::{MatFile, NumericData};

use super::{
    Dataset, Split,
    error::{DataError, FETCH_AGAIN, Place, malformed, over},
    files, foreign,
};
use crate::{memory::Budget, shapes::ImageShape};

/// How MATLAB's own files of version 5 begin; others are read too where they name no version.
const VERSION_5: &[u8] = b"MATLAB 5.0";

/// Reads one split from the folder that holds the two files. The digit 0, which the files call 10, is class 0.
pub fn load(folder: &Path, split: Split, budget: &Budget) -> Result<Dataset, DataError> {
    let name = if split == Split::Train {
        "train_32x32.mat"
    } else {
        "test_32x32.mat"
    };
    let path = folder.join(name);
    if !path.is_file() {
        return Err(DataError::Missing {
            what: name.into(),
            expected: "train_32x32.mat and test_32x32.mat".into(),
            way_out: "name the folder that holds SVHN's cropped digits".into(),
            path: folder.into(),
        });
    }
    let refuse = |place: Place, expected: &str, got: String| malformed(&path, place, expected, got, FETCH_AGAIN);
    let bytes = files::read(&path, budget)?;
    if let Some(other) = foreign::named(&bytes, &path).filter(|_| !bytes.starts_with(VERSION_5)) {
        return Err(other);
    }
    // The parser unpacks everything, and then makes arrays of it.
    let unpacked = unpacked(&bytes, budget.left()).ok_or_else(|| {
        refuse(
            Place::File,
            "elements that are packed once",
            "one packed again and again".into(),
        )
    })?;
    budget
        .take(unpacked.saturating_mul(3))
        .map_err(|error| over(&path, "the arrays X and y", error))?;
    let file = MatFile::parse(bytes.as_slice())
        .map_err(|error| refuse(Place::File, "a whole MATLAB file (version 5)", error.to_string()))?;
    drop(bytes);
    let array = |name: &str| {
        let found = file.find_by_name(name);
        found.ok_or_else(|| refuse(Place::File, "the arrays X and y", format!("none that is called {name}")))
    };
    let (images, labels) = (array("X")?, array("y")?);

    let place = || Place::Entry("the array X".into());
    let NumericData::UInt8 { real: values, .. } = images.data() else {
        let way_out = "save X as uint8, from 0 to 255, as it is published";
        return Err(malformed(&path, place(), "bytes", "numbers of another type", way_out));
    };
    let &[height, width, channels, count] = images.size().as_slice() else {
        return Err(refuse(
            place(),
            "bytes in H×W×3×N",
            format!("the shape {:?}", images.size()),
        ));
    };
    let shape = ImageShape {
        channels,
        height,
        width,
    };
    if channels != 3 || Some(values.len()) != shape.len().checked_mul(count) {
        return Err(refuse(
            place(),
            "bytes in H×W×3×N",
            format!("{} in the shape {:?}", values.len(), images.size()),
        ));
    }
    // MATLAB lets the first axis run fastest: an image lies by columns, channel after channel.
    let mut pixels = Vec::with_capacity(values.len());
    for plane in values.chunks_exact((height * width).max(1)) {
        for row in 0..height {
            pixels.extend((0..width).map(|column| plane[column * height + row]));
        }
    }

    let place = || Place::Entry("the array y".into());
    let digits = whole(labels.data()).ok_or_else(|| refuse(place(), "whole numbers", "another type".into()))?;
    if digits.len() != count {
        return Err(refuse(place(), &format!("{count} labels"), digits.len().to_string()));
    }
    if let Some(digit) = digits.iter().find(|digit| !(0..=10).contains(*digit)) {
        return Err(refuse(place(), "labels from 1 to 10", digit.to_string()));
    }
    let labels = digits.into_iter().map(|digit| (digit % 10) as u16).collect();
    let class_names = (0..10).map(|digit| digit.to_string()).collect();
    Dataset::from_parts("SVHN", shape, class_names, pixels, labels)
}

/// Bytes of a MATLAB file's elements once they are unpacked, at most a little more than `most` of each; none where one is packed
/// within another, which MATLAB never does and the parser would follow.
fn unpacked(bytes: &[u8], most: u64) -> Option<u64> {
    /// Bytes before the first element.
    const HEADER: usize = 128;
    /// An element that is packed by zlib.
    const COMPRESSED: u32 = 15;
    let mut rest = bytes.get(HEADER..).unwrap_or_default();
    let mut sum = 0_u64;
    while let Some((&[a, b, c, d, e, f, g, h], content)) = rest.split_first_chunk::<8>() {
        // The file says itself which byte comes first; a length that is wrong in one order leads out of the file.
        let order = if bytes.get(126) == Some(&b'M') {
            u32::from_be_bytes
        } else {
            u32::from_le_bytes
        };
        let (kind, length) = (order([a, b, c, d]), order([e, f, g, h]) as usize);
        let element = &content[..length.min(content.len())];
        sum = sum.saturating_add(match kind {
            COMPRESSED => {
                let mut stream = ZlibDecoder::new(element).take(most.saturating_add(1));
                let mut inner = [0; 4];
                if stream.read_exact(&mut inner).is_ok() && order(inner) == COMPRESSED {
                    return None;
                }
                std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or(0)
            }
            _ => element.len() as u64,
        });
        rest = content.get(length..).unwrap_or_default();
    }
    Some(sum)
}

/// Whole numbers in any type that MATLAB keeps them in.
fn whole(data: &NumericData) -> Option<Vec<i64>> {
    fn wide<T: Copy + Into<i64>>(values: &[T]) -> Vec<i64> {
        values.iter().map(|value| (*value).into()).collect()
    }
    match data {
        NumericData::UInt8 { real, .. } => Some(wide(real)),
        NumericData::Int8 { real, .. } => Some(wide(real)),
        NumericData::UInt16 { real, .. } => Some(wide(real)),
        NumericData::Int16 { real, .. } => Some(wide(real)),
        NumericData::UInt32 { real, .. } => Some(wide(real)),
        NumericData::Int32 { real, .. } => Some(wide(real)),
        NumericData::Int64 { real, .. } => Some(real.clone()),
        NumericData::Double { real, .. } => {
            let whole = real.iter().all(|value| value.fract() == 0.0 && value.abs() < 1e9);
            whole.then(|| real.iter().map(|value| *value as i64).collect())
        }
        NumericData::UInt64 { .. } | NumericData::Single { .. } => None,
    }
}
