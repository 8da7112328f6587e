//! What came out: reported, measured, difference; read from the runs' folders.

use std::{fmt, path::Path};

use super::{Budget, ExperimentError, Measure, Plan, Row, plan::beyond_attack};
use crate::{
    engine::filing,
    evaluation::{Evaluation, Standing},
    report::{
        RunReport,
        compare::{Difference, signed},
    },
    runs::{Run, Slot},
    wording::percent,
};

/// How far a row has come.
#[derive(Debug, Clone, PartialEq)]
pub enum RowState {
    /// There is no run of it.
    Missing,
    /// Its training is under way, or was interrupted.
    Begun {
        /// Epochs done.
        epochs: usize,
        /// Epochs in all.
        of: usize,
    },
    /// It is trained and not wholly measured.
    Trained,
    /// It is done.
    Measured,
    /// Its training failed.
    Failed(String),
}

impl fmt::Display for RowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not begun"),
            Self::Begun { epochs, of } => write!(f, "{epochs} of {of} epochs"),
            Self::Trained => f.write_str("trained, not measured"),
            Self::Measured => f.write_str("done"),
            Self::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}

/// An experiment's results so far.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was planned.
    pub plan: Plan,
    /// How far each row of the plan has come.
    pub states: Vec<RowState>,
    /// The attacks that figures stand for, the paper's first.
    pub attacks: Vec<String>,
    /// A line for each row that is a result and each checkpoint.
    pub lines: Vec<Line>,
    /// The rows' runs, where there are any, as their folders tell.
    pub runs: Vec<Option<RunReport>>,
}

/// A row at a checkpoint.
#[derive(Debug, Clone)]
pub struct Line {
    /// Which row of the plan.
    pub row: usize,
    /// The checkpoint.
    pub slot: Slot,
    /// A figure for each of [`Outcome::attacks`].
    pub cells: Vec<Cell>,
}

/// Reported and measured.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Cell {
    /// What the paper has, in per cent.
    pub reported: Option<f64>,
    /// What was measured, with the number of examples.
    pub measured: Option<(Standing, usize)>,
}

impl Cell {
    /// Measured minus reported, as a share.
    pub fn difference(&self) -> Option<f64> {
        Some(self.measured?.0.accuracy - self.reported? / 100.0)
    }
}

/// Two rows under one attack.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// The label of the row that the paper has ahead, or that is asked about.
    pub first: String,
    /// The label of the other.
    pub second: String,
    /// The attack.
    pub attack: String,
    /// The checkpoint of both.
    pub slot: Slot,
    /// The paper's lead of the first in points, where it gives figures.
    pub reported: Option<f64>,
    /// The measured lead of the first, with its interval, where both were measured.
    pub measured: Option<Difference>,
}

/// What a comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first is ahead by more than the interval.
    Ahead,
    /// The second is ahead by more than the interval.
    Behind,
    /// The examples cannot tell them apart.
    Undecided,
    /// Not measured yet.
    Open,
}

impl Comparison {
    /// What it says.
    pub fn verdict(&self) -> Verdict {
        match &self.measured {
            None => Verdict::Open,
            Some(difference) if !difference.is_clear() => Verdict::Undecided,
            Some(difference) if difference.value > 0.0 => Verdict::Ahead,
            Some(_) => Verdict::Behind,
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, second) = (&self.first, &self.second);
        write!(f, "Under {} ({} checkpoints) ", self.attack, self.slot)?;
        match &self.measured {
            None => write!(f, "{first} and {second} are not both measured")?,
            Some(difference) => {
                let interval = (signed(difference.interval.low), signed(difference.interval.high));
                write!(
                    f,
                    "{first} minus {second} is {} points, 95 % interval {}{} to {}: ",
                    signed(difference.value),
                    if difference.paired { "of the paired images " } else { "" },
                    interval.0,
                    interval.1
                )?;
                match self.verdict() {
                    Verdict::Ahead => write!(f, "{first} is ahead")?,
                    Verdict::Behind => write!(f, "{second} is ahead")?,
                    _ => write!(f, "so many images cannot tell them apart")?,
                }
            }
        }
        match self.reported {
            Some(reported) => write!(f, "; the paper has {} points.", signed(reported / 100.0)),
            None => f.write_str("."),
        }
    }
}

