//! The packed corpus, read: a versioned, checksummed, memory-mapped file: header, vocabulary, tune index, tokens.
//! (Written by `writer.rs`; laid out by `format.rs`.)

use std::fs::File;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::format::{Header, INDEX_ENTRY, Layout, VOCAB_ENTRY, decode_vocab, read_u32, read_u64};
use super::map::Bytes;
use super::{CorpusError, Split, Vocab};

/// A packed corpus, memory-mapped or in memory.
#[derive(Debug)]
pub struct Pack {
    bytes: Bytes,
    header: Header,
    layout: Layout,
    vocab: Vocab,
    /// Occurrences of each token in each split. \[3\]\[V\]
    counts: [Vec<u64>; 3],
    checksum: u64,
}

impl Pack {
    /// Opens a packed file; checks magic, version, lengths and checksum, so that no later access can fail.
    ///
    /// The file is memory-mapped and must stay as it is while it is open: one that is cut short by another program
    /// meanwhile ends this process (SIGBUS). Replacing it by renaming, as `pack` does, is safe.
    pub fn open(path: &Path) -> Result<Pack, CorpusError> {
        let unreadable = |source| CorpusError::Unreadable { path: path.to_path_buf(), source };
        super::tunes::check_regular(path)?;
        let mut file = File::open(path).map_err(unreadable)?;
        Pack::from_bytes(Bytes::open(&mut file).map_err(unreadable)?, path)
    }

    /// Whether a file begins as a packed corpus does; false where it cannot be read.
    pub fn is_pack(path: &Path) -> bool {
        super::tunes::check_regular(path).is_ok() && {
            let mut magic = Vec::new();
            File::open(path).is_ok_and(|file| {
                use std::io::Read;
                file.take(8).read_to_end(&mut magic).is_ok() && magic == super::format::MAGIC
            })
        }
    }

    /// A pack from its bytes; `path` is for messages.
    pub fn from_vec(bytes: Vec<u8>, path: &Path) -> Result<Pack, CorpusError> {
        Pack::from_bytes(Bytes::Owned(bytes), path)
    }

    fn from_bytes(bytes: Bytes, path: &Path) -> Result<Pack, CorpusError> {
        let (header, layout, checksum) = Header::decode(&bytes, bytes.len() as u64, path)?;
        // The layout fits the file's length (decode has compared them), so its offsets fit usize and the file.
        let section = |from: u64, len: u64| &bytes[from as usize..(from + len) as usize];
        let vocab_bytes = section(layout.vocab, header.vocab * VOCAB_ENTRY as u64);
        let index = section(layout.index, header.tunes * INDEX_ENTRY as u64);
        let tokens = section(layout.tokens, layout.len - layout.tokens);
        for (name, expected, content) in [
            ("vocabulary", header.vocab_hash, vocab_bytes),
            ("index", header.index_hash, index),
            ("tokens", header.token_hash, tokens),
        ] {
            let found = xxh3_64(content);
            if found != expected {
                return Err(CorpusError::PackChecksum {
                    path: path.to_path_buf(),
                    section: name,
                    expected,
                    found,
                });
            }
        }
        for (from, to) in [
            (layout.vocab + vocab_bytes.len() as u64, layout.index),
            (layout.index + index.len() as u64, layout.tokens),
        ] {
            if let Some(found) = section(from, to - from).iter().find(|&&byte| byte != 0) {
                return Err(CorpusError::PackField {
                    path: path.to_path_buf(),
                    field: "a byte between two sections",
                    expected: "0".into(),
                    found: found.to_string(),
                });
            }
        }
        let (vocab, counts) = decode_vocab(vocab_bytes, path)?;
        check_index(index, header.tokens, path)?;
        check_tokens(tokens, layout.width, &vocab, path)?;
        Ok(Pack { header, layout, vocab, counts, checksum, bytes })
    }

    /// Tunes.
    pub fn tunes(&self) -> usize {
        self.header.tunes as usize
    }

    /// Tokens of all tunes, `<start>` and `<end>` of each included.
    pub fn total_tokens(&self) -> u64 {
        self.header.tokens
    }

    /// Tunes whose body had been met before, when the pack was made.
    pub fn duplicates(&self) -> u64 {
        self.header.duplicates
    }

    /// Whether those duplicates are in the pack.
    pub fn duplicates_kept(&self) -> bool {
        self.header.duplicates_kept
    }

    /// Tunes without any text that were left out when the pack was made.
    pub fn empty_tunes(&self) -> u64 {
        self.header.empty
    }

    /// Bytes of the packed file.
    pub fn bytes(&self) -> u64 {
        self.layout.len
    }

    /// All characters that the pack's tunes hold, as a vocabulary: the ids in the token section. (It may list a
    /// character found in nothing but a duplicate that was dropped; its count is then 0.)
    pub fn vocab(&self) -> &Vocab {
        &self.vocab
    }

    /// Occurrences of each token of [`Pack::vocab`] in one split (whole corpus: None). \[V\]
    pub fn counts(&self, split: Option<Split>) -> Vec<u64> {
        match split {
            Some(split) => self.counts[split as usize].clone(),
            None => {
                let [a, b, c] = &self.counts;
                let sum = |((a, b), c): ((&u64, &u64), &u64)| a.saturating_add(*b).saturating_add(*c);
                a.iter().zip(b).zip(c).map(sum).collect()
            }
        }
    }

