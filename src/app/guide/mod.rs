//! Carries a lesson out: does what its buttons say, one act after another, and sees when a step is done.

mod make;
mod measure;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use self::make::Make;
use crate::{
    app::{
        background::Background,
        command::{Command, Order, SHARES},
        examples::FILE,
        lab::Finding,
        lessons::{Act, Course, Done, EXAMPLES, Lesson, Made, Origin, Step, Which, all, recipe},
        shown::Shown,
        state::State,
        theme::Fate,
    },
    engine::filing,
    evaluation::Evaluation,
    recipe::Recipe,
    report::Ending,
    runs::{Run, Slot},
    shapes::argmax,
};

/// Between two looks at the evaluations in the runs' folders.
const LOOK_PAUSE: f32 = 0.5;

/// What a lesson under way needs to know beside its [`Course`].
#[derive(Default)]
pub struct Guide {
    /// What is still to be done of the button that was pressed.
    queue: VecDeque<&'static Act>,
    /// The lesson and the step whose button was pressed last: before that nothing counts as done.
    pressed: Option<(&'static str, usize)>,
    /// What the act at the head waits for, in words.
    pub waits: Option<String>,
    /// Runs that train or are about to, by the lesson's names.
    expected: Vec<(String, Recipe)>,
    making: Option<Background<make::Said>>,
    splits: BTreeMap<PathBuf, crate::engine::subsets::Subsets>,
    /// The evaluation that was ordered last.
    ordered: Option<PathBuf>,
    evaluations: BTreeMap<PathBuf, (SystemTime, Box<Evaluation>)>,
    looked: Option<Instant>,
    /// Radii in thousandths at which the example was attacked, and whether the answer changed.
    pub radii: BTreeMap<u32, bool>,
    /// The example and the attack that they belong to.
    tried: Option<(String, String)>,
}

/// Whether an act is done, or what it waits for.
enum Outcome {
    Done,
    Waits(String),
    /// It cannot be done, and why.
    Fails(String),
}

impl Guide {
    /// The open lesson.
    pub fn lesson(state: &State) -> Option<&'static Lesson> {
        let open = state.settings.lessons.open.as_ref()?;
        all().iter().find(|lesson| lesson.id == open)
    }

