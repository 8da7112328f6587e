//! A normalisation of the input that a file of weights holds beside its network: found by its names, and applied.

use std::collections::BTreeMap;

use super::{StateEntry, StateValues};

/// What a file's own model does to its images, channel by channel: `(x − mean) / std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    /// One value a channel, in units of pixels in [0, 1].
    pub mean: Vec<f32>,
    /// One value a channel, above 0.
    pub std: Vec<f32>,
}

/// What Martlet's own state dicts call the two.
pub(super) const NAMES: [&str; 2] = ["normalisation.mean", "normalisation.std"];

/// Names that the two parts go by, at the end of a tensor's name.
const PAIRS: [[&str; 2]; 9] = [
    ["mean", "std"],
    ["mu", "sigma"],
    ["mu", "std"],
    ["means", "stds"],
    ["means", "sds"],
    ["mean", "sd"],
    ["new_mean", "new_std"],
    ["mean", "sigma"],
    ["_mean", "_std"],
];

/// Names of a factor and of what is added after it.
const AFFINE: [[&str; 2]; 2] = [["input_scale", "input_shift"], ["scale", "shift"]];

/// What was found among the tensors that are not the network's.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// What is to be applied: none where nothing was found, or where it changes nothing.
    pub found: Option<Normalisation>,
    /// The tensors that say so, all of them alike.
    pub used: Vec<String>,
}

impl Search {
    /// Looks for pairs that fit images of so many channels. Where two say different things neither is taken.
    pub fn among(tensors: &BTreeMap<String, StateEntry>, channels: usize) -> Self {
        let mut search = Search::default();
        let mut found: Option<Normalisation> = None;
        for name in tensors.keys() {
            let (before, last) = name
                .rsplit_once('.')
                .map_or(("", name.as_str()), |(b, l)| (&name[..b.len() + 1], l));
            for (pair, is_affine) in PAIRS
                .iter()
                .map(|pair| (pair, false))
                .chain(AFFINE.iter().map(|pair| (pair, true)))
            {
                if last != pair[0] {
                    continue;
                }
                let other = format!("{before}{}", pair[1]);
                let values =
                    [name, &other].map(|name| tensors.get(name).and_then(|entry| of_channels(entry, channels)));
                let [Some(first), Some(second)] = values else { continue };
                let Some(one) = normalisation(first, second, is_affine) else {
                    continue;
                };
                if found.as_ref().is_some_and(|found| *found != one) {
                    return Search::default();
                }
                found = Some(one);
                search.used.extend([name.clone(), other]);
            }
        }
        let nothing =
            |found: &Normalisation| found.mean.iter().all(|m| *m == 0.0) && found.std.iter().all(|s| *s == 1.0);
        search.found = found.filter(|found| !nothing(found));
        search
    }
}

/// One value a channel, where the tensor is that: `[C]`, `[C, 1, 1]`, `[1, C, 1, 1]`, or one value for all channels.
fn of_channels(entry: &StateEntry, channels: usize) -> Option<Vec<f32>> {
    let StateValues::F32(values) = &entry.values else {
        return None;
    };
    match values.len() {
        1 => Some(vec![values[0]; channels]),
        count if count == channels && entry.shape.iter().filter(|size| **size != 1).count() <= 1 => {
            Some(values.clone())
        }
        _ => None,
    }
}

/// The two parts as one, where their values are those of pixels in [0, 1].
fn normalisation(first: Vec<f32>, second: Vec<f32>, is_affine: bool) -> Option<Normalisation> {
    let (mean, std) = match is_affine {
        // x·scale + shift = (x + shift/scale) / (1/scale)
        true => (
            first.iter().zip(&second).map(|(scale, shift)| -shift / scale).collect(),
            first.iter().map(|scale| 1.0 / scale).collect(),
        ),
        false => (first, second),
    };
    let plausible = |mean: &Vec<f32>, std: &Vec<f32>| {
        mean.iter().all(|value| (-1.0..=2.0).contains(value)) && std.iter().all(|value| (1e-3..=10.0).contains(value))
    };
    plausible(&mean, &std).then_some(Normalisation { mean, std })
}

/// Whether an unknown tensor is called as those are that normalise an input.
pub(super) fn looks_like_one(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let pairs = PAIRS.iter().chain(&AFFINE).flatten();
    let known = pairs
        .filter(|name| !["scale", "shift"].contains(name))
        .any(|known| last == *known);
    known || name.to_lowercase().contains("normali")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(named: &[(&str, &[f32])]) -> BTreeMap<String, StateEntry> {
        let entry = |name: &str, values: &[f32]| StateEntry {
            name: name.into(),
            shape: vec![1, values.len(), 1, 1],
            values: StateValues::F32(values.to_vec()),
        };
        named
            .iter()
            .map(|(name, values)| (name.to_string(), entry(name, values)))
            .collect()
    }

    #[test]
    fn pairs_are_found_by_their_names() {
        let (mean, std) = ([0.5, 0.4, 0.3], [0.2, 0.25, 0.5]);
        let expected = Normalisation {
            mean: mean.to_vec(),
            std: std.to_vec(),
        };
        for [a, b] in [
            ["mu", "sigma"],
            ["0.means", "0.sds"],
            ["normalize.mean", "normalize.std"],
        ] {
            let search = Search::among(&tensors(&[(a, &mean), (b, &std), ("head.weight", &std)]), 3);
            assert_eq!(search.found.as_ref(), Some(&expected), "{a}");
            assert_eq!(search.used, [a, b]);
        }
        let affine = tensors(&[("input_scale", &[5.0, 4.0, 2.0]), ("input_shift", &[-2.5, -1.6, -0.6])]);
        let found = Search::among(&affine, 3).found.unwrap();
        assert!(found.mean.iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-6));
        assert!(found.std.iter().zip(&std).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn what_is_not_sure_is_left_alone() {
        let one = Search::among(&tensors(&[("mu", &[0.5])]), 3);
        let bytes = Search::among(&tensors(&[("mean", &[125.3]), ("std", &[63.0])]), 3);
        let two = Search::among(
            &tensors(&[
                ("a.mean", &[0.5]),
                ("a.std", &[0.5]),
                ("b.mean", &[0.4]),
                ("b.std", &[0.5]),
            ]),
            3,
        );
        for search in [one, bytes, two] {
            assert!(search.found.is_none() && search.used.is_empty());
        }
        let nothing = Search::among(&tensors(&[("mean", &[0.0]), ("std", &[1.0])]), 3);
        assert!(nothing.found.is_none() && nothing.used == ["mean", "std"]);
        assert!(looks_like_one("normalizer.new_mean") && !looks_like_one("bn1.running_mean"));
    }
}
