//! A run's folder: what is written comes back, damage is found, and a kill at any instant leaves a folder that resumes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

use martlet::runs::{self, Array, Checkpoint, Run, RunError, Slot, State, Values, write_atomic};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::BufRead,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

const RECIPE: &str = "defence = \"mart\"\n# as it was given: æ\n";

fn array(shape: &[usize], values: Vec<f32>) -> Array {
    Array {
        shape: shape.to_vec(),
        values: Values::F32(values),
    }
}

/// A checkpoint of the given step, every value of it made from the step.
fn checkpoint(step: u64, best_step: u64, count: usize) -> Checkpoint {
    let values = |scale: f32| (0..count).map(|i| step as f32 * scale + i as f32).collect::<Vec<f32>>();
    Checkpoint {
        weights: BTreeMap::from([
            ("layers.0.weight".to_string(), array(&[count], values(1.0))),
            (
                "norm.num_batches_tracked".to_string(),
                Array {
                    shape: vec![],
                    values: Values::I64(vec![step as i64]),
                },
            ),
        ]),
        optimiser: BTreeMap::from([("layers.0.weight.momentum".to_string(), array(&[count], values(0.5)))]),
        progress: json!({ "step": step, "best_step": best_step, "figures": { "natural": step as f64 / 7.0 } }),
    }
}

fn event(step: u64) -> Value {
    json!({ "event": "step", "step": step, "loss": step as f64 * 0.375 })
}

fn run_in(folder: &TempDir, name: &str) -> Run {
    Run::create(folder.path(), name, RECIPE, json!({ "device": "cpu", "data": "abc" })).unwrap()
}

/// The one folder in `checkpoints` whose name begins so, the newest if there are more.
fn generation(run: &Path, slot: &str) -> PathBuf {
    let name = fs::read_to_string(run.join("checkpoints").join(slot)).unwrap();
    run.join("checkpoints").join(name.trim())
}

