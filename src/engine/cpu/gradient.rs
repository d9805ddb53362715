//! Weight gradients: one product over T x B for each panel of gate rows (or classes), slices and steps in a fixed
//! order, so that the sums do not depend on which thread takes which panel.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use std::ops::Range;

use rayon::prelude::*;

use super::buffer::Buffer;
use super::geometry::Geometry;
use super::simd::Simd;
use super::space::Slice;
use crate::engine::EngineError;
use crate::model::CellKind;

/// Which product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// d W_hh of a layer; a GRU's recurrent bias with it.
    Recurrent(usize),
    /// d W_ih and the bias of a layer above the first.
    Input(usize),
    /// d W_ih and the bias of the first layer: rows added up by character.
    Characters,
    /// The head.
    Head,
}

/// One panel of one product.
#[derive(Debug)]
pub struct Job {
    /// Which product.
    pub source: Source,
    /// Which panel of PW columns.
    pub panel: usize,
    /// The sums: [depth rounded up][PW], depth H (or V for characters), and one more row, the bias gradient.
    pub sums: Buffer,
    /// Rows before the bias's.
    pub depth: usize,
}

/// All jobs of a model, the head's first.
pub fn jobs(geo: &Geometry) -> Result<Vec<Job>, EngineError> {
    let mut jobs = Vec::new();
    let mut add = |source: Source, panel: usize| -> Result<(), EngineError> {
        let depth = if source == Source::Characters { geo.shape.vocab } else { geo.units };
        let sums = Buffer::zeros((depth + 1) * geo.isa.panel(), "weight gradients")?;
        jobs.push(Job { source, panel, sums, depth });
        Ok(())
    };
    for panel in 0..geo.class_panels() {
        add(Source::Head, panel)?;
    }
    for layer in 0..geo.shape.layers {
        // Both products of a panel read the same tiles: they stand together.
        for panel in 0..geo.gate_panels() {
            add(Source::Recurrent(layer), panel)?;
            add(if layer == 0 { Source::Characters } else { Source::Input(layer) }, panel)?;
        }
    }
    Ok(jobs)
}

/// Steps a chunk of the products: the tiles (TC * W * PW) of a panel stay in the first-level cache over all rows.
const STEPS: usize = 4;

/// Lines of a later tile that a block asks for.
const LINES: usize = 8;

/// sum[i][v] += x[i][lane] * tile[lane][v]. A macro, so that the sums stay in registers.
macro_rules! multiply {
    ($S:ty, $MR:expr, $sum:ident, $x:expr, $tile:expr, $width:expr, $lane:expr) => {
        let row = $tile.add(($lane) * 2 * <$S>::LANES);
        let (b0, b1) = (<$S>::load(row), <$S>::load(row.add(<$S>::LANES)));
        for i in 0..$MR {
            let a = <$S>::splat(*$x.add(i * $width + $lane));
            $sum[i][0] = <$S>::fma(a, b0, $sum[i][0]);
            $sum[i][1] = <$S>::fma(a, b1, $sum[i][1]);
        }
    };
}

/// Bytes of sums of the jobs that go over the chunks together: the second-level cache holds them beside a chunk's rows.
const TOGETHER: usize = 1280 << 10;

/// Runs all jobs, in groups that go over the chunks together: what they read of a chunk comes from beyond the second-level
/// cache once and not for every panel. Which ones go together does not change a bit.
pub fn run_all(geo: &Geometry, jobs: &mut [Job], run: &(impl Fn(&mut [Job]) + Sync)) {
    let most = (TOGETHER / (4 * geo.units * geo.isa.panel())).max(1) * PANEL_COST;
    let total: usize = jobs.iter().map(Job::cost).sum();
    // As many for every thread.
    let groups = total.div_ceil(most).next_multiple_of(rayon::current_num_threads());
    divide(jobs, groups, run);
}

