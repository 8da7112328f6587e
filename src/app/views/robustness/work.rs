//! The thread that attacks.

use std::path::PathBuf;

use super::{Live, Robustness};
use crate::{
    app::{background::Background, command::SHARES, job, state::State},
    control::Control,
    engine::{filing, session},
    evaluation::{CurvePoint, Evaluation, EvaluationEvent, Suite, Warning, evaluate},
    recipe::Recipe,
    runs::{Run, Slot},
    threat::{Magnitude, ThreatModel},
};

/// An evaluation: the run, the suite, test images, whether at other radii than the trained one too.
pub struct Job {
    pub folder: PathBuf,
    pub suite: Suite,
    pub images: usize,
    pub curve: bool,
}

/// What the evaluating thread says.
pub enum Said {
    Doing(String, f32),
    Point(CurvePoint),
    Suite(Box<Evaluation>),
    Failed(String),
}

impl Robustness {
    pub fn start(&mut self, state: &State, job: Job) {
        let Job {
            folder,
            suite,
            images,
            curve,
        } = job;
        self.library.runs.entry(folder.clone()).or_default().error = None;
        self.live = Some(Live {
            folder: folder.clone(),
            points: Vec::new(),
            suite: None,
        });
        (self.doing, self.fraction) = ("loading".to_string(), 0.0);
        let device = state.settings.device.clone();
        self.work = Some(Background::start(
            "robustness",
            &state.ctx,
            Said::Failed,
            move |control, teller| {
                let run = Run::open(&folder)?;
                let recipe = Recipe::from_toml(run.recipe_toml())?;
                let (whole, split) = recipe.examined()?;
                let dataset = whole.take(images.min(whole.len())).with_notes(session::twins(&run));
                let stands = dataset.len() == whole.len();
                let opened = job::open(&device)?;
                let _release = job::Release(opened.device.clone());
                let (shape, classes) = (dataset.shape(), dataset.classes());
                let (model, checkpoint) = session::named_model_of(&run, Slot::Best, shape, classes, &opened.device)?;
                let mut shares = if curve { SHARES.to_vec() } else { vec![1.0] };
                let parts = shares.len() as f32;
                // The trained radius first: it is what the table shows.
                shares.sort_by(|a, b| (a - 1.0).abs().total_cmp(&(b - 1.0).abs()));
                let mut kept: Option<Evaluation> = None;
                for (part, share) in shares.into_iter().enumerate() {
                    let at_trained = share == 1.0;
                    let epsilon = scaled(&recipe.threat.epsilon, share)?;
                    let threat = ThreatModel {
                        norm: recipe.threat.norm,
                        epsilon: if at_trained {
                            recipe.threat.epsilon.clone()
                        } else {
                            epsilon
                        },
                    };
                    let mut suite = suite.clone();
                    (suite.seed, suite.probes) = (recipe.seed, at_trained);
                    let evaluation = evaluate(
                        &model,
                        &dataset,
                        &suite,
                        &threat,
                        &opened.device,
                        control,
                        &mut |event| {
                            if let EvaluationEvent::Progress { attack, fraction, .. } = event {
                                let text = format!("{attack} at ε = {}", threat.epsilon);
                                teller.tell(Said::Doing(text, (part as f32 + fraction as f32) / parts));
                            }
                        },
                    );
                    let mut evaluation = match evaluation {
                        Ok(evaluation) => evaluation,
                        Err(_) if Control::is_stopped(control) => return Ok(()),
                        Err(error) => return Err(error.into()),
                    };
                    let point = CurvePoint::from(&evaluation);
                    teller.tell(Said::Point(point.clone()));
                    match &mut kept {
                        None => {
                            evaluation.dataset.split = Some(split.to_string());
                            evaluation.checkpoint = Some(checkpoint.clone());
                            if recipe.data.held_out == 0 || split == "held-out" {
                                evaluation.add_warning(Warning::CheckpointChosenOnTestSet);
                            }
                            evaluation.curve.push(point);
                            teller.tell(Said::Suite(Box::new(evaluation.clone())));
                            kept = Some(evaluation);
                        }
                        Some(kept) => kept.curve.push(point),
                    }
                    // After every radius, so that a stop loses one at most.
                    if let Some(kept) = &mut kept {
                        kept.curve
                            .sort_by(|a, b| a.epsilon.value().total_cmp(&b.epsilon.value()));
                        filing::keep(&run, kept, Slot::Best, stands)?;
                    }
                }
                Ok(())
            },
        ));
    }
}

fn scaled(epsilon: &Magnitude, share: f64) -> anyhow::Result<Magnitude> {
    Ok(format!("{:.5}", f64::from(epsilon.value()) * share)
        .trim_end_matches('0')
        .parse()?)
}
