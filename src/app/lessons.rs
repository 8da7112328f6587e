//! The lessons: texts with buttons that drive the real views, and what was measured on the way.
//!
//! A lesson is a file in `assets/lessons`; this module is what such a file can say, and `guide` carries it out.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::LazyLock,
};

use serde::{Deserialize, Serialize};

use super::{kinds::Lower, theme::Fate};
use crate::{
    defences::{DefenceSpec, Side, Treatment},
    recipe::{PRESETS, Recipe, Schedule},
};

/// The texts, in their order; the first part is what a lesson is remembered by.
const TEXTS: [(&str, &str); 5] = [
    (
        "adversarial-example",
        include_str!("../../assets/lessons/1-adversarial-example.toml"),
    ),
    (
        "misclassified",
        include_str!("../../assets/lessons/2-misclassified.toml"),
    ),
    ("mart-loss", include_str!("../../assets/lessons/3-mart-loss.toml")),
    ("lambda", include_str!("../../assets/lessons/4-lambda.toml")),
    ("does-it-hold", include_str!("../../assets/lessons/5-does-it-hold.toml")),
];

/// A lesson.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lesson {
    /// What it is remembered by.
    #[serde(skip)]
    pub id: &'static str,
    /// Its number and title.
    #[serde(skip)]
    pub heading: String,
    /// What it is called.
    pub title: String,
    /// What it is about, in a sentence.
    pub about: String,
    /// How long the program works on two processor cores, measured; less where another lesson trained the same.
    pub takes: String,
    /// The runs that it trains, by the name that its steps call them.
    #[serde(default)]
    pub runs: BTreeMap<String, Made>,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// A page of a lesson.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it is about.
    pub title: String,
    /// What to know, in paragraphs.
    pub text: String,
    /// What to look at and to try.
    #[serde(default, rename = "try")]
    pub tries: Vec<String>,
    /// What to think about.
    #[serde(default)]
    pub question: String,
    /// What its button says; there is one where there is anything to do.
    #[serde(default)]
    pub button: String,
    /// What the button does, one after another.
    #[serde(default)]
    pub acts: Vec<Act>,
    /// When the step is done; reading is enough where nothing is named.
    #[serde(default)]
    pub done: Option<Done>,
    /// What is told of what was measured.
    #[serde(default)]
    pub measured: Vec<Measure>,
}

/// A run of a lesson.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// What the lesson's texts call it.
    pub label: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// Where a run comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Origin {
    /// Training with this defence.
    Train {
        /// The defence.
        defence: DefenceSpec,
        /// Passes over the training examples.
        epochs: usize,
    },
    /// Training as another run, with some examples treated otherwise: those that the other run's network gets wrong, or
    /// as many of those that it gets right.
    Subset {
        /// The other run.
        of: String,
        /// Which examples.
        members: Side,
        /// What is done with them.
        treatment: Treatment,
    },
    /// Another run's best network, its logits multiplied.
    Scaled {
        /// The other run.
        of: String,
        /// By how much.
        factor: f32,
    },
}

/// Something that a lesson's button does.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    /// Makes these runs, those that are trained side by side; one that is there already is taken as it is.
    Train(Vec<String>),
    /// Waits until these runs are over.
    Await(Vec<String>),
    /// Brings a view to the front.
    Show(String),
    /// Makes a run the one that the views look at, and its curves with those of some others the only ones drawn.
    Select(Vec<String>),
    /// Opens a training example of the selected run in the perturbation view.
    Look(Which),
    /// Attacks a second run beside the selected one.
    Beside(String),
    /// Sets the attack of the perturbation view.
    Attack {
        /// Its name.
        name: String,
        /// Its steps.
        #[serde(default = "twenty")]
        steps: usize,
        /// The radius.
        epsilon: f32,
    },
    /// Drives the attack towards the class after the true one.
    Target,
    /// What the lower plot of the curves shows.
    Lower(Lower),
    /// Whether that plot's axis is logarithmic.
    Logarithmic(bool),
    /// Which examples the gallery shows.
    Examples(Fate),
    /// Waits until the newest run has come so far, in epochs.
    Reach(f64),
    /// Holds training.
    Pause,
    /// Trains one minibatch and holds.
    Step,
    /// Lets training go on.
    GoOn,
    /// Attacks the best checkpoints of runs with a suite.
    Evaluate {
        /// The runs.
        runs: Vec<String>,
        /// The attacks, as the robustness view's field takes them.
        suite: String,
        /// Test images.
        images: usize,
        /// Whether at other radii than the trained one too.
        #[serde(default)]
        curve: bool,
    },
}

fn twenty() -> usize {
    20
}

