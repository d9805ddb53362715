//! Back-propagation through time for one slice: per layer from the top, per step from the last, 32 units at a time.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::forward::{Part, Pass};
use super::super::head::{mask_of, tiles};
use super::super::math;
use super::super::simd::Avx512;
use super::forward::Sums;
use super::lanes::{
    self, V, add, fma, high, less, load, low, mul, pair_at, parts, splat, store, store_pairs, sub,
};
use super::products::{Between, Pairs, Pieces, Product, Spread, TILE, Tiles};
use super::{Sizes, Slice, Space, WIDTH, Weights};
use crate::model::CellKind;

/// After the forward pass and the head with `TRAIN`: leaves the gate gradients of all layers as pairs of streams.
#[inline(always)]
pub unsafe fn backward<P: Product>(
    pass: &Pass,
    weights: &Weights,
    slice: &Slice,
    space: &Space,
    part: &Part,
) {
    let geo = pass.geo;
    let sizes = Sizes::new(geo);
    let hidden = geo.shape.hidden;
    let rows = pass.geo.units * WIDTH;
    let own = part.share(sizes.units / 32);
    // Where its gate rows as pairs of streams begin, and how many numbers they are.
    let (a_unit, units) = (sizes.slots * 16, own.start * 32..(own.end * 32).min(hidden));
    let (first, count) = (units.start * a_unit, units.len() * a_unit);
    let panels = part.share(geo.gate_panels());
    let gate_rows = panels.start * geo.isa.panel()..(panels.end * geo.isa.panel()).min(geo.gates * hidden);
    for layer in (0..geo.shape.layers).rev() {
        if slice.dc.len() > 0 {
            let (at, n) = (own.start * 32 * WIDTH, own.len() * 32 * WIDTH);
            std::slice::from_raw_parts_mut(slice.dc.shared().add(at), n).fill(0.0);
        }
        for t in (0..pass.steps).rev() {
            let (records, record_stride) = space.records::<P>(&sizes, slice, layer);
            let records = records.add(t * record_stride);
            // A thread whose units are the first writes over records that it has read. Another's place is among records that
            // others are reading.
            let aside = part.room.filter(|_| P::PARTS == 1).map(|room| room.gradients.shared());
            let streams = aside.map_or(records, |aside| aside.wrapping_sub(first));
            let share = (own.clone(), gate_rows.clone());
            step::<P>(pass, weights, &sizes, (slice, space), (layer, t), share, streams);
            part.meet();
            if let Some(aside) = aside {
                std::ptr::copy_nonoverlapping(aside.cast_const(), records.add(first), count);
            }
            if layer > 0 {
                let d = space.gates.ptr().add(t % 2 * sizes.gates());
                let mask = mask_of(pass, slice, layer - 1, t, rows);
                let to = slice.dx.shared().add(t * rows);
                let back = weights.layers[layer].back_input.ptr();
                into_layer::<P>(to, back, d, own.clone(), sizes.rows / 32, mask, &mut ());
            }
        }
        if P::PARTS > 1 {
            let mut rest = Transposing::of(pass, slice, layer, 0, gate_rows.clone());
            while rest.left() > 0 {
                rest.next();
            }
        }
        // The next layer's last step may have the place of this one's first.
        part.meet();
    }
}

/// out = mask * w times d: a gradient on its way into the layer below. `w` are [units/32][depth] tiles, `d` [depth] ones;
/// `out` and `mask` are [units][W], of which `blocks` of 32 are done.
#[inline(always)]
pub unsafe fn into_layer<P: Product>(
    out: *mut f32,
    w: *const f32,
    d: *const f32,
    blocks: Range<usize>,
    depth: usize,
    mask: *const f32,
    between: &mut impl Between,
) {
    for block in blocks.clone() {
        let w = Tiles::dense::<P>(w.cast::<u32>().add(block * depth * P::PARTS * TILE));
        let pairs = Pairs { a: w, b: Tiles::dense::<P>(d.cast()), n: depth };
        P::sums::<false>(out.add(block * 32 * WIDTH), WIDTH, Pairs::NONE, [pairs, Pairs::NONE], between);
    }
    if !mask.is_null() {
        for i in (blocks.start * 32 * WIDTH..blocks.end * 32 * WIDTH).step_by(16) {
            store(out.add(i), mul(load(out.add(i)), load(mask.add(i))));
        }
    }
}

