//! The cells of the backward pass: the gradients of gate rows, two units at a time, in all the forms in which they are needed.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::super::math;
use super::super::simd::Avx512;
use super::Sizes;
use super::lanes::{
    self, V, add, fma, high, less, load, low, mul, pair_at, parts, splat, store, store_pairs, store_row, sub,
};
use super::products::{Product, ROW};
use crate::model::CellKind;

/// d of the four gate rows (of the one, in slot 0) of a unit, in two vectors.
pub type Gates = [[V; 2]; 4];

/// What the cells of a step read and write.
pub struct Cells {
    pub cell: CellKind,
    pub hidden: usize,
    pub sizes: Sizes,
    /// Whether no step follows, and whether there a tune starts.
    pub last: bool,
    pub cut: bool,
    /// Whether here a tune starts.
    pub here_reset: bool,
    pub first: bool,
    /// What is kept at the next step, and here.
    pub keep_next: *const f32,
    pub keep_here: *const f32,
    pub h_before: *const f32,
    pub h_after: *const f32,
    pub c_before: *const f32,
    pub records: *const f32,
    pub records_before: *const f32,
    /// d h from the next step, of even and of odd blocks.
    pub sums: [*mut f32; 2],
    /// The gradient from above.
    pub dx: *const f32,
    pub direct: *mut f32,
    pub dc: *mut f32,
    /// Gate gradients as pairs of gate rows, and as rows for the weight gradients.
    pub gates: *mut f32,
    pub rows: *mut f32,
}

impl Cells {
    /// Asks for what comes next: of the block after this one, or of the step before.
    #[inline(always)]
    pub unsafe fn ahead<P: Product>(&self, unit: usize) {
        let sizes = &self.sizes;
        let next = if unit / 32 + 1 < sizes.units / 32 {
            self.records.wrapping_add((unit + 32) * sizes.record * P::WIDTH)
        } else {
            self.records_before.wrapping_add(unit % 32 * sizes.record * P::WIDTH)
        };
        for line in 0..2 * P::VECTORS * sizes.record {
            lanes::ahead(next.wrapping_add(16 * line));
        }
        if self.cell == CellKind::Lstm {
            // And c of the step before, which this step needs first.
            let c = (unit + 32) * sizes.record + sizes.record - 1;
            for i in 0..2 {
                let c = self.records_before.wrapping_add((c + i * sizes.record) * P::WIDTH);
                lanes::ahead(c);
                lanes::ahead(c.wrapping_add(P::WIDTH - 16));
            }
        }
    }

    /// A vector of a unit.
    #[inline(always)]
    pub unsafe fn vector<P: Product>(&self, unit: usize, v: usize, d: &mut Gates) {
        let sizes = &self.sizes;
        let lane = 16 * v;
        let at = unit * P::WIDTH + lane;
        let record = self.records.add(unit * sizes.record * P::WIDTH + lane);
        let mut from_next = splat(0.0);
        if !self.last {
            from_next = lanes::sum::<P>(self.sums[unit / 32 % 2].add(unit % 32 * ROW), v);
            if self.cell == CellKind::Gru {
                from_next = add(from_next, load(self.direct.add(at)));
            }
            if self.cut {
                from_next = mul(from_next, load(self.keep_next.add(lane)));
            }
        }
        let dh = add(from_next, load(self.dx.add(at)));
        let one = splat(1.0);
        match self.cell {
            CellKind::Lstm => {
                let [in_, forget] = both::<P>(record, 0);
                let [cell, out] = both::<P>(record, 1);
                let c = sizes.record - 1;
                let tanh_c = math::tanh::<Avx512>(load(record.add(c * P::WIDTH)));
                let c_prev = if self.first {
                    load(self.c_before.add(at))
                } else {
                    load(self.records_before.add((unit * sizes.record + c) * P::WIDTH + lane))
                };
                let dh_out = mul(dh, out);
                let dc_now = add(load(self.dc.add(at)), less(mul(dh_out, tanh_c), tanh_c, dh_out));
                let mut d_forget = mul(mul(dc_now, c_prev), less(forget, forget, forget));
                let mut dc_prev = mul(dc_now, forget);
                if self.here_reset {
                    let keep = load(self.keep_here.add(lane));
                    d_forget = mul(d_forget, keep);
                    dc_prev = mul(dc_prev, keep);
                }
                store(self.dc.add(at), dc_prev);
                d[0][v] = mul(mul(dc_now, cell), less(in_, in_, in_));
                d[1][v] = d_forget;
                d[2][v] = mul(mul(dc_now, in_), less(cell, cell, one));
                d[3][v] = mul(mul(dh_out, tanh_c), sub(one, out));
            }
            CellKind::Gru => {
                let [reset, update] = both::<P>(record, 0);
                let new = record.add((sizes.record - 2) * P::WIDTH);
                let (new, recurrent) = (load(new), load(new.add(P::WIDTH)));
                let d_new = mul(less(dh, update, dh), less(new, new, one));
                let difference = sub(load(self.h_before.add(at)), new);
                store(self.direct.add(at), mul(dh, update));
                d[0][v] = mul(mul(d_new, recurrent), less(reset, reset, reset));
                d[1][v] = mul(mul(dh, difference), less(update, update, update));
                d[2][v] = mul(d_new, reset);
                d[3][v] = d_new;
            }
            CellKind::Rnn => {
                let h = load(self.h_after.add(at));
                d[0][v] = fma(mul(dh, h), sub(splat(0.0), h), dh);
            }
        }
    }

    /// Stores the gate gradients of two units. Their records are dead: rows for the weight gradients take the place of records
    /// already used.
    #[inline(always)]
    pub unsafe fn finish<P: Product>(&self, unit: usize, d: &[Gates; 2]) {
        let n = self.sizes.slots;
        for i in 0..2 {
            for slot in 0..if n == 4 { 4 } else { 1 } {
                store_row::<P>(self.rows, (unit + i) * n + slot, d[i][slot]);
            }
        }
        if n == 4 {
            for (i, d) in d.iter().enumerate() {
                for two in [0, 2] {
                    let to = self.gates.add(pair_at::<P>((unit + i) * 4 + two));
                    store_both::<P>(to, d[two], d[two + 1]);
                }
            }
        } else {
            store_both::<P>(self.gates.add(pair_at::<P>(unit)), d[0][0], d[1][0]);
        }
    }
}

/// Two gates as they were kept; in `slot` of the pairs, or in two vectors of f32.
#[inline(always)]
unsafe fn both<P: Product>(record: *const f32, slot: usize) -> [V; 2] {
    if P::PARTS == 1 {
        let pairs = load(record.add(slot * P::WIDTH));
        [low(pairs), high(pairs)]
    } else {
        [load(record.add(2 * slot * P::WIDTH)), load(record.add((2 * slot + 1) * P::WIDTH))]
    }
}

/// The gradients of two successive gate rows as pairs.
#[inline(always)]
unsafe fn store_both<P: Product>(to: *mut f32, a: [V; 2], b: [V; 2]) {
    for v in 0..P::VECTORS {
        store_pairs::<P>(to.add(16 * v), parts::<P>(a[v]), parts::<P>(b[v]));
    }
}
