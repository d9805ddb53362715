//! Weights as tiles of bf16 pairs, packed from the arena once a step.

#![allow(unsafe_code)]

use rayon::prelude::*;

use super::products::TILE;
use super::{Buffer, EngineError, Geometry, Sizes, lanes};
use crate::model::CellKind;

/// One layer's weights; tiles are [32 rows][16 pairs along the summed index].
#[derive(Debug)]
pub struct LayerWeights {
    /// W_ih [rows/32][inputs/32] tiles; inputs are characters or the layer below.
    pub input: Buffer,
    /// W_hh [rows/32][units/32].
    pub recurrent: Buffer,
    /// Biases of the gate rows, f32.
    pub bias: Buffer,
    /// W_hh transposed [units/32][rows/32].
    pub back: Buffer,
    /// W_ih transposed likewise; empty for the first layer.
    pub back_input: Buffer,
}

/// All weights.
#[derive(Debug)]
pub struct Weights {
    /// One a layer.
    pub layers: Vec<LayerWeights>,
    /// [classes/32][units/32]
    pub head: Buffer,
    /// [classes]
    pub head_bias: Buffer,
    /// [units/32][classes/32]
    pub head_back: Buffer,
}

impl Weights {
    /// Room for a model.
    pub fn new(geo: &Geometry) -> Result<Weights, EngineError> {
        let sizes = Sizes::new(geo);
        let zeros = |n| Buffer::zeros(n, "packed weights");
        let tiles = |rows: usize, columns: usize| zeros(rows / 32 * (columns / 32) * TILE);
        let layers = (0..geo.shape.layers)
            .map(|layer| {
                Ok(LayerWeights {
                    input: tiles(sizes.rows, if layer == 0 { sizes.classes } else { sizes.units })?,
                    recurrent: tiles(sizes.rows, sizes.units)?,
                    bias: zeros(sizes.rows)?,
                    back: tiles(sizes.units, sizes.rows)?,
                    back_input: tiles(if layer == 0 { 0 } else { sizes.units }, sizes.rows)?,
                })
            })
            .collect::<Result<_, EngineError>>()?;
        Ok(Weights {
            layers,
            head: tiles(sizes.classes, sizes.units)?,
            head_bias: zeros(sizes.classes)?,
            head_back: tiles(sizes.units, sizes.classes)?,
        })
    }

    /// Packs the arena.
    pub fn pack(&mut self, geo: &Geometry, arena: &[f32]) {
        let (h, v) = (geo.shape.hidden, geo.shape.vocab);
        for (layer, weights) in self.layers.iter_mut().enumerate() {
            weights.pack(geo, arena, layer);
        }
        let (w, b) = geo.shape.head_ranges();
        rows(&mut self.head, h, v, |class| Some(&arena[w.start + class * h..][..h]));
        columns(&mut self.head_back, h, v, |class| Some(&arena[w.start + class * h..][..h]));
        self.head_bias.as_mut_slice()[..v].copy_from_slice(&arena[b]);
    }
}

/// Tiles of a matrix of `n` rows and `depth` columns; None is a row of zeros.
fn rows<'a>(to: &mut Buffer, depth: usize, n: usize, row: impl Fn(usize) -> Option<&'a [f32]> + Sync) {
    let across = depth.div_ceil(32);
    to.as_mut_slice().par_chunks_exact_mut(across * TILE).enumerate().for_each(|(block, tiles)| {
        for i in 0..32.min(n.saturating_sub(32 * block)) {
            if let Some(from) = row(32 * block + i) {
                // SAFETY: the instructions are there where these weights are; `across` tiles have room for the depth.
                unsafe { row_of_tiles(from, &mut tiles[i * 16..]) };
            }
        }
    });
}

