//! One voice while it is being read: lengths (unit, tuplets, broken rhythm, hornpipe swing), accidentals that last
//! the bar, and ties. It knows nothing of characters; [`super::music`] feeds it.

use super::diagnostic::{Code, Diagnostics, Span};
use super::fraction::Fraction;
use super::key::Key;
use super::meter::Meter;
use super::pitch::midi_number;
use super::tune::{Bar, Element, ElementKind, MAX_ELEMENTS, Note};

/// The most notes one chord may hold.
pub(super) const MAX_CHORD: usize = 64;

/// A note as written: what the scanner saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct WrittenNote {
    pub step: u8,
    pub octave: i32,
    /// Semitones of an explicit accidental.
    pub accidental: Option<i8>,
    /// In unit lengths.
    pub length: Fraction,
    pub tied: bool,
    pub span: Span,
}

/// A tuplet being filled.
#[derive(Debug, Clone, Copy)]
struct Tuplet {
    factor: Fraction,
    left: u32,
    span: Span,
}

/// Broken rhythm waiting for its second note: the factors of both.
#[derive(Debug, Clone, Copy)]
struct Broken {
    first: Fraction,
    second: Fraction,
    span: Span,
}

/// A tie waiting for its second note.
#[derive(Debug, Clone, Copy)]
struct OpenTie {
    step: u8,
    octave: i8,
    pitch: u8,
    span: Span,
}

/// The last thing that broken rhythm or swing may shorten or lengthen.
#[derive(Debug, Clone, Copy)]
struct Last {
    index: usize,
    written: Fraction,
    is_rest: bool,
}

/// A voice being built.
#[derive(Debug)]
pub(super) struct VoiceBuilder {
    pub id: String,
    pub elements: Vec<Element>,
    pub key: Key,
    pub unit: Fraction,
    pub meter: Meter,
    /// Semitones from the voice's own clef and octave.
    pub shift: i8,
    /// The part that the last element belongs to.
    pub part: Option<char>,
    pub slurs: u32,
    /// Pairs of short notes are swung, as `R:hornpipe` asks.
    pub swing: bool,
    /// Alterations written in this bar, by step: the standard's default is that they hold in every octave.
    accidentals: [Option<i8>; 7],
    ties: Vec<OpenTie>,
    /// A bar line was passed since the open ties began.
    ties_crossed_bar: bool,
    tuplet: Option<Tuplet>,
    broken: Option<Broken>,
    last: Option<Last>,
    /// Written time since the last bar line.
    bar_position: Fraction,
}

impl VoiceBuilder {
    pub fn new(id: String, key: Key, unit: Fraction, meter: Meter) -> Self {
        VoiceBuilder {
            id,
            elements: Vec::new(),
            key,
            unit,
            meter,
            shift: 0,
            part: None,
            slurs: 0,
            swing: false,
            accidentals: [None; 7],
            ties: Vec::new(),
            ties_crossed_bar: false,
            tuplet: None,
            broken: None,
            last: None,
            bar_position: Fraction::ZERO,
        }
    }

    /// Adds what takes no time.
    pub fn mark(&mut self, kind: ElementKind, span: Span) {
        if self.elements.len() < MAX_ELEMENTS {
            self.elements.push(Element { span, duration: Fraction::ZERO, kind });
        }
    }

    pub fn start_tuplet(&mut self, p: u32, q: u32, r: u32, span: Span, diagnostics: &mut Diagnostics) {
        if let Some(open) = self.tuplet {
            diagnostics.push(Code::NestedTuplet, open.span, || {
                format!("this tuplet still wants {} notes where the next one starts", open.left)
            });
        }
        self.tuplet = Some(Tuplet { factor: Fraction::ratio(q, p), left: r, span });
    }

    /// What `(p` lasts without a `q`: the standard's table.
    pub fn default_q(&self, p: u32) -> u32 {
        match p {
            2 | 4 | 8 => 3,
            3 | 6 => 2,
            _ if self.meter.is_compound() || self.meter.beats.is_multiple_of(3) && self.meter.beats > 0 => 3,
            _ => 2,
        }
    }

    /// `>` (dotted first) or `<` (dotted second), `count` times.
    pub fn start_broken(
        &mut self,
        dotted_first: bool,
        count: u32,
        span: Span,
        diagnostics: &mut Diagnostics,
    ) {
        if self.last.is_none() || self.broken.is_some() {
            diagnostics.push(
                Code::BrokenRhythmWithoutNotes,
                span,
                || "broken rhythm needs a note, a chord or a rest before it",
            );
            return;
        }
        // Once: 3/2 and 1/2; twice: 7/4 and 1/4; three times: 15/8 and 1/8. A hornpipe's dotted pair is softer, 2:1.
        let (long, short) = match count {
            1 if self.swing => (Fraction::ratio(4, 3), Fraction::ratio(2, 3)),
            1 => (Fraction::ratio(3, 2), Fraction::ratio(1, 2)),
            2 => (Fraction::ratio(7, 4), Fraction::ratio(1, 4)),
            _ => (Fraction::ratio(15, 8), Fraction::ratio(1, 8)),
        };
        let (first, second) = if dotted_first { (long, short) } else { (short, long) };
        self.broken = Some(Broken { first, second, span });
    }

