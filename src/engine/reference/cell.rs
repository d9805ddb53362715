//! One step of one cell for one stream, forward and backward, gate by gate.
//!
//! Equations: LSTM and GRU as in the documentation of `torch.nn.LSTM` and `torch.nn.GRU` (cuDNN's linear-before-reset
//! GRU); RNN is h' = tanh(W_ih x + W_hh h + b).

use crate::model::CellKind;

/// What a step leaves behind for the backward pass.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Gates after their nonlinearity `[G*H]`.
    pub gates: Vec<f64>,
    /// The recurrent product W_hh h + b_hh `[G*H]` (only a GRU's backward pass needs it).
    pub recurrent: Vec<f64>,
    /// State before the step, after the reset mask `[H]`.
    pub h_prev: Vec<f64>,
    /// Cell state before the step, after the reset mask `[H]`; empty without one.
    pub c_prev: Vec<f64>,
    /// State after the step `[H]`.
    pub h: Vec<f64>,
    /// Cell state after the step `[H]`; empty without one.
    pub c: Vec<f64>,
}

/// Gradients that leave a step backwards.
#[derive(Debug, Clone)]
pub struct Backward {
    /// With respect to the input product W_ih x + b_ih `[G*H]`.
    pub input: Vec<f64>,
    /// With respect to the recurrent product W_hh h + b_hh `[G*H]`.
    pub recurrent: Vec<f64>,
    /// The part of d h_prev that does not pass through the recurrent product `[H]`.
    pub h_direct: Vec<f64>,
    /// d c_prev `[H]`; empty without a cell state.
    pub c_prev: Vec<f64>,
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `input` and `recurrent` are the two products with their biases `[G*H]`; the states are `[H]`.
pub fn forward(
    cell: CellKind,
    input: &[f64],
    recurrent: Vec<f64>,
    h_prev: Vec<f64>,
    c_prev: Vec<f64>,
) -> Record {
    let hidden = h_prev.len();
    let mut gates = vec![0.0; input.len()];
    let mut h = vec![0.0; hidden];
    let mut c = vec![0.0; c_prev.len()];
    for u in 0..hidden {
        let sum = |gate: usize| input[gate * hidden + u] + recurrent[gate * hidden + u];
        match cell {
            CellKind::Lstm => {
                let (i, f, g, o) = (sigmoid(sum(0)), sigmoid(sum(1)), sum(2).tanh(), sigmoid(sum(3)));
                c[u] = f * c_prev[u] + i * g;
                h[u] = o * c[u].tanh();
                for (gate, value) in [i, f, g, o].into_iter().enumerate() {
                    gates[gate * hidden + u] = value;
                }
            }
            CellKind::Gru => {
                let (r, z) = (sigmoid(sum(0)), sigmoid(sum(1)));
                let n = (input[2 * hidden + u] + r * recurrent[2 * hidden + u]).tanh();
                h[u] = (1.0 - z) * n + z * h_prev[u];
                for (gate, value) in [r, z, n].into_iter().enumerate() {
                    gates[gate * hidden + u] = value;
                }
            }
            CellKind::Rnn => {
                h[u] = sum(0).tanh();
                gates[u] = h[u];
            }
        }
    }
    Record { gates, recurrent, h_prev, c_prev, h, c }
}

/// `dh` and `dc` `[H]`: gradients with respect to the state after the step.
pub fn backward(cell: CellKind, record: &Record, dh: &[f64], dc: &[f64]) -> Backward {
    let hidden = dh.len();
    let mut out = Backward {
        input: vec![0.0; record.gates.len()],
        recurrent: vec![0.0; record.gates.len()],
        h_direct: vec![0.0; hidden],
        c_prev: vec![0.0; dc.len()],
    };
    for u in 0..hidden {
        let gate = |g: usize| record.gates[g * hidden + u];
        match cell {
            CellKind::Lstm => {
                let (i, f, g, o) = (gate(0), gate(1), gate(2), gate(3));
                let tanh_c = record.c[u].tanh();
                let dc_total = dc[u] + dh[u] * o * (1.0 - tanh_c * tanh_c);
                out.c_prev[u] = dc_total * f;
                let before = [
                    dc_total * g * i * (1.0 - i),
                    dc_total * record.c_prev[u] * f * (1.0 - f),
                    dc_total * i * (1.0 - g * g),
                    dh[u] * tanh_c * o * (1.0 - o),
                ];
                for (k, value) in before.into_iter().enumerate() {
                    out.input[k * hidden + u] = value;
                    out.recurrent[k * hidden + u] = value;
                }
            }
            CellKind::Gru => {
                let (r, z, n) = (gate(0), gate(1), gate(2));
                let dn = dh[u] * (1.0 - z) * (1.0 - n * n);
                let dz = dh[u] * (record.h_prev[u] - n) * z * (1.0 - z);
                let dr = dn * record.recurrent[2 * hidden + u] * r * (1.0 - r);
                out.h_direct[u] = dh[u] * z;
                for (k, (input, recurrent)) in [(dr, dr), (dz, dz), (dn, dn * r)].into_iter().enumerate() {
                    out.input[k * hidden + u] = input;
                    out.recurrent[k * hidden + u] = recurrent;
                }
            }
            CellKind::Rnn => {
                let d = dh[u] * (1.0 - record.h[u] * record.h[u]);
                out.input[u] = d;
                out.recurrent[u] = d;
            }
        }
    }
    out
}
