//! The self-check passes on every device of this machine, lavapipe included.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

use martlet::compute::{self, self_check};

#[test]
fn every_device_agrees_with_the_processor() {
    let listed = compute::devices();
    if !listed.iter().any(|info| info.api == "Vulkan") {
        assert!(
            std::env::var_os("CI").is_none(),
            "no Vulkan device: install lavapipe (mesa-vulkan-drivers)"
        );
        eprintln!("SKIPPED: no Vulkan device, so no GPU was checked here");
    }
    for info in listed.iter().filter(|info| info.api != "GL") {
        let device = compute::open(&info.selector).unwrap();
        let verdict = self_check::check(&device).unwrap();
        eprintln!("{verdict}");
        assert!(verdict.passed, "{verdict}\n{:#?}", verdict.worst);
        assert_eq!(verdict.worst.is_empty(), device.is_cpu());
        if !device.is_cpu() {
            let kernels = verdict
                .worst
                .iter()
                .filter(|comparison| comparison.name.starts_with("kernel "))
                .count();
            assert_eq!(kernels, if cfg!(feature = "fusion") { 0 } else { 3 });
        }
        let remembered = self_check::cached_or_check(&device).unwrap();
        assert!(remembered.passed);
    }
}
