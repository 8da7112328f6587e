//! What the views look at, and how commands change it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use egui::Context;

use super::{
    background::Background,
    command::Command,
    examples::{self, Book},
    job::{FRAME_PAUSE, Job, Message, Opened, Task},
    lab::{Lab, Source, Subject},
    notify::{self, Notice},
    settings::Settings,
    shown::Shown,
    theme,
};
use crate::{
    compute::Device,
    control::Control,
    data::{self, Split},
    engine::{Adjustment, Event, TrainingData, session},
    nn::weights,
    recipe::Recipe,
    report::{self, page::Ending},
    runs::{self, Run, Slot, Summary},
};

/// A training under way in this window.
pub struct Training {
    /// Its thread.
    pub job: Job,
    /// What it does before the first minibatch.
    pub preparing: String,
    /// Its run, once that is open.
    pub folder: Option<PathBuf>,
    /// Its device, once that is open.
    pub opened: Option<Opened>,
}

/// A message that stays until it is read.
struct Toast {
    text: String,
    is_error: bool,
    /// What else a person may do about it: a label and its command.
    way_out: Option<(String, Command)>,
    until: Option<Instant>,
}

/// A question that is asked before something is lost.
enum Question {
    Delete(PathBuf),
    Close,
}

/// What threads that are started for one answer say.
enum Answer {
    Runs(Result<Vec<Summary>, String>),
    Said(Result<String, String>),
    Subject(usize, Box<Subject>),
    NoSubject(String),
    Book(PathBuf, Box<Book>),
    Unnotified(String),
}

/// Everything that the views look at.
pub struct State {
    /// The window.
    pub ctx: Context,
    /// What is remembered.
    pub settings: Settings,
    /// What was asked for since the last frame.
    pub commands: Vec<Command>,
    /// The runs whose curves are there, in the order in which they came.
    pub shown: Vec<Shown>,
    /// The run that the views look at.
    pub selected: Option<PathBuf>,
    /// What trains now.
    pub trainings: Vec<Training>,
    /// The runs in the folder, and why they cannot be read where they cannot.
    pub runs: Result<Vec<Summary>, String>,
    /// The perturbation view's workshop.
    pub lab: Lab,
    /// The format that the window draws in.
    pub target_format: eframe::egui_wgpu::wgpu::TextureFormat,
    answers: Vec<Background<Answer>>,
    listing: bool,
    toasts: Vec<Toast>,
    question: Option<Question>,
    /// Why the last desktop notification did not appear.
    pub unnotified: Option<String>,
    /// Whether the window closes as soon as nothing trains.
    pub closing: bool,
    next_colour: usize,
}

impl State {
    /// A window that shows nothing yet.
    pub fn new(ctx: &Context, settings: Settings) -> Self {
        Self {
            ctx: ctx.clone(),
            settings,
            commands: Vec::new(),
            shown: Vec::new(),
            selected: None,
            trainings: Vec::new(),
            runs: Ok(Vec::new()),
            lab: Lab::new(ctx),
            target_format: super::FIRST_FORMAT,
            answers: Vec::new(),
            listing: false,
            toasts: Vec::new(),
            question: None,
            unnotified: None,
            closing: false,
            next_colour: 0,
        }
    }

    /// Whether the window is dark now.
    pub fn dark(&self) -> bool {
        self.ctx.theme() == egui::Theme::Dark
    }

    /// The selected run.
    pub fn current(&self) -> Option<&Shown> {
        let selected = self.selected.as_ref()?;
        self.shown.iter().find(|shown| shown.folder == *selected)
    }

    /// The training of a run, where it trains in this window.
    pub fn training_of(&self, folder: &Path) -> Option<&Training> {
        self.trainings
            .iter()
            .find(|training| training.folder.as_deref() == Some(folder))
    }

    /// Whether anything trains.
    pub fn is_training(&self) -> bool {
        self.trainings.iter().any(|training| training.job.is_alive())
    }

    /// Whether what trains is held.
    pub fn is_paused(&self) -> bool {
        self.is_training() && self.trainings.iter().all(|training| training.job.control.is_paused())
    }

