//! Tensors that lie beside a network in its file: other copies of it, a training's own numbers, or parts of the file's model that Martlet's
//! network has not.

use std::collections::{BTreeMap, HashMap};

use super::{
    StateEntry, StateValues,
    layout::{Expected, Holds},
    normalisation,
};

/// Words in names of what an optimiser and its helpers keep.
const OF_TRAINING: [&str; 8] = [
    "optim",
    "opt_",
    "momentum_buffer",
    "exp_avg",
    "square_avg",
    "sched",
    "rng_state",
    "criterion",
];

/// Names of averaged weights that are kept as a list.
const AVERAGES: [&str; 4] = ["ema", "swa", "shadow", "shadow_params"];

/// Beginnings of the names of figures that a training notes as single numbers.
const FIGURES: [&str; 9] = ["acc", "best_", "epoch", "err", "iter", "loss", "lr", "prec", "step"];

/// What stands before the names of a copy of the network and of all modules round it, seen from the network under `prefix`.
pub(super) fn own_root<'a>(copy: &'a str, prefix: &str) -> &'a str {
    let mut common = 0;
    for (dot, _) in copy.match_indices('.') {
        if !prefix.starts_with(&copy[..=dot]) {
            return &copy[..=dot];
        }
        common = dot + 1;
    }
    &copy[..common]
}

/// Those of the tensors that may be part of what the file's own model computes: not an optimiser's, no counter, no figure, not the
/// `sub_block1` that released WRN code builds and never calls, and no copy of the network's parameters. First stand those, so many, that
/// can be a normalisation of the input.
pub(super) fn doubtful(
    tensors: &BTreeMap<String, StateEntry>,
    expected: &[Expected],
    channels: usize,
) -> (Vec<String>, usize) {
    let copies = copies(tensors, expected);
    let is_doubtful = |name: &str, entry: &StateEntry| {
        let StateValues::F32(values) = &entry.values else {
            return false;
        };
        let lower = name.to_lowercase();
        let mut parts = lower.split('.');
        let is_known = parts.clone().any(|part| {
            part == "sub_block1"
                || part == "opt"
                || AVERAGES.contains(&part)
                || OF_TRAINING.iter().any(|word| part.contains(word))
        });
        let is_figure = values.len() == 1 && parts.any(|part| FIGURES.iter().any(|word| part.starts_with(word)));
        let is_copy = copies.iter().any(|copy| {
            let rest = name.strip_prefix(copy);
            rest.is_some_and(|rest| expected.iter().any(|tensor| tensor.name == rest))
        });
        !name.ends_with("num_batches_tracked") && !is_known && !is_figure && !is_copy
    };
    let can_normalise = |name: &str, entry: &StateEntry| {
        let StateValues::F32(values) = &entry.values else {
            return false;
        };
        values.len() == channels || (values.len() == 1 && normalisation::is_name_of_one(name))
    };
    let found = tensors.iter().filter(|(name, entry)| is_doubtful(name, entry));
    let (mut first, rest): (Vec<_>, Vec<_>) = found.partition(|(name, entry)| can_normalise(name, entry));
    let count = first.len();
    first.extend(rest);
    (first.into_iter().map(|(name, _)| name.clone()).collect(), count)
}

/// What stands before the names where all parameters of the network lie once more, such as averaged ones without BatchNorms' statistics.
fn copies<'a>(tensors: &'a BTreeMap<String, StateEntry>, expected: &[Expected]) -> Vec<&'a str> {
    let parameters: HashMap<&str, &[usize]> = expected
        .iter()
        .filter(|tensor| matches!(tensor.holds, Holds::Parameters(_)))
        .map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()))
        .collect();
    let mut found: HashMap<&str, usize> = HashMap::new();
    for (name, entry) in tensors {
        let starts = std::iter::once(0).chain(name.match_indices('.').map(|(dot, _)| dot + 1));
        for start in starts {
            if parameters.get(&name[start..]) == Some(&entry.shape.as_slice()) {
                *found.entry(&name[..start]).or_default() += 1;
            }
        }
    }
    found.retain(|_, count| *count == parameters.len());
    found.into_keys().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_the_modules_round_it_along() {
        for (copy, prefix, root) in [
            ("ema.", "model.", "ema."),
            ("ema.module.", "model.", "ema."),
            ("module.attacker.model.", "module.model.", "module.attacker."),
            ("model.attacker.", "model.", "model.attacker."),
            ("ema.", "", "ema."),
            ("model.", "model.inner.", "model."),
        ] {
            assert_eq!(own_root(copy, prefix), root, "{copy} beside {prefix}");
        }
    }

    #[test]
    fn what_may_be_part_of_the_model_is_told_from_what_a_training_keeps() {
        let network = ["conv.weight", "fc.weight"].map(|name| Expected {
            name: name.into(),
            shape: vec![2, 2],
            holds: Holds::Parameters(0),
        });
        let tensors: BTreeMap<String, StateEntry> = [
            ("CIFAR_mean", 3),
            ("denoise.conv.weight", 4),
            ("temperature", 1),
            ("bn1_adv.weight", 2),
            ("fc.weight", 4),
            // None of these computes anything.
            ("optimizer.state.0.momentum_buffer", 4),
            ("opt_state_dict.state.0.exp_avg", 3),
            ("best_prec1", 1),
            ("accuracy.mean", 1),
            ("module.sub_block1.layer.0.conv1.weight", 4),
            ("ema.shadow_params.0", 4),
            ("averaged.conv.weight", 4),
            ("averaged.fc.weight", 4),
        ]
        .map(|(name, count)| {
            let entry = StateEntry {
                name: name.into(),
                shape: if count == 4 { vec![2, 2] } else { vec![count] },
                values: StateValues::F32(vec![0.5; count]),
            };
            (name.to_string(), entry)
        })
        .into();
        let (names, can_normalise) = doubtful(&tensors, &network, 3);
        let parts = [
            "CIFAR_mean",
            "bn1_adv.weight",
            "denoise.conv.weight",
            "fc.weight",
            "temperature",
        ];
        assert_eq!((names.as_slice(), can_normalise), (&parts.map(String::from)[..], 1));
    }
}
