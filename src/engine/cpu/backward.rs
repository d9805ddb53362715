//! Back-propagation through time for one slice: per layer from the top, per step from the last.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::forward::{Pass, Soon, product_asking};
use super::head::{into_layer, mask_of, tiles};
use super::math::stored;
use super::simd::Simd;
use super::space::Slice;
use crate::model::CellKind;

/// After the forward pass and the head with `TRAIN`: leaves the gate gradients of all layers as tiles.
///
/// # Safety
/// As `forward`; MR is the geometry's tile height, B = G.
#[inline(always)]
pub unsafe fn backward<S: Simd, const B: usize, const MR: usize, const NV: usize>(
    pass: &Pass,
    slice: &mut Slice,
) {
    let geo = pass.geo;
    let (hidden, width) = (geo.shape.hidden, slice.width);
    let (rows, panel) = (geo.units * width, geo.isa.panel());
    let gates = geo.gates * rows;
    let gru = geo.shape.cell == CellKind::Gru;
    for layer in (0..geo.shape.layers).rev() {
        slice.dc.as_mut_slice().fill(0.0);
        for t in (0..pass.steps).rev() {
            let (now, next) = (t % 2 * gates, (t + 1) % 2 * gates);
            step::<S, B, MR, NV>(pass, slice, layer, t, slice.dg.ptr().wrapping_add(next), now);
            let d_recurrent = slice.dg.ptr().add(now);
            let d_input = if gru { slice.dg_input.ptr() } else { d_recurrent };
            if layer > 0 {
                let mask = mask_of(pass, slice, layer - 1, t, rows);
                let weights = pass.weights.layers[layer].back_ih.ptr();
                into_layer::<S, MR, NV>(
                    slice.dx.ptr_mut().add(t * rows),
                    weights,
                    d_input,
                    B * hidden,
                    hidden,
                    mask,
                );
            }
            // The records of this step are dead: its tiles take their place.
            let to = slice.layers[layer].records.ptr_mut().add(t * slice.record_stride);
            tiles::<S>(to, d_recurrent, B * hidden, width, panel);
            if gru {
                tiles::<S>(to.add(geo.gate_panels() * panel * width), d_input, B * hidden, width, panel);
            }
        }
    }
}

