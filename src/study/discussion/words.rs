//! Numbers and lists as words of a sentence.

use crate::study::names;
use crate::study::results::{Experiment, Variant};
use crate::study::statistics::{Interval, Summary};
use crate::study::tables::{bits, plain};

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(parts: &[String], joint: &str) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} {joint} {last}", most.join(", ")),
    }
}

/// The same for parts that have commas of their own.
pub(super) fn long_list(parts: &[String], joint: &str) -> String {
    match parts {
        [most @ .., last] if most.len() > 1 => format!("{}; {joint} {last}", most.join("; ")),
        _ => list(parts, joint),
    }
}

/// `1 trial`, `3 trials`.
pub(super) fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// With a capital and a full stop.
pub(super) fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", chars.as_str())
}

/// `1.712 ± 0.008 nats a character (2.470 bits; mean and standard deviation over 3 seeds)`.
pub(super) fn mean_spread(summary: &Summary) -> String {
    let value = crate::study::tables::spread(summary, 3);
    let bits = bits(summary.mean);
    match summary.n {
        1 => format!("{value} nats a character ({bits:.3} bits; one seed)"),
        n => format!("{value} nats a character ({bits:.3} bits; mean and standard deviation over {n} seeds)"),
    }
}

/// `by 0.034 nats, 95% interval 0.020 to 0.048`: the same for brackets.
pub(super) fn by(interval: &Interval) -> String {
    format!("by {}", size(interval).replace(" (", ", ").trim_end_matches(')'))
}

/// `0.034 nats (95% interval 0.020 to 0.048)`: the size of a difference whose direction stands in the words around it.
pub(super) fn size(interval: &Interval) -> String {
    let (mean, ends) = if interval.mean < 0.0 {
        (-interval.mean, [-interval.high, -interval.low])
    } else {
        (interval.mean, [interval.low, interval.high])
    };
    let ends = ends.map(|end| plain(end, 3));
    format!("{} nats (95% interval {} to {})", plain(mean, 3), ends[0], ends[1])
}

/// `+0.012 nats, 95% interval −0.010 to +0.034`: with its sign.
pub(super) fn signed_size(interval: &Interval) -> String {
    let [mean, low, high] =
        [interval.mean, interval.low, interval.high].map(|value| crate::study::tables::signed(value, 3));
    format!("{mean} nats, 95% interval {low} to {high}")
}

/// A variant within a sentence about its experiment: `with a GRU`, `with 200 units`, `without dropout`.
pub(super) fn with(experiment: &Experiment, variant: &Variant) -> String {
    let varied = names::varied(experiment);
    match (varied.cell, varied.hidden, varied.layers, varied.dropout) {
        (true, false, false, false) => format!("with {}", cell(variant)),
        (false, false, false, true) if variant.dropout == 0.0 => "without dropout".into(),
        (false, true, false, false) | (false, false, true, false) | (false, false, false, true) => {
            format!("with {}", names::short(experiment, variant))
        }
        _ => format!("for {}", names::full(variant)),
    }
}

/// `an LSTM`, `a GRU`, `an RNN`: as the letters are spoken.
pub(super) fn cell(variant: &Variant) -> String {
    let name = names::cell(variant.cell);
    format!("{} {name}", if name.starts_with(['L', 'R']) { "an" } else { "a" })
}

/// The lowest and the highest of some values, in words: `0.12 to 0.35`, or the one value they share.
pub(super) fn range(values: &[f64], places: usize) -> String {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let [low, high] = [low, high].map(|value| plain(value, places));
    if low == high { low } else { format!("{low} to {high}") }
}
