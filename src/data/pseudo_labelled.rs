//! Images that a model labelled, as Carmon et al. (2019) published theirs: `ti_500K_pseudo_labeled.pickle`.

use std::path::Path;

use super::{
    Dataset, Split,
    error::{DataError, FETCH_AGAIN, Place, malformed, over},
    files, foreign,
    pickle::Pickle,
};
use crate::{memory::Budget, shapes::ImageShape};

/// The first byte of every pickle since protocol 2.
const PICKLE: u8 = 0x80;
const IMAGES: &str = "data";
const LABELS: &str = "extrapolated_targets";

/// Reads a pickled dictionary of `data`, bytes in N × H × W × 3, and `extrapolated_targets`, N whole numbers. It is a
/// training set and nothing else.
pub fn load(path: &Path, split: Split, budget: &Budget) -> Result<Dataset, DataError> {
    if split == Split::Test {
        return Err(DataError::NoTestSplit {
            got: "pseudo-labelled images".into(),
            path: path.into(),
        });
    }
    let content = files::unpacked(files::read(path, budget)?, path, budget)?;
    let pickle = Pickle::read(&content, budget).map_err(|error| {
        if let Some(error) = error.over {
            return over(path, "the objects of the pickle", error);
        }
        let place = Place::Byte(error.offset as u64);
        let other = foreign::named(&content, path).filter(|_| content.first() != Some(&PICKLE));
        other.unwrap_or_else(|| malformed(path, place, error.expected, error.got, FETCH_AGAIN))
    })?;
    let refuse = |expected: String, got: String| {
        let way_out = "name a file such as ti_500K_pseudo_labeled.pickle, or save the images as .npz";
        malformed(path, Place::File, expected, got, way_out)
    };
    let expected = || format!("an array `{IMAGES}` of bytes in N × H × W × 3");
    let (shape, pixels) = pickle
        .byte_array(IMAGES)
        .ok_or_else(|| refuse(expected(), "none".into()))?;
    let &[count, height, width, 3] = shape else {
        return Err(refuse(expected(), format!("the shape {shape:?}")));
    };
    let labels = pickle
        .integers(LABELS)
        .ok_or_else(|| refuse(format!("whole numbers under `{LABELS}`"), "none".into()))?;
    let labels = labels
        .into_iter()
        .map(|label| u16::try_from(label).map_err(|_| refuse("labels from 0".into(), label.to_string())))
        .collect::<Result<Vec<u16>, _>>()?;
    let shape = ImageShape {
        channels: 3,
        height,
        width,
    };
    if count == 0 || labels.len() != count || pixels.len() != count * shape.len() {
        let got = format!("{} labels and {} bytes of pixels", labels.len(), pixels.len());
        return Err(refuse(format!("{count} labels, and as many images of {shape}"), got));
    }
    budget
        .take(pixels.len() as u64)
        .map_err(|error| over(path, format!("{count} images of {shape}"), error))?;
    let mut images = Vec::with_capacity(pixels.len());
    for image in pixels.chunks_exact(shape.len()) {
        for channel in 0..3 {
            images.extend(image.iter().skip(channel).step_by(3));
        }
    }
    let classes = usize::from(labels.iter().copied().max().unwrap_or(0)) + 1;
    let name = path
        .file_stem()
        .map_or("pseudo-labelled".into(), |stem| stem.to_string_lossy().into_owned());
    let class_names = (0..classes).map(|class| class.to_string()).collect();
    Dataset::from_parts(name, shape, class_names, images, labels)
}
