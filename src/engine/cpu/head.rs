//! The head of one slice: logits, softmax, cross-entropy, d(logits), and what flows into the top layer.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use std::ops::Range;

use super::forward::{Part, Pass, product};
use super::math::exp;
use super::simd::Simd;
use super::space::Slice;
use crate::engine::IGNORE;

/// Logits of step `t` into `out` [classes][W].
///
/// # Safety
/// As `forward`; MR is the geometry's tile height; the forward pass of step `t` is done.
#[inline(always)]
pub unsafe fn logits<S: Simd, const MR: usize, const NV: usize>(
    pass: &Pass,
    slice: &Slice,
    t: usize,
    out: *mut f32,
) {
    let geo = pass.geo;
    let rows = geo.units * slice.width;
    let x = slice.output(rows, geo.shape.layers - 1, t);
    for block in 0..geo.shape.vocab.div_ceil(MR) {
        let mut acc = [[[S::splat(0.0); NV]; 1]; MR];
        for i in 0..MR {
            let bias = S::splat(*pass.weights.head_bias.ptr().add(block * MR + i));
            for v in 0..NV {
                acc[i][0][v] = bias;
            }
        }
        product::<S, MR, 1, NV>(
            &mut acc,
            pass.weights.head.ptr().add(block * MR * geo.shape.hidden),
            MR,
            x,
            geo.shape.hidden,
        );
        for i in 0..MR {
            for v in 0..NV {
                S::store(out.add((block * MR + i) * slice.width + v * S::LANES), acc[i][0][v]);
            }
        }
    }
}

/// Loss of every position of the thread's steps into `slice.losses`; with `TRAIN` also the logits' gradient tiles and the
/// gradient with respect to the top layer's state into `slice.dx`.
///
/// # Safety
/// As [`logits`], for all steps.
#[inline(always)]
pub unsafe fn losses<S: Simd, const MR: usize, const HALF: usize, const NV: usize, const TRAIN: bool>(
    pass: &Pass,
    slice: &Slice,
    part: &Part,
) {
    let geo = pass.geo;
    let (width, vocab) = (slice.width, geo.shape.vocab);
    let panel = geo.isa.panel();
    let tile_step = geo.class_panels() * panel * width;
    let rows = geo.units * width;
    let z = part.room.map_or(&slice.logits, |room| &room.logits).shared();
    let losses = slice.losses.shared();
    for t in part.share(pass.steps) {
        let targets = &slice.targets[t * width..][..width];
        if !TRAIN && targets.iter().all(|&target| target == IGNORE) {
            std::slice::from_raw_parts_mut(losses.add(t * width), width).fill(0.0);
            continue;
        }
        logits::<S, MR, NV>(pass, slice, t, z);
        for v in 0..NV {
            let lane = v * S::LANES;
            let mut max = S::load(z.add(lane));
            for class in 1..vocab {
                max = S::max(max, S::load(z.add(class * width + lane)));
            }
            // The targets' logits, before exponentials overwrite them.
            let mut maxima = [0.0f32; 16];
            S::store(maxima.as_mut_ptr(), max);
            for i in 0..S::LANES {
                let target = slice.targets[t * width + lane + i];
                *losses.add(t * width + lane + i) = if target == IGNORE {
                    0.0
                } else {
                    maxima[i] - *z.add(usize::from(target) * width + lane + i)
                };
            }
            let mut sum = S::splat(0.0);
            for class in 0..vocab {
                let at = z.add(class * width + lane);
                let e = exp::<S>(S::sub(S::load(at), max));
                sum = S::add(sum, e);
                if TRAIN {
                    S::store(at, e);
                }
            }
            let mut sums = [0.0f32; 16];
            S::store(sums.as_mut_ptr(), sum);
            let mut scales = [0.0f32; 16];
            for i in 0..S::LANES {
                if slice.targets[t * width + lane + i] != IGNORE {
                    *losses.add(t * width + lane + i) += sums[i].ln();
                    scales[i] = pass.gradient_scale / sums[i];
                }
            }
            if TRAIN {
                let scale = S::load(scales.as_ptr());
                for class in 0..vocab {
                    let at = z.add(class * width + lane);
                    S::store(at, S::mul(S::load(at), scale));
                }
                for i in 0..S::LANES {
                    let target = slice.targets[t * width + lane + i];
                    if target != IGNORE {
                        *z.add(usize::from(target) * width + lane + i) -= pass.gradient_scale;
                    }
                }
            }
        }
        if TRAIN {
            tiles::<S>(slice.class_tiles.shared().add(t * tile_step), z, 0..vocab, width, panel);
            into_layer::<S, MR, HALF, NV>(
                slice.dx.shared().add(t * rows),
                pass.weights.head_back.ptr(),
                z,
                vocab,
                0..geo.shape.hidden,
                mask_of(pass, slice, geo.shape.layers - 1, t, rows),
            );
        }
    }
}

