//! `martlet evaluate`.

mod merge;
mod numbers;
mod predictions;
mod progress;
mod report;
mod series;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

pub use merge::MergeArguments;
pub(super) use merge::{FROM_SLURM, run as merge, shard};
pub use numbers::AttackNumbers;
use predictions::predictions;
pub use progress::Progress;
use report::class_table;
pub use report::report;

use super::{
    DeviceOption, RunsDirOption, WrongUse, check_writable,
    group::{Member, device_of},
    model::{Loaded, ModelOptions},
    open_device,
    output::Output,
    positive, stop_on_interrupt,
    terminal::{complain, note},
};
use crate::{
    attacks::AttackSpec,
    compute::Device,
    control::Control,
    engine::{
        device_check::{self, Subject},
        filing, session,
    },
    evaluation::{
        AttackResult, CurveEvent, CurvePoint, EvaluateError, Evaluation, EvaluationEvent, Examination, Record, Resume,
        Shard, Suite, Warning,
    },
    files,
    runs::{Run, Slot},
    seal,
    threat::{Magnitude, Norm, ThreatModel},
    wording::percent,
};

/// Arguments of `martlet evaluate`.
#[derive(clap::Args, Clone)]
#[command(
    after_help = "Examples:\n  martlet evaluate runs/mnist-mart-1\n  martlet evaluate weights.pt --network resnet-18 --dataset cifar10:DIR --epsilon 8/255 --attacks natural,pgd-20\n  martlet evaluate runs/mnist-mart-1 --json - | jq .accuracy\n  martlet evaluate runs/mnist-mart-1 --attacks natural,pgd-20,autoattack --resume-file mart.state\n  martlet evaluate runs/mnist-mart-1 --attacks pgd-20 --epsilons 0,0.1,0.2,0.3\n  martlet evaluate mart-seed-1 mart-seed-2 mart-seed-3 --attacks natural,pgd-20\n  martlet evaluate runs/mnist-mart-1 --shard 1/4 --json part-1.json\n  martlet evaluate runs/mnist-mart-1 --surrogate runs/mnist-standard-1 --attacks transfer-fgsm,transfer-pgd-20"
)]
pub struct EvaluateArguments {
    #[command(flatten)]
    model: ModelOptions,
    /// More of them, such as the runs of other seeds: each is measured, then their mean and standard deviation are told.
    #[arg(value_name = "RUN|FILE", conflicts_with_all = ["shard", "resume_file", "predictions", "examples"])]
    more: Vec<PathBuf>,
    /// Measure one of several equal shares of the examples, such as 1/4, for `martlet merge` to put together; without a value the share
    /// that a Slurm array job gives this task.
    #[arg(long, value_name = "NUMBER/OF", num_args = 0..=1, default_missing_value = FROM_SLURM, value_parser = shard)]
    shard: Option<Shard>,
    /// Attacks: natural, fgsm, pgd-STEPS, cw-STEPS, mi-fgsm, apgd-ce, apgd-dlr-t, fab-t, square, spsa, autoattack,
    /// autoattack-fast; deepfool and cw-l2, which look for the smallest perturbation and count where it lies within ε;
    /// transfer- before one of them; x5 after one for five starts. Numbers go into the name:
    /// spsa-STEPS:samples=N:delta=LENGTH:learning-rate=LENGTH, cw-l2-STEPS:searches=N:constant=C:kappa=K.
    #[arg(long, value_delimiter = ',', default_value = "natural,fgsm,pgd-20,cw-20")]
    attacks: Vec<String>,
    #[command(flatten)]
    numbers: AttackNumbers,
    /// The model that transfer attacks are crafted on: a run, or a file of weights.
    #[arg(long, value_name = "RUN|FILE")]
    surrogate: Option<PathBuf>,
    /// The surrogate's network; a run knows its own.
    #[arg(long, value_name = "NETWORK", requires = "surrogate")]
    surrogate_network: Option<String>,
    /// Several radii, such as 0,2/255,4/255,8/255: the suite at each of them.
    #[arg(long, value_delimiter = ',', value_name = "EPSILONS")]
    epsilons: Vec<Magnitude>,
    /// Keep finished attacks in this file, and go on from it where it is there.
    #[arg(long, value_name = "FILE")]
    resume_file: Option<PathBuf>,
    /// The seed of the random starts.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Examples attacked at once; it changes speed and memory, not the result.
    #[arg(long, default_value_t = 128, value_parser = positive)]
    batch_size: usize,
    /// Leave out the probes that raise warnings.
    #[arg(long)]
    no_probes: bool,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    runs_dir: RunsDirOption,
    #[command(flatten)]
    wanted: Wanted,
}

