//! From text to a [`Tune`]: lines, fields, and whose voice the music belongs to. The characters of a music line are
//! read in [`super::music`].

use std::borrow::Cow;

use super::diagnostic::{Code, Diagnostics, Span};
use super::fraction::Fraction;
use super::key::{Key, parse_key, voice_shift};
use super::meter::{Meter, parse_meter, parse_tempo, parse_unit_length};
use super::tune::{ElementKind, MAX_ELEMENTS, Tune, Voice};
use super::voice::VoiceBuilder;

/// The most voices one tune may have.
const MAX_VOICES: usize = 64;
/// The most bytes kept of a title, a rhythm or a voice's name.
const MAX_NAME: usize = 1000;
/// The most titles kept.
const MAX_TITLES: usize = 100;

/// Reads one tune. Blank lines before it are skipped; it ends at the next blank line, as in a tunebook.
/// Anything at all may be passed: what is wrong is in [`Tune::diagnostics`].
///
/// # Examples
/// ```
/// let tune = songrnn_fast::abc::parse_tune("X:1\nT:Scale\nM:4/4\nK:G\nGABc defg|]\n");
/// assert_eq!(tune.title(), "Scale");
/// assert_eq!(tune.note_count(), 8);
/// assert_eq!(tune.diagnostics.errors(), 0);
/// ```
pub fn parse_tune(text: &str) -> Tune {
    parse_tune_in(text, Span::new(0, text.len()))
}

/// Reads the tune that stands in the bytes `span` of `text`; the spans in the result are offsets into `text`.
pub fn parse_tune_in(text: &str, span: Span) -> Tune {
    let mut parser = Parser::new(text, span);
    parser.run();
    parser.finish()
}

