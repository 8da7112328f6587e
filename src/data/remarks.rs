//! What a person should know of a set that could be read: remarks that stand beside every figure.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{Dataset, npz::EXACT};
use crate::wording::{counted, grouped};

/// Pixels that are all below this are almost black. Twelve bits kept in sixteen come to 0.063.
const DARK: f32 = 0.1;

/// "class 3", or how many classes; none where there is none.
pub(super) fn some_of(classes: &[&str]) -> Option<String> {
    Some(match classes {
        [] => return None,
        [one] => format!("class {one}"),
        [first, .., last] => format!("{} classes, the first {first}, the last {last}", classes.len()),
    })
}

impl Dataset {
    /// A remark on a set that is almost black: a mistake in its scale, to which no format is blind.
    pub(super) fn darkness(&self) -> Option<String> {
        // Most sets are bright within their first pixels.
        let brighter = |most: f32, value: f32| (value <= DARK).then(|| most.max(value));
        let (brightest, seen) = match &self.whole.exact {
            Some(values) => {
                let brightest = values.iter().copied().try_fold(0.0, brighter)?;
                (brightest, format!("{brightest:.4} of 1"))
            }
            None => {
                let mut values = self.whole.images.iter().map(|byte| f32::from(*byte) / 255.0);
                let brightest = values.try_fold(0.0, brighter)?;
                (brightest, format!("{} of 255", (brightest * 255.0).round()))
            }
        };
        if brightest == 0.0 {
            return Some("every pixel is 0".into());
        }
        let reason = if brightest > 1.5 / 255.0 {
            "12 bits kept in 16? multiply the pixels until white is the largest value (12 bits in 16: by 16)"
        } else if self.is_exact() {
            "divided by 255 twice? multiply the pixels by 255"
        } else {
            "pixels of 0 and 1, 8 bits kept in 16, or divided by 255 twice? multiply them by 255"
        };
        Some(format!("the brightest value is {seen}, almost black: {reason}"))
    }

    /// The examples at `positions`, with a remark where they have none of a class that this set has.
    pub(super) fn part(&self, positions: &[usize]) -> Dataset {
        let part = self.subset(positions);
        let lost = self.by_class().into_iter().zip(part.by_class()).enumerate();
        let lost: Vec<&str> = lost
            .filter(|(_, (whole, part))| part.is_empty() && !whole.is_empty())
            .map(|(class, _)| self.class_names()[class].as_str())
            .collect();
        let remark = some_of(&lost).map(|lost| {
            let of = counted(self.len(), "example", "examples");
            format!("{} of {of} taken, none of them of {lost}", grouped(part.len()))
        });
        part.with_notes(remark)
    }

    /// A number for the image at a position: that of another image only where both are the same, pixel for pixel. (Among a million
    /// images, two others share one by a chance of one in thirty million.)
    fn picture(&self, position: usize) -> u64 {
        let mut hash = DefaultHasher::new();
        let bytes = self.image(position);
        let values = self.is_exact().then(|| self.values(position));
        // An image of whole 255ths is the same in a set that has other values elsewhere.
        let between = |values: &Vec<f32>| {
            let mut pairs = values.iter().zip(bytes);
            pairs.any(|(value, byte)| (value - f32::from(*byte) / 255.0).abs() > EXACT)
        };
        match values.filter(between) {
            Some(values) => values.iter().for_each(|value| value.to_bits().hash(&mut hash)),
            None => hash.write(bytes),
        }
        hash.finish()
    }
}

/// The images of a set by their numbers, each with its label; without one where it has two.
struct Pictures {
    numbers: Vec<u64>,
    labels: HashMap<u64, Option<usize>>,
}

impl Pictures {
    fn of(set: &Dataset) -> Pictures {
        let numbers: Vec<u64> = (0..set.len()).map(|position| set.picture(position)).collect();
        let mut labels = HashMap::with_capacity(numbers.len());
        for (position, number) in numbers.iter().enumerate() {
            let label = set.label(position);
            let known = labels.entry(*number).or_insert(Some(label));
            *known = known.filter(|known| *known == label);
        }
        Pictures { numbers, labels }
    }

    /// A remark on images of this set that stand under two labels.
    fn doubtful(&self, what: &str) -> Option<String> {
        let doubtful = |number: &&u64| self.labels[*number].is_none();
        let found = self.numbers.iter().filter(doubtful).count();
        (found > 0).then(|| {
            let all = grouped(self.numbers.len());
            format!(
                "{} of {all} {what} images stand under two labels, pixel for pixel",
                grouped(found)
            )
        })
    }
}

/// Remarks on images that a network would be trained and measured on, and on those that stand under two labels. `parts` are those of a data
/// set with their names, first the one that is learned.
pub(crate) fn twins(parts: &[(&str, &Dataset)]) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut first: Option<(&str, Pictures)> = None;
    for (what, set) in parts {
        let pictures = Pictures::of(set);
        remarks.extend(pictures.doubtful(what));
        let Some((learned, known)) = &first else {
            first = Some((what, pictures));
            continue;
        };
        let shared = pictures.numbers.iter().enumerate().filter_map(|(position, number)| {
            let label = known.labels.get(number)?;
            Some(label.is_some_and(|label| label != set.label(position)))
        });
        let shared: Vec<bool> = shared.collect();
        if shared.is_empty() {
            continue;
        }
        let (found, all) = (grouped(shared.len()), grouped(set.len()));
        let otherwise = match shared.iter().filter(|other| **other).count() {
            0 => String::new(),
            count => format!(", {} of them under another label", grouped(count)),
        };
        remarks.push(format!(
            "{found} of {all} {what} images are {learned} images, pixel for pixel{otherwise}"
        ));
    }
    remarks
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::shapes::ImageShape;

    const ONE: ImageShape = ImageShape {
        channels: 1,
        height: 1,
        width: 1,
    };

    fn set(values: &[f32], labels: &[u16]) -> Dataset {
        let classes = ["a", "b", "c"].map(String::from).to_vec();
        Dataset::from_values("set", ONE, classes, values.to_vec(), labels.to_vec()).unwrap()
    }

    #[test]
    fn images_in_two_parts_and_under_two_labels_are_counted() {
        let bytes = Dataset::from_parts(
            "bytes",
            ONE,
            ["a", "b", "c"].map(String::from).to_vec(),
            vec![0, 51, 102, 51, 204],
            vec![0, 1, 2, 0, 1],
        )
        .unwrap();
        // Whole 255ths among values that are none: the same images.
        let test = set(&[0.2, 0.4, 0.8, 0.1234], &[1, 2, 0, 0]);
        assert_eq!(
            twins(&[("training", &bytes), ("test", &test)]),
            [
                "2 of 5 training images stand under two labels, pixel for pixel",
                "3 of 4 test images are training images, pixel for pixel, 1 of them under another label",
            ]
        );
        let same = set(&[0.1234, 0.1234], &[0, 0]);
        assert_eq!(
            twins(&[
                ("training", &test),
                ("test", &same),
                ("held-out", &set(&[0.12345], &[0]))
            ]),
            ["2 of 2 test images are training images, pixel for pixel"]
        );
        assert!(twins(&[("test", &same)]).is_empty() && twins(&[]).is_empty());
    }
}
