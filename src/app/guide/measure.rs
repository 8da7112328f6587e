//! What was measured, in words: every figure with its attack, ε, N and interval, none of them typed in.

use super::{Guide, is_fooled};
use crate::{
    app::{
        lessons::{Lesson, Measure, Step},
        state::State,
    },
    engine::Adjustment,
    evaluation::{Evaluation, Standing, Warning},
    report::compare,
    shapes::argmax,
    wording::{counted, percent},
};

/// Warnings of the evaluation's circumstances, not of the network.
const CIRCUMSTANCES: [&str; 4] = [
    "small-sample",
    "no-strong-attack-in-suite",
    "checkpoint-chosen-on-test-set",
    "data-set-note",
];

impl Guide {
    /// What a step, by its number, tells, as far as it is known.
    pub(super) fn measured(&self, state: &State, lesson: &Lesson, number: usize) -> Vec<String> {
        let Step { acts, measured, .. } = &lesson.steps[number];
        // What is shown until the step's own acts are done is the picture of another step, or of no lesson at all.
        let own = acts.is_empty() || self.has_done(lesson, number);
        let shown = own && Self::shows(state, lesson);
        let of_the_picture =
            |measure: &&Measure| matches!(measure, Measure::Answer | Measure::SmallestRadius | Measure::Weight);
        let measures = measured.iter().filter(|measure| shown || !of_the_picture(measure));
        measures.flat_map(|measure| self.tell(state, lesson, measure)).collect()
    }

    fn tell(&self, state: &State, lesson: &Lesson, measure: &Measure) -> Vec<String> {
        let one = |text: Option<String>| text.into_iter().collect();
        match measure {
            Measure::Accuracy(runs) => runs.iter().filter_map(|run| accuracy(state, lesson, run)).collect(),
            Measure::Sets(run) => one(sets(state, lesson, run)),
            Measure::Answer => answers(state),
            Measure::SmallestRadius => one(self.smallest_radius(state)),
            Measure::Terms(run) => one(terms(state, lesson, run)),
            Measure::Weight => one(weight(state)),
            Measure::Standing { runs, attacks } => runs
                .iter()
                .filter_map(|run| {
                    let found = self.evaluation(state, lesson, run)?;
                    standing(lesson.label(run), found, attacks)
                })
                .collect(),
            Measure::Difference {
                runs: [first, second],
                attacks,
            } => {
                let evaluation = |run: &str| self.evaluation(state, lesson, run);
                let (Some(a), Some(b)) = (evaluation(first), evaluation(second)) else {
                    return Vec::new();
                };
                difference((lesson.label(first), a), (lesson.label(second), b), attacks)
            }
            Measure::Warnings(run) => {
                let Some(found) = self.evaluation(state, lesson, run) else {
                    return Vec::new();
                };
                let speaking = |warning: &&Warning| !CIRCUMSTANCES.contains(&warning.kind());
                let warnings = found.warnings.iter().filter(speaking);
                warnings
                    .map(|warning| format!("Martlet warns: {}.", warning.headline()))
                    .collect()
            }
        }
    }

    fn smallest_radius(&self, state: &State) -> Option<String> {
        let attack = state.lab.finding.as_ref()?.wish.name();
        let radius = |milli: &u32| format!("{:.3}", f64::from(*milli) / 1_000.0);
        let tried = counted(self.radii.len(), "value", "values");
        let fooled = self.radii.iter().find(|(_, fooled)| **fooled);
        Some(match (fooled, self.radii.keys().next_back()?) {
            (Some((smallest, _)), _) => format!(
                "{tried} of ε tried; the smallest that changes the answer: {} ({attack}).",
                radius(smallest)
            ),
            (None, largest) => format!(
                "{tried} of ε tried; none up to {} changes the answer ({attack}).",
                radius(largest)
            ),
        })
    }
}

fn accuracy(state: &State, lesson: &Lesson, run: &str) -> Option<String> {
    let shown = Guide::shown(state, lesson, run)?;
    let last = shown.epochs.iter().rev().find(|epoch| !epoch.accuracy.is_empty())?;
    let mut figures: Vec<(&String, &f64)> = last
        .accuracy
        .iter()
        .filter(|(attack, _)| *attack != "worst-case")
        .collect();
    figures.sort_by_key(|(attack, _)| *attack != "natural");
    let figures: Vec<String> = figures
        .iter()
        .map(|(attack, share)| match attack.as_str() {
            "natural" => format!("{} natural", percent(**share)),
            attack => format!("{} under {attack}", percent(**share)),
        })
        .collect();
    Some(format!(
        "{}, epoch {} of {}: {} ({}, N = {}, ε = {}).",
        lesson.label(run),
        last.epoch,
        last.epochs,
        figures.join(", "),
        last.split,
        last.n,
        last.epsilon
    ))
}

fn sets(state: &State, lesson: &Lesson, run: &str) -> Option<String> {
    let shown = Guide::shown(state, lesson, run)?;
    let book = shown.book.as_ref()?;
    let [wrong, right, fooled, robust, _] = book.counts(book.epoch);
    let known = wrong + right + fooled + robust;
    let share = |count: usize| percent(count as f64 / known.max(1) as f64);
    (known > 0).then(|| {
        format!(
            "Epoch {}, {known} training examples: S− {wrong} ({}), right but fooled {fooled} ({}), right and robust {robust} ({}).",
            book.epoch,
            share(wrong),
            share(fooled),
            share(robust)
        )
    })
}

