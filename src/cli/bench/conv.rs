//! `martlet bench conv`: how near each convolution of a network comes to what the device can do.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use burn::tensor::{Tensor, TensorData};
use serde_json::{Value, json};

use super::{Output, load, median, products};
use crate::{
    cli::{DeviceOption, terminal},
    compute::{
        self, Convolution, Device,
        profile::{self, Direction, Spent},
        read,
    },
    nn::{Architecture, Mode, Model},
    random::Rng,
    shapes::ImageShape,
};

#[derive(clap::Args)]
pub struct ConvArguments {
    #[command(flatten)]
    device: DeviceOption,
    /// The network.
    #[arg(long, value_name = "NAME", default_value = "resnet-18")]
    network: String,
    /// Images of a minibatch.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Passes, of whose times the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Round factors to float16, on the device's matrix units where it has some.
    #[arg(long)]
    mixed_precision: bool,
    /// Write the results here as JSON too.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

/// Passes for a while: kernels are compiled, and a device that saves power takes its time to run at full speed.
fn warm_up(device: &Device, pass: &impl Fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let (begun, enough) = (Instant::now(), Duration::from_secs(2));
    loop {
        pass()?;
        if begun.elapsed() >= enough || device.is_cpu() {
            return Ok(());
        }
    }
}

/// What a convolution is asked for in a training pass.
const DIRECTIONS: [Direction; 3] = [Direction::Forward, Direction::Input, Direction::Weights];

pub fn run(arguments: &ConvArguments) -> anyhow::Result<()> {
    let output = Output::of(arguments.json.as_deref())?;
    let device = compute::open(&arguments.device.device)?;
    let architecture: Architecture = arguments.network.parse()?;
    let grey = matches!(architecture, Architecture::SmallCnn | Architecture::DynamicCnn);
    let (channels, side) = if grey { (1, 28) } else { (3, 32) };
    let shape = ImageShape {
        channels,
        height: side,
        width: side,
    };
    let examples = arguments.batch.max(1);
    let rng = &mut Rng::new(1);
    let model = Model::new(architecture, shape, 10, rng, &device)?;
    model.multiply(products(arguments.mixed_precision, &device)?);
    let pixels: Vec<f32> = (0..examples * shape.len()).map(|_| rng.uniform(0.0, 1.0)).collect();
    let pixels = TensorData::new(pixels, [examples, channels, side, side]);
    let images = Tensor::<4>::from_data(pixels, device.tensors());
    let pass = || -> anyhow::Result<()> {
        let tracked = model.tracked();
        let images = images.clone().autodiff().require_grad();
        let logits = tracked.forward(images.clone(), Mode::Train);
        let mut gradients = logits.sum().backward();
        if let Some(gradient) = images.grad_remove(&mut gradients) {
            read(gradient)?;
        }
        Ok(())
    };
    let before = load();
    warm_up(&device, &pass)?;
    let peak = profile::peak(&device)?;
    let mut rounds = Vec::new();
    for _ in 0..arguments.rounds.max(1) {
        let (done, spent) = profile::profiled(&device, pass);
        done?;
        rounds.push(spent);
    }
    let info = device.info();
    terminal::say(format!(
        "{} · {} · {architecture}, {examples} images, one training pass forth and back · medians of {} · load {}",
        info.name,
        info.driver,
        rounds.len(),
        before.map_or("unknown".to_string(), |load| load.to_string())
    ));
    if let Some(peak) = peak {
        terminal::say(format!(
            "at most {:.1} GFLOP/s in multiply-adds out of registers\n",
            peak / 1e9
        ));
    }
    let rows = table(&model.convolutions(), examples, &rounds, peak);
    let rest = remainder(&model.convolutions(), &rounds);
    let result = json!({
        "device": info, "load": [before, load()], "network": architecture.to_string(), "batch": examples,
        "peak_gflops": peak.map(|peak| peak / 1e9), "rows": rows, "other_ms": rest,
    });
    output.write(&serde_json::to_string_pretty(&result)?)
}

/// The median over the rounds of the milliseconds of what `counts`.
fn milliseconds(rounds: &[Vec<Spent>], counts: impl Fn(&Spent) -> bool) -> Option<f64> {
    let sum = |round: &Vec<Spent>| {
        let parts: Vec<f64> = round
            .iter()
            .filter(|spent| counts(spent))
            .map(|spent| spent.time.as_secs_f64() * 1e3)
            .collect();
        (!parts.is_empty()).then(|| parts.iter().sum::<f64>())
    };
    median(rounds.iter().filter_map(sum).collect())
}

fn table(convolutions: &[Convolution], examples: usize, rounds: &[Vec<Spent>], peak: Option<f64>) -> Vec<Value> {
    terminal::say("| layer | shape | pass | ms | GFLOP/s | share of the peak |\n|---|---|---|---|---|---|");
    let mut rows = Vec::new();
    let mut sums = [(0.0, 0.0); DIRECTIONS.len()];
    for (number, layer) in convolutions.iter().enumerate() {
        for (direction, sum) in DIRECTIONS.into_iter().zip(&mut sums) {
            let part = Some((layer.stage, direction));
            let Some(ms) = milliseconds(rounds, |spent| spent.part == part) else {
                continue;
            };
            let operations = (layer.operations * examples) as f64;
            *sum = (sum.0 + ms, sum.1 + operations);
            let gflops = operations / ms / 1e6;
            let share = peak.map(|peak| gflops * 1e9 / peak);
            let [down, across] = layer.kernel;
            let (input, output) = (layer.input, layer.output);
            let shape = format!(
                "{}×{}×{} → {}×{}×{}, {down}×{across} / {}",
                input.channels, input.height, input.width, output.channels, output.height, output.width, layer.stride
            );
            line(&format!("{}", number + 1), &shape, direction, ms, gflops, share);
            rows.push(json!({
                "layer": number + 1, "shape": shape, "pass": direction, "ms": ms, "gflops": gflops, "share": share,
            }));
        }
    }
    for (direction, (ms, operations)) in DIRECTIONS.into_iter().zip(sums) {
        if ms > 0.0 {
            let gflops = operations / ms / 1e6;
            line("all", "", direction, ms, gflops, peak.map(|peak| gflops * 1e9 / peak));
        }
    }
    rows
}

fn line(layer: &str, shape: &str, direction: Direction, ms: f64, gflops: f64, share: Option<f64>) {
    let pass = match direction {
        Direction::Forward => "forward",
        Direction::Input => "input gradient",
        Direction::Weights => "weight gradient",
    };
    let share = share.map_or_else(String::new, |share| format!("{:.0} %", 100.0 * share));
    terminal::say(format!(
        "| {layer} | {shape} | {pass} | {ms:.3} | {gflops:.1} | {share} |"
    ));
}

/// What is no convolution, by kernel where kernels have names.
fn remainder(convolutions: &[Convolution], rounds: &[Vec<Spent>]) -> BTreeMap<String, f64> {
    let is_layer = |spent: &Spent| {
        let stage = spent.part.map(|(stage, _)| stage);
        convolutions.iter().any(|layer| Some(layer.stage) == stage)
    };
    let name = |spent: &Spent| match (spent.kernel, spent.part) {
        ("", _) => "normalisation, pools and the rest of the stages".to_string(),
        (kernel, Some(_)) => kernel.to_string(),
        (_, None) => "outside the network".to_string(),
    };
    let names: std::collections::BTreeSet<String> = rounds
        .iter()
        .flatten()
        .filter(|spent| !is_layer(spent))
        .map(name)
        .collect();
    let found: BTreeMap<String, f64> = names
        .into_iter()
        .filter_map(|kind| {
            let ms = milliseconds(rounds, |spent| !is_layer(spent) && name(spent) == kind)?;
            Some((kind, ms))
        })
        .collect();
    terminal::say("\n| beside them | ms |\n|---|---|");
    for (kind, ms) in &found {
        terminal::say(format!("| {kind} | {ms:.3} |"));
    }
    found
}
