//! Data sets: read from their original files, from image folders, from arrays, or drawn by the program itself.
//!
//! [`load`] is the one door. What comes out is a [`Dataset`]: bytes on the host, from which batches are uploaded.

mod archive;
mod augment;
mod cifar;
mod cifar_c;
pub mod download;
mod error;
mod fashion;
mod files;
mod folder;
mod foreign;
pub mod glyphs;
mod idx;
mod npz;
mod parts;
mod pickle;
mod pictures;
mod pseudo_labelled;
mod remarks;
mod svhn;
mod tiny_imagenet;

use std::{ops::Range, path::Path, sync::Arc};

use burn::tensor::{Int, Tensor, TensorData};
use md5::{Digest, Md5};

pub use augment::Augmentation;
pub use error::{DataError, KINDS, Place};
pub use folder::ENDINGS as PICTURE_ENDINGS;
pub use npz::{NpzValues, write_npz};
pub(crate) use remarks::twins;

use crate::{
    compute::Device,
    memory::Budget,
    random::Rng,
    shapes::{Batch, ImageShape},
};

/// Which part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// The images to learn from.
    Train,
    /// The images that nothing was chosen on.
    Test,
}

/// Reads a data set.
///
/// `source` is `glyphs`, `glyphs:SEED`, `fashion`, `mnist:FOLDER`, `fashion-mnist:FOLDER`, `cifar10:PATH`, `cifar100:PATH`,
/// `folder:PATH` (a folder of images or a .zip of one), `npz:PATH` (an .npz file or a folder of .npy files; MedMNIST's too),
/// `cifar10-c:FOLDER/CORRUPTION` or `cifar10-c:FOLDER/CORRUPTION-SEVERITY`, `svhn:FOLDER`, `tiny-imagenet:FOLDER`, or
/// `pseudo-labelled:FILE` (a pickle of images that a model labelled).
///
/// # Errors
/// Where the name is unknown, a file is missing, or anything in a file is not as its format says.
/// [`DataError::NoTestSplit`] where the source has no test images of its own, [`DataError::NoTrainingSplit`] where it has no
/// others.
pub fn load(source: &str, split: Split) -> Result<Dataset, DataError> {
    load_within(source, split, &Preparation::default(), &Budget::default())
}

/// As [`load`], with what is done to each picture, and within a budget of memory.
///
/// # Errors
/// As [`load`]; [`DataError::Memory`] where it would take more, before it is taken; [`DataError::Parts`] where the source has no
/// pictures that could be prepared.
pub fn load_within(
    source: &str,
    split: Split,
    preparation: &Preparation,
    budget: &Budget,
) -> Result<Dataset, DataError> {
    let unknown = || DataError::UnknownSource { given: source.into() };
    let (kind, rest) = match source.split_once(':') {
        Some((kind, rest)) if !rest.is_empty() => (kind, Some(rest)),
        Some(_) => return Err(unknown()),
        None => (source, None),
    };
    let path = rest.map(Path::new).ok_or_else(unknown);
    if let (Ok(path), true) = (&path, kind != "glyphs") {
        files::refuse_pipe(path)?;
    }
    if kind != "folder" && !preparation.is_none() {
        return Err(DataError::Parts {
            expected: "no resize and no centre crop, which are for a folder of pictures (folder:PATH)".into(),
            got: format!("{preparation}"),
            name: source.into(),
        });
    }
    let set = match kind {
        "glyphs" => match rest {
            None => Ok(glyphs::generate(glyphs::DEFAULT_SEED, split)),
            Some(seed) => Ok(glyphs::generate(seed.parse().map_err(|_| unknown())?, split)),
        },
        "fashion" if rest.is_none() => fashion::load(split),
        "mnist" => idx::load(&idx::MNIST, path?, split, budget),
        "fashion-mnist" => idx::load(&idx::FASHION_MNIST, path?, split, budget),
        "cifar10" => cifar::load(&cifar::CIFAR10, path?, split, budget),
        "cifar100" => cifar::load(&cifar::CIFAR100, path?, split, budget),
        "folder" => folder::load(path?, split, preparation, budget),
        "npz" => npz::load(path?, split, budget),
        "cifar10-c" => cifar_c::load(path?, split, budget),
        "svhn" => svhn::load(path?, split, budget),
        "tiny-imagenet" => tiny_imagenet::load(path?, split, budget),
        "parquet" => Err(foreign::parquet(path?)),
        "pseudo-labelled" => pseudo_labelled::load(path?, split, budget),
        _ => Err(unknown()),
    }?;
    let darkness = set.darkness();
    Ok(set.with_notes(darkness))
}

