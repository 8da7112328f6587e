//! Data sets: every format reads what it should, and every damage is an error that says where.

use std::{
    fs,
    io::{Cursor, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use martlet::compute::{Device, read, read_int};
use martlet::data::{
    Augmentation, DataError, Dataset, NpzValues, Preparation, Split, download, load, load_within, write_npz,
};
use martlet::memory::Budget;
use martlet::random::Rng;
use martlet::shapes::ImageShape;

const GREY: ImageShape = ImageShape {
    channels: 1,
    height: 2,
    width: 3,
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn source(kind: &str, path: &Path) -> String {
    format!("{kind}:{}", path.display())
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The error must say `expected` and `got` and end with a path, and hold every one of `words`.
#[track_caller]
fn assert_says(result: Result<Dataset, DataError>, words: &[&str]) {
    let message = result.map(|set| set.len()).expect_err("expected an error").to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

// ---------------------------------------------------------------------------------------------------- Dataset

/// `counts[k]` examples of class k, interleaved; each image holds its own number.
fn numbered(counts: &[usize]) -> Dataset {
    let mut labels = Vec::new();
    for round in 0..*counts.iter().max().unwrap() {
        labels.extend(
            (0..counts.len())
                .filter(|class| round < counts[*class])
                .map(|class| class as u16),
        );
    }
    let images = (0..labels.len()).flat_map(|i| vec![i as u8; GREY.len()]).collect();
    let class_names = (0..counts.len()).map(|class| format!("class {class}")).collect();
    Dataset::from_parts("numbered", GREY, class_names, images, labels).unwrap()
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let make = |bytes: usize, labels: Vec<u16>| {
        Dataset::from_parts("odd", GREY, vec!["a".into(), "b".into()], vec![0; bytes], labels)
    };
    assert_says(make(6, vec![2]), &["labels in 0..2", "label 2 of example 0"]);
    assert_says(make(7, vec![0]), &["6 bytes", "7 bytes"]);
    assert_says(make(0, vec![]), &["at least one image"]);
}

#[test]
fn a_split_off_part_is_disjoint_complete_balanced_and_the_same_for_the_same_seed() {
    let set = numbered(&[40, 40, 20]);
    let (train, held_out) = set.split_off(25, 7);
    assert_eq!((train.len(), held_out.len()), (75, 25));
    let indices = |set: &Dataset| (0..set.len()).map(|i| set.index(i)).collect::<Vec<_>>();
    let mut all = [indices(&train), indices(&held_out)].concat();
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    let count = |class: usize| (0..held_out.len()).filter(|i| held_out.label(*i) == class).count();
    assert_eq!([count(0), count(1), count(2)], [10, 10, 5]);
    assert_eq!(indices(&set.split_off(25, 7).1), indices(&held_out));
    assert_ne!(indices(&set.split_off(25, 8).1), indices(&held_out));
    // Positions in the original survive a subset of a subset.
    let last = held_out.subset(&[24, 3]).take(1);
    assert_eq!(last.index(0), held_out.index(24));
    assert_eq!(last.image(0)[0] as usize, held_out.index(24));
    // Degenerate sizes.
    assert_eq!(set.split_off(0, 1).1.len(), 0);
    assert_eq!(set.split_off(1_000, 1).0.len(), 0);
}

#[test]
fn taking_the_first_of_a_set_sorted_by_class_takes_from_every_class() {
    let set = numbered(&[30, 30]);
    assert_eq!(
        (0..10).map(|i| set.take(10).index(i)).collect::<Vec<_>>(),
        (0..10).collect::<Vec<_>>()
    );
    let mut by_class: Vec<usize> = (0..60).collect();
    by_class.sort_by_key(|position| set.label(*position));
    let first = set.subset(&by_class).take(10);
    assert_eq!((0..10).filter(|i| first.label(*i) == 1).count(), 5);
    assert_eq!((set.take(1_000).len(), first.note()), (60, None));
}

#[test]
fn classes_in_blocks_of_any_order_are_taken_evenly_and_a_part_says_what_it_lacks() {
    let set = numbered(&[20, 20, 20, 20]);
    let mut grouped: Vec<usize> = (0..80).collect();
    grouped.sort_by_key(|position| [2, 0, 3, 1][set.label(*position)]);
    let first = set.subset(&grouped).take(20);
    let count = |set: &Dataset, class| (0..set.len()).filter(|i| set.label(*i) == class).count();
    assert_eq!([0, 1, 2, 3].map(|class| count(&first, class)), [5; 4]);
    assert_eq!(first.note(), None);
    // Two blocks of a class are no order that was meant: the first examples are taken, and what they lack is told.
    grouped.rotate_left(10);
    let first = set.subset(&grouped).take(20);
    assert_eq!([0, 1, 2, 3].map(|class| count(&first, class)), [0, 10, 0, 10]);
    let lacks = "20 of 80 examples taken, none of them of 2 classes, the first class 0, the last class 2";
    assert_eq!(first.note(), Some(lacks));
    let (rest, held_out) = set.split_off(3, 1);
    let lacks = held_out.note().unwrap();
    assert!(
        lacks.starts_with("3 of 80 examples taken, none of them of class class "),
        "{lacks}"
    );
    assert_eq!((rest.note(), set.note()), (None, None));
}

#[test]
fn the_fingerprint_follows_content_and_order() {
    let set = numbered(&[5, 5]);
    let all: Vec<usize> = (0..10).collect();
    assert_eq!(set.fingerprint(), set.subset(&all).fingerprint());
    assert_ne!(set.fingerprint(), set.take(9).fingerprint());
    assert_ne!(set.subset(&[0, 1]).fingerprint(), set.subset(&[1, 0]).fingerprint());
}

#[test]
fn an_augmented_batch_without_augmentation_is_the_plain_batch() {
    let device = Device::cpu();
    let set = load("glyphs", Split::Test).unwrap();
    let positions = [5, 3, 1_999, 0];
    let plain = set.batch(&positions, &device);
    let augmented = set.augmented_batch(
        &positions,
        0..positions.len(),
        &Augmentation::default(),
        &mut Rng::new(1),
        &device,
    );
    assert_eq!(plain.images.dims(), [4, 1, 28, 28]);
    assert_eq!(read(plain.images.clone()).unwrap(), read(augmented.images).unwrap());
    assert_eq!(read_int(plain.labels).unwrap(), read_int(augmented.labels).unwrap());
    assert_eq!(
        (plain.indices.as_slice(), augmented.indices.as_slice()),
        (&positions[..], &positions[..])
    );
    let first: Vec<f32> = set.image(5).iter().map(|byte| f32::from(*byte) / 255.0).collect();
    assert_eq!(read(plain.images).unwrap()[..784], first);
}

#[test]
fn augmentation_moves_pixels_and_makes_none_up() {
    let device = Device::cpu();
    let set = numbered(&[200]);
    let positions: Vec<usize> = (0..200).collect();
    let how = Augmentation { pad: 1, flip: true };
    let draw = |seed| {
        read(
            set.augmented_batch(&positions, 0..positions.len(), &how, &mut Rng::new(seed), &device)
                .images,
        )
        .unwrap()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    for (image, pixels) in draw(1).chunks(GREY.len()).enumerate() {
        assert!(pixels.iter().all(|p| *p == 0.0 || *p == image as f32 / 255.0));
    }
}

// ---------------------------------------------------------------------------------------------------- sources

#[test]
fn an_unknown_source_is_told_the_known_ones() {
    for given in ["minst:/tmp", "mnist", "mnist:", "glyphs:seven", "", ":", "folder"] {
        assert_says(load(given, Split::Train), &[given, "mnist:FOLDER", "glyphs:SEED"]);
    }
}

#[test]
fn glyphs_are_the_same_bytes_everywhere_and_balanced() {
    let (train, test) = (
        load("glyphs", Split::Train).unwrap(),
        load("glyphs", Split::Test).unwrap(),
    );
    assert_eq!((train.len(), test.len(), train.classes()), (6_000, 2_000, 10));
    for class in 0..10 {
        assert_eq!((0..train.len()).filter(|i| train.label(*i) == class).count(), 600);
    }
    assert_eq!(train.fingerprint(), "8db292a838a6258a9c033ac48ded7491");
    assert_eq!(test.fingerprint(), "5fa00a3c925a691173afa47817e349f4");
    assert_eq!(
        load("glyphs:2020", Split::Test).unwrap().fingerprint(),
        test.fingerprint()
    );
    assert_ne!(load("glyphs:1", Split::Test).unwrap().fingerprint(), test.fingerprint());
    // No picture is empty, and none stands in both splits.
    let contrast = |set: &Dataset, i: usize| set.image(i).iter().max().unwrap() - set.image(i).iter().min().unwrap();
    assert!((0..train.len()).all(|i| contrast(&train, i) > 100));
    let pictures: std::collections::BTreeSet<&[u8]> = (0..train.len()).map(|i| train.image(i)).collect();
    assert!((0..test.len()).all(|i| !pictures.contains(test.image(i))));
}

// -------------------------------------------------------------------------------------------------------- IDX

fn idx_images(count: u32) -> Vec<u8> {
    let mut bytes = [0x803u32, count, 2, 3]
        .iter()
        .flat_map(|n| n.to_be_bytes())
        .collect::<Vec<_>>();
    bytes.extend((0..count * 6).map(|i| i as u8));
    bytes
}

fn idx_labels(labels: &[u8]) -> Vec<u8> {
    let mut bytes = [0x801u32, labels.len() as u32]
        .iter()
        .flat_map(|n| n.to_be_bytes())
        .collect::<Vec<_>>();
    bytes.extend(labels);
    bytes
}

/// A folder with four plain IDX files: three training images, two test images.
fn idx_folder() -> tempfile::TempDir {
    let folder = folder();
    let write = |name: &str, bytes: Vec<u8>| fs::write(folder.path().join(name), bytes).unwrap();
    write("train-images-idx3-ubyte", idx_images(3));
    write("train-labels-idx1-ubyte", idx_labels(&[9, 0, 4]));
    write("t10k-images-idx3-ubyte", idx_images(2));
    write("t10k-labels-idx1-ubyte", idx_labels(&[1, 2]));
    folder
}

#[test]
fn idx_files_are_read_under_all_their_names() {
    let plain = idx_folder();
    let train = load(&source("mnist", plain.path()), Split::Train).unwrap();
    assert_eq!(
        (train.len(), train.shape(), train.label(0), train.image(1)),
        (3, GREY, 9, &[6, 7, 8, 9, 10, 11][..])
    );
    assert!(train.note().unwrap().contains("not the original file"));
    assert_eq!(load(&source("mnist", plain.path()), Split::Test).unwrap().len(), 2);
    // The checksums of the unpacked Fashion-MNIST files are not published: the beginning is compared.
    let fashion = load(&source("fashion-mnist", plain.path()), Split::Train).unwrap();
    assert_eq!(fashion.class_names()[9], "Ankle boot");
    let note = fashion.note().unwrap();
    let others = "train-images-idx3-ubyte is not the original file; train-labels-idx1-ubyte is not the original file; ";
    assert!(note.starts_with(others), "{note}");
    let part = load("fashion", Split::Test).unwrap();
    let mut images = [0x803u32, part.len() as u32, 28, 28].map(u32::to_be_bytes).concat();
    (0..part.len()).for_each(|example| images.extend_from_slice(part.image(example)));
    let labels: Vec<u8> = (0..part.len()).map(|example| part.label(example) as u8).collect();
    fs::write(plain.path().join("t10k-images-idx3-ubyte"), &images).unwrap();
    fs::write(plain.path().join("t10k-labels-idx1-ubyte"), idx_labels(&labels)).unwrap();
    let begins_so = load(&source("fashion-mnist", plain.path()), Split::Test).unwrap();
    assert_eq!((begins_so.note(), begins_so.fingerprint()), (None, part.fingerprint()));
    images[16 + 28 * 28 - 1] ^= 1;
    fs::write(plain.path().join("t10k-images-idx3-ubyte"), &images).unwrap();
    assert_eq!(
        load(&source("fashion-mnist", plain.path()), Split::Test)
            .unwrap()
            .note(),
        Some("t10k-images-idx3-ubyte is not the original file")
    );

    let other = folder();
    let raw = other.path().join("MNIST/raw");
    fs::create_dir_all(&raw).unwrap();
    fs::write(raw.join("train-images.idx3-ubyte.gz"), gzip(&idx_images(3))).unwrap();
    fs::write(raw.join("train-labels.idx1-ubyte.gz"), gzip(&idx_labels(&[9, 0, 4]))).unwrap();
    assert_eq!(
        load(&source("mnist", other.path()), Split::Train)
            .unwrap()
            .fingerprint(),
        train.fingerprint()
    );
    assert_says(
        load(&source("mnist", other.path()), Split::Test),
        &["t10k-images-idx3-ubyte", "martlet data get mnist"],
    );
}

#[test]
fn every_prefix_and_every_excess_of_an_idx_file_is_an_error() {
    for (name, whole) in [
        ("train-images-idx3-ubyte", idx_images(3)),
        ("train-labels-idx1-ubyte", idx_labels(&[9, 0, 4])),
        ("train-images-idx3-ubyte", gzip(&idx_images(3))),
        ("train-labels-idx1-ubyte", gzip(&idx_labels(&[9, 0, 4]))),
    ] {
        let folder = idx_folder();
        let path = folder.path().join(name);
        fs::write(&path, &whole).unwrap();
        assert!(load(&source("mnist", folder.path()), Split::Train).is_ok());
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert_says(
                load(&source("mnist", folder.path()), Split::Train),
                &["at byte", "expected", "got", name],
            );
        }
        fs::write(&path, [&whole[..], &[0]].concat()).unwrap();
        assert_says(load(&source("mnist", folder.path()), Split::Train), &["at byte", name]);
    }
}

#[test]
fn idx_errors_say_where_and_what() {
    let folder = idx_folder();
    let try_with = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let result = load(&source("mnist", folder.path()), Split::Train);
        fs::write(&path, before).unwrap();
        result
    };
    assert_says(
        try_with("train-labels-idx1-ubyte", idx_labels(&[1, 10, 2])),
        &["byte 9", "0..10", "10 for example 1"],
    );
    assert_says(
        try_with("train-labels-idx1-ubyte", idx_labels(&[1, 2])),
        &["3 labels", "2 labels"],
    );
    assert_says(
        try_with("train-labels-idx1-ubyte", idx_images(3)),
        &["byte 0", "0x00000801", "0x00000803", "swapped"],
    );
    assert_says(
        try_with("train-images-idx3-ubyte", b"<html>not found</html>".to_vec()),
        &["0x00000803", "0x3c68746d"],
    );
    let mut huge = idx_images(3);
    huge[4..16].fill(0xff);
    assert_says(try_with("train-images-idx3-ubyte", huge), &["more than any file"]);
}

// ------------------------------------------------------------------------------------------------------ CIFAR

/// `count` records of CIFAR-10 (one label byte) or CIFAR-100 (two).
fn records(count: usize, label_bytes: usize) -> Vec<u8> {
    (0..count)
        .flat_map(|i| [vec![19; label_bytes - 1], vec![(i % 10) as u8], vec![i as u8; 3_072]].concat())
        .collect()
}

fn tar_gz(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_cksum();
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    gzip(&archive.into_inner().unwrap())
}

/// A batch as Python 2 pickled it: {"labels": [...], "data": numpy.ndarray of uint8, N × 3,072}.
fn python_batch(labels: &[u8], key: &str) -> Vec<u8> {
    let mut out = b"\x80\x02}q\x01(".to_vec();
    out.extend([b'U', key.len() as u8]);
    out.extend(key.as_bytes());
    out.extend(b"q\x02]q\x03(");
    labels.iter().for_each(|label| out.extend([b'K', *label]));
    out.extend(
        b"eU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85U\x01b\x87Rq\x07",
    );
    out.extend([b"(K\x01M", &(labels.len() as u16).to_le_bytes()[..], b"M\x00\x0c\x86"].concat());
    out.extend(
        b"cnumpy\ndtype\nq\x08U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T",
    );
    out.extend((labels.len() as u32 * 3_072).to_le_bytes());
    (0..labels.len()).for_each(|i| out.extend(vec![i as u8; 3_072]));
    out.extend(b"tbu.");
    out
}

/// `{'data': uint8 N × height × width × 3, 'extrapolated_targets': int64 N}` as numpy pickles it (protocol 3).
fn pseudo_labelled_pickle(labels: &[i64], height: u8, width: u8, pixels: &[u8]) -> Vec<u8> {
    let array = |shape: &[u8], kind: &[u8; 2], bytes: &[u8]| {
        let mut out = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01(".to_vec();
        shape.iter().for_each(|size| out.extend([b'K', *size]));
        out.extend(b"tcnumpy\ndtype\nX\x02\x00\x00\x00");
        out.extend(kind);
        let order = if kind == b"u1" { b'|' } else { b'<' };
        out.extend([b"K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00".as_slice(), &[order]].concat());
        out.extend(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89B");
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
        out.extend(b"tb");
        out
    };
    let key = |name: &str| [b"X", &(name.len() as u32).to_le_bytes()[..], name.as_bytes()].concat();
    let wide: Vec<u8> = labels.iter().flat_map(|label| label.to_le_bytes()).collect();
    let count = labels.len() as u8;
    [
        b"\x80\x03}(".to_vec(),
        key("data"),
        array(&[count, height, width, 3], b"u1", pixels),
        key("extrapolated_targets"),
        array(&[count], b"i8", &wide),
        b"u.".to_vec(),
    ]
    .concat()
}

#[test]
fn published_pseudo_labels_are_read_and_every_prefix_is_an_error() {
    let folder = folder();
    let path = folder.path().join("ti_pseudo_labeled.pickle");
    let pixels: Vec<u8> = (0..3 * 2 * 3 * 3).collect();
    let whole = pseudo_labelled_pickle(&[7, 0, 3], 2, 3, &pixels);
    fs::write(&path, &whole).unwrap();
    let set = load(&source("pseudo-labelled", &path), Split::Train).unwrap();
    assert_eq!(
        (set.len(), set.classes(), set.shape().to_string()),
        (3, 8, "3×2×3".into())
    );
    assert_eq!([set.label(0), set.label(1), set.label(2)], [7, 0, 3]);
    assert_eq!(set.image(1)[..7], [18, 21, 24, 27, 30, 33, 19], "red, then green");
    assert_says(
        load(&source("pseudo-labelled", &path), Split::Test),
        &["pseudo-labelled"],
    );
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(
            load(&source("pseudo-labelled", &path), Split::Train).is_err(),
            "{length} bytes"
        );
    }
    fs::write(&path, pseudo_labelled_pickle(&[7, -1, 3], 2, 3, &pixels)).unwrap();
    assert_says(
        load(&source("pseudo-labelled", &path), Split::Train),
        &["labels from 0", "-1"],
    );
    fs::write(&path, pseudo_labelled_pickle(&[7, 0], 2, 3, &pixels)).unwrap();
    assert!(load(&source("pseudo-labelled", &path), Split::Train).is_err());
}

#[test]
fn pseudo_labelled_images_stand_behind_the_labelled_ones() {
    let labelled = load("glyphs", Split::Train).unwrap().take(30);
    let more = load("glyphs:7", Split::Train).unwrap().take(20);
    let both = labelled.with_pseudo_labelled(&more).unwrap();
    assert_eq!((labelled.labelled(), both.labelled(), both.len()), (30, 30, 50));
    assert_eq!(both.image(29), labelled.image(29));
    assert_eq!((both.image(30), both.label(49)), (more.image(0), more.label(19)));
    assert_eq!(both.subset(&[3, 40, 4]).labelled(), 2);
    assert!(
        both.note()
            .unwrap()
            .contains("20 pseudo-labelled images from Glyphs (seed 7)")
    );
    assert_ne!(both.fingerprint(), labelled.fingerprint());
}

#[test]
fn all_layouts_of_cifar_10_hold_the_same_images() {
    let make = |files: &[(&str, Vec<u8>)]| {
        let folder = folder();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    };
    let (one, two) = (records(3, 1), records(2, 1));
    let python = |count: u8| python_batch(&(0..count).collect::<Vec<_>>(), "labels");
    let folders = [
        make(&[
            ("data_batch_1.bin", one.clone()),
            ("data_batch_2.bin", two.clone()),
            ("test_batch.bin", two.clone()),
        ]),
        make(&[
            ("data_batch_1.bin.gz", gzip(&one)),
            ("data_batch_2.bin", two.clone()),
            ("test_batch.bin", two.clone()),
        ]),
        // The same batch in two layouts counts once; other files do not count.
        make(&[
            ("cifar-10-batches-py/data_batch_1", python(3)),
            ("cifar-10-batches-py/data_batch_1.bin", one.clone()),
            ("cifar-10-batches-py/data_batch_2", python(2)),
            ("cifar-10-batches-py/test_batch", python(2)),
            ("cifar-10-batches-py/batches.meta", b"\x80\x02N.".to_vec()),
        ]),
        make(&[(
            "cifar-10-binary.tar.gz",
            tar_gz(&[
                ("cifar-10-batches-bin/data_batch_2.bin", &two),
                ("cifar-10-batches-bin/data_batch_1.bin", &one),
                ("cifar-10-batches-bin/test_batch.bin", &two),
                ("cifar-10-batches-bin/readme.html", b"hello"),
            ]),
        )]),
        make(&[(
            "cifar-10-python.tar.gz",
            tar_gz(&[
                ("cifar-10-batches-py/data_batch_1", &python(3)),
                ("cifar-10-batches-py/data_batch_2", &python(2)),
                ("cifar-10-batches-py/test_batch", &python(2)),
            ]),
        )]),
    ];
    let read = |folder: &tempfile::TempDir, split| load(&source("cifar10", folder.path()), split).unwrap();
    let (train, test) = (read(&folders[0], Split::Train), read(&folders[0], Split::Test));
    assert_eq!((train.len(), test.len(), train.label(4)), (5, 2, 1));
    assert_eq!(train.image(2), &[2; 3_072]);
    let note = train.note().unwrap();
    assert!(note.starts_with("5 examples, the original has 50000; "), "{note}");
    for folder in &folders[1..] {
        assert_eq!(read(folder, Split::Train).fingerprint(), train.fingerprint());
        assert_eq!(read(folder, Split::Test).fingerprint(), test.fingerprint());
    }
}

#[test]
fn a_single_batch_is_a_training_set_and_says_what_to_do_for_a_test() {
    let folder = folder();
    let path = folder.path().join("data_batch_1_first4000.bin.gz");
    fs::write(&path, gzip(&records(3, 1))).unwrap();
    for path in [path.as_path(), folder.path()] {
        assert_eq!(load(&source("cifar10", path), Split::Train).unwrap().len(), 3);
        assert_says(
            load(&source("cifar10", path), Split::Test),
            &["test images", "hold out a part"],
        );
    }
    for name in ["x.zip", "x.npz"] {
        assert_says(
            load(&source("cifar10", &folder.path().join(name)), Split::Train),
            &["folder:PATH", "npz:PATH"],
        );
    }
    // Whatever it is called, what is no batch is no training set either.
    for kind in ["cifar10", "cifar100"] {
        let pixels = folder.path().join("test_X.bin");
        fs::write(&pixels, [7; 27_648]).unwrap();
        for split in [Split::Train, Split::Test] {
            assert_says(load(&source(kind, &pixels), split), &["STL-10", "npz:set.npz"]);
        }
        let table = folder.path().join("labels.csv");
        fs::write(&table, b"name,class\n").unwrap();
        assert_says(load(&source(kind, &table), Split::Test), &["a table (.csv)"]);
    }
}

#[test]
fn cifar_100_takes_the_fine_label() {
    let folder = folder();
    fs::write(folder.path().join("train.bin"), records(12, 2)).unwrap();
    fs::write(folder.path().join("test"), python_batch(&[99, 3], "fine_labels")).unwrap();
    let train = load(&source("cifar100", folder.path()), Split::Train).unwrap();
    assert_eq!(
        (train.classes(), train.label(3), train.class_names()[3].as_str()),
        (100, 3, "bear")
    );
    assert_eq!(
        load(&source("cifar100", folder.path()), Split::Test).unwrap().label(0),
        99
    );
}

#[test]
fn every_prefix_of_a_cifar_file_is_an_error_or_whole_records() {
    let folder = folder();
    let binary = records(2, 1);
    let path = folder.path().join("data_batch_1.bin");
    for end in 0..binary.len() {
        fs::write(&path, &binary[..end]).unwrap();
        let result = load(&source("cifar10", folder.path()), Split::Train);
        if end == 3_073 {
            // Whole records cannot be told from a smaller set: read, and said.
            assert!(
                result
                    .unwrap()
                    .note()
                    .unwrap()
                    .contains("1 examples, the original has 50000")
            );
        } else {
            assert_says(result, &["at byte", "records of 3073 bytes", "data_batch_1.bin"]);
        }
    }
    fs::remove_file(path).unwrap();
    let python = python_batch(&[1, 2], "labels");
    let archive = tar_gz(&[("data_batch_1", &python)]);
    for (name, whole) in [("data_batch_1", python), ("cifar-10-python.tar.gz", archive)] {
        let path = folder.path().join(name);
        fs::write(&path, &whole).unwrap();
        assert!(load(&source("cifar10", folder.path()), Split::Train).is_ok());
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert_says(
                load(&source("cifar10", folder.path()), Split::Train),
                &["expected", name],
            );
        }
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn cifar_errors_say_where_and_what() {
    let folder = folder();
    let try_with = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let result = load(&source("cifar10", folder.path()), Split::Train);
        fs::remove_file(path).unwrap();
        result
    };
    let mut wrong = records(2, 1);
    wrong[3_073] = 10;
    assert_says(
        try_with("data_batch_1.bin", wrong),
        &["at byte 3073", "0..10", "10 for example 1"],
    );
    assert_says(
        try_with("data_batch_1", python_batch(&[1, 12], "labels")),
        &["0..10", "12 for example 1"],
    );
    assert_says(
        try_with("data_batch_1", python_batch(&[1], "fine_labels")),
        &["whole numbers under `labels`"],
    );
    assert_says(
        try_with("data_batch_1", b"\x80\x02cos\nsystem\nU\x04true\x85R.".to_vec()),
        &["a request to run os.system"],
    );
    let in_archive = tar_gz(&[("data_batch_3.bin", &[0; 100])]);
    assert_says(
        try_with("cifar-10-binary.tar.gz", in_archive),
        &["data_batch_3.bin", "100 bytes", "cifar-10-binary.tar.gz"],
    );
}

// ----------------------------------------------------------------------------------------------------- folder

fn picture(width: u32, height: u32, colour: Option<[u8; 3]>, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    match colour {
        Some(colour) => image::RgbImage::from_pixel(width, height, image::Rgb(colour)).write_to(&mut bytes, format),
        None => image::GrayImage::from_fn(width, height, |x, y| image::Luma([(x + 10 * y) as u8]))
            .write_to(&mut bytes, format),
    }
    .unwrap();
    bytes.into_inner()
}

type Files = Vec<(&'static str, Vec<u8>)>;

/// The same files as a folder and as a zip.
fn folder_and_zip(files: &Files) -> (tempfile::TempDir, [PathBuf; 2]) {
    let base = folder();
    let (root, zipped) = (base.path().join("pictures"), base.path().join("pictures.zip"));
    let mut zip = zip::ZipWriter::new(fs::File::create(&zipped).unwrap());
    for (name, bytes) in files {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), bytes).unwrap();
        zip.start_file(format!("pictures/{name}"), zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
    (base, [root, zipped])
}

#[test]
fn folders_and_zips_of_pictures_are_the_same_set() {
    let png = image::ImageFormat::Png;
    let grey: Files = vec![
        ("train/dog/2.png", picture(3, 2, None, png)),
        ("train/cat/1.PNG", picture(3, 2, None, png)),
        ("train/cat/.hidden.png", b"no picture".to_vec()),
        ("train/cat/notes.txt", b"no picture".to_vec()),
        ("test/eel/1.png", picture(3, 2, None, png)),
    ];
    let (_base, paths) = folder_and_zip(&grey);
    for path in &paths {
        let train = load(&source("folder", path), Split::Train).unwrap();
        // Classes of both splits, so that a model's outputs fit either.
        assert_eq!(train.class_names(), ["cat", "dog", "eel"]);
        assert_eq!(
            (train.len(), train.shape(), train.label(0), train.label(1)),
            (2, GREY, 0, 1)
        );
        assert_eq!(train.image(0), &[0, 1, 2, 10, 11, 12][..]);
        let note = train.note().unwrap();
        assert!(note.starts_with("no training picture of eel; "), "{note}");
        assert_eq!(load(&source("folder", path), Split::Test).unwrap().label(0), 2);
    }

    let mixed: Files = vec![
        ("a/1.png", picture(2, 2, Some([200, 100, 0]), png)),
        ("b/1.png", picture(2, 2, None, png)),
        (
            "b/2.jpg",
            picture(2, 2, Some([255, 255, 255]), image::ImageFormat::Jpeg),
        ),
    ];
    let (_base, paths) = folder_and_zip(&mixed);
    for path in &paths {
        let set = load(&source("folder", path), Split::Train).unwrap();
        assert_eq!(set.image(0), [200, 200, 200, 200, 100, 100, 100, 100, 0, 0, 0, 0]);
        assert_eq!(set.note(), Some("JPEG images: lossy"));
        assert_says(
            load(&source("folder", path), Split::Test),
            &["test images", "hold out a part"],
        );
    }
}

#[test]
fn pictures_of_every_size_are_scaled_and_their_middle_is_taken() {
    let png = image::ImageFormat::Png;
    // Grey is x + 10·y: a picture of 6×4 and one of 4×8.
    let files: Files = vec![
        ("a/1.png", picture(6, 4, None, png)),
        ("b/2.png", picture(4, 8, None, png)),
    ];
    let (_base, roots) = folder_and_zip(&files);
    for root in &roots {
        let source = format!("folder:{}", root.display());
        let load = |resize, center_crop| {
            let preparation = Preparation { resize, center_crop };
            load_within(&source, Split::Train, &preparation, &Budget::default())
        };
        let said = load(None, None).unwrap_err().to_string();
        assert!(
            said.contains("b/2.png: expected 6×4 pixels") && said.contains("--resize"),
            "{said}"
        );
        // The middle two columns and rows, as torchvision's CenterCrop(2) takes them.
        let middle = load(None, Some(2)).unwrap();
        assert_eq!(middle.image(0), [12, 13, 22, 23]);
        assert_eq!(middle.image(1), [31, 32, 41, 42]);
        assert!(middle.note().unwrap().contains("middle 2×2"), "{:?}", middle.note());
        // Scaled to half, linearly over all pixels; the values are Pillow's Image.BILINEAR, to a rounding.
        let scaled = load(Some(2), None).unwrap();
        assert_eq!(scaled.shape().to_string(), "1×2×2");
        for (got, pillow) in scaled.image(0).iter().zip([8, 10, 24, 26]) {
            assert!(got.abs_diff(pillow) <= 1, "{:?}", scaled.image(0));
        }
        let said = load(None, Some(5)).unwrap_err().to_string();
        assert!(said.contains("6×4") && said.contains("--center-crop"), "{said}");
    }
    let said = load_within(
        "glyphs",
        Split::Train,
        &Preparation {
            resize: Some(8),
            center_crop: None,
        },
        &Budget::default(),
    );
    assert!(said.unwrap_err().to_string().contains("folder of pictures"));
}

#[test]
fn a_grey_picture_with_three_channels_among_grey_ones_is_grey() {
    let png = image::ImageFormat::Png;
    let shape = |second: [u8; 3]| {
        let files: Files = vec![
            ("a/1.png", picture(3, 2, None, png)),
            ("b/2.png", picture(3, 2, Some(second), png)),
        ];
        let (_base, [root, _]) = folder_and_zip(&files);
        let set = load(&source("folder", &root), Split::Train).unwrap();
        (set.shape().channels, set.image(1).to_vec())
    };
    assert_eq!(shape([77, 77, 77]), (1, vec![77; 6]));
    assert_eq!(shape([77, 77, 78]).0, 3);
}

#[test]
fn other_formats_and_other_compression_are_read() {
    for format in [
        image::ImageFormat::Bmp,
        image::ImageFormat::WebP,
        image::ImageFormat::Gif,
        image::ImageFormat::Tiff,
    ] {
        let ending = format.extensions_str()[0];
        let base = folder();
        for (class, colour) in [("a", [200, 100, 0]), ("b", [0, 50, 250])] {
            let folder = base.path().join(class);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join(format!("1.{ending}")), picture(3, 2, Some(colour), format)).unwrap();
        }
        let set = load(&source("folder", base.path()), Split::Train).unwrap();
        assert_eq!(set.len(), 2, "{ending}");
        assert!(
            set.image(0)
                .iter()
                .zip([200, 200, 200, 200, 200, 200, 100])
                .all(|(a, b)| a.abs_diff(b) < 4),
            "{ending}"
        );
    }
    // What is not read is told as what it is.
    let base = folder();
    fs::create_dir(base.path().join("a")).unwrap();
    for ending in ["heic", "ppm"] {
        let path = base.path().join(format!("a/1.{ending}"));
        fs::write(&path, b"P6").unwrap();
        assert_says(
            load(&source("folder", base.path()), Split::Train),
            &[
                &format!("such as a/1.{ending}; convert them to PNG"),
                &format!(".rglob(\"*.{ending}\")"),
            ],
        );
        fs::remove_file(path).unwrap();
    }

    let methods = [
        zip::CompressionMethod::Bzip2,
        zip::CompressionMethod::Stored,
        zip::CompressionMethod::Deflated,
    ];
    for method in methods {
        let path = base.path().join("set.zip");
        let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for name in ["a/1.png", "b/2.png"] {
            zip.start_file(name, options).unwrap();
            zip.write_all(&picture(3, 2, None, image::ImageFormat::Png)).unwrap();
        }
        zip.finish().unwrap();
        assert_eq!(
            load(&source("folder", &path), Split::Train).unwrap().image(1),
            [0, 1, 2, 10, 11, 12]
        );
    }
}

#[test]
fn an_array_alone_is_told_as_what_it_is() {
    let base = folder();
    let path = base.path().join("fog.npy");
    fs::write(&path, b"\x93NUMPY\x01\0v\0").unwrap();
    for kind in ["npz", "cifar10", "cifar100", "folder"] {
        let said = load(&source(kind, &path), Split::Train).unwrap_err().to_string();
        assert!(
            said.contains(".npy") && said.contains("cifar10-c:FOLDER") && !said.contains("damaged"),
            "{said}"
        );
    }
}

#[test]
fn a_jpeg_copy_of_cifar_10_says_so() {
    const CLASSES: [&str; 10] = [
        "c/airplane/1.jpg",
        "c/automobile/1.jpg",
        "c/bird/1.jpg",
        "c/cat/1.jpg",
        "c/deer/1.jpg",
        "c/dog/1.jpg",
        "c/frog/1.jpg",
        "c/horse/1.jpg",
        "c/ship/1.jpg",
        "c/truck/1.jpg",
    ];
    let jpeg = picture(32, 32, Some([10, 20, 30]), image::ImageFormat::Jpeg);
    let (_base, paths) = folder_and_zip(&CLASSES.iter().map(|name| (*name, jpeg.clone())).collect());
    let set = load(&source("folder", &paths[1]), Split::Train).unwrap();
    assert_eq!(set.name(), "CIFAR-10 (JPEG copy)");
    assert!(
        set.note()
            .unwrap()
            .contains("not comparable with published CIFAR-10 figures")
    );
}

#[test]
fn folder_errors_name_the_picture() {
    let png = image::ImageFormat::Png;
    let good = || ("a/1.png", picture(3, 2, None, png));
    for (files, words) in [
        (
            vec![good(), ("b/2.png", picture(4, 2, None, png))],
            &["b/2.png", "3×2", "4×2"][..],
        ),
        (
            vec![good(), ("b/2.png", picture(3, 2, None, png)[..40].to_vec())],
            &["b/2.png", "a whole picture"],
        ),
        (
            vec![good(), ("b/deep/2.png", picture(3, 2, None, png))],
            &["b/deep/2.png", "CLASS/PICTURE"],
        ),
        (vec![("a/readme.txt", vec![])], &["no pictures", "CLASS/PICTURE"]),
    ] {
        let (_base, paths) = folder_and_zip(&files);
        for path in &paths {
            assert_says(load(&source("folder", path), Split::Train), words);
        }
    }
    assert_says(load("folder:/no/such/place", Split::Train), &["/no/such/place"]);
    let (_base, [_, zipped]) = folder_and_zip(&vec![good()]);
    let whole = fs::read(&zipped).unwrap();
    for end in 0..whole.len() {
        fs::write(&zipped, &whole[..end]).unwrap();
        assert!(
            load(&source("folder", &zipped), Split::Train).is_err(),
            "a prefix of {end} bytes was read"
        );
    }
}

// -------------------------------------------------------------------------------------------------------- npz

/// A JPEG whose EXIF block asks for a quarter turn to the right (orientation 6).
fn turned(jpeg: &[u8]) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01".to_vec();
    exif.extend([0x01, 0x12, 0, 3, 0, 0, 0, 1, 0, 6, 0, 0, 0, 0, 0, 0]);
    let length = (exif.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

#[test]
fn pictures_are_what_a_viewer_shows_or_are_refused() {
    let jpeg = picture(16, 16, None, image::ImageFormat::Jpeg);
    let whole = folder_and_zip(&vec![("a/0.jpg", jpeg.clone())]);
    let upright = load(&source("folder", &whole.1[0]), Split::Train).unwrap();
    let (_base, paths) = folder_and_zip(&vec![("a/0.jpg", turned(&jpeg))]);
    let is = load(&source("folder", &paths[0]), Split::Train).unwrap();
    for (row, column) in [(0, 0), (3, 11), (15, 4)] {
        assert_eq!(
            is.image(0)[row * 16 + column],
            upright.image(0)[(15 - column) * 16 + row]
        );
    }
    for cut in [jpeg.len() / 2, jpeg.len() - 2] {
        let (_base, paths) = folder_and_zip(&vec![("a/0.jpg", jpeg.clone()), ("a/1.jpg", jpeg[..cut].to_vec())]);
        assert_says(
            load(&source("folder", &paths[0]), Split::Train),
            &["a/1.jpg", "breaks off"],
        );
    }
    // A black drawing in the alpha channel alone.
    let mut cutout = std::io::Cursor::new(Vec::new());
    let drawing = image::RgbaImage::from_fn(4, 4, |x, _| image::Rgba([0, 0, 0, if x == 1 { 255 } else { 0 }]));
    drawing.write_to(&mut cutout, image::ImageFormat::Png).unwrap();
    let (_base, paths) = folder_and_zip(&vec![("a/0.png", cutout.into_inner())]);
    let cutout = load(&source("folder", &paths[0]), Split::Train).unwrap();
    assert_eq!(cutout.image(0)[..4], [255, 0, 255, 255]);
    assert!(cutout.note().unwrap().contains("laid on white"), "{:?}", cutout.note());
}

#[test]
fn what_browsers_call_pictures_is_read_and_what_is_left_out_is_told() {
    let jpeg = || picture(4, 4, None, image::ImageFormat::Jpeg);
    let files = [
        ("ant/0.jfif", jpeg()),
        ("ant/1.JPE", jpeg()),
        ("bee/0.jpg", jpeg()),
        ("bee/1", jpeg()),
        ("bee/2.tga", b"picture".to_vec()),
        ("bee/Thumbs.db", b"cache".to_vec()),
        ("bee/.DS_Store", b"cache".to_vec()),
        ("bee/@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg", jpeg()),
    ];
    let (_base, paths) = folder_and_zip(&files.into());
    for path in &paths {
        let set = load(&source("folder", path), Split::Train).unwrap();
        assert_eq!((set.len(), set.classes()), (3, 2));
        let note = set.note().unwrap();
        assert!(
            note.contains("2 files left out whose names do not end as pictures' do") && note.ends_with("bee/1"),
            "{note}"
        );
    }
}

#[test]
fn an_empty_folder_is_a_class_without_a_picture() {
    let png = || picture(4, 4, None, image::ImageFormat::Png);
    for (files, empty) in [
        (["train/ant/0.png", "train/cat/0.png"], "train/bee"),
        (["ant/0.png", "cat/0.png"], "bee"),
        (["all/ant/0.png", "all/cat/0.png"], "all/bee"),
    ] {
        let (base, paths) = folder_and_zip(&files.map(|name| (name, png())).into());
        std::fs::create_dir(paths[0].join(empty)).unwrap();
        let set = load(&source("folder", &paths[0]), Split::Train).unwrap();
        assert_eq!(set.class_names(), ["ant", "bee", "cat"]);
        assert!(set.note().unwrap().contains("no training picture of bee"));
        drop(base);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_in_another_encoding_are_told_as_such() {
    use std::os::unix::ffi::OsStrExt;
    let (_base, paths) = folder_and_zip(&[("ant/0.png", picture(4, 4, None, image::ImageFormat::Png))].into());
    let name = std::ffi::OsStr::from_bytes(b"f\xfcr.png");
    std::fs::copy(paths[0].join("ant/0.png"), paths[0].join("ant").join(name)).unwrap();
    assert_says(
        load(&source("folder", &paths[0]), Split::Train),
        &["names of files in UTF-8", "convmv"],
    );
}

#[test]
fn folders_are_the_parts_that_people_call_them_and_classes_do_not_vanish() {
    let png = || picture(4, 4, None, image::ImageFormat::Png);
    let both = |files: &[&'static str]| {
        let (base, paths) = folder_and_zip(&files.iter().map(|name| (*name, png())).collect());
        let load = |split| load(&source("folder", &paths[0]), split);
        (load(Split::Train), load(Split::Test), base)
    };
    let (train, test, _base) = both(&["Train/a/0.png", "Train/b/0.png", "valid/a/0.png"]);
    assert_eq!((train.unwrap().len(), test.as_ref().unwrap().len()), (2, 1));
    let note = test.unwrap().note().unwrap().to_string();
    assert!(
        note.contains("no test picture of b") && note.contains("stands in"),
        "{note}"
    );
    let (train, test, _base) = both(&["train/a/0.png", "val/a/0.png", "val/a/1.png", "test/a/0.png"]);
    assert_eq!((train.as_ref().unwrap().len(), test.unwrap().len()), (1, 1));
    assert!(
        train
            .unwrap()
            .note()
            .unwrap()
            .contains("2 validation pictures left out")
    );
    let (train, ..) = both(&["train/Cat/0.png", "test/cat/0.png"]);
    assert_says(train, &["Cat and cat", "one name"]);
    let (train, ..) = both(&["a/caf\u{e9}/0.png", "a/cafe\u{301}/0.png"]);
    assert_says(train, &["form of their letters"]);
    let (train, ..) = both(&["training/0.png", "validation/0.png"]);
    assert_says(train, &["sort the pictures"]);
    let (train, ..) = both(&["a/0.png", "b/0.heic"]);
    assert_says(train, &["b/0.heic", "convert them to PNG"]);
    for names in [
        ["train_images/0.png", "test_images/0.png"],
        ["images/0.png", "masks/0.png"],
        ["images/0.png", "images/1.png"],
        ["images/0.png", "boat/0.png"],
        ["train2017/0.png", "val2017/0.png"],
    ] {
        assert_says(
            both(&names).0,
            &["pictures straight in", "sort the pictures into a folder for each class"],
        );
    }
    let (train, ..) = both(&["dogs_train/0.png", "dogs_test/0.png", "cats/0.png"]);
    assert_says(train, &["dogs_test and dogs_train", "train/CLASS and test/CLASS"]);
    let (train, ..) = both(&["training_set/cats/0.png", "test_set/cats/0.png"]);
    assert_says(train, &["call the folders of the splits train and test"]);
    // What is the name of a thing stays a class.
    let (train, ..) = both(&[
        "train/0.png",
        "boat/0.png",
        "test_tube/0.png",
        "masks/0.png",
        "label_0/0.png",
    ]);
    assert_eq!(
        train.unwrap().class_names(),
        ["boat", "label_0", "masks", "test_tube", "train"]
    );
}

#[test]
fn tables_beside_pictures_are_told_and_keep_nothing_from_being_read() {
    let png = || picture(4, 4, None, image::ImageFormat::Png);
    let note = |table: &'static str| {
        let files = vec![
            ("images/a/0.png", png()),
            ("images/b/0.png", png()),
            (table, b"b,0\n".to_vec()),
        ];
        let (_base, paths) = folder_and_zip(&files);
        let of = |path| load(&source("folder", path), Split::Train).unwrap();
        let [note, zipped] = [of(&paths[0]), of(&paths[1])].map(|set| set.note().map(String::from));
        assert_eq!(
            note.as_ref().map(|note| zipped.unwrap().contains(note)),
            note.as_ref().map(|_| true)
        );
        note
    };
    let told = |name: &str| {
        Some(format!(
            "{name} is not read: classes and splits are what the folders say"
        ))
    };
    for table in [
        "meta/test.txt",
        "train_test_split.txt",
        "labels.csv",
        "metadata.parquet",
    ] {
        assert_eq!(note(table), told(table));
    }
    assert_eq!(
        ["README.txt", "images/a/notes.txt", ".cache.json"].map(note),
        [None, None, None]
    );

    let files = vec![
        ("train_images/0.png", png()),
        ("test_images/0.png", png()),
        ("train.csv", b"name,class\n0.png,cat\n".to_vec()),
    ];
    let (_base, paths) = folder_and_zip(&files);
    let pictures = paths[0].join("train_images").display().to_string();
    assert_says(
        load(&source("folder", &paths[0]), Split::Train),
        &[
            "by train.csv",
            "shutil.copy(",
            &format!("{pictures:?}"),
            "ask for folder:set",
        ],
    );
}

#[test]
fn a_file_of_another_form_is_told_as_what_it_is() {
    let base = folder();
    let mut tar = vec![0; 1_024];
    tar[257..262].copy_from_slice(b"ustar");
    let mut matlab = vec![b' '; 520];
    matlab[..10].copy_from_slice(b"MATLAB 7.3");
    matlab[512..].copy_from_slice(b"\x89HDF\r\n\x1a\n");
    let columns: Vec<String> = (0..784).map(|pixel| format!("pixel{pixel}")).collect();
    let digits = format!("label,{}\n", columns.join(","));
    for (name, content, words) in [
        ("cam.h5", b"\x89HDF\r\n\x1a\n".to_vec(), ["HDF5", "h5py.File("]),
        ("cells.mat", matlab, ["version 7.3", "transpose(0, 3, 2, 1)"]),
        (
            "old.mat",
            b"MATLAB 5.0 MAT-file\0\x01IM".to_vec(),
            ["a MATLAB file", "scipy.io.loadmat("],
        ),
        (
            "x.arrow",
            b"\xff\xff\xff\xff\xb8\x01\0\0\x10\0\0\0".to_vec(),
            [".arrow", "Dataset.from_file("],
        ),
        ("x.parquet", b"PAR1".to_vec(), [".parquet", "load_dataset(\"parquet\""]),
        ("x.tar", tar.clone(), ["tar", "webdataset"]),
        ("x.tar.gz", gzip(&tar), ["tar", "unpack it"]),
        ("x.pkl", b"\x80\x04N.".to_vec(), ["a pickle", "pickle.load(open("]),
        ("x.pkl.gz", gzip(b"\x80\x04N."), ["a pickle", "pickle.load(gzip.open("]),
        (
            "a-images.idx3",
            idx_images(3),
            ["IDX", ", offset=16).reshape(-1, 2, 3)"],
        ),
        ("a-labels.idx1", idx_labels(&[1]), ["IDX", ", offset=8)"]),
        (
            "x.safetensors",
            b"\x20\0\0\0\0\0\0\0{\"x\":".to_vec(),
            ["safetensors", "load_file("],
        ),
        (
            "old.pt",
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.".to_vec(),
            ["PyTorch", "torch.load("],
        ),
        (
            "x.tfrecord",
            vec![9, 0, 0, 0, 0, 0, 0, 0],
            ["TensorFlow", "numpy.savez"],
        ),
        (
            "digits.csv",
            digits.into_bytes(),
            [
                "pixels",
                "skiprows=1); np.savez(\"set.npz\", images=d[:, 1:].reshape(-1, 28, 28)",
            ],
        ),
        (
            "labels.csv",
            b"name,class\n0.png,cat\n".to_vec(),
            ["a table", "csv.reader("],
        ),
        (
            "page.zip",
            b"<!DOCTYPE html>".to_vec(),
            ["a web page", "fetch the file itself"],
        ),
        (
            "pointer.zip",
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            ["Git LFS", "git lfs pull"],
        ),
        ("notes.txt", b"about this set".to_vec(), ["a text", "name the folder"]),
        (
            "0.png",
            b"\x89PNG\r\n\x1a\n".to_vec(),
            ["one picture", "for each class"],
        ),
        (
            "x.7z",
            b"7z\xbc\xaf\x27\x1c".to_vec(),
            ["another kind than .zip", "unpack it"],
        ),
        ("x.bin.gz", gzip(&[1, 2, 3]), ["gzip", "gunzip"]),
    ] {
        let path = base.path().join(name);
        fs::write(&path, content).unwrap();
        for kind in ["folder", "npz"] {
            let said = load(&source(kind, &path), Split::Train).unwrap_err().to_string();
            assert!(
                words.iter().all(|word| said.contains(word)) && !said.contains("damaged") && said.contains(name),
                "{said}"
            );
        }
    }
    // Zips: tensors, arrays where pictures were asked for, pictures where arrays were.
    let zip = |name: &str, entry: &str| {
        let path = base.path().join(name);
        let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
        zip.start_file(entry, zip::write::SimpleFileOptions::default()).unwrap();
        zip.finish().unwrap();
        path
    };
    for (kind, path, words) in [
        ("npz", zip("t.pt", "t/data.pkl"), ["PyTorch", "torch.load("]),
        ("folder", zip("t.pt", "t/data.pkl"), ["PyTorch", "torch.load("]),
        ("folder", zip("a.npz", "images.npy"), ["arrays", "npz:FILE"]),
        ("npz", zip("a.zip", "a/0.png"), ["holds no arrays", "folder:PATH"]),
    ] {
        assert_says(load(&source(kind, &path), Split::Train), &words);
    }
}

#[test]
fn data_sets_in_another_form_are_found_in_folders() {
    for (name, content, words) in [
        ("train-00000.parquet", &b"PAR1"[..], "load_dataset(\"{}\")"),
        ("plain_text/train-00000.parquet", b"PAR1", "load_dataset(\"{}\")"),
        ("default/train/0000.parquet", b"PAR1", "load_dataset(\"{}\")"),
        ("train/data-00000.arrow", b"", "{\"train\": datasets.Dataset.from_file("),
        ("test/data-00000.arrow", b"", "{\"test\": datasets.Dataset.from_file("),
        ("sets/cam.h5", b"\x89HDF\r\n\x1a\n", "h5py.File("),
        ("stl10_binary/test_X.bin", b"\0\0", "reshape(-1, 3, 96, 96)"),
    ] {
        let base = folder();
        let root = base.path().display().to_string();
        fs::create_dir_all(base.path().join(name).parent().unwrap()).unwrap();
        fs::write(base.path().join(name), content).unwrap();
        for kind in ["folder", "npz", "cifar10"] {
            assert_says(
                load(&source(kind, base.path()), Split::Train),
                &["expected a format that is read here", &words.replace("{}", &root)],
            );
        }
        fs::write(base.path().join("dataset_dict.json"), b"{}").unwrap();
        let said = load(&source("folder", base.path()), Split::Train)
            .unwrap_err()
            .to_string();
        let whole = format!("datasets.load_from_disk({root:?})");
        assert_eq!(said.contains(&whole), name.ends_with(".arrow"), "{said}");
        fs::write(base.path().join("images.npy"), b"").unwrap();
        assert_says(
            load(&source("npz", base.path()), Split::Train),
            &["the file holds images"],
        );
    }
}

#[test]
fn npz_round_trips_and_reads_every_layout() {
    let base = folder();
    let write = |name: &str, arrays: &[(&str, &[usize], NpzValues)]| {
        let path = base.path().join(name);
        write_npz(&path, arrays).unwrap();
        source("npz", &path)
    };
    let bytes: Vec<u8> = (0..36).collect();
    let floats: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) / 255.0).collect();
    let labels = NpzValues::I64(&[1, 0]);

    let grey = write(
        "grey.npz",
        &[
            ("images", &[6, 2, 3], NpzValues::U8(&bytes)),
            ("labels", &[6], NpzValues::U8(&[0, 1, 2, 3, 4, 5])),
        ],
    );
    let grey = load(&grey, Split::Train).unwrap();
    assert_eq!(
        (grey.len(), grey.shape(), grey.classes(), grey.image(5)),
        (6, GREY, 6, &bytes[30..])
    );

    let first = write(
        "first.npz",
        &[("x", &[2, 3, 2, 3][..], NpzValues::F32(&floats)), ("y", &[2], labels)],
    );
    // Three columns could be three channels: the shape 2, 3, 2, 3 says neither.
    assert_says(load(&first, Split::Train), &["N×H×W×C or N×C×H×W", "[2, 3, 2, 3]"]);

    let first = write(
        "first.npz",
        &[
            ("x", &[1, 3, 2, 6][..], NpzValues::F32(&floats)),
            ("y", &[1], NpzValues::I64(&[1])),
        ],
    );
    let first = load(&first, Split::Train).unwrap();
    let note = Some("no example of class 0: are the labels counted from 1?");
    assert_eq!((first.image(0), first.note()), (&bytes[..], note));
    let last = write(
        "last.npz",
        &[
            ("data", &[1, 2, 6, 3][..], NpzValues::U8(&bytes)),
            ("labels", &[1], NpzValues::I64(&[1])),
        ],
    );
    let last = load(&last, Split::Train).unwrap();
    assert_eq!(last.shape(), first.shape());
    assert_eq!(last.image(0)[..12], [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33]);

    let between = write(
        "between.npz",
        &[
            ("image", &[1, 2, 3][..], NpzValues::F32(&[0.5; 6])),
            ("label", &[1], NpzValues::I64(&[0])),
        ],
    );
    let between = load(&between, Split::Train).unwrap();
    assert_eq!(
        (between.is_exact(), between.image(0)[0], between.note()),
        (true, 128, None)
    );
    assert_eq!(
        between.values(0),
        [0.5; 6],
        "kept as they are, not rounded to 128 of 255"
    );

    let both = write(
        "both.npz",
        &[
            ("x_train", &[2, 2, 3], NpzValues::U8(&bytes[..12])),
            ("y_train", &[2], NpzValues::I64(&[0, 1])),
            ("x_test", &[1, 2, 3], NpzValues::U8(&bytes[..6])),
            ("y_test", &[1], NpzValues::I64(&[7])),
        ],
    );
    assert_eq!(load(&both, Split::Train).unwrap().classes(), 8);
    assert_eq!(load(&both, Split::Test).unwrap().label(0), 7);

    let test = write(
        "test.npz",
        &[
            ("x_test", &[1, 2, 3], NpzValues::U8(&bytes[..6])),
            ("y_test", &[1], NpzValues::I64(&[0])),
        ],
    );
    assert_eq!(load(&test, Split::Test).unwrap().len(), 1);
    assert_says(load(&test, Split::Train), &["training images, got test images only"]);
}

#[test]
fn floats_that_no_byte_holds_stay_what_they_are() {
    let folder = folder();
    let path = folder.path().join("adversarial.npz");
    // A perturbation of a tenth of a 255th, which rounding would take away; 255ths themselves stay bytes.
    let near: Vec<f32> = (0..18).map(|i| (9.0 * i as f32 + 0.1) / 255.0).collect();
    let bytes: Vec<f32> = (0..18).map(|i| 9.0 * i as f32 / 255.0).collect();
    let save = |values: &[f32]| {
        let images = ("images", &[2, 3, 3][..], NpzValues::F32(values));
        write_npz(&path, &[images, ("labels", &[2], NpzValues::I64(&[0, 1]))]).unwrap();
        load(&source("npz", &path), Split::Train).unwrap()
    };
    let (plain, exact) = (save(&bytes), save(&near));
    assert!(!plain.is_exact() && exact.is_exact() && exact.note().is_none());
    assert_eq!(
        (plain.values(1), exact.values(1)),
        (bytes[9..].to_vec(), near[9..].to_vec())
    );
    assert_eq!(plain.image(1), exact.image(1));
    assert_ne!(plain.fingerprint(), exact.fingerprint());

    let device = Device::cpu();
    let values = |batch: martlet::shapes::Batch| read(batch.images).unwrap();
    assert_eq!(values(exact.batch(&[1, 0], &device)), [&near[9..], &near[..9]].concat());
    let still = Augmentation { pad: 0, flip: false };
    let batch = exact.augmented_batch(&[1], 0..1, &still, &mut Rng::new(1), &device);
    assert_eq!(values(batch), near[9..]);
    // Beside others, in subsets, and under other names of the classes.
    let both = plain.with_pseudo_labelled(&exact).unwrap();
    assert_eq!(
        (both.values(0), both.values(3)),
        (bytes[..9].to_vec(), near[9..].to_vec())
    );
    assert_eq!(
        exact.subset(&[1]).with_class_names(&["a".into(), "b".into()]).values(0),
        near[9..]
    );
}

#[test]
fn what_is_almost_black_says_so_in_every_source() {
    let base = folder();
    let path = base.path().join("dark.npz");
    let note = |pixels: NpzValues| {
        let arrays = [
            ("images", &[2, 2, 2][..], pixels),
            ("labels", &[2], NpzValues::I64(&[0, 1])),
        ];
        write_npz(&path, &arrays).unwrap();
        load(&source("npz", &path), Split::Train)
            .unwrap()
            .note()
            .map(String::from)
    };
    let says = |note: Option<String>, expected: &str| assert_eq!(note.as_deref(), Some(expected));
    says(
        note(NpzValues::U8(&[0, 1, 1, 0, 1, 0, 0, 1])),
        "the brightest value is 1 of 255, almost black: pixels of 0 and 1, 8 bits kept in 16, or divided by 255 twice? multiply them by 255",
    );
    says(note(NpzValues::U8(&[0; 8])), "every pixel is 0");
    let twice = [0.0, 7.0, 30.0, 128.0, 200.0, 255.0, 3.0, 90.0].map(|value: f32| value / 255.0 / 255.0);
    says(
        note(NpzValues::F32(&twice)),
        "the brightest value is 0.0039 of 1, almost black: divided by 255 twice? multiply the pixels by 255",
    );
    assert_eq!(note(NpzValues::U8(&[0, 1, 1, 0, 1, 0, 0, 26])), None);

    let mut deep = Cursor::new(Vec::new());
    image::ImageBuffer::<image::Luma<u16>, _>::from_fn(4, 4, |x, _| image::Luma([(4_095 * x / 3) as u16]))
        .write_to(&mut deep, image::ImageFormat::Png)
        .unwrap();
    let (_base, [root, _]) = folder_and_zip(&vec![("a/0.png", deep.into_inner())]);
    let note = load(&source("folder", &root), Split::Train).unwrap();
    let note = note.note().unwrap();
    let twelve = "the brightest value is 16 of 255, almost black: 12 bits kept in 16? multiply the pixels until white is the largest \
                  value (12 bits in 16: by 16)";
    assert!(note.ends_with(twelve), "{note}");
}

#[test]
fn validation_images_stand_in_for_a_test_set_and_a_test_set_may_be_alone() {
    let base = folder();
    let path = base.path().join("parts.npz");
    let bytes: Vec<u8> = (0..12).map(|i| 20 * i).collect();
    let write = |parts: &[&str]| {
        let names: Vec<[String; 2]> = parts
            .iter()
            .map(|part| [format!("x_{part}"), format!("y_{part}")])
            .collect();
        let mut arrays: Vec<(&str, &[usize], NpzValues)> = Vec::new();
        for (i, [x, y]) in names.iter().enumerate() {
            arrays.push((x, &[1, 2, 3], NpzValues::U8(&bytes[i..i + 6])));
            arrays.push((y, &[1], NpzValues::I64(&[[1], [2], [0]][i])));
        }
        write_npz(&path, &arrays).unwrap();
    };
    let read = |split| load(&source("npz", &path), split);
    write(&["train", "val"]);
    let (train, test) = (read(Split::Train).unwrap(), read(Split::Test).unwrap());
    assert_eq!((train.classes(), test.classes(), test.label(0)), (3, 3, 2));
    assert_eq!(test.image(0), &bytes[1..7]);
    let note = test.note().unwrap();
    assert!(
        note.contains("the validation images (x_val) stand in for a test set"),
        "{note}"
    );
    assert!(!train.note().unwrap().contains("validation"));
    write(&["train", "val", "test"]);
    let test = read(Split::Test).unwrap();
    assert_eq!((test.label(0), test.classes()), (0, 2));
    assert!(!test.note().unwrap().contains("validation"), "{:?}", test.note());
    write(&["test"]);
    assert_eq!(read(Split::Test).unwrap().len(), 1);
    assert!(matches!(read(Split::Train), Err(DataError::NoTrainingSplit { .. })));
    assert_says(
        read(Split::Train),
        &["expected training images, got test images only, under \"x_test\"; train on another source"],
    );
}

/// A `.npy` file of numpy's header and the bytes behind it.
fn npy(kind: &str, shape: &str, bytes: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut file = b"\x93NUMPY\x01\0".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    [&file, header.as_bytes(), bytes].concat()
}

#[test]
fn classes_are_a_count_a_list_or_names() {
    let base = folder();
    let put = |name: &str, bytes: Vec<u8>| fs::write(base.path().join(name), bytes).unwrap();
    put("x.npy", npy("|u1", "(2, 2, 2)", &[0, 50, 100, 150, 200, 250, 30, 60]));
    put("y.npy", npy("|u1", "(2,)", &[0, 1]));
    let read = || load(&source("npz", base.path()), Split::Train);
    let with = |kind, shape, bytes: &[u8]| {
        put("classes.npy", npy(kind, shape, bytes));
        read().map(|set| set.class_names().join(" "))
    };
    assert_eq!(read().unwrap().classes(), 2);
    assert_eq!(with("|u1", "()", &[4]).unwrap(), "0 1 2 3");
    assert_eq!(with("|u1", "(1,)", &[4]).unwrap(), "0 1 2 3");
    assert_eq!(with("|u1", "(4,)", &[0, 1, 2, 3]).unwrap(), "0 1 2 3");
    let utf32 = |names: [&str; 3], order: fn(u32) -> [u8; 4]| {
        let padded = names.map(|name| name.chars().map(u32::from).chain([0; 4]).take(4).collect::<Vec<_>>());
        padded.concat().into_iter().flat_map(order).collect::<Vec<u8>>()
    };
    let names = ["ant", "bee", "crab"];
    assert_eq!(
        with("<U4", "(3,)", &utf32(names, u32::to_le_bytes)).unwrap(),
        "ant bee crab"
    );
    assert_eq!(read().unwrap().note(), Some("no example of class crab"));
    assert_eq!(
        with(">U4", "(3,)", &utf32(names, u32::to_be_bytes)).unwrap(),
        "ant bee crab"
    );
    assert_eq!(with("|S4", "(3,)", b"ant\0bee\0crab").unwrap(), "ant bee crab");
    let wrong = |kind, shape, bytes: &[u8]| with(kind, shape, bytes).unwrap_err().to_string();
    for (said, words) in [
        (
            wrong("|S3", "(1,)", b"ant"),
            "expected 2 names, as the labels show 2 classes, got 1",
        ),
        (wrong("<f4", "()", &4_f32.to_le_bytes()), "got floats"),
        (wrong("<i2", "()", &(-4_i16).to_le_bytes()), "got -4"),
        (wrong("|O", "(2,)", b"pickled"), "numbers of a known type"),
    ] {
        assert!(
            said.contains(words) && said.contains("np.array(['ant', 'bee'])"),
            "{said}"
        );
    }
    fs::remove_file(base.path().join("classes.npy")).unwrap();
    put("y.npy", npy("|S3", "(2,)", b"antbee"));
    assert_says(read(), &["got text", "np.unique(y, return_inverse=True)"]);
}

#[test]
fn what_is_no_pixel_is_told_the_line_that_makes_pixels_of_it() {
    let base = folder();
    let put = |name: &str, bytes: Vec<u8>| fs::write(base.path().join(name), bytes).unwrap();
    put("y.npy", npy("|u1", "(1,)", &[0]));
    let said = |shape: &str, values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        put("x.npy", npy("<f4", shape, &bytes));
        load(&source("npz", base.path()), Split::Train)
            .map(|set| set.len())
            .unwrap_err()
            .to_string()
    };
    let grey = "(1, 2, 2)";
    for (values, line) in [
        (
            [0.0, f32::NAN, 0.5, 1.0],
            "x = np.nan_to_num(x, nan=0, posinf=1, neginf=0)",
        ),
        ([0.0, 3.0, 128.0, 255.0], "x = x.astype(np.uint8)"),
        ([-128.0, 3.0, 0.0, 127.0], "x = (x + 128.0) / 255"),
        ([0.0, 3.5, 128.0, 255.0], "x = x / 255"),
        ([0.0, 3.0, 128.0, 40_000.0], "x = x / 65535"),
        ([0.0, 0.5, 0.9, 1.02], "x = np.clip(x, 0, 1)"),
        ([-1.0, 0.0, 0.5, 1.0], "x = (x + 1) / 2"),
        ([-0.42, 0.0, 0.5, 2.8], "x = np.clip(x * std + mean, 0, 1)"),
    ] {
        let said = said(grey, &values);
        assert!(
            said.contains(&format!(", {line}, and save the array again: ")),
            "{said}"
        );
    }
    let said = said("(1, 3, 1, 2)", &[-2.0, 0.0, 1.0, 2.0, 0.5, 0.1]);
    let line = "x = np.clip(x * np.reshape(std, (-1, 1, 1)) + np.reshape(mean, (-1, 1, 1)), 0, 1)";
    assert!(
        said.contains("got -2 in example 0, of values from -2 to 2;") && said.contains(line),
        "{said}"
    );
    put(
        "x.npy",
        npy("<i4", grey, &[0_i32, 1, 7, 255].map(i32::to_le_bytes).concat()),
    );
    assert_says(
        load(&source("npz", base.path()), Split::Train),
        &["x = x.astype(np.uint8)"],
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_is_told_that_it_can_be_read_only_once() {
    let base = folder();
    let pipe = base.path().join("set.npz");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for kind in ["npz", "folder", "mnist", "cifar10"] {
        let words =
            "expected a file or a folder, got a pipe, which can be read only once; save it to a file, and name that: ";
        assert_says(load(&source(kind, &pipe), Split::Train), &[words]);
    }
}

#[test]
fn classes_are_found_by_their_names() {
    let all = ["ant", "bee", "cat"].map(String::from);
    let shape = ImageShape {
        channels: 1,
        height: 1,
        width: 1,
    };
    let some = Dataset::from_parts("some", shape, vec!["cat".into(), "ant".into()], vec![7, 8], vec![0, 1]).unwrap();
    let moved = some.among(&all).unwrap();
    assert_eq!((moved.label(0), moved.label(1), moved.classes()), (2, 0, 3));
    assert_eq!(some.among(&all[1..]).unwrap_err(), "ant");
}

#[test]
fn npz_errors_name_the_array() {
    let base = folder();
    let path = base.path().join("odd.npz");
    let try_with = |arrays: &[(&str, &[usize], NpzValues)]| {
        write_npz(&path, arrays).unwrap();
        load(&source("npz", &path), Split::Train)
    };
    let images = ("images", &[2, 2, 3][..], NpzValues::U8(&[0; 12]));
    assert_says(
        try_with(&[images, ("labels", &[3], NpzValues::I64(&[0; 3]))]),
        &["\"labels\"", "2 labels", "got 3"],
    );
    assert_says(
        try_with(&[images, ("labels", &[2], NpzValues::I64(&[0, -1]))]),
        &["\"labels\"", "-1 for example 1"],
    );
    assert_says(
        try_with(&[images, ("labels", &[2], NpzValues::F32(&[0.0, 1.0]))]),
        &["whole numbers", "floats"],
    );
    assert_says(try_with(&[images]), &["the file holds images"]);
    let bright = (
        "images",
        &[1, 2, 3][..],
        NpzValues::F32(&[0.0, 0.5, 1.0, 254.0, 0.0, 0.0]),
    );
    assert_says(
        try_with(&[bright, ("labels", &[1], NpzValues::I64(&[0]))]),
        &["[0, 1]", "254 in example 0"],
    );
    let dark = ("images", &[1, 2, 3][..], NpzValues::F32(&[f32::NAN; 6]));
    assert_says(
        try_with(&[dark, ("labels", &[1], NpzValues::I64(&[0]))]),
        &["NaN in example 0"],
    );
    let flat = ("images", &[2, 6][..], NpzValues::U8(&[0; 12]));
    assert_says(
        try_with(&[flat, ("labels", &[2], NpzValues::I64(&[0, 1]))]),
        &["the shape [2, 6]"],
    );
    assert!(write_npz(&path, &[("x", &[3], NpzValues::U8(&[0; 2]))]).is_err());

    write_npz(&path, &[images, ("labels", &[2], NpzValues::I64(&[0, 1]))]).unwrap();
    assert_says(
        load(&source("npz", &path), Split::Test),
        &["test images", "one set", "hold out"],
    );
    let whole = fs::read(&path).unwrap();
    for end in 0..whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        assert_says(load(&source("npz", &path), Split::Train), &["expected", "odd.npz"]);
    }
    // Nothing temporary is left behind.
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1);
}

// --------------------------------------------------------------------------------------------------- download

/// Serves `content` to whoever asks, ranges too, and keeps the requests. A request is cut off after `most` bytes of body
/// the first time.
fn serve(content: &'static [u8], most: usize) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/file", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            let request = String::from_utf8_lossy(&request).to_lowercase();
            let begin: Option<usize> = request
                .split("range: bytes=")
                .nth(1)
                .and_then(|range| range.split('-').next()?.parse().ok());
            let is_first = seen.lock().unwrap().is_empty();
            seen.lock().unwrap().push(request);
            let begin_at = begin.unwrap_or(0);
            let status = match begin {
                Some(begin) if begin >= content.len() => "416 Range Not Satisfiable",
                Some(_) => "206 Partial Content",
                None => "200 OK",
            };
            let body = content.get(begin_at..).unwrap_or_default();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body[..if is_first { most.min(body.len()) } else { body.len() }]);
        }
    });
    (url, requests)
}

