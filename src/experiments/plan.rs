//! From a row of the paper to a recipe that fits a budget.

use super::{Budget, Experiment, ExperimentError, Row, Setting, Trains, Treatment};
use crate::{
    defences::DefenceSpec,
    evaluation::{Suite, SuiteError},
    nn::Architecture,
    recipe::{Recipe, RecipeError, Schedule, Unlabelled, preset},
    runs::Slot,
    threat::{Start, ThreatModel},
};

/// An experiment as it will be carried out.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The experiment.
    pub experiment: &'static Experiment,
    /// How much it may take.
    pub budget: Budget,
    /// What is trained and tested on.
    pub source: String,
    /// The seed of every run.
    pub seed: u64,
    /// Epochs that a person chose instead of the budget's own.
    pub epochs: Option<usize>,
    /// What is trained, helpers first.
    pub rows: Vec<PlannedRow>,
    /// What the attacks may do; the same for every row, whatever it was trained at.
    pub threat: ThreatModel,
    /// The evaluations of each row that is a result.
    pub measures: Vec<Measure>,
    /// The row that transfer attacks are crafted on.
    pub surrogate: Option<usize>,
}

/// A row with everything that its run depends on.
#[derive(Debug, Clone)]
pub struct PlannedRow {
    /// The paper's row.
    pub row: Row,
    /// The name of its run.
    pub run: String,
    /// The recipe, but for what another row's run gives.
    pub recipe: Recipe,
    /// What another row's run gives.
    pub needs: Option<Need>,
}

/// What a row takes from another row's run.
#[derive(Debug, Clone, PartialEq)]
pub enum Need {
    /// The training examples that its network gets wrong, or as many others.
    Members {
        /// The other row.
        of: usize,
        /// Which of them.
        misclassified: bool,
        /// What is done with them.
        treatment: Treatment,
    },
    /// Its network's labels for unlabelled images.
    Labels {
        /// The other row.
        of: usize,
        /// The images.
        images: String,
        /// How many of them.
        limit: Option<usize>,
    },
}

impl Need {
    /// The row that must be trained first.
    pub fn row(&self) -> usize {
        match self {
            Self::Members { of, .. } | Self::Labels { of, .. } => *of,
        }
    }
}

/// One evaluation of a trained row.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// The name of its file in the run's folder, without extension.
    pub name: String,
    /// The checkpoint.
    pub slot: Slot,
    /// The attacks.
    pub attacks: Vec<String>,
    /// Use only so many test examples.
    pub limit: Option<usize>,
}

impl Measure {
    /// Its attacks, each transfer attack beside the same one on the model itself.
    ///
    /// # Errors
    /// Where a name is no attack; the paper's all are.
    pub fn suite(&self) -> Result<Suite, SuiteError> {
        let mut suite: Suite = self.attacks.join(",").parse()?;
        suite.add_white_boxes();
        Ok(suite)
    }
}

/// What a person may choose about an experiment.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// The data; built-in ones at the quick budget where none are named.
    pub source: Option<&'a str>,
    /// Unlabelled images, for Table 5.
    pub unlabelled: Option<&'a str>,
    /// The seed of every run.
    pub seed: u64,
    /// Epochs instead of the budget's own; the rate drops at the same shares of them.
    pub epochs: Option<usize>,
}

/// Unlabelled characters: drawn from another seed than those that are trained and tested on.
const UNLABELLED_GLYPHS: &str = "glyphs:5005";

