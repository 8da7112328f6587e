//! `martlet doctor`.

use anyhow::{Context, Result};

use super::{DeviceOption, RunsDirOption, WrongUse, terminal::say};
use crate::{report::doctor, runs};

/// Arguments of `martlet doctor`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  martlet doctor\n  martlet doctor --device vulkan:0 --run mnist-mart-1")]
pub struct DoctorArguments {
    #[command(flatten)]
    device: DeviceOption,
    /// Add this run's recipe and last lines, without its name and without paths.
    #[arg(long, value_name = "NAME")]
    run: Option<String>,
    #[command(flatten)]
    runs_dir: RunsDirOption,
}

pub(super) fn run(arguments: DoctorArguments) -> Result<()> {
    let runs_dir = &arguments.runs_dir.runs_dir;
    let found = match &arguments.run {
        Some(name) => {
            let list = runs::list(runs_dir).context("the runs cannot be listed")?;
            let found = list.into_iter().find(|run| run.name == *name);
            Some(found.ok_or_else(|| WrongUse(format!("no run is called {name} in {}", runs_dir.display())))?)
        }
        None => None,
    };
    say(doctor::block(&arguments.device.device, found.as_ref()));
    Ok(())
}
