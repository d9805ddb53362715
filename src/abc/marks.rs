//! Quoted text and named decorations on a line of music: what stands between `"`, `!` and `+`.

use super::decoration;
use super::diagnostic::Code;
use super::music::abridged;
use super::parse::Parser;
use super::scan::Scanner;
use super::tune::ElementKind;

impl Parser<'_> {
    /// `"..."`: a chord symbol or an annotation.
    pub(super) fn read_quoted(&mut self, s: &mut Scanner<'_>) {
        let start = s.pos;
        s.bump();
        let text_start = s.pos;
        let Some(close) = s.find(b'"') else {
            let end = s.end;
            self.report(Code::UnclosedQuote, start, end, || "this `\"` has no partner on the line");
            s.pos = end;
            return;
        };
        s.pos = close;
        let text = s.since(text_start);
        let span = s.span(text_start);
        s.bump();
        let first = text.bytes().next();
        if matches!(first, Some(b'A'..=b'G' | b'a'..=b'g')) {
            if let Some(symbol) = super::chord_symbol::parse(text) {
                self.voice().mark(ElementKind::ChordSymbol(symbol), span);
                return;
            }
            self.report(Code::UnknownChordSymbol, span.start, span.end, || {
                format!("`{}` is no chord; it is taken as text", abridged(text))
            });
        }
        self.voice().mark(ElementKind::Annotation, span);
    }

    /// `!`: a decoration `!trill!`, or an old staff break at the end of a line.
    pub(super) fn read_exclamation(&mut self, s: &mut Scanner<'_>) {
        let start = s.pos;
        s.bump();
        if s.only_blanks_left() {
            return;
        }
        let name_start = s.pos;
        if let Some(close) = s.find(b'!') {
            let name = self.text.get(name_start..close).unwrap_or("");
            if decoration::could_be_name(name) {
                s.pos = close + 1;
                self.decoration(name, s.span(start));
                return;
            }
        }
        self.report(
            Code::StrayStaffBreak,
            start,
            start + 1,
            || "this `!` neither ends the line nor opens a decoration; taken as an old staff break",
        );
    }

    /// `+`: the old form of a decoration, `+trill+`.
    pub(super) fn read_plus(&mut self, s: &mut Scanner<'_>) {
        let start = s.pos;
        s.bump();
        let name_start = s.pos;
        if let Some(close) = s.find(b'+') {
            let name = self.text.get(name_start..close).unwrap_or("");
            if decoration::could_be_name(name) {
                s.pos = close + 1;
                self.decoration(name, s.span(start));
                return;
            }
        }
        self.report(Code::UnexpectedCharacter, start, start + 1, || "`+` opens no decoration");
    }

    fn decoration(&mut self, name: &str, span: super::Span) {
        if !decoration::is_known(name) {
            self.report(Code::UnknownDecoration, span.start, span.end, || {
                format!("`{name}` is no decoration that the standard lists")
            });
        }
        self.voice().mark(ElementKind::Decoration, span);
    }
}