/// What is done to each picture of a folder before anything else sees it, as torchvision's `Resize` and `CenterCrop` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Preparation {
    /// The shorter side is scaled to so many pixels, by linear interpolation over every pixel that a new one covers; the middle
    /// square is taken.
    pub resize: Option<usize>,
    /// The middle square of so many pixels is taken, after scaling.
    pub center_crop: Option<usize>,
}

impl Preparation {
    /// Whether nothing is done.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::fmt::Display for Preparation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.resize, self.center_crop) {
            (Some(resize), Some(crop)) => write!(f, "pictures scaled to {resize}, the middle {crop}×{crop} taken"),
            (Some(resize), None) => write!(f, "pictures scaled to {resize}×{resize}"),
            (None, Some(crop)) => write!(f, "the middle {crop}×{crop} of pictures taken"),
            (None, None) => write!(f, "pictures as they are"),
        }
    }
}

/// Labelled images on the host. Cloning is cheap: clones and subsets share the pixels.
#[derive(Debug, Clone)]
pub struct Dataset {
    whole: Arc<Whole>,
    /// Positions in the whole set of the examples that this one shows; `None` for all of them.
    shown: Option<Arc<[usize]>>,
    /// Remarks; those on a part are no matter of the whole.
    note: Option<Arc<str>>,
}

/// Pixels as a file has them, image after image in C, H, W order.
#[derive(Debug)]
enum Pixels {
    /// 255ths.
    Bytes(Vec<u8>),
    /// Values in [0, 1], some of which are no 255ths.
    Values(Vec<f32>),
}

impl Pixels {
    fn len(&self) -> usize {
        match self {
            Pixels::Bytes(bytes) => bytes.len(),
            Pixels::Values(values) => values.len(),
        }
    }

    /// Those of a range alone.
    fn part(self, range: std::ops::Range<usize>) -> Pixels {
        match self {
            Pixels::Bytes(bytes) => Pixels::Bytes(bytes[range].to_vec()),
            Pixels::Values(values) => Pixels::Values(values[range].to_vec()),
        }
    }
}

#[derive(Debug)]
struct Whole {
    name: String,
    shape: ImageShape,
    class_names: Vec<String>,
    /// Image after image, each C, H, W.
    images: Vec<u8>,
    /// The same as values in [0, 1], where the source has some that are no whole number of 255ths; `images` are these rounded.
    exact: Option<Vec<f32>>,
    labels: Vec<u16>,
    /// How many examples, from the first, bear labels that are known rather than guessed; `None` for all.
    labelled: Option<usize>,
}

impl Dataset {
    /// A data set from its parts: image after image in C, H, W order, one label an image.
    ///
    /// # Errors
    /// [`DataError::Parts`] where there is no image, the counts disagree, or a label names no class.
    pub fn from_parts(
        name: impl Into<String>,
        shape: ImageShape,
        class_names: Vec<String>,
        images: Vec<u8>,
        labels: Vec<u16>,
    ) -> Result<Dataset, DataError> {
        let name = name.into();
        let refuse = |expected: String, got: String| {
            Err(DataError::Parts {
                expected,
                got,
                name: name.clone(),
            })
        };
        if labels.is_empty() || shape.is_empty() {
            return refuse(
                "at least one image".into(),
                format!("{} images of {shape}", labels.len()),
            );
        }
        if images.len() != labels.len() * shape.len() {
            let expected = format!(
                "{} bytes ({} images of {shape})",
                labels.len() * shape.len(),
                labels.len()
            );
            return refuse(expected, format!("{} bytes", images.len()));
        }
        if let Some(example) = labels.iter().position(|label| usize::from(*label) >= class_names.len()) {
            let expected = format!("labels in 0..{}", class_names.len());
            return refuse(expected, format!("label {} of example {example}", labels[example]));
        }
        Ok(Dataset::new(Whole {
            name,
            shape,
            class_names,
            images,
            exact: None,
            labels,
            labelled: None,
        }))
    }

