//! Weight gradients that slices have summed along their backward passes, on their way into arena order: slices are added up
//! one after another, so that the sums do not depend on which thread ran which.

use rayon::prelude::*;

use super::along::{Along, SUMS};
use super::{Geometry, Sizes, Slice, WIDTH};
use crate::model::CellKind;

/// Every slice's sums of one matrix.
struct Matrix<'a> {
    /// [rows/32][columns/32][32][32]
    slices: Vec<&'a [f32]>,
    /// Columns in 32s, and the first one that is the matrix's.
    columns: usize,
    first: usize,
    hidden: usize,
    /// Gate rows a unit, and for each gate its slot; none for the head's classes.
    slots: Option<(usize, [usize; 4])>,
    factor: f32,
}

impl Matrix<'_> {
    /// Where row g * H + u of the arena is, but for its column.
    fn row(&self, row: usize) -> usize {
        let j = match self.slots {
            Some((slots, of)) => row % self.hidden * slots + of[row / self.hidden],
            None => row,
        };
        (j / 32 * self.columns + self.first) * SUMS + j % 32 * 32
    }

    /// All rows, of `depth` columns.
    fn rows(&self, grads: &mut [f32], depth: usize) {
        grads.par_chunks_exact_mut(depth).with_min_len(64).enumerate().for_each(|(row, out)| {
            let at = self.row(row);
            for (block, out) in out.chunks_mut(32).enumerate() {
                for (i, slice) in self.slices.iter().enumerate() {
                    let sums = &slice[at + block * SUMS..][..out.len()];
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out = if i == 0 { *sum } else { *out + sum };
                    }
                }
                out.iter_mut().for_each(|out| *out *= self.factor);
            }
        });
    }

    /// One column.
    fn column(&self, grads: &mut [f32], column: usize) {
        for (row, out) in grads.iter_mut().enumerate() {
            let at = self.row(row) + column / 32 * SUMS + column % 32;
            *out = self.slices.iter().map(|slice| slice[at]).sum::<f32>() * self.factor;
        }
    }
}

/// Moves the recurrent layers' sums into arena order [params], times `factor`.
pub fn layers(geo: &Geometry, slices: &[Slice], factor: f32, grads: &mut [f32]) {
    let (sizes, hidden, vocab) = (Sizes::new(geo, WIDTH), geo.shape.hidden, geo.shape.vocab);
    for layer in 0..geo.shape.layers {
        let at = geo.shape.layer_ranges(layer);
        let matrix = |input: bool| {
            // A GRU's n: its recurrent part in slot 2, its input part in slot 3.
            let new = if geo.shape.cell == CellKind::Gru && input { 3 } else { 2 };
            let slices: Vec<&[f32]> = along(slices).map(|along| along.layers[layer].as_slice()).collect();
            let columns = slices.first().map_or(0, |sums| sums.len() / SUMS / (sizes.rows / 32));
            let first = if input { sizes.columns / 32 } else { 0 };
            Matrix { slices, columns, first, hidden, slots: Some((sizes.slots, [0, 1, new, 3])), factor }
        };
        let (input, recurrent) = (matrix(true), matrix(false));
        if layer > 0 {
            input.rows(&mut grads[at.weight_ih], hidden);
            input.column(&mut grads[at.bias_ih], hidden);
        } else {
            input.rows(&mut grads[at.weight_ih.clone()], vocab);
            // What all characters add.
            let (weights, biases) = grads.split_at_mut(at.bias_ih.start);
            let rows = weights[at.weight_ih].par_chunks_exact(vocab).with_min_len(64);
            rows.zip(&mut biases[..at.bias_ih.len()]).for_each(|(row, out)| *out = sum(row));
        }
        recurrent.rows(&mut grads[at.weight_hh], hidden);
        if !at.bias_hh.is_empty() {
            recurrent.column(&mut grads[at.bias_hh], hidden);
        }
    }
}

/// The same for the head's sums, into the arena's end where the head lies.
pub fn head(geo: &Geometry, slices: &[Slice], factor: f32, grads: &mut [f32]) {
    let (sizes, hidden) = (Sizes::new(geo, WIDTH), geo.shape.hidden);
    let slices = along(slices).map(|along| along.head.as_slice()).collect();
    let matrix = Matrix { slices, columns: sizes.columns / 32, first: 0, hidden, slots: None, factor };
    let (weight, bias) = grads.split_at_mut(geo.shape.head_ranges().0.len());
    matrix.rows(weight, hidden);
    matrix.column(bias, hidden);
}

/// In eight sums, which do not wait for one another.
fn sum(row: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    for some in row.chunks(8) {
        for (sum, x) in sums.iter_mut().zip(some) {
            *sum += x;
        }
    }
    sums.iter().sum()
}

fn along(slices: &[Slice]) -> impl Iterator<Item = &Along> {
    slices.iter().filter_map(|slice| slice.short.as_ref()?.along.as_ref())
}
