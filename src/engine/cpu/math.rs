//! Vectorised exp, sigmoid and tanh, and rounding to the storage precision.
//!
//! Largest errors over [-87, 87], measured by the test in `tests.rs`: exp 2.3e-7 (relative), sigmoid 1.3e-7, tanh
//! 2.5e-7 (absolute). Inputs beyond +-87 saturate; NaN gives NaN.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `Simd` is every function's here.

use super::simd::Simd;
use crate::engine::Precision;

/// e^x: 2^n * p(r) with |r| <= ln(2)/2, degree 6 (Taylor coefficients; the next term is below 2e-8).
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // min/max give their second argument for NaN in the first: the order here keeps NaN.
    let x = S::max(S::splat(-87.0), S::min(S::splat(87.0), x));
    let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, so that n * ln 2 loses nothing.
    let r = S::fma(n, S::splat(-0.693_359_4), x);
    let r = S::fma(n, S::splat(2.121_944_4e-4), r);
    let mut p = S::splat(1.0 / 720.0);
    p = S::fma(p, r, S::splat(1.0 / 120.0));
    p = S::fma(p, r, S::splat(1.0 / 24.0));
    p = S::fma(p, r, S::splat(1.0 / 6.0));
    p = S::fma(p, r, S::splat(0.5));
    p = S::fma(p, r, S::splat(1.0));
    p = S::fma(p, r, S::splat(1.0));
    S::scale_exp2(p, n)
}

/// 1 / (1 + 2^(x * scale)). What multiplying rounds away matters little: where 2^t is large, the result is small.
#[inline(always)]
unsafe fn logistic<S: Simd>(x: S::V, scale: f32) -> S::V {
    // The order keeps NaN, and the bound what comes after finite.
    let t = S::min(S::splat(126.0), S::mul(x, S::splat(scale)));
    S::reciprocal(S::add(S::splat(1.0), S::exp2(t)))
}

/// 1 / (1 + e^-x)
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    logistic::<S>(x, -std::f32::consts::LOG2_E)
}

/// 1 - 2 / (1 + e^2x)
#[inline(always)]
pub unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    S::fma(S::splat(-2.0), logistic::<S>(x, 2.0 * std::f32::consts::LOG2_E), S::splat(1.0))
}

/// The value that storing in `precision` and loading again gives.
#[inline(always)]
pub unsafe fn stored<S: Simd>(precision: Precision, v: S::V) -> S::V {
    match precision {
        Precision::F32 => v,
        Precision::Bf16 => S::round_bf16(v),
        Precision::F16 => S::round_f16(v),
    }
}

/// The same for one number, outside the kernels (packing weights).
pub fn stored_scalar(precision: Precision, x: f32) -> f32 {
    match precision {
        Precision::F32 => x,
        Precision::Bf16 => half::bf16::from_f32(x).to_f32(),
        Precision::F16 => half::f16::from_f32(x).to_f32(),
    }
}
