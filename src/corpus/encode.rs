//! Text to tokens: which characters there are, then each tune as ids, counted.

use std::collections::BTreeSet;

use super::{Split, Vocab};

/// Calls `ascii` with each run of ASCII bytes and `other` with each other character: decoding is slow, and needed for
/// few characters.
#[inline]
fn each_run<S>(
    text: &str,
    state: &mut S,
    mut ascii: impl FnMut(&mut S, &[u8]),
    mut other: impl FnMut(&mut S, char),
) {
    let mut rest = text;
    while !rest.is_empty() {
        let bytes = rest.as_bytes();
        let run = if bytes.is_ascii() {
            bytes.len()
        } else {
            bytes.iter().position(|byte| !byte.is_ascii()).unwrap_or(bytes.len())
        };
        ascii(state, &bytes[..run]);
        let mut chars = rest[run..].chars();
        if let Some(c) = chars.next() {
            other(state, c);
        }
        rest = chars.as_str();
    }
}

/// Characters met.
#[derive(Debug)]
pub struct Characters {
    ascii: [bool; 256],
    others: BTreeSet<char>,
    /// The one before: text of another script repeats itself.
    last: char,
}

impl Default for Characters {
    fn default() -> Self {
        Characters { ascii: [false; 256], others: BTreeSet::new(), last: 'a' }
    }
}

impl Characters {
    /// Takes note of a text's characters.
    pub fn add(&mut self, text: &str) {
        each_run(
            text,
            self,
            |met, run| run.iter().for_each(|&byte| met.ascii[usize::from(byte)] = true),
            |met, c| {
                if c != met.last {
                    met.others.insert(c);
                    met.last = c;
                }
            },
        );
    }

    /// All of them.
    pub fn into_set(self) -> BTreeSet<char> {
        let ascii = (0..128u8).filter(|&b| self.ascii[usize::from(b)]).map(char::from);
        ascii.chain(self.others.iter().copied()).collect()
    }
}

/// Tokens of some tunes.
#[derive(Debug, Default)]
pub struct Encoded {
    /// Tokens as bytes, one or two each.
    pub tokens: Vec<u8>,
    /// For each tune: tokens, split.
    pub tunes: Vec<(u32, Split)>,
    /// Bytes of the files they come from.
    pub read: u64,
}

/// Text to tokens, with occurrences counted.
#[derive(Debug)]
pub struct Encoder {
    vocab: Vocab,
    /// Id of each ASCII character (0 where there is none: the vocabulary has all that the tunes hold).
    ascii: [u16; 256],
    wide: bool,
    /// Occurrences of each token in each split. \[3\]\[V\]
    pub counts: [Vec<u64>; 3],
}

impl Encoder {
    /// For tunes whose characters `vocab` holds.
    pub fn new(vocab: &Vocab) -> Encoder {
        let ascii = std::array::from_fn(|c| vocab.id(char::from(c as u8)).unwrap_or(0));
        let counts = std::array::from_fn(|_| vec![0; vocab.len()]);
        Encoder { vocab: vocab.clone(), ascii, wide: vocab.len() > 256, counts }
    }

    /// Appends a tune's tokens.
    pub fn encode(&mut self, text: &str, split: Split, out: &mut Encoded) {
        let from = out.tokens.len();
        let (vocab, ascii) = (&self.vocab, &self.ascii);
        let unknown = vocab.unk().unwrap_or(vocab.start());
        let counts = &mut self.counts[split as usize];
        let mut count = |id: u16| {
            if let Some(count) = counts.get_mut(usize::from(id)) {
                *count += 1;
            }
        };
        let tokens = if self.wide {
            let push = |out: &mut Vec<u8>, id: u16| out.extend_from_slice(&id.to_le_bytes());
            push(&mut out.tokens, vocab.start());
            each_run(
                text,
                &mut out.tokens,
                |out, run| run.iter().for_each(|&byte| push(out, ascii[usize::from(byte)])),
                |out, c| push(out, vocab.id(c).unwrap_or(unknown)),
            );
            push(&mut out.tokens, vocab.end());
            let ids = out.tokens[from..].chunks_exact(2);
            ids.for_each(|id| count(u16::from_le_bytes([id[0], id[1]])));
            (out.tokens.len() - from) / 2
        } else {
            out.tokens.push(vocab.start() as u8);
            each_run(
                text,
                &mut out.tokens,
                |out, run| out.extend(run.iter().map(|&byte| ascii[usize::from(byte)] as u8)),
                |out, c| out.push(vocab.id(c).unwrap_or(unknown) as u8),
            );
            out.tokens.push(vocab.end() as u8);
            out.tokens[from..].iter().for_each(|&id| count(u16::from(id)));
            out.tokens.len() - from
        };
        // A tune has at most 16 MiB of text.
        out.tunes.push((tokens as u32, split));
    }
}
