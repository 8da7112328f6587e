//! Event files that TensorBoard reads: a run's figures as scalars.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{engine::Event, protobuf::Message};

/// An event file in the making.
pub struct Writer {
    file: BufWriter<File>,
    path: PathBuf,
    /// Seconds since 1970 at which the session's clock stood at zero.
    begun: f64,
}

impl Writer {
    /// Begins a new file in a folder, which is made where it is not there. TensorBoard joins the files of a folder, so that a
    /// resumed run adds one. `begun` is when the events' clock began.
    ///
    /// # Errors
    /// When the folder or the file cannot be made.
    pub fn create(folder: &Path, begun: SystemTime) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let now = seconds(SystemTime::now());
        // TensorBoard takes files by this name in the order of their times.
        let mut name = now as u64;
        let (file, path) = loop {
            let path = folder.join(format!("events.out.tfevents.{name:010}.martlet"));
            match File::create_new(&path) {
                Ok(file) => break (file, path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => name += 1,
                Err(error) => return Err(error),
            }
        };
        let mut writer = Self {
            file: BufWriter::new(file),
            path,
            begun: seconds(begun),
        };
        writer.record(Message::new().double(1, writer.begun).bytes(3, "brain.Event:2"))?;
        writer.file.flush()?;
        Ok(writer)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what an event has to show; other kinds of events have nothing. Reports of training become `train/NAME`,
    /// `learning_rate` and `epsilon`, means over an epoch `epoch/NAME`, accuracies `SPLIT/ATTACK`; the step counts minibatches of the
    /// whole run.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn event(&mut self, event: &Event) -> std::io::Result<()> {
        let (step, seconds, scalars): (usize, f64, Vec<(String, f64)>) = match event {
            Event::Started(started) => {
                // A session's start: TensorBoard forgets what it had of later steps.
                let start = Message::new().int(1, 1);
                let steps = started.steps_done as i64;
                self.record(Message::new().double(1, self.begun).int(2, steps + 1).message(7, start))?;
                return self.file.flush();
            }
            Event::Step(report) => {
                let figures = report
                    .figures
                    .iter()
                    .map(|(name, value)| (format!("train/{name}"), *value));
                let course = [("learning_rate", report.learning_rate), ("epsilon", report.epsilon)];
                let course = course.map(|(name, value)| (name.to_string(), value));
                (
                    report.total_steps,
                    report.clock.seconds,
                    figures.chain(course).collect(),
                )
            }
            Event::Epoch(report) => {
                let means = report
                    .train
                    .iter()
                    .map(|(name, value)| (format!("epoch/{name}"), *value));
                let split = &report.split;
                let accuracies = report
                    .accuracy
                    .iter()
                    .map(|(attack, value)| (format!("{split}/{attack}"), *value));
                (
                    report.total_steps,
                    report.clock.seconds,
                    means.chain(accuracies).collect(),
                )
            }
            _ => return Ok(()),
        };
        let value = |(tag, value): (String, f64)| Message::new().bytes(1, tag).float(2, value as f32);
        let summary = Message::new().messages(1, scalars.into_iter().map(value));
        let time = self.begun + seconds;
        self.record(Message::new().double(1, time).int(2, step as i64).message(5, summary))?;
        self.file.flush()
    }

    /// Writes an `Event` (fields by the numbers of `event.proto`) in TFRecord's frame: the length, its checksum, the bytes, theirs.
    fn record(&mut self, event: Message) -> std::io::Result<()> {
        let bytes = event.into_bytes();
        let length = (bytes.len() as u64).to_le_bytes();
        self.file.write_all(&length)?;
        self.file.write_all(&masked(&length).to_le_bytes())?;
        self.file.write_all(&bytes)?;
        self.file.write_all(&masked(&bytes).to_le_bytes())
    }
}

/// CRC-32C, turned and moved so that a checksum of something that holds checksums is as good as any.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_step_is_written_byte_for_byte_as_tensorboard_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(folder.path(), UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        let event = serde_json::from_value(serde_json::json!({
            "event": "step", "epoch": 1, "step": 3, "total_steps": 3, "learning_rate": 0.5, "epsilon": 0.25,
            "figures": { "loss": 2.25 }, "clock": { "seconds": 1.5, "evaluating": 0.0 }
        }))
        .unwrap();
        writer.event(&event).unwrap();
        let bytes = std::fs::read(writer.path()).unwrap();
        let written: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, GOLDEN);
    }

    /// From `tests/golden/tensorboard_bytes.py`.
    const GOLDEN: &str = "1800000000000000a37f4b2209000000000000f03f1a0d627261696e2e4576656e743a3286bf577a46000000000000007235\
         b9a509000000000000044010032a390a110a0a747261696e2f6c6f737315000010400a140a0d6c6561726e696e675f726174\
         65150000003f0a0e0a07657073696c6f6e150000803e02431548";
}
