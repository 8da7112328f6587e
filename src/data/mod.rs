//! Data sets: read from their original files, from image folders, from arrays, or drawn by the program itself.
//!
//! [`load`] is the one door. What comes out is a [`Dataset`]: bytes on the host, from which batches are uploaded.

mod augment;
mod cifar;
mod cifar_c;
pub mod download;
mod error;
mod fashion;
mod files;
mod folder;
pub mod glyphs;
mod idx;
mod npz;
mod pickle;
mod pseudo_labelled;
mod svhn;
mod tiny_imagenet;

use std::{path::Path, sync::Arc};

use burn::tensor::{Int, Tensor, TensorData};
use md5::{Digest, Md5};

pub use augment::Augmentation;
pub use error::{DataError, Place};
pub use npz::{NpzValues, write_npz};

use crate::compute::Device;
use crate::random::Rng;
use crate::shapes::{Batch, ImageShape};

/// Which part of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// The images to learn from.
    Train,
    /// The images that nothing was chosen on.
    Test,
}

/// How a data set of the `datasets` library becomes one that is read.
const PARQUET: &str = "the library that wrote it gives arrays: from datasets import load_dataset; import numpy as np; \
    d = load_dataset(NAME); np.savez('set.npz', **{f'{k}_{s}': np.stack([np.asarray(v) for v in d[s][c]]) \
    for s in ('train', 'test') for k, c in (('x', 'image'), ('y', 'label'))}); then ask for npz:set.npz";

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
    let unknown = || DataError::UnknownSource { given: source.into() };
    let (kind, rest) = match source.split_once(':') {
        Some((kind, rest)) if !rest.is_empty() => (kind, Some(rest)),
        Some(_) => return Err(unknown()),
        None => (source, None),
    };
    let path = rest.map(Path::new).ok_or_else(unknown);
    match kind {
        "glyphs" => match rest {
            None => Ok(glyphs::generate(glyphs::DEFAULT_SEED, split)),
            Some(seed) => Ok(glyphs::generate(seed.parse().map_err(|_| unknown())?, split)),
        },
        "fashion" if rest.is_none() => fashion::load(split),
        "mnist" => idx::load(&idx::MNIST, path?, split),
        "fashion-mnist" => idx::load(&idx::FASHION_MNIST, path?, split),
        "cifar10" => cifar::load(&cifar::CIFAR10, path?, split),
        "cifar100" => cifar::load(&cifar::CIFAR100, path?, split),
        "folder" | "npz" if rest.is_some_and(|path| holds_tables(Path::new(path))) => Err(other_format(path?)),
        "folder" => folder::load(path?, split),
        "npz" => npz::load(path?, split),
        "cifar10-c" => cifar_c::load(path?, split),
        "svhn" => svhn::load(path?, split),
        "tiny-imagenet" => tiny_imagenet::load(path?, split),
        "parquet" => Err(other_format(path?)),
        "pseudo-labelled" => pseudo_labelled::load(path?, split),
        _ => Err(unknown()),
    }
}

/// Whether a file is a table of pictures, or a folder holds some, as `datasets` lays them out.
fn holds_tables(path: &Path) -> bool {
    let is_table = |path: &Path| path.extension().is_some_and(|ending| ending == "parquet");
    let holds = |folder: &Path| files::list(folder).is_ok_and(|paths| paths.iter().any(|path| is_table(path)));
    is_table(path) || (path.is_dir() && (holds(path) || holds(&path.join("data"))))
}

fn other_format(path: &Path) -> DataError {
    DataError::OtherFormat {
        format: "a table of pictures (.parquet)",
        way_out: PARQUET,
        path: path.into(),
    }
}

/// Labelled images on the host. Cloning is cheap: clones and subsets share the pixels.
#[derive(Debug, Clone)]
pub struct Dataset {
    whole: Arc<Whole>,
    /// Positions in the whole set of the examples that this one shows; `None` for all of them.
    shown: Option<Arc<[usize]>>,
}

#[derive(Debug)]
struct Whole {
    name: String,
    shape: ImageShape,
    class_names: Vec<String>,
    /// Image after image, each C, H, W.
    images: Vec<u8>,
    labels: Vec<u16>,
    note: Option<String>,
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
            labels,
            note: None,
            labelled: None,
        }))
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
        let notes = [self.note(), more.note()].into_iter().flatten().map(String::from);
        let counted = format!("{} pseudo-labelled images from {}", more.len(), more.name());
        Ok(Dataset::new(Whole {
            name: self.name().to_string(),
            shape: self.shape(),
            class_names: self.class_names().to_vec(),
            images,
            labels,
            note: None,
            labelled: Some(self.len()),
        })
        .with_notes(notes.chain([counted]).collect()))
    }

    /// A set whose parts are known to fit.
    fn new(whole: Whole) -> Dataset {
        Dataset {
            whole: Arc::new(whole),
            shown: None,
        }
    }

    /// The set with remarks on where it came from; loaders call it before anyone else has the set.
    fn with_notes(mut self, notes: Vec<String>) -> Dataset {
        if let (false, Some(whole)) = (notes.is_empty(), Arc::get_mut(&mut self.whole)) {
            whole.note = Some(notes.join("; "));
        }
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
            labels,
            note: whole.note.clone(),
            labelled: whole.labelled,
        });
        relabelled.shown.clone_from(&self.shown);
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

    /// The pixels of the example at a position, C, H, W.
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

    /// A remark on where the data came from that belongs beside every figure, such as "JPEG images: lossy".
    pub fn note(&self) -> Option<&str> {
        self.whole.note.as_deref()
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
        }
    }

    /// The first `count` examples; all of them where there are fewer.
    ///
    /// A set that is sorted by class (as a folder of images is) would begin with one class only: there, the first
    /// examples of every class are taken, as evenly as they allow.
    pub fn take(&self, count: usize) -> Dataset {
        if count >= self.len() {
            return self.clone();
        }
        let sorted = (1..self.len()).all(|i| self.label(i - 1) <= self.label(i));
        let (first, last) = (self.label(0), self.label(self.len() - 1));
        if !sorted || first == last {
            return self.subset(&(0..count).collect::<Vec<_>>());
        }
        let mut chosen: Vec<usize> = Vec::with_capacity(count);
        for (members, quota) in self.by_class().iter().zip(self.quotas(count)) {
            chosen.extend(&members[..quota]);
        }
        chosen.sort_unstable();
        self.subset(&chosen)
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
        (self.subset(&rest), self.subset(&held))
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
        let pixels: Vec<f32> = self
            .gather(positions)
            .into_iter()
            .map(|byte| f32::from(byte) / 255.0)
            .collect();
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
        augmentation: &Augmentation,
        rng: &mut Rng,
        device: &Device,
    ) -> Batch {
        let placements = augmentation.placements(positions.len(), rng);
        let bytes = self.gather(positions);
        let images = augment::pad_crop_flip(&bytes, self.shape(), augmentation.pad, &placements, device);
        self.upload(images, positions, device)
    }

    fn gather(&self, positions: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(positions.len() * self.shape().len());
        for position in positions {
            bytes.extend_from_slice(self.image(*position));
        }
        bytes
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
            hash.update(self.image(position));
        }
        files::hex(&hash.finalize())
    }
}
