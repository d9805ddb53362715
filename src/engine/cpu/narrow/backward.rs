//! Back-propagation through time of one thread: its parts of one layer, meeting the others once a step; then what flows
//! into the layer below.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `kernels.rs`.

use super::super::math::stored;
use super::super::simd::Simd;
use super::forward::{Run, bundles};
use super::head::{into_layer, share};
use super::kernels::dots;
use crate::model::CellKind;

/// One layer, the member's units: gate gradients in the place of the gates.
///
/// # Safety
/// As `forward::layer`; `dx` holds the gradient of the layer's output.
#[inline(always)]
pub unsafe fn layer<S: Simd>(run: &Run, member: usize, layer: usize) {
    let (plan, space, streams) = (run.plan, run.space, run.space.streams);
    let members = run.meeting.members;
    let work = space.work();
    let parts = plan.parts.len();
    let units = plan.units_of(member, members);
    let gru = plan.shape.cell == CellKind::Gru;
    // Points go on where the forward pass of the last layer ended.
    let start = (2 * plan.shape.layers - 1 - layer) * space.now;
    if plan.shape.cell == CellKind::Lstm {
        for b in 0..streams {
            std::ptr::write_bytes(work.dc.shared().add(b * plan.units + units.start), 0, units.len());
        }
    }
    for t in (0..space.now).rev() {
        let last = t + 1 == space.now;
        if !last {
            for other in 0..members {
                if other != member {
                    run.meeting.wait(other, start + space.now - t - 1);
                }
            }
        }
        for b in 0..streams {
            let r = t * streams + b;
            let flows = !last && !space.resets[r + streams];
            for unit in units.clone().step_by(S::LANES) {
                let mut dh = S::load(work.dx.ptr().add(r * plan.stride + unit));
                if flows {
                    if gru {
                        dh = S::add(dh, S::load(work.direct.ptr().add(b * plan.units + unit)));
                    }
                    for part in 0..parts {
                        dh = S::add(dh, S::load(partial(run, t + 1, b, part).add(unit)));
                    }
                }
                cell::<S>(run, layer, r, b, unit, dh);
            }
        }
        if t > 0 {
            // The others' units first, so that they need not wait for this member's own.
            flow::<S>(run, member, layer, t, 0, units.start);
            flow::<S>(run, member, layer, t, units.end, plan.units);
            run.meeting.publish(member, start + space.now - t);
            flow::<S>(run, member, layer, t, units.start, units.end);
        }
    }
}

/// Where a part's share of the gradient of h[t-1] of a stream is kept.
unsafe fn partial(run: &Run, t: usize, b: usize, part: usize) -> *mut f32 {
    let (plan, streams) = (run.plan, run.space.streams);
    let at = ((t % 2 * streams + b) * plan.parts.len() + part) * plan.stride;
    run.space.work().partial.shared().add(at)
}

/// The member's parts' share of what flows from step `t` to units `from..to` of the step before.
#[inline(always)]
unsafe fn flow<S: Simd>(run: &Run, member: usize, layer: usize, t: usize, from: usize, to: usize) {
    let (plan, streams) = (run.plan, run.space.streams);
    let rows = to.min(plan.shape.hidden.next_multiple_of(8)).saturating_sub(from);
    let here = &run.space.layers[layer];
    let gru = plan.shape.cell == CellKind::Gru;
    let dg = if gru { here.recurrent.ptr() } else { here.gates.ptr() };
    for part in plan.share(member, run.meeting.members) {
        let (at, first) = (plan.places[layer][part], plan.part_column(part));
        let columns = plan.part_columns(part);
        let w = run.store.weights().add(at.recurrent + from * columns);
        bundles!(0, streams, b, {
            let mut out = [std::ptr::null_mut(); NB];
            let mut d = [dg; NB];
            for i in 0..NB {
                out[i] = partial(run, t, b + i, part).add(from);
                d[i] = dg.add((t * streams + b + i) * plan.columns + first);
            }
            match NB {
                1 => dots::<S, NB, 8>(out, false, d, w, columns, columns / S::LANES, rows),
                _ => dots::<S, NB, 4>(out, false, d, w, columns, columns / S::LANES, rows),
            }
        });
    }
}

