//! The radii that the slider stops at.

use crate::threat::{Magnitude, Norm, ThreatModel};

/// Stops from nothing to the trained radius.
const STOPS: usize = 10;
/// How many times the trained radius the slider reaches.
const REACH: usize = 3;

/// Radii from 0 to three times the trained one, a tenth of it apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Grid {
    norm: Norm,
    radii: Vec<Magnitude>,
}

impl Grid {
    /// The grid round a trained radius; of 0 it has one stop.
    pub fn new(norm: Norm, trained: &Magnitude) -> Self {
        let stops = if trained.value() > 0.0 { REACH * STOPS } else { 0 };
        let radii = (0..=stops).map(|stop| match stop {
            STOPS => trained.clone(),
            stop => trained.times(stop as f64 / STOPS as f64),
        });
        Self {
            norm,
            radii: radii.collect(),
        }
    }

    /// How many stops it has.
    pub fn len(&self) -> usize {
        self.radii.len()
    }

    /// The last stop.
    pub fn last(&self) -> usize {
        self.radii.len() - 1
    }

    /// The stop of the trained radius.
    pub fn trained(&self) -> usize {
        STOPS.min(self.last())
    }

    /// The radius at a stop.
    pub fn epsilon(&self, place: usize) -> &Magnitude {
        &self.radii[place.min(self.last())]
    }

    /// The ball at a stop.
    pub fn threat(&self, place: usize) -> ThreatModel {
        ThreatModel {
            norm: self.norm,
            epsilon: self.epsilon(place).clone(),
        }
    }

    /// The norm of the balls.
    pub fn norm(&self) -> Norm {
        self.norm
    }

    /// All stops in the order in which they are worth knowing: the one that is looked at, then every fifth, then the rest
    /// from near to far.
    pub fn order(&self, place: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_by_key(|stop| (*stop != place, stop % 5 != 0, stop.abs_diff(place)));
        order
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_meets_the_trained_radius_and_begins_with_what_is_looked_at() {
        let trained: Magnitude = "8/255".parse().unwrap();
        let grid = Grid::new(Norm::Linf, &trained);
        assert_eq!(grid.len(), 31);
        assert_eq!(grid.epsilon(0).value(), 0.0);
        assert_eq!(grid.epsilon(grid.trained()).value(), trained.value());
        assert!((grid.epsilon(grid.last()).value() - 24.0 / 255.0).abs() < 1e-6);
        let order = grid.order(7);
        assert_eq!(order[..4], [7, 5, 10, 0]);
        let mut all = order.clone();
        all.sort_unstable();
        assert_eq!(all, (0..31).collect::<Vec<_>>(), "a stop is left out, or comes twice");
    }
}
