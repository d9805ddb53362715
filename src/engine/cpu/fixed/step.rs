//! One step of all streams: products in tiles, and behind each block's its cells.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // The contract of `run`.

use std::arch::x86_64::_mm512_storeu_ps;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::short::{Pieces, Spread};
use super::super::team::Meeting;
use super::block::{GROUP_SUMS, Layer, digits, load, total};
use super::cells::{Cell, Cells, Gru, Lstm, Rnn};
use super::space::Space;
use super::tiles::{self, FEW, GROUP, Groups};
use super::weights::{COLUMNS, DIGITS, Matrix, Weights};
use crate::model::CellKind;

/// What a step is given.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// The model.
    pub weights: &'a Weights,
    /// The streams; the states after the step are in the other half of the digits.
    pub space: &'a Space,
    /// Whether logits are wanted.
    pub logits: bool,
    /// Of the threads that share the step.
    pub meeting: &'a Meeting,
}

/// Sums of two blocks: of one that is multiplied, and of the one before, whose cells are computed meanwhile.
#[repr(align(64))]
struct Sums(MaybeUninit<[[i32; 2 * GROUP_SUMS]; 2]>);

/// A member's part of a step. Member 0 has called [`tiles::begin`] for the space's streams; others do here.
///
/// # Safety
/// The machine has AMX with bytes and AVX-512 with F, DQ and BW, and this process may use the tiles. Every member of the meeting
/// runs the same step once, and nothing else uses its space.
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx2,fma,f16c")]
pub unsafe fn run(step: &Step, member: usize) {
    let Step { weights, space, meeting, .. } = *step;
    let share = |blocks: usize| {
        let of = meeting.members;
        blocks * member / of..blocks * (member + 1) / of
    };
    let mut sums = Sums(MaybeUninit::uninit());
    let first: *mut i32 = sums.0.as_mut_ptr().cast();
    let sums = [first, first.add(2 * GROUP_SUMS)];
    if member > 0 {
        tiles::begin(space.streams, weights.head.depth);
    }
    for (layer, matrix) in weights.layers.iter().enumerate() {
        let blocks = share(matrix.blocks());
        match (weights.shape.cell, space.streams) {
            (CellKind::Lstm, GROUP) => layer_of::<Lstm, 4>(step, layer, matrix, blocks, sums),
            (CellKind::Lstm, _) => layer_of::<Lstm, 1>(step, layer, matrix, blocks, sums),
            (CellKind::Gru, GROUP) => layer_of::<Gru, 4>(step, layer, matrix, blocks, sums),
            (CellKind::Gru, _) => layer_of::<Gru, 1>(step, layer, matrix, blocks, sums),
            (CellKind::Rnn, GROUP) => layer_of::<Rnn, 4>(step, layer, matrix, blocks, sums),
            (CellKind::Rnn, _) => layer_of::<Rnn, 1>(step, layer, matrix, blocks, sums),
        }
        meeting.barrier();
    }
    if step.logits {
        head(step, share(weights.head.blocks()), sums);
    }
    if member > 0 {
        tiles::end();
    }
}

/// The sums of a block; `from`: the digits that each of its parts is multiplied with. `beside` is done meanwhile.
#[inline(always)]
unsafe fn products(
    space: &Space,
    matrix: &Matrix,
    block: usize,
    from: [*const i8; 2],
    sums: *mut i32,
    beside: &mut impl Pieces,
) {
    let (n, zeros, tile) = (space.streams, space.zeros(), space.tile_bytes());
    let first = matrix.operands(block, 0, from[0].wrapping_add(zeros), tile);
    let operands = [first, matrix.operands(block, matrix.parts - 1, from[1].wrapping_add(zeros), tile)];
    let operands = &operands[..matrix.parts];
    let turns = 3 * matrix.depth.tiles();
    if n <= FEW {
        let mut beside = Spread::early(beside, turns * operands.len());
        return tiles::few(operands, matrix.depth, n, sums, &mut beside);
    }
    let mut columns = 0;
    for operands in operands {
        columns += operands.columns.count();
    }
    let mut beside = Spread::early(beside, turns * columns);
    let groups = Groups { digits: space.group_bytes(), sums: GROUP_SUMS };
    for column in 0..COLUMNS {
        let to = sums.wrapping_add(column * DIGITS * GROUP * 16);
        if space.groups == 1 {
            tiles::many::<false>(operands, column, matrix.depth, groups, to, &mut beside);
        } else {
            tiles::many::<true>(operands, column, matrix.depth, groups, to, &mut beside);
        }
    }
}

/// Some blocks of a layer.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx2,fma,f16c")]
unsafe fn layer_of<C: Cell, const N: usize>(
    step: &Step,
    layer: usize,
    matrix: &Matrix,
    blocks: Range<usize>,
    sums: [*mut i32; 2],
) {
    let space = step.space;
    let before: *const i8 = digits(space, layer, 0);
    let from = if layer == 0 { [before; 2] } else { [digits(space, layer - 1, 1).cast_const(), before] };
    let layer = Layer::new(space, matrix, layer);
    let mut last = Cells::<C, N>::new(&layer, None, sums[0]);
    for block in blocks {
        let sums = sums[block % 2];
        products(space, matrix, block, from, sums, &mut last);
        last = Cells::new(&layer, Some(block), sums);
    }
    last.all();
}

/// The logits of a block's columns: in pieces of a stream.
struct Logits<'a> {
    space: &'a Space,
    matrix: &'a Matrix,
    block: usize,
    sums: *const i32,
    next: usize,
    streams: usize,
}

impl Pieces for Logits<'_> {
    #[inline(always)]
    fn pieces(&self) -> usize {
        self.streams
    }

    #[inline(always)]
    unsafe fn piece(&mut self) {
        let Logits { space, matrix, block, sums, next, .. } = *self;
        self.next += 1;
        let n = space.streams;
        let sums = sums.wrapping_add(next / n * GROUP_SUMS + next % n * 16);
        let at = block * COLUMNS * 16;
        let (scale, bias) = (matrix.scale.ptr().add(at), matrix.bias.ptr().add(at));
        let to = space.logits.shared().add(next * matrix.blocks() * COLUMNS * 16 + at);
        for column in 0..COLUMNS {
            let scale = load(scale.add(column * 16));
            _mm512_storeu_ps(to.add(column * 16), total(sums, n, column, scale, bias));
        }
    }
}

/// Some blocks of the logits.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512dq,avx512bw,avx2,fma,f16c")]
unsafe fn head(step: &Step, blocks: Range<usize>, sums: [*mut i32; 2]) {
    let (space, matrix) = (step.space, &step.weights.head);
    let from: *const i8 = digits(space, space.layers.len() - 1, 1);
    let mut last = Logits { space, matrix, block: 0, sums: sums[0], next: 0, streams: 0 };
    for block in blocks {
        let sums = sums[block % 2];
        products(space, matrix, block, [from; 2], sums, &mut last);
        last = Logits { block, sums, next: 0, streams: space.capacity(), ..last };
    }
    last.all();
}
