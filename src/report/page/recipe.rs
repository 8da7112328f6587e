//! What was trained and where, a column for each run.

use std::fmt::Write;

use serde_json::Value;

use super::{moment, text};
use crate::{
    engine::Ended,
    nn::Mode,
    recipe::{Decay, Recipe, Schedule},
    report::{
        escape,
        run::{Ending, RunReport},
    },
    threat::Start,
    wording::{counted, duration, grouped, percent},
};

/// A table with a column for each run.
fn side_by_side(runs: &[RunReport], rows: &[(&str, Vec<String>)]) -> String {
    let mut html = "<div class=\"scroll\">\n<table>\n".to_string();
    if runs.len() > 1 {
        html += "<thead><tr><th scope=\"col\"></th>";
        for run in runs {
            let _ = write!(html, "<th scope=\"col\">{}</th>", escape(&run.label));
        }
        html += "</tr></thead>\n";
    }
    html += "<tbody>\n";
    for (name, cells) in rows
        .iter()
        .filter(|(_, cells)| cells.iter().any(|cell| !cell.is_empty()))
    {
        let differs = cells.windows(2).any(|pair| pair[0] != pair[1]);
        let _ = write!(
            html,
            "<tr{}><th scope=\"row\">{name}</th>",
            if differs { " class=\"differs\"" } else { "" }
        );
        for cell in cells {
            let _ = write!(html, "<td>{}</td>", escape(cell));
        }
        html += "</tr>\n";
    }
    html + "</tbody>\n</table>\n</div>\n"
}

pub fn recipes(runs: &[RunReport]) -> String {
    let row = |cell: &dyn Fn(&Recipe) -> String| runs.iter().map(|run| cell(&run.recipe)).collect::<Vec<_>>();
    let rows = [
        ("Defence", row(&|recipe| recipe.defence.to_string())),
        ("Network", row(&|recipe| recipe.network.to_string())),
        ("Threat", row(&|recipe| recipe.threat.to_string())),
        ("Training attack", row(&training_attack)),
        (
            "Length",
            row(&|recipe| {
                format!(
                    "{}, minibatches of {}",
                    counted(recipe.epochs, "epoch", "epochs"),
                    recipe.batch_size
                )
            }),
        ),
        ("Optimiser", row(&optimiser)),
        ("Learning rate", row(&learning_rate)),
        ("Warm-up", row(&warm_up)),
        ("Augmentation", row(&augmentation)),
        ("Best checkpoint", row(&selection)),
        ("Seed", row(&|recipe| recipe.seed.to_string())),
    ];
    let mut html = "<section>\n<h2>Recipe</h2>\n".to_string();
    if runs.len() > 1 {
        html += "<p class=\"soft\">Rows that differ are marked.</p>\n";
    }
    html += &side_by_side(runs, &rows);
    for run in runs {
        let _ = writeln!(
            html,
            "<details><summary>Whole recipe of {} as TOML</summary><pre>{}</pre></details>",
            escape(&run.name),
            escape(run.recipe_toml.trim_end())
        );
    }
    html + "</section>\n"
}

fn training_attack(recipe: &Recipe) -> String {
    if !recipe.defence.attacks() {
        return "none".into();
    }
    let start = match recipe.attack.start {
        Start::Natural => "from the natural image",
        Start::Uniform => "from a uniform start",
        Start::Gaussian => "from the image with a little Gaussian noise",
    };
    let mode = match recipe.attack.mode {
        Mode::Train => "train",
        Mode::Eval => "evaluation",
    };
    format!(
        "PGD, {} of {}, {start}, network in {mode} mode",
        counted(recipe.attack.steps, "step", "steps"),
        recipe.attack.step_size
    )
}

fn optimiser(recipe: &Recipe) -> String {
    let optimiser = &recipe.optimiser;
    let mut text = format!("SGD, momentum {}", optimiser.momentum);
    if optimiser.nesterov {
        text += " (Nesterov)";
    }
    let decay = match optimiser.decay {
        Decay::All => "all parameters",
        Decay::Weights => "weights alone",
    };
    let _ = write!(text, ", weight decay {} on {decay}", optimiser.weight_decay);
    if let Some(clip) = optimiser.clip_gradient {
        let _ = write!(text, ", gradient clipped at {clip}");
    }
    text
}

fn learning_rate(recipe: &Recipe) -> String {
    let rate = recipe.optimiser.learning_rate;
    match &recipe.schedule {
        Schedule::Constant => format!("{rate}, constant"),
        Schedule::MultiStep { milestones, gamma } => format!("{rate}, times {gamma} from epochs {milestones:?} on"),
        Schedule::Cosine => format!("{rate}, falling as a cosine to 0"),
        Schedule::Cyclic { peak } => format!("rising to {rate} at {} of the run, then falling to 0", percent(*peak)),
    }
}

