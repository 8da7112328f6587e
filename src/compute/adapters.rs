//! Which devices the machine has, and opening one.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use burn_wgpu::WgpuSetup;

use super::{Device, DeviceClass, DeviceError, DeviceInfo, gpu::MatrixUnits, guarded, hardware};

/// Graphics interfaces in the order in which the same card is preferred.
const INTERFACES: [(wgpu::Backend, &str); 4] = [
    (wgpu::Backend::Vulkan, "Vulkan"),
    (wgpu::Backend::Metal, "Metal"),
    (wgpu::Backend::Dx12, "DX12"),
    (wgpu::Backend::Gl, "GL"),
];

/// An adapter that wgpu found.
struct Listed {
    adapter: wgpu::Adapter,
    info: DeviceInfo,
    /// Whether the same card was already listed under an interface that is preferred to this one.
    again: bool,
}

/// Everything that wgpu finds, looked up once: driver loaders do not like instances that come and go on several
/// threads, and indices must not move under a person's feet.
struct Graphics {
    instance: wgpu::Instance,
    adapters: Vec<Listed>,
}

fn graphics() -> Option<&'static Graphics> {
    static GRAPHICS: OnceLock<Option<Graphics>> = OnceLock::new();
    GRAPHICS.get_or_init(|| catch_unwind(enumerate).ok()).as_ref()
}

fn adapters() -> &'static [Listed] {
    graphics().map_or(&[], |graphics| &graphics.adapters)
}

fn enumerate() -> Graphics {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let mut adapters: Vec<Listed> = Vec::new();
    for (interface, api) in INTERFACES {
        let found = catch_unwind(AssertUnwindSafe(|| {
            pollster::block_on(instance.enumerate_adapters(interface.into()))
        }));
        let mut cards: Vec<(u32, u32)> = Vec::new();
        let earlier = adapters.len();
        for (index, adapter) in found.unwrap_or_default().into_iter().enumerate() {
            let told = adapter.get_info();
            let info = describe(&adapter, &told, api, index);
            let card = (told.vendor, told.device);
            cards.push(card);
            let ordinal = cards.iter().filter(|other| **other == card).count();
            // GL names no card, so it counts only where nothing else shows a GPU.
            let again = if interface == wgpu::Backend::Gl {
                adapters[..earlier].iter().any(|listed| listed.info.kind.is_gpu())
            } else {
                INTERFACES
                    .iter()
                    .take_while(|(other, _)| *other != interface)
                    .any(|(other, _)| {
                        let same = |listed: &&Listed| {
                            let told = listed.adapter.get_info();
                            told.backend == *other && (told.vendor, told.device) == card
                        };
                        adapters.iter().filter(same).count() >= ordinal
                    })
            };
            adapters.push(Listed { adapter, info, again });
        }
    }
    Graphics { instance, adapters }
}

