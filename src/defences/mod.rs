//! Outer minimisation.
