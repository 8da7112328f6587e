//! Whether a device computes what the processor computes: the verdict, how values are compared, the small kernels.
//!
//! Drivers and kernel generators have given silently wrong numbers before, and a trainer that can be silently wrong is
//! worthless. [`written_kernels`] compares each kernel of an attack step with its twin; `engine::device_check` takes whole
//! networks forward and back. A verdict is kept by device, driver, build and what was compared ([`recall`]), and every run records
//! it.

mod store;

use std::time::{Instant, SystemTime};

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{Device, DeviceError, Placement, kernels, read, reference};
use crate::{random::Rng, shapes::ImageShape};

pub use store::{keep, kept, recall};

/// The largest relative difference that passes, but for what jumps ([`Comparison::that_jumps`]).
///
/// f32 sums of a few hundred terms in another order differ by some 10⁻⁶, tensor cores with 10-bit mantissas by some
/// 10⁻⁴; wrong results differ by the order of 1. So 10⁻³ passes honest rounding and nothing else.
pub const TOLERANCE: f64 = 1e-3;

/// One quantity on the device against the processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// What was compared.
    pub name: String,
    /// `max |device − processor| / max |processor|` over its elements, or `‖device − processor‖ / ‖processor‖`; the largest
    /// f64 where the device gave a value that is not a number, or no value.
    pub relative_difference: f64,
    /// The largest that passes.
    #[serde(default = "tolerance")]
    pub allowed: f64,
}

fn tolerance() -> f64 {
    TOLERANCE
}

impl Comparison {
    /// By the largest element.
    pub fn of_elements(name: &str, actual: &[f32], expected: &[f32]) -> Self {
        let worst = largest(differences(actual, expected));
        let scale = largest(expected.iter().map(|value| f64::from(*value).abs()));
        Self::new(name, actual.len() == expected.len(), worst, scale)
    }

    /// By Euclidean length, for gradients: they jump where the input of a ReLU crosses zero, so that single values may differ
    /// between two exact enough passes.
    pub fn of_length(name: &str, actual: &[f32], expected: &[f32]) -> Self {
        let length = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        let off = length(&mut differences(actual, expected));
        let scale = length(&mut expected.iter().map(|value| f64::from(*value)));
        Self::new(name, actual.len() == expected.len(), off, scale)
    }

    /// Allows as much more as the processor's own values move when what it reads moves by a rounding, `moved`. Measured for a
    /// small network and 128 images: weights that move by 10⁻⁶ move the images' gradient by 4·10⁻³, by 10⁻⁵ by 10⁻².
    #[must_use]
    pub fn that_jumps(self, moved: &Self) -> Self {
        /// How many such movements pass: two passes round in many places.
        const MOVEMENTS: f64 = 4.0;
        /// Wrong gradients differ by the order of 1.
        const MOST: f64 = 0.1;
        let allowed = (MOVEMENTS * moved.relative_difference).clamp(TOLERANCE, MOST);
        Self { allowed, ..self }
    }

    /// Allows so much: where factors are rounded to float16, what reads them jumps by its last place, a thousandth.
    #[must_use]
    pub fn allowing(self, allowed: f64) -> Self {
        Self { allowed, ..self }
    }

    fn new(name: &str, is_whole: bool, off: f64, scale: f64) -> Self {
        let relative = off / scale.max(f64::from(f32::MIN_POSITIVE));
        Self {
            name: name.to_string(),
            relative_difference: if is_whole && relative.is_finite() {
                relative
            } else {
                f64::MAX
            },
            allowed: TOLERANCE,
        }
    }

    fn share(&self) -> f64 {
        self.relative_difference / self.allowed
    }
}

fn differences(actual: &[f32], expected: &[f32]) -> impl Iterator<Item = f64> {
    let pairs = actual.iter().zip(expected);
    pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
}

/// Not `f64::max`, which would swallow NaN.
fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(
        0.0,
        |worst: f64, next| if worst.is_nan() || next <= worst { worst } else { next },
    )
}

/// What a self-check found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether every comparison stays within what it allows.
    pub passed: bool,
    /// Every comparison, the worst first; empty for the processor, which is the reference itself.
    pub worst: Vec<Comparison>,
    /// The device's name.
    pub device: String,
    /// Its interface and driver.
    pub driver: String,
    /// The version of Martlet that checked.
    pub version: String,
    /// Which build of it: the program's size and time.
    #[serde(default)]
    pub build: String,
    /// How long the check took, compiling of shaders included.
    pub seconds: f64,
    /// When it was done, in UTC: `2026-11-22T17:00:00Z`.
    pub when: String,
}