    /// As [`Dataset::from_parts`], of values in [0, 1] that are kept as they are.
    ///
    /// # Errors
    /// As [`Dataset::from_parts`], and where a value is outside of [0, 1].
    pub fn from_values(
        name: impl Into<String>,
        shape: ImageShape,
        class_names: Vec<String>,
        values: Vec<f32>,
        labels: Vec<u16>,
    ) -> Result<Dataset, DataError> {
        let name = name.into();
        if let Some(value) = values.iter().find(|value| !(0.0..=1.0).contains(*value)) {
            return Err(DataError::Parts {
                expected: "values in [0, 1]".into(),
                got: value.to_string(),
                name,
            });
        }
        let rounded = values.iter().map(|value| (value * 255.0).round() as u8).collect();
        let mut set = Dataset::from_parts(name, shape, class_names, rounded, labels)?;
        if let Some(whole) = Arc::get_mut(&mut set.whole) {
            whole.exact = Some(values);
        }
        Ok(set)
    }

    fn from_pixels(
        name: String,
        shape: ImageShape,
        class_names: Vec<String>,
        pixels: Pixels,
        labels: Vec<u16>,
    ) -> Result<Dataset, DataError> {
        match pixels {
            Pixels::Bytes(bytes) => Dataset::from_parts(name, shape, class_names, bytes, labels),
            Pixels::Values(values) => Dataset::from_values(name, shape, class_names, values, labels),
        }
    }

    /// This set with `more` behind it, whose labels are taken for a model's guesses: [`Dataset::labelled`] tells the two
    /// apart.
    ///
    /// # Errors
    /// [`DataError::Parts`] where `more` has images of another shape, or a label that names no class of this set.
    pub fn with_pseudo_labelled(&self, more: &Dataset) -> Result<Dataset, DataError> {
        let refuse = |expected: String, got: String| DataError::Parts {
            expected,
            got,
            name: more.name().to_string(),
        };
        if more.shape() != self.shape() {
            let expected = format!("images of {}, as {} has", self.shape(), self.name());
            return Err(refuse(expected, more.shape().to_string()));
        }
        let both = || {
            [self, more]
                .into_iter()
                .flat_map(|set| (0..set.len()).map(move |i| (set, i)))
        };
        let labels: Vec<u16> = both().map(|(set, i)| set.label(i) as u16).collect();
        if let Some(label) = labels.iter().find(|label| usize::from(**label) >= self.classes()) {
            let expected = format!("pseudo-labels in 0..{}, as {} has", self.classes(), self.name());
            return Err(refuse(expected, format!("the label {label}")));
        }
        let mut images = Vec::with_capacity(labels.len() * self.shape().len());
        both().for_each(|(set, i)| images.extend_from_slice(set.image(i)));
        let exact = (self.is_exact() || more.is_exact()).then(|| both().flat_map(|(set, i)| set.values(i)).collect());
        let notes = [self.note(), more.note()].into_iter().flatten().map(String::from);
        let counted = format!("{} pseudo-labelled images from {}", more.len(), more.name());
        Ok(Dataset::new(Whole {
            name: self.name().to_string(),
            shape: self.shape(),
            class_names: self.class_names().to_vec(),
            images,
            exact,
            labels,
            labelled: Some(self.len()),
        })
        .with_notes(notes.chain([counted])))
    }

    /// A set whose parts are known to fit.
    fn new(whole: Whole) -> Dataset {
        Dataset {
            whole: Arc::new(whole),
            shown: None,
            note: None,
        }
    }

    /// The set with more remarks, behind those that it has.
    pub(crate) fn with_notes(mut self, notes: impl IntoIterator<Item = String>) -> Dataset {
        let all: Vec<String> = self.note().map(String::from).into_iter().chain(notes).collect();
        self.note = (!all.is_empty()).then(|| all.join("; ").into());
        self
    }

    /// What to call the set, such as `MNIST`.
    pub fn name(&self) -> &str {
        &self.whole.name
    }

    /// The shape of every image.
    pub fn shape(&self) -> ImageShape {
        self.whole.shape
    }

    /// The classes' names, in label order.
    pub fn class_names(&self) -> &[String] {
        &self.whole.class_names
    }

    /// The same examples among `classes`, which hold every class of this set under its name, in any order.
    ///
    /// # Errors
    /// The first class of this set that is not among them.
    pub fn among(&self, classes: &[String]) -> Result<Dataset, String> {
        let place = |name: &String| {
            classes
                .iter()
                .position(|class| class == name)
                .ok_or_else(|| name.clone())
        };
        let places = self.class_names().iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let labels = self.whole.labels.iter().map(|label| places[usize::from(*label)] as u16);
        Ok(self.relabelled(classes, labels.collect()))
    }

