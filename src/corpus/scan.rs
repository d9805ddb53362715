//! The second and third reading of the files: which tunes and characters are there, and, when duplicates, splits and
//! the vocabulary are decided on, the tokens.

use std::collections::BTreeSet;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::blocks::{Block, BlockReader, Cut, run};
use super::encode::{Characters, Encoded, Encoder};
use super::format::{Header, Layout, MAX_TUNES};
use super::sources::SourceFile;
use super::spill::{Bits, Hashes, Limits};
use super::split::{SplitRule, SplitSurvey, body_hash};
use super::tunes::Found;
use super::vocab::MAX_CHARACTERS;
use super::{CorpusError, Vocab};

/// What the second reading remembers of a block, so that the third can tell whether it is the same.
#[derive(Debug, Clone, Copy)]
struct BlockRecord {
    tunes: u64,
    hash: u64,
}

/// The second reading: body hashes, characters.
pub struct Scan {
    /// Body hashes, in order.
    pub hashes: Hashes,
    survey: SplitSurvey,
    /// All characters.
    pub characters: BTreeSet<char>,
    blocks: Vec<BlockRecord>,
    /// For each source.
    pub found: Vec<Found>,
    /// Tunes without text.
    pub empty: u64,
}

impl Scan {
    /// Nothing read; temporary files, where needed, lie beside `pack`.
    pub fn new(pack: &Path) -> Scan {
        Scan {
            hashes: Hashes::new(pack, Limits::default()),
            survey: SplitSurvey::default(),
            characters: BTreeSet::new(),
            blocks: Vec::new(),
            found: Vec::new(),
            empty: 0,
        }
    }

    /// Takes note of the next tunes' hashes.
    pub fn add(&mut self, hashes: &[u64]) -> Result<(), CorpusError> {
        hashes.iter().for_each(|&hash| self.survey.add(hash));
        self.hashes.extend(hashes)?;
        if self.hashes.len() > MAX_TUNES {
            return Err(CorpusError::TooManyTunes { limit: MAX_TUNES });
        }
        Ok(())
    }

    /// Reads the files.
    pub fn read(
        &mut self,
        sources: &[SourceFile],
        workers: usize,
        progress: impl Fn(u64) -> Result<(), CorpusError> + Sync,
    ) -> Result<(), CorpusError> {
        let mut reader = reader(sources);
        let mut done = 0;
        self.found = vec![Found::default(); sources.len()];
        let states = run(
            workers,
            || {
                Ok(reader.next()?.map(|block| {
                    let cost = block.bytes.len();
                    (block, cost)
                }))
            },
            || (Characters::default(), String::new(), Vec::new()),
            |(characters, text, scratch), block: Block| {
                let source = &sources[block.file];
                let mut hashes = Vec::new();
                let found = source.tunes(&block, text, |tune| {
                    characters.add(tune);
                    hashes.push(body_hash(tune, scratch));
                })?;
                let record = BlockRecord { tunes: found.tunes, hash: xxh3_64(&block.bytes) };
                Ok((block.file, block.bytes.len() as u64, record, found, hashes))
            },
            |(file, bytes, record, found, hashes)| {
                self.blocks.push(record);
                self.found[file].unclosed += found.unclosed;
                self.empty += found.empty;
                done += bytes;
                progress(done)?;
                self.add(&hashes)
            },
        )?;
        for (characters, _, _) in states {
            self.characters.extend(characters.into_set());
        }
        Ok(())
    }

    /// Decides on duplicates, splits and the vocabulary.
    pub fn plan(&mut self, keep_duplicates: bool) -> Result<Plan, CorpusError> {
        let repeats = self.hashes.repeats()?;
        let (found, duplicates) = (self.hashes.len(), repeats.ones());
        if self.characters.len() > MAX_CHARACTERS {
            return Err(CorpusError::TooManyCharacters {
                found: self.characters.len(),
                limit: MAX_CHARACTERS,
            });
        }
        Ok(Plan {
            rule: self.survey.rule(found - duplicates),
            tunes: if keep_duplicates { found } else { found - duplicates },
            vocab: Vocab::from_chars(self.characters.iter().copied()),
            empty: self.empty,
            repeats,
            keep_duplicates,
        })
    }

