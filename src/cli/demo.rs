//! `martlet demo`: what the misclassified examples are worth, in two minutes on the built-in data.
//!
//! One warm-up by Standard, then three ways to go on from it: Standard as before, Standard that leaves the misclassified examples S⁻
//! without attack (Figure 1 of the paper), and MART. All three are attacked on the same images.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::{
    DeviceOption, Reporter, RunsDirOption, evaluate, open_device,
    output::Output,
    stop_on_interrupt,
    terminal::{note, table},
    train,
};
use crate::{
    attacks::AttackSpec,
    compute::Device,
    control::Control,
    data::{self, Dataset, Split},
    defences::{DefenceSpec, Side, Treatment},
    engine::{
        Alone, Event, TrainingData, filing, session,
        subsets::{self, Subsets},
    },
    evaluation::{EvaluateError, Evaluation, Suite, evaluate as measure},
    files,
    losses::Form,
    nn::Model,
    random::Rng,
    recipe::{Recipe, preset},
    report::{
        self, PageInput, RunReport,
        compare::Difference,
        gallery::{self, Entry, Gallery},
        pictures,
    },
    runs::{self, Run, Slot},
    wording::{duration, grouped, percent},
};

/// Arguments of `martlet demo`.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  martlet demo\n  martlet demo --device gpu:0 --seed 2\n  martlet demo --json demo.json"
)]
pub struct DemoArguments {
    #[command(flatten)]
    device: DeviceOption,
    /// The seed of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    runs_dir: RunsDirOption,
    /// Write the comparison as JSON to a file, or to standard output with `-`.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-")]
    json: Option<PathBuf>,
}

impl Default for DemoArguments {
    fn default() -> Self {
        Self {
            device: DeviceOption::default(),
            seed: 1,
            runs_dir: RunsDirOption::default(),
            json: None,
        }
    }
}

// What fits into two minutes on two processor cores.
const WARM_UP: usize = 5;
const EPOCHS: usize = 9;
/// Training images, and how many make a minibatch: small ones take more steps in the same time.
const IMAGES: usize = 4_500;
const BATCH: usize = 64;
/// Held-out images on which each epoch is shown; they choose nothing.
const HELD_OUT_SHOWN: usize = 250;
/// Pictures to look at.
const GALLERY: usize = 8;
/// What the comparison attacks with.
const ATTACKS: [&str; 2] = ["natural", "pgd-20"];
/// What the differences and the pictures are of.
const SHOWN: &str = "pgd-20";

/// A trained defence and how it stood up.
struct Contestant {
    name: &'static str,
    run: Run,
    recipe: Recipe,
    model: Model,
    evaluation: Evaluation,
    seconds: f64,
}

/// What every contestant shares.
struct Stage<'a> {
    seed: u64,
    runs_dir: &'a std::path::Path,
    data: TrainingData,
    device: Device,
    identity: serde_json::Value,
    control: Control,
}

/// Runs the demo.
pub fn run(arguments: DemoArguments) -> Result<()> {
    let began = std::time::Instant::now();
    let json = Output::of(arguments.json.as_deref())?;
    note(
        "Adversarial training treats all images alike. What if it did not attack those that the network gets wrong anyway? Martlet tries it on its built-in pictures of clothes; two minutes on two processor cores.",
    );
    let control = stop_on_interrupt();
    let (device, identity) = open_device(&arguments.device.device, false)?;
    let test = data::load("fashion", Split::Test)?;
    let stage = Stage {
        seed: arguments.seed,
        runs_dir: &arguments.runs_dir.runs_dir,
        data: TrainingData::load(&recipe(DefenceSpec::Standard, arguments.seed)?)?,
        device,
        identity,
        control,
    };
    let Some((subsets, contestants)) = stage.perform(&test)? else {
        note("stopped; what was trained is kept, and `martlet runs` lists it");
        return Ok(());
    };
    let (differences, verdict) = compare(&contestants);
    let page = show(&contestants, &test, &stage.device, &verdict)?;
    let seconds = began.elapsed().as_secs_f64();
    let all = to_json(&arguments, &subsets, &contestants, &differences, &verdict, seconds);
    json.deliver(&serde_json::to_string_pretty(&all)?, || {
        format!(
            "{}\n\nIt took {}. A page with curves and pictures: {}\nNext: `martlet experiment run figure-1` repeats the paper's whole figure, `martlet train --recipe fashion-mart` trains MART alone, `martlet` opens the window.",
            told(&stage, &subsets, &contestants, &verdict),
            duration(seconds),
            page.display()
        )
    })
}