    /// Trains what the form says, and the defence beside it.
    pub fn start(&mut self) {
        let mut recipes = vec![self.settings.recipe.clone()];
        if let Some(beside) = &self.settings.beside {
            let mut second = self.settings.recipe.clone();
            second.defence = beside.clone();
            recipes.push(second);
        }
        self.train(recipes);
    }

    /// Trains these, side by side; tells whether it began.
    pub fn train(&mut self, recipes: Vec<Recipe>) -> bool {
        if self.is_training() {
            self.complain("something trains already: stop it first, or let it end".to_string());
            return false;
        }
        if let Some(error) = recipes.iter().find_map(|recipe| recipe.validate().err()) {
            self.complain(error.to_string());
            return false;
        }
        self.trainings.clear();
        for shown in &mut self.shown {
            shown.visible = false;
        }
        self.selected = None;
        for recipe in recipes {
            let runs_dir = self.settings.runs_dir.clone();
            self.launch(Task::New {
                recipe: Box::new(recipe),
                runs_dir,
            });
        }
        true
    }

    /// Goes on with an interrupted run, on the device that is chosen now.
    pub fn resume(&mut self, folder: PathBuf) {
        if self.is_training() {
            return self.complain("something trains already: stop it first, or let it end".to_string());
        }
        self.trainings.clear();
        self.launch(Task::Resume(folder));
    }

    fn launch(&mut self, task: Task) {
        let ctx = self.ctx.clone();
        match Job::start(task, self.settings.device.clone(), move || {
            ctx.request_repaint_after(FRAME_PAUSE);
        }) {
            Ok(job) => self.trainings.push(Training {
                job,
                preparing: "starting".to_string(),
                folder: None,
                opened: None,
            }),
            Err(error) => self.complain(format!("training cannot start: {error:#}")),
        }
    }

    /// Holds what trains, or lets it go on.
    pub fn toggle_pause(&mut self) {
        let paused = self.is_paused();
        self.control_all(|control| if paused { control.resume() } else { control.pause() });
    }

    /// One minibatch more.
    pub fn step(&mut self) {
        self.control_all(Control::step);
    }

    /// Ends what trains, with a checkpoint.
    pub fn stop(&mut self) {
        self.control_all(Control::stop);
    }

    fn control_all(&self, steer: impl Fn(&Control)) {
        for training in &self.trainings {
            steer(&training.job.control);
        }
    }

    /// Changes the course of what trains.
    pub fn adjust(&mut self, adjustment: Adjustment) {
        for training in &self.trainings {
            training.job.adjust(adjustment);
        }
    }

    /// Takes in what the threads say.
    pub fn drain(&mut self) {
        let mut trainings = std::mem::take(&mut self.trainings);
        for training in &mut trainings {
            training.job.allow_looking(self.settings.looking_share);
            while let Some(message) = training.job.next() {
                self.hear(training, message);
            }
        }
        self.trainings.append(&mut trainings);
        self.lab.drain();
        let mut answers = std::mem::take(&mut self.answers);
        for work in &mut answers {
            for answer in work.drain() {
                match answer {
                    Answer::Runs(list) => {
                        self.listing = false;
                        self.runs = list;
                    }
                    Answer::Book(folder, book) => {
                        if let Some(shown) = self.shown_mut(Some(&folder)) {
                            shown.book.get_or_insert(*book);
                        }
                    }
                    Answer::Unnotified(why) => self.unnotified = Some(why),
                    Answer::Said(Ok(text)) => self.say(text),
                    Answer::Subject(side, subject) => self.lab.take(side, *subject),
                    Answer::NoSubject(error) => self.lab.error = Some(error),
                    Answer::Said(Err(error)) => self.complain(error),
                }
            }
        }
        answers.retain(Background::is_running);
        self.answers.append(&mut answers);
        if self.closing && !self.is_training() {
            self.ctx.send_viewport_cmd(egui::ViewportCommand::Close);
        }
    }

