//! The signs of misleading figures that an evaluation looks for by itself.

use super::{
    AttackResult, EvaluateError, ExampleResult, Suite, TransferComparison, Warning,
    measure::{Measurement, Survey},
    suite::{is_iterated, is_pgd},
};
use crate::{
    attacks::{Aim, ApgdObjective, Ascent, Attack, AttackSpec, Method, Objective, value_and_gradient},
    compute,
    data::Dataset,
    losses,
    threat::{Epsilon, Norm, Start, ThreatModel},
};

/// Draws of noise an example.
const DRAWS: usize = 10;

/// Steps of a probe's PGD.
const STEPS: usize = 10;

/// Fewer examples than this leave a figure too uncertain to go without a word: ± 3 points at 50 %.
const SMALL: usize = 1_000;

/// An answer this frequent is a constant one.
const CONSTANT: f64 = 0.99;

/// Two calls on one device may differ by rounding, this much of the largest logit and no more.
const SAME: f32 = 1e-4;

/// In a minibatch of another size a device may sum in another order; what another minibatch's statistics do is far more.
const SAME_BATCHED_OTHERWISE: f32 = 1e-2;

/// The number of examples from which on a difference means something: 3, and 1 % of them.
fn meaningful(of: usize) -> usize {
    of.div_ceil(100).max(3)
}

/// The work of all probes, in forward passes of one example.
pub(super) fn cost_of_all(suite: &Suite) -> usize {
    if !suite.probes {
        return 0;
    }
    let mut attacks = 0;
    if suite.iterated().next().is_some() {
        attacks += DRAWS + 2 * pgd().passes();
        attacks += doubled(suite).map_or(0, |(_, doubled)| doubled.passes());
    }
    suite.probe_examples * (3 + 3 + attacks)
}

/// What the figures themselves tell; costs nothing.
pub(super) fn about_the_figures(
    measurement: &Measurement,
    survey: &Survey,
    results: &[AttackResult],
    examples: &[ExampleResult],
) -> Vec<Warning> {
    let attacks = &measurement.suite.attacks;
    let correct = examples.iter().filter(|example| example.attacks[0].robust).count();
    let mut found = Vec::new();
    found.extend(constant_prediction(measurement.dataset, examples));
    if survey.probability_like {
        found.push(Warning::OutputsLookLikeProbabilities);
    }
    found.extend(fgsm_stronger_than_pgd(attacks, results, examples, correct));
    found.extend(doubling_steps_still_helps(attacks, results, correct));
    found.extend(stronger_than_gradients(results, examples));
    found.extend(far_above_autoattack(results));
    if attacks.iter().any(|spec| !spec.is_natural()) {
        found.extend(non_standard_epsilon(measurement.dataset, measurement.threat));
        if !has_strong_attack(measurement.suite) {
            found.push(Warning::NoStrongAttackInSuite {
                attacks: results.iter().skip(1).map(|result| result.name.clone()).collect(),
            });
        }
    }
    if examples.len() < SMALL {
        let half_width = results
            .iter()
            .map(|result| result.standing.interval.half_width())
            .fold(0.0, f64::max);
        found.push(Warning::SmallSample {
            n: examples.len(),
            half_width,
        });
    }
    found.extend(
        measurement
            .dataset
            .note()
            .map(|note| Warning::DataSetNote { note: note.to_string() }),
    );
    found
}

/// More examples than a difference may come to by chance: 0.2 % of all, where AutoAttack's code warns too, and at least 2.
fn beyond_chance(found: usize, n: usize) -> bool {
    found >= 2 && found * 500 > n
}

