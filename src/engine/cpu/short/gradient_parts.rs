//! Weight gradients of f32 in parts: products over T x B, 32 gate rows (or classes) a job; slices and steps in a fixed order, so
//! that the sums do not depend on which thread takes which job. Operands are f32 in memory, and brought into parts beside the
//! products of the job before.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

use std::ops::Range;

use rayon::prelude::*;

use super::operands::{Beside, MOST_TILES, Rows, States, steps_a_tile};
use super::order::{Order, Source, add_up};
use super::products::{Pairs, Pieces, Product, ROW, SUMS, Spread, TILE, Tiles};
use super::tiles::Split;
use super::{Buffer, EngineError, Geometry, Sizes, Slice, WIDTH};

/// 32 rows of one source.
#[derive(Debug)]
struct Job {
    /// Which.
    block: usize,
    /// Sums [columns/32][32][32], the state's columns before those of the layer below.
    sums: Buffer,
    /// Of the rows themselves, over streams in sixteen sums [32][16].
    bias: Buffer,
    /// Of the first layer, by character [V][32]; else empty.
    table: Buffer,
}

/// Jobs of one source that one thread takes over all steps together: what stands beside their rows is brought into parts once.
#[derive(Debug)]
pub struct Group {
    source: Source,
    jobs: Vec<Job>,
    /// Operands of two times some tiles: rows [2][tiles][parts][32][16], states [2][tiles][columns/32][parts][16][32].
    rows: Buffer,
    states: Buffer,
}

impl Group {
    /// All sums `value`.
    pub fn fill(&mut self, value: f32) {
        for job in &mut self.jobs {
            for buffer in [&mut job.sums, &mut job.bias, &mut job.table] {
                buffer.as_mut_slice().fill(value);
            }
        }
    }

    /// Whether it is the head's.
    pub fn is_head(&self) -> bool {
        self.source == Source::Head
    }
}

/// Columns of a source's sums, in 32s.
fn columns(sizes: &Sizes, source: Source) -> usize {
    states(source) * sizes.units / 32
}

/// Of how many states a source's rows stand beside.
fn states(source: Source) -> usize {
    match source {
        Source::Layer(layer) if layer > 0 => 2,
        _ => 1,
    }
}

/// Bytes of states of some tiles that stay in the second-level cache, twice, beside sums.
const STATES: usize = 160 << 10;
/// Bytes of sums of a group.
const TOGETHER: usize = 768 << 10;

/// Tiles of 32 streams that are multiplied together: sums are read and written once for them.
fn together(sizes: &Sizes, source: Source) -> usize {
    let tile = 4 * columns(sizes, source) * sizes.parts * TILE;
    (STATES / tile).clamp(1, MOST_TILES)
}

/// All jobs of a model, for so many threads. Which go together does not change a bit.
pub fn groups(geo: &Geometry, threads: usize) -> Result<Vec<Group>, EngineError> {
    let sizes = Sizes::new(geo, WIDTH);
    let layers = (0..geo.shape.layers).map(|layer| (Source::Layer(layer), sizes.rows / 32));
    let sources: Vec<_> = std::iter::once((Source::Head, sizes.classes / 32)).chain(layers).collect();
    let total: usize = sources.iter().map(|(source, blocks)| blocks * columns(&sizes, *source)).sum();
    let parts = (4 * total * SUMS).div_ceil(TOGETHER).next_multiple_of(threads.max(1));
    let zeros = |n| Buffer::zeros(n, "weight gradients");
    let mut groups: Vec<Group> = Vec::new();
    let (mut part, mut sum) = (0, 0);
    for (source, blocks) in sources {
        let columns = columns(&sizes, source);
        for block in 0..blocks {
            // To the nearest: a block is the smallest part.
            let now = (2 * sum + columns) * parts / (2 * total);
            sum += columns;
            if groups.last().is_none_or(|group| group.source != source) || now > part {
                let operand = 2 * together(&sizes, source) * sizes.parts * TILE;
                let (rows, states) = (zeros(operand)?, zeros(columns * operand)?);
                groups.push(Group { source, jobs: Vec::new(), rows, states });
            }
            part = now;
            let table = if source == Source::Layer(0) { geo.shape.vocab * 32 } else { 0 };
            let job =
                Job { block, sums: zeros(columns * SUMS)?, bias: zeros(32 * 16)?, table: zeros(table)? };
            if let Some(group) = groups.last_mut() {
                group.jobs.push(job);
            }
        }
    }
    // The largest first, so that no thread is left with one when the others have done theirs.
    groups.sort_by_key(|group| std::cmp::Reverse(group.jobs.len() * columns(&sizes, group.source)));
    Ok(groups)
}

