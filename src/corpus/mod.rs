//! Tunes as training text: reading, vocabulary, the packed file, splits, batches.
//!
//! `tunes` finds files and cuts text into tunes, `blocks` reads files in bounded memory on all cores, `writer` packs
//! with them in three readings (what is each file? which tunes and characters? tokens), `format` is the packed
//! file's layout, `pack` reads it, `batches` makes chunks of it.

pub mod batches;
mod blocks;
mod error;
pub mod format;
mod map;
pub mod pack;
pub mod sources;
mod spill;
pub mod split;
pub mod tunes;
pub mod vocab;
pub mod writer;

pub use batches::{Cursor, EvalStreams, TrainStreams};
pub use error::CorpusError;
pub use pack::Pack;
pub use split::Split;
pub use tunes::Notes;
pub use vocab::Vocab;
pub use writer::{PackOptions, PackSummary, Progress, open_data, open_data_with, pack_to, source_checksums};
