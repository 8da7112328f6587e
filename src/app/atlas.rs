//! Thumbnails of a data set in a few large textures, filled as they come into view.

use std::sync::Arc;

use egui::{Color32, ColorImage, Context, Rect, TextureHandle, TextureOptions, pos2};

use crate::data::Dataset;

/// Side of an atlas page in texels: every GPU takes it.
const PAGE: usize = 1_024;
/// The longer side of a thumbnail in texels at most.
const MOST: usize = 128;

/// Thumbnails filled in one frame: what comes into view with one turn of the wheel, and no more.
const FILLED_PER_FRAME: usize = 400;

/// A data set's thumbnails.
pub struct Atlas {
    data: Arc<Dataset>,
    /// Pixels of an image, down and across, that one texel stands for.
    shrunk: usize,
    /// Width and height of a thumbnail.
    size: [usize; 2],
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
        let shrunk = shape.width.max(shape.height).div_ceil(MOST).max(1);
        let size = [shape.width, shape.height].map(|side| side.div_ceil(shrunk));
        let in_a_row = PAGE / size[0];
        let on_a_page = in_a_row * (PAGE / size[1]);
        Self {
            data: data.clone(),
            shrunk,
            size,
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
        let [width, height] = self.size;
        let place = position % self.on_a_page;
        let corner = [place % self.in_a_row * width, place / self.in_a_row * height];
        let page = self.pages.get_mut(position / self.on_a_page)?.get_or_insert_with(|| {
            let empty = ColorImage::filled([PAGE, PAGE], Color32::TRANSPARENT);
            ctx.load_texture("thumbnails", empty, TextureOptions::NEAREST)
        });
        if !self.filled[position] {
            self.budget = self.budget.checked_sub(1).or_else(|| {
                ctx.request_repaint();
                None
            })?;
            page.set_partial(
                corner,
                picture(&self.data, position, self.shrunk),
                TextureOptions::NEAREST,
            );
            self.filled[position] = true;
        }
        let scale = 1.0 / PAGE as f32;
        let [x, y] = corner.map(|side| side as f32 * scale);
        let size = egui::vec2(width as f32, height as f32) * scale;
        Some((page.id(), Rect::from_min_size(pos2(x, y), size)))
    }
}

/// An image, each texel the mean of so many pixels down and across.
fn picture(data: &Dataset, position: usize, shrunk: usize) -> ColorImage {
    let shape = data.shape();
    let values = data.image(position);
    let plane = shape.height * shape.width;
    let [width, height] = [shape.width, shape.height].map(|side| side.div_ceil(shrunk));
    let mean = |channel: usize, place: usize| {
        let (top, left) = (place / width * shrunk, place % width * shrunk);
        let (bottom, right) = ((top + shrunk).min(shape.height), (left + shrunk).min(shape.width));
        let rows = (top..bottom).flat_map(|y| &values[channel * plane + y * shape.width..][left..right]);
        let sum: usize = rows.map(|value| usize::from(*value)).sum();
        (sum / ((bottom - top) * (right - left))) as u8
    };
    let pixel = |place: usize| match shape.channels {
        1 => Color32::from_gray(mean(0, place)),
        _ => Color32::from_rgb(mean(0, place), mean(1, place), mean(2, place)),
    };
    ColorImage::new([width, height], (0..width * height).map(pixel).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::shapes::ImageShape;

    fn names(classes: usize) -> Vec<String> {
        (0..classes).map(|class| class.to_string()).collect()
    }

    #[test]
    fn thumbnails_of_large_pictures_are_small_and_fit_their_page() {
        for (width, height) in [(28, 28), (1_200, 1_100), (1_024, 3), (1, 5_000), (129, 128)] {
            let shape = ImageShape {
                channels: 3,
                height,
                width,
            };
            let images: Vec<u8> = (0..2 * shape.len()).map(|place| (place % 251) as u8).collect();
            let data = Arc::new(Dataset::from_parts("large", shape, names(2), images, vec![0, 1]).unwrap());
            let ctx = Context::default();
            let mut atlas = Atlas::new(&data);
            for position in 0..2 {
                let (_, rect) = atlas.thumbnail(&ctx, position).unwrap();
                assert!(rect.max.x <= 1.0 && rect.max.y <= 1.0, "{width}×{height}: {rect}");
                assert!(
                    rect.width() * 1_024.0 <= 128.5 && rect.height() * 1_024.0 <= 128.5,
                    "{rect}"
                );
            }
        }
    }

    #[test]
    fn a_texel_is_the_mean_of_its_pixels() {
        let shape = ImageShape {
            channels: 1,
            height: 2,
            width: 3,
        };
        let data = Dataset::from_parts("six", shape, names(1), vec![10, 20, 30, 40, 50, 61], vec![0]).unwrap();
        let small = picture(&data, 0, 2);
        assert_eq!(small.size, [2, 1]);
        assert_eq!(small.pixels, [30, 45].map(Color32::from_gray));
        assert_eq!(picture(&data, 0, 1).pixels.len(), 6);
    }
}
