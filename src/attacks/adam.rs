//! Adam on images: what SPSA climbs and CW in L2 descends by.

use burn::tensor::{Int, Tensor};

use super::standing::{finite, rows};
use crate::shapes::Images;

/// Adam's decays and guard, as published (Kingma and Ba, 2015).
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const TINY: f32 = 1e-8;

/// Averages of a gradient and of its square.
pub(super) struct Adam {
    mean: Images,
    square: Images,
}

impl Adam {
    /// Before its first step.
    pub(super) fn new(like: &Images) -> Self {
        Self {
            mean: like.zeros_like(),
            square: like.zeros_like(),
        }
    }

    /// Its step along a gradient, `rate·m̂/(√v̂ + 1e-8)`; `number` counts from 1. What is no number in the gradient is taken for 0.
    pub(super) fn stride(&mut self, gradient: Images, number: usize, rate: f64) -> Images {
        let (gradient, number) = (finite(gradient), number as i32);
        self.mean = self.mean.clone() * BETA_1 + gradient.clone() * (1.0 - BETA_1);
        self.square = self.square.clone() * BETA_2 + gradient.powi_scalar(2) * (1.0 - BETA_2);
        let mean = self.mean.clone() / (1.0 - BETA_1.powi(number));
        let square = self.square.clone() / (1.0 - BETA_2.powi(number));
        mean / (square.sqrt() + TINY) * rate
    }

    /// It for some of its examples.
    pub(super) fn select(self, chosen: &Tensor<1, Int>) -> Self {
        Self {
            mean: rows(&self.mean, chosen),
            square: rows(&self.square, chosen),
        }
    }
}
