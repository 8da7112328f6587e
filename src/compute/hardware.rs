//! What the system tells of its memory, its processor, and the memory of an adapter.

use std::sync::OnceLock;

use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

/// What the system says of the machine; it is asked once.
struct Machine {
    memory: Option<u64>,
    processor: Option<String>,
}

fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let wanted = RefreshKind::nothing()
            .with_memory(MemoryRefreshKind::nothing().with_ram())
            .with_cpu(CpuRefreshKind::nothing());
        let system = System::new_with_specifics(wanted);
        let brand = system.cpus().first().map(|cpu| cpu.brand().trim().to_string());
        Machine {
            memory: Some(system.total_memory()).filter(|bytes| *bytes > 0),
            processor: brand.filter(|brand| !brand.is_empty()),
        }
    })
}

/// The machine's memory in bytes, where the system tells.
pub fn memory() -> Option<u64> {
    machine().memory
}

/// The processor's name as its maker writes it, where the system tells.
pub fn processor() -> Option<&'static str> {
    machine().processor.as_deref()
}

/// The operating system's name, version and kernel, as a bug report needs them.
pub fn system() -> String {
    let told = [
        System::long_os_version(),
        System::kernel_version().map(|version| format!("kernel {version}")),
    ];
    let told: Vec<String> = told.into_iter().flatten().collect();
    if told.is_empty() {
        std::env::consts::OS.to_string()
    } else {
        told.join(", ")
    }
}

/// The memory in bytes that a driver calls its adapter's own; for one that shares the machine's, what it may use of it.
/// `None` where the interface does not tell.
pub fn adapter_memory(adapter: &wgpu::Adapter, shares_memory: bool) -> Option<u64> {
    let told = match adapter.get_info().backend {
        #[cfg(any(target_os = "linux", target_os = "windows"))]
        wgpu::Backend::Vulkan => vulkan_memory(adapter),
        #[cfg(target_os = "windows")]
        wgpu::Backend::Dx12 => dx12_memory(adapter, shares_memory),
        #[cfg(target_vendor = "apple")]
        wgpu::Backend::Metal => metal_memory(adapter),
        _ => None,
    };
    told.filter(|bytes| *bytes > 0)
        .or_else(|| shares_memory.then(memory).flatten())
}

/// The heaps that a Vulkan driver calls local to the device.
#[cfg(any(target_os = "linux", target_os = "windows"))]
fn vulkan_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the handle is only used for the query below and not kept; nothing of wgpu's is destroyed or changed.
    let vulkan = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    // SAFETY: the physical device belongs to this very instance, which the adapter keeps alive.
    let memory = unsafe {
        let instance = vulkan.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(vulkan.raw_physical_device())
    };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    let local = heaps.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0);
    Some(local.map(|heap| heap.size).sum())
}

/// A card's own memory; for an integrated GPU also what Windows lets it use of the machine's.
#[cfg(target_os = "windows")]
fn dx12_memory(adapter: &wgpu::Adapter, shares_memory: bool) -> Option<u64> {
    // SAFETY: the handle is only used for the query below and not kept.
    let dx12 = unsafe { adapter.as_hal::<wgpu::hal::api::Dx12>() }?;
    // SAFETY: a query without arguments on an adapter that is alive.
    let told = unsafe { dx12.raw_adapter().GetDesc2() }.ok()?;
    let shared = if shares_memory { told.SharedSystemMemory } else { 0 };
    Some(told.DedicatedVideoMemory as u64 + shared as u64)
}

/// What Metal says that the device can hold without slowing down.
#[cfg(target_vendor = "apple")]
fn metal_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    use objc2_metal::MTLDevice as _;
    // SAFETY: the handle is only used for the query below and not kept.
    let metal = unsafe { adapter.as_hal::<wgpu::hal::api::Metal>() }?;
    Some(metal.raw_device().recommendedMaxWorkingSetSize())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_machine_tells_its_memory_and_its_processor() {
        let bytes = super::memory().unwrap_or(0);
        assert!(bytes > 1 << 28, "{bytes} bytes of memory");
        #[cfg(target_os = "linux")]
        {
            let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
            let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            assert_eq!(Some(bytes), kilobytes.map(|kilobytes| kilobytes * 1024));
        }
        if cfg!(any(target_os = "macos", target_os = "windows", target_arch = "x86_64")) {
            assert!(super::processor().is_some_and(|name| name.len() > 3));
        }
    }
}