/// What is wanted of a result beside its table.
#[derive(clap::Args, Clone)]
pub struct Wanted {
    /// Write the result as JSON to a file, or to standard output with `-`.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
    /// Keep each example's fate in the JSON.
    #[arg(long)]
    examples: bool,
    /// Print each class: how it stands, and what it is most often taken for.
    #[arg(long)]
    per_class: bool,
    /// Write a .npz file: index, label, logits and probabilities of the natural images, and the answer under each attack.
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
}

pub(super) fn run(arguments: EvaluateArguments) -> Result<()> {
    let suite = suite_of(&arguments)?;
    let control = stop_on_interrupt();
    let member = Member::join()?;
    if member.size() > 1 {
        return member.or_end(together(&arguments, &suite, &member, &control));
    }
    if arguments.more.is_empty() {
        return single(&arguments, &suite, &control, Vec::new());
    }
    series::run(&arguments, &suite, &control)
}

/// Every process measures its share of the examples; the first puts them together.
fn together(arguments: &EvaluateArguments, suite: &Suite, member: &Member, control: &Control) -> Result<()> {
    let alone = [
        (!arguments.more.is_empty(), "several models"),
        (arguments.shard.is_some(), "--shard"),
        (arguments.resume_file.is_some(), "--resume-file"),
    ];
    if let Some((_, what)) = alone.iter().find(|(asked, _)| *asked) {
        return Err(WrongUse(format!(
            "{what}: expected one process, got {} that share the work",
            member.size()
        ))
        .into());
    }
    if member.rank() == 0 {
        check_places(arguments)?;
    }
    let mut own = arguments.clone();
    own.shard = Some(Shard {
        number: member.rank() + 1,
        of: member.size(),
    });
    // What is doubtful is a matter of the whole.
    let share_of = Suite {
        probes: false,
        ..suite.clone()
    };
    own.device.device = device_of(&arguments.device, member);
    let (device, _) = open_device(&own.device.device, false)?;
    let measured = measure(&own, &share_of, &device, control, Vec::new())?;
    let mut shards = Vec::new();
    for rank in 0..member.size() {
        let mut bytes = serde_json::to_vec(&measured.record)?;
        member.group().broadcast(rank, &mut bytes);
        let record: Option<Record> = serde_json::from_slice(&bytes)?;
        let shard = Shard {
            number: rank + 1,
            of: member.size(),
        };
        shards.extend(record.map(|record| (shard, record)));
    }
    if member.rank() == 0 {
        let mut whole = arguments.clone();
        whole.device = own.device;
        single(&whole, suite, control, shards)?;
    }
    measured.forget_partial();
    Ok(())
}

