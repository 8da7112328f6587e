//! What other programs get from a run, and what the program tells of itself, as a person calls it.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn martlet(arguments: &str, folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_martlet"))
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// How often bytes stand in a file.
fn count(file: &[u8], text: &str) -> usize {
    file.windows(text.len())
        .filter(|window| *window == text.as_bytes())
        .count()
}

#[test]
fn a_run_goes_to_tensorboard_to_a_table_to_onnx_and_into_a_report() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    said(&martlet(
        "train --recipe glyphs-mart --device cpu --epochs 2 --batch-size 16 --limit-train 64 --held-out 16 --steps 1 \
         --set evaluation.attacks=[\"natural\",\"fgsm\"] --set evaluation.limit=16 --set log_every=1 --name private \
         --tensorboard live",
        here,
    ));
    let only_file = |path: &str| {
        let mut entries = fs::read_dir(here.join(path)).unwrap();
        let file = fs::read(entries.next().unwrap().unwrap().path()).unwrap();
        assert!(entries.next().is_none());
        file
    };
    said(&martlet("runs --tensorboard private --out afterwards", here));
    for path in ["live", "afterwards"] {
        let file = only_file(path);
        assert_eq!(count(&file, "brain.Event:2"), 1);
        // Four minibatches an epoch, two epochs.
        assert_eq!(
            (count(&file, "train/loss"), count(&file, "held-out/fgsm")),
            (8, 2),
            "{path}"
        );
    }

    said(&martlet("runs --csv private --out metrics.csv", here));
    let table = fs::read_to_string(here.join("metrics.csv")).unwrap();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 1 + 8 + 2);
    assert!(
        lines[0].starts_with("event,epoch,step,seconds,") && lines[0].contains(",held-out/fgsm,"),
        "{}",
        lines[0]
    );
    assert!(lines[10].starts_with("epoch,2,8,"), "{}", lines[10]);

    said(&martlet("export runs/private --out network.onnx", here));
    assert!(count(&fs::read(here.join("network.onnx")).unwrap(), "images") >= 2);
    let refused = martlet("export runs/private --out network.h5", here);
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(2) && error.contains("FILE.safetensors or FILE.onnx"),
        "{error}"
    );

    let report = said(&martlet("doctor --device cpu --run private", here));
    for needed in [
        "martlet     0.",
        "devices",
        "self-check",
        "recipe      network = ",
        "\"event\":\"finished\"",
        "source = \"glyphs\"",
    ] {
        assert!(report.contains(needed), "{needed}: {report}");
    }
    assert!(
        !report.contains("private") && !report.contains(&*here.to_string_lossy()),
        "{report}"
    );
    let none = martlet("doctor --device cpu --run nobody", here);
    assert_eq!(none.status.code(), Some(2));
    assert!(said(&martlet("doctor --device no-such-card", here)).contains("no-such-card"));
}

#[test]
fn every_command_has_a_page_and_every_shell_its_completions() {
    let folder = tempfile::tempdir().unwrap();
    let page = said(&martlet("man", folder.path()));
    assert!(
        page.contains(".TH martlet 1") && page.contains("martlet\\-train(1)"),
        "{page}"
    );
    said(&martlet("man --out pages", folder.path()));
    let train = fs::read_to_string(folder.path().join("pages/martlet-train.1")).unwrap();
    assert!(train.contains("\\-\\-resume"), "{train}");
    for (shell, sign) in [
        ("bash", "complete -F _martlet"),
        ("zsh", "#compdef martlet"),
        ("fish", "complete -c martlet"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let text = said(&martlet(&format!("completions {shell}"), folder.path()));
        assert!(text.contains(sign) && text.contains("tensorboard"), "{shell}");
    }
}
