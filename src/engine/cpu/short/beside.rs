//! What the forward pass does beside the products of a block, in small pieces: the cells of the block before, and the
//! table's part of the sums of the block after it; for the next layer or the head, states as pairs.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use std::marker::PhantomData;
use std::ops::Range;

use super::cells::{self, Four, Rows, State};
use super::lanes::{self, V, high, load, low, pair as pair_of, pair_at, parts, splat, store, store_pairs};
use super::products::{Pieces, Product, ROW};
use super::{Sizes, Slice};
use crate::model::CellKind;

/// Where the cells of a step read and write.
pub struct Cells {
    pub cell: CellKind,
    pub hidden: usize,
    /// Units a block.
    pub per: usize,
    pub sizes: Sizes,
    /// Sums of even and of odd blocks.
    pub sums: [*mut f32; 2],
    /// What the table adds to the sums of a block, of the one after it, and of the one before.
    pub inputs: [*mut f32; 3],
    pub bias: *const f32,
    /// Whether there is a table, which has the biases as well.
    pub first: bool,
    /// See [`super::weights::LayerWeights::table`].
    pub table: *const f32,
    /// This step's characters.
    pub ids: *const i32,
    pub records: *mut f32,
    pub c: *mut f32,
    pub h_before: *const f32,
    /// The new state as pairs of units.
    pub after: *mut f32,
    /// As f32, or null.
    pub h_after: *mut f32,
    pub training: bool,
    /// As pairs of streams, or null in inference and where numbers have parts.
    pub stage: *mut f32,
}

impl Cells {
    /// A square of the table's part of a block's sums, of two a vector.
    #[inline(always)]
    pub unsafe fn gather<P: Product>(&self, block: usize, quarter: usize) {
        let (row, lane) = (quarter / P::VECTORS * 16, quarter % P::VECTORS * 16);
        let to = self.inputs[block % 3].add(row * P::WIDTH + lane);
        let from = self.table.add(block * 32 + row);
        lanes::gather16(from, self.sizes.rows, self.ids.add(lane), to, P::WIDTH);
    }

    /// Two units of a block.
    #[inline(always)]
    pub unsafe fn whole<P: Product>(&self, block: usize, pair: usize) {
        let mut state = [[[splat(0.0); 2]; 2]; 4];
        // Stages that the compiler knows, so that it puts them one behind the other.
        match self.cell {
            CellKind::Lstm => {
                for stage in 0..=cells::stages(CellKind::Lstm) {
                    self.pair::<P>(block, pair, stage, &mut state);
                }
            }
            CellKind::Gru => {
                for stage in 0..=cells::stages(CellKind::Gru) {
                    self.pair::<P>(block, pair, stage, &mut state);
                }
            }
            CellKind::Rnn => {
                for stage in 0..=cells::stages(CellKind::Rnn) {
                    self.pair::<P>(block, pair, stage, &mut state);
                }
            }
        }
    }

    /// A stage of two units of a block; the one after a cell's last stores the new state.
    #[inline(always)]
    unsafe fn pair<P: Product>(&self, block: usize, pair: usize, stage: usize, state: &mut State) {
        let unit = block * self.per + 2 * pair;
        if unit >= self.hidden {
            return;
        }
        let (sizes, training) = (&self.sizes, self.training);
        let records = self.records.wrapping_add(unit * sizes.record * P::WIDTH);
        if stage == 0 && training {
            // The records of the block after this one.
            let next = records.wrapping_add(self.per * sizes.record * P::WIDTH);
            for line in 0..2 * P::VECTORS * sizes.record {
                lanes::ahead_to_write(next.wrapping_add(16 * line));
            }
        }
        if stage == cells::stages(self.cell) {
            return self.finish::<P>(unit, &state[0]);
        }
        let rows = Rows {
            sums: self.sums[block % 2].add(2 * pair * sizes.slots * ROW),
            inputs: if P::PARTS > 1 && self.first {
                self.inputs[block % 3].add(2 * pair * sizes.slots * P::WIDTH)
            } else {
                std::ptr::null()
            },
            bias: self.bias.add(unit * sizes.slots),
            records: if training { records } else { std::ptr::null_mut() },
            record: sizes.record,
            c: self.c.wrapping_add(unit * P::WIDTH),
            h_before: self.h_before.wrapping_add(unit * P::WIDTH),
        };
        match self.cell {
            CellKind::Lstm => cells::lstm::<P>(&rows, stage, state),
            CellKind::Gru => cells::gru::<P>(&rows, stage, state),
            CellKind::Rnn => cells::rnn::<P>(&rows, state),
        }
    }