fn warm_up(recipe: &Recipe) -> String {
    let warm = &recipe.warm_up;
    let mut parts = Vec::new();
    if warm.natural_epochs > 0 {
        parts.push(format!(
            "{} without attack",
            counted(warm.natural_epochs, "epoch", "epochs")
        ));
    }
    if warm.standard_epochs > 0 {
        parts.push(format!(
            "{} of Standard",
            counted(warm.standard_epochs, "epoch", "epochs")
        ));
    }
    if warm.epsilon_epochs > 0.0 {
        parts.push(format!(
            "ε rises over {} {}",
            warm.epsilon_epochs,
            if warm.epsilon_epochs == 1.0 { "epoch" } else { "epochs" }
        ));
    }
    if parts.is_empty() {
        "none".into()
    } else {
        parts.join(", ")
    }
}

fn augmentation(recipe: &Recipe) -> String {
    let augmentation = &recipe.data.augmentation;
    match (augmentation.pad, augmentation.flip) {
        (0, false) => "none".into(),
        (0, true) => "mirrored at random".into(),
        (pad, flip) => format!(
            "padded by {pad} and cropped{}",
            if flip { ", mirrored at random" } else { "" }
        ),
    }
}

fn selection(recipe: &Recipe) -> String {
    let attack = match crate::engine::chooser(&recipe.evaluation.attacks) {
        "natural" => "no attack",
        _ => "all attacks of the evaluation together",
    };
    let split = if recipe.data.held_out == 0 {
        "the test set, which flatters the result"
    } else {
        "held-out images"
    };
    format!("highest accuracy under {attack} on {split}")
}

pub fn circumstances(runs: &[RunReport]) -> String {
    let row = |cell: &dyn Fn(&RunReport) -> String| runs.iter().map(cell).collect::<Vec<_>>();
    let rows = [
        ("Run", row(&|run| run.name.clone())),
        ("Begun", row(&|run| moment(text(&run.identity["created"])))),
        ("State", row(&state)),
        ("Device", row(&device)),
        ("Self-check", row(&self_check)),
        ("Data", row(&data)),
        (
            "Data fingerprint",
            row(&|run| text(&run.identity["data"]["fingerprint"]).to_string()),
        ),
        ("Martlet", row(&|run| text(&run.identity["martlet"]).to_string())),
    ];
    format!(
        "<section>\n<h2>Where it ran</h2>\n{}</section>\n",
        side_by_side(runs, &rows)
    )
}

fn state(run: &RunReport) -> String {
    let sessions = run.identity["sessions"].as_array().map_or(0, Vec::len);
    let resumed = if sessions > 1 {
        format!(", in {sessions} sessions")
    } else {
        String::new()
    };
    let ended = |how: &str, ended: &Ended| {
        let best = ended.best.as_ref().map(|best| {
            format!(
                "; best epoch {} ({} {})",
                best.epoch,
                percent(best.accuracy),
                best.under
            )
        });
        format!(
            "{how} after {} and {}, last session {}{resumed}{}",
            counted(ended.epochs, "epoch", "epochs"),
            counted(ended.total_steps, "minibatch", "minibatches"),
            duration(ended.clock.seconds),
            best.unwrap_or_default()
        )
    };
    match &run.ending {
        Ending::Finished(end) => ended("finished", end),
        Ending::Stopped(end) => ended("stopped", end),
        Ending::Failed(_) => format!("stopped early by an error{resumed}"),
        Ending::Open => format!("not finished{resumed}"),
    }
}

fn device(run: &RunReport) -> String {
    let sessions = run.identity["sessions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let devices = sessions
        .iter()
        .map(|session| &session["device"])
        .chain([&run.identity["device"]]);
    let mut names: Vec<String> = Vec::new();
    for device in devices {
        let info = &device["info"];
        let name = format!(
            "{} ({}, {})",
            text(&info["name"]),
            text(&info["api"]),
            text(&info["driver"])
        );
        if !text(&info["name"]).is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names.join("; ")
}

fn self_check(run: &RunReport) -> String {
    let verdict = &run.identity["device"]["self_check"];
    let comparisons = verdict["worst"].as_array().map(Vec::as_slice).unwrap_or_default();
    let worst = comparisons.first().map(|worst| {
        let difference = worst["relative_difference"].as_f64().unwrap_or(f64::NAN);
        format!(
            "; worst: {}, relative difference {difference:.1e}",
            text(&worst["name"])
        )
    });
    let worst = worst.unwrap_or_default();
    match verdict["passed"].as_bool() {
        Some(true) if comparisons.is_empty() => "the processor, the reference itself".into(),
        Some(true) => format!("agrees with the CPU in all {} comparisons{worst}", comparisons.len()),
        Some(false) => format!("DISAGREES with the CPU{worst}"),
        None => String::new(),
    }
}

fn count(value: &Value) -> Option<usize> {
    usize::try_from(value.as_u64()?).ok()
}

fn data(run: &RunReport) -> String {
    let data = &run.identity["data"];
    let mut text_of = text(&data["name"]).to_string();
    if let Some(examples) = count(&data["examples"]) {
        let _ = write!(text_of, ", {} training images", grouped(examples));
    }
    if let Some(evaluated) = count(&data["evaluated"]) {
        let _ = write!(text_of, ", {} {} images", grouped(evaluated), text(&data["split"]));
    }
    if let Some(note) = data["note"].as_str() {
        let _ = write!(text_of, " ({note})");
    }
    text_of
}
