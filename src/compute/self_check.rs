//! A device against the processor: one fixed minibatch, everything that training uses.
//!
//! Drivers and kernel generators have given silently wrong numbers before, and a trainer that can be silently wrong is
//! worthless. So [`check`] runs one small network forward and backward on the device and on the processor, and each
//! hand-written kernel against its twin, and compares. The verdict is cached by device, driver and version of Martlet
//! ([`cached_or_check`]), and every run records it.

use std::{
    path::PathBuf,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use burn::tensor::{
    Gradients, Int, Tensor, TensorData,
    activation::{log_softmax, relu},
    module::{batch_norm, batch_norm_train, conv2d, linear, max_pool2d},
    ops::{ConvOptions, MaxPoolOptions},
};
use serde::{Deserialize, Serialize};

use super::{Device, DeviceError, Placement, guarded, kernels, read, reference};
use crate::{random::Rng, shapes::ImageShape};

/// The largest relative difference that passes.
///
/// f32 sums of a few hundred terms in another order differ by some 10⁻⁶, tensor cores with 10-bit mantissas by some
/// 10⁻⁴; wrong results differ by the order of 1. So 10⁻³ passes honest rounding and nothing else.
pub const TOLERANCE: f64 = 1e-3;

/// One quantity on the device against the processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What was compared.
    pub name: String,
    /// `max |device − processor| / max |processor|` over its elements; the largest f64 where the device gave a value
    /// that is not a number, or no value.
    pub relative_difference: f64,
}

/// What a self-check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether every comparison stays within [`TOLERANCE`].
    pub passed: bool,
    /// Every comparison, the worst first; empty for the processor, which is the reference itself.
    pub worst: Vec<Comparison>,
    /// The device's name.
    pub device: String,
    /// Its interface and driver.
    pub driver: String,
    /// The version of Martlet that checked.
    pub version: String,
    /// How long the check took, compiling of shaders included.
    pub seconds: f64,
    /// When it was done, in UTC: `2026-11-22T17:00:00Z`.
    pub when: String,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(worst) = self.worst.first() else {
            return write!(f, "{}: the processor, the reference itself", self.device);
        };
        let failed = self.worst.iter().filter(|comparison| !within(comparison)).count();
        if failed == 0 {
            write!(
                f,
                "{}: agrees with the processor in all {} comparisons",
                self.device,
                self.worst.len()
            )?;
        } else {
            write!(
                f,
                "{}: DISAGREES with the processor in {failed} of {} comparisons; do not train on it (--device cpu works)",
                self.device,
                self.worst.len()
            )?;
        }
        let difference = if worst.relative_difference < f64::MAX {
            format!("relative difference {:.1e}", worst.relative_difference)
        } else {
            "not a number".to_string()
        };
        write!(
            f,
            "; worst: {}, {difference}; {}; {:.1} s on {}",
            worst.name, self.driver, self.seconds, self.when
        )
    }
}

fn within(comparison: &Comparison) -> bool {
    comparison.relative_difference <= TOLERANCE
}

/// Compares the device with the processor now, and remembers the verdict. A failed comparison is a verdict, no error.
///
/// # Errors
/// When the device stops working during the check.
pub fn check(device: &Device) -> Result<Verdict, DeviceError> {
    let begun = Instant::now();
    let mut worst = Vec::new();
    if !device.is_cpu() {
        let expected = guarded(|| training_step(&Device::cpu()))?;
        let actual = guarded(|| training_step(device))?;
        worst = expected
            .iter()
            .zip(&actual)
            .map(|((name, expected), (_, actual))| compare(name, actual, expected))
            .collect();
        worst.extend(guarded(|| written_kernels(device))?);
        worst.sort_by(|a, b| b.relative_difference.total_cmp(&a.relative_difference));
    }
    let info = device.info();
    let verdict = Verdict {
        passed: worst.iter().all(within),
        worst,
        device: info.name.clone(),
        driver: format!("{}, {}", info.api, info.driver),
        version: env!("CARGO_PKG_VERSION").to_string(),
        seconds: begun.elapsed().as_secs_f64(),
        when: utc(SystemTime::now()),
    };
    if !device.is_cpu() {
        remember(device, &verdict);
    }
    Ok(verdict)
}

/// The remembered verdict for this device, driver and version if the device passed; else [`check`].
///
/// # Errors
/// When the device stops working during the check.
pub fn cached_or_check(device: &Device) -> Result<Verdict, DeviceError> {
    let remembered = (!device.is_cpu()).then(|| recall(device)).flatten();
    match remembered {
        Some(verdict) if verdict.passed => Ok(verdict),
        _ => check(device),
    }
}

