//! Both networks with the attacked picture, the answer in large type, and the probabilities beside it.

use egui::{Align2, Color32, Rect, Sense, Stroke, StrokeKind, Ui, UiBuilder, Vec2, pos2, vec2};

use crate::{
    app::{
        duel::{Attacked, Corner, LEFT, RIGHT, Verdict, answer, truth, verdict},
        lab::Specimen,
        picture::{Picture, Show},
        state::State,
        theme::{self, palette, size, space},
    },
    report::pictures,
    threat::Norm,
    wording::percent,
};

/// How long the steps of an attack are played.
const PLAY_SECONDS: f64 = 0.9;
/// Probabilities that fit under an answer.
const BARS: usize = 10;

/// Both sides, and the moment of the attack that shows.
#[derive(Default)]
pub struct Stage {
    /// Whether what the attack changed shows instead of the picture.
    pub change: bool,
    /// When the steps began to be played.
    began: Option<f64>,
}

impl Stage {
    /// Plays the attack's steps from its start.
    pub fn play(&mut self, ui: &Ui) {
        self.began = Some(ui.input(|input| input.time));
    }

    /// How much of the attack shows, in shares of its steps; none shows its end.
    fn share(&mut self, ui: &Ui) -> Option<f64> {
        let began = self.began?;
        let share = (ui.input(|input| input.time) - began) / PLAY_SECONDS;
        if share >= 1.0 {
            self.began = None;
            return None;
        }
        ui.ctx().request_repaint();
        Some(share.max(0.0))
    }

    pub fn ui(&mut self, ui: &mut Ui, state: &State, room: Vec2) {
        let share = self.share(ui);
        let (whole, _) = ui.allocate_exact_size(room, Sense::hover());
        let half = (whole.width() - space::L) / 2.0;
        for (corner, left) in [(LEFT, whole.left()), (RIGHT, whole.right() - half)] {
            let place = Rect::from_min_size(pos2(left, whole.top()), vec2(half, whole.height()));
            let mut side = ui.new_child(UiBuilder::new().max_rect(place).id_salt(("side", corner)));
            side_ui(&mut side, state, corner, place, share, self.change);
        }
    }
}

