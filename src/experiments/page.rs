//! An experiment's page: reported beside measured, its figure, and the runs that it was made from.

use std::path::Path;

use super::{ExperimentError, Figure, Outcome};
use crate::{
    files,
    report::{
        PageInput, RunReport,
        chart::{Bar, BarChart, BarSeries, LineChart, Series, Unit},
        page::Section,
        write_page,
    },
    runs::Slot,
};

impl Outcome {
    /// Writes `table.md`, `table.csv` and `report.html` into a folder.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), ExperimentError> {
        let io = |path: &Path, source| ExperimentError::Io {
            source,
            path: path.to_path_buf(),
        };
        std::fs::create_dir_all(folder).map_err(|error| io(folder, error))?;
        files::save(&folder.join("table.md"), self.markdown().as_bytes())?;
        files::save(&folder.join("table.csv"), self.csv().as_bytes())?;
        Ok(write_page(&folder.join("report.html"), &self.page())?)
    }

    /// What its page shows.
    pub fn page(&self) -> PageInput {
        let experiment = self.plan.experiment;
        let mut notes = vec![self.caption()];
        notes.extend(self.plan.remarks());
        let failures = self.failures();
        notes.extend(failures.iter().map(|(row, error)| format!("{row} failed: {error}")));
        let mut sections = vec![Section {
            heading: "Reported and measured".into(),
            paragraphs: notes,
            table: self.grid(),
            chart: None,
        }];
        if let Some(chart) = self.figure() {
            sections.push(Section {
                heading: "The figure".into(),
                paragraphs: vec![self.figure_note().into()],
                table: Vec::new(),
                chart: Some(chart),
            });
        }
        PageInput {
            title: format!("{} ({} budget)", experiment.title, self.plan.budget),
            conclusions: self.conclusions(),
            sections,
            classes: self.runs.iter().flatten().find_map(RunReport::classes),
            runs: self.reports(),
            gallery: None,
        }
    }

    /// The rows' runs under the rows' names, with the evaluations of this experiment alone.
    fn reports(&self) -> Vec<RunReport> {
        let rows = self.plan.rows.iter().zip(&self.runs);
        let results = rows.filter(|(row, _)| !row.row.trains.is_helper());
        results
            .filter_map(|(row, report)| {
                let mut report = report.clone()?;
                report.label.clone_from(&row.row.label);
                report
                    .evaluations
                    .retain(|(name, _)| self.plan.measures.iter().any(|measure| measure.name == *name));
                Some(report)
            })
            .collect()
    }

    /// What the figure shows, where the experiment is one.
    pub fn figure(&self) -> Option<String> {
        match self.plan.experiment.figure? {
            Figure::Epochs => {
                let chart = self.over_epochs();
                (!chart.series.is_empty()).then(|| chart.to_inline_svg())
            }
            Figure::Number(name) => {
                let chart = self.against(name);
                (!chart.groups.is_empty()).then(|| chart.to_inline_svg())
            }
        }
    }

    fn figure_note(&self) -> &'static str {
        match self.plan.experiment.figure {
            Some(Figure::Epochs) => {
                "After each epoch, on images held out of the training set; the table is of the test set. The paper prints curves and no numbers."
            }
            _ => "At the last checkpoint, on test images. The paper prints curves and no numbers.",
        }
    }

    /// Robust accuracy after each epoch, a line for each row.
    pub fn over_epochs(&self) -> LineChart {
        let attack = self.plan.headline();
        let mut series = Vec::new();
        for (row, report) in self.plan.rows.iter().zip(&self.runs) {
            let Some(report) = report.as_ref().filter(|_| !row.row.trains.is_helper()) else {
                continue;
            };
            let points: Vec<(f64, f64)> = report
                .epochs
                .iter()
                .filter_map(|epoch| Some((epoch.epoch as f64, *epoch.accuracy.get(attack)?)))
                .collect();
            if !points.is_empty() {
                let place = series.len();
                series.push(Series {
                    name: row.row.label.clone(),
                    points,
                    colour: place,
                    // The first row is what the others are compared with: dashed, as in the paper.
                    dash: usize::from(place == 0),
                });
            }
        }
        let n = self
            .runs
            .iter()
            .flatten()
            .find_map(|report| Some(report.epochs.first()?.n));
        LineChart {
            title: format!("Accuracy under {attack} after each epoch"),
            description: self.conclusions().join(" "),
            x: "epoch".into(),
            y: format!("Accuracy under {attack}, N = {}", n.unwrap_or_default()),
            unit: Unit::Share,
            whole: true,
            series,
        }
    }

    /// Robust accuracy at the end, against the number that the rows differ in.
    pub fn against(&self, number: &str) -> BarChart {
        let attack = self.plan.headline();
        let mut places: Vec<f64> = Vec::new();
        let mut names: Vec<&'static str> = Vec::new();
        let mut found: Vec<(&'static str, f64, Bar)> = Vec::new();
        let place_of = self.attacks.iter().position(|name| name == attack).unwrap_or_default();
        let mut n = 0;
        for line in self.lines.iter().filter(|line| line.slot == Slot::Last) {
            let (Some((name, place)), Some((standing, of))) = (self.row(line).place, line.cells[place_of].measured)
            else {
                continue;
            };
            n = of;
            if !places.contains(&place) {
                places.push(place);
            }
            if !names.contains(&name) {
                names.push(name);
            }
            let bar = Bar {
                value: standing.accuracy,
                low: standing.interval.low,
                high: standing.interval.high,
            };
            found.push((name, place, bar));
        }
        places.sort_by(f64::total_cmp);
        let series = names.iter().enumerate().map(|(colour, name)| BarSeries {
            name: name.to_string(),
            colour,
            bars: places
                .iter()
                .map(|place| {
                    found
                        .iter()
                        .find(|(own, at, _)| own == name && at == place)
                        .map(|(_, _, bar)| *bar)
                })
                .collect(),
        });
        BarChart {
            title: format!("Accuracy under {attack} against the {number}"),
            description: self.conclusions().join(" "),
            y: format!("Accuracy under {attack}, N = {n}; whiskers: 95 % intervals"),
            series: series.collect(),
            groups: places.iter().map(|place| format!("{place}")).collect(),
            reference: None,
        }
    }
}
