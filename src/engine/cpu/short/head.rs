//! The head of one slice: logits, softmax, cross-entropy, d(logits), and what flows into the top layer.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::super::forward::{Part, Pass};
use super::super::head::mask_of;
use super::backward::into_layer;
use super::beside::OutputPairs;
use super::lanes::{add, load, splat, store};
use super::products::{Between, Pairs, Pieces, Product, ROW, Spread, TILE, Tiles};
use super::softmax::Softmax;
use super::{Sizes, Slice, Space, Weights};
use crate::engine::IGNORE;

/// Logits of step `t` without bias into `to` [classes][32], from the top layer's output as pairs.
#[inline(always)]
unsafe fn products<P: Product>(
    sizes: &Sizes,
    weights: &Weights,
    h: *const u32,
    to: *mut f32,
    between: &mut impl Between,
) {
    let depth = sizes.units / 32;
    for block in 0..sizes.classes / 32 {
        let w = weights.head.ptr().cast::<u32>().add(block * depth * P::PARTS * TILE);
        let pairs = Pairs { a: Tiles::dense::<P>(w), b: Tiles::columns::<P>(h), n: depth };
        let out = to.add(block * 32 * ROW);
        P::sums::<false>(out, ROW, [pairs, Pairs::NONE], between);
    }
}

/// The top layer's output at a step of bf16, as pairs.
unsafe fn top(pass: &Pass, sizes: &Sizes, space: &Space, t: usize) -> *const u32 {
    let (operand, slot) = space.output(pass.geo.shape.layers - 1, t);
    operand.pairs.ptr().add(slot * sizes.pairs()).cast()
}

/// Logits of step `t` into `to` [classes][W]; of bf16.
#[inline(always)]
pub unsafe fn logits<P: Product>(pass: &Pass, weights: &Weights, space: &Space, t: usize, to: *mut f32) {
    let sizes = Sizes::of::<P>(pass.geo);
    products::<P>(&sizes, weights, top(pass, &sizes, space, t), to, &mut ());
    for class in 0..sizes.classes {
        let bias = splat(*weights.head_bias.ptr().add(class));
        for v in 0..P::VECTORS {
            let at = to.add(class * P::WIDTH + 16 * v);
            store(at, add(load(at), bias));
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
    let sizes = Sizes::of::<P>(pass.geo);
    let z = part.room.map_or(&slice.logits, |room| &room.logits).shared();
    let pairs = part.room.map_or(&space.class_pairs, |room| &room.class_pairs).shared();
    if P::PARTS > 1 {
        return overlapped::<P>(pass, weights, slice, space, part);
    }
    for t in part.share(pass.steps) {
        let targets = &slice.targets[t * P::WIDTH..][..P::WIDTH];
        if !TRAIN && targets.iter().all(|&target| target == IGNORE) {
            std::slice::from_raw_parts_mut(slice.losses.shared().add(t * P::WIDTH), P::WIDTH).fill(0.0);
            continue;
        }
        products::<P>(&sizes, weights, top(pass, &sizes, space, t), z, &mut ());
        let mut softmax = Softmax::<P>::new(pass, weights, slice, space, (z, pairs), t);
        softmax.all::<TRAIN>();
        if TRAIN {
            into_top::<P>(pass, &sizes, weights, slice, pairs, t, &mut ());
        }
    }
}

/// The gradient on its way into the top layer.
#[inline(always)]
unsafe fn into_top<P: Product>(
    pass: &Pass,
    sizes: &Sizes,
    weights: &Weights,
    slice: &Slice,
    pairs: *const f32,
    t: usize,
    between: &mut impl Between,
) {
    let rows = sizes.state;
    let mask = mask_of(pass, slice, pass.geo.shape.layers - 1, t, rows);
    let to = slice.dx.shared().add(t * rows);
    let (units, depth) = (0..sizes.units / 32, sizes.classes / 32);
    into_layer::<P>(to, weights.head_back.ptr(), pairs, units, depth, mask, between);
}

/// Training where numbers have parts: what is no product is done beside the products of other steps.
#[inline(always)]
unsafe fn overlapped<P: Product>(pass: &Pass, weights: &Weights, slice: &Slice, space: &Space, part: &Part) {
    let sizes = Sizes::of::<P>(pass.geo);
    let z = part.room.map_or(&slice.logits, |room| &room.logits).shared();
    let z = [z, z.wrapping_add(slice.logits.len() / 2)];
    let pairs = part.room.map_or(&space.class_pairs, |room| &room.class_pairs).shared();
    let input = part.room.map_or(&space.input, |room| &room.input).shared();
    let steps = part.share(pass.steps);
    let layer = pass.geo.shape.layers - 1;
    let tiles = sizes.units / 32 * (sizes.classes / 32);
    if steps.is_empty() {
        return;
    }
    OutputPairs::<P>::new(&sizes, slice, layer, steps.start, input).all();
    let softmax = |t: usize| Softmax::<P>::new(pass, weights, slice, space, (z[t % 2], pairs), t);
    for t in steps.clone() {
        // The logits of this step, beside the softmax of the one before.
        if t == steps.start {
            products::<P>(&sizes, weights, input.cast(), z[t % 2], &mut ());
        } else {
            let mut before = softmax(t - 1);
            let mut before = Spread::over::<P>(&mut before, tiles);
            products::<P>(&sizes, weights, input.cast(), z[t % 2], &mut before);
        }
        // What the one before sends down, beside the next one's pairs.
        let next = (t + 1).min(steps.end - 1);
        let mut next = OutputPairs::<P>::new(&sizes, slice, layer, next, input);
        if t == steps.start {
            next.all();
        } else {
            let mut next = Spread::over::<P>(&mut next, tiles);
            into_top::<P>(pass, &sizes, weights, slice, pairs, t - 1, &mut next);
        }
    }
    let last = steps.end - 1;
    softmax(last).all::<true>();
    into_top::<P>(pass, &sizes, weights, slice, pairs, last, &mut ());
}
