//! The radius, as wide as the stage: where each network falls is marked along it.

use egui::{Align2, EventFilter, Key, Rect, Sense, Stroke, Ui, pos2, vec2};

use crate::app::{
    command::Command,
    duel::{LEFT, Move, RIGHT},
    state::State,
    theme::{self, palette, size, space},
};

/// How high it is, with its marks.
pub const HEIGHT: f32 = 2.0 * LANE + 44.0;

/// The height of a network's own line over the track.
const LANE: f32 = 23.0;

/// Half the handle's width.
const HANDLE: f32 = 11.0;

/// Draws it; tells whether a person has just let go of it.
pub fn slider_ui(ui: &mut Ui, state: &State, commands: &mut Vec<Command>) -> bool {
    let duel = &state.duel;
    let (whole, mut response) = ui.allocate_exact_size(vec2(ui.available_width(), HEIGHT), Sense::click_and_drag());
    let (grid, last) = (&duel.grid, duel.grid.last());
    let track = Rect::from_min_max(
        pos2(whole.left() + HANDLE + space::S, whole.top() + 2.0 * LANE + 9.0),
        pos2(whole.right() - HANDLE - space::S, whole.top() + 2.0 * LANE + 15.0),
    );
    let x_of = |place: usize| track.left() + track.width() * place as f32 / last.max(1) as f32;
    let wanted = wanted(ui, &mut response, duel.place, last, track);
    if let Some(wanted) = wanted
        && wanted != duel.place
    {
        commands.push(Command::Duel(Move::Epsilon(wanted)));
        response.mark_changed();
    }
    let place = wanted.unwrap_or(duel.place);
    let epsilon = grid.epsilon(place);
    response.widget_info(|| egui::WidgetInfo::slider(true, f64::from(epsilon.value()), "ε"));
    ui.ctx().accesskit_node_builder(response.id, |node| {
        use egui::accesskit::Action;
        node.set_min_numeric_value(0.0);
        node.set_max_numeric_value(grid.epsilon(last).value().into());
        node.set_numeric_value_step(grid.epsilon(1.min(last)).value().into());
        for action in [Action::SetValue, Action::Increment, Action::Decrement] {
            node.add_action(action);
        }
    });

    let dark = ui.visuals().dark_mode;
    let tokens = palette(dark);
    let painter = ui.painter();
    painter.rect_filled(track, 3.0, tokens.line);
    let mut done = track;
    done.set_right(x_of(place));
    painter.rect_filled(done, 3.0, tokens.weak);
    // Every fifth stop is written under the track.
    for stop in (0..=last).step_by(5) {
        let at = pos2(x_of(stop), track.bottom() + 10.0);
        painter.line_segment(
            [pos2(at.x, track.bottom() + 1.0), pos2(at.x, track.bottom() + 5.0)],
            Stroke::new(1.0, tokens.weak),
        );
        let trained = if stop == grid.trained() { " trained" } else { "" };
        let text = format!("{}{trained}", written(grid.epsilon(stop).value()));
        painter.text(
            at + vec2(0.0, 8.0),
            Align2::CENTER_CENTER,
            text,
            theme::font(size::SMALL),
            tokens.weak,
        );
    }
    // From where a network falls on, its own line runs over the track.
    if let Some(picture) = &duel.picture {
        for (corner, lane) in [(LEFT, 0), (RIGHT, 1)] {
            let own = &duel.corners[corner];
            let Some(fighter) = &own.fighter else { continue };
            let colour = theme::defence(fighter.defence().name(), dark);
            let name = theme::defence_name(fighter.defence());
            let y = whole.top() + LANE * (lane as f32 + 1.0) - 3.0;
            let (text, from) = match own.falls(picture) {
                Some((0, _)) => (format!("{name} is wrong from the start"), 0),
                Some((stop, exact)) => {
                    let about = if exact { "" } else { "≤ " };
                    (
                        format!("{name} falls at {about}{}", written(grid.epsilon(stop).value())),
                        stop,
                    )
                }
                None if own.is_whole() => (format!("{name} holds all the way"), last),
                None => continue,
            };
            let from = x_of(from);
            painter.line_segment([pos2(from, y), pos2(track.right(), y)], Stroke::new(4.0, colour));
            painter.line_segment([pos2(from, y - 12.0), pos2(from, y + 2.0)], Stroke::new(2.0, colour));
            let galley = painter.layout_no_wrap(text, theme::font(size::BODY), colour);
            // Beside its mark: on the right of it where there is room.
            let left = match from + 6.0 + galley.size().x <= whole.right() {
                true => from + 6.0,
                false => from - 6.0 - galley.size().x,
            };
            painter.galley(pos2(left, y - 3.0 - galley.size().y), galley, colour);
        }
    }
    let handle = pos2(x_of(place), track.center().y);
    let visuals = ui.style().interact(&response);
    painter.circle(handle, HANDLE, visuals.bg_fill, Stroke::new(2.0, tokens.text));
    if response.has_focus() {
        painter.circle_stroke(handle, HANDLE + 3.0, ui.visuals().selection.stroke);
    }
    response.drag_stopped() || (response.clicked() && wanted.is_some())
}

/// The stop that a hand, a key or a screen reader asks for.
fn wanted(ui: &Ui, response: &mut egui::Response, place: usize, last: usize, track: Rect) -> Option<usize> {
    if let Some(pointer) = response.interact_pointer_pos() {
        response.request_focus();
        let share = ((pointer.x - track.left()) / track.width()).clamp(0.0, 1.0);
        return Some((share * last as f32).round() as usize);
    }
    let mut steps = 0_i64;
    let mut end = None;
    if response.has_focus() {
        let arrows = EventFilter {
            horizontal_arrows: true,
            ..Default::default()
        };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, arrows));
        ui.input(|input| {
            steps += input.num_presses(Key::ArrowRight) as i64 - input.num_presses(Key::ArrowLeft) as i64;
            steps += 5 * (input.num_presses(Key::PageUp) as i64 - input.num_presses(Key::PageDown) as i64);
            if input.key_pressed(Key::Home) {
                end = Some(0);
            }
            if input.key_pressed(Key::End) {
                end = Some(last);
            }
        });
    }
    ui.input(|input| {
        use egui::accesskit::{Action, ActionData};
        let times = |action| input.num_accesskit_action_requests(response.id, action) as i64;
        steps += times(Action::Increment) - times(Action::Decrement);
        let _ = ActionData::NumericValue(0.0);
    });
    if end.is_none() && steps == 0 {
        return None;
    }
    Some(end.unwrap_or_else(|| (place as i64 + steps).clamp(0, last as i64) as usize))
}

/// A radius in three decimals at most.
pub fn written(epsilon: f32) -> String {
    let text = format!("{epsilon:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() {
        "0".to_string()
    } else {
        text.to_string()
    }
}
