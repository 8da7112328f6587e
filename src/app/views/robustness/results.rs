//! What is known of a run: read from its folder on a thread, and growing while it is attacked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use egui::Context;

use crate::{
    app::background::Background,
    engine::filing,
    evaluation::{CurvePoint, Evaluation, Standing},
    runs::{Run, Slot},
};

/// An evaluation of a run's best checkpoint.
pub struct Kept {
    /// Its file.
    pub file: PathBuf,
    pub evaluation: Evaluation,
    pub curves: CurvesByAttack,
    /// Whether the run has another best checkpoint by now than the one that was attacked.
    pub outdated: bool,
}

/// By attack: radius and the examples that stand.
pub type CurvesByAttack = BTreeMap<String, Vec<(f64, Standing)>>;

impl Kept {
    /// What was measured, in a line.
    pub fn title(&self) -> String {
        let evaluation = &self.evaluation;
        let names: Vec<&str> = evaluation.attacks.iter().map(|attack| attack.name.as_str()).collect();
        format!(
            "{} on {} {} images at ε = {}{}",
            names.join(", "),
            evaluation.n,
            evaluation.dataset.split.as_deref().unwrap_or("test"),
            evaluation.epsilon,
            if self.outdated {
                ", of an earlier checkpoint"
            } else {
                ""
            }
        )
    }
}

/// The curves of these radii.
pub fn curves(points: &[CurvePoint]) -> CurvesByAttack {
    let mut curves = CurvesByAttack::new();
    for point in points {
        let epsilon = f64::from(point.epsilon.value());
        let standings = point
            .attacks
            .iter()
            .map(|attack| (attack.name.clone(), attack.standing));
        for (attack, standing) in standings.chain([("worst-case".to_string(), point.worst_case)]) {
            curves.entry(attack).or_default().push((epsilon, standing));
        }
    }
    for curve in curves.values_mut() {
        curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

/// What is known of one run.
#[derive(Default)]
pub struct Results {
    /// What its folder keeps, the newest first.
    pub kept: Vec<Kept>,
    /// Which of it a person wants to see; the newest where nothing was chosen.
    pub chosen: Option<PathBuf>,
    pub error: Option<String>,
    /// The folder as it was when this was read.
    read_at: Option<Moment>,
    looked: Option<Instant>,
}

impl Results {
    /// The evaluation that shows.
    pub fn shown(&self) -> Option<&Kept> {
        let chosen = self.kept.iter().find(|kept| Some(&kept.file) == self.chosen.as_ref());
        chosen.or(self.kept.first())
    }

    /// Whether the folder was read yet.
    pub fn is_read(&self) -> bool {
        self.read_at.is_some()
    }
}

/// When the run's best checkpoint was chosen, and which evaluations were kept when: what is known is read anew when any of
/// it changes, whoever changed it.
type Moment = (Option<SystemTime>, Vec<(PathBuf, SystemTime)>);

fn moment(folder: &Path) -> Moment {
    let best = folder.join("checkpoints/best");
    let chosen = best.metadata().and_then(|about| about.modified()).ok();
    (chosen, filing::list(folder, Slot::Best))
}

/// Every evaluation of the run's best checkpoint, or of an earlier one.
fn read(folder: &Path, moment: &Moment) -> Vec<Kept> {
    // A file that is damaged or of another version is no fault: the run can be attacked anew.
    let Ok(run) = Run::open(folder) else { return Vec::new() };
    let best = run.checkpoint_name(Slot::Best).ok().flatten();
    let files = moment.1.iter().filter_map(|(file, _)| {
        let mut evaluation = filing::read(&run, file).ok()?;
        // The fates of single images are for comparisons of runs, and many.
        evaluation.examples.clear();
        Some(Kept {
            file: file.clone(),
            outdated: evaluation.checkpoint.is_some() && evaluation.checkpoint != best,
            curves: curves(&evaluation.curve),
            evaluation,
        })
    });
    files.collect()
}

/// What is known of all runs.
#[derive(Default)]
pub struct Library {
    pub runs: BTreeMap<PathBuf, Results>,
    reading: Option<Background<Option<Read>>>,
}

/// What was read of a run's folder as it was at that moment.
type Read = (PathBuf, Moment, Vec<Kept>);

/// Between two looks at a folder.
const PAUSE: Duration = Duration::from_millis(500);

impl Library {
    /// Reads what has changed of these runs, one at a time.
    pub fn follow<'a>(&mut self, ctx: &Context, folders: impl Iterator<Item = &'a PathBuf>) {
        if let Some(reading) = &mut self.reading {
            for (folder, moment, kept) in reading.drain().into_iter().flatten() {
                let results = self.runs.entry(folder).or_default();
                // What was measured last is looked at first.
                if kept.first().map(|kept| &kept.file) != results.kept.first().map(|kept| &kept.file) {
                    results.chosen = None;
                }
                (results.kept, results.read_at) = (kept, Some(moment));
            }
            if reading.is_running() {
                return;
            }
            self.reading = None;
        }
        for folder in folders {
            let results = self.runs.entry(folder.clone()).or_default();
            if results.looked.is_some_and(|looked| looked.elapsed() < PAUSE) {
                continue;
            }
            results.looked = Some(Instant::now());
            let now = moment(folder);
            if results.read_at.as_ref() == Some(&now) {
                continue;
            }
            let folder = folder.clone();
            self.reading = Some(Background::start(
                "evaluations",
                ctx,
                |_| None,
                move |_, teller| {
                    let kept = read(&folder, &now);
                    teller.tell(Some((folder, now, kept)));
                    Ok(())
                },
            ));
            return;
        }
    }
}
