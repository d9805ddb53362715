//! A sampled tune with all that is said about it and written of it.

use rayon::prelude::*;

use super::TuneText;

/// A sampled tune, judged and converted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Judged {
    /// Exactly as sampled.
    pub text: String,
    /// Whether the model ended it.
    pub closed: bool,
    /// As a tune of a tunebook: numbered, with what ABC requires.
    pub abc: String,
    /// As a MIDI file; None where there is nothing that could be played.
    pub midi: Option<Vec<u8>>,
    /// How long it plays, in seconds; None without MIDI.
    pub seconds: Option<f64>,
    /// Its title; may be empty.
    pub title: String,
    /// Whether the parser finds no error in it.
    pub parses: bool,
    /// Bars that are filled to the meter, allowing for pickups.
    pub full_bars: usize,
    /// Bars.
    pub bars: usize,
}

/// Judges tunes on all threads; tune i gets the number i + 1. `chords`: whether chord symbols are played.
pub fn judge_all(tunes: &[TuneText], chords: bool) -> Vec<Judged> {
    tunes.par_iter().enumerate().map(|(i, tune)| judge(tune, i as u64 + 1, chords)).collect()
}

fn judge(tune: &TuneText, number: u64, chords: bool) -> Judged {
    todo!("{tune:?}{number}{chords}")
}