impl Experiment {
    /// What will be trained and measured within a budget.
    ///
    /// # Errors
    /// [`ExperimentError::NeedsData`] where the budget asks for data that only the person has.
    pub fn plan(&'static self, budget: Budget, request: &Request) -> Result<Plan, ExperimentError> {
        let source = match (request.source, budget) {
            (Some(source), _) => source.to_string(),
            // The unlabelled images are characters too, from another seed.
            (None, Budget::Quick) if self.setting.is_semi_supervised() => "glyphs".to_string(),
            (None, Budget::Quick) => "fashion".to_string(),
            (None, _) => return Err(self.needs(budget, self.setting.data(), "--dataset", self.setting.example())),
        };
        let mut base = base(self.setting, budget, &source, request.seed)?;
        if let Some(epochs) = request.epochs {
            shorten(&mut base, epochs);
        }
        let kind = source.split(':').next().unwrap_or_default();
        let chosen = chosen_suffix(request.seed, request.epochs);
        let prefix = format!("{}-{budget}-{kind}{chosen}", self.setting.name());
        let unlabelled = self.unlabelled(budget, request)?;

        let mut rows: Vec<PlannedRow> = Vec::new();
        for row in (self.rows)() {
            let is_labelled = unlabelled.as_ref().is_some_and(|images| has_labels(&images.source));
            if self.setting.is_semi_supervised() && row.trains.is_helper() && is_labelled {
                continue;
            }
            let (mut recipe, mut needs) = (recipe(&row.trains, self.setting, budget, &base)?, None);
            let of = |id: &str| {
                rows.iter()
                    .position(|row: &PlannedRow| row.row.id == id)
                    .unwrap_or_default()
            };
            if let Trains::Subset {
                misclassified,
                treatment,
            } = row.trains
            {
                let of = of("standard");
                needs = Some(Need::Members {
                    of,
                    misclassified,
                    treatment,
                });
            }
            if let (Trains::PseudoLabelled(_), Some(images)) = (&row.trains, &unlabelled) {
                recipe.data.unlabelled = Some(images.clone());
                if !is_labelled {
                    let (images, limit) = (images.source.clone(), images.limit);
                    needs = Some(Need::Labels {
                        of: of("natural"),
                        images,
                        limit,
                    });
                }
            }
            recipe.validate()?;
            rows.push(PlannedRow {
                run: format!("{prefix}-{}", row.id),
                row,
                recipe,
                needs,
            });
        }
        Ok(Plan {
            experiment: self,
            budget,
            source,
            seed: request.seed,
            epochs: request.epochs,
            threat: base.threat,
            measures: self.measures(budget),
            surrogate: rows.iter().position(|row| row.row.id == "surrogate"),
            rows,
        })
    }

    fn needs(
        &self,
        budget: Budget,
        what: &'static str,
        option: &'static str,
        example: &'static str,
    ) -> ExperimentError {
        ExperimentError::NeedsData {
            experiment: self.name,
            budget,
            what,
            option,
            example,
        }
    }

    /// The unlabelled images of Table 5.
    fn unlabelled(&self, budget: Budget, request: &Request) -> Result<Option<Unlabelled>, ExperimentError> {
        if !self.setting.is_semi_supervised() {
            return Ok(None);
        }
        let (source, limit) = match (request.unlabelled, budget) {
            (Some(source), Budget::Full) => (source, None),
            (Some(source), _) => (
                source,
                Some(quick::UNLABELLED.max(short::UNLABELLED * usize::from(budget == Budget::Short))),
            ),
            (None, Budget::Quick) => (UNLABELLED_GLYPHS, Some(quick::UNLABELLED)),
            (None, _) => {
                return Err(self.needs(
                    budget,
                    "unlabelled images",
                    "--unlabelled",
                    "pseudo-labelled:ti_500K_pseudo_labeled.pickle",
                ));
            }
        };
        Ok(Some(Unlabelled {
            limit,
            ..Unlabelled::from_source(source)
        }))
    }

    /// Best and last under the paper's attacks; AutoAttack on the best, on fewer examples where time is short.
    fn measures(&self, budget: Budget) -> Vec<Measure> {
        let (limit, beyond) = match budget {
            Budget::Quick => (Some(quick::TEST), Some(quick::BEYOND)),
            Budget::Short => (Some(short::TEST), Some(short::TEST)),
            Budget::Full => (None, None),
        };
        let of = |slot: Slot| Measure {
            name: format!("evaluation-{}-{}", self.name, slot),
            slot,
            attacks: self.attacks.iter().map(|name| name.to_string()).collect(),
            limit,
        };
        let mut measures = vec![of(Slot::Best), of(Slot::Last)];
        if self.beyond {
            measures.push(Measure {
                name: format!("evaluation-{}-best-autoattack", self.name),
                attacks: vec![beyond_attack(self.setting, budget).to_string()],
                limit: beyond,
                ..of(Slot::Best)
            });
        }
        measures
    }
}

/// What tells how much of a lead under PGD is real. On all 10,000 images of MNIST the whole of it would take most of a day on a
/// processor.
pub fn beyond_attack(setting: Setting, budget: Budget) -> &'static str {
    match (setting, budget) {
        (Setting::Mnist, _) | (_, Budget::Quick | Budget::Short) => "autoattack-fast",
        (_, Budget::Full) => "autoattack",
    }
}