/// Computes a group's sums over all slices and the first `steps` steps.
///
/// # Safety
/// The slices have been through `backward` with this geometry.
#[inline(always)]
pub unsafe fn run<P: Product>(geo: &Geometry, slices: &[Slice], steps: usize, group: &mut Group) {
    P::begin();
    group.fill(0.0);
    Whole { geo, sizes: Sizes::of::<P>(geo), slices, steps, group }.run::<P>();
    P::end();
}

/// A group over all steps.
struct Whole<'a> {
    geo: &'a Geometry,
    sizes: Sizes,
    slices: &'a [Slice],
    steps: usize,
    group: &'a Group,
}

impl Whole<'_> {
    #[inline(always)]
    unsafe fn run<P: Product>(&self) {
        let Group { source, jobs, rows, states } = self.group;
        let (source, columns) = (*source, columns(&self.sizes, *source));
        let each = together(&self.sizes, source);
        let most = each * steps_a_tile(P::WIDTH);
        let of_slice = self.steps.div_ceil(most);
        let all = of_slice * self.slices.len();
        // Which steps of which slice.
        let of = |some: usize| {
            let first = some % of_slice * most;
            (&self.slices[some / of_slice], first..(first + most).min(self.steps))
        };
        let rows_at = |number: usize| rows.shared().add(number % 2 * each * P::PARTS * TILE);
        let states_at = |some: usize| states.shared().add(some % 2 * each * columns * P::PARTS * TILE);
        let mut first = self.states::<P>(of(0), states_at(0));
        let some = first.left();
        let mut row = self.rows::<P>(of(0), &jobs[0], rows_at(0));
        Beside::<P>::new(&mut row, &mut first, some).all();
        for some in 0..all {
            let tiles = of(some).1.len().div_ceil(steps_a_tile(P::WIDTH));
            let mut next = if some + 1 < all {
                self.states::<P>(of(some + 1), states_at(some + 1))
            } else {
                States::new([[std::ptr::null(); 2]; 2 * MOST_TILES], 0, 0, std::ptr::null_mut())
            };
            for (i, job) in jobs.iter().enumerate() {
                let number = some * jobs.len() + i;
                let mut rows = match jobs.get(i + 1) {
                    Some(job) => self.rows::<P>(of(some), job, rows_at(number + 1)),
                    None if some + 1 < all => self.rows::<P>(of(some + 1), &jobs[0], rows_at(number + 1)),
                    None => Rows::NONE,
                };
                let share = next.left().div_ceil(jobs.len() - i);
                let mut beside = Beside::<P>::new(&mut rows, &mut next, share);
                let mut beside = Spread::over::<Split>(&mut beside, columns * tiles);
                let a = Tiles { at: rows_at(number).cast_const().cast(), step: P::PARTS * TILE };
                let b = states_at(some).cast_const().cast::<u32>();
                for column in 0..columns {
                    let b = Tiles { at: b.add(column * P::PARTS * TILE), step: columns * P::PARTS * TILE };
                    let pairs = Pairs { a, b, n: tiles };
                    let to = job.sums.shared().add(column * SUMS);
                    Split::sums::<true>(to, ROW, [pairs, Pairs::NONE], &mut beside);
                }
            }
        }
    }

    /// A job's rows of some steps of a slice.
    #[inline(always)]
    unsafe fn rows<P: Product>(
        &self,
        (slice, steps): (&Slice, Range<usize>),
        job: &Job,
        to: *mut f32,
    ) -> Rows {
        let (from, step) = match self.group.source {
            Source::Layer(layer) => (slice.layers[layer].records.ptr(), slice.record_stride),
            Source::Head => match &slice.short {
                Some(space) => (space.class_streams.ptr(), self.sizes.stream_classes()),
                None => return Rows::NONE,
            },
        };
        Rows {
            from: from.add(steps.start * step + job.block * 32 * P::WIDTH),
            step,
            steps: steps.len(),
            to,
            bias: job.bias.shared(),
            table: if job.table.len() > 0 { job.table.shared() } else { std::ptr::null_mut() },
            ids: slice.ids.as_ptr().add(steps.start * P::WIDTH),
            piece: 0,
        }
    }

    /// What stands beside rows of some steps of a slice.
    #[inline(always)]
    unsafe fn states<P: Product>(&self, (slice, steps): (&Slice, Range<usize>), to: *mut f32) -> States {
        let (rows, source) = (self.sizes.state, self.group.source);
        let of = |t: usize, below: bool| match source {
            _ if t >= steps.end => std::ptr::null(),
            Source::Head => slice.output(rows, self.geo.shape.layers - 1, t),
            Source::Layer(layer) if below => slice.output(rows, layer - 1, t),
            Source::Layer(layer) => slice.h_before(rows, layer, t),
        };
        let mut from = [[std::ptr::null(); 2]; 2 * MOST_TILES];
        let mut n = 0;
        for t in steps.clone().step_by(steps_a_tile(P::WIDTH)) {
            for below in [false, true].into_iter().take(states(source)) {
                from[n] = [of(t, below), of(t + 1, below)];
                n += 1;
            }
        }
        States::new(from, n, self.geo.shape.hidden, to)
    }
}

