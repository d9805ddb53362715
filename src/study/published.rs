//! Validation losses that others reported for the assignment's protocol and data, to stand beside a study's own.
//!
//! They are of the course assignment behind the SongRNN report: 805 training and 153 validation songs.

use super::results::Variant;
use crate::model::CellKind;

/// Songs of the assignment's training and validation files.
pub const SONGS: (u64, u64) = (805, 153);

/// Nats a character that the assignment's handout calls a decent baseline.
pub const HANDOUT: f64 = 1.9;

/// What a reported loss is a mean over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measured {
    /// One random 30-character slice a validation song.
    Slices,
    /// All characters of the validation songs, deterministic.
    WholeSongs,
}

/// Who reported losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// For column heads.
    pub label: &'static str,
    /// What a reader must know of it.
    pub note: &'static str,
    /// What the losses are.
    pub measured: Measured,
}

/// One reported loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figure {
    /// Index into [`SOURCES`].
    pub source: usize,
    /// What it was reported for.
    pub variant: Variant,
    /// Nats a character; a range where a range was reported.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// As it was reported, where that is more than a number.
    pub remark: &'static str,
}

impl Figure {
    /// `1.931`, `1.78-1.80`.
    pub fn text(&self) -> String {
        // One report and all ranges have two digits, the others three.
        let digits = if self.low < self.high || self.source == 1 { 2 } else { 3 };
        let number = |value: f64| format!("{value:.digits$}");
        if self.low == self.high {
            number(self.low)
        } else {
            format!("{}-{}", number(self.low), number(self.high))
        }
    }
}

/// The sources, in the order of columns.
pub const SOURCES: [Source; 4] = [
    Source {
        label: "report, SGD",
        note: "the best-documented student report, trained with SGD",
        measured: Measured::Slices,
    },
    Source {
        label: "report, Adam",
        note: "another report, trained with Adam (a range is from its best to a typical run)",
        measured: Measured::Slices,
    },
    Source {
        label: "re-run, Adam",
        note: "an independent re-run with Adam, the best of 100 epochs",
        measured: Measured::Slices,
    },
    Source {
        label: "re-run, whole songs",
        note: "the same re-run over whole songs, deterministic",
        measured: Measured::WholeSongs,
    },
];

const fn figure(source: usize, cell: CellKind, hidden: usize, dropout: f64, low: f64, high: f64) -> Figure {
    Figure { source, variant: Variant { cell, hidden, layers: 1, dropout }, low, high, remark: "" }
}

use CellKind::{Lstm, Rnn};

/// Every reported figure that a variant can be put beside. One was reported for the paper's baseline with dropout 0.1,
/// and stands at that variant, not at the one without dropout.
pub const FIGURES: [Figure; 21] = [
    figure(0, Lstm, 150, 0.0, 1.931, 1.931),
    figure(0, Rnn, 150, 0.0, 2.062, 2.062),
    figure(0, Lstm, 200, 0.0, 1.947, 1.947),
    figure(0, Lstm, 250, 0.0, 1.861, 1.861),
    figure(0, Lstm, 150, 0.2, 2.010, 2.010),
    figure(0, Lstm, 150, 0.3, 2.065, 2.065),
    Figure { remark: "about 1.67 best, 1.75 typical", ..figure(1, Lstm, 150, 0.1, 1.67, 1.75) },
    figure(1, Lstm, 200, 0.1, 1.68, 1.68),
    figure(1, Lstm, 150, 0.3, 1.70, 1.70),
    figure(2, Lstm, 150, 0.0, 1.78, 1.80),
    figure(2, Rnn, 150, 0.0, 2.094, 2.094),
    figure(2, Lstm, 200, 0.0, 1.741, 1.741),
    figure(2, Lstm, 250, 0.0, 1.749, 1.749),
    figure(2, Lstm, 150, 0.1, 1.778, 1.778),
    figure(2, Lstm, 150, 0.3, 1.762, 1.762),
    figure(3, Lstm, 150, 0.0, 1.67, 1.70),
    figure(3, Rnn, 150, 0.0, 2.033, 2.033),
    figure(3, Lstm, 200, 0.0, 1.655, 1.655),
    figure(3, Lstm, 250, 0.0, 1.653, 1.653),
    figure(3, Lstm, 150, 0.1, 1.630, 1.630),
    figure(3, Lstm, 150, 0.3, 1.648, 1.648),
];

/// The reported 4-gram (Witten-Bell, no network): over slices and over whole songs, nats a character.
pub fn four_gram(measured: Measured) -> f64 {
    match measured {
        Measured::Slices => 2.068,
        Measured::WholeSongs => 1.997,
    }
}

/// What was reported for a variant, in the order of [`SOURCES`].
pub fn of(variant: &Variant) -> Vec<&'static Figure> {
    FIGURES.iter().filter(|figure| figure.variant == *variant).collect()
}

/// Whether a study that read so many songs may be put beside these figures: within 5% of the assignment's files (a
/// few songs are too short for the protocol, or are left out as copies).
pub fn comparable(train_tunes: u64, val_tunes: u64) -> bool {
    let near = |found: u64, expected: u64| found.abs_diff(expected) * 20 <= expected;
    near(train_tunes, SONGS.0) && near(val_tunes, SONGS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_by_variant_and_read_as_reported() {
        let base = Variant { cell: Lstm, hidden: 150, layers: 1, dropout: 0.0 };
        let texts: Vec<String> = of(&base).into_iter().map(Figure::text).collect();
        assert_eq!(texts, ["1.931", "1.78-1.80", "1.67-1.70"]);
        assert_eq!(of(&Variant { dropout: 0.1, ..base })[0].text(), "1.67-1.75");
        assert_eq!(of(&Variant { hidden: 151, ..base }).len(), 0);
        assert!(FIGURES.iter().all(|f| f.low <= f.high && f.low > 1.5 && f.source < SOURCES.len()));
        assert!(comparable(805, 153) && comparable(800, 152) && !comparable(805, 100) && !comparable(0, 0));
    }
}