/// Attacks that should not, finding what the attacks that follow the gradient do not.
fn stronger_than_gradients(results: &[AttackResult], examples: &[ExampleResult]) -> Vec<Warning> {
    let columns = |of: &dyn Fn(&Method) -> bool| -> Vec<usize> {
        let all = results.iter().enumerate();
        all.filter(|(_, result)| of(&result.method))
            .map(|(column, _)| column)
            .collect()
    };
    let ascents = columns(&|method| matches!(method, Method::Pgd(_) | Method::Apgd(_)));
    let with_fab = columns(&|method| matches!(method, Method::Pgd(_) | Method::Apgd(_) | Method::Fab(_)));
    if ascents.is_empty() {
        return Vec::new();
    }
    let alone = |column: usize, others: &[usize]| {
        let fell = examples
            .iter()
            .filter(|example| example.attacks[0].robust && !example.attacks[column].robust);
        fell.filter(|example| others.iter().all(|other| example.attacks[*other].robust))
            .count()
    };
    let mut found = Vec::new();
    for (column, result) in results.iter().enumerate() {
        let attack = result.name.clone();
        match &result.method {
            Method::Fab(_) => {
                let only = alone(column, &ascents);
                if beyond_chance(only, examples.len()) {
                    found.push(Warning::FabStrongerThanApgd { attack, only });
                }
            }
            Method::Square(_) | Method::Spsa(_) => {
                let only = alone(column, &with_fab);
                if beyond_chance(only, examples.len()) {
                    found.push(Warning::GradientFreeStrongerThanGradient { attack, only });
                }
            }
            _ => {}
        }
    }
    // One of a kind says it; the one with most examples says it best.
    found.sort_by_key(|warning| {
        std::cmp::Reverse(match warning {
            Warning::FabStrongerThanApgd { only, .. } | Warning::GradientFreeStrongerThanGradient { only, .. } => *only,
            _ => 0,
        })
    });
    let mut kinds = Vec::new();
    found.retain(|warning| {
        let new = !kinds.contains(&warning.kind());
        kinds.push(warning.kind());
        new
    });
    found
}

/// Transfer attacks that find what the same attack on the model itself does not.
pub(super) fn about_transfers(transfers: &[TransferComparison], n: usize) -> Option<Warning> {
    let most = transfers.iter().max_by_key(|comparison| comparison.only_transfer)?;
    beyond_chance(most.only_transfer, n).then(|| Warning::TransferStrongerThanWhiteBox {
        transfer: most.transfer.clone(),
        white_box: most.white_box.clone(),
        only: most.only_transfer,
    })
}

/// Whether there is an attack of AutoAttack's strength: its two APGD attacks find nearly all that it finds.
fn has_strong_attack(suite: &Suite) -> bool {
    let has = |of: &dyn Fn(&ApgdObjective) -> bool| {
        let parts = |spec: &AttackSpec| match spec.components() {
            [] => vec![spec.method.clone()],
            parts => parts.iter().map(|part| part.method.clone()).collect(),
        };
        let mut methods = suite.attacks.iter().flat_map(parts);
        methods.any(|method| matches!(method, Method::Apgd(apgd) if of(&apgd.objective)))
    };
    has(&|objective| *objective == ApgdObjective::CrossEntropy)
        && has(&|objective| matches!(objective, ApgdObjective::TargetedDlr { .. }))
}

/// Accuracy under PGD that is this far above AutoAttack's is no estimate of robustness.
const FAR_ABOVE: f64 = 0.05;

fn far_above_autoattack(results: &[AttackResult]) -> Option<Warning> {
    let least = |of: &dyn Fn(&Method) -> bool| {
        let chosen = results.iter().filter(|result| of(&result.method));
        chosen.min_by(|a, b| a.accuracy().total_cmp(&b.accuracy()))
    };
    let pgd = least(&|method| matches!(method, Method::Pgd(_)))?;
    let whole = least(&|method| matches!(method, Method::InTurn(_)))?;
    (pgd.accuracy() - whole.accuracy() > FAR_ABOVE).then(|| Warning::PgdFarAboveAutoattack {
        pgd: pgd.name.clone(),
        accuracy_under_pgd: pgd.accuracy(),
        autoattack: whole.name.clone(),
        accuracy_under_autoattack: whole.accuracy(),
    })
}

