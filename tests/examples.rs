//! The pages of `examples/`, each with its own test: one program instead of four.
#![allow(dead_code)]

#[path = "../examples/own_attack.rs"]
mod own_attack;
#[path = "../examples/own_data.rs"]
mod own_data;
#[path = "../examples/own_defence.rs"]
mod own_defence;
#[path = "../examples/own_network.rs"]
mod own_network;
