//! The terminal as shells and scripts know it: exit statuses, signals, pipes, devices, names that are nearly right.

#![cfg(unix)]

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

fn martlet(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_martlet"));
    command.current_dir(folder).args(arguments.split_whitespace());
    command
}

fn run(folder: &Path, arguments: &str) -> Output {
    martlet(folder, arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const SMALL: &str = "train --recipe glyphs-mart --device cpu --batch-size 16 --limit-train 64 --held-out 16 --steps 1 \
                     --set evaluation.attacks=[\"natural\"] --set evaluation.limit=16";

fn train(folder: &Path, name: &str) {
    let trained = run(folder, &format!("{SMALL} --epochs 1 --name {name}"));
    assert!(trained.status.success(), "{}", said(&trained));
}

/// Waits for a training's first minibatches.
fn wait_for_work(child: &mut Child) {
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("\"step\"") {}
}

#[test]
fn a_stop_says_by_its_status_which_signal_it_was() {
    let folder = tempfile::tempdir().unwrap();
    for (signal, status) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let arguments = format!("{SMALL} --epochs 5000 --name {signal} --json --set log_every=1");
        let mut child = martlet(folder.path(), &arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_work(&mut child);
        // The child and its group, as `timeout` sends them: one stop.
        for _ in 0..2 {
            let sent = Command::new("kill")
                .args([format!("-{signal}"), child.id().to_string()])
                .status();
            assert!(sent.unwrap().success());
        }
        let mut rest = String::new();
        child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
        assert!(
            rest.lines().last().unwrap_or_default().contains("\"stopped\""),
            "{signal}: {rest}"
        );
    }
    let listed = run(folder.path(), "runs --json");
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert!(listed.as_array().unwrap().iter().all(|run| run["state"] == "stopped"));
}

#[test]
fn a_closed_pipe_ends_the_printing_and_a_full_disk_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = martlet(folder.path(), &format!("{SMALL} --epochs 2 --name piped --json"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let full = martlet(folder.path(), &format!("{SMALL} --epochs 1 --name full --json"))
        .stdout(File::options().write(true).open("/dev/full").unwrap())
        .output()
        .unwrap();
    assert_eq!(full.status.code(), Some(1));
    assert!(
        said(&full).contains("standard output takes nothing more"),
        "{}",
        said(&full)
    );
    let listed: Value = serde_json::from_slice(&run(folder.path(), "runs --json").stdout).unwrap();
    let states: Vec<&Value> = listed.as_array().unwrap().iter().map(|run| &run["state"]).collect();
    assert_eq!(states, ["finished", "finished"]);
}

#[test]
fn results_go_to_what_a_person_names_and_are_lost_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "run");
    let evaluate = "evaluate run --device cpu --limit 8 --attacks natural,fgsm --no-probes --json";
    let to_stdout = run(folder.path(), &format!("{evaluate} /dev/stdout"));
    let text: Value = serde_json::from_slice(&to_stdout.stdout).unwrap();
    assert_eq!(text["n"], 8, "nothing else stands beside it");

    symlink("there.json", folder.path().join("link.json")).unwrap();
    assert!(run(folder.path(), &format!("{evaluate} link.json")).status.success());
    assert!(
        fs::symlink_metadata(folder.path().join("link.json"))
            .unwrap()
            .is_symlink()
    );
    let there: Value = serde_json::from_slice(&fs::read(folder.path().join("there.json")).unwrap()).unwrap();
    assert_eq!(there["n"], 8);

    // A place that cannot be written is found before the work, and one that refuses later costs no figure.
    let missing = run(folder.path(), &format!("{evaluate} nowhere/x.json"));
    assert_eq!(missing.status.code(), Some(2), "{}", said(&missing));
    let full = run(folder.path(), &format!("{evaluate} /dev/full"));
    assert_eq!(full.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&full.stdout).contains("worst case"),
        "{}",
        said(&full)
    );
    assert!(said(&full).contains("kept in"), "{}", said(&full));
}

