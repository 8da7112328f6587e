//! The book (`docs/`): its recipe reference is what the types say, its links lead somewhere, its commands and sources exist.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use martlet::recipe::preset;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A field or a variant: its name, its type, what its documentation says.
struct Entry {
    name: String,
    kind: String,
    text: String,
}

/// What a type's source, as rustfmt leaves it, documents: its own text, and its fields or variants. A variant's fields follow it as
/// `Variant.field`.
fn documented(file: &str, kind: &str, name: &str) -> (String, Vec<Entry>) {
    let source = read(file);
    let (mut text, mut docs) = (None, String::new());
    let (mut entries, mut variant) = (Vec::new(), None);
    for line in source.lines() {
        let bare = line.trim();
        if let Some(more) = bare.strip_prefix("///") {
            docs += more;
            continue;
        }
        if bare.starts_with("#[") || bare.starts_with(')') {
            continue;
        }
        let said = std::mem::take(&mut docs)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        if text.is_none() {
            if bare == format!("pub {kind} {name} {{") {
                text = Some(said);
            }
            continue;
        }
        if line == "}" {
            break;
        }
        let indent = line.len() - line.trim_start().len();
        let field = bare.trim_end_matches(',').trim_start_matches("pub ").split_once(": ");
        match (indent, field) {
            (4, Some((name, kind))) => entries.push((name.to_string(), kind.to_string(), said)),
            (4, None) if bare != "}," => {
                let name = bare.trim_end_matches([' ', '{', ',']).to_string();
                variant = Some(name.clone());
                entries.push((name, String::new(), said));
            }
            (8, Some((name, kind))) => {
                let whole = format!("{}.{name}", variant.as_deref().unwrap_or_default());
                entries.push((whole, kind.to_string(), said));
            }
            _ => {}
        }
    }
    let text = text.unwrap_or_else(|| panic!("{file} has no {kind} {name}"));
    let entries = entries.into_iter().map(|(name, kind, text)| Entry { name, kind, text });
    (text, entries.collect())
}

