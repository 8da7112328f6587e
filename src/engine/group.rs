//! Several processes that train or evaluate together: who they are, and the two things that they say to each other.

use std::{num::NonZeroUsize, ops::Range};

/// Processes that work at one thing together, each of which knows its place. Whatever one of them calls, all of them call, in the same
/// order.
pub trait Group {
    /// This process's place, from 0. The one at 0 reads and writes the run.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> NonZeroUsize;

    /// Whether there is no other.
    fn is_alone(&self) -> bool {
        self.size().get() == 1
    }

    /// What stands before a command that all of them carry out.
    fn launcher(&self) -> String {
        if self.is_alone() {
            String::new()
        } else {
            format!("mpirun -n {} ", self.size())
        }
    }

    /// Replaces each value by its sum over all processes, the same to the bit on each of them.
    fn sum(&self, values: &mut [f32]);

    /// Replaces `bytes` by those of the process at `from`.
    fn broadcast(&self, from: usize, bytes: &mut Vec<u8>);
}

/// A process by itself.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

impl Group for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> NonZeroUsize {
        NonZeroUsize::MIN
    }

    fn sum(&self, _: &mut [f32]) {}

    fn broadcast(&self, _: usize, _: &mut Vec<u8>) {}
}

/// What one process does of so many rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Share {
    /// Its rows; one at least, because a network takes no empty minibatch.
    pub rows: Range<usize>,
    /// What its mean counts for in the mean over all rows: its part of them, 0 for a process without a row of its own.
    pub weight: f32,
}