/// One side; the pictures of both stand in the middle, face to face.
fn side_ui(ui: &mut Ui, state: &State, side: usize, place: Rect, share: Option<f64>, change: bool) {
    let dark = ui.visuals().dark_mode;
    let tokens = palette(dark);
    let corner = &state.duel.corners[side];
    let Some(fighter) = &corner.fighter else {
        let text = if state.duel.error.is_some() {
            "no network"
        } else {
            "…"
        };
        ui.painter().text(
            place.center(),
            Align2::CENTER_CENTER,
            text,
            theme::font(size::LEAD),
            tokens.weak,
        );
        return;
    };
    let colour = theme::defence(fighter.defence().name(), dark);
    // The picture takes the height; where the column is narrow, what is said stands under it.
    let title = size::TITLE + space::S;
    let beside = place.width() > 320.0;
    let picture = if beside {
        (place.height() - title).min(place.width() * 0.62).min(560.0)
    } else {
        (place.height() - title - 120.0).min(place.width())
    };
    let picture = picture.max(64.0);
    let texts = (place.width() - picture - space::M).max(60.0);
    let is_left = side == LEFT;
    let top = place.top() + title;
    let (picture_place, text_place) = if beside {
        let from = if is_left { place.right() - picture } else { place.left() };
        let text = if is_left {
            place.left()
        } else {
            place.left() + picture + space::M
        };
        (
            Rect::from_min_size(pos2(from, top), Vec2::splat(picture)),
            Rect::from_min_size(pos2(text, top), vec2(texts, place.bottom() - top)),
        )
    } else {
        let from = place.center().x - picture / 2.0;
        (
            Rect::from_min_size(pos2(from, top), Vec2::splat(picture)),
            Rect::from_min_max(pos2(place.left(), top + picture + space::S), place.max),
        )
    };
    name_ui(ui, fighter, place, picture_place, is_left && beside, colour);
    let (Some(specimen), Some(bout)) = (&state.duel.picture, corner.bout(state.duel.place)) else {
        ui.painter()
            .rect_stroke(picture_place, 4.0, Stroke::new(1.0, tokens.line), StrokeKind::Inside);
        if state
            .duel
            .picture
            .as_ref()
            .is_some_and(|picture| picture.shape != fighter.input())
        {
            let said = format!("takes pictures of {}", fighter.input());
            ui.painter().text(
                picture_place.center(),
                Align2::CENTER_CENTER,
                said,
                theme::font(size::BODY),
                tokens.weak,
            );
        }
        return;
    };
    let last = bout.trace.images.len() - 1;
    let step = share.map_or(last, |share| (share * last as f64) as usize);
    let how = verdict(&bout.trace, specimen, Some(step));
    let verdict_colour = match how {
        Verdict::Holds => tokens.holds,
        Verdict::Fooled => tokens.fooled,
        Verdict::Wrong => tokens.wrong,
    };
    let epsilon = state.duel.grid.epsilon(bout.place).value();
    let gain = match state.duel.grid.norm() {
        Norm::Linf if epsilon > 0.0 => 1.0 / epsilon,
        _ => pictures::full_gain(&specimen.pixels, &bout.trace.images[step]),
    };
    let shown = Picture::new(
        specimen.shape,
        &specimen.pixels,
        &bout.trace.images[step],
        if change { Show::Change { gain } } else { Show::Image },
        state.target_format,
    );
    shown.paint_at(ui, picture_place);
    ui.painter().rect_stroke(
        picture_place.expand(3.0),
        4.0,
        Stroke::new(3.0, verdict_colour),
        StrokeKind::Middle,
    );
    let said = said(state, corner, bout, specimen, step, how);
    let response = ui.interact(picture_place, ui.scope_id().with("picture"), Sense::hover());
    response.widget_info(|| egui::WidgetInfo::labeled(egui::Role::Image, true, &said));
    response.on_hover_text(said);
    let mut text = ui.new_child(UiBuilder::new().max_rect(text_place));
    answer_ui(&mut text, bout, specimen, step, how, verdict_colour, is_left && beside);
}

fn name_ui(ui: &Ui, fighter: &crate::app::duel::Fighter, place: Rect, picture: Rect, right: bool, colour: Color32) {
    let name = theme::defence_title(fighter.defence());
    let (at, align) = if right {
        (pos2(picture.right(), place.top()), Align2::RIGHT_TOP)
    } else {
        (pos2(picture.left(), place.top()), Align2::LEFT_TOP)
    };
    let title = ui
        .painter()
        .text(at, align, name, theme::display(ui.ctx(), size::TITLE), colour);
    // What it is, where there is room beside its name.
    let weak = palette(ui.visuals().dark_mode).weak;
    let (at, align, room) = if right {
        (
            pos2(title.left() - space::S, title.bottom() - 3.0),
            Align2::RIGHT_BOTTOM,
            title.left() - place.left(),
        )
    } else {
        (
            pos2(title.right() + space::S, title.bottom() - 3.0),
            Align2::LEFT_BOTTOM,
            place.right() - title.right(),
        )
    };
    let label = &fighter.subject.label;
    let galley = ui
        .painter()
        .layout_no_wrap(label.clone(), theme::font(size::SMALL), weak);
    if galley.size().x + space::S <= room {
        let place = align.anchor_size(at, galley.size());
        ui.painter().galley(place.min, galley, weak);
    }
}