    /// Stores the new state of two units, in all its forms.
    #[inline(always)]
    unsafe fn finish<P: Product>(&self, unit: usize, h: &Four) {
        let after = self.after.add(pair_at::<P>(unit));
        if self.training && P::PARTS > 1 {
            // The next step's.
            let next = self.h_after.wrapping_add(self.sizes.state + unit * P::WIDTH);
            for line in 0..2 * P::VECTORS {
                lanes::ahead_to_write(next.wrapping_add(16 * line));
            }
        }
        let a = [parts::<P>(h[0][0]), parts::<P>(h[0][1])];
        let b = [parts::<P>(h[1][0]), parts::<P>(h[1][1])];
        for v in 0..P::VECTORS {
            store_pairs::<P>(after.add(16 * v), a[v], b[v]);
        }
        if !self.h_after.is_null() {
            for v in 0..P::VECTORS {
                let (mut first, mut second) = (h[0][v], h[1][v]);
                if P::PARTS == 1 {
                    let both = pair_of(first, second);
                    (first, second) = (low(both), high(both));
                }
                store(self.h_after.add(unit * P::WIDTH + 16 * v), first);
                store(self.h_after.add((unit + 1) * P::WIDTH + 16 * v), second);
            }
        }
        if !self.stage.is_null() {
            staged(self.stage, self.hidden, unit, h[0], h[1]);
        }
    }
}

/// What is done while a block is multiplied, in small pieces; nothing in bf16.
pub struct Beside<'a, P> {
    cells: &'a Cells,
    /// The block that is multiplied.
    block: usize,
    /// Squares of the next block's sums.
    gathers: usize,
    /// Stages a pair of units, the last of which stores.
    stages: usize,
    /// The next pair of units, and its stage.
    pair: usize,
    stage: usize,
    /// Pieces in all, and done.
    pieces: usize,
    done: usize,
    state: State,
    of: PhantomData<P>,
}

impl<'a, P: Product> Beside<'a, P> {
    #[inline(always)]
    pub unsafe fn new(cells: &'a Cells, block: usize, own: &Range<usize>, table: bool) -> Beside<'a, P> {
        let gathers = if table && block + 1 < own.end { 2 * P::VECTORS } else { 0 };
        let stages = cells::stages(cells.cell) + 1;
        let pairs = if block > own.start && P::PARTS > 1 { cells.per / 2 } else { 0 };
        Beside {
            cells,
            block,
            gathers,
            stages,
            pair: 0,
            stage: 0,
            pieces: gathers + pairs * stages,
            done: 0,
            state: [[[splat(0.0); 2]; 2]; 4],
            of: PhantomData,
        }
    }

    /// The next piece. A call, for one copy of it at each piece of a product would not fit into the instructions' cache.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
    unsafe fn next(&mut self) {
        if self.done < self.gathers {
            self.cells.gather::<P>(self.block + 1, self.done);
        } else {
            self.cells.pair::<P>(self.block - 1, self.pair, self.stage, &mut self.state);
            self.stage += 1;
            if self.stage == self.stages {
                (self.pair, self.stage) = (self.pair + 1, 0);
            }
        }
        self.done += 1;
    }
}

impl<P: Product> Pieces for Beside<'_, P> {
    #[inline(always)]
    fn pieces(&self) -> usize {
        self.pieces
    }

    #[inline(always)]
    unsafe fn piece(&mut self) {
        self.next();
    }
}

/// Two units' rows as pairs of streams; never over the row of ones.
#[inline(always)]
pub unsafe fn staged(stage: *mut f32, hidden: usize, unit: usize, a: [V; 2], b: [V; 2]) {
    store(stage.add(unit * 16), lanes::row(a[0], a[1]));
    if unit + 1 < hidden {
        store(stage.add((unit + 1) * 16), lanes::row(b[0], b[1]));
    }
}

/// Where numbers have parts: a layer's output at a step on its way to pairs of units, in pieces.
pub struct OutputPairs<P> {
    from: *const f32,
    to: *mut f32,
    /// The next unit, and their end.
    unit: usize,
    units: usize,
    of: PhantomData<P>,
}

impl<P: Product> OutputPairs<P> {
    /// Into `to` [units/32][parts][16][W].
    #[inline(always)]
    pub unsafe fn new(sizes: &Sizes, slice: &Slice, layer: usize, t: usize, to: *mut f32) -> OutputPairs<P> {
        let from = slice.output(sizes.state, layer, t);
        OutputPairs { from, to, unit: 0, units: sizes.units, of: PhantomData }
    }
}

impl<P: Product> Pieces for OutputPairs<P> {
    #[inline(always)]
    fn pieces(&self) -> usize {
        self.units / 2
    }

    /// Two units.
    #[inline(always)]
    unsafe fn piece(&mut self) {
        for v in 0..P::VECTORS {
            let from = self.from.add(self.unit * P::WIDTH + 16 * v);
            let to = self.to.add(pair_at::<P>(self.unit) + 16 * v);
            store_pairs::<P>(to, parts::<P>(load(from)), parts::<P>(load(from.add(P::WIDTH))));
        }
        self.unit += 2;
    }
}
