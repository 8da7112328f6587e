//! The loop over attacks, restarts and minibatches, which measures every image anew.

use std::{
    cell::{Cell, RefCell},
    time::{Duration, Instant},
};

use burn::tensor::Tensor;

use super::{
    Accuracies, AttackResult, EvaluateError, Evaluation, EvaluationEvent, Examined, ExampleResult, Outcome, Standing,
    Suite, TransferComparison, Warning, probes, record::Ledger,
};
use crate::{
    attacks::{Attack, AttackError, AttackSpec, GRADIENT_COST, Method, Natural, until_stopped},
    compute::{self, Device},
    control::{Control, Next},
    data::Dataset,
    random::Rng,
    shapes::{Images, Logits},
    threat::ThreatModel,
};

/// What is evaluated: a function from images to logits, in two forms.
pub struct Subject<'a> {
    /// What to call it in the result.
    pub description: String,
    /// The function that every figure is of.
    pub logits: &'a dyn Fn(Images) -> Logits,
    /// The function that attacks take gradients through: the same one, or one equal to it up to rounding.
    pub attacked: &'a dyn Fn(Images) -> Logits,
    /// The model that transfer attacks are crafted on.
    pub surrogate: Option<Surrogate<'a>>,
}

/// Another model, in the place of the one that is evaluated.
pub struct Surrogate<'a> {
    /// What to call it in the result.
    pub description: String,
    /// The function that attacks take gradients through.
    pub attacked: &'a dyn Fn(Images) -> Logits,
}

/// One result of a suite: an attack, or a part of attacks that run in turn, or the whole of them.
struct Row<'a> {
    /// The result's name.
    name: String,
    spec: &'a AttackSpec,
    /// The result, counted from `natural`, whose fallen are not attacked again.
    after: usize,
    /// Whether it sums up the parts before it and attacks nothing.
    whole: bool,
}

/// The results of a suite in order, without `natural`.
fn rows(suite: &Suite) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for spec in suite.attacks.iter().filter(|spec| !spec.is_natural()) {
        let mut after = 0;
        for component in spec.components() {
            rows.push(Row {
                name: format!("{}/{}", spec.name, component.name),
                spec: component,
                after,
                whole: false,
            });
            after = rows.len();
        }
        rows.push(Row {
            name: spec.name.clone(),
            spec,
            after,
            whole: after > 0,
        });
    }
    rows
}

/// While a minibatch is under way its progress is told this far apart.
const BETWEEN_EVENTS: Duration = Duration::from_millis(500);

/// Everything that the loops share.
pub(super) struct Measurement<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) dataset: &'a Dataset,
    pub(super) suite: &'a Suite,
    pub(super) threat: &'a ThreatModel,
    pub(super) device: &'a Device,
    control: &'a Control,
    on_event: RefCell<&'a mut dyn FnMut(EvaluationEvent)>,
    began: Instant,
    /// Work done and still to do, in forward passes of one example; guesses at what is to do only fall.
    work_done: usize,
    work_left: usize,
    warnings: Vec<Warning>,
}

/// The model's logits for a minibatch, on the host.
pub(super) struct Answers {
    values: Vec<f32>,
    classes: usize,
}

impl Answers {
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.classes.max(1))
    }

    /// The strongest class of each example; of equals the first, as PyTorch has it.
    pub(super) fn predictions(&self) -> impl Iterator<Item = usize> {
        self.rows().map(|row| {
            let mut strongest = 0;
            for (class, value) in row.iter().enumerate() {
                if *value > row[strongest] {
                    strongest = class;
                }
            }
            strongest
        })
    }
}

/// How many minibatches' worth of an attack are done.
struct Tally<'a> {
    name: &'a str,
    done: usize,
    of: usize,
    standing: usize,
}

