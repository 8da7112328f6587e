//! The threads that measure.

use std::time::Instant;

use super::{Experiments, Said};
use crate::{
    app::{background::Background, job, notify, state::State},
    engine::{Event, session},
    evaluation::EvaluationEvent,
    experiments::{Conduct, Outcome, Plan, Progress, RowState, Stage, estimate},
};

impl Experiments {
    /// Says how the work ended, on the desktop too where nobody looks.
    pub fn tell_end(&self, state: &mut State) {
        let Some(plan) = self.planned() else { return };
        let title = plan.experiment.title;
        if let Some(error) = &self.error {
            return state.notify(notify::failed(Some(title), error));
        }
        let chosen = self.chosen(plan);
        let states = self.outcome.as_ref().map(|outcome| &outcome.states);
        let is_done = |row: &usize| states.and_then(|states| states.get(*row)) == Some(&RowState::Measured);
        let how = if chosen.iter().all(is_done) {
            "is measured"
        } else {
            "stopped; Run continues from there"
        };
        state.notify(notify::ended(title, how));
        state.say(format!("{title} {how}"));
    }

    pub fn estimate(&mut self, state: &State, plan: &Plan) {
        let (plan, device) = (plan.clone(), state.settings.device.clone());
        self.error = None;
        self.measuring = Some(Background::start(
            "estimate",
            &state.ctx,
            Said::Failed,
            move |control, teller| {
                let opened = job::open(&device)?;
                let _release = job::Release(opened.device.clone());
                if let Some(estimate) = estimate(&plan, &|_| true, &opened.device, control, &mut |_| {})? {
                    teller.tell(Said::Estimate(estimate));
                }
                Ok(())
            },
        ));
    }

    pub fn start(&mut self, state: &mut State, plan: &Plan, chosen: Vec<usize>) {
        if state.is_taken() {
            return;
        }
        let (plan, device, runs_dir) = (
            plan.clone(),
            state.settings.device.clone(),
            state.settings.runs_dir.clone(),
        );
        (self.error, self.fraction, self.began) = (None, 0.0, Some(Instant::now()));
        self.doing = "opening the device; a GPU is compared with the CPU before its first use".into();
        self.work = Some(Background::start(
            "experiment",
            &state.ctx,
            Said::Failed,
            move |control, teller| {
                let opened = job::open(&device)?;
                let _release = job::Release(opened.device.clone());
                let work = Conduct {
                    plan: &plan,
                    runs_dir: &runs_dir,
                    device: &opened.device,
                    identity: session::identity(&opened.device, &opened.verdict),
                    control,
                };
                let read = || -> anyhow::Result<()> {
                    teller.tell(Said::Outcome(Box::new(Outcome::read(&plan, &runs_dir)?)));
                    Ok(())
                };
                let (mut done, mut steps_per_epoch, mut unread) = (0, 1, Ok(()));
                let part = 1.0 / chosen.len().max(1) as f32;
                work.run(&chosen, &mut |progress| match progress {
                    Progress::Row { row, stage } => {
                        let label = &plan.rows[row].row.label;
                        if let Stage::Failed(error) = stage {
                            teller.tell(Said::RowFailed(format!("{label}: {error}")));
                        }
                        if matches!(stage, Stage::Done | Stage::Failed(_)) {
                            done += 1;
                            unread = read();
                        } else {
                            teller.tell(Said::Doing(label.clone(), done as f32 * part));
                        }
                    }
                    Progress::Training { row, event } => match event {
                        Event::Started(started) => steps_per_epoch = started.steps_per_epoch.max(1),
                        Event::Step(report) => {
                            let planned = &plan.rows[row];
                            let (label, epochs) = (&planned.row.label, planned.recipe.epochs);
                            let share = report.total_steps as f32 / (steps_per_epoch * epochs) as f32;
                            let text = format!("{label}: training, epoch {} of {epochs}", report.epoch);
                            // The last part of a row is its evaluation.
                            teller.tell(Said::Doing(text, (done as f32 + 0.6 * share) * part));
                        }
                        Event::Epoch(_) => unread = read(),
                        _ => {}
                    },
                    Progress::Measuring { row, event } => {
                        if let EvaluationEvent::Progress { attack, fraction, .. } = event {
                            let text = format!("{}: measuring under {attack}", plan.rows[row].row.label);
                            teller.tell(Said::Doing(text, (done as f32 + 0.6 + 0.4 * fraction as f32) * part));
                        }
                    }
                })?;
                unread?;
                read()
            },
        ));
    }
}
