//! One image under attack: a worker thread that always works on the newest wish, and what it found.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::{Instant, SystemTime},
};

use burn::tensor::{Int, Tensor, TensorData, activation::log_softmax};
use egui::Context;

use crate::{
    attacks::{Aim, ApgdObjective, Attack, AttackSpec, Method},
    compute::{self, Device},
    data::Dataset,
    nn::{Mode, Model},
    random::Rng,
    recipe::Recipe,
    report::pictures,
    runs::Slot as Checkpoint,
    shapes::{Batch, ImageShape, argmax},
    threat::{Magnitude, Norm, ThreatModel},
};

/// Which weights of which run.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// The run.
    pub folder: PathBuf,
    /// The checkpoint; none are the weights that train now.
    pub slot: Option<Checkpoint>,
    /// When that checkpoint was written.
    pub written: Option<SystemTime>,
}

/// A model that can be attacked.
#[derive(Clone)]
pub struct Subject {
    /// Where it comes from.
    pub source: Source,
    /// What it is called.
    pub label: String,
    model: Arc<Model>,
    device: Device,
    data: Option<(Arc<Dataset>, ThreatModel)>,
}

impl Subject {
    /// A model of a run.
    pub fn new(source: Source, label: String, model: Arc<Model>, device: Device) -> Self {
        Self {
            source,
            label,
            model,
            device,
            data: None,
        }
    }

    /// The network and its device.
    pub fn network(&self) -> (&Model, &Device) {
        (&self.model, &self.device)
    }

    /// The images that it takes.
    pub fn input(&self) -> ImageShape {
        self.model.input()
    }

    /// With the data to look at where nothing is looked at yet.
    pub fn with_data(mut self, data: Arc<Dataset>, recipe: &Recipe) -> Self {
        self.data = Some((data, recipe.threat.clone()));
        self
    }
}

/// The image that is looked at.
#[derive(Clone)]
pub struct Specimen {
    /// Where it comes from.
    pub title: String,
    /// Its pixels, `[C, H, W]` in `[0, 1]`.
    pub pixels: Vec<f32>,
    /// Its shape.
    pub shape: ImageShape,
    /// Its true class, where that is known.
    pub label: Option<usize>,
    /// The names of the classes.
    pub classes: Vec<String>,
}

/// The attack that a person asks for.
#[derive(Clone, PartialEq)]
pub struct Wish {
    /// `fgsm`, `pgd`, `cw`.
    pub attack: String,
    /// Gradient steps.
    pub steps: usize,
    /// The ball's radius.
    pub epsilon: f32,
    /// The ball's norm.
    pub norm: Norm,
    /// A class to drive towards.
    pub target: Option<usize>,
    /// Seed of the random start.
    pub seed: u64,
}

impl Wish {
    /// The attack as suites write it.
    pub fn name(&self) -> String {
        match self.attack.as_str() {
            "pgd" | "cw" => format!("{}-{}", self.attack, self.steps),
            name => name.to_string(),
        }
    }
}

/// What an attack did to one model's answer, step by step.
#[derive(Clone)]
pub struct Trace {
    /// The model.
    pub subject: String,
    /// The iterates, the start first.
    pub images: Vec<Vec<f32>>,
    /// Class probabilities of the natural image.
    pub before: Vec<f32>,
    /// Class probabilities of each iterate.
    pub after: Vec<Vec<f32>>,
    /// Cross-entropy of the true class at each iterate.
    pub losses: Vec<f32>,
}

impl Trace {
    /// The cross-entropy along the steps that says how the attack fares: of the class that it drives to, else of the true one.
    pub fn losses_of(&self, target: Option<usize>) -> Vec<f32> {
        let Some(target) = target else {
            return self.losses.clone();
        };
        let share = |probabilities: &Vec<f32>| probabilities.get(target).copied().unwrap_or(f32::NAN);
        self.after
            .iter()
            .map(|probabilities| -share(probabilities).max(f32::MIN_POSITIVE).ln())
            .collect()
    }

    /// `‖x' − x‖` of an iterate in both norms: L∞, L2.
    pub fn distances(&self, natural: &[f32], step: usize) -> (f32, f32) {
        let differences = self.images[step]
            .iter()
            .zip(natural)
            .map(|(after, before)| (after - before).abs());
        let (largest, squares) = differences.fold((0.0_f32, 0.0_f32), |(largest, squares), difference| {
            (largest.max(difference), squares + difference * difference)
        });
        (largest, squares.sqrt())
    }
}