    /// How far the open lesson has come.
    pub fn course<'a>(state: &'a State, lesson: &Lesson) -> Option<&'a Course> {
        state.settings.lessons.courses.get(lesson.id)
    }

    fn course_mut<'a>(state: &'a mut State, lesson: &Lesson) -> &'a mut Course {
        state.settings.lessons.courses.entry(lesson.id.to_string()).or_default()
    }

    /// Opens a lesson where it was left, or the list of lessons.
    pub fn open(&mut self, state: &mut State, lesson: Option<&Lesson>) {
        self.cancel();
        state.settings.lessons.open = lesson.map(|lesson| lesson.id.to_string());
        if let Some(lesson) = lesson {
            Self::course_mut(state, lesson);
        }
    }

    /// Forgets how far the lesson has come; its runs stay where they are.
    pub fn restart(&mut self, state: &mut State, lesson: &Lesson) {
        self.cancel();
        *Self::course_mut(state, lesson) = Course::default();
    }

    /// Turns to another step.
    pub fn turn(&mut self, state: &mut State, lesson: &Lesson, to: usize) {
        let course = Self::course_mut(state, lesson);
        let reading = lesson.steps[course.step].done.is_none();
        if reading && to > course.step {
            course.done.insert(course.step);
        }
        course.step = to.min(lesson.steps.len() - 1);
    }

    /// Does what the step's button says.
    pub fn press(&mut self, state: &mut State, lesson: &'static Lesson) {
        self.cancel();
        let step = Self::course_mut(state, lesson).step;
        self.pressed = Some((lesson.id, step));
        self.queue = lesson.steps[step].acts.iter().collect();
        if lesson.steps[step].acts.iter().any(|act| matches!(act, Act::Look(_))) {
            self.radii.clear();
        }
    }

    /// Does no more of what the button began; what trains or is evaluated goes on.
    pub fn cancel(&mut self) {
        self.queue.clear();
        (self.waits, self.making, self.ordered) = (None, None, None);
    }

    /// Whether the acts of this step's button are those that were done last.
    pub fn has_done(&self, lesson: &Lesson, step: usize) -> bool {
        self.pressed == Some((lesson.id, step)) && !self.is_busy()
    }

    /// Whether the picture under attack is attacked on a network of this lesson.
    pub(super) fn shows(state: &State, lesson: &Lesson) -> bool {
        let attacked = state.selected.as_ref().filter(|_| is_attacked(state));
        attacked.is_some_and(|folder| {
            Self::course(state, lesson).is_some_and(|course| course.runs.values().any(|own| own == folder))
        })
    }

    /// Whether the button's acts are under way.
    pub fn is_busy(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Goes on with what was begun, and notes what is done and measured.
    pub fn logic(&mut self, state: &mut State) {
        let Some(lesson) = Self::lesson(state) else { return };
        self.note_runs(state, lesson);
        self.read_evaluations(state, lesson);
        self.note_radii(state);
        self.drain_making(state, lesson);
        while let Some(act) = self.queue.front().copied() {
            match self.act(state, lesson, act) {
                Outcome::Done => {
                    self.queue.pop_front();
                    self.waits = None;
                }
                Outcome::Waits(text) => {
                    self.waits = Some(text);
                    break;
                }
                Outcome::Fails(why) => {
                    self.cancel();
                    state.complain(why);
                }
            }
        }
        let Some(course) = Self::course(state, lesson) else {
            return;
        };
        let open = course.step.min(lesson.steps.len() - 1);
        // What is read from files comes without a message.
        if self.is_busy() {
            state.ctx.request_repaint_after_secs(LOOK_PAUSE);
        }
        // Whoever reads on while the button's acts are under way has done that step all the same.
        let pressed = self.pressed.filter(|(id, _)| *id == lesson.id && !self.is_busy());
        let done = pressed
            .map(|(_, step)| step)
            .filter(|step| !course.done.contains(step) && self.is_done(state, lesson, &lesson.steps[*step]));
        for step in [Some(open), done].into_iter().flatten() {
            let measured = self.measured(state, lesson, step);
            let course = Self::course_mut(state, lesson);
            if !measured.is_empty() && course.measured.get(&step) != Some(&measured) {
                course.measured.insert(step, measured);
            }
        }
        if let Some(step) = done {
            Self::course_mut(state, lesson).done.insert(step);
        }
    }

    /// Where what trains is a run that the lesson waits for, remembers its folder.
    fn note_runs(&mut self, state: &mut State, lesson: &Lesson) {
        let mut found = Vec::new();
        self.expected.retain(|(name, recipe)| {
            let folders = state.trainings.iter().filter_map(|training| training.folder.as_deref());
            let folder = folders
                .filter_map(|folder| state.shown.iter().find(|shown| shown.folder == folder))
                .find(|shown| shown.recipe == *recipe);
            match folder {
                Some(shown) => found.push((name.clone(), shown.folder.clone())),
                // It failed before it had a folder; that was told.
                None => return state.is_training(),
            }
            false
        });
        Self::course_mut(state, lesson).runs.extend(found);
    }

    fn read_evaluations(&mut self, state: &State, lesson: &Lesson) {
        if self
            .looked
            .is_some_and(|looked| looked.elapsed().as_secs_f32() < LOOK_PAUSE)
        {
            return;
        }
        self.looked = Some(Instant::now());
        let Some(course) = Self::course(state, lesson) else {
            return;
        };
        for folder in course.runs.values() {
            // What is not there yet, or is being written, is read at the next look.
            let Some((path, changed)) = filing::list(folder, Slot::Best).into_iter().next() else {
                self.evaluations.remove(folder);
                continue;
            };
            if self.evaluations.get(folder).is_some_and(|(known, _)| *known == changed) {
                continue;
            }
            let read = Run::open(folder).and_then(|run| filing::read(&run, &path));
            if let Ok(evaluation) = read {
                self.evaluations.insert(folder.clone(), (changed, Box::new(evaluation)));
            }
        }
    }

    /// Collects at which radii the example was attacked since the lesson opened it.
    fn note_radii(&mut self, state: &State) {
        let Some(finding) = &state.lab.finding else { return };
        let tried = (finding.specimen.title.clone(), finding.wish.name());
        if self.tried.as_ref() != Some(&tried) {
            self.tried = Some(tried);
            self.radii.clear();
        }
        if let Some(changed) = is_fooled(finding)
            && finding.wish.attack != "natural"
            && finding.wish.target.is_none()
        {
            let radius = (finding.wish.epsilon * 1_000.0).round() as u32;
            self.radii.insert(radius, changed);
        }
    }

    fn drain_making(&mut self, state: &mut State, lesson: &Lesson) {
        let Some(making) = &mut self.making else { return };
        for said in making.drain() {
            match said {
                make::Said::Split(folder, subsets) => {
                    self.splits.insert(folder, *subsets);
                }
                make::Said::Scaled(name, folder) => {
                    Self::course_mut(state, lesson).runs.insert(name, folder);
                    state.refresh_runs();
                }
                make::Said::Failed(error) => {
                    self.queue.clear();
                    self.waits = None;
                    state.complain(error);
                }
            }
        }
        if !making.is_running() {
            self.making = None;
        }
    }

    fn act(&mut self, state: &mut State, lesson: &'static Lesson, act: &'static Act) -> Outcome {
        match act {
            Act::Train(names) => self.make(state, lesson, names),
            Act::Await(names) => {
                for name in names {
                    if let Some(text) = self.unfinished(state, lesson, name) {
                        return text;
                    }
                }
                Outcome::Done
            }
            Act::Show(view) => {
                state.commands.push(Command::Show(view));
                Outcome::Done
            }
            Act::Select(names) => {
                let mut folders = Vec::new();
                for name in names {
                    match Self::course(state, lesson).and_then(|course| course.runs.get(name)) {
                        Some(folder) => folders.push(folder.clone()),
                        None => return self.absent(lesson, name),
                    }
                }
                state.compare(&folders);
                if let Some(first) = folders.first() {
                    state.select(first);
                }
                Outcome::Done
            }
            Act::Look(which) => look(state, *which),
            Act::Beside(_) if !is_attacked(state) => Outcome::Waits("for the first network".to_string()),
            Act::Beside(name) => match Self::course(state, lesson)
                .and_then(|course| course.runs.get(name))
                .cloned()
            {
                Some(folder) => {
                    if !state.shown.iter().any(|shown| shown.folder == folder) {
                        state.toggle_run(&folder);
                    }
                    state.lab.beside = Some((folder, Some(Slot::Last)));
                    state.refresh_subjects();
                    Outcome::Done
                }
                None => self.absent(lesson, name),
            },
            Act::Attack { name, steps, epsilon } => {
                let wish = &mut state.lab.wish;
                (wish.attack, wish.steps, wish.epsilon, wish.target) = (name.clone(), *steps, *epsilon, None);
                state.lab.ask();
                Outcome::Done
            }
            Act::Target => {
                let Some(specimen) = &state.lab.specimen else {
                    return Outcome::Fails("open an example first, as the step before does".to_string());
                };
                let next = (specimen.label.unwrap_or(0) + 1) % specimen.classes.len().max(1);
                state.lab.wish.target = Some(next);
                state.lab.ask();
                Outcome::Done
            }
            Act::Lower(lower) => {
                state.commands.push(Command::Order(Order::Lower(*lower)));
                Outcome::Done
            }
            Act::Logarithmic(log) => {
                state.settings.logarithmic[1] = *log;
                Outcome::Done
            }
            Act::Examples(fate) => {
                state.commands.push(Command::Order(Order::Examples(Some(*fate))));
                Outcome::Done
            }
            Act::Reach(epochs) => {
                let newest = state.trainings.first().and_then(|training| training.folder.as_deref());
                let come = newest
                    .and_then(|folder| state.shown.iter().find(|shown| shown.folder == folder))
                    .and_then(|shown| Some(shown.epochs_at(shown.last.as_ref()?.total_steps)));
                if come.is_some_and(|come| come >= *epochs) || (!state.is_training() && self.expected.is_empty()) {
                    return Outcome::Done;
                }
                Outcome::Waits(format!("until epoch {:.0} is over", epochs.floor()))
            }
            Act::Pause => {
                if !state.is_training() {
                    return Outcome::Fails(
                        "the run is over, so there is nothing to hold: “Start again” above trains it anew".to_string(),
                    );
                }
                if !state.is_paused() {
                    state.toggle_pause();
                }
                Outcome::Done
            }
            Act::Step => {
                state.step();
                Outcome::Done
            }
            Act::GoOn => {
                if state.is_paused() {
                    state.toggle_pause();
                }
                Outcome::Done
            }
            Act::Evaluate {
                runs,
                suite,
                images,
                curve,
            } => self.evaluate(state, lesson, runs, suite, *images, *curve),
        }
    }

    fn absent(&self, lesson: &Lesson, name: &str) -> Outcome {
        if self.expected.iter().any(|(expected, _)| expected == name) {
            return Outcome::Waits(format!("for “{}”", lesson.label(name)));
        }
        Outcome::Fails(format!(
            "{} is not there: press the button of the step that makes it",
            lesson.label(name)
        ))
    }

    /// What to do about a run that is not over; none where it is.
    fn unfinished(&self, state: &mut State, lesson: &Lesson, name: &str) -> Option<Outcome> {
        let Some(folder) = Self::course(state, lesson)
            .and_then(|course| course.runs.get(name))
            .cloned()
        else {
            return Some(self.absent(lesson, name));
        };
        if state
            .training_of(&folder)
            .is_some_and(|training| training.job.is_alive())
        {
            return Some(Outcome::Waits(format!("for “{}” to end", lesson.label(name))));
        }
        if !folder.join("run.json").exists() {
            return Some(Outcome::Fails(format!(
                "{} is gone: go back to the step that makes it",
                lesson.label(name)
            )));
        }
        None
    }

    /// Starts what is missing of these runs.
    fn make(&mut self, state: &mut State, lesson: &'static Lesson, names: &[String]) -> Outcome {
        let (mut recipes, mut there) = (Vec::new(), Vec::new());
        for name in names {
            if let Some(folder) = Self::course(state, lesson).and_then(|course| course.runs.get(name))
                && is_whole(state, folder)
            {
                there.push(folder.clone());
                continue;
            }
            let Some(made) = lesson.runs.get(name) else {
                return Outcome::Fails(format!("the lesson names no run {name:?}"));
            };
            match self.recipe_of(state, lesson, name, made) {
                Ok(Some(recipe)) => match twin(state, &recipe) {
                    // Another lesson trains or trained just that.
                    Some(folder) => {
                        let course = Self::course_mut(state, lesson);
                        course.runs.insert(name.clone(), folder.clone());
                        there.push(folder);
                    }
                    None => recipes.push((name.clone(), recipe)),
                },
                Ok(None) => {}
                Err(outcome) => return outcome,
            }
        }
        if recipes.is_empty() {
            there.iter().for_each(|folder| state.select(folder));
            return Outcome::Done;
        }
        if !state.train(recipes.iter().map(|(_, recipe)| recipe.clone()).collect()) {
            self.cancel();
            return Outcome::Done;
        }
        self.expected = recipes;
        // What is there already is drawn beside what trains.
        there.iter().for_each(|folder| state.draw(folder));
        Outcome::Done
    }

    /// The recipe of a run, once all that it depends on is there; none where it is not trained.
    fn recipe_of(
        &mut self,
        state: &mut State,
        lesson: &'static Lesson,
        name: &str,
        made: &Made,
    ) -> Result<Option<Recipe>, Outcome> {
        let of = match &made.origin {
            Origin::Train { defence, epochs } => {
                let examples = state.settings.lessons.of(EXAMPLES);
                return Ok(Some(recipe(defence, *epochs, examples)));
            }
            Origin::Subset { of, .. } | Origin::Scaled { of, .. } => of,
        };
        if let Some(outcome) = self.unfinished(state, lesson, of) {
            return Err(outcome);
        }
        let Some(folder) = Self::course(state, lesson)
            .and_then(|course| course.runs.get(of))
            .cloned()
        else {
            return Err(self.absent(lesson, of));
        };
        if let Origin::Subset { members, treatment, .. } = &made.origin
            && let Some(subsets) = self.splits.get(&folder)
        {
            let text = std::fs::read_to_string(folder.join("recipe.toml")).unwrap_or_default();
            let mut recipe = Recipe::from_toml(&text).map_err(|error| Outcome::Fails(error.to_string()))?;
            recipe.defence = subsets.defence(*members, *treatment);
            return Ok(Some(recipe));
        }
        if self.making.is_none() {
            let make = match &made.origin {
                Origin::Scaled { factor, .. } => Make::Scaled {
                    name: name.to_string(),
                    of: folder,
                    factor: *factor,
                    runs_dir: state.settings.runs_dir.clone(),
                },
                _ => Make::Split {
                    of: folder,
                    device: state.settings.device.clone(),
                },
            };
            self.making = Some(make.start(&state.ctx));
        }
        Err(Outcome::Waits(match made.origin {
            Origin::Scaled { .. } => format!("for {}", made.label),
            _ => "while the network is asked about every training image".to_string(),
        }))
    }

    fn evaluate(
        &mut self,
        state: &mut State,
        lesson: &Lesson,
        runs: &[String],
        suite: &str,
        images: usize,
        curve: bool,
    ) -> Outcome {
        let images = state.settings.lessons.of(images);
        let attacks: Vec<String> = suite.split(',').map(|name| name.trim().to_string()).collect();
        for name in runs {
            if let Some(outcome) = self.unfinished(state, lesson, name) {
                return outcome;
            }
            let Some(folder) = Self::course(state, lesson)
                .and_then(|course| course.runs.get(name))
                .cloned()
            else {
                return self.absent(lesson, name);
            };
            let there = self.evaluation(state, lesson, name).is_some_and(|found| {
                found.n == images && holds(found, &attacks) && (!curve || found.curve.len() >= SHARES.len())
            });
            if there {
                continue;
            }
            if self.ordered.as_ref() != Some(&folder) {
                self.ordered = Some(folder.clone());
                state.select(&folder);
                state.commands.push(Command::Show("Robustness"));
                state.commands.push(Command::Order(Order::Evaluate {
                    folder,
                    suite: suite.to_string(),
                    images,
                    curve,
                }));
            }
            return Outcome::Waits(format!("while the network “{}” is attacked", lesson.label(name)));
        }
        Outcome::Done
    }

    /// What is known of how a run stands up.
    pub fn evaluation(&self, state: &State, lesson: &Lesson, run: &str) -> Option<&Evaluation> {
        let folder = Self::course(state, lesson)?.runs.get(run)?;
        self.evaluations.get(folder).map(|(_, evaluation)| &**evaluation)
    }

    /// A run of the lesson as the window shows it.
    pub fn shown<'a>(state: &'a State, lesson: &Lesson, run: &str) -> Option<&'a Shown> {
        let folder = Self::course(state, lesson)?.runs.get(run)?;
        state.shown.iter().find(|shown| shown.folder == *folder)
    }

    fn is_done(&self, state: &State, lesson: &Lesson, step: &Step) -> bool {
        let Some(done) = &step.done else { return false };
        match done {
            Done::Trained(names) => names.iter().all(|name| {
                Self::shown(state, lesson, name).is_some_and(|shown| matches!(shown.ending, Ending::Finished(_)))
            }),
            Done::Attacked => is_attacked(state),
            Done::Radii(count) => self.radii.len() >= *count,
            Done::Targeted => state
                .lab
                .finding
                .as_ref()
                .is_some_and(|finding| finding.wish.target.is_some()),
            Done::Beside => state
                .lab
                .finding
                .as_ref()
                .is_some_and(|finding| finding.traces.len() > 1),
            Done::Paused => state.is_paused(),
            Done::Reached(name, epochs) => Self::shown(state, lesson, name)
                .and_then(|shown| Some(shown.epochs_at(shown.last.as_ref()?.total_steps)))
                .is_some_and(|come| come >= *epochs),
            Done::Evaluated { runs, attacks } => runs.iter().all(|run| {
                self.evaluation(state, lesson, run)
                    .is_some_and(|found| holds(found, attacks))
            }),
        }
    }
}

