//! The window, driven by role and label as a person or a screen reader would, with the real engine behind it.
#![cfg(feature = "app")]

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
    time::{Duration, Instant},
};

use egui::accesskit::Role;
use egui_kittest::{
    SnapshotOptions, SnapshotResults,
    kittest::{NodeT, Queryable},
};
use martlet::app::{App, Command};

#[path = "support/window.rs"]
mod windows;

use windows::{Window, app, open, settings, wait};

/// A window on the views that train and show curves.
fn window(settings: martlet::app::Settings, theme: egui::Theme) -> Window {
    open(Some("Curves"), settings, theme)
}

const VIEWS: [&str; 9] = [
    "Train",
    "Curves",
    "Misclassified",
    "Perturbation",
    "Robustness",
    // Beside it stands the view before it, whose picture must not be a machine's own.
    "Lessons",
    "Runs",
    "Experiments",
    "Device",
];

/// Draws frames until something holds of the program.
#[track_caller]
fn until(window: &mut Window, what: &str, holds: impl Fn(&App) -> bool) {
    let limit = Duration::from_secs(900);
    let held = wait(window, limit, |window| window.state().as_ref().is_some_and(&holds));
    assert!(held, "waited in vain until {what}");
}

fn trained(app: &App) -> bool {
    !app.state().shown.is_empty() && !app.state().is_training()
}

/// A folder with one finished run, trained once for all tests.
fn runs_with_one() -> &'static Path {
    static RUNS: OnceLock<tempfile::TempDir> = OnceLock::new();
    RUNS.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let mut window = window(settings(folder.path()), egui::Theme::Light);
        window.step();
        app(&mut window).apply(Command::Start);
        until(&mut window, "the run has ended", trained);
        let kept = folder.path().join("glyphs-mart-1/examples.json");
        until(&mut window, "its examples are kept", |_| kept.exists());
        folder
    })
    .path()
}

fn first_run() -> PathBuf {
    runs_with_one().join("glyphs-mart-1")
}

#[test]
fn one_click_on_start_draws_curves_and_pause_step_and_stop_obey() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.recipe.epochs = 50;
    let mut window = window(settings, egui::Theme::Dark);
    window.step();
    window.get_by_label("Start").click();
    until(&mut window, "a curve has two points", |app| {
        let shown = app.state().current();
        shown.is_some_and(|shown| shown.curves.get("loss").is_some_and(|loss| loss.points().len() >= 2))
    });
    window.get_by_label("Pause").click();
    window.step();
    until(&mut window, "training is held", |app| app.state().is_paused());
    std::thread::sleep(Duration::from_millis(1_500));
    let steps = |window: &mut Window| {
        window.step();
        app(window)
            .state()
            .current()
            .unwrap()
            .last
            .as_ref()
            .unwrap()
            .total_steps
    };
    let held = steps(&mut window);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(steps(&mut window), held, "paused training went on");
    window.get_by_label("Step").click();
    window.step();
    until(&mut window, "one more minibatch is done", |app| {
        app.state().current().unwrap().last.as_ref().unwrap().total_steps > held
    });
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(steps(&mut window), held + 1, "a step is one minibatch");
    window.get_by_label("Stop, keep best").click();
    window.step();
    until(&mut window, "training has stopped", |app| !app.state().is_training());
    let run = folder.path().join("glyphs-mart-1");
    let kept = martlet::runs::list(folder.path()).unwrap();
    assert_eq!(kept[0].state, martlet::runs::State::Stopped, "{run:?}");
    app(&mut window).apply(Command::Resume(run));
    until(&mut window, "the resumed run goes further", |app| {
        let shown = app.state().current();
        shown
            .and_then(|shown| shown.last.as_ref())
            .is_some_and(|last| last.total_steps > held + 1)
    });
}

