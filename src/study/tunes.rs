//! Tunes of a study's best model at several temperatures: sampled, measured, written, and made ready for the page.
//!
//! Everything goes into `tunes/` of the study's folder: `t0.5/`, `t1/`, `t2/` with the tunes, `measures.csv` with the
//! numbers of all temperatures. It is made under another name and takes the old one's place when it is complete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::results::{Measure, TuneSet};
use crate::abc;
use crate::corpus::Vocab;
use crate::engine::Engine;
use crate::files::{self, FileError};
use crate::measures::Reference;
use crate::sample::write::file_name;
use crate::sample::{
    self, Choice, Formats, Judged, SampleError, SampleOptions, TuneText, WriteError, judge_all, write_set,
};
use crate::sound::{SoundError, SoundFont, midi_to_wav};
use crate::viz::page::data::TunePage;
use crate::viz::page::tunes::tune_page;

/// The folder in the study's.
pub const FOLDER: &str = "tunes";
/// The table in it; what marks the folder as one of ours.
pub const TABLE: &str = "measures.csv";
/// The most notes, as played, of a tune that the page shows.
const MAX_NOTES: usize = 3000;
/// Fewer notes than these are not worth a look.
const MIN_NOTES: usize = 16;

/// What is sampled and written.
#[derive(Debug, Clone)]
pub struct SetOptions {
    /// The study's folder, which exists.
    pub out: PathBuf,
    /// Temperatures whose tunes are written, each with how many of them go on the page.
    pub written: Vec<(f64, usize)>,
    /// Temperatures that are measured only.
    pub measured: Vec<f64>,
    /// Tunes at each temperature.
    pub tunes: usize,
    /// The most characters of a tune.
    pub max_chars: usize,
    /// Seed of all sets.
    pub seed: u64,
    /// What sound is made with; None: no sound.
    pub font: Option<SoundFont>,
    /// How many tunes of each written set become sound at most: ten megabytes a minute.
    pub sounded: usize,
}

impl SetOptions {
    /// The study's own: 64 tunes at each of 0.3, 0.4, ..., 2; those at 0.5, 1 and 2 are written, ten of them for the
    /// page.
    pub fn new(out: &Path) -> SetOptions {
        SetOptions {
            out: out.to_path_buf(),
            written: vec![(0.5, 4), (1.0, 4), (2.0, 2)],
            measured: (3..=20).map(|tenths| f64::from(tenths) / 10.0).collect(),
            tunes: 64,
            max_chars: 2000,
            seed: 1,
            font: None,
            sounded: 8,
        }
    }
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Made {
    /// The sets, by temperature.
    pub sets: Vec<TuneSet>,
    /// Tunes for the page, by temperature.
    pub pages: Vec<TunePage>,
    /// What the user should be told, one sentence each.
    pub notes: Vec<String>,
}

/// Why there are no sets.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    /// Sampling.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// Writing tunes.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Writing another file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Making sound.
    #[error(transparent)]
    Sound(#[from] SoundError),
    /// A folder of somebody else's stands where the sets should.
    #[error(
        "{} is there and was not made by a study (it has no {TABLE}); move it away or choose another folder",
        path.display()
    )]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
}