impl Verdict {
    /// The verdict on a device from what was compared since `begun`, in any order. None on the processor.
    pub fn new(device: &Device, begun: Instant, mut comparisons: Vec<Comparison>) -> Self {
        comparisons.sort_by(|a, b| b.share().total_cmp(&a.share()));
        let info = device.info();
        Self {
            passed: comparisons.iter().all(within),
            worst: comparisons,
            device: info.name.clone(),
            driver: format!("{}, {}", info.api, info.driver),
            version: env!("CARGO_PKG_VERSION").to_string(),
            build: store::build(),
            seconds: begun.elapsed().as_secs_f64(),
            when: store::utc(SystemTime::now()),
        }
    }

    /// Keeps it in the user's cache folder for [`recall`]. A cache that cannot be written only costs the next check.
    pub fn remember(&self, device: &Device, subject: &str) {
        store::remember(device, subject, self);
    }
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
            format!(
                "relative difference {:.1e} of {:.0e} allowed",
                worst.relative_difference, worst.allowed
            )
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
    comparison.relative_difference <= comparison.allowed
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

/// Each hand-written kernel on the device against its twin on the processor; none where the device runs none.
pub fn written_kernels(device: &Device) -> Result<Vec<Comparison>, DeviceError> {
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
            found.push(Comparison::of_elements(
                &format!("kernel {name}"),
                &read(result)?,
                &read(twin)?,
            ));
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
        found.push(Comparison::of_elements(
            "kernel pad_crop_flip",
            &read(result)?,
            &read(twin)?,
        ));
    }
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_notice_differences_missing_values_and_nan() {
        let expected = [1.0, -2.0, 0.5];
        assert_eq!(
            Comparison::of_elements("same", &expected, &expected).relative_difference,
            0.0
        );
        assert_eq!(
            Comparison::of_elements("off", &[1.0, -2.0, 0.75], &expected).relative_difference,
            0.125
        );
        for wrong in [
            &[f32::NAN, -2.0, 0.5][..],
            &[1.0, -2.0, f32::NAN],
            &[1.0, f32::INFINITY, 0.5],
            &[1.0],
            &[],
        ] {
            let comparison = Comparison::of_elements("wrong", wrong, &expected);
            assert!(!within(&comparison), "{wrong:?} passed");
            assert_eq!(comparison.relative_difference, f64::MAX);
            assert_eq!(
                Comparison::of_length("wrong", wrong, &expected).relative_difference,
                f64::MAX
            );
        }
        assert_eq!(
            Comparison::of_length("off", &[1.0, 1.0], &[1.0, 0.0]).relative_difference,
            1.0
        );
        // What jumps may differ as far as it moves by itself, and never by the order of 1.
        let off = |by: f32| Comparison::of_length("off", &[1.0 + by], &[1.0]);
        assert!(within(&off(0.02).that_jumps(&off(0.01))) && !within(&off(0.05).that_jumps(&off(0.01))));
        assert!(within(&off(0.0009).that_jumps(&off(0.0))) && !within(&off(0.0011).that_jumps(&off(0.0))));
        assert!(!within(&off(0.2).that_jumps(&off(0.5))));
    }

    #[test]
    fn a_verdict_survives_its_file_and_says_what_is_wrong() {
        let verdict = Verdict {
            passed: false,
            worst: vec![
                Comparison::of_elements("loss", &[f32::NAN], &[1.0]),
                Comparison::of_elements("logits", &[1.0], &[1.0]),
            ],
            device: "Card".to_string(),
            driver: "Vulkan, driver 1".to_string(),
            version: "0.1.0".to_string(),
            build: String::new(),
            seconds: 1.5,
            when: "1970-01-01T00:00:00Z".to_string(),
        };
        let back: Verdict = serde_json::from_str(&serde_json::to_string(&verdict).unwrap()).unwrap();
        assert_eq!(back, verdict);
        let said = verdict.to_string();
        assert!(
            said.contains("DISAGREES") && said.contains("1 of 2") && said.contains("not a number"),
            "{said}"
        );
    }
}
