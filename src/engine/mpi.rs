//! A group over the Message Passing Interface: the processes that `mpirun` or `srun` began.

use std::num::NonZeroUsize;

use mpi::{
    Threading,
    collective::SystemOperation,
    environment::Universe,
    topology::SimpleCommunicator,
    traits::{Communicator, Root},
};

use super::Group;

/// All processes of one `mpirun`. What one of them cannot do any more ends all: MPI's own rule.
pub struct World {
    world: SimpleCommunicator,
    rank: usize,
    size: NonZeroUsize,
    /// MPI ends with it.
    _universe: Universe,
}

impl World {
    /// Joins the processes that were begun together; none where MPI was begun in this process before.
    pub fn join() -> Option<Self> {
        // One thread alone speaks: the one that trains.
        let (universe, _) = mpi::initialize_with_threading(Threading::Funneled)?;
        let world = universe.world();
        Some(Self {
            rank: usize::try_from(world.rank()).ok()?,
            size: NonZeroUsize::new(usize::try_from(world.size()).ok()?)?,
            world,
            _universe: universe,
        })
    }

    /// Ends every process of the group.
    pub fn abort(&self, status: i32) -> ! {
        self.world.abort(status)
    }
}

impl Group for World {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> NonZeroUsize {
        self.size
    }

    fn sum(&self, values: &mut [f32]) {
        // Summed at one place and sent from there: an all-reduce may round otherwise from process to process.
        let root = self.world.process_at_rank(0);
        if self.rank == 0 {
            let own = values.to_vec();
            root.reduce_into_root(&own[..], values, SystemOperation::sum());
        } else {
            root.reduce_into(&*values, SystemOperation::sum());
        }
        root.broadcast_into(values);
    }

    fn broadcast(&self, from: usize, bytes: &mut Vec<u8>) {
        // A rank is a C int, as MPI gave it.
        let root = self.world.process_at_rank(i32::try_from(from).unwrap_or_default());
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        // Some libraries take the address of nothing for a mistake.
        if length > 0 {
            root.broadcast_into(&mut bytes[..]);
        }
    }
}
