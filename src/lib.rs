//! Martlet trains and attacks image classifiers on any Vulkan, Metal or DX12 GPU, or on the CPU.
//!
//! The modules, in dependency order; a module names only modules on an earlier line
//! (`tests/architecture.rs` holds this):
//!
//! 1. [`shapes`]: the tensors that everything speaks in, every shape documented once · [`random`]: the one generator
//!    · [`memory`]: what reading may take · [`control`]: pause, step, stop · [`protobuf`]: files of other tools
//!    · [`seal`]: checksums inside files · [`files`]: one writer · [`wording`]: figures as people read them
//! 2. [`compute`]: devices, self-check, hand-written kernels and their twins
//! 3. [`data`]: data sets
//! 4. [`threat`]: what an adversary may do · [`nn`]: networks, modes, weights
//! 5. [`losses`]: per-example losses
//! 6. [`attacks`]: inner maximisation
//! 7. [`defences`]: outer minimisation · [`evaluation`]: a suite of attacks and its verdict
//! 8. [`recipe`]: everything that a run depends on
//! 9. [`runs`]: a run's folder
//! 10. [`engine`]: the training loop
//! 11. [`report`]: pictures, charts and pages
//! 12. [`experiments`]: the paper's tables and figures · [`demo_models`]: the two trained networks that come along
//! 13. [`cli`]: the terminal · `app`: the window (feature `app`)

// Outside tests nothing that input, device, disk or a person can make fail may panic, and only the terminal prints.
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)
)]

pub mod control;
pub mod files;
pub mod memory;
pub mod protobuf;
pub mod random;
pub mod seal;
pub mod shapes;
pub mod wording;

pub mod compute;

pub mod data;

pub mod nn;
pub mod threat;

pub mod losses;

pub mod attacks;

pub mod defences;
pub mod evaluation;

pub mod recipe;

pub mod runs;

pub mod engine;

pub mod report;

pub mod demo_models;
pub mod experiments;

pub mod cli;

#[cfg(feature = "app")]
pub mod app;
