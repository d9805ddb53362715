//! The whole network over a chunk, forward and backward: loops over time, streams and layers, nothing clever.

use super::cell;
pub use super::cell::Record;
use crate::engine::{Chunk, Hyper, IGNORE};
use crate::model::{CellKind, ModelShape};
use crate::rng;

/// Hidden state of B streams: h and c, each `[L][B][H]`. c is empty for cells without a cell state.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// B.
    pub streams: usize,
    /// `[L][B][H]`
    pub h: Vec<Vec<Vec<f64>>>,
    /// `[L][B][H]`, or `[L][B][0]`.
    pub c: Vec<Vec<Vec<f64>>>,
}

impl State {
    /// The zero state.
    pub fn zero(shape: &ModelShape, streams: usize) -> State {
        let cells = if shape.cell.has_cell_state() { shape.hidden } else { 0 };
        State {
            streams,
            h: vec![vec![vec![0.0; shape.hidden]; streams]; shape.layers],
            c: vec![vec![vec![0.0; cells]; streams]; shape.layers],
        }
    }

    /// Replaces `self` by the zero state where the number of streams differs.
    pub fn fit(&mut self, shape: &ModelShape, streams: usize) {
        if self.streams != streams || self.h.is_empty() {
            *self = State::zero(shape, streams);
        }
    }

    /// Whether every number is finite.
    pub fn is_finite(&self) -> bool {
        self.h.iter().chain(&self.c).flatten().flatten().all(|x| x.is_finite())
    }
}

/// Everything the forward pass leaves.
pub struct Forward {
    /// Records `[L][T][B]`.
    pub records: Vec<Vec<Vec<Record>>>,
    /// Each layer's output after dropout `[L][T][B][H]`.
    pub outputs: Vec<Vec<Vec<Vec<f64>>>>,
    /// Dropout masks, 0 or 1/(1-p) `[L][T][B][H]`.
    pub masks: Vec<Vec<Vec<Vec<f64>>>>,
    /// Logits `[T][B][V]`.
    pub logits: Vec<Vec<Vec<f64>>>,
    /// Loss of each position `[T][B]`; 0 where ignored.
    pub losses: Vec<Vec<f64>>,
}

