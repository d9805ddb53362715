//! Vectors in plain Rust.
#![allow(unsafe_op_in_unsafe_fn)] // As in `simd.rs`.

use super::Simd;

/// Eight lanes in plain Rust, for machines without AVX2 and as the others' measure.
#[derive(Clone, Copy)]
pub struct Portable;

macro_rules! each {
    ($i:ident => $e:expr) => {{
        let mut out = [0.0f32; 8];
        let mut $i = 0;
        while $i < 8 {
            out[$i] = $e;
            $i += 1;
        }
        out
    }};
}

// SAFETY: plain Rust; pointers are used as the trait's contract allows.
unsafe impl Simd for Portable {
    type V = [f32; 8];
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 8] {
        p.cast::<[f32; 8]>().read_unaligned()
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 8]) {
        p.cast::<[f32; 8]>().write_unaligned(v)
    }
    type Picks = *const i32;
    #[inline(always)]
    unsafe fn picks(ids: *const i32) -> *const i32 {
        ids
    }
    #[inline(always)]
    unsafe fn pick(row: *const f32, _: usize, ids: *const i32) -> [f32; 8] {
        each!(i => *row.add(*ids.add(i) as usize))
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each!(i => a[i] + b[i])
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each!(i => a[i] - b[i])
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each!(i => a[i] * b[i])
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each!(i => a[i] / b[i])
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        // Not mul_add: without the instruction that is a slow library call.
        each!(i => a[i] * b[i] + c[i])
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        each!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    unsafe fn sqrt(a: [f32; 8]) -> [f32; 8] {
        each!(i => a[i].sqrt())
    }
    #[inline(always)]
    unsafe fn round(a: [f32; 8]) -> [f32; 8] {
        // Adding and subtracting 1.5 * 2^23 rounds to nearest even below 2^22 in size, which is all exp needs.
        each!(i => (a[i] + 12_582_912.0) - 12_582_912.0)
    }
    #[inline(always)]
    unsafe fn exp2_integral(n: [f32; 8]) -> [f32; 8] {
        each!(i => f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn round_bf16(a: [f32; 8]) -> [f32; 8] {
        each!(i => half::bf16::from_f32(a[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn round_f16(a: [f32; 8]) -> [f32; 8] {
        each!(i => half::f16::from_f32(a[i]).to_f32())
    }
}