/// The state of reading one tune.
#[derive(Debug)]
pub(super) struct Parser<'t> {
    pub(super) text: &'t str,
    tune: Tune,
    voices: Vec<VoiceBuilder>,
    current: usize,
    in_body: bool,
    part: Option<char>,
    /// Letters that `U:` fields defined, by ASCII code.
    user_symbols: u128,
    full: bool,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str, span: Span) -> Self {
        let end = (0..=span.end.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        let start = (span.start.min(end)..=end).find(|i| text.is_char_boundary(*i)).unwrap_or(end);
        Parser {
            text,
            tune: Tune {
                span: Span::new(start, end),
                reference: None,
                has_reference: false,
                titles: Vec::new(),
                rhythm: None,
                composer: None,
                meter: None,
                unit: Fraction::ratio(1, 8),
                tempo: None,
                key: None,
                parts: Vec::new(),
                voices: Vec::new(),
                words: Vec::new(),
                diagnostics: Diagnostics::default(),
            },
            voices: Vec::new(),
            current: 0,
            in_body: false,
            part: None,
            user_symbols: 0,
            full: false,
        }
    }

    fn run(&mut self) {
        let Span { start, end } = self.tune.span;
        let body = self.text.get(start..end).unwrap_or("");
        let key_line = body.rfind("\nK:").map_or(0, |at| start + at + 1);
        let mut header = Header { last_key_line: key_line, ..Header::default() };
        let mut pos = start;
        let mut begun = false;
        while pos < end {
            let rest = self.text.get(pos..end).unwrap_or("");
            let length = rest.find('\n').unwrap_or(rest.len());
            let line = rest.get(..length).unwrap_or("");
            let line_start = pos;
            pos = pos.saturating_add(length).saturating_add(1);
            let line = line.trim_end();
            if line.is_empty() {
                if begun {
                    break;
                }
                continue;
            }
            if line.starts_with('%') {
                continue;
            }
            if begun && line.starts_with("X:") {
                pos = line_start;
                break;
            }
            begun = true;
            let line = without_comment(line);
            self.line(line, line_start, &mut header);
        }
        // What stands behind the tune's end is not read, but its being there is worth a word.
        let rest = self.text.get(pos.min(end)..end).unwrap_or("");
        if !rest.trim_start().is_empty() {
            let at = end - rest.trim_start().len();
            self.report(Code::TextAfterTune, at, at, || "the tune has ended; what follows is not part of it");
        }
        if !self.in_body {
            self.start_body(&header);
            if self.tune.key.is_none() {
                self.report(Code::MissingKey, start, start, || "no K: field ends the header");
            }
        }
    }

    fn line(&mut self, line: &str, start: usize, header: &mut Header) {
        let end = start + line.len();
        if let Some(letter) = field_letter(line, self.in_body) {
            let value = Span::new(start + 2, end);
            if self.in_body {
                self.body_field(letter, value.start, value.end, start);
            } else {
                self.header_field(letter, value, start, header);
            }
            return;
        }
        if !self.in_body {
            // Text in a header is music when it has a bar line and no K: line comes to end the header properly; else
            // it is a stray remark.
            if !line.contains('|') || start < header.last_key_line {
                self.report(Code::StrayHeaderText, start, end, || "this line of the header is no field");
                return;
            }
            self.report(
                Code::MusicBeforeKey,
                start,
                end,
                || "music before the K: field that should end the header; C major is taken",
            );
            self.start_body(header);
        }
        self.music_line(start, end);
    }

    fn value(&self, span: Span) -> &'t str {
        self.text.get(span.start..span.end).unwrap_or("").trim()
    }

    fn header_field(&mut self, letter: u8, span: Span, start: usize, header: &mut Header) {
        let value = self.value(span);
        match letter {
            b'X' => {
                self.tune.has_reference = true;
                self.tune.reference = value.parse().ok();
                if self.tune.reference.is_none() {
                    self.report(Code::BadReference, start, span.end, || "the X: field should be a number");
                }
            }
            b'T' if self.tune.titles.len() < MAX_TITLES => self.tune.titles.push(bounded(value)),
            b'R' => self.tune.rhythm = Some(bounded(value)),
            b'C' if self.tune.composer.is_none() => self.tune.composer = Some(bounded(value)),
            b'M' => match parse_meter(value) {
                Ok(meter) => self.tune.meter = Some(meter),
                Err(why) => self.report(Code::BadMeter, start, span.end, || why),
            },
            b'L' => match parse_unit_length(value) {
                Ok(unit) => header.unit = Some(unit),
                Err(why) => self.report(Code::BadUnitLength, start, span.end, || why),
            },
            // The unit length may stand on a later line, so a tempo is read when the header is complete.
            b'Q' => header.tempo = Some(span),
            b'P' => self.header_parts(value, start, span.end),
            b'V' => {
                if let Some(id) = voice_id(value) {
                    header.voices.retain(|v: &Span| self.value_id(*v) != Some(id));
                    if header.voices.len() < MAX_VOICES {
                        header.voices.push(span);
                    }
                }
            }
            b'U' => self.define_symbol(value),
            b'w' | b'W' => self.tune.words.push(span),
            b'K' => {
                self.tune.key = Some(self.key_or_report(value, &Key::C_MAJOR, start, span.end));
                self.start_body(header);
            }
            b'X'..=b'Z' | b'A'..=b'I' | b'N' | b'O' | b'S' | b'T' | b'm' | b'r' | b's' | b'+' => {}
            _ => self.report(Code::UnknownField, start, span.end, || {
                format!("`{}:` is no field of the standard", char::from(letter))
            }),
        }
    }

    fn value_id(&self, span: Span) -> Option<&'t str> {
        voice_id(self.value(span))
    }

    fn header_parts(&mut self, value: &str, start: usize, end: usize) {
        match super::parts::parse_parts(value) {
            Ok(parts) => self.tune.parts = parts,
            Err(why) => self.report(Code::BadParts, start, end, || why),
        }
    }

    fn key_or_report(&mut self, value: &str, before: &Key, start: usize, end: usize) -> Key {
        match parse_key(value, before) {
            Ok(key) => key,
            Err(why) => {
                self.report(Code::BadKey, start, end, || why);
                before.clone()
            }
        }
    }

    fn define_symbol(&mut self, value: &str) {
        if let Some(letter) = value.bytes().next().filter(u8::is_ascii) {
            self.user_symbols |= 1 << letter;
        }
    }

    /// The header is over: its values become those of every voice.
    fn start_body(&mut self, header: &Header) {
        self.in_body = true;
        self.tune.unit =
            header.unit.unwrap_or_else(|| self.tune.meter.map_or(Fraction::ratio(1, 8), Meter::default_unit));
        if let Some(span) = header.tempo {
            match parse_tempo(self.value(span), self.tune.unit) {
                Ok(tempo) => self.tune.tempo = tempo,
                Err(why) => self.report(Code::BadTempo, span.start.saturating_sub(2), span.end, || why),
            }
        }
        for span in &header.voices {
            let value = self.value(*span);
            if let Some(id) = voice_id(value) {
                let index = self.voice_index(id);
                self.set_voice_shift(index, value);
            }
        }
        if self.voices.is_empty() {
            self.voice_index("1");
        }
        self.current = 0;
    }

    fn set_voice_shift(&mut self, index: usize, value: &str) {
        if let Some(voice) = self.voices.get_mut(index)
            && value.contains(char::is_whitespace)
        {
            voice.shift = voice_shift(value);
        }
    }

    /// The voice of this name, made when it is new.
    fn voice_index(&mut self, id: &str) -> usize {
        let id = &bounded(id);
        if let Some(index) = self.voices.iter().position(|v| v.id == *id) {
            return index;
        }
        if self.voices.len() >= MAX_VOICES {
            return MAX_VOICES - 1;
        }
        let key = self.tune.key.clone().unwrap_or(Key::C_MAJOR);
        // Without M: bars cannot be judged, which is what free meter means here too.
        let meter = self.tune.meter.unwrap_or(Meter::FREE);
        let mut voice = VoiceBuilder::new(id.clone(), key, self.tune.unit, meter);
        voice.swing = self.tune.rhythm.as_deref().is_some_and(is_hornpipe);
        self.voices.push(voice);
        self.voices.len() - 1
    }

    /// A field in the body, on its own line or inline. `start` is where it begins, `from..to` its value.
    pub(super) fn body_field(&mut self, letter: u8, from: usize, to: usize, start: usize) {
        let span = Span::new(from, to);
        let value = self.value(span);
        match letter {
            b'K' => {
                let before = self.voice().key.clone();
                let key = self.key_or_report(value, &before, start, to);
                let voice = self.voice();
                voice.key = key.clone();
                voice.mark(ElementKind::Key(Box::new(key)), span);
            }
            b'M' => match parse_meter(value) {
                Ok(meter) => {
                    let voice = self.voice();
                    voice.meter = meter;
                    voice.mark(ElementKind::Meter(meter), span);
                }
                Err(why) => self.report(Code::BadMeter, start, to, || why),
            },
            b'L' => match parse_unit_length(value) {
                Ok(unit) => self.voice().unit = unit,
                Err(why) => self.report(Code::BadUnitLength, start, to, || why),
            },
            b'Q' => match parse_tempo(value, self.voice().unit) {
                Ok(Some(tempo)) => self.voice().mark(ElementKind::Tempo(tempo), span),
                Ok(None) => {}
                Err(why) => self.report(Code::BadTempo, start, to, || why),
            },
            b'V' => {
                if let Some(id) = voice_id(value).filter(|id| *id != "*") {
                    // Music before the first V: belongs to a voice that no field names; an empty one is given the name.
                    if let [only] = self.voices.as_mut_slice()
                        && only.elements.is_empty()
                        && only.id == "1"
                    {
                        only.id = id.to_owned();
                    }
                    self.current = self.voice_index(id);
                    self.set_voice_shift(self.current, value);
                }
            }
            b'P' => self.part = value.chars().next().filter(char::is_ascii_alphabetic),
            b'U' => self.define_symbol(value),
            b'w' | b'W' => {
                if self.tune.words.len() < MAX_ELEMENTS {
                    self.tune.words.push(span);
                }
            }
            b'R' => {
                let swing = is_hornpipe(value);
                self.voice().swing = swing;
            }
            b'T' | b'N' | b'I' | b'm' | b'r' | b's' | b'+' => {}
            b'A'..=b'I' | b'O' | b'S' | b'X' | b'Y' | b'Z' => {
                self.report(Code::UnknownField, start, to, || {
                    format!("`{}:` belongs in the header", char::from(letter))
                });
            }
            _ => self.report(Code::UnknownField, start, to, || {
                format!("`{}:` is no field of the standard", char::from(letter))
            }),
        }
    }

    /// The voice that music goes to, with the part it is in marked.
    pub(super) fn voice(&mut self) -> &mut VoiceBuilder {
        self.voice_and_diagnostics().0
    }

    /// The same, with the list for diagnostics.
    pub(super) fn voice_and_diagnostics(&mut self) -> (&mut VoiceBuilder, &mut Diagnostics) {
        if self.current >= self.voices.len() {
            self.current = self.voice_index("1");
        }
        let part = self.part;
        let voice = &mut self.voices[self.current];
        if voice.part != part
            && let Some(letter) = part
        {
            voice.part = part;
            let at = voice.elements.last().map_or(Span::default(), |e| Span::new(e.span.end, e.span.end));
            voice.mark(ElementKind::Part(letter), at);
        }
        (voice, &mut self.tune.diagnostics)
    }

    /// Adds a diagnostic.
    pub(super) fn report<M: Into<Cow<'static, str>>>(
        &mut self,
        code: Code,
        start: usize,
        end: usize,
        message: impl FnOnce() -> M,
    ) {
        self.tune.diagnostics.push(code, Span::new(start, end), message);
    }

    /// Whether a letter is a decoration: by default, or by a `U:` field.
    pub(super) fn is_symbol(&self, letter: u8) -> bool {
        b"HLMOPSTuvJR".contains(&letter) || (letter < 128 && self.user_symbols >> letter & 1 == 1)
    }

    /// Whether the tune already holds all that it may; said once, at `pos`.
    pub(super) fn is_full(&mut self, pos: usize) -> bool {
        let full =
            self.full || self.voices.get(self.current).is_some_and(|v| v.elements.len() >= MAX_ELEMENTS);
        if full && !self.full {
            self.full = true;
            let end = self.tune.span.end;
            self.report(Code::TuneTooLong, pos, end, || {
                format!("a tune may hold {MAX_ELEMENTS} notes and signs; the rest is left out")
            });
        }
        full
    }

    fn finish(mut self) -> Tune {
        let Span { start, .. } = self.tune.span;
        let here = Span::new(start, start);
        for voice in &mut self.voices {
            voice.finish(&mut self.tune.diagnostics);
        }
        let tune = &mut self.tune;
        tune.voices = self.voices.into_iter().map(|v| Voice { id: v.id, elements: v.elements }).collect();
        if !tune.has_reference {
            tune.diagnostics.push(Code::MissingReference, here, || "no X: field starts the tune");
        }
        if tune.titles.is_empty() {
            tune.diagnostics.push(Code::MissingTitle, here, || "no T: field");
        }
        if tune.meter.is_none() {
            tune.diagnostics.push(Code::MissingMeter, here, || "no M: field; bars cannot be judged");
        }
        if tune.note_count() == 0 {
            tune.diagnostics.push(Code::NoNotes, here, || "the tune has no notes");
        }
        self.tune.diagnostics.sort();
        self.tune
    }
}