/// One step of one layer: d h from above and from the next step, then the cell. `next` are the gate gradients of step
/// t+1; those of step t are written to `slice.dg` at offset `now`.
#[inline(always)]
unsafe fn step<S: Simd, const B: usize, const MR: usize, const NV: usize>(
    pass: &Pass,
    slice: &mut Slice,
    layer: usize,
    t: usize,
    next: *const f32,
    now: usize,
) {
    let geo = pass.geo;
    let (hidden, width) = (geo.shape.hidden, slice.width);
    let rows = geo.units * width;
    let gru = geo.shape.cell == CellKind::Gru;
    let last = t + 1 == pass.steps;
    let cut = !last && slice.any_reset[t + 1];
    let keep_next = slice.keep.ptr().wrapping_add((t + 1) * width);
    let here_reset = slice.any_reset[t];
    let keep_here = slice.keep.ptr().add(t * width);
    let h_before = slice.h_before(rows, layer, t).as_ptr();
    let h_after = slice.layers[layer].h.ptr().add((t + 1) * rows);
    let records = slice.layers[layer].records.ptr().add(t * slice.record_stride);
    let c_before = slice.layers[layer].c_before.ptr();
    let records_before =
        slice.layers[layer].records.ptr().wrapping_add(t.wrapping_sub(1).wrapping_mul(slice.record_stride));
    let weights = pass.weights.layers[layer].back_hh.ptr();
    let dx = slice.dx.ptr().add(t * rows);
    let dg = slice.dg.ptr_mut().add(now);
    let dg_input = slice.dg_input.ptr_mut();
    let direct = slice.direct.ptr_mut();
    let dc = slice.dc.ptr_mut();
    let one = S::splat(1.0);
    for block in 0..hidden.div_ceil(MR) {
        let mut acc = [[[S::splat(0.0); NV]; 1]; MR];
        if !last {
            if gru {
                for i in 0..MR {
                    for v in 0..NV {
                        acc[i][0][v] = S::load(direct.add((block * MR + i) * width + v * S::LANES));
                    }
                }
            }
            // The next block's; after the last one those of the step before.
            let soon = if (block + 1) * MR < hidden {
                records.wrapping_add((block + 1) * MR * geo.record * width)
            } else {
                records.wrapping_sub(slice.record_stride)
            };
            let lines = MR * geo.record * width / 16;
            let w = weights.add(block * MR * B * hidden);
            // Gradient tiles will take their place.
            let soon = Soon { written: soon, read: soon, turns: lines };
            product_asking::<S, MR, 1, NV>(&mut acc, w, next, B * hidden, soon);
            if cut {
                for i in 0..MR {
                    for v in 0..NV {
                        acc[i][0][v] = S::mul(acc[i][0][v], S::load(keep_next.add(v * S::LANES)));
                    }
                }
            }
        }
        for i in 0..MR {
            let unit = block * MR + i;
            let record = records.add(unit * geo.record * width);
            for v in 0..NV {
                let lane = v * S::LANES;
                let at = unit * width + lane;
                let dh = S::add(acc[i][0][v], S::load(dx.add(at)));
                let gate = dg.add(unit * B * width + lane);
                match geo.shape.cell {
                    CellKind::Lstm => {
                        let in_ = S::load(record.add(lane));
                        let forget = S::load(record.add(width + lane));
                        let cell = S::load(record.add(2 * width + lane));
                        let out = S::load(record.add(3 * width + lane));
                        let tanh_c = S::load(record.add(5 * width + lane));
                        let c_prev = if t == 0 {
                            S::load(c_before.add(at))
                        } else {
                            S::load(records_before.add((unit * geo.record + 4) * width + lane))
                        };
                        let d_tanh = S::sub(one, S::mul(tanh_c, tanh_c));
                        let dc_now = S::fma(S::mul(dh, out), d_tanh, S::load(dc.add(at)));
                        let mut d_forget =
                            S::mul(S::mul(dc_now, c_prev), S::mul(forget, S::sub(one, forget)));
                        let mut dc_prev = S::mul(dc_now, forget);
                        if here_reset {
                            let keep = S::load(keep_here.add(lane));
                            d_forget = S::mul(d_forget, keep);
                            dc_prev = S::mul(dc_prev, keep);
                        }
                        S::store(dc.add(at), dc_prev);
                        let d_in = S::mul(S::mul(dc_now, cell), S::mul(in_, S::sub(one, in_)));
                        let d_cell = S::mul(S::mul(dc_now, in_), S::sub(one, S::mul(cell, cell)));
                        let d_out = S::mul(S::mul(dh, tanh_c), S::mul(out, S::sub(one, out)));
                        S::store(gate, stored::<S>(pass.precision, d_in));
                        S::store(gate.add(width), stored::<S>(pass.precision, d_forget));
                        S::store(gate.add(2 * width), stored::<S>(pass.precision, d_cell));
                        S::store(gate.add(3 * width), stored::<S>(pass.precision, d_out));
                    }
                    CellKind::Gru => {
                        let reset = S::load(record.add(lane));
                        let update = S::load(record.add(width + lane));
                        let new = S::load(record.add(2 * width + lane));
                        let recurrent = S::load(record.add(3 * width + lane));
                        let d_new = S::mul(S::mul(dh, S::sub(one, update)), S::sub(one, S::mul(new, new)));
                        let difference = S::sub(S::load(h_before.add(at)), new);
                        let d_update = S::mul(S::mul(dh, difference), S::mul(update, S::sub(one, update)));
                        let d_reset = S::mul(S::mul(d_new, recurrent), S::mul(reset, S::sub(one, reset)));
                        S::store(direct.add(at), S::mul(dh, update));
                        let d_reset = stored::<S>(pass.precision, d_reset);
                        let d_update = stored::<S>(pass.precision, d_update);
                        S::store(gate, d_reset);
                        S::store(gate.add(width), d_update);
                        S::store(gate.add(2 * width), stored::<S>(pass.precision, S::mul(d_new, reset)));
                        let gate = dg_input.add(unit * B * width + lane);
                        S::store(gate, d_reset);
                        S::store(gate.add(width), d_update);
                        S::store(gate.add(2 * width), stored::<S>(pass.precision, d_new));
                    }
                    CellKind::Rnn => {
                        let h = S::load(h_after.add(at));
                        let d = S::mul(dh, S::sub(one, S::mul(h, h)));
                        S::store(gate, stored::<S>(pass.precision, d));
                    }
                }
            }
        }
    }
}