#[test]
fn every_view_opens_in_both_themes_and_looks_as_reviewed() {
    let mut results = SnapshotResults::new();
    for theme in [egui::Theme::Light, egui::Theme::Dark] {
        let mut window = window(settings(runs_with_one()), theme);
        window.step();
        app(&mut window).apply(Command::Select(first_run()));
        for view in VIEWS {
            app(&mut window).apply(Command::Show(view));
            match view {
                "Misclassified" => until(&mut window, "its examples are read", |app| {
                    app.state().current().is_some_and(|shown| shown.book.is_some())
                }),
                "Perturbation" => until(&mut window, "the attack is shown", |app| {
                    app.state().lab.finding.is_some()
                }),
                "Runs" => until(&mut window, "runs are listed", |app| {
                    app.state().runs.as_ref().is_ok_and(|runs| !runs.is_empty())
                }),
                "Experiments" => {
                    wait(&mut window, Duration::from_secs(60), |window| {
                        window.query_by_label("Reported and measured").is_some()
                    });
                    assert!(
                        window.query_all_by_label("MART (paper)").count() > 0,
                        "the rows are not there"
                    );
                }
                "Device" => {
                    wait(&mut window, Duration::from_secs(60), |window| {
                        window.query_by_label("cpu").is_some()
                    });
                    window.get_by_label("Copy a report").click();
                    window.step();
                    let copied = wait(&mut window, Duration::from_secs(60), |window| {
                        window.query_by_label("Copied; paste it into the report").is_some()
                    });
                    assert!(copied, "no report is copied");
                }
                _ => {}
            }
            // The devices of a machine and the moment of a run are its own: no pictures of them.
            if !matches!(view, "Device" | "Runs") {
                let name = format!("{}-{theme:?}", view.to_lowercase()).to_lowercase();
                // Another processor rounds otherwise, which moves a digit or the end of a curve.
                let options = SnapshotOptions::new().threshold(2.0).max_failed_pixels(6_000);
                window.run_steps(2);
                window.snapshot_options(name, &options);
            }
        }
        results.extend_harness(&mut window);
    }
}

#[test]
fn a_recipe_is_set_field_by_field_and_as_text() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = window(settings(folder.path()), egui::Theme::Light);
    window.step();
    window.get_by_label("Show every field").click();
    window.run_steps(3);
    let averages = window.get_by_role_and_label(Role::CheckBox, "Average weights");
    averages.scroll_to_me();
    window.run_steps(30);
    window.get_by_role_and_label(Role::CheckBox, "Average weights").click();
    window.run_steps(3);
    let before = app(&mut window).state().settings.recipe.clone();
    assert!(before.average.is_some(), "the box does not give the field");

    let typed = |window: &mut Window, text: &str| {
        window
            .get_by_role_and_label(Role::MultilineTextInput, "The whole recipe")
            .focus();
        window.run_steps(2);
        window.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::A);
        window.event(egui::Event::Text(text.to_string()));
        window.run_steps(3);
        app(window).state().settings.recipe.clone()
    };
    let mut other = before.clone();
    other.epochs = 3;
    other.defence = martlet::defences::DefenceSpec::Free { replays: 4 };
    assert_eq!(
        typed(&mut window, &other.to_toml()),
        other,
        "what is typed is not taken over"
    );
    let half = other.to_toml().replace("epochs = 3", "epochs = ");
    assert_eq!(typed(&mut window, &half), other, "half a recipe has changed something");
    assert!(
        window.query_by_label_contains("the recipe cannot be read").is_some(),
        "what is wrong with it is not said"
    );
    let back = window.get_by_label("Take it back");
    back.scroll_to_me();
    window.run_steps(30);
    window.get_by_label("Take it back").click();
    window.run_steps(3);
    assert!(window.query_by_label("Take it back").is_none(), "the text still stands");
    assert_eq!(app(&mut window).state().settings.recipe, other);
}

#[test]
fn commands_are_found_by_name_and_given_by_key() {
    let mut window = window(settings(runs_with_one()), egui::Theme::Dark);
    window.step();
    window.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::K);
    window.run_steps(4);
    assert!(
        window.query_by_label_contains("Reset the layout").is_some(),
        "the palette does not open"
    );
    window.event(egui::Event::Text("robust".to_string()));
    window.run_steps(4);
    assert!(
        window.query_by_label_contains("Reset the layout").is_none(),
        "typing does not narrow the list"
    );
    window.key_press(egui::Key::Enter);
    window.run_steps(3);
    assert!(
        window.query_by_label_contains("No run chosen").is_some(),
        "the palette does not bring the view to the front"
    );
    window.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::Num7);
    window.run_steps(3);
    assert!(
        window.query_by_label_contains("Choose folder").is_some(),
        "the key of Runs does nothing"
    );
}

#[test]
fn what_goes_wrong_is_said_and_nothing_panics() {
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("bad.png");
    std::fs::write(&bad, b"no picture").unwrap();
    let recipe = folder.path().join("bad.toml");
    std::fs::write(&recipe, b"network = 3").unwrap();
    let strange = folder.path().join("strange.xyz");
    std::fs::write(&strange, b"?").unwrap();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let mut window = window(settings(runs_with_one()), egui::Theme::Light);
    window.step();
    for (path, said) in [
        (bad.clone(), "Open a run first"),
        (recipe, "recipe"),
        (strange, "Expected a picture"),
        (empty, "Expected a folder with MNIST"),
    ] {
        app(&mut window).apply(Command::Open(path));
        let is_said = |window: &Window| window.query_by_label_contains(said).is_some();
        assert!(
            wait(&mut window, Duration::from_secs(60), is_said),
            "nothing says {said:?}"
        );
    }
    app(&mut window).apply(Command::Select(folder.path().join("gone")));
    window.run_steps(2);
    assert!(
        window.query_all_by_label_contains("gone").next().is_some(),
        "a run that is gone is not told"
    );
    app(&mut window).apply(Command::Select(first_run()));
    app(&mut window).apply(Command::Show("Perturbation"));
    until(&mut window, "the checkpoint is loaded", |app| {
        app.state().lab.finding.is_some()
    });
    app(&mut window).apply(Command::Open(bad));
    window.run_steps(2);
    assert!(window.query_by_label_contains("Expected a picture in PNG").is_some());
}

