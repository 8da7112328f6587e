//! `martlet bench steps`: passes through a network and steps of training, in turn with PyTorch's, so that whatever else the
//! machine does meets both. A figure is the median over the rounds, the device having finished.

use std::{collections::BTreeMap, path::PathBuf, time::Duration, time::Instant};

use burn::tensor::{Int, Tensor, TensorData};
use serde_json::{Value, json};

use super::{Output, load, median, peer::Peer, products};
use crate::{
    attacks::{Keep, Pgd, maximise, value_and_gradient},
    cli::{DeviceOption, WrongUse, terminal},
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

/// What is timed: a forward pass in evaluation; one with the gradient of the images; the outer step of MART (two passes in
/// training, the way back, the optimiser); a whole step of MART with PGD-10; an evaluation by PGD-20.
pub(super) const FORMS: [&str; 5] = ["forward", "attack", "outer", "mart", "pgd-20"];

#[derive(clap::Args)]
pub struct StepsArguments {
    #[command(flatten)]
    device: DeviceOption,
    /// A network; may be given several times.
    #[arg(long = "network", value_name = "NAME", default_values = ["small-cnn", "resnet-18"])]
    networks: Vec<String>,
    /// Images of a minibatch; 128 for small grey networks and 32 for others where nothing is said.
    #[arg(long)]
    batch: Option<usize>,
    /// Rounds, in each of which either side has a turn; the median of all times counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// forward, attack, outer, mart, pgd-20; all where nothing is said.
    #[arg(long = "form", value_name = "FORM")]
    forms: Vec<String>,
    /// Leave PyTorch out.
    #[arg(long)]
    alone: bool,
    /// Round factors to float16, on the device's matrix units where it has some.
    #[arg(long)]
    mixed_precision: bool,
    /// Write the results here as JSON too.
    #[arg(long, value_name = "PATH")]
    json: Option<PathBuf>,
}

pub fn run(arguments: StepsArguments) -> anyhow::Result<()> {
    let output = Output::of(arguments.json.as_deref())?;
    if let Some(unknown) = arguments.forms.iter().find(|form| !FORMS.contains(&form.as_str())) {
        let all = FORMS.join(", ");
        return Err(WrongUse(format!("unknown form {unknown:?}; expected one of {all}")).into());
    }
    let device = compute::open(&arguments.device.device)?;
    let info = device.info().clone();
    let before = load();
    terminal::say(format!(
        "{} · {} · medians of {} rounds · load {}\n",
        info.name,
        info.driver,
        arguments.rounds,
        before.map_or("unknown".to_string(), |load| load.to_string())
    ));
    let mut rows = Vec::new();
    for name in &arguments.networks {
        let architecture: Architecture = name.parse()?;
        let examples = arguments.batch.unwrap_or(usual_batch(architecture)).max(1);
        let mut bench = Bench::new(architecture, examples, device.clone(), !arguments.alone)?;
        bench.model.multiply(products(arguments.mixed_precision, &device)?);
        rows.extend(bench.run(arguments.rounds.max(1), &arguments.forms)?);
    }
    let after = load();
    let result = json!({
        "device": info, "load": [before, after], "rounds": arguments.rounds,
        "mixed_precision": arguments.mixed_precision, "rows": rows,
    });
    output.write(&serde_json::to_string_pretty(&result)?)
}

pub(super) struct Bench {
    architecture: Architecture,
    device: Device,
    recipe: Recipe,
    model: Model,
    batch: Batch,
    sgd: Sgd,
    peer: Option<Peer>,
}

/// Whether a network is one of the small ones for grey images.
fn is_grey(architecture: Architecture) -> bool {
    matches!(architecture, Architecture::SmallCnn | Architecture::DynamicCnn)
}

/// Images of a minibatch where a person says nothing.
pub(super) fn usual_batch(architecture: Architecture) -> usize {
    if is_grey(architecture) { 128 } else { 32 }
}

/// How long a turn of one side goes on at least, in milliseconds.
const TURN: f64 = 150.0;

/// One side's turn: the form once, untimed, then again and again for a while. Whose threads wait busily after their work, as
/// PyTorch's do, must not cost the other side time, and caches are those of steady work.
fn turn(mut once: impl FnMut() -> anyhow::Result<Option<f64>>) -> anyhow::Result<Vec<f64>> {
    std::thread::sleep(Duration::from_millis(20));
    let mut times = Vec::new();
    if once()?.is_some() {
        while times.iter().sum::<f64>() < TURN {
            let Some(time) = once()? else { break };
            times.push(time);
        }
    }
    Ok(times)
}

impl Bench {
    pub(super) fn new(
        architecture: Architecture,
        examples: usize,
        device: Device,
        with_peer: bool,
    ) -> anyhow::Result<Self> {
        let grey = is_grey(architecture);
        let (channels, side) = if grey { (1, 28) } else { (3, 32) };
        let shape = ImageShape {
            channels,
            height: side,
            width: side,
        };
        let rng = &mut Rng::new(1);
        let model = Model::new(architecture, shape, 10, rng, &device)?;
        let pixels: Vec<f32> = (0..examples * shape.len()).map(|_| rng.uniform(0.0, 1.0)).collect();
        let labels: Vec<i64> = (0..examples as i64).map(|label| label % 10).collect();
        let dims = [examples, channels, side, side];
        let batch = Batch {
            images: Tensor::from_data(TensorData::new(pixels, dims), device.tensors()),
            labels: Tensor::<1, Int>::from_data(TensorData::new(labels, [examples]), device.tensors()),
            indices: (0..examples).collect(),
        };
        let kind = if device.info().kind.is_gpu() { "gpu" } else { "cpu" };
        let peer = with_peer
            .then(|| Peer::start(&architecture.to_string(), examples, kind))
            .flatten();
        match &peer {
            Some(peer) => terminal::note(format!("beside {}", peer.description)),
            None if with_peer => terminal::note("python3 has no torch: its column stays empty"),
            None => {}
        }
        Ok(Self {
            architecture,
            recipe: preset(if grey { "mnist-mart" } else { "cifar10-mart-paper" })?,
            model,
            batch,
            sgd: Sgd::default(),
            peer,
            device,
        })
    }

    fn run(&mut self, rounds: usize, chosen: &[String]) -> anyhow::Result<Vec<Value>> {
        let wanted = |form: &str| chosen.is_empty() || chosen.iter().any(|name| name == form);
        let mut ours: [Vec<f64>; FORMS.len()] = Default::default();
        let mut theirs: [Vec<f64>; FORMS.len()] = Default::default();
        for _ in 0..rounds {
            for (number, form) in FORMS.into_iter().enumerate().filter(|(_, form)| wanted(form)) {
                ours[number].extend(turn(|| self.time(form).map(Some))?);
                if let Some(peer) = &mut self.peer {
                    theirs[number].extend(turn(|| Ok(peer.time(form)))?);
                }
            }
        }
        let examples = self.batch.len();
        terminal::say(
            "| network | images | form | Martlet | PyTorch | PyTorch / Martlet | launches |\n|---|---|---|---|---|---|---|",
        );
        let mut rows = Vec::new();
        for ((form, ours), theirs) in FORMS.into_iter().zip(ours).zip(theirs) {
            let (Some(ours), theirs) = (median(ours), median(theirs)) else {
                continue;
            };
            let (shown, ratio) = theirs.map_or_else(Default::default, |theirs| {
                (format!("{theirs:.1} ms"), format!("{:.2}", theirs / ours))
            });
            let name = self.architecture;
            let launches = self.launches(form)?;
            let counted = launches.map_or_else(String::new, |launches| launches.to_string());
            terminal::say(format!(
                "| {name} | {examples} | {form} | {ours:.1} ms | {shown} | {ratio} | {counted} |"
            ));
            rows.push(json!({
                "network": name.to_string(),
                "batch": examples,
                "form": form,
                "martlet_ms": ours,
                "pytorch_ms": theirs,
                "launches": launches,
            }));
        }
        terminal::say("");
        Ok(rows)
    }

    /// Milliseconds of one run of `form`.
    fn time(&mut self, form: &str) -> anyhow::Result<f64> {
        self.device.sync()?;
        let begun = Instant::now();
        self.once(form)?;
        self.device.sync()?;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// Kernels that one run of `form` launches; `None` on the processor, which has none.
    fn launches(&mut self, form: &str) -> anyhow::Result<Option<usize>> {
        if self.device.is_cpu() {
            return Ok(None);
        }
        let launches = self.launches_by_kernel(form)?;
        Ok(Some(launches.values().sum()))
    }

    /// How often one run of `form` launches each kernel.
    pub(super) fn launches_by_kernel(&mut self, form: &str) -> anyhow::Result<BTreeMap<String, usize>> {
        let (done, launches) = compute::counting_launches(|| self.once(form));
        done.map(|()| launches)
    }

    fn once(&mut self, form: &str) -> anyhow::Result<()> {
        match form {
            "forward" => drop(read(self.model.forward(self.batch.images.clone(), Mode::Eval))?),
            "attack" => self.attack()?,
            "outer" => self.mart(0)?,
            "mart" => self.mart(STEPS)?,
            _ => self.evaluate()?,
        }
        Ok(())
    }

    fn pgd(&self, steps: usize) -> Pgd {
        Pgd {
            steps,
            step_size: self.recipe.threat.epsilon.divided_by(4),
            start: Start::Uniform,
            restarts: 1,
            keep: Keep::Last,
        }
    }

    fn objective(&self) -> impl Fn(Images) -> Tensor<1> {
        |images: Images| losses::cross_entropy(self.model.forward(images, Mode::Eval), self.batch.labels.clone())
    }

    /// A forward pass and the gradient of the images.
    fn attack(&self) -> anyhow::Result<()> {
        let (_, gradient) = value_and_gradient(&self.objective(), &self.batch.images)?;
        read(gradient)?;
        Ok(())
    }

    /// PGD-20 and what the network says to its images.
    fn evaluate(&self) -> anyhow::Result<()> {
        let (threat, pgd) = (&self.recipe.threat, self.pgd(20));
        let found = maximise(
            &self.objective(),
            &self.batch.images,
            threat,
            &pgd,
            &mut Rng::new(2).each(self.batch.len()),
        )?;
        read(self.model.forward(found, Mode::Eval))?;
        Ok(())
    }

    /// A step of training whose attack takes `steps` steps.
    fn mart(&mut self, steps: usize) -> anyhow::Result<()> {
        let (model, pgd) = (&self.model, self.pgd(steps));
        let mut context = StepContext {
            attacking: Duration::ZERO,
            attacked: &|images: Images| model.forward(images, Mode::Eval),
            threat: &self.recipe.threat,
            pgd: &pgd,
            label_smoothing: 0.0,
            epoch: 0,
            rngs: &mut Rng::new(2).each(self.batch.len()),
        };
        let mut defence = DefenceSpec::mart(5.0, Form::Paper).build();
        let (loss, gradient) = defence.gradients(model, &self.batch, &mut context)?;
        // At rate 0 every round has the same weights.
        self.sgd.step(&mut self.model, gradient, &self.recipe.optimiser, 0.0);
        read(loss.objective)?;
        Ok(())
    }
}
