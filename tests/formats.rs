//! The layouts in which others publish data: files that their own tools wrote (`tests/golden/formats.py`), and damaged ones.

use std::{fs, path::Path};

use martlet::{
    data::{self, DataError, Dataset, Split},
    shapes::ImageShape,
};

const FORMATS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/formats");

fn load(kind: &str, path: &str, split: Split) -> Result<Dataset, DataError> {
    data::load(&format!("{kind}:{FORMATS}/{path}"), split)
}

/// The value that `formats.py` puts at four indices.
fn pixel(indices: [usize; 4]) -> u8 {
    let factors = [7, 13, 29, 53];
    (indices
        .iter()
        .zip(factors)
        .map(|(index, factor)| index * factor)
        .sum::<usize>()
        % 256) as u8
}

/// Every pixel of a set, against what a function of (image, channel, row, column) says.
fn assert_pixels(set: &Dataset, expected: impl Fn(usize, usize, usize, usize) -> u8) {
    let ImageShape {
        channels,
        height,
        width,
    } = set.shape();
    for image in 0..set.len() {
        for channel in 0..channels {
            for row in 0..height {
                for column in 0..width {
                    let got = set.image(image)[(channel * height + row) * width + column];
                    assert_eq!(
                        got,
                        expected(image, channel, row, column),
                        "image {image}, channel {channel}, row {row}, column {column}"
                    );
                }
            }
        }
    }
}

fn labels(set: &Dataset) -> Vec<usize> {
    (0..set.len()).map(|position| set.label(position)).collect()
}