/// Which example to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// The first that the network gets right with more than nine in ten.
    Sure,
    /// The one whose true class it finds most probable.
    Surest,
    /// The one whose true class it finds least probable.
    Unsure,
}

/// When a step is done.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Done {
    /// These runs are over.
    Trained(Vec<String>),
    /// An example was attacked.
    Attacked,
    /// It was attacked at so many radii.
    Radii(usize),
    /// It was attacked towards a class.
    Targeted,
    /// Two networks were attacked side by side.
    Beside,
    /// Training is held.
    Paused,
    /// A run has come so far, in epochs.
    Reached(String, f64),
    /// These runs were attacked with all of these attacks.
    Evaluated {
        /// The runs.
        runs: Vec<String>,
        /// The attacks' names.
        attacks: Vec<String>,
    },
}

/// What is told of what was measured.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Measure {
    /// The last epoch's accuracies on held-out examples.
    Accuracy(Vec<String>),
    /// How many training examples a run gets wrong, and how many it can be talked out of.
    Sets(String),
    /// What the network says to the example before and after the attack.
    Answer,
    /// The smallest radius tried that changes the answer.
    SmallestRadius,
    /// The terms of the loss in the last minibatch.
    Terms(String),
    /// How much the KL of the example counts.
    Weight,
    /// Accuracy on test images under an attack, with its interval.
    Standing {
        /// The runs.
        runs: Vec<String>,
        /// The attacks' names.
        attacks: Vec<String>,
    },
    /// The second run minus the first, with the interval.
    Difference {
        /// The runs.
        runs: [String; 2],
        /// The attacks' names.
        attacks: Vec<String>,
    },
    /// What the program warns of about masked gradients in a run's evaluation.
    Warnings(String),
}

/// How far the lessons have come; remembered when the window closes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The share of a lesson's pictures that are trained on and attacked: 1 for the lesson as it is written, less for a
    /// slow machine.
    pub budget: f64,
    /// The lesson that is open.
    pub open: Option<String>,
    /// Each lesson's course.
    pub courses: BTreeMap<String, Course>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            budget: 1.0,
            open: None,
            courses: BTreeMap::new(),
        }
    }
}

impl Progress {
    /// That share of `count` pictures, and enough to go on with.
    pub fn of(&self, count: usize) -> usize {
        ((count as f64 * self.budget) as usize).clamp(16, count.max(16))
    }
}

/// How far one lesson has come.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    /// The step that is open.
    pub step: usize,
    /// The steps that are done.
    pub done: BTreeSet<usize>,
    /// The folders of its runs.
    pub runs: BTreeMap<String, PathBuf>,
    /// What was measured last at each step.
    pub measured: BTreeMap<usize, Vec<String>>,
}

/// Every lesson, in order.
pub fn all() -> &'static [Lesson] {
    static LESSONS: LazyLock<Vec<Lesson>> = LazyLock::new(|| {
        let texts = TEXTS.iter().enumerate();
        // The texts are constants of this program; a test reads each.
        texts
            .filter_map(|(number, (id, text))| read(number, id, text).ok())
            .collect()
    });
    &LESSONS
}

fn read(number: usize, id: &'static str, text: &str) -> Result<Lesson, toml::de::Error> {
    let mut lesson: Lesson = toml::from_str(text)?;
    lesson.id = id;
    lesson.heading = format!("Lesson {}: {}", number + 1, lesson.title);
    Ok(lesson)
}

/// Training examples of a lesson's run.
pub const EXAMPLES: usize = 1_600;

/// The recipe that every lesson's run starts from: minutes on two processor cores, and an ε at which a network after so
/// short a training still gets some training images wrong.
pub fn recipe(defence: &DefenceSpec, epochs: usize, examples: usize) -> Recipe {
    // The preset is a constant of this program; its test makes sure that it is there.
    let mut recipe = PRESETS[0].recipe();
    recipe.defend_with(defence.clone());
    recipe.epochs = epochs;
    recipe.data.limit_train = Some(examples);
    recipe.data.held_out = 200;
    if let Ok(epsilon) = "0.1".parse() {
        recipe.threat.epsilon = epsilon;
        recipe.attack.step_size = recipe.threat.epsilon.divided_by(4);
    }
    recipe.attack.steps = 5;
    recipe.schedule = Schedule::Cosine;
    recipe.warm_up.natural_epochs = 1;
    recipe.warm_up.epsilon_epochs = 1.0;
    recipe.evaluation.attacks = vec!["natural".into(), "pgd-10".into()];
    recipe.evaluation.limit = Some(200);
    recipe.log_every = 1;
    recipe
}

