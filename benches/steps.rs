//! A step of MART against the passes that it is made of, and both against PyTorch, on the processor or on the device
//! that `--device` names:
//!
//! ```text
//! cargo bench --bench steps -- --network small-cnn --batch 128 --rounds 7
//! cargo bench --bench steps -- --network resnet-18 --form attack --form "attack folded"
//! ```
//!
//! All forms take turns within a round, PyTorch's (`benches/peer.py`, where `python3` has torch) among them, so that
//! whatever else the machine does meets all. A figure is the median over the rounds, the device having finished.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    str::FromStr,
    time::Instant,
};

use anyhow::{Context, Result};
use burn::tensor::{Int, Tensor, TensorData};
use martlet::{
    attacks::{Keep, Pgd, value_and_gradient},
    compute::{self, Device, read},
    defences::{DefenceSpec, StepContext},
    engine::Sgd,
    losses::{self, Form},
    nn::{Architecture, Mode, Model},
    random::Rng,
    recipe::{Recipe, preset},
    shapes::{Batch, ImageShape, Images},
    threat::Start,
};

/// Attack steps of a training step, as the paper trains.
const STEPS: usize = 10;

/// What is timed. `attack folded` goes through the copy with BatchNorm folded into the convolutions.
const FORMS: [&str; 5] = ["forward", "attack", "attack folded", "outer", "mart"];

fn main() -> Result<()> {
    let (mut device, mut rounds, mut batch) = ("cpu".to_string(), 5, None);
    let (mut networks, mut forms) = (Vec::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} wants a value"));
        match argument.as_str() {
            "--device" => device = value()?,
            "--network" => networks.push(value()?),
            "--form" => forms.push(value()?),
            "--rounds" => rounds = value()?.parse()?,
            "--batch" => batch = Some(value()?.parse()?),
            _ => {} // cargo's own.
        }
    }
    if networks.is_empty() {
        networks = vec!["small-cnn".into(), "resnet-18".into()];
    }
    let device = compute::open(&device)?;
    let info = device.info();
    println!("{} · {} · medians of {rounds} rounds\n", info.name, info.driver);
    println!("| network | images | form | Martlet | PyTorch | ratio |\n|---|---|---|---|---|---|");
    for name in networks {
        let grey = matches!(name.as_str(), "small-cnn" | "dynamic-cnn");
        let examples = batch.unwrap_or(if grey { 128 } else { 32 });
        Bench::new(&name, grey, examples, device.clone())?.run(rounds, &forms)?;
    }
    Ok(())
}

struct Bench {
    name: String,
    device: Device,
    recipe: Recipe,
    model: Model,
    folded: Model,
    batch: Batch,
    sgd: Sgd,
    peer: Option<Peer>,
}

impl Bench {
    fn new(name: &str, grey: bool, examples: usize, device: Device) -> Result<Self> {
        let (channels, side) = if grey { (1, 28) } else { (3, 32) };
        let shape = ImageShape {
            channels,
            height: side,
            width: side,
        };
        let rng = &mut Rng::new(1);
        let model = Model::new(Architecture::from_str(name)?, shape, 10, rng, &device)?;
        let pixels: Vec<f32> = (0..examples * shape.len()).map(|_| rng.uniform(0.0, 1.0)).collect();
        let labels: Vec<i64> = (0..examples as i64).map(|label| label % 10).collect();
        let batch = Batch {
            images: Tensor::from_data(
                TensorData::new(pixels, [examples, channels, side, side]),
                device.tensors(),
            ),
            labels: Tensor::<1, Int>::from_data(TensorData::new(labels, [examples]), device.tensors()),
            indices: (0..examples).collect(),
        };
        let peer = Peer::start(name, examples);
        if peer.is_none() {
            eprintln!("python3 has no torch or no such network: PyTorch's column stays empty");
        }
        Ok(Self {
            name: name.to_string(),
            recipe: preset(if grey { "mnist-mart" } else { "cifar10-mart-paper" })?,
            folded: model.inference(),
            model,
            batch,
            sgd: Sgd::default(),
            peer,
            device,
        })
    }

