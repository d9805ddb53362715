//! The forward pass of one thread: its parts of one layer over all steps, meeting the others once a step.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `kernels.rs`.

use super::super::forward::Dropout;
use super::super::math::{sigmoid, stored, tanh};
use super::super::simd::Simd;
use super::super::team::Meeting;
use super::kernels::product;
use super::plan::Plan;
use super::space::{LayerSpace, Space};
use super::store::Store;
use super::update::Rule;
use crate::engine::Precision;
use crate::model::CellKind;
use crate::rng;

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Forward, loss, backward, gradients, and the update if there is one.
    Train,
    /// Forward, and the gradients of the recurrent layers' weights from the gradient of their output that is there.
    Layers,
    /// Forward and loss.
    Evaluate,
    /// Forward, and the logits of the last step.
    Logits,
    /// Forward alone.
    States,
}

/// One chunk's work, shared by the members of a team.
///
/// Members write to the buffers behind `space` and `store` through [`Buffer::shared`](super::super::buffer::Buffer):
/// each to its own units' columns, or its own rows, and read others' only behind a barrier or a published point.
#[derive(Clone, Copy)]
pub struct Run<'a> {
    /// Sizes and places.
    pub plan: &'a Plan,
    /// Weights.
    pub store: &'a Store,
    /// Activations.
    pub space: &'a Space,
    /// Where members meet.
    pub meeting: &'a Meeting,
    /// Storage precision.
    pub precision: Precision,
    /// What is to be done.
    pub work: Work,
    /// Dropout, where there is any.
    pub dropout: Option<Dropout>,
    /// What d(mean loss)/d(logit) is scaled by.
    pub gradient_scale: f32,
    /// What sums of weight gradients are multiplied by: undoes the loss scale.
    pub unscale: f32,
    /// The update, and when it is done.
    pub rule: Option<Rule>,
}

impl Run<'_> {
    /// Row `r` of the output of a layer, after dropout.
    pub fn output(&self, layer: usize, r: usize) -> *const f32 {
        let space = &self.space.layers[layer];
        let (from, row) =
            if self.dropout.is_some() { (&space.dropped, r) } else { (&space.h, r + self.space.streams) };
        // SAFETY: both have room for every row of the chunk.
        unsafe { from.ptr().add(row * self.plan.stride) }
    }

    /// Rows of the chunk.
    pub fn rows(&self) -> usize {
        self.space.now * self.space.streams
    }
}

/// Calls `$body` for rows `$from..$to` in bundles of 4, 2 and 1, with `$r` the first and `NB` the bundle's size.
macro_rules! bundles {
    ($from:expr, $to:expr, $r:ident, $body:block) => {{
        let mut $r = $from;
        let to = $to;
        while $r + 4 <= to {
            const NB: usize = 4;
            $body
            $r += 4;
        }
        if $r + 2 <= to {
            const NB: usize = 2;
            $body
            $r += 2;
        }
        if $r < to {
            const NB: usize = 1;
            $body
        }
    }};
}
pub(super) use bundles;

