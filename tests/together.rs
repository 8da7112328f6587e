//! One piece of work by several processes: shards of an evaluation, several models, and (with the feature `mpi`) groups under `mpirun`.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn run(folder: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_martlet"))
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeed(folder: &Path, arguments: &str) -> String {
    let output = run(folder, arguments);
    assert!(output.status.success(), "{arguments}: {}", said(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(folder: &Path, file: &str) -> Value {
    serde_json::from_slice(&fs::read(folder.join(file)).unwrap()).unwrap()
}

/// Everything but how long it took, and on how many threads.
fn without_time(mut value: Value) -> Value {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.remove("seconds");
                fields.remove("device");
                fields.values_mut().for_each(strip);
            }
            Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    strip(&mut value);
    value
}

const SMALL: &str = "train --recipe glyphs-mart --device cpu --batch-size 16 --limit-train 192 --held-out 16 --steps 2 --epochs 1 \
                     --set evaluation.attacks=[\"natural\"] --set evaluation.limit=16";

#[test]
fn shards_make_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, &format!("{SMALL} --name run"));
    // Attacks with starts at random, restarts, parts in turn, and one that lets examples go; in batches that fit no share.
    let what = "evaluate run --device cpu --limit 100 --batch-size 13 --epsilon 0.05 --attacks natural,pgd-3x2,square-30,autoattack-fast";
    succeed(folder, &format!("{what} --examples --json whole.json"));
    for number in 1..=3 {
        succeed(folder, &format!("{what} --shard {number}/3 --json part-{number}.json"));
    }
    let part = json(folder, "part-2.json");
    assert_eq!(part["n"], 33);
    let kept = |folder: &Path| {
        let entries = fs::read_dir(folder.join("runs/run")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("evaluation")).collect::<Vec<_>>()
    };
    let before = kept(folder);
    let printed = succeed(
        folder,
        "merge part-3.json part-1.json part-2.json --examples --json merged.json",
    );
    assert!(printed.contains("N = 100"), "{printed}");
    assert_eq!(
        before,
        kept(folder),
        "a share is kept as a result of the run, or leaves something"
    );
    let (whole, merged) = (json(folder, "whole.json"), json(folder, "merged.json"));
    assert!(
        without_time(whole) == without_time(merged),
        "merged.json is not whole.json"
    );

    for (wrong, hint) in [
        ("merge part-1.json part-2.json", "without shard 3/3"),
        ("merge part-1.json part-2.json part-2.json", "2/3 twice"),
        ("merge whole.json", "no share of an evaluation"),
        ("merge nothing.json", "cannot be read"),
        ("merge", "required"),
    ] {
        let refused = run(folder, wrong);
        assert!(
            !refused.status.success() && said(&refused).contains(hint),
            "{wrong}: {}",
            said(&refused)
        );
    }
    succeed(folder, &format!("{what} --seed 2 --shard 3/3 --json other.json"));
    let refused = run(folder, "merge part-1.json part-2.json other.json");
    assert!(said(&refused).contains("the seed differs"), "{}", said(&refused));
    let text = fs::read_to_string(folder.join("part-3.json")).unwrap();
    fs::write(folder.join("changed.json"), text.replacen("0,", "1,", 1)).unwrap();
    let refused = run(folder, "merge part-1.json part-2.json changed.json");
    assert!(said(&refused).contains("changed since"), "{}", said(&refused));
}

