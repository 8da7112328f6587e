//! The self-check passes on every device of this machine, lavapipe included.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod support;

use martlet::compute::self_check;

#[test]
fn every_device_agrees_with_the_processor() {
    for device in support::devices() {
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