/// Whether the attack that is shown is on the selected run.
fn is_attacked(state: &State) -> bool {
    let (Some(finding), Some(first)) = (&state.lab.finding, &state.lab.subjects[0]) else {
        return false;
    };
    state.selected.as_ref() == Some(&first.source.folder)
        && finding.traces.first().is_some_and(|trace| trace.subject == first.label)
}

fn holds(evaluation: &Evaluation, attacks: &[String]) -> bool {
    let mut names = attacks.iter();
    names.all(|name| evaluation.attacks.iter().any(|attack| attack.name == *name))
}

/// Whether the attack changed the first network's answer; none where that was wrong before.
pub fn is_fooled(finding: &Finding) -> Option<bool> {
    let trace = finding.traces.first()?;
    let label = finding.specimen.label?;
    let answer = |probabilities: &[f32]| (!probabilities.is_empty()).then(|| argmax(probabilities));
    (answer(&trace.before) == Some(label)).then(|| answer(trace.after.last().map_or(&[], Vec::as_slice)) != Some(label))
}

/// Whether a run trains still or came to its end; one that was stopped or deleted is made anew.
fn is_whole(state: &State, folder: &Path) -> bool {
    let alive = state.training_of(folder);
    alive.is_some_and(|training| training.job.is_alive()) || is_finished(folder)
}

