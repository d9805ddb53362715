//! The cells, behind the products of a block of A units whose sums are still in registers: gates, the new state, and what
//! the backward pass needs of them. One step of all units' vectors after another, as in [`logistic`](super::math::logistic).
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::math::{sigmoids, stored_all, tanhs};
use super::simd::Simd;
use crate::engine::Precision;

/// Where a block of units keeps what its cell reads and writes, rows of W.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// Records of the block's first unit; null in inference, which keeps none.
    pub records: *mut f32,
    /// Its cell state; an LSTM's.
    pub c: *mut f32,
    /// Its state before; read by a GRU.
    pub h_before: *const f32,
    /// Its state after.
    pub h_after: *mut f32,
}

/// Sums of one gate of all units.
#[inline(always)]
fn gate<V: Copy, const A: usize, const B: usize, const NV: usize>(
    acc: &[[[V; NV]; B]; A],
    gate: usize,
) -> [[V; NV]; A] {
    let mut out = [acc[0][gate % B]; A];
    for i in 1..A {
        out[i] = acc[i][gate % B];
    }
    out
}

/// Row `slot` of `stride` rows of each unit.
#[inline(always)]
unsafe fn store<S: Simd, const A: usize, const NV: usize>(
    to: *mut f32,
    stride: usize,
    slot: usize,
    x: &[[S::V; NV]; A],
) {
    for i in 0..A {
        for v in 0..NV {
            S::store(to.add(((i * stride + slot) * NV + v) * S::LANES), x[i][v]);
        }
    }
}

/// Row `slot` of the records, of which each unit has `stride`.
#[inline(always)]
unsafe fn keep<S: Simd, const A: usize, const NV: usize>(
    rows: &Rows,
    stride: usize,
    slot: usize,
    x: &[[S::V; NV]; A],
) {
    if !rows.records.is_null() {
        store::<S, A, NV>(rows.records, stride, slot, x);
    }
}

#[inline(always)]
unsafe fn load<S: Simd, const A: usize, const NV: usize>(from: *const f32) -> [[S::V; NV]; A] {
    let mut out = [[S::splat(0.0); NV]; A];
    for i in 0..A {
        for v in 0..NV {
            out[i][v] = S::load(from.add((i * NV + v) * S::LANES));
        }
    }
    out
}

/// Gates i, f, g, o.
///
/// # Safety
/// The machine has S's instructions; rows of A units are there.
#[inline(always)]
pub unsafe fn lstm<S: Simd, const A: usize, const B: usize, const NV: usize>(
    precision: Precision,
    acc: &[[[S::V; NV]; B]; A],
    rows: &Rows,
) {
    const RECORD: usize = 6;
    let mut input = sigmoids::<S, A, NV>(gate(acc, 0));
    stored_all::<S, A, NV>(precision, &mut input);
    keep::<S, A, NV>(rows, RECORD, 0, &input);
    let mut forget = sigmoids::<S, A, NV>(gate(acc, 1));
    stored_all::<S, A, NV>(precision, &mut forget);
    keep::<S, A, NV>(rows, RECORD, 1, &forget);
    let mut cell = tanhs::<S, A, NV>(gate(acc, 2));
    stored_all::<S, A, NV>(precision, &mut cell);
    keep::<S, A, NV>(rows, RECORD, 2, &cell);
    let mut c = load::<S, A, NV>(rows.c);
    for i in 0..A {
        for v in 0..NV {
            c[i][v] = S::fma(forget[i][v], c[i][v], S::mul(input[i][v], cell[i][v]));
        }
    }
    store::<S, A, NV>(rows.c, 1, 0, &c);
    keep::<S, A, NV>(rows, RECORD, 4, &c);
    let mut output = sigmoids::<S, A, NV>(gate(acc, 3));
    stored_all::<S, A, NV>(precision, &mut output);
    keep::<S, A, NV>(rows, RECORD, 3, &output);
    let tanh_c = tanhs::<S, A, NV>(c);
    keep::<S, A, NV>(rows, RECORD, 5, &tanh_c);
    for i in 0..A {
        for v in 0..NV {
            output[i][v] = S::mul(output[i][v], tanh_c[i][v]);
        }
    }
    stored_all::<S, A, NV>(precision, &mut output);
    store::<S, A, NV>(rows.h_after, 1, 0, &output);
}

/// Gates r, z, n; `input` is the input part of n, whose recurrent part is in the sums.
///
/// # Safety
/// As [`lstm`].
#[inline(always)]
pub unsafe fn gru<S: Simd, const A: usize, const B: usize, const NV: usize>(
    precision: Precision,
    acc: &[[[S::V; NV]; B]; A],
    input: &[[S::V; NV]; A],
    rows: &Rows,
) {
    const RECORD: usize = 4;
    let mut reset = sigmoids::<S, A, NV>(gate(acc, 0));
    stored_all::<S, A, NV>(precision, &mut reset);
    keep::<S, A, NV>(rows, RECORD, 0, &reset);
    let mut update = sigmoids::<S, A, NV>(gate(acc, 1));
    stored_all::<S, A, NV>(precision, &mut update);
    keep::<S, A, NV>(rows, RECORD, 1, &update);
    let recurrent = gate(acc, 2);
    keep::<S, A, NV>(rows, RECORD, 3, &recurrent);
    let mut new = recurrent;
    for i in 0..A {
        for v in 0..NV {
            new[i][v] = S::fma(reset[i][v], recurrent[i][v], input[i][v]);
        }
    }
    let mut new = tanhs::<S, A, NV>(new);
    stored_all::<S, A, NV>(precision, &mut new);
    keep::<S, A, NV>(rows, RECORD, 2, &new);
    let mut h = load::<S, A, NV>(rows.h_before);
    for i in 0..A {
        for v in 0..NV {
            // (1 - z) n + z h = n + z (h - n)
            h[i][v] = S::fma(update[i][v], S::sub(h[i][v], new[i][v]), new[i][v]);
        }
    }
    stored_all::<S, A, NV>(precision, &mut h);
    store::<S, A, NV>(rows.h_after, 1, 0, &h);
}

/// tanh; nothing is kept beside the state.
///
/// # Safety
/// As [`lstm`].
#[inline(always)]
pub unsafe fn rnn<S: Simd, const A: usize, const B: usize, const NV: usize>(
    precision: Precision,
    acc: &[[[S::V; NV]; B]; A],
    rows: &Rows,
) {
    // A few units at a time: twelve would not fit into the registers.
    for (number, part) in acc.chunks(3).enumerate() {
        let first = 3 * number;
        let mut h = [[S::splat(0.0); NV]; 3];
        for i in 0..part.len() {
            h[i] = part[i][0];
        }
        let mut h = tanhs::<S, 3, NV>(h);
        stored_all::<S, 3, NV>(precision, &mut h);
        for i in 0..part.len() {
            for v in 0..NV {
                S::store(rows.h_after.add(((first + i) * NV + v) * S::LANES), h[i][v]);
            }
        }
    }
}
