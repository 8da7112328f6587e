//! `martlet demo`: two defences from one seed on the built-in data, attacked and compared, in about two minutes.

use std::path::Path;

use anyhow::{Context, Result};

use super::{
    DeviceOption, Reporter, RunsDirOption, evaluate, open_device, stop_on_interrupt,
    terminal::{duration, note, percent, say, table},
    train,
};
use crate::{
    attacks::{Attack, AttackSpec},
    compute::{Device, read, read_int},
    control::Control,
    data::{self, Dataset, Split},
    defences::DefenceSpec,
    engine::TrainingData,
    evaluation::{Evaluation, Suite, evaluate as measure},
    losses::Form,
    nn::{Mode, Model},
    random::Rng,
    recipe::{Recipe, Schedule, preset},
    report::{
        page::{Picture, RunReport, write_page},
        pictures,
    },
    runs::{self, Run, write_atomic},
    shapes::Labels,
};

/// Arguments of `martlet demo`.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  martlet demo\n  martlet demo --device gpu:0 --seed 2")]
pub struct DemoArguments {
    #[command(flatten)]
    device: DeviceOption,
    /// The seed of everything random; both defences start from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    runs_dir: RunsDirOption,
    /// Print the comparison as JSON.
    #[arg(long)]
    json: bool,
}

impl Default for DemoArguments {
    fn default() -> Self {
        Self {
            device: DeviceOption::default(),
            seed: 1,
            runs_dir: RunsDirOption::default(),
            json: false,
        }
    }
}

/// What fits into two minutes on two processor cores.
const TRAINING_EXAMPLES: usize = 1_600;
const TEST_EXAMPLES: usize = 300;
const EPOCHS: usize = 4;
const ATTACK_STEPS: usize = 5;
/// Pictures for each defence, and pixels of theirs for one of the image.
const GALLERY: usize = 9;
const ENLARGED: u32 = 4;
/// At this radius a network after so short a training still gets some ten per cent of its training images wrong.
const EPSILON: &str = "0.1";
/// What the comparison attacks with.
const ATTACKS: [&str; 4] = ["natural", "fgsm", "pgd-20", "cw-20"];

/// A trained defence and how it stood up.
struct Contestant {
    name: String,
    run: Run,
    evaluation: Evaluation,
    gallery: Vec<Picture>,
    seconds: f64,
}