impl<'a> Measurement<'a> {
    pub(super) fn new(
        subject: &'a Subject<'a>,
        dataset: &'a Dataset,
        suite: &'a Suite,
        threat: &'a ThreatModel,
        device: &'a Device,
        control: &'a Control,
        on_event: &'a mut dyn FnMut(EvaluationEvent),
    ) -> Result<Self, EvaluateError> {
        if dataset.is_empty() {
            return Err(EvaluateError::NoExamples);
        }
        Ok(Self {
            subject,
            dataset,
            suite,
            threat,
            device,
            control,
            on_event: RefCell::new(on_event),
            began: Instant::now(),
            work_done: 0,
            work_left: 0,
            warnings: Vec::new(),
        })
    }

    /// The whole evaluation; what stands in the ledger is not done again.
    pub(super) fn run(mut self, mut ledger: Option<&mut Ledger>) -> Result<Evaluation, EvaluateError> {
        let natural = natural_spec(self.suite);
        let rows = rows(self.suite);
        if let Some(row) = rows.iter().find(|row| row.spec.needs_surrogate())
            && self.subject.surrogate.is_none()
        {
            return Err(EvaluateError::NoSurrogate {
                attack: row.name.clone(),
            });
        }
        let n = self.dataset.len();
        let work: usize = rows.iter().map(Row::work).sum();
        self.work_left = n * (1 + work) + probes::cost_of_all(self.suite);
        let names = rows.iter().map(|row| row.name.clone());
        self.tell(EvaluationEvent::Started {
            examples: n,
            attacks: [natural.name.clone()].into_iter().chain(names).collect(),
        });

        let (outcomes, survey) = self.natural(&natural)?;
        let seconds = self.began.elapsed().as_secs_f64();
        let mut results = vec![self.finish(&natural.name, &natural, &survey, &outcomes, seconds)];
        let mut fates = vec![outcomes];
        // Only examples that are right are attacked, so there is less to do than was thought.
        let correct = results[0].standing.correct;
        self.work_left = self.work_left.saturating_sub((n - correct) * work);

        for row in &rows {
            let (outcomes, seconds) = self.row(row, &fates, &results, ledger.as_deref_mut())?;
            results.push(self.finish(&row.name, row.spec, &survey, &outcomes, seconds));
            fates.push(outcomes);
        }
        let examples: Vec<ExampleResult> = (0..n)
            .map(|position| {
                let attacks: Vec<Outcome> = fates.iter().map(|outcomes| outcomes[position]).collect();
                ExampleResult {
                    index: self.dataset.index(position),
                    label: self.dataset.label(position),
                    natural: attacks[0].prediction,
                    robust: attacks.iter().all(|outcome| outcome.robust),
                    attacks,
                }
            })
            .collect();
        let transfers = transfers(&results, &examples);
        let mut found = probes::about_the_figures(&self, &survey, &results, &examples);
        found.extend(probes::about_transfers(&transfers, n));
        if self.suite.probes {
            found.extend(probes::run(&mut self, &results, &examples)?);
        }
        found.into_iter().for_each(|warning| self.warn(warning));
        Ok(self.evaluation(results, examples, transfers))
    }

    /// The fates under one row of the suite, and the seconds that it took; from the ledger where they stand there.
    fn row(
        &mut self,
        row: &Row,
        fates: &[Vec<Outcome>],
        results: &[AttackResult],
        ledger: Option<&mut Ledger>,
    ) -> Result<(Vec<Outcome>, f64), EvaluateError> {
        let before = &fates[row.after];
        if row.whole {
            let parts = &results[results.len() - row.spec.components().len()..];
            return Ok((before.clone(), parts.iter().map(|part| part.seconds).sum()));
        }
        let standing = before.iter().filter(|outcome| outcome.robust).count();
        let all_work = results[0].standing.correct * row.work();
        // An example that fell in turn is spared the attacks after it.
        self.work_left = self.work_left.saturating_sub(all_work - standing * row.work());
        let epsilon = &self.threat.epsilon;
        if let Some(ledger) = &ledger
            && let Some(known) = ledger.known(epsilon, &row.name, self.dataset)
        {
            self.work_left = self.work_left.saturating_sub(standing * row.work());
            return Ok(known);
        }
        let since = Instant::now();
        let outcomes = if epsilon.value() == 0.0 {
            // The ball holds the natural image alone.
            self.work_left = self.work_left.saturating_sub(standing * row.work());
            before.clone()
        } else {
            self.attack(row, before)?
        };
        let seconds = since.elapsed().as_secs_f64();
        if let Some(ledger) = ledger {
            ledger.add(epsilon, &row.name, &outcomes, seconds)?;
        }
        Ok((outcomes, seconds))
    }

