//! The forward pass of one slice: per layer, per step, per block of units: products in registers, then the cell.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `Simd`, and pointers into buffers sized by `Geometry`, throughout.

use std::ops::Range;

use super::cells::{self, Rows};
use super::geometry::Geometry;
use super::simd::{ROW_CHUNK, Simd};
use super::space::{Room, Slice};
use super::team::Meeting;
use super::weights::Weights;
use crate::engine::Precision;
use crate::model::CellKind;
use crate::rng;

/// One k of a product, K rows on from the pointers. A macro, so that the sums stay in registers.
macro_rules! multiply {
    ($S:ty, $A:expr, $B:expr, $NV:expr, $sum:ident, $w:expr, $x:expr) => {
        let (w, x) = ($w, $x);
        let mut column = [<$S>::splat(0.0); $NV];
        for v in 0..$NV {
            column[v] = <$S>::load(x.add(v * <$S>::LANES));
        }
        for i in 0..$A {
            for g in 0..$B {
                let weight = <$S>::splat(*w.add(i * $B + g));
                for v in 0..$NV {
                    $sum[i][g][v] = <$S>::fma(weight, column[v], $sum[i][g][v]);
                }
            }
        }
    };
}

/// Rows a turn of a product's loop: counting and stepping take slots of the multipliers' ports.
const TURN: usize = 4;

/// Rows ahead of a product's turn whose weights are asked for: the processor brings a model's weights by itself from where
/// they are to the second-level cache, not to the first.
const AHEAD: usize = 16;

/// A turn; the pointers go on to the next.
macro_rules! turn {
    ($S:ty, $A:expr, $B:expr, $NV:expr, $sum:ident, $w:ident, $stride:expr, $x:ident, $width:expr) => {
        for line in 0..(TURN * $stride).div_ceil(16) {
            <$S>::soon($w.wrapping_add(AHEAD * $stride + 16 * line));
        }
        multiply!($S, $A, $B, $NV, $sum, $w, $x);
        multiply!($S, $A, $B, $NV, $sum, $w.add($stride), $x.add($width));
        multiply!($S, $A, $B, $NV, $sum, $w.add(2 * $stride), $x.add(2 * $width));
        multiply!($S, $A, $B, $NV, $sum, $w.add(3 * $stride), $x.add(3 * $width));
        $w = $w.add(TURN * $stride);
        $x = $x.add(TURN * $width);
    };
}

/// acc[i][g][v] += sum over k of w[k][i][g] * x[k][v]; `w` is packed [n][`stride`], of which A * B are used, `x` is [n][W].
/// Strides are constants where it is called, and known to the compiler after inlining.
#[inline(always)]
pub unsafe fn product<S: Simd, const A: usize, const B: usize, const NV: usize>(
    acc: &mut [[[S::V; NV]; B]; A],
    mut w: *const f32,
    stride: usize,
    mut x: *const f32,
    n: usize,
) {
    let width = NV * S::LANES;
    // A local copy, so that the accumulators live in registers and not behind the reference.
    let mut sum = *acc;
    for _ in 0..n / TURN {
        turn!(S, A, B, NV, sum, w, stride, x, width);
    }
    for _ in 0..n % TURN {
        multiply!(S, A, B, NV, sum, w, x);
        w = w.add(stride);
        x = x.add(width);
    }
    *acc = sum;
}

/// Cache lines that are asked for while a product is summed: what the next cell reads or overwrites lies beyond the
/// second-level cache, and only few such lines can be under way at once.
#[derive(Debug, Clone, Copy)]
pub struct Soon {
    /// Lines that will be overwritten; one a turn is asked for.
    pub written: *const f32,
    /// Lines that will be read; two a turn are asked for.
    pub read: *const f32,
    /// Turns in which that is done, where there are so many.
    pub turns: usize,
}

/// The same while lines are asked for.
#[inline(always)]
pub unsafe fn product_asking<S: Simd, const A: usize, const B: usize, const NV: usize>(
    acc: &mut [[[S::V; NV]; B]; A],
    mut w: *const f32,
    stride: usize,
    mut x: *const f32,
    n: usize,
    soon: Soon,
) {
    let width = NV * S::LANES;
    let turns = soon.turns.min(n / TURN);
    let (mut written, mut read) = (soon.written, soon.read);
    let mut sum = *acc;
    for _ in 0..turns {
        S::soon_written(written);
        S::soon(read);
        S::soon(read.wrapping_add(16));
        written = written.wrapping_add(16);
        read = read.wrapping_add(32);
        turn!(S, A, B, NV, sum, w, stride, x, width);
    }
    *acc = sum;
    product::<S, A, B, NV>(acc, w, stride, x, n - turns * TURN);
}

/// Dropout of a training chunk.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Probability of dropping.
    pub p: f32,
    /// Seed of the masks.
    pub seed: u64,
    /// The counter's time at the chunk's first step.
    pub time: u32,
}

