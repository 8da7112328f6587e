//! Carries a plan out, row by row. What is done stays done: a stopped experiment goes on where it was.

use std::path::Path;

use serde_json::Value;

use super::{ExperimentError, Measure, Need, Outcome, Plan, RowState};
use crate::{
    compute::Device,
    control::Control,
    data::{self, Split},
    defences::Side,
    engine::{Event, TrainError, TrainingData, filing, labelling, session, subsets},
    evaluation::{EvaluateError, Evaluation, EvaluationEvent, Examination, Record, Resume},
    recipe::Recipe,
    runs::{self, Run, Slot, write_atomic},
};

/// What carrying out tells.
pub enum Progress<'a> {
    /// A row enters a stage of its work.
    Row {
        /// Which of the plan.
        row: usize,
        /// What happens to it.
        stage: Stage<'a>,
    },
    /// Its training tells something.
    Training {
        /// Which of the plan.
        row: usize,
        /// What.
        event: &'a Event,
    },
    /// Its evaluation tells something.
    Measuring {
        /// Which of the plan.
        row: usize,
        /// What.
        event: EvaluationEvent,
    },
}

/// Where a row's work stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Stage<'a> {
    /// It is trained, or its training goes on.
    Training,
    /// It is measured.
    Measuring(&'a Measure),
    /// Somebody else works at it, in another process: it is waited for.
    Elsewhere,
    /// It is done.
    Done,
    /// Its training came to nothing; the other rows go on.
    Failed(&'a str),
}

/// An experiment at work.
pub struct Conduct<'a> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// Where the runs live.
    pub runs_dir: &'a Path,
    /// What computes.
    pub device: &'a Device,
    /// What the runs keep about it.
    pub identity: Value,
    /// Pause and stop.
    pub control: &'a Control,
}

