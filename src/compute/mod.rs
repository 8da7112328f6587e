//! Devices, self-check, hand-written kernels and their twins.

use burn::tensor::{Int, Tensor};
use serde::Serialize;

/// What kind of thing computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
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
    /// Anything that the driver does not name.
    Other,
}

/// What is known of a device before it is opened.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceInfo {
    /// What `--device` takes to choose this device, such as `cpu` or `vulkan:0`.
    pub selector: String,
    /// The name that the driver gives.
    pub name: String,
    /// `CPU`, `Vulkan`, `Metal`, `DX12` or `GL`.
    pub api: String,
    /// What kind of device it is.
    pub kind: DeviceClass,
    /// The driver's name and version.
    pub driver: String,
    /// Memory in bytes, where the driver tells.
    pub memory_bytes: Option<u64>,
}

/// Why a device could not be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No device answers to the choice.
    #[error("no device answers to {choice:?}; expected auto, cpu, gpu:N, vulkan:N, metal:N, dx12:N or a part of a name; `martlet devices` lists what this machine has")]
    NotFound {
        /// What was asked for.
        choice: String,
    },
    /// The device was there and then failed.
    #[error("the device failed: {0}; the run's last checkpoint is kept: resume it, on another device with --device if this one is gone")]
    Failed(String),
}

/// An open device; cloning is cheap.
#[derive(Debug, Clone)]
pub struct Device {
    tensors: burn::tensor::Device,
    info: DeviceInfo,
}

impl Device {
    /// The processor.
    pub fn cpu() -> Self {
        Self {
            tensors: burn::tensor::Device::flex(),
            info: DeviceInfo {
                selector: "cpu".into(),
                name: "CPU".into(),
                api: "CPU".into(),
                kind: DeviceClass::Cpu,
                driver: format!("burn-flex {}", "0.22.1"),
                memory_bytes: None,
            },
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
}

/// The tensor's values on the host, in row-major order. This is a sync point.
///
/// # Errors
/// When the device failed before or during the read.
pub fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, DeviceError> {
    tensor
        .inner()
        .try_into_data()
        .map_err(|error| DeviceError::Failed(format!("{error:?}")))?
        .into_vec::<f32>()
        .map_err(|error| DeviceError::Failed(format!("{error:?}")))
}

/// The integers of a tensor on the host, in row-major order. This is a sync point.
///
/// # Errors
/// When the device failed before or during the read.
pub fn read_int<const D: usize>(tensor: Tensor<D, Int>) -> Result<Vec<i64>, DeviceError> {
    let data = tensor.inner().try_into_data().map_err(|error| DeviceError::Failed(format!("{error:?}")))?;
    Ok(data.iter::<i64>().collect())
}
