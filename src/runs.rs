//! A run's folder.
