//! Standard adversarial training with some of the examples treated otherwise: the paper's Figure 1, which treats the
//! misclassified examples of a trained network, or as many of the others, and asks what that does to robustness.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{Defence, Loss, Standard, StepContext, climb_cross_entropy, marked, over_pixels};
use crate::{
    attacks::{AttackError, Keep, Pgd, maximise},
    losses::{self, Form},
    nn::{Mode, Model},
    shapes::{Batch, Images},
    threat::Start,
};

/// λ of [`Treatment::Regularised`] where nobody names another: section 4.1's. Figure 1's own is not reported.
const DEFAULT_LAMBDA: f32 = 6.0;

/// Training examples by their positions in the original data set ([`Batch::indices`]).
///
/// As text: rising positions and ranges with commas between them, `3,17,22-25`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Members {
    /// First and last position of each run of neighbours; rising, with a gap before the next.
    ranges: Vec<(usize, usize)>,
}

/// A text that names no set of examples.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected rising positions and ranges of training examples such as 3,17,22-25, got {got:?}{place}")]
pub struct MembersError {
    got: String,
    place: String,
}

/// Which set of a trained network the members are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// S−, those that it gets wrong without any attack.
    Misclassified,
    /// As many of S+, which it gets right.
    Correct,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Misclassified => "S−",
            Side::Correct => "S+",
        })
    }
}

/// What is done with the members.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Treatment {
    /// Figure 1(a): their natural images are trained on.
    NotPerturbed,
    /// Figure 1(b): one step of length ε from the natural image makes theirs.
    Fgsm,
    /// Figure 1(c): their loss has λ·KL beside the cross-entropy.
    Regularised {
        /// The weight of the KL term.
        #[serde(default = "default_lambda")]
        lambda: f32,
    },
}

fn default_lambda() -> f32 {
    DEFAULT_LAMBDA
}

impl Members {
    /// Whether the example at that position is one of them.
    pub fn contains(&self, index: usize) -> bool {
        let after = self.ranges.partition_point(|(first, _)| *first <= index);
        after > 0 && index <= self.ranges[after - 1].1
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Their positions, rising.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.ranges.iter().flat_map(|(first, last)| *first..=*last)
    }

    /// Adds positions that lie behind all others.
    fn push(&mut self, first: usize, last: usize) {
        match self.ranges.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ => self.ranges.push((first, last)),
        }
    }
}

impl FromIterator<usize> for Members {
    /// In any order; twice is once.
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut positions: Vec<usize> = positions.into_iter().collect();
        positions.sort_unstable();
        positions.dedup();
        let mut members = Self::default();
        for position in positions {
            members.push(position, position);
        }
        members
    }
}

impl FromStr for Members {
    type Err = MembersError;

    fn from_str(text: &str) -> Result<Self, MembersError> {
        let mut members = Self::default();
        if text.trim().is_empty() {
            return Ok(members);
        }
        for part in text.split(',').map(str::trim) {
            let wrong = |why: &str| MembersError {
                got: part.to_string(),
                place: why.to_string(),
            };
            // 32 bits hold every data set, and no range of them overflows a count.
            let position = |text: &str| text.trim().parse::<u32>().map(|position| position as usize);
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (Ok(first), Ok(last)) = (position(first), position(last)) else {
                return Err(wrong(""));
            };
            if first > last {
                return Err(wrong(", whose end lies before its beginning"));
            }
            if let Some((_, end)) = members.ranges.last().filter(|(_, end)| first <= *end) {
                return Err(wrong(&format!(" after {end}")));
            }
            members.push(first, last);
        }
        Ok(members)
    }
}

impl TryFrom<String> for Members {
    type Error = MembersError;
    fn try_from(text: String) -> Result<Self, MembersError> {
        text.parse()
    }
}

impl From<Members> for String {
    fn from(members: Members) -> Self {
        members.to_string()
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl Treatment {
    /// The names that a person uses, in the order of Figure 1.
    pub const NAMES: [&'static str; 3] = ["not-perturbed", "fgsm", "regularised"];

    /// The treatment of that name, with λ = 6 where it has one.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "not-perturbed" => Treatment::NotPerturbed,
            "fgsm" => Treatment::Fgsm,
            "regularised" => Treatment::Regularised { lambda: DEFAULT_LAMBDA },
            _ => return None,
        })
    }
}

impl fmt::Display for Treatment {
    /// What happens to the members, after their number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Treatment::NotPerturbed => write!(f, "not perturbed"),
            Treatment::Fgsm => write!(f, "perturbed by FGSM"),
            Treatment::Regularised { lambda } => write!(f, "regularised (λ = {lambda})"),
        }
    }
}

pub(super) struct Subset {
    pub members: Members,
    pub treatment: Treatment,
}

