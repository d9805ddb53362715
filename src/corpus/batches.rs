//! From tunes to chunks: B parallel streams, each reading one tune after another.
//!
//! A tune of n tokens gives n-1 predictions: inputs are its tokens but the last, targets its tokens but the first,
//! and its first input has the reset flag. A stream that has finished its tune takes the next one from a queue
//! shared by all streams: the tunes in the epoch's shuffled order, then those of the next epoch, and so on.
//!
//! Streams are served step by step (time outside, streams inside), so that which stream takes which tune depends on
//! neither the chunk's length nor where a run was stopped.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{CorpusError, Pack};
use crate::engine::{Chunk, IGNORE};
use crate::rng;

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

/// One stream: the tune that it reads.
#[derive(Debug, Clone, Default)]
struct Stream {
    tune: u32,
    /// The tune's tokens, remapped; the only ones held in memory.
    tokens: Vec<u16>,
    /// Position of the next input.
    at: usize,
}

impl Stream {
    /// Begins a tune.
    fn load(&mut self, source: &Source, tune: u32) {
        self.tune = tune;
        self.at = 0;
        self.tokens.clear();
        source.pack.tokens_into(tune as usize, &source.map, &mut self.tokens);
    }

    /// The next prediction: (input, target, reset); None at the tune's end.
    #[inline]
    fn next(&mut self) -> Option<(u16, u16, u8)> {
        let target = *self.tokens.get(self.at + 1)?;
        let input = self.tokens[self.at];
        let reset = u8::from(self.at == 0);
        self.at += 1;
        Some((input, target, reset))
    }

    fn finished(&self) -> bool {
        self.at + 1 >= self.tokens.len()
    }
}

#[derive(Debug)]
struct Source {
    pack: Arc<Pack>,
    tunes: Vec<u32>,
    map: Vec<u16>,
}

impl Source {
    fn new(pack: Arc<Pack>, tunes: Vec<u32>, map: Vec<u16>) -> Source {
        assert!(
            map.len() >= pack.vocab().len(),
            "a map of {} ids, expected one for each of the pack's {}",
            map.len(),
            pack.vocab().len()
        );
        if let Some(bad) = tunes.iter().find(|&&tune| tune as usize >= pack.tunes()) {
            panic!("tune {bad}, expected below the pack's {}", pack.tunes());
        }
        Source { pack, tunes, map }
    }

    fn predictions(&self) -> u64 {
        self.tunes.iter().map(|&tune| (self.pack.token_count(tune as usize) as u64).saturating_sub(1)).sum()
    }
}

/// Endless training streams.
#[derive(Debug)]
pub struct TrainStreams {
    source: Source,
    seed: u64,
    streams: Vec<Stream>,
    /// Positions in `source.tunes`, in the order of `epoch`.
    order: Vec<u32>,
    epoch: u64,
    next: usize,
    predicted: u64,
    per_epoch: u64,
}

impl TrainStreams {
    /// Streams over `tunes` (indices into `pack`; at least `streams` of them), tokens remapped through `map`.
    ///
    /// # Panics
    /// Where `tunes` or `streams` is 0, a tune is not in the pack, or `map` is shorter than the pack's vocabulary:
    /// the caller has chosen them. With fewer tunes than streams several streams read the same tunes.
    pub fn new(pack: Arc<Pack>, tunes: Vec<u32>, map: Vec<u16>, streams: usize, seed: u64) -> Self {
        assert!(
            !tunes.is_empty() && streams > 0,
            "{} tunes in {streams} streams, expected some",
            tunes.len()
        );
        let source = Source::new(pack, tunes, map);
        let per_epoch = source.predictions();
        let order = rng::permutation(seed, 0, source.tunes.len());
        let mut all = TrainStreams {
            source,
            seed,
            streams: vec![Stream::default(); streams],
            order,
            epoch: 0,
            next: 0,
            predicted: 0,
            per_epoch,
        };
        for stream in 0..streams {
            all.take(stream);
        }
        all
    }

    /// Predictions in one pass over all tunes.
    pub fn predictions_per_epoch(&self) -> u64 {
        self.per_epoch
    }

    /// Streams B.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Fills the next chunk (its size tells T and B).
    ///
    /// # Panics
    /// Where the chunk's B is not the number of streams, or its vectors are not [T, B].
    pub fn fill(&mut self, chunk: &mut Chunk) {
        let streams = self.streams.len();
        check_size(chunk, streams);
        for i in 0..chunk.ids.len() {
            let stream = i % streams;
            // Streams never stand at a tune's end: the next one has been taken.
            if let Some((id, target, reset)) = self.streams[stream].next() {
                (chunk.ids[i], chunk.targets[i], chunk.resets[i]) = (id, target, reset);
            }
            if self.streams[stream].finished() {
                self.take(stream);
            }
        }
        self.predicted += chunk.ids.len() as u64;
    }

