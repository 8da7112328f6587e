//! Where verdicts are kept between two starts of the program.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Device, Verdict};
use crate::files::write_whole;

/// Where the verdict on a device is kept: in the user's cache folder, named by everything that it depends on.
fn place(kind: &str, device: &Device, subject: &str) -> Option<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = variable("XDG_CACHE_HOME").or_else(|| {
        if cfg!(target_os = "windows") {
            variable("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            variable("HOME").map(|home| home.join("Library/Caches"))
        } else {
            variable("HOME").map(|home| home.join(".cache"))
        }
    })?;
    let info = device.info();
    let compiler = if cfg!(feature = "spirv") { "spirv" } else { "wgsl" };
    let fusion = if cfg!(feature = "fusion") { "fusion" } else { "plain" };
    let parts = [info.api.as_str(), &info.name, &info.driver, compiler, fusion, subject];
    Some(
        cache
            .join("martlet")
            .join(kind)
            .join(format!("{}.json", file_name(&parts.join(" ")))),
    )
}

/// Letters, digits and dots of `text` in lower case, everything else as single hyphens, at most 200 bytes.
fn file_name(text: &str) -> String {
    let mut name = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || character == '.' {
            name.push(character.to_ascii_lowercase());
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let from = name.len().saturating_sub(200);
    name[from..].trim_matches(['-', '.']).to_string()
}

/// What this build has found out about a device, and when.
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    device: String,
    build: String,
    found: T,
}

/// What this build kept about a device and `subject` under `kind` no longer ago than `age`.
pub fn kept<T: DeserializeOwned>(kind: &str, device: &Device, subject: &str, age: Duration) -> Option<T> {
    let place = place(kind, device, subject)?;
    let written = std::fs::metadata(&place).ok()?.modified().ok()?;
    let kept: Kept<T> = serde_json::from_slice(&std::fs::read(place).ok()?).ok()?;
    let is_new = written.elapsed().is_ok_and(|passed| passed <= age);
    (is_new && kept.device == device.info().name && kept.build == build()).then_some(kept.found)
}

/// Keeps something for [`kept`]. A cache that cannot be written only costs the next measurement.
pub fn keep<T: Serialize>(kind: &str, device: &Device, subject: &str, found: &T) {
    let kept = Kept {
        device: device.info().name.clone(),
        build: build(),
        found,
    };
    if let (Some(place), Ok(text)) = (place(kind, device, subject), serde_json::to_vec_pretty(&kept)) {
        write(&place, &text);
    }
}

fn write(place: &Path, text: &[u8]) {
    let Some(folder) = place.parent() else { return };
    // Without the folder the file fails too.
    let _ = std::fs::create_dir_all(folder);
    let _ = write_whole(place, text);
}

/// The verdict that this build kept on the device with its driver and on `subject`.
pub fn recall(device: &Device, subject: &str) -> Option<Verdict> {
    let verdict: Verdict = serde_json::from_slice(&std::fs::read(place("self-check", device, subject)?).ok()?).ok()?;
    (verdict.device == device.info().name && verdict.build == build()).then_some(verdict)
}

/// Which build of the program runs: the size and time of its file, which a new version or another compiler changes.
pub(super) fn build() -> String {
    let file = std::env::current_exe().and_then(std::fs::metadata);
    let described = file.and_then(|file| Ok((file.len(), file.modified()?)));
    let (length, time) = described.unwrap_or((0, UNIX_EPOCH));
    format!("{} {length} {}", env!("CARGO_PKG_VERSION"), utc(time))
}

pub(super) fn remember(device: &Device, subject: &str, verdict: &Verdict) {
    if let (Some(place), Ok(text)) = (place("self-check", device, subject), serde_json::to_vec_pretty(verdict)) {
        write(&place, &text);
    }
}

/// The date and time of day in UTC, to the second.
pub(super) fn utc(time: SystemTime) -> String {
    DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_file_names_are_readable() {
        let at = |seconds| utc(UNIX_EPOCH + std::time::Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59Z");
        assert_eq!(
            file_name("Vulkan AMD Radeon(TM) 780M, Mesa 25.0/1"),
            "vulkan-amd-radeon-tm-780m-mesa-25.0-1"
        );
        assert!(!file_name("../../etc").contains('/'));
    }
}
