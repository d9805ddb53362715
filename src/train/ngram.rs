//! What counting alone achieves: n-gram models with Witten-Bell interpolation (Witten and Bell 1991; Chen and
//! Goodman 1998, section 2.5), orders 1 to 6, under the same reported loss as the network's.
//!
//! p_n(c | h) = (count(h c) + types(h) * p_{n-1}(c | h')) / (count(h) + types(h)), where types(h) is how many different
//! characters followed h and h' is h without its first character; p_0 is uniform over the vocabulary.
//! A tune's first characters have a shorter context; it begins with `<start>`.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use serde::{Deserialize, Serialize};

/// The highest order.
pub const ORDERS: usize = 6;

/// The most table entries that are counted (some 300 MB at the very worst).
pub const MAX_ENTRIES: usize = 4_000_000;

/// The most characters that are counted, and the most that are evaluated: some seconds each.
pub const MAX_CHARS: u64 = 8_000_000;

/// Counts of the training tunes.
pub struct Counts {
    vocab: usize,
    /// (order, its tokens) -> occurrences, for n-grams of every order.
    grams: Table<u32>,
    /// (length, context) -> (occurrences, different characters that followed).
    contexts: Table<(u32, u32)>,
    chars: u64,
    full: bool,
}

/// The loss of every order over some tunes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NgramLoss {
    /// Nats a character for orders 1 to 6.
    pub nats_per_char: Vec<f64>,
    /// Training characters counted.
    pub counted: u64,
    /// Whether counting stopped before the end of the training tunes, to bound memory and time.
    pub partial: bool,
    /// Characters evaluated.
    pub evaluated: u64,
    /// Whether evaluating stopped before the end of the tunes.
    pub evaluated_partial: bool,
}

