//! Files that hold data in a form that is not read: told as what they are, with the line of Python that makes one that is.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use super::{archive::Archive, error::DataError, files};
use crate::files::not_fetched;

/// Bytes by which a file is known: the first line of a table that has a column for each pixel lies within.
const HEAD: u64 = 1 << 16;

/// Folders below the one that was named, itself included, that files are looked for in: `DIR/default/train/0000.parquet`.
const LEVELS: usize = 3;

/// What a folder's files end in that hold whole data sets.
const WHOLE: [&str; 10] = [
    "parquet", "arrow", "h5", "hdf5", "tar", "tfrecord", "csv", "tsv", "pt", "bin",
];

/// Arrays of a data set of the `datasets` library. Where a split has several columns of a kind, the first is taken: CIFAR-100's fine
/// labels stand before its coarse ones.
const OF_COLUMNS: &str = "c = dict(reversed([(type(f).__name__, n) for s in d.values() for n, f in s.features.items()])); \
    np.savez(\"set.npz\", **{f\"{k}_{s}\".replace(\"validation\", \"test\"): np.stack([np.asarray(v) for v in d[s][c.get(t, u)]]) \
    for s in (\"train\", \"validation\", \"test\") if s in d \
    for k, t, u in ((\"x\", \"Image\", \"image\"), (\"y\", \"ClassLabel\", \"label\"))})";

const NAMED_OR_PAIR: &str = "d has for x and y (0 and 1, where it is a pair)";

/// What a file is by its first bytes, or by a name that only one data set has, with the way out; none where they say nothing, and it may
/// be damaged.
pub fn named(bytes: &[u8], path: &Path) -> Option<DataError> {
    let packed = files::is_gzip(bytes);
    let unpacked = if packed { beginning(bytes) } else { Vec::new() };
    let head = if packed { &unpacked } else { bytes };
    let begins = |mark: &[u8]| head.starts_with(mark);
    let at = |place: usize, mark: &[u8]| head.get(place..).is_some_and(|rest| rest.starts_with(mark));
    let file = path.display().to_string();
    let opened = opened(&file, packed);
    let tell = |format: &str, way_out: String| Some(other(format, way_out, path));

    if is_stl10(path) {
        return Some(stl10(path));
    }
    if begins(b"\x93NUMPY") {
        let way_out = "save images and labels in one file, numpy.savez('set.npz', images=x, labels=y), and ask for npz:set.npz, or name \
                       the folder that holds x_train.npy, y_train.npy, x_test.npy and y_test.npy; a corruption of CIFAR-10-C is \
                       cifar10-c:FOLDER/CORRUPTION";
        return tell("one array alone (.npy)", way_out.into());
    }
    // PyTorch's old format begins with a pickled number of its own.
    if begins(b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19") {
        return tell("tensors of PyTorch (.pt)", of_torch(path));
    }
    if let [0x80, 2..=5, ..] = head {
        let code = format!(
            "import gzip, pickle, numpy as np; d = pickle.load({opened}, encoding=\"latin1\"); {}",
            savez("d[\"x\"]", "d[\"y\"]", path)
        );
        return tell("a pickle (.pkl)", with_names(NAMED_OR_PAIR, &code));
    }
    if let [0, 0, 8, 1..=4, ..] = head {
        return tell("an IDX file, as MNIST's are", of_idx(head, path, &opened));
    }
    if at(257, b"ustar") {
        let code = format!(
            "import datasets, numpy as np; d = datasets.load_dataset(\"webdataset\", data_files={file:?}, split=\"train\"); {}",
            savez("[np.asarray(v) for v in d[\"png\"]]", "list(d[\"cls\"])", path)
        );
        let way_out = format!(
            "unpack it (tar -xf) and name the folder; or, of a WebDataset, {}",
            with_names("d.features has in place of png and cls", &code)
        );
        return tell("an archive by tar", way_out);
    }
    let plain = if packed { None } else { of_mark(head, path) };
    if plain.is_some() {
        return plain;
    }
    if let Some((format, way_out)) = of_text(head, path) {
        return tell(format, way_out);
    }
    packed.then(|| {
        let way_out = "unpack it (gunzip) and name what it holds";
        other("a file packed by gzip", way_out.into(), path)
    })
}

