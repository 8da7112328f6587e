//! Where a result goes that `--json` asks for.

use std::path::Path;

use anyhow::{Context, Result};

use super::{check_writable, terminal::say};
use crate::files;

/// The place that `--json` names.
#[derive(Debug, Clone, Copy)]
pub enum Output<'a> {
    /// None.
    Nowhere,
    /// Standard output, which then holds nothing else.
    Stdout,
    /// A file, a device or a pipe.
    File(&'a Path),
}

impl<'a> Output<'a> {
    /// What the option says.
    pub fn named(path: Option<&'a Path>) -> Self {
        match path {
            None => Self::Nowhere,
            Some(path) if path.as_os_str() == "-" || path == Path::new("/dev/stdout") => Self::Stdout,
            Some(path) => Self::File(path),
        }
    }

    /// [`Output::named`], made sure of before the work: a result must have somewhere to go.
    ///
    /// # Errors
    /// Where nothing can be written there.
    pub fn of(path: Option<&'a Path>) -> Result<Self> {
        let output = Self::named(path);
        output.file().map_or(Ok(()), |path| check_writable("--json", path))?;
        Ok(output)
    }

    /// The file, where it is one.
    pub fn file(self) -> Option<&'a Path> {
        match self {
            Self::File(path) => Some(path),
            _ => None,
        }
    }

    /// Writes the result.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(self, json: &str) -> Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Stdout => {
                say(json.trim_end());
                Ok(())
            }
            Self::File(path) => files::write_whole(path, format!("{}\n", json.trim_end()).as_bytes())
                .with_context(|| format!("the result cannot be written: {}", path.display())),
        }
    }

    /// Says what a person reads, unless standard output belongs to the result, and writes the result.
    ///
    /// # Errors
    /// Where it cannot be written; what a person reads has been said then.
    pub fn deliver(self, json: &str, read: impl FnOnce() -> String) -> Result<()> {
        if !matches!(self, Self::Stdout) {
            say(read());
        }
        self.write(json)
    }
}