fn compare(name: &str, actual: &[f32], expected: &[f32]) -> Comparison {
    let largest = expected
        .iter()
        .fold(0.0_f64, |largest, value| largest.max(f64::from(*value).abs()));
    let differences = actual
        .iter()
        .zip(expected)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    // Not `f64::max`, which would swallow NaN.
    let worst = differences.fold(
        0.0_f64,
        |worst, next| if worst.is_nan() || next <= worst { worst } else { next },
    );
    let relative = worst / largest.max(f64::from(f32::MIN_POSITIVE));
    let whole = actual.len() == expected.len() && relative.is_finite();
    Comparison {
        name: name.to_string(),
        relative_difference: if whole { relative } else { f64::MAX },
    }
}

/// Fixed numbers for one purpose, the same on every machine.
fn numbers(stream: u64, count: usize, low: f32, high: f32) -> Vec<f32> {
    let mut rng = Rng::stream(2026, stream);
    (0..count).map(|_| rng.uniform(low, high)).collect()
}

fn tensor<const D: usize>(stream: u64, shape: [usize; D], low: f32, high: f32, device: &Device) -> Tensor<D> {
    let values = numbers(stream, shape.iter().product(), low, high);
    Tensor::from_data(TensorData::new(values, shape), device.tensors())
}

// Both convolutions have one shape, since every further shape costs a software rasteriser seconds of compiling.
const EXAMPLES: usize = 4;
const CHANNELS: usize = 4;
const SIZE: usize = 8;
const FEATURES: usize = CHANNELS * SIZE * SIZE / 4;
const CLASSES: usize = 5;

type Named = Vec<(String, Vec<f32>)>;

/// Convolution, batch normalisation with the batch's statistics, ReLU, convolution, batch normalisation with given
/// statistics, ReLU, max pooling, linear layer, cross-entropy; backward; one step of SGD with momentum and weight decay.
fn training_step(device: &Device) -> Result<Named, DeviceError> {
    let leaf1 = |stream, size, low, high| tensor::<1>(stream, [size], low, high, device).autodiff().require_grad();
    let leaf4 = |stream, shape| tensor::<4>(stream, shape, -0.4, 0.4, device).autodiff().require_grad();
    let images = tensor::<4>(0, [EXAMPLES, CHANNELS, SIZE, SIZE], 0.0, 1.0, device)
        .autodiff()
        .require_grad();
    // A bias before the batch's own statistics would change nothing, and its gradient be rounding alone.
    let weight1 = leaf4(1, [CHANNELS, CHANNELS, 3, 3]);
    let (scale1, shift1) = (leaf1(3, CHANNELS, 0.5, 1.5), leaf1(4, CHANNELS, -0.2, 0.2));
    let (weight2, bias2) = (leaf4(5, [CHANNELS, CHANNELS, 3, 3]), leaf1(2, CHANNELS, -0.1, 0.1));
    let (scale2, shift2) = (leaf1(6, CHANNELS, 0.5, 1.5), leaf1(7, CHANNELS, -0.2, 0.2));
    let (mean, variance) = (
        tensor::<1>(8, [CHANNELS], -0.1, 0.1, device),
        tensor::<1>(9, [CHANNELS], 0.5, 1.5, device),
    );
    let weight3 = tensor::<2>(10, [FEATURES, CLASSES], -0.3, 0.3, device)
        .autodiff()
        .require_grad();
    let bias3 = leaf1(11, CLASSES, -0.1, 0.1);
    let labels: Vec<i32> = (0..EXAMPLES).map(|example| (example * 2 % CLASSES) as i32).collect();
    let labels = Tensor::<2, Int>::from_data(TensorData::new(labels, [EXAMPLES, 1]), device.tensors());

    let same = || ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
    let hidden = conv2d(images.clone(), weight1.clone(), None, same());
    let normed = batch_norm_train(hidden, scale1.clone(), shift1.clone(), 1e-5);
    let (batch_mean, batch_variance) = (normed.mean.inner(), normed.variance.inner());
    let hidden = conv2d(relu(normed.output), weight2.clone(), Some(bias2.clone()), same());
    let hidden = relu(batch_norm(hidden, scale2.clone(), shift2.clone(), mean, variance, 1e-5));
    let hidden = max_pool2d(hidden, MaxPoolOptions::new([2, 2]));
    let logits = linear(
        hidden.reshape([EXAMPLES, FEATURES]),
        weight3.clone(),
        Some(bias3.clone()),
    );
    let loss = -log_softmax(logits.clone(), 1).gather(1, labels).mean();
    let mut gradients = loss.backward();

    let mut found = vec![
        ("loss".to_string(), read(loss)?),
        ("logits".to_string(), read(logits)?),
        ("batch mean".to_string(), read(batch_mean)?),
        ("batch variance".to_string(), read(batch_variance)?),
    ];
    take("gradient of the images", &images, &mut gradients, &mut found)?;
    let updated = {
        let gradient = weight1.grad(&gradients);
        gradient.map(|gradient| {
            let weight = weight1.clone().inner();
            let momentum = tensor::<4>(12, weight.dims(), -0.1, 0.1, device) * 0.9 + gradient + weight.clone() * 5e-4;
            weight - momentum * 0.1
        })
    };
    found.push((
        "updated weight of convolution 1".to_string(),
        updated.map_or(Ok(Vec::new()), read)?,
    ));
    take("gradient of convolution 1", &weight1, &mut gradients, &mut found)?;
    take("gradient of scale 1", &scale1, &mut gradients, &mut found)?;
    take("gradient of shift 1", &shift1, &mut gradients, &mut found)?;
    take("gradient of convolution 2", &weight2, &mut gradients, &mut found)?;
    take("gradient of bias 2", &bias2, &mut gradients, &mut found)?;
    take("gradient of scale 2", &scale2, &mut gradients, &mut found)?;
    take("gradient of shift 2", &shift2, &mut gradients, &mut found)?;
    take("gradient of linear layer", &weight3, &mut gradients, &mut found)?;
    take("gradient of its bias", &bias3, &mut gradients, &mut found)?;
    Ok(found)
}