/// Runs the demo.
pub fn run(arguments: DemoArguments) -> Result<()> {
    let began = std::time::Instant::now();
    note(
        "Martlet trains two defences on its built-in characters from one seed and attacks both; about two minutes on two processor cores.",
    );
    let control = stop_on_interrupt();
    let (device, identity) = open_device(&arguments.device.device, false)?;
    let test = data::load("glyphs", Split::Test)?.take(TEST_EXAMPLES);
    let mut contestants = Vec::new();
    for defence in [
        DefenceSpec::Standard,
        DefenceSpec::Mart {
            lambda: 5.0,
            form: Form::Paper,
        },
    ] {
        let name = defence.to_string();
        let recipe = recipe(defence, arguments.seed)?;
        let data = TrainingData::load(&recipe)?;
        let runs_dir = &arguments.runs_dir.runs_dir;
        let run_name = runs::pick_name(runs_dir, &format!("demo-{}", recipe.defence.name()))?;
        let mut run = train::create(runs_dir, &run_name, &recipe, &data, &identity)?;
        let mut reporter = Reporter::new("", false);
        let started = std::time::Instant::now();
        let model = train::train(
            &recipe,
            &data,
            &mut run,
            &device,
            identity.clone(),
            &control,
            &mut |event| {
                reporter.tell(event);
            },
        )?;
        if control.is_stopped() {
            note(format!(
                "to go on: martlet train --resume --name {run_name} --runs-dir {}",
                runs_dir.display()
            ));
            return Ok(());
        }
        let seconds = started.elapsed().as_secs_f64();
        let evaluation = attack(&model, &test, &recipe, &device, &control)?;
        keep(&run, &evaluation)?;
        let gallery = fooled(&model, &test, &evaluation, &recipe, &device, &run)?;
        contestants.push(Contestant {
            name,
            run,
            evaluation,
            gallery,
            seconds,
        });
    }
    if arguments.json {
        let all: Vec<_> = contestants
            .iter()
            .map(|c| serde_json::json!({ "defence": c.name, "run": c.run.folder(), "seconds": c.seconds, "evaluation": c.evaluation }))
            .collect();
        say(serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    let page = contestants
        .last()
        .map(|contestant| contestant.run.folder().join("report.html"));
    tell(&contestants, page.as_deref(), began.elapsed().as_secs_f64());
    if let Some(page) = &page {
        let reports = contestants
            .into_iter()
            .map(|c| RunReport::of(&c.run, &c.name, Some(c.evaluation), c.gallery))
            .collect::<Result<Vec<_>, _>>()?;
        write_page(page, "Two defences on the built-in characters", &reports)?;
    }
    Ok(())
}

/// The same recipe for both but for the defence.
fn recipe(defence: DefenceSpec, seed: u64) -> Result<Recipe> {
    let mut recipe = preset("glyphs-mart")?;
    recipe.defence = defence;
    recipe.seed = seed;
    recipe.epochs = EPOCHS;
    recipe.data.limit_train = Some(TRAINING_EXAMPLES);
    recipe.data.held_out = 200;
    recipe.threat.epsilon = EPSILON.parse()?;
    recipe.attack.steps = ATTACK_STEPS;
    recipe.attack.step_size = recipe.threat.epsilon.divided_by(4);
    recipe.schedule = Schedule::Cosine;
    recipe.warm_up.epsilon_epochs = 1.0;
    recipe.evaluation.attacks = vec!["natural".into(), "pgd-10".into()];
    recipe.evaluation.limit = Some(200);
    Ok(recipe)
}

fn attack(model: &Model, test: &Dataset, recipe: &Recipe, device: &Device, control: &Control) -> Result<Evaluation> {
    let attacks = ATTACKS
        .iter()
        .map(|name| name.parse::<AttackSpec>())
        .collect::<Result<Vec<_>, _>>()?;
    let mut suite = Suite::new(attacks);
    suite.seed = recipe.seed;
    suite.probes = false;
    let mut progress = evaluate::Progress::new();
    let result = measure(model, test, &suite, &recipe.threat, device, control, &mut |event| {
        progress.tell(event)
    });
    progress.finish();
    let mut evaluation = result?;
    evaluation.dataset.split = Some("test".into());
    Ok(evaluation)
}

/// Pictures of test characters that the network knows and PGD-20 makes it mistake; also kept beside the run.
fn fooled(
    model: &Model,
    test: &Dataset,
    evaluation: &Evaluation,
    recipe: &Recipe,
    device: &Device,
    run: &Run,
) -> Result<Vec<Picture>> {
    let Some(column) = evaluation.attacks.iter().position(|attack| attack.name == "pgd-20") else {
        return Ok(Vec::new());
    };
    let positions: Vec<usize> = evaluation
        .examples
        .iter()
        .enumerate()
        .filter(|(_, example)| example.natural == example.label && !example.attacks[column].robust)
        .map(|(position, _)| position)
        .take(GALLERY)
        .collect();
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let batch = test.batch(&positions, device);
    let logits = |images| model.forward(images, Mode::Eval);
    let attack: AttackSpec = "pgd-20".parse()?;
    let adversarial = attack.perturb(&logits, &batch, &recipe.threat, &mut Rng::new(recipe.seed))?;
    let predicted: Labels = logits(adversarial.clone()).argmax(1).reshape([positions.len()]);
    let (natural, predicted) = (read(batch.images)?, read_int(predicted)?);
    let adversarial = read(adversarial)?;
    let shape = test.shape();
    let folder = run.folder().join("pictures");
    std::fs::create_dir_all(&folder).with_context(|| format!("the folder cannot be made: {}", folder.display()))?;
    let mut gallery = Vec::new();
    for (number, position) in positions.iter().enumerate() {
        let pixels = number * shape.len()..(number + 1) * shape.len();
        let picture = pictures::triptych(&natural[pixels.clone()], &adversarial[pixels], shape, None, ENLARGED);
        let png = pictures::png(&picture)?;
        write_atomic(&folder.join(format!("{:05}.png", test.index(*position))), &png)?;
        let name = |class: usize| test.class_names().get(class).cloned().unwrap_or_default();
        gallery.push(Picture {
            uri: pictures::data_uri(&png),
            caption: format!(
                "{} taken for {}",
                name(test.label(*position)),
                name(predicted[number] as usize)
            ),
        });
    }
    Ok(gallery)
}

fn keep(run: &Run, evaluation: &Evaluation) -> Result<()> {
    write_atomic(
        &run.folder().join("evaluation-test-last.json"),
        evaluation.to_json(true)?.as_bytes(),
    )?;
    Ok(())
}

/// The comparison side by side, and what of it is more than chance.
fn tell(contestants: &[Contestant], page: Option<&Path>, seconds: f64) {
    let [first, second] = contestants else { return };
    let cell = |contestant: &Contestant, attack: usize| {
        let standing = &contestant.evaluation.attacks[attack].standing;
        let interval = &standing.interval;
        format!(
            "{} ({:.1} to {:.1})",
            percent(standing.accuracy),
            interval.low * 100.0,
            interval.high * 100.0
        )
    };
    let mut rows = vec![vec![
        "test accuracy".to_string(),
        first.name.clone(),
        second.name.clone(),
    ]];
    for (position, attack) in first.evaluation.attacks.iter().enumerate() {
        rows.push(vec![attack.name.clone(), cell(first, position), cell(second, position)]);
    }
    rows.push(vec![
        "trained in".into(),
        duration(first.seconds),
        duration(second.seconds),
    ]);
    say(format!("\n{}", table(&rows)));
    let evaluation = &first.evaluation;
    say(format!(
        "N = {} test characters, {} ε = {}, 95 % intervals; CW with κ = {}",
        evaluation.n,
        evaluation.norm,
        evaluation.epsilon,
        crate::attacks::DEFAULT_KAPPA
    ));
    say(format!("\n{}", verdict(first, second)));
    for contestant in contestants {
        for warning in &contestant.evaluation.warnings {
            note(format!(
                "{}: {} (docs/warnings.md#{})",
                contestant.name,
                warning.headline(),
                warning.anchor()
            ));
        }
    }
    let folders: Vec<String> = contestants
        .iter()
        .map(|c| c.run.folder().display().to_string())
        .collect();
    say(format!(
        "\nThe runs are in {}. The whole took {}.",
        folders.join(" and "),
        duration(seconds)
    ));
    if let Some(page) = page {
        say(format!(
            "A page to look at, with curves and pictures: {}",
            page.display()
        ));
    }
    say(
        "Next: `martlet attack RUN --out DIR` for pictures, `martlet train --recipe mnist-mart --dataset mnist:DIR` for the real thing, `martlet --help` for all of it.",
    );
}

/// Says for each attack which defence is ahead by more than chance explains: where neither interval holds the other's
/// value.
fn verdict(first: &Contestant, second: &Contestant) -> String {
    let mut ahead: [Vec<&str>; 2] = Default::default();
    for (a, b) in first.evaluation.attacks.iter().zip(&second.evaluation.attacks) {
        let (low, high) = if a.accuracy() < b.accuracy() { (a, b) } else { (b, a) };
        let apart = low.standing.interval.high < high.accuracy() && low.accuracy() < high.standing.interval.low;
        if apart {
            ahead[usize::from(std::ptr::eq(high, b))].push(&a.name);
        }
    }
    let claims: Vec<String> = [first, second]
        .into_iter()
        .zip(&ahead)
        .filter(|(_, attacks)| !attacks.is_empty())
        .map(|(winner, attacks)| format!("{} is ahead under {}", winner.name, attacks.join(", ")))
        .collect();
    if claims.is_empty() {
        "No difference between the two is larger than chance explains at this N: so short a training decides nothing between them.".to_string()
    } else {
        format!(
            "Beyond what chance explains at this N: {}. One seed and minutes of training: the paper's claims are about long runs.",
            claims.join("; ")
        )
    }
}
