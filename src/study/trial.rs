//! A trial: what it is, where it lies in the study's folder, and its result there. The result's presence means that
//! the trial is done.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::StudyError;
use super::results::{Protocol, Trial, Variant};

/// File name of a trial's result in its folder.
pub const RESULT: &str = "result.json";

/// Which trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// How it is trained.
    pub protocol: Protocol,
    /// What is trained.
    pub variant: Variant,
    /// Seed of weights, order, slices and dropout.
    pub seed: u64,
}

impl Job {
    /// Its folder, relative to the study's: `trials/lstm-1x150-seed1`, `assignment/lstm-1x150-seed1`.
    pub fn folder(&self) -> String {
        let under = match self.protocol {
            Protocol::Contract => "trials",
            Protocol::Assignment => "assignment",
        };
        format!("{under}/{}-seed{}", self.variant.key(), self.seed)
    }

    /// Whether a result is this trial's.
    fn owns(&self, trial: &Trial) -> bool {
        (trial.protocol, trial.variant, trial.seed) == (self.protocol, self.variant, self.seed)
            && trial.folder == self.folder()
    }
}

impl fmt::Display for Job {
    /// `lstm-1x150 seed 1`, `lstm-1x150 seed 1 (assignment)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seed {}", self.variant.key(), self.seed)?;
        match self.protocol {
            Protocol::Contract => Ok(()),
            Protocol::Assignment => f.write_str(" (assignment)"),
        }
    }
}

/// What was found where a trial's result should be.
#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// None yet.
    None,
    /// It is done.
    Done(Box<Trial>),
    /// Something that is not its result: what is wrong with it.
    Damaged(String),
}

/// The result of a trial, where it is done.
pub fn load(out: &Path, job: &Job) -> Result<Stored, StudyError> {
    let path = path(out, job);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Stored::None);
        }
        Err(source) => return Err(crate::train::TrainError::Io { action: "read", path, source }.into()),
    };
    Ok(match serde_json::from_slice::<Trial>(&bytes) {
        Ok(trial) if job.owns(&trial) => Stored::Done(Box::new(trial)),
        Ok(trial) => Stored::Damaged(format!(
            "{} is the result of another trial ({} seed {})",
            path.display(),
            trial.variant.key(),
            trial.seed
        )),
        Err(error) => Stored::Damaged(format!("{} is damaged ({error})", path.display())),
    })
}

/// Writes a trial's result and gives back what a later reader will find: decimal text may be one unit in the last
/// place off, and whoever computes with a fresh result must get the same as whoever reads it.
pub fn store(out: &Path, job: &Job, trial: &Trial) -> Result<Trial, StudyError> {
    let path = path(out, job);
    let damaged =
        |error: serde_json::Error| StudyError::Damaged { path: path.clone(), problem: error.to_string() };
    let mut text = serde_json::to_string_pretty(trial).map_err(damaged)?;
    text.push('\n');
    let trial = serde_json::from_str(&text).map_err(damaged)?;
    crate::files::write_atomic(&path, text.as_bytes())?;
    Ok(trial)
}

fn path(out: &Path, job: &Job) -> PathBuf {
    out.join(job.folder()).join(RESULT)
}
