//! The self-check passes on every device of this machine, lavapipe included.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod support;

use martlet::{
    engine::device_check::{self, Subject},
    nn::Architecture,
};

#[test]
fn every_device_agrees_with_the_processor() {
    for device in support::devices() {
        let verdict = device_check::check(&device).unwrap();
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
        let remembered = device_check::cached_or_check(&device).unwrap();
        assert!(remembered.passed);
    }
}

#[test]
fn a_network_is_checked_once_for_each_device() {
    let Some(device) = support::vulkan() else { return };
    let subject = Subject {
        batch: 3,
        ..Subject::usual(Architecture::SmallCnn)
    };
    let verdict = device_check::check_network(&subject, &device).unwrap();
    assert!(verdict.passed, "{verdict}\n{:#?}", verdict.worst);
    assert!(
        verdict
            .worst
            .iter()
            .any(|found| found.name == "small-cnn: gradient of the images")
    );
    let remembered = device_check::ensure_network(&subject, &device).unwrap();
    assert_eq!(remembered.unwrap().when, verdict.when);
}
