//! `martlet evaluate` as a person calls it.

use std::{
    path::Path,
    process::{Command, Output},
};

use martlet::data::{NpzValues, Split, load, write_npz};
use serde_json::Value;

fn martlet(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_martlet"))
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

/// A run of one epoch on a few characters.
fn train(folder: &Path, name: &str, held_out: usize) {
    let trained = martlet(&format!(
        "train --recipe glyphs-mart --device cpu --epochs 1 --batch-size 16 --limit-train 64 --held-out {held_out} --steps 1 \
         --set evaluation.attacks=[\"natural\",\"fgsm\"] --set evaluation.limit=16 --runs-dir {} --name {name}",
        folder.display()
    ));
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
}

fn evaluate(folder: &Path, name: &str, more: &str) -> Value {
    let found = martlet(&format!(
        "evaluate {name} --runs-dir {} --device cpu --limit 8 --json - {more}",
        folder.display()
    ));
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    serde_json::from_slice(&found.stdout).unwrap()
}

/// Whether a result carries a warning of a kind.
fn warns(result: &Value, kind: &str) -> bool {
    let warnings = result["warnings"].as_array().unwrap();
    warnings.iter().any(|warning| warning["kind"] == kind)
}

#[test]
fn an_attack_that_is_named_twice_is_refused_before_anything_is_read() {
    let found = martlet("evaluate nowhere --attacks natural,pgd-20,fgsm,pgd-20");
    let said = String::from_utf8_lossy(&found.stderr);
    assert!(!found.status.success());
    assert!(
        said.contains("expected each attack once, got pgd-20 twice; leave one of the two out"),
        "{said}"
    );
    let found = martlet("train --recipe glyphs-mart --show-recipe --set evaluation.attacks=[\"fgsm\",\"fgsm\"]");
    let said = String::from_utf8_lossy(&found.stderr);
    assert!(!found.status.success() && said.contains("got fgsm twice"), "{said}");
}

#[test]
fn a_checkpoint_that_the_test_set_chose_says_so() {
    const KIND: &str = "checkpoint-chosen-on-test-set";
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "on-test", 0);
    train(folder.path(), "held-out", 16);
    let quick = "--attacks natural --no-probes";
    let of = |name, more: &str| evaluate(folder.path(), name, &format!("{quick} {more}"));
    assert!(warns(&of("on-test", ""), KIND));
    assert!(!warns(&of("on-test", "--checkpoint last"), KIND));
    assert!(!warns(&of("held-out", ""), KIND));
    assert!(warns(&of("held-out", "--split held-out"), KIND));
}

#[test]
fn spsa_takes_its_numbers_from_its_name_and_says_them() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "run", 16);
    let name = "spsa-2:samples=4:delta=2/255:learning-rate=0.05";
    let found = evaluate(folder.path(), "run", &format!("--attacks natural,{name}"));
    let attack = &found["attacks"][1];
    assert_eq!(attack["name"], name);
    assert_eq!(attack["settings"], "2 steps of Adam at 0.05, 4 samples, δ = 2/255");
    assert_eq!(
        (attack["samples"].as_u64(), attack["steps"].as_u64()),
        (Some(4), Some(2))
    );
}

#[test]
fn test_images_that_were_trained_on_are_told_wherever_they_are_measured() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("same.npz");
    let glyphs = load("glyphs", Split::Train).unwrap().take(40);
    let bytes: Vec<u8> = (0..40).flat_map(|i| glyphs.image(i).to_vec()).collect();
    let labels: Vec<i64> = (0..40).map(|i| glyphs.label(i) as i64).collect();
    let arrays: [(&str, &[usize], NpzValues); 4] = [
        ("x_train", &[40, 28, 28], NpzValues::U8(&bytes)),
        ("y_train", &[40], NpzValues::I64(&labels)),
        ("x_test", &[10, 28, 28], NpzValues::U8(&bytes[..10 * 784])),
        ("y_test", &[10], NpzValues::I64(&labels[..10])),
    ];
    write_npz(&path, &arrays).unwrap();
    const SAID: &str = "10 of 10 test images are training images, pixel for pixel";
    let shown = martlet(&format!("data show npz:{}", path.display()));
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.matches(SAID).count(), 1, "{shown}");

    let trained = martlet(&format!(
        "train --defence natural --network small-cnn --dataset npz:{} --epsilon 0.1 --held-out 0 --epochs 1 --batch-size 16 \
         --device cpu --runs-dir {} --name same",
        path.display(),
        folder.path().display()
    ));
    let said = String::from_utf8_lossy(&trained.stderr);
    assert!(trained.status.success() && said.contains(SAID), "{said}");
    let of_run = evaluate(folder.path(), "same", "--attacks natural");
    assert!(of_run["dataset"]["note"].as_str().unwrap().contains(SAID), "{of_run}");
    assert!(warns(&of_run, "data-set-note"));
    let others = evaluate(folder.path(), "same", "--attacks natural --dataset glyphs");
    assert!(!others.to_string().contains(SAID));
}
