//! Tunes as training text: reading, vocabulary, the packed file, splits, batches.

pub mod batches;
pub mod pack;
pub mod vocab;

pub use batches::{Cursor, EvalStreams, TrainStreams};
pub use pack::Pack;
pub use vocab::Vocab;

/// Which part of a corpus a tune belongs to: decided by a hash of its body, so that duplicates never straddle it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Split {
    /// 90%.
    Train = 0,
    /// 5%.
    Validation = 1,
    /// 5%.
    Test = 2,
}

/// What can go wrong with a corpus.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// Placeholder until the readers are in.
    #[error("{0}")]
    Other(String),
}
