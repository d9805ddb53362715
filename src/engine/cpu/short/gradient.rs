//! Weight gradients: products over T x B, some gate rows (or classes) a job; slices and steps in a fixed order, so that
//! the sums do not depend on which thread takes which job.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use rayon::prelude::*;

use super::order::{Order, Source};
use super::products::{Product, TILE, Tiles};
use super::{Buffer, EngineError, Geometry, Operand, Sizes, Slice, WIDTH, lanes};

/// Some rows of one source.
#[derive(Debug)]
pub struct Job {
    source: Source,
    /// Which rows, in 32s.
    blocks: std::ops::Range<usize>,
    /// Sums [block][32][columns].
    sums: Buffer,
}

impl Job {
    /// All sums `value`.
    #[cfg(test)]
    pub fn fill(&mut self, value: f32) {
        self.sums.as_mut_slice().fill(value);
    }

    /// Whether it is the head's.
    pub fn is_head(&self) -> bool {
        self.source == Source::Head
    }
}

/// Columns of a source: of what its rows stand beside, and of them those that come first.
fn columns(sizes: &Sizes, source: Source) -> (usize, usize) {
    match source {
        Source::Layer(0) => (sizes.columns + sizes.classes, sizes.columns),
        Source::Layer(_) => (2 * sizes.columns, sizes.columns),
        Source::Head => (sizes.columns, sizes.columns),
    }
}

/// Blocks of 32 rows a job, of `blocks`: some, because they share what they are multiplied with while it is in the cache,
/// and not too many, so that every thread has work. The sums do not depend on it.
fn group(blocks: usize) -> usize {
    blocks.div_ceil(8).min(4)
}

/// All jobs of a model.
pub fn jobs(geo: &Geometry) -> Result<Vec<Job>, EngineError> {
    let sizes = Sizes::new(geo, WIDTH);
    let layers = (0..geo.shape.layers).map(|layer| (Source::Layer(layer), sizes.rows / 32));
    let mut jobs = Vec::new();
    for (source, blocks) in layers.chain([(Source::Head, sizes.classes / 32)]) {
        for first in (0..blocks).step_by(group(blocks)) {
            let blocks = first..(first + group(blocks)).min(blocks);
            let size = blocks.len() * 32 * columns(&sizes, source).0;
            jobs.push(Job { source, blocks, sums: Buffer::zeros(size, "weight gradients")? });
        }
    }
    Ok(jobs)
}

/// Steps a part of the product: its rows (2 KB a step and block) stay in the first-level cache over all columns, the
/// columns in the second over all blocks.
const STEPS: usize = 16;

/// Computes a job's sums over all slices and the first `steps` steps.
///
/// # Safety
/// The slices have been through `backward` with this geometry.
#[inline(always)]
pub unsafe fn run<P: Product>(geo: &Geometry, slices: &[Slice], steps: usize, job: &mut Job) {
    P::begin();
    job.sums.as_mut_slice().fill(0.0);
    for slice in slices {
        for from in (0..steps).step_by(STEPS) {
            part::<P>(geo, slice, from, (from + STEPS).min(steps), job);
        }
    }
    P::end();
}

/// Rows of a few steps, which the next block will read: `share` of `SHARES`.
#[inline(always)]
unsafe fn ahead(rows: Tiles, from: usize, to: usize, share: usize) {
    let each = (to - from).div_ceil(SHARES);
    for t in (from + share * each..to).take(each) {
        for line in 0..32 {
            lanes::ahead(rows.at.wrapping_add(t * rows.step + 16 * line).cast());
        }
    }
}

/// Columns' products over which the rows that come next are asked for.
const SHARES: usize = 4;

/// Steps `from` to `to` of a slice.
#[inline(always)]
unsafe fn part<P: Product>(geo: &Geometry, slice: &Slice, from: usize, to: usize, job: &mut Job) {
    let sizes = Sizes::new(geo, WIDTH);
    let Some(space) = &slice.short else { return };
    let (rows, step) = match job.source {
        Source::Head => (space.class_streams.ptr(), sizes.classes * P::WIDTH / 2),
        Source::Layer(layer) => (space.layers[layer].records.ptr(), sizes.records()),
    };
    let rows = rows.cast::<u32>();
    let (stride, _) = columns(&sizes, job.source);
    for (i, block) in job.blocks.clone().enumerate() {
        let sums = job.sums.ptr_mut().add(i * 32 * stride);
        // The rows after these: of the next block, or of the first one some steps on.
        let next = if block + 1 < job.blocks.end {
            rows.wrapping_add((block + 1) * TILE)
        } else {
            rows.wrapping_add(job.blocks.start * TILE + STEPS * step)
        };
        let (rows, next) = (Tiles { at: rows.add(block * TILE), step }, Tiles { at: next, step });
        match job.source {
            Source::Head => {
                let top = |t: usize| space.output(geo.shape.layers - 1, t);
                states::<P>(&sizes, sums, stride, rows, next, top, from, to);
            }
            Source::Layer(layer) => {
                let before = |t: usize| (space.before(&slice.any_reset, layer, t), t);
                states::<P>(&sizes, sums, stride, rows, next, before, from, to);
                let sums = sums.add(sizes.columns);
                if layer > 0 {
                    let below = |t: usize| space.output(layer - 1, t);
                    states::<P>(&sizes, sums, stride, rows, next, below, from, to);
                } else {
                    let a = Tiles { at: rows.at.add(from * step), step };
                    let one_hot = space.one_hot.ptr().cast::<u32>().add(from * sizes.one_hot());
                    for column in 0..sizes.classes / 32 {
                        // Of a large vocabulary most characters are nowhere.
                        let ids = &slice.ids[from * P::WIDTH..to * P::WIDTH];
                        if sizes.classes <= 256 || ids.iter().any(|&id| id as usize / 32 == column) {
                            let b = Tiles { at: one_hot.add(column * TILE), step: sizes.one_hot() };
                            P::block::<true>(sums.add(column * 32), stride, a, b, to - from);
                        }
                    }
                }
            }
        }
    }
}

