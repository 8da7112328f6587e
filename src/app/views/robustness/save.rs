//! What the view shows, as a figure.

use super::{Robustness, pictures::Curve};
use crate::{
    app::{export, state::State},
    evaluation::Evaluation,
    report::{
        chart::Unit,
        figure::{Figure, Line, Part, Plot, Stroke},
    },
    wording::{attack_name, percent},
};

impl Robustness {
    /// Accuracy against ε as it stands in the window, with what a reader must know of it.
    pub fn figure(&self, state: &State) -> Option<Figure> {
        let shown = state.current()?;
        let kept = self.library.runs.get(&shown.folder)?.shown()?;
        let (drawn, remarks) = self.drawn(state, kept);
        let threat = &shown.recipe.threat;
        let plot = Plot {
            y: "Right answers under attack".to_string(),
            x: format!("ε ({})", threat.norm),
            unit: Unit::Share,
            logarithmic: [false; 2],
            height: 360.0,
            lines: drawn.iter().map(line).collect(),
            marks: vec![(f64::from(threat.epsilon.value()), "ε of training".to_string())],
        };
        let several = self.beside(state, kept);
        let compares = self.together && several.len() > 1;
        let (title, caption) = if compares {
            let captions = several.iter().map(|(run, kept)| about(&run.name, &kept.evaluation));
            (
                format!("Accuracy against ε: {}", attack_name(self.compared_attack())),
                captions.chain(remarks).collect(),
            )
        } else {
            (
                format!("{} ({})", shown.name, shown.recipe.defence),
                vec![about(&shown.name, &kept.evaluation), figures(&kept.evaluation)],
            )
        };
        Some(Figure {
            title,
            parts: vec![Part::Plot(plot)],
            caption,
            look: export::look(state.dark()),
        })
    }
}

fn line(curve: &Curve) -> Line {
    let points = curve.points.iter();
    Line {
        name: Some(curve.name.clone()),
        points: points.clone().map(|(x, standing)| [*x, standing.accuracy]).collect(),
        colour: export::colour(curve.colour),
        opacity: if curve.is_curve { 1.0 } else { 0.0 },
        width: 2.2,
        stroke: match curve.is_curve {
            true => export::stroke(curve.style),
            false => Stroke::Solid,
        },
        marker: Some(export::marker(&curve.attack)),
        band: points
            .map(|(x, standing)| [*x, standing.interval.low, standing.interval.high])
            .collect(),
    }
}

/// What a reader must know of an evaluation.
fn about(run: &str, evaluation: &Evaluation) -> String {
    format!(
        "{run}: best checkpoint, N = {} {} images of {}, bands are 95 % intervals, Martlet {} on {}.",
        evaluation.n,
        evaluation.dataset.split.as_deref().unwrap_or("test"),
        evaluation.dataset.name,
        evaluation.martlet,
        evaluation.device
    )
}

/// The suite's figures in a sentence.
fn figures(evaluation: &Evaluation) -> String {
    let attacks = evaluation
        .attacks
        .iter()
        .map(|attack| format!("{} {}", attack.name, percent(attack.standing.accuracy)));
    format!(
        "At ε = {} ({}): {}; all together {}.",
        evaluation.epsilon,
        evaluation.norm,
        attacks.collect::<Vec<_>>().join(", "),
        percent(evaluation.worst_case.accuracy)
    )
}
