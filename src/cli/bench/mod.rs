//! `martlet bench`: what a device can do, and what Martlet makes of it.

mod conv;
mod kernels;
mod peer;
mod steps;

use super::{DeviceOption, UiBench, Window, WrongUse, open_device, output::Output, products, terminal};

/// Arguments of `martlet bench`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet bench steps --network small-cnn --batch 128\n  martlet bench steps --network resnet-18 --form mart --json steps.json\n  martlet bench conv --network resnet-18 --batch 32\n  martlet bench device --device gpu:0\n  martlet bench ui --data mnist:DIR --view Misclassified"
)]
pub struct BenchArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    #[command(after_help = "Example:\n  martlet bench device --device gpu:0")]
    /// An attack step and a matrix product: images/s and TFLOP/s.
    Device(OnDevice),
    #[command(
        after_help = "Examples:\n  martlet bench steps --network small-cnn --batch 128\n  martlet bench steps --network resnet-18 --form mart --json steps.json"
    )]
    /// Passes and training steps of a network, beside PyTorch's where `python3` has torch.
    Steps(steps::StepsArguments),
    #[command(after_help = "Example:\n  martlet bench kernels --network small-cnn --device gpu:0")]
    /// What a pass and a training step launch on a GPU, kernel by kernel.
    Kernels(kernels::KernelsArguments),
    #[command(after_help = "Example:\n  martlet bench conv --network resnet-18 --batch 32 --device gpu:0")]
    /// The convolutions of a network, forth and back: milliseconds, GFLOP/s and the share of what the device does at most.
    Conv(conv::ConvArguments),
    #[command(after_help = "Example:\n  martlet bench ui --data mnist:DIR --view Misclassified")]
    /// Frame times idle and while training, and training with the window and without; needs a display.
    Ui(UiArguments),
}

#[derive(clap::Args)]
struct OnDevice {
    #[command(flatten)]
    device: DeviceOption,
}

#[derive(clap::Args)]
struct UiArguments {
    #[command(flatten)]
    device: DeviceOption,
    /// Train on all of this data; every example of it is in the gallery.
    #[arg(long, value_name = "SOURCE")]
    data: Option<String>,
    /// Stay on this view and scroll it.
    #[arg(long, value_name = "VIEW")]
    view: Option<String>,
}

pub fn run(arguments: BenchArguments, window: Option<Window>) -> anyhow::Result<()> {
    match arguments.what {
        What::Device(arguments) => {
            let (device, _) = open_device(&arguments.device.device, false)?;
            terminal::say(crate::engine::speed::measure(&device)?);
            Ok(())
        }
        What::Steps(arguments) => steps::run(arguments),
        What::Kernels(arguments) => kernels::run(&arguments),
        What::Conv(arguments) => conv::run(&arguments),
        What::Ui(arguments) => {
            let window = window.ok_or_else(|| WrongUse("this program was built without the window".to_string()))?;
            let report = (window.measure)(UiBench {
                device: arguments.device.device,
                data: arguments.data,
                view: arguments.view,
            });
            terminal::say(report.map_err(|error| anyhow::anyhow!("the window does not open: {error}"))?);
            Ok(())
        }
    }
}

/// Processes that wait for a core, on average over the last minute; `None` where the system does not say.
fn load() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// The middle of some times.
fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}
