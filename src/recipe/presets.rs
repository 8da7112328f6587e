//! The recipes that come with Martlet. Each states only what differs from its base, and why.

use super::{
    DataSpec, Decay, EarlyStop, EpochEvaluation, Optimiser, Recipe, RecipeError, Schedule, TrainingAttack, Unlabelled,
    WarmUp, WeightAverage,
};
use crate::{
    data::Augmentation,
    defences::{DefenceSpec, WeightPerturbation},
    losses::Form,
    nn::{Architecture, Mode},
    threat::{Magnitude, Norm, Start, ThreatModel},
};

/// A built-in recipe.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// What `--recipe` takes.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    make: fn() -> Recipe,
}

impl Preset {
    /// The recipe.
    pub fn recipe(&self) -> Recipe {
        (self.make)()
    }
}

/// The recipe called `name`.
///
/// # Errors
/// [`RecipeError::UnknownPreset`] with the names there are.
pub fn preset(name: &str) -> Result<Recipe, RecipeError> {
    PRESETS
        .iter()
        .find(|preset| preset.name == name)
        .map(Preset::recipe)
        .ok_or_else(|| RecipeError::UnknownPreset {
            name: name.to_string(),
            known: PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>().join(", "),
        })
}

const MART: DefenceSpec = DefenceSpec::mart(5.0, Form::Paper);
const MART_RELEASED: DefenceSpec = DefenceSpec::mart(5.0, Form::Released);