    /// Where the streams are.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            epoch: self.epoch,
            next: self.next,
            streams: self.streams.iter().map(|s| (s.tune, s.at as u32)).collect(),
            predicted: self.predicted,
        }
    }

    /// Continues from a cursor; refuses one that does not fit the tunes (the streams then stay where they are).
    pub fn seek(&mut self, cursor: &Cursor) -> Result<(), CorpusError> {
        let refuse = |why: String| Err(CorpusError::Cursor(why));
        if cursor.streams.len() != self.streams.len() {
            return refuse(format!("{} streams, expected {}", cursor.streams.len(), self.streams.len()));
        }
        if cursor.next > self.source.tunes.len() {
            return refuse(format!("tune {} of {} in the epoch", cursor.next, self.source.tunes.len()));
        }
        let mut sorted = self.source.tunes.clone();
        sorted.sort_unstable();
        for &(tune, at) in &cursor.streams {
            if sorted.binary_search(&tune).is_err() {
                return refuse(format!("tune {tune} is not among the training tunes"));
            }
            let tokens = self.source.pack.token_count(tune as usize);
            if at as usize + 1 >= tokens {
                return refuse(format!("position {at} in tune {tune} of {tokens} tokens"));
            }
        }
        self.order = rng::permutation(self.seed, cursor.epoch, self.source.tunes.len());
        self.epoch = cursor.epoch;
        self.next = cursor.next;
        self.predicted = cursor.predicted;
        for (stream, &(tune, at)) in self.streams.iter_mut().zip(&cursor.streams) {
            stream.load(&self.source, tune);
            stream.at = at as usize;
        }
        Ok(())
    }

    /// Gives the queue's next tune to a stream.
    fn take(&mut self, stream: usize) {
        if self.next >= self.order.len() {
            self.epoch = self.epoch.wrapping_add(1);
            self.next = 0;
            self.order = rng::permutation(self.seed, self.epoch, self.source.tunes.len());
        }
        let tune = self.source.tunes[self.order[self.next] as usize];
        self.next += 1;
        self.streams[stream].load(&self.source, tune);
    }
}

/// One pass over tunes in a fixed order, for evaluation; streams that run dry have ignored targets.
#[derive(Debug)]
pub struct EvalStreams {
    source: Source,
    streams: Vec<Stream>,
    next: usize,
}

impl EvalStreams {
    /// As [`TrainStreams::new`], in the order given, fewer tunes than streams (or none) allowed.
    ///
    /// # Panics
    /// As [`TrainStreams::new`], but for the number of tunes.
    pub fn new(pack: Arc<Pack>, tunes: Vec<u32>, map: Vec<u16>, streams: usize) -> Self {
        assert!(streams > 0, "no stream, expected some");
        let source = Source::new(pack, tunes, map);
        let mut all = EvalStreams { source, streams: vec![Stream::default(); streams], next: 0 };
        for stream in 0..streams {
            all.take(stream);
        }
        all
    }

    /// Predictions in the whole pass.
    pub fn predictions(&self) -> u64 {
        self.source.predictions()
    }

    /// Streams B.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Fills the next chunk; false when every tune has been read (the chunk is then left empty). A stream that has
    /// nothing left has id 0, an ignored target and the reset flag.
    ///
    /// # Panics
    /// Where the chunk's B is not the number of streams, or its vectors are not [T, B].
    pub fn fill(&mut self, chunk: &mut Chunk) -> bool {
        let streams = self.streams.len();
        check_size(chunk, streams);
        if self.streams.iter().all(Stream::finished) {
            chunk.ids.fill(0);
            chunk.targets.fill(IGNORE);
            chunk.resets.fill(0);
            return false;
        }
        for i in 0..chunk.ids.len() {
            let stream = i % streams;
            let (id, target, reset) = self.streams[stream].next().unwrap_or((0, IGNORE, 1));
            (chunk.ids[i], chunk.targets[i], chunk.resets[i]) = (id, target, reset);
            if self.streams[stream].finished() {
                self.take(stream);
            }
        }
        true
    }

    /// Gives the next tune to a stream, or leaves it dry.
    fn take(&mut self, stream: usize) {
        if let Some(&tune) = self.source.tunes.get(self.next) {
            self.next += 1;
            self.streams[stream].load(&self.source, tune);
        }
    }
}

fn check_size(chunk: &Chunk, streams: usize) {
    let n = chunk.steps * chunk.streams;
    assert!(
        chunk.streams == streams
            && chunk.ids.len() == n
            && chunk.targets.len() == n
            && chunk.resets.len() == n,
        "a chunk of {} streams, expected {streams} and vectors of T*B = {n}",
        chunk.streams
    );
}
