//! Packing: from files of tunes to one packed file, in bounded memory, on all cores.
//!
//! The files are read three times: what is each (encoding, marks)? which tunes (body hashes) and characters are
//! there? and, when the vocabulary and the duplicates are known, the tokens. Nothing that grows with the corpus stays
//! in memory but 16 bytes a megabyte of text and one bit a tune.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use xxhash_rust::xxh3::Xxh3;

use super::encode::{Characters, Encoded, Encoder};
use super::format::{Header, Layout};
use super::scan::{Plan, Scan};
use super::sections::Sections;
use super::sources::survey;
use super::split::body_hash;
use super::tunes::{self, MAX_TUNE, Notes, list_files};
use super::{CorpusError, Pack};
use crate::files::AtomicFile;

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
    let header = sections.finish(&mut file, plan.header(), &plan.vocab, &counts)?;
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
    if let [one] = data
        && Pack::is_pack(one)
    {
        return Ok((Pack::open(one)?, Notes::new()));
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
        let mut encoder = Encoder::new(&plan.vocab);
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
        sections.finish(&mut bytes, plan.header(), &plan.vocab, &encoder.counts)?;
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

fn add_counts(sum: &mut [Vec<u64>; 3], more: &[Vec<u64>; 3]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum += more;
        }
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
