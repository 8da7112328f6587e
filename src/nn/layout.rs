//! Where a network's parameters lie in the flat vector that training moves, and what PyTorch calls them.

use crate::compute::graph::Graph;

/// What a parameter is, for weight decay's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The weight of a convolution or a linear layer.
    Weight,
    /// Its bias.
    Bias,
    /// BatchNorm's scale.
    NormWeight,
    /// BatchNorm's shift.
    NormBias,
}

/// A trained tensor of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// PyTorch's name.
    pub name: String,
    /// Its shape in PyTorch's layout.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: Role,
    /// Where it begins in the flat vector.
    pub first: usize,
}

impl Parameter {
    /// Its values' places in the flat vector.
    pub fn places(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.shape.iter().product::<usize>()
    }
}

/// A tensor of a network's state dict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub name: String,
    pub shape: Vec<usize>,
    pub holds: Holds,
}

/// Which values of the network a tensor of its state dict holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Parameters from a place on.
    Parameters(usize),
    /// Running statistics from a place on.
    Statistics(usize),
    /// The counter of batches of a BatchNorm.
    Batches(usize),
}

/// The parameters of a network: all weights first, then biases and BatchNorm's, so that weight decay's share is the beginning
/// of the vector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// In the order of PyTorch's state dict.
    entries: Vec<Parameter>,
    /// BatchNorms' names, and after how many entries each one's statistics stand.
    norms: Vec<(String, usize)>,
    /// Values of [`Role::Weight`]: the first ones of the vector.
    pub weights: usize,
    rest: usize,
}

impl Layout {
    pub(super) fn add(&mut self, name: String, role: Role, shape: &[usize], behind: usize) -> usize {
        let length = shape.iter().product::<usize>();
        let first = if role == Role::Weight {
            self.weights += length;
            self.weights - length
        } else {
            self.rest += length;
            behind + self.rest - length
        };
        self.entries.push(Parameter {
            name,
            shape: shape.to_vec(),
            role,
            first,
        });
        first
    }

    pub(super) fn add_norm(&mut self, name: &str) {
        self.norms.push((name.to_string(), self.entries.len()));
    }

    /// Every parameter in the order of PyTorch's state dict.
    pub fn entries(&self) -> &[Parameter] {
        &self.entries
    }

    /// The entries with their share of a flat vector's values.
    pub fn split<'a>(&'a self, values: &'a [f32]) -> impl Iterator<Item = (&'a Parameter, &'a [f32])> {
        self.entries.iter().map(|entry| (entry, &values[entry.places()]))
    }

    /// The length of the flat vector.
    pub fn parameters(&self) -> usize {
        self.weights + self.rest
    }

    /// The state dict's tensors in order.
    pub(super) fn expected(&self, graph: &Graph) -> Vec<Expected> {
        let mut expected = Vec::new();
        let mut norms = self.norms.iter().zip(graph.norms()).enumerate().peekable();
        for (number, entry) in self.entries.iter().enumerate() {
            expected.push(Expected {
                name: entry.name.clone(),
                shape: entry.shape.clone(),
                holds: Holds::Parameters(entry.first),
            });
            while let Some((norm, ((name, _), place))) = norms.next_if(|(_, ((_, after), _))| *after == number + 1) {
                let channels = vec![place.channels];
                for (buffer, shape, holds) in [
                    ("running_mean", channels.clone(), Holds::Statistics(place.mean().start)),
                    ("running_var", channels, Holds::Statistics(place.variance().start)),
                    ("num_batches_tracked", Vec::new(), Holds::Batches(norm)),
                ] {
                    expected.push(Expected {
                        name: format!("{name}.{buffer}"),
                        shape,
                        holds,
                    });
                }
            }
        }
        expected
    }
}
