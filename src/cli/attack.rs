//! `martlet attack`: adversarial images as pictures and as arrays.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};

use super::{
    DeviceOption, RunsDirOption, Stopped, WrongUse,
    evaluate::AttackNumbers,
    model::ModelOptions,
    open_device, stop_on_interrupt,
    terminal::{note, say, table},
};
use crate::{
    attacks::{Aim, Attack, until_stopped},
    compute::{read, read_int},
    data::{NpzValues, write_npz},
    engine::device_check::{self, Subject},
    files,
    nn::Mode,
    random::Rng,
    report::pictures,
    shapes::Labels,
    wording::percent,
};

/// Arguments of `martlet attack`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet attack runs/mnist-mart-1 --limit 16 --out adversarial\n  martlet attack runs/mnist-mart-1 --attack cw-20 --target 3 --out towards-3\n  martlet attack runs/mnist-mart-1 --attack deepfool --norm l2 --epsilon 10 --out smallest"
)]
pub struct AttackArguments {
    #[command(flatten)]
    model: ModelOptions,
    /// Any attack of `martlet evaluate`.
    #[arg(long, default_value = "pgd-20")]
    attack: String,
    #[command(flatten)]
    numbers: AttackNumbers,
    /// Drive towards one class instead of away from the true one.
    #[arg(long, value_name = "CLASS")]
    target: Option<usize>,
    /// The folder for the pictures (natural, perturbation, adversarial) and adversarial.npz.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The seed of the random start.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    device: DeviceOption,
    #[command(flatten)]
    runs_dir: RunsDirOption,
    /// Print one line of JSON for each image.
    #[arg(long)]
    json: bool,
}

/// Images attacked where no limit is given.
const DEFAULT_LIMIT: usize = 16;
/// Pixels of the picture for one of the image.
const ENLARGED: u32 = 6;

pub(super) fn run(mut arguments: AttackArguments) -> Result<()> {
    let mut attack = arguments.numbers.attack(&arguments.attack)?;
    arguments.numbers.check(std::slice::from_ref(&attack))?;
    if attack.needs_surrogate() {
        let wrong = format!("{} needs a surrogate, which `martlet evaluate` takes", attack.name);
        return Err(WrongUse(wrong).into());
    }
    arguments.model.limit.get_or_insert(DEFAULT_LIMIT);
    let control = stop_on_interrupt();
    let (device, _) = open_device(&arguments.device.device, false)?;
    let loaded = arguments.model.load(&arguments.runs_dir.runs_dir, &device)?;
    device_check::ensure_network(&Subject::of(&loaded.model, loaded.dataset.len().min(128)), &device)?;
    let (dataset, threat) = (&loaded.dataset, &loaded.threat);
    arguments.numbers.check_under(threat.norm)?;
    if let Some(target) = arguments.target {
        if target >= dataset.classes() {
            let wrong = format!(
                "--target: expected a class from 0 to {}, got {target}",
                dataset.classes() - 1
            );
            return Err(WrongUse(wrong).into());
        }
        let Some(ascent) = attack.ascent_mut() else {
            let wrong = format!("--target: expected fgsm, pgd-STEPS or cw-STEPS, got {}", attack.name);
            return Err(WrongUse(wrong).into());
        };
        ascent.aim = Aim::Target(target);
    }
    let batch = dataset.batch(&(0..dataset.len()).collect::<Vec<_>>(), &device);
    let logits = |images| loaded.model.forward(images, Mode::Eval);
    let attacked = until_stopped(&control, logits);
    let adversarial = attack.perturb(
        &attacked,
        &batch,
        threat,
        &mut Rng::new(arguments.seed).each(batch.len()),
    );
    if control.is_stopped() {
        return Err(Stopped("stopped; nothing was written".into()).into());
    }
    let adversarial = adversarial?;
    let predict = |images| -> Result<Vec<i64>> {
        let predicted: Labels = logits(images).argmax(1).reshape([dataset.len()]);
        Ok(read_int(predicted)?)
    };
    let before = predict(batch.images.clone())?;
    let after = predict(adversarial.clone())?;
    let distances = read(threat.distance(&batch.images, &adversarial))?;
    let natural_pixels = read(batch.images.clone())?;
    let adversarial_pixels = read(adversarial)?;

    fs::create_dir_all(&arguments.out)
        .with_context(|| format!("the folder cannot be made: {}", arguments.out.display()))?;
    let shape = dataset.shape();
    let name = |class: i64| {
        dataset
            .class_names()
            .get(class as usize)
            .cloned()
            .unwrap_or_else(|| class.to_string())
    };
    let mut rows = vec![
        ["image", "true class", "before", "after", "distance"]
            .map(str::to_string)
            .to_vec(),
    ];
    for position in 0..dataset.len() {
        let pixels = position * shape.len()..(position + 1) * shape.len();
        let picture = pictures::triptych(
            &natural_pixels[pixels.clone()],
            &adversarial_pixels[pixels],
            shape,
            None,
            ENLARGED,
        );
        let index = dataset.index(position);
        let file = arguments.out.join(format!("{index:05}.png"));
        files::save(&file, &pictures::png(&picture)?)?;
        let label = dataset.label(position) as i64;
        if arguments.json {
            say(serde_json::json!({
                "index": index, "label": label, "before": before[position], "after": after[position],
                "fooled": before[position] == label && after[position] != label,
                "distance": distances[position], "picture": file,
            }));
        }
        rows.push(vec![
            format!("{index:05}.png"),
            name(label),
            name(before[position]),
            name(after[position]),
            format!("{:.4}", distances[position]),
        ]);
    }
    let images_shape = [dataset.len(), shape.channels, shape.height, shape.width];
    let count = [dataset.len()];
    let labels: Vec<i64> = (0..dataset.len())
        .map(|position| dataset.label(position) as i64)
        .collect();
    let indices: Vec<i64> = batch.indices.iter().map(|index| *index as i64).collect();
    write_npz(
        &arguments.out.join("adversarial.npz"),
        &[
            ("x", &images_shape, NpzValues::F32(&adversarial_pixels)),
            ("natural", &images_shape, NpzValues::F32(&natural_pixels)),
            ("y", &count, NpzValues::I64(&labels)),
            ("index", &count, NpzValues::I64(&indices)),
        ],
    )?;
    if !arguments.json {
        say(table(&rows));
        let right = (0..dataset.len()).filter(|i| before[*i] == labels[*i]);
        let fooled = right.clone().filter(|i| after[*i] != labels[*i]).count();
        note(format!(
            "{}, {threat}: {fooled} of {} correctly classified images fooled; pictures and adversarial.npz in {}",
            match attack.settings(threat, loaded.model.classes()) {
                settings if settings.is_empty() => attack.name.clone(),
                settings => format!("{} with {settings}", attack.name),
            },
            right.count(),
            arguments.out.display()
        ));
        if let Some(target) = arguments.target {
            // Images of the target itself have nowhere to be driven to.
            let others: Vec<usize> = (0..dataset.len()).filter(|i| labels[*i] != target as i64).collect();
            let reached = others.iter().filter(|i| after[**i] == target as i64).count();
            say(format!(
                "{reached} of {} images of other classes are taken for {}: {}",
                others.len(),
                name(target as i64),
                percent(reached as f64 / others.len().max(1) as f64)
            ));
        }
    }
    Ok(())
}
