//! Square attack: random search in square windows, without any gradient.

use burn::tensor::{Bool, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::{
    Attack, AttackError, Method, counted,
    standing::{Attempt, Departures, choose, column, is_wrong, rows},
};
use crate::{
    losses,
    random::Rng,
    shapes::{Batch, Images, Labels, Logits, PerExample, row_numbers},
    threat::{Norm, ThreatModel},
};

/// Queries and first share of the image of AutoAttack's Square.
const QUERIES: usize = 5_000;
const P_INIT: f64 = 0.8;

/// After so many of 10,000 queries the window's share of the image is halved once more.
const HALVINGS: [usize; 8] = [10, 50, 200, 500, 1_000, 2_000, 4_000, 6_000];

/// The schedule's last halving comes after so many.
const LAST_HALVING: usize = 8_000;

/// The queries that the schedule is written for.
const SCHEDULED: usize = 10_000;

/// Looks for fooled examples come this many queries apart: each is a sync point.
const LOOK: usize = 10;

/// Guards divisions by a norm.
const TINY: f32 = 1e-12;

/// Square attack: proposes a change in one square window at a time and keeps it where the margin grows.
///
/// L∞: from vertical stripes of ±ε, a window is set to ±ε an image's channel. L2: from a grid of tiles, a
/// window takes over the length of another and is filled with two pyramids of opposite sign on top of what was there;
/// the whole is scaled to ε. The window's share of the image is `p`, halved on the schedule. It climbs
/// [`losses::margin`]; an example is left alone once it is fooled.
///
/// # Source
/// Andriushchenko et al. 2020, Algorithms 1 to 3. Each example draws its own windows, where the authors' code
/// draws one for the whole batch, and windows reach the last row and column, as the paper has it, which the code leaves
/// out. `queries` counts what comes after the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Square {
    /// Proposals for each example.
    pub queries: usize,
    /// The window's first share of the image.
    pub p_init: f64,
    /// Whether the schedule is stretched to `queries`. The reference's AutoAttack leaves it as it is for 10,000.
    pub rescale_schedule: bool,
}

/// `square`, `square-QUERIES`; fewer than the standard queries run through the whole schedule.
pub(super) fn named(name: &str) -> Option<Method> {
    let queries = counted(name, "square", QUERIES)?;
    Some(Method::Square(Square {
        queries,
        p_init: P_INIT,
        rescale_schedule: queries < QUERIES,
    }))
}

/// Values of ±1.
fn sign(rng: &mut Rng) -> f32 {
    if rng.chance(0.5) { 1.0 } else { -1.0 }
}

/// A tensor from values on the host.
fn upload(values: Vec<f32>, shape: [usize; 4], like: &Images) -> Images {
    Tensor::from_data(TensorData::new(values, shape), &like.device())
}

/// Rings that fall off as 1/r² from the middle of a rectangle, of length 1; row after row.
fn pyramid(height: usize, width: usize) -> Vec<f32> {
    let mut values = vec![0.0f32; height * width];
    let (mut top, mut left) = ((height / 2) as isize, (width / 2) as isize);
    for ring in 0..(height / 2 + 1).max(width / 2 + 1) {
        let span = |start: isize, edge: usize| {
            let end = (start + 2 * ring as isize + 1).clamp(0, edge as isize) as usize;
            (start.max(0) as usize).min(end)..end
        };
        for row in span(top, height) {
            for column in span(left, width) {
                values[row * width + column] += 1.0 / ((ring + 1) * (ring + 1)) as f32;
            }
        }
        (top, left) = (top - 1, left - 1);
    }
    unit(values)
}

/// Two pyramids of opposite sign, one above the other or side by side, of length 1.
fn double_pyramid(side: usize, rng: &mut Rng) -> Vec<f32> {
    let mut values = pyramid(side / 2, side);
    values.extend(pyramid(side - side / 2, side).iter().map(|value| -value));
    let values = unit(values);
    if rng.chance(0.5) {
        return values;
    }
    (0..side * side)
        .map(|place| values[(place % side) * side + place / side])
        .collect()
}

fn unit(mut values: Vec<f32>) -> Vec<f32> {
    let length = values.iter().map(|v| v * v).sum::<f32>().sqrt().max(TINY);
    values.iter_mut().for_each(|value| *value /= length);
    values
}

