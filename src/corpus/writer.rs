//! Packing: from files of tunes to one packed file, in bounded memory, on all cores.
//!
//! The files are read three times: what is each (encoding, marks)? which tunes (body hashes) and characters are
//! there? and, when the vocabulary and the duplicates are known, the tokens. Nothing that grows with the corpus stays
//! in memory but 16 bytes a megabyte of text and one bit a tune.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::blocks::{Block, BlockReader, Cut, run};
use super::format::{HEADER, Header, INDEX_ENTRY, Layout, MAX_TUNES, encode_index, encode_vocab};
use super::sources::{SourceFile, survey};
use super::spill::{Bits, Hashes, Limits};
use super::split::{SplitRule, SplitSurvey, body_hash};
use super::tunes::{self, Found, MAX_TUNE, Notes, list_files};
use super::vocab::MAX_CHARACTERS;
use super::{CorpusError, Pack, Split, Vocab};
use crate::files::{AtomicFile, FileError};

/// How to pack.
#[derive(Debug, Clone, Copy, Default)]
pub struct PackOptions {
    /// Whether a tune whose body has been met before stays in.
    pub keep_duplicates: bool,
    /// Threads; 0 = one a core.
    pub threads: usize,
    /// Set (by a signal's handler) to stop: packing then fails with [`CorpusError::Stopped`] and leaves nothing.
    pub stop: Option<&'static AtomicBool>,
}

impl PackOptions {
    fn workers(&self) -> usize {
        // More would wait for the one that reads and the one that writes.
        const MOST: usize = 16;
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(MOST),
            n => n.min(MOST),
        }
    }

    fn check_stop(&self) -> Result<(), CorpusError> {
        match self.stop {
            Some(stop) if stop.load(Ordering::Relaxed) => Err(CorpusError::Stopped),
            _ => Ok(()),
        }
    }
}

/// How far packing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read, all three readings together.
    pub done: u64,
    /// Bytes to be read, all three readings together.
    pub total: u64,
}

/// What was packed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackSummary {
    /// Files read.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Tunes in the pack, by split.
    pub tunes: [u64; 3],
    /// Characters in the pack (without `<start>` and `<end>`).
    pub characters: u64,
    /// Vocabulary entries V.
    pub vocab: u64,
    /// Tunes whose body had been met before.
    pub duplicates: u64,
    /// Whether they are in the pack.
    pub duplicates_kept: bool,
    /// Tunes without text, left out.
    pub empty: u64,
    /// Bytes of the pack.
    pub pack_bytes: u64,
    /// What the user should be told.
    pub notes: Notes,
}