/// What was found for a wish.
pub struct Finding {
    /// When the work on it began and ended.
    pub worked: (Instant, Instant),
    /// The image.
    pub specimen: Arc<Specimen>,
    /// The wish.
    pub wish: Wish,
    /// One trace for each subject.
    pub traces: Vec<Trace>,
}

impl Finding {
    /// The gain by which ε, and where that says nothing the largest change, fills the colours of a picture of the change.
    pub fn full_gain(&self, adversarial: &[f32]) -> f32 {
        match self.wish.norm {
            Norm::Linf if self.wish.epsilon > 0.0 => 1.0 / self.wish.epsilon,
            _ => pictures::full_gain(&self.specimen.pixels, adversarial),
        }
    }
}

struct Request {
    subjects: Vec<Subject>,
    specimen: Arc<Specimen>,
    wish: Wish,
}

/// The newest request wins; the ones before it are never begun.
type Slot = Arc<(Mutex<Option<Request>>, Condvar)>;

/// The workshop.
pub struct Lab {
    /// The models under attack, side by side: the selected run's, and one beside it.
    pub subjects: [Option<Subject>; 2],
    /// The checkpoint of the selected run; none is the newest model that there is.
    pub checkpoint: Option<Checkpoint>,
    /// The run and the checkpoint beside it.
    pub beside: Option<(PathBuf, Option<Checkpoint>)>,
    /// The image.
    pub specimen: Option<Arc<Specimen>>,
    /// The attack.
    pub wish: Wish,
    /// What was found last.
    pub finding: Option<Finding>,
    /// Why the last wish could not be fulfilled.
    pub error: Option<String>,
    /// The data that examples are drawn from.
    pub data: Option<Arc<Dataset>>,
    /// The example of them that was looked at last.
    pub position: usize,
    /// The checkpoints that are on their way to each side.
    expected: [Option<Source>; 2],
    slot: Slot,
    found: Receiver<Result<Finding, String>>,
}

impl Lab {
    /// A workshop with its worker; it sleeps until something is wished for.
    pub fn new(ctx: &Context) -> Self {
        let slot: Slot = Arc::default();
        let (sender, found) = channel();
        let (own, ctx) = (slot.clone(), ctx.clone());
        let spawned = thread::Builder::new()
            .name("lab".to_string())
            .spawn(move || work(&own, &sender, &ctx));
        Self {
            subjects: [None, None],
            checkpoint: None,
            beside: None,
            specimen: None,
            wish: Wish {
                attack: "pgd".to_string(),
                steps: 20,
                epsilon: 0.1,
                norm: Norm::Linf,
                target: None,
                seed: 1,
            },
            finding: None,
            error: spawned.err().map(|error| format!("no thread for attacks: {error}")),
            data: None,
            position: 0,
            expected: [None, None],
            slot,
            found,
        }
    }

    /// Whether this model is on this side, or on its way there.
    pub fn holds(&self, side: usize, source: &Source) -> bool {
        let held = self.subjects[side].as_ref().map(|subject| &subject.source);
        self.expected[side].as_ref().or(held) == Some(source)
    }

    /// A model is on its way to this side.
    pub fn expect(&mut self, side: usize, source: &Source) {
        self.expected[side] = Some(source.clone());
    }

    /// Takes a model on one side; one that is not wanted there any more is let go.
    pub fn take(&mut self, side: usize, subject: Subject) {
        if self.expected[side]
            .take_if(|expected| *expected == subject.source)
            .is_none()
        {
            return;
        }
        if let Some((data, threat)) = &subject.data
            && side == 0
            && !self.shows_kind_of(data)
        {
            self.wish.epsilon = threat.epsilon.value();
            self.wish.norm = threat.norm;
            self.place(data, 0);
        }
        let own = self.subjects[side].replace(subject);
        let is_new = own.is_none_or(|own| {
            let taken = self.subjects[side].as_ref();
            taken.is_none_or(|taken| !Arc::ptr_eq(&own.model, &taken.model))
        });
        if is_new {
            self.ask();
        }
    }

    /// Attacks the other side's model alone.
    pub fn clear(&mut self, side: usize) {
        self.expected[side] = None;
        if self.subjects[side].take().is_some() {
            self.ask();
        }
    }