/// 1 inside each example's window of `side`, 0 outside: `[N, 1, H, W]`.
fn window_mask(corners: &[(usize, usize)], side: usize, like: &Images) -> Images {
    let [_, _, height, width] = like.dims();
    let ones = |edge: usize, start: usize| (0..edge).map(move |i| f32::from(u8::from(i >= start && i < start + side)));
    let rows = corners.iter().flat_map(|(top, _)| ones(height, *top)).collect();
    let columns = corners.iter().flat_map(|(_, left)| ones(width, *left)).collect();
    let examples = corners.len();
    upload(rows, [examples, 1, height, 1], like) * upload(columns, [examples, 1, 1, width], like)
}

/// The Euclidean length over some dimensions, which stay with size 1.
fn length_over(values: &Images, dims: &[usize]) -> Images {
    values.clone().powi_scalar(2).sum_dims(dims).sqrt()
}

/// Where a search stands.
struct Search {
    natural: Images,
    labels: Labels,
    best: Images,
    margin: PerExample,
    fooled: Tensor<1, Bool>,
    rngs: Vec<Rng>,
}

impl Search {
    fn select(self, stay: &[usize]) -> Self {
        let chosen = row_numbers(stay, &self.natural);
        Self {
            natural: rows(&self.natural, &chosen),
            labels: rows(&self.labels, &chosen),
            best: rows(&self.best, &chosen),
            margin: rows(&self.margin, &chosen),
            fooled: rows(&self.fooled, &chosen),
            rngs: stay.iter().map(|row| self.rngs[*row].clone()).collect(),
        }
    }

    /// One ±1 for each example and channel: `[N, C, 1, 1]`.
    fn signs(&mut self) -> Images {
        let [examples, channels, _, _] = self.natural.dims();
        let draw = |rng: &mut Rng| (0..channels).map(|_| sign(rng)).collect::<Vec<_>>();
        let values = self.rngs.iter_mut().flat_map(draw).collect();
        upload(values, [examples, channels, 1, 1], &self.natural)
    }

    /// The upper left corner of a window an example.
    fn corners(&mut self, side: usize) -> Vec<(usize, usize)> {
        let [_, _, height, width] = self.natural.dims();
        let draw = |rng: &mut Rng| (rng.below(height - side + 1), rng.below(width - side + 1));
        self.rngs.iter_mut().map(draw).collect()
    }
}

impl Square {
    /// The window's share of the image at a query.
    fn share(&self, query: usize) -> f64 {
        let query = if self.rescale_schedule {
            query * SCHEDULED / self.queries.max(1)
        } else {
            query
        };
        let halvings = HALVINGS
            .iter()
            .chain([&LAST_HALVING])
            .filter(|after| query > **after)
            .count();
        // The schedule ends at 10,000 and begins anew (authors' code).
        let halvings = if query > SCHEDULED { 0 } else { halvings };
        self.p_init / f64::from(1u32 << halvings)
    }

    /// The side of the window at a query, in pixels.
    fn side(&self, query: usize, norm: Norm, height: usize, width: usize) -> usize {
        let side = (self.share(query) * (height * width) as f64).sqrt().round() as usize;
        let edge = height.min(width);
        match norm {
            Norm::Linf => side.clamp(1, edge),
            // Odd, and 3 at least where the image has room for it.
            Norm::L2 => (side.max(3) | 1).min(edge - (1 - edge % 2)),
        }
    }

    fn start(natural: &Images, threat: &ThreatModel, rngs: &mut [Rng]) -> Images {
        let [examples, channels, height, width] = natural.dims();
        let epsilon = threat.epsilon.value();
        match threat.norm {
            Norm::Linf => {
                let draw = |rng: &mut Rng| (0..channels * width).map(|_| sign(rng) * epsilon).collect::<Vec<_>>();
                let stripes = upload(
                    rngs.iter_mut().flat_map(draw).collect(),
                    [examples, channels, 1, width],
                    natural,
                );
                threat.project(natural, natural.clone() + stripes)
            }
            Norm::L2 => {
                let tiles: Vec<f32> = rngs
                    .iter_mut()
                    .flat_map(|rng| grid(channels, height, width, rng))
                    .collect();
                scaled(natural, upload(tiles, natural.dims(), natural), threat)
            }
        }
    }

