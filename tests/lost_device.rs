//! A GPU that is lost while it trains. A file of its own: no other test of its process may need that GPU.
#![cfg(feature = "app")]

use std::time::{Duration, Instant};

use egui_kittest::{Harness, kittest::Queryable};
use martlet::{
    app::{App, Command, Settings},
    compute,
};

mod support;

type Window = Harness<'static, Option<App>>;

fn app(window: &mut Window) -> &mut App {
    window.state_mut().as_mut().expect("the first frame is drawn")
}

fn until(window: &mut Window, what: &str, holds: impl Fn(&Window) -> bool) {
    let began = Instant::now();
    while !holds(window) {
        assert!(
            began.elapsed() < Duration::from_secs(600),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
        window.step();
    }
}

#[test]
fn the_window_lives_on_says_so_and_resumes_on_another_device() {
    let Some(device) = support::vulkan() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings {
        runs_dir: folder.path().to_path_buf(),
        device: device.info().selector.clone(),
        ..Settings::default()
    };
    let recipe = &mut settings.recipe;
    recipe.epochs = 2;
    recipe.batch_size = 16;
    recipe.data.limit_train = Some(64);
    recipe.data.held_out = 16;
    recipe.attack.steps = 1;
    recipe.warm_up.natural_epochs = 0;
    recipe.evaluation.attacks = vec!["natural".into()];
    let mut window: Window = Harness::builder()
        .with_size([1280.0, 800.0])
        .with_max_steps(8)
        .build_ui_state(
            move |ui, app: &mut Option<App>| {
                let app = app.get_or_insert_with(|| App::new(ui.ctx(), settings.clone(), None));
                app.drain();
                app.window_ui(ui);
            },
            None,
        );
    window.step();
    app(&mut window).apply(Command::Start);
    let steps = |window: &Window| {
        let shown = window.state().as_ref().and_then(|app| app.state().shown.first());
        shown
            .and_then(|shown| shown.last.as_ref())
            .map_or(0, |step| step.total_steps)
    };
    until(&mut window, "a minibatch is done", |window| steps(window) >= 1);
    device.lose();
    until(&mut window, "the loss is told with a way out", |window| {
        window
            .query_by_label_contains("Resume from the last checkpoint")
            .is_some()
    });
    // The text is in several lines, each a node of its own.
    let told = format!("{:?}", window.root());
    assert!(told.contains("checkpoint is kept"), "{told}");
    assert!(!app(&mut window).state().is_training());

    // The same GPU, set up anew.
    let again = compute::open(&device.info().selector).unwrap();
    assert!(again.sync().is_ok(), "the lost device is handed out again");

    app(&mut window).apply(Command::Show("Device"));
    window.run_steps(3);
    window.get_by_label("cpu").click();
    window.step();
    window.get_by_label_contains("Resume from the last checkpoint").click();
    until(&mut window, "the resumed run is over", |window| {
        let app = window.state().as_ref().expect("drawn");
        steps(window) == 8 && !app.state().is_training()
    });
}
