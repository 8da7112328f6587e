//! Asking for a file: the desktop's own dialog, and what is known where none appears.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rfd::FileDialog;

use super::background::Background;

/// Nobody answers a dialog faster than that: then none has appeared. A desktop without a portal and without zenity has none.
const TOO_FAST: Duration = Duration::from_millis(400);

/// What to do where a file cannot be asked for.
const NO_DIALOG: &str =
    "No file dialog opens here: it needs xdg-desktop-portal or zenity. Drop the file or folder on the window instead";

/// What came of a dialog.
enum Asked {
    /// A path.
    Path(PathBuf),
    /// The person thought better of it.
    Cancelled,
    /// No dialog has appeared.
    NoDialog,
}

/// Whether anything is there that could open one: on Linux a session bus with a portal on it, or zenity.
fn can_open() -> bool {
    if !cfg!(target_os = "linux") {
        return true;
    }
    let bus = std::env::var_os("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("bus"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::var_os("DBUS_SESSION_BUS_ADDRESS").is_some()
        || bus.is_some_and(|bus| bus.exists())
        || std::env::split_paths(&path).any(|folder| folder.join("zenity").exists())
}

/// Opens a dialog and waits for its answer; never on the window's own thread.
fn ask(pick: impl FnOnce(FileDialog) -> Option<PathBuf>) -> Asked {
    if !can_open() {
        return Asked::NoDialog;
    }
    let began = Instant::now();
    match pick(FileDialog::new()) {
        Some(path) => Asked::Path(path),
        None if began.elapsed() < TOO_FAST => Asked::NoDialog,
        None => Asked::Cancelled,
    }
}

/// Asks for a file or folder to read, on a thread of its own: tells `picked` of it, or `failed` where no dialog opens.
pub fn open<M: Send + 'static>(
    ctx: &egui::Context,
    failed: fn(String) -> M,
    picked: impl FnOnce(PathBuf) -> M + Send + 'static,
    pick: impl FnOnce(FileDialog) -> Option<PathBuf> + Send + 'static,
) -> Background<M> {
    Background::start("file dialog", ctx, failed, move |_, teller| {
        match ask(pick) {
            Asked::Path(path) => teller.tell(picked(path)),
            Asked::Cancelled => {}
            Asked::NoDialog => teller.tell(failed(NO_DIALOG.to_string())),
        }
        Ok(())
    })
}

/// Where to write a file called `name`, and what to say about it before its path: where the person says, or in `folder`
/// under a name that is free where no dialog opens; none where the person thought better of it.
pub fn ask_where(folder: &Path, name: &str, form: &str) -> Option<(PathBuf, &'static str)> {
    let asked = ask(|dialog| {
        let dialog = dialog.set_directory(folder).set_file_name(format!("{name}.{form}"));
        dialog.add_filter(form, &[form]).save_file()
    });
    match asked {
        Asked::Path(path) => Some((path, "Saved")),
        Asked::Cancelled => None,
        Asked::NoDialog => {
            let numbered = |number: usize| match number {
                1 => folder.join(format!("{name}.{form}")),
                number => folder.join(format!("{name}-{number}.{form}")),
            };
            let path = (1..).map(numbered).find(|path| !path.exists())?;
            Some((path, "No file dialog opens here, so it is saved as"))
        }
    }
}
