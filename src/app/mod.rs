//! The window: views on the engine, which works on threads of its own.
//!
//! A click becomes a [`Command`], [`App::apply`] carries it out, a job (`job.rs`) trains on a thread of its own; its
//! messages are drained by [`App::drain`] into [`State`], which the views read. No view waits for anything.

mod atlas;
mod background;
mod bench;
mod canvas;
mod command;
mod console;
mod dialog;
mod duel;
mod examples;
mod export;
mod guide;
mod job;
mod kinds;
mod lab;
mod lessons;
mod messages;
mod notify;
mod palette;
mod picture;
mod series;
mod settings;
mod shown;
mod state;
mod status;
mod theme;
mod top;
mod views;

use std::path::PathBuf;

use eframe::egui_wgpu;
use egui::{Context, Ui};

pub use command::Command;
pub use duel::{Corner, Sharing};
pub use settings::Settings;
pub use state::State;

use command::Entry;
use views::View;

/// What the window's memory is kept under.
const SETTINGS: &str = "settings";
const LAYOUT: &str = "layout";

/// How much larger everything is on a wall.
const PROJECTED: f32 = 1.5;

/// The window.
pub struct App {
    state: State,
    views: Vec<Box<dyn View>>,
    tree: egui_tiles::Tree<String>,
    entries: Vec<Entry>,
    palette: palette::Palette,
    /// Whether the help is open.
    helping: bool,
    bench: Option<bench::Bench>,
}

/// Opens the window and stays until it closes.
///
/// # Errors
/// Where there is no display, which is found out before anything else is done, or nothing to draw with.
pub fn run() -> Result<(), eframe::Error> {
    let crashed = canvas::has_crashed();
    canvas::note_crashes();
    open(true, |creation| {
        console::leave();
        let settings: Settings = creation
            .storage
            .and_then(|storage| serde_json::from_str(&storage.get_string(SETTINGS)?).ok())
            .unwrap_or_default();
        let settings = settings.at_home();
        #[cfg(feature = "remote")]
        if !settings.token_file.is_empty() {
            settings.show_token();
        }
        let layout = creation
            .storage
            .and_then(|storage| serde_json::from_str(&storage.get_string(LAYOUT)?).ok());
        let mut app = App::new(&creation.egui_ctx, settings, layout.filter(|_| !crashed));
        if crashed {
            app.state
                .complain("the last window crashed; the views stand where they stand at first".to_string());
        }
        app
    })
}

/// Measures the window, with training in a folder that is thrown away, and gives the report.
///
/// # Errors
/// Where there is no display, or nothing to draw with.
pub fn measure(device: &str, data: Option<String>, view: Option<String>) -> Result<String, eframe::Error> {
    let folder = tempfile::tempdir().map_err(|error| eframe::Error::AppCreation(Box::new(error)))?;
    let view = view.map(|wanted| bench::view_called(&wanted)).transpose();
    let view = view.map_err(|error| eframe::Error::AppCreation(error.into()))?;
    let settings = bench::Bench::settings(folder.path().to_path_buf(), device.to_string(), data);
    let (sender, receiver) = std::sync::mpsc::channel();
    open(false, move |creation| {
        let mut app = App::new(&creation.egui_ctx, settings, None);
        app.bench = Some(bench::Bench::new(view, sender));
        app
    })?;
    Ok(receiver
        .try_recv()
        .unwrap_or_else(|_| "the window was closed before the measurement was over".to_string()))
}

/// Why the window does not open, as a person should read it.
pub fn reason(error: &eframe::Error) -> String {
    match error {
        eframe::Error::Winit(_) | eframe::Error::WinitEventLoop(_) => "no display was found".to_string(),
        other => other.to_string(),
    }
}

