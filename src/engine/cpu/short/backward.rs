//! Back-propagation through time for one slice: per layer from the top, per step from the last, 32 units at a time.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use std::ops::Range;

use super::super::forward::{Part, Pass};
use super::super::head::mask_of;
use super::super::math;
use super::super::simd::Avx512;
use super::forward::Sums;
use super::lanes::{self, add, fma, high, less, load, low, mul, pair, splat, store, sub};
use super::products::{Product, TILE, Tiles};
use super::{Sizes, Slice, Space, WIDTH, Weights};
use crate::model::CellKind;

/// After the forward pass and the head with `TRAIN`: leaves the gate gradients of all layers as pairs of streams.
#[inline(always)]
pub unsafe fn backward<P: Product>(
    pass: &Pass,
    weights: &Weights,
    slice: &Slice,
    space: &Space,
    part: &Part,
) {
    let sizes = Sizes::new(pass.geo);
    let hidden = pass.geo.shape.hidden;
    let rows = pass.geo.units * WIDTH;
    let own = part.share(sizes.units / 32);
    // Where its gate rows as pairs of streams begin, and how many numbers they are.
    let (a_unit, units) = (sizes.slots * 16, own.start * 32..(own.end * 32).min(hidden));
    let (first, count) = (units.start * a_unit, units.len() * a_unit);
    for layer in (0..pass.geo.shape.layers).rev() {
        if slice.dc.len() > 0 {
            let (at, n) = (own.start * 32 * WIDTH, own.len() * 32 * WIDTH);
            std::slice::from_raw_parts_mut(slice.dc.shared().add(at), n).fill(0.0);
        }
        for t in (0..pass.steps).rev() {
            let records = space.layers[layer].records.shared().add(t * sizes.records());
            // A thread whose units are the first writes over records that it has read. Another's place is among records that
            // others are reading.
            let aside = part.room.map(|room| room.gradients.shared());
            let streams = aside.map_or(records, |aside| aside.wrapping_sub(first));
            step::<P>(pass, weights, &sizes, (slice, space), (layer, t), own.clone(), streams);
            part.meet();
            if let Some(aside) = aside {
                std::ptr::copy_nonoverlapping(aside.cast_const(), records.add(first), count);
            }
            if layer > 0 {
                let d = space.gates.ptr().add(t % 2 * (sizes.rows / 2 * WIDTH));
                let mask = mask_of(pass, slice, layer - 1, t, rows);
                let to = slice.dx.shared().add(t * rows);
                let back = weights.layers[layer].back_input.ptr();
                into_layer::<P>(to, back, d, own.clone(), sizes.rows / 32, mask);
            }
        }
        // The next layer's last step may have the place of this one's first.
        part.meet();
    }
}

/// out = mask * w times d: a gradient on its way into the layer below. `w` are [units/32][depth] tiles, `d` [depth] ones;
/// `out` and `mask` are [units][W], of which `blocks` of 32 are done.
#[inline(always)]
pub unsafe fn into_layer<P: Product>(
    out: *mut f32,
    w: *const f32,
    d: *const f32,
    blocks: Range<usize>,
    depth: usize,
    mask: *const f32,
) {
    for block in blocks.clone() {
        let w = Tiles::dense(w.cast::<u32>().add(block * depth * TILE));
        P::block::<false>(out.add(block * 32 * WIDTH), WIDTH, w, Tiles::dense(d.cast()), depth);
    }
    if !mask.is_null() {
        for i in (blocks.start * 32 * WIDTH..blocks.end * 32 * WIDTH).step_by(16) {
            store(out.add(i), mul(load(out.add(i)), load(mask.add(i))));
        }
    }
}

