//! Vectors of f32 behind one small trait: portable arrays, AVX2 + FMA, AVX-512F + DQ. The kernels are written once over it.
//!
//! Every method is `inline(always)`: a kernel instantiated for an instruction set is entered through one function
//! with that `target_feature` (see `dispatch.rs`), and everything below is inlined into it. Closures are kept out of
//! the kernels, because a closure is a function of its own and would fall back to calls.
#![allow(unsafe_code)]
// Each method is unsafe as a whole, under the trait's contract: a block in each would say nothing more.
#![allow(unsafe_op_in_unsafe_fn)]

/// Rows that [`Simd::pick`] reads are padded to a multiple of this many elements.
pub const ROW_CHUNK: usize = 32;

/// A vector of LANES f32.
///
/// # Safety
/// Methods may only run on a machine that has the implementor's instructions; pointers must be valid for LANES
/// elements (no alignment is asked for).
pub unsafe trait Simd: Copy + Send + Sync + 'static {
    /// The register type.
    type V: Copy;
    /// Elements a vector.
    const LANES: usize;
    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self::V;
    /// Unaligned load.
    unsafe fn load(p: *const f32) -> Self::V;
    /// Unaligned store.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// Asks for a cache line that will be read soon; any address will do.
    #[inline(always)]
    unsafe fn soon(_: *const f32) {}
    /// The same for one that will be written.
    #[inline(always)]
    unsafe fn soon_written(_: *const f32) {}
    /// The same for one that is wanted later: into the second-level cache.
    #[inline(always)]
    unsafe fn later(_: *const f32) {}
    /// Numbers of a row's elements, one a lane, ready for [`Simd::pick`].
    type Picks: Copy;
    /// From LANES numbers.
    unsafe fn picks(ids: *const i32) -> Self::Picks;
    /// For each lane the element of that number of a row of `chunks` * [`ROW_CHUNK`] elements, all of them readable.
    unsafe fn pick(row: *const f32, chunks: usize, picks: Self::Picks) -> Self::V;
    /// a + b
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// a * b
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c, fused where the machine can
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` where `a` is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` where `a` is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// Square root.
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// To the nearest integer.
    unsafe fn round(a: Self::V) -> Self::V;
    /// 2^n for integral n in [-126, 127].
    unsafe fn exp2_integral(n: Self::V) -> Self::V;
    /// x * 2^n for integral n in [-126, 127], and for the n of [`Simd::split_exp2`].
    #[inline(always)]
    unsafe fn scale_exp2(x: Self::V, n: Self::V) -> Self::V {
        Self::mul(x, Self::exp2_integral(n))
    }
    /// For t <= 126 (r in [0, 1], n) such that `scale_exp2(2^r, n)` is 2^t, or 2^-125 where that is less; NaN gives NaN.
    #[inline(always)]
    unsafe fn split_exp2(t: Self::V) -> (Self::V, Self::V) {
        let t = Self::max(Self::splat(-125.0), t);
        // The integer below t, or t itself less one, which does as well.
        let whole = Self::round(Self::sub(t, Self::splat(0.5)));
        (Self::sub(t, whole), whole)
    }
    /// 1 / a for a in [1, 1e38], to 1.2e-7 relatively; NaN gives NaN.
    #[inline(always)]
    unsafe fn reciprocal(a: Self::V) -> Self::V {
        Self::div(Self::splat(1.0), a)
    }
    /// Rounded to bfloat16 (nearest, ties to even) and back; NaN stays NaN.
    unsafe fn round_bf16(a: Self::V) -> Self::V;
    /// Rounded to IEEE half (nearest, ties to even; too large becomes infinite) and back.
    unsafe fn round_f16(a: Self::V) -> Self::V;
    /// `to[i]` = the sum of `rows[i]`'s lanes.
    #[inline(always)]
    unsafe fn sums8(rows: &[Self::V; 8], to: *mut f32) {
        for i in 0..8 {
            let mut lanes = [0.0f32; 16];
            Self::store(lanes.as_mut_ptr(), rows[i]);
            let mut sum = 0.0;
            for lane in 0..Self::LANES {
                sum += lanes[lane];
            }
            *to.add(i) = sum;
        }
    }
    /// About `sqrt(a)`, for a >= 0: within 3e-7 of it, and 0 for 0.
    #[inline(always)]
    unsafe fn sqrt_near(a: Self::V) -> Self::V {
        Self::sqrt(a)
    }
    /// About `a / b`, for b > 0: within 3e-7 of it.
    #[inline(always)]
    unsafe fn div_near(a: Self::V, b: Self::V) -> Self::V {
        Self::div(a, b)
    }
    /// `to[j * to_stride + i] = from[i * from_stride + j]` for i, j below 8.
    #[inline(always)]
    unsafe fn transpose8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for i in 0..8 {
            for j in 0..8 {
                *to.add(j * to_stride + i) = *from.add(i * from_stride + j);
            }
        }
    }
}

