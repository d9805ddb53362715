//! The head of one slice: logits, softmax, cross-entropy, d(logits), and what flows into the top layer.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::super::forward::{Part, Pass};
use super::super::head::mask_of;
use super::super::math::exp;
use super::super::simd::Avx512;
use super::backward::into_layer;
use super::lanes::{self, add, load, mul, pair, splat, store, sub};
use super::products::{Product, TILE, Tiles};
use super::{Sizes, Slice, Space, WIDTH, Weights};
use crate::engine::IGNORE;
use std::arch::x86_64::_mm512_max_ps;

/// Logits of step `t` into `to` [classes][W].
#[inline(always)]
pub unsafe fn logits<P: Product>(pass: &Pass, weights: &Weights, space: &Space, t: usize, to: *mut f32) {
    let sizes = Sizes::new(pass.geo);
    let (operand, slot) = space.output(pass.geo.shape.layers - 1, t);
    let h = operand.pairs.ptr().add(slot * sizes.pairs()).cast::<u32>();
    let depth = sizes.units / 32;
    for block in 0..sizes.classes / 32 {
        let out = to.add(block * 32 * WIDTH);
        let w = weights.head.ptr().cast::<u32>().add(block * depth * TILE);
        P::block::<false>(out, WIDTH, Tiles::dense(w), Tiles::dense(h), depth);
        for i in 0..32 {
            let bias = splat(*weights.head_bias.ptr().add(block * 32 + i));
            for v in 0..2 {
                let at = out.add(i * WIDTH + 16 * v);
                store(at, add(load(at), bias));
            }
        }
    }
}

/// Loss of every position of the thread's steps into `slice.losses`; with `TRAIN` also the logits' gradients and the gradient
/// with respect to the top layer's output into `slice.dx`.
#[inline(always)]
pub unsafe fn losses<P: Product, const TRAIN: bool>(
    pass: &Pass,
    weights: &Weights,
    slice: &Slice,
    space: &Space,
    part: &Part,
) {
    let geo = pass.geo;
    let sizes = Sizes::new(geo);
    let vocab = geo.shape.vocab;
    let rows = geo.units * WIDTH;
    let z = part.room.map_or(&slice.logits, |room| &room.logits).shared();
    let pairs = part.room.map_or(&space.class_pairs, |room| &room.class_pairs).shared();
    for t in part.share(pass.steps) {
        let mut targets = [IGNORE; WIDTH];
        targets.copy_from_slice(&slice.targets[t * WIDTH..][..WIDTH]);
        if !TRAIN && targets.iter().all(|&target| target == IGNORE) {
            std::slice::from_raw_parts_mut(slice.losses.shared().add(t * WIDTH), WIDTH).fill(0.0);
            continue;
        }
        logits::<P>(pass, weights, space, t, z);
        let losses = std::slice::from_raw_parts_mut(slice.losses.shared().add(t * WIDTH), WIDTH);
        let (mut max, mut sum) = ([load(z), load(z.add(16))], [splat(0.0); 2]);
        for class in 1..vocab {
            for v in 0..2 {
                max[v] = _mm512_max_ps(max[v], load(z.add(class * WIDTH + 16 * v)));
            }
        }
        let mut maxima = [0.0f32; WIDTH];
        for v in 0..2 {
            store(maxima.as_mut_ptr().add(16 * v), max[v]);
        }
        // The targets' logits, before exponentials overwrite them.
        for (lane, &target) in targets.iter().enumerate() {
            losses[lane] = match target {
                IGNORE => 0.0,
                _ => maxima[lane] - *z.add(usize::from(target) * WIDTH + lane),
            };
        }
        for class in 0..vocab {
            for v in 0..2 {
                let at = z.add(class * WIDTH + 16 * v);
                let e = exp::<Avx512>(sub(load(at), max[v]));
                sum[v] = add(sum[v], e);
                store(at, e);
            }
        }
        let (mut sums, mut scales) = ([0.0f32; WIDTH], [0.0f32; WIDTH]);
        for v in 0..2 {
            store(sums.as_mut_ptr().add(16 * v), sum[v]);
        }
        for (lane, &target) in targets.iter().enumerate() {
            if target != IGNORE {
                losses[lane] += sums[lane].ln();
                scales[lane] = pass.gradient_scale / sums[lane];
            }
        }
        if TRAIN {
            // (softmax - target) * scale, in the numerators' units until it is stored.
            for (lane, &target) in targets.iter().enumerate() {
                if target != IGNORE {
                    *z.add(usize::from(target) * WIDTH + lane) -= sums[lane];
                }
            }
            let scale = [load(scales.as_ptr()), load(scales.as_ptr().add(16))];
            let streams = space.class_streams.shared().add(t * sizes.classes * WIDTH / 2);
            for class in (0..vocab).step_by(2) {
                let mut d = [[splat(0.0); 2]; 2];
                for i in 0..2.min(vocab - class) {
                    for v in 0..2 {
                        d[i][v] = mul(load(z.add((class + i) * WIDTH + 16 * v)), scale[v]);
                    }
                }
                for v in 0..2 {
                    store(pairs.add(class / 2 * WIDTH + 16 * v), pair(d[0][v], d[1][v]));
                }
                for i in 0..2 {
                    store(streams.add((class + i) * 16), lanes::row(d[i][0], d[i][1]));
                }
            }
            into_layer::<P>(
                slice.dx.shared().add(t * rows),
                weights.head_back.ptr(),
                pairs,
                0..sizes.units / 32,
                sizes.classes / 32,
                mask_of(pass, slice, geo.shape.layers - 1, t, rows),
            );
        }
    }
}
