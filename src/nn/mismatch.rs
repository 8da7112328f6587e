//! Why a state dict is not that of a network, and the way out.

use std::fmt;

use super::{Architecture, Model, weights::few};

/// The first tensor that is missing or different.
pub(super) enum Found {
    /// No network stands under the name that was asked for.
    Key(String),
    /// One of another shape.
    Shape {
        name: String,
        expected: Vec<usize>,
        got: Vec<usize>,
    },
    /// One of integers.
    Integers(String),
    /// None.
    Missing(String, Vec<usize>),
    /// One that the network has not.
    Extra(String),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(said) => f.write_str(said),
            Self::Shape { name, expected, got } => write!(f, "expected {name} of shape {expected:?}, got {got:?}"),
            Self::Integers(name) => write!(f, "expected {name} in floating point, got another type"),
            Self::Missing(name, shape) => write!(f, "expected a tensor {name} of shape {shape:?}, got none"),
            Self::Extra(name) => write!(f, "expected no tensor {name}, got one"),
        }
    }
}

/// What can be done about it, as the end of a sentence.
pub(super) fn way_out(model: &Model, shapes: &[(String, Vec<usize>)], found: &Found) -> String {
    let architecture = model.architecture();
    if let Some(said) = made_of_parts(shapes) {
        return said;
    }
    match (Architecture::guess(shapes), found) {
        (Some(other), _) if other != architecture => format!("; --network {other} would fit them"),
        // Only what images and classes decide differs between networks of one design.
        (Some(_), Found::Shape { .. }) => format!(
            "; they were trained for other images or classes than {} and {}",
            model.input(),
            model.classes()
        ),
        (Some(_), Found::Extra(_)) => {
            format!(
                "; the file's own model computes something with it that {architecture} does not: it cannot be read as one"
            )
        }
        (Some(_), Found::Integers(_)) => "; save them in floating point".into(),
        (Some(_), _) => String::new(),
        (None, _) => under_other_names(shapes).unwrap_or_else(|| {
            let names: Vec<String> = shapes.iter().map(|(name, _)| name.clone()).collect();
            format!("; no network of Martlet fits them: they are {}", few(&names))
        }),
    }
}

/// A weight that a training kept in several tensors, which one line of Python joins.
struct Parts {
    what: &'static str,
    /// Endings of tensors that all are there.
    endings: &'static [&'static str],
    /// The state dict with whole weights, of the state dict `w`.
    whole: &'static str,
}

const PARTS: [Parts; 5] = [
    Parts {
        what: "pruned weights with their masks",
        endings: &["weight_orig", "weight_mask"],
        whole: r#"{k.removesuffix("_orig"): v * w[k[:-4] + "mask"] if k.endswith("_orig") else v for k, v in w.items() if not k.endswith("_mask")}"#,
    },
    Parts {
        what: "weights in spectral normalisation",
        endings: &["weight_orig", "weight_u", "weight_v"],
        whole: r#"{k.removesuffix("_orig"): v / (w[k[:-4] + "u"] @ v.flatten(1) @ w[k[:-4] + "v"]) if k.endswith("_orig") else v for k, v in w.items() if not k.endswith(("weight_u", "weight_v"))}"#,
    },
    Parts {
        what: "weights in weight normalisation",
        endings: &["weight_g", "weight_v"],
        whole: r#"{k.removesuffix("_v"): torch._weight_norm(v, w[k[:-1] + "g"], 0) if k.endswith("weight_v") else v for k, v in w.items() if not k.endswith("weight_g")}"#,
    },
    Parts {
        what: "weights in weight normalisation",
        endings: &["parametrizations.weight.original0", "parametrizations.weight.original1"],
        whole: r#"{k.replace("parametrizations.weight.original1", "weight"): torch._weight_norm(v, w[k[:-1] + "0"], 0) if k.endswith("weight.original1") else v for k, v in w.items() if not k.endswith("weight.original0")}"#,
    },
    Parts {
        what: "weights in spectral normalisation",
        endings: &[
            "parametrizations.weight.original",
            "parametrizations.weight.0._u",
            "parametrizations.weight.0._v",
        ],
        whole: r#"{k.replace("parametrizations.weight.original", "weight"): v / (w[k[:-8] + "0._u"] @ v.flatten(1) @ w[k[:-8] + "0._v"]) if k.endswith("weight.original") else v for k, v in w.items() if not k.endswith(("._u", "._v"))}"#,
    },
];

fn made_of_parts(shapes: &[(String, Vec<usize>)]) -> Option<String> {
    let there = |ending: &&str| shapes.iter().any(|(name, _)| name.ends_with(ending));
    if let Some(parts) = PARTS.iter().find(|parts| parts.endings.iter().all(there)) {
        return Some(format!("; they are {}; {}", parts.what, in_python(parts.whole)));
    }
    there(&".parametrizations.weight.original").then(|| {
        r#"; their weights are computed from others (parametrizations); in Python, with m the model: import torch; [torch.nn.utils.parametrize.remove_parametrizations(p, "weight") for p in m.modules() if torch.nn.utils.parametrize.is_parametrized(p, "weight")]; torch.save(m.state_dict(), "weights.pt")"#.into()
    })
}

fn in_python(whole: &str) -> String {
    format!("in Python, with w their state dict: import torch; torch.save({whole}, \"weights.pt\")")
}

/// torchvision and timm call two parts of residual networks by other names.
fn under_other_names(shapes: &[(String, Vec<usize>)]) -> Option<String> {
    let renamed = |name: &str| name.replace("downsample.", "shortcut.").replace("fc.", "linear.");
    let known: Vec<(String, Vec<usize>)> = shapes
        .iter()
        .map(|(name, shape)| (renamed(name), shape.clone()))
        .collect();
    let whole = r#"{k.replace("downsample.", "shortcut.").replace("fc.", "linear."): v for k, v in w.items()}"#;
    if let Some(other) = Architecture::guess(&known) {
        return Some(format!(
            "; under torchvision's names they are those of --network {other}, where its first convolution has stride 1 and no pool follows; {}",
            in_python(whole)
        ));
    }
    let first = known.iter().find(|(name, _)| name.ends_with("conv1.weight"))?;
    let residual = known.iter().any(|(name, _)| name.contains("layer1.0.conv1.weight"));
    (residual && first.1.get(2) == Some(&7)).then(|| {
        "; they are a residual network's for large images, with a first convolution of 7×7 and a pool: Martlet's are those for small images".into()
    })
}
