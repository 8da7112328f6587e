//! How bytes are read as each format, the same for the fuzzer and for the mutants of `tests/hostile.rs`.
//!
//! A reader may refuse what it is given; it may not panic, hang, or take more than its budget. Bytes reach what lies inside an outer
//! checksum: arrays and pictures are packed into archives that are right, and a PNG's chunks get the sums that fit them.

use std::{
    fs,
    io::{Cursor, Write},
    path::Path,
};

use martlet::{
    data::{self, Preparation, Split},
    evaluation::Record,
    memory::{Budget, Size},
    nn::weights,
    recipe::Recipe,
    runs::{Array, Checkpoint, Run, Slot, Values},
};

/// A format's name, which is that of its folder in `corpus`, and how its bytes are read.
pub type Format = (&'static str, fn(&[u8]));

/// Every format that Martlet reads.
pub const FORMATS: [Format; 15] = [
    ("idx", idx),
    ("cifar", |bytes| named("cifar10", "a.cifar", bytes)),
    ("pickle", pickle),
    ("mat", |bytes| {
        in_folder(|folder| {
            if fs::write(folder.join("train_32x32.mat"), bytes).is_ok() {
                load(&format!("svhn:{}", folder.display()));
            }
        });
    }),
    ("npz", |bytes| named("npz", "set.npz", bytes)),
    ("npy", npy),
    ("zip", |bytes| named("folder", "set.zip", bytes)),
    ("png", picture),
    ("jpeg", picture),
    ("picture", picture),
    ("pt", state),
    ("safetensors", state),
    ("recipe", recipe),
    ("run", run),
    ("record", record),
];

/// What any of them may take.
const MOST: Size = Size(64 << 20);

fn load(source: &str) {
    for preparation in [
        Preparation::default(),
        Preparation {
            resize: Some(8),
            center_crop: None,
        },
    ] {
        let _ = data::load_within(source, Split::Train, &preparation, &Budget::of(MOST));
    }
}

/// Bytes as a file of this name, read by a kind of source.
fn named(kind: &str, name: &str, bytes: &[u8]) {
    in_folder(|folder| {
        let path = folder.join(name);
        if fs::write(&path, bytes).is_ok() {
            load(&format!("{kind}:{}", path.display()));
        }
    });
}

fn in_folder(read: impl FnOnce(&Path)) {
    if let Ok(folder) = tempfile::tempdir() {
        read(folder.path());
    }
}

/// Images; their labels are right.
fn idx(bytes: &[u8]) {
    in_folder(|folder| {
        let labels = [0, 0, 8, 1, 0, 0, 0, 2, 0, 1];
        let images = fs::write(folder.join("train-images-idx3-ubyte"), bytes);
        if images
            .and(fs::write(folder.join("train-labels-idx1-ubyte"), labels))
            .is_ok()
        {
            load(&format!("mnist:{}", folder.display()));
        }
    });
}

fn pickle(bytes: &[u8]) {
    named("cifar10", "data_batch_1", bytes);
    named("pseudo-labelled", "set.pickle", bytes);
}

fn npy(bytes: &[u8]) {
    named(
        "npz",
        "set.npz",
        &packed(&[("images.npy", bytes), ("labels.npy", bytes)]),
    );
    named(
        "npz",
        "set.npz",
        &packed(&[("x_train.npy", bytes), ("y_train.npy", LABELS)]),
    );
}

/// `numpy.array([0, 1], numpy.uint8)`.
const LABELS: &[u8] =
    b"\x93NUMPY\x01\x00\x46\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2,), }            \n\x00\x01";

fn picture(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    repair(&mut bytes);
    // Its content tells what it is, and its name no more than that it is a picture.
    named(
        "folder",
        "set.zip",
        &packed(&[("a/1.png", &bytes), ("b/1.png", &bytes)]),
    );
}

fn state(bytes: &[u8]) {
    in_folder(|folder| {
        let path = folder.join("weights");
        if fs::write(&path, bytes).is_ok() {
            let _ = weights::read_state_within(&path, &Budget::of(MOST));
        }
    });
}

fn recipe(bytes: &[u8]) {
    if let Ok(recipe) = Recipe::from_toml(&String::from_utf8_lossy(bytes)) {
        let _ = recipe.validate();
        let again = Recipe::from_toml(&recipe.to_toml());
        assert!(
            again.is_ok_and(|again| again == recipe),
            "a recipe that is read is written whole"
        );
    }
}

fn record(bytes: &[u8]) {
    let _ = Record::from_json(&String::from_utf8_lossy(bytes));
}

/// A run's folder, one file of which is replaced: the first byte says which, the rest is its content.
fn run(bytes: &[u8]) {
    let Some((first, content)) = bytes.split_first() else {
        return;
    };
    in_folder(|folder| {
        let Some((root, files)) = whole_run(folder) else { return };
        let path = &files[usize::from(*first) % files.len()];
        let Ok(before) = fs::read(path) else { return };
        // What the fuzzer gives is laid over the file, so that a little damage is a little damage.
        let mut after = before.clone();
        for pair in content.chunks_exact(3) {
            let at = usize::from(u16::from_le_bytes([pair[0], pair[1]])) % after.len().max(1);
            if let Some(byte) = after.get_mut(at) {
                *byte = pair[2];
            }
        }
        if fs::write(path, &after).is_err() {
            return;
        }
        if let Ok(mut run) = Run::open(&root) {
            let _ = (run.metrics(), run.load(Slot::Best));
            if let Ok(Some(checkpoint)) = run.load(Slot::Last) {
                assert_eq!(
                    checkpoint,
                    example(),
                    "a checkpoint that is read is the one that was written"
                );
            }
            if run.lock().is_ok() {
                let _ = run.resume();
            }
        }
    });
}

fn example() -> Checkpoint {
    let array = Array {
        shape: vec![2],
        values: Values::F32(vec![0.5, -1.0]),
    };
    Checkpoint {
        weights: [("layer.weight".to_string(), array.clone())].into(),
        optimiser: [("layer.weight.momentum".to_string(), array)].into(),
        progress: serde_json::json!({ "step": 1 }),
    }
}

/// A run with one checkpoint, and all of its files.
fn whole_run(folder: &Path) -> Option<(std::path::PathBuf, Vec<std::path::PathBuf>)> {
    let mut run = Run::create(folder, "run", "seed = 1\n", serde_json::json!({ "data": {} })).ok()?;
    run.lock().ok()?;
    run.append(&serde_json::json!({ "event": "step", "step": 1 })).ok()?;
    run.save(Slot::Last, &example()).ok()?;
    let root = run.folder().to_path_buf();
    drop(run);
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path);
            }
        }
    }
    files.sort();
    Some((root, files))
}

/// An archive whose checksums are right.
pub fn packed(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in entries {
        if zip.start_file(*name, options).is_err() || zip.write_all(bytes).is_err() {
            return Vec::new();
        }
    }
    zip.finish().map(Cursor::into_inner).unwrap_or_default()
}

/// Puts the right checksum behind every chunk of a PNG.
pub fn repair(png: &mut [u8]) {
    if !png.starts_with(b"\x89PNG") {
        return;
    }
    let mut at = 8;
    while let Some(head) = png.get(at..at + 8) {
        let long = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = at.checked_add(8 + long).filter(|end| end + 4 <= png.len()) else {
            return;
        };
        let mut crc = flate2::Crc::new();
        crc.update(&png[at + 4..end]);
        png[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}