/// Takes a leaf's gradient; a missing one gives no values, which no comparison passes.
fn take<const D: usize>(
    name: &str,
    leaf: &Tensor<D>,
    gradients: &mut Gradients,
    found: &mut Named,
) -> Result<(), DeviceError> {
    let values = leaf.grad_remove(gradients).map_or(Ok(Vec::new()), read)?;
    found.push((name.to_string(), values));
    Ok(())
}

/// Each hand-written kernel on the device against its twin on the processor; none where the device runs none.
fn written_kernels(device: &Device) -> Result<Vec<Comparison>, DeviceError> {
    const SHAPE: [usize; 4] = [3, 2, 9, 13];
    let on = |device: &Device| {
        [
            tensor::<4>(20, SHAPE, 0.0, 1.0, device),
            tensor::<4>(21, SHAPE, 0.0, 1.0, device),
            tensor::<4>(22, SHAPE, -1e-4, 1e-4, device),
        ]
    };
    let mut found = Vec::new();
    let [natural, current, gradient] = on(&Device::cpu());
    let twins = [reference::linf_ascend, reference::l2_ascend]
        .map(|twin| twin(natural.clone(), current.clone(), gradient.clone(), 0.3, 0.05));
    let [natural, current, gradient] = on(device);
    let launches = [
        ("linf_ascend", kernels::linf_ascend as fn(_, _, _, _, _) -> _),
        ("l2_ascend", kernels::l2_ascend),
    ];
    for ((name, launch), twin) in launches.into_iter().zip(twins) {
        if let Some(result) = launch(&natural, &current, &gradient, 0.3, 0.05) {
            found.push(compare(&format!("kernel {name}"), &read(result)?, &read(twin)?));
        }
    }

    let shape = ImageShape {
        channels: SHAPE[1],
        height: SHAPE[2],
        width: SHAPE[3],
    };
    let bytes: Vec<u8> = numbers(23, SHAPE.iter().product(), 0.0, 256.0)
        .into_iter()
        .map(|value| value as u8)
        .collect();
    let placements: Vec<Placement> = (0..3)
        .map(|example| Placement {
            dy: example,
            dx: 4 - example,
            flip: example == 1,
        })
        .collect();
    if let Some(result) = kernels::pad_crop_flip(&bytes, shape, 2, &placements, device) {
        let twin = reference::pad_crop_flip(&bytes, shape, 2, &placements, &Device::cpu());
        found.push(compare("kernel pad_crop_flip", &read(result)?, &read(twin)?));
    }
    Ok(found)
}

