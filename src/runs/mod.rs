//! A run's folder: its recipe, metrics and checkpoints, written so that a kill at any instant loses little and breaks
//! nothing.
//!
//! ```text
//! NAME/
//!   recipe.toml             the recipe's text
//!   run.json                id, name, creation, martlet's version, device and self-check, data, hashes of the recipes;
//!                           one session a start; sealed
//!   metrics.jsonl           one event a line, append only
//!   checkpoints/
//!     last                  text: the name of the folder with the latest checkpoint, such as last-000012
//!     best                  the same for the best one
//!     last.safetensors      the latest weights under a name that stays (a hard link, where the disk has them)
//!     best.safetensors      the same for the best ones
//!     last-000012/          one generation: files that belong together
//!       weights.safetensors     parameters and buffers under PyTorch's names
//!       optimiser.safetensors   momentum
//!       progress.json           counters and generator states; the run's id, the recipe's hash, the metrics' length and hash,
//!                               the best at that moment
//!       checksums.md5           of the three; `md5sum -c checksums.md5` verifies it
//!   evaluation-*.json       figures, sealed, with the run's id
//! ```
//!
//! **Why it holds.** A checkpoint is written under a temporary name, synced and renamed as a folder; only then does the
//! small pointer file change, by a rename too. The pointer's change is the one instant at which the new checkpoint
//! counts. The generation before stays as a spare, should the disk damage the newest.
//!
//! A checkpoint holds the length of the metrics at its moment, and the metrics are synced before it. [`Run::resume`]
//! cuts the metrics back to that length, so that the work which is done again writes its lines again: on the CPU the
//! same lines as a run without a kill.
//!
//! The last checkpoint also names the best one of its moment, and that one is kept as long. Resuming goes back to it: a
//! best that was saved after the last checkpoint is made again, not believed. Therefore save [`Slot::Best`] before
//! [`Slot::Last`] where both are due.
//!
//! **Nothing is believed unread.** A [`seal`] shows that `run.json` and the evaluations are what was written, checksums the same of
//! checkpoints, and a checkpoint's progress of the metrics until its moment. All of them name the run, and `run.json` the hash of
//! `recipe.toml` (without the place of its data), so that no part of another run or of another recipe passes for its own. A run
//! of format 1 has neither; it is read as before. [`check`] looks through a whole run.
//!
//! **One writer.** The operating system's lock on `.lock` lets one process write a run; it goes with the process.
//! `.holder` says which, for the message of whoever comes second.
//! Reading takes no lock and works while another process writes.

mod atomic;
mod check;
mod checkpoint;
mod error;
mod folder;
mod metrics;

pub use atomic::{Claim, claim, write_atomic};
pub use check::check;
pub use checkpoint::{Array, Checkpoint, Slot, Values};
pub use error::RunError;
pub use folder::{State, Summary, check_name, check_place, delete, list, pick_name, rename, strongest};

use crate::seal::{self, Seal, seal_of};
use atomic::{TEMPORARY, remove_left_files, sync_folder, write_synced};
use checkpoint::{FORMAT, Found, Header, Store, Ties};
use metrics::{METRICS_FILE, Mark, Metrics};
use serde_json::{Map, Value, json};
use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process,
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

const RUN_FILE: &str = "run.json";
const RECIPE_FILE: &str = "recipe.toml";
const CHECKPOINTS: &str = "checkpoints";
const DISCARDED_FILE: &str = "metrics.discarded.jsonl";
const WAY_OUT: &str = "put the file back from a copy, or start a new run from this one's recipe.toml";

/// An open run. It may be read at once; the first call that writes takes the run's lock and keeps it.
pub struct Run {
    folder: PathBuf,
    name: String,
    recipe_toml: String,
    identity: Value,
    store: Store,
    writer: Option<Writer>,
    notices: Mutex<Vec<String>>,
}

/// What only the holder of the lock has.
struct Writer {
    metrics: Metrics,
    _lock: File,
}

