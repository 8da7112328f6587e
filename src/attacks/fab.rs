//! The fast adaptive boundary attack, targeted: looks for the nearest image on the other side of a boundary.

use burn::tensor::{Bool, Tensor};
use serde::{Deserialize, Serialize};

use super::{
    Attack, AttackError, GRADIENT_COST, Method, TARGETS, counted,
    standing::{Attempt, Departures, choose, column, is_wrong, likeliest_targets, rows, targets_at, while_standing},
    steps_text, value_and_gradient,
};
use crate::{
    losses,
    random::Rng,
    shapes::{Batch, Images, Labels, Logits, PerExample, row_numbers},
    threat::{Norm, ThreatModel},
};

/// Steps of AutoAttack's FAB for each target, and its α_max, η and β.
const STEPS: usize = 100;
const ALPHA_MAX: f32 = 0.1;
const ETA: f32 = 1.05;
const BETA: f32 = 0.9;

/// Guards a division by the size of a gradient.
const TINY: f32 = 1e-12;

/// Shorter than this a step counts as this long, so that two steps of length 0 can be weighed (authors' code).
const SHORTEST: f32 = 1e-8;

/// Newton's steps towards the length of a projection; the function is piecewise linear, and they stop on its last piece.
const NEWTON_STEPS: usize = 12;

/// Looks for fooled examples come this many steps apart: each is a sync point.
const LOOK: usize = 5;

/// Targeted FAB: steps onto the linearised boundary between the true class and a target, biased towards the natural image.
///
/// With `f = z_t − z_y` linear at `x⁽ᵏ⁾`, let d₁ and d₂ be the shortest ways from `x⁽ᵏ⁾` and from x to its plane
/// `f = 0` inside the pixel box, and `α = min(‖d₁‖/(‖d₁‖ + ‖d₂‖), α_max)`. Then
/// `x⁽ᵏ⁺¹⁾ = clip((1 − α)(x⁽ᵏ⁾ + η·d₁) + α(x + η·d₂))`; an iterate that is misclassified is kept if it is the nearest so
/// far, and the next step begins from `x + β(x⁽ᵏ⁺¹⁾ − x)`. The attack succeeds if the nearest lies in the ball;
/// otherwise it hands back the natural image.
///
/// # Source
/// Croce and Hein 2020, "Minimally distorted adversarial examples with a fast adaptive boundary attack", Algorithm 1;
/// the targeted form, which the authors' AutoAttack runs. An example is left alone once it is fooled inside the ball.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fab {
    /// The wrong classes that are tried, the likeliest first; all of them where there are fewer.
    pub targets: usize,
    /// Gradient steps, for each target.
    pub steps: usize,
    /// The greatest bias towards the natural image.
    pub alpha_max: f32,
    /// How far beyond the boundary a step goes.
    pub eta: f32,
    /// How far from the natural image the search goes on after a success.
    pub beta: f32,
    /// Whether it starts halfway to the ball's boundary instead of at the natural image, as every restart does.
    pub random_start: bool,
}

/// `fab-t`, `fab-t-STEPS`.
pub(super) fn named(name: &str) -> Option<Method> {
    Some(Method::Fab(Fab {
        targets: TARGETS,
        steps: counted(name, "fab-t", STEPS)?,
        alpha_max: ALPHA_MAX,
        eta: ETA,
        beta: BETA,
        random_start: false,
    }))
}

/// The shortest way, in the threat model's norm, from each of `points` onto `{z: ⟨w, z⟩ = b}` inside the pixel box;
/// into the box's nearest corner where the plane misses the box. `excess` is `⟨w, point⟩ − b`.
///
/// The way is `d_i = −sign(s·w_i)·min(λ·v_i, room_i)`, with s the sign of the excess, room_i what the box leaves in that
/// direction, and v_i = 1 for L∞, |w_i| for L2. λ solves `Σ|w_i|·min(λ·v_i, room_i) = |excess|`, whose left side is
/// concave and piecewise linear: Newton's method from 0 climbs to the solution without passing it.
///
/// # Shapes
/// `[N, C, H, W]`, `[N, C, H, W]`, `[N]` → `[N, C, H, W]`.
fn way_to_plane(points: &Images, normals: &Images, excess: &PerExample, norm: Norm) -> Images {
    let downhill = column(
        &excess
            .clone()
            .greater_equal_elem(0.0)
            .float()
            .mul_scalar(-2.0)
            .add_scalar(1.0),
    );
    let weights = normals.clone().abs();
    // In lengths of the largest weight: the squares of small ones vanish.
    let largest = weights.clone().max_dims(&[1, 2, 3]);
    let largest = largest.clone().mask_fill(largest.lower_elem(f32::MIN_POSITIVE), 1.0);
    let weights = weights / largest.clone();
    let towards = normals.clone().sign() * downhill;
    let upwards = towards.clone().greater_elem(0.0);
    let room = points.clone().mask_where(upwards, points.clone().neg() + 1.0);
    let speeds = match norm {
        Norm::Linf => weights.ones_like(),
        Norm::L2 => weights.clone(),
    };
    let (pull, stop) = (weights.clone() * speeds.clone(), weights * room.clone());
    let goal = column(&excess.clone().abs()) / largest;
    let mut length = goal.zeros_like();
    for _ in 0..NEWTON_STEPS {
        let moving = (speeds.clone() * length).lower(room.clone()).float();
        let stopped = (stop.clone() * (moving.clone().neg() + 1.0)).sum_dims(&[1, 2, 3]);
        let slope = (pull.clone() * moving).sum_dims(&[1, 2, 3]);
        // With everything stopped the slope is 0 and the length leaves every room behind: the corner.
        length = (goal.clone() - stopped).clamp_min(0.0) / slope.clamp_min(TINY);
    }
    towards * (speeds * length).min_pair(room)
}

