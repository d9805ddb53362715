//! Weight gradients: one product over T x B for each panel of gate rows (or classes), slices and steps in a fixed
//! order, so that the sums do not depend on which thread takes which panel.
#![allow(unsafe_code)]
#![allow(unsafe_op_in_unsafe_fn)] // As in `forward.rs`.

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

/// All jobs of a model.
pub fn jobs(geo: &Geometry) -> Result<Vec<Job>, EngineError> {
    let mut sources = vec![(Source::Head, geo.class_panels()), (Source::Characters, geo.gate_panels())];
    for layer in 0..geo.shape.layers {
        sources.push((Source::Recurrent(layer), geo.gate_panels()));
        if layer > 0 {
            sources.push((Source::Input(layer), geo.gate_panels()));
        }
    }
    let mut jobs = Vec::new();
    for (source, panels) in sources {
        let depth = if source == Source::Characters { geo.shape.vocab } else { geo.units };
        for panel in 0..panels {
            let sums = Buffer::zeros((depth + 1) * geo.isa.panel(), "weight gradients")?;
            jobs.push(Job { source, panel, sums, depth });
        }
    }
    Ok(jobs)
}

/// Steps a chunk of the product: its tiles (TC * W * PW) stay in the first-level cache over all rows.
const STEPS: usize = 16;

/// Computes a job's sums over all slices and the first `steps` steps.
///
/// # Safety
/// The machine has S's instructions; the slices have been through `backward` with this geometry; MR is its tile
/// height; PW = 2 * LANES.
#[inline(always)]
pub unsafe fn run<S: Simd, const MR: usize>(geo: &Geometry, slices: &[Slice], steps: usize, job: &mut Job) {
    job.sums.as_mut_slice().fill(0.0);
    let panel = geo.isa.panel();
    let sums = job.sums.ptr_mut();
    let bias = sums.add(job.depth * panel);
    for slice in slices {
        let width = slice.width;
        let rows = geo.units * width;
        let (tiles, tile_stride) = match job.source {
            Source::Head => (slice.class_tiles.ptr(), geo.class_panels() * panel * width),
            Source::Recurrent(layer) => (slice.layers[layer].records.ptr(), slice.record_stride),
            Source::Input(layer) => (slice.layers[layer].records.ptr(), slice.record_stride),
            Source::Characters => (slice.layers[0].records.ptr(), slice.record_stride),
        };
        let into_input = matches!(job.source, Source::Input(_) | Source::Characters);
        let set = if geo.shape.cell == CellKind::Gru && into_input { geo.gate_panels() } else { 0 };
        let tiles = tiles.add((set + job.panel) * panel * width);
        for from in (0..steps).step_by(STEPS) {
            let to = (from + STEPS).min(steps);
            if job.source == Source::Characters {
                for t in from..to {
                    for lane in 0..slice.used {
                        let row = tiles.add(t * tile_stride + lane * panel);
                        add_row::<S>(sums.add(slice.ids[t * width + lane] as usize * panel), row);
                    }
                }
            } else {
                for block in 0..geo.shape.hidden.div_ceil(MR) {
                    let mut acc = [[S::splat(0.0); 2]; MR];
                    let at = sums.add(block * MR * panel);
                    for i in 0..MR {
                        for v in 0..2 {
                            acc[i][v] = S::load(at.add(i * panel + v * S::LANES));
                        }
                    }
                    for t in from..to {
                        let x = match job.source {
                            Source::Recurrent(layer) => slice.h_before(rows, layer, t),
                            Source::Input(layer) => slice.output(rows, layer - 1, t),
                            _ => slice.output(rows, geo.shape.layers - 1, t),
                        };
                        let x = x.as_ptr().add(block * MR * width);
                        product::<S, MR>(&mut acc, x, width, tiles.add(t * tile_stride));
                    }
                    for i in 0..MR {
                        for v in 0..2 {
                            S::store(at.add(i * panel + v * S::LANES), acc[i][v]);
                        }
                    }
                }
            }
            if job.source != Source::Characters {
                for t in from..to {
                    for lane in 0..slice.used {
                        add_row::<S>(bias, tiles.add(t * tile_stride + lane * panel));
                    }
                }
            }
        }
    }
    if job.source == Source::Characters {
        for id in 0..geo.shape.vocab {
            add_row::<S>(bias, sums.add(id * panel));
        }
    }
}

/// acc[i][v] += sum over lanes of x[i][lane] * tile[lane][v].
#[inline(always)]
unsafe fn product<S: Simd, const MR: usize>(
    acc: &mut [[S::V; 2]; MR],
    x: *const f32,
    width: usize,
    tile: *const f32,
) {
    let mut sum = *acc;
    for lane in 0..width {
        let row = tile.add(lane * 2 * S::LANES);
        let (b0, b1) = (S::load(row), S::load(row.add(S::LANES)));
        for i in 0..MR {
            let a = S::splat(*x.add(i * width + lane));
            sum[i][0] = S::fma(a, b0, sum[i][0]);
            sum[i][1] = S::fma(a, b1, sum[i][1]);
        }
    }
    *acc = sum;
}

#[inline(always)]
unsafe fn add_row<S: Simd>(to: *mut f32, row: *const f32) {
    for v in 0..2 {
        let at = to.add(v * S::LANES);
        S::store(at, S::add(S::load(at), S::load(row.add(v * S::LANES))));
    }
}

/// Moves the jobs' sums into arena order [params], times `factor`.
pub fn collect(geo: &Geometry, jobs: &[Job], factor: f32, grads: &mut [f32]) {
    let panel = geo.isa.panel();
    let shape = &geo.shape;
    let (hidden, gates, vocab) = (shape.hidden, geo.gates, shape.vocab);
    let panels_of = |source: Source| {
        let first = jobs.iter().position(|job| job.source == source).unwrap_or(0);
        &jobs[first..]
    };
    // Column j of the packed order is u * G + g for gates (row g * H + u of the arena), the class itself for the head.
    let matrix = |source: Source, grads: &mut [f32], depth: usize, gates: usize| {
        let panels = panels_of(source);
        grads.par_chunks_exact_mut(depth).enumerate().for_each(|(row, out)| {
            let j = if gates == 0 { row } else { row % hidden * gates + row / hidden };
            let sums = panels[j / panel].sums.as_slice();
            for (k, out) in out.iter_mut().enumerate() {
                *out = sums[k * panel + j % panel] * factor;
            }
        });
    };
    let bias = |source: Source, grads: &mut [f32], gates: usize| {
        let panels = panels_of(source);
        for (row, out) in grads.iter_mut().enumerate() {
            let j = if gates == 0 { row } else { row % hidden * gates + row / hidden };
            let job = &panels[j / panel];
            *out = job.sums.as_slice()[job.depth * panel + j % panel] * factor;
        }
    };
    for layer in 0..shape.layers {
        let at = shape.layer_ranges(layer);
        let (source, depth) =
            if layer == 0 { (Source::Characters, vocab) } else { (Source::Input(layer), hidden) };
        matrix(source, &mut grads[at.weight_ih], depth, gates);
        matrix(Source::Recurrent(layer), &mut grads[at.weight_hh], hidden, gates);
        bias(source, &mut grads[at.bias_ih], gates);
        if !at.bias_hh.is_empty() {
            bias(Source::Recurrent(layer), &mut grads[at.bias_hh], gates);
        }
    }
    let (head, head_bias) = shape.head_ranges();
    matrix(Source::Head, &mut grads[head], hidden, 0);
    bias(Source::Head, &mut grads[head_bias], 0);
}
