//! Files that broke or that somebody made to hurt: each ends in a set, a model, or a message, and takes no more memory than is
//! allowed. The mutants are the same at every call; `.ci/fuzz` looks for others.

use std::{
    fs,
    io::{Cursor, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use martlet::{
    data::{self, DataError, Dataset, Preparation, Split},
    memory::{Budget, Size},
    random::Rng,
    recipe::Recipe,
    runs::Run,
};

#[path = "../fuzz/src/lib.rs"]
mod formats;

fn within(source: &str, megabytes: u64) -> Result<Dataset, DataError> {
    let budget = Budget::of(Size(megabytes << 20));
    data::load_within(source, Split::Train, &Preparation::default(), &budget)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

// ------------------------------------------------------------------------------------------------- bombs

/// Small files that ask for much, by the source that reads them.
fn bombs(folder: &Path) -> Vec<String> {
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    };
    let zeros = vec![0; 64 << 20];
    let mut black = Cursor::new(Vec::new());
    image::RgbImage::new(2_048, 2_048)
        .write_to(&mut black, image::ImageFormat::Png)
        .unwrap();
    let black = black.into_inner();
    let names: Vec<String> = (0..40).map(|i| format!("{}/{i}.png", i % 2)).collect();
    let pictures: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), black.as_slice())).collect();
    let pictures = file("pictures.zip", &zip_of(&pictures));
    let entry = file("entry.zip", &zip_of(&[("a/1.png", &zeros), ("b/1.png", &zeros)]));
    let array = file(
        "array.npz",
        &zip_of(&[("x_train.npy", &zeros), ("y_train.npy", &zeros)]),
    );
    file("idx/train-images-idx3-ubyte.gz", &gzip(&zeros));
    file("idx/train-labels-idx1-ubyte.gz", &gzip(&zeros));
    let batch = file("data_batch_1.gz", &gzip(&zeros));
    let many = [b"\x80\x02](".to_vec(), b"K\x01".repeat(1 << 20), b"e.".to_vec()].concat();
    let pickle = file("data_batch_2", &many);
    vec![
        format!("folder:{}", pictures.display()),
        format!("folder:{}", entry.display()),
        format!("npz:{}", array.display()),
        format!("mnist:{}", folder.join("idx").display()),
        format!("cifar10:{}", batch.display()),
        format!("cifar10:{}", pickle.display()),
        format!("pseudo-labelled:{}", batch.display()),
    ]
}

#[test]
fn what_asks_for_more_memory_than_is_allowed_says_so_before_it_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    for source in bombs(folder.path()) {
        let error = within(&source, 20).expect_err(&source);
        let said = error.to_string();
        assert!(matches!(error, DataError::Memory { .. }), "{said}");
        let file = source.split_once(':').unwrap().1.rsplit('/').next().unwrap();
        for word in ["20.0 MiB", "--memory", "MARTLET_MEMORY", file] {
            assert!(said.contains(word), "{word}: {said}");
        }
    }
    // The sum is told where it is known.
    let said = within(&bombs(folder.path())[0], 100).unwrap_err().to_string();
    assert!(
        said.contains("40 pictures of 2048×2048") && said.contains("960.0 MiB"),
        "{said}"
    );
}

#[test]
fn what_is_packed_within_what_is_packed_is_refused() {
    // A MATLAB file of version 5 whose one element unpacks to an element that unpacks to 64 MB, and so does the sum that is counted.
    let pack = |bytes: &[u8]| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        let packed = encoder.finish().unwrap();
        [&15_u32.to_le_bytes()[..], &(packed.len() as u32).to_le_bytes(), &packed].concat()
    };
    let mut header = vec![b' '; 124];
    header.extend([0x00, 0x01, b'I', b'M']);
    let folder = tempfile::tempdir().unwrap();
    let said = |element: Vec<u8>| {
        fs::write(folder.path().join("train_32x32.mat"), [&header[..], &element].concat()).unwrap();
        within(&format!("svhn:{}", folder.path().display()), 20)
            .unwrap_err()
            .to_string()
    };
    let zeros = vec![0; 64 << 20];
    let once = said(pack(&zeros));
    assert!(once.contains("--memory"), "{once}");
    let twice = said(pack(&pack(&zeros)));
    assert!(twice.contains("packed again and again"), "{twice}");
}

