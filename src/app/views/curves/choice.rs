//! Which curves of a run the plots show, and how: the window and the figure that is saved of it draw the same.

use egui::Color32;
use egui_plot::LineStyle;

use super::held_out;
use crate::app::{
    kinds::{Curve, Lower, TRAINING_ACCURACY},
    series::Series,
    shown::Shown,
    theme,
};

/// Accuracies after the epochs under one attack.
pub struct Evaluated<'a> {
    pub attack: &'a str,
    pub series: &'a Series,
    pub colour: Color32,
    pub style: LineStyle,
}

/// One run shows its attacks by colour, several runs themselves.
fn colour(shown: &Shown, attack: &str, several: bool, dark: bool) -> Color32 {
    match several {
        true => theme::series(shown.colour, dark),
        false => theme::attack(attack, dark),
    }
}

/// The accuracies of training minibatches.
pub fn training(shown: &Shown, several: bool, dark: bool) -> impl Iterator<Item = (&'static Curve, Color32)> {
    let curves = TRAINING_ACCURACY.iter().zip(["natural", "pgd"]);
    let shows = move |(_, attack): &(&Curve, &str)| !several || *attack != "natural";
    curves
        .filter(shows)
        .map(move |(curve, attack)| (curve, colour(shown, attack, several, dark)))
}

/// The accuracies after the epochs, what is drawn last last.
pub fn evaluated(shown: &Shown, several: bool, dark: bool) -> impl Iterator<Item = Evaluated<'_>> {
    let attacks = held_out(shown).into_iter().rev();
    let shows = move |(attack, _): &(&str, &String)| !several || *attack != "worst-case";
    attacks.filter(shows).filter_map(move |(attack, key)| {
        Some(Evaluated {
            attack,
            series: shown.curves.get(key)?,
            colour: colour(shown, attack, several, dark),
            style: match several && attack == "natural" {
                true => LineStyle::dashed_loose(),
                false => LineStyle::Solid,
            },
        })
    })
}

/// The curves of the lower plot: one run shows its terms by colour, each always by the same; several runs show themselves,
/// and the loss alone.
pub fn below(
    lower: Lower,
    shown: &Shown,
    several: bool,
    dark: bool,
) -> impl Iterator<Item = (&'static Curve, Color32)> {
    let all = if several && lower == Lower::Loss { 1 } else { usize::MAX };
    let own = shown.colour;
    let curves = lower.curves().iter().enumerate().take(all);
    curves.map(move |(position, curve)| (curve, theme::series(if several { own } else { position }, dark)))
}
