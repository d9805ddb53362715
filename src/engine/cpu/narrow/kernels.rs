//! The three products of a matrix M [k][columns] whose columns lie in lanes: x M (forward), M d (backward), and the sum
//! of the outer products of x and d (gradient). Rows of x and d come in bundles of NB, so that a row of M is read
//! once a bundle.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `Simd`, and pointers into buffers sized by `Plan`, throughout.

use super::super::simd::Simd;

/// out[b][v] = init[b][v] + sum over k of x[b][k] * w[k][v], k ascending: the order, and so the bits, of
/// `forward::product`, however k is cut into calls.
#[inline(always)]
unsafe fn tile<S: Simd, const NV: usize, const NB: usize>(
    out: [*mut f32; NB],
    init: [*const f32; NB],
    x: [*const f32; NB],
    mut w: *const f32,
    stride: usize,
    n: usize,
) {
    let mut sum = [[S::splat(0.0); NV]; NB];
    for b in 0..NB {
        for v in 0..NV {
            sum[b][v] = S::load(init[b].add(v * S::LANES));
        }
    }
    for k in 0..n {
        let mut scale = [S::splat(0.0); NB];
        for b in 0..NB {
            scale[b] = S::splat(*x[b].add(k));
        }
        for v in 0..NV {
            let row = S::load(w.add(v * S::LANES));
            for b in 0..NB {
                sum[b][v] = S::fma(scale[b], row, sum[b][v]);
            }
        }
        w = w.add(stride);
    }
    for b in 0..NB {
        for v in 0..NV {
            S::store(out[b].add(v * S::LANES), sum[b][v]);
        }
    }
}

/// [`tile`] over all `vectors` columns, as many at once as there are registers.
///
/// # Safety
/// As the module's: pointers are good for `vectors` vectors, x for `n` elements, w for `n` rows of `stride`.
#[inline(always)]
pub unsafe fn product<S: Simd, const NB: usize>(
    out: [*mut f32; NB],
    init: [*const f32; NB],
    x: [*const f32; NB],
    w: *const f32,
    stride: usize,
    vectors: usize,
    n: usize,
) {
    let most = if S::LANES == 16 { 20 } else { 12 } / NB;
    let mut at = 0;
    while at < vectors {
        let left = vectors - at;
        let width = left.div_ceil(left.div_ceil(most));
        let offset = at * S::LANES;
        let mut to = out;
        let mut from = init;
        for b in 0..NB {
            to[b] = out[b].add(offset);
            from[b] = init[b].add(offset);
        }
        let w = w.add(offset);
        macro_rules! widths {
            ($($nv:literal)+) => {
                match width {
                    $($nv if $nv * NB <= 20 => tile::<S, $nv, NB>(to, from, x, w, stride, n),)+
                    _ => unreachable!("no product is {width} vectors wide"),
                }
            };
        }
        widths!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20);
        at += width;
    }
}

/// out[b][k] = [out[b][k] +] sum over columns of d[b][column] * w[k][column], for `rows` rows, a multiple of 8.
/// NB * KR is 8 or 16: sums of lanes are taken eight at a time.
#[inline(always)]
pub unsafe fn dots<S: Simd, const NB: usize, const KR: usize>(
    out: [*mut f32; NB],
    add: bool,
    d: [*const f32; NB],
    w: *const f32,
    stride: usize,
    vectors: usize,
    rows: usize,
) {
    for k in (0..rows).step_by(KR) {
        let mut sum = [[S::splat(0.0); KR]; NB];
        let w = w.add(k * stride);
        for v in 0..vectors {
            let at = v * S::LANES;
            let mut row = [S::splat(0.0); KR];
            for i in 0..KR {
                row[i] = S::load(w.add(i * stride + at));
            }
            for b in 0..NB {
                let d = S::load(d[b].add(at));
                for i in 0..KR {
                    sum[b][i] = S::fma(d, row[i], sum[b][i]);
                }
            }
        }
        for first in (0..NB * KR).step_by(8) {
            let mut eight = [S::splat(0.0); 8];
            for i in 0..8 {
                eight[i] = sum[(first + i) / KR][(first + i) % KR];
            }
            let mut sums = [0.0f32; 8];
            S::sums8(&eight, sums.as_mut_ptr());
            for part in (0..8).step_by(KR) {
                let to = out[(first + part) / KR].add(k);
                for i in 0..KR {
                    let sum = sums[part + i];
                    *to.add(i) = if add { *to.add(i) + sum } else { sum };
                }
            }
        }
    }
}

