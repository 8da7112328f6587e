//! The window.

/// Opens the window.
///
/// # Errors
/// Where there is no display or no way to draw.
pub fn run() -> eframe::Result {
    let options = eframe::NativeOptions::default();
    eframe::run_ui_native("Martlet", options, |ui, _frame| {
        ui.label("Martlet");
    })
}
