//! Random crops of the padded image, and mirror images.

use serde::{Deserialize, Serialize};

pub(super) use crate::compute::{pad_crop_flip, reference::pad_crop_flip_values};
use crate::{compute::Placement, random::Rng};

/// How training images are varied each time they are drawn. The default is not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augmentation {
    /// Zeros added on every side before a crop of the original size is cut out at random.
    pub pad: usize,
    /// Whether half the images are mirrored left to right.
    pub flip: bool,
}

impl Augmentation {
    /// One draw for each of `count` images: offsets uniform in `0..=2·pad`, then the flip. Always three draws
    /// an image, so that what comes after does not depend on the settings.
    pub(super) fn placements(&self, count: usize, rng: &mut Rng) -> Vec<Placement> {
        let offset = |rng: &mut Rng| rng.below(2 * self.pad + 1) as u32;
        (0..count)
            .map(|_| {
                let (dy, dx) = (offset(rng), offset(rng));
                let heads = rng.chance(0.5);
                Placement {
                    dy,
                    dx,
                    flip: self.flip && heads,
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_cover_every_offset_and_both_sides() {
        let placements = Augmentation { pad: 2, flip: true }.placements(2_000, &mut Rng::new(1));
        for offset in 0..=4 {
            let share = placements.iter().filter(|p| p.dx == offset).count();
            assert!((300..500).contains(&share), "offset {offset}: {share} of 2,000");
        }
        let flipped = placements.iter().filter(|p| p.flip).count();
        assert!((900..1_100).contains(&flipped), "{flipped} of 2,000 mirrored");
    }

    #[test]
    fn no_augmentation_leaves_every_image_in_place() {
        let placements = Augmentation::default().placements(100, &mut Rng::new(1));
        assert!(placements.iter().all(|p| *p
            == Placement {
                dy: 0,
                dx: 0,
                flip: false
            }));
    }
}