/// The suite that the arguments ask for; refused where they contradict each other.
fn suite_of(arguments: &EvaluateArguments) -> Result<Suite> {
    let attacks = arguments
        .attacks
        .iter()
        .map(|name| arguments.numbers.attack(name))
        .collect::<Result<Vec<_>>>()?;
    arguments.numbers.check(&attacks)?;
    if arguments.surrogate.is_some() && !attacks.iter().any(AttackSpec::needs_surrogate) {
        let wrong = "--surrogate: expected an attack that is crafted on it, such as transfer-pgd-20";
        return Err(WrongUse(wrong.into()).into());
    }
    let mut suite = Suite::new(attacks).map_err(|error| WrongUse(format!("--attacks: {error}")))?;
    (suite.batch_size, suite.seed) = (arguments.batch_size, arguments.seed);
    // What is doubtful is a matter of the whole.
    suite.probes = !arguments.no_probes && arguments.shard.is_none();
    suite.add_white_boxes();
    if arguments.surrogate.is_none()
        && let Some(attack) = suite.attacks.iter().find(|attack| attack.needs_surrogate())
    {
        return Err(WrongUse(format!("{} is crafted on another model: add --surrogate", attack.name)).into());
    }
    for epsilon in &arguments.epsilons {
        let threat = ThreatModel {
            norm: if arguments.model.norm.as_deref() == Some("l2") {
                Norm::L2
            } else {
                Norm::Linf
            },
            epsilon: epsilon.clone(),
        };
        if let Some(fault) = threat.fault().filter(|_| arguments.model.norm.is_some()) {
            return Err(WrongUse(format!(
                "--epsilons: expected radii that leave images apart, got {fault}"
            ))
            .into());
        }
    }
    if arguments.shard.is_some() && arguments.wanted.json.is_none() {
        return Err(WrongUse(
            "--shard: add --json FILE, where the share's figures are kept for `martlet merge`".into(),
        )
        .into());
    }
    if arguments.shard.is_some() && arguments.wanted.predictions.is_some() {
        return Err(WrongUse("--predictions: expected a whole evaluation; give it to `martlet merge`".into()).into());
    }
    Ok(suite)
}

/// Makes sure before the work that every result has somewhere to go; gives the place of `--json`.
fn check_places(arguments: &EvaluateArguments) -> Result<Output<'_>> {
    for (option, path) in [
        ("--resume-file", arguments.resume_file.as_deref()),
        ("--predictions", arguments.wanted.predictions.as_deref()),
    ] {
        path.map_or(Ok(()), |path| check_writable(option, path))?;
    }
    Output::of(arguments.wanted.json.as_deref())
}

/// Measures one model and delivers its figures everywhere that they are asked for.
fn single(arguments: &EvaluateArguments, suite: &Suite, control: &Control, shards: Vec<(Shard, Record)>) -> Result<()> {
    let json = check_places(arguments)?;
    let (device, _) = open_device(&arguments.device.device, false)?;
    let measured = measure(arguments, suite, &device, control, shards)?;
    let (evaluation, loaded) = (&measured.evaluation, &measured.loaded);
    // First what a person sees; no place that cannot be written costs another its figures.
    let text = match arguments.shard {
        Some(shard) => merge::shard_json(shard, &measured)?,
        None => evaluation.to_json(arguments.wanted.examples)?,
    };
    let mut written = json.deliver(&text, || {
        let mut text = report(evaluation);
        if arguments.wanted.per_class {
            text += &format!("\n{}", class_table(evaluation, loaded.dataset.class_names()));
        }
        if let Some(shard) = arguments.shard {
            text +=
                &format!("\n\nshard {shard}: figures of this share of the examples; `martlet merge` makes the whole");
        }
        text
    });
    if let Some(path) = &arguments.wanted.predictions {
        let predicted = predictions(path, evaluation, loaded, arguments.batch_size, &device);
        written = written.and(predicted);
    }
    if arguments.shard.is_none() {
        measured.keep()?;
    }
    if written.is_ok() {
        measured.forget_partial();
    }
    written
}

/// A model and what it withstands.
struct Measured {
    evaluation: Evaluation,
    loaded: Loaded,
    /// What has finished, to go on from or to put together.
    record: Option<Record>,
    /// Where that was kept in the run's folder.
    partial: Option<PathBuf>,
}

impl Measured {
    /// Keeps the figures in the run's folder, where the model is a run's.
    fn keep(&self) -> Result<()> {
        if let Some(run) = &self.loaded.run {
            let slot = self.loaded.checkpoint.as_ref().map_or(Slot::Last, |(_, slot)| *slot);
            let file = filing::keep(run, &self.evaluation, slot, self.loaded.stands)
                .context("the run's folder cannot keep the figures")?;
            note(format!("kept in {}", file.display()));
        }
        Ok(())
    }

