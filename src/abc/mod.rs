//! ABC notation: a tolerant parser of our own, with spans and error codes, and MIDI.
//!
//! [`parse_tune`] and [`parse_tunebook`] read anything at all, in time linear in the text and bounded memory, and say
//! what is wrong with it; [`judge`] sums that up for generated tunes; [`expand`] plays a tune out in exact time;
//! [`to_midi`] writes a Standard MIDI File; [`as_numbered_abc`] makes raw text fit for a tunebook.
//! What is parsed, the codes and the rules of playing are in `docs/abc.md`.

mod accompany;
mod bars;
mod book;
mod chord_symbol;
mod classes;
mod decoration;
mod diagnostic;
mod expand;
mod fraction;
mod judge;
mod key;
mod marks;
mod meter;
mod midi;
mod music;
mod parse;
mod parts;
mod pitch;
mod played;
mod repair;
mod repeats;
mod scan;
mod tune;
mod voice;

pub use bars::{BarCheck, check_bars};
pub use book::{Decoded, Encoding, decode, parse_tunebook, split};
pub use chord_symbol::ChordSymbol;
pub use classes::{CharClass, body_start, classify};
pub use diagnostic::{Code, Diagnostic, Diagnostics, LineIndex, Severity, Span};
pub use expand::{BarEvent, ChordEvent, MAX_NOTES, NoteEvent, Performance, expand};
pub use fraction::Fraction;
pub use judge::{Summary, Verdict, judge, judge_tune};
pub use key::Key;
pub use meter::{Meter, Tempo};
pub use midi::{AbcError, MidiOptions, TICKS_PER_QUARTER, to_midi};
pub use parse::{parse_tune, parse_tune_in};
pub use parts::MAX_PARTS;
pub use played::{Played, PlayedNote, played};
pub use repair::as_numbered_abc;
pub use repeats::MAX_STEPS;
pub use tune::{Bar, Element, ElementKind, EndingNumbers, MAX_ELEMENTS, Note, Tune, Voice};