#[test]
fn a_radius_that_makes_no_sense_is_told_and_starts_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = window(settings(folder.path()), egui::Theme::Light);
    window.step();
    let before = app(&mut window).state().settings.recipe.clone();
    let typed = |window: &mut Window, text: &str| {
        window.get_by_role_and_label(Role::TextInput, "Threat").focus();
        window.run_steps(2);
        window.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::A);
        window.event(egui::Event::Text(text.to_string()));
        window.run_steps(3);
    };
    for (text, said) in [
        ("8", "did you mean 8/255?"),
        ("99", "did you mean 99/255?"),
        ("0", "leaves every image as it is"),
        ("a third", "expected a number such as 0.3"),
    ] {
        typed(&mut window, text);
        assert!(
            window.query_by_label_contains(said).is_some(),
            "{text}: nothing says {said:?}"
        );
        // Elsewhere than in the field it still stands there.
        window.get_by_label("Train").focus();
        window.run_steps(3);
        assert!(
            window.query_by_label_contains(said).is_some(),
            "{text}: forgotten when the field is left"
        );
        app(&mut window).apply(Command::Start);
        window.run_steps(2);
        assert!(
            app(&mut window).state().trainings.is_empty(),
            "{text}: something was started"
        );
        assert_eq!(app(&mut window).state().settings.recipe, before, "{text}");
    }
    assert!(
        window
            .query_all_by_label_contains("Nothing was started")
            .next()
            .is_some()
    );
    typed(&mut window, "8");
    window.get_by_label("Take 8/255").click();
    window.run_steps(3);
    let state = app(&mut window).state();
    assert_eq!(state.settings.recipe.threat.epsilon.to_string(), "8/255");
    assert_eq!(state.unready, None);
    // The step keeps its share of the radius.
    let step = f64::from(state.settings.recipe.attack.step_size.value());
    let share = f64::from(before.attack.step_size.value() / before.threat.epsilon.value());
    assert!((step - share * 8.0 / 255.0).abs() < 1e-6, "{step}");
}

#[test]
fn a_run_that_this_window_did_not_train_is_looked_at_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let source = first_run();
    let copy = folder.path().join(source.file_name().unwrap());
    let mut pending = vec![(source, copy.clone())];
    while let Some((from, to)) = pending.pop() {
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                pending.push((entry.path(), target));
            } else if entry.file_name() != "examples.json" {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let mut window = window(settings(folder.path()), egui::Theme::Light);
    window.step();
    app(&mut window).apply(Command::Select(copy.clone()));
    app(&mut window).apply(Command::Show("Misclassified"));
    window.run_steps(3);
    window.get_by_label("Look at its examples now").click();
    until(&mut window, "every example is known", |app| {
        let book = app.state().current().and_then(|shown| shown.book.as_ref());
        app.state().surveyed.is_empty() && book.is_some_and(|book| book.counts(2)[4] == 0)
    });
    assert!(
        wait(&mut window, Duration::from_secs(20), |_| copy
            .join("examples.json")
            .exists()),
        "nothing is kept"
    );
}

#[test]
fn help_and_messages_are_a_key_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = window(settings(folder.path()), egui::Theme::Light);
    window.step();
    assert!(window.query_by_label("Messages").is_none(), "nothing was said yet");
    window.key_press(egui::Key::F1);
    window.run_steps(3);
    assert!(window.query_by_label("Close help").is_some(), "F1 shows no help");
    assert!(
        window.query_by_label("Start training").is_some(),
        "the keys are not told"
    );
    window.key_press(egui::Key::Escape);
    window.run_steps(3);
    assert!(
        window.query_by_label("Close help").is_none(),
        "Escape does not close the help"
    );

    let unknown = folder.path().join("a.xyz");
    std::fs::write(&unknown, b"?").unwrap();
    for _ in 0..3 {
        app(&mut window).apply(Command::Open(unknown.clone()));
    }
    window.run_steps(3);
    let said = "Expected a picture";
    assert_eq!(
        window.query_all_by_label_contains(said).count(),
        1,
        "said more than once"
    );
    window.get_by_label("Close message").click();
    window.run_steps(3);
    assert!(
        window.query_by_label_contains(said).is_none(),
        "a closed message still stands there"
    );
    window.get_by_label("Messages").click();
    window.run_steps(3);
    assert!(
        window.query_by_label_contains(said).is_some(),
        "the drawer has forgotten it"
    );

    let before = window.ctx.zoom_factor();
    window.get_by_label("A+").click();
    window.run_steps(3);
    assert!(window.ctx.zoom_factor() > before, "text does not grow");
}

