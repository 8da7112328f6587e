//! What can be wrong with a data set, said so that a person can put it right.

use std::path::{Path, PathBuf};

use crate::{
    memory::{OverBudget, VARIABLE},
    wording::meant,
};

/// Where in a file something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    File,
    /// At an offset from the file's beginning, counted after unpacking.
    Byte(u64),
    /// In one named entry: an example, a file in an archive, an array.
    Entry(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::File => write!(f, "the file"),
            Place::Byte(offset) => write!(f, "at byte {offset}"),
            Place::Entry(name) => write!(f, "in {name}"),
        }
    }
}

/// The kinds of data sets, by which a source begins.
pub const KINDS: [&str; 12] = [
    "glyphs",
    "fashion",
    "mnist",
    "fashion-mnist",
    "cifar10",
    "cifar100",
    "cifar10-c",
    "svhn",
    "tiny-imagenet",
    "folder",
    "npz",
    "pseudo-labelled",
];

/// Why a data set could not be had. Every message says what was expected, what came, the way out, and the path last.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No kind of data set has this name.
    #[error(
        "no data set is called {given:?}{}; expected glyphs, glyphs:SEED, fashion, mnist:FOLDER, fashion-mnist:FOLDER, \
         cifar10:PATH, cifar100:PATH, cifar10-c:FOLDER/CORRUPTION, svhn:FOLDER, tiny-imagenet:FOLDER, folder:PATH, npz:PATH or \
         pseudo-labelled:FILE",
        meant(given.split(':').next().unwrap_or_default(), KINDS)
    )]
    UnknownSource {
        /// What was asked for.
        given: String,
    },
    /// A file or folder is not there.
    #[error("found no {what}; expected {expected}; {way_out}: {}", path.display())]
    Missing {
        /// What was looked for, in words.
        what: String,
        /// Which names would have been taken.
        expected: String,
        /// What to do.
        way_out: String,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The system refused to read or write.
    #[error("could not {doing}: {error}: {}", path.display())]
    Io {
        /// What was being done, such as "read the file".
        doing: &'static str,
        /// The system's reason.
        #[source]
        error: std::io::Error,
        /// The file.
        path: PathBuf,
    },
    /// A file is there and does not hold what it should.
    #[error("{place}: expected {expected}, got {got}; {way_out}: {}", path.display())]
    Malformed {
        /// Where in the file.
        place: Place,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
        /// What to do.
        way_out: String,
        /// The file.
        path: PathBuf,
    },
    /// The source holds one set of images only, and the test split was asked for.
    #[error(
        "expected test images, got {got}; hold out a part of the training set instead (a held-out split by seed), \
         or ask for the training split: {}", path.display()
    )]
    NoTestSplit {
        /// What the source holds, in words.
        got: String,
        /// The source.
        path: PathBuf,
    },
    /// The source is a test set, and the training split was asked for.
    #[error("expected training images, got {got}; train on another source and evaluate on this one: {}", path.display())]
    NoTrainingSplit {
        /// What the source is, in words.
        got: String,
        /// The source.
        path: PathBuf,
    },
    /// More memory would be taken than is allowed.
    #[error("{what}: {over}; allow more with --memory, such as --memory 16GiB, or {VARIABLE}, or name less data: {}", path.display())]
    Memory {
        /// What would take it.
        what: String,
        /// How much, and what is allowed.
        over: OverBudget,
        /// The file.
        path: PathBuf,
    },
    /// A format that is known and not read.
    #[error("expected a format that is read here, got {format}; {way_out}: {}", path.display())]
    OtherFormat {
        /// The format.
        format: String,
        /// How to make one of it that is read.
        way_out: String,
        /// The file.
        path: PathBuf,
    },
    /// Parts that do not make one data set.
    #[error("expected {expected}, got {got}, in the data set {name:?}")]
    Parts {
        /// What should hold.
        expected: String,
        /// What holds.
        got: String,
        /// The data set's name.
        name: String,
    },
    /// A download did not come through.
    #[error("could not download {file}: {reason}; {way_out}: {}", path.display())]
    Download {
        /// The file's name.
        file: String,
        /// What went wrong.
        reason: String,
        /// What to do.
        way_out: String,
        /// Where the file belongs.
        path: PathBuf,
    },
}

/// What to do about a file that broke on its way.
pub(super) const FETCH_AGAIN: &str = "fetch the file again, it is damaged or cut short";

/// A [`DataError::Malformed`] of one file, for `map_err` and `return Err`.
pub(super) fn malformed(
    path: &Path,
    place: Place,
    expected: impl Into<String>,
    got: impl Into<String>,
    way_out: impl Into<String>,
) -> DataError {
    DataError::Malformed {
        place,
        expected: expected.into(),
        got: got.into(),
        way_out: way_out.into(),
        path: path.into(),
    }
}

/// A [`DataError::Memory`] of one file, for `map_err`.
pub(super) fn over(path: &Path, what: impl Into<String>, over: OverBudget) -> DataError {
    DataError::Memory {
        what: what.into(),
        over,
        path: path.into(),
    }
}
