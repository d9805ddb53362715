//! AVX-512 pieces of the short kernels: bf16 pairs, the three parts of an f32, a transposition.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // AVX-512F, DQ, BW and BF16 must be there; pointers are valid for a vector.

use std::arch::x86_64::*;

use super::products::Product;

/// A vector of sixteen f32, or of sixteen pairs of bf16 in the same bits.
pub type V = __m512;

/// Unaligned load.
#[inline(always)]
pub unsafe fn load(p: *const f32) -> V {
    _mm512_loadu_ps(p)
}

/// Unaligned store.
#[inline(always)]
pub unsafe fn store(p: *mut f32, v: V) {
    _mm512_storeu_ps(p, v)
}

/// Asks for the cache line at `p`, which may be anywhere.
#[inline(always)]
pub unsafe fn ahead(p: *const f32) {
    _mm_prefetch::<_MM_HINT_T0>(p.cast());
}

/// The same for a line that will be written.
#[inline(always)]
pub unsafe fn ahead_to_write(p: *const f32) {
    _mm_prefetch::<_MM_HINT_ET0>(p.cast());
}

/// All lanes `x`.
#[inline(always)]
pub unsafe fn splat(x: f32) -> V {
    _mm512_set1_ps(x)
}

/// a + b
#[inline(always)]
pub unsafe fn add(a: V, b: V) -> V {
    _mm512_add_ps(a, b)
}

/// a - b
#[inline(always)]
pub unsafe fn sub(a: V, b: V) -> V {
    _mm512_sub_ps(a, b)
}

/// a * b
#[inline(always)]
pub unsafe fn mul(a: V, b: V) -> V {
    _mm512_mul_ps(a, b)
}

/// a * b + c
#[inline(always)]
pub unsafe fn fma(a: V, b: V, c: V) -> V {
    _mm512_fmadd_ps(a, b, c)
}

/// c - a * b
#[inline(always)]
pub unsafe fn less(a: V, b: V, c: V) -> V {
    _mm512_fnmadd_ps(a, b, c)
}

/// Lane by lane the pair (a, b), `a` in the low half; rounded to nearest even.
#[inline(always)]
pub unsafe fn pair(a: V, b: V) -> V {
    let words = _mm512_set_epi16(
        31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18,
        2, 17, 1, 16, 0,
    );
    let both: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(b, a));
    _mm512_castsi512_ps(_mm512_permutexvar_epi16(words, both))
}

/// The thirty-two lanes of a and b in order, as sixteen pairs of neighbours.
#[inline(always)]
pub unsafe fn row(a: V, b: V) -> V {
    std::mem::transmute(_mm512_cvtne2ps_pbh(b, a))
}

/// The same where all lanes are numbers of bf16.
#[inline(always)]
pub unsafe fn join_row(a: V, b: V) -> V {
    let words = _mm512_set_epi16(
        63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21, 19, 17, 15,
        13, 11, 9, 7, 5, 3, 1,
    );
    _mm512_castsi512_ps(_mm512_permutex2var_epi16(_mm512_castps_si512(a), words, _mm512_castps_si512(b)))
}

/// The low halves of pairs as f32.
#[inline(always)]
pub unsafe fn low(pairs: V) -> V {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(pairs)))
}

/// The high halves.
#[inline(always)]
pub unsafe fn high(pairs: V) -> V {
    let mask = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), mask))
}

/// `x` as the sum of three numbers of bf16, the largest first: exactly, but for denormal numbers. Each is rounded to
/// nearest, ties away from zero. What is not a number stays none.
#[inline(always)]
pub unsafe fn three(x: V) -> [V; 3] {
    let first = nearest(x);
    let rest = sub(x, first);
    let second = nearest(rest);
    [first, second, sub(rest, second)]
}

/// The nearest number of bf16.
#[inline(always)]
unsafe fn nearest(x: V) -> V {
    let half = _mm512_set1_epi32(0x8000);
    high(_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), half)))
}

/// The pairs of [`pair`] where `a` and `b` are numbers of bf16.
#[inline(always)]
unsafe fn join(a: V, b: V) -> V {
    let low = _mm512_srli_epi32::<16>(_mm512_castps_si512(a));
    _mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaa_aaaa, low, _mm512_castps_si512(b)))
}

