//! The packed file's layout: header and sections as bytes. `docs/formats.md` describes it for other programs.
//!
//! Everything is little-endian. Header [128 bytes], vocabulary [V x 32 bytes], index [tunes x 16 bytes], tokens
//! [u8 or u16], each section beginning at a multiple of 64 with zeros before it. Each section's checksum stands in the
//! header, the header's own at its end: so the header's checksum stands for the whole content.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::vocab::{END, MAX_CHARACTERS, START, UNKNOWN};
use super::{CorpusError, Vocab};

/// What a packed file begins with.
pub const MAGIC: [u8; 8] = *b"SONGPACK";
/// This program's version of the format.
pub const VERSION: u32 = 1;
/// Bytes of the header.
pub const HEADER: usize = 128;
/// Bytes of a vocabulary entry.
pub const VOCAB_ENTRY: usize = 32;
/// Bytes of an index entry.
pub const INDEX_ENTRY: usize = 16;
/// Sections begin at multiples of this.
const ALIGN: u64 = 64;
/// Code point field of the special tokens `<start>`, `<end>`, `<unk>`: this plus 0, 1, 2 (no character is so high).
const SPECIAL: u32 = 0xFFFF_FFF0;
/// The most tunes: tunes are numbered with u32.
pub const MAX_TUNES: u64 = u32::MAX as u64;

/// The numbers in the header; offsets follow from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Header {
    /// Tunes in the pack.
    pub tunes: u64,
    /// Tokens in the pack, `<start>` and `<end>` of every tune included.
    pub tokens: u64,
    /// Vocabulary entries V.
    pub vocab: u64,
    /// Tunes whose body had been met before.
    pub duplicates: u64,
    /// Tunes without any text, left out.
    pub empty: u64,
    /// Whether duplicates are in the pack.
    pub duplicates_kept: bool,
    /// xxh3 of the vocabulary section.
    pub vocab_hash: u64,
    /// xxh3 of the index section.
    pub index_hash: u64,
    /// xxh3 of the token section.
    pub token_hash: u64,
}

/// Where the sections lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes a token: 1 where V <= 256, else 2.
    pub width: usize,
    /// Where the vocabulary begins.
    pub vocab: u64,
    /// Where the index begins.
    pub index: u64,
    /// Where the tokens begin.
    pub tokens: u64,
    /// Bytes of the whole file.
    pub len: u64,
}

impl Header {
    /// Where the sections lie; None where the numbers are beyond any file.
    pub fn layout(&self) -> Option<Layout> {
        let align = |offset: u64| offset.checked_next_multiple_of(ALIGN);
        let width = if self.vocab <= 256 { 1 } else { 2 };
        let vocab = HEADER as u64;
        let index = align(self.vocab.checked_mul(VOCAB_ENTRY as u64)?.checked_add(vocab)?)?;
        let tokens = align(self.tunes.checked_mul(INDEX_ENTRY as u64)?.checked_add(index)?)?;
        let len = self.tokens.checked_mul(width as u64)?.checked_add(tokens)?;
        Some(Layout { width, vocab, index, tokens, len })
    }