    fn run(&mut self, rounds: usize, chosen: &[String]) -> Result<()> {
        let wanted = |form: &str| chosen.is_empty() || chosen.iter().any(|name| name == form);
        let mut ours: [Vec<f64>; FORMS.len()] = Default::default();
        let mut theirs: [Vec<f64>; FORMS.len()] = Default::default();
        // The first round warms up.
        for round in 0..=rounds {
            for (number, form) in FORMS.into_iter().enumerate().filter(|(_, form)| wanted(form)) {
                let time = self.time(form)?;
                let peer = self.peer.as_mut().and_then(|peer| peer.time(form));
                if round > 0 {
                    ours[number].push(time);
                    theirs[number].extend(peer);
                }
            }
        }
        let dims = self.batch.images.dims().map(|dim| dim.to_string()).join("×");
        let (ours, theirs) = (ours.map(median), theirs.map(median));
        for ((form, ours), theirs) in FORMS.into_iter().zip(&ours).zip(theirs) {
            let Some(ours) = ours else { continue };
            let (theirs, ratio) = theirs.map_or_else(Default::default, |theirs| {
                (format!("{theirs:.0} ms"), format!("{:.2}", ours / theirs))
            });
            println!(
                "| {} | {dims} | {form} | {ours:.0} ms | {theirs} | {ratio} |",
                self.name
            );
        }
        if let [_, Some(attack), _, Some(outer), Some(mart)] = ours {
            println!(
                "\n{}: a step of MART takes {:.3} times its {STEPS} attack steps and its outer step.\n",
                self.name,
                mart / (attack * STEPS as f64 + outer)
            );
        }
        Ok(())
    }

    /// Milliseconds of one run of `form`.
    fn time(&mut self, form: &str) -> Result<f64> {
        self.device.sync()?;
        let begun = Instant::now();
        match form {
            "forward" => drop(read(self.model.forward(self.batch.images.clone(), Mode::Eval))?),
            "attack" => attack(&self.model, &self.batch)?,
            "attack folded" => attack(&self.folded, &self.batch)?,
            "outer" => self.mart(0)?,
            _ => self.mart(STEPS)?,
        }
        self.device.sync()?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// A step of training whose attack takes `steps` steps.
    fn mart(&mut self, steps: usize) -> Result<()> {
        let model = &self.model;
        let mut context = StepContext {
            attacking: std::time::Duration::ZERO,
            attacked: &|images: Images| model.forward(images, Mode::Eval),
            threat: &self.recipe.threat,
            pgd: &Pgd {
                steps,
                step_size: self.recipe.threat.epsilon.divided_by(4),
                start: Start::Uniform,
                restarts: 1,
                keep: Keep::Last,
            },
            label_smoothing: 0.0,
            epoch: 0,
            rng: &mut Rng::new(2),
        };
        let mut defence = DefenceSpec::mart(5.0, Form::Paper).build();
        let (loss, gradients) = defence.gradients(model, &self.batch, &mut context)?;
        // At rate 0 every round has the same weights.
        self.sgd.step(&mut self.model, gradients, &self.recipe.optimiser, 0.0);
        read(loss.objective)?;
        Ok(())
    }
}

/// A forward pass and the gradient of the images.
fn attack(model: &Model, batch: &Batch) -> Result<()> {
    let objective = |images: Images| losses::cross_entropy(model.forward(images, Mode::Eval), batch.labels.clone());
    let (_, gradient) = value_and_gradient(&objective, &batch.images)?;
    read(gradient)?;
    Ok(())
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// PyTorch in a process of its own: a form's name in, its milliseconds out.
struct Peer {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    fn start(network: &str, examples: usize) -> Option<Self> {
        let mut process = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer.py"))
            .args([network, &examples.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (questions, answers) = (process.stdin.take()?, BufReader::new(process.stdout.take()?));
        let mut peer = Self {
            process,
            questions,
            answers,
        };
        peer.time("forward")?;
        Some(peer)
    }

    fn time(&mut self, form: &str) -> Option<f64> {
        writeln!(self.questions, "{form}").ok()?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).ok()?;
        answer.trim().parse().ok()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Whether it is gone already does not matter.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
