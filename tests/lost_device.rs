//! A GPU that is lost while it trains. A file of its own: no other test of its process may need that GPU.
#![cfg(feature = "app")]

use std::time::Duration;

use egui_kittest::kittest::Queryable;
use martlet::{
    app::{App, Command},
    compute,
};

mod support;
#[path = "support/window.rs"]
mod windows;

use windows::{app, open, settings, wait};

/// How long anything may take on a software GPU.
const LIMIT: Duration = Duration::from_secs(600);

fn steps(app: Option<&App>) -> usize {
    let last = app.and_then(|app| app.state().shown.first()?.last.as_ref());
    last.map_or(0, |step| step.total_steps)
}

#[test]
fn the_window_lives_on_says_so_and_resumes_on_another_device() {
    let Some(device) = support::vulkan() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.device = device.info().selector.clone();
    let recipe = &mut settings.recipe;
    recipe.data.limit_train = Some(64);
    recipe.data.held_out = 16;
    recipe.attack.steps = 1;
    recipe.evaluation.attacks = vec!["natural".into()];
    let mut window = open(Some("Curves"), settings, egui::Theme::Dark);
    window.step();
    app(&mut window).apply(Command::Start);
    let trains = wait(&mut window, LIMIT, |window| steps(window.state().as_ref()) >= 1);
    assert!(trains, "no minibatch is done");
    device.lose();
    let told = wait(&mut window, LIMIT, |window| {
        window
            .query_by_label_contains("Resume from the last checkpoint")
            .is_some()
    });
    assert!(told, "the loss is not told with a way out");
    // The text is in several lines, each a node of its own.
    let told = format!("{:?}", window.root());
    assert!(told.contains("checkpoint is kept"), "{told}");
    assert!(!app(&mut window).state().is_training());

    // The same GPU, set up anew.
    let again = compute::open(&device.info().selector).unwrap();
    assert!(again.sync().is_ok(), "the lost device is handed out again");

    app(&mut window).apply(Command::Show("Device"));
    wait(&mut window, LIMIT, |window| window.query_by_label("cpu").is_some());
    window.get_by_label("cpu").click();
    window.step();
    window.get_by_label_contains("Resume from the last checkpoint").click();
    let over = wait(&mut window, LIMIT, |window| {
        let app = window.state().as_ref();
        steps(app) == 8 && !app.is_some_and(|app| app.state().is_training())
    });
    assert!(over, "the resumed run does not end");
}
