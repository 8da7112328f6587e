//! CIFAR-10-C (Hendrycks and Dietterich, 2019): CIFAR-10's test images under a corruption, at five severities.

use std::path::Path;

use super::{
    Dataset, Split, cifar,
    error::{DataError, Place, malformed},
    files,
    npz::Arrays,
};
use crate::memory::Budget;

const SEVERITIES: usize = 5;
const LABELS: &str = "labels";

/// Reads `FOLDER/CORRUPTION`, all five severities in turn, or `FOLDER/CORRUPTION-SEVERITY`; the folder holds `CORRUPTION.npy`
/// and `labels.npy` as published. There are test images only.
pub fn load(path: &Path, split: Split, budget: &Budget) -> Result<Dataset, DataError> {
    let missing = |what: &str, way_out: String| DataError::Missing {
        what: what.into(),
        expected: "FOLDER/CORRUPTION or FOLDER/CORRUPTION-SEVERITY, such as CIFAR-10-C/gaussian_noise-3".into(),
        way_out,
        path: path.into(),
    };
    if split == Split::Train {
        return Err(DataError::NoTrainingSplit {
            got: "CIFAR-10-C, which is a test set".into(),
            path: path.into(),
        });
    }
    if path.is_dir() {
        let way_out = format!("the folder holds {}", corruptions(&Arrays::folder(path, budget)?));
        return Err(missing("corruption's name behind the folder", way_out));
    }
    let folder = match path.parent() {
        Some(folder) if folder.is_dir() => folder,
        _ => {
            return Err(missing(
                "folder of CIFAR-10-C",
                "name the folder with the .npy files".into(),
            ));
        }
    };
    let asked = files::name(path);
    let asked = asked.trim_end_matches(".npy");
    let (corruption, severity) = match asked.rsplit_once('-') {
        Some((corruption, severity)) => {
            let severity = severity.parse::<usize>().ok().filter(|s| (1..=SEVERITIES).contains(s));
            let severity = severity.ok_or_else(|| missing("severity of that number", "take one from 1 to 5".into()))?;
            (corruption, Some(severity))
        }
        None => (asked, None),
    };
    let mut arrays = Arrays::folder(folder, budget)?;
    if !arrays.names().iter().any(|name| name == corruption) {
        let way_out = format!("the folder holds {}", corruptions(&arrays));
        return Err(missing(&format!("corruption {corruption:?}"), way_out));
    }
    let images = arrays.read(corruption)?;
    let (shape, layout) = images.layout()?;
    let mut pixels = images.pixels(shape, layout)?;
    let mut labels = arrays.labels(LABELS)?;
    let count = pixels.len() / shape.len();
    if labels.len() != count || count % SEVERITIES != 0 {
        let expected = "as many labels as images, five severities of equally many";
        let got = format!("{count} images and {} labels", labels.len());
        let file = folder.join(format!("{corruption}.npy"));
        return Err(malformed(
            &file,
            Place::File,
            expected,
            got,
            "take both files from one download",
        ));
    }
    let class_names: Vec<String> = cifar::CIFAR10.class_names.iter().map(ToString::to_string).collect();
    if let Some(example) = labels.iter().position(|label| usize::from(*label) >= class_names.len()) {
        let images = folder.join(format!("{corruption}.npy")).display().to_string();
        let file = folder.join(format!("{LABELS}.npy"));
        let way_out = format!(
            "CIFAR-100-C is read as arrays; in Python: import numpy as np; np.savez(\"{corruption}.npz\", x_test=np.load({images:?}), \
             y_test=np.load({:?})); then ask for npz:{corruption}.npz",
            file.display().to_string()
        );
        let got = format!("{} for example {example}", labels[example]);
        return Err(malformed(
            &file,
            Place::File,
            "CIFAR-10's labels, in 0..10",
            got,
            way_out,
        ));
    }
    if let Some(severity) = severity {
        let each = count / SEVERITIES;
        let from = (severity - 1) * each;
        labels = labels[from..from + each].to_vec();
        pixels = pixels.part(from * shape.len()..(from + each) * shape.len());
    }
    let name = format!("CIFAR-10-C {}", asked.replace('_', " "));
    Dataset::from_pixels(name, shape, class_names, pixels, labels)
}

/// The arrays of a folder but its labels, in words.
fn corruptions(arrays: &Arrays) -> String {
    let there = arrays.names().iter().map(String::as_str).filter(|name| *name != LABELS);
    there.collect::<Vec<_>>().join(", ")
}
