//! An evaluation in shares, on several processes or machines, and the whole put together again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::record::{Identity, Record};
use crate::data::Dataset;

/// One of several shares of an evaluation's examples: of `of` shares the one counted `number` from 1, every `of`-th example.
///
/// Neighbours go to different shares, so that a set that is sorted by class is shared out evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Which share, from 1 to `of`.
    pub number: usize,
    /// How many shares there are.
    pub of: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/');
        let parsed = parts.and_then(|(number, of)| Some((number.trim().parse().ok()?, of.trim().parse().ok()?)));
        match parsed {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err(format!(
                "expected NUMBER/OF, such as 1/4 for the first of four shares, got {text}"
            )),
        }
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl Shard {
    /// Whether the share holds what stands at this position of the whole.
    pub fn holds(&self, position: usize) -> bool {
        position % self.of == self.number - 1
    }

    /// The share's examples.
    pub fn of_dataset(&self, whole: &Dataset) -> Dataset {
        let positions: Vec<usize> = (0..whole.len()).filter(|position| self.holds(*position)).collect();
        whole.subset(&positions)
    }
}

/// The record of a whole evaluation from those of all its shares.
///
/// # Errors
/// In words: where a share is missing, given twice, unfinished, or of another evaluation.
pub(super) fn join(identity: &Identity, shards: &[(Shard, Record)], dataset: &Dataset) -> Result<Record, String> {
    let of = shards.first().map_or(0, |(shard, _)| shard.of);
    if let Some((other, _)) = shards.iter().find(|(shard, _)| shard.of != of) {
        return Err(format!(
            "expected shares of one division; got one of {of} and one of {}",
            other.of
        ));
    }
    let parts: Vec<&Record> = (1..=of)
        .map(|number| {
            let mut found = shards.iter().filter(|(shard, _)| shard.number == number);
            match (found.next(), found.next()) {
                (Some((shard, record)), None) => {
                    let own = identity.with_data(shard.of_dataset(dataset).fingerprint());
                    match own.difference(&record.identity) {
                        None => Ok(record),
                        Some(what) => Err(format!("shard {shard} is of another evaluation: {what} differs")),
                    }
                }
                (None, _) => Err(format!(
                    "expected all {of} shards; got {}, without shard {number}/{of}",
                    shards.len()
                )),
                (Some(_), Some(_)) => Err(format!("expected each shard once; got shard {number}/{of} twice")),
            }
        })
        .collect::<Result<_, _>>()?;
    let mut whole = Record::new(identity.clone());
    let Some(first) = parts.first() else {
        return Err("expected the shards of an evaluation, got none".to_string());
    };
    for finished in &first.finished {
        let same = parts.iter().map(|part| part.find(&finished.epsilon, &finished.attack));
        let same: Option<Vec<_>> = same.collect();
        let Some(same) = same else {
            return Err(format!(
                "a shard has not finished {} at ε = {}: its command continues it",
                finished.attack, finished.epsilon
            ));
        };
        let predictions =
            (0..dataset.len()).map(|position| same[position % of].predictions.get(position / of).copied());
        let Some(predictions) = predictions.collect() else {
            return Err(format!(
                "a shard does not hold all its examples under {}",
                finished.attack
            ));
        };
        let mut joined = finished.clone();
        joined.predictions = predictions;
        joined.seconds = same.iter().map(|part| part.seconds).sum();
        whole.finished.push(joined);
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_cover_all_once() {
        let shards: Vec<Shard> = ["1/3", "2/3", "3/3"].iter().map(|text| text.parse().unwrap()).collect();
        for position in 0..10 {
            assert_eq!(shards.iter().filter(|shard| shard.holds(position)).count(), 1);
        }
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["0/3", "4/3", "1", "1/0", "a/b", "1/", "-1/2"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
        assert_eq!("2/4".parse::<Shard>().unwrap().to_string(), "2/4");
    }
}
