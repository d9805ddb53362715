//! Weight gradients of one thread's parts, the norm's partial sums with them, and the update of the same parts.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `kernels.rs`.

use super::super::math::stored;
use super::super::simd::Simd;
use super::super::update::{Step, apply};
use super::forward::Run;
use super::kernels::{Rows, outer, sum_of};
use super::plan::BAND;
use crate::engine::{Hyper, Precision, Stats};

/// An update and the condition it stands under.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its constants.
    pub hyper: Hyper,
    /// Its number, from 1.
    pub update: u64,
    /// Whether it is done, given the chunk's loss and norm.
    pub accepts: fn(&Stats, &Hyper) -> bool,
}

/// What a chunk that was trained on gave. The same for whoever asks.
pub fn stats(run: &Run, loss_scale: f32) -> Stats {
    let targets = &run.space.targets[..run.rows()];
    let predicted = targets.iter().filter(|&&t| t != crate::engine::IGNORE).count() as u64;
    let grad_norm = run.store.norm() as f32;
    let stats = Stats { loss_sum: run.space.loss_sum(), predicted, grad_norm, updated: false, loss_scale };
    let updated = run.rule.is_some_and(|rule| (rule.accepts)(&stats, &rule.hyper));
    Stats { updated, ..stats }
}

/// Sums of `rows` over r into `g`, times `factor`; adds the squares to `squares`.
#[inline(always)]
unsafe fn total<S: Simd>(
    g: *mut f32,
    d: *const f32,
    stride: usize,
    count: usize,
    columns: usize,
    factor: f32,
    mut squares: S::V,
) -> S::V {
    for column in (0..columns).step_by(S::LANES) {
        let mut sum = S::splat(0.0);
        for r in 0..count {
            sum = S::add(sum, S::load(d.add(r * stride + column)));
        }
        sum = S::mul(sum, S::splat(factor));
        S::store(g.add(column), sum);
        squares = S::fma(sum, sum, squares);
    }
    squares
}

/// The gradients of the member's parts of a layer.
///
/// # Safety
/// As `backward::layer`, which this member has done for `layer`; gradients have been prepared.
#[inline(always)]
pub unsafe fn layer<S: Simd>(run: &Run, member: usize, layer: usize) {
    let (plan, space, store) = (run.plan, run.space, run.store);
    let here = &space.layers[layer];
    let (hidden, vocab, count) = (plan.shape.hidden, plan.shape.vocab, run.rows());
    let grads = store.grads.shared();
    let before_recurrent = if here.recurrent.len() > 0 { here.recurrent.ptr() } else { here.gates.ptr() };
    for part in plan.share(member, run.meeting.members) {
        let (at, first, columns) =
            (plan.places[layer][part], plan.part_column(part), plan.part_columns(part));
        let vectors = columns / S::LANES;
        let dg = here.gates.ptr().add(first);
        let recurrent = Rows {
            x: here.h.ptr(),
            x_stride: plan.stride,
            index: space.before.as_ptr(),
            d: before_recurrent.add(first),
            d_stride: plan.columns,
            count,
        };
        bands::<S>(
            run,
            grads.add(at.recurrent),
            columns,
            vectors,
            recurrent,
            0..bands_of(hidden),
            at.recurrent_squares,
        );
        if layer > 0 {
            let x = Rows { d: dg, ..outputs(run, layer - 1) };
            bands::<S>(run, grads.add(at.input), columns, vectors, x, 0..bands_of(hidden), at.input_squares);
        } else {
            for r in 0..count {
                let to = grads.add(at.input + space.ids[r] as usize * columns);
                let row = dg.add(r * plan.columns);
                for column in (0..columns).step_by(S::LANES) {
                    let d = S::mul(S::load(row.add(column)), S::splat(run.unscale));
                    let sum = if store.first[r] { d } else { S::add(S::load(to.add(column)), d) };
                    S::store(to.add(column), sum);
                }
            }
            for id in 0..vocab {
                let mut squares = S::splat(0.0);
                if store.seen[id] {
                    let row = grads.add(at.input + id * columns);
                    for column in (0..columns).step_by(S::LANES) {
                        let g = S::load(row.add(column));
                        squares = S::fma(g, g, squares);
                    }
                }
                store.set_square(at.input_squares + id, sum_of::<S>(squares));
            }
        }
        let (zero, factor) = (S::splat(0.0), run.unscale);
        let mut squares = total::<S>(grads.add(at.bias), dg, plan.columns, count, columns, factor, zero);
        if here.recurrent.len() > 0 {
            let d = here.recurrent.ptr().add(first);
            let to = grads.add(at.recurrent_bias);
            squares = total::<S>(to, d, plan.columns, count, columns, factor, squares);
        }
        store.set_square(at.bias_squares, sum_of::<S>(squares));
    }
}

fn bands_of(hidden: usize) -> usize {
    hidden.div_ceil(BAND)
}

