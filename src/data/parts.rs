//! What a folder's name says of the pictures in it: a part of the set, a kind of files, or a class.

/// The part that a folder's name stands for, in any case of letters.
#[derive(Clone, Copy, PartialEq)]
pub enum Part {
    Train,
    Validation,
    Test,
}

/// What folders are called for the files in them, whatever their class.
const KINDS: [&str; 20] = [
    "images",
    "image",
    "imgs",
    "img",
    "jpegimages",
    "pictures",
    "pics",
    "photos",
    "frames",
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "annotation",
    "segmentation",
    "data",
    "dataset",
    "set",
    "split",
];

/// Those of them that name no class beside any other.
const PICTURES: [&str; 3] = ["images", "imgs", "jpegimages"];

/// The part of this name.
pub fn part_of(folder: &str) -> Option<Part> {
    Some(match folder.to_lowercase().as_str() {
        "train" | "training" => Part::Train,
        "val" | "valid" | "validation" => Part::Validation,
        "test" | "testing" => Part::Test,
        _ => return None,
    })
}

/// The part that a name begins or ends with, and its other words: `dogs_train`, `testA`.
pub fn part_within(folder: &str) -> Option<(Part, Vec<String>)> {
    let mut words = words(folder);
    if let Some(part) = part_of(words.first()?) {
        words.remove(0);
        return Some((part, words));
    }
    let part = part_of(&words.pop()?)?;
    Some((part, words))
}

/// Whether a name is a part, or a kind of files: no class among its like, but a train and masks are classes among others.
pub fn is_general(name: &str) -> bool {
    let name = name.to_lowercase();
    KINDS.contains(&name.as_str()) || part_of(&name).is_some()
}

/// Whether a name is no class among any others: `images`, `train_images`, `val2017`.
pub fn is_no_class(folder: &str) -> bool {
    let (name, words) = (folder.to_lowercase(), words(folder));
    let more_than_part = words.iter().any(|word| part_of(word).is_some()) && words != [name.as_str()];
    PICTURES.contains(&name.as_str()) || (more_than_part && words.iter().all(|word| is_general(word)))
}

/// The words of a name in small letters, without the numbers at their ends.
fn words(folder: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut was_small = false;
    for letter in folder.chars() {
        if was_small && letter.is_uppercase() || matches!(letter, '_' | '-' | '.' | ' ') {
            words.push(String::new());
        }
        was_small = letter.is_lowercase();
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphanumeric()) {
            word.extend(letter.to_lowercase());
        }
    }
    let without_number = |word: &String| {
        word.trim_end_matches(|letter: char| letter.is_ascii_digit())
            .to_string()
    };
    words
        .iter()
        .map(without_number)
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_are_no_classes_and_names_of_things_are() {
        for name in [
            "images",
            "train_images",
            "Test-Images",
            "val2017",
            "training_set",
            "TrainImages",
            "train_1",
        ] {
            assert!(is_no_class(name), "{name}");
        }
        for name in [
            "train",
            "masks",
            "bullet_train",
            "train_station",
            "test_tube",
            "label_0",
            "001",
            "n01443537",
            "dogs_train",
            "set1",
            "valid",
            "invalid",
        ] {
            assert!(!is_no_class(name), "{name}");
        }
        assert!(is_general("Train") && is_general("masks") && !is_general("boat"));
        let within = |name| part_within(name).map(|(_, rest)| rest.concat());
        assert_eq!(
            ["dogs_train", "testA", "train", "bullet-train", "boat", "7"].map(within),
            [Some("dogs"), Some("a"), Some(""), Some("bullet"), None, None].map(|rest| rest.map(String::from))
        );
    }
}