/// The same recipe for all but for what follows the warm-up.
fn recipe(defence: DefenceSpec, seed: u64) -> Result<Recipe> {
    let mut recipe = preset("fashion-standard")?;
    recipe.defence = defence;
    recipe.seed = seed;
    recipe.epochs = EPOCHS;
    recipe.warm_up.standard_epochs = WARM_UP;
    recipe.data.limit_train = Some(IMAGES);
    recipe.batch_size = BATCH;
    recipe.evaluation.attacks = vec!["natural".into(), "pgd-10".into()];
    recipe.evaluation.limit = Some(HELD_OUT_SHOWN);
    Ok(recipe)
}

impl Stage<'_> {
    /// Trains and attacks all three; none where the person stopped it.
    fn perform(&self, test: &Dataset) -> Result<Option<(Subsets, Vec<Contestant>)>> {
        let standard = recipe(DefenceSpec::Standard, self.seed)?;
        note(format!(
            "\n1. Warm-up: {WARM_UP} epochs of Standard, shared by all that follows"
        ));
        let mut first = self.create(&standard)?;
        let warm = Control::new();
        let model = self.train(&standard, &mut first, &warm, "warm-up")?;
        if self.control.is_stopped() {
            return Ok(None);
        }
        let train = &self.data.train;
        let subsets = subsets::split(&model, train, 128, self.seed, &self.device, &self.control)?;
        note(format!(
            "\n2. S⁻, the training images that the network gets wrong without any attack: {} of {} ({})",
            grouped(subsets.misclassified.len()),
            grouped(subsets.n),
            percent(1.0 - subsets.accuracy)
        ));
        let unattacked = subsets.defence(Side::Misclassified, Treatment::NotPerturbed);
        let mut entrants = Vec::new();
        for (name, defence) in [
            ("S⁻ not attacked", unattacked),
            ("MART", DefenceSpec::mart(5.0, Form::Paper)),
        ] {
            let recipe = recipe(defence, self.seed)?;
            let mut run = self.create(&recipe)?;
            session::branch(&first, &mut run)?;
            entrants.push((name, recipe, run));
        }
        entrants.insert(0, ("Standard", standard, first));

        note(format!("\n3. Three ways to continue for {} epochs", EPOCHS - WARM_UP));
        let mut contestants = Vec::new();
        for (name, recipe, mut run) in entrants {
            let started = std::time::Instant::now();
            let model = self.train(&recipe, &mut run, &self.control, name)?;
            if self.control.is_stopped() {
                return Ok(None);
            }
            let seconds = started.elapsed().as_secs_f64();
            let Some(evaluation) = attack(&model, test, &recipe, &self.device, &self.control)? else {
                return Ok(None);
            };
            filing::keep(&run, &evaluation, Slot::Last, true)?;
            contestants.push(Contestant {
                name,
                run,
                recipe,
                model,
                evaluation,
                seconds,
            });
        }
        Ok(Some((subsets, contestants)))
    }

    fn create(&self, recipe: &Recipe) -> Result<Run> {
        let name = runs::pick_name(self.runs_dir, &format!("demo-{}", recipe.defence.name()))?;
        Ok(session::create(
            self.runs_dir,
            &name,
            recipe,
            &self.data,
            &self.identity,
        )?)
    }

    /// Trains with a control of its own, which ends it after the warm-up, or with the person's.
    fn train(&self, recipe: &Recipe, run: &mut Run, control: &Control, name: &str) -> Result<Model> {
        let mut reporter = Reporter::new(name, false);
        let mut observer = |event: &Event| {
            let is_warm = matches!(event, Event::Epoch(report) if report.epoch == WARM_UP);
            if is_warm || self.control.is_stopped() {
                control.stop();
            }
            if !matches!(event, Event::Stopped(_)) || self.control.is_stopped() {
                reporter.tell(event);
            }
        };
        train::train(
            recipe,
            &self.data,
            run,
            &self.device,
            self.identity.clone(),
            control,
            &mut observer,
            &Alone,
        )
    }
}