#[test]
fn predictions_and_classes_are_those_of_the_figures() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "run");
    let found = run(
        folder.path(),
        "evaluate run --device cpu --limit 40 --attacks natural,fgsm --no-probes --per-class --examples --json all.json \
         --predictions p.npz --batch-size 16",
    );
    assert!(found.status.success(), "{}", said(&found));
    let all: Value = serde_json::from_slice(&fs::read(folder.path().join("all.json")).unwrap()).unwrap();
    let examples = all["examples"].as_array().unwrap();
    let python = "import numpy as np, sys; p = np.load('p.npz'); \
                  assert (p['logits'].argmax(1) == p['prediction natural']).all(); \
                  e = np.exp(p['logits'].astype('d')); \
                  assert np.allclose(e / e.sum(1, keepdims=True), p['probabilities'], atol=1e-6); \
                  print(*p['label'], *p['prediction natural'], *p['prediction fgsm'])";
    // numpy reads it as a person would.
    let read = Command::new("python3")
        .current_dir(folder.path())
        .args(["-c", python])
        .output();
    if let Some(read) = read.ok().filter(|read| !said(read).contains("No module named")) {
        assert!(read.status.success(), "{}", said(&read));
        let numbers: Vec<u64> = String::from_utf8_lossy(&read.stdout)
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        for (place, example) in examples.iter().enumerate() {
            let expected = [
                &example["label"],
                &example["attacks"][0]["prediction"],
                &example["attacks"][1]["prediction"],
            ];
            for (row, expected) in expected.iter().enumerate() {
                assert_eq!(Some(numbers[40 * row + place]), expected.as_u64(), "{place}");
            }
        }
    } else {
        assert!(
            std::env::var_os("CI").is_none(),
            "no numpy for python3: .ci/packages installs it"
        );
        eprintln!("SKIPPED: no numpy for python3, the .npz file was not compared");
    }
    // The classes' rows add up to the whole.
    let printed = String::from_utf8_lossy(&found.stdout).into_owned();
    let rows = printed.lines().skip_while(|line| !line.starts_with("class")).skip(1);
    let counts: usize = rows
        .map_while(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok())
        .sum();
    assert_eq!(counts, 40, "{printed}");
}

#[test]
fn a_stopped_evaluation_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "run");
    let arguments =
        "evaluate run --device cpu --limit 64 --attacks natural,fgsm,pgd-40000x9 --no-probes --json part.json";
    let mut child = martlet(folder.path(), arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().starts_with("fgsm") {}
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.join(" ").contains("the same command continues"), "{rest:?}");
    let part: Value = serde_json::from_slice(&fs::read(folder.path().join("part.json")).unwrap()).unwrap();
    assert_eq!(part["unfinished"], true);
    assert!(part["accuracy"]["fgsm"].is_number(), "{part}");

    let mut again = martlet(folder.path(), arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(again.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("continuing from")));
    again.kill().unwrap();
    again.wait().unwrap();
}

#[test]
fn what_is_nearly_right_is_asked_back() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "mnist-mart-1");
    for (arguments, meant) in [
        ("runs --show mnst-mart-1", "did you mean mnist-mart-1?"),
        ("evaluate mnist-mrt-1 --device cpu", "did you mean mnist-mart-1?"),
        ("train --resume --name mnst-mart-1", "did you mean mnist-mart-1?"),
        ("train --recipe glyphs-marts", "did you mean glyphs-mart?"),
        ("train --defence tradse --show-recipe", "did you mean trades?"),
        ("experiment run figure-2e", "did you mean figure-2"),
        ("explain small-sampel", "did you mean small-sample?"),
        (
            "train --recipe glyphs-mart --network smal-cnn --show-recipe",
            "did you mean small-cnn?",
        ),
        ("evaluate mnist-mart-1 --attacks pdg-20", "did you mean pgd-20?"),
        ("evaluate mnist-mart-1 --attacks deepfol", "did you mean deepfool?"),
        ("train --dataset glyps", "did you mean glyphs?"),
        ("data show fashon", "did you mean fashion?"),
        ("train --set epoch=3 --show-recipe", "did you mean epochs?"),
        ("train --set defence.kind=\"marte\" --show-recipe", "did you mean mart?"),
    ] {
        let found = run(folder.path(), arguments);
        assert!(
            !found.status.success() && said(&found).contains(meant),
            "{arguments}: {}",
            said(&found)
        );
    }
    assert!(run(folder.path(), "runs --show runs/mnist-mart-1").status.success());
    let next = run(
        folder.path(),
        &format!("{SMALL} --epochs 1 --resume --name mnist-mart-2"),
    );
    assert!(next.status.success(), "the next of a series begins: {}", said(&next));
    for wrong in [
        "attack mnist-mart-1 --limit 0 --out o",
        "evaluate mnist-mart-1 --batch-size 0",
        "evaluate mnist-mart-1 --attacks natural --kappa 5",
        "evaluate mnist-mart-1 --attacks pgd-2 --surrogate mnist-mart-1",
        "evaluate mnist-mart-1 --attacks pgd-2 --step-size 1e30",
        "train --recipe glyphs-mart --set attack.stepz=3",
        "train --recipe glyphs-mart --epochs 0",
        "train --recipe glyphs-mart --network smal-cnn",
    ] {
        assert_eq!(run(folder.path(), wrong).status.code(), Some(2), "{wrong}");
    }
    let page = run(folder.path(), "explain small-sample");
    assert!(String::from_utf8_lossy(&page.stdout).contains("**What to do.**"));
}