#[test]
fn a_card_tells_what_lies_in_a_folder_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let pictures = folder.path().join("pictures");
    for (class, shade) in [("cats", 40), ("dogs", 200)] {
        std::fs::create_dir_all(pictures.join(class)).unwrap();
        for number in 0..5u8 {
            let picture = image::RgbImage::from_pixel(200, 180, image::Rgb([shade, number * 20, 90]));
            picture
                .save(pictures.join(class).join(format!("{number}.png")))
                .unwrap();
        }
    }
    let mut window = window(settings(folder.path()), egui::Theme::Light);
    window.step();
    app(&mut window).apply(Command::Open(pictures));
    let shows = |window: &mut Window, text: &str| {
        let is_there = |window: &Window| window.query_by_label_contains(text).is_some();
        assert!(wait(window, Duration::from_secs(60), is_there), "nothing says {text:?}");
    };
    shows(&mut window, "10 to train on, no test set: 2 of them held out");
    shows(&mut window, "2 classes · 200×180 pixels in colour");
    shows(&mut window, "cats 5 · dogs 5");
    shows(&mut window, "a minibatch of 10 takes about");
    assert_eq!(app(&mut window).state().settings.recipe.data.held_out, 2);
    window.get_by_label("64×64").click();
    shows(&mut window, "2 classes · 64×64 pixels in colour");
    assert_eq!(app(&mut window).state().settings.recipe.data.resize, Some(64));
}

#[test]
fn a_device_that_does_not_open_leaves_the_window_alive() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.device = "vulkan:99".to_string();
    let mut window = window(settings, egui::Theme::Dark);
    window.step();
    window.get_by_label("Start").click();
    window.step();
    let told = wait(&mut window, Duration::from_secs(60), |window| {
        window.query_by_label_contains("No device answers").is_some()
    });
    assert!(told, "the failure is not told");
    assert!(
        window
            .get_by_label("Start")
            .accesskit_node()
            .is_disabled()
            .then_some(())
            .is_none(),
        "Start stays dead"
    );
}

#[test]
fn attacking_a_run_gives_its_suite_and_a_window_opened_later_still_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    (settings.suite, settings.images) = ("natural,fgsm".to_string(), 10);
    let mut first = window(settings.clone(), egui::Theme::Light);
    first.step();
    app(&mut first).apply(Command::Start);
    until(&mut first, "the run has ended", trained);
    app(&mut first).apply(Command::Show("Robustness"));
    first.run_steps(3);
    first.get_by_label("Attack this run").click();
    let shows = |window: &mut Window| {
        let shown = wait(window, Duration::from_secs(120), |window| {
            window.query_by_label_contains("N = 10 test images").is_some()
        });
        assert!(shown, "the suite is not shown");
    };
    shows(&mut first);
    let mut second = window(settings, egui::Theme::Dark);
    second.step();
    app(&mut second).apply(Command::Select(folder.path().join("glyphs-mart-1")));
    app(&mut second).apply(Command::Show("Robustness"));
    shows(&mut second);
    assert!(second.query_by_label_contains("of an earlier checkpoint").is_none());

    // Training went on elsewhere, and another checkpoint is the best one: the figures are not its own.
    let pointer = folder.path().join("glyphs-mart-1/checkpoints/best");
    let kept = std::fs::read_to_string(&pointer).unwrap();
    std::fs::write(&pointer, "best-000099").unwrap();
    let earlier = |window: &Window| {
        window
            .query_by_label_contains("figures are of an earlier checkpoint")
            .is_some()
    };
    assert!(
        wait(&mut second, Duration::from_secs(60), earlier),
        "told as the newest checkpoint's"
    );
    std::fs::write(&pointer, kept).unwrap();
    assert!(wait(&mut second, Duration::from_secs(60), |window| !earlier(window)));

    // Another list of attacks: what was measured before stays, and can be looked at again.
    app(&mut second).apply(Command::Show("Robustness"));
    second.run_steps(3);
    second.get_by_role_and_label(Role::TextInput, "Attacks").focus();
    second.run_steps(2);
    second.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::A);
    second.event(egui::Event::Text("natural,pgd-2".to_string()));
    second.run_steps(3);
    second.get_by_label("Attack this run").click();
    let run = folder.path().join("glyphs-mart-1");
    let files = || martlet::engine::filing::list(&run, martlet::runs::Slot::Best);
    until(&mut second, "both evaluations are kept", |_| files().len() == 2);
    let offers = |window: &Window, title: &str| window.query_all_by_label_contains(title).count() > 0;
    until(&mut second, "nothing is attacked", |app| app.state().works.is_empty());
    second.run_steps(3);
    second.get_by_role_and_label(Role::ComboBox, "Measured").click();
    let both = |window: &Window| {
        offers(window, "natural, pgd-2 on 10 test images") && offers(window, "natural, fgsm on 10 test images")
    };
    assert!(wait(&mut second, Duration::from_secs(60), both), "one of them is lost");
}