    /// A note that stands alone.
    pub fn note(&mut self, written: WrittenNote, span: Span, diagnostics: &mut Diagnostics) {
        let mut note = self.resolve(written, diagnostics);
        let ties = self.take_ties();
        note.continues = ties.iter().any(|t| t.pitch == note.pitch);
        self.report_lost_ties(&ties, &[note], diagnostics);
        if note.tied {
            self.open_tie(note, span);
        }
        self.timed(ElementKind::Note(note), written.length, span, diagnostics);
    }

    /// Notes struck together, with the length written after the `]`.
    pub fn chord(
        &mut self,
        written: &[WrittenNote],
        outer: Fraction,
        span: Span,
        diagnostics: &mut Diagnostics,
    ) {
        let Some(first) = written.first() else { return };
        if written.iter().any(|n| n.length != first.length) {
            diagnostics.push(Code::UnequalChord, span, || "the chord's notes have different lengths");
        }
        let mut notes: Vec<Note> = written.iter().map(|n| self.resolve(*n, diagnostics)).collect();
        let ties = self.take_ties();
        for note in &mut notes {
            note.continues = ties.iter().any(|t| t.pitch == note.pitch);
        }
        self.report_lost_ties(&ties, &notes, diagnostics);
        for note in notes.iter_mut() {
            if note.tied {
                self.open_tie(*note, span);
            }
            // Lengths inside and outside the brackets multiply.
            note.duration = note.duration.checked_mul(outer).unwrap_or(Fraction::ZERO);
        }
        let length = first.length.checked_mul(outer).unwrap_or(Fraction::ZERO);
        self.timed(ElementKind::Chord(notes), length, span, diagnostics);
    }

    /// Grace notes: they take no time and leave rhythm, ties and tuplets alone. Their accidentals are their own (the
    /// standard is silent; printed small, they are not read as the bar's).
    pub fn grace(&mut self, written: &[WrittenNote], span: Span, diagnostics: &mut Diagnostics) {
        let of_the_bar = self.accidentals;
        let notes: Vec<Note> = written.iter().map(|n| self.resolve(*n, diagnostics)).collect();
        self.accidentals = of_the_bar;
        self.mark(ElementKind::Grace(notes), span);
    }

    /// A rest of `length` units.
    pub fn rest(&mut self, length: Fraction, span: Span, diagnostics: &mut Diagnostics) {
        let ties = self.take_ties();
        self.report_lost_ties(&ties, &[], diagnostics);
        self.timed(ElementKind::Rest, length, span, diagnostics);
    }

    /// `Z`: whole bars of rest.
    pub fn bars_of_rest(&mut self, bars: u32, span: Span, diagnostics: &mut Diagnostics) {
        let bar = self.meter.bar_length().unwrap_or(Fraction::ONE);
        let length = bar.checked_mul(Fraction::ratio(bars, 1)).and_then(|d| d.checked_div(self.unit));
        let tuplet = self.tuplet.take();
        self.rest(length.unwrap_or(Fraction::ZERO), span, diagnostics);
        self.tuplet = tuplet;
        self.last = None;
    }

    /// A tie after the last note or chord. Returns false when there is none.
    pub fn tie_last(&mut self) -> bool {
        let Some(last) = self.last.filter(|l| !l.is_rest) else { return false };
        let Some(element) = self.elements.get_mut(last.index) else { return false };
        let span = element.span;
        let notes: Vec<Note> = match &mut element.kind {
            ElementKind::Note(note) => {
                note.tied = true;
                vec![*note]
            }
            ElementKind::Chord(notes) => {
                notes.iter_mut().for_each(|n| n.tied = true);
                notes.clone()
            }
            _ => return false,
        };
        self.ties.clear();
        for note in notes {
            self.open_tie(note, span);
        }
        true
    }

    /// A bar line: accidentals written in the bar are over.
    pub fn bar(&mut self, bar: Bar, span: Span, diagnostics: &mut Diagnostics) {
        if let Some(open) = self.tuplet {
            diagnostics.push(Code::UnfinishedTuplet, open.span, || {
                format!("the bar ends while this tuplet still wants {} notes", open.left)
            });
        }
        self.accidentals = [None; 7];
        self.ties_crossed_bar = true;
        self.bar_position = Fraction::ZERO;
        self.mark(ElementKind::Bar(bar), span);
    }

    /// `&`: the bar starts again.
    pub fn overlay(&mut self, span: Span) {
        self.bar_position = Fraction::ZERO;
        self.accidentals = [None; 7];
        self.mark(ElementKind::Overlay, span);
    }

    /// The end of the tune: what is still open is reported.
    pub fn finish(&mut self, diagnostics: &mut Diagnostics) {
        if let Some(broken) = self.broken.take() {
            diagnostics.push(
                Code::BrokenRhythmWithoutNotes,
                broken.span,
                || "no note follows this broken rhythm",
            );
        }
        if let Some(open) = self.tuplet.take() {
            diagnostics.push(Code::UnfinishedTuplet, open.span, || {
                format!("the tune ends while this tuplet still wants {} notes", open.left)
            });
        }
        let ties = self.take_ties();
        self.report_lost_ties(&ties, &[], diagnostics);
    }