fn describe(adapter: &wgpu::Adapter, told: &wgpu::AdapterInfo, api: &str, index: usize) -> DeviceInfo {
    let kind = class_of(told.device_type, &told.name);
    let driver: Vec<&str> = [told.driver.as_str(), told.driver_info.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    let shares_memory = matches!(kind, DeviceClass::Software | DeviceClass::IntegratedGpu);
    DeviceInfo {
        selector: format!("{}:{index}", api.to_lowercase()),
        name: told.name.clone(),
        api: api.to_string(),
        kind,
        driver: if driver.is_empty() {
            "unnamed driver".to_string()
        } else {
            driver.join(", ")
        },
        memory_bytes: hardware::adapter_memory(adapter, shares_memory),
    }
}

/// The kind that a driver names; known software rasterisers are told by name too, since GL calls them anything.
fn class_of(device_type: wgpu::DeviceType, name: &str) -> DeviceClass {
    const SOFTWARE: [&str; 5] = [
        "llvmpipe",
        "softpipe",
        "swiftshader",
        "swrast",
        "microsoft basic render",
    ];
    let name = name.to_lowercase();
    if device_type == wgpu::DeviceType::Cpu || SOFTWARE.iter().any(|software| name.contains(software)) {
        return DeviceClass::Software;
    }
    match device_type {
        wgpu::DeviceType::DiscreteGpu => DeviceClass::DiscreteGpu,
        wgpu::DeviceType::IntegratedGpu => DeviceClass::IntegratedGpu,
        wgpu::DeviceType::VirtualGpu => DeviceClass::VirtualGpu,
        wgpu::DeviceType::Cpu => DeviceClass::Software,
        wgpu::DeviceType::Other => DeviceClass::Other,
    }
}

/// What is known of the processor.
pub(super) fn processor() -> DeviceInfo {
    static PROCESSOR: OnceLock<DeviceInfo> = OnceLock::new();
    PROCESSOR
        .get_or_init(|| {
            let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
            DeviceInfo {
                selector: "cpu".to_string(),
                name: format!(
                    "{}, {threads} {}",
                    hardware::processor().unwrap_or("Processor"),
                    if threads == 1 { "thread" } else { "threads" }
                ),
                api: "CPU".to_string(),
                kind: DeviceClass::Cpu,
                driver: "burn-flex 0.22.1".to_string(),
                memory_bytes: hardware::memory(),
            }
        })
        .clone()
}

/// Every device of this machine, the processor last. Never panics; a broken driver just shows nothing.
pub fn devices() -> Vec<DeviceInfo> {
    adapters()
        .iter()
        .map(|listed| listed.info.clone())
        .chain([processor()])
        .collect()
}

/// How many real GPUs this machine has, each card counted once: those that `gpu:N` names.
pub fn gpus() -> usize {
    adapters()
        .iter()
        .filter(|listed| listed.info.kind.is_gpu() && !listed.again)
        .count()
}

/// Opens the device that `choice` names:
///
/// - `auto`: the best real GPU (discrete before integrated before virtual, GL only where nothing else shows it), or
///   the processor where there is none; never a software rasteriser
/// - `cpu`: the processor
/// - `gpu:N`: the N-th real GPU, each card counted once, in the order of [`devices`]
/// - `vulkan:N`, `metal:N`, `dx12:N`, `gl:N`: the N-th adapter of that interface, software rasterisers included
/// - `remote:HOST:PORT`: the device that `martlet serve` offers there, in a program built with the feature `remote`
/// - a part of a name, at least two characters, in any case: the first device whose name has it, hardware first
///
/// A device that is open already is returned as it is: a runtime cannot be set up twice in one process.
///
/// # Errors
/// [`DeviceError::NotFound`] lists what there is; [`DeviceError::CannotOpen`] says what the driver said, [`DeviceError::Remote`] what is
/// wrong with another machine's.
pub fn open(choice: &str) -> Result<Device, DeviceError> {
    // The processor needs no driver to be loaded.
    if choice.trim().eq_ignore_ascii_case("cpu") {
        return Ok(Device::cpu());
    }
    if let Some(address) = choice.trim().strip_prefix("remote:") {
        return open_remote(address);
    }
    let all = adapters();
    match choose(
        choice,
        &all.iter()
            .map(|listed| (&listed.info, listed.again))
            .collect::<Vec<_>>(),
    ) {
        Some(Chosen::Processor) => Ok(Device::cpu()),
        Some(Chosen::Adapter(index)) => open_adapter(&all[index]),
        None => Err(DeviceError::NotFound {
            choice: choice.to_string(),
            available: devices()
                .iter()
                .map(|info| format!("{} ({}, {})", info.selector, info.name, info.kind))
                .collect::<Vec<_>>()
                .join("; "),
        }),
    }
}

#[cfg(feature = "remote")]
use super::remote::open as open_remote;

#[cfg(not(feature = "remote"))]
fn open_remote(address: &str) -> Result<Device, DeviceError> {
    Err(DeviceError::Remote {
        address: address.to_string(),
        reason: super::WITHOUT_REMOTE.to_string(),
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    Processor,
    Adapter(usize),
}

/// Which of `listed` (with whether the card was listed before) a choice means.
fn choose(choice: &str, listed: &[(&DeviceInfo, bool)]) -> Option<Chosen> {
    let choice = choice.trim().to_lowercase();
    let gpus = || (0..listed.len()).filter(|index| listed[*index].0.kind.is_gpu() && !listed[*index].1);
    match choice.as_str() {
        "cpu" => return Some(Chosen::Processor),
        "auto" => {
            let rank = |index: &usize| match listed[*index].0.kind {
                _ if listed[*index].0.api == "GL" => 3,
                DeviceClass::DiscreteGpu => 0,
                DeviceClass::IntegratedGpu => 1,
                _ => 2,
            };
            return Some(gpus().min_by_key(rank).map_or(Chosen::Processor, Chosen::Adapter));
        }
        _ => {}
    }
    if let Some(number) = choice.strip_prefix("gpu:") {
        return gpus().nth(number.parse().ok()?).map(Chosen::Adapter);
    }
    if let Some(index) = listed.iter().position(|(info, _)| info.selector == choice) {
        return Some(Chosen::Adapter(index));
    }
    let is_selector = INTERFACES
        .iter()
        .any(|(_, api)| choice.starts_with(&format!("{}:", api.to_lowercase())));
    if is_selector || choice.chars().count() < 2 {
        return None;
    }
    let named = |info: &DeviceInfo| {
        let name = info.name.to_lowercase();
        // Mesa's Vulkan rasteriser is called lavapipe everywhere but in its own adapter's name.
        name.contains(&choice) || (name.contains("llvmpipe") && info.api == "Vulkan" && "lavapipe".contains(&choice))
    };
    let matching = |software: bool| {
        listed
            .iter()
            .position(|(info, _)| (info.kind == DeviceClass::Software) == software && named(info))
    };
    match matching(false).or_else(|| matching(true)) {
        Some(index) => Some(Chosen::Adapter(index)),
        None => named(&processor()).then_some(Chosen::Processor),
    }
}

/// A device that is open, wgpu's own handle of it, and its matrix units.
struct Opened {
    device: Device,
    gpu: wgpu::Device,
    units: Option<MatrixUnits>,
}

static OPENED: Mutex<Vec<Opened>> = Mutex::new(Vec::new());

fn opened() -> std::sync::MutexGuard<'static, Vec<Opened>> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The GPU behind a tensor's device, if it is one that [`open()`] opened.
pub(super) fn gpu_of(tensors: &burn::tensor::Device) -> Option<wgpu::Device> {
    opened()
        .iter()
        .find(|opened| opened.device.tensors == *tensors)
        .map(|opened| opened.gpu.clone())
}

/// The matrix units of a GPU that [`open()`] opened, where kernels of ours can use them.
pub(super) fn matrix_units(tensors: &burn::tensor::Device) -> Option<MatrixUnits> {
    opened()
        .iter()
        .find(|opened| opened.device.tensors == *tensors)
        .and_then(|opened| opened.units)
}

/// Whether kernels of ours run on this device: it is the processor, or a GPU that [`open()`] opened.
pub(super) fn is_at_home(device: &burn::tensor::Device) -> bool {
    let device = device.clone().inner();
    device == burn::tensor::Device::flex() || (super::gpu::IS_BUILT && gpu_of(&device).is_some())
}

/// The device of an adapter; one that was lost meanwhile is set up anew.
fn open_adapter(listed: &Listed) -> Result<Device, DeviceError> {
    let find = |opened: &[Opened]| {
        let mut devices = opened.iter().map(|open| &open.device);
        devices
            .find(|device| device.info.selector == listed.info.selector)
            .cloned()
    };
    // Asked without the lock, which kernels take too: an answer may take as long as the work that is queued.
    let known = find(&opened());
    let is_lost = known.as_ref().is_some_and(|device| device.sync().is_err());
    let mut opened = opened();
    if let Some(lost) = known.filter(|_| is_lost) {
        opened.retain(|open| open.device.tensors != lost.tensors);
    }
    if let Some(device) = find(&opened) {
        return Ok(device);
    }
    let (tensors, gpu, units) =
        guarded(|| set_up(listed).map_err(DeviceError::Failed)).map_err(|error| DeviceError::CannotOpen {
            selector: listed.info.selector.clone(),
            name: listed.info.name.clone(),
            reason: error.reason(),
        })?;
    let device = Device {
        tensors,
        info: Arc::new(listed.info.clone()),
    };
    opened.push(Opened {
        device: device.clone(),
        gpu,
        units,
    });
    Ok(device)
}

/// Makes the wgpu device ourselves and hands it to burn, so that the very adapter that was listed is the one that
/// computes, and the hand-written kernels share its queue. With it the matrix units that they may use.
fn set_up(listed: &Listed) -> Result<(burn::tensor::Device, wgpu::Device, Option<MatrixUnits>), String> {
    let instance = graphics()
        .map(|graphics| graphics.instance.clone())
        .ok_or("no graphics driver answers")?;
    let adapter = listed.adapter.clone();
    let units = units_of(&adapter);
    let (device, queue) = request(&adapter, units.is_some())?;
    let backend = adapter.get_info().backend;
    let setup = WgpuSetup {
        instance,
        adapter,
        device: device.clone(),
        queue,
        backend,
    };
    share_one_stream();
    let tensors = burn::tensor::Device::wgpu_options()
        .setup(setup)
        .init()
        .map_err(|error| error.to_string())?;
    Ok((tensors, device, units))
}

/// Lets all threads share one stream of work, unless something chose otherwise before. By default each thread has its own,
/// with memory pools and compiled kernels that stay when the thread has ended: a window that trains, attacks and evaluates
/// on threads that come and go would fill the GPU. wgpu has one queue, so nothing is lost.
fn share_one_stream() {
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig, streaming::StreamPolicy};
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    config.streaming.policy = StreamPolicy::Single;
    // Where it is set already, as for a second device, it stands.
    CubeClRuntimeConfig::try_set(config);
}

/// The matrix units of an adapter: square matrices of float16 that are summed in float32, eight values of one to a thread of a subgroup
/// whose size does not vary. Others exist; kernels for them would be untried.
fn units_of(adapter: &wgpu::Adapter) -> Option<MatrixUnits> {
    use wgpu::{CooperativeScalarType as Kind, Features};
    let needed = Features::SHADER_F16 | Features::SUBGROUP | Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
    let told = adapter.get_info();
    let lanes = told.subgroup_min_size;
    let has_room = adapter.limits().max_compute_workgroup_storage_size >= 32_768;
    if !super::gpu::IS_BUILT || !has_room || !adapter.features().contains(needed) || told.subgroup_max_size != lanes {
        return None;
    }
    let offered = adapter.cooperative_matrix_properties();
    [16, 8].into_iter().find_map(|size| {
        let has = offered.iter().any(|offer| {
            [offer.m_size, offer.n_size, offer.k_size] == [size; 3]
                && (offer.ab_type, offer.cr_type) == (Kind::F16, Kind::F32)
        });
        (has && size * size == 8 * lanes).then_some(MatrixUnits { size, lanes })
    })
}

/// A device with every feature and limit that the adapter has, its matrix units where they are used: burn looks at the adapter to decide what
/// it may use.
fn request(adapter: &wgpu::Adapter, with_units: bool) -> Result<(wgpu::Device, wgpu::Queue), String> {
    // burn's SPIR-V compiler needs Vulkan features that only its own set-up asks for.
    #[cfg(feature = "spirv")]
    if adapter.get_info().backend == wgpu::Backend::Vulkan {
        let made = pollster::block_on(cubecl::wgpu::vulkan::try_request_vulkan_device(adapter));
        if let Some(made) = made.map_err(|error| error.to_string())? {
            return Ok(made);
        }
    }
    let unwanted = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS | wgpu::Features::all_experimental_mask();
    let mut features = adapter.features().difference(unwanted);
    let mut experiments = wgpu::ExperimentalFeatures::disabled();
    if with_units {
        features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        // SAFETY: matrices are read and written in workgroup memory alone, at places that the kernels' constants bound; the check of a device
        // compares what they give.
        experiments = unsafe { wgpu::ExperimentalFeatures::enabled() };
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("martlet"),
        required_features: features,
        experimental_features: experiments,
        required_limits: adapter.limits(),
        // Allocations are pooled above wgpu, so larger blocks below it would only be held twice.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    pollster::block_on(adapter.request_device(&descriptor)).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn info(selector: &str, name: &str, kind: DeviceClass) -> DeviceInfo {
        let api = selector.split(':').next().unwrap_or_default();
        let api = INTERFACES
            .iter()
            .find(|(_, known)| known.to_lowercase() == api)
            .map_or("CPU", |(_, known)| known);
        DeviceInfo {
            selector: selector.to_string(),
            name: name.to_string(),
            api: api.to_string(),
            kind,
            driver: "none".to_string(),
            memory_bytes: None,
        }
    }

    fn laptop() -> Vec<(DeviceInfo, bool)> {
        use DeviceClass::{DiscreteGpu, IntegratedGpu, Software};
        vec![
            (info("vulkan:0", "Intel(R) Iris(R) Xe Graphics", IntegratedGpu), false),
            (info("vulkan:1", "NVIDIA GeForce RTX 4060", DiscreteGpu), false),
            (info("vulkan:2", "llvmpipe (LLVM 15.0.6, 256 bits)", Software), false),
            (info("dx12:0", "NVIDIA GeForce RTX 4060", DiscreteGpu), true),
            (info("gl:0", "llvmpipe (LLVM 15.0.6, 256 bits)", Software), true),
        ]
    }

    fn chosen(choice: &str, listed: &[(DeviceInfo, bool)]) -> Option<Chosen> {
        choose(
            choice,
            &listed.iter().map(|(info, again)| (info, *again)).collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_choice_means_one_device() {
        for (choice, expected) in [
            ("auto", Some(Chosen::Adapter(1))),
            ("cpu", Some(Chosen::Processor)),
            ("CPU", Some(Chosen::Processor)),
            ("gpu:0", Some(Chosen::Adapter(0))),
            ("gpu:1", Some(Chosen::Adapter(1))),
            ("gpu:2", None),
            ("gpu:-1", None),
            ("vulkan:2", Some(Chosen::Adapter(2))),
            ("Vulkan:1", Some(Chosen::Adapter(1))),
            ("vulkan:3", None),
            ("dx12:0", Some(Chosen::Adapter(3))),
            ("metal:0", None),
            ("geforce", Some(Chosen::Adapter(1))),
            ("iris", Some(Chosen::Adapter(0))),
            ("llvmpipe", Some(Chosen::Adapter(2))),
            ("Lavapipe", Some(Chosen::Adapter(2))),
            ("gl:0", Some(Chosen::Adapter(4))),
            ("", None),
            ("4", None),
            ("no such card", None),
        ] {
            assert_eq!(chosen(choice, &laptop()), expected, "{choice:?}");
        }
    }

    #[test]
    fn auto_is_the_processor_where_only_software_pretends_to_be_a_gpu() {
        let software: Vec<_> = laptop()
            .into_iter()
            .filter(|(info, _)| info.kind == DeviceClass::Software)
            .collect();
        assert_eq!(chosen("auto", &software), Some(Chosen::Processor));
        assert_eq!(chosen("gpu:0", &software), None);
        assert_eq!(chosen("auto", &[]), Some(Chosen::Processor));
    }

    #[test]
    fn software_rasterisers_are_told_by_type_or_name() {
        assert_eq!(class_of(wgpu::DeviceType::Cpu, "anything"), DeviceClass::Software);
        assert_eq!(
            class_of(wgpu::DeviceType::Other, "llvmpipe (LLVM 15)"),
            DeviceClass::Software
        );
        assert_eq!(
            class_of(wgpu::DeviceType::Other, "Microsoft Basic Render Driver"),
            DeviceClass::Software
        );
        assert_eq!(
            class_of(wgpu::DeviceType::IntegratedGpu, "Apple M2"),
            DeviceClass::IntegratedGpu
        );
    }

    #[test]
    fn a_lost_device_is_an_error_and_no_panic() {
        let Some(listed) = adapters().iter().find(|listed| listed.info.api == "Vulkan") else {
            assert!(
                std::env::var_os("CI").is_none(),
                "no Vulkan device: install lavapipe (mesa-vulkan-drivers)"
            );
            return;
        };
        // A device of its own, so that losing it harms no other test.
        let (tensors, gpu, _) = set_up(listed).unwrap();
        let device = Device {
            tensors,
            info: Arc::new(listed.info.clone()),
        };
        let ones = || burn::tensor::Tensor::<1>::ones([300], device.tensors());
        let before = ones();
        assert_eq!(crate::compute::read(before.clone() + 1.0).unwrap(), [2.0; 300]);
        gpu.destroy();
        assert!(matches!(crate::compute::read(before), Err(DeviceError::Failed(_))));
        let after = guarded(|| crate::compute::read(ones() + 1.0));
        assert!(matches!(after, Err(DeviceError::Failed(_))), "{after:?}");
        assert!(device.sync().is_err());
    }
}
