//! `martlet devices`.

use anyhow::Result;

use super::{
    products,
    terminal::{say, table},
};
use crate::{
    compute,
    engine::device_check::{self, Subject},
    nn::Architecture,
};

/// Arguments of `martlet devices`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet devices\n  martlet devices --json\n  martlet devices --check gpu:0\n  martlet devices --check gpu:0 --network resnet-18"
)]
pub struct DevicesArguments {
    /// Print the list as JSON.
    #[arg(long)]
    json: bool,
    /// Compare a device with the CPU, even if it was compared before.
    #[arg(long, value_name = "DEVICE")]
    check: Option<String>,
    /// Compare it on this network, with the images and the minibatch that it usually has.
    #[arg(long, value_name = "NAME", requires = "check")]
    network: Option<Architecture>,
    /// Compare its steps in mixed precision too.
    #[arg(long, requires = "network")]
    mixed_precision: bool,
}

pub(super) fn run(arguments: DevicesArguments) -> Result<()> {
    if let Some(choice) = &arguments.check {
        let device = compute::open(choice)?;
        let verdict = match arguments.network {
            Some(network) => {
                products(arguments.mixed_precision, &device)?;
                let subject = Subject {
                    mixed_precision: arguments.mixed_precision,
                    ..Subject::usual(network)
                };
                device_check::check_network(&subject, &device)?
            }
            None => device_check::check(&device)?,
        };
        if arguments.json {
            say(serde_json::to_string_pretty(&verdict)?);
        } else {
            say(&verdict);
        }
        anyhow::ensure!(
            verdict.passed,
            "the device does not compute what the CPU computes; do not trust its results"
        );
        return Ok(());
    }
    let devices = compute::devices();
    if arguments.json {
        say(serde_json::to_string_pretty(&devices)?);
        return Ok(());
    }
    let mut rows = vec![
        ["--device", "name", "API", "kind", "driver", "memory"]
            .map(str::to_string)
            .to_vec(),
    ];
    for device in devices {
        let memory = device
            .memory_bytes
            .map(|bytes| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64));
        let kind = serde_json::to_value(device.kind)?
            .as_str()
            .unwrap_or_default()
            .replace('-', " ");
        rows.push(vec![
            device.selector,
            device.name,
            device.api,
            kind,
            device.driver,
            memory.unwrap_or_default(),
        ]);
    }
    say(table(&rows));
    Ok(())
}
