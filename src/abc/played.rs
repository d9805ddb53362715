//! A tune as MIDI plays it: what every note is in ticks once doubled notes are settled, and what ticks are in seconds.
//! The MIDI file and the page both come from here, so that they cannot differ.

use std::collections::HashMap;

use super::accompany::accompany;
use super::diagnostic::Span;
use super::expand::{NoteEvent, Performance, expand};
use super::meter::Tempo;
use super::midi::{AbcError, MidiOptions, TICKS_PER_QUARTER};
use super::tune::Tune;

/// Ticks of a whole note.
pub(super) const TICKS_PER_WHOLE: u32 = TICKS_PER_QUARTER as u32 * 4;

/// A note as it sounds, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlayedNote {
    /// Tick at which it is struck.
    pub start: u32,
    /// Tick at which it is released, after `start`.
    pub end: u32,
    /// MIDI number.
    pub pitch: u8,
    /// Where it is written; empty for the accompaniment.
    pub span: Span,
}

/// A whole tune in ticks, [`TICKS_PER_QUARTER`] a quarter.
#[derive(Debug, Clone)]
pub struct Played {
    /// The notes of every voice that has any, with the index of the voice in [`Tune::voices`].
    pub voices: Vec<(usize, Vec<PlayedNote>)>,
    /// The accompaniment, where asked for.
    pub chords: Vec<PlayedNote>,
    /// Onsets of the first voice's bars.
    pub bars: Vec<u32>,
    /// Microseconds of a quarter from a tick on; the first at 0.
    pub tempos: Vec<(u32, u32)>,
    /// When the longest voice ends.
    pub end: u32,
}

impl Played {
    /// When a tick is, in seconds from the start, every change of tempo counted as a MIDI player counts it.
    pub fn seconds(&self, tick: u32) -> f64 {
        let mut micros = 0.0;
        for (i, &(from, per_quarter)) in self.tempos.iter().enumerate() {
            if from >= tick {
                break;
            }
            let to = self.tempos.get(i + 1).map_or(tick, |next| next.0.min(tick));
            micros += f64::from(to - from) * f64::from(per_quarter);
        }
        micros / (f64::from(TICKS_PER_QUARTER) * 1e6)
    }
}

/// Plays a tune out in ticks. Grace notes are not played.
///
/// # Errors
/// [`AbcError`] when there is nothing to play, or it is too long for MIDI.
pub fn played(tune: &Tune, options: &MidiOptions) -> Result<Played, AbcError> {
    let performance = expand(tune);
    in_ticks(tune, &performance, options)
}

/// The same for a tune that is expanded already.
pub(super) fn in_ticks(
    tune: &Tune,
    performance: &Performance,
    options: &MidiOptions,
) -> Result<Played, AbcError> {
    let title = || tune.title().to_owned();
    if performance.notes.is_empty() {
        return Err(AbcError::NoNotes(title()));
    }
    ticks(tune, performance, options).ok_or_else(|| AbcError::TooLong(title()))
}

fn ticks(tune: &Tune, performance: &Performance, options: &MidiOptions) -> Option<Played> {
    let mut tempos: Vec<(u32, u32)> = Vec::new();
    if performance.tempos.first().is_none_or(|t| !t.0.is_zero()) {
        tempos.push((0, Tempo::DEFAULT.microseconds_per_quarter()));
    }
    for (onset, tempo) in &performance.tempos {
        tempos.push((onset.ticks(TICKS_PER_WHOLE)?, tempo.microseconds_per_quarter()));
    }
    let mut of_voice: Vec<Vec<NoteEvent>> = vec![Vec::new(); tune.voices.len()];
    for note in &performance.notes {
        of_voice.get_mut(note.voice)?.push(*note);
    }
    let mut voices = Vec::new();
    for (voice, notes) in of_voice.iter().enumerate().filter(|(_, notes)| !notes.is_empty()) {
        voices.push((voice, settle(notes)?));
    }
    let chords = if options.chords && !performance.chords.is_empty() {
        settle(&accompany(performance))?
    } else {
        Vec::new()
    };
    let bars = performance.bars.iter().map(|b| b.onset.ticks(TICKS_PER_WHOLE)).collect::<Option<_>>()?;
    Some(Played { voices, chords, bars, tempos, end: performance.whole_notes().ticks(TICKS_PER_WHOLE)? })
}

/// The notes of one track by onset. The same key cannot be struck while it is down: of two that start together the
/// longer one stays, and one that is still down is released where the next begins.
fn settle(notes: &[NoteEvent]) -> Option<Vec<PlayedNote>> {
    let mut played: Vec<PlayedNote> = Vec::with_capacity(notes.len());
    for note in notes {
        let start = note.onset.ticks(TICKS_PER_WHOLE)?;
        let end = note.onset.checked_add(note.duration)?.ticks(TICKS_PER_WHOLE)?;
        let end = end.max(start.checked_add(1)?);
        played.push(PlayedNote { start, end, pitch: note.pitch & 127, span: note.span });
    }
    played.sort_by_key(|note| (note.start, note.pitch, std::cmp::Reverse(note.end)));
    played.dedup_by_key(|note| (note.start, note.pitch));
    let mut down: HashMap<u8, usize> = HashMap::new();
    for i in 0..played.len() {
        let PlayedNote { start, pitch, .. } = played[i];
        if let Some(before) = down.insert(pitch, i)
            && played[before].end > start
        {
            played[before].end = start;
        }
    }
    Some(played)
}

#[cfg(test)]
mod tests {
    use super::super::parse_tune;
    use super::*;

    #[test]
    fn seconds_follow_every_tempo() {
        let text = "X:1\nT:t\nM:4/4\nL:1/4\nQ:1/4=60\nK:C\nCDEF|[Q:1/4=120]GABc|\n";
        let played = played(&parse_tune(text), &MidiOptions::default()).unwrap();
        assert_eq!(played.tempos, [(0, 1_000_000), (1920, 500_000)]);
        for (tick, seconds) in [(0, 0.0), (480, 1.0), (1920, 4.0), (2400, 4.5), (3840, 6.0)] {
            assert!((played.seconds(tick) - seconds).abs() < 1e-12, "{tick}");
        }
        assert_eq!((played.end, played.bars.as_slice()), (3840, &[0, 1920][..]));
    }

    #[test]
    fn a_late_first_tempo_leaves_the_default_before_it() {
        let text = "X:1\nT:t\nM:4/4\nL:1/4\nK:C\nCDEF|[Q:1/4=60]G4|\n";
        let played = played(&parse_tune(text), &MidiOptions::default()).unwrap();
        assert!((played.seconds(played.end) - 6.0).abs() < 1e-12);
    }

    #[test]
    fn doubled_notes_are_struck_once_and_released_for_the_next() {
        let text = "X:1\nT:t\nM:4/4\nL:1/4\nK:C\n[CC2]4 & z C3|\n";
        let played = played(&parse_tune(text), &MidiOptions::default()).unwrap();
        let spans: Vec<(u32, u32)> = played.voices[0].1.iter().map(|n| (n.start, n.end)).collect();
        assert_eq!(spans, [(0, 480), (480, 1920)]);
    }
}
