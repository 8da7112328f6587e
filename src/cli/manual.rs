//! `martlet completions` and `martlet man`: what a shell and the manual know of the program, made from its own arguments.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap_complete::Shell;

use super::terminal::{note, say};

/// Arguments of `martlet completions`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet completions bash > ~/.local/share/bash-completion/completions/martlet\n  martlet completions zsh > ~/.zfunc/_martlet      # a folder in $fpath\n  martlet completions fish > ~/.config/fish/completions/martlet.fish\n  martlet completions powershell >> $PROFILE"
)]
pub struct CompletionsArguments {
    /// The shell.
    shell: Shell,
}

pub(super) fn completions(arguments: CompletionsArguments, mut program: clap::Command) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(arguments.shell, &mut program, "martlet", &mut text);
    say(String::from_utf8_lossy(&text).trim_end());
    Ok(())
}

/// Arguments of `martlet man`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  martlet man | man -l -\n  martlet man --out ~/.local/share/man/man1")]
pub struct ManArguments {
    /// Write a page for the program and for each command into this folder; without it the program's page is printed.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn man(arguments: ManArguments, program: clap::Command) -> Result<()> {
    let Some(folder) = &arguments.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(program).render(&mut page)?;
        say(String::from_utf8_lossy(&page).trim_end());
        return Ok(());
    };
    let cannot = || format!("the pages cannot be written: {}", folder.display());
    std::fs::create_dir_all(folder).with_context(cannot)?;
    clap_mangen::generate_to(program, folder).with_context(cannot)?;
    note(format!("pages written to {}", folder.display()));
    Ok(())
}