/// The cell's derivative for one vector of units at row `r`, stream `b`.
#[inline(always)]
unsafe fn cell<S: Simd>(run: &Run, layer: usize, r: usize, b: usize, unit: usize, dh: S::V) {
    let (plan, space, precision) = (run.plan, run.space, run.precision);
    let (work, here) = (space.work(), &space.layers[layer]);
    let gate = here.gates.shared().add(r * plan.columns + unit * plan.gates);
    let extra = here.extra.ptr().wrapping_add(r * plan.units + unit);
    let before = space.before[r] as usize;
    let one = S::splat(1.0);
    match plan.shape.cell {
        CellKind::Lstm => {
            let in_ = S::load(gate);
            let forget = S::load(gate.add(S::LANES));
            let cell = S::load(gate.add(2 * S::LANES));
            let out = S::load(gate.add(3 * S::LANES));
            let tanh_c = S::load(extra);
            let c_prev = S::load(here.c.ptr().add(before * plan.units + unit));
            let dc = work.dc.shared().add(b * plan.units + unit);
            let d_tanh = S::sub(one, S::mul(tanh_c, tanh_c));
            let dc_now = S::fma(S::mul(dh, out), d_tanh, S::load(dc));
            // Where a tune starts, the state before it is zero and nothing flows back to it.
            let dc_prev = if space.resets[r] { S::splat(0.0) } else { S::mul(dc_now, forget) };
            S::store(dc, dc_prev);
            let d_forget = S::mul(S::mul(dc_now, c_prev), S::mul(forget, S::sub(one, forget)));
            let d_in = S::mul(S::mul(dc_now, cell), S::mul(in_, S::sub(one, in_)));
            let d_cell = S::mul(S::mul(dc_now, in_), S::sub(one, S::mul(cell, cell)));
            let d_out = S::mul(S::mul(dh, tanh_c), S::mul(out, S::sub(one, out)));
            S::store(gate, stored::<S>(precision, d_in));
            S::store(gate.add(S::LANES), stored::<S>(precision, d_forget));
            S::store(gate.add(2 * S::LANES), stored::<S>(precision, d_cell));
            S::store(gate.add(3 * S::LANES), stored::<S>(precision, d_out));
        }
        CellKind::Gru => {
            let reset = S::load(gate);
            let update = S::load(gate.add(S::LANES));
            let new = S::load(gate.add(2 * S::LANES));
            let recurrent = S::load(extra);
            let h_before = S::load(here.h.ptr().add(before * plan.stride + unit));
            let d_new = S::mul(S::mul(dh, S::sub(one, update)), S::sub(one, S::mul(new, new)));
            let d_update = S::mul(S::mul(dh, S::sub(h_before, new)), S::mul(update, S::sub(one, update)));
            let d_reset = S::mul(S::mul(d_new, recurrent), S::mul(reset, S::sub(one, reset)));
            S::store(work.direct.shared().add(b * plan.units + unit), S::mul(dh, update));
            let d_reset = stored::<S>(precision, d_reset);
            let d_update = stored::<S>(precision, d_update);
            S::store(gate, d_reset);
            S::store(gate.add(S::LANES), d_update);
            S::store(gate.add(2 * S::LANES), stored::<S>(precision, d_new));
            let gate = here.recurrent.shared().add(r * plan.columns + unit * plan.gates);
            S::store(gate, d_reset);
            S::store(gate.add(S::LANES), d_update);
            S::store(gate.add(2 * S::LANES), stored::<S>(precision, S::mul(d_new, reset)));
        }
        CellKind::Rnn => {
            let h = S::load(here.h.ptr().add((r + space.streams) * plan.stride + unit));
            S::store(gate, stored::<S>(precision, S::mul(dh, S::sub(one, S::mul(h, h)))));
        }
    }
}

/// The gradient with respect to the output of the layer below `layer`, the member's rows of it.
///
/// # Safety
/// As [`layer`](fn@layer), which all members have done.
#[inline(always)]
pub unsafe fn below<S: Simd>(run: &Run, member: usize, layer: usize) {
    let plan = run.plan;
    let dg = run.space.layers[layer].gates.ptr();
    let share = share(run.rows(), member, run.meeting.members);
    let parts = plan.parts.len();
    bundles!(share.start, share.end, r, {
        for part in 0..parts {
            let (at, first) = (plan.places[layer][part], plan.part_column(part));
            let columns = plan.part_columns(part);
            let mut d = [dg; NB];
            for b in 0..NB {
                d[b] = dg.add((r + b) * plan.columns + first);
            }
            let w = run.store.weights().add(at.input);
            let vectors = columns / S::LANES;
            into_layer::<S, NB>(run, layer - 1, r, d, w, columns, vectors, part == 0, part + 1 == parts);
        }
    });
}