/// What a slice's passes need to know.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// Sizes.
    pub geo: &'a Geometry,
    /// Packed weights.
    pub weights: &'a Weights,
    /// Storage precision.
    pub precision: Precision,
    /// T of this chunk.
    pub steps: usize,
    /// Dropout, where there is any.
    pub dropout: Option<Dropout>,
    /// What d(mean loss)/d(logit) is scaled by: loss scale / predicted characters of the whole chunk.
    pub gradient_scale: f32,
}

/// Which part of a slice's work a thread does: a range of every layer's units and of the head's steps.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Which of the slice's threads.
    pub rank: usize,
    /// How many there are.
    pub of: usize,
    /// Where they meet after every step; None for one thread.
    pub meeting: Option<&'a Meeting>,
    /// What it has for itself in the place of the slice's; None for the first of the threads.
    pub room: Option<&'a Room>,
}

impl Part<'_> {
    /// All of it.
    pub const WHOLE: Part<'static> = Part { rank: 0, of: 1, meeting: None, room: None };

    /// This thread's share of `items`.
    #[inline(always)]
    pub fn share(&self, items: usize) -> Range<usize> {
        items * self.rank / self.of..items * (self.rank + 1) / self.of
    }

    /// Waits for the others: what all wrote before is seen after.
    #[inline(always)]
    pub fn meet(&self) {
        if let Some(meeting) = self.meeting {
            meeting.barrier();
        }
    }
}

/// All layers over all steps of a slice whose columns have been read, or a thread's part of it.
///
/// # Safety
/// The machine has S's instructions; A = UB and B = G of the pass's geometry; the slice was made for this geometry,
/// NV vectors wide, with room for `pass.steps`.
#[inline(always)]
pub unsafe fn forward<S: Simd, const A: usize, const B: usize, const NV: usize>(
    pass: &Pass,
    slice: &Slice,
    part: &Part,
) {
    let geo = pass.geo;
    let rows = geo.units * slice.width;
    let blocks = part.share(geo.shape.hidden.div_ceil(A));
    // Rows of padding have no owner; they stay zero.
    let units = blocks.start * A..(blocks.end * A).min(geo.shape.hidden);
    for layer in 0..geo.shape.layers {
        keep_cell_state(slice, layer, &units);
        mask_state(slice, layer, 0, rows, &units);
        part.meet();
        for t in 0..pass.steps {
            step::<S, A, B, NV>(pass, slice, layer, t, rows, blocks.clone());
            if let Some(dropout) = pass.dropout {
                drop_output(slice, layer, t, rows, dropout, &units);
            }
            if t + 1 < pass.steps {
                mask_state(slice, layer, t + 1, rows, &units);
            }
            part.meet();
        }
    }
}

/// The cell state before the chunk, masked, of some units.
///
/// # Safety
/// No other thread uses these units' rows.
pub unsafe fn keep_cell_state(slice: &Slice, layer: usize, units: &Range<usize>) {
    let space = &slice.layers[layer];
    if space.c.len() == 0 {
        return;
    }
    let (at, n) = (units.start * slice.width, units.len() * slice.width);
    let before = std::slice::from_raw_parts_mut(space.c_before.shared().add(at), n);
    before.copy_from_slice(std::slice::from_raw_parts(space.c.ptr().add(at), n));
    if slice.any_reset[0] {
        Slice::mask_rows(before, &slice.keep.as_slice()[..slice.width]);
    }
}

/// Where a stream starts a tune at step `t`: the masked copy of the state before it, and the masked cell state, of some units.
///
/// # Safety
/// No other thread uses these units' rows.
pub unsafe fn mask_state(slice: &Slice, layer: usize, t: usize, rows: usize, units: &Range<usize>) {
    if !slice.any_reset[t] {
        return;
    }
    let keep = &slice.keep.as_slice()[t * slice.width..][..slice.width];
    let space = &slice.layers[layer];
    let (at, n) = (units.start * slice.width, units.len() * slice.width);
    let from = std::slice::from_raw_parts(space.h.ptr().add(slice.slot(t) * rows + at), n);
    let masked = std::slice::from_raw_parts_mut(space.h_masked.shared().add(t * rows + at), n);
    masked.copy_from_slice(from);
    Slice::mask_rows(masked, keep);
    if space.c.len() > 0 {
        Slice::mask_rows(std::slice::from_raw_parts_mut(space.c.shared().add(at), n), keep);
    }
}

