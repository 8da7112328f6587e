//! Devices, self-check, hand-written kernels and their twins.
//!
//! [`open()`] chooses a device at run time and gives a [`Device`]; [`devices`] lists what there is. The three
//! operations that every attack and every batch goes through ([`linf_ascend`], [`l2_ascend`], [`pad_crop_flip`])
//! have up to three forms: composed tensor operations that run anywhere ([`mod@reference`]), hand-written WGSL for GPUs
//! ([`kernels`]), and one fused loop on the processor ([`host`]). The functions of this module choose among them;
//! `docs/measurements/` holds the figures behind each choice. [`self_check`] compares a device with the processor.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::shapes::{ImageShape, Images};

mod adapters;
mod blocked;
mod execute;
mod gpu;
pub mod graph;
mod hardware;
pub mod host;
pub mod kernels;
mod logits;
mod pooled;
mod processor;
pub mod profile;
pub mod reference;
#[cfg(feature = "remote")]
pub mod remote;
pub mod self_check;
mod stages;
mod together;
mod vector;

pub use adapters::{devices, gpus, open};
pub use execute::{Convolution, Network, Run, execute};
pub use gpu::{MatrixUnits, Products, launch::counting as counting_launches};
pub use hardware::system;
pub use logits::{Loss, divergence, halves, loss, mean_backward, sum_backward};
pub use together::{Exchange, Said};

/// What to do where another machine's device is asked for.
#[cfg(not(feature = "remote"))]
pub const WITHOUT_REMOTE: &str =
    "this program was built without the feature `remote`: cargo build --release --features remote builds one with it";

/// What kind of thing computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceClass {
    /// The processor, through burn's `flex` backend.
    Cpu,
    /// A graphics card with its own memory.
    DiscreteGpu,
    /// A graphics unit that shares the processor's memory.
    IntegratedGpu,
    /// A GPU handed through by a hypervisor.
    VirtualGpu,
    /// A software rasteriser such as lavapipe: for checking, not for work.
    Software,
    /// A device of another machine.
    Remote,
    /// Anything that the driver does not name.
    Other,
}

impl DeviceClass {
    /// Whether this is hardware made for such work, not the processor in one guise or another.
    pub fn is_gpu(self) -> bool {
        matches!(self, Self::DiscreteGpu | Self::IntegratedGpu | Self::VirtualGpu)
    }
}

impl std::fmt::Display for DeviceClass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "processor",
            Self::DiscreteGpu => "discrete GPU",
            Self::IntegratedGpu => "integrated GPU",
            Self::VirtualGpu => "virtual GPU",
            Self::Software => "software rasteriser",
            Self::Remote => "on another machine",
            Self::Other => "unnamed kind",
        })
    }
}

/// What is known of a device before it is opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceInfo {
    /// What `--device` takes to choose this device, such as `cpu` or `vulkan:0`.
    pub selector: String,
    /// The name that the driver gives.
    pub name: String,
    /// `CPU`, `Vulkan`, `Metal`, `DX12` or `GL`; with `, remote` behind it where another machine has it.
    pub api: String,
    /// What kind of device it is.
    pub kind: DeviceClass,
    /// The driver's name and version.
    pub driver: String,
    /// Memory in bytes, where the driver tells: a card's own, or the machine's where the device shares it.
    pub memory_bytes: Option<u64>,
}

/// Why a device could not be opened or used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeviceError {
    /// No device answers to the choice.
    #[error(
        "no device answers to {choice:?}; expected auto, cpu, gpu:N, vulkan:N, metal:N, dx12:N, gl:N, remote:HOST:PORT or \
         a part of a name; this machine has {available}"
    )]
    NotFound {
        /// What was asked for.
        choice: String,
        /// Every device that there is: selector and name.
        available: String,
    },
    /// The device is listed, but its driver would not open it.
    #[error("the driver of {selector} ({name}) would not open it: {reason}; --device cpu works everywhere")]
    CannotOpen {
        /// What `--device` takes to choose the device.
        selector: String,
        /// Its name.
        name: String,
        /// What the driver said.
        reason: String,
    },
    /// A device of another machine does not answer as it should.
    #[error("the remote device at {address}: {reason}")]
    Remote {
        /// Where it was looked for: `HOST:PORT`.
        address: String,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// The device was there and then failed.
    #[error(
        "the device failed: {0}; the run's last checkpoint is kept: resume it, on another device if this one is \
         gone"
    )]
    Failed(String),
}

impl DeviceError {
    /// What went wrong, without what that means for a run under way.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Failed(reason) => reason,
            other => other.to_string(),
        }
    }
}

/// A device that is open; cloning is cheap.
#[derive(Clone)]
pub struct Device {
    tensors: burn::tensor::Device,
    info: Arc<DeviceInfo>,
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({}, {})", self.info.selector, self.info.name)
    }
}

impl Device {
    /// The processor.
    pub fn cpu() -> Self {
        Self {
            tensors: burn::tensor::Device::flex(),
            info: Arc::new(adapters::processor()),
        }
    }

