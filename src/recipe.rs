//! Everything that a run depends on.
