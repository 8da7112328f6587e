//! Which attacks an evaluation tries.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::attacks::{AttackSpec, Method, Objective, UnknownAttack};

/// Examples a minibatch where nobody asks for another number: the paper's.
const DEFAULT_BATCH_SIZE: usize = 128;

/// Examples that a probe looks at: enough to see a fault, few enough to cost little.
const DEFAULT_PROBE_EXAMPLES: usize = 64;

/// The paper's attacks (Tables 2 and 4).
const PAPER: &str = "natural,fgsm,pgd-20,cw-20";

/// The paper's attacks, more steps and restarts.
const THOROUGH: &str = "natural,fgsm,pgd-20,pgd-100,pgd-20x5,cw-20,cw-100";

/// The attacks of an evaluation and how they are run.
///
/// As text: names with commas between them, such as `natural,fgsm,pgd-20,autoattack`; `x5` after a name gives it five
/// restarts (`pgd-20x5`); `paper` and `thorough` are built in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Suite {
    /// The attacks, in order. Natural accuracy is measured whether it is named or not.
    pub attacks: Vec<AttackSpec>,
    /// Examples a minibatch; changes time and memory, and nothing else beyond rounding.
    pub batch_size: usize,
    /// Seed of the random starts.
    pub seed: u64,
    /// Whether to look, on a few examples, for signs that the figures mislead.
    pub probes: bool,
    /// How many examples those are.
    pub probe_examples: usize,
}

/// A text that is no suite.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// A name is no attack.
    #[error(transparent)]
    Unknown(#[from] UnknownAttack),
    /// A name stands twice, so that its figure would not say which it is.
    #[error("expected each attack once, got {0} twice; leave one of the two out")]
    Twice(String),
    /// No attack at all.
    #[error("expected attacks with commas between them, such as {PAPER}, or paper, or thorough; got nothing")]
    Empty,
}

impl Suite {
    /// A suite of `attacks` with the default batch size, seed 0 and probes.
    ///
    /// # Errors
    /// When there is no attack, or two have one name.
    pub fn new(attacks: Vec<AttackSpec>) -> Result<Self, SuiteError> {
        if attacks.is_empty() {
            return Err(SuiteError::Empty);
        }
        for (position, spec) in attacks.iter().enumerate() {
            if attacks[..position].iter().any(|earlier| earlier.name == spec.name) {
                return Err(SuiteError::Twice(spec.name.clone()));
            }
        }
        Ok(Self {
            attacks,
            ..Self::natural()
        })
    }

    /// No attack: natural accuracy alone.
    pub fn natural() -> Self {
        Self {
            attacks: Vec::new(),
            batch_size: DEFAULT_BATCH_SIZE,
            seed: 0,
            probes: true,
            probe_examples: DEFAULT_PROBE_EXAMPLES,
        }
    }

    /// Adds, before each transfer attack, the same attack on the model itself where it is missing: what a transfer
    /// attack finds says something only beside it.
    pub fn add_white_boxes(&mut self) {
        let mut attacks: Vec<AttackSpec> = Vec::new();
        for spec in &self.attacks {
            if let Method::Transfer(transfer) = &spec.method {
                let known = |other: &AttackSpec| other.name == transfer.attack.name;
                if !self.attacks.iter().any(known) && !attacks.iter().any(known) {
                    attacks.push((*transfer.attack).clone());
                }
            }
            attacks.push(spec.clone());
        }
        self.attacks = attacks;
    }

    /// Its attacks that follow the gradient for more than one step.
    pub(super) fn iterated(&self) -> impl Iterator<Item = &AttackSpec> {
        self.attacks.iter().filter(|spec| is_iterated(spec))
    }
}

/// Whether an attack follows the gradient for more than one step.
pub(super) fn is_iterated(spec: &AttackSpec) -> bool {
    match &spec.method {
        Method::Pgd(ascent) => ascent.steps > 1,
        Method::Apgd(_) | Method::Fab(_) => true,
        _ => spec.components().iter().any(is_iterated),
    }
}

/// Whether an attack is PGD as the field means it: cross-entropy, more than one step.
pub(super) fn is_pgd(spec: &AttackSpec) -> bool {
    spec.ascent()
        .is_some_and(|ascent| ascent.objective == Objective::CrossEntropy && ascent.steps > 1)
}

impl FromStr for Suite {
    type Err = SuiteError;

    fn from_str(text: &str) -> Result<Self, SuiteError> {
        let names = match text.trim() {
            "paper" => PAPER,
            "thorough" => THOROUGH,
            names => names,
        };
        let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        Self::new(names.map(str::parse).collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_written_as_names() {
        let suite: Suite = "natural, fgsm,pgd-20x5,cw-100".parse().unwrap();
        let names: Vec<&str> = suite.attacks.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ["natural", "fgsm", "pgd-20x5", "cw-100"]);
        let restarts: Vec<usize> = suite.attacks.iter().map(|spec| spec.restarts).collect();
        assert_eq!(restarts, [1, 1, 5, 1]);
        assert_eq!(suite.attacks[2].ascent().unwrap().steps, 20);
        assert_eq!(suite.iterated().count(), 2);
    }

    #[test]
    fn both_presets_are_suites() {
        assert_eq!("paper".parse::<Suite>().unwrap().attacks.len(), 4);
        assert!(
            "thorough"
                .parse::<Suite>()
                .unwrap()
                .attacks
                .iter()
                .any(|spec| spec.restarts > 1)
        );
    }

    #[test]
    fn what_is_no_suite_is_refused() {
        for (text, said) in [
            ("", "got nothing"),
            (" , ", "got nothing"),
            ("fgsm,fgsm", "twice"),
            ("pgd", "unknown"),
            ("pgd-20x0", "unknown"),
            ("autoattackx5", "unknown"),
            ("spsa:samples=0", "samples=N"),
        ] {
            let error = text.parse::<Suite>().unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }
}
