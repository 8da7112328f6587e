//! The paper's experiments: planned at every budget, carried out in small, stopped and gone on with, tabulated.

use std::path::Path;

use martlet::{
    compute::Device,
    control::Control,
    defences::DefenceSpec,
    engine::Event,
    evaluation::Standing,
    experiments::{
        Budget, Conduct, EXPERIMENTS, ExperimentError, Need, Outcome, Plan, Progress, Request, RowState, Stage,
        Verdict, estimate, experiment,
    },
    recipe::WarmUp,
    runs::Slot,
};

fn plan(name: &str, budget: Budget) -> Plan {
    let experiment = experiment(name).unwrap();
    let request = Request {
        source: (budget != Budget::Quick).then_some("cifar10:DIR"),
        unlabelled: (budget != Budget::Quick).then_some("pseudo-labelled:FILE"),
        seed: 1,
        epochs: None,
    };
    experiment.plan(budget, &request).unwrap()
}

/// The plan at the quick budget, so small that it takes seconds.
fn small(name: &str) -> Plan {
    let mut plan = plan(name, Budget::Quick);
    for row in &mut plan.rows {
        row.recipe.epochs = 1;
        row.recipe.warm_up = WarmUp::default();
        row.recipe.data.limit_train = Some(64);
        row.recipe.data.held_out = 16;
        row.recipe.evaluation.limit = Some(4);
        row.recipe.attack.steps = 1;
        if let Some(unlabelled) = &mut row.recipe.data.unlabelled {
            unlabelled.limit = Some(32);
        }
        if let Some(Need::Labels { limit, .. }) = &mut row.needs {
            *limit = Some(32);
        }
    }
    for measure in &mut plan.measures {
        measure.limit = Some(4);
    }
    plan
}

/// Carries the rows out and gives what happened to them.
fn conduct(plan: &Plan, runs_dir: &Path, rows: &[usize], control: &Control) -> Result<Vec<String>, ExperimentError> {
    let device = Device::cpu();
    let work = Conduct {
        plan,
        runs_dir,
        device: &device,
        identity: serde_json::json!({ "info": device.info() }),
        control,
    };
    let mut told = Vec::new();
    work.run(rows, &mut |progress| match progress {
        Progress::Row { row, stage } => {
            let stage = match stage {
                Stage::Training => "training".to_string(),
                Stage::Measuring(measure) => format!("measuring {}", measure.slot),
                Stage::Elsewhere => "elsewhere".to_string(),
                Stage::Done => "done".to_string(),
                Stage::Failed(error) => format!("failed: {error}"),
            };
            told.push(format!("{} {stage}", plan.rows[row].row.id));
        }
        Progress::Training { event, .. } => {
            if let Event::Epoch(_) = event {
                told.push("epoch".into());
            }
        }
        Progress::Measuring { .. } => {}
    })?;
    Ok(told)
}

#[test]
fn every_experiment_is_planned_at_every_budget() {
    for experiment in EXPERIMENTS {
        for budget in Budget::ALL {
            let plan = plan(experiment.name, budget);
            let runs: std::collections::BTreeSet<&String> = plan.rows.iter().map(|row| &row.run).collect();
            assert_eq!(
                runs.len(),
                plan.rows.len(),
                "{}: two rows would share a run",
                plan.name()
            );
            for (position, row) in plan.rows.iter().enumerate() {
                martlet::runs::check_name(&row.run).unwrap();
                row.recipe.validate().unwrap();
                if let Some(need) = &row.needs {
                    assert!(
                        need.row() < position,
                        "{}: {} is needed before it is trained",
                        plan.name(),
                        row.row.id
                    );
                }
            }
            assert!(!plan.remarks().is_empty());
        }
        if experiment.name != "figure-1" {
            let error = experiment
                .plan(Budget::Full, &Request::default())
                .unwrap_err()
                .to_string();
            assert!(error.contains("--dataset"), "{error}");
        }
    }
}

