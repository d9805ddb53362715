//! Weight gradients that slices have summed along their backward passes, on their way into arena order: slices are added up
//! one after another, so that the sums do not depend on which thread ran which.

use rayon::prelude::*;

use super::along::Along;
use super::order::{Order, Source, add_up};
use super::products::{ROW, SUMS};
use super::{Geometry, Sizes, Slice, WIDTH};

/// Every slice's sums of one matrix.
struct Matrix<'a> {
    /// [rows/32][columns/32][32][32]
    slices: Vec<&'a [f32]>,
    /// Columns in 32s, and the first one that is the matrix's.
    columns: usize,
    first: usize,
    order: Order,
    factor: f32,
}

impl Matrix<'_> {
    /// Where row g * H + u of the arena is, but for its column.
    fn row(&self, row: usize) -> usize {
        let j = self.order.packed(row);
        (j / 32 * self.columns + self.first) * SUMS + j % 32 * ROW
    }

    /// All rows, of `depth` columns.
    fn rows(&self, grads: &mut [f32], depth: usize) {
        grads.par_chunks_exact_mut(depth).with_min_len(64).enumerate().for_each(|(row, out)| {
            add_up(out, self.slices.iter().copied(), self.row(row), self.factor);
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
            let slices: Vec<&[f32]> = along(slices).map(|along| along.layers[layer].as_slice()).collect();
            let columns = slices.first().map_or(0, |sums| sums.len() / SUMS / (sizes.rows / 32));
            let first = if input { sizes.columns / 32 } else { 0 };
            Matrix { slices, columns, first, order: Order::of(geo, Source::Layer(layer), input), factor }
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
    let order = Order::of(geo, Source::Head, false);
    let matrix = Matrix { slices, columns: sizes.columns / 32, first: 0, order, factor };
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