/// Packs files and folders (DATA) into a packed file at `path`, written beside it and renamed. `progress` is called
/// from several threads, at most once a megabyte.
pub fn pack_to(
    path: &Path,
    data: &[PathBuf],
    options: &PackOptions,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<PackSummary, CorpusError> {
    let files = list_files(data)?;
    if let (Some(source), true) = (same_file(path, &files), path.exists()) {
        return Err(CorpusError::OverSource { path: source });
    }
    let workers = options.workers();
    let total: u64 = files.iter().filter_map(|file| fs::metadata(file).ok()).map(|meta| meta.len()).sum();
    let meter = Meter { total, progress, options };
    let (sources, mut notes) = survey(&files, workers, |done| meter.tell(0, done))?;
    // The place is tried before the work.
    let mut file = AtomicFile::create(path)?;
    let mut scan = Scan::new(path);
    scan.read(&sources, workers, |done| meter.tell(1, done))?;
    for (source, found) in sources.iter().zip(&scan.found) {
        if found.unclosed > 0 {
            let n = found.unclosed;
            let path = source.path.display();
            notes.push(format!(
                "{path}: {n} <start> without <end>; each such tune ends where the next begins"
            ));
        }
    }
    if scan.hashes.len() == 0 {
        return Err(match data {
            [one] if total == 0 => CorpusError::Empty { path: one.clone() },
            _ => CorpusError::NoTunes { path: data.first().cloned().unwrap_or_default() },
        });
    }
    let plan = scan.plan(options.keep_duplicates)?;
    let layout = plan.layout()?;
    let mut sections = Sections::new(&layout);
    let encoders = scan.encode(
        &sources,
        &plan,
        workers,
        |done| meter.tell(2, done),
        |encoded| sections.add(&mut file, &encoded),
    )?;
    let mut counts = plan.no_counts();
    for encoder in &encoders {
        add_counts(&mut counts, &encoder.counts);
    }
    let header = sections.finish(&mut file, &plan, &layout, &counts)?;
    file.commit()?;
    Ok(summary(&header, &layout, &plan, &counts, sources.len() as u64, total, notes))
}

/// Opens DATA: one packed file as it is; files and folders of tunes by packing them into `pack_into` first.
pub fn open_data(
    data: &[PathBuf],
    keep_duplicates: bool,
    pack_into: &Path,
) -> Result<(Pack, Notes), CorpusError> {
    let options = PackOptions { keep_duplicates, ..PackOptions::default() };
    open_data_with(data, &options, pack_into, &|_| ())
}

/// [`open_data`] with all options and with progress (of packing; a packed file is opened without).
pub fn open_data_with(
    data: &[PathBuf],
    options: &PackOptions,
    pack_into: &Path,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(Pack, Notes), CorpusError> {
    if let [one] = data {
        if Pack::is_pack(one) {
            return Ok((Pack::open(one)?, Notes::new()));
        }
    }
    let summary = pack_to(pack_into, data, options, progress)?;
    Ok((Pack::open(pack_into)?, summary.notes))
}

/// The files of DATA with their sizes and xxh3 checksums: what a run's configuration remembers of its data.
pub fn source_checksums(data: &[PathBuf]) -> Result<Vec<(PathBuf, u64, u64)>, CorpusError> {
    let mut buffer = vec![0; 1 << 18];
    let mut checksum = |path: PathBuf| {
        let unreadable = |source| CorpusError::Unreadable { path: path.clone(), source };
        let mut file = File::open(&path).map_err(unreadable)?;
        let (mut hash, mut size) = (Xxh3::new(), 0);
        loop {
            match file.read(&mut buffer).map_err(unreadable)? {
                0 => break,
                n => {
                    hash.update(&buffer[..n]);
                    size += n as u64;
                }
            }
        }
        Ok((path, size, hash.digest()))
    };
    list_files(data)?.into_iter().map(&mut checksum).collect()
}

impl Pack {
    /// A pack in memory of these tunes, each text taken as it is; for tests and small uses. Empty texts are left out,
    /// duplicates too unless they are kept.
    pub fn from_texts(texts: &[&str], keep_duplicates: bool) -> Result<Pack, CorpusError> {
        let path = Path::new("the tunes in memory");
        let mut scan = Scan::new(path);
        let mut characters = Characters::default();
        let mut scratch = Vec::new();
        let mut present = Vec::with_capacity(texts.len());
        for (i, text) in texts.iter().enumerate() {
            if text.len() > MAX_TUNE {
                let line = i as u64 + 1;
                return Err(CorpusError::TuneTooLong { path: path.to_path_buf(), line, limit: MAX_TUNE });
            }
            if text.is_empty() {
                scan.empty += 1;
                continue;
            }
            characters.add(text);
            scan.add(&[body_hash(text, &mut scratch)])?;
            present.push(*text);
        }
        if present.is_empty() {
            return Err(CorpusError::NoTunes { path: path.to_path_buf() });
        }
        scan.characters = characters.into_set();
        let plan = scan.plan(keep_duplicates)?;
        let layout = plan.layout()?;
        let mut encoder = Encoder::new(&plan);
        let mut encoded = Encoded::default();
        for (i, text) in present.iter().enumerate() {
            let mut hash = [0];
            scan.hashes.read(i as u64, &mut hash)?;
            if !plan.drops(i as u64) {
                encoder.encode(text, plan.rule.of(hash[0]), &mut encoded);
            }
        }
        let mut sections = Sections::new(&layout);
        let mut bytes = Vec::new();
        sections.add(&mut bytes, &encoded)?;
        sections.finish(&mut bytes, &plan, &layout, &encoder.counts)?;
        Pack::from_vec(bytes, path)
    }

    /// A pack in memory of the tunes of a text (ABC or `<start>`/`<end>`): the built-in tunebook.
    pub fn from_tunebook(text: &str, keep_duplicates: bool) -> Result<Pack, CorpusError> {
        let tunes = tunes::tunes_of(text);
        let texts: Vec<&str> = tunes.iter().map(String::as_str).collect();
        Pack::from_texts(&texts, keep_duplicates)
    }
}

/// Which source is the file at `path`, if any: it must not be overwritten.
fn same_file(path: &Path, sources: &[PathBuf]) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    sources.iter().find(|source| fs::canonicalize(source).is_ok_and(|source| source == path)).cloned()
}

struct Meter<'a> {
    total: u64,
    progress: &'a (dyn Fn(Progress) + Sync),
    options: &'a PackOptions,
}