    /// The plain device, without gradients, on which tensors are created.
    pub fn tensors(&self) -> &burn::tensor::Device {
        &self.tensors
    }

    /// What is known of the device.
    pub fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Whether this is the processor.
    pub fn is_cpu(&self) -> bool {
        self.info.kind == DeviceClass::Cpu
    }

    /// Gives memory that no tensor uses any more back to the system. A GPU's runtime keeps pools for each thread that
    /// worked on it, also after the thread has ended: whoever ends such a thread calls this last.
    pub fn release(&self) {
        // A device that fails here fails at the next read too, where somebody can be told.
        let _ = guarded(|| {
            self.tensors.memory_cleanup();
            Ok(())
        });
        if self.is_cpu() {
            blocked::clear_pools();
        }
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        // SAFETY: it takes the allocator's own locks and touches only what nobody holds.
        unsafe {
            // glibc has a heap for every few threads, and keeps what they freed: a software GPU's compiler leaves
            // hundreds of MiB there.
            libc::malloc_trim(0);
        }
    }

    /// How steps of training multiply on the device: as they are, or in mixed precision ([`Device::half_products`]).
    pub fn products(&self, mixed_precision: bool) -> Option<Products> {
        if mixed_precision {
            self.half_products()
        } else {
            Some(Products::Single)
        }
    }

    /// How the device multiplies factors that are rounded to float16: on its matrix units, where kernels of ours can use them. `None` on the
    /// processor and on another machine's device, which do not.
    pub fn half_products(&self) -> Option<Products> {
        let is_ours = gpu::IS_BUILT && adapters::gpu_of(&self.tensors).is_some();
        let units = adapters::matrix_units(&self.tensors);
        is_ours.then(|| units.map_or(Products::Rounded, Products::OnMatrixUnits))
    }

    /// Loses a GPU as a driver's reset does, for tests of what happens then.
    #[doc(hidden)]
    pub fn lose(&self) {
        if let Some(gpu) = adapters::gpu_of(&self.tensors) {
            gpu.destroy();
        }
    }

    /// Waits until everything that was asked of the device is done.
    ///
    /// # Errors
    /// When the device was lost. A failure of one operation may show only when its result is read.
    pub fn sync(&self) -> Result<(), DeviceError> {
        guarded(|| {
            self.tensors
                .sync()
                .map_err(|error| DeviceError::Failed(error.to_string()))
        })?;
        if !self.is_cpu() {
            // The runtime reports a lost device at a read, not here: so read something.
            guarded(|| read(Tensor::<1>::from_data([0.0_f32], &self.tensors)))?;
        }
        Ok(())
    }

    /// Bytes that tensors occupy on the device now; `None` where the backend does not count them (the processor).
    pub fn memory_bytes_in_use(&self) -> Option<u64> {
        guarded(|| Ok(self.tensors.memory_pool_usage()))
            .ok()
            .flatten()
            .map(|usage| usage.bytes_in_use)
    }
}

/// The tensor's values on the host, in row-major order. This is a sync point.
///
/// # Errors
/// When the device failed before or during the read.
pub fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, DeviceError> {
    guarded(|| {
        let data = tensor
            .inner()
            .try_into_data()
            .map_err(|error| DeviceError::Failed(error.to_string()))?;
        data.convert::<f32>()
            .try_into_vec::<f32>()
            .map_err(|error| DeviceError::Failed(format!("{error:?}")))
    })
}

/// The integers of a tensor on the host, in row-major order. This is a sync point.
///
/// # Errors
/// When the device failed before or during the read.
pub fn read_int<const D: usize>(tensor: Tensor<D, Int>) -> Result<Vec<i64>, DeviceError> {
    guarded(|| {
        let data = tensor
            .inner()
            .try_into_data()
            .map_err(|error| DeviceError::Failed(error.to_string()))?;
        Ok(data.iter::<i64>().collect())
    })
}

/// Runs `work` and turns a panic of the GPU runtime into an error: it panics where a driver breaks its promises,
/// and a lost device must not take the program along.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, DeviceError>) -> Result<T, DeviceError> {
    let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
        let said = said.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(DeviceError::Failed(said.unwrap_or_else(|| {
            "the GPU runtime stopped without a message".to_string()
        })))
    });
    #[cfg(feature = "remote")]
    let done = done.map_err(remote::in_words);
    done
}

/// One step of projected gradient ascent inside the L∞ ball:
/// `clip01(clamp(current + step_size·sign(gradient), natural − epsilon, natural + epsilon))`.
///
/// `sign(0)` and `sign(NaN)` are 0, so a broken gradient leaves the image where it is; finding it out is the caller's.
/// The result is inside `[0, 1]` exactly, and inside the ball to half a unit in the last place of a value below 1
/// (2⁻²⁵ ≈ 3·10⁻⁸): each bound is one correctly rounded sum of f32 values, and `clamp` and clipping only select.
///
/// # Shapes
/// All images `[N, C, H, W]`, natural ones in `[0, 1]`.
///
/// # Source
/// Madry et al. 2018, section 2.1 (projected gradient descent on the negative loss).
pub fn linf_ascend(natural: Images, current: Images, gradient: Images, epsilon: f32, step_size: f32) -> Images {
    let written = [kernels::linf_ascend, host::linf_ascend];
    ascend(
        written,
        reference::linf_ascend,
        natural,
        current,
        gradient,
        (epsilon, step_size),
    )
}