/// Whether a source of unlabelled images brings labels that a model gave them.
fn has_labels(source: &str) -> bool {
    source.starts_with("pseudo-labelled:") || source.starts_with("npz:")
}

impl Setting {
    /// Its name in the names of runs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mnist => "mnist",
            Self::Cifar10 => "cifar10",
            Self::Ablation => "ablation",
            Self::Subsets => "subsets",
            Self::Wide => "wide",
            Self::Unlabelled100K => "unlabelled-a",
            Self::Unlabelled500K => "unlabelled-b",
        }
    }

    fn data(self) -> &'static str {
        if self == Self::Mnist { "MNIST" } else { "CIFAR-10" }
    }

    fn example(self) -> &'static str {
        if self == Self::Mnist {
            "mnist:DIR"
        } else {
            "cifar10:DIR"
        }
    }

    fn is_semi_supervised(self) -> bool {
        matches!(self, Self::Unlabelled100K | Self::Unlabelled500K)
    }

    /// What the paper trained, in words.
    pub fn in_the_paper(self) -> &'static str {
        match self {
            Self::Mnist => "a 4-layer CNN on MNIST, ε = 0.3",
            Self::Cifar10 | Self::Ablation => "ResNet-18 on CIFAR-10, ε = 8/255, for epochs that it does not name",
            Self::Subsets => "an 8-layer CNN on CIFAR-10, ε = 8/255",
            Self::Wide => "WRN-34-10 on CIFAR-10, ε = 8/255",
            Self::Unlabelled100K => "WRN-34-8 on CIFAR-10 with 100K unlabelled images, in the setting of UAT++",
            Self::Unlabelled500K => {
                "WRN-28-10 on CIFAR-10 with 500K unlabelled images, in the setting of RST (ε = 0.031)"
            }
        }
    }

    /// The built-in recipe that states it.
    fn preset(self) -> &'static str {
        match self {
            Self::Mnist => "mnist-standard",
            Self::Cifar10 => "cifar10-standard",
            // "Under the same settings as Section 4.1": its rate, weight decay and λ, which the released code has too.
            Self::Ablation | Self::Subsets | Self::Wide => "cifar10-mart-ablation",
            Self::Unlabelled100K | Self::Unlabelled500K => "cifar10-rst",
        }
    }
}

/// What fits into minutes on two processor cores.
mod quick {
    pub const TRAIN: usize = 1_600;
    /// With fewer, the methods with a regulariser have not left their start.
    pub const EPOCHS: usize = 10;
    pub const LEARNING_RATE: f64 = 0.06;
    pub const STEPS: usize = 5;
    pub const TEST: usize = 3_000;
    pub const BEYOND: usize = 100;
    /// With unlabelled images a part of the labelled ones stands for the few that there are.
    pub const LABELLED: usize = 800;
    pub const UNLABELLED: usize = 1_600;
}

/// What fits into about an hour on a GPU.
mod short {
    pub const TEST: usize = 1_000;
    pub const UNLABELLED: usize = 20_000;
}

/// The setting's recipe at a budget, before a defence is chosen.
fn base(setting: Setting, budget: Budget, source: &str, seed: u64) -> Result<Recipe, RecipeError> {
    let mut recipe = if budget == Budget::Quick {
        preset(if source == "fashion" {
            "fashion-standard"
        } else {
            "glyphs-standard"
        })?
    } else {
        preset(setting.preset())?
    };
    recipe.defence = DefenceSpec::Standard;
    recipe.data.unlabelled = None;
    recipe.data.source = source.to_string();
    recipe.seed = seed;
    match budget {
        // Its preset is a quick one.
        Budget::Quick if source == "fashion" => {}
        Budget::Quick => make_quick(&mut recipe, setting),
        Budget::Short | Budget::Full => {
            match setting {
                Setting::Subsets => recipe.network = Architecture::Cnn8,
                Setting::Wide => {
                    recipe.network = Architecture::WideResNet { depth: 34, width: 10 };
                    recipe.epochs = 100;
                }
                Setting::Unlabelled100K => recipe.network = Architecture::WideResNet { depth: 34, width: 8 },
                Setting::Mnist => {
                    // The paper's epochs and drops; its rate of 0.01 at full ε stays at the constant prediction.
                    recipe.epochs = 50;
                    recipe.schedule = Schedule::MultiStep {
                        milestones: vec![20, 40],
                        gamma: 0.1,
                    };
                }
                _ => {}
            }
            if budget == Budget::Short {
                make_short(&mut recipe, setting);
            }
        }
    }
    Ok(recipe)
}