    fn forget_partial(&self) {
        if let Some(path) = &self.partial {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Loads the model that the arguments name and measures it, going on from what an earlier attempt finished.
fn measure(
    arguments: &EvaluateArguments,
    suite: &Suite,
    device: &Device,
    control: &Control,
    shards: Vec<(Shard, Record)>,
) -> Result<Measured> {
    let runs_dir = &arguments.runs_dir.runs_dir;
    let mut loaded = arguments.model.load(runs_dir, device)?;
    // What the run's parts share was found when it was begun; other data may share something else.
    if let (Some(run), None) = (&loaded.run, &arguments.model.dataset) {
        loaded.dataset = loaded.dataset.with_notes(session::twins(run));
    }
    if let Some(shard) = arguments.shard {
        loaded.dataset = shard.of_dataset(&loaded.dataset);
        loaded.stands = false;
    }
    device_check::ensure_network(&Subject::of(&loaded.model, arguments.batch_size), device)?;
    arguments.numbers.check_under(loaded.threat.norm)?;
    let surrogate = arguments.surrogate.as_ref().map(|path| {
        let network = arguments.surrogate_network.as_ref();
        let other = arguments
            .model
            .load_other(path, network, runs_dir, &loaded.dataset, device);
        other.with_context(|| format!("the surrogate cannot be loaded: {}", path.display()))
    });
    let surrogate = surrogate.transpose()?;

    let mut progress = Progress::new();
    let of_run = loaded.run.as_ref().filter(|_| shards.is_empty());
    let partial = of_run.and_then(|run| own_record(run, &loaded, suite, arguments));
    let record_file = arguments.resume_file.clone().or_else(|| partial.clone());
    let json_file = Output::named(arguments.wanted.json.as_deref())
        .file()
        .filter(|_| arguments.more.is_empty() && arguments.shard.is_none());
    let mut finished = Vec::new();
    let mut kept = None;
    let mut attempt = |record: Option<Record>| {
        let mut examination = Examination::new(&loaded.model, &loaded.dataset, suite, &loaded.threat, device);
        if let (Some(other), Some(path)) = (&surrogate, &arguments.surrogate) {
            examination = examination.with_surrogate(path.display().to_string(), other);
        }
        kept.clone_from(&record);
        let mut keep = |record: &Record| {
            kept = Some(record.clone());
            match &record_file {
                Some(path) if record.has_finished() => {
                    files::save(path, record.to_json()?.as_bytes()).map_err(std::io::Error::other)
                }
                _ => Ok(()),
            }
        };
        let keep = &mut keep;
        examination = if !shards.is_empty() {
            examination.with_shards(shards.clone())
        } else if record_file.is_some() || arguments.shard.is_some() {
            examination.with_resume(Resume { record, keep })
        } else {
            examination
        };
        if !arguments.epsilons.is_empty() {
            return curve(examination, &arguments.epsilons, &loaded.threat, control, &mut progress);
        }
        finished.clear();
        let result = examination.run(control, &mut |event| {
            if let EvaluationEvent::AttackFinished(result) = &event {
                finished.push(result.clone());
                keep_partly(json_file, &finished);
            }
            progress.tell(event);
        });
        Ok(result?)
    };
    let record = record_file.as_deref().map(known_record).transpose()?.flatten();
    if let (Some(_), Some(path)) = (&record, &record_file) {
        note(format!("continuing from {}", path.display()));
    }
    let mut outcome = attempt(record);
    let is = |outcome: &Result<Evaluation>, what: fn(&EvaluateError) -> bool| {
        let error = outcome
            .as_ref()
            .err()
            .and_then(|error| error.downcast_ref::<EvaluateError>());
        error.is_some_and(what)
    };
    if arguments.resume_file.is_none() && is(&outcome, |error| matches!(error, EvaluateError::OtherEvaluation { .. })) {
        outcome = attempt(None);
    }
    if is(&outcome, |error| matches!(error, EvaluateError::Stopped { .. })) {
        progress.finish();
        let kept = match (&record_file, finished.len()) {
            (Some(path), 1..) if path.exists() => "the same command continues after the attacks that have finished",
            _ => "no attack had finished",
        };
        return Err(super::Stopped(format!("stopped; {kept}")).into());
    }
    let mut evaluation = outcome?;
    progress.finish();
    evaluation.dataset.split = Some(arguments.model.split.clone());
    if loaded.chosen_on_this_split {
        evaluation.add_warning(Warning::CheckpointChosenOnTestSet);
    }
    if loaded.model.is_normalisation_unsaid() {
        evaluation.add_warning(Warning::NormalisationUnsaid);
    }
    if !loaded.normalisation.is_empty() {
        let tensors = loaded.normalisation.clone();
        evaluation.add_warning(Warning::NormalisationLeftOut { tensors });
    }
    evaluation.checkpoint = loaded.checkpoint.as_ref().map(|(name, _)| name.clone());
    Ok(Measured {
        evaluation,
        loaded,
        record: kept,
        partial,
    })
}

/// Where an evaluation of a run keeps what has finished, if its folder can be written: one file for each evaluation.
fn own_record(run: &Run, loaded: &Loaded, suite: &Suite, arguments: &EvaluateArguments) -> Option<PathBuf> {
    let (checkpoint, epsilons, surrogate) = (&loaded.checkpoint, &arguments.epsilons, &arguments.surrogate);
    let (data, threat) = (loaded.dataset.fingerprint(), &loaded.threat);
    let identity = format!("{checkpoint:?} {data} {threat:?} {suite:?} {epsilons:?} {surrogate:?}");
    let hash = seal::digest(identity.as_bytes());
    let file = run.folder().join(format!("evaluation-{}.partial", &hash[..8]));
    files::check_writable(&file).ok().map(|()| file)
}

/// The figures so far, where the whole will be: a stop, or worse, leaves them there.
fn keep_partly(file: Option<&Path>, measured: &[AttackResult]) {
    let Some(path) = file.filter(|path| matches!(files::place_of(path), Ok(files::Place::File(_)))) else {
        return;
    };
    let accuracy: serde_json::Map<_, _> = measured
        .iter()
        .map(|result| (result.name.clone(), json!(result.accuracy())))
        .collect();
    let text = json!({ "unfinished": true, "accuracy": accuracy, "attacks": measured });
    if let Err(error) = files::save(path, format!("{text:#}\n").as_bytes()) {
        complain(format!("warning: the figures so far cannot be written: {error}"));
    }
}

/// The record of an evaluation that was stopped, where there is one.
fn known_record(path: &Path) -> Result<Option<Record>> {
    match std::fs::read_to_string(path) {
        Ok(text) => match Record::from_json(&text) {
            Ok(record) => Ok(Some(record)),
            Err(got) => anyhow::bail!(
                "expected the record of a stopped evaluation; got {got}; name another file, or remove this one: {}",
                path.display()
            ),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("the record cannot be read: {}", path.display())),
    }
}

/// The suite at several radii. The result is that at the model's own ε, or else at the largest, with the whole curve.
fn curve(
    examination: Examination,
    epsilons: &[Magnitude],
    own: &ThreatModel,
    control: &Control,
    progress: &mut Progress,
) -> Result<Evaluation> {
    let mut threats: Vec<ThreatModel> = epsilons
        .iter()
        .map(|epsilon| ThreatModel {
            norm: own.norm,
            epsilon: epsilon.clone(),
        })
        .collect();
    let radius = |threat: &ThreatModel| threat.epsilon.value();
    threats.sort_by(|a, b| radius(a).total_cmp(&radius(b)));
    threats.dedup_by(|a, b| radius(a) == radius(b));
    let mut points = examination.curve(&threats, control, &mut |event| match event {
        CurveEvent::Evaluating { event, .. } => progress.tell(event),
        CurveEvent::Point { position, of, point } => {
            let worst = percent(point.worst_case.accuracy);
            note(format!(
                "ε = {} ({} of {of}): worst case {worst}",
                point.epsilon,
                position + 1
            ));
        }
    })?;
    let whole = points.iter().map(CurvePoint::from).collect();
    let headline = threats.iter().position(|threat| radius(threat) == radius(own));
    let mut evaluation = points.swap_remove(headline.unwrap_or(points.len() - 1));
    evaluation.curve = whole;
    Ok(evaluation)
}
