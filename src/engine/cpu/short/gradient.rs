//! Weight gradients: products over T x B, 32 gate rows (or classes) a job; slices and steps in a fixed order, so that
//! the sums do not depend on which thread takes which job.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use rayon::prelude::*;

use super::products::{Product, TILE, Tiles};
use super::{Buffer, EngineError, Geometry, Sizes, Slice, WIDTH};
use crate::model::CellKind;

/// Which product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// d W_hh of a layer, and the bias of its recurrent rows.
    Recurrent(usize),
    /// d W_ih and the bias of a layer above the first.
    Input(usize),
    /// d W_ih of the first layer: 32 characters, all gate rows.
    Characters,
    /// The head.
    Head,
}

/// One part of one product.
#[derive(Debug)]
pub struct Job {
    /// Which product.
    source: Source,
    /// Which 32 rows; for characters which 32 of them.
    block: usize,
    /// Sums [32][columns]; of characters [rows][32].
    sums: Buffer,
}

impl Job {
    /// Whether it is the head's.
    pub fn is_head(&self) -> bool {
        self.source == Source::Head
    }
}

/// All jobs of a model.
pub fn jobs(geo: &Geometry) -> Result<Vec<Job>, EngineError> {
    let sizes = Sizes::new(geo);
    let mut sources = vec![(Source::Head, sizes.classes), (Source::Characters, sizes.classes)];
    for layer in 0..geo.shape.layers {
        sources.push((Source::Recurrent(layer), sizes.rows));
        if layer > 0 {
            sources.push((Source::Input(layer), sizes.rows));
        }
    }
    let mut jobs = Vec::new();
    for (source, rows) in sources {
        let size = if source == Source::Characters { sizes.rows * 32 } else { 32 * sizes.columns };
        for block in 0..rows / 32 {
            jobs.push(Job { source, block, sums: Buffer::zeros(size, "weight gradients")? });
        }
    }
    Ok(jobs)
}

/// Steps a part of the product: both operands stay in the second-level cache over all rows and columns.
const STEPS: usize = 32;

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
            let to = (from + STEPS).min(steps);
            if job.source == Source::Characters {
                characters::<P>(geo, slice, from, to, job);
            } else {
                states::<P>(geo, slice, from, to, job);
            }
        }
    }
    P::end();
}

#[inline(always)]
unsafe fn states<P: Product>(geo: &Geometry, slice: &Slice, from: usize, to: usize, job: &mut Job) {
    let sizes = Sizes::new(geo);
    let Some(space) = &slice.short else { return };
    let (rows, step) = match job.source {
        Source::Head => (space.class_streams.ptr(), sizes.classes * WIDTH / 2),
        Source::Recurrent(layer) | Source::Input(layer) => (space.layers[layer].records.ptr(), sizes.records()),
        Source::Characters => unreachable!("characters have a product of their own"),
    };
    let rows = rows.cast::<u32>().add(job.block * TILE);
    // What stands beside step `t`.
    let beside = |t: usize| match job.source {
        Source::Recurrent(layer) => (space.before(&slice.any_reset, layer, t), t),
        Source::Input(layer) => space.output(layer - 1, t),
        _ => space.output(geo.shape.layers - 1, t),
    };
    // Steps whose states follow one another are one product.
    let mut first = from;
    while first < to {
        let (operand, slot) = beside(first);
        let mut end = first + 1;
        while end < to && std::ptr::eq(beside(end).0, operand) {
            end += 1;
        }
        let a = Tiles { at: rows.add(first * step), step };
        for column in 0..sizes.columns / 32 {
            let b = operand.streams.ptr().cast::<u32>().add(slot * sizes.streams() + column * TILE);
            let b = Tiles { at: b, step: sizes.streams() };
            let c = job.sums.ptr_mut().add(column * 32);
            P::block::<true>(c, sizes.columns, a, b, end - first);
        }
        first = end;
    }
}

/// One-hot columns of a step, as pairs of streams.
#[repr(align(64))]
struct Columns([u32; TILE]);

#[inline(always)]
unsafe fn characters<P: Product>(geo: &Geometry, slice: &Slice, from: usize, to: usize, job: &mut Job) {
    let sizes = Sizes::new(geo);
    let Some(space) = &slice.short else { return };
    let rows = space.layers[0].records.ptr().cast::<u32>();
    let one = u32::from(half::bf16::ONE.to_bits());
    let mut columns: [Columns; STEPS] = [const { Columns([0; TILE]) }; STEPS];
    for t in from..to {
        for lane in 0..slice.used {
            let id = slice.ids[t * WIDTH + lane] as usize;
            if id / 32 == job.block {
                columns[t - from].0[lane / 2 * 32 + id % 32] |= one << (16 * (lane % 2));
            }
        }
    }
    let b = Tiles::dense(columns[0].0.as_ptr());
    for block in 0..sizes.rows / 32 {
        let a = Tiles { at: rows.add(from * sizes.records() + block * TILE), step: sizes.records() };
        P::block::<true>(job.sums.ptr_mut().add(block * 32 * 32), 32, a, b, to - from);
    }
}

