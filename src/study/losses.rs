//! Losses of every character: the mean of a part, of its tunes' bodies, and by class of character.

use crate::abc::{self, CharClass};
use crate::engine::{Chunk, Engine, EngineError};
use crate::study::results::{ClassLoss, PartLoss};
use crate::train::evaluate::Part;

/// Characters a stream in one chunk.
const STEPS: usize = 128;

/// The most streams.
const STREAMS: usize = 64;

/// One stream: the tune that it reads.
#[derive(Debug, Default)]
struct Stream {
    tune: usize,
    tokens: Vec<u16>,
    /// Position of the next input.
    at: usize,
}

/// Reads `tunes` texts, each from a zero state, and tells of every predicted token its text, its position in the
/// text's tokens (from 1) and its loss in nats. `read` gives the tokens of a text. False where `stop` said so.
pub fn each(
    engine: &mut dyn Engine,
    tunes: usize,
    read: &mut dyn FnMut(usize, &mut Vec<u16>),
    see: &mut dyn FnMut(usize, usize, f64),
    stop: &dyn Fn() -> bool,
) -> Result<bool, EngineError> {
    let streams = tunes.clamp(1, STREAMS);
    let mut next = 0;
    let mut take = |stream: &mut Stream| {
        stream.at = 0;
        stream.tokens.clear();
        // A text of one token predicts nothing.
        while next < tunes && stream.tokens.len() < 2 {
            stream.tokens.clear();
            stream.tune = next;
            read(next, &mut stream.tokens);
            next += 1;
        }
    };
    let mut all: Vec<Stream> = (0..streams).map(|_| Stream::default()).collect();
    all.iter_mut().for_each(&mut take);
    let mut chunk = Chunk::new(STEPS, streams);
    let mut places = vec![(0, 0); STEPS * streams];
    while all.iter().any(|stream| stream.tokens.len() > stream.at + 1) {
        if stop() {
            return Ok(false);
        }
        for (i, place) in places.iter_mut().enumerate() {
            let stream = &mut all[i % streams];
            let Some(&target) = stream.tokens.get(stream.at + 1) else {
                // A stream that has run dry.
                (chunk.ids[i], chunk.targets[i], chunk.resets[i]) = (0, crate::engine::IGNORE, 1);
                continue;
            };
            (chunk.ids[i], chunk.targets[i], chunk.resets[i]) =
                (stream.tokens[stream.at], target, u8::from(stream.at == 0));
            stream.at += 1;
            *place = (stream.tune, stream.at);
            if stream.at + 1 >= stream.tokens.len() {
                take(stream);
            }
        }
        let losses = engine.eval_each(&chunk)?;
        for ((&loss, &(tune, at)), &target) in losses.iter().zip(&places).zip(&chunk.targets) {
            if target != crate::engine::IGNORE {
                see(tune, at, f64::from(loss));
            }
        }
    }
    Ok(true)
}

/// A sum of losses and how many.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    /// Nats.
    pub nats: f64,
    /// Predicted tokens.
    pub chars: u64,
}

impl Sum {
    /// One more.
    pub fn add(&mut self, nats: f64) {
        self.nats += nats;
        self.chars += 1;
    }

    /// Nats a predicted token; None of none.
    pub fn mean(&self) -> Option<f64> {
        (self.chars > 0).then(|| self.nats / self.chars as f64)
    }
}

/// The loss over some tunes of a packed corpus; with `classes`, by class of character too (empty without). None where
/// `stop` said so.
pub fn of_part(
    engine: &mut dyn Engine,
    part: &Part,
    classes: bool,
    stop: &dyn Fn() -> bool,
) -> Result<Option<(PartLoss, Vec<ClassLoss>)>, EngineError> {
    let text = |tune: usize| part.pack.text(part.tunes[tune] as usize);
    let bodies: Vec<Option<usize>> = (0..part.tunes.len()).map(|tune| abc::body_start(&text(tune))).collect();
    let sorts: Vec<Vec<CharClass>> = if classes {
        (0..part.tunes.len()).map(|tune| abc::classify(&text(tune))).collect()
    } else {
        Vec::new()
    };
    let (mut whole, mut body) = (Sum::default(), Sum::default());
    let mut by_class = [Sum::default(); CharClass::ALL.len()];
    let mut see = |tune: usize, at: usize, nats: f64| {
        // Token 0 is <start>, so that token `at` is character at - 1; what follows the last character is <end>.
        let character = at - 1;
        whole.add(nats);
        if bodies[tune].is_some_and(|start| character >= start) {
            body.add(nats);
        }
        if let Some(sorts) = sorts.get(tune) {
            let class = sorts.get(character).copied().unwrap_or(CharClass::End);
            if let Some(sum) =
                CharClass::ALL.iter().position(|c| *c == class).and_then(|i| by_class.get_mut(i))
            {
                sum.add(nats);
            }
        }
    };
    let mut read = |tune: usize, tokens: &mut Vec<u16>| {
        part.pack.tokens_into(part.tunes[tune] as usize, &part.map, tokens);
    };
    if !each(engine, part.tunes.len(), &mut read, &mut see, stop)? {
        return Ok(None);
    }
    let loss = PartLoss {
        nats: whole.mean().unwrap_or(0.0),
        body_nats: body.mean(),
        chars: whole.chars,
        tunes: part.tunes.len() as u64,
    };
    let by_class = CharClass::ALL
        .iter()
        .zip(by_class)
        .filter_map(|(&class, sum)| sum.mean().map(|nats| ClassLoss { class, nats, chars: sum.chars }));
    Ok(Some((loss, by_class.collect())))
}