/// A thread's blocks of one step of one layer: d h from above and from the next step, then the cell, whose gate gradients go
/// to `streams` as pairs of streams.
#[inline(always)]
unsafe fn step<P: Product>(
    pass: &Pass,
    weights: &Weights,
    sizes: &Sizes,
    (slice, space): (&Slice, &Space),
    (layer, t): (usize, usize),
    blocks: Range<usize>,
    streams: *mut f32,
) {
    let geo = pass.geo;
    let hidden = geo.shape.hidden;
    let rows = geo.units * WIDTH;
    let cell = geo.shape.cell;
    let last = t + 1 == pass.steps;
    let cut = !last && slice.any_reset[t + 1];
    let keep_next = slice.keep.ptr().wrapping_add((t + 1) * WIDTH);
    let here_reset = slice.any_reset[t];
    let keep_here = slice.keep.ptr().add(t * WIDTH);
    let h_before = slice.h_before(rows, layer, t);
    let h_after = slice.layers[layer].h.ptr().add((t + 1) * rows);
    let c_before = slice.layers[layer].c_before.ptr();
    let records = space.layers[layer].records.shared().add(t * sizes.records());
    let records_before = records.wrapping_sub(if t > 0 { sizes.records() } else { 0 });
    let back = weights.layers[layer].back.ptr().cast::<u32>();
    let half = sizes.rows / 2 * WIDTH;
    let next = space.gates.ptr().add((t + 1) % 2 * half).cast::<u32>();
    let gates = space.gates.shared().add(t % 2 * half);
    let dx = slice.dx.ptr().add(t * rows);
    let (direct, dc) = (slice.direct.shared(), slice.dc.shared());
    let one = splat(1.0);
    let depth = sizes.rows / 32;
    let mut sums = Sums([0.0; 32 * WIDTH]);
    let sums = sums.0.as_mut_ptr();
    for block in blocks {
        if !last {
            let w = Tiles::dense(back.add(block * depth * TILE));
            P::block::<false>(sums, WIDTH, w, Tiles::dense(next), depth);
        }
        for unit in (block * 32..(block * 32 + 32).min(hidden)).step_by(2) {
            // The records that come next: of the block after this one, or of the step before.
            let next = if block + 1 < sizes.units / 32 {
                records.wrapping_add((unit + 32) * sizes.record * WIDTH)
            } else {
                records_before.wrapping_add((unit - block * 32) * sizes.record * WIDTH)
            };
            for line in 0..4 * sizes.record {
                lanes::ahead(next.wrapping_add(16 * line));
            }
            if cell == CellKind::Lstm {
                // And c of the step before, which this step needs first.
                let c = records_before.wrapping_add((unit + 32) * sizes.record * WIDTH + 2 * WIDTH);
                for i in 0..2 {
                    lanes::ahead(c.wrapping_add(i * sizes.record * WIDTH));
                    lanes::ahead(c.wrapping_add(i * sizes.record * WIDTH + 16));
                }
            }
            // d of the four gate rows (of the one, in slot 0), of two units, in two vectors.
            let mut d = [[[splat(0.0); 2]; 4]; 2];
            for i in 0..2 {
                let unit = unit + i;
                for v in 0..2 {
                    let lane = 16 * v;
                    let at = unit * WIDTH + lane;
                    let record = records.add(unit * sizes.record * WIDTH + lane);
                    let mut from_next = splat(0.0);
                    if !last {
                        from_next = load(sums.add((unit % 32) * WIDTH + lane));
                        if cell == CellKind::Gru {
                            from_next = add(from_next, load(direct.add(at)));
                        }
                        if cut {
                            from_next = mul(from_next, load(keep_next.add(lane)));
                        }
                    }
                    let dh = add(from_next, load(dx.add(at)));
                    match cell {
                        CellKind::Lstm => {
                            let (if_, go) = (load(record), load(record.add(WIDTH)));
                            let (in_, forget, cell, out) = (low(if_), high(if_), low(go), high(go));
                            let tanh_c = math::tanh::<Avx512>(load(record.add(2 * WIDTH)));
                            let c_prev = if t == 0 {
                                load(c_before.add(at))
                            } else {
                                load(records_before.add((unit * sizes.record + 2) * WIDTH + lane))
                            };
                            let dh_out = mul(dh, out);
                            let dc_now = add(load(dc.add(at)), less(mul(dh_out, tanh_c), tanh_c, dh_out));
                            let mut d_forget = mul(mul(dc_now, c_prev), less(forget, forget, forget));
                            let mut dc_prev = mul(dc_now, forget);
                            if here_reset {
                                let keep = load(keep_here.add(lane));
                                d_forget = mul(d_forget, keep);
                                dc_prev = mul(dc_prev, keep);
                            }
                            store(dc.add(at), dc_prev);
                            d[i][0][v] = mul(mul(dc_now, cell), less(in_, in_, in_));
                            d[i][1][v] = d_forget;
                            d[i][2][v] = mul(mul(dc_now, in_), less(cell, cell, one));
                            d[i][3][v] = mul(mul(dh_out, tanh_c), sub(one, out));
                        }
                        CellKind::Gru => {
                            let rz = load(record);
                            let (reset, update) = (low(rz), high(rz));
                            let (new, recurrent) = (load(record.add(WIDTH)), load(record.add(2 * WIDTH)));
                            let d_new = mul(less(dh, update, dh), less(new, new, one));
                            let difference = sub(load(h_before.add(at)), new);
                            store(direct.add(at), mul(dh, update));
                            d[i][0][v] = mul(mul(d_new, recurrent), less(reset, reset, reset));
                            d[i][1][v] = mul(mul(dh, difference), less(update, update, update));
                            d[i][2][v] = mul(d_new, reset);
                            d[i][3][v] = d_new;
                        }
                        CellKind::Rnn => {
                            let h = load(h_after.add(at));
                            d[i][0][v] = fma(mul(dh, h), sub(splat(0.0), h), dh);
                        }
                    }
                }
            }
            // The records of these units are dead: their gradients take the place of records already used.
            if sizes.slots == 4 {
                for i in 0..2 {
                    let unit = unit + i;
                    for two in 0..2 {
                        let (a, b) = (d[i][2 * two], d[i][2 * two + 1]);
                        let to = gates.add((unit * 2 + two) * WIDTH);
                        store(to, pair(a[0], b[0]));
                        store(to.add(16), pair(a[1], b[1]));
                        let to = streams.wrapping_add((unit * 4 + 2 * two) * 16);
                        store(to, lanes::row(a[0], a[1]));
                        store(to.add(16), lanes::row(b[0], b[1]));
                    }
                }
            } else {
                let (a, b) = (d[0][0], d[1][0]);
                let to = gates.add(unit / 2 * WIDTH);
                store(to, pair(a[0], b[0]));
                store(to.add(16), pair(a[1], b[1]));
                let to = streams.wrapping_add(unit * 16);
                store(to, lanes::row(a[0], a[1]));
                store(to.add(16), lanes::row(b[0], b[1]));
            }
        }
    }
}
