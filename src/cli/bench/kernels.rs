//! `martlet bench kernels`: what a step launches on a GPU, kernel by kernel.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::json;

use super::{
    DeviceOption, Output, WrongUse,
    steps::{Bench, FORMS, usual_batch},
    terminal::{self, table},
};
use crate::{compute, nn::Architecture};

#[derive(clap::Args)]
pub struct KernelsArguments {
    #[command(flatten)]
    device: DeviceOption,
    /// The network.
    #[arg(long, value_name = "NAME", default_value = "small-cnn")]
    network: String,
    /// Images of a minibatch; 128 for small grey networks and 32 for others where nothing is said.
    #[arg(long)]
    batch: Option<usize>,
    /// Write the counts here as JSON too.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

pub fn run(arguments: &KernelsArguments) -> anyhow::Result<()> {
    let output = Output::of(arguments.json.as_deref())?;
    let architecture: Architecture = arguments.network.parse()?;
    let device = compute::open(&arguments.device.device)?;
    if device.is_cpu() {
        let wrong = "--device: expected a GPU, which kernels are launched on, such as gpu:0; got the processor";
        return Err(WrongUse(wrong.into()).into());
    }
    let info = device.info().clone();
    let examples = arguments.batch.unwrap_or(usual_batch(architecture)).max(1);
    let mut bench = Bench::new(architecture, examples, device, false)?;
    let mut counts = Vec::new();
    for form in FORMS {
        // The first run packs and compiles.
        bench.launches_by_kernel(form)?;
        counts.push(bench.launches_by_kernel(form)?);
    }
    let mut names: Vec<&String> = counts.iter().flat_map(BTreeMap::keys).collect();
    names.sort();
    names.dedup();
    let mut rows = vec![
        ["kernel".to_string()]
            .into_iter()
            .chain(FORMS.map(str::to_string))
            .collect::<Vec<_>>(),
    ];
    for name in &names {
        let own = counts
            .iter()
            .map(|counts| counts.get(*name).map_or("–".to_string(), usize::to_string));
        rows.push([short(name)].into_iter().chain(own).collect());
    }
    let sums = counts.iter().map(|counts| counts.values().sum::<usize>().to_string());
    rows.push(["all".to_string()].into_iter().chain(sums).collect());
    terminal::say(format!(
        "{architecture}, {examples} images · {} · {}\n\n{}",
        info.name,
        info.driver,
        table(&rows)
    ));
    let forms: serde_json::Map<_, _> = FORMS
        .iter()
        .zip(&counts)
        .map(|(form, counts)| (form.to_string(), json!(counts)))
        .collect();
    let network = architecture.to_string();
    let result = json!({ "device": info, "network": network, "batch": examples, "launches": forms });
    output.write(&serde_json::to_string_pretty(&result)?)
}

/// A kernel's name without the modules that it lies in.
fn short(name: &str) -> String {
    let head = name.split('<').next().unwrap_or(name);
    head.rsplit("::").next().unwrap_or(head).to_string()
}