fn constant_prediction(dataset: &Dataset, examples: &[ExampleResult]) -> Option<Warning> {
    let first = examples.first()?;
    if examples.iter().all(|example| example.label == first.label) {
        return None;
    }
    let mut times = std::collections::BTreeMap::<usize, usize>::new();
    for example in examples {
        *times.entry(example.natural).or_default() += 1;
    }
    let (class, times) = times.into_iter().max_by_key(|(_, times)| *times)?;
    let share = times as f64 / examples.len() as f64;
    let name = dataset
        .class_names()
        .get(class)
        .cloned()
        .unwrap_or_else(|| class.to_string());
    (share >= CONSTANT).then_some(Warning::ConstantPrediction { class: name, share })
}

/// Where an attack's outcomes stand in [`ExampleResult::attacks`].
fn columns(attacks: &[AttackSpec], results: &[AttackResult], of: impl Fn(&AttackSpec) -> bool) -> Vec<usize> {
    let chosen = attacks.iter().filter(|spec| of(spec));
    chosen
        .filter_map(|spec| results.iter().position(|result| result.name == spec.name))
        .collect()
}

fn is_fgsm(spec: &AttackSpec) -> bool {
    spec.ascent()
        .is_some_and(|ascent| ascent.objective == Objective::CrossEntropy && ascent.steps == 1)
}

fn is_untargeted(spec: &AttackSpec) -> bool {
    spec.ascent().is_some_and(|ascent| ascent.aim == Aim::Untargeted)
}

fn fgsm_stronger_than_pgd(
    attacks: &[AttackSpec],
    results: &[AttackResult],
    examples: &[ExampleResult],
    correct: usize,
) -> Option<Warning> {
    let fgsm = columns(attacks, results, |spec| is_fgsm(spec) && is_untargeted(spec));
    let pgd = columns(attacks, results, |spec| is_pgd(spec) && is_untargeted(spec));
    if fgsm.is_empty() || pgd.is_empty() {
        return None;
    }
    let only_fgsm = examples.iter().filter(|example| {
        fgsm.iter().any(|column| !example.attacks[*column].robust)
            && pgd.iter().all(|column| example.attacks[*column].robust)
    });
    let only_fgsm = only_fgsm.count();
    (only_fgsm >= meaningful(correct)).then_some(Warning::FgsmStrongerThanPgd { only_fgsm, of: correct })
}

fn doubling_steps_still_helps(attacks: &[AttackSpec], results: &[AttackResult], correct: usize) -> Option<Warning> {
    let result_of = |spec: &AttackSpec| results.iter().find(|result| result.name == spec.name);
    let mut worst: Option<(usize, Warning)> = None;
    let iterated = |spec: &&AttackSpec| is_iterated(spec);
    for fewer in attacks.iter().filter(iterated) {
        let Some(short) = fewer.ascent() else {
            continue;
        };
        // The step size may differ: it follows from the number of steps.
        let longer = attacks.iter().filter(|more| {
            more.ascent().is_some_and(|long| {
                long.steps > short.steps
                    && (long.objective, long.aim, long.start, more.restarts)
                        == (short.objective, short.aim, short.start, fewer.restarts)
            })
        });
        for more in longer {
            let (Some(fewer), Some(more)) = (result_of(fewer), result_of(more)) else {
                continue;
            };
            let gain = fewer.standing.correct.saturating_sub(more.standing.correct);
            if gain >= meaningful(correct) && worst.as_ref().is_none_or(|(most, _)| gain > *most) {
                let warning = Warning::DoublingStepsStillHelps {
                    fewer: fewer.name.clone(),
                    accuracy_at_fewer: fewer.accuracy(),
                    more: more.name.clone(),
                    accuracy_at_more: more.accuracy(),
                    probed: None,
                };
                worst = Some((gain, warning));
            }
        }
    }
    worst.map(|(_, warning)| warning)
}

