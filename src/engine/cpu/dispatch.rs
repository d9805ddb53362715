//! One entrance an instruction set: the functions that carry `target_feature` and choose the instantiation for a cell
//! and a slice's width.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::forward::{Pass, forward};
use super::geometry::{Geometry, Isa};
use super::gradient::{self, Job};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd};
use super::space::Slice;
use super::update::{self, Step};
use super::{backward::backward, head};
use crate::model::CellKind;

/// What is to be done with a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Forward, loss, backward.
    Train,
    /// Forward and loss.
    Evaluate,
    /// Forward, and the logits of the last step.
    Logits,
    /// Forward alone.
    States,
}

/// # Safety
/// As `forward`, with (A, B) the unit block and gates of the cell and MR the tile height of S's instruction set.
#[inline(always)]
unsafe fn slice<S: Simd, const A: usize, const B: usize, const MR: usize, const NV: usize>(
    work: Work,
    pass: &Pass,
    slice: &mut Slice,
) {
    forward::<S, A, B, NV>(pass, slice);
    match work {
        Work::Train => {
            head::losses::<S, MR, NV, true>(pass, slice);
            backward::<S, B, MR, NV>(pass, slice);
        }
        Work::Evaluate => head::losses::<S, MR, NV, false>(pass, slice),
        Work::Logits => head::logits::<S, MR, NV>(pass, slice, pass.steps - 1),
        Work::States => {}
    }
}

/// The entrances of one instruction set: slices, gradient jobs, updates.
macro_rules! entrances {
    ($(#[$feature:meta])* $module:ident, $S:ty, lstm $L:literal, gru $G:literal, rnn $R:literal, tile $MR:literal) => {
        mod $module {
            use super::*;

            // One function a cell and width, so that each is optimised on its own.
            entrances!(@cell $(#[$feature])* lstm1, $S, $L, 4, $MR, 1);
            entrances!(@cell $(#[$feature])* lstm2, $S, $L, 4, $MR, 2);
            entrances!(@cell $(#[$feature])* gru1, $S, $G, 3, $MR, 1);
            entrances!(@cell $(#[$feature])* gru2, $S, $G, 3, $MR, 2);
            entrances!(@cell $(#[$feature])* rnn1, $S, $R, 1, $MR, 1);
            entrances!(@cell $(#[$feature])* rnn2, $S, $R, 1, $MR, 2);

            pub unsafe fn run(work: Work, pass: &Pass, s: &mut Slice) {
                match (pass.geo.shape.cell, s.width == 2 * <$S>::LANES) {
                    (CellKind::Lstm, false) => lstm1(work, pass, s),
                    (CellKind::Lstm, true) => lstm2(work, pass, s),
                    (CellKind::Gru, false) => gru1(work, pass, s),
                    (CellKind::Gru, true) => gru2(work, pass, s),
                    (CellKind::Rnn, false) => rnn1(work, pass, s),
                    (CellKind::Rnn, true) => rnn2(work, pass, s),
                }
            }

            $(#[$feature])*
            pub unsafe fn gradient(geo: &Geometry, slices: &[Slice], steps: usize, job: &mut Job) {
                gradient::run::<$S, $MR>(geo, slices, steps, job);
            }

            $(#[$feature])*
            pub unsafe fn update(step: &Step, p: &mut [f32], g: &[f32], first: &mut [f32], second: &mut [f32]) {
                let n = p.len();
                update::apply::<$S>(step, p.as_mut_ptr(), g.as_ptr(), first.as_mut_ptr(), second.as_mut_ptr(), n);
            }
        }
    };
    (@cell $(#[$feature:meta])* $name:ident, $S:ty, $A:literal, $B:literal, $MR:literal, $NV:literal) => {
        $(#[$feature])*
        unsafe fn $name(work: Work, pass: &Pass, s: &mut Slice) {
            slice::<$S, $A, $B, $MR, $NV>(work, pass, s);
        }
    };
}

// The numbers are `Isa::unit_block` and `Isa::tile_rows`; a test holds them together.
entrances!(portable, Portable, lstm 1, gru 2, rnn 6, tile 6);
#[cfg(target_arch = "x86_64")]
entrances!(#[target_feature(enable = "avx2,fma,f16c")] avx2, Avx2, lstm 1, gru 2, rnn 6, tile 6);
#[cfg(target_arch = "x86_64")]
entrances!(#[target_feature(enable = "avx512f,avx2,fma,f16c")] avx512, Avx512, lstm 3, gru 4, rnn 12, tile 12);

/// Runs a slice.
pub fn run_slice(work: Work, pass: &Pass, slice: &mut Slice) {
    assert!(pass.steps >= 1 && pass.steps <= slice.steps, "the slice has room for the chunk");
    let lanes = pass.geo.isa.lanes();
    assert!(slice.width == lanes || slice.width == 2 * lanes, "a slice is one or two vectors wide");
    // SAFETY: `Isa` values come from detection; slices are made by `Slice::new` for the pass's geometry, and the
    // assertions above hold the sizes that it leaves open.
    unsafe {
        match pass.geo.isa {
            Isa::Portable => portable::run(work, pass, slice),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::run(work, pass, slice),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::run(work, pass, slice),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::run(work, pass, slice),
        }
    }
}

/// Runs a gradient job over slices that have been trained on.
pub fn run_gradient(geo: &Geometry, slices: &[Slice], steps: usize, job: &mut Job) {
    assert!(slices.iter().all(|s| steps <= s.steps && s.record_stride > 0), "slices for training");
    // SAFETY: as in `run_slice`; jobs are made by `gradient::jobs` for the same geometry.
    unsafe {
        match geo.isa {
            Isa::Portable => portable::gradient(geo, slices, steps, job),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::gradient(geo, slices, steps, job),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::gradient(geo, slices, steps, job),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::gradient(geo, slices, steps, job),
        }
    }
}

/// Updates a block of parameters.
pub fn run_update(isa: Isa, step: &Step, p: &mut [f32], g: &[f32], first: &mut [f32], second: &mut [f32]) {
    assert!(g.len() == p.len() && first.len() == p.len() && second.len() == p.len(), "blocks of one length");
    // SAFETY: lengths are equal; `Isa` values come from detection.
    unsafe {
        match isa {
            Isa::Portable => portable::update(step, p, g, first, second),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::update(step, p, g, first, second),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => avx512::update(step, p, g, first, second),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::update(step, p, g, first, second),
        }
    }
}