fn open(remembers: bool, make: impl FnOnce(&eframe::CreationContext<'_>) -> App) -> Result<(), eframe::Error> {
    let event_loop = winit::event_loop::EventLoop::<eframe::UserEvent>::with_user_event().build()?;
    let (wgpu_options, remark) = canvas::configuration();
    let options = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("Martlet")
            .with_app_id("martlet")
            .with_inner_size([1280.0, 800.0])
            .with_min_inner_size([800.0, 520.0]),
        renderer: eframe::Renderer::Wgpu,
        wgpu_options,
        persist_window: remembers,
        persistence_path: (!remembers).then(|| std::env::temp_dir().join("martlet-bench.ron")),
        ..Default::default()
    };
    let came_up = canvas::CameUp::default();
    let shown = came_up.clone();
    let make = Box::new(
        move |creation: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, _> {
            shown.note();
            let mut app = make(creation);
            if let Some(remark) = remark {
                app.state.complain(remark);
            }
            Ok(Box::new(app))
        },
    );
    let mut window = eframe::create_native("martlet", options, make, &event_loop);
    event_loop.run_app(&mut window)?;
    came_up.or_error()
}

impl App {
    /// A window with these settings; without a layout the views stand where they stand at first.
    pub fn new(ctx: &Context, settings: Settings, layout: Option<egui_tiles::Tree<String>>) -> Self {
        theme::install(ctx);
        ctx.set_theme(settings.theme);
        let views = views::all();
        let names: Vec<&'static str> = views.iter().map(|view| view.name()).collect();
        let tree = layout
            .filter(|tree| views::holds_all(tree, &names))
            .unwrap_or_else(|| views::first_layout(&names));
        let mut state = State::new(ctx, settings);
        state.open_remembered();
        state.refresh_runs();
        Self {
            state,
            views,
            tree,
            entries: command::entries(&names, lessons::all().iter().map(|lesson| lesson.heading.as_str())),
            palette: palette::Palette::default(),
            helping: false,
            bench: None,
        }
    }

    /// What the views look at.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Takes in what the working threads say; costs no more than the messages do.
    pub fn drain(&mut self) {
        self.make_room();
        self.state.drain();
        for view in &mut self.views {
            view.logic(&mut self.state);
        }
        self.state.works = self.views.iter().filter_map(|view| view.at_work()).collect();
        self.state.doing = self.views.iter().filter_map(|view| view.doing()).collect();
        self.state.close_when_done();
        for command in std::mem::take(&mut self.state.commands) {
            self.apply(command);
        }
    }

    /// Carries out one command.
    pub fn apply(&mut self, command: Command) {
        match command {
            Command::Start => self.state.start(),
            Command::TogglePause => self.state.toggle_pause(),
            Command::Step => self.state.step(),
            Command::Stop => self.state.stop(),
            Command::Plan { recipe, beside } => {
                self.state.settings.recipe = *recipe;
                self.state.settings.beside = beside;
            }
            Command::Adjust(adjustment) => self.state.adjust(adjustment),
            Command::Resume(folder) => self.state.resume(folder),
            Command::ToggleRun(folder) => self.state.toggle_run(&folder),
            Command::Select(folder) => self.state.select(&folder),
            Command::Duplicate(folder) => {
                if self.state.duplicate(&folder) {
                    self.show("Train");
                }
            }
            Command::ToggleHidden(folder) => self.state.toggle_hidden(folder),
            Command::Delete(folders) => self.state.ask_to_delete(folders),
            Command::Rename(folder, name) => self.state.rename(folder, name),
            Command::Compare(folders) => self.state.compare(&folders),
            Command::KeepRunsIn(folder) => self.state.keep_runs_in(folder),
            Command::ChooseRunsFolder => self.state.choose_runs_folder(),
            Command::Report(folder) => self.state.report(&folder),
            Command::Export(folder) => self.state.export(folder),
            Command::Show(view) => self.show(view),
            Command::Lesson(number) => {
                self.show("Lessons");
                self.apply(Command::Order(command::Order::Lesson(number)));
            }
            Command::Order(order) => {
                for view in &mut self.views {
                    view.obey(&order, &mut self.state);
                }
            }
            Command::Survey(folder) => self.state.survey(&folder),
            Command::Inspect(position) => {
                self.state.inspect(position);
                self.show("Perturbation");
            }
            Command::OpenImage(path) => {
                self.state.open_image(&path);
                self.show("Perturbation");
            }
            Command::ShareDuel => self.state.share_duel(),
            Command::Duel(wanted) => self.state.duel.apply(wanted),
            Command::Open(path) => self.open(path),
            Command::Palette => self.palette.toggle(),
            Command::Messages => self.state.messages.toggle(),
            Command::Help => self.helping = !self.helping,
            Command::Larger => top::resize(&self.state.ctx, 1.0),
            Command::Smaller => top::resize(&self.state.ctx, -1.0),
            Command::Theme(theme) => {
                self.state.settings.theme = theme;
                self.state.ctx.set_theme(theme);
            }
            Command::ToggleNotifications => self.state.toggle_notifications(),
            Command::Projector => {
                let zoom = match self.state.projector.take() {
                    Some(before) => before,
                    None => {
                        let now = self.state.ctx.zoom_factor();
                        self.state.projector = Some(now);
                        PROJECTED * now
                    }
                };
                self.state.ctx.set_zoom_factor(zoom);
            }
            Command::ResetLayout => {
                let names: Vec<&'static str> = self.views.iter().map(|view| view.name()).collect();
                self.tree = views::first_layout(&names);
            }
            Command::Quit => self.state.ctx.send_viewport_cmd(egui::ViewportCommand::Close),
        }
    }