    /// Looks at an example of a data set.
    pub fn look_at(&mut self, data: &Arc<Dataset>, position: usize, recipe: &Recipe) {
        self.wish.epsilon = recipe.threat.epsilon.value();
        self.wish.norm = recipe.threat.norm;
        self.wish.target = None;
        self.show_example(data, position);
    }

    /// Looks at an example under the attack that is set.
    pub fn show_example(&mut self, data: &Arc<Dataset>, position: usize) {
        self.place(data, position);
        self.finding = None;
        self.ask();
    }

    fn place(&mut self, data: &Arc<Dataset>, position: usize) {
        self.data = Some(data.clone());
        self.position = position;
        // A class is a wrong one of this example.
        let wrong = |class: &usize| *class < data.classes() && *class != data.label(position);
        self.wish.target = self.wish.target.filter(wrong);
        self.specimen = Some(Arc::new(specimen(data, position)));
    }

    /// Whether what is looked at is of the same kind as these data: a network of the one takes the other.
    pub fn shows_kind_of(&self, data: &Dataset) -> bool {
        self.specimen.is_some()
            && self.data.as_ref().is_some_and(|own| {
                (own.name(), own.shape(), own.class_names()) == (data.name(), data.shape(), data.class_names())
            })
    }

    /// Looks at a person's own picture, scaled to what the model takes.
    ///
    /// # Errors
    /// What is wrong with the file, or that there is no model yet to say what it takes.
    pub fn open_image(&mut self, path: &Path) -> Result<(), String> {
        let Some(data) = &self.data else {
            return Err("open a run first: its network says how large a picture must be".to_string());
        };
        let specimen = own_picture(path, data.shape(), data.class_names().to_vec())?;
        self.specimen = Some(Arc::new(specimen));
        self.finding = None;
        self.ask();
        Ok(())
    }

    /// Asks the worker for what is wished for now.
    pub fn ask(&mut self) {
        let Some(specimen) = self.specimen.clone() else { return };
        let subjects: Vec<Subject> = self.subjects.iter().flatten().cloned().collect();
        if subjects.is_empty() {
            return;
        }
        let request = Request {
            subjects,
            specimen,
            wish: self.wish.clone(),
        };
        *self.slot.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
        self.slot.1.notify_one();
    }

    /// Whether what was found is of the picture, the attack and the models that are looked at now.
    pub fn is_current(&self) -> bool {
        self.finding.as_ref().is_some_and(|finding| {
            let traces = finding.traces.iter().map(|trace| &trace.subject);
            let subjects = self.subjects.iter().flatten().map(|subject| &subject.label);
            let same_picture = self
                .specimen
                .as_ref()
                .is_some_and(|own| Arc::ptr_eq(own, &finding.specimen));
            same_picture && finding.wish == self.wish && traces.eq(subjects)
        })
    }

    /// Whether training had its share since the last attack: newer weights are attacked no more often than so, a person's
    /// own wishes at once.
    pub fn is_rested(&self, share: f64) -> bool {
        let Some((began, ended)) = self.finding.as_ref().map(|finding| finding.worked) else {
            return true;
        };
        (ended - began).as_secs_f64() <= share * began.elapsed().as_secs_f64()
    }

    /// Takes in what the worker found.
    pub fn drain(&mut self) {
        while let Ok(found) = self.found.try_recv() {
            match found {
                Ok(finding) => {
                    self.error = None;
                    self.finding = Some(finding);
                }
                Err(error) => self.error = Some(error),
            }
        }
    }
}

/// A picture from a file, scaled to what a network takes.
///
/// # Errors
/// What is wrong with the file.
pub fn own_picture(path: &Path, shape: ImageShape, classes: Vec<String>) -> Result<Specimen, String> {
    let picture = image::open(path).map_err(|error| {
        format!(
            "expected a picture in PNG, JPEG, WebP, BMP, GIF or TIFF, got something else ({error}): {}",
            path.display()
        )
    })?;
    let picture = picture.resize_to_fill(
        shape.width as u32,
        shape.height as u32,
        image::imageops::FilterType::CatmullRom,
    );
    let pixels: Vec<f32> = if shape.channels == 1 {
        picture
            .to_luma8()
            .into_raw()
            .iter()
            .map(|value| f32::from(*value) / 255.0)
            .collect()
    } else {
        let rgb = picture.to_rgb8();
        let plane = |channel: usize| rgb.pixels().map(move |pixel| f32::from(pixel.0[channel]) / 255.0);
        (0..3).flat_map(plane).collect()
    };
    Ok(Specimen {
        title: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        pixels,
        shape,
        label: None,
        classes,
    })
}