    fn hear(&mut self, training: &mut Training, message: Message) {
        match message {
            Message::Preparing(text) => training.preparing = text,
            Message::Ready(ready) => {
                training.preparing = "first minibatch; a GPU compiles its kernels now".to_string();
                if !ready.opened.verdict.passed {
                    self.complain(format!("{}; its results are not to be trusted", ready.opened.verdict));
                }
                training.folder = Some(ready.folder.clone());
                training.opened = Some(ready.opened);
                self.shown.retain(|shown| shown.folder != ready.folder);
                let colour = self.take_colour();
                match Shown::read(&ready.folder, colour) {
                    Ok(mut shown) => {
                        let data = Arc::new(ready.data.train.clone());
                        // A resumed run goes on with what was known of its examples.
                        let kept = std::fs::read(ready.folder.join(examples::FILE)).ok();
                        let kept = kept.and_then(|text| Book::from_json(data.clone(), &text).ok());
                        shown.book = Some(kept.unwrap_or_else(|| Book::new(data)));
                        self.shown.push(shown);
                    }
                    Err(error) => self.complain(format!("{error:#}")),
                }
                if self
                    .selected
                    .as_ref()
                    .is_none_or(|selected| self.training_of(selected).is_none())
                {
                    self.selected = Some(ready.folder);
                }
                self.let_go_of_books();
                self.refresh_runs();
            }
            Message::Event(event) => {
                // The first minibatch is still to come, and a slow device takes its time for it.
                if !matches!(event, Event::Started(_)) {
                    training.preparing.clear();
                }
                if let Some(shown) = self.shown_mut(training.folder.as_deref()) {
                    shown.take(event);
                }
            }
            Message::Examples(examples) => {
                if let Some(book) = self
                    .shown_mut(training.folder.as_deref())
                    .and_then(|shown| shown.book.as_mut())
                {
                    book.take(&examples);
                }
            }
            Message::Over(error) => self.over(training, error),
        }
    }

    /// Keeps how each example fared, on a thread.
    fn keep_book(&mut self, folder: &Path) {
        let Some(shown) = self.shown.iter().find(|shown| shown.folder == folder) else {
            return;
        };
        let Some((epoch, records)) = shown.book.as_ref().map(|book| (book.epoch, book.records.clone())) else {
            return;
        };
        let path = folder.join(examples::FILE);
        self.answers.push(Background::start(
            "examples",
            &self.ctx,
            |error| Answer::Said(Err(format!("how each example fared was not kept: {error}"))),
            move |_, _| Ok(runs::write_atomic(&path, &Book::json_of(epoch, &records)?)?),
        ));
    }

    /// Reads how each example of an earlier run fared, and its data, on a thread; once.
    pub fn load_book(&mut self, folder: &Path) {
        let Some(shown) = self.shown_mut(Some(folder)) else {
            return;
        };
        if std::mem::replace(&mut shown.book_asked, true) {
            return;
        }
        let (folder, recipe) = (folder.to_path_buf(), shown.recipe.clone());
        self.let_go_of_books();
        self.answers.push(Background::start(
            "examples",
            &self.ctx,
            |error| Answer::Said(Err(format!("how each example fared cannot be read: {error}"))),
            move |_, teller| {
                let text = std::fs::read(folder.join(examples::FILE))?;
                let data = Arc::new(TrainingData::load(&recipe)?.train);
                teller.tell(Answer::Book(folder, Box::new(Book::from_json(data, &text)?)));
                Ok(())
            },
        ));
    }

    /// Frees what is known of the examples of runs that nobody looks at: their folders keep it, and a data set of a run
    /// is large.
    fn let_go_of_books(&mut self) {
        let trains: Vec<PathBuf> = self.trainings.iter().filter_map(|own| own.folder.clone()).collect();
        for shown in &mut self.shown {
            let is_needed = self.selected.as_ref() == Some(&shown.folder) || trains.contains(&shown.folder);
            if !is_needed && shown.folder.join(examples::FILE).exists() {
                (shown.book, shown.book_asked) = (None, false);
            }
        }
    }