    /// The third reading: tokens, given to `sink` in order. Gives back the encoders with their counts.
    pub fn encode(
        &mut self,
        sources: &[SourceFile],
        plan: &Plan,
        workers: usize,
        progress: impl Fn(u64) -> Result<(), CorpusError> + Sync,
        mut sink: impl FnMut(Encoded) -> Result<(), CorpusError> + Send,
    ) -> Result<Vec<Encoder>, CorpusError> {
        let mut reader = reader(sources);
        let (hashes, blocks) = (&mut self.hashes, &self.blocks);
        let (mut number, mut first, mut done) = (0, 0, 0);
        let states = run(
            workers,
            || {
                let Some(block) = reader.next()? else { return Ok(None) };
                let changed = || CorpusError::Changed { path: sources[block.file].path.clone() };
                let record = *blocks.get(number).ok_or_else(changed)?;
                let mut of_block = vec![0; record.tunes as usize];
                hashes.read(first, &mut of_block)?;
                let cost = block.bytes.len();
                let item = (block, record, first, of_block);
                number += 1;
                first += record.tunes;
                Ok(Some((item, cost)))
            },
            || (Encoder::new(&plan.vocab), String::new()),
            |(encoder, text), (block, record, first, hashes)| {
                let source = &sources[block.file];
                let changed = || CorpusError::Changed { path: source.path.clone() };
                if xxh3_64(&block.bytes) != record.hash {
                    return Err(changed());
                }
                let mut encoded = Encoded {
                    tokens: Vec::with_capacity(block.bytes.len()),
                    tunes: Vec::with_capacity(hashes.len()),
                    read: block.bytes.len() as u64,
                };
                let mut tune = 0usize;
                source.tunes(&block, text, |text| {
                    if let Some(&hash) = hashes.get(tune).filter(|_| !plan.drops(first + tune as u64)) {
                        encoder.encode(text, plan.rule.of(hash), &mut encoded);
                    }
                    tune += 1;
                })?;
                if tune != hashes.len() { Err(changed()) } else { Ok(encoded) }
            },
            |encoded| {
                done += encoded.read;
                progress(done)?;
                sink(encoded)
            },
        )?;
        if number != blocks.len() {
            let path = sources.last().map(|source| source.path.clone()).unwrap_or_default();
            return Err(CorpusError::Changed { path });
        }
        Ok(states.into_iter().map(|(encoder, _)| encoder).collect())
    }
}

fn reader(sources: &[SourceFile]) -> BlockReader {
    BlockReader::new(sources.iter().map(|s| (s.path.clone(), Cut::Tunes(s.marks))).collect())
}

/// What is decided before tokens are written.
pub struct Plan {
    /// Hash -> split.
    pub rule: SplitRule,
    /// Tunes whose hash an earlier one has.
    pub repeats: Bits,
    /// Whether they stay in.
    pub keep_duplicates: bool,
    /// Tunes in the pack.
    pub tunes: u64,
    /// All characters, those of duplicates too.
    pub vocab: Vocab,
    /// Tunes without text.
    pub empty: u64,
}

impl Plan {
    /// Whether a tune (by its number among all found) is a duplicate that is left out.
    pub fn drops(&self, tune: u64) -> bool {
        !self.keep_duplicates && self.repeats.get(tune)
    }

    /// The header; tokens and checksums are not known yet.
    pub fn header(&self) -> Header {
        Header {
            tunes: self.tunes,
            vocab: self.vocab.len() as u64,
            duplicates: self.repeats.ones(),
            empty: self.empty,
            duplicates_kept: self.keep_duplicates,
            ..Header::default()
        }
    }

    /// Where the sections begin.
    pub fn layout(&self) -> Result<Layout, CorpusError> {
        self.header().layout().ok_or(CorpusError::TooManyTunes { limit: MAX_TUNES })
    }

    /// Zeros. \[3\]\[V\]
    pub fn no_counts(&self) -> [Vec<u64>; 3] {
        std::array::from_fn(|_| vec![0; self.vocab.len()])
    }
}