mod portable;

pub use portable::Portable;

#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// An 8x8 transposition in registers: 24 shuffles.
    ///
    /// # Safety
    /// AVX must be there; rows must be readable and writable.
    #[inline(always)]
    unsafe fn transpose8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        let mut rows = [_mm256_setzero_ps(); 8];
        for i in 0..8 {
            rows[i] = _mm256_loadu_ps(from.add(i * from_stride));
        }
        let mut pairs = [_mm256_setzero_ps(); 8];
        for i in 0..4 {
            pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
            pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
        }
        let mut quads = [_mm256_setzero_ps(); 8];
        for i in 0..2 {
            let (a, b) = (4 * i, 4 * i + 2);
            quads[a] = _mm256_shuffle_ps::<0x44>(pairs[a], pairs[b]);
            quads[a + 1] = _mm256_shuffle_ps::<0xee>(pairs[a], pairs[b]);
            quads[a + 2] = _mm256_shuffle_ps::<0x44>(pairs[a + 1], pairs[b + 1]);
            quads[a + 3] = _mm256_shuffle_ps::<0xee>(pairs[a + 1], pairs[b + 1]);
        }
        for j in 0..4 {
            let low = _mm256_permute2f128_ps::<0x20>(quads[j], quads[j + 4]);
            let high = _mm256_permute2f128_ps::<0x31>(quads[j], quads[j + 4]);
            _mm256_storeu_ps(to.add(j * to_stride), low);
            _mm256_storeu_ps(to.add((j + 4) * to_stride), high);
        }
    }

    /// The sums of eight rows' lanes.
    ///
    /// # Safety
    /// AVX must be there.
    #[inline(always)]
    unsafe fn sums8(rows: [__m256; 8]) -> __m256 {
        let low = _mm256_hadd_ps(_mm256_hadd_ps(rows[0], rows[1]), _mm256_hadd_ps(rows[2], rows[3]));
        let high = _mm256_hadd_ps(_mm256_hadd_ps(rows[4], rows[5]), _mm256_hadd_ps(rows[6], rows[7]));
        _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
    }

    /// Eight lanes; needs AVX2, FMA and F16C.
    #[derive(Clone, Copy)]
    pub struct Avx2;

    // SAFETY: each method is the instruction it names; the trait's contract covers presence and pointers.
    unsafe impl Simd for Avx2 {
        type V = __m256;
        const LANES: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            _mm256_set1_ps(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            _mm256_loadu_ps(p)
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            _mm256_storeu_ps(p, v)
        }
        type Picks = __m256i;
        #[inline(always)]
        unsafe fn picks(ids: *const i32) -> __m256i {
            _mm256_loadu_si256(ids.cast())
        }
        #[inline(always)]
        unsafe fn pick(row: *const f32, _: usize, picks: __m256i) -> __m256 {
            _mm256_i32gather_ps::<4>(row, picks)
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            _mm256_add_ps(a, b)
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            _mm256_sub_ps(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            _mm256_mul_ps(a, b)
        }
        #[inline(always)]
        unsafe fn div(a: __m256, b: __m256) -> __m256 {
            _mm256_div_ps(a, b)
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            _mm256_fmadd_ps(a, b, c)
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            _mm256_max_ps(a, b)
        }
        #[inline(always)]
        unsafe fn min(a: __m256, b: __m256) -> __m256 {
            _mm256_min_ps(a, b)
        }
        #[inline(always)]
        unsafe fn sqrt(a: __m256) -> __m256 {
            _mm256_sqrt_ps(a)
        }
        #[inline(always)]
        unsafe fn round(a: __m256) -> __m256 {
            _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        #[inline(always)]
        unsafe fn exp2_integral(n: __m256) -> __m256 {
            let biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))
        }
        #[inline(always)]
        unsafe fn round_bf16(a: __m256) -> __m256 {
            let bits = _mm256_castps_si256(a);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let kept = _mm256_castsi256_ps(_mm256_and_si256(rounded, _mm256_set1_epi32(!0xffff)));
            // Rounding the bits of a NaN could carry into infinity: keep it as it is.
            _mm256_blendv_ps(kept, a, _mm256_cmp_ps::<_CMP_UNORD_Q>(a, a))
        }
        #[inline(always)]
        unsafe fn round_f16(a: __m256) -> __m256 {
            _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a))
        }
        #[inline(always)]
        unsafe fn sums8(rows: &[__m256; 8], to: *mut f32) {
            _mm256_storeu_ps(to, sums8(*rows));
        }
        #[inline(always)]
        unsafe fn transpose8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            transpose8(from, from_stride, to, to_stride)
        }
    }

    /// Sixteen lanes; needs AVX-512F and DQ.
    #[derive(Clone, Copy)]
    pub struct Avx512;

    // SAFETY: each method is the instruction it names; the trait's contract covers presence and pointers.
    unsafe impl Simd for Avx512 {
        type V = __m512;
        const LANES: usize = 16;

        #[inline(always)]
        unsafe fn soon(p: *const f32) {
            _mm_prefetch::<_MM_HINT_T0>(p.cast())
        }
        #[inline(always)]
        unsafe fn soon_written(p: *const f32) {
            _mm_prefetch::<_MM_HINT_ET0>(p.cast())
        }
        #[inline(always)]
        unsafe fn later(p: *const f32) {
            _mm_prefetch::<_MM_HINT_T1>(p.cast())
        }
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            _mm512_set1_ps(x)
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            _mm512_loadu_ps(p)
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            _mm512_storeu_ps(p, v)
        }
        type Picks = (__m512i, [__mmask16; 3]);
        #[inline(always)]
        unsafe fn picks(ids: *const i32) -> Self::Picks {
            let ids = _mm512_loadu_si512(ids.cast());
            let mut beyond = [0; 3];
            for (chunk, beyond) in beyond.iter_mut().enumerate() {
                *beyond = _mm512_cmpge_epi32_mask(ids, _mm512_set1_epi32(32 * (chunk as i32 + 1)));
            }
            (ids, beyond)
        }
        /// Rows of up to four chunks lie in registers while they are permuted, which is faster than a gather.
        #[inline(always)]
        unsafe fn pick(row: *const f32, chunks: usize, (ids, beyond): Self::Picks) -> __m512 {
            macro_rules! chunk {
                ($i:expr) => {
                    _mm512_permutex2var_ps(
                        _mm512_loadu_ps(row.add(32 * $i)),
                        ids,
                        _mm512_loadu_ps(row.add(32 * $i + 16)),
                    )
                };
            }
            if chunks > 4 {
                return _mm512_i32gather_ps::<4>(ids, row);
            }
            let mut picked = chunk!(0);
            if chunks > 1 {
                picked = _mm512_mask_mov_ps(picked, beyond[0], chunk!(1));
            }
            if chunks > 2 {
                picked = _mm512_mask_mov_ps(picked, beyond[1], chunk!(2));
            }
            if chunks > 3 {
                picked = _mm512_mask_mov_ps(picked, beyond[2], chunk!(3));
            }
            picked
        }
        #[inline(always)]
        unsafe fn scale_exp2(x: __m512, n: __m512) -> __m512 {
            _mm512_scalef_ps(x, n)
        }
        #[inline(always)]
        unsafe fn split_exp2(t: __m512) -> (__m512, __m512) {
            // Scaling takes the integer below t by itself, and knows no bound.
            (_mm512_reduce_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(t), t)
        }
        #[inline(always)]
        unsafe fn reciprocal(a: __m512) -> __m512 {
            // Fourteen bits, and a step of Newton's.
            let y = _mm512_rcp14_ps(a);
            _mm512_mul_ps(y, _mm512_fnmadd_ps(a, y, _mm512_set1_ps(2.0)))
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            _mm512_add_ps(a, b)
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            _mm512_sub_ps(a, b)
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            _mm512_mul_ps(a, b)
        }
        #[inline(always)]
        unsafe fn div(a: __m512, b: __m512) -> __m512 {
            _mm512_div_ps(a, b)
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            _mm512_fmadd_ps(a, b, c)
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            _mm512_max_ps(a, b)
        }
        #[inline(always)]
        unsafe fn min(a: __m512, b: __m512) -> __m512 {
            _mm512_min_ps(a, b)
        }
        #[inline(always)]
        unsafe fn sqrt(a: __m512) -> __m512 {
            _mm512_sqrt_ps(a)
        }
        #[inline(always)]
        unsafe fn round(a: __m512) -> __m512 {
            _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        }
        #[inline(always)]
        unsafe fn exp2_integral(n: __m512) -> __m512 {
            let biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased))
        }
        #[inline(always)]
        unsafe fn round_bf16(a: __m512) -> __m512 {
            let bits = _mm512_castps_si512(a);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let kept = _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(!0xffff)));
            _mm512_mask_mov_ps(kept, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(a, a), a)
        }
        #[inline(always)]
        unsafe fn round_f16(a: __m512) -> __m512 {
            _mm512_cvtph_ps(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(a))
        }
        #[inline(always)]
        unsafe fn sums8(rows: &[__m512; 8], to: *mut f32) {
            let mut halves = [_mm256_setzero_ps(); 8];
            for i in 0..8 {
                let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(rows[i])));
                halves[i] = _mm256_add_ps(_mm512_castps512_ps256(rows[i]), high);
            }
            _mm256_storeu_ps(to, sums8(halves));
        }
        // Square roots and divisions of sixteen lanes take twenty cycles and more each; an estimate of 14 bits and one
        // step of Newton's take four.
        #[inline(always)]
        unsafe fn sqrt_near(a: __m512) -> __m512 {
            // Not infinite: its estimate is zero, and zero times infinity is no number.
            let a = _mm512_min_ps(_mm512_set1_ps(f32::MAX), a);
            let y = _mm512_rsqrt14_ps(a);
            let root = _mm512_mul_ps(a, y);
            let half = _mm512_mul_ps(root, _mm512_set1_ps(0.5));
            let better = _mm512_fmadd_ps(half, _mm512_fnmadd_ps(root, y, _mm512_set1_ps(1.0)), root);
            // 1/sqrt(0) is infinite, and of a denormal too large to be squared: their roots are below 1.1e-19.
            _mm512_maskz_mov_ps(
                _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(a, _mm512_set1_ps(f32::MIN_POSITIVE)),
                better,
            )
        }
        #[inline(always)]
        unsafe fn div_near(a: __m512, b: __m512) -> __m512 {
            let y = _mm512_rcp14_ps(b);
            let quotient = _mm512_mul_ps(a, y);
            _mm512_fmadd_ps(_mm512_fnmadd_ps(quotient, b, a), y, quotient)
        }
        #[inline(always)]
        unsafe fn transpose8(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            transpose8(from, from_stride, to, to_stride)
        }
    }
}
