//! What is wrong with a tune, and where: codes, byte spans, and lines and columns on demand.

use std::borrow::Cow;
use std::fmt;

/// A range of bytes `start..end` of the text that was parsed (the whole file for a tunebook).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The bytes `start..end`.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start, end: end.max(start) }
    }
}

/// How bad a diagnostic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Played as meant, most likely; or a matter of style.
    Warning,
    /// Not ABC, or something had to be left out.
    Error,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        /// Every diagnostic there is. `E...` are errors, `W...` warnings; the numbers never change meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code { $($(#[$doc])* $name,)* }

        impl Code {
            /// All codes, in the order of the table in `docs/abc.md`.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The code as printed, such as `E010`.
            pub fn as_str(self) -> &'static str {
                match self { $(Code::$name => $code,)* }
            }
        }
    };
}

codes! {
    /// The header has no `K:` field; C major is assumed.
    MissingKey = "E001";
    /// Music stands before the `K:` field that ends the header.
    MusicBeforeKey = "E002";
    /// A `K:` field that names no key.
    BadKey = "E003";
    /// An `M:` field that is no meter.
    BadMeter = "E004";
    /// An `L:` field that is no fraction.
    BadUnitLength = "E005";
    /// A `Q:` field that is no tempo.
    BadTempo = "E006";
    /// A character that means nothing in music.
    UnexpectedCharacter = "E010";
    /// An accidental that no note follows.
    AccidentalWithoutNote = "E011";
    /// A chord `[` without its `]` on the line, or a `[` inside a chord.
    UnclosedChord = "E012";
    /// Grace notes `{` without their `}` on the line.
    UnclosedGrace = "E013";
    /// A `"` without its partner on the line.
    UnclosedQuote = "E014";
    /// A `]` or `}` that closes nothing.
    UnmatchedClose = "E015";
    /// A length (digits or `/`) that follows no note.
    StrayLength = "E016";
    /// `<` or `>` without a note on each side.
    BrokenRhythmWithoutNotes = "E017";
    /// A tuplet that cannot be: `(0`, `(1`, or out of bounds.
    BadTuplet = "E018";
    /// A note length beyond the bounds of this program.
    LengthOutOfRange = "E019";
    /// A variant ending whose numbers are wrong.
    BadEnding = "E020";
    /// An inline field `[X:` without its `]` on the line.
    UnclosedInlineField = "E021";
    /// Too much music in one tune; the rest was left out.
    TuneTooLong = "E030";
    /// Repeats and parts play out to more than the bound; the playing stops there.
    ExpansionTooLong = "E031";
    /// Time too fine or too long for exact arithmetic; the playing stops there.
    TimeOverflow = "E032";
    /// No `X:` field.
    MissingReference = "W001";
    /// No `T:` field.
    MissingTitle = "W002";
    /// No `M:` field.
    MissingMeter = "W003";
    /// The `X:` field is not a number.
    BadReference = "W004";
    /// The tune has no notes.
    NoNotes = "W005";
    /// A line of the header that is no field.
    StrayHeaderText = "W006";
    /// A field letter that ABC does not know, or one that does not belong there.
    UnknownField = "W007";
    /// Text after a blank line or a second `X:` inside one tune's text.
    TextAfterTune = "W008";
    /// A character reserved by the standard; ignored.
    ReservedCharacter = "W010";
    /// A decoration's name that the standard does not list.
    UnknownDecoration = "W011";
    /// A `!` that neither ends a line nor opens a decoration.
    StrayStaffBreak = "W012";
    /// Broken rhythm between notes of different lengths.
    UnequalBrokenRhythm = "W013";
    /// A tie whose next note has another pitch; played as a slur.
    TieWithoutNote = "W014";
    /// A quoted chord symbol that names no chord.
    UnknownChordSymbol = "W015";
    /// A chord's notes have different lengths.
    UnequalChord = "W016";
    /// A tuplet that ends before it has all its notes.
    UnfinishedTuplet = "W017";
    /// A tuplet that starts inside another; the first one is cut short.
    NestedTuplet = "W018";
    /// A microtone, played as the nearest semitone.
    Microtone = "W019";
    /// A note outside MIDI's 0-127, moved by octaves.
    PitchOutOfRange = "W020";
    /// A `)` that closes no slur.
    UnmatchedSlur = "W021";
    /// A start repeat whose section is never closed.
    UnclosedRepeat = "W030";
    /// A start repeat right inside an unclosed one.
    RepeatInsideRepeat = "W031";
    /// A bar that does not fill its meter.
    WrongBarLength = "W040";
    /// The header's `P:` names a part that the body lacks, or cannot be read.
    BadParts = "W041";
}

