//! What people ask for, as text, and what an engine is asked for, as ids.

use super::prime::{self, PrimeError};
use super::{Choice, check_request};
use crate::corpus::Vocab;
use crate::engine::{Engine, EngineError, SampleRequest};

/// Sampling options in people's terms.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleOptions {
    /// How many tunes.
    pub tunes: usize,
    /// Index of the first in the seed's stream; 0 unless tunes are sampled piecemeal.
    pub first_index: u64,
    /// Seed.
    pub seed: u64,
    /// How a character is chosen.
    pub choice: Choice,
    /// The text every tune begins with; may be empty.
    pub prime: String,
    /// The most characters of a tune, its prime included.
    pub max_chars: usize,
}

impl Default for SampleOptions {
    fn default() -> SampleOptions {
        SampleOptions {
            tunes: 1,
            first_index: 0,
            seed: 1,
            choice: Choice { temperature: 0.8, ..Choice::default() },
            prime: String::new(),
            max_chars: 2000,
        }
    }
}

/// Why nothing was sampled.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// The prime.
    #[error(transparent)]
    Prime(#[from] PrimeError),
    /// The options, or the engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A sampled tune as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TuneText {
    /// Its characters exactly as they were chosen, the prime's first.
    pub text: String,
    /// Whether the model ended it; else it was cut off at `max_chars`.
    pub closed: bool,
}

impl SampleOptions {
    /// The request for a model with this vocabulary: `<start>` before the prime, `<start>` and `<unk>` never chosen.
    pub fn request(&self, vocab: &Vocab) -> Result<SampleRequest, SampleError> {
        let mut ids = vec![vocab.start()];
        ids.extend(prime::encode(vocab, &self.prime)?);
        let request = SampleRequest {
            tunes: self.tunes,
            first_index: self.first_index,
            seed: self.seed,
            choice: self.choice,
            prime: ids,
            max_chars: self.max_chars,
            end: vocab.end(),
            banned: std::iter::once(vocab.start()).chain(vocab.unk()).collect(),
        };
        check_request(&request, vocab.len())?;
        Ok(request)
    }
}

/// Samples tunes as text.
pub fn tunes(
    engine: &mut dyn Engine,
    vocab: &Vocab,
    options: &SampleOptions,
) -> Result<Vec<TuneText>, SampleError> {
    let request = options.request(vocab)?;
    let sampled = engine.sample(&request)?;
    Ok(sampled.iter().map(|tune| TuneText { text: vocab.decode(&tune.ids), closed: tune.closed }).collect())
}

/// One tune, as a trainer shows it after a validation: tune `index` of `seed`, without a prime.
pub fn one_tune(
    engine: &mut dyn Engine,
    vocab: &Vocab,
    seed: u64,
    index: u64,
    choice: Choice,
    max_chars: usize,
) -> Result<String, SampleError> {
    let options = SampleOptions { first_index: index, seed, choice, max_chars, ..SampleOptions::default() };
    Ok(tunes(engine, vocab, &options)?.pop().map(|tune| tune.text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_starts_and_bans() {
        let vocab = Vocab::from_chars("abc".chars());
        let options = SampleOptions { prime: "ba".into(), tunes: 3, ..SampleOptions::default() };
        let request = options.request(&vocab).unwrap();
        assert_eq!(request.prime, [vocab.start(), vocab.id('b').unwrap(), vocab.id('a').unwrap()]);
        assert_eq!(request.banned, [vocab.start(), vocab.unk().unwrap()]);
        assert_eq!((request.end, request.tunes), (vocab.end(), 3));
        assert!(SampleOptions { prime: "bx".into(), ..options.clone() }.request(&vocab).is_err());
        assert!(SampleOptions { max_chars: 2, ..options }.request(&vocab).is_err());
    }

    #[test]
    fn a_vocabulary_without_unk_will_do() {
        let tokens = ["<start>", "<end>", "a"].map(String::from).to_vec();
        let vocab = Vocab::from_tokens(tokens).unwrap();
        assert_eq!(SampleOptions::default().request(&vocab).unwrap().banned, [vocab.start()]);
    }
}
