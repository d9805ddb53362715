//! What a tune is once it is read: header, voices, and elements in the order of the text, each with its span.
//!
//! Durations stand here as they will sound (unit length, tuplets and broken rhythm applied) and pitches are
//! resolved (key, accidentals of the bar); repeats are not played out yet: that is [`super::expand`].

use super::chord_symbol::ChordSymbol;
use super::diagnostic::{Diagnostics, Span};
use super::fraction::Fraction;
use super::key::Key;
use super::meter::{Meter, Tempo};

/// The most elements one tune may hold; real tunes have a few hundred. What lies beyond is left out (`E030`).
pub const MAX_ELEMENTS: usize = 200_000;

/// One tune.
#[derive(Debug, Clone)]
pub struct Tune {
    /// The bytes of the tune in the text it was read from.
    pub span: Span,
    /// The number of the `X:` field.
    pub reference: Option<u64>,
    /// Whether there was an `X:` field at all.
    pub has_reference: bool,
    /// The `T:` fields of the header, in order.
    pub titles: Vec<String>,
    /// The `R:` field of the header.
    pub rhythm: Option<String>,
    /// The composer, `C:`.
    pub composer: Option<String>,
    /// The meter at the start; `None` when there was no `M:` field.
    pub meter: Option<Meter>,
    /// The unit note length at the start, given by `L:` or the meter.
    pub unit: Fraction,
    /// The tempo at the start; `None` when there was no `Q:` field.
    pub tempo: Option<Tempo>,
    /// The key at the start; `None` when there was no `K:` field.
    pub key: Option<Key>,
    /// The order of parts from the header's `P:`, played out; empty when there is none.
    pub parts: Vec<char>,
    /// The voices in the order of their first mention.
    pub voices: Vec<Voice>,
    /// The lines of words (`w:` and `W:`).
    pub words: Vec<Span>,
    /// What was found wrong.
    pub diagnostics: Diagnostics,
}

impl Tune {
    /// The first title, or nothing.
    pub fn title(&self) -> &str {
        self.titles.first().map_or("", String::as_str)
    }

    /// Notes as written, chords counted by their notes, grace notes left out.
    pub fn note_count(&self) -> usize {
        self.voices.iter().map(Voice::note_count).sum()
    }
}

/// One voice of a tune.
#[derive(Debug, Clone)]
pub struct Voice {
    /// The name after `V:`; `1` when the tune has no `V:` field.
    pub id: String,
    /// The music in the order of the text.
    pub elements: Vec<Element>,
}

impl Voice {
    fn note_count(&self) -> usize {
        self.elements
            .iter()
            .map(|e| match &e.kind {
                ElementKind::Note(_) => 1,
                ElementKind::Chord(notes) => notes.len(),
                _ => 0,
            })
            .sum()
    }
}

/// A piece of music and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Element {
    /// The bytes it was read from.
    pub span: Span,
    /// How long it lasts; zero for what takes no time.
    pub duration: Fraction,
    /// What it is.
    pub kind: ElementKind,
}

/// What an element is.
#[derive(Debug, Clone, PartialEq)]
pub enum ElementKind {
    /// A note.
    Note(Note),
    /// Notes struck together; the element's duration is the first note's.
    Chord(Vec<Note>),
    /// A rest: `z`, `x`, `Z`.
    Rest,
    /// Grace notes; they take no time.
    Grace(Vec<Note>),
    /// A bar line.
    Bar(Bar),
    /// A variant ending that starts here (`[1`, or the `1` of `|1`).
    Ending(EndingNumbers),
    /// A chord symbol such as `"Am7"`; the span is without the quotes.
    ChordSymbol(ChordSymbol),
    /// An annotation such as `"^slowly"`, or quoted text that is no chord; the span is without the quotes.
    Annotation,
    /// `!trill!`, `~`, `.` and the like; the span is the symbol with its marks.
    Decoration,
    /// A change of key.
    Key(Box<Key>),
    /// A change of meter.
    Meter(Meter),
    /// A change of tempo.
    Tempo(Tempo),
    /// `P:` in the body: a part begins.
    Part(char),
    /// `&`: time goes back to the start of the bar.
    Overlay,
}

/// One note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// MIDI number, 0-127, middle C (written `C`) is 60.
    pub pitch: u8,
    /// 0-6 for C D E F G A B.
    pub step: u8,
    /// The written octave: 0 for `C`, 1 for `c`, -1 for `C,`.
    pub octave: i8,
    /// How long it lasts.
    pub duration: Fraction,
    /// A tie starts here.
    pub tied: bool,
    /// A tie from the note before ends here.
    pub continues: bool,
}

/// A bar line and its repeat marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bar {
    /// Colons on the left: `:|` has 1, `::|` has 2.
    pub end_repeat: u8,
    /// Colons on the right: `|:` has 1.
    pub start_repeat: u8,
    /// A double bar of any kind (`||`, `|]`, `[|`).
    pub double: bool,
}

impl Bar {
    /// Whether this bar line parts sections: a repeat or a double bar.
    pub fn is_section(self) -> bool {
        self.end_repeat > 0 || self.start_repeat > 0 || self.double
    }
}

/// The passes on which a variant ending is played: bit `n` for pass `n`, 1 to 31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndingNumbers(pub u32);

impl EndingNumbers {
    /// The highest pass there can be.
    pub const MAX: u32 = 31;

    /// Whether it is played on this pass.
    pub fn contains(self, pass: u32) -> bool {
        pass <= Self::MAX && self.0 >> pass & 1 == 1
    }

    /// The last pass it is played on; 0 for none.
    pub fn last(self) -> u32 {
        self.0.checked_ilog2().unwrap_or(0)
    }
}