#[test]
fn the_gallery_is_gone_through_by_keys() {
    let mut settings = settings(runs_with_one());
    // So large that few of them fit.
    settings.thumbnail = 140.0;
    let mut window = window(settings, egui::Theme::Dark);
    window.step();
    app(&mut window).apply(Command::Select(first_run()));
    app(&mut window).apply(Command::Show("Misclassified"));
    until(&mut window, "the examples are there", |app| {
        app.state().current().is_some_and(|shown| shown.book.is_some())
    });
    window.run_steps(3);
    let drawn = |window: &Window| {
        let thumbnails = window.query_all_by_label_contains("Example ");
        let told = thumbnails.filter(|node| node.accesskit_node().role() == Role::Button);
        told.map(|node| (node.accesskit_node().label().unwrap_or_default(), node.is_focused()))
            .collect::<Vec<_>>()
    };
    let focused = |window: &Window| {
        drawn(window)
            .into_iter()
            .find(|(_, focused)| *focused)
            .map(|(label, _)| label)
    };
    let (first, _) = drawn(&window)[0].clone();
    window.get_by_label(&first).focus();
    window.run_steps(2);
    assert_eq!(focused(&window).as_ref(), Some(&first));
    let mut press = |key| {
        window.key_press(key);
        window.run_steps(3);
        (focused(&window).expect("a thumbnail has the keys"), drawn(&window))
    };
    let (right, _) = press(egui::Key::ArrowRight);
    assert_ne!(right, first);
    let (last, seen) = press(egui::Key::End);
    // The last one is drawn now, and the first is not any more.
    assert!(!seen.iter().any(|(label, _)| *label == first), "{last}: {seen:?}");
    assert_eq!(press(egui::Key::ArrowRight).0, last);
    assert_eq!(press(egui::Key::Home).0, first);
}

#[test]
fn deleting_asks_first() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = window(settings(folder.path()), egui::Theme::Light);
    window.step();
    app(&mut window).apply(Command::Start);
    until(&mut window, "the run has ended", trained);
    let run = folder.path().join("glyphs-mart-1");
    app(&mut window).apply(Command::Delete(vec![run.clone()]));
    window.run_steps(3);
    window.get_by_label("Keep it").click();
    window.run_steps(3);
    assert!(run.exists());
    app(&mut window).apply(Command::Delete(vec![run.clone()]));
    window.run_steps(3);
    window.get_by_label("Delete the run").click();
    until(&mut window, "the run is deleted", |_| !run.exists());
}

#[test]
fn a_run_that_cannot_be_deleted_keeps_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path());
    let text = settings.recipe.to_toml();
    let new = |name: &str| martlet::runs::Run::create(folder.path(), name, &text, serde_json::json!({})).unwrap();
    let mut held = new("held");
    held.lock().unwrap();
    drop(new("free"));
    let mut window = window(settings, egui::Theme::Light);
    window.step();
    let both = ["held", "free"].map(|name| folder.path().join(name));
    app(&mut window).apply(Command::Delete(both.to_vec()));
    window.run_steps(3);
    window.get_by_label("Delete the runs").click();
    until(&mut window, "the run that nobody holds is deleted", |_| {
        !both[1].exists()
    });
    window.run_steps(3);
    assert!(both[0].exists());
    assert!(
        window.query_by_label_contains("this very process").is_some(),
        "nobody is told why"
    );
}

