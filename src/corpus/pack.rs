//! The packed corpus: a versioned, checksummed, memory-mapped file: header, vocabulary, tune index, tokens.

use std::path::Path;

use super::{CorpusError, Split, Vocab};

/// A packed corpus, memory-mapped or in memory.
#[derive(Debug)]
pub struct Pack {}

impl Pack {
    /// Opens a packed file; checks magic, version, lengths and checksum, so that no later access can fail.
    pub fn open(_path: &Path) -> Result<Pack, CorpusError> {
        todo!()
    }
    /// Tunes.
    pub fn tunes(&self) -> usize {
        todo!()
    }
    /// All characters that the pack's tunes hold, as a vocabulary: the ids in the token section.
    pub fn vocab(&self) -> &Vocab {
        todo!()
    }
    /// Characters found in tunes of one split (whole corpus: None): the model's vocabulary.
    pub fn vocab_of(&self, _split: Option<Split>) -> Vocab {
        todo!()
    }
    /// Part of tune `tune`.
    pub fn split(&self, _tune: usize) -> Split {
        todo!()
    }
    /// Tokens of a tune (`<start>`, characters, `<end>`), remapped through `map` [V], appended to `out`.
    pub fn tokens_into(&self, _tune: usize, _map: &[u16], _out: &mut Vec<u16>) {
        todo!()
    }
    /// How many tokens a tune has, `<start>` and `<end>` included.
    pub fn token_count(&self, _tune: usize) -> usize {
        todo!()
    }
    /// A tune's text.
    pub fn text(&self, _tune: usize) -> String {
        todo!()
    }
    /// Checksum of the content (header, index and tokens): what a run's configuration remembers.
    pub fn checksum(&self) -> u64 {
        todo!()
    }
}
