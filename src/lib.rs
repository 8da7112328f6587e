//! Martlet trains and attacks image classifiers on any Vulkan, Metal or DX12 GPU, or on the CPU.
//!
//! The modules, in dependency order; a module names only modules on an earlier line
//! (`tests/architecture.rs` holds this):
//!
//! 1. [`shapes`]: the tensors that everything speaks in, every shape documented once · [`random`]: the one generator · [`control`]: pause, step, stop
//! 2. [`compute`]: devices, self-check, hand-written kernels and their twins · [`data`]: data sets
//! 3. [`threat`]: what an adversary may do · [`nn`]: networks, modes, weights
//! 4. [`losses`]: per-example losses
//! 5. [`attacks`]: inner maximisation
//! 6. [`defences`]: outer minimisation · [`evaluation`]: a suite of attacks and its verdict
//! 7. [`recipe`]: everything that a run depends on
//! 8. [`runs`]: a run's folder
//! 9. [`engine`]: the training loop
//! 10. [`cli`]: the terminal

pub mod control;
pub mod random;
pub mod shapes;

pub mod compute;
pub mod data;

pub mod nn;
pub mod threat;

pub mod losses;

pub mod attacks;

pub mod defences;

pub mod runs;





