//! How each training example fares, epoch by epoch: the sets S+ and S− that the method is about.

use std::{collections::HashMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::theme::Fate;
use crate::{data::Dataset, engine::Examples, shapes::argmax};

/// Where a run's folder keeps its book.
pub const FILE: &str = "examples.json";

/// What is known of one training example.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The class that the model gives the natural image.
    pub natural: Option<u16>,
    /// The class that it gives the adversarial image.
    pub adversarial: Option<u16>,
    /// The probability of the true class on the natural image.
    pub p_true: f32,
    /// The true class's lead over the best other on the adversarial image, in logits.
    pub margin: f32,
    /// `KL(natural ‖ adversarial)`.
    pub kl: f32,
    /// Cross-entropy on the adversarial image, or on the natural one where there is no other.
    pub loss: f32,
    /// How often the natural image's answer changed between right and wrong.
    pub flips: u16,
    /// The fate at each epoch, from the first: `.` unknown, `w`rong, right but not attacked (`n`), `f`ooled, `r`obust.
    pub history: Vec<u8>,
}

impl Record {
    /// How the example fared in `epoch`, from 1.
    pub fn fate_at(&self, epoch: usize) -> Fate {
        match self.history.get(epoch.wrapping_sub(1)) {
            Some(b'w') => Fate::Wrong,
            Some(b'n') => Fate::Right,
            Some(b'f') => Fate::Fooled,
            Some(b'r') => Fate::Robust,
            _ => Fate::Unknown,
        }
    }

    /// How it fared when it was last seen.
    pub fn fate(&self) -> Fate {
        (1..=self.history.len())
            .rev()
            .map(|epoch| self.fate_at(epoch))
            .find(|fate| !matches!(fate, Fate::Unknown))
            .unwrap_or(Fate::Unknown)
    }
}

/// All examples of a training set.
pub struct Book {
    /// The training set.
    pub data: Arc<Dataset>,
    /// One record for each position of it.
    pub records: Vec<Record>,
    /// The newest epoch that anything is known of.
    pub epoch: usize,
    /// Counts up with every change.
    pub version: u64,
    positions: HashMap<usize, usize>,
}

impl Book {
    /// An empty book about `data`.
    pub fn new(data: Arc<Dataset>) -> Self {
        let positions = (0..data.len())
            .map(|position| (data.index(position), position))
            .collect();
        Self {
            records: vec![Record::default(); data.len()],
            positions,
            data,
            epoch: 0,
            version: 0,
        }
    }

    /// Records as a run's folder keeps them, in the order of the training set.
    ///
    /// # Errors
    /// When a figure is no number, which JSON cannot hold.
    pub fn json_of(epoch: usize, records: &[Record]) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&(epoch, records))
    }

    /// A book about `data` from [`Book::json_of`].
    ///
    /// # Errors
    /// When the text is none, or is about another number of examples.
    pub fn from_json(data: Arc<Dataset>, text: &[u8]) -> anyhow::Result<Self> {
        let (epoch, records): (usize, Vec<Record>) = serde_json::from_slice(text)?;
        anyhow::ensure!(
            records.len() == data.len(),
            "expected records of {} training examples, got {}",
            data.len(),
            records.len()
        );
        Ok(Self {
            epoch,
            records,
            version: 1,
            ..Self::new(data)
        })
    }

    /// Notes how some examples fared.
    pub fn take(&mut self, examples: &Examples) {
        self.epoch = self.epoch.max(examples.epoch);
        self.version += 1;
        let rows = examples.indices.len().max(1);
        let row_of = |logits: &Option<Vec<f32>>, row: usize| {
            logits.as_ref().map(|logits| {
                let classes = logits.len() / rows;
                logits[row * classes..(row + 1) * classes].to_vec()
            })
        };
        for (row, index) in examples.indices.iter().enumerate() {
            let Some(&position) = self.positions.get(index) else {
                continue;
            };
            let label = self.data.label(position);
            let natural = row_of(&examples.natural, row);
            let adversarial = row_of(&examples.adversarial, row);
            self.records[position].note(examples.epoch, label, natural.as_deref(), adversarial.as_deref());
        }
    }

    /// How many examples fare how in `epoch`, in the order of [`Fate`].
    pub fn counts(&self, epoch: usize) -> [usize; 5] {
        let mut counts = [0; 5];
        for record in &self.records {
            counts[record.fate_at(epoch) as usize] += 1;
        }
        counts
    }
}

