//! The arrows of the house: a module names only modules on an earlier line.

use std::{fs, path::Path};

const LINES: [&[&str]; 13] = [
    &[
        "shapes", "random", "memory", "control", "wording", "protobuf", "seal", "files",
    ],
    &["compute"],
    &["data"],
    &["threat", "nn"],
    &["losses"],
    &["attacks"],
    &["defences", "evaluation"],
    &["recipe"],
    &["runs"],
    &["engine"],
    &["report"],
    &["experiments", "demo_models"],
    &["cli", "app"],
];

/// The window's own lines, below which `app/mod.rs` puts everything together.
const WINDOW: [&[&str]; 11] = [
    &["theme", "series", "picture", "console", "notify", "job", "kinds"],
    &["examples", "export", "canvas", "background"],
    &["atlas", "dialog", "lab", "shown"],
    &["duel"],
    &["command"],
    &["lessons", "messages", "palette"],
    &["settings"],
    &["state"],
    &["status", "top", "guide"],
    &["views"],
    &["bench"],
];

fn line_of(module: &str) -> Option<usize> {
    LINES.iter().position(|line| line.contains(&module))
}

fn rust_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn modules_name_only_earlier_modules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut arrows = 0;
    for path in files {
        let relative = path.strip_prefix(&root).unwrap();
        let own = relative
            .iter()
            .next()
            .unwrap()
            .to_string_lossy()
            .trim_end_matches(".rs")
            .to_string();
        if own == "lib" || own == "main" {
            continue;
        }
        let own_line =
            line_of(&own).unwrap_or_else(|| panic!("{} belongs to no line of the house", relative.display()));
        let source = fs::read_to_string(&path).unwrap();
        for name in named_after(&without_comments(&source), "crate::") {
            let Some(line) = line_of(&name) else { continue };
            arrows += 1;
            assert!(
                name == own || line < own_line,
                "{} names crate::{name}, which is not on an earlier line than {own}",
                relative.display()
            );
        }
    }
    assert!(arrows > 20, "found only {arrows} arrows: the search itself is broken");
}

#[test]
fn only_compute_and_the_window_name_the_gpu_crates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    for path in files {
        let relative = path.strip_prefix(&root).unwrap();
        // The window draws with the wgpu that egui hands it, and names nothing of burn's.
        let inside = relative.starts_with("compute");
        let source = fs::read_to_string(&path).unwrap();
        let egui = source.contains("egui::") || source.contains("eframe::");
        assert!(relative.starts_with("app") || !egui, "{} names egui", path.display());
        if relative.starts_with("app") {
            continue;
        }
        for name in ["cubecl::", "burn_wgpu::", "burn_cubecl::", "wgpu::"] {
            let named = source
                .lines()
                .any(|l| !l.trim_start().starts_with("//") && l.contains(name) && !l.contains("burn::"));
            assert!(inside || !named, "{} names {name}", path.display());
        }
    }
}

fn without_comments(source: &str) -> String {
    let lines: Vec<&str> = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .collect();
    lines.join("\n")
}

/// The names that follow a path's beginning, alone or in braces: `app::{job, state::State}` → job, state.
fn named_after(source: &str, beginning: &str) -> Vec<String> {
    let identifier = |text: &str| -> String {
        text.trim()
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut found = Vec::new();
    for (at, _) in source.match_indices(beginning) {
        // A path that goes on before it begins elsewhere.
        if source[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let after = &source[at + beginning.len()..];
        let Some(inside) = after.strip_prefix('{') else {
            found.push(identifier(after));
            continue;
        };
        let mut depth = 0_usize;
        let mut name = String::new();
        for letter in inside.chars() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => found.push(identifier(&std::mem::take(&mut name))),
                _ => {}
            }
            if depth == 0 && letter != ',' {
                name.push(letter);
            }
        }
        found.push(identifier(&name));
    }
    found.retain(|name| !name.is_empty());
    found
}

#[test]
fn inside_the_window_too() {
    let names = named_after(
        "use crate::app::{job, state::{State, Work}, theme};\ncrate::app::lab::x",
        "crate::app::",
    );
    assert_eq!(names, ["job", "state", "theme", "lab"]);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/app");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let line_of = |module: &str| WINDOW.iter().position(|line| line.contains(&module));
    let mut arrows = 0;
    for path in files {
        let relative = path.strip_prefix(&root).unwrap().with_extension("");
        let mut module: Vec<String> = relative
            .iter()
            .map(|part| part.to_string_lossy().into_owned())
            .collect();
        if module.last().is_some_and(|last| last == "mod") {
            module.pop();
        }
        let Some(own) = module.first() else { continue };
        let own_line = line_of(own).unwrap_or_else(|| panic!("{own} belongs to no line of the window"));
        let source = fs::read_to_string(&path).unwrap();
        let work = source.split("#[cfg(test)]").next().unwrap_or_default();
        let work = without_comments(work);
        let up = "super::".repeat(module.len());
        for name in ["crate::app::", "app::", &up]
            .map(|beginning| named_after(&work, beginning))
            .concat()
        {
            let Some(line) = line_of(&name) else { continue };
            arrows += 1;
            assert!(
                name == *own || line < own_line,
                "{} names {name}, which is not on an earlier line than {own}",
                relative.display()
            );
        }
    }
    assert!(arrows > 100, "found only {arrows} arrows: the search itself is broken");
}
