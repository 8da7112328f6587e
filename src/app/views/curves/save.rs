//! The curves as a picture, as a drawing, as numbers.

use egui::Ui;

use super::{Curves, Lower, labelled, title};
use crate::{
    app::{shown::Shown, state::State},
    report::chart::{self, LineChart, Unit},
};

impl Curves {
    pub fn save(&self, state: &mut State, form: &'static str) {
        let runs: Vec<&Shown> = state.shown.iter().filter(|shown| shown.visible).collect();
        let text = match form {
            "csv" => csv(&runs),
            _ => svg(&runs, self.lower),
        };
        state.save_as(form, text.into_bytes());
    }

    /// Once the window has taken its own picture, cuts this view out of it and asks where to put it.
    pub fn picture(&mut self, ui: &Ui, state: &mut State, all: egui::Rect) {
        let Some(taken) = self.taken.as_ref().and_then(|taken| taken.try_recv().ok()) else {
            return;
        };
        self.taken = None;
        let part = taken.region(&all, Some(ui.ctx().pixels_per_point()));
        let bytes: Vec<u8> = part.pixels.iter().flat_map(|pixel| pixel.to_array()).collect();
        let [width, height] = part.size.map(|side| side as u32);
        let mut png = std::io::Cursor::new(Vec::new());
        if let Some(picture) = image::RgbaImage::from_raw(width, height, bytes)
            && picture.write_to(&mut png, image::ImageFormat::Png).is_ok()
        {
            state.save_as("png", png.into_inner());
        }
    }
}

/// Every point of every curve: run, curve, epoch, value.
fn csv(runs: &[&Shown]) -> String {
    let mut text = "run,curve,epoch,value\n".to_string();
    for run in runs {
        for (name, series) in &run.curves {
            for [x, y] in series.points() {
                text += &format!("{},{name},{x},{y}\n", run.name);
            }
        }
    }
    text
}

/// Both plots, one under the other, as the report page draws them.
fn svg(runs: &[&Shown], lower: Lower) -> String {
    let series = |run: &&Shown, key: &str, label: &str, place: usize| {
        let curve = run.curves.get(key)?;
        Some(chart::Series {
            name: labelled(&title(run, runs), label),
            points: curve
                .visible(f64::NEG_INFINITY, f64::INFINITY, 400)
                .iter()
                .map(|[x, y]| (*x, *y))
                .collect(),
            colour: place,
            dash: 0,
        })
    };
    let mut accuracy = Vec::new();
    let mut below = Vec::new();
    for run in runs {
        for key in run.curves.keys() {
            if let Some(attack) = key.strip_prefix("held-out ") {
                accuracy.extend(series(run, key, attack, accuracy.len()));
            }
        }
        for curve in lower.curves() {
            below.extend(series(run, curve.key, curve.label, below.len()));
        }
    }
    let chart = |title: &str, y: &str, unit, series| LineChart {
        title: title.to_string(),
        description: format!("{title} against epochs"),
        x: "epochs".to_string(),
        y: y.to_string(),
        unit,
        whole: false,
        series,
    };
    let unit = if lower == Lower::Misclassified {
        Unit::Share
    } else {
        Unit::Number
    };
    chart::stacked(&[
        chart("Accuracy", "accuracy", Unit::Share, accuracy),
        chart(lower.name(), "", unit, below),
    ])
}