/// The rows of a layer's output, after dropout, as the x of a gradient; d is left open.
unsafe fn outputs(run: &Run, layer: usize) -> Rows {
    let (here, space) = (&run.space.layers[layer], run.space);
    let (x, index) = if run.dropout.is_some() {
        (here.dropped.ptr(), space.plain.as_ptr())
    } else {
        (here.h.ptr(), space.after.as_ptr())
    };
    let (x_stride, d_stride) = (run.plan.stride, run.plan.columns);
    Rows { x, x_stride, index, d: std::ptr::null(), d_stride, count: run.rows() }
}

#[inline(always)]
unsafe fn bands<S: Simd>(
    run: &Run,
    g: *mut f32,
    columns: usize,
    vectors: usize,
    rows: Rows,
    which: std::ops::Range<usize>,
    squares: usize,
) {
    for band in which {
        let k = band * BAND;
        let used = BAND.min(run.plan.shape.hidden - k);
        let rows = Rows { x: rows.x.add(k), ..rows };
        let sum = outer::<S, BAND>(g.add(k * columns), columns, vectors, rows, run.unscale, used);
        run.store.set_square(squares + band, sum);
    }
}

/// The gradients of the member's share of the head.
///
/// # Safety
/// As `head::rows`, which all members have done.
#[inline(always)]
pub unsafe fn head<S: Simd>(run: &Run, member: usize) {
    let (plan, space) = (run.plan, run.space);
    let classes = plan.classes;
    let grads = run.store.grads.shared();
    let d = space.work().logits.ptr();
    let rows = Rows { d, d_stride: classes, ..outputs(run, plan.shape.layers - 1) };
    let share = head_share(run, member);
    let all = bands_of(plan.shape.hidden);
    bands::<S>(run, grads.add(plan.head), classes, classes / S::LANES, rows, share, plan.head_squares);
    if member + 1 == run.meeting.members {
        let to = grads.add(plan.head_bias);
        let squares = total::<S>(to, d, classes, run.rows(), classes, run.unscale, S::splat(0.0));
        run.store.set_square(plan.head_squares + all, sum_of::<S>(squares));
    }
}

/// The member's bands of the head's weights.
fn head_share(run: &Run, member: usize) -> std::ops::Range<usize> {
    let (all, members) = (bands_of(run.plan.shape.hidden), run.meeting.members);
    all * member / members..all * (member + 1) / members
}

/// Updates `n` parameters from `at` on, with the gradient at `g`; weights are rounded for the products.
#[inline(always)]
unsafe fn section<S: Simd>(run: &Run, step: &Step, at: usize, g: *const f32, n: usize) {
    let store = run.store;
    let [first, second] = &store.moments;
    let p = store.params.shared().add(at);
    apply::<S>(step, p, g, first.shared().add(at), second.shared().add(at), n);
    if run.precision != Precision::F32 {
        let short = store.short.shared().add(at);
        for i in (0..n).step_by(S::LANES) {
            S::store(short.add(i), stored::<S>(run.precision, S::load(p.add(i))));
        }
    }
}

/// Updates the member's parameters.
///
/// # Safety
/// As [`layer`](fn@layer) and [`head`], which all members have done, and nobody reads weights any more.
#[inline(always)]
pub unsafe fn update<S: Simd>(run: &Run, member: usize, step: &Step) {
    let (plan, store) = (run.plan, run.store);
    let hidden = plan.shape.hidden;
    let grads = store.grads.ptr();
    for layer in 0..plan.shape.layers {
        for part in plan.share(member, run.meeting.members) {
            let (at, columns) = (plan.places[layer][part], plan.part_columns(part));
            if layer > 0 {
                section::<S>(run, step, at.input, grads.add(at.input), hidden * columns);
            } else {
                for id in 0..plan.shape.vocab {
                    let place = at.input + id * columns;
                    let g = if store.seen[id] { grads.add(place) } else { store.zeros.ptr() };
                    section::<S>(run, step, place, g, columns);
                }
            }
            section::<S>(run, step, at.recurrent, grads.add(at.recurrent), hidden * columns);
            section::<S>(run, step, at.bias, grads.add(at.bias), columns);
            if store_has_recurrent_bias(run) {
                section::<S>(run, step, at.recurrent_bias, grads.add(at.recurrent_bias), columns);
            }
        }
    }
    let share = head_share(run, member);
    let (from, to) = (share.start * BAND, (share.end * BAND).min(hidden));
    let at = plan.head + from * plan.classes;
    section::<S>(run, step, at, grads.add(at), to.saturating_sub(from) * plan.classes);
    if member + 1 == run.meeting.members {
        section::<S>(run, step, plan.head_bias, grads.add(plan.head_bias), plan.classes);
    }
}

fn store_has_recurrent_bias(run: &Run) -> bool {
    run.plan.shape.cell.trains_recurrent_bias()
}