/// The parts of a product's numbers: `x` itself where there is one.
#[inline(always)]
pub unsafe fn parts<P: Product>(x: V) -> [V; 3] {
    if P::PARTS == 3 { three(x) } else { [x; 3] }
}

/// Stores the pairs (a, b) of each part, a tile of W columns apart.
#[inline(always)]
pub unsafe fn store_pairs<P: Product>(to: *mut f32, a: [V; 3], b: [V; 3]) {
    if P::PARTS == 1 {
        return store(to, pair(a[0], b[0]));
    }
    for part in 0..P::PARTS {
        store(to.wrapping_add(part * 16 * P::WIDTH), join(a[part], b[part]));
    }
}

/// Stores a row's streams for the weight gradients: as sixteen pairs or, where numbers have parts, as they are.
#[inline(always)]
pub unsafe fn store_row<P: Product>(rows: *mut f32, at: usize, x: [V; 2]) {
    if P::PARTS == 1 {
        return store(rows.wrapping_add(at * 16), row(x[0], x[1]));
    }
    for v in 0..P::VECTORS {
        store(rows.wrapping_add(at * P::WIDTH + 16 * v), x[v]);
    }
}

/// Vector `v` of a slice's row of sums.
#[inline(always)]
pub unsafe fn sum<P: Product>(row: *const f32, v: usize) -> V {
    if P::VECTORS == 2 { load(row.add(16 * v)) } else { add(load(row), load(row.add(16))) }
}

/// Where the pair of row `row` is in tiles of pairs [rows/32][parts][16][W].
#[inline(always)]
pub fn pair_at<P: Product>(row: usize) -> usize {
    row / 32 * P::COLUMNS + row % 32 / 2 * P::WIDTH
}

/// `to[j * to_stride + i] = from[i * from_stride + j]` for i, j below 16.
#[inline(always)]
pub unsafe fn transpose16(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
    let mut rows = [_mm512_setzero_ps(); 16];
    for i in 0..16 {
        rows[i] = load(from.add(i * from_stride));
    }
    let columns = transposed(rows);
    for j in 0..16 {
        store(to.add(j * to_stride), columns[j]);
    }
}

/// `to[j * stride + i] = from[rows[i] * width + j]` for i, j below 16.
#[inline(always)]
pub unsafe fn gather16(from: *const f32, width: usize, rows: *const i32, to: *mut f32, stride: usize) {
    let mut all = [_mm512_setzero_ps(); 16];
    for i in 0..16 {
        all[i] = load(from.add(*rows.add(i) as usize * width));
    }
    let columns = transposed(all);
    for j in 0..16 {
        store(to.add(j * stride), columns[j]);
    }
}

/// The columns of sixteen rows.
#[inline(always)]
pub unsafe fn transposed(rows: [V; 16]) -> [V; 16] {
    let mut twos = rows;
    for i in 0..8 {
        twos[2 * i] = _mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        twos[2 * i + 1] = _mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    let mut fours = rows;
    for i in 0..4 {
        for half in 0..2 {
            let (a, b) = (_mm512_castps_pd(twos[4 * i + half]), _mm512_castps_pd(twos[4 * i + 2 + half]));
            fours[4 * i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            fours[4 * i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    // fours[4i + c] holds in its group q of four lanes rows 4i to 4i + 3 of column 4q + c.
    let mut columns = twos;
    for c in 0..4 {
        let a = _mm512_shuffle_f32x4::<0x88>(fours[c], fours[4 + c]);
        let b = _mm512_shuffle_f32x4::<0xdd>(fours[c], fours[4 + c]);
        let d = _mm512_shuffle_f32x4::<0x88>(fours[8 + c], fours[12 + c]);
        let e = _mm512_shuffle_f32x4::<0xdd>(fours[8 + c], fours[12 + c]);
        columns[c] = _mm512_shuffle_f32x4::<0x88>(a, d);
        columns[8 + c] = _mm512_shuffle_f32x4::<0xdd>(a, d);
        columns[4 + c] = _mm512_shuffle_f32x4::<0x88>(b, e);
        columns[12 + c] = _mm512_shuffle_f32x4::<0xdd>(b, e);
    }
    columns
}