#[test]
fn what_is_written_comes_back() {
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    run.begin_session(json!({ "selector": "cpu" })).unwrap();
    for step in 0..5 {
        run.append(&event(step)).unwrap();
    }
    let odd: Vec<f32> = [f32::NAN, f32::INFINITY, -0.0, f32::MIN_POSITIVE / 4.0, 1.0, 0.1].to_vec();
    // Floats that serde_json's fast reading does not give back are among these.
    let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
    let floats: Vec<f64> = (0..2000)
        .map(|_| {
            bits = bits.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            f64::from_bits(bits)
        })
        .filter(|value| value.is_finite())
        .chain((0..2000).map(|i| f64::from(0.1f32 * i as f32 / 7.0)))
        .collect();
    let mut saved = checkpoint(5, 5, 7);
    saved.weights.insert("odd".to_string(), array(&[2, 3], odd.clone()));
    saved.weights.insert("empty".to_string(), array(&[0, 3], vec![]));
    saved.progress = json!({ "state": [u64::MAX, i64::MIN], "floats": floats, "a/b~c": { "x": -0.0 } });
    run.save(Slot::Best, &checkpoint(3, 3, 7)).unwrap();
    run.save(Slot::Last, &saved).unwrap();
    assert!(matches!(Run::open(folder.path()), Err(RunError::NotARun { .. })));
    drop(run);

    let run = Run::open(&folder.path().join("a")).unwrap();
    assert_eq!((run.name(), run.recipe_toml()), ("a", RECIPE));
    assert_eq!(run.identity()["device"], "cpu");
    assert_eq!(run.identity()["sessions"][0]["device"]["selector"], "cpu");
    assert!(run.identity()["created"].as_str().unwrap().ends_with('Z'));
    assert_eq!(run.metrics().unwrap(), (0..5).map(event).collect::<Vec<_>>());
    let loaded = run.load(Slot::Last).unwrap().unwrap();
    let Values::F32(values) = &loaded.weights["odd"].values else {
        panic!("odd became whole numbers")
    };
    assert_eq!(loaded.weights["odd"].shape, [2, 3]);
    assert!(
        values
            .iter()
            .zip(&odd)
            .all(|(got, expected)| got.to_bits() == expected.to_bits())
    );
    assert_eq!(loaded.weights["empty"], array(&[0, 3], vec![]));
    assert_eq!(loaded.optimiser, saved.optimiser);
    let read: Vec<u64> = loaded.progress["floats"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f.as_f64().unwrap().to_bits())
        .collect();
    assert_eq!(read, floats.iter().map(|f| f.to_bits()).collect::<Vec<_>>());
    assert_eq!(loaded.progress, saved.progress);
    assert_eq!(run.load(Slot::Best).unwrap().unwrap(), checkpoint(3, 3, 7));
    assert!(run.take_notices().is_empty());

    // Anybody can read the weights, under names that stay.
    for path in [
        run.weights_path(Slot::Last).unwrap().unwrap(),
        run.folder().join("checkpoints/last.safetensors"),
    ] {
        let bytes = fs::read(path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(
            tensors.tensor("norm.num_batches_tracked").unwrap().data(),
            5i64.to_le_bytes()
        );
        assert_eq!(tensors.tensor("layers.0.weight").unwrap().shape(), [7]);
    }
}

#[test]
fn the_same_checkpoint_makes_the_same_bytes() {
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    let mut bytes = || {
        run.save(Slot::Last, &checkpoint(5, 5, 7)).unwrap();
        let place = generation(run.folder(), "last");
        ["weights.safetensors", "optimiser.safetensors", "progress.json"].map(|f| fs::read(place.join(f)).unwrap())
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn every_truncation_and_every_flipped_byte_is_found() {
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    run.append(&event(0)).unwrap();
    run.save(Slot::Last, &checkpoint(1, 0, 3)).unwrap();
    let place = generation(run.folder(), "last");
    for file in [
        "weights.safetensors",
        "optimiser.safetensors",
        "progress.json",
        "checksums.md5",
    ] {
        let path = place.join(file);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let error = run
                .load(Slot::Last)
                .expect_err(&format!("{file} cut to {length} bytes was believed"));
            assert!(error.to_string().contains(place.to_str().unwrap()), "{error}");
            let mut flipped = whole.clone();
            flipped[length] ^= 1;
            fs::write(&path, &flipped).unwrap();
            assert!(
                run.load(Slot::Last).is_err(),
                "{file} with byte {length} changed was believed"
            );
        }
        fs::remove_file(&path).unwrap();
        let message = run.load(Slot::Last).unwrap_err().to_string();
        assert!(
            message.contains("expected") && message.ends_with(path.to_str().unwrap()),
            "{message}"
        );
        assert!(run.resume().is_err(), "resumed without {file}");
        assert_eq!(run.metrics().unwrap().len(), 1, "a failed resume changed the metrics");
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(run.resume().unwrap().unwrap(), checkpoint(1, 0, 3));
}

#[test]
fn damaged_weights_are_not_handed_out() {
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    run.save(Slot::Best, &checkpoint(1, 1, 300)).unwrap();
    let path = run.weights_path(Slot::Best).unwrap().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = run.weights_path(Slot::Best).unwrap_err();
    assert!(matches!(error, RunError::Damaged { .. }), "{error}");
}

#[test]
fn a_damaged_last_falls_back_to_the_one_before_and_says_so() {
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    for step in 1..=6 {
        run.append(&event(step)).unwrap();
        if step % 2 == 0 {
            run.save(Slot::Best, &checkpoint(step, step, 3)).unwrap();
            run.save(Slot::Last, &checkpoint(step, step, 3)).unwrap();
        }
    }
    fs::write(generation(run.folder(), "last").join("optimiser.safetensors"), "x").unwrap();
    assert_eq!(run.resume().unwrap().unwrap(), checkpoint(4, 4, 3));
    let notices = run.take_notices();
    assert!(notices.len() == 1 && notices[0].contains("damaged"), "{notices:?}");
    assert_eq!(run.metrics().unwrap().len(), 4);
    assert_eq!(
        run.load(Slot::Best).unwrap().unwrap(),
        checkpoint(4, 4, 3),
        "the best is that of the same moment"
    );
    // From here on it is a run like any other.
    run.append(&event(5)).unwrap();
    run.save(Slot::Last, &checkpoint(5, 4, 3)).unwrap();
    assert_eq!(run.resume().unwrap().unwrap(), checkpoint(5, 4, 3));
    assert!(run.take_notices().is_empty());

    // A pointer that says nothing is no reason to lose the checkpoints either.
    fs::write(run.folder().join("checkpoints/last"), "../elsewhere").unwrap();
    assert_eq!(run.resume().unwrap().unwrap(), checkpoint(5, 4, 3));
    assert_eq!(run.take_notices().len(), 1);
    fs::remove_file(run.folder().join("checkpoints/last")).unwrap();
    assert_eq!(run.resume().unwrap().unwrap(), checkpoint(5, 4, 3));
    assert_eq!(run.take_notices().len(), 1);
    assert_eq!(run.resume().unwrap().unwrap(), checkpoint(5, 4, 3));
    assert!(run.take_notices().is_empty());
}

#[test]
fn a_best_that_is_newer_than_the_last_is_made_again() {
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    run.append(&event(1)).unwrap();
    run.save(Slot::Best, &checkpoint(1, 1, 3)).unwrap();
    run.save(Slot::Last, &checkpoint(1, 1, 3)).unwrap();
    for step in 2..=4 {
        // Several of them, so that the first is not only kept by chance; and the last step's never gets its last.
        run.append(&event(step)).unwrap();
        run.save(Slot::Best, &checkpoint(step, step, 3)).unwrap();
    }
    drop(run);
    let mut run = Run::open(&folder.path().join("a")).unwrap();
    assert_eq!(
        run.load(Slot::Best).unwrap().unwrap(),
        checkpoint(4, 4, 3),
        "a newer best is a valid one"
    );
    assert_eq!(run.resume().unwrap().unwrap(), checkpoint(1, 1, 3));
    assert_eq!(run.load(Slot::Best).unwrap().unwrap(), checkpoint(1, 1, 3));
    assert_eq!(run.metrics().unwrap(), [event(1)]);
    assert!(run.take_notices().is_empty());
}

#[test]
fn without_a_checkpoint_a_run_begins_anew_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    assert!(run.load(Slot::Last).unwrap().is_none());
    run.append(&event(1)).unwrap();
    run.save(Slot::Best, &checkpoint(1, 1, 3)).unwrap();
    assert!(run.resume().unwrap().is_none());
    assert!(run.metrics().unwrap().is_empty());
    assert!(run.load(Slot::Best).unwrap().is_none());
    let kept = fs::read_to_string(run.folder().join("metrics.discarded.jsonl")).unwrap();
    assert_eq!(kept, format!("{}\n", event(1)));
}

#[test]
fn a_torn_last_line_is_left_out_and_removed() {
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    run.append(&event(1)).unwrap();
    drop(run);
    let path = folder.path().join("a/metrics.jsonl");
    let whole = fs::read(&path).unwrap();
    let next = format!("{}\n", event(2)).into_bytes();
    for length in 0..next.len() {
        fs::write(&path, [&whole[..], &next[..length]].concat()).unwrap();
        let mut run = Run::open(&folder.path().join("a")).unwrap();
        assert_eq!(run.metrics().unwrap(), [event(1)], "torn after {length} bytes");
        run.append(&event(2)).unwrap();
        assert_eq!(
            fs::read(&path).unwrap(),
            [&whole[..], &next[..]].concat(),
            "torn after {length} bytes"
        );
    }
    fs::write(&path, "{\"event\":\"step\"}\nnonsense\n{\"event\":\"step\"}\n").unwrap();
    let message = Run::open(&folder.path().join("a"))
        .unwrap()
        .metrics()
        .unwrap_err()
        .to_string();
    assert!(message.contains("line 2"), "{message}");
}

/// A run of five steps with two epochs, and a checkpoint that holds the epochs' reports.
fn run_with_reports(folder: &TempDir, name: &str) -> Run {
    let mut run = run_in(folder, name);
    let report = |epoch: u64| json!({ "epoch": epoch, "accuracy": { "natural": 0.125 * epoch as f64 } });
    for epoch in 1..=2 {
        run.append(&event(epoch)).unwrap();
        let mut line = report(epoch);
        line["event"] = json!("epoch");
        run.append(&line).unwrap();
    }
    let mut saved = checkpoint(4, 4, 3);
    saved.progress["reports"] = json!([report(1), report(2)]);
    run.save(Slot::Best, &saved).unwrap();
    run.save(Slot::Last, &saved).unwrap();
    run
}

#[test]
fn metrics_that_the_checkpoint_does_not_know_are_refused_and_made_anew() {
    let changed = |text: &str| text.replace("0.125", "0.925");
    let shorter = |text: &str| text[..text.len() - 1].to_string();
    let lost = |_: &str| String::new();
    for (number, damage) in [changed as fn(&str) -> String, shorter, lost].into_iter().enumerate() {
        let folder = TempDir::new().unwrap();
        let run = run_with_reports(&folder, "a");
        let place = run.folder().to_path_buf();
        let before = run.metrics().unwrap();
        drop(run);
        let path = place.join("metrics.jsonl");
        let damaged = damage(&fs::read_to_string(&path).unwrap());
        match number {
            2 => fs::remove_file(&path).unwrap(),
            _ => fs::write(&path, &damaged).unwrap(),
        }

        let mut run = Run::open(&place).unwrap();
        let error = run.metrics().unwrap_err();
        assert!(matches!(error, RunError::Damaged { .. }), "{number}: {error}");
        assert_eq!(runs::check(&place).len(), 1, "{number}");
        let resumed = run.resume().unwrap().unwrap();
        assert_eq!(resumed.progress["step"], 4);
        let notices = run.take_notices();
        assert!(notices.len() == 1 && notices[0].contains("2 epochs"), "{notices:?}");
        let epochs: Vec<Value> = before.into_iter().filter(|line| line["event"] == "epoch").collect();
        assert_eq!(run.metrics().unwrap(), epochs, "{number}");
        // What a writer has cut off the end stays cut off; all else is kept beside.
        let kept = fs::read_to_string(place.join("metrics.discarded.jsonl")).unwrap();
        assert!(number != 0 || kept == damaged, "{kept}");
        // From here on it is a run like any other.
        run.append(&event(5)).unwrap();
        run.save(Slot::Last, &checkpoint(5, 4, 3)).unwrap();
        assert_eq!(run.resume().unwrap().unwrap(), checkpoint(5, 4, 3));
        assert!(run.take_notices().is_empty());
        drop(run);
        assert_eq!(runs::check(&place), Vec::<String>::new());
    }
}

#[test]
fn a_missing_line_of_checksums_is_damage() {
    let folder = TempDir::new().unwrap();
    let run = run_with_reports(&folder, "a");
    let path = generation(run.folder(), "best").join("checksums.md5");
    let whole = fs::read_to_string(&path).unwrap();
    let without = |file: &str| {
        let lines = whole.lines().filter(|line| !line.ends_with(file));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    for damaged in [
        String::new(),
        without("weights.safetensors"),
        without("progress.json"),
        whole.replace("weights.safetensors", "weights.safetensorz"),
    ] {
        fs::write(&path, &damaged).unwrap();
        let error = run.weights_path(Slot::Best).unwrap_err();
        assert!(matches!(error, RunError::Damaged { .. }), "{damaged:?}: {error}");
        assert!(!runs::check(run.folder()).is_empty(), "{damaged:?}");
    }
    fs::write(&path, &whole).unwrap();
    assert!(run.weights_path(Slot::Best).unwrap().is_some());
}

#[test]
fn a_recipe_that_was_changed_by_hand_is_refused_and_one_that_was_changed_by_us_is_not() {
    let folder = TempDir::new().unwrap();
    let text = "epochs = 3\n\n[data]\nsource = \"mnist:here\"\n\n[defence]\nkind = \"mart\"\nlambda = 5.0\n";
    let mut run = Run::create(folder.path(), "a", text, json!({})).unwrap();
    run.save(Slot::Last, &checkpoint(1, 1, 3)).unwrap();
    let place = run.folder().to_path_buf();
    let path = place.join("recipe.toml");
    drop(run);

    for same in [
        text.replace("mnist:here", "mnist:elsewhere"),
        format!("# a remark\n{text}"),
    ] {
        fs::write(&path, same).unwrap();
        assert!(Run::open(&place).is_ok());
    }
    fs::write(&path, text.replace("lambda = 5.0", "lambda = 1.0")).unwrap();
    let error = Run::open(&place).err().unwrap();
    assert!(matches!(error, RunError::Recipe { .. }), "{error}");
    let listed = runs::list(folder.path()).unwrap();
    assert!(
        listed[0].problem.as_ref().unwrap().contains("changed since"),
        "{listed:?}"
    );
    fs::write(&path, text).unwrap();

    // More epochs, asked for: the checkpoints of before are still this run's.
    let longer = text.replace("epochs = 3", "epochs = 9");
    let mut run = Run::open(&place).unwrap();
    run.change_recipe(&longer).unwrap();
    drop(run);
    let mut run = Run::open(&place).unwrap();
    assert_eq!(run.recipe_toml(), longer);
    assert_eq!(run.resume().unwrap().unwrap(), checkpoint(1, 1, 3));
    run.save(Slot::Last, &checkpoint(2, 1, 3)).unwrap();
    drop(run);
    assert_eq!(runs::check(&place), Vec::<String>::new());
}

#[test]
fn parts_of_another_run_are_refused() {
    let folder = TempDir::new().unwrap();
    let [mine, other] = ["a", "b"].map(|name| run_with_reports(&folder, name));
    let (own, foreign) = (generation(mine.folder(), "last"), generation(other.folder(), "last"));
    let evaluation = mine.folder().join("evaluation-test-best.json");
    mine.write_sealed(&evaluation, "{\n  \"n\": 5\n}").unwrap();
    assert_eq!(runs::check(mine.folder()), Vec::<String>::new());

    for file in fs::read_dir(&foreign).unwrap().flatten() {
        fs::copy(file.path(), own.join(file.file_name())).unwrap();
    }
    let error = mine.load(Slot::Last).unwrap_err().to_string();
    assert!(error.contains("another run"), "{error}");

    let copied = other.folder().join("evaluation-test-best.json");
    fs::copy(&evaluation, &copied).unwrap();
    let error = other.read_sealed(&copied).unwrap_err().to_string();
    assert!(error.contains("another run's"), "{error}");
    let text = fs::read_to_string(&evaluation).unwrap();
    fs::write(&evaluation, text.replace("5", "6")).unwrap();
    assert!(matches!(mine.read_sealed(&evaluation), Err(RunError::Damaged { .. })));
    assert_eq!(runs::check(other.folder()).len(), 1);

    let identity = other.folder().join("run.json");
    let text = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, text.replace("\"abc\"", "\"abd\"")).unwrap();
    assert!(matches!(Run::open(other.folder()), Err(RunError::Damaged { .. })));
}

#[test]
fn only_one_writes_a_run() {
    let folder = TempDir::new().unwrap();
    let mut first = run_in(&folder, "a");
    let path = folder.path().join("a");
    let mut second = Run::open(&path).unwrap();
    for error in [
        second.lock().unwrap_err(),
        second.append(&event(1)).unwrap_err(),
        second.save(Slot::Last, &checkpoint(1, 0, 3)).unwrap_err(),
        second.resume().unwrap_err(),
        second.begin_session(Value::Null).unwrap_err(),
        runs::delete(&path).unwrap_err(),
    ] {
        assert!(matches!(error, RunError::Locked { .. }), "{error}");
        assert!(
            error.to_string().contains("got one that this very process is writing"),
            "{error}"
        );
    }
    first.append(&event(1)).unwrap();
    assert_eq!(second.metrics().unwrap().len(), 1, "reading needs no lock");
    drop(first);
    second.append(&event(2)).unwrap();
    drop(second);
    runs::delete(&path).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(matches!(runs::delete(folder.path()), Err(RunError::NotARun { .. })));
}

#[test]
fn names_are_folders_on_every_system() {
    let folder = TempDir::new().unwrap();
    let long = "a".repeat(81);
    for name in [
        "", ".", "..", ".a", "a/b", "a\\b", "/a", "-a", "a b", "a\n", "a:b", "a.", "CON", "nul.txt", "com1", &long,
    ] {
        let error = Run::create(folder.path(), name, RECIPE, Value::Null).err().expect(name);
        assert!(matches!(error, RunError::Name { .. }), "{name:?}: {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    for name in ["a", "mnist-mart", "0.1_x", "console", "com10", &long[1..]] {
        runs::check_name(name).unwrap();
    }
    drop(run_in(&folder, "a"));
    let message = Run::create(folder.path(), "a", RECIPE, Value::Null)
        .err()
        .unwrap()
        .to_string();
    assert!(
        message.contains("--resume") && message.contains("another name"),
        "{message}"
    );
    assert_eq!(runs::pick_name(folder.path(), "mart").unwrap(), "mart-1");
    for name in ["mart-1", "mart-7", "mart-x"] {
        drop(run_in(&folder, name));
    }
    assert_eq!(runs::pick_name(folder.path(), "mart").unwrap(), "mart-8");
    assert!(runs::pick_name(folder.path(), "../mart").is_err());
    assert_eq!(runs::pick_name(&folder.path().join("none"), "mart").unwrap(), "mart-1");
}

#[test]
fn two_hundred_runs_are_listed_quickly() {
    let folder = TempDir::new().unwrap();
    assert!(runs::list(&folder.path().join("none")).unwrap().is_empty());
    // Copies of one run on the file system: creating syncs, and this test is about reading.
    let mut model = run_in(&folder, "model");
    model.append(&json!({ "event": "started" })).unwrap();
    model
        .append(&json!({ "event": "epoch", "epoch": 1, "natural": 0.5 }))
        .unwrap();
    model
        .append(&json!({ "event": "epoch", "epoch": 2, "natural": 0.75 }))
        .unwrap();
    model.save(Slot::Best, &checkpoint(7, 7, 3)).unwrap();
    model.save(Slot::Last, &checkpoint(14, 7, 3)).unwrap();
    drop(model);
    let endings = ["finished", "stopped", "failed", "step"];
    let long: String = (0..3000).map(|step| format!("{}\n", event(step))).collect();
    for number in 0..200 {
        let (from, to) = (folder.path().join("model"), folder.path().join(format!("run-{number}")));
        for part in ["", "checkpoints", "checkpoints/last-000002", "checkpoints/best-000001"] {
            fs::create_dir(to.join(part)).unwrap();
            for entry in fs::read_dir(from.join(part))
                .unwrap()
                .flatten()
                .filter(|entry| entry.path().is_file())
            {
                fs::copy(entry.path(), to.join(part).join(entry.file_name())).unwrap();
            }
        }
        let ending = format!(
            "{{\"event\":\"{}\"}}\n{{\"event\":\"other\"}}\n{{\"ev",
            endings[number % 4]
        );
        let metrics = fs::read_to_string(from.join("metrics.jsonl")).unwrap() + &long + &ending;
        fs::write(to.join("metrics.jsonl"), metrics).unwrap();
    }
    fs::write(folder.path().join("run-8/run.json"), "{").unwrap();
    fs::create_dir(folder.path().join("no-run")).unwrap();
    let running = {
        let mut run = Run::open(&folder.path().join("run-4")).unwrap();
        run.lock().unwrap();
        run
    };

    let begin = Instant::now();
    let all = runs::list(folder.path()).unwrap();
    let took = begin.elapsed();
    assert_eq!(all.len(), 201);
    assert!(took < Duration::from_secs(2), "{took:?}");
    let states: BTreeMap<&str, State> = all.iter().map(|run| (run.name.as_str(), run.state)).collect();
    let expected = [
        State::Finished,
        State::Stopped,
        State::Failed,
        State::Interrupted,
        State::Running,
        State::Stopped,
    ];
    for (number, state) in expected.into_iter().enumerate() {
        assert_eq!(states[format!("run-{number}").as_str()], state, "run-{number}");
    }
    assert_eq!(states["run-8"], State::Damaged);
    assert_eq!(states["model"], State::Interrupted);
    let one = all.iter().find(|run| run.name == "run-12").unwrap();
    assert_eq!(one.epoch.as_ref().unwrap()["natural"], 0.75);
    assert_eq!(one.best.as_ref().unwrap()["natural"], 1.0);
    assert_eq!(one.last.as_ref().unwrap()["natural"], 2.0);
    assert_eq!((one.recipe.as_str(), &one.problem), (RECIPE, &None));
    assert!(all.iter().find(|run| run.name == "run-8").unwrap().problem.is_some());
    drop(running);
    println!("200 runs were listed in {took:?}");
}

#[test]
fn what_a_kill_leaves_is_cleaned_and_what_is_in_use_is_not() {
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    run.save(Slot::Last, &checkpoint(1, 0, 3)).unwrap();
    drop(run);
    let path = folder.path().join("a");
    let checkpoints = path.join("checkpoints");
    for left in [".tmp-last-000002", ".tmp-gone-last-000001"] {
        fs::create_dir(checkpoints.join(left)).unwrap();
        fs::write(checkpoints.join(left).join("weights.safetensors"), "half").unwrap();
    }
    fs::create_dir(path.join("figures")).unwrap();
    let left = [
        "checkpoints/.tmp-1-0-last",
        ".tmp-1-0-run.json",
        "figures/.tmp-1-0-a.png",
        ".tmp-1-1-in-use",
    ];
    left.iter().for_each(|name| fs::write(path.join(name), "half").unwrap());
    let in_use = fs::File::open(path.join(".tmp-1-1-in-use")).unwrap();
    in_use.lock().unwrap();
    // A generation that never became the last, because its pointer was not written.
    let orphan = checkpoints.join("last-000002");
    fs::create_dir(&orphan).unwrap();
    for entry in fs::read_dir(checkpoints.join("last-000001")).unwrap().flatten() {
        fs::copy(entry.path(), orphan.join(entry.file_name())).unwrap();
    }

    let mut run = Run::open(&path).unwrap();
    assert_eq!(run.resume().unwrap().unwrap(), checkpoint(1, 0, 3));
    let mut names: Vec<String> = fs::read_dir(&checkpoints)
        .unwrap()
        .chain(fs::read_dir(&path).unwrap())
        .chain(fs::read_dir(path.join("figures")).unwrap())
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".tmp-") || name.starts_with("last-"))
        .collect();
    names.sort();
    assert_eq!(names, [".tmp-1-1-in-use", "last-000001"]);

    fs::create_dir(folder.path().join(".trash-b")).unwrap();
    fs::create_dir(folder.path().join(".tmp-1-c")).unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    let mut options = fs::OpenOptions::new();
    #[cfg(windows)]
    {
        // A folder opens only with this flag (FILE_FLAG_BACKUP_SEMANTICS), and its times change only with that right.
        use std::os::windows::fs::OpenOptionsExt;
        options.access_mode(0x100).custom_flags(0x0200_0000);
    }
    #[cfg(not(windows))]
    options.read(true);
    let left = options.open(folder.path().join(".tmp-1-c")).unwrap();
    left.set_modified(long_ago).unwrap();
    fs::create_dir(folder.path().join(".tmp-2-d")).unwrap();
    drop(run_in(&folder, "e"));
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".tmp-2-d", "a", "e"], "the young one may be at work");
}

