//! One target for each format: the program's own name says which.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use martlet_fuzz::FORMATS;

static READ: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::args().next().unwrap_or_default();
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default().to_string();
    let found = FORMATS.iter().find(|(format, _)| *format == name);
    found.unwrap_or_else(|| panic!("no format is called {name}")).1
});

fuzz_target!(|bytes: &[u8]| READ(bytes));
