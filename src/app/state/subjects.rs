//! What the perturbation view attacks.

use std::{path::Path, sync::Arc};

use super::{Answer, State};
use crate::{
    app::{
        background::Background,
        job,
        lab::{Source, Subject},
    },
    data::{self, Split},
    engine::session,
    recipe::Recipe,
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
        let Some(selected) = self.selected.clone() else { return };
        let beside = self.lab.beside.clone();
        for (side, wanted) in [Some((selected, self.lab.checkpoint)), beside].into_iter().enumerate() {
            let source = wanted.and_then(|(folder, slot)| self.source(&folder, slot));
            match source {
                None => self.lab.clear(side),
                Some(source) if source.slot.is_none() => self.attack_what_trains(side, source),
                Some(source) if self.lab.holds(side, &source) => {}
                Some(source) => self.load_subject(side, source),
            }
        }
    }

    /// Where the weights of a run are: without a wish those that train now, else its best checkpoint.
    fn source(&self, folder: &Path, slot: Option<Slot>) -> Option<Source> {
        self.shown.iter().find(|shown| shown.folder == folder)?;
        let slot = match slot {
            None if self.training_of(folder).is_some() => None,
            slot => Some(slot.unwrap_or(Slot::Best)),
        };
        let file = slot.map(|slot| folder.join(format!("checkpoints/{slot}.safetensors")));
        Some(Source {
            folder: folder.to_path_buf(),
            slot,
            written: file.and_then(|file| file.metadata().ok()?.modified().ok()),
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
            usize::MAX => "at its end".to_string(),
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
                let dataset = data::load(&recipe.data.source, Split::Test)?;
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