impl Share {
    /// Of `rows` rows the share of the process at `rank` of `size`: neighbours, as many for each as can be.
    pub fn of(rows: usize, rank: usize, size: NonZeroUsize) -> Self {
        let edge = |rank: usize| rows * rank / size;
        let own = edge(rank)..edge(rank + 1);
        if own.is_empty() {
            return Self {
                rows: 0..rows.min(1),
                weight: 0.0,
            };
        }
        Self {
            weight: own.len() as f32 / rows as f32,
            rows: own,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{Arc, Barrier, Mutex, PoisonError};

    use super::*;
    use crate::{
        compute::{Device, read},
        control::Control,
        engine::{Event, TrainingData, session, train_together},
        recipe::preset,
        threat::{Norm, ThreatModel},
    };

    /// Threads that stand for processes.
    #[derive(Clone)]
    pub struct Threads {
        rank: usize,
        size: NonZeroUsize,
        shared: Arc<(Barrier, Mutex<Vec<Vec<u8>>>)>,
    }

    impl Threads {
        pub fn group(size: usize) -> Vec<Self> {
            let shared = Arc::new((Barrier::new(size), Mutex::new(vec![Vec::new(); size])));
            let size = NonZeroUsize::new(size).unwrap();
            let member = |rank| Self {
                rank,
                size,
                shared: shared.clone(),
            };
            (0..size.get()).map(member).collect()
        }

        /// What every process gave.
        fn all(&self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
            let (barrier, given) = &*self.shared;
            given.lock().unwrap_or_else(PoisonError::into_inner)[self.rank] = bytes;
            barrier.wait();
            let all = given.lock().unwrap_or_else(PoisonError::into_inner).clone();
            barrier.wait();
            all
        }
    }

    impl Group for Threads {
        fn rank(&self) -> usize {
            self.rank
        }

        fn size(&self) -> NonZeroUsize {
            self.size
        }

        fn sum(&self, values: &mut [f32]) {
            let own = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            values.fill(0.0);
            for bytes in self.all(own) {
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value += f32::from_le_bytes(*bytes);
                }
            }
        }

        fn broadcast(&self, from: usize, bytes: &mut Vec<u8>) {
            *bytes = self.all(std::mem::take(bytes)).swap_remove(from);
        }
    }

    #[test]
    fn shares_cover_the_rows_and_weigh_one() {
        for (rows, size) in [(128, 3), (7, 4), (2, 3), (1, 4), (64, 1)] {
            let size = NonZeroUsize::new(size).unwrap();
            let shares: Vec<Share> = (0..size.get()).map(|rank| Share::of(rows, rank, size)).collect();
            let weight: f32 = shares.iter().map(|share| share.weight).sum();
            assert!((weight - 1.0).abs() < 1e-6, "{shares:?}");
            let own = shares.iter().filter(|share| share.weight > 0.0);
            assert_eq!(own.map(|share| share.rows.len()).sum::<usize>(), rows);
            assert!(shares.iter().all(|share| !share.rows.is_empty()));
        }
    }

    /// Weights and the last epoch's report of a short training by so many processes.
    fn trained(
        processes: usize,
        network: &str,
        steps: usize,
        threat: &ThreatModel,
        synchronised: bool,
    ) -> (Vec<f32>, crate::engine::EpochReport) {
        let mut recipe = preset("glyphs-mart").unwrap();
        recipe.network = network.parse().unwrap();
        recipe.epochs = 1;
        recipe.threat = threat.clone();
        recipe.attack.step_size = threat.epsilon.divided_by(4);
        // The last minibatch has 10 examples: shares of 3, 3 and 4.
        (recipe.batch_size, recipe.data.limit_train) = (16, Some(steps * 16 - 6));
        (recipe.data.held_out, recipe.evaluation.limit) = (100, Some(50));
        recipe.data.augmentation.pad = 2;
        recipe.sync_batch_norm = synchronised;
        let folder = tempfile::tempdir().unwrap();
        let data = TrainingData::load(&recipe).unwrap();
        let device = Device::cpu();
        let work = |group: Threads| {
            let leads = group.rank() == 0;
            let mut run =
                leads.then(|| session::create(folder.path(), "run", &recipe, &data, &serde_json::Value::Null).unwrap());
            if let Some(run) = &mut run {
                run.lock().unwrap();
            }
            let (control, mut last) = (Control::new(), None);
            let mut tell = |event: &Event| {
                if let Event::Epoch(report) = event {
                    last = Some(report.clone());
                }
            };
            let model = train_together(&recipe, &data, run.as_mut(), &device, &control, &mut tell, &group).unwrap();
            (read(model.parameters()).unwrap(), last.unwrap())
        };
        let mut found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = Threads::group(processes)
                .into_iter()
                .map(|member| scope.spawn(|| work(member)))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let first = found.swap_remove(0);
        for other in &found {
            assert_eq!(first.0, other.0, "every process has the same weights to the bit");
            assert_eq!(first.1.accuracy, other.1.accuracy);
        }
        first
    }

    #[test]
    fn a_group_trains_as_one_process_does() {
        for (norm, epsilon) in [(Norm::L2, "0.8"), (Norm::Linf, "0.1")] {
            let threat = ThreatModel {
                norm,
                epsilon: epsilon.parse().unwrap(),
            };
            // Sums in another order round otherwise, and now and then a pixel, a ReLU or a pool that is all but undecided falls to the
            // other side: what was 10⁻⁸ is 10⁻⁵ then.
            for (steps, bound) in [(5, 1e-5), (20, 1e-3)] {
                let (alone, report) = trained(1, "small-cnn", steps, &threat, false);
                for processes in [2, 3] {
                    let (together, other) = trained(processes, "small-cnn", steps, &threat, false);
                    let pairs = alone.iter().zip(&together);
                    let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
                    assert!(apart < bound, "{processes} processes, {norm}, {steps} steps: {apart}");
                    assert_eq!(report.accuracy, other.accuracy, "{processes} processes, {norm}");
                    for (name, value) in &report.train {
                        let other = other.train[name];
                        assert!((value - other).abs() < 1e-3, "{name}: {value} and {other}");
                    }
                }
            }
        }
    }

    #[test]
    fn batch_norms_statistics_are_the_same_everywhere() {
        // Not those of one process: each takes its own share's. That all have the same weights, `trained` asserts.
        let threat = preset("glyphs-mart").unwrap().threat;
        let (alone, _) = trained(1, "wide-resnet-10-1", 3, &threat, false);
        let apart = |weights: &[f32]| {
            let pairs = alone.iter().zip(weights);
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max)
        };
        let (weights, _) = trained(2, "wide-resnet-10-1", 3, &threat, false);
        assert!(weights.iter().all(|weight| weight.is_finite()));
        assert!(apart(&weights) > 1e-3, "two shares' statistics are those of the whole");
        // Synchronised they are the whole minibatch's. Of eleven processes one has no example of the last minibatch.
        for processes in [2, 3, 11] {
            let (weights, _) = trained(processes, "wide-resnet-10-1", 3, &threat, true);
            assert!(apart(&weights) < 1e-5, "{processes} processes: {}", apart(&weights));
        }
    }

    #[test]
    fn what_cannot_be_shared_is_refused() {
        let mut recipe = preset("glyphs-mart").unwrap();
        recipe.defence = crate::defences::DefenceSpec::Free { replays: 2 };
        let data = TrainingData::load(&recipe).unwrap();
        let group = Threads::group(2).swap_remove(0);
        let found = train_together(
            &recipe,
            &data,
            None,
            &Device::cpu(),
            &Control::new(),
            &mut |_: &Event| {},
            &group,
        );
        assert!(matches!(found, Err(crate::engine::TrainError::NotShared { .. })));
    }
}
