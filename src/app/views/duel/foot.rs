//! Two plots: accuracy as training goes on, and accuracy against the radius with the slider's as a cursor.

use egui::{Align2, Color32, RichText, Ui};
use egui_plot::{GridMark, Line, LineStyle, PlotPoint, PlotPoints, Points, Text, VLine};

use crate::{
    app::{
        duel::{Corner, Shipped},
        shown::Shown,
        state::State,
        theme::{self, palette, size, space},
    },
    demo_models::ATTACK,
    wording::percent,
};

/// A line of a plot.
struct Drawn {
    /// What stands at its end; nothing for a line that is there to compare.
    name: String,
    points: Vec<[f64; 2]>,
    colour: Color32,
    style: LineStyle,
    width: f32,
}

/// The slider's radius in a plot.
struct Cursor {
    x: f64,
    crossings: Vec<Crossing>,
}

/// Where it meets a line.
struct Crossing {
    y: f64,
    colour: Color32,
    /// Whether near the line's end, where its name stands.
    ends: bool,
}

pub fn foot_ui(ui: &mut Ui, state: &State) {
    let room = ui.available_size();
    ui.horizontal_top(|ui| {
        ui.spacing_mut().item_spacing.x = space::M;
        for (share, draw) in [(0.58, history_ui as fn(&mut Ui, &State)), (0.42, robustness_ui)] {
            let size = egui::vec2(room.x * share - space::S, room.y);
            ui.allocate_ui_with_layout(size, egui::Layout::top_down(egui::Align::Min), |ui| {
                ui.set_min_size(size);
                draw(ui, state);
            });
        }
    });
}

fn history_ui(ui: &mut Ui, state: &State) {
    let dark = ui.visuals().dark_mode;
    let pixels = ui.available_width() as usize;
    let mut lines = Vec::new();
    let mut told: Vec<String> = Vec::new();
    let mut epochs = 0;
    for (corner, shipped) in state.duel.corners.iter().zip(&state.duel.shipped) {
        let run = corner.fighter.as_ref().and_then(|fighter| fighter.run.as_ref());
        let shown = run.and_then(|run| state.shown.iter().find(|shown| shown.folder == *run));
        let is_new = shown.is_some();
        if let Some(shipped) = shipped {
            epochs = epochs.max(shipped.figures.epochs.len());
            shipped_lines(shipped, is_new, dark, &mut lines);
        }
        let newest = match (shown, shipped) {
            (Some(shown), _) => shown.epochs.last(),
            (None, Some(shipped)) => shipped.figures.epochs.last(),
            (None, None) => None,
        };
        let of = newest.map(|epoch| format!("ε = {}, N = {} {} · ", epoch.epsilon, epoch.n, epoch.split));
        told.extend(of.filter(|of| !told.contains(of)));
        if let Some(shown) = shown {
            epochs = epochs.max(shown.recipe.epochs);
            live_lines(shown, dark, pixels, &mut lines);
        }
    }
    caption(
        ui,
        "Accuracy while training runs",
        &format!("{}dashed: no attack", told.concat()),
    );
    plot_ui(ui, "duel history", "epochs", epochs as f64, lines, None);
}

/// The accuracies of a network that ships after each of its epochs; faint where a new one grows over them.
fn shipped_lines(shipped: &Shipped, faint: bool, dark: bool, lines: &mut Vec<Drawn>) {
    let defence = shipped.defence();
    let colour = theme::defence(defence.name(), dark);
    for attack in ["natural", ATTACK] {
        let epochs = shipped.figures.epochs.iter();
        let points = epochs.filter_map(|epoch| Some([epoch.epoch as f64, *epoch.accuracy.get(attack)?]));
        lines.push(Drawn {
            name: if faint {
                String::new()
            } else {
                name_of(&theme::defence_name(defence), attack)
            },
            points: points.collect(),
            colour: if faint { colour.gamma_multiply(0.35) } else { colour },
            style: theme::stroke(attack),
            width: if faint { 1.2 } else { 2.4 },
        });
    }
}