/// The dropout mask of a layer's output at a step, or null without dropout.
pub fn mask_of(pass: &Pass, slice: &Slice, layer: usize, t: usize, rows: usize) -> *const f32 {
    match pass.dropout {
        Some(_) => slice.layers[layer].mask.as_slice()[t * rows..].as_ptr(),
        None => std::ptr::null(),
    }
}

/// out[unit] = mask[unit] * sum over j of w[j][unit] * d[j]: a gradient on its way into the layer below.
/// `w` is packed [unit block][depth][MR]; `d` is [depth][W]; `out` and `mask` are [units][W], of which `units` are done.
///
/// # Safety
/// As `forward`.
#[inline(always)]
pub unsafe fn into_layer<S: Simd, const MR: usize, const HALF: usize, const NV: usize>(
    out: *mut f32,
    w: *const f32,
    d: *const f32,
    depth: usize,
    units: Range<usize>,
    mask: *const f32,
) {
    let mut unit = units.start;
    while unit < units.end {
        let w = w.add(packed::<MR>(unit, depth));
        if is_whole::<MR, HALF>(unit, units.end) {
            into_units::<S, MR, NV>(out, w, MR, d, depth, unit, mask);
            unit += MR;
        } else {
            into_units::<S, HALF, NV>(out, w, MR, d, depth, unit, mask);
            unit += HALF;
        }
    }
}

/// A thread's share of units in products by tiles of MR or HALF rows.
#[inline(always)]
pub fn halves<const HALF: usize>(part: &Part, hidden: usize) -> Range<usize> {
    let halves = part.share(hidden.div_ceil(HALF));
    halves.start * HALF..(halves.end * HALF).min(hidden)
}

/// Whether the next tile from `unit` on is a whole one: a share may begin and end within a packed block.
#[inline(always)]
pub fn is_whole<const MR: usize, const HALF: usize>(unit: usize, end: usize) -> bool {
    unit.is_multiple_of(MR) && unit + HALF < end
}

/// Where the weights of `unit` are in blocks [depth][MR].
#[inline(always)]
pub fn packed<const MR: usize>(unit: usize, depth: usize) -> usize {
    unit / MR * MR * depth + unit % MR
}

/// Of R units from `unit` on.
#[inline(always)]
unsafe fn into_units<S: Simd, const R: usize, const NV: usize>(
    out: *mut f32,
    w: *const f32,
    stride: usize,
    d: *const f32,
    depth: usize,
    unit: usize,
    mask: *const f32,
) {
    let width = NV * S::LANES;
    let mut acc = [[[S::splat(0.0); NV]; 1]; R];
    product::<S, R, 1, NV>(&mut acc, w, stride, d, depth);
    for i in 0..R {
        for v in 0..NV {
            let at = (unit + i) * width + v * S::LANES;
            let value =
                if mask.is_null() { acc[i][0][v] } else { S::mul(acc[i][0][v], S::load(mask.add(at))) };
            S::store(out.add(at), value);
        }
    }
}

/// Some of the rows [n][W], from a panel's first on, as tiles [panel][W][PW], the operand of the weight gradients.
/// Columns beyond `n` in the last panel hold whatever lies behind the rows; nobody reads the gradients they lead to.
///
/// # Safety
/// `rows` is readable, and `to` writable, up to the next multiple of `panel` rows.
#[inline(always)]
pub unsafe fn tiles<S: Simd>(to: *mut f32, rows: *const f32, n: Range<usize>, width: usize, panel: usize) {
    for j in n.step_by(8) {
        let tile = to.add(j / panel * panel * width + j % panel);
        for lane in (0..width).step_by(8) {
            S::transpose8(rows.add(j * width + lane), width, tile.add(lane * panel), panel);
        }
    }
}