    /// The same examples with other names for their classes, in the same order; there may be more of them.
    pub fn with_class_names(&self, classes: &[String]) -> Dataset {
        self.relabelled(classes, self.whole.labels.clone())
    }

    fn relabelled(&self, classes: &[String], labels: Vec<u16>) -> Dataset {
        let whole = &self.whole;
        let mut relabelled = Dataset::new(Whole {
            name: whole.name.clone(),
            shape: whole.shape,
            class_names: classes.to_vec(),
            images: whole.images.clone(),
            exact: whole.exact.clone(),
            labels,
            labelled: whole.labelled,
        });
        (relabelled.shown, relabelled.note) = (self.shown.clone(), self.note.clone());
        relabelled
    }

    /// The number of classes, K.
    pub fn classes(&self) -> usize {
        self.whole.class_names.len()
    }

    /// The number of examples.
    pub fn len(&self) -> usize {
        self.shown.as_ref().map_or(self.whole.labels.len(), |shown| shown.len())
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The examples whose labels are known: those at positions from here on bear pseudo-labels. All of them but after
    /// [`Dataset::with_pseudo_labelled`].
    pub fn labelled(&self) -> usize {
        let known = self.whole.labelled.unwrap_or(usize::MAX);
        match &self.shown {
            Some(shown) => shown.iter().filter(|index| **index < known).count(),
            None => known.min(self.len()),
        }
    }

    /// Whether the images are values that bytes do not hold: [`Dataset::image`] is then rounded, [`Dataset::values`] is not.
    pub fn is_exact(&self) -> bool {
        self.whole.exact.is_some()
    }

    /// The pixels of the example at a position as they are learned and attacked, C, H, W in [0, 1].
    ///
    /// # Panics
    /// Where `position` is not below [`Dataset::len`], as with a slice.
    pub fn values(&self, position: usize) -> Vec<f32> {
        let size = self.whole.shape.len();
        match &self.whole.exact {
            Some(values) => values[self.index(position) * size..][..size].to_vec(),
            None => self
                .image(position)
                .iter()
                .map(|byte| f32::from(*byte) / 255.0)
                .collect(),
        }
    }

    /// The pixels of the example at a position for the eye, C, H, W in 255ths.
    ///
    /// # Panics
    /// Where `position` is not below [`Dataset::len`], as with a slice.
    pub fn image(&self, position: usize) -> &[u8] {
        let size = self.whole.shape.len();
        let start = self.index(position) * size;
        &self.whole.images[start..start + size]
    }

    /// The class of the example at a position.
    ///
    /// # Panics
    /// Where `position` is not below [`Dataset::len`], as with a slice.
    pub fn label(&self, position: usize) -> usize {
        self.whole.labels[self.index(position)].into()
    }

    /// Where the example at a position stands in the original set, whatever subsets were taken since: the key of
    /// per-example state.
    ///
    /// # Panics
    /// Where `position` is not below [`Dataset::len`], as with a slice.
    pub fn index(&self, position: usize) -> usize {
        match &self.shown {
            Some(shown) => shown[position],
            None => position,
        }
    }

    /// Remarks on the data that belong beside every figure, such as "JPEG images: lossy".
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// The examples at `positions`, in that order.
    ///
    /// # Panics
    /// Where a position is not below [`Dataset::len`], as with a slice.
    pub fn subset(&self, positions: &[usize]) -> Dataset {
        let shown = positions.iter().map(|position| self.index(*position)).collect();
        Dataset {
            whole: self.whole.clone(),
            shown: Some(shown),
            note: self.note.clone(),
        }
    }

    /// The first `count` examples; all of them where there are fewer.
    ///
    /// A set whose classes follow one another (as in a folder of images) would begin with one class only: there, the first
    /// examples of every class are taken, as evenly as they allow.
    pub fn take(&self, count: usize) -> Dataset {
        if count >= self.len() {
            return self.clone();
        }
        let members = self.by_class();
        let present = members.iter().filter(|members| !members.is_empty()).count();
        let changes = (1..self.len()).filter(|i| self.label(i - 1) != self.label(*i)).count();
        // As few changes as there can be: each class is one block, whatever their order.
        let in_blocks = changes + 1 == present;
        let mut chosen: Vec<usize> = Vec::with_capacity(count);
        if in_blocks {
            for (members, quota) in members.iter().zip(self.quotas(count)) {
                chosen.extend(&members[..quota]);
            }
            chosen.sort_unstable();
        } else {
            chosen.extend(0..count);
        }
        self.part(&chosen)
    }

    /// Divides the set into (the rest, `held_out` examples), each in the order of the original. The seed chooses;
    /// every class gives in proportion to its size.
    pub fn split_off(&self, held_out: usize, seed: u64) -> (Dataset, Dataset) {
        let mut is_held_out = vec![false; self.len()];
        let mut rng = Rng::new(seed);
        let quotas = self.quotas(held_out.min(self.len()));
        for (mut members, quota) in self.by_class().into_iter().zip(quotas) {
            rng.shuffle(&mut members);
            for position in &members[..quota] {
                is_held_out[*position] = true;
            }
        }
        let (held, rest): (Vec<usize>, Vec<usize>) = (0..self.len()).partition(|position| is_held_out[*position]);
        (self.part(&rest), self.part(&held))
    }

    /// The positions of each class's examples.
    fn by_class(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.classes()];
        for position in 0..self.len() {
            members[self.label(position)].push(position);
        }
        members
    }