/// What tells runs of other seeds and epochs apart by their names.
fn chosen_suffix(seed: u64, epochs: Option<usize>) -> String {
    let epochs = epochs.map_or_else(String::new, |epochs| format!("-{epochs}epochs"));
    match seed {
        1 => epochs,
        seed => format!("{epochs}-seed{seed}"),
    }
}

/// So many epochs instead of the recipe's own, with the drops of the rate at the same shares of them.
fn shorten(recipe: &mut Recipe, epochs: usize) {
    if let Schedule::MultiStep { milestones, .. } = &mut recipe.schedule {
        for milestone in milestones.iter_mut() {
            *milestone = (*milestone * epochs).div_ceil(recipe.epochs.max(1)).max(1);
        }
        milestones.dedup();
    }
    recipe.epochs = epochs;
}

fn make_quick(recipe: &mut Recipe, setting: Setting) {
    recipe.epochs = quick::EPOCHS;
    recipe.data.limit_train = Some(if setting.is_semi_supervised() {
        quick::LABELLED
    } else {
        quick::TRAIN
    });
    recipe.data.held_out = 200;
    // At these radii a network after so short a training still gets some ten per cent of its training images wrong.
    let epsilon = match recipe.data.source.split(':').next() {
        Some("glyphs") => 0.1.into(),
        Some("mnist" | "fashion-mnist") => 0.2.into(),
        _ => crate::threat::Magnitude::from(8.0).divided_by(255),
    };
    recipe.attack.steps = quick::STEPS;
    recipe.attack.step_size = epsilon.divided_by(4);
    recipe.threat.epsilon = epsilon;
    recipe.optimiser.learning_rate = quick::LEARNING_RATE;
    recipe.schedule = Schedule::Cosine;
    // A natural epoch first: from a cold start most of the minutes would go into leaving it.
    recipe.warm_up.natural_epochs = 1;
    recipe.warm_up.epsilon_epochs = 1.0;
    recipe.evaluation.attacks = vec!["natural".into(), "pgd-20".into()];
    recipe.evaluation.limit = Some(150);
}

fn make_short(recipe: &mut Recipe, setting: Setting) {
    recipe.schedule = Schedule::Cosine;
    recipe.epochs = match setting {
        Setting::Mnist => 10,
        Setting::Cifar10 => 8,
        Setting::Ablation => 5,
        Setting::Subsets => 20,
        Setting::Wide | Setting::Unlabelled100K | Setting::Unlabelled500K => 4,
    };
    match setting {
        Setting::Wide => recipe.data.limit_train = Some(10_000),
        Setting::Unlabelled100K | Setting::Unlabelled500K => recipe.data.limit_train = Some(5_000),
        _ => {}
    }
    recipe.evaluation.limit = Some(500);
}

/// The recipe of one row.
fn recipe(trains: &Trains, setting: Setting, budget: Budget, base: &Recipe) -> Result<Recipe, RecipeError> {
    let mut recipe = base.clone();
    match trains {
        Trains::Defence(defence) | Trains::PseudoLabelled(defence) => {
            recipe.defence = defence.clone();
            adapt(&mut recipe, setting, budget);
        }
        Trains::Released(defence) if budget == Budget::Quick => {
            recipe.defence = defence.clone();
            recipe.attack.start = Start::Gaussian;
        }
        Trains::Released(defence) => {
            let wide = setting == Setting::Wide;
            let released = preset(if wide {
                "cifar10-mart-released-wrn"
            } else {
                "cifar10-mart-released"
            })?;
            recipe = Recipe {
                data: base.data.clone(),
                seed: base.seed,
                evaluation: base.evaluation.clone(),
                defence: defence.clone(),
                ..released
            };
            if budget == Budget::Short {
                (recipe.epochs, recipe.schedule) = (base.epochs, base.schedule.clone());
            }
        }
        Trains::Helper(defence) => {
            recipe.defence = defence.clone();
            recipe.warm_up = Default::default();
            recipe.network = match (setting, budget) {
                (Setting::Cifar10, Budget::Short | Budget::Full) => Architecture::ResNet50,
                _ => recipe.network,
            };
            // A natural run needs neither so many epochs nor so large a weight decay.
            recipe.epochs = recipe.epochs.min(30);
            recipe.schedule = Schedule::Cosine;
            recipe.optimiser.weight_decay = recipe.optimiser.weight_decay.min(5e-4);
        }
        Trains::Subset { .. } => {}
    }
    Ok(recipe)
}