    /// Characters found in tunes of one split (whole corpus: None): the model's vocabulary.
    pub fn vocab_of(&self, split: Option<Split>) -> Vocab {
        let counts = self.counts(split);
        Vocab::from_chars((0..self.vocab.len() as u16).filter_map(|id| {
            let found = counts.get(usize::from(id)).is_some_and(|&count| count > 0);
            self.vocab.character(id).filter(|_| found)
        }))
    }

    /// Part of tune `tune`.
    pub fn split(&self, tune: usize) -> Split {
        self.entry(tune).map_or(Split::Train, |(_, _, split)| split)
    }

    /// The tunes of one split (whole corpus: None), in the pack's order.
    pub fn tunes_of(&self, split: Option<Split>) -> Vec<u32> {
        (0..self.header.tunes as u32)
            .filter(|&tune| split.is_none_or(|split| self.split(tune as usize) == split))
            .collect()
    }

    /// Tokens of a tune (`<start>`, characters, `<end>`), remapped through `map` \[V\], appended to `out`. An id beyond
    /// `map` becomes 0; a tune that is not there has no tokens.
    pub fn tokens_into(&self, tune: usize, map: &[u16], out: &mut Vec<u16>) {
        let mapped = |id: u16| map.get(usize::from(id)).copied().unwrap_or(0);
        out.extend(self.raw(tune).map(mapped));
    }

    /// How many tokens a tune has, `<start>` and `<end>` included.
    pub fn token_count(&self, tune: usize) -> usize {
        self.entry(tune).map_or(0, |(_, len, _)| len as usize)
    }

    /// A tune's text.
    pub fn text(&self, tune: usize) -> String {
        self.raw(tune).filter_map(|id| self.vocab.character(id)).collect()
    }

    /// Checksum of the content (header, index and tokens): what a run's configuration remembers.
    pub fn checksum(&self) -> u64 {
        self.checksum
    }

    /// (offset of the first token, tokens, split)
    fn entry(&self, tune: usize) -> Option<(u64, u32, Split)> {
        let at = self.layout.index as usize + tune.checked_mul(INDEX_ENTRY)?;
        let entry = self.bytes.get(at..at.checked_add(INDEX_ENTRY)?).filter(|_| tune < self.tunes())?;
        Some((read_u64(entry, 0), read_u32(entry, 8), Split::from_number(entry[12])?))
    }

    /// Ids of a tune in the pack's own vocabulary.
    fn raw(&self, tune: usize) -> impl Iterator<Item = u16> + '_ {
        let width = self.layout.width;
        let (offset, len, _) = self.entry(tune).unwrap_or((0, 0, Split::Train));
        let from = self.layout.tokens as usize + offset as usize * width;
        let bytes = self.bytes.get(from..from + len as usize * width).unwrap_or(&[]);
        bytes.chunks_exact(width).map(|b| u16::from(b[0]) | b.get(1).map_or(0, |&high| u16::from(high) << 8))
    }
}

/// Every tune begins where the one before it ends, has at least `<start>` and `<end>`, and a split; they fill the
/// token section.
fn check_index(index: &[u8], tokens: u64, path: &Path) -> Result<(), CorpusError> {
    let refuse = |tune: usize, field, expected: String, found| {
        Err(CorpusError::PackIndex { path: path.to_path_buf(), tune: tune as u64, field, expected, found })
    };
    let mut next = 0u64;
    for (tune, entry) in index.chunks_exact(INDEX_ENTRY).enumerate() {
        let (offset, len) = (read_u64(entry, 0), read_u32(entry, 8));
        if offset != next {
            return refuse(tune, "offset", next.to_string(), offset);
        }
        if len < 2 || u64::from(len) > tokens - next {
            return refuse(tune, "length", format!("2 to {}", tokens - next), u64::from(len));
        }
        if Split::from_number(entry[12]).is_none() {
            return refuse(tune, "split", "0, 1 or 2".into(), u64::from(entry[12]));
        }
        if let Some(&byte) = entry[13..].iter().find(|&&byte| byte != 0) {
            return refuse(tune, "reserved field", "0".into(), u64::from(byte));
        }
        next += u64::from(len);
    }
    if next != tokens {
        let last = (index.len() / INDEX_ENTRY).saturating_sub(1);
        return refuse(last, "end", tokens.to_string(), next);
    }
    Ok(())
}

fn check_tokens(tokens: &[u8], width: usize, vocab: &Vocab, path: &Path) -> Result<(), CorpusError> {
    let refuse = |position: usize, found: u16| {
        Err(CorpusError::PackToken {
            path: PathBuf::from(path),
            position: position as u64,
            found,
            vocab: vocab.len(),
        })
    };
    if width == 1 {
        // The maximum first: that loop runs at memory speed.
        let highest = tokens.iter().copied().max().unwrap_or(0);
        if usize::from(highest) >= vocab.len() {
            let at = tokens.iter().position(|&t| t == highest).unwrap_or(0);
            return refuse(at, u16::from(highest));
        }
    } else {
        for (at, pair) in tokens.chunks_exact(2).enumerate() {
            let id = u16::from_le_bytes([pair[0], pair[1]]);
            if usize::from(id) >= vocab.len() {
                return refuse(at, id);
            }
        }
    }
    Ok(())
}