impl Record {
    fn note(&mut self, epoch: usize, label: usize, natural: Option<&[f32]>, adversarial: Option<&[f32]>) {
        if let Some(logits) = natural {
            let right = argmax(logits) == label;
            if self
                .natural
                .is_some_and(|before| (usize::from(before) == label) != right)
            {
                self.flips = self.flips.saturating_add(1);
            }
            self.natural = Some(argmax(logits) as u16);
            self.p_true = log_softmax(logits)[label].exp();
        }
        if let Some(logits) = adversarial {
            self.adversarial = Some(argmax(logits) as u16);
        }
        if let Some(logits) = adversarial.or(natural) {
            self.loss = -log_softmax(logits)[label];
            let other = logits
                .iter()
                .enumerate()
                .filter(|(class, _)| *class != label)
                .map(|(_, logit)| *logit)
                .fold(f32::NEG_INFINITY, f32::max);
            self.margin = logits[label] - other;
        }
        if let (Some(natural), Some(adversarial)) = (natural, adversarial) {
            let (p, q) = (log_softmax(natural), log_softmax(adversarial));
            self.kl = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
        }
        let is = |class: Option<u16>| class.map(|class| usize::from(class) == label);
        let fate = match (natural.and(is(self.natural)), adversarial.and(is(self.adversarial))) {
            (Some(false), _) => b'w',
            (Some(true), Some(false)) => b'f',
            (Some(true), Some(true)) => b'r',
            (Some(true), None) => b'n',
            _ => return,
        };
        if self.history.len() < epoch {
            self.history.resize(epoch, b'.');
        }
        self.history[epoch - 1] = fate;
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
    logits.iter().map(|logit| logit - highest - sum.ln()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Split};

    #[test]
    fn a_book_tells_wrong_fooled_and_robust_and_counts_flips() {
        let data = Arc::new(data::load("glyphs", Split::Train).unwrap().take(3));
        let labels: Vec<usize> = (0..3).map(|position| data.label(position)).collect();
        let sure = |class: usize| {
            (0..10)
                .map(|c| if c == class { 4.0 } else { 0.0 })
                .collect::<Vec<f32>>()
        };
        let other = |label: usize| (label + 1) % 10;
        let mut book = Book::new(data.clone());
        let indices: Vec<usize> = (0..3).map(|position| data.index(position)).collect();
        let tell = |epoch, natural: [usize; 3], adversarial: [usize; 3]| Examples {
            epoch,
            indices: indices.clone(),
            natural: Some(natural.iter().flat_map(|class| sure(*class)).collect()),
            adversarial: Some(adversarial.iter().flat_map(|class| sure(*class)).collect()),
        };
        let wrong = labels.iter().map(|label| other(*label)).collect::<Vec<_>>();
        book.take(&tell(
            1,
            [wrong[0], labels[1], labels[2]],
            [wrong[0], wrong[1], labels[2]],
        ));
        assert_eq!(book.counts(1), [1, 0, 1, 1, 0]);
        book.take(&tell(
            2,
            [labels[0], labels[1], labels[2]],
            [labels[0], wrong[1], labels[2]],
        ));
        assert_eq!(book.counts(2), [0, 0, 1, 2, 0]);
        assert_eq!(book.records[0].flips, 1);
        assert_eq!(book.records[0].history, b"wr");
        let record = &book.records[2];
        assert!((record.p_true - 4.0_f32.exp() / (4.0_f32.exp() + 9.0)).abs() < 1e-6);
        assert!(record.kl.abs() < 1e-6 && (record.margin - 4.0).abs() < 1e-6);
        assert!(book.records[1].kl > 1.0);
        let json = Book::json_of(book.epoch, &book.records).unwrap();
        let again = Book::from_json(data.clone(), &json).unwrap();
        assert_eq!((again.epoch, &again.records), (2, &book.records));
        assert!(Book::from_json(Arc::new(data.take(2)), &json).is_err());
    }
}