/// The whole story of a side in a sentence, for ears and for the tooltip.
fn said(state: &State, corner: &Corner, bout: &Attacked, specimen: &Specimen, step: usize, how: Verdict) -> String {
    let class = |class: usize| specimen.classes.get(class).map_or("?", String::as_str);
    let now = &bout.trace.after[step];
    let said = answer(now);
    let (linf, l2) = bout.trace.distances(&specimen.pixels, step);
    let name = corner
        .fighter
        .as_ref()
        .map_or_else(String::new, |own| own.defence().to_string());
    format!(
        "{name} ({}): {} {}, {}. {}; {} at ε = {}, step {step} of {}; distance L∞ {linf:.3}, L2 {l2:.2}",
        bout.trace.subject,
        class(said),
        how.word(),
        percent(now[said].into()),
        specimen.title,
        state.duel.attack,
        state.duel.grid.epsilon(bout.place),
        bout.trace.images.len() - 1,
    )
}

/// The answer in large type, the verdict, and the likeliest classes as bars.
fn answer_ui(
    ui: &mut Ui,
    bout: &Attacked,
    specimen: &Specimen,
    step: usize,
    how: Verdict,
    colour: Color32,
    right: bool,
) {
    let dark = ui.visuals().dark_mode;
    let tokens = palette(dark);
    let class = |class: usize| specimen.classes.get(class).map_or("?", String::as_str);
    let now = &bout.trace.after[step];
    let (said, truth) = (answer(now), truth(&bout.trace, specimen));
    let room = ui.max_rect();
    let (edge, align) = if right {
        (room.right(), Align2::RIGHT_TOP)
    } else {
        (room.left(), Align2::LEFT_TOP)
    };
    let painter = ui.painter().clone();
    // A digit stands as large as it may; a long name is made to fit.
    let letters = class(said).chars().count().max(1) as f32;
    let large = (room.width() / (0.62 * letters)).clamp(size::LEAD, size::DISPLAY);
    let large = large.min(room.height() * 0.3).max(size::LEAD);
    let answer = painter.text(
        pos2(edge, room.top() - large * 0.12),
        align,
        class(said),
        theme::display(ui.ctx(), large),
        tokens.text,
    );
    let verdict = painter.text(
        pos2(edge, answer.bottom() - 4.0),
        align,
        how.word(),
        theme::display(ui.ctx(), size::TITLE.min(room.height() * 0.14).max(size::BODY)),
        colour,
    );
    let mut top = verdict.bottom() + space::S;
    let mut order: Vec<usize> = (0..now.len()).collect();
    order.sort_by(|a, b| now[*b].total_cmp(&now[*a]));
    let height = 20.0;
    let bars = (((room.bottom() - top) / (height + 3.0)) as usize).min(BARS);
    // The right class is always among them.
    let kept: Vec<usize> = order.iter().copied().take(bars).collect();
    if !kept.contains(&truth)
        && let Some(place) = bars.checked_sub(1)
    {
        order.retain(|class| *class != truth);
        order.insert(place, truth);
    }
    for class_shown in order.into_iter().take(bars) {
        let share = now[class_shown];
        let line = Rect::from_min_size(pos2(room.left(), top), vec2(room.width(), height));
        bar_ui(ui, line, class(class_shown), share, class_shown == truth, dark);
        top += height + 3.0;
    }
}

fn bar_ui(ui: &Ui, line: Rect, name: &str, share: f32, is_true: bool, dark: bool) {
    let tokens = palette(dark);
    let painter = ui.painter();
    painter.rect_filled(line, 3.0, ui.visuals().faint_bg_color);
    let mut bar = line;
    bar.set_width((line.width() * share).max(1.0));
    let fill = if is_true { tokens.holds } else { tokens.fooled };
    painter.rect_filled(bar, 3.0, fill.gamma_multiply(0.38));
    let mark = if is_true { "  true" } else { "" };
    let font = theme::font(size::BODY);
    let inner = line.shrink2(vec2(6.0, 0.0));
    painter.text(
        inner.left_center(),
        Align2::LEFT_CENTER,
        format!("{name}{mark}"),
        font.clone(),
        tokens.text,
    );
    painter.text(
        inner.right_center(),
        Align2::RIGHT_CENTER,
        percent(share.into()),
        font,
        tokens.text,
    );
}