/// A thread's blocks of one step of one layer: d h from above and from the next step, then the cell, whose gate gradients go
/// to `streams` as pairs of streams. Where numbers have parts its gate rows of the next step are brought into tiles as well.
#[inline(always)]
unsafe fn step<P: Product>(
    pass: &Pass,
    weights: &Weights,
    sizes: &Sizes,
    (slice, space): (&Slice, &Space),
    (layer, t): (usize, usize),
    (blocks, gate_rows): (Range<usize>, Range<usize>),
    streams: *mut f32,
) {
    let geo = pass.geo;
    let rows = geo.units * WIDTH;
    let last = t + 1 == pass.steps;
    let (records, record_stride) = space.records::<P>(sizes, slice, layer);
    let records = records.add(t * record_stride);
    let records_before = records.wrapping_sub(if t > 0 { record_stride } else { 0 });
    let back = weights.layers[layer].back.ptr().cast::<u32>();
    let next = space.gates.ptr().add((t + 1) % 2 * sizes.gates()).cast::<u32>();
    let now = t % 2 * geo.gates * rows;
    // Written before they are read.
    let mut sums = MaybeUninit::<[Sums; 2]>::uninit();
    let even = sums.as_mut_ptr().cast::<f32>();
    let cells = Cells {
        cell: geo.shape.cell,
        hidden: geo.shape.hidden,
        sizes: *sizes,
        last,
        cut: !last && slice.any_reset[t + 1],
        here_reset: slice.any_reset[t],
        first: t == 0,
        keep_next: slice.keep.ptr().wrapping_add((t + 1) * WIDTH),
        keep_here: slice.keep.ptr().add(t * WIDTH),
        h_before: slice.h_before(rows, layer, t),
        h_after: slice.layers[layer].h.ptr().add((t + 1) * rows),
        c_before: slice.layers[layer].c_before.ptr(),
        records,
        records_before,
        sums: [even, even.wrapping_add(32 * WIDTH)],
        dx: slice.dx.ptr().add(t * rows),
        direct: slice.direct.shared(),
        dc: slice.dc.shared(),
        gates: space.gates.shared().add(t % 2 * sizes.gates()),
        streams,
        dg: slice.dg.shared().wrapping_add(now),
        dg_input: slice.dg_input.shared().wrapping_add(now),
    };
    let depth = sizes.rows / 32;
    // The tiles of the step after this one, shared out over the blocks.
    let gate_rows = if P::PARTS > 1 && !last { gate_rows } else { 0..0 };
    let mut transposing = Transposing::of(pass, slice, layer, (t + 1).min(pass.steps - 1), gate_rows);
    let each = transposing.left().div_ceil(blocks.len().max(1));
    for block in blocks.clone() {
        let before = (block > blocks.start).then(|| block - 1);
        let mut beside = Beside::<P>::new(&cells, before, &mut transposing, each);
        if last {
            beside.all();
        } else {
            let w = Tiles::dense::<P>(back.add(block * depth * P::PARTS * TILE));
            let pairs = Pairs { a: w, b: Tiles::dense::<P>(next), n: depth };
            let sums = cells.sums[block % 2];
            let mut beside = Spread::over::<P>(&mut beside, depth);
            P::sums::<false>(sums, WIDTH, Pairs::NONE, [pairs, Pairs::NONE], &mut beside);
        }
    }
    if !blocks.is_empty() {
        Beside::<P>::new(&cells, Some(blocks.end - 1), &mut transposing, 0).all();
    }
    // None, unless this thread had no block to do it beside.
    while transposing.left() > 0 {
        transposing.next();
    }
}

