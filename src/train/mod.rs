//! Training: the loop and all that surrounds it.
//!
//! `begin` sets a run up (new or resumed), `data` packs and opens its text, `trainer` is the loop, `evaluate` the
//! reported loss, `watch` decides on skipped steps and rollbacks, `ngram` is the baseline, `state` and `checkpoint` are
//! what resuming needs, `lock`, `interrupt`, `metrics` and `progress` what their names say, `finish` the end.

pub mod begin;
pub mod checkpoint;
pub mod data;
pub mod evaluate;
pub mod finish;
pub mod interrupt;
pub mod lock;
pub mod metrics;
pub mod ngram;
pub mod progress;
pub mod state;
pub mod trainer;
pub mod watch;

use std::path::PathBuf;

/// What can end a run before its time.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data.
    #[error(transparent)]
    Corpus(#[from] crate::corpus::CorpusError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    /// A model file.
    #[error(transparent)]
    Model(#[from] crate::model::ModelFileError),
    /// The checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::CheckpointError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] metrics::MetricsError),
    /// A file of the run folder.
    #[error(transparent)]
    File(#[from] crate::files::FileError),
    /// Sampling on the way or at the end.
    #[error(transparent)]
    Sample(#[from] crate::sample::SampleError),
    /// The tunes of the end.
    #[error(transparent)]
    Write(#[from] crate::sample::WriteError),
    /// The run folder's lock.
    #[error(transparent)]
    Lock(#[from] lock::LockError),
    /// A file or folder, with what was to be done.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something typed that makes no sense with this data or this run: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A run folder that is not one, or whose parts do not fit each other.
    #[error("{}: {problem}", path.display())]
    Run {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// Rolling back did not help.
    #[error(
        "training diverges: {rollbacks} rollbacks, the learning rate is down to {lr:.2e} and the loss still explodes (step {step}); {} keeps the best weights so far; start anew with a lower --lr or a --clip", folder.display()
    )]
    Diverged {
        /// Rollbacks made.
        rollbacks: u64,
        /// Learning rate at the end.
        lr: f64,
        /// Step.
        step: u64,
        /// The run folder.
        folder: PathBuf,
    },
}