fn divide(jobs: &mut [Job], groups: usize, run: &(impl Fn(&mut [Job]) + Sync)) {
    if groups <= 1 || jobs.len() <= 1 {
        return run(jobs);
    }
    let total: usize = jobs.iter().map(Job::cost).sum();
    let share = total * (groups / 2) / groups;
    let mut sum = 0;
    let at = jobs.iter().position(|job| {
        sum += job.cost();
        // To the nearest: a panel is the smallest part.
        2 * sum > 2 * share + PANEL_COST
    });
    let (left, right) = jobs.split_at_mut(at.unwrap_or(jobs.len()));
    rayon::join(|| divide(left, groups / 2, run), || divide(right, groups - groups / 2, run));
}

/// What a panel of a product takes, in the unit of [`Job::cost`].
const PANEL_COST: usize = 24;

impl Job {
    /// About how long it takes.
    fn cost(&self) -> usize {
        if self.source == Source::Characters { 1 } else { PANEL_COST }
    }
}

/// Computes the sums of some jobs over all slices and the first `steps` steps. Each job's order of sums is its own: which
/// jobs go together does not change a bit.
///
/// # Safety
/// The machine has S's instructions; the slices have been through `backward` with this geometry; MR is its tile
/// height and HALF the half of it; PW = 2 * LANES.
#[inline(always)]
pub unsafe fn run<S: Simd, const MR: usize, const HALF: usize, const NV: usize>(
    geo: &Geometry,
    slices: &[Slice],
    steps: usize,
    jobs: &mut [Job],
) {
    for job in &mut *jobs {
        job.sums.as_mut_slice().fill(0.0);
    }
    for slice in slices {
        for from in (0..steps).step_by(STEPS) {
            let to = (from + STEPS).min(steps);
            for (i, job) in jobs.iter_mut().enumerate() {
                part::<S, MR, HALF, NV>(geo, slice, from..to, job, i == 0);
            }
        }
    }
    let panel = geo.isa.panel();
    for job in jobs.iter_mut().filter(|job| job.source == Source::Characters) {
        let sums = job.sums.ptr_mut();
        for id in 0..geo.shape.vocab {
            add_row::<S>(sums.add(job.depth * panel), sums.add(id * panel));
        }
    }
}

/// One job's sums over some steps of a slice. What comes as many steps later is asked for: tiles, and by the first of some
/// jobs the rows.
#[inline(always)]
unsafe fn part<S: Simd, const MR: usize, const HALF: usize, const NV: usize>(
    geo: &Geometry,
    slice: &Slice,
    steps: Range<usize>,
    job: &mut Job,
    first: bool,
) {
    let panel = geo.isa.panel();
    let sums = job.sums.ptr_mut();
    // Known to the compiler, so that a row's address in the product costs nothing.
    let width = NV * S::LANES;
    let rows = geo.units * width;
    let (tiles, tile_stride) = match job.source {
        Source::Head => (slice.class_tiles.ptr(), geo.class_panels() * panel * width),
        Source::Recurrent(layer) => (slice.layers[layer].records.ptr(), slice.record_stride),
        Source::Input(layer) => (slice.layers[layer].records.ptr(), slice.record_stride),
        Source::Characters => (slice.layers[0].records.ptr(), slice.record_stride),
    };
    let gru = geo.shape.cell == CellKind::Gru;
    let into_input = matches!(job.source, Source::Input(_) | Source::Characters);
    let set = if gru && into_input { geo.gate_panels() } else { 0 };
    let tiles = tiles.add((set + job.panel) * panel * width);
    if job.source == Source::Characters {
        for t in steps {
            for lane in 0..slice.used {
                let row = tiles.add(t * tile_stride + lane * panel);
                add_row::<S>(sums.add(slice.ids[t * width + lane] as usize * panel), row);
            }
        }
        return;
    }
    let hidden = geo.shape.hidden;
    let mut rows_of = [std::ptr::null(); STEPS];
    for (x, t) in rows_of.iter_mut().zip(steps.clone()) {
        *x = match job.source {
            Source::Recurrent(layer) => slice.h_before(rows, layer, t),
            Source::Input(layer) => slice.output(rows, layer - 1, t),
            _ => slice.output(rows, geo.shape.layers - 1, t),
        };
    }
    let from = Operands {
        x: &rows_of[..steps.len()],
        tiles: tiles.add(steps.start * tile_stride),
        tile_stride,
        x_later: if first { STEPS * rows } else { 0 },
    };
    for row in (0..hidden).step_by(MR) {
        if row + HALF < hidden {
            block::<S, MR, NV>(&from, row, row / MR, sums);
        } else {
            block::<S, HALF, NV>(&from, row, row / MR, sums);
        }
    }
    // A recurrent bias is trained in a GRU alone.
    if gru || !matches!(job.source, Source::Recurrent(_)) {
        let bias = sums.add(job.depth * panel);
        let mut sum = [S::load(bias), S::load(bias.add(S::LANES))];
        for t in steps {
            for lane in 0..slice.used {
                let row = tiles.add(t * tile_stride + lane * panel);
                for v in 0..2 {
                    sum[v] = S::add(sum[v], S::load(row.add(v * S::LANES)));
                }
            }
        }
        for v in 0..2 {
            S::store(bias.add(v * S::LANES), sum[v]);
        }
    }
}

