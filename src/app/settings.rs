//! What the window remembers from one day to the next.

use std::{collections::BTreeSet, io::IsTerminal, path::PathBuf};

use egui::ThemePreference;
use serde::{Deserialize, Serialize};

use super::lessons::Progress;
use crate::{defences::DefenceSpec, demo_models, engine::LOOKING_SHARE, experiments::Budget, recipe::Recipe};

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
    /// Where another machine's device is served, `HOST:PORT`.
    pub remote: String,
    /// The file with the token that it asks for.
    pub token_file: String,
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
            remote: String::new(),
            token_file: String::new(),
            recipe: first_recipe(),
            beside: Some(DefenceSpec::Natural),
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

/// The folder of runs of a person who has chosen none: among their documents. None on a system without a person.
pub fn own_runs_folder() -> Option<PathBuf> {
    let home = std::env::home_dir().filter(|home| home.is_dir())?;
    let documents = home.join("Documents");
    Some(if documents.is_dir() { documents } else { home }.join("Martlet"))
}

/// Whether the program was begun from an icon: no terminal, and a working folder that nobody chose.
fn from_an_icon() -> bool {
    let terminal = std::io::stdin().is_terminal() || std::io::stderr().is_terminal();
    let Ok(here) = std::env::current_dir() else {
        return !terminal;
    };
    let program = std::env::current_exe().ok();
    let chosen_by_nobody = here.parent().is_none()
        || std::env::home_dir().is_some_and(|home| home == here)
        || program.is_some_and(|program| program.parent() == Some(&here))
        || cfg!(windows) && here.ends_with("System32");
    !terminal && chosen_by_nobody
}

impl Settings {
    /// Lets another machine's device be asked with the token that is named here.
    #[cfg(feature = "remote")]
    pub fn show_token(&self) {
        let named = Some(self.token_file.trim()).filter(|file| !file.is_empty());
        crate::compute::remote::use_token_of(named.map(std::path::Path::new));
    }

    /// Settings in which runs have a place of the person's own where the program was begun from an icon: what lies beside
    /// the working folder is nothing there.
    pub fn at_home(mut self) -> Self {
        if self.runs_dir.is_relative()
            && !self.runs_dir.is_dir()
            && from_an_icon()
            && let Some(own) = own_runs_folder()
        {
            self.runs_dir = own;
        }
        self
    }
}

/// What Start trains where nothing was chosen: what trained the network that comes with the program, so that it is seen to
/// come about again.
fn first_recipe() -> Recipe {
    // A test holds that the recipe that ships is one; the preset is a constant of this program.
    let mut recipe = demo_models::MART
        .recipe()
        .unwrap_or_else(|_| crate::recipe::PRESETS[0].recipe());
    // Every minibatch makes a point: the window shows what happens while it happens.
    recipe.log_every = 1;
    recipe
}
