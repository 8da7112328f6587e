//! What the window remembers from one day to the next.

use std::{collections::BTreeSet, path::PathBuf};

use egui::ThemePreference;
use serde::{Deserialize, Serialize};

use super::lessons::Progress;
use crate::{defences::DefenceSpec, engine::LOOKING_SHARE, experiments::Budget, recipe::Recipe};

/// What a person chose, kept when the window closes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Dark, light, or as the system has it.
    pub theme: ThemePreference,
    /// Where runs live.
    pub runs_dir: PathBuf,
    /// Which device trains.
    pub device: String,
    /// What the next run will be.
    pub recipe: Recipe,
    /// A second defence beside it, from the same seed.
    pub beside: Option<DefenceSpec>,
    /// How strongly curves are smoothed, in `[0, 1)`.
    pub smoothing: f64,
    /// Logarithmic axes: x, y.
    pub logarithmic: [bool; 2],
    /// The attacks of the robustness view.
    pub suite: String,
    /// How many test images they are tried on.
    pub images: usize,
    /// Side of a thumbnail in points.
    pub thumbnail: f32,
    /// The experiment that is looked at.
    pub experiment: String,
    /// How much of the machine's time it may take.
    pub budget: Budget,
    /// Its data; the built-in ones where nothing stands.
    pub experiment_data: String,
    /// Its unlabelled images; the built-in ones where nothing stands.
    pub experiment_unlabelled: String,
    /// How far the lessons have come.
    pub lessons: Progress,
    /// Whether the desktop tells how a training ended while nobody looks at the window.
    pub notifications: bool,
    /// The share of the time that training may lose to those who look at it.
    pub looking_share: f64,
    /// The columns of the table of runs; none shows those that differ.
    pub columns: Option<BTreeSet<String>>,
    /// Runs that the table leaves out.
    pub hidden_runs: BTreeSet<PathBuf>,
    /// The runs whose curves were drawn.
    pub drawn: Vec<PathBuf>,
    /// The run that the views looked at.
    pub selected: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: ThemePreference::System,
            runs_dir: "runs".into(),
            device: "auto".into(),
            recipe: first_recipe(),
            beside: None,
            smoothing: 0.6,
            logarithmic: [false, false],
            suite: "natural,fgsm,pgd-20,cw-20".to_string(),
            images: 200,
            thumbnail: 48.0,
            experiment: "table-2-mnist".to_string(),
            budget: Budget::Quick,
            experiment_data: String::new(),
            experiment_unlabelled: String::new(),
            lessons: Progress::default(),
            notifications: true,
            looking_share: LOOKING_SHARE,
            columns: None,
            hidden_runs: BTreeSet::new(),
            drawn: Vec::new(),
            selected: None,
        }
    }
}

/// What Start trains where nothing was chosen: small enough to move at once on two processor cores, long enough to show
/// MART leaving its start.
fn first_recipe() -> Recipe {
    // The preset is a constant of this program; its test makes sure that it is there.
    let mut recipe = crate::recipe::PRESETS[0].recipe();
    recipe.data.limit_train = Some(4_000);
    recipe.data.held_out = 300;
    recipe.epochs = 12;
    if let Ok(epsilon) = "0.1".parse() {
        recipe.threat.epsilon = epsilon;
        recipe.attack.step_size = recipe.threat.epsilon.divided_by(4);
    }
    recipe.attack.steps = 5;
    recipe.warm_up.natural_epochs = 1;
    recipe.warm_up.epsilon_epochs = 1.0;
    recipe.evaluation.attacks = vec!["natural".into(), "fgsm".into(), "pgd-10".into()];
    recipe.evaluation.limit = Some(200);
    // Every minibatch makes a point: the window shows what happens while it happens.
    recipe.log_every = 1;
    recipe
}
