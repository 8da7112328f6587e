//! A notification on the desktop, for whoever does not look at the window.
//!
//! Each system has a command of its own for it; texts are handed over as arguments or variables, never as a part of a
//! script.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use egui::ViewportInfo;

/// What a notification says.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// In one line.
    pub title: String,
    /// What else there is to know.
    pub body: String,
}

/// How a training ended, as a notification says it.
pub fn ended(run: &str, how: &str) -> Notice {
    Notice {
        title: format!("{run} {how}"),
        body: "The run and its checkpoints are kept.".to_string(),
    }
}

/// Why a training failed, as a notification says it.
pub fn failed(run: Option<&str>, error: &str) -> Notice {
    Notice {
        title: match run {
            Some(run) => format!("{run} broke off"),
            None => "Training did not start".to_string(),
        },
        body: error.to_string(),
    }
}

/// Whether nobody looks at the window: it is hidden, or another one has the keys. A system that tells nothing is taken
/// to show it.
pub fn is_unseen(window: &ViewportInfo) -> bool {
    window.focused == Some(false) || window.visible() == Some(false)
}

/// Shows a notice; comes back when the system's command does.
///
/// # Errors
/// When the command is missing or fails.
pub fn show(notice: &Notice) -> Result<()> {
    let mut command = system_command(notice);
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("a notification needs the command {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} failed: {}", said.trim());
    Ok(())
}

#[cfg(all(unix, not(target_os = "macos")))]
fn system_command(notice: &Notice) -> Command {
    let mut command = Command::new("notify-send");
    command.args(["--app-name=Martlet", "--", &notice.title, &notice.body]);
    command
}

#[cfg(target_os = "macos")]
fn system_command(notice: &Notice) -> Command {
    let mut command = Command::new("osascript");
    command
        .args(["-e", "on run argv", "-e"])
        .arg("display notification (item 2 of argv) with title (item 1 of argv)")
        .args(["-e", "end run", &notice.title, &notice.body]);
    command
}

#[cfg(windows)]
fn system_command(notice: &Notice) -> Command {
    use std::os::windows::process::CommandExt;
    /// No console flashes up (`CREATE_NO_WINDOW` of the Windows API).
    const NO_WINDOW: u32 = 0x0800_0000;
    /// A toast needs a registered program to come from; PowerShell is one.
    const SCRIPT: &str = r"
$ErrorActionPreference = 'Stop'
[Windows.UI.Notifications.ToastNotificationManager, Windows.UI.Notifications, ContentType = WindowsRuntime] | Out-Null
$kind = [Windows.UI.Notifications.ToastTemplateType]::ToastText02
$toast = [Windows.UI.Notifications.ToastNotificationManager]::GetTemplateContent($kind)
$lines = $toast.GetElementsByTagName('text')
$lines.Item(0).AppendChild($toast.CreateTextNode($env:MARTLET_TITLE)) | Out-Null
$lines.Item(1).AppendChild($toast.CreateTextNode($env:MARTLET_BODY)) | Out-Null
$from = '{1AC14E77-02E7-4E5D-B744-2EB1AE5198B7}\WindowsPowerShell\v1.0\powershell.exe'
[Windows.UI.Notifications.ToastNotificationManager]::CreateToastNotifier($from).Show($toast)
";
    let mut command = Command::new("powershell");
    command
        .args(["-NoProfile", "-NonInteractive", "-Command", SCRIPT])
        .env("MARTLET_TITLE", &notice.title)
        .env("MARTLET_BODY", &notice.body)
        .creation_flags(NO_WINDOW);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_window_that_is_hidden_or_behind_others_calls_for_a_notification() {
        let window = |focused, minimized, occluded| ViewportInfo {
            focused,
            minimized,
            occluded,
            ..ViewportInfo::default()
        };
        assert!(!is_unseen(&window(None, None, None)), "nothing is known");
        assert!(!is_unseen(&window(Some(true), Some(false), Some(false))));
        assert!(!is_unseen(&window(Some(true), Some(false), None)));
        assert!(is_unseen(&window(Some(false), Some(false), Some(false))), "unfocused");
        assert!(is_unseen(&window(Some(true), Some(true), None)), "minimised");
        assert!(is_unseen(&window(None, Some(false), Some(true))), "covered");
    }

    #[test]
    fn a_notice_names_the_run_and_what_became_of_it() {
        assert_eq!(
            ended("glyphs-mart-1", "finished; best epoch 7").title,
            "glyphs-mart-1 finished; best epoch 7"
        );
        let notice = failed(Some("glyphs-mart-1"), "the loss is not a number");
        assert_eq!(
            (notice.title.as_str(), notice.body.as_str()),
            ("glyphs-mart-1 broke off", "the loss is not a number")
        );
        assert_eq!(failed(None, "no device").title, "Training did not start");
    }

    #[test]
    #[cfg(unix)]
    fn texts_reach_the_system_as_they_are() {
        let notice = Notice {
            title: "--help; $(touch x)".to_string(),
            body: "\"quoted\"".to_string(),
        };
        let command = system_command(&notice);
        let arguments: Vec<_> = command.get_args().filter_map(|argument| argument.to_str()).collect();
        assert!(arguments.ends_with(&[notice.title.as_str(), notice.body.as_str()]));
    }
}