    fn take_ties(&mut self) -> Vec<OpenTie> {
        std::mem::take(&mut self.ties)
    }

    fn open_tie(&mut self, note: Note, span: Span) {
        self.ties_crossed_bar = false;
        self.ties.push(OpenTie { step: note.step, octave: note.octave, pitch: note.pitch, span });
    }

    fn report_lost_ties(&self, ties: &[OpenTie], next: &[Note], diagnostics: &mut Diagnostics) {
        for tie in ties.iter().filter(|t| next.iter().all(|n| n.pitch != t.pitch)) {
            diagnostics.push(
                Code::TieWithoutNote,
                tie.span,
                || "no note of this pitch follows the tie; it is played as a slur",
            );
        }
    }

    /// Pitch and length (tuplets, not yet broken rhythm) of a written note.
    fn resolve(&mut self, written: WrittenNote, diagnostics: &mut Diagnostics) -> Note {
        let step = usize::from(written.step).min(6);
        let octave = i8::try_from(written.octave.clamp(-100, 100)).unwrap_or(0);
        let alteration = match written.accidental {
            Some(explicit) => {
                self.accidentals[step] = Some(explicit);
                explicit
            }
            None => self.accidentals[step].unwrap_or(self.key.alterations[step]),
        };
        let shift = i32::from(self.key.shift) + i32::from(self.shift);
        let (mut pitch, moved) =
            midi_number(written.step, written.octave, i32::from(alteration).saturating_add(shift));
        if moved {
            diagnostics.push(
                Code::PitchOutOfRange,
                written.span,
                || "this note lies outside MIDI's 0-127; it is played in the nearest octave there",
            );
        }
        // An accidental outlives its bar for the note that a tie reaches: `^F2-|F2`.
        if written.accidental.is_none() && self.ties_crossed_bar {
            let carried = self.ties.iter().find(|t| t.step == written.step && t.octave == octave);
            pitch = carried.map_or(pitch, |t| t.pitch);
        }
        Note {
            pitch,
            step: written.step,
            octave,
            duration: self.length(written.length),
            tied: written.tied,
            continues: false,
        }
    }

    /// A length in units as whole notes, inside the tuplet in force.
    fn length(&self, units: Fraction) -> Fraction {
        let factor = self.tuplet.map_or(Fraction::ONE, |t| t.factor);
        // All three factors have bounded parts, so this always fits.
        self.unit.checked_mul(units).and_then(|d| d.checked_mul(factor)).unwrap_or(Fraction::ZERO)
    }

    fn timed(&mut self, kind: ElementKind, units: Fraction, span: Span, diagnostics: &mut Diagnostics) {
        let written = self.length(units);
        if let Some(tuplet) = &mut self.tuplet {
            tuplet.left = tuplet.left.saturating_sub(1);
            if tuplet.left == 0 {
                self.tuplet = None;
            }
        }
        if self.elements.len() >= MAX_ELEMENTS {
            return;
        }
        let is_rest = matches!(kind, ElementKind::Rest);
        let index = self.elements.len();
        self.elements.push(Element { span, duration: written, kind });
        if let Some(broken) = self.broken.take() {
            if let Some(last) = self.last {
                if last.written != written {
                    diagnostics.push(
                        Code::UnequalBrokenRhythm,
                        broken.span,
                        || "broken rhythm between notes of different lengths",
                    );
                }
                self.scale(last.index, broken.first);
                self.scale(index, broken.second);
            }
        } else if let Some(last) = self.last
            && self.is_swung_pair(last, written, is_rest)
        {
            self.scale(last.index, Fraction::ratio(4, 3));
            self.scale(index, Fraction::ratio(2, 3));
        }
        self.last = Some(Last { index, written, is_rest });
        self.bar_position = self.bar_position.checked_add(written).unwrap_or(Fraction::ZERO);
    }

    /// Two equal notes, the second on an odd eighth (odd sixteenth in 2/4).
    fn is_swung_pair(&self, last: Last, written: Fraction, is_rest: bool) -> bool {
        let pair = match (self.meter.beats, self.meter.beat_unit) {
            (4, 4) | (2, 2) => 8,
            (2, 4) => 16,
            _ => return false,
        };
        self.swing
            && !is_rest
            && !last.is_rest
            && written == Fraction::ratio(1, pair)
            && last.written == written
            && self.bar_position.denominator() == i64::from(pair)
    }

    fn scale(&mut self, index: usize, factor: Fraction) {
        let Some(element) = self.elements.get_mut(index) else { return };
        let times = |d: Fraction| d.checked_mul(factor).unwrap_or(d);
        element.duration = times(element.duration);
        match &mut element.kind {
            ElementKind::Note(note) => note.duration = times(note.duration),
            ElementKind::Chord(notes) => notes.iter_mut().for_each(|n| n.duration = times(n.duration)),
            _ => {}
        }
    }
}
