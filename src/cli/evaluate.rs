//! `martlet evaluate`.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use serde_json::json;

use super::{
    DeviceOption, RunsDirOption, check_writable,
    model::{Loaded, ModelOptions},
    open_device, positive, stop_on_interrupt,
    terminal::{complain, note, progress_bar, say, table},
};
use crate::{
    attacks::{AttackSpec, Objective},
    compute::{Device, read},
    control::Control,
    data::{NpzValues, write_npz},
    engine::{
        device_check::{self, Subject},
        filing,
    },
    evaluation::{
        AttackResult, CurveEvent, CurvePoint, EvaluateError, Evaluation, EvaluationEvent, Examination, ExampleResult,
        Record, Resume, Suite, Warning,
    },
    files,
    nn::Mode,
    runs::{Run, Slot},
    seal,
    threat::{Magnitude, Norm, ThreatModel},
    wording::{duration, percent},
};

/// Arguments of `martlet evaluate`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet evaluate runs/mnist-mart-1\n  martlet evaluate weights.pt --network resnet-18 --dataset cifar10:DIR --epsilon 8/255 --attacks natural,pgd-20\n  martlet evaluate runs/mnist-mart-1 --json - | jq .accuracy\n  martlet evaluate runs/mnist-mart-1 --attacks natural,pgd-20,autoattack --resume-file mart.state\n  martlet evaluate runs/mnist-mart-1 --attacks pgd-20 --epsilons 0,0.1,0.2,0.3\n  martlet evaluate runs/mnist-mart-1 --surrogate runs/mnist-standard-1 --attacks transfer-fgsm,transfer-pgd-20"
)]
pub struct EvaluateArguments {
    #[command(flatten)]
    model: ModelOptions,
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

/// Numbers that change every attack of a suite.
#[derive(clap::Args, Clone)]
pub struct AttackNumbers {
    /// The length of a step; without it ε/10 from 20 steps on and ε/4 below, as the paper has it.
    #[arg(long)]
    step_size: Option<Magnitude>,
    /// How often an attack with a random start begins, where its name does not say: pgd-20x5 is five times.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    restarts: usize,
    /// The lead of a wrong class at which CW stops climbing; 50 where nothing is said.
    #[arg(long)]
    kappa: Option<f32>,
}

impl AttackNumbers {
    /// Refuses numbers that none of the attacks takes.
    pub fn check(&self, attacks: &[AttackSpec]) -> Result<()> {
        /// Beyond every image's length.
        const LONGEST: f32 = 1_000.0;
        let refuse = |wrong: String| Err(super::WrongUse(wrong).into());
        let any = |takes: fn(&AttackSpec) -> bool| attacks.iter().any(takes);
        if self.kappa.is_some() && !any(|attack| attack.kappa().is_some()) {
            return refuse("--kappa: expected a CW attack beside it, such as cw-20".into());
        }
        if let Some(step) = &self.step_size {
            if !any(|attack| attack.ascent().is_some_and(|ascent| ascent.steps > 1)) {
                return refuse("--step-size: expected an attack that takes steps, such as pgd-20 or cw-20".into());
            }
            if step.value() > LONGEST {
                return refuse(format!(
                    "--step-size: expected a step in pixel units, such as 2/255, got {step}"
                ));
            }
        }
        if self.restarts > 1 && !any(|attack| attack.restarts > 1) {
            return refuse("--restarts: expected an attack that starts at random, such as pgd-20".into());
        }
        Ok(())
    }

    /// Refuses a step that leaves every image, in the norm that the attacks have.
    pub fn check_under(&self, norm: Norm) -> Result<()> {
        let Some(step) = &self.step_size else {
            return Ok(());
        };
        let threat = ThreatModel {
            norm,
            epsilon: step.clone(),
        };
        match threat.fault() {
            Some(fault) => {
                Err(super::WrongUse(format!("--step-size: expected a step within the images, got {fault}")).into())
            }
            None => Ok(()),
        }
    }