/// Sets the numbers of a defence that follow from ε and from the length of the run, and the start that it needs.
fn adapt(recipe: &mut Recipe, setting: Setting, budget: Budget) {
    recipe.defence.follow(&recipe.threat.epsilon);
    match &mut recipe.defence {
        DefenceSpec::Trades { .. } => recipe.attack.start = Start::Gaussian,
        DefenceSpec::Mma { min_epsilon, .. } if setting == Setting::Cifar10 && budget != Budget::Quick => {
            *min_epsilon = 0.005.into();
        }
        // The criterion is to reach 0 some time before the run ends: after 100 of the released code's 120 epochs.
        DefenceSpec::Dynamic { control_epochs, .. } => *control_epochs = (recipe.epochs * 5 / 6).max(1),
        _ => {}
    }
}

impl Plan {
    /// What a person must know before comparing the figures with the paper's.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        if let Some(row) = self.rows.iter().find(|row| !row.row.trains.is_helper()) {
            let recipe = &row.recipe;
            let images = match recipe.data.limit_train {
                Some(limit) => format!("{limit} images of {}", self.source),
                None => self.source.clone(),
            };
            remarks.push(format!(
                "Here: {} on {images}, ε = {}, {} epochs, seed {}. The paper: {}.",
                recipe.network,
                self.threat.epsilon,
                recipe.epochs,
                self.seed,
                self.experiment.setting.in_the_paper()
            ));
        }
        remarks.push(
            match self.budget {
                Budget::Quick => "At this budget the order of the rows may be compared with the paper's, the figures may not.",
                Budget::Short => "Few epochs: figures lie under the paper's, and a longer run may change their order.",
                Budget::Full => "The paper names neither its epochs nor every number; docs/architecture.md says what was taken instead.",
            }
            .to_string(),
        );
        remarks.push(
            "Best: the checkpoint that PGD chose on images held out of the training set; the paper chose on the test set. CW∞ has κ = 50, which the paper does not name."
                .to_string(),
        );
        remarks
    }

    /// The rows with these names, with the rows that they need; all of them where none is named.
    ///
    /// # Errors
    /// [`ExperimentError::UnknownRow`].
    pub fn chosen(&self, names: &[String]) -> Result<Vec<usize>, ExperimentError> {
        if names.is_empty() {
            return Ok((0..self.rows.len()).collect());
        }
        let mut chosen = vec![false; self.rows.len()];
        for name in names {
            let Some(position) = self.rows.iter().position(|row| row.row.id == *name) else {
                return Err(ExperimentError::UnknownRow {
                    experiment: self.experiment.name,
                    row: name.clone(),
                    known: self
                        .rows
                        .iter()
                        .map(|row| row.row.id.as_str())
                        .collect::<Vec<_>>()
                        .join(", "),
                });
            };
            chosen[position] = true;
            if let Some(need) = &self.rows[position].needs {
                chosen[need.row()] = true;
            }
            if let Some(surrogate) = self.surrogate {
                chosen[surrogate] = true;
            }
        }
        Ok((0..self.rows.len()).filter(|row| chosen[*row]).collect())
    }

    /// The name of the folder, beside the runs, with the experiment's tables and page.
    pub fn name(&self) -> String {
        let kind = self.source.split(':').next().unwrap_or_default();
        let chosen = chosen_suffix(self.seed, self.epochs);
        format!("{}-{}-{kind}{chosen}", self.experiment.name, self.budget)
    }

    /// The attack that comparisons are made under.
    pub fn headline(&self) -> &'static str {
        let attacks = self.experiment.attacks;
        let named = |name: &str| attacks.iter().copied().find(|attack| *attack == name);
        named("pgd-20")
            .or_else(|| named("transfer-pgd-20"))
            .unwrap_or("natural")
    }
}
