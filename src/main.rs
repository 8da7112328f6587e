//! Arguments → the terminal.

use std::process::ExitCode;

fn main() -> ExitCode {
    martlet::cli::main()
}
