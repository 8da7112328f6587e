//! How training examples fare with a checkpoint: what a training in the window tells of them as it goes, asked for afterwards.

use super::Examples;
use crate::{
    attacks::{AttackError, Keep, Pgd, maximise},
    compute::{self, Device},
    control::{Control, Next},
    data::Dataset,
    losses,
    nn::{Mode, Model},
    random::Rng,
    recipe::Recipe,
};

/// Images of a pass.
const AT_ONCE: usize = 128;

/// Tells of some training examples what the model says to them, naturally and under the attack that the recipe trains against.
///
/// # Errors
/// When the device fails or the model gives no gradient.
pub fn survey(
    model: &Model,
    recipe: &Recipe,
    (data, positions): (&Dataset, &[usize]),
    epoch: usize,
    device: &Device,
    control: &Control,
    tell: &mut dyn FnMut(Examples),
) -> Result<(), AttackError> {
    let pgd = Pgd {
        steps: recipe.attack.steps,
        step_size: recipe.attack.step_size.clone(),
        start: recipe.attack.start,
        restarts: 1,
        keep: Keep::Last,
    };
    let mut rng = Rng::new(recipe.seed);
    for part in positions.chunks(AT_ONCE) {
        if control.pass() == Next::Stop {
            break;
        }
        let batch = data.batch(part, device);
        let logits = |images| model.forward(images, Mode::Eval);
        let climb = |images| losses::cross_entropy(logits(images), batch.labels.clone());
        let adversarial = maximise(&climb, &batch.images, &recipe.threat, &pgd, &mut rng.each(batch.len()))?;
        tell(Examples {
            epoch,
            indices: batch.indices.clone(),
            natural: Some(compute::read(logits(batch.images.clone()))?),
            adversarial: Some(compute::read(logits(adversarial))?),
        });
    }
    Ok(())
}