/// All columns of the states beside steps `from` to `to`.
#[inline(always)]
unsafe fn states<'a, P: Product>(
    sizes: &Sizes,
    sums: *mut f32,
    stride: usize,
    rows: Tiles,
    next: Tiles,
    beside: impl Fn(usize) -> (&'a Operand, usize),
    from: usize,
    to: usize,
) {
    // Steps whose states follow one another are one product.
    let mut first = from;
    while first < to {
        let (operand, slot) = beside(first);
        let mut end = first + 1;
        while end < to && std::ptr::eq(beside(end).0, operand) {
            end += 1;
        }
        let a = Tiles { at: rows.at.add(first * rows.step), step: rows.step };
        for column in 0..sizes.columns / 32 {
            if column < SHARES && first == from {
                ahead(next, from, to, column);
            }
            let b = operand.streams.ptr().cast::<u32>().add(slot * sizes.streams() + column * TILE);
            let b = Tiles { at: b, step: sizes.streams() };
            P::block::<true>(sums.add(column * 32), stride, a, b, end - first);
        }
        first = end;
    }
}

/// The sums of one product, on their way into arena order.
struct Sums<'a> {
    jobs: &'a [Job],
    group: usize,
    /// Columns of a row, the product's first one, and the depth.
    stride: usize,
    first: usize,
    depth: usize,
    order: Order,
    factor: f32,
}

impl<'a> Sums<'a> {
    /// Of a source; `input`: of its second product.
    fn of(geo: &Geometry, jobs: &'a [Job], source: Source, input: bool, factor: f32) -> Sums<'a> {
        let sizes = Sizes::new(geo, WIDTH);
        let start = jobs.iter().position(|job| job.source == source).unwrap_or(0);
        let (stride, first) = columns(&sizes, source);
        let characters = input && source == Source::Layer(0);
        Sums {
            jobs: &jobs[start..],
            group: jobs.get(start).map_or(1, |job| job.blocks.len()),
            stride,
            first: if input { first } else { 0 },
            depth: if characters { geo.shape.vocab } else { geo.shape.hidden },
            order: Order::of(geo, source, input),
            factor,
        }
    }

    /// The sums of row g * H + u of the arena: the matrix's, the bias's (but for characters), nothing.
    fn packed(&self, row: usize) -> &[f32] {
        let j = self.order.packed(row);
        let (job, inside) = (&self.jobs[j / 32 / self.group], j % (32 * self.group));
        &job.sums.as_slice()[inside * self.stride..][self.first..self.stride]
    }

    fn matrix(&self, grads: &mut [f32]) {
        grads.par_chunks_exact_mut(self.depth).with_min_len(64).enumerate().for_each(|(row, out)| {
            for (out, sum) in out.iter_mut().zip(self.packed(row)) {
                *out = sum * self.factor;
            }
        });
    }

    fn bias(&self, grads: &mut [f32]) {
        for (row, out) in grads.iter_mut().enumerate() {
            *out = self.packed(row)[self.depth] * self.factor;
        }
    }

    /// Of characters, whose columns have none of ones.
    fn bias_of_characters(&self, grads: &mut [f32]) {
        for (row, out) in grads.iter_mut().enumerate() {
            *out = self.packed(row)[..self.depth].iter().sum::<f32>() * self.factor;
        }
    }
}

/// Moves the recurrent layers' sums into arena order [params], times `factor`.
pub fn collect_layers(geo: &Geometry, jobs: &[Job], factor: f32, grads: &mut [f32]) {
    for layer in 0..geo.shape.layers {
        let at = geo.shape.layer_ranges(layer);
        let recurrent = Sums::of(geo, jobs, Source::Layer(layer), false, factor);
        let input = Sums::of(geo, jobs, Source::Layer(layer), true, factor);
        input.matrix(&mut grads[at.weight_ih]);
        if layer == 0 {
            input.bias_of_characters(&mut grads[at.bias_ih]);
        } else {
            input.bias(&mut grads[at.bias_ih]);
        }
        recurrent.matrix(&mut grads[at.weight_hh]);
        if !at.bias_hh.is_empty() {
            recurrent.bias(&mut grads[at.bias_hh]);
        }
    }
}

/// The same for the head's sums, into the arena's end where the head lies.
pub fn collect_head(geo: &Geometry, jobs: &[Job], factor: f32, grads: &mut [f32]) {
    let weights = geo.shape.head_ranges().0.len();
    let (weight, bias) = grads.split_at_mut(weights);
    let sums = Sums::of(geo, jobs, Source::Head, false, factor);
    sums.matrix(weight);
    sums.bias(bias);
}