    /// How many of `count` examples (at most all) each class gives: proportional to its size, by largest remainder.
    fn quotas(&self, count: usize) -> Vec<usize> {
        let sizes: Vec<usize> = self.by_class().iter().map(Vec::len).collect();
        let total = self.len().max(1);
        let mut quotas: Vec<usize> = sizes.iter().map(|size| size * count / total).collect();
        let mut by_remainder: Vec<usize> = (0..sizes.len()).collect();
        by_remainder.sort_by_key(|class| std::cmp::Reverse(sizes[*class] * count % total));
        let missing = count - quotas.iter().sum::<usize>();
        for class in by_remainder.into_iter().take(missing) {
            quotas[class] += 1;
        }
        quotas
    }

    /// The examples at `positions` on a device, pixels divided by 255.
    ///
    /// # Panics
    /// Where a position is not below [`Dataset::len`], as with a slice.
    pub fn batch(&self, positions: &[usize], device: &Device) -> Batch {
        let mut pixels = Vec::with_capacity(positions.len() * self.shape().len());
        positions
            .iter()
            .for_each(|position| pixels.extend(self.values(*position)));
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape();
        let data = TensorData::new(pixels, [positions.len(), channels, height, width]);
        self.upload(Tensor::from_data(data, device.tensors()), positions, device)
    }

    /// The examples at `positions` on a device, pixels divided by 255, each cropped and mirrored at random.
    ///
    /// # Panics
    /// Where a position is not below [`Dataset::len`], as with a slice.
    pub fn augmented_batch(
        &self,
        positions: &[usize],
        rows: Range<usize>,
        augmentation: &Augmentation,
        rng: &mut Rng,
        device: &Device,
    ) -> Batch {
        let placements = augmentation.placements(positions.len(), rng);
        let (positions, placements) = (&positions[rows.clone()], &placements[rows]);
        let (shape, pad) = (self.shape(), augmentation.pad);
        let images = if self.is_exact() {
            let values: Vec<f32> = positions.iter().flat_map(|position| self.values(*position)).collect();
            augment::pad_crop_flip_values(&values, shape, pad, placements, device)
        } else {
            let mut bytes = Vec::with_capacity(positions.len() * shape.len());
            positions
                .iter()
                .for_each(|position| bytes.extend_from_slice(self.image(*position)));
            augment::pad_crop_flip(&bytes, shape, pad, placements, device)
        };
        self.upload(images, positions, device)
    }

    fn upload(&self, images: Tensor<4>, positions: &[usize], device: &Device) -> Batch {
        let labels: Vec<i64> = positions.iter().map(|position| self.label(*position) as i64).collect();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [positions.len()]), device.tensors());
        Batch {
            images,
            labels,
            indices: positions.iter().map(|position| self.index(*position)).collect(),
        }
    }

    /// A checksum of everything that a model could learn from: shape, class names, and every example in order.
    pub fn fingerprint(&self) -> String {
        let mut hash = Md5::new();
        let ImageShape {
            channels,
            height,
            width,
        } = self.shape();
        hash.update(format!("{channels} {height} {width} {}\n", self.len()));
        for name in self.class_names() {
            hash.update(format!("{name}\n"));
        }
        for position in 0..self.len() {
            hash.update((self.label(position) as u16).to_le_bytes());
            match self.is_exact() {
                true => self
                    .values(position)
                    .iter()
                    .for_each(|value| hash.update(value.to_le_bytes())),
                false => hash.update(self.image(position)),
            }
        }
        files::hex(&hash.finalize())
    }
}
