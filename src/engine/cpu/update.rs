//! The optimiser step over the arena in fixed blocks: unscale and clip, update, in one pass.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::simd::Simd;
use crate::engine::Hyper;
use crate::optim::Optimizer;

/// Elements a block: what one task updates, and what one partial sum of the norm covers. Fixed, so that the norm
/// does not depend on the number of threads.
pub const BLOCK: usize = 8192;

/// The sum of a block's squares, in f64. Sixteen sums run beside each other: one would wait for every addition.
pub fn sum_of_squares(block: &[f32]) -> f64 {
    let (groups, rest) = block.as_chunks::<16>();
    let mut sums = [0.0f64; 16];
    for group in groups {
        for (sum, &x) in sums.iter_mut().zip(group) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    for (sum, &x) in sums.iter_mut().zip(rest) {
        *sum += f64::from(x) * f64::from(x);
    }
    sums.iter().sum()
}

/// The constants of one update, worked out in f64 once a step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The optimiser.
    pub optimizer: Optimizer,
    /// What gradients are multiplied by: the clipping factor.
    pub factor: f32,
    /// Learning rate; for Adam lr / (1 - beta1^t).
    pub rate: f32,
    /// For Adam 1 / sqrt(1 - beta2^t).
    pub root: f32,
    /// Added to the gradient times the parameter (L2).
    pub decay: f32,
    /// What parameters are multiplied by first (decoupled decay).
    pub shrink: f32,
}

impl Step {
    /// Constants of update number `update` (from 1).
    pub fn new(hyper: &Hyper, factor: f32, update: u64) -> Step {
        let t = update as f64;
        let lr = f64::from(hyper.lr);
        let decay = f64::from(hyper.weight_decay);
        let (rate, root) = match hyper.optimizer {
            Optimizer::Adam { beta1, beta2, .. } | Optimizer::AdamW { beta1, beta2, .. } => {
                (lr / (1.0 - f64::from(beta1).powf(t)), 1.0 / (1.0 - f64::from(beta2).powf(t)).sqrt())
            }
            _ => (lr, 1.0),
        };
        let decoupled = matches!(hyper.optimizer, Optimizer::AdamW { .. });
        Step {
            optimizer: hyper.optimizer,
            factor,
            rate: rate as f32,
            root: root as f32,
            decay: if decoupled { 0.0 } else { hyper.weight_decay },
            shrink: if decoupled { (1.0 - lr * decay) as f32 } else { 1.0 },
        }
    }
}

/// Updates `n` elements; the pointers are to parameters, gradients and both moments.
///
/// # Safety
/// The machine has S's instructions; `n` elements are readable and writable behind each pointer.
#[inline(always)]
pub unsafe fn apply<S: Simd>(
    step: &Step,
    p: *mut f32,
    g: *const f32,
    first: *mut f32,
    second: *mut f32,
    n: usize,
) {
    let whole = n / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        vector::<S>(step, p.add(i), g.add(i), first.add(i), second.add(i));
    }
    if whole < n {
        // The tail through a padded copy: the same arithmetic for every element.
        let mut tail = [[0.0f32; 16]; 4];
        let rest = n - whole;
        for (copy, from) in tail.iter_mut().zip([p.cast_const(), g, first.cast_const(), second.cast_const()])
        {
            std::ptr::copy_nonoverlapping(from.add(whole), copy.as_mut_ptr(), rest);
        }
        let [tp, tg, tf, ts] = &mut tail;
        vector::<S>(step, tp.as_mut_ptr(), tg.as_ptr(), tf.as_mut_ptr(), ts.as_mut_ptr());
        for (copy, to) in [(&*tp, p), (&*tf, first), (&*ts, second)] {
            std::ptr::copy_nonoverlapping(copy.as_ptr(), to.add(whole), rest);
        }
    }
}

#[inline(always)]
unsafe fn vector<S: Simd>(step: &Step, p: *mut f32, g: *const f32, first: *mut f32, second: *mut f32) {
    let shrunk = S::mul(S::load(p), S::splat(step.shrink));
    let g = S::fma(shrunk, S::splat(step.decay), S::mul(S::load(g), S::splat(step.factor)));
    let rate = S::splat(-step.rate);
    let (m, v) = (S::load(first), S::load(second));
    match step.optimizer {
        Optimizer::Adam { beta1, beta2, eps } | Optimizer::AdamW { beta1, beta2, eps } => {
            let m = S::fma(S::splat(beta1), m, S::mul(S::splat(1.0 - beta1), g));
            let v = S::fma(S::splat(beta2), v, S::mul(S::splat(1.0 - beta2), S::mul(g, g)));
            let denominator = S::fma(S::sqrt_near(v), S::splat(step.root), S::splat(eps));
            S::store(first, m);
            S::store(second, v);
            S::store(p, S::fma(rate, S::div_near(m, denominator), shrunk));
        }
        Optimizer::Sgd { momentum } => {
            let m = S::fma(S::splat(momentum), m, g);
            S::store(first, m);
            S::store(p, S::fma(rate, m, shrunk));
        }
        Optimizer::RmsProp { alpha, eps, momentum } => {
            let m = S::fma(S::splat(alpha), m, S::mul(S::splat(1.0 - alpha), S::mul(g, g)));
            let v = S::fma(S::splat(momentum), v, S::div_near(g, S::add(S::sqrt_near(m), S::splat(eps))));
            S::store(first, m);
            S::store(second, v);
            S::store(p, S::fma(rate, v, shrunk));
        }
    }
}