/// An example of a data set as something to look at.
pub fn specimen(data: &Dataset, position: usize) -> Specimen {
    let label = data.label(position);
    Specimen {
        title: format!("{}, example {}", data.name(), data.index(position)),
        pixels: data.values(position),
        shape: data.shape(),
        label: Some(label),
        classes: data.class_names().to_vec(),
    }
}

fn work(slot: &Slot, sender: &Sender<Result<Finding, String>>, ctx: &Context) {
    loop {
        let request = {
            let mut waiting = slot.0.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                match waiting.take() {
                    Some(request) => break request,
                    None => waiting = slot.1.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| find(&request)));
        let outcome = outcome
            .unwrap_or_else(|panic| Err(anyhow::anyhow!(super::job::panic_text(panic.as_ref()))))
            .map_err(|error| format!("{error:#}"));
        if sender.send(outcome).is_err() {
            return;
        }
        ctx.request_repaint();
    }
}

fn find(request: &Request) -> anyhow::Result<Finding> {
    let began = Instant::now();
    let wish = &request.wish;
    let mut attack: AttackSpec = wish.name().parse()?;
    let epsilon: Magnitude = format!("{:.6}", wish.epsilon).parse()?;
    let threat = ThreatModel {
        norm: wish.norm,
        epsilon,
    };
    if let Some(target) = wish.target {
        match &mut attack.method {
            Method::Pgd(ascent) => ascent.aim = Aim::Target(target),
            Method::Apgd(apgd) => apgd.objective = ApgdObjective::Towards { class: target },
            _ => {}
        }
    }
    let traces = request
        .subjects
        .iter()
        .map(|subject| trace(subject, &request.specimen, &attack, &threat, wish.seed))
        .collect::<anyhow::Result<_>>()?;
    Ok(Finding {
        worked: (began, Instant::now()),
        specimen: request.specimen.clone(),
        wish: wish.clone(),
        traces,
    })
}

/// Attacks one picture of a network and keeps every step; where the picture bears no label, the network's own answer is
/// what the attack drives away from.
///
/// # Errors
/// Where the picture does not fit the network, or the attack or the device fails.
pub fn trace(
    subject: &Subject,
    specimen: &Specimen,
    attack: &AttackSpec,
    threat: &ThreatModel,
    seed: u64,
) -> anyhow::Result<Trace> {
    let shape = specimen.shape;
    anyhow::ensure!(
        subject.model.input() == shape,
        "expected a picture of {}, as {} takes them, got {shape}",
        subject.model.input(),
        subject.label
    );
    let device = subject.device.tensors();
    let dims = [1, shape.channels, shape.height, shape.width];
    let images = Tensor::<4>::from_data(TensorData::new(specimen.pixels.clone(), dims), device);
    let logits = |images| subject.model.forward(images, Mode::Eval);
    let natural = compute::read(log_softmax(logits(images.clone()), 1))?;
    let answer = argmax(&natural);
    let label = specimen.label.unwrap_or(answer);
    let batch = Batch {
        images,
        labels: Tensor::<1, Int>::from_data(TensorData::new(vec![label as i64], [1]), device),
        indices: vec![0],
    };
    let seen = RefCell::new(Vec::new());
    let watched = |images: Tensor<4>| {
        seen.borrow_mut().push(images.clone().inner());
        logits(images)
    };
    let adversarial = attack.perturb(&watched, &batch, threat, &mut Rng::new(seed).each(batch.len()))?;
    let mut iterates = seen.into_inner();
    iterates.push(adversarial);
    let steps = iterates.len();
    let iterates = Tensor::cat(iterates, 0);
    let after = compute::read(log_softmax(logits(iterates.clone()), 1))?;
    let pixels = compute::read(iterates)?;
    let classes = after.len() / steps;
    let rows: Vec<&[f32]> = after.chunks(classes).collect();
    Ok(Trace {
        subject: subject.label.clone(),
        images: pixels.chunks(shape.len()).map(<[f32]>::to_vec).collect(),
        before: natural.iter().map(|value| value.exp()).collect(),
        after: rows
            .iter()
            .map(|row| row.iter().map(|value| value.exp()).collect())
            .collect(),
        losses: rows.iter().map(|row| -row[label]).collect(),
    })
}