fn answers(state: &State) -> Vec<String> {
    let Some(finding) = &state.lab.finding else {
        return Vec::new();
    };
    let classes = &finding.specimen.classes;
    let said = |probabilities: &[f32]| {
        let class = argmax(probabilities);
        let share = probabilities.get(class)?;
        let name = classes.get(class).map_or("?", String::as_str);
        Some(format!("{name} ({})", percent(f64::from(*share))))
    };
    let truth = finding
        .specimen
        .label
        .and_then(|label| classes.get(label))
        .map_or("?", String::as_str);
    let traces = finding.traces.iter().filter_map(|trace| {
        let target = finding
            .wish
            .target
            .and_then(|target| classes.get(target))
            .map_or(String::new(), |class| format!(" towards {class}"));
        Some(format!(
            "{}, {}: true class {truth}; natural answer {}; after {}{target} with ε = {:.3}: {}.",
            trace.subject,
            finding.specimen.title,
            said(&trace.before)?,
            finding.wish.name(),
            finding.wish.epsilon,
            said(trace.after.last()?)?
        ))
    });
    traces.collect()
}

/// Equation 11 with the figures of the last minibatch.
fn terms(state: &State, lesson: &Lesson, run: &str) -> Option<String> {
    let shown = Guide::shown(state, lesson, run)?;
    let step = shown.last.as_ref()?;
    let term = |name: &str| step.figures.get(name).copied();
    let changed = shown
        .adjustments
        .iter()
        .rev()
        .find_map(|adjusted| match adjusted.change {
            Adjustment::Lambda(lambda) => Some(lambda),
            _ => None,
        });
    let lambda = f64::from(changed.or(shown.recipe.defence.lambda())?);
    Some(format!(
        "Minibatch {}: boosted cross-entropy {:.3} + λ {lambda} × weighted KL {:.4} = loss {:.3}. Means over the minibatch: KL {:.4}, 1 − p_y {:.3}.",
        step.total_steps,
        term("boosted_cross_entropy")?,
        term("weighted_kl")?,
        term("loss")?,
        term("kl")?,
        term("one_minus_p_y")?
    ))
}

fn weight(state: &State) -> Option<String> {
    let finding = state.lab.finding.as_ref()?;
    let trace = finding.traces.first()?;
    let label = finding.specimen.label?;
    let truth = *trace.before.get(label)?;
    let after = trace.after.last()?;
    let divergence: f32 = trace
        .before
        .iter()
        .zip(after)
        .filter(|(p, _)| **p > 0.0)
        .map(|(p, q)| p * (p / q.max(f32::MIN_POSITIVE)).ln())
        .sum();
    let fate = match is_fooled(finding) {
        None => "in S−",
        Some(true) => "right but fooled",
        Some(false) => "right and robust",
    };
    Some(format!(
        "{}, {} ({fate}): p_y = {truth:.3}, so its KL of {divergence:.3} counts {:.3} times: {:.4}.",
        trace.subject,
        finding.specimen.title,
        1.0 - truth,
        (1.0 - truth) * divergence
    ))
}

fn of<'a>(found: &'a Evaluation, attack: &str) -> Option<&'a Standing> {
    let result = found.attacks.iter().find(|result| result.name == attack)?;
    Some(&result.standing)
}

fn under(attack: &str) -> String {
    match attack {
        "natural" => "without attack".to_string(),
        attack => format!("under {attack}"),
    }
}

fn standing(label: &str, found: &Evaluation, attacks: &[String]) -> Option<String> {
    let figures: Vec<String> = attacks
        .iter()
        .filter_map(|attack| {
            let standing = of(found, attack)?;
            Some(format!(
                "{} {} ({:.1} to {:.1})",
                percent(standing.accuracy),
                under(attack),
                100.0 * standing.interval.low,
                100.0 * standing.interval.high
            ))
        })
        .collect();
    (figures.len() == attacks.len()).then(|| {
        format!(
            "{label}: {}; ε = {}, N = {} test images, 95 % intervals in brackets.",
            figures.join(", "),
            found.epsilon,
            found.n
        )
    })
}

fn difference(first: (&str, &Evaluation), second: (&str, &Evaluation), attacks: &[String]) -> Vec<String> {
    if let Some(why) = compare::mismatch(first.1, second.1) {
        return vec![format!("{} and {} cannot be compared: {why}.", first.0, second.0)];
    }
    let told = attacks.iter().filter_map(|attack| {
        let difference = compare::Difference::under(attack, first.1, second.1)?;
        let verdict = if difference.is_clear() {
            "The interval leaves out 0: more than the chance of which images were tried."
        } else {
            "The interval holds 0: these images cannot tell the two apart."
        };
        Some(format!(
            "{} minus {}, {}: {difference} points, with the 95 % interval in brackets. {verdict}",
            second.0,
            first.0,
            under(attack)
        ))
    });
    told.collect()
}