/// What the header says that only counts once it is complete.
#[derive(Debug, Default)]
struct Header {
    /// Where the tune's last `K:` line starts; 0 without one.
    last_key_line: usize,
    unit: Option<Fraction>,
    tempo: Option<Span>,
    voices: Vec<Span>,
}

/// The letter of a field line. In the body `E:|` is music, not a field: a note letter with a bar line behind it.
pub(super) fn field_letter(line: &str, in_body: bool) -> Option<u8> {
    let bytes = line.as_bytes();
    let (letter, b':') = (*bytes.first()?, *bytes.get(1)?) else { return None };
    if !letter.is_ascii_alphabetic() && letter != b'+' {
        return None;
    }
    let note = matches!(letter, b'a'..=b'g' | b'A'..=b'G' | b'x' | b'z');
    if in_body && note && matches!(bytes.get(2), Some(b'|' | b':')) {
        return None;
    }
    Some(letter)
}

/// The line up to a `%` that no backslash hides.
fn without_comment(line: &str) -> &str {
    let bytes = line.as_bytes();
    let comment = (0..bytes.len()).find(|i| bytes[*i] == b'%' && (*i == 0 || bytes[*i - 1] != b'\\'));
    comment.map_or(line, |i| line.get(..i).unwrap_or(line).trim_end())
}

fn voice_id(value: &str) -> Option<&str> {
    value.split_whitespace().next()
}

fn is_hornpipe(rhythm: &str) -> bool {
    rhythm.get(..8).is_some_and(|word| word.eq_ignore_ascii_case("hornpipe"))
}

fn bounded(value: &str) -> String {
    if value.len() <= MAX_NAME { value.to_owned() } else { value.chars().take(MAX_NAME / 4).collect() }
}
