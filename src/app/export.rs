//! Figures as files: SVG, PNG and PDF of one drawing, in the window's colours.

use std::sync::{Arc, LazyLock};

use anyhow::{Context as _, Result};
use egui::Color32;
use egui_plot::{LineStyle, MarkerShape};
use resvg::{
    tiny_skia,
    usvg::{self, fontdb},
};

use super::theme;
use crate::report::figure::{Colour, Figure, Look, Marker, Stroke};

/// How many pixels a unit of the figure is: twice what a screen of today shows.
const SCALE: f32 = 2.0;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    Png,
    Svg,
    Pdf,
}

impl Form {
    /// Every kind, and what a menu calls it.
    pub const ALL: [(Form, &'static str); 3] = [
        (Form::Png, "Picture (PNG, 1,920 wide)…"),
        (Form::Svg, "Drawing (SVG)…"),
        (Form::Pdf, "Page (PDF)…"),
    ];

    /// The file's ending.
    pub fn ending(self) -> &'static str {
        match self {
            Form::Png => "png",
            Form::Svg => "svg",
            Form::Pdf => "pdf",
        }
    }

    /// The figure as such a file.
    pub fn render(self, figure: &Figure) -> Result<Vec<u8>> {
        let svg = figure.svg();
        match self {
            Form::Svg => Ok(svg.into_bytes()),
            Form::Png => png(&svg),
            Form::Pdf => pdf(&svg),
        }
    }
}

/// A menu with every kind of file; gives the one that was chosen.
pub fn menu_ui(ui: &mut egui::Ui) -> Option<Form> {
    let mut chosen = None;
    for (form, label) in Form::ALL {
        if ui.button(label).clicked() {
            chosen = Some(form);
            ui.close();
        }
    }
    chosen
}

/// The fonts that figures are set in; what they lack comes from the window's own.
fn fonts() -> Arc<fontdb::Database> {
    static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
        let mut fonts = fontdb::Database::new();
        for font in theme::FONTS {
            fonts.load_font_data(font.to_vec());
        }
        for font in egui::FontDefinitions::default().font_data.values() {
            fonts.load_font_data((*font.font).as_ref().to_vec());
        }
        Arc::new(fonts)
    });
    Arc::clone(&FONTS)
}

fn tree(svg: &str) -> Result<usvg::Tree> {
    let options = usvg::Options {
        fontdb: fonts(),
        font_family: "Inter".to_string(),
        ..usvg::Options::default()
    };
    Ok(usvg::Tree::from_str(svg, &options)?)
}

fn png(svg: &str) -> Result<Vec<u8>> {
    let tree = tree(svg)?;
    let size = tree.size().to_int_size().scale_by(SCALE).context("an empty figure")?;
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height()).context("an empty figure")?;
    resvg::render(
        &tree,
        tiny_skia::Transform::from_scale(SCALE, SCALE),
        &mut pixels.as_mut(),
    );
    Ok(pixels.encode_png()?)
}

/// Text becomes outlines, so that the page needs no font.
fn pdf(svg: &str) -> Result<Vec<u8>> {
    let outlined = tree(svg)?.to_string(&usvg::WriteOptions::default());
    let tree = svg2pdf::usvg::Tree::from_str(&outlined, &svg2pdf::usvg::Options::default())?;
    svg2pdf::to_pdf(
        &tree,
        svg2pdf::ConversionOptions::default(),
        svg2pdf::PageOptions::default(),
    )
    .map_err(|error| anyhow::anyhow!("{error}"))
}

/// The colours of the window as it is now.
pub fn look(dark: bool) -> Look {
    let palette = theme::palette(dark);
    Look {
        ground: colour(palette.ground),
        text: colour(palette.text),
        weak: colour(palette.weak),
        line: colour(palette.line),
    }
}

/// A colour of the window.
pub fn colour(colour: Color32) -> Colour {
    let [red, green, blue, _] = colour.to_array();
    [red, green, blue]
}

/// A stroke of a plot.
pub fn stroke(style: LineStyle) -> Stroke {
    match style {
        LineStyle::Solid => Stroke::Solid,
        LineStyle::Dashed { length } => Stroke::Dashed(length),
        LineStyle::Dotted { spacing } => Stroke::Dotted(spacing),
    }
}

/// The marker of an attack.
pub fn marker(attack: &str) -> Marker {
    match theme::marker(attack).0 {
        MarkerShape::Circle => Marker::Circle,
        MarkerShape::Square => Marker::Square,
        MarkerShape::Diamond => Marker::Diamond,
        MarkerShape::Up | MarkerShape::Down | MarkerShape::Left | MarkerShape::Right => Marker::Up,
        MarkerShape::Cross => Marker::Cross,
        MarkerShape::Plus => Marker::Plus,
        MarkerShape::Asterisk => Marker::Asterisk,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::report::{
        chart::Unit,
        figure::{Line, Part, Picture, Plot},
    };

    fn figure(dark: bool) -> Figure {
        let line = Line {
            name: Some("MART: pgd-20, ε".to_string()),
            points: vec![[1.0, 0.2], [2.0, 0.5], [3.0, 0.6]],
            colour: colour(theme::attack("pgd-20", dark)),
            opacity: 1.0,
            width: 2.2,
            stroke: stroke(LineStyle::dashed_loose()),
            marker: Some(marker("pgd-20")),
            band: vec![[1.0, 0.1, 0.3], [3.0, 0.5, 0.7]],
        };
        let plot = Plot {
            y: "accuracy".to_string(),
            x: "epochs".to_string(),
            unit: Unit::Share,
            logarithmic: [false; 2],
            height: 240.0,
            lines: vec![line],
            marks: Vec::new(),
        };
        let picture = Picture {
            title: "Natural".to_string(),
            pixels: image::RgbImage::from_pixel(8, 8, image::Rgb([255, 0, 0])),
            below: Vec::new(),
        };
        Figure {
            title: "A figure".to_string(),
            parts: vec![Part::Plot(plot), Part::Pictures(vec![picture])],
            caption: vec!["N = 200".to_string()],
            look: look(dark),
        }
    }

    #[test]
    fn one_drawing_becomes_every_kind_of_file() {
        for dark in [false, true] {
            let figure = figure(dark);
            let png = image::load_from_memory(&Form::Png.render(&figure).unwrap())
                .unwrap()
                .to_rgb8();
            assert_eq!(png.width(), 1_920);
            let count = |wanted: Colour| png.pixels().filter(|pixel| pixel.0 == wanted).count();
            assert!(count(figure.look.ground) > png.len() / 3 / 2, "the ground is another");
            assert!(
                count(colour(theme::attack("pgd-20", dark))) > 200,
                "the line is not there"
            );
            assert!(count([255, 0, 0]) > 200 * 200, "the picture is not there");
            assert!(count(figure.look.text) > 100, "no text is drawn");
            let pdf = Form::Pdf.render(&figure).unwrap();
            assert!(pdf.starts_with(b"%PDF-") && pdf.len() > 4_000, "{} bytes", pdf.len());
            assert!(
                String::from_utf8(Form::Svg.render(&figure).unwrap())
                    .unwrap()
                    .ends_with("</svg>")
            );
        }
    }
}
