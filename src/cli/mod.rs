//! The terminal: arguments as typed → as meant → work.

mod attack;
mod bench;
mod data;
pub mod demo;
mod demo_models;
mod devices;
mod doctor;
mod evaluate;
mod experiment;
mod explain;
mod group;
mod manual;
mod model;
mod output;
mod recipe;
mod reporter;
mod runs;
mod seeds;
mod serve;
mod stop;
pub mod terminal;
mod train;
mod weights;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

pub use reporter::Reporter;
use stop::stop_on_interrupt;

/// Trains and attacks image classifiers on any Vulkan, Metal or DX12 GPU, or on the CPU.
#[derive(Parser)]
#[command(
    name = "martlet",
    version,
    about,
    after_help = "Without a command Martlet opens its window. Where there is no display it shows what it does: it shows in two minutes what misclassified examples are worth.\n\nExamples:\n  martlet train --recipe mnist-mart --dataset mnist:DIR\n  martlet evaluate runs/mnist-mart-1 --attacks natural,fgsm,pgd-20,cw-20\n  martlet devices"
)]
struct Arguments {
    /// The memory that reading data or weights may take, such as 8GiB; three quarters of what is free where nothing is said, here or in
    /// MARTLET_MEMORY.
    #[arg(long, global = true, value_name = "SIZE", help_heading = "Global options")]
    memory: Option<crate::memory::Size>,
    /// Leave out notes and progress; results, warnings of a result and errors stay.
    #[arg(long, short, global = true, help_heading = "Global options")]
    quiet: bool,
    /// Say more: what a device is and when it was checked, what was read and how long it took, the memory allowed.
    #[arg(
        long,
        short,
        global = true,
        conflicts_with = "quiet",
        help_heading = "Global options"
    )]
    verbose: bool,
    /// Processor threads; all of them where nothing is said. Results do not depend on it.
    #[arg(long, global = true, value_name = "N", value_parser = positive, help_heading = "Global options")]
    threads: Option<usize>,
    /// The file with the token of remote devices, where they are served and where they are used; also MARTLET_TOKEN_FILE.
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    token_file: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Show in two minutes what misclassified examples are worth, on the built-in data.
    Demo(demo::DemoArguments),
    /// List or write out the two trained networks that come with Martlet.
    DemoModels(demo_models::DemoModelsArguments),
    /// Train a network; Ctrl-C checkpoints, --resume goes on.
    Train(Box<train::TrainArguments>),
    /// Measure how a trained network stands up to attacks.
    Evaluate(Box<evaluate::EvaluateArguments>),
    /// Put the shares of an evaluation together.
    Merge(evaluate::MergeArguments),
    /// Attack a few images and keep the pictures.
    Attack(attack::AttackArguments),
    /// Run the paper's tables and figures, and set what came out beside them.
    Experiment(experiment::ExperimentArguments),
    /// List, show and delete runs.
    Runs(runs::RunsArguments),
    /// List the devices of this machine, or check one against the CPU.
    Devices(devices::DevicesArguments),
    /// Let a person at another machine compute on a device of this one (feature remote).
    Serve(serve::ServeArguments),
    /// Measure a device or the window.
    Bench(bench::BenchArguments),
    /// Get, show and describe data sets.
    Data(data::DataArguments),
    /// Write a run's weights: safetensors with PyTorch's names, or ONNX.
    Export(weights::ExportArguments),
    /// Read weights from PyTorch and check that they fit a network.
    Import(weights::ImportArguments),
    /// Explain a warning: when it is raised, why it matters, what to do.
    Explain(explain::ExplainArguments),
    /// Print what a bug report needs: versions, devices, self-check, a run's recipe and last lines.
    Doctor(doctor::DoctorArguments),
    /// Print completions for a shell.
    Completions(manual::CompletionsArguments),
    /// Print the manual's page, or write them all.
    Man(manual::ManArguments),
}

/// Options that every command with a device shares.
#[derive(clap::Args, Clone)]
pub struct DeviceOption {
    /// auto, cpu, gpu:N, vulkan:N, metal:N, dx12:N, remote:HOST:PORT, or a part of the device's name.
    #[arg(long, default_value = "auto")]
    pub device: String,
}

impl Default for DeviceOption {
    fn default() -> Self {
        Self { device: "auto".into() }
    }
}

/// Where runs live.
#[derive(clap::Args, Clone)]
pub struct RunsDirOption {
    /// The folder of runs.
    #[arg(long, default_value = "runs", value_name = "DIR")]
    pub runs_dir: PathBuf,
}

impl Default for RunsDirOption {
    fn default() -> Self {
        Self {
            runs_dir: "runs".into(),
        }
    }
}

/// The window as the terminal knows it: something to open, where the program was built with one.
pub struct Window {
    /// Opens it and stays until it closes; an error where there is no display.
    pub open: fn() -> Result<(), String>,
    /// Measures it; gives the report.
    pub measure: fn(UiBench) -> Result<String, String>,
}

/// What of the window is measured.
pub struct UiBench {
    /// The device that trains meanwhile.
    pub device: String,
    /// What is trained on; the built-in characters where nothing is said.
    pub data: Option<String>,
    /// The view that is scrolled; all in turn where nothing is said.
    pub view: Option<String>,
}

