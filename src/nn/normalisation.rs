//! A normalisation of the input: stated by a person, or held by a file of weights beside its network, found by its names.

use std::{collections::BTreeMap, fmt};

use super::{StateEntry, StateValues};

/// What a file's own model does to its images, channel by channel: `(x − mean) / std`.
#[derive(Debug, Clone, PartialEq)]
pub struct Normalisation {
    /// One value a channel, in units of pixels in [0, 1].
    pub mean: Vec<f32>,
    /// One value a channel, above 0.
    pub std: Vec<f32>,
}

/// Why a normalisation cannot be the model's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NormalisationError {
    /// It is not written as one.
    #[error(
        "expected MEAN/STD, a value for each channel or one for all, such as 0.4914,0.4822,0.4465/0.2471,0.2435,0.2616 or 0.5/0.5, got {0:?}"
    )]
    Text(String),
    /// Another number of values than channels.
    #[error("expected 1 value of the {part} or {channels}, one a channel, got {got}")]
    Channels {
        /// Mean or standard deviation.
        part: &'static str,
        /// The images' channels.
        channels: usize,
        /// The number of values.
        got: usize,
    },
    /// Nothing divides by 0, and no deviation is below it.
    #[error("expected a standard deviation above 0, got {0}; 1 divides by nothing")]
    Deviation(f32),
    /// Values in units of bytes.
    #[error("expected values for pixels in [0, 1], got those of bytes; divided by 255 they are {0}")]
    Bytes(Normalisation),
    /// Values that no pixels have.
    #[error("expected values for pixels in [0, 1], a mean from -1 to 2 and a deviation from 0.001 to 10, got {0}")]
    Implausible(Normalisation),
    /// The file of the weights says something else.
    #[error("expected the file's own, {found} ({tensors}), got {stated}; leave it out, and the file's own is applied")]
    Differs {
        /// What the file says.
        found: Normalisation,
        /// By which tensors.
        tensors: String,
        /// What was stated.
        stated: Normalisation,
    },
}

impl fmt::Display for Normalisation {
    /// As [`Normalisation::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = |values: &[f32]| values.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        write!(f, "{}/{}", values(&self.mean), values(&self.std))
    }
}

impl Normalisation {
    /// Reads `MEAN/STD`, each a value for each of so many channels or one for all: `0.4914,0.4822,0.4465/0.2471,0.2435,0.2616`, `0.5/0.5`.
    ///
    /// # Errors
    /// Where it is not that, or not in units of pixels in [0, 1].
    pub fn parse(text: &str, channels: usize) -> Result<Self, NormalisationError> {
        let wrong = || NormalisationError::Text(text.to_string());
        let part = |part: &'static str, values: &str| {
            let values: Result<Vec<f32>, _> = values.split(',').map(|value| value.trim().parse()).collect();
            let mut values = values.map_err(|_| wrong())?;
            if values.len() == 1 {
                values = vec![values[0]; channels];
            }
            match values.len() {
                got if got != channels => Err(NormalisationError::Channels { part, channels, got }),
                _ if values.iter().any(|value| !value.is_finite()) => Err(wrong()),
                _ => Ok(values),
            }
        };
        let (mean, std) = text.split_once('/').ok_or_else(wrong)?;
        let stated = Self {
            mean: part("mean", mean)?,
            std: part("standard deviation", std)?,
        };
        if let Some(std) = stated.std.iter().find(|std| **std <= 0.0) {
            return Err(NormalisationError::Deviation(*std));
        }
        if stated.is_plausible() {
            return Ok(stated);
        }
        let shares = |values: &[f32]| values.iter().map(|v| (v / 255.0 * 1e4).round() / 1e4).collect();
        let divided = Self {
            mean: shares(&stated.mean),
            std: shares(&stated.std),
        };
        Err(if divided.is_plausible() {
            NormalisationError::Bytes(divided)
        } else {
            NormalisationError::Implausible(stated)
        })
    }

    /// Whether it leaves images as they are.
    pub(super) fn is_nothing(&self) -> bool {
        self.mean.iter().all(|mean| *mean == 0.0) && self.std.iter().all(|std| *std == 1.0)
    }

    /// Whether another says the same but for rounding.
    pub(super) fn is_close(&self, other: &Self) -> bool {
        let close = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
        close(&self.mean, &other.mean) && close(&self.std, &other.std)
    }

    /// Whether the values are those of pixels in [0, 1].
    fn is_plausible(&self) -> bool {
        self.mean.iter().all(|value| (-1.0..=2.0).contains(value))
            && self.std.iter().all(|value| (1e-3..=10.0).contains(value))
    }
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

/// Words in the name of a module that works on the input.
const OF_THE_INPUT: [&str; 5] = ["norm", "input", "image", "data", "prep"];

/// What was found among the tensors that are not the network's.
#[derive(Debug, Default)]
pub(super) struct Search {
    /// What is to be applied: none where nothing was found, or where it changes nothing.
    pub found: Option<Normalisation>,
    /// The tensors that say so, all of them alike.
    pub used: Vec<String>,
}

