//! An accompaniment from chord symbols: bass on the strong beats, the chord between them ("boom-chick"), fitted to
//! the meter as abc2midi's default patterns are.

use super::chord_symbol::ChordSymbol;
use super::diagnostic::Span;
use super::expand::{BarEvent, NoteEvent, Performance};
use super::fraction::Fraction;
use super::meter::Meter;

/// The lowest notes of the bass and of the chords: C two octaves and one octave below middle C.
const BASS_FROM: u8 = 36;
const CHORD_FROM: u8 = 48;
/// The most accompaniment notes; beyond it the accompaniment stops.
const MAX_NOTES: usize = 400_000;
/// The most beats in a bar that a pattern is made for.
const MAX_BEATS: u32 = 64;

/// What happens on a slot of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strike {
    Bass,
    Chord,
    Rest,
}

/// The pattern of a meter: equal slots over the bar.
fn pattern(meter: Meter) -> Vec<Strike> {
    use Strike::{Bass, Chord, Rest};
    match (meter.beats, meter.beat_unit) {
        (2 | 4, 2) | (4, 4) => vec![Bass, Chord, Bass, Chord],
        (2, 4) => vec![Bass, Chord, Bass, Chord],
        (3, _) => vec![Bass, Chord, Chord],
        _ if meter.is_compound() => {
            let groups = (meter.beats / 3).min(MAX_BEATS) as usize;
            [Bass, Rest, Chord].repeat(groups)
        }
        (beats, _) => {
            let chords = (beats.clamp(1, MAX_BEATS) - 1) as usize;
            std::iter::once(Bass).chain(std::iter::repeat_n(Chord, chords)).collect()
        }
    }
}

/// The notes of the accompaniment. It starts with the first chord symbol; each symbol holds until the next.
pub(super) fn accompany(performance: &Performance) -> Vec<NoteEvent> {
    let mut notes = Vec::new();
    let mut next = 0;
    let mut symbol: Option<ChordSymbol> = None;
    let mut short_before: Option<Fraction> = None;
    for (index, bar) in performance.bars.iter().enumerate() {
        // In free meter each bar is one beat.
        let length = bar.meter.bar_length().unwrap_or(bar.duration);
        let slots = if bar.meter.beats == 0 { vec![Strike::Bass] } else { pattern(bar.meter) };
        let phase = phase(bar, length, short_before, index == 0);
        short_before = (bar.duration < length && short_before.is_none()).then_some(bar.duration);
        let count = u32::try_from(slots.len()).unwrap_or(1);
        let Some(slot_length) = length.checked_mul(Fraction::ratio(1, count)) else { return notes };
        let Some(bar_end) = bar.onset.checked_add(bar.duration) else { return notes };
        let mut slot: u32 = 0;
        while notes.len() < MAX_NOTES {
            let at = slot_length
                .checked_mul(Fraction::ratio(slot, 1))
                .and_then(|offset| offset.checked_sub(phase))
                .and_then(|offset| bar.onset.checked_add(offset));
            let Some(at) = at else { return notes };
            if at >= bar_end {
                break;
            }
            let strike = slots.get((slot % count) as usize).copied().unwrap_or(Strike::Rest);
            slot += 1;
            if at < bar.onset {
                continue;
            }
            while let Some(chord) = performance.chords.get(next).filter(|c| c.onset <= at) {
                symbol = Some(chord.symbol);
                next += 1;
            }
            let duration = bar_end.checked_sub(at).map_or(slot_length, |left| left.min(slot_length));
            if let Some(symbol) = symbol {
                strike_notes(strike, symbol, at, duration, &mut notes);
            }
        }
    }
    notes
}

/// How far into its pattern a bar starts: a pickup is the end of a bar, and the second half of a bar that a repeat
/// splits goes on where the first half stopped.
fn phase(bar: &BarEvent, length: Fraction, short_before: Option<Fraction>, first: bool) -> Fraction {
    if bar.duration >= length {
        return Fraction::ZERO;
    }
    let rest = length.checked_sub(bar.duration).unwrap_or(Fraction::ZERO);
    match short_before {
        Some(before) if before == rest => rest,
        None if first => rest,
        _ => Fraction::ZERO,
    }
}

fn strike_notes(
    strike: Strike,
    symbol: ChordSymbol,
    onset: Fraction,
    duration: Fraction,
    notes: &mut Vec<NoteEvent>,
) {
    let mut add = |pitch: u8| {
        notes.push(NoteEvent { onset, duration, pitch, voice: 0, span: Span::default() });
    };
    match strike {
        Strike::Bass => add(BASS_FROM + symbol.bass % 12),
        Strike::Chord => symbol.intervals.iter().for_each(|i| add(CHORD_FROM + symbol.root % 12 + i)),
        Strike::Rest => {}
    }
}
