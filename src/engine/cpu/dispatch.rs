//! One entrance an instruction set: the functions that carry `target_feature` and choose the instantiation for a cell
//! and a slice's width.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use super::buffer::Buffer;
use super::forward::{Part, Pass, forward, product};
use super::geometry::{Geometry, Isa};
use super::gradient::{self, Job};
use super::profile::Pass as Timed;
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Portable, Simd};
use super::space::Slice;
use super::update::{self, Step};
use super::{backward::backward, head, short};
use crate::engine::SampleRequest;
use crate::model::CellKind;
use crate::sample::{Choice, Scratch, Stream};

/// What is to be done with a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Forward, loss, backward.
    Train,
    /// Forward and backward of the recurrent layers alone, from the gradient of their output that is there.
    Layers,
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
unsafe fn slice<
    S: Simd,
    const A: usize,
    const B: usize,
    const MR: usize,
    const HALF: usize,
    const NV: usize,
>(
    work: Work,
    pass: &Pass,
    slice: &Slice,
    part: &Part,
) {
    slice.clock.start(part);
    forward::<S, A, B, NV>(pass, slice, part);
    slice.clock.lap(Timed::Forward, part);
    match work {
        Work::Train => {
            head::losses::<S, MR, HALF, NV, true>(pass, slice, part);
            part.meet();
            slice.clock.lap(Timed::Head, part);
            backward::<S, B, MR, HALF, NV>(pass, slice, part);
            slice.clock.lap(Timed::Backward, part);
        }
        Work::Layers => backward::<S, B, MR, HALF, NV>(pass, slice, part),
        Work::Evaluate => head::losses::<S, MR, HALF, NV, false>(pass, slice, part),
        Work::Logits if part.rank == 0 => {
            head::logits::<S, MR, NV>(pass, slice, pass.steps - 1, slice.logits.shared())
        }
        Work::Logits | Work::States => {}
    }
}

/// The entrances of one instruction set: slices, gradient jobs, updates. One function a cell and a slice's width in
/// vectors, so that each is optimised on its own.
macro_rules! entrances {
    (#[$attribute:meta] $module:ident, $S:ty, tile $MR:literal or $HALF:literal,
     $($cell:ident: $A:literal x $B:literal, $($name:ident $NV:literal)+;)+) => {
        mod $module {
            use super::*;

            $($(
                #[$attribute]
                unsafe fn $name(work: Work, pass: &Pass, s: &Slice, part: &Part) {
                    slice::<$S, $A, $B, $MR, $HALF, $NV>(work, pass, s, part);
                }
            )+)+

            pub unsafe fn run(work: Work, pass: &Pass, s: &Slice, part: &Part) {
                match (pass.geo.shape.cell, s.width / <$S>::LANES) {
                    $($((CellKind::$cell, $NV) => $name(work, pass, s, part),)+)+
                    (_, vectors) => unreachable!("no kernel is {vectors} vectors wide"),
                }
            }

            #[$attribute]
            pub unsafe fn gradient(geo: &Geometry, slices: &[Slice], steps: usize, jobs: &mut [Job]) {
                match slices.first().map_or(1, |slice| slice.width / <$S>::LANES) {
                    1 => gradient::run::<$S, $MR, $HALF, 1>(geo, slices, steps, jobs),
                    _ => gradient::run::<$S, $MR, $HALF, 2>(geo, slices, steps, jobs),
                }
            }

            #[$attribute]
            pub unsafe fn bare(blocks: usize, depth: usize, w: *const f32, x: *const f32, out: *mut f32) {
                for block in 0..blocks {
                    let mut acc = [[[<$S>::splat(0.0); 2]; 1]; $MR];
                    product::<$S, $MR, 1, 2>(&mut acc, w.add(block * $MR * depth), $MR, x, depth);
                    for i in 0..$MR {
                        for v in 0..2 {
                            let to = ((block * $MR + i) * 2 + v) * <$S>::LANES;
                            <$S>::store(out.add(to), acc[i][0][v]);
                        }
                    }
                }
            }

            #[$attribute]
            pub unsafe fn choose(choice: &Choice, logits: &mut [f32], u: &[f32], chosen: &mut [i32]) {
                const LANES: usize = <$S>::LANES;
                let width = u.len();
                let groups = u.as_chunks::<LANES>().0.iter().zip(chosen.as_chunks_mut::<LANES>().0);
                for (group, (u, chosen)) in groups.enumerate() {
                    *chosen = choice.pick_lanes(logits, width, group * LANES, u);
                }
            }

            #[$attribute]
            pub unsafe fn pick(request: &SampleRequest, logits: &mut [f32], u: f32, scratch: &mut Scratch) -> Option<u16> {
                request.choice.pick_here(logits, &request.banned, u, scratch)
            }

            #[$attribute]
            pub unsafe fn update(step: &Step, p: &mut [f32], g: &[f32], first: &mut [f32], second: &mut [f32]) {
                let n = p.len();
                update::apply::<$S>(step, p.as_mut_ptr(), g.as_ptr(), first.as_mut_ptr(), second.as_mut_ptr(), n);
            }
        }
    };
}

