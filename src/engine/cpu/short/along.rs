//! Weight gradients of bf16 of models whose sums fit into the caches: each slice sums its own as its backward pass goes along, some
//! steps at a time, while what is multiplied is still there. Larger models' are products of their own (`gradient`).
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use std::ops::Range;

use super::super::forward::Pass;
use super::products::{Between, Pairs, Product, ROW, SUMS, TILE, Tiles};
use super::{Buffer, EngineError, Geometry, Sizes, Slice, Space};

/// Steps that are multiplied together: their operands stay in the second-level cache, and sums are read and written once for
/// all of them.
pub const STEPS: usize = 8;

/// A slice's sums.
#[derive(Debug)]
pub struct Along {
    /// Of each layer [rows/32][columns/32][32][32]; behind the columns of the state those of the layer below, or of the
    /// characters.
    pub layers: Vec<Buffer>,
    /// Of the head [classes/32][columns/32][32][32].
    pub head: Buffer,
}

/// Columns of a layer's sums behind those of its state, in 32s.
fn others(sizes: &Sizes, layer: usize) -> usize {
    (if layer == 0 { sizes.classes } else { sizes.columns }) / 32
}

impl Along {
    /// For a slice.
    pub fn new(geo: &Geometry, sizes: &Sizes) -> Result<Along, EngineError> {
        let zeros = |n| Buffer::zeros(n, "weight gradients");
        let columns = sizes.columns / 32;
        let sums = |layer| zeros(sizes.rows / 32 * (columns + others(sizes, layer)) * SUMS);
        Ok(Along {
            layers: (0..geo.shape.layers).map(sums).collect::<Result<_, EngineError>>()?,
            head: zeros(sizes.classes / 32 * columns * SUMS)?,
        })
    }

    /// All sums `value`.
    #[cfg(test)]
    pub fn fill(&mut self, value: f32) {
        for layer in &mut self.layers {
            layer.as_mut_slice().fill(value);
        }
        self.head.as_mut_slice().fill(value);
    }
}

/// The products of a group of steps, which are done beside the cells of the group before it in time: 32 rows each.
pub struct Pending<'a> {
    pass: &'a Pass<'a>,
    sizes: Sizes,
    of: (&'a Slice, &'a Space, &'a Along),
    layer: usize,
    steps: Range<usize>,
    /// Of the layer's gate rows and of the head's classes, in 32s, what remains.
    rows: Range<usize>,
    classes: Range<usize>,
}

impl<'a> Pending<'a> {
    /// None.
    #[inline(always)]
    pub fn none(pass: &'a Pass<'a>, sizes: &Sizes, of: (&'a Slice, &'a Space, &'a Along)) -> Pending<'a> {
        Pending { pass, sizes: *sizes, of, layer: 0, steps: 0..0, rows: 0..0, classes: 0..0 }
    }

    /// The thread's rows of the layer and of the head's classes, over some steps.
    #[inline(always)]
    pub fn start(&mut self, layer: usize, steps: Range<usize>, rows: Range<usize>, classes: Range<usize>) {
        (self.layer, self.steps, self.rows, self.classes) = (layer, steps, rows, classes);
    }

    /// How many.
    #[inline(always)]
    pub fn left(&self) -> usize {
        self.rows.len() + self.classes.len()
    }

    /// Turns of the next `n`, in tiles.
    #[inline(always)]
    pub fn tiles(&self, n: usize) -> usize {
        let columns = self.sizes.columns / 32;
        let rows = n.min(self.rows.len());
        let all = columns + others(&self.sizes, self.layer);
        self.steps.len() * (rows * all + (n - rows).min(self.classes.len()) * columns)
    }

    /// The next one.
    #[inline(always)]
    pub unsafe fn next<P: Product>(&mut self, between: &mut impl Between) {
        if let Some(block) = self.rows.next() {
            self.add::<P>(block, between);
        } else if let Some(block) = self.classes.next() {
            self.add_head::<P>(block, between);
        }
    }

    /// Adds the products of 32 gate rows.
    #[inline(always)]
    unsafe fn add<P: Product>(&self, block: usize, between: &mut impl Between) {
        let (sizes, layer, (slice, space, along)) = (&self.sizes, self.layer, self.of);
        let columns = sizes.columns / 32;
        let others = others(sizes, layer);
        let step = sizes.records();
        let rows = space.layers[layer].records.ptr().add(self.steps.start * step);
        let before = |t: usize| {
            space.before(&slice.any_reset, layer, t).streams.ptr().wrapping_add(t * sizes.streams())
        };
        let below = |t: usize| {
            let (operand, slot) = space.output(layer - 1, t);
            operand.streams.ptr().wrapping_add(slot * sizes.streams())
        };
        let characters = |t: usize| space.one_hot.ptr().wrapping_add(t * sizes.one_hot());
        let at = rows.cast::<u32>().add(block * TILE);
        let from = self.from(at, step);
        let to = along.layers[layer].shared().add(block * (columns + others) * SUMS);
        products::<P>(to, columns, &from, before, sizes.streams(), between);
        let to = to.add(columns * SUMS);
        if layer > 0 {
            products::<P>(to, others, &from, below, sizes.streams(), between);
        } else {
            products::<P>(to, others, &from, characters, sizes.one_hot(), between);
        }
    }

    /// The same of 32 of the head's classes.
    #[inline(always)]
    unsafe fn add_head<P: Product>(&self, block: usize, between: &mut impl Between) {
        let (sizes, (_, space, along)) = (&self.sizes, self.of);
        let columns = sizes.columns / 32;
        let step = sizes.stream_classes();
        let top = |t: usize| {
            let (operand, slot) = space.output(self.pass.geo.shape.layers - 1, t);
            operand.streams.ptr().wrapping_add(slot * sizes.streams())
        };
        let at = space.class_streams.ptr().cast::<u32>().add(self.steps.start * step + block * TILE);
        let to = along.head.shared().add(block * columns * SUMS);
        products::<P>(to, columns, &self.from(at, step), top, sizes.streams(), between);
    }

    #[inline(always)]
    fn from(&self, at: *const u32, step: usize) -> From {
        let first = self.steps.end == self.pass.steps;
        From { a: Tiles { at, step }, steps: self.steps.clone(), first }
    }
}

/// Rows of some steps that are multiplied.
struct From {
    /// From the first step to the next.
    a: Tiles,
    steps: Range<usize>,
    /// Whether nothing has been summed yet.
    first: bool,
}

/// Products with `columns` tiles beside the rows; `b` tells where a step's are, from step to step `step` where they follow one
/// another.
#[inline(always)]
unsafe fn products<P: Product>(
    sums: *mut f32,
    columns: usize,
    from: &From,
    b: impl Fn(usize) -> *const f32,
    step: usize,
    between: &mut impl Between,
) {
    let mut t = from.steps.start;
    while t < from.steps.end {
        // Steps that follow one another in memory are one product.
        let (at, mut n) = (b(t), 1);
        while t + n < from.steps.end && b(t + n) == at.wrapping_add(n * step) {
            n += 1;
        }
        let a = Tiles { at: from.a.at.add((t - from.steps.start) * from.a.step), step: from.a.step };
        let first = from.first && t == from.steps.start;
        for column in 0..columns {
            let b = Tiles { at: at.cast::<u32>().add(column * TILE), step };
            let to = sums.add(column * SUMS);
            let pairs = [Pairs { a, b, n }, Pairs::NONE];
            if first {
                P::sums::<false>(to, ROW, pairs, between);
            } else {
                P::sums::<true>(to, ROW, pairs, between);
            }
        }
        t += n;
    }
}