#[test]
fn runs_that_experiments_share_have_one_recipe() {
    for budget in Budget::ALL {
        let mut known: std::collections::BTreeMap<String, (String, &str)> = Default::default();
        for experiment in EXPERIMENTS {
            for row in plan(experiment.name, budget).rows {
                let recipe = row.recipe.to_toml();
                let (other, name) = known
                    .entry(row.run.clone())
                    .or_insert((recipe.clone(), experiment.name));
                assert_eq!(*other, recipe, "{} in {name} and {}", row.run, experiment.name);
            }
        }
    }
}

#[test]
fn the_full_budget_is_what_the_paper_states() {
    let full = plan("table-2-cifar10", Budget::Full);
    let row = |id: &str| &full.rows.iter().find(|row| row.row.id == id).unwrap().recipe;
    let mart = row("mart");
    assert_eq!(mart.network.to_string(), "resnet-18");
    assert_eq!(mart.threat.epsilon.to_string(), "8/255");
    assert_eq!(
        (mart.attack.steps, mart.attack.step_size.to_string()),
        (10, "8/255/4".to_string())
    );
    assert_eq!(
        (mart.optimiser.learning_rate, mart.optimiser.weight_decay),
        (0.01, 3.5e-3)
    );
    assert_eq!(mart.defence.lambda(), Some(5.0));
    assert_eq!(row("trades").defence.lambda(), Some(4.0));
    assert_eq!(row("mart-released").threat.epsilon.to_string(), "0.031");
    let DefenceSpec::Dynamic { control_epochs, .. } = row("dynamic").defence else {
        panic!()
    };
    assert_eq!(control_epochs, 100);
    let DefenceSpec::Mma { max_margin, .. } = &row("mma").defence else {
        panic!()
    };
    assert!((max_margin.value() - 12.0 / 255.0).abs() < 1e-7);
    let ablation = plan("figure-2a", Budget::Full);
    let mart = &ablation.rows[0].recipe;
    assert_eq!((mart.optimiser.learning_rate, mart.optimiser.weight_decay), (0.1, 2e-4));
    assert_eq!(mart.defence.lambda(), Some(6.0));
}

#[test]
fn a_stopped_experiment_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let plan = small("figure-2a");
    let chosen = plan.chosen(&["without-kl".to_string()]).unwrap();
    assert_eq!(chosen, [1]);
    let told = conduct(&plan, folder.path(), &chosen, &Control::new()).unwrap();
    assert_eq!(
        told,
        [
            "without-kl training",
            "epoch",
            "without-kl measuring best",
            "without-kl measuring last",
            "without-kl done"
        ]
    );
    let stopped = Control::new();
    stopped.stop();
    assert!(conduct(&plan, folder.path(), &[0, 1], &stopped).unwrap().is_empty());

    // An evaluation that was lost is measured anew, and nothing is trained twice.
    let run = folder.path().join(&plan.rows[1].run);
    std::fs::remove_file(run.join("evaluation-figure-2a-last.json")).unwrap();
    assert_eq!(Outcome::state(&plan, 1, folder.path()).unwrap(), RowState::Trained);
    let told = conduct(&plan, folder.path(), &[0, 1], &Control::new()).unwrap();
    assert_eq!(told.iter().filter(|line| *line == "epoch").count(), 1, "{told:?}");
    assert!(
        told.ends_with(&["without-kl measuring last".into(), "without-kl done".into()]),
        "{told:?}"
    );

    let mut outcome = Outcome::read(&plan, folder.path()).unwrap();
    assert_eq!(outcome.states[..2], [RowState::Measured, RowState::Measured]);
    assert_eq!(outcome.states[2], RowState::Missing);
    let first = &outcome.comparisons()[0];
    assert!(first.measured.is_some() && first.verdict() != Verdict::Open);
    assert_eq!(outcome.comparisons()[1].verdict(), Verdict::Open);
    outcome.write(&folder.path().join("page")).unwrap();
    let html = std::fs::read_to_string(folder.path().join("page/report.html")).unwrap();
    assert!(html.contains("without KL") && html.contains("<svg"));
    let csv = outcome.csv();
    let columns = csv.lines().next().unwrap().split(',').count();
    assert_eq!(csv.lines().count(), 1 + plan.rows.len() * 2 * outcome.attacks.len());
    assert!(csv.lines().all(|line| line.split(',').count() >= columns), "{csv}");

    // Of ten classes chance gets 10 %: 30 of 300 images are no sign of learning, 60 are.
    let natural = outcome.attacks.iter().position(|name| name == "natural").unwrap();
    for (line, right) in outcome.lines.iter_mut().zip([60, 30]) {
        line.cells[natural].measured = Some((Standing::of(right, 300), 300));
    }
    for line in &mut outcome.lines[2..] {
        line.cells[natural].measured = None;
    }
    let collapses = outcome.collapses();
    let [collapse] = &collapses[..] else {
        panic!("{collapses:?}")
    };
    assert!(collapse.starts_with("MART (last checkpoint) gets no more natural images right than chance, 10.0 %"));
    assert!(outcome.conclusions().contains(collapse));
}