/// What a panel's products read.
struct Operands<'a> {
    /// Rows of each step.
    x: &'a [*const f32],
    /// The panel's tile of the first of the steps.
    tiles: *const f32,
    tile_stride: usize,
    /// How far behind them rows are to be asked for; 0 where they are not.
    x_later: usize,
}

/// MR rows of the sums from `row` on, block number `number`. The first blocks ask for the tiles of [`STEPS`] steps later.
#[inline(always)]
unsafe fn block<S: Simd, const MR: usize, const NV: usize>(
    from: &Operands,
    row: usize,
    number: usize,
    sums: *mut f32,
) {
    let (width, panel) = (NV * S::LANES, 2 * S::LANES);
    let mut acc = [[S::splat(0.0); 2]; MR];
    let at = sums.add(row * panel);
    for i in 0..MR {
        for v in 0..2 {
            acc[i][v] = S::load(at.add(i * panel + v * S::LANES));
        }
    }
    let mut tile = from.tiles;
    let asking = number < panel * width / (16 * LINES);
    let mut later = tile.wrapping_add(STEPS * from.tile_stride + number * 16 * LINES);
    for (step, x) in from.x.iter().enumerate() {
        let x = x.add(row * width);
        if from.x_later > 0 {
            for line in 0..MR * width / 16 {
                S::later(x.wrapping_add(from.x_later + 16 * line));
            }
        }
        if asking {
            for line in 0..LINES {
                S::later(later.wrapping_add(16 * line));
            }
        }
        for lane in (0..width).step_by(4) {
            // The next block's rows and sums are in the second-level cache.
            for line in 0..MR.div_ceil(4) {
                S::soon(x.wrapping_add(MR * width + 16 * (lane / 4 * MR.div_ceil(4) + line)));
            }
            if step + 1 == from.x.len() {
                let lines = (MR * panel / 4).div_ceil(width);
                for line in 0..lines {
                    S::soon_written(at.wrapping_add(MR * panel + 16 * (lane / 4 * lines + line)));
                }
            }
            multiply!(S, MR, acc, x, tile, width, lane);
            multiply!(S, MR, acc, x, tile, width, lane + 1);
            multiply!(S, MR, acc, x, tile, width, lane + 2);
            multiply!(S, MR, acc, x, tile, width, lane + 3);
        }
        tile = tile.wrapping_add(from.tile_stride);
        later = later.wrapping_add(from.tile_stride);
    }
    for i in 0..MR {
        for v in 0..2 {
            S::store(at.add(i * panel + v * S::LANES), acc[i][v]);
        }
    }
}

