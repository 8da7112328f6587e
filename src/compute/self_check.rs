//! A device against the processor: to come.