/// As [`named`], of forms that are read where they lie and not packed by gzip.
fn of_mark(head: &[u8], path: &Path) -> Option<DataError> {
    let begins = |mark: &[u8]| head.starts_with(mark);
    let at = |place: usize, mark: &[u8]| head.get(place..).is_some_and(|rest| rest.starts_with(mark));
    let (file, name) = (path.display().to_string(), files::name(path).to_lowercase());
    let tell = |format: &str, way_out: String| Some(other(format, way_out, path));
    if [0, 512, 1_024, 2_048]
        .iter()
        .any(|place| at(*place, b"\x89HDF\r\n\x1a\n"))
    {
        return match name.ends_with(".mat") {
            true => tell("a MATLAB file of version 7.3, which is HDF5", of_matlab(path)),
            false => {
                let code = format!(
                    "import h5py, numpy as np; f = h5py.File({file:?}); {}",
                    savez("f[\"x\"][:]", "f[\"y\"][:]", path)
                );
                tell("HDF5 (.h5)", with_names("list(f) shows for x and y", &code))
            }
        };
    }
    if begins(b"MATLAB 5.0") {
        let code = format!(
            "import scipy.io, numpy as np; d = scipy.io.loadmat({file:?}); {}",
            savez("d[\"x\"]", "d[\"y\"].ravel()", path)
        );
        let way_out = format!("SVHN's are svhn:FOLDER; {}", with_names("d has for x and y", &code));
        return tell("a MATLAB file", way_out);
    }
    if begins(b"PAR1") {
        return Some(parquet(path));
    }
    // A stream begins with a mark, the length of its first message, and where in it the table lies.
    if begins(b"ARROW1") || (begins(b"\xff\xff\xff\xff") && at(8, b"\x10\0\0\0")) {
        return Some(arrow(path, path));
    }
    if at(8, b"{\"") {
        let code = format!(
            "import numpy as np; from safetensors.numpy import load_file; d = load_file({file:?}); {}",
            savez("d[\"x\"]", "d[\"y\"]", path)
        );
        return tell("tensors (.safetensors)", with_names("d has for x and y", &code));
    }
    if name.contains(".tfrecord") {
        let way_out = "read it with the library that wrote it, save its arrays, numpy.savez('set.npz', images=x, labels=y), and ask for \
                       npz:set.npz";
        return tell("records of TensorFlow (.tfrecord)", way_out.into());
    }
    if begins(b"\x89PNG") || begins(b"\xff\xd8\xff") {
        let way_out = "name the folder that holds one folder for each class";
        return tell("one picture alone", way_out.into());
    }
    let archives: [&[u8]; 4] = [b"Rar!", b"7z\xbc\xaf", b"\xfd7zXZ", b"BZh"];
    if archives.iter().any(|mark| begins(mark)) {
        return tell(
            "an archive of another kind than .zip",
            "unpack it and name the folder".into(),
        );
    }
    None
}

/// What an archive is that is whole and holds neither pictures nor arrays.
pub fn in_archive(archive: &Archive, path: &Path) -> Option<DataError> {
    let names: Vec<String> = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.into_owned()))
        .collect();
    if names.iter().any(|name| name.rsplit('/').next() == Some("data.pkl")) {
        return Some(other("tensors of PyTorch (.pt)", of_torch(path), path));
    }
    let is_array = |name: &String| name.ends_with(".npy");
    (!names.is_empty() && names.iter().all(is_array)).then(|| {
        let way_out = "ask for it as npz:FILE, where it holds images and labels";
        other("numpy's arrays (.npz)", way_out.into(), path)
    })
}