impl Conduct<'_> {
    /// Trains and measures what is not done yet of the chosen rows, in the plan's order. A row whose training diverges, or
    /// finds no subset to treat, is told as failed and the others go on. Several processes share a folder of runs: each row is
    /// one's alone, and what another works at is waited for; where that one dies, its row is taken over.
    ///
    /// # Errors
    /// [`EvaluateError::Stopped`] and an early return from training are no error: it returns when `control` stops it.
    /// What makes further work useless is: the disk, the device, a run of the same name with another recipe.
    pub fn run(&self, rows: &[usize], tell: &mut dyn FnMut(Progress)) -> Result<(), ExperimentError> {
        let mut left = rows.to_vec();
        let mut told = vec![false; self.plan.rows.len()];
        loop {
            let mut waiting = Vec::new();
            for &row in &left {
                if self.control.is_stopped() {
                    return Ok(());
                }
                let claim = match self.waits_for(row, &waiting) {
                    true => None,
                    false => runs::claim(self.runs_dir, &self.plan.rows[row].run)?,
                };
                if claim.is_none() {
                    waiting.push(row);
                    if !std::mem::replace(&mut told[row], true) {
                        let stage = Stage::Elsewhere;
                        tell(Progress::Row { row, stage });
                    }
                    continue;
                }
                match self.row(row, tell) {
                    Ok(()) => {}
                    Err(ExperimentError::Evaluate(EvaluateError::Stopped { .. })) => return Ok(()),
                    Err(
                        error @ (ExperimentError::Train(TrainError::NotFinite { .. })
                        | ExperimentError::Split(_)
                        | ExperimentError::Needs { .. }),
                    ) => {
                        let stage = Stage::Failed(&error.to_string());
                        tell(Progress::Row { row, stage });
                    }
                    Err(error) => return Err(error),
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            // Nobody tells when another process ends; its lock goes with it.
            if waiting.len() == left.len() {
                std::thread::sleep(PAUSE);
            }
            left = waiting;
        }
    }

    /// Whether a row must wait, because somebody else works at one that it needs.
    fn waits_for(&self, row: usize, waiting: &[usize]) -> bool {
        let needs = self.plan.rows[row].needs.as_ref().map(Need::row);
        let surrogate = self.plan.surrogate.filter(|surrogate| *surrogate != row);
        needs.into_iter().chain(surrogate).any(|other| waiting.contains(&other))
    }

    fn row(&self, row: usize, tell: &mut dyn FnMut(Progress)) -> Result<(), ExperimentError> {
        let state = Outcome::state(self.plan, row, self.runs_dir)?;
        if state != RowState::Measured {
            let run = match state {
                RowState::Trained => Run::open(&self.folder(row))?,
                _ => {
                    tell(Progress::Row {
                        row,
                        stage: Stage::Training,
                    });
                    self.train(row, tell)?
                }
            };
            if self.control.is_stopped() {
                return Ok(());
            }
            self.measure(row, &run, tell)?;
        }
        tell(Progress::Row {
            row,
            stage: Stage::Done,
        });
        Ok(())
    }

    fn folder(&self, row: usize) -> std::path::PathBuf {
        self.runs_dir.join(&self.plan.rows[row].run)
    }

    /// Trains a row, or goes on with it.
    fn train(&self, row: usize, tell: &mut dyn FnMut(Progress)) -> Result<Run, ExperimentError> {
        let recipe = self.recipe(row)?;
        let data = TrainingData::load(&recipe)?;
        let folder = self.folder(row);
        let mut run = if folder.join("recipe.toml").exists() {
            let run = Run::open(&folder)?;
            self.check_recipe(&run, &recipe)?;
            run
        } else {
            let name = &self.plan.rows[row].run;
            session::create(self.runs_dir, name, &recipe, &data, &self.identity)?
        };
        let mut observer = |event: &Event| tell(Progress::Training { row, event });
        session::run(
            &recipe,
            &data,
            &mut run,
            self.device,
            self.identity.clone(),
            self.control,
            &mut observer,
        )?;
        Ok(run)
    }

    /// A run of the row's name must be the row's: seconds between checkpoints change nothing in it, all else does.
    fn check_recipe(&self, run: &Run, recipe: &Recipe) -> Result<(), ExperimentError> {
        let planned = recipe.to_toml();
        if run.recipe_toml() == planned {
            return Ok(());
        }
        let (begun, lines) = (run.recipe_toml().lines(), planned.lines());
        let differs = begun
            .zip(lines)
            .find(|(begun, planned)| begun != planned)
            .map_or_else(String::new, |(begun, planned)| format!("{begun}, not {planned}"));
        Err(ExperimentError::OtherRun {
            run: run.name().to_string(),
            experiment: self.plan.experiment.name,
            differs: differs.chars().take(160).collect(),
        })
    }

    /// The row's recipe with what another row's run gives.
    fn recipe(&self, row: usize) -> Result<Recipe, ExperimentError> {
        let planned = &self.plan.rows[row];
        let mut recipe = planned.recipe.clone();
        let Some(need) = &planned.needs else {
            return Ok(recipe);
        };
        let other = need.row();
        let state = Outcome::state(self.plan, other, self.runs_dir)?;
        if !matches!(state, RowState::Trained | RowState::Measured) {
            return Err(ExperimentError::Needs {
                row: planned.row.id.clone(),
                needs: self.plan.rows[other].row.id.clone(),
            });
        }
        let run = Run::open(&self.folder(other))?;
        match need {
            Need::Members {
                misclassified,
                treatment,
                ..
            } => {
                let train = TrainingData::load(&self.plan.rows[other].recipe)?.train;
                let model = session::model_of(&run, Slot::Last, train.shape(), train.classes(), self.device)?;
                let batch_size = recipe.batch_size.max(AT_ONCE);
                let found = subsets::split(&model, &train, batch_size, recipe.seed, self.device, self.control)?;
                let side = match misclassified {
                    true => Side::Misclassified,
                    false => Side::Correct,
                };
                recipe.defence = found.defence(side, *treatment);
            }
            Need::Labels { images, limit, .. } => {
                let file = run.folder().join("pseudo-labelled.npz");
                if !file.exists() {
                    let images = data::load(images, Split::Train).map_err(TrainError::from)?;
                    let images = images.take(limit.unwrap_or(usize::MAX));
                    let (shape, classes) = (images.shape(), images.classes());
                    let model = session::model_of(&run, Slot::Best, shape, classes, self.device)?;
                    labelling::pseudo_label(&model, &images, &file, self.device, self.control)?;
                }
                if let Some(unlabelled) = &mut recipe.data.unlabelled {
                    unlabelled.source = format!("npz:{}", file.display());
                }
            }
        }
        Ok(recipe)
    }

    /// Every evaluation of the row that is not kept in its run's folder yet.
    fn measure(&self, row: usize, run: &Run, tell: &mut dyn FnMut(Progress)) -> Result<(), ExperimentError> {
        if self.plan.rows[row].row.trains.is_helper() {
            return Ok(());
        }
        let test = data::load(&self.plan.source, Split::Test).map_err(TrainError::from)?;
        for measure in &self.plan.measures {
            let file = run.folder().join(format!("{}.json", measure.name));
            if Outcome::evaluation(run, &file, measure).is_some() {
                continue;
            }
            let stage = Stage::Measuring(measure);
            tell(Progress::Row { row, stage });
            let evaluation = self.evaluate(row, run, &test, measure, tell)?;
            filing::write(run, &file, &evaluation)?;
            let _ = std::fs::remove_file(partial(&file));
        }
        Ok(())
    }

    fn evaluate(
        &self,
        row: usize,
        run: &Run,
        test: &data::Dataset,
        measure: &Measure,
        tell: &mut dyn FnMut(Progress),
    ) -> Result<Evaluation, ExperimentError> {
        let examples = test.take(measure.limit.unwrap_or(usize::MAX));
        let (shape, classes) = (examples.shape(), examples.classes());
        let (model, checkpoint) = session::named_model_of(run, measure.slot, shape, classes, self.device)?;
        let mut suite = measure.suite()?;
        suite.seed = self.plan.seed;
        let surrogate = match self.plan.surrogate {
            Some(other) => {
                let other = Run::open(&self.folder(other))?;
                let crafted_on = session::model_of(&other, Slot::Best, shape, classes, self.device)?;
                Some((other.name().to_string(), crafted_on))
            }
            None => None,
        };
        let mut examination = Examination::new(&model, &examples, &suite, &self.plan.threat, self.device);
        if let Some((name, crafted_on)) = &surrogate {
            examination = examination.with_surrogate(name.clone(), crafted_on);
        }
        let file = partial(&run.folder().join(format!("{}.json", measure.name)));
        // A record that cannot be read is of no use; what it held is done again.
        let record = std::fs::read_to_string(&file)
            .ok()
            .and_then(|text| Record::from_json(&text).ok());
        let mut keep =
            |record: &Record| write_atomic(&file, record.to_json()?.as_bytes()).map_err(std::io::Error::other);
        let resume = Resume {
            record,
            keep: &mut keep,
        };
        let mut pass_on = |event| tell(Progress::Measuring { row, event });
        let outcome = examination.with_resume(resume).run(self.control, &mut pass_on);
        let mut evaluation = match outcome {
            // Of other weights or another suite: it goes, and the evaluation begins anew.
            Err(EvaluateError::OtherEvaluation { .. }) => {
                std::fs::remove_file(&file).map_err(|source| self.io(&file, source))?;
                return self.evaluate(row, run, test, measure, tell);
            }
            outcome => outcome?,
        };
        evaluation.dataset.split = Some("test".into());
        evaluation.checkpoint = Some(checkpoint);
        Ok(evaluation)
    }

    fn io(&self, path: &Path, source: std::io::Error) -> ExperimentError {
        ExperimentError::Io {
            source,
            path: path.to_path_buf(),
        }
    }
}

/// Between two looks at what others work at.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);

/// Examples that a pass without gradients takes at once.
const AT_ONCE: usize = 128;

/// Where an evaluation under way keeps what it has finished.
fn partial(file: &Path) -> std::path::PathBuf {
    file.with_extension("partial")
}