impl Run {
    /// Creates a run and takes its lock. The folder appears at once, with all its parts.
    ///
    /// `identity` is an object with whatever tells this run from others (device, self-check, data fingerprint); the
    /// fields `format`, `id`, `name`, `created`, `martlet`, `recipes` and `sessions` are added to it.
    ///
    /// # Errors
    /// [`RunError::Name`], [`RunError::Taken`], or [`RunError::Io`]; the folder of runs is then as it was.
    pub fn create(runs_dir: &Path, name: &str, recipe_toml: &str, identity: Value) -> Result<Run, RunError> {
        check_name(name)?;
        fs::create_dir_all(runs_dir).map_err(RunError::io("make the folder of runs", runs_dir))?;
        folder::clean(runs_dir);
        let folder = runs_dir.join(name);
        let taken = || RunError::Taken {
            name: name.to_string(),
            path: folder.clone(),
        };
        if fs::symlink_metadata(&folder).is_ok() {
            return Err(taken());
        }
        let mut fields = match identity {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            other => Map::from_iter([("identity".to_string(), other)]),
        };
        for (key, value) in [
            ("format", json!(FORMAT)),
            ("id", json!(new_id(&folder))),
            ("name", json!(name)),
            ("created", json!(folder::now())),
            ("recipes", json!([recipe_hash(recipe_toml)])),
            ("martlet", json!(env!("CARGO_PKG_VERSION"))),
            ("sessions", json!([])),
        ] {
            fields.insert(key.to_string(), value);
        }
        let identity = Value::Object(fields);

        let temporary = runs_dir.join(format!("{TEMPORARY}{}-{name}", process::id()));
        let _ = fs::remove_dir_all(&temporary); // left by a killed process of the same number
        let outcome = (|| {
            fs::create_dir(&temporary).map_err(RunError::io("make the run's folder", &temporary))?;
            let mut lock = atomic::lock(&temporary)?;
            write_synced(&temporary.join(RECIPE_FILE), recipe_toml.as_bytes())?;
            write_synced(&temporary.join(RUN_FILE), &identity_text(&identity))?;
            write_synced(&temporary.join(METRICS_FILE), b"")?;
            let checkpoints = temporary.join(CHECKPOINTS);
            fs::create_dir(&checkpoints).map_err(RunError::io("make the checkpoints' folder", &checkpoints))?;
            sync_folder(&temporary)?;
            if cfg!(windows) {
                drop(lock); // a folder with an open file in it cannot be renamed there
                rename_new(&temporary, &folder, taken)?;
                lock = atomic::lock(&folder)?;
            } else {
                rename_new(&temporary, &folder, taken)?;
            }
            sync_folder(runs_dir)?;
            Ok(Writer {
                metrics: Metrics::open(&folder)?,
                _lock: lock,
            })
        })();
        if outcome.is_err() {
            let _ = fs::remove_dir_all(&temporary);
        }
        Ok(Run {
            store: Store {
                folder: folder.join(CHECKPOINTS),
                ties: ties_of(&identity),
            },
            name: name.to_string(),
            recipe_toml: recipe_toml.to_string(),
            identity,
            writer: Some(outcome?),
            notices: Mutex::default(),
            folder,
        })
    }

