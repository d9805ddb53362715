//! What the engine tests share: cases, random chunks, error measures. Each test file uses a part of it.
#![allow(dead_code)]

pub mod contract;

use songrnn_fast::engine::{Chunk, Hyper, IGNORE};
use songrnn_fast::model::{CellKind, ModelShape};
use songrnn_fast::optim::Optimizer;
use songrnn_fast::rng::philox4x32;

pub const CELLS: [CellKind; 3] = [CellKind::Lstm, CellKind::Gru, CellKind::Rnn];

/// A number below `n` for (seed, index).
pub fn below(seed: u32, index: usize, n: usize) -> usize {
    philox4x32([index as u32, 0, 0, 99], [seed, 1])[0] as usize % n
}

/// A chunk of random characters with a few resets in mid-chunk (and one at t = 0) and a few ignored targets.
pub fn random_chunk(seed: u32, vocab: usize, steps: usize, streams: usize) -> Chunk {
    let mut chunk = Chunk::new(steps, streams);
    for i in 0..steps * streams {
        chunk.ids[i] = below(seed, 4 * i, vocab) as u16;
        let ignored = steps * streams > 3 && below(seed, 4 * i + 1, 11) == 0;
        chunk.targets[i] = if ignored { IGNORE } else { below(seed, 4 * i + 2, vocab) as u16 };
        chunk.resets[i] = u8::from(below(seed, 4 * i + 3, 6) == 0);
    }
    chunk
}

/// Steps `from..from + steps` of a chunk.
pub fn part(chunk: &Chunk, from: usize, steps: usize) -> Chunk {
    let rows = from * chunk.streams..(from + steps) * chunk.streams;
    Chunk {
        steps,
        streams: chunk.streams,
        ids: chunk.ids[rows.clone()].to_vec(),
        targets: chunk.targets[rows.clone()].to_vec(),
        resets: chunk.resets[rows].to_vec(),
    }
}

/// Plain gradient descent: no clipping, no decay, no dropout.
pub fn plain(lr: f32) -> Hyper {
    Hyper {
        optimizer: Optimizer::Sgd { momentum: 0.0 },
        lr,
        clip: 0.0,
        weight_decay: 0.0,
        dropout: 0.0,
        seed: 5,
        time: 0,
        skip_above: f32::INFINITY,
    }
}

/// Weights larger than initial ones, so that nonlinearities bend.
pub fn weights(shape: &ModelShape, seed: u64) -> Vec<f32> {
    songrnn_fast::model::init::uniform(shape, seed).iter().map(|w| 1.5 * w).collect()
}

/// Normalised mean squared error: |a - b|^2 / |b|^2.
pub fn nmse(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let error: f64 = found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - b).powi(2)).sum();
    let power: f64 = expected.iter().map(|b| b * b).sum();
    if power == 0.0 { error } else { error / power }
}
