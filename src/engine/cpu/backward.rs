//! Back-propagation through time for one slice: per layer from the top, per step from the last.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::forward::{Part, Pass, Soon, product_asking};
use super::geometry::Geometry;
use super::head::{halves, into_layer, is_whole, mask_of, packed, tiles};
use super::math::stored;
use super::simd::Simd;
use super::space::Slice;
use crate::engine::Precision;
use crate::model::CellKind;

/// After the forward pass and the head with `TRAIN`: leaves the gate gradients of all layers as tiles.
///
/// # Safety
/// As `forward`; MR is the geometry's tile height, B = G.
#[inline(always)]
pub unsafe fn backward<S: Simd, const B: usize, const MR: usize, const HALF: usize, const NV: usize>(
    pass: &Pass,
    slice: &Slice,
    part: &Part,
) {
    let geo = pass.geo;
    let (hidden, width) = (geo.shape.hidden, slice.width);
    let (rows, panel) = (geo.units * width, geo.isa.panel());
    let gates = geo.gates * rows;
    let gru = geo.shape.cell == CellKind::Gru;
    let own = halves::<HALF>(part, hidden);
    let panels = part.share(geo.gate_panels());
    let columns = panels.start * panel..(panels.end * panel).min(B * hidden);
    for layer in (0..geo.shape.layers).rev() {
        if slice.dc.len() > 0 {
            std::slice::from_raw_parts_mut(slice.dc.shared().add(own.start * width), own.len() * width)
                .fill(0.0);
        }
        for t in (0..pass.steps).rev() {
            let now = t % 2 * gates;
            let step = Step::of(pass, slice, layer, t);
            let mut unit = own.start;
            while unit < own.end {
                if is_whole::<MR, HALF>(unit, own.end) {
                    units::<S, B, MR, MR, NV>(&step, unit);
                    unit += MR;
                } else {
                    units::<S, B, HALF, MR, NV>(&step, unit);
                    unit += HALF;
                }
            }
            // The gradients of two steps lie beside each other, so that one meeting a step is enough.
            part.meet();
            let d_recurrent = slice.dg.ptr().add(now);
            let d_input = if gru { slice.dg_input.ptr().add(now) } else { d_recurrent };
            if layer > 0 {
                let mask = mask_of(pass, slice, layer - 1, t, rows);
                let weights = pass.weights.layers[layer].back_ih.ptr();
                into_layer::<S, MR, HALF, NV>(
                    slice.dx.shared().add(t * rows),
                    weights,
                    d_input,
                    B * hidden,
                    own.clone(),
                    mask,
                );
            }
            // The records of this step are dead: its tiles take their place.
            let to = slice.layers[layer].records.shared().add(t * slice.record_stride);
            tiles::<S>(to, d_recurrent, columns.clone(), width, panel);
            if gru {
                tiles::<S>(to.add(geo.gate_panels() * panel * width), d_input, columns.clone(), width, panel);
            }
        }
        // The next layer's last step may have the place of this one's first.
        part.meet();
    }
}

/// What one step of one layer reads and writes, rows of W.
struct Step<'a> {
    geo: &'a Geometry,
    precision: Precision,
    /// W_hh transposed.
    weights: *const f32,
    /// Whether no step follows, and whether there a tune starts.
    last: bool,
    cut: bool,
    /// Whether here a tune starts.
    here_reset: bool,
    first: bool,
    /// What is kept at the next step, and here.
    keep_next: *const f32,
    keep_here: *const f32,
    h_before: *const f32,
    h_after: *const f32,
    c_before: *const f32,
    records: *const f32,
    record_stride: usize,
    /// The gradient from above.
    dx: *const f32,
    /// Gate gradients of the next step, and of this one.
    next: *const f32,
    dg: *mut f32,
    dg_input: *mut f32,
    direct: *mut f32,
    dc: *mut f32,
}