    /// Opens a run for reading; [`Run::lock`], or the first call that writes, opens it for writing.
    ///
    /// # Errors
    /// [`RunError::NotARun`] for another folder, [`RunError::Damaged`] for a run that lacks a part or whose recipe is not the one it
    /// was begun with, [`RunError::Newer`] for one of a newer martlet.
    pub fn open(folder: &Path) -> Result<Run, RunError> {
        let name = match folder.file_name() {
            Some(name) => name.to_os_string(),
            None => fs::canonicalize(folder)
                .ok()
                .and_then(|real| Some(real.file_name()?.to_os_string()))
                .unwrap_or_default(),
        };
        let identity = read_identity(folder)?;
        let recipe_toml = read_recipe(folder)?;
        let ties = ties_of(&identity);
        let hash = recipe_hash(&recipe_toml);
        if ties.run.is_some() && !ties.recipes.contains(&hash) {
            return Err(RunError::Recipe {
                path: folder.join(RECIPE_FILE),
            });
        }
        Ok(Run {
            folder: folder.to_path_buf(),
            name: name.to_string_lossy().into_owned(),
            recipe_toml,
            identity,
            store: Store {
                folder: folder.join(CHECKPOINTS),
                ties,
            },
            writer: None,
            notices: Mutex::default(),
        })
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The run's name: its folder's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The recipe's text as it was given.
    pub fn recipe_toml(&self) -> &str {
        &self.recipe_toml
    }

    /// All of `run.json`, the sessions among it.
    pub fn identity(&self) -> &Value {
        &self.identity
    }

    /// The run's id, which its checkpoints and evaluations name; none for a run of format 1.
    pub fn id(&self) -> Option<&str> {
        self.store.ties.run.as_deref()
    }

    /// Goes on with another recipe from here: more epochs, say. Checkpoints until now keep the one that they were made with.
    ///
    /// # Errors
    /// [`RunError::Io`], [`RunError::Locked`]; the old recipe stays then.
    pub fn change_recipe(&mut self, recipe_toml: &str) -> Result<(), RunError> {
        self.writer()?;
        let mut identity = self.identity.clone();
        let hash = json!(recipe_hash(recipe_toml));
        if let Some(recipes) = identity.get_mut("recipes").and_then(Value::as_array_mut) {
            recipes.retain(|known| *known != hash);
            recipes.push(hash);
        }
        // First what allows the new recipe, then the recipe: a kill in between leaves the old one.
        write_atomic(&self.folder.join(RUN_FILE), &identity_text(&identity))?;
        write_atomic(&self.folder.join(RECIPE_FILE), recipe_toml.as_bytes())?;
        self.store.ties = ties_of(&identity);
        self.identity = identity;
        self.recipe_toml = recipe_toml.to_string();
        Ok(())
    }

    /// Takes the run's lock, and removes what killed processes left behind. Once taken it stays until the run is
    /// dropped or its process dies; a second call does nothing.
    ///
    /// # Errors
    /// [`RunError::Locked`] if somebody else writes the run.
    pub fn lock(&mut self) -> Result<(), RunError> {
        self.writer().map(|_| ())
    }

    fn writer(&mut self) -> Result<&mut Writer, RunError> {
        let writer = match self.writer.take() {
            Some(writer) => writer,
            None => {
                let lock = atomic::lock(&self.folder)?;
                self.identity = read_identity(&self.folder)?; // it may have grown since it was opened
                remove_left_files(&self.folder);
                for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
                    remove_left_files(&entry.path());
                }
                self.store.clean();
                self.find_metrics()?;
                Writer {
                    metrics: Metrics::open(&self.folder)?,
                    _lock: lock,
                }
            }
        };
        Ok(self.writer.insert(writer))
    }

    /// Notes in `run.json` that a session begins: now, with this martlet, on this device.
    ///
    /// It is not an event, because the metrics of a resumed run are those of one that never stopped.
    ///
    /// # Errors
    /// [`RunError::Io`], [`RunError::Locked`].
    pub fn begin_session(&mut self, device: Value) -> Result<(), RunError> {
        self.writer()?;
        let session = json!({ "started": folder::now(), "martlet": env!("CARGO_PKG_VERSION"), "device": device });
        let mut identity = self.identity.clone();
        match identity.get_mut("sessions").and_then(Value::as_array_mut) {
            Some(sessions) => sessions.push(session),
            None => identity["sessions"] = json!([session]),
        }
        write_atomic(&self.folder.join(RUN_FILE), &identity_text(&identity))?;
        self.identity = identity;
        Ok(())
    }

    /// Appends an event, a JSON object with the text field `event`, to the metrics: one line, one write. When the write
    /// fails, no part of the line stays.
    ///
    /// A kill of the process loses no appended line; a power cut may lose those after the last checkpoint.
    ///
    /// # Errors
    /// [`RunError::Event`], [`RunError::Io`] (a full disk), [`RunError::Locked`].
    pub fn append(&mut self, event: &Value) -> Result<(), RunError> {
        self.writer()?.metrics.append(event)
    }

