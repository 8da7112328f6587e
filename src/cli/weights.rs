//! `martlet export` and `martlet import`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::Result;

use super::{
    RunsDirOption, WrongUse,
    model::{ModelOptions, normalise},
    terminal::{note, say},
};
use crate::{
    compute::Device,
    nn::{Architecture, Model, onnx, weights},
    random::Rng,
    shapes::ImageShape,
};

/// Arguments of `martlet export`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet export runs/mnist-mart-1 --out weights.safetensors\n  martlet export runs/mnist-mart-1 --out network.onnx"
)]
pub struct ExportArguments {
    #[command(flatten)]
    model: ModelOptions,
    /// The file to write: .safetensors for PyTorch, .onnx for onnxruntime and others.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    runs_dir: RunsDirOption,
}

pub(super) fn export(arguments: ExportArguments) -> Result<()> {
    let loaded = arguments.model.load(&arguments.runs_dir.runs_dir, &Device::cpu())?;
    save(&loaded.model, &arguments.out)
}

/// Writes a model in the format that the file's ending names.
fn save(model: &Model, out: &Path) -> Result<()> {
    let opened_by = match out.extension().and_then(|extension| extension.to_str()) {
        Some("safetensors") => {
            let metadata = BTreeMap::from([
                ("format".to_string(), "pt".to_string()),
                ("network".to_string(), model.architecture().to_string()),
                ("martlet".to_string(), env!("CARGO_PKG_VERSION").to_string()),
            ]);
            weights::save_safetensors(model, out, &metadata)?;
            "in PyTorch: safetensors.torch.load_file(…)".to_string()
        }
        Some("onnx") => {
            onnx::save_onnx(model, out)?;
            format!("opset {}, images in [0, 1] to logits", onnx::OPSET)
        }
        _ => {
            let wrong = format!("--out: expected FILE.safetensors or FILE.onnx, got {}", out.display());
            return Err(WrongUse(wrong).into());
        }
    };
    note(format!(
        "{} with {} parameters written to {}; {opened_by}",
        model.architecture(),
        model.parameter_count(),
        out.display()
    ));
    Ok(())
}

/// Arguments of `martlet import`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  martlet import checkpoint.pt --network wide-resnet-34-10 --out weights.safetensors"
)]
pub struct ImportArguments {
    /// A .pt, .pth or .safetensors file.
    file: PathBuf,
    /// The network that the weights are for.
    #[arg(long)]
    network: String,
    /// Channels, height and width of its images, such as 1,28,28.
    #[arg(long, value_delimiter = ',', default_value = "3,32,32")]
    input: Vec<usize>,
    /// Mean and standard deviation of each channel by which the file's own program normalises, such as 0.5,0.5,0.5/0.25,0.25,0.25.
    #[arg(long, value_name = "MEAN/STD")]
    normalise: Option<String>,
    /// The number of classes.
    #[arg(long, default_value_t = 10)]
    classes: usize,
    /// Write them: .safetensors with PyTorch's names, or .onnx.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn import(arguments: ImportArguments) -> Result<()> {
    let [channels, height, width] = arguments.input[..] else {
        return Err(WrongUse("--input: expected channels,height,width such as 3,32,32".into()).into());
    };
    let architecture =
        Architecture::from_str(&arguments.network).map_err(|error| super::WrongUse(error.to_string()))?;
    let input = ImageShape {
        channels,
        height,
        width,
    };
    let mut model = Model::new(architecture, input, arguments.classes, &mut Rng::new(0), &Device::cpu())?;
    let mut report = weights::load(&arguments.file, &mut model)?;
    if let Some(text) = &arguments.normalise {
        normalise(&mut model, &mut report, text)?;
    }
    if report.has_remarks() {
        note(&report);
    }
    say(format!("{architecture}: {} parameters fit", model.parameter_count()));
    if let Some(out) = &arguments.out {
        save(&model, out)?;
    }
    Ok(())
}
