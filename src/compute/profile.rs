//! Where the time of a pass goes: convolution by convolution, forth and back, beside what the device can do at most.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use burn::tensor::Tensor;
use cubecl::logging::{LaunchObservation, LaunchObserver, TimingMethod, TimingRequest};
use rayon::prelude::*;
use serde::Serialize;

use super::{
    Device, DeviceError, adapters,
    gpu::launch::{Launch, shader},
    read,
    vector::{Block, Instructions, Simd, Task},
};

shader!(PEAK, "peak");

/// What a part of a pass computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// A stage's result.
    Forward,
    /// The gradient of what it read.
    Input,
    /// The gradient of its weights.
    Weights,
}

/// Time that a part of a pass took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// The stage of the network's program, and what of it; `None` for work outside its stages.
    pub part: Option<(usize, Direction)>,
    /// The kernel's name; empty on the processor.
    pub kernel: &'static str,
    /// Device time on a GPU that counts it, else time on the clock.
    pub time: Duration,
}

/// What this thread notes down.
#[derive(Default)]
struct Notes {
    on_clock: bool,
    part: Option<(usize, Direction)>,
    spent: Vec<Spent>,
    /// The sum of what is noted by the clock.
    noted: Duration,
}

thread_local! {
    static NOTES: RefCell<Option<Notes>> = const { RefCell::new(None) };
}

/// Does a part of a pass; where this thread profiles, its time is noted, without that of parts inside it.
pub(super) fn part<T>(stage: usize, direction: Direction, work: impl FnOnce() -> T) -> T {
    let begin = |notes: &mut Notes| (notes.part.replace((stage, direction)), notes.noted);
    let Some((outer, noted)) = NOTES.with_borrow_mut(|notes| notes.as_mut().map(begin)) else {
        return work();
    };
    let begun = Instant::now();
    let result = work();
    NOTES.with_borrow_mut(|notes| {
        let Some(notes) = notes else { return };
        let part = std::mem::replace(&mut notes.part, outer);
        if notes.on_clock {
            let time = begun.elapsed().saturating_sub(notes.noted - noted);
            notes.noted += time;
            let kernel = "";
            notes.spent.push(Spent { part, kernel, time });
        }
    });
    result
}

struct Watch;

impl LaunchObserver for Watch {
    fn launched(&self, _: &'static str) {}

    fn timing(&self) -> TimingRequest {
        TimingRequest::Resolved
    }

    fn timed(&self, kernel: &'static str, time: Duration, _: TimingMethod) {
        NOTES.with_borrow_mut(|notes| {
            let Some(notes) = notes else { return };
            let part = notes.part;
            notes.spent.push(Spent { part, kernel, time });
        });
    }
}

/// What `work` gives, and where this thread spent the time of the passes in it. On a GPU one kernel runs at a time, so that
/// the sum is more than the passes take otherwise.
pub fn profiled<T>(device: &Device, work: impl FnOnce() -> T) -> (T, Vec<Spent>) {
    let notes = Notes {
        on_clock: device.is_cpu(),
        ..Notes::default()
    };
    NOTES.set(Some(notes));
    let watching = (!device.is_cpu()).then(|| LaunchObservation::new(Arc::new(Watch)));
    let result = work();
    drop(watching);
    let spent = NOTES.take().map(|notes| notes.spent).unwrap_or_default();
    (result, spent)
}

/// Chains of one thread of a GPU.
const CHAINS: usize = 32;
/// What a chain is multiplied by and what is added, in each turn: its values stay where they are comfortable.
pub const STEP: [f32; 2] = [0.999, 0.001];

struct Chains {
    turns: usize,
    results: Vec<AtomicU32>,
}

impl Task for Chains {
    #[inline(always)]
    fn part<S: Simd>(&self, simd: S, number: usize) {
        // As many chains as hide an addition's latency and leave registers for the factors.
        let mut chains = [simd.splat(number as f32); 12];
        let [factor, term] = STEP.map(|value| simd.splat(value));
        for _ in 0..self.turns {
            for chain in &mut chains {
                *chain = simd.mul_add(*chain, factor, term);
            }
        }
        let mut sum = Block::ZERO;
        let total = chains.iter().fold(simd.splat(0.0), |sum, chain| simd.add(sum, *chain));
        simd.store(&mut sum, total);
        // Whoever throws the sum away lets the compiler throw the chains away.
        self.results[number].store(sum.0[0].to_bits(), Ordering::Relaxed);
    }
}

/// Operations a second that the device does at most in f32 multiply-adds out of registers, a product and a sum being two; the
/// best of a few tries. `None` on a GPU whose build has no WGSL.
///
/// # Errors
/// When the device fails.
pub fn peak(device: &Device) -> Result<Option<f64>, DeviceError> {
    const TRIES: usize = 5;
    let mut best = None::<f64>;
    for _ in 0..TRIES {
        let rate = if device.is_cpu() {
            Some(on_processor())
        } else {
            on_gpu(device)?
        };
        best = rate.into_iter().chain(best).reduce(f64::max);
    }
    Ok(best)
}

fn on_processor() -> f64 {
    const TURNS: usize = 4_000_000;
    let threads = rayon::current_num_threads();
    let task = Chains {
        turns: TURNS,
        results: (0..threads).map(|_| AtomicU32::new(0)).collect(),
    };
    let instructions = Instructions::of_this_machine();
    let begun = Instant::now();
    (0..threads)
        .into_par_iter()
        .with_max_len(1)
        .for_each(|number| instructions.run(&task, number));
    let operations = 2 * 12 * super::vector::LANES * TURNS * threads;
    operations as f64 / begun.elapsed().as_secs_f64()
}

/// `shaders/peak.wgsl` in `groups` workgroups of 256 threads: the sum of each thread's chains after so many turns. `None` on the
/// processor, and where the build has no WGSL.
pub fn chains(device: &Device, groups: usize, turns: usize) -> Option<Tensor<1>> {
    use burn::backend::{Cube, DispatchDevice};
    use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
    if !super::gpu::IS_BUILT {
        return None;
    }
    adapters::gpu_of(device.tensors())?;
    let DispatchDevice::Cube(device) = device.tensors().as_dispatch() else {
        return None;
    };
    let client = device.client();
    let shape = burn::tensor::Shape::new([groups * 256]);
    let result = empty_device_contiguous_dtype(client.clone(), device.clone(), shape, burn::tensor::DType::F32);
    let launch = Launch {
        shader: &PEAK,
        constants: String::new(),
        groups: [groups as u32, 1, 1],
        words: &[turns as u32, STEP[0].to_bits(), STEP[1].to_bits()],
    };
    launch.over(&client, &[&result.handle]);
    Some(Tensor::from_primitive::<Cube>(result))
}

fn on_gpu(device: &Device) -> Result<Option<f64>, DeviceError> {
    let is_software = device.info().kind == super::DeviceClass::Software;
    let (groups, turns) = if is_software { (64, 2_000) } else { (4_096, 16_384) };
    device.sync()?;
    let begun = Instant::now();
    let Some(sums) = chains(device, groups, turns) else {
        return Ok(None);
    };
    read(sums.narrow(0, 0, 1))?;
    let operations = 2 * CHAINS * turns * groups * 256;
    Ok(Some(operations as f64 / begun.elapsed().as_secs_f64()))
}