#[test]
fn runs_are_renamed_compared_and_deleted_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.beside = Some(martlet::defences::DefenceSpec::Standard);
    let mut window = window(settings, egui::Theme::Light);
    window.step();
    app(&mut window).apply(Command::Start);
    until(&mut window, "both runs have ended", |app| {
        app.state().shown.len() == 2 && !app.state().is_training()
    });
    app(&mut window).apply(Command::Select(folder.path().join("glyphs-mart-1")));
    app(&mut window).apply(Command::Show("Runs"));
    until(&mut window, "runs are listed", |app| {
        app.state().runs.as_ref().is_ok_and(|runs| runs.len() == 2)
    });
    window.run_steps(3);
    window.get_by_label("Rename…").click();
    window.run_steps(3);
    window.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::A);
    window.event(egui::Event::Text("first-try".to_string()));
    window.run_steps(2);
    window.key_press(egui::Key::Enter);
    let renamed = folder.path().join("first-try");
    until(&mut window, "the run has its new name", |app| {
        app.state().selected.as_ref() == Some(&renamed)
    });
    assert_eq!(
        martlet::runs::Run::open(&renamed).unwrap().identity()["name"],
        "first-try"
    );
    assert!(!folder.path().join("glyphs-mart-1").exists());
    until(&mut window, "the list is read anew", |app| {
        let runs = app.state().runs.as_ref();
        runs.is_ok_and(|runs| runs.iter().any(|run| run.name == "first-try"))
    });
    window.run_steps(3);

    let head = |window: &Window, name: &str| window.query_all_by_label(name).count();
    assert_eq!(
        (head(&window, "natural"), head(&window, "fgsm"), head(&window, "N")),
        (1, 1, 1)
    );
    let standard = window.query_all_by_label("glyphs-standard-1").last();
    standard
        .expect("it is listed")
        .click_modifiers(egui::Modifiers::COMMAND);
    window.run_steps(3);
    assert!(
        window.query_by_label("2 runs chosen").is_some(),
        "Ctrl chooses no second run"
    );
    window.get_by_label("Delete them…").click();
    window.run_steps(3);
    window.get_by_label("Delete the runs").click();
    until(&mut window, "both runs are deleted", |_| {
        martlet::runs::list(folder.path()).unwrap().is_empty()
    });
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}

#[test]
fn what_is_seen_is_saved_as_a_figure() {
    let copy = tempfile::tempdir().unwrap();
    let run = copy.path().join("glyphs-mart-1");
    copy_folder(&first_run(), &run);
    let mut window = window(settings(copy.path()), egui::Theme::Dark);
    window.step();
    app(&mut window).apply(Command::Select(run.clone()));
    window.run_steps(3);
    for (view, name) in [("Curves", "curves"), ("Perturbation", "perturbation")] {
        app(&mut window).apply(Command::Show(view));
        if view == "Perturbation" {
            until(&mut window, "the attack is shown", |app| {
                app.state().lab.is_current() && !app.state().awaits_subject()
            });
        }
        window.run_steps(3);
        for (label, ending) in [
            ("Drawing (SVG)…", "svg"),
            ("Picture (PNG, 1,920 wide)…", "png"),
            ("Page (PDF)…", "pdf"),
        ] {
            window.get_by_label("Save").click();
            window.run_steps(3);
            window.get_by_label(label).click();
            window.run_steps(2);
            let file = run.join(format!("{name}.{ending}"));
            until(&mut window, "the figure is written", |_| file.exists());
        }
        let svg = std::fs::read_to_string(run.join(format!("{name}.svg"))).unwrap();
        assert!(
            svg.contains("glyphs-mart-1") && svg.contains("ε ="),
            "it does not say what it is of"
        );
    }
}

#[cfg(unix)]
#[test]
fn a_folder_of_runs_that_cannot_be_written_has_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    // A file stands where the folder should be: not even root can write there.
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "").unwrap();
    let mut window = window(settings(&taken), egui::Theme::Light);
    window.step();
    app(&mut window).apply(Command::Start);
    until(&mut window, "the failure is told", |app| !app.state().is_training());
    window.run_steps(3);
    assert!(window.query_by_label_contains("Runs cannot be kept here").is_some());
    assert!(
        window.query_by_label_contains("Keep them in").is_some(),
        "no way out is offered"
    );
    app(&mut window).apply(Command::KeepRunsIn(folder.path().join("own")));
    app(&mut window).apply(Command::Start);
    until(&mut window, "the run has ended", trained);
    assert!(folder.path().join("own/glyphs-mart-1/run.json").exists());
}

#[test]
fn a_lesson_runs_beside_the_duel_and_is_turned_there() {
    let mut window = open(Some("Duel"), settings(runs_with_one()), egui::Theme::Light);
    window.step();
    app(&mut window).apply(Command::Lesson(0));
    app(&mut window).apply(Command::Show("Duel"));
    window.run_steps(4);
    assert!(
        window.query_by_label_contains("step 1 of").is_some(),
        "the lesson is out of sight"
    );
    window.get_by_label("Leave the lesson").click();
    window.run_steps(3);
    assert!(window.query_by_label_contains("step 1 of").is_none());
}