    /// A proposal for every example.
    fn propose(&self, search: &mut Search, query: usize, threat: &ThreatModel) -> Images {
        let [examples, channels, height, width] = search.natural.dims();
        let side = self.side(query, threat.norm, height, width);
        let window = search.corners(side);
        let epsilon = threat.epsilon.value();
        if threat.norm == Norm::Linf {
            let change = window_mask(&window, side, &search.natural) * search.signs() * (2.0 * epsilon);
            return threat.project(&search.natural, search.best.clone() + change);
        }
        let emptied = search.corners(side);
        let [inside, taken] = [&window, &emptied].map(|corners| window_mask(corners, side, &search.natural));
        let mut patterns = vec![0.0; examples * height * width];
        let pictures = patterns.chunks_mut(height * width).zip(&window);
        for ((picture, (top, left)), rng) in pictures.zip(&mut search.rngs) {
            for (row, values) in double_pyramid(side, rng).chunks(side).enumerate() {
                let begin = (top + row) * width + left;
                picture[begin..begin + side].copy_from_slice(values);
            }
        }
        let patterns = upload(patterns, [examples, 1, height, width], &search.natural) * search.signs();

        let change = search.best.clone() - search.natural.clone();
        let there = change.clone() * inside.clone();
        let filling = patterns + there.clone() / (length_over(&there, &[2, 3]) + TINY);
        let filling = filling.clone() / (length_over(&filling, &[2, 3]) + TINY);
        // What the ball leaves beyond the whole change, shared among the channels, and what each held in the two windows:
        // the whole is as long as ε again.
        let whole = length_over(&change, &[1, 2, 3]);
        let unused = (whole.powi_scalar(2).neg() + epsilon * epsilon).clamp_min(0.0) / channels as f32;
        let either = inside.clone().max_pair(taken.clone());
        let held = length_over(&(change.clone() * either), &[2, 3]);
        let length = (unused + held.powi_scalar(2)).sqrt();
        let outside = change * (taken.neg() + 1.0) * (inside.clone().neg() + 1.0);
        scaled(&search.natural, outside + filling * length * inside, threat)
    }

    fn attempt(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        mut rngs: Vec<Rng>,
    ) -> Result<Attempt, AttackError> {
        let best = Self::start(&batch.images, threat, &mut rngs);
        let look = |images: &Images, labels: &Labels| {
            let answers = logits(images.clone()).inner();
            (
                losses::margin(answers.clone(), labels.clone()),
                is_wrong(answers, labels),
            )
        };
        let (margin, fooled) = look(&best, &batch.labels);
        let mut search = Search {
            natural: batch.images.clone(),
            labels: batch.labels.clone(),
            best,
            margin,
            fooled,
            rngs,
        };
        let mut departures = Departures::new(batch.len());
        for query in 0..self.queries {
            if query.is_multiple_of(LOOK) {
                match departures.let_go(&search.fooled, &search.best)? {
                    Some(stay) if stay.is_empty() => break,
                    Some(stay) => search = search.select(&stay),
                    None => {}
                }
            }
            let proposal = self.propose(&mut search, query, threat);
            let (margin, wrong) = look(&proposal, &search.labels);
            let better = margin.clone().greater(search.margin.clone()).bool_or(wrong.clone());
            let better = better.bool_and(search.fooled.clone().bool_not());
            search.best = choose(&better, proposal, search.best.clone());
            search.margin = search.margin.clone().mask_where(better, margin);
            search.fooled = search.fooled.clone().bool_or(wrong);
        }
        departures.finish(&search.fooled, &search.best)
    }
}

/// The L2 start: tiles of double pyramids over the image, signed by channel.
fn grid(channels: usize, height: usize, width: usize, rng: &mut Rng) -> Vec<f32> {
    let mut values = vec![0.0f32; channels * height * width];
    let side = (height.min(width) / 5).max(1);
    let begin = (height.min(width).saturating_sub(5 * side)) / 2;
    let corners = |edge: usize| (begin..edge).step_by(side).filter(move |corner| corner + side <= edge);
    for top in corners(height) {
        for left in corners(width) {
            let tile = double_pyramid(side, rng);
            for plane in values.chunks_mut(height * width) {
                let sign = sign(rng);
                for (row, tile) in tile.chunks(side).enumerate() {
                    let start = (top + row) * width + left;
                    for (value, tile) in plane[start..start + side].iter_mut().zip(tile) {
                        *value += sign * tile;
                    }
                }
            }
        }
    }
    values
}