    fn over(&mut self, training: &mut Training, error: Option<String>) {
        training.preparing.clear();
        if let Some(folder) = &training.folder {
            self.keep_book(&folder.clone());
        }
        self.refresh_runs();
        self.ctx.send_viewport_cmd(egui::ViewportCommand::RequestUserAttention(
            egui::UserAttentionType::Informational,
        ));
        let folder = training.folder.clone();
        match (error, self.shown_mut(folder.as_deref())) {
            (None, Some(shown)) => {
                let name = shown.name.clone();
                let how = match (&shown.ending, shown.best()) {
                    (Ending::Stopped(_), _) => "stopped at a checkpoint".to_string(),
                    (_, Some(best)) => format!("finished; best epoch {}", best.epoch),
                    _ => "finished".to_string(),
                };
                self.notify(notify::ended(&name, &how));
                self.say(format!("{name} {how}"));
            }
            (None, None) => {}
            (Some(error), shown) => {
                let name = shown.map(|shown| {
                    shown.ending = Ending::Failed(error.clone());
                    shown.name.clone()
                });
                self.notify(notify::failed(name.as_deref(), &error));
                let way_out = folder
                    .filter(|folder| folder.exists())
                    .map(|folder| ("Resume from the last checkpoint".to_string(), Command::Resume(folder)));
                self.toast(error, true, way_out);
            }
        }
    }

    /// Lets the desktop tell how a training ended, or not.
    pub fn toggle_notifications(&mut self) {
        let told = !self.settings.notifications;
        self.settings.notifications = told;
        self.say(match told {
            true => "the desktop tells how a training ended while you look elsewhere".to_string(),
            false => "the desktop tells nothing".to_string(),
        });
    }

    /// Tells the desktop, where nobody looks at the window and a person did not forbid it.
    fn notify(&mut self, notice: Notice) {
        if !self.settings.notifications || !self.ctx.input(|input| notify::is_unseen(input.viewport())) {
            return;
        }
        self.unnotified = None;
        self.answers.push(Background::start(
            "notification",
            &self.ctx,
            Answer::Unnotified,
            move |_, _| notify::show(&notice),
        ));
    }

    fn shown_mut(&mut self, folder: Option<&Path>) -> Option<&mut Shown> {
        self.shown
            .iter_mut()
            .find(|shown| Some(shown.folder.as_path()) == folder)
    }

    fn take_colour(&mut self) -> usize {
        self.next_colour += 1;
        self.next_colour - 1
    }

    /// Reads the list of runs anew, on a thread.
    pub fn refresh_runs(&mut self) {
        if self.listing {
            return;
        }
        self.listing = true;
        let runs_dir = self.settings.runs_dir.clone();
        self.answers.push(Background::start(
            "list of runs",
            &self.ctx,
            |error| Answer::Runs(Err(error)),
            move |_, teller| {
                teller.tell(Answer::Runs(Ok(runs::list(&runs_dir)?)));
                Ok(())
            },
        ));
    }

    /// Adds a run's curves to the others.
    pub fn open_run(&mut self, folder: &Path) {
        if !self.shown.iter().any(|shown| shown.folder == folder) {
            let colour = self.take_colour();
            match Shown::read(folder, colour) {
                Ok(shown) => self.shown.push(shown),
                Err(error) => return self.complain(format!("{error:#}")),
            }
        }
        self.selected = Some(folder.to_path_buf());
    }

    /// Shows a run's curves, or hides them.
    pub fn toggle_run(&mut self, folder: &Path) {
        match self.shown_mut(Some(folder)) {
            Some(shown) => shown.visible = !shown.visible,
            None => {
                let before = self.selected.clone();
                self.open_run(folder);
                self.selected = before.or_else(|| Some(folder.to_path_buf()));
            }
        }
    }

    /// Makes a run the one that all views look at.
    pub fn select(&mut self, folder: &Path) {
        self.open_run(folder);
        if let Some(shown) = self.shown_mut(Some(folder)) {
            shown.visible = true;
        }
    }

    /// Takes a run's recipe into the form.
    pub fn duplicate(&mut self, folder: &Path) -> bool {
        self.open_recipe(&folder.join("recipe.toml"))
    }

