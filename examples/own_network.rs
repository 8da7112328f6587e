//! Own network: any function from images to logits can be attacked and measured, whatever it is made of. Here it is nearest
//! centroids: each class's logit is minus the squared distance to the mean of its training images.
//!
//! `cargo run --release --example own_network`
//!
//! To give a network a name that recipes know, see `docs/extending.md`.

use burn::tensor::{Tensor, TensorData};
use martlet::{
    compute::Device,
    control::Control,
    data::{self, Dataset, Split},
    evaluation::{Evaluation, Subject, evaluate_function},
    shapes::{Images, Logits},
    threat::{Norm, ThreatModel},
};

type Failure = Box<dyn std::error::Error>;

/// The mean image of each class, `[K, C·H·W]`.
fn centroids(train: &Dataset, device: &Device) -> Tensor<2> {
    let size = train.shape().len();
    let (mut sums, mut counts) = (vec![0.0f32; train.classes() * size], vec![0.0f32; train.classes()]);
    for position in 0..train.len() {
        let class = train.label(position);
        counts[class] += 1.0;
        for (sum, pixel) in sums[class * size..(class + 1) * size]
            .iter_mut()
            .zip(train.image(position))
        {
            *sum += f32::from(*pixel) / 255.0;
        }
    }
    for (mean, count) in sums.chunks_mut(size).zip(counts) {
        mean.iter_mut().for_each(|value| *value /= count.max(1.0));
    }
    Tensor::from_data(TensorData::new(sums, [train.classes(), size]), device.tensors())
}

/// `−‖x − c‖²` up to what all classes share: `2⟨x, c⟩ − ‖c‖²`.
fn logits(centroids: &Tensor<2>, images: Images) -> Logits {
    let [examples, channels, height, width] = images.dims();
    let flat = images.reshape([examples, channels * height * width]);
    let [classes, _] = centroids.dims();
    let lengths = centroids.clone().square().sum_dim(1).reshape([1, classes]);
    flat.matmul(centroids.clone().transpose()) * 2.0 - lengths
}

fn measure() -> Result<Evaluation, Failure> {
    let device = Device::cpu();
    let centroids = centroids(&data::load("glyphs", Split::Train)?, &device);
    let function = |images: Images| logits(&centroids, images);
    let subject = Subject {
        description: "nearest centroids".to_string(),
        logits: &function,
        attacked: &function,
        surrogate: None,
    };
    let threat = ThreatModel {
        norm: Norm::Linf,
        epsilon: "0.05".parse()?,
    };
    let test = data::load("glyphs", Split::Test)?.take(200);
    let suite = "natural,fgsm,pgd-20,square-200".parse()?;
    let found = evaluate_function(&subject, &test, &suite, &threat, &device, &Control::new(), &mut |_| {})?;
    Ok(found)
}

fn main() -> Result<(), Failure> {
    let found = measure()?;
    for attack in &found.attacks {
        println!(
            "{:<12} {:5.1} %  (N = {}, {} ε = {})",
            attack.name,
            100.0 * attack.accuracy(),
            found.n,
            found.norm,
            found.epsilon
        );
    }
    for warning in &found.warnings {
        println!("warning: {warning}");
    }
    Ok(())
}

#[test]
fn attacks_only_lower_its_accuracy() {
    let found = measure().unwrap();
    let natural = found.natural_accuracy();
    assert!(natural > 0.3, "{natural}");
    for attack in &found.attacks {
        assert!(attack.accuracy() <= natural, "{}", attack.name);
    }
    // A linear function's steepest ascent finds in twenty steps at least what it finds in one.
    assert!(found.attack("pgd-20").unwrap().accuracy() <= found.attack("fgsm").unwrap().accuracy());
    assert!(found.attack("fgsm").unwrap().accuracy() < natural);
}
