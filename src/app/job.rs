//! Training on a thread of its own: what the window sends it, and what it sends back.

use std::{
    collections::{HashMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    compute::{self, Device, self_check::Verdict},
    control::Control,
    engine::{self, Adjustment, Event, Examples, Observer, TrainingData, device_check, session},
    nn::Model,
    recipe::Recipe,
    runs::{self, Run},
};

/// Messages that wait for the window; the rest waits on the trainer's side, which never waits for the window.
const WAITING: usize = 1_024;

/// Between two frames that training asks for: often enough to look alive, seldom enough to cost nothing.
pub const FRAME_PAUSE: Duration = Duration::from_millis(100);

/// A device that is open, with what the self-check said.
#[derive(Clone)]
pub struct Opened {
    /// The device.
    pub device: Device,
    /// Whether it computes what the processor computes.
    pub verdict: Verdict,
}

/// Opens a device and checks it, once for each choice; takes long the first time that a GPU is used.
pub fn open(choice: &str) -> Result<Opened> {
    let mut opened = open_devices();
    let device = compute::open(choice)?;
    if let Some(found) = opened.get(choice)
        && found.device.tensors() == device.tensors()
    {
        return Ok(found.clone());
    }
    let verdict = device_check::cached_or_check(&device)?;
    let found = Opened { device, verdict };
    opened.insert(choice.to_string(), found.clone());
    Ok(found)
}

/// Gives a device's unused memory back when it goes: made by a thread that works on a device before anything that lies
/// on it.
pub struct Release(pub Device);

impl Drop for Release {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn open_devices() -> MutexGuard<'static, HashMap<String, Opened>> {
    static OPENED: LazyLock<Mutex<HashMap<String, Opened>>> = LazyLock::new(Mutex::default);
    lock(&OPENED)
}

/// What training tells the window.
pub enum Message {
    /// What it is doing before the first minibatch.
    Preparing(String),
    /// The folder of runs cannot be written.
    NoPlace,
    /// The run is open and its data are there.
    Ready(Box<Ready>),
    /// An event of the run.
    Event(Event),
    /// How some examples fare.
    Examples(Examples),
    /// The thread is over; an error says why where it failed.
    Over(Option<String>),
}

/// A run that is about to train.
pub struct Ready {
    /// Its folder.
    pub folder: PathBuf,
    /// The data.
    pub data: Arc<TrainingData>,
    /// The device.
    pub opened: Opened,
}

/// What is to be trained.
pub enum Task {
    /// A new run.
    New {
        /// Its recipe.
        recipe: Box<Recipe>,
        /// The folder of runs.
        runs_dir: PathBuf,
    },
    /// A run that was interrupted.
    Resume(PathBuf),
}

/// A training under way.
pub struct Job {
    /// Pauses, steps and stops it.
    pub control: Control,
    shared: Arc<Shared>,
    receiver: Receiver<Message>,
    thread: Option<JoinHandle<()>>,
}

/// What both threads look at.
#[derive(Default)]
struct Shared {
    wants_model: AtomicBool,
    /// The share of the time for looking, the bits of an `f64`.
    looking_share: AtomicU64,
    model: Mutex<Option<Snapshot>>,
    adjustments: Mutex<Vec<Adjustment>>,
}

/// The model as it was at a moment of training.
#[derive(Clone)]
pub struct Snapshot {
    /// The model.
    pub model: Arc<Model>,
    /// Minibatches done.
    pub total_steps: usize,
}

impl Job {
    /// Starts training. `wake` is called when there is something to look at.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(task: Task, device: String, wake: impl Fn() + Send + 'static) -> Result<Self> {
        let control = Control::new();
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = sync_channel(WAITING);
        let mut watcher = Watcher {
            sender,
            backlog: VecDeque::new(),
            shared: shared.clone(),
            wake: Box::new(wake),
        };
        let steered = control.clone();
        let thread = thread::Builder::new().name("trainer".to_string()).spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| work(task, &device, &steered, &mut watcher)));
            let error = match outcome {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{error:#}")),
                Err(panic) => Some(format!(
                    "training broke off inside the program or the driver: {}; the last checkpoint is kept: resume the run, on another device if this one is gone",
                    panic_text(panic.as_ref())
                )),
            };
            watcher.finish(error);
        })?;
        Ok(Self {
            control,
            shared,
            receiver,
            thread: Some(thread),
        })
    }

    /// The next message, if one waits.
    pub fn next(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// Asks for the model between the next two minibatches.
    pub fn want_model(&self) {
        self.shared.wants_model.store(true, Ordering::Relaxed);
    }

    /// The newest model that training handed out.
    pub fn model(&self) -> Option<Snapshot> {
        lock(&self.shared.model).clone()
    }

    /// Sets the share of the time that training may spend on being looked at.
    pub fn allow_looking(&self, share: f64) {
        self.shared.looking_share.store(share.to_bits(), Ordering::Relaxed);
    }

    /// Changes the course of training before the next minibatch.
    pub fn adjust(&self, adjustment: Adjustment) {
        lock(&self.shared.adjustments).push(adjustment);
    }

    /// Whether the thread still works.
    pub fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Job {
    /// A window that closes waits for the checkpoint of the minibatch under way.
    fn drop(&mut self) {
        self.control.stop();
        if let Some(thread) = self.thread.take() {
            // Its outcome was told through the channel.
            let _ = thread.join();
        }
    }
}

/// The data behind these locks are whole values: a panic elsewhere cannot leave them half-written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_string(),
        (_, Some(text)) => text.clone(),
        _ => "no reason given".to_string(),
    }
}

