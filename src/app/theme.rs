//! How the window looks: every colour and measure that a view uses stands here.

mod tokens;

pub use tokens::{FONTS, defence, defence_name, defence_title, display, font, marker, palette, size, space, stroke};

use egui::{Color32, Context, CornerRadius, FontFamily, FontId, Stroke, StrokeKind, TextStyle, Theme, Ui, Visuals};
use egui_plot::{Plot, PlotResponse};

/// Okabe and Ito's colours, which people with any colour vision tell apart; the order in which series take them.
pub const SERIES: [Color32; 7] = [
    Color32::from_rgb(0, 114, 178),
    Color32::from_rgb(213, 94, 0),
    Color32::from_rgb(0, 158, 115),
    Color32::from_rgb(204, 121, 167),
    Color32::from_rgb(230, 159, 0),
    Color32::from_rgb(86, 180, 233),
    Color32::from_rgb(120, 120, 120),
];

/// A colour of [`SERIES`], lighter on a dark ground so that it keeps its contrast.
pub fn series(index: usize, dark: bool) -> Color32 {
    let colour = SERIES[index % SERIES.len()];
    if dark {
        colour.lerp_to_gamma(Color32::WHITE, 0.28)
    } else {
        colour
    }
}

/// The colour of an attack, the same in every plot; `pgd-20` has that of every other PGD.
pub fn attack(name: &str, dark: bool) -> Color32 {
    let known = ["natural", "fgsm", "pgd", "worst-case", "cw", "auto"];
    let place = known.iter().position(|known| name.starts_with(known));
    series(place.unwrap_or(known.len()), dark)
}

/// How an example fares.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Without any attack.
    Wrong,
    /// Right, and not attacked.
    Right,
    /// Right, and wrong under attack.
    Fooled,
    /// Right, and right under attack.
    Robust,
    /// Not met yet.
    Unknown,
}

/// The colour of a fate.
pub fn fate(fate: Fate, dark: bool) -> Color32 {
    match fate {
        Fate::Wrong => series(1, dark),
        Fate::Right => series(5, dark),
        Fate::Fooled => series(4, dark),
        Fate::Robust => series(2, dark),
        Fate::Unknown => Color32::GRAY,
    }
}

/// Something doubtful.
pub fn warning(dark: bool) -> Color32 {
    if dark {
        Color32::from_rgb(255, 190, 80)
    } else {
        Color32::from_rgb(150, 85, 0)
    }
}

/// Something that failed.
pub fn error(dark: bool) -> Color32 {
    if dark {
        Color32::from_rgb(255, 130, 120)
    } else {
        Color32::from_rgb(180, 30, 20)
    }
}

/// Sets both themes; egui chooses between them as the person wants.
pub fn install(ctx: &Context) {
    tokens::install_fonts(ctx);
    for theme in [Theme::Light, Theme::Dark] {
        let mut visuals = theme.default_visuals();
        colours(&mut visuals, theme == Theme::Dark);
        ctx.set_visuals_of(theme, visuals);
        ctx.style_mut_of(theme, |style| {
            for (text, size) in [
                (TextStyle::Heading, 19.0),
                (TextStyle::Body, 14.0),
                (TextStyle::Button, 14.0),
                (TextStyle::Small, 11.5),
            ] {
                style
                    .text_styles
                    .insert(text, FontId::new(size, FontFamily::Proportional));
            }
            style
                .text_styles
                .insert(TextStyle::Monospace, FontId::new(13.0, FontFamily::Monospace));
            style.spacing.item_spacing = egui::vec2(8.0, 6.0);
            style.spacing.button_padding = egui::vec2(10.0, 4.0);
            style.spacing.interact_size.y = 24.0;
            style.spacing.combo_width = 150.0;
            // A list is seen whole: twelve experiments, eleven defences.
            style.spacing.combo_height = 420.0;
            style.interaction.tooltip_delay = 0.35;
            style.url_in_tooltip = true;
        });
    }
}

fn colours(visuals: &mut Visuals, dark: bool) {
    let round = CornerRadius::same(5);
    for widget in [
        &mut visuals.widgets.noninteractive,
        &mut visuals.widgets.inactive,
        &mut visuals.widgets.hovered,
        &mut visuals.widgets.active,
        &mut visuals.widgets.open,
    ] {
        widget.corner_radius = round;
    }
    visuals.selection.bg_fill = if dark {
        Color32::from_rgb(20, 84, 130)
    } else {
        Color32::from_rgb(176, 214, 240)
    };
    visuals.selection.stroke = Stroke::new(
        1.0,
        if dark {
            Color32::WHITE
        } else {
            Color32::from_rgb(0, 50, 90)
        },
    );
    let tokens = palette(dark);
    visuals.panel_fill = tokens.ground;
    visuals.override_text_color = Some(tokens.text);
    if dark {
        visuals.window_fill = Color32::from_rgb(31, 34, 39);
        visuals.extreme_bg_color = Color32::from_rgb(17, 18, 21);
        visuals.faint_bg_color = Color32::from_rgb(33, 36, 41);
    } else {
        visuals.window_fill = Color32::WHITE;
        visuals.extreme_bg_color = Color32::WHITE;
        visuals.faint_bg_color = Color32::from_rgb(242, 243, 245);
    }
}

/// A plot as all of them look. It lies on the window's own ground: to fill its own costs a rasteriser without a GPU as much
/// as all that stands on it.
pub fn plot<'a>(id: &str) -> Plot<'a> {
    Plot::new(id)
        .show_background(false)
        .grid_color(Color32::from_gray(128).gamma_multiply(0.35))
}

/// The outline of a plot that was just drawn.
pub fn outline<R>(ui: &Ui, plot: &PlotResponse<R>) {
    let stroke = ui.visuals().widgets.noninteractive.bg_stroke;
    let frame = *plot.transform.frame();
    ui.painter().rect_stroke(frame, 2.0, stroke, StrokeKind::Inside);
}
