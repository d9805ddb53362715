//! Body hashes of any number of tunes in bounded memory: kept in order, beyond a few million in a temporary file
//! beside the pack, and searched for duplicates part by part.

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::CorpusError;
use crate::files::{AtomicFile, FileError};

/// Hashes held in memory before they go to the file: 8 MB.
const IN_MEMORY: usize = 1 << 20;
/// Different hashes held at once while duplicates are searched: about 75 MB of table.
const AT_ONCE: usize = 4 << 20;
/// Files that the hashes are divided over where there are more than that, by their highest bits.
const PARTS: usize = 64;
/// A hash and the number of its tune.
const RECORD: usize = 12;

/// Where the limits lie; smaller in tests.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    in_memory: usize,
    at_once: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { in_memory: IN_MEMORY, at_once: AT_ONCE }
    }
}

/// The tunes' body hashes in the order of the tunes.
#[derive(Debug)]
pub struct Hashes {
    recent: Vec<u64>,
    spilled: u64,
    file: Option<AtomicFile>,
    /// The pack: temporary files lie beside it.
    beside: PathBuf,
    limits: Limits,
}

impl Hashes {
    /// None yet; temporary files, where needed, lie beside `pack` and are removed in the end.
    pub fn new(pack: &Path, limits: Limits) -> Hashes {
        Hashes { recent: Vec::new(), spilled: 0, file: None, beside: pack.to_path_buf(), limits }
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.spilled + self.recent.len() as u64
    }

    /// Adds the next tunes' hashes.
    pub fn extend(&mut self, hashes: &[u64]) -> Result<(), CorpusError> {
        self.recent.extend_from_slice(hashes);
        if self.recent.len() > self.limits.in_memory {
            let mut bytes = Vec::with_capacity(self.recent.len() * 8);
            self.recent.iter().for_each(|hash| bytes.extend_from_slice(&hash.to_le_bytes()));
            if self.file.is_none() {
                self.file = Some(AtomicFile::create(&self.beside)?);
            }
            if let Some(file) = &mut self.file {
                file.file().seek(SeekFrom::End(0)).map_err(|e| temporary(&self.beside, e))?;
                file.write_all(&bytes)?;
            }
            self.spilled += self.recent.len() as u64;
            self.recent.clear();
        }
        Ok(())
    }

    /// The hashes of tunes `from .. from + out.len()`, which must be there.
    pub fn read(&mut self, from: u64, out: &mut [u64]) -> Result<(), CorpusError> {
        let in_file = self.spilled.saturating_sub(from).min(out.len() as u64) as usize;
        let (old, new) = out.split_at_mut(in_file);
        if let (Some(file), false) = (&mut self.file, old.is_empty()) {
            let mut bytes = vec![0; old.len() * 8];
            let file = file.file();
            file.seek(SeekFrom::Start(from * 8))
                .and_then(|_| file.read_exact(&mut bytes))
                .map_err(|e| temporary(&self.beside, e))?;
            for (hash, bytes) in old.iter_mut().zip(bytes.chunks_exact(8)) {
                *hash = super::format::read_u64(bytes, 0);
            }
        }
        let first = (from + in_file as u64).saturating_sub(self.spilled) as usize;
        for (hash, found) in new.iter_mut().zip(self.recent.iter().skip(first)) {
            *hash = *found;
        }
        Ok(())
    }

    /// Marks every tune whose hash an earlier tune has.
    pub fn repeats(&mut self) -> Result<Bits, CorpusError> {
        let mut repeats = Bits::new(self.len());
        if self.len() <= self.limits.at_once as u64 {
            let mut seen = Seen::with_capacity_and_hasher(self.len() as usize, Default::default());
            self.each(|tune, hash| {
                if !seen.insert(hash) {
                    repeats.set(tune);
                }
                Ok(())
            })?;
            return Ok(repeats);
        }
        let mut parts = Vec::with_capacity(PARTS);
        for _ in 0..PARTS {
            parts.push((AtomicFile::create(&self.beside)?, Vec::<u8>::new(), 0u64));
        }
        let flush = 64 << 10;
        self.each(|tune, hash| {
            let (file, buffer, count) = &mut parts[(hash >> 58) as usize];
            buffer.extend_from_slice(&hash.to_le_bytes());
            buffer.extend_from_slice(&(tune as u32).to_le_bytes());
            *count += 1;
            if buffer.len() >= flush {
                file.write_all(buffer)?;
                buffer.clear();
            }
            Ok(())
        })?;
        for (mut file, buffer, count) in parts {
            file.write_all(&buffer)?;
            // A part that is still too large is read several times, each time for some of the hashes.
            let rounds = count.div_ceil(self.limits.at_once as u64).max(1);
            for round in 0..rounds {
                let room = (count / rounds + count / rounds / 8) as usize;
                let mut seen = Seen::with_capacity_and_hasher(room, Default::default());
                read_records(file.file(), count, |hash, tune| {
                    if (hash >> 32) % rounds == round && !seen.insert(hash) {
                        repeats.set(u64::from(tune));
                    }
                })
                .map_err(|e| temporary(&self.beside, e))?;
            }
        }
        Ok(repeats)
    }