#[test]
fn a_shard_is_asked_for_whole() {
    let folder = tempfile::tempdir().unwrap();
    succeed(folder.path(), &format!("{SMALL} --name run"));
    for (wrong, hint) in [
        ("--shard 1/2", "--json"),
        ("--shard 3/2 --json x.json", "NUMBER/OF"),
        ("--shard --json x.json", "SLURM"),
        ("--shard 1/2 --json x.json --predictions p.npz", "--predictions"),
    ] {
        let refused = run(folder.path(), &format!("evaluate run --device cpu {wrong}"));
        assert_eq!(refused.status.code(), Some(2), "{wrong}");
        assert!(said(&refused).contains(hint), "{wrong}: {}", said(&refused));
    }
    let share = Command::new(env!("CARGO_BIN_EXE_martlet"))
        .current_dir(folder.path())
        .args("evaluate run --device cpu --limit 9 --attacks natural --shard --json -".split_whitespace())
        .envs([
            ("SLURM_ARRAY_TASK_ID", "6"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
            ("SLURM_ARRAY_TASK_MIN", "3"),
        ])
        .output()
        .unwrap();
    let share: Value = serde_json::from_slice(&share.stdout).unwrap();
    assert_eq!((&share["shard"]["number"], &share["n"]), (&4.into(), &2.into()));
}

#[test]
fn several_models_end_with_their_mean() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    succeed(folder, &format!("{SMALL} --name s --seeds 1,2,3"));
    let what = "--device cpu --limit 60 --attacks natural,fgsm --no-probes --json all.json";
    let printed = succeed(folder, &format!("evaluate s-seed-1 s-seed-2 s-seed-3 {what}"));
    assert!(printed.contains("mean ± standard deviation, 3 runs"), "{printed}");
    let all = json(folder, "all.json");
    let models = all["models"].as_array().unwrap();
    assert_eq!((models.len(), &all["comparable"]), (3, &true.into()));
    for attack in ["natural", "fgsm", "worst-case"] {
        let values: Vec<f64> = models
            .iter()
            .map(|model| model["accuracy"][attack].as_f64().unwrap())
            .collect();
        let mean = values.iter().sum::<f64>() / 3.0;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let found = &all["mean"][attack];
        assert!((found["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
        assert!((found["standard_deviation"].as_f64().unwrap() - (squares / 2.0).sqrt()).abs() < 1e-12);
    }
    // Each is as it would be alone, and kept with its run.
    succeed(
        folder,
        "evaluate s-seed-2 --device cpu --limit 60 --attacks natural,fgsm --no-probes --json alone.json",
    );
    assert_eq!(json(folder, "alone.json")["accuracy"], models[1]["accuracy"]);
    for wrong in ["--shard 1/2", "--predictions p.npz", "--resume-file r"] {
        let refused = run(folder, &format!("evaluate s-seed-1 s-seed-2 --device cpu {wrong}"));
        assert_eq!(refused.status.code(), Some(2), "{wrong}");
    }
    let missing = run(folder, &format!("evaluate s-seed-1 s-seed-9 {what}"));
    assert!(
        said(&missing).contains("s-seed-9") && said(&missing).contains("did you mean"),
        "{}",
        said(&missing)
    );
}

/// Without MPI a process that is one of several must not begin: each would do the whole work.
#[cfg(not(feature = "mpi"))]
#[test]
fn one_of_several_processes_is_refused_where_there_is_no_mpi() {
    let folder = tempfile::tempdir().unwrap();
    for what in [SMALL, "evaluate run"] {
        let refused = Command::new(env!("CARGO_BIN_EXE_martlet"))
            .current_dir(folder.path())
            .args(what.split_whitespace())
            .env("OMPI_COMM_WORLD_SIZE", "2")
            .output()
            .unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(said(&refused).contains("--features mpi"), "{}", said(&refused));
    }
}

/// Run by `.ci/mpi`, which installs a library and a launcher.
#[cfg(feature = "mpi")]
mod mpi {
    use std::{
        process::{Child, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    fn launch(folder: &Path, processes: usize, arguments: &str) -> Command {
        let mut command = Command::new("mpirun");
        command
            .current_dir(folder)
            // Tests run as root in containers, on fewer cores than processes.
            .envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")])
            .args([
                "-n",
                &processes.to_string(),
                "--oversubscribe",
                env!("CARGO_BIN_EXE_martlet"),
            ])
            .args(arguments.split_whitespace());
        command
    }

    fn together(folder: &Path, processes: usize, arguments: &str) -> String {
        let output = launch(folder, processes, arguments).output().unwrap();
        assert!(output.status.success(), "{processes}: {arguments}: {}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A network's weights, as safetensors keeps them.
    fn weights(folder: &Path, run: &str) -> Vec<f32> {
        let bytes = fs::read(folder.join("runs").join(run).join("checkpoints/last.safetensors")).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut names: Vec<&str> = tensors.names().into_iter().collect();
        names.sort_unstable();
        let values = names
            .into_iter()
            .flat_map(|name| tensors.tensor(name).unwrap().data().to_vec());
        let values: Vec<u8> = values.collect();
        values
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    }

    #[test]
    fn ranks_train_and_evaluate_as_one_process_does() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        // Sums in another order round otherwise, and now and then an undecided pixel or ReLU falls to the other side.
        for (steps, bound) in [(5, 1e-5), (20, 1e-3)] {
            let what = SMALL.replace("--limit-train 192", &format!("--limit-train {}", 16 * steps));
            succeed(folder, &format!("{what} --name alone-{steps}"));
            let alone = weights(folder, &format!("alone-{steps}"));
            for ranks in [2, 3] {
                let name = format!("by-{ranks}-{steps}");
                together(folder, ranks, &format!("{what} --name {name}"));
                let found = weights(folder, &name);
                let apart = alone
                    .iter()
                    .zip(&found)
                    .map(|(a, b)| (a - b).abs())
                    .fold(0.0_f32, f32::max);
                assert!(apart < bound, "{ranks} ranks, {steps} steps: {apart}");
            }
        }
        assert_eq!(
            fs::read_dir(folder.join("runs")).unwrap().count(),
            6,
            "one rank alone writes a run"
        );
        let what = "evaluate alone-20 --device cpu --limit 100 --attacks natural,pgd-3x2,square-30 --examples";
        succeed(folder, &format!("{what} --json alone.json"));
        for ranks in [2, 3] {
            together(folder, ranks, &format!("{what} --json by-{ranks}.json"));
            let by = json(folder, &format!("by-{ranks}.json"));
            assert!(
                without_time(json(folder, "alone.json")) == without_time(by),
                "{ranks} ranks"
            );
        }
    }

    #[test]
    fn synchronised_batch_norms_are_those_of_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let what = SMALL.replace(
            "--limit-train 192",
            "--limit-train 32 --network wide-resnet-10-1 --set sync_batch_norm=true",
        );
        succeed(folder, &format!("{what} --name alone"));
        together(folder, 2, &format!("{what} --name together"));
        let (alone, together) = (weights(folder, "alone"), weights(folder, "together"));
        let pairs = alone.iter().zip(&together);
        let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
        assert!(apart < 1e-5, "{apart}");
    }

    fn children(launcher: &Child) -> Vec<String> {
        let found = Command::new("pgrep")
            .args(["-P", &launcher.id().to_string()])
            .output()
            .unwrap();
        String::from_utf8_lossy(&found.stdout)
            .split_whitespace()
            .map(str::to_string)
            .collect()
    }

    /// Begins or goes on with a run by two ranks, one of which is killed after so long; whether the group came to its end before.
    fn until_killed(folder: &Path, arguments: &str, victim: usize, after: Duration) -> bool {
        let mut group = launch(folder, 2, arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (began, mut killed) = (Instant::now(), false);
        while !killed && group.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(10));
            let alive = children(&group);
            if alive.len() == 2 && began.elapsed() > after {
                killed = Command::new("kill")
                    .args(["-KILL", &alive[victim]])
                    .status()
                    .unwrap()
                    .success();
            }
        }
        let output = group.wait_with_output().unwrap();
        assert!(began.elapsed() < Duration::from_secs(60), "the group did not end");
        assert!(killed || output.status.success(), "{}", said(&output));
        output.status.success()
    }

    #[test]
    fn a_lost_rank_ends_the_group_and_the_run_goes_on_as_if_nothing_had_been() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let what = SMALL
            .replace("--limit-train 192", "--limit-train 1600")
            .replace("--epochs 1", "--epochs 3 --set checkpoint_seconds=0");
        together(folder, 2, &format!("{what} --name whole"));
        let mut finished = false;
        for round in 0..20 {
            let begun = folder.join("runs/run/recipe.toml").exists();
            let arguments = match begun {
                true => "train --resume --name run --device cpu".to_string(),
                false => format!("{what} --name run"),
            };
            finished = until_killed(
                folder,
                &arguments,
                round % 2,
                Duration::from_millis(1_300 + 70 * round as u64),
            );
            if finished {
                break;
            }
        }
        if !finished {
            together(folder, 2, "train --resume --name run --device cpu");
        }
        assert!(
            weights(folder, "whole") == weights(folder, "run"),
            "a step was lost or done twice"
        );
        // And with another number of processes.
        together(folder, 3, "train --resume --name run --epochs 4 --device cpu");
        succeed(folder, "train --resume --name run --epochs 5 --device cpu");
        succeed(folder, "runs --check");
    }

    #[test]
    fn wrong_use_ends_every_rank() {
        let folder = tempfile::tempdir().unwrap();
        for wrong in [
            "train --recipe glyphs-mart --epsilon 3",
            "evaluate nothing",
            "train --recipe nothing",
        ] {
            let began = Instant::now();
            let refused = launch(folder.path(), 2, wrong).output().unwrap();
            assert!(!refused.status.success(), "{wrong}");
            assert!(began.elapsed() < Duration::from_secs(30), "{wrong}");
            assert!(said(&refused).contains("error"), "{wrong}: {}", said(&refused));
        }
    }
}
