//! Own data: images that a program makes, kept as an `.npz` that the terminal and the window read too, and a run on them.
//!
//! `cargo run --release --example own_data`

use std::path::Path;

use martlet::{
    compute::Device,
    control::Control,
    data::{self, NpzValues, Split, write_npz},
    engine::{Event, TrainingData, device_check, session},
    random::Rng,
    recipe::preset,
};

type Failure = Box<dyn std::error::Error>;

/// Stripes, 16×16 in grey: class 0 lies, class 1 stands. Image after image, each C, H, W, one byte a pixel.
fn stripes(count: usize, seed: u64) -> (Vec<u8>, Vec<i64>) {
    let mut rng = Rng::new(seed);
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let label = rng.below(2);
        let phase = rng.below(4);
        for row in 0..16 {
            for column in 0..16 {
                let along = if label == 0 { row } else { column };
                let ink = if (along + phase) % 4 < 2 { 200.0 } else { 40.0 };
                images.push((ink + rng.uniform(-40.0, 40.0)) as u8);
            }
        }
        labels.push(label as i64);
    }
    (images, labels)
}

/// Writes both splits under the names that `npz:FILE` looks for.
fn write(file: &Path) -> Result<(), Failure> {
    let (train, train_labels) = stripes(256, 1);
    let (test, test_labels) = stripes(64, 2);
    write_npz(
        file,
        &[
            ("x_train", &[256, 1, 16, 16], NpzValues::U8(&train)),
            ("y_train", &[256], NpzValues::I64(&train_labels)),
            ("x_test", &[64, 1, 16, 16], NpzValues::U8(&test)),
            ("y_test", &[64], NpzValues::I64(&test_labels)),
        ],
    )?;
    Ok(())
}

/// Trains on the file in a folder of runs; gives the natural accuracy of the last epoch.
fn train(file: &Path, runs_dir: &Path) -> Result<f64, Failure> {
    let mut recipe = preset("glyphs-standard")?;
    recipe.data.source = format!("npz:{}", file.display());
    recipe.data.held_out = 64;
    recipe.network = "dynamic-cnn".parse()?;
    recipe.threat.epsilon = "0.1".parse()?;
    recipe.attack.steps = 3;
    recipe.epochs = 3;
    recipe.batch_size = 32;
    recipe.warm_up = Default::default();
    recipe.evaluation.attacks = vec!["natural".parse()?, "fgsm".parse()?];
    recipe.validate()?;

    let device = Device::cpu();
    let data = TrainingData::load(&recipe)?;
    let identity = session::identity(&device, &device_check::cached_or_check(&device)?);
    let mut run = session::create(runs_dir, "stripes", &recipe, &data, &identity)?;
    let mut natural = 0.0;
    let mut tell = |event: &Event| {
        if let Event::Epoch(report) = event {
            natural = report.accuracy.get("natural").copied().unwrap_or(0.0);
            println!(
                "epoch {}: {:?} of {} {} images",
                report.epoch, report.accuracy, report.n, report.split
            );
        }
    };
    session::run(&recipe, &data, &mut run, &device, identity, &Control::new(), &mut tell)?;
    Ok(natural)
}

fn main() -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("stripes.npz");
    write(&file)?;
    let set = data::load(&format!("npz:{}", file.display()), Split::Train)?;
    println!(
        "{}: {} images of {} in {} classes",
        set.name(),
        set.len(),
        set.shape(),
        set.classes()
    );
    train(&file, folder.path())?;
    Ok(())
}

#[test]
fn stripes_are_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stripes.npz");
    write(&file).unwrap();
    let set = data::load(&format!("npz:{}", file.display()), Split::Test).unwrap();
    assert_eq!((set.len(), set.classes()), (64, 2));
    assert!(train(&file, folder.path()).unwrap() > 0.9);
}