/// Every built-in recipe.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "glyphs-mart",
        about: "MART on the built-in characters, minutes on two cores",
        make: || glyphs(MART),
    },
    Preset {
        name: "glyphs-standard",
        about: "Standard adversarial training on the built-in characters",
        make: || glyphs(DefenceSpec::Standard),
    },
    Preset {
        name: "glyphs-trades",
        about: "TRADES on the built-in characters",
        make: || trades(glyphs(DefenceSpec::Trades { lambda: 4.0 })),
    },
    Preset {
        name: "glyphs-natural",
        about: "no defence, on the built-in characters",
        make: || glyphs(DefenceSpec::Natural),
    },
    Preset {
        name: "glyphs-alp",
        about: "adversarial logit pairing on the built-in characters, λ 1 on probabilities",
        make: || glyphs(named("alp", "0.15")),
    },
    Preset {
        name: "glyphs-clp",
        about: "clean logit pairing on the built-in characters, λ 1 on probabilities",
        make: || glyphs(named("clp", "0.15")),
    },
    Preset {
        name: "glyphs-mma",
        about: "max-margin training on the built-in characters, margins up to 1.5 ε",
        make: || glyphs(named("mma", "0.15")),
    },
    Preset {
        name: "glyphs-dynamic",
        about: "Dynamic on the built-in characters, its criterion at 0 after 8 of 10 epochs",
        make: || glyphs(dynamic(8)),
    },
    Preset {
        name: "glyphs-uat",
        about: "UAT++'s loss on the built-in characters",
        make: || glyphs(named("uat", "0.15")),
    },
    Preset {
        name: "glyphs-n-fgsm",
        about: "N-FGSM on the built-in characters: one step from a noisy start, a fifth of the cost",
        make: || glyphs(named("n-fgsm", "0.15")),
    },
    Preset {
        name: "glyphs-free",
        about: "Free on the built-in characters: 20 epochs' worth of steps in 5 passes over the images",
        make: glyphs_free,
    },
    Preset {
        name: "glyphs-mart-awp",
        about: "MART with adversarial weight perturbation, averaged weights and an early stop, on the built-in characters",
        make: || against_overfitting(glyphs(MART)),
    },
    Preset {
        name: "fashion-mart",
        about: "MART on the built-in part of Fashion-MNIST, where a fifth of the images stays misclassified",
        make: || fashion(MART),
    },
    Preset {
        name: "fashion-standard",
        about: "Standard adversarial training on the built-in part of Fashion-MNIST",
        make: || fashion(DefenceSpec::Standard),
    },
    Preset {
        name: "fashion-trades",
        about: "TRADES on the built-in part of Fashion-MNIST",
        make: || trades(fashion(DefenceSpec::Trades { lambda: 4.0 })),
    },
    Preset {
        name: "fashion-natural",
        about: "no defence, on the built-in part of Fashion-MNIST",
        make: || fashion(DefenceSpec::Natural),
    },
    Preset {
        name: "mnist-mart",
        about: "MART on MNIST: small-cnn, ε warmed up so that it leaves the start",
        make: || mnist(MART),
    },
    Preset {
        name: "mnist-standard",
        about: "Standard adversarial training on MNIST, otherwise as mnist-mart",
        make: || mnist(DefenceSpec::Standard),
    },
    Preset {
        name: "mnist-trades",
        about: "TRADES on MNIST, otherwise as mnist-mart",
        make: || trades(mnist(DefenceSpec::Trades { lambda: 4.0 })),
    },
    Preset {
        name: "mnist-natural",
        about: "no defence, on MNIST",
        make: || mnist(DefenceSpec::Natural),
    },
    Preset {
        name: "mnist-mma",
        about: "MMA on MNIST with the max margin of section 4.2, 0.45, otherwise as mnist-mart",
        make: || mnist(named("mma", "0.3")),
    },
    Preset {
        name: "mnist-dynamic",
        about: "Dynamic on MNIST with c_max 0.5, at 0 after 8 of 10 epochs, otherwise as mnist-mart",
        make: || mnist(dynamic(8)),
    },
    Preset {
        name: "mnist-mart-paper",
        about: "MART on MNIST as section 4.2 states it; known to stick at the constant prediction",
        make: || mnist_paper(MART),
    },
    Preset {
        name: "cifar10-mart-paper",
        about: "MART on CIFAR-10 as section 4.2 states it (Table 2): lr 0.01, weight decay 3.5e-3, λ 5",
        make: || cifar10_paper(MART),
    },
    Preset {
        name: "cifar10-mart-ablation",
        about: "MART on CIFAR-10 as section 4.1 states it (Figure 2): lr 0.1, weight decay 2e-4, λ 6",
        make: cifar10_ablation,
    },
    Preset {
        name: "cifar10-mart-released",
        about: "MART on CIFAR-10 as the released code runs it: ε 0.031, step 0.007, 120 epochs",
        make: cifar10_released,
    },
    Preset {
        name: "cifar10-mart-released-wrn",
        about: "MART on CIFAR-10 with WRN-34-10 as the released code runs it: lr 0.1, weight decay 7e-4, λ 6",
        make: cifar10_released_wide,
    },
    Preset {
        name: "cifar10-standard",
        about: "Standard adversarial training on CIFAR-10, section 4.2",
        make: || cifar10_paper(DefenceSpec::Standard),
    },
    Preset {
        name: "cifar10-trades",
        about: "TRADES on CIFAR-10 as the MART paper compares it: λ 4",
        make: || trades(cifar10_paper(DefenceSpec::Trades { lambda: 4.0 })),
    },
    Preset {
        name: "cifar10-mma",
        about: "MMA on CIFAR-10 as the MART paper compares it: max margin 12/255, first radius 0.005",
        make: cifar10_mma,
    },
    Preset {
        name: "cifar10-dynamic",
        about: "Dynamic on CIFAR-10 as the MART paper compares it: c_max 0.5, at 0 after 100 epochs",
        make: || cifar10_paper(dynamic(100)),
    },
    Preset {
        name: "cifar10-mart-awp",
        about: "MART on CIFAR-10 as in Table 2, with adversarial weight perturbation, averaged weights and an early stop",
        make: || against_overfitting(cifar10_paper(MART)),
    },
    Preset {
        name: "cifar10-rst",
        about: "RST on CIFAR-10 with WRN-28-10 and 500K pseudo-labelled images, as its authors run it: half and half, λ 6",
        make: || cifar10_semi_supervised(DefenceSpec::Trades { lambda: 6.0 }),
    },
    Preset {
        name: "cifar10-mart-rst",
        about: "MART on CIFAR-10 with WRN-28-10 and 500K pseudo-labelled images, the setting of RST (Table 5b)",
        make: || cifar10_semi_supervised(MART),
    },
    Preset {
        name: "cifar10-natural",
        about: "no defence, on CIFAR-10",
        make: || cifar10_paper(DefenceSpec::Natural),
    },
];