/// d of the four gate rows (of the one, in slot 0) of a unit, in two vectors.
type Gates = [[V; 2]; 4];

/// What the cells of a step read and write.
struct Cells {
    cell: CellKind,
    hidden: usize,
    sizes: Sizes,
    /// Whether no step follows, and whether there a tune starts.
    last: bool,
    cut: bool,
    /// Whether here a tune starts.
    here_reset: bool,
    first: bool,
    /// What is kept at the next step, and here.
    keep_next: *const f32,
    keep_here: *const f32,
    h_before: *const f32,
    h_after: *const f32,
    c_before: *const f32,
    records: *const f32,
    records_before: *const f32,
    /// d h from the next step, of even and of odd blocks.
    sums: [*mut f32; 2],
    /// The gradient from above.
    dx: *const f32,
    direct: *mut f32,
    dc: *mut f32,
    /// Gate gradients as pairs of gate rows, as pairs of streams, and as f32.
    gates: *mut f32,
    streams: *mut f32,
    dg: *mut f32,
    dg_input: *mut f32,
}

impl Cells {
    /// Asks for what comes next: of the block after this one, or of the step before.
    #[inline(always)]
    unsafe fn ahead(&self, unit: usize) {
        let sizes = &self.sizes;
        let next = if unit / 32 + 1 < sizes.units / 32 {
            self.records.wrapping_add((unit + 32) * sizes.record * WIDTH)
        } else {
            self.records_before.wrapping_add(unit % 32 * sizes.record * WIDTH)
        };
        for line in 0..4 * sizes.record {
            lanes::ahead(next.wrapping_add(16 * line));
        }
        if self.cell == CellKind::Lstm {
            // And c of the step before, which this step needs first.
            let c = (unit + 32) * sizes.record + sizes.record - 1;
            for i in 0..2 {
                let c = self.records_before.wrapping_add((c + i * sizes.record) * WIDTH);
                lanes::ahead(c);
                lanes::ahead(c.wrapping_add(16));
            }
        }
    }

    /// A vector of a unit.
    #[inline(always)]
    unsafe fn vector<P: Product>(&self, unit: usize, v: usize, d: &mut Gates) {
        let sizes = &self.sizes;
        let lane = 16 * v;
        let at = unit * WIDTH + lane;
        let record = self.records.add(unit * sizes.record * WIDTH + lane);
        let mut from_next = splat(0.0);
        if !self.last {
            from_next = load(self.sums[unit / 32 % 2].add(unit % 32 * WIDTH + lane));
            if self.cell == CellKind::Gru {
                from_next = add(from_next, load(self.direct.add(at)));
            }
            if self.cut {
                from_next = mul(from_next, load(self.keep_next.add(lane)));
            }
        }
        let dh = add(from_next, load(self.dx.add(at)));
        let one = splat(1.0);
        match self.cell {
            CellKind::Lstm => {
                let [in_, forget] = both::<P>(record, 0);
                let [cell, out] = both::<P>(record, 1);
                let c = sizes.record - 1;
                let tanh_c = math::tanh::<Avx512>(load(record.add(c * WIDTH)));
                let c_prev = if self.first {
                    load(self.c_before.add(at))
                } else {
                    load(self.records_before.add((unit * sizes.record + c) * WIDTH + lane))
                };
                let dh_out = mul(dh, out);
                let dc_now = add(load(self.dc.add(at)), less(mul(dh_out, tanh_c), tanh_c, dh_out));
                let mut d_forget = mul(mul(dc_now, c_prev), less(forget, forget, forget));
                let mut dc_prev = mul(dc_now, forget);
                if self.here_reset {
                    let keep = load(self.keep_here.add(lane));
                    d_forget = mul(d_forget, keep);
                    dc_prev = mul(dc_prev, keep);
                }
                store(self.dc.add(at), dc_prev);
                d[0][v] = mul(mul(dc_now, cell), less(in_, in_, in_));
                d[1][v] = d_forget;
                d[2][v] = mul(mul(dc_now, in_), less(cell, cell, one));
                d[3][v] = mul(mul(dh_out, tanh_c), sub(one, out));
            }
            CellKind::Gru => {
                let [reset, update] = both::<P>(record, 0);
                let new = record.add((sizes.record - 2) * WIDTH);
                let (new, recurrent) = (load(new), load(new.add(WIDTH)));
                let d_new = mul(less(dh, update, dh), less(new, new, one));
                let difference = sub(load(self.h_before.add(at)), new);
                store(self.direct.add(at), mul(dh, update));
                d[0][v] = mul(mul(d_new, recurrent), less(reset, reset, reset));
                d[1][v] = mul(mul(dh, difference), less(update, update, update));
                d[2][v] = mul(d_new, reset);
                d[3][v] = d_new;
            }
            CellKind::Rnn => {
                let h = load(self.h_after.add(at));
                d[0][v] = fma(mul(dh, h), sub(splat(0.0), h), dh);
            }
        }
    }

