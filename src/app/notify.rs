//! A notification on the desktop, for whoever does not look at the window.

use anyhow::{Context as _, Result};
use egui::ViewportInfo;
use notify_rust::Notification;

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

/// Shows a notice; comes back when the system has taken it.
///
/// # Errors
/// When the desktop takes no notifications.
pub fn show(notice: &Notice) -> Result<()> {
    let mut message = Notification::new();
    message.summary(&notice.title).body(&escaped(&notice.body));
    #[cfg(all(unix, not(target_os = "macos")))]
    message.appname("Martlet").icon("martlet");
    message.show().context("this desktop takes no notifications")?;
    Ok(())
}

/// A body as the system shows it: on Linux it is read as markup.
fn escaped(body: &str) -> String {
    if cfg!(all(unix, not(target_os = "macos"))) {
        body.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
    } else {
        body.to_string()
    }
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
    #[cfg(all(unix, not(target_os = "macos")))]
    fn nothing_in_a_body_is_markup() {
        assert_eq!(
            escaped("loss < 1 & <b>rising</b>"),
            "loss &lt; 1 &amp; &lt;b&gt;rising&lt;/b&gt;"
        );
    }
}
