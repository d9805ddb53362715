//! The order in which a voice's elements are played: parts, repeats, variant endings.
//!
//! The rules (ABC 2.1, 4.8 and 4.9, and common sense where it is silent) stand in `docs/abc.md`. A voice is cut into
//! sections, each played a number of times with the endings of that pass; no jump goes further than its section, so
//! playing is bounded by construction and by [`MAX_STEPS`].

use std::ops::Range;

use super::diagnostic::{Code, Diagnostics, Span};
use super::tune::{Bar, Element, ElementKind, EndingNumbers};

/// The most elements that one voice may play.
pub const MAX_STEPS: usize = 1_000_000;

/// A stretch of music that is played one or more times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub start: usize,
    pub end: usize,
    pub passes: u32,
    pub endings: Vec<Ending>,
}

/// A variant ending: the passes that play it, and its elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    pub numbers: EndingNumbers,
    pub start: usize,
    pub end: usize,
}

impl Section {
    /// The ranges of elements played on a pass (1, 2, ...).
    pub fn ranges(&self, pass: u32) -> Vec<Range<usize>> {
        let mut ranges = Vec::with_capacity(self.endings.len() + 1);
        let mut from = self.start;
        for ending in &self.endings {
            if !ending.numbers.contains(pass) {
                ranges.push(from..ending.start);
                from = ending.end;
            }
        }
        ranges.push(from..self.end);
        ranges.retain(|r| r.start < r.end);
        ranges
    }
}

/// Cuts `elements[range]` into sections.
pub(super) fn sections(
    elements: &[Element],
    range: Range<usize>,
    diagnostics: &mut Diagnostics,
) -> Vec<Section> {
    let mut cutter = Cutter::new(range.start);
    let slice = elements.get(range.clone()).unwrap_or(&[]);
    for (offset, element) in slice.iter().enumerate() {
        let i = range.start + offset;
        match &element.kind {
            ElementKind::Bar(bar) => {
                let ending_next = ending_follows(slice.get(offset + 1..).unwrap_or(&[]));
                cutter.bar(*bar, i, element.span, ending_next, diagnostics);
            }
            ElementKind::Ending(numbers) => {
                cutter.close_ending(i);
                cutter.open = Some((*numbers, i));
            }
            ElementKind::Note(_) | ElementKind::Chord(_) => cutter.has_notes = true,
            _ => {}
        }
    }
    cutter.finish(range.end, diagnostics)
}

/// Whether the next thing that matters is a variant ending.
fn ending_follows(rest: &[Element]) -> bool {
    for element in rest.iter().take(16) {
        match &element.kind {
            ElementKind::Ending(_) => return true,
            ElementKind::Bar(bar) if bar.end_repeat > 0 || bar.start_repeat > 0 => return false,
            _ if !element.duration.is_zero() => return false,
            ElementKind::Part(_) => return false,
            _ => {}
        }
    }
    false
}

#[derive(Debug)]
struct Cutter {
    sections: Vec<Section>,
    start: usize,
    /// The `|:` or `::` that opened the section.
    opened_by: Option<Span>,
    has_notes: bool,
    passes: u32,
    endings: Vec<Ending>,
    open: Option<(EndingNumbers, usize)>,
    /// Some section was repeated already.
    any_repeat: bool,
}

impl Cutter {
    fn new(start: usize) -> Self {
        Cutter {
            sections: Vec::new(),
            start,
            opened_by: None,
            has_notes: false,
            passes: 1,
            endings: Vec::new(),
            open: None,
            any_repeat: false,
        }
    }