/// Some blocks of one step of one layer.
#[inline(always)]
unsafe fn step<S: Simd, const A: usize, const B: usize, const NV: usize>(
    pass: &Pass,
    slice: &Slice,
    layer: usize,
    t: usize,
    rows: usize,
    blocks: Range<usize>,
) {
    let geo = pass.geo;
    let (hidden, width) = (geo.shape.hidden, slice.width);
    let weights = &pass.weights.layers[layer];
    let h_before = slice.h_before(rows, layer, t);
    let input = if layer > 0 { slice.output(rows, layer - 1, t) } else { std::ptr::null() };
    let inputs = if layer > 0 { hidden } else { 0 };
    let row_stride = geo.row_stride();
    // In inference nothing is read back.
    let keeps = slice.record_stride > 0;
    let mut picks = [S::picks(slice.ids.as_ptr().add(t * width)); NV];
    for v in 1..NV {
        picks[v] = S::picks(slice.ids.as_ptr().add(t * width + v * S::LANES));
    }
    let after = slice.slot(t + 1);
    let space = &slice.layers[layer];
    let c = space.c.shared();
    let records = space.records.shared().add(t * slice.record_stride);
    let h_after = space.h.shared().add(after * rows);
    for block in blocks {
        let mut acc = [[[S::splat(0.0); NV]; B]; A];
        for i in 0..A {
            let unit = block * A + i;
            for g in 0..B {
                for v in 0..NV {
                    acc[i][g][v] = if layer == 0 {
                        let row = weights.table.ptr().add((unit * B + g) * row_stride);
                        S::pick(row, row_stride / ROW_CHUNK, picks[v])
                    } else {
                        S::splat(*weights.bias.ptr().add(unit * B + g))
                    };
                }
            }
        }
        let w = weights.forward.ptr().add(block * A * B * (inputs + hidden));
        product::<S, A, B, NV>(&mut acc, w, A * B, input, inputs);
        // A GRU's n keeps its input part aside while the recurrent part is summed.
        let mut input_part = [[S::splat(0.0); NV]; A];
        if geo.shape.cell == CellKind::Gru {
            for i in 0..A {
                let bias = S::splat(*weights.recurrent_bias.ptr().add(block * A + i));
                for v in 0..NV {
                    input_part[i][v] = acc[i][B - 1][v];
                    acc[i][B - 1][v] = bias;
                }
            }
        }
        // The next block's; after the last one the records are those of the next step.
        let written = records.wrapping_add((block + 1) * A * geo.record * width);
        let read = match layer {
            0 => weights.table.ptr().wrapping_add((block + 1) * A * B * row_stride),
            _ => w.wrapping_add(A * B * (inputs + hidden)),
        };
        // Without records the rest fits into the second-level cache.
        let soon = Soon { written, read, turns: if keeps { A * geo.record * width / 16 } else { 0 } };
        product_asking::<S, A, B, NV>(&mut acc, w.add(inputs * A * B), A * B, h_before, hidden, soon);
        let at = block * A * width;
        let rows = Rows {
            records: if keeps { records.add(at * geo.record) } else { std::ptr::null_mut() },
            c: c.wrapping_add(at),
            h_before: h_before.add(at),
            h_after: h_after.add(at),
        };
        match geo.shape.cell {
            CellKind::Lstm => cells::lstm::<S, A, B, NV>(pass.precision, &acc, &rows),
            CellKind::Gru => cells::gru::<S, A, B, NV>(pass.precision, &acc, &input_part, &rows),
            CellKind::Rnn => cells::rnn::<S, A, B, NV>(pass.precision, &acc, &rows),
        }
    }
}

/// Draws the mask of one step's output of some units, and applies it.
///
/// # Safety
/// No other thread writes these units' rows.
pub unsafe fn drop_output(
    slice: &Slice,
    layer: usize,
    t: usize,
    rows: usize,
    dropout: Dropout,
    units: &Range<usize>,
) {
    let threshold = crate::rng::dropout_threshold(dropout.p);
    let scale = 1.0 / (1.0 - dropout.p);
    let (width, used, first) = (slice.width, slice.used, slice.first);
    let time = dropout.time.wrapping_add(t as u32);
    let space = &slice.layers[layer];
    let (at, n) = (units.start * width, units.len() * width);
    let mask = std::slice::from_raw_parts_mut(space.mask.shared().add(t * rows + at), n);
    for lane in 0..used {
        // Four units a draw; one at the edge is drawn by two threads.
        for quad in units.start / 4..units.end.div_ceil(4) {
            let words =
                rng::dropout_words(dropout.seed, layer as u32, time, (first + lane) as u32, quad as u32);
            for (unit, word) in (4 * quad..).zip(words) {
                if units.contains(&unit) {
                    mask[(unit - units.start) * width + lane] = if word >= threshold { scale } else { 0.0 };
                }
            }
        }
    }
    let h = std::slice::from_raw_parts(space.h.ptr().add((t + 1) * rows + at), n);
    let out = std::slice::from_raw_parts_mut(space.dropped.shared().add(t * rows + at), n);
    for ((out, h), mask) in out.iter_mut().zip(h).zip(&*mask) {
        *out = h * mask;
    }
}