/// The input's part of all pre-activations of the member's parts: a row of the table, or a product with the layer below.
#[inline(always)]
unsafe fn inputs<S: Simd>(run: &Run, member: usize, layer: usize) {
    let (plan, space) = (run.plan, run.space);
    let bias = space.work().bias.shared();
    let weights = run.store.weights();
    let params = run.store.params.ptr();
    let gates = space.layers[layer].gates.shared();
    for part in plan.share(member, run.meeting.members) {
        let (at, first) = (plan.places[layer][part], plan.part_column(part));
        let columns = plan.part_columns(part);
        for column in (0..columns).step_by(S::LANES) {
            let mut joined = S::load(params.add(at.bias + column));
            let gate = column / S::LANES % plan.gates;
            if plan.shape.cell == CellKind::Gru && gate < 2 {
                joined = S::add(joined, S::load(params.add(at.recurrent_bias + column)));
            }
            S::store(bias.add(first + column), joined);
        }
        let bias = bias.add(first);
        if layer == 0 {
            for r in 0..run.rows() {
                let table = weights.add(at.input + space.ids[r] as usize * columns);
                let to = gates.add(r * plan.columns + first);
                for column in (0..columns).step_by(S::LANES) {
                    let sum = S::add(S::load(table.add(column)), S::load(bias.add(column)));
                    S::store(to.add(column), sum);
                }
            }
        } else {
            let w = weights.add(at.input);
            bundles!(0, run.rows(), r, {
                let mut out = [gates; NB];
                let mut x = [bias.cast_const(); NB];
                for b in 0..NB {
                    out[b] = gates.add((r + b) * plan.columns + first);
                    x[b] = run.output(layer - 1, r + b);
                }
                let vectors = columns / S::LANES;
                let n = plan.shape.hidden;
                product::<S, NB>(out, [bias.cast_const(); NB], x, w, columns, vectors, n);
            });
        }
    }
}

/// One layer over all steps, the member's units of it.
///
/// # Safety
/// The machine has S's instructions; store and space were made for the plan; the layer below is done.
#[inline(always)]
pub unsafe fn layer<S: Simd>(run: &Run, member: usize, layer: usize) {
    inputs::<S>(run, member, layer);
    let (plan, space, streams) = (run.plan, run.space, run.space.streams);
    let members = run.meeting.members;
    let here = &space.layers[layer];
    let (h, gates, sums) = (here.h.shared(), here.gates.shared(), space.work().sums.shared());
    let params = run.store.params.ptr();
    let gru = plan.shape.cell == CellKind::Gru;
    for t in 0..space.now {
        let point = layer * space.now + t;
        for other in 0..members {
            // The others' units of h are needed one by one: their sums go on where these ended, k ascending.
            if other != member && t > 0 {
                run.meeting.wait(other, point);
            }
            let units = plan.units_of(other, members);
            let from = units.start;
            let n = units.end.min(plan.shape.hidden).saturating_sub(from);
            for part in plan.share(member, members) {
                let (at, first) = (plan.places[layer][part], plan.part_column(part));
                let columns = plan.part_columns(part);
                let w = run.store.weights().add(at.recurrent + from * columns);
                if gru && other == 0 {
                    // A GRU's n keeps its input part aside while the recurrent part is summed.
                    for b in 0..streams {
                        let (to, row) =
                            (sums.add(b * plan.columns + first), (t * streams + b) * plan.columns);
                        for column in (0..columns).step_by(S::LANES) {
                            let aside = column / S::LANES % plan.gates == 2;
                            let init = if aside {
                                params.add(at.recurrent_bias + column)
                            } else {
                                gates.add(row + first + column).cast_const()
                            };
                            S::store(to.add(column), S::load(init));
                        }
                    }
                }
                bundles!(0, streams, b, {
                    let mut out = [sums; NB];
                    let mut init = [sums.cast_const(); NB];
                    let mut x = [h.cast_const(); NB];
                    for i in 0..NB {
                        let r = t * streams + b + i;
                        out[i] = sums.add((b + i) * plan.columns + first);
                        init[i] = if other == 0 && !gru {
                            gates.add(r * plan.columns + first)
                        } else {
                            out[i].cast_const()
                        };
                        x[i] = h.add(space.before[r] as usize * plan.stride + from).cast_const();
                    }
                    product::<S, NB>(out, init, x, w, columns, columns / S::LANES, n);
                });
            }
        }
        for part in plan.share(member, members) {
            let part = plan.parts[part];
            for b in 0..streams {
                for group in part.group..part.group + part.groups {
                    cell::<S>(run, here, t * streams + b, b, group);
                }
            }
        }
        if let Some(dropout) = run.dropout {
            drop_output(run, member, layer, t, dropout);
        }
        run.meeting.publish(member, point + 1);
    }
}

