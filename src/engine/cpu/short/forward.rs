//! The forward pass of one slice: per layer, per step, 32 gate rows at a time: products, then the cell.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `slice`, and pointers into buffers sized by `Sizes`, throughout.

use std::ops::Range;

use super::super::forward::{Part, Pass, drop_output, keep_cell_state, mask_state};
use super::super::math;
use super::super::simd::Avx512;
use super::lanes::{self, V, add, fma, high, load, low, mul, pair, splat, store, sub};
use super::products::{Product, TILE, Tiles};
use super::{Operand, Sizes, Slice, Space, WIDTH, Weights};
use crate::model::CellKind;

/// Vocabularies up to here are multiplied whole; of larger ones only the tiles in which some stream's character is.
const WHOLE: usize = 256;

/// All layers over all steps of a slice whose columns have been read, or a thread's part of it.
#[inline(always)]
pub unsafe fn forward<P: Product>(pass: &Pass, weights: &Weights, slice: &Slice, space: &Space, part: &Part) {
    let geo = pass.geo;
    let sizes = Sizes::new(geo);
    let training = slice.record_stride > 0;
    let rows = geo.units * WIDTH;
    let own = Own::of(&sizes, geo.shape.hidden, part);
    if training {
        one_hot(&sizes, slice, part.share(pass.steps), space.one_hot.shared());
    }
    for layer in 0..geo.shape.layers {
        let shared = &slice.layers[layer];
        keep_cell_state(slice, layer, &own.units);
        let to = &space.layers[layer];
        operands(&sizes, &own, shared.h.ptr(), &to.h, 0, space.stage.shared(), training);
        mask_operands(&sizes, &own, slice, space, layer, 0);
        part.meet();
        for t in 0..pass.steps {
            step::<P>(pass, weights, &sizes, &own, (slice, space, part), layer, t);
            if let Some(dropout) = pass.dropout {
                drop_output(slice, layer, t, rows, dropout, &own.units);
                let dropped = shared.dropped.ptr().add(t * rows);
                operands(&sizes, &own, dropped, &to.dropped, t, space.stage.shared(), training);
            }
            if t + 1 < pass.steps {
                mask_operands(&sizes, &own, slice, space, layer, t + 1);
            }
            part.meet();
        }
    }
}

/// What a thread does of a layer.
struct Own {
    /// Its units, none of them padding.
    units: Range<usize>,
    /// Its blocks of 32 gate rows.
    blocks: Range<usize>,
    /// Its columns of a state's gradient operand.
    columns: Range<usize>,
}

impl Own {
    /// Shares of sixteen units, whose columns are transposed together, and of whole blocks.
    fn of(sizes: &Sizes, hidden: usize, part: &Part) -> Own {
        let per = 32 / sizes.slots;
        let least = per.max(16);
        let share = part.share(sizes.units / least);
        let (start, end) = (share.start * least, share.end * least);
        Own {
            units: start.min(hidden)..end.min(hidden),
            blocks: (start / per).min(sizes.rows / 32)..(end / per).min(sizes.rows / 32),
            columns: start..if end == sizes.units { sizes.columns } else { end },
        }
    }
}

/// Where a stream starts a tune at step `t`: the masked state before it as f32 and as operands, and the masked cell state.
#[inline(always)]
unsafe fn mask_operands(sizes: &Sizes, own: &Own, slice: &Slice, space: &Space, layer: usize, t: usize) {
    if !slice.any_reset[t] {
        return;
    }
    let rows = sizes.units * WIDTH;
    mask_state(slice, layer, t, rows, &own.units);
    let masked = slice.layers[layer].h_masked.ptr().add(t * rows);
    let training = slice.record_stride > 0;
    operands(sizes, own, masked, &space.layers[layer].masked, t, space.stage.shared(), training);
}

/// A thread's units of a state's rows [units][W] into both forms of slot `t` of an operand.
#[inline(always)]
unsafe fn operands(
    sizes: &Sizes,
    own: &Own,
    h: *const f32,
    to: &Operand,
    t: usize,
    stage: *mut f32,
    training: bool,
) {
    let pairs = to.pairs.shared().add(t * sizes.pairs());
    for unit in own.units.clone().step_by(2) {
        let (a, b) = (h.add(unit * WIDTH), h.add((unit + 1) * WIDTH));
        let (a0, a1) = (load(a), load(a.add(16)));
        let (b0, b1) = (load(b), load(b.add(16)));
        store(pairs.add(unit / 2 * WIDTH), pair(a0, b0));
        store(pairs.add(unit / 2 * WIDTH + 16), pair(a1, b1));
        if training {
            staged(stage, own.units.end, unit, [a0, a1], [b0, b1]);
        }
    }
    if training {
        columns(&own.columns, stage, to.streams.shared().add(t * sizes.streams()));
    }
}

