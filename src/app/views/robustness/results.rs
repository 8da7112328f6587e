//! What is known of a run: read from its folder, and growing while it is attacked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::KEPT;
use crate::{
    engine::filing,
    evaluation::{CurvePoint, Evaluation, Standing},
    runs::{Run, Slot},
};

/// What is known of one run.
#[derive(Default)]
pub struct Results {
    /// By attack: radius and the examples that stand.
    pub curves: BTreeMap<String, Vec<(f64, Standing)>>,
    /// The suite at the trained radius.
    pub suite: Option<Box<Evaluation>>,
    pub error: Option<String>,
    /// The folder as it was when this was read.
    pub read_at: Option<Moment>,
    /// Whether the run has another best checkpoint by now than the one that was attacked.
    pub outdated: bool,
}

/// When the run's best checkpoint was chosen, and when its evaluation was kept: what is known is read anew when either
/// changes, whoever changed it.
pub type Moment = [Option<SystemTime>; 2];

pub fn moment(folder: &Path) -> Moment {
    [folder.join("checkpoints/best"), kept(folder)].map(|file| file.metadata().ok()?.modified().ok())
}

/// The best checkpoint's evaluation: on test images, or on held-out ones where there are no others.
fn kept(folder: &Path) -> PathBuf {
    let test = folder.join(KEPT);
    if test.exists() {
        return test;
    }
    folder.join("evaluation-held-out-best.json")
}

impl Results {
    /// What an earlier attack on the run left in its folder.
    pub fn read(folder: &Path) -> Self {
        let mut results = Self {
            read_at: Some(moment(folder)),
            ..Self::default()
        };
        // A file that is missing or of another version is no fault: the run can be attacked anew.
        let run = Run::open(folder);
        let read = |run: &Run| filing::read(run, &kept(folder)).ok();
        if let Ok(run) = &run
            && let Some(evaluation) = read(run)
        {
            for point in &evaluation.curve {
                results.add(point);
            }
            let best = run.checkpoint_name(Slot::Best).ok().flatten();
            results.outdated = evaluation.checkpoint.is_some() && evaluation.checkpoint != best;
            results.suite = Some(Box::new(evaluation));
        }
        results
    }

    pub fn add(&mut self, point: &CurvePoint) {
        let epsilon = f64::from(point.epsilon.value());
        let standings = point
            .attacks
            .iter()
            .map(|attack| (attack.name.clone(), attack.standing));
        for (attack, standing) in standings.chain([("worst-case".to_string(), point.worst_case)]) {
            let curve = self.curves.entry(attack).or_default();
            curve.push((epsilon, standing));
            curve.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
    }
}
