//! The reported loss: mean cross-entropy over every predicted token of every tune, each tune from a zero state.

use std::sync::Arc;

use serde::Serialize;

use crate::corpus::{EvalStreams, Pack, Vocab};
use crate::engine::{Chunk, Engine, EngineError, Ticket};

/// Characters a stream in one chunk of an evaluation.
const STEPS: usize = 128;

/// The most streams of an evaluation.
const STREAMS: usize = 64;

/// Some tunes of a packed corpus, as a model reads them.
#[derive(Debug, Clone)]
pub struct Part {
    /// The packed corpus.
    pub pack: Arc<Pack>,
    /// Indices of the tunes.
    pub tunes: Vec<u32>,
    /// The pack's ids -> the model's ids.
    pub map: Vec<u16>,
}

impl Part {
    /// These tunes of `pack`, for a model with this vocabulary.
    pub fn new(pack: Arc<Pack>, tunes: Vec<u32>, model: &Vocab) -> Part {
        let map = pack.vocab().remap_to(model);
        Part { pack, tunes, map }
    }

    /// The tunes' tokens as the model reads them, one tune after another.
    pub fn tokens(&self) -> impl Iterator<Item = Vec<u16>> + '_ {
        self.tunes.iter().map(|&tune| {
            let mut tokens = Vec::new();
            self.pack.tokens_into(tune as usize, &self.map, &mut tokens);
            tokens
        })
    }

    /// Tokens to predict: characters and `<end>` of every tune.
    pub fn predictions(&self) -> u64 {
        self.tunes.iter().map(|&tune| (self.pack.token_count(tune as usize) as u64).saturating_sub(1)).sum()
    }

    /// Characters that the model's vocabulary lacks: how many there are in the tunes, and the different ones.
    pub fn unknown(&self, model: &Vocab) -> (u64, Vec<char>) {
        let lacking: Vec<Option<char>> = self
            .pack
            .vocab()
            .tokens()
            .iter()
            .map(|token| {
                let mut chars = token.chars();
                let character = chars.next().filter(|_| chars.next().is_none())?;
                model.id(character).is_none().then_some(character)
            })
            .collect();
        if lacking.iter().all(Option::is_none) {
            return (0, Vec::new());
        }
        let identity: Vec<u16> = (0..=u16::MAX).take(lacking.len()).collect();
        let mut counts = vec![0u64; lacking.len()];
        let mut tokens = Vec::new();
        for &tune in &self.tunes {
            tokens.clear();
            self.pack.tokens_into(tune as usize, &identity, &mut tokens);
            for &token in &tokens {
                if let Some(count) = counts.get_mut(usize::from(token)) {
                    *count += 1;
                }
            }
        }
        let found = lacking.iter().zip(&counts).filter(|(c, n)| c.is_some() && **n > 0);
        let (total, chars) = found.fold((0, Vec::new()), |(total, mut chars), (c, n)| {
            chars.extend(*c);
            (total + n, chars)
        });
        (total, chars)
    }
}

/// The reported loss of some tunes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Reported {
    /// Mean cross-entropy, nats a predicted token.
    pub nats_per_char: f64,
    /// The same in bits.
    pub bits_per_char: f64,
    /// exp(nats).
    pub perplexity: f64,
    /// Predicted tokens: characters and `<end>`.
    pub chars: u64,
    /// Tunes.
    pub tunes: u64,
}

impl Reported {
    /// From a sum of nats.
    pub fn new(loss_sum: f64, chars: u64, tunes: u64) -> Reported {
        let nats_per_char = loss_sum / chars.max(1) as f64;
        Reported {
            nats_per_char,
            bits_per_char: bits(nats_per_char),
            perplexity: nats_per_char.exp(),
            chars,
            tunes,
        }
    }
}

/// Nats to bits.
pub fn bits(nats: f64) -> f64 {
    nats / std::f64::consts::LN_2
}

/// Evaluates `part`; none where `stop` said so in between.
pub fn evaluate(
    engine: &mut dyn Engine,
    part: &Part,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Reported>, EngineError> {
    let streams = part.tunes.len().clamp(1, STREAMS);
    let mut source = EvalStreams::new(part.pack.clone(), part.tunes.clone(), part.map.clone(), streams);
    let mut chunk = Chunk::new(STEPS, streams);
    let mut loss_sum = 0.0;
    let mut chars = 0;
    let mut unread: Option<Ticket> = None;
    let mut more = true;
    while more || unread.is_some() {
        more = more && source.fill(&mut chunk);
        // The next chunk is issued before the last one is read, so that an engine beside us never waits.
        let next = if more { Some(engine.eval_chunk(&chunk)?) } else { None };
        if let Some(ticket) = std::mem::replace(&mut unread, next) {
            let stats = engine.sync(ticket)?;
            loss_sum += stats.loss_sum;
            chars += stats.predicted;
        }
        if unread.is_some() && stop() {
            if let Some(ticket) = unread.take() {
                engine.sync(ticket)?;
            }
            return Ok(None);
        }
    }
    Ok(Some(Reported::new(loss_sum, chars, part.tunes.len() as u64)))
}