/// Samples, measures and writes the sets. `stop` is asked between temperatures; None where it said so, and then the
/// folder is as it was before.
pub fn make_sets(
    engine: &mut dyn Engine,
    vocab: &Vocab,
    reference: &Reference,
    options: &SetOptions,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Made>, SetError> {
    let place = Place::new(&options.out)?;
    let mut made = Made { sets: Vec::new(), pages: Vec::new(), notes: reference.notes().to_vec() };
    for (temperature, written) in temperatures(options) {
        if stop() {
            return Ok(None);
        }
        let choice = Choice { temperature: temperature as f32, ..Choice::default() };
        let wanted = SampleOptions {
            tunes: options.tunes,
            seed: options.seed,
            choice,
            max_chars: options.max_chars,
            ..SampleOptions::default()
        };
        let tunes = sample::tunes(engine, vocab, &wanted)?;
        let mut set =
            TuneSet { temperature, tunes: tunes.len(), folder: None, measures: reference.measure(&tunes) };
        if let Some(pages) = written {
            let name = format!("t{temperature}");
            write(&place.staging.join(&name), &name, &tunes, options, &mut made.notes)?;
            set.folder = Some(format!("{FOLDER}/{name}"));
            for i in readable(&tunes, pages) {
                let origin = format!("temperature {temperature}, tune {}", i + 1);
                // Numbers as in the files, so that the page's text is the file's.
                made.pages.push(tune_page(&tunes[i].text, tunes[i].closed, i + 1, &origin, Some(reference)));
            }
        }
        made.sets.push(set);
    }
    files::write_atomic(&place.staging.join(TABLE), table(&made.sets).as_bytes())?;
    if stop() {
        return Ok(None);
    }
    place.commit()?;
    Ok(Some(made))
}

/// All temperatures, ascending, each once; with how many tunes of it go on the page where it is written.
fn temperatures(options: &SetOptions) -> Vec<(f64, Option<usize>)> {
    let written = options.written.iter().map(|&(temperature, pages)| (temperature, Some(pages)));
    let measured = options.measured.iter().map(|&temperature| (temperature, None));
    let mut all: Vec<(f64, Option<usize>)> = written.chain(measured).collect();
    // Stable: the written one of two equal temperatures stays.
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.dedup_by(|b, a| a.0 == b.0);
    all
}

/// Writes a set's tunes and the sound of the first ones that have notes.
fn write(
    folder: &Path,
    name: &str,
    tunes: &[TuneText],
    options: &SetOptions,
    notes: &mut Vec<String>,
) -> Result<(), SetError> {
    let judged = judge_all(tunes, true);
    write_set(folder, &judged, Formats::ALL, false)?;
    let Some(font) = &options.font else { return Ok(()) };
    let playable: Vec<(usize, &[u8])> = judged
        .iter()
        .enumerate()
        .filter_map(|(i, tune)| Some((i, tune.midi.as_deref()?)))
        .take(options.sounded)
        .collect();
    let told: Vec<Option<String>> = playable
        .par_iter()
        .map(|&(i, midi)| {
            let file = file_name(i + 1, tunes.len(), "wav");
            let (wav, note) = midi_to_wav(midi, font)?;
            files::write_atomic(&folder.join(&file), &wav)?;
            Ok(note.map(|note| format!("{FOLDER}/{name}/{file}: {note}")))
        })
        .collect::<Result<_, SetError>>()?;
    notes.extend(told.into_iter().flatten());
    let with_notes = judged.iter().filter(|tune: &&Judged| tune.midi.is_some()).count();
    if with_notes > playable.len() {
        notes.push(format!(
            "{FOLDER}/{name}: the first {} of {with_notes} tunes with notes became sound (.wav)",
            playable.len()
        ));
    }
    Ok(())
}

/// Indices of up to `count` tunes that somebody may want to see, in the order of the set: closed ones that parse and have
/// some bars before those that only can be played.
fn readable(tunes: &[TuneText], count: usize) -> Vec<usize> {
    let mut good = Vec::new();
    let mut others = Vec::new();
    for (i, tune) in tunes.iter().enumerate() {
        let verdict = abc::judge(&tune.text);
        if !(MIN_NOTES..=MAX_NOTES).contains(&verdict.played_notes) {
            continue;
        }
        let list = if tune.closed && verdict.parses && verdict.bars >= 4 { &mut good } else { &mut others };
        list.push(i);
        if good.len() == count {
            break;
        }
    }
    let mut chosen: Vec<usize> = good.into_iter().chain(others).take(count).collect();
    chosen.sort_unstable();
    chosen
}

/// One row a temperature and measure.
fn table(sets: &[TuneSet]) -> String {
    let mut out = String::from("temperature,tunes,key,name,unit,value,error,corpus\n");
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.6}"));
    for set in sets {
        for Measure { key, name, unit, value, error, corpus } in &set.measures {
            let numbers = [number(*value), number(*error), number(*corpus)].join(",");
            // Names have commas, and no quotes.
            out += &format!("{},{},{key},\"{name}\",{unit},{numbers}\n", set.temperature, set.tunes);
        }
    }
    out
}

/// Where the sets are made, and where they go.
struct Place {
    folder: PathBuf,
    staging: PathBuf,
    old: PathBuf,
}

impl Place {
    /// Clears what an interrupted study left, and makes the hidden folder.
    fn new(out: &Path) -> Result<Place, SetError> {
        let folder = out.join(FOLDER);
        let place = Place { staging: out.join(".tunes.new"), old: out.join(".tunes.old"), folder };
        if place.old.exists() && !place.folder.exists() {
            // Killed between two renames: the old sets are whole.
            fs::rename(&place.old, &place.folder).map_err(failed("rename", &place.old))?;
        }
        if place.folder.symlink_metadata().is_ok() && !place.is_ours() {
            return Err(SetError::NotOurs { path: place.folder.clone() });
        }
        remove(&place.old)?;
        remove(&place.staging)?;
        fs::create_dir(&place.staging).map_err(failed("make the folder", &place.staging))?;
        Ok(place)
    }

    /// A folder with our table, or an empty one.
    fn is_ours(&self) -> bool {
        let empty = || fs::read_dir(&self.folder).is_ok_and(|mut entries| entries.next().is_none());
        self.folder.join(TABLE).is_file() || empty()
    }

    fn commit(self) -> Result<(), SetError> {
        if self.folder.exists() {
            fs::rename(&self.folder, &self.old).map_err(failed("rename", &self.folder))?;
        }
        if let Err(error) = fs::rename(&self.staging, &self.folder) {
            let _ = fs::rename(&self.old, &self.folder);
            return Err(failed("write", &self.folder)(error).into());
        }
        remove(&self.old)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Gone already after a commit.
        let _ = fs::remove_dir_all(&self.staging);
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_path_buf();
    move |source| FileError::new(action, &path, source)
}

fn remove(folder: &Path) -> Result<(), SetError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", folder)(error).into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "tunes_tests.rs"]
mod tests;