    /// Stores the gate gradients of two units. Their records are dead: pairs of streams take the place of records already
    /// used.
    #[inline(always)]
    unsafe fn finish<P: Product>(&self, unit: usize, d: &[Gates; 2]) {
        let n = if self.sizes.slots == 4 { 4 } else { 1 };
        for i in 0..2 {
            let unit = unit + i;
            if P::PARTS > 1 {
                self.keep_f32(unit, &d[i]);
                continue;
            }
            for slot in 0..n {
                let d = d[i][slot];
                store(self.streams.wrapping_add((unit * n + slot) * 16), lanes::row(d[0], d[1]));
            }
        }
        if n == 4 {
            for (i, d) in d.iter().enumerate() {
                for two in [0, 2] {
                    let to = self.gates.add(pair_at::<P>((unit + i) * 4 + two));
                    store_both::<P>(to, d[two], d[two + 1]);
                }
            }
        } else {
            store_both::<P>(self.gates.add(pair_at::<P>(unit)), d[0][0], d[1][0]);
        }
    }

    /// The gradients of a unit's gate rows as the f32 kernels keep them: a GRU's before the recurrent and before the input
    /// product.
    #[inline(always)]
    unsafe fn keep_f32(&self, unit: usize, d: &Gates) {
        match self.cell {
            CellKind::Lstm => put(self.dg, unit, d, [0, 1, 2, 3]),
            CellKind::Gru => {
                put(self.dg, unit, d, [0, 1, 2]);
                put(self.dg_input, unit, d, [0, 1, 3]);
            }
            CellKind::Rnn => put(self.dg, unit, d, [0]),
        }
    }
}

/// Gate rows of a step of f32 as tiles over its records, which are dead: some rows at a time.
struct Transposing {
    /// Of the recurrent product; a GRU's of the input product.
    from: [*const f32; 2],
    to: [*mut f32; 2],
    sets: usize,
    rows: Range<usize>,
    panel: usize,
}

impl Transposing {
    unsafe fn of(pass: &Pass, slice: &Slice, layer: usize, t: usize, rows: Range<usize>) -> Transposing {
        let geo = pass.geo;
        let now = t % 2 * geo.gates * geo.units * WIDTH;
        let panel = geo.isa.panel();
        let to = slice.layers[layer].records.shared().wrapping_add(t * slice.record_stride);
        Transposing {
            from: [&slice.dg, &slice.dg_input].map(|dg| dg.ptr().wrapping_add(now)),
            to: [to, to.wrapping_add(geo.gate_panels() * panel * WIDTH)],
            sets: geo.tile_sets(),
            rows,
            panel,
        }
    }

