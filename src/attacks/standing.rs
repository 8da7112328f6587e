//! Bookkeeping for attacks that let an example go once it is fooled: rows, departures.

use burn::tensor::{Bool, Int, Tensor, kind::Basic};

use super::AttackError;
use crate::{
    compute,
    random::Rng,
    shapes::{Batch, Images, Labels, Logits, PerExample, row_numbers},
};

/// For each example one image or the other.
pub(super) fn choose(mask: &Tensor<1, Bool>, where_true: Images, where_false: Images) -> Images {
    let [examples, channels, height, width] = where_false.dims();
    let mask = mask
        .clone()
        .reshape([examples, 1, 1, 1])
        .expand([examples, channels, height, width]);
    where_false.mask_where(mask, where_true)
}

/// A gradient with 0 for what is no number in it.
pub(super) fn finite(gradient: Images) -> Images {
    let lost = gradient.clone().is_finite().bool_not();
    gradient.mask_fill(lost, 0.0)
}

/// One factor an example, laid out so that it multiplies images.
pub(super) fn column(values: &PerExample) -> Images {
    values.clone().reshape([values.dims()[0], 1, 1, 1])
}

/// Which examples the model answers wrongly.
pub(super) fn is_wrong(logits: Logits, labels: &Labels) -> Tensor<1, Bool> {
    let answers: Labels = logits.inner().argmax(1).reshape([labels.dims()[0]]);
    answers.not_equal(labels.clone())
}

/// What an attack made of a batch.
pub(super) struct Attempt {
    /// The images, in the batch's order.
    pub(super) images: Images,
    /// Whether each of them is answered wrongly.
    pub(super) fooled: Vec<bool>,
}

/// Examples that leave a batch one after another, put back into their order at the end.
pub(super) struct Departures {
    /// Where the examples that are still here stood at first.
    here: Vec<usize>,
    gone: Vec<(Vec<usize>, Images)>,
    fooled: Vec<bool>,
}

impl Departures {
    pub(super) fn new(examples: usize) -> Self {
        Self {
            here: (0..examples).collect(),
            gone: Vec::new(),
            fooled: vec![false; examples],
        }
    }

    /// Lets the fooled examples go once they are a quarter of those here: fewer would change the batch's shape, which a
    /// GPU tunes for anew, more often than it saves. Gives the rows that stay; `None` where nothing changes. This is a sync point.
    pub(super) fn let_go(
        &mut self,
        fooled: &Tensor<1, Bool>,
        images: &Images,
    ) -> Result<Option<Vec<usize>>, AttackError> {
        let (gone, stay) = self.rows(fooled)?;
        if gone.is_empty() || gone.len() * 4 < self.here.len() {
            return Ok(None);
        }
        self.move_out(&gone, images, true);
        self.here = stay.iter().map(|row| self.here[*row]).collect();
        Ok(Some(stay))
    }

    /// Everything in its first order, with what is still here.
    pub(super) fn finish(mut self, fooled: &Tensor<1, Bool>, images: &Images) -> Result<Attempt, AttackError> {
        if !self.here.is_empty() {
            let (gone, stay) = self.rows(fooled)?;
            self.move_out(&gone, images, true);
            self.move_out(&stay, images, false);
        }
        Ok(self.in_order())
    }

    /// Everything in its first order, once all have left.
    fn in_order(self) -> Attempt {
        let (places, parts): (Vec<_>, Vec<_>) = self.gone.into_iter().unzip();
        let places = places.concat();
        let mut order = vec![0; places.len()];
        for (row, place) in places.into_iter().enumerate() {
            order[place] = row;
        }
        let images = Tensor::cat(parts, 0);
        let order = row_numbers(&order, &images);
        Attempt {
            images: images.select(0, order),
            fooled: self.fooled,
        }
    }

    /// The rows that are fooled, and the others.
    fn rows(&self, fooled: &Tensor<1, Bool>) -> Result<(Vec<usize>, Vec<usize>), AttackError> {
        let fooled = compute::read(fooled.clone().float())?;
        Ok((0..self.here.len()).partition(|row| fooled[*row] != 0.0))
    }

    fn move_out(&mut self, rows: &[usize], images: &Images, fooled: bool) {
        if rows.is_empty() {
            return;
        }
        let places: Vec<usize> = rows.iter().map(|row| self.here[*row]).collect();
        for place in &places {
            self.fooled[*place] = fooled;
        }
        self.gone
            .push((places, images.clone().select(0, row_numbers(rows, images))));
    }
}

/// Attempts one after another, each on the examples that none before it fooled; the result holds, for each example, the
/// image that fooled the model, or else the last attempt's.
///
/// `attempt` gets what it is to try, the rows of the whole batch that still stand, those examples and their generators.
pub(super) fn while_standing<T>(
    batch: &Batch,
    rngs: &mut [Rng],
    attempts: impl IntoIterator<Item = T>,
    mut attempt: impl FnMut(T, &[usize], &Batch, &mut [Rng]) -> Result<Attempt, AttackError>,
) -> Result<Images, AttackError> {
    let mut departures = Departures::new(batch.len());
    let mut standing: Vec<usize> = (0..batch.len()).collect();
    let mut images = batch.images.clone();
    for what in attempts {
        if standing.is_empty() {
            break;
        }
        let examples = batch.select(&standing);
        let mut own: Vec<Rng> = standing.iter().map(|row| rngs[*row].clone()).collect();
        let found = attempt(what, &standing, &examples, &mut own)?;
        for (row, rng) in standing.iter().zip(own) {
            rngs[*row] = rng;
        }
        let (gone, stay): (Vec<usize>, Vec<usize>) = (0..standing.len()).partition(|row| found.fooled[*row]);
        departures.move_out(&gone, &found.images, true);
        departures.here = stay.iter().map(|row| standing[*row]).collect();
        standing.clone_from(&departures.here);
        if !stay.is_empty() {
            images = found.images.clone().select(0, row_numbers(&stay, &found.images));
        }
    }
    let rest: Vec<usize> = (0..standing.len()).collect();
    departures.move_out(&rest, &images, false);
    Ok(departures.in_order().images)
}

/// The wrong classes of each example in falling order of the natural image's logits, at most `count`: `[row][rank]`.
/// This is a sync point.
///
/// # Source
/// Croce and Hein 2020: targets are the likeliest wrong classes.
pub(super) fn likeliest_targets(
    logits: &dyn Fn(Images) -> Logits,
    batch: &Batch,
    count: usize,
) -> Result<Vec<Vec<usize>>, AttackError> {
    let answers = logits(batch.images.clone()).inner();
    let classes = answers.dims()[1];
    let values = compute::read(answers)?;
    let labels = compute::read_int(batch.labels.clone())?;
    let rows = values.chunks_exact(classes.max(1)).zip(labels);
    Ok(rows
        .map(|(row, label)| {
            let mut others: Vec<usize> = (0..classes).filter(|class| *class as i64 != label).collect();
            others.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
            others.truncate(count);
            others
        })
        .collect())
}

/// The targets of some rows at one rank, as labels.
pub(super) fn targets_at(targets: &[Vec<usize>], rows: &[usize], rank: usize, images: &Images) -> Labels {
    let chosen: Vec<usize> = rows.iter().map(|row| targets[*row][rank]).collect();
    row_numbers(&chosen, images)
}

/// Some rows of a tensor.
pub(super) fn rows<const D: usize, K: Basic>(tensor: &Tensor<D, K>, chosen: &Tensor<1, Int>) -> Tensor<D, K> {
    tensor.clone().select(0, chosen.clone())
}
