//! How fast a device is at what Martlet does with it.

use std::time::Instant;

use burn::tensor::{Int, Tensor, TensorData};

use crate::{
    attacks::{AttackError, value_and_gradient},
    compute::Device,
    losses,
    nn::{Architecture, Mode, Model},
    random::Rng,
    shapes::{ImageShape, Images},
};

/// Examples in a measured minibatch: the paper's.
const BATCH: usize = 128;

/// Floating-point operations of small-cnn's forward pass on one 28×28 image: two for each weight at each place.
const FORWARD: f64 = 2.0 * 9_952_400.0;

/// Side of the matrices whose product tells what the device can do at most.
const SIDE: usize = 1_024;

/// Timed repetitions, of which the median counts; one before them is not timed.
const REPETITIONS: usize = 5;

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub struct Speed {
    /// Images a second through one attack step of small-cnn: forward, and the gradient of the images.
    pub attack_images: f64,
    /// The same in 10¹² operations a second.
    pub attack_tera: f64,
    /// A product of two 1024×1024 matrices, in 10¹² operations a second: the measured peak.
    pub peak_tera: f64,
}

impl Speed {
    /// The attack step's share of the measured peak.
    pub fn share(&self) -> f64 {
        self.attack_tera / self.peak_tera
    }
}

impl std::fmt::Display for Speed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0} images/s through an attack step of small-cnn (minibatches of {BATCH}): {:.3} TFLOP/s, {:.0} % of the {:.3} TFLOP/s of a {SIDE}×{SIDE} matrix product",
            self.attack_images,
            self.attack_tera,
            100.0 * self.share(),
            self.peak_tera
        )
    }
}

/// Measures a device; seconds on a processor, longer where a GPU compiles its kernels first.
///
/// # Errors
/// When the device fails.
pub fn measure(device: &Device) -> Result<Speed, AttackError> {
    let rng = &mut Rng::new(1);
    let shape = ImageShape {
        channels: 1,
        height: 28,
        width: 28,
    };
    let values = |count: usize, rng: &mut Rng| (0..count).map(|_| rng.uniform(0.0, 1.0)).collect::<Vec<f32>>();
    let dims = [BATCH, 1, 28, 28];
    let images = Images::from_data(
        TensorData::new(values(BATCH * shape.len(), rng), dims),
        device.tensors(),
    );
    let labels = Tensor::<1, Int>::from_data(
        TensorData::new((0..BATCH as i64).map(|place| place % 10).collect::<Vec<i64>>(), [BATCH]),
        device.tensors(),
    );
    // Its classes and its input are those that small-cnn was made for.
    let Ok(model) = Model::new(Architecture::SmallCnn, shape, 10, rng, device) else {
        return Err(AttackError::MissingGradient);
    };
    let objective = |images: Images| losses::cross_entropy(model.forward(images, Mode::Eval), labels.clone());
    let step = median(|| {
        value_and_gradient(&objective, &images)?;
        Ok(device.sync()?)
    })?;
    let matrix = |rng: &mut Rng| {
        Tensor::<2>::from_data(
            TensorData::new(values(SIDE * SIDE, rng), [SIDE, SIDE]),
            device.tensors(),
        )
    };
    let (left, right) = (matrix(rng), matrix(rng));
    let product = median(|| {
        let _ = left.clone().matmul(right.clone());
        Ok(device.sync()?)
    })?;
    Ok(Speed {
        attack_images: BATCH as f64 / step,
        attack_tera: 2.0 * FORWARD * BATCH as f64 / step / 1e12,
        peak_tera: 2.0 * (SIDE as f64).powi(3) / product / 1e12,
    })
}

fn median(mut work: impl FnMut() -> Result<(), AttackError>) -> Result<f64, AttackError> {
    work()?;
    let mut seconds = Vec::with_capacity(REPETITIONS);
    for _ in 0..REPETITIONS {
        let began = Instant::now();
        work()?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[REPETITIONS / 2])
}
