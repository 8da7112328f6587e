//! Arguments → the window or the terminal.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Mesa's device-select layer looks for a desktop session and complains aloud where there is none.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first line of the program, before any other thread could read the environment.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    #[cfg(feature = "app")]
    if std::env::args_os().len() == 1 {
        match martlet::app::run() {
            Ok(()) => return ExitCode::SUCCESS,
            Err(error) => martlet::cli::terminal::note(format!("the window does not open: {error}")),
        }
    }
    martlet::cli::main()
}