    fn show(&mut self, name: &str) {
        views::bring_to_front(&mut self.tree, name);
        // What stands on the left makes room for the duel: another view comes to the front for its sake.
        let hides = views::left(&self.tree).is_some_and(|left| views::stands_in(&self.tree, left, name));
        if hides && self.shows_duel() {
            views::bring_to_front(&mut self.tree, "Curves");
        }
        self.make_room();
    }

    fn shows_duel(&self) -> bool {
        let duel = self.tree.tiles.find_pane(&"Duel".to_string());
        duel.is_some_and(|duel| self.tree.active_tiles().contains(&duel))
    }

    /// Gives the duel the whole window: it has its own buttons and its own recipe.
    fn make_room(&mut self) {
        let duel = self.shows_duel();
        self.state.duel.watch(duel || self.state.projector.is_some());
        if let Some(left) = views::left(&self.tree) {
            self.tree.set_visible(left, !duel);
        }
    }

    /// What a person dropped on the window: a run, a recipe, a picture, or data.
    fn open(&mut self, path: PathBuf) {
        let extension = path
            .extension()
            .map(|extension| extension.to_string_lossy().to_lowercase())
            .unwrap_or_default();
        match extension.as_str() {
            picture if crate::data::PICTURE_ENDINGS.contains(&picture) && self.state.duel.watched => {
                self.state.duel.apply(duel::Move::Own(path))
            }
            picture if crate::data::PICTURE_ENDINGS.contains(&picture) => self.apply(Command::OpenImage(path)),
            "toml" => match duel::read_file(&path) {
                Some(Ok(file)) => {
                    self.state.open_duel(file);
                    self.show("Duel");
                }
                Some(Err(error)) => self.state.complain(format!("{error:#}: {}", path.display())),
                None => {
                    self.state.open_recipe(&path);
                }
            },
            "npz" => self.state.choose_data(format!("npz:{}", path.display())),
            _ if path.join("run.json").exists() => self.state.open_run(&path),
            _ if path.is_dir() => self.state.choose_folder(&path),
            _ => self.state.complain(format!(
                "expected a picture (PNG, JPEG), a recipe (.toml), .npz, a folder of data or a run's folder, got {}",
                path.display()
            )),
        }
    }

    /// Draws everything.
    pub fn window_ui(&mut self, ui: &mut Ui) {
        self.shortcuts(ui.ctx());
        if self.state.projector.is_some() {
            self.projected_ui(ui);
            return;
        }
        top::bar_ui(ui, &mut self.state, &self.entries);
        status::bar_ui(ui, &self.state);
        self.captions_ui(ui);
        let entries = &self.entries;
        egui::CentralPanel::no_frame().show(ui, |ui| {
            let mut behaviour = views::Behaviour {
                views: &mut self.views,
                state: &mut self.state,
                entries,
            };
            views::keep_readable(&mut self.tree, ui.available_width());
            self.tree.ui(&mut behaviour, ui);
        });
        self.over_ui(ui);
    }