    fn evaluation(
        self,
        attacks: Vec<AttackResult>,
        examples: Vec<ExampleResult>,
        transfers: Vec<TransferComparison>,
    ) -> Evaluation {
        let worst_case = Standing::of(examples.iter().filter(|example| example.robust).count(), examples.len());
        let accuracies = attacks.iter().map(|result| (result.name.clone(), result.accuracy()));
        let worst = ("worst-case".to_string(), worst_case.accuracy);
        let info = self.device.info();
        Evaluation {
            n: examples.len(),
            epsilon: self.threat.epsilon.clone(),
            norm: self.threat.norm,
            device: if self.device.is_cpu() {
                info.name.clone()
            } else {
                format!("{} ({}, {})", info.name, info.selector, info.driver)
            },
            model: self.subject.description.clone(),
            dataset: Examined {
                name: self.dataset.name().to_string(),
                split: None,
                note: self.dataset.note().map(str::to_string),
                fingerprint: self.dataset.fingerprint(),
            },
            seed: self.suite.seed,
            batch_size: self.suite.batch_size,
            martlet: env!("CARGO_PKG_VERSION").to_string(),
            accuracy: Accuracies(accuracies.chain([worst]).collect()),
            attacks,
            worst_case,
            warnings: self.warnings,
            seconds: self.began.elapsed().as_secs_f64(),
            surrogate: self.subject.surrogate.as_ref().map(|other| other.description.clone()),
            transfers,
            checkpoint: None,
            curve: Vec::new(),
            examples,
        }
    }

    /// What the model says to the natural images.
    fn natural(&mut self, spec: &AttackSpec) -> Result<(Vec<Outcome>, Survey), EvaluateError> {
        let everything: Vec<usize> = (0..self.dataset.len()).collect();
        let mut outcomes = Vec::with_capacity(everything.len());
        let mut survey = Survey {
            probability_like: true,
            classes: 0,
        };
        for chunk in everything.chunks(self.suite.batch_size.max(1)) {
            self.wait(&spec.name)?;
            let batch = self.dataset.batch(chunk, self.device);
            let answers = self.answers(&batch.images, &batch.images, chunk, &spec.name)?;
            survey.classes = answers.classes;
            survey.probability_like &= answers.rows().all(is_probability_like);
            outcomes.extend(answers.predictions().zip(chunk).map(|(prediction, position)| Outcome {
                prediction,
                robust: prediction == self.dataset.label(*position),
            }));
            let standing = outcomes.iter().filter(|outcome| outcome.robust).count();
            let tally = Tally {
                name: &spec.name,
                done: outcomes.len(),
                of: everything.len(),
                standing,
            };
            self.progress(&tally, chunk.len());
        }
        Ok((outcomes, survey))
    }