fn remote(url: &str, md5: &'static str) -> download::RemoteFile {
    let urls: &'static [&'static str] = vec![&*url.to_string().leak()].leak();
    download::RemoteFile {
        name: "file.bin",
        urls,
        md5,
        bytes: 26,
    }
}

const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
const ALPHABET_MD5: &str = "c3fcd3d76192e4007dfb496cca67e13b";

#[test]
fn a_broken_download_is_resumed_and_checked() {
    let (url, requests) = serve(ALPHABET, 10);
    let base = folder();
    let file = [remote(&url, ALPHABET_MD5)];
    let error = download::get_files(&file, base.path(), &mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains("file.bin") && error.contains(ALPHABET_MD5), "{error}");
    assert_eq!(fs::read(base.path().join("file.bin.part")).unwrap(), b"abcdefghij");

    let mut told = Vec::new();
    download::get_files(&file, base.path(), &mut |done, total| told.push((done, total))).unwrap();
    assert_eq!(fs::read(base.path().join("file.bin")).unwrap(), ALPHABET);
    assert!(!base.path().join("file.bin.part").exists());
    assert!(requests.lock().unwrap()[1].contains("range: bytes=10-"));
    assert_eq!((told.first(), told.last()), (Some(&(10, 26)), Some(&(26, 26))));

    // A file that is there and right is not asked for again.
    download::get_files(&file, base.path(), &mut |_, _| {}).unwrap();
    assert_eq!(requests.lock().unwrap().len(), 2);

    // Whole, but killed before the renaming: the server has nothing to add.
    fs::rename(base.path().join("file.bin"), base.path().join("file.bin.part")).unwrap();
    download::get_files(&file, base.path(), &mut |_, _| {}).unwrap();
    assert!(base.path().join("file.bin").exists());
}