/// The cell of one group of units at row `r`, stream `b`.
#[inline(always)]
unsafe fn cell<S: Simd>(run: &Run, here: &LayerSpace, r: usize, b: usize, group: usize) {
    let (plan, space, precision) = (run.plan, run.space, run.precision);
    let unit = group * S::LANES;
    let column = unit * plan.gates;
    let sums = space.work().sums.ptr().add(b * plan.columns + column);
    let gates = here.gates.shared().add(r * plan.columns + column);
    let extra = here.extra.shared().wrapping_add(r * plan.units + unit);
    let (before, after) = (space.before[r] as usize, r + space.streams);
    let new_h = match plan.shape.cell {
        CellKind::Lstm => {
            let in_ = stored::<S>(precision, sigmoid::<S>(S::load(sums)));
            let forget = stored::<S>(precision, sigmoid::<S>(S::load(sums.add(S::LANES))));
            let cell = stored::<S>(precision, tanh::<S>(S::load(sums.add(2 * S::LANES))));
            let out = stored::<S>(precision, sigmoid::<S>(S::load(sums.add(3 * S::LANES))));
            let c = S::load(here.c.ptr().add(before * plan.units + unit));
            let c_new = S::fma(forget, c, S::mul(in_, cell));
            let tanh_c = tanh::<S>(c_new);
            S::store(here.c.shared().add(after * plan.units + unit), c_new);
            S::store(gates, in_);
            S::store(gates.add(S::LANES), forget);
            S::store(gates.add(2 * S::LANES), cell);
            S::store(gates.add(3 * S::LANES), out);
            S::store(extra, tanh_c);
            S::mul(out, tanh_c)
        }
        CellKind::Gru => {
            let reset = stored::<S>(precision, sigmoid::<S>(S::load(sums)));
            let update = stored::<S>(precision, sigmoid::<S>(S::load(sums.add(S::LANES))));
            let recurrent = S::load(sums.add(2 * S::LANES));
            let input = S::load(gates.add(2 * S::LANES));
            let new = stored::<S>(precision, tanh::<S>(S::fma(reset, recurrent, input)));
            S::store(gates, reset);
            S::store(gates.add(S::LANES), update);
            S::store(gates.add(2 * S::LANES), new);
            S::store(extra, recurrent);
            let h = S::load(here.h.ptr().add(before * plan.stride + unit));
            S::fma(update, S::sub(h, new), new)
        }
        CellKind::Rnn => tanh::<S>(S::load(sums)),
    };
    S::store(here.h.shared().add(after * plan.stride + unit), stored::<S>(precision, new_h));
}

/// Draws the masks of one step's outputs, the member's units of them, and applies them.
unsafe fn drop_output(run: &Run, member: usize, layer: usize, t: usize, dropout: Dropout) {
    let (plan, space) = (run.plan, run.space);
    let threshold = rng::dropout_threshold(dropout.p);
    let scale = 1.0 / (1.0 - dropout.p);
    let time = dropout.time.wrapping_add(t as u32);
    let here = &space.layers[layer];
    let units = plan.units_of(member, run.meeting.members);
    for stream in 0..space.streams {
        let r = t * space.streams + stream;
        let h = here.h.ptr().add((r + space.streams) * plan.stride);
        let (mask, out) =
            (here.mask.shared().add(r * plan.stride), here.dropped.shared().add(r * plan.stride));
        for quad in units.start / 4..units.end / 4 {
            let words = rng::dropout_words(dropout.seed, layer as u32, time, stream as u32, quad as u32);
            for (i, word) in words.into_iter().enumerate() {
                let unit = 4 * quad + i;
                let keep = if word >= threshold { scale } else { 0.0 };
                *mask.add(unit) = keep;
                *out.add(unit) = *h.add(unit) * keep;
            }
        }
    }
}