#[test]
fn a_dictionary_of_gigabytes_is_refused_before_it_is_made() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut bytes = fs::read(corpus.join("zip/method-14")).unwrap();
    // Behind the version and the length of the properties: lc, lp and pb in a byte, then the dictionary's size in four.
    let properties = [9, 4, 5, 0];
    let at = bytes.windows(4).position(|window| window == properties).unwrap() + 5;
    bytes[at..at + 4].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.zip");
    fs::write(&path, bytes).unwrap();
    let said = within(&format!("folder:{}", path.display()), 64)
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("the dictionary of a/1.png") && said.contains("2.0 GiB"),
        "{said}"
    );
}

// ----------------------------------------------------------------------------------------------- mutants

/// A file's bytes, changed as disks, networks and people change them.
fn mutant(whole: &[u8], rng: &mut Rng) -> Vec<u8> {
    const TELLING: [u8; 8] = [0x00, 0x01, 0x7f, 0x80, 0xff, b'.', b'(', 0x10];
    let mut bytes = whole.to_vec();
    for _ in 0..1 + rng.below(4) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.below(bytes.len());
        match rng.below(7) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = TELLING[rng.below(8)],
            2 => bytes.truncate(at),
            3 => drop(bytes.remove(at)),
            4 => bytes.insert(at, TELLING[rng.below(8)]),
            5 => {
                // A number of four bytes becomes as large as it can be.
                let end = (at + 4).min(bytes.len());
                bytes[at..end].fill(0xff);
            }
            _ => {
                let from = rng.below(bytes.len());
                let part = bytes[from..(from + 16).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}

#[test]
fn no_mutant_panics_hangs_or_takes_more_than_it_may() {
    // More of them on request: `.ci/fuzz` asks for 10,000 of each.
    let each = std::env::var("MARTLET_MUTANTS").map_or(100, |text| text.parse().unwrap());
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut rng = Rng::new(14);
    for (format, read) in formats::FORMATS {
        let mut seeds: Vec<PathBuf> = fs::read_dir(corpus.join(format))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        seeds.sort();
        assert!(!seeds.is_empty(), "{format} has no example");
        let wholes: Vec<Vec<u8>> = seeds.iter().map(|path| fs::read(path).unwrap()).collect();
        for number in 0..each {
            let whole = &wholes[number % wholes.len()];
            let bytes = match format {
                // Which of its files, and what is laid over it.
                "run" => (0..4).map(|_| rng.below(256) as u8).collect(),
                _ => mutant(whole, &mut rng),
            };
            let begun = Instant::now();
            let outcome = std::panic::catch_unwind(|| read(&bytes));
            if outcome.is_err() || begun.elapsed().as_secs() >= 10 {
                let kept = std::env::temp_dir().join(format!("martlet-mutant-{format}"));
                fs::write(&kept, &bytes).unwrap();
                panic!(
                    "mutant {number} of {format} after {:?}: {}",
                    begun.elapsed(),
                    kept.display()
                );
            }
        }
    }
}

/// The examples that mutants are made of are read: damage would not show in what is refused anyway.
#[test]
fn the_examples_are_whole() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (kind, path) in [
        ("cifar10", "cifar/record"),
        ("cifar10", "pickle/batch-2"),
        ("pseudo-labelled", "pickle/pseudo-labelled"),
        ("npz", "npz/bytes"),
        ("npz", "npz/floats"),
        ("folder", "zip/method-8"),
        ("folder", "zip/method-12"),
        ("folder", "zip/method-14"),
    ] {
        let path = corpus.join(path);
        let path = if kind == "cifar10" && path.ends_with("batch-2") {
            let folder = tempfile::tempdir().unwrap().keep();
            fs::copy(path, folder.join("data_batch_1")).unwrap();
            folder.join("data_batch_1")
        } else {
            path
        };
        let set = within(&format!("{kind}:{}", path.display()), 64);
        assert!(set.is_ok(), "{}: {}", path.display(), set.unwrap_err());
    }
    for picture in [
        "png/colour",
        "png/palette",
        "png/grey-16",
        "jpeg/progressive",
        "picture/webp",
        "picture/bmp",
        "picture/gif",
    ] {
        let bytes = fs::read(corpus.join(picture)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("set.zip");
        fs::write(&path, formats::packed(&[("a/1.png", &bytes), ("b/1.png", &bytes)])).unwrap();
        let set = within(&format!("folder:{}", path.display()), 64).unwrap();
        assert_eq!(
            set.note().is_some_and(|note| note.contains("8 bits")),
            picture == "png/grey-16",
            "{picture}"
        );
    }
    for weights in ["pt/zip", "pt/old", "safetensors/plain"] {
        assert!(
            !martlet::nn::weights::read_state(&corpus.join(weights))
                .unwrap()
                .is_empty(),
            "{weights}"
        );
    }
    for recipe in ["recipe/glyphs-mart.toml", "recipe/many-fields.toml"] {
        assert!(
            Recipe::from_toml(&fs::read_to_string(corpus.join(recipe)).unwrap()).is_ok(),
            "{recipe}"
        );
    }
    let record = fs::read_to_string(corpus.join("record/two-attacks")).unwrap();
    assert!(martlet::evaluation::Record::from_json(&record).is_ok());
}

#[test]
fn weights_in_another_form_are_told_as_what_they_are_with_the_way_out() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let said = |path: &Path| martlet::nn::weights::read_state(path).unwrap_err().to_string();
    for (name, words) in [
        (
            "pt/old-module",
            [
                "a whole module in PyTorch's old format",
                "weights_only=False).state_dict()",
            ],
        ),
        ("pt/list", ["list without names", "dict(zip(model.state_dict(), w))"]),
        ("pt/torchscript", ["TorchScript", "torch.jit.load("]),
        ("npz/bytes", ["numpy's arrays", "numpy.load("]),
    ] {
        let said = said(&corpus.join(name));
        assert!(
            words.iter().all(|word| said.contains(word)) && !said.contains("damaged"),
            "{said}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, content, word) in [
        ("empty.pt", &b""[..], "an empty file"),
        ("page.pt", b"\n<!DOCTYPE html><html>", "a web page"),
        (
            "pointer.pt",
            b"version https://git-lfs.github.com/spec/v1\n",
            "git lfs pull",
        ),
        ("keras.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("network.onnx", b"\x08\x08", "ONNX"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let said = said(&path);
        assert!(said.contains(word) && !said.contains("damaged"), "{said}");
    }
}

#[test]
fn a_tensor_that_is_a_view_of_one_number_is_refused_before_it_is_made() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let file = corpus.join("pt/zip");
    // 6 values and a counter: 24 + 8 bytes as the file has them, and as many values of 8 bytes.
    let read = |bytes| martlet::nn::weights::read_state_within(&file, &Budget::of(Size(bytes)));
    let said = read(80).unwrap_err().to_string();
    assert!(said.contains("--memory") && said.contains("got 88 bytes"), "{said}");
    assert!(read(88).is_ok());
}

// ------------------------------------------------------------------------------------------- memory ends

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn memory_that_ends_in_training_ends_in_a_message_and_the_checkpoint_stays() {
    let folder = tempfile::tempdir().unwrap();
    let martlet = |kilobytes: Option<u64>, more: &str| {
        let limit = kilobytes.map_or(String::new(), |limit| format!("ulimit -v {limit}; "));
        let line = format!(
            "{limit}exec '{}' train --runs-dir '{}' --device cpu {more}",
            env!("CARGO_BIN_EXE_martlet"),
            folder.path().display()
        );
        Command::new("bash").args(["-c", &line]).output().unwrap()
    };
    let begun = martlet(
        None,
        "--recipe glyphs-standard --name kept --epochs 1 --limit-train 64 --held-out 16 --batch-size 32 --set evaluation.attacks=[\\\"natural\\\"] --set evaluation.limit=16",
    );
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    // Minibatches that no address space of this size holds.
    let ended = martlet(
        Some(3_000_000),
        "--recipe glyphs-standard --network wide-resnet-28-10 --name large --epochs 1 --limit-train 2000 --held-out 16 --batch-size 2000",
    );
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("error: memory ended") && said.contains("--name large"),
        "{said}"
    );
    for name in ["kept", "large"] {
        assert!(Run::open(&folder.path().join(name)).is_ok(), "{name}");
    }
}