impl Search {
    /// Looks for pairs that fit images of so many channels, for a network whose names in the file begin with `prefix`.
    ///
    /// Of several, those of the network's own modules go before those of a module beside it. Where two of a kind say different things none
    /// is taken.
    pub fn among(tensors: &BTreeMap<String, StateEntry>, channels: usize, prefix: &str) -> Self {
        let mut pairs: Vec<(bool, Normalisation, [String; 2])> = Vec::new();
        for name in tensors.keys() {
            let (before, last) = name
                .rsplit_once('.')
                .map_or(("", name.as_str()), |(b, l)| (&name[..b.len() + 1], l));
            let Some(place) = Place::of(before, prefix) else {
                continue;
            };
            for (pair, is_affine) in PAIRS
                .iter()
                .map(|pair| (pair, false))
                .chain(AFFINE.iter().map(|pair| (pair, true)))
            {
                if last != pair[0] {
                    continue;
                }
                let other = format!("{before}{}", pair[1]);
                let single = place.takes_single(channels);
                let values = [name, &other].map(|name| of_channels(tensors.get(name)?, channels, single));
                let [Some(first), Some(second)] = values else { continue };
                if let Some(one) = normalisation(first, second, is_affine) {
                    pairs.push((place.beside, one, [name.clone(), other]));
                }
            }
        }
        let nearest = pairs.iter().map(|(beside, ..)| *beside).min();
        let mut near = pairs.iter().filter(|(beside, ..)| Some(*beside) == nearest);
        let Some((_, one, _)) = near.next() else {
            return Search::default();
        };
        if near.any(|(_, other, _)| other != one) {
            return Search::default();
        }
        let alike = pairs.iter().filter(|(_, other, _)| other == one);
        Search {
            used: alike.flat_map(|(.., names)| names.clone()).collect(),
            found: Some(one.clone()).filter(|found| !found.is_nothing()),
        }
    }
}

/// Where a pair stands, seen from the network: what belongs to another model of the file, or to what comes after the network, is not its
/// input's.
struct Place {
    /// In a module beside the network's, not in one that holds the network.
    beside: bool,
    /// Whether that module's name says that it works on the input.
    is_told: bool,
    /// Whether it is numbered, as the parts of a sequence are.
    is_numbered: bool,
}

impl Place {
    /// Of a module whose names begin with `before`; none where neither it nor its parent holds the network.
    fn of(before: &str, prefix: &str) -> Option<Self> {
        let module = before.trim_end_matches('.');
        let (parent, own) = module
            .rsplit_once('.')
            .map_or(("", module), |(p, own)| (&module[..p.len() + 1], own));
        let beside = !prefix.starts_with(before);
        let own = own.to_lowercase();
        (!beside || prefix.starts_with(parent)).then(|| Self {
            beside,
            is_told: OF_THE_INPUT.iter().any(|word| own.contains(word)),
            is_numbered: !own.is_empty() && own.bytes().all(|byte| byte.is_ascii_digit()),
        })
    }

    /// Whether one value alone may be meant for the images: a single mean and deviation may as well be those of an accuracy.
    fn takes_single(&self, channels: usize) -> bool {
        self.is_told || (channels == 1 && (!self.beside || self.is_numbered))
    }
}

/// Whether a tensor's name ends as those of a mean or a deviation do.
pub(super) fn is_name_of_one(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    PAIRS.iter().flatten().any(|known| last.eq_ignore_ascii_case(known))
}

/// One value a channel, where the tensor is that: `[C]`, `[C, 1, 1]`, `[1, C, 1, 1]`, or one value for all channels.
fn of_channels(entry: &StateEntry, channels: usize, takes_single: bool) -> Option<Vec<f32>> {
    let StateValues::F32(values) = &entry.values else {
        return None;
    };
    match values.len() {
        1 => takes_single.then(|| vec![values[0]; channels]),
        count if count == channels && entry.shape.iter().filter(|size| **size != 1).count() <= 1 => {
            Some(values.clone())
        }
        _ => None,
    }
}

