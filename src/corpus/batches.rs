//! From tunes to chunks: B parallel streams, each reading one tune after another.
//!
//! A tune of n tokens gives n-1 predictions: inputs are its tokens but the last, targets its tokens but the first,
//! and its first input has the reset flag. A stream that has finished its tune takes the next one from a queue
//! shared by all streams: the tunes in the epoch's shuffled order, then those of the next epoch, and so on.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Pack;
use crate::engine::Chunk;

/// Where the training streams are: all that resuming needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Epoch of the queue's head.
    pub epoch: u64,
    /// Next position in the epoch's order.
    pub next: usize,
    /// For each stream: (index of the tune in the pack, position of the next input in it).
    pub streams: Vec<(u32, u32)>,
    /// Characters predicted so far, all streams.
    pub predicted: u64,
}

/// Endless training streams.
#[derive(Debug)]
pub struct TrainStreams {}

impl TrainStreams {
    /// Streams over `tunes` (indices into `pack`; at least `streams` of them), tokens remapped through `map`.
    pub fn new(_pack: Arc<Pack>, _tunes: Vec<u32>, _map: Vec<u16>, _streams: usize, _seed: u64) -> Self {
        todo!()
    }
    /// Predictions in one pass over all tunes.
    pub fn predictions_per_epoch(&self) -> u64 {
        todo!()
    }
    /// Fills the next chunk (its size tells T and B).
    pub fn fill(&mut self, _chunk: &mut Chunk) {
        todo!()
    }
    /// Where the streams are.
    pub fn cursor(&self) -> Cursor {
        todo!()
    }
    /// Continues from a cursor; refuses one that does not fit the tunes.
    pub fn seek(&mut self, _cursor: &Cursor) -> Result<(), super::CorpusError> {
        todo!()
    }
}

/// One pass over tunes in a fixed order, for evaluation; streams that run dry have ignored targets.
#[derive(Debug)]
pub struct EvalStreams {}

impl EvalStreams {
    /// As [`TrainStreams::new`], in the order given, fewer tunes than streams allowed.
    pub fn new(_pack: Arc<Pack>, _tunes: Vec<u32>, _map: Vec<u16>, _streams: usize) -> Self {
        todo!()
    }
    /// Fills the next chunk; false when every tune has been read (the chunk is then left empty).
    pub fn fill(&mut self, _chunk: &mut Chunk) -> bool {
        todo!()
    }
}