/// y = W x, W row-major [rows, x.len()].
fn product(weights: &[f64], x: &[f64]) -> Vec<f64> {
    weights.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

/// dx += W^T dy.
fn product_transposed(weights: &[f64], dy: &[f64], dx: &mut [f64]) {
    for (row, dy) in weights.chunks_exact(dx.len()).zip(dy) {
        for (dx, w) in dx.iter_mut().zip(row) {
            *dx += w * dy;
        }
    }
}

/// dW += dy x^T.
fn outer(dw: &mut [f64], dy: &[f64], x: &[f64]) {
    for (row, dy) in dw.chunks_exact_mut(x.len()).zip(dy) {
        for (dw, x) in row.iter_mut().zip(x) {
            *dw += dy * x;
        }
    }
}

fn add(to: &mut [f64], from: &[f64]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// The dropout mask of one layer's output for one stream and time: 0 or 1/(1-p) `[H]`.
pub fn dropout_mask(hidden: usize, hyper: &Hyper, layer: usize, t: usize, stream: usize) -> Vec<f64> {
    if hyper.dropout == 0.0 {
        return vec![1.0; hidden];
    }
    let threshold = rng::dropout_threshold(hyper.dropout);
    let keep = 1.0 / (1.0 - f64::from(hyper.dropout));
    let time = hyper.time.wrapping_add(t as u64) as u32;
    (0..hidden)
        .map(|u| {
            let words = rng::dropout_words(hyper.seed, layer as u32, time, stream as u32, (u / 4) as u32);
            if words[u % 4] >= threshold { keep } else { 0.0 }
        })
        .collect()
}

/// Runs a chunk forward from `state`, which becomes the state after it. `hyper` gives the dropout; `None` = none.
pub fn forward(
    shape: &ModelShape,
    params: &[f64],
    chunk: &Chunk,
    state: &mut State,
    hyper: Option<&Hyper>,
) -> Forward {
    let (steps, streams, hidden) = (chunk.steps, chunk.streams, shape.hidden);
    let mut run = Forward {
        records: vec![Vec::with_capacity(steps); shape.layers],
        outputs: vec![Vec::with_capacity(steps); shape.layers],
        masks: vec![Vec::with_capacity(steps); shape.layers],
        logits: Vec::with_capacity(steps),
        losses: Vec::with_capacity(steps),
    };
    for t in 0..steps {
        for layer in 0..shape.layers {
            let at = shape.layer_ranges(layer);
            let (w_ih, w_hh) = (&params[at.weight_ih], &params[at.weight_hh]);
            let (b_ih, b_hh) = (&params[at.bias_ih], &params[at.bias_hh]);
            let (mut records, mut outputs, mut masks) = (Vec::new(), Vec::new(), Vec::new());
            for b in 0..streams {
                let mut h_prev = state.h[layer][b].clone();
                let mut c_prev = state.c[layer][b].clone();
                if chunk.resets[t * streams + b] != 0 {
                    h_prev.fill(0.0);
                    c_prev.fill(0.0);
                }
                let mut input = if layer == 0 {
                    // A one-hot input's product is one column of the matrix.
                    let id = usize::from(chunk.ids[t * streams + b]);
                    w_ih.chunks_exact(shape.vocab).map(|row| row[id]).collect()
                } else {
                    product(w_ih, &run.outputs[layer - 1][t][b])
                };
                add(&mut input, b_ih);
                let mut recurrent = product(w_hh, &h_prev);
                add(&mut recurrent, b_hh);
                let record = cell::forward(shape.cell, &input, recurrent, h_prev, c_prev);
                state.h[layer][b] = record.h.clone();
                state.c[layer][b] = record.c.clone();
                let mask = match hyper {
                    Some(hyper) => dropout_mask(hidden, hyper, layer, t, b),
                    None => vec![1.0; hidden],
                };
                outputs.push(record.h.iter().zip(&mask).map(|(h, m)| h * m).collect::<Vec<_>>());
                masks.push(mask);
                records.push(record);
            }
            run.records[layer].push(records);
            run.outputs[layer].push(outputs);
            run.masks[layer].push(masks);
        }
        let (head_w, head_b) = shape.head_ranges();
        let mut logits = Vec::new();
        let mut losses = Vec::new();
        for b in 0..streams {
            let mut z = product(&params[head_w.clone()], &run.outputs[shape.layers - 1][t][b]);
            add(&mut z, &params[head_b.clone()]);
            let target = chunk.targets[t * streams + b];
            losses.push(if target == IGNORE { 0.0 } else { log_sum_exp(&z) - z[usize::from(target)] });
            logits.push(z);
        }
        run.logits.push(logits);
        run.losses.push(losses);
    }
    run
}

fn log_sum_exp(z: &[f64]) -> f64 {
    let max = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + z.iter().map(|z| (z - max).exp()).sum::<f64>().ln()
}

/// The gradient of the chunk's mean loss with respect to every parameter, arena order.
pub fn backward(shape: &ModelShape, params: &[f64], chunk: &Chunk, run: &Forward) -> Vec<f64> {
    let (streams, hidden) = (chunk.streams, shape.hidden);
    let mut grads = vec![0.0; params.len()];
    let predicted = chunk.predicted().max(1) as f64;
    let (head_w, head_b) = shape.head_ranges();
    let zero = State::zero(shape, streams);
    // Gradients that arrive from the next step, after its reset mask.
    let (mut dh_next, mut dc_next) = (zero.h, zero.c);
    for t in (0..chunk.steps).rev() {
        for b in 0..streams {
            let at = t * streams + b;
            let mut from_above = vec![0.0; hidden];
            if chunk.targets[at] != IGNORE {
                let z = &run.logits[t][b];
                let lse = log_sum_exp(z);
                let mut dz: Vec<f64> = z.iter().map(|z| (z - lse).exp() / predicted).collect();
                dz[usize::from(chunk.targets[at])] -= 1.0 / predicted;
                outer(&mut grads[head_w.clone()], &dz, &run.outputs[shape.layers - 1][t][b]);
                add(&mut grads[head_b.clone()], &dz);
                product_transposed(&params[head_w.clone()], &dz, &mut from_above);
            }
            for layer in (0..shape.layers).rev() {
                let ranges = shape.layer_ranges(layer);
                let record = &run.records[layer][t][b];
                let mut dh = dh_next[layer][b].clone();
                for u in 0..hidden {
                    dh[u] += from_above[u] * run.masks[layer][t][b][u];
                }
                let back = cell::backward(shape.cell, record, &dh, &dc_next[layer][b]);
                outer(&mut grads[ranges.weight_hh.clone()], &back.recurrent, &record.h_prev);
                add(&mut grads[ranges.bias_ih.clone()], &back.input);
                if shape.cell == CellKind::Gru {
                    add(&mut grads[ranges.bias_hh.clone()], &back.recurrent);
                }
                from_above = vec![0.0; hidden];
                if layer == 0 {
                    let id = usize::from(chunk.ids[at]);
                    for (row, d) in
                        grads[ranges.weight_ih.clone()].chunks_exact_mut(shape.vocab).zip(&back.input)
                    {
                        row[id] += d;
                    }
                } else {
                    outer(&mut grads[ranges.weight_ih.clone()], &back.input, &run.outputs[layer - 1][t][b]);
                    product_transposed(&params[ranges.weight_ih.clone()], &back.input, &mut from_above);
                }
                let mut dh_prev = back.h_direct;
                product_transposed(&params[ranges.weight_hh.clone()], &back.recurrent, &mut dh_prev);
                let mut dc_prev = back.c_prev;
                if chunk.resets[at] != 0 {
                    // The state before this step was replaced by zero: nothing flows further back.
                    dh_prev.fill(0.0);
                    dc_prev.fill(0.0);
                }
                dh_next[layer][b] = dh_prev;
                dc_next[layer][b] = dc_prev;
            }
        }
    }
    grads
}