/// `NFgsm` as a recipe writes it: `n-fgsm`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for (position, letter) in name.chars().enumerate() {
        if letter.is_uppercase() && position > 0 {
            out.push('-');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

fn reference() -> String {
    let shown: BTreeMap<String, String> = preset("mnist-mart-paper").unwrap().fields();
    let mut page = "# Recipe reference\n\n\
        Every field of a recipe, in the words of the program's own types. A test writes this page from them. The last column is the\n\
        built-in `mnist-mart-paper`; a field that it does not state is empty. `martlet train --show-recipe` prints a whole recipe, and\n\
        `--set FIELD=VALUE` changes one by the name in the first column.\n"
        .to_string();
    let recipe = "src/recipe/mod.rs";
    for (file, name, prefix) in [
        (recipe, "Recipe", ""),
        (recipe, "DataSpec", "data."),
        ("src/data/augment.rs", "Augmentation", "data.augmentation."),
        (recipe, "Unlabelled", "data.unlabelled."),
        ("src/threat.rs", "ThreatModel", "threat."),
        (recipe, "TrainingAttack", "attack."),
        (recipe, "Optimiser", "optimiser."),
        (recipe, "WarmUp", "warm_up."),
        (
            "src/defences/weight_perturbation.rs",
            "WeightPerturbation",
            "weight_perturbation.",
        ),
        (recipe, "WeightAverage", "average."),
        (recipe, "EarlyStop", "early_stop."),
        (recipe, "EpochEvaluation", "evaluation."),
    ] {
        let (text, fields) = documented(file, "struct", name);
        assert!(!fields.is_empty(), "{name} has no fields");
        let heading = if prefix.is_empty() {
            "The whole"
        } else {
            prefix.trim_end_matches('.')
        };
        let _ = write!(
            page,
            "\n## {heading}\n\n{text}\n\n| field | what it is | mnist-mart-paper |\n|---|---|---|\n"
        );
        for field in fields {
            let path = format!("{prefix}{}", field.name);
            let is_table = shown.keys().any(|key| key.starts_with(&format!("{path}.")));
            let value = match shown.get(&path) {
                Some(value) => format!("`{value}`"),
                None if is_table => "see below".to_string(),
                None => String::new(),
            };
            let optional = if field.kind.starts_with("Option<") {
                " Optional."
            } else {
                ""
            };
            let _ = writeln!(
                page,
                "| `{path}` | {}{optional} | {value} |",
                field.text.replace('|', "\\|")
            );
        }
    }
    for (file, name, prefix, what) in [
        (
            "src/defences/spec.rs",
            "DefenceSpec",
            "defence",
            "`defence.kind` is one of these; each has fields of its own.",
        ),
        (
            "src/recipe/schedule.rs",
            "Schedule",
            "schedule",
            "`schedule.kind` is one of these; each has fields of its own.",
        ),
    ] {
        let (text, entries) = documented(file, "enum", name);
        let _ = write!(
            page,
            "\n## {prefix}\n\n{text} {what}\n\n| kind or field | what it is |\n|---|---|\n"
        );
        for entry in entries {
            let text = entry.text.replace('|', "\\|");
            let _ = match entry.name.split_once('.') {
                Some((_, field)) => writeln!(page, "| — `{prefix}.{field}` | {text} |"),
                None => writeln!(page, "| **`{}`** | {text} |", kebab(&entry.name)),
            };
        }
    }
    // rustdoc's links to items lead nowhere here.
    page.replace("[`", "`").replace("`]", "`")
}

#[test]
fn the_recipe_reference_is_what_the_types_say() {
    let page = reference();
    for needed in [
        "| `optimiser.learning_rate` |",
        "| **`n-fgsm`** |",
        "`defence.max_margin`",
        "| `evaluation.attacks` |",
    ] {
        assert!(page.contains(needed), "{needed}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/recipe-reference.md");
    if std::env::var_os("MARTLET_WRITE_BOOK").is_some() {
        fs::write(&path, &page).unwrap();
    }
    assert!(
        fs::read_to_string(&path).is_ok_and(|text| text == page),
        "docs/recipe-reference.md is behind the types: MARTLET_WRITE_BOOK=1 cargo test --release --test book"
    );
}

/// Every page of the book, and the papers beside README.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for folder in ["", "docs", "docs/measurements"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "md") && !path.ends_with("THIRD-PARTY.md") {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
                pages.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    pages
}

#[test]
fn links_lead_to_files_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut links = 0;
    for (page, text) in pages() {
        for after in text.split("](").skip(1) {
            let target = after.split([')', '#']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            links += 1;
            let folder = Path::new(&page).parent().unwrap();
            assert!(root.join(folder).join(target).exists(), "{page} links to {target}");
        }
        for included in text.split("{{#include ").skip(1) {
            let target = included.split(['}', ':']).next().unwrap_or_default();
            links += 1;
            assert!(root.join("docs").join(target).exists(), "{page} includes {target}");
        }
    }
    assert!(links > 30, "found only {links} links: the search itself is broken");
}

#[test]
fn every_page_of_the_book_stands_in_its_summary() {
    let summary = read("docs/SUMMARY.md");
    for (page, _) in pages() {
        if let Some(name) = page.strip_prefix("docs/")
            && name != "SUMMARY.md"
        {
            assert!(summary.contains(&format!("]({name})")), "docs/SUMMARY.md lacks {name}");
        }
    }
}

/// Commands and options of a page's examples are those that the program has.
#[test]
fn commands_in_the_book_are_commands() {
    let help = |command: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_martlet"))
            .args(command.split_whitespace().chain(["--help"]))
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    let (mut known, mut checked) = (BTreeMap::new(), 0);
    for (page, text) in pages() {
        if page.starts_with("docs/measurements") || page == "CHANGELOG.md" {
            continue;
        }
        let mut fenced = false;
        for line in text.lines() {
            if line.starts_with("```") {
                fenced = !fenced;
                continue;
            }
            let line = line.split(" #").next().unwrap_or_default();
            let Some(words) = line.trim().strip_prefix("martlet ").filter(|_| fenced) else {
                continue;
            };
            let words: Vec<&str> = words.split_whitespace().collect();
            let nested = ["data", "experiment", "bench"].contains(&words[0]);
            let command = words[..if nested { 2 } else { 1 }.min(words.len())].join(" ");
            let (found, options) = known.entry(command.clone()).or_insert_with(|| help(&command));
            assert!(*found, "{page}: no command is called martlet {command}");
            for option in words.iter().filter(|word| word.starts_with("--")) {
                let option = option.split('=').next().unwrap_or_default();
                assert!(options.contains(option), "{page}: martlet {command} has no {option}");
            }
            checked += 1;
        }
    }
    assert!(
        checked > 30,
        "found only {checked} commands: the search itself is broken"
    );
}