/// Where a search stands.
struct Search {
    natural: Images,
    labels: Labels,
    targets: Labels,
    current: Images,
    nearest: Images,
    /// The distance of the nearest success; [`f32::MAX`] where there is none.
    distance: PerExample,
}

impl Search {
    fn select(self, stay: &[usize]) -> Self {
        let chosen = row_numbers(stay, &self.natural);
        Self {
            natural: rows(&self.natural, &chosen),
            labels: rows(&self.labels, &chosen),
            targets: rows(&self.targets, &chosen),
            current: rows(&self.current, &chosen),
            nearest: rows(&self.nearest, &chosen),
            distance: rows(&self.distance, &chosen),
        }
    }

    fn fooled(&self, threat: &ThreatModel) -> Tensor<1, Bool> {
        self.distance.clone().lower_equal_elem(threat.epsilon.value())
    }

    /// The nearest success where it lies in the ball, and the natural image elsewhere.
    fn images(&self, threat: &ThreatModel) -> Images {
        choose(&self.fooled(threat), self.nearest.clone(), self.natural.clone())
    }
}

impl Fab {
    fn advance(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        search: &mut Search,
        threat: &ThreatModel,
    ) -> Result<(), AttackError> {
        let objective = |images: Images| losses::lead(logits(images), search.targets.clone(), search.labels.clone());
        let (lead, gradient) = value_and_gradient(&objective, &search.current)?;
        // The plane's value at the natural image: f + ⟨∇f, x − x⁽ᵏ⁾⟩.
        let back: Tensor<2> = (gradient.clone() * (search.natural.clone() - search.current.clone())).flatten(1, 3);
        let lead_at_natural = lead.clone() + back.sum_dim(1).squeeze_dim(1);
        let onwards = way_to_plane(&search.current, &gradient, &lead, threat.norm);
        let outwards = way_to_plane(&search.natural, &gradient, &lead_at_natural, threat.norm);
        let [near, far] = [&onwards, &outwards].map(|way| threat.length(way).clamp_min(SHORTEST));
        let alpha = column(&(near.clone() / (near + far)).clamp_max(self.alpha_max));
        let from_current = (search.current.clone() + onwards * self.eta) * (alpha.clone().neg() + 1.0);
        let from_natural = (search.natural.clone() + outwards * self.eta) * alpha;
        let next = (from_current + from_natural).clamp(0.0, 1.0);

        let wrong = is_wrong(logits(next.clone()), &search.labels);
        let distance = threat.distance(&search.natural, &next);
        let nearer = wrong.clone().bool_and(distance.clone().lower(search.distance.clone()));
        search.nearest = choose(&nearer, next.clone(), search.nearest.clone());
        search.distance = search.distance.clone().mask_where(nearer, distance);
        let drawn_back = search.natural.clone() + (next.clone() - search.natural.clone()) * self.beta;
        search.current = choose(&wrong, drawn_back, next);
        Ok(())
    }

    /// One search towards one target an example.
    fn attempt(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        targets: Labels,
        threat: &ThreatModel,
        rngs: &mut [Rng],
    ) -> Result<Attempt, AttackError> {
        let natural = batch.images.clone();
        let current = if self.random_start {
            (natural.clone() + threat.on_boundary(&natural, rngs)) * 0.5
        } else {
            natural.clone()
        };
        let mut search = Search {
            labels: batch.labels.clone(),
            targets,
            current,
            nearest: natural.clone(),
            distance: threat.length(&natural).zeros_like() + f32::MAX,
            natural,
        };
        let mut departures = Departures::new(batch.len());
        for done in 0..self.steps {
            if done > 0 && done.is_multiple_of(LOOK) {
                match departures.let_go(&search.fooled(threat), &search.nearest)? {
                    Some(stay) if stay.is_empty() => break,
                    Some(stay) => search = search.select(&stay),
                    None => {}
                }
            }
            self.advance(logits, &mut search, threat)?;
        }
        departures.finish(&search.fooled(threat), &search.images(threat))
    }
}

