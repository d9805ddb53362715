//! From the facts of every tune to a set's measures, the corpus's own value beside each.

use std::collections::HashMap;

use super::Reference;
use super::facts::{COPY_LENGTH, Facts, Histograms, NOVEL_LENGTHS};
use super::statistics::{Estimate, bootstrap, divergence, mean, median, ratio, share, subset};
use crate::abc::Fraction;
use crate::study::results::Measure;

/// Draws of the corpus's tunes over which its own distance is averaged.
const DRAWS: u32 = 64;

/// A measure whose value follows from the tunes alone: key, name, unit, how.
type Plain = (String, String, &'static str, Box<dyn Fn(&[Facts]) -> Option<Estimate>>);

fn plain(
    key: &str,
    name: &str,
    unit: &'static str,
    how: impl Fn(&[Facts]) -> Option<Estimate> + 'static,
) -> Plain {
    (key.into(), name.into(), unit, Box::new(how))
}

/// The measures that compare with nothing but the index, in order: before and after the distances.
fn before() -> Vec<Plain> {
    let mut list = vec![
        plain("parses", "parse without an error", "share", |f| share(f.iter().map(|f| f.parses))),
        plain("closes", "ended by the model, with X, T, M and K", "share", |f| {
            share(f.iter().map(|f| f.closes))
        }),
        plain("bars_filled", "bars filled, pickups allowed", "share", |f| ratio(f.iter().map(|f| f.bars))),
        plain("in_key", "notes inside the key", "share", |f| ratio(f.iter().map(|f| f.in_key))),
        plain("repeats", "repeats balanced, of tunes with repeats", "share", |f| {
            share(f.iter().filter_map(|f| f.repeats))
        }),
        plain("sections", "sections of 4 bars or a multiple of 8", "share", |f| {
            ratio(f.iter().map(|f| f.sections))
        }),
        plain("longest_copy", "longest run copied from a training tune, median", "chars", |f| {
            median(f.iter().filter(|f| f.music > 0).map(|f| f.copied as f64))
        }),
        plain(
            "copying",
            &format!("copy more than {COPY_LENGTH} characters or half of themselves"),
            "share",
            |f| share(f.iter().filter_map(Facts::copies)),
        ),
    ];
    for (i, length) in NOVEL_LENGTHS.iter().enumerate() {
        let (key, name) =
            (format!("novel_{length}"), format!("substrings of {length} characters that are new"));
        list.push(plain(&key, &name, "share", move |f| ratio(f.iter().map(|f| f.novel[i]))));
    }
    list
}

fn after() -> Vec<Plain> {
    vec![
        plain("chars", "length", "chars", |f| mean(f.iter().map(|f| f.chars as f64))),
        plain("seconds", "length when played", "seconds", |f| mean(f.iter().filter_map(|f| f.seconds))),
    ]
}

/// All measures of a set.
pub(super) fn measures(reference: &Reference, facts: &[Facts]) -> Vec<Measure> {
    let of = |list: Vec<Plain>| -> Vec<Measure> {
        let one = |(key, name, unit, how): Plain| {
            measure(key, name, unit, how(facts), how(&reference.corpus).map(|corpus| corpus.value))
        };
        list.into_iter().map(one).collect()
    };
    let mut list = of(before());
    let space = Space::of(reference, facts);
    for (key, name, histogram) in [
        ("pitch_distance", "pitch classes: distance from the training tunes", Kind::Pitches),
        ("duration_distance", "durations: distance from the training tunes", Kind::Durations),
    ] {
        let (value, corpus) = distance(reference, facts, &space, histogram);
        list.push(measure(key.into(), name.into(), "bits", value, corpus));
    }
    list.extend(of(after()));
    list
}

fn measure(key: String, name: String, unit: &str, value: Option<Estimate>, corpus: Option<f64>) -> Measure {
    Measure {
        key,
        name,
        unit: unit.into(),
        value: value.map(|value| value.value),
        error: value.and_then(|value| value.error),
        corpus,
    }
}

/// Which of a tune's histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pitches,
    Durations,
}

