//! Sampling through [`Engine::step`] alone: for engines without a sampler of their own, and to hold theirs against.

use super::{Scratch, Stream, check_request};
use crate::engine::{Engine, EngineError, SampleRequest, SampledTune};

/// The most streams stepped at once: enough to fill the matrix products, few enough that the last tunes do not
/// drag along hundreds of finished ones.
const MAX_STREAMS: usize = 128;

/// Samples whole tunes through [`Engine::step`], up to 128 at once; a tune that has ended is followed in its stream
/// by the next one. The result is in the order of the tunes' indices and does not depend on how they were spread.
///
/// The engine's stepping state is used and left in disorder.
pub fn by_steps(engine: &mut dyn Engine, request: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
    let vocab = engine.shape().vocab;
    check_request(request, vocab)?;
    let streams = request.tunes.min(MAX_STREAMS);
    let mut tunes: Vec<Option<SampledTune>> = vec![None; request.tunes];
    let mut queue = 0..request.tunes;
    // A lane: the tune's place in the result and its stream.
    let mut lanes: Vec<Option<(usize, Stream)>> =
        queue.by_ref().take(streams).map(|i| Some((i, Stream::new(request, i)))).collect();
    let mut ids = vec![request.prime[0]; streams];
    let mut resets = vec![1u8; streams];
    let mut logits = vec![0.0f32; streams * vocab];
    let mut scratch = Scratch::default();
    while lanes.iter().any(Option::is_some) {
        for (lane, (id, reset)) in lanes.iter().zip(ids.iter_mut().zip(&mut resets)) {
            // A lane without a tune is stepped all the same: a change of the number of streams would zero the others.
            let input = lane.as_ref().and_then(|(_, stream)| stream.input());
            (*id, *reset) = input.map_or((request.prime[0], 1), |input| (input.id, u8::from(input.reset)));
        }
        engine.step(&ids, &resets, &mut logits)?;
        for (lane, logits) in lanes.iter_mut().zip(logits.chunks_exact_mut(vocab)) {
            let Some((_, stream)) = lane else { continue };
            stream.advance(request, logits, &mut scratch);
            if stream.ended() {
                let next = queue.next().map(|i| (i, Stream::new(request, i)));
                if let Some((i, stream)) = std::mem::replace(lane, next) {
                    tunes[i] = Some(stream.finish());
                }
            }
        }
    }
    Ok(tunes.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::*;
    use crate::model::{CellKind, ModelShape};
    use crate::rng;
    use crate::sample::Choice;

    const VOCAB: usize = 9;
    const END: u16 = 1;

    /// A "network" whose logits are a hash of all that a stream has read since its reset, so that a character fed to
    /// the wrong stream, a missing reset or a wrong order changes everything after it.
    struct Hashing {
        state: Vec<u64>,
        /// Stream counts seen.
        counts: Vec<usize>,
        /// Steps taken.
        steps: usize,
    }

    fn logits_of(state: u64) -> [f32; VOCAB] {
        std::array::from_fn(|id| {
            let words = rng::philox4x32([id as u32, 0, 0, 0], [state as u32, (state >> 32) as u32]);
            // `<end>` is rarer than the others, so that lengths differ widely.
            4.0 * rng::unit_f32(words[0]) - if id == usize::from(END) { 2.5 } else { 0.0 }
        })
    }

    fn read(state: u64, id: u16) -> u64 {
        (state ^ u64::from(id).wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
    }

    impl Engine for Hashing {
        fn step(&mut self, ids: &[u16], resets: &[u8], logits: &mut [f32]) -> Result<(), EngineError> {
            if self.state.len() != ids.len() {
                self.state = vec![0; ids.len()];
            }
            self.counts.push(ids.len());
            self.steps += 1;
            for (b, state) in self.state.iter_mut().enumerate() {
                *state = read(if resets[b] == 1 { 0 } else { *state }, ids[b]);
                logits[b * VOCAB..(b + 1) * VOCAB].copy_from_slice(&logits_of(*state));
            }
            Ok(())
        }
        fn shape(&self) -> ModelShape {
            ModelShape { cell: CellKind::Rnn, vocab: VOCAB, hidden: 1, layers: 1 }
        }
        fn info(&self) -> EngineInfo {
            unreachable!("by_steps uses step alone")
        }
        fn load_params(&mut self, _: &[f32]) -> Result<(), EngineError> {
            unreachable!("by_steps uses step alone")
        }
        fn export_params(&self) -> Result<Vec<f32>, EngineError> {
            unreachable!("by_steps uses step alone")
        }
        fn train_chunk(&mut self, _: &Chunk, _: &Hyper) -> Result<Ticket, EngineError> {
            unreachable!("by_steps uses step alone")
        }
        fn grad_chunk(&mut self, _: &Chunk, _: &Hyper) -> Result<(Stats, Vec<f32>), EngineError> {
            unreachable!("by_steps uses step alone")
        }
        fn eval_chunk(&mut self, _: &Chunk) -> Result<Ticket, EngineError> {
            unreachable!("by_steps uses step alone")
        }
        fn eval_each(&mut self, _: &Chunk) -> Result<Vec<f32>, EngineError> {
            unreachable!("by_steps uses step alone")
        }
        fn sample(&mut self, _: &SampleRequest) -> Result<Vec<SampledTune>, EngineError> {
            unreachable!("by_steps uses step alone")
        }
        fn tap(&mut self, _: &[u16]) -> Result<Vec<LayerActivations>, EngineError> {
            unreachable!("by_steps uses step alone")
        }
        fn save_state(&self) -> Result<EngineState, EngineError> {
            unreachable!("by_steps uses step alone")
        }
        fn load_state(&mut self, _: &EngineState) -> Result<(), EngineError> {
            unreachable!("by_steps uses step alone")
        }
        fn sync(&mut self, _: Ticket) -> Result<Stats, EngineError> {
            unreachable!("by_steps uses step alone")
        }
    }

    fn engine() -> Hashing {
        Hashing { state: Vec::new(), counts: Vec::new(), steps: 0 }
    }

    fn request(tunes: usize, text: &[u16]) -> SampleRequest {
        SampleRequest {
            tunes,
            first_index: 0,
            seed: 11,
            choice: Choice { temperature: 0.9, top_k: 7, top_p: 0.97 },
            prime: std::iter::once(0).chain(text.iter().copied()).collect(),
            max_chars: 60,
            end: END,
            banned: vec![0, 2],
        }
    }

    /// One tune, written out from the contract and nothing else.
    fn alone(request: &SampleRequest, i: u64) -> SampledTune {
        let mut state = 0;
        for &id in &request.prime {
            state = read(state, id);
        }
        let mut ids = request.prime[1..].to_vec();
        while ids.len() < request.max_chars {
            let u = rng::sample_uniform(request.seed, request.first_index + i, ids.len() as u32);
            let choice = request.choice;
            let id = choice.pick(&mut logits_of(state), &request.banned, u, &mut Scratch::default()).unwrap();
            if id == request.end {
                return SampledTune { ids, closed: true };
            }
            ids.push(id);
            state = read(state, id);
        }
        SampledTune { ids, closed: false }
    }

    #[test]
    fn every_tune_is_as_if_it_were_alone() {
        for text in [&[][..], &[5], &[3, 4, 8, 3]] {
            for tunes in [1, 5, 128, 300] {
                let request = SampleRequest { first_index: 7, ..request(tunes, text) };
                let mut engine = engine();
                let sampled = by_steps(&mut engine, &request).unwrap();
                assert_eq!(sampled.len(), tunes);
                for (i, tune) in sampled.iter().enumerate() {
                    assert_eq!(*tune, alone(&request, i as u64), "tune {i} of {tunes}, prime {text:?}");
                    assert!(tune.ids.starts_with(text));
                    assert!(!tune.ids.iter().any(|id| request.banned.contains(id) || *id == END));
                }
                assert!(engine.counts.iter().all(|&count| count == tunes.min(MAX_STREAMS)));
                if tunes == 300 {
                    assert!(
                        sampled.iter().any(|tune| tune.closed) && sampled.iter().any(|tune| !tune.closed)
                    );
                    // 128 lanes kept busy: no more steps than the work shared out and one longest tune.
                    let work: usize = sampled.iter().map(|tune| tune.ids.len() + 1).sum();
                    assert!(engine.steps <= work / MAX_STREAMS + 1 + request.max_chars);
                }
            }
        }
    }

    #[test]
    fn a_tune_stops_at_its_length() {
        let mut request = request(40, &[4, 4]);
        request.banned.push(END);
        for max_chars in [3, 4, 17] {
            request.max_chars = max_chars;
            for tune in by_steps(&mut engine(), &request).unwrap() {
                assert_eq!(tune.ids.len(), max_chars);
                assert!(!tune.closed);
            }
        }
    }

    #[test]
    fn nothing_to_choose_ends_a_tune() {
        let mut request = request(3, &[4]);
        request.banned = (0..VOCAB as u16).collect();
        let tunes = by_steps(&mut engine(), &request).unwrap();
        assert_eq!(tunes, vec![SampledTune { ids: vec![4], closed: false }; 3]);
    }

    #[test]
    fn requests_that_mean_nothing_are_refused() {
        let good = request(2, &[3, 4]);
        assert!(check_request(&good, VOCAB).is_ok());
        let bad = [
            SampleRequest { prime: vec![], ..good.clone() },
            SampleRequest { prime: vec![0, 9], ..good.clone() },
            SampleRequest { end: 9, ..good.clone() },
            SampleRequest { banned: vec![300], ..good.clone() },
            SampleRequest { max_chars: 0, ..good.clone() },
            SampleRequest { max_chars: 2, ..good.clone() },
            SampleRequest { max_chars: 1 << 33, ..good.clone() },
            SampleRequest { choice: Choice { temperature: -1.0, ..Choice::default() }, ..good.clone() },
        ];
        for request in bad {
            assert!(by_steps(&mut engine(), &request).is_err(), "{request:?}");
        }
        assert_eq!(by_steps(&mut engine(), &SampleRequest { tunes: 0, ..good }).unwrap(), vec![]);
    }
}