/// One step of projected gradient ascent inside the L2 ball: `current + step_size·g/max(|g|₂, TINY)`, projected onto
/// the ball of radius `epsilon` round `natural`, clipped to `[0, 1]`; norms are per example.
///
/// Elements of the gradient that are not finite count as 0, and an example whose gradient is 0 stays where it is.
/// The result is inside `[0, 1]` exactly. Clipping cannot leave the ball, since `natural` is itself inside `[0, 1]`;
/// what remains is rounding, at most 2⁻²⁵ in each element and a few units in the last place of the scale.
///
/// # Shapes
/// All images `[N, C, H, W]`, natural ones in `[0, 1]`.
///
/// # Source
/// Madry et al. 2018, section 2.1, with the steepest step of the L2 norm.
pub fn l2_ascend(natural: Images, current: Images, gradient: Images, epsilon: f32, step_size: f32) -> Images {
    let written = [kernels::l2_ascend, host::l2_ascend];
    ascend(
        written,
        reference::l2_ascend,
        natural,
        current,
        gradient,
        (epsilon, step_size),
    )
}

/// A form of an ascent step that runs on one kind of device; `None` on others.
type Written = fn(&Images, &Images, &Images, f32, f32) -> Option<Images>;
/// The form in composed operations, which runs everywhere.
type Composed = fn(Images, Images, Images, f32, f32) -> Images;

fn ascend(
    written: [Written; 2],
    composed: Composed,
    natural: Images,
    current: Images,
    gradient: Images,
    (epsilon, step_size): (f32, f32),
) -> Images {
    let (natural, current, gradient) = (natural.inner(), current.inner(), gradient.inner());
    if natural.dims().contains(&0) {
        return natural;
    }
    written
        .into_iter()
        .find_map(|form| form(&natural, &current, &gradient, epsilon, step_size))
        .unwrap_or_else(|| composed(natural, current, gradient, epsilon, step_size))
}

/// The numbers of a step of stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Descent {
    /// η.
    pub learning_rate: f32,
    /// μ.
    pub momentum: f32,
    /// λ, on the parameters that decay.
    pub weight_decay: f32,
    /// How many of the first parameters decay.
    pub decayed: usize,
    /// Whether the step looks ahead (Nesterov).
    pub nesterov: bool,
}

/// One step of stochastic gradient descent over a flat vector: `d = g + λ·w`, `v ← μ·v + d`, `w ← w − η·v` (Nesterov:
/// `w ← w − η·(d + μ·v)`); without a velocity `v = d`. Gives parameters and velocity.
///
/// # Shapes
/// All `[parameters]`.
///
/// # Source
/// PyTorch's `torch.optim.SGD` without dampening.
pub fn sgd_step(
    parameters: Tensor<1>,
    velocity: Option<Tensor<1>>,
    gradient: Tensor<1>,
    descent: &Descent,
) -> (Tensor<1>, Tensor<1>) {
    if let Some(moved) = kernels::sgd_step(&parameters, velocity.as_ref(), &gradient, descent) {
        return moved;
    }
    match host::sgd_step(parameters, velocity, gradient, descent) {
        Ok(moved) => moved,
        Err(back) => {
            let (parameters, velocity, gradient) = *back;
            reference::sgd_step(parameters, velocity, gradient, descent)
        }
    }
}

/// The Euclidean length of a vector, `[1]`.
pub fn length(values: &Tensor<1>) -> Tensor<1> {
    kernels::length(values)
        .or_else(|| host::length(values))
        .unwrap_or_else(|| reference::length(values.clone()))
}

/// Where one image is cut out of its zero-padded self, and whether it is mirrored then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// Rows from the top of the padded image: `0..=2·pad`; `pad` leaves the image where it was.
    pub dy: u32,
    /// Columns from the left of the padded image: `0..=2·pad`.
    pub dx: u32,
    /// Whether the crop is mirrored left to right.
    pub flip: bool,
}

/// Images on the device from bytes on the host, each divided by 255, padded with `pad` zeros on every side, cropped
/// back to its own size at its placement, then mirrored if its placement says so.
///
/// # Shapes
/// `images` holds `N·C·H·W` bytes in row-major order, `placements` N entries; the result is `[N, C, H, W]`. Pixels that
/// neither has are 0.
pub fn pad_crop_flip(
    images: &[u8],
    shape: ImageShape,
    pad: usize,
    placements: &[Placement],
    device: &Device,
) -> Images {
    // A software rasteriser shares the processor and its memory: there the upload costs nothing, and the loop is faster.
    let worth_it = device.info().kind != DeviceClass::Software;
    let placed = worth_it
        .then(|| kernels::pad_crop_flip(images, shape, pad, placements, device))
        .flatten();
    placed.unwrap_or_else(|| reference::pad_crop_flip(images, shape, pad, placements, device))
}