impl Outcome {
    /// Reads what the runs' folders hold now; another process may be writing them.
    ///
    /// # Errors
    /// When a run's folder is damaged.
    pub fn read(plan: &Plan, runs_dir: &Path) -> Result<Self, ExperimentError> {
        let mut outcome = Self {
            plan: plan.clone(),
            states: Vec::with_capacity(plan.rows.len()),
            attacks: plan.experiment.attacks.iter().map(|name| name.to_string()).collect(),
            lines: Vec::new(),
            runs: Vec::with_capacity(plan.rows.len()),
        };
        if plan.experiment.beyond {
            outcome
                .attacks
                .push(beyond_attack(plan.experiment.setting, plan.budget).to_string());
        }
        for (row, planned) in plan.rows.iter().enumerate() {
            let folder = runs_dir.join(&planned.run);
            outcome.states.push(Self::state(plan, row, runs_dir)?);
            let report = match folder.join("recipe.toml").exists() {
                true => Some(RunReport::read(&Run::open(&folder)?)?),
                false => None,
            };
            for slot in [Slot::Best, Slot::Last]
                .into_iter()
                .filter(|_| !planned.row.trains.is_helper())
            {
                let cell = |attack: &String| Cell {
                    reported: reported(&planned.row, attack, slot),
                    measured: report
                        .as_ref()
                        .and_then(|report| evaluation(plan, report, attack, slot))
                        .and_then(|found| Some((found.attack(attack)?.standing, found.n))),
                };
                let cells = outcome.attacks.iter().map(cell).collect();
                outcome.lines.push(Line { row, slot, cells });
            }
            outcome.runs.push(report);
        }
        Ok(outcome)
    }

    /// How far a row has come.
    ///
    /// # Errors
    /// When its run's folder is damaged.
    pub fn state(plan: &Plan, row: usize, runs_dir: &Path) -> Result<RowState, ExperimentError> {
        let planned = &plan.rows[row];
        let folder = runs_dir.join(&planned.run);
        if !folder.join("recipe.toml").exists() {
            return Ok(RowState::Missing);
        }
        let run = Run::open(&folder)?;
        let (mut epochs, mut finished, mut failed) = (0, false, None);
        for line in run.metrics()? {
            match line["event"].as_str() {
                Some("epoch") => epochs += 1,
                Some("finished") => finished = true,
                Some("failed") => failed = line["error"].as_str().map(str::to_string),
                _ => failed = None,
            }
        }
        if let Some(error) = failed {
            return Ok(RowState::Failed(error));
        }
        if !finished {
            let of = planned.recipe.epochs;
            return Ok(RowState::Begun { epochs, of });
        }
        let is_kept = |measure: &Measure| {
            Self::evaluation(&run, &folder.join(format!("{}.json", measure.name)), measure).is_some()
        };
        let measured = planned.row.trains.is_helper() || plan.measures.iter().all(is_kept);
        Ok(if measured {
            RowState::Measured
        } else {
            RowState::Trained
        })
    }

    /// The evaluation of a measure, where it is kept whole and fits it.
    pub(super) fn evaluation(run: &Run, file: &Path, measure: &Measure) -> Option<Evaluation> {
        let evaluation = filing::read(run, file).ok()?;
        let fits = measure.attacks.iter().all(|name| evaluation.attack(name).is_some());
        (fits && measure.limit.is_none_or(|limit| evaluation.n <= limit)).then_some(evaluation)
    }

    /// The line of a row by its name.
    fn line(&self, id: &str, slot: Slot) -> Option<&Line> {
        self.lines
            .iter()
            .find(|line| line.slot == slot && self.row(line).id == id)
    }

    /// The evaluation that a line's figure under an attack is of.
    fn evaluation_of(&self, line: &Line, attack: &str) -> Option<&Evaluation> {
        evaluation(&self.plan, self.runs[line.row].as_ref()?, attack, line.slot)
    }

    /// The row that a line is of.
    pub fn row(&self, line: &Line) -> &Row {
        &self.plan.rows[line.row].row
    }

    /// What the paper, or an honest reader, compares: under PGD, or the transfer attack in its place, and under
    /// AutoAttack where it was measured.
    pub fn comparisons(&self) -> Vec<Comparison> {
        let experiment = self.plan.experiment;
        let headline = self.plan.headline();
        let mut found = Vec::new();
        let beyond = experiment
            .beyond
            .then(|| (beyond_attack(experiment.setting, self.plan.budget), Slot::Best));
        for (attack, slot) in [Some((headline, experiment.reported)), beyond].into_iter().flatten() {
            let Some(place) = self.attacks.iter().position(|name| name == attack) else {
                continue;
            };
            for (first, second) in (experiment.comparisons)() {
                let (Some(a), Some(b)) = (self.line(&first, slot), self.line(&second, slot)) else {
                    continue;
                };
                let (cell, other) = (a.cells[place], b.cells[place]);
                let measured = self.evaluation_of(a, attack).zip(self.evaluation_of(b, attack));
                let measured = measured.and_then(|(first, second)| Difference::under(attack, second, first));
                found.push(Comparison {
                    first: self.row(a).label.clone(),
                    second: self.row(b).label.clone(),
                    attack: attack.to_string(),
                    slot,
                    reported: cell.reported.zip(other.reported).map(|(a, b)| a - b),
                    measured,
                });
            }
        }
        found
    }