/// Which rows are multiplied in a gradient: row `r` of x is `x + index[r] * x_stride`, of d `d + r * d_stride`.
#[derive(Debug, Clone, Copy)]
pub struct Rows {
    /// First row of x.
    pub x: *const f32,
    /// Elements a row.
    pub x_stride: usize,
    /// Which row of x goes with row r of d.
    pub index: *const u32,
    /// First row of d.
    pub d: *const f32,
    /// Elements a row.
    pub d_stride: usize,
    /// How many.
    pub count: usize,
}

/// g[k][v] = factor * sum over r of x[r][k] * d[r][v] for KR rows k and NV vectors; gives their squares' sum, a vector.
#[inline(always)]
unsafe fn outer_tile<S: Simd, const KR: usize, const NV: usize>(
    g: *mut f32,
    stride: usize,
    rows: Rows,
    factor: S::V,
    squares: S::V,
    used: usize,
) -> S::V {
    let mut sum = [[S::splat(0.0); NV]; KR];
    let mut d = rows.d;
    for r in 0..rows.count {
        let x = rows.x.add(*rows.index.add(r) as usize * rows.x_stride);
        let mut row = [S::splat(0.0); NV];
        for v in 0..NV {
            row[v] = S::load(d.add(v * S::LANES));
        }
        for i in 0..KR {
            let scale = S::splat(*x.add(i));
            for v in 0..NV {
                sum[i][v] = S::fma(scale, row[v], sum[i][v]);
            }
        }
        d = d.add(rows.d_stride);
    }
    let mut squares = squares;
    for i in 0..KR {
        for v in 0..NV {
            sum[i][v] = S::mul(sum[i][v], factor);
        }
    }
    for i in 0..KR {
        if i < used {
            for v in 0..NV {
                S::store(g.add(i * stride + v * S::LANES), sum[i][v]);
                squares = S::fma(sum[i][v], sum[i][v], squares);
            }
        }
    }
    squares
}

/// The gradient of `used` of KR rows of a matrix, `vectors` wide; gives the sum of their squares.
///
/// # Safety
/// As the module's; x is readable for KR elements a row.
#[inline(always)]
pub unsafe fn outer<S: Simd, const KR: usize>(
    g: *mut f32,
    stride: usize,
    vectors: usize,
    rows: Rows,
    factor: f32,
    used: usize,
) -> f64 {
    let factor = S::splat(factor);
    let mut squares = S::splat(0.0);
    let most = if S::LANES == 16 { 4 } else { 2 };
    let mut at = 0;
    while at < vectors {
        let left = vectors - at;
        let width = left.div_ceil(left.div_ceil(most));
        let offset = at * S::LANES;
        let (g, rows) = (g.add(offset), Rows { d: rows.d.add(offset), ..rows });
        squares = match width {
            1 => outer_tile::<S, KR, 1>(g, stride, rows, factor, squares, used),
            2 => outer_tile::<S, KR, 2>(g, stride, rows, factor, squares, used),
            3 => outer_tile::<S, KR, 3>(g, stride, rows, factor, squares, used),
            _ => outer_tile::<S, KR, 4>(g, stride, rows, factor, squares, used),
        };
        at += width;
    }
    sum_of::<S>(squares)
}

/// The sum of a vector's lanes, in f64.
#[inline(always)]
pub unsafe fn sum_of<S: Simd>(v: S::V) -> f64 {
    let mut lanes = [0.0f32; 16];
    S::store(lanes.as_mut_ptr(), v);
    lanes[..S::LANES].iter().map(|&x| f64::from(x)).sum()
}