impl Meter<'_> {
    /// Tells how far a reading (0, 1, 2) has come; an error where it should stop.
    fn tell(&self, reading: u64, done: u64) -> Result<(), CorpusError> {
        let total = self.total.saturating_mul(3);
        let done = self.total.saturating_mul(reading).saturating_add(done).min(total);
        (self.progress)(Progress { done, total });
        self.options.check_stop()
    }
}

/// Characters met.
#[derive(Debug)]
struct Characters {
    ascii: [bool; 256],
    others: BTreeSet<char>,
    /// The one before: text of another script repeats itself.
    last: char,
}

impl Default for Characters {
    fn default() -> Self {
        Characters { ascii: [false; 256], others: BTreeSet::new(), last: 'a' }
    }
}

impl Characters {
    fn add(&mut self, text: &str) {
        if text.is_ascii() {
            text.bytes().for_each(|byte| self.ascii[usize::from(byte)] = true);
            return;
        }
        for c in text.chars() {
            if c.is_ascii() {
                self.ascii[c as usize] = true;
            } else if c != self.last {
                self.others.insert(c);
                self.last = c;
            }
        }
    }

    fn into_set(self) -> BTreeSet<char> {
        let ascii = (0..128u8).filter(|&b| self.ascii[usize::from(b)]).map(char::from);
        ascii.chain(self.others.iter().copied()).collect()
    }
}

/// What the second reading remembers of a block, so that the third can tell whether it is the same.
#[derive(Debug, Clone, Copy)]
struct BlockRecord {
    tunes: u64,
    hash: u64,
}

/// The second reading: body hashes, characters.
struct Scan {
    hashes: Hashes,
    survey: SplitSurvey,
    characters: BTreeSet<char>,
    blocks: Vec<BlockRecord>,
    /// For each source.
    found: Vec<Found>,
    empty: u64,
}

impl Scan {
    fn new(pack: &Path) -> Scan {
        Scan {
            hashes: Hashes::new(pack, Limits::default()),
            survey: SplitSurvey::default(),
            characters: BTreeSet::new(),
            blocks: Vec::new(),
            found: Vec::new(),
            empty: 0,
        }
    }

    fn add(&mut self, hashes: &[u64]) -> Result<(), CorpusError> {
        hashes.iter().for_each(|&hash| self.survey.add(hash));
        self.hashes.extend(hashes)?;
        if self.hashes.len() > MAX_TUNES {
            return Err(CorpusError::TooManyTunes { limit: MAX_TUNES });
        }
        Ok(())
    }