impl Lesson {
    /// What the texts call a run.
    pub fn label<'a>(&'a self, run: &'a str) -> &'a str {
        self.runs.get(run).map_or(run, |made| made.label.as_str())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        app::views,
        compute::Device,
        control::Control,
        defences::Members,
        engine::{Event, TrainingData, session},
        evaluation::Suite,
        runs::Run,
    };

    /// Letters of a step that a class reads on a projector without scrolling far.
    const LETTERS: usize = 1_100;

    #[test]
    fn every_lesson_is_read_and_names_only_what_there_is() {
        for (number, (id, text)) in TEXTS.iter().enumerate() {
            if let Err(error) = read(number, id, text) {
                panic!("{id}: {error}");
            }
        }
        let views: Vec<&str> = views::all().iter().map(|view| view.name()).collect();
        for lesson in all() {
            let known = |run: &String| assert!(lesson.runs.contains_key(run), "{}: no run {run}", lesson.id);
            for made in lesson.runs.values() {
                match &made.origin {
                    Origin::Subset { of, .. } | Origin::Scaled { of, .. } => known(of),
                    Origin::Train { .. } => {}
                }
            }
            for step in &lesson.steps {
                let place = format!("{}, {}", lesson.id, step.title);
                assert_eq!(
                    step.button.is_empty(),
                    step.acts.is_empty(),
                    "{place}: a button does something"
                );
                assert!(
                    step.done.is_none() || !step.acts.is_empty(),
                    "{place}: only what a button did is seen to be done"
                );
                let letters = step.text.len() + step.question.len() + step.tries.iter().map(String::len).sum::<usize>();
                assert!(letters < LETTERS, "{place}: {letters} letters");
                for act in &step.acts {
                    match act {
                        Act::Train(runs) | Act::Await(runs) | Act::Select(runs) => runs.iter().for_each(known),
                        Act::Beside(run) => known(run),
                        Act::Show(view) => assert!(views.contains(&view.as_str()), "{place}: no view {view}"),
                        Act::Evaluate { runs, suite, .. } => {
                            runs.iter().for_each(known);
                            suite.parse::<Suite>().unwrap();
                        }
                        _ => {}
                    }
                }
                match &step.done {
                    Some(Done::Trained(runs) | Done::Evaluated { runs, .. }) => runs.iter().for_each(known),
                    Some(Done::Reached(run, _)) => known(run),
                    _ => {}
                }
                for measure in &step.measured {
                    match measure {
                        Measure::Accuracy(runs) | Measure::Standing { runs, .. } => runs.iter().for_each(known),
                        Measure::Difference { runs, .. } => runs.iter().for_each(known),
                        Measure::Sets(run) | Measure::Terms(run) | Measure::Warnings(run) => known(run),
                        Measure::Answer | Measure::SmallestRadius | Measure::Weight => {}
                    }
                }
            }
        }
    }

    /// Trains a recipe's first epoch of two minibatches in a folder.
    pub fn train(recipe: &Recipe, folder: &std::path::Path, name: &str) -> Run {
        let mut recipe = recipe.clone();
        (recipe.epochs, recipe.batch_size, recipe.warm_up.natural_epochs) = (1, 8, 0);
        (recipe.attack.steps, recipe.evaluation.limit) = (2, Some(8));
        recipe.validate().unwrap();
        let (data, device) = (TrainingData::load(&recipe).unwrap(), Device::cpu());
        let identity = serde_json::json!({});
        let mut run = session::create(folder, name, &recipe, &data, &identity).unwrap();
        let mut steps = 0;
        let mut observer = |event: &Event| steps += usize::from(matches!(event, Event::Step(_)));
        session::run(
            &recipe,
            &data,
            &mut run,
            &device,
            identity,
            &Control::new(),
            &mut observer,
        )
        .unwrap();
        assert_eq!(steps, 2, "{name}");
        run
    }

    #[test]
    fn every_run_of_every_lesson_trains() {
        let folder = tempfile::tempdir().unwrap();
        for lesson in all() {
            for (name, made) in &lesson.runs {
                let name = format!("{}-{name}", lesson.id);
                match &made.origin {
                    Origin::Train { defence, epochs } => {
                        train(&recipe(defence, *epochs, 16), folder.path(), &name);
                    }
                    Origin::Subset { treatment, .. } => {
                        let members = (0..6).collect::<Members>();
                        let defence = DefenceSpec::Subset {
                            members,
                            side: None,
                            treatment: *treatment,
                        };
                        train(&recipe(&defence, 1, 16), folder.path(), &name);
                    }
                    Origin::Scaled { .. } => {}
                }
            }
        }
    }
}
