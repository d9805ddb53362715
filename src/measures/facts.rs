//! What is measured of one tune; a set's values are sums over these.

use std::collections::BTreeMap;

use super::copying::{Index, Music};
use super::structure;
use crate::abc::{self, ElementKind, Fraction, Tune};

/// Lengths of substrings that are looked for in the training tunes, in characters.
pub const NOVEL_LENGTHS: [usize; 4] = [8, 16, 24, 32];

/// A run longer than this, in characters, is a copy; about four bars.
pub const COPY_LENGTH: usize = 32;

/// Pitch classes and durations of a tune's notes as written, grace notes left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histograms {
    /// Notes of each pitch class, C first.
    pub pitches: [u32; 12],
    /// Notes of each duration in whole notes.
    pub durations: Vec<(Fraction, u32)>,
}

impl Histograms {
    /// Of a tune.
    pub fn of(tune: &Tune) -> Histograms {
        let mut pitches = [0u32; 12];
        let mut durations: BTreeMap<Fraction, u32> = BTreeMap::new();
        for element in tune.voices.iter().flat_map(|voice| &voice.elements) {
            let notes = match &element.kind {
                ElementKind::Note(note) => std::slice::from_ref(note),
                ElementKind::Chord(notes) => notes,
                _ => continue,
            };
            for note in notes {
                pitches[usize::from(note.pitch % 12)] += 1;
                *durations.entry(note.duration).or_default() += 1;
            }
        }
        Histograms { pitches, durations: durations.into_iter().collect() }
    }
}

/// One tune.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// No error.
    pub parses: bool,
    /// Ended by the model, with X, T, M and K.
    pub closes: bool,
    /// (full, all) bars.
    pub bars: (usize, usize),
    /// (inside the key, all) notes.
    pub in_key: (usize, usize),
    /// Whether repeats are balanced; None without any.
    pub repeats: Option<bool>,
    /// (regular, all) sections.
    pub sections: (usize, usize),
    /// Characters of its music, white space left out.
    pub music: usize,
    /// The longest run copied, in characters.
    pub copied: usize,
    /// (new, all) substrings of each of [`NOVEL_LENGTHS`].
    pub novel: [(usize, usize); NOVEL_LENGTHS.len()],
    /// Characters of the text.
    pub chars: usize,
    /// Seconds played; None without notes.
    pub seconds: Option<f64>,
    /// Pitch classes and durations.
    pub histograms: Histograms,
}

impl Facts {
    /// Of a text. `without`: a training tune that does not count as a source (itself).
    pub fn of(text: &str, closed: bool, index: &Index, without: Option<u32>) -> Facts {
        let tune = abc::parse_tune(text);
        let verdict = abc::judge_tune(&tune);
        let music = Music::of(text);
        let runs = index.runs(&music.text, without);
        let chars = Chars::of(&music.text);
        let mut facts = Facts {
            parses: verdict.parses,
            closes: closed && verdict.has_required_fields,
            bars: (verdict.full_bars, verdict.bars),
            in_key: structure::notes_in_key(&tune),
            repeats: structure::repeats_balanced(&tune),
            sections: structure::regular_sections(&tune),
            music: chars.count(0, music.text.len()),
            chars: text.chars().count(),
            seconds: (verdict.played_notes > 0).then_some(verdict.seconds),
            histograms: Histograms::of(&tune),
            ..Facts::default()
        };
        for (i, &length) in runs.lengths.iter().enumerate() {
            let end = i + 1;
            if !music.text.is_char_boundary(end) {
                continue;
            }
            // A run may begin inside a character, which then is not in it.
            let run = chars.count(end - length as usize, end);
            facts.copied = facts.copied.max(run);
            for (novel, wanted) in facts.novel.iter_mut().zip(NOVEL_LENGTHS) {
                if chars.count(0, end) >= wanted {
                    novel.0 += usize::from(run < wanted);
                    novel.1 += 1;
                }
            }
        }
        facts
    }

    /// Whether it copies: a run of more than [`COPY_LENGTH`] characters, or more than half of its music. None without
    /// music.
    pub fn copies(&self) -> Option<bool> {
        (self.music > 0).then_some(self.copied > COPY_LENGTH || 2 * self.copied > self.music)
    }
}

/// Counts characters in ranges of bytes.
struct Chars {
    /// Characters that begin before each byte. \[bytes + 1\]
    before: Vec<u32>,
}

impl Chars {
    fn of(text: &str) -> Chars {
        let mut count = 0;
        let mut before = vec![0];
        for byte in text.bytes() {
            count += u32::from(byte & 0xc0 != 0x80);
            before.push(count);
        }
        Chars { before }
    }

    /// Characters that begin in `from..to`; `to` is the end of a character.
    fn count(&self, from: usize, to: usize) -> usize {
        (self.before[to] - self.before[from]) as usize
    }
}
