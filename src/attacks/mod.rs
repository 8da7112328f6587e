//! Inner maximisation.
