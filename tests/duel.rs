//! The duel, driven by role and label as a person or a screen reader would, with the shipped networks behind it.
#![cfg(feature = "app")]

use std::time::Duration;

use egui::accesskit::Role;
use egui_kittest::{
    SnapshotOptions,
    kittest::{NodeT, Queryable},
};
use martlet::app::{App, Command, Settings};

#[path = "support/window.rs"]
mod windows;

use windows::{Window, app, open, settings, wait};

fn duel(settings: Settings, theme: egui::Theme) -> Window {
    let mut window = open(None, settings, theme);
    window.step();
    window
}

/// Draws frames until something holds of the program.
#[track_caller]
fn until(window: &mut Window, what: &str, holds: impl Fn(&App) -> bool) {
    let held = wait(window, Duration::from_secs(300), |window| {
        window.state().as_ref().is_some_and(&holds)
    });
    assert!(held, "waited in vain until {what}");
}

fn both_answer(app: &App) -> bool {
    let duel = &app.state().duel;
    let place = duel.place;
    duel.corners
        .iter()
        .all(|corner| corner.bout(place).is_some_and(|bout| bout.place == place))
}

fn all_radii(app: &App) -> bool {
    app.state().duel.corners.iter().all(martlet::app::Corner::is_whole)
}

#[test]
fn it_is_the_first_thing_one_sees_and_the_networks_answer_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let began = std::time::Instant::now();
    let mut window = duel(settings(folder.path()), egui::Theme::Dark);
    until(&mut window, "both networks answer", both_answer);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    // At the radius that MART was trained for, natural training is fooled on the first picture and MART is not.
    let says = |window: &Window, text: &str| window.query_by_label_contains(text).is_some();
    window.run_steps(2);
    assert!(
        says(&window, "fooled, "),
        "natural training holds on the picture that shows first"
    );
    assert!(
        says(&window, "7 holds, "),
        "MART does not hold on the picture that shows first"
    );
    // The views that train make room for it, and come back with another view.
    assert!(window.query_by_label("Built-in recipes").is_none());
    app(&mut window).apply(Command::Show("Train"));
    window.run_steps(3);
    assert!(window.query_by_role_and_label(Role::Slider, "ε").is_none());
}

#[test]
fn keys_alone_move_the_radius_and_the_answers_follow() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = duel(settings(folder.path()), egui::Theme::Light);
    until(&mut window, "every radius is known", all_radii);
    let slider = window.get_by_role_and_label(Role::Slider, "ε");
    slider.focus();
    window.run_steps(2);
    let value = |window: &Window| {
        let slider = window.get_by_role_and_label(Role::Slider, "ε");
        slider.accesskit_node().numeric_value().unwrap()
    };
    let trained = value(&window);
    assert!(trained > 0.0);
    window.key_press(egui::Key::ArrowRight);
    window.run_steps(2);
    assert!(value(&window) > trained, "an arrow does not move it");
    window.key_press(egui::Key::Home);
    window.run_steps(3);
    assert_eq!(value(&window), 0.0);
    assert_eq!(
        window.query_all_by_label_contains("7 holds, ").count(),
        2,
        "without an attack both are right"
    );
    window.key_press(egui::Key::End);
    window.run_steps(3);
    assert!(value(&window) > 2.9 * trained);
    // What falls first is marked first.
    let state = app(&mut window).state();
    let picture = state.duel.picture.clone().unwrap();
    let falls = |corner: usize| {
        state.duel.corners[corner]
            .falls(&picture)
            .map_or(usize::MAX, |(place, _)| place)
    };
    assert!(falls(0) < falls(1), "{} {}", falls(0), falls(1));
}

#[test]
fn a_digit_drawn_with_the_mouse_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = duel(settings(folder.path()), egui::Theme::Dark);
    until(&mut window, "both networks answer", both_answer);
    window.run_steps(2);
    let place = window
        .get_by_role_and_label(Role::Canvas, "Canvas: draw a digit with the mouse")
        .rect();
    // A one: a line from the top to the bottom.
    let along = |share: f32| egui::pos2(place.center().x, place.top() + place.height() * share);
    window.drag_at(along(0.2));
    for step in 0..=12 {
        window.hover_at(along(0.2 + 0.05 * step as f32));
        window.step();
    }
    window.drop_at(along(0.8));
    window.step();
    until(&mut window, "the drawing is answered", |app| {
        let picture = app.state().duel.picture.as_ref();
        picture.is_some_and(|picture| picture.title == "drawn by hand") && both_answer(app)
    });
    window.run_steps(2);
    assert_eq!(window.query_all_by_label_contains("drawn by hand").count(), 2);
    window.get_by_label("Clear the canvas").click();
    window.run_steps(2);
    assert!(app(&mut window).state().duel.chosen.is_some());
}

