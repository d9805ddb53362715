//! Back-propagation through time for one slice: per layer from the top, per step from the last, 32 units at a time.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::forward::{Part, Pass};
use super::super::head::mask_of;
use super::along::{self, Pending};
use super::forward::Sums;
use super::gates::{Cells, Gates};
use super::lanes::{self, load, mul, splat, store};
use super::products::{Between, Pairs, Pieces, Product, ROW, Spread, TILE, Tiles};
use super::{Sizes, Slice, Space, Weights};

/// After the forward pass and, where that is done, the head with `TRAIN`: leaves the gate gradients of all layers for the
/// weights' gradients, or these.
#[inline(always)]
pub unsafe fn backward<P: Product>(
    pass: &Pass,
    weights: &Weights,
    slice: &Slice,
    space: &Space,
    part: &Part,
    head: bool,
) {
    let geo = pass.geo;
    let sizes = Sizes::of::<P>(geo);
    let hidden = geo.shape.hidden;
    let rows = pass.geo.units * P::WIDTH;
    let own = part.share(sizes.units / 32);
    // Where its gate rows for the weight gradients begin, and how many numbers they are.
    let (a_unit, units) = (sizes.slots * sizes.row(), own.start * 32..(own.end * 32).min(hidden));
    let (first, count) = (units.start * a_unit, units.len() * a_unit);
    let row_blocks = own.start * sizes.slots..(own.end * sizes.slots).min(sizes.rows / 32);
    let mut pending = space.along.as_ref().map(|along| Pending::none(pass, &sizes, (slice, space, along)));
    for layer in (0..geo.shape.layers).rev() {
        let head = head && layer + 1 == geo.shape.layers;
        let classes = part.share(if head { sizes.classes / 32 } else { 0 });
        if slice.dc.len() > 0 {
            let (at, n) = (own.start * 32 * P::WIDTH, own.len() * 32 * P::WIDTH);
            std::slice::from_raw_parts_mut(slice.dc.shared().add(at), n).fill(0.0);
        }
        for t in (0..pass.steps).rev() {
            let (records, record_stride) = space.records::<P>(&sizes, slice, layer);
            let records = records.add(t * record_stride);
            // A thread whose units are the first writes over records that it has read. Another's place is among records that
            // others are reading.
            let aside = part.room.map(|room| room.gradients.shared());
            let to = aside.map_or(records, |aside| aside.wrapping_sub(first));
            step::<P>(pass, weights, &sizes, (slice, space), (layer, t), own.clone(), &mut pending, to);
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
            if t % along::STEPS == 0
                && let Some(pending) = &mut pending
            {
                pending.start(
                    layer,
                    t..(t + along::STEPS).min(pass.steps),
                    row_blocks.clone(),
                    classes.clone(),
                );
            }
        }
        if let Some(pending) = &mut pending {
            while pending.left() > 0 {
                pending.next::<P>(&mut ());
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
    // Written before they are read.
    let mut sums = MaybeUninit::<[Sums; 2]>::uninit();
    let sums = sums.as_mut_ptr().cast::<f32>();
    for block in blocks.clone() {
        let w = Tiles::dense::<P>(w.cast::<u32>().add(block * depth * P::PARTS * TILE));
        let pairs = [Pairs { a: w, b: Tiles::columns::<P>(d.cast()), n: depth }, Pairs::NONE];
        if P::VECTORS == 2 {
            P::sums::<false>(out.add(block * 32 * P::WIDTH), ROW, pairs, between);
            continue;
        }
        P::sums::<false>(sums.add(block % 2 * 32 * ROW), ROW, pairs, between);
        if block > blocks.start {
            add_up::<P>(sums, block - 1, out);
        }
    }
    if P::VECTORS == 1 && !blocks.is_empty() {
        add_up::<P>(sums, blocks.end - 1, out);
    }
    if !mask.is_null() {
        for i in (blocks.start * 32 * P::WIDTH..blocks.end * 32 * P::WIDTH).step_by(16) {
            store(out.add(i), mul(load(out.add(i)), load(mask.add(i))));
        }
    }
}

/// What a block's sums add up to, into `out` [units][W]; `sums` are those of even and of odd blocks.
#[inline(always)]
unsafe fn add_up<P: Product>(sums: *const f32, block: usize, out: *mut f32) {
    for row in 0..32 {
        let sum = lanes::sum::<P>(sums.add((block % 2 * 32 + row) * ROW), 0);
        store(out.add((block * 32 + row) * P::WIDTH), sum);
    }
}

/// A thread's blocks of one step of one layer: d h from above and from the next step, then the cell, whose gate gradients go
/// to `to` for the weight gradients. Beside them products of steps after this one that are pending.
#[inline(always)]
unsafe fn step<P: Product>(
    pass: &Pass,
    weights: &Weights,
    sizes: &Sizes,
    (slice, space): (&Slice, &Space),
    (layer, t): (usize, usize),
    blocks: Range<usize>,
    pending: &mut Option<Pending>,
    to: *mut f32,
) {
    let geo = pass.geo;
    let rows = geo.units * P::WIDTH;
    let last = t + 1 == pass.steps;
    let (records, record_stride) = space.records::<P>(sizes, slice, layer);
    let records = records.add(t * record_stride);
    let records_before = records.wrapping_sub(if t > 0 { record_stride } else { 0 });
    let back = weights.layers[layer].back.ptr().cast::<u32>();
    let next = space.gates.ptr().add((t + 1) % 2 * sizes.gates()).cast::<u32>();
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
        keep_next: slice.keep.ptr().wrapping_add((t + 1) * P::WIDTH),
        keep_here: slice.keep.ptr().add(t * P::WIDTH),
        h_before: slice.h_before(rows, layer, t),
        h_after: slice.layers[layer].h.ptr().add((t + 1) * rows),
        c_before: slice.layers[layer].c_before.ptr(),
        records,
        records_before,
        sums: [even, even.wrapping_add(32 * ROW)],
        dx: slice.dx.ptr().add(t * rows),
        direct: slice.direct.shared(),
        dc: slice.dc.shared(),
        gates: space.gates.shared().add(t % 2 * sizes.gates()),
        rows: to,
    };
    let depth = sizes.rows / 32;
    // What the products of a later group come to here and in the rest of this one's steps, behind the first block.
    let steps = t % along::STEPS + 1;
    let due = pending.as_ref().map_or(0, Pending::left).div_ceil(steps);
    let share = |i: usize| due * i / blocks.len().max(1);
    for block in blocks.clone() {
        let i = block - blocks.start;
        let before = (i > 0).then(|| block - 1);
        let products = share(i) - share(i.saturating_sub(1));
        let mut beside = Beside::<P>::new(&cells, before);
        if last {
            beside.all();
            continue;
        }
        let w = Tiles::dense::<P>(back.add(block * depth * P::PARTS * TILE));
        let pairs = Pairs { a: w, b: Tiles::columns::<P>(next), n: depth };
        let sums = cells.sums[block % 2];
        let tiles = pending.as_ref().map_or(0, |pending| pending.tiles(products));
        let mut beside = Spread::over::<P>(&mut beside, depth + tiles);
        P::sums::<false>(sums, ROW, [pairs, Pairs::NONE], &mut beside);
        if let Some(pending) = pending {
            for _ in 0..products {
                pending.next::<P>(&mut beside);
            }
        }
    }
    let products = due - share(blocks.len().saturating_sub(1));
    let before = (!blocks.is_empty()).then(|| blocks.end - 1);
    let mut beside = Beside::<P>::new(&cells, before);
    match pending {
        Some(pending) if products > 0 => {
            let mut beside = Spread::over::<P>(&mut beside, pending.tiles(products));
            for _ in 0..products {
                pending.next::<P>(&mut beside);
            }
        }
        _ => beside.all(),
    }
}

/// What is done while a block is multiplied, in small pieces: the cells of the block before it.
struct Beside<'a, P> {
    cells: &'a Cells,
    /// The next two units, and which of their pieces is next.
    unit: usize,
    step: usize,
    /// In all: each vector of two units, and storing them.
    pieces: usize,
    d: [Gates; 2],
    of: PhantomData<P>,
}

impl<'a, P: Product> Beside<'a, P> {
    /// The cells of `block`.
    #[inline(always)]
    unsafe fn new(cells: &'a Cells, block: Option<usize>) -> Beside<'a, P> {
        let unit = block.map_or(0, |block| block * 32);
        let end = block.map_or(0, |block| (block * 32 + 32).min(cells.hidden));
        Beside {
            cells,
            unit,
            step: 0,
            pieces: (end - unit).div_ceil(2) * (2 * P::VECTORS + 1),
            d: [[[splat(0.0); 2]; 4]; 2],
            of: PhantomData,
        }
    }

    /// The next piece; see [`super::beside::Beside`] for why it is a call.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512bf16,avx2,fma,f16c")]
    unsafe fn next(&mut self) {
        match self.step {
            0 => self.cells.ahead::<P>(self.unit),
            last if last == 2 * P::VECTORS => {
                self.cells.finish::<P>(self.unit, &self.d);
                self.unit += 2;
                self.step = 0;
                return;
            }
            _ => {}
        }
        let (i, v) = (self.step / P::VECTORS, self.step % P::VECTORS);
        self.cells.vector::<P>(self.unit + i, v, &mut self.d[i]);
        self.step += 1;
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