#[test]
fn workers_that_share_a_folder_divide_the_rows_and_take_over_what_one_leaves() {
    let plan = small("figure-2a");
    let rows: Vec<usize> = (0..plan.rows.len()).collect();
    let alone = tempfile::tempdir().unwrap();
    conduct(&plan, alone.path(), &rows, &Control::new()).unwrap();

    let shared = tempfile::tempdir().unwrap();
    let controls = [Control::new(), Control::new(), Control::new()];
    let told: Vec<Vec<String>> = std::thread::scope(|scope| {
        let workers: Vec<_> = controls
            .iter()
            .map(|control| scope.spawn(|| conduct(&plan, shared.path(), &rows, control).unwrap()))
            .collect();
        // The first leaves in the middle of something.
        std::thread::sleep(std::time::Duration::from_millis(150));
        controls[0].stop();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let count = |line: &str| told.iter().flatten().filter(|own| *own == line).count();
    for row in &plan.rows {
        for stage in ["measuring best", "measuring last"] {
            let times = count(&format!("{} {stage}", row.row.id));
            // What was stopped in the middle is told by who began it and by who ended it.
            assert!(
                (1..=2).contains(&times),
                "{} {stage} {times} times: {told:?}",
                row.row.id
            );
        }
    }
    assert_eq!(count("epoch"), plan.rows.len(), "a row was trained twice: {told:?}");
    assert!(
        told[1..].iter().flatten().any(|line| line.ends_with("elsewhere")),
        "{told:?}"
    );
    let csv = |folder: &Path| Outcome::read(&plan, folder).unwrap().csv();
    assert_eq!(csv(shared.path()), csv(alone.path()));
}

#[test]
fn what_a_killed_worker_claimed_is_free() {
    let folder = tempfile::tempdir().unwrap();
    let first = martlet::runs::claim(folder.path(), "row").unwrap();
    assert!(first.is_some());
    assert!(
        martlet::runs::claim(folder.path(), "row").unwrap().is_none(),
        "two have it"
    );
    assert!(martlet::runs::claim(folder.path(), "other").unwrap().is_some());
    drop(first);
    assert!(martlet::runs::claim(folder.path(), "row").unwrap().is_some());
    assert!(
        martlet::runs::list(folder.path()).unwrap().is_empty(),
        "a claim is taken for a run"
    );
}

#[test]
fn a_run_of_another_recipe_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = small("figure-2a");
    plan.measures.truncate(1);
    conduct(&plan, folder.path(), &[0], &Control::new()).unwrap();
    // The run is finished, so that it stands as it is; begun but not finished it would be gone on with.
    let run = folder.path().join(&plan.rows[0].run);
    let metrics = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let kept: Vec<&str> = metrics.lines().filter(|line| !line.contains("\"finished\"")).collect();
    std::fs::write(run.join("metrics.jsonl"), kept.join("\n") + "\n").unwrap();
    plan.rows[0].recipe.batch_size = 16;
    let error = conduct(&plan, folder.path(), &[0], &Control::new()).unwrap_err();
    assert!(matches!(error, ExperimentError::OtherRun { .. }), "{error}");
    assert!(error.to_string().contains("batch_size"), "{error}");
}

#[test]
fn the_networks_of_other_rows_label_and_attack() {
    let folder = tempfile::tempdir().unwrap();
    let mut semi = small("table-5b");
    semi.measures.truncate(1);
    let chosen = semi.chosen(&["mart".to_string()]).unwrap();
    let told = conduct(&semi, folder.path(), &chosen, &Control::new()).unwrap();
    assert!(
        told.starts_with(&["natural training".into()]) && told.ends_with(&["mart done".into()]),
        "{told:?}"
    );

    let mut transfer = small("table-3-mnist");
    transfer.measures.truncate(1);
    let chosen = transfer.chosen(&["standard".to_string()]).unwrap();
    assert_eq!(chosen, [0, 1]);
    conduct(&transfer, folder.path(), &chosen, &Control::new()).unwrap();
    let outcome = Outcome::read(&transfer, folder.path()).unwrap();
    let line = outcome
        .lines
        .iter()
        .find(|line| outcome.row(line).id == "standard" && line.slot == Slot::Best)
        .unwrap();
    assert!(
        line.cells
            .iter()
            .all(|cell| cell.measured.is_some() && cell.reported.is_some())
    );
    assert_eq!(line.cells[0].reported, Some(96.12));
}

#[test]
fn the_subsets_of_figure_1_come_from_its_first_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut plan = small("figure-1");
    plan.measures.truncate(1);
    for row in &mut plan.rows {
        row.recipe.data.source = "glyphs".into();
        row.recipe.batch_size = 32;
        row.recipe.optimiser.learning_rate = 0.06;
        row.recipe.data.limit_train = Some(480);
    }
    // Enough natural epochs that the network gets most examples right, and some wrong.
    plan.rows[0].recipe.epochs = 6;
    plan.rows[0].recipe.warm_up.natural_epochs = 5;
    let chosen = plan
        .chosen(&["s-minus-regularised".to_string(), "s-plus-fgsm".to_string()])
        .unwrap();
    let told = conduct(&plan, folder.path(), &chosen, &Control::new()).unwrap();
    assert!(told.contains(&"s-minus-regularised done".to_string()), "{told:?}");
    let members = |row: usize| {
        let text = std::fs::read_to_string(folder.path().join(&plan.rows[row].run).join("recipe.toml")).unwrap();
        match martlet::recipe::Recipe::from_toml(&text).unwrap().defence {
            DefenceSpec::Subset { members, .. } => members,
            other => panic!("{other}"),
        }
    };
    let position = |id: &str| plan.rows.iter().position(|row| row.row.id == id).unwrap();
    let (minus, plus) = (
        members(position("s-minus-regularised")),
        members(position("s-plus-fgsm")),
    );
    assert_eq!(minus.len(), plus.len());
    assert!(!minus.is_empty() && minus.iter().all(|index| !plus.contains(index)));
}

#[test]
fn a_row_whose_needs_came_to_nothing_is_told_and_the_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let plan = small("figure-1");
    let told = conduct(&plan, folder.path(), &[1], &Control::new()).unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("needs the run of standard"), "{told:?}");
}

#[test]
fn an_estimate_counts_what_is_left() {
    let plan = small("figure-2a");
    let control = Control::new();
    let estimate_of = |control: &Control| estimate(&plan, &|_| true, &Device::cpu(), control, &mut |_| {}).unwrap();
    let estimate = estimate_of(&control).unwrap();
    control.stop();
    assert!(estimate_of(&control).is_none(), "a stopped estimate is none");
    let all: Vec<usize> = (0..plan.rows.len()).collect();
    let missing = vec![RowState::Missing; plan.rows.len()];
    let whole = estimate.left(&all, &missing);
    assert!(whole > 0.0);
    let mut half = missing.clone();
    half[0] = RowState::Measured;
    half[1] = RowState::Begun { epochs: 1, of: 2 };
    let left = estimate.left(&all, &half);
    assert!(left < whole - estimate.rows[0].0, "{left} of {whole}");
    assert_eq!(estimate.left(&all, &vec![RowState::Measured; plan.rows.len()]), 0.0);
}
