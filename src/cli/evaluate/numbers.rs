//! The numbers that `evaluate` and `attack` lay over every attack.

use std::str::FromStr;

use anyhow::Result;

use crate::{
    attacks::{AttackSpec, Objective},
    cli::{WrongUse, positive},
    threat::{Magnitude, Norm, ThreatModel},
};

/// Numbers that change every attack of a suite.
#[derive(clap::Args, Clone)]
pub struct AttackNumbers {
    /// The length of a step; without it ε/10 from 20 steps on and ε/4 below, as the paper has it.
    #[arg(long)]
    step_size: Option<Magnitude>,
    /// How often an attack with a random start begins, where its name does not say: pgd-20x5 is five times.
    #[arg(long, default_value_t = 1, value_parser = positive)]
    restarts: usize,
    /// The lead of a wrong class at which CW stops climbing; 50 where nothing is said.
    #[arg(long)]
    kappa: Option<f32>,
}

impl AttackNumbers {
    /// Refuses numbers that none of the attacks takes.
    pub fn check(&self, attacks: &[AttackSpec]) -> Result<()> {
        /// Beyond every image's length.
        const LONGEST: f32 = 1_000.0;
        let refuse = |wrong: String| Err(WrongUse(wrong).into());
        let any = |takes: fn(&AttackSpec) -> bool| attacks.iter().any(takes);
        if self.kappa.is_some() && !any(|attack| attack.kappa().is_some()) {
            return refuse("--kappa: expected a CW attack beside it, such as cw-20".into());
        }
        if let Some(step) = &self.step_size {
            if !any(|attack| attack.ascent().is_some_and(|ascent| ascent.steps > 1)) {
                return refuse("--step-size: expected an attack that takes steps, such as pgd-20 or cw-20".into());
            }
            if step.value() > LONGEST {
                return refuse(format!(
                    "--step-size: expected a step in pixel units, such as 2/255, got {step}"
                ));
            }
        }
        if self.restarts > 1 && !any(|attack| attack.restarts > 1) {
            return refuse("--restarts: expected an attack that starts at random, such as pgd-20".into());
        }
        Ok(())
    }

    /// Refuses a step that leaves every image, in the norm that the attacks have.
    pub fn check_under(&self, norm: Norm) -> Result<()> {
        let Some(step) = &self.step_size else {
            return Ok(());
        };
        let threat = ThreatModel {
            norm,
            epsilon: step.clone(),
        };
        match threat.fault() {
            Some(fault) => Err(WrongUse(format!("--step-size: expected a step within the images, got {fault}")).into()),
            None => Ok(()),
        }
    }

    /// The attack called `name` with these numbers.
    pub fn attack(&self, name: &str) -> Result<AttackSpec> {
        let mut attack = AttackSpec::from_str(name.trim()).map_err(|error| WrongUse(error.to_string()))?;
        let mut begins_anew = attack.begins_anew();
        if let Some(ascent) = attack.ascent_mut() {
            begins_anew = ascent.steps > 1;
            if begins_anew && self.step_size.is_some() {
                ascent.step_size.clone_from(&self.step_size);
            }
            if let (Some(kappa), Objective::CarliniWagner { kappa: own }) = (self.kappa, &mut ascent.objective) {
                *own = kappa;
            }
        }
        if begins_anew && attack.restarts == 1 {
            attack.restarts = self.restarts.max(1);
        }
        Ok(attack)
    }
}
