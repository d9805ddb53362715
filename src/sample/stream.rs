//! One tune being sampled: what is fed to the network, what is chosen, when it ends.
//!
//! Every engine drives its tunes through [`Stream`], so that a tune is a function of (model, seed, its index, the
//! options) alone, however tunes are spread over batches and threads.
//!
//! A tune's inputs are numbered from 0: input 0 is `prime[0]` (`<start>`, with a zero state before it), input k is the
//! tune's character k-1. The logits after input k say what character k is. While the prime knows character k it is
//! taken from there (teacher forcing) and the logits are not looked at; from then on it is chosen, with the
//! uniform number `rng::sample_uniform(seed, first_index + i, k)`. So positions count a tune's characters, the prime's among them,
//! and `<end>` is chosen at the position after the last one.
//!
//! A tune ends
//! - when `<end>` is chosen: closed;
//! - when it has `max_chars` characters: not closed, and nothing is chosen at position `max_chars`;
//! - when there is nothing to choose (every logit NaN or banned): not closed.

use super::choice::Scratch;
use crate::engine::{EngineError, SampleRequest, SampledTune};
use crate::rng;

/// One tune being sampled. The loop of an engine:
///
/// ```text
/// let mut stream = Stream::new(&request, i);
/// while let Some(input) = stream.input() {
///     // feed input.id (after zeroing the state where input.reset); logits are needed only where input.chooses
///     stream.advance(&request, &mut logits, &mut scratch);
/// }
/// let tune = stream.finish();
/// ```
#[derive(Debug, Clone)]
pub struct Stream {
    /// Index of the tune in the seed's stream.
    tune: u64,
    /// Characters known so far, without `<start>`.
    ids: Vec<u16>,
    /// `prime[0]`.
    start: u16,
    /// Number of the next input: those before it have been fed.
    next: usize,
    ended: bool,
    closed: bool,
}

/// The next input of a [`Stream`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// Character to feed.
    pub id: u16,
    /// Whether the state is zero before it: the tune's first input.
    pub reset: bool,
    /// Whether a character is chosen from the logits after it; else the logits are not looked at.
    pub chooses: bool,
}

impl Stream {
    /// Tune `i` of `request` (0 is the tune `first_index`). A request with an empty prime has ended at once; see
    /// [`check_request`].
    pub fn new(request: &SampleRequest, i: usize) -> Stream {
        let (start, text) = match request.prime.split_first() {
            Some((&start, text)) => (start, text.to_vec()),
            None => (0, Vec::new()),
        };
        let ended = request.prime.is_empty() || text.len() >= request.max_chars;
        Stream {
            tune: request.first_index.wrapping_add(i as u64),
            ids: text,
            start,
            next: 0,
            ended,
            closed: false,
        }
    }

    /// The next input; None when the tune has ended.
    pub fn input(&self) -> Option<Input> {
        if self.ended {
            return None;
        }
        let id = match self.next.checked_sub(1) {
            None => self.start,
            Some(before) => self.ids[before],
        };
        Some(Input { id, reset: self.next == 0, chooses: self.next == self.ids.len() })
    }

    /// Goes on by one input, after it has been fed: chooses a character from `logits` `[V]` (overwritten) where
    /// [`Input::chooses`], else leaves them alone (they may be empty). Does nothing when the tune has ended.
    pub fn advance(&mut self, request: &SampleRequest, logits: &mut [f32], scratch: &mut Scratch) {
        self.advance_by(request, |uniform| request.choice.pick(logits, &request.banned, uniform, scratch));
    }

    /// The same with another way to choose, from [`Stream::uniform`]; it is asked only where [`Input::chooses`].
    pub fn advance_by(&mut self, request: &SampleRequest, choose: impl FnOnce(f32) -> Option<u16>) {
        if self.ended {
            return;
        }
        let chooses = self.next == self.ids.len();
        let chosen = if chooses { choose(self.uniform(request)) } else { None };
        self.advance_to(request, chosen);
    }

    /// The uniform number that the next character is chosen with, where [`Input::chooses`].
    pub fn uniform(&self, request: &SampleRequest) -> f32 {
        rng::sample_uniform(request.seed, self.tune, self.next as u32)
    }

    /// As [`Stream::advance`], with the choice made already (with [`Stream::uniform`]); not looked at where
    /// [`Input::chooses`] does not hold.
    pub fn advance_to(&mut self, request: &SampleRequest, chosen: Option<u16>) {
        if self.ended {
            return;
        }
        let position = self.next;
        self.next += 1;
        if position < self.ids.len() {
            return;
        }
        match chosen {
            Some(id) if id == request.end => (self.ended, self.closed) = (true, true),
            Some(id) => {
                self.ids.push(id);
                self.ended = self.ids.len() >= request.max_chars;
            }
            None => self.ended = true,
        }
    }

    /// Whether the tune has ended: [`Stream::input`] is None.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The tune as it stands.
    pub fn finish(self) -> SampledTune {
        SampledTune { ids: self.ids, closed: self.closed }
    }
}

/// Refuses a request that means nothing for a model of `vocab` entries: an empty prime, ids outside the vocabulary,
/// options out of range, a `max_chars` of 0 or beyond 2^32-1, a prime that leaves no room for a character.
pub fn check_request(request: &SampleRequest, vocab: usize) -> Result<(), EngineError> {
    let refuse = |message: String| Err(EngineError::Unsupported(message));
    if let Err(message) = request.choice.check() {
        return refuse(message);
    }
    if request.prime.is_empty() {
        return refuse("the prime is empty; expected <start> at least".into());
    }
    let all = request.prime.iter().chain(&request.banned).chain(std::iter::once(&request.end));
    if let Some(id) = all.copied().find(|&id| usize::from(id) >= vocab) {
        return refuse(format!("character id {id}, expected below the vocabulary's {vocab}"));
    }
    let text = request.prime.len() - 1;
    if request.max_chars == 0 || u32::try_from(request.max_chars).is_err() {
        return refuse(format!(
            "at most {} characters a tune; expected 1 to {}",
            request.max_chars,
            u32::MAX
        ));
    }
    if text >= request.max_chars {
        return refuse(format!(
            "the prime has {text} characters and a tune at most {}, which leaves nothing to sample; \
             shorten the prime or raise --max-chars",
            request.max_chars
        ));
    }
    Ok(())
}
