//! Reading a line of music: what each character means, and recovery where it means nothing. One pass, no recursion,
//! every branch moves the cursor: time is linear in the line and nesting cannot exhaust the stack.

use super::diagnostic::Code;
use super::fraction::Fraction;
use super::parse::Parser;
use super::pitch::step_of;
use super::scan::Scanner;
use super::tune::{Bar, ElementKind, EndingNumbers};
use super::voice::{MAX_CHORD, WrittenNote};

/// Bounds of `(p:q:r`.
const MAX_TUPLET: u32 = 64;

impl Parser<'_> {
    /// Reads the music between two byte offsets.
    pub(super) fn music_line(&mut self, start: usize, end: usize) {
        let mut s = Scanner::new(self.text, start, end);
        while let Some(byte) = s.peek() {
            if self.is_full(s.pos) {
                return;
            }
            self.music_item(&mut s, byte);
        }
    }

    fn music_item(&mut self, s: &mut Scanner<'_>, byte: u8) {
        let start = s.pos;
        match byte {
            b' ' | b'\t' | b'`' | b'$' => s.bump(),
            b'a'..=b'g' | b'A'..=b'G' | b'^' | b'_' | b'=' => {
                if let Some(note) = self.read_note(s) {
                    let span = s.span(start);
                    let (voice, diagnostics) = self.voice_and_diagnostics();
                    voice.note(note, span, diagnostics);
                }
            }
            b'z' | b'x' => {
                s.bump();
                let length = self.read_length(s, start);
                let span = s.span(start);
                let (voice, diagnostics) = self.voice_and_diagnostics();
                voice.rest(length, span, diagnostics);
            }
            b'Z' | b'X' => {
                s.bump();
                let bars = s.number().unwrap_or(1).clamp(1, 1000);
                let span = s.span(start);
                let (voice, diagnostics) = self.voice_and_diagnostics();
                voice.bars_of_rest(bars, span, diagnostics);
            }
            b'y' => {
                s.bump();
                s.number();
            }
            b'|' | b':' => self.read_bar(s),
            b'[' => self.read_bracket(s),
            b'(' => self.read_parenthesis(s),
            b')' => {
                s.bump();
                let (voice, diagnostics) = self.voice_and_diagnostics();
                if voice.slurs == 0 {
                    diagnostics.push(Code::UnmatchedSlur, s.span(start), || "`)` closes no slur");
                }
                voice.slurs = voice.slurs.saturating_sub(1);
            }
            b'-' => {
                s.bump();
                let (voice, diagnostics) = self.voice_and_diagnostics();
                if !voice.tie_last() {
                    diagnostics.push(Code::TieWithoutNote, s.span(start), || "no note stands before the tie");
                }
            }
            b'<' | b'>' => {
                let count = s.count(byte);
                let span = s.span(start);
                let (voice, diagnostics) = self.voice_and_diagnostics();
                voice.start_broken(byte == b'>', count, span, diagnostics);
            }
            b'{' => self.read_grace(s),
            b'"' => self.read_quoted(s),
            b'!' => self.read_exclamation(s),
            b'+' => self.read_plus(s),
            b'&' => {
                s.count(b'&');
                let span = s.span(start);
                self.voice().overlay(span);
            }
            b'.' if matches!(s.peek_at(1), Some(b'|')) => s.bump(),
            b'.' | b'~' => self.read_symbol(s),
            b'H'..=b'W' | b'h'..=b'w' => {
                if !self.is_symbol(byte) {
                    self.report(Code::ReservedCharacter, start, start + 1, || {
                        format!("`{}` is not defined as a decoration (a U: field could)", char::from(byte))
                    });
                }
                self.read_symbol(s);
            }
            b'\\' => {
                s.bump();
                if !s.only_blanks_left() {
                    self.report(Code::ReservedCharacter, start, start + 1, || "`\\` only continues a line");
                }
            }
            b'*' | b'#' | b';' | b'?' | b'@' => {
                s.count(byte);
                if !s.only_blanks_left() {
                    let span = s.span(start);
                    self.report(Code::ReservedCharacter, span.start, span.end, || {
                        format!("`{}` is reserved; ignored", char::from(byte))
                    });
                }
            }
            b']' | b'}' => {
                s.bump();
                self.report(Code::UnmatchedClose, start, start + 1, || {
                    format!("`{}` closes nothing", char::from(byte))
                });
            }
            b'0'..=b'9' | b'/' | b'\'' | b',' => {
                while matches!(s.peek(), Some(b'0'..=b'9' | b'/' | b'\'' | b',')) {
                    s.bump();
                }
                let (end, text) = (s.pos, s.since(start));
                self.report(Code::StrayLength, start, end, || {
                    format!("`{}` does not belong to a note", abridged(text))
                });
            }
            _ => {
                let c = s.take_char();
                if c.is_none() {
                    s.bump();
                }
                let end = s.pos;
                self.report(Code::UnexpectedCharacter, start, end, || {
                    format!("{:?} means nothing in music", c.unwrap_or('\u{fffd}'))
                });
            }
        }
    }

    fn read_symbol(&mut self, s: &mut Scanner<'_>) {
        let start = s.pos;
        s.bump();
        let span = s.span(start);
        self.voice().mark(ElementKind::Decoration, span);
    }

    fn read_length(&mut self, s: &mut Scanner<'_>, start: usize) -> Fraction {
        s.length().unwrap_or_else(|nearest| {
            let end = s.pos;
            self.report(Code::LengthOutOfRange, start, end, || {
                format!("this length is out of bounds; {nearest} is taken")
            });
            nearest
        })
    }

    /// An accidental, a letter, octave marks and a length. `None`, with a diagnostic, when no letter follows.
    fn read_note(&mut self, s: &mut Scanner<'_>) -> Option<WrittenNote> {
        let start = s.pos;
        let accidental = self.read_accidental(s);
        let Some(letter @ (b'a'..=b'g' | b'A'..=b'G')) = s.peek() else {
            let end = s.pos;
            self.report(Code::AccidentalWithoutNote, start, end, || "no note follows this accidental");
            return None;
        };
        s.bump();
        let mut octave: i32 = i32::from(letter.is_ascii_lowercase());
        loop {
            match s.peek() {
                Some(b'\'') => octave = octave.saturating_add(1),
                Some(b',') => octave = octave.saturating_sub(1),
                _ => break,
            }
            s.bump();
        }
        let length = self.read_length(s, start);
        let step = step_of(char::from(letter))?;
        Some(WrittenNote { step, octave, accidental, length, tied: false, span: s.span(start) })
    }

    fn read_accidental(&mut self, s: &mut Scanner<'_>) -> Option<i8> {
        let start = s.pos;
        let (mark, sign) = match s.peek()? {
            b'^' => (b'^', 1i32),
            b'_' => (b'_', -1),
            b'=' => {
                s.count(b'=');
                return Some(0);
            }
            _ => return None,
        };
        let count = s.count(mark).min(2);
        // `^/` and `^3/2` are microtones; MIDI's semitones are what we have.
        if matches!(s.peek(), Some(b'/' | b'0'..=b'9')) {
            let fraction = s.length().unwrap_or(Fraction::ONE);
            let end = s.pos;
            self.report(Code::Microtone, start, end, || "a microtone is played as the nearest semitone");
            let semitones = (fraction.as_f64() * f64::from(count)).round().clamp(0.0, 2.0) as i8;
            return Some(if sign > 0 { semitones } else { -semitones });
        }
        i8::try_from(sign * i32::try_from(count).unwrap_or(2)).ok()
    }

    /// A run of `|`, `:`, `[|`, `|]`, and the ending's numbers right behind it.
    fn read_bar(&mut self, s: &mut Scanner<'_>) {
        let start = s.pos;
        let mut before = s.count(b':');
        let mut strokes = 0u32;
        let mut thick = false;
        loop {
            match (s.peek(), s.peek_at(1)) {
                (Some(b'|'), _) => strokes = strokes.saturating_add(1),
                (Some(b'['), Some(b'|')) => thick = true,
                (Some(b']'), _) if strokes > 0 => thick = true,
                _ => break,
            }
            s.bump();
        }
        let mut after = 0;
        if strokes == 0 {
            if before == 1 {
                let end = s.pos;
                self.report(Code::UnexpectedCharacter, start, end, || "`:` alone is no bar line");
                return;
            }
            // `::` ends one repeat and starts the next.
            before = before.div_ceil(2);
            after = before;
        } else if s.peek() == Some(b':') && !self.is_colon_of_next_bar(s) {
            after = s.count(b':');
        }
        let colons = |n: u32| u8::try_from(n.min(8)).unwrap_or(8);
        let bar =
            Bar { end_repeat: colons(before), start_repeat: colons(after), double: strokes > 1 || thick };
        let span = s.span(start);
        let (voice, diagnostics) = self.voice_and_diagnostics();
        voice.bar(bar, span, diagnostics);
        if matches!(s.peek(), Some(b'0'..=b'9')) {
            self.read_ending(s, s.pos);
        }
    }

    /// In `| :|` without the blank, `|:|`, the colon belongs to the second bar line.
    fn is_colon_of_next_bar(&self, s: &Scanner<'_>) -> bool {
        s.peek_at(1) == Some(b'|')
    }

    /// `1`, `1,3`, `1-3` under the cursor.
    fn read_ending(&mut self, s: &mut Scanner<'_>, start: usize) {
        let mut numbers = EndingNumbers::default();
        let mut wrong = false;
        while let Some(from) = s.number() {
            let mut to = from;
            if s.peek() == Some(b'-') && matches!(s.peek_at(1), Some(b'0'..=b'9')) {
                s.bump();
                to = s.number().unwrap_or(from);
            }
            wrong |= from == 0 || to < from || to > EndingNumbers::MAX;
            for pass in from.max(1)..=to.min(EndingNumbers::MAX) {
                numbers.0 |= 1 << pass;
            }
            if s.peek() == Some(b',') && matches!(s.peek_at(1), Some(b'0'..=b'9')) {
                s.bump();
            } else {
                break;
            }
        }
        let span = s.span(start);
        if wrong {
            self.report(Code::BadEnding, span.start, span.end, || {
                format!("endings are numbered 1 to {}", EndingNumbers::MAX)
            });
        }
        if numbers.0 != 0 {
            self.voice().mark(ElementKind::Ending(numbers), span);
        }
    }

    /// `[`: an inline field, a bar line, an ending, or a chord.
    fn read_bracket(&mut self, s: &mut Scanner<'_>) {
        let start = s.pos;
        match (s.peek_at(1), s.peek_at(2)) {
            (Some(b'|'), _) => self.read_bar(s),
            (Some(b'0'..=b'9'), _) => {
                s.bump();
                self.read_ending(s, start);
            }
            (Some(letter), Some(b':')) if letter.is_ascii_alphabetic() => {
                let Some(close) = s.find(b']') else {
                    let end = s.end;
                    self.report(Code::UnclosedInlineField, start, end, || "this inline field has no `]`");
                    s.pos = end;
                    return;
                };
                self.body_field(letter, start + 3, close, start);
                s.pos = close + 1;
            }
            _ => self.read_chord(s),
        }
    }

    fn read_chord(&mut self, s: &mut Scanner<'_>) {
        let start = s.pos;
        s.bump();
        let mut notes: Vec<WrittenNote> = Vec::new();
        let mut rest = None;
        let mut closed = false;
        while let Some(byte) = s.peek() {
            let at = s.pos;
            match byte {
                b']' => {
                    s.bump();
                    closed = true;
                    break;
                }
                // A bar line or another `[` inside: the `]` was forgotten.
                b'|' | b'[' => break,
                b'a'..=b'g' | b'A'..=b'G' | b'^' | b'_' | b'=' => {
                    if let Some(note) = self.read_note(s)
                        && notes.len() < MAX_CHORD
                    {
                        notes.push(note);
                    }
                }
                b'-' => {
                    s.bump();
                    match notes.last_mut() {
                        Some(note) => note.tied = true,
                        None => {
                            let at = s.pos;
                            self.report(Code::TieWithoutNote, at - 1, at, || "no note stands before the tie")
                        }
                    }
                }
                b'z' | b'x' => {
                    s.bump();
                    rest = Some(self.read_length(s, at));
                }
                b'(' | b')' | b' ' | b'\t' | b'`' => s.bump(),
                b'"' => self.read_quoted(s),
                b'!' => self.read_exclamation(s),
                b'.' | b'~' | b'H'..=b'W' | b'h'..=b'w' => self.read_symbol(s),
                _ => {
                    let c = s.take_char();
                    let end = s.pos.max(at + 1);
                    s.pos = end.min(s.end);
                    self.report(Code::UnexpectedCharacter, at, end, || {
                        format!("{:?} does not belong inside a chord", c.unwrap_or('\u{fffd}'))
                    });
                }
            }
        }
        if !closed {
            let end = s.pos;
            self.report(Code::UnclosedChord, start, end, || "this chord has no `]`");
        }
        let length_start = s.pos;
        let outer = self.read_length(s, length_start);
        let span = s.span(start);
        let (voice, diagnostics) = self.voice_and_diagnostics();
        if !notes.is_empty() {
            voice.chord(&notes, outer, span, diagnostics);
        } else if let Some(length) = rest {
            voice.rest(length.checked_mul(outer).unwrap_or(length), span, diagnostics);
        }
    }

    /// `{...}`: everything up to the `}` that is not a note (slurs, beams, a leading `/`) is let be.
    fn read_grace(&mut self, s: &mut Scanner<'_>) {
        let start = s.pos;
        s.bump();
        let mut notes: Vec<WrittenNote> = Vec::new();
        let mut closed = false;
        while let Some(byte) = s.peek() {
            match byte {
                b'}' => {
                    s.bump();
                    closed = true;
                    break;
                }
                b'|' | b'{' => break,
                b'a'..=b'g' | b'A'..=b'G' | b'^' | b'_' | b'=' => {
                    if let Some(note) = self.read_note(s)
                        && notes.len() < MAX_CHORD
                    {
                        notes.push(note);
                    }
                }
                _ => s.bump(),
            }
        }
        if !closed {
            let end = s.pos;
            self.report(Code::UnclosedGrace, start, end, || "these grace notes have no `}`");
        }
        let span = s.span(start);
        let (voice, diagnostics) = self.voice_and_diagnostics();
        voice.grace(&notes, span, diagnostics);
    }

    /// `(`: a slur, or a tuplet when a digit follows.
    fn read_parenthesis(&mut self, s: &mut Scanner<'_>) {
        let start = s.pos;
        s.bump();
        let Some(p) = s.number() else {
            let voice = self.voice();
            voice.slurs = voice.slurs.saturating_add(1);
            return;
        };
        let mut q = None;
        let mut r = None;
        if s.take(b':') {
            q = s.number();
            if s.take(b':') {
                r = s.number();
            }
        }
        let span = s.span(start);
        let fits = |n: Option<u32>| n.is_none_or(|n| (1..=MAX_TUPLET).contains(&n));
        let known = (2..=9).contains(&p) || (q.is_some() && (1..=MAX_TUPLET).contains(&p));
        if !known || !fits(q) || !fits(r) {
            self.report(
                Code::BadTuplet,
                span.start,
                span.end,
                || "tuplets are (2 to (9, or (p:q:r with numbers up to 64",
            );
            return;
        }
        let (voice, diagnostics) = self.voice_and_diagnostics();
        let q = q.unwrap_or_else(|| voice.default_q(p));
        voice.start_tuplet(p, q, r.unwrap_or(p), span, diagnostics);
    }
}

/// The first characters of a text that may be a megabyte long.
pub(super) fn abridged(text: &str) -> String {
    let mut short: String = text.chars().take(24).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