/// Goes through a lesson as a person would: the step's button, then Next; gives the seconds of each step.
fn through(window: &mut Window, number: usize) -> Vec<f64> {
    app(window).apply(Command::Lesson(number));
    window.run_steps(2);
    let open = |app: &App| {
        let lessons = &app.state().settings.lessons;
        lessons
            .open
            .as_ref()
            .map(|id| (id.clone(), lessons.courses[id].clone()))
    };
    let mut seconds = Vec::new();
    while let Some((id, course)) = open(app(window)) {
        let began = Instant::now();
        let step = course.step;
        let text = std::fs::read_dir("assets/lessons")
            .unwrap()
            .map(|file| file.unwrap().path())
            .find(|path| path.to_string_lossy().contains(&format!("{}-", number + 1)))
            .map(|path| std::fs::read_to_string(path).unwrap());
        let text: toml::Table = text.unwrap().parse().unwrap();
        let written = &text["steps"][step];
        if let Some(button) = written.get("button").and_then(|button| button.as_str()) {
            window.get_by_label(button).click();
            window.run_steps(3);
            if written["acts"]
                .as_array()
                .unwrap()
                .iter()
                .any(|act| act.get("evaluate").is_some())
            {
                assert!(
                    window.query_by_label_contains("Waiting").is_some() || course.done.contains(&step),
                    "{id}"
                );
            }
        }
        if let Some(done) = written.get("done") {
            if done.get("radii").is_some() {
                until(window, "the attack is shown", |app| app.state().lab.finding.is_some());
                window.run_steps(4);
                window.get_all_by_role(Role::Slider).next().unwrap().focus();
                for _ in 0..12 {
                    window.run_steps(2);
                    window.key_press(egui::Key::ArrowRight);
                    window.run_steps(2);
                    std::thread::sleep(Duration::from_millis(300));
                }
            }
            until(window, &format!("step {} of {id} is done", step + 1), |app| {
                open(app).is_some_and(|(_, course)| course.done.contains(&step))
            });
        }
        seconds.push(began.elapsed().as_secs_f64());
        let measured = open(app(window)).unwrap().1.measured.get(&step).cloned();
        eprintln!("{id}, step {}: {:.0} s {measured:#?}", step + 1, seconds[step]);
        let promised = written.get("measured").is_some();
        assert_eq!(
            promised,
            measured.is_some(),
            "{id}, step {}: what was measured",
            step + 1
        );
        let last = step + 1 == text["steps"].as_array().unwrap().len();
        window.get_by_label(if last { "Finish" } else { "Next" }).click();
        window.run_steps(3);
    }
    let lessons = &app(window).state().settings.lessons;
    assert!(
        lessons
            .courses
            .values()
            .any(|course| course.done.len() == seconds.len())
    );
    seconds
}

#[test]
fn the_first_lesson_is_gone_through_and_the_last_takes_over_its_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.lessons.budget = 0.2;
    let mut window = window(settings, egui::Theme::Light);
    window.step();
    assert_eq!(through(&mut window, 0).len(), 5);
    let runs = |window: &mut Window| {
        let courses = &app(window).state().settings.lessons.courses;
        courses
            .values()
            .map(|course| course.runs["standard"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(through(&mut window, 4).len(), 6);
    let [first, second] = runs(&mut window).try_into().unwrap();
    assert_eq!(first, second, "the second lesson trained what was there");
    let courses = &app(&mut window).state().settings.lessons.courses;
    let warned = courses["does-it-hold"].measured[&4].join(" ");
    assert!(warned.contains("Martlet warns"), "{warned}");
}

/// Takes minutes: `cargo test --release --test app -- --ignored every_lesson --nocapture` tells how many.
#[test]
#[ignore = "minutes: measures how long each lesson takes"]
fn every_lesson_takes_minutes() {
    for number in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let mut window = window(settings(folder.path()), egui::Theme::Dark);
        window.step();
        let seconds = through(&mut window, number);
        eprintln!(
            "lesson {}: {:.0} s, {seconds:.0?}",
            number + 1,
            seconds.iter().sum::<f64>()
        );
    }
}

#[test]
fn a_lesson_looks_as_reviewed() {
    let mut results = SnapshotResults::new();
    for theme in [egui::Theme::Light, egui::Theme::Dark] {
        let mut window = window(settings(runs_with_one()), theme);
        window.step();
        app(&mut window).apply(Command::Lesson(0));
        window.run_steps(4);
        let options = SnapshotOptions::new().threshold(2.0).max_failed_pixels(6_000);
        window.snapshot_options(format!("lesson-{theme:?}").to_lowercase(), &options);
        results.extend_harness(&mut window);
    }
}

#[test]
fn two_runs_of_one_defence_train_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    let mut beside = settings.recipe.defence.clone();
    beside.set_lambda(0.5);
    settings.beside = Some(beside);
    let mut window = window(settings, egui::Theme::Dark);
    window.step();
    app(&mut window).apply(Command::Start);
    until(&mut window, "both runs have ended", |app| {
        app.state().shown.len() == 2 && !app.state().is_training()
    });
    assert_eq!(martlet::runs::list(folder.path()).unwrap().len(), 2);
}

