//! The forward pass of one slice: per layer, per step, 32 gate rows at a time: products, then the cell.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `slice`, and pointers into buffers sized by `Sizes`, throughout.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::forward::{Part, Pass, drop_output, keep_cell_state, mask_state};
use super::beside::{Beside, Cells, OutputPairs, staged};
use super::lanes::{self, load, pair_at, parts, store_pairs};
use super::products::{Pairs, Pieces, Product, ROW, Spread, TILE, Tiles};
use super::{Operand, Sizes, Slice, Space, WIDTH, Weights};
use crate::model::CellKind;

/// Vocabularies up to here are multiplied whole; of larger ones only the tiles in which some stream's character is.
const WHOLE: usize = 256;

/// All layers over all steps of a slice whose columns have been read, or a thread's part of it.
#[inline(always)]
pub unsafe fn forward<P: Product>(pass: &Pass, weights: &Weights, slice: &Slice, space: &Space, part: &Part) {
    let geo = pass.geo;
    let sizes = Sizes::of::<P>(geo);
    let training = slice.record_stride > 0;
    let rows = geo.units * P::WIDTH;
    let own = Own::of(&sizes, geo.shape.hidden, part);
    if training && space.one_hot.len() > 0 {
        one_hot(&sizes, slice, part.share(pass.steps), space.one_hot.shared());
    }
    for layer in 0..geo.shape.layers {
        let shared = &slice.layers[layer];
        keep_cell_state(slice, layer, &own.units);
        let to = &space.layers[layer];
        operands::<P>(&sizes, &own, shared.h.ptr(), &to.h, 0, space.stage.shared(), training);
        mask_operands::<P>(&sizes, &own, slice, space, layer, 0);
        part.meet();
        for t in 0..pass.steps {
            step::<P>(pass, weights, &sizes, &own, (slice, space, part), layer, t);
            if let Some(dropout) = pass.dropout {
                drop_output(slice, layer, t, rows, dropout, &own.units);
            }
            if pass.dropout.is_some() && P::PARTS == 1 {
                let dropped = shared.dropped.ptr().add(t * rows);
                operands::<P>(&sizes, &own, dropped, &to.dropped, t, space.stage.shared(), training);
            }
            if t + 1 < pass.steps {
                mask_operands::<P>(&sizes, &own, slice, space, layer, t + 1);
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
unsafe fn mask_operands<P: Product>(
    sizes: &Sizes,
    own: &Own,
    slice: &Slice,
    space: &Space,
    layer: usize,
    t: usize,
) {
    if !slice.any_reset[t] {
        return;
    }
    let rows = sizes.state;
    mask_state(slice, layer, t, rows, &own.units);
    let masked = slice.layers[layer].h_masked.ptr().add(t * rows);
    let training = slice.record_stride > 0;
    operands::<P>(sizes, own, masked, &space.layers[layer].masked, t, space.stage.shared(), training);
}

/// A thread's units of a state's rows [units][W] into both forms of slot `t` of an operand.
#[inline(always)]
unsafe fn operands<P: Product>(
    sizes: &Sizes,
    own: &Own,
    h: *const f32,
    to: &Operand,
    t: usize,
    stage: *mut f32,
    training: bool,
) {
    let training = training && P::PARTS == 1;
    let pairs = to.pairs.shared().add(sizes.slot(t) * sizes.pairs());
    for unit in own.units.clone().step_by(2) {
        let (a, b) = (h.add(unit * P::WIDTH), h.add((unit + 1) * P::WIDTH));
        let second = 16 * (P::VECTORS - 1);
        let a = [parts::<P>(load(a)), parts::<P>(load(a.add(second)))];
        let b = [parts::<P>(load(b)), parts::<P>(load(b.add(second)))];
        for v in 0..P::VECTORS {
            store_pairs::<P>(pairs.add(pair_at::<P>(unit) + 16 * v), a[v], b[v]);
        }
        if training {
            staged(stage, own.units.end, unit, [a[0][0], a[1][0]], [b[0][0], b[1][0]]);
        }
    }
    if training {
        columns(&own.columns, stage, to.streams.shared().add(t * sizes.streams()));
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
    let rows = geo.units * P::WIDTH;
    let mut ids = [0i32; 32];
    ids[..P::WIDTH].copy_from_slice(&slice.ids[t * P::WIDTH..][..P::WIDTH]);
    let mut present = [0usize; 32];
    let mut tiles = 0;
    let one_hot = part.room.map_or(&space.characters, |room| &room.characters).shared();
    let table = packed.table.len() > 0;
    let (input, inputs) = if layer > 0 && P::PARTS > 1 {
        let input = part.room.map_or(&space.input, |room| &room.input).shared();
        OutputPairs::<P>::new(sizes, slice, layer - 1, t, input).all();
        (input.cast_const(), sizes.units / 32)
    } else if layer > 0 {
        let (operand, slot) = space.output(layer - 1, t);
        (operand.pairs.ptr().add(slot * sizes.pairs()), sizes.units / 32)
    } else if table {
        (std::ptr::null(), 0)
    } else {
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
    };
    let input = input.cast::<u32>();
    let before = space.before(&slice.any_reset, layer, t).pairs.ptr();
    let before = before.add(sizes.slot(t) * sizes.pairs()).cast::<u32>();
    let h_before = slice.h_before(rows, layer, t);
    let shared = &slice.layers[layer];
    let (c, h_after) = (shared.c.shared(), shared.h.shared().add((t + 1) * rows));
    let short = &space.layers[layer];
    let after = short.h.pairs.shared().add(sizes.slot(t + 1) * sizes.pairs());
    let (records, record_stride) = space.records::<P>(sizes, slice, layer);
    let records = if training { records.add(t * record_stride) } else { std::ptr::null_mut() };
    let stage = space.stage.shared();
    // As f32 only where something reads it: the cells that need it in the backward pass, what masks or drops it, whoever
    // takes the last one, and where numbers have parts all that later reads a state.
    let plain = P::PARTS > 1
        || geo.shape.cell != CellKind::Lstm
        || t + 1 == pass.steps
        || pass.dropout.is_some()
        || slice.any_reset[t + 1];
    let (k, per) = (sizes.units / 32, 32 / sizes.slots);
    // Written before they are read.
    let mut sums = MaybeUninit::<[Sums; 5]>::uninit();
    let first = sums.as_mut_ptr().cast::<f32>();
    let cells = Cells {
        cell: geo.shape.cell,
        hidden,
        per,
        sizes: *sizes,
        sums: [first, first.wrapping_add(32 * ROW)],
        inputs: [2, 3, 4].map(|i| first.wrapping_add(i * 32 * ROW)),
        bias: packed.bias.ptr(),
        first: table,
        table: packed.table.ptr(),
        ids: ids.as_ptr(),
        records,
        c,
        h_before,
        after,
        h_after: if plain { h_after } else { std::ptr::null_mut() },
        training,
        stage: if training && P::PARTS == 1 { stage } else { std::ptr::null_mut() },
    };
    let (own, own_columns) = (own.blocks.clone(), own.columns.clone());
    if table && !own.is_empty() {
        for square in 0..2 * P::VECTORS {
            cells.gather::<P>(own.start, square);
        }
    }
    for block in own.clone() {
        let z = cells.sums[block % 2];
        let w = packed.input.ptr().cast::<u32>().wrapping_add(block * inputs * P::PARTS * TILE);
        let recurrent = packed.recurrent.ptr().cast::<u32>().add(block * k * P::PARTS * TILE);
        let recurrent = Pairs { a: Tiles::dense::<P>(recurrent), b: Tiles::columns::<P>(before), n: k };
        // What is no product is done while this block is multiplied: the cells of the one before, and the table's part of
        // the sums of the next one.
        let mut beside = Beside::<P>::new(&cells, block, &own, table);
        // The product of bf16 is over before that would pay: its cells come behind it.
        let mut beside = Spread::over::<P>(&mut beside, inputs + k);
        if tiles == 0 {
            // None where there is a table.
            let input = Pairs { a: Tiles::dense::<P>(w), b: Tiles::columns::<P>(input), n: inputs };
            P::sums::<false>(z, ROW, [input, recurrent], &mut beside);
        } else {
            for (i, &tile) in present[..tiles].iter().enumerate() {
                let a = Tiles::dense::<P>(w.add(tile * P::PARTS * TILE));
                let b = Tiles::columns::<P>(input.add(tile * TILE));
                if i == 0 {
                    P::block::<false>(z, ROW, a, b, 1);
                } else {
                    P::block::<true>(z, ROW, a, b, 1);
                }
            }
            P::sums::<true>(z, ROW, [recurrent, Pairs::NONE], &mut beside);
        }
        if P::PARTS == 1 {
            for pair in 0..per / 2 {
                cells.whole::<P>(block, pair);
            }
        }
    }
    if !own.is_empty() && P::PARTS > 1 {
        Beside::<P>::new(&cells, own.end, &own, false).all();
    }
    if training && P::PARTS == 1 {
        columns(&own_columns, stage, short.h.streams.shared().add((t + 1) * sizes.streams()));
    }
    if layer == 0 && !table {
        characters(one_hot, &ids, 0);
    }
}

/// 32 rows of 32 columns, on a cache line's boundary; read and written through pointers.
#[repr(align(64))]
#[allow(dead_code)]
pub struct Sums([f32; 32 * ROW]);
