//! `metrics.jsonl`: one event a line, appended, and cut back to a checkpoint's length when a run resumes.

use super::{RunError, atomic::write_atomic};
use crate::seal;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The name of the file in a run's folder.
pub(super) const METRICS_FILE: &str = "metrics.jsonl";

/// A place in the metrics, always at the end of a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Bytes before it.
    pub bytes: u64,
    /// Lines before it.
    pub lines: u64,
    /// Their MD5; a run of format 1 has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub md5: String,
}

impl Mark {
    /// Whether this is what the metrics hold where `other` says so.
    fn is(&self, other: &Mark) -> bool {
        (self.bytes, self.lines) == (other.bytes, other.lines) && (other.md5.is_empty() || self.md5 == other.md5)
    }

    /// [`RunError::Damaged`]: these are not the metrics that a checkpoint of this mark knows.
    fn missed(&self, found: &Mark, path: &Path) -> RunError {
        let got = if (self.bytes, self.lines) == (found.bytes, found.lines) {
            "as many with other content".to_string()
        } else {
            format!("{} lines in {} bytes", found.lines, found.bytes)
        };
        RunError::Damaged {
            expected: format!(
                "metrics that hold the checkpoint's {} lines in their first {} bytes",
                self.lines, self.bytes
            ),
            got,
            way_out: "put the file back from a copy, or let `martlet train --resume` make its epochs anew from the checkpoint",
            path: path.to_path_buf(),
        }
    }
}

/// The metrics, open for the one process that holds the run's lock.
pub(super) struct Metrics {
    file: File,
    path: PathBuf,
    /// The end of the last whole line: what the file is cut back to when a write fails.
    end: End,
    /// Bytes of a failed write may still follow the end.
    torn: bool,
}

/// A place with the hash of everything before it.
#[derive(Clone, Default)]
struct End {
    bytes: u64,
    lines: u64,
    hash: Md5,
}

impl End {
    fn mark(&self) -> Mark {
        Mark {
            bytes: self.bytes,
            lines: self.lines,
            md5: seal::hex(self.hash.clone()),
        }
    }

    fn add(&mut self, line: &[u8]) {
        self.bytes += line.len() as u64;
        self.lines += 1;
        self.hash.update(line);
    }
}