    /// The header's bytes, its checksum at the end.
    pub fn encode(&self, layout: &Layout) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, &MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &(layout.width as u32).to_le_bytes());
        for (i, value) in [
            layout.len,
            self.tunes,
            self.tokens,
            self.vocab,
            layout.index,
            layout.tokens,
            self.duplicates,
            self.empty,
            u64::from(self.duplicates_kept),
            self.vocab_hash,
            self.index_hash,
            self.token_hash,
        ]
        .into_iter()
        .enumerate()
        {
            put(16 + 8 * i, &value.to_le_bytes());
        }
        let hash = xxh3_64(&bytes[..HEADER - 8]);
        bytes[HEADER - 8..].copy_from_slice(&hash.to_le_bytes());
        bytes
    }

    /// Reads and checks the header of a file of `file_len` bytes; gives the header's checksum too.
    pub fn decode(bytes: &[u8], file_len: u64, path: &Path) -> Result<(Header, Layout, u64), CorpusError> {
        let path = || path.to_path_buf();
        if bytes.get(..8) != Some(&MAGIC[..]) {
            let found = String::from_utf8_lossy(bytes.get(..8).unwrap_or(bytes)).into_owned();
            let found = if found.is_empty() { "nothing".to_owned() } else { format!("{found:?}") };
            return Err(CorpusError::PackMagic { path: path(), found });
        }
        if bytes.len() < HEADER {
            return Err(CorpusError::PackLength { path: path(), expected: HEADER as u64, found: file_len });
        }
        let version = read_u32(bytes, 8);
        if version != VERSION {
            return Err(CorpusError::PackVersion { path: path(), expected: VERSION, found: version });
        }
        let expected = read_u64(bytes, HEADER - 8);
        let found = xxh3_64(&bytes[..HEADER - 8]);
        if expected != found {
            return Err(CorpusError::PackChecksum { path: path(), section: "header", expected, found });
        }
        let field = |i: usize| read_u64(bytes, 16 + 8 * i);
        let header = Header {
            tunes: field(1),
            tokens: field(2),
            vocab: field(3),
            duplicates: field(6),
            empty: field(7),
            duplicates_kept: field(8) == 1,
            vocab_hash: field(9),
            index_hash: field(10),
            token_hash: field(11),
        };
        let refuse = |field, expected: String, found: u64| {
            Err(CorpusError::PackField { path: path(), field, expected, found: found.to_string() })
        };
        if header.tunes == 0 || header.tunes > MAX_TUNES {
            return refuse("the number of tunes", format!("1 to {MAX_TUNES}"), header.tunes);
        }
        let most = MAX_CHARACTERS as u64 + 3;
        if header.vocab < 3 || header.vocab > most {
            return refuse("the vocabulary's size", format!("3 to {most}"), header.vocab);
        }
        let Some(layout) = header.layout() else {
            return refuse("the number of tokens", "less than any file holds".into(), header.tokens);
        };
        for (name, expected, found) in [
            ("the token width", layout.width as u64, u64::from(read_u32(bytes, 12))),
            ("the file length", layout.len, field(0)),
            ("the index offset", layout.index, field(4)),
            ("the token offset", layout.tokens, field(5)),
            ("the duplicates flag", u64::from(header.duplicates_kept), field(8)),
            ("a reserved field", 0, field(12)),
        ] {
            if expected != found {
                return refuse(name, expected.to_string(), found);
            }
        }
        if layout.len != file_len {
            return Err(CorpusError::PackLength { path: path(), expected: layout.len, found: file_len });
        }
        Ok((header, layout, expected))
    }
}

/// The vocabulary section: for each entry code point (u32), zero (u32), occurrences in each split (3 x u64).
pub fn encode_vocab(vocab: &Vocab, counts: &[Vec<u64>; 3]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(vocab.len() * VOCAB_ENTRY);
    for id in 0..vocab.len() as u16 {
        let code = vocab.character(id).map_or_else(|| SPECIAL + u32::from(id), u32::from);
        bytes.extend_from_slice(&code.to_le_bytes());
        bytes.extend_from_slice(&0u32.to_le_bytes());
        for part in counts {
            let count = part.get(usize::from(id)).copied().unwrap_or(0);
            bytes.extend_from_slice(&count.to_le_bytes());
        }
    }
    bytes
}

/// Reads [`encode_vocab`]'s bytes; the tokens must stand in the vocabulary's order.
pub fn decode_vocab(bytes: &[u8], path: &Path) -> Result<(Vocab, [Vec<u64>; 3]), CorpusError> {
    let mut counts = [Vec::new(), Vec::new(), Vec::new()];
    let mut chars = Vec::new();
    let refuse = |expected: &str, found: String| {
        Err(CorpusError::PackField {
            path: path.to_path_buf(),
            field: "a vocabulary entry",
            expected: expected.to_owned(),
            found,
        })
    };
    for (id, entry) in bytes.chunks_exact(VOCAB_ENTRY).enumerate() {
        let code = read_u32(entry, 0);
        if let Some(special) = [START, END, UNKNOWN].get(id) {
            if code != SPECIAL + id as u32 {
                return refuse(special, format!("code {code:#x}"));
            }
        } else {
            match char::from_u32(code) {
                Some(c) if chars.last().is_none_or(|&last| last < c) => chars.push(c),
                _ => return refuse("a character above the one before it", format!("code {code:#x}")),
            }
        }
        if read_u32(entry, 4) != 0 {
            return refuse("zero in its reserved field", read_u32(entry, 4).to_string());
        }
        for (part, counts) in counts.iter_mut().enumerate() {
            counts.push(read_u64(entry, 8 + 8 * part));
        }
    }
    Ok((Vocab::from_chars(chars), counts))
}

/// An index entry: offset of the tune's first token (in tokens), tokens, split.
pub fn encode_index(offset: u64, len: u32, split: u8) -> [u8; INDEX_ENTRY] {
    let mut bytes = [0; INDEX_ENTRY];
    bytes[..8].copy_from_slice(&offset.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12] = split;
    bytes
}

/// A u32 at `at`; 0 beyond the end (callers have checked the length).
#[inline]
pub fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b))
}

/// A u64 at `at`; 0 beyond the end (callers have checked the length).
#[inline]
pub fn read_u64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|b| b.first_chunk()).map_or(0, |b| u64::from_le_bytes(*b))
}