fn is_finished(folder: &Path) -> bool {
    Shown::read(folder, 0).is_ok_and(|shown| matches!(shown.ending, Ending::Finished(_)))
}

/// A run of another lesson with the same recipe, unchanged on the way: one that trains now, or a finished one.
fn twin(state: &State, recipe: &Recipe) -> Option<PathBuf> {
    let alive = state.trainings.iter().filter(|training| training.job.is_alive());
    let alive = alive.filter_map(|training| training.folder.as_deref()).find(|folder| {
        let shown = state.shown.iter().find(|shown| shown.folder == **folder);
        shown.is_some_and(|shown| shown.recipe == *recipe && shown.adjustments.is_empty())
    });
    if let Some(folder) = alive {
        return Some(folder.to_path_buf());
    }
    let text = recipe.to_toml();
    let courses = state.settings.lessons.courses.values();
    let is_twin = |folder: &Path| {
        let Ok(run) = Run::open(folder) else { return false };
        run.recipe_toml() == text
            && run.identity().get("scaled").is_none()
            && Shown::read(folder, 0)
                .is_ok_and(|shown| matches!(shown.ending, Ending::Finished(_)) && shown.adjustments.is_empty())
    };
    courses
        .flat_map(|course| course.runs.values())
        .find(|folder| is_twin(folder))
        .cloned()
}