impl NgramLoss {
    /// The best order and its loss in nats a character.
    pub fn best(&self) -> Option<(usize, f64)> {
        (1..).zip(self.nats_per_char.iter().copied()).min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

impl Counts {
    /// Nothing counted yet, for a vocabulary of V entries.
    pub fn new(vocab: usize) -> Counts {
        Counts { vocab, grams: Table::default(), contexts: Table::default(), chars: 0, full: false }
    }

    /// Counts one tune: `<start>`, its characters, `<end>`. False once the bounds are reached: the rest is not counted.
    pub fn add(&mut self, tokens: &[u16]) -> bool {
        if self.full
            || self.chars > MAX_CHARS
            || self.grams.len() + self.contexts.len() > MAX_ENTRIES
            || tokens.len() > u32::MAX as usize / 2
        {
            self.full = true;
            return false;
        }
        for at in 1..tokens.len() {
            for length in 0..ORDERS.min(at + 1) {
                let context = &tokens[at - length..at];
                let gram = &tokens[at - length..=at];
                let count = self.grams.entry(key(gram)).or_insert(0);
                *count = count.saturating_add(1);
                let fresh = *count == 1;
                let followed = self.contexts.entry(key(context)).or_insert((0, 0));
                followed.0 = followed.0.saturating_add(1);
                followed.1 += u32::from(fresh);
            }
        }
        self.chars += tokens.len().saturating_sub(1) as u64;
        true
    }

    /// Adds the loss of one tune's predictions to `sums` (nats, orders 1 to 6); returns how many were predicted.
    pub fn loss(&self, tokens: &[u16], sums: &mut [f64; ORDERS]) -> u64 {
        for at in 1..tokens.len() {
            let mut p = 1.0 / self.vocab.max(1) as f64;
            for (length, sum) in sums.iter_mut().enumerate() {
                // Near the tune's start a higher order has no longer context: it says what the order below says.
                // An unseen context leaves p as it is, too.
                if length <= at
                    && let Some(&(total, types)) = self.contexts.get(&key(&tokens[at - length..at]))
                {
                    let seen = self.grams.get(&key(&tokens[at - length..=at])).copied().unwrap_or(0);
                    let types = f64::from(types);
                    p = (f64::from(seen) + types * p) / (f64::from(total) + types);
                }
                *sum -= p.ln();
            }
        }
        tokens.len().saturating_sub(1) as u64
    }

    /// The loss over tunes, each `<start>`, characters, `<end>`; stops after [`MAX_CHARS`].
    pub fn evaluate<'a>(&self, tunes: impl Iterator<Item = std::borrow::Cow<'a, [u16]>>) -> NgramLoss {
        let mut sums = [0.0; ORDERS];
        let mut evaluated = 0;
        let mut evaluated_partial = false;
        for tokens in tunes {
            if evaluated > MAX_CHARS {
                evaluated_partial = true;
                break;
            }
            evaluated += self.loss(&tokens, &mut sums);
        }
        let nats_per_char = sums.iter().map(|sum| sum / evaluated.max(1) as f64).collect();
        NgramLoss { nats_per_char, counted: self.chars, partial: self.full, evaluated, evaluated_partial }
    }
}

/// Up to six tokens of 16 bits, and how many, as one number: exact, no collision.
fn key(tokens: &[u16]) -> u128 {
    tokens.iter().fold(tokens.len() as u128, |key, &token| (key << 16) | u128::from(token))
}

type Table<V> = HashMap<u128, V, BuildHasherDefault<Mix>>;

/// A quick hash of one u128 (the keys come from the user's own tunes; nobody attacks this table).
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u128(u128::from(byte));
        }
    }
    fn write_u128(&mut self, value: u128) {
        // Two rounds of a multiply-and-fold (wyhash's step).
        let fold = |a: u64, b: u64| {
            let product = u128::from(a) * u128::from(b);
            (product >> 64) as u64 ^ product as u64
        };
        let low = value as u64 ^ self.0 ^ 0xA076_1D64_78BD_642F;
        let high = (value >> 64) as u64 ^ 0xE703_7ED1_A0B4_28DB;
        self.0 = fold(fold(low, high | 1), 0x8EBC_6AF0_9C88_C6E3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    /// `<start>` 0, `<end>` 1, a 3, b 4; V = 5. Counted: 0 3 4 3 1.
    /// By hand: unigram counts a 2, b 1, end 1 (4, 3 types): p1(a) = (2 + 3/5) / 7; p1(end) = p1(b) = (1 + 3/5) / 7.
    /// Bigram: after start: a 1 of 1; after a: b 1, end 1 (2, 2 types); after b: a.
    #[test]
    fn a_small_case_by_hand() {
        let mut counts = Counts::new(5);
        assert!(counts.add(&[0, 3, 4, 3, 1]));
        let p1a = (2.0 + 3.0 / 5.0) / 7.0;
        let p1end = (1.0 + 3.0 / 5.0) / 7.0;
        let loss = counts.evaluate([Cow::Borrowed(&[0u16, 3, 1][..])].into_iter());
        let unigram: f64 = -(f64::ln(p1a) + f64::ln(p1end)) / 2.0;
        assert!((loss.nats_per_char[0] - unigram).abs() < 1e-12);
        let p2a = (1.0 + p1a) / 2.0;
        let p2end = (1.0 + 2.0 * p1end) / 4.0;
        let bigram: f64 = -(f64::ln(p2a) + f64::ln(p2end)) / 2.0;
        assert!((loss.nats_per_char[1] - bigram).abs() < 1e-12);
        // Trigram: context "start a" was followed by b once; end is unseen there.
        let p3end = (0.0 + p2end) / 2.0;
        let trigram: f64 = -(f64::ln(p2a) + f64::ln(p3end)) / 2.0;
        assert!((loss.nats_per_char[2] - trigram).abs() < 1e-12);
        assert_eq!(loss.evaluated, 2);
        assert_eq!(loss.best().map(|b| b.0), Some(2));
    }

    #[test]
    fn probabilities_of_every_order_sum_to_one() {
        let mut counts = Counts::new(7);
        let text: Vec<u16> = (0..400u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u16 % 7).collect();
        counts.add(&text);
        for context in [&text[10..15], &text[0..5], &[6, 6, 6, 6, 6][..]] {
            let mut total = [0.0; ORDERS];
            for next in 0..7u16 {
                let mut tokens = context.to_vec();
                tokens.push(next);
                let (mut with, mut without) = ([0.0; ORDERS], [0.0; ORDERS]);
                counts.loss(&tokens, &mut with);
                counts.loss(context, &mut without);
                for order in 0..ORDERS {
                    total[order] += (-(with[order] - without[order])).exp();
                }
            }
            assert!(total.iter().all(|t| (t - 1.0).abs() < 1e-9), "{total:?}");
        }
    }

    #[test]
    fn nothing_to_count_or_evaluate_is_no_division_by_zero() {
        let loss = Counts::new(0).evaluate(std::iter::empty());
        assert!(loss.nats_per_char.iter().all(|l| *l == 0.0));
    }
}