/// The jobs' sums of one product, on their way into arena order.
struct Sums<'a> {
    jobs: &'a [Job],
    columns: usize,
    hidden: usize,
    /// Gate rows a unit, and for each gate its slot; none for the head's classes.
    slots: Option<(usize, [usize; 4])>,
    factor: f32,
}

impl<'a> Sums<'a> {
    fn of(geo: &Geometry, jobs: &'a [Job], source: Source, factor: f32) -> Sums<'a> {
        let first = jobs.iter().position(|job| job.source == source).unwrap_or(0);
        let sizes = Sizes::new(geo);
        // A GRU's n: its recurrent part in slot 2, its input part in slot 3.
        let input = matches!(source, Source::Input(_) | Source::Characters);
        let new = if geo.shape.cell == CellKind::Gru && input { 3 } else { 2 };
        let slots = (source != Source::Head).then_some((sizes.slots, [0, 1, new, 3]));
        Sums { jobs: &jobs[first..], columns: sizes.columns, hidden: geo.shape.hidden, slots, factor }
    }

    /// The packed row of row g * H + u of the arena.
    fn row(&self, row: usize) -> usize {
        match self.slots {
            Some((slots, of)) => row % self.hidden * slots + of[row / self.hidden],
            None => row,
        }
    }

    fn packed(&self, row: usize) -> &[f32] {
        let j = self.row(row);
        &self.jobs[j / 32].sums.as_slice()[j % 32 * self.columns..][..self.columns]
    }

    fn matrix(&self, grads: &mut [f32]) {
        grads.par_chunks_exact_mut(self.hidden).enumerate().for_each(|(row, out)| {
            for (out, sum) in out.iter_mut().zip(self.packed(row)) {
                *out = sum * self.factor;
            }
        });
    }

    fn bias(&self, grads: &mut [f32]) {
        for (row, out) in grads.iter_mut().enumerate() {
            *out = self.packed(row)[self.hidden] * self.factor;
        }
    }

    /// Of characters: the matrix, and its rows' sums as the bias.
    fn characters(&self, vocab: usize, matrix: &mut [f32], bias: &mut [f32]) {
        matrix.par_chunks_exact_mut(vocab).zip(bias.par_iter_mut()).enumerate().for_each(|(row, (out, bias))| {
            let j = self.row(row);
            for (out, job) in out.chunks_mut(32).zip(self.jobs) {
                let sums = &job.sums.as_slice()[j * 32..][..32];
                for (out, sum) in out.iter_mut().zip(sums) {
                    *out = sum * self.factor;
                }
            }
            *bias = out.iter().sum();
        });
    }
}

/// Moves the recurrent layers' sums into arena order [params], times `factor`.
pub fn collect_layers(geo: &Geometry, jobs: &[Job], factor: f32, grads: &mut [f32]) {
    for layer in 0..geo.shape.layers {
        let at = geo.shape.layer_ranges(layer);
        let recurrent = Sums::of(geo, jobs, Source::Recurrent(layer), factor);
        if layer == 0 {
            let characters = Sums::of(geo, jobs, Source::Characters, factor);
            let mut bias = vec![0.0; at.bias_ih.len()];
            characters.characters(geo.shape.vocab, &mut grads[at.weight_ih], &mut bias);
            grads[at.bias_ih].copy_from_slice(&bias);
        } else {
            let input = Sums::of(geo, jobs, Source::Input(layer), factor);
            input.matrix(&mut grads[at.weight_ih]);
            input.bias(&mut grads[at.bias_ih]);
        }
        recurrent.matrix(&mut grads[at.weight_hh]);
        if !at.bias_hh.is_empty() {
            recurrent.bias(&mut grads[at.bias_hh]);
        }
    }
}

/// The same for the head's sums.
pub fn collect_head(geo: &Geometry, jobs: &[Job], factor: f32, grads: &mut [f32]) {
    let (weight, bias) = geo.shape.head_ranges();
    let sums = Sums::of(geo, jobs, Source::Head, factor);
    sums.matrix(&mut grads[weight]);
    sums.bias(&mut grads[bias]);
}
