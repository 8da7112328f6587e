//! `martlet demo`: two defences from one seed on the built-in data, attacked and compared, in about two minutes.

use std::path::PathBuf;

use anyhow::{Context, Result};

use super::{
    DeviceOption, Reporter, RunsDirOption, evaluate, open_device, stop_on_interrupt,
    terminal::{note, say, table},
    train,
};
use crate::{
    attacks::AttackSpec,
    compute::Device,
    control::Control,
    data::{self, Dataset, Split},
    defences::DefenceSpec,
    engine::{Event, TrainingData, session},
    evaluation::{EvaluateError, Evaluation, Suite, evaluate as measure},
    losses::Form,
    nn::Model,
    random::Rng,
    recipe::{Recipe, Schedule, preset},
    report::{
        self, PageInput, RunReport, compare,
        gallery::{self, Entry, Gallery},
        pictures,
    },
    runs::{self, Run, write_atomic},
    wording::{duration, percent},
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
const EPOCHS: usize = 5;
const ATTACK_STEPS: usize = 5;
/// Test characters to look at.
const GALLERY: usize = 8;
/// At this radius a network after so short a training still gets some ten per cent of its training images wrong.
const EPSILON: &str = "0.1";
/// What the comparison attacks with.
const ATTACKS: [&str; 4] = ["natural", "fgsm", "pgd-20", "cw-20"];
/// Which of them the pictures show.
const SHOWN: &str = "pgd-20";

/// A trained defence and how it stood up.
struct Contestant {
    name: String,
    run: Run,
    recipe: Recipe,
    model: Model,
    evaluation: Evaluation,
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
    for defence in [DefenceSpec::Standard, DefenceSpec::mart(5.0, Form::Paper)] {
        let name = defence.to_string();
        let recipe = recipe(defence, arguments.seed)?;
        let data = TrainingData::load(&recipe)?;
        let runs_dir = &arguments.runs_dir.runs_dir;
        let run_name = runs::pick_name(runs_dir, &format!("demo-{}", recipe.defence.name()))?;
        let mut run = session::create(runs_dir, &run_name, &recipe, &data, &identity)?;
        let mut reporter = Reporter::new("", false);
        let started = std::time::Instant::now();
        let model = train::train(
            &recipe,
            &data,
            &mut run,
            &device,
            identity.clone(),
            &control,
            &mut |event: &Event| {
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
        let Some(evaluation) = attack(&model, &test, &recipe, &device, &control)? else {
            note(format!(
                "stopped; {name} is trained, and `martlet evaluate {}` attacks it",
                run.folder().display()
            ));
            return Ok(());
        };
        keep(&run, &evaluation)?;
        contestants.push(Contestant {
            name,
            run,
            recipe,
            model,
            evaluation,
            seconds,
        });
    }
    let [first, second] = &contestants[..] else {
        return Ok(());
    };
    let mut verdict = compare::verdict((&first.name, &first.evaluation), (&second.name, &second.evaluation));
    verdict
        .push("Minutes of training decide nothing about the methods: the papers' claims are about long runs.".into());
    let page = show(&contestants, &test, &device, &verdict)?;
    let seconds = began.elapsed().as_secs_f64();
    if arguments.json {
        let runs = contestants.iter().map(|c| {
            serde_json::json!({ "defence": c.name, "run": c.run.folder(), "seconds": c.seconds, "evaluation": c.evaluation })
        });
        let runs: Vec<_> = runs.collect();
        let all = serde_json::json!({ "runs": runs, "verdict": verdict, "page": page, "seconds": seconds });
        say(serde_json::to_string_pretty(&all)?);
        return Ok(());
    }
    tell(first, second, &verdict);
    say(format!(
        "\nThe runs, their pictures and their figures: {} and {}. The whole took {}.",
        first.run.folder().display(),
        second.run.folder().display(),
        duration(seconds)
    ));
    say(format!(
        "A page to look at, with curves and pictures: {}",
        page.display()
    ));
    say(
        "Next: `martlet data get mnist` and `martlet train --recipe mnist-mart --dataset mnist:DIR` for the real thing, `martlet attack RUN --out DIR` for more pictures, `martlet --help` for all of it.",
    );
    Ok(())
}

/// The same recipe for both but for the defence.
fn recipe(defence: DefenceSpec, seed: u64) -> Result<Recipe> {
    let mut recipe = preset("glyphs-mart")?;
    recipe.defend_with(defence);
    recipe.seed = seed;
    recipe.epochs = EPOCHS;
    recipe.data.limit_train = Some(TRAINING_EXAMPLES);
    recipe.data.held_out = 200;
    recipe.threat.epsilon = EPSILON.parse()?;
    recipe.attack.steps = ATTACK_STEPS;
    recipe.attack.step_size = recipe.threat.epsilon.divided_by(4);
    recipe.schedule = Schedule::Cosine;
    // A natural epoch first: from a cold start MART would spend the two minutes leaving it.
    recipe.warm_up.natural_epochs = 1;
    recipe.warm_up.epsilon_epochs = 1.0;
    recipe.evaluation.attacks = vec!["natural".into(), "pgd-10".into()];
    recipe.evaluation.limit = Some(200);
    Ok(recipe)
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

/// Attacks a few telling test characters once more and keeps the pictures beside each run; then the page about both,
/// which lies in both folders. Gives the path of the last.
fn show(contestants: &[Contestant], test: &Dataset, device: &Device, verdict: &[String]) -> Result<PathBuf> {
    let evaluations: Vec<&Evaluation> = contestants.iter().map(|contestant| &contestant.evaluation).collect();
    let examples = test.subset(&gallery::telling_examples(&evaluations, SHOWN, GALLERY));
    let attack: AttackSpec = SHOWN.parse()?;
    let mut entries: Vec<Entry> = (0..examples.len())
        .map(|position| Entry {
            title: format!(
                "True class {} (test character {})",
                examples.class_names()[examples.label(position)],
                examples.index(position)
            ),
            attempts: Vec::new(),
        })
        .collect();
    let mut caption = String::new();
    for contestant in contestants.iter().filter(|_| !examples.is_empty()) {
        let threat = &contestant.recipe.threat;
        caption = gallery::caption(&attack, threat);
        let rng = &mut Rng::new(contestant.recipe.seed);
        let attempts = gallery::attempts(
            &contestant.name,
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
            write_atomic(&file, &pictures::png(&attempt.triptych)?)?;
            entries[position].attempts.push(attempt);
        }
    }
    let chosen = "Chosen to show every way in which the two fare among the characters that both know; no fair sample.";
    let runs = contestants.iter().map(|contestant| RunReport::read(&contestant.run));
    let input = PageInput {
        title: "Two defences on the built-in characters".into(),
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

fn keep(run: &Run, evaluation: &Evaluation) -> Result<()> {
    write_atomic(
        &run.folder().join("evaluation-test-last.json"),
        evaluation.to_json(true)?.as_bytes(),
    )?;
    Ok(())
}

/// The comparison side by side, and what of it is more than chance.
fn tell(first: &Contestant, second: &Contestant, verdict: &[String]) {
    let mut rows = vec![vec![
        "test accuracy".to_string(),
        first.name.clone(),
        second.name.clone(),
        "difference".to_string(),
    ]];
    for difference in compare::differences(&first.evaluation, &second.evaluation) {
        let figure = |standing: &crate::evaluation::Standing| {
            let (low, high) = (100.0 * standing.interval.low, 100.0 * standing.interval.high);
            format!("{} ({low:.1} to {high:.1})", percent(standing.accuracy))
        };
        rows.push(vec![
            difference.name.clone(),
            figure(&difference.first),
            figure(&difference.second),
            difference.to_string(),
        ]);
    }
    rows.push(vec![
        "trained in".into(),
        duration(first.seconds),
        duration(second.seconds),
    ]);
    say(format!("\n{}", table(&rows)));
    let evaluation = &first.evaluation;
    let kappa = evaluation.attacks.iter().find_map(|attack| attack.kappa());
    say(format!(
        "N = {} test characters, {} ε = {}; in brackets 95 % intervals, differences in percentage points{}",
        evaluation.n,
        evaluation.norm,
        evaluation.epsilon,
        kappa.map(|kappa| format!("; CW with κ = {kappa}")).unwrap_or_default()
    ));
    say(format!("\n{}", verdict.join("\n")));
    for contestant in [first, second] {
        for warning in &contestant.evaluation.warnings {
            note(format!(
                "{}: {} (docs/warnings.md#{})",
                contestant.name,
                warning.headline(),
                warning.anchor()
            ));
        }
    }
}