/// Two units' rows as pairs of streams; never over the row of ones.
#[inline(always)]
unsafe fn staged(stage: *mut f32, hidden: usize, unit: usize, a: [V; 2], b: [V; 2]) {
    store(stage.add(unit * 16), lanes::row(a[0], a[1]));
    if unit + 1 < hidden {
        store(stage.add((unit + 1) * 16), lanes::row(b[0], b[1]));
    }
}

/// Staged rows [columns][16] as [columns/32][16][32].
#[inline(always)]
unsafe fn columns(columns: &Range<usize>, stage: *const f32, to: *mut f32) {
    for column in columns.clone().step_by(16) {
        let to = to.add(column / 32 * TILE + column % 32);
        lanes::transpose16(stage.add(column * 16), 16, to, 32);
    }
}

/// Some steps' characters as columns for the weight gradients; padding streams are characters as well, and their gate
/// gradients are zero.
unsafe fn one_hot(sizes: &Sizes, slice: &Slice, steps: Range<usize>, to: *mut f32) {
    let one = u32::from(half::bf16::ONE.to_bits());
    for t in steps {
        let to = std::slice::from_raw_parts_mut(to.add(t * sizes.one_hot()), sizes.one_hot());
        to.fill(0.0);
        for (lane, &id) in slice.ids[t * WIDTH..][..WIDTH].iter().enumerate() {
            let id = id as usize;
            let pair = &mut to[id / 32 * TILE + lane / 2 * 32 + id % 32];
            *pair = f32::from_bits(pair.to_bits() | one << (16 * (lane % 2)));
        }
    }
}

/// Sets or takes back the ones of a step's characters.
#[inline(always)]
unsafe fn characters(to: *mut f32, ids: &[i32], value: u16) {
    let to = to.cast::<u16>();
    for (lane, &id) in ids.iter().enumerate() {
        *to.add((id as usize / 2 * WIDTH + lane) * 2 + id as usize % 2) = value;
    }
}

