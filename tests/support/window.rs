//! A window of the program without a screen, with the real engine behind it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use egui_kittest::Harness;
use martlet::app::{App, Command, Settings};

/// The window; the program in it is made by the first frame.
pub type Window = Harness<'static, Option<App>>;

/// What trains within seconds on a slow processor.
pub fn settings(runs_dir: &Path) -> Settings {
    let mut settings = Settings {
        runs_dir: runs_dir.to_path_buf(),
        device: "cpu".to_string(),
        smoothing: 0.0,
        beside: None,
        ..Settings::default()
    };
    let recipe = &mut settings.recipe;
    recipe.epochs = 2;
    recipe.batch_size = 16;
    recipe.data.limit_train = Some(48);
    recipe.data.held_out = 32;
    recipe.attack.steps = 2;
    recipe.warm_up.natural_epochs = 0;
    recipe.evaluation.attacks = vec!["natural".into(), "fgsm".into()];
    recipe.evaluation.limit = Some(16);
    settings
}

/// Opens the window, on this view where one is named.
pub fn open(view: Option<&'static str>, settings: Settings, theme: egui::Theme) -> Window {
    let mut settings = settings;
    settings.theme = theme.into();
    Harness::builder()
        .with_size([1280.0, 800.0])
        .with_theme(theme)
        .with_max_steps(8)
        .wgpu()
        .build_ui_state(
            move |ui, app: &mut Option<App>| {
                let app = app.get_or_insert_with(|| {
                    let mut app = App::new(ui.ctx(), settings.clone(), None);
                    if let Some(view) = view {
                        app.apply(Command::Show(view));
                    }
                    app
                });
                app.drain();
                // A real window is cleared to this.
                let ground = ui.visuals().panel_fill;
                ui.painter().rect_filled(ui.max_rect(), 0.0, ground);
                app.window_ui(ui);
            },
            None,
        )
}

/// The program in the window.
pub fn app(window: &mut Window) -> &mut App {
    window.state_mut().as_mut().expect("the first frame is drawn")
}

/// Draws frames until something holds, for at most `limit`; the engine works on threads of its own. Whether it came to hold.
pub fn wait(window: &mut Window, limit: Duration, holds: impl Fn(&Window) -> bool) -> bool {
    let began = Instant::now();
    loop {
        window.step();
        if holds(window) {
            window.step();
            return true;
        }
        if began.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