    fn read(
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
    fn plan(&mut self, keep_duplicates: bool) -> Result<Plan, CorpusError> {
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
    fn encode(
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
            || (Encoder::new(plan), String::new()),
            |(encoder, text), (block, record, first, hashes)| {
                let source = &sources[block.file];
                let changed = || CorpusError::Changed { path: source.path.clone() };
                if xxh3_64(&block.bytes) != record.hash {
                    return Err(changed());
                }
                let mut encoded = Encoded { read: block.bytes.len() as u64, ..Encoded::default() };
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
struct Plan {
    rule: SplitRule,
    repeats: Bits,
    keep_duplicates: bool,
    /// Tunes in the pack.
    tunes: u64,
    vocab: Vocab,
    empty: u64,
}

impl Plan {
    fn drops(&self, tune: u64) -> bool {
        !self.keep_duplicates && self.repeats.get(tune)
    }

    /// Where the sections begin; the number of tokens is not known yet.
    fn layout(&self) -> Result<Layout, CorpusError> {
        let header = Header { tunes: self.tunes, vocab: self.vocab.len() as u64, ..Header::default() };
        header.layout().ok_or(CorpusError::TooManyTunes { limit: MAX_TUNES })
    }

    fn no_counts(&self) -> [Vec<u64>; 3] {
        std::array::from_fn(|_| vec![0; self.vocab.len()])
    }
}

fn add_counts(sum: &mut [Vec<u64>; 3], more: &[Vec<u64>; 3]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum += more;
        }
    }
}

/// Tokens of some tunes.
#[derive(Debug, Default)]
struct Encoded {
    /// Tokens as bytes, one or two each.
    tokens: Vec<u8>,
    /// For each tune: tokens, split.
    tunes: Vec<(u32, Split)>,
    /// Bytes of the files they come from.
    read: u64,
}

/// Text to tokens, with occurrences counted.
struct Encoder {
    vocab: Vocab,
    /// Id of each ASCII character (0 where there is none: the vocabulary has all that the tunes hold).
    ascii: [u16; 128],
    wide: bool,
    counts: [Vec<u64>; 3],
}

impl Encoder {
    fn new(plan: &Plan) -> Encoder {
        let vocab = plan.vocab.clone();
        let ascii = std::array::from_fn(|c| vocab.id(char::from(c as u8)).unwrap_or(0));
        Encoder { ascii, wide: vocab.len() > 256, counts: plan.no_counts(), vocab }
    }

    fn encode(&mut self, text: &str, split: Split, out: &mut Encoded) {
        let from = out.tokens.len();
        let unknown = self.vocab.unk().unwrap_or(self.vocab.start());
        let counts = &mut self.counts[split as usize];
        let mut tokens = 0u32;
        if self.wide {
            let mut push = |id: u16| {
                out.tokens.extend_from_slice(&id.to_le_bytes());
                tokens += 1;
                if let Some(count) = counts.get_mut(usize::from(id)) {
                    *count += 1;
                }
            };
            push(self.vocab.start());
            text.chars().for_each(|c| push(self.vocab.id(c).unwrap_or(unknown)));
            push(self.vocab.end());
        } else {
            out.tokens.push(self.vocab.start() as u8);
            if text.is_ascii() {
                out.tokens.extend(text.bytes().map(|b| self.ascii[usize::from(b & 127)] as u8));
            } else {
                out.tokens.extend(text.chars().map(|c| self.vocab.id(c).unwrap_or(unknown) as u8));
            }
            out.tokens.push(self.vocab.end() as u8);
            tokens = (out.tokens.len() - from) as u32;
            for &id in &out.tokens[from..] {
                if let Some(count) = counts.get_mut(usize::from(id)) {
                    *count += 1;
                }
            }
        }
        out.tunes.push((tokens, split));
    }
}

/// Where a pack's bytes go.
trait Place {
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
struct Sections {
    index: Section,
    tokens: Section,
    count: u64,
}

impl Sections {
    fn new(layout: &Layout) -> Sections {
        Sections { index: Section::new(layout.index), tokens: Section::new(layout.tokens), count: 0 }
    }

    fn add(&mut self, place: &mut impl Place, encoded: &Encoded) -> Result<(), CorpusError> {
        let mut entries = Vec::with_capacity(encoded.tunes.len() * INDEX_ENTRY);
        for &(len, split) in &encoded.tunes {
            entries.extend_from_slice(&encode_index(self.count, len, split as u8));
            self.count += u64::from(len);
        }
        self.index.write(place, &entries)?;
        self.tokens.write(place, &encoded.tokens)
    }

    /// Writes what is left, the vocabulary and the header.
    fn finish(
        mut self,
        place: &mut impl Place,
        plan: &Plan,
        layout: &Layout,
        counts: &[Vec<u64>; 3],
    ) -> Result<Header, CorpusError> {
        self.index.flush(place)?;
        self.tokens.flush(place)?;
        let vocab = encode_vocab(&plan.vocab, counts);
        place.put(layout.vocab, &vocab)?;
        let header = Header {
            tunes: plan.tunes,
            tokens: self.count,
            vocab: plan.vocab.len() as u64,
            duplicates: plan.repeats.ones(),
            empty: plan.empty,
            duplicates_kept: plan.keep_duplicates,
            vocab_hash: xxh3_64(&vocab),
            index_hash: self.index.hash.digest(),
            token_hash: self.tokens.hash.digest(),
        };
        let layout = header.layout().ok_or(CorpusError::TooManyTunes { limit: MAX_TUNES })?;
        place.put(0, &header.encode(&layout))?;
        debug_assert_eq!(HEADER as u64, layout.vocab);
        Ok(header)
    }
}

fn summary(
    header: &Header,
    layout: &Layout,
    plan: &Plan,
    counts: &[Vec<u64>; 3],
    files: u64,
    bytes: u64,
    notes: Notes,
) -> PackSummary {
    let tunes = std::array::from_fn(|part| counts[part].first().copied().unwrap_or(0));
    PackSummary {
        files,
        bytes,
        tunes,
        characters: header.tokens - 2 * header.tunes,
        vocab: header.vocab,
        duplicates: header.duplicates,
        duplicates_kept: plan.keep_duplicates,
        empty: header.empty,
        pack_bytes: header.layout().unwrap_or(*layout).len,
        notes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_files_gives_the_tunes_back() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            fs::write(folder.path().join(name), bytes).unwrap();
        };
        write("a.abc", b"% top\nX:1\nT:A\nK:C\nabc|\n\nX:2\nT:B\nK:C\nABC|\r\n\r\nX:3\nT:Again\nK:C\nabc|\n");
        write("b.txt", b"<start>\nX:9\nT:D\xe9j\xe0\nK:G\ng2|  \n<end>\n<start>\n<end>\n");
        let out = folder.path().join("out.pack");
        let data = [folder.path().to_path_buf()];
        let summary = pack_to(&out, &data, &PackOptions::default(), &|_| ()).unwrap();
        assert_eq!((summary.duplicates, summary.empty, summary.tunes.iter().sum::<u64>()), (1, 1, 3));
        assert_eq!(summary.notes.len(), 1, "{:?}", summary.notes);
        let pack = Pack::open(&out).unwrap();
        let texts: Vec<String> = (0..pack.tunes()).map(|tune| pack.text(tune)).collect();
        assert_eq!(texts, ["X:1\nT:A\nK:C\nabc|", "X:2\nT:B\nK:C\nABC|", "X:9\nT:Déjà\nK:G\ng2|"]);
        assert_eq!(pack.vocab_of(None).encode("Déjà").unwrap().len(), 4);
        // Nothing but the dropped duplicate has an n.
        assert_eq!(pack.vocab_of(None).id('n'), None);
        let keep = PackOptions { keep_duplicates: true, threads: 3, stop: None };
        pack_to(&out, &data, &keep, &|_| ()).unwrap();
        let kept = Pack::open(&out).unwrap();
        assert_eq!((kept.tunes(), kept.duplicates()), (4, 1));
        assert_eq!(kept.split(0), kept.split(2), "duplicates never straddle the split");
        assert_eq!(summary.pack_bytes, pack.bytes());
    }
}
