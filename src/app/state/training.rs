//! What trains: started, steered, listened to, over.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Answer, State, Training, Work};
use crate::{
    app::{
        background::Background,
        command::Command,
        examples::{self, Book},
        job::{self, FRAME_PAUSE, Job, Message, Task},
        notify,
        settings::own_runs_folder,
        shown::Shown,
        theme::Fate,
    },
    control::Control,
    engine::{Adjustment, Event, TrainingData, session, survey::survey},
    recipe::Recipe,
    report::Ending,
    runs::{self, Run, Slot},
};

/// Between two times that it is written down how the examples of a run fare.
const BETWEEN_BOOKS: Duration = Duration::from_secs(60);

impl State {
    /// Trains what the form says, and the defence beside it.
    pub fn start(&mut self) {
        if let Some(unready) = &self.unready {
            return self.complain(format!("nothing was started: {unready}"));
        }
        self.messages.passed("Nothing was started");
        let mut recipes = vec![self.settings.recipe.clone()];
        if let Some(beside) = &self.settings.beside {
            let mut second = self.settings.recipe.clone();
            second.defend_with(beside.clone());
            recipes.push(second);
        }
        self.train(recipes);
    }

    /// Trains these, side by side; tells whether it began.
    pub fn train(&mut self, recipes: Vec<Recipe>) -> bool {
        if self.is_taken() {
            return false;
        }
        if let Some(error) = recipes.iter().find_map(|recipe| recipe.validate().err()) {
            self.complain(error.to_string());
            return false;
        }
        // What was trained before makes room; what a person compares with stays.
        let trained: Vec<PathBuf> = self
            .trainings
            .drain(..)
            .filter_map(|training| training.folder)
            .collect();
        for shown in &mut self.shown {
            shown.visible &= !trained.contains(&shown.folder);
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
        if self.is_taken() {
            return;
        }
        self.trainings.clear();
        self.launch(Task::Resume(folder));
    }

    /// Whether something trains already, a run or an experiment; then it says so.
    pub fn is_taken(&mut self) -> bool {
        let Some(what) = self.what_trains() else { return false };
        self.complain(format!("{what} trains already: stop it first, or let it end"));
        true
    }

    /// What trains now and lets nothing train beside it.
    pub fn what_trains(&self) -> Option<&'static str> {
        if self.is_training() {
            Some("something")
        } else {
            self.works.contains(&Work::Experiment).then_some("an experiment")
        }
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
                kept: Instant::now(),
                homeless: false,
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

    pub(super) fn hear(&mut self, training: &mut Training, message: Message) {
        match message {
            Message::Preparing(text) => training.preparing = text,
            Message::NoPlace => training.homeless = true,
            Message::Ready(ready) => {
                training.preparing = "first minibatch; a GPU compiles its kernels now".to_string();
                if !ready.opened.verdict.passed {
                    self.complain(format!("{}; its results are not to be trusted", ready.opened.verdict));
                }
                training.folder = Some(ready.folder.clone());
                training.opened = Some(ready.opened);
                // A resumed run keeps its colour.
                let known = self.shown_mut(Some(&ready.folder)).map(|shown| shown.colour);
                let colour = known.unwrap_or_else(|| self.take_colour());
                self.shown.retain(|shown| shown.folder != ready.folder);
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
                let is_epoch = matches!(event, Event::Epoch(_));
                if let Some(shown) = self.shown_mut(training.folder.as_deref()) {
                    shown.take(event);
                }
                // Now and then, so that a window that dies takes little of it along.
                if let Some(folder) = training.folder.clone()
                    && is_epoch
                    && training.kept.elapsed() > BETWEEN_BOOKS
                {
                    training.kept = Instant::now();
                    self.keep_book(&folder);
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
        self.keeping.push(Background::start(
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

    /// Looks, on a thread, at the training examples of a run that its last epoch did not see: all of them where nothing was noted.
    pub fn survey(&mut self, folder: &Path) {
        if self.surveyed.iter().any(|own| own == folder) {
            return;
        }
        let device = self.settings.device.clone();
        let Some(shown) = self.shown_mut(Some(folder)) else {
            return;
        };
        let recipe = shown.recipe.clone();
        let epoch = shown.epochs.last().map_or(recipe.epochs, |epoch| epoch.epoch).max(1);
        let known = shown.book.as_ref().map(|book| {
            let unseen =
                (0..book.records.len()).filter(|position| book.records[*position].fate_at(epoch) == Fate::Unknown);
            (book.data.clone(), unseen.collect::<Vec<usize>>())
        });
        let folder = folder.to_path_buf();
        self.surveyed.push(folder.clone());
        let own = folder.clone();
        self.answers.push(Background::start(
            "survey",
            &self.ctx,
            |error| Answer::SurveyOver(PathBuf::new(), Some(error)),
            move |control, teller| {
                let work = || -> anyhow::Result<()> {
                    let (data, positions) = match known {
                        Some(known) => known,
                        None => {
                            let data = Arc::new(TrainingData::load(&recipe)?.train);
                            teller.tell(Answer::Book(folder.clone(), Box::new(Book::new(data.clone()))));
                            let all = (0..data.len()).collect();
                            (data, all)
                        }
                    };
                    let opened = job::open(&device)?;
                    let run = Run::open(&folder)?;
                    let model = session::model_of(&run, Slot::Last, data.shape(), data.classes(), &opened.device)?;
                    let mut tell = |examples| teller.tell(Answer::Surveyed(folder.clone(), examples));
                    survey(
                        &model,
                        &recipe,
                        (&data, &positions),
                        epoch,
                        &opened.device,
                        control,
                        &mut tell,
                    )?;
                    Ok(())
                };
                let error = work().err().map(|error| format!("{error:#}"));
                teller.tell(Answer::SurveyOver(own, error));
                Ok(())
            },
        ));
    }

    /// Keeps what was found.
    pub(super) fn survey_over(&mut self, folder: &Path, error: Option<String>) {
        // A thread that died does not say whose it was.
        let died = folder.as_os_str().is_empty();
        self.surveyed.retain(|own| !died && own != folder);
        match error {
            Some(error) => self.complain(format!("the examples cannot be looked at: {error}")),
            None => self.keep_book(folder),
        }
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
        /// So many examples are looked at in a moment.
        const SOON: usize = 10_000;
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
                let unseen = shown
                    .book
                    .as_ref()
                    .map_or(0, |book| book.counts(book.epoch)[Fate::Unknown as usize]);
                let survey = matches!(shown.ending, Ending::Finished(_)) && (1..=SOON).contains(&unseen);
                let survey = survey.then(|| Command::Survey(shown.folder.clone()));
                let how = match (&shown.ending, shown.best()) {
                    (Ending::Stopped(_), _) => "stopped at a checkpoint".to_string(),
                    (_, Some(best)) => format!("finished; best epoch {}", best.epoch),
                    _ => "finished".to_string(),
                };
                self.commands.extend(survey);
                self.notify(notify::ended(&name, &how));
                self.say(format!("{name} {how}"));
            }
            (None, None) => {}
            (Some(error), _) if training.homeless => {
                let error = format!("runs cannot be kept here: {error}");
                let own = own_runs_folder().filter(|own| *own != self.settings.runs_dir);
                let way_out = own.map_or(("Choose folder…".to_string(), Command::ChooseRunsFolder), |own| {
                    (format!("Keep them in {}", own.display()), Command::KeepRunsIn(own))
                });
                self.toast(error, true, Some(way_out));
            }
            (Some(error), shown) => {
                let name = shown.map(|shown| {
                    shown.ending = Ending::Failed(error.clone());
                    shown.name.clone()
                });
                self.notify(notify::failed(name.as_deref(), &error));
                let way_out = folder
                    .filter(|folder| folder.exists())
                    .map(|folder| ("Resume from the last checkpoint".to_string(), Command::Resume(folder)));
                // Of two that failed of one cause each says so, with its own way out.
                let text = name.map_or(error.clone(), |name| format!("{name}: {error}"));
                self.toast(text, true, way_out);
            }
        }
    }
}