fn look(state: &mut State, which: Which) -> Outcome {
    let Some(shown) = state.current() else {
        return Outcome::Fails("no run is selected: press the button of the step before".to_string());
    };
    let Some(book) = &shown.book else {
        let folder = shown.folder.clone();
        if !folder.join(FILE).exists() {
            return Outcome::Fails("nobody noted how this run's examples fared: start the lesson again".to_string());
        }
        state.load_book(&folder);
        return Outcome::Waits("for the run's examples".to_string());
    };
    let known = || {
        book.records
            .iter()
            .enumerate()
            .filter(|(_, record)| record.natural.is_some())
    };
    let surest = || known().max_by(|a, b| a.1.p_true.total_cmp(&b.1.p_true));
    let found = match which {
        Which::Sure => known()
            .find(|(_, record)| !matches!(record.fate(), Fate::Wrong | Fate::Unknown) && record.p_true > 0.9)
            .or_else(surest),
        Which::Surest => surest(),
        Which::Unsure => known().min_by(|a, b| a.1.p_true.total_cmp(&b.1.p_true)),
    };
    let Some((position, _)) = found else {
        return Outcome::Waits("until the first examples were trained on".to_string());
    };
    // The same weights as in a comparison later on. Not the best ones: those of natural training are from its beginning,
    // when it read hardly anything.
    let training = state.selected.as_deref().and_then(|folder| state.training_of(folder));
    state.lab.checkpoint = match training {
        Some(training) if training.job.is_alive() => None,
        _ => Some(Slot::Last),
    };
    state.lab.beside = None;
    state.inspect(position);
    state.commands.push(Command::Show("Perturbation"));
    Outcome::Done
}
