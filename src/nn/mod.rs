//! Networks, modes, weights.