impl Code {
    /// Errors start with `E`.
    pub fn severity(self) -> Severity {
        if self.as_str().starts_with('E') { Severity::Error } else { Severity::Warning }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing found in a tune.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What kind of thing.
    pub code: Code,
    /// Where.
    pub span: Span,
    /// One sentence for a person.
    pub message: Cow<'static, str>,
}

impl Diagnostic {
    /// The code's severity.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// The diagnostics of one tune: all are counted, the first [`Diagnostics::KEPT`] are kept, so that a megabyte of
/// noise does not become a gigabyte of complaints.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    kept: Vec<Diagnostic>,
    errors: usize,
    warnings: usize,
}

impl Diagnostics {
    /// How many diagnostics of one tune are kept.
    pub const KEPT: usize = 200;

    /// Adds one. The message is only built when it is kept.
    pub fn push<M: Into<Cow<'static, str>>>(&mut self, code: Code, span: Span, message: impl FnOnce() -> M) {
        match code.severity() {
            Severity::Error => self.errors = self.errors.saturating_add(1),
            Severity::Warning => self.warnings = self.warnings.saturating_add(1),
        }
        // An error is worth more than the last kept warning, or the reason for a failed tune could be missing.
        if self.kept.len() < Self::KEPT {
            self.kept.push(Diagnostic { code, span, message: message().into() });
        } else if code.severity() == Severity::Error && self.errors == 1 {
            self.kept.pop();
            self.kept.push(Diagnostic { code, span, message: message().into() });
        }
    }

    /// Adds all of `other`, within the same bound.
    pub fn append(&mut self, other: &Diagnostics) {
        self.errors = self.errors.saturating_add(other.errors);
        self.warnings = self.warnings.saturating_add(other.warnings);
        let room = Self::KEPT.saturating_sub(self.kept.len());
        self.kept.extend(other.kept.iter().take(room).cloned());
    }

    /// The kept ones, in the order of their place in the text.
    pub fn kept(&self) -> &[Diagnostic] {
        &self.kept
    }

    /// How many errors there were, kept or not.
    pub fn errors(&self) -> usize {
        self.errors
    }

    /// How many warnings there were, kept or not.
    pub fn warnings(&self) -> usize {
        self.warnings
    }

    /// Puts the kept ones in the order of their place.
    pub fn sort(&mut self) {
        self.kept.sort_by_key(|d| (d.span.start, d.span.end));
    }
}

/// Finds lines and columns of byte offsets. Building it is one pass over the text.
#[derive(Debug)]
pub struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    /// Indexes `text`.
    pub fn new(text: &'a str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        LineIndex { text, starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// Line and column (characters, not bytes) of a byte offset, both counted from 1.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|s| *s <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or("");
        (line, before.chars().count() + 1)
    }

    /// The text of a line (counted from 1) without its line break, and the offset where it starts.
    pub fn line(&self, line: usize) -> (&'a str, usize) {
        let index = line.saturating_sub(1);
        let start = self.starts.get(index).copied().unwrap_or(self.text.len());
        let end = self.starts.get(index + 1).copied().unwrap_or(self.text.len());
        (self.text.get(start..end).unwrap_or("").trim_end_matches(['\n', '\r']), start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_say_their_severity() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            assert!(seen.insert(code.as_str()), "{code} twice");
            assert_eq!(code.severity() == Severity::Error, code.as_str().starts_with('E'));
        }
    }

    #[test]
    fn every_code_is_in_the_documentation() {
        let docs = include_str!("../../docs/abc.md");
        for code in Code::ALL {
            assert!(docs.contains(&format!("| {code} |")), "{code} is missing in docs/abc.md");
        }
    }

    #[test]
    fn positions_count_characters_from_one() {
        let index = LineIndex::new("ab\né|x\n");
        assert_eq!(index.position(0), (1, 1));
        assert_eq!(index.position(3), (2, 1));
        assert_eq!(index.position(5), (2, 2));
        assert_eq!(index.position(99), (3, 1));
        assert_eq!(index.line(2), ("é|x", 3));
    }

    #[test]
    fn counts_go_on_when_keeping_stops_and_the_first_error_is_kept() {
        let mut d = Diagnostics::default();
        for i in 0..1000 {
            d.push(Code::ReservedCharacter, Span::new(i, i + 1), || "reserved");
        }
        d.push(Code::MissingKey, Span::new(0, 0), || "no K:");
        assert_eq!((d.kept().len(), d.warnings(), d.errors()), (Diagnostics::KEPT, 1000, 1));
        assert!(d.kept().iter().any(|k| k.code == Code::MissingKey));
    }
}
