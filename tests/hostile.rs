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
    compute::Device,
    data::{self, DataError, Dataset, NpzValues, Preparation, Split},
    memory::{Budget, Size},
    nn::{Architecture, Model, weights},
    random::Rng,
    recipe::{Recipe, preset},
    runs::{Run, Slot},
    shapes::ImageShape,
};
use serde_json::json;

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

fn png(side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let picture = image::RgbImage::from_fn(side, side, |x, y| image::Rgb([x as u8, y as u8, 9]));
    picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
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

/// Puts the right checksum behind every chunk of a PNG, so that what is damaged reaches the decoder.
fn repair_png(bytes: &mut [u8]) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let long = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(end) = at.checked_add(8 + long).filter(|end| end + 4 <= bytes.len()) else {
            return;
        };
        let mut crc = flate2::Crc::new();
        crc.update(&bytes[at + 4..end]);
        bytes[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}

/// What mutants are made of: how each file is called, its content, what puts its checksums right, and how it is read.
struct Subject {
    name: &'static str,
    whole: Vec<u8>,
    /// Wraps the mutant, so that the damage lies inside what an outer checksum guards.
    wrap: fn(Vec<u8>) -> Vec<u8>,
    read: Box<dyn Fn(&Path)>,
}

fn source(kind: &'static str, path: PathBuf) {
    let _ = within(&format!("{kind}:{}", path.display()), 64);
}

fn subjects(folder: &Path) -> Vec<Subject> {
    let same = |bytes| bytes;
    let data = |name: &'static str, kind: &'static str, whole: Vec<u8>, wrap: fn(Vec<u8>) -> Vec<u8>| Subject {
        name,
        whole,
        wrap,
        read: Box::new(move |path| source(kind, path.into())),
    };
    let mut jpeg = Cursor::new(Vec::new());
    image::RgbImage::new(16, 16)
        .write_to(&mut jpeg, image::ImageFormat::Jpeg)
        .unwrap();
    let npz = folder.join("whole.npz");
    let images: (&str, &[usize], NpzValues) = ("images", &[2, 4, 4], NpzValues::F32(&[0.25; 32]));
    data::write_npz(&npz, &[images, ("labels", &[2], NpzValues::I64(&[0, 1]))]).unwrap();
    let npz = fs::read(npz).unwrap();
    let mut array = Vec::new();
    zip::ZipArchive::new(Cursor::new(&npz))
        .unwrap()
        .by_name("images.npy")
        .map(|mut file| std::io::copy(&mut file, &mut array).unwrap())
        .unwrap();

    // Four bytes a number, three axes; then the images.
    let mut idx = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 4];
    idx.extend([7; 32]);
    let mut labels = vec![0, 0, 8, 1, 0, 0, 0, 2];
    labels.extend([0, 1]);
    fs::create_dir_all(folder.join("idx")).unwrap();
    fs::write(folder.join("idx/train-labels-idx1-ubyte"), labels).unwrap();
    let mut pickle = b"\x80\x02}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01b\x87Rq\x04(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87Rq\x06(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x00\x0c\x00\x00".to_vec();
    pickle.extend([9; 3_072]);
    pickle.extend(b"tbU\x06labels](K\x03eu.");

    let architecture: Architecture = "small-cnn".parse().unwrap();
    let input = ImageShape {
        channels: 1,
        height: 16,
        width: 16,
    };
    let model = Model::new(architecture, input, 10, &mut Rng::new(1), &Device::cpu()).unwrap();
    let saved = folder.join("whole.safetensors");
    weights::save_safetensors(&model, &saved, &Default::default()).unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/arch/smallcnn.pt");
    let read_weights = |path: &Path| drop(weights::read_state_within(path, &Budget::of(Size(64 << 20))));
    let by_itself = |name, whole, read: Box<dyn Fn(&Path)>| Subject {
        name,
        whole,
        wrap: same,
        read,
    };
    vec![
        data("a.cifar", "cifar10", [&[3][..], &[9; 3_072]].concat(), same),
        data("data_batch_1", "cifar10", pickle.clone(), same),
        data("p.pickle", "pseudo-labelled", pickle, same),
        data("set.npz", "npz", npz, same),
        // The array inside, under a right checksum.
        data("array.npz", "npz", array, |array| {
            zip_of(&[("images.npy", &array), ("labels.npy", &array)])
        }),
        data(
            "set.zip",
            "folder",
            zip_of(&[("a/1.png", &png(8)), ("b/1.png", &png(8))]),
            same,
        ),
        data("png.zip", "folder", png(8), |mut png| {
            repair_png(&mut png);
            zip_of(&[("a/1.png", &png), ("b/2.png", &png)])
        }),
        data("jpeg.zip", "folder", jpeg.into_inner(), |jpeg| {
            zip_of(&[("a/1.jpg", &jpeg), ("b/2.jpg", &jpeg)])
        }),
        data("idx/train-images-idx3-ubyte", "mnist", idx, same),
        by_itself("w.safetensors", fs::read(saved).unwrap(), Box::new(read_weights)),
        by_itself("w.pt", fs::read(golden).unwrap(), Box::new(read_weights)),
        by_itself(
            "recipe.toml",
            preset("glyphs-mart").unwrap().to_toml().into_bytes(),
            Box::new(|path| drop(Recipe::from_toml(&String::from_utf8_lossy(&fs::read(path).unwrap())))),
        ),
    ]
}

#[test]
fn no_mutant_panics_hangs_or_takes_more_than_it_may() {
    const EACH: usize = 150;
    let folder = tempfile::tempdir().unwrap();
    let mut rng = Rng::new(14);
    for Subject {
        name,
        whole,
        wrap,
        read,
    } in subjects(folder.path())
    {
        let path = folder.path().join(name);
        let begun = Instant::now();
        for number in 0..EACH {
            let bytes = wrap(mutant(&whole, &mut rng));
            fs::write(&path, &bytes).unwrap();
            // The IDX reader is given the folder, which holds the labels too.
            let given = if name.starts_with("idx/") {
                folder.path().join("idx")
            } else {
                path.clone()
            };
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| read(&given)));
            if outcome.is_err() {
                let kept = std::env::temp_dir().join(format!("martlet-mutant-{}", name.replace('/', "-")));
                fs::write(&kept, &bytes).unwrap();
                panic!("mutant {number} of {name}: {}", kept.display());
            }
        }
        assert!(begun.elapsed().as_secs() < 60, "{name} took {:?}", begun.elapsed());
    }
}

#[test]
fn no_mutant_of_a_run_panics_or_is_believed_to_be_another() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = preset("glyphs-mart").unwrap().to_toml();
    let run = Run::create(
        folder.path(),
        "whole",
        &recipe,
        json!({ "data": { "fingerprint": "0" } }),
    )
    .unwrap();
    let root = run.folder().to_path_buf();
    drop(run);
    let files: Vec<PathBuf> = fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    let mut rng = Rng::new(15);
    for path in files {
        let whole = fs::read(&path).unwrap();
        for _ in 0..100 {
            fs::write(&path, mutant(&whole, &mut rng)).unwrap();
            if let Ok(run) = Run::open(&root) {
                let _ = (
                    run.metrics(),
                    run.load(Slot::Last).map(|_| ()),
                    run.weights_path(Slot::Best),
                );
            }
        }
        fs::write(&path, whole).unwrap();
    }
    assert!(Run::open(&root).is_ok());
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
