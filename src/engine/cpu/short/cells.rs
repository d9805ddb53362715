//! The cells of two units and two vectors, behind the products of their gate rows: gates, the new state, and what the
//! backward pass needs of them. One step of all four vectors after another, as in [`logistic`](math::logistic).
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::super::math::{sigmoids, tanhs};
use super::super::simd::Avx512;
use super::lanes::{V, add, fma, high, load, low, mul, pair, splat, store, sub, sum};
use super::products::{Product, ROW};
use crate::model::CellKind;

/// Of two units, two vectors.
pub type Four = [[V; 2]; 2];

/// What one stage of a cell leaves for the next; the new state in the first after the last.
pub type State = [Four; 4];

/// Stages in which a cell is computed, none of them long: they are done between pieces of a product.
pub fn stages(cell: CellKind) -> usize {
    match cell {
        CellKind::Lstm => 5,
        CellKind::Gru => 3,
        CellKind::Rnn => 1,
    }
}

/// Where two units keep what their cells read and write, rows of W.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Sums of the first unit's first gate row.
    pub sums: *const f32,
    /// What is added to them, with the bias; or null.
    pub inputs: *const f32,
    /// Its bias.
    pub bias: *const f32,
    /// Its records, and vectors a unit; null in inference, which keeps none.
    pub records: *mut f32,
    /// Vectors of a unit's records.
    pub record: usize,
    /// Its cell state; an LSTM's.
    pub c: *mut f32,
    /// Its state before; read by a GRU.
    pub h_before: *const f32,
}

/// 1 / (1 + e^-x) of as many vectors as there are.
#[inline(always)]
unsafe fn sigmoid<P: Product>(x: Four) -> Four {
    if P::VECTORS == 2 {
        return sigmoids::<Avx512, 2, 2>(x);
    }
    let [[a], [b]] = sigmoids::<Avx512, 2, 1>([[x[0][0]], [x[1][0]]]);
    [[a; 2], [b; 2]]
}

/// tanh likewise.
#[inline(always)]
unsafe fn tanh<P: Product>(x: Four) -> Four {
    if P::VECTORS == 2 {
        return tanhs::<Avx512, 2, 2>(x);
    }
    let [[a], [b]] = tanhs::<Avx512, 2, 1>([[x[0][0]], [x[1][0]]]);
    [[a; 2], [b; 2]]
}

/// Gate `gate` of `of`, with its bias.
#[inline(always)]
unsafe fn gate<P: Product>(rows: &Rows, gate: usize, of: usize) -> Four {
    let mut out = [[splat(0.0); 2]; 2];
    if !rows.inputs.is_null() {
        for i in 0..2 {
            for v in 0..P::VECTORS {
                let row = i * of + gate;
                let input = load(rows.inputs.add(row * P::WIDTH + 16 * v));
                out[i][v] = add(sum::<P>(rows.sums.add(row * ROW), v), input);
            }
        }
        return out;
    }
    for i in 0..2 {
        let bias = splat(*rows.bias.add(i * of + gate));
        for v in 0..P::VECTORS {
            out[i][v] = add(sum::<P>(rows.sums.add((i * of + gate) * ROW), v), bias);
        }
    }
    out
}

/// Vector `slot` of the records.
#[inline(always)]
unsafe fn keep<P: Product>(rows: &Rows, slot: usize, x: &Four) {
    if !rows.records.is_null() {
        for i in 0..2 {
            for v in 0..P::VECTORS {
                store(rows.records.add((i * rows.record + slot) * P::WIDTH + 16 * v), x[i][v]);
            }
        }
    }
}

/// Two gates as they are kept, in one vector of pairs or in two of f32 from `slot` on; what is kept is what is used.
#[inline(always)]
unsafe fn keep_both<P: Product>(rows: &Rows, slot: usize, a: &mut Four, b: &mut Four) {
    if P::PARTS > 1 {
        keep::<P>(rows, 2 * slot, a);
        keep::<P>(rows, 2 * slot + 1, b);
        return;
    }
    let mut both = *a;
    for i in 0..2 {
        for v in 0..P::VECTORS {
            both[i][v] = pair(a[i][v], b[i][v]);
            (a[i][v], b[i][v]) = (low(both[i][v]), high(both[i][v]));
        }
    }
    keep::<P>(rows, slot, &both);
}

/// Gates i, f, g, o.
#[inline(always)]
pub unsafe fn lstm<P: Product>(rows: &Rows, stage: usize, state: &mut State) {
    let [input, forget, cell, out] = state;
    match stage {
        0 => *input = sigmoid::<P>(gate::<P>(rows, 0, 4)),
        1 => {
            *forget = sigmoid::<P>(gate::<P>(rows, 1, 4));
            keep_both::<P>(rows, 0, input, forget);
        }
        2 => *cell = tanh::<P>(gate::<P>(rows, 2, 4)),
        3 => {
            *out = sigmoid::<P>(gate::<P>(rows, 3, 4));
            keep_both::<P>(rows, 1, cell, out);
        }
        _ => {
            let mut c = *input;
            for i in 0..2 {
                for v in 0..P::VECTORS {
                    let at = rows.c.add(i * P::WIDTH + 16 * v);
                    c[i][v] = fma(forget[i][v], load(at), mul(input[i][v], cell[i][v]));
                    store(at, c[i][v]);
                }
            }
            keep::<P>(rows, if P::PARTS > 1 { 4 } else { 2 }, &c);
            let tanh_c = tanh::<P>(c);
            for i in 0..2 {
                for v in 0..P::VECTORS {
                    input[i][v] = mul(out[i][v], tanh_c[i][v]);
                }
            }
        }
    }
}

/// Gates r, z, the recurrent part of n, its input part.
#[inline(always)]
pub unsafe fn gru<P: Product>(rows: &Rows, stage: usize, state: &mut State) {
    let [reset, update, _, _] = state;
    match stage {
        0 => *reset = sigmoid::<P>(gate::<P>(rows, 0, 4)),
        1 => {
            *update = sigmoid::<P>(gate::<P>(rows, 1, 4));
            keep_both::<P>(rows, 0, reset, update);
        }
        _ => {
            let (recurrent, mut new) = (gate::<P>(rows, 2, 4), gate::<P>(rows, 3, 4));
            for i in 0..2 {
                for v in 0..P::VECTORS {
                    new[i][v] = fma(reset[i][v], recurrent[i][v], new[i][v]);
                }
            }
            let mut new = tanh::<P>(new);
            for i in 0..2 {
                for v in 0..P::VECTORS {
                    if P::PARTS == 1 {
                        new[i][v] = low(pair(new[i][v], new[i][v]));
                    }
                    // (1 - z) n + z h = n + z (h - n)
                    let before = load(rows.h_before.add(i * P::WIDTH + 16 * v));
                    reset[i][v] = fma(update[i][v], sub(before, new[i][v]), new[i][v]);
                }
            }
            let first = if P::PARTS > 1 { 2 } else { 1 };
            keep::<P>(rows, first, &new);
            keep::<P>(rows, first + 1, &recurrent);
        }
    }
}

/// tanh; nothing is kept beside the state.
#[inline(always)]
pub unsafe fn rnn<P: Product>(rows: &Rows, state: &mut State) {
    state[0] = tanh::<P>(gate::<P>(rows, 0, 1));
}