    /// What becomes under one attack of the examples that stand so far; the fallen are left out of the next restart.
    fn attack(&mut self, row: &Row, before: &[Outcome]) -> Result<Vec<Outcome>, EvaluateError> {
        let mut outcomes = before.to_vec();
        let mut standing: Vec<usize> = (0..before.len()).filter(|position| before[*position].robust).collect();
        let restarts = row.spec.restarts.max(1);
        let pass = row.work() / restarts;
        let mut tally = Tally {
            name: &row.name,
            done: 0,
            of: standing.len() * restarts,
            standing: standing.len(),
        };
        for restart in 0..restarts {
            let spec = row.spec.restarted(restart);
            for chunk in standing.chunks(self.suite.batch_size.max(1)) {
                self.wait(&row.name)?;
                let (passes, told) = (Cell::new(0), Cell::new(Instant::now()));
                let on_pass = |work| {
                    passes.set(passes.get() + work);
                    if told.get().elapsed() > BETWEEN_EVENTS {
                        told.set(Instant::now());
                        self.tell_progress(&tally, passes.get().min(chunk.len() * pass));
                    }
                };
                let answers = self.attacked(&spec, restart, self.threat, chunk, &on_pass)?;
                let mut fallen = 0;
                for (prediction, position) in answers.predictions().zip(chunk) {
                    let robust = prediction == self.dataset.label(*position);
                    fallen += usize::from(!robust);
                    outcomes[*position] = Outcome { prediction, robust };
                }
                let spared = fallen * (restarts - restart - 1);
                self.work_left = self.work_left.saturating_sub(spared * pass);
                tally.done += chunk.len();
                tally.of -= spared;
                tally.standing -= fallen;
                self.progress(&tally, chunk.len() * pass);
            }
            standing.retain(|position| outcomes[*position].robust);
        }
        Ok(outcomes)
    }

    /// One minibatch under one attack, measured anew: the model's answers.
    ///
    /// `on_pass` is told the work of each pass that the attack makes. Thousands of passes may lie between two minibatches, so
    /// a stop is heeded within: from then on the attack sees no model, ends soon, and what it gives is thrown away.
    pub(super) fn attacked(
        &self,
        spec: &AttackSpec,
        restart: usize,
        threat: &ThreatModel,
        positions: &[usize],
        on_pass: &dyn Fn(usize),
    ) -> Result<Answers, EvaluateError> {
        let batch = self.dataset.batch(positions, self.device);
        let attacked = match &self.subject.surrogate {
            Some(surrogate) if spec.needs_surrogate() => surrogate.attacked,
            _ => self.subject.attacked,
        };
        let seen = until_stopped(self.control, |images: Images| {
            on_pass(images.dims()[0] * if images.is_autodiff() { GRADIENT_COST } else { 1 });
            attacked(images)
        });
        let mut rngs = self.generators(&spec.name, restart, positions);
        let adversarial = spec.perturb(&seen, &batch, threat, &mut rngs);
        if self.control.is_stopped() {
            return Err(EvaluateError::Stopped {
                attack: spec.name.clone(),
            });
        }
        let adversarial = adversarial?;
        self.answers_within(threat, &batch.images, &adversarial, positions, &spec.name)
    }

    /// The generators of these examples under one attack and restart.
    pub(super) fn generators(&self, name: &str, restart: usize, positions: &[usize]) -> Vec<Rng> {
        let indices = positions.iter().map(|position| self.dataset.index(*position));
        let streams = indices.map(|index| stream_of(name, restart, index));
        streams.map(|stream| Rng::stream(self.suite.seed, stream)).collect()
    }

    /// The model's answers to `images`, once each is known to lie in the evaluation's threat model.
    pub(super) fn answers(
        &self,
        natural: &Images,
        images: &Images,
        positions: &[usize],
        name: &str,
    ) -> Result<Answers, EvaluateError> {
        self.answers_within(self.threat, natural, images, positions, name)
    }

    /// The same in another threat model. The read is the sync
    /// point of a minibatch, and there is only this one.
    fn answers_within(
        &self,
        threat: &ThreatModel,
        natural: &Images,
        images: &Images,
        positions: &[usize],
        name: &str,
    ) -> Result<Answers, EvaluateError> {
        let logits = (self.subject.logits)(images.clone()).inner();
        let [examples, classes] = logits.dims();
        let pixels: Tensor<2> = images.clone().flatten(1, 3);
        let columns = vec![
            logits,
            threat.distance(natural, images).reshape([examples, 1]),
            pixels.clone().min_dim(1),
            pixels.clone().max_dim(1),
            // A sum is not finite as soon as one pixel is not, which a minimum or a maximum may hide.
            pixels.sum_dim(1),
        ];
        let values = compute::read(Tensor::cat(columns, 1))?;
        let mut answers = Answers {
            values: Vec::with_capacity(examples * classes),
            classes,
        };
        for (row, position) in values.chunks_exact(classes + 4).zip(positions) {
            let (logits, checks) = row.split_at(classes);
            verify(checks, threat, name)?;
            if let Some(value) = logits.iter().find(|value| !value.is_finite()) {
                let index = self.dataset.index(*position);
                return Err(EvaluateError::NonFiniteLogits {
                    value: *value,
                    index,
                    attack: name.to_string(),
                });
            }
            answers.values.extend_from_slice(logits);
        }
        Ok(answers)
    }