impl Metrics {
    /// Opens the file and removes a last line that a kill has torn.
    pub fn open(folder: &Path) -> Result<Metrics, RunError> {
        let path = folder.join(METRICS_FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(&path)
            .map_err(|error| missing(error, &path))?;
        let (end, length) = scan(&mut file, u64::MAX).map_err(RunError::io("read the metrics", &path))?;
        let mut metrics = Metrics {
            file,
            path,
            torn: length > end.bytes,
            end,
        };
        metrics.mend()?;
        Ok(metrics)
    }

    /// The end of the last whole line.
    pub fn end(&self) -> Mark {
        self.end.mark()
    }

    /// Appends one event as one line, in one write; when that fails, the file is cut back to what it was.
    pub fn append(&mut self, event: &Value) -> Result<(), RunError> {
        if kind(event).is_none() {
            return Err(RunError::Event { got: event.to_string() });
        }
        self.mend()?;
        let mut line = event.to_string().into_bytes();
        line.push(b'\n');
        self.torn = true;
        // `write_all` is one call unless the system took only a part; then its second call has the reason.
        let outcome = self.file.write_all(&line);
        if let Err(source) = outcome {
            let _ = self.mend();
            return Err(RunError::Io {
                doing: "append to the metrics",
                source,
                path: self.path.clone(),
            });
        }
        self.torn = false;
        self.end.add(&line);
        Ok(())
    }

    /// Waits until the disk has every line.
    pub fn sync(&mut self) -> Result<(), RunError> {
        self.mend()?;
        self.file
            .sync_all()
            .map_err(RunError::io("sync the metrics", &self.path))
    }

    /// Whether `mark` is a place in this file, with the lines before it that the checkpoint knew.
    ///
    /// # Errors
    /// [`RunError::Damaged`] if it is not.
    pub fn verify(&mut self, mark: &Mark) -> Result<(), RunError> {
        let (found, _) = scan(&mut self.file, mark.bytes).map_err(RunError::io("read the metrics", &self.path))?;
        let found = found.mark();
        if found.is(mark) {
            return Ok(());
        }
        Err(mark.missed(&found, &self.path))
    }

    /// Removes everything after `mark`, which is a place in this file.
    pub fn cut_back(&mut self, mark: &Mark) -> Result<(), RunError> {
        let (end, _) = scan(&mut self.file, mark.bytes).map_err(RunError::io("read the metrics", &self.path))?;
        self.torn = end.bytes != self.end.bytes;
        self.end = end;
        self.sync()
    }

    fn mend(&mut self) -> Result<(), RunError> {
        if self.torn {
            self.file
                .set_len(self.end.bytes)
                .map_err(RunError::io("cut back the metrics", &self.path))?;
            self.torn = false;
        }
        Ok(())
    }
}

/// The end of the last whole line within the first `limit` bytes, and how many bytes were there at all.
fn scan(file: &mut File, limit: u64) -> io::Result<(End, u64)> {
    file.seek(SeekFrom::Start(0))?;
    let (mut end, mut length) = (End::default(), 0u64);
    let mut lines = io::BufReader::with_capacity(1 << 16, file.take(limit));
    let mut line = Vec::new();
    loop {
        line.clear();
        let count = lines.read_until(b'\n', &mut line)?;
        length += count as u64;
        if !line.ends_with(b"\n") {
            return Ok((end, length));
        }
        end.add(&line);
    }
}

/// Writes the metrics anew from these events.
pub(super) fn rewrite(folder: &Path, events: impl Iterator<Item = Value>) -> Result<(), RunError> {
    let text: String = events.map(|event| format!("{event}\n")).collect();
    write_atomic(&folder.join(METRICS_FILE), text.as_bytes())
}

fn missing(error: io::Error, path: &Path) -> RunError {
    if error.kind() != io::ErrorKind::NotFound {
        return RunError::Io {
            doing: "open the metrics",
            source: error,
            path: path.to_path_buf(),
        };
    }
    RunError::Damaged {
        expected: format!("the run's {METRICS_FILE}"),
        got: "none".to_string(),
        way_out: "put the file back from a copy, or start a new run from this one's recipe.toml",
        path: path.to_path_buf(),
    }
}

/// The kind of an event: its field `event`.
fn kind(event: &Value) -> Option<&str> {
    event.get("event")?.as_str()
}

/// Every event; a last line that a kill has torn is left out. `known` is a place that a checkpoint knows.
pub(super) fn read(folder: &Path, known: Option<&Mark>) -> Result<Vec<Value>, RunError> {
    let path = folder.join(METRICS_FILE);
    let bytes = fs::read(&path).map_err(|error| missing(error, &path))?;
    if let Some(mark) = known {
        let mut end = End::default();
        let within = &bytes[..bytes.len().min(usize::try_from(mark.bytes).unwrap_or(usize::MAX))];
        let whole = within.split_inclusive(|byte| *byte == b'\n');
        whole
            .filter(|line| line.ends_with(b"\n"))
            .for_each(|line| end.add(line));
        if !end.mark().is(mark) {
            return Err(mark.missed(&end.mark(), &path));
        }
    }
    let mut events = Vec::new();
    let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        let last = lines.peek().is_none();
        match serde_json::from_slice(line) {
            Ok(_) if !line.ends_with(b"\n") => {} // its writer may be about to go on with it
            Ok(event) => events.push(event),
            Err(_) if last => {}
            Err(error) => {
                return Err(RunError::Damaged {
                    expected: "one JSON object on each line".to_string(),
                    got: format!("something else on line {} ({error})", number + 1),
                    way_out: "remove that line, or put the file back from a copy",
                    path,
                });
            }
        }
    }
    Ok(events)
}

/// What the end of the metrics says about a run.
#[derive(Default)]
pub(super) struct Ending {
    /// The kind of the last event that says how far the run came.
    pub kind: Option<String>,
    /// The last event of the kind "epoch".
    pub epoch: Option<Value>,
}

/// Reads the end of the metrics, as little of it as holds the answers: the file may be long and the runs many.
pub(super) fn ending(folder: &Path) -> Result<Ending, RunError> {
    const TELLING: [&str; 8] = [
        "started",
        "resumed",
        "step",
        "epoch",
        "checkpoint",
        "finished",
        "stopped",
        "failed",
    ];
    const FURTHEST: u64 = 4 << 20;
    let path = folder.join(METRICS_FILE);
    let mut file = File::open(&path).map_err(|error| missing(error, &path))?;
    let failed = |source| RunError::Io {
        doing: "read the metrics",
        source,
        path: path.clone(),
    };
    let length = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let mut span = 1 << 16;
    loop {
        let start = length.saturating_sub(span);
        let mut bytes = Vec::with_capacity(span.min(length) as usize);
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        (&mut file).take(span).read_to_end(&mut bytes).map_err(failed)?;
        // The first line is a part of one unless it begins the file, and the last has no end if it is torn.
        let whole = bytes
            .split_inclusive(|byte| *byte == b'\n')
            .skip(usize::from(start > 0));
        let mut ending = Ending::default();
        for line in whole
            .filter(|line| line.ends_with(b"\n"))
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            let Ok(event) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            let Some(name) = kind(&event) else { continue };
            if ending.kind.is_none() && TELLING.contains(&name) {
                ending.kind = Some(name.to_string());
            }
            if name == "epoch" {
                ending.epoch = Some(event);
                break;
            }
        }
        if ending.epoch.is_some() || start == 0 || span >= FURTHEST {
            return Ok(ending);
        }
        span *= 4;
    }
}