/// The two parts as one, where their values are those of pixels in [0, 1].
fn normalisation(first: Vec<f32>, second: Vec<f32>, is_affine: bool) -> Option<Normalisation> {
    let one = match is_affine {
        // x·scale + shift = (x + shift/scale) / (1/scale)
        true => Normalisation {
            mean: first.iter().zip(&second).map(|(scale, shift)| -shift / scale).collect(),
            std: first.iter().map(|scale| 1.0 / scale).collect(),
        },
        false => Normalisation {
            mean: first,
            std: second,
        },
    };
    // A scale below 1 is a deviation: some programs compute (x − shift) / scale.
    let is_factor = || one.std.iter().all(|std| *std <= 1.0) && one.mean.iter().all(|mean| (0.0..=1.0).contains(mean));
    (one.is_plausible() && (!is_affine || is_factor())).then_some(one)
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
            let search = Search::among(&tensors(&[(a, &mean), (b, &std), ("head.weight", &std)]), 3, "net.");
            assert_eq!(search.found.as_ref(), Some(&expected), "{a}");
            assert_eq!(search.used, [a, b]);
        }
        let affine = tensors(&[("input_scale", &[5.0, 4.0, 2.0]), ("input_shift", &[-2.5, -1.6, -0.6])]);
        let found = Search::among(&affine, 3, "").found.unwrap();
        assert!(found.mean.iter().zip(&mean).all(|(a, b)| (a - b).abs() < 1e-6));
        assert!(found.std.iter().zip(&std).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    #[test]
    fn what_is_not_sure_is_left_alone() {
        let one = Search::among(&tensors(&[("mu", &[0.5; 3])]), 3, "");
        let bytes = Search::among(&tensors(&[("mean", &[125.3; 3]), ("std", &[63.0; 3])]), 3, "");
        let two = Search::among(
            &tensors(&[
                ("a.mean", &[0.5; 3]),
                ("a.std", &[0.5; 3]),
                ("b.mean", &[0.4; 3]),
                ("b.std", &[0.5; 3]),
            ]),
            3,
            "net.",
        );
        for search in [one, bytes, two] {
            assert!(search.found.is_none() && search.used.is_empty());
        }
        let nothing = Search::among(&tensors(&[("mean", &[0.0; 3]), ("std", &[1.0; 3])]), 3, "");
        assert!(nothing.found.is_none() && nothing.used == ["mean", "std"]);
    }

    #[test]
    fn what_belongs_to_something_else_is_not_the_networks() {
        let three: &[f32] = &[0.4, 0.3, 0.2];
        let taken = |prefix: &str, module: &str, names: [&str; 2], values: &[f32], channels: usize| {
            let names = names.map(|name| format!("{module}{name}"));
            let search = Search::among(&tensors(&[(&names[0], values), (&names[1], values)]), channels, prefix);
            search.found.is_some()
        };
        let (pair, one): (_, &[f32]) = (["mean", "std"], &[0.5]);
        for (prefix, module) in [
            ("", ""),
            ("", "normalize."),
            ("1.", "0."),
            ("state_dict.", "state_dict."),
            ("state_dict.", ""),
            ("module.model.", "module.normalizer."),
            ("state_dict.module.1.", "state_dict.module.0."),
        ] {
            assert!(taken(prefix, module, pair, three, 3), "{module} beside {prefix}");
            assert!(taken(prefix, module, pair, one, 1), "{module} beside {prefix}");
        }
        assert!(taken("net.", "normalize.", pair, one, 3));
        for (prefix, module, names, values, channels) in [
            ("student.", "teacher.normalize.", pair, three, 3),
            ("net.", "net.layer1.0.", pair, three, 3),
            ("net.", "calibrator.", ["scale", "shift"], &[1.7], 3),
            ("", "prior.", ["mu", "sigma"], &[0.1], 3),
            ("net.", "accuracy.", pair, &[0.8], 1),
            // As LPIPS has them: (x − shift) / scale.
            ("net.", "scaling_layer.", ["scale", "shift"], &[0.4, 0.45, 0.44], 3),
        ] {
            assert!(
                !taken(prefix, module, names, values, channels),
                "{module} beside {prefix}"
            );
        }

        // The network's own goes before one beside it.
        let own = tensors(&[
            ("mean", three),
            ("std", three),
            ("data.mean", &[0.1]),
            ("data.std", &[0.1]),
        ]);
        let search = Search::among(&own, 3, "");
        assert_eq!(search.used, ["mean", "std"]);
    }

    #[test]
    fn a_normalisation_is_stated_in_words() {
        let parse = |text, channels| Normalisation::parse(text, channels);
        let cifar = parse("0.4914,0.4822,0.4465/0.2471, 0.2435, 0.2616", 3).unwrap();
        assert_eq!(cifar.mean, [0.4914, 0.4822, 0.4465]);
        assert_eq!(cifar.to_string(), "0.4914,0.4822,0.4465/0.2471,0.2435,0.2616");
        assert_eq!(parse("0.5/0.25", 3).unwrap().std, [0.25; 3]);
        assert!(parse("0/1", 3).unwrap().is_nothing());
        for (text, words) in [
            ("0.5", "expected MEAN/STD"),
            ("a/b", "expected MEAN/STD"),
            ("0.5/nan", "expected MEAN/STD"),
            ("0.5,0.5/1", "expected 1 value of the mean or 3, one a channel, got 2"),
            ("0.5/0", "above 0, got 0"),
            (
                "125.3/63",
                "divided by 255 they are 0.4914,0.4914,0.4914/0.2471,0.2471,0.2471",
            ),
            ("0.5/1000000", "from 0.001 to 10"),
        ] {
            let said = parse(text, 3).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}
