//! What tunes are like, in numbers, each beside the corpus's own value: syntax, structure, copying, distributions.
//!
//! [`Reference`] prepares the training tunes once; [`Reference::measure`] measures a set of tunes;
//! [`Reference::source_of`] names the training tune that a text has its longest run from. Definitions, errors and limits
//! are in `docs/measures.md`. Any text can be measured.

pub mod copying;
pub mod facts;
pub mod statistics;
pub mod structure;
mod summary;

use std::ops::Range;

use rayon::prelude::*;

use crate::abc;
use crate::sample::TuneText;
use crate::study::results::Measure;
use copying::{Index, Music};
use facts::{Facts, Histograms};

/// The most bytes of training music that copies are looked for in: the index takes up to 100 bytes for each.
pub const MAX_INDEXED: usize = 4 << 20;
/// The most bytes of text of the training tunes whose histograms are counted, and of the held-out tunes.
const MAX_COUNTED: usize = 16 << 20;

/// What a text has from a training tune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Length of the run in characters, white space left out.
    pub chars: usize,
    /// Name of the training tune; where several have the run, one of them.
    pub from: String,
    /// Index of it in the list that [`Reference::new`] was given.
    pub tune: usize,
    /// The run, white space left out.
    pub text: String,
    /// The bytes of the text that it stands in, white space included.
    pub place: Range<usize>,
}

/// The training tunes and what the corpus itself is like.
#[derive(Debug)]
pub struct Reference {
    index: Index,
    /// Of each indexed tune its place in the list of training tunes, and its name.
    names: Vec<(usize, String)>,
    /// Of every training tune that is counted.
    histograms: Vec<Histograms>,
    /// The tunes that stand for the corpus: held-out ones, or training tunes each against the others.
    corpus: Vec<Facts>,
    /// For each tune of `corpus` its place in `histograms`, where it is a training tune.
    own: Option<Vec<usize>>,
    notes: Vec<String>,
}

impl Reference {
    /// Prepares training tunes, each with its name for people, and held-out tunes. Without held-out tunes the corpus's
    /// own values are those of the training tunes, each measured against the others. Of a corpus too large to be held
    /// every second, third, ... tune is taken; [`Reference::notes`] says so.
    pub fn new(train: &[(String, String)], held_out: &[String]) -> Reference {
        let mut notes = Vec::new();
        let musics: Vec<String> = train.par_iter().map(|(_, text)| Music::of(text).text).collect();
        let indexed = thin(musics.iter().map(String::len), MAX_INDEXED);
        if indexed.len() < musics.len() {
            notes.push(format!(
                "copies were looked for in {} of the {} training tunes, evenly spread: more is not kept in memory",
                indexed.len(),
                musics.len()
            ));
        }
        let index = Index::new(indexed.iter().map(|&i| musics[i].as_str()));
        drop(musics);
        let names = indexed.iter().map(|&i| (i, train[i].0.clone())).collect();

        let counted = thin(train.iter().map(|(_, text)| text.len()), MAX_COUNTED);
        if counted.len() < train.len() {
            notes.push(format!(
                "pitches and durations are those of {} of the {} training tunes, evenly spread",
                counted.len(),
                train.len()
            ));
        }
        let histograms = counted.par_iter().map(|&i| Histograms::of(&abc::parse_tune(&train[i].1))).collect();

        let (corpus, own) = if held_out.is_empty() {
            // Training tunes that are both indexed and counted.
            let both: Vec<(u32, usize)> = (0u32..)
                .zip(&indexed)
                .filter_map(|(k, i)| Some((k, counted.binary_search(i).ok()?)))
                .collect();
            let of = |&(k, at): &(u32, usize)| Facts::of(&train[counted[at]].1, true, &index, Some(k));
            (both.par_iter().map(of).collect(), Some(both.iter().map(|b| b.1).collect()))
        } else {
            let taken = thin(held_out.iter().map(String::len), MAX_COUNTED);
            if taken.len() < held_out.len() {
                notes.push(format!(
                    "the corpus's own values are those of {} of the {} held-out tunes, evenly spread",
                    taken.len(),
                    held_out.len()
                ));
            }
            (taken.par_iter().map(|&i| Facts::of(&held_out[i], true, &index, None)).collect(), None)
        };
        Reference { index, names, histograms, corpus, own, notes }
    }

    /// What a reader of the numbers should know about this corpus, one sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Measures a set of tunes on all threads. The order of the measures is always the same.
    pub fn measure(&self, tunes: &[TuneText]) -> Vec<Measure> {
        let facts: Vec<Facts> =
            tunes.par_iter().map(|tune| Facts::of(&tune.text, tune.closed, &self.index, None)).collect();
        summary::measures(self, &facts)
    }

    /// The longest run of a tune's music that stands in a training tune; None where nothing does.
    pub fn source_of(&self, text: &str) -> Option<Copied> {
        let music = Music::of(text);
        let runs = self.index.runs(&music.text, None);
        let (end, tune) = runs.longest?;
        let mut start = end - *runs.lengths.get(end - 1)? as usize;
        // Half a character at either end is not part of it.
        start = (start..end).find(|&i| music.text.is_char_boundary(i))?;
        let end = (start..=end).rev().find(|&i| music.text.is_char_boundary(i))?;
        let run = music.text.get(start..end).filter(|run| !run.is_empty())?;
        let (tune, name) = self.names.get(tune as usize)?;
        Some(Copied {
            chars: run.chars().count(),
            from: name.clone(),
            tune: *tune,
            text: run.to_owned(),
            place: music.place(start..end),
        })
    }
}

/// A tune's name for people: its title and its number in the corpus, from 1: `The Kesh (tune 12)`.
pub fn name_of(text: &str, number: usize) -> String {
    let title = text.lines().find_map(|line| line.strip_prefix("T:")).map_or("", str::trim);
    let title: String = title.chars().take(80).collect();
    if title.is_empty() { format!("tune {number}") } else { format!("{title} (tune {number})") }
}

/// Of sizes whose sum may be too large the indices of as many as fit, evenly spread; a single one that does not fit is
/// left out.
fn thin(sizes: impl Iterator<Item = usize>, most: usize) -> Vec<usize> {
    let sizes: Vec<usize> = sizes.collect();
    let total = sizes.iter().fold(0usize, |sum, size| sum.saturating_add(*size));
    let step = total.div_ceil(most.max(1)).max(1);
    let mut room = most;
    let mut taken = Vec::new();
    for i in (0..sizes.len()).step_by(step) {
        if sizes[i] <= room {
            room -= sizes[i];
            taken.push(i);
        }
    }
    taken
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
