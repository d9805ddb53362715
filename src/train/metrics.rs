//! `metrics.jsonl`: one JSON object a line, appended. A checkpoint remembers how long the file was, and resuming cuts
//! it back to there, so an interrupted run leaves the lines of an undisturbed one (but for the fields `seconds` and
//! `chars_per_second`, which are wall-clock time).

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// File name of the metrics in a run folder.
pub const METRICS: &str = "metrics.jsonl";

/// A write to the metrics that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}; make room or repair the disk, then `train --resume` continues from the last checkpoint", path.display())]
pub struct MetricsError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The open metrics file.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Metrics {
    /// Opens the file and cuts it to `length` bytes (0 for a new run). A file that is shorter than that (its end was
    /// lost with the machine's power) is continued from what there is.
    pub fn open(folder: &Path, length: u64) -> Result<Metrics, MetricsError> {
        let path = folder.join(METRICS);
        let opened = (|| {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            let length = file.metadata()?.len().min(length);
            file.set_len(length)?;
            file.seek(SeekFrom::Start(length))?;
            Ok((file, length))
        })();
        match opened {
            Ok((file, length)) => Ok(Metrics { path, file, length }),
            Err(source) => Err(MetricsError { path, source }),
        }
    }

    /// Appends one event as one line, with one write.
    pub fn write(&mut self, event: &Value) -> Result<(), MetricsError> {
        let line = format!("{event}\n");
        self.file
            .write_all(line.as_bytes())
            .map_err(|source| MetricsError { path: self.path.clone(), source })?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Makes what was written durable and tells the file's length: what a checkpoint remembers.
    pub fn sync(&mut self) -> Result<u64, MetricsError> {
        self.file.sync_data().map_err(|source| MetricsError { path: self.path.clone(), source })?;
        Ok(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reopening_cuts_back_to_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        let mut metrics = Metrics::open(folder.path(), 0).unwrap();
        metrics.write(&json!({"event": "a"})).unwrap();
        let kept = metrics.sync().unwrap();
        metrics.write(&json!({"event": "lost"})).unwrap();
        drop(metrics);
        let mut metrics = Metrics::open(folder.path(), kept).unwrap();
        metrics.write(&json!({"event": "b"})).unwrap();
        let text = std::fs::read_to_string(folder.path().join(METRICS)).unwrap();
        assert_eq!(text, "{\"event\":\"a\"}\n{\"event\":\"b\"}\n");
    }
}