/// The accuracies of a run on held-out examples, and behind them those of its minibatches as they come.
fn live_lines(shown: &Shown, dark: bool, pixels: usize, lines: &mut Vec<Drawn>) {
    let defence = &shown.recipe.defence;
    let colour = theme::defence(defence.name(), dark);
    let batch = if defence.attacks() {
        "adversarial_accuracy"
    } else {
        "natural_accuracy"
    };
    if let Some(series) = shown.curves.get(batch) {
        lines.push(Drawn {
            name: String::new(),
            points: series.visible(0.0, f64::INFINITY, pixels / 2),
            colour: colour.gamma_multiply(0.3),
            style: LineStyle::Solid,
            width: 1.0,
        });
    }
    let held_out = shown.curves.iter().filter_map(|(name, series)| {
        let attack = name.strip_prefix("held-out ")?;
        (attack != "worst-case").then_some((attack, series))
    });
    for (attack, series) in held_out {
        lines.push(Drawn {
            name: name_of(&theme::defence_name(defence), attack),
            points: series.visible(0.0, f64::INFINITY, pixels / 2),
            colour,
            style: theme::stroke(attack),
            width: 2.4,
        });
    }
}

fn name_of(defence: &str, attack: &str) -> String {
    match attack {
        "natural" => format!("{defence}, no attack"),
        attack => format!("{defence}, {}", attack.to_uppercase()),
    }
}

fn robustness_ui(ui: &mut Ui, state: &State) {
    let dark = ui.visuals().dark_mode;
    let duel = &state.duel;
    let epsilon = f64::from(duel.grid.epsilon(duel.place).value());
    let (mut lines, mut crossings) = (Vec::new(), Vec::new());
    for (corner, shipped) in duel.corners.iter().zip(&duel.shipped) {
        let Some(fighter) = &corner.fighter else { continue };
        let colour = theme::defence(fighter.defence().name(), dark);
        if let Some(shipped) = shipped.as_ref().filter(|_| fighter.run.is_some()) {
            lines.push(Drawn {
                name: String::new(),
                points: shipped.robustness().points,
                colour: theme::defence(shipped.defence().name(), dark).gamma_multiply(0.35),
                style: theme::stroke(ATTACK),
                width: 1.2,
            });
        }
        let Some(robustness) = &corner.robustness else { continue };
        let name = theme::defence_name(fighter.defence());
        // At a line's end its name stands on the right.
        let ends = robustness.points.last().is_some_and(|last| epsilon > 0.8 * last[0]);
        crossings.extend(robustness.at(epsilon).map(|y| Crossing { y, colour, ends }));
        lines.push(Drawn {
            name,
            points: robustness.points.clone(),
            colour,
            style: theme::stroke(ATTACK),
            width: 2.4,
        });
    }
    caption(ui, "Accuracy against ε", &of(&duel.corners));
    let end = f64::from(duel.grid.epsilon(duel.grid.last()).value());
    plot_ui(
        ui,
        "duel robustness",
        "ε",
        end,
        lines,
        Some(Cursor { x: epsilon, crossings }),
    );
}

/// What the curves are measured with and on; both, where they differ.
fn of(corners: &[Corner; 2]) -> String {
    let mut said: Vec<&str> = corners
        .iter()
        .filter_map(|corner| Some(corner.robustness.as_ref()?.of.as_str()))
        .collect();
    said.dedup();
    said.join(" · ")
}

fn caption(ui: &mut Ui, title: &str, of: &str) {
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = space::S;
        ui.label(RichText::new(title).font(theme::display(ui.ctx(), size::BODY)));
        ui.add(egui::Label::new(RichText::new(of).size(size::SMALL).weak()).truncate());
    });
}

