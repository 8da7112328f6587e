//! The duel follows what trains.

use std::{path::PathBuf, sync::Arc};

use super::{Answer, State};
use crate::{
    app::{
        background::Background,
        dialog::ask_where,
        duel::{Fighter, File, LEFT, Move, RIGHT, Robustness, Sharing},
        job,
        lab::{Source, Subject},
    },
    data::Split,
    engine::session,
    recipe::Recipe,
    report::Ending,
    runs::{Run, Slot},
};

impl State {
    /// Seats the newest networks of what trains in the duel: the first training on the right, the one beside it on the
    /// left.
    pub(super) fn follow_in_duel(&mut self) {
        if !self.duel.is_entered() {
            return;
        }
        self.duel.live(self.is_training());
        for (training, corner) in self.trainings.iter().zip([RIGHT, LEFT]) {
            let (Some(folder), Some(opened)) = (&training.folder, &training.opened) else {
                continue;
            };
            let Some(shown) = self.shown.iter().find(|shown| shown.folder == *folder) else {
                continue;
            };
            let seated = self.duel.corners[corner].fighter.as_ref();
            let seated = seated.filter(|fighter| fighter.run.as_ref() == Some(folder));
            let is_over = !training.job.is_alive();
            let is_final = seated.is_some_and(|fighter| fighter.steps.is_none());
            let share = self.settings.looking_share;
            if is_final || !(is_over || seated.is_none() || self.duel.is_rested(corner, share)) {
                continue;
            }
            if !is_over && self.duel.watched {
                training.job.want_model();
            }
            let Some(snapshot) = training.job.model() else { continue };
            let steps = (snapshot.total_steps != usize::MAX).then_some(snapshot.total_steps);
            if seated.is_some_and(|fighter| fighter.steps == steps) {
                continue;
            }
            let moment = match (&shown.ending, steps) {
                (Ending::Finished(_), None) => "at its end".to_string(),
                (_, None) => "as it stopped".to_string(),
                (_, Some(steps)) => format!("after {:.1} epochs", shown.epochs_at(steps)),
            };
            let source = Source {
                folder: folder.clone(),
                slot: None,
                written: None,
            };
            let label = format!("{} {moment}", shown.name);
            let fighter = Fighter {
                recipe: shown.recipe.clone(),
                subject: Subject::new(source, label, Arc::clone(&snapshot.model), opened.device.clone()),
                run: Some(folder.clone()),
                steps,
            };
            let recipe = shown.recipe.clone();
            let epochs = Robustness::of_epoch(shown.epochs.last(), recipe.threat.epsilon.value());
            self.duel.seat(corner, fighter);
            if epochs.is_some() {
                self.duel.corners[corner].robustness = epochs;
            }
            if steps.is_none() {
                self.duel.measure(corner, &recipe);
            }
        }
    }

    /// Writes the duel as it stands where the person says, on a thread: a picture, a moving picture, and a file that opens
    /// it again.
    pub fn share_duel(&mut self) {
        let Some(sharing) = Sharing::of(&self.duel, self.dark()) else {
            return self.complain("both networks have to answer before their duel can be shared".to_string());
        };
        let folder = self.settings.runs_dir.clone();
        self.say("drawing the pictures".to_string());
        self.answers.push(Background::start(
            "share",
            &self.ctx,
            |error| Answer::Said(Err(format!("the duel was not written: {error}"))),
            move |_, teller| {
                std::fs::create_dir_all(&folder)?;
                if let Some((path, saved)) = ask_where(&folder, "duel", "png") {
                    sharing.write(&path)?;
                    let path = path.with_extension("");
                    let text = format!("{saved} {0}.png, {0}.gif and {0}.toml", path.display());
                    teller.tell(Answer::Said(Ok(text)));
                }
                Ok(())
            },
        ));
    }

    /// Opens a shared duel: its picture and radius at once, its networks where they ship with the program or their runs
    /// are here; the recipes of others wait in the form for Start.
    pub fn open_duel(&mut self, file: File) {
        self.duel.apply(Move::Enter(file.right.recipe.data.source.clone()));
        if let Err(error) = self.duel.open(&file) {
            return self.complain(format!("the duel cannot be opened: {error:#}"));
        }
        let mut missing = Vec::new();
        for (corner, network) in [(LEFT, &file.left), (RIGHT, &file.right)] {
            let folder = network.run.as_ref().map(|run| self.settings.runs_dir.join(run));
            match folder {
                None => self.duel.seat_shipped(corner),
                Some(folder) if folder.join("run.json").exists() => self.seat_run(corner, folder),
                Some(_) => missing.push(network.recipe.defence.to_string()),
            }
        }
        self.settings.recipe = file.right.recipe;
        self.settings.beside = Some(file.left.recipe.defence);
        if !missing.is_empty() {
            self.say(format!(
                "the runs of {} are not here; Start trains them again from the recipe of the duel",
                missing.join(" and ")
            ));
        }
    }

    /// Seats the last checkpoint of a run, read on a thread.
    fn seat_run(&mut self, corner: usize, folder: PathBuf) {
        let device = self.settings.device.clone();
        self.answers.push(Background::start(
            "duel network",
            &self.ctx,
            |error| Answer::Said(Err(error)),
            move |_, teller| {
                let run = Run::open(&folder)?;
                let recipe = Recipe::from_toml(run.recipe_toml())?;
                let data = recipe.data.load(Split::Train)?;
                let opened = job::open(&device)?;
                let model = session::model_of(&run, Slot::Last, data.shape(), data.classes(), &opened.device)?;
                let source = Source {
                    folder: folder.clone(),
                    slot: Some(Slot::Last),
                    written: None,
                };
                let label = format!("{}, last checkpoint", run.name());
                let fighter = Fighter {
                    recipe,
                    subject: Subject::new(source, label, Arc::new(model), opened.device),
                    run: Some(folder),
                    steps: None,
                };
                teller.tell(Answer::Fighter(corner, Box::new(fighter)));
                Ok(())
            },
        ));
    }
}