fn magnitude(text: &str) -> Magnitude {
    // Presets are constants, and a test builds every one of them.
    text.parse().unwrap_or_else(|error| unreachable!("{error}"))
}

/// A defence with its usual numbers at that epsilon.
fn named(defence: &str, epsilon: &str) -> DefenceSpec {
    // Presets are constants, and a test builds every one of them.
    DefenceSpec::named(defence, &magnitude(epsilon)).unwrap_or_else(|| unreachable!("{defence}"))
}

/// c_max as in section 4.2; the criterion should reach 0 some time before the run ends.
fn dynamic(control_epochs: usize) -> DefenceSpec {
    DefenceSpec::Dynamic {
        max_criterion: 0.5,
        control_epochs,
    }
}

/// What came after the paper against robust overfitting, which costs a long run some eight points.
fn against_overfitting(mut recipe: Recipe) -> Recipe {
    recipe.weight_perturbation = Some(WeightPerturbation {
        gamma: 0.005,
        from_epoch: recipe.warm_up.epsilon_epochs.ceil() as usize,
    });
    recipe.average = Some(WeightAverage { decay: 0.995 });
    recipe.early_stop = Some(EarlyStop { patience: 20 });
    recipe
}

fn linf(epsilon: &str) -> ThreatModel {
    ThreatModel {
        norm: Norm::Linf,
        epsilon: magnitude(epsilon),
    }
}

/// ε/4 × 10 from a uniform start, BatchNorm in evaluation mode: the paper's training attack (section 4.2).
fn paper_attack(epsilon: &str) -> TrainingAttack {
    TrainingAttack {
        steps: 10,
        step_size: magnitude(epsilon).divided_by(4),
        start: Start::Uniform,
        mode: Mode::Eval,
    }
}

fn evaluation(attacks: &[&str], limit: usize) -> EpochEvaluation {
    EpochEvaluation {
        attacks: attacks.iter().map(|name| name.to_string()).collect(),
        every: 1,
        limit: Some(limit),
    }
}

/// TRADES starts next to the image: from a uniform start about a point is lost.
fn trades(mut recipe: Recipe) -> Recipe {
    recipe.attack.start = Start::Gaussian;
    recipe
}

fn mnist(defence: DefenceSpec) -> Recipe {
    Recipe {
        network: Architecture::SmallCnn,
        seed: 1,
        epochs: 10,
        batch_size: 64,
        data: DataSpec {
            source: "mnist".into(),
            resize: None,
            center_crop: None,
            limit_train: None,
            held_out: 1_000,
            augmentation: Augmentation::default(),
            drop_last: false,
            unlabelled: None,
        },
        defence,
        threat: linf("0.3"),
        attack: paper_attack("0.3"),
        // At the paper's 0.01 and 128 examples the training of small-cnn stays at the constant prediction; six epochs of
        // these on 10,000 images end at 96 % natural and 86 % under PGD-20.
        optimiser: Optimiser {
            learning_rate: 0.03,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 1e-4,
            decay: Decay::All,
            clip_gradient: None,
        },
        schedule: Schedule::Cosine,
        warm_up: WarmUp {
            epsilon_epochs: 1.5,
            natural_epochs: 0,
            standard_epochs: 0,
        },
        label_smoothing: 0.0,
        weight_perturbation: None,
        average: None,
        sync_batch_norm: false,
        mixed_precision: false,
        early_stop: None,
        evaluation: evaluation(&["natural", "fgsm", "pgd-20"], 500),
        log_every: 10,
        checkpoint_seconds: 5.0,
    }
}

fn mnist_paper(defence: DefenceSpec) -> Recipe {
    let mut recipe = mnist(defence);
    recipe.epochs = 50;
    recipe.batch_size = 128;
    recipe.optimiser.learning_rate = 0.01;
    recipe.schedule = Schedule::MultiStep {
        milestones: vec![20, 40],
        gamma: 0.1,
    };
    recipe.warm_up = WarmUp::default();
    recipe
}