/// `from` as pairs, sixteen to a tile.
///
/// # Safety
/// AVX-512F, BW and BF16 are there; `to` has sixteen pairs at every multiple of a tile.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
unsafe fn row_of_tiles(from: &[f32], to: &mut [f32]) {
    for (tile, from) in from.chunks(32).enumerate() {
        let to = &mut to[tile * TILE..][..16];
        let mut padded = [0.0f32; 32];
        let from = if from.len() == 32 {
            from.as_ptr()
        } else {
            padded[..from.len()].copy_from_slice(from);
            padded.as_ptr()
        };
        // SAFETY: thirty-two floats behind `from`, sixteen pairs behind `to`.
        unsafe { lanes::store(to.as_mut_ptr(), lanes::row(lanes::load(from), lanes::load(from.add(16)))) };
    }
}

/// Tiles of the transposed matrix: `width` rows, the `n` rows of the matrix as columns.
fn columns<'a>(to: &mut Buffer, width: usize, n: usize, row: impl Fn(usize) -> Option<&'a [f32]> + Sync) {
    let across = n.div_ceil(32);
    to.as_mut_slice().par_chunks_exact_mut(across * TILE).enumerate().for_each(|(block, tiles)| {
        for (tile, to) in tiles.chunks_exact_mut(TILE).enumerate() {
            for half in 0..2 {
                let first = 32 * block + 16 * half;
                let used = 16.min(width.saturating_sub(first));
                let mut from = [[0.0f32; 16]; 32];
                for (i, from) in from.iter_mut().enumerate().take(n - 32 * tile) {
                    if let Some(row) = row(32 * tile + i).filter(|_| used > 0) {
                        from[..used].copy_from_slice(&row[first..first + used]);
                    }
                }
                // SAFETY: the instructions are there where these weights are.
                unsafe { half_tile(&from, &mut to[half * TILE / 2..]) };
            }
        }
    });
}

/// The transposed rows as sixteen rows of pairs.
///
/// # Safety
/// AVX-512F, BW and BF16 are there; `to` has 256 pairs.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
unsafe fn half_tile(from: &[[f32; 16]; 32], to: &mut [f32]) {
    let mut pairs = [[0.0f32; 16]; 16];
    // SAFETY: arrays of whole vectors.
    unsafe {
        for (two, pairs) in from.chunks_exact(2).zip(&mut pairs) {
            let pair = lanes::pair(lanes::load(two[0].as_ptr()), lanes::load(two[1].as_ptr()));
            lanes::store(pairs.as_mut_ptr(), pair);
        }
        lanes::transpose16(pairs[0].as_ptr(), 16, to.as_mut_ptr(), 16);
    }
}

impl LayerWeights {
    fn pack(&mut self, geo: &Geometry, arena: &[f32], layer: usize) {
        let (h, sizes) = (geo.shape.hidden, Sizes::new(geo));
        let inputs = if layer == 0 { geo.shape.vocab } else { h };
        let gru = geo.shape.cell == CellKind::Gru;
        let at = geo.shape.layer_ranges(layer);
        let n = sizes.slots * h;
        // The gate of row `slots * u + s`; a GRU's n has a row for each of its parts.
        let gate = |slot: usize, input: bool| match (gru, slot) {
            (true, 2) => (!input).then_some(2),
            (true, 3) => input.then_some(2),
            _ => Some(slot),
        };
        let slice = |start: usize, width: usize, j: usize, input: bool| {
            let row = gate(j % sizes.slots, input)? * h + j / sizes.slots;
            Some(&arena[start + row * width..][..width])
        };
        let input = |j: usize| slice(at.weight_ih.start, inputs, j, true);
        let recurrent = |j: usize| slice(at.weight_hh.start, h, j, false);
        rows(&mut self.input, inputs, n, input);
        rows(&mut self.recurrent, h, n, recurrent);
        columns(&mut self.back, h, n, recurrent);
        if layer > 0 {
            columns(&mut self.back_input, h, n, input);
        }
        let (b_ih, b_hh) = (&arena[at.bias_ih], &arena[at.bias_hh]);
        for (j, bias) in self.bias.as_mut_slice()[..n].iter_mut().enumerate() {
            let part = |input: bool| {
                let from = if input { b_ih } else { b_hh };
                gate(j % sizes.slots, input)
                    .and_then(|gate| from.get(gate * h + j / sizes.slots))
                    .unwrap_or(&0.0)
            };
            *bias = part(true) + part(false);
        }
    }
}
