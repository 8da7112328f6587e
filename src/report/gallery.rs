//! Examples to look at: what an attack makes of them, and what the model says before and after.

use std::collections::BTreeMap;

use burn::tensor::activation::softmax;
use image::RgbImage;

use super::pictures;
use crate::{
    attacks::{Attack, AttackError, AttackSpec},
    compute::{self, Device},
    data::Dataset,
    evaluation::Evaluation,
    nn::{Mode, Model},
    random::Rng,
    shapes::argmax,
    threat::{Norm, ThreatModel},
};

/// Pixels of a picture for one of the image.
const SCALE: u32 = 4;

/// Examples under one attack, each against every model.
#[derive(Debug, Clone, PartialEq)]
pub struct Gallery {
    /// The attack with its numbers, the gain, and how the examples were chosen.
    pub caption: String,
    /// The examples.
    pub entries: Vec<Entry>,
}

/// An example against every model.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Which example it is, and its true class.
    pub title: String,
    /// What became of it, by model.
    pub attempts: Vec<Attempt>,
}

/// An example against one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// The model's name.
    pub model: String,
    /// natural | perturbation × gain | adversarial.
    pub triptych: RgbImage,
    /// The model's answer to the natural image.
    pub before: Prediction,
    /// The model's answer to the adversarial image.
    pub after: Prediction,
    /// How it ended.
    pub outcome: AttemptOutcome,
}

/// A model's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// The class's name.
    pub class: String,
    /// The probability that the model gives to it.
    pub probability: f32,
}

/// How an attack on one example ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The natural image is classified wrongly already.
    WrongBefore,
    /// Right before, wrong after.
    Fooled,
    /// Right before and after.
    Held,
}

impl std::fmt::Display for AttemptOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::WrongBefore => "wrong already",
            Self::Fooled => "fooled",
            Self::Held => "holds",
        })
    }
}

/// Positions of at most `most` examples that show every way in which the evaluated models fare under `attack`: taken in
/// turn from each pattern of held and fooled, among those that all models get right without an attack.
///
/// All evaluations must be of the same examples in the same order, and have kept each example's fate; else there is
/// none to choose. The result shows what can happen and is no fair sample.
pub fn telling_examples(evaluations: &[&Evaluation], attack: &str, most: usize) -> Vec<usize> {
    let Some(first) = evaluations.first() else {
        return Vec::new();
    };
    let places: Vec<Option<usize>> = evaluations
        .iter()
        .map(|evaluation| evaluation.attacks.iter().position(|a| a.name == attack))
        .collect();
    let mut patterns: BTreeMap<Vec<bool>, std::collections::VecDeque<usize>> = BTreeMap::new();
    for (position, example) in first.examples.iter().enumerate() {
        let fates = evaluations.iter().zip(&places).map(|(evaluation, place)| {
            let own = evaluation
                .examples
                .get(position)
                .filter(|own| own.index == example.index)?;
            (own.natural == own.label).then_some(own.attacks.get((*place)?)?.robust)
        });
        if let Some(pattern) = fates.collect::<Option<Vec<bool>>>() {
            patterns.entry(pattern).or_default().push_back(position);
        }
    }
    let mut chosen = Vec::new();
    while chosen.len() < most {
        let before = chosen.len();
        chosen.extend(patterns.values_mut().filter_map(std::collections::VecDeque::pop_front));
        if chosen.len() == before {
            break;
        }
    }
    chosen.truncate(most);
    chosen.sort_unstable();
    chosen
}

/// The gain at which the whole ball fills the range of colours; none where the norm bounds no single pixel, so that
/// each picture takes its own ([`pictures::full_gain`]).
pub fn gain(threat: &ThreatModel) -> Option<f32> {
    let epsilon = threat.epsilon.value();
    (threat.norm == Norm::Linf && epsilon > 0.0).then(|| 1.0 / epsilon)
}

/// What stands over pictures of `attack` on a model of so many classes: its numbers, and how to read the perturbation.
pub fn caption(attack: &AttackSpec, threat: &ThreatModel, classes: usize) -> String {
    let gain = match gain(threat) {
        Some(gain) => format!("enlarged {gain:.1} times"),
        None => "enlarged until its largest change fills the range".to_string(),
    };
    let (name, settings) = (&attack.name, attack.settings(threat, classes));
    format!(
        "{name}: {settings}, {threat}. The perturbation is {gain}; in images without colour, orange is brighter, blue is darker, light grey is unchanged. In brackets: how sure the network is."
    )
}

/// Attacks every example of `dataset`.
///
/// # Errors
/// When the attack or the device fails.
pub fn attempts(
    name: &str,
    model: &Model,
    dataset: &Dataset,
    attack: &AttackSpec,
    threat: &ThreatModel,
    rng: &mut Rng,
    device: &Device,
) -> Result<Vec<Attempt>, AttackError> {
    let shape = dataset.shape();
    let batch = dataset.batch(&(0..dataset.len()).collect::<Vec<_>>(), device);
    let logits = |images| model.forward(images, Mode::Eval);
    let adversarial = attack.perturb(&logits, &batch, threat, &mut rng.each(batch.len()))?;
    let before = compute::read(softmax(logits(batch.images.clone()), 1))?;
    let after = compute::read(softmax(logits(adversarial.clone()), 1))?;
    let (natural, adversarial) = (compute::read(batch.images)?, compute::read(adversarial)?);
    let classes = model.classes().max(1);
    let each = (0..dataset.len()).map(|position| {
        let pixels = position * shape.len()..(position + 1) * shape.len();
        let row = position * classes..(position + 1) * classes;
        let (was, before) = prediction(&before[row.clone()], dataset);
        let (is, after) = prediction(&after[row], dataset);
        let label = dataset.label(position);
        let outcome = match (was == label, is == label) {
            (false, _) => AttemptOutcome::WrongBefore,
            (true, false) => AttemptOutcome::Fooled,
            (true, true) => AttemptOutcome::Held,
        };
        let triptych = pictures::triptych(
            &natural[pixels.clone()],
            &adversarial[pixels],
            shape,
            gain(threat),
            SCALE,
        );
        Attempt {
            model: name.to_string(),
            triptych,
            before,
            after,
            outcome,
        }
    });
    Ok(each.collect())
}

/// The most probable class and its name.
fn prediction(probabilities: &[f32], dataset: &Dataset) -> (usize, Prediction) {
    let class = argmax(probabilities);
    let probability = probabilities.get(class).copied().unwrap_or(f32::NAN);
    let name = dataset
        .class_names()
        .get(class)
        .cloned()
        .unwrap_or_else(|| class.to_string());
    (
        class,
        Prediction {
            class: name,
            probability,
        },
    )
}
