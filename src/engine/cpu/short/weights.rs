//! Weights as tiles of bf16 pairs, packed from the arena once a step.

use half::bf16;
use rayon::prelude::*;

use super::products::TILE;
use super::{Buffer, EngineError, Geometry, Sizes};
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

fn pair(low: f32, high: f32) -> f32 {
    f32::from_bits(u32::from(bf16::from_f32(low).to_bits()) | u32::from(bf16::from_f32(high).to_bits()) << 16)
}

/// Tiles of a matrix of `n` rows and `depth` columns; None is a row of zeros.
fn rows<'a>(to: &mut Buffer, depth: usize, n: usize, row: impl Fn(usize) -> Option<&'a [f32]> + Sync) {
    let across = depth.div_ceil(32);
    to.as_mut_slice().par_chunks_exact_mut(across * TILE).enumerate().for_each(|(block, tiles)| {
        for i in 0..32.min(n.saturating_sub(32 * block)) {
            let Some(from) = row(32 * block + i) else { continue };
            for (tile, from) in from.chunks(32).enumerate() {
                let to = &mut tiles[tile * TILE + i * 16..][..16];
                for (to, two) in to.iter_mut().zip(from.chunks(2)) {
                    *to = pair(two[0], two.get(1).copied().unwrap_or(0.0));
                }
            }
        }
    });
}

/// Tiles of the transposed matrix: `width` rows, the `n` rows of the matrix as columns.
fn columns<'a>(to: &mut Buffer, width: usize, n: usize, row: impl Fn(usize) -> Option<&'a [f32]> + Sync) {
    let across = n.div_ceil(32);
    to.as_mut_slice().par_chunks_exact_mut(across * TILE).enumerate().for_each(|(block, tiles)| {
        let used = 32.min(width.saturating_sub(32 * block));
        for j in (0..n).step_by(2) {
            let (a, b) = (row(j), if j + 1 < n { row(j + 1) } else { None });
            let to = &mut tiles[j / 32 * TILE + j % 32 / 2..];
            for i in 0..used {
                let value = |row: Option<&[f32]>| row.map_or(0.0, |row| row[32 * block + i]);
                to[i * 16] = pair(value(a), value(b));
            }
        }
    });
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
                gate(j % sizes.slots, input).and_then(|gate| from.get(gate * h + j / sizes.slots)).unwrap_or(&0.0)
            };
            *bias = part(true) + part(false);
        }
    }
}
