//! The head: logits, softmax, cross-entropy, d(logits), and what flows into the top layer; rows of the chunk are dealt to
//! threads in bundles of four.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `kernels.rs`.

use super::super::math::exp;
use super::super::simd::Simd;
use super::forward::{Run, Work, bundles};
use super::kernels::{dots, product};
use crate::engine::IGNORE;

/// The rows of `member`: whole bundles of four, but for the last.
pub fn share(rows: usize, member: usize, members: usize) -> std::ops::Range<usize> {
    let bundles = rows.div_ceil(4);
    (4 * (bundles * member / members)).min(rows)..(4 * (bundles * (member + 1) / members)).min(rows)
}

/// The member's rows.
///
/// # Safety
/// As `forward::layer`; all layers are done.
#[inline(always)]
pub unsafe fn rows<S: Simd>(run: &Run, member: usize) {
    let space = run.space;
    // Only the last step's are asked for.
    let first = if run.work == Work::Logits { run.rows() - space.streams } else { 0 };
    let share = share(run.rows() - first, member, run.meeting.members);
    let (from, to) = (first + share.start, first + share.end);
    bundles!(from, to, r, { bundle::<S, NB>(run, r) });
}

#[inline(always)]
unsafe fn bundle<S: Simd, const NB: usize>(run: &Run, r: usize) {
    let (plan, space) = (run.plan, run.space);
    let (hidden, classes, vocab) = (plan.shape.hidden, plan.classes, plan.shape.vocab);
    let work = space.work();
    let (logits, losses) = (work.logits.shared(), work.losses.shared());
    if run.work == Work::Evaluate && (r..r + NB).all(|r| space.targets[r] == IGNORE) {
        for b in 0..NB {
            *losses.add(r + b) = 0.0;
        }
        return;
    }
    let weights = run.store.weights().add(plan.head);
    let bias = run.store.params.ptr().add(plan.head_bias);
    let top = plan.shape.layers - 1;
    let mut z = [logits; NB];
    let mut x = [bias; NB];
    for b in 0..NB {
        z[b] = logits.add((r + b) * classes);
        x[b] = run.output(top, r + b);
    }
    product::<S, NB>(z, [bias; NB], x, weights, classes, classes / S::LANES, hidden);
    if run.work == Work::Logits {
        return;
    }
    let mut max = [0.0f32; NB];
    for b in 0..NB {
        for class in vocab..classes {
            *z[b].add(class) = f32::NEG_INFINITY;
        }
        let mut largest = S::load(z[b]);
        for at in (S::LANES..classes).step_by(S::LANES) {
            largest = S::max(largest, S::load(z[b].add(at)));
        }
        let mut lanes = [f32::NEG_INFINITY; 16];
        S::store(lanes.as_mut_ptr(), largest);
        max[b] = lanes[..S::LANES].iter().fold(f32::NEG_INFINITY, |a, &x| a.max(x));
        let target = space.targets[r + b];
        // The target's logit, before exponentials overwrite it.
        *losses.add(r + b) = if target == IGNORE { 0.0 } else { max[b] - *z[b].add(usize::from(target)) };
        for at in (0..classes).step_by(S::LANES) {
            let e = exp::<S>(S::sub(S::load(z[b].add(at)), S::splat(max[b])));
            S::store(z[b].add(at), e);
        }
    }
    // Class after class, as a slice of streams in lanes adds them up; the rows side by side.
    let mut sum = [0.0f32; NB];
    for class in 0..vocab {
        for b in 0..NB {
            sum[b] += *z[b].add(class);
        }
    }
    let train = run.work == Work::Train;
    for b in 0..NB {
        let target = space.targets[r + b];
        let mut scale = 0.0;
        if target != IGNORE {
            *losses.add(r + b) += sum[b].ln();
            scale = run.gradient_scale / sum[b];
        }
        if train {
            for at in (0..classes).step_by(S::LANES) {
                S::store(z[b].add(at), S::mul(S::load(z[b].add(at)), S::splat(scale)));
            }
            for class in vocab..classes {
                *z[b].add(class) = 0.0;
            }
            if target != IGNORE {
                *z[b].add(usize::from(target)) -= run.gradient_scale;
            }
        }
    }
    if train {
        let mut d = [bias; NB];
        for b in 0..NB {
            d[b] = z[b].cast_const();
        }
        into_layer::<S, NB>(run, top, r, d, weights, classes, classes / S::LANES, true, true);
    }
}

/// dx[r + b] = mask * ([dx[r + b] +] the product of `d` and `w`'s rows): a gradient on its way into layer `layer`. The
/// first of several parts starts the sum, the last applies the dropout mask.
///
/// # Safety
/// As [`rows`]; `w` has the plan's rows.
#[inline(always)]
pub unsafe fn into_layer<S: Simd, const NB: usize>(
    run: &Run,
    layer: usize,
    r: usize,
    d: [*const f32; NB],
    w: *const f32,
    stride: usize,
    vectors: usize,
    first: bool,
    last: bool,
) {
    let plan = run.plan;
    let dx = run.space.work().dx.shared();
    let mut out = [dx; NB];
    for b in 0..NB {
        out[b] = dx.add((r + b) * plan.stride);
    }
    let rows = plan.shape.hidden.next_multiple_of(8);
    match NB {
        1 => dots::<S, NB, 8>(out, !first, d, w, stride, vectors, rows),
        _ => dots::<S, NB, 4>(out, !first, d, w, stride, vectors, rows),
    }
    if last && run.dropout.is_some() {
        for b in 0..NB {
            let mask = run.space.layers[layer].mask.ptr().add((r + b) * plan.stride);
            for unit in (0..plan.units).step_by(S::LANES) {
                let at = out[b].add(unit);
                S::store(at, S::mul(S::load(at), S::load(mask.add(unit))));
            }
        }
    }
}