/// The suite's verdict; none where the person stopped it.
fn attack(
    model: &Model,
    test: &Dataset,
    recipe: &Recipe,
    device: &Device,
    control: &Control,
) -> Result<Option<Evaluation>> {
    let attacks = ATTACKS
        .iter()
        .map(|name| name.parse::<AttackSpec>())
        .collect::<Result<Vec<_>, _>>()?;
    let mut suite = Suite::new(attacks)?;
    suite.seed = recipe.seed;
    suite.probes = false;
    let mut progress = evaluate::Progress::new();
    let result = measure(model, test, &suite, &recipe.threat, device, control, &mut |event| {
        progress.tell(event)
    });
    progress.finish();
    match result {
        Ok(mut evaluation) => {
            evaluation.dataset.split = Some("test".into());
            Ok(Some(evaluation))
        }
        Err(EvaluateError::Stopped { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Attacks a few telling test images once more and keeps the pictures beside each run; then the page about all,
/// which lies in each folder. Gives the path of the last.
fn show(contestants: &[Contestant], test: &Dataset, device: &Device, verdict: &[String]) -> Result<PathBuf> {
    let evaluations: Vec<&Evaluation> = contestants.iter().map(|contestant| &contestant.evaluation).collect();
    let examples = test.subset(&gallery::telling_examples(&evaluations, SHOWN, GALLERY));
    let attack: AttackSpec = SHOWN.parse()?;
    let mut entries: Vec<Entry> = (0..examples.len())
        .map(|position| Entry {
            title: format!(
                "True class {} (test image {})",
                examples.class_names()[examples.label(position)],
                examples.index(position)
            ),
            attempts: Vec::new(),
        })
        .collect();
    let mut caption = String::new();
    for contestant in contestants.iter().filter(|_| !examples.is_empty()) {
        let threat = &contestant.recipe.threat;
        caption = gallery::caption(&attack, threat, contestant.model.classes());
        let rng = &mut Rng::new(contestant.recipe.seed);
        let attempts = gallery::attempts(
            contestant.name,
            &contestant.model,
            &examples,
            &attack,
            threat,
            rng,
            device,
        )?;
        let folder = contestant.run.folder().join("pictures");
        std::fs::create_dir_all(&folder).with_context(|| format!("the folder cannot be made: {}", folder.display()))?;
        for (position, attempt) in attempts.into_iter().enumerate() {
            let file = folder.join(format!("{:05}.png", examples.index(position)));
            files::save(&file, &pictures::png(&attempt.triptych)?)?;
            entries[position].attempts.push(attempt);
        }
    }
    let chosen = "Chosen to show every way in which they fare among the images that all three know; no fair sample.";
    let runs = contestants.iter().map(|contestant| RunReport::read(&contestant.run));
    let input = PageInput {
        title: "What the misclassified examples are worth".into(),
        conclusions: verdict.to_vec(),
        sections: Vec::new(),
        runs: runs.collect::<Result<Vec<_>, _>>()?,
        classes: Some(test.classes()),
        gallery: (!entries.is_empty()).then(|| Gallery {
            caption: format!("{caption} {chosen}"),
            entries,
        }),
    };
    let mut page = PathBuf::new();
    for contestant in contestants {
        page = contestant.run.folder().join("report.html");
        report::write_page(&page, &input)?;
    }
    Ok(page)
}

/// Each contestant's difference from the first under attack, and what can be said of it.
fn compare(contestants: &[Contestant]) -> (Vec<Difference>, Vec<String>) {
    let Some((standard, others)) = contestants.split_first() else {
        return Default::default();
    };
    let found = others.iter().filter_map(|other| {
        let difference = Difference::under(SHOWN, &standard.evaluation, &other.evaluation)?;
        let said = sentence(other.name, &difference);
        Some((difference, said))
    });
    let (differences, mut verdict): (Vec<_>, Vec<_>) = found.unzip();
    verdict.push(
        "One seed and minutes of training often show no more than which way it goes. Over five seeds of this demo, named before they ran, Standard loses under PGD-20 where S⁻ is left without attack and wins with MART, in each of them; under AutoAttack, which is stronger, MART is behind it in each (docs/measurements/2026-11-26-story.md). See for yourself: `martlet evaluate RUN --attacks autoattack-fast`.".into(),
    );
    (differences, verdict)
}

fn sentence(name: &str, difference: &Difference) -> String {
    let points = format!("{difference} points under PGD-20");
    match (name, difference.is_clear(), difference.value < 0.0) {
        ("MART", true, false) => format!(
            "MART, which attacks all and holds the misclassified ones most firmly to what the network says without attack, is ahead of Standard: {points}."
        ),
        ("MART", true, true) => format!("MART is behind Standard after so short a training: {points}."),
        ("MART", false, _) => {
            format!("MART and Standard cannot be told apart after so short a training: {points}.")
        }
        (_, true, true) => format!(
            "Leaving S⁻ without attack costs robustness: {points}. The misclassified examples matter; that is where MART begins."
        ),
        (_, true, false) => format!("Leaving S⁻ without attack helped here: {points}."),
        (_, false, _) => format!("Whether S⁻ is attacked cannot be told from the result here: {points}."),
    }
}

/// The table and what of it is more than chance.
fn told(stage: &Stage, subsets: &Subsets, contestants: &[Contestant], verdict: &[String]) -> String {
    let mut rows = vec![
        ["", "natural", "under PGD-20", "minus Standard", "trained in"]
            .map(String::from)
            .to_vec(),
    ];
    for contestant in contestants {
        let figure = |name: &str| {
            let found = contestant.evaluation.attack(name).map(|attack| attack.standing);
            found.map_or_else(String::new, |standing| {
                let (low, high) = (100.0 * standing.interval.low, 100.0 * standing.interval.high);
                format!("{} ({low:.1} to {high:.1})", percent(standing.accuracy))
            })
        };
        let first = &contestants[0];
        let difference = Difference::under(SHOWN, &first.evaluation, &contestant.evaluation)
            .filter(|_| contestant.name != first.name)
            .map_or_else(String::new, |difference| difference.to_string());
        rows.push(vec![
            contestant.name.to_string(),
            figure("natural"),
            figure(SHOWN),
            difference,
            duration(contestant.seconds),
        ]);
    }
    let mut text = format!("\n{}", table(&rows));
    if let Some(Contestant { evaluation, .. }) = contestants.first() {
        text += &format!(
            "\n{} test images of Fashion-MNIST, {} ε = {}; in brackets 95 % intervals, differences in points on the same images",
            evaluation.n, evaluation.norm, evaluation.epsilon
        );
    }
    text += &format!("\n{}\n\n{}", confusions(stage, subsets), verdict.join("\n"));
    // One suite on one data set: what is doubtful of one is doubtful of all.
    for warning in contestants.first().iter().flat_map(|first| &first.evaluation.warnings) {
        text += &format!("\n{} (martlet explain {})", warning.headline(), warning.anchor());
    }
    text
}

/// What S⁻ is made of: its three most frequent classes.
fn confusions(stage: &Stage, subsets: &Subsets) -> String {
    let train = &stage.data.train;
    let mut counts = vec![0_usize; train.classes()];
    for position in 0..train.len() {
        if subsets.misclassified.contains(train.index(position)) {
            counts[train.label(position)] += 1;
        }
    }
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|class| std::cmp::Reverse(counts[*class]));
    let named = order
        .iter()
        .take(3)
        .map(|class| format!("{} {}", counts[*class], train.class_names()[*class]));
    format!(
        "S⁻: {} of {} training images after the warm-up ({}), most of them {}",
        grouped(subsets.misclassified.len()),
        grouped(subsets.n),
        percent(1.0 - subsets.accuracy),
        named.collect::<Vec<_>>().join(", ")
    )
}

fn to_json(
    arguments: &DemoArguments,
    subsets: &Subsets,
    contestants: &[Contestant],
    differences: &[Difference],
    verdict: &[String],
    seconds: f64,
) -> serde_json::Value {
    let rows = contestants.iter().map(|contestant| {
        json!({
            "name": contestant.name,
            "accuracy": contestant.evaluation.accuracy,
            "run": contestant.run.folder(),
            "seconds": contestant.seconds,
        })
    });
    let points = |share: f64| (1e4 * share).round() / 100.0;
    let differences = differences
        .iter()
        .zip(&contestants[1..])
        .map(|(difference, contestant)| {
            json!({
                "of": contestant.name,
                "minus": contestants[0].name,
                "under": difference.name,
                "points": points(difference.value),
                "low": points(difference.interval.low),
                "high": points(difference.interval.high),
            })
        });
    json!({
        "seconds": seconds,
        "seed": arguments.seed,
        "n": contestants.first().map(|contestant| contestant.evaluation.n),
        "epsilon": contestants.first().map(|contestant| contestant.evaluation.epsilon.to_string()),
        "rows": rows.collect::<Vec<_>>(),
        "differences": differences.collect::<Vec<_>>(),
        "misclassified_share": 1.0 - subsets.accuracy,
        "misclassified": subsets.misclassified.len(),
        "training_examples": subsets.n,
        "verdict": verdict,
    })
}
