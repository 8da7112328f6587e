//! What the views look at, and how commands change it.

mod duel;
mod messages;
mod runs;
mod subjects;
mod training;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use egui::Context;

use messages::Question;

use crate::{
    app::{
        FIRST_FORMAT,
        background::Background,
        command::Command,
        duel::{Duel, Fighter},
        examples::Book,
        job::{Job, Opened},
        lab::{Lab, Subject},
        messages::Messages,
        settings::Settings,
        shown::Shown,
    },
    engine::Examples,
    runs::Summary,
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
    /// When it was last written down how its examples fare.
    pub kept: Instant,
    /// Whether its run has no place: the folder of runs cannot be written.
    pub homeless: bool,
}

/// Work of a view that outlasts a few seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Rows of an experiment: they train.
    Experiment,
    /// An attack on a run.
    Evaluation,
}

/// What threads that are started for one answer say.
enum Answer {
    Runs(Result<Vec<Summary>, String>),
    Said(Result<String, String>),
    Subject(usize, Box<Subject>),
    NoSubject(String),
    Book(PathBuf, Box<Book>),
    Surveyed(PathBuf, Examples),
    SurveyOver(PathBuf, Option<String>),
    Data(String),
    Unnotified(String),
    Fighter(usize, Box<Fighter>),
    Renamed(PathBuf, PathBuf),
    Deleted(PathBuf),
    RunsFolder(PathBuf),
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
    /// Why the form cannot be trained with: something in it was typed that makes no sense yet.
    pub unready: Option<String>,
    /// Runs whose training examples are looked at now.
    pub surveyed: Vec<PathBuf>,
    /// What trains now.
    pub trainings: Vec<Training>,
    /// What the views work at now.
    pub works: Vec<Work>,
    /// How far they are, in words.
    pub doing: Vec<String>,
    /// The runs in the folder, and why they cannot be read where they cannot.
    pub runs: Result<Vec<Summary>, String>,
    /// The perturbation view's workshop.
    pub lab: Lab,
    /// Two networks on one picture.
    pub duel: Duel,
    /// Where the duel stands alone, in large type: how large everything was before.
    pub projector: Option<f32>,
    /// The format that the window draws in.
    pub target_format: eframe::egui_wgpu::wgpu::TextureFormat,
    answers: Vec<Background<Answer>>,
    /// What is being written down, and must be before the window closes.
    keeping: Vec<Background<Answer>>,
    listing: bool,
    /// What was said.
    pub messages: Messages,
    question: Option<Question>,
    /// Why the last desktop notification did not appear.
    pub unnotified: Option<String>,
    /// Whether the window closes as soon as nothing is lost by it.
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
            unready: None,
            surveyed: Vec::new(),
            trainings: Vec::new(),
            works: Vec::new(),
            doing: Vec::new(),
            runs: Ok(Vec::new()),
            lab: Lab::new(ctx),
            duel: Duel::new(ctx),
            projector: None,
            target_format: FIRST_FORMAT,
            answers: Vec::new(),
            keeping: Vec::new(),
            listing: false,
            messages: Messages::default(),
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

    /// Whether what trains was told to stop and has not yet: it ends with the attack's step under way.
    pub fn is_stopping(&self) -> bool {
        self.is_training() && self.trainings.iter().all(|training| training.job.control.is_stopped())
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
        self.duel.drain();
        self.follow_in_duel();
        let mut answers = std::mem::take(&mut self.answers);
        let mut keeping = std::mem::take(&mut self.keeping);
        for work in answers.iter_mut().chain(&mut keeping) {
            for answer in work.drain() {
                match answer {
                    Answer::Runs(list) => {
                        self.listing = false;
                        self.runs = list;
                        self.forget_what_is_gone();
                    }
                    Answer::Book(folder, book) => {
                        if let Some(shown) = self.shown_mut(Some(&folder)) {
                            shown.book.get_or_insert(*book);
                        }
                    }
                    Answer::Surveyed(folder, examples) => {
                        if let Some(book) = self.shown_mut(Some(&folder)).and_then(|shown| shown.book.as_mut()) {
                            book.take(&examples);
                        }
                    }
                    Answer::SurveyOver(folder, error) => self.survey_over(&folder, error),
                    Answer::Data(source) => self.choose_data(source),
                    Answer::Unnotified(why) => self.unnotified = Some(why),
                    Answer::Fighter(corner, fighter) => {
                        let recipe = fighter.recipe.clone();
                        self.duel.seat(corner, *fighter);
                        self.duel.measure(corner, &recipe);
                    }
                    Answer::Renamed(old, new) => self.renamed(&old, new),
                    Answer::Deleted(folder) => self.deleted(&folder),
                    Answer::RunsFolder(folder) => self.keep_runs_in(folder),
                    Answer::Said(Ok(text)) => self.say(text),
                    Answer::Subject(side, subject) => self.lab.take(side, *subject),
                    Answer::NoSubject(error) => self.lab.error = Some(error),
                    Answer::Said(Err(error)) => self.complain(error),
                }
            }
        }
        answers.retain(Background::is_running);
        self.answers.append(&mut answers);
        keeping.retain(Background::is_running);
        self.keeping.append(&mut keeping);
    }

    /// Closes the window as soon as nothing would be lost by it, where a person wants it closed.
    pub fn close_when_done(&mut self) {
        if self.closing && !self.is_busy() {
            self.ctx.send_viewport_cmd(egui::ViewportCommand::Close);
        }
    }

    /// Whether closing now would lose something.
    fn is_busy(&self) -> bool {
        self.is_training() || !self.works.is_empty() || !self.keeping.is_empty()
    }
}