    /// Every event so far; a last line that a kill has torn is left out.
    ///
    /// serde_json reads some fractions one unit in the last place off: good for plots. What must come back to the bit
    /// belongs into a checkpoint's progress.
    ///
    /// # Errors
    /// [`RunError::Damaged`] names the line that is no JSON, or says that these are not the metrics which the last checkpoint knows.
    pub fn metrics(&self) -> Result<Vec<Value>, RunError> {
        // A reader may look while the writer goes back to its last checkpoint: then again.
        let mut tries = 0;
        loop {
            let known = self.store.known_metrics();
            let outcome = metrics::read(&self.folder, known.as_ref());
            tries += 1;
            if outcome.is_ok() || tries == 5 || self.store.known_metrics() == known {
                return outcome;
            }
        }
    }

    /// Saves a checkpoint. Whenever it stops, by an error or a kill, the slot holds the old one or the new one, whole.
    ///
    /// Where both are due, save [`Slot::Best`] first: the last checkpoint remembers the best of its moment.
    ///
    /// # Errors
    /// [`RunError::Array`], [`RunError::Io`] (a full disk), [`RunError::Locked`].
    pub fn save(&mut self, slot: Slot, checkpoint: &Checkpoint) -> Result<(), RunError> {
        let metrics = &mut self.writer()?.metrics;
        metrics.sync()?;
        let end = metrics.end();
        let best = if slot == Slot::Last {
            self.store.pointer(Slot::Best)?
        } else {
            None
        };
        let header =
            Header::new(slot, &self.store.ties, end, best, &checkpoint.progress).map_err(|error| RunError::Io {
                doing: "encode the checkpoint's progress",
                source: io::Error::other(error),
                path: self.folder.clone(),
            })?;
        self.store.write(&header, checkpoint)
    }

    /// Reads a checkpoint, every byte verified; none if none was saved. If the newest is damaged the one before is
    /// taken, and [`Run::take_notices`] says so.
    ///
    /// # Errors
    /// [`RunError::Damaged`] names the damaged file if no older checkpoint is there.
    pub fn load(&self, slot: Slot) -> Result<Option<Checkpoint>, RunError> {
        Ok(self.load_named(slot)?.map(|(_, checkpoint)| checkpoint))
    }

    /// [`Run::load`] with the checkpoint's name, such as `best-000028`: each has one of its own.
    ///
    /// # Errors
    /// As [`Run::load`].
    pub fn load_named(&self, slot: Slot) -> Result<Option<(String, Checkpoint)>, RunError> {
        Ok(self.find(slot)?.map(|found| (found.name, found.checkpoint)))
    }

    /// The name of a slot's newest checkpoint, such as `best-000028`, if one was saved: each has a name of its own.
    ///
    /// # Errors
    /// [`RunError::Damaged`] if the slot's pointer is.
    pub fn checkpoint_name(&self, slot: Slot) -> Result<Option<String>, RunError> {
        self.store.pointer(slot)
    }

