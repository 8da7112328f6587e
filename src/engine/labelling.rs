//! A network's labels for images that have none (section 3.3).

use std::path::Path;

use super::TrainError;
use crate::{
    compute::{self, Device},
    control::{Control, Next},
    data::{self, Dataset, NpzValues},
    losses,
    nn::{Mode, Model},
    shapes::ImageShape,
};

/// Images of a pass.
const AT_ONCE: usize = 128;

/// Labels images with a model, and writes them as an .npz file with `image`, `label`, `confidence` (the probability of
/// each label) and `classes`, which `npz:FILE` reads. Gives the mean confidence; none where it was asked to stop, and
/// then nothing is written.
///
/// # Errors
/// When the device fails or the file cannot be written.
pub fn pseudo_label(
    model: &Model,
    images: &Dataset,
    path: &Path,
    device: &Device,
    control: &Control,
) -> Result<Option<f64>, TrainError> {
    let (mut labels, mut confidence) = (Vec::new(), Vec::new());
    let positions: Vec<usize> = (0..images.len()).collect();
    for part in positions.chunks(AT_ONCE) {
        if control.pass() == Next::Stop {
            return Ok(None);
        }
        let logits = model.forward(images.batch(part, device).images, Mode::Eval);
        let (strongest, class) = losses::probabilities(logits).max_dim_with_indices(1);
        confidence.extend(compute::read(strongest)?);
        labels.extend(compute::read_int(class)?);
    }
    let ImageShape {
        channels,
        height,
        width,
    } = images.shape();
    // Channels last, as the published sets are.
    let plane = height * width;
    let places = || (0..plane).flat_map(move |i| (0..channels).map(move |c| c * plane + i));
    let of_all = |position: &usize| {
        let image = images.image(*position);
        places().map(|place| image[place]).collect::<Vec<u8>>()
    };
    let bytes: Vec<u8> = positions.iter().flat_map(of_all).collect();
    let of_all = |position: &usize| {
        let image = images.values(*position);
        places().map(|place| image[place]).collect::<Vec<f32>>()
    };
    let exact = images
        .is_exact()
        .then(|| positions.iter().flat_map(of_all).collect::<Vec<f32>>());
    let pixels = exact.as_deref().map_or(NpzValues::U8(&bytes), NpzValues::F32);
    let count = images.len();
    let classes = [model.classes() as i64];
    data::write_npz(
        path,
        &[
            ("image", &[count, height, width, channels], pixels),
            ("label", &[count], NpzValues::I64(&labels)),
            ("confidence", &[count], NpzValues::F32(&confidence)),
            ("classes", &[], NpzValues::I64(&classes)),
        ],
    )?;
    let sum: f64 = confidence.iter().map(|one| f64::from(*one)).sum();
    Ok(Some(sum / count.max(1) as f64))
}