/// Where the verdict on a device is kept: in the user's cache folder, named by everything that it depends on.
fn place(device: &Device) -> Option<PathBuf> {
    let variable = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = variable("XDG_CACHE_HOME").or_else(|| {
        if cfg!(target_os = "windows") {
            variable("LOCALAPPDATA")
        } else if cfg!(target_os = "macos") {
            variable("HOME").map(|home| home.join("Library/Caches"))
        } else {
            variable("HOME").map(|home| home.join(".cache"))
        }
    })?;
    let info = device.info();
    let compiler = if cfg!(feature = "spirv") { "spirv" } else { "wgsl" };
    let fusion = if cfg!(feature = "fusion") { "fusion" } else { "plain" };
    let parts = [
        info.api.as_str(),
        &info.name,
        &info.driver,
        compiler,
        fusion,
        env!("CARGO_PKG_VERSION"),
    ];
    Some(
        cache
            .join("martlet/self-check")
            .join(format!("{}.json", file_name(&parts.join(" ")))),
    )
}

/// Letters, digits and dots of `text` in lower case, everything else as single hyphens, at most 200 bytes.
fn file_name(text: &str) -> String {
    let mut name = String::new();
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || character == '.' {
            name.push(character.to_ascii_lowercase());
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    let from = name.len().saturating_sub(200);
    name[from..].trim_matches(['-', '.']).to_string()
}

fn recall(device: &Device) -> Option<Verdict> {
    let verdict: Verdict = serde_json::from_slice(&std::fs::read(place(device)?).ok()?).ok()?;
    (verdict.device == device.info().name && verdict.version == env!("CARGO_PKG_VERSION")).then_some(verdict)
}

/// Writes the verdict to the cache. A cache that cannot be written only costs the next check.
fn remember(device: &Device, verdict: &Verdict) {
    let Some(place) = place(device) else { return };
    let Some(folder) = place.parent() else { return };
    let Ok(text) = serde_json::to_vec_pretty(verdict) else {
        return;
    };
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        std::io::Write::write_all(&mut file, &text)?;
        file.persist(&place).map_err(|error| error.error)
    });
    drop(written);
}

/// The date and time of day in UTC (Howard Hinnant's civil calendar from a count of days).
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let day_of_era_0 = days + 719_468;
    let (era, day_of_era) = (day_of_era_0 / 146_097, day_of_era_0 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_notice_differences_missing_values_and_nan() {
        let expected = [1.0, -2.0, 0.5];
        assert_eq!(compare("same", &expected, &expected).relative_difference, 0.0);
        assert_eq!(compare("off", &[1.0, -2.0, 0.75], &expected).relative_difference, 0.125);
        for wrong in [
            &[f32::NAN, -2.0, 0.5][..],
            &[1.0, -2.0, f32::NAN],
            &[1.0, f32::INFINITY, 0.5],
            &[1.0],
            &[],
        ] {
            let comparison = compare("wrong", wrong, &expected);
            assert!(!within(&comparison), "{wrong:?} passed");
            assert_eq!(comparison.relative_difference, f64::MAX);
        }
    }

    #[test]
    fn a_verdict_survives_its_file_and_says_what_is_wrong() {
        let verdict = Verdict {
            passed: false,
            worst: vec![compare("loss", &[f32::NAN], &[1.0]), compare("logits", &[1.0], &[1.0])],
            device: "Card".to_string(),
            driver: "Vulkan, driver 1".to_string(),
            version: "0.1.0".to_string(),
            seconds: 1.5,
            when: utc(UNIX_EPOCH),
        };
        let back: Verdict = serde_json::from_str(&serde_json::to_string(&verdict).unwrap()).unwrap();
        assert_eq!(back, verdict);
        let said = verdict.to_string();
        assert!(
            said.contains("DISAGREES") && said.contains("1 of 2") && said.contains("not a number"),
            "{said}"
        );
    }

    #[test]
    fn the_processor_is_its_own_reference() {
        let verdict = check(&Device::cpu()).unwrap();
        assert!(verdict.passed && verdict.worst.is_empty());
        assert!(verdict.to_string().contains("reference"));
    }

    #[test]
    fn the_network_of_the_check_is_alive() {
        let step = training_step(&Device::cpu()).unwrap();
        assert_eq!(step.len(), 15);
        for (name, values) in step {
            assert!(!values.is_empty(), "{name} is missing");
            assert!(values.iter().all(|value| value.is_finite()), "{name} is not finite");
            assert!(
                values.iter().any(|value| value.abs() > 1e-6),
                "{name} is zero everywhere"
            );
        }
    }

    #[test]
    fn times_and_file_names_are_readable() {
        let at = |seconds| utc(UNIX_EPOCH + std::time::Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59Z");
        assert_eq!(
            file_name("Vulkan AMD Radeon(TM) 780M, Mesa 25.0/1"),
            "vulkan-amd-radeon-tm-780m-mesa-25.0-1"
        );
        assert!(!file_name("../../etc").contains('/'));
    }
}