#[test]
fn a_download_that_is_not_the_original_is_refused_and_removed() {
    let (url, _) = serve(ALPHABET, 1_000);
    let base = folder();
    let file = [remote(&url, "00000000000000000000000000000000")];
    let error = download::get_files(&file, base.path(), &mut |_, _| {})
        .unwrap_err()
        .to_string();
    assert!(error.contains(ALPHABET_MD5) && error.contains("by hand"), "{error}");
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
}

#[test]
fn offline_the_error_says_which_files_to_put_where() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let base = folder();
    let file = [remote(&format!("http://{nobody}/file"), ALPHABET_MD5)];
    let error = download::get_files(&file, base.path(), &mut |_, _| {})
        .unwrap_err()
        .to_string();
    let path = base.path().join("file.bin").display().to_string();
    assert!(
        error.ends_with(&path) && error.contains("put these files there by hand"),
        "{error}"
    );
    assert!(download::get("emnist", base.path(), &mut |_, _| {}).is_err());
    assert_eq!(
        download::known().map_names(),
        ["mnist", "fashion-mnist", "cifar10", "cifar100"]
    );
}

trait Names {
    fn map_names(&self) -> Vec<&'static str>;
}

impl Names for [download::Known] {
    fn map_names(&self) -> Vec<&'static str> {
        self.iter().map(|known| known.name).collect()
    }
}