#[test]
fn wrong_use_is_an_error_that_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    for wrong in [json!({}), json!(1), json!({ "event": 1 }), Value::Null] {
        assert!(matches!(run.append(&wrong), Err(RunError::Event { .. })));
    }
    assert!(run.metrics().unwrap().is_empty());
    run.save(Slot::Last, &checkpoint(1, 0, 3)).unwrap();
    let mut wrong = checkpoint(2, 0, 3);
    wrong.optimiser.insert("x".to_string(), array(&[2, 2], vec![1.0]));
    let message = run.save(Slot::Last, &wrong).unwrap_err().to_string();
    assert!(
        message.contains("expected 4 values") && message.contains("\"x\""),
        "{message}"
    );
    assert_eq!(run.load(Slot::Last).unwrap().unwrap(), checkpoint(1, 0, 3));

    let progress = generation(run.folder(), "last").join("progress.json");
    let identity = run.folder().join("run.json");
    for path in [progress, identity] {
        let text = fs::read_to_string(&path)
            .unwrap()
            .replace("\"format\": 2", "\"format\": 99");
        fs::write(&path, text).unwrap();
    }
    let message = Run::open(run.folder()).err().unwrap().to_string();
    assert!(
        message.contains("format 99") && message.contains("newer martlet"),
        "{message}"
    );
    let message = Run::open(&folder.path().join("none")).err().unwrap().to_string();
    assert!(message.contains("got nothing"), "{message}");
}