/// A thread's blocks of one step of one layer.
#[inline(always)]
unsafe fn step<P: Product>(
    pass: &Pass,
    weights: &Weights,
    sizes: &Sizes,
    own: &Own,
    (slice, space, part): (&Slice, &Space, &Part),
    layer: usize,
    t: usize,
) {
    let geo = pass.geo;
    let hidden = geo.shape.hidden;
    let packed = &weights.layers[layer];
    let training = slice.record_stride > 0;
    let rows = geo.units * WIDTH;
    let mut ids = [0i32; WIDTH];
    ids.copy_from_slice(&slice.ids[t * WIDTH..][..WIDTH]);
    let mut present = [0usize; WIDTH];
    let mut tiles = 0;
    let one_hot = part.room.map_or(&space.characters, |room| &room.characters).shared();
    let (input, inputs) = if layer == 0 {
        characters(one_hot, &ids, half::bf16::ONE.to_bits());
        if geo.shape.vocab > WHOLE {
            let mut sorted = ids.map(|id| id as usize / 32);
            sorted.sort_unstable();
            for &tile in &sorted {
                if tiles == 0 || present[tiles - 1] != tile {
                    present[tiles] = tile;
                    tiles += 1;
                }
            }
        }
        (one_hot.cast_const(), sizes.classes / 32)
    } else {
        let (operand, slot) = space.output(layer - 1, t);
        (operand.pairs.ptr().add(slot * sizes.pairs()), sizes.units / 32)
    };
    let input = input.cast::<u32>();
    let before = space.before(&slice.any_reset, layer, t).pairs.ptr().add(t * sizes.pairs()).cast::<u32>();
    let h_before = slice.h_before(rows, layer, t);
    let shared = &slice.layers[layer];
    let (c, h_after) = (shared.c.shared(), shared.h.shared().add((t + 1) * rows));
    let short = &space.layers[layer];
    let after = short.h.pairs.shared().add((t + 1) * sizes.pairs());
    let records =
        if training { short.records.shared().add(t * sizes.records()) } else { std::ptr::null_mut() };
    let stage = space.stage.shared();
    let bias = packed.bias.ptr();
    // As f32 only where something reads it: the cells that need it in the backward pass, what masks or drops it, and
    // whoever takes the last one.
    let plain = geo.shape.cell != CellKind::Lstm
        || t + 1 == pass.steps
        || pass.dropout.is_some()
        || slice.any_reset[t + 1];
    let (k, per) = (sizes.units / 32, 32 / sizes.slots);
    let mut z = Sums([0.0; 32 * WIDTH]);
    let z = z.0.as_mut_ptr();
    for block in own.blocks.clone() {
        let w = packed.input.ptr().cast::<u32>().add(block * inputs * TILE);
        if tiles == 0 {
            P::block::<false>(z, WIDTH, Tiles::dense(w), Tiles::dense(input), inputs);
        } else {
            for (i, &tile) in present[..tiles].iter().enumerate() {
                let (a, b) = (Tiles::dense(w.add(tile * TILE)), Tiles::dense(input.add(tile * TILE)));
                if i == 0 {
                    P::block::<false>(z, WIDTH, a, b, 1);
                } else {
                    P::block::<true>(z, WIDTH, a, b, 1);
                }
            }
        }
        let w = packed.recurrent.ptr().cast::<u32>().add(block * k * TILE);
        P::block::<true>(z, WIDTH, Tiles::dense(w), Tiles::dense(before), k);
        for unit in (block * per..((block + 1) * per).min(hidden)).step_by(2) {
            if training {
                // The records of the block after this one, while this one's cells are busy.
                let next = records.wrapping_add((unit + per) * sizes.record * WIDTH);
                for line in 0..4 * sizes.record {
                    lanes::ahead_to_write(next.wrapping_add(16 * line));
                }
            }
            let mut h = [[splat(0.0); 2]; 2];
            for i in 0..2 {
                let unit = unit + i;
                let row = (unit - block * per) * sizes.slots;
                for v in 0..2 {
                    let lane = 16 * v;
                    let at = unit * WIDTH + lane;
                    let z = z.add(row * WIDTH + lane);
                    let b = bias.add(unit * sizes.slots);
                    let record = records.wrapping_add(unit * sizes.record * WIDTH + lane);
                    let new = match geo.shape.cell {
                        CellKind::Lstm => {
                            let in_ = math::sigmoid::<Avx512>(add(load(z), splat(*b)));
                            let forget = math::sigmoid::<Avx512>(add(load(z.add(WIDTH)), splat(*b.add(1))));
                            let cell = math::tanh::<Avx512>(add(load(z.add(2 * WIDTH)), splat(*b.add(2))));
                            let out = math::sigmoid::<Avx512>(add(load(z.add(3 * WIDTH)), splat(*b.add(3))));
                            // What is stored is what is used.
                            let (if_, go) = (pair(in_, forget), pair(cell, out));
                            let c_new = fma(high(if_), load(c.add(at)), mul(low(if_), low(go)));
                            let tanh_c = math::tanh::<Avx512>(c_new);
                            store(c.add(at), c_new);
                            if training {
                                store(record, if_);
                                store(record.add(WIDTH), go);
                                store(record.add(2 * WIDTH), c_new);
                            }
                            mul(high(go), tanh_c)
                        }
                        CellKind::Gru => {
                            let reset = math::sigmoid::<Avx512>(add(load(z), splat(*b)));
                            let update = math::sigmoid::<Avx512>(add(load(z.add(WIDTH)), splat(*b.add(1))));
                            let rz = pair(reset, update);
                            let recurrent = add(load(z.add(2 * WIDTH)), splat(*b.add(2)));
                            let input = add(load(z.add(3 * WIDTH)), splat(*b.add(3)));
                            let new = math::tanh::<Avx512>(fma(low(rz), recurrent, input));
                            let new = low(pair(new, new));
                            if training {
                                store(record, rz);
                                store(record.add(WIDTH), new);
                                store(record.add(2 * WIDTH), recurrent);
                            }
                            // (1 - z) n + z h = n + z (h - n)
                            fma(high(rz), sub(load(h_before.add(at)), new), new)
                        }
                        CellKind::Rnn => math::tanh::<Avx512>(add(load(z), splat(*b))),
                    };
                    h[i][v] = new;
                }
            }
            for v in 0..2 {
                let both = pair(h[0][v], h[1][v]);
                store(after.add(unit / 2 * WIDTH + 16 * v), both);
                if plain {
                    store(h_after.add(unit * WIDTH + 16 * v), low(both));
                    store(h_after.add((unit + 1) * WIDTH + 16 * v), high(both));
                }
            }
            if training {
                staged(stage, hidden, unit, h[0], h[1]);
            }
        }
    }
    if training {
        columns(&own.columns, stage, short.h.streams.shared().add((t + 1) * sizes.streams()));
    }
    if layer == 0 {
        characters(one_hot, &ids, 0);
    }
}

/// 32 rows of 32 columns, on a cache line's boundary.
#[repr(align(64))]
pub struct Sums(pub [f32; 32 * WIDTH]);