fn work(task: Task, device: &str, control: &Control, watcher: &mut Watcher) -> Result<()> {
    if let Task::New { runs_dir, .. } = &task {
        runs::check_place(runs_dir).inspect_err(|_| watcher.tell(Message::NoPlace))?;
    }
    watcher.tell(Message::Preparing(
        "opening the device; a GPU is compared with the CPU before its first use".to_string(),
    ));
    let opened = open(device)?;
    let _release = Release(opened.device.clone());
    let identity = session::identity(&opened.device, &opened.verdict);
    watcher.tell(Message::Preparing("loading the data".to_string()));
    let (recipe, mut run, data) = match task {
        Task::New { recipe, runs_dir } => {
            engine::products(&recipe, &opened.device)?;
            let data = TrainingData::load(&recipe)?;
            // Two that train side by side may ask for the same name.
            static NAMING: Mutex<()> = Mutex::new(());
            let naming = lock(&NAMING);
            let name = runs::pick_name(&runs_dir, &session::name_of(&recipe))?;
            let run = session::create(&runs_dir, &name, &recipe, &data, &identity)?;
            drop(naming);
            (*recipe, run, data)
        }
        Task::Resume(folder) => {
            let run = Run::open(&folder)?;
            let recipe = Recipe::from_toml(run.recipe_toml()).context("the run's recipe.toml is damaged")?;
            let data = TrainingData::load(&recipe)?;
            session::check_data(&run, &data)?;
            (recipe, run, data)
        }
    };
    let data = Arc::new(data);
    watcher.tell(Message::Ready(Box::new(Ready {
        folder: run.folder().to_path_buf(),
        data: data.clone(),
        opened: opened.clone(),
    })));
    let model = session::run(&recipe, &data, &mut run, &opened.device, identity, control, watcher)?;
    *lock(&watcher.shared.model) = Some(Snapshot {
        model: Arc::new(model),
        total_steps: usize::MAX,
    });
    Ok(())
}

/// The trainer's side of the channel.
struct Watcher {
    sender: SyncSender<Message>,
    /// What the window had no room for yet.
    backlog: VecDeque<Message>,
    shared: Arc<Shared>,
    wake: Box<dyn Fn() + Send>,
}

impl Watcher {
    fn tell(&mut self, message: Message) {
        self.backlog.push_back(message);
        while let Some(message) = self.backlog.pop_front() {
            match self.sender.try_send(message) {
                Ok(()) => {}
                Err(TrySendError::Full(message)) => {
                    self.backlog.push_front(message);
                    break;
                }
                // The window is gone; the run goes on until it is stopped.
                Err(TrySendError::Disconnected(_)) => break,
            }
        }
        (self.wake)();
    }

    /// Hands over everything: training is over, so it may wait.
    fn finish(mut self, error: Option<String>) {
        self.backlog.push_back(Message::Over(error));
        for message in std::mem::take(&mut self.backlog) {
            (self.wake)();
            if self.sender.send(message).is_err() {
                return;
            }
        }
        (self.wake)();
    }
}

impl Observer for Watcher {
    fn event(&mut self, event: &Event) {
        self.tell(Message::Event(event.clone()));
    }

    fn wants_examples(&self) -> bool {
        // Where the window lags behind, pictures may be missing; events never.
        self.backlog.len() < WAITING
    }

    fn looking_share(&self) -> f64 {
        f64::from_bits(self.shared.looking_share.load(Ordering::Relaxed))
    }

    fn examples(&mut self, examples: Examples) {
        self.tell(Message::Examples(examples));
    }

    fn wants_model(&self) -> bool {
        self.shared.wants_model.load(Ordering::Relaxed)
    }

    fn model(&mut self, model: &Model, total_steps: usize) {
        self.shared.wants_model.store(false, Ordering::Relaxed);
        *lock(&self.shared.model) = Some(Snapshot {
            model: Arc::new(model.clone()),
            total_steps,
        });
    }

    fn adjustments(&mut self) -> Vec<Adjustment> {
        std::mem::take(&mut *lock(&self.shared.adjustments))
    }
}
