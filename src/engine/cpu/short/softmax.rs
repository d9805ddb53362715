//! The softmax of one step: loss, and the logits' gradients; in small pieces, so that it can be done beside products.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::super::forward::Pass;
use super::super::math::exp;
use super::super::simd::Avx512;
use super::lanes::{V, add, load, mul, pair_at, parts, splat, store, store_pairs, store_row, sub, sum};
use super::products::{Pieces, Product, ROW};
use super::{Sizes, Slice, Space, Weights};
use crate::engine::IGNORE;
use std::arch::x86_64::_mm512_max_ps;
use std::marker::PhantomData;

/// Classes a piece.
const CLASSES: usize = 8;

/// One step's logits on their way to losses and gradients.
pub struct Softmax<'a, P> {
    slice: &'a Slice,
    bias: *const f32,
    /// Logits without bias, then their exponentials, then gradients [classes][32].
    z: *mut f32,
    /// Gradients as pairs of classes; rows for the weight gradients.
    pairs: *mut f32,
    rows: *mut f32,
    vocab: usize,
    t: usize,
    /// d(mean loss)/d(logit) is scaled by it.
    gradient_scale: f32,
    max: [V; 2],
    sum: [V; 2],
    scale: [V; 2],
    /// Which pass over the classes, and from which class on.
    pass: usize,
    class: usize,
    of: PhantomData<P>,
}

impl<'a, P: Product> Softmax<'a, P> {
    /// Of step `t`, whose logits are, or will be, in `z`.
    #[inline(always)]
    pub unsafe fn new(
        pass: &Pass,
        weights: &Weights,
        slice: &'a Slice,
        space: &Space,
        (z, pairs): (*mut f32, *mut f32),
        t: usize,
    ) -> Softmax<'a, P> {
        let geo = pass.geo;
        let sizes = Sizes::of::<P>(geo);
        let rows = space.class_streams.shared().wrapping_add(t * sizes.stream_classes());
        Softmax {
            slice,
            bias: weights.head_bias.ptr(),
            z,
            pairs,
            rows,
            vocab: geo.shape.vocab,
            t,
            gradient_scale: pass.gradient_scale,
            max: [splat(f32::NEG_INFINITY); 2],
            sum: [splat(0.0); 2],
            scale: [splat(0.0); 2],
            pass: 0,
            class: 0,
            of: PhantomData,
        }
    }

    /// All at once.
    #[inline(always)]
    pub unsafe fn all<const TRAIN: bool>(&mut self) {
        while self.pass < PASSES {
            self.some_classes::<TRAIN>();
        }
    }

    /// Some classes of a pass over them: the largest logit; exponentials and their sum; gradients.
    #[inline(always)]
    unsafe fn some_classes<const TRAIN: bool>(&mut self) {
        let (class, end) = (self.class, (self.class + CLASSES).min(self.vocab));
        match self.pass {
            0 => self.largest(class, end),
            1 => self.exponentials(class, end),
            2 if TRAIN => self.gradients(class, end),
            _ => {}
        }
        self.class = end;
        if end == self.vocab {
            match self.pass {
                0 => self.targets(),
                1 => self.losses::<TRAIN>(),
                _ => {}
            }
            (self.pass, self.class) = (self.pass + 1, 0);
        }
    }

    #[inline(always)]
    unsafe fn largest(&mut self, class: usize, end: usize) {
        for class in class..end {
            let bias = splat(*self.bias.add(class));
            for v in 0..P::VECTORS {
                let row = self.z.add(class * ROW);
                let z = add(sum::<P>(row, v), bias);
                store(row.add(16 * v), z);
                self.max[v] = _mm512_max_ps(self.max[v], z);
            }
        }
    }

    /// The targets' logits, before exponentials overwrite them.
    #[inline(always)]
    unsafe fn targets(&mut self) {
        let mut maxima = [0.0f32; 32];
        for v in 0..P::VECTORS {
            store(maxima.as_mut_ptr().add(16 * v), self.max[v]);
        }
        for (lane, &target) in self.slice.targets[self.t * P::WIDTH..][..P::WIDTH].iter().enumerate() {
            *self.slice.losses.shared().add(self.t * P::WIDTH + lane) = match target {
                IGNORE => 0.0,
                _ => maxima[lane] - *self.z.add(usize::from(target) * ROW + lane),
            };
        }
    }

    #[inline(always)]
    unsafe fn exponentials(&mut self, class: usize, end: usize) {
        for class in class..end {
            for v in 0..P::VECTORS {
                let at = self.z.add(class * ROW + 16 * v);
                let e = exp::<Avx512>(sub(load(at), self.max[v]));
                self.sum[v] = add(self.sum[v], e);
                store(at, e);
            }
        }
    }

    #[inline(always)]
    unsafe fn losses<const TRAIN: bool>(&mut self) {
        let (mut sums, mut scales) = ([0.0f32; 32], [0.0f32; 32]);
        for v in 0..P::VECTORS {
            store(sums.as_mut_ptr().add(16 * v), self.sum[v]);
        }
        for (lane, &target) in self.slice.targets[self.t * P::WIDTH..][..P::WIDTH].iter().enumerate() {
            if target == IGNORE {
                continue;
            }
            *self.slice.losses.shared().add(self.t * P::WIDTH + lane) += sums[lane].ln();
            scales[lane] = self.gradient_scale / sums[lane];
            if TRAIN {
                // (softmax - target) * scale, in the numerators' units until it is stored.
                *self.z.add(usize::from(target) * ROW + lane) -= sums[lane];
            }
        }
        self.scale = [load(scales.as_ptr()), load(scales.as_ptr().add(16))];
    }

    #[inline(always)]
    unsafe fn gradients(&mut self, class: usize, end: usize) {
        for class in (class..end).step_by(2) {
            let mut d = [[splat(0.0); 2]; 2];
            let n = 2.min(self.vocab - class);
            for i in 0..n {
                for v in 0..P::VECTORS {
                    d[i][v] = mul(load(self.z.add((class + i) * ROW + 16 * v)), self.scale[v]);
                }
            }
            for v in 0..P::VECTORS {
                let at = self.pairs.add(pair_at::<P>(class) + 16 * v);
                store_pairs::<P>(at, parts::<P>(d[0][v]), parts::<P>(d[1][v]));
            }
            for i in 0..2 {
                store_row::<P>(self.rows, class + i, d[i]);
            }
        }
    }

    /// The next piece; see [`super::beside::Beside`] for why it is a call.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
    unsafe fn next(&mut self) {
        self.some_classes::<true>();
    }
}

/// Passes over the classes.
const PASSES: usize = 3;

/// Where numbers have parts.
impl<P: Product> Pieces for Softmax<'_, P> {
    #[inline(always)]
    fn pieces(&self) -> usize {
        PASSES * self.vocab.div_ceil(CLASSES)
    }

    #[inline(always)]
    unsafe fn piece(&mut self) {
        self.next();
    }
}
