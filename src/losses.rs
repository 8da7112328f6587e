//! Per-example losses.