    /// Whether the paper gives a figure for an attack.
    pub fn is_reported(&self, place: usize) -> bool {
        self.lines.iter().any(|line| line.cells[place].reported.is_some())
    }

    /// The table as text, its head first: for each attack what is reported, measured (with the 95 % interval), and the
    /// difference in points.
    pub fn grid(&self) -> Vec<Vec<String>> {
        let mut head = vec!["".to_string(), "checkpoint".to_string()];
        for (place, attack) in self.attacks.iter().enumerate() {
            if self.is_reported(place) {
                head.extend([format!("{attack}: paper"), "measured".into(), "difference".into()]);
            } else {
                head.push(format!("{attack}: measured"));
            }
        }
        let none = || "–".to_string();
        let mut grid = vec![head];
        for line in &self.lines {
            let mut cells = vec![self.row(line).label.clone(), line.slot.to_string()];
            for (place, cell) in line.cells.iter().enumerate() {
                let measured = cell.measured.map_or_else(none, |(standing, _)| {
                    format!(
                        "{:.1} ({:.1} to {:.1})",
                        100.0 * standing.accuracy,
                        100.0 * standing.interval.low,
                        100.0 * standing.interval.high
                    )
                });
                if self.is_reported(place) {
                    cells.push(cell.reported.map_or_else(none, |reported| format!("{reported:.2}")));
                    cells.push(measured);
                    cells.push(cell.difference().map_or_else(none, signed));
                } else {
                    cells.push(measured);
                }
            }
            grid.push(cells);
        }
        grid
    }

    /// N of each attack's figures, and what else must be known beside the table.
    pub fn caption(&self) -> String {
        let mut counts: Vec<String> = Vec::new();
        for (place, attack) in self.attacks.iter().enumerate() {
            let n = self.lines.iter().find_map(|line| Some(line.cells[place].measured?.1));
            if let Some(n) = n {
                counts.push(format!("{attack} N = {n}"));
            }
        }
        format!(
            "Accuracy in per cent with 95 % intervals; differences in points. {} ε = {}. {}",
            self.plan.threat.norm,
            self.plan.threat.epsilon,
            if counts.is_empty() {
                "Nothing is measured yet.".to_string()
            } else {
                format!("{}.", counts.join(", "))
            }
        )
    }

    /// The table as Markdown, with caption, comparisons and remarks.
    pub fn markdown(&self) -> String {
        let grid = self.grid();
        let mut text = format!(
            "# {}\n\n{}\n\n",
            self.plan.experiment.title, self.plan.experiment.question
        );
        for (position, row) in grid.iter().enumerate() {
            text += &format!("| {} |\n", row.join(" | "));
            if position == 0 {
                text += &format!("|{}\n", "---|".repeat(row.len()));
            }
        }
        text += &format!("\n{}\n", self.caption());
        let comparisons = self.comparisons();
        if !comparisons.is_empty() {
            text += "\n";
        }
        for comparison in comparisons {
            text += &format!("- {comparison}\n");
        }
        for collapse in self.collapses() {
            text += &format!("\n{collapse}\n");
        }
        for remark in self.plan.remarks() {
            text += &format!("\n{remark}\n");
        }
        text
    }