/// The bins: every duration that occurs anywhere.
struct Space {
    durations: HashMap<Fraction, usize>,
}

impl Space {
    fn of(reference: &Reference, facts: &[Facts]) -> Space {
        let mut durations = HashMap::new();
        let sets = facts.iter().chain(&reference.corpus).map(|facts| &facts.histograms);
        for (duration, _) in reference.histograms.iter().chain(sets).flat_map(|h| &h.durations) {
            let next = durations.len();
            durations.entry(*duration).or_insert(next);
        }
        Space { durations }
    }

    fn zero(&self, kind: Kind) -> Vec<f64> {
        vec![0.0; if kind == Kind::Pitches { 12 } else { self.durations.len() }]
    }

    /// A tune's bins with their counts.
    fn bins(&self, kind: Kind, histograms: &Histograms) -> Vec<(usize, f64)> {
        match kind {
            Kind::Pitches => histograms.pitches.iter().map(|&n| f64::from(n)).enumerate().collect(),
            Kind::Durations => {
                let bin = |(duration, n): &(Fraction, u32)| {
                    self.durations.get(duration).map(|&bin| (bin, f64::from(*n)))
                };
                histograms.durations.iter().filter_map(bin).collect()
            }
        }
    }
}

fn sum<'a>(zero: Vec<f64>, tunes: impl Iterator<Item = &'a Vec<(usize, f64)>>) -> Vec<f64> {
    tunes.flatten().fold(zero, |mut sum, &(bin, count)| {
        sum[bin] += count;
        sum
    })
}

/// A set's divergence from the training tunes, and the corpus's own: the mean over draws of as many of its tunes, since
/// a small set is further from anything than a large one by chance alone.
fn distance(
    reference: &Reference,
    facts: &[Facts],
    space: &Space,
    kind: Kind,
) -> (Option<Estimate>, Option<f64>) {
    let bins = |histograms: &Histograms| space.bins(kind, histograms);
    let train_bins: Vec<Vec<(usize, f64)>> = reference.histograms.iter().map(bins).collect();
    let train = sum(space.zero(kind), train_bins.iter());
    // Tunes without notes say nothing about notes.
    let with_notes = |facts: &&Facts| !facts.histograms.durations.is_empty();
    let set: Vec<Vec<(usize, f64)>> =
        facts.iter().filter(with_notes).map(|facts| bins(&facts.histograms)).collect();
    let of = |drawn: &mut dyn Iterator<Item = usize>| {
        divergence(&sum(space.zero(kind), drawn.map(|i| &set[i])), &train)
    };
    let value = of(&mut (0..set.len())).map(|value| Estimate {
        value,
        error: bootstrap(set.len(), |drawn| of(&mut drawn.iter().copied()).unwrap_or(0.0)),
    });

    let corpus: Vec<(usize, Vec<(usize, f64)>)> = reference
        .corpus
        .iter()
        .enumerate()
        .filter(|(_, facts)| with_notes(facts))
        .map(|(i, facts)| (i, bins(&facts.histograms)))
        .collect();
    // Training tunes need others to be compared with.
    let most = if reference.own.is_some() { corpus.len() / 2 } else { corpus.len() };
    let count = set.len().min(most);
    if count == 0 {
        return (value, None);
    }
    let (mut total, mut draws) = (0.0, 0u32);
    for number in 0..if count == corpus.len() { 1 } else { DRAWS } {
        let drawn = subset(corpus.len(), count, number);
        let histogram = sum(space.zero(kind), drawn.iter().map(|&i| &corpus[i].1));
        let mut others = train.clone();
        if let Some(own) = &reference.own {
            // Training tunes are compared with the others only.
            for &i in &drawn {
                for &(bin, count) in &train_bins[own[corpus[i].0]] {
                    others[bin] -= count;
                }
            }
        }
        if let Some(value) = divergence(&histogram, &others) {
            total += value;
            draws += 1;
        }
    }
    (value, (draws > 0).then(|| total / f64::from(draws)))
}
