//! A packed file's sections, written side by side into a file or into memory.

use std::io::{Seek, SeekFrom};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::encode::Encoded;
use super::format::{HEADER, Header, INDEX_ENTRY, Layout, MAX_TUNES, encode_index, encode_vocab};
use super::{CorpusError, Vocab};
use crate::files::{AtomicFile, FileError};

/// Where a pack's bytes go.
pub trait Place {
    /// Writes at byte `at`.
    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), CorpusError>;
}

impl Place for AtomicFile {
    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), CorpusError> {
        let result = self.file().seek(SeekFrom::Start(at));
        result.map_err(|e| FileError::new("write", self.path(), e))?;
        Ok(self.write_all(bytes)?)
    }
}

impl Place for Vec<u8> {
    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), CorpusError> {
        let end = at as usize + bytes.len();
        if self.len() < end {
            self.resize(end, 0);
        }
        self[at as usize..end].copy_from_slice(bytes);
        Ok(())
    }
}

/// One section being written at its place, buffered.
struct Section {
    at: u64,
    buffer: Vec<u8>,
    hash: Xxh3,
}

impl Section {
    const BUFFER: usize = 1 << 18;

    fn new(at: u64) -> Section {
        Section { at, buffer: Vec::new(), hash: Xxh3::new() }
    }

    fn write(&mut self, place: &mut impl Place, bytes: &[u8]) -> Result<(), CorpusError> {
        self.hash.update(bytes);
        if self.buffer.len() + bytes.len() > Section::BUFFER {
            self.flush(place)?;
        }
        if bytes.len() > Section::BUFFER {
            place.put(self.at, bytes)?;
            self.at += bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self, place: &mut impl Place) -> Result<(), CorpusError> {
        if !self.buffer.is_empty() {
            place.put(self.at, &self.buffer)?;
            self.at += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

/// Index and tokens, written side by side.
pub struct Sections {
    index: Section,
    tokens: Section,
    count: u64,
}

impl Sections {
    /// At the places of `layout`.
    pub fn new(layout: &Layout) -> Sections {
        Sections { index: Section::new(layout.index), tokens: Section::new(layout.tokens), count: 0 }
    }

    /// Appends tunes.
    pub fn add(&mut self, place: &mut impl Place, encoded: &Encoded) -> Result<(), CorpusError> {
        let mut entries = Vec::with_capacity(encoded.tunes.len() * INDEX_ENTRY);
        for &(len, split) in &encoded.tunes {
            entries.extend_from_slice(&encode_index(self.count, len, split as u8));
            self.count += u64::from(len);
        }
        self.index.write(place, &entries)?;
        self.tokens.write(place, &encoded.tokens)
    }

    /// Writes what is left, the vocabulary and the header, to whose numbers tokens and checksums are added.
    pub fn finish(
        mut self,
        place: &mut impl Place,
        mut header: Header,
        vocab: &Vocab,
        counts: &[Vec<u64>; 3],
    ) -> Result<Header, CorpusError> {
        self.index.flush(place)?;
        self.tokens.flush(place)?;
        let vocab = encode_vocab(vocab, counts);
        place.put(HEADER as u64, &vocab)?;
        header.tokens = self.count;
        header.vocab_hash = xxh3_64(&vocab);
        header.index_hash = self.index.hash.digest();
        header.token_hash = self.tokens.hash.digest();
        let layout = header.layout().ok_or(CorpusError::TooManyTunes { limit: MAX_TUNES })?;
        place.put(0, &header.encode(&layout))?;
        Ok(header)
    }
}