// ------------------------------------------------------------------------------------------------- real files

#[test]
fn errors_travel_between_threads() {
    fn travels<T: Send + Sync + 'static>() {}
    travels::<DataError>();
    travels::<Dataset>();
}

#[test]
#[ignore = "needs the real files: MARTLET_DATA names a folder with mnist/ and cifar10/ in it"]
fn the_real_files_are_read() {
    let root = std::env::var_os("MARTLET_DATA").expect("MARTLET_DATA names a folder with mnist/ and cifar10/ in it");
    let root = PathBuf::from(root);
    let timed = |source: &str, split| {
        let begin = std::time::Instant::now();
        let set = load(source, split).unwrap();
        eprintln!(
            "{source} {split:?}: {} in {:.2} s, {:?}",
            set.len(),
            begin.elapsed().as_secs_f32(),
            set.note()
        );
        set
    };
    let mnist = source("mnist", &root.join("mnist"));
    let (train, test) = (timed(&mnist, Split::Train), timed(&mnist, Split::Test));
    assert_eq!(
        (train.len(), test.len(), train.note(), test.note()),
        (60_000, 10_000, None, None)
    );
    assert_eq!([0, 1, 2].map(|i| train.label(i)), [5, 0, 4]);
    assert_says(
        load(&source("fashion-mnist", &root.join("mnist")), Split::Train),
        &["Fashion-MNIST", "got MNIST"],
    );
    let cifar = timed(&source("cifar10", &root.join("cifar10")), Split::Train);
    assert!(cifar.len() >= 4_000);
    assert_eq!(cifar.shape().to_string(), "3×32×32");
    let jpeg = root.join("cifar10/cifar10-jpeg-q75.zip");
    if jpeg.is_file() {
        let (train, test) = (
            timed(&source("folder", &jpeg), Split::Train),
            timed(&source("folder", &jpeg), Split::Test),
        );
        assert_eq!(
            (train.len(), test.len(), train.name()),
            (50_000, 10_000, "CIFAR-10 (JPEG copy)")
        );
    }
}