#[test]
fn the_sentences_words_change_the_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = duel(settings(folder.path()), egui::Theme::Dark);
    window.run_steps(2);
    window.get_by_label("Defence: MART").click();
    window.run_steps(3);
    window.get_by_label("TRADES").click();
    window.run_steps(3);
    assert_eq!(app(&mut window).state().settings.recipe.defence.name(), "trades");
    window.get_by_label("ε: 0.1").click();
    window.run_steps(3);
    window.get_by_label("0.2").click();
    window.run_steps(3);
    let recipe = app(&mut window).state().settings.recipe.clone();
    assert_eq!(recipe.threat.epsilon.value(), 0.2);
    assert!(
        (recipe.attack.step_size.value() - 0.05).abs() < 1e-6,
        "the step does not follow ε"
    );
    window.get_by_label("The whole recipe").click();
    window.run_steps(3);
    assert!(
        window.query_by_label("Show every field").is_some(),
        "the form does not fold out"
    );
}

#[test]
fn start_trains_both_on_stage_and_the_duel_follows() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    settings.beside = Some(martlet::defences::DefenceSpec::Natural);
    let mut window = duel(settings, egui::Theme::Dark);
    until(&mut window, "both networks answer", both_answer);
    window.get_by_label("Start").click();
    window.step();
    until(&mut window, "both corners hold what was trained, at its end", |app| {
        let corners = &app.state().duel.corners;
        let is_new = |corner: &martlet::app::Corner| {
            corner
                .fighter
                .as_ref()
                .is_some_and(|own| own.run.is_some() && own.steps.is_none())
        };
        corners.iter().all(is_new) && both_answer(app)
    });
    let state = app(&mut window).state();
    let name = |corner: usize| state.duel.corners[corner].fighter.as_ref().unwrap().defence().name();
    assert_eq!([name(0), name(1)], ["natural", "mart"]);
    until(&mut window, "accuracy against ε is measured", |app| {
        let measured = |corner: &martlet::app::Corner| corner.robustness.as_ref().is_some_and(|own| own.complete);
        app.state().duel.corners.iter().all(measured)
    });
}

#[test]
fn what_is_shared_opens_the_same_duel_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = duel(settings(folder.path()), egui::Theme::Light);
    until(&mut first, "every radius is known", all_radii);
    let sharing = martlet::app::Sharing::of(&app(&mut first).state().duel, false).unwrap();
    let [png, gif, toml] = sharing.write(&folder.path().join("shared.png")).unwrap();
    let picture = image::open(&png).unwrap();
    assert_eq!((picture.width(), picture.height()), (1920, 1080));
    let size = std::fs::metadata(&gif).unwrap().len();
    assert!((100_000..4_000_000).contains(&size), "{size} bytes");

    let mut second = duel(settings(folder.path()), egui::Theme::Light);
    app(&mut second).apply(Command::Open(toml));
    until(&mut second, "the shared picture is answered", |app| {
        both_answer(app) && app.state().duel.chosen.is_none()
    });
    let shown = |window: &mut Window| {
        let duel = &app(window).state().duel;
        let picture = duel.picture.clone().unwrap();
        let bytes: Vec<u8> = picture
            .pixels
            .iter()
            .map(|value| (value * 255.0).round() as u8)
            .collect();
        (duel.place, picture.title.clone(), picture.label, bytes)
    };
    assert_eq!(shown(&mut second), shown(&mut first));
}

#[test]
fn on_a_wall_it_stands_alone_in_large_type() {
    let folder = tempfile::tempdir().unwrap();
    let mut window = duel(settings(folder.path()), egui::Theme::Dark);
    until(&mut window, "both networks answer", both_answer);
    window.key_press(egui::Key::F11);
    window.run_steps(4);
    assert!(window.query_by_label("Curves").is_none(), "the tabs are still there");
    assert_eq!(window.ctx.zoom_factor(), 1.5);
    window.key_press(egui::Key::Escape);
    window.run_steps(4);
    assert_eq!(window.ctx.zoom_factor(), 1.0);
    assert!(window.query_by_label("Curves").is_some());
}

#[test]
fn it_looks_as_reviewed() {
    let folder = tempfile::tempdir().unwrap();
    let mut results = egui_kittest::SnapshotResults::new();
    for theme in [egui::Theme::Light, egui::Theme::Dark] {
        let mut window = duel(settings(folder.path()), theme);
        until(&mut window, "every radius is known", all_radii);
        window.run_steps(3);
        let options = SnapshotOptions::new().threshold(2.0).max_failed_pixels(6_000);
        window.snapshot_options(format!("duel-{theme:?}").to_lowercase(), &options);
        results.extend_harness(&mut window);
    }
}
