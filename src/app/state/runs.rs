//! The runs: listed, opened, written out, deleted.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use super::{Answer, State, messages::Question};
use crate::{
    app::{
        background::Background,
        command::Command,
        dialog::{self, ask_where},
        export::Form,
        settings::Settings,
        shown::Shown,
    },
    compute::Device,
    data::{self, Split},
    engine::session,
    files,
    nn::weights,
    recipe::Recipe,
    report::{self, figure::Figure},
    runs::{self, Run, Slot},
};

impl State {
    pub(super) fn shown_mut(&mut self, folder: Option<&Path>) -> Option<&mut Shown> {
        self.shown
            .iter_mut()
            .find(|shown| Some(shown.folder.as_path()) == folder)
    }

    pub(super) fn take_colour(&mut self) -> usize {
        self.next_colour += 1;
        self.next_colour - 1
    }

    /// Reads the list of runs anew, on a thread.
    pub fn refresh_runs(&mut self) {
        if self.listing {
            return;
        }
        self.listing = true;
        let runs_dir = self.settings.runs_dir.clone();
        self.answers.push(Background::start(
            "list of runs",
            &self.ctx,
            |error| Answer::Runs(Err(error)),
            move |_, teller| {
                teller.tell(Answer::Runs(Ok(runs::list(&runs_dir)?)));
                Ok(())
            },
        ));
    }

    /// Adds a run's curves to the others.
    pub fn open_run(&mut self, folder: &Path) {
        if !self.shown.iter().any(|shown| shown.folder == folder) {
            let colour = self.take_colour();
            match Shown::read(folder, colour) {
                Ok(shown) => self.shown.push(shown),
                Err(error) => return self.complain(format!("{error:#}")),
            }
        }
        self.selected = Some(folder.to_path_buf());
    }

    /// Shows a run's curves, or hides them.
    pub fn toggle_run(&mut self, folder: &Path) {
        match self.shown_mut(Some(folder)) {
            Some(shown) => shown.visible = !shown.visible,
            None => self.draw(folder),
        }
    }

    /// Draws a run's curves beside the others'.
    pub fn draw(&mut self, folder: &Path) {
        let before = self.selected.clone();
        self.select(folder);
        self.selected = before.or_else(|| Some(folder.to_path_buf()));
    }

    /// Reads a run without drawing it.
    pub fn hold(&mut self, folder: &Path) {
        if self.shown.iter().any(|shown| shown.folder == folder) {
            return;
        }
        self.draw(folder);
        if let Some(shown) = self.shown_mut(Some(folder)) {
            shown.visible = false;
        }
    }

    /// Makes a run the one that all views look at.
    pub fn select(&mut self, folder: &Path) {
        self.open_run(folder);
        if let Some(shown) = self.shown_mut(Some(folder)) {
            shown.visible = true;
        }
    }

    /// The settings with what is looked at now.
    pub fn remembered(&self) -> Settings {
        let drawn = self.shown.iter().filter(|shown| shown.visible);
        Settings {
            drawn: drawn.map(|shown| shown.folder.clone()).collect(),
            selected: self.selected.clone(),
            ..self.settings.clone()
        }
    }

    /// Shows again what was looked at when the window closed, as far as it is still there.
    pub fn open_remembered(&mut self) {
        let drawn = std::mem::take(&mut self.settings.drawn);
        let selected = self.settings.selected.take();
        for folder in drawn
            .iter()
            .chain(&selected)
            .filter(|folder| folder.join("run.json").exists())
        {
            self.select(folder);
        }
    }

    /// Takes a run's recipe into the form.
    pub fn duplicate(&mut self, folder: &Path) -> bool {
        self.settings.beside = None;
        self.open_recipe(&folder.join("recipe.toml"))
    }