#[test]
fn columns_and_rows_of_runs_are_hidden_and_shown_again() {
    let mut window = window(settings(runs_with_one()), egui::Theme::Light);
    window.step();
    app(&mut window).apply(Command::Show("Runs"));
    until(&mut window, "runs are listed", |app| {
        app.state().runs.as_ref().is_ok_and(|runs| !runs.is_empty())
    });
    window.run_steps(2);
    let heads = |window: &Window, name: &str| window.query_all_by_label(name).count();
    assert_eq!(heads(&window, "seed"), 0, "one run differs in nothing");
    assert_eq!(heads(&window, "fgsm"), 1);
    window.get_by_label("Columns").click();
    window.run_steps(3);
    window.get_by_role_and_label(Role::CheckBox, "seed").click();
    window.run_steps(3);
    window.get_by_role_and_label(Role::CheckBox, "fgsm").click();
    window.run_steps(3);
    assert_eq!(heads(&window, "seed"), 2, "its box and its column's head");
    let chosen = app(&mut window).state().settings.columns.clone().unwrap();
    assert!(chosen.contains("seed") && !chosen.contains("fgsm"), "{chosen:?}");
    window
        .get_by_role_and_label(Role::CheckBox, "only what differs")
        .click();
    window.run_steps(3);
    assert_eq!(app(&mut window).state().settings.columns, None);

    let mut window = self::window(settings(runs_with_one()), egui::Theme::Light);
    window.step();
    app(&mut window).apply(Command::Select(first_run()));
    app(&mut window).apply(Command::Show("Runs"));
    until(&mut window, "runs are listed", |app| {
        app.state().runs.as_ref().is_ok_and(|runs| !runs.is_empty())
    });
    window.run_steps(2);
    window.get_by_label("Hide").click();
    window.run_steps(3);
    assert!(
        window.query_by_label("Curves of glyphs-mart-1").is_none(),
        "still listed"
    );
    window.get_by_label("show hidden (1)").click();
    window.run_steps(3);
    assert!(window.query_by_label("Curves of glyphs-mart-1").is_some());
    window.get_by_label("Show it again").click();
    window.run_steps(3);
    assert!(app(&mut window).state().settings.hidden_runs.is_empty());
}

#[test]
fn one_image_is_attacked_on_two_checkpoints_of_one_run() {
    let mut window = window(settings(runs_with_one()), egui::Theme::Light);
    window.step();
    app(&mut window).apply(Command::Select(first_run()));
    app(&mut window).apply(Command::Show("Perturbation"));
    until(&mut window, "the attack is shown", |app| {
        app.state().lab.finding.is_some()
    });
    let pick = |window: &mut Window, combo: &str, choice: &str| {
        window.get_by_role_and_label(Role::ComboBox, combo).click();
        window.run_steps(3);
        window
            .get_all_by_role(Role::Button)
            .find(|node| node.accesskit_node().label().as_deref() == Some(choice))
            .expect("the choice is offered")
            .click();
        window.run_steps(3);
    };
    let subjects = |window: &mut Window, wanted: [&str; 2]| {
        until(window, "both checkpoints are attacked", |app| {
            app.state().lab.finding.as_ref().is_some_and(|finding| {
                let subjects: Vec<&str> = finding.traces.iter().map(|trace| trace.subject.as_str()).collect();
                subjects == wanted
            })
        });
    };
    let (best, last) = ("glyphs-mart-1, best checkpoint", "glyphs-mart-1, last checkpoint");
    pick(&mut window, "Beside", "glyphs-mart-1 (MART (λ = 5))");
    subjects(&mut window, [best, last]);
    pick(&mut window, "Checkpoint", "last");
    pick(&mut window, "Checkpoint beside", "best");
    subjects(&mut window, [last, best]);
    pick(&mut window, "Beside", "nothing");
    until(&mut window, "one checkpoint is attacked alone", |app| {
        let finding = app.state().lab.finding.as_ref();
        finding.is_some_and(|finding| finding.traces.len() == 1)
    });
}