/// FGSM: one step of length ε from the natural image.
fn one_step(batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
    let fgsm = Pgd {
        steps: 1,
        step_size: step.threat.epsilon.clone(),
        start: Start::Natural,
        restarts: 1,
        keep: Keep::Last,
    };
    let climb = |images| losses::cross_entropy((step.attacked)(images), batch.labels.clone());
    maximise(&climb, &batch.images, step.threat, &fgsm, step.rngs)
}

impl Defence for Subset {
    /// Equation 10 for all; in its place, for members, the natural image or FGSM's.
    ///
    /// Members go through the ascent too and their result is left out: the batch keeps its shape, and the others get
    /// the images that Standard would give them from the same generator (where the attack sees BatchNorm evaluate, as
    /// in every preset).
    fn perturb(&mut self, batch: &Batch, step: &mut StepContext) -> Result<Images, AttackError> {
        let images = climb_cross_entropy(batch, step)?;
        let treated = match self.treatment {
            Treatment::NotPerturbed => batch.images.clone(),
            Treatment::Fgsm => one_step(batch, step)?,
            Treatment::Regularised { .. } => return Ok(images),
        };
        let members = marked(batch, |index| self.members.contains(index));
        let members = over_pixels(members, &images).greater_elem(0.5);
        Ok(images.mask_where(members, treated))
    }

    /// `CE(p(x̂'), y)`; regularised, for members, `CE(p(x̂'), y) + λ·KL(p(x) ‖ p(x̂'))`.
    ///
    /// With the regulariser the whole minibatch makes a natural pass before the adversarial one, as in MART: running
    /// statistics move twice in a step, by natural images first and by adversarial ones last. Otherwise the adversarial
    /// pass is the only one, as in Standard. Nothing is detached.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        let Treatment::Regularised { lambda } = self.treatment else {
            return Standard.loss(model, batch, adversarial, step);
        };
        let natural_logits = model.forward(batch.images.clone(), Mode::Train);
        let mut loss = Standard.loss(model, batch, adversarial, step);
        if let Some(adversarial_logits) = &loss.adversarial_logits {
            let divergence = losses::kl_divergence(natural_logits.clone(), adversarial_logits.clone(), Form::Paper);
            let regulariser = divergence.clone() * marked(batch, |index| self.members.contains(index));
            loss.objective = loss.objective + regulariser.clone() * lambda;
            loss.terms.extend([("kl", divergence), ("weighted_kl", regulariser)]);
        }
        loss.natural_logits = Some(natural_logits);
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_as_they_are_written() {
        for text in ["", "0", "3,17,22-25", "0-1,3", "4294967294-4294967295"] {
            let members: Members = text.parse().unwrap();
            assert_eq!(members.to_string(), text);
            assert_eq!(members.iter().take(10).count(), members.len());
            assert_eq!(members.iter().collect::<Members>(), members);
            assert_eq!(
                serde_json::from_str::<Members>(&serde_json::to_string(&members).unwrap()).unwrap(),
                members
            );
        }
        let members: Members = "3, 17 ,22 - 24,25".parse().unwrap();
        assert_eq!(members.to_string(), "3,17,22-25");
        assert_eq!([25, 3, 22, 24, 3, 23, 17].into_iter().collect::<Members>(), members);
        let inside: Vec<usize> = (0..30).filter(|index| members.contains(*index)).collect();
        assert_eq!(inside, [3, 17, 22, 23, 24, 25]);
        assert!(Members::default().is_empty() && !Members::default().contains(0));
    }

    #[test]
    fn texts_that_name_no_members_are_refused_with_the_place() {
        for (text, said) in [
            ("three", "got \"three\""),
            ("1,,2", "got \"\""),
            ("-1", "got \"-1\""),
            ("3-", "got \"3-\""),
            ("1-2-3", "got \"1-2-3\""),
            ("4294967296", "got \"4294967296\""),
            ("25-22", "got \"25-22\", whose end lies before its beginning"),
            ("3,17,17", "got \"17\" after 17"),
            ("3,10-20,15-25", "got \"15-25\" after 20"),
        ] {
            let error = text.parse::<Members>().unwrap_err().to_string();
            assert!(error.contains("3,17,22-25") && error.ends_with(said), "{text}: {error}");
        }
    }

    #[test]
    fn treatments_have_their_names() {
        for name in Treatment::NAMES {
            let treatment = Treatment::named(name).unwrap();
            let json = serde_json::to_value(treatment).unwrap();
            let written = json
                .as_str()
                .or_else(|| json.as_object()?.keys().next().map(String::as_str));
            assert_eq!(written, Some(name));
        }
        assert_eq!(Treatment::named("none"), None);
    }
}