/// Runs the program: 0 done, 1 failed, 2 wrong use; 128 and the signal's number where a signal stopped it.
pub fn main(window: Option<Window>) -> ExitCode {
    let arguments = Arguments::parse();
    match arguments
        .memory
        .map_or_else(crate::memory::from_environment, |size| Ok(Some(size)))
    {
        Ok(size) => size.into_iter().for_each(crate::memory::allow),
        Err(error) => {
            terminal::complain(format!("error: {}: {error}", crate::memory::VARIABLE));
            return ExitCode::from(2);
        }
    }
    terminal::be_quiet(arguments.quiet);
    terminal::be_verbose(arguments.verbose);
    #[cfg(feature = "remote")]
    crate::compute::remote::use_token_of(arguments.token_file.as_deref());
    if let Some(threads) = arguments.threads
        && let Err(error) = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()
    {
        terminal::complain(format!("error: --threads {threads}: {error}"));
        return ExitCode::from(1);
    }
    let result = match arguments.command {
        None => open_or_demo(window),
        Some(Command::Bench(arguments)) => bench::run(arguments, window),
        Some(Command::Demo(arguments)) => demo::run(arguments),
        Some(Command::DemoModels(arguments)) => demo_models::run(arguments),
        Some(Command::Train(arguments)) => train::run(*arguments),
        Some(Command::Evaluate(arguments)) => evaluate::run(*arguments),
        Some(Command::Merge(arguments)) => evaluate::merge(arguments),
        Some(Command::Attack(arguments)) => attack::run(arguments),
        Some(Command::Experiment(arguments)) => experiment::run(arguments),
        Some(Command::Runs(arguments)) => runs::run(arguments),
        Some(Command::Devices(arguments)) => devices::run(arguments),
        Some(Command::Serve(arguments)) => serve::run(arguments),
        Some(Command::Data(arguments)) => data::run(arguments),
        Some(Command::Export(arguments)) => weights::export(arguments),
        Some(Command::Import(arguments)) => weights::import(arguments),
        Some(Command::Explain(arguments)) => explain::run(&arguments),
        Some(Command::Doctor(arguments)) => doctor::run(arguments),
        Some(Command::Completions(arguments)) => manual::completions(arguments, Arguments::command()),
        Some(Command::Man(arguments)) => manual::man(arguments, Arguments::command()),
    };
    let status = match result {
        Ok(()) if terminal::was_lost() => 1,
        Ok(()) => 0,
        // A stop is no failure.
        Err(error) if error.is::<Stopped>() || stop::status().is_some() => {
            terminal::note(chain(&error));
            1
        }
        Err(error) => {
            terminal::complain(format!("error: {}", chain(&error)));
            if error.is::<WrongUse>() { 2 } else { 1 }
        }
    };
    ExitCode::from(stop::status().unwrap_or(status))
}

/// The window; with no display, or built without one, the demo.
fn open_or_demo(window: Option<Window>) -> anyhow::Result<()> {
    if let Some(window) = window {
        match (window.open)() {
            Ok(()) => return Ok(()),
            Err(error) => terminal::note(format!("the window does not open, so the demo runs here: {error}")),
        }
    }
    demo::run(demo::DemoArguments::default())
}

/// An error and its causes on one line; a cause that its effect already quotes is not said twice.
fn chain(error: &anyhow::Error) -> String {
    error
        .chain()
        .map(ToString::to_string)
        .fold(String::new(), |text, cause| {
            if text.is_empty() {
                cause
            } else if text.contains(&cause) {
                text
            } else {
                format!("{text}: {cause}")
            }
        })
}

/// What was asked for makes no sense as asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct WrongUse(pub String);

/// A count of at least one, as an option takes it.
fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("expected at least 1".to_string()),
        Ok(count) => Ok(count),
        Err(_) => Err("expected a whole number from 1 on".to_string()),
    }
}

/// A person stopped the work; what was kept and how it goes on.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Stopped(pub String);

/// Makes sure before the work that a result can be written where a person wants it.
fn check_writable(option: &str, path: &std::path::Path) -> anyhow::Result<()> {
    crate::files::check_writable(path).map_err(|error| {
        let wrong = format!(
            "{option}: expected a file that can be written, got {error}: {}",
            path.display()
        );
        WrongUse(wrong).into()
    })
}

/// How the device multiplies, with `--mixed-precision` or without.
fn products(mixed_precision: bool, device: &crate::compute::Device) -> Result<crate::compute::Products, WrongUse> {
    device.products(mixed_precision).ok_or_else(|| {
        let name = &device.info().name;
        let what = "--mixed-precision needs a GPU of this machine whose kernels are Martlet's own";
        WrongUse(format!("{what}, got {name}: name one, such as gpu:0"))
    })
}

/// Opens a device, says which one, and makes sure that it computes as the CPU does.
pub fn open_device(choice: &str, quiet: bool) -> anyhow::Result<(crate::compute::Device, serde_json::Value)> {
    use crate::{compute, engine::device_check};
    let device = compute::open(choice)?;
    let info = device.info();
    if !quiet {
        terminal::note(format!("device: {} ({}, {})", info.name, info.api, info.driver));
        #[cfg(feature = "remote")]
        if let Some(address) = choice
            .trim()
            .strip_prefix("remote:")
            .filter(|address| !compute::remote::is_private(address))
        {
            terminal::complain(format!(
                "warning: the link to {address} {}; `martlet serve --identity` or `ssh -L` makes it safe",
                compute::remote::READABLE
            ));
        }
        if choice == "auto" && device.is_cpu() {
            terminal::note("no GPU was found, so the CPU does the work; `martlet devices` lists what there is");
        }
    }
    let verdict = device_check::cached_or_check(&device)?;
    terminal::detail(|| format!("self-check: {} {verdict}", verdict.when));
    terminal::detail(|| format!("processor threads: {}", rayon::current_num_threads()));
    terminal::detail(|| format!("memory that reading may take: {}", crate::memory::allowed()));
    if !verdict.passed {
        terminal::complain(format!(
            "warning: this device does not compute what the CPU computes; its results are not to be trusted\n{verdict}"
        ));
    }
    let identity = crate::engine::session::identity(&device, &verdict);
    Ok((device, identity))
}