fn plot_ui(ui: &mut Ui, id: &str, x: &str, end: f64, lines: Vec<Drawn>, cursor: Option<Cursor>) {
    let tokens = palette(ui.visuals().dark_mode);
    let room = ui.available_size();
    // Room for the names at the lines' ends.
    let letters = lines.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
    let names = (7.0 * letters as f32 + 12.0).min(room.x * 0.4);
    let far = end.max(1e-6) / f64::from(1.0 - names / (room.x - 44.0).max(60.0));
    let plot = theme::plot(id)
        .height(room.y)
        .allow_zoom(false)
        .allow_drag(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .include_x(0.0)
        .include_x(far)
        .include_y(0.0)
        .include_y(1.0)
        .x_axis_label(x)
        .y_axis_min_width(38.0)
        .y_axis_formatter(|mark: GridMark, _| format!("{:.0} %", 100.0 * mark.value))
        .x_axis_formatter(move |mark: GridMark, _| match mark.value <= end * 1.001 {
            true => crate::app::views::duel::slider::written(mark.value as f32),
            false => String::new(),
        })
        .set_margin_fraction(egui::vec2(0.0, 0.05));
    let places = places(&lines, f64::from(15.0 / (room.y - 40.0).max(40.0)) * 1.1);
    let shown = plot.show(ui, |plot| {
        if let Some(Cursor { x: cursor, crossings }) = cursor {
            plot.vline(VLine::new("ε", cursor).color(tokens.weak).width(1.5));
            for Crossing { y, colour, ends } in crossings {
                plot.points(Points::new("", vec![[cursor, y]]).radius(4.5).color(colour));
                let text = RichText::new(format!("  {}  ", percent(y)));
                let text = text.font(theme::font(size::BODY)).color(colour);
                // Above the point, and below it where the plot ends above.
                let below = f64::from(room.y - 40.0).max(40.0) * (1.05 - y) < f64::from(1.4 * size::BODY);
                plot.text(
                    Text::new("", PlotPoint::new(cursor, y), text).anchor(match (ends, below) {
                        (true, false) => Align2::RIGHT_BOTTOM,
                        (true, true) => Align2::RIGHT_TOP,
                        (false, false) => Align2::LEFT_BOTTOM,
                        (false, true) => Align2::LEFT_TOP,
                    }),
                );
            }
        }
        for (line, y) in lines.into_iter().zip(places) {
            let last = line.points.last().copied();
            let points: PlotPoints<'_> = line.points.into();
            let drawn = Line::new(line.name.as_str(), points)
                .color(line.colour)
                .width(line.width);
            plot.line(drawn.style(line.style));
            let (Some([x, last]), Some(y)) = (last, y) else {
                continue;
            };
            plot.points(Points::new("", vec![[x, last]]).radius(3.0).color(line.colour));
            let text = RichText::new(format!("  {}", line.name))
                .size(size::SMALL)
                .color(line.colour);
            plot.text(Text::new("", PlotPoint::new(x, y), text).anchor(Align2::LEFT_CENTER));
        }
    });
    theme::outline(ui, &shown);
}

/// How high each line's name stands: at the line's end, but never on another name.
fn places(lines: &[Drawn], apart: f64) -> Vec<Option<f64>> {
    let end = |line: &Drawn| {
        (!line.name.is_empty())
            .then(|| line.points.last().map(|point| point[1]))
            .flatten()
    };
    let mut order: Vec<(usize, f64)> = lines
        .iter()
        .enumerate()
        .filter_map(|(number, line)| Some((number, end(line)?)))
        .collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut places = vec![None; lines.len()];
    let mut above = f64::INFINITY;
    for (number, y) in order {
        let y = y.min(above - apart);
        places[number] = Some(y);
        above = y;
    }
    // What was pushed out below goes up again.
    let mut below = f64::NEG_INFINITY;
    let mut rising: Vec<usize> = (0..lines.len()).filter(|number| places[*number].is_some()).collect();
    rising.sort_by(|a, b| places[*a].unwrap_or(0.0).total_cmp(&places[*b].unwrap_or(0.0)));
    for number in rising {
        let y = places[number].unwrap_or(0.0).max(0.0).max(below + apart);
        places[number] = Some(y);
        below = y;
    }
    places
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_ends_of_lines_never_lie_on_each_other() {
        let line = |name: &str, y: f64| Drawn {
            name: name.to_string(),
            points: vec![[0.0, 0.5], [1.0, y]],
            colour: Color32::WHITE,
            style: LineStyle::Solid,
            width: 1.0,
        };
        let lines = [
            line("a", 0.99),
            line("b", 0.98),
            line("", 0.98),
            line("c", 0.0),
            line("d", 0.01),
        ];
        let placed = places(&lines, 0.1);
        assert_eq!(placed[2], None, "a line without a name takes no room");
        let mut heights: Vec<f64> = placed.iter().flatten().copied().collect();
        heights.sort_by(f64::total_cmp);
        assert!(
            heights.windows(2).all(|pair| pair[1] - pair[0] >= 0.1 - 1e-9),
            "{heights:?}"
        );
        assert!(heights[0] >= 0.0 && *heights.last().unwrap() <= 1.0, "{heights:?}");
    }
}
