//! `martlet evaluate`.

use std::{path::PathBuf, str::FromStr};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    DeviceOption, RunsDirOption,
    model::ModelOptions,
    open_device, stop_on_interrupt,
    terminal::{can_draw, duration, note, percent, say, table},
};
use crate::{
    attacks::{AttackSpec, Objective},
    evaluation::{Evaluation, EvaluationEvent, Suite, Warning, evaluate},
    runs::write_atomic,
    threat::Magnitude,
};

/// Arguments of `martlet evaluate`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet evaluate runs/mnist-mart-1\n  martlet evaluate weights.pt --network resnet-18 --dataset cifar10:DIR --epsilon 8/255 --attacks natural,pgd-20\n  martlet evaluate runs/mnist-mart-1 --json - | jq .accuracy"
)]
pub struct EvaluateArguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Attacks: natural, fgsm, pgd-STEPS, cw-STEPS, apgd-ce, apgd-dlr-t, fab-t, square, spsa, autoattack,
    /// autoattack-fast; transfer- before one of them.
    #[arg(long, value_delimiter = ',', default_value = "natural,fgsm,pgd-20,cw-20")]
    attacks: Vec<String>,
    #[command(flatten)]
    numbers: AttackNumbers,
    /// The seed of the random starts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Examples attacked at once; it changes speed and memory, not the result.
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Leave out the probes that raise warnings.
    #[arg(long)]
    no_probes: bool,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    runs_dir: RunsDirOption,
    /// Write the result as JSON to a file, or to standard output with `-`.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Keep each example's fate in the JSON.
    #[arg(long)]
    examples: bool,
}

/// Numbers that change every attack of a suite.
#[derive(clap::Args, Clone)]
pub struct AttackNumbers {
    /// The length of a step; without it ε/10 from 20 steps on and ε/4 below, as the paper has it.
    #[arg(long)]
    step_size: Option<Magnitude>,
    /// How often an attack with a random start begins anew.
    #[arg(long, default_value_t = 1)]
    restarts: usize,
    /// The lead of a wrong class at which CW stops climbing.
    #[arg(long)]
    kappa: Option<f32>,
}

impl AttackNumbers {
    /// The attack called `name` with these numbers.
    pub fn attack(&self, name: &str) -> Result<AttackSpec> {
        let mut attack = AttackSpec::from_str(name.trim()).map_err(|error| super::WrongUse(error.to_string()))?;
        let mut begins_anew = !attack.is_natural() && attack.components().is_empty();
        if let Some(ascent) = attack.ascent_mut() {
            begins_anew = ascent.steps > 1;
            if begins_anew && self.step_size.is_some() {
                ascent.step_size.clone_from(&self.step_size);
            }
            if let (Some(kappa), Objective::CarliniWagner { kappa: own }) = (self.kappa, &mut ascent.objective) {
                *own = kappa;
            }
        }
        if begins_anew {
            attack.restarts = self.restarts.max(1);
        }
        Ok(attack)
    }
}

pub(super) fn run(arguments: EvaluateArguments) -> Result<()> {
    let attacks = arguments
        .attacks
        .iter()
        .map(|name| arguments.numbers.attack(name))
        .collect::<Result<Vec<_>>>()?;
    let mut suite = Suite::new(attacks);
    (suite.batch_size, suite.seed, suite.probes) = (arguments.batch_size, arguments.seed, !arguments.no_probes);
    let control = stop_on_interrupt();
    let to_stdout = arguments.json.as_deref().is_some_and(|path| path.as_os_str() == "-");
    let (device, _) = open_device(&arguments.device.device, false)?;
    let loaded = arguments.model.load(&arguments.runs_dir.runs_dir, &device)?;
    let mut progress = Progress::new();
    let mut evaluation = evaluate(
        &loaded.model,
        &loaded.dataset,
        &suite,
        &loaded.threat,
        &device,
        &control,
        &mut |event| {
            progress.tell(event);
        },
    )?;
    progress.finish();
    evaluation.dataset.split = Some(arguments.model.split.clone());
    if loaded.chosen_on_this_split {
        evaluation.add_warning(Warning::CheckpointChosenOnTestSet);
    }
    let json = evaluation.to_json(arguments.examples)?;
    if let Some(run) = &loaded.run {
        let file = run.folder().join(format!(
            "evaluation-{}-{}.json",
            arguments.model.split, arguments.model.checkpoint
        ));
        write_atomic(&file, json.as_bytes())?;
        note(format!("kept in {}", file.display()));
    }
    match &arguments.json {
        Some(_) if to_stdout => say(json),
        Some(path) => write_atomic(path, json.as_bytes())
            .with_context(|| format!("the result cannot be written: {}", path.display()))?,
        None => {}
    }
    if !to_stdout {
        say(report(&evaluation));
    }
    Ok(())
}

/// The result as a person reads it: every figure with its N, and every warning.
pub fn report(evaluation: &Evaluation) -> String {
    let mut rows = vec![
        ["attack", "accuracy", "95 % interval", "settings"]
            .map(str::to_string)
            .to_vec(),
    ];
    let interval = |standing: &crate::evaluation::Standing| {
        format!(
            "{:.1} to {:.1} %",
            standing.interval.low * 100.0,
            standing.interval.high * 100.0
        )
    };
    for attack in &evaluation.attacks {
        rows.push(vec![
            attack.name.clone(),
            percent(attack.accuracy()),
            interval(&attack.standing),
            if attack.method.is_whole() {
                String::new()
            } else {
                attack.settings.clone()
            },
        ]);
    }
    rows.push(vec![
        "worst case".into(),
        percent(evaluation.worst_case.accuracy),
        interval(&evaluation.worst_case),
    ]);
    let data = &evaluation.dataset;
    let mut text = format!(
        "{}\n\n{} · {} {} · N = {} · {} ε = {} · seed {} · {} · {}",
        table(&rows),
        evaluation.model,
        data.name,
        data.split.as_deref().unwrap_or("examples"),
        evaluation.n,
        evaluation.norm,
        evaluation.epsilon,
        evaluation.seed,
        evaluation.device,
        duration(evaluation.seconds)
    );
    if let Some(remark) = &data.note {
        text += &format!("\ndata: {remark}");
    }
    for warning in &evaluation.warnings {
        text += &format!(
            "\n\nwarning: {}\n  {} (docs/warnings.md#{})",
            warning.headline(),
            warning.advice(),
            warning.anchor()
        );
    }
    text
}

/// A bar over the whole suite.
pub struct Progress {
    bar: Option<ProgressBar>,
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// A bar where there is a terminal; elsewhere a line for each attack.
    pub fn new() -> Self {
        let bar = can_draw().then(|| {
            let bar = ProgressBar::new(1_000);
            // The template is a constant; were it wrong, the default bar would do.
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} % · {msg} · {eta} left") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar }
    }

    /// Tells one event.
    pub fn tell(&mut self, event: EvaluationEvent) {
        match (event, &self.bar) {
            (
                EvaluationEvent::Progress {
                    attack,
                    done,
                    of,
                    standing,
                    fraction,
                    ..
                },
                Some(bar),
            ) => {
                bar.set_position((fraction * 1_000.0) as u64);
                bar.set_message(format!("{attack}: {done} of {of}, {standing} still stand"));
            }
            (EvaluationEvent::AttackFinished(result), None) => {
                note(format!(
                    "{}: {} ({})",
                    result.name,
                    percent(result.accuracy()),
                    duration(result.seconds)
                ));
            }
            _ => {}
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