    /// The attack called `name` with these numbers.
    pub fn attack(&self, name: &str) -> Result<AttackSpec> {
        let mut attack = AttackSpec::from_str(name.trim()).map_err(|error| super::WrongUse(error.to_string()))?;
        let mut begins_anew = attack.begins_anew();
        if let Some(ascent) = attack.ascent_mut() {
            begins_anew = ascent.steps > 1;
            if begins_anew && self.step_size.is_some() {
                ascent.step_size.clone_from(&self.step_size);
            }
            if let (Some(kappa), Objective::CarliniWagner { kappa: own }) = (self.kappa, &mut ascent.objective) {
                *own = kappa;
            }
        }
        if begins_anew && attack.restarts == 1 {
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
    arguments.numbers.check(&attacks)?;
    if arguments.surrogate.is_some() && !attacks.iter().any(AttackSpec::needs_surrogate) {
        let wrong = "--surrogate: expected an attack that is crafted on it, such as transfer-pgd-20";
        return Err(super::WrongUse(wrong.into()).into());
    }
    let mut suite = Suite::new(attacks).map_err(|error| super::WrongUse(format!("--attacks: {error}")))?;
    (suite.batch_size, suite.seed, suite.probes) = (arguments.batch_size, arguments.seed, !arguments.no_probes);
    suite.add_white_boxes();
    if arguments.surrogate.is_none()
        && let Some(attack) = suite.attacks.iter().find(|attack| attack.needs_surrogate())
    {
        return Err(super::WrongUse(format!("{} is crafted on another model: add --surrogate", attack.name)).into());
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
            return Err(super::WrongUse(format!(
                "--epsilons: expected radii that leave images apart, got {fault}"
            ))
            .into());
        }
    }
    let control = stop_on_interrupt();
    let to_stdout = arguments
        .json
        .as_deref()
        .is_some_and(|path| path.as_os_str() == "-" || path == "/dev/stdout");
    let json_file = arguments.json.as_deref().filter(|_| !to_stdout);
    for (option, path) in [
        ("--json", json_file),
        ("--resume-file", arguments.resume_file.as_deref()),
        ("--predictions", arguments.predictions.as_deref()),
    ] {
        path.map_or(Ok(()), |path| check_writable(option, path))?;
    }
    let (device, _) = open_device(&arguments.device.device, false)?;
    let runs_dir = &arguments.runs_dir.runs_dir;
    let loaded = arguments.model.load(runs_dir, &device)?;
    device_check::ensure_network(&Subject::of(&loaded.model, arguments.batch_size), &device)?;
    arguments.numbers.check_under(loaded.threat.norm)?;
    let surrogate = arguments.surrogate.as_ref().map(|path| {
        let network = arguments.surrogate_network.as_ref();
        let other = arguments
            .model
            .load_other(path, network, runs_dir, &loaded.dataset, &device);
        other.with_context(|| format!("the surrogate cannot be loaded: {}", path.display()))
    });
    let surrogate = surrogate.transpose()?;

    let mut progress = Progress::new();
    let of_run = loaded
        .run
        .as_ref()
        .and_then(|run| own_record(run, &loaded, &suite, &arguments));
    let record_file = arguments.resume_file.clone().or_else(|| of_run.clone());
    let mut measured = Vec::new();
    let mut attempt = |record: Option<Record>| {
        let mut examination = Examination::new(&loaded.model, &loaded.dataset, &suite, &loaded.threat, &device);
        if let (Some(other), Some(path)) = (&surrogate, &arguments.surrogate) {
            examination = examination.with_surrogate(path.display().to_string(), other);
        }
        let mut keep = |record: &Record| match &record_file {
            Some(path) => files::save(path, record.to_json()?.as_bytes()).map_err(std::io::Error::other),
            None => Ok(()),
        };
        let keep = &mut keep;
        if record_file.is_some() {
            examination = examination.with_resume(Resume { record, keep });
        }
        if !arguments.epsilons.is_empty() {
            return curve(
                examination,
                &arguments.epsilons,
                &loaded.threat,
                &control,
                &mut progress,
            );
        }
        measured.clear();
        let result = examination.run(&control, &mut |event| {
            if let EvaluationEvent::AttackFinished(result) = &event {
                measured.push(result.clone());
                keep_partly(json_file, &measured);
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
        let kept = match (&record_file, measured.len()) {
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
    if !loaded.normalisation.is_empty() {
        let tensors = loaded.normalisation.clone();
        evaluation.add_warning(Warning::NormalisationLeftOut { tensors });
    }
    evaluation.checkpoint = loaded.checkpoint.as_ref().map(|(name, _)| name.clone());
    // First what a person sees; no place that cannot be written costs another its figures.
    let json = evaluation.to_json(arguments.examples)?;
    say(if to_stdout { json.clone() } else { report(&evaluation) });
    if arguments.per_class && !to_stdout {
        say(class_table(&evaluation, loaded.dataset.class_names()));
    }
    let mut written = match json_file {
        Some(path) => files::write_whole(path, format!("{json}\n").as_bytes())
            .with_context(|| format!("the result cannot be written: {}", path.display())),
        None => Ok(()),
    };
    if let Some(path) = &arguments.predictions {
        let predicted = predictions(path, &evaluation, &loaded, arguments.batch_size, &device);
        written = written.and(predicted);
    }
    if let Some(run) = &loaded.run {
        let slot = loaded.checkpoint.as_ref().map_or(Slot::Last, |(_, slot)| *slot);
        let file =
            filing::keep(run, &evaluation, slot, loaded.stands).context("the run's folder cannot keep the figures")?;
        note(format!("kept in {}", file.display()));
    }
    if let Some(path) = of_run {
        let _ = std::fs::remove_file(path);
    }
    written
}

/// Each class in a row: its examples, those that stand under each attack, and what the last attack makes of it.
fn class_table(evaluation: &Evaluation, names: &[String]) -> String {
    let attacks = evaluation.attacks.iter().map(|attack| attack.name.clone());
    let mut header = vec!["class".to_string(), "N".to_string()];
    header.extend(attacks);
    header.push("worst case".into());
    let last = evaluation.attacks.len() - 1;
    header.push(format!("taken for under {}", evaluation.attacks[last].name));
    let mut rows = vec![header];
    for class in evaluation.by_class(names.len()) {
        let share = |count: usize| match class.n {
            0 => "–".to_string(),
            n => percent(count as f64 / n as f64),
        };
        let mut row = vec![names[class.class].clone(), class.n.to_string()];
        row.extend(class.standing.iter().map(|count| share(*count)));
        row.push(share(class.worst_case));
        let taken = class.taken_for(last);
        row.push(taken.map_or(String::new(), |(other, count)| {
            format!("{} {}", share(count), names[other])
        }));
        rows.push(row);
    }
    format!("\n{}", table(&rows))
}

/// Writes what the model says to each example: for the natural images all of it, under the attacks its answer.
fn predictions(path: &Path, evaluation: &Evaluation, loaded: &Loaded, at_once: usize, device: &Device) -> Result<()> {
    let (n, classes) = (loaded.dataset.len(), loaded.model.classes());
    let mut logits: Vec<f32> = Vec::with_capacity(n * classes);
    let positions: Vec<usize> = (0..n).collect();
    for part in positions.chunks(at_once) {
        let batch = loaded.dataset.batch(part, device);
        logits.extend(read(loaded.model.forward(batch.images, Mode::Eval))?);
    }
    let probabilities: Vec<f32> = logits.chunks(classes).flat_map(softmax).collect();
    let of = |value: fn(&ExampleResult) -> usize| -> Vec<i64> {
        evaluation
            .examples
            .iter()
            .map(|example| value(example) as i64)
            .collect()
    };
    let (index, label) = (of(|example| example.index), of(|example| example.label));
    let answers: Vec<(String, Vec<i64>)> = evaluation
        .attacks
        .iter()
        .enumerate()
        .map(|(place, attack)| {
            let answers = evaluation.examples.iter();
            let answers = answers.map(|example| example.attacks[place].prediction as i64);
            (
                format!("prediction {}", attack.name.replace('/', " ")),
                answers.collect(),
            )
        })
        .collect();
    let (rows, table) = ([n], [n, classes]);
    let mut arrays: Vec<(&str, &[usize], NpzValues)> = vec![
        ("index", &rows, NpzValues::I64(&index)),
        ("label", &rows, NpzValues::I64(&label)),
        ("logits", &table, NpzValues::F32(&logits)),
        ("probabilities", &table, NpzValues::F32(&probabilities)),
    ];
    arrays.extend(
        answers
            .iter()
            .map(|(name, values)| (name.as_str(), &rows[..], NpzValues::I64(values))),
    );
    write_npz(path, &arrays).with_context(|| format!("the predictions cannot be written: {}", path.display()))
}

/// exp(z_k − max z) / Σ exp(z_j − max z), in double precision.
fn softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|z| f64::from(z - highest).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|power| (power / total) as f32).collect()
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

/// Accuracy against ε as a table: a row for each radius, a column for each attack.
fn curve_table(curve: &[CurvePoint]) -> Option<String> {
    let names = curve.first()?.accuracy.0.iter().map(|(name, _)| name.clone());
    let mut rows = vec![["ε".to_string()].into_iter().chain(names).collect::<Vec<_>>()];
    for point in curve {
        let figures = point.accuracy.0.iter().map(|(_, accuracy)| percent(*accuracy));
        rows.push([point.epsilon.to_string()].into_iter().chain(figures).collect());
    }
    Some(table(&rows))
}

/// The result as a person reads it: every figure with its N, and every warning.
pub fn report(evaluation: &Evaluation) -> String {
    let mut rows = vec![
        ["attack", "accuracy", "95 % interval", "settings"]
            .map(str::to_string)
            .to_vec(),
    ];
    for attack in &evaluation.attacks {
        rows.push(vec![
            attack.name.clone(),
            percent(attack.accuracy()),
            attack.standing.interval.to_string(),
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
        evaluation.worst_case.interval.to_string(),
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
    for comparison in &evaluation.transfers {
        text += &format!(
            "\n{} beside {}: both fooled {}, only {} {}, only {} {}, neither {}",
            comparison.transfer,
            comparison.white_box,
            comparison.both,
            comparison.transfer,
            comparison.only_transfer,
            comparison.white_box,
            comparison.only_white_box,
            comparison.neither
        );
    }
    if let Some(surrogate) = &evaluation.surrogate {
        text += &format!("\nsurrogate: {surrogate}");
    }
    if let Some(curve) = curve_table(&evaluation.curve) {
        text += &format!("\n\n{curve}");
    }
    if let Some(remark) = &data.note {
        text += &format!("\ndata: {remark}");
    }
    for warning in &evaluation.warnings {
        text += &format!(
            "\n\nwarning: {}\n  {} (martlet explain {})",
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
        Self {
            bar: progress_bar(1_000, "{percent:>3} % · {msg} · {eta} left"),
        }
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
            (EvaluationEvent::AttackFinished(result), bar) => {
                let line = format!(
                    "{}: {} ({})",
                    result.name,
                    percent(result.accuracy()),
                    duration(result.seconds)
                );
                match bar {
                    Some(bar) => bar.suspend(|| note(line)),
                    None => note(line),
                }
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