/// The natural images changed by `change`, scaled to length ε and clipped to the pixel box.
fn scaled(natural: &Images, change: Images, threat: &ThreatModel) -> Images {
    let length = column(&(threat.length(&change) + TINY));
    threat.project(natural, natural.clone() + change / length * threat.epsilon.value())
}

impl Attack for Square {
    fn perturb(
        &self,
        logits: &dyn Fn(Images) -> Logits,
        batch: &Batch,
        threat: &ThreatModel,
        rngs: &mut [Rng],
    ) -> Result<Images, AttackError> {
        Ok(self.attempt(logits, batch, threat, rngs.to_vec())?.images)
    }

    fn settings(&self, _threat: &ThreatModel, _classes: usize) -> String {
        let stretched = if self.rescale_schedule {
            ", schedule stretched to fit"
        } else {
            ""
        };
        format!("{} queries, p = {}{stretched}", self.queries, self.p_init)
    }

    fn passes(&self) -> usize {
        self.queries + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::{Device, read};

    #[test]
    fn what_two_windows_give_up_the_new_one_takes_in_every_number_of_channels() {
        // Grey images and a small ε: the pixel box clips nothing. Each channel's window takes what it held and its part of
        // what was unused, so the change is as long as ε again without scaling, and outside the windows it stays to the pixel.
        let threat = ThreatModel {
            norm: Norm::L2,
            epsilon: "0.4".parse().unwrap(),
        };
        let square = Square {
            queries: 5_000,
            p_init: 0.05,
            rescale_schedule: false,
        };
        for channels in [1, 3] {
            let shape = [6, channels, 20, 20];
            let natural: Images = Tensor::full(shape, 0.5, Device::cpu().tensors());
            let mut rngs: Vec<Rng> = (0..6).map(Rng::new).collect();
            let best = Square::start(&natural, &threat, &mut rngs);
            let nothing: PerExample = Tensor::zeros([6], &natural.device());
            let mut search = Search {
                labels: Tensor::zeros([6], &natural.device()),
                fooled: nothing.clone().greater_elem(0.0),
                margin: nothing,
                natural,
                best,
                rngs,
            };
            for query in 0..4 {
                let proposal = square.propose(&mut search, query, &threat);
                let lengths = read(threat.distance(&search.natural, &proposal)).unwrap();
                assert!(lengths.iter().all(|length| (length - 0.4).abs() < 1e-5), "{lengths:?}");
                let moved = read((proposal.clone() - search.best.clone()).abs()).unwrap();
                let side = square.side(query, Norm::L2, 20, 20);
                let inside = 2 * side * side * channels * 6;
                let changed = moved.iter().filter(|change| **change > 1e-6).count();
                assert!(
                    changed <= inside,
                    "{channels} channels: {changed} of {inside} pixels changed"
                );
                search.best = proposal;
            }
        }
    }

    #[test]
    fn the_window_shrinks_as_in_the_authors_code() {
        let square = |queries, rescale_schedule| Square {
            queries,
            p_init: 0.8,
            rescale_schedule,
        };
        // p_selection of the authors' code at p_init = 0.8.
        for (query, share) in [
            (0, 0.8),
            (10, 0.8),
            (11, 0.4),
            (50, 0.4),
            (51, 0.2),
            (201, 0.1),
            (501, 0.05),
            (4_999, 0.00625),
        ] {
            assert_eq!(square(5_000, false).share(query), share, "query {query}");
        }
        assert_eq!(square(1_000, true).share(999), 0.8 / 256.0 / 2.0);
        assert_eq!(square(5_000, false).side(0, Norm::Linf, 28, 28), 25);
        assert_eq!(square(5_000, false).side(0, Norm::L2, 32, 32), 29);
        assert_eq!(square(5_000, false).side(4_999, Norm::L2, 32, 32), 3);
        assert_eq!(square(5_000, false).side(4_999, Norm::Linf, 28, 28), 2);
    }

    #[test]
    fn pyramids_have_length_one_and_their_peak_in_the_middle() {
        let values = pyramid(3, 5);
        let length: f32 = values.iter().map(|v| v * v).sum();
        assert!((length - 1.0).abs() < 1e-6);
        let highest = values.iter().copied().fold(0.0, f32::max);
        assert_eq!(values[5 + 2], highest);
        let double = double_pyramid(7, &mut Rng::new(1));
        assert!(double.iter().sum::<f32>().abs() < 1.0);
        assert!((double.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}