    /// Waits while paused.
    pub(super) fn wait(&self, attack: &str) -> Result<(), EvaluateError> {
        match self.control.pass() {
            Next::Go => Ok(()),
            Next::Stop => Err(EvaluateError::Stopped {
                attack: attack.to_string(),
            }),
        }
    }

    /// Tells of work done for a probe.
    pub(super) fn probed(&mut self, name: &str, done: usize, of: usize, standing: usize, work: usize) {
        self.progress(
            &Tally {
                name,
                done,
                of,
                standing,
            },
            work,
        );
    }

    fn progress(&mut self, tally: &Tally, work: usize) {
        self.work_done += work;
        self.work_left = self.work_left.saturating_sub(work);
        self.tell_progress(tally, 0);
    }

    /// Tells where the evaluation stands with so much work done on a minibatch that is under way.
    fn tell_progress(&self, tally: &Tally, under_way: usize) {
        let all = (self.work_done + self.work_left).max(1);
        self.tell(EvaluationEvent::Progress {
            attack: tally.name.to_string(),
            done: tally.done,
            of: tally.of,
            standing: tally.standing,
            fraction: (self.work_done + under_way).min(all) as f64 / all as f64,
            seconds: self.began.elapsed().as_secs_f64(),
        });
    }

    fn tell(&self, event: EvaluationEvent) {
        (self.on_event.borrow_mut())(event);
    }

    fn warn(&mut self, warning: Warning) {
        self.tell(EvaluationEvent::Warning(warning.clone()));
        self.warnings.push(warning);
    }

    fn finish(
        &mut self,
        name: &str,
        spec: &AttackSpec,
        survey: &Survey,
        outcomes: &[Outcome],
        seconds: f64,
    ) -> AttackResult {
        let correct = outcomes.iter().filter(|outcome| outcome.robust).count();
        let standing = Standing::of(correct, outcomes.len());
        let result = AttackResult::new(name, spec, self.threat, survey.classes, standing, seconds);
        self.tell(EvaluationEvent::AttackFinished(result.clone()));
        result
    }
}

impl Row<'_> {
    /// Its work on one example, in forward passes.
    fn work(&self) -> usize {
        if self.whole { 0 } else { self.spec.passes() }
    }
}

/// Each transfer attack beside its attack on the model itself, where the suite holds both.
fn transfers(results: &[AttackResult], examples: &[ExampleResult]) -> Vec<TransferComparison> {
    let crafted = results.iter().enumerate().filter_map(|(column, result)| {
        let Method::Transfer(transfer) = &result.method else {
            return None;
        };
        let own = &transfer.attack.name;
        Some((column, results.iter().position(|other| other.name == *own)?))
    });
    let pairs = crafted.map(|(transfer, white_box)| {
        let count = |by_transfer: bool, by_white_box: bool| {
            let attacked = examples.iter().filter(|example| example.attacks[0].robust);
            let fooled = attacked.map(|example| [transfer, white_box].map(|column| !example.attacks[column].robust));
            fooled.filter(|fooled| *fooled == [by_transfer, by_white_box]).count()
        };
        TransferComparison {
            transfer: results[transfer].name.clone(),
            white_box: results[white_box].name.clone(),
            both: count(true, true),
            only_white_box: count(false, true),
            only_transfer: count(true, false),
            neither: count(false, false),
        }
    });
    pairs.collect()
}

