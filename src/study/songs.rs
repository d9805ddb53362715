//! What the assignment's protocol reads: songs as raw characters, their delimiter lines among them, and random slices.

use std::fs;
use std::path::{Path, PathBuf};

use super::StudyError;
use super::folder::StudyData;
use crate::abc;
use crate::corpus::tunes::{self, Marks};
use crate::corpus::vocab::{END, START};
use crate::corpus::{CorpusError, Pack, Vocab};
use crate::rng::{self, Purpose};
use crate::train::data::TrainData;
use crate::train::evaluate::Part;

/// Inputs of a slice, and targets: it has one character more.
pub const SLICE: usize = 30;

/// A song counts with more characters than these.
pub const SHORTEST: usize = 40;

/// What slices are drawn for: each has its own under the same seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Draw {
    /// An epoch of training.
    Train = 0,
    /// An epoch's validation.
    Validation = 1,
    /// The n-grams' slices.
    Ngrams = 2,
}

/// Songs as ids.
#[derive(Debug, Clone)]
pub struct Songs {
    /// The training songs' characters; `<unk>` stands for what only validation songs have.
    pub vocab: Vocab,
    /// Training songs.
    pub train: Vec<Vec<u16>>,
    /// Validation songs.
    pub val: Vec<Vec<u16>>,
    /// For each validation song the index of its body's first character.
    pub val_bodies: Vec<Option<usize>>,
}

impl Songs {
    /// The songs of a study's data: of its files as they are where validation files were named; else of the tunes of
    /// its packed text, which knows the parts that it was split into.
    pub fn read(asked: &StudyData, data: &TrainData) -> Result<Songs, StudyError> {
        let (train, val) = if asked.val.is_empty() {
            (of_part(&data.train), data.val.as_ref().map_or(Vec::new(), of_part))
        } else {
            (of_files(&asked.train)?, of_files(&asked.val)?)
        };
        Songs::new(&train, &val)
    }

    /// From the raw text of each song; refuses training songs of which none counts.
    pub fn new(train: &[String], val: &[String]) -> Result<Songs, StudyError> {
        let long = |songs: &[String]| -> Vec<String> {
            songs.iter().filter(|song| song.chars().count() > SHORTEST).cloned().collect()
        };
        let (train, val) = (long(train), long(val));
        if train.is_empty() {
            return Err(StudyError::Usage(format!(
                "--protocol assignment: no training song has more than {SHORTEST} characters; give it more tunes, or leave this protocol out"
            )));
        }
        let vocab = Vocab::from_chars(train.iter().flat_map(|song| song.chars()));
        let ids = |songs: &[String]| -> Vec<Vec<u16>> {
            // A vocabulary made of characters has <unk>: nothing fails.
            songs.iter().map(|song| vocab.encode_lossy(song).unwrap_or_default()).collect()
        };
        let val_bodies = val.iter().map(|song| abc::body_start(song)).collect();
        Ok(Songs { train: ids(&train), val: ids(&val), val_bodies, vocab })
    }
}

/// The raw songs of files and folders; a packed corpus gives its tunes between delimiter lines.
pub fn of_files(data: &[PathBuf]) -> Result<Vec<String>, CorpusError> {
    if let [one] = data
        && Pack::is_pack(one)
    {
        let pack = Pack::open(one)?;
        return Ok((0..pack.tunes()).map(|tune| between(&pack.text(tune))).collect());
    }
    let mut songs = Vec::new();
    for path in tunes::list_files(data)? {
        songs.extend(of_text(&read(&path)?));
    }
    Ok(songs)
}

fn read(path: &Path) -> Result<String, CorpusError> {
    let bytes =
        fs::read(path).map_err(|source| CorpusError::Unreadable { path: path.to_path_buf(), source })?;
    let (text, _) = tunes::decode(&bytes);
    Ok(tunes::clean(&text).unwrap_or_else(|| text.into_owned()))
}

/// The raw songs of a cleaned text: from each `<start>` line to its `<end>` line, both with their line ends, all lines
/// between as they stand; an ABC tunebook's tunes are put between such lines.
pub fn of_text(text: &str) -> Vec<String> {
    if tunes::marks_of(text) == Marks::Abc {
        return tunes::tunes_of(text).iter().map(|tune| between(tune)).collect();
    }
    let mut songs = Vec::new();
    let mut song: Option<String> = None;
    for line in text.split('\n') {
        let bare = line.trim_end_matches([' ', '\t']);
        if bare == START {
            // A song without <end> ends where the next one starts.
            songs.extend(song.replace(String::new()));
        }
        let Some(open) = &mut song else { continue };
        open.push_str(line);
        open.push('\n');
        if bare == END {
            songs.extend(song.take());
        }
    }
    // The last line end may be the file's own.
    songs.extend(song.map(|song| song.trim_end_matches('\n').to_string() + "\n"));
    songs
}

fn of_part(part: &Part) -> Vec<String> {
    part.tunes.iter().map(|&tune| between(&part.pack.text(tune as usize))).collect()
}

fn between(tune: &str) -> String {
    format!("{START}\n{tune}\n{END}\n")
}

/// A random slice of a song: its [`SLICE`] + 1 characters. A function of (seed, what for, epoch, song) alone.
///
/// Songs are longer than a slice ([`SHORTEST`]); of a shorter one all of it is given.
pub fn slice(song: &[u16], seed: u64, draw: Draw, epoch: u64, index: usize) -> &[u16] {
    let room = song.len().saturating_sub(SLICE + 1) as u128 + 1;
    let words =
        rng::block(seed, Purpose::Slice, draw as u32, index as u32, epoch as u32, (epoch >> 32) as u32);
    let wide = (u64::from(words[0]) << 32) | u64::from(words[1]);
    // Multiply and shift: an unbiased enough index below `room` without a division.
    let from = ((u128::from(wide) * room) >> 64) as usize;
    &song[from..(from + SLICE + 1).min(song.len())]
}
