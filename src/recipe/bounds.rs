//! What every field of a recipe may be: one place for files, flags and the window.

use super::{EarlyStop, Recipe, RecipeError, Schedule, Unlabelled, WeightAverage};
use crate::{
    defences::{DefenceSpec, WeightPerturbation},
    threat::ThreatModel,
};

/// Pixels of padding: a larger border would hold more of nothing than of the picture.
const LARGEST_PAD: usize = 256;

impl Recipe {
    /// Checks every field that a type alone cannot hold.
    ///
    /// # Errors
    /// The first field that makes no sense.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let field = |right: bool, field, expected, got: String| {
            if right {
                Ok(())
            } else {
                Err(RecipeError::Field { field, expected, got })
            }
        };
        let rate = self.optimiser.learning_rate;
        let momentum = self.optimiser.momentum;
        let decay = self.optimiser.weight_decay;
        field(
            (1..=1_000_000).contains(&self.epochs),
            "epochs",
            "1 to 1,000,000",
            self.epochs.to_string(),
        )?;
        field(
            !(self.mixed_precision && self.sync_batch_norm),
            "mixed_precision",
            "false with sync_batch_norm, whose statistics need the passes in float32",
            "true".to_string(),
        )?;
        field(
            (1..=1_000_000).contains(&self.batch_size),
            "batch_size",
            "1 to 1,000,000",
            self.batch_size.to_string(),
        )?;
        let radius = self.threat.fault();
        field(
            radius.is_none(),
            "threat.epsilon",
            "a radius that leaves images apart",
            radius.unwrap_or_default(),
        )?;
        let step = ThreatModel {
            norm: self.threat.norm,
            epsilon: self.attack.step_size.clone(),
        };
        let step = step.fault();
        field(
            step.is_none(),
            "attack.step_size",
            "a step within the images",
            step.unwrap_or_default(),
        )?;
        let source = &self.data.source;
        field(
            !source.contains(char::is_control),
            "data.source",
            "a path; in \"…\" a \\ begins an escape such as \\t: write '…' or /",
            format!("{source:?}"),
        )?;
        let pad = self.data.augmentation.pad;
        field(
            pad <= LARGEST_PAD,
            "data.augmentation.pad",
            "at most 256 pixels",
            pad.to_string(),
        )?;
        for (name, side) in [
            ("data.resize", self.data.resize),
            ("data.center_crop", self.data.center_crop),
        ] {
            let side = side.unwrap_or(1);
            field((1..=4_096).contains(&side), name, "1 to 4,096 pixels", side.to_string())?;
        }
        if let (Some(resize), Some(crop)) = (self.data.resize, self.data.center_crop) {
            field(
                crop <= resize,
                "data.center_crop",
                "at most data.resize, the shorter side of the scaled pictures",
                format!("{crop} of {resize}"),
            )?;
        }
        field(
            self.data.limit_train != Some(0),
            "data.limit_train",
            "at least 1",
            "0".into(),
        )?;
        field(
            rate > 0.0 && rate <= 1e3,
            "optimiser.learning_rate",
            "a number above 0 and at most 1,000",
            rate.to_string(),
        )?;
        field(
            (0.0..1.0).contains(&momentum),
            "optimiser.momentum",
            "at least 0 and below 1",
            momentum.to_string(),
        )?;
        field(
            (0.0..=10.0).contains(&decay),
            "optimiser.weight_decay",
            "0 to 10",
            decay.to_string(),
        )?;
        if let Some(clip) = self.optimiser.clip_gradient {
            field(
                clip > 0.0 && clip.is_finite(),
                "optimiser.clip_gradient",
                "a number above 0",
                clip.to_string(),
            )?;
        }
        field(
            (usize::from(self.defence.attacks())..=100_000).contains(&self.attack.steps),
            "attack.steps",
            "1 to 100,000",
            self.attack.steps.to_string(),
        )?;
        if let Some((name, expected, got)) = self.defence.fault() {
            field(false, name, expected, got)?;
        }
        // Free hands out one backward pass of its own; what is put round a defence needs the pass to itself.
        let alone = matches!(self.defence, DefenceSpec::Free { .. });
        if let Some(Unlabelled { share, weight, .. }) = self.data.unlabelled {
            field(
                share > 0.0 && share < 1.0 && self.labelled_share(true) < self.batch_size,
                "data.unlabelled.share",
                "above 0 and below 1, so that each minibatch has images of both kinds",
                format!("{share} of {}", self.batch_size),
            )?;
            field(
                weight > 0.0 && weight.is_finite(),
                "data.unlabelled.weight",
                "a number above 0",
                weight.to_string(),
            )?;
            field(!alone, "data.unlabelled", "none beside the defence free", "some".into())?;
        }
        let smoothing = self.label_smoothing;
        field(
            (0.0..1.0).contains(&smoothing),
            "label_smoothing",
            "at least 0 and below 1",
            smoothing.to_string(),
        )?;
        if let Some(WeightPerturbation { gamma, .. }) = self.weight_perturbation {
            field(
                gamma > 0.0 && gamma < 1.0,
                "weight_perturbation.gamma",
                "above 0 and below 1",
                gamma.to_string(),
            )?;
            field(
                !alone,
                "weight_perturbation",
                "none beside the defence free",
                format!("gamma = {gamma}"),
            )?;
        }
        if let Some(WeightAverage { decay }) = self.average {
            field(
                (0.0..1.0).contains(&decay),
                "average.decay",
                "at least 0 and below 1",
                decay.to_string(),
            )?;
        }
        if let Some(EarlyStop { patience }) = self.early_stop {
            field(patience > 0, "early_stop.patience", "at least 1", "0".into())?;
            field(
                self.data.held_out > 0,
                "data.held_out",
                "at least 1 beside early_stop, or the test set would decide when to stop",
                "0".into(),
            )?;
        }
        let warm = self.warm_up.epsilon_epochs;
        field(
            (0.0..=1e6).contains(&warm),
            "warm_up.epsilon_epochs",
            "0 to 1,000,000",
            warm.to_string(),
        )?;
        let warm = self.warm_up.natural_epochs.saturating_add(self.warm_up.standard_epochs);
        field(
            warm == 0 || warm < self.epochs,
            "warm_up",
            "fewer natural_epochs and standard_epochs than epochs, or the defence never trains",
            format!("{warm} of {}", self.epochs),
        )?;
        field(self.evaluation.every > 0, "evaluation.every", "at least 1", "0".into())?;
        field(self.log_every > 0, "log_every", "at least 1", "0".into())?;
        let pause = self.checkpoint_seconds;
        field(
            (0.0..=1e7).contains(&pause),
            "checkpoint_seconds",
            "0 to 10,000,000 (115 days)",
            pause.to_string(),
        )?;
        let suite = self.evaluation.suite().map_err(|error| RecipeError::Field {
            field: "evaluation.attacks",
            expected: "attacks, such as natural, fgsm, pgd-20, cw-20 or autoattack-fast",
            got: error.to_string(),
        })?;
        for attack in suite.attacks {
            field(
                !attack.needs_surrogate(),
                "evaluation.attacks",
                "attacks on the model itself: training has no surrogate",
                attack.name,
            )?;
        }
        self.schedule.validate()
    }

    /// What the recipe names and its epochs do not reach, each in a sentence: it is allowed, and seldom meant.
    pub fn never_reached(&self) -> Vec<String> {
        let mut parts = Vec::new();
        let epochs = self.epochs;
        if let Schedule::MultiStep { milestones, gamma } = &self.schedule
            && *gamma < 1.0
        {
            let beyond: Vec<String> = milestones
                .iter()
                .filter(|at| **at > epochs)
                .map(usize::to_string)
                .collect();
            if !beyond.is_empty() {
                let rate = if beyond.len() == milestones.len() {
                    "never falls"
                } else {
                    "does not fall so far"
                };
                parts.push(format!(
                    "the learning rate {rate}: its milestones at {} lie beyond the {epochs} epochs",
                    beyond.join(", ")
                ));
            }
        }
        let reached = self.epsilon_factor(epochs as f64);
        if self.defence.attacks() && reached < 1.0 {
            parts.push(format!(
                "training ends at {:.0} % of ε: its warm-up of {} epochs is longer",
                100.0 * reached,
                self.warm_up.epsilon_epochs
            ));
        }
        if let Some(WeightPerturbation { from_epoch, .. }) = self.weight_perturbation
            && from_epoch >= epochs
        {
            parts.push(format!(
                "weights are never perturbed: that begins after epoch {from_epoch} of {epochs}"
            ));
        }
        parts
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::recipe::preset;

    #[test]
    fn numbers_without_sense_are_refused_with_what_was_probably_meant() {
        for (change, words) in [
            (
                (|r: &mut Recipe| r.threat.epsilon = "8".parse().unwrap()) as fn(&mut Recipe),
                "did you mean 8/255?",
            ),
            (|r| r.threat.epsilon = "1e39".parse().unwrap(), "threat.epsilon"),
            (|r| r.attack.step_size = "2".parse().unwrap(), "did you mean 2/255?"),
            (|r| r.data.source = "npz:sub\train.npz".into(), "write '…' or /"),
            (|r| r.data.augmentation.pad = 1_000_000, "data.augmentation.pad"),
            (|r| r.optimiser.learning_rate = 1e300, "optimiser.learning_rate"),
            (|r| r.checkpoint_seconds = 1e300, "checkpoint_seconds"),
            (|r| r.optimiser.clip_gradient = Some(f64::INFINITY), "clip_gradient"),
        ] {
            let mut recipe = preset("cifar10-mart-paper").unwrap();
            change(&mut recipe);
            let said = recipe.validate().unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
        let mut never = preset("mnist-mart").unwrap();
        (
            never.epochs,
            never.warm_up.natural_epochs,
            never.warm_up.standard_epochs,
        ) = (4, 3, 1);
        let said = never.validate().unwrap_err().to_string();
        assert!(said.contains("got 4 of 4"), "{said}");
        let mut euclidean = preset("cifar10-mart-paper").unwrap();
        euclidean.threat = ThreatModel {
            norm: crate::threat::Norm::L2,
            epsilon: "3".parse().unwrap(),
        };
        euclidean.validate().unwrap();
    }

    #[test]
    fn what_the_epochs_do_not_reach_is_told() {
        let mut recipe = preset("cifar10-mart-paper").unwrap();
        assert!(recipe.never_reached().is_empty());
        recipe.epochs = 80;
        assert_eq!(
            recipe.never_reached(),
            ["the learning rate does not fall so far: its milestones at 90 lie beyond the 80 epochs"]
        );
        (recipe.epochs, recipe.warm_up.epsilon_epochs) = (3, 12.0);
        recipe.weight_perturbation = Some(WeightPerturbation {
            gamma: 0.01,
            from_epoch: 3,
        });
        assert_eq!(
            recipe.never_reached(),
            [
                "the learning rate never falls: its milestones at 75, 90 lie beyond the 3 epochs",
                "training ends at 25 % of ε: its warm-up of 12 epochs is longer",
                "weights are never perturbed: that begins after epoch 3 of 3",
            ]
        );
    }
}