fn glyphs(defence: DefenceSpec) -> Recipe {
    let mut recipe = mnist(defence);
    recipe.data.source = "glyphs".into();
    // Small steps often: a set this small leaves the start sooner with them.
    recipe.batch_size = 32;
    recipe.data.held_out = 500;
    recipe.threat = linf("0.15");
    recipe.attack = paper_attack("0.15");
    recipe.evaluation.limit = Some(250);
    recipe
}

/// Ends with about a fifth of the training images misclassified: the paper's regime, in a minute or so on two cores.
fn fashion(defence: DefenceSpec) -> Recipe {
    let mut recipe = mnist(defence);
    recipe.data.source = "fashion".into();
    recipe.data.held_out = 500;
    recipe.epochs = 12;
    recipe.batch_size = 128;
    recipe.optimiser.learning_rate = 0.05;
    recipe.threat = linf("0.1");
    recipe.attack = TrainingAttack {
        steps: 5,
        ..paper_attack("0.1")
    };
    recipe.evaluation = evaluation(&["natural", "pgd-20"], 250);
    recipe
}

fn glyphs_free() -> Recipe {
    let mut recipe = glyphs(DefenceSpec::Free { replays: 4 });
    recipe.epochs = 5;
    recipe
}

fn cifar10_paper(defence: DefenceSpec) -> Recipe {
    Recipe {
        network: Architecture::ResNet18,
        seed: 1,
        epochs: 120,
        batch_size: 128,
        data: DataSpec {
            source: "cifar10".into(),
            resize: None,
            center_crop: None,
            limit_train: None,
            held_out: 1_000,
            augmentation: Augmentation { pad: 4, flip: true },
            drop_last: false,
            unlabelled: None,
        },
        defence,
        threat: linf("8/255"),
        attack: paper_attack("8/255"),
        optimiser: Optimiser {
            learning_rate: 0.01,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 3.5e-3,
            decay: Decay::All,
            clip_gradient: None,
        },
        schedule: Schedule::MultiStep {
            milestones: vec![75, 90],
            gamma: 0.1,
        },
        warm_up: WarmUp::default(),
        label_smoothing: 0.0,
        weight_perturbation: None,
        average: None,
        sync_batch_norm: false,
        mixed_precision: false,
        early_stop: None,
        evaluation: evaluation(&["natural", "fgsm", "pgd-20"], 1_000),
        log_every: 10,
        checkpoint_seconds: 5.0,
    }
}

fn cifar10_mma() -> Recipe {
    cifar10_paper(DefenceSpec::Mma {
        form: Form::Released,
        max_margin: magnitude("12/255"),
        min_epsilon: magnitude("0.005"),
    })
}

/// Carmon et al. 2019: 128 + 128 images, cosine, Nesterov, weight decay 5e-4, ε 0.031, 10 steps of 0.007. Its 200 epochs
/// are passes over 50,000 images of both kinds, 39,200 minibatches: as many as 100 passes over the labelled ones.
fn cifar10_semi_supervised(defence: DefenceSpec) -> Recipe {
    let mut recipe = trades(cifar10_paper(defence));
    recipe.network = Architecture::WideResNet { depth: 28, width: 10 };
    recipe.epochs = 100;
    recipe.batch_size = 256;
    recipe.data.unlabelled = Some(Unlabelled::from_source("pseudo-labelled"));
    recipe.threat = linf("0.031");
    recipe.attack.step_size = magnitude("0.007");
    recipe.optimiser.learning_rate = 0.1;
    recipe.optimiser.nesterov = true;
    recipe.optimiser.weight_decay = 5e-4;
    recipe.schedule = Schedule::Cosine;
    recipe
}

fn cifar10_ablation() -> Recipe {
    let mut recipe = cifar10_paper(DefenceSpec::mart(6.0, Form::Paper));
    recipe.optimiser.learning_rate = 0.1;
    recipe.optimiser.weight_decay = 2e-4;
    recipe
}

fn cifar10_released() -> Recipe {
    let mut recipe = cifar10_paper(MART_RELEASED);
    recipe.threat = linf("0.031");
    recipe.attack = TrainingAttack {
        steps: 10,
        step_size: magnitude("0.007"),
        start: Start::Gaussian,
        mode: Mode::Eval,
    };
    recipe.schedule = Schedule::MultiStep {
        milestones: vec![75, 90, 100],
        gamma: 0.1,
    };
    recipe
}

