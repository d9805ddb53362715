//! One small product of each kind against the host's: a wrong leading dimension, a swapped operand, TF32 or a library
//! that does not fit the device shows here and not in a model.

use cudarc::driver::sys;

use super::Blas;
use crate::engine::Precision;
use crate::engine::cuda::driver::real::library::check;
use crate::engine::cuda::driver::real::memory::allocate;
use crate::engine::cuda::driver::{DriverError, Form, Product};

const M: usize = 40;
const N: usize = 24;
const K: usize = 72;
/// Elements between the rows' ends and the next rows.
const GAP: usize = 8;
/// Bytes of an operand at most: a float matrix of the two larger sizes.
const ROOM: usize = (K + GAP) * (K + GAP) * 4;
/// What the gaps of C must still hold.
const POISON: u8 = 0xA5;

/// The error says what differs, or what failed.
pub fn run(blas: &mut Blas) -> Result<(), String> {
    let memory = Memory::new().map_err(|error| error.to_string())?;
    for precision in [Precision::F32, Precision::Bf16, Precision::F16] {
        for form in [Form::Nt, Form::Nn, Form::Tn] {
            for c_float in [true, false] {
                if c_float || precision != Precision::F32 {
                    let what = format!("{precision} {form:?} to {}", if c_float { "f32" } else { "itself" });
                    one(blas, &memory, precision, form, c_float)
                        .map_err(|why| format!("product {what}: {why}"))?;
                }
            }
        }
    }
    Ok(())
}

fn one(
    blas: &mut Blas,
    memory: &Memory,
    precision: Precision,
    form: Form,
    c_float: bool,
) -> Result<(), String> {
    let ([a_rows, a_columns], [b_rows, b_columns]) = match form {
        Form::Nt => ([M, K], [N, K]),
        Form::Nn => ([M, K], [K, N]),
        Form::Tn => ([K, M], [K, N]),
    };
    let a = Matrix::new(a_rows, a_columns, precision, 1);
    let b = Matrix::new(b_rows, b_columns, precision, 2);
    let of_c = if c_float { Precision::F32 } else { precision };
    let ldc = N + GAP;
    let mut bytes = vec![POISON; M * ldc * size(of_c)];
    let product = Product {
        form,
        precision,
        c_float,
        m: M as u32,
        n: N as u32,
        k: K as u32,
        lda: a.leading as u32,
        ldb: b.leading as u32,
        ldc: ldc as u32,
    };
    let served = memory.run(blas, &product, &a, &b, &mut bytes).map_err(|error| error.to_string())?;
    if !served {
        return Ok(()); // no algorithm: our own kernels compute it
    }
    let (mut error, mut power) = (0.0, 0.0);
    for i in 0..M {
        for j in 0..N {
            let expected: f64 = (0..K)
                .map(|l| {
                    let (a_at, b_at) = match form {
                        Form::Nt => ((i, l), (j, l)),
                        Form::Nn => ((i, l), (l, j)),
                        Form::Tn => ((l, i), (l, j)),
                    };
                    a.get(a_at) * b.get(b_at)
                })
                .sum();
            let got = decode(&bytes, i * ldc + j, of_c);
            error += (got - expected) * (got - expected);
            power += expected * expected;
        }
        let gap = &bytes[(i * ldc + N) * size(of_c)..(i + 1) * ldc * size(of_c)];
        if gap.iter().any(|&byte| byte != POISON) {
            return Err("it writes between the rows of C".into());
        }
    }
    // Relative squared error: float sums 1e-14, TF32 1e-7, rounding to bf16 1e-6.
    let limit = match (precision, c_float) {
        (Precision::F32, _) => 1e-11,
        (_, true) => 1e-8,
        (_, false) => 1e-5,
    };
    let relative = error / power;
    // Not `>`: a NaN must fail.
    if relative <= limit {
        Ok(())
    } else {
        Err(format!("relative squared error {relative:.1e}, above {limit:.0e}"))
    }
}

/// A row-major matrix with gaps between its rows.
struct Matrix {
    leading: usize,
    precision: Precision,
    bytes: Vec<u8>,
}

impl Matrix {
    /// Numbers in [-1, 1) that use all bits of their type; NaN in the gaps.
    fn new(rows: usize, columns: usize, precision: Precision, seed: u64) -> Matrix {
        let leading = columns + GAP;
        let mut bytes = vec![0xff; rows * leading * size(precision)];
        let mut state = seed;
        for row in 0..rows {
            for column in 0..columns {
                // splitmix64
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut bits = state;
                bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                let value = ((bits >> 40) as f32) / (1 << 23) as f32 - 1.0;
                encode(&mut bytes, row * leading + column, precision, value);
            }
        }
        Matrix { leading, precision, bytes }
    }

    fn get(&self, (row, column): (usize, usize)) -> f64 {
        decode(&self.bytes, row * self.leading + column, self.precision)
    }
}

fn size(precision: Precision) -> usize {
    if precision == Precision::F32 { 4 } else { 2 }
}

fn encode(bytes: &mut [u8], index: usize, precision: Precision, value: f32) {
    let size = size(precision);
    let at = &mut bytes[index * size..(index + 1) * size];
    match precision {
        Precision::F32 => at.copy_from_slice(&value.to_ne_bytes()),
        Precision::Bf16 => at.copy_from_slice(&half::bf16::from_f32(value).to_ne_bytes()),
        Precision::F16 => at.copy_from_slice(&half::f16::from_f32(value).to_ne_bytes()),
    }
}

fn decode(bytes: &[u8], index: usize, precision: Precision) -> f64 {
    let four = |i: usize| [bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]];
    let two = |i: usize| [bytes[i], bytes[i + 1]];
    match precision {
        Precision::F32 => f32::from_ne_bytes(four(index * 4)).into(),
        Precision::Bf16 => half::bf16::from_ne_bytes(two(index * 2)).into(),
        Precision::F16 => half::f16::from_ne_bytes(two(index * 2)).into(),
    }
}

/// Device memory for A, B and C.
struct Memory(u64);

impl Memory {
    fn new() -> Result<Memory, DriverError> {
        allocate(3 * ROOM).map(Memory)
    }

    /// Uploads everything, C too, computes, waits and reads C.
    fn run(
        &self,
        blas: &mut Blas,
        product: &Product,
        a: &Matrix,
        b: &Matrix,
        c: &mut [u8],
    ) -> Result<bool, DriverError> {
        let [a_at, b_at, c_at] = [self.0, self.0 + ROOM as u64, self.0 + 2 * ROOM as u64];
        for (at, bytes) in [(a_at, &a.bytes[..]), (b_at, &b.bytes[..]), (c_at, &*c)] {
            assert!(bytes.len() <= ROOM);
            // SAFETY: it fits (above), and lives until the stream has been waited for.
            let code =
                unsafe { sys::cuMemcpyHtoDAsync_v2(at, bytes.as_ptr().cast(), bytes.len(), blas.stream) };
            let copied = check("cuMemcpyHtoDAsync", code);
            // SAFETY: the stream is alive.
            check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(blas.stream) })?;
            copied?;
        }
        if !blas.product(product, a_at, b_at, c_at)? {
            return Ok(false);
        }
        // SAFETY: as above.
        let code = unsafe { sys::cuMemcpyDtoHAsync_v2(c.as_mut_ptr().cast(), c_at, c.len(), blas.stream) };
        let copied = check("cuMemcpyDtoHAsync", code);
        // SAFETY: as above.
        check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(blas.stream) })?;
        copied?;
        Ok(true)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated above; every run has waited for the stream.
        unsafe { sys::cuMemFree_v2(self.0) };
    }
}
