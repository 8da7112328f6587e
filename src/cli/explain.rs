//! `martlet explain`: the page of warnings, from the program itself.

use anyhow::Result;

use super::{WrongUse, terminal::say};
use crate::{evaluation::warning_sections, wording::meant};

/// Arguments of `martlet explain`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  martlet explain\n  martlet explain small-sample")]
pub struct ExplainArguments {
    /// The warning's name, as it stands beside the warning; all of them are listed without it.
    name: Option<String>,
}

pub(super) fn run(arguments: &ExplainArguments) -> Result<()> {
    let sections = warning_sections();
    let Some(name) = &arguments.name else {
        for (name, text) in sections {
            say(format!("{name:<36}{}", text.lines().next().unwrap_or_default()));
        }
        return Ok(());
    };
    let plain = name.rsplit('#').next().unwrap_or(name);
    match sections.iter().find(|(known, _)| known == plain) {
        Some((_, text)) => say(text.trim_end()),
        None => {
            let known = sections.iter().map(|(known, _)| known.as_str());
            let meant = meant(plain, known);
            let wrong = format!("no warning is called {name}{meant}; `martlet explain` lists them");
            return Err(WrongUse(wrong).into());
        }
    }
    Ok(())
}