fn cifar10_released_wide() -> Recipe {
    let mut recipe = cifar10_released();
    recipe.network = Architecture::WideResNet { depth: 34, width: 10 };
    recipe.defence = DefenceSpec::mart(6.0, Form::Released);
    recipe.epochs = 90;
    recipe.optimiser.learning_rate = 0.1;
    recipe.optimiser.weight_decay = 7e-4;
    recipe.schedule = Schedule::MultiStep {
        milestones: vec![75, 90],
        gamma: 0.1,
    };
    recipe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trades_starts_next_to_the_image_wherever_it_is_chosen() {
        let mut recipe = preset("glyphs-mart").unwrap();
        assert_eq!(recipe.attack.start, Start::Uniform);
        recipe.defend_with(DefenceSpec::Trades { lambda: 4.0 });
        assert_eq!(recipe.attack.start, Start::Gaussian);
        recipe.defend_with(DefenceSpec::Standard);
        assert_eq!(recipe.attack.start, Start::Uniform);
        // A recipe that chose its start keeps it.
        let mut released = preset("cifar10-mart-released").unwrap();
        released.defend_with(DefenceSpec::Standard);
        assert_eq!(released.attack.start, Start::Gaussian);
    }

    #[test]
    fn every_preset_is_valid_and_survives_being_written() {
        for preset in PRESETS {
            let recipe = preset.recipe();
            recipe
                .validate()
                .unwrap_or_else(|error| panic!("{}: {error}", preset.name));
            assert_eq!(Recipe::from_toml(&recipe.to_toml()).unwrap(), recipe, "{}", preset.name);
        }
    }

    #[test]
    fn every_defence_survives_being_written_and_names_its_faults() {
        let epsilon = magnitude("0.3");
        for name in DefenceSpec::NAMES {
            let recipe = glyphs(DefenceSpec::named(name, &epsilon).unwrap());
            assert_eq!(recipe.defence.name(), name);
            recipe.validate().unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Recipe::from_toml(&recipe.to_toml()).unwrap(), recipe, "{name}");
        }
        for (given, wrong, field) in [
            ("replays = 4", "replays = 0", "defence.replays"),
            ("noise = 2.0", "noise = -1.0", "defence.noise"),
            ("max_criterion = 0.5", "max_criterion = -0.5", "defence.max_criterion"),
            ("min_epsilon = \"0.15/3\"", "min_epsilon = 0.5", "defence.min_epsilon"),
            ("gamma = 0.005", "gamma = 0.0", "weight_perturbation.gamma"),
            ("decay = 0.995", "decay = 1.0", "average.decay"),
            ("patience = 20", "patience = 0", "early_stop.patience"),
            ("label_smoothing = 0.0", "label_smoothing = 1.0", "label_smoothing"),
        ] {
            let texts = PRESETS.iter().map(|preset| preset.recipe().to_toml());
            let text = texts.into_iter().find(|text| text.contains(given));
            let text = text.unwrap_or_else(|| panic!("no preset says {given}"));
            let error = Recipe::from_toml(&text.replace(given, wrong)).unwrap_err().to_string();
            assert!(error.contains(field), "{wrong}: {error}");
        }
    }

    #[test]
    fn recipes_from_before_the_ablations_are_read() {
        let text = preset("mnist-mart").unwrap().to_toml();
        assert!(!text.contains("ablation"), "{text}");
        let older = text.replace("label_smoothing = 0.0\n", "");
        assert_eq!(Recipe::from_toml(&older).unwrap(), preset("mnist-mart").unwrap());
        let ablated = text.replace("lambda = 5.0", "lambda = 5.0\nablation = { without_kl = true }");
        assert!(Recipe::from_toml(&ablated).unwrap().summary().contains("without KL"));
    }

    #[test]
    fn unknown_fields_and_presets_are_refused() {
        let text = preset("mnist-mart")
            .unwrap()
            .to_toml()
            .replace("batch_size", "batchsize");
        assert!(Recipe::from_toml(&text).unwrap_err().to_string().contains("batchsize"));
        assert!(preset("mnist").unwrap_err().to_string().contains("mnist-mart"));
    }
}
