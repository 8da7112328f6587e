//! What the linker must be told.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |part: &str| env::var(format!("CARGO_CFG_TARGET_{part}")).unwrap_or_default();
    // The GPU compiler below burn finds its types in tables that linkme lays out in sections of their own. GNU's linker for
    // Windows takes those for unused and throws most entries away, and no GPU works.
    if target("OS") == "windows" && target("ENV") == "gnu" {
        println!("cargo:rustc-link-arg=-Wl,--no-gc-sections");
    }
}