/// The first file below a folder, of which nothing was read, that is a data set in another form; one to train on before others.
pub fn lying_in(folder: &Path) -> Option<DataError> {
    let mut level = vec![folder.to_path_buf()];
    for _ in 0..LEVELS {
        let mut paths: Vec<PathBuf> = level.iter().flat_map(|folder| files::list(folder)).flatten().collect();
        paths.sort_by_key(|path| !files::name(path).to_lowercase().contains("train"));
        let of = |path: &PathBuf| match ending(path).as_str() {
            "parquet" => Some(parquet(folder)),
            "arrow" => Some(arrow(folder, path)),
            ending if WHOLE.contains(&ending) && path.is_file() => {
                let mut head = Vec::new();
                File::open(path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
                named(&head, path)
            }
            _ => None,
        };
        if let Some(found) = paths.iter().find_map(of) {
            return Some(found);
        }
        level = paths.into_iter().filter(|path| path.is_dir()).collect();
    }
    None
}

/// A table of pictures, or a folder of such, as `datasets` lays them out.
pub fn parquet(path: &Path) -> DataError {
    let file = path.display().to_string();
    let code = match path.is_dir() {
        true => format!("datasets.load_dataset({file:?})"),
        false => format!(
            "datasets.load_dataset(\"parquet\", data_files={{{:?}: {file:?}}})",
            split(path)
        ),
    };
    other("a table of pictures (.parquet)", of_datasets(&code), path)
}

/// A table in `file`, which lies in `place`, as `datasets` saves it.
fn arrow(place: &Path, file: &Path) -> DataError {
    let folder = place.display().to_string();
    let code = if place.join("dataset_dict.json").is_file() {
        format!("datasets.load_from_disk({folder:?})")
    } else if place.join("state.json").is_file() {
        format!("{{{:?}: datasets.load_from_disk({folder:?})}}", split(place))
    } else {
        let own = [file, file.parent().unwrap_or(file)].map(split);
        let split = if own.contains(&"test") { "test" } else { "train" };
        format!(
            "{{{split:?}: datasets.Dataset.from_file({:?})}}",
            file.display().to_string()
        )
    };
    other("a table of pictures (.arrow)", of_datasets(&code), place)
}

fn of_datasets(code: &str) -> String {
    then_npz(&format!("import datasets, numpy as np; d = {code}; {OF_COLUMNS}"))
}

/// How pictures are sorted by a table that names them, `folder` being where they lie.
pub fn sorting(table: &Path, folder: &Path, delimiter: char) -> String {
    let (table, folder) = (table.display().to_string(), folder.display().to_string());
    format!(
        "where each row has a picture's name, with its ending, and its class, in Python: import csv, os, shutil; \
         [(os.makedirs(os.path.join(\"set\", c), exist_ok=True), shutil.copy(os.path.join({folder:?}, n), os.path.join(\"set\", c))) \
         for n, c, *_ in list(csv.reader(open({table:?}), delimiter={:?}))[1:]]; then ask for folder:set",
        delimiter.to_string()
    )
}

fn other(format: &str, way_out: String, path: &Path) -> DataError {
    DataError::OtherFormat {
        format: format.into(),
        way_out,
        path: path.into(),
    }
}

fn ending(path: &Path) -> String {
    path.extension()
        .unwrap_or_default()
        .to_string_lossy()
        .to_ascii_lowercase()
}

/// The split that a file's name tells.
fn split(path: &Path) -> &'static str {
    let name = files::name(path).to_lowercase();
    let is_test = |word: &str| word.starts_with("test") || word.starts_with("val") || word == "t10k";
    match name.split(|letter: char| !letter.is_alphanumeric()).any(is_test) {
        true => "test",
        false => "train",
    }
}

fn then_npz(code: &str) -> String {
    format!("in Python: {code}; then ask for npz:set.npz")
}

fn with_names(whose: &str, code: &str) -> String {
    format!("in Python, with the names that {whose}: {code}; then ask for npz:set.npz")
}

/// The call that saves images and labels under names that say which split they are.
fn savez(images: &str, labels: &str, path: &Path) -> String {
    let (x, y) = match split(path) {
        "test" => ("x_test", "y_test"),
        _ => ("images", "labels"),
    };
    format!("np.savez(\"set.npz\", {x}={images}, {y}={labels})")
}

fn opened(file: &str, packed: bool) -> String {
    match packed {
        true => format!("gzip.open({file:?})"),
        false => format!("open({file:?}, \"rb\")"),
    }
}

/// What a gzip file begins with, unpacked; less where it is damaged.
fn beginning(bytes: &[u8]) -> Vec<u8> {
    let mut head = Vec::new();
    // What came before an error is there all the same.
    let _ = MultiGzDecoder::new(bytes).take(HEAD).read_to_end(&mut head);
    head
}

fn of_torch(path: &Path) -> String {
    let file = path.display().to_string();
    let code = format!(
        "import torch, numpy as np; d = torch.load({file:?}, map_location=\"cpu\"); {}",
        savez("d[\"x\"].numpy()", "d[\"y\"].numpy()", path)
    );
    with_names(NAMED_OR_PAIR, &code)
}

/// SVHN as MATLAB saves it today: the axes the other way round. Both splits go into one file.
fn of_matlab(path: &Path) -> String {
    let name = files::name(path);
    if let Some(folder) = path.parent().filter(|_| name.ends_with("_32x32.mat")) {
        let file = |split: &str| folder.join(format!("{split}_32x32.mat"));
        let splits = ["train", "test"].into_iter().filter(|split| file(split).is_file());
        let opened = splits.map(|split| format!("{split:?}: h5py.File({:?})", file(split).display().to_string()));
        return then_npz(&format!(
            "import h5py, numpy as np; d = {{{}}}; np.savez(\"set.npz\", **{{\"x_\" + s: f[\"X\"][:].transpose(0, 3, 2, 1) for s, f in d.items()}}, \
             **{{\"y_\" + s: f[\"y\"][:].ravel() % 10 for s, f in d.items()}})",
            opened.collect::<Vec<_>>().join(", ")
        ));
    }
    let code = format!(
        "import h5py, numpy as np; f = h5py.File({:?}); {}",
        path.display().to_string(),
        savez("f[\"X\"][:].transpose(0, 3, 2, 1)", "f[\"y\"][:].ravel()", path)
    );
    with_names("list(f) shows for x and y", &code)
}