    /// The file with a slot's weights, if one was saved, every byte of its checkpoint verified.
    ///
    /// # Errors
    /// [`RunError::Damaged`] if the slot's pointer or the checkpoint is.
    pub fn weights_path(&self, slot: Slot) -> Result<Option<PathBuf>, RunError> {
        // A reader may look while the writer moves on and removes what the pointer named a moment ago: then again.
        let mut tries = 0;
        loop {
            let Some(name) = self.store.pointer(slot)? else {
                return Ok(None);
            };
            tries += 1;
            match self.store.read(&name) {
                Ok(_) => return Ok(Some(self.store.weights(&name))),
                Err(_) if tries < 5 && self.store.pointer(slot).ok().flatten() != Some(name) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes back to the last checkpoint and returns it: cuts the metrics back to its moment and makes the best of its
    /// moment the best again. Without any checkpoint the run begins anew, and its metrics move to
    /// `metrics.discarded.jsonl`. A kill in between is harmless: each step may be done twice.
    ///
    /// # Errors
    /// [`RunError::Damaged`] if no checkpoint can be read whole; nothing is changed then. [`RunError::Locked`].
    pub fn resume(&mut self) -> Result<Option<Checkpoint>, RunError> {
        let mut writer = match self.writer() {
            Ok(_) => self.writer.take(),
            Err(error) => return Err(error),
        };
        let outcome = match &mut writer {
            Some(writer) => self.go_back(&mut writer.metrics),
            None => Ok(None),
        };
        self.writer = writer;
        outcome
    }

    fn go_back(&self, metrics: &mut Metrics) -> Result<Option<Checkpoint>, RunError> {
        let found = self.find(Slot::Last)?;
        let best = match &found {
            Some(found) => {
                if self.store.pointer(Slot::Last).ok().flatten().as_ref() != Some(&found.name) {
                    self.store.point(Slot::Last, Some(&found.name))?;
                }
                found.header.best.clone()
            }
            None => None,
        };
        if let Some(name) = best.as_ref().filter(|name| !self.store.weights(name).exists()) {
            let folder = self.store.folder.display();
            self.note(format!(
                "The best checkpoint {name} of that moment is gone; the present best stays: {folder}"
            ));
        } else {
            if self.store.pointer(Slot::Best).ok().as_ref() != Some(&best) {
                self.store.point(Slot::Best, best.as_deref())?;
            }
            if let Some(Err(error)) = best.map(|name| self.store.read(&name)) {
                self.note(format!(
                    "The best checkpoint is damaged; it stays until a better one is found: {error}"
                ));
            }
        }
        match &found {
            Some(found) => match metrics.verify(&found.header.metrics) {
                Ok(()) => metrics.cut_back(&found.header.metrics)?,
                Err(error) if error.is_damage() => self.rebuild(metrics, found, &error)?,
                Err(error) => return Err(error),
            },
            None => {
                if metrics.end().lines > 0 {
                    self.keep_discarded()?;
                }
                metrics.cut_back(&Mark::default())?;
            }
        }
        self.store.prune();
        Ok(found.map(|found| found.checkpoint))
    }

    /// Makes the metrics anew from the reports that a checkpoint holds, and a checkpoint that knows them.
    fn rebuild(&self, metrics: &mut Metrics, found: &Found, damage: &RunError) -> Result<(), RunError> {
        let reports = found.header.progress.get("reports").and_then(Value::as_array);
        let reports = reports.cloned().unwrap_or_default();
        self.keep_discarded()?;
        let epochs = reports.len();
        metrics::rewrite(
            &self.folder,
            reports.into_iter().map(|mut report| {
                report["event"] = json!("epoch");
                report
            }),
        )?;
        *metrics = Metrics::open(&self.folder)?;
        metrics.sync()?;
        self.store
            .write(&found.header.clone().with(metrics.end()), &found.checkpoint)?;
        self.note(format!(
            "The metrics were damaged; those of {epochs} epochs are made anew from the checkpoint, those of minibatches are lost (what \
             was there is in {DISCARDED_FILE}): {damage}"
        ));
        Ok(())
    }

    /// Keeps the present metrics beside those that take their place.
    fn keep_discarded(&self) -> Result<(), RunError> {
        let path = self.folder.join(METRICS_FILE);
        let bytes = fs::read(&path).map_err(RunError::io("read the metrics", &path))?;
        write_atomic(&self.folder.join(DISCARDED_FILE), &bytes)
    }

    /// Makes empty metrics where a checkpoint is there but no metrics are, so that [`Run::resume`] can make them anew.
    fn find_metrics(&self) -> Result<(), RunError> {
        let path = self.folder.join(METRICS_FILE);
        if path.exists() || self.store.generations(Slot::Last).is_empty() {
            return Ok(());
        }
        write_atomic(&path, b"")
    }

    fn find(&self, slot: Slot) -> Result<Option<Found>, RunError> {
        let found = self.store.find(slot)?;
        if let Some(notice) = found.as_ref().and_then(|found| found.notice.clone()) {
            self.note(notice);
        }
        Ok(found)
    }

    /// What happened that a person should know, since the last call: a damaged checkpoint was passed over, say.
    pub fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.notices.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn note(&self, notice: String) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }
}

/// Renames the new run's folder to its name, unless somebody took that name meanwhile.
fn rename_new(temporary: &Path, folder: &Path, taken: impl Fn() -> RunError) -> Result<(), RunError> {
    fs::rename(temporary, folder).map_err(|error| match fs::symlink_metadata(folder) {
        Ok(_) => taken(),
        Err(_) => RunError::io("put the run's folder into place", folder)(error),
    })
}

/// An id that no other run has.
fn new_id(folder: &Path) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    seal::digest(format!("{} {} {}", folder.display(), process::id(), now.as_nanos()).as_bytes())
}

/// What a recipe's text says, without the place of its data, which may move: its fields and values, not their order.
fn recipe_hash(recipe_toml: &str) -> String {
    let Ok(mut fields) = recipe_toml.parse::<toml::Table>() else {
        return seal::digest(recipe_toml.as_bytes());
    };
    if let Some(data) = fields.get_mut("data").and_then(toml::Value::as_table_mut) {
        data.remove("source");
    }
    seal::digest(fields.to_string().as_bytes())
}

fn ties_of(identity: &Value) -> Ties {
    let hashes = identity.get("recipes").and_then(Value::as_array).into_iter().flatten();
    Ties {
        run: identity.get("id").and_then(Value::as_str).map(str::to_string),
        recipes: hashes.filter_map(Value::as_str).map(str::to_string).collect(),
    }
}

fn identity_text(value: &Value) -> Vec<u8> {
    let text = format!("{value:#}\n");
    let sealed = value.get("format").and_then(Value::as_u64).unwrap_or(1) > 1;
    if sealed { seal::sealed(&text, &[]) } else { text }.into_bytes()
}

fn read_identity(folder: &Path) -> Result<Value, RunError> {
    let path = folder.join(RUN_FILE);
    let damaged = |got: String| RunError::Damaged {
        expected: "a JSON object that says what the run is".to_string(),
        got,
        way_out: WAY_OUT,
        path: path.clone(),
    };
    let bytes = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            let got = if !folder.exists() {
                "nothing"
            } else if !folder.is_dir() {
                "a file"
            } else {
                "a folder without one"
            };
            RunError::NotARun {
                got: got.to_string(),
                path: folder.to_path_buf(),
            }
        }
        _ => RunError::Io {
            doing: "read the run's identity",
            source,
            path: path.clone(),
        },
    })?;
    let mut identity: Value = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let Some(fields) = identity.as_object_mut() else {
        return Err(damaged("another JSON value".to_string()));
    };
    fields.remove("seal");
    let format = fields.get("format").and_then(Value::as_u64).unwrap_or(1);
    if format > FORMAT {
        return Err(RunError::Newer {
            known: FORMAT,
            got: format,
            path,
        });
    }
    match seal_of(&String::from_utf8_lossy(&bytes)) {
        Seal::Whole => Ok(identity),
        Seal::Missing if format < 2 => Ok(identity),
        _ => Err(damaged("one that was changed since it was written".to_string())),
    }
}

fn read_recipe(folder: &Path) -> Result<String, RunError> {
    let path = folder.join(RECIPE_FILE);
    fs::read_to_string(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => lacking(path),
        _ => RunError::Io {
            doing: "read the run's recipe",
            source,
            path,
        },
    })
}

fn lacking(path: PathBuf) -> RunError {
    RunError::Damaged {
        expected: "a run with all its parts".to_string(),
        got: "one without this file".to_string(),
        way_out: "put the file back from a copy, or start a new run",
        path,
    }
}
