//! Initial weights: uniform(-1/sqrt(H), 1/sqrt(H)) for every parameter, as PyTorch's recurrent layers (and, since
//! the head's fan-in is H, its linear layer).

use super::ModelShape;
use crate::rng::{self, Purpose};

/// Fills an arena (length `shape.params()`) with initial weights for `seed`.
pub fn uniform(shape: &ModelShape, seed: u64) -> Vec<f32> {
    let bound = 1.0 / (shape.hidden as f32).sqrt();
    let mut arena = vec![0.0; shape.params()];
    for (i, four) in arena.chunks_mut(4).enumerate() {
        let words = rng::block(seed, Purpose::Init, 0, i as u32, (i as u64 >> 32) as u32, 0);
        for (value, word) in four.iter_mut().zip(words) {
            *value = (2.0 * rng::unit_f32(word) - 1.0) * bound;
        }
    }
    arena
}
