//! Own defence: adversarial logit squeezing, `CE(p(x̂'), y) + β·mean_k z_k(x̂')²`, which Martlet does not have (after Shafahi et al.,
//! "Label smoothing and logit squeezing", 2019), in a training loop of one's own.
//!
//! `cargo run --release --example own_defence`
//!
//! To give a defence a name that recipes know, see `docs/extending.md`.

use std::time::Duration;

use martlet::{
    attacks::{Keep, Pgd},
    compute::{Device, read},
    data::{self, Dataset, Split},
    defences::{Defence, Loss, StepContext},
    engine::Sgd,
    nn::{Mode, Model},
    random::Rng,
    recipe::{Decay, Optimiser},
    shapes::{Batch, Images},
    threat::{Norm, Start, ThreatModel},
};

type Failure = Box<dyn std::error::Error>;

struct Squeeze {
    /// β.
    weight: f32,
}

impl Defence for Squeeze {
    // `perturb` is left as it is: the images climb the cross-entropy.
    fn loss(&mut self, model: &Model, batch: &Batch, adversarial: Images, step: &mut StepContext) -> Loss {
        let logits = model.forward(adversarial.clone(), Mode::Train);
        let cross_entropy = step.cross_entropy(logits.clone(), batch.labels.clone());
        let size = logits.clone().square().mean_dim(1).reshape([batch.len()]);
        Loss {
            objective: cross_entropy.clone() + size.clone() * self.weight,
            terms: vec![("cross_entropy", cross_entropy), ("size", size)],
            natural_logits: None,
            adversarial_logits: Some(logits),
            adversarial: Some(adversarial),
        }
    }
}

/// Trains on the first examples of a set for so many steps; gives each step's mean objective and mean size of the logits.
fn train(defence: &mut dyn Defence, train: &Dataset, steps: usize) -> Result<Vec<(f32, f32)>, Failure> {
    let device = Device::cpu();
    let mut rng = Rng::new(1);
    let mut model = Model::new(
        "dynamic-cnn".parse()?,
        train.shape(),
        train.classes(),
        &mut rng,
        &device,
    )?;
    let threat = ThreatModel {
        norm: Norm::Linf,
        epsilon: "0.1".parse()?,
    };
    let pgd = Pgd {
        steps: 3,
        step_size: "0.05".parse()?,
        start: Start::Uniform,
        restarts: 1,
        keep: Keep::Last,
    };
    let settings = Optimiser {
        learning_rate: 0.05,
        momentum: 0.9,
        nesterov: false,
        weight_decay: 0.0,
        decay: Decay::All,
        clip_gradient: None,
    };
    let mut sgd = Sgd::default();
    let mut course = Vec::new();
    for step in 0..steps {
        let positions: Vec<usize> = (0..32).map(|_| rng.below(train.len())).collect();
        let batch = train.batch(&positions, &device);
        // The attacked function is a snapshot: the attack takes no gradient of the weights.
        let attacked = model.clone();
        let function = |images| attacked.forward(images, Mode::Eval);
        let mut context = StepContext {
            attacked: &function,
            threat: &threat,
            pgd: &pgd,
            label_smoothing: 0.0,
            epoch: 0,
            rngs: &mut rng.each(batch.len()),
            attacking: Duration::ZERO,
        };
        let (loss, gradient) = defence.gradients(&model, &batch, &mut context)?;
        sgd.step(&mut model, gradient, &settings, settings.learning_rate);
        let mean = |values: martlet::shapes::PerExample| read(values.inner().mean()).map(|value| value[0]);
        let size = loss.terms.into_iter().find(|(name, _)| *name == "size");
        let size = size.map(|(_, values)| mean(values)).transpose()?.unwrap_or(f32::NAN);
        course.push((mean(loss.objective)?, size));
        if step % 10 == 9 {
            println!(
                "step {:3}: loss {:.3}, size of logits {:.3}",
                step + 1,
                course[step].0,
                size
            );
        }
    }
    Ok(course)
}

fn main() -> Result<(), Failure> {
    let set = data::load("glyphs", Split::Train)?;
    for weight in [0.0, 0.5] {
        println!("β = {weight}");
        train(&mut Squeeze { weight }, &set, 60)?;
    }
    Ok(())
}

#[test]
fn it_learns_and_keeps_logits_small() {
    let set = data::load("glyphs", Split::Train).unwrap();
    let free = train(&mut Squeeze { weight: 0.0 }, &set, 40).unwrap();
    let squeezed = train(&mut Squeeze { weight: 0.5 }, &set, 40).unwrap();
    let last = |course: &[(f32, f32)], part: fn(&(f32, f32)) -> f32| course[30..].iter().map(part).sum::<f32>() / 10.0;
    assert!(last(&free, |step| step.0) < free[0].0, "the loss falls");
    assert!(
        last(&squeezed, |step| step.1) < last(&free, |step| step.1),
        "the logits stay smaller"
    );
}