impl<'a> Step<'a> {
    /// Step `t` of a layer.
    #[inline(always)]
    unsafe fn of(pass: &'a Pass, slice: &Slice, layer: usize, t: usize) -> Step<'a> {
        let geo = pass.geo;
        let width = slice.width;
        let rows = geo.units * width;
        let gates = geo.gates * rows;
        let last = t + 1 == pass.steps;
        let space = &slice.layers[layer];
        Step {
            geo,
            precision: pass.precision,
            weights: pass.weights.layers[layer].back_hh.ptr(),
            last,
            cut: !last && slice.any_reset[t + 1],
            here_reset: slice.any_reset[t],
            first: t == 0,
            keep_next: slice.keep.ptr().wrapping_add((t + 1) * width),
            keep_here: slice.keep.ptr().add(t * width),
            h_before: slice.h_before(rows, layer, t),
            h_after: space.h.ptr().add((t + 1) * rows),
            c_before: space.c_before.ptr(),
            records: space.records.ptr().add(t * slice.record_stride),
            record_stride: slice.record_stride,
            dx: slice.dx.ptr().add(t * rows),
            next: slice.dg.ptr().wrapping_add((t + 1) % 2 * gates),
            dg: slice.dg.shared().wrapping_add(t % 2 * gates),
            dg_input: slice.dg_input.shared().wrapping_add(t % 2 * gates),
            direct: slice.direct.shared(),
            dc: slice.dc.shared(),
        }
    }
}

/// R units from `first_unit` on: d h from above and from the next step, then the cell. MR is what weights are packed in.
#[inline(always)]
unsafe fn units<S: Simd, const B: usize, const R: usize, const MR: usize, const NV: usize>(
    step: &Step,
    first_unit: usize,
) {
    let geo = step.geo;
    let (hidden, width) = (geo.shape.hidden, NV * S::LANES);
    let gru = geo.shape.cell == CellKind::Gru;
    let one = S::splat(1.0);
    let mut acc = [[[S::splat(0.0); NV]; 1]; R];
    if !step.last {
        if gru {
            for i in 0..R {
                for v in 0..NV {
                    acc[i][0][v] = S::load(step.direct.add((first_unit + i) * width + v * S::LANES));
                }
            }
        }
        // The next units'; after the last ones those of the step before. Gradient tiles will take their place.
        let soon = if first_unit + R < hidden {
            step.records.wrapping_add((first_unit + R) * geo.record * width)
        } else {
            step.records.wrapping_sub(step.record_stride)
        };
        let turns = MR * geo.record * width / 16;
        let soon = Soon { written: soon, read: soon, turns };
        let w = step.weights.add(packed::<MR>(first_unit, B * hidden));
        product_asking::<S, R, 1, NV>(&mut acc, w, MR, step.next, B * hidden, soon);
        if step.cut {
            for i in 0..R {
                for v in 0..NV {
                    acc[i][0][v] = S::mul(acc[i][0][v], S::load(step.keep_next.add(v * S::LANES)));
                }
            }
        }
    }
    for i in 0..R {
        let unit = first_unit + i;
        let record = step.records.add(unit * geo.record * width);
        for v in 0..NV {
            let lane = v * S::LANES;
            let at = unit * width + lane;
            let dh = S::add(acc[i][0][v], S::load(step.dx.add(at)));
            let gate = step.dg.add(unit * B * width + lane);
            match geo.shape.cell {
                CellKind::Lstm => {
                    let in_ = S::load(record.add(lane));
                    let forget = S::load(record.add(width + lane));
                    let cell = S::load(record.add(2 * width + lane));
                    let out = S::load(record.add(3 * width + lane));
                    let tanh_c = S::load(record.add(5 * width + lane));
                    let c_prev = if step.first {
                        S::load(step.c_before.add(at))
                    } else {
                        S::load(record.wrapping_sub(step.record_stride).add(4 * width + lane))
                    };
                    let d_tanh = S::sub(one, S::mul(tanh_c, tanh_c));
                    let dc_now = S::fma(S::mul(dh, out), d_tanh, S::load(step.dc.add(at)));
                    let mut d_forget = S::mul(S::mul(dc_now, c_prev), S::mul(forget, S::sub(one, forget)));
                    let mut dc_prev = S::mul(dc_now, forget);
                    if step.here_reset {
                        let keep = S::load(step.keep_here.add(lane));
                        d_forget = S::mul(d_forget, keep);
                        dc_prev = S::mul(dc_prev, keep);
                    }
                    S::store(step.dc.add(at), dc_prev);
                    let d_in = S::mul(S::mul(dc_now, cell), S::mul(in_, S::sub(one, in_)));
                    let d_cell = S::mul(S::mul(dc_now, in_), S::sub(one, S::mul(cell, cell)));
                    let d_out = S::mul(S::mul(dh, tanh_c), S::mul(out, S::sub(one, out)));
                    S::store(gate, stored::<S>(step.precision, d_in));
                    S::store(gate.add(width), stored::<S>(step.precision, d_forget));
                    S::store(gate.add(2 * width), stored::<S>(step.precision, d_cell));
                    S::store(gate.add(3 * width), stored::<S>(step.precision, d_out));
                }
                CellKind::Gru => {
                    let reset = S::load(record.add(lane));
                    let update = S::load(record.add(width + lane));
                    let new = S::load(record.add(2 * width + lane));
                    let recurrent = S::load(record.add(3 * width + lane));
                    let d_new = S::mul(S::mul(dh, S::sub(one, update)), S::sub(one, S::mul(new, new)));
                    let difference = S::sub(S::load(step.h_before.add(at)), new);
                    let d_update = S::mul(S::mul(dh, difference), S::mul(update, S::sub(one, update)));
                    let d_reset = S::mul(S::mul(d_new, recurrent), S::mul(reset, S::sub(one, reset)));
                    S::store(step.direct.add(at), S::mul(dh, update));
                    let d_reset = stored::<S>(step.precision, d_reset);
                    let d_update = stored::<S>(step.precision, d_update);
                    S::store(gate, d_reset);
                    S::store(gate.add(width), d_update);
                    S::store(gate.add(2 * width), stored::<S>(step.precision, S::mul(d_new, reset)));
                    let gate = step.dg_input.add(unit * B * width + lane);
                    S::store(gate, d_reset);
                    S::store(gate.add(width), d_update);
                    S::store(gate.add(2 * width), stored::<S>(step.precision, d_new));
                }
                CellKind::Rnn => {
                    let h = S::load(step.h_after.add(at));
                    let d = S::mul(dh, S::sub(one, S::mul(h, h)));
                    S::store(gate, stored::<S>(step.precision, d));
                }
            }
        }
    }
}
