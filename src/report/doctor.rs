//! What a bug report needs, in one block: versions, devices, the self-check's verdict, a run's recipe and its last lines. It holds
//! nothing of the person: no names of runs or folders, and no paths.

use std::fmt::Write;

use crate::{
    compute,
    engine::device_check,
    recipe::Recipe,
    runs::{Run, Summary},
};

/// The last lines of a run's metrics that are shown.
const LINES: usize = 5;

/// The block, as Markdown that an issue shows as it is. `choice` is the device that is looked at, `run` the run that the fault
/// was seen in. It fails at nothing: what cannot be found out is said in its place.
pub fn block(choice: &str, run: Option<&Summary>) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<11} {}", value.trim_end().replace('\n', "\n            "));
    };
    line("martlet", version());
    line("system", compute::system());
    for (number, device) in compute::devices().into_iter().enumerate() {
        let memory = device.memory_bytes.map_or("memory unknown".to_string(), |bytes| {
            format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64)
        });
        let told = format!(
            "{}: {} ({}, {}, {memory})",
            device.selector, device.name, device.kind, device.driver
        );
        line(if number == 0 { "devices" } else { "" }, told);
    }
    for name in [
        "WGPU_BACKEND",
        "VK_ICD_FILENAMES",
        "VK_DRIVER_FILES",
        "DISPLAY",
        "WAYLAND_DISPLAY",
    ] {
        if std::env::var_os(name).is_some_and(|value| !value.is_empty()) {
            // Whether it is set matters; what it says may be a path.
            line("environment", format!("{name} is set"));
        }
    }
    match compute::open(choice) {
        Ok(device) => {
            line("device", format!("{choice}: {}", device.info().name));
            line(
                "self-check",
                device_check::cached_or_check(&device)
                    .map_or_else(|error| error.to_string(), |verdict| verdict.to_string()),
            );
        }
        Err(error) => line("device", error.to_string()),
    }
    if let Some(summary) = run {
        line("run", summary.state.to_string());
        line("recipe", recipe(&summary.recipe));
        line("last lines", last_lines(summary));
    }
    format!("```text\n{text}```")
}

fn version() -> String {
    let features = [
        ("app", cfg!(feature = "app")),
        ("fusion", cfg!(feature = "fusion")),
        ("spirv", cfg!(feature = "spirv")),
    ];
    let on: Vec<&str> = features.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
    format!(
        "{} for {} on {}, with {}, burn 0.22.1",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH,
        if on.is_empty() {
            "no features".to_string()
        } else {
            on.join(", ")
        }
    )
}

/// The recipe without the places where a person keeps data.
fn recipe(text: &str) -> String {
    let Ok(mut recipe) = Recipe::from_toml(text) else {
        return "cannot be read".to_string();
    };
    let kind_of = |source: &str| match source.split_once(':') {
        Some((kind, _)) if kind != "glyphs" => format!("{kind}:…"),
        _ => source.to_string(),
    };
    recipe.data.source = kind_of(&recipe.data.source);
    if let Some(unlabelled) = &mut recipe.data.unlabelled {
        unlabelled.source = kind_of(&unlabelled.source);
    }
    recipe.to_toml()
}

fn last_lines(summary: &Summary) -> String {
    match Run::open(&summary.folder).and_then(|run| run.metrics()) {
        Ok(events) if events.is_empty() => "none".to_string(),
        Ok(events) => events[events.len().saturating_sub(LINES)..]
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
        // The reason ends in the path.
        Err(error) => error.to_string().replace(&*summary.folder.to_string_lossy(), "…"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_recipe_is_shown_without_the_places_of_data() {
        let mut own = crate::recipe::preset("glyphs-mart").unwrap();
        assert!(recipe(&own.to_toml()).contains("source = \"glyphs\""));
        own.data.source = "mnist:/home/ada/secret".to_string();
        let shown = recipe(&own.to_toml());
        assert!(
            shown.contains("source = \"mnist:…\"") && !shown.contains("ada"),
            "{shown}"
        );
    }
}
