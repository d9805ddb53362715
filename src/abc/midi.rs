//! Standard MIDI Files: one track a voice, an accompaniment from the chord symbols, and the metas that notation
//! programs want. 480 ticks a quarter.

use midly::num::{u4, u7, u15, u24, u28};
use midly::{Format, Header, MetaMessage, MidiMessage, Smf, Timing, Track, TrackEvent, TrackEventKind};

use super::expand::{Performance, expand};
use super::key::Key;
use super::meter::Meter;
use super::played::{Played, PlayedNote, TICKS_PER_WHOLE, in_ticks};
use super::tune::Tune;

/// Ticks of a quarter note.
pub const TICKS_PER_QUARTER: u16 = 480;
/// MIDI's largest time between two events.
const MAX_DELTA: u32 = 0x0fff_ffff;
/// How hard melody notes and accompaniment are struck.
const MELODY_VELOCITY: u8 = 96;

/// What goes into a MIDI file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MidiOptions {
    /// Play the chord symbols as an accompaniment track.
    pub chords: bool,
}

impl Default for MidiOptions {
    fn default() -> Self {
        MidiOptions { chords: true }
    }
}

/// Why a tune cannot become MIDI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AbcError {
    /// There is nothing to play.
    #[error("the tune {0:?} has no notes to play; run `songrnn-fast check` to see what is wrong with it")]
    NoNotes(String),
    /// The tune outlasts MIDI's clock.
    #[error(
        "the tune {0:?} is longer than a MIDI file can time ({MAX_DELTA} ticks); shorten its notes or repeats"
    )]
    TooLong(String),
    /// The writer refused.
    #[error("writing MIDI for {title:?} failed: {reason}")]
    Write {
        /// The tune's title.
        title: String,
        /// What the writer said.
        reason: String,
    },
}

/// Something at a tick. Offs come before metas, metas before ons at the same tick.
#[derive(Debug, Clone, Copy)]
struct Timed<'a> {
    tick: u32,
    order: u8,
    kind: TrackEventKind<'a>,
}

/// Plays a tune into the bytes of a Standard MIDI File (format 1): a first track with title, tempo, meter and key, one
/// track a voice, and, with [`MidiOptions::chords`], one with the accompaniment. Grace notes are not played.
///
/// # Errors
/// [`AbcError`] when there is nothing to play, or it is too long for MIDI.
pub fn to_midi(tune: &Tune, options: &MidiOptions) -> Result<Vec<u8>, AbcError> {
    let performance = expand(tune);
    let played = in_ticks(tune, &performance, options)?;
    let title = || tune.title().to_owned();
    let too_long = || AbcError::TooLong(title());
    let mut tracks = vec![conductor(tune, &performance, &played).ok_or_else(too_long)?];
    let mut channels = (0u8..16).filter(|c| *c != 9).cycle();
    let mut channel_of = vec![0; tune.voices.len()];
    channel_of.iter_mut().for_each(|channel| *channel = channels.next().unwrap_or(0));
    for (voice, notes) in &played.voices {
        let name = match tune.voices.as_slice() {
            [_] => tune.title(),
            voices => voices.get(*voice).map_or("", |voice| voice.id.as_str()),
        };
        let channel = channel_of.get(*voice).copied().unwrap_or(0);
        tracks.push(note_track(name, channel, notes, MELODY_VELOCITY).ok_or_else(too_long)?);
    }
    if !played.chords.is_empty() {
        let channel = channels.next().unwrap_or(1);
        let velocity = MELODY_VELOCITY - 32;
        tracks.push(note_track("chords", channel, &played.chords, velocity).ok_or_else(too_long)?);
    }
    let header = Header::new(Format::Parallel, Timing::Metrical(u15::new(TICKS_PER_QUARTER)));
    let mut bytes = Vec::new();
    Smf { header, tracks }
        .write_std(&mut bytes)
        .map_err(|e| AbcError::Write { title: title(), reason: e.to_string() })?;
    Ok(bytes)
}

fn conductor<'a>(tune: &'a Tune, performance: &Performance, played: &Played) -> Option<Track<'a>> {
    let mut events = vec![meta(0, MetaMessage::TrackName(tune.title().as_bytes()))];
    for (tick, micros) in &played.tempos {
        events.push(meta(*tick, MetaMessage::Tempo(u24::new(*micros))));
    }
    for (onset, meter) in &performance.meters {
        if let Some(message) = time_signature(*meter) {
            events.push(meta(onset.ticks(TICKS_PER_WHOLE)?, message));
        }
    }
    for (onset, key) in &performance.keys {
        events.push(meta(onset.ticks(TICKS_PER_WHOLE)?, key_signature(key)));
    }
    in_order(events, played.end)
}

fn meta(tick: u32, message: MetaMessage<'_>) -> Timed<'_> {
    Timed { tick, order: 1, kind: TrackEventKind::Meta(message) }
}

fn key_signature(key: &Key) -> MetaMessage<'static> {
    MetaMessage::KeySignature(key.fifths, key.minor)
}

fn time_signature(meter: Meter) -> Option<MetaMessage<'static>> {
    let beats = u8::try_from(meter.beats).ok().filter(|b| *b > 0)?;
    let power = u8::try_from(meter.beat_unit.checked_ilog2()?).ok()?;
    // 24 MIDI clocks are a quarter note; the metronome clicks on dotted beats in compound meters.
    let clocks = 96u32.checked_div(meter.beat_unit)?.saturating_mul(if meter.is_compound() { 3 } else { 1 });
    Some(MetaMessage::TimeSignature(beats, power, u8::try_from(clocks.clamp(1, 255)).unwrap_or(24), 8))
}

fn note_track<'a>(name: &'a str, channel: u8, notes: &[PlayedNote], velocity: u8) -> Option<Track<'a>> {
    let channel = u4::new(channel & 15);
    let mut events = vec![meta(0, MetaMessage::TrackName(name.as_bytes()))];
    for note in notes {
        let key = u7::new(note.pitch & 127);
        let on = MidiMessage::NoteOn { key, vel: u7::new(velocity & 127) };
        let off = MidiMessage::NoteOff { key, vel: u7::new(0) };
        events.push(Timed {
            tick: note.start,
            order: 2,
            kind: TrackEventKind::Midi { channel, message: on },
        });
        events.push(Timed { tick: note.end, order: 0, kind: TrackEventKind::Midi { channel, message: off } });
    }
    in_order(events, 0)
}

/// Sorts events and turns ticks into the gaps between them; the track ends at `end` or with its last event.
fn in_order(mut events: Vec<Timed<'_>>, end: u32) -> Option<Track<'_>> {
    events.sort_by_key(|e| (e.tick, e.order));
    let last = events.last().map_or(0, |e| e.tick);
    events.push(meta(end.max(last), MetaMessage::EndOfTrack));
    let mut track = Track::with_capacity(events.len());
    let mut now = 0u32;
    for event in events {
        let delta = event.tick.checked_sub(now).filter(|d| *d <= MAX_DELTA)?;
        now = event.tick;
        track.push(TrackEvent { delta: u28::new(delta), kind: event.kind });
    }
    (now <= MAX_DELTA).then_some(track)
}