    /// Reads a recipe into the form.
    pub fn open_recipe(&mut self, path: &Path) -> bool {
        let read = std::fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| Recipe::from_toml(&text).map_err(|error| error.to_string()));
        match read {
            Ok(recipe) => {
                self.settings.recipe = recipe;
                self.say(format!("the form holds the recipe of {}", path.display()));
                true
            }
            Err(error) => {
                self.complain(format!("{error}: {}", path.display()));
                false
            }
        }
    }

    /// Takes a data source into the form.
    pub fn choose_data(&mut self, source: String) {
        self.say(format!("the form's data: {source}"));
        self.settings.recipe.data.source = source;
        self.settings.recipe.data.limit_train = None;
    }

    /// Takes a dropped folder as data: original files by their names, or a folder of pictures.
    pub fn choose_folder(&mut self, path: &Path) {
        let path = path.to_path_buf();
        self.say(format!("looking through {}", path.display()));
        self.answers.push(Background::start(
            "folder of data",
            &self.ctx,
            |error| Answer::Said(Err(error)),
            move |_, teller| {
                let kinds = ["mnist", "fashion-mnist", "cifar10", "cifar100", "folder"];
                let mut sources = kinds.iter().map(|kind| format!("{kind}:{}", path.display()));
                let source = sources.find(|source| data::load(source, Split::Train).is_ok());
                teller.tell(Answer::Data(source.with_context(|| {
                    format!(
                        "expected a folder with MNIST, Fashion-MNIST or CIFAR files, or with one folder of pictures for each class, got {}",
                        path.display()
                    )
                })?));
                Ok(())
            },
        ));
    }

    /// Takes a run out of the table of runs, or puts it back.
    pub fn toggle_hidden(&mut self, folder: PathBuf) {
        if self.settings.hidden_runs.remove(&folder) {
            return;
        }
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.settings.hidden_runs.insert(folder.clone());
        let undo = ("Show it again".to_string(), Command::ToggleHidden(folder));
        self.toast(format!("{name} is hidden; its folder stays"), false, Some(undo));
    }

    /// Asks before runs are deleted.
    pub fn ask_to_delete(&mut self, folders: Vec<PathBuf>) {
        let trains = |folder: &PathBuf| self.training_of(folder).is_some_and(|own| own.job.is_alive());
        if folders.iter().any(trains) {
            return self.complain("the run trains now: stop it before you delete it".to_string());
        }
        self.question = Some(Question::Delete(folders));
    }

    /// Gives a run another name, on a thread.
    pub fn rename(&mut self, folder: PathBuf, name: String) {
        self.answers.push(Background::start(
            "rename",
            &self.ctx,
            |error| Answer::Said(Err(format!("the run keeps its name: {error}"))),
            move |_, teller| {
                let renamed = runs::rename(&folder, &name)?;
                teller.tell(Answer::Renamed(folder, renamed));
                Ok(())
            },
        ));
    }

    /// Whatever spoke of the run by its old folder speaks of it by its new one.
    pub(super) fn renamed(&mut self, old: &Path, new: PathBuf) {
        let name = new.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(shown) = self.shown_mut(Some(old)) {
            (shown.folder, shown.name) = (new.clone(), name.clone());
        }
        let training = self
            .trainings
            .iter_mut()
            .filter_map(|training| training.folder.as_mut());
        let seats = self.duel.corners.iter_mut();
        let seated = seats.filter_map(|corner| corner.fighter.as_mut()?.run.as_mut());
        let beside = self.lab.beside.as_mut().map(|(folder, _)| folder);
        let selected = self.selected.as_mut();
        let concerned = training.chain(seated).chain(beside).chain(selected);
        for folder in concerned.filter(|folder| folder.as_path() == old) {
            folder.clone_from(&new);
        }
        if self.settings.hidden_runs.remove(old) {
            self.settings.hidden_runs.insert(new);
        }
        self.say(format!("the run is called {name} now"));
        self.refresh_runs();
    }

    /// Draws the curves of these runs, and no others.
    pub fn compare(&mut self, folders: &[PathBuf]) {
        for folder in folders {
            self.draw(folder);
        }
        for shown in &mut self.shown {
            shown.visible = folders.contains(&shown.folder);
        }
        if let Some(first) = folders.first()
            && !self
                .selected
                .as_ref()
                .is_some_and(|selected| folders.contains(selected))
        {
            self.selected = Some(first.clone());
        }
    }

    /// Keeps runs in this folder from now on.
    pub fn keep_runs_in(&mut self, folder: PathBuf) {
        self.messages.passed("Runs cannot be kept here");
        self.say(format!("runs are kept in {}", folder.display()));
        self.settings.runs_dir = folder;
        self.runs = Ok(Vec::new());
        self.refresh_runs();
    }

    /// Asks for the folder that runs are kept in.
    pub fn choose_runs_folder(&mut self) {
        let chosen = dialog::open(
            &self.ctx,
            |error| Answer::Said(Err(error)),
            Answer::RunsFolder,
            rfd::FileDialog::pick_folder,
        );
        self.answers.push(chosen);
    }

    /// Writes a run's report page beside it and opens it in the browser.
    pub fn report(&mut self, folder: &Path) {
        let folder = folder.to_path_buf();
        self.answers.push(Background::start(
            "report page",
            &self.ctx,
            |error| Answer::Said(Err(format!("the report page was not written: {error}"))),
            move |_, teller| {
                let path = report::write_run_page(&Run::open(&folder)?)?;
                let path = std::path::absolute(&path).unwrap_or(path);
                let text = match open::that_detached(&path) {
                    Ok(()) => format!("the browser opens {}", path.display()),
                    Err(error) => format!(
                        "the report page lies in {}; no browser opens here: {error}",
                        path.display()
                    ),
                };
                teller.tell(Answer::Said(Ok(text)));
                Ok(())
            },
        ));
    }

    /// Asks where to put the weights of a run's best checkpoint and writes them, with PyTorch's names, on a thread.
    pub fn export(&mut self, folder: PathBuf) {
        self.answers.push(Background::start(
            "export",
            &self.ctx,
            |error| Answer::Said(Err(format!("the weights were not saved: {error}"))),
            move |_, teller| {
                let run = Run::open(&folder)?;
                let Some((path, saved)) = ask_where(&folder, run.name(), "safetensors") else {
                    return Ok(());
                };
                let recipe = Recipe::from_toml(run.recipe_toml())?;
                let (dataset, _) = recipe.examined()?;
                let device = Device::cpu();
                let model = session::model_of(&run, Slot::Best, dataset.shape(), dataset.classes(), &device)?;
                let about = BTreeMap::from([
                    ("format".to_string(), "pt".to_string()),
                    ("network".to_string(), model.architecture().to_string()),
                    ("martlet".to_string(), env!("CARGO_PKG_VERSION").to_string()),
                ]);
                weights::save_safetensors(&model, &path, &about)?;
                teller.tell(Answer::Said(Ok(format!("{saved} {}", path.display()))));
                Ok(())
            },
        ));
    }

    /// Asks where to put a file of this name and ending and writes it, on a thread.
    pub fn save_as(&mut self, name: &'static str, form: &'static str, bytes: Vec<u8>) {
        self.save_made(name, form, move || Ok(bytes));
    }

    /// Asks where to put a figure and writes it, on a thread.
    pub fn save_figure(&mut self, figure: Figure, name: &'static str, form: Form) {
        self.save_made(name, form.ending(), move || form.render(&figure));
    }

    fn save_made(
        &mut self,
        name: &'static str,
        ending: &'static str,
        make: impl FnOnce() -> anyhow::Result<Vec<u8>> + Send + 'static,
    ) {
        let folder = self.selected.clone().unwrap_or_else(|| self.settings.runs_dir.clone());
        self.answers.push(Background::start(
            "save",
            &self.ctx,
            |error| Answer::Said(Err(format!("the file was not written: {error}"))),
            move |_, teller| {
                std::fs::create_dir_all(&folder)?;
                if let Some((path, saved)) = ask_where(&folder, name, ending) {
                    files::save(&path, &make()?)?;
                    teller.tell(Answer::Said(Ok(format!("{saved} {}", path.display()))));
                }
                Ok(())
            },
        ));
    }

    /// Deletes runs, on a thread.
    pub(super) fn delete(&mut self, folders: Vec<PathBuf>) {
        self.keeping.push(Background::start(
            "delete",
            &self.ctx,
            |error| Answer::Said(Err(error)),
            move |_, teller| {
                for folder in folders {
                    // One that cannot go keeps no other.
                    teller.tell(match runs::delete(&folder) {
                        Ok(()) => Answer::Deleted(folder),
                        Err(error) => Answer::Said(Err(error.to_string())),
                    });
                }
                Ok(())
            },
        ));
    }

    pub(super) fn deleted(&mut self, folder: &Path) {
        self.forget(folder);
        self.refresh_runs();
        self.say(format!("{} is deleted", folder.display()));
    }

    fn forget(&mut self, folder: &Path) {
        self.settings.hidden_runs.remove(folder);
        self.shown.retain(|shown| shown.folder != folder);
        if self.selected.as_deref() == Some(folder) {
            self.selected = None;
        }
    }

    /// Takes runs whose folders somebody deleted elsewhere off the plots.
    pub(super) fn forget_what_is_gone(&mut self) {
        let is_gone = |shown: &&Shown| {
            let trains = self.training_of(&shown.folder).is_some_and(|own| own.job.is_alive());
            !trains && !shown.folder.exists()
        };
        let gone = self.shown.iter().filter(is_gone);
        let gone: Vec<(PathBuf, String)> = gone.map(|shown| (shown.folder.clone(), shown.name.clone())).collect();
        for (folder, name) in gone {
            self.forget(&folder);
            self.complain(format!("{name} is gone: its folder was deleted elsewhere"));
        }
    }
}
