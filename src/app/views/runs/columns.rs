//! The table's columns: what a run's cell says, and how cells are sorted.

use std::cmp::Ordering;

use crate::{recipe::Recipe, runs::Summary, wording::percent};

/// A run with its recipe read.
pub struct Row {
    pub summary: Summary,
    pub recipe: Option<Recipe>,
    /// Accuracy under the strongest attack, and that attack.
    pub best: Option<(f64, String)>,
    pub last: Option<(f64, String)>,
    pub notes: String,
}

/// A column that can be hidden.
pub struct Column {
    pub name: &'static str,
    pub hint: &'static str,
    pub cell: fn(&Row) -> String,
    /// Whether it shows only where the runs differ in it, unless a person chose the columns.
    pub if_differing: bool,
}

const fn figure(name: &'static str, hint: &'static str, cell: fn(&Row) -> String) -> Column {
    Column {
        name,
        hint,
        cell,
        if_differing: false,
    }
}

const fn field(name: &'static str, hint: &'static str, cell: fn(&Row) -> String) -> Column {
    Column {
        name,
        hint,
        cell,
        if_differing: true,
    }
}

/// Every column but the run's name, in the order in which they stand.
pub const COLUMNS: [Column; 14] = [
    figure("state", "Whether it trains, ended, or broke off", |row| {
        row.summary.state.to_string()
    }),
    figure(
        "best",
        "Accuracy of the best checkpoint under the strongest attack of its evaluation, at the recipe's ε on the images that it holds out",
        |row| share(&row.best),
    ),
    figure(
        "last",
        "Accuracy of the last checkpoint under the strongest attack of its evaluation, at the recipe's ε on the images that it holds out",
        |row| share(&row.last),
    ),
    figure("begun", "Date and time", |row| {
        row.summary.created.replace('T', " ").chars().take(16).collect()
    }),
    field("defence", "The loss that is minimised", |row| {
        of(row, |recipe| recipe.defence.to_string())
    }),
    field("data", "What it is trained on", |row| {
        of(row, |recipe| {
            recipe.data.source.split(':').next().unwrap_or_default().to_string()
        })
    }),
    field("network", "The architecture", |row| {
        of(row, |recipe| recipe.network.to_string())
    }),
    field("ε", "Radius of the ball that the attack may move in", |row| {
        of(row, |recipe| recipe.threat.epsilon.to_string())
    }),
    field("norm", "Norm of that ball", |row| {
        of(row, |recipe| recipe.threat.norm.to_string())
    }),
    field("steps", "Steps of the attack in training", |row| {
        of(row, |recipe| recipe.attack.steps.to_string())
    }),
    field("epochs", "Passes over the training examples", |row| {
        of(row, |recipe| recipe.epochs.to_string())
    }),
    field("seed", "Of everything random", |row| {
        of(row, |recipe| recipe.seed.to_string())
    }),
    field("rate", "Learning rate before the schedule", |row| {
        of(row, |recipe| recipe.optimiser.learning_rate.to_string())
    }),
    field("notes", "What you wrote about it", |row| row.notes.clone()),
];

fn of(row: &Row, field: impl Fn(&Recipe) -> String) -> String {
    row.recipe.as_ref().map_or("?".to_string(), field)
}

/// What stands where nothing is known.
pub const UNKNOWN: &str = "–";

fn share(value: &Option<(f64, String)>) -> String {
    let told = |(share, attack): &(f64, String)| format!("{} {attack}", percent(*share));
    value.as_ref().map_or(UNKNOWN.to_string(), told)
}

/// A cell's figure: `61.2 %`, `8/255`, `0.01`; what is none stands below every figure.
pub fn number(text: &str) -> f64 {
    let text = text.split(' ').next().unwrap_or_default();
    let parsed = match text.split_once('/') {
        Some((above, below)) => above
            .parse::<f64>()
            .and_then(|above| Ok(above / below.parse::<f64>()?))
            .ok(),
        None => text.parse().ok(),
    };
    parsed.unwrap_or(f64::NEG_INFINITY)
}

/// A figure that can be sorted by.
#[derive(PartialEq)]
pub struct Rank(pub f64);

impl Eq for Rank {}

impl PartialOrd for Rank {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn cells_sort_by_their_figures() {
        let mut cells = ["61.2 % pgd-10", "–", "8/255", "100.0 % natural", "0.1"];
        cells.sort_by_key(|text| Rank(number(text)));
        assert_eq!(cells, ["–", "8/255", "0.1", "61.2 % pgd-10", "100.0 % natural"]);
    }

    #[test]
    fn no_two_columns_share_a_name() {
        let names: BTreeSet<&str> = COLUMNS.iter().map(|column| column.name).collect();
        assert_eq!(names.len(), COLUMNS.len());
        assert!(!names.contains("name"), "the name's column is always there");
    }
}
