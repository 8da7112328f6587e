//! Arguments → the window or the terminal.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: martlet::memory::Allocator = martlet::memory::Allocator;

fn main() -> ExitCode {
    martlet::memory::end_with_a_message();
    // Mesa's device-select layer looks for a desktop session and complains aloud where there is none.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first line of the program, before any other thread could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    #[cfg(feature = "app")]
    let window = Some(martlet::cli::Window {
        open: || martlet::app::run().map_err(|error| martlet::app::reason(&error)),
        measure: |bench| {
            martlet::app::measure(&bench.device, bench.data, bench.view).map_err(|error| martlet::app::reason(&error))
        },
    });
    #[cfg(not(feature = "app"))]
    let window = None;
    martlet::cli::main(window)
}