    /// Reads a recipe into the form.
    pub fn open_recipe(&mut self, path: &Path) -> bool {
        let read = std::fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| Recipe::from_toml(&text).map_err(|error| error.to_string()));
        match read {
            Ok(recipe) => {
                self.settings.recipe = recipe;
                self.say(format!("the form holds the recipe of {}", path.display()));
                true
            }
            Err(error) => {
                self.complain(format!("{error}: {}", path.display()));
                false
            }
        }
    }

    /// Takes a data source into the form.
    pub fn choose_data(&mut self, source: String) {
        self.say(format!("the form's data: {source}"));
        self.settings.recipe.data.source = source;
        self.settings.recipe.data.limit_train = None;
    }

    /// Takes a dropped folder as data: original files by their names, or a folder of pictures.
    pub fn choose_folder(&mut self, path: &Path) {
        let kinds = ["mnist", "fashion-mnist", "cifar10", "cifar100", "folder"];
        let sources = kinds.map(|kind| format!("{kind}:{}", path.display()));
        match sources.iter().find(|source| data::load(source, Split::Train).is_ok()) {
            Some(source) => self.choose_data(source.clone()),
            None => self.complain(format!(
                "expected a folder with MNIST, Fashion-MNIST or CIFAR files, or with one folder of pictures for each class, got {}",
                path.display()
            )),
        }
    }

    /// Takes a run out of the table of runs, or puts it back.
    pub fn toggle_hidden(&mut self, folder: PathBuf) {
        if self.settings.hidden_runs.remove(&folder) {
            return;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.settings.hidden_runs.insert(folder.clone());
        let undo = ("Show it again".to_string(), Command::ToggleHidden(folder));
        self.toast(format!("{name} is hidden; its folder stays"), false, Some(undo));
    }

    /// Asks before a run is deleted.
    pub fn ask_to_delete(&mut self, folder: PathBuf) {
        if self
            .training_of(&folder)
            .is_some_and(|training| training.job.is_alive())
        {
            return self.complain("the run trains now: stop it before you delete it".to_string());
        }
        self.question = Some(Question::Delete(folder));
    }

    /// Writes a run's report page beside it.
    pub fn report(&mut self, folder: &Path) {
        let folder = folder.to_path_buf();
        self.answers.push(Background::start(
            "report page",
            &self.ctx,
            |error| Answer::Said(Err(format!("the report page was not written: {error}"))),
            move |_, teller| {
                let path = report::write_run_page(&Run::open(&folder)?)?;
                teller.tell(Answer::Said(Ok(format!("the report page lies in {}", path.display()))));
                Ok(())
            },
        ));
    }

    /// Asks where to put the weights of a run's best checkpoint and writes them, with PyTorch's names, on a thread.
    pub fn export(&mut self, folder: PathBuf) {
        self.answers.push(Background::start(
            "export",
            &self.ctx,
            |error| Answer::Said(Err(format!("the weights were not saved: {error}"))),
            move |_, teller| {
                let run = Run::open(&folder)?;
                let picked = rfd::FileDialog::new()
                    .set_directory(&folder)
                    .set_file_name(format!("{}.safetensors", run.name()))
                    .add_filter("safetensors", &["safetensors"])
                    .save_file();
                let Some(path) = picked else { return Ok(()) };
                let recipe = Recipe::from_toml(run.recipe_toml())?;
                let dataset = data::load(&recipe.data.source, Split::Test)?;
                let device = Device::cpu();
                let model = session::model_of(&run, Slot::Best, dataset.shape(), dataset.classes(), &device)?;
                let about = BTreeMap::from([
                    ("format".to_string(), "pt".to_string()),
                    ("network".to_string(), model.architecture().to_string()),
                    ("martlet".to_string(), env!("CARGO_PKG_VERSION").to_string()),
                ]);
                weights::save_safetensors(&model, &path, &about)?;
                teller.tell(Answer::Said(Ok(format!("saved {}", path.display()))));
                Ok(())
            },
        ));
    }

    /// Asks where to put a file of this form (its extension) and writes it, on a thread.
    pub fn save_as(&mut self, form: &'static str, bytes: Vec<u8>) {
        let folder = self.selected.clone().unwrap_or_default();
        self.answers.push(Background::start(
            "save",
            &self.ctx,
            |error| Answer::Said(Err(error)),
            move |_, teller| {
                let picked = rfd::FileDialog::new()
                    .set_directory(&folder)
                    .set_file_name(format!("martlet.{form}"))
                    .add_filter(form.to_uppercase(), &[form])
                    .save_file();
                if let Some(path) = picked {
                    runs::write_atomic(&path, &bytes)?;
                    teller.tell(Answer::Said(Ok(format!("saved {}", path.display()))));
                }
                Ok(())
            },
        ));
    }

    /// Opens a training example of the selected run in the perturbation view.
    pub fn inspect(&mut self, position: usize) {
        let Some((data, recipe)) = self
            .current()
            .and_then(|shown| Some((shown.book.as_ref()?.data.clone(), shown.recipe.clone())))
        else {
            return;
        };
        self.lab.look_at(&data, position, &recipe);
        self.refresh_subjects();
    }

    /// Opens a picture from a file in the perturbation view.
    pub fn open_image(&mut self, path: &Path) {
        if let Err(error) = self.lab.open_image(path) {
            self.complain(error);
        }
    }

    /// Brings the models that the perturbation view attacks up to date.
    pub fn refresh_subjects(&mut self) {
        let Some(selected) = self.selected.clone() else { return };
        let beside = self.lab.beside.clone();
        for (side, wanted) in [Some((selected, self.lab.checkpoint)), beside].into_iter().enumerate() {
            let source = wanted.and_then(|(folder, slot)| self.source(&folder, slot));
            match source {
                None => self.lab.clear(side),
                Some(source) if source.slot.is_none() => self.attack_what_trains(side, source),
                Some(source) if self.lab.holds(side, &source) => {}
                Some(source) => self.load_subject(side, source),
            }
        }
    }

    /// Where the weights of a run are: without a wish those that train now, else its best checkpoint.
    fn source(&self, folder: &Path, slot: Option<Slot>) -> Option<Source> {
        self.shown.iter().find(|shown| shown.folder == folder)?;
        let slot = match slot {
            None if self.training_of(folder).is_some() => None,
            slot => Some(slot.unwrap_or(Slot::Best)),
        };
        let file = slot.map(|slot| folder.join(format!("checkpoints/{slot}.safetensors")));
        Some(Source {
            folder: folder.to_path_buf(),
            slot,
            written: file.and_then(|file| file.metadata().ok()?.modified().ok()),
        })
    }

    /// Takes the newest weights that training handed out, and asks for newer ones.
    fn attack_what_trains(&mut self, side: usize, source: Source) {
        let Some(training) = self.training_of(&source.folder) else {
            return;
        };
        let has_one = self.lab.subjects[side]
            .as_ref()
            .is_some_and(|held| held.source == source);
        if has_one && !self.lab.is_rested(self.settings.looking_share) {
            return;
        }
        training.job.want_model();
        let (Some(snapshot), Some(opened)) = (training.job.model(), &training.opened) else {
            return;
        };
        let Some(shown) = self.shown.iter().find(|shown| shown.folder == source.folder) else {
            return;
        };
        let moment = match snapshot.total_steps {
            usize::MAX => "at its end".to_string(),
            steps => format!("after {:.2} epochs", shown.epochs_at(steps)),
        };
        let label = format!("{} {moment}", shown.name);
        let subject = Subject::new(source.clone(), label, snapshot.model, opened.device.clone());
        self.lab.expect(side, &source);
        self.lab.take(side, subject);
    }

    /// Loads a checkpoint for the perturbation view, on a thread.
    fn load_subject(&mut self, side: usize, source: Source) {
        self.lab.expect(side, &source);
        let device = self.settings.device.clone();
        let slot = source.slot.unwrap_or(Slot::Last);
        self.answers.push(Background::start(
            "checkpoint",
            &self.ctx,
            Answer::NoSubject,
            move |_, teller| {
                let run = Run::open(&source.folder)?;
                let recipe = Recipe::from_toml(run.recipe_toml())?;
                let dataset = data::load(&recipe.data.source, Split::Test)?;
                let opened = super::job::open(&device)?;
                let model = session::model_of(&run, slot, dataset.shape(), dataset.classes(), &opened.device)?;
                let label = format!("{}, {slot} checkpoint", run.name());
                let subject = Subject::new(source, label, Arc::new(model), opened.device);
                let subject = subject.with_data(Arc::new(dataset), &recipe);
                teller.tell(Answer::Subject(side, Box::new(subject)));
                Ok(())
            },
        ));
    }

    /// Whether the window may close now; asks where work would be lost.
    pub fn may_close(&mut self) -> bool {
        if self.closing || !self.is_training() {
            return true;
        }
        self.question = Some(Question::Close);
        false
    }

    /// Tells something that went well.
    pub fn say(&mut self, text: String) {
        self.toast(text, false, None);
    }

    /// Tells something that went wrong.
    pub fn complain(&mut self, text: String) {
        self.toast(text, true, None);
    }

    fn toast(&mut self, text: String, is_error: bool, way_out: Option<(String, Command)>) {
        // What goes wrong stays until it is read.
        let until = (!is_error).then(|| Instant::now() + std::time::Duration::from_secs(6));
        self.toasts.retain(|toast| toast.text != text);
        self.toasts.push(Toast {
            text,
            is_error,
            way_out,
            until,
        });
        self.ctx.request_repaint();
    }

    /// Draws the messages in the lower right corner.
    pub fn toasts_ui(&mut self, ctx: &Context) {
        self.toasts
            .retain(|toast| toast.until.is_none_or(|until| until > Instant::now()));
        if self.toasts.is_empty() {
            return;
        }
        let mut read = None;
        egui::Area::new(egui::Id::unique("messages"))
            .anchor(egui::Align2::RIGHT_BOTTOM, [-16.0, -44.0])
            .order(egui::Order::Foreground)
            .show(ctx, |ui| {
                for (position, toast) in self.toasts.iter().enumerate() {
                    egui::Frame::popup(ui.style()).show(ui, |ui| {
                        ui.set_max_width(420.0);
                        if toast.is_error {
                            ui.colored_label(theme::error(ui.visuals().dark_mode), &toast.text);
                        } else {
                            ui.label(&toast.text);
                        }
                        ui.horizontal(|ui| {
                            if ui.button("Close message").clicked() {
                                read = Some(position);
                            }
                            if let Some((label, command)) = &toast.way_out
                                && ui.button(label).clicked()
                            {
                                self.commands.push(command.clone());
                                read = Some(position);
                            }
                        });
                    });
                }
            });
        if let Some(position) = read {
            self.toasts.remove(position);
        }
        ctx.request_repaint_after(std::time::Duration::from_secs(1));
    }

    /// Draws the question that is open, if one is.
    pub fn dialogs_ui(&mut self, ctx: &Context) {
        let Some(question) = &self.question else { return };
        let (title, text, yes, no) = match question {
            Question::Delete(folder) => (
                "Delete this run?",
                format!(
                    "{} with its checkpoints, figures and evaluations. This cannot be undone.",
                    folder.display()
                ),
                "Delete the run",
                "Keep it",
            ),
            Question::Close => (
                "Training is under way",
                "Closing stops it at a checkpoint. It can be resumed from the list of runs.".to_string(),
                "Checkpoint and close",
                "Go on training",
            ),
        };
        let mut answer = None;
        let modal = egui::Modal::new(egui::Id::unique("question")).show(ctx, |ui| {
            ui.set_max_width(420.0);
            ui.heading(title);
            ui.label(text);
            ui.horizontal(|ui| {
                if ui.button(no).clicked() {
                    answer = Some(false);
                }
                if ui.button(yes).clicked() {
                    answer = Some(true);
                }
            });
        });
        if modal.should_close() {
            answer = Some(false);
        }
        match answer {
            None => {}
            Some(false) => self.question = None,
            Some(true) => match self.question.take() {
                Some(Question::Delete(folder)) => self.delete(&folder),
                Some(Question::Close) => {
                    self.closing = true;
                    self.stop();
                }
                None => {}
            },
        }
    }

    fn delete(&mut self, folder: &Path) {
        match runs::delete(folder) {
            Ok(()) => {
                self.settings.hidden_runs.remove(folder);
                self.shown.retain(|shown| shown.folder != folder);
                if self.selected.as_deref() == Some(folder) {
                    self.selected = None;
                }
                self.refresh_runs();
                self.say(format!("{} is deleted", folder.display()));
            }
            Err(error) => self.complain(error.to_string()),
        }
    }
}