/// The radii that results on a data set are reported at, the usual one first (Madry et al. 2018; RobustBench).
fn standard_epsilons(dataset: &str, norm: Norm) -> &'static [&'static str] {
    let name = dataset.to_lowercase();
    match norm {
        Norm::Linf if name.contains("fashion") => &["0.1", "0.3"],
        Norm::Linf if name.contains("mnist") => &["0.3"],
        Norm::Linf if name.contains("cifar") => &["8/255"],
        Norm::L2 if name.contains("cifar") => &["0.5", "128/255"],
        _ => &[],
    }
}

fn non_standard_epsilon(dataset: &Dataset, threat: &ThreatModel) -> Option<Warning> {
    let standards = standard_epsilons(dataset.name(), threat.norm);
    let standards: Vec<Epsilon> = standards.iter().filter_map(|text| text.parse().ok()).collect();
    let used = threat.epsilon.value();
    // 0.0314 is 8/255 as people round it; 0.031 is another radius.
    if standards
        .iter()
        .any(|standard| (used - standard.value()).abs() <= 2e-3 * standard.value())
    {
        return None;
    }
    let standard = standards.first()?.clone();
    Some(Warning::NonStandardEpsilon {
        epsilon: threat.epsilon.clone(),
        standard,
        dataset: dataset.name().to_string(),
    })
}

/// The attack that the probes use: PGD as the suite's, with few steps.
fn pgd() -> AttackSpec {
    AttackSpec {
        name: format!("probe pgd-{STEPS}"),
        method: Method::Pgd(Ascent {
            objective: Objective::CrossEntropy,
            aim: Aim::Untargeted,
            steps: STEPS,
            step_size: None,
            start: Start::Uniform,
        }),
        restarts: 1,
    }
}

/// What takes further passes through the model, on a few examples.
///
/// # Errors
/// As the evaluation.
pub(super) fn run(
    measurement: &mut Measurement,
    results: &[AttackResult],
    examples: &[ExampleResult],
) -> Result<Vec<Warning>, EvaluateError> {
    let suite = measurement.suite;
    let chosen = |keep: &dyn Fn(&ExampleResult) -> bool| {
        let kept: Vec<usize> = (0..examples.len())
            .filter(|position| keep(&examples[*position]))
            .collect();
        spread(&kept, suite.probe_examples)
    };
    let mut found = Vec::new();
    found.extend(repeated_calls(measurement, &chosen(&|_| true))?);

    let correct = chosen(&|example| example.attacks[0].robust);
    if correct.is_empty() || suite.attacks.iter().all(AttackSpec::is_natural) {
        return Ok(found);
    }
    found.extend(zero_gradients(measurement, &correct)?);
    // What an attack of one step does not find is not held against it.
    if suite.iterated().next().is_none() {
        return Ok(found);
    }
    found.extend(noise(measurement, &chosen(&|example| example.robust))?);
    let pgd = columns(&suite.attacks, results, |spec| is_pgd(spec) && is_untargeted(spec));
    found.extend(other_epsilons(measurement, &correct, examples, &pgd)?);
    found.extend(twice_the_steps(measurement, &correct, results, examples)?);
    Ok(found)
}

/// The suite's longest PGD and the same with twice the steps; `None` where the suite's own figures tell whether more steps
/// help (another PGD has half as many), and where they depend on stronger attacks.
fn doubled(suite: &Suite) -> Option<(&AttackSpec, AttackSpec)> {
    let steps = |spec: &AttackSpec| spec.ascent().map_or(0, |ascent| ascent.steps);
    let mut pgds = suite.attacks.iter().filter(|spec| is_pgd(spec) && is_untargeted(spec));
    let longest = pgds.clone().max_by_key(|spec| steps(spec))?;
    if pgds.any(|spec| 2 * steps(spec) <= steps(longest)) || has_strong_attack(suite) {
        return None;
    }
    let ascent = longest.ascent()?;
    let steps = 2 * ascent.steps;
    let doubled = AttackSpec {
        name: format!("pgd-{steps}"),
        method: Method::Pgd(Ascent {
            steps,
            ..ascent.clone()
        }),
        restarts: 1,
    };
    Some((longest, doubled))
}

