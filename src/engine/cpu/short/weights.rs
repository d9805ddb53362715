//! Weights as tiles of bf16 pairs, packed from the arena once a step.

#![allow(unsafe_code)]

use rayon::prelude::*;

use super::products::TILE;
use super::{Buffer, EngineError, Geometry, Sizes, WIDTH, lanes};
use crate::model::CellKind;

/// One layer's weights; tiles are [32 rows][16 pairs along the summed index].
#[derive(Debug)]
pub struct LayerWeights {
    /// W_ih [rows/32][inputs/32] tiles; inputs are characters or the layer below. Empty where there is a table.
    pub input: Buffer,
    /// Where numbers have parts, the first layer's columns of W_ih with the biases, f32 [V][rows]; else empty.
    pub table: Buffer,
    /// W_hh [rows/32][units/32].
    pub recurrent: Buffer,
    /// Biases of the gate rows, f32; zero where the table has them.
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
        let sizes = Sizes::new(geo, WIDTH);
        let zeros = |n| Buffer::zeros(n, "packed weights");
        let tiles = |rows: usize, columns: usize| zeros(rows / 32 * (columns / 32) * sizes.parts * TILE);
        let layers = (0..geo.shape.layers)
            .map(|layer| {
                let inputs = match (layer, sizes.parts) {
                    (0, 1) => sizes.classes,
                    (0, _) => 0,
                    _ => sizes.units,
                };
                Ok(LayerWeights {
                    input: tiles(sizes.rows, inputs)?,
                    table: zeros(if inputs == 0 { geo.shape.vocab * sizes.rows } else { 0 })?,
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
        let (weights, parts) =
            (|class| Some(&arena[w.start + class * h..][..h]), Sizes::new(geo, WIDTH).parts);
        rows(&mut self.head, parts, h, v, weights);
        columns(&mut self.head_back, parts, h, v, weights);
        self.head_bias.as_mut_slice()[..v].copy_from_slice(&arena[b]);
    }
}

/// Tiles of a matrix of `n` rows and `depth` columns; None is a row of zeros.
fn rows<'a>(
    to: &mut Buffer,
    parts: usize,
    depth: usize,
    n: usize,
    row: impl Fn(usize) -> Option<&'a [f32]> + Sync,
) {
    let across = depth.div_ceil(32);
    to.as_mut_slice().par_chunks_exact_mut(across * parts * TILE).enumerate().for_each(|(block, tiles)| {
        for i in 0..32.min(n.saturating_sub(32 * block)) {
            if let Some(from) = row(32 * block + i) {
                // SAFETY: the instructions are there where these weights are; `across` tiles have room for the depth.
                unsafe { row_of_tiles(from, parts, &mut tiles[i * 16..]) };
            }
        }
    });
}

/// `from` as pairs, sixteen to a tile.
///
/// # Safety
/// AVX-512F, DQ, BW and BF16 are there; `to` has sixteen pairs at every multiple of a tile.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
unsafe fn row_of_tiles(from: &[f32], parts: usize, to: &mut [f32]) {
    for (tile, from) in from.chunks(32).enumerate() {
        let mut padded = [0.0f32; 32];
        let from = if from.len() == 32 {
            from.as_ptr()
        } else {
            padded[..from.len()].copy_from_slice(from);
            padded.as_ptr()
        };
        // SAFETY: thirty-two floats behind `from`; sixteen pairs behind each place of `to`.
        unsafe {
            let (a, b) = (of(parts, lanes::load(from)), of(parts, lanes::load(from.add(16))));
            for part in 0..parts {
                let to = &mut to[(tile * parts + part) * TILE..][..16];
                lanes::store(to.as_mut_ptr(), lanes::row(a[part], b[part]));
            }
        }
    }
}

/// The parts of some numbers.
#[inline(always)]
unsafe fn of(parts: usize, x: lanes::V) -> [lanes::V; 3] {
    // SAFETY: the caller's.
    if parts == 3 { unsafe { lanes::three(x) } } else { [x; 3] }
}

/// Tiles of the transposed matrix: `width` rows, the `n` rows of the matrix as columns.
fn columns<'a>(
    to: &mut Buffer,
    parts: usize,
    width: usize,
    n: usize,
    row: impl Fn(usize) -> Option<&'a [f32]> + Sync,
) {
    let across = n.div_ceil(32);
    to.as_mut_slice().par_chunks_exact_mut(across * parts * TILE).enumerate().for_each(|(block, tiles)| {
        for (tile, to) in tiles.chunks_exact_mut(parts * TILE).enumerate() {
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
                unsafe { half_tile(&from, parts, &mut to[half * TILE / 2..]) };
            }
        }
    });
}

