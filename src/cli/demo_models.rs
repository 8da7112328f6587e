//! `martlet demo-models`: the two trained networks that come with the program.

use std::path::PathBuf;

use anyhow::Result;

use super::{
    RunsDirOption, WrongUse,
    model::open_run,
    stop_on_interrupt,
    terminal::{note, say, table},
};
use crate::{compute::Device, demo_models, wording::percent};

/// Arguments of `martlet demo-models`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet demo-models\n  martlet demo-models export models\n  martlet demo-models pack runs/glyphs-mart-1 --name mart assets/models"
)]
pub struct DemoModelsArguments {
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List them with what was measured.
    List,
    /// Write their weights (safetensors, PyTorch's names), recipes and figures into a folder.
    Export {
        /// The folder.
        folder: PathBuf,
    },
    /// Make a demo model's files of a finished run; accuracy against ε is measured on the CPU.
    Pack {
        /// The run's folder or name.
        run: PathBuf,
        /// The folder that takes the files.
        folder: PathBuf,
        /// What the model is called, such as natural or mart.
        #[arg(long)]
        name: String,
        /// Test examples of the curve.
        #[arg(long, default_value_t = 500)]
        examples: usize,
        #[command(flatten)]
        runs_dir: RunsDirOption,
    },
}

pub(super) fn run(arguments: DemoModelsArguments) -> Result<()> {
    match arguments.command.unwrap_or(Action::List) {
        Action::List => list(),
        Action::Export { folder } => {
            for shipped in demo_models::ALL {
                shipped.export(&folder)?;
            }
            note(format!("written to {}", folder.display()));
            Ok(())
        }
        Action::Pack {
            run,
            folder,
            name,
            examples,
            runs_dir,
        } => {
            let opened = open_run(&run, &runs_dir.runs_dir)?
                .ok_or_else(|| WrongUse(format!("expected a run's folder or name, got {}", run.display())))?;
            let control = stop_on_interrupt();
            let mut told = |point: &crate::evaluation::CurvePoint| {
                let accuracy = point.accuracy.get(demo_models::ATTACK).unwrap_or_default();
                note(format!("ε = {}: {}", point.epsilon, percent(accuracy)));
            };
            demo_models::pack(&opened, &name, &folder, examples, &Device::cpu(), &control, &mut told)?;
            note(format!("{name} written to {}", folder.display()));
            Ok(())
        }
    }
}

fn list() -> Result<()> {
    let mut rows = vec![
        [
            "name",
            "network",
            "defence",
            "threat",
            "natural",
            demo_models::ATTACK,
            "on",
        ]
        .map(String::from)
        .to_vec(),
    ];
    for shipped in demo_models::ALL {
        let (recipe, figures) = (shipped.recipe()?, shipped.figures()?);
        let curve = &figures.curve;
        let at = |epsilon: f32, attack: &str| {
            let point = curve.points.iter().find(|point| point.epsilon.value() == epsilon);
            point
                .and_then(|point| point.accuracy.get(attack))
                .map_or_else(|| "–".to_string(), percent)
        };
        rows.push(vec![
            shipped.name.to_string(),
            recipe.network.to_string(),
            recipe.defence.to_string(),
            recipe.threat.to_string(),
            at(0.0, "natural"),
            at(recipe.threat.epsilon.value(), &curve.attack),
            format!("{} {} examples of {}", curve.n, curve.split, curve.data),
        ]);
    }
    say(table(&rows));
    Ok(())
}