/// PGD with twice the steps on those that withstood it.
fn twice_the_steps(
    measurement: &mut Measurement,
    positions: &[usize],
    results: &[AttackResult],
    examples: &[ExampleResult],
) -> Result<Option<Warning>, EvaluateError> {
    let Some((fewer, more)) = doubled(measurement.suite) else {
        return Ok(None);
    };
    let Some(column) = results.iter().position(|result| result.name == fewer.name) else {
        return Ok(None);
    };
    let withstood = |position: &usize| examples[*position].attacks[column].robust;
    let standing: Vec<usize> = positions.iter().copied().filter(withstood).collect();
    let (of, fewer) = (positions.len(), fewer.name.clone());
    let probe = AttackSpec {
        name: format!("probe {}", more.name),
        ..more.clone()
    };
    let fell = fooled(measurement, &standing, &probe, &measurement.threat.clone())?;
    let (tried, spared) = (standing.len(), measurement.suite.probe_examples - standing.len());
    measurement.probed(&probe.name, tried, tried, tried - fell, spared * probe.passes());
    let share = |standing: usize| standing as f64 / of as f64;
    Ok((fell >= meaningful(of)).then(|| Warning::DoublingStepsStillHelps {
        fewer,
        accuracy_at_fewer: share(standing.len()),
        more: more.name,
        accuracy_at_more: share(standing.len() - fell),
        probed: Some(of),
    }))
}

/// At most `count` of `positions`, evenly over all of them, because a data set may be sorted by class.
fn spread(positions: &[usize], count: usize) -> Vec<usize> {
    let taken = count.min(positions.len());
    (0..taken).map(|i| positions[i * positions.len() / taken]).collect()
}

/// The same images once more, and once more in smaller minibatches.
fn repeated_calls(measurement: &mut Measurement, positions: &[usize]) -> Result<Option<Warning>, EvaluateError> {
    const NAME: &str = "probe repeated calls";
    let (mut again, mut apart, mut scale, mut done) = (0.0f32, 0.0f32, 1.0f32, 0);
    for chunk in positions.chunks(measurement.suite.batch_size.max(1)) {
        measurement.wait(NAME)?;
        let logits = |positions: &[usize]| {
            let images = measurement.dataset.batch(positions, measurement.device).images;
            let answers = measurement.answers(&images, &images, positions, NAME)?;
            Ok::<Vec<f32>, EvaluateError>(answers.rows().flatten().copied().collect())
        };
        let (first, second) = (logits(chunk)?, logits(chunk)?);
        let mut split = Vec::with_capacity(first.len());
        for part in chunk.chunks(chunk.len().div_ceil(3).max(2)) {
            split.extend(logits(part)?);
        }
        let largest = |other: &[f32]| {
            let changes = first.iter().zip(other).map(|(a, b)| (a - b).abs());
            changes.fold(0.0, f32::max)
        };
        again = again.max(largest(&second));
        apart = apart.max(largest(&split));
        scale = first.iter().fold(scale, |scale, logit| scale.max(logit.abs()));
        done += chunk.len();
        measurement.probed(NAME, done, positions.len(), positions.len(), 3 * chunk.len());
    }
    if again > SAME * scale {
        return Ok(Some(Warning::LogitsChangeBetweenIdenticalCalls { largest: again }));
    }
    Ok((apart > SAME_BATCHED_OTHERWISE * scale).then_some(Warning::ModelLeftInTrainingMode { largest: apart }))
}