fn of_idx(head: &[u8], path: &Path, opened_images: &str) -> String {
    let axes = usize::from(head[3]);
    let sizes = head[4..].chunks_exact(4).take(axes).skip(1);
    let sizes: Vec<String> = sizes
        .map(|size| size.iter().fold(0_u32, |n, byte| n << 8 | u32::from(*byte)).to_string())
        .collect();
    let read = |opened: &str, axes: usize| format!("np.frombuffer({opened}.read(), \"u1\", offset={})", 4 + 4 * axes);
    // EMNIST's pictures lie on their side.
    let turned = match files::name(path).starts_with("emnist") {
        true => ".transpose(0, 2, 1)",
        false => "",
    };
    let (images, labels) = match axes {
        1 => ("IMAGES".into(), read(opened_images, 1)),
        _ => {
            let partner = files::name(path).replace("images", "labels").replace("idx3", "idx1");
            let partner = path.with_file_name(partner);
            let labels = match partner.is_file() && partner != path {
                true => read(&opened(&partner.display().to_string(), ending(&partner) == "gz"), 1),
                false => "LABELS".into(),
            };
            let images = read(opened_images, axes);
            (format!("{images}.reshape(-1, {}){turned}", sizes.join(", ")), labels)
        }
    };
    format!(
        "MNIST's own four names make it mnist:FOLDER; else {}",
        then_npz(&format!("import gzip, numpy as np; {}", savez(&images, &labels, path)))
    )
}

/// What a text is, and the way out; none where it is no text.
fn of_text(head: &[u8], path: &Path) -> Option<(&'static str, String)> {
    /// More columns than a table has that names pictures.
    const NAMES: usize = 16;
    let head = &head[..head.len().min(HEAD as usize)];
    let is_text = |byte: &u8| !matches!(byte, 0..=8 | 14..=31 | 127);
    // A ZIP file that was cut within its mark is no text.
    if head.is_empty() || b"PK".starts_with(head) || !head.iter().all(is_text) {
        return None;
    }
    let text = String::from_utf8_lossy(head).trim_start().to_string();
    if let Some((format, way_out)) = not_fetched(&text) {
        return Some((format, way_out.into()));
    }
    let first = text.lines().next().unwrap_or_default();
    let count = |delimiter: &char| first.matches(*delimiter).count();
    let delimiter = [',', '\t', ';']
        .into_iter()
        .max_by_key(count)
        .filter(|found| count(found) > 0);
    let Some(delimiter) = delimiter else {
        let way_out = "name the folder that holds the pictures, or the file that holds the arrays";
        return Some(("a text", way_out.into()));
    };
    if count(&delimiter) < NAMES {
        let folder = path.parent().unwrap_or(Path::new(""));
        let pictures = ["images", "train", "train_images"].map(|name| folder.join(name));
        let pictures = pictures.iter().find(|folder| folder.is_dir());
        let way_out = sorting(path, pictures.map_or(folder, PathBuf::as_path), delimiter);
        return Some(("a table (.csv)", way_out));
    }
    let pixels = count(&delimiter);
    let side = pixels.isqrt();
    let shape = match side * side == pixels {
        true => format!("{side}, {side}"),
        false => "HEIGHT, WIDTH".into(),
    };
    let headings = usize::from(first.contains(char::is_alphabetic));
    let code = format!(
        "import numpy as np; d = np.loadtxt({:?}, \"u1\", delimiter={:?}, skiprows={headings}); {}",
        path.display().to_string(),
        delimiter.to_string(),
        savez(&format!("d[:, 1:].reshape(-1, {shape})"), "d[:, 0]", path)
    );
    let way_out = format!("where the first column is the label, {}", then_npz(&code));
    Some(("a table of pixels (.csv)", way_out))
}

/// STL-10's files have no mark; their names are its own.
fn is_stl10(path: &Path) -> bool {
    let name = files::name(path);
    let splits = ["train", "test", "unlabeled"];
    splits
        .iter()
        .any(|split| [format!("{split}_X.bin"), format!("{split}_y.bin")].contains(&name))
}

fn stl10(path: &Path) -> DataError {
    let folder = path.parent().unwrap_or(Path::new(""));
    let code = format!(
        "import os, numpy as np; r = lambda s, k: np.fromfile(os.path.join({:?}, f\"{{s}}_{{k}}.bin\"), \"u1\"); \
         np.savez(\"set.npz\", **{{f\"x_{{s}}\": r(s, \"X\").reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1) for s in (\"train\", \"test\")}}, \
         **{{f\"y_{{s}}\": r(s, \"y\") - 1 for s in (\"train\", \"test\")}})",
        folder.display().to_string()
    );
    other("STL-10", then_npz(&code), path)
}
