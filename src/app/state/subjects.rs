//! What the perturbation view attacks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Answer, State};
use crate::{
    app::{
        background::Background,
        job,
        lab::{Source, Subject},
    },
    engine::session,
    recipe::Recipe,
    report::Ending,
    runs::{Run, Slot},
};

impl State {
    /// Opens a training example of the selected run in the perturbation view.
    pub fn inspect(&mut self, position: usize) {
        let Some((data, recipe)) = self
            .current()
            .and_then(|shown| Some((shown.book.as_ref()?.data.clone(), shown.recipe.clone())))
        else {
            return;
        };
        self.lab.look_at(&data, position, &recipe);
        self.refresh_subjects();
    }

    /// Opens a picture from a file in the perturbation view.
    pub fn open_image(&mut self, path: &Path) {
        if let Err(error) = self.lab.open_image(path) {
            self.complain(error);
        }
    }

    /// Brings the models that the perturbation view attacks up to date.
    pub fn refresh_subjects(&mut self) {
        if self.selected.is_none() {
            return;
        }
        for (side, wanted) in self.wanted().into_iter().enumerate() {
            match wanted.map(|(folder, slot)| source(folder, slot)) {
                None => self.lab.clear(side),
                Some(source) if source.slot.is_none() => self.attack_what_trains(side, source),
                Some(source) if self.lab.holds(side, &source) => {}
                Some(source) => self.load_subject(side, source),
            }
        }
    }

    /// Whether a side still shows another model than the one that is wanted there.
    pub fn awaits_subject(&self) -> bool {
        let held = self.lab.subjects.iter().map(Option::as_ref);
        self.wanted().into_iter().zip(held).any(|(wanted, held)| {
            wanted.is_some_and(|(folder, slot)| {
                held.is_none_or(|held| (&held.source.folder, held.source.slot) != (&folder, slot))
            })
        })
    }

    /// The run and the checkpoint that each side is to show: without a wish the weights that train now, else the best.
    fn wanted(&self) -> [Option<(PathBuf, Option<Slot>)>; 2] {
        let selected = self.selected.clone().map(|folder| (folder, self.lab.checkpoint));
        [selected, self.lab.beside.clone()].map(|wanted| {
            let (folder, slot) = wanted?;
            self.shown.iter().find(|shown| shown.folder == folder)?;
            let slot = match slot {
                None if self.training_of(&folder).is_some() => None,
                slot => Some(slot.unwrap_or(Slot::Best)),
            };
            Some((folder, slot))
        })
    }

    /// Takes the newest weights that training handed out, and asks for newer ones.
    fn attack_what_trains(&mut self, side: usize, source: Source) {
        let Some(training) = self.training_of(&source.folder) else {
            return;
        };
        let has_one = self.lab.subjects[side]
            .as_ref()
            .is_some_and(|held| held.source == source);
        if has_one && !self.lab.is_rested(self.settings.looking_share) {
            return;
        }
        training.job.want_model();
        let (Some(snapshot), Some(opened)) = (training.job.model(), &training.opened) else {
            return;
        };
        let Some(shown) = self.shown.iter().find(|shown| shown.folder == source.folder) else {
            return;
        };
        let moment = match snapshot.total_steps {
            usize::MAX if matches!(shown.ending, Ending::Finished(_)) => "at its end".to_string(),
            usize::MAX => "as it stopped".to_string(),
            steps => format!("after {:.2} epochs", shown.epochs_at(steps)),
        };
        let label = format!("{} {moment}", shown.name);
        let subject = Subject::new(source.clone(), label, snapshot.model, opened.device.clone());
        self.lab.expect(side, &source);
        self.lab.take(side, subject);
    }

    /// Loads a checkpoint for the perturbation view, on a thread.
    fn load_subject(&mut self, side: usize, source: Source) {
        self.lab.expect(side, &source);
        let device = self.settings.device.clone();
        let slot = source.slot.unwrap_or(Slot::Last);
        self.answers.push(Background::start(
            "checkpoint",
            &self.ctx,
            Answer::NoSubject,
            move |_, teller| {
                let run = Run::open(&source.folder)?;
                let recipe = Recipe::from_toml(run.recipe_toml())?;
                let (dataset, _) = recipe.examined()?;
                let opened = job::open(&device)?;
                let model = session::model_of(&run, slot, dataset.shape(), dataset.classes(), &opened.device)?;
                let label = format!("{}, {slot} checkpoint", run.name());
                let subject = Subject::new(source, label, Arc::new(model), opened.device);
                let subject = subject.with_data(Arc::new(dataset), &recipe);
                teller.tell(Answer::Subject(side, Box::new(subject)));
                Ok(())
            },
        ));
    }
}

/// Where the weights of a checkpoint are, or of the training without one.
fn source(folder: PathBuf, slot: Option<Slot>) -> Source {
    let file = slot.map(|slot| folder.join(format!("checkpoints/{slot}.safetensors")));
    Source {
        written: file.and_then(|file| file.metadata().ok()?.modified().ok()),
        folder,
        slot,
    }
}