fn zero_gradients(measurement: &mut Measurement, positions: &[usize]) -> Result<Option<Warning>, EvaluateError> {
    const NAME: &str = "probe zero gradients";
    let (mut flat, mut zeros, mut entries, mut done) = (0, 0, 0, 0);
    for chunk in positions.chunks(measurement.suite.batch_size.max(1)) {
        measurement.wait(NAME)?;
        let batch = measurement.dataset.batch(chunk, measurement.device);
        let objective = |images| losses::cross_entropy((measurement.subject.attacked)(images), batch.labels.clone());
        let (_, gradient) = value_and_gradient(&objective, &batch.images)?;
        let values = compute::read(gradient)?;
        for row in values.chunks_exact((values.len() / chunk.len()).max(1)) {
            let zero = row.iter().filter(|value| **value == 0.0).count();
            flat += usize::from(zero == row.len());
            zeros += zero;
            entries += row.len();
        }
        done += chunk.len();
        measurement.probed(NAME, done, positions.len(), positions.len(), 3 * chunk.len());
    }
    let zeros = zeros as f64 / entries.max(1) as f64;
    let of = positions.len();
    // At least a twentieth of the examples, or seven tenths of all entries: dead ReLUs over a black background alone make some
    // sixty per cent of an adversarially trained network's entries 0.
    let many = flat >= of.div_ceil(20) || zeros > 0.7;
    Ok(many.then_some(Warning::ManyZeroGradients { flat, of, zeros }))
}

fn noise(measurement: &mut Measurement, positions: &[usize]) -> Result<Option<Warning>, EvaluateError> {
    const NAME: &str = "probe noise";
    let (mut fooled, mut done) = (0, 0);
    for chunk in positions.chunks(measurement.suite.batch_size.max(1)) {
        measurement.wait(NAME)?;
        let natural = measurement.dataset.batch(chunk, measurement.device).images;
        let mut rngs = measurement.generators(NAME, 0, chunk);
        let mut fell = vec![false; chunk.len()];
        for _ in 0..DRAWS {
            let noisy = measurement.threat.start(&natural, Start::Uniform, &mut rngs);
            let answers = measurement.answers(&natural, &noisy, chunk, NAME)?;
            for ((fell, prediction), position) in fell.iter_mut().zip(answers.predictions()).zip(chunk) {
                *fell |= prediction != measurement.dataset.label(*position);
            }
        }
        fooled += fell.iter().filter(|fell| **fell).count();
        done += chunk.len();
        measurement.probed(
            NAME,
            done,
            positions.len(),
            positions.len() - fooled,
            DRAWS * chunk.len(),
        );
    }
    let of = positions.len();
    Ok(
        (fooled >= of.div_ceil(50).max(2)).then_some(Warning::NoiseStrongerThanGradient {
            fooled,
            of,
            draws: DRAWS,
        }),
    )
}

/// PGD at half the radius and at one where nothing should stand, against what PGD did at ε on the same examples.
fn other_epsilons(
    measurement: &mut Measurement,
    positions: &[usize],
    examples: &[ExampleResult],
    pgd_columns: &[usize],
) -> Result<Vec<Warning>, EvaluateError> {
    let threat = measurement.threat;
    let Some(huge) = huge_epsilon(threat, measurement.dataset.shape().len()) else {
        return Ok(Vec::new());
    };
    let of = positions.len();
    let small = threat.epsilon.divided_by(2);
    let mut fooled_at = |epsilon: &Epsilon, name: &str| {
        let (norm, epsilon) = (threat.norm, epsilon.clone());
        let name = name.to_string();
        fooled(
            measurement,
            positions,
            &AttackSpec { name, ..pgd() },
            &ThreatModel { norm, epsilon },
        )
    };
    let fooled_at_small = fooled_at(&small, "probe half epsilon")?;
    let fooled_at_huge = fooled_at(&huge, "probe huge epsilon")?;
    let mut found = Vec::new();

    let mut radii = vec![(small, fooled_at_small), (huge.clone(), fooled_at_huge)];
    if !pgd_columns.is_empty() {
        let fell = |position: &&usize| {
            pgd_columns
                .iter()
                .any(|column| !examples[**position].attacks[*column].robust)
        };
        radii.insert(1, (threat.epsilon.clone(), positions.iter().filter(fell).count()));
    }
    let falls = radii.windows(2).find(|pair| pair[0].1 >= pair[1].1 + meaningful(of));
    if let Some([(smaller, fooled_at_smaller), (larger, fooled_at_larger)]) = falls {
        found.push(Warning::SuccessNotRisingWithEpsilon {
            smaller: smaller.clone(),
            fooled_at_smaller: *fooled_at_smaller,
            larger: larger.clone(),
            fooled_at_larger: *fooled_at_larger,
            of,
        });
    }
    let standing = of - fooled_at_huge;
    let chance = 1.0 / measurement.dataset.classes().max(1) as f64;
    if standing as f64 > chance * of as f64 {
        found.push(Warning::HugeEpsilonNotReachingChance {
            epsilon: huge,
            standing,
            of,
            chance,
        });
    }
    Ok(found)
}

