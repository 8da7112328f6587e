//! Thumbnails of a data set in a few large textures, filled as they come into view.

use std::sync::Arc;

use egui::{Color32, ColorImage, Context, Rect, TextureHandle, TextureOptions, pos2};

use crate::data::Dataset;

/// Side of an atlas page in texels: every GPU takes it.
const PAGE: usize = 1_024;

/// Thumbnails filled in one frame: what comes into view with one turn of the wheel, and no more.
const FILLED_PER_FRAME: usize = 400;

/// A data set's thumbnails.
pub struct Atlas {
    data: Arc<Dataset>,
    pages: Vec<Option<TextureHandle>>,
    filled: Vec<bool>,
    in_a_row: usize,
    on_a_page: usize,
    budget: usize,
}

impl Atlas {
    /// An atlas that holds nothing yet.
    pub fn new(data: &Arc<Dataset>) -> Self {
        let shape = data.shape();
        let in_a_row = (PAGE / shape.width).max(1);
        let on_a_page = in_a_row * (PAGE / shape.height).max(1);
        Self {
            data: data.clone(),
            pages: vec![None; data.len().div_ceil(on_a_page)],
            filled: vec![false; data.len()],
            in_a_row,
            on_a_page,
            budget: FILLED_PER_FRAME,
        }
    }

    /// Whether it is of this data set.
    pub fn is_of(&self, data: &Arc<Dataset>) -> bool {
        Arc::ptr_eq(&self.data, data)
    }

    /// A new frame begins.
    pub fn begin_frame(&mut self) {
        self.budget = FILLED_PER_FRAME;
    }

    /// The texture and the part of it that shows an example; none where this frame has no time left for it.
    pub fn thumbnail(&mut self, ctx: &Context, position: usize) -> Option<(egui::TextureId, Rect)> {
        let shape = self.data.shape();
        let place = position % self.on_a_page;
        let corner = [
            place % self.in_a_row * shape.width,
            place / self.in_a_row * shape.height,
        ];
        let page = self.pages.get_mut(position / self.on_a_page)?.get_or_insert_with(|| {
            let empty = ColorImage::filled([PAGE, PAGE], Color32::TRANSPARENT);
            ctx.load_texture("thumbnails", empty, TextureOptions::NEAREST)
        });
        if !self.filled[position] {
            self.budget = self.budget.checked_sub(1).or_else(|| {
                ctx.request_repaint();
                None
            })?;
            page.set_partial(corner, picture(&self.data, position), TextureOptions::NEAREST);
            self.filled[position] = true;
        }
        let scale = 1.0 / PAGE as f32;
        let [x, y] = corner.map(|side| side as f32 * scale);
        let size = egui::vec2(shape.width as f32, shape.height as f32) * scale;
        Some((page.id(), Rect::from_min_size(pos2(x, y), size)))
    }
}

fn picture(data: &Dataset, position: usize) -> ColorImage {
    let shape = data.shape();
    let values = data.image(position);
    let plane = shape.height * shape.width;
    let pixel = |place: usize| match shape.channels {
        1 => Color32::from_gray(values[place]),
        _ => Color32::from_rgb(values[place], values[plane + place], values[2 * plane + place]),
    };
    ColorImage::new([shape.width, shape.height], (0..plane).map(pixel).collect())
}
