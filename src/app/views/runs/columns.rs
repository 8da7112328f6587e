//! The table's columns: what a run's cell says, and how cells are sorted.

use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use serde_json::Value;

use crate::{
    recipe::Recipe,
    runs::Summary,
    wording::{attack_name, percent},
};

/// The checkpoint whose figures the table shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Of {
    #[default]
    Best,
    Last,
}

impl Of {
    pub const ALL: [Of; 2] = [Of::Best, Of::Last];

    pub fn name(self) -> &'static str {
        match self {
            Of::Best => "best",
            Of::Last => "last",
        }
    }
}

/// A checkpoint's figures.
#[derive(Default)]
pub struct Figures {
    /// Accuracy by attack.
    accuracy: BTreeMap<String, f64>,
    examples: Option<u64>,
    epoch: Option<u64>,
}

impl Figures {
    fn read(figures: Option<&Value>) -> Self {
        let accuracy = figures.and_then(|figures| figures.get("accuracy")?.as_object());
        let number = |name: &str| figures.and_then(|figures| figures.get(name)?.as_u64());
        let known = accuracy.into_iter().flatten();
        Self {
            accuracy: known
                .filter_map(|(attack, value)| Some((attack.clone(), value.as_f64()?)))
                .collect(),
            examples: number("n"),
            epoch: number("epoch"),
        }
    }
}

/// A run with its recipe read.
pub struct Row {
    pub summary: Summary,
    pub recipe: Option<Recipe>,
    best: Figures,
    last: Figures,
    pub notes: String,
}

impl Row {
    pub fn new(summary: &Summary, notes: String) -> Self {
        Self {
            recipe: Recipe::from_toml(&summary.recipe).ok(),
            best: Figures::read(summary.best.as_ref()),
            last: Figures::read(summary.last.as_ref()),
            notes,
            summary: summary.clone(),
        }
    }

    fn figures(&self, of: Of) -> &Figures {
        match of {
            Of::Best => &self.best,
            Of::Last => &self.last,
        }
    }
}

/// A column that can be hidden.
pub struct Column {
    pub name: Cow<'static, str>,
    pub hint: Cow<'static, str>,
    pub cell: Box<dyn Fn(&Row) -> String>,
    /// Whether it shows only where the runs differ in it, unless a person chose the columns.
    pub if_differing: bool,
    /// Whether one asks for its highest first.
    pub from_the_top: bool,
}

fn figure(
    name: impl Into<Cow<'static, str>>,
    hint: impl Into<Cow<'static, str>>,
    cell: impl Fn(&Row) -> Option<String> + 'static,
) -> Column {
    Column {
        name: name.into(),
        hint: hint.into(),
        cell: Box::new(move |row| cell(row).unwrap_or(UNKNOWN.to_string())),
        if_differing: false,
        from_the_top: true,
    }
}

fn field(name: &'static str, hint: &'static str, cell: fn(&Recipe) -> String) -> Column {
    Column {
        name: name.into(),
        hint: hint.into(),
        cell: Box::new(move |row| row.recipe.as_ref().map_or("?".to_string(), cell)),
        if_differing: true,
        from_the_top: false,
    }
}