fn refusal(result: Result<Dataset, DataError>) -> String {
    result.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn svhn_is_read_from_matlab_files() {
    for (split, expected) in [(Split::Train, vec![1, 0, 3]), (Split::Test, vec![1, 0])] {
        let set = load("svhn", "svhn", split).unwrap();
        assert_eq!((labels(&set), set.classes(), set.name()), (expected, 10, "SVHN"));
        assert_eq!(set.shape().to_string(), "3×32×32");
        assert_pixels(&set, |image, channel, row, column| pixel([row, column, channel, image]));
    }
    assert!(refusal(load("svhn", "arrays", Split::Train)).contains("train_32x32.mat and test_32x32.mat"));
    let said = refusal(load("svhn", "svhn-doubles", Split::Test));
    assert!(
        said.contains("in the array X: expected bytes") && said.contains("save X as uint8"),
        "{said}"
    );
}

#[test]
fn a_damaged_matlab_file_is_refused_wherever_it_was_cut() {
    let whole = fs::read(Path::new(FORMATS).join("svhn/train_32x32.mat")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = format!("svhn:{}", folder.path().display());
    for length in (0..whole.len()).step_by(whole.len() / 40) {
        fs::write(folder.path().join("train_32x32.mat"), &whole[..length]).unwrap();
        let said = refusal(data::load(&source, Split::Train));
        assert!(said.contains("fetch the file again"), "{length} bytes: {said}");
    }
}

#[test]
fn cifar_10_c_is_read_by_corruption_and_severity() {
    let all = load("cifar10-c", "cifar-10-c/gaussian_noise", Split::Test).unwrap();
    assert_eq!(labels(&all), [3, 8].repeat(5));
    assert_eq!(all.class_names()[3], "cat");
    assert_pixels(&all, |image, channel, row, column| pixel([image, row, column, channel]));
    let third = load("cifar10-c", "cifar-10-c/gaussian_noise-3", Split::Test).unwrap();
    assert_eq!(
        (labels(&third), third.name()),
        (vec![3, 8], "CIFAR-10-C gaussian noise-3")
    );
    assert_pixels(&third, |image, channel, row, column| {
        pixel([image + 4, row, column, channel])
    });
    for (path, part) in [
        ("cifar-10-c/gaussian_noise-6", "take one from 1 to 5"),
        ("cifar-10-c/fog", "the folder holds gaussian_noise"),
        (
            "cifar-10-c",
            "corruption's name behind the folder; expected FOLDER/CORRUPTION",
        ),
        ("cifar-10-c/", "the folder holds gaussian_noise"),
        ("nowhere/fog", "name the folder with the .npy files"),
    ] {
        let said = refusal(load("cifar10-c", path, Split::Test));
        assert!(said.contains(part), "{path}: {said}");
    }
    let said = refusal(load("cifar10-c", "cifar-10-c/gaussian_noise", Split::Train));
    assert!(said.contains("CIFAR-10-C, which is a test set"), "{said}");
    // CIFAR-100-C has the same files; its labels tell.
    let folder = tempfile::tempdir().unwrap();
    for name in ["gaussian_noise.npy", "labels.npy"] {
        fs::copy(
            Path::new(FORMATS).join("cifar-10-c").join(name),
            folder.path().join(name),
        )
        .unwrap();
    }
    let labels = folder.path().join("labels.npy");
    let mut bytes = fs::read(&labels).unwrap();
    *bytes.last_mut().unwrap() = 99;
    fs::write(&labels, &bytes).unwrap();
    let source = format!("cifar10-c:{}/gaussian_noise", folder.path().display());
    let said = refusal(data::load(&source, Split::Test));
    for part in [
        "in 0..10, got 99 for example 9",
        "CIFAR-100-C",
        "y_test=np.load(",
        "npz:gaussian_noise.npz",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_martlet"))
        .args([
            "data",
            "show",
            &format!("cifar10-c:{FORMATS}/cifar-10-c/gaussian_noise"),
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(
        shown.status.success() && text.contains("test") && !text.contains("train"),
        "{text}"
    );
}

#[test]
fn a_folder_of_arrays_is_read_as_one_file_of_them_is() {
    let train = load("npz", "arrays", Split::Train).unwrap();
    assert_eq!((labels(&train), train.classes()), (vec![0, 2, 1], 3));
    assert_eq!(train.shape().to_string(), "1×4×5");
    assert_pixels(&train, |image, _, row, column| pixel([image, row, column, 0]));
    let test = load("npz", "arrays", Split::Test).unwrap();
    assert_eq!((labels(&test), test.classes()), (vec![1, 0], 3));
    assert_pixels(&test, |image, _, row, column| pixel([image, row, column, 0]));
    let said = refusal(load("npz", "svhn", Split::Train));
    assert!(said.contains("a folder of .npy files"), "{said}");
}

#[test]
fn medmnist_is_read_as_it_is_published() {
    let train = load("npz", "medmnist.npz", Split::Train).unwrap();
    assert_eq!((labels(&train), train.classes()), (vec![0, 1, 2], 3));
    assert_pixels(&train, |image, channel, row, column| {
        pixel([image, row, column, channel])
    });
    assert_eq!(labels(&load("npz", "medmnist.npz", Split::Test).unwrap()), [0, 1]);
}

#[test]
fn tiny_imagenet_is_read_with_its_validation_pictures_as_the_test_split() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, grey: bool, value: u8| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if grey {
            image::GrayImage::from_pixel(64, 64, image::Luma([value]))
                .save(path)
                .unwrap();
        } else {
            image::RgbImage::from_pixel(64, 64, image::Rgb([value; 3]))
                .save(path)
                .unwrap();
        }
    };
    write("train/n02/images/n02_0.jpeg", false, 200);
    write("train/n01/images/n01_0.jpeg", true, 90);
    write("train/n01/images/n01_1.jpeg", false, 30);
    write("val/images/val_0.jpeg", false, 60);
    let annotations = folder.path().join("val/val_annotations.txt");
    fs::write(&annotations, "val_0.jpeg\tn02\t0\t32\t44\t62\n").unwrap();
    fs::write(
        folder.path().join("words.txt"),
        "n01\tgoldfish, Carassius auratus\nn09\tnothing\n",
    )
    .unwrap();
    let source = format!("tiny-imagenet:{}", folder.path().display());

    let train = data::load(&source, Split::Train).unwrap();
    assert_eq!(labels(&train), [0, 0, 1]);
    assert_eq!(train.class_names(), ["goldfish", "n02"]);
    assert_eq!(train.shape().to_string(), "3×64×64");
    for (position, value) in [90i32, 30, 200].into_iter().enumerate() {
        let near = |pixel: &u8| (i32::from(*pixel) - value).abs() <= 2;
        assert!(train.image(position).iter().all(near), "picture {position}");
    }
    assert_eq!(labels(&data::load(&source, Split::Test).unwrap()), [1]);

    fs::write(&annotations, "val_0.jpeg\tn07\n").unwrap();
    assert!(refusal(data::load(&source, Split::Test)).contains("line 1"));
    fs::write(&annotations, "../secret.jpeg\tn02\n").unwrap();
    assert!(refusal(data::load(&source, Split::Test)).contains("line 1"));

    // As folder: it is named, and without the list its pictures may lie in folders of their classes.
    let said = refusal(data::load(&format!("folder:{}", folder.path().display()), Split::Train));
    assert!(said.contains("is tiny-imagenet:FOLDER"), "{said}");
    fs::remove_file(&annotations).unwrap();
    assert!(refusal(data::load(&source, Split::Test)).contains("found no pictures of Tiny ImageNet"));
    write("val/n02/images/val_0.jpeg", false, 60);
    write("val/n01/val_1.jpeg", false, 10);
    let sorted = data::load(&source, Split::Test).unwrap();
    assert_eq!(
        (labels(&sorted), sorted.image(1)[0].abs_diff(60) <= 2),
        (vec![0, 1], true)
    );
    fs::remove_dir_all(folder.path().join("train")).unwrap();
    assert!(refusal(data::load(&source, Split::Train)).contains("tiny-imagenet-200"));
}

#[test]
fn svhn_as_matlab_saves_it_today_is_told_with_both_splits() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = vec![b' '; 520];
    file[..10].copy_from_slice(b"MATLAB 7.3");
    file[512..].copy_from_slice(b"\x89HDF\r\n\x1a\n");
    for split in ["train", "test"] {
        fs::write(folder.path().join(format!("{split}_32x32.mat")), &file).unwrap();
    }
    let said = refusal(data::load(&format!("svhn:{}", folder.path().display()), Split::Test));
    for part in [
        "MATLAB file of version 7.3",
        "\"train\": h5py.File(",
        "\"test\": h5py.File(",
        "npz:set.npz",
    ] {
        assert!(said.contains(part) && !said.contains("damaged"), "{said}");
    }
}

#[test]
fn tables_of_pictures_are_refused_with_the_way_to_go() {
    let said = refusal(data::load("parquet:train.parquet", Split::Train));
    assert!(
        said.contains("load_dataset") && said.ends_with("train.parquet"),
        "{said}"
    );
}
