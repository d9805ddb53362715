//! A run's text: packed once into the run folder, memory-mapped from there, checked against its sources on resuming.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::TrainError;
use super::evaluate::Part;
use super::progress::Progress;
use crate::config::{RunConfig, Source};
use crate::corpus::{CorpusError, Pack, Split, Vocab, open_data, source_checksums};

/// The built-in tunebook: with it `train` needs no file.
pub const BUILT_IN: &str = include_str!("../../data/tunebook.abc");

/// File name of the built-in tunebook in the folder of a run that trains on it.
const BUILT_IN_FILE: &str = "tunebook.abc";

/// Every file of a run folder that this module makes.
pub const FILES: &[&str] = &[BUILT_IN_FILE, "corpus.pack", "val.pack", "test.pack"];

/// What a run trains and is evaluated on.
#[derive(Debug, Clone)]
pub struct TrainData {
    /// The model's vocabulary: what the training tunes hold.
    pub vocab: Vocab,
    /// Training tunes, never empty.
    pub train: Part,
    /// Validation tunes, where there are any.
    pub val: Option<Part>,
    /// Test tunes, where there are any.
    pub test: Option<Part>,
}

/// Packs (a new run) or opens (a resumed one) the text of `config`, and completes `config`: checksums, sources, V.
pub fn prepare(config: &mut RunConfig, folder: &Path, progress: &Progress) -> Result<TrainData, TrainError> {
    check_sources(config, progress)?;
    let built_in = config.data.train.is_empty();
    let paths = if built_in {
        let file = folder.join(BUILT_IN_FILE);
        if !file.exists() {
            crate::files::write_atomic(&file, BUILT_IN.as_bytes())?;
        }
        vec![file]
    } else {
        config.data.train.clone()
    };
    let data = &mut config.data;
    let mut sources = Vec::new();
    let mut open = |of: &'static str, paths: &[PathBuf], keep: bool, name: &str, sum: &mut Option<String>| {
        let place = Place { of, paths, keep_duplicates: keep, pack: folder.join(name) };
        place.open(sum, &mut sources, progress).map(Arc::new)
    };
    let corpus = open("data", &paths, data.keep_duplicates, "corpus.pack", &mut data.corpus_checksum)?;
    // Every tune counts in a reported loss, so duplicates stay there.
    let val = match data.val.as_slice() {
        [] => None,
        paths => Some(open("--val", paths, true, "val.pack", &mut data.val_checksum)?),
    };
    let test = match data.test.as_slice() {
        [] => None,
        paths => Some(open("--test", paths, true, "test.pack", &mut data.test_checksum)?),
    };
    if data.sources.is_empty() {
        // The built-in tunebook's copy lies in the run folder: nobody else's file to watch.
        sources.retain(|source| !(built_in && source.of == "data"));
        data.sources = sources;
    }

    let whole = val.is_some();
    let train_split = if whole { None } else { Some(Split::Train) };
    let vocab = corpus.vocab_of(train_split);
    if config.model.vocab != 0 && config.model.vocab != vocab.len() {
        return Err(TrainError::Run {
            path: folder.into(),
            problem: format!(
                "its corpus has a vocabulary of {}, config.toml says {}; was corpus.pack replaced?",
                vocab.len(),
                config.model.vocab
            ),
        });
    }
    config.model.vocab = vocab.len();
    let part = |pack: &Arc<Pack>, split: Option<Split>| Part::new(pack.clone(), pack.tunes_of(split), &vocab);
    let some = |part: Part| (!part.tunes.is_empty()).then_some(part);
    let train = part(&corpus, train_split);
    if train.tunes.is_empty() {
        let path = paths.first().cloned().unwrap_or_default();
        return Err(CorpusError::NoTunes { path }.into());
    }
    let val = match &val {
        Some(pack) => some(part(pack, None)),
        None => some(part(&corpus, Some(Split::Validation))),
    };
    let test = match &test {
        Some(pack) => some(part(pack, None)),
        None if whole => None,
        None => some(part(&corpus, Some(Split::Test))),
    };
    Ok(TrainData { vocab, train, val, test })
}

/// Opens all of DATA for an evaluation, duplicates kept. What has to be packed for that is gone afterwards.
pub fn open_all(data: &[PathBuf]) -> Result<Pack, CorpusError> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("songrnn-fast-{}-{}.pack", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(name);
    let opened = open_data(data, true, &path);
    // The map keeps the content; where a system refuses to remove a mapped file, it cleans up its temporary folder.
    let _ = std::fs::remove_file(&path);
    opened.map(|(pack, _)| pack)
}

/// One kind of data and where its pack lies.
struct Place<'a> {
    of: &'static str,
    paths: &'a [PathBuf],
    keep_duplicates: bool,
    pack: PathBuf,
}

impl Place<'_> {
    /// Opens the pack in the run folder, or makes it; `sum` is what the run remembers, if it does already.
    fn open(
        &self,
        sum: &mut Option<String>,
        sources: &mut Vec<Source>,
        progress: &Progress,
    ) -> Result<Pack, TrainError> {
        let packed_before = sum.is_some() && self.pack.exists();
        let pack = if packed_before {
            Pack::open(&self.pack)?
        } else {
            let (pack, notes) = open_data(self.paths, self.keep_duplicates, &self.pack)?;
            for note in notes {
                progress.say(&format!("note: {note}"));
            }
            if pack.duplicates() > 0 && self.of == "data" {
                let done =
                    if pack.duplicates_kept() { "kept" } else { "left out (--keep-duplicates keeps them)" };
                progress.say(&format!("note: {} duplicate tunes, {done}", pack.duplicates()));
            }
            // A corpus that the user packed is checked by its own checksum; files are remembered one by one.
            if self.pack.exists() {
                for (path, _, checksum) in source_checksums(self.paths)? {
                    sources.push(Source { of: self.of.into(), path, checksum: hex(checksum) });
                }
            }
            pack
        };
        let found = hex(pack.checksum());
        match sum {
            Some(expected) if *expected != found => Err(TrainError::Run {
                path: if packed_before {
                    self.pack.clone()
                } else {
                    self.paths.first().cloned().unwrap_or_default()
                },
                problem: format!(
                    "another corpus than the run began with ({}): expected checksum {expected}, found {found}; restore it, or begin a new run",
                    self.of
                ),
            }),
            _ => {
                *sum = Some(found);
                Ok(pack)
            }
        }
    }
}

/// Refuses source files that have changed since they were packed. A file that is gone is only mentioned: the pack in
/// the run folder is all that training needs.
fn check_sources(config: &RunConfig, progress: &Progress) -> Result<(), TrainError> {
    let mut gone = Vec::new();
    for source in &config.data.sources {
        if !source.path.exists() {
            gone.push(source.path.display().to_string());
            continue;
        }
        let found = source_checksums(std::slice::from_ref(&source.path))?;
        let found = found.first().map_or_else(String::new, |(_, _, sum)| hex(*sum));
        if found != source.checksum {
            return Err(TrainError::Run {
                path: source.path.clone(),
                problem: format!(
                    "changed since the run began ({}): expected checksum {}, found {found}; restore the file, remove it (the run has its own copy), or begin a new run",
                    source.of, source.checksum
                ),
            });
        }
    }
    if let Some(first) = gone.first() {
        let more = if gone.len() > 1 { format!(" and {} more", gone.len() - 1) } else { String::new() };
        progress
            .say(&format!("note: {first}{more} is gone; training goes on from the run folder's own copy"));
    }
    Ok(())
}

fn hex(checksum: u64) -> String {
    format!("{checksum:016x}")
}