#[test]
fn several_seeds_end_with_their_mean_and_a_stopped_series_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let few = run(folder.path(), &format!("{SMALL} --epochs 1 --name s --seeds 3,1"));
    assert!(few.status.success(), "{}", said(&few));
    let table = String::from_utf8_lossy(&few.stdout).into_owned();
    assert!(table.contains("s-seed-3") && table.contains("s-seed-1"), "{table}");
    assert!(table.contains("mean ± standard deviation, 2 runs"), "{table}");
    let seed = |name: &str| {
        let recipe = fs::read_to_string(folder.path().join("runs").join(name).join("recipe.toml")).unwrap();
        recipe
            .lines()
            .find(|line| line.starts_with("seed"))
            .unwrap()
            .to_string()
    };
    assert_eq!(
        (seed("s-seed-3"), seed("s-seed-1")),
        ("seed = 3".into(), "seed = 1".into())
    );
    // Without its flags again: the recipe is that of the series.
    let more = run(folder.path(), "train --resume --name s --seeds 3,1,7 --device cpu");
    assert!(more.status.success(), "{}", said(&more));
    assert!(String::from_utf8_lossy(&more.stdout).contains("3 runs"));
    assert_eq!(seed("s-seed-7"), "seed = 7");
    let text = |name: &str| fs::read_to_string(folder.path().join("runs").join(name).join("recipe.toml")).unwrap();
    assert_eq!(
        text("s-seed-7").replace("seed = 7", ""),
        text("s-seed-1").replace("seed = 1", "")
    );
    for wrong in [
        "--seeds 1,1 --name t",
        "--seeds 1,2",
        "--seeds 1 --seed 2 --name t",
        "--seeds one --name t",
    ] {
        let refused = run(folder.path(), &format!("{SMALL} --epochs 1 {wrong}"));
        assert_eq!(refused.status.code(), Some(2), "{wrong}: {}", said(&refused));
    }
    let begun = fs::read_dir(folder.path().join("runs")).unwrap().count();
    assert_eq!(begun, 3, "wrong use has begun a run");
}

#[test]
fn quiet_leaves_results_alone_and_threads_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (name, threads) in [("one", "1"), ("three", "3")] {
        let trained = run(
            folder.path(),
            &format!("--quiet --threads {threads} {SMALL} --epochs 1 --name {name}"),
        );
        assert!(
            trained.status.success() && trained.stderr.is_empty(),
            "{}",
            said(&trained)
        );
    }
    let weights =
        |name: &str| fs::read(folder.path().join(format!("runs/{name}/checkpoints/last.safetensors"))).unwrap();
    assert!(weights("one") == weights("three"));
    let evaluated = run(
        folder.path(),
        "evaluate one -q --device cpu --limit 8 --attacks natural",
    );
    assert!(evaluated.stderr.is_empty(), "{}", said(&evaluated));
    assert!(String::from_utf8_lossy(&evaluated.stdout).contains("worst case"));
    let wrong = run(folder.path(), "evaluate nothing -q --device cpu");
    assert!(
        wrong.status.code() == Some(2) && said(&wrong).contains("error"),
        "{}",
        said(&wrong)
    );
}

#[test]
fn a_resumed_run_keeps_its_recipe_and_goes_on_with_more_epochs() {
    let folder = tempfile::tempdir().unwrap();
    train(folder.path(), "run");
    let other = run(folder.path(), "train --resume --name run --device cpu --lambda 1");
    assert_eq!(other.status.code(), Some(2));
    assert!(said(&other).contains("defence.lambda"), "{}", said(&other));
    let longer = run(folder.path(), "train --resume --name run --device cpu --epochs 3");
    for words in [
        "finished after 3 epochs",
        "follows the cosine schedule over all epochs, so that it jumps here",
    ] {
        assert!(
            longer.status.success() && said(&longer).contains(words),
            "{}",
            said(&longer)
        );
    }
    let checked = run(folder.path(), "runs --check");
    assert!(checked.status.success(), "{}", said(&checked));

    let recipe = folder.path().join("runs/run/recipe.toml");
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("lambda = 5.0", "lambda = 1.0")).unwrap();
    for arguments in [
        "train --resume --name run --device cpu",
        "evaluate run --device cpu",
        "runs --check",
    ] {
        let found = run(folder.path(), arguments);
        let told = said(&found) + &String::from_utf8_lossy(&found.stdout);
        assert!(
            !found.status.success() && told.contains("changed since"),
            "{arguments}: {told}"
        );
    }
}