/// The sums of one source, on their way into arena order.
struct Sums<'a> {
    groups: &'a [Group],
    source: Source,
    order: Order,
    factor: f32,
}

impl<'a> Sums<'a> {
    /// Of a source; `input`: of its input's product.
    fn of(geo: &Geometry, groups: &'a [Group], source: Source, input: bool, factor: f32) -> Sums<'a> {
        Sums { groups, source, order: Order::of(geo, source, input), factor }
    }

    /// Job and row in it of row g * H + u of the arena.
    fn place(&self, row: usize) -> (&Job, usize) {
        let j = self.order.packed(row);
        let mut groups = self.groups.iter().filter(|group| group.source == self.source);
        let job = groups.find_map(|group| group.jobs.get((j / 32).wrapping_sub(group.jobs[0].block)));
        (job.expect("every row is some group's"), j % 32)
    }

    /// A matrix of `depth` columns, the first of which are in the sums' 32s from `first` on.
    fn matrix(&self, grads: &mut [f32], depth: usize, first: usize) {
        grads.par_chunks_exact_mut(depth).with_min_len(64).enumerate().for_each(|(row, out)| {
            let (job, row) = self.place(row);
            let sums = std::iter::once(job.sums.as_slice());
            add_up(out, sums, first * SUMS + row * ROW, self.factor);
        });
    }

    /// Of characters.
    fn table(&self, grads: &mut [f32], vocab: usize) {
        grads.par_chunks_exact_mut(vocab).with_min_len(64).enumerate().for_each(|(row, out)| {
            let (job, row) = self.place(row);
            for (out, sums) in out.iter_mut().zip(job.table.as_slice().chunks_exact(32)) {
                *out = sums[row] * self.factor;
            }
        });
    }

    fn bias(&self, grads: &mut [f32]) {
        for (row, out) in grads.iter_mut().enumerate() {
            let (job, row) = self.place(row);
            // Some of the sixteen often nearly cancel the others.
            let sums = job.bias.as_slice()[row * 16..][..16].iter();
            *out = sums.map(|&sum| f64::from(sum)).sum::<f64>() as f32 * self.factor;
        }
    }
}

/// Moves the recurrent layers' sums into arena order [params], times `factor`.
pub fn collect_layers(geo: &Geometry, groups: &[Group], factor: f32, grads: &mut [f32]) {
    let (hidden, vocab, below) = (geo.shape.hidden, geo.shape.vocab, geo.shape.hidden.div_ceil(32));
    for layer in 0..geo.shape.layers {
        let at = geo.shape.layer_ranges(layer);
        let source = Source::Layer(layer);
        let input = Sums::of(geo, groups, source, true, factor);
        let recurrent = Sums::of(geo, groups, source, false, factor);
        if layer == 0 {
            input.table(&mut grads[at.weight_ih], vocab);
        } else {
            input.matrix(&mut grads[at.weight_ih], hidden, below);
        }
        recurrent.matrix(&mut grads[at.weight_hh], hidden, 0);
        input.bias(&mut grads[at.bias_ih]);
        if !at.bias_hh.is_empty() {
            recurrent.bias(&mut grads[at.bias_hh]);
        }
    }
}

/// The same for the head's sums, into the arena's end where the head lies.
pub fn collect_head(geo: &Geometry, groups: &[Group], factor: f32, grads: &mut [f32]) {
    let (weight, bias) = grads.split_at_mut(geo.shape.head_ranges().0.len());
    let sums = Sums::of(geo, groups, Source::Head, false, factor);
    sums.matrix(weight, geo.shape.hidden, 0);
    sums.bias(bias);
}