/// The transposed rows as sixteen rows of pairs.
///
/// # Safety
/// AVX-512F, DQ, BW and BF16 are there; `to` has 256 pairs at every multiple of a tile.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
unsafe fn half_tile(from: &[[f32; 16]; 32], parts: usize, to: &mut [f32]) {
    let mut pairs = [[[0.0f32; 16]; 16]; 3];
    // SAFETY: arrays of whole vectors.
    unsafe {
        for (i, two) in from.chunks_exact(2).enumerate() {
            let a = of(parts, lanes::load(two[0].as_ptr()));
            let b = of(parts, lanes::load(two[1].as_ptr()));
            for part in 0..parts {
                lanes::store(pairs[part][i].as_mut_ptr(), lanes::pair(a[part], b[part]));
            }
        }
        for (part, pairs) in pairs.iter().take(parts).enumerate() {
            let to = &mut to[part * TILE..][..TILE / 2];
            lanes::transpose16(pairs[0].as_ptr(), 16, to.as_mut_ptr(), 16);
        }
    }
}

impl LayerWeights {
    fn pack(&mut self, geo: &Geometry, arena: &[f32], layer: usize) {
        let (h, sizes) = (geo.shape.hidden, Sizes::new(geo, WIDTH));
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
        if self.table.len() == 0 {
            rows(&mut self.input, sizes.parts, inputs, n, input);
        }
        rows(&mut self.recurrent, sizes.parts, h, n, recurrent);
        columns(&mut self.back, sizes.parts, h, n, recurrent);
        if layer > 0 {
            columns(&mut self.back_input, sizes.parts, h, n, input);
        }
        let (b_ih, b_hh) = (&arena[at.bias_ih], &arena[at.bias_hh]);
        let bias = |j: usize| {
            let part = |input: bool| {
                let from = if input { b_ih } else { b_hh };
                gate(j % sizes.slots, input)
                    .and_then(|gate| from.get(gate * h + j / sizes.slots))
                    .unwrap_or(&0.0)
            };
            part(true) + part(false)
        };
        if self.table.len() > 0 {
            return table(&mut self.table, sizes.rows, n, inputs, input, bias);
        }
        for (j, to) in self.bias.as_mut_slice()[..n].iter_mut().enumerate() {
            *to = bias(j);
        }
    }
}

/// Columns of a matrix of `n` rows and `inputs` columns, [inputs][rows], with what is added to each row.
fn table<'a>(
    to: &mut Buffer,
    rows: usize,
    n: usize,
    inputs: usize,
    row: impl Fn(usize) -> Option<&'a [f32]> + Sync,
    bias: impl Fn(usize) -> f32 + Sync,
) {
    to.as_mut_slice().par_chunks_mut(16 * rows).enumerate().for_each(|(some, to)| {
        // Sixteen columns, which are a cache line of each row.
        let (first, used) = (16 * some, 16.min(inputs - 16 * some));
        for j in 0..n {
            let bias = bias(j);
            match row(j) {
                Some(row) => {
                    for (i, value) in row[first..first + used].iter().enumerate() {
                        to[i * rows + j] = value + bias;
                    }
                }
                None => (0..used).for_each(|i| to[i * rows + j] = bias),
            }
        }
    });
}
