//! The first reading of the files: how is each encoded, how does it mark its tunes, is it text at all?

use std::path::{Path, PathBuf};

use super::CorpusError;
use super::blocks::{Block, BlockReader, Cut, run};
use super::tunes::{self, Found, Marks, Notes, for_each_tune, has_start_line};

/// A file of tunes and how to read it.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Where it is.
    pub path: PathBuf,
    /// How it marks its tunes.
    pub marks: Marks,
    /// Whether its bytes are Latin-1, for they are not UTF-8.
    pub latin1: bool,
}

impl SourceFile {
    /// Calls `take` with each tune of a block of this file; `scratch` is working space.
    pub fn tunes(
        &self,
        block: &Block,
        scratch: &mut String,
        take: impl FnMut(&str),
    ) -> Result<Found, CorpusError> {
        let decoded;
        let text = if self.latin1 {
            decoded = tunes::latin1(&block.bytes);
            &decoded
        } else {
            // The first reading found UTF-8, and blocks end at line ends.
            std::str::from_utf8(&block.bytes).map_err(|_| CorpusError::Changed { path: self.path.clone() })?
        };
        let cleaned = tunes::clean(text);
        Ok(for_each_tune(cleaned.as_deref().unwrap_or(text), self.marks, scratch, take))
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Signs {
    bytes: u64,
    not_utf8: bool,
    start_line: bool,
    nuls: u64,
}

/// Reads all files once. Gives notes on those that are not plain UTF-8 text; refuses what is plainly not text.
pub fn survey(
    files: &[PathBuf],
    workers: usize,
    progress: impl Fn(u64) -> Result<(), CorpusError> + Sync,
) -> Result<(Vec<SourceFile>, Notes), CorpusError> {
    let mut all = vec![Signs::default(); files.len()];
    let mut reader = BlockReader::new(files.iter().map(|file| (file.clone(), Cut::Lines)).collect());
    let mut done = 0;
    run(
        workers,
        || {
            Ok(match reader.next()? {
                Some(block) => {
                    if block.first {
                        refuse_other_formats(&files[block.file], &block.bytes)?;
                    }
                    let cost = block.bytes.len();
                    Some((block, cost))
                }
                None => None,
            })
        },
        || (),
        |_, block: Block| {
            let signs = Signs {
                bytes: block.bytes.len() as u64,
                not_utf8: std::str::from_utf8(&block.bytes).is_err(),
                start_line: has_start_line(without_mark(&block.bytes)),
                nuls: count_nuls(&block.bytes),
            };
            Ok((block.file, signs))
        },
        |(file, signs)| {
            let sum = &mut all[file];
            sum.bytes += signs.bytes;
            sum.not_utf8 |= signs.not_utf8;
            sum.start_line |= signs.start_line;
            sum.nuls += signs.nuls;
            done += signs.bytes;
            progress(done)?;
            Ok(())
        },
    )?;
    let mut notes = Notes::new();
    let mut sources = Vec::with_capacity(files.len());
    for (path, signs) in files.iter().zip(&all) {
        if signs.bytes == 0 {
            notes.push(format!("{} is empty", path.display()));
        }
        if signs.not_utf8 {
            notes.push(format!("{} is not UTF-8; read as Latin-1", path.display()));
        }
        if signs.nuls > 0 {
            notes.push(format!("{}: {} NUL characters left out", path.display(), signs.nuls));
        }
        let marks = if signs.start_line { Marks::StartEnd } else { Marks::Abc };
        sources.push(SourceFile { path: path.clone(), marks, latin1: signs.not_utf8 });
    }
    Ok((sources, notes))
}

fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// Counts in short runs of u8 sums, which the compiler vectorises.
fn count_nuls(bytes: &[u8]) -> u64 {
    bytes.chunks(255).map(|run| u64::from(run.iter().map(|&b| u8::from(b == 0)).sum::<u8>())).sum()
}

/// What a file looks like that is plainly not a text of tunes: (what, what to do).
pub fn other_format(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let length = bytes.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    if bytes.get(8) == Some(&b'{') && (2..100_000_000).contains(&length) {
        return Some(("a safetensors model file", "give it to --model, and name tunes as data"));
    }
    const KNOWN: [(&[u8], &str, &str); 8] = [
        (b"\xff\xfe", "UTF-16 text", "save it as UTF-8 first"),
        (b"\xfe\xff", "UTF-16 text", "save it as UTF-8 first"),
        (b"MThd", "a MIDI file", "name files of ABC"),
        (b"PK\x03\x04", "a zip archive", "unpack it first"),
        (b"\x1f\x8b", "a gzip archive", "unpack it first"),
        (b"\xfd7zXZ", "an xz archive", "unpack it first"),
        (b"(\xb5/\xfd", "a zstd archive", "unpack it first"),
        (b"%PDF-", "a PDF document", "name files of ABC"),
    ];
    KNOWN.iter().find(|(magic, ..)| bytes.starts_with(magic)).map(|&(_, found, next)| (found, next))
}

fn refuse_other_formats(path: &Path, bytes: &[u8]) -> Result<(), CorpusError> {
    let path = path.to_path_buf();
    if bytes.starts_with(&super::format::MAGIC) {
        return Err(CorpusError::MixedPack { path });
    }
    match other_format(bytes) {
        Some((found, next)) => Err(CorpusError::LooksLike { path, found, next }),
        None => Ok(()),
    }
}
