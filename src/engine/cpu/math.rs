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

/// 2^r for r in [0, 1], highest power first: the polynomial with the smallest relative error, 2e-9 before rounding. One
/// degree less would do, but at 0, where most activations are, this one is exact.
#[allow(clippy::approx_constant)] // Near ln 2, and not it.
const EXP2: [f32; 7] =
    [0.000_217_022_55, 0.001_243_968_8, 0.009_678_841, 0.055_483_34, 0.240_229_83, 0.693_147, 1.0];

/// 1 + 2^t of several vectors, or 1 + 2^`most` where t is larger; step by step for all of them: each one's steps wait for one
/// another. What multiplying rounds away matters little to a logistic function: where 2^t is large, its result is small.
#[inline(always)]
pub unsafe fn one_and_exp2<S: Simd, const A: usize, const N: usize>(
    t: [[S::V; N]; A],
    most: f32,
) -> [[S::V; N]; A] {
    let zero = S::splat(0.0);
    let (mut r, mut n, mut p) = ([[zero; N]; A], [[zero; N]; A], [[S::splat(EXP2[0]); N]; A]);
    for i in 0..A {
        for v in 0..N {
            // The order keeps NaN, and the bound what comes after finite.
            (r[i][v], n[i][v]) = S::split_exp2(S::min(S::splat(most), t[i][v]));
        }
    }
    for c in 1..EXP2.len() {
        for i in 0..A {
            for v in 0..N {
                p[i][v] = S::fma(p[i][v], r[i][v], S::splat(EXP2[c]));
            }
        }
    }
    for i in 0..A {
        for v in 0..N {
            p[i][v] = S::add(S::splat(1.0), S::scale_exp2(p[i][v], n[i][v]));
        }
    }
    p
}

/// 1 / (1 + 2^(x * scale)) of several vectors.
#[inline(always)]
pub unsafe fn logistic<S: Simd, const A: usize, const N: usize>(
    x: [[S::V; N]; A],
    scale: f32,
) -> [[S::V; N]; A] {
    let mut t = x;
    for i in 0..A {
        for v in 0..N {
            t[i][v] = S::mul(x[i][v], S::splat(scale));
        }
    }
    let mut p = one_and_exp2::<S, A, N>(t, 126.0);
    for i in 0..A {
        for v in 0..N {
            p[i][v] = S::reciprocal(p[i][v]);
        }
    }
    p
}

/// 1 / (1 + e^-x) of several vectors.
#[inline(always)]
pub unsafe fn sigmoids<S: Simd, const A: usize, const N: usize>(x: [[S::V; N]; A]) -> [[S::V; N]; A] {
    logistic::<S, A, N>(x, -std::f32::consts::LOG2_E)
}

/// 1 - 2 / (1 + e^2x) of several vectors.
#[inline(always)]
pub unsafe fn tanhs<S: Simd, const A: usize, const N: usize>(x: [[S::V; N]; A]) -> [[S::V; N]; A] {
    let mut y = logistic::<S, A, N>(x, 2.0 * std::f32::consts::LOG2_E);
    for i in 0..A {
        for v in 0..N {
            y[i][v] = S::fma(S::splat(-2.0), y[i][v], S::splat(1.0));
        }
    }
    y
}

/// 1 / (1 + e^-x)
#[inline(always)]
pub unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    sigmoids::<S, 1, 1>([[x]])[0][0]
}

/// 1 - 2 / (1 + e^2x)
#[inline(always)]
pub unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    tanhs::<S, 1, 1>([[x]])[0][0]
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

/// The same of several vectors.
#[inline(always)]
pub unsafe fn stored_all<S: Simd, const A: usize, const N: usize>(
    precision: Precision,
    x: &mut [[S::V; N]; A],
) {
    if precision != Precision::F32 {
        for i in 0..A {
            for v in 0..N {
                x[i][v] = stored::<S>(precision, x[i][v]);
            }
        }
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
