//! A suite of attacks and its verdict.