/// A radius at which every image can be turned into a grey one; `None` where ε is 0 or leaves no larger one.
fn huge_epsilon(threat: &ThreatModel, pixels: usize) -> Option<Epsilon> {
    let epsilon = threat.epsilon.value();
    let change = if epsilon < 0.5 { 0.5 } else { 1.0 };
    let huge: Epsilon = match threat.norm {
        Norm::Linf => change.to_string().parse().ok()?,
        Norm::L2 => format!("{:.2}", 0.5 * (pixels as f64).sqrt()).parse().ok()?,
    };
    (epsilon > 0.0 && huge.value() > epsilon).then_some(huge)
}

/// How many of the examples an attack fools.
fn fooled(
    measurement: &mut Measurement,
    positions: &[usize],
    spec: &AttackSpec,
    threat: &ThreatModel,
) -> Result<usize, EvaluateError> {
    let name = spec.name.as_str();
    let (mut fooled, mut done) = (0, 0);
    for chunk in positions.chunks(measurement.suite.batch_size.max(1)) {
        measurement.wait(name)?;
        let answers = measurement.attacked(spec, 0, threat, chunk, &|_| {})?;
        let wrong = answers.predictions().zip(chunk);
        fooled += wrong
            .filter(|(prediction, position)| *prediction != measurement.dataset.label(**position))
            .count();
        done += chunk.len();
        measurement.probed(
            name,
            done,
            positions.len(),
            positions.len() - fooled,
            chunk.len() * spec.passes(),
        );
    }
    Ok(fooled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_covers_everything_evenly() {
        assert_eq!(spread(&[4, 5, 6], 8), [4, 5, 6]);
        assert_eq!(spread(&(0..10).collect::<Vec<_>>(), 5), [0, 2, 4, 6, 8]);
        assert!(spread(&[], 5).is_empty());
    }

    #[test]
    fn a_huge_epsilon_is_larger_and_has_every_grey_image() {
        let huge = |norm, epsilon: &str| {
            let threat = ThreatModel {
                norm,
                epsilon: epsilon.parse().unwrap(),
            };
            huge_epsilon(&threat, 784).map(|epsilon| epsilon.value())
        };
        assert_eq!(huge(Norm::Linf, "0.3"), Some(0.5));
        assert_eq!(huge(Norm::Linf, "0.5"), Some(1.0));
        assert_eq!(huge(Norm::Linf, "1"), None);
        assert_eq!(huge(Norm::Linf, "0"), None);
        assert_eq!(huge(Norm::L2, "2"), Some(14.0));
    }

    #[test]
    fn a_rounded_radius_is_the_same_and_another_is_not() {
        let standard = |name: &str, epsilon: &str| {
            let used: f32 = epsilon.parse::<Epsilon>().unwrap().value();
            let standards = standard_epsilons(name, Norm::Linf);
            standards
                .iter()
                .any(|s| (used - s.parse::<Epsilon>().unwrap().value()).abs() <= 2e-3 * used)
        };
        assert!(standard("CIFAR-10", "8/255") && standard("CIFAR-10", "0.0314"));
        assert!(!standard("CIFAR-10", "0.031"));
        assert!(standard("Fashion-MNIST", "0.3") && !standard("MNIST", "0.1"));
        assert!(standard_epsilons("glyphs", Norm::Linf).is_empty());
        assert_eq!(standard_epsilons("Fashion-MNIST", Norm::Linf), ["0.1", "0.3"]);
    }
}