    /// Calls `take` with every tune's number and hash, in order.
    fn each(&mut self, mut take: impl FnMut(u64, u64) -> Result<(), CorpusError>) -> Result<(), CorpusError> {
        let mut chunk = vec![0u64; 1 << 16];
        let mut at = 0;
        while at < self.len() {
            let n = (self.len() - at).min(chunk.len() as u64) as usize;
            self.read(at, &mut chunk[..n])?;
            for (i, &hash) in chunk[..n].iter().enumerate() {
                take(at + i as u64, hash)?;
            }
            at += n as u64;
        }
        Ok(())
    }
}

fn read_records(file: &mut std::fs::File, count: u64, mut take: impl FnMut(u64, u32)) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = vec![0; RECORD << 14];
    let mut left = count;
    while left > 0 {
        let n = left.min(1 << 14) as usize;
        let records = &mut bytes[..n * RECORD];
        file.read_exact(records)?;
        for record in records.chunks_exact(RECORD) {
            take(super::format::read_u64(record, 0), super::format::read_u32(record, 8));
        }
        left -= n as u64;
    }
    Ok(())
}

fn temporary(beside: &Path, source: std::io::Error) -> CorpusError {
    FileError::new("use a temporary file beside", beside, source).into()
}

type Seen = HashSet<u64, BuildHasherDefault<Mix>>;

/// The hashes are mixed well already, but a part's share their highest bits: one multiplication spreads the others.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

/// One bit a tune.
#[derive(Debug, Clone)]
pub struct Bits {
    words: Vec<u64>,
    ones: u64,
}

impl Bits {
    fn new(len: u64) -> Bits {
        Bits { words: vec![0; len.div_ceil(64) as usize], ones: 0 }
    }

    fn set(&mut self, at: u64) {
        if let Some(word) = self.words.get_mut((at / 64) as usize) {
            self.ones += u64::from(*word >> (at % 64) & 1 == 0);
            *word |= 1 << (at % 64);
        }
    }

    /// The bit at `at`.
    pub fn get(&self, at: u64) -> bool {
        self.words.get((at / 64) as usize).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// How many are set.
    pub fn ones(&self) -> u64 {
        self.ones
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    fn repeats_are_the_same_in_memory_and_spilled() {
        let folder = tempfile::tempdir().unwrap();
        let pack = folder.path().join("a.pack");
        let hashes: Vec<u64> = (0..20_000u64).map(|i| xxh3_64(&(i * i % 7919).to_le_bytes())).collect();
        let mut seen = HashSet::new();
        let want: Vec<bool> = hashes.iter().map(|h| !seen.insert(*h)).collect();
        for limits in [
            Limits::default(),
            Limits { in_memory: 1000, at_once: 1 << 20 },
            Limits { in_memory: 777, at_once: 50 },
            Limits { in_memory: 1 << 20, at_once: 300 },
        ] {
            let mut all = Hashes::new(&pack, limits);
            hashes.chunks(333).for_each(|chunk| all.extend(chunk).unwrap());
            let repeats = all.repeats().unwrap();
            let got: Vec<bool> = (0..hashes.len() as u64).map(|i| repeats.get(i)).collect();
            assert_eq!(got, want, "{limits:?}");
            assert_eq!(repeats.ones(), want.iter().filter(|&&r| r).count() as u64);
            let mut some = vec![0; 2500];
            for from in [0, 500, 17_499] {
                all.read(from, &mut some).unwrap();
                assert_eq!(some, hashes[from as usize..][..2500], "{limits:?} from {from}");
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "temporary files left");
    }
}