/// What the natural pass saw beside predictions.
pub(super) struct Survey {
    /// Whether every row of outputs could be probabilities.
    pub(super) probability_like: bool,
    /// Classes that the model answers with.
    classes: usize,
}

fn is_probability_like(row: &[f32]) -> bool {
    row.iter().all(|value| (0.0..=1.0).contains(value)) && (row.iter().sum::<f32>() - 1.0).abs() < 1e-3
}

/// An image's distance, least and greatest pixel and sum of pixels, against the threat model.
fn verify(checks: &[f32], threat: &ThreatModel, attack: &str) -> Result<(), AttackError> {
    let outside = |found: String| {
        Err(AttackError::OutsideThreatModel {
            attack: attack.to_string(),
            found,
        })
    };
    match checks {
        [_, _, _, sum] if !sum.is_finite() => outside("a pixel that is no finite number".into()),
        [distance, ..] if distance.is_nan() || *distance > threat.epsilon.value() + threat.tolerance() => {
            outside(format!(
                "{} distance {distance}, expected at most {}",
                threat.norm, threat.epsilon
            ))
        }
        [_, least, greatest, _] if least.is_nan() || *least < 0.0 || *greatest > 1.0 => {
            outside(format!("pixels from {least} to {greatest}, expected 0 to 1"))
        }
        _ => Ok(()),
    }
}

/// `natural` as the suite names it, or by itself.
fn natural_spec(suite: &Suite) -> AttackSpec {
    let named = suite.attacks.iter().find(|spec| spec.is_natural()).cloned();
    named.unwrap_or_else(|| AttackSpec {
        name: "natural".to_string(),
        method: Method::Natural(Natural {}),
        restarts: 1,
    })
}

/// The stream of random numbers of one example under one attack and restart (FNV-1a of the three), whatever else the suite and the
/// data set hold.
fn stream_of(name: &str, restart: usize, index: usize) -> u64 {
    let numbers = [restart as u64, index as u64];
    let bytes = name.bytes().chain(numbers.into_iter().flat_map(u64::to_le_bytes));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leaves_the_threat_model_is_found() {
        let threat = ThreatModel {
            norm: crate::threat::Norm::Linf,
            epsilon: "0.3".parse().unwrap(),
        };
        assert!(verify(&[0.3, 0.0, 1.0, 5.0], &threat, "a").is_ok());
        for checks in [
            [0.301, 0.0, 1.0, 5.0],
            [f32::NAN, 0.0, 1.0, 5.0],
            [0.1, -1e-6, 1.0, 5.0],
            [0.1, 0.0, 1.000_001, 5.0],
            [0.1, 0.0, 1.0, f32::NAN],
            [0.1, 0.0, 1.0, f32::INFINITY],
        ] {
            assert!(verify(&checks, &threat, "a").is_err(), "{checks:?}");
        }
    }

    #[test]
    fn of_equal_logits_the_first_class_is_predicted() {
        let answers = Answers {
            values: vec![1.0, 1.0, 0.0, 0.0, 2.0, 2.0],
            classes: 3,
        };
        assert_eq!(answers.predictions().collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn probabilities_are_told_from_logits() {
        assert!(is_probability_like(&[0.2, 0.5, 0.3]));
        assert!(!is_probability_like(&[0.2, 0.5, 0.9]));
        assert!(!is_probability_like(&[-0.2, 0.9, 0.3]));
    }

    #[test]
    fn attacks_restarts_and_examples_have_streams_of_their_own() {
        let streams = [
            stream_of("pgd-20", 0, 0),
            stream_of("pgd-20", 0, 1),
            stream_of("pgd-20", 1, 0),
            stream_of("pgd-100", 0, 0),
            stream_of("cw-20", 0, 0),
        ];
        for (i, a) in streams.iter().enumerate() {
            assert!(streams[i + 1..].iter().all(|b| a != b));
        }
    }
}
