//! What the window is drawn with, and what became of the last one.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use eframe::egui_wgpu::{WgpuConfiguration, WgpuSetup, WgpuSetupCreateNew, wgpu};

/// How the window finds something to draw with, and what to tell where it is not what was asked for.
///
/// `WGPU_BACKEND` names an interface; where it gives nothing on this machine any other may draw.
pub fn configuration() -> (WgpuConfiguration, Option<String>) {
    let mut setup = WgpuSetupCreateNew::without_display_handle();
    let mut remark = None;
    if let Some(asked) = std::env::var("WGPU_BACKEND").ok().filter(|asked| !asked.is_empty()) {
        let backends = setup.instance_descriptor.backends;
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        let found = pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends));
        if found.is_empty() {
            setup.instance_descriptor.backends = wgpu::Backends::all();
            remark = Some(format!(
                "WGPU_BACKEND={asked} gives nothing to draw with on this machine; another interface draws the window"
            ));
        }
    }
    let configuration = WgpuConfiguration {
        wgpu_setup: WgpuSetup::CreateNew(setup),
        ..WgpuConfiguration::default()
    };
    (configuration, remark)
}

/// Whether the window came up: eframe ends without an error where nothing can draw.
#[derive(Clone, Default)]
pub struct CameUp(Arc<AtomicBool>);

impl CameUp {
    /// It did.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Nothing, or why there is no window.
    pub fn or_error(&self) -> Result<(), eframe::Error> {
        if self.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        let why = "no GPU, and no software that stands in for one (Mesa's lavapipe), can draw it; `martlet devices` lists what there is";
        Err(eframe::Error::AppCreation(why.into()))
    }
}

/// The file that says that the last window crashed.
fn crash_file() -> Option<PathBuf> {
    Some(eframe::storage_dir("martlet")?.join("crashed"))
}

/// Whether the last window crashed; a second call does not know any more.
pub fn has_crashed() -> bool {
    crash_file().is_some_and(|file| fs::remove_file(file).is_ok())
}

/// Notes a crash of the thread that draws, so that the next window does not come up in what broke this one.
pub fn note_crashes() {
    let window = std::thread::current().id();
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |about| {
        if std::thread::current().id() == window
            && let Some(file) = crash_file()
        {
            let _ = file.parent().map(fs::create_dir_all);
            let _ = fs::write(file, about.to_string());
        }
        before(about);
    }));
}