impl Attack for Fab {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        let targets = likeliest_targets(logits, batch, self.targets)?;
        let ranks = 0..targets.first().map_or(0, Vec::len);
        while_standing(batch, rngs, ranks, |rank, standing, examples, rngs| {
            let goals = targets_at(&targets, standing, rank, &examples.images);
            self.attempt(logits, examples, goals, threat, rngs)
        })
    }

    fn settings(&self, _threat: &ThreatModel, classes: usize) -> String {
        let towards = match classes {
            2 => "towards the other class".to_string(),
            3.. if classes <= self.targets => format!("towards {} other classes", classes - 1),
            _ => format!("towards at most {} other classes", self.targets),
        };
        format!(
            "{towards}, {} each, α ≤ {}, η = {}, β = {}",
            steps_text(self.steps),
            self.alpha_max,
            self.eta,
            self.beta
        )
    }

    fn passes(&self) -> usize {
        self.targets * self.steps * (GRADIENT_COST + 1)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::compute::{Device, read};

    /// The shortest way by bisection in 64 bits.
    fn by_bisection(point: &[f32], normal: &[f32], excess: f32, norm: Norm) -> Vec<f64> {
        let sign = if excess >= 0.0 { -1.0 } else { 1.0 };
        let way = |length: f64| -> Vec<f64> {
            let each = point.iter().zip(normal).map(|(x, w)| {
                let towards = sign * f64::from(if *w == 0.0 { 0.0 } else { w.signum() });
                let room = if towards > 0.0 {
                    1.0 - f64::from(*x)
                } else {
                    f64::from(*x)
                };
                let speed = if norm == Norm::Linf { 1.0 } else { f64::from(w.abs()) };
                towards * (length * speed).min(room)
            });
            each.collect()
        };
        let gained = |length: f64| -> f64 {
            let moved = way(length);
            moved.iter().zip(normal).map(|(d, w)| (d * f64::from(*w)).abs()).sum()
        };
        let (mut low, mut high) = (0.0, 1e15);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if gained(middle) < f64::from(excess.abs()) {
                low = middle;
            } else {
                high = middle;
            }
        }
        way(high)
    }

    #[test]
    fn ways_to_planes_are_the_shortest() {
        let mut rng = Rng::new(5);
        let (examples, pixels) = (40, 49);
        let mut draw = |edge: f32| -> Vec<f32> {
            let values = (0..examples * pixels).map(|_| rng.uniform(-edge, 1.0 + edge).clamp(0.0, 1.0));
            values.collect()
        };
        let points = draw(0.3);
        let normals: Vec<f32> = draw(0.0)
            .iter()
            .map(|v| if *v < 0.1 { 0.0 } else { (v - 0.5).powi(3) * 4.0 })
            .collect();
        // From nothing to do up to planes that miss the box.
        let excesses: Vec<f32> = (0..examples)
            .map(|i| 0.05 * i as f32 * if i % 2 == 0 { 1.0 } else { -1.0 })
            .collect();
        let device = Device::cpu();
        let images = |values: &Vec<f32>| -> Images {
            Tensor::from_data(TensorData::new(values.clone(), [examples, 1, 7, 7]), device.tensors())
        };
        let excess: PerExample = Tensor::from_data(TensorData::new(excesses.clone(), [examples]), device.tensors());
        for norm in [Norm::Linf, Norm::L2] {
            let found = read(way_to_plane(&images(&points), &images(&normals), &excess, norm)).unwrap();
            for (row, excess) in excesses.iter().enumerate() {
                let of = row * pixels..(row + 1) * pixels;
                let expected = by_bisection(&points[of.clone()], &normals[of.clone()], *excess, norm);
                let found: Vec<f64> = found[of.clone()].iter().map(|v| f64::from(*v)).collect();
                let gain = |way: &[f64]| -> f64 {
                    let each = way.iter().zip(&normals[of.clone()]);
                    each.map(|(d, w)| d * f64::from(*w)).sum()
                };
                let length = |way: &[f64]| match norm {
                    Norm::Linf => way.iter().map(|d| d.abs()).fold(0.0, f64::max),
                    Norm::L2 => way.iter().map(|d| d * d).sum::<f64>().sqrt(),
                };
                // As far down, and no longer: where a plane all but misses the box, the last of a way costs much and gains nothing.
                let (reached, due) = (gain(&found), gain(&expected));
                assert!(
                    (reached - due).abs() < 1e-4,
                    "{norm}, row {row}: {reached}, expected {due}"
                );
                let (long, least) = (length(&found), length(&expected));
                assert!(long < least + 1e-4, "{norm}, row {row}: {long} long, expected {least}");
            }
        }
    }
}