/// Every column but the run's name, in the order in which they stand; an attack that any of the runs was evaluated with has
/// one of its own, so that no column mixes figures of several.
pub fn columns(rows: &[Row], of: Of) -> Vec<Column> {
    let state = Column {
        from_the_top: false,
        ..figure("state", "Whether it trains, ended, or broke off", |row| {
            Some(row.summary.state.to_string())
        })
    };
    let which = of.name();
    let both = rows.iter().flat_map(|row| [&row.best, &row.last]);
    let attacks: BTreeSet<&String> = both.flat_map(|figures| figures.accuracy.keys()).collect();
    // Unattacked first, all attacks together last.
    let mut attacks: Vec<&String> = attacks.into_iter().collect();
    attacks.sort_by_key(|attack| match attack.as_str() {
        "natural" => 0,
        "worst-case" => 2,
        _ => 1,
    });
    let accuracies = attacks.into_iter().map(|attack| {
        let hint = match attack.as_str() {
            "natural" => "without an attack".to_string(),
            "worst-case" => "against all attacks of its evaluation together".to_string(),
            attack => format!("under {attack}"),
        };
        let hint =
            format!("Accuracy {hint} of the {which} checkpoint, at the recipe's ε on the images that it holds out");
        let own = attack.clone();
        figure(attack_name(attack).to_string(), hint, move |row| {
            row.figures(of).accuracy.get(&own).map(|share| percent(*share))
        })
    });
    let examples = figure("N", "Images that the accuracies are of", move |row| {
        // Runs of earlier versions say it with each epoch alone.
        let of_epochs = || row.summary.epoch.as_ref()?.get("n")?.as_u64();
        let known = row.figures(of);
        let examples = known
            .examples
            .or_else(|| of_epochs().filter(|_| !known.accuracy.is_empty()));
        Some(examples?.to_string())
    });
    let epoch = figure("epoch", format!("Epoch of the {which} checkpoint"), move |row| {
        Some(row.figures(of).epoch?.to_string())
    });
    let begun = figure("begun", "Date and time", |row| {
        Some(row.summary.created.replace('T', " ").chars().take(16).collect())
    });
    let recipe = [
        field("defence", "The loss that is minimised", |recipe| {
            recipe.defence.to_string()
        }),
        field("data", "What it is trained on", |recipe| {
            let kind = recipe.data.source.split(':').next();
            kind.unwrap_or_default().to_string()
        }),
        field("network", "The architecture", |recipe| recipe.network.to_string()),
        field("ε", "Radius of the ball that the attack may move in", |recipe| {
            recipe.threat.epsilon.to_string()
        }),
        field("norm", "Norm of that ball", |recipe| recipe.threat.norm.to_string()),
        field("steps", "Steps of the attack in training", |recipe| {
            recipe.attack.steps.to_string()
        }),
        field("epochs", "Passes over the training examples", |recipe| {
            recipe.epochs.to_string()
        }),
        field("seed", "Of everything random", |recipe| recipe.seed.to_string()),
        field("rate", "Learning rate before the schedule", |recipe| {
            recipe.optimiser.learning_rate.to_string()
        }),
    ];
    let notes = Column {
        if_differing: true,
        from_the_top: false,
        ..figure("notes", "What you wrote about it", |row| Some(row.notes.clone()))
    };
    std::iter::once(state)
        .chain(accuracies)
        .chain([examples, epoch, begun])
        .chain(recipe)
        .chain([notes])
        .collect()
}

/// What stands where nothing is known.
pub const UNKNOWN: &str = "–";

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
    use serde_json::json;

    use super::*;
    use crate::runs::State;

    #[test]
    fn cells_sort_by_their_figures() {
        let mut cells = ["61.2 %", "–", "8/255", "100.0 %", "0.1"];
        cells.sort_by_key(|text| Rank(number(text)));
        assert_eq!(cells, ["–", "8/255", "0.1", "61.2 %", "100.0 %"]);
    }

    #[test]
    fn each_attack_has_a_column_of_its_own_and_no_two_share_a_name() {
        let row = |figures: Value| {
            let summary = Summary {
                name: "run-1".to_string(),
                folder: "run-1".into(),
                state: State::Finished,
                recipe: String::new(),
                created: String::new(),
                epoch: None,
                last: None,
                best: Some(figures),
                problem: None,
            };
            Row::new(&summary, String::new())
        };
        let rows = [
            row(json!({ "accuracy": { "natural": 0.9, "pgd-10": 0.5, "worst-case": 0.4 }, "n": 200, "epoch": 3 })),
            row(json!({ "accuracy": { "cw-20": 0.7, "natural": 0.8 }, "n": 100, "epoch": 4 })),
        ];
        let columns = columns(&rows, Of::Best);
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_ref()).collect();
        assert_eq!(
            names[..7],
            ["state", "natural", "cw-20", "pgd-10", "worst case", "N", "epoch"]
        );
        let cells = |row: &Row| -> Vec<String> { columns[1..7].iter().map(|column| (column.cell)(row)).collect() };
        assert_eq!(cells(&rows[0]), ["90.0 %", "–", "50.0 %", "40.0 %", "200", "3"]);
        assert_eq!(cells(&rows[1]), ["80.0 %", "70.0 %", "–", "–", "100", "4"]);
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(!names.contains(&"name"), "the name's column is always there");
        let last = super::columns(&rows, Of::Last);
        assert_eq!((last[1].cell)(&rows[0]), "–", "figures of the other checkpoint");
    }
}
