//! What several test files share; each takes its part.
#![allow(dead_code)]

use martlet::{
    compute::{self, Device},
    shapes::ImageShape,
};

/// MNIST's images.
pub const GREY: ImageShape = ImageShape {
    channels: 1,
    height: 28,
    width: 28,
};

/// CIFAR's images.
pub const COLOUR: ImageShape = ImageShape {
    channels: 3,
    height: 32,
    width: 32,
};

/// Every device of this machine but GL ones, whose drivers differ too much. Says loudly when no Vulkan device is
/// among them, and fails then where the environment variable `CI` is set.
pub fn devices() -> Vec<Device> {
    let mut listed = compute::devices();
    listed.retain(|info| info.api != "GL");
    if !listed.iter().any(|info| info.api == "Vulkan") {
        assert!(
            std::env::var_os("CI").is_none(),
            "no Vulkan device: install lavapipe (mesa-vulkan-drivers)"
        );
        eprintln!("SKIPPED: no Vulkan device, so no GPU was tested here");
    }
    listed
        .iter()
        .map(|info| compute::open(&info.selector).unwrap_or_else(|error| panic!("{}: {error}", info.selector)))
        .collect()
}

/// The first Vulkan device, software or not, by the rule of [`devices`].
pub fn vulkan() -> Option<Device> {
    devices().into_iter().find(|device| device.info().api == "Vulkan")
}

/// Fails where `ours` and `golden` differ by more than `tolerance` of the largest golden value.
#[track_caller]
pub fn agree(what: &str, ours: Vec<f32>, golden: &[f64], tolerance: f64) {
    let largest = golden.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    agree_within(what, ours, golden, tolerance, largest);
}

/// As [`agree`], where the golden values are some of a tensor whose largest value is `largest`.
#[track_caller]
pub fn agree_within(what: &str, ours: Vec<f32>, golden: &[f64], tolerance: f64, largest: f64) {
    assert_eq!(ours.len(), golden.len(), "{what}");
    let differences = ours.iter().zip(golden).map(|(a, b)| (f64::from(*a) - b).abs());
    let off = differences.fold(0.0, f64::max) / largest.max(1e-12);
    assert!(off < tolerance, "{what}: off by {off:e} of the largest");
}
