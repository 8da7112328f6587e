//! The loop over attacks, restarts and minibatches, which measures every image anew.

use std::time::Instant;

use burn::tensor::Tensor;

use super::{
    Accuracies, AttackResult, EvaluateError, Evaluation, EvaluationEvent, Examined, ExampleResult, Outcome, Standing,
    Suite, Warning, probes,
};
use crate::{
    attacks::{Aim, Attack, AttackError, AttackSpec},
    compute::{self, Device},
    control::{Control, Next},
    data::Dataset,
    random::Rng,
    shapes::{Images, Logits},
    threat::{Start, ThreatModel},
};

/// What is evaluated: a function from images to logits, in two forms.
pub struct Subject<'a> {
    /// What to call it in the result.
    pub description: String,
    /// The function that every figure is of.
    pub logits: &'a dyn Fn(Images) -> Logits,
    /// The function that attacks take gradients through: the same one, or one equal to it up to rounding.
    pub attacked: &'a dyn Fn(Images) -> Logits,
}

/// What a forward and a backward pass cost, in forward passes.
const GRADIENT_COST: usize = 3;

/// Everything that the loops share.
pub(super) struct Measurement<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) dataset: &'a Dataset,
    pub(super) suite: &'a Suite,
    pub(super) threat: &'a ThreatModel,
    pub(super) device: &'a Device,
    control: &'a Control,
    on_event: &'a mut dyn FnMut(EvaluationEvent),
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
            on_event,
            began: Instant::now(),
            work_done: 0,
            work_left: 0,
            warnings: Vec::new(),
        })
    }

    /// The whole evaluation.
    pub(super) fn run(mut self) -> Result<Evaluation, EvaluateError> {
        let natural = natural_spec(self.suite);
        let attacks: Vec<&AttackSpec> = self
            .suite
            .attacks
            .iter()
            .filter(|spec| spec.objective.is_some())
            .collect();
        let n = self.dataset.len();
        self.work_left =
            n * (1 + attacks.iter().map(|spec| cost(spec)).sum::<usize>()) + probes::cost_of_all(self.suite);
        (self.on_event)(EvaluationEvent::Started {
            examples: n,
            attacks: [&natural]
                .into_iter()
                .chain(attacks.iter().copied())
                .map(|spec| spec.name.clone())
                .collect(),
        });

        let (outcomes, survey) = self.natural(&natural)?;
        let mut results = vec![self.finish(&natural, &outcomes, self.began)];
        let mut examples: Vec<ExampleResult> = outcomes
            .iter()
            .enumerate()
            .map(|(position, outcome)| ExampleResult {
                index: self.dataset.index(position),
                label: self.dataset.label(position),
                natural: outcome.prediction,
                attacks: vec![*outcome],
                robust: outcome.robust,
            })
            .collect();
        // Only examples that are right are attacked, so there is less to do than was thought.
        let correct = results[0].standing.correct;
        let spared = (n - correct) * attacks.iter().map(|spec| cost(spec)).sum::<usize>();
        self.work_left = self.work_left.saturating_sub(spared);

        for spec in attacks {
            let since = Instant::now();
            let outcomes = self.attack(spec, &outcomes)?;
            results.push(self.finish(spec, &outcomes, since));
            for (example, outcome) in examples.iter_mut().zip(outcomes) {
                example.attacks.push(outcome);
                example.robust &= outcome.robust;
            }
        }
        let mut found = probes::about_the_figures(&self, &survey, &results, &examples);
        if self.suite.probes {
            found.extend(probes::run(&mut self, &results, &examples)?);
        }
        found.into_iter().for_each(|warning| self.warn(warning));
        Ok(self.evaluation(results, examples))
    }

    fn evaluation(self, attacks: Vec<AttackResult>, examples: Vec<ExampleResult>) -> Evaluation {
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
            examples,
        }
    }

    /// What the model says to the natural images.
    fn natural(&mut self, spec: &AttackSpec) -> Result<(Vec<Outcome>, Survey), EvaluateError> {
        let everything: Vec<usize> = (0..self.dataset.len()).collect();
        let mut outcomes = Vec::with_capacity(everything.len());
        let mut survey = Survey { probability_like: true };
        for chunk in everything.chunks(self.suite.batch_size.max(1)) {
            self.wait(&spec.name)?;
            let batch = self.dataset.batch(chunk, self.device);
            let answers = self.answers(&batch.images, &batch.images, chunk, &spec.name)?;
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

    /// What becomes of the naturally correct examples under one attack; the fallen are left out of the next restart.
    fn attack(&mut self, spec: &AttackSpec, natural: &[Outcome]) -> Result<Vec<Outcome>, EvaluateError> {
        let mut outcomes = natural.to_vec();
        let mut standing: Vec<usize> = (0..natural.len())
            .filter(|position| natural[*position].robust)
            .collect();
        let restarts = spec.restarts.max(1);
        let pass = cost(spec) / restarts;
        let mut tally = Tally {
            name: &spec.name,
            done: 0,
            of: standing.len() * restarts,
            standing: standing.len(),
        };
        for restart in 0..restarts {
            let mut rng = Rng::stream(self.suite.seed, stream_of(&spec.name, restart));
            for chunk in standing.chunks(self.suite.batch_size.max(1)) {
                self.wait(&spec.name)?;
                let answers = self.attacked(spec, self.threat, chunk, &mut rng)?;
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
    pub(super) fn attacked(
        &self,
        spec: &AttackSpec,
        threat: &ThreatModel,
        positions: &[usize],
        rng: &mut Rng,
    ) -> Result<Answers, EvaluateError> {
        let batch = self.dataset.batch(positions, self.device);
        let adversarial = spec.perturb(self.subject.attacked, &batch, threat, rng)?;
        self.answers_within(threat, &batch.images, &adversarial, positions, &spec.name)
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
        match self.control.next() {
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
        (self.on_event)(EvaluationEvent::Progress {
            attack: tally.name.to_string(),
            done: tally.done,
            of: tally.of,
            standing: tally.standing,
            fraction: self.work_done as f64 / (self.work_done + self.work_left).max(1) as f64,
            seconds: self.began.elapsed().as_secs_f64(),
        });
    }

    fn warn(&mut self, warning: Warning) {
        (self.on_event)(EvaluationEvent::Warning(warning.clone()));
        self.warnings.push(warning);
    }

    fn finish(&mut self, spec: &AttackSpec, outcomes: &[Outcome], since: Instant) -> AttackResult {
        let correct = outcomes.iter().filter(|outcome| outcome.robust).count();
        let result = AttackResult {
            name: spec.name.clone(),
            steps: spec.steps,
            step_size: spec.objective.is_some().then(|| spec.step_size(self.threat)),
            start: spec.start,
            restarts: spec.restarts,
            kappa: spec.kappa(),
            objective: spec.objective,
            aim: spec.aim,
            standing: Standing::of(correct, outcomes.len()),
            seconds: since.elapsed().as_secs_f64(),
        };
        (self.on_event)(EvaluationEvent::AttackFinished(result.clone()));
        result
    }
}

/// What the natural pass saw beside predictions.
pub(super) struct Survey {
    /// Whether every row of outputs could be probabilities.
    pub(super) probability_like: bool,
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

/// Work that an attack does on one example, in forward passes: each step's gradient, and measuring anew.
pub(super) fn cost(spec: &AttackSpec) -> usize {
    spec.restarts.max(1) * (GRADIENT_COST * spec.steps + 1)
}

/// `natural` as the suite names it, or by itself.
fn natural_spec(suite: &Suite) -> AttackSpec {
    let named = suite.attacks.iter().find(|spec| spec.objective.is_none()).cloned();
    named.unwrap_or_else(|| AttackSpec {
        name: "natural".to_string(),
        objective: None,
        aim: Aim::Untargeted,
        steps: 0,
        step_size: None,
        start: Start::Natural,
        restarts: 1,
    })
}

/// The stream of random numbers for one attack and restart (FNV-1a of both), whatever else the suite holds.
pub(super) fn stream_of(name: &str, restart: usize) -> u64 {
    let bytes = name.bytes().chain((restart as u64).to_le_bytes());
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
    fn attacks_and_restarts_have_streams_of_their_own() {
        let streams = [
            stream_of("pgd-20", 0),
            stream_of("pgd-20", 1),
            stream_of("pgd-100", 0),
            stream_of("cw-20", 0),
        ];
        for (i, a) in streams.iter().enumerate() {
            assert!(streams[i + 1..].iter().all(|b| a != b));
        }
    }
}
