//! The paper's experiments as one resumable grid, what they found ([`results`]), and what is said about it.
//!
//! [`grid`] says which trials there are, [`schedule`] runs them side by side and gathers the [`Results`]; [`contract`]
//! and [`assignment`] are the two protocols, [`songs`], [`losses`] and [`ngrams`] what they measure with, [`folder`] is
//! the study's folder, [`trial`] a trial's result in it, [`board`] the one bar.

pub mod assignment;
pub mod board;
pub mod collect;
pub mod contract;
pub mod folder;
pub mod grid;
mod grid_file;
pub mod losses;
pub mod ngrams;
pub mod results;
pub mod schedule;
pub mod songs;
pub mod trial;

pub use results::Results;

use std::path::PathBuf;

/// What can end a study before its time, or one of its trials.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// Training, its data, its files.
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    /// The data.
    #[error(transparent)]
    Corpus(#[from] crate::corpus::CorpusError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    /// A model file.
    #[error(transparent)]
    Model(#[from] crate::model::ModelFileError),
    /// A file of the study's folder.
    #[error(transparent)]
    File(#[from] crate::files::FileError),
    /// Something typed that makes no sense with this data or this folder: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// A file or folder of the study that is not what it should be.
    #[error("{}: {problem}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A loss that is no number.
    #[error(
        "training diverges: the loss of epoch {epoch} is not a number; try a smaller network or less dropout"
    )]
    Diverged {
        /// The epoch, from 1.
        epoch: u64,
    },
}
