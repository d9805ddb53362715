//! What counting alone achieves, under both protocols: orders 1 to 6, Witten-Bell (`train::ngram`).

use super::results::{NgramTable, Protocol};
use super::songs::{Draw, Songs, slice};
use crate::abc;
use crate::train::data::TrainData;
use crate::train::evaluate::Part;
use crate::train::ngram::{Counts, MAX_CHARS, ORDERS};

/// Slices of every validation song that the n-grams are averaged over: a single one has a standard deviation of some
/// 0.03 nats.
const DRAWS: u64 = 40;

/// Sums of losses of all orders, of all tokens and of those in bodies.
#[derive(Default)]
struct Sums {
    all: [f64; ORDERS],
    chars: u64,
    headers: [f64; ORDERS],
    header_chars: u64,
    /// Whether there is a body at all.
    bodies: bool,
}

impl Sums {
    /// A tune's tokens, and how many of them stand before the first token of its body (all: no body).
    fn add(&mut self, counts: &Counts, tokens: &[u16], before: usize) {
        self.chars += counts.loss(tokens, &mut self.all);
        // A prediction depends on nothing behind it, so the header's part is that of the header alone.
        let header = &tokens[..before.min(tokens.len())];
        self.header_chars += counts.loss(header, &mut self.headers);
        self.bodies |= header.len() < tokens.len();
    }

    fn table(&self, protocol: Protocol, of: &str) -> NgramTable {
        let body_chars = self.chars - self.header_chars;
        let mean = |sum: f64, n: u64| sum / n.max(1) as f64;
        NgramTable {
            protocol,
            of: of.into(),
            nats: self.all.iter().map(|&sum| mean(sum, self.chars)).collect(),
            body_nats: (self.bodies && body_chars > 0).then(|| {
                self.all
                    .iter()
                    .zip(self.headers)
                    .map(|(all, header)| mean(all - header, body_chars))
                    .collect()
            }),
        }
    }
}

/// Tables of the contract's protocol: `validation` and `test`, where there are such tunes.
pub fn of_contract(data: &TrainData) -> Vec<NgramTable> {
    let mut counts = Counts::new(data.vocab.len());
    for tokens in data.train.tokens() {
        if !counts.add(&tokens) {
            break;
        }
    }
    let table = |of: &str, part: &Option<Part>| {
        let part = part.as_ref()?;
        let mut sums = Sums::default();
        for (tokens, &tune) in part.tokens().zip(&part.tunes) {
            if sums.chars > MAX_CHARS {
                break;
            }
            // Token 0 is <start>.
            let before = abc::body_start(&part.pack.text(tune as usize)).map_or(tokens.len(), |at| at + 1);
            sums.add(&counts, &tokens, before);
        }
        Some(sums.table(Protocol::Contract, of))
    };
    [("validation", &data.val), ("test", &data.test)]
        .iter()
        .filter_map(|(of, part)| table(of, part))
        .collect()
}

/// Tables of the assignment's protocol: `slices` and `validation` (whole songs); none without validation songs.
pub fn of_assignment(songs: &Songs) -> Vec<NgramTable> {
    if songs.val.is_empty() {
        return Vec::new();
    }
    // <start> and <end> are spelled out here: as tokens of their own they never come.
    let mut counts = Counts::new(songs.vocab.len() - 2);
    for song in &songs.train {
        if !counts.add(song) {
            break;
        }
    }
    let (mut slices, mut whole) = (Sums::default(), Sums::default());
    for draw in 0..DRAWS {
        for (index, song) in songs.val.iter().enumerate() {
            if slices.chars <= MAX_CHARS {
                let slice = slice(song, 0, Draw::Ngrams, draw, index);
                slices.add(&counts, slice, slice.len());
            }
        }
    }
    for (song, body) in songs.val.iter().zip(&songs.val_bodies) {
        if whole.chars <= MAX_CHARS {
            whole.add(&counts, song, body.unwrap_or(song.len()));
        }
    }
    vec![slices.table(Protocol::Assignment, "slices"), whole.table(Protocol::Assignment, "validation")]
}