#[inline(always)]
unsafe fn add_row<S: Simd>(to: *mut f32, row: *const f32) {
    for v in 0..2 {
        let at = to.add(v * S::LANES);
        S::store(at, S::add(S::load(at), S::load(row.add(v * S::LANES))));
    }
}

/// The jobs' sums of one product, on their way into arena order.
struct Sums<'a> {
    /// From the product's first panel on, every `every`th is of it.
    jobs: &'a [Job],
    every: usize,
    panel: usize,
    hidden: usize,
    /// G for gate rows, 0 for the head's classes.
    gates: usize,
    factor: f32,
}

impl<'a> Sums<'a> {
    fn of(geo: &Geometry, jobs: &'a [Job], source: Source, factor: f32) -> Sums<'a> {
        let first = jobs.iter().position(|job| job.source == source).unwrap_or(jobs.len());
        // See `jobs`.
        let (gates, every) = if source == Source::Head { (0, 1) } else { (geo.gates, 2) };
        let (panel, hidden) = (geo.isa.panel(), geo.shape.hidden);
        Sums { jobs: &jobs[first..], every, panel, hidden, gates, factor }
    }

    fn job(&self, column: usize) -> &Job {
        &self.jobs[column / self.panel * self.every]
    }

    /// Column of the packed order, u * G + g for gates, of row g * H + u of the arena; the class itself for the head.
    fn column(&self, row: usize) -> usize {
        if self.gates == 0 { row } else { row % self.hidden * self.gates + row / self.hidden }
    }

    fn matrix(&self, grads: &mut [f32], depth: usize) {
        grads.par_chunks_exact_mut(depth).with_min_len(16).enumerate().for_each(|(row, out)| {
            let j = self.column(row);
            let sums = self.job(j).sums.as_slice()[j % self.panel..].iter().step_by(self.panel);
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = sum * self.factor;
            }
        });
    }

    fn bias(&self, grads: &mut [f32]) {
        for (row, out) in grads.iter_mut().enumerate() {
            let j = self.column(row);
            let job = self.job(j);
            *out = job.sums.as_slice()[job.depth * self.panel + j % self.panel] * self.factor;
        }
    }
}

/// Moves the recurrent layers' sums into arena order [params], times `factor`.
pub fn collect_layers(geo: &Geometry, jobs: &[Job], factor: f32, grads: &mut [f32]) {
    let (hidden, vocab) = (geo.shape.hidden, geo.shape.vocab);
    for layer in 0..geo.shape.layers {
        let at = geo.shape.layer_ranges(layer);
        let (source, depth) =
            if layer == 0 { (Source::Characters, vocab) } else { (Source::Input(layer), hidden) };
        let (input, recurrent) =
            (Sums::of(geo, jobs, source, factor), Sums::of(geo, jobs, Source::Recurrent(layer), factor));
        // They follow each other in the arena.
        let (matrices, biases) =
            grads[at.weight_ih.start..at.bias_hh.end].split_at_mut(at.weight_ih.len() + at.weight_hh.len());
        let (ih, hh) = matrices.split_at_mut(at.weight_ih.len());
        rayon::join(
            || input.matrix(ih, depth),
            || {
                recurrent.matrix(hh, hidden);
                let (ih, hh) = biases.split_at_mut(at.bias_ih.len());
                input.bias(ih);
                recurrent.bias(hh);
            },
        );
    }
}

/// The same for the head's sums, into the arena's end where the head lies.
pub fn collect_head(geo: &Geometry, jobs: &[Job], factor: f32, grads: &mut [f32]) {
    let weights = geo.shape.head_ranges().0.len();
    let (weight, bias) = grads.split_at_mut(weights);
    let sums = Sums::of(geo, jobs, Source::Head, factor);
    sums.matrix(weight, geo.shape.hidden);
    sums.bias(bias);
}