#[test]
fn files_are_replaced_whole() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("evaluation-1.json");
    write_atomic(&path, b"old").unwrap();
    write_atomic(&path, b"new and longer").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new and longer");
    let message = write_atomic(&folder.path().join("none/x"), b"x")
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("expected to write") && message.ends_with("none/x"),
        "{message}"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

// The tests below run this very program again as a process that can be killed, limited or without permission. What that
// process does is one of the three `child_*` tests, which do nothing unless the variable names a folder.
const CHILD: &str = "MARTLET_TEST_RUN";

fn child(test: &str, folder: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, folder);
    command
}

fn child_folder() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Trains without a network: every step appends, every second one saves, every fifth is the best so far.
#[test]
fn child_trains_until_it_is_killed() {
    let Some(folder) = child_folder() else { return };
    let mut run = Run::open(&folder).unwrap();
    let resumed = run.resume().unwrap();
    let number = |key: &str| {
        resumed
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.progress[key].as_u64().unwrap())
    };
    let (mut step, mut best) = (number("step"), number("best_step"));
    run.begin_session(json!("cpu")).unwrap();
    println!("resumed");
    loop {
        step += 1;
        run.append(&event(step)).unwrap();
        if step % 5 == 0 {
            best = step;
            run.save(Slot::Best, &checkpoint(step, best, 5000)).unwrap();
        }
        if step % 2 == 1 || step % 5 == 0 {
            run.save(Slot::Last, &checkpoint(step, best, 5000)).unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn a_kill_at_any_instant_leaves_a_folder_that_resumes() {
    let folder = TempDir::new().unwrap();
    drop(run_in(&folder, "a"));
    let path = folder.path().join("a");
    let mut random = martlet::random::Rng::new(7);
    let (mut reached, mut torn, mut left, mut ahead) = (0, 0, 0, 0);
    for kill in 0..50 {
        let mut process = child("child_trains_until_it_is_killed", &path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Every second kill may come at any instant, the others not before the process has begun to train.
        let mut said = std::io::BufReader::new(process.stdout.take().unwrap()).lines();
        if kill % 2 == 0 {
            assert!(
                said.any(|line| line.unwrap().contains("resumed")),
                "kill {kill}: the process ended too early"
            );
        }
        thread::sleep(Duration::from_micros(random.below(100_000) as u64));
        process.kill().unwrap();
        let output = process.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            complaint.is_empty(),
            "kill {kill}: the process had failed before: {complaint}"
        );

        torn += usize::from(!fs::read(path.join("metrics.jsonl")).unwrap().ends_with(b"\n"));
        let names = |folder: PathBuf| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut all = names(path.clone()).chain(names(path.join("checkpoints")));
        left += usize::from(all.any(|name| name.to_string_lossy().starts_with(".tmp-")));

        let mut run = Run::open(&path).unwrap();
        run.metrics().unwrap();
        let newer_best = run.load(Slot::Best).unwrap();
        let resumed = run.resume().unwrap();
        let lines = fs::read_to_string(path.join("metrics.jsonl")).unwrap();
        let step = resumed
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.progress["step"].as_u64().unwrap());
        let best_step = resumed
            .as_ref()
            .map_or(0, |checkpoint| checkpoint.progress["best_step"].as_u64().unwrap());
        // All that it holds is what a run without any kill holds after this step.
        assert_eq!(
            lines,
            (1..=step).map(|step| format!("{}\n", event(step))).collect::<String>(),
            "kill {kill}"
        );
        if let Some(resumed) = resumed {
            assert_eq!(resumed, checkpoint(step, best_step, 5000), "kill {kill}");
            assert_eq!(best_step, step / 5 * 5, "kill {kill}");
        }
        let best = run.load(Slot::Best).unwrap();
        assert_eq!(
            best,
            (best_step > 0).then(|| checkpoint(best_step, best_step, 5000)),
            "kill {kill}"
        );
        if let Some(newer) = newer_best {
            let made = newer.progress["step"].as_u64().unwrap();
            assert_eq!(newer, checkpoint(made, made, 5000), "kill {kill}");
            ahead += usize::from(made > best_step);
        }
        assert!(step >= reached, "kill {kill}: step {step} after step {reached}");
        reached = step;
        let notices = run.take_notices();
        // Only the very first checkpoint can be whole before any pointer names it.
        assert!(notices.is_empty() || reached <= 5, "kill {kill}: {notices:?}");
        let folders = names(path.join("checkpoints"))
            .filter(|name| name.to_string_lossy().contains("-0"))
            .count();
        assert!(folders <= 4, "kill {kill}: {folders} generations are kept");
    }
    println!(
        "50 kills: step {reached}; {torn} torn lines, {left} temporary files, {ahead} times a best ahead of the last"
    );
    assert!(reached > 20, "only {reached} steps: the kills came before the work");
    assert!(
        left > 5,
        "only {left} kills came during a write: the test proves little"
    );
}

/// Under a limit on a file's size: large files fail as on a full disk.
#[test]
fn child_meets_a_limit() {
    let Some(folder) = child_folder() else { return };
    let mut run = Run::open(&folder).unwrap();
    run.resume().unwrap();
    run.append(&event(1)).unwrap();
    run.save(Slot::Best, &checkpoint(1, 1, 10)).unwrap();
    run.save(Slot::Last, &checkpoint(1, 1, 10)).unwrap();
    for _ in 0..3 {
        for slot in [Slot::Best, Slot::Last] {
            let message = run.save(slot, &checkpoint(2, 2, 100_000)).unwrap_err().to_string();
            assert!(
                message.contains("raise the limit") && message.contains("is kept"),
                "{message}"
            );
            assert_eq!(run.load(slot).unwrap().unwrap(), checkpoint(1, 1, 10));
        }
    }
    let left = fs::read_dir(folder.join("checkpoints")).unwrap().count();
    assert_eq!(
        left, 6,
        "two generations, two pointers, two links, and nothing of the failed ones"
    );
    let mut lines = 1;
    let error = loop {
        match run.append(&event(lines + 1)) {
            Ok(()) => lines += 1,
            Err(error) => break error,
        }
        assert!(lines < 100_000, "the limit was never met");
    };
    assert!(error.to_string().contains("expected to append"), "{error}");
    for _ in 0..3 {
        assert!(run.append(&event(lines + 1)).is_err());
    }
    let text = fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    assert_eq!(
        text,
        (1..=lines).map(|step| format!("{}\n", event(step))).collect::<String>()
    );
    // A short line may still fit, and a checkpoint of it too.
    run.save(Slot::Last, &checkpoint(lines, 1, 10)).unwrap();
    assert_eq!(run.resume().unwrap().unwrap(), checkpoint(lines, 1, 10));
    assert!(write_atomic(&folder.join("figure.png"), &vec![0; 1 << 20]).is_err());
    println!("the limit was met after {lines} lines");
}

#[cfg(unix)]
#[test]
fn a_full_disk_keeps_the_last_good_state() {
    let folder = TempDir::new().unwrap();
    drop(run_in(&folder, "a"));
    let path = folder.path().join("a");
    let program = std::env::current_exe().unwrap();
    let output = Command::new("sh")
        .args([
            "-c",
            "trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact child_meets_a_limit --nocapture",
        ])
        .arg(program)
        .env(CHILD, &path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("the limit was met"), "{said}");
    let mut run = Run::open(&path).unwrap();
    let resumed = run.resume().unwrap().unwrap();
    assert_eq!(
        run.metrics().unwrap().len() as u64,
        resumed.progress["step"].as_u64().unwrap()
    );
    assert!(!path.join("figure.png").exists());
}

/// Without permission to write.
#[test]
fn child_may_not_write() {
    let Some(folder) = child_folder() else { return };
    let mut run = Run::open(&folder).unwrap();
    assert_eq!(
        run.load(Slot::Last).unwrap().unwrap(),
        checkpoint(1, 0, 3),
        "reading needs no permission to write"
    );
    assert_eq!(run.metrics().unwrap().len(), 1);
    assert_eq!(runs::list(folder.parent().unwrap()).unwrap().len(), 1);
    for error in [
        run.append(&event(2)).unwrap_err(),
        run.save(Slot::Last, &checkpoint(2, 0, 3)).unwrap_err(),
        run.resume().unwrap_err(),
        write_atomic(&folder.join("figure.png"), b"x").unwrap_err(),
        Run::create(folder.parent().unwrap(), "b", RECIPE, Value::Null)
            .err()
            .unwrap(),
        runs::delete(&folder).unwrap_err(),
    ] {
        let message = error.to_string();
        assert!(
            message.contains("permission") && message.contains("--runs-dir"),
            "{message}"
        );
    }
    println!("nothing was written");
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_can_be_read_and_keeps_its_state() {
    use std::os::unix::{fs::PermissionsExt, process::CommandExt};
    let folder = TempDir::new().unwrap();
    let mut run = run_in(&folder, "a");
    run.append(&event(1)).unwrap();
    run.save(Slot::Last, &checkpoint(1, 0, 3)).unwrap();
    drop(run);
    let path = folder.path().join("a");
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let all = [folder.path(), &path, &path.join("checkpoints")];
    all.iter().for_each(|path| mode(path, 0o555));
    let files = ["metrics.jsonl", ".lock", "run.json"].map(|file| path.join(file));
    files.iter().for_each(|path| mode(path, 0o444));
    // The administrator may write everywhere: then the other process is nobody's.
    let administrator = fs::write(path.join("probe"), "").is_ok();
    let mut command = child("child_may_not_write", &path);
    if administrator {
        fs::remove_file(path.join("probe")).unwrap();
        command.uid(65_534).gid(65_534);
    }
    let output = command.output();
    all.iter().for_each(|path| mode(path, 0o755));
    match output {
        Err(error) if administrator => {
            eprintln!(
                "SKIPPED: running as the administrator, and no process of another user could be started: {error}"
            );
        }
        output => {
            let output = output.unwrap();
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success() && said.contains("nothing was written"),
                "{said}"
            );
        }
    }
    assert_eq!(
        Run::open(&path).unwrap().resume().unwrap().unwrap(),
        checkpoint(1, 0, 3)
    );
}
