//! One command in several processes, as `mpirun` and `srun` begin them: who leads, who follows, and on which device.

use std::num::NonZeroUsize;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{DeviceOption, WrongUse, open_device, stop, terminal};
use crate::{
    control::Control,
    engine::{
        self, Alone, Event, Group, TrainingData,
        device_check::{self, Subject},
    },
    recipe::Recipe,
};

/// What tells how many processes were begun together: Open MPI's, MPICH's and Slurm's.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE"];
/// Which of a machine's processes this is.
const LOCAL_RANKS: [&str; 4] = [
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "MPI_LOCALRANKID",
    "PMI_LOCAL_RANK",
    "SLURM_LOCALID",
];
/// How many of them there are.
const LOCAL_SIZES: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PMI_LOCAL_SIZE"];

fn number(names: &[&str]) -> Option<usize> {
    let mut set = names.iter().filter_map(|name| std::env::var(name).ok());
    set.find_map(|text| text.trim().parse().ok())
}

/// This process's place in its group.
pub enum Member {
    /// By itself.
    Alone(Alone),
    /// One of several.
    #[cfg(feature = "mpi")]
    World(Box<engine::mpi::World>),
}

impl Member {
    /// Joins the processes that were begun together.
    ///
    /// # Errors
    /// Where several were begun and this program cannot speak to the others: each would do the whole work, and write over the others'.
    pub fn join() -> Result<Self> {
        let Some(size) = number(&SIZES).filter(|size| *size > 1) else {
            return Ok(Self::Alone(Alone));
        };
        let member = Self::among(size)?;
        stop::is_in_group();
        if member.rank() > 0 {
            terminal::be_quiet(true);
        }
        let (cores, local) = (std::thread::available_parallelism(), number(&LOCAL_SIZES));
        let threads = cores.map_or(1, NonZeroUsize::get) / local.unwrap_or(1).max(1);
        // Where a person gave --threads the pool stands already, and keeps them.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.max(1))
            .build_global();
        Ok(member)
    }

    #[cfg(feature = "mpi")]
    fn among(size: usize) -> Result<Self> {
        let world = engine::mpi::World::join().context("MPI cannot be begun twice in one process")?;
        anyhow::ensure!(
            world.size().get() == size,
            "expected {size} processes, as the launcher says, got {} from MPI: the program was built for another MPI library than the launcher's",
            world.size()
        );
        Ok(Self::World(Box::new(world)))
    }

    #[cfg(not(feature = "mpi"))]
    fn among(size: usize) -> Result<Self> {
        Err(WrongUse(format!(
            "this is one of {size} processes, and this program was built without MPI: each would do the whole work; build it with `cargo build --release --features mpi`, or start one process"
        ))
        .into())
    }

    /// As the engine knows it.
    pub fn group(&self) -> &dyn Group {
        match self {
            Self::Alone(alone) => alone,
            #[cfg(feature = "mpi")]
            Self::World(world) => &**world,
        }
    }

    /// Its place, from 0.
    pub fn rank(&self) -> usize {
        self.group().rank()
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.group().size().get()
    }

    /// Passes a result on; where it is an error the others, which wait for this process, end too.
    pub fn or_end<T>(&self, result: Result<T>) -> Result<T> {
        #[cfg(feature = "mpi")]
        if let (Self::World(world), Err(error)) = (self, &result) {
            terminal::complain(format!(
                "error (process {} of {}): {}",
                world.rank() + 1,
                world.size(),
                super::chain(error)
            ));
            world.abort(if error.is::<WrongUse>() { 2 } else { 1 });
        }
        result
    }
}

/// The device that this process opens: with several of a group on one machine, and none named, each takes its own GPU in turn.
pub fn device_of(choice: &DeviceOption, member: &Member) -> String {
    if member.size() == 1 || choice.device != "auto" {
        return choice.device.clone();
    }
    match (number(&LOCAL_RANKS), crate::compute::gpus()) {
        (Some(local), gpus @ 1..) => format!("gpu:{}", local % gpus),
        _ => "auto".to_string(),
    }
}

/// What the others are told to do.
#[derive(Serialize, Deserialize)]
struct Task {
    recipe: String,
    /// The checksum of the training examples, and of those that choose.
    data: [String; 2],
}

fn fingerprints(data: &TrainingData) -> [String; 2] {
    [data.train.fingerprint(), data.evaluated.fingerprint()]
}

/// Tells the others to train with this process.
pub fn lead(member: &Member, recipe: &Recipe, data: &TrainingData) -> Result<()> {
    if member.size() > 1 {
        let task = Task {
            recipe: recipe.to_toml(),
            data: fingerprints(data),
        };
        member.group().broadcast(0, &mut serde_json::to_vec(&task)?);
    }
    Ok(())
}

/// Tells the others that there is nothing more to do.
pub fn dismiss(member: &Member) {
    if member.size() > 1 && member.rank() == 0 {
        member.group().broadcast(0, &mut Vec::new());
    }
}

/// Does what the leading process says until there is nothing more.
pub fn follow(member: &Member, choice: &DeviceOption, control: &Control) -> Result<()> {
    let mut opened = None;
    loop {
        let mut bytes = Vec::new();
        member.group().broadcast(0, &mut bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        let task: Task = serde_json::from_slice(&bytes).context("the leading process is of another version")?;
        let recipe = Recipe::from_toml(&task.recipe).context("the leading process's recipe cannot be read")?;
        let data = TrainingData::load(&recipe)?;
        if fingerprints(&data) != task.data {
            return Err(WrongUse(format!(
                "expected the same data on every machine; here they differ from the leading process's: {}",
                recipe.data.source
            ))
            .into());
        }
        let device = match &opened {
            Some(device) => device,
            None => &*opened.insert(open_device(&device_of(choice, member), true)?.0),
        };
        let subject = Subject::of_training(&recipe, &data.train, member.group());
        device_check::ensure_network(&subject, device)?;
        let silent = &mut |_: &Event| {};
        engine::train_together(&recipe, &data, None, device, control, silent, member.group())?;
    }
}