    /// What views that are not in sight have to say: a lesson runs beside whatever it is about.
    fn captions_ui(&mut self, ui: &mut Ui) {
        let active = self.tree.active_tiles();
        let alone = self.state.projector.is_some();
        for view in &mut self.views {
            let tile = self.tree.tiles.find_pane(&view.name().to_string());
            let in_sight = !alone && tile.is_some_and(|tile| active.contains(&tile));
            if !in_sight && view.has_caption(&self.state) {
                egui::Panel::top(format!("caption of {}", view.name()))
                    .show(ui, |ui| view.caption_ui(ui, &mut self.state));
            }
        }
    }

    /// The duel alone.
    fn projected_ui(&mut self, ui: &mut Ui) {
        self.captions_ui(ui);
        if let Some(view) = self.views.iter_mut().find(|view| view.name() == "Duel") {
            egui::CentralPanel::no_frame().show(ui, |ui| {
                egui::Frame::new()
                    .inner_margin(12)
                    .show(ui, |ui| view.ui(ui, &mut self.state));
            });
        }
        if ui.input(|input| input.key_pressed(egui::Key::Escape) && input.modifiers.is_none()) {
            self.state.commands.push(Command::Projector);
        }
        self.over_ui(ui);
    }

    /// What lies over the views, and what was asked for in all of it.
    fn over_ui(&mut self, ui: &mut Ui) {
        if let Some(command) = self.palette.ui(ui.ctx(), &self.entries) {
            self.state.commands.push(command);
        }
        self.state.dialogs_ui(ui.ctx());
        let mut commands = Vec::new();
        self.state.messages.ui(ui.ctx(), &mut commands);
        self.state.commands.extend(commands);
        if self.helping {
            let views: Vec<_> = self.views.iter().map(|view| (view.name(), view.about())).collect();
            self.helping = top::help_ui(ui.ctx(), &self.entries, &views);
        }
        for command in std::mem::take(&mut self.state.commands) {
            self.apply(command);
        }
    }

    fn shortcuts(&mut self, ctx: &Context) {
        for entry in &self.entries {
            if let Some(shortcut) = &entry.shortcut
                && ctx.input_mut(|input| input.consume_shortcut(shortcut))
            {
                self.state.commands.push(entry.command.clone());
            }
        }
        let dropped: Vec<PathBuf> = ctx.input(|input| {
            let files = input.raw.dropped_files.iter();
            files.map(|file| file.path().to_path_buf()).collect()
        });
        self.state.commands.extend(dropped.into_iter().map(Command::Open));
        if ctx.input(|input| input.viewport().close_requested()) && !self.state.may_close() {
            ctx.send_viewport_cmd(egui::ViewportCommand::CancelClose);
        }
    }
}

impl eframe::App for App {
    fn logic(&mut self, _ctx: &Context, frame: &mut eframe::Frame) {
        self.drain();
        bench::Bench::frame(self, frame.info().cpu_usage);
    }

    fn raw_input_hook(&mut self, _ctx: &Context, input: &mut egui::RawInput) {
        if let Some(bench) = &self.bench {
            bench.scroll(input);
        }
    }

    fn ui(&mut self, ui: &mut Ui, frame: &mut eframe::Frame) {
        if let Some(render) = frame.wgpu_render_state() {
            self.state.target_format = render.target_format;
        }
        self.window_ui(ui);
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }

    fn save(&mut self, storage: &mut dyn eframe::Storage) {
        // A setting that cannot be written down is asked for again; nothing is lost by it.
        if let (Ok(settings), Ok(layout)) = (
            serde_json::to_string(&self.state.remembered()),
            serde_json::to_string(&self.tree),
        ) {
            storage.set_string(SETTINGS, settings);
            storage.set_string(LAYOUT, layout);
        }
    }
}

/// The format that pictures are drawn in where the window has not said another.
const FIRST_FORMAT: egui_wgpu::wgpu::TextureFormat = egui_wgpu::wgpu::TextureFormat::Rgba8Unorm;