    /// One line for each figure.
    pub fn csv(&self) -> String {
        let mut text = "experiment,budget,source,seed,row,label,checkpoint,attack,epsilon,reported_percent,measured_percent,low_percent,high_percent,n,difference_points,run\n".to_string();
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.4}"));
        for line in &self.lines {
            let row = &self.plan.rows[line.row];
            for (attack, cell) in self.attacks.iter().zip(&line.cells) {
                let standing = cell.measured.map(|(standing, _)| standing);
                let fields = [
                    self.plan.experiment.name.to_string(),
                    self.plan.budget.to_string(),
                    quoted(&self.plan.source),
                    self.plan.seed.to_string(),
                    row.row.id.clone(),
                    quoted(&row.row.label),
                    line.slot.to_string(),
                    attack.clone(),
                    quoted(&self.plan.threat.epsilon.to_string()),
                    number(cell.reported),
                    number(standing.map(|standing| 100.0 * standing.accuracy)),
                    number(standing.map(|standing| 100.0 * standing.interval.low)),
                    number(standing.map(|standing| 100.0 * standing.interval.high)),
                    cell.measured.map_or_else(String::new, |(_, n)| n.to_string()),
                    number(cell.difference().map(|difference| 100.0 * difference)),
                    row.run.clone(),
                ];
                text += &fields.join(",");
                text.push('\n');
            }
        }
        text
    }

    /// Every figure and every comparison, for scripts. Accuracies are shares, differences points.
    pub fn json(&self) -> serde_json::Value {
        let interval = |standing: &Standing| [standing.interval.low, standing.interval.high];
        let rows = self.lines.iter().map(|line| {
            let row = &self.plan.rows[line.row];
            let figures = self.attacks.iter().zip(&line.cells).map(|(attack, cell)| {
                let standing = cell.measured.as_ref().map(|(standing, _)| standing);
                serde_json::json!({
                    "attack": attack,
                    "reported_percent": cell.reported,
                    "measured": standing.map(|standing| standing.accuracy),
                    "interval": standing.map(interval),
                    "n": cell.measured.map(|(_, n)| n),
                    "difference_points": cell.difference().map(|difference| 100.0 * difference),
                })
            });
            serde_json::json!({
                "row": row.row.id, "label": row.row.label, "run": row.run, "checkpoint": line.slot.to_string(),
                "state": self.states[line.row].to_string(), "figures": figures.collect::<Vec<_>>(),
            })
        });
        let comparisons = self.comparisons();
        let comparisons = comparisons.iter().map(|comparison| {
            let measured = comparison.measured.as_ref();
            serde_json::json!({
                "of": comparison.first, "minus": comparison.second, "under": comparison.attack,
                "checkpoint": comparison.slot.to_string(), "reported_points": comparison.reported,
                "points": measured.map(|difference| 100.0 * difference.value),
                "low": measured.map(|difference| 100.0 * difference.interval.low),
                "high": measured.map(|difference| 100.0 * difference.interval.high),
            })
        });
        serde_json::json!({
            "experiment": self.plan.experiment.name, "budget": self.plan.budget.to_string(), "source": self.plan.source,
            "seed": self.plan.seed, "epsilon": self.plan.threat.epsilon.to_string(), "remarks": self.plan.remarks(),
            "rows": rows.collect::<Vec<_>>(), "comparisons": comparisons.collect::<Vec<_>>(),
        })
    }

    /// Sentences that say what came out, whichever way it fell.
    pub fn conclusions(&self) -> Vec<String> {
        let mut sentences: Vec<String> = self
            .comparisons()
            .iter()
            .filter(|comparison| comparison.verdict() != Verdict::Open)
            .map(ToString::to_string)
            .collect();
        sentences.extend(self.collapses());
        if self.plan.budget == Budget::Quick && !sentences.is_empty() {
            sentences
                .push("Minutes of training decide nothing about the methods: one seed, few images, few epochs.".into());
        }
        sentences
    }

    /// The rows whose network gets no more natural images right than chance does, as sentences: where training collapsed,
    /// a comparison says nothing of the method.
    pub fn collapses(&self) -> Vec<String> {
        let Some(natural) = self.attacks.iter().position(|name| name == "natural") else {
            return Vec::new();
        };
        let of = |line: &Line| {
            let chance = 1.0 / self.runs[line.row].as_ref()?.classes()? as f64;
            let (standing, _) = line.cells[natural].measured?;
            (standing.interval.low <= chance).then(|| {
                format!(
                    "{} ({} checkpoint) gets no more natural images right than chance, {}: its training collapsed, and what it is compared with is not its method.",
                    self.row(line).label,
                    line.slot,
                    percent(chance)
                )
            })
        };
        self.lines.iter().filter_map(of).collect()
    }

    /// Whether training of a row failed, and why.
    pub fn failures(&self) -> Vec<(&str, &str)> {
        let rows = self.plan.rows.iter().zip(&self.states);
        rows.filter_map(|(row, state)| match state {
            RowState::Failed(error) => Some((row.row.label.as_str(), error.as_str())),
            _ => None,
        })
        .collect()
    }
}

fn reported(row: &Row, attack: &str, slot: Slot) -> Option<f64> {
    let found = row.reported.iter().find(|own| own.attack == attack && own.slot == slot);
    found.map(|own| own.accuracy)
}

/// The evaluation of a checkpoint that an attack's figure is of.
fn evaluation<'a>(plan: &Plan, report: &'a RunReport, attack: &str, slot: Slot) -> Option<&'a Evaluation> {
    let measures = plan.measures.iter().filter(|measure| measure.slot == slot);
    measures
        .filter_map(|measure| report.evaluations.iter().find(|(name, _)| *name == measure.name))
        .map(|(_, evaluation)| evaluation)
        .find(|evaluation| evaluation.attack(attack).is_some())
}

/// A CSV field, in quotation marks where it needs them.
fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_string()
    }
}
