//! A sampled tune with all that is said about it and written of it.

use rayon::prelude::*;

use super::TuneText;
use crate::abc::{self, MidiOptions};

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
    /// How long it plays, repeats included, in seconds; None without MIDI.
    pub seconds: Option<f64>,
    /// Its title; may be empty.
    pub title: String,
    /// Whether the parser finds no error in what the model wrote.
    pub parses: bool,
    /// Bars that are filled to the meter, allowing for pickups.
    pub full_bars: usize,
    /// Bars.
    pub bars: usize,
}

/// Judges tunes on all threads; tune i gets the number i + 1. `chords`: whether chord symbols are played.
///
/// The verdict is on the text as the model wrote it; what is played is the repaired `.abc`.
pub fn judge_all(tunes: &[TuneText], chords: bool) -> Vec<Judged> {
    tunes.par_iter().enumerate().map(|(i, tune)| judge(tune, i + 1, chords)).collect()
}

fn judge(tune: &TuneText, number: usize, chords: bool) -> Judged {
    let written = abc::parse_tune(&tune.text);
    let verdict = abc::judge_tune(&written);
    let abc = abc::as_numbered_abc(&tune.text, number);
    let playable = abc::parse_tune(&abc);
    let midi = abc::to_midi(&playable, &MidiOptions { chords }).ok();
    Judged {
        seconds: midi.as_ref().map(|_| abc::expand(&playable).seconds()),
        midi,
        text: tune.text.clone(),
        closed: tune.closed,
        title: playable.title().to_owned(),
        parses: verdict.parses,
        full_bars: verdict.full_bars,
        bars: verdict.bars,
        abc,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Judged {
        judge_all(&[TuneText { text: text.into(), closed: true }], true).remove(0)
    }

    #[test]
    fn a_good_tune() {
        let tune = one("X:77\nT:Good\nM:4/4\nL:1/4\nQ:1/4=120\nK:D\n\"D\"DEFG|A2A|");
        assert!(tune.parses && tune.closed && tune.midi.is_some());
        assert_eq!((tune.title.as_str(), tune.full_bars, tune.bars), ("Good", 1, 2));
        assert_eq!(tune.seconds, Some(3.5));
        assert!(tune.abc.starts_with("X:1\nT:Good\n") && tune.text.starts_with("X:77\n"));
    }

    #[test]
    fn a_headless_tune_is_repaired_in_the_abc_alone() {
        let tune = one("T:No key\nM:4/4\nL:1/4\nCDEF|");
        assert_eq!(tune.abc, "X:1\nT:No key\nM:4/4\nL:1/4\nK:C\nCDEF|\n");
        assert!(!tune.parses && tune.midi.is_some());
    }

    #[test]
    fn nothing_to_play_is_no_midi() {
        for text in ["", "X:1\nT:Only a title\nK:C\n", "\0\0\n\n|||"] {
            let tune = one(text);
            assert_eq!((tune.midi, tune.seconds), (None, None), "{text:?}");
        }
    }

    #[test]
    fn chords_can_be_left_out() {
        let tune = [TuneText { text: "X:1\nT:a\nM:4/4\nL:1/4\nK:C\n\"C\"CEGC|".into(), closed: true }];
        let size = |chords| judge_all(&tune, chords)[0].midi.as_ref().map_or(0, Vec::len);
        assert!(size(true) > size(false) && size(false) > 0);
    }
}
