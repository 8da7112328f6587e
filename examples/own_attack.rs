//! Own attack: MI-FGSM (Dong et al., "Boosting adversarial attacks with momentum", CVPR 2018), which Martlet does not have.
//!
//! `cargo run --release --example own_attack`
//!
//! To give an attack a name that suites know, see `docs/extending.md`.

use burn::tensor::Tensor;
use martlet::{
    attacks::{Attack, AttackError, GRADIENT_COST, value_and_gradient},
    compute::{Device, DeviceError, read_int},
    data::{self, Split},
    losses,
    nn::{Mode, Model},
    random::Rng,
    shapes::{Batch, Images, Logits},
    threat::{Norm, ThreatModel},
};

type Failure = Box<dyn std::error::Error>;

/// `g ← μ·g + ∇/‖∇‖₁`, `x' ← Π(x' + (ε/steps)·sign(g))`.
struct Momentum {
    steps: usize,
    /// μ.
    decay: f64,
}

impl Attack for Momentum {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        _: &mut [Rng],
    ) -> Result<Images, AttackError> {
        let objective = |images| losses::cross_entropy(logits(images), batch.labels.clone());
        let step_size = threat.epsilon.value() / self.steps as f32;
        let mut current = batch.images.clone();
        let mut momentum = current.zeros_like();
        for _ in 0..self.steps {
            let (_, gradient) = value_and_gradient(&objective, &current)?;
            let examples = gradient.dims()[0];
            let length: Tensor<4> = gradient
                .clone()
                .abs()
                .reshape([examples as i64, -1])
                .sum_dim(1)
                .reshape([examples, 1, 1, 1]);
            momentum = momentum * self.decay + gradient / length.clamp_min(1e-12);
            // Inside the ball and inside [0, 1], in the threat model's own norm.
            current = threat.ascend(&batch.images, current, momentum.clone(), step_size);
        }
        Ok(current)
    }

    fn settings(&self, threat: &ThreatModel, _classes: usize) -> String {
        format!(
            "{} steps of {}/{}, μ = {}",
            self.steps, threat.epsilon, self.steps, self.decay
        )
    }

    fn passes(&self) -> usize {
        self.steps * GRADIENT_COST
    }
}

/// How many of a batch are classified correctly.
fn correct(logits: Logits, batch: &Batch) -> Result<usize, DeviceError> {
    let hits = logits.argmax(1).reshape([batch.len()]).equal(batch.labels.clone());
    Ok(read_int(hits.int().sum())?[0] as usize)
}

/// (correct naturally, correct under the attack, the largest distance) of 64 characters and an untrained network.
fn attack() -> Result<(usize, usize, f32), Failure> {
    let device = Device::cpu();
    let test = data::load("glyphs", Split::Test)?.take(64);
    let batch = test.batch(&(0..64).collect::<Vec<_>>(), &device);
    let model = Model::new(
        "dynamic-cnn".parse()?,
        test.shape(),
        test.classes(),
        &mut Rng::new(3),
        &device,
    )?;
    let function = |images| model.forward(images, Mode::Eval);
    let threat = ThreatModel {
        norm: Norm::Linf,
        epsilon: "0.1".parse()?,
    };
    let attack = Momentum { steps: 10, decay: 1.0 };
    println!("{} under {threat}", attack.settings(&threat, 10));
    let adversarial = attack.perturb(&function, &batch, &threat, &mut Rng::new(0).each(batch.len()))?;
    let distance = martlet::compute::read(threat.distance(&batch.images, &adversarial))?;
    Ok((
        correct(function(batch.images.clone()), &batch)?,
        correct(function(adversarial), &batch)?,
        distance.into_iter().fold(0.0, f32::max),
    ))
}

fn main() -> Result<(), Failure> {
    let (natural, robust, distance) = attack()?;
    println!("correct: {natural} of 64 naturally, {robust} under the attack, at most {distance} away");
    Ok(())
}

#[test]
fn it_stays_inside_the_threat_model_and_fools_the_network() {
    let (natural, robust, distance) = attack().unwrap();
    assert!(robust < natural, "{robust} of {natural}");
    assert!(distance > 0.05 && distance <= 0.1 + 1e-6, "{distance}");
}
