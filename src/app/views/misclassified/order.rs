//! Which examples the gallery shows, in which order.

use super::{Cell, Kind, Misclassified};
use crate::app::{
    examples::{Book, Record},
    theme::Fate,
};

/// What the gallery's order depends on.
pub type Wish = (
    std::path::PathBuf,
    u64,
    Option<Kind>,
    Option<usize>,
    Option<Cell>,
    Sort,
    Option<usize>,
);

#[derive(Default, Clone, Copy, PartialEq)]
pub enum Sort {
    #[default]
    LeastSure,
    Divergence,
    Loss,
    Margin,
    Flips,
    Order,
}

impl Sort {
    pub const ALL: [(Sort, &'static str); 6] = [
        (Self::LeastSure, "1 − p_y, highest first"),
        (Self::Divergence, "KL, highest first"),
        (Self::Loss, "loss, highest first"),
        (Self::Margin, "margin, lowest first"),
        (Self::Flips, "times flipped"),
        (Self::Order, "order in the data"),
    ];

    fn key(self, record: &Record) -> f32 {
        match self {
            Self::LeastSure => record.p_true,
            Self::Divergence => -record.kl,
            Self::Loss => -record.loss,
            Self::Margin => record.margin,
            Self::Flips => -f32::from(record.flips),
            Self::Order => 0.0,
        }
    }
}

impl Misclassified {
    pub fn sort_records(&mut self, folder: &std::path::Path, book: &Book) {
        // While training runs the order is renewed now and then, not under one's fingers.
        let wish = (
            folder.to_path_buf(),
            book.version / 24,
            self.fate,
            self.class,
            self.cell,
            self.sort,
            self.epoch,
        );
        if self.ordered.as_ref() == Some(&wish) {
            return;
        }
        let fits = |position: &usize| {
            let record = &book.records[*position];
            let fate = match self.epoch {
                Some(epoch) => record.fate_at(epoch),
                None => record.fate(),
            };
            let kind = match self.fate {
                None => true,
                Some(Kind::Wrong) => matches!(fate, Fate::Wrong),
                Some(Kind::Right) => matches!(fate, Fate::Right),
                Some(Kind::Fooled) => matches!(fate, Fate::Fooled),
                Some(Kind::Robust) => matches!(fate, Fate::Robust),
            };
            let label = book.data.label(*position);
            let cell = self.cell.is_none_or(|cell| {
                let predicted = if cell.adversarial {
                    record.adversarial
                } else {
                    record.natural
                };
                label == cell.truth && predicted.map(usize::from) == Some(cell.predicted)
            });
            let met = record.natural.is_some() || self.sort == Sort::Order;
            kind && cell && met && self.class.is_none_or(|class| class == label)
        };
        let keyed = |position| (self.sort.key(&book.records[position]), position);
        let mut order: Vec<(f32, usize)> = (0..book.records.len()).filter(fits).map(keyed).collect();
        order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        self.order = order.into_iter().map(|(_, position)| position).collect();
        self.ordered = Some(wish);
    }
}
