//! The verdict on a generated tune: does it parse, is it complete, are its bars right, how long is it?

use serde::Serialize;

use super::bars::check_bars;
use super::diagnostic::{Code, Diagnostic, Span};
use super::expand::expand;
use super::fraction::Fraction;
use super::parse::parse_tune;
use super::tune::Tune;

/// What there is to say about one tune.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// No errors (warnings are allowed).
    pub parses: bool,
    /// There is an `X:` field.
    pub has_reference: bool,
    /// There is a `T:` field.
    pub has_title: bool,
    /// There is an `M:` field.
    pub has_meter: bool,
    /// There is a `K:` field.
    pub has_key: bool,
    /// All four of them.
    pub has_required_fields: bool,
    /// Bars with any time in them, as written, in every voice.
    pub bars: usize,
    /// Bars that fill the meter, alone or with their other half.
    pub full_bars: usize,
    /// The others.
    pub bad_bars: Vec<Span>,
    /// Notes as written, chords counted by their notes, grace notes left out.
    pub notes: usize,
    /// Notes as played, repeats included and ties merged.
    pub played_notes: usize,
    /// The length as played, in whole notes.
    pub whole_notes: Fraction,
    /// The length as played, in seconds; 120 quarters a minute without a `Q:` field.
    pub seconds: f64,
    /// The errors and warnings kept, in the order of the text, bars and repeats included.
    pub diagnostics: Vec<Diagnostic>,
    /// How many errors there were in all.
    pub errors: usize,
    /// How many warnings there were in all.
    pub warnings: usize,
}

/// The numbers of a [`Verdict`], for JSON.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Summary {
    /// See [`Verdict::parses`].
    pub parses: bool,
    /// See [`Verdict::has_required_fields`].
    pub has_required_fields: bool,
    /// See [`Verdict::bars`].
    pub bars: usize,
    /// See [`Verdict::full_bars`].
    pub full_bars: usize,
    /// See [`Verdict::notes`].
    pub notes: usize,
    /// See [`Verdict::seconds`].
    pub seconds: f64,
    /// See [`Verdict::errors`].
    pub errors: usize,
    /// See [`Verdict::warnings`].
    pub warnings: usize,
}

impl Verdict {
    /// The numbers.
    pub fn summary(&self) -> Summary {
        Summary {
            parses: self.parses,
            has_required_fields: self.has_required_fields,
            bars: self.bars,
            full_bars: self.full_bars,
            notes: self.notes,
            seconds: self.seconds,
            errors: self.errors,
            warnings: self.warnings,
        }
    }
}

/// Judges the text of one tune (without `<start>` and `<end>`).
///
/// # Examples
/// ```
/// let verdict = songrnn_fast::abc::judge("X:1\nT:Two bars\nM:4/4\nL:1/4\nK:D\nD2 FA|dAF|\n");
/// assert!(verdict.parses && verdict.has_required_fields);
/// assert_eq!((verdict.bars, verdict.full_bars, verdict.notes), (2, 1, 6));
/// ```
pub fn judge(text: &str) -> Verdict {
    judge_tune(&parse_tune(text))
}

/// Judges a tune that is already read.
pub fn judge_tune(tune: &Tune) -> Verdict {
    let performance = expand(tune);
    let checks = check_bars(tune);
    let mut diagnostics = tune.diagnostics.clone();
    diagnostics.append(&performance.diagnostics);
    let mut bad_bars = Vec::new();
    for bar in checks.iter().filter(|b| !b.full) {
        bad_bars.push(bar.span);
        diagnostics.push(Code::WrongBarLength, bar.span, || {
            let expected = bar.expected.unwrap_or(Fraction::ZERO);
            format!("this bar lasts {} of a whole note, the meter says {expected}", bar.duration)
        });
    }
    diagnostics.sort();
    let has_title = !tune.titles.is_empty();
    let (has_meter, has_key) = (tune.meter.is_some(), tune.key.is_some());
    Verdict {
        parses: diagnostics.errors() == 0,
        has_reference: tune.has_reference,
        has_title,
        has_meter,
        has_key,
        has_required_fields: tune.has_reference && has_title && has_meter && has_key,
        bars: checks.len(),
        full_bars: checks.len() - bad_bars.len(),
        bad_bars,
        notes: tune.note_count(),
        played_notes: performance.notes.len(),
        whole_notes: performance.whole_notes(),
        seconds: performance.seconds(),
        errors: diagnostics.errors(),
        warnings: diagnostics.warnings(),
        diagnostics: diagnostics.kept().to_vec(),
    }
}