    fn bar(&mut self, bar: Bar, at: usize, span: Span, ending_next: bool, diagnostics: &mut Diagnostics) {
        if bar.end_repeat > 0 {
            self.close_ending(at);
            self.passes = self.passes.max(u32::from(bar.end_repeat) + 1);
            if !ending_next || bar.start_repeat > 0 {
                self.cut(at + 1);
            }
        } else if bar.start_repeat > 0 {
            self.close_ending(at);
            if let Some(opened) = self.opened_by.filter(|_| self.has_notes && self.endings.is_empty()) {
                // `|: A |: B :|`: the end of the first repeat was forgotten.
                diagnostics.push(
                    Code::RepeatInsideRepeat,
                    opened,
                    || "another repeat starts before this one ends; it is played as if a `:|` stood there",
                );
                self.passes = 2;
            }
            self.cut(at + 1);
        } else if bar.double {
            let in_ending = self.open.is_some();
            self.close_ending(at);
            let last = self.endings.last().map_or(0, |e| e.numbers.last());
            // The first repeat without a `|:` goes back to the start (the standard allows that or the latest double
            // bar; abc2midi does the former); after a repeat, a double bar is where the next one starts.
            let starts_section = !in_ending && self.opened_by.is_none() && self.any_repeat;
            if in_ending && last >= 2 && !ending_next || starts_section {
                self.cut(at + 1);
            }
        }
        if bar.start_repeat > 0 {
            self.opened_by = Some(span);
        }
    }

    fn close_ending(&mut self, at: usize) {
        if let Some((numbers, start)) = self.open.take() {
            self.passes = self.passes.max(numbers.last()).max(2);
            self.endings.push(Ending { numbers, start, end: at });
        }
    }

    fn cut(&mut self, next: usize) {
        let endings = std::mem::take(&mut self.endings);
        self.any_repeat |= self.passes > 1;
        self.sections.push(Section { start: self.start, end: next, passes: self.passes, endings });
        self.start = next;
        self.opened_by = None;
        self.has_notes = false;
        self.passes = 1;
    }

    fn finish(mut self, end: usize, diagnostics: &mut Diagnostics) -> Vec<Section> {
        self.close_ending(end);
        if let Some(opened) = self.opened_by.filter(|_| self.has_notes && self.passes == 1) {
            diagnostics.push(
                Code::UnclosedRepeat,
                opened,
                || "this repeat has no end; the section is played once",
            );
        }
        self.cut(end);
        self.sections
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_tune;
    use super::*;

    /// The notes of a tune in the order of playing.
    fn played(body: &str) -> String {
        let text = format!("X:1\nT:t\nM:4/4\nL:1/1\nK:C\n{body}\n");
        let tune = parse_tune(&text);
        let elements = &tune.voices[0].elements;
        let mut out = String::new();
        for section in sections(elements, 0..elements.len(), &mut Diagnostics::default()) {
            for pass in 1..=section.passes {
                for i in section.ranges(pass).into_iter().flatten() {
                    if matches!(elements[i].kind, ElementKind::Note(_)) {
                        out.push_str(&text[elements[i].span.start..elements[i].span.end]);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn repeats_and_endings() {
        for (body, order) in [
            ("A|B|]", "AB"),
            ("|:A|B:|", "ABAB"),
            ("A|B:|", "ABAB"),
            ("A:|B:|", "AABB"),
            ("A::B:|", "AABB"),
            ("|:A:|:B:|", "AABB"),
            ("|:A:||:B:|", "AABB"),
            ("A|:B:|C", "ABBC"),
            ("|:A|1B:|2C|]", "ABAC"),
            ("|:A|[1B:|[2C|]", "ABAC"),
            ("|:A|[1 B:| [2 C|D|]", "ABACD"),
            ("|:A|1B:|2C:|3D|]", "ABACAD"),
            ("|:A|1,3B:|2C|]D", "ABACABD"),
            ("|:A|1-2B:|3C|]", "ABABAC"),
            ("|:A|1B:|2C||D:|", "ABACDD"),
            ("|:A|1B:|2C|:D:|", "ABACDD"),
            ("|:A|1B:|2C::D|1E:|2F:|", "ABACDEDF"),
            ("A|1B:|2C|D:|", "ABACD"),
            ("|::A::|B", "AAAB"),
            ("|:A||B:|", "ABAB"),
            ("A||B:|", "ABAB"),
            ("A:|B||C:|", "AABCC"),
            ("A||B|:C:|", "ABCC"),
            ("A:|2B|]", "AAB"),
            ("|:A|1B|2C|]", "ABAC"),
            ("|:A|:B:|", "AABB"),
            ("|:A|B", "AB"),
            ("A|:|B:|", "ABB"),
        ] {
            assert_eq!(played(body), order, "{body}");
        }
    }
}