#[test]
fn what_would_be_measured_or_trained_otherwise_than_meant_is_refused_or_told() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let short = run(here, &format!("{SMALL} --epochs 2 --epsilon-warm-up 4 --name short"));
    assert!(short.status.success(), "{}", said(&short));
    for words in [
        "training ends at 50 % of ε: its warm-up of 4 epochs is longer",
        "martlet explain never-reached",
    ] {
        assert!(said(&short).contains(words), "{}", said(&short));
    }
    let refused = |arguments: &str, words: &str| {
        let found = run(here, arguments);
        assert_eq!(found.status.code(), Some(2), "{arguments}: {}", said(&found));
        assert!(said(&found).contains(words), "{arguments}: {}", said(&found));
    };
    // A radius in L∞ says nothing in L2.
    refused("evaluate short --norm l2 --device cpu", "add --epsilon with one in L2");
    // What a file's own program does to images is stated, in units of pixels; a run's network takes them as they are.
    refused(
        "evaluate short --normalise 0/1 --device cpu",
        "expected a file of weights, got a run",
    );
    let written = run(here, "demo-models export models");
    assert!(written.status.success(), "{}", said(&written));
    let file = "evaluate models/mart.safetensors --network small-cnn --dataset glyphs --epsilon 0.1 --attacks natural --limit 32 --no-probes \
                --device cpu --json - --normalise";
    refused(&format!("{file} 127/63"), "divided by 255 they are");
    let accuracy = |normalise: &str| {
        let found = run(here, &format!("{file} {normalise}"));
        assert!(found.status.success(), "{}", said(&found));
        serde_json::from_slice::<Value>(&found.stdout).unwrap()["accuracy"].clone()
    };
    assert_ne!(accuracy("0/1"), accuracy("0.9/0.01"));
    // A folder as Hugging Face's libraries write one.
    fs::create_dir(here.join("hub")).unwrap();
    fs::rename(here.join("models/mart.safetensors"), here.join("hub/model.safetensors")).unwrap();
    let found = run(
        here,
        &file
            .replace("models/mart.safetensors", "hub")
            .replace(" --normalise", ""),
    );
    assert!(found.status.success(), "{}", said(&found));
    refused(
        &format!("{SMALL} --epochs 2 --natural-warm-up 2 --name never"),
        "or the defence never trains, got 2 of 2",
    );
    let wide: Vec<u8> = "epochs = 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(here.join("wide.toml"), [b"\xff\xfe".to_vec(), wide].concat()).unwrap();
    refused("train --recipe wide.toml", "expected a recipe in UTF-8, got UTF-16");

    // One class is found before a run is begun that would keep the name.
    for number in 0..8 {
        let place = here.join(format!("pets/train/cat/{number}.png"));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(8, 8, image::Luma([20 * number]))
            .save(place)
            .unwrap();
    }
    let found = run(
        here,
        "train --defence natural --dataset folder:pets --held-out 2 --name pets --device cpu",
    );
    assert!(
        said(&found).contains("expected two classes at least, got 1: cat"),
        "{}",
        said(&found)
    );
    assert!(!here.join("runs/pets").exists());
}

#[test]
fn classes_of_other_data_are_found_by_their_names_before_their_places() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // Twelve classes: as names they stand 0, 1, 10, 11, 2, ...
    for number in 0..48_u8 {
        let place = here.join(format!("pics/train/{}/{number}.png", number % 12));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(8, 8, image::Luma([5 * number]))
            .save(place)
            .unwrap();
    }
    let trained = run(
        here,
        "train --defence natural --network cnn8 --dataset folder:pics --epochs 1 --batch-size 12 --held-out 12 --epsilon 0.1 \
         --set evaluation.attacks=[\"natural\"] --device cpu --name folder",
    );
    assert!(trained.status.success(), "{}", said(&trained));
    // Class 2 is the fourth of the run's, and the third of these.
    for class in 0..3_u8 {
        let place = here.join(format!("other/test/{class}/a.png"));
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(8, 8, image::Luma([class]))
            .save(place)
            .unwrap();
    }
    let found = run(
        here,
        "evaluate folder --dataset folder:other --attacks natural --no-probes --device cpu",
    );
    assert!(
        found.status.success() && said(&found).contains("the classes are found by their names"),
        "{}",
        said(&found)
    );
}