// UB x G and the tile's height are `Isa::unit_block` and `Isa::tile_rows`; the widths are `Geometry::vectors`.
entrances!(#[inline(never)] portable, Portable, tile 6 or 3, Lstm: 1 x 4, lstm 1; Gru: 2 x 3, gru 1; Rnn: 6 x 1, rnn 1;);
#[cfg(target_arch = "x86_64")]
entrances!(#[target_feature(enable = "avx2,fma,f16c")] avx2, Avx2, tile 6 or 3,
    Lstm: 1 x 4, lstm1 1 lstm2 2; Gru: 2 x 3, gru1 1 gru2 2; Rnn: 6 x 1, rnn1 1 rnn2 2;);
#[cfg(target_arch = "x86_64")]
entrances!(#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")] avx512, Avx512, tile 12 or 6,
    Lstm: 3 x 4, lstm1 1 lstm2 2; Gru: 4 x 3, gru1 1 gru2 2; Rnn: 12 x 1, rnn1 1 rnn2 2;);

/// Runs a slice.
pub fn run_slice(work: Work, pass: &Pass, slice: &mut Slice) {
    // SAFETY: the slice is borrowed exclusively, and the part is all of it.
    unsafe { run_part(work, pass, slice, &Part::WHOLE) }
}

/// Runs a thread's part of a slice.
///
/// # Safety
/// Nothing else uses the slice, but for its other parts on other threads, each of them once and with the same `work` and
/// `pass`; they meet at the same meeting.
pub unsafe fn run_part(work: Work, pass: &Pass, slice: &Slice, part: &Part) {
    if let Some(weights) = &pass.weights.short {
        // SAFETY: the caller's.
        return unsafe { short::run_part(work, pass, weights, slice, part) };
    }
    assert!(pass.steps >= 1 && pass.steps <= slice.steps, "the slice has room for the chunk");
    // SAFETY: `Isa` values come from detection; slices are made by `Slice::new` for the pass's geometry, and the
    // assertions above hold the sizes that it leaves open.
    unsafe {
        match pass.geo.isa {
            Isa::Portable => portable::run(work, pass, slice, part),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::run(work, pass, slice, part),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => avx512::run(work, pass, slice, part),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::run(work, pass, slice, part),
        }
    }
}

/// Runs gradient jobs over slices that have been trained on.
pub fn run_gradient(geo: &Geometry, slices: &[Slice], steps: usize, jobs: &mut [Job]) {
    assert!(slices.iter().all(|s| steps <= s.steps && s.record_stride > 0), "slices for training");
    // SAFETY: as in `run_slice`; jobs are made by `gradient::jobs` for the same geometry.
    unsafe {
        match geo.isa {
            Isa::Portable => portable::gradient(geo, slices, steps, jobs),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::gradient(geo, slices, steps, jobs),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => avx512::gradient(geo, slices, steps, jobs),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::gradient(geo, slices, steps, jobs),
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
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => avx512::update(step, p, g, first, second),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::update(step, p, g, first, second),
        }
    }
}

/// A plain choice for each of W streams from logits [V][W] (overwritten), where banned ids are minus infinity already,
/// with the uniform numbers `u` [W]: ids, or [`crate::sample::lanes::NOTHING`]. W is a multiple of the machine's lanes.
pub fn run_choose(isa: Isa, choice: &Choice, logits: &mut [f32], u: &[f32], chosen: &mut [i32]) {
    // SAFETY: no pointer is involved; `Isa` values come from detection.
    unsafe {
        match isa {
            Isa::Portable => portable::choose(choice, logits, u, chosen),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::choose(choice, logits, u, chosen),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => avx512::choose(choice, logits, u, chosen),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::choose(choice, logits, u, chosen),
        }
    }
}

/// Goes on with one stream as [`Stream::advance`] does, with the same bits and the machine's vectors.
pub fn advance(
    isa: Isa,
    stream: &mut Stream,
    request: &SampleRequest,
    logits: &mut [f32],
    scratch: &mut Scratch,
) {
    // SAFETY: no pointer is involved; `Isa` values come from detection.
    stream.advance_by(request, |u| unsafe {
        match isa {
            Isa::Portable => portable::pick(request, logits, u, scratch),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::pick(request, logits, u, scratch),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => avx512::pick(request, logits, u, scratch),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::pick(request, logits, u, scratch),
        }
    });
}

/// `blocks` tiles of products over `depth`, two vectors wide: weights [block][depth][MR], x [depth][W], out [block][MR][W].
pub fn run_bare(isa: Isa, blocks: usize, depth: usize, weights: &Buffer, x: &Buffer, out: &mut Buffer) {
    let (tile, width) = (isa.tile_rows(), 2 * isa.lanes());
    assert!(weights.len() >= blocks * tile * depth && x.len() >= depth * width, "operands of these sizes");
    assert!(out.len() >= blocks * tile * width, "room for the sums");
    let (w, x, out) = (weights.ptr(), x.ptr(), out.ptr_mut());
    // SAFETY: sizes as asserted; `Isa` values come from detection.
    unsafe {
        match isa {
            Isa::Portable => portable::bare(blocks, depth, w, x, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => avx2::bare(blocks, depth, w, x, out),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => avx512::bare(blocks, depth, w, x, out),
            #[cfg(not(target_arch = "x86_64"))]
            _ => portable::bare(blocks, depth, w, x, out),
        }
    }
}