    /// Pieces that remain.
    fn left(&self) -> usize {
        self.rows.len().div_ceil(8)
    }

    /// Eight rows.
    #[inline(always)]
    unsafe fn next(&mut self) {
        let rows = self.rows.start..(self.rows.start + 8).min(self.rows.end);
        for set in 0..self.sets {
            tiles::<Avx512>(self.to[set], self.from[set], rows.clone(), WIDTH, self.panel);
        }
        self.rows.start = rows.end;
    }
}

/// What is done while a block is multiplied, in small pieces: the cells of the block before it, and some transposing.
struct Beside<'a, P> {
    cells: &'a Cells,
    /// The next two units, which of their pieces is next, and the end of the block's units.
    unit: usize,
    step: usize,
    end: usize,
    transposing: &'a mut Transposing,
    /// In all.
    pieces: usize,
    d: [Gates; 2],
    of: PhantomData<P>,
}

impl<'a, P: Product> Beside<'a, P> {
    /// The cells of `block`, and up to `some` pieces of transposing.
    #[inline(always)]
    unsafe fn new(
        cells: &'a Cells,
        block: Option<usize>,
        transposing: &'a mut Transposing,
        some: usize,
    ) -> Beside<'a, P> {
        let unit = block.map_or(0, |block| block * 32);
        let end = block.map_or(0, |block| (block * 32 + 32).min(cells.hidden));
        Beside {
            cells,
            unit,
            step: 0,
            end,
            pieces: (end - unit).div_ceil(2) * PIECES_OF_TWO + some.min(transposing.left()),
            transposing,
            d: [[[splat(0.0); 2]; 4]; 2],
            of: PhantomData,
        }
    }

    /// The next piece; see [`super::beside::Beside`] for why it is a call.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
    unsafe fn next(&mut self) {
        if self.unit >= self.end {
            return self.transposing.next();
        }
        match self.step {
            0 => self.cells.ahead(self.unit),
            LAST => {
                self.cells.finish::<P>(self.unit, &self.d);
                self.unit += 2;
                self.step = 0;
                return;
            }
            _ => {}
        }
        let (i, v) = (self.step / 2, self.step % 2);
        self.cells.vector::<P>(self.unit + i, v, &mut self.d[i]);
        self.step += 1;
    }

    /// All at once.
    #[inline(always)]
    unsafe fn all(&mut self) {
        for _ in 0..self.pieces {
            self.next();
        }
    }
}

/// Pieces of two units' cells: four vectors, and storing them.
const PIECES_OF_TWO: usize = 5;
const LAST: usize = PIECES_OF_TWO - 1;

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

/// Two gates as they were kept; in `slot` of the pairs, or in two vectors of f32.
#[inline(always)]
unsafe fn both<P: Product>(record: *const f32, slot: usize) -> [V; 2] {
    if P::PARTS == 1 {
        let pairs = load(record.add(slot * WIDTH));
        [low(pairs), high(pairs)]
    } else {
        [load(record.add(2 * slot * WIDTH)), load(record.add((2 * slot + 1) * WIDTH))]
    }
}

/// The gradients of two successive gate rows as pairs.
#[inline(always)]
unsafe fn store_both<P: Product>(to: *mut f32, a: [V; 2], b: [V; 2]) {
    for v in 0..2 {
        store_pairs::<P>(to.add(16 * v), parts::<P>(a[v]), parts::<P>(b[v]));
    }
}

/// Rows of some slots of a unit as G rows.
#[inline(always)]
unsafe fn put<const G: usize>(to: *mut f32, unit: usize, d: &[[V; 2]; 4], slots: [usize; G]) {
    for gate in 0..G {
        let to = to.add((unit * G + gate) * WIDTH);
        store(to, d[slots[gate]][0]);
        store(to.add(16), d[slots[gate]][1]);
    }
}
